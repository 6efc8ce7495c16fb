//! Network address translators, in the terms of RFC 4787.
//!
//! Whether two musicians at home hear each other directly is decided by two boxes nobody has ever looked at. RFC 4787
//! sorts them by two questions: under which address does an inside socket appear outside ([`Mapping`]), and whose
//! packets are let in ([`Filtering`]). [`Nat`] is one such box as a value: packets go through [`Nat::outbound`] and
//! [`Nat::inbound`], and come out with other addresses or not at all.
//!
//! Limits: UDP over IPv4 with one public address; no port control (UPnP, PCP), no fragments, no ICMP.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddrV4},
    time::Duration,
};

use crate::{clock::WorldTime, random::Random};

/// Mappings one box holds, at most; the one that was silent for longest makes room. The smallest home routers hold a
/// few thousand of all kinds.
pub const MAX_MAPPINGS: usize = 1_024;
/// Peers one mapping remembers having sent to, at most; the oldest is forgotten.
const MAX_PEERS: usize = 256;
/// Where ports begin that a box picks by itself (the dynamic ports of RFC 6335).
const FIRST_PORT: u16 = 49_152;

/// When two packets of one inside socket to different destinations appear under the same outside address (RFC 4787,
/// section 4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mapping {
    /// Always.
    EndpointIndependent,
    /// When they go to the same address, whatever the port.
    AddressDependent,
    /// When they go to the same address and port: "symmetric".
    AddressAndPortDependent,
}

/// Which packets from outside are let in to an inside socket (RFC 4787, section 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filtering {
    /// All, once the socket has sent anything to anybody.
    EndpointIndependent,
    /// Those from an address it has sent to.
    AddressDependent,
    /// Those from an address and port it has sent to.
    AddressAndPortDependent,
}

/// Which outside port a new mapping gets (RFC 4787, section 4.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortAllocation {
    /// The inside port if it is free, else as [`PortAllocation::Sequential`].
    Preserving,
    /// The next free one.
    Sequential,
    /// A random free one.
    Random,
}

/// What kind of box it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NatKind {
    /// How it maps.
    pub mapping: Mapping,
    /// Whom it lets in.
    pub filtering: Filtering,
    /// Which ports it gives.
    pub ports: PortAllocation,
    /// How long a mapping lives without a packet from inside. RFC 4787 asks for two minutes at least; many boxes
    /// have 30 s.
    pub timeout: Duration,
    /// Whether packets from outside keep a mapping alive as well.
    pub inbound_refreshes: bool,
    /// Whether two inside sockets reach each other by their outside addresses (hairpinning, section 6).
    pub hairpins: bool,
}

impl NatKind {
    /// What RFC 4787 asks for: "full cone", or with stricter filtering the usual home router.
    pub const fn well_behaved(filtering: Filtering) -> Self {
        Self {
            mapping: Mapping::EndpointIndependent,
            filtering,
            ports: PortAllocation::Preserving,
            timeout: Duration::from_secs(120),
            inbound_refreshes: false,
            hairpins: true,
        }
    }

    /// A home router: endpoint-independent mapping, filters by address and port, keeps ports, forgets after 30 s and
    /// does not hairpin.
    pub const fn home() -> Self {
        Self {
            timeout: Duration::from_secs(30),
            hairpins: false,
            ..Self::well_behaved(Filtering::AddressAndPortDependent)
        }
    }

    /// The worst: every destination another random port. Mobile carriers and company firewalls.
    pub const fn symmetric() -> Self {
        Self { mapping: Mapping::AddressAndPortDependent, ports: PortAllocation::Random, ..Self::home() }
    }

    /// Whether hosts behind two boxes can reach each other when each sends to the address under which a third host
    /// saw the other (a hole punch without guessing of ports). The packets of [`Nat`] must come to the same answer.
    pub fn lets_meet(self, other: Self) -> bool {
        // Whose address towards the peer differs from the one the third host saw can only be let in by a box that does
        // not look at the ports; the addresses are the same, because a box here has but one.
        let moves = |nat: Self| nat.mapping != Mapping::EndpointIndependent;
        let looks_at_ports = |nat: Self| nat.filtering == Filtering::AddressAndPortDependent;
        match (moves(self), moves(other)) {
            (false, false) => true,
            (true, false) => !looks_at_ports(other),
            (false, true) => !looks_at_ports(self),
            // Even where the first packet gets in, the answer comes from another port, which QUIC's client refuses.
            (true, true) => false,
        }
    }
}

/// The part of a destination that a mapping depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Scope(Option<Ipv4Addr>, Option<u16>);

#[derive(Clone, Debug)]
struct Entry {
    inside: SocketAddrV4,
    scope: Scope,
    /// Whom it has sent to, the latest last.
    peers: Vec<SocketAddrV4>,
    used_at: WorldTime,
}

/// One box.
#[derive(Clone, Debug)]
pub struct Nat {
    kind: NatKind,
    address: Ipv4Addr,
    /// By outside port.
    entries: BTreeMap<u16, Entry>,
    next_port: u16,
    random: Random,
}

impl Nat {
    /// A box with this outside address.
    pub fn new(kind: NatKind, address: Ipv4Addr, random: Random) -> Self {
        Self { kind, address, entries: BTreeMap::new(), next_port: FIRST_PORT, random }
    }

    /// What kind it is.
    pub fn kind(&self) -> NatKind {
        self.kind
    }

    /// Its outside address.
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// How many mappings it holds.
    pub fn mappings(&self) -> usize {
        self.entries.len()
    }

    /// It is switched off and on.
    pub fn reboot(&mut self) {
        self.entries.clear();
        // A box that has no clock picks its ports anew.
        self.next_port = FIRST_PORT + self.random.below(8_192) as u16;
    }

    /// A packet from an inside socket to the outside; gives the source it leaves with. `None`: no port is free.
    pub fn outbound(
        &mut self,
        now: WorldTime,
        inside: SocketAddrV4,
        to: SocketAddrV4,
    ) -> Option<SocketAddrV4> {
        self.expire(now);
        let scope = match self.kind.mapping {
            Mapping::EndpointIndependent => Scope(None, None),
            Mapping::AddressDependent => Scope(Some(*to.ip()), None),
            Mapping::AddressAndPortDependent => Scope(Some(*to.ip()), Some(to.port())),
        };
        let known = self
            .entries
            .iter()
            .find(|(_, entry)| entry.inside == inside && entry.scope == scope)
            .map(|(port, _)| *port);
        let port = match known {
            Some(port) => port,
            None => self.allocate(inside)?,
        };
        let entry = self.entries.entry(port).or_insert(Entry { inside, scope, peers: vec![], used_at: now });
        entry.used_at = now;
        entry.peers.retain(|peer| *peer != to);
        if entry.peers.len() >= MAX_PEERS {
            entry.peers.remove(0);
        }
        entry.peers.push(to);
        Some(SocketAddrV4::new(self.address, port))
    }

    /// A packet from the outside to one of its ports; gives the inside socket it is handed to. `None`: filtered.
    pub fn inbound(&mut self, now: WorldTime, from: SocketAddrV4, port: u16) -> Option<SocketAddrV4> {
        self.expire(now);
        let entry = self.entries.get_mut(&port)?;
        let welcome = match self.kind.filtering {
            Filtering::EndpointIndependent => true,
            Filtering::AddressDependent => entry.peers.iter().any(|peer| peer.ip() == from.ip()),
            Filtering::AddressAndPortDependent => entry.peers.contains(&from),
        };
        if !welcome {
            return None;
        }
        if self.kind.inbound_refreshes {
            entry.used_at = now;
        }
        Some(entry.inside)
    }

    fn expire(&mut self, now: WorldTime) {
        let timeout = self.kind.timeout;
        self.entries.retain(|_, entry| now.since(entry.used_at) < timeout);
    }

    fn allocate(&mut self, inside: SocketAddrV4) -> Option<u16> {
        if self.entries.len() >= MAX_MAPPINGS {
            let oldest = self.entries.iter().min_by_key(|(_, entry)| entry.used_at).map(|(port, _)| *port);
            oldest.and_then(|port| self.entries.remove(&port));
        }
        let span = u32::from(u16::MAX - FIRST_PORT) + 1;
        match self.kind.ports {
            PortAllocation::Preserving if !self.entries.contains_key(&inside.port()) => {
                return Some(inside.port());
            }
            PortAllocation::Preserving | PortAllocation::Sequential => {}
            PortAllocation::Random => {
                self.next_port = FIRST_PORT + self.random.below(u64::from(span)) as u16;
            }
        }
        for _ in 0..span {
            let port = self.next_port;
            self.next_port = port.checked_add(1).unwrap_or(FIRST_PORT);
            if !self.entries.contains_key(&port) {
                return Some(port);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INSIDE: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 10), 7778);
    const NEIGHBOUR: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 11), 7778);
    const PUBLIC: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);

    fn peer(host: u8, port: u16) -> SocketAddrV4 {
        SocketAddrV4::new(Ipv4Addr::new(198, 51, 100, host), port)
    }

    fn nat(kind: NatKind) -> Nat {
        Nat::new(kind, PUBLIC, Random::new(1))
    }

    /// The outside ports of four destinations: two ports of one address, and of another.
    fn ports(mapping: Mapping) -> [u16; 4] {
        let mut nat = nat(NatKind { mapping, ports: PortAllocation::Sequential, ..NatKind::home() });
        [peer(1, 1), peer(1, 2), peer(2, 1), peer(2, 2)]
            .map(|to| nat.outbound(WorldTime(0), INSIDE, to).unwrap().port())
    }

    #[test]
    fn a_mapping_depends_on_what_its_class_says() {
        let [a, b, c, d] = ports(Mapping::EndpointIndependent);
        assert!(a == b && b == c && c == d);
        let [a, b, c, d] = ports(Mapping::AddressDependent);
        assert!(a == b && c == d && a != c);
        let mut all = ports(Mapping::AddressAndPortDependent).to_vec();
        all.dedup();
        assert_eq!(all.len(), 4);
    }

    #[test]
    fn a_filter_lets_in_whom_its_class_says() {
        let let_in = |filtering: Filtering| {
            let mut nat = nat(NatKind::well_behaved(filtering));
            let port = nat.outbound(WorldTime(0), INSIDE, peer(1, 1)).unwrap().port();
            [peer(1, 1), peer(1, 2), peer(2, 1)]
                .map(|from| nat.inbound(WorldTime(1), from, port) == Some(INSIDE))
        };
        assert_eq!(let_in(Filtering::EndpointIndependent), [true, true, true]);
        assert_eq!(let_in(Filtering::AddressDependent), [true, true, false]);
        assert_eq!(let_in(Filtering::AddressAndPortDependent), [true, false, false]);
        assert_eq!(nat(NatKind::home()).inbound(WorldTime(0), peer(1, 1), 7778), None, "nobody has sent");
    }

    #[test]
    fn a_silent_mapping_is_forgotten_and_inbound_packets_help_only_where_they_count() {
        for inbound_refreshes in [false, true] {
            let mut nat = nat(NatKind { inbound_refreshes, ..NatKind::home() });
            nat.outbound(WorldTime(0), INSIDE, peer(1, 1)).unwrap();
            let at = |seconds| WorldTime::from_seconds(seconds);
            assert!(nat.inbound(at(20.0), peer(1, 1), 7778).is_some());
            assert_eq!(nat.inbound(at(40.0), peer(1, 1), 7778).is_some(), inbound_refreshes);
            assert_eq!(nat.inbound(at(90.0), peer(1, 1), 7778), None);
        }
    }

    #[test]
    fn ports_are_kept_where_they_are_free_and_never_given_twice() {
        let mut nat = nat(NatKind::home());
        assert_eq!(nat.outbound(WorldTime(0), INSIDE, peer(1, 1)).unwrap().port(), 7778);
        assert_ne!(nat.outbound(WorldTime(0), NEIGHBOUR, peer(1, 1)).unwrap().port(), 7778);
        let mut symmetric = Nat::new(NatKind::symmetric(), PUBLIC, Random::new(2));
        let mut given = std::collections::BTreeSet::new();
        for port in 1..=1_000 {
            given.insert(symmetric.outbound(WorldTime(0), INSIDE, peer(1, port)).unwrap());
        }
        assert_eq!(given.len(), 1_000);
    }

    #[test]
    fn a_flood_of_destinations_costs_bounded_memory() {
        let mut nat = nat(NatKind::symmetric());
        for port in 1..=3_000 {
            nat.outbound(WorldTime(u64::from(port)), INSIDE, peer(1, port)).unwrap();
        }
        assert_eq!(nat.mappings(), MAX_MAPPINGS);
        nat.reboot();
        assert_eq!(nat.mappings(), 0);
    }
}
