//! Telling others' changes from our own, and a jump of the beat from the slow parting of two clocks. A pure value.

use super::{LinkEvent, LinkTimeline};

/// A beat off by more than this was moved, not measured anew: above the clock offset's error, below what can be heard.
const JUMP_NS: f64 = 500_000.0;

/// Link as last seen or set.
#[derive(Clone, Copy, Debug)]
pub(super) struct Watch {
    peers: u64,
    timeline: LinkTimeline,
    playing: bool,
    quantum: f64,
}

/// What Link says now.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reading {
    pub(super) peers: u64,
    pub(super) timeline: LinkTimeline,
    pub(super) playing: bool,
    pub(super) playing_since_ns: u64,
}

impl Watch {
    pub(super) fn new(reading: &Reading, quantum: f64) -> Self {
        Watch { peers: reading.peers, timeline: reading.timeline, playing: reading.playing, quantum }
    }

    /// Takes `reading` as known: it is what we set.
    pub(super) fn accept(&mut self, reading: &Reading) {
        (self.timeline, self.playing) = (reading.timeline, reading.playing);
    }

    /// What changed since the last look, at most one event of each kind.
    pub(super) fn look(&mut self, reading: &Reading) -> [Option<LinkEvent>; 3] {
        let peers = (reading.peers != self.peers).then_some(LinkEvent::Peers(reading.peers));
        let timeline = self.moved(&reading.timeline).then_some(LinkEvent::Timeline(reading.timeline));
        let playing = (reading.playing != self.playing).then_some(LinkEvent::Playing {
            playing: reading.playing,
            host_time_ns: reading.playing_since_ns,
        });
        self.peers = reading.peers;
        self.playing = reading.playing;
        if timeline.is_some() {
            self.timeline = reading.timeline;
        } else {
            // Follow the slow difference of the two clocks, so that it never adds up to a jump.
            self.timeline = LinkTimeline { tempo_bpm: self.timeline.tempo_bpm, ..reading.timeline };
        }
        [peers, timeline, playing]
    }

    fn moved(&self, now: &LinkTimeline) -> bool {
        // Link keeps whole microseconds a beat, so a tempo comes back slightly rounded.
        if (now.tempo_bpm - self.timeline.tempo_bpm).abs() > 0.01 {
            return true;
        }
        // Only the place within the quantum is shared, a jump by whole quanta is none.
        let off = (now.beat - self.timeline.beat_at(now.host_time_ns)).rem_euclid(self.quantum);
        let off = off.min(self.quantum - off);
        off * 60e9 / now.tempo_bpm > JUMP_NS
    }
}
