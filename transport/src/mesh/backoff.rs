//! How long to wait before trying again, and how many hints to take from one mouth.

use std::collections::BTreeMap;
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
    burst: f64,
    per_second: f64,
    tokens: f64,
    filled: LocalTime,
}

/// Hints a source may give at once, and per second from then on.
const BURST: f64 = 64.0;
const PER_SECOND: f64 = 16.0;

impl Bucket {
    pub(crate) fn new(now: LocalTime) -> Self {
        Self::with(now, BURST, PER_SECOND)
    }

    /// One that lets so many pass at once, and per second from then on.
    pub(crate) fn with(now: LocalTime, burst: f64, per_second: f64) -> Self {
        Self { burst, per_second, tokens: burst, filled: now }
    }

    /// Whether one more hint may pass.
    pub(crate) fn take(&mut self, now: LocalTime) -> bool {
        let elapsed = now.saturating_since(self.filled).as_secs_f64();
        self.filled = now;
        self.tokens = (self.tokens + elapsed * self.per_second).min(self.burst);
        let passes = self.tokens >= 1.0;
        if passes {
            self.tokens -= 1.0;
        }
        passes
    }
}

/// A bucket for each mouth. Of more than `most` the one heard longest ago is forgotten, and begins anew when it is back.
#[derive(Debug, Clone)]
pub(crate) struct Buckets<K> {
    most: usize,
    buckets: BTreeMap<K, Bucket>,
}

impl<K: Ord + Copy> Buckets<K> {
    pub(crate) fn new(most: usize) -> Self {
        Self { most, buckets: BTreeMap::new() }
    }

    /// Whether one more hint of `mouth` may pass.
    pub(crate) fn take(&mut self, now: LocalTime, mouth: K) -> bool {
        if self.buckets.len() >= self.most && !self.buckets.contains_key(&mouth) {
            let oldest = self.buckets.iter().min_by_key(|(_, bucket)| bucket.filled).map(|(key, _)| *key);
            oldest.map(|oldest| self.buckets.remove(&oldest));
        }
        self.buckets.entry(mouth).or_insert_with(|| Bucket::new(now)).take(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chatterbox_does_not_use_up_what_others_may_say() {
        let start = LocalTime::from_nanos(0);
        let mut buckets = Buckets::new(3);
        let heard = (0..1000).filter(|_| buckets.take(start, 0)).count();
        assert_eq!(heard, 64);
        assert!(buckets.take(start, 1));
        for mouth in 2..1000 {
            buckets.take(start + Duration::from_millis(mouth), mouth);
        }
        assert_eq!(buckets.buckets.len(), 3);
    }

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
