//! What every host wraps around the callback: timing, pieces of bearable size, and a catch for panics; and the flags
//! by which a device's own threads tell what happened.
//!
//! The flags are atomics, not a queue: JACK's shutdown handler may do no more than a signal handler may, and
//! a flag has no "full".

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering::Relaxed};

use super::{
    AudioCallback, DeviceEvent, DeviceStats, LostReason, MAX_PERIOD_FRAMES, OUTPUT_CHANNELS, Opened,
    monotonic_ns,
};

/// The callback with its guards on. Lives on the audio thread.
pub(super) struct Driven {
    callback: Box<dyn AudioCallback>,
    stats: Arc<DeviceStats>,
    signals: Arc<Signals>,
    rate_hz: u32,
    input_channels: usize,
    panicked: bool,
    fade: Fade,
}

impl Driven {
    pub(super) fn new(
        callback: Box<dyn AudioCallback>,
        opened: &Opened,
        stats: Arc<DeviceStats>,
        signals: Arc<Signals>,
    ) -> Self {
        Driven {
            callback,
            stats,
            signals,
            rate_hz: opened.rate_hz,
            input_channels: opened.input_channels,
            panicked: false,
            fade: Fade::new(opened),
        }
    }

    /// Runs the callback for one device period, in pieces of at most [`MAX_PERIOD_FRAMES`].
    ///
    /// Realtime-safe: as much as the callback is. After a panic the output stays silent.
    pub(super) fn run(&mut self, input: &[f32], output: &mut [f32], host_time_ns: u64) {
        if self.panicked {
            output.fill(0.0);
            return;
        }
        let frames = output.len() / OUTPUT_CHANNELS;
        let began_ns = monotonic_ns();
        let channels = self.input_channels;
        let callback = &mut self.callback;
        let rate_hz = self.rate_hz;
        let fading = self.signals.fading.load(Relaxed).then_some(&mut self.fade);
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            let inputs = input.chunks(MAX_PERIOD_FRAMES * channels);
            let outputs = output.chunks_mut(MAX_PERIOD_FRAMES * OUTPUT_CHANNELS);
            let mut piece_time_ns = host_time_ns;
            let mut fading = fading;
            for (input, output) in inputs.zip(outputs) {
                match fading.as_deref_mut() {
                    None => callback.process(input, output, piece_time_ns),
                    Some(fade) => fade.run(callback.as_mut(), input, output, piece_time_ns),
                }
                piece_time_ns += frames_to_ns((output.len() / OUTPUT_CHANNELS) as u64, rate_hz);
            }
        }));
        if self.fade.is_done() {
            self.signals.faded.store(true, Relaxed);
        }
        if outcome.is_err() {
            self.panicked = true;
            self.signals.lose(LostReason::CallbackPanicked);
            output.fill(0.0);
        }
        let duration_ns = monotonic_ns().saturating_sub(began_ns);
        self.stats.count_callback(duration_ns, frames_to_ns(frames as u64, self.rate_hz));
    }

    #[cfg(feature = "devices")]
    pub(super) fn signals(&self) -> &Signals {
        &self.signals
    }

    /// The callback, unless it panicked and cannot be trusted.
    pub(super) fn into_callback(self) -> Option<Box<dyn AudioCallback>> {
        (!self.panicked).then_some(self.callback)
    }
}

/// The last milliseconds of a device that is about to be left for another: what is played and what is heard go down to
/// silence, so that neither ends in a click.
struct Fade {
    gain: f32,
    step: f32,
    channels: usize,
    input: Vec<f32>,
}

const FADE_SECONDS: f32 = 0.005;

impl Fade {
    fn new(opened: &Opened) -> Self {
        let channels = opened.input_channels.max(1);
        Self {
            gain: 1.0,
            step: 1.0 / (FADE_SECONDS * opened.rate_hz as f32).max(1.0),
            channels,
            input: vec![0.0; MAX_PERIOD_FRAMES * channels],
        }
    }

    /// One piece of a callback, at most [`MAX_PERIOD_FRAMES`]. Realtime-safe: as much as the callback is.
    fn run(
        &mut self,
        callback: &mut dyn AudioCallback,
        input: &[f32],
        output: &mut [f32],
        host_time_ns: u64,
    ) {
        let (gain, step) = (self.gain, self.step);
        let gain_at = |frame: usize| (gain - step * (frame + 1) as f32).max(0.0);
        let Some(faded) = self.input.get_mut(..input.len()) else { return output.fill(0.0) };
        faded.copy_from_slice(input);
        for (number, frame) in faded.chunks_mut(self.channels).enumerate() {
            frame.iter_mut().for_each(|sample| *sample *= gain_at(number));
        }
        callback.process(faded, output, host_time_ns);
        for (number, frame) in output.chunks_mut(OUTPUT_CHANNELS).enumerate() {
            frame.iter_mut().for_each(|sample| *sample *= gain_at(number));
        }
        self.gain = (gain - step * (output.len() / OUTPUT_CHANNELS) as f32).max(0.0);
    }

    fn is_done(&self) -> bool {
        self.gain == 0.0
    }
}

/// Marks our own work on the audio thread: tests abort when it allocates or frees. The callback in between is left to
/// its own tests, as a panic in it may take memory.
pub(super) fn realtime<R>(work: impl FnOnce() -> R) -> R {
    #[cfg(test)]
    return assert_no_alloc::assert_no_alloc(work);
    #[cfg(not(test))]
    work()
}

/// How long `frames` last, in nanoseconds, rounded down.
pub(super) fn frames_to_ns(frames: u64, rate_hz: u32) -> u64 {
    // 128 bits because frames times 10^9 overflows 64 after four days at 48 kHz.
    (u128::from(frames) * 1_000_000_000 / u128::from(rate_hz.max(1))) as u64
}

/// Flags set by a device's threads.
#[derive(Debug)]
pub(super) struct Signals {
    lost: AtomicU8,
    period_frames: AtomicU32,
    rate_hz: AtomicU32,
    fading: AtomicBool,
    faded: AtomicBool,
}

impl Signals {
    pub(super) fn new(opened: &Opened) -> Arc<Self> {
        Arc::new(Signals {
            lost: AtomicU8::new(0),
            period_frames: AtomicU32::new(opened.period_frames),
            rate_hz: AtomicU32::new(opened.rate_hz),
            fading: AtomicBool::new(false),
            faded: AtomicBool::new(false),
        })
    }

    /// Asks the callback to go down to silence.
    pub(super) fn fade(&self) {
        self.fading.store(true, Relaxed);
    }

    /// Whether it has.
    pub(super) fn has_faded(&self) -> bool {
        self.faded.load(Relaxed)
    }

    /// Realtime-safe and signal-safe: yes. The first reason stands.
    pub(super) fn lose(&self, reason: LostReason) {
        let code = 1 + REASONS.iter().position(|known| *known == reason).unwrap_or(0) as u8;
        let _ = self.lost.compare_exchange(0, code, Relaxed, Relaxed);
    }

    pub(super) fn period_frames(&self) -> u32 {
        self.period_frames.load(Relaxed)
    }

    #[cfg(feature = "devices")]
    pub(super) fn set_period_frames(&self, frames: u32) {
        self.period_frames.store(frames, Relaxed);
    }

    #[cfg(feature = "devices")]
    pub(super) fn set_rate_hz(&self, rate_hz: u32) {
        self.rate_hz.store(rate_hz, Relaxed);
    }

    /// Whether nothing calls any more because the server of all callbacks is gone.
    #[cfg(feature = "devices")]
    pub(super) fn is_server_gone(&self) -> bool {
        self.lost() == Some(LostReason::ServerGone)
    }

    fn lost(&self) -> Option<LostReason> {
        let code = usize::from(self.lost.load(Relaxed));
        code.checked_sub(1).and_then(|index| REASONS.get(index)).copied()
    }
}

const REASONS: [LostReason; 4] = [
    LostReason::ServerGone,
    LostReason::Disconnected,
    LostReason::StreamInvalid,
    LostReason::CallbackPanicked,
];

/// The flags as last reported, so that each change becomes one event.
#[derive(Debug)]
pub(super) struct Seen {
    lost: bool,
    period_frames: u32,
    rate_hz: u32,
    xruns: u64,
    xruns_told_ns: u64,
}

/// Four reports a second are as many as a person can read.
const XRUN_REPORT_NS: u64 = 250_000_000;

impl Seen {
    pub(super) fn new(opened: &Opened, stats: &DeviceStats) -> Self {
        Seen {
            lost: false,
            period_frames: opened.period_frames,
            rate_hz: opened.rate_hz,
            xruns: stats.xruns(),
            xruns_told_ns: 0,
        }
    }

    pub(super) fn poll(&mut self, signals: &Signals, stats: &DeviceStats) -> Option<DeviceEvent> {
        self.poll_at(signals, stats, monotonic_ns())
    }

    fn poll_at(&mut self, signals: &Signals, stats: &DeviceStats, now_ns: u64) -> Option<DeviceEvent> {
        if let (false, Some(reason)) = (self.lost, signals.lost()) {
            self.lost = true;
            return Some(DeviceEvent::Lost(reason));
        }
        let rate_hz = signals.rate_hz.load(Relaxed);
        if rate_hz != self.rate_hz {
            self.rate_hz = rate_hz;
            return Some(DeviceEvent::RateChanged { rate_hz });
        }
        let period_frames = signals.period_frames();
        if period_frames != self.period_frames {
            self.period_frames = period_frames;
            return Some(DeviceEvent::PeriodChanged { period_frames });
        }
        let total = stats.xruns();
        if total > self.xruns && now_ns >= self.xruns_told_ns.saturating_add(XRUN_REPORT_NS) {
            let new = total - self.xruns;
            (self.xruns, self.xruns_told_ns) = (total, now_ns);
            return Some(DeviceEvent::Xruns { new, total });
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPENED: Opened = Opened {
        rate_hz: 48_000,
        period_frames: 128,
        max_period_frames: MAX_PERIOD_FRAMES,
        input_channels: 1,
    };

    fn driven(callback: impl AudioCallback + 'static) -> (Driven, Arc<Signals>, Arc<DeviceStats>) {
        let (signals, stats) = (Signals::new(&OPENED), Arc::new(DeviceStats::default()));
        (Driven::new(Box::new(callback), &OPENED, stats.clone(), signals.clone()), signals, stats)
    }

    struct Log(std::sync::mpsc::Sender<(usize, usize, u64)>);
    impl AudioCallback for Log {
        fn process(&mut self, input: &[f32], output: &mut [f32], host_time_ns: u64) {
            self.0.send((input.len(), output.len(), host_time_ns)).unwrap();
        }
    }

    #[test]
    fn a_period_above_the_limit_comes_in_pieces_each_with_its_own_time() {
        let (sender, calls) = std::sync::mpsc::channel();
        let (mut driven, ..) = driven(Log(sender));
        driven.run(&[0.0; 6000], &mut [0.0; 12_000], 1_000);
        assert_eq!(calls.try_recv().unwrap(), (4096, 8192, 1_000));
        assert_eq!(calls.try_recv().unwrap(), (1904, 3808, 1_000 + 4096 * 1_000_000_000 / 48_000));
        assert!(calls.try_recv().is_err());
    }

    struct Ones;
    impl AudioCallback for Ones {
        fn process(&mut self, input: &[f32], output: &mut [f32], _: u64) {
            for (out, heard) in output.chunks_exact_mut(2).zip(input) {
                out.copy_from_slice(&[1.0, *heard]);
            }
        }
    }

    #[test]
    fn a_device_that_is_left_fades_in_both_directions_and_says_when() {
        let (mut driven, signals, _) = driven(Ones);
        let (input, mut output) = ([1.0; 128], [0.0; 256]);
        realtime(|| driven.run(&input, &mut output, 0));
        assert_eq!(output, [1.0; 256]);
        signals.fade();
        let mut before = 1.0;
        for _ in 0..2 {
            assert!(!signals.has_faded());
            realtime(|| driven.run(&input, &mut output, 0));
            for frame in output.chunks_exact(2) {
                assert!(before - frame[0] <= 1.01 / 240.0 && frame[0] <= before, "{frame:?}");
                // What was heard is faded on the way in and on the way out.
                assert!(frame[1] <= frame[0] && frame[1] >= frame[0] * frame[0] * 0.99);
                before = frame[0];
            }
        }
        assert!(signals.has_faded());
        driven.run(&input, &mut output, 0);
        assert_eq!(output, [0.0; 256]);
    }

    struct Quiet;
    impl AudioCallback for Quiet {
        fn process(&mut self, _: &[f32], output: &mut [f32], _: u64) {
            output.fill(0.0);
        }
    }

    #[test]
    fn the_guards_themselves_take_no_memory() {
        let (mut driven, signals, _) = driven(Quiet);
        let (input, mut output) = (vec![0.0; 6000], vec![1.0; 12_000]);
        realtime(|| {
            driven.run(&input, &mut output, 0);
            signals.lose(LostReason::ServerGone);
        });
        assert_eq!(output, [0.0; 12_000]);
    }

    struct Bomb;
    impl AudioCallback for Bomb {
        fn process(&mut self, _: &[f32], output: &mut [f32], _: u64) {
            output.fill(1.0);
            panic!("a bug in the engine");
        }
    }

    #[test]
    fn a_panicking_callback_falls_silent_and_is_reported_once() {
        let (mut driven, signals, stats) = driven(Bomb);
        let mut seen = Seen::new(&OPENED, &stats);
        let mut output = [0.5; 4];
        driven.run(&[0.0; 2], &mut output, 0);
        assert_eq!(output, [0.0; 4]);
        output.fill(0.5);
        driven.run(&[0.0; 2], &mut output, 0);
        assert_eq!(output, [0.0; 4], "it stays silent");
        assert_eq!(seen.poll(&signals, &stats), Some(DeviceEvent::Lost(LostReason::CallbackPanicked)));
        assert_eq!(seen.poll(&signals, &stats), None);
        assert!(driven.into_callback().is_none());
    }

    #[test]
    fn xruns_are_gathered_into_four_reports_a_second() {
        let (signals, stats) = (Signals::new(&OPENED), DeviceStats::default());
        let mut seen = Seen::new(&OPENED, &stats);
        stats.count_xruns(3);
        let now = 10_000_000_000;
        assert_eq!(seen.poll_at(&signals, &stats, now), Some(DeviceEvent::Xruns { new: 3, total: 3 }));
        stats.count_xruns(1);
        assert_eq!(seen.poll_at(&signals, &stats, now + 1_000_000), None);
        stats.count_xruns(1);
        let later = seen.poll_at(&signals, &stats, now + XRUN_REPORT_NS);
        assert_eq!(later, Some(DeviceEvent::Xruns { new: 2, total: 5 }));
    }
}
