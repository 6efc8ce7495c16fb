//! From captured periods to encoded blocks with timestamps.
//!
//! PCM goes out a period at a time, as it comes. Opus knows only a few frame lengths, so its input is gathered
//! until one is full, and only one rate, to which the sound of a card at another is brought first. A gap in the captured
//! positions (a queue that overflowed) empties what was gathered, so that every block carries the timestamp of its own first
//! frame. Of two channels those are sent that add something ([`Channels`]).

use engine::Resampler;
use transport::rtp::Layout;

use super::channels::Channels;
use crate::{
    codec::{Codec, CodecError, Encoder, EncoderConfig, OPUS_LOOKAHEAD_FRAMES, OPUS_RATE_HZ, OpusMode},
    session::message::StreamInfo,
};

/// Opus bits a second per channel: transparent for most instruments at 2.5 ms frames.
const OPUS_BITRATE_BPS: u32 = 128_000;

/// One encoded block on its way out.
#[derive(Clone, Copy, Debug)]
pub struct Encoded<'a> {
    /// Position of its first frame on the stream's timeline.
    pub timestamp_frames: i64,
    /// Position of the callback with which it leaves, on the same timeline.
    pub departs_frames: i64,
    /// What it carries.
    pub layout: Layout,
    /// As it goes into packets.
    pub payload: &'a [u8],
}

/// Turns one device's captured audio into one stream's payloads.
pub struct Packetiser {
    info: StreamInfo,
    encoder: Encoder,
    channels: Channels,
    /// Where the device runs at another rate than the stream.
    resampler: Option<Resampler>,
    /// RTP timestamp of the device's first frame, random (RFC 3550, section 5.1).
    first_timestamp: i64,
    /// Position of the frame that the device should give next.
    expected_position: Option<u64>,
    /// The latest block, interleaved with the stream's channels.
    captured: Vec<f32>,
    /// Interleaved samples not yet encoded, and the position of the first at the stream's rate.
    gathered: Vec<f32>,
    gathered_position: u64,
    payload: Vec<u8>,
}

impl Packetiser {
    /// A packetiser for the stream that `info` announces, of a device at `device_rate_hz`, with `seed` for its first
    /// timestamp.
    ///
    /// # Errors
    /// [`CodecError`] when the codec cannot do the rate or the channels.
    pub fn new(info: &StreamInfo, device_rate_hz: u32, seed: u32) -> Result<Self, CodecError> {
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
            resampler: (device_rate_hz != info.rate_hz)
                .then(|| Resampler::new(device_rate_hz, info.rate_hz, usize::from(info.channels))),
            first_timestamp: i64::from(seed),
            expected_position: None,
            captured: Vec::new(),
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

    /// Takes one captured block, interleaved with `channels`, and gives each full block to `send`. A stereo stream may
    /// become one channel only if `may_reduce`: if all listeners understand it.
    pub fn push(
        &mut self,
        position_frames: u64,
        samples: &[f32],
        channels: usize,
        may_reduce: bool,
        send: &mut impl FnMut(&Encoded<'_>),
    ) {
        let ours = usize::from(self.info.channels);
        let channels = channels.max(1);
        let departs_frames = self.timestamp(position_frames);
        self.follow_position(position_frames, samples.len() / channels);
        self.captured.clear();
        for frame in samples.chunks_exact(channels) {
            // A mono card feeds both channels of a stereo stream; of a wider card the first channels are sent.
            for channel in 0..ours {
                let sample = frame.get(channel).or(frame.first());
                self.captured.push(sample.copied().unwrap_or_default());
            }
        }
        match &mut self.resampler {
            Some(resampler) => resampler.push(&self.captured, &mut self.gathered),
            None => self.gathered.extend_from_slice(&self.captured),
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
                Ok(bytes) => send(&Encoded {
                    timestamp_frames: self.first_timestamp.saturating_add(self.gathered_position as i64),
                    departs_frames,
                    layout: told,
                    payload: self.payload.get(..bytes).unwrap_or_default(),
                }),
                Err(error) => tracing::warn!(%error, "a block of this player's audio was not encoded"),
            }
            self.gathered.drain(..block_samples);
            self.gathered_position += block_frames as u64;
        }
    }

    /// Drops what was gathered if the captured frames do not go on where they ended.
    fn follow_position(&mut self, position_frames: u64, frames: usize) {
        if self.expected_position != Some(position_frames) {
            self.gathered.clear();
            self.gathered_position = match &mut self.resampler {
                Some(resampler) => {
                    resampler.restart(position_frames);
                    resampler.next_position()
                }
                None => position_frames,
            };
        }
        self.expected_position = Some(position_frames.saturating_add(frames as u64));
    }

    /// The timestamp of a frame of the device.
    fn timestamp(&self, position_frames: u64) -> i64 {
        let position =
            self.resampler.as_ref().map_or(position_frames, |resampler| resampler.position(position_frames));
        self.first_timestamp.saturating_add(position as i64)
    }
}

/// The announcement for a device of `rate_hz` and `period_frames`, in `codec`.
pub fn announce(
    codec: Codec,
    ssrc: u32,
    rate_hz: u32,
    period_frames: u32,
    input_channels: usize,
) -> StreamInfo {
    let (rate_hz, packet_frames) = match codec {
        Codec::Opus => {
            // The frame length nearest to the period adds the least waiting for the number of packets.
            let period = u64::from(period_frames) * u64::from(OPUS_RATE_HZ) / u64::from(rate_hz.max(1));
            let packet_frames = match period {
                0..=180 => 120,
                181..=360 => 240,
                _ => 480,
            };
            (OPUS_RATE_HZ, packet_frames)
        }
        Codec::Pcm16 | Codec::Pcm24 => (rate_hz, period_frames.clamp(16, 1024) as u16),
    };
    let channels = input_channels.clamp(1, 2) as u8;
    StreamInfo { ssrc, codec, rate_hz, channels, packet_frames }
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
        let mut send = |block: &Encoded<'_>| sent.push((block.timestamp_frames, block.payload.len()));
        packetiser.push(position, samples, channels, true, &mut send);
        sent
    }

    #[test]
    fn pcm_leaves_a_period_at_a_time() {
        let mut packetiser = Packetiser::new(&stream(Codec::Pcm16, 1), 48_000, 1000).unwrap();
        assert_eq!(blocks(&mut packetiser, 0, &[0.0; 64], 1), [(1000, 128)]);
        assert_eq!(blocks(&mut packetiser, 64, &[0.0; 64], 1), [(1064, 128)]);
    }

    #[test]
    fn opus_gathers_whole_frames_and_dates_each_by_its_first() {
        let mut packetiser = Packetiser::new(&stream(Codec::Opus, 2), 48_000, 0).unwrap();
        let times = |sent: Vec<(i64, usize)>| sent.into_iter().map(|(at, _)| at).collect::<Vec<_>>();
        assert!(blocks(&mut packetiser, 0, &[0.1; 200], 2).is_empty());
        assert_eq!(times(blocks(&mut packetiser, 100, &[0.1; 300], 2)), [0, 120]);
        assert_eq!(packetiser.heard_position(250), 370);
    }

    #[test]
    fn a_gap_in_what_was_captured_starts_a_new_block() {
        let mut packetiser = Packetiser::new(&stream(Codec::Opus, 1), 48_000, 0).unwrap();
        assert!(blocks(&mut packetiser, 0, &[0.1; 100], 1).is_empty());
        assert_eq!(blocks(&mut packetiser, 500, &[0.1; 120], 1).first().map(|sent| sent.0), Some(500));
    }

    #[test]
    fn a_second_channel_that_wakes_up_is_in_that_block_and_only_who_understands_is_sent_less() {
        let mut packetiser = Packetiser::new(&stream(Codec::Pcm16, 2), 48_000, 1000).unwrap();
        let mut sent = vec![];
        let one: Vec<f32> = [0.25, 0.0].repeat(64);
        let mut both = one.clone();
        both[127] = 0.5;
        for (block, may_reduce) in [(&one, true), (&both, true), (&one, false)] {
            let position = 64 * sent.len() as u64;
            packetiser.push(position, block, 2, may_reduce, &mut |block| {
                let payload = block.payload;
                let end = payload[payload.len() - 2..].to_vec();
                sent.push((block.timestamp_frames, block.layout, payload.len(), end));
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
    fn opus_is_announced_at_its_rate_in_frames_that_fit_the_period() {
        let announced = |rate_hz, period| {
            let info = announce(Codec::Opus, 1, rate_hz, period, 2);
            assert_eq!((info.codec, info.rate_hz), (Codec::Opus, 48_000));
            info.packet_frames
        };
        assert_eq!(
            [32, 128, 256, 512, 1_024].map(|period| announced(48_000, period)),
            [120, 120, 240, 480, 480]
        );
        assert_eq!([128, 256].map(|period| announced(44_100, period)), [120, 240]);
        assert_eq!([128, 256, 512].map(|period| announced(96_000, period)), [120, 120, 240]);
        assert_eq!(announce(Codec::Pcm24, 1, 44_100, 128, 2).rate_hz, 44_100);
    }

    #[test]
    fn opus_from_another_rate_is_dated_by_when_it_was_captured() {
        for (rate_hz, period) in [(44_100u32, 128u64), (96_000, 256), (96_000, 100)] {
            let mut packetiser = Packetiser::new(&stream(Codec::Opus, 1), rate_hz, 7_000).unwrap();
            let (mut sent, mut position) = (Vec::new(), 0);
            for _ in 0..u64::from(rate_hz) / period {
                let block = vec![0.1; period as usize];
                packetiser.push(position, &block, 1, true, &mut |block| {
                    sent.push((block.timestamp_frames, block.departs_frames));
                });
                position += period;
            }
            assert!(
                sent.windows(2).all(|pair| pair[1].0 - pair[0].0 == 120),
                "{rate_hz}: one after the other"
            );
            for (timestamp, departs) in &sent {
                // It leaves as soon as it is whole and the half millisecond after it that resampling needs.
                let complete = timestamp + 120 + 27;
                let callback = (period * 48_000 / u64::from(rate_hz)) as i64;
                assert!(
                    (complete - callback - 4..=complete + 4).contains(departs),
                    "{timestamp} at {departs}"
                );
            }
            let second = packetiser.heard_position(u64::from(rate_hz));
            assert_eq!(second, 7_000 + 48_000 + 120);
            // A gap is as long as it was.
            sent.clear();
            packetiser.push(position + 9_600, &vec![0.1; 400], 1, true, &mut |block| {
                sent.push((block.timestamp_frames, block.departs_frames));
            });
            assert!((sent[0].0 - sent[0].1).abs() <= 1, "{sent:?}");
        }
    }
}
