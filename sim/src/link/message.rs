//! What apps tell each other, and the values in it.

use super::TEMPO_BPM;

/// Something said on the local network.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Message {
    /// How things stand for the one who says it.
    State(State),
    /// It leaves.
    Bye,
    /// What time is it in your session?
    Question {
        /// When it was asked, on the asker's clock, ns.
        asked_ns: i64,
    },
    /// It was this time when the question came.
    Answer {
        /// The question's stamp.
        asked_ns: i64,
        /// Which session.
        session: u64,
        /// The session's time, ns.
        session_ns: i64,
    },
}

/// Octets of the longest message, about as many as Link's.
pub const OCTETS: usize = 120;

/// How things stand for one app.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct State {
    /// Who says it.
    pub app: u64,
    /// Its session, named after who founded it.
    pub session: u64,
    /// Where the beat is.
    pub beats: Beats,
    /// Whether it plays.
    pub playback: Playback,
}

/// The beat on session time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Beats {
    /// Microseconds a beat.
    beat_us: i64,
    origin_beat: f64,
    origin_ns: i64,
}

/// Whether playback runs.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Playback {
    /// It does.
    pub playing: bool,
    /// Since when, in session time, ns.
    pub since_ns: i64,
}

impl Beats {
    /// Beat 0 at session time 0.
    pub fn new(tempo_bpm: f64) -> Self {
        let tempo_bpm = tempo_bpm.clamp(*TEMPO_BPM.start(), *TEMPO_BPM.end());
        Self { beat_us: (60e6 / tempo_bpm).round() as i64, origin_beat: 0.0, origin_ns: 0 }
    }

    /// Beats a minute.
    pub fn tempo_bpm(&self) -> f64 {
        60e6 / self.beat_us as f64
    }

    /// The beat at a session time, ns.
    pub fn at(&self, session_ns: i64) -> f64 {
        self.origin_beat + (session_ns - self.origin_ns) as f64 / (self.beat_us as f64 * 1e3)
    }

    /// Another tempo from this session time on.
    pub fn with_tempo(&self, tempo_bpm: f64, session_ns: i64) -> Self {
        Self { beat_us: Self::new(tempo_bpm).beat_us, ..self.changed(self.at(session_ns), session_ns) }
    }

    /// The first beat after those already counted that has the place of `beat` in the quantum is now.
    pub fn moved_to(&self, beat: f64, quantum: f64, session_ns: i64) -> Self {
        let counted = self.at(session_ns).max(self.origin_beat);
        self.changed(counted + (beat - counted).rem_euclid(quantum), session_ns)
    }

    /// Whether this was said after `other`: each change begins at a later beat.
    pub fn beats_later(&self, other: &Self) -> bool {
        self.origin_beat > other.origin_beat
    }

    fn changed(&self, beat: f64, session_ns: i64) -> Self {
        // A change at the very beat of the last one is still a later one, by a millionth of a beat.
        let origin_beat = beat.max(self.origin_beat + 1e-6);
        Self { beat_us: self.beat_us, origin_beat, origin_ns: session_ns }
    }
}
