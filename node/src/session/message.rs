//! What two nodes of one session say to each other on the control stream.
//!
//! A control frame is one [`Control`] in postcard encoding (a compact, self-delimiting binary form of serde
//! data), at most [`MAX_CONTROL_BYTES`]. Everything in it comes from another machine, so [`decode`] bounds
//! and cleans each field before anybody else sees it: what passes is safe to store, compare and show.

use serde::{Deserialize, Serialize};

use super::beat::BeatRegister;
pub use crate::codec::Codec;

/// Version of the control protocol; nodes of other versions are told so and left alone.
pub const PROTOCOL: u16 = 1;
/// The longest control frame, bytes. A Hello with every field full is under 700.
pub const MAX_CONTROL_BYTES: usize = 4096;
/// The longest session or member name, characters.
pub const MAX_NAME_CHARS: usize = 64;

/// One control message.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Control {
    /// First message both ways: who I am and which session I belong to.
    Hello(Hello),
    /// Every half second, and at once when something in it changes.
    Heartbeat(Heartbeat),
    /// "Your timebase is younger than mine: take mine." Sent by the one of the two who decides.
    ClaimTimebase(Heartbeat),
    /// The stream I send has these properties from now on.
    Stream(StreamInfo),
    /// I am leaving on purpose.
    Goodbye,
}

/// Who a node is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hello {
    /// [`PROTOCOL`] of the sender.
    pub protocol: u16,
    /// Name of the session the sender belongs to.
    pub session: String,
    /// The musician's name, for display.
    pub name: String,
    /// Random per process start: tells a restarted node from a moved one.
    pub incarnation: u64,
    /// What the sender will send.
    pub stream: StreamInfo,
}

/// How the audio of one sender is coded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamInfo {
    /// RTP synchronisation source of the audio stream.
    pub ssrc: u32,
    /// Audio codec.
    pub codec: Codec,
    /// RTP timestamp rate, Hz: the device's rate for PCM, 48000 for Opus.
    pub rate_hz: u32,
    /// Channels, 1 or 2.
    pub channels: u8,
    /// Frames in one packet.
    pub packet_frames: u16,
}

/// The sender's view of the session's time and beat.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// Which session timebase the sender keeps.
    pub timebase: [u8; 16],
    /// Session time minus the sender's own monotonic clock, ns.
    pub session_offset_ns: i64,
    /// Session time when this was sent, ns: the timebase's age.
    pub session_now_ns: i64,
    /// Tempo, beat and playback on that timebase.
    pub beat: BeatRegister,
}

/// Why a control frame was refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum DecodeError {
    /// Longer than [`MAX_CONTROL_BYTES`].
    #[error(
        "control frame of {0} bytes is over the limit of {MAX_CONTROL_BYTES}; the peer is faulty or hostile"
    )]
    TooLong(usize),
    /// Not a message of this protocol version.
    #[error("control frame is not understood; the peer may run another version of Bandmesh")]
    Malformed,
    /// A field is outside its range.
    #[error("control frame has {0} out of range; the peer is faulty or hostile")]
    OutOfRange(&'static str),
}

/// Bytes of `message` for one control frame.
pub fn encode(message: &Control) -> Vec<u8> {
    // Serialising plain data into a growable buffer has no failing case; an empty frame would be refused by the peer.
    postcard::to_stdvec(message).unwrap_or_default()
}

/// Reads one control frame from a peer.
///
/// # Errors
/// [`DecodeError`] when the frame is too long, malformed, or carries a value outside its range.
pub fn decode(bytes: &[u8]) -> Result<Control, DecodeError> {
    if bytes.len() > MAX_CONTROL_BYTES {
        return Err(DecodeError::TooLong(bytes.len()));
    }
    let (message, rest) = postcard::take_from_bytes::<Control>(bytes).map_err(|_| DecodeError::Malformed)?;
    if !rest.is_empty() {
        return Err(DecodeError::Malformed);
    }
    match message {
        Control::Hello(mut hello) => {
            hello.session = clean_name(&hello.session);
            hello.name = clean_name(&hello.name);
            check_stream(&hello.stream)?;
            Ok(Control::Hello(hello))
        }
        Control::Heartbeat(beat) | Control::ClaimTimebase(beat) if !beat.beat.is_sane() => {
            Err(DecodeError::OutOfRange("the beat"))
        }
        Control::Stream(stream) => {
            check_stream(&stream)?;
            Ok(Control::Stream(stream))
        }
        other => Ok(other),
    }
}

/// A name fit to store and show: no control or bidirectional-override characters, at most
/// [`MAX_NAME_CHARS`] characters, trimmed.
pub fn clean_name(name: &str) -> String {
    let harmless = |c: &char| {
        !c.is_control()
            && !matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
    };
    name.chars().filter(harmless).take(MAX_NAME_CHARS).collect::<String>().trim().to_owned()
}

fn check_stream(stream: &StreamInfo) -> Result<(), DecodeError> {
    if !(8_000..=192_000).contains(&stream.rate_hz) {
        return Err(DecodeError::OutOfRange("the sample rate"));
    }
    if !(1..=2).contains(&stream.channels) {
        return Err(DecodeError::OutOfRange("the channel count"));
    }
    if !(16..=1024).contains(&stream.packet_frames) {
        return Err(DecodeError::OutOfRange("the packet length"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello() -> Hello {
        Hello {
            protocol: PROTOCOL,
            session: "jam".into(),
            name: "Alice".into(),
            incarnation: 7,
            stream: StreamInfo {
                ssrc: 1,
                codec: Codec::Pcm16,
                rate_hz: 48_000,
                channels: 2,
                packet_frames: 128,
            },
        }
    }

    #[test]
    fn a_hello_survives_the_wire() {
        let message = Control::Hello(hello());
        assert_eq!(decode(&encode(&message)), Ok(message));
    }

    #[test]
    fn names_from_peers_lose_control_and_override_characters() {
        let mut hostile = hello();
        hostile.name = format!("\u{1b}[2J\u{202e}Mallory{}", "x".repeat(10_000));
        // Over the frame limit it is refused whole; under it, it is cleaned.
        assert!(matches!(decode(&encode(&Control::Hello(hostile.clone()))), Err(DecodeError::TooLong(_))));
        hostile.name.truncate(2_000);
        let Ok(Control::Hello(seen)) = decode(&encode(&Control::Hello(hostile))) else { panic!("refused") };
        assert!(seen.name.starts_with("[2JMallory"));
        assert_eq!(seen.name.chars().count(), MAX_NAME_CHARS);
    }

    #[test]
    fn absurd_streams_are_refused() {
        let mut absurd = hello();
        absurd.stream.rate_hz = 0;
        assert_eq!(decode(&encode(&Control::Hello(absurd))), Err(DecodeError::OutOfRange("the sample rate")));
    }

    #[test]
    fn random_and_truncated_bytes_are_refused_quietly() {
        let good = encode(&Control::Hello(hello()));
        for cut in 0..good.len() {
            assert!(decode(&good[..cut]).is_err());
        }
        for seed in 0..5_000u32 {
            let bytes: Vec<u8> = (0..seed % 90)
                .map(|i| (seed.wrapping_mul(2_654_435_761).rotate_left(i) >> 3) as u8)
                .collect();
            let _ = decode(&bytes);
        }
    }
}
