//! The virtual network: paths with weather, cuts, and the connections that live on them.
//!
//! A connection carries what the real transport's does: two ordered reliable streams, `control` and
//! `project`, and lossy datagrams. Loss on the path delays a stream's frames instead of dropping them, as
//! QUIC's retransmissions would; a cut holds them back until the path heals or the connection's idle timeout
//! ends it on both sides, each for itself. The network answers with arrivals in world time; the world queues
//! them as events.
//!
//! Limits: whom to dial and when is decided here by a fixed rhythm ([`REDIAL`]), not yet by the mesh core;
//! links have no rate limit, NATs and addresses do not exist.

pub mod direction;
mod preset;
pub mod trace;
pub mod weather;

use std::{collections::BTreeMap, time::Duration};

pub use self::{
    direction::{Damage, Direction, Fate, Loss},
    trace::Trace,
    weather::Weather,
};
use crate::{clock::WorldTime, random::Random};

/// A host's number in its world.
pub type HostId = usize;

/// Silence after which a connection ends, as the transport's idle timeout.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(4);
/// Mean time between two attempts to connect two hosts: what discovery and back-off come to on a LAN.
pub const REDIAL: Duration = Duration::from_millis(700);
/// What a lost packet adds to the round trip before it is sent again: QUIC's acknowledgement delay.
const ACK_DELAY: Duration = Duration::from_millis(25);
/// Frames that may wait for a cut to heal, per direction; further ones end the connection. The transport
/// bounds its send queues likewise.
const MAX_HELD_FRAMES: usize = 1024;
/// What IPv4, UDP and QUIC (short header, packet number, AEAD tag, frame header) add to what is sent, octets.
pub const WIRE_OVERHEAD: usize = 20 + 8 + 1 + 8 + 2 + 16 + 3;
/// The largest piece of a stream that goes into one packet, octets.
const STREAM_PACKET: usize = 1_200;
/// Longest row of losses a retransmission meets before the network lets it through.
const MAX_RETRANSMISSIONS: u32 = 8;

/// One of the two streams of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Channel {
    /// Session control frames.
    Control,
    /// Project frames.
    Project,
}

/// A connection's number; never reused in a world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

/// A frame on its way or held back by a cut.
#[derive(Clone, Debug)]
pub struct Frame {
    /// Connection it belongs to.
    pub connection: ConnectionId,
    /// Who sent it.
    pub from: HostId,
    /// Who gets it.
    pub to: HostId,
    /// On which stream.
    pub channel: Channel,
    /// The message.
    pub bytes: Vec<u8>,
}

/// What becomes of a frame that reaches the far end of the path.
#[derive(Debug)]
pub enum Arrival {
    /// It is delivered.
    Delivered(Frame),
    /// Its connection is gone, or the path is cut and it waits.
    Withheld,
    /// So many frames wait for the cut to heal that the connection must end.
    Overflow,
}

/// How many packets the network has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Datagrams handed in.
    pub sent: u64,
    /// Of these, how many the weather or a cut lost.
    pub lost: u64,
    /// How many were delivered twice.
    pub doubled: u64,
    /// Frames of streams handed in.
    pub frames: u64,
}

#[derive(Debug)]
struct Connection {
    ends: (HostId, HostId),
    /// Latest arrival on each stream, by sender and channel: order is kept.
    latest: BTreeMap<(HostId, Channel), WorldTime>,
    held: Vec<Frame>,
}

/// All paths and connections.
pub struct Network {
    directions: BTreeMap<(HostId, HostId), Direction>,
    traffic: Traffic,
    /// Directions that are cut, with the time since.
    cuts: BTreeMap<(HostId, HostId), WorldTime>,
    connections: BTreeMap<ConnectionId, Connection>,
    by_pair: BTreeMap<(HostId, HostId), ConnectionId>,
    next: u64,
    random: Random,
    /// Largest number of frames that waited for one connection, ever.
    most_held: usize,
}

impl Network {
    /// Paths with `weather` between all pairs of `hosts` hosts.
    pub fn new(hosts: usize, weather: Weather, random: &Random) -> Self {
        let mut network = Self {
            directions: BTreeMap::new(),
            traffic: Traffic::default(),
            cuts: BTreeMap::new(),
            connections: BTreeMap::new(),
            by_pair: BTreeMap::new(),
            next: 0,
            random: random.fork(0),
            most_held: 0,
        };
        for a in 0..hosts {
            for b in (0..hosts).filter(|b| *b != a) {
                network.set_direction(WorldTime(0), a, b, weather, random);
            }
        }
        network
    }

    /// Gives both directions between `a` and `b` other weather.
    pub fn set_weather(&mut self, now: WorldTime, a: HostId, b: HostId, weather: Weather, random: &Random) {
        self.set_direction(now, a, b, weather, random);
        self.set_direction(now, b, a, weather, random);
    }

    fn set_direction(&mut self, now: WorldTime, from: HostId, to: HostId, weather: Weather, random: &Random) {
        let own = random.fork(((from as u64) << 32 | to as u64) ^ now.0.rotate_left(17));
        self.directions.insert((from, to), Direction::new(weather, &own, now));
    }

    /// Cuts both directions between `a` and `b`.
    pub fn cut(&mut self, now: WorldTime, a: HostId, b: HostId) {
        self.cuts.entry((a, b)).or_insert(now);
        self.cuts.entry((b, a)).or_insert(now);
    }

    /// Ends the cut between `a` and `b`. Returns when the frames it held back arrive.
    pub fn heal(&mut self, now: WorldTime, a: HostId, b: HostId) -> Vec<(WorldTime, Frame)> {
        self.cuts.remove(&(a, b));
        self.cuts.remove(&(b, a));
        let held = self
            .connection(a, b)
            .and_then(|id| self.connections.get_mut(&id))
            .map_or_else(Vec::new, |connection| std::mem::take(&mut connection.held));
        held.into_iter().filter_map(|frame| Some((self.time_frame(now, &frame)?, frame))).collect()
    }

    /// Whether packets get through both ways.
    pub fn is_open(&self, a: HostId, b: HostId) -> bool {
        !self.cuts.contains_key(&(a, b)) && !self.cuts.contains_key(&(b, a))
    }

    /// Since when the path from `a` to `b` is cut.
    pub fn cut_since(&self, a: HostId, b: HostId) -> Option<WorldTime> {
        self.cuts.get(&(a, b)).copied()
    }

    /// Opens a connection. An older one of the pair is replaced.
    pub fn connect(&mut self, a: HostId, b: HostId) -> ConnectionId {
        if let Some(old) = self.by_pair.remove(&pair(a, b)) {
            self.connections.remove(&old);
        }
        let id = ConnectionId(self.next);
        self.next += 1;
        self.connections.insert(id, Connection { ends: pair(a, b), latest: BTreeMap::new(), held: vec![] });
        self.by_pair.insert(pair(a, b), id);
        id
    }

    /// The connection between `a` and `b`.
    pub fn connection(&self, a: HostId, b: HostId) -> Option<ConnectionId> {
        self.by_pair.get(&pair(a, b)).copied()
    }

    /// The two ends of a connection, if it still exists.
    pub fn ends(&self, connection: ConnectionId) -> Option<(HostId, HostId)> {
        self.connections.get(&connection).map(|connection| connection.ends)
    }

    /// Ends a connection; frames under way are lost. Returns its ends if it existed.
    pub fn disconnect(&mut self, connection: ConnectionId) -> Option<(HostId, HostId)> {
        let ends = self.connections.remove(&connection)?.ends;
        self.by_pair.remove(&ends);
        Some(ends)
    }

    /// Sends a frame; the answer says when it reaches the far end. `None`: no connection.
    pub fn send_frame(&mut self, now: WorldTime, frame: &Frame) -> Option<WorldTime> {
        self.traffic.frames += 1;
        self.time_frame(now, frame)
    }

    /// A frame has come to the far end.
    pub fn arrive(&mut self, frame: Frame) -> Arrival {
        let cut = self.cuts.contains_key(&(frame.from, frame.to));
        let Some(connection) = self.connections.get_mut(&frame.connection) else { return Arrival::Withheld };
        if cut {
            // Held frames keep their order because all later ones of the stream are held too.
            connection.held.push(frame);
            self.most_held = self.most_held.max(connection.held.len());
            return if connection.held.len() < MAX_HELD_FRAMES {
                Arrival::Withheld
            } else {
                Arrival::Overflow
            };
        }
        Arrival::Delivered(frame)
    }

    /// Sends a datagram of `octets`; the answer says when it arrives, none to two times. A damaged one is lost: QUIC
    /// discards what its AEAD does not vouch for.
    pub fn send_datagram(&mut self, now: WorldTime, from: HostId, to: HostId, octets: usize) -> Fate {
        self.traffic.sent += 1;
        let fate = match self.transmit(now, from, to, octets + WIRE_OVERHEAD) {
            Fate::ArrivesDamaged(..) => Fate::Lost(Loss::Damage),
            fate => fate,
        };
        match fate {
            Fate::Lost(_) => self.traffic.lost += 1,
            Fate::ArrivesTwice(..) => self.traffic.doubled += 1,
            Fate::Arrives(_) | Fate::ArrivesDamaged(..) => {}
        }
        fate
    }

    fn transmit(&mut self, now: WorldTime, from: HostId, to: HostId, octets: usize) -> Fate {
        let Some(direction) = self.directions.get_mut(&(from, to)) else { return Fate::Lost(Loss::Cut) };
        let fate = direction.send(now, octets);
        if self.cuts.contains_key(&(from, to)) { Fate::Lost(Loss::Cut) } else { fate }
    }

    /// Packets so far.
    pub fn traffic(&self) -> Traffic {
        self.traffic
    }

    /// Largest number of frames that ever waited for one connection, with the bound on it.
    pub fn most_held(&self) -> (usize, usize) {
        (self.most_held, MAX_HELD_FRAMES)
    }

    /// A time for the next attempt to connect two hosts.
    pub fn next_dial(&mut self, now: WorldTime) -> WorldTime {
        now + REDIAL.mul_f64(self.random.between(0.2, 1.8))
    }

    /// How long a handshake over this path takes: one and a half round trips.
    pub fn handshake(&self, a: HostId, b: HostId) -> Duration {
        self.round_trip(a, b).mul_f64(1.5)
    }

    fn round_trip(&self, a: HostId, b: HostId) -> Duration {
        let one_way = |from, to| self.directions.get(&(from, to)).map_or(0.0, |path| path.shortest_ms());
        Duration::from_secs_f64((one_way(a, b) + one_way(b, a)) / 1e3)
    }

    fn time_frame(&mut self, now: WorldTime, frame: &Frame) -> Option<WorldTime> {
        let retry = self.round_trip(frame.from, frame.to) + ACK_DELAY;
        let connection = self.connections.get_mut(&frame.connection)?;
        let direction = self.directions.get_mut(&(frame.from, frame.to))?;
        let octets = frame.bytes.len().min(STREAM_PACKET) + WIRE_OVERHEAD;
        let mut late = Duration::ZERO;
        let mut arrival = now;
        for _ in 0..MAX_RETRANSMISSIONS {
            match direction.send(now, octets) {
                Fate::Lost(_) | Fate::ArrivesDamaged(..) => late += retry,
                Fate::Arrives(at) | Fate::ArrivesTwice(at, _) => {
                    arrival = at;
                    break;
                }
            }
        }
        let latest = connection.latest.entry((frame.from, frame.channel)).or_default();
        *latest = (arrival.max(now) + late).max(*latest);
        Some(*latest)
    }
}

fn pair(a: HostId, b: HostId) -> (HostId, HostId) {
    (a.min(b), a.max(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(connection: ConnectionId, number: u8) -> Frame {
        Frame { connection, from: 0, to: 1, channel: Channel::Control, bytes: vec![number] }
    }

    #[test]
    fn a_stream_keeps_its_order_whatever_the_weather() {
        let weather = Weather { loss: 0.2, reorder: 0.3, reorder_ms: 50.0, ..Weather::internet_bad() };
        let mut network = Network::new(2, weather, &Random::new(3));
        let connection = network.connect(0, 1);
        let mut latest = WorldTime(0);
        for number in 0..200 {
            let now = WorldTime(u64::from(number) * 1_000_000);
            let at = network.send_frame(now, &frame(connection, number)).unwrap();
            assert!(at >= latest && at > now);
            latest = at;
        }
    }

    #[test]
    fn a_cut_holds_frames_back_and_healing_delivers_them_in_order() {
        let mut network = Network::new(2, Weather::lan(), &Random::new(3));
        let connection = network.connect(0, 1);
        network.cut(WorldTime(0), 0, 1);
        for number in 0..3 {
            assert!(matches!(network.arrive(frame(connection, number)), Arrival::Withheld));
        }
        let healed = network.heal(WorldTime(5_000), 0, 1);
        let order: Vec<u8> = healed.iter().map(|(_, frame)| frame.bytes[0]).collect();
        assert_eq!(order, [0, 1, 2]);
        assert!(healed.is_sorted_by_key(|(at, _)| *at));
    }

    #[test]
    fn frames_of_a_connection_that_is_gone_never_arrive() {
        let mut network = Network::new(2, Weather::lan(), &Random::new(3));
        let old = network.connect(0, 1);
        network.connect(0, 1);
        assert!(matches!(network.arrive(frame(old, 0)), Arrival::Withheld));
        assert_eq!(network.send_frame(WorldTime(0), &frame(old, 0)), None);
    }

    #[test]
    fn datagrams_do_not_cross_a_cut_and_are_counted() {
        let mut network = Network::new(2, Weather::lan(), &Random::new(3));
        network.cut(WorldTime(0), 0, 1);
        assert_eq!(network.send_datagram(WorldTime(0), 0, 1, 50), Fate::Lost(Loss::Cut));
        assert_eq!(network.traffic(), Traffic { sent: 1, lost: 1, ..Traffic::default() });
    }
}
