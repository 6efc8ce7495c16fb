//! Routers that translate addresses, for tests of programs behind them.
//!
//! A lab is a public network, a public host on it, and routers with hosts behind them, each a network namespace
//! of its own. The routers are Linux with plain nftables: no module of third parties, no daemon. What kinds of
//! translation that can be, in the words of RFC 4787 (mapping: does the outer port depend on whom one talks to;
//! filtering: who may send to the outer port), says `rules.rs`; [`probe`] measures it from inside, since what a
//! rule set is meant to do and what a kernel does are two things.
//!
//! IPv4 and UDP only. A lab needs no process: it stays until `bandmesh-sim nat down`, which removes namespaces
//! of its own names and nothing else.

mod lab;
pub mod probe;
mod rules;

pub use lab::{Lab, Place, Router};
pub use rules::{Dependence, Kind};
