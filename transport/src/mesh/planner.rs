//! The mesh's decisions. See the module documentation for the rules.

use std::cmp::Reverse;
use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId};

use super::backoff::{self, Bucket};
use super::hello::{Hello, PROTOCOL_VERSION};
use super::path::{self, PathKind, Subnets};
use super::reason::{CloseReason, ClosedBy, DialFailure, DisconnectReason};
use crate::time::LocalTime;

/// Peers we remember at most, connected or not. When full, one that did not answer makes room, else the newcomer is ignored.
pub const MAX_PEERS: usize = 256;

/// Addresses we remember per peer. When full, the newcomer is ignored.
pub const MAX_ADDRESSES: usize = 8;

/// Peers we are connected to at most. A full mesh larger than this is no band, and its audio would not fit anyway.
pub const MAX_CONNECTED: usize = 64;

/// Connections that have not said hello yet, at most. With each further one the oldest of the largest crowd is closed.
pub const MAX_STRANGERS: usize = 32;

/// Connections of one peer at once, at most: two that met, one from before a restart, one that replaces.
const MAX_CONNECTIONS_PER_PEER: usize = 4;

/// Dials in progress at most.
const MAX_DIALS: usize = 16;

/// The larger id gives the smaller one this long to dial first. On a LAN, that one sees us by our announcement at once, or
/// by our answer to its query, which mDNS may delay by a quarter of a second (RFC 6762, sections 5.2 and 6).
const DEFERENCE: Duration = Duration::from_millis(400);

/// A connection that says nothing for this long after the handshake is not one of ours.
const HELLO_TIMEOUT: Duration = Duration::from_secs(5);

/// Longest pause between dials while the peer may be back any moment, so that a healed LAN is whole within seconds.
const EAGER_CAP: Duration = Duration::from_secs(4);

/// Longest pause between dials of a peer nobody has seen for [`EAGER_FOR`].
const PATIENT_CAP: Duration = Duration::from_secs(30);
const EAGER_FOR: Duration = Duration::from_secs(600);

/// A peer neither seen nor named is forgotten after this.
const FORGET_AFTER: Duration = Duration::from_secs(3600);

/// How long we leave alone a peer that said goodbye, plays in another session, or was sent away.
const QUIET: Duration = Duration::from_secs(30);

/// Several addresses of one machine often go together; wait for the last before choosing a new path.
const SETTLE: Duration = Duration::from_millis(200);

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
    /// Discovery on the LAN.
    Discovery,
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
    buckets: BTreeMap<Source, Bucket>,
    outputs: VecDeque<Output>,
}

#[derive(Debug)]
struct Peer {
    addresses: BTreeMap<Multiaddr, Known>,
    elected: Option<ConnectionKey>,
    dialling: Option<Attempt>,
    /// Its live connections, elected or not.
    connections: usize,
    /// When to dial next, if it is not connected and has addresses.
    next_dial: LocalTime,
    /// When to dial although connected, to move to another way.
    replace_at: Option<LocalTime>,
    failures: u32,
    last_seen: LocalTime,
    banned_until: Option<LocalTime>,
}

/// What we know of an address.
#[derive(Debug, Clone, Copy, Default)]
struct Known {
    /// The user named it; it is never forgotten.
    named: bool,
    /// It answered last time.
    good: bool,
}

#[derive(Debug)]
struct Connection {
    peer: PeerId,
    side: Side,
    address: Multiaddr,
    local_ip: Option<IpAddr>,
    ours: Hello,
    theirs: Option<Hello>,
    hello_deadline: LocalTime,
    path: PathKind,
}

#[derive(Debug)]
struct Anonymous {
    address: Multiaddr,
    /// Who answered there last; that peer's record has the address then.
    peer: Option<PeerId>,
    dialling: Option<Attempt>,
    next_dial: LocalTime,
    failures: u32,
    ourselves: bool,
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
            buckets: BTreeMap::new(),
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
        let dials = self.peers.values().filter(|peer| peer.wants_dial()).map(Peer::dial_time);
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
        if !self.peers.contains_key(&peer) && !self.make_room() {
            return;
        }
        let record = self.peers.entry(peer).or_insert_with(|| Peer::new(now, now + deference));
        record.last_seen = now;
        let mut is_new = false;
        for address in addresses {
            let (address, _) = split_peer(address.clone());
            if record.addresses.len() < MAX_ADDRESSES && !record.addresses.contains_key(&address) {
                record.addresses.insert(address, Known::default());
                is_new = true;
            }
        }
        if is_new && record.failures > 0 {
            // News of somebody we could not reach: try at once, but keep the count, or a liar could make us hammer.
            record.next_dial = record.next_dial.min(now + deference);
        }
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
                record.next_dial = record.next_dial.min(now + SETTLE);
            }
            for anonymous in &mut self.anonymous {
                anonymous.next_dial = anonymous.next_dial.min(now + SETTLE);
            }
        } else {
            self.subnets.remove(address);
            self.replace_connections_at(now, address);
        }
    }

    /// A connection was made and its peer authenticated.
    pub fn handle_connected(&mut self, now: LocalTime, connection: ConnectionKey, made: Made) {
        let Made { peer, side, address, local_ip, attempt } = made;
        let (address, _) = split_peer(address);
        let target = attempt.and_then(|attempt| self.attempts.remove(&attempt));
        self.note_answer(now, peer, &address, target.as_ref());

        let ours = Hello {
            version: PROTOCOL_VERSION,
            session_tag: self.settings.session_tag,
            instance: self.settings.instance,
            nonce: self.random.next(),
            generation: match target {
                Some(Target::Peer { replaces: true, .. }) => self.generation(&peer).saturating_add(1),
                _ => 0,
            },
        };
        let path = self.subnets.classify(&address);
        let hello_deadline = now + HELLO_TIMEOUT;
        let refusal = self.refusal(now, &peer);
        self.connections.insert(
            connection,
            Connection { peer, side, address, local_ip, ours, theirs: None, hello_deadline, path },
        );
        if let Some(record) = self.peers.get_mut(&peer) {
            record.connections += 1;
        }
        if let Some(reason) = refusal {
            self.close(connection, reason);
        } else if let Some(leaves) = self.stranger_to_leave() {
            self.close(leaves, CloseReason::Crowded);
        }
    }

    /// What to say first on a connection. `None` if the planner does not want it any more.
    pub fn hello(&self, connection: ConnectionKey) -> Option<Hello> {
        self.connections.get(&connection).map(|connection| connection.ours)
    }

    /// The peer has said hello and every channel is open.
    pub fn handle_ready(&mut self, now: LocalTime, connection: ConnectionKey, theirs: Hello) {
        let Some(entry) = self.connections.get_mut(&connection) else { return };
        entry.theirs = Some(theirs);
        let peer = entry.peer;
        let mismatch = if theirs.version != PROTOCOL_VERSION {
            Some(CloseReason::OtherVersion)
        } else if theirs.session_tag != self.settings.session_tag {
            Some(CloseReason::OtherSession)
        } else {
            None
        };
        if let Some(reason) = mismatch {
            self.keep_quiet(now, &peer, QUIET);
            self.close(connection, reason);
            return;
        }
        self.remember(now, peer, connection);
        self.bury_earlier_runs(peer, theirs.instance);
        self.elect(now, peer, connection);
    }

    /// A connection ended without the planner having asked for it.
    pub fn handle_closed(&mut self, now: LocalTime, connection: ConnectionKey, by: ClosedBy) {
        let Some(entry) = self.remove_connection(connection) else { return };
        let reason = DisconnectReason::from(by);
        let deference = self.deference(&entry.peer);
        let random = self.random.unit();
        let Some(record) = self.peers.get_mut(&entry.peer) else { return };
        if record.elected != Some(connection) {
            if !record.is_busy() {
                record.failures = record.failures.saturating_add(1);
                let pause = match reason {
                    DisconnectReason::Dismissed(_) => QUIET,
                    _ => backoff::delay(record.failures, EAGER_CAP, random),
                };
                record.next_dial = record.next_dial.max(now + pause);
            }
            return;
        }
        record.elected = None;
        record.replace_at = None;
        record.failures = 0;
        record.last_seen = now;
        match reason {
            DisconnectReason::Goodbye | DisconnectReason::Dismissed(_) => {
                record.addresses.retain(|_, known| known.named);
                record.next_dial = now + if record.addresses.is_empty() { QUIET } else { EAGER_CAP };
            }
            _ => record.next_dial = now + deference,
        }
        self.outputs.push_back(Output::Disconnected { peer: entry.peer, connection, reason });
        self.elect_best_remaining(now, entry.peer);
    }

    /// The peer's end of a connection has moved.
    pub fn handle_address_change(&mut self, connection: ConnectionKey, address: Multiaddr) {
        let (address, _) = split_peer(address);
        let path = self.subnets.classify(&address);
        let Some(entry) = self.connections.get_mut(&connection) else { return };
        entry.address = address.clone();
        entry.path = path;
        let peer = entry.peer;
        // When it is our turn to move, or the connection ends, this is where to dial.
        if let Some(record) = self.peers.get_mut(&peer) {
            record.note_good(&address, !self.settings.pinned);
        }
        if self.elected(&peer) == Some(connection) {
            self.outputs.push_back(Output::PathChanged { peer, address, path });
        }
    }

    /// A channel of a connection broke, or its peer does not speak our protocols.
    pub fn handle_broken(&mut self, now: LocalTime, connection: ConnectionKey) {
        let Some(entry) = self.connections.get(&connection) else { return };
        let (peer, greeted) = (entry.peer, entry.theirs.is_some());
        let reason = if greeted { CloseReason::Broken } else { CloseReason::NoHello };
        self.keep_quiet(now, &peer, if greeted { Duration::from_secs(1) } else { QUIET });
        self.close(connection, reason);
        self.elect_best_remaining(now, peer);
    }

    /// A dial came to nothing.
    pub fn handle_dial_failed(&mut self, now: LocalTime, attempt: Attempt, failure: DialFailure) {
        let Some(target) = self.attempts.remove(&attempt) else { return };
        let random = self.random.unit();
        match target {
            Target::Peer { peer, replaces } => {
                let Some(record) = self.peers.get_mut(&peer) else { return };
                record.dialling = None;
                match failure {
                    DialFailure::AlreadyConnected(_) => return,
                    DialFailure::WrongPeer { address, .. } => {
                        let (address, _) = split_peer(address);
                        if record.addresses.get(&address).is_some_and(|known| !known.named) {
                            record.addresses.remove(&address);
                        }
                    }
                    DialFailure::Ourselves => record.addresses.retain(|_, known| known.named),
                    DialFailure::Unreachable => {}
                }
                record.failures = record.failures.saturating_add(1);
                let eager = now.saturating_since(record.last_seen) < EAGER_FOR;
                let cap = if eager { EAGER_CAP } else { PATIENT_CAP };
                let again = now + backoff::delay(record.failures, cap, random);
                record.next_dial = again;
                if replaces && record.elected.is_some() && record.failures < 4 {
                    record.replace_at = Some(again);
                }
            }
            Target::Anonymous(address) => {
                let Some(anonymous) = self.anonymous.iter_mut().find(|a| a.address == address) else {
                    return;
                };
                anonymous.dialling = None;
                anonymous.failures = anonymous.failures.saturating_add(1);
                anonymous.next_dial = now + backoff::delay(anonymous.failures, EAGER_CAP, random);
                match failure {
                    DialFailure::AlreadyConnected(peer) => {
                        anonymous.peer = Some(peer);
                        anonymous.failures = 0;
                        self.name_address(now, peer, address);
                    }
                    DialFailure::Ourselves => {
                        anonymous.ourselves = true;
                        self.warn(format!("the peer address {address} is this node itself; leave it out"));
                    }
                    DialFailure::Unreachable | DialFailure::WrongPeer { .. } => {}
                }
            }
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

    /// Gives up the connections to `peer`, from whom nothing comes any more, and dials it as after any loss.
    pub fn renew(&mut self, now: LocalTime, peer: &PeerId) {
        let deference = self.deference(peer);
        if let Some(record) = self.peers.get_mut(peer) {
            record.next_dial = now + deference;
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

    // Connections.

    /// Why not to keep a fresh connection.
    fn refusal(&self, now: LocalTime, peer: &PeerId) -> Option<CloseReason> {
        let record = self.peers.get(peer);
        if record.and_then(|record| record.banned_until).is_some_and(|until| now < until) {
            return Some(CloseReason::Dismissed("banned".to_owned()));
        }
        (self.connections_of(peer).len() >= MAX_CONNECTIONS_PER_PEER).then_some(CloseReason::Crowded)
    }

    /// Whom to put out when there are more strangers than we hear out: the one longest here of those from the address that
    /// most come from. A friend who knocks during a flood has said hello long before its turn comes.
    fn stranger_to_leave(&self) -> Option<ConnectionKey> {
        let strangers =
            self.connections.iter().filter(|(_, c)| c.theirs.is_none() && c.side == Side::Listener);
        let mut crowds: BTreeMap<Option<IpAddr>, (usize, Reverse<ConnectionKey>)> = BTreeMap::new();
        let mut count = 0;
        for (key, stranger) in strangers {
            count += 1;
            let crowd = crowds.entry(path::network_of(&stranger.address)).or_insert((0, Reverse(*key)));
            crowd.0 += 1;
        }
        let largest = crowds.into_values().max()?;
        (count > MAX_STRANGERS).then_some(largest.1.0)
    }

    /// Remembers where a peer was reached.
    fn note_answer(&mut self, now: LocalTime, peer: PeerId, address: &Multiaddr, target: Option<&Target>) {
        if let Some(Target::Peer { peer: meant, .. }) = target
            && let Some(record) = self.peers.get_mut(meant)
        {
            record.dialling = None;
        }
        if let Some(Target::Anonymous(named)) = target {
            if let Some(anonymous) = self.anonymous.iter_mut().find(|a| a.address == *named) {
                anonymous.dialling = None;
                anonymous.failures = 0;
                anonymous.peer = Some(peer);
            }
            self.name_address(now, peer, named.clone());
        }
        // Whoever came by itself is remembered once it has said hello: strangers shall not crowd out those we look for.
        if self.peers.contains_key(&peer) || target.is_some() && self.make_room() {
            let record = self.peers.entry(peer).or_insert_with(|| Peer::new(now, now));
            record.last_seen = now;
            record.note_good(address, !self.settings.pinned);
        }
    }

    /// Makes a record of a peer that came by itself.
    fn remember(&mut self, now: LocalTime, peer: PeerId, connection: ConnectionKey) {
        let Some(address) = self.connections.get(&connection).map(|it| it.address.clone()) else { return };
        if !self.peers.contains_key(&peer) && self.make_room() {
            let mut record = Peer::new(now, now);
            record.connections = self.connections_of(&peer).len();
            record.note_good(&address, !self.settings.pinned);
            self.peers.insert(peer, record);
        }
    }

    /// Closes whatever is left of a peer's earlier runs.
    fn bury_earlier_runs(&mut self, peer: PeerId, instance: u64) {
        let earlier: Vec<_> = self
            .connections
            .iter()
            .filter(|(_, c)| c.peer == peer && c.theirs.is_some_and(|theirs| theirs.instance != instance))
            .map(|(key, _)| *key)
            .collect();
        for connection in earlier {
            self.close_as(connection, CloseReason::Duplicate, DisconnectReason::Restarted);
        }
    }

    /// Decides between the newcomer and the connection elected so far.
    fn elect(&mut self, now: LocalTime, peer: PeerId, newcomer: ConnectionKey) {
        let connected = self.peers.values().filter(|record| record.elected.is_some()).count();
        if !self.peers.contains_key(&peer) || connected >= MAX_CONNECTED && self.elected(&peer).is_none() {
            self.close(newcomer, CloseReason::Crowded);
            return;
        }
        if let Some(elected) = self.elected(&peer) {
            if self.rank(newcomer) < self.rank(elected) {
                self.close(newcomer, CloseReason::Duplicate);
                return;
            }
            self.close_as(elected, CloseReason::Duplicate, DisconnectReason::Replaced);
        }
        let Some(entry) = self.connections.get(&newcomer) else { return };
        let (address, path) = (entry.address.clone(), entry.path);
        if let Some(record) = self.peers.get_mut(&peer) {
            record.elected = Some(newcomer);
            record.failures = 0;
            record.replace_at = None;
            record.last_seen = now;
        }
        self.outputs.push_back(Output::Connected { peer, connection: newcomer, address, path });
    }

    /// After losing the elected connection: another one that is ready takes over.
    fn elect_best_remaining(&mut self, now: LocalTime, peer: PeerId) {
        if self.elected(&peer).is_some() {
            return;
        }
        let ready = self
            .connections
            .iter()
            .filter(|(_, c)| c.peer == peer && c.theirs.is_some())
            .map(|(key, _)| *key);
        if let Some(best) = ready.max_by_key(|key| self.rank(*key)) {
            self.elect(now, peer, best);
        }
    }

    /// The greater is kept. Made only of what the dialler said, so that both sides come to the same order.
    fn rank(&self, connection: ConnectionKey) -> Option<(u32, bool, u64)> {
        let entry = self.connections.get(&connection)?;
        let smaller_is_local = self.settings.local < entry.peer;
        Some(match entry.side {
            Side::Dialer => (entry.ours.generation, smaller_is_local, entry.ours.nonce),
            Side::Listener => {
                let theirs = entry.theirs?;
                (theirs.generation, !smaller_is_local, theirs.nonce)
            }
        })
    }

    fn generation(&self, peer: &PeerId) -> u32 {
        self.elected(peer).and_then(|elected| self.rank(elected)).map_or(0, |(generation, ..)| generation)
    }

    fn close(&mut self, connection: ConnectionKey, reason: CloseReason) {
        let news = DisconnectReason::ByUs(reason.text().to_owned());
        self.close_as(connection, reason, news);
    }

    fn close_as(&mut self, connection: ConnectionKey, reason: CloseReason, news: DisconnectReason) {
        let Some(entry) = self.remove_connection(connection) else { return };
        self.outputs.push_back(Output::Close { connection, reason });
        if let Some(record) = self.peers.get_mut(&entry.peer)
            && record.elected == Some(connection)
        {
            record.elected = None;
            record.replace_at = None;
            self.outputs.push_back(Output::Disconnected { peer: entry.peer, connection, reason: news });
        }
    }

    fn remove_connection(&mut self, connection: ConnectionKey) -> Option<Connection> {
        let entry = self.connections.remove(&connection)?;
        if let Some(record) = self.peers.get_mut(&entry.peer) {
            record.connections = record.connections.saturating_sub(1);
        }
        Some(entry)
    }

    fn drop_silent_strangers(&mut self, now: LocalTime) {
        let silent: Vec<_> = self
            .connections
            .iter()
            .filter(|(_, c)| c.theirs.is_none() && c.hello_deadline <= now)
            .map(|(key, _)| *key)
            .collect();
        for connection in silent {
            self.handle_broken(now, connection);
        }
    }

    /// Path labels follow the subnets we are attached to.
    fn reclassify(&mut self) {
        let mut changed = Vec::new();
        for (key, entry) in &mut self.connections {
            let path = self.subnets.classify(&entry.address);
            if path != entry.path {
                entry.path = path;
                changed.push((*key, entry.peer, entry.address.clone(), path));
            }
        }
        for (key, peer, address, path) in changed {
            if self.elected(&peer) == Some(key) {
                self.outputs.push_back(Output::PathChanged { peer, address, path });
            }
        }
    }

    /// Where we are the server on an address that is gone, only a new connection helps.
    fn replace_connections_at(&mut self, now: LocalTime, lost: IpAddr) {
        for (key, connection) in &self.connections {
            let stranded = match connection.side {
                Side::Listener => connection.local_ip.is_none_or(|ip| ip == lost),
                // QUIC moves a client to another of its addresses by itself, but not off a link it names.
                Side::Dialer => {
                    path::is_link_local(&connection.address) && path::is_loopback_or_link_local(lost)
                }
            };
            if stranded
                && let Some(record) = self.peers.get_mut(&connection.peer)
                && record.elected == Some(*key)
            {
                record.replace_at = Some(now + SETTLE);
            }
        }
    }

    // Dialling.

    fn start_replacements(&mut self, now: LocalTime) {
        let due: Vec<_> = self
            .peers
            .iter()
            .filter(|(_, record)| record.replace_at.is_some_and(|at| at <= now))
            .map(|(peer, _)| *peer)
            .collect();
        for peer in due {
            let Some(record) = self.peers.get_mut(&peer) else { continue };
            record.replace_at = None;
            if record.elected.is_some() && record.dialling.is_none() && !record.addresses.is_empty() {
                self.dial_peer(peer, true);
            }
        }
    }

    fn start_dials(&mut self, now: LocalTime) {
        let mut due: Vec<_> = self
            .peers
            .iter()
            .filter(|(_, record)| record.wants_dial() && record.dial_time() <= now)
            .map(|(peer, record)| (record.failures, *peer))
            .collect();
        // Those who have answered before come first, so that a flood of fakes cannot keep friends waiting.
        due.sort();
        for (_, peer) in due {
            if self.attempts.len() < MAX_DIALS {
                self.dial_peer(peer, false);
            }
        }
        for index in 0..self.anonymous.len() {
            if self.attempts.len() >= MAX_DIALS {
                break;
            }
            let attempt = self.new_attempt();
            let Some(anonymous) = self.anonymous.get_mut(index) else { break };
            // Once we know whose address it is, that peer's record has it, and dials it until it fails for good.
            let owner = anonymous.peer.and_then(|peer| self.peers.get(&peer));
            let answered = owner.is_some_and(|owner| owner.is_busy() || owner.failures < 3);
            if anonymous.wants_dial() && anonymous.next_dial <= now && !answered {
                anonymous.dialling = Some(attempt);
                let address = anonymous.address.clone();
                self.attempts.insert(attempt, Target::Anonymous(address.clone()));
                self.outputs.push_back(Output::Dial {
                    attempt,
                    peer: None,
                    addresses: vec![address],
                    replaces: false,
                });
            } else if answered && anonymous.next_dial <= now {
                anonymous.next_dial = now + EAGER_CAP;
            }
        }
    }

    fn dial_peer(&mut self, peer: PeerId, replaces: bool) {
        let attempt = self.new_attempt();
        let Some(record) = self.peers.get_mut(&peer) else { return };
        let mut addresses: Vec<_> = record
            .addresses
            .iter()
            .map(|(address, known)| (!known.good, self.subnets.rank(address), address))
            .collect();
        addresses.sort();
        // All are dialled at once and the first to answer wins. A link-local address wins often, but a connection over it
        // cannot move when that link goes, so it is kept for when nothing else works.
        let has_better = addresses.iter().any(|(.., address)| !path::is_link_local(address));
        let spare_link_local = has_better && record.failures == 0;
        let addresses = addresses
            .into_iter()
            .map(|(.., address)| address.clone())
            .filter(|address| !(spare_link_local && path::is_link_local(address)))
            .collect();
        record.dialling = Some(attempt);
        self.attempts.insert(attempt, Target::Peer { peer, replaces });
        self.outputs.push_back(Output::Dial { attempt, peer: Some(peer), addresses, replaces });
    }

    fn new_attempt(&mut self) -> Attempt {
        self.next_attempt += 1;
        Attempt(self.next_attempt)
    }

    /// How long `peer` may go first.
    fn deference(&self, peer: &PeerId) -> Duration {
        // A pinned node is tested against nodes that may be pinned too: only one of them need know the other's address.
        if self.settings.local < *peer || self.settings.pinned { Duration::ZERO } else { DEFERENCE }
    }

    fn keep_quiet(&mut self, now: LocalTime, peer: &PeerId, duration: Duration) {
        if let Some(record) = self.peers.get_mut(peer) {
            record.next_dial = record.next_dial.max(now + duration);
        }
        for anonymous in self.anonymous.iter_mut().filter(|a| a.peer == Some(*peer)) {
            anonymous.next_dial = anonymous.next_dial.max(now + duration);
        }
    }

    // The address book.

    fn name_address(&mut self, now: LocalTime, peer: PeerId, address: Multiaddr) {
        if self.peers.contains_key(&peer) || self.make_room() {
            let record = self.peers.entry(peer).or_insert_with(|| Peer::new(now, now));
            record.addresses.entry(address).or_default().named = true;
        }
    }

    fn admits(&mut self, now: LocalTime, source: Source) -> bool {
        if let Source::Peer(peer) = source
            && !self.is_connected(&peer)
        {
            return false;
        }
        // Only connected peers and discovery have buckets; those of peers that left make room.
        if self.buckets.len() > MAX_CONNECTED + 1 {
            let peers = &self.peers;
            self.buckets.retain(|source, _| match source {
                Source::Discovery => true,
                Source::Peer(peer) => peers.get(peer).is_some_and(|record| record.elected.is_some()),
            });
        }
        self.buckets.entry(source).or_insert_with(|| Bucket::new(now)).take(now)
    }

    /// Whether there is, or could be made, room for one more peer.
    fn make_room(&mut self) -> bool {
        if self.peers.len() < MAX_PEERS {
            return true;
        }
        let expendable = |record: &Peer| {
            !record.is_busy() && record.banned_until.is_none() && record.failures > 0 && !record.is_named()
        };
        let worst = self
            .peers
            .iter()
            .filter(|(_, record)| expendable(record))
            .max_by_key(|(_, record)| record.failures);
        let Some(worst) = worst.map(|(peer, _)| *peer) else { return false };
        self.forget(&worst);
        true
    }

    fn forget(&mut self, peer: &PeerId) {
        self.peers.remove(peer);
        self.buckets.remove(&Source::Peer(*peer));
    }

    fn forget_the_lost(&mut self, now: LocalTime) {
        let lost = |record: &Peer| {
            let ban_over = record.banned_until.is_none_or(|until| until <= now);
            let stale = now.saturating_since(record.last_seen) > FORGET_AFTER || record.addresses.is_empty();
            !record.is_busy() && ban_over && !record.is_named() && stale
        };
        self.peers.retain(|_, record| !lost(record));
    }
}

impl Peer {
    fn new(now: LocalTime, next_dial: LocalTime) -> Self {
        Self {
            addresses: BTreeMap::new(),
            elected: None,
            dialling: None,
            connections: 0,
            next_dial,
            replace_at: None,
            failures: 0,
            last_seen: now,
            banned_until: None,
        }
    }

    /// Remembers where it was reached last: a peer dials out of its listening socket, so where it comes from is where it
    /// can be reached. An address that is new is only learned if `learn`.
    fn note_good(&mut self, address: &Multiaddr, learn: bool) {
        if !self.addresses.contains_key(address) {
            if !learn {
                return;
            }
            if self.addresses.len() >= MAX_ADDRESSES {
                // What answered just now is worth more than what did not.
                let stale = self.addresses.iter().find(|(_, known)| !known.named && !known.good);
                let Some((stale, _)) = stale.map(|(address, known)| (address.clone(), *known)) else {
                    return;
                };
                self.addresses.remove(&stale);
            }
        }
        for known in self.addresses.values_mut() {
            known.good = false;
        }
        self.addresses.entry(address.clone()).or_default().good = true;
    }

    /// Whether there is a connection, or may be one soon.
    fn is_busy(&self) -> bool {
        self.connections > 0 || self.dialling.is_some()
    }

    fn is_named(&self) -> bool {
        self.addresses.values().any(|known| known.named)
    }

    fn wants_dial(&self) -> bool {
        !self.is_busy() && !self.addresses.is_empty()
    }

    /// When it may be dialled, ban considered.
    fn dial_time(&self) -> LocalTime {
        self.banned_until.map_or(self.next_dial, |until| self.next_dial.max(until))
    }
}

impl Anonymous {
    fn wants_dial(&self) -> bool {
        self.dialling.is_none() && !self.ourselves
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
