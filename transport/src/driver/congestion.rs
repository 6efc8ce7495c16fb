//! Congestion control for a band: keep queues short, and never starve the audio.
//!
//! Loss-based controllers (Cubic, NewReno) fill the bottleneck's buffer as soon as anybody sends a file, which puts 100 ms
//! under everybody's audio, and collapse their window under random loss, which drops audio that the path would have
//! carried. This one watches the delay instead, in the manner of LEDBAT (RFC 6817): it holds the queue it causes near a
//! target and backs off gently on loss. Its window never falls below what the media on this connection needs, twice the
//! measured media rate times the round trip, because real-time audio does not get slower by being refused.
//!
//! Limits: against a foreign loss-based flow in the same bottleneck it yields down to that floor.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use quinn::congestion::{Controller, ControllerFactory};
use quinn_proto::RttEstimator;

/// Queueing delay we allow ourselves to cause. Below what a player notices, above the noise of Wi-Fi scheduling.
const TARGET: Duration = Duration::from_millis(8);

/// Window of an idle connection: ten full packets, as RFC 9002 section 7.2 begins with.
const MIN_WINDOW_BYTES: u64 = 12_000;

/// Window before anything was measured: enough for uncompressed stereo over 100 ms, and for a project's first messages.
const INITIAL_WINDOW_BYTES: u64 = 64_000;

/// No path we play on needs more; bounds the memory of unacknowledged data.
const MAX_WINDOW_BYTES: u64 = 16_000_000;

/// How long a minimum of the round trip is believed. A route change shows after at most two of these.
const MIN_RTT_WINDOW: Duration = Duration::from_secs(10);

/// How often the media rate is measured anew.
const RATE_WINDOW: Duration = Duration::from_millis(200);

/// Counts the media bytes handed to one connection. Shared by the media plane and that connection's controller.
#[derive(Debug, Default)]
pub(crate) struct MediaMeter {
    bytes: AtomicU64,
}

impl MediaMeter {
    /// Notes `bytes` of media handed to the connection.
    pub(crate) fn add(&self, bytes: usize) {
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    fn total(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}

/// Makes a [`DelayController`] for each connection.
#[derive(Debug, Default)]
pub(crate) struct DelayControllerFactory;

impl ControllerFactory for DelayControllerFactory {
    fn build(self: Arc<Self>, now: Instant, mtu: u16) -> Box<dyn Controller> {
        Box::new(DelayController::new(now, mtu))
    }
}

/// The controller of one connection.
#[derive(Debug, Clone)]
pub(crate) struct DelayController {
    meter: Arc<MediaMeter>,
    rate: MediaRate,
    min_rtt: WindowedMin,
    window_bytes: f64,
    mtu_bytes: f64,
    slow_start: bool,
    last_cut: Option<Instant>,
}

impl DelayController {
    pub(crate) fn new(now: Instant, mtu: u16) -> Self {
        Self {
            meter: Arc::default(),
            rate: MediaRate { since: now, bytes: 0, bytes_per_second: 0.0 },
            min_rtt: WindowedMin::new(now),
            window_bytes: INITIAL_WINDOW_BYTES as f64,
            mtu_bytes: f64::from(mtu),
            slow_start: true,
            last_cut: None,
        }
    }

    /// Where the media plane counts what it sends on this connection.
    pub(crate) fn meter(&self) -> Arc<MediaMeter> {
        self.meter.clone()
    }

    /// Twice what the media alone has in flight.
    fn floor_bytes(&self) -> f64 {
        let in_flight = self.rate.bytes_per_second * self.min_rtt.get().as_secs_f64();
        (2.0 * in_flight).max(MIN_WINDOW_BYTES as f64)
    }

    fn clamp(&mut self) {
        self.window_bytes = self.window_bytes.max(self.floor_bytes()).min(MAX_WINDOW_BYTES as f64);
    }

    fn acknowledged(
        &mut self,
        now: Instant,
        sample: Duration,
        smoothed: Duration,
        bytes: u64,
        app_limited: bool,
    ) {
        self.rate.update(now, self.meter.total());
        self.min_rtt.update(now, sample);
        let queueing = sample.saturating_sub(self.min_rtt.get()).as_secs_f64();
        let target = TARGET.as_secs_f64();
        if queueing > target / 2.0 {
            self.slow_start = false;
        }
        if queueing > target {
            let may_cut = self.last_cut.is_none_or(|last| now.saturating_duration_since(last) > smoothed);
            if may_cut {
                self.last_cut = Some(now);
                self.window_bytes *= (1.0 - 0.5 * ((queueing - target) / target).min(1.0)).max(0.6);
            }
        } else if !app_limited {
            if self.slow_start {
                self.window_bytes += bytes as f64;
            } else {
                let room = 1.0 - queueing / target;
                self.window_bytes += 2.0 * room * self.mtu_bytes * bytes as f64 / self.window_bytes;
            }
        }
        self.clamp();
    }
}

impl Controller for DelayController {
    fn on_ack(&mut self, now: Instant, sent: Instant, bytes: u64, app_limited: bool, rtt: &RttEstimator) {
        // The raw sample: the smoothed round trip reacts several round trips too late.
        let sample = now.saturating_duration_since(sent);
        self.acknowledged(now, sample, rtt.get(), bytes, app_limited);
    }

    fn on_congestion_event(&mut self, now: Instant, sent: Instant, persistent: bool, _lost_bytes: u64) {
        if self.last_cut.is_some_and(|last| sent <= last) {
            return;
        }
        self.last_cut = Some(now);
        self.slow_start = false;
        self.window_bytes *= if persistent { 0.5 } else { 0.85 };
        self.clamp();
    }

    fn on_mtu_update(&mut self, mtu: u16) {
        self.mtu_bytes = f64::from(mtu);
    }

    fn window(&self) -> u64 {
        self.window_bytes as u64
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(self.clone())
    }

    fn initial_window(&self) -> u64 {
        INITIAL_WINDOW_BYTES
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

/// Bytes per second over the last [`RATE_WINDOW`]; falls slowly, so that a short pause does not shrink the floor.
#[derive(Debug, Clone)]
struct MediaRate {
    since: Instant,
    bytes: u64,
    bytes_per_second: f64,
}

impl MediaRate {
    fn update(&mut self, now: Instant, total: u64) {
        let elapsed = now.saturating_duration_since(self.since);
        if elapsed < RATE_WINDOW {
            return;
        }
        let measured = total.saturating_sub(self.bytes) as f64 / elapsed.as_secs_f64();
        self.bytes_per_second = measured.max(self.bytes_per_second * 0.8);
        self.since = now;
        self.bytes = total;
    }
}

/// The smallest sample of the last one to two [`MIN_RTT_WINDOW`]s.
#[derive(Debug, Clone)]
struct WindowedMin {
    since: Instant,
    previous: Duration,
    current: Duration,
}

impl WindowedMin {
    fn new(now: Instant) -> Self {
        Self { since: now, previous: Duration::MAX, current: Duration::MAX }
    }

    fn update(&mut self, now: Instant, sample: Duration) {
        if now.saturating_duration_since(self.since) > MIN_RTT_WINDOW {
            self.since = now;
            self.previous = self.current;
            self.current = sample;
        }
        self.current = self.current.min(sample);
    }

    fn get(&self) -> Duration {
        match self.previous.min(self.current) {
            Duration::MAX => Duration::ZERO,
            min => min,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RTT: Duration = Duration::from_millis(30);

    struct Bench {
        controller: DelayController,
        now: Instant,
    }

    impl Bench {
        fn new() -> Self {
            let now = Instant::now();
            Self { controller: DelayController::new(now, 1200), now }
        }

        /// `count` acknowledged packets, one a millisecond, each having waited `queueing` somewhere.
        fn acknowledge(&mut self, count: u32, queueing: Duration, app_limited: bool) {
            for _ in 0..count {
                self.now += Duration::from_millis(1);
                self.controller.acknowledged(self.now, RTT + queueing, RTT, 1200, app_limited);
            }
        }
    }

    #[test]
    fn grows_on_an_empty_path_and_not_beyond_need() {
        let mut bench = Bench::new();
        bench.acknowledge(200, Duration::ZERO, false);
        let grown = bench.controller.window();
        assert!(grown > 4 * INITIAL_WINDOW_BYTES);
        bench.acknowledge(200, Duration::ZERO, true);
        assert_eq!(bench.controller.window(), grown);
    }

    #[test]
    fn a_standing_queue_shrinks_the_window() {
        let mut bench = Bench::new();
        bench.acknowledge(200, Duration::ZERO, false);
        let before = bench.controller.window();
        bench.acknowledge(300, TARGET * 3, false);
        assert!(bench.controller.window() < before / 8);
    }

    #[test]
    fn loss_never_starves_the_media() {
        let mut bench = Bench::new();
        // 1.5 Mbit/s of audio for a second.
        for _ in 0..1000 {
            bench.controller.meter().add(187);
            bench.acknowledge(1, Duration::ZERO, true);
        }
        for _ in 0..200 {
            bench.now += Duration::from_millis(40);
            bench.controller.on_congestion_event(bench.now, bench.now, true, 1200);
        }
        let in_flight = 187_000.0 * RTT.as_secs_f64();
        let window = bench.controller.window() as f64;
        assert!(window >= in_flight * 1.9, "{window} bytes for {in_flight} in flight");
    }

    #[test]
    fn one_burst_of_loss_is_one_cut() {
        let mut bench = Bench::new();
        let before = bench.controller.window() as f64;
        let sent = bench.now;
        for _ in 0..10 {
            bench.now += Duration::from_millis(1);
            bench.controller.on_congestion_event(bench.now, sent, false, 1200);
        }
        assert_eq!(bench.controller.window(), (before * 0.85) as u64);
    }

    #[test]
    fn a_longer_route_is_accepted_after_a_while() {
        let mut bench = Bench::new();
        bench.acknowledge(100, Duration::ZERO, false);
        bench.acknowledge(25_000, Duration::from_millis(60), false);
        assert_eq!(bench.controller.min_rtt.get(), RTT + Duration::from_millis(60));
    }
}
