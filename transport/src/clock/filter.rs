//! From noisy exchanges to offset and drift: one Kalman filter over the quickest of every few exchanges.
//!
//! The state is offset and drift; drift wanders a little. How noisy the exchanges are nobody tells us, so the filter
//! measures it from its own surprises (innovations), and it measures two more things that would make a plain filter's
//! confidence a lie: waits that resemble the one before (an exchange then tells less that is new than its noise says),
//! and surprises that keep one sign (the clock's rate changed). Sources: Kalman 1960; Mehra 1970 for the noise; Mills, RFC 5905, for the minimum filter.

/// 1-sigma prior on the drift between two quartz clocks, as a ratio. Data sheets say 20 to 50 ppm.
const DRIFT_PRIOR: f64 = 50e-6;
/// How fast drift wanders: ratio per square root of a second. Warming crystals move about 0.1 ppm in half a minute.
const DRIFT_WANDER: f64 = 0.02e-6;
/// Random error of reading a clock, ns per square root of a second.
const PHASE_WANDER_NS: f64 = 200.0;
/// Exchanges over which the noise is averaged once there are so many.
const NOISE_MEMORY: f64 = 256.0;
/// A shorter memory that notices a path getting worse.
const SHORT_NOISE_MEMORY: f64 = 16.0;
/// A new exchange counts this many times a fair share of all, so that the first guess, which is wide, fades with the
/// square of their number.
const HASTE: f64 = 2.0;
/// Variance of an exchange's offset at least, as a share of the square of half its wait. If all of the wait may be on either
/// side it is a third; but where both sides wait evenly that costs a quarter of the precision, and this much already keeps
/// a path that has become slow from spoiling what was learnt on a quick one.
const WAIT_SHARE: f64 = 1.0 / 12.0;
/// A surprise above this many sigmas is cut down to it, so one wild exchange cannot drag the estimate.
const MAX_SURPRISE: f64 = 4.0;
/// Mean of the last surprises (in sigmas, gain 1/8) at which the model is wrong rather than unlucky: 4.6 sigmas of
/// that mean. A false alarm throws away minutes of averaging on a path that jitters.
const MAX_BIAS: f64 = 1.2;
/// What that mean reaches by chance, at 2.3 sigmas.
const BIAS_BY_CHANCE: f64 = 0.6;
const BIAS_GAIN: f64 = 0.125;
/// Exchanges over which it is measured how much a wait resembles the one before it.
const LIKENESS_MEMORY: f64 = 64.0;
/// What it is taken for before it is measured, and how many measured pairs that counts for: the opening burst asks every
/// 20 ms, and queues of the internet remember themselves about as long.
const LIKENESS_PRIOR: f64 = 0.4;
const LIKENESS_PRIOR_WEIGHT: f64 = 8.0;
const MAX_LIKENESS: f64 = 0.9;
/// Drift uncertainty added when the rate has evidently changed: as if nothing were known of it.
const RATE_CHANGE: f64 = DRIFT_PRIOR;

/// One exchange as the filters see it. Times in seconds, the rest in nanoseconds, both from the clock's base.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    pub(super) at_s: f64,
    pub(super) offset_ns: f64,
    /// Round trip less the time the peer took to answer.
    pub(super) delay_ns: f64,
    /// By how much that is above the quickest: waits on one side only would shift the offset by half of it.
    pub(super) waited_ns: f64,
}

impl Sample {
    /// The way there and the way back, each up to the offset.
    pub(super) fn ways(&self) -> (f64, f64) {
        (self.delay_ns / 2.0 + self.offset_ns, self.delay_ns / 2.0 - self.offset_ns)
    }
}

#[derive(Debug)]
pub(super) struct Filter {
    /// Feed only the quickest of so many exchanges.
    group: usize,
    pending: Option<Sample>,
    pending_count: usize,
    state: Option<State>,
    used: f64,
    noise_var: f64,
    short_noise_var: f64,
    bias: f64,
    likeness: Likeness,
    /// Mean delay of the exchanges used.
    mean_delay_ns: f64,
}

#[derive(Clone, Copy, Debug)]
struct State {
    at_s: f64,
    offset_ns: f64,
    /// ns per second, that is, parts per 10^9.
    drift: f64,
    /// Covariance: offset, both, drift.
    p: [f64; 3],
}

impl Filter {
    pub(super) fn new(group: usize) -> Self {
        Filter {
            group,
            pending: None,
            pending_count: 0,
            state: None,
            used: 0.0,
            noise_var: 0.0,
            short_noise_var: 0.0,
            bias: 0.0,
            likeness: Likeness::default(),
            mean_delay_ns: 0.0,
        }
    }

    /// Of how many exchanges one is used.
    pub(super) fn group(&self) -> usize {
        self.group
    }

    /// Takes an exchange. If the clock's rate evidently changed, by how much the estimate may be off, as a variance in
    /// ns^2, so that filters which use fewer exchanges need not find out by themselves.
    pub(super) fn handle(&mut self, sample: Sample) -> Option<f64> {
        if self.pending.is_none_or(|pending| sample.delay_ns < pending.delay_ns) {
            self.pending = Some(sample);
        }
        self.pending_count += 1;
        if self.pending_count < self.group {
            return None;
        }
        self.pending_count = 0;
        self.pending.take().and_then(|quickest| self.update(quickest))
    }

    /// Trusts the past less: another filter saw the rate change.
    pub(super) fn loosen(&mut self, variance: f64) {
        if let Some(state) = &mut self.state {
            state.loosen(variance);
            self.bias = 0.0;
        }
    }

    /// Offset in ns and drift in ns/s at a time.
    pub(super) fn predict(&self, at_s: f64) -> Option<(f64, f64)> {
        let state = self.state?;
        Some((state.offset_ns + state.drift * (at_s - state.at_s), state.drift))
    }

    /// Standard error of the offset at a time. `None` before there is enough to know it by.
    pub(super) fn sigma_ns(&self, at_s: f64) -> Option<f64> {
        let state = self.state.filter(|_| self.used >= 3.0)?.at(at_s);
        // Few exchanges: the noise itself is uncertain (Student's t, roughly).
        let few = 1.0 + 3.0 / self.used;
        Some(state.p[0].sqrt() * few)
    }

    /// How far the latest exchanges lie to one side of the estimate, beyond what chance does: a change of rate that
    /// the filter has not followed yet, ns.
    pub(super) fn one_sided_ns(&self) -> f64 {
        (self.bias.abs() - BIAS_BY_CHANCE).max(0.0) * self.noise().sqrt()
    }

    /// Mean delay of the exchanges used.
    pub(super) fn mean_delay_ns(&self) -> f64 {
        self.mean_delay_ns
    }

    fn update(&mut self, sample: Sample) -> Option<f64> {
        self.used += 1.0;
        let memory = 1.0 / self.used.min(NOISE_MEMORY);
        self.mean_delay_ns += (sample.delay_ns - self.mean_delay_ns) * memory;
        self.likeness.handle(sample.delay_ns - self.mean_delay_ns);
        let Some(state) = self.state else {
            // The truth lies within half the delay either way, evenly for all we know.
            self.noise_var = (sample.delay_ns / 2.0).powi(2) / 3.0 + 1.0;
            self.short_noise_var = self.noise_var;
            let p = [self.noise_var, 0.0, (DRIFT_PRIOR * 1e9).powi(2)];
            self.state = Some(State { at_s: sample.at_s, offset_ns: sample.offset_ns, drift: 0.0, p });
            return None;
        };
        let mut state = state.at(sample.at_s);
        let learnt = self.noise();
        let off = sample.offset_ns - state.offset_ns;
        let noise = learnt.max(WAIT_SHARE * (sample.waited_ns / 2.0).powi(2));
        let surprise_var = state.p[0] + noise;
        let surprise = off / surprise_var.sqrt();
        self.learn(off / (state.p[0] + learnt).sqrt(), state.p[0] + learnt, learnt);
        self.lean(surprise);
        let alarm = (self.bias.abs() > MAX_BIAS * self.likeness.repetition().sqrt())
            .then(|| self.bias.powi(2) * noise);
        if let Some(variance) = alarm {
            state.loosen(variance);
            self.bias = 0.0;
        }
        // An exchange that half repeats the one before counts for less than one, and the filter's confidence with it.
        let innovation_var = state.p[0] + noise * self.likeness.repetition();
        let innovation = surprise.clamp(-MAX_SURPRISE, MAX_SURPRISE) * surprise_var.sqrt();
        let gain = [state.p[0] / innovation_var, state.p[1] / innovation_var];
        state.offset_ns += gain[0] * innovation;
        state.drift += gain[1] * innovation;
        let [p_offset, p_both, p_drift] = state.p;
        state.p = [(1.0 - gain[0]) * p_offset, (1.0 - gain[0]) * p_both, p_drift - gain[1] * p_both];
        self.state = Some(state);
        alarm
    }

    /// The long-term noise, unless it has lately been so much worse that chance does not explain it.
    fn noise(&self) -> f64 {
        if self.short_noise_var > 2.0 * self.noise_var { self.short_noise_var } else { self.noise_var }
    }

    /// What a surprise (in sigmas) says about noise.
    fn learn(&mut self, surprise: f64, surprise_var: f64, noise: f64) {
        let seen_var = surprise.clamp(-2.0 * MAX_SURPRISE, 2.0 * MAX_SURPRISE).powi(2) * noise;
        let weight = (HASTE / (self.used + HASTE)).max(1.0 / NOISE_MEMORY);
        self.noise_var += (seen_var - self.noise_var) * weight;
        let weight = (HASTE / (self.used + HASTE)).max(1.0 / SHORT_NOISE_MEMORY);
        self.short_noise_var += (seen_var.min(surprise_var * 9.0) - self.short_noise_var) * weight;
    }

    /// What it says about the side the truth lies on.
    fn lean(&mut self, surprise: f64) {
        let bounded = surprise.clamp(-MAX_SURPRISE, MAX_SURPRISE);
        self.bias += (bounded - self.bias) * BIAS_GAIN;
    }
}

/// How much the wait of an exchange resembles that of the one before.
///
/// It is measured on round trips, because the filter follows shifts of the offset and so hides from itself that its
/// surprises are alike. Queues there and back shift offset and round trip by the same amounts, so both repeat alike.
#[derive(Debug, Default)]
struct Likeness {
    before_ns: Option<f64>,
    pairs: f64,
    covariance: f64,
    variance: f64,
}

impl Likeness {
    /// Takes a round trip less the mean of all, ns.
    fn handle(&mut self, above_ns: f64) {
        if let Some(before_ns) = self.before_ns.replace(above_ns) {
            self.pairs += 1.0;
            let weight = 1.0 / self.pairs.min(LIKENESS_MEMORY);
            self.covariance += (above_ns * before_ns - self.covariance) * weight;
            self.variance += (above_ns * above_ns - self.variance) * weight;
        }
    }

    /// By how much to multiply the variance of one exchange so that a mean of many has the right one: the ratio for
    /// first-order autoregressive values, at least 1.
    fn repetition(&self) -> f64 {
        let measured = if self.variance > 0.0 { self.covariance / self.variance } else { 0.0 };
        let pairs = self.pairs.min(LIKENESS_MEMORY);
        let alike =
            (measured * pairs + LIKENESS_PRIOR * LIKENESS_PRIOR_WEIGHT) / (pairs + LIKENESS_PRIOR_WEIGHT);
        let alike = alike.clamp(0.0, MAX_LIKENESS);
        (1.0 + alike) / (1.0 - alike)
    }
}

impl State {
    fn loosen(&mut self, variance: f64) {
        self.p[0] += variance;
        self.p[2] += (RATE_CHANGE * 1e9).powi(2);
    }

    /// The state carried to another time, its uncertainty grown.
    fn at(self, at_s: f64) -> State {
        let dt = at_s - self.at_s;
        let age = dt.abs();
        let [p_offset, p_both, p_drift] = self.p;
        let wander = (DRIFT_WANDER * 1e9).powi(2);
        State {
            at_s,
            offset_ns: self.offset_ns + self.drift * dt,
            drift: self.drift,
            p: [
                (p_offset + 2.0 * dt * p_both + dt * dt * p_drift).max(0.0)
                    + wander * age.powi(3) / 3.0
                    + PHASE_WANDER_NS.powi(2) * age,
                p_both + dt * p_drift + wander * age * age / 2.0,
                p_drift + wander * age,
            ],
        }
    }
}
