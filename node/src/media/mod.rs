//! Sound and notes between the engine and the network.
//!
//! One *media thread* takes each period of captured audio from the engine as soon as it is there, encodes it
//! once, and hands a packet for every member to the connection. It also serves all media timers: clock
//! exchanges, reports, MIDI repeats, decoder deadlines. What arrives is handled where it was read from the
//! network (see [`incoming`]).
//!
//! Both are realtime threads and share one lock per member, for what comes from it. Nobody else takes that lock in
//! ordinary running: pages read a report that the media thread leaves for them, and what a command changes is either
//! an atomic or sent to the media thread.
//!
//! Queues: the engine's capture queue (bounded, oldest kept, overflow counted by the engine), in the other
//! direction each source's queue (bounded, newest refused and counted here), and MIDI for the output port (bounded,
//! see [`due`]).

pub mod channels;
pub mod due;
pub mod incoming;
mod instrument;
mod jitter;
mod latency;
pub mod outgoing;
mod pace;
pub mod packetiser;
mod plane;
mod recording;
mod sound;
mod totals;

#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, TryLockError,
        atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, Ordering},
        mpsc,
    },
};

use bytes::Bytes;
use engine::{Meter, MidiWriter, SourceStats, SourceWriter, TapReader};
use transport::{
    PeerId,
    clock::Clock,
    rtp::{Format, report::ReportBlock},
    time::{LocalTime, SessionTime},
};

use self::{due::DueMidi, plane::Plane};
use crate::{codec::Codec, device::monotonic_ns, session::message::StreamInfo, trace::Recorder};

pub use incoming::{Counters, Incoming, IncomingReport, Moment};
pub use packetiser::announce;
pub use recording::Recording;
pub use totals::Totals;

/// A change of the session offset above this is a step, ns: what was measured before it means nothing after it. Smaller
/// ones are steering, which measurements follow.
const STEP_NS: u64 = 20_000_000;

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
    /// Raised by every change of `peers`, so that the realtime threads look at the map only then.
    generation: AtomicU64,
    /// The network thread's copy of `peers`; nobody else takes this lock.
    routes: Mutex<Routes>,
    session_offset_ns: AtomicI64,
    /// Steps that the session offset has made.
    offset_steps: AtomicU64,
    engine_rate_hz: AtomicU32,
    stopping: AtomicBool,
    sent_packets: AtomicU64,
    /// Nothing this player plays on MIDI goes to the others. Their audio is muted in the engine.
    muted: AtomicBool,
    incarnation: u32,
    recorder: Recorder,
    /// Note-offs of members that are gone, for the MIDI output.
    last_notes: Mutex<Vec<DueMidi>>,
}

/// A copy of the members' table as it was at a generation.
#[derive(Default)]
struct Routes {
    generation: u64,
    peers: BTreeMap<PeerId, Arc<Peer>>,
}

/// What the threads share about one member.
struct Peer {
    id: PeerId,
    /// What we send, if the device has not changed since.
    ours: StreamInfo,
    midi_ssrc: u32,
    incoming: Mutex<Incoming>,
    /// When `incoming` next needs the media thread, ns; written by whoever held the lock last.
    incoming_due_ns: AtomicU64,
    /// Odd while the member shares our timebase; raised at each change.
    time_epoch: AtomicU64,
    /// The member understands a stereo stream of which one channel is sent.
    takes_reduced: AtomicBool,
    /// Something has come from the member, so it knows of us.
    heard: AtomicBool,
    /// The member's latest word on our MIDI stream: a sequence number above which bit 32 is set, or 0 for none.
    midi_acknowledged: AtomicU64,
    source: Mutex<Arc<SourceStats>>,
    report: Mutex<IncomingReport>,
}

enum Command {
    Capture(Box<Capture>),
    Stream(StreamInfo),
    LocalInstrument(MidiWriter),
}

/// Starts the media thread. `incarnation` is random per process start.
///
/// # Errors
/// When the system gives no thread.
pub fn start(
    datagrams: impl Datagrams,
    midi: Box<dyn MidiIo>,
    incarnation: u32,
    recorder: Recorder,
) -> std::io::Result<Running> {
    let (media, plane) = plane(datagrams, midi, incarnation, recorder);
    let thread = std::thread::Builder::new().name("media".into()).spawn(move || plane.run())?;
    Ok(Running { media, thread })
}

/// The handle and what it is a handle on, not yet running.
fn plane<D: Datagrams>(
    datagrams: D,
    midi: Box<dyn MidiIo>,
    incarnation: u32,
    recorder: Recorder,
) -> (Media, Plane<D>) {
    let shared = Arc::new(Shared {
        peers: Mutex::default(),
        generation: AtomicU64::new(0),
        routes: Mutex::default(),
        session_offset_ns: AtomicI64::new(0),
        offset_steps: AtomicU64::new(0),
        engine_rate_hz: AtomicU32::new(48_000),
        stopping: AtomicBool::new(false),
        sent_packets: AtomicU64::new(0),
        muted: AtomicBool::new(false),
        incarnation,
        recorder,
        last_notes: Mutex::default(),
    });
    let (commands, queue) = mpsc::sync_channel(16);
    (Media { shared: shared.clone(), commands }, Plane::new(shared, queue, datagrams, midi))
}

impl Running {
    /// Ends the thread.
    pub fn stop(self) {
        self.media.shared.stopping.store(true, Ordering::Relaxed);
        let _ = self.thread.join();
    }
}

impl Media {
    /// A device is open: send what it captures from now on. Members given a source from now on have it in an
    /// engine of this rate. The SSRC must be one that was not used before.
    pub fn set_capture(&self, capture: Capture) {
        self.shared.engine_rate_hz.store(capture.rate_hz, Ordering::Relaxed);
        if self.commands.try_send(Command::Capture(Box::new(capture))).is_err() {
            tracing::error!("the media thread does not take the new device; restart the node");
        }
    }

    /// What the open device captures is sent as another stream from now on. The SSRC must be one that was not used before.
    pub fn change_stream(&self, info: StreamInfo) {
        if self.commands.try_send(Command::Stream(info)).is_err() {
            tracing::error!("the media thread does not take the new stream; restart the node");
        }
    }

    /// The instrument that plays this player's own MIDI.
    pub fn set_local_instrument(&self, writer: MidiWriter) {
        if self.commands.try_send(Command::LocalInstrument(writer)).is_err() {
            tracing::error!("the media thread does not take the instrument; restart the node");
        }
    }

    /// Begins media with a member that announced `theirs`, while we send `ours`. It is taken to be on another timebase
    /// until [`Self::set_time_shared`] says otherwise.
    pub fn add_peer(
        &self,
        peer: PeerId,
        theirs: StreamInfo,
        ours: StreamInfo,
        writer: SourceWriter,
        instrument: Option<MidiWriter>,
    ) {
        let clock = Clock::new(self.shared.incarnation);
        let mut incoming = Incoming::new(theirs, writer, instrument, self.engine_rate_hz(), clock);
        incoming.record(Recording::new(&self.shared.recorder, peer), self.shared.incarnation);
        let entry = Arc::new(Peer::new(peer, ours, incoming));
        lock(&self.shared.peers).insert(peer, entry);
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
            let rate_hz = self.engine_rate_hz();
            entry.rewire(|incoming| incoming.change_stream(theirs, writer, instrument, rate_hz));
        }
    }

    /// The engine was rebuilt: the member's audio and notes go to new sources.
    pub fn refit_peer(&self, peer: &PeerId, writer: SourceWriter, instrument: Option<MidiWriter>) {
        if let Some(entry) = self.peer(peer) {
            let rate_hz = self.engine_rate_hz();
            entry.rewire(|incoming| incoming.refit(writer, instrument, rate_hz));
        }
    }

    /// Ends media with a member; every note it holds is released.
    pub fn remove_peer(&self, peer: &PeerId) {
        let Some(entry) = lock(&self.shared.peers).remove(peer) else { return };
        let at = self.shared.moment(now(), &entry);
        let notes = entry.with_incoming(|incoming| {
            incoming.release(at);
            incoming.take_due_midi()
        });
        lock(&self.shared.last_notes).extend(notes);
        self.shared.generation.fetch_add(1, Ordering::Release);
    }

    /// Session time minus host time, ns. Call when it may have changed, some ten times a second.
    pub fn set_session_offset(&self, offset_ns: i64) {
        let before_ns = self.shared.session_offset_ns.swap(offset_ns, Ordering::Release);
        if offset_ns.abs_diff(before_ns) > STEP_NS {
            self.shared.offset_steps.fetch_add(1, Ordering::Release);
        }
    }

    /// Whether `peer` keeps the same timebase as this node. Until it does, nothing that it says about session time is
    /// believed. Call whenever it may have changed, from one thread.
    pub fn set_time_shared(&self, peer: &PeerId, shared: bool) {
        let Some(entry) = self.peer(peer) else { return };
        let is_shared = !entry.time_epoch.load(Ordering::Relaxed).is_multiple_of(2);
        if is_shared != shared {
            entry.time_epoch.fetch_add(1, Ordering::Release);
        }
    }

    /// Whether `peer` understands a stereo stream of which one channel is sent; taken for false until it is said. While any
    /// member does not, all are sent both.
    pub fn set_takes_reduced(&self, peer: &PeerId, takes: bool) {
        if let Some(entry) = self.peer(peer) {
            entry.takes_reduced.store(takes, Ordering::Relaxed);
        }
    }

    /// A datagram from an authenticated peer; called by the network thread. Those of peers that are no members are
    /// dropped. Returns a clock datagram to send at once, if one is due.
    #[must_use]
    pub fn handle_datagram(&self, peer: &PeerId, datagram: &Bytes) -> Option<Bytes> {
        let arrived = now();
        let mut routes = lock(&self.shared.routes);
        self.shared.follow_peers(&mut routes);
        let entry = routes.peers.get(peer)?;
        let at = self.shared.moment(arrived, entry);
        entry.heard.store(true, Ordering::Relaxed);
        entry.with_incoming(|incoming| {
            entry.note_reports(&incoming.handle_datagram(at, datagram));
            incoming.poll_clock(now())
        })
    }

    /// The clock of `peer` minus ours, ns, once measured.
    pub fn clock_offset_ns(&self, peer: &PeerId) -> Option<i64> {
        let entry = self.peer(peer)?;
        let clock = lock(&entry.report).clock;
        clock.map(|estimate| estimate.offset_ns)
    }

    /// What was known about the media of `peer` at the last measurement, some twenty times a second.
    pub fn report(&self, peer: &PeerId) -> Option<IncomingReport> {
        let entry = self.peer(peer)?;
        let report = lock(&entry.report).clone();
        Some(report)
    }

    /// Level of what comes from `peer`, before strip and monitor gain.
    pub fn meter(&self, peer: &PeerId) -> Option<Meter> {
        let entry = self.peer(peer)?;
        let meter = lock(&entry.source).meter();
        Some(meter)
    }

    /// Whether this player's notes stay at home. Notes that sound at the others are ended.
    pub fn set_muted(&self, muted: bool) {
        self.shared.muted.store(muted, Ordering::Relaxed);
    }

    /// Media datagrams sent since the start.
    pub fn sent_packets(&self) -> u64 {
        self.shared.sent_packets.load(Ordering::Relaxed)
    }

    fn engine_rate_hz(&self) -> u32 {
        self.shared.engine_rate_hz.load(Ordering::Relaxed)
    }

    fn peer(&self, peer: &PeerId) -> Option<Arc<Peer>> {
        lock(&self.shared.peers).get(peer).cloned()
    }
}

impl Shared {
    fn session_at(&self, now: LocalTime) -> SessionTime {
        let offset = self.session_offset_ns.load(Ordering::Acquire);
        SessionTime::from_nanos((now.as_nanos() as i64).saturating_add(offset))
    }

    fn moment(&self, now: LocalTime, peer: &Peer) -> Moment {
        let epoch = peer.time_epoch.load(Ordering::Acquire);
        // Read before the offset: a new offset may then be seen as of the old stretch, which is forgotten at the next
        // look, and never an old offset as of the new one.
        let steps = self.offset_steps.load(Ordering::Acquire);
        let common = (!epoch.is_multiple_of(2)).then_some((epoch, steps));
        Moment { local: now, session: self.session_at(now), common }
    }

    /// Brings a copy of the members' table up to date. If somebody else holds the table just now, the next call does it.
    /// Returns whether there was something new.
    fn follow_peers(&self, routes: &mut Routes) -> bool {
        let generation = self.generation.load(Ordering::Acquire);
        if generation == routes.generation {
            return false;
        }
        let Some(peers) = try_lock(&self.peers) else { return false };
        routes.peers.clone_from(&peers);
        routes.generation = generation;
        true
    }
}

impl Peer {
    fn new(id: PeerId, ours: StreamInfo, incoming: Incoming) -> Self {
        Self {
            id,
            ours,
            midi_ssrc: rand::random(),
            incoming_due_ns: AtomicU64::new(0),
            time_epoch: AtomicU64::new(0),
            takes_reduced: AtomicBool::new(false),
            heard: AtomicBool::new(false),
            midi_acknowledged: AtomicU64::new(0),
            source: Mutex::new(incoming.source().clone()),
            report: Mutex::new(incoming.report(now())),
            incoming: Mutex::new(incoming),
        }
    }

    fn with_incoming<T>(&self, work: impl FnOnce(&mut Incoming) -> T) -> T {
        let mut incoming = lock(&self.incoming);
        let result = work(&mut incoming);
        self.incoming_due_ns.store(incoming.poll_deadline().as_nanos(), Ordering::Relaxed);
        result
    }

    /// Changes where the member's sound goes.
    fn rewire(&self, change: impl FnOnce(&mut Incoming)) {
        let (source, report) = self.with_incoming(|incoming| {
            change(incoming);
            (incoming.source().clone(), incoming.report(now()))
        });
        *lock(&self.source) = source;
        *lock(&self.report) = report;
    }

    /// Leaves a report for pages. One that is being read just now stays; the next comes soon.
    fn show(&self, report: IncomingReport) {
        if let Some(mut shown) = try_lock(&self.report) {
            *shown = report;
        }
    }

    /// Keeps what the media thread should know of how our streams arrive.
    fn note_reports(&self, blocks: &[ReportBlock]) {
        if let Some(block) = blocks.iter().find(|block| block.ssrc == self.midi_ssrc) {
            self.midi_acknowledged.store(1 << 32 | u64::from(block.highest_sequence), Ordering::Relaxed);
        }
    }

    /// What [`Self::note_reports`] kept since the last call.
    fn take_midi_acknowledged(&self) -> Option<u32> {
        if self.midi_acknowledged.load(Ordering::Relaxed) == 0 {
            return None;
        }
        Some(self.midi_acknowledged.swap(0, Ordering::Relaxed) as u32)
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

fn now() -> LocalTime {
    LocalTime::from_nanos(monotonic_ns())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn try_lock<T>(mutex: &Mutex<T>) -> Option<MutexGuard<'_, T>> {
    match mutex.try_lock() {
        Ok(guard) => Some(guard),
        Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
        Err(TryLockError::WouldBlock) => None,
    }
}
