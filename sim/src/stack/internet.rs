//! UDP between hosts: addresses, access lines with queues, paths with weather, translators, cuts.
//!
//! A packet goes out through its host's NAT, waits in its host's uplink, crosses the path, waits in the other host's
//! downlink, and passes the other NAT. Lines with a rate have one queue each, first in, first out, which drops what does not
//! fit (tail drop), as the cheap routers do that musicians sit behind.
//!
//! Limits: IPv4 only; a packet above a line's MTU is dropped without a word, so that path MTU discovery has to find out, as
//! behind many firewalls; ECN marks pass unchanged.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Waker,
    time::Duration,
};

use quinn::udp::EcnCodepoint;

use super::{agenda::Agenda, record::Record};
use crate::{
    clock::WorldTime,
    network::{
        Direction, Fate, HostId, Weather,
        nat::{Nat, NatKind},
    },
    random::Random,
};

/// What IPv4 and UDP add to a packet.
const HEADER_BYTES: usize = 28;

/// Packets a socket holds for a reader that does not come; the kernel's default buffer holds about as many full ones.
const MAX_UNREAD: usize = 512;

/// One end of the access line of a host.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Line {
    /// Bits a second; infinite: no queue ever builds up.
    pub rate_bps: f64,
    /// How much can wait, as the time it takes to send it.
    pub queue: Duration,
    /// Longest packet, IP header included.
    pub mtu_bytes: usize,
}

impl Line {
    /// An Ethernet that is never busy.
    pub const FREE: Self = Self { rate_bps: f64::INFINITY, queue: Duration::ZERO, mtu_bytes: 1500 };

    /// A line of so many Mbit/s with a queue of so many ms.
    pub const fn mbit(rate: f64, queue_ms: u64) -> Self {
        Self { rate_bps: rate * 1e6, queue: Duration::from_millis(queue_ms), mtu_bytes: 1500 }
    }
}

/// A line with what waits in it.
#[derive(Clone, Debug)]
struct Queue {
    line: Line,
    free_at: WorldTime,
    dropped: u64,
    longest: Duration,
}

impl Queue {
    fn new(line: Line) -> Self {
        Self { line, free_at: WorldTime(0), dropped: 0, longest: Duration::ZERO }
    }

    /// When a packet that comes now is through, unless the queue is full.
    fn pass(&mut self, now: WorldTime, payload_bytes: usize) -> Option<WorldTime> {
        let bytes = payload_bytes + HEADER_BYTES;
        if bytes > self.line.mtu_bytes {
            return None;
        }
        if self.line.rate_bps.is_infinite() {
            return Some(now);
        }
        let begins = self.free_at.max(now);
        let waits = begins.since(now);
        if waits > self.line.queue {
            self.dropped += 1;
            return None;
        }
        self.longest = self.longest.max(waits);
        self.free_at = begins + Duration::from_nanos((bytes as f64 * 8e9 / self.line.rate_bps) as u64);
        Some(self.free_at)
    }
}

struct HostState {
    address: IpAddr,
    up: Queue,
    down: Queue,
    nat: Option<Nat>,
    next_port: u16,
}

/// A packet that has arrived.
#[derive(Debug)]
pub struct Packet {
    /// Whom it seems to come from.
    pub from: SocketAddr,
    /// The address it was sent to, as the host knows it.
    pub to: IpAddr,
    /// Its mark.
    pub ecn: Option<EcnCodepoint>,
    /// What it carries.
    pub bytes: Vec<u8>,
}

#[derive(Debug, Default)]
struct Inbox {
    packets: VecDeque<Packet>,
    reader: Option<Waker>,
}

/// A socket's number; never used again.
pub type SocketId = u64;

/// A host's port.
type Port = (HostId, u16);

struct State {
    random: Random,
    hosts: Vec<HostState>,
    ports: BTreeMap<Port, SocketId>,
    inboxes: BTreeMap<SocketId, Inbox>,
    next_socket: SocketId,
    weather: Weather,
    paths: BTreeMap<(HostId, HostId), Direction>,
    cut: BTreeSet<(HostId, HostId)>,
    sent: u64,
    lost: u64,
}

/// The whole network. Cheap to clone.
#[derive(Clone)]
pub struct Internet {
    agenda: Agenda,
    record: Record,
    state: Arc<Mutex<State>>,
}

impl std::fmt::Debug for Internet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Internet").finish_non_exhaustive()
    }
}

/// What the network did so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Totals {
    /// Packets sent.
    pub sent: u64,
    /// Of these, lost to weather or a cut.
    pub lost: u64,
    /// Of these, dropped by full queues.
    pub dropped: u64,
    /// The longest wait in a queue.
    pub longest_wait: Duration,
}

impl Internet {
    /// A network without hosts. Its paths take no time until they get some weather.
    pub fn new(agenda: Agenda, record: Record, random: Random) -> Self {
        let state = State {
            random,
            hosts: vec![],
            ports: BTreeMap::new(),
            inboxes: BTreeMap::new(),
            next_socket: 0,
            weather: Weather::calm(0.0),
            paths: BTreeMap::new(),
            cut: BTreeSet::new(),
            sent: 0,
            lost: 0,
        };
        Self { agenda, record, state: Arc::new(Mutex::new(state)) }
    }

    /// Adds a host with an address of its own.
    pub fn add_host(&self, up: Line, down: Line) -> HostId {
        let mut state = self.lock();
        let id = state.hosts.len();
        let address = address_of(id, 1);
        let (up, down) = (Queue::new(up), Queue::new(down));
        state.hosts.push(HostState { address, up, down, nat: None, next_port: 40_000 });
        id
    }

    /// Puts a host behind a translator of its own.
    pub fn set_nat(&self, host: HostId, kind: NatKind) {
        let mut state = self.lock();
        let random = state.random.fork(0x4E41_5400 + host as u64);
        if let Some(state) = state.hosts.get_mut(host) {
            state.address = IpAddr::V4(Ipv4Addr::new(192, 168, host as u8, 2));
            state.nat = Some(Nat::new(kind, v4_of(host, 1), random));
        }
    }

    /// Makes a host's translator lose its mappings.
    pub fn restart_nat(&self, host: HostId) {
        if let Some(nat) = self.lock().hosts.get_mut(host).and_then(|host| host.nat.as_mut()) {
            nat.reboot();
        }
    }

    /// Gives a host another address; returns the old and the new one.
    pub fn move_host(&self, host: HostId, generation: u8) -> Option<(IpAddr, IpAddr)> {
        let mut state = self.lock();
        let host_state = state.hosts.get_mut(host)?;
        let (old, new) = (host_state.address, address_of(host, generation));
        host_state.address = new;
        Some((old, new))
    }

    /// The address a host knows as its own.
    pub fn address(&self, host: HostId) -> IpAddr {
        self.lock().hosts.get(host).map_or(Ipv4Addr::UNSPECIFIED.into(), |host| host.address)
    }

    /// Sets the weather of all paths that have not been used yet.
    pub fn set_weather(&self, weather: Weather) {
        self.lock().weather = weather;
    }

    /// Sets the weather between two hosts, both ways.
    pub fn set_path(&self, a: HostId, b: HostId, weather: Weather) {
        let now = self.agenda.now();
        let mut state = self.lock();
        for (from, to) in [(a, b), (b, a)] {
            let random = state.random.fork(1_000 + path_label(from, to));
            state.paths.insert((from, to), Direction::new(weather, &random, now));
        }
    }

    /// Nothing passes between two hosts from now on, or everything again.
    pub fn set_cut(&self, a: HostId, b: HostId, is_cut: bool) {
        let mut state = self.lock();
        for way in [(a, b), (b, a)] {
            if is_cut {
                state.cut.insert(way);
            } else {
                state.cut.remove(&way);
            }
        }
    }

    /// Whether anything passes between two hosts.
    pub fn is_cut(&self, a: HostId, b: HostId) -> bool {
        self.lock().cut.contains(&(a, b))
    }

    /// What happened so far.
    pub fn totals(&self) -> Totals {
        let state = self.lock();
        let queues = || state.hosts.iter().flat_map(|host| [&host.up, &host.down]);
        Totals {
            sent: state.sent,
            lost: state.lost,
            dropped: queues().map(|queue| queue.dropped).sum(),
            longest_wait: queues().map(|queue| queue.longest).max().unwrap_or_default(),
        }
    }

    /// Opens a port of `host`, or any free one for 0.
    ///
    /// # Errors
    /// [`std::io::ErrorKind::AddrInUse`] if somebody has it.
    pub fn open(&self, host: HostId, port: u16) -> std::io::Result<(SocketId, u16)> {
        let mut state = self.lock();
        let port = match port {
            0 => {
                let host = state.hosts.get_mut(host).ok_or(std::io::ErrorKind::AddrNotAvailable)?;
                host.next_port += 1;
                host.next_port
            }
            port => port,
        };
        if state.ports.contains_key(&(host, port)) {
            return Err(std::io::ErrorKind::AddrInUse.into());
        }
        state.next_socket += 1;
        let id = state.next_socket;
        state.ports.insert((host, port), id);
        state.inboxes.insert(id, Inbox::default());
        Ok((id, port))
    }

    /// Closes a port, if `socket` still has it.
    pub fn close(&self, host: HostId, port: u16, socket: SocketId) {
        let mut state = self.lock();
        if state.ports.get(&(host, port)) == Some(&socket) {
            state.ports.remove(&(host, port));
        }
        state.inboxes.remove(&socket);
    }

    /// Closes all ports of a host whose process was killed. Its sockets hear nothing and say nothing from now on.
    pub fn kill(&self, host: HostId) {
        let mut state = self.lock();
        let killed: Vec<_> =
            state.ports.range((host, 0)..=(host, u16::MAX)).map(|(port, id)| (*port, *id)).collect();
        for (port, socket) in killed {
            state.ports.remove(&port);
            state.inboxes.remove(&socket);
        }
    }

    /// Sends one packet from a host's port.
    pub fn send(
        &self,
        from: (HostId, u16, SocketId),
        to: SocketAddr,
        ecn: Option<EcnCodepoint>,
        bytes: &[u8],
    ) {
        let now = self.agenda.now();
        let (host, port, socket) = from;
        let mut state = self.lock();
        let state = &mut *state;
        if state.ports.get(&(host, port)) != Some(&socket) {
            return;
        }
        state.sent += 1;
        let Some(sender) = state.hosts.get_mut(host) else { return };
        let inner = SocketAddr::new(sender.address, port);
        let from = match (sender.nat.as_mut(), inner, to) {
            (None, ..) => inner,
            (Some(nat), SocketAddr::V4(inner), SocketAddr::V4(to)) => match nat.outbound(now, inner, to) {
                Some(seen) => seen.into(),
                None => return,
            },
            (Some(_), ..) => return,
        };
        let receiver = state.hosts.iter().position(|host| host.outer_address() == to.ip());
        self.record.note("packet", host, receiver.unwrap_or(usize::MAX), bytes);
        let sender = &mut state.hosts[host];
        let Some(left) = sender.up.pass(now, bytes.len()) else { return };
        let Some(receiver) = receiver else { return };
        let random = state.random.fork(path_label(host, receiver));
        let weather = state.weather;
        let path =
            state.paths.entry((host, receiver)).or_insert_with(|| Direction::new(weather, &random, now));
        let fate = path.send(left, bytes.len() + HEADER_BYTES);
        if state.cut.contains(&(host, receiver)) {
            state.lost += 1;
            return;
        }
        let mut bytes = bytes.to_vec();
        let arrivals = match fate {
            Fate::Lost(_) => {
                state.lost += 1;
                return;
            }
            Fate::Arrives(at) => [Some(at), None],
            Fate::ArrivesTwice(at, again) => [Some(at), Some(again)],
            Fate::ArrivesDamaged(at, damage) => {
                damage.apply(&mut bytes);
                [Some(at), None]
            }
        };
        for at in arrivals.into_iter().flatten() {
            let packet = Packet { from, to: to.ip(), ecn, bytes: bytes.clone() };
            let internet = self.clone();
            self.agenda.at(at, move || internet.handle_at_downlink(receiver, to.port(), packet));
        }
    }

    fn handle_at_downlink(&self, host: HostId, port: u16, packet: Packet) {
        let now = self.agenda.now();
        let mut state = self.lock();
        let Some(receiver) = state.hosts.get_mut(host) else { return };
        // It may have moved while the packet was on its way.
        if receiver.outer_address() != packet.to {
            return;
        }
        let Some(through) = receiver.down.pass(now, packet.bytes.len()) else { return };
        drop(state);
        if through <= now {
            self.deliver(host, port, packet);
        } else {
            let internet = self.clone();
            self.agenda.at(through, move || internet.deliver(host, port, packet));
        }
    }

    fn deliver(&self, host: HostId, mut port: u16, mut packet: Packet) {
        let now = self.agenda.now();
        let mut state = self.lock();
        let state = &mut *state;
        let Some(receiver) = state.hosts.get_mut(host) else { return };
        if let Some(nat) = receiver.nat.as_mut() {
            let SocketAddr::V4(from) = packet.from else { return };
            let Some(inner) = nat.inbound(now, from, port) else { return };
            packet.to = (*inner.ip()).into();
            port = inner.port();
        }
        let Some(socket) = state.ports.get(&(host, port)) else { return };
        let Some(inbox) = state.inboxes.get_mut(socket) else { return };
        if inbox.packets.len() >= MAX_UNREAD {
            return;
        }
        inbox.packets.push_back(packet);
        if let Some(reader) = inbox.reader.take() {
            reader.wake();
        }
    }

    /// The next packet at a socket; if there is none, `reader` is woken when there is.
    pub fn receive(&self, socket: SocketId, reader: &Waker) -> Option<Packet> {
        let mut state = self.lock();
        let inbox = state.inboxes.get_mut(&socket)?;
        let packet = inbox.packets.pop_front();
        if packet.is_none() {
            inbox.reader = Some(reader.clone());
        }
        packet
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl HostState {
    /// The address others reach it at.
    fn outer_address(&self) -> IpAddr {
        self.nat.as_ref().map_or(self.address, |nat| nat.address().into())
    }
}

/// The address of a host after it has moved `generation - 1` times. Each is in a network of its own.
fn address_of(host: HostId, generation: u8) -> IpAddr {
    v4_of(host, generation).into()
}

fn v4_of(host: HostId, generation: u8) -> Ipv4Addr {
    Ipv4Addr::new(203, generation, host as u8, 7)
}

fn path_label(from: HostId, to: HostId) -> u64 {
    (from as u64) << 32 | to as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_sends_at_its_rate_and_drops_what_does_not_fit_its_queue() {
        let mut queue = Queue::new(Line::mbit(8.0, 10));
        // 1 byte a microsecond: a packet of 1000 bytes takes 1 ms.
        let through: Vec<_> =
            (0..20).map_while(|_| queue.pass(WorldTime(0), 1000 - HEADER_BYTES)).map(|at| at.0).collect();
        assert_eq!(through, (1..=11).map(|ms| ms * 1_000_000).collect::<Vec<_>>());
        assert_eq!((queue.dropped, queue.longest), (1, Duration::from_millis(10)));
        assert_eq!(queue.pass(WorldTime(50_000_000), 1000 - HEADER_BYTES), Some(WorldTime(51_000_000)));
        assert_eq!(queue.pass(WorldTime(60_000_000), 1500), None);
    }
}
