//! How long to wait before trying again, and how many hints to take from one mouth.

use std::time::Duration;

use crate::time::LocalTime;

const FIRST_DELAY: Duration = Duration::from_millis(250);

/// Exponential backoff with jitter: after `failures` in a row, between half and all of 250 ms times 2^(failures-1), never
/// above `cap`. `random` is uniform in 0..=1; without it, a band that lost its switch would come back in step.
pub(crate) fn delay(failures: u32, cap: Duration, random: f64) -> Duration {
    let exponent = failures.saturating_sub(1).min(16);
    FIRST_DELAY.saturating_mul(1 << exponent).min(cap).mul_f64(0.5 + 0.5 * random.clamp(0.0, 1.0))
}

/// A token bucket.
#[derive(Debug, Clone)]
pub(crate) struct Bucket {
    tokens: f64,
    filled: LocalTime,
}

/// Hints a source may give at once, and per second from then on.
const BURST: f64 = 64.0;
const PER_SECOND: f64 = 16.0;

impl Bucket {
    pub(crate) fn new(now: LocalTime) -> Self {
        Self { tokens: BURST, filled: now }
    }

    /// Whether one more hint may pass.
    pub(crate) fn take(&mut self, now: LocalTime) -> bool {
        let elapsed = now.saturating_since(self.filled).as_secs_f64();
        self.filled = now;
        self.tokens = (self.tokens + elapsed * PER_SECOND).min(BURST);
        let passes = self.tokens >= 1.0;
        if passes {
            self.tokens -= 1.0;
        }
        passes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_cap_and_jitter_below() {
        let cap = Duration::from_secs(4);
        let longest: Vec<_> = (1..=7).map(|failures| delay(failures, cap, 1.0).as_millis()).collect();
        assert_eq!(longest, [250, 500, 1000, 2000, 4000, 4000, 4000]);
        assert_eq!(delay(3, cap, 0.0), Duration::from_millis(500));
        assert_eq!(delay(u32::MAX, cap, 0.0), Duration::from_secs(2));
    }

    #[test]
    fn a_chatterbox_is_heard_sixteen_times_a_second() {
        let start = LocalTime::from_nanos(0);
        let mut bucket = Bucket::new(start);
        let heard = (0..10_000u64).filter(|ms| bucket.take(start + Duration::from_millis(*ms))).count();
        assert!((200..=225).contains(&heard), "{heard} in ten seconds");
    }
}
