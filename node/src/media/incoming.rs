//! What comes from one member: audio, MIDI, reports and clock answers.
//!
//! A datagram is handled on the thread that read it from the network, all the way into the engine's queue: a
//! hop to another thread would cost more than the decoding does. The media thread calls only for
//! deadlines. Both go through one mutex per peer, held for some microseconds. Everybody else who wants to know
//! something reads the report that the media thread leaves beside it: a page that is drawn slowly must not be able to
//! hold up a packet.
//!
//! A member's session time is believed only while it is ours too ([`Moment::common`]). When two bands meet, or one steps
//! to the other's time, everything measured before is forgotten.

use std::{sync::Arc, time::Duration};

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

use super::{
    due::{DueMidi, DueQueue},
    instrument::InstrumentFeed,
    jitter::JitterPeak,
    latency::LatencyMeter,
    recording::Recording,
    stream_format,
    totals::Totals,
};
use crate::{
    codec::{Codec, Decoder, OPUS_LOOKAHEAD_FRAMES},
    session::message::StreamInfo,
    trace::record::{self, At, ReceiveCall},
};

/// Samples of the longest payload a datagram of any path can hold: 64 KiB of 16-bit PCM.
const MAX_BLOCK_SAMPLES: usize = 32_768;
/// Delay of MIDI while the audio path has not been measured yet, ns.
const DEFAULT_MIDI_DELAY_NS: i64 = 10_000_000;
/// The most a measured path may delay MIDI, ns: an absurd measurement must not hold notes back for ever.
const MAX_MIDI_DELAY_NS: i64 = 500_000_000;
/// Bit of an Opus packet's first octet that says stereo (RFC 6716, section 3.1).
const OPUS_STEREO: u8 = 0x04;
/// The longest a decoder may wait for a packet: the engine's own limit of delay.
const MAX_PLAYOUT_BUDGET: Duration = Duration::from_millis(300);

/// When something is handled.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// Host time.
    pub local: LocalTime,
    /// Session time as this node keeps it.
    pub session: SessionTime,
    /// Names a stretch of time in which the member's session time and ours are the same timeline without a step;
    /// `None` while they are not, and what the member says about session time means nothing here.
    pub common: Option<(u64, u64)>,
}

impl From<Moment> for At {
    fn from(at: Moment) -> Self {
        Self { local_ns: at.local.as_nanos(), session_ns: at.session.as_nanos(), common: at.common }
    }
}

impl From<At> for Moment {
    fn from(at: At) -> Self {
        Self { local: at.local(), session: at.session(), common: at.common }
    }
}

/// How long the media thread leaves a due clock datagram to the network thread, which sends it with the next
/// datagram that comes in. A question that makes a thread hop more than its answer would read as an offset.
const CLOCK_PATIENCE: Duration = Duration::from_millis(20);

/// The receiving half of one member's media.
pub struct Incoming {
    info: StreamInfo,
    receiver: StreamReceiver,
    decoder: Option<Decoder>,
    /// Channels in the latest packet.
    channels: u8,
    writer: SourceWriter,
    /// Rate of the engine that `writer` belongs to, Hz.
    engine_rate_hz: u32,
    /// What receivers and engines counted that are no more.
    before: Totals,
    latency: LatencyMeter,
    jitter: JitterPeak,
    common: Option<(u64, u64)>,
    clock: Clock,
    midi: MidiReceiver,
    instrument: InstrumentFeed,
    due_midi: DueQueue,
    /// When the latest MIDI event plays, ns: none may overtake it, or the end of a note comes before its beginning.
    last_due_ns: u64,
    /// Room for the longest block a packet can hold, taken once.
    decoded: Vec<f32>,
    counters: Counters,
    released: bool,
    recording: Recording,
}

/// What went wrong on the way in, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Datagrams that are none of ours or malformed.
    pub refused: u64,
    /// Blocks and MIDI messages that a queue had no room for.
    pub overflowed: u64,
    /// Packets the decoder refused.
    pub undecodable: u64,
}

/// What a report about a member shows.
#[derive(Clone, Debug)]
pub struct IncomingReport {
    /// The announced stream.
    pub info: StreamInfo,
    /// Of its channels, those in the latest packet.
    pub channels: u8,
    /// Counts since the member joined.
    pub totals: Totals,
    /// Interarrival jitter (RFC 3550).
    pub jitter: Duration,
    /// The most it has been in the last two seconds.
    pub jitter_peak: Duration,
    /// How long audio waits in the engine on average.
    pub playout_delay: Duration,
    /// Mouth to ear, ns, once measured; never while the member is on another timebase.
    pub one_way_ns: Option<i64>,
    /// The part of it that packets are on the network, ns, once measured; the rest they wait, mostly here.
    pub on_the_way_ns: Option<i64>,
    /// The member's clock against ours.
    pub clock: Option<Estimate>,
    /// Counted trouble.
    pub counters: Counters,
}

impl Incoming {
    /// The receiving half for a stream announced as `info`, feeding `writer` and `instrument` of an engine at
    /// `engine_rate_hz`.
    pub fn new(
        info: StreamInfo,
        writer: SourceWriter,
        instrument: Option<MidiWriter>,
        engine_rate_hz: u32,
        clock: Clock,
    ) -> Self {
        Self {
            info,
            receiver: StreamReceiver::new(stream_format(&info), Some(info.ssrc)),
            decoder: decoder_for(&info),
            channels: info.channels,
            writer,
            engine_rate_hz,
            before: Totals::default(),
            latency: LatencyMeter::new(info.rate_hz),
            jitter: JitterPeak::default(),
            common: None,
            clock,
            midi: MidiReceiver::new(None),
            instrument: InstrumentFeed::new(instrument),
            due_midi: DueQueue::default(),
            last_due_ns: 0,
            decoded: vec![0.0; MAX_BLOCK_SAMPLES],
            counters: Counters::default(),
            released: false,
            recording: Recording::default(),
        }
    }

    /// Records every call from now on; the clock was made for `incarnation`. Call before any other.
    pub fn record(&mut self, mut recording: Recording, incarnation: u32) {
        recording.call(|| ReceiveCall::New {
            info: self.info,
            source: self.writer.tag(),
            engine_rate_hz: self.engine_rate_hz,
            incarnation,
        });
        self.recording = recording;
    }

    /// The member announced another stream; it has a source and an instrument of its own.
    pub fn change_stream(
        &mut self,
        info: StreamInfo,
        writer: SourceWriter,
        instrument: Option<MidiWriter>,
        engine_rate_hz: u32,
    ) {
        let source = writer.tag();
        self.recording.call(|| ReceiveCall::ChangeStream { info, source, engine_rate_hz });
        self.before += Totals::of_packets(&self.receiver.statistics());
        self.rewire(writer, instrument, engine_rate_hz);
        self.info = info;
        self.receiver = StreamReceiver::new(stream_format(&info), Some(info.ssrc));
        self.decoder = decoder_for(&info);
        self.channels = info.channels;
        self.latency = LatencyMeter::new(info.rate_hz);
    }

    /// The engine was rebuilt; `writer` and `instrument` belong to the new one.
    pub fn refit(&mut self, writer: SourceWriter, instrument: Option<MidiWriter>, engine_rate_hz: u32) {
        let source = writer.tag();
        self.recording.call(|| ReceiveCall::Refit { source, engine_rate_hz });
        self.rewire(writer, instrument, engine_rate_hz);
    }

    fn rewire(&mut self, writer: SourceWriter, instrument: Option<MidiWriter>, engine_rate_hz: u32) {
        self.before += self.of_engine();
        self.writer = writer;
        self.engine_rate_hz = engine_rate_hz;
        self.instrument.replace(instrument);
        self.latency.reset();
    }

    /// The statistics of the source in the engine.
    pub fn source(&self) -> &Arc<SourceStats> {
        self.writer.stats()
    }

    /// What the receiver of the announced stream has counted.
    pub fn packets(&self) -> Statistics {
        self.receiver.statistics()
    }

    /// What is known of the member's clock at `now`.
    pub fn clock_estimate(&self, now: LocalTime) -> Option<Estimate> {
        self.clock.estimate(now)
    }

    /// One datagram from the member, read at `at`. Returns what it reports about our streams.
    pub fn handle_datagram(&mut self, at: Moment, datagram: &Bytes) -> Vec<ReportBlock> {
        if self.released {
            return Vec::new();
        }
        self.follow_time(at);
        let mut blocks = Vec::new();
        match classify(datagram) {
            Some(Kind::Rtp) => self.handle_rtp(at, datagram),
            Some(Kind::Rtcp) => blocks = self.handle_reports(at, datagram),
            Some(Kind::Clock) => {
                self.counters.refused += u64::from(self.clock.handle_packet(at.local, datagram).is_err());
            }
            None => self.counters.refused += 1,
        }
        self.recording.datagram(at, datagram, self.counters.refused, &blocks);
        blocks
    }

    /// Timers due at `at`.
    pub fn handle_deadline(&mut self, at: Moment) {
        self.follow_time(at);
        if self.receiver.poll_deadline().is_some_and(|deadline| deadline <= at.local) {
            self.receiver.handle_deadline(at.local);
            self.take_audio(at.local);
        }
        if self.midi.poll_deadline().is_some_and(|deadline| deadline <= at.local) {
            self.midi.handle_deadline(at.local, at.session);
            self.take_midi(at);
        }
        self.recording.call_with_pushed(|pushed| ReceiveCall::Deadline { at: at.into(), pushed });
    }

    /// Measures: mouth to ear, and how long the engine lets a decoder wait. Call some twenty times a second.
    pub fn observe(&mut self, at: Moment) {
        self.follow_time(at);
        let (delay_frames, playout) = (self.writer.stats().delay_frames(), self.writer.stats().playout());
        if self.common.is_some() {
            let session_minus_host_ns = at.session.as_nanos().saturating_sub(at.local.as_nanos() as i64);
            self.latency.observe(playout, session_minus_host_ns);
        }
        self.receiver.set_playout_budget(self.delay_of(delay_frames).min(MAX_PLAYOUT_BUDGET));
        self.recording.call(|| ReceiveCall::Observe {
            at: at.into(),
            delay_frames,
            playout: record::playing(playout),
            clock: format!("{:?}", self.clock.estimate(at.local)),
            packets: format!("{:?}", self.receiver.statistics()),
            one_way_ns: self.latency.one_way_ns(),
        });
    }

    /// When this half next needs the media thread: for [`Self::handle_deadline`], [`Self::poll_overdue_clock`], or, at
    /// time zero, because MIDI waits for the output.
    pub fn poll_deadline(&self) -> LocalTime {
        if !self.due_midi.is_empty() {
            return LocalTime::default();
        }
        [self.receiver.poll_deadline(), self.midi.poll_deadline()]
            .into_iter()
            .flatten()
            .fold(self.clock.poll_deadline() + CLOCK_PATIENCE, LocalTime::min)
    }

    /// The next clock datagram to send, question or answer; stamped with `now`, so send it at once. For the network
    /// thread, after each datagram.
    pub fn poll_clock(&mut self, now: LocalTime) -> Option<Bytes> {
        let datagram = self.clock.poll_transmit(now);
        self.recording.clock(now, datagram.as_ref());
        datagram
    }

    /// Like [`Self::poll_clock`], for the media thread: only what no datagram of the peer has carried along in time.
    pub fn poll_overdue_clock(&mut self, now: LocalTime) -> Option<Bytes> {
        (self.clock.poll_deadline() + CLOCK_PATIENCE <= now).then(|| self.poll_clock(now)).flatten()
    }

    /// What this member's sender should know of its streams.
    pub fn report_blocks(&mut self, now: LocalTime) -> Vec<ReportBlock> {
        let blocks: Vec<ReportBlock> =
            [self.receiver.report_block(now), self.midi.report_block()].into_iter().flatten().collect();
        self.recording.call(|| ReceiveCall::ReportBlocks {
            at_ns: now.as_nanos(),
            blocks: record::bounded(format!("{blocks:?}")),
        });
        blocks
    }

    /// MIDI for the output port since the last call.
    pub fn take_due_midi(&mut self) -> Vec<DueMidi> {
        let due = self.due_midi.take();
        if !due.is_empty() {
            self.recording.call(|| {
                ReceiveCall::DueMidi(due.iter().map(|event| (event.due_ns, event.message.clone())).collect())
            });
        }
        due
    }

    /// The member is gone: every note it holds is released, and what still comes from it is not heard.
    pub fn release(&mut self, at: Moment) {
        self.follow_time(at);
        self.midi.release_all(at.session);
        self.take_midi(at);
        self.instrument.all_notes_off();
        self.released = true;
        self.recording.call(|| ReceiveCall::Release { at: at.into() });
    }

    /// Everything a page or a report shows about this member's media.
    pub fn report(&self, now: LocalTime) -> IncomingReport {
        let packets = self.receiver.statistics();
        let mut totals = self.before;
        totals += Totals::of_packets(&packets);
        totals += self.of_engine();
        IncomingReport {
            info: self.info,
            channels: self.channels,
            totals,
            jitter: packets.jitter,
            jitter_peak: self.jitter.peak(),
            playout_delay: self.playout_delay(),
            one_way_ns: self.latency.one_way_ns(),
            on_the_way_ns: self.latency.on_the_way_ns(),
            clock: self.clock.estimate(now),
            counters: self.counters,
        }
    }

    /// Forgets measurements on a timeline that is no more.
    fn follow_time(&mut self, at: Moment) {
        if at.common != self.common {
            self.common = at.common;
            self.latency.reset();
        }
    }

    fn playout_delay(&self) -> Duration {
        self.delay_of(self.writer.stats().delay_frames())
    }

    fn delay_of(&self, frames: f32) -> Duration {
        let delay_s = f64::from(frames) / f64::from(self.info.rate_hz.max(1));
        Duration::try_from_secs_f64(delay_s).unwrap_or_default()
    }

    fn of_engine(&self) -> Totals {
        Totals::of_engine(&self.writer.stats().counters(), &self.info, self.engine_rate_hz)
    }

    fn handle_rtp(&mut self, at: Moment, datagram: &Bytes) {
        let refused = match Header::parse(datagram) {
            Ok((header, _)) if header.payload_type == payload_type::MIDI => {
                let result = self.midi.handle_packet(at.local, at.session, datagram);
                self.take_midi(at);
                result.is_err()
            }
            // A straggler of the stream before would end the announced one; an early packet of the next cannot be
            // decoded yet.
            Ok((header, _)) if header.ssrc != self.info.ssrc => true,
            Ok((header, _)) => {
                let result = self.receiver.handle_packet(at.local, datagram);
                if result.is_ok() {
                    self.jitter.note(at.local, self.receiver.statistics().jitter);
                    self.time_arrival(at, header.timestamp, Header::departure_ticks(datagram));
                }
                self.take_audio(at.local);
                result.is_err()
            }
            Err(_) => true,
        };
        self.counters.refused += u64::from(refused);
    }

    fn time_arrival(&mut self, at: Moment, timestamp: u32, departure_ticks: i16) {
        if self.common.is_some()
            && let Some(timestamp) = self.receiver.extend_timestamp(timestamp)
        {
            // Reports date frames by when they are heard, which is later by what the codec holds back.
            let held_back = if self.info.codec == Codec::Opus { OPUS_LOOKAHEAD_FRAMES } else { 0 };
            let departed = timestamp.saturating_add(i64::from(departure_ticks)).saturating_add(held_back);
            self.latency.handle_arrival(departed, at.session);
        }
    }

    fn handle_reports(&mut self, at: Moment, datagram: &[u8]) -> Vec<ReportBlock> {
        let Ok(reports) = report::parse(datagram) else {
            self.counters.refused += 1;
            return Vec::new();
        };
        let mut blocks = Vec::new();
        for report in reports {
            match report {
                Report::Sender(sender) => {
                    if sender.ssrc == self.info.ssrc {
                        self.receiver.handle_sender_report(at.local, &sender);
                        if let Some(timestamp) = self.receiver.extend_timestamp(sender.timestamp)
                            && self.common.is_some()
                        {
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
                    self.latency.reset();
                    self.decoder = decoder_for(&self.info);
                    continue;
                }
                Output::Packet { timestamp_frames, layout, payload, .. } => {
                    self.channels = match (self.info.codec, payload.first()) {
                        (Codec::Opus, Some(toc)) => 1 + u8::from(toc & OPUS_STEREO != 0),
                        _ => layout.carried(self.info.channels),
                    };
                    (timestamp_frames, decoder.decode(&payload, layout, &mut self.decoded))
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
                    let taken = self.writer.push(timestamp, arrival, samples).is_ok();
                    self.counters.overflowed += u64::from(!taken);
                    self.recording.push(timestamp, samples, taken);
                }
            }
        }
    }

    fn take_midi(&mut self, at: Moment) {
        while let Some(event) = self.midi.poll_event() {
            let due_ns = self.due_ns(at, event.time).max(self.last_due_ns);
            self.last_due_ns = due_ns;
            if self.instrument.push(HostTime(due_ns), &event.message).is_err() {
                self.counters.overflowed += 1;
            }
            self.counters.overflowed += self.due_midi.push(DueMidi { due_ns, message: event.message });
        }
    }

    /// When to play what the member played at `played`, host time in ns. Notes keep company with the audio of the same
    /// player: the same delay from hand to ear.
    fn due_ns(&self, at: Moment, played: SessionTime) -> u64 {
        let ahead = match self.common {
            Some(_) => {
                let delay =
                    self.latency.one_way_ns().unwrap_or(DEFAULT_MIDI_DELAY_NS).clamp(0, MAX_MIDI_DELAY_NS);
                played.nanos_from(at.session).saturating_add(delay).clamp(0, MAX_MIDI_DELAY_NS)
            }
            None => DEFAULT_MIDI_DELAY_NS,
        };
        at.local.as_nanos().saturating_add(ahead.unsigned_abs())
    }
}

/// A decoder for an announced stream; `None` when no decoder can be had for it, and its packets are counted.
fn decoder_for(info: &StreamInfo) -> Option<Decoder> {
    Decoder::new(info.codec, info.rate_hz, usize::from(info.channels)).ok()
}
