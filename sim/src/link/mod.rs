//! A program that takes part in Ableton Link, as a value: an emulator of an app on the same local network.
//!
//! What Link's public documentation and test plan promise is all that is taken from it: everybody says four times a second,
//! and at once when something changes, what session it is in, where its beat is and whether it plays. Two sessions that
//! meet become one, the one that has run longer. Between two clocks a session's time is measured by a row of questions and
//! answers, again every half a minute. A later change of the beat beats an earlier one.
//!
//! [`LinkPeer`] is used on both sides of the bridge: as what the node's Link library does, and as the app beside it.
//!
//! Limits: the messages are this emulator's own, not Link's on the wire; an app does not quantise its start to a bar.

mod message;

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

pub use self::message::{Beats, Message, OCTETS, Playback, State};
use crate::{network::HostId, random::Random};

/// Tempi that Link takes, beats per minute.
const TEMPO_BPM: std::ops::RangeInclusive<f64> = 20.0..=999.0;

const SAY_EVERY_NS: i64 = 250_000_000;
/// Silence after which an app is gone.
const GONE_AFTER_NS: i64 = 5_000_000_000;
/// Questions of one measurement, their distance, and how long it takes in all.
const QUESTIONS: u32 = 16;
const QUESTION_EVERY_NS: i64 = 10_000_000;
const MEASURED_AFTER_NS: i64 = 500_000_000;
/// Answers that are enough.
const ENOUGH: usize = 5;
const MEASURE_AGAIN_NS: i64 = 30_000_000_000;
/// Sessions whose ages differ by less are told apart by their number.
const SAME_AGE_NS: i64 = 500_000_000;
/// Apps that are followed at once; further ones are not heard.
const MAX_PEERS: usize = 64;
/// Messages that wait to be sent after one event, at most.
const MAX_WAITING: usize = 256;

/// What Link shows to the app.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reading {
    /// Other apps in the session.
    pub peers: u64,
    /// Beats a minute; Link keeps whole microseconds a beat.
    pub tempo_bpm: f64,
    /// Position in beats; its place within the quantum is shared.
    pub beat: f64,
    /// Whether playback runs.
    pub playing: bool,
}

/// One app's part.
#[derive(Debug)]
pub struct LinkPeer {
    id: u64,
    session: u64,
    /// Session time minus the host's, ns.
    offset_ns: i64,
    beats: Beats,
    playback: Playback,
    others: BTreeMap<HostId, Other>,
    measuring: Option<Measurement>,
    measured_ns: i64,
    next_say_ns: i64,
    outgoing: VecDeque<(Option<HostId>, Message)>,
}

#[derive(Debug)]
struct Other {
    app: u64,
    session: u64,
    heard_ns: i64,
}

#[derive(Debug)]
struct Measurement {
    of: HostId,
    begun_ns: i64,
    asked: u32,
    next_ns: i64,
    /// Session time minus the host's, ns, one for each answer.
    offsets_ns: Vec<i64>,
    /// What that app says of its session.
    state: State,
}

impl LinkPeer {
    /// An app that has just been started, in a session of its own.
    pub fn new(now_ns: i64, tempo_bpm: f64, mut random: Random) -> Self {
        let id = random.bits();
        Self {
            id,
            session: id,
            offset_ns: now_ns.saturating_neg(),
            beats: Beats::new(tempo_bpm),
            playback: Playback::default(),
            others: BTreeMap::new(),
            measuring: None,
            measured_ns: now_ns,
            next_say_ns: now_ns,
            outgoing: VecDeque::new(),
        }
    }

    /// What it shows at `now_ns`.
    pub fn read(&self, now_ns: i64) -> Reading {
        Reading {
            peers: self.others.values().filter(|other| other.session == self.session).count() as u64,
            tempo_bpm: self.beats.tempo_bpm(),
            beat: self.beats.at(self.session_at(now_ns)),
            playing: self.playback.playing,
        }
    }

    /// The app changes the tempo for all; the beat stays where it is.
    pub fn set_tempo(&mut self, now_ns: i64, tempo_bpm: f64) {
        if TEMPO_BPM.contains(&tempo_bpm) {
            self.beats = self.beats.with_tempo(tempo_bpm, self.session_at(now_ns));
            self.say(now_ns);
        }
    }

    /// The app moves everybody so that this beat, within the quantum, is now.
    pub fn force_beat(&mut self, now_ns: i64, beat: f64, quantum: f64) {
        self.beats = self.beats.moved_to(beat, quantum, self.session_at(now_ns));
        self.say(now_ns);
    }

    /// The app starts or stops playback for all.
    pub fn set_playing(&mut self, now_ns: i64, playing: bool) {
        self.playback = Playback { playing, since_ns: self.session_at(now_ns) };
        self.say(now_ns);
    }

    /// The app leaves, and says nothing after that.
    pub fn leave(&mut self) {
        self.measuring = None;
        self.next_say_ns = i64::MAX;
        self.outgoing.push_back((None, Message::Bye));
    }

    /// Another app has said something.
    pub fn handle_message(&mut self, now_ns: i64, from: HostId, message: &Message) {
        match *message {
            Message::State(state) => self.handle_state(now_ns, from, state),
            Message::Bye => {
                self.others.remove(&from);
            }
            Message::Question { asked_ns } => {
                let session_ns = self.session_at(now_ns);
                let answer = Message::Answer { asked_ns, session: self.session, session_ns };
                self.send(Some(from), answer);
            }
            Message::Answer { asked_ns, session, session_ns } => {
                let waits = self.measuring.as_mut().filter(|it| it.of == from && it.state.session == session);
                if let Some(measuring) = waits {
                    let half = now_ns.saturating_sub(asked_ns) / 2;
                    measuring.offsets_ns.push(session_ns.saturating_add(half).saturating_sub(now_ns));
                }
            }
        }
    }

    /// When [`Self::handle_deadline`] is next wanted, ns on the host's clock.
    pub fn poll_deadline(&self) -> i64 {
        let measuring = self.measuring.as_ref().map(|it| match it.asked < QUESTIONS {
            true => it.next_ns,
            false => it.begun_ns + MEASURED_AFTER_NS,
        });
        measuring.into_iter().fold(self.next_say_ns, i64::min)
    }

    /// Does what is due.
    pub fn handle_deadline(&mut self, now_ns: i64) {
        self.others.retain(|_, other| now_ns - other.heard_ns < GONE_AFTER_NS);
        if let Some(measuring) = &mut self.measuring {
            if measuring.asked < QUESTIONS && measuring.next_ns <= now_ns {
                measuring.asked += 1;
                measuring.next_ns = now_ns + QUESTION_EVERY_NS;
                let of = measuring.of;
                self.send(Some(of), Message::Question { asked_ns: now_ns });
            } else if measuring.begun_ns + MEASURED_AFTER_NS <= now_ns {
                self.conclude(now_ns);
            }
        }
        if self.next_say_ns <= now_ns {
            self.say(now_ns);
        }
    }

    /// The next message, and to whom; `None`: to all on the local network.
    pub fn poll(&mut self) -> Option<(Option<HostId>, Message)> {
        self.outgoing.pop_front()
    }

    fn handle_state(&mut self, now_ns: i64, from: HostId, state: State) {
        if self.others.len() >= MAX_PEERS && !self.others.contains_key(&from) {
            return;
        }
        self.others.insert(from, Other { app: state.app, session: state.session, heard_ns: now_ns });
        if state.session != self.session {
            match self.measuring.as_mut() {
                None => self.measure(now_ns, from, state),
                Some(measuring) if measuring.of != from => {}
                Some(measuring) if measuring.state.session == state.session => measuring.state = state,
                // It has itself joined another session; what was measured was the time of its last one.
                Some(_) => self.measure(now_ns, from, state),
            }
            return;
        }
        self.follow(&state);
        // Whoever has founded a session keeps its time, and is asked for it as long as it is there, as Link does it.
        let keeps_time = |app: u64| app == self.session;
        let asked = keeps_time(state.app) || !self.others.values().any(|other| keeps_time(other.app));
        if !keeps_time(self.id)
            && asked
            && self.measuring.is_none()
            && now_ns - self.measured_ns >= MEASURE_AGAIN_NS
        {
            self.measure(now_ns, from, state);
        }
    }

    fn follow(&mut self, state: &State) {
        if state.beats.beats_later(&self.beats) {
            self.beats = state.beats;
        }
        if state.playback.since_ns > self.playback.since_ns {
            self.playback = state.playback;
        }
    }

    fn measure(&mut self, now_ns: i64, of: HostId, state: State) {
        let offsets_ns = vec![];
        self.measuring =
            Some(Measurement { of, begun_ns: now_ns, asked: 0, next_ns: now_ns, offsets_ns, state });
    }

    fn conclude(&mut self, now_ns: i64) {
        let Some(Measurement { mut offsets_ns, state, .. }) = self.measuring.take() else { return };
        if offsets_ns.len() < ENOUGH {
            return;
        }
        offsets_ns.sort_unstable();
        let Some(&offset_ns) = offsets_ns.get(offsets_ns.len() / 2) else { return };
        if state.session == self.session {
            (self.offset_ns, self.measured_ns) = (offset_ns, now_ns);
            return;
        }
        let lead_ns = offset_ns.saturating_sub(self.offset_ns);
        let they_are_older = lead_ns > SAME_AGE_NS;
        let same_age = lead_ns.abs() <= SAME_AGE_NS;
        if they_are_older || (same_age && state.session < self.session) {
            self.session = state.session;
            (self.offset_ns, self.measured_ns) = (offset_ns, now_ns);
            (self.beats, self.playback) = (state.beats, state.playback);
            self.say(now_ns);
        }
    }

    fn say(&mut self, now_ns: i64) {
        self.next_say_ns = now_ns + SAY_EVERY_NS;
        let state = State { app: self.id, session: self.session, beats: self.beats, playback: self.playback };
        self.send(None, Message::State(state));
    }

    fn send(&mut self, to: Option<HostId>, message: Message) {
        if self.outgoing.len() < MAX_WAITING {
            self.outgoing.push_back((to, message));
        }
    }

    fn session_at(&self, now_ns: i64) -> i64 {
        now_ns.saturating_add(self.offset_ns)
    }
}

/// How far two positions are apart within the quantum, beats, 0 to half of it.
pub fn apart(a: f64, b: f64, quantum: f64) -> f64 {
    ((a - b + quantum / 2.0).rem_euclid(quantum) - quantum / 2.0).abs()
}

/// How often the node looks at Link, as in the product.
pub const LOOK_EVERY: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests;
