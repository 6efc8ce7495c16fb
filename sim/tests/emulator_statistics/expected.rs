//! What follows from a [`Weather`] by calculation: the distribution of delays, and how losses come together.
//!
//! Written from the documentation of the parameters, apart from the code that draws. Packets are taken to be
//! independent of each other and alone on the path.

use sim::network::{
    Weather,
    weather::{Stalls, Tail},
};

/// Width of the steps that integrals are summed in, ms.
const STEP_MS: f64 = 0.05;
/// From the shortest delay on, where most packets are, ms.
const STEEP_MS: f64 = 100.0;
/// No preset delays a packet for longer.
const LONGEST_MS: f64 = 1_200.0;

/// The share of packets lost.
pub fn loss_per_packet(weather: &Weather) -> f64 {
    let ([good, bad], [quiet, burst]) = states(weather);
    quiet * good + burst * bad
}

/// The number of runs of losses per packet, for packets this far apart: a run begins where a packet is lost and the
/// one before was not.
pub fn loss_runs_per_packet(weather: &Weather, every_ms: f64) -> f64 {
    let ([good, bad], [quiet, burst]) = states(weather);
    if burst <= 0.0 {
        return good * (1.0 - good);
    }
    // Two states with exponential stays: what is left of knowing the state after so long.
    let known = (-every_ms * (1.0 / weather.bursts.quiet_ms + 1.0 / weather.bursts.burst_ms)).exp();
    let both_bad = burst * (burst + quiet * known);
    let both_good = quiet * (quiet + burst * known);
    let one_each = 1.0 - both_bad - both_good;
    let both_lost = both_bad * bad * bad + both_good * good * good + one_each * good * bad;
    loss_per_packet(weather) - both_lost
}

/// Loss in both states, and the share of time spent in them.
fn states(weather: &Weather) -> ([f64; 2], [f64; 2]) {
    let bursts = weather.bursts;
    let burst = if bursts.quiet_ms > 0.0 && bursts.burst_ms > 0.0 {
        bursts.burst_ms / (bursts.quiet_ms + bursts.burst_ms)
    } else {
        0.0
    };
    ([weather.loss, bursts.loss.max(weather.loss)], [1.0 - burst, burst])
}

/// The distribution of delays as its values at points.
pub struct Distribution {
    /// Delay, ms, and the share of packets that take at most so long.
    points: Vec<(f64, f64)>,
}

impl Distribution {
    /// Of packets of so many octets that are alone on the path.
    pub fn of(weather: &Weather, octets: usize) -> Self {
        let sending_ms = if weather.rate.kbps > 0.0 { octets as f64 * 8.0 / weather.rate.kbps } else { 0.0 };
        let held = |hold: &Stalls, ms: f64| 1.0 - share_of_time(hold) * (1.0 - residual_below(hold, ms));
        let before_access =
            |ms: f64| normal_below(weather, ms) * held(&weather.stalls, ms) * held(&weather.spikes, ms);
        let base = Self::tabulated(before_access, weather.delay_ms);
        let with_access = base.plus(weather.access_ms > 0.0, |ms| 1.0 - (-ms / weather.access_ms).exp());
        let with_tail =
            with_access.plus(!matches!(weather.tail, Tail::None), |ms| tail_below(weather.tail, ms));
        let points = with_tail.points.into_iter().map(|(ms, share)| (ms + sending_ms, share)).collect();
        let alone = Self { points };
        let reordered = |ms: f64| {
            let held_back = if weather.reorder > 0.0 { alone.below(ms - weather.reorder_ms) } else { 0.0 };
            (1.0 - weather.reorder) * alone.below(ms) + weather.reorder * held_back
        };
        let points = alone.points.iter().map(|(ms, _)| (*ms, reordered(*ms))).collect();
        Self { points }
    }

    /// Where the distribution jumps there are points right below and above.
    fn tabulated(below: impl Fn(f64) -> f64, jump_ms: f64) -> Self {
        let fine = (-400..=400).map(|step| jump_ms + f64::from(step) * 0.001);
        let coarse = (0..(LONGEST_MS / STEP_MS) as u32).map(|step| f64::from(step) * STEP_MS);
        let mut at: Vec<f64> = fine.chain(coarse).chain([jump_ms - 1e-9]).filter(|ms| *ms >= 0.0).collect();
        at.sort_by(f64::total_cmp);
        Self { points: at.into_iter().map(|ms| (ms, below(ms))).collect() }
    }

    /// The sum of this and an independent delay of 0 or more.
    fn plus(self, there_is_one: bool, below: impl Fn(f64) -> f64) -> Self {
        if !there_is_one {
            return self;
        }
        // The share between two neighbouring points, taken to be in the middle of them.
        let mut parts = Vec::new();
        let mut before = (0.0, 0.0);
        for &(ms, share) in &self.points {
            if share > before.1 + 1e-9 {
                parts.push(((ms + before.0) / 2.0, share - before.1));
                before = (ms, share);
            } else if share <= before.1 {
                before.0 = ms;
            }
        }
        let sum = |ms: f64| {
            parts.iter().take_while(|(at, _)| *at < ms).map(|(at, share)| share * below(ms - at)).sum::<f64>()
        };
        // The sum is smooth, and flat where little is left.
        let first = parts.first().map_or(0.0, |(at, _)| *at);
        let steep = (0..(STEEP_MS / STEP_MS) as u32).map(|step| first + f64::from(step) * STEP_MS);
        let flat = (0..LONGEST_MS as u32).map(|step| first + STEEP_MS + f64::from(step));
        Self { points: steep.chain(flat).map(|ms| (ms, sum(ms))).collect() }
    }

    /// The share of packets that take at most so long.
    pub fn below(&self, ms: f64) -> f64 {
        let after = self.points.partition_point(|(at, _)| *at <= ms);
        match (after.checked_sub(1).and_then(|index| self.points.get(index)), self.points.get(after)) {
            (Some((at, share)), Some((next_at, next))) => share + (next - share) * (ms - at) / (next_at - at),
            (Some((_, share)), None) => *share,
            (None, _) => 0.0,
        }
    }

    /// The delay that so many packets do not exceed.
    pub fn quantile(&self, share: f64) -> f64 {
        self.points.iter().find(|(_, below)| *below >= share).map_or(f64::INFINITY, |(ms, _)| *ms)
    }

    /// Kolmogorov's distance to samples in order: the largest difference of the two distributions.
    pub fn distance(&self, sorted_ms: &[f64]) -> f64 {
        let count = sorted_ms.len() as f64;
        let differences = sorted_ms.iter().enumerate().map(|(index, ms)| {
            let expected = self.below(*ms);
            (expected - index as f64 / count).abs().max((expected - (index + 1) as f64 / count).abs())
        });
        differences.fold(0.0, f64::max)
    }
}

/// Propagation with normal jitter, which the model draws as a sum of twelve uniform numbers.
fn normal_below(weather: &Weather, ms: f64) -> f64 {
    let from_mean = ms - weather.delay_ms;
    if ms < 0.0 {
        0.0
    } else if weather.jitter_ms > 0.0 {
        twelve_uniforms_below(from_mean / weather.jitter_ms + 6.0)
    } else {
        f64::from(from_mean >= 0.0)
    }
}

/// The Irwin-Hall distribution of order 12.
fn twelve_uniforms_below(x: f64) -> f64 {
    if x > 6.0 {
        // Symmetric, and the sum below is exact only in its lower half.
        return 1.0 - twelve_uniforms_below(12.0 - x);
    }
    let (mut choose, mut factorial, mut sum) = (1.0, 1.0, 0.0);
    for k in 0..12 {
        let k = f64::from(k);
        if x > k {
            sum += choose * (x - k).powi(12);
        }
        choose = -choose * (12.0 - k) / (k + 1.0);
        factorial *= k + 1.0;
    }
    sum / factorial
}

/// The share of time in holds that begin an exponential time after the last one's end.
fn share_of_time(hold: &Stalls) -> f64 {
    if hold.per_second <= 0.0 {
        return 0.0;
    }
    let mean_ms = mean_above(hold, 0.0);
    mean_ms / (mean_ms + 1_000.0 / hold.per_second)
}

/// The share of moments within holds at which the hold ends in at most `ms`.
fn residual_below(hold: &Stalls, ms: f64) -> f64 {
    if hold.per_second <= 0.0 || ms < 0.0 {
        return if ms < 0.0 { 0.0 } else { 1.0 };
    }
    1.0 - mean_above(hold, ms) / mean_above(hold, 0.0)
}

/// The integral from `from_ms` on of the share of holds that are longer.
fn mean_above(hold: &Stalls, from_ms: f64) -> f64 {
    let Stalls { shortest_ms: shortest, longest_ms: longest, exponent, .. } = *hold;
    let constant = (shortest - from_ms).max(0.0);
    let from = from_ms.clamp(shortest, longest);
    let rest = if exponent > 0.0 {
        // Pareto, capped; none of the presets has exponent 1.
        let power = |ms: f64| (ms / shortest).powf(1.0 - exponent) * shortest / (1.0 - exponent);
        power(longest) - power(from)
    } else if longest > shortest {
        (longest - from).powi(2) / (2.0 * (longest - shortest))
    } else {
        0.0
    };
    constant + rest
}

fn tail_below(tail: Tail, ms: f64) -> f64 {
    if ms < 0.0 {
        return 0.0;
    }
    match tail {
        Tail::None => 1.0,
        Tail::Pareto { longest_ms, .. } | Tail::Lognormal { longest_ms, .. } if ms >= longest_ms => 1.0,
        Tail::Pareto { scale_ms, exponent, .. } => 1.0 - (1.0 + ms / scale_ms).powf(-exponent),
        Tail::Lognormal { median_ms, sigma, .. } => {
            twelve_uniforms_below((ms / median_ms).ln() / sigma + 6.0)
        }
    }
}
