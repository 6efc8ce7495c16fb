//! Peers at a host's name: `/dns|dns4|dns6/HOST/udp/PORT/quic-v1[/p2p/PEER]`.
//!
//! Only what the user gave is looked up, never what a peer suggests: that would let strangers choose whom this machine asks.
//! Each dial looks anew, since the address of somebody's home changes overnight.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;

use super::address::{is_dialable, to_multiaddr, to_socket};
use super::net::Net;

/// How long a look-up may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Addresses taken of one name.
const MAX_FOUND: usize = 8;

/// What to look up, and what to do with the answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HostName {
    host: String,
    port: u16,
    /// IPv4 only or IPv6 only.
    family: Option<Family>,
    /// What follows the address: the peer, if it is named.
    rest: Multiaddr,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    V4,
    V6,
}

impl HostName {
    /// `None` if the address is not of this kind.
    pub(crate) fn parse(address: &Multiaddr) -> Option<Self> {
        let mut parts = address.iter();
        let (host, family) = match parts.next()? {
            Protocol::Dns(host) => (host, None),
            Protocol::Dns4(host) => (host, Some(Family::V4)),
            Protocol::Dns6(host) => (host, Some(Family::V6)),
            _ => return None,
        };
        let Protocol::Udp(port) = parts.next()? else { return None };
        let Protocol::QuicV1 = parts.next()? else { return None };
        let rest: Multiaddr = parts.collect();
        // With any address in the name's place it must be one that we dial.
        let example = with_rest(SocketAddr::from(([192, 0, 2, 1], port)), &rest);
        let is_ours = port != 0 && !host.is_empty() && to_socket(&example).is_some();
        is_ours.then(|| Self { host: host.into_owned(), port, family, rest })
    }

    /// The addresses behind the name; in words, why there are none.
    async fn look_up(&self, net: &dyn Net) -> Result<Vec<Multiaddr>, String> {
        let found = tokio::select! {
            found = net.look_up(self.host.clone(), self.port) => found.map_err(|error| error.to_string())?,
            () = net.sleep(PATIENCE) => return Err(format!("no answer within {} s", PATIENCE.as_secs())),
        };
        let wanted = found.into_iter().filter(|address| match self.family {
            None => true,
            Some(Family::V4) => address.is_ipv4(),
            Some(Family::V6) => address.is_ipv6(),
        });
        let addresses: Vec<_> = wanted
            .filter(is_dialable)
            .take(MAX_FOUND)
            .map(|address| with_rest(address, &self.rest))
            .collect();
        if addresses.is_empty() { Err("it has no address of that kind".to_owned()) } else { Ok(addresses) }
    }
}

/// `addresses` with addresses in place of names, and what to tell the user of each name that has none.
pub(crate) async fn resolve(net: Arc<dyn Net>, addresses: Vec<Multiaddr>) -> (Vec<Multiaddr>, Vec<Unknown>) {
    let (mut found, mut unknown) = (Vec::new(), Vec::new());
    for address in addresses {
        let Some(name) = HostName::parse(&address) else {
            found.push(address);
            continue;
        };
        match name.look_up(&*net).await {
            Ok(more) => found.extend(more),
            Err(why) => unknown.push(Unknown { host: name.host, why }),
        }
    }
    (found, unknown)
}

/// A name without an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unknown {
    /// The name.
    pub(crate) host: String,
    /// What went wrong.
    pub(crate) why: String,
}

fn with_rest(address: SocketAddr, rest: &Multiaddr) -> Multiaddr {
    rest.iter().fold(to_multiaddr(address), Multiaddr::with)
}

#[cfg(test)]
mod tests {
    use super::*;
    use libp2p::PeerId;

    #[test]
    fn names_of_each_family_are_told_from_everything_else() {
        let peer = PeerId::random();
        for (text, family) in [
            ("/dns/band.example/udp/7778/quic-v1".to_owned(), None),
            ("/dns4/band.example/udp/7778/quic-v1".to_owned(), Some(Family::V4)),
            (format!("/dns6/band.example/udp/7778/quic-v1/p2p/{peer}"), Some(Family::V6)),
        ] {
            let name = HostName::parse(&text.parse().unwrap()).unwrap();
            assert_eq!(
                (name.host.as_str(), name.port, name.family),
                ("band.example", 7778, family),
                "{text}"
            );
        }
        for text in [
            "/ip4/192.0.2.1/udp/7778/quic-v1".to_owned(),
            "/dns/band.example/tcp/7778".to_owned(),
            "/dns/band.example/udp/0/quic-v1".to_owned(),
            "/dns/band.example/udp/7778/quic-v1/ws".to_owned(),
            format!("/dns/band.example/udp/7778/quic-v1/p2p/{peer}/p2p-circuit"),
        ] {
            assert_eq!(HostName::parse(&text.parse().unwrap()), None, "{text}");
        }
    }
}
