//! What comes from one member: audio, MIDI, reports and clock answers.
//!
//! A datagram is handled on the thread that read it from the network, all the way into the engine's queue: a
//! hop to another thread would cost more than the decoding does. The media thread calls only for
//! deadlines. Both go through one mutex per peer, held for some microseconds.

use std::sync::Arc;

use bytes::Bytes;
use engine::{HostTime, MidiWriter, SourceStats, SourceWriter};
use transport::{
    clock::{Clock, Estimate},
    datagram::{Kind, classify},
    rtp::{
        Header, Output, Statistics, StreamReceiver,
        midi::MidiReceiver,
        payload_type,
        report::{self, Report, ReportBlock},
    },
    time::{LocalTime, SessionTime},
};

use super::{latency::LatencyMeter, stream_format};
use crate::{codec::Decoder, session::message::StreamInfo};

/// A MIDI event of a member, ready to be played here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DueMidi {
    /// When to play it, host time in ns.
    pub due_ns: u64,
    /// One complete MIDI message.
    pub message: Vec<u8>,
}

/// Events waiting for the MIDI output; when full the oldest go, and the journal's repairs follow.
const MAX_DUE: usize = 512;
/// Samples of the longest payload a datagram of any path can hold: 64 KiB of 16-bit PCM.
const MAX_BLOCK_SAMPLES: usize = 32_768;
/// Delay of MIDI while the audio path has not been measured yet, ns.
const DEFAULT_MIDI_DELAY_NS: i64 = 10_000_000;
/// The most a measured path may delay MIDI, ns: an absurd measurement must not hold notes back for ever.
const MAX_MIDI_DELAY_NS: i64 = 500_000_000;

/// The receiving half of one member's media.
pub struct Incoming {
    info: StreamInfo,
    receiver: StreamReceiver,
    decoder: Option<Decoder>,
    writer: SourceWriter,
    latency: LatencyMeter,
    clock: Clock,
    midi: MidiReceiver,
    instrument: Option<MidiWriter>,
    due_midi: Vec<DueMidi>,
    /// Room for the longest block a packet can hold, taken once.
    decoded: Vec<f32>,
    counters: Counters,
}

/// What went wrong on the way in, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Datagrams that are none of ours or malformed.
    pub refused: u64,
    /// Blocks the engine's queue had no room for.
    pub overflowed: u64,
    /// Packets the decoder refused.
    pub undecodable: u64,
}

/// What a report about a member shows.
#[derive(Clone, Debug)]
pub struct IncomingReport {
    /// The announced stream.
    pub info: StreamInfo,
    /// Packets received, lost, late, recovered.
    pub packets: Statistics,
    /// The engine's side: playout delay, concealment, meters.
    pub source: Arc<SourceStats>,
    /// Mouth to ear, ns, once measured.
    pub one_way_ns: Option<i64>,
    /// The member's clock against ours.
    pub clock: Option<Estimate>,
    /// Counted trouble.
    pub counters: Counters,
}

impl Incoming {
    /// The receiving half for a stream announced as `info`, feeding `writer` and `instrument`.
    pub fn new(info: StreamInfo, writer: SourceWriter, instrument: Option<MidiWriter>, clock: Clock) -> Self {
        Self {
            info,
            receiver: StreamReceiver::new(stream_format(&info), Some(info.ssrc)),
            decoder: decoder_for(&info),
            writer,
            latency: LatencyMeter::new(info.rate_hz),
            clock,
            midi: MidiReceiver::new(None),
            instrument,
            due_midi: Vec::new(),
            decoded: vec![0.0; MAX_BLOCK_SAMPLES],
            counters: Counters::default(),
        }
    }

    /// The member announced another stream; [`Self::refit`] gives it its source.
    pub fn change_stream(&mut self, info: StreamInfo) {
        self.info = info;
        self.receiver = StreamReceiver::new(stream_format(&info), Some(info.ssrc));
        self.decoder = decoder_for(&info);
        self.latency = LatencyMeter::new(info.rate_hz);
    }

    /// The engine was rebuilt; `writer` and `instrument` belong to the new one.
    pub fn refit(&mut self, writer: SourceWriter, instrument: Option<MidiWriter>) {
        self.writer = writer;
        self.instrument = instrument;
        self.latency = LatencyMeter::new(self.info.rate_hz);
    }

    /// One datagram from the member, read at `now`. Returns what the sending half must hear of.
    pub fn handle_datagram(
        &mut self,
        now: LocalTime,
        session_now: SessionTime,
        datagram: &Bytes,
    ) -> Vec<ReportBlock> {
        match classify(datagram) {
            Some(Kind::Rtp) => self.handle_rtp(now, session_now, datagram),
            Some(Kind::Rtcp) => return self.handle_reports(now, datagram),
            Some(Kind::Clock) => {
                if self.clock.handle_packet(now, datagram).is_err() {
                    self.counters.refused += 1;
                }
            }
            None => self.counters.refused += 1,
        }
        Vec::new()
    }

    /// Timers due at `now`.
    pub fn handle_deadline(&mut self, now: LocalTime, session_now: SessionTime) {
        if self.receiver.poll_deadline().is_some_and(|at| at <= now) {
            self.receiver.handle_deadline(now);
            self.take_audio(now);
        }
        if self.midi.poll_deadline().is_some_and(|at| at <= now) {
            self.midi.handle_deadline(now, session_now);
            self.take_midi(now, session_now);
        }
        let session_minus_host_ns = session_now.as_nanos().saturating_sub(now.as_nanos() as i64);
        self.latency.observe(self.writer.stats(), session_minus_host_ns);
    }

    /// When [`Self::handle_deadline`] is next needed.
    pub fn poll_deadline(&self) -> Option<LocalTime> {
        [self.receiver.poll_deadline(), self.midi.poll_deadline()].into_iter().flatten().min()
    }

    /// The next clock datagram to send; stamped with `now`, so send it at once.
    pub fn poll_clock(&mut self, now: LocalTime) -> Option<Bytes> {
        self.clock.poll_transmit(now)
    }

    /// When [`Self::poll_clock`] next has something.
    pub fn clock_deadline(&self) -> LocalTime {
        self.clock.poll_deadline()
    }

    /// What this member's sender should know of its streams.
    pub fn report_blocks(&mut self, now: LocalTime) -> Vec<ReportBlock> {
        [self.receiver.report_block(now), self.midi.report_block()].into_iter().flatten().collect()
    }

    /// MIDI for the output port since the last call.
    pub fn take_due_midi(&mut self) -> Vec<DueMidi> {
        std::mem::take(&mut self.due_midi)
    }

    /// The member is gone: every note it holds is released.
    pub fn release(&mut self, now: LocalTime, session_now: SessionTime) {
        self.midi.release_all(session_now);
        self.take_midi(now, session_now);
        if let Some(instrument) = self.instrument.as_mut() {
            instrument.all_notes_off();
        }
    }

    /// The member's clock against ours, once measured.
    pub fn clock(&self, now: LocalTime) -> Option<Estimate> {
        self.clock.estimate(now)
    }

    /// Everything a page or a report shows about this member's media.
    pub fn report(&self, now: LocalTime) -> IncomingReport {
        IncomingReport {
            info: self.info,
            packets: self.receiver.statistics(),
            source: self.writer.stats().clone(),
            one_way_ns: self.latency.one_way_ns(),
            clock: self.clock.estimate(now),
            counters: self.counters,
        }
    }

    fn handle_rtp(&mut self, now: LocalTime, session_now: SessionTime, datagram: &Bytes) {
        let refused = match Header::parse(datagram) {
            Ok((header, _)) if header.payload_type == payload_type::MIDI => {
                let result = self.midi.handle_packet(now, session_now, datagram);
                self.take_midi(now, session_now);
                result.is_err()
            }
            Ok(_) => {
                let result = self.receiver.handle_packet(now, datagram);
                self.take_audio(now);
                result.is_err()
            }
            Err(_) => true,
        };
        self.counters.refused += u64::from(refused);
    }

    fn handle_reports(&mut self, now: LocalTime, datagram: &[u8]) -> Vec<ReportBlock> {
        let Ok(reports) = report::parse(datagram) else {
            self.counters.refused += 1;
            return Vec::new();
        };
        let mut blocks = Vec::new();
        for report in reports {
            match report {
                Report::Sender(sender) => {
                    if sender.ssrc == self.info.ssrc {
                        self.receiver.handle_sender_report(now, &sender);
                        if let Some(timestamp) = self.receiver.extend_timestamp(sender.timestamp) {
                            self.latency.handle_report(timestamp, sender.session_time);
                        }
                    }
                    blocks.extend(sender.blocks);
                }
                Report::Receiver(receiver) => blocks.extend(receiver.blocks),
            }
        }
        blocks
    }

    fn take_audio(&mut self, now: LocalTime) {
        let arrival = HostTime(now.as_nanos());
        while let Some(output) = self.receiver.poll_output() {
            let Some(decoder) = self.decoder.as_mut() else {
                self.counters.undecodable += 1;
                continue;
            };
            let (timestamp, decoded) = match output {
                Output::Restarted => {
                    self.latency = LatencyMeter::new(self.info.rate_hz);
                    self.decoder = decoder_for(&self.info);
                    continue;
                }
                Output::Packet { timestamp_frames, payload, .. } => {
                    (timestamp_frames, decoder.decode(&payload, &mut self.decoded))
                }
                Output::Conceal { timestamp_frames, frames, following: Some(next) } => {
                    (timestamp_frames, decoder.recover(&next, frames as usize, &mut self.decoded))
                }
                Output::Conceal { timestamp_frames, frames, following: None } => {
                    (timestamp_frames, decoder.conceal(frames as usize, &mut self.decoded))
                }
            };
            let samples =
                decoded.ok().and_then(|frames| self.decoded.get(..frames * usize::from(self.info.channels)));
            match samples {
                None => self.counters.undecodable += 1,
                Some(samples) => {
                    if self.writer.push(timestamp, arrival, samples).is_err() {
                        self.counters.overflowed += 1;
                    }
                }
            }
        }
    }

    fn take_midi(&mut self, now: LocalTime, session_now: SessionTime) {
        // Notes keep company with the audio of the same player: the same delay from hand to ear.
        let delay = self.latency.one_way_ns().unwrap_or(DEFAULT_MIDI_DELAY_NS).clamp(0, MAX_MIDI_DELAY_NS);
        while let Some(event) = self.midi.poll_event() {
            let ahead = event.time.nanos_from(session_now).saturating_add(delay).clamp(0, MAX_MIDI_DELAY_NS);
            let due_ns = now.as_nanos().saturating_add(ahead.unsigned_abs());
            // System exclusive is longer and not for the instrument.
            if let (Some(instrument), 1..=3) = (self.instrument.as_mut(), event.message.len())
                && instrument.push(HostTime(due_ns), padded(&event.message)).is_err()
            {
                self.counters.overflowed += 1;
            }
            if self.due_midi.len() >= MAX_DUE {
                self.due_midi.remove(0);
            }
            self.due_midi.push(DueMidi { due_ns, message: event.message });
        }
    }
}

/// A short message in the fixed form the instrument takes.
fn padded(message: &[u8]) -> [u8; 3] {
    let mut bytes = [0; 3];
    for (to, from) in bytes.iter_mut().zip(message) {
        *to = *from;
    }
    bytes
}

/// A decoder for an announced stream; `None` when no decoder can be had for it, and its packets are counted.
fn decoder_for(info: &StreamInfo) -> Option<Decoder> {
    Decoder::new(info.codec, info.rate_hz, usize::from(info.channels)).ok()
}
