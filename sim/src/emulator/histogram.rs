//! A distribution in bounded memory.
//!
//! An emulator may run for hours, so it cannot keep every delay to sort them at the end. Equal buckets are
//! enough: a quantile is right to one bucket width, and mean and maximum are exact.

use serde::Serialize;

/// Counts of values in buckets of equal width.
#[derive(Clone, Debug)]
pub struct Histogram {
    width_ns: u64,
    buckets: Vec<u32>,
    beyond: u64,
    count: u64,
    sum_ns: u128,
    max_ns: u64,
}

/// What a [`Histogram`] says, in ms. All zero when nothing was counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Quantiles {
    /// Mean, exact.
    pub mean: f64,
    /// Half are at most this.
    pub p50: f64,
    /// 95 of 100 are at most this.
    pub p95: f64,
    /// 99 of 100 are at most this.
    pub p99: f64,
    /// The largest, exact.
    pub max: f64,
}

impl Histogram {
    /// `buckets` buckets of `width_ns` each; larger values count as the maximum seen.
    pub fn new(width_ns: u64, buckets: usize) -> Self {
        let width_ns = width_ns.max(1);
        Self { width_ns, buckets: vec![0; buckets], beyond: 0, count: 0, sum_ns: 0, max_ns: 0 }
    }

    /// Counts one value.
    pub fn add(&mut self, value_ns: u64) {
        let index = usize::try_from(value_ns / self.width_ns).unwrap_or(usize::MAX);
        match self.buckets.get_mut(index) {
            Some(bucket) => *bucket = bucket.saturating_add(1),
            None => self.beyond += 1,
        }
        self.count += 1;
        self.sum_ns += u128::from(value_ns);
        self.max_ns = self.max_ns.max(value_ns);
    }

    /// The upper edge of the bucket that `share` (0 to 1) of all values lie in or below, ns.
    pub fn quantile_ns(&self, share: f64) -> u64 {
        let wanted = (share * self.count as f64).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (index, &bucket) in self.buckets.iter().enumerate() {
            seen += u64::from(bucket);
            if seen >= wanted {
                return ((index as u64 + 1) * self.width_ns).min(self.max_ns);
            }
        }
        self.max_ns
    }

    /// The summary.
    pub fn quantiles(&self) -> Quantiles {
        let ms = |ns: u64| ns as f64 / 1e6;
        Quantiles {
            mean: self.sum_ns as f64 / 1e6 / self.count.max(1) as f64,
            p50: ms(self.quantile_ns(0.5)),
            p95: ms(self.quantile_ns(0.95)),
            p99: ms(self.quantile_ns(0.99)),
            max: ms(self.max_ns),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_right_to_one_bucket_and_the_ends_are_exact() {
        let mut histogram = Histogram::new(1_000, 100);
        assert_eq!(histogram.quantiles(), Quantiles::default());
        (1..=100).for_each(|us| histogram.add(us * 500));
        let seen = histogram.quantiles();
        assert!((seen.p50 - 0.025).abs() <= 0.001, "{seen:?}");
        assert!((seen.p99 - 0.0495).abs() <= 0.001, "{seen:?}");
        assert_eq!(seen.max, 0.05);
        assert!((seen.mean - 0.02525).abs() < 1e-9);
    }

    #[test]
    fn values_beyond_the_last_bucket_are_still_counted() {
        let mut histogram = Histogram::new(1_000, 10);
        (0..90).for_each(|_| histogram.add(500));
        (0..10).for_each(|_| histogram.add(7_000_000));
        assert_eq!(histogram.quantile_ns(0.5), 1_000);
        assert_eq!(histogram.quantile_ns(0.95), 7_000_000);
    }
}
