//! Answers in the system's place: time and randomness of the whole process come from the world and its seed.
//!
//! libp2p's ping reads the real clock, std's hash maps seed themselves, TLS draws keys and nonces. None of them can be
//! handed another source from outside, so they are met where they all end: at libc's `clock_gettime`, `getrandom` and
//! `syscall`. A program that defines functions of these names has them called in place of libc's, by every library in it, and
//! finds libc's own as "the next of that name". aws-lc moreover mixes in what it measures of the CPU and, where there is one,
//! the CPU's random instruction; for its own tests it can be handed another source, and is handed the seed's.
//!
//! Only this program has this, only on Linux with glibc, and only after [`take_over`]. Limits: libraries that read the
//! clock or entropy by an instruction of the CPU see the real ones (aws-lc is the only one known to, and is dealt with);
//! glibc's own use of the clock, for timed waits, stays real, which matters to nobody in a single-threaded run.

#![allow(unsafe_code, reason = "libc's functions have C's signatures")]

use std::{
    cell::Cell,
    ffi::{CStr, c_char, c_int, c_long, c_uint, c_void},
    mem,
    ptr::{self, NonNull},
    sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, Ordering},
    time::Duration,
};

use libc::{clockid_t, size_t, ssize_t, timespec};

static TAKEN_OVER: AtomicBool = AtomicBool::new(false);
static DRAWN: AtomicU64 = AtomicU64::new(0);

/// What the clocks show when the world begins. Any moment will do that certificates are valid at.
const MONOTONIC_EPOCH_S: i64 = 1_000_000;
const REALTIME_EPOCH_S: i64 = 1_800_000_000;

thread_local! {
    /// Whether this thread is asking the world for the time, which must not ask us.
    static IS_ASKING: Cell<bool> = const { Cell::new(false) };
}

/// From now on time stands still but for the world, and every random byte of this process follows from `seed`.
///
/// # Errors
/// The cryptography library cannot be told; then some packets differ by bytes between two runs of a seed.
pub fn take_over(seed: u64) -> Result<(), &'static str> {
    DRAWN.store(seed, Ordering::SeqCst);
    TAKEN_OVER.store(true, Ordering::SeqCst);
    aws_lc::take_over()
}

/// Goes on with the randomness of `seed`.
pub fn reseed(seed: u64) {
    DRAWN.store(seed, Ordering::SeqCst);
}

/// What a real clock shows; only differences mean anything.
pub fn wall_clock() -> Duration {
    let mut time = timespec { tv_sec: 0, tv_nsec: 0 };
    if let Some(next) = next_clock_gettime() {
        // SAFETY: libc's function, with its signature, and a timespec that outlives the call.
        unsafe { next(libc::CLOCK_MONOTONIC, &mut time) };
    }
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32)
}

/// Bytes allocated and not freed.
pub fn heap_bytes() -> Option<u64> {
    // SAFETY: it only reads the allocator's own figures.
    let figures = unsafe { libc::mallinfo2() };
    Some((figures.uordblks + figures.hblkhd) as u64)
}

// Randomness.

/// The next 64 bits of SplitMix64, shared by all threads.
fn draw() -> u64 {
    let mut z = DRAWN.fetch_add(0x9E37_79B9_7F4A_7C15, Ordering::Relaxed);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// # Safety
/// `out` must be valid for writes of `length` bytes, or null.
unsafe fn fill(out: *mut u8, length: usize) {
    for index in (0..length).filter(|_| !out.is_null()) {
        // SAFETY: within the caller's buffer. No reference is made: it may be uninitialised.
        unsafe { out.add(index).write(draw() as u8) };
    }
}

/// Takes the place of libc's.
///
/// # Safety
/// As getrandom(2): `out` must be valid for writes of `length` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn getrandom(out: *mut c_void, length: size_t, flags: c_uint) -> ssize_t {
    if TAKEN_OVER.load(Ordering::Relaxed) {
        // SAFETY: promised by the caller.
        unsafe { fill(out.cast(), length) };
        return length as ssize_t;
    }
    type GetRandom = unsafe extern "C" fn(*mut c_void, size_t, c_uint) -> ssize_t;
    static NEXT: Found = Found::new(ptr::null_mut());
    match next(&NEXT, c"getrandom") {
        // SAFETY: libc's function of this name has this signature; the arguments are the caller's.
        Some(next) => unsafe { mem::transmute::<NonNull<c_void>, GetRandom>(next)(out, length, flags) },
        None => -1,
    }
}

/// Takes the place of libc's, which takes any number of arguments; none of the system's calls has more than six, and on
/// x86-64 and AArch64 they are passed to a variadic function just as to this one.
///
/// # Safety
/// As syscall(2) with that number.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn syscall(
    number: c_long,
    a: c_long,
    b: c_long,
    c: c_long,
    d: c_long,
    e: c_long,
    f: c_long,
) -> c_long {
    if number == libc::SYS_getrandom && TAKEN_OVER.load(Ordering::Relaxed) {
        // SAFETY: the first two arguments of this call are a buffer and its length.
        unsafe { fill(ptr::with_exposed_provenance_mut(a as usize), b as usize) };
        return b;
    }
    type Syscall = unsafe extern "C" fn(c_long, c_long, c_long, c_long, c_long, c_long, c_long) -> c_long;
    static NEXT: Found = Found::new(ptr::null_mut());
    match next(&NEXT, c"syscall") {
        // SAFETY: libc's function reads at most these; the arguments are the caller's.
        Some(next) => unsafe { mem::transmute::<NonNull<c_void>, Syscall>(next)(number, a, b, c, d, e, f) },
        None => -1,
    }
}

// Time.

/// Takes the place of libc's.
///
/// # Safety
/// As clock_gettime(2): `out` must be valid for the write of a timespec.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn clock_gettime(clock: clockid_t, out: *mut timespec) -> c_int {
    let epoch = match clock {
        libc::CLOCK_REALTIME | libc::CLOCK_REALTIME_COARSE => Some(REALTIME_EPOCH_S),
        libc::CLOCK_MONOTONIC
        | libc::CLOCK_MONOTONIC_COARSE
        | libc::CLOCK_MONOTONIC_RAW
        | libc::CLOCK_BOOTTIME => Some(MONOTONIC_EPOCH_S),
        // Time spent by a CPU is not the world's.
        _ => None,
    };
    if let Some(epoch) = epoch.filter(|_| TAKEN_OVER.load(Ordering::Relaxed) && !out.is_null()) {
        let elapsed = Duration::from_nanos(world_ns());
        let time =
            timespec { tv_sec: epoch + elapsed.as_secs() as i64, tv_nsec: i64::from(elapsed.subsec_nanos()) };
        // SAFETY: promised by the caller.
        unsafe { out.write(time) };
        return 0;
    }
    match next_clock_gettime() {
        // SAFETY: libc's function; the arguments are the caller's.
        Some(next) => unsafe { next(clock, out) },
        None => -1,
    }
}

/// The world's time; 0 before it begins, outside its thread, and while tokio, asked for it, asks us in turn.
fn world_ns() -> u64 {
    IS_ASKING
        .try_with(|is_asking| {
            if is_asking.replace(true) {
                return None;
            }
            let elapsed = sim::stack::agenda::elapsed_ns();
            is_asking.set(false);
            elapsed
        })
        .ok()
        .flatten()
        .unwrap_or(0)
}

type ClockGetTime = unsafe extern "C" fn(clockid_t, *mut timespec) -> c_int;

fn next_clock_gettime() -> Option<ClockGetTime> {
    static NEXT: Found = Found::new(ptr::null_mut());
    // SAFETY: libc's function of this name has this signature.
    next(&NEXT, c"clock_gettime").map(|next| unsafe { mem::transmute::<NonNull<c_void>, ClockGetTime>(next) })
}

// The dynamic linker.

/// A function that was looked up; null until then. No lock: those of Rust's library end in `syscall`.
type Found = AtomicPtr<c_void>;

/// What `name` means without us.
fn next(known: &Found, name: &CStr) -> Option<NonNull<c_void>> {
    NonNull::new(known.load(Ordering::Relaxed)).or_else(|| {
        let found = look_up(libc::RTLD_NEXT, name.as_ptr())?;
        known.store(found.as_ptr(), Ordering::Relaxed);
        Some(found)
    })
}

fn look_up(from: *mut c_void, name: *const c_char) -> Option<NonNull<c_void>> {
    // SAFETY: the name ends with a zero.
    NonNull::new(unsafe { libc::dlsym(from, name) })
}

/// The source of entropy of aws-lc.
mod aws_lc {
    use super::*;

    const SEED_BYTES: usize = 48;

    /// `struct entropy_source_methods` of aws-lc's `crypto/fipsmodule/rand/entropy/internal.h`.
    #[repr(C)]
    struct Methods {
        initialize: extern "C" fn(*mut c_void) -> c_int,
        zeroize_thread: extern "C" fn(*mut c_void),
        free_thread: extern "C" fn(*mut c_void),
        get_seed: extern "C" fn(*const c_void, *mut u8) -> c_int,
        get_extra_entropy: extern "C" fn(*const c_void, *mut u8) -> c_int,
        get_prediction_resistance: Option<extern "C" fn(*const c_void, *mut u8) -> c_int>,
        id: c_int,
    }

    static OURS: Methods = Methods {
        initialize,
        zeroize_thread: nothing_to_do,
        free_thread: nothing_to_do,
        get_seed: seed,
        get_extra_entropy: seed,
        get_prediction_resistance: None,
        id: 0,
    };

    extern "C" fn initialize(_: *mut c_void) -> c_int {
        1
    }

    extern "C" fn nothing_to_do(_: *mut c_void) {}

    extern "C" fn seed(_: *const c_void, out: *mut u8) -> c_int {
        // SAFETY: aws-lc hands in a buffer of CTR_DRBG_ENTROPY_LEN bytes.
        unsafe { fill(out, SEED_BYTES) };
        1
    }

    pub(super) fn take_over() -> Result<(), &'static str> {
        const NAME: &str = concat!(env!("AWS_LC_PREFIX"), "override_entropy_source_method_FOR_TESTING\0");
        let found = look_up(libc::RTLD_DEFAULT, NAME.as_ptr().cast());
        let found = found.ok_or("this build of aws-lc takes no other source of entropy")?;
        type Override = unsafe extern "C" fn(*const Methods);
        // SAFETY: aws-lc's function of this name has this signature, and what it gets lives as long as the program.
        unsafe { mem::transmute::<NonNull<c_void>, Override>(found)(&OURS) };
        Ok(())
    }
}
