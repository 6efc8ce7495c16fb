//! What the emulator decides, apart from sockets: which packet leaves when.
//!
//! A [`Line`] is two [`Direction`]s of the simulator's path model and the packets on their way. It is told
//! what has come and asked what is due; time is passed in.
//!
//! The line's clock begins with the first packet in either direction, so that the weather of a seed does not
//! depend on how long programs take to start. The draws of one packet (loss, reordering, duplication, access
//! delay) belong to its number within its direction; stalls, loss bursts and queues are functions of time.
//! Given the same packets at the same times a line repeats exactly. Real programs send at slightly other
//! times in each run: then packet number n still draws the same luck, but may meet the edge of a stall or
//! burst from the other side.
//!
//! Bounded: at most [`MAX_PACKETS`] packets and [`MAX_BYTES`] bytes are on their way. What comes beyond is
//! dropped (drop-tail) and counted as `overflow`, apart from the losses that the settings ask for.

use std::{cmp::Reverse, collections::BinaryHeap, sync::Arc};

use serde::Serialize;

use crate::{
    clock::WorldTime,
    emulator::histogram::{Histogram, Quantiles},
    network::{Direction, Fate, Loss, Trace, Weather},
    random::Random,
};

/// Most packets on their way at once: a second of gigabit audio nobody sends.
pub const MAX_PACKETS: usize = 65_536;
/// Most bytes on their way at once.
pub const MAX_BYTES: usize = 64 << 20;

/// Which way a packet goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From side A to side B.
    AToB = 0,
    /// From side B to side A.
    BToA = 1,
}

/// A packet that is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Departure<T> {
    /// Where it goes.
    pub to: T,
    /// Which way.
    pub way: Way,
    /// What it carries.
    pub bytes: Vec<u8>,
    /// When it was to leave, ns on the caller's clock.
    pub due_ns: u64,
}

/// What one direction of a line does.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Its parameters.
    pub weather: Weather,
    /// A recorded path that it replays as well.
    pub trace: Option<Arc<Trace>>,
}

/// What became of the packets of one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Packets that came in.
    pub packets: u64,
    /// Octets of these as IP packets.
    pub octets: u64,
    /// Lost by the path, as the settings say.
    pub lost: u64,
    /// Dropped because the bottleneck's queue was full.
    pub queue_full: u64,
    /// Dropped because they were larger than the MTU.
    pub too_large: u64,
    /// Left after a packet that had come later, as RFC 4737 counts reordering.
    pub reordered: u64,
    /// Left twice.
    pub duplicated: u64,
    /// Left with a bit flipped.
    pub damaged: u64,
    /// Runs of packets lost by the path one after the other.
    pub loss_runs: u64,
    /// Refused by the emulator itself, whose own bound was reached. Anything but 0 spoils a measurement.
    pub overflow: u64,
}

impl Counts {
    /// The share of packets lost by the path.
    pub fn loss(&self) -> f64 {
        self.lost as f64 / self.packets.max(1) as f64
    }

    /// Mean number of packets lost in a row; 0 when none was.
    pub fn mean_loss_run(&self) -> f64 {
        self.lost as f64 / self.loss_runs.max(1) as f64
    }
}

/// A path in both directions, with the packets on it.
#[derive(Debug)]
pub struct Line<T> {
    begin_ns: Option<u64>,
    ways: [OneWay; 2],
    on_the_way: BinaryHeap<Reverse<Entry<T>>>,
    bytes: usize,
    entries: u64,
}

#[derive(Debug)]
struct OneWay {
    direction: Direction,
    latest: WorldTime,
    octets: u64,
    in_loss_run: bool,
    loss_runs: u64,
    overflow: u64,
    /// The latest-come packet that has left.
    newest_gone: u64,
    reordered: u64,
    delays: Histogram,
}

/// Ordered by time, then by arrival.
#[derive(Debug)]
struct Entry<T> {
    due_ns: u64,
    number: u64,
    way: Way,
    to: T,
    bytes: Vec<u8>,
    is_copy: bool,
}

impl<T> PartialEq for Entry<T> {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl<T> Eq for Entry<T> {}

impl<T> PartialOrd for Entry<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Entry<T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.due_ns, self.number).cmp(&(other.due_ns, other.number))
    }
}

impl<T: Clone> Line<T> {
    /// A line that does this from A to B and from B to A, all its luck drawn from `seed`.
    pub fn new(settings: [Settings; 2], seed: u64) -> Self {
        let random = Random::new(seed);
        let [there, back] = settings;
        Self {
            begin_ns: None,
            ways: [OneWay::new(there, &random.fork(1)), OneWay::new(back, &random.fork(2))],
            on_the_way: BinaryHeap::new(),
            bytes: 0,
            entries: 0,
        }
    }

    /// A packet has come at `arrived_ns`, in the caller's clock. As an IP packet it has `octets`.
    pub fn handle_packet(&mut self, way: Way, arrived_ns: u64, octets: usize, to: T, bytes: Vec<u8>) {
        let begin_ns = *self.begin_ns.get_or_insert(arrived_ns);
        let fate = self.ways[way as usize].decide(WorldTime(arrived_ns.saturating_sub(begin_ns)), octets);
        let due = |at: WorldTime| begin_ns.saturating_add(at.0);
        match fate {
            Fate::Lost(_) => {}
            Fate::Arrives(at) => self.push(due(at), way, to, bytes, false),
            Fate::ArrivesTwice(at, again) => {
                self.push(due(at), way, to.clone(), bytes.clone(), false);
                self.push(due(again), way, to, bytes, true);
            }
            Fate::ArrivesDamaged(at, damage) => {
                let mut bytes = bytes;
                damage.apply(&mut bytes);
                self.push(due(at), way, to, bytes, false);
            }
        }
    }

    fn push(&mut self, due_ns: u64, way: Way, to: T, bytes: Vec<u8>, is_copy: bool) {
        if self.on_the_way.len() >= MAX_PACKETS || self.bytes + bytes.len() > MAX_BYTES {
            self.ways[way as usize].overflow += 1;
            return;
        }
        self.bytes += bytes.len();
        self.entries += 1;
        self.on_the_way.push(Reverse(Entry { due_ns, number: self.entries, way, to, bytes, is_copy }));
    }

    /// When the next packet is to leave, ns.
    pub fn next_departure(&self) -> Option<u64> {
        self.on_the_way.peek().map(|Reverse(entry)| entry.due_ns)
    }

    /// The next packet that is due by `now_ns`.
    pub fn poll_departure(&mut self, now_ns: u64) -> Option<Departure<T>> {
        if self.next_departure()? > now_ns {
            return None;
        }
        let Reverse(Entry { due_ns, number, way, to, bytes, is_copy }) = self.on_the_way.pop()?;
        self.bytes = self.bytes.saturating_sub(bytes.len());
        let one_way = &mut self.ways[way as usize];
        one_way.reordered += u64::from(!is_copy && number < one_way.newest_gone);
        one_way.newest_gone = one_way.newest_gone.max(number);
        Some(Departure { to, way, bytes, due_ns })
    }

    /// What became of the packets of one direction.
    pub fn counts(&self, way: Way) -> Counts {
        self.ways[way as usize].counts()
    }

    /// The delays that the settings gave the packets of one direction, ms.
    pub fn delays(&self, way: Way) -> Quantiles {
        self.ways[way as usize].delays.quantiles()
    }
}

impl OneWay {
    fn new(Settings { weather, trace }: Settings, random: &Random) -> Self {
        let begin = WorldTime(0);
        Self {
            direction: match trace {
                Some(trace) => Direction::replay(trace, weather, random, begin),
                None => Direction::new(weather, random, begin),
            },
            latest: begin,
            octets: 0,
            in_loss_run: false,
            loss_runs: 0,
            overflow: 0,
            newest_gone: 0,
            reordered: 0,
            // 10 us steps up to 2 s.
            delays: Histogram::new(10_000, 200_000),
        }
    }

    fn decide(&mut self, now: WorldTime, octets: usize) -> Fate {
        // Two sockets are read one after the other, so that arrivals may be told slightly out of order; the
        // model wants them in order.
        let now = now.max(self.latest);
        self.latest = now;
        self.octets += octets as u64;
        let fate = self.direction.send(now, octets);
        let lost = fate == Fate::Lost(Loss::Path);
        self.loss_runs += u64::from(lost && !self.in_loss_run);
        self.in_loss_run = lost;
        if let Some(at) = fate.arrival() {
            self.delays.add(at.0.saturating_sub(now.0));
        }
        fate
    }

    fn counts(&self) -> Counts {
        let seen = self.direction.counters();
        Counts {
            packets: seen.sent,
            octets: self.octets,
            lost: seen.lost,
            queue_full: seen.dropped,
            too_large: seen.too_large,
            reordered: self.reordered,
            duplicated: seen.doubled,
            damaged: seen.damaged,
            loss_runs: self.loss_runs,
            overflow: self.overflow,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(weather: Weather, seed: u64) -> Line<()> {
        let settings = Settings { weather, trace: None };
        Line::new([settings.clone(), settings], seed)
    }

    /// Everything that leaves of `packets` packets, a millisecond apart, of which the first comes at `begin_ns`.
    fn departures(line: &mut Line<()>, begin_ns: u64, packets: u64) -> Vec<(u64, Vec<u8>)> {
        for number in 0..packets {
            let bytes = number.to_be_bytes().to_vec();
            line.handle_packet(Way::AToB, begin_ns + number * 1_000_000, 100, (), bytes);
        }
        std::iter::from_fn(|| line.poll_departure(u64::MAX)).map(|d| (d.due_ns - begin_ns, d.bytes)).collect()
    }

    #[test]
    fn the_same_seed_decides_the_same_whenever_the_first_packet_comes() {
        let weather = Weather { loss: 0.1, duplicate: 0.1, corrupt: 0.1, ..Weather::wifi() };
        let first = departures(&mut line(weather, 7), 5, 2_000);
        assert_eq!(first, departures(&mut line(weather, 7), 123_456_789_000, 2_000));
        assert_ne!(first, departures(&mut line(weather, 8), 5, 2_000));
    }

    #[test]
    fn the_two_directions_have_luck_of_their_own() {
        let mut line = line(Weather { loss: 0.5, ..Weather::calm(1.0) }, 1);
        for number in 0..64 {
            line.handle_packet(Way::AToB, number, 100, (), vec![0, number as u8]);
            line.handle_packet(Way::BToA, number, 100, (), vec![1, number as u8]);
        }
        let out: Vec<Vec<u8>> =
            std::iter::from_fn(|| line.poll_departure(u64::MAX)).map(|d| d.bytes).collect();
        let of = |side| out.iter().filter(|b| b[0] == side).map(|b| b[1]).collect::<Vec<u8>>();
        assert_ne!(of(0), of(1));
        assert_eq!(line.counts(Way::AToB).packets, 64);
        assert_eq!(line.counts(Way::BToA).packets - line.counts(Way::BToA).lost, of(1).len() as u64);
    }

    #[test]
    fn nothing_leaves_before_it_is_due() {
        let mut line = line(Weather::calm(2.0), 1);
        line.handle_packet(Way::AToB, 1_000, 100, (), vec![1]);
        assert_eq!(line.next_departure(), Some(2_001_000));
        assert_eq!(line.poll_departure(2_000_999), None);
        assert_eq!(line.poll_departure(2_001_000).unwrap().bytes, [1]);
        assert_eq!(line.next_departure(), None);
    }

    #[test]
    fn more_than_the_bound_is_dropped_and_counted_apart() {
        let mut line = line(Weather::calm(1_000.0), 1);
        for _ in 0..MAX_PACKETS + 3 {
            line.handle_packet(Way::AToB, 0, 29, (), vec![1]);
        }
        assert_eq!((line.counts(Way::AToB).overflow, line.counts(Way::AToB).lost), (3, 0));
        while line.poll_departure(u64::MAX).is_some() {}
        for _ in 0..MAX_BYTES / 65_000 + 1 {
            line.handle_packet(Way::BToA, 0, 65_028, (), vec![0; 65_000]);
        }
        assert_eq!(line.counts(Way::BToA).overflow, 1);
    }

    #[test]
    fn packets_told_out_of_order_are_taken_as_simultaneous() {
        let mut line = line(Weather::calm(1.0), 1);
        line.handle_packet(Way::AToB, 10_000, 29, (), vec![1]);
        line.handle_packet(Way::AToB, 4_000, 29, (), vec![2]);
        let out: Vec<_> =
            std::iter::from_fn(|| line.poll_departure(u64::MAX)).map(|d| (d.due_ns, d.bytes[0])).collect();
        assert_eq!(out, [(1_010_000, 1), (1_010_000, 2)]);
    }
}
