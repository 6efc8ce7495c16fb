//! What a stream's payload is, and how many frames a payload holds.

use super::PacketError;

/// Most channels a stream may have; bounds what one packet can claim.
pub const MAX_CHANNELS: u8 = 8;

/// The clock of every Opus stream, whatever the devices run at (RFC 7587, section 4.1).
const OPUS_CLOCK_HZ: u32 = 48_000;

/// Longest Opus packet (RFC 6716, section 3.2.5, requirement R5): 120 ms.
const OPUS_MAX_FRAMES: u32 = 5_760;

/// Payload types, all from the dynamic range (RFC 3551, section 6) and clear of RTCP (RFC 5761, section 4).
pub mod payload_type {
    /// 16-bit linear PCM, big-endian, interleaved (L16, RFC 3551).
    pub const PCM16: u8 = 96;
    /// 24-bit linear PCM, big-endian, interleaved (L24, RFC 3190).
    pub const PCM24: u8 = 97;
    /// Opus (RFC 7587).
    pub const OPUS: u8 = 98;
    /// MIDI commands with recovery journal (RFC 6295).
    pub const MIDI: u8 = 99;
    /// Any audio type above, with older payloads repeated (RFC 2198).
    pub const REDUNDANT: u8 = 100;
}

/// How sound is coded on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Codec {
    /// 16-bit linear PCM.
    Pcm16,
    /// 24-bit linear PCM.
    Pcm24,
    /// Opus; its decoder keeps state, so packets must reach it in order.
    Opus,
}

/// A stream's format, announced once; a change of format is a new stream with a new SSRC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Format {
    /// How sound is coded.
    pub codec: Codec,
    /// Frames per second, and the rate of the RTP timestamp. 8 000 to 192 000; 48 000 for Opus.
    pub rate_hz: u32,
    /// Interleaved channels, 1 to [`MAX_CHANNELS`]; 1 or 2 for Opus.
    pub channels: u8,
}

impl Codec {
    /// The codec's payload type.
    pub const fn payload_type(self) -> u8 {
        match self {
            Codec::Pcm16 => payload_type::PCM16,
            Codec::Pcm24 => payload_type::PCM24,
            Codec::Opus => payload_type::OPUS,
        }
    }
}

impl Format {
    /// Whether rate and channels are in range for the codec. Check a format a peer announced before using it.
    pub const fn is_valid(&self) -> bool {
        match self.codec {
            Codec::Opus => self.rate_hz == OPUS_CLOCK_HZ && matches!(self.channels, 1 | 2),
            Codec::Pcm16 | Codec::Pcm24 => {
                self.rate_hz >= 8_000
                    && self.rate_hz <= 192_000
                    && self.channels >= 1
                    && self.channels <= MAX_CHANNELS
            }
        }
    }

    /// Octets of one PCM frame; `None` for Opus.
    pub const fn frame_octets(&self) -> Option<usize> {
        match self.codec {
            Codec::Pcm16 => Some(2 * self.channels as usize),
            Codec::Pcm24 => Some(3 * self.channels as usize),
            Codec::Opus => None,
        }
    }

    /// Frames in `payload`, at least 1.
    ///
    /// # Errors
    /// [`PacketError::PayloadLength`] if the payload is empty, no whole number of frames, or not Opus.
    pub fn frames(&self, payload: &[u8]) -> Result<u32, PacketError> {
        let frames = match self.frame_octets() {
            None => opus_frames(payload),
            Some(octets) if octets > 0 && payload.len().is_multiple_of(octets) => {
                u32::try_from(payload.len() / octets).ok()
            }
            Some(_) => None,
        };
        frames.filter(|&frames| frames > 0).ok_or(PacketError::PayloadLength(payload.len()))
    }

    /// Nanoseconds that `frames` frames last.
    pub(super) fn nanos(&self, frames: i64) -> i64 {
        let nanos = i128::from(frames) * 1_000_000_000 / i128::from(self.rate_hz.max(1));
        i64::try_from(nanos).unwrap_or(if frames > 0 { i64::MAX } else { i64::MIN })
    }
}

/// Frames at 48 kHz in an Opus packet, from its table-of-contents byte (RFC 6716, section 3.1); `None` if the packet
/// is malformed or longer than 120 ms.
pub fn opus_frames(packet: &[u8]) -> Option<u32> {
    let (&toc, rest) = packet.split_first()?;
    let config = toc >> 3;
    let frame = match config {
        0..=11 => [480, 960, 1920, 2880][usize::from(config & 3)],
        12..=15 => [480, 960][usize::from(config & 1)],
        16.. => [120, 240, 480, 960][usize::from(config & 3)],
    };
    let count = match toc & 3 {
        0 => 1,
        1 | 2 => 2,
        _ => u32::from(rest.first()? & 0x3F),
    };
    Some(frame * count).filter(|frames| (1..=OPUS_MAX_FRAMES).contains(frames))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn opus_durations_follow_the_toc_byte() {
        assert_eq!(opus_frames(&[0x80]), Some(120), "CELT-only, 2.5 ms");
        assert_eq!(opus_frames(&[0xF0, 1, 2]), Some(480), "CELT-only, 10 ms");
        assert_eq!(opus_frames(&[0x79]), Some(1920), "hybrid, two of 20 ms");
        assert_eq!(opus_frames(&[0x1B, 3]), None, "three of 60 ms exceed 120 ms");
        assert_eq!(opus_frames(&[0x83, 0]), None, "no frames at all");
        assert_eq!(opus_frames(&[]), None);
    }

    #[test]
    fn pcm_must_be_whole_frames() {
        let format = Format { codec: Codec::Pcm24, rate_hz: 44_100, channels: 2 };
        assert_eq!(format.frames(&[0; 12]), Ok(2));
        assert_eq!(format.frames(&[0; 13]), Err(PacketError::PayloadLength(13)));
        assert_eq!(format.frames(&[]), Err(PacketError::PayloadLength(0)));
    }

    proptest! {
        #[test]
        fn any_payload_gets_an_answer(payload: Vec<u8>, channels: u8) {
            for codec in [Codec::Pcm16, Codec::Pcm24, Codec::Opus] {
                let _ = Format { codec, rate_hz: 48_000, channels }.frames(&payload);
            }
        }
    }
}
