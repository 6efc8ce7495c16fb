//! True time, and what each host takes for it.
//!
//! The world counts nanoseconds of [`WorldTime`]; nobody inside it can read them. A host reads its own
//! [`HostClock`], which started at some arbitrary moment and runs a few parts per million fast or slow, as
//! the quartz of a laptop does. Checkers know both, and so know every true offset.

use std::{ops::Add, time::Duration};

/// True time: nanoseconds since the world began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorldTime(pub u64);

impl WorldTime {
    /// The moment `seconds` after the world began.
    pub fn from_seconds(seconds: f64) -> Self {
        Self((seconds.max(0.0) * 1e9) as u64)
    }

    /// Seconds since the world began.
    pub fn as_seconds(self) -> f64 {
        self.0 as f64 / 1e9
    }

    /// How long ago `earlier` was; zero if it is still to come.
    pub fn since(self, earlier: WorldTime) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for WorldTime {
    type Output = WorldTime;

    fn add(self, later: Duration) -> WorldTime {
        WorldTime(self.0.saturating_add(u64::try_from(later.as_nanos()).unwrap_or(u64::MAX)))
    }
}

/// The steady clock of one host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostClock {
    /// What it showed when the world began, ns; not negative.
    pub offset_ns: i64,
    /// How much too fast it runs, parts per billion (1 ppm = 1000); small against a billion.
    pub drift_ppb: i64,
}

const BILLION: i128 = 1_000_000_000;

impl HostClock {
    /// What the host reads at `at`, ns.
    pub fn local_at(&self, at: WorldTime) -> i64 {
        let elapsed = i128::from(at.0) * (BILLION + i128::from(self.drift_ppb)) / BILLION;
        i64::try_from(i128::from(self.offset_ns) + elapsed).unwrap_or(i64::MAX)
    }

    /// The first moment at which the host reads at least `local_ns`.
    pub fn world_at(&self, local_ns: i64) -> WorldTime {
        let elapsed = i128::from(local_ns) - i128::from(self.offset_ns);
        let rate = BILLION + i128::from(self.drift_ppb);
        // Rounded up: waking a nanosecond early would find nothing due and wake again for ever.
        let world = (elapsed * BILLION + rate - 1).div_euclid(rate);
        WorldTime(u64::try_from(world.max(0)).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fast_clock_gains_its_drift() {
        let clock = HostClock { offset_ns: 5_000, drift_ppb: 50_000 };
        assert_eq!(clock.local_at(WorldTime(0)), 5_000);
        // 50 ppm of 100 s are 5 ms.
        assert_eq!(clock.local_at(WorldTime::from_seconds(100.0)), 5_000 + 100_005_000_000);
    }

    #[test]
    fn a_deadline_on_the_hosts_clock_is_reached_when_the_world_says_so_and_not_before() {
        for drift_ppb in [-300_000, -7, 0, 1, 49_999, 300_000] {
            let clock = HostClock { offset_ns: 123_456_789, drift_ppb };
            for local in [123_456_789, 123_456_790, 1_000_000_000, 3_600_000_000_001] {
                let at = clock.world_at(local);
                assert!(clock.local_at(at) >= local);
                assert!(at.0 == 0 || clock.local_at(WorldTime(at.0 - 1)) < local);
            }
        }
    }
}
