//! Whether the machine itself keeps time.
//!
//! A virtual machine whose host has other work stands still several times a minute, and what is lost then is lost by
//! nobody's fault. The witnesses are threads, one per processor, that only sleep for short times at a priority above
//! everything that is tested. When one of them is not woken in time, the machine has *stumbled*.

use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::{Pid, gettid};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

/// How long a witness sleeps, and how much later it may wake: what is left of a period for everything between two
/// nodes is not much more.
const SLEEP: Duration = Duration::from_micros(250);
const LATE: Duration = Duration::from_micros(500);
/// Above JACK's own threads.
const PRIORITY: &str = "90";

/// The witnesses, until it is dropped.
#[derive(Debug)]
pub struct Watch {
    over: Arc<AtomicBool>,
}

impl Watch {
    /// Watches the machine and calls `stumbled`, on a thread of highest priority, right after each stumble.
    pub fn start(stumbled: impl Fn() + Clone + Send + 'static) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        for processor in 0..available_parallelism().map_or(1, usize::from) {
            let (over, stumbled) = (Arc::clone(&over), stumbled.clone());
            std::thread::spawn(move || witness(processor, &over, &stumbled));
        }
        Self { over }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

/// Sleeps and wakes on one processor, and tells when it was late.
fn witness(processor: usize, over: &AtomicBool, stumbled: &impl Fn()) {
    let mut processors = CpuSet::new();
    processors.set(processor).expect("a processor's number");
    sched_setaffinity(Pid::from_raw(0), &processors).expect("stay on one processor");
    let thread = gettid().to_string();
    let raised = Command::new("chrt").args(["--fifo", "--pid", PRIORITY, &thread]).status();
    assert!(
        raised.is_ok_and(|status| status.success()),
        "no realtime priority for the witness; run it as root"
    );
    while !over.load(Ordering::Relaxed) {
        let began = Instant::now();
        std::thread::sleep(SLEEP);
        if began.elapsed() > SLEEP + LATE {
            stumbled();
        }
    }
}
