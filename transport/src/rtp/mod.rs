//! Sound and notes as packets.
//!
//! A datagram may be lost, late, doubled or out of order, and a musician waits for none of it. These cores number and
//! time-stamp what is sent (RTP, RFC 3550), and on the other side check it, drop doubles, and hand it on the moment it
//! is of use: PCM in any order, because the engine places blocks by timestamp and conceals gaps itself; Opus in
//! order, because its decoder remembers; MIDI in order with a journal that repairs what was lost (RFC 6295).
//!
//! Everything here is sans I/O: `handle_*` takes what came and the time, `poll_*` gives what follows.
//!
//! Limits: no encryption (QUIC has done it), no contributing sources, no negotiation: a node tells its bandmates each
//! stream's [`Format`] before or while it sends. Reports are sent alone, without SDES, as RFC 5506 permits; the peer's
//! identity is that of the connection.
//!
//! Wire formats: the crate's `PROTOCOL.md`, shown below.
#![doc = include_str!("../../PROTOCOL.md")]

mod clock_map;
mod format;
mod header;
mod in_order;
pub mod midi;
mod receiver;
pub mod redundancy;
pub mod report;
mod sender;
mod statistics;

pub use clock_map::TimestampMap;
pub use format::{Codec, Format, Layout, MAX_CHANNELS, opus_frames, payload_type};
pub use header::{DEPARTURE_LEN, HEADER_LEN, Header};
pub use receiver::{Output, StreamReceiver};
pub use sender::{SendError, StreamSender, StreamSenderConfig};
pub use statistics::Statistics;

/// Why a packet was refused. Drop it and count it; the stream goes on with the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PacketError {
    /// A length field, or the fixed part itself, reaches past the end.
    #[error("packet ends too early: {needed} octets needed, {got} there; drop it")]
    Truncated {
        /// Octets the format asks for at this place.
        needed: usize,
        /// Octets that were left.
        got: usize,
    },
    /// Not RTP version 2.
    #[error("RTP version {0} instead of 2; drop the packet")]
    Version(u8),
    /// The padding count is zero or longer than the payload.
    #[error("padding of {0} octets does not fit the packet; drop it")]
    Padding(usize),
    /// The stream was announced with another codec.
    #[error(
        "payload type {got}, but the stream was announced as {expected}; announce a new stream to change codec"
    )]
    PayloadType {
        /// Payload type of the announced format.
        expected: u8,
        /// Payload type in the packet.
        got: u8,
    },
    /// The payload is empty, too long, or no whole number of frames.
    #[error(
        "payload of {0} octets is no whole number of frames in this format; check the announced channels"
    )]
    PayloadLength(usize),
    /// A packet of a stream that has since restarted under another SSRC.
    #[error("packet of stream {0:#010x}, which its sender has replaced; drop it")]
    ReplacedStream(u32),
    /// The sequence number is far from the stream's. Two in a row make a restart, one alone is dropped.
    #[error("sequence number {0} is far from the stream's; taken as a restart if the next one follows it")]
    Probation(u16),
    /// The report is not one of ours, or its fields contradict each other.
    #[error("malformed report; drop it")]
    Report,
    /// The MIDI command section is malformed.
    #[error("malformed MIDI command list; drop the packet")]
    MidiList,
    /// The MIDI recovery journal is malformed.
    #[error("malformed MIDI recovery journal; drop the packet")]
    MidiJournal,
}

/// The value nearest to `reference` whose low 32 bits are `raw`: undoes the wrap of an RTP timestamp.
fn extend_timestamp(reference: i64, raw: u32) -> i64 {
    reference.saturating_add(i64::from(raw.wrapping_sub(reference as u32) as i32))
}

/// The value nearest to `reference` whose low 16 bits are `raw`: undoes the wrap of a sequence number.
fn extend_sequence(reference: i64, raw: u16) -> i64 {
    reference.saturating_add(i64::from(raw.wrapping_sub(reference as u16) as i16))
}
