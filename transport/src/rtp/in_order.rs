//! Packets in order, or not at all: the queue before a decoder that remembers.
//!
//! An Opus decoder must see packets in order, and must be told of each missing one so that it can conceal it. Waiting
//! for a straggler helps only while its sound can still be played, so every missing packet has its own deadline: when
//! the fastest recent packet would have come, plus what the playout delay leaves over. Past it the decoder is told to
//! conceal, with the following packet at hand if there is one (in-band FEC, RFC 6716, section 2.1.7).
//!
//! Order is by timestamp, not by sequence number, so repeated payloads (RFC 2198) fit in unseen. A pause the sender
//! made (consecutive numbers, a step in the timestamps) is not loss and is not waited for.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;

use super::{Format, Layout, Output};
use crate::time::LocalTime;

/// Packets held for a straggler. At the bound the oldest gap is given up.
const MAX_HELD: usize = 64;

/// Longest gap handed to the decoder, 120 ms at 48 kHz; a longer one is silence, which the engine makes itself.
const MAX_CONCEALED_FRAMES: i64 = 5_760;

/// The fastest transit is remembered for one to two of these, so that clock drift cannot make it stale.
const TRANSIT_MEMORY_NS: u64 = 5_000_000_000;

#[derive(Debug)]
pub(super) struct InOrder {
    format: Format,
    /// How long after the fastest packet's arrival a packet is still of use.
    budget: Duration,
    /// The timestamp the decoder wants next.
    next: Option<i64>,
    /// Extended sequence number of the packet given out last.
    last_sequence: Option<i64>,
    last_frames: i64,
    held: BTreeMap<i64, Held>,
    fastest: FastestTransit,
}

#[derive(Debug)]
struct Held {
    /// `None` for a repeated payload, whose own number is unknown.
    sequence: Option<i64>,
    frames: i64,
    recovered: bool,
    payload: Bytes,
}

/// What one payload led to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Taken {
    Kept,
    Late,
}

impl InOrder {
    pub(super) fn new(format: Format, budget: Duration) -> Self {
        InOrder {
            format,
            budget,
            next: None,
            last_sequence: None,
            last_frames: 0,
            held: BTreeMap::new(),
            fastest: FastestTransit::default(),
        }
    }

    pub(super) fn set_budget(&mut self, budget: Duration) {
        self.budget = budget;
    }

    pub(super) fn restart(&mut self) {
        *self = InOrder::new(self.format, self.budget);
    }

    /// A primary payload's arrival: how fast it was sets the deadlines of the others.
    pub(super) fn handle_timing(&mut self, now: LocalTime, timestamp: i64) {
        self.fastest.handle(now, self.format.nanos(timestamp));
    }

    pub(super) fn insert(
        &mut self,
        timestamp: i64,
        frames: u32,
        sequence: Option<i64>,
        payload: Bytes,
    ) -> Taken {
        if self.next.is_some_and(|next| timestamp < next) {
            return Taken::Late;
        }
        let recovered = sequence.is_none();
        let held = Held { sequence, frames: i64::from(frames), recovered, payload };
        // A packet itself beats a copy of its payload: it also says where in the sequence it stands.
        if !recovered || !self.held.contains_key(&timestamp) {
            self.held.insert(timestamp, held);
        }
        Taken::Kept
    }

    /// Gives out all that is due. Returns frames concealed and payloads that only redundancy brought.
    pub(super) fn drain(&mut self, now: LocalTime, out: &mut VecDeque<Output>) -> (u64, u64) {
        let (mut concealed, mut recovered) = (0, 0);
        while let Some(entry) = self.held.first_entry() {
            let timestamp = *entry.key();
            let next = self.next.unwrap_or(timestamp);
            let follows = entry
                .get()
                .sequence
                .is_some_and(|sequence| self.last_sequence.is_some_and(|last| last + 1 == sequence));
            if timestamp <= next || follows {
                let held = entry.remove();
                recovered += u64::from(held.recovered);
                self.next = Some(timestamp.saturating_add(held.frames));
                // A copy's number is unknown, but it takes exactly one.
                self.last_sequence = held.sequence.or(self.last_sequence.map(|last| last + 1));
                self.last_frames = held.frames;
                out.push_back(Output::Packet {
                    timestamp_frames: timestamp,
                    frames: held.frames as u32,
                    recovered: held.recovered,
                    layout: Layout::All,
                    payload: held.payload,
                });
                continue;
            }
            let full = self.held.len() > MAX_HELD;
            if !full && self.deadline_of(next).is_some_and(|deadline| now < deadline) {
                break;
            }
            let gap = timestamp - next;
            if gap > MAX_CONCEALED_FRAMES {
                self.give_up_to(timestamp);
                continue;
            }
            let frames = gap.min(self.last_frames.max(1));
            let following = self.held.get(&timestamp).filter(|_| frames == gap);
            concealed += frames.unsigned_abs();
            out.push_back(Output::Conceal {
                timestamp_frames: next,
                frames: frames as u32,
                following: following.map(|held| held.payload.clone()),
            });
            self.give_up_to(next + frames);
        }
        (concealed, recovered)
    }

    /// When the packet now waited for is no longer of use.
    pub(super) fn deadline(&self) -> Option<LocalTime> {
        if self.held.is_empty() {
            return None;
        }
        self.deadline_of(self.next?)
    }

    fn give_up_to(&mut self, timestamp: i64) {
        self.next = Some(timestamp);
        self.last_sequence = None;
    }

    fn deadline_of(&self, timestamp: i64) -> Option<LocalTime> {
        let fastest = self.fastest.transit_ns()?.saturating_add(i128::from(self.format.nanos(timestamp)));
        Some(LocalTime::from_nanos(u64::try_from(fastest.max(0)).unwrap_or(u64::MAX)) + self.budget)
    }
}

/// The least difference of arrival and timestamp in the current and the previous stretch of time.
#[derive(Debug, Default)]
struct FastestTransit {
    current: Option<(LocalTime, i128)>,
    previous: Option<i128>,
}

impl FastestTransit {
    fn handle(&mut self, now: LocalTime, media_ns: i64) {
        let transit = i128::from(now.as_nanos()) - i128::from(media_ns);
        match &mut self.current {
            Some((since, least)) if now.as_nanos().saturating_sub(since.as_nanos()) < TRANSIT_MEMORY_NS => {
                *least = transit.min(*least);
            }
            current => {
                self.previous = current.map(|(_, least)| least);
                *current = Some((now, transit));
            }
        }
    }

    fn transit_ns(&self) -> Option<i128> {
        let (_, current) = self.current?;
        Some(self.previous.map_or(current, |previous| previous.min(current)))
    }
}
