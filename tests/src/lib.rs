//! The words the suite is written in.
//!
//! A test should read as a rehearsal: there is a [`Lan`], [`Node`]s are started on its hosts, something
//! happens to them, and [`eventually`] a musician would notice something. Everything here is plumbing for
//! that: virtual networks that leave no trace, processes that never outlive their test, and an ear
//! ([`audio`]) that trusts only recordings, never what a node says of itself.
//!
//! Each host is a network namespace, so several nodes use their default ports, multicast works as on a
//! real switch, and nothing reaches the machine's own network. That needs root (or `./dev test`, which
//! makes a user namespace). Where neither is to be had, `BANDMESH_TEST_NO_NETNS=1` puts the hosts on loopback
//! and tells every node its peers; tests of discovery and of a network that breaks then say that they
//! were left out.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "this package is test code: a failed step ends its test, saying which"
)]

pub mod audio;
mod avahi;
mod bad_link;
mod binary;
mod client;
mod flood;
mod garbage;
mod jack;
mod keyboard;
mod lan;
mod link;
mod machine;
mod nat;
mod node;
mod seed;
mod terminal;
mod turn;
mod wait;
mod watch;

pub use avahi::AvahiBrowser;
pub use bad_link::BadLink;
pub use binary::{bandmesh, simulator};
pub use client::{Client, Reply, Socket};
pub use flood::Flood;
pub use garbage::{open_ports, spray_datagrams, spray_tcp};
pub use jack::{Heard, JackServer};
pub use keyboard::{Keyboard, Message};
pub use lan::{Host, Lan};
pub use link::LinkApp;
pub use machine::in_machine;
pub use nat::NatLab;
pub use node::{Exit, Node, Options, Thread, number, run_to_exit};
pub use seed::seed;
pub use terminal::Terminal;
pub use wait::{eventually, eventually_some, ms, seconds};
pub use watch::Watch;
