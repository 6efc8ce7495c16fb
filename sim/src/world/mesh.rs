//! Who finds whom, and what becomes of dials and connections.
//!
//! The nodes' meshes decide whom to dial; here it is carried out. Who is on the same local network is found by multicast: a
//! host asks when it starts and every few seconds (`transport/src/driver/mdns.rs`), and says so when it starts or has another
//! address. Those on other networks hear of each other by a server on the public network that everybody asks as often and
//! that sees under which address each is reached. The product has no such server yet, there somebody types the address;
//! but an address typed would not follow a box that forgets or a laptop that moves.
//!
//! A handshake is two packets that the weather may lose, sent again as quinn does; then the dialling end has a connection,
//! and half a round trip later the other.

use std::{net::SocketAddrV4, time::Duration};

use transport::mesh::{Attempt, ClosedBy, DialFailure};

use super::{Event, KEEP_ALIVE_S, World};
use crate::{
    network::{ConnectionId, HostId, IDLE_TIMEOUT, Meeting, SiteId},
    node::{Handshake, mesh::multiaddr},
};

/// A dial's number.
pub(super) type DialId = u64;

/// Time between two questions who is there, as in the product.
const LOOK: Duration = Duration::from_secs(4);
/// Time between an announcement and its repetition (RFC 6762, section 8.3).
const ANNOUNCE_AGAIN: Duration = Duration::from_secs(1);
/// Longest time until a new address is noticed and announced: the product looks every two seconds.
const NOTICE_ADDRESS_S: f64 = 2.0;
/// Answers to a multicast question are put off by so long, s (RFC 6762, section 6).
const ANSWER_S: (f64, f64) = (0.02, 0.12);
/// What a record takes in a multicast packet, octets.
const RECORD: usize = 250;
/// When the first packet of a handshake is sent: quinn's probe timeout is three round trips of the 100 ms it begins with, and
/// doubles each time.
const KNOCKS: [Duration; 4] =
    [Duration::ZERO, Duration::from_millis(300), Duration::from_millis(900), Duration::from_millis(2_100)];
/// How long one handshake may take, as in the product.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(4);
/// When to look again at something that waits for a sleeping host.
const DOZE: Duration = Duration::from_secs(1);

/// A dial under way.
#[derive(Clone, Debug)]
pub(super) struct Dial {
    pub(super) client: HostId,
    pub(super) boot: u32,
    pub(super) attempt: Attempt,
    pub(super) wanted: Option<HostId>,
    pub(super) addresses: Vec<SocketAddrV4>,
    pub(super) replaces: bool,
}

impl World {
    // --- who is there ------------------------------------------------------------------------------------

    /// A node has started: it learns its address, asks and says that it is there.
    pub(super) fn appear(&mut self, id: HostId) {
        let Some(own) = self.network.address(id) else { return };
        self.with_node(id, |node, now| node.handle_address(now, None, *own.ip()));
        let Some(boot) = self.hosts.get(id).map(|host| host.boot) else { return };
        self.schedule(self.now, Event::Look { host: id, boot });
        self.schedule(self.now, Event::Announce { host: id, boot });
        self.schedule(self.now + ANNOUNCE_AGAIN, Event::Announce { host: id, boot });
    }

    /// A node leaves and says so on its local network.
    pub(super) fn disappear(&mut self, id: HostId) {
        for (host, delay) in self.neighbours(id) {
            self.schedule(self.now + delay, Event::Gone { host, of: id });
        }
    }

    pub(super) fn look(&mut self, id: HostId, boot: u32) {
        let Some(host) = self.hosts.get(id).filter(|host| host.boot == boot && host.node.is_some()) else {
            return;
        };
        let awake = host.asleep.is_none();
        self.schedule(self.now + LOOK, Event::Look { host: id, boot });
        if !awake {
            return;
        }
        for (of, there) in self.neighbours(id) {
            let back = self.network.one_way(of, id);
            let pause = self.mesh_random.between(ANSWER_S.0, ANSWER_S.1);
            let Some(address) = self.network.address(of) else { continue };
            let at = self.now + there + back + Duration::from_secs_f64(pause);
            self.schedule(at, Event::Sighting { host: id, of, address });
        }
        // Asking keeps this host's own mapping alive as well.
        self.network.observed_address(self.now, id);
        for of in 0..self.hosts.len() {
            let elsewhere = of != id && self.network.site(of) != self.network.site(id);
            if !elsewhere || !self.hosts.get(of).is_some_and(crate::host::Host::runs) {
                continue;
            }
            let pause = self.mesh_random.between(ANSWER_S.0, ANSWER_S.1);
            let Some(address) = self.network.observed_address(self.now, of) else { continue };
            let at = self.now + Duration::from_secs_f64(pause);
            self.schedule(at, Event::Sighting { host: id, of, address });
        }
    }

    pub(super) fn announce(&mut self, id: HostId, boot: u32) {
        let runs = self.hosts.get(id).is_some_and(|host| host.boot == boot && host.runs());
        let Some(address) = self.network.address(id).filter(|_| runs) else { return };
        for (host, delay) in self.neighbours(id) {
            self.schedule(self.now + delay, Event::Sighting { host, of: id, address });
        }
    }

    /// The hosts on the same local network that a multicast packet reaches now, and after how long.
    fn neighbours(&mut self, id: HostId) -> Vec<(HostId, Duration)> {
        let site = self.network.site(id);
        let mut reached = vec![];
        for host in (0..self.hosts.len()).filter(|host| *host != id) {
            let listens = self.hosts.get(host).is_some_and(crate::host::Host::runs);
            if !listens || self.network.site(host) != site {
                continue;
            }
            if let Some(at) = self.network.send_unprotected(self.now, id, host, RECORD).arrival() {
                reached.push((host, at.since(self.now)));
            }
        }
        reached
    }

    pub(super) fn sight(&mut self, host: HostId, of: HostId, address: SocketAddrV4) {
        let Some((peer, session)) = self.hosts.get(of).map(|of| (of.peer, of.session.clone())) else {
            return;
        };
        self.with_node(host, |node, now| node.handle_hint(now, peer, &session, address));
    }

    pub(super) fn miss(&mut self, host: HostId, of: HostId) {
        let Some(peer) = self.peer_key(of) else { return };
        self.with_node(host, |node, now| node.handle_gone(now, peer));
    }

    pub(super) fn move_host(&mut self, id: HostId, site: SiteId) {
        let before = self.network.address(id).map(|address| *address.ip());
        let moved = self.network.move_host(self.now, id, site);
        self.tell_moved(moved);
        self.await_silence();
        let Some(own) = self.network.address(id).map(|address| *address.ip()) else { return };
        self.with_node(id, |node, now| node.handle_address(now, before, own));
        let Some(boot) = self.hosts.get(id).map(|host| host.boot) else { return };
        let pause = Duration::from_secs_f64(self.mesh_random.between(0.0, NOTICE_ADDRESS_S));
        self.schedule(self.now + pause, Event::Announce { host: id, boot });
        self.schedule(self.now + pause + ANNOUNCE_AGAIN, Event::Announce { host: id, boot });
    }

    /// The servers of these connections see their clients under other addresses.
    pub(super) fn tell_moved(&mut self, moved: Vec<(ConnectionId, Meeting)>) {
        for (connection, meeting) in moved {
            let at = self.now + self.network.one_way(meeting.client, meeting.server);
            let address = meeting.client_address;
            self.schedule(at, Event::Moved { host: meeting.server, connection, address });
        }
    }

    // --- dials -------------------------------------------------------------------------------------------

    pub(super) fn dial(&mut self, from: HostId, dial: Dial) {
        let Some(boot) = self.hosts.get(from).map(|host| host.boot) else { return };
        let id = self.next_dial;
        self.next_dial += 1;
        self.dials.insert(id, Dial { boot, ..dial });
        for (time, after) in KNOCKS.into_iter().enumerate() {
            self.schedule(self.now + after, Event::Knock(id, time));
        }
        self.schedule(self.now + HANDSHAKE_TIMEOUT, Event::GiveUp(id));
    }

    pub(super) fn knock(&mut self, id: DialId, time: usize) {
        let Some(dial) = self.dials.get(&id).cloned() else { return };
        if !self.hosts.get(dial.client).is_some_and(|host| host.boot == dial.boot && host.runs()) {
            return;
        }
        let content = format!("{:?} for the time {time}", dial.addresses);
        let wanted = dial.wanted.unwrap_or(usize::MAX);
        self.log.record(self.now, "knock", dial.client, wanted, content.as_bytes());
        // The first of the addresses where anybody answers; all are tried at once.
        let mut met =
            dial.addresses.iter().map(|to| self.network.knock(self.now, dial.client, *to, dial.wanted));
        let Some(meeting) = met.find_map(|meeting| meeting) else { return };
        if let Some(at) = self.network.send_handshake(self.now, meeting.client, meeting.server) {
            self.schedule(at, Event::Knocked(id, meeting));
        }
    }

    pub(super) fn knocked(&mut self, id: DialId, meeting: Meeting) {
        let Some(server) = self.hosts.get(meeting.server).filter(|host| host.runs()) else { return };
        let server_boot = server.boot;
        if let Some(at) = self.network.send_handshake(self.now, meeting.server, meeting.client) {
            self.schedule(at, Event::Shaken { dial: id, meeting, server_boot });
        }
    }

    pub(super) fn shaken(&mut self, id: DialId, meeting: Meeting, server_boot: u32) {
        let Meeting { client, server, .. } = meeting;
        if !self.hosts.get(client).is_some_and(crate::host::Host::runs)
            || !self.network.is_open(client, server)
        {
            return;
        }
        let Some(dial) = self.dials.remove(&id) else { return };
        if self.hosts.get(client).is_none_or(|host| host.boot != dial.boot) {
            return;
        }
        let (Some(peer), Some(node)) =
            (self.peer_key(server), self.hosts.get(client).and_then(|host| host.node.as_ref()))
        else {
            return;
        };
        let failure = if dial.wanted.is_some_and(|wanted| wanted != server) {
            let Ok(obtained) = peer.name().parse() else { return };
            Some(DialFailure::WrongPeer { address: multiaddr(meeting.server_address), obtained })
        } else if node.is_connected(&peer) && !dial.replaces {
            // While the dial was on its way, the peer's came through.
            peer.name().parse().ok().map(DialFailure::AlreadyConnected)
        } else {
            None
        };
        if let Some(failure) = failure {
            let attempt = dial.attempt;
            return self.with_node(client, |node, now| node.handle_dial_failed(now, attempt, failure));
        }
        let connection = self.network.connect(meeting);
        self.connections_made += 1;
        let at = self.now + self.network.one_way(client, server);
        self.accepting.insert(connection, (meeting, server_boot));
        self.schedule(at, Event::Accepted(connection));
        let own = self.network.address(client).map(|address| *address.ip());
        let address = meeting.server_address;
        let made = Handshake { connection, peer, address, own, attempt: Some(dial.attempt) };
        self.with_node(client, |node, now| node.handle_made(now, made));
    }

    pub(super) fn give_up(&mut self, id: DialId) {
        let Some(dial) = self.dials.get(&id) else { return };
        let (client, boot, attempt) = (dial.client, dial.boot, dial.attempt);
        // A sleeping host's timer stands still.
        if self.hosts.get(client).is_some_and(|host| host.boot == boot && host.asleep.is_some()) {
            return self.schedule(self.now + DOZE, Event::GiveUp(id));
        }
        self.dials.remove(&id);
        if self.hosts.get(client).is_some_and(|host| host.boot == boot) {
            let failure = DialFailure::Unreachable;
            self.with_node(client, |node, now| node.handle_dial_failed(now, attempt, failure));
        }
    }

    // --- connections -------------------------------------------------------------------------------------

    /// The dialled end has a connection, at the latest when the first words come on it.
    pub(super) fn accepted(&mut self, connection: ConnectionId) {
        let Some((meeting, boot)) = self.accepting.remove(&connection) else { return };
        let Meeting { client, server, client_address, .. } = meeting;
        if self.network.ends(connection).is_none() {
            return;
        }
        if !self.hosts.get(server).is_some_and(|host| host.boot == boot && host.runs()) {
            self.network.disconnect(connection);
            let at = self.now + self.silence();
            self.schedule(at, Event::Closed { host: client, connection, by: ClosedBy::Silence });
            return;
        }
        let Some(peer) = self.peer_key(client) else { return };
        let own = self.network.address(server).map(|address| *address.ip());
        let made = Handshake { connection, peer, address: client_address, own, attempt: None };
        self.with_node(server, |node, now| node.handle_made(now, made));
    }

    /// One end closes a connection and tells the other why.
    pub(super) fn hang_up(&mut self, host: HostId, connection: ConnectionId, code: u64, text: &str) {
        let Some((a, b)) = self.network.ends(connection) else { return };
        let other = if a == host { b } else { a };
        let gets_there = self.network.silent_since(connection).is_none();
        self.network.disconnect(connection);
        self.log.record(self.now, "close", host, other, text.as_bytes());
        let (by, delay) = if gets_there {
            (ClosedBy::Peer { code, text: text.to_owned() }, self.network.one_way(host, other))
        } else {
            (ClosedBy::Silence, self.silence())
        };
        self.schedule(self.now + delay, Event::Closed { host: other, connection, by });
    }

    /// Something is sent over a connection that the other end knows nothing of, and it says so.
    pub(super) fn send_away(&mut self, from: HostId, to: HostId, connection: ConnectionId) {
        if self.hosts.get(to).is_some_and(crate::host::Host::runs) && self.network.is_open(from, to) {
            let at = self.now + self.network.one_way(from, to) + self.network.one_way(to, from);
            self.schedule(at, Event::Closed { host: from, connection, by: ClosedBy::Reset });
        }
    }

    pub(super) fn closed(&mut self, id: HostId, connection: ConnectionId, by: ClosedBy) {
        let Some(host) = self.hosts.get_mut(id) else { return };
        if host.asleep.is_some() {
            host.missed.push(connection);
            return;
        }
        self.with_node(id, |node, now| node.handle_closed(now, connection, by));
    }

    pub(super) fn time_out(&mut self, connection: ConnectionId) {
        let since = self.network.silent_since(connection);
        if since.is_some_and(|since| self.now.since(since) >= IDLE_TIMEOUT) {
            self.break_off(connection);
        }
    }

    /// Both ends conclude from silence that the connection is dead, each in its own time.
    pub(super) fn break_off(&mut self, connection: ConnectionId) {
        let Some((a, b)) = self.network.disconnect(connection) else { return };
        for host in [a, b] {
            let at = self.now + Duration::from_secs_f64(self.random.between(0.0, KEEP_ALIVE_S));
            self.schedule(at, Event::Closed { host, connection, by: ClosedBy::Silence });
        }
    }

    pub(super) fn silence(&mut self) -> Duration {
        IDLE_TIMEOUT + Duration::from_secs_f64(self.random.between(0.0, KEEP_ALIVE_S))
    }
}
