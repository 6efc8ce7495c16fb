//! From captured periods to encoded blocks with timestamps.
//!
//! PCM goes out a period at a time, as it comes. Opus knows only a few frame lengths, so its input is gathered
//! until one is full. A gap in the captured positions (a queue that overflowed) empties what was gathered, so
//! that every block carries the timestamp of its own first frame. Of two channels those are sent that add something
//! ([`Channels`]).

use transport::rtp::Layout;

use super::channels::Channels;
use crate::{
    codec::{Codec, CodecError, Encoder, EncoderConfig, OpusMode},
    session::message::StreamInfo,
};

/// Opus bits a second per channel: transparent for most instruments at 2.5 ms frames.
const OPUS_BITRATE_BPS: u32 = 128_000;
/// Frames by which Opus' low-delay mode delays what it encodes: 2.5 ms at 48 kHz (RFC 6716, section 2.1.1; the
/// encoder without its speech layer looks ahead by one overlap).
const OPUS_LOOKAHEAD_FRAMES: i64 = 120;

/// Turns one device's captured audio into one stream's payloads.
pub struct Packetiser {
    info: StreamInfo,
    encoder: Encoder,
    channels: Channels,
    /// RTP timestamp of the device's first frame, random (RFC 3550, section 5.1).
    first_timestamp: i64,
    /// Interleaved samples not yet encoded, and the position of the first.
    gathered: Vec<f32>,
    gathered_position: u64,
    payload: Vec<u8>,
}

impl Packetiser {
    /// A packetiser for the stream that `info` announces, with `seed` for its first timestamp.
    ///
    /// # Errors
    /// [`CodecError`] when the codec cannot do the rate or the channels.
    pub fn new(info: &StreamInfo, seed: u32) -> Result<Self, CodecError> {
        let encoder = Encoder::new(EncoderConfig {
            codec: info.codec,
            rate_hz: info.rate_hz,
            channels: usize::from(info.channels),
            bitrate_bps: OPUS_BITRATE_BPS * u32::from(info.channels),
            opus_mode: OpusMode::LowDelay,
        })?;
        Ok(Self {
            info: *info,
            encoder,
            channels: Channels::new(info),
            first_timestamp: i64::from(seed),
            gathered: Vec::new(),
            gathered_position: 0,
            payload: Vec::new(),
        })
    }

    /// The timestamp under which the listener hears the frame captured at `position_frames`.
    pub fn heard_position(&self, position_frames: u64) -> i64 {
        let lookahead = if self.info.codec == Codec::Opus { OPUS_LOOKAHEAD_FRAMES } else { 0 };
        self.timestamp(position_frames).saturating_add(lookahead)
    }

    /// Takes one captured block, interleaved with `channels`, and gives each full block with its timestamp and what it
    /// carries to `send`. A stereo stream may become one channel only if `may_reduce`: if all listeners understand it.
    pub fn push(
        &mut self,
        position_frames: u64,
        samples: &[f32],
        channels: usize,
        may_reduce: bool,
        send: &mut impl FnMut(i64, Layout, &[u8]),
    ) {
        let ours = usize::from(self.info.channels);
        if self.gathered_position + (self.gathered.len() / ours) as u64 != position_frames {
            self.gathered.clear();
        }
        if self.gathered.is_empty() {
            self.gathered_position = position_frames;
        }
        for frame in samples.chunks_exact(channels.max(1)) {
            // A mono card feeds both channels of a stereo stream; of a wider card the first channels are sent.
            for channel in 0..ours {
                let sample = frame.get(channel).or(frame.first());
                self.gathered.push(sample.copied().unwrap_or_default());
            }
        }
        let block_frames = match self.info.codec {
            Codec::Opus => usize::from(self.info.packet_frames),
            Codec::Pcm16 | Codec::Pcm24 => self.gathered.len() / ours,
        };
        let block_samples = block_frames * ours;
        while block_samples > 0 && self.gathered.len() >= block_samples {
            self.payload.resize(self.info.codec.payload_bytes(block_frames, ours), 0);
            let block = self.gathered.get(..block_samples).unwrap_or_default();
            let wanted = if ours == 2 { self.channels.choose(block) } else { Layout::All };
            let (layout, told) = match self.info.codec {
                // Its packets say themselves whether they are of one channel, which both ears hear.
                Codec::Opus if wanted == Layout::Same => (Layout::Same, Layout::All),
                Codec::Pcm16 | Codec::Pcm24 if may_reduce => (wanted, wanted),
                _ => (Layout::All, Layout::All),
            };
            match self.encoder.encode(block, layout, &mut self.payload) {
                Ok(bytes) => send(
                    self.timestamp(self.gathered_position),
                    told,
                    self.payload.get(..bytes).unwrap_or_default(),
                ),
                Err(error) => tracing::warn!(%error, "a block of this player's audio was not encoded"),
            }
            self.gathered.drain(..block_samples);
            self.gathered_position += block_frames as u64;
        }
    }

    fn timestamp(&self, position_frames: u64) -> i64 {
        self.first_timestamp.saturating_add(position_frames as i64)
    }
}

/// The announcement for a device of `rate_hz` and `period_frames`, in `codec` if it can be. The second result says
/// what was changed, for the user.
pub fn announce(
    codec: Codec,
    ssrc: u32,
    rate_hz: u32,
    period_frames: u32,
    input_channels: usize,
) -> (StreamInfo, Option<String>) {
    let (codec, note) = match codec {
        Codec::Opus if rate_hz != 48_000 => (
            Codec::Pcm16,
            Some(format!("Opus needs a device at 48000 Hz, this one runs at {rate_hz} Hz; sending pcm16")),
        ),
        codec => (codec, None),
    };
    let packet_frames = match codec {
        // The frame length nearest to the period that adds the least waiting.
        Codec::Opus => match period_frames {
            0..=128 => 120,
            129..=256 => 240,
            _ => 480,
        },
        Codec::Pcm16 | Codec::Pcm24 => period_frames.clamp(16, 1024) as u16,
    };
    let channels = input_channels.clamp(1, 2) as u8;
    (StreamInfo { ssrc, codec, rate_hz, channels, packet_frames }, note)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(codec: Codec, channels: u8) -> StreamInfo {
        StreamInfo { ssrc: 1, codec, rate_hz: 48_000, channels, packet_frames: 120 }
    }

    fn blocks(
        packetiser: &mut Packetiser,
        position: u64,
        samples: &[f32],
        channels: usize,
    ) -> Vec<(i64, usize)> {
        let mut sent = vec![];
        let mut send = |at, _, payload: &[u8]| sent.push((at, payload.len()));
        packetiser.push(position, samples, channels, true, &mut send);
        sent
    }

    #[test]
    fn pcm_leaves_a_period_at_a_time() {
        let mut packetiser = Packetiser::new(&stream(Codec::Pcm16, 1), 1000).unwrap();
        assert_eq!(blocks(&mut packetiser, 0, &[0.0; 64], 1), [(1000, 128)]);
        assert_eq!(blocks(&mut packetiser, 64, &[0.0; 64], 1), [(1064, 128)]);
    }

    #[test]
    fn opus_gathers_whole_frames_and_dates_each_by_its_first() {
        let mut packetiser = Packetiser::new(&stream(Codec::Opus, 2), 0).unwrap();
        let times = |sent: Vec<(i64, usize)>| sent.into_iter().map(|(at, _)| at).collect::<Vec<_>>();
        assert!(blocks(&mut packetiser, 0, &[0.1; 200], 2).is_empty());
        assert_eq!(times(blocks(&mut packetiser, 100, &[0.1; 300], 2)), [0, 120]);
        assert_eq!(packetiser.heard_position(250), 370);
    }

    #[test]
    fn a_gap_in_what_was_captured_starts_a_new_block() {
        let mut packetiser = Packetiser::new(&stream(Codec::Opus, 1), 0).unwrap();
        assert!(blocks(&mut packetiser, 0, &[0.1; 100], 1).is_empty());
        assert_eq!(blocks(&mut packetiser, 500, &[0.1; 120], 1).first().map(|sent| sent.0), Some(500));
    }

    #[test]
    fn a_second_channel_that_wakes_up_is_in_that_block_and_only_who_understands_is_sent_less() {
        let mut packetiser = Packetiser::new(&stream(Codec::Pcm16, 2), 1000).unwrap();
        let mut sent = vec![];
        let one: Vec<f32> = [0.25, 0.0].repeat(64);
        let mut both = one.clone();
        both[127] = 0.5;
        for (block, may_reduce) in [(&one, true), (&both, true), (&one, false)] {
            let position = 64 * sent.len() as u64;
            packetiser.push(position, block, 2, may_reduce, &mut |at, layout, payload| {
                sent.push((at, layout, payload.len(), payload[payload.len() - 2..].to_vec()));
            });
        }
        let (quarter, half, silent) = (vec![0x20, 0], vec![0x40, 0], vec![0, 0]);
        let expected = [
            (1000, Layout::Left, 128, quarter),
            (1064, Layout::All, 256, half),
            (1128, Layout::All, 256, silent),
        ];
        assert_eq!(sent, expected);
    }

    #[test]
    fn opus_on_a_card_at_another_rate_becomes_pcm_and_says_so() {
        let (info, note) = announce(Codec::Opus, 1, 44_100, 128, 2);
        assert_eq!(info.codec, Codec::Pcm16);
        assert!(note.is_some_and(|note| note.contains("44100")));
    }
}
