//! Notes that never hang (RTP MIDI, RFC 6295).
//!
//! A lost audio packet is a click; a lost note-off is a note that sounds for ever. Asking again would take a round
//! trip, so every packet carries a *recovery journal*: what the channel's notes, controllers, program and pitch wheel
//! are now, as far as they changed since the last packet the receiver is known to have. Whichever packet arrives next
//! repairs all that was lost before it. After the last command the journal is repeated a few times, and once a second
//! for ever, so the last packet of a phrase may be lost too; and when nothing comes for 3 s, or the peer is gone, the
//! receiver lifts every key itself.
//!
//! A note whose start was lost is started by the repair only if it is younger than 100 ms: later it would be a wrong
//! note, not a missing one.
//!
//! Timestamps are session time in ticks of 1/48,000 s, so a receiver needs no mapping of its own.
//!
//! Limits: the journal holds chapters P, C, W, N and T (RFC 6295, appendix A). System messages are sent but not
//! repaired, aftertouch per key neither; SysEx must fit half a datagram. The journal is of the *closed loop* kind, so
//! each receiving peer needs a sender of its own.

mod command;
mod journal;
mod receiver;
mod sender;
mod state;

pub use receiver::{MidiEvent, MidiReceiver};
pub use sender::{MidiSender, MidiSenderConfig};

use super::extend_timestamp;
use crate::time::SessionTime;

/// Ticks per second of the MIDI streams' timestamps.
pub const CLOCK_HZ: u32 = 48_000;

/// Why a message was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MidiError {
    /// Not exactly one complete MIDI message with its status byte.
    #[error("not one complete MIDI message; send a status byte and exactly its data bytes")]
    Malformed,
    /// A SysEx message that no packet can carry.
    #[error("a MIDI message of {got} octets exceeds {max}; SysEx of this size needs a reliable stream")]
    TooLarge {
        /// Octets a message may have now.
        max: usize,
        /// Octets this one has.
        got: usize,
    },
    /// Messages come in faster than they are polled.
    #[error("the MIDI queue is full; poll the packets, or drop the message")]
    Full,
}

/// The tick at or before a session time, not wrapped.
fn ticks(time: SessionTime) -> i64 {
    (i128::from(time.as_nanos()) * i128::from(CLOCK_HZ)).div_euclid(1_000_000_000) as i64
}

/// The session time of a tick, rounded up so that it maps back to the same tick.
fn session_time(ticks: i64) -> SessionTime {
    let nanos = -(i128::from(ticks) * -1_000_000_000).div_euclid(i128::from(CLOCK_HZ));
    SessionTime::from_nanos(i64::try_from(nanos).unwrap_or(i64::MAX))
}

/// The session time a 32-bit timestamp stands for, being the one nearest to `now`.
fn unwrap_time(now: SessionTime, timestamp: u32) -> SessionTime {
    session_time(extend_timestamp(ticks(now), timestamp))
}

#[cfg(test)]
mod tests;
