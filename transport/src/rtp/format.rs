//! What a stream's payload is, and how many frames a payload holds.
//!
//! Most players plug one microphone into a card with two inputs. A stereo stream in PCM may therefore carry one channel for
//! a while, and says in each packet, by the payload type, what became of the other ([`Layout`]): sender and receiver agree
//! on nothing beforehand, so the packet in which the second channel is of use again carries it. (An Opus packet says so
//! itself, in its first octet.)

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
    /// Any audio type here, with older payloads repeated (RFC 2198).
    pub const REDUNDANT: u8 = 100;
    /// [`PCM16`] of a stereo stream, one channel that is both.
    pub const PCM16_SAME: u8 = 101;
    /// [`PCM16`] of a stereo stream, the left channel; the right one is silent.
    pub const PCM16_LEFT: u8 = 102;
    /// [`PCM16`] of a stereo stream, the right channel; the left one is silent.
    pub const PCM16_RIGHT: u8 = 103;
    /// Like [`PCM16_SAME`], with 24 bits.
    pub const PCM24_SAME: u8 = 104;
    /// Like [`PCM16_LEFT`], with 24 bits.
    pub const PCM24_LEFT: u8 = 105;
    /// Like [`PCM16_RIGHT`], with 24 bits.
    pub const PCM24_RIGHT: u8 = 106;
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

/// Which of its stream's channels a PCM payload carries. All but the first are of stereo streams only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Layout {
    /// Every channel, interleaved.
    #[default]
    All,
    /// One, and the other is the same.
    Same,
    /// The left one; the right one is silent.
    Left,
    /// The right one; the left one is silent.
    Right,
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

impl Layout {
    /// Channels in a payload of a stream of `channels`.
    pub const fn carried(self, channels: u8) -> u8 {
        match self {
            Layout::All => channels,
            Layout::Same | Layout::Left | Layout::Right => 1,
        }
    }
}

impl Codec {
    /// The payload type of this codec in this layout; Opus has one for all.
    pub const fn payload_type(self, layout: Layout) -> u8 {
        match (self, layout) {
            (Codec::Pcm16, Layout::All) => payload_type::PCM16,
            (Codec::Pcm16, Layout::Same) => payload_type::PCM16_SAME,
            (Codec::Pcm16, Layout::Left) => payload_type::PCM16_LEFT,
            (Codec::Pcm16, Layout::Right) => payload_type::PCM16_RIGHT,
            (Codec::Pcm24, Layout::All) => payload_type::PCM24,
            (Codec::Pcm24, Layout::Same) => payload_type::PCM24_SAME,
            (Codec::Pcm24, Layout::Left) => payload_type::PCM24_LEFT,
            (Codec::Pcm24, Layout::Right) => payload_type::PCM24_RIGHT,
            (Codec::Opus, _) => payload_type::OPUS,
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

    /// What a payload of this type carries of a stream of this format; `None` if there is no such payload in it.
    pub fn layout(&self, payload_type: u8) -> Option<Layout> {
        let stereo: &[Layout] = match (self.codec, self.channels) {
            (Codec::Pcm16 | Codec::Pcm24, 2) => &[Layout::Same, Layout::Left, Layout::Right],
            _ => &[],
        };
        let mut layouts = std::iter::once(Layout::All).chain(stereo.iter().copied());
        layouts.find(|layout| self.codec.payload_type(*layout) == payload_type)
    }

    /// Octets of one PCM frame in a payload of this layout; `None` for Opus.
    pub const fn frame_octets(&self, layout: Layout) -> Option<usize> {
        let channels = layout.carried(self.channels) as usize;
        match self.codec {
            Codec::Pcm16 => Some(2 * channels),
            Codec::Pcm24 => Some(3 * channels),
            Codec::Opus => None,
        }
    }

    /// Frames in `payload`, which has this layout; at least 1.
    ///
    /// # Errors
    /// [`PacketError::PayloadLength`] if the payload is empty, no whole number of frames, or not Opus.
    pub fn frames(&self, layout: Layout, payload: &[u8]) -> Result<u32, PacketError> {
        let frames = match self.frame_octets(layout) {
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
        assert_eq!(format.frames(Layout::All, &[0; 12]), Ok(2));
        assert_eq!(format.frames(Layout::Left, &[0; 12]), Ok(4));
        assert_eq!(format.frames(Layout::All, &[0; 13]), Err(PacketError::PayloadLength(13)));
        assert_eq!(format.frames(Layout::All, &[]), Err(PacketError::PayloadLength(0)));
    }

    #[test]
    fn a_payload_type_says_what_is_carried_of_a_stereo_stream_and_nothing_else() {
        for codec in [Codec::Pcm16, Codec::Pcm24] {
            let format = |channels| Format { codec, rate_hz: 48_000, channels };
            for layout in [Layout::All, Layout::Same, Layout::Left, Layout::Right] {
                let kind = codec.payload_type(layout);
                assert_eq!(format(2).layout(kind), Some(layout));
                assert_eq!(format(1).layout(kind), (layout == Layout::All).then_some(Layout::All));
            }
            let known = (0..=u8::MAX).filter(|kind| format(2).layout(*kind).is_some());
            assert_eq!(known.count(), 4, "neither the other codec's nor MIDI nor redundancy");
        }
    }

    proptest! {
        #[test]
        fn any_payload_gets_an_answer(payload: Vec<u8>, channels: u8) {
            for codec in [Codec::Pcm16, Codec::Pcm24, Codec::Opus] {
                for layout in [Layout::All, Layout::Same] {
                    let _ = Format { codec, rate_hz: 48_000, channels }.frames(layout, &payload);
                }
            }
        }
    }
}
