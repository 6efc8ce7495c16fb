//! The virtual network: paths with weather, cuts, and the connections that live on them.
//!
//! A connection carries what the real transport's does: two ordered reliable streams, `control` and
//! `project`, and lossy datagrams. Loss on the path delays a stream's frames instead of dropping them, as
//! QUIC's retransmissions would; a cut holds them back until the path heals or the connection's idle timeout
//! ends it on both sides, each for itself. The network answers with arrivals in world time; the world queues
//! them as events.
//!
//! Whom to dial and when is for the nodes' meshes to decide; the network answers whether a first packet gets there
//! ([`Network::knock`]) and carries as many connections between two hosts as they make.
//!
//! Limits: a large frame of a stream meets the path's luck once, and enters its queue a packet at a time as an ideal congestion
//! control would. NATs are asked when a connection is made and when an end or a box changes, not for every packet:
//! living connections are taken to keep their mappings alive, which QUIC's keep-alives do.

pub mod direction;
pub mod nat;
mod preset;
pub mod site;
pub mod trace;
pub mod weather;

use std::{collections::BTreeMap, net::SocketAddrV4, sync::Arc, time::Duration};

use self::site::Map;
pub use self::{
    direction::{Damage, Direction, Fate, Loss},
    nat::NatKind,
    site::{Meeting, Site, SiteId},
    trace::Trace,
    weather::Weather,
};
use crate::{clock::WorldTime, random::Random};

/// A host's number in its world.
pub type HostId = usize;

/// Silence after which a connection ends, as the transport's idle timeout.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(4);
/// What a lost packet adds to the round trip before it is sent again: QUIC's acknowledgement delay.
const ACK_DELAY: Duration = Duration::from_millis(25);
/// Frames that may wait for a cut to heal, per direction; further ones end the connection. The transport
/// bounds its send queues likewise.
const MAX_HELD_FRAMES: usize = 1024;
/// What IPv4 and UDP add to what is sent, octets.
pub const UDP_OVERHEAD: usize = 20 + 8;
/// What QUIC adds as well: short header with an 8-octet connection id, packet number, frame header, AEAD tag.
pub const WIRE_OVERHEAD: usize = UDP_OVERHEAD + 1 + 8 + 2 + 3 + 16;
/// The largest piece of a stream that goes into one packet, octets.
const STREAM_PACKET: usize = 1_200;
/// Longest row of losses a retransmission meets before the network lets it through.
const MAX_RETRANSMISSIONS: u32 = 8;

/// What a first packet of a handshake and its answer are filled up to, octets (RFC 9000, section 14.1).
const HANDSHAKE_PACKET: usize = 1_200;

/// One of the two streams of a connection, or what stands at the beginning of the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Channel {
    /// The mesh's hello, with which each end of the control stream begins.
    Greeting,
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
    /// Of the lost ones, how many found the queue of the bottleneck full.
    pub dropped: u64,
    /// How many were larger than the path's MTU.
    pub too_large: u64,
    /// How many were damaged, and so discarded.
    pub damaged: u64,
    /// How many were delivered twice.
    pub doubled: u64,
    /// Frames of streams handed in.
    pub frames: u64,
}

#[derive(Debug)]
struct Connection {
    ends: (HostId, HostId),
    meeting: Meeting,
    /// Since when none of its packets gets through, because an address or a box has changed.
    dead_since: Option<WorldTime>,
    /// Latest arrival on each stream, by sender and channel: order is kept.
    latest: BTreeMap<(HostId, Channel), WorldTime>,
    held: Vec<Frame>,
}

/// All paths and connections.
pub struct Network {
    directions: BTreeMap<(HostId, HostId), Direction>,
    traffic: Traffic,
    map: Map,
    /// Directions that are cut, with the time since.
    cuts: BTreeMap<(HostId, HostId), WorldTime>,
    /// Hosts that no packet reaches or leaves, with the time since.
    asleep: BTreeMap<HostId, WorldTime>,
    connections: BTreeMap<ConnectionId, Connection>,
    next: u64,
    /// Largest number of frames that waited for one connection, ever.
    most_held: usize,
}

impl Network {
    /// Paths with `weather` between all pairs of hosts, which are on these local networks, one each.
    pub fn new(hosts: &[SiteId], sites: &[Site], weather: Weather, random: &Random) -> Self {
        let mut network = Self {
            directions: BTreeMap::new(),
            traffic: Traffic::default(),
            map: Map::new(sites, hosts, &random.fork(u64::MAX)),
            cuts: BTreeMap::new(),
            asleep: BTreeMap::new(),
            connections: BTreeMap::new(),
            next: 0,
            most_held: 0,
        };
        for a in 0..hosts.len() {
            for b in (0..hosts.len()).filter(|b| *b != a) {
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

    /// Lets both directions between `a` and `b` do what a recorded path did, from the record's beginning.
    pub fn replay(&mut self, now: WorldTime, a: HostId, b: HostId, trace: &Arc<Trace>, random: &Random) {
        for (from, to) in [(a, b), (b, a)] {
            let beside = self.directions.get(&(from, to)).map_or(Weather::calm(0.0), |path| *path.weather());
            let own = random.fork((from as u64) << 32 | to as u64);
            self.directions.insert((from, to), Direction::replay(trace.clone(), beside, &own, now));
        }
    }

    /// Cuts the direction from `a` to `b`.
    pub fn cut(&mut self, now: WorldTime, a: HostId, b: HostId) {
        self.cuts.entry((a, b)).or_insert(now);
    }

    /// Ends the cut from `a` to `b`. What it held back is for [`Self::release`] to give.
    pub fn mend(&mut self, a: HostId, b: HostId) {
        self.cuts.remove(&(a, b));
    }

    /// All cuts end.
    pub fn heal(&mut self) {
        self.cuts.clear();
    }

    /// No packet reaches or leaves the host, or all do again.
    pub fn sleep(&mut self, now: WorldTime, host: HostId, asleep: bool) {
        if asleep {
            self.asleep.entry(host).or_insert(now);
        } else {
            self.asleep.remove(&host);
        }
    }

    /// Frames that no cut holds back any more, with the time they arrive.
    pub fn release(&mut self, now: WorldTime) -> Vec<(WorldTime, Frame)> {
        let mut free = vec![];
        for connection in self.connections.values_mut().filter(|connection| connection.dead_since.is_none()) {
            let blocked = |from: HostId, to: HostId| {
                self.cuts.contains_key(&(from, to))
                    || self.asleep.contains_key(&from)
                    || self.asleep.contains_key(&to)
            };
            let (held, released) =
                std::mem::take(&mut connection.held).into_iter().partition(|f: &Frame| blocked(f.from, f.to));
            connection.held = held;
            free.extend::<Vec<Frame>>(released);
        }
        free.into_iter().filter_map(|frame| Some((self.time_frame(now, &frame)?, frame))).collect()
    }

    /// Whether packets get through both ways, as far as cuts and sleep are concerned.
    pub fn is_open(&self, a: HostId, b: HostId) -> bool {
        self.blocked_since(a, b).is_none() && self.blocked_since(b, a).is_none()
    }

    /// Whether two hosts can have a connection at all: there is no cut, and their NATs let them meet.
    pub fn can_meet(&self, a: HostId, b: HostId) -> bool {
        let (Some(site_a), Some(site_b)) = (self.map.site(a), self.map.site(b)) else { return false };
        let nats = (self.map.nat(site_a), self.map.nat(site_b));
        let meet = match nats {
            (Some(one), Some(other)) if site_a != site_b => one.kind().lets_meet(other.kind()),
            _ => true,
        };
        meet && self.is_open(a, b)
    }

    /// Since when nothing gets from `a` to `b`, if so.
    fn blocked_since(&self, a: HostId, b: HostId) -> Option<WorldTime> {
        let causes = [self.cuts.get(&(a, b)), self.asleep.get(&a), self.asleep.get(&b)];
        causes.into_iter().flatten().min().copied()
    }

    /// Since when nothing gets through in one of the directions of a connection, if so.
    pub fn silent_since(&self, connection: ConnectionId) -> Option<WorldTime> {
        let it = self.connections.get(&connection)?;
        let (a, b) = it.ends;
        [self.blocked_since(a, b), self.blocked_since(b, a), it.dead_since].into_iter().flatten().min()
    }

    /// The connections of which nothing gets through in one direction or both since `now` exactly.
    pub fn silenced_at(&self, now: WorldTime) -> Vec<ConnectionId> {
        let all = self.connections.keys().copied();
        all.filter(|connection| self.silent_since(*connection) == Some(now)).collect()
    }

    /// `client` sends the first packet of a handshake to an address, behind which it hopes to find `wanted`; the answer
    /// says whom it would reach, if anybody. Where `wanted` is behind a box, whoever told the address has it send to the
    /// client as well, which opens the box (a hole punch).
    pub fn knock(
        &mut self,
        now: WorldTime,
        client: HostId,
        to: SocketAddrV4,
        wanted: Option<HostId>,
    ) -> Option<Meeting> {
        self.refresh(now);
        let met = self.map.knock(now, client, to, wanted);
        met.filter(|meeting| self.is_open(meeting.client, meeting.server))
    }

    /// Sends one packet of a handshake; the answer says when it arrives, if it does.
    pub fn send_handshake(&mut self, now: WorldTime, from: HostId, to: HostId) -> Option<WorldTime> {
        self.send_unprotected(now, from, to, HANDSHAKE_PACKET).arrival()
    }

    /// The address a host itself sees.
    pub fn address(&self, host: HostId) -> Option<SocketAddrV4> {
        self.map.address(host)
    }

    /// Under which address a server on the public network sees a host.
    pub fn observed_address(&mut self, now: WorldTime, host: HostId) -> Option<SocketAddrV4> {
        self.map.observed(now, host)
    }

    /// The local network a host is on: others there hear its multicast.
    pub fn site(&self, host: HostId) -> Option<SiteId> {
        self.map.site(host)
    }

    /// The host gets another address, on the same local network or another. Returns the connections whose client is
    /// seen under another address from now on.
    pub fn move_host(&mut self, now: WorldTime, host: HostId, site: SiteId) -> Vec<(ConnectionId, Meeting)> {
        self.refresh(now);
        self.map.place(host, site);
        self.follow(now)
    }

    /// The NAT of a local network forgets all. Returns what [`Self::move_host`] does.
    pub fn reboot_nat(&mut self, now: WorldTime, site: SiteId) -> Vec<(ConnectionId, Meeting)> {
        self.map.reboot_nat(site);
        self.follow(now)
    }

    /// What living connections send keeps their mappings alive.
    fn refresh(&mut self, now: WorldTime) {
        for connection in self.connections.values().filter(|connection| connection.dead_since.is_none()) {
            self.map.follow(now, connection.meeting);
        }
    }

    /// Something has changed on the way: each connection goes on by another, or is dead from now on.
    fn follow(&mut self, now: WorldTime) -> Vec<(ConnectionId, Meeting)> {
        let mut moved = vec![];
        for (id, connection) in &mut self.connections {
            match self.map.follow(now, connection.meeting) {
                Some(meeting) => {
                    if meeting.client_address != connection.meeting.client_address {
                        moved.push((*id, meeting));
                    }
                    connection.meeting = meeting;
                }
                None => {
                    connection.dead_since.get_or_insert(now);
                }
            }
        }
        moved
    }

    /// Opens a connection, beside others that the two hosts may have.
    pub fn connect(&mut self, meeting: Meeting) -> ConnectionId {
        let ends = pair(meeting.client, meeting.server);
        let id = ConnectionId(self.next);
        self.next += 1;
        let connection =
            Connection { ends, meeting, dead_since: None, latest: BTreeMap::new(), held: vec![] };
        self.connections.insert(id, connection);
        id
    }

    /// All connections of a host.
    pub fn connections_of(&self, host: HostId) -> Vec<ConnectionId> {
        let its = self.connections.iter().filter(|(_, it)| it.ends.0 == host || it.ends.1 == host);
        its.map(|(id, _)| *id).collect()
    }

    /// The two ends of a connection, if it still exists.
    pub fn ends(&self, connection: ConnectionId) -> Option<(HostId, HostId)> {
        self.connections.get(&connection).map(|connection| connection.ends)
    }

    /// Ends a connection; frames under way are lost. Returns its ends if it existed.
    pub fn disconnect(&mut self, connection: ConnectionId) -> Option<(HostId, HostId)> {
        Some(self.connections.remove(&connection)?.ends)
    }

    /// Sends a frame; the answer says when it reaches the far end. `None`: no connection.
    pub fn send_frame(&mut self, now: WorldTime, frame: &Frame) -> Option<WorldTime> {
        self.traffic.frames += 1;
        self.time_frame(now, frame)
    }

    /// A frame has come to the far end.
    pub fn arrive(&mut self, frame: Frame) -> Arrival {
        let cut = self.blocked_since(frame.from, frame.to).is_some();
        let Some(connection) = self.connections.get_mut(&frame.connection) else { return Arrival::Withheld };
        if cut || connection.dead_since.is_some() {
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

    /// Sends a datagram of `octets` over a connection; the answer says when it arrives, none to two times. A damaged one
    /// is lost: QUIC discards what its AEAD does not vouch for.
    pub fn send_datagram(
        &mut self,
        now: WorldTime,
        connection: ConnectionId,
        from: HostId,
        to: HostId,
        octets: usize,
    ) -> Fate {
        self.traffic.sent += 1;
        let connection = self.connections.get(&connection);
        let dead = connection.is_some_and(|connection| connection.dead_since.is_some());
        let fate = match self.transmit(now, from, to, octets + WIRE_OVERHEAD) {
            _ if dead => Fate::Lost(Loss::Cut),
            Fate::ArrivesDamaged(..) => Fate::Lost(Loss::Damage),
            fate => fate,
        };
        let traffic = &mut self.traffic;
        match fate {
            Fate::Lost(loss) => {
                traffic.lost += 1;
                match loss {
                    Loss::Queue => traffic.dropped += 1,
                    Loss::Size => traffic.too_large += 1,
                    Loss::Damage => traffic.damaged += 1,
                    Loss::Path | Loss::Cut => {}
                }
            }
            Fate::ArrivesTwice(..) => traffic.doubled += 1,
            Fate::Arrives(_) | Fate::ArrivesDamaged(..) => {}
        }
        fate
    }

    /// Sends a UDP datagram of `octets` that nothing protects, as mDNS and Link do: a damaged one arrives, for
    /// [`Damage::apply`] to show what of it.
    pub fn send_unprotected(&mut self, now: WorldTime, from: HostId, to: HostId, octets: usize) -> Fate {
        self.transmit(now, from, to, octets + UDP_OVERHEAD)
    }

    fn transmit(&mut self, now: WorldTime, from: HostId, to: HostId, octets: usize) -> Fate {
        let Some(direction) = self.directions.get_mut(&(from, to)) else { return Fate::Lost(Loss::Cut) };
        let fate = direction.send(now, octets);
        if self.blocked_since(from, to).is_some() { Fate::Lost(Loss::Cut) } else { fate }
    }

    /// Packets so far.
    pub fn traffic(&self) -> Traffic {
        self.traffic
    }

    /// Largest number of frames that ever waited for one connection, with the bound on it.
    pub fn most_held(&self) -> (usize, usize) {
        (self.most_held, MAX_HELD_FRAMES)
    }

    /// The shortest time from `from` to `to`.
    pub fn one_way(&self, from: HostId, to: HostId) -> Duration {
        let shortest_ms = self.directions.get(&(from, to)).map_or(0.0, |path| path.shortest_ms());
        Duration::from_secs_f64(shortest_ms / 1e3)
    }

    fn round_trip(&self, a: HostId, b: HostId) -> Duration {
        self.one_way(a, b) + self.one_way(b, a)
    }

    fn time_frame(&mut self, now: WorldTime, frame: &Frame) -> Option<WorldTime> {
        let retry = self.round_trip(frame.from, frame.to) + ACK_DELAY;
        let connection = self.connections.get_mut(&frame.connection)?;
        let direction = self.directions.get_mut(&(frame.from, frame.to))?;
        let octets = frame.bytes.len().min(STREAM_PACKET) + WIRE_OVERHEAD;
        let rest = frame.bytes.len().saturating_sub(STREAM_PACKET);
        let kbps = direction.weather().rate.kbps;
        let mut late = Duration::ZERO;
        if kbps > 0.0 {
            late = Duration::from_secs_f64(rest as f64 * 8.0 / (kbps * 1e3));
        }
        let arrival = match direction.send(now, octets) {
            Fate::Arrives(at) | Fate::ArrivesTwice(at, _) => at,
            Fate::Lost(_) | Fate::ArrivesDamaged(..) => {
                late += retry;
                let more = (1..MAX_RETRANSMISSIONS).take_while(|_| direction.loses_again()).count();
                late += retry * u32::try_from(more).unwrap_or(MAX_RETRANSMISSIONS);
                now + Duration::from_secs_f64(direction.shortest_ms() / 1e3)
            }
        };
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
    use std::net::Ipv4Addr;

    use super::*;

    const MEETING: Meeting = Meeting {
        client: 0,
        server: 1,
        server_address: SocketAddrV4::new(Ipv4Addr::new(11, 0, 0, 11), site::PORT),
        client_address: SocketAddrV4::new(Ipv4Addr::new(11, 0, 0, 10), site::PORT),
    };

    /// No connection's number.
    const NONE: ConnectionId = ConnectionId(u64::MAX);

    fn pair_on(weather: Weather) -> Network {
        Network::new(&[0, 0], &[], weather, &Random::new(3))
    }

    fn frame(connection: ConnectionId, number: u8) -> Frame {
        Frame { connection, from: 0, to: 1, channel: Channel::Control, bytes: vec![number] }
    }

    #[test]
    fn a_stream_keeps_its_order_whatever_the_weather() {
        let weather = Weather { loss: 0.2, reorder: 0.3, reorder_ms: 50.0, ..Weather::internet_bad() };
        let mut network = pair_on(weather);
        let connection = network.connect(MEETING);
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
        let mut network = pair_on(Weather::lan());
        let connection = network.connect(MEETING);
        network.cut(WorldTime(0), 0, 1);
        for number in 0..3 {
            assert!(matches!(network.arrive(frame(connection, number)), Arrival::Withheld));
        }
        assert!(network.release(WorldTime(4_000)).is_empty(), "still cut");
        network.mend(0, 1);
        let healed = network.release(WorldTime(5_000));
        let order: Vec<u8> = healed.iter().map(|(_, frame)| frame.bytes[0]).collect();
        assert_eq!(order, [0, 1, 2]);
        assert!(healed.is_sorted_by_key(|(at, _)| *at));
    }

    #[test]
    fn frames_of_a_connection_that_is_gone_never_arrive() {
        let mut network = pair_on(Weather::lan());
        let old = network.connect(MEETING);
        let young = network.connect(MEETING);
        assert!(matches!(network.arrive(frame(old, 0)), Arrival::Delivered(_)), "there may be two");
        network.disconnect(old);
        assert_eq!(network.connections_of(1), [young]);
        assert!(matches!(network.arrive(frame(old, 0)), Arrival::Withheld));
        assert_eq!(network.send_frame(WorldTime(0), &frame(old, 0)), None);
    }

    #[test]
    fn datagrams_do_not_cross_a_cut_and_are_counted() {
        let mut network = pair_on(Weather::lan());
        network.cut(WorldTime(0), 0, 1);
        assert_eq!(network.send_datagram(WorldTime(0), NONE, 0, 1, 50), Fate::Lost(Loss::Cut));
        assert_eq!(network.traffic(), Traffic { sent: 1, lost: 1, ..Traffic::default() });
    }

    #[test]
    fn a_cut_of_one_direction_leaves_the_other_open() {
        let mut network = pair_on(Weather::lan());
        let connection = network.connect(MEETING);
        network.cut(WorldTime(7), 0, 1);
        assert_eq!(network.send_datagram(WorldTime(8), connection, 0, 1, 50), Fate::Lost(Loss::Cut));
        assert!(network.send_datagram(WorldTime(8), connection, 1, 0, 50).arrival().is_some());
        assert_eq!(network.silenced_at(WorldTime(7)), [connection]);
        assert!(!network.is_open(1, 0), "no handshake gets through");
    }

    #[test]
    fn what_is_sent_to_a_sleeping_host_waits_and_its_datagrams_are_lost() {
        let mut network = pair_on(Weather::lan());
        let connection = network.connect(MEETING);
        network.sleep(WorldTime(0), 1, true);
        assert_eq!(network.send_datagram(WorldTime(1), connection, 0, 1, 50), Fate::Lost(Loss::Cut));
        assert!(matches!(network.arrive(frame(connection, 0)), Arrival::Withheld));
        network.sleep(WorldTime(2), 1, false);
        assert_eq!(network.release(WorldTime(3)).len(), 1);
    }

    #[test]
    fn a_connection_dies_with_its_servers_address_and_follows_its_client() {
        let mut network = pair_on(Weather::lan());
        let meeting = network.knock(WorldTime(0), 0, MEETING.server_address, Some(1)).unwrap();
        assert_eq!(meeting, MEETING);
        let connection = network.connect(meeting);
        network.move_host(WorldTime(10), meeting.client, 0);
        assert_eq!(network.silent_since(connection), None);
        network.move_host(WorldTime(20), meeting.server, 0);
        assert_eq!(network.silenced_at(WorldTime(20)), [connection]);
        assert_eq!(network.send_datagram(WorldTime(21), connection, 0, 1, 50), Fate::Lost(Loss::Cut));
        let there = network.address(meeting.server).unwrap();
        let anew = network.knock(WorldTime(30), 0, there, Some(1)).unwrap();
        let anew = network.connect(anew);
        assert!(network.send_datagram(WorldTime(31), anew, 0, 1, 50).arrival().is_some());
    }

    #[test]
    fn what_is_lost_is_counted_by_its_cause() {
        let rate = weather::Rate { kbps: 1_000.0, queue: 2_000 };
        let weather = Weather { rate, mtu: 1_000, corrupt: 1.0, ..Weather::calm(1.0) };
        let mut network = pair_on(weather);
        let send = |network: &mut Network, octets| network.send_datagram(WorldTime(0), NONE, 0, 1, octets);
        assert_eq!(send(&mut network, 1_000), Fate::Lost(Loss::Size));
        assert_eq!(send(&mut network, 900), Fate::Lost(Loss::Damage));
        assert_eq!(send(&mut network, 900), Fate::Lost(Loss::Damage));
        assert_eq!(send(&mut network, 900), Fate::Lost(Loss::Queue));
        let counted = network.traffic();
        assert_eq!((counted.too_large, counted.damaged, counted.dropped, counted.lost), (1, 2, 1, 4));
        assert!(matches!(
            network.send_unprotected(WorldTime(1_000_000_000), 0, 1, 100),
            Fate::ArrivesDamaged(..)
        ));
    }

    #[test]
    fn a_large_frame_takes_the_time_that_the_rate_gives_it() {
        let rate = weather::Rate { kbps: 8_000.0, queue: 100_000 };
        let mut network = pair_on(Weather { rate, ..Weather::calm(1.0) });
        let connection = network.connect(MEETING);
        let mut large = frame(connection, 0);
        large.bytes = vec![0; 1_000_000];
        let took = network.send_frame(WorldTime(0), &large).unwrap().as_seconds();
        assert!((1.0..1.01).contains(&took), "{took} s for a megabyte at a megabyte a second");
    }
}
