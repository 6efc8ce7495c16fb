//! The worst jitter of the last moments.
//!
//! RFC 3550's estimate follows each packet by a sixteenth and forgets a single one that was held up within some fifty packets:
//! whoever looks once a second hardly ever sees it. So the greatest is kept for the second in which it was and the one after.

use std::time::Duration;

use transport::time::LocalTime;

/// The greatest jitter of this second and the one before.
#[derive(Default)]
pub struct JitterPeak {
    second: u64,
    now: Duration,
    before: Duration,
}

impl JitterPeak {
    /// The jitter at `at`; call with every packet.
    pub fn note(&mut self, at: LocalTime, jitter: Duration) {
        let second = at.as_nanos() / 1_000_000_000;
        if second != self.second {
            self.before = if second == self.second + 1 { self.now } else { Duration::ZERO };
            (self.second, self.now) = (second, Duration::ZERO);
        }
        self.now = self.now.max(jitter);
    }

    /// The greatest noted, up to two seconds ago.
    pub fn peak(&self) -> Duration {
        self.now.max(self.before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peak_is_seen_by_who_looks_once_a_second_and_then_forgotten() {
        let ms = Duration::from_millis;
        let mut peak = JitterPeak::default();
        let mut seen = Vec::new();
        for at_ms in (0..5_000).step_by(10) {
            let jitter = if at_ms == 1_010 { ms(3) } else { Duration::ZERO };
            peak.note(LocalTime::from_nanos(at_ms * 1_000_000), jitter);
            if at_ms % 1_000 == 990 {
                seen.push(peak.peak());
            }
        }
        assert_eq!(seen, [ms(0), ms(3), ms(3), ms(0), ms(0)]);
    }
}
