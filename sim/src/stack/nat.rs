//! A network address translator, by the classes of RFC 4787.
//!
//! A value: it is told of packets and says what becomes of their addresses.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use crate::clock::WorldTime;

/// What a mapping, or the filter before it, depends on besides the inner address (RFC 4787, sections 4.1 and 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dependence {
    /// On nothing else.
    EndpointIndependent,
    /// On the outer address.
    Address,
    /// On the outer address and port.
    AddressAndPort,
}

/// How a translator behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NatKind {
    /// Which packets from one inner address share an outer port.
    pub mapping: Dependence,
    /// Who may send to an outer port.
    pub filtering: Dependence,
    /// Whether an outer port is the inner one where that is free.
    pub preserves_ports: bool,
    /// How long a mapping lasts after the last packet from inside.
    pub forgets_after: Duration,
}

impl NatKind {
    /// What most home routers are: one outer port, the same as inside; only those written to may answer. Two minutes, the
    /// shortest that RFC 4787 (REQ-5) allows.
    pub const HOME: Self = Self {
        mapping: Dependence::EndpointIndependent,
        filtering: Dependence::AddressAndPort,
        preserves_ports: true,
        forgets_after: Duration::from_secs(120),
    };

    /// What defeats hole punching: another port for each outer address.
    pub const SYMMETRIC: Self =
        Self { mapping: Dependence::AddressAndPort, preserves_ports: false, ..Self::HOME };
}

/// Mappings at once; a router that has more forgets the one that was used longest ago.
const MAX_MAPPINGS: usize = 1024;

/// The first port given out where ports are not preserved.
const FIRST_PORT: u16 = 20_000;

/// The packet does not pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blocked;

/// One translator with its mappings.
#[derive(Clone, Debug)]
pub struct Nat {
    kind: NatKind,
    outer: IpAddr,
    mappings: Vec<Mapping>,
    next_port: u16,
}

#[derive(Clone, Debug)]
struct Mapping {
    inner: SocketAddr,
    /// The part of the outer end that makes this another mapping.
    towards: Key,
    port: u16,
    /// Who was written to, as the filter sees it.
    permitted: BTreeMap<Key, ()>,
    used: WorldTime,
}

type Key = (Option<IpAddr>, Option<u16>);

fn key(dependence: Dependence, remote: SocketAddr) -> Key {
    match dependence {
        Dependence::EndpointIndependent => (None, None),
        Dependence::Address => (Some(remote.ip()), None),
        Dependence::AddressAndPort => (Some(remote.ip()), Some(remote.port())),
    }
}

impl Nat {
    /// A translator whose outer address is `outer`.
    pub fn new(kind: NatKind, outer: IpAddr) -> Self {
        Self { kind, outer, mappings: vec![], next_port: FIRST_PORT }
    }

    /// Its outer address.
    pub fn outer(&self) -> IpAddr {
        self.outer
    }

    /// A packet leaves: the address it is seen to come from.
    pub fn outbound(&mut self, now: WorldTime, from: SocketAddr, to: SocketAddr) -> SocketAddr {
        self.forget_the_old(now);
        let towards = key(self.kind.mapping, to);
        let known = self.mappings.iter().position(|it| it.inner == from && it.towards == towards);
        let index = known.unwrap_or_else(|| {
            if self.mappings.len() >= MAX_MAPPINGS {
                self.mappings.remove(0);
            }
            let port = self.free_port(from.port());
            let permitted = BTreeMap::new();
            self.mappings.push(Mapping { inner: from, towards, port, permitted, used: now });
            self.mappings.len() - 1
        });
        let filtering = self.kind.filtering;
        // Last in the list is used last.
        let mut mapping = self.mappings.remove(index);
        mapping.used = now;
        mapping.permitted.insert(key(filtering, to), ());
        let seen = SocketAddr::new(self.outer, mapping.port);
        self.mappings.push(mapping);
        seen
    }

    /// A packet arrives at the outer `port`: whom it is for.
    ///
    /// # Errors
    /// Nobody inside asked for it.
    pub fn inbound(&mut self, now: WorldTime, from: SocketAddr, port: u16) -> Result<SocketAddr, Blocked> {
        self.forget_the_old(now);
        let filter = key(self.kind.filtering, from);
        let mapping = self.mappings.iter().find(|it| it.port == port).ok_or(Blocked)?;
        if mapping.permitted.contains_key(&filter) { Ok(mapping.inner) } else { Err(Blocked) }
    }

    /// Loses all mappings, and gives out other ports from now on: what a restart of the router does.
    pub fn restart(&mut self) {
        self.mappings.clear();
        self.kind.preserves_ports = false;
        self.next_port = self.next_port.wrapping_add(1_000).max(FIRST_PORT);
    }

    fn forget_the_old(&mut self, now: WorldTime) {
        self.mappings.retain(|it| now.since(it.used) < self.kind.forgets_after);
    }

    fn free_port(&mut self, wanted: u16) -> u16 {
        let is_free = |port: u16| self.mappings.iter().all(|it| it.port != port);
        if self.kind.preserves_ports && is_free(wanted) {
            return wanted;
        }
        let mut port = self.next_port;
        while !is_free(port) {
            port = port.wrapping_add(1).max(FIRST_PORT);
        }
        self.next_port = port.wrapping_add(1).max(FIRST_PORT);
        port
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: WorldTime = WorldTime(0);

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn nat(kind: NatKind) -> Nat {
        Nat::new(kind, "203.0.113.1".parse().unwrap())
    }

    #[test]
    fn a_home_router_shows_one_port_and_lets_in_only_answers() {
        let mut nat = nat(NatKind::HOME);
        let (inner, bob, carol) = (address("192.168.1.2:7778"), address("8.8.8.8:1"), address("9.9.9.9:1"));
        let seen = nat.outbound(NOW, inner, bob);
        assert_eq!(seen, address("203.0.113.1:7778"));
        assert_eq!(nat.inbound(NOW, bob, 7778), Ok(inner));
        assert_eq!(nat.inbound(NOW, carol, 7778), Err(Blocked));
        assert_eq!(nat.outbound(NOW, inner, carol), seen);
        assert_eq!(nat.inbound(NOW, carol, 7778), Ok(inner));
    }

    #[test]
    fn a_symmetric_one_shows_everybody_another_port() {
        let mut nat = nat(NatKind::SYMMETRIC);
        let (inner, bob, carol) = (address("192.168.1.2:7778"), address("8.8.8.8:1"), address("9.9.9.9:1"));
        let (to_bob, to_carol) = (nat.outbound(NOW, inner, bob), nat.outbound(NOW, inner, carol));
        assert_ne!(to_bob.port(), to_carol.port());
        assert_eq!(nat.inbound(NOW, carol, to_bob.port()), Err(Blocked));
        assert_eq!(nat.inbound(NOW, carol, to_carol.port()), Ok(inner));
    }

    #[test]
    fn filters_by_address_let_in_other_ports_of_it() {
        let mut nat = nat(NatKind { filtering: Dependence::Address, ..NatKind::HOME });
        let inner = address("192.168.1.2:7778");
        nat.outbound(NOW, inner, address("8.8.8.8:1"));
        assert_eq!(nat.inbound(NOW, address("8.8.8.8:2"), 7778), Ok(inner));
        assert_eq!(nat.inbound(NOW, address("8.8.4.4:1"), 7778), Err(Blocked));
    }

    #[test]
    fn silence_and_restarts_lose_the_mapping() {
        let mut nat = nat(NatKind::HOME);
        let (inner, bob) = (address("192.168.1.2:7778"), address("8.8.8.8:1"));
        nat.outbound(NOW, inner, bob);
        assert!(nat.inbound(WorldTime::from_seconds(119.0), bob, 7778).is_ok());
        assert_eq!(nat.inbound(WorldTime::from_seconds(120.0), bob, 7778), Err(Blocked));
        let before = nat.outbound(NOW, inner, bob);
        nat.restart();
        assert_ne!(nat.outbound(NOW, inner, bob), before);
    }

    #[test]
    fn a_flood_of_destinations_is_bounded() {
        let mut nat = nat(NatKind::SYMMETRIC);
        for port in 1..=5_000 {
            nat.outbound(NOW, address("192.168.1.2:7778"), SocketAddr::new([8, 8, 8, 8].into(), port));
        }
        assert_eq!(nat.mappings.len(), MAX_MAPPINGS);
    }
}
