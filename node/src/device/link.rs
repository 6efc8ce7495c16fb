//! Ableton Link: tempo, beat and playback shared with every Link program on the LAN.
//!
//! Link has a clock of its own (on Linux CLOCK_MONOTONIC_RAW, which network time does not slew), while everything else here
//! counts CLOCK_MONOTONIC. The two part by up to 500 ppm, half a millisecond each second, so their offset is measured every
//! second and all of this module's times are host times.
//!
//! [`Link`] tells what *others* changed as [`LinkEvent`]s, and never echoes what this program set itself: a bridge
//! between two LANs would otherwise answer itself for ever. Link itself decides that a program joining a session
//! takes that session's tempo (Link's TEST-PLAN, TEMPO-2).

use serde::Serialize;

#[cfg(feature = "devices")]
mod client;
#[cfg(feature = "devices")]
mod watch;

#[cfg(feature = "devices")]
pub use client::{Link, LinkError};

/// Link's clock against the host's, at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockOffset {
    /// Link's nanoseconds minus [`super::monotonic_ns`].
    pub offset_ns: i64,
    /// The true offset is within this of `offset_ns`: half the measuring window plus Link's resolution of 1 µs.
    pub error_ns: u64,
}

impl ClockOffset {
    /// Measures by reading the host's clock, Link's, and the host's again, `tries` times (at least once), and
    /// believing the try with the narrowest window.
    pub fn measure(tries: u32, mut host_ns: impl FnMut() -> u64, mut link_us: impl FnMut() -> i64) -> Self {
        let mut best = ClockOffset { offset_ns: 0, error_ns: u64::MAX };
        for _ in 0..tries.max(1) {
            let before = host_ns();
            let link_ns = link_us().saturating_mul(1_000);
            let window = host_ns().saturating_sub(before);
            let error_ns = (window / 2).saturating_add(1_000);
            if error_ns < best.error_ns {
                best =
                    ClockOffset { offset_ns: link_ns.saturating_sub((before + window / 2) as i64), error_ns };
            }
        }
        best
    }

    /// A host time in Link's microseconds.
    pub fn to_link_us(self, host_ns: u64) -> i64 {
        (host_ns as i64).saturating_add(self.offset_ns).div_euclid(1_000)
    }

    /// One of Link's times on the host's clock; times before its start are zero.
    pub fn to_host_ns(self, link_us: i64) -> u64 {
        u64::try_from(link_us.saturating_mul(1_000).saturating_sub(self.offset_ns)).unwrap_or(0)
    }
}

/// Where the beat is: `beat` at `host_time_ns`, going on at `tempo_bpm`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LinkTimeline {
    /// Beats a minute, 20 to 999.
    pub tempo_bpm: f64,
    /// Beats since Link's origin; its position within the quantum is shared by all, the count is not.
    pub beat: f64,
    /// When `beat` is, on [`super::monotonic_ns`]'s clock.
    pub host_time_ns: u64,
}

impl LinkTimeline {
    /// The beat at another host time.
    pub fn beat_at(&self, host_time_ns: u64) -> f64 {
        let elapsed_ns = host_time_ns as i128 - i128::from(self.host_time_ns);
        self.beat + elapsed_ns as f64 * self.tempo_bpm / 60e9
    }
}

/// Link at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct LinkState {
    /// Whether this program takes part.
    pub enabled: bool,
    /// Other Link programs on the LAN.
    pub peers: u64,
    /// Beats a minute.
    pub tempo_bpm: f64,
    /// Beats since Link's origin.
    pub beat: f64,
    /// Position within the quantum, 0 up to `quantum`.
    pub phase: f64,
    /// Beats after which phases repeat, usually a bar of 4.
    pub quantum: f64,
    /// Whether playback runs.
    pub playing: bool,
}

/// What others on the LAN changed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum LinkEvent {
    /// Programs came or went.
    Peers(u64),
    /// The tempo changed or the beat jumped, by someone else's doing or by joining their session.
    Timeline(LinkTimeline),
    /// Someone started or stopped playback, at this host time.
    Playing {
        /// True when it starts.
        playing: bool,
        /// When, on [`super::monotonic_ns`]'s clock.
        host_time_ns: u64,
    },
}

#[cfg(all(test, feature = "devices"))]
mod tests;
