//! The media thread: from the engine to the network, and everything that is due at a time.
//!
//! It looks for captured audio every 60 us or so, so a look must cost next to nothing: what is due when is kept beside
//! each member, and no lock is taken before it is.

use std::{
    ops::Range,
    sync::{Arc, atomic::Ordering, mpsc},
};

use engine::HostTime;
use transport::time::{LocalTime, SessionTime};

use super::{
    Capture, Command, Datagrams, MidiIo, Peer, Routes, Shared,
    instrument::InstrumentFeed,
    lock, now,
    outgoing::Outgoing,
    pace::Pacer,
    packetiser::{Encoded, Packetiser},
};
use crate::{
    device::{midi::Keys, monotonic_ns, sleep_until, use_realtime_priority},
    session::message::StreamInfo,
};

/// Priority asked for the media thread: under the audio callback (70 by JACK's custom), over everything else.
const PRIORITY: i32 = 55;
/// Longest time between two looks at the timers, ns.
const TIMER_STEP_NS: u64 = 20_000_000;
/// Shortest, ns.
const TIMER_REST_NS: u64 = 50_000;
/// MIDI's channels.
const CHANNELS: Range<u8> = 0..16;
/// Time between two measurements of mouth-to-ear latency, ns.
const OBSERVE_NS: u64 = 50_000_000;

/// What the media thread owns.
pub struct Plane<D> {
    shared: Arc<Shared>,
    commands: mpsc::Receiver<Command>,
    datagrams: D,
    midi: Box<dyn MidiIo>,
    local_instrument: InstrumentFeed,
    capture: Option<OpenCapture>,
    routes: Routes,
    links: Vec<Link>,
    next_observe_ns: u64,
    /// Whether the others have been told to let all notes go, since nothing more is sent to them.
    muted: bool,
    /// What the others know to be down.
    held: Keys,
}

/// One member as this thread serves it.
struct Link {
    peer: Arc<Peer>,
    outgoing: Outgoing,
    /// Channels of which it does not know how this player has set them.
    untold: Range<u8>,
}

struct OpenCapture {
    capture: Capture,
    packetiser: Packetiser,
    pacer: Pacer,
    /// Latest pair of stream position and capture time.
    position: Option<(i64, HostTime)>,
}

impl<D: Datagrams> Plane<D> {
    pub(super) fn new(
        shared: Arc<Shared>,
        commands: mpsc::Receiver<Command>,
        datagrams: D,
        midi: Box<dyn MidiIo>,
    ) -> Self {
        Self {
            shared,
            commands,
            datagrams,
            midi,
            local_instrument: InstrumentFeed::new(None),
            capture: None,
            routes: Routes::default(),
            links: Vec::new(),
            next_observe_ns: 0,
            muted: false,
            held: Keys::default(),
        }
    }

    /// Runs until told to stop.
    pub fn run(mut self) {
        if let Err(error) = use_realtime_priority(PRIORITY) {
            tracing::debug!(%error, "the media thread runs without realtime priority");
        }
        while !self.shared.stopping.load(Ordering::Relaxed) {
            let timers = self.look();
            let now = monotonic_ns();
            let wake = match &self.capture {
                Some(open) => open.pacer.next_look(now, timers),
                None => timers,
            };
            sleep_until(wake);
        }
    }

    /// Does everything there is to do and returns when a timer is next due, ns.
    pub(super) fn look(&mut self) -> u64 {
        self.take_commands();
        self.follow_peers();
        self.send_captured();
        self.send_midi();
        self.serve_timers()
    }

    fn take_commands(&mut self) {
        while let Ok(command) = self.commands.try_recv() {
            match command {
                Command::LocalInstrument(writer) => self.local_instrument.replace(Some(writer)),
                Command::Capture(capture) => self.open(*capture),
                Command::Stream(info) => {
                    if let Some(OpenCapture { capture, .. }) = self.capture.take() {
                        self.open(Capture { info, ..capture });
                    }
                }
            }
        }
    }

    /// Packetiser and senders change in one step: a block of one stream never leaves under the name of another.
    fn open(&mut self, capture: Capture) {
        self.capture = None;
        match Packetiser::new(&capture.info, capture.rate_hz, rand::random()) {
            Ok(packetiser) => {
                for link in &mut self.links {
                    link.outgoing.change_stream(capture.info, rand::random());
                }
                let period_ns = period_ns(capture.period_frames as usize, capture.rate_hz);
                self.capture =
                    Some(OpenCapture { packetiser, pacer: Pacer::new(period_ns), position: None, capture });
            }
            Err(error) => tracing::error!(%error, "this player's audio cannot be sent"),
        }
    }

    fn follow_peers(&mut self) {
        if !self.shared.follow_peers(&mut self.routes) {
            return;
        }
        let captured = self.capture.as_ref().map(|open| open.capture.info);
        let mut before = std::mem::take(&mut self.links);
        for peer in self.routes.peers.values() {
            let known = before.iter().position(|link| Arc::ptr_eq(&link.peer, peer));
            if let Some(index) = known {
                self.links.push(before.swap_remove(index));
                continue;
            }
            self.links.push(Link::new(peer.clone(), captured.unwrap_or(peer.ours)));
        }
        for event in lock(&self.shared.last_notes).drain(..) {
            self.midi.send(event.due_ns, &event.message);
        }
    }

    fn send_captured(&mut self) {
        let Self { capture: Some(open), links, datagrams, shared, .. } = self else { return };
        while let Some(block) = open.capture.tap.next_block() {
            let frames = block.samples.len() / block.channels.max(1);
            open.pacer.found(monotonic_ns(), block.host_time.0, period_ns(frames, open.capture.rate_hz));
            open.position = Some((open.packetiser.heard_position(block.position_frames), block.host_time));
            let may_reduce = links.iter().all(|link| link.peer.takes_reduced.load(Ordering::Relaxed));
            let mut send = |block: &Encoded<'_>| {
                for Link { peer, outgoing, .. } in &mut *links {
                    outgoing.push_audio(block);
                    while let Some(datagram) = outgoing.poll_audio() {
                        datagrams.send(&peer.id, datagram);
                        shared.sent_packets.fetch_add(1, Ordering::Relaxed);
                    }
                }
            };
            open.packetiser.push(block.position_frames, block.samples, block.channels, may_reduce, &mut send);
        }
    }

    fn send_midi(&mut self) {
        let muted = self.shared.muted.load(Ordering::Relaxed);
        if muted != self.muted {
            self.muted = muted;
            if muted {
                self.silence_notes();
            }
            for link in &mut self.links {
                link.untold = CHANNELS;
            }
        }
        if !muted {
            self.tell_sounds();
        }
        while let Some((host_ns, message)) = self.midi.poll() {
            let now = now();
            let played = self.shared.session_at(LocalTime::from_nanos(host_ns));
            if self.local_instrument.push(HostTime(now.as_nanos()), &message).is_err() {
                tracing::debug!("the local instrument's queue was full; its notes are released");
            }
            if !muted {
                self.share_midi(now, played, &message);
            }
        }
    }

    /// Lets go, at the others, of all that this player holds.
    fn silence_notes(&mut self) {
        let now = now();
        let session_now = self.shared.session_at(now);
        for message in self.held.released(&Keys::default()) {
            self.share_midi(now, session_now, &message);
        }
    }

    /// Tells who does not know it how this player has set the channels, one that is set at a look: all of them at once would
    /// push audio out of the connection's queue.
    fn tell_sounds(&mut self) {
        let sounds = self.local_instrument.sounds();
        for link in self.links.iter_mut().filter(|link| !link.untold.is_empty()) {
            // Before it sends to us it has no place for what we send. The recovery journal would not replace what is lost: it
            // does not say in which order parameters were selected and set.
            if !link.peer.heard.load(Ordering::Relaxed) {
                continue;
            }
            let now = now();
            let session_now = self.shared.session_at(now);
            let mut settings = link.untold.by_ref().map(|channel| sounds.of(channel).collect::<Vec<_>>());
            for message in settings.find(|messages| !messages.is_empty()).unwrap_or_default() {
                self.held.note(short(&message));
                link.send_midi(now, session_now, session_now, short(&message), &self.datagrams);
            }
        }
    }

    fn share_midi(&mut self, now: LocalTime, played: SessionTime, message: &[u8]) {
        self.held.note(message);
        let session_now = self.shared.session_at(now);
        for link in &mut self.links {
            link.send_midi(now, played, session_now, message, &self.datagrams);
        }
    }

    /// Serves what is due and returns when something is due next, ns.
    fn serve_timers(&mut self) -> u64 {
        let now = now();
        let observe = now.as_nanos() >= self.next_observe_ns;
        if observe {
            self.next_observe_ns = now.as_nanos() + OBSERVE_NS;
        }
        let Self { shared, capture, links, datagrams, midi, .. } = self;
        let mut next = self.next_observe_ns.min(now.as_nanos() + TIMER_STEP_NS);
        for link in links {
            if observe || link.peer.incoming_due_ns.load(Ordering::Relaxed) <= now.as_nanos() {
                link.serve_incoming(now, observe, shared, datagrams, midi.as_mut());
            }
            if observe && let Some(octets) = datagrams.max_datagram(&link.peer.id) {
                link.outgoing.set_max_datagram(octets);
            }
            if let Some(highest_sequence) = link.peer.take_midi_acknowledged() {
                link.outgoing.handle_midi_acknowledged(highest_sequence);
            }
            if link.outgoing.poll_deadline() <= now {
                let position = capture
                    .as_ref()
                    .and_then(|open| open.position)
                    .map(|(frames, captured)| (frames, shared.session_at(LocalTime::from_nanos(captured.0))));
                link.serve_outgoing(now, shared.session_at(now), position, datagrams);
            }
            let incoming_due_ns = link.peer.incoming_due_ns.load(Ordering::Relaxed);
            next = next.min(incoming_due_ns).min(link.outgoing.poll_deadline().as_nanos());
        }
        next.max(now.as_nanos() + TIMER_REST_NS)
    }
}

impl Link {
    fn new(peer: Arc<Peer>, ours: StreamInfo) -> Self {
        let outgoing = Outgoing::new(ours, peer.midi_ssrc, rand::random(), now());
        Self { peer, outgoing, untold: CHANNELS }
    }

    fn send_midi(
        &mut self,
        at: LocalTime,
        played: SessionTime,
        session_at: SessionTime,
        message: &[u8],
        datagrams: &impl Datagrams,
    ) {
        self.outgoing.push_midi(played, message);
        while let Some(datagram) = self.outgoing.poll_midi(at, session_at) {
            datagrams.send(&self.peer.id, datagram);
        }
    }

    fn serve_incoming(
        &self,
        at: LocalTime,
        observe: bool,
        shared: &Shared,
        datagrams: &impl Datagrams,
        midi: &mut dyn MidiIo,
    ) {
        let moment = shared.moment(at, &self.peer);
        let due_midi = self.peer.with_incoming(|incoming| {
            incoming.handle_deadline(moment);
            if observe {
                incoming.observe(moment);
                self.peer.show(incoming.report(at));
            }
            while let Some(datagram) = incoming.poll_overdue_clock(now()) {
                datagrams.send(&self.peer.id, datagram);
            }
            incoming.take_due_midi()
        });
        for event in due_midi {
            midi.send(event.due_ns, &event.message);
        }
    }

    fn serve_outgoing(
        &mut self,
        at: LocalTime,
        session_at: SessionTime,
        position: Option<(i64, SessionTime)>,
        datagrams: &impl Datagrams,
    ) {
        while let Some(datagram) = self.outgoing.poll_midi(at, session_at) {
            datagrams.send(&self.peer.id, datagram);
        }
        if self.outgoing.report_is_due(at) {
            let blocks = self.peer.with_incoming(|incoming| incoming.report_blocks(at));
            datagrams.send(&self.peer.id, self.outgoing.report(at, position, blocks));
        }
    }
}

/// A message without the zero that fills it up to three octets.
fn short(message: &[u8; 3]) -> &[u8] {
    match message {
        [0xC0..=0xDF, ..] => message.split_at(2).0,
        _ => message,
    }
}

fn period_ns(frames: usize, rate_hz: u32) -> u64 {
    frames as u64 * 1_000_000_000 / u64::from(rate_hz.max(1))
}
