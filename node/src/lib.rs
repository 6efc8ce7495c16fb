//! Bandmesh: one node of a peer-to-peer jam session.
//!
//! The library behind the `bandmesh` program. [`node::Node`] is a running node; the other modules are its parts, which
//! `ARCHITECTURE.md` puts on a map. The simulator and the whole-system tests build on the same parts.

pub mod cli;
pub mod codec;
pub mod control;
pub mod device;
pub mod media;
pub mod node;
pub mod project;
pub mod run;
pub mod session;
pub mod trace;
