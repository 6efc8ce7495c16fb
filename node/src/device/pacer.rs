//! When the next period of a card without hardware is due.
//!
//! A timer that sleeps one period at a time runs slow by every wake-up's delay. This one computes each deadline from the
//! first, so its mean rate is exact, and behaves like a card with a few periods of buffer when it
//! wakes late: within the tolerance it catches up back to back and nothing is lost; beyond it, whole periods are skipped
//! and counted, as a card would report an xrun. A pure value: time is passed in.

/// How late a wake-up may be before periods are skipped, in periods; a usual card buffers two to four.
const TOLERANCE_PERIODS: u64 = 4;

/// The same as a time, for short periods: the wake-up delay of a busy machine does not shrink with the period.
const TOLERANCE_MIN_NS: u64 = 10_000_000;

/// Deadlines of a fixed rate from a fixed origin.
#[derive(Clone, Debug)]
pub(super) struct Pacer {
    origin_ns: u64,
    rate_hz: u32,
    period_frames: u32,
    periods: u64,
}

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing before this time.
    Wait { until_ns: u64 },
    /// Run one period that was due at `due_ns`, after losing `skipped_periods`.
    Run { due_ns: u64, skipped_periods: u64 },
}

impl Pacer {
    pub(super) fn new(origin_ns: u64, rate_hz: u32, period_frames: u32) -> Self {
        Pacer { origin_ns, rate_hz: rate_hz.max(1), period_frames: period_frames.max(1), periods: 0 }
    }

    pub(super) fn step(&mut self, now_ns: u64) -> Step {
        let due_ns = self.due_ns(self.periods);
        if now_ns < due_ns {
            return Step::Wait { until_ns: due_ns };
        }
        let late_ns = now_ns - due_ns;
        let period_ns = self.due_ns(1) - self.origin_ns;
        let skipped_periods = if late_ns > TOLERANCE_MIN_NS.max(TOLERANCE_PERIODS * period_ns) {
            late_ns / period_ns.max(1)
        } else {
            0
        };
        let due_ns = self.due_ns(self.periods + skipped_periods);
        self.periods += skipped_periods + 1;
        Step::Run { due_ns, skipped_periods }
    }

    fn due_ns(&self, periods: u64) -> u64 {
        let frames = u128::from(periods) * u128::from(self.period_frames);
        self.origin_ns + (frames * 1_000_000_000 / u128::from(self.rate_hz)) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: u64 = 5_000_000_000;

    #[test]
    fn thirty_days_of_periods_do_not_drift_by_one_nanosecond() {
        let mut pacer = Pacer::new(START, 44_100, 147);
        pacer.periods = 30 * 24 * 3600 * 300;
        let due = START + 30 * 24 * 3600 * 1_000_000_000;
        assert_eq!(pacer.step(due - 1), Step::Wait { until_ns: due });
        assert_eq!(pacer.step(due), Step::Run { due_ns: due, skipped_periods: 0 });
    }

    #[test]
    fn late_wakeup_within_the_tolerance_catches_up_and_loses_nothing() {
        let mut pacer = Pacer::new(START, 48_000, 480);
        let now = START + 30_000_000;
        let due: Vec<_> = std::iter::from_fn(|| match pacer.step(now) {
            Step::Run { due_ns, skipped_periods: 0 } => Some((due_ns - START) / 1_000_000),
            _ => None,
        })
        .collect();
        assert_eq!(due, [0, 10, 20, 30]);
    }

    #[test]
    fn wakeup_beyond_the_tolerance_skips_whole_periods_and_stays_on_the_grid() {
        let mut pacer = Pacer::new(START, 48_000, 480);
        let now = START + 1_003_000_000;
        assert_eq!(pacer.step(now), Step::Run { due_ns: START + 1_000_000_000, skipped_periods: 100 });
        assert_eq!(pacer.step(now), Step::Wait { until_ns: START + 1_010_000_000 });
    }
}
