//! The media plane of one node: engine, packetiser and receivers, joined without threads.
//!
//! In the product the device calls the engine and a thread of its own makes packets of what it captured.
//! Here both happen in one event, the callback: the engine runs offline on the host's virtual sound card, and
//! its captured block leaves as RTP in the same instant. Packets that come in go through the stream's receiver
//! to the engine's source at once.
//!
//! Limits: PCM 16 only; MIDI, reports and redundancy are not joined in.

use std::collections::BTreeMap;

use bandmesh::session::message::StreamInfo;
use bytes::Bytes;
use crdt::PeerKey;
use engine::{
    Command, Engine, Handle, HostTime, PlayoutPoint, SourceConfig, SourceCounters, SourceId, SourceWriter,
    TapReader,
};
use transport::{
    rtp::{Codec, Format, Header, Output, StreamReceiver, StreamSender, StreamSenderConfig},
    time::LocalTime,
};

use super::Sabotage;
use crate::sound_card::Card;

/// The datagram limit of a QUIC connection before path discovery, octets.
const MAX_DATAGRAM: usize = 1_200;
/// Most bandmates heard at once.
const MAX_SOURCES: usize = 16;
/// Period of the test tone, frames: 375 Hz at 48 kHz.
const TONE_FRAMES: u64 = 128;

/// The media plane of one node.
pub(super) struct Media {
    engine: Engine,
    handle: Handle,
    capture: Option<TapReader>,
    sender: StreamSender,
    incoming: BTreeMap<PeerKey, Incoming>,
    next_source: u32,
    frames: u64,
    input: Vec<f32>,
    output: Vec<f32>,
    period_frames: usize,
}

struct Incoming {
    source: SourceId,
    receiver: StreamReceiver,
    writer: SourceWriter,
}

/// How one remote stream is played.
#[derive(Clone, Copy, Debug)]
pub struct Playing {
    /// What its engine source has counted.
    pub counters: SourceCounters,
    /// What it plays; `None` before it has begun.
    pub playout: Option<PlayoutPoint>,
    /// How much it is delayed, frames.
    pub delay_frames: f32,
    /// How often the sender's stream has begun anew.
    pub restarts: u64,
}

impl Media {
    /// The media plane on a card of this kind.
    ///
    /// # Errors
    /// The engine's own words.
    pub(super) fn new(card: &Card, stream: &StreamInfo) -> Result<Self, String> {
        let config = engine::Config {
            input_channels: 1,
            max_sources: MAX_SOURCES,
            ..engine::Config::new(card.rate_hz, card.period_frames)
        };
        let (engine, mut handle) = engine::engine(config).map_err(|error| error.to_string())?;
        let sender = StreamSender::new(StreamSenderConfig {
            ssrc: stream.ssrc,
            // Starting close to the end shows that the wrap is harmless.
            first_sequence: 65_000,
            format: format(stream),
            max_datagram: MAX_DATAGRAM,
            redundancy: 0,
        });
        Ok(Self {
            capture: handle.take_capture(),
            engine,
            handle,
            sender,
            incoming: BTreeMap::new(),
            next_source: 0,
            frames: 0,
            input: vec![0.0; card.period_frames],
            output: vec![0.0; card.period_frames * 2],
            period_frames: card.period_frames,
        })
    }

    /// A member is here: play its stream.
    pub(super) fn join(&mut self, peer: PeerKey, stream: &StreamInfo) -> Result<(), String> {
        self.leave(&peer);
        let config = SourceConfig::new(stream.rate_hz, usize::from(stream.channels));
        let (writer, source) = self.handle.source(config).map_err(|error| error.to_string())?;
        let id = SourceId(self.next_source);
        self.next_source += 1;
        self.handle.send(Command::AddSource(id, source)).map_err(|error| error.to_string())?;
        let receiver = StreamReceiver::new(format(stream), Some(stream.ssrc));
        self.incoming.insert(peer, Incoming { source: id, receiver, writer });
        Ok(())
    }

    /// A member is gone.
    pub(super) fn leave(&mut self, peer: &PeerKey) {
        if let Some(gone) = self.incoming.remove(peer) {
            // A full queue empties at the next callback; the source then stays silent until the node ends.
            let _ = self.handle.send(Command::RemoveSource(gone.source));
        }
    }

    /// The card asks for a period of audio; returns the packets to send to every member.
    pub(super) fn handle_callback(&mut self, now_ns: i64) -> Vec<Bytes> {
        for (index, sample) in self.input.iter_mut().enumerate() {
            // A triangle needs no function whose last digit a platform may choose.
            let phase = (self.frames + index as u64) % TONE_FRAMES;
            *sample = (phase as f32 / TONE_FRAMES as f32 - 0.5).abs() - 0.25;
        }
        self.frames += self.period_frames as u64;
        self.engine.process(&self.input, &mut self.output, host_time(now_ns));
        while self.handle.poll_report().is_some() {}
        let mut packets = vec![];
        if let Some(capture) = &mut self.capture {
            while let Some(block) = capture.next_block() {
                let position = i64::try_from(block.position_frames).unwrap_or(i64::MAX);
                // It refuses only what it cannot express, which one period of PCM never is.
                let _ = self.sender.push(position, &pcm16(block.samples));
            }
        }
        packets.extend(std::iter::from_fn(|| self.sender.poll_transmit()));
        packets
    }

    /// An RTP packet of `peer`.
    pub(super) fn handle_packet(
        &mut self,
        now_ns: i64,
        peer: &PeerKey,
        packet: &Bytes,
        sabotage: Option<Sabotage>,
    ) {
        let Some(incoming) = self.incoming.get_mut(peer) else { return };
        if sabotage == Some(Sabotage::SkipSequenceCheck) {
            if let Ok((header, payload)) = Header::parse(packet) {
                incoming.push(now_ns, i64::from(header.timestamp), payload);
            }
            return;
        }
        // A refused packet is counted by the receiver, and that is all there is to do about it.
        let _ = incoming.receiver.handle_packet(LocalTime::from_nanos(host_time(now_ns).0), packet);
        while let Some(output) = incoming.receiver.poll_output() {
            let Output::Packet { timestamp_frames, payload, frames, .. } = output else { continue };
            incoming.push(now_ns, timestamp_frames, &payload);
            if sabotage == Some(Sabotage::DoubleFrames) {
                incoming.push(now_ns, timestamp_frames + i64::from(frames), &payload);
            }
        }
    }

    /// How the streams of the others are played.
    pub(super) fn playing(&self) -> impl Iterator<Item = (PeerKey, Playing)> {
        self.incoming.iter().map(|(peer, incoming)| {
            let stats = incoming.writer.stats();
            let playing = Playing {
                counters: stats.counters(),
                playout: stats.playout(),
                delay_frames: stats.delay_frames(),
                restarts: incoming.receiver.statistics().restarts,
            };
            (*peer, playing)
        })
    }
}

impl Incoming {
    /// Hands a payload of PCM 16 to the engine.
    fn push(&mut self, now_ns: i64, timestamp_frames: i64, payload: &[u8]) {
        let samples: Vec<f32> = payload
            .chunks_exact(2)
            .filter_map(|pair| pair.first_chunk::<2>())
            .map(|pair| f32::from(i16::from_be_bytes(*pair)) / 32_768.0)
            .collect();
        // A full source counts what it drops.
        let _ = self.writer.push(timestamp_frames, host_time(now_ns), &samples);
    }
}

fn format(stream: &StreamInfo) -> Format {
    Format { codec: Codec::Pcm16, rate_hz: stream.rate_hz, channels: stream.channels }
}

fn host_time(now_ns: i64) -> HostTime {
    HostTime(u64::try_from(now_ns).unwrap_or(0))
}

fn pcm16(samples: &[f32]) -> Vec<u8> {
    samples
        .iter()
        .flat_map(|sample| ((sample * 32_768.0).clamp(-32_768.0, 32_767.0) as i16).to_be_bytes())
        .collect()
}
