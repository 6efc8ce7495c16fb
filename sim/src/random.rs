//! All the randomness of a world, from one seed.
//!
//! A seed printed today must replay the same run next year, so the generator is spelled out here instead of
//! following a library that may change its stream between versions: SplitMix64 (Steele, Lea and Flood, "Fast
//! splittable pseudorandom number generators", OOPSLA 2014). Each link, host and sound card gets a generator
//! of its own by [`Random::fork`], so that one more packet here does not change the weather there.
//!
//! Limits: [`Random::exponential`] and [`Random::pareto`] use the platform's `ln` and `powf`, whose last digit
//! may differ between machines. Callers round to whole nanoseconds, which hides that in all but about one
//! draw in a million; the same machine, debug or release, always agrees.

/// A seeded stream of random numbers.
#[derive(Clone, Debug)]
pub struct Random {
    state: u64,
}

impl Random {
    /// The stream of `seed`.
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// An independent stream; different labels give different streams. Draws nothing from this one.
    pub fn fork(&self, label: u64) -> Self {
        Self::new(mix(self.state ^ mix(label.wrapping_add(0x5851_F42D_4C95_7F2D))))
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        mix(self.state)
    }

    /// Uniform in 0 (included) to 1 (excluded).
    pub fn share(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// True with probability `share`.
    pub fn chance(&mut self, share: f64) -> bool {
        self.share() < share
    }

    /// Uniform in 0 (included) to `end` (excluded); 0 when `end` is 0.
    pub fn below(&mut self, end: u64) -> u64 {
        ((u128::from(self.bits()) * u128::from(end)) >> 64) as u64
    }

    /// Uniform in `from` (included) to `to` (excluded).
    pub fn between(&mut self, from: f64, to: f64) -> f64 {
        from + (to - from) * self.share()
    }

    /// Mean 0, standard deviation 1: the sum of twelve uniforms, which needs no function of the platform and
    /// is normal enough up to three sigma. Never beyond 6.
    pub fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.share()).sum::<f64>() - 6.0
    }

    /// Exponential with this mean.
    pub fn exponential(&mut self, mean: f64) -> f64 {
        -mean * (1.0 - self.share()).ln()
    }

    /// Pareto from `shortest` on with this tail exponent.
    pub fn pareto(&mut self, shortest: f64, exponent: f64) -> f64 {
        shortest / (1.0 - self.share()).powf(1.0 / exponent)
    }

    /// `N` random bytes.
    pub fn bytes<const N: usize>(&mut self) -> [u8; N] {
        std::array::from_fn(|_| self.bits() as u8)
    }
}

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stream_is_that_of_the_published_generator() {
        // First outputs of SplitMix64 for seed 1234567, as its authors' reference code prints them.
        let mut random = Random::new(1_234_567);
        assert_eq!(random.bits(), 6_457_827_717_110_365_317);
        assert_eq!(random.bits(), 3_203_168_211_198_807_973);
    }

    #[test]
    fn draws_have_the_moments_they_promise() {
        let mut random = Random::new(1);
        let mean_of = |draws: Vec<f64>| draws.iter().sum::<f64>() / draws.len() as f64;
        let normal: Vec<f64> = (0..100_000).map(|_| random.normal()).collect();
        assert!(mean_of(normal.clone()).abs() < 0.02);
        assert!((mean_of(normal.iter().map(|x| x * x).collect()) - 1.0).abs() < 0.02);
        assert!((mean_of((0..100_000).map(|_| random.exponential(3.0)).collect()) - 3.0).abs() < 0.05);
        // The mean of a Pareto distribution is exponent / (exponent - 1) times its shortest value.
        assert!((mean_of((0..100_000).map(|_| random.pareto(2.0, 3.0)).collect()) - 3.0).abs() < 0.05);
        assert!((0..1_000).all(|_| random.below(7) < 7));
    }

    #[test]
    fn forks_with_different_labels_differ_and_leave_the_parent_alone() {
        let mut parent = Random::new(9);
        let untouched = parent.clone().bits();
        assert_ne!(parent.fork(1).bits(), parent.fork(2).bits());
        assert_eq!(parent.bits(), untouched);
    }
}
