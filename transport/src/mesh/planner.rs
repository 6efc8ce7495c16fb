//! The mesh's decisions. See the module documentation for the rules.

mod book;
mod dialling;
mod election;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId};

use self::book::{Anonymous, Peer};
use self::election::Connection;
use super::backoff::{self, Buckets};
use super::hello::PROTOCOL_VERSION;
use super::path::{PathKind, Subnets};
use super::reason::{CloseReason, DisconnectReason};
use crate::time::LocalTime;

/// Peers we remember at most, connected or not. When full, one that did not answer makes room, or one of whom only the
/// mouth that tells of most has told; else the newcomer is ignored.
pub const MAX_PEERS: usize = 256;

/// Of these, those that one mouth told of and that never said hello.
const MAX_PEERS_PER_SOURCE: usize = MAX_PEERS / 4;

/// Addresses we remember per peer. When full, the oldest from the mouth that told of most makes room.
pub const MAX_ADDRESSES: usize = 8;

/// Peers we are connected to at most. A full mesh larger than this is no band, and its audio would not fit anyway.
pub const MAX_CONNECTED: usize = 64;

/// Connections that have not said hello yet, at most. With each further one the oldest of the largest crowd is closed.
pub const MAX_STRANGERS: usize = 32;

/// Connections of one peer at once, at most: two that met, one from before a restart, one that replaces.
const MAX_CONNECTIONS_PER_PEER: usize = 4;

/// Dials in progress at most.
const MAX_DIALS: usize = 32;

/// Of these, to peers that somebody told of and that never said hello.
const MAX_HEARSAY_DIALS: usize = MAX_DIALS / 4 * 3;

/// And of these, to those that one announcer told of, or one connected peer, who knows a whole band behind routers. A dial
/// of somebody who does not exist takes seconds; whoever makes up peers by the thousand shall not take everybody's place.
const MAX_DIALS_PER_ANNOUNCER: usize = 4;
const MAX_DIALS_PER_PEER: usize = MAX_DIALS / 2;

/// Mouths whose number of hints is limited one by one.
const MAX_SOURCES: usize = 128;

/// Peers of whose other protocol version we tell the user.
const MAX_TOLD_VERSIONS: usize = 8;

/// The larger id gives the smaller one this long to dial first. On a LAN, that one sees us by our announcement at once, or
/// by our answer to its query, which mDNS may delay by a quarter of a second (RFC 6762, sections 5.2 and 6).
const DEFERENCE: Duration = Duration::from_millis(400);

/// A connection that says nothing for this long after the handshake is not one of ours.
const HELLO_TIMEOUT: Duration = Duration::from_secs(5);

/// Longest pause between dials while the peer may be back any moment, so that a healed LAN is whole within seconds.
const EAGER_CAP: Duration = Duration::from_secs(4);

/// Shortest pause between dials of a peer that is told of again and again, each time at another address.
const NEWS_PAUSE: Duration = Duration::from_secs(1);

/// Longest pause between dials of a peer nobody has seen for [`EAGER_FOR`].
const PATIENT_CAP: Duration = Duration::from_secs(30);
const EAGER_FOR: Duration = Duration::from_secs(600);

/// A peer neither seen nor named is forgotten after this.
const FORGET_AFTER: Duration = Duration::from_secs(3600);

/// One seen on the LAN that never said hello is, unless it is seen again, forgotten after this: the life of a host's record
/// in mDNS.
const FORGET_UNPROVEN_AFTER: Duration = Duration::from_secs(120);

/// A connection given up for silence before it lasted this long was of no use.
const USEFUL_AFTER: Duration = Duration::from_secs(30);

/// How long we leave alone a peer that said goodbye, plays in another session, or was sent away.
const QUIET: Duration = Duration::from_secs(30);

/// Several addresses of one machine often go together; wait for the last before choosing a new path.
const SETTLE: Duration = Duration::from_millis(200);

/// Dials in a row to replace a connection, after which it is kept for as long as it lasts.
const MAX_REPLACE_DIALS: u32 = 4;

/// One connection, as the driver numbers them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionKey(pub u64);

/// One dial, as the planner numbers them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Attempt(pub u64);

/// Which end of a connection we are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// We dialled.
    Dialer,
    /// We were dialled.
    Listener,
}

/// Where a hint comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// Discovery on the LAN: whoever sent this from that address.
    Discovery(IpAddr),
    /// A connected peer.
    Peer(PeerId),
}

/// Who we are and how we behave.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Our own id.
    pub local: PeerId,
    /// Our session; others are kept out.
    pub session_tag: [u8; 8],
    /// Random, new at every start.
    pub instance: u64,
    /// Dial only what the user named.
    pub pinned: bool,
    /// Start of the planner's randomness.
    pub seed: u64,
}

/// A connection as it was made.
#[derive(Debug, Clone)]
pub struct Made {
    /// Who is at the other end, proved by TLS.
    pub peer: PeerId,
    /// Which end we are.
    pub side: Side,
    /// The other end's address.
    pub address: Multiaddr,
    /// Our own address, if the system tells.
    pub local_ip: Option<IpAddr>,
    /// The dial it came from.
    pub attempt: Option<Attempt>,
}

/// A decision for the driver to carry out, or news for those above.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Dial these addresses, best first; the first to answer wins.
    Dial {
        /// To be named in the outcome.
        attempt: Attempt,
        /// Who must answer. `None`: whoever does.
        peer: Option<PeerId>,
        /// Never empty.
        addresses: Vec<Multiaddr>,
        /// Dial although connected: to replace that connection.
        replaces: bool,
    },
    /// Close a connection and say why. The planner has already forgotten it.
    Close {
        /// Which.
        connection: ConnectionKey,
        /// Why.
        reason: CloseReason,
    },
    /// A peer is here; talk to it over this connection.
    Connected {
        /// Who.
        peer: PeerId,
        /// The elected connection.
        connection: ConnectionKey,
        /// Its address.
        address: Multiaddr,
        /// The kind of way to it.
        path: PathKind,
    },
    /// The elected connection is gone. What was sent over it may or may not have arrived.
    Disconnected {
        /// Who.
        peer: PeerId,
        /// The connection that was elected.
        connection: ConnectionKey,
        /// Why.
        reason: DisconnectReason,
    },
    /// The same connection now runs over another way.
    PathChanged {
        /// Who.
        peer: PeerId,
        /// Its new address.
        address: Multiaddr,
        /// The new kind of way.
        path: PathKind,
    },
    /// Something the user can act on.
    Warning(String),
}

/// Decides. See the module documentation.
#[derive(Debug)]
pub struct Planner {
    settings: Settings,
    random: SplitMix,
    subnets: Subnets,
    peers: BTreeMap<PeerId, Peer>,
    connections: BTreeMap<ConnectionKey, Connection>,
    /// Addresses the user named without saying whose they are.
    anonymous: Vec<Anonymous>,
    attempts: BTreeMap<Attempt, Target>,
    next_attempt: u64,
    buckets: Buckets<Source>,
    /// Peers of another protocol version that the user was told of.
    told_versions: BTreeSet<PeerId>,
    outputs: VecDeque<Output>,
}

#[derive(Debug, Clone)]
enum Target {
    Peer { peer: PeerId, replaces: bool },
    Anonymous(Multiaddr),
}

impl Planner {
    /// A planner that knows nobody.
    pub fn new(settings: Settings) -> Self {
        let random = SplitMix(settings.seed);
        Self {
            settings,
            random,
            subnets: Subnets::default(),
            peers: BTreeMap::new(),
            connections: BTreeMap::new(),
            anonymous: Vec::new(),
            attempts: BTreeMap::new(),
            next_attempt: 0,
            buckets: Buckets::new(MAX_SOURCES),
            told_versions: BTreeSet::new(),
            outputs: VecDeque::new(),
        }
    }

    /// The next decision, until there is none.
    pub fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When to call [`Planner::handle_deadline`], if nothing else happens before.
    pub fn poll_deadline(&self) -> Option<LocalTime> {
        let hellos = self.connections.values().filter(|c| c.theirs.is_none()).map(|c| c.hello_deadline);
        let replacements = self.peers.values().filter_map(|peer| peer.replace_at);
        let dials = self.waiting().map(|(_, peer)| peer.dial_time());
        let anonymous = self.anonymous.iter().filter(|a| a.wants_dial()).map(|a| a.next_dial);
        // With every dial slot taken, the next outcome brings us back.
        let has_slot = self.attempts.len() < MAX_DIALS;
        let dialled = dials.chain(anonymous).filter(|_| has_slot);
        hellos.chain(replacements).chain(dialled).min()
    }

    /// Does what has become due.
    pub fn handle_deadline(&mut self, now: LocalTime) {
        self.drop_silent_strangers(now);
        self.forget_the_lost(now);
        self.start_replacements(now);
        self.start_dials(now);
    }

    /// The user named an address, perhaps with a peer at its end. It is dialled for ever.
    pub fn handle_named(&mut self, now: LocalTime, address: Multiaddr) {
        let (address, peer) = split_peer(address);
        match peer {
            Some(peer) if peer == self.settings.local => {
                self.warn(format!("the peer address {address} names this node itself; leave it out"));
            }
            Some(peer) => self.name_address(now, peer, address),
            None if self.anonymous.iter().any(|known| known.address == address) => {}
            None if self.anonymous.len() >= MAX_PEERS => {
                self.warn(format!("more than {MAX_PEERS} peer addresses; {address} is ignored"));
            }
            None => self.anonymous.push(Anonymous {
                address,
                peer: None,
                dialling: None,
                next_dial: now,
                failures: 0,
                ourselves: false,
            }),
        }
    }

    /// Somebody says that `peer` is in session `session_tag` at `addresses`.
    pub fn handle_hint(
        &mut self,
        now: LocalTime,
        source: Source,
        peer: PeerId,
        session_tag: [u8; 8],
        addresses: &[Multiaddr],
    ) {
        if self.settings.pinned || peer == self.settings.local || session_tag != self.settings.session_tag {
            return;
        }
        if !self.admits(now, source) {
            return;
        }
        let deference = self.deference(&peer);
        if !self.peers.contains_key(&peer) && !self.make_room_for(source) {
            return;
        }
        let crowds = self.crowds();
        let crowd = |source: Option<Source>| crowds.get(&source).copied().unwrap_or(0);
        let record = self.peers.entry(peer).or_insert_with(|| Peer::new(now, now + deference));
        // Whoever tells of fewer is believed rather: a flood must not take in a friend's own record.
        if record.source.is_none() || crowd(Some(source)) < crowd(record.source) {
            record.source = Some(source);
        }
        record.last_seen = now;
        let mut is_new = false;
        for address in addresses {
            let (address, _) = split_peer(address.clone());
            is_new |= record.note_heard(now, address, source);
        }
        if record.failures > 0 {
            // Whoever is told of may be there again, whatever became of the dials in its absence. The count is kept, or a
            // liar could make us hammer.
            let pause = if is_new { NEWS_PAUSE } else { EAGER_CAP };
            record.hasten(now.max(record.dialled + pause) + deference);
        }
    }

    /// `peer`, who is connected, says where it listens: when the network goes that the connection runs over, another one
    /// that both are attached to may carry it.
    pub fn handle_listens(&mut self, now: LocalTime, peer: &PeerId, addresses: &[Multiaddr]) {
        if self.settings.pinned {
            return;
        }
        let Some(record) = self.peers.get_mut(peer) else { return };
        for address in addresses.iter().filter(|address| self.subnets.is_a_neighbours(address)) {
            let (address, _) = split_peer(address.clone());
            record.note_heard(now, address, Source::Peer(*peer));
        }
    }

    /// Somebody says that `peer`, who is in session `session_tag`, speaks `version` of the protocol, which is not ours.
    pub fn handle_other_version(&mut self, peer: PeerId, session_tag: [u8; 8], version: u16) {
        if self.settings.pinned || session_tag != self.settings.session_tag {
            return;
        }
        self.warn_of_version(peer, version);
    }

    /// The announcement of `peer` was withdrawn. Its connection, if any, is another matter.
    pub fn handle_gone(&mut self, peer: &PeerId) {
        if let Some(record) = self.peers.get_mut(peer)
            && record.elected.is_none()
        {
            record.addresses.retain(|_, known| known.named || known.good);
        }
    }

    /// One of this machine's addresses came or went.
    pub fn handle_interface(&mut self, now: LocalTime, up: bool, address: IpAddr, prefix_len: u8) {
        if up {
            self.subnets.insert(address, prefix_len);
            // Not when one goes: it is often back in a moment, and a connection without it has no path to label.
            self.reclassify();
            // A cable was plugged in: whoever was out of reach may not be any longer.
            for record in self.peers.values_mut().filter(|record| record.failures > 0) {
                record.hasten(now + SETTLE);
            }
            for anonymous in &mut self.anonymous {
                anonymous.next_dial = anonymous.next_dial.min(now + SETTLE);
            }
        } else {
            let before = self.subnets.clone();
            self.subnets.remove(address);
            self.replace_connections_at(now, address, &before);
        }
    }

    /// Closes the connections to `peer` and does not dial it for a while. It may come back by itself.
    pub fn dismiss(&mut self, now: LocalTime, peer: &PeerId, text: &str) {
        self.keep_quiet(now, peer, QUIET);
        let reason = CloseReason::Dismissed(text.to_owned());
        for connection in self.connections_of(peer) {
            self.close(connection, reason.clone());
        }
    }

    /// Gives up the connections to `peer`, from whom nothing comes any more, and dials it as after any loss; ever less often
    /// if nothing comes from it then either.
    pub fn renew(&mut self, now: LocalTime, peer: &PeerId) {
        let deference = self.deference(peer);
        let random = self.random.unit();
        if let Some(record) = self.peers.get_mut(peer) {
            let was_useful = now.saturating_since(record.elected_at) > USEFUL_AFTER;
            record.renewals = if was_useful { 0 } else { record.renewals.saturating_add(1) };
            let pause = match record.renewals {
                0 | 1 => Duration::ZERO,
                more => backoff::delay(more.saturating_add(2), PATIENT_CAP, random),
            };
            record.next_dial = now + deference + pause;
            record.failures = 0;
            record.last_seen = now;
        }
        for connection in self.connections_of(peer) {
            self.close_as(connection, CloseReason::Silent, DisconnectReason::Silence);
        }
    }

    /// Closes the connections to `peer` and refuses new ones for `duration`.
    pub fn ban(&mut self, now: LocalTime, peer: PeerId, duration: Duration) {
        let has_room = self.peers.contains_key(&peer) || self.make_room();
        if has_room {
            let record = self.peers.entry(peer).or_insert_with(|| Peer::new(now, now));
            record.banned_until = Some(now + duration);
        }
        self.dismiss(now, &peer, "banned");
    }

    /// The session we play in.
    pub fn session_tag(&self) -> [u8; 8] {
        self.settings.session_tag
    }

    /// Whether connected to `peer`.
    pub fn is_connected(&self, peer: &PeerId) -> bool {
        self.elected(peer).is_some()
    }

    /// Peers remembered, connected or not.
    pub fn peer_count(&self) -> usize {
        self.peers.len()
    }

    fn elected(&self, peer: &PeerId) -> Option<ConnectionKey> {
        self.peers.get(peer)?.elected
    }

    fn connections_of(&self, peer: &PeerId) -> Vec<ConnectionKey> {
        self.connections.iter().filter(|(_, c)| c.peer == *peer).map(|(key, _)| *key).collect()
    }

    fn warn(&mut self, text: String) {
        self.outputs.push_back(Output::Warning(text));
    }

    fn admits(&mut self, now: LocalTime, source: Source) -> bool {
        if let Source::Peer(peer) = source
            && !self.is_connected(&peer)
        {
            return false;
        }
        self.buckets.take(now, source)
    }

    fn warn_of_version(&mut self, peer: PeerId, version: u16) {
        if self.told_versions.len() < MAX_TOLD_VERSIONS && self.told_versions.insert(peer) {
            let older =
                if version < PROTOCOL_VERSION { "update Bandmesh there" } else { "update Bandmesh here" };
            self.warn(format!(
                "{peer} is in this session but speaks version {version} of the protocol, and this node version \
                 {PROTOCOL_VERSION}; {older} to play together"
            ));
        }
    }
}

/// Takes the `/p2p/PEER` off the end of an address.
fn split_peer(mut address: Multiaddr) -> (Multiaddr, Option<PeerId>) {
    let Some(Protocol::P2p(peer)) = address.iter().last() else { return (address, None) };
    address.pop();
    (address, Some(peer))
}

/// SplitMix64 (Steele, Lea, Flood, 2014): small, and repeatable from a seed.
#[derive(Debug, Clone)]
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in 0..1.
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}
