//! How late this program's threads wake up.
//!
//! `/proc/stat` does not show it when a container or a virtual machine is given less time than it asks for, and a mean of a
//! second hides a burst. A task that wants to wake up every 20 ms and looks at the clock sees both.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{
    task::AbortHandle,
    time::{Instant, MissedTickBehavior, interval},
};

/// Time between two looks: often enough to meet a burst, and nothing to a processor.
const EVERY: Duration = Duration::from_millis(20);

/// Measures until it is dropped.
pub struct WakeMeter {
    late_us: Arc<AtomicU64>,
    task: AbortHandle,
}

impl WakeMeter {
    /// Starts measuring, on the runtime of the caller.
    pub fn start() -> Self {
        let late_us = Arc::new(AtomicU64::new(0));
        let latest = late_us.clone();
        let measuring = tokio::spawn(async move {
            let mut ticks = interval(EVERY);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
            loop {
                let due = ticks.tick().await;
                let late = Instant::now().saturating_duration_since(due);
                latest.fetch_max(late.as_micros() as u64, Relaxed);
            }
        });
        Self { late_us, task: measuring.abort_handle() }
    }

    /// The latest since the last call, ms.
    pub fn take_late_ms(&self) -> f64 {
        self.late_us.swap(0, Relaxed) as f64 / 1e3
    }
}

impl Drop for WakeMeter {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn whoever_blocks_the_runtime_is_seen_once() {
        let meter = WakeMeter::start();
        tokio::time::sleep(3 * EVERY).await;
        meter.take_late_ms();
        // This runtime has one thread; a busy machine does the same to it.
        std::thread::sleep(5 * EVERY);
        tokio::time::sleep(EVERY / 4).await;
        let late_ms = meter.take_late_ms();
        assert!(late_ms >= 50.0, "{late_ms}");
        assert!(meter.take_late_ms() < late_ms);
    }
}
