//! Frames between frames.
//!
//! Two sound cards never agree: one gives 48,000 frames a second, another 48,003, a third 44,100. The
//! playhead then moves by a little more or less than one frame, and lands between frames. This reads there,
//! by windowed sinc (J. O. Smith, "Digital Audio Resampling", 2002), straight from the timestamped buffer: no
//! state of its own, so it can be left out, bit for bit, whenever the playhead is on a frame.
//!
//! A kernel needs as many frames ahead as behind, and frames ahead are latency. So there is a family of
//! kernels, and the longest is used for which the frames have come.

/// Reach of the longest kernel at equal rates, in frames. 32 taps are flat to 20 kHz at 48 kHz.
pub(crate) const DRIFT_REACH: usize = 16;
/// Reach when the rates differ, where the kernel also has to keep aliases out; in frames of the slower of the two.
const CONVERSION_REACH: usize = 24;
/// Rows of the table of a kernel that lets the whole band through, one for each step between two frames.
const PHASES: usize = 256;

/// A set of windowed-sinc kernels for one source.
#[derive(Debug)]
pub(crate) struct Interpolator {
    /// From short to long.
    kernels: Vec<Kernel>,
}

impl Interpolator {
    /// Kernels to read a stream at `ratio` frames of the stream per frame of output. With `ratio` 1 only
    /// drift is to be corrected, and shorter kernels are there for when little has come.
    pub(crate) fn new(ratio: f64) -> Self {
        let kernels = if ratio == 1.0 {
            [1, 2, 4, 8, DRIFT_REACH].iter().map(|&reach| Kernel::new(reach, 1.0, PHASES)).collect()
        } else {
            // What keeps out all above the slower card's band is as long as that card's frames. It also changes as slowly
            // from row to row, so that the table does not grow.
            let shrink = ratio.max(1.0);
            let reach = (CONVERSION_REACH as f64 * shrink).ceil() as usize;
            let phases = (PHASES as f64 / shrink).ceil() as usize;
            vec![Kernel::new(reach, 0.92 / shrink, phases)]
        };
        Self { kernels }
    }

    /// Reach of the longest kernel, in frames of the stream.
    pub(crate) fn longest_reach(&self) -> usize {
        self.kernels.last().map_or(0, |kernel| kernel.reach)
    }

    /// The longest kernel that needs no more than `ahead` frames after the playhead; the shortest if none
    /// does.
    pub(crate) fn kernel(&self, ahead: usize) -> Option<&Kernel> {
        self.kernels.iter().rev().find(|k| k.reach <= ahead).or(self.kernels.first())
    }
}

/// One windowed sinc, tabulated.
#[derive(Debug)]
pub(crate) struct Kernel {
    /// Frames needed before and after the playhead.
    pub(crate) reach: usize,
    phases: usize,
    /// `phases + 1` rows of `2 * reach` taps.
    table: Vec<f32>,
}

impl Kernel {
    fn new(reach: usize, cutoff: f64, phases: usize) -> Self {
        let taps = 2 * reach;
        let mut table = Vec::with_capacity((phases + 1) * taps);
        for phase in 0..=phases {
            let fraction = phase as f64 / phases as f64;
            let row: Vec<f64> = (0..taps)
                .map(|tap| {
                    let distance = tap as f64 - (reach as f64 - 1.0) - fraction;
                    if reach == 1 {
                        1.0 - distance.abs()
                    } else {
                        cutoff * sinc(cutoff * distance) * kaiser(distance / reach as f64)
                    }
                })
                .collect();
            let sum: f64 = row.iter().sum();
            table.extend(row.iter().map(|tap| (tap / sum) as f32));
        }
        Self { reach, phases, table }
    }

    /// Reads at `position` frames into `frames`, where the frame at index `reach - 1` has position 0.
    #[inline]
    pub(crate) fn read(&self, frames: &[f32], position: f64) -> f32 {
        let taps = 2 * self.reach;
        let whole = position as usize;
        let phase = (position - whole as f64) * self.phases as f64;
        let row = (phase as usize).min(self.phases - 1);
        let between = (phase - row as f64) as f32;
        let (Some(near), Some(far), Some(window)) = (
            self.table.get(row * taps..(row + 1) * taps),
            self.table.get((row + 1) * taps..(row + 2) * taps),
            frames.get(whole..whole + taps),
        ) else {
            return 0.0;
        };
        let (mut a, mut b) = (0.0, 0.0);
        for ((near, far), sample) in near.iter().zip(far).zip(window) {
            a += near * sample;
            b += far * sample;
        }
        a + (b - a) * between
    }
}

fn sinc(x: f64) -> f64 {
    if x.abs() < 1e-12 { 1.0 } else { (std::f64::consts::PI * x).sin() / (std::f64::consts::PI * x) }
}

/// Kaiser window of shape 8 over -1..1: side lobes below -80 dB.
fn kaiser(x: f64) -> f64 {
    const SHAPE: f64 = 8.0;
    let inside = (1.0 - x * x).max(0.0).sqrt();
    bessel_i0(SHAPE * inside) / bessel_i0(SHAPE)
}

fn bessel_i0(x: f64) -> f64 {
    let mut term = 1.0;
    let mut sum = 1.0;
    for k in 1..40 {
        term *= (x / (2.0 * f64::from(k))).powi(2);
        sum += term;
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snr_db(ratio: f64, hz: f64, rate_in: f64, ahead: usize) -> f64 {
        let interpolator = Interpolator::new(ratio);
        let kernel = interpolator.kernel(ahead).unwrap();
        let omega = std::f64::consts::TAU * hz / rate_in;
        let lead = kernel.reach as f64 - 1.0;
        let length = (3_001.0 * ratio * 1.000_1) as usize + 2 * kernel.reach;
        let input: Vec<f32> = (0..length).map(|n| ((n as f64 - lead) * omega).sin() as f32).collect();
        let (mut signal, mut noise) = (0.0, 0.0);
        for n in 0..3000 {
            let position = n as f64 * ratio * 1.000_1 + 0.37;
            let truth = (position * omega).sin();
            let heard = f64::from(kernel.read(&input, position));
            signal += truth * truth;
            noise += (truth - heard).powi(2);
        }
        10.0 * (signal / noise).log10()
    }

    #[test]
    fn drift_correction_is_transparent_in_the_audible_range() {
        for hz in [100.0, 1_000.0, 10_000.0, 16_000.0] {
            let snr = snr_db(1.0, hz, 48_000.0, 100);
            assert!(snr > 70.0, "{hz} Hz: {snr:.0} dB");
        }
    }

    #[test]
    fn rates_convert_cleanly_both_ways() {
        for (from, to) in [
            (44_100.0, 48_000.0),
            (48_000.0, 44_100.0),
            (96_000.0, 48_000.0),
            (192_000.0, 48_000.0),
            (192_000.0, 8_000.0),
            (8_000.0, 48_000.0),
        ] {
            let snr = snr_db(from / to, 3_000.0, from, 100);
            assert!(snr > 60.0, "{from} to {to}: {snr:.0} dB");
        }
    }

    #[test]
    fn what_is_above_the_slower_card_s_band_does_not_come_back_below_it() {
        for (from, to) in
            [(48_000.0, 44_100.0), (96_000.0, 48_000.0), (192_000.0, 48_000.0), (192_000.0, 8_000.0)]
        {
            let interpolator = Interpolator::new(from / to);
            let kernel = interpolator.kernel(usize::MAX).unwrap();
            // A quarter above half of the slower rate, or as far as the faster one goes.
            let hz: f64 = (0.5 * to * 1.25_f64).min(0.5 * from);
            let omega = std::f64::consts::TAU * hz / from;
            let input: Vec<f32> =
                (0..2_000 + 2 * kernel.reach).map(|n| (n as f64 * omega + 0.7).sin() as f32).collect();
            let reads = (2_000.0 / (from / to)) as usize - 1;
            let power =
                (0..reads).map(|n| f64::from(kernel.read(&input, n as f64 * from / to)).powi(2)).sum::<f64>();
            let db = 10.0 * (2.0 * power / reads as f64).log10();
            assert!(db < -60.0, "{hz} Hz from {from} to {to}: {db:.0} dB");
        }
    }

    #[test]
    fn short_kernels_take_over_when_little_has_come() {
        let interpolator = Interpolator::new(1.0);
        let reach = |ahead| interpolator.kernel(ahead).unwrap().reach;
        assert_eq!([reach(0), reach(1), reach(3), reach(15), reach(16), reach(500)], [1, 1, 2, 8, 16, 16]);
        assert!(snr_db(1.0, 1_000.0, 48_000.0, 1) > 45.0);
    }
}
