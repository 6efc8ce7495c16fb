//! A remote stream: from timestamped blocks to frames in time.
//!
//! A network thread pushes decoded blocks with their timestamps, in whatever order they come
//! ([`SourceWriter`]). The callback drains them, decides how long to wait ([`playout`]), learns how far the
//! sender's sound card is off ([`drift`]), reads at the playhead ([`buffer`], [`interpolate`]) and makes up
//! what is missing ([`conceal`]).
//!
//! What becomes of a block:
//! - *on time*: played; bit for bit if rates agree and no drift is measurable.
//! - *late*: its frames before the playhead are counted and not played, unless the delay grows enough in the
//!   same callback.
//! - *reordered*: sorted by timestamp. *Duplicate*: counted, first copy kept.
//! - *wrapped*: timestamps come extended to 64 bits, so there is no wrap here.
//! - *jumped* (far from the playhead): believed when a second callback continues it; then playing starts over
//!   there.
//! - *silent*: after 60 ms of made-up sound there is silence; after 250 ms the source has stopped, and when
//!   blocks come again playing starts over with the least delay.

mod buffer;
mod calm;
mod conceal;
mod drift;
mod interpolate;
mod playout;
mod stream;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use rtrb::{Consumer, Producer, RingBuffer};
use thiserror::Error;

use crate::message::HostTime;
use crate::stats::{PlayoutPoint, SourceStats};
pub(crate) use interpolate::Interpolator;
pub(crate) use stream::{Callback, SourceStream, StreamEvent};

/// Largest block [`SourceWriter::push`] takes, in frames.
pub const MAX_BLOCK_FRAMES: usize = 5_760;
const QUEUE_BLOCKS: usize = 1_024;

/// How a source is to be played.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SourceConfig {
    /// Nominal rate of the stream, 8,000 to 192,000 Hz.
    pub rate_hz: u32,
    /// 1 or 2, interleaved.
    pub channels: usize,
    /// Extra delay to begin with, in frames of the stream. With the default of 0 a stream starts at the least
    /// delay there is and grows when it must, under the fade-in.
    pub start_delay_frames: u32,
    /// Share of blocks that may come too late, 0 to 0.015. Less means fewer concealments and more latency.
    pub loss_target: f32,
    /// Largest delay, in frames of the stream; more lateness than this is loss. At most a third of a second.
    pub max_delay_frames: u32,
}

impl SourceConfig {
    /// The least delay, 0.5 % loss target, at most 300 ms.
    #[must_use]
    pub fn new(rate_hz: u32, channels: usize) -> Self {
        Self {
            rate_hz,
            channels,
            start_delay_frames: 0,
            loss_target: 0.005,
            max_delay_frames: (u64::from(rate_hz) * 3 / 10) as u32,
        }
    }
}

/// Why a source cannot be made.
#[derive(Debug, Error, PartialEq)]
pub enum SourceError {
    /// The rate is out of range.
    #[error("a stream at {0} Hz cannot be played: use a rate from 8000 to 192000 Hz")]
    Rate(u32),
    /// Neither mono nor stereo.
    #[error("a stream of {0} channels cannot be played: send 1 or 2 channels")]
    Channels(usize),
    /// The loss target is out of range.
    #[error("loss target {0} is out of range: use 0 to 0.015")]
    LossTarget(f32),
}

/// Why a block was not taken.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum PushError {
    /// The callback does not keep up or has stopped; the block is counted as dropped. Go on with the next.
    #[error("the source's queue is full because the audio callback is not running; the block was dropped")]
    Full,
    /// Not a whole number of frames, or empty, or longer than [`MAX_BLOCK_FRAMES`].
    #[error(
        "a block of {samples} samples is not 1 to {MAX_BLOCK_FRAMES} whole frames of {channels} channels"
    )]
    BadBlock {
        /// Length of the block.
        samples: usize,
        /// Channels of the source.
        channels: usize,
    },
}

/// The network thread's end of a source.
#[derive(Debug)]
pub struct SourceWriter {
    headers: Producer<BlockHeader>,
    samples: Producer<f32>,
    channels: usize,
    stats: Arc<SourceStats>,
    tag: u64,
}

impl SourceWriter {
    /// Gives it a name by which a recorder knows it; 0 until then.
    pub fn set_tag(&mut self, tag: u64) {
        self.tag = tag;
    }

    /// The name it was given.
    #[must_use]
    pub fn tag(&self) -> u64 {
        self.tag
    }

    /// Hands over a block: interleaved `samples` whose first frame has `timestamp_frames` (the extended RTP
    /// timestamp), and when its packet came in. Any order is fine. Never blocks.
    ///
    /// Thread-safe: no, one thread at a time. Realtime-safe: yes.
    ///
    /// # Errors
    /// [`PushError::Full`] when half a second waits already, [`PushError::BadBlock`] for a block of no use.
    pub fn push(
        &mut self,
        timestamp_frames: i64,
        arrival: HostTime,
        samples: &[f32],
    ) -> Result<(), PushError> {
        let frames = samples.len() / self.channels;
        if frames == 0 || frames > MAX_BLOCK_FRAMES || !samples.len().is_multiple_of(self.channels) {
            return Err(PushError::BadBlock { samples: samples.len(), channels: self.channels });
        }
        if self.headers.is_full() || self.samples.push_entire_slice(samples).is_err() {
            SourceStats::count(&self.stats.dropped_frames, frames);
            return Err(PushError::Full);
        }
        // The samples are in before the header tells of them; there is room, as only this thread pushes.
        let header = BlockHeader { timestamp_frames, arrival, frames };
        self.headers.push(header).map_err(|_| PushError::Full)
    }

    /// The source's statistics.
    #[must_use]
    pub fn stats(&self) -> &Arc<SourceStats> {
        &self.stats
    }
}

/// The audio thread's end of a source; goes to the engine with [`Command::AddSource`].
///
/// [`Command::AddSource`]: crate::Command::AddSource
#[derive(Debug)]
pub struct Source(pub(crate) Box<SourceStream>);

#[derive(Clone, Copy, Debug)]
pub(crate) struct BlockHeader {
    pub(crate) timestamp_frames: i64,
    pub(crate) arrival: HostTime,
    pub(crate) frames: usize,
}

pub(crate) struct BlockQueue {
    pub(crate) headers: Consumer<BlockHeader>,
    pub(crate) samples: Consumer<f32>,
}

/// The other end of a source's queue, emptied by hand instead of by an engine: what was pushed can be looked at and held
/// back.
pub struct BlockReader {
    queue: BlockQueue,
    block: Vec<f32>,
    channels: usize,
    stats: Arc<SourceStats>,
}

impl std::fmt::Debug for BlockReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BlockReader").field("channels", &self.channels).finish_non_exhaustive()
    }
}

impl BlockReader {
    /// The next block, oldest first: its timestamp in frames, the arrival of its packet, its interleaved samples.
    pub fn next_block(&mut self) -> Option<(i64, HostTime, &[f32])> {
        let header = self.queue.headers.pop().ok()?;
        let block = self.block.get_mut(..header.frames * self.channels)?;
        self.queue.samples.pop_entire_slice(block).ok()?;
        Some((header.timestamp_frames, header.arrival, block))
    }

    /// Shows at the writer's end what an engine would: the average wait in frames, and what is playing.
    pub fn show(&self, delay_frames: f32, playout: Option<PlayoutPoint>) {
        self.stats.delay_frames.store(delay_frames.to_bits(), std::sync::atomic::Ordering::Relaxed);
        let PlayoutPoint { timestamp_frames, host_time } =
            playout.unwrap_or(PlayoutPoint { timestamp_frames: 0, host_time: HostTime::default() });
        self.stats.set_playout(timestamp_frames, host_time);
    }
}

/// Makes a source's queue without an engine behind it. Allocates.
///
/// # Errors
/// [`SourceError`] when the configuration is out of range.
pub fn block_queue(config: SourceConfig) -> Result<(SourceWriter, BlockReader), SourceError> {
    let (writer, queue) = queue(&config)?;
    let block = vec![0.0; MAX_BLOCK_FRAMES * config.channels];
    let stats = Arc::clone(&writer.stats);
    Ok((writer, BlockReader { queue, block, channels: config.channels, stats }))
}

/// Makes the two ends of a source for an engine at `engine_rate_hz`. Allocates.
pub(crate) fn source(
    config: SourceConfig,
    engine_rate_hz: u32,
    max_period_frames: usize,
) -> Result<(SourceWriter, Source), SourceError> {
    let (writer, queue) = queue(&config)?;
    let stats = Arc::clone(&writer.stats);
    let stream = SourceStream::new(config, engine_rate_hz, max_period_frames, queue, stats);
    Ok((writer, Source(Box::new(stream))))
}

fn queue(config: &SourceConfig) -> Result<(SourceWriter, BlockQueue), SourceError> {
    if !(8_000..=192_000).contains(&config.rate_hz) {
        return Err(SourceError::Rate(config.rate_hz));
    }
    if !(1..=2).contains(&config.channels) {
        return Err(SourceError::Channels(config.channels));
    }
    if !(0.0..=0.015).contains(&config.loss_target) {
        return Err(SourceError::LossTarget(config.loss_target));
    }
    let stats = Arc::new(SourceStats::default());
    let queued_frames = (config.rate_hz as usize / 2).max(2 * MAX_BLOCK_FRAMES);
    let (header_producer, headers) = RingBuffer::new(QUEUE_BLOCKS);
    let (sample_producer, samples) = RingBuffer::new(queued_frames * config.channels);
    let writer = SourceWriter {
        headers: header_producer,
        samples: sample_producer,
        channels: config.channels,
        stats,
        tag: 0,
    };
    Ok((writer, BlockQueue { headers, samples }))
}
