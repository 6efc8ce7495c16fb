//! What each callback took in and what it decided, for a recorder.
//!
//! The same engine fed the same commands and blocks in the same callbacks decides the same and gives the same
//! samples, bit for bit. What a callback found in its queues depends on threads, so only the callback can say it:
//! here it does, beside its decisions, into a preallocated queue. An engine built without
//! [`Config::trace`](crate::Config::trace) has no queue, and this costs it one comparison.
//!
//! When the queue is full, the trace ends: callbacks after a hole could not be understood.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rtrb::{Consumer, Producer, RingBuffer};

use crate::message::{HostTime, SourceId};

/// Entries the queue holds: a second of sixty sources at a period of 64 frames.
const QUEUE_ENTRIES: usize = 1 << 16;

/// One period as the engine ran it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CallbackTrace {
    /// Frames the engine had processed before.
    pub position_frames: u64,
    /// When it began.
    pub host_time: HostTime,
    /// Frames of the period.
    pub frames: u32,
    /// Commands it took.
    pub commands: u32,
    /// [`hash`] of the input samples.
    pub input_hash: u64,
}

/// What one source took and decided in one period.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SourceTrace {
    /// Whose.
    pub source: SourceId,
    /// Blocks it took from its queue.
    pub blocks: u32,
    /// The source's timestamp at the first frame put out, whole part; `None` while it is stopped.
    pub timestamp_frames: Option<i64>,
    /// The fraction to it, 0 to 1.
    pub fraction: f64,
    /// Frames put out that were made up.
    pub concealed_frames: u32,
    /// Where the playhead is kept against the source's clock, in its frames: the smaller, the longer blocks wait.
    pub offset_frames: f64,
    /// Average wait of a block, in frames of the source.
    pub delay_frames: f64,
    /// Correction for the sender's sound card, ppm.
    pub drift_ppm: f64,
    /// [`hash`] of the samples put out.
    pub hash: u64,
}

/// The reading end.
#[derive(Debug)]
pub struct TraceReader {
    entries: Consumer<Entry>,
    lost: Arc<AtomicU64>,
}

#[derive(Clone, Copy, Debug)]
enum Entry {
    /// Comes before the callback that it belongs to.
    Source(SourceTrace),
    Callback(CallbackTrace),
}

impl TraceReader {
    /// The next period, oldest first; its sources, in the order of mixing, replace what is in `sources`.
    ///
    /// Thread-safe: no, one thread at a time. Realtime-safe: no.
    pub fn next_callback(&mut self, sources: &mut Vec<SourceTrace>) -> Option<CallbackTrace> {
        // A period is written in one go but not at once: leave one that is still being written.
        let chunk = self.entries.read_chunk(self.entries.slots()).ok()?;
        let (first, second) = chunk.as_slices();
        let mut length = 0;
        let mut found = None;
        sources.clear();
        for entry in first.iter().chain(second) {
            length += 1;
            match entry {
                Entry::Source(source) => sources.push(*source),
                Entry::Callback(callback) => {
                    found = Some(*callback);
                    break;
                }
            }
        }
        if found.is_some() {
            chunk.commit(length);
        }
        found
    }

    /// Whether the engine is gone and everything is read.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.entries.is_abandoned() && self.entries.is_empty()
    }

    /// Periods that found no room. The trace ends where this stopped being 0.
    #[must_use]
    pub fn lost_callbacks(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}

/// The callback's end.
#[derive(Debug)]
pub(crate) struct Trace {
    entries: Producer<Entry>,
    lost: Arc<AtomicU64>,
    ended: bool,
}

pub(crate) fn trace() -> (Trace, TraceReader) {
    let lost = Arc::new(AtomicU64::new(0));
    let (producer, entries) = RingBuffer::new(QUEUE_ENTRIES);
    (Trace { entries: producer, lost: Arc::clone(&lost), ended: false }, TraceReader { entries, lost })
}

impl Trace {
    /// Makes sure that there is room for a period of up to `sources` sources.
    pub(crate) fn begin(&mut self, sources: usize) {
        self.ended = self.ended || self.entries.slots() <= sources;
        if self.ended {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn source(&mut self, source: SourceTrace) {
        self.write(Entry::Source(source));
    }

    pub(crate) fn callback(&mut self, callback: CallbackTrace) {
        self.write(Entry::Callback(callback));
    }

    fn write(&mut self, entry: Entry) {
        if !self.ended {
            // There is room: `begin` looked, and only this thread pushes.
            let _ = self.entries.push(entry);
        }
    }
}

/// FNV-1a over the bits of `samples`, taken as words of 32 bits, from `state` on.
#[must_use]
pub fn hash_on(state: u64, samples: &[f32]) -> u64 {
    samples
        .iter()
        .fold(state, |hash, sample| (hash ^ u64::from(sample.to_bits())).wrapping_mul(0x0100_0000_01b3))
}

/// FNV-1a over the bits of `samples`, taken as words of 32 bits.
#[must_use]
pub fn hash(samples: &[f32]) -> u64 {
    hash_on(0xcbf2_9ce4_8422_2325, samples)
}
