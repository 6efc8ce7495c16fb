//! Multiaddresses to sockets and back.
//!
//! We speak one kind: `/ip4|ip6/ADDRESS/udp/PORT/quic-v1[/p2p/PEER]`, with `/ip6zone/INDEX` in front of a link-local
//! address. The zone is the interface's index rather than its name: it means something on this machine only, either way,
//! and the index is what the socket API takes.

use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};

use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId};

/// The QUIC multiaddress of a socket address.
pub(crate) fn to_multiaddr(address: SocketAddr) -> Multiaddr {
    let zone = match address {
        SocketAddr::V6(v6) if v6.scope_id() != 0 => Some(v6.scope_id()),
        _ => None,
    };
    let mut multiaddr = Multiaddr::empty();
    if let Some(zone) = zone {
        multiaddr.push(Protocol::Ip6zone(zone.to_string().into()));
    }
    multiaddr.with(address.ip().into()).with(Protocol::Udp(address.port())).with(Protocol::QuicV1)
}

/// The socket address of a QUIC multiaddress, and the peer it names.
///
/// `None` for everything we do not dial ourselves; in particular for `/p2p/RELAY/p2p-circuit`, which belongs to another
/// transport.
pub(crate) fn to_socket(multiaddr: &Multiaddr) -> Option<(SocketAddr, Option<PeerId>)> {
    let mut parts = multiaddr.iter().peekable();
    let zone = match parts.peek()? {
        Protocol::Ip6zone(zone) => {
            let index: u32 = zone.parse().ok()?;
            parts.next();
            Some(index)
        }
        _ => None,
    };
    let ip: IpAddr = match parts.next()? {
        Protocol::Ip4(ip) if zone.is_none() => ip.into(),
        Protocol::Ip6(ip) => ip.into(),
        _ => return None,
    };
    let Protocol::Udp(port) = parts.next()? else { return None };
    let Protocol::QuicV1 = parts.next()? else { return None };
    let peer = match (parts.next(), parts.next()) {
        (None, _) => None,
        (Some(Protocol::P2p(peer)), None) => Some(peer),
        _ => return None,
    };
    let socket = match ip {
        IpAddr::V4(_) => SocketAddr::new(ip, port),
        IpAddr::V6(v6) => SocketAddrV6::new(v6, port, 0, zone.unwrap_or(0)).into(),
    };
    Some((socket, peer))
}

/// Whether a packet to this address could reach somebody else's node or our own machine at all.
pub(crate) fn is_dialable(address: &SocketAddr) -> bool {
    if address.port() == 0 || address.ip().is_unspecified() || address.ip().is_multicast() {
        return false;
    }
    match address {
        SocketAddr::V4(v4) => !v4.ip().is_broadcast(),
        // Without a zone the kernel cannot know which cable a link-local address is on.
        SocketAddr::V6(v6) => !is_link_local(v6.ip()) || v6.scope_id() != 0,
    }
}

/// fe80::/10.
pub(crate) fn is_link_local(ip: &Ipv6Addr) -> bool {
    ip.segments()[0] & 0xffc0 == 0xfe80
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_survive_the_round_trip() {
        for text in ["192.168.1.2:7778", "[2001:db8::1]:7778", "[fe80::1%3]:7778"] {
            let socket: SocketAddr = text.parse().unwrap();
            assert_eq!(to_socket(&to_multiaddr(socket)), Some((socket, None)), "{text}");
        }
    }

    #[test]
    fn a_peer_may_be_named_at_the_end() {
        let peer = PeerId::random();
        let address: Multiaddr = format!("/ip4/10.0.0.1/udp/7778/quic-v1/p2p/{peer}").parse().unwrap();
        assert_eq!(to_socket(&address).unwrap().1, Some(peer));
    }

    #[test]
    fn addresses_of_other_transports_are_left_to_them() {
        let peer = PeerId::random();
        for text in [
            "/ip4/10.0.0.1/tcp/80".to_owned(),
            "/ip4/10.0.0.1/udp/80".to_owned(),
            format!("/ip4/10.0.0.1/udp/80/quic-v1/p2p/{peer}/p2p-circuit"),
            "/ip6zone/eth0/ip6/fe80::1/udp/80/quic-v1".to_owned(),
            "/ip6zone/3/ip4/10.0.0.1/udp/80/quic-v1".to_owned(),
        ] {
            assert_eq!(to_socket(&text.parse().unwrap()), None, "{text}");
        }
    }

    #[test]
    fn nobody_dials_nowhere() {
        for text in [
            "0.0.0.0:1",
            "[::]:1",
            "10.0.0.1:0",
            "224.0.0.1:1",
            "[ff02::1]:1",
            "[fe80::1]:1",
            "255.255.255.255:1",
        ] {
            assert!(!is_dialable(&text.parse().unwrap()), "{text}");
        }
        assert!(is_dialable(&"[fe80::1%2]:1".parse().unwrap()));
    }
}
