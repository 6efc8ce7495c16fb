//! Which sockets to listen on: one per address family, on one port.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use libp2p::Multiaddr;
use quinn::AsyncUdpSocket;

use super::address::{is_dialable, to_socket};
use super::names::HostName;
use super::net::Net;
use super::{Config, StartError};

/// How often to look for a port that is free in both families.
const ATTEMPTS: usize = 16;

/// Binds what `config` asks for. `[::]` also means IPv4; a machine without IPv6 gets IPv4 alone.
pub(crate) fn bind(config: &Config, net: &dyn Net) -> Result<Vec<Arc<dyn AsyncUdpSocket>>, StartError> {
    let address = config.listen;
    let error = match bind_port(net, address) {
        Ok(sockets) => return Ok(sockets),
        Err(error) => error,
    };
    if error.kind() != io::ErrorKind::AddrInUse {
        return Err(StartError::Listen { address, source: error });
    }
    let may_choose = config.fallback_to_any_port || address.port() == 0;
    for _ in 0..if may_choose { ATTEMPTS } else { 0 } {
        if let Ok(sockets) = bind_port(net, SocketAddr::new(address.ip(), 0)) {
            return Ok(sockets);
        }
    }
    Err(StartError::AddressInUse { address })
}

fn bind_port(net: &dyn Net, address: SocketAddr) -> io::Result<Vec<Arc<dyn AsyncUdpSocket>>> {
    if address.is_ipv4() || !address.ip().is_unspecified() {
        return Ok(vec![net.bind(address)?]);
    }
    let any_v4 = |port| SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
    let v6 = match net.bind(address) {
        Ok(socket) => socket,
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => return Err(error),
        // No IPv6 on this machine.
        Err(_) => return Ok(vec![net.bind(any_v4(address.port()))?]),
    };
    let v4 = net.bind(any_v4(v6.local_addr()?.port()))?;
    Ok(vec![v6, v4])
}

/// Refuses an address of the user's that we could never dial.
pub(crate) fn check_peer(address: &Multiaddr) -> Result<(), StartError> {
    if can_dial(address) || HostName::parse(address).is_some() {
        Ok(())
    } else {
        Err(StartError::PeerAddress(address.clone()))
    }
}

/// Whether `address` says where to send packets, without a name to be looked up.
pub(crate) fn can_dial(address: &Multiaddr) -> bool {
    to_socket(address).is_some_and(|(socket, _)| is_dialable(&socket))
}
