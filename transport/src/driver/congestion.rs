//! Congestion control for a band: keep queues short, and never starve the audio.
//!
//! Loss-based controllers (Cubic, NewReno) fill the bottleneck's buffer as soon as anybody sends a file, which puts 100 ms
//! under everybody's audio, and collapse their window under random loss, which drops audio that the path would have
//! carried. This one watches the delay instead, in the manner of LEDBAT (RFC 6817): it holds the queue it causes near a
//! target.
//!
//! What is in flight has two shares. Media has one of its own, twice its measured rate times the round trip, because
//! real-time audio does not get slower by being refused. Streams have the other, the only one that is controlled, and never
//! use media's: [`Share`] holds their writers to it. With one window for both, a file that fills the window makes every
//! datagram wait for the next acknowledgement, up to a round trip, just when the window is small. The writers also spread
//! what they send over the round trip: QUIC's own pacing lets ten packets go at once, which are 23 ms at 5 Mbit/s.
//!
//! On real paths neither every delay nor every loss is a queue's. The delay that counts is the smallest of about a round
//! trip, above the smallest of the last seconds, less what that difference is while streams send little or nothing. A lost packet
//! counts when there is a queue, or when many more are lost than then.
//!
//! Limits: against a foreign loss-based flow in the same bottleneck streams yield down to [`MIN_SHARE_PACKETS`]. A queue
//! too short to be seen, below 2 ms, is found by losing one packet in twenty.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use quinn::congestion::{Controller, ControllerFactory};
use quinn_proto::RttEstimator;

/// Queueing delay we allow ourselves to cause. Below what a player notices, above the noise of Wi-Fi scheduling.
const TARGET: Duration = Duration::from_millis(8);

/// What a round trip of growth may add to a queue, at first.
const RAMP: Duration = Duration::from_millis(10);

/// Below this a queue cannot be told from noise.
const NO_QUEUE: Duration = Duration::from_millis(2);

/// What streams begin with and may always have in flight: with one packet each loss would cost a timeout (RFC 5681, section
/// 3.1, has the same minimum). A node may send its project to seven others at once through one uplink, so it is not the ten
/// packets of RFC 9002.
const MIN_SHARE_PACKETS: f64 = 2.0;

/// Streams that have been content with their window for this long get half of it, and find out anew when they need more:
/// by then the line may be somebody else's.
const HALVE_AFTER: Duration = Duration::from_secs(1);

/// Media's share before it was measured: uncompressed stereo over 250 ms.
const INITIAL_MEDIA_BYTES: f64 = 64_000.0;

/// Media's share at least, in full packets: QUIC sends nothing while there is not room for a whole one.
const MIN_MEDIA_PACKETS: f64 = 4.0;

/// Telling QUIC of every other byte would cost more than it is worth.
const WINDOW_STEP_BYTES: u64 = 256;

/// No path we play on needs more; bounds the memory of unacknowledged data.
const MAX_WINDOW_BYTES: f64 = 16_000_000.0;

/// How long a minimum of the round trip is believed. A route change shows after at most two of these.
const MIN_RTT_WINDOW: Duration = Duration::from_secs(10);

/// Shortest stretch whose smallest sample counts, once to twice over: a few packets of media.
const MIN_RECENT_WINDOW: Duration = Duration::from_millis(5);

/// More than this above the smallest delay is no noise of the path.
const MAX_NOISE: Duration = Duration::from_millis(25);

/// How often the media rate is measured anew.
const RATE_WINDOW: Duration = Duration::from_millis(200);

/// How often the share of lost packets is measured anew. Long enough that chance seldom makes 5 % of 3 %.
const LOSS_WINDOW: Duration = Duration::from_millis(500);

/// A path that loses so much more than usual is too full, whatever the delay says.
const MUCH_LOSS: f64 = 0.05;

/// What the writers and the media plane of a connection tell its controller, and it them.
#[derive(Debug)]
pub(crate) struct Share {
    media_bytes: AtomicU64,
    stream_window: AtomicU64,
    told: AtomicU64,
    round_trip_us: AtomicU64,
    streams_wait: AtomicBool,
}

impl Share {
    /// Notes `bytes` of media handed to the connection.
    pub(crate) fn add_media(&self, bytes: usize) {
        self.media_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// What all streams together may have in flight now, in bytes.
    pub(crate) fn stream_window(&self) -> u64 {
        self.stream_window.load(Ordering::Relaxed)
    }

    /// How fast streams may send, in bytes a second: their window a round trip and a quarter, so that the window remains
    /// what limits them (RFC 9002, section 7.7). Infinite before the round trip is known.
    pub(crate) fn stream_rate(&self) -> f64 {
        let round_trip = self.round_trip_us.load(Ordering::Relaxed) as f64 / 1e6;
        1.25 * self.stream_window() as f64 / round_trip
    }

    /// Notes that QUIC is told to take up to `bytes` from streams; whether that is news.
    pub(crate) fn tell(&self, bytes: u64) -> bool {
        self.told.swap(bytes, Ordering::Relaxed) != bytes
    }

    /// Notes whether a writer has more than it may send. Only then does its window grow.
    pub(crate) fn set_streams_wait(&self, wait: bool) {
        self.streams_wait.store(wait, Ordering::Relaxed);
    }
}

impl Default for Share {
    fn default() -> Self {
        Self {
            media_bytes: AtomicU64::new(0),
            stream_window: AtomicU64::new(0),
            told: AtomicU64::new(u64::MAX),
            round_trip_us: AtomicU64::new(0),
            streams_wait: AtomicBool::new(false),
        }
    }
}

/// Makes the [`DelayController`]s of one connection: another one for each way that it takes. QUIC begins anew where its peer
/// has moved, but the writers and the media plane go on, so they keep what they share.
#[derive(Debug, Default)]
pub(crate) struct DelayControllerFactory {
    share: Arc<Share>,
}

impl ControllerFactory for DelayControllerFactory {
    fn build(self: Arc<Self>, now: Instant, mtu: u16) -> Box<dyn Controller> {
        Box::new(DelayController::new(now, mtu, self.share.clone()))
    }
}

/// The controller of one connection.
#[derive(Debug, Clone)]
pub(crate) struct DelayController {
    share: Arc<Share>,
    rate: MediaRate,
    loss: LossRate,
    /// The smallest round trip of the last seconds.
    base: WindowedMin,
    /// The smallest of about the last one.
    recent: WindowedMin,
    /// How far `recent` is above `base` when media flows and hardly anything else.
    noise: Duration,
    /// The share of packets that is lost then.
    usual_loss: f64,
    smoothed_rtt: Duration,
    /// What streams may have in flight.
    stream_bytes: f64,
    mtu_bytes: f64,
    slow_start: bool,
    last_cut: Option<Instant>,
    /// When streams last needed all of their window, or it was halved for not being needed.
    last_needed: Instant,
}

impl DelayController {
    pub(crate) fn new(now: Instant, mtu: u16, share: Arc<Share>) -> Self {
        let mtu_bytes = f64::from(mtu);
        let stream_bytes = MIN_SHARE_PACKETS * mtu_bytes;
        share.stream_window.store(stream_bytes as u64, Ordering::Relaxed);
        share.round_trip_us.store(0, Ordering::Relaxed);
        let bytes = share.media_bytes.load(Ordering::Relaxed);
        Self {
            share,
            rate: MediaRate { since: now, bytes, bytes_per_second: 0.0, is_known: false },
            loss: LossRate::new(now),
            base: WindowedMin::new(now),
            recent: WindowedMin::new(now),
            noise: Duration::ZERO,
            usual_loss: 0.0,
            smoothed_rtt: Duration::ZERO,
            stream_bytes,
            mtu_bytes,
            slow_start: true,
            last_cut: None,
            last_needed: now,
        }
    }

    /// Where the media plane counts what it sends, and writers learn what they may.
    pub(crate) fn share(&self) -> Arc<Share> {
        self.share.clone()
    }

    /// Twice what the media has in flight, a queue of others included.
    fn media_bytes(&self) -> f64 {
        if !self.rate.is_known {
            return INITIAL_MEDIA_BYTES;
        }
        let round_trip = self.smoothed_rtt.max(self.base.get()).as_secs_f64();
        // Not more than is of use: QUIC spreads what it sends by the whole window.
        2.0 * self.rate.bytes_per_second * round_trip + MIN_MEDIA_PACKETS * self.mtu_bytes
    }

    /// How long our own packets wait in a queue, as far as we can tell.
    fn queueing(&self) -> Duration {
        self.recent.get().saturating_sub(self.base.get()).saturating_sub(self.noise)
    }

    fn set_stream_bytes(&mut self, bytes: f64) {
        self.stream_bytes = bytes.clamp(MIN_SHARE_PACKETS * self.mtu_bytes, MAX_WINDOW_BYTES);
        let in_steps = self.stream_bytes as u64 / WINDOW_STEP_BYTES * WINDOW_STEP_BYTES;
        self.share.stream_window.store(in_steps, Ordering::Relaxed);
    }

    fn may_cut(&self, now: Instant) -> bool {
        self.last_cut.is_none_or(|last| now.saturating_duration_since(last) > self.smoothed_rtt)
    }

    fn acknowledged(&mut self, now: Instant, sample: Duration, smoothed: Duration, bytes: u64) {
        self.smoothed_rtt = smoothed;
        self.share.round_trip_us.store(smoothed.as_micros() as u64, Ordering::Relaxed);
        self.rate.update(now, self.share.media_bytes.load(Ordering::Relaxed));
        self.loss.add(now, 0, bytes);
        self.base.update(now, sample, MIN_RTT_WINDOW);
        self.recent.update(now, sample, (smoothed / 2).max(MIN_RECENT_WINDOW));
        let streams_wait = self.share.streams_wait.load(Ordering::Relaxed);
        if !streams_wait || self.stream_bytes <= MIN_SHARE_PACKETS * self.mtu_bytes {
            self.learn_noise();
        }
        if !streams_wait {
            self.forget_unneeded(now);
            return;
        }
        self.last_needed = now;
        let queueing = self.queueing();
        if queueing > NO_QUEUE {
            self.slow_start = false;
        }
        if queueing > TARGET {
            if self.may_cut(now) {
                self.last_cut = Some(now);
                // What is in flight divided by the round trip is what the path carries. Half of the target stays queued.
                let base = self.base.get();
                let cut = (base + TARGET / 2).as_secs_f64() / (base + queueing).as_secs_f64();
                self.set_stream_bytes(self.stream_bytes * cut.max(0.3));
            }
        } else if self.slow_start {
            // What is too much shows a round trip later, so a round trip adds what fills a queue of 10 ms and not more;
            // and never doubles.
            let gain = (RAMP.as_secs_f64() / smoothed.as_secs_f64()).min(0.5);
            self.set_stream_bytes(self.stream_bytes + gain * bytes as f64);
        } else {
            // A packet a round trip, less the nearer the target is.
            let room = 1.0 - queueing.as_secs_f64() / TARGET.as_secs_f64();
            let in_flight = self.stream_bytes + self.rate.bytes_per_second * smoothed.as_secs_f64();
            self.set_stream_bytes(self.stream_bytes + room * self.mtu_bytes * bytes as f64 / in_flight);
        }
    }

    fn forget_unneeded(&mut self, now: Instant) {
        if now.saturating_duration_since(self.last_needed) > HALVE_AFTER {
            self.last_needed = now;
            self.slow_start = true;
            self.set_stream_bytes(self.stream_bytes / 2.0);
        }
    }

    /// Slow averages of what the path does by itself: next to nothing of ours is on it.
    fn learn_noise(&mut self) {
        let seen = self.recent.get().saturating_sub(self.base.get()).min(MAX_NOISE);
        self.noise = (self.noise * 127 + seen) / 128;
        self.usual_loss = (self.usual_loss * 127.0 + self.loss.share()) / 128.0;
    }

    fn lost(&mut self, now: Instant, sent: Instant, is_persistent: bool, bytes: u64) {
        self.loss.add(now, bytes, 0);
        if self.last_cut.is_some_and(|last| sent <= last) {
            return;
        }
        let (queueing, share) = (self.queueing(), self.loss.share());
        let is_full = queueing > NO_QUEUE && share > self.usual_loss || share > self.usual_loss + MUCH_LOSS;
        if is_persistent || is_full {
            self.last_cut = Some(now);
            self.slow_start = false;
            self.set_stream_bytes(self.stream_bytes * if is_persistent { 0.5 } else { 0.85 });
        }
    }
}

impl Controller for DelayController {
    fn on_ack(&mut self, now: Instant, sent: Instant, bytes: u64, _app_limited: bool, rtt: &RttEstimator) {
        // The raw sample: the smoothed round trip reacts several round trips too late.
        let sample = now.saturating_duration_since(sent);
        self.acknowledged(now, sample, rtt.get(), bytes);
    }

    fn on_congestion_event(&mut self, now: Instant, sent: Instant, persistent: bool, lost_bytes: u64) {
        self.lost(now, sent, persistent, lost_bytes);
    }

    fn on_mtu_update(&mut self, mtu: u16) {
        self.mtu_bytes = f64::from(mtu);
    }

    fn window(&self) -> u64 {
        (self.stream_bytes + self.media_bytes()) as u64
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(self.clone())
    }

    fn initial_window(&self) -> u64 {
        (MIN_SHARE_PACKETS * self.mtu_bytes + INITIAL_MEDIA_BYTES) as u64
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

/// The share of bytes lost in the last one to two [`LOSS_WINDOW`]s.
#[derive(Debug, Clone)]
struct LossRate {
    since: Instant,
    previous: (u64, u64),
    current: (u64, u64),
}

impl LossRate {
    fn new(now: Instant) -> Self {
        Self { since: now, previous: (0, 0), current: (0, 0) }
    }

    fn add(&mut self, now: Instant, lost: u64, acknowledged: u64) {
        if now.saturating_duration_since(self.since) > LOSS_WINDOW {
            self.since = now;
            self.previous = std::mem::take(&mut self.current);
        }
        self.current.0 += lost;
        self.current.1 += acknowledged;
    }

    fn share(&self) -> f64 {
        let lost = self.previous.0 + self.current.0;
        let all = lost + self.previous.1 + self.current.1;
        lost as f64 / all.max(1) as f64
    }
}

/// Bytes per second over the last [`RATE_WINDOW`]; falls slowly, so that a short pause does not shrink the floor.
#[derive(Debug, Clone)]
struct MediaRate {
    since: Instant,
    bytes: u64,
    bytes_per_second: f64,
    /// Whether there has been any.
    is_known: bool,
}

impl MediaRate {
    fn update(&mut self, now: Instant, total: u64) {
        let elapsed = now.saturating_duration_since(self.since);
        if elapsed < RATE_WINDOW {
            return;
        }
        let measured = total.saturating_sub(self.bytes) as f64 / elapsed.as_secs_f64();
        self.bytes_per_second = measured.max(self.bytes_per_second * 0.8);
        self.is_known |= total > 0;
        self.since = now;
        self.bytes = total;
    }
}

/// The smallest sample of the last one to two windows.
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

    fn update(&mut self, now: Instant, sample: Duration, window: Duration) {
        if now.saturating_duration_since(self.since) > window {
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
    const MTU: u16 = 1200;

    struct Bench {
        controller: DelayController,
        now: Instant,
    }

    impl Bench {
        fn new() -> Self {
            let now = Instant::now();
            Self { controller: DelayController::new(now, MTU, Arc::default()), now }
        }

        /// `count` acknowledged packets, one a millisecond, each having waited `queueing` somewhere.
        fn acknowledge(&mut self, count: u32, queueing: Duration, streams_wait: bool) {
            self.controller.share().set_streams_wait(streams_wait);
            for _ in 0..count {
                self.now += Duration::from_millis(1);
                self.controller.acknowledged(self.now, RTT + queueing, RTT, u64::from(MTU));
            }
        }

        /// One lost packet after each round trip.
        fn lose(&mut self, count: u32, is_persistent: bool) {
            for _ in 0..count {
                self.now += RTT + Duration::from_millis(10);
                self.controller.lost(self.now, self.now, is_persistent, u64::from(MTU));
            }
        }

        fn streams(&self) -> u64 {
            self.controller.share().stream_window()
        }
    }

    #[test]
    fn grows_on_an_empty_path_and_not_beyond_need() {
        let mut bench = Bench::new();
        bench.acknowledge(200, Duration::ZERO, true);
        let grown = bench.streams();
        assert!(grown > 60_000, "{grown}");
        bench.acknowledge(200, Duration::ZERO, false);
        assert_eq!(bench.streams(), grown);
        bench.acknowledge(30_000, Duration::ZERO, false);
        assert_eq!(bench.streams(), 2 * u64::from(MTU) / 256 * 256);
    }

    #[test]
    fn a_standing_queue_shrinks_the_window_to_its_minimum() {
        let mut bench = Bench::new();
        bench.acknowledge(200, Duration::ZERO, true);
        let mut least = u64::MAX;
        for _ in 0..600 {
            bench.acknowledge(1, TARGET * 3, true);
            least = least.min(bench.streams());
        }
        // There it stays until the queue counts as the path's own.
        assert_eq!(least, 2 * u64::from(MTU) / 256 * 256);
    }

    #[test]
    fn jitter_is_no_queue() {
        let mut bench = Bench::new();
        // Delays wander by 12 ms all the time, as they do without any transfer.
        let wander = |bench: &mut Bench, streams_wait| {
            for step in 0..600 {
                bench.acknowledge(1, Duration::from_millis(step * 7 % 12), streams_wait);
            }
        };
        wander(&mut bench, false);
        wander(&mut bench, true);
        assert!(bench.streams() > 60_000, "{}", bench.streams());
    }

    #[test]
    fn loss_never_starves_the_media() {
        let mut bench = Bench::new();
        // 12 Mbit/s of audio for a second, more than the share media has anyway.
        for _ in 0..1000 {
            bench.controller.share().add_media(1_500);
            bench.acknowledge(1, Duration::ZERO, false);
        }
        bench.lose(200, true);
        let in_flight = 1_500_000.0 * RTT.as_secs_f64();
        let window = bench.controller.window() as f64;
        assert!(window >= in_flight * 1.9, "{window} bytes for {in_flight} in flight");
    }

    #[test]
    fn media_keeps_room_beside_streams_of_any_size() {
        let mut bench = Bench::new();
        for _ in 0..20 {
            bench.acknowledge(100, Duration::ZERO, true);
            bench.controller.share().add_media(10_000);
            let room = bench.controller.window() - bench.streams();
            assert!(room >= 4 * u64::from(MTU), "{room}");
        }
    }

    #[test]
    fn a_few_losses_without_a_queue_are_the_weather() {
        let mut bench = Bench::new();
        bench.acknowledge(200, Duration::ZERO, true);
        let before = bench.streams();
        for _ in 0..20 {
            bench.acknowledge(50, Duration::ZERO, true);
            bench.lose(1, false);
        }
        assert!(bench.streams() >= before);
    }

    #[test]
    fn one_burst_of_loss_in_a_queue_is_one_cut() {
        let mut bench = Bench::new();
        bench.acknowledge(200, Duration::ZERO, true);
        bench.acknowledge(80, TARGET / 2, true);
        let before = bench.streams() as f64;
        let sent = bench.now;
        for _ in 0..10 {
            bench.now += Duration::from_millis(1);
            bench.controller.lost(bench.now, sent, false, 1200);
        }
        assert!((bench.streams() as f64 - before * 0.85).abs() <= 2.0 * WINDOW_STEP_BYTES as f64);
    }

    #[test]
    fn a_path_that_loses_a_lot_is_full() {
        let mut bench = Bench::new();
        bench.acknowledge(200, Duration::ZERO, true);
        for _ in 0..60 {
            bench.acknowledge(10, Duration::ZERO, true);
            bench.lose(1, false);
        }
        assert!(bench.streams() < 20_000, "{}", bench.streams());
    }

    #[test]
    fn a_longer_route_is_accepted_after_a_while() {
        let mut bench = Bench::new();
        bench.acknowledge(100, Duration::ZERO, true);
        bench.acknowledge(25_000, Duration::from_millis(60), true);
        assert_eq!(bench.controller.queueing(), Duration::ZERO);
    }
}
