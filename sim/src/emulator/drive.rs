//! Carries packets between a [`Line`] and the operating system, to the moment.
//!
//! One thread does it all: it sleeps in `ppoll` until shortly before the next packet is due or until one
//! comes, and spins the rest, since a wake-up from sleep is tens of microseconds late. It takes SCHED_FIFO
//! and the finest timer slack where it may.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd},
    time::Duration,
};

use bandmesh::device::{monotonic_ns, use_realtime_priority};
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, ppoll},
    sys::{
        prctl,
        signal::{SigSet, Signal},
        signalfd::{SfdFlags, SignalFd},
        time::TimeSpec,
    },
};
use serde::Serialize;

use crate::emulator::{
    histogram::{Histogram, Quantiles},
    line::{Departure, Line, Way},
};

/// Above the node's network threads (50) and media thread (55), below its audio callback (70): a wire does not
/// wait for those who use it, and does not disturb their sound cards.
const PRIORITY: i32 = 60;
/// How long before a departure the thread stops sleeping. A sleep is about this late on an idle machine.
const SPIN_NS: u64 = 50_000;
/// Packets read from one socket before the others get their turn.
pub const BATCH: usize = 32;
/// The longest sleep, so that an error in waking shows as a delay and not as a hang.
const LONGEST_SLEEP_NS: u64 = 500_000_000;

/// A packet that has come.
#[derive(Debug)]
pub struct Received<T> {
    /// Which way it goes.
    pub way: Way,
    /// When it came, ns of CLOCK_MONOTONIC.
    pub arrived_ns: u64,
    /// Its size as an IP packet.
    pub octets: usize,
    /// Where it is to go.
    pub to: T,
    /// What it carries.
    pub bytes: Vec<u8>,
}

/// Sockets or devices on both sides.
pub trait Carrier {
    /// Names where a packet goes.
    type To: Clone;

    /// What to wait for.
    fn descriptors(&self) -> Vec<BorrowedFd<'_>>;

    /// Reads what has come at the descriptors whose index is in `ready`, at most [`BATCH`] packets each.
    fn receive(&mut self, ready: &[usize], take: &mut dyn FnMut(Received<Self::To>)) -> io::Result<()>;

    /// Sends a packet on. False if the system would not take it.
    fn send(&mut self, departure: &Departure<Self::To>) -> bool;
}

/// How exactly it worked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Own {
    /// Scheduled against actual time of sending, ms: what the emulator adds to the delays of the settings.
    pub added_ms: Quantiles,
    /// Packets that left.
    pub sent: u64,
    /// Packets that the system would not take when they were due.
    pub refused: u64,
    /// Whether the thread ran with SCHED_FIFO.
    pub realtime: bool,
    /// How long it ran, s.
    pub ran_s: f64,
}

/// SIGTERM and SIGINT as something to wait for. Make it before any other thread.
#[derive(Debug)]
pub struct Stop(SignalFd);

impl Stop {
    /// From now on these signals no longer end the process.
    pub fn new() -> io::Result<Self> {
        let mut signals = SigSet::empty();
        signals.add(Signal::SIGTERM);
        signals.add(Signal::SIGINT);
        signals.thread_block()?;
        Ok(Self(SignalFd::with_flags(&signals, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?))
    }

    /// Whether one has come.
    fn is_asked(&self) -> bool {
        matches!(self.0.read_signal(), Ok(Some(_)))
    }
}

/// Runs until stopped, or for `duration`.
pub fn drive<C: Carrier>(
    carrier: &mut C,
    line: &mut Line<C::To>,
    stop: &Stop,
    duration: Option<Duration>,
) -> io::Result<Own> {
    // Without either it works all the same, less exactly; the figures at the end show by how much.
    let realtime = use_realtime_priority(PRIORITY).is_ok();
    let _ = prctl::set_timerslack(1);
    let begun = monotonic_ns();
    let end =
        duration.map(|length| begun.saturating_add(u64::try_from(length.as_nanos()).unwrap_or(u64::MAX)));
    // Steps of a microsecond up to 20 ms.
    let mut added = Histogram::new(1_000, 20_000);
    let mut own = Own { realtime, ..Own::default() };
    loop {
        let now = monotonic_ns();
        if end.is_some_and(|end| now >= end) {
            break;
        }
        let wake = line.next_departure().map_or(u64::MAX, |due| due.saturating_sub(SPIN_NS));
        let sleep_ns = wake.min(end.unwrap_or(u64::MAX)).saturating_sub(now).min(LONGEST_SLEEP_NS);
        let (stopped, ready) = wait(carrier, stop, sleep_ns)?;
        if stopped {
            break;
        }
        carrier.receive(&ready, &mut |Received { way, arrived_ns, octets, to, bytes }| {
            line.handle_packet(way, arrived_ns, octets, to, bytes);
        })?;
        if let Some(due) = line.next_departure() {
            spin_until(due);
        }
        while let Some(departure) = line.poll_departure(monotonic_ns()) {
            if carrier.send(&departure) {
                own.sent += 1;
                added.add(monotonic_ns().saturating_sub(departure.due_ns));
            } else {
                own.refused += 1;
            }
        }
    }
    own.added_ms = added.quantiles();
    own.ran_s = (monotonic_ns() - begun) as f64 / 1e9;
    Ok(own)
}

/// Whether to stop, and which descriptors have something.
fn wait<C: Carrier>(carrier: &C, stop: &Stop, sleep_ns: u64) -> io::Result<(bool, Vec<usize>)> {
    let mut watched: Vec<PollFd<'_>> =
        carrier.descriptors().into_iter().map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
    watched.push(PollFd::new(stop.0.as_fd(), PollFlags::POLLIN));
    match ppoll(&mut watched, Some(TimeSpec::from(Duration::from_nanos(sleep_ns))), None) {
        Ok(_) => {}
        Err(Errno::EINTR) => return Ok((false, Vec::new())),
        Err(error) => return Err(error.into()),
    }
    let stopped = watched.pop().is_some_and(|signals| signals.any() == Some(true)) && stop.is_asked();
    // Errors count as ready too: reading takes them off the socket.
    let ready =
        watched.iter().enumerate().filter(|(_, fd)| fd.any() != Some(false)).map(|(i, _)| i).collect();
    Ok((stopped, ready))
}

/// Waits for a moment that is at most [`SPIN_NS`] away; returns at once for a later one.
fn spin_until(due_ns: u64) {
    let mut now = monotonic_ns();
    while now < due_ns && due_ns - now <= SPIN_NS {
        std::hint::spin_loop();
        now = monotonic_ns();
    }
}
