//! Which channels of a card with two inputs are worth sending.
//!
//! Most players plug one microphone into a card that has two inputs, and a second channel of silence costs as much as one of
//! music. So a channel that adds nothing for a while is left out, and is back with the very block in which it adds something:
//! each packet says what it carries, so nothing has to be agreed on, and no sample waits.
//!
//! What is left out is not heard, and where the rest is heard does not change: a microphone in the first input stays on the
//! left, where it is as long as the second one sounds too. Heard in the middle it would jump to the left when somebody plugs a
//! cable into the other input.
//!
//! *Silent* is a matter of level, since an open input of a real card is never exactly zero: with a moderate gain it hisses at
//! -90 to -110 dB of full scale, and only with the gain at its end above -80. A peak below [`SILENT`] lies under the hiss of
//! the microphone beside it, and where it stops and begins again the step is no larger than itself: there is no onset to lose
//! and no click to hear. Whoever chose 24 bits wants what is below that too; for them only what 24 bits write as zero is
//! silent. *The same* is exact, as it comes from a mono device behind a stereo driver.
//!
//! The wait before a channel is left out ([`HOLD`]) keeps the end of a long decay whole, and the bit rate calm. Before the
//! first block a channel counts as silent for long: whoever has one microphone never sends two channels.

use std::time::Duration;

use transport::rtp::Layout;

use crate::{codec::Codec, session::message::StreamInfo};

/// Peak under which a channel is silent: -80 dB of full scale, three steps of 16 bits.
const SILENT: f32 = 1e-4;
/// The same where 24 bits are sent: half of their step.
const SILENT_24: f32 = 1.0 / 16_777_216.0;
/// How long a channel has added nothing before it is left out. A piano's last string is below -80 dB by then.
const HOLD: Duration = Duration::from_secs(10);

/// Decides, block by block, which channels of one stream are sent.
#[derive(Debug)]
pub struct Channels {
    silent: f32,
    hold_frames: u64,
    /// Frames since something was heard on the left, on the right, and since the two differed.
    left_frames: u64,
    right_frames: u64,
    same_frames: u64,
    chosen: Layout,
}

impl Channels {
    /// For the stream that `info` announces, of which nothing was captured yet.
    pub fn new(info: &StreamInfo) -> Self {
        let hold_frames = HOLD.as_secs() * u64::from(info.rate_hz);
        Self {
            silent: if info.codec == Codec::Pcm24 { SILENT_24 } else { SILENT },
            hold_frames,
            left_frames: hold_frames,
            right_frames: hold_frames,
            same_frames: hold_frames,
            chosen: Layout::Same,
        }
    }

    /// What is to be sent of the next block, given interleaved in stereo.
    pub fn choose(&mut self, block: &[f32]) -> Layout {
        let (mut left, mut right, mut differs) = (0.0f32, 0.0f32, false);
        let (frames, _) = block.as_chunks::<2>();
        for [l, r] in frames {
            left = left.max(l.abs());
            right = right.max(r.abs());
            differs |= l != r;
        }
        let passed =
            |since: u64, ended: bool| if ended { 0 } else { since.saturating_add(frames.len() as u64) };
        self.left_frames = passed(self.left_frames, left >= self.silent);
        self.right_frames = passed(self.right_frames, right >= self.silent);
        self.same_frames = passed(self.same_frames, differs);
        // What is sent now stays as long as it will do.
        let order = [self.chosen, Layout::Same, Layout::Left, Layout::Right];
        self.chosen = order.into_iter().find(|layout| self.will_do(*layout)).unwrap_or(Layout::All);
        self.chosen
    }

    fn will_do(&self, layout: Layout) -> bool {
        let long = |frames: u64| frames >= self.hold_frames;
        match layout {
            Layout::All => false,
            Layout::Same => long(self.same_frames),
            Layout::Left => long(self.right_frames),
            Layout::Right => long(self.left_frames),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE_HZ: u32 = 48_000;
    const FRAMES: usize = 128;

    fn channels(codec: Codec) -> Channels {
        Channels::new(&StreamInfo { ssrc: 1, codec, rate_hz: RATE_HZ, channels: 2, packet_frames: 128 })
    }

    /// A block of these peaks: all zeros but for one frame in the middle.
    fn block(left: f32, right: f32) -> Vec<f32> {
        let mut samples = vec![0.0; 2 * FRAMES];
        samples[FRAMES..FRAMES + 2].copy_from_slice(&[left, -right]);
        samples
    }

    /// What is chosen for the last of the blocks of `seconds`.
    fn after(channels: &mut Channels, seconds: f64, left: f32, right: f32) -> Layout {
        let blocks = (seconds * f64::from(RATE_HZ)) as usize / FRAMES;
        (0..blocks).map(|_| channels.choose(&block(left, right))).last().unwrap()
    }

    #[test]
    fn one_microphone_is_one_channel_from_its_first_block() {
        assert_eq!(channels(Codec::Pcm16).choose(&block(0.5, 0.0)), Layout::Left);
        assert_eq!(channels(Codec::Pcm16).choose(&block(0.0, 0.5)), Layout::Right);
        assert_eq!(channels(Codec::Pcm16).choose(&[0.25; 256]), Layout::Same);
        assert_eq!(channels(Codec::Pcm16).choose(&[0.0; 256]), Layout::Same);
        assert_eq!(channels(Codec::Pcm16).choose(&block(0.5, 0.2)), Layout::All);
    }

    #[test]
    fn second_channel_is_back_at_once_and_goes_after_ten_seconds() {
        let mut channels = channels(Codec::Pcm16);
        assert_eq!(after(&mut channels, 1.0, 0.5, 0.0), Layout::Left);
        // A single sample is enough.
        assert_eq!(channels.choose(&block(0.5, SILENT)), Layout::All);
        assert_eq!(after(&mut channels, 9.9, 0.5, 0.0), Layout::All);
        assert_eq!(after(&mut channels, 0.2, 0.5, 0.0), Layout::Left);
    }

    #[test]
    fn channels_that_are_equal_for_long_become_one_until_a_bit_differs() {
        let mut channels = channels(Codec::Pcm16);
        assert_eq!(channels.choose(&block(0.5, 0.4)), Layout::All);
        let equal = vec![0.3; 2 * FRAMES];
        let blocks = 11 * RATE_HZ as usize / FRAMES;
        assert_eq!((0..blocks).map(|_| channels.choose(&equal)).last(), Some(Layout::Same));
        let mut unequal = equal.clone();
        unequal[2 * FRAMES - 1] = 0.3f32.next_up();
        assert_eq!(channels.choose(&unequal), Layout::All);
    }

    #[test]
    fn hiss_of_an_open_input_is_silence_unless_24_bits_are_wanted() {
        for (codec, layout) in
            [(Codec::Pcm16, Layout::Left), (Codec::Opus, Layout::Left), (Codec::Pcm24, Layout::All)]
        {
            assert_eq!(after(&mut channels(codec), 11.0, 0.5, 0.000_06), layout, "{codec}");
            assert_eq!(after(&mut channels(codec), 11.0, 0.5, 0.000_11), Layout::All, "{codec}");
        }
        assert_eq!(after(&mut channels(Codec::Pcm24), 11.0, 0.5, 0.0), Layout::Left);
    }

    #[test]
    fn pause_of_the_one_who_plays_changes_nothing() {
        let mut channels = channels(Codec::Pcm16);
        assert_eq!(after(&mut channels, 1.0, 0.0, 0.5), Layout::Right);
        assert_eq!(after(&mut channels, 30.0, 0.0, 0.0), Layout::Right);
        assert_eq!(after(&mut channels, 1.0, 0.0, 0.5), Layout::Right);
        // And who plugs over into the other input is one channel all the time.
        assert_eq!(after(&mut channels, 30.0, 0.0, 0.0), Layout::Right);
        assert_eq!(channels.choose(&block(0.5, 0.0)), Layout::Left);
    }
}
