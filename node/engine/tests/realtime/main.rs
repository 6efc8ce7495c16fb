//! The callback asks nothing of the system: no memory, no kernel.
//!
//! Two proofs over the same busy scenario. The allocator aborts the test when the callback allocates or
//! frees. Then a process of its own runs the callback on a thread for which the kernel answers any system
//! call with death: sleeping, a contended lock, a page from the heap, a line of log would each end it. What
//! neither can see is a lock that happens to be free; there is none in the package.

#![allow(clippy::unwrap_used, reason = "a test's stage may fall")]

mod scenario;

use scenario::{PERIOD, host_time, stage};

#[cfg(debug_assertions)]
#[global_allocator]
static ALLOCATOR: assert_no_alloc::AllocDisabler = assert_no_alloc::AllocDisabler;

/// 27 seconds of audio.
const CALLBACKS: u64 = 20_000;

#[test]
fn callback_neither_allocates_nor_frees() {
    let (mut engine, mut band) = stage();
    let input = [0.1; 2 * PERIOD];
    let mut output = [0.0; 2 * PERIOD];
    for callback in 0..CALLBACKS {
        band.prepare();
        assert_no_alloc::assert_no_alloc(|| engine.process(&input, &mut output, host_time(callback)));
        assert!(output.iter().all(|s| s.is_finite() && s.abs() <= 0.892));
    }
    // The scenario was as busy as it is meant to be.
    let (concealments, resets, drift_ppm) = band.outcome();
    assert!(concealments > 1_000 && resets >= 8 && (250.0..350.0).contains(&drift_ppm));
    assert!(band.reports > 50);
    assert!(band.read_frames > 4 * (CALLBACKS as usize - 100) * PERIOD);

    // A device that asks for more than it promised.
    let mut long = [0.0; 14 * PERIOD];
    assert_no_alloc::assert_no_alloc(|| engine.process(&[], &mut long, host_time(CALLBACKS)));
}

#[cfg(target_os = "linux")]
mod no_system_calls {
    use std::process::Command;
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
    use std::time::{Duration, Instant};

    use super::*;

    const ROLE: &str = "BANDMESH_ENGINE_TEST_ROLE";

    /// Runs the named test of this binary again as a process of its own, in a role.
    fn run_again(test: &str, role: &str) -> std::process::ExitStatus {
        let this = std::env::current_exe().unwrap();
        let output =
            Command::new(this).args(["--exact", test, "--nocapture"]).env(ROLE, role).output().unwrap();
        output.status
    }

    /// From here on any system call of this thread ends the process, but for the one it waits its turn with.
    fn forbid_system_calls() {
        use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, apply_filter};
        let filter = SeccompFilter::new(
            [(libc::SYS_sched_yield, Vec::new())].into_iter().collect(),
            SeccompAction::KillProcess,
            SeccompAction::Allow,
            std::env::consts::ARCH.try_into().unwrap(),
        )
        .unwrap();
        let program: BpfProgram = filter.try_into().unwrap();
        apply_filter(&program).unwrap();
    }

    /// Runs the scenario with the callback on a jailed thread; ends the process.
    fn jailed_scenario() -> ! {
        let (mut engine, mut band) = stage();
        let prepared: &'static AtomicU64 = Box::leak(Box::default());
        let done: &'static AtomicU64 = Box::leak(Box::default());
        std::thread::spawn(move || {
            let input = [0.1; 2 * PERIOD];
            let mut output = [0.0; 2 * PERIOD];
            forbid_system_calls();
            for callback in 0..CALLBACKS {
                while prepared.load(Ordering::Acquire) <= callback {
                    std::thread::yield_now();
                }
                engine.process(&input, &mut output, host_time(callback));
                done.store(callback + 1, Ordering::Release);
            }
            // Even ending a thread is a system call.
            loop {
                std::thread::yield_now();
            }
        });
        let deadline = Instant::now() + Duration::from_secs(120);
        for callback in 0..CALLBACKS {
            band.prepare();
            prepared.store(callback + 1, Ordering::Release);
            while done.load(Ordering::Acquire) <= callback {
                std::thread::yield_now();
                if Instant::now() > deadline {
                    std::process::exit(3);
                }
            }
        }
        std::process::exit(0);
    }

    #[test]
    fn callback_makes_no_system_call() {
        if std::env::var(ROLE).as_deref() == Ok("scenario") {
            jailed_scenario();
        }
        let status = run_again("no_system_calls::callback_makes_no_system_call", "scenario");
        assert!(status.success(), "the jailed callback ended with {status}");
    }

    #[test]
    fn jail_kills_what_does_call_the_system() {
        use std::os::unix::process::ExitStatusExt;
        if std::env::var(ROLE).as_deref() == Ok("caller") {
            let survived: &'static AtomicBool = Box::leak(Box::default());
            std::thread::spawn(move || {
                forbid_system_calls();
                std::thread::sleep(Duration::from_millis(1));
                survived.store(true, Ordering::Release);
                loop {
                    std::hint::spin_loop();
                }
            });
            let deadline = Instant::now() + Duration::from_secs(10);
            while !survived.load(Ordering::Acquire) && Instant::now() < deadline {
                std::thread::yield_now();
            }
            std::process::exit(0);
        }
        let status = run_again("no_system_calls::jail_kills_what_does_call_the_system", "caller");
        assert_eq!(status.signal(), Some(libc::SIGSYS), "{status}");
    }
}
