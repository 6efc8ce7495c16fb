//! One remote stream in the callback.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::buffer::FrameBuffer;
use super::conceal::Concealer;
use super::drift::{DriftEstimator, MAX_DRIFT};
use super::interpolate::{DRIFT_REACH, Interpolator};
use super::playout::{Aim, Move, Playout};
use super::{BlockHeader, BlockQueue, MAX_BLOCK_FRAMES, SourceConfig};
use crate::frame_clock::FrameClock;
use crate::gain::Ramp;
use crate::message::{HostTime, SourceId};
use crate::stats::SourceStats;
use crate::trace::{SourceTrace, hash, hash_on};

const FADE_IN_SECONDS: f64 = 0.02;
const STOPPED_AFTER_SECONDS: f64 = 0.25;
/// A measurement over the network says no better, and correcting what is not there would cost latency.
const MIN_TOLD_DRIFT: f64 = 20e-6;
/// Made-up sound goes on this long under the real one, so that there is no seam.
const SEAM_FRAMES: usize = 128;
/// Late blocks of one callback that are remembered to be counted once the delay is decided.
const LATE_BLOCKS: usize = 64;

/// What a callback brings.
pub(crate) struct Callback<'a> {
    pub(crate) clock: &'a FrameClock,
    pub(crate) host_time: HostTime,
    pub(crate) frames: usize,
    /// How many predictors may still be fitted in this callback.
    pub(crate) fits_left: &'a mut u32,
}

/// What the rest of the node should hear of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StreamEvent {
    Started,
    Stopped,
    Reset,
}

/// One remote stream: queue, buffer, playhead and all.
pub(crate) struct SourceStream {
    config: SourceConfig,
    stats: Arc<SourceStats>,
    queue: BlockQueue,
    block: Vec<f32>,
    buffer: FrameBuffer,
    playout: Playout,
    drift: DriftEstimator,
    interpolator: Interpolator,
    concealers: Vec<Concealer>,
    engine_rate_hz: f64,
    /// Frames of the stream per frame of output, by the nominal rates.
    ratio: f64,
    /// The sender's card against ours, as a fraction; `None` while it is not known to differ.
    correction: Option<f64>,
    told_correction: Option<f64>,
    state: State,
    /// Timestamp that counts as 0 inside.
    origin: i64,
    /// Frames a clock at the stream's own rate has counted since the origin: the playhead is this plus the
    /// offset.
    consumed: f64,
    /// Frames put out since the origin.
    put_out: f64,
    /// A timestamp far from the playhead, and the callback that saw it.
    stray: Option<(i64, u64)>,
    callbacks: u64,
    decided: Decided,
    idle_frames: usize,
    late: Vec<(i64, usize)>,
    stretched: f64,
    /// How much of this callback's output the concealers have seen.
    remembered: usize,
    concealing: bool,
    seam: Vec<Vec<f32>>,
    seam_at: usize,
    fade_in: Ramp,
    window: Vec<f32>,
    out: Vec<Vec<f32>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing has come, or nothing for a while.
    Stopped,
    /// The playhead is set, but no frame of it has been heard.
    Anchored,
    Playing,
}

/// What became of the latest callback.
#[derive(Clone, Copy, Debug, Default)]
struct Decided {
    blocks: u32,
    /// Timestamp and fraction of the first frame put out, unless stopped.
    playhead: Option<(i64, f64)>,
    concealed_frames: u32,
}

/// How the frames of one callback are read.
struct Reading {
    /// Timestamp of the frame at or before the playhead.
    head: i64,
    /// Frames of the stream per frame of output.
    step: f64,
    /// Reach of the kernel; 0 when the playhead is on a frame and moves by whole ones.
    reach: usize,
    /// A frame that has not come, for which the one before it is taken.
    stand_in: Option<i64>,
}

impl std::fmt::Debug for SourceStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SourceStream").field("config", &self.config).field("state", &self.state).finish()
    }
}

impl SourceStream {
    pub(super) fn new(
        config: SourceConfig,
        engine_rate_hz: u32,
        max_period_frames: usize,
        queue: BlockQueue,
        stats: Arc<SourceStats>,
    ) -> Self {
        let rate = f64::from(config.rate_hz);
        let ratio = rate / f64::from(engine_rate_hz);
        let buffer = FrameBuffer::new(config.channels, config.rate_hz as usize);
        let held_past = buffer.capacity() / 4;
        let interpolator = Interpolator::new(ratio);
        let window =
            (max_period_frames as f64 * ratio * 1.01) as usize + 2 * interpolator.longest_reach() + 8;
        Self {
            playout: Playout::new(Aim {
                loss_target: f64::from(config.loss_target),
                patience_frames: 1.5 * rate,
                skip_above_frames: 0.03 * rate,
                max_delay_frames: f64::from(config.max_delay_frames).min(held_past as f64),
                rate_hz: rate,
            }),
            buffer,
            drift: DriftEstimator::new(),
            interpolator,
            concealers: (0..config.channels).map(|_| Concealer::new(engine_rate_hz)).collect(),
            engine_rate_hz: f64::from(engine_rate_hz),
            ratio,
            correction: None,
            told_correction: None,
            state: State::Stopped,
            origin: 0,
            consumed: 0.0,
            put_out: 0.0,
            stray: None,
            callbacks: 0,
            decided: Decided::default(),
            idle_frames: 0,
            late: Vec::with_capacity(LATE_BLOCKS),
            stretched: 0.0,
            remembered: 0,
            concealing: false,
            seam: vec![vec![0.0; SEAM_FRAMES]; config.channels],
            seam_at: SEAM_FRAMES,
            fade_in: Ramp::resting_at(0.0),
            block: vec![0.0; MAX_BLOCK_FRAMES * config.channels],
            window: vec![0.0; window],
            out: vec![vec![0.0; max_period_frames]; config.channels],
            config,
            stats,
            queue,
        }
    }

    /// The frames of the latest callback, one slice per channel.
    pub(crate) fn output(&self, frames: usize) -> (&[f32], &[f32]) {
        let channel = |n: usize| self.out.get(n).and_then(|c| c.get(..frames)).unwrap_or(&[]);
        let left = channel(0);
        (left, if self.config.channels > 1 { channel(1) } else { left })
    }

    /// What it took and decided in the latest callback.
    pub(crate) fn trace(&self, source: SourceId, frames: usize) -> SourceTrace {
        let (left, right) = self.output(frames);
        let mut samples = hash(left);
        if self.config.channels > 1 {
            samples = hash_on(samples, right);
        }
        SourceTrace {
            source,
            blocks: self.decided.blocks,
            timestamp_frames: self.decided.playhead.map(|(whole, _)| whole),
            fraction: self.decided.playhead.map_or(0.0, |(_, fraction)| fraction),
            concealed_frames: self.decided.concealed_frames,
            offset_frames: self.playout.offset(),
            delay_frames: self.playout.mean_margin(),
            drift_ppm: self.correction.unwrap_or(0.0) * 1e6,
            hash: samples,
        }
    }

    /// The sender's rate as somebody else measured it, in Hz of our own card.
    pub(crate) fn set_measured_rate(&mut self, rate_hz: f64) {
        let drift = rate_hz / f64::from(self.config.rate_hz) - 1.0;
        if drift.abs() < MAX_DRIFT {
            self.told_correction = (drift.abs() > MIN_TOLD_DRIFT).then_some(drift);
        }
    }

    /// Renders the next frames; see [`output`](Self::output).
    pub(crate) fn process(&mut self, callback: &mut Callback<'_>) -> Option<StreamEvent> {
        self.callbacks += 1;
        self.decided = Decided::default();
        let mut event = self.drain(callback);
        self.follow_drift();

        let period = callback.frames as f64 * self.rate();
        let mut nudge = 0.0;
        if self.state != State::Stopped {
            let drifting = self.correction.is_some();
            match self.playout.handle_callback(period, self.guard(), drifting) {
                Move::Stay => {}
                Move::Nudge(frames) => {
                    nudge = frames;
                    self.count_stretched(frames);
                }
                Move::Jump(frames) => {
                    self.begin_seam(callback.fits_left);
                    self.count_stretched(frames);
                }
            }
        }
        // The nudge has moved the offset already, and is played within this callback.
        let playhead = self.consumed + self.playout.offset() - nudge;
        self.count_late(playhead);

        if self.state == State::Stopped {
            for channel in &mut self.out {
                channel.iter_mut().take(callback.frames).for_each(|s| *s = 0.0);
            }
        } else {
            self.decided.playhead =
                Some((self.origin.saturating_add(playhead.floor() as i64), playhead - playhead.floor()));
            let heard = self.render(playhead, self.rate() + nudge / callback.frames as f64, callback);
            if heard && self.state == State::Anchored {
                self.state = State::Playing;
                event = event.or(Some(StreamEvent::Started));
            }
            self.consumed += period;
            self.put_out += callback.frames as f64;
            let held_past = (self.buffer.capacity() / 4) as i64;
            self.buffer.discard_before((self.consumed + self.playout.offset()) as i64 - held_past);
            self.stats.set_playout(self.origin.saturating_add(playhead.floor() as i64), callback.host_time);
        }
        self.idle_frames += callback.frames;
        if self.state != State::Stopped
            && self.idle_frames as f64 > STOPPED_AFTER_SECONDS * self.engine_rate_hz
        {
            self.stop();
            event = event.or(Some(StreamEvent::Stopped));
        }
        self.publish(callback);
        event
    }

    /// Takes in all that has come since the last callback.
    fn drain(&mut self, callback: &mut Callback<'_>) -> Option<StreamEvent> {
        let mut event = None;
        let mut anchor: Option<f64> = None;
        let period = callback.frames as f64 * self.rate();
        while let Ok(header) = self.queue.headers.pop() {
            let length = header.frames * self.config.channels;
            let Some(block) = self.block.get_mut(..length) else { break };
            if self.queue.samples.pop_entire_slice(block).is_err() {
                break;
            }
            self.decided.blocks += 1;
            if self.state == State::Stopped && anchor.is_none() {
                self.start_over(header.timestamp_frames);
                anchor = Some(f64::NEG_INFINITY);
            } else if !self.is_near(&header) {
                if !self.believe_stray(&header) {
                    SourceStats::count(&self.stats.dropped_frames, header.frames);
                    continue;
                }
                self.begin_seam(callback.fits_left);
                self.start_over(header.timestamp_frames);
                SourceStats::count(&self.stats.buffer_resets, 1);
                anchor = Some(f64::NEG_INFINITY);
                event = Some(StreamEvent::Reset);
            }
            self.stray = None;
            self.idle_frames = 0;
            let timestamp = header.timestamp_frames.wrapping_sub(self.origin);
            self.take_block(timestamp, header.frames);
            let lead = timestamp as f64 - self.consumed - self.conversion_reach();
            if let Some(best) = anchor.as_mut() {
                // Play what came last, but no further than it reaches.
                *best = best.max(lead.min(lead + header.frames as f64 - period) - self.guard());
            } else {
                self.note_timing(&header, timestamp, lead, callback);
            }
        }
        if let Some(offset) = anchor {
            self.playout.anchor(offset.floor() - f64::from(self.config.start_delay_frames));
            self.state = State::Anchored;
            self.fade_in = Ramp::resting_at(0.0);
            self.fade_in.set(1.0, (FADE_IN_SECONDS * self.engine_rate_hz) as u32);
        }
        event
    }

    fn take_block(&mut self, timestamp: i64, frames: usize) {
        let samples = self.block.get(..frames * self.config.channels).unwrap_or(&[]);
        let written = self.buffer.write(timestamp, samples);
        SourceStats::count(&self.stats.received_frames, written.new);
        SourceStats::count(&self.stats.duplicate_frames, written.duplicate);
        SourceStats::count(&self.stats.dropped_frames, written.outside);
    }

    fn note_timing(&mut self, header: &BlockHeader, timestamp: i64, lead: f64, callback: &Callback<'_>) {
        // The callback in which a block is seen says when to the period; its arrival says when to the
        // microsecond.
        let since_callback = callback.clock.frames_from_callback(header.arrival).min(0.0);
        let arrival = (self.put_out + since_callback) / self.engine_rate_hz;
        let sent = timestamp as f64 / f64::from(self.config.rate_hz);
        self.drift.handle_block(arrival, sent);
        let reckoned = if self.correction.is_some() {
            // Under drift the moment of arrival wanders through the period, so plan for its worst.
            let seen_after = -since_callback * self.rate();
            lead + seen_after.min(callback.frames as f64 * self.rate()) - callback.frames as f64 * self.rate()
        } else {
            lead
        };
        self.playout.handle_block(lead, reckoned);
        let playhead = self.consumed + self.playout.offset();
        if (timestamp as f64) < playhead && self.late.len() < LATE_BLOCKS {
            self.late.push((timestamp, header.frames));
        }
    }

    fn count_stretched(&mut self, frames: f64) {
        self.stretched += frames.abs();
        let whole = self.stretched.floor();
        self.stretched -= whole;
        SourceStats::count(&self.stats.stretched_frames, whole as usize);
    }

    fn count_late(&mut self, playhead: f64) {
        let late: usize = self
            .late
            .drain(..)
            .map(|(timestamp, frames)| (playhead - timestamp as f64).max(0.0).min(frames as f64) as usize)
            .sum();
        SourceStats::count(&self.stats.late_frames, late);
    }

    fn is_near(&self, header: &BlockHeader) -> bool {
        let playhead = (self.consumed + self.playout.offset()) as i64;
        let ahead = header.timestamp_frames.wrapping_sub(self.origin).wrapping_sub(playhead);
        let capacity = self.buffer.capacity() as i64;
        (-capacity / 4..capacity / 2).contains(&ahead)
    }

    /// One stray block may be garbage; one that a later callback continues is a stream.
    fn believe_stray(&mut self, header: &BlockHeader) -> bool {
        if let Some((expected, seen_at)) = self.stray {
            let off = header.timestamp_frames.wrapping_sub(expected);
            if off.unsigned_abs() < u64::from(self.config.rate_hz / 4) {
                return seen_at != self.callbacks;
            }
        }
        let next = header.timestamp_frames.wrapping_add(header.frames as i64);
        self.stray = Some((next, self.callbacks));
        false
    }

    fn start_over(&mut self, timestamp: i64) {
        self.origin = timestamp;
        self.consumed = 0.0;
        self.put_out = 0.0;
        self.stray = None;
        self.late.clear();
        self.drift.reset();
        self.correction = self.told_correction;
        let held_past = (self.buffer.capacity() / 4) as i64;
        self.buffer.reset(-held_past);
        self.playout.anchor(0.0);
    }

    fn stop(&mut self) {
        self.state = State::Stopped;
        self.stats.set_playout(0, HostTime::default());
        self.concealing = false;
        self.seam_at = SEAM_FRAMES;
        for concealer in &mut self.concealers {
            concealer.forget();
        }
    }

    fn follow_drift(&mut self) {
        let now = self.drift.estimate().or(self.told_correction);
        if now.is_some() != self.correction.is_some() && self.state != State::Stopped {
            // Leads are reckoned differently from here on; and without correction the clock counts whole
            // frames.
            let whole = self.consumed.floor();
            self.playout.measure_anew(self.playout.offset() + (self.consumed - whole));
            self.consumed = whole;
        }
        self.correction = now;
    }

    fn rate(&self) -> f64 {
        self.ratio * (1.0 + self.correction.unwrap_or(0.0))
    }

    /// Frames beyond those played that must have come, or nothing can be read.
    fn conversion_reach(&self) -> f64 {
        if self.ratio == 1.0 { 0.0 } else { self.interpolator.longest_reach() as f64 }
    }

    /// Frames beyond those played that should have come: with fewer, drift is corrected by a shorter kernel.
    fn guard(&self) -> f64 {
        if self.ratio == 1.0 && self.correction.is_some() { DRIFT_REACH as f64 } else { 0.0 }
    }

    /// Fills the output from `playhead` on, moving `step` frames of the stream per frame of output. True when
    /// any of it is real.
    fn render(&mut self, playhead: f64, step: f64, callback: &mut Callback<'_>) -> bool {
        let frames = callback.frames;
        let head = playhead.floor() as i64;
        let fraction = playhead - playhead.floor();
        let exact = step == 1.0 && fraction == 0.0;
        let mut stand_in = None;
        let last = (fraction + (frames - 1) as f64 * step) as usize;
        let reach = if exact {
            0
        } else {
            let come = self.buffer.present_run(head + last as i64, self.interpolator.longest_reach() + 1);
            // With a hole at the end anyway, lose as little as can be before it.
            let reach = self.interpolator.kernel(come.saturating_sub(1)).map_or(0, |kernel| kernel.reach);
            if reach == 1 && come == 1 {
                // One frame short: the last one stands in for it, which is inaudible next to a hole.
                stand_in = Some(head + last as i64 + 1);
            }
            reach
        };
        let reach_come = reach - usize::from(stand_in.is_some());
        let reading = Reading { head, step, reach, stand_in };
        let mut heard = false;
        let mut at = 0;
        while at < frames {
            let behind = (fraction + at as f64 * step) as usize;
            let limit = last - behind + reach_come + 1;
            let run = self.buffer.present_run(head + behind as i64, limit);
            let until = if run > reach_come {
                // The first frame of output whose reach leaves the run.
                frames_before((behind + run - reach_come) as f64 - fraction, step)
            } else {
                let gap = self.buffer.missing_run(head + (behind + run) as i64, limit);
                frames_before((behind + run + gap) as f64 - fraction, step)
            };
            let until = if behind + run > last + reach_come { frames } else { until.clamp(at + 1, frames) };
            if run > reach_come {
                self.play(&reading, fraction + at as f64 * step, at..until);
                heard = true;
            } else {
                self.conceal(at..until, callback.fits_left);
            }
            at = until;
        }
        self.remember(frames);
        self.remembered = 0;
        self.apply_fade_in(frames);
        heard
    }

    /// Writes real frames to `range` of the output, from `position` frames after the reading's head.
    fn play(&mut self, reading: &Reading, position: f64, range: std::ops::Range<usize>) {
        let Reading { head, step, reach, stand_in } = *reading;
        if self.concealing {
            self.concealing = false;
            self.seam_at = 0;
            for (seam, concealer) in self.seam.iter_mut().zip(&mut self.concealers) {
                concealer.predict(seam);
            }
        }
        let count = range.len();
        let whole = position.floor();
        let start = head + whole as i64;
        for (n, channel) in self.out.iter_mut().enumerate() {
            let Some(out) = channel.get_mut(range.clone()) else { continue };
            if reach == 0 {
                self.buffer.read(n, start, out);
                continue;
            }
            let needed = ((position - whole) + count as f64 * step) as usize + 2 * reach + 1;
            let (Some(window), Some(kernel)) =
                (self.window.get_mut(..needed), self.interpolator.kernel(reach))
            else {
                out.fill(0.0);
                continue;
            };
            let first = start - (reach as i64 - 1);
            self.buffer.read(n, first, window);
            if let Some(at) = stand_in.and_then(|frame| usize::try_from(frame - first).ok())
                && let Some(&before) = at.checked_sub(1).and_then(|at| window.get(at))
                && let Some(missing) = window.get_mut(at)
            {
                *missing = before;
            }
            for (k, sample) in out.iter_mut().enumerate() {
                *sample = kernel.read(window, position - whole + k as f64 * step);
            }
        }
        let seam_at = self.seam_at;
        if seam_at < SEAM_FRAMES {
            for (channel, seam) in self.out.iter_mut().zip(&self.seam) {
                let old = seam.iter().enumerate().skip(seam_at);
                for (sample, (k, old)) in channel.iter_mut().skip(range.start).take(count).zip(old) {
                    let weight = (k + 1) as f32 / (SEAM_FRAMES + 1) as f32;
                    *sample = old + (*sample - old) * weight;
                }
            }
            self.seam_at = (seam_at + count).min(SEAM_FRAMES);
        }
    }

    fn conceal(&mut self, range: std::ops::Range<usize>, fits_left: &mut u32) {
        if self.state == State::Anchored && !self.concealing && self.seam_at >= SEAM_FRAMES {
            // Nothing was heard yet, so there is nothing to continue.
            for channel in &mut self.out {
                channel.iter_mut().skip(range.start).take(range.len()).for_each(|s| *s = 0.0);
            }
            return;
        }
        if !self.concealing {
            SourceStats::count(&self.stats.concealment_events, 1);
            self.remember(range.start);
            self.begin_prediction(fits_left);
            self.concealing = true;
            self.seam_at = SEAM_FRAMES;
        }
        SourceStats::count(&self.stats.concealed_frames, range.len());
        self.decided.concealed_frames += range.len() as u32;
        for (channel, concealer) in self.out.iter_mut().zip(&mut self.concealers) {
            if let Some(out) = channel.get_mut(range.clone()) {
                concealer.predict(out);
            }
        }
    }

    /// Makes the next real frames blend in from what would have followed those just heard.
    fn begin_seam(&mut self, fits_left: &mut u32) {
        if self.concealing || self.state != State::Playing {
            return;
        }
        self.begin_prediction(fits_left);
        self.concealing = true;
    }

    fn begin_prediction(&mut self, fits_left: &mut u32) {
        let fit = *fits_left >= self.config.channels as u32;
        if fit {
            *fits_left -= self.config.channels as u32;
        }
        for concealer in &mut self.concealers {
            concealer.begin(fit);
        }
    }

    /// Shows the concealers this callback's output up to `end`.
    fn remember(&mut self, end: usize) {
        for (channel, concealer) in self.out.iter().zip(&mut self.concealers) {
            concealer.remember(channel.get(self.remembered..end).unwrap_or(&[]));
        }
        self.remembered = end;
    }

    fn apply_fade_in(&mut self, frames: usize) {
        if self.fade_in.resting().is_some() {
            return;
        }
        let start = self.fade_in;
        for channel in &mut self.out {
            let mut ramp = start;
            for sample in channel.iter_mut().take(frames) {
                *sample *= ramp.advance();
            }
            self.fade_in = ramp;
        }
    }

    fn publish(&self, callback: &Callback<'_>) {
        let store = |cell: &std::sync::atomic::AtomicU32, value: f64| {
            cell.store((value as f32).to_bits(), Ordering::Relaxed);
        };
        store(&self.stats.delay_frames, self.playout.mean_margin());
        if self.callbacks.is_multiple_of(64) {
            store(&self.stats.margin_quantile_frames, self.playout.quantile_margin());
        }
        store(&self.stats.drift_ppm, self.correction.unwrap_or(0.0) * 1e6);
        let seconds = callback.frames as f32 / self.engine_rate_hz as f32;
        let mut peak = 0.0f32;
        let mut square = 0.0f32;
        for channel in &self.out {
            for sample in channel.iter().take(callback.frames) {
                peak = peak.max(sample.abs());
                square += sample * sample;
            }
        }
        self.stats.meter.write(peak, square / (callback.frames * self.config.channels) as f32, seconds);
    }
}

/// How many frames of output lie before `position` when each moves by `step`.
fn frames_before(position: f64, step: f64) -> usize {
    (position / step).ceil().max(0.0) as usize
}
