//! A trace: everything that crosses the node's edges, in a file from which its decisions can be made again.
//!
//! `bandmesh up --trace FILE` writes one; `bandmesh-sim replay FILE` runs the same cores on it; Wireshark shows the
//! packets. What is in the file, and what is not, says `FORMAT.md` beside this one.
//!
//! Whoever has something to record holds a [`Recorder`]. Without a trace it is empty, and asking it costs a comparison.
//! With one, a record goes into a bounded queue and a thread of its own writes it; the audio callback has a queue of its
//! own in the engine, which the same thread empties.
//!
//! Calls of one core are recorded where the core is locked, so that they stand in the file in the order in which they were
//! made. Between cores the order is not exact, and need not be.
//!
//! | bound | value | when reached |
//! |---|---|---|
//! | queue | 16,384 records, 64 MiB | the trace ends with a gap record: beyond a hole nothing could be understood |
//! | callback's queue | 65,536 entries | the same |
//! | file | `--trace-limit-mb` | the trace ends; the beginning is kept, for a replay has to begin there |

mod address;
pub mod pcapng;
mod reader;
pub mod record;
#[cfg(test)]
mod tests;
mod writer;

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
        mpsc::{self, Receiver, SyncSender, TrySendError},
    },
    thread::JoinHandle,
};

use bytes::Bytes;
use engine::TraceReader;
use transport::PeerId;

use self::record::{Item, PacketCall, PacketNote, Record, Start, Way};

pub use reader::Reader;

/// Size limit of a trace when none is given, MB (10^6 octets): some forty minutes of a duo at 48 kHz and 16 bit.
pub const DEFAULT_LIMIT_MB: u64 = 1_000;
/// Records that may wait for the writer.
const MAX_QUEUED: usize = 16_384;
/// Octets of packets that may wait for the writer.
const MAX_QUEUED_BYTES: usize = 64 << 20;

/// Why there is no trace.
#[derive(Debug, thiserror::Error)]
#[error("the trace cannot be written to {}: {error}; choose another file with --trace", path.display())]
pub struct OpenError {
    path: PathBuf,
    error: io::Error,
}

/// What an in-memory [`Recorder`] took.
pub struct Memory {
    inner: Arc<Inner>,
    messages: Receiver<Message>,
}

/// How a trace is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The file; one that exists is replaced.
    pub file: PathBuf,
    /// Its size limit, octets.
    pub limit_bytes: u64,
}

/// Takes records. Cheap to clone; the default one takes nothing.
#[derive(Clone, Default)]
pub struct Recorder(Option<Arc<Inner>>);

/// The thread that writes.
pub struct Running {
    inner: Arc<Inner>,
    thread: Option<JoinHandle<()>>,
}

struct Inner {
    queue: SyncSender<Message>,
    /// Cleared when nothing more is taken.
    open: AtomicBool,
    /// Set when all that records has ended.
    complete: AtomicBool,
    /// Set when a record was lost; none is taken after it.
    gap: AtomicBool,
    lost: AtomicU64,
    queued_bytes: AtomicUsize,
}

/// What goes to the writer.
enum Message {
    Item(Item),
    /// An engine's own queue.
    Engine(u32, TraceReader),
}

/// Begins a trace.
///
/// # Errors
/// [`OpenError`] when the file or the thread cannot be had.
pub fn start(settings: &Settings, start: Start) -> Result<(Recorder, Running), OpenError> {
    let refused = |error| OpenError { path: settings.file.clone(), error };
    let file = create(&settings.file).map_err(refused)?;
    let (inner, messages) = inner();
    let mut writer =
        writer::Writer::begin(file, settings.limit_bytes, start, inner.clone(), messages).map_err(refused)?;
    let thread =
        std::thread::Builder::new().name("trace".into()).spawn(move || writer.run()).map_err(refused)?;
    Ok((Recorder(Some(inner.clone())), Running { inner, thread: Some(thread) }))
}

fn inner() -> (Arc<Inner>, Receiver<Message>) {
    let (queue, messages) = mpsc::sync_channel(MAX_QUEUED);
    let inner = Inner {
        queue,
        open: AtomicBool::new(true),
        complete: AtomicBool::new(false),
        gap: AtomicBool::new(false),
        lost: AtomicU64::new(0),
        queued_bytes: AtomicUsize::new(0),
    };
    (Arc::new(inner), messages)
}

/// Others on this machine have no business in what was said and played.
fn create(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

impl Running {
    /// Writes what waits and ends the file. Call when everything that records has ended.
    pub fn stop(mut self) {
        self.inner.complete.store(true, Ordering::Release);
        self.inner.open.store(false, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // A panic there has been logged; there is nothing to add.
            let _ = thread.join();
        }
    }
}

impl Drop for Running {
    /// A node that does not end in time is left behind with whatever still runs: its trace has no end then, and nobody
    /// waits for it.
    fn drop(&mut self) {
        self.inner.open.store(false, Ordering::Release);
    }
}

impl Memory {
    /// The oldest record that was not taken yet. Take them often: the queue is as bounded as that to a file.
    pub fn take(&self) -> Option<Item> {
        loop {
            match self.messages.try_recv().ok()? {
                Message::Item(item) => {
                    if let Item::Packet(_, message) = &item {
                        self.inner.queued_bytes.fetch_sub(message.len(), Ordering::Relaxed);
                    }
                    return Some(item);
                }
                Message::Engine(..) => {}
            }
        }
    }
}

impl Recorder {
    /// One whose records are compared instead of written: for a replay, whose cores record like those of the node.
    pub fn in_memory() -> (Self, Memory) {
        let (inner, messages) = inner();
        (Self(Some(inner.clone())), Memory { inner, messages })
    }

    /// Whether there is a trace.
    pub fn is_on(&self) -> bool {
        self.0.as_ref().is_some_and(|inner| inner.open.load(Ordering::Relaxed))
    }

    /// Records what `make` makes; without a trace it is not called. Never waits.
    pub fn record(&self, make: impl FnOnce() -> Record) {
        if let Some(inner) = self.taking() {
            inner.send(Message::Item(Item::Record(make())), 0);
        }
    }

    /// Records a packet or message from `peer` that the core named in `call` took at `at_ns`.
    pub fn incoming(
        &self,
        at_ns: u64,
        peer: &PeerId,
        way: Way,
        message: &Bytes,
        call: impl FnOnce() -> Option<PacketCall>,
    ) {
        if let Some(inner) = self.taking() {
            let note = PacketNote { at_ns, peer: *peer, incoming: true, way, call: call() };
            inner.send(Message::Item(Item::Packet(note, message.clone())), message.len());
        }
    }

    /// Records a packet or message to `peer` that leaves at `at_ns`.
    pub fn outgoing(&self, at_ns: impl FnOnce() -> u64, peer: &PeerId, way: Way, message: &Bytes) {
        if let Some(inner) = self.taking() {
            let note = PacketNote { at_ns: at_ns(), peer: *peer, incoming: false, way, call: None };
            inner.send(Message::Item(Item::Packet(note, message.clone())), message.len());
        }
    }

    /// Records what the callbacks of engine number `engine` write down.
    pub fn engine(&self, engine: u32, reader: TraceReader) {
        if let Some(inner) = self.taking() {
            inner.send(Message::Engine(engine, reader), 0);
        }
    }

    fn taking(&self) -> Option<&Inner> {
        let inner = self.0.as_deref().filter(|inner| inner.open.load(Ordering::Relaxed))?;
        if inner.gap.load(Ordering::Relaxed) {
            inner.lost.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        Some(inner)
    }
}

impl Inner {
    fn send(&self, message: Message, bytes: usize) {
        if self.queued_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes > MAX_QUEUED_BYTES {
            self.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
            self.lose();
            return;
        }
        match self.queue.try_send(message) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => self.lose(),
            // The writer has ended, for a reason that it has said.
            Err(TrySendError::Disconnected(_)) => self.open.store(false, Ordering::Relaxed),
        }
    }

    fn lose(&self) {
        self.lost.fetch_add(1, Ordering::Relaxed);
        self.gap.store(true, Ordering::Release);
    }
}
