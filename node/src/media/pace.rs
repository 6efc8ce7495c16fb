//! When the packetiser should look for the next period of audio.
//!
//! The audio callback may not make a system call, so it cannot wake anybody. Looking all the time would
//! burn a core, looking once a period would add up to a period of latency. But callbacks are regular: this
//! value learns how long after the start of a callback its audio tends to be ready, sleeps until just before
//! that, and then looks in short steps until it is there.

/// Step between two looks around the expected moment, ns.
const STEP_NS: u64 = 60_000;
/// How much before the expected moment looking begins, ns: scheduling noise of a quiet machine.
const EARLY_NS: u64 = 90_000;
/// Longest sleep, ns: how soon a device that starts again, or a timer of another core, is noticed.
const LONGEST_NS: u64 = 2_000_000;
/// Weight of the past in the lag estimate, as a right shift: 1/16 of each error is taken.
const LAG_SHIFT: u32 = 4;

/// Learns the rhythm of one device. All times are host times in ns.
#[derive(Debug)]
pub struct Pacer {
    period_ns: u64,
    last_callback_ns: Option<u64>,
    /// From the start of a callback to its audio being seen, smoothed, ns.
    lag_ns: u64,
}

impl Pacer {
    /// A pacer for callbacks every `period_ns`.
    pub fn new(period_ns: u64) -> Self {
        Self { period_ns: period_ns.max(1), last_callback_ns: None, lag_ns: EARLY_NS }
    }

    /// A block of `period_ns` whose callback began at `callback_ns` was found at `now_ns`.
    pub fn found(&mut self, now_ns: u64, callback_ns: u64, period_ns: u64) {
        self.period_ns = period_ns.max(1);
        self.last_callback_ns = Some(callback_ns);
        let lag = now_ns.saturating_sub(callback_ns).min(self.period_ns);
        // Finding it at the first look says only that it was there by then, so the estimate also creeps
        // down by itself; it rises when looks came too early.
        self.lag_ns =
            (self.lag_ns - (self.lag_ns >> LAG_SHIFT) + (lag >> LAG_SHIFT)).saturating_sub(STEP_NS >> 5);
    }

    /// When to look next, never later than `by_ns` (another deadline).
    pub fn next_look(&self, now_ns: u64, by_ns: u64) -> u64 {
        let latest = by_ns.min(now_ns.saturating_add(LONGEST_NS));
        let Some(last) = self.last_callback_ns else { return latest.max(now_ns) };
        let expected = last.saturating_add(self.period_ns).saturating_add(self.lag_ns);
        let begin = expected.saturating_sub(EARLY_NS);
        let next = if now_ns < begin {
            begin
        } else if now_ns < expected.saturating_add(2 * self.period_ns) {
            now_ns.saturating_add(STEP_NS)
        } else {
            // The device has stopped; do not burn the core on it.
            latest
        };
        next.min(latest).max(now_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PERIOD: u64 = 2_666_667;

    /// Runs callbacks whose audio is ready `ready_after` ns after they begin; returns looks per period and the
    /// mean wait between ready and found, ns.
    fn run(ready_after: u64, periods: u64) -> (f64, f64) {
        let mut pacer = Pacer::new(PERIOD);
        let (mut now, mut looks, mut waited) = (0, 0u64, 0u64);
        for k in 1..=periods {
            let callback = k * PERIOD;
            loop {
                now = pacer.next_look(now, u64::MAX);
                looks += 1;
                if now >= callback + ready_after {
                    break;
                }
            }
            if k > periods / 2 {
                waited += now - callback - ready_after;
            }
            pacer.found(now, callback, PERIOD);
        }
        (looks as f64 / periods as f64, waited as f64 / (periods / 2) as f64)
    }

    #[test]
    fn audio_is_found_soon_after_it_is_ready_with_few_looks() {
        for ready_after in [10_000, 150_000, 900_000] {
            let (looks, waited) = run(ready_after, 4_000);
            assert!(looks < 6.0, "{looks} looks a period");
            assert!(waited < 100_000.0, "found {waited} ns late");
        }
    }

    #[test]
    fn a_device_that_stopped_is_looked_at_rarely() {
        let mut pacer = Pacer::new(PERIOD);
        pacer.found(1_000, 0, PERIOD);
        let now = 20 * PERIOD;
        assert_eq!(pacer.next_look(now, u64::MAX), now + LONGEST_NS);
    }

    #[test]
    fn another_deadline_is_kept() {
        let mut pacer = Pacer::new(PERIOD);
        pacer.found(1_000, 0, PERIOD);
        assert_eq!(pacer.next_look(2_000, 5_000), 5_000);
    }
}
