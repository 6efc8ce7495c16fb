//! When to try a lost device again.
//!
//! A USB cable comes back in a second, a JACK server after its user finds the terminal, a broken card never. Trying often
//! at first and ever less later serves all three. A pure value: time is passed in.

use std::time::Duration;

const FIRST_RETRY: Duration = Duration::from_millis(250);
const LAST_RETRY: Duration = Duration::from_secs(5);

/// A device that fails sooner than this after opening has not recovered; waits go on growing.
const SETTLED: Duration = Duration::from_secs(2);

/// Decides when a device is opened again. Times are nanoseconds of any one steady clock.
#[derive(Clone, Debug, Default)]
pub struct Recovery {
    attempts: u32,
    retry_at_ns: Option<u64>,
    opened_at_ns: Option<u64>,
}

/// What [`Recovery`] wants done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecoveryAction {
    /// Open the device now and tell the outcome by `handle_opened` or `handle_failed`.
    Reopen,
}

impl Recovery {
    /// The device is lost, or must be reopened for a new rate. The first attempt is due at once, unless the device was
    /// open for less than two seconds: one that opens and fails in turn must not keep the machine busy.
    pub fn handle_lost(&mut self, now_ns: u64) {
        let settled =
            self.opened_at_ns.take().is_none_or(|at| now_ns.saturating_sub(at) >= SETTLED.as_nanos() as u64);
        if settled {
            self.attempts = 0;
            self.retry_at_ns = Some(now_ns);
        } else {
            self.handle_failed(now_ns);
        }
    }

    /// The device is open.
    pub fn handle_opened(&mut self, now_ns: u64) {
        self.retry_at_ns = None;
        self.opened_at_ns = Some(now_ns);
    }

    /// The attempt failed. Returns the wait until the next: 250 ms, doubling up to 5 s.
    pub fn handle_failed(&mut self, now_ns: u64) -> Duration {
        let doubled = FIRST_RETRY.saturating_mul(1 << self.attempts.min(10));
        let wait = doubled.min(LAST_RETRY);
        self.attempts = self.attempts.saturating_add(1);
        self.retry_at_ns = Some(now_ns.saturating_add(wait.as_nanos() as u64));
        wait
    }

    /// What to do now; one answer for each due time.
    pub fn poll(&mut self, now_ns: u64) -> Option<RecoveryAction> {
        let due = self.retry_at_ns.is_some_and(|at| at <= now_ns);
        due.then(|| {
            self.retry_at_ns = None;
            RecoveryAction::Reopen
        })
    }

    /// When [`Recovery::poll`] next has something; `None` while the device is well.
    pub fn poll_deadline(&self) -> Option<u64> {
        self.retry_at_ns
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_thin_out_to_one_in_five_seconds_and_start_over_after_success() {
        let mut recovery = Recovery::default();
        assert_eq!(recovery.poll(0), None);
        let mut now = 1_000;
        recovery.handle_lost(now);
        let mut waits = Vec::new();
        for _ in 0..7 {
            assert_eq!(recovery.poll(now), Some(RecoveryAction::Reopen));
            assert_eq!(recovery.poll(now), None, "one attempt at a time");
            waits.push(recovery.handle_failed(now).as_millis());
            now = recovery.poll_deadline().unwrap();
            assert_eq!(recovery.poll(now - 1), None);
        }
        assert_eq!(waits, [250, 500, 1000, 2000, 4000, 5000, 5000]);
        recovery.handle_opened(now);
        assert_eq!(recovery.poll_deadline(), None);
        now += SETTLED.as_nanos() as u64;
        recovery.handle_lost(now);
        assert_eq!(recovery.poll(now), Some(RecoveryAction::Reopen));
        assert_eq!(recovery.handle_failed(now).as_millis(), 250);
    }

    #[test]
    fn a_device_that_opens_and_fails_in_turn_is_tried_ever_less_often() {
        let mut recovery = Recovery::default();
        let mut now = 0;
        recovery.handle_lost(now);
        let mut attempts = 0;
        while now < 60_000_000_000 {
            assert_eq!(recovery.poll(now), Some(RecoveryAction::Reopen));
            attempts += 1;
            recovery.handle_opened(now);
            recovery.handle_lost(now + 1_000_000);
            now = recovery.poll_deadline().unwrap();
        }
        assert!(attempts <= 18, "{attempts} attempts in a minute");
    }
}
