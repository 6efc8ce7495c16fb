//! Who is connected to whom: the rules, apart from all I/O.
//!
//! A band finds itself on a LAN without anybody typing: everybody sees everybody's announcement at about the same time,
//! dials at about the same time, and machines sleep, crash and change networks in the middle of a song. [`Planner`]
//! decides whom to dial and when, which of several connections to one peer to keep, and when a peer counts as connected,
//! lost or unwelcome. It is a plain value: events and the time go in by `handle_*`, decisions come out of
//! [`Planner::poll`], and [`Planner::poll_deadline`] says when to come back. [`crate::driver`] carries them out.
//!
//! The rules:
//! - Discovered addresses are hints. They are bounded in number ([`MAX_PEERS`], [`MAX_ADDRESSES`]) and rate, and only
//!   the hello of an authenticated connection (see [`hello`]) makes anybody a peer. Each source of hints has a share of its
//!   own in all of these, and whoever said hello once is dialled first and forgotten last, so that somebody who makes up
//!   peers crowds out only themself. Against one who also makes up where the hints come from, only chance helps.
//! - Of two nodes that see each other at once, the one with the smaller id dials first; the other waits a moment, and dials
//!   only if that was in vain. When they still meet twice, both sides keep the connection of the highest generation, then
//!   the one dialled by the smaller id, then the one with the greater nonce: all of it known to both.
//! - A new run of the same peer replaces its old connections at once.
//! - A peer lost without a goodbye is dialled again, with exponential backoff and jitter, for as long as it is announced or
//!   was named by the user.
//! - QUIC follows a client that moves, but not a server. Who loses the address on which it is the server, or as a client the
//!   last one on the peer's network, dials anew, and the new connection carries a higher generation.

mod backoff;
pub mod hello;
mod path;
mod planner;
mod reason;
#[cfg(test)]
mod tests;

pub(crate) use backoff::{Bucket, Buckets};
pub use hello::{Hello, PROTOCOL_VERSION};
pub use path::PathKind;
pub use planner::{
    Attempt, ConnectionKey, MAX_ADDRESSES, MAX_CONNECTED, MAX_PEERS, MAX_STRANGERS, Made, Output, Planner,
    Settings, Side, Source,
};
pub use reason::{CloseReason, ClosedBy, DialFailure, DisconnectReason};
