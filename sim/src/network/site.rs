//! Where hosts are: local networks, their addresses, and the boxes between them and the world.
//!
//! Every host is on one [`Site`], a local network with or without a NAT. Hosts of one site reach each other by their
//! own addresses and hear each other's multicast; to all others they are what their NAT makes of them. [`Map`] answers
//! which host a packet to some address reaches, and under which source, and it can help one host to another as a hole
//! punch does: each sends to the address under which a server on the public network saw the other.
//!
//! Limits: one IPv4 socket a host; NATs are not nested. The paths' weather is that of the pair of hosts, wherever they
//! are. Filters are asked when a packet is sent, not when it comes there.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddrV4},
};

use super::{
    HostId,
    nat::{Nat, NatKind},
};
use crate::{clock::WorldTime, random::Random};

/// A local network's number in its world.
pub type SiteId = usize;

/// The port of every host's socket.
pub const PORT: u16 = 7778;
/// A host on the public network that everybody can ask how it is seen: a relay or rendezvous server.
const OBSERVER: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(198, 51, 100, 1), PORT);

/// A local network, as a plan has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Site {
    /// The NAT between it and the world; `None`: its hosts have public addresses.
    pub nat: Option<NatKind>,
}

/// Who is where.
#[derive(Clone, Debug)]
pub(super) struct Map {
    sites: Vec<Option<Nat>>,
    hosts: BTreeMap<HostId, Place>,
    by_address: BTreeMap<SocketAddrV4, HostId>,
    /// How many addresses each site has given.
    given: BTreeMap<SiteId, u32>,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    site: SiteId,
    address: SocketAddrV4,
}

/// How a packet gets to a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way {
    /// Whom it reaches.
    pub host: HostId,
    /// The source it shows there.
    pub source: SocketAddrV4,
}

/// Under which addresses the two ends of a connection know each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meeting {
    /// Who dialled: QUIC follows this end when it moves.
    pub client: HostId,
    /// Who was dialled.
    pub server: HostId,
    /// Where the client sends to.
    pub server_address: SocketAddrV4,
    /// Where the server sends to.
    pub client_address: SocketAddrV4,
}

impl Map {
    /// Hosts on `sites`, each on the one it names; a site that is not in the list has no NAT.
    pub(super) fn new(sites: &[Site], hosts: &[SiteId], random: &Random) -> Self {
        let count = sites.len().max(hosts.iter().map(|site| site + 1).max().unwrap_or(0));
        let sites = (0..count).map(|id| {
            let kind = sites.get(id).and_then(|site| site.nat)?;
            // TEST-NET-3 (RFC 5737), then the block for benchmarks (RFC 2544) for a world of very many houses.
            let address = match u8::try_from(id + 1) {
                Ok(last) => Ipv4Addr::new(203, 0, 113, last),
                Err(_) => Ipv4Addr::new(198, 19, (id >> 8) as u8, id as u8),
            };
            Some(Nat::new(kind, address, random.fork(id as u64)))
        });
        let mut map = Self {
            sites: sites.collect(),
            hosts: BTreeMap::new(),
            by_address: BTreeMap::new(),
            given: BTreeMap::new(),
        };
        for (host, site) in hosts.iter().enumerate() {
            map.place(host, *site);
        }
        map
    }

    /// The host gets an address on this site; an older one is gone.
    pub(super) fn place(&mut self, host: HostId, site: SiteId) {
        if let Some(old) = self.hosts.get(&host) {
            self.by_address.remove(&old.address);
        }
        if self.sites.len() <= site {
            self.sites.resize(site + 1, None);
        }
        let given = self.given.entry(site).or_default();
        *given += 1;
        let [_, _, high, low] = (*given + 9).to_be_bytes();
        // Private addresses behind a NAT, public ones without: 11.0.0.0/8 stands for what providers give.
        let first = if self.nat(site).is_some() { 10 } else { 11 };
        let address = SocketAddrV4::new(Ipv4Addr::new(first, site as u8, high, low), PORT);
        self.by_address.insert(address, host);
        self.hosts.insert(host, Place { site, address });
    }

    pub(super) fn site(&self, host: HostId) -> Option<SiteId> {
        self.hosts.get(&host).map(|place| place.site)
    }

    /// The address the host itself sees.
    pub(super) fn address(&self, host: HostId) -> Option<SocketAddrV4> {
        self.hosts.get(&host).map(|place| place.address)
    }

    pub(super) fn nat(&self, site: SiteId) -> Option<&Nat> {
        self.sites.get(site)?.as_ref()
    }

    pub(super) fn reboot_nat(&mut self, site: SiteId) {
        if let Some(Some(nat)) = self.sites.get_mut(site) {
            nat.reboot();
        }
    }

    /// Whom a packet from `from` to `to` reaches, if anybody. It leaves its traces in the boxes on the way.
    pub(super) fn send(&mut self, now: WorldTime, from: HostId, to: SocketAddrV4) -> Option<Way> {
        let here = *self.hosts.get(&from)?;
        if let Some(host) = self.by_address.get(&to).copied()
            && self.site(host) == Some(here.site)
        {
            return Some(Way { host, source: here.address });
        }
        let source = match self.sites.get_mut(here.site)? {
            Some(nat) => nat.outbound(now, here.address, to)?,
            None => here.address,
        };
        let beyond = |nat: &Option<Nat>| nat.as_ref().is_some_and(|nat| nat.address() == *to.ip());
        let Some(site) = self.sites.iter().position(beyond) else {
            // No box has this address: it is a public host's, or nobody's.
            let host = self.by_address.get(&to).copied()?;
            return self.nat(self.site(host)?).is_none().then_some(Way { host, source });
        };
        let nat = self.sites.get_mut(site)?.as_mut()?;
        if site == here.site && !nat.kind().hairpins {
            return None;
        }
        let inside = nat.inbound(now, source, to.port())?;
        let host = self.by_address.get(&inside).copied()?;
        (self.site(host)? == site).then_some(Way { host, source })
    }

    /// Under which address a public server sees the host; keeps that mapping alive.
    pub(super) fn observed(&mut self, now: WorldTime, host: HostId) -> Option<SocketAddrV4> {
        let here = *self.hosts.get(&host)?;
        match self.sites.get_mut(here.site)? {
            Some(nat) => nat.outbound(now, here.address, OBSERVER),
            None => Some(here.address),
        }
    }

    /// `client` dials an address: the first packet there and the answer back.
    pub(super) fn dial(&mut self, now: WorldTime, client: HostId, to: SocketAddrV4) -> Option<Meeting> {
        let Way { host: server, source } = self.send(now, client, to)?;
        let back = self.send(now, server, source)?;
        // QUIC's client takes an answer only from where it sent to.
        (back.host == client && back.source == to).then_some(Meeting {
            client,
            server,
            server_address: to,
            client_address: source,
        })
    }

    /// `client` dials an address behind which it hopes to find `wanted`. If that is where a public server sees `wanted`,
    /// it has both send at once, which opens their boxes (a hole punch).
    pub(super) fn knock(
        &mut self,
        now: WorldTime,
        client: HostId,
        to: SocketAddrV4,
        wanted: Option<HostId>,
    ) -> Option<Meeting> {
        let met = self.dial(now, client, to);
        let Some(wanted) = wanted.filter(|_| met.is_none()) else { return met };
        if self.site(client) == self.site(wanted) || self.observed(now, wanted) != Some(to) {
            return None;
        }
        let source = self.observed(now, client)?;
        self.send(now, wanted, source);
        self.dial(now, client, to)
    }

    /// A connection's packets go on after its ends or their boxes have changed: the client's next one tells the server
    /// where it is now. `None`: nothing gets through any more.
    pub(super) fn follow(&mut self, now: WorldTime, meeting: Meeting) -> Option<Meeting> {
        let there = self.send(now, meeting.client, meeting.server_address)?;
        if there.host != meeting.server {
            return None;
        }
        let back = self.send(now, meeting.server, there.source)?;
        (back.host == meeting.client && back.source == meeting.server_address)
            .then_some(Meeting { client_address: there.source, ..meeting })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::nat::{Filtering, Mapping, PortAllocation};

    fn kinds() -> Vec<NatKind> {
        let mappings =
            [Mapping::EndpointIndependent, Mapping::AddressDependent, Mapping::AddressAndPortDependent];
        let filters =
            [Filtering::EndpointIndependent, Filtering::AddressDependent, Filtering::AddressAndPortDependent];
        mappings
            .iter()
            .flat_map(|mapping| filters.map(|filtering| (*mapping, filtering)))
            .map(|(mapping, filtering)| NatKind {
                mapping,
                filtering,
                ports: PortAllocation::Random,
                ..NatKind::home()
            })
            .collect()
    }

    fn houses(a: Option<NatKind>, b: Option<NatKind>) -> Map {
        Map::new(&[Site { nat: a }, Site { nat: b }], &[0, 1], &Random::new(7))
    }

    /// One of two hosts dials the other, at the address it has on their common site or outside.
    fn meet(map: &mut Map, now: WorldTime, a: HostId, b: HostId) -> Option<Meeting> {
        let mut knock = |client: HostId, server: HostId| {
            let inside = map.site(client) == map.site(server);
            let to = if inside { map.address(server)? } else { map.observed(now, server)? };
            map.knock(now, client, to, Some(server)).filter(|meeting| meeting.server == server)
        };
        knock(a, b).or_else(|| knock(b, a))
    }

    #[test]
    fn nine_kinds_of_box_against_nine_meet_exactly_where_the_classes_say() {
        let mut met = 0;
        for a in kinds() {
            for b in kinds() {
                let mut map = houses(Some(a), Some(b));
                let meeting = meet(&mut map, WorldTime(0), 0, 1);
                assert_eq!(meeting.is_some(), a.lets_meet(b), "{a:?} and {b:?}: {meeting:?}");
                assert_eq!(a.lets_meet(b), b.lets_meet(a));
                met += u32::from(meeting.is_some());
                // What meets also goes on.
                if let Some(meeting) = meeting {
                    assert_eq!(map.follow(WorldTime(1_000_000), meeting), Some(meeting), "{a:?} {b:?}");
                }
            }
        }
        assert_eq!(met, 9 + 2 * 3 * 4, "of 81");
    }

    #[test]
    fn a_public_host_is_reached_from_behind_every_box_and_whoever_is_dialled_is_the_server() {
        for kind in kinds() {
            let mut map = houses(Some(kind), None);
            let meeting = meet(&mut map, WorldTime(0), 0, 1).unwrap();
            assert_eq!((meeting.client, meeting.server), (0, 1));
            let mut map = houses(None, Some(kind));
            let public = map.address(0).unwrap();
            assert_eq!(map.knock(WorldTime(0), 1, public, Some(0)).unwrap().client, 1);
        }
    }

    #[test]
    fn hosts_of_one_house_meet_inside_and_by_the_outside_address_only_through_a_hairpin() {
        for hairpins in [false, true] {
            let nat = Some(NatKind { hairpins, ..NatKind::home() });
            let mut map = Map::new(&[Site { nat }], &[0, 0], &Random::new(7));
            let meeting = meet(&mut map, WorldTime(0), 0, 1).unwrap();
            assert_eq!(meeting.server_address.ip().octets()[0], 10);
            let outside = map.observed(WorldTime(0), 1).unwrap();
            let before = map.observed(WorldTime(0), 0).unwrap();
            map.send(WorldTime(0), 1, before);
            assert_eq!(map.send(WorldTime(0), 0, outside).is_some(), hairpins);
        }
    }

    #[test]
    fn a_client_may_move_and_a_server_may_not() {
        let mut map = houses(Some(NatKind::home()), None);
        let meeting = meet(&mut map, WorldTime(0), 0, 1).unwrap();
        map.place(0, 0);
        let moved = map.follow(WorldTime(1), meeting).unwrap();
        assert_eq!(moved.server_address, meeting.server_address);
        map.reboot_nat(0);
        assert!(map.follow(WorldTime(2), moved).is_some(), "its next packet opens the box again");
        map.place(1, 1);
        assert_eq!(map.follow(WorldTime(3), moved), None);
        assert!(meet(&mut map, WorldTime(3), 0, 1).is_some(), "but it can be dialled anew");
    }

    #[test]
    fn an_address_nobody_has_leads_nowhere() {
        let mut map = houses(Some(NatKind::home()), None);
        assert_eq!(map.send(WorldTime(0), 0, SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 1), 1)), None);
        let private = map.address(0).unwrap();
        assert_eq!(map.send(WorldTime(0), 1, private), None, "private addresses are not routed");
    }
}
