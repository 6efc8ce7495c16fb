//! Sound and notes between the engine and the network.
//!
//! One *media thread* takes each period of captured audio from the engine as soon as it is there, encodes it
//! once, and hands a packet for every member to the connection. It also serves all media timers: clock
//! exchanges, reports, MIDI repeats, decoder deadlines. What arrives is handled where it was read from the
//! network (see [`incoming`]).
//!
//! Queues: the engine's capture queue (bounded, oldest kept, overflow counted by the engine), and in the other
//! direction each source's queue (bounded, newest refused and counted here).

mod incoming;
mod latency;
mod outgoing;
mod pace;
mod packetiser;

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
        mpsc,
    },
};

use bytes::Bytes;
use engine::{HostTime, MidiWriter, SourceWriter, TapReader};
use transport::{
    PeerId,
    clock::Clock,
    rtp::Format,
    time::{LocalTime, SessionTime},
};

use self::{incoming::Incoming, outgoing::Outgoing, pace::Pacer, packetiser::Packetiser};
use crate::{
    codec::Codec,
    device::{monotonic_ns, sleep_until, use_realtime_priority},
    session::message::StreamInfo,
};

pub use incoming::{Counters, DueMidi, IncomingReport};
pub use packetiser::announce;

/// Priority asked for the media thread: under the audio callback (70 by JACK's custom), over everything else.
const PRIORITY: i32 = 55;
/// Longest time between two looks at the timers, ns.
const TIMER_STEP_NS: u64 = 20_000_000;
/// Time between two measurements of mouth-to-ear latency, ns.
const OBSERVE_NS: u64 = 50_000_000;

/// Where datagrams go; the real one is the connection table of the mesh.
pub trait Datagrams: Send + 'static {
    /// Sends to `peer` without waiting. A datagram that cannot go now is dropped: late audio is useless.
    fn send(&self, peer: &PeerId, datagram: Bytes);
    /// Largest datagram the path to `peer` takes, octets; `None` without a connection.
    fn max_datagram(&self, peer: &PeerId) -> Option<usize>;
}

/// Local MIDI ports.
pub trait MidiIo: Send + 'static {
    /// The next message played here and when, host time in ns.
    fn poll(&mut self) -> Option<(u64, Vec<u8>)>;
    /// Plays a message at host time `due_ns` on the local output.
    fn send(&mut self, due_ns: u64, message: &[u8]);
}

/// The capture side of one open device.
pub struct Capture {
    /// Blocks of what is played here.
    pub tap: TapReader,
    /// How it is sent.
    pub info: StreamInfo,
    /// Device rate, Hz.
    pub rate_hz: u32,
    /// Device period, frames.
    pub period_frames: u32,
}

/// Handle on the media plane. Cheap to clone.
#[derive(Clone)]
pub struct Media {
    shared: Arc<Shared>,
    commands: mpsc::SyncSender<Command>,
}

/// The running media thread.
pub struct Running {
    /// The way to talk to it.
    pub media: Media,
    thread: std::thread::JoinHandle<()>,
}

struct Shared {
    peers: Mutex<BTreeMap<PeerId, Arc<Peer>>>,
    /// Raised by every change of `peers`, so that the media thread looks at the map only then.
    generation: AtomicU64,
    session_offset_ns: AtomicI64,
    stopping: AtomicBool,
    sent_packets: AtomicU64,
    incarnation: u32,
    /// Note-offs of members that are gone, for the MIDI output.
    last_notes: Mutex<Vec<DueMidi>>,
}

struct Peer {
    id: PeerId,
    incoming: Mutex<Incoming>,
    outgoing: Mutex<Outgoing>,
}

enum Command {
    Capture(Box<Capture>),
    LocalInstrument(MidiWriter),
}

/// Starts the media thread. `incarnation` is random per process start.
///
/// # Errors
/// When the system gives no thread.
pub fn start(datagrams: impl Datagrams, midi: Box<dyn MidiIo>, incarnation: u32) -> std::io::Result<Running> {
    let shared = Arc::new(Shared {
        peers: Mutex::default(),
        generation: AtomicU64::new(0),
        session_offset_ns: AtomicI64::new(0),
        stopping: AtomicBool::new(false),
        sent_packets: AtomicU64::new(0),
        incarnation,
        last_notes: Mutex::default(),
    });
    let (commands, queue) = mpsc::sync_channel(16);
    let plane = Plane {
        shared: shared.clone(),
        commands: queue,
        datagrams,
        midi,
        local_instrument: None,
        capture: None,
        peers: Vec::new(),
        generation: 0,
        next_observe_ns: 0,
    };
    let thread = std::thread::Builder::new().name("media".into()).spawn(move || plane.run())?;
    Ok(Running { media: Media { shared, commands }, thread })
}

impl Running {
    /// Ends the thread.
    pub fn stop(self) {
        self.media.shared.stopping.store(true, Ordering::Relaxed);
        let _ = self.thread.join();
    }
}

impl Media {
    /// A device is open: send what it captures from now on.
    pub fn set_capture(&self, capture: Capture) {
        for peer in self.peers().values() {
            lock(&peer.outgoing).change_stream(capture.info, rand::random());
        }
        if self.commands.try_send(Command::Capture(Box::new(capture))).is_err() {
            tracing::error!("the media thread does not take the new device; restart the node");
        }
    }

    /// The instrument that plays this player's own MIDI.
    pub fn set_local_instrument(&self, writer: MidiWriter) {
        if self.commands.try_send(Command::LocalInstrument(writer)).is_err() {
            tracing::error!("the media thread does not take the instrument; restart the node");
        }
    }

    /// Begins media with a member that announced `theirs`, while we send `ours`.
    pub fn add_peer(
        &self,
        peer: PeerId,
        theirs: StreamInfo,
        ours: StreamInfo,
        writer: SourceWriter,
        instrument: Option<MidiWriter>,
    ) {
        let now = LocalTime::from_nanos(monotonic_ns());
        let clock = Clock::new(self.shared.incarnation);
        let entry = Arc::new(Peer {
            id: peer,
            incoming: Mutex::new(Incoming::new(theirs, writer, instrument, clock)),
            outgoing: Mutex::new(Outgoing::new(ours, rand::random(), now)),
        });
        self.peers().insert(peer, entry);
        self.shared.generation.fetch_add(1, Ordering::Release);
    }

    /// The member announced another stream.
    pub fn change_peer(
        &self,
        peer: &PeerId,
        theirs: StreamInfo,
        writer: SourceWriter,
        instrument: Option<MidiWriter>,
    ) {
        if let Some(entry) = self.peer(peer) {
            let mut incoming = lock(&entry.incoming);
            incoming.change_stream(theirs);
            incoming.refit(writer, instrument);
        }
    }

    /// The engine was rebuilt: the member's audio and notes go to new sources.
    pub fn refit_peer(&self, peer: &PeerId, writer: SourceWriter, instrument: Option<MidiWriter>) {
        if let Some(entry) = self.peer(peer) {
            lock(&entry.incoming).refit(writer, instrument);
        }
    }

    /// Ends media with a member; every note it holds is released.
    pub fn remove_peer(&self, peer: &PeerId) {
        let Some(entry) = self.peers().remove(peer) else { return };
        let now = LocalTime::from_nanos(monotonic_ns());
        let mut incoming = lock(&entry.incoming);
        incoming.release(now, self.session_at(now));
        lock(&self.shared.last_notes).extend(incoming.take_due_midi());
        self.shared.generation.fetch_add(1, Ordering::Release);
    }

    /// Session time minus host time, ns.
    pub fn set_session_offset(&self, offset_ns: i64) {
        self.shared.session_offset_ns.store(offset_ns, Ordering::Relaxed);
    }

    /// A datagram from an authenticated peer. Those of peers that are no members are dropped.
    pub fn handle_datagram(&self, peer: &PeerId, datagram: &Bytes) {
        let now = LocalTime::from_nanos(monotonic_ns());
        let Some(entry) = self.peer(peer) else { return };
        let acknowledged = lock(&entry.incoming).handle_datagram(now, self.session_at(now), datagram);
        // A clock request is best answered while its arrival time is fresh.
        self.shared.note_blocks(&entry, &acknowledged);
    }

    /// The next clock datagrams for `peer`, to be sent at once.
    pub fn poll_clock(&self, peer: &PeerId) -> Option<Bytes> {
        let entry = self.peer(peer)?;
        lock(&entry.incoming).poll_clock(LocalTime::from_nanos(monotonic_ns()))
    }

    /// The clock of `peer` minus ours, ns, once measured.
    pub fn clock_offset_ns(&self, peer: &PeerId) -> Option<i64> {
        let entry = self.peer(peer)?;
        let estimate = lock(&entry.incoming).clock(LocalTime::from_nanos(monotonic_ns()));
        estimate.map(|estimate| estimate.offset_ns)
    }

    /// What is known about the media of `peer`.
    pub fn report(&self, peer: &PeerId) -> Option<IncomingReport> {
        let entry = self.peer(peer)?;
        let report = lock(&entry.incoming).report(LocalTime::from_nanos(monotonic_ns()));
        Some(report)
    }

    /// Media datagrams sent since the start.
    pub fn sent_packets(&self) -> u64 {
        self.shared.sent_packets.load(Ordering::Relaxed)
    }

    fn session_at(&self, now: LocalTime) -> SessionTime {
        self.shared.session_at(now)
    }

    fn peer(&self, peer: &PeerId) -> Option<Arc<Peer>> {
        self.peers().get(peer).cloned()
    }

    fn peers(&self) -> MutexGuard<'_, BTreeMap<PeerId, Arc<Peer>>> {
        lock(&self.shared.peers)
    }
}

impl Shared {
    fn session_at(&self, now: LocalTime) -> SessionTime {
        let offset = self.session_offset_ns.load(Ordering::Relaxed);
        SessionTime::from_nanos((now.as_nanos() as i64).saturating_add(offset))
    }

    fn note_blocks(&self, peer: &Peer, blocks: &[transport::rtp::report::ReportBlock]) {
        if blocks.is_empty() {
            return;
        }
        let mut outgoing = lock(&peer.outgoing);
        for block in blocks {
            outgoing.handle_report(block);
        }
    }
}

/// The RTP format of an announced stream.
pub(crate) fn stream_format(info: &StreamInfo) -> Format {
    let codec = match info.codec {
        Codec::Pcm16 => transport::rtp::Codec::Pcm16,
        Codec::Pcm24 => transport::rtp::Codec::Pcm24,
        Codec::Opus => transport::rtp::Codec::Opus,
    };
    Format { codec, rate_hz: info.rate_hz, channels: info.channels }
}

/// What the media thread owns.
struct Plane<D> {
    shared: Arc<Shared>,
    commands: mpsc::Receiver<Command>,
    datagrams: D,
    midi: Box<dyn MidiIo>,
    local_instrument: Option<MidiWriter>,
    capture: Option<OpenCapture>,
    peers: Vec<Arc<Peer>>,
    generation: u64,
    next_observe_ns: u64,
}

struct OpenCapture {
    capture: Capture,
    packetiser: Packetiser,
    pacer: Pacer,
    /// Latest pair of stream position and capture time.
    position: Option<(i64, HostTime)>,
}

impl<D: Datagrams> Plane<D> {
    fn run(mut self) {
        if let Err(error) = use_realtime_priority(PRIORITY) {
            tracing::debug!(%error, "the media thread runs without realtime priority");
        }
        while !self.shared.stopping.load(Ordering::Relaxed) {
            self.take_commands();
            self.refresh_peers();
            self.send_captured();
            self.send_midi();
            let timers = self.serve_timers();
            let now = monotonic_ns();
            let wake = match &self.capture {
                Some(open) => open.pacer.next_look(now, timers),
                None => timers,
            };
            sleep_until(wake);
        }
    }

    fn take_commands(&mut self) {
        while let Ok(command) = self.commands.try_recv() {
            match command {
                Command::LocalInstrument(writer) => self.local_instrument = Some(writer),
                Command::Capture(capture) => match Packetiser::new(&capture.info, rand::random()) {
                    Ok(packetiser) => {
                        let period_ns = period_ns(capture.period_frames as usize, capture.rate_hz);
                        self.capture = Some(OpenCapture {
                            packetiser,
                            pacer: Pacer::new(period_ns),
                            position: None,
                            capture: *capture,
                        });
                    }
                    Err(error) => tracing::error!(%error, "this player's audio cannot be sent"),
                },
            }
        }
    }

    fn refresh_peers(&mut self) {
        let generation = self.shared.generation.load(Ordering::Acquire);
        if generation != self.generation {
            self.generation = generation;
            self.peers = lock(&self.shared.peers).values().cloned().collect();
            for event in lock(&self.shared.last_notes).drain(..) {
                self.midi.send(event.due_ns, &event.message);
            }
        }
    }

    fn send_captured(&mut self) {
        let Some(open) = self.capture.as_mut() else { return };
        while let Some(block) = open.capture.tap.next_block() {
            let frames = block.samples.len() / block.channels.max(1);
            open.pacer.found(monotonic_ns(), block.host_time.0, period_ns(frames, open.capture.rate_hz));
            open.position = Some((open.packetiser.heard_position(block.position_frames), block.host_time));
            let (peers, datagrams, shared) = (&self.peers, &self.datagrams, &self.shared);
            let mut send = |timestamp: i64, payload: &[u8]| {
                for peer in peers {
                    let mut outgoing = lock(&peer.outgoing);
                    outgoing.push_audio(timestamp, payload);
                    while let Some(datagram) = outgoing.poll_audio() {
                        datagrams.send(&peer.id, datagram);
                        shared.sent_packets.fetch_add(1, Ordering::Relaxed);
                    }
                }
            };
            open.packetiser.push(block.position_frames, block.samples, block.channels, &mut send);
        }
    }

    fn send_midi(&mut self) {
        while let Some((host_ns, message)) = self.midi.poll() {
            let now = LocalTime::from_nanos(monotonic_ns());
            let played = self.shared.session_at(LocalTime::from_nanos(host_ns));
            if let (Some(instrument), [a, rest @ ..]) = (self.local_instrument.as_mut(), &message[..]) {
                let data = [*a, rest.first().copied().unwrap_or(0), rest.get(1).copied().unwrap_or(0)];
                if instrument.push(HostTime(now.as_nanos()), data).is_err() {
                    tracing::debug!("the local instrument's queue is full");
                }
            }
            for peer in &self.peers {
                let mut outgoing = lock(&peer.outgoing);
                outgoing.push_midi(played, &message);
                while let Some(datagram) = outgoing.poll_midi(now, self.shared.session_at(now)) {
                    self.datagrams.send(&peer.id, datagram);
                }
            }
        }
    }

    /// Serves what is due and returns when something is due next, ns.
    fn serve_timers(&mut self) -> u64 {
        let now = LocalTime::from_nanos(monotonic_ns());
        let session_now = self.shared.session_at(now);
        let observe = now.as_nanos() >= self.next_observe_ns;
        if observe {
            self.next_observe_ns = now.as_nanos() + OBSERVE_NS;
        }
        let position =
            self.capture.as_ref().and_then(|open| open.position).map(|(frames, captured)| {
                (frames, self.shared.session_at(LocalTime::from_nanos(captured.0)))
            });
        let mut next = now.as_nanos() + TIMER_STEP_NS;
        for peer in &self.peers {
            let due_midi = {
                let mut incoming = lock(&peer.incoming);
                if observe || incoming.poll_deadline().is_some_and(|at| at <= now) {
                    incoming.handle_deadline(now, session_now);
                }
                while let Some(datagram) = incoming.poll_clock(LocalTime::from_nanos(monotonic_ns())) {
                    self.datagrams.send(&peer.id, datagram);
                }
                for at in incoming.poll_deadline().into_iter().chain([incoming.clock_deadline()]) {
                    next = next.min(at.as_nanos());
                }
                incoming.take_due_midi()
            };
            for event in due_midi {
                self.midi.send(event.due_ns, &event.message);
            }
            let mut outgoing = lock(&peer.outgoing);
            if observe && let Some(octets) = self.datagrams.max_datagram(&peer.id) {
                outgoing.set_max_datagram(octets);
            }
            while let Some(datagram) = outgoing.poll_midi(now, session_now) {
                self.datagrams.send(&peer.id, datagram);
            }
            let report = outgoing.poll_report(now, position, || lock(&peer.incoming).report_blocks(now));
            if let Some(datagram) = report {
                self.datagrams.send(&peer.id, datagram);
            }
            next = next.min(outgoing.poll_deadline().as_nanos());
        }
        next.max(now.as_nanos() + 50_000)
    }
}

fn period_ns(frames: usize, rate_hz: u32) -> u64 {
    frames as u64 * 1_000_000_000 / u64::from(rate_hz.max(1))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
