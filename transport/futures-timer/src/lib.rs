//! The timer of libp2p's protocols, on tokio's clock.
//!
//! libp2p's swarm, identify and ping wait with the `Delay` of the crate `futures-timer`, which keeps a thread and a heap
//! of its own and reads the system's clock. Half of the stack would then live on another clock than QUIC and the mesh:
//! no simulator could stop it, and every node would run one thread more. This crate has the same name and the same
//! `Delay`, and takes its place by `[patch.crates-io]` in the workspace. It is tokio's `Sleep` and nothing else.
//!
//! Limits: it must be polled within a tokio runtime that has its timers enabled, and panics elsewhere, as everything of
//! tokio's does. It wakes up to 1 ms late, the granularity of tokio's timers.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::{Instant, Sleep};

/// About thirty years: what a wait counts as that is too long to be added to the present.
const FAR: Duration = Duration::from_secs(30 * 365 * 86_400);

/// Completes after a time.
pub struct Delay {
    due: Due,
    /// Made when first polled: whoever makes a `Delay` need not be in a runtime, whoever waits for it is.
    sleep: Option<Pin<Box<Sleep>>>,
}

/// When it completes.
#[derive(Debug, Clone, Copy)]
enum Due {
    At(Instant),
    /// Made outside a runtime, where tokio's clock cannot be read: counted from the first poll on.
    AfterFirstPoll(Duration),
}

impl Delay {
    /// Completes `duration` from now on; 0 completes when first polled or within 1 ms.
    pub fn new(duration: Duration) -> Self {
        let due = match Handle::try_current() {
            Ok(_) => Due::At(later(duration)),
            Err(_) => Due::AfterFirstPoll(duration),
        };
        Self { due, sleep: None }
    }

    /// Completes `duration` from now on instead, also if it has completed before.
    ///
    /// Whoever waits for it must poll it again.
    pub fn reset(&mut self, duration: Duration) {
        *self = Self::new(duration);
    }
}

fn later(duration: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(duration).unwrap_or_else(|| now + FAR)
}

impl Future for Delay {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let due = self.due;
        let sleep = self.sleep.get_or_insert_with(|| {
            Box::pin(tokio::time::sleep_until(match due {
                Due::At(at) => at,
                Due::AfterFirstPoll(duration) => later(duration),
            }))
        });
        sleep.as_mut().poll(cx)
    }
}

impl fmt::Debug for Delay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delay").field("due", &self.due).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);
    /// How late tokio may wake us.
    const GRANULARITY: Duration = Duration::from_millis(1);

    #[tokio::test(start_paused = true)]
    async fn it_waits_on_the_runtimes_clock_from_when_it_was_made() {
        let begun = Instant::now();
        let delay = Delay::new(MINUTE);
        tokio::time::sleep(MINUTE / 2).await;
        delay.await;
        let waited = begun.elapsed();
        assert!((MINUTE..=MINUTE + GRANULARITY).contains(&waited), "{waited:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_reset_begins_anew_even_after_the_end() {
        let mut delay = Delay::new(MINUTE);
        (&mut delay).await;
        let begun = Instant::now();
        delay.reset(2 * MINUTE);
        (&mut delay).await;
        let waited = begun.elapsed();
        assert!((2 * MINUTE..=2 * MINUTE + GRANULARITY).contains(&waited), "{waited:?}");
    }

    #[test]
    fn one_made_outside_a_runtime_waits_from_its_first_poll() {
        let delay = Delay::new(MINUTE);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        let waited = runtime.unwrap().block_on(async {
            let begun = Instant::now();
            delay.await;
            begun.elapsed()
        });
        assert!((MINUTE..=MINUTE + GRANULARITY).contains(&waited), "{waited:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn for_ever_is_no_overflow() {
        let waiting = tokio::time::timeout(100 * MINUTE, Delay::new(Duration::MAX));
        assert!(waiting.await.is_err());
    }
}
