//! What audio and MIDI need from the operating system: the time, an exact wake-up, by a device too, and priority.
//!
//! `std` has none of them in the form needed: `Instant` hides its number, `sleep` is relative (its error adds up) and
//! thread priority is missing. The only `unsafe` of the device code that talks to Linux is here.

use std::io;

/// Nanoseconds of CLOCK_MONOTONIC, the time base of every `host_time_ns`.
///
/// Thread-safe: yes. Realtime-safe: yes, it reads a page the kernel shares and enters no system call.
pub fn monotonic_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    #[allow(unsafe_code, reason = "the kernel's clock by its C interface")]
    // SAFETY: `time` is a valid, writable timespec for the length of the call.
    unsafe {
        libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time);
    }
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Sleeps until `deadline_ns` on [`monotonic_ns`]'s clock; returns at once if that is past.
pub fn sleep_until(deadline_ns: u64) {
    let deadline = libc::timespec {
        tv_sec: (deadline_ns / 1_000_000_000) as libc::time_t,
        tv_nsec: (deadline_ns % 1_000_000_000) as libc::c_long,
    };
    loop {
        #[allow(unsafe_code, reason = "an absolute sleep exists only in C")]
        // SAFETY: `deadline` is a valid timespec, and with TIMER_ABSTIME the remainder pointer may be null.
        let result = unsafe {
            libc::clock_nanosleep(libc::CLOCK_MONOTONIC, libc::TIMER_ABSTIME, &deadline, std::ptr::null_mut())
        };
        if result != libc::EINTR {
            return;
        }
    }
}

/// Sleeps until something can be read from one of `files`, at most for `timeout`.
#[cfg(feature = "devices")]
pub(super) fn wait_readable(files: &mut [libc::pollfd], timeout: std::time::Duration) {
    let timeout = libc::timespec {
        tv_sec: timeout.as_secs() as libc::time_t,
        tv_nsec: timeout.subsec_nanos() as libc::c_long,
    };
    #[allow(unsafe_code, reason = "poll with a timeout finer than a millisecond exists only in C")]
    // SAFETY: pointer and length are those of a live slice, `timeout` outlives the call, and no signal mask is given.
    unsafe {
        libc::ppoll(files.as_mut_ptr(), files.len() as libc::nfds_t, &timeout, std::ptr::null());
    }
}

/// Gives the calling thread SCHED_FIFO with `priority` (1 to 99).
pub fn use_realtime_priority(priority: i32) -> io::Result<()> {
    let parameter = libc::sched_param { sched_priority: priority };
    #[allow(unsafe_code, reason = "thread priority exists only in C")]
    // SAFETY: `parameter` outlives the call; pthread_self is always a valid thread.
    let result = unsafe { libc::pthread_setschedparam(libc::pthread_self(), libc::SCHED_FIFO, &parameter) };
    if result == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(result)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sleep_ends_at_or_after_its_deadline_and_a_past_deadline_returns_at_once() {
        let start = monotonic_ns();
        sleep_until(start + 2_000_000);
        let woke = monotonic_ns();
        assert!(woke >= start + 2_000_000);
        sleep_until(start);
        sleep_until(0);
    }
}
