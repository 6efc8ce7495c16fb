//! Peers that do not play by the rules.
//!
//! A hostile host runs a real node, so that it gets past the handshake and into everybody's tables, and
//! [`Mallory`] stands between that node and the network: what the node says goes through its hands, and at moments
//! of its own it says things that no node says. The checkers judge the honest hosts only; what a scenario with a
//! hostile host shows is that the honest ones go on as if it were not there.
//!
//! Limits: Mallory speaks from one peer identity and cannot touch the packets of others; QUIC's handshake is not in
//! these worlds, so neither are attacks on it.

pub mod announcements;
mod false_clock;
mod forgery;

use std::{collections::VecDeque, time::Duration};

use crdt::PeerKey;

pub use self::{false_clock::FalseClock, forgery::Forgery};
use crate::{network::Channel, node::Effect, random::Random};

/// What Mallory says under its own name before it is altered on the way; see [`FORGED_WORDS`].
pub const TRUE_WORDS: &str = "spoken by Mallory";
/// What stands in every forged change, and must stand in no honest node's project. As long as [`TRUE_WORDS`].
pub const FORGED_WORDS: &str = "forged by Mallory";

/// How long a hostile node behaves after its start, so that it is a member before it turns.
const PATIENCE: Duration = Duration::from_secs(5);
/// Messages that are remembered for replaying.
const MAX_HEARD: usize = 4_096;
/// A replayed message is at least this old, in messages sent since.
const REPLAY_BEHIND: usize = 512;
/// Octets of the longest frame a project takes, and one more.
const TOO_LONG: usize = 4 * 1024 * 1024 + 1;

/// A kind of hostility.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Hostile {
    /// Random octets as datagrams, then as control frames, then as project frames.
    Garbage,
    /// Some thousand messages a second: what its node has just said again and again, and random datagrams.
    Flood,
    /// Answers clock questions with times that are not its own.
    FalseClock(FalseClock),
    /// Sends again what it sent long before: sound, clock messages, control and project frames.
    Replay,
    /// Takes connections and never says hello.
    Silent,
    /// Alters changes of the project.
    Forge(Forgery),
    /// Frames longer than any node reads.
    Oversize,
}

/// The hand between a hostile host's node and the network.
pub(crate) struct Mallory {
    kind: Hostile,
    me: PeerKey,
    random: Random,
    begun_ns: i64,
    next_ns: i64,
    rounds: u64,
    heard: VecDeque<Effect>,
}

impl Mallory {
    pub(crate) fn new(kind: Hostile, me: PeerKey, random: Random, now_ns: i64) -> Self {
        let begun_ns = now_ns.saturating_add(PATIENCE.as_nanos() as i64);
        Self { kind, me, random, begun_ns, next_ns: begun_ns, rounds: 0, heard: VecDeque::new() }
    }

    /// When [`Self::handle_deadline`] is wanted, ns on the host's clock.
    pub(crate) fn poll_deadline(&self) -> i64 {
        self.next_ns
    }

    /// Says what no node says to the connected `peers`.
    pub(crate) fn handle_deadline(&mut self, now_ns: i64, peers: &[PeerKey]) -> Vec<Effect> {
        if now_ns < self.next_ns {
            return vec![];
        }
        self.rounds += 1;
        let (pause, per_peer): (Duration, usize) = match self.kind {
            Hostile::Garbage => (Duration::from_millis(50), 4),
            Hostile::Flood => (Duration::from_millis(20), 40),
            Hostile::Replay => (Duration::from_millis(20), 4),
            Hostile::Oversize => (Duration::from_secs(2), 1),
            Hostile::FalseClock(_) | Hostile::Silent | Hostile::Forge(_) => (Duration::from_secs(3_600), 0),
        };
        self.next_ns = now_ns.saturating_add(pause.as_nanos() as i64);
        let mut said = vec![];
        for to in peers {
            for _ in 0..per_peer {
                said.extend(self.say(now_ns, *to));
            }
        }
        said
    }

    /// What becomes of something its node says; `None`: it is kept back.
    pub(crate) fn alter(&mut self, effect: Effect) -> Vec<Effect> {
        match (self.kind, effect) {
            (Hostile::Silent, Effect::Frame { .. } | Effect::Datagram { .. }) => vec![],
            (Hostile::FalseClock(lie), Effect::Datagram { to, bytes }) => {
                vec![Effect::Datagram { to, bytes: lie.alter(bytes, self.begun_ns) }]
            }
            (Hostile::FalseClock(lie), Effect::Frame { to, channel: Channel::Control, bytes })
                if self.rounds > 0 =>
            {
                let frames = lie.alter_frame(bytes).into_iter();
                frames.map(|bytes| Effect::Frame { to, channel: Channel::Control, bytes }).collect()
            }
            (Hostile::Forge(how), Effect::Frame { to, channel: Channel::Project, bytes }) => {
                let forged = how.forge(&bytes, &self.me, &to);
                let altered = forged.clone().unwrap_or(bytes);
                let frame = Effect::Frame { to, channel: Channel::Project, bytes: altered };
                forged.map(|_| Effect::Forged).into_iter().chain([frame]).collect()
            }
            (Hostile::Replay | Hostile::Flood, effect) => {
                if matches!(effect, Effect::Frame { .. } | Effect::Datagram { .. }) {
                    if self.heard.len() == MAX_HEARD {
                        self.heard.pop_front();
                    }
                    self.heard.push_back(effect.clone());
                }
                vec![effect]
            }
            (_, effect) => vec![effect],
        }
    }

    fn say(&mut self, now_ns: i64, to: PeerKey) -> Option<Effect> {
        match self.kind {
            Hostile::Garbage => {
                let bytes = self.noise();
                // Each channel for four seconds: the first bad project frame ends the acquaintance.
                Some(match (now_ns - self.begun_ns) / 4_000_000_000 {
                    0 => Effect::Datagram { to, bytes },
                    1 => Effect::Frame { to, channel: Channel::Control, bytes },
                    _ => Effect::Frame { to, channel: Channel::Project, bytes },
                })
            }
            Hostile::Flood if self.random.chance(0.3) => Some(Effect::Datagram { to, bytes: self.noise() }),
            Hostile::Flood => {
                let latest = self.heard.len().saturating_sub(64);
                let place = latest + self.random.below((self.heard.len() - latest) as u64) as usize;
                self.heard.get(place).map(|effect| readdressed(effect, to))
            }
            Hostile::Replay => {
                let old = self.heard.len().checked_sub(REPLAY_BEHIND)?;
                let place = self.random.below(old as u64) as usize;
                self.heard.get(place).map(|effect| readdressed(effect, to))
            }
            Hostile::Oversize if self.rounds.is_multiple_of(2) => {
                Some(Effect::Frame { to, channel: Channel::Control, bytes: vec![0; TOO_LONG / 64] })
            }
            Hostile::Oversize => {
                Some(Effect::Frame { to, channel: Channel::Project, bytes: vec![3; TOO_LONG] })
            }
            Hostile::FalseClock(_) | Hostile::Silent | Hostile::Forge(_) => None,
        }
    }

    /// Random octets that begin like one of our protocols, or like none.
    fn noise(&mut self) -> Vec<u8> {
        let length = 1 + self.random.below(160) as usize;
        let mut bytes: Vec<u8> = (0..length).map(|_| self.random.bits() as u8).collect();
        let first = match self.random.below(4) {
            0 => 0x80,
            1 => 0x81,
            2 => 0x01,
            _ => self.random.bits() as u8,
        };
        if let Some(byte) = bytes.first_mut() {
            *byte = first;
        }
        bytes
    }
}

/// The same message to somebody else.
fn readdressed(effect: &Effect, to: PeerKey) -> Effect {
    match effect {
        Effect::Frame { channel, bytes, .. } => Effect::Frame { to, channel: *channel, bytes: bytes.clone() },
        Effect::Datagram { bytes, .. } => Effect::Datagram { to, bytes: bytes.clone() },
        other => other.clone(),
    }
}
