//! Two sound cards never agree.
//!
//! A sender whose card runs 100 ppm fast delivers 4.8 frames a second too many. Seen here, its packets seem
//! to arrive earlier and earlier. Queueing only ever adds delay, so the earliest arrival of each quarter
//! second tells the path's bare delay, and the slope of a line through these is the drift. Nothing is
//! corrected until the slope stands far out of its own uncertainty and is the same in both halves of what was
//! seen: an undrifting stream stays untouched, bit for bit.
//!
//! Limits: learns in 3 to 5 s drifts above 50 ppm on a quiet path, slower for less or under jitter; below 3
//! ppm it never reports, and the playout controller steps by a few frames once in many minutes instead.

const WINDOW_SECONDS: f64 = 0.25;
/// 32 s: long enough for 1 ppm, short enough to follow a warming oscillator.
const MAX_POINTS: usize = 128;
const MIN_POINTS: usize = 8;
const MIN_DRIFT: f64 = 3e-6;
/// No sound card is a thousandth off; a steeper slope is a path that changes.
pub(crate) const MAX_DRIFT: f64 = 1e-3;
/// How many standard errors the slope must be away from zero, and for how many windows in a row.
const SIGNIFICANCE: f64 = 6.0;
const CONFIRMATIONS: f64 = 4.0;
/// A small drift does little harm while it waits, and noise looks like small drifts: it takes ten seconds
/// more.
const SMALL_CONFIRMATIONS: f64 = 40.0;
const SMALL_DRIFT: f64 = 50e-6;
/// A bare delay this far from the line is another path, not drift.
const STEP_SECONDS: f64 = 0.004;

/// Learns by how much a sender's sound card runs fast (positive) or slow.
#[derive(Debug)]
pub(crate) struct DriftEstimator {
    window: Option<Window>,
    points: Vec<(f64, f64)>,
    confirmed: u32,
    steps: u32,
    estimate: Option<f64>,
}

#[derive(Debug)]
struct Window {
    start: f64,
    lowest: f64,
    second: f64,
}

impl DriftEstimator {
    pub(crate) fn new() -> Self {
        Self { window: None, points: Vec::with_capacity(MAX_POINTS), confirmed: 0, steps: 0, estimate: None }
    }

    /// Forgets everything: another sender may have another card.
    pub(crate) fn reset(&mut self) {
        self.window = None;
        self.points.clear();
        self.confirmed = 0;
        self.estimate = None;
    }

    /// Notes a block. `arrival` and `sent` are in seconds of the receiver's sound card and of the sender's,
    /// each from an origin of its own. True when a window was completed, so that the estimate may have
    /// changed.
    pub(crate) fn handle_block(&mut self, arrival: f64, sent: f64) -> bool {
        let delay = arrival - sent;
        let Some(window) = self.window.as_mut() else {
            self.window = Some(Window { start: arrival, lowest: delay, second: delay });
            return false;
        };
        if delay < window.lowest {
            window.second = window.lowest;
            window.lowest = delay;
        } else {
            window.second = window.second.min(delay);
        }
        if arrival - window.start < WINDOW_SECONDS && arrival >= window.start {
            return false;
        }
        let point = (window.start, window.second);
        self.window = None;
        self.handle_window(point);
        true
    }

    /// The drift as a fraction (1e-6 is 1 ppm), once it is beyond doubt.
    pub(crate) fn estimate(&self) -> Option<f64> {
        self.estimate
    }

    fn handle_window(&mut self, point: (f64, f64)) {
        if let Some(line) = fit(&self.points, f64::INFINITY) {
            let off = point.1 - line.at(point.0);
            if off.abs() > STEP_SECONDS {
                self.steps += 1;
                // One window may be a burst of queueing; three are a new path.
                if self.steps >= 3 {
                    self.points.clear();
                    self.steps = 0;
                }
                return;
            }
        }
        self.steps = 0;
        if self.points.len() == MAX_POINTS {
            self.points.copy_within(1.., 0);
            self.points.truncate(MAX_POINTS - 1);
        }
        self.points.push(point);
        self.update();
    }

    fn update(&mut self) {
        if self.points.len() < MIN_POINTS {
            return;
        }
        let Some(rough) = fit(&self.points, f64::INFINITY) else { return };
        let line = fit(&self.points, rough.at_most(1.5)).unwrap_or(rough);
        let drift = -line.slope;
        let clear = drift.abs() > SIGNIFICANCE * line.slope_error
            && drift.abs() > MIN_DRIFT
            && drift.abs() < MAX_DRIFT
            && self.halves_agree(line.slope);
        match self.estimate.as_mut() {
            // Once it corrects, it follows smoothly: a longer line is believed more.
            Some(estimate) if line.slope_error < 20e-6 && drift.abs() < MAX_DRIFT => {
                let trust = (self.points.len() as f64 / MAX_POINTS as f64).clamp(0.05, 0.3);
                *estimate += (drift - *estimate) * trust;
                if estimate.abs() < MIN_DRIFT / 3.0 && self.points.len() == MAX_POINTS {
                    self.estimate = None;
                    self.confirmed = 0;
                }
            }
            Some(_) => {}
            None if clear => {
                self.confirmed += 1;
                let smallness = (1.0 - drift.abs() / SMALL_DRIFT).max(0.0);
                if f64::from(self.confirmed) >= CONFIRMATIONS + SMALL_CONFIRMATIONS * smallness {
                    self.estimate = Some(drift);
                }
            }
            None => self.confirmed = 0,
        }
    }
}

impl DriftEstimator {
    /// Drift is the same throughout; a step in the path's delay is a slope in one half only.
    fn halves_agree(&self, slope: f64) -> bool {
        let (early, late) = self.points.split_at(self.points.len() / 2);
        [early, late].iter().all(|half| {
            fit(half, f64::INFINITY).is_some_and(|line| (line.slope - slope).abs() < 0.5 * slope.abs())
        })
    }
}

#[derive(Clone, Copy)]
struct Line {
    mean_time: f64,
    mean_delay: f64,
    slope: f64,
    slope_error: f64,
    deviation: f64,
    /// The line whose residuals limited this fit.
    limit: f64,
}

impl Line {
    fn at(&self, time: f64) -> f64 {
        self.mean_delay + self.slope * (time - self.mean_time)
    }

    fn at_most(&self, deviations: f64) -> f64 {
        self.limit.min(self.deviation * deviations)
    }
}

/// Least squares; points more than `limit` above a first line are queueing and left out.
fn fit(points: &[(f64, f64)], limit: f64) -> Option<Line> {
    let first = if limit.is_finite() { fit(points, f64::INFINITY) } else { None };
    let kept = || {
        points.iter().filter(move |(time, delay)| first.is_none_or(|line| delay - line.at(*time) <= limit))
    };
    let count = kept().count();
    if count < MIN_POINTS / 2 {
        return None;
    }
    let n = count as f64;
    let mean_time = kept().map(|p| p.0).sum::<f64>() / n;
    let mean_delay = kept().map(|p| p.1).sum::<f64>() / n;
    let spread: f64 = kept().map(|p| (p.0 - mean_time).powi(2)).sum();
    if spread <= 0.0 {
        return None;
    }
    let slope = kept().map(|p| (p.0 - mean_time) * (p.1 - mean_delay)).sum::<f64>() / spread;
    let residual: f64 = kept().map(|p| (p.1 - mean_delay - slope * (p.0 - mean_time)).powi(2)).sum();
    // Never believe less than 2 us of noise per point.
    let deviation = (residual / (n - 2.0).max(1.0)).sqrt().max(2e-6);
    Some(Line { mean_time, mean_delay, slope, slope_error: deviation / spread.sqrt(), deviation, limit })
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Sender {
        ppm: f64,
        seed: u64,
    }

    impl Sender {
        fn uniform(&mut self) -> f64 {
            self.seed =
                self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.seed >> 33) as f64 / (1u64 << 31) as f64
        }

        /// Blocks of 128 frames at 48 kHz, with exponential queueing of this mean.
        fn run(&mut self, estimator: &mut DriftEstimator, seconds: f64, queueing: f64) {
            let period = 128.0 / 48_000.0;
            for k in 0..(seconds / period) as u64 {
                let sent = k as f64 * period;
                let queue = -queueing * (1.0 - self.uniform()).ln();
                estimator.handle_block(sent / (1.0 + self.ppm * 1e-6) + queue, sent);
            }
        }
    }

    #[test]
    fn drift_is_found_within_seconds_on_a_quiet_path() {
        for (ppm, seconds) in [(-300.0, 5.0), (-50.0, 5.0), (20.0, 12.0), (300.0, 5.0)] {
            let mut estimator = DriftEstimator::new();
            Sender { ppm, seed: 1 }.run(&mut estimator, seconds, 100e-6);
            let found = estimator.estimate().expect("found") * 1e6;
            assert!((found - ppm).abs() < 5.0, "{found} instead of {ppm} ppm");
        }
    }

    #[test]
    fn drift_is_found_under_wifi_jitter() {
        for ppm in [-100.0, 100.0] {
            let mut estimator = DriftEstimator::new();
            Sender { ppm, seed: 2 }.run(&mut estimator, 40.0, 3e-3);
            let found = estimator.estimate().expect("found") * 1e6;
            assert!((found - ppm).abs() < 15.0, "{found} instead of {ppm} ppm");
        }
    }

    #[test]
    fn path_that_calms_down_is_not_taken_for_drift() {
        for seed in 0..40 {
            let mut estimator = DriftEstimator::new();
            let mut random = Sender { ppm: 0.0, seed };
            for k in 0..30_000u32 {
                let sent = f64::from(k) * 128.0 / 48_000.0;
                let queueing = if k % 8_000 < 4_000 { 2e-3 } else { 0.0 };
                let queue = -queueing * (1.0 - random.uniform()).ln();
                estimator.handle_block(sent + queue, sent);
                assert_eq!(estimator.estimate(), None, "seed {seed}, block {k}");
            }
        }
    }

    #[test]
    fn equal_cards_are_left_alone_whatever_the_jitter() {
        for seed in 0..20 {
            for queueing in [10e-6, 300e-6, 3e-3] {
                let mut estimator = DriftEstimator::new();
                Sender { ppm: 0.0, seed }.run(&mut estimator, 120.0, queueing);
                assert_eq!(estimator.estimate(), None, "seed {seed}, {queueing} s of queueing");
            }
        }
    }
}
