//! The session's tempo, beat and playback as one register with a deterministic winner.
//!
//! Everybody may change the tempo or press play. Instead of electing a leader, the whole musical position
//! is one small value that says "at session time *origin* the beat was *b*, and it advances at *tempo*".
//! The highest version wins everywhere, ties going to the greater author, so any two nodes that have seen
//! the same changes agree, whatever the order of arrival. Changing the tempo keeps the beat continuous:
//! the new origin is the moment of the change.
//!
//! Session time is the common timebase of `timebase.rs`; this file does no clock work.

use serde::{Deserialize, Serialize};

/// Slowest and fastest tempo, beats per minute; the range that Ableton Link accepts.
pub const TEMPO_RANGE_BPM: std::ops::RangeInclusive<f64> = 20.0..=999.0;
/// Tempo of a session that nobody has set, beats per minute.
pub const DEFAULT_TEMPO_BPM: f64 = 120.0;

/// Positions of a register lie within this many beats: two years at the fastest tempo. One that would lie beyond begins anew
/// at the same place in the bar, so that nobody can carry the position to where beats have no fractions any more.
const MAX_BEAT: f64 = 4e9;
/// Moments of changes lie within this many ns of the session's beginning: twice as long as a session is believed to last.
const MAX_ORIGIN_NS: i64 = 20 * 365 * 86_400 * 1_000_000_000;
/// Changes of a register: four times as many as are believed of the oldest session.
const MAX_COUNTER: u64 = 1 << 40;

/// Musical position as a function of session time, with its version.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct BeatRegister {
    /// Tempo, beats per minute, in [`TEMPO_RANGE_BPM`].
    pub tempo_bpm: f64,
    /// Session time at which the beat was `origin_beat`, ns.
    pub origin_ns: i64,
    /// Beats at `origin_ns`.
    pub origin_beat: f64,
    /// Beats in a bar, 1 to 16: Link's quantum.
    pub beats_per_bar: u8,
    /// Whether playback runs.
    pub playing: bool,
    /// Lamport counter of changes.
    pub counter: u64,
    /// Who made the last change: a hash of the peer id, to break ties.
    pub author: u64,
}

impl BeatRegister {
    /// Beat 0 at session time `now_ns`, never changed by anybody.
    pub fn new(now_ns: i64, tempo_bpm: f64, author: u64) -> Self {
        Self {
            tempo_bpm: clamp_tempo(tempo_bpm),
            origin_ns: now_ns,
            origin_beat: 0.0,
            beats_per_bar: 4,
            playing: false,
            counter: 0,
            author,
        }
    }

    /// Position in beats at session time `at_ns`. Negative before beat 0.
    pub fn beat_at(&self, at_ns: i64) -> f64 {
        self.origin_beat + (at_ns.wrapping_sub(self.origin_ns)) as f64 * self.tempo_bpm / 60e9
    }

    /// Position inside the bar at `at_ns`, beats, from 0 up to `beats_per_bar`.
    pub fn phase_at(&self, at_ns: i64) -> f64 {
        self.beat_at(at_ns).rem_euclid(f64::from(self.beats_per_bar.max(1)))
    }

    /// Session time at which the position is `beat`, ns.
    pub fn time_of(&self, beat: f64) -> i64 {
        self.origin_ns.saturating_add(((beat - self.origin_beat) * 60e9 / self.tempo_bpm) as i64)
    }

    /// The register after a change of tempo at `now_ns`; the beat stays continuous.
    pub fn with_tempo(&self, tempo_bpm: f64, now_ns: i64, author: u64) -> Self {
        self.changed(now_ns, author, |next| next.tempo_bpm = clamp_tempo(tempo_bpm))
    }

    /// The register after playback is started or stopped at `now_ns`.
    pub fn with_playing(&self, playing: bool, now_ns: i64, author: u64) -> Self {
        self.changed(now_ns, author, |next| next.playing = playing)
    }

    /// The register after the position is moved so that `beat` falls on `at_ns`.
    pub fn with_beat_at(&self, beat: f64, at_ns: i64, author: u64) -> Self {
        self.changed(at_ns, author, |next| next.origin_beat = beat)
    }

    /// The register with another bar length.
    pub fn with_beats_per_bar(&self, beats: u8, now_ns: i64, author: u64) -> Self {
        self.changed(now_ns, author, |next| next.beats_per_bar = beats.clamp(1, 16))
    }

    /// Whether `other` replaces this one: a higher counter, or the same from a greater author.
    pub fn yields_to(&self, other: &Self) -> bool {
        (other.counter, other.author) > (self.counter, self.author)
    }

    /// Whether every field is inside its range; a register from a peer is used only then.
    pub fn is_sane(&self) -> bool {
        TEMPO_RANGE_BPM.contains(&self.tempo_bpm)
            && self.origin_beat.abs() <= MAX_BEAT
            && self.origin_ns.unsigned_abs() <= MAX_ORIGIN_NS.unsigned_abs()
            && (1..=16).contains(&self.beats_per_bar)
            && self.counter < MAX_COUNTER
    }

    fn changed(&self, now_ns: i64, author: u64, change: impl FnOnce(&mut Self)) -> Self {
        let mut next = Self {
            origin_beat: self.beat_at(now_ns),
            origin_ns: now_ns,
            counter: self.counter.saturating_add(1),
            author,
            ..*self
        };
        change(&mut next);
        if next.origin_beat.abs() > MAX_BEAT {
            next.origin_beat = next.phase_at(next.origin_ns);
        }
        next
    }
}

/// `tempo_bpm` inside [`TEMPO_RANGE_BPM`]; not a number becomes [`DEFAULT_TEMPO_BPM`].
pub fn clamp_tempo(tempo_bpm: f64) -> f64 {
    if tempo_bpm.is_nan() {
        DEFAULT_TEMPO_BPM
    } else {
        tempo_bpm.clamp(*TEMPO_RANGE_BPM.start(), *TEMPO_RANGE_BPM.end())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000_000;

    #[test]
    fn a_tempo_change_keeps_the_beat_continuous() {
        let slow = BeatRegister::new(0, 120.0, 1);
        let fast = slow.with_tempo(180.0, 10 * SECOND, 1);
        assert_eq!(slow.beat_at(10 * SECOND), 20.0);
        assert_eq!(fast.beat_at(10 * SECOND), 20.0);
        assert_eq!(fast.beat_at(11 * SECOND), 23.0);
        assert_eq!(fast.time_of(23.0), 11 * SECOND);
    }

    #[test]
    fn two_changes_at_once_have_one_winner_on_both_sides() {
        let base = BeatRegister::new(0, 120.0, 1);
        let (alice, bob) = (base.with_tempo(100.0, SECOND, 7), base.with_tempo(140.0, SECOND, 9));
        assert!(alice.yields_to(&bob));
        assert!(!bob.yields_to(&alice));
    }

    #[test]
    fn phase_wraps_at_the_bar_also_before_beat_zero() {
        let register = BeatRegister::new(0, 60.0, 1);
        assert_eq!(register.phase_at(5 * SECOND), 1.0);
        assert_eq!(register.phase_at(-SECOND), 3.0);
    }

    #[test]
    fn registers_out_of_range_are_not_sane() {
        let good = BeatRegister::new(0, 120.0, 1);
        assert!(good.is_sane());
        assert!(!BeatRegister { tempo_bpm: f64::NAN, ..good }.is_sane());
        assert!(!BeatRegister { tempo_bpm: 5.0, ..good }.is_sane());
        assert!(!BeatRegister { counter: u64::MAX, ..good }.is_sane());
        assert!(!BeatRegister { beats_per_bar: 0, ..good }.is_sane());
        assert!(!BeatRegister { origin_beat: f64::NAN, ..good }.is_sane());
        assert!(!BeatRegister { origin_beat: 1e12, ..good }.is_sane());
        assert!(!BeatRegister { origin_ns: i64::MIN, ..good }.is_sane());
    }

    #[test]
    fn what_a_peer_may_send_can_be_changed_for_years() {
        let origin_ns = -MAX_ORIGIN_NS;
        for origin_beat in [MAX_BEAT, -MAX_BEAT] {
            let register = BeatRegister { origin_beat, origin_ns, ..BeatRegister::new(0, 999.0, 1) };
            assert!(register.is_sane());
            let years = MAX_ORIGIN_NS / 2;
            let changed = register.with_tempo(77.0, years, 1);
            assert!(changed.is_sane(), "{changed:?}");
            assert!((changed.phase_at(years) - register.phase_at(years)).abs() < 1e-3, "the bar goes on");
            assert!(register.with_beat_at(1e15, 0, 1).is_sane());
        }
    }
}
