//! The mesh of one node: the product's planner, driven as the transport's driver drives it.
//!
//! In the product libp2p and quinn carry out what the planner decides (`transport/src/driver/run.rs`). Here the world does:
//! a dial is an [`Effect`], its outcome an event. Between the two stands what the driver keeps: which connections there
//! are, which one is elected for each peer, and what came on a connection before it was elected.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::{Ipv4Addr, SocketAddrV4},
    time::Duration,
};

use bandmesh::node::session_tag;
use crdt::PeerKey;
use transport::{
    Multiaddr, PeerId, Protocol,
    driver::Channel as Wire,
    mesh::{
        Attempt, ClosedBy, ConnectionKey, DialFailure, Hello, Made, Output, PathKind, Planner, Settings,
        Side, Source,
    },
    time::LocalTime,
};

use super::Effect;
use crate::{
    network::{Channel, ConnectionId},
    random::Random,
};

/// Frames that wait on one connection until it is elected; beyond it the connection is given up. The product holds a
/// stream's window of them.
const MAX_EARLY: usize = 1_024;
/// Length of the prefix that tells which addresses are on a host's own network, bits (`network/site.rs`).
const PREFIX_LEN: u8 = 16;

/// What the rest of the node hears.
pub(super) enum News {
    /// A peer is here; talk to it.
    Connected(PeerKey),
    /// It is gone.
    Disconnected(PeerKey),
    /// It has said something.
    Frame(PeerKey, Channel, Vec<u8>),
    /// For the world.
    Effect(Effect),
}

/// A connection as it was made.
#[derive(Clone, Copy, Debug)]
pub struct Handshake {
    /// Which.
    pub connection: ConnectionId,
    /// Who is at the other end.
    pub peer: PeerKey,
    /// Under which address.
    pub address: SocketAddrV4,
    /// The own address it runs on.
    pub own: Option<Ipv4Addr>,
    /// The dial it came from; `None`: the peer dialled.
    pub attempt: Option<Attempt>,
}

struct Link {
    peer: PeerKey,
    dialled: bool,
    early: VecDeque<(Channel, Vec<u8>)>,
}

/// The mesh of one node.
pub(super) struct Mesh {
    planner: Planner,
    links: BTreeMap<ConnectionId, Link>,
    elected: BTreeMap<PeerKey, ConnectionId>,
    /// Peers on a network that this host is on as well.
    on_lan: BTreeSet<PeerKey>,
    news: VecDeque<News>,
    most_early: usize,
}

impl Mesh {
    /// The mesh of `me`, who plays in this session; knows nobody.
    ///
    /// # Errors
    /// When `me` is no peer id.
    pub(super) fn new(me: &PeerKey, session: &str, mut random: Random) -> Result<Self, String> {
        let settings = Settings {
            local: me.name().parse().map_err(|error| format!("{me:?}: {error}"))?,
            session_tag: session_tag(session),
            instance: random.bits(),
            pinned: false,
            seed: random.bits(),
        };
        Ok(Self {
            planner: Planner::new(settings),
            links: BTreeMap::new(),
            elected: BTreeMap::new(),
            on_lan: BTreeSet::new(),
            news: VecDeque::new(),
            most_early: 0,
        })
    }

    pub(super) fn poll(&mut self) -> Option<News> {
        while let Some(output) = self.planner.poll() {
            self.carry_out(output);
        }
        self.news.pop_front()
    }

    pub(super) fn poll_deadline(&self) -> Option<LocalTime> {
        self.planner.poll_deadline()
    }

    pub(super) fn handle_deadline(&mut self, now: LocalTime) {
        self.planner.handle_deadline(now);
    }

    /// The elected connection to a peer.
    pub(super) fn elected(&self, peer: &PeerKey) -> Option<ConnectionId> {
        self.elected.get(peer).copied()
    }

    /// Whether a peer is on a network that this host is on as well.
    pub(super) fn is_on_lan(&self, peer: &PeerKey) -> bool {
        self.on_lan.contains(peer)
    }

    /// The most frames that ever waited for one connection's election, and how many may.
    pub(super) fn most_early(&self) -> (usize, usize) {
        (self.most_early, MAX_EARLY)
    }

    /// Discovery says that `peer`, who plays in `session`, is at `address`.
    pub(super) fn handle_hint(
        &mut self,
        now: LocalTime,
        peer: &PeerKey,
        session: &str,
        address: SocketAddrV4,
    ) {
        let Some(peer) = id(peer) else { return };
        let addresses = [multiaddr(address)];
        let source = Source::Discovery((*address.ip()).into());
        self.planner.handle_hint(now, source, peer, session_tag(session), &addresses);
    }

    /// Discovery says that `peer` has left.
    pub(super) fn handle_gone(&mut self, peer: &PeerKey) {
        if let Some(peer) = id(peer) {
            self.planner.handle_gone(&peer);
        }
    }

    /// The host has another address than before.
    pub(super) fn handle_address(&mut self, now: LocalTime, before: Option<Ipv4Addr>, own: Ipv4Addr) {
        if let Some(before) = before {
            self.planner.handle_interface(now, false, before.into(), PREFIX_LEN);
        }
        self.planner.handle_interface(now, true, own.into(), PREFIX_LEN);
    }

    /// A connection was made.
    pub(super) fn handle_made(&mut self, now: LocalTime, made: Handshake) {
        let Handshake { connection, peer, address, own, attempt } = made;
        let Some(id) = id(&peer) else { return };
        let dialled = attempt.is_some();
        let side = if dialled { Side::Dialer } else { Side::Listener };
        self.links.insert(connection, Link { peer, dialled, early: VecDeque::new() });
        let local_ip = own.map(Into::into);
        let made = Made { peer: id, side, address: multiaddr(address), local_ip, attempt };
        self.planner.handle_connected(now, key(connection), made);
        // Whoever has dialled opens the channels, and so speaks first.
        if dialled {
            self.greet(connection);
        }
    }

    /// The peer's first words on a connection.
    pub(super) fn handle_greeting(&mut self, now: LocalTime, connection: ConnectionId, bytes: &[u8]) {
        let Some(link) = self.links.get(&connection) else { return };
        if !link.dialled {
            self.greet(connection);
        }
        match Hello::decode(bytes) {
            Ok(hello) => self.planner.handle_ready(now, key(connection), hello),
            Err(_) => self.planner.handle_broken(now, key(connection)),
        }
    }

    /// The peer's further words.
    pub(super) fn handle_frame(
        &mut self,
        now: LocalTime,
        connection: ConnectionId,
        channel: Channel,
        bytes: &[u8],
    ) {
        let longest = match channel {
            Channel::Control | Channel::Greeting => Wire::Control.max_message_bytes(),
            Channel::Project => Wire::Project.max_message_bytes(),
        };
        let Some(link) = self.links.get_mut(&connection) else { return };
        if bytes.len() > longest || link.early.len() >= MAX_EARLY {
            self.planner.handle_broken(now, key(connection));
        } else if self.elected.get(&link.peer) == Some(&connection) {
            self.news.push_back(News::Frame(link.peer, channel, bytes.to_vec()));
        } else {
            link.early.push_back((channel, bytes.to_vec()));
            self.most_early = self.most_early.max(link.early.len());
        }
    }

    /// A connection has ended.
    pub(super) fn handle_closed(&mut self, now: LocalTime, connection: ConnectionId, by: ClosedBy) {
        if self.links.remove(&connection).is_some() {
            self.planner.handle_closed(now, key(connection), by);
        }
    }

    /// The peer's end of a connection has moved.
    pub(super) fn handle_moved(&mut self, connection: ConnectionId, address: SocketAddrV4) {
        self.planner.handle_address_change(key(connection), multiaddr(address));
    }

    /// A dial came to nothing.
    pub(super) fn handle_dial_failed(&mut self, now: LocalTime, attempt: Attempt, failure: DialFailure) {
        self.planner.handle_dial_failed(now, attempt, failure);
    }

    /// Nothing comes from the peer any more.
    pub(super) fn renew(&mut self, now: LocalTime, peer: &PeerKey) {
        if let Some(peer) = id(peer) {
            self.planner.renew(now, &peer);
        }
    }

    /// Sends the peer away, telling it why, and keeps it out for so long.
    pub(super) fn ban(&mut self, now: LocalTime, peer: &PeerKey, why: &str, duration: Duration) {
        if let Some(peer) = id(peer) {
            self.planner.dismiss(now, &peer, why);
            self.planner.ban(now, peer, duration);
        }
    }

    fn note_path(&mut self, peer: PeerKey, path: PathKind) {
        match path {
            PathKind::Lan => self.on_lan.insert(peer),
            _ => self.on_lan.remove(&peer),
        };
    }

    fn greet(&mut self, connection: ConnectionId) {
        // The planner may not want the connection any more.
        if let Some(hello) = self.planner.hello(key(connection)) {
            self.news.push_back(News::Effect(Effect::Greet { connection, bytes: hello.encode() }));
        }
    }

    fn carry_out(&mut self, output: Output) {
        match output {
            Output::Dial { attempt, peer, addresses, replaces } => {
                let addresses = addresses.iter().filter_map(socket).collect();
                let peer = peer.and_then(|peer| PeerKey::from_name(&peer.to_string()));
                let dial = Effect::Dial { attempt, peer, addresses, replaces };
                self.news.push_back(News::Effect(dial));
            }
            Output::Close { connection, reason } => {
                let connection = ConnectionId(connection.0);
                self.links.remove(&connection);
                let (code, text) = (u64::from(reason.code()), reason.text().to_owned());
                self.news.push_back(News::Effect(Effect::Close { connection, code, text }));
            }
            Output::Connected { connection, path, .. } => {
                let connection = ConnectionId(connection.0);
                let Some(link) = self.links.get_mut(&connection) else { return };
                let (peer, early) = (link.peer, std::mem::take(&mut link.early).into_iter());
                self.elected.insert(peer, connection);
                self.note_path(peer, path);
                self.news.push_back(News::Effect(Effect::Adopt { peer, connection }));
                self.news.push_back(News::Connected(peer));
                self.news.extend(early.map(|(channel, bytes)| News::Frame(peer, channel, bytes)));
            }
            Output::Disconnected { peer, .. } => {
                let Some(peer) = PeerKey::from_name(&peer.to_string()) else { return };
                self.elected.remove(&peer);
                self.on_lan.remove(&peer);
                self.news.push_back(News::Disconnected(peer));
                self.news.push_back(News::Effect(Effect::Release { peer }));
            }
            Output::PathChanged { peer, path, .. } => {
                let Some(peer) = PeerKey::from_name(&peer.to_string()) else { return };
                self.note_path(peer, path);
            }
            Output::Warning(text) => self.news.push_back(News::Effect(Effect::Warning(text))),
        }
    }
}

fn key(connection: ConnectionId) -> ConnectionKey {
    ConnectionKey(connection.0)
}

/// The peer's id as libp2p writes it; each key has one.
fn id(peer: &PeerKey) -> Option<PeerId> {
    peer.name().parse().ok()
}

/// The address as the planner knows it.
pub(crate) fn multiaddr(address: SocketAddrV4) -> Multiaddr {
    Multiaddr::empty()
        .with(Protocol::Ip4(*address.ip()))
        .with(Protocol::Udp(address.port()))
        .with(Protocol::QuicV1)
}

fn socket(address: &Multiaddr) -> Option<SocketAddrV4> {
    let mut parts = address.iter();
    match (parts.next()?, parts.next()?) {
        (Protocol::Ip4(ip), Protocol::Udp(port)) => Some(SocketAddrV4::new(ip, port)),
        _ => None,
    }
}
