//! Audio that leaves the callback: to the packetiser and to recorders.
//!
//! A tap is a bounded queue of whole callbacks. When the reader is too slow the newest callback is dropped
//! and counted: what is queued stays continuous, and positions tell where the hole is.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rtrb::{Consumer, Producer, RingBuffer};

use crate::message::HostTime;

const QUEUE_BLOCKS: usize = 1_024;

/// One callback's worth of audio.
#[derive(Debug)]
pub struct Block<'a> {
    /// Frames the engine has processed before this block, since it was built. A hole in the positions is
    /// audio that was dropped because the reader was too slow.
    pub position_frames: u64,
    /// When the callback began.
    pub host_time: HostTime,
    /// Channels, interleaved.
    pub channels: usize,
    /// The samples.
    pub samples: &'a [f32],
}

/// The reading end of a tap.
#[derive(Debug)]
pub struct TapReader {
    headers: Consumer<Header>,
    samples: Consumer<f32>,
    channels: usize,
    scratch: Vec<f32>,
    shared: Arc<Shared>,
}

impl TapReader {
    /// The next block, oldest first; `None` when all is read.
    ///
    /// Thread-safe: no, one thread at a time. Realtime-safe: yes.
    pub fn next_block(&mut self) -> Option<Block<'_>> {
        let header = self.headers.pop().ok()?;
        let samples = self.scratch.get_mut(..header.frames * self.channels)?;
        self.samples.pop_entire_slice(samples).ok()?;
        Some(Block {
            position_frames: header.position_frames,
            host_time: header.host_time,
            channels: self.channels,
            samples,
        })
    }

    /// Frames dropped because the queue was full.
    #[must_use]
    pub fn lost_frames(&self) -> u64 {
        self.shared.lost_frames.load(Ordering::Relaxed)
    }
}

impl Drop for TapReader {
    fn drop(&mut self) {
        self.shared.open.store(false, Ordering::Relaxed);
    }
}

/// The callback's end of a tap.
#[derive(Debug)]
pub(crate) struct Tap {
    headers: Producer<Header>,
    samples: Producer<f32>,
    channels: usize,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    open: AtomicBool,
    lost_frames: AtomicU64,
}

#[derive(Clone, Copy, Debug)]
struct Header {
    position_frames: u64,
    host_time: HostTime,
    frames: usize,
}

/// Makes a tap that is closed until its reader is [`open`](TapReader::open)ed.
pub(crate) fn tap(channels: usize, max_period_frames: usize, queued_frames: usize) -> (Tap, TapReader) {
    let shared = Arc::new(Shared::default());
    let (header_producer, headers) = RingBuffer::new(QUEUE_BLOCKS);
    let (sample_producer, samples) = RingBuffer::new(queued_frames.max(2 * max_period_frames) * channels);
    let tap =
        Tap { headers: header_producer, samples: sample_producer, channels, shared: Arc::clone(&shared) };
    let scratch = vec![0.0; max_period_frames * channels];
    (tap, TapReader { headers, samples, channels, scratch, shared })
}

impl TapReader {
    pub(crate) fn open(self) -> Self {
        self.shared.open.store(true, Ordering::Relaxed);
        self
    }
}

impl Tap {
    pub(crate) fn write(&mut self, position_frames: u64, host_time: HostTime, samples: &[f32]) {
        if !self.shared.open.load(Ordering::Relaxed) {
            return;
        }
        let frames = samples.len() / self.channels.max(1);
        if self.headers.is_full() || self.samples.push_entire_slice(samples).is_err() {
            self.shared.lost_frames.fetch_add(frames as u64, Ordering::Relaxed);
            return;
        }
        // There is room: it was looked for above, and only this thread pushes.
        let _ = self.headers.push(Header { position_frames, host_time, frames });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slow_reader_loses_the_newest_and_can_tell() {
        let (mut tap, reader) = tap(2, 64, 256);
        let mut reader = reader.open();
        for k in 0..6u64 {
            tap.write(k * 64, HostTime(k), &[k as f32; 128]);
        }
        assert_eq!(reader.lost_frames(), 128);
        let mut positions = Vec::new();
        while let Some(block) = reader.next_block() {
            assert!(block.samples.iter().all(|s| *s == block.position_frames as f32 / 64.0));
            positions.push(block.position_frames);
        }
        assert_eq!(positions, [0, 64, 128, 192]);
        tap.write(9 * 64, HostTime(9), &[9.0; 128]);
        assert_eq!(reader.next_block().map(|b| b.position_frames), Some(576));
    }

    #[test]
    fn tap_without_a_reader_costs_nothing() {
        let (mut tap, reader) = tap(1, 64, 128);
        drop(reader.open());
        for _ in 0..10 {
            tap.write(0, HostTime(0), &[0.0; 64]);
        }
        assert_eq!(tap.shared.lost_frames.load(Ordering::Relaxed), 0);
    }
}
