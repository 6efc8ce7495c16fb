//! Bad links between real processes.
//!
//! The simulator shows what the decisions do on a bad network; whole nodes with their sockets, kernels and
//! libraries need one too, on machines whose kernel has no `netem` and whose owner is not root. So the path
//! model of the simulator ([`crate::network::Direction`]) also runs in real time: between UDP endpoints, which
//! needs no rights, or between two network namespaces over TUN. [`nat`] makes namespaces behind routers that
//! translate addresses.
//!
//! Reading order: [`mod@line`] decides, [`drive`] keeps the time, [`udp`] and [`tun`] carry, [`args`] is the
//! command line.

pub mod args;
pub mod drive;
pub mod histogram;
pub mod line;
pub mod namespace;
pub mod nat;
mod settings;
pub mod tun;
pub mod udp;
