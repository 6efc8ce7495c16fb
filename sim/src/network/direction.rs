//! One direction of one path: takes packets with their sizes and times, says what becomes of them.
//!
//! A pure value, so that the simulator's virtual links and the emulator between real processes are the same link.
//! A packet first meets the bottleneck's queue, then the path. Stalls, loss bursts and a replayed trace are
//! functions of time alone, so nodes that send more packets do not get other weather. Every effect draws from a
//! random stream of its own, and each packet takes the same number of draws: neither a lost packet nor an effect
//! that is turned on shifts the luck of the others.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use super::{
    trace::{Replay, Trace},
    weather::{Bursts, Rate, Stalls, Tail, Weather},
};
use crate::{clock::WorldTime, random::Random};

/// How long after the first a second copy comes at least: the time of one more transmission on a radio, ms.
const COPY_AFTER_MS: f64 = 0.1;

/// Packets in flight that are compared with later ones, to count those that are overtaken.
const MAX_IN_FLIGHT: usize = 4_096;

/// What becomes of one packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It never arrives.
    Lost(Loss),
    /// It arrives then.
    Arrives(WorldTime),
    /// It arrives twice.
    ArrivesTwice(WorldTime, WorldTime),
    /// It arrives with a bit flipped. Who checks its integrity discards it.
    ArrivesDamaged(WorldTime, Damage),
}

impl Fate {
    /// When it first arrives in one piece, if ever.
    pub fn arrival(&self) -> Option<WorldTime> {
        match self {
            Fate::Arrives(at) | Fate::ArrivesTwice(at, _) => Some(*at),
            Fate::Lost(_) | Fate::ArrivesDamaged(..) => None,
        }
    }
}

/// Why a packet never arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// The path lost it.
    Path,
    /// The bottleneck's queue had no room for it.
    Queue,
    /// It is larger than the path's MTU.
    Size,
    /// The path is cut, or there is none.
    Cut,
    /// It was damaged, and whoever received it noticed.
    Damage,
}

/// A flipped bit somewhere in a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damage {
    luck: u64,
}

impl Damage {
    /// Flips the bit; does nothing to an empty packet.
    pub fn apply(&self, packet: &mut [u8]) {
        let bit = self.luck % (packet.len() as u64 * 8).max(1);
        if let Some(byte) = packet.get_mut((bit / 8) as usize) {
            *byte ^= 1 << (bit % 8);
        }
    }
}

/// How many packets one direction has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Packets handed in.
    pub sent: u64,
    /// Lost by the path.
    pub lost: u64,
    /// Dropped by the full queue of the bottleneck.
    pub dropped: u64,
    /// Larger than the MTU.
    pub too_large: u64,
    /// Delivered twice.
    pub doubled: u64,
    /// Damaged.
    pub damaged: u64,
    /// Overtaken by a packet sent later.
    pub overtaken: u64,
    /// The most octets that ever waited in the queue.
    pub most_queued: u64,
}

/// One direction of a path, with its state.
#[derive(Clone, Debug)]
pub struct Direction {
    weather: Weather,
    replay: Option<Replay>,
    packets: Random,
    tails: Random,
    damages: Random,
    retries: Random,
    jitter: f64,
    jitter_at: WorldTime,
    last_arrival: WorldTime,
    bottleneck: Bottleneck,
    stalls: Holds,
    spikes: Holds,
    bursts: BurstState,
    /// When packets arrive that a later one may still overtake.
    in_flight: VecDeque<WorldTime>,
    counters: Counters,
}

impl Direction {
    /// A direction with this weather from `now` on.
    pub fn new(weather: Weather, random: &Random, now: WorldTime) -> Self {
        let mut packets = random.fork(1);
        Self {
            jitter: packets.normal(),
            jitter_at: now,
            last_arrival: now,
            bottleneck: Bottleneck { rate: weather.rate, free_at: now },
            stalls: Holds::new(weather.stalls, random.fork(2), now),
            spikes: Holds::new(weather.spikes, random.fork(3), now),
            bursts: BurstState::new(&weather.bursts, random.fork(4), random.fork(7), now),
            tails: random.fork(5),
            damages: random.fork(6),
            retries: random.fork(7),
            weather,
            replay: None,
            packets,
            in_flight: VecDeque::new(),
            counters: Counters::default(),
        }
    }

    /// A direction that delays and loses as a recorded path did, from `now` on and again from its beginning when
    /// the record ends. What the record cannot know (rate, MTU, damage, duplicates) is that of `weather`, whose
    /// delay, jitter and loss come on top.
    pub fn replay(trace: Arc<Trace>, weather: Weather, random: &Random, now: WorldTime) -> Self {
        Self { replay: Some(Replay::new(trace, now)), ..Self::new(weather, random, now) }
    }

    /// Its parameters.
    pub fn weather(&self) -> &Weather {
        &self.weather
    }

    /// The shortest delay of a small packet, ms.
    pub fn shortest_ms(&self) -> f64 {
        self.weather.delay_ms + self.replay.as_ref().map_or(0.0, Replay::shortest_ms)
    }

    /// What it has done so far.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Decides about an IP packet of `octets` that leaves at `now`; call in order of time.
    pub fn send(&mut self, now: WorldTime, octets: usize) -> Fate {
        let fate = self.decide(now, octets);
        self.counters.sent += 1;
        match fate {
            Fate::Lost(Loss::Queue) => self.counters.dropped += 1,
            Fate::Lost(Loss::Size) => self.counters.too_large += 1,
            Fate::Lost(_) => self.counters.lost += 1,
            Fate::ArrivesTwice(..) => self.counters.doubled += 1,
            Fate::ArrivesDamaged(..) => self.counters.damaged += 1,
            Fate::Arrives(_) => {}
        }
        fate
    }

    /// Whether a packet that was lost is lost again when it is sent anew, a round trip later. By then the burst that
    /// took it is over, so what counts is the share of packets lost over a long time.
    pub fn loses_again(&mut self) -> bool {
        let Weather { loss, bursts, corrupt, .. } = &self.weather;
        self.retries.share() < (loss + corrupt).max(bursts.mean_loss())
    }

    fn decide(&mut self, now: WorldTime, octets: usize) -> Fate {
        let (loss, reorder, duplicate) = (self.packets.share(), self.packets.share(), self.packets.share());
        let access_ms = self.packets.exponential(self.weather.access_ms);
        let tail_ms = draw_tail(self.weather.tail, &mut self.tails);
        let (corrupt, luck) = (self.damages.share(), self.damages.bits());
        // Even what is dropped has to move the jitter on by its one draw.
        let normal = self.packets.normal();

        if self.weather.mtu > 0 && octets > self.weather.mtu as usize {
            return Fate::Lost(Loss::Size);
        }
        let Some(leaves) = self.bottleneck.pass(now, octets) else { return Fate::Lost(Loss::Queue) };
        self.counters.most_queued = self.counters.most_queued.max(self.bottleneck.queued(now));

        let jitter_ms = self.weather.jitter_ms * self.jitter_at(leaves, normal);
        let delay_ms = (self.weather.delay_ms + jitter_ms).max(0.0);
        let in_burst = self.bursts.is_bad(leaves, &self.weather.bursts);
        let burst_loss = if in_burst { self.weather.bursts.loss } else { 0.0 };
        let held = self.stalls.until(leaves).max(self.spikes.until(leaves)).unwrap_or(leaves);
        let replayed = self.replay.as_mut().map(|replay| replay.at(leaves));
        if loss < burst_loss.max(self.weather.loss) || replayed.is_some_and(|packet| packet.is_none()) {
            return Fate::Lost(Loss::Path);
        }
        let (replayed, may_overtake) = replayed.flatten().map_or((Duration::ZERO, false), |packet| packet);
        let mut arrival = (leaves + milliseconds(delay_ms) + replayed).max(held);
        arrival = arrival + milliseconds(access_ms) + milliseconds(tail_ms);
        if reorder < self.weather.reorder {
            arrival = arrival + milliseconds(self.weather.reorder_ms);
        } else if !may_overtake {
            arrival = arrival.max(self.last_arrival);
        }
        if self.weather.reorder > 0.0 || self.replay.is_some() {
            self.count_overtaken(now, arrival);
        }
        if reorder >= self.weather.reorder {
            self.last_arrival = self.last_arrival.max(arrival);
        }
        if corrupt < self.weather.corrupt {
            return Fate::ArrivesDamaged(arrival, Damage { luck });
        }
        if duplicate < self.weather.duplicate {
            return Fate::ArrivesTwice(arrival, arrival + milliseconds(access_ms + COPY_AFTER_MS));
        }
        Fate::Arrives(arrival)
    }

    /// A packet that is sent at `now` arrives before these; each of them is overtaken but once.
    fn count_overtaken(&mut self, now: WorldTime, arrival: WorldTime) {
        let before = self.in_flight.len();
        self.in_flight.retain(|earlier| *earlier <= arrival);
        self.counters.overtaken += (before - self.in_flight.len()) as u64;
        // What has arrived by now cannot be overtaken any more.
        self.in_flight.retain(|earlier| *earlier > now);
        if self.in_flight.len() == MAX_IN_FLIGHT {
            self.in_flight.pop_front();
        }
        self.in_flight.push_back(arrival);
    }

    /// A first-order Gauss-Markov process: what is left of the old value shrinks with the time between.
    fn jitter_at(&mut self, now: WorldTime, normal: f64) -> f64 {
        let elapsed_ms = now.since(self.jitter_at).as_secs_f64() * 1e3;
        let kept = if self.weather.jitter_memory_ms > 0.0 {
            (-elapsed_ms / self.weather.jitter_memory_ms).exp()
        } else {
            0.0
        };
        self.jitter_at = now;
        self.jitter = kept * self.jitter + (1.0 - kept * kept).sqrt() * normal;
        self.jitter
    }
}

fn draw_tail(tail: Tail, random: &mut Random) -> f64 {
    match tail {
        Tail::None => 0.0,
        Tail::Pareto { scale_ms, exponent, longest_ms } => {
            (random.pareto(scale_ms, exponent) - scale_ms).min(longest_ms)
        }
        Tail::Lognormal { median_ms, sigma, longest_ms } => {
            (median_ms * (sigma * random.normal()).exp()).min(longest_ms)
        }
    }
}

/// A wire of limited rate behind a queue of limited size.
#[derive(Clone, Copy, Debug)]
struct Bottleneck {
    rate: Rate,
    /// When it has sent all that waits.
    free_at: WorldTime,
}

impl Bottleneck {
    /// When a packet that comes now has been sent; `None`: it was dropped.
    fn pass(&mut self, now: WorldTime, octets: usize) -> Option<WorldTime> {
        if self.rate.kbps <= 0.0 {
            return Some(now);
        }
        let queued = self.queued(now);
        if queued > 0 && queued.saturating_add(octets as u64) > u64::from(self.rate.queue) {
            return None;
        }
        self.free_at = self.free_at.max(now) + milliseconds(octets as f64 * 8.0 / self.rate.kbps);
        Some(self.free_at)
    }

    /// What waits at `now`, octets.
    fn queued(&self, now: WorldTime) -> u64 {
        (self.free_at.since(now).as_secs_f64() * 1e3 * self.rate.kbps / 8.0).round() as u64
    }
}

/// The holds of one kind along the time axis.
#[derive(Clone, Debug)]
struct Holds {
    kind: Stalls,
    random: Random,
    begin: WorldTime,
    end: WorldTime,
}

impl Holds {
    fn new(kind: Stalls, random: Random, now: WorldTime) -> Self {
        let mut holds = Self { kind, random, begin: now, end: now };
        holds.advance();
        holds
    }

    /// The end of the hold at `now`, if there is one.
    fn until(&mut self, now: WorldTime) -> Option<WorldTime> {
        while self.kind.per_second > 0.0 && self.end <= now {
            self.advance();
        }
        (self.begin <= now && now < self.end).then_some(self.end)
    }

    fn advance(&mut self) {
        if self.kind.per_second <= 0.0 {
            return;
        }
        let Stalls { per_second, shortest_ms, longest_ms, exponent } = self.kind;
        self.begin = self.end + milliseconds(self.random.exponential(1_000.0 / per_second));
        let length_ms = if exponent > 0.0 {
            self.random.pareto(shortest_ms, exponent).min(longest_ms)
        } else {
            self.random.between(shortest_ms, longest_ms)
        };
        // Never empty, or `until` would not get on.
        self.end = self.begin + milliseconds(length_ms.max(0.001));
    }
}

#[derive(Clone, Debug)]
struct BurstState {
    random: Random,
    bad: bool,
    until: WorldTime,
}

impl BurstState {
    /// Quiet at first. How long a quiet stretch still lasts does not depend on how long it has lasted, so the first one is
    /// drawn like any other, from a stream of its own.
    fn new(bursts: &Bursts, random: Random, mut first: Random, now: WorldTime) -> Self {
        let until = now + milliseconds(first.exponential(bursts.quiet_ms.max(0.0)));
        Self { random, bad: false, until }
    }

    fn is_bad(&mut self, now: WorldTime, bursts: &Bursts) -> bool {
        if bursts.quiet_ms <= 0.0 || bursts.burst_ms <= 0.0 {
            return false;
        }
        while self.until <= now {
            self.bad = !self.bad;
            let mean_ms = if self.bad { bursts.burst_ms } else { bursts.quiet_ms };
            self.until = self.until + milliseconds(self.random.exponential(mean_ms).max(0.001));
        }
        self.bad
    }
}

fn milliseconds(ms: f64) -> Duration {
    Duration::from_nanos((ms.max(0.0) * 1e6) as u64)
}

#[cfg(test)]
mod tests;
