//! What kind of way leads to a peer, and in which order to try several.

use std::net::IpAddr;

use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;

/// How packets reach a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PathKind {
    /// Over a network both are attached to.
    Lan,
    /// Through routers, with nobody of ours in between.
    Direct,
    /// Through a relay server.
    Relayed,
    /// Through a bandmate.
    Forwarded,
}

impl PathKind {
    /// The word the public interface uses.
    pub const fn as_str(self) -> &'static str {
        match self {
            PathKind::Lan => "lan",
            PathKind::Direct => "direct",
            PathKind::Relayed => "relayed",
            PathKind::Forwarded => "forwarded",
        }
    }
}

/// The subnets this machine is attached to.
#[derive(Debug, Clone, Default)]
pub(crate) struct Subnets(Vec<(IpAddr, u8)>);

/// A machine with more addresses than this is no musician's laptop; the rest only affects labels.
const MAX_SUBNETS: usize = 64;

impl Subnets {
    pub(crate) fn insert(&mut self, address: IpAddr, prefix_len: u8) {
        if !self.0.contains(&(address, prefix_len)) && self.0.len() < MAX_SUBNETS {
            self.0.push((address, prefix_len));
        }
    }

    pub(crate) fn remove(&mut self, address: IpAddr) {
        self.0.retain(|(known, _)| *known != address);
    }

    pub(crate) fn classify(&self, address: &Multiaddr) -> PathKind {
        if address.iter().any(|part| part == Protocol::P2pCircuit) {
            return PathKind::Relayed;
        }
        match ip_of(address) {
            Some(ip) if self.is_attached(ip) => PathKind::Lan,
            _ => PathKind::Direct,
        }
    }

    /// Whether `address` is somebody else's on a network that we are attached to. Two machines may each have a network of
    /// their own with the same numbers, for containers for instance: there an address of theirs is one of ours.
    pub(crate) fn is_a_neighbours(&self, address: &Multiaddr) -> bool {
        ip_of(address).is_some_and(|ip| {
            !is_loopback_or_link_local(ip)
                && self.is_attached(ip)
                && !self.0.iter().any(|(own, _)| *own == ip)
        })
    }

    fn is_attached(&self, ip: IpAddr) -> bool {
        is_loopback_or_link_local(ip)
            || self.0.iter().any(|(own, prefix_len)| same_prefix(*own, ip, *prefix_len))
    }

    /// Smaller is tried first. The order is by expected latency and by how often such addresses turn out dead.
    pub(crate) fn rank(&self, address: &Multiaddr) -> u8 {
        match ip_of(address) {
            Some(ip) if ip.is_loopback() => 0,
            Some(IpAddr::V4(ip)) if self.is_attached(ip.into()) => 1,
            Some(IpAddr::V6(ip)) if ip.is_unicast_link_local() => 5,
            Some(IpAddr::V6(ip)) if self.is_attached(ip.into()) => 2,
            Some(IpAddr::V6(_)) => 3,
            Some(IpAddr::V4(_)) => 4,
            None => 6,
        }
    }
}

/// Whether `address` is on one link only, IPv6 fe80::/10.
pub(crate) fn is_link_local(address: &Multiaddr) -> bool {
    matches!(ip_of(address), Some(IpAddr::V6(ip)) if ip.is_unicast_link_local())
}

/// The first IP address in `address`.
fn ip_of(address: &Multiaddr) -> Option<IpAddr> {
    address.iter().find_map(|part| match part {
        Protocol::Ip4(ip) => Some(IpAddr::V4(ip)),
        Protocol::Ip6(ip) => Some(IpAddr::V6(ip)),
        _ => None,
    })
}

pub(crate) fn is_loopback_or_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => v4.is_loopback() || v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unicast_link_local(),
    }
}

fn same_prefix(a: IpAddr, b: IpAddr, prefix_len: u8) -> bool {
    match (a, b) {
        (IpAddr::V4(a), IpAddr::V4(b)) => {
            let shift = 32 - u32::from(prefix_len.min(32));
            let differing = a.to_bits() ^ b.to_bits();
            differing.checked_shr(shift).unwrap_or(0) == 0
        }
        (IpAddr::V6(a), IpAddr::V6(b)) => {
            let shift = 128 - u32::from(prefix_len.min(128));
            let differing = a.to_bits() ^ b.to_bits();
            differing.checked_shr(shift).unwrap_or(0) == 0
        }
        _ => false,
    }
}

/// What one attacker can easily have many addresses in: an IPv4 address, or an IPv6 subnet of 64 bits.
pub(crate) fn network_of(address: &Multiaddr) -> Option<IpAddr> {
    address.iter().find_map(|part| match part {
        Protocol::Ip4(ip) => Some(ip.into()),
        Protocol::Ip6(ip) => Some(std::net::Ipv6Addr::from(u128::from(ip) >> 64 << 64).into()),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn classify(address: &str) -> PathKind {
        let mut subnets = Subnets::default();
        subnets.insert("192.168.1.5".parse().unwrap(), 24);
        subnets.insert("2001:db8:1::5".parse().unwrap(), 64);
        subnets.classify(&address.parse().unwrap())
    }

    #[test]
    fn a_shared_network_is_a_lan_and_all_else_is_not() {
        assert_eq!(classify("/ip4/192.168.1.77/udp/1/quic-v1"), PathKind::Lan);
        assert_eq!(classify("/ip4/127.0.0.1/udp/1/quic-v1"), PathKind::Lan);
        assert_eq!(classify("/ip6/2001:db8:1::99/udp/1/quic-v1"), PathKind::Lan);
        assert_eq!(classify("/ip6zone/2/ip6/fe80::1/udp/1/quic-v1"), PathKind::Lan);
        assert_eq!(classify("/ip4/192.168.2.77/udp/1/quic-v1"), PathKind::Direct);
        assert_eq!(classify("/ip6/2001:db8:2::99/udp/1/quic-v1"), PathKind::Direct);
    }

    #[test]
    fn a_neighbours_address_is_on_our_network_and_not_our_own() {
        let mut subnets = Subnets::default();
        subnets.insert("172.17.0.1".parse().unwrap(), 16);
        let is_a_neighbours = |address: &str| subnets.is_a_neighbours(&address.parse().unwrap());
        assert!(is_a_neighbours("/ip4/172.17.3.4/udp/1/quic-v1"));
        for other in ["/ip4/172.17.0.1", "/ip4/172.18.0.2", "/ip4/127.0.0.1", "/ip6/fe80::1"] {
            assert!(!is_a_neighbours(&format!("{other}/udp/1/quic-v1")), "{other}");
        }
    }

    #[test]
    fn odd_prefixes_do_no_harm() {
        for prefix_len in [0, 32, 33, 128, 255] {
            same_prefix([1, 2, 3, 4].into(), [4, 3, 2, 1].into(), prefix_len);
        }
        assert!(same_prefix([1, 2, 3, 4].into(), [4, 3, 2, 1].into(), 0));
        assert!(!same_prefix([1, 2, 3, 4].into(), [1, 2, 3, 5].into(), 32));
    }
}
