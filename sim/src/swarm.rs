//! Many runs on all processors, told in the order of their seeds.
//!
//! Each world is single-threaded, so runs go side by side, one a thread. Whoever reads the output compares it with another
//! day's, so a run that is done early waits for those before it; at most [`AHEAD`] wait for each thread, then that thread
//! waits.

use std::{
    collections::BTreeMap,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
};

/// Results per thread that may wait for an earlier one.
const AHEAD: u64 = 16;

struct State<T> {
    next: u64,
    taken: u64,
    done: BTreeMap<u64, T>,
    /// Nobody wants any more, or a thread was lost.
    over: bool,
    working: usize,
}

struct Shared<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
}

impl<T> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State<T>>) -> MutexGuard<'a, State<T>> {
        self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
    }
}

/// A thread that ends, well or not, says so, or the reader would wait for ever.
struct Leaving<'a, T>(&'a Shared<T>);

impl<T> Drop for Leaving<'_, T> {
    fn drop(&mut self) {
        self.0.lock().working -= 1;
        self.0.changed.notify_all();
    }
}

/// Calls `play` for `0..count` on `jobs` threads and `take` with each result, in order. Stops at the first error of
/// `take` and gives it back; runs that have begun are finished first.
///
/// # Panics
/// When `play` panics.
pub fn in_order<T: Send, E>(
    count: u64,
    jobs: usize,
    play: impl Fn(u64) -> T + Sync,
    mut take: impl FnMut(T) -> Result<(), E>,
) -> Result<(), E> {
    let jobs = jobs.max(1);
    let ahead = AHEAD * jobs as u64;
    let shared = Shared {
        state: Mutex::new(State { next: 0, taken: 0, done: BTreeMap::new(), over: false, working: jobs }),
        changed: Condvar::new(),
    };
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                let _leaving = Leaving(&shared);
                work(&shared, count, ahead, &play);
            });
        }
        let mut state = shared.lock();
        loop {
            let wanted = state.taken;
            if let Some(result) = state.done.remove(&wanted) {
                state.taken += 1;
                shared.changed.notify_all();
                drop(state);
                let taken = take(result);
                state = shared.lock();
                if taken.is_err() {
                    state.over = true;
                    shared.changed.notify_all();
                    return taken;
                }
            } else if state.working == 0 {
                return Ok(());
            } else {
                state = shared.wait(state);
            }
        }
    })
}

fn work<T>(shared: &Shared<T>, count: u64, ahead: u64, play: &impl Fn(u64) -> T) {
    loop {
        let mut state = shared.lock();
        while !state.over && state.next < count && state.next >= state.taken + ahead {
            state = shared.wait(state);
        }
        if state.over || state.next >= count {
            return;
        }
        let index = state.next;
        state.next += 1;
        drop(state);
        let result = play(index);
        shared.lock().done.insert(index, result);
        shared.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_order_whatever_the_threads_do() {
        for jobs in [1, 2, 7] {
            let mut seen = vec![];
            let play = |index: u64| {
                if index.is_multiple_of(10) {
                    std::thread::sleep(std::time::Duration::from_millis(3));
                }
                index
            };
            in_order(200, jobs, play, |index| {
                seen.push(index);
                Ok::<(), ()>(())
            })
            .unwrap();
            assert!(seen.into_iter().eq(0..200));
        }
    }

    #[test]
    fn an_error_of_the_reader_ends_it_and_no_thread_runs_far_ahead() {
        let begun = std::sync::atomic::AtomicU64::new(0);
        let play = |index: u64| {
            begun.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            index
        };
        let taken = in_order(1_000_000, 2, play, |index| if index < 5 { Ok(()) } else { Err("enough") });
        assert_eq!(taken, Err("enough"));
        let begun = begun.into_inner();
        assert!(begun <= 5 + 1 + 2 * AHEAD + 2, "{begun}");
    }
}
