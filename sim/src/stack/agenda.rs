//! What will happen when, to the nanosecond, on tokio's paused clock.
//!
//! A paused tokio clock jumps to the next timer when nothing else is left to do, but only in whole milliseconds, and a
//! packet on a LAN takes 0.3 of one. So the world keeps an agenda of its own and is asked by the runtime whenever it has
//! run out of work: within a millisecond the agenda moves the clock itself; to a later one it lets tokio jump, by a timer
//! that lies on that millisecond. Timers of libp2p, quinn and the driver stay tokio's, with the granularity they have in
//! the product.

use std::{
    cell::Cell,
    collections::BTreeMap,
    future::Future,
    pin::{Pin, pin},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Waker},
    time::Duration,
};

use tokio::{
    sync::oneshot,
    time::{Instant, Sleep},
};

use crate::clock::WorldTime;

const TICK_NS: u64 = 1_000_000;

thread_local! {
    /// When the world that runs on this thread began.
    static BEGUN: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// How long the world on this thread has lasted, ns; `None` without one. For whoever has to answer a question for the
/// time in its place.
pub fn elapsed_ns() -> Option<u64> {
    let begun = BEGUN.try_with(Cell::get).ok().flatten()?;
    u64::try_from(Instant::now().saturating_duration_since(begun).as_nanos()).ok()
}

type Action = Box<dyn FnOnce() + Send>;

/// The world's events to come. Cheap to clone.
#[derive(Clone, Default)]
pub struct Agenda(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    /// By time, then in the order they were entered.
    actions: BTreeMap<(WorldTime, u64), Action>,
    entered: u64,
    /// Brings tokio to the millisecond before the next action.
    alarm: Option<Pin<Box<Sleep>>>,
}

impl Agenda {
    /// Runs `main` in a runtime of its own, on this thread, from world time 0 until it is done.
    ///
    /// # Errors
    /// The runtime cannot be made.
    pub fn run<T>(&self, main: impl Future<Output = T>) -> std::io::Result<T> {
        let agenda = self.clone();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .on_thread_park(move || agenda.handle_idle())
            .build()?;
        let done = runtime.block_on(async {
            BEGUN.set(Some(Instant::now()));
            main.await
        });
        // The tasks that are left end while their clock still runs.
        self.lock().alarm = None;
        drop(runtime);
        BEGUN.set(None);
        // Actions hold what they act on, which holds this agenda.
        self.lock().actions.clear();
        Ok(done)
    }

    /// The present.
    pub fn now(&self) -> WorldTime {
        WorldTime(elapsed_ns().unwrap_or(0))
    }

    /// Does `action` at `time`, or at once if that is past. Actions of one moment are done in the order they were entered.
    pub fn at(&self, time: WorldTime, action: impl FnOnce() + Send + 'static) {
        let mut inner = self.lock();
        inner.entered += 1;
        let key = (time, inner.entered);
        inner.actions.insert(key, Box::new(action));
    }

    /// Completes at `time`.
    pub async fn sleep_until(&self, time: WorldTime) {
        let (wake, woken) = oneshot::channel();
        self.at(time, move || {
            // Nobody may be waiting any more.
            let _ = wake.send(());
        });
        // An agenda outlives its run, so this is only lost when the waiter is lost too.
        let _ = woken.await;
    }

    /// Completes after `duration`.
    pub async fn sleep(&self, duration: Duration) {
        self.sleep_until(self.now() + duration).await;
    }

    /// The runtime has nothing to do at this moment.
    fn handle_idle(&self) {
        let now = self.now();
        let next = self.next();
        if next.is_none() {
            self.lock().alarm = None;
        }
        let next = next.unwrap_or(WorldTime(u64::MAX));
        if next <= now {
            self.do_what_is_due(now);
            // What was done need not have woken anybody; without work tokio would jump past the next action.
            come_back();
            return;
        }
        let tick = now.0 - now.0 % TICK_NS;
        if next.0 < tick + TICK_NS {
            advance(next.since(now));
        } else if now.0 > tick {
            // tokio counts its jumps from whole milliseconds, so it must begin them there.
            advance(Duration::from_nanos(tick + TICK_NS - now.0));
        } else if next.0 < u64::MAX {
            self.set_alarm(WorldTime(next.0 - next.0 % TICK_NS));
        }
    }

    fn do_what_is_due(&self, now: WorldTime) {
        loop {
            // Not held while it is done: it may enter more.
            let due = {
                let mut inner = self.lock();
                match inner.actions.first_entry() {
                    Some(first) if first.key().0 <= now => first.remove(),
                    _ => return,
                }
            };
            due();
        }
    }

    fn set_alarm(&self, at: WorldTime) {
        let Some(begun) = BEGUN.get() else { return };
        let at = begun + Duration::from_nanos(at.0);
        let mut inner = self.lock();
        let alarm = inner.alarm.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(at)));
        if alarm.deadline() != at || alarm.is_elapsed() {
            alarm.as_mut().reset(at);
        }
        // Polling enters it among tokio's timers. Nobody needs to be woken by it: that the clock stands there is enough.
        let _ = alarm.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    }

    fn next(&self) -> Option<WorldTime> {
        self.lock().actions.first_key_value().map(|((time, _), _)| *time)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Moves the clock. The runtime looks at its timers before it asks again.
fn advance(duration: Duration) {
    // The clock moves when this is first polled. What remains is a yield, which does the second half.
    let _ = pin!(tokio::time::advance(duration)).poll(&mut Context::from_waker(Waker::noop()));
}

/// Keeps the runtime from parking for good: it asks again after a look at its timers.
fn come_back() {
    let _ = pin!(tokio::task::yield_now()).poll(&mut Context::from_waker(Waker::noop()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn actions_happen_at_their_nanosecond_between_timers_of_tokio() {
        let agenda = Agenda::default();
        let seen = agenda
            .run(async {
                let mut seen = vec![];
                agenda.sleep_until(WorldTime(300_000)).await;
                seen.push(agenda.now().0);
                tokio::time::sleep(Duration::from_millis(2)).await;
                seen.push(agenda.now().0);
                agenda.sleep_until(WorldTime(5_000_000_001)).await;
                seen.push(agenda.now().0);
                agenda.sleep_until(WorldTime(5_000_000_002)).await;
                seen.push(agenda.now().0);
                seen
            })
            .unwrap();
        // tokio rounds 2.3 ms up to its next millisecond.
        assert_eq!(seen, [300_000, 3_000_000, 5_000_000_001, 5_000_000_002]);
    }

    #[test]
    fn what_wakes_nobody_does_not_let_the_clock_run_past_what_follows() {
        let agenda = Agenda::default();
        let seen = Arc::new(Mutex::new(vec![]));
        for at in [1_200_000, 1_200_000, 1_700_000, 9_000_000, 9_000_000, 60_000_000_400] {
            let (agenda_then, seen) = (agenda.clone(), seen.clone());
            agenda.at(WorldTime(at), move || seen.lock().unwrap().push(agenda_then.now().0));
        }
        agenda.run(async { tokio::time::sleep(Duration::from_secs(100)).await }).unwrap();
        assert_eq!(
            *seen.lock().unwrap(),
            [1_200_000, 1_200_000, 1_700_000, 9_000_000, 9_000_000, 60_000_000_400]
        );
    }

    #[test]
    fn the_past_happens_at_once_and_in_order() {
        let agenda = Agenda::default();
        let seen = Arc::new(Mutex::new(vec![]));
        agenda
            .run(async {
                agenda.sleep_until(WorldTime(7_000_000)).await;
                for name in ["first", "second"] {
                    let seen = seen.clone();
                    agenda.at(WorldTime(0), move || seen.lock().unwrap().push(name));
                }
                agenda.sleep(Duration::ZERO).await;
                assert_eq!(agenda.now(), WorldTime(7_000_000));
            })
            .unwrap();
        assert_eq!(*seen.lock().unwrap(), ["first", "second"]);
    }
}
