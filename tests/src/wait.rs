//! Waiting for a condition, never for time to pass.

use crate::machine::is_inside;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How often a condition is looked at: small beside everything a test measures by waiting.
const POLL: Duration = Duration::from_millis(5);

/// `count` milliseconds.
pub const fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// `count` seconds.
pub const fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// A limit says when a person would lose patience; an emulated processor is ten times slower than theirs.
pub(crate) fn patience(limit: Duration) -> Duration {
    if is_inside() { 6 * limit } else { limit }
}

/// Waits until `condition` holds and returns how long that took; fails, naming `what`, after `limit`.
#[track_caller]
pub fn eventually(limit: Duration, what: &str, mut condition: impl FnMut() -> bool) -> Duration {
    let began = Instant::now();
    eventually_some(limit, what, || condition().then_some(()));
    began.elapsed()
}

/// Waits until `probe` yields a value and returns it; fails, naming `what`, after `limit`.
#[track_caller]
pub fn eventually_some<T>(limit: Duration, what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let limit = patience(limit);
    let began = Instant::now();
    loop {
        if let Some(value) = probe() {
            return value;
        }
        assert!(began.elapsed() < limit, "after {limit:?} still not so: {what}");
        sleep(POLL);
    }
}
