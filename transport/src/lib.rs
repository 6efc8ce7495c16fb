//! Bytes and time between peers: the mesh, QUIC, RTP and the clock.
//!
//! Two kinds of code live here and never mix. *Cores* ([`rtp`], [`clock`], the planner in [`mesh`]) decide: they are
//! plain values, time and randomness are handed in, and they do no I/O. *Drivers* ([`driver`]) carry: sockets, timers,
//! libp2p, quinn and mDNS live there and nowhere else. The crate knows no project schema and no audio engine; to it,
//! everything above is opaque bytes.

pub mod clock;
pub mod datagram;
pub mod driver;
pub mod mesh;
pub mod rtp;
pub mod time;

pub use libp2p::{Multiaddr, PeerId, identity::Keypair, multiaddr::Protocol};
