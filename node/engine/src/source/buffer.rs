//! The frames of one stream, by timestamp.
//!
//! Packets come late, twice, or in the wrong order; a buffer that is addressed by timestamp does not care. It
//! remembers which frames have come, keeps some of the past (a late packet may still be wanted when the delay
//! grows), and forgets what the playhead has left behind.

use crate::gain::scrubbed;

/// A ring of frames addressed by timestamp, with one bit for each frame that has come.
#[derive(Debug)]
pub(crate) struct FrameBuffer {
    /// One ring per channel, silent wherever no frame has come.
    channels: Vec<Vec<f32>>,
    present: Vec<u64>,
    mask: usize,
    /// Oldest timestamp still held.
    start: i64,
}

/// What became of a block.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Written {
    pub(crate) new: usize,
    pub(crate) duplicate: usize,
    /// Outside the window: too old, or too far ahead.
    pub(crate) outside: usize,
}

impl FrameBuffer {
    /// Holds at least `frames`.
    pub(crate) fn new(channels: usize, frames: usize) -> Self {
        let capacity = frames.next_power_of_two().max(64);
        Self {
            channels: (0..channels).map(|_| touched(capacity)).collect(),
            present: vec![0; capacity / 64],
            mask: capacity - 1,
            start: 0,
        }
    }

    pub(crate) fn capacity(&self) -> usize {
        self.mask + 1
    }

    /// Empties the buffer and moves its start to `start`. Costs as much as there is in it: a member's first block must not
    /// cost the callback a whole ring.
    pub(crate) fn reset(&mut self, start: i64) {
        for (n, word) in self.present.iter_mut().enumerate() {
            if std::mem::take(word) != 0 {
                for channel in &mut self.channels {
                    if let Some(frames) = channel.get_mut(n * 64..(n + 1) * 64) {
                        frames.fill(0.0);
                    }
                }
            }
        }
        self.start = start;
    }

    /// Writes interleaved frames that begin at `timestamp`; what is not finite becomes silence.
    pub(crate) fn write(&mut self, timestamp: i64, samples: &[f32]) -> Written {
        let mut written = Written::default();
        let width = self.channels.len().max(1);
        let end = self.start.saturating_add(self.capacity() as i64);
        for (n, frame) in samples.chunks_exact(width).enumerate() {
            let at = timestamp.saturating_add(n as i64);
            if at < self.start || at >= end {
                written.outside += 1;
                continue;
            }
            let index = (at as usize) & self.mask;
            let bit = 1u64 << (index & 63);
            let Some(word) = self.present.get_mut(index >> 6) else { continue };
            if *word & bit != 0 {
                written.duplicate += 1;
                continue;
            }
            *word |= bit;
            written.new += 1;
            for (channel, &sample) in self.channels.iter_mut().zip(frame) {
                if let Some(slot) = channel.get_mut(index) {
                    *slot = scrubbed(sample);
                }
            }
        }
        written
    }

    /// How many frames from `timestamp` on have come without a gap, at most `limit`.
    pub(crate) fn present_run(&self, timestamp: i64, limit: usize) -> usize {
        self.run(timestamp, limit, true)
    }

    /// How many frames from `timestamp` on are missing, at most `limit`.
    pub(crate) fn missing_run(&self, timestamp: i64, limit: usize) -> usize {
        self.run(timestamp, limit, false)
    }

    /// Copies the frames of one channel from `timestamp` on into `out`; what has not come is silence.
    pub(crate) fn read(&self, channel: usize, timestamp: i64, out: &mut [f32]) {
        let Some(ring) = self.channels.get(channel) else {
            out.fill(0.0);
            return;
        };
        let begin = (timestamp as usize) & self.mask;
        let first = out.len().min(self.capacity() - begin);
        let (head, tail) = out.split_at_mut(first);
        if let Some(from) = ring.get(begin..begin + first) {
            head.copy_from_slice(from);
        }
        if let Some(from) = ring.get(..tail.len()) {
            tail.copy_from_slice(from);
        }
    }

    /// Forgets all frames before `start`.
    pub(crate) fn discard_before(&mut self, start: i64) {
        if start <= self.start {
            return;
        }
        if start - self.start >= self.capacity() as i64 {
            self.reset(start);
            return;
        }
        let count = (start - self.start) as usize;
        for n in 0..count {
            let index = ((self.start + n as i64) as usize) & self.mask;
            if let Some(word) = self.present.get_mut(index >> 6) {
                *word &= !(1 << (index & 63));
            }
            for channel in &mut self.channels {
                if let Some(slot) = channel.get_mut(index) {
                    *slot = 0.0;
                }
            }
        }
        self.start = start;
    }

    fn run(&self, timestamp: i64, limit: usize, wanted: bool) -> usize {
        let end = self.start + self.capacity() as i64;
        if timestamp < self.start || timestamp >= end {
            return if wanted { 0 } else { limit };
        }
        let held = limit.min((end - timestamp) as usize);
        let mut count = 0;
        while count < held {
            let index = ((timestamp + count as i64) as usize) & self.mask;
            let word = self.present.get(index >> 6).copied().unwrap_or(0);
            let shifted = if wanted { !word } else { word } >> (index & 63);
            let room = 64 - (index & 63);
            let run = (shifted.trailing_zeros() as usize).min(room);
            count += run;
            if run < room {
                break;
            }
        }
        if wanted || count < held { count.min(held) } else { limit }
    }
}

/// Silence in memory that is there. What the system only promises, it hands out a page at a time at the first touch, which
/// would be the callback's.
fn touched(frames: usize) -> Vec<f32> {
    const PAGE_FRAMES: usize = 4_096 / size_of::<f32>();
    let mut ring = vec![0.0; frames];
    for frame in ring.iter_mut().step_by(PAGE_FRAMES) {
        *frame = std::hint::black_box(0.0);
    }
    ring
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pages this thread has been given at their first touch.
    #[allow(unsafe_code, reason = "no safe function asks this")]
    fn page_faults() -> i64 {
        // SAFETY: all zeros are a valid `rusage`, which the call only fills.
        unsafe {
            let mut usage = std::mem::zeroed();
            libc::getrusage(libc::RUSAGE_THREAD, &mut usage);
            usage.ru_minflt
        }
    }

    #[test]
    fn first_blocks_find_their_memory_there() {
        let mut buffer = FrameBuffer::new(2, 192_000);
        let samples = vec![0.5; 2 * 128];
        buffer.write(0, &samples);
        let before = page_faults();
        for block in 1..1_500 {
            buffer.write(block * 128, &samples);
        }
        assert!(page_faults() - before < 20, "{} pages", page_faults() - before);
    }

    #[test]
    fn nothing_is_left_after_a_reset() {
        let mut buffer = FrameBuffer::new(2, 1_024);
        for block in [0, 100, 200, 500, 700] {
            buffer.write(block, &[0.5; 100]);
        }
        buffer.discard_before(120);
        buffer.reset(5_000);
        let mut out = [1.0; 1_024];
        for channel in 0..2 {
            buffer.read(channel, 5_000, &mut out);
            assert!(out.iter().all(|sample| *sample == 0.0));
        }
        assert_eq!(buffer.missing_run(5_000, 1_024), 1_024);
    }

    fn block(from: usize, frames: usize) -> Vec<f32> {
        (from..from + frames).map(|n| n as f32 / 1e4).collect()
    }

    #[test]
    fn blocks_in_any_order_read_back_in_time() {
        let mut buffer = FrameBuffer::new(1, 1024);
        buffer.write(128, &block(128, 64));
        buffer.write(0, &block(0, 64));
        assert_eq!((buffer.present_run(0, 1000), buffer.missing_run(64, 1000)), (64, 64));
        buffer.write(64, &block(64, 64));
        assert_eq!(buffer.present_run(0, 1000), 192);
        let mut out = [0.0; 192];
        buffer.read(0, 0, &mut out);
        assert_eq!(out.as_slice(), block(0, 192));
    }

    #[test]
    fn second_copy_changes_nothing_and_is_counted() {
        let mut buffer = FrameBuffer::new(1, 1024);
        buffer.write(0, &[0.5; 64]);
        assert_eq!(buffer.write(32, &[0.9; 64]), Written { new: 32, duplicate: 32, outside: 0 });
        let mut out = [0.0; 64];
        buffer.read(0, 0, &mut out);
        assert_eq!(out, [0.5; 64]);
    }

    #[test]
    fn what_the_playhead_left_behind_is_gone() {
        let mut buffer = FrameBuffer::new(2, 64);
        buffer.write(0, &[0.5; 128]);
        buffer.discard_before(40);
        assert_eq!(buffer.present_run(40, 100), 24);
        assert_eq!(buffer.write(0, &[0.1; 80]).outside, 40);
        assert_eq!(buffer.write(64, &[0.1; 160]), Written { new: 40, duplicate: 0, outside: 40 });
        buffer.discard_before(1 << 40);
        assert_eq!(buffer.present_run(1 << 40, 64), 0);
    }

    #[test]
    fn not_a_number_becomes_silence() {
        let mut buffer = FrameBuffer::new(1, 64);
        buffer.write(0, &[f32::NAN, f32::INFINITY, -1e30, 0.25]);
        let mut out = [1.0; 4];
        buffer.read(0, 0, &mut out);
        assert_eq!(out, [0.0, 0.0, -16.0, 0.25]);
    }

    proptest::proptest! {
        #[test]
        fn runs_agree_with_a_plain_list(
            blocks in proptest::collection::vec((-100i64..400, 0usize..100), 0..12),
            at in -50i64..400,
        ) {
            let mut buffer = FrameBuffer::new(1, 256);
            let mut model = [false; 256];
            for (timestamp, frames) in blocks {
                buffer.write(timestamp, &vec![0.1; frames]);
                for t in timestamp..timestamp + frames as i64 {
                    if let Some(slot) = usize::try_from(t).ok().and_then(|t| model.get_mut(t)) {
                        *slot = true;
                    }
                }
            }
            let have = |t: i64| usize::try_from(t).ok().and_then(|t| model.get(t)).copied().unwrap_or(false);
            let present = (0..300).take_while(|n| have(at + n)).count();
            let missing = (0..300).take_while(|n| !have(at + n)).count();
            proptest::prop_assert_eq!(buffer.present_run(at, 300), present);
            if at >= 0 {
                proptest::prop_assert_eq!(buffer.missing_run(at, 300), missing);
            }
        }
    }
}
