//! The thread that stands in for a sound card's interrupt, shared by `null` and `file`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc;
use std::thread::JoinHandle;

use super::driven::{Driven, realtime};
use super::pacer::{Pacer, Step};
use super::{
    AudioCallback, Backend, DeviceError, DeviceStats, MAX_PERIOD_FRAMES, OUTPUT_CHANNELS, Opened, Realtime,
    monotonic_ns, os,
};

/// Above ordinary threads and most kernel threads' default of 50, below JACK's watchdog.
const PRIORITY: i32 = 70;

/// Where a period's input comes from and its output goes. Called on the timer's realtime thread.
pub(super) trait PeriodIo: Send {
    /// Fills `input`, interleaved. Realtime-safe: must be.
    fn read(&mut self, input: &mut [f32]);
    /// Takes `output`, interleaved stereo. Realtime-safe: must be.
    fn write(&mut self, output: &[f32]);
    /// Time in which no period ran went by. Realtime-safe: must be.
    fn skip(&mut self, frames: u64);
}

/// A running timer thread.
pub(super) struct Timer {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Driven>>,
}

/// Starts the thread; returns with its priority known and its first period due now.
pub(super) fn start(
    opened: Opened,
    driven: Driven,
    mut io: impl PeriodIo + 'static,
    stats: Arc<DeviceStats>,
) -> Result<(Timer, Realtime), DeviceError> {
    let stop = Arc::new(AtomicBool::new(false));
    let stopping = stop.clone();
    let (tell, told) = mpsc::sync_channel(1);
    let thread = std::thread::Builder::new()
        .name("bandmesh-timer".into())
        .spawn(move || {
            let realtime = match os::use_realtime_priority(PRIORITY) {
                Ok(()) => Realtime::Fifo(PRIORITY),
                Err(error) => Realtime::Denied(format!(
                    "{error}; allow it with `ulimit -r {PRIORITY}` or \"@audio - rtprio 95\" in /etc/security/limits.d"
                )),
            };
            let _ = tell.send(realtime);
            keep_time(&stopping, opened, driven, &mut io, &stats)
        })
        .map_err(DeviceError::Thread)?;
    // The thread answers before its first period; if it died, its join will show it.
    let realtime = told.recv().unwrap_or(Realtime::DeviceDecides);
    Ok((Timer { stop, thread: Some(thread) }, realtime))
}

impl Backend for Timer {
    fn stop(mut self: Box<Self>) -> Option<Box<dyn AudioCallback>> {
        self.stop.store(true, Relaxed);
        self.thread.take().and_then(|thread| thread.join().ok()).and_then(Driven::into_callback)
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
    }
}

fn keep_time(
    stop: &AtomicBool,
    opened: Opened,
    mut driven: Driven,
    io: &mut impl PeriodIo,
    stats: &DeviceStats,
) -> Driven {
    let frames = (opened.period_frames as usize).min(MAX_PERIOD_FRAMES);
    let mut input = vec![0.0; frames * opened.input_channels];
    let mut output = vec![0.0; frames * OUTPUT_CHANNELS];
    let mut pacer = Pacer::new(monotonic_ns(), opened.rate_hz, opened.period_frames);
    while !stop.load(Relaxed) {
        match pacer.step(monotonic_ns()) {
            Step::Wait { until_ns } => os::sleep_until(until_ns),
            Step::Run { due_ns, skipped_periods } => {
                realtime(|| {
                    if skipped_periods > 0 {
                        stats.count_xruns(1);
                        io.skip(skipped_periods * frames as u64);
                    }
                    io.read(&mut input);
                });
                driven.run(&input, &mut output, due_ns);
                realtime(|| io.write(&output));
            }
        }
    }
    driven
}
