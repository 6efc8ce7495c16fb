//! Samples to packet payloads and back.
//!
//! Two needs pull apart: on a LAN nothing should be lost and nothing delayed, so PCM goes as it is (L16 and L24 of
//! RFC 3551 and RFC 3190: big-endian, interleaved); across the internet bits are scarce, so Opus (RFC 6716, payload of
//! RFC 7587) is used in its low-delay mode, 2.5 ms of look-ahead, in frames of 2.5, 5 or 10 ms.
//!
//! Payloads come from strangers: a decoder gives an error for a bad one, keeps working, and never writes
//! more than it was given room for. Nothing here is made for the audio callback; codecs run on network threads.
//!
//! Opus carries forward error correction (a coarse copy of the previous frame) only in its speech mode, which costs 4 ms
//! more: [`OpusMode::Resilient`]. In low-delay mode [`Decoder::recover`] conceals like [`Decoder::conceal`].

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use transport::rtp::Layout;

/// The most bytes an Opus packet may have: RFC 6716 section 3.4 allows 1,275 for a frame of up to 20 ms.
pub const MAX_OPUS_BYTES: usize = 1275;

/// The longest packet decoded, in frames a channel: 20 ms at 48 kHz, twice what we send. RFC 6716 allows 120 ms, of which
/// no live stream has use.
const MAX_OPUS_FRAMES_48K: usize = 960;

/// The rate at which Opus is sent; its timestamps count at no other (RFC 7587, section 4.1).
pub const OPUS_RATE_HZ: u32 = 48_000;

/// Frames by which Opus' low-delay mode delays what it encodes: 2.5 ms at 48 kHz (RFC 6716, section 2.1.1; the
/// encoder without its speech layer looks ahead by one overlap).
pub const OPUS_LOOKAHEAD_FRAMES: i64 = 120;

/// Opus' bits a second (RFC 6716, section 2.1.1).
const MIN_OPUS_BPS: u32 = 6_000;
const MAX_OPUS_BPS: u32 = 510_000;

/// How samples are written into packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Codec {
    /// 16 bit, big-endian, interleaved (RFC 3551 L16).
    Pcm16,
    /// 24 bit, big-endian, interleaved (RFC 3190 L24).
    Pcm24,
    /// Opus (RFC 7587), at 48, 24, 16, 12 or 8 kHz.
    Opus,
}

/// What Opus is asked to care about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpusMode {
    /// The lowest delay; a lost packet is concealed.
    LowDelay,
    /// Each packet of 10 ms carries a coarse copy of the one before, for this percentage of loss (0 to 100).
    Resilient {
        /// Expected packet loss.
        loss_percent: u8,
    },
}

/// What is to be encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EncoderConfig {
    /// The codec.
    pub codec: Codec,
    /// Frames a second.
    pub rate_hz: u32,
    /// 1 or 2.
    pub channels: usize,
    /// Bits a second for Opus, 6,000 to 510,000; not used for PCM.
    pub bitrate_bps: u32,
    /// Opus' mode; not used for PCM.
    pub opus_mode: OpusMode,
}

/// Why something could not be encoded or decoded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// Not a name of a codec.
    #[error("{0:?} is no codec; use pcm16, pcm24 or opus")]
    Name(String),
    /// Neither mono nor stereo.
    #[error("{0} channels cannot be sent; use 1 or 2")]
    Channels(usize),
    /// Opus has no such rate.
    #[error("Opus cannot run at {0} Hz; use 48000, or a PCM codec")]
    Rate(u32),
    /// Opus has no such bit rate.
    #[error("Opus cannot run at {0} bits a second; use 6000 to 510000")]
    Bitrate(u32),
    /// Opus has no frame of this length.
    #[error("Opus has no frame of {frames} frames at {rate_hz} Hz; use 2.5, 5, 10 or 20 ms")]
    FrameLength {
        /// Frames a channel.
        frames: usize,
        /// Frames a second.
        rate_hz: u32,
    },
    /// The output buffer is too small.
    #[error("{needed} are needed but the buffer has room for {room}; give a larger one")]
    Room {
        /// Bytes or samples needed.
        needed: usize,
        /// Bytes or samples there.
        room: usize,
    },
    /// The payload is not of this codec; drop the packet and count it.
    #[error("not a {codec} payload ({reason}); drop the packet")]
    Payload {
        /// What it was decoded as.
        codec: Codec,
        /// What is wrong.
        reason: String,
    },
}

impl Codec {
    /// Bytes of a payload of `frames` frames, or the most it can be.
    pub fn payload_bytes(self, frames: usize, channels: usize) -> usize {
        match self {
            Codec::Pcm16 => frames * channels * 2,
            Codec::Pcm24 => frames * channels * 3,
            Codec::Opus => MAX_OPUS_BYTES,
        }
    }
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Codec::Pcm16 => "pcm16",
            Codec::Pcm24 => "pcm24",
            Codec::Opus => "opus",
        })
    }
}

impl FromStr for Codec {
    type Err = CodecError;

    fn from_str(text: &str) -> Result<Self, CodecError> {
        match text {
            "pcm16" => Ok(Codec::Pcm16),
            "pcm24" => Ok(Codec::Pcm24),
            "opus" => Ok(Codec::Opus),
            _ => Err(CodecError::Name(text.to_owned())),
        }
    }
}

/// Samples in, payloads out. One per sent stream.
#[derive(Debug)]
pub struct Encoder {
    config: EncoderConfig,
    opus: Option<opus::Encoder>,
    /// Opus codes one channel for both.
    is_mono: bool,
}

impl Encoder {
    /// Prepares an encoder.
    pub fn new(config: EncoderConfig) -> Result<Self, CodecError> {
        let channels = opus_channels(config.channels)?;
        let opus = match config.codec {
            Codec::Opus => Some(opus_encoder(&config, channels)?),
            Codec::Pcm16 | Codec::Pcm24 => None,
        };
        Ok(Encoder { config, opus, is_mono: false })
    }

    /// Writes interleaved `samples` into `payload`, of a stereo stream only the channels in `layout`, and returns the bytes
    /// written. Opus takes only frames of 2.5, 5, 10 or 20 ms, and of layouts all channels or the same; a sample beyond
    /// full scale is clipped in PCM, NaN is silence.
    pub fn encode(
        &mut self,
        samples: &[f32],
        layout: Layout,
        payload: &mut [u8],
    ) -> Result<usize, CodecError> {
        let EncoderConfig { codec, channels, rate_hz, .. } = self.config;
        let frames = samples.len() / channels;
        if !samples.len().is_multiple_of(channels) {
            return Err(CodecError::Room { needed: (frames + 1) * channels, room: samples.len() });
        }
        let layout = if channels == 2 { layout } else { Layout::All };
        let (first, step) = match layout {
            Layout::All => (0, 1),
            Layout::Same | Layout::Left => (0, 2),
            Layout::Right => (1, 2),
        };
        let carried = samples.iter().skip(first).step_by(step);
        let needed = codec.payload_bytes(frames, channels / step);
        match (&mut self.opus, codec) {
            (Some(opus), _) => {
                if !is_opus_frame(frames, rate_hz) {
                    return Err(CodecError::FrameLength { frames, rate_hz });
                }
                let mono = layout == Layout::Same;
                if mono != self.is_mono {
                    self.is_mono = mono;
                    let channels = mono.then_some(opus::Channels::Mono);
                    opus.set_force_channels(channels).map_err(|error| bad(codec, error))?;
                    set_bitrate(opus, share(self.config.bitrate_bps, mono))?;
                }
                let room = payload.len().min(MAX_OPUS_BYTES);
                let (payload, _) = payload.split_at_mut(room);
                opus.encode_float(samples, payload).map_err(|error| bad(codec, error))
            }
            (None, _) if payload.len() < needed => Err(CodecError::Room { needed, room: payload.len() }),
            (None, Codec::Pcm24) => {
                for (bytes, sample) in payload.chunks_exact_mut(3).zip(carried) {
                    let [_, high, middle, low] = quantise(*sample, 23).to_be_bytes();
                    bytes.copy_from_slice(&[high, middle, low]);
                }
                Ok(needed)
            }
            (None, _) => {
                for (bytes, sample) in payload.chunks_exact_mut(2).zip(carried) {
                    let [_, _, high, low] = quantise(*sample, 15).to_be_bytes();
                    bytes.copy_from_slice(&[high, low]);
                }
                Ok(needed)
            }
        }
    }

    /// Changes Opus' bits a second; nothing for PCM.
    pub fn set_bitrate(&mut self, bitrate_bps: u32) -> Result<(), CodecError> {
        let Some(opus) = &mut self.opus else { return Ok(()) };
        set_bitrate(opus, share(bitrate_bps, self.is_mono))?;
        self.config.bitrate_bps = bitrate_bps;
        Ok(())
    }

    /// What this encoder makes.
    pub fn config(&self) -> &EncoderConfig {
        &self.config
    }
}

/// Payloads in, samples out. One per received stream, as Opus remembers.
#[derive(Debug)]
pub struct Decoder {
    codec: Codec,
    channels: usize,
    rate_hz: u32,
    opus: Option<opus::Decoder>,
}

impl Decoder {
    /// Prepares a decoder for streams of `channels` (1 or 2) at `rate_hz`.
    pub fn new(codec: Codec, rate_hz: u32, channels: usize) -> Result<Self, CodecError> {
        let opus_channels = opus_channels(channels)?;
        let opus = match codec {
            Codec::Opus if !is_opus_rate(rate_hz) => return Err(CodecError::Rate(rate_hz)),
            Codec::Opus => {
                Some(opus::Decoder::new(rate_hz, opus_channels).map_err(|error| bad(codec, error))?)
            }
            Codec::Pcm16 | Codec::Pcm24 => None,
        };
        Ok(Decoder { codec, channels, rate_hz, opus })
    }

    /// Frames in `payload`, without decoding it.
    pub fn frames(&self, payload: &[u8], layout: Layout) -> Result<usize, CodecError> {
        let carried = if layout == Layout::All { self.channels } else { 1 };
        let width = match self.codec {
            Codec::Pcm16 => 2 * carried,
            Codec::Pcm24 => 3 * carried,
            Codec::Opus => return self.opus_frames(payload),
        };
        if payload.is_empty() || !payload.len().is_multiple_of(width) {
            let reason = format!("{} bytes are no whole number of frames", payload.len());
            return Err(CodecError::Payload { codec: self.codec, reason });
        }
        Ok(payload.len() / width)
    }

    /// Writes the payload's samples, interleaved, to the start of `samples`, with the channels that `layout` says are not in
    /// it; returns frames. After an error the stream may go on with the next packet.
    pub fn decode(
        &mut self,
        payload: &[u8],
        layout: Layout,
        samples: &mut [f32],
    ) -> Result<usize, CodecError> {
        let layout = if self.channels == 2 { layout } else { Layout::All };
        let frames = self.frames(payload, layout)?;
        let samples = self.room(frames, samples)?;
        match (&mut self.opus, self.codec) {
            (Some(opus), codec) => {
                opus.decode_float(payload, samples, false).map_err(|error| bad(codec, error))
            }
            (None, Codec::Pcm24) => {
                let value = |bytes: &[u8; 3]| {
                    let [high, middle, low] = *bytes;
                    (i32::from_be_bytes([high, middle, low, 0]) >> 8) as f32 / 8_388_608.0
                };
                spread(payload.as_chunks().0.iter().map(value), layout, samples);
                Ok(frames)
            }
            (None, _) => {
                let value = |bytes: &[u8; 2]| f32::from(i16::from_be_bytes(*bytes)) / 32_768.0;
                spread(payload.as_chunks().0.iter().map(value), layout, samples);
                Ok(frames)
            }
        }
    }

    /// Fills `frames` frames for a packet that is lost: Opus goes on from what it heard, PCM is silent (the engine
    /// conceals it better, knowing the waveform). Opus needs a multiple of 2.5 ms.
    pub fn conceal(&mut self, frames: usize, samples: &mut [f32]) -> Result<usize, CodecError> {
        self.fill_gap(&[], frames, samples, false)
    }

    /// Fills the `frames` frames *before* `payload` from the copy that the packet carries, or conceals if it carries none.
    /// Call [`Decoder::decode`] with the same payload afterwards.
    pub fn recover(
        &mut self,
        payload: &[u8],
        frames: usize,
        samples: &mut [f32],
    ) -> Result<usize, CodecError> {
        self.frames(payload, Layout::All)?;
        self.fill_gap(payload, frames, samples, true)
    }

    fn fill_gap(
        &mut self,
        payload: &[u8],
        frames: usize,
        samples: &mut [f32],
        fec: bool,
    ) -> Result<usize, CodecError> {
        let (codec, rate_hz) = (self.codec, self.rate_hz);
        let samples = self.room(frames, samples)?;
        let Some(opus) = &mut self.opus else {
            samples.fill(0.0);
            return Ok(frames);
        };
        let unit = rate_hz as usize / 400;
        if frames == 0 || !frames.is_multiple_of(unit) || frames > max_opus_frames(rate_hz) {
            return Err(CodecError::FrameLength { frames, rate_hz });
        }
        opus.decode_float(payload, samples, fec).map_err(|error| bad(codec, error))
    }

    fn opus_frames(&self, payload: &[u8]) -> Result<usize, CodecError> {
        let wrong = |reason: &str| CodecError::Payload { codec: Codec::Opus, reason: reason.to_owned() };
        if payload.is_empty() || payload.len() > MAX_OPUS_BYTES {
            return Err(wrong("its length is impossible"));
        }
        let Some(opus) = &self.opus else { return Err(wrong("this decoder is for PCM")) };
        let frames = opus.get_nb_samples(payload).map_err(|error| bad(Codec::Opus, error))?;
        if frames > max_opus_frames(self.rate_hz) {
            return Err(wrong("it is longer than 20 ms"));
        }
        Ok(frames)
    }

    /// The first `frames` frames of `samples`.
    fn room<'a>(&self, frames: usize, samples: &'a mut [f32]) -> Result<&'a mut [f32], CodecError> {
        let (needed, room) = (frames.saturating_mul(self.channels), samples.len());
        samples.get_mut(..needed).ok_or(CodecError::Room { needed, room })
    }
}

/// Writes the channels that were carried where they belong.
fn spread(carried: impl Iterator<Item = f32>, layout: Layout, samples: &mut [f32]) {
    let frames = samples.as_chunks_mut::<2>().0.iter_mut();
    match layout {
        Layout::All => samples.iter_mut().zip(carried).for_each(|(sample, value)| *sample = value),
        Layout::Same => frames.zip(carried).for_each(|(frame, value)| *frame = [value, value]),
        Layout::Left => frames.zip(carried).for_each(|(frame, value)| *frame = [value, 0.0]),
        Layout::Right => frames.zip(carried).for_each(|(frame, value)| *frame = [0.0, value]),
    }
}

/// The nearest step of a signed integer with `bits` bits after the point. A float's own steps are finer than that, so a
/// 16 bit sample comes back as it was; there is no dither, which would spoil that.
fn quantise(sample: f32, bits: u32) -> i32 {
    let full_scale = f64::from(1u32 << bits);
    // NaN becomes 0 in a cast.
    (f64::from(sample) * full_scale).round().clamp(-full_scale, full_scale - 1.0) as i32
}

fn opus_encoder(config: &EncoderConfig, channels: opus::Channels) -> Result<opus::Encoder, CodecError> {
    if !is_opus_rate(config.rate_hz) {
        return Err(CodecError::Rate(config.rate_hz));
    }
    let failed = |error| bad(Codec::Opus, error);
    let application = match config.opus_mode {
        OpusMode::LowDelay => opus::Application::LowDelay,
        OpusMode::Resilient { .. } => opus::Application::Voip,
    };
    let mut encoder = opus::Encoder::new(config.rate_hz, channels, application).map_err(failed)?;
    if let OpusMode::Resilient { loss_percent } = config.opus_mode {
        encoder.set_inband_fec(true).map_err(failed)?;
        encoder.set_packet_loss_perc(i32::from(loss_percent.min(100))).map_err(failed)?;
    }
    set_bitrate(&mut encoder, config.bitrate_bps)?;
    Ok(encoder)
}

/// Of the bits of two channels those of one, but no fewer than Opus takes.
fn share(bitrate_bps: u32, is_mono: bool) -> u32 {
    if is_mono { (bitrate_bps / 2).max(MIN_OPUS_BPS.min(bitrate_bps)) } else { bitrate_bps }
}

fn set_bitrate(encoder: &mut opus::Encoder, bitrate_bps: u32) -> Result<(), CodecError> {
    match i32::try_from(bitrate_bps) {
        Ok(bits) if (MIN_OPUS_BPS..=MAX_OPUS_BPS).contains(&bitrate_bps) => {
            encoder.set_bitrate(opus::Bitrate::Bits(bits)).map_err(|error| bad(Codec::Opus, error))
        }
        _ => Err(CodecError::Bitrate(bitrate_bps)),
    }
}

fn opus_channels(channels: usize) -> Result<opus::Channels, CodecError> {
    match channels {
        1 => Ok(opus::Channels::Mono),
        2 => Ok(opus::Channels::Stereo),
        other => Err(CodecError::Channels(other)),
    }
}

fn is_opus_rate(rate_hz: u32) -> bool {
    matches!(rate_hz, 8_000 | 12_000 | 16_000 | 24_000 | 48_000)
}

fn is_opus_frame(frames: usize, rate_hz: u32) -> bool {
    let unit = rate_hz as usize / 400;
    [1, 2, 4, 8].iter().any(|count| frames == unit * count)
}

fn max_opus_frames(rate_hz: u32) -> usize {
    MAX_OPUS_FRAMES_48K * rate_hz as usize / 48_000
}

fn bad(codec: Codec, error: opus::Error) -> CodecError {
    CodecError::Payload { codec, reason: error.to_string() }
}

#[cfg(test)]
mod tests;
