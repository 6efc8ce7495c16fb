//! When and how well a known noise arrived in a recording.
//!
//! Both are cut in blocks of 100 ms of what was sent. Cross-correlation finds each in the recording: the first by
//! looking everywhere, the others near where their neighbour was. Then every 2.5 ms window is fitted by
//! least squares with what was sent there, over three taps so that gain and a shift by part of a frame
//! (a resampler's) cost nothing. From window to window the lag is followed by a few frames, as a jitter buffer
//! changes its delay by playing a little fast or slow: that is heard as no loss, and is counted as none. A
//! window is lost if less than half the usual level of what was sent is in it.
//! Other sound in the recording does not disturb that: it is not correlated with the noise.

use super::to_ms;
use rustfft::FftPlanner;
use rustfft::num_complex::Complex;
use std::fmt;

/// Frames of what was sent that are looked for at once.
const BLOCK: usize = 4_800;
/// How far, in frames, one block's lag may be from its neighbour's: 50 ms, more than any jitter buffer jumps.
const NEAR: usize = 2_400;
/// A block counts as found from this share of perfect correlation. Unrelated noise reaches 0.02 (one over the
/// square root of the block's length); one player among eight equally loud gives 0.35.
const FOUND: f32 = 0.2;
/// While nothing has been found, only every so many blocks are looked for everywhere.
const SEARCH_STRIDE: usize = 4;
/// Frames of a window in which sound is there or lost.
const WINDOW: usize = 120;
/// By how much sound may be played fast or slow while a delay changes. Over a block that is more than a frame, and
/// noise shifted by a frame is another noise, so a block is also looked for as it sounds then.
const STRETCHES: [f64; 2] = [1.0 + 1.0 / 512.0, 1.0 - 1.0 / 512.0];
/// How far, in frames, one window's lag may be from the one before: 0.8 %, a seventh of a semitone.
const BEND: isize = 1;
/// A window is followed if what was sent explains this share of its energy. Chance explains three taps' share of
/// 120 frames, 2.5 %; one player among eight equally loud 12.5 %.
const FOLLOWED: f64 = 0.1;
/// Lost windows closer than this, in frames, are one gap: to an ear they are, and a window of other players'
/// noise may look like what was sent by chance.
const ONE_GAP: usize = 240;

/// How a sent signal arrived in a recording.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// Recording frame minus sent frame: smallest, median and largest over all blocks found.
    pub lag_frames: [f64; 3],
    /// The first and last sent frame between which the rest was judged: of the first and last window that arrived.
    pub span_frames: [usize; 2],
    /// Share of windows in that span whose content was lost, from 0 to 1.
    pub lost_ratio: f64,
    /// The stretches of lost windows, in order.
    pub gaps: Vec<Gap>,
    /// Median over the windows of what fits against what does not; noise of other players counts as the latter.
    pub snr_db: f64,
}

/// A stretch that did not arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// First lost frame of what was sent.
    pub at_frame: usize,
    /// Its length; good to a window.
    pub frames: usize,
}

impl Delivery {
    /// The longest gap in milliseconds, 0 without gaps.
    pub fn longest_gap_ms(&self) -> f64 {
        to_ms(self.gaps.iter().map(|gap| gap.frames).max().unwrap_or(0) as f64)
    }

    /// The median lag in milliseconds.
    pub fn lag_ms(&self) -> f64 {
        to_ms(self.lag_frames[1])
    }
}

impl fmt::Display for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [min, median, max] = self.lag_frames.map(to_ms);
        let heard_s = to_ms((self.span_frames[1] - self.span_frames[0]) as f64) / 1e3;
        let longest = self.gaps.iter().max_by_key(|gap| gap.frames);
        let at_s = longest.map_or(0.0, |gap| to_ms((gap.at_frame - self.span_frames[0]) as f64) / 1e3);
        write!(
            f,
            "{heard_s:.1} s heard, lag {median:.2} ms ({min:.2} to {max:.2}), lost {:.2} % in {} gaps, \
             longest {:.1} ms after {at_s:.2} s, SNR {:.0} dB",
            self.lost_ratio * 100.0,
            self.gaps.len(),
            self.longest_gap_ms(),
            self.snr_db
        )
    }
}

/// Looks for `sent` in `heard`, both at the same rate; `None` if no block of it is there.
pub fn compare(sent: &[f32], heard: &[f32]) -> Option<Delivery> {
    let blocks = sent.len() / BLOCK;
    let search = Search::new(heard);
    let anchor =
        (0..blocks).step_by(SEARCH_STRIDE).find_map(|i| Some((i, search.anywhere(block(sent, i))?)))?;
    let mut lags: Vec<Option<isize>> = vec![None; blocks];
    lags[anchor.0] = Some(anchor.1 - start(anchor.0));
    track(&mut lags, anchor.0..blocks, sent, heard);
    track(&mut lags, (0..=anchor.0).rev(), sent, heard);
    let first = lags.iter().position(Option::is_some)?;
    let last = lags.iter().rposition(Option::is_some)?;
    Some(summary(&lags, &windows(sent, heard, &lags, first, last)))
}

/// Follows the lag from a block where it is known through `order`, from neighbour to neighbour.
fn track(lags: &mut [Option<isize>], order: impl Iterator<Item = usize>, sent: &[f32], heard: &[f32]) {
    let mut near = None;
    for i in order {
        if let (None, Some(lag)) = (lags[i], near) {
            lags[i] = find_near(block(sent, i), heard, start(i) + lag).map(|at| at - start(i));
        }
        near = lags[i].or(near);
    }
}

fn block(sent: &[f32], i: usize) -> &[f32] {
    &sent[i * BLOCK..(i + 1) * BLOCK]
}

fn start(i: usize) -> isize {
    (i * BLOCK).cast_signed()
}

/// Where in `heard` the block is, if within `NEAR` frames of `expected`.
fn find_near(block: &[f32], heard: &[f32], expected: isize) -> Option<isize> {
    let from = usize::try_from(expected - NEAR.cast_signed()).unwrap_or(0);
    let to = usize::try_from(expected + (BLOCK + NEAR).cast_signed()).unwrap_or(0).min(heard.len());
    let search = Search::new(heard.get(from..to)?);
    let at = search.anywhere(block).or_else(|| search.stretched(block))?;
    Some(from.cast_signed() + at)
}

/// Cross-correlation with one recording, whose spectrum is kept.
struct Search<'a> {
    heard: &'a [f32],
    spectrum: Vec<Complex<f32>>,
}

impl<'a> Search<'a> {
    fn new(heard: &'a [f32]) -> Self {
        let size = (heard.len() + BLOCK).next_power_of_two();
        let spectrum = transformed(heard, size);
        Self { heard, spectrum }
    }

    /// The frame of the recording at which the block fits best, if well enough.
    fn anywhere(&self, block: &[f32]) -> Option<isize> {
        if self.heard.len() < block.len() {
            return None;
        }
        let size = self.spectrum.len();
        let mut product = transformed(block, size);
        for (p, h) in product.iter_mut().zip(&self.spectrum) {
            *p = h * p.conj();
        }
        FftPlanner::new().plan_fft_inverse(size).process(&mut product);
        let last = self.heard.len() - block.len();
        let (best, peak) = product[..=last]
            .iter()
            .map(|c| c.re.abs() / size as f32)
            .enumerate()
            .max_by(|a, b| a.1.total_cmp(&b.1))?;
        let scale = (energy(block) * energy(&self.heard[best..best + block.len()])).sqrt();
        (peak > FOUND * scale && scale > 1e-9).then_some(best.cast_signed())
    }
}

impl Search<'_> {
    /// The same for a block that was played a little fast or slow.
    fn stretched(&self, block: &[f32]) -> Option<isize> {
        STRETCHES.iter().find_map(|stretch| self.anywhere(&played_at(*stretch, block)))
    }
}

/// `block` as it sounds when played at `speed`, by straight lines between its samples.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "positions are small and positive"
)]
fn played_at(speed: f64, block: &[f32]) -> Vec<f32> {
    let sample = |at: usize| block.get(at).copied().unwrap_or(0.0);
    let between = |at: f64| {
        let (whole, part) = (at.floor() as usize, at.fract() as f32);
        sample(whole) * (1.0 - part) + sample(whole + 1) * part
    };
    (0..block.len()).map(|i| between(i as f64 * speed)).collect()
}

fn transformed(samples: &[f32], size: usize) -> Vec<Complex<f32>> {
    let mut buffer: Vec<Complex<f32>> = samples.iter().map(|&s| Complex::new(s, 0.0)).collect();
    buffer.resize(size, Complex::default());
    FftPlanner::new().plan_fft_forward(size).process(&mut buffer);
    buffer
}

fn energy(samples: &[f32]) -> f32 {
    samples.iter().map(|s| s * s).sum()
}

/// One window of what was sent and what of it was found.
struct Window {
    at_frame: usize,
    /// Energy in the recording that what was sent explains, over what was sent.
    explained: f64,
    /// The rest, over what was sent.
    rest: f64,
}

fn windows(sent: &[f32], heard: &[f32], lags: &[Option<isize>], first: usize, last: usize) -> Vec<Window> {
    let mut windows = Vec::new();
    let mut followed: Option<isize> = None;
    for i in first..=last {
        // A buffer may have moved within the block: its neighbours' lags are as likely.
        let known: Vec<isize> =
            lags[i.saturating_sub(1)..(i + 2).min(lags.len())].iter().copied().flatten().collect();
        for at_frame in (i * BLOCK..(i + 1) * BLOCK).step_by(WINDOW) {
            let near = followed.into_iter().flat_map(|lag| lag - BEND..=lag + BEND);
            let mut candidates: Vec<isize> = known.iter().copied().chain(near).collect();
            candidates.sort_unstable();
            candidates.dedup();
            let fits = candidates.iter().filter_map(|lag| Some((*lag, fit(sent, heard, at_frame, *lag)?)));
            let best = fits.max_by(|a, b| a.1.0.total_cmp(&b.1.0));
            let (explained, rest) = best.map_or((0.0, 0.0), |(_, fit)| fit);
            if explained > FOLLOWED * (explained + rest) {
                followed = best.map(|(lag, _)| lag);
            }
            windows.push(Window { at_frame, explained, rest });
        }
    }
    windows
}

/// Explained and remaining energy of the recording's window, both over the energy of what was sent there.
fn fit(sent: &[f32], heard: &[f32], at_frame: usize, lag: isize) -> Option<(f64, f64)> {
    let to = at_frame.checked_add_signed(lag)?;
    let y = heard.get(to..(to + WINDOW).min(heard.len()))?;
    let tap = |shift: usize| {
        sent.get((at_frame + shift).checked_sub(1)?..(at_frame + shift + y.len()).checked_sub(1)?)
    };
    let (before, centre, after) = (tap(0).or(tap(1))?, tap(1)?, tap(2).or(tap(1))?);
    // Gram-Schmidt: the energy explained by three columns is the sum over an orthogonal set of them.
    let mut basis: Vec<Vec<f64>> = Vec::new();
    let mut explained = 0.0;
    for column in [centre, before, after] {
        let mut q: Vec<f64> = column.iter().map(|&v| f64::from(v)).collect();
        let whole = dot(&q, &q);
        for earlier in &basis {
            let share = dot(&q, earlier) / dot(earlier, earlier);
            q.iter_mut().zip(earlier).for_each(|(a, b)| *a -= share * b);
        }
        let own = dot(&q, &q);
        if own > whole * 1e-6 {
            let shared: f64 = q.iter().zip(y).map(|(a, b)| a * f64::from(*b)).sum();
            explained += shared * shared / own;
            basis.push(q);
        }
    }
    let source = f64::from(energy(centre)).max(1e-12);
    Some((explained / source, (f64::from(energy(y)) - explained).max(0.0) / source))
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

fn summary(lags: &[Option<isize>], windows: &[Window]) -> Delivery {
    let usual = median(windows.iter().map(|w| w.explained).collect());
    // Half the level is a quarter of the energy.
    let is_lost = |window: &Window| window.explained < usual / 4.0;
    // Of the first and last block only a part may have been played while the other was there to hear it.
    let first = windows.iter().position(|w| !is_lost(w)).unwrap_or(0);
    let last = windows.iter().rposition(|w| !is_lost(w)).unwrap_or(0);
    let windows = &windows[first..=last];
    let span_frames = [windows[0].at_frame, windows[windows.len() - 1].at_frame + WINDOW];
    let mut gaps: Vec<Gap> = Vec::new();
    let mut lost = 0;
    for window in windows.iter().filter(|w| is_lost(w)) {
        lost += 1;
        match gaps.last_mut() {
            Some(gap) if window.at_frame <= gap.at_frame + gap.frames + ONE_GAP => {
                gap.frames = window.at_frame + WINDOW - gap.at_frame;
            }
            _ => gaps.push(Gap { at_frame: window.at_frame, frames: WINDOW }),
        }
    }
    let snr = windows.iter().map(|w| 10.0 * (w.explained.max(1e-12) / w.rest.max(1e-12)).log10()).collect();
    let mut sorted: Vec<f64> = lags.iter().flatten().map(|lag| *lag as f64).collect();
    sorted.sort_by(f64::total_cmp);
    Delivery {
        lag_frames: [sorted[0], sorted[sorted.len() / 2], sorted[sorted.len() - 1]],
        span_frames,
        lost_ratio: f64::from(lost) / windows.len() as f64,
        gaps,
        snr_db: median(snr),
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::{frames, noise};

    /// What arrives when frame `i` of the recording is `path(i, sent)`.
    fn through(path: impl Fn(usize, &[f32]) -> f32) -> Delivery {
        let sent = noise(1, 4.0);
        let heard: Vec<f32> = (0..sent.len() + 9_600).map(|i| path(i, &sent)).collect();
        compare(&sent, &heard).expect("the signal is there")
    }

    fn sample(sent: &[f32], at: usize, lag: usize) -> f32 {
        at.checked_sub(lag).and_then(|i| sent.get(i)).copied().unwrap_or(0.0)
    }

    #[test]
    fn pure_delay_and_gain_are_exact_and_lose_nothing() {
        let delivery = through(|i, sent| -0.3 * sample(sent, i, 777));
        assert_eq!(delivery.lag_frames, [777.0; 3]);
        assert_eq!((delivery.lost_ratio, delivery.gaps.len()), (0.0, 0), "{delivery}");
        assert!(delivery.snr_db > 60.0, "{delivery}");
    }

    #[test]
    fn a_recording_that_began_later_has_negative_lag() {
        let sent = noise(2, 4.0);
        let delivery = compare(&sent, &sent[frames(1.5)..]).unwrap();
        assert_eq!(delivery.lag_frames, [-(frames(1.5) as f64); 3]);
        assert_eq!(delivery.lost_ratio, 0.0, "{delivery}");
    }

    #[test]
    fn each_silenced_stretch_is_a_gap_of_its_length() {
        let silent = |i: usize| (50_000..51_280).contains(&i) || (100_000..100_256).contains(&i);
        let delivery = through(|i, sent| if silent(i) { 0.0 } else { sample(sent, i, 480) });
        assert_eq!(delivery.gaps.len(), 2, "{delivery}");
        assert!(delivery.gaps[0].at_frame.abs_diff(50_000 - 480) <= WINDOW, "{:?}", delivery.gaps);
        assert!(delivery.gaps[0].frames.abs_diff(1_280) <= WINDOW, "{:?}", delivery.gaps);
    }

    #[test]
    fn sound_that_was_repeated_instead_of_delivered_is_lost() {
        let delivery = through(|i, sent| sample(sent, i, if (i / 240) % 20 == 3 { 480 } else { 240 }));
        assert!((0.02..0.06).contains(&delivery.lost_ratio), "{delivery}");
    }

    #[test]
    fn a_jump_of_the_buffer_is_a_new_lag_and_a_gap_of_what_it_skipped() {
        let delivery = through(|i, sent| sample(sent, i, if i < 100_000 { 960 } else { 480 }));
        assert_eq!([delivery.lag_frames[0], delivery.lag_frames[2]], [480.0, 960.0]);
        assert_eq!(delivery.gaps.len(), 1, "{delivery}");
        assert!(delivery.gaps[0].frames.abs_diff(480) <= WINDOW, "{:?}", delivery.gaps);
    }

    #[test]
    fn a_delay_that_shrinks_by_playing_a_little_fast_loses_nothing() {
        // 0.2 % fast for 2.5 s, between whole frames by interpolation.
        let delivery = through(|i, sent| {
            let lag = 960.0 - (i.saturating_sub(40_000).min(120_000) as f32) / 500.0;
            let (whole, part) = (lag.floor() as usize, lag.fract());
            sample(sent, i, whole) * (1.0 - part) + sample(sent, i, whole + 1) * part
        });
        assert_eq!([delivery.lag_frames[0], delivery.lag_frames[2]], [720.0, 960.0]);
        assert_eq!(delivery.lost_ratio, 0.0, "{delivery}");
    }

    #[test]
    fn a_recording_that_ends_while_the_delay_shrinks_is_heard_to_its_end() {
        let delivery = through(|i, sent| {
            let lag = 960.0 - (i.saturating_sub(60_000) as f32) / 512.0;
            let (whole, part) = (lag.floor() as usize, lag.fract());
            sample(sent, i, whole) * (1.0 - part) + sample(sent, i, whole + 1) * part
        });
        assert!(delivery.span_frames[1] > frames(4.0) - 2 * BLOCK, "{delivery}, {:?}", delivery.span_frames);
        assert!(delivery.lost_ratio < 0.001, "{delivery}");
    }

    #[test]
    fn four_other_players_do_not_hide_one_nor_the_gap_in_it() {
        let others: Vec<Vec<f32>> = (10..14).map(|seed| noise(seed, 5.0)).collect();
        let delivery = through(|i, sent| {
            let own = if (90_000..91_920).contains(&i) { 0.0 } else { sample(sent, i, 300) };
            own + others.iter().map(|o| o[i]).sum::<f32>()
        });
        assert_eq!(delivery.lag_frames, [300.0; 3]);
        let long: Vec<&Gap> = delivery.gaps.iter().filter(|gap| gap.frames > 960).collect();
        assert_eq!(long.len(), 1, "{delivery} {:?}", delivery.gaps);
        assert!(long[0].at_frame.abs_diff(90_000 - 300) <= 3 * WINDOW, "{long:?}");
    }

    #[test]
    fn unrelated_sound_and_silence_are_not_taken_for_it() {
        let sent = noise(3, 1.0);
        assert!(compare(&sent, &noise(4, 2.0)).is_none());
        assert!(compare(&sent, &vec![0.0; frames(2.0)]).is_none());
        assert!(compare(&sent, &[]).is_none());
    }
}
