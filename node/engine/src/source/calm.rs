//! How rarely a stream may stumble for a player to stop noticing.
//!
//! A share of lost blocks says little about what is heard: half a percent is a hole every half second. Telephony counts
//! *errored seconds* (ITU-T G.826): seconds with any error in them. This value remembers the worst lead of each second
//! of the last minute and says which playhead offset would have left all but [`PERMITTED_SECONDS`] of them whole.

/// Seconds of memory.
const SECONDS: usize = 60;
/// Seconds with a miss in them that a minute may have.
const PERMITTED_SECONDS: usize = 3;

/// The lowest lead of each second, in a ring.
#[derive(Debug)]
pub(super) struct Calm {
    lowest: [f32; SECONDS],
    now: usize,
    second_frames: f64,
    elapsed_frames: f64,
}

impl Calm {
    /// Nothing seen yet, of a stream with `second_frames` frames a second.
    pub(super) fn new(second_frames: f64) -> Self {
        Self {
            lowest: [f32::INFINITY; SECONDS],
            now: 0,
            second_frames: second_frames.max(1.0),
            elapsed_frames: 0.0,
        }
    }

    pub(super) fn forget(&mut self) {
        self.lowest = [f32::INFINITY; SECONDS];
        self.elapsed_frames = 0.0;
    }

    /// Notes the lead of a block.
    pub(super) fn note(&mut self, lead: f32) {
        if let Some(lowest) = self.lowest.get_mut(self.now) {
            *lowest = lowest.min(lead);
        }
    }

    /// Lets `frames` go by.
    pub(super) fn advance(&mut self, frames: f64) {
        self.elapsed_frames += frames;
        if self.elapsed_frames >= self.second_frames {
            self.elapsed_frames %= self.second_frames;
            self.now = (self.now + 1) % SECONDS;
            if let Some(lowest) = self.lowest.get_mut(self.now) {
                *lowest = f32::INFINITY;
            }
        }
    }

    /// The highest offset at which no more than [`PERMITTED_SECONDS`] of the last minute would have had a miss.
    pub(super) fn bound(&self) -> Option<f32> {
        let mut worst = [f32::INFINITY; PERMITTED_SECONDS + 1];
        for &lead in &self.lowest {
            let place = worst.partition_point(|other| *other <= lead);
            if place < worst.len() {
                worst.copy_within(place..PERMITTED_SECONDS, place + 1);
                worst.iter_mut().skip(place).take(1).for_each(|slot| *slot = lead);
            }
        }
        worst.last().copied().filter(|lead| lead.is_finite())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fourth_errored_second_of_a_minute_counts_and_is_forgotten_after_one() {
        let mut calm = Calm::new(100.0);
        assert_eq!(calm.bound(), None, "nothing is known");
        let mut second = |worst: f32| {
            for lead in [0.0, worst, 0.0, 0.0] {
                calm.note(lead);
                calm.advance(25.0);
            }
            calm.bound()
        };
        for _ in 0..3 {
            second(-128.0);
        }
        assert_eq!(second(0.0), Some(0.0));
        assert_eq!(second(-64.0), Some(-64.0));
        for _ in 0..SECONDS - 6 {
            assert_eq!(second(0.0), Some(-64.0));
        }
        assert_eq!(second(0.0), Some(0.0), "the first is more than a minute ago");
    }

    proptest::proptest! {
        #[test]
        fn bound_is_the_order_statistic(leads in proptest::collection::vec(-500i16..500, 4..60)) {
            let mut calm = Calm::new(1.0);
            for &lead in &leads {
                calm.note(f32::from(lead));
                calm.advance(1.0);
            }
            let mut sorted = leads.clone();
            sorted.sort_unstable();
            proptest::prop_assert_eq!(calm.bound(), Some(f32::from(sorted[PERMITTED_SECONDS])));
        }
    }
}
