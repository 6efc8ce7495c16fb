//! The media plane of one node: the product's values, joined without threads.
//!
//! In the product the device calls the engine, a media thread makes packets of what it captured and serves timers, and
//! the network thread hands in what arrives (`node/src/media`). Here all three are events. What decides is
//! the product's: [`Packetiser`], one [`Outgoing`] and one [`Incoming`] per member with everything in them (numbering,
//! reports, MIDI journal, clock, codec, latency), and the engine behind them.
//!
//! Notes are followed to where they would leave for the MIDI output, and where the listener has an instrument, into it.
//!
//! Limits: Opus' last bits are the C library's, so a log with Opus in it is the same on one machine only. An instrument
//! costs more than all the rest, so few scenarios have one.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use bandmesh::{
    media::{
        due::DueMidi,
        incoming::{Incoming, Moment},
        outgoing::Outgoing,
        packetiser::{Encoded, Packetiser},
    },
    session::{Session, message::StreamInfo},
};
use bytes::Bytes;
use crdt::PeerKey;
use engine::{
    Command, Engine, Handle, HostTime, MidiWriter, PlayoutPoint, SourceConfig, SourceCounters, SourceId,
    TapReader, Timeline,
};
use transport::{
    clock::{Clock, Estimate},
    datagram::{Kind, classify},
    rtp::{Header, payload_type},
    time::{LocalTime, SessionTime},
};

use super::{Sabotage, keyboard::Keyboard};
use crate::{random::Random, sound_card::Card};

/// The datagram limit of a QUIC connection before path discovery, octets.
const MAX_DATAGRAM: usize = 1_200;
/// Most bandmates heard at once.
const MAX_SOURCES: usize = 16;
/// Inputs of every card.
pub(super) const INPUTS: usize = 2;
/// Period of the test tone, frames: 375 Hz at 48 kHz.
const TONE_FRAMES: u64 = 128;
/// A second input that is in use is silent but for the end of each such stretch, frames: longer than the product waits until it leaves a
/// silent channel out.
const STRETCH_FRAMES: u64 = 14 * 48_000;
/// For so many frames it is not.
const AWAKE_FRAMES: u64 = 9_600;
/// How often latency is measured and the session hears of clocks, as the product's media thread and brain do.
const OBSERVE: Duration = Duration::from_millis(50);
/// A change of the session offset above this is a step, ns, as in the product.
const STEP_NS: u64 = 20_000_000;
/// First numbers of both streams: close to the end, to show that the wrap is harmless.
const FIRST_SEQUENCES: u32 = 65_000 << 16 | 65_300;
/// Numbers remembered for sabotage.
const SEEN: usize = 64;
/// Where an RTP packet has its sequence number and its timestamp.
const SEQUENCE: std::ops::Range<usize> = 2..4;
const TIMESTAMP: std::ops::Range<usize> = 4..8;

/// The media plane of one node.
pub(super) struct Media {
    engine: Engine,
    handle: Handle,
    capture: Option<TapReader>,
    packetiser: Packetiser,
    info: StreamInfo,
    card_rate_hz: u32,
    members: BTreeMap<PeerKey, Member>,
    keyboard: Keyboard,
    /// Notes that sound at the MIDI output, by who plays them; those of members that are gone too.
    sounding: BTreeMap<PeerKey, BTreeSet<u8>>,
    session_offset_ns: i64,
    offset_steps: u64,
    /// Where our stream is: the latest position and its capture time.
    position: Option<(i64, LocalTime)>,
    next_observe: LocalTime,
    next_source: u32,
    frames: u64,
    input: Vec<f32>,
    output: Vec<f32>,
    period_frames: usize,
    second_input: bool,
    instruments: Option<Instruments>,
    sabotage: Option<Sabotage>,
}

/// Members' notes are played here; nobody's microphone is open, so that nothing else is heard.
#[derive(Default)]
struct Instruments {
    /// Loudest sample since it was asked for.
    peak: f32,
}

struct Member {
    source: SourceId,
    incoming: Incoming,
    outgoing: Outgoing,
    midi_ssrc: u32,
    /// Odd while the member shares our timebase.
    epoch: u64,
    /// Understands a stereo stream of which one channel is sent.
    takes_reduced: bool,
    /// For sabotage: numbers of the latest packets.
    seen: VecDeque<u16>,
}

/// A datagram and who gets it.
pub(super) type Addressed = (PeerKey, Bytes);

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
    /// The words of whoever cannot.
    pub(super) fn new(
        card: &Card,
        info: &StreamInfo,
        instruments: bool,
        random: Random,
        sabotage: Option<Sabotage>,
    ) -> Result<Self, String> {
        let config = engine::Config {
            input_channels: INPUTS,
            max_sources: MAX_SOURCES,
            ..engine::Config::new(card.rate_hz, card.period_frames)
        };
        let (engine, mut handle) = engine::engine(config).map_err(|error| error.to_string())?;
        Ok(Self {
            capture: handle.take_capture(),
            engine,
            handle,
            // The first timestamp is 0, so that a timestamp says which frame it is.
            packetiser: Packetiser::new(info, card.rate_hz, 0).map_err(|error| error.to_string())?,
            info: *info,
            card_rate_hz: card.rate_hz,
            members: BTreeMap::new(),
            keyboard: Keyboard::new(random),
            sounding: BTreeMap::new(),
            session_offset_ns: 0,
            offset_steps: 0,
            position: None,
            next_observe: LocalTime::default(),
            next_source: SourceId::OWN_INSTRUMENT.0 + 1,
            frames: 0,
            input: vec![0.0; card.period_frames * INPUTS],
            output: vec![0.0; card.period_frames * 2],
            period_frames: card.period_frames,
            second_input: card.second_input,
            instruments: instruments.then(Instruments::default),
            sabotage,
        })
    }

    /// A member is here: play its stream and send it ours.
    pub(super) fn join(
        &mut self,
        now: LocalTime,
        peer: PeerKey,
        stream: &StreamInfo,
        incarnation: u32,
    ) -> Result<(), String> {
        self.leave(now, &peer);
        let config = SourceConfig::new(stream.rate_hz, usize::from(stream.channels));
        let (writer, source) = self.handle.source(config).map_err(|error| error.to_string())?;
        let id = SourceId(self.next_source);
        self.next_source += 1;
        self.handle.send(Command::AddSource(id, source)).map_err(|error| error.to_string())?;
        let instrument = self.instrument(id)?;
        let midi_ssrc = self.info.ssrc ^ 0x4D49_4449;
        let mut outgoing = Outgoing::new(self.info, midi_ssrc, FIRST_SEQUENCES, now);
        outgoing.set_max_datagram(MAX_DATAGRAM);
        let member = Member {
            source: id,
            incoming: Incoming::new(*stream, writer, instrument, self.card_rate_hz, Clock::new(incarnation)),
            outgoing,
            midi_ssrc,
            epoch: 0,
            takes_reduced: false,
            seen: VecDeque::new(),
        };
        self.members.insert(peer, member);
        Ok(())
    }

    /// A member is gone: every note it holds ends.
    pub(super) fn leave(&mut self, now: LocalTime, peer: &PeerKey) {
        let Some(mut gone) = self.members.remove(peer) else { return };
        gone.incoming.release(self.moment(now, gone.epoch));
        let last = gone.incoming.take_due_midi();
        self.sound(peer, last);
        // A full queue empties at the next callback; the source then stays silent until the node ends.
        let _ = self.handle.send(Command::RemoveSource(gone.source));
        if self.instruments.is_some() {
            let _ = self.handle.send(Command::RemoveInstrument(gone.source));
        }
    }

    /// An instrument for a member's notes, where notes are played here.
    fn instrument(&mut self, id: SourceId) -> Result<Option<MidiWriter>, String> {
        if self.instruments.is_none() || self.sabotage == Some(Sabotage::NoInstrument) {
            return Ok(None);
        }
        let (writer, instrument) = self.handle.instrument().map_err(|error| error.to_string())?;
        self.handle.send(Command::AddInstrument(id, instrument)).map_err(|error| error.to_string())?;
        Ok(Some(writer))
    }

    /// The loudest sample heard since the last call; `None` where no instruments are played.
    pub(super) fn take_peak(&mut self) -> Option<f32> {
        self.instruments.as_mut().map(|it| std::mem::take(&mut it.peak))
    }

    /// Session time is host time and this much, ns; `session` says who keeps the same timebase, and who understands what.
    pub(super) fn follow_session(&mut self, offset_ns: i64, session: &Session<PeerKey>) {
        if offset_ns.abs_diff(self.session_offset_ns) > STEP_NS {
            self.offset_steps += 1;
        }
        self.session_offset_ns = offset_ns;
        for (peer, member) in &mut self.members {
            if member.epoch.is_multiple_of(2) == session.shares_time(peer) {
                member.epoch += 1;
            }
            member.takes_reduced = session.takes_reduced(peer);
        }
    }

    /// Where the beat is, for the engine's click.
    pub(super) fn set_timeline(&mut self, timeline: Timeline) {
        // A full queue is emptied by the next callback, and the timeline is told again soon.
        let _ = self.handle.send(Command::SetTimeline(timeline));
    }

    /// The card asks for a period of audio; returns the datagrams to send.
    pub(super) fn handle_callback(&mut self, now: LocalTime) -> Vec<Addressed> {
        for (index, frame) in (self.frames..).zip(self.input.as_chunks_mut::<INPUTS>().0) {
            // A triangle needs no function whose last digit a platform may choose.
            let phase = index % TONE_FRAMES;
            let first = (phase as f32 / TONE_FRAMES as f32 - 0.5).abs() - 0.25;
            let awake = self.second_input && index % STRETCH_FRAMES >= STRETCH_FRAMES - AWAKE_FRAMES;
            *frame = [first, if awake { first / 2.0 } else { 0.0 }];
        }
        if self.instruments.is_some() {
            self.input.fill(0.0);
        }
        self.frames += self.period_frames as u64;
        self.engine.process(&self.input, &mut self.output, HostTime(now.as_nanos()));
        if let Some(instruments) = &mut self.instruments {
            let loudest = self.output.iter().fold(0.0f32, |loudest, sample| loudest.max(sample.abs()));
            instruments.peak = instruments.peak.max(loudest);
        }
        while self.handle.poll_report().is_some() {}
        let mut datagrams = vec![];
        let Self { capture, packetiser, members, position, .. } = self;
        while let Some(block) = capture.as_mut().and_then(TapReader::next_block) {
            let captured = LocalTime::from_nanos(block.host_time.0);
            *position = Some((packetiser.heard_position(block.position_frames), captured));
            let may_reduce = members.values().all(|member| member.takes_reduced);
            let mut send = |block: &Encoded<'_>| {
                for (peer, member) in &mut *members {
                    member.outgoing.push_audio(block);
                    datagrams
                        .extend(std::iter::from_fn(|| member.outgoing.poll_audio()).map(|it| (*peer, it)));
                }
            };
            packetiser.push(block.position_frames, block.samples, block.channels, may_reduce, &mut send);
        }
        let session_now = self.session_at(now);
        while let Some(message) = self.keyboard.poll(now) {
            for (peer, member) in &mut self.members {
                member.outgoing.push_midi(session_now, &message);
                let sent = std::iter::from_fn(|| member.outgoing.poll_midi(now, session_now));
                datagrams.extend(sent.map(|it| (*peer, it)));
            }
        }
        datagrams
    }

    /// Any datagram of a member, as the network thread hands it in; returns what to answer at once.
    pub(super) fn handle_datagram(
        &mut self,
        now: LocalTime,
        peer: &PeerKey,
        datagram: &Bytes,
    ) -> Vec<Addressed> {
        let Some(epoch) = self.members.get(peer).map(|member| member.epoch) else { return vec![] };
        let moment = self.moment(now, epoch);
        let Some(member) = self.members.get_mut(peer) else { return vec![] };
        let datagrams = match self.sabotage {
            Some(sabotage) => sabotaged(datagram, sabotage, &mut member.seen),
            None => vec![datagram.clone()],
        };
        for datagram in &datagrams {
            let blocks = member.incoming.handle_datagram(moment, datagram);
            if let Some(block) = blocks.iter().find(|block| block.ssrc == member.midi_ssrc) {
                member.outgoing.handle_midi_acknowledged(block.highest_sequence);
            }
        }
        let answers = std::iter::from_fn(|| member.incoming.poll_clock(now)).map(|it| (*peer, it)).collect();
        let due = member.incoming.take_due_midi();
        self.sound(peer, due);
        answers
    }

    /// When [`Self::handle_deadline`] is next wanted.
    pub(super) fn poll_deadline(&self) -> LocalTime {
        let members = self.members.values();
        members
            .map(|it| it.incoming.poll_deadline().min(it.outgoing.poll_deadline()))
            .fold(self.next_observe, LocalTime::min)
    }

    /// Timers due at `now`. Returns datagrams to send, and whether it is time to tell the session of clocks.
    pub(super) fn handle_deadline(&mut self, now: LocalTime) -> (Vec<Addressed>, bool) {
        let observe = self.next_observe <= now;
        if observe {
            self.next_observe = now + OBSERVE;
        }
        let session_now = self.session_at(now);
        let position = self.position.map(|(frames, captured)| (frames, self.session_at(captured)));
        let moments: BTreeMap<PeerKey, Moment> =
            self.members.iter().map(|(peer, member)| (*peer, self.moment(now, member.epoch))).collect();
        let (mut datagrams, mut due) = (vec![], vec![]);
        for ((peer, member), at) in self.members.iter_mut().zip(moments.values()) {
            let Member { incoming, outgoing, .. } = member;
            incoming.handle_deadline(*at);
            if observe {
                incoming.observe(*at);
            }
            datagrams.extend(std::iter::from_fn(|| incoming.poll_overdue_clock(now)).map(|it| (*peer, it)));
            if outgoing.poll_deadline() <= now {
                let midi = std::iter::from_fn(|| outgoing.poll_midi(now, session_now));
                datagrams.extend(midi.map(|it| (*peer, it)));
                if outgoing.report_is_due(now) {
                    let blocks = incoming.report_blocks(now);
                    datagrams.push((*peer, outgoing.report(now, position, blocks)));
                }
            }
            due.push((*peer, incoming.take_due_midi()));
        }
        for (peer, messages) in due {
            self.sound(&peer, messages);
        }
        (datagrams, observe)
    }

    /// What is believed of a member's clock.
    pub(super) fn clock(&self, now: LocalTime, peer: &PeerKey) -> Option<Estimate> {
        self.members.get(peer)?.incoming.clock_estimate(now)
    }

    /// How the streams of the others are played.
    pub(super) fn playing(&self) -> impl Iterator<Item = (PeerKey, Playing)> {
        self.members.iter().map(|(peer, member)| {
            let stats = member.incoming.source();
            let playing = Playing {
                counters: stats.counters(),
                playout: stats.playout(),
                delay_frames: stats.delay_frames(),
                restarts: member.incoming.packets().restarts,
            };
            (*peer, playing)
        })
    }

    /// Packets of a member's sound that came, and that did not.
    pub(super) fn packets(&self, peer: &PeerKey) -> Option<(u64, u64)> {
        let packets = self.members.get(peer)?.incoming.packets();
        Some((packets.received, packets.lost))
    }

    /// Notes that sound at the MIDI output, by who plays them.
    pub(super) fn sounding(&self) -> impl Iterator<Item = (&PeerKey, u8)> {
        self.sounding.iter().flat_map(|(peer, notes)| notes.iter().map(move |note| (peer, *note)))
    }

    /// Notes whose keys are down here.
    pub(super) fn held(&self) -> impl Iterator<Item = u8> {
        self.keyboard.held()
    }

    /// Members it plays and sends to.
    pub(super) fn member_count(&self) -> usize {
        self.members.len()
    }

    /// Plays messages of `peer` on the MIDI output.
    fn sound(&mut self, peer: &PeerKey, messages: Vec<DueMidi>) {
        let notes = self.sounding.entry(*peer).or_default();
        for event in messages {
            match event.message[..] {
                [0x90, note, velocity] if velocity > 0 => {
                    notes.insert(note);
                }
                [0x80 | 0x90, note, _] if self.sabotage != Some(Sabotage::HoldNotes) => {
                    notes.remove(&note);
                }
                _ => {}
            }
        }
    }

    fn session_at(&self, at: LocalTime) -> SessionTime {
        let local_ns = i64::try_from(at.as_nanos()).unwrap_or(i64::MAX);
        SessionTime::from_nanos(local_ns.saturating_add(self.session_offset_ns))
    }

    fn moment(&self, now: LocalTime, epoch: u64) -> Moment {
        let common = (!epoch.is_multiple_of(2)).then_some((epoch, self.offset_steps));
        Moment { local: now, session: self.session_at(now), common }
    }
}

/// The datagram as a receiver with this fault takes it.
///
/// The receiver checks both the number and the timestamp of a packet, so a fault that lets one through twice is shown
/// by giving it two numbers (twice its own, and one more) and two timestamps.
fn sabotaged(datagram: &Bytes, sabotage: Sabotage, seen: &mut VecDeque<u16>) -> Vec<Bytes> {
    let header = Header::parse(datagram).ok().filter(|_| classify(datagram) == Some(Kind::Rtp));
    let Some((header, payload)) = header.filter(|(it, _)| it.payload_type != payload_type::MIDI) else {
        return vec![datagram.clone()];
    };
    let renumbered = |again: bool, later_frames: u32| {
        let mut bytes = datagram.to_vec();
        let sequence = header.sequence.wrapping_mul(2).wrapping_add(u16::from(again));
        if let Some(field) = bytes.get_mut(SEQUENCE) {
            field.copy_from_slice(&sequence.to_be_bytes());
        }
        if let Some(field) = bytes.get_mut(TIMESTAMP) {
            field.copy_from_slice(&header.timestamp.wrapping_add(later_frames).to_be_bytes());
        }
        Bytes::from(bytes)
    };
    let is_known = seen.contains(&header.sequence);
    seen.push_back(header.sequence);
    if seen.len() > SEEN {
        seen.pop_front();
    }
    match sabotage {
        Sabotage::SkipSequenceCheck if is_known => vec![renumbered(true, 1)],
        Sabotage::SkipSequenceCheck => vec![renumbered(false, 0)],
        // Two octets a frame, while one channel is sent: half a packet later.
        Sabotage::DoubleFrames => vec![renumbered(false, 0), renumbered(true, payload.len() as u32 / 4)],
        Sabotage::DropAudio if header.sequence.is_multiple_of(8) => vec![],
        _ => vec![datagram.clone()],
    }
}
