//! Which connection to a peer is kept, and what becomes of the others.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use libp2p::{Multiaddr, PeerId};

use super::super::backoff;
use super::super::hello::{Hello, PROTOCOL_VERSION};
use super::super::path::{self, PathKind, Subnets};
use super::super::reason::{CloseReason, ClosedBy, DisconnectReason};
use super::book::Peer;
use super::{
    ConnectionKey, EAGER_CAP, HELLO_TIMEOUT, MAX_CONNECTED, MAX_CONNECTIONS_PER_PEER, MAX_STRANGERS, Made,
    Output, Planner, QUIET, SETTLE, Side, Target, split_peer,
};
use crate::time::LocalTime;

#[derive(Debug)]
pub(super) struct Connection {
    pub(super) peer: PeerId,
    pub(super) side: Side,
    pub(super) address: Multiaddr,
    pub(super) local_ip: Option<IpAddr>,
    pub(super) ours: Hello,
    pub(super) theirs: Option<Hello>,
    pub(super) hello_deadline: LocalTime,
    pub(super) path: PathKind,
}

impl Planner {
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
            if reason == CloseReason::OtherVersion && theirs.session_tag == self.settings.session_tag {
                self.warn_of_version(peer, theirs.version);
            }
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
                    DisconnectReason::Dismissed(_) => {
                        record.quiet_until = now + QUIET;
                        QUIET
                    }
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

    /// Why not to keep a fresh connection.
    pub(super) fn refusal(&self, now: LocalTime, peer: &PeerId) -> Option<CloseReason> {
        let record = self.peers.get(peer);
        if record.and_then(|record| record.banned_until).is_some_and(|until| now < until) {
            return Some(CloseReason::Dismissed("banned".to_owned()));
        }
        (self.connections_of(peer).len() >= MAX_CONNECTIONS_PER_PEER).then_some(CloseReason::Crowded)
    }

    /// Whom to put out when there are more strangers than we hear out: the one longest here of those from the address that
    /// most come from. A friend who knocks during a flood has said hello long before its turn comes.
    pub(super) fn stranger_to_leave(&self) -> Option<ConnectionKey> {
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
    pub(super) fn note_answer(
        &mut self,
        now: LocalTime,
        peer: PeerId,
        address: &Multiaddr,
        target: Option<&Target>,
    ) {
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
    pub(super) fn remember(&mut self, now: LocalTime, peer: PeerId, connection: ConnectionKey) {
        let Some(address) = self.connections.get(&connection).map(|it| it.address.clone()) else { return };
        if !self.peers.contains_key(&peer) && self.make_room() {
            let mut record = Peer::new(now, now);
            record.connections = self.connections_of(&peer).len();
            record.note_good(&address, !self.settings.pinned);
            self.peers.insert(peer, record);
        }
    }

    /// Closes whatever is left of a peer's earlier runs.
    pub(super) fn bury_earlier_runs(&mut self, peer: PeerId, instance: u64) {
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
    pub(super) fn elect(&mut self, now: LocalTime, peer: PeerId, newcomer: ConnectionKey) {
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
            record.elected_at = now;
            record.is_proven = true;
            record.failures = 0;
            record.replace_at = None;
            record.last_seen = now;
        }
        self.outputs.push_back(Output::Connected { peer, connection: newcomer, address, path });
    }

    /// After losing the elected connection: another one that is ready takes over.
    pub(super) fn elect_best_remaining(&mut self, now: LocalTime, peer: PeerId) {
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
    pub(super) fn rank(&self, connection: ConnectionKey) -> Option<(u32, bool, u64)> {
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

    pub(super) fn generation(&self, peer: &PeerId) -> u32 {
        self.elected(peer).and_then(|elected| self.rank(elected)).map_or(0, |(generation, ..)| generation)
    }

    pub(super) fn close(&mut self, connection: ConnectionKey, reason: CloseReason) {
        let news = DisconnectReason::ByUs(reason.text().to_owned());
        self.close_as(connection, reason, news);
    }

    pub(super) fn close_as(
        &mut self,
        connection: ConnectionKey,
        reason: CloseReason,
        news: DisconnectReason,
    ) {
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

    pub(super) fn remove_connection(&mut self, connection: ConnectionKey) -> Option<Connection> {
        let entry = self.connections.remove(&connection)?;
        if let Some(record) = self.peers.get_mut(&entry.peer) {
            record.connections = record.connections.saturating_sub(1);
        }
        Some(entry)
    }

    pub(super) fn drop_silent_strangers(&mut self, now: LocalTime) {
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
    pub(super) fn reclassify(&mut self) {
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

    /// Where we are the server on an address that is gone, only a new connection helps; also where we are the client and
    /// no other address of ours is on the peer's network. `before`: the subnets when it was still there.
    pub(super) fn replace_connections_at(&mut self, now: LocalTime, lost: IpAddr, before: &Subnets) {
        for (key, connection) in &self.connections {
            let stranded = match connection.side {
                Side::Listener => connection.local_ip.is_none_or(|ip| ip == lost),
                // QUIC moves a client to another of its addresses by itself, but not off a link it names.
                Side::Dialer if path::is_link_local(&connection.address) => {
                    path::is_loopback_or_link_local(lost)
                }
                Side::Dialer => {
                    let is_lan = |subnets: &Subnets| subnets.classify(&connection.address) == PathKind::Lan;
                    is_lan(before) && !is_lan(&self.subnets)
                }
            };
            if stranded
                && let Some(record) = self.peers.get_mut(&connection.peer)
                && record.elected == Some(*key)
            {
                record.replace_at = Some(now + SETTLE);
                record.replace_failures = 0;
            }
        }
    }

    /// Whether a connection of which we are the client goes on by itself: an address on the peer's network is often gone
    /// because another one takes its place.
    pub(super) fn is_within_reach(&self, connection: ConnectionKey) -> bool {
        self.connections.get(&connection).is_some_and(|it| {
            it.side == Side::Dialer
                && !path::is_link_local(&it.address)
                && self.subnets.classify(&it.address) == PathKind::Lan
        })
    }
}
