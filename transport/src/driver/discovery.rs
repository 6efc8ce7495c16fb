//! What one node tells a LAN about itself, and what it hears of the others. A hint, never a proof: TLS proves identity.

use std::net::IpAddr;

use libp2p::{Multiaddr, PeerId};

/// What this node lets everybody on the LAN see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announcement {
    /// Version of the mesh protocol.
    pub version: u16,
    /// Who we are.
    pub peer: PeerId,
    /// Which session we play in.
    pub session_tag: [u8; 8],
    /// What we offer, a comma-separated list for other programs to read.
    pub services: String,
    /// The UDP port we listen on, on every address of this machine.
    pub port: u16,
}

/// Something discovery noticed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sighting {
    /// A node that says it is `peer`. Repeated every few seconds while the record lives.
    Seen {
        /// Who it claims to be.
        peer: PeerId,
        /// Version of the mesh protocol it speaks.
        version: u16,
        /// The session it plays in.
        session_tag: [u8; 8],
        /// Where it says it listens.
        addresses: Vec<Multiaddr>,
        /// Who says so: where the announcement came from. Whoever makes up many is told from the others by it.
        from: IpAddr,
    },
    /// Its record was withdrawn or ran out.
    Gone {
        /// Who it claimed to be.
        peer: PeerId,
    },
}
