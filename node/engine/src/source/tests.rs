//! A sender, a path and a listener in virtual time, and what the listener hears.

use std::collections::BTreeMap;
use std::f64::consts::TAU;

use super::*;
use crate::frame_clock::FrameClock;
use crate::stats::SourceCounters;

/// When callbacks of the listener begin, in ns.
const START_NS: f64 = 1e9;
/// The sender's callbacks begin a moment before, so that a path of no time is in time.
const SENDER_START_NS: f64 = START_NS - 10_000.0;

struct Sender {
    rate_hz: f64,
    /// How fast the sound card runs.
    ppm: f64,
    block_frames: usize,
    wave: fn(f64) -> f32,
    /// Timestamp of a frame's number.
    timestamp: fn(i64) -> i64,
}

impl Sender {
    fn steady(block_frames: usize) -> Self {
        Self { rate_hz: 48_000.0, ppm: 0.0, block_frames, wave: sine, timestamp: |frame| frame + 1_000_000 }
    }
}

/// 437 Hz at half level: not in step with any period.
fn sine(seconds: f64) -> f32 {
    (0.5 * (TAU * 437.0 * seconds).sin()) as f32
}

struct Listener {
    clock: FrameClock,
    period_frames: usize,
    /// How long the device has stood still.
    stalled_ns: f64,
    /// How much too late a callback may begin.
    wake_up_ns: f64,
    writer: SourceWriter,
    stream: Box<SourceStream>,
    callbacks: u64,
    next_block: u64,
    /// By arrival time and number.
    under_way: BTreeMap<(u64, u64), Vec<f32>>,
    heard: Vec<f32>,
    events: Vec<(u64, StreamEvent)>,
}

impl Listener {
    fn new(period_frames: usize, config: SourceConfig) -> Self {
        let (writer, source) = source(config, 48_000, period_frames).unwrap();
        Self {
            clock: FrameClock::new(48_000),
            period_frames,
            stalled_ns: 0.0,
            wake_up_ns: 0.0,
            writer,
            stream: source.0,
            callbacks: 0,
            next_block: 0,
            under_way: BTreeMap::new(),
            heard: Vec::new(),
            events: Vec::new(),
        }
    }

    fn callback_ns(&self, callback: u64) -> f64 {
        let late = self.wake_up_ns * Random(callback.wrapping_mul(0x9e37_79b9_7f4a_7c15)).uniform();
        START_NS + self.stalled_ns + late + (callback as f64 * self.period_frames as f64) * 1e9 / 48_000.0
    }

    fn callback(&mut self) {
        let now = HostTime(self.callback_ns(self.callbacks) as u64);
        self.clock.handle_callback(now, self.period_frames);
        let mut callback =
            Callback { clock: &self.clock, host_time: now, frames: self.period_frames, fits_left: &mut 8 };
        if let Some(event) = self.stream.process(&mut callback) {
            self.events.push((self.callbacks, event));
        }
        self.heard.extend(self.stream.output(self.period_frames).0);
        self.callbacks += 1;
    }

    fn counters(&self) -> SourceCounters {
        self.writer.stats().counters()
    }

    /// Goes on for `seconds` with a sender whose block `k` takes `path(k)` seconds, or never comes.
    fn listen(&mut self, sender: &Sender, seconds: f64, mut path: impl FnMut(u64) -> Option<f64>) {
        let until = self.callbacks + (seconds * 48_000.0 / self.period_frames as f64) as u64;
        let true_rate = sender.rate_hz * (1.0 + sender.ppm * 1e-6);
        while self.callbacks < until {
            let now = self.callback_ns(self.callbacks);
            loop {
                // A block is captured in full when the next one begins.
                let frame = self.next_block as f64 * sender.block_frames as f64;
                let sent_ns = SENDER_START_NS + (frame + sender.block_frames as f64) / true_rate * 1e9;
                if sent_ns > now {
                    break;
                }
                if let Some(delay) = path(self.next_block) {
                    let block = (0..sender.block_frames)
                        .map(|n| (sender.wave)((frame + n as f64) / sender.rate_hz))
                        .collect();
                    self.under_way.insert(((sent_ns + delay * 1e9) as u64, self.next_block), block);
                }
                self.next_block += 1;
            }
            while let Some(entry) = self.under_way.first_entry() {
                let (arrival, number) = *entry.key();
                if arrival as f64 > now {
                    break;
                }
                let block = entry.remove();
                let timestamp = (sender.timestamp)(number as i64 * sender.block_frames as i64);
                self.writer.push(timestamp, HostTime(arrival), &block).unwrap();
            }
            self.callback();
        }
    }

    /// Frames from the sender's capture of a sound to its playing here, by the stream's own account.
    fn latency_frames(&self) -> f64 {
        let point = self.writer.stats().playout().expect("playing");
        let began = (point.host_time.0 as f64 - START_NS) * 48_000.0 / 1e9;
        (began - (point.timestamp_frames - 1_000_000) as f64).round()
    }
}

struct Random(u64);

impl Random {
    fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as f64 / (1u64 << 31) as f64
    }

    fn exponential(&mut self, mean: f64) -> f64 {
        -mean * (1.0 - self.uniform()).ln()
    }
}

/// The sharpest bend of the waveform: a click shows here, a 437 Hz sine at half level stays below 0.002.
fn sharpest_bend(heard: &[f32]) -> f32 {
    heard.windows(3).map(|w| (w[2] - 2.0 * w[1] + w[0]).abs()).fold(0.0, f32::max)
}

const NEVER_BENDS: f32 = 0.0022;

#[test]
fn perfect_network_costs_exactly_one_period_and_changes_no_bit() {
    for (block, period) in [(128, 128), (64, 64), (32, 32), (1_024, 1_024), (64, 128)] {
        let mut listener = Listener::new(period, SourceConfig::new(48_000, 1));
        listener.listen(&Sender::steady(block), 3.0, |_| Some(0.0));
        let latency = listener.latency_frames() as usize;
        assert_eq!(latency, period, "{block} to {period}");
        let from = 4_800;
        for (n, sample) in listener.heard.iter().enumerate().skip(from) {
            assert_eq!(*sample, sine((n - latency) as f64 / 48_000.0), "frame {n}");
        }
        let counters = listener.counters();
        assert_eq!((counters.late_frames, counters.concealed_frames, counters.stretched_frames), (0, 0, 0));
        if block == period {
            assert_eq!(listener.writer.stats().delay_frames(), 0.0);
        }
    }
}

#[test]
fn block_there_at_the_callback_is_played_by_it() {
    let mut listener = Listener::new(128, SourceConfig::new(48_000, 1));
    listener.listen(&Sender::steady(128), 1.0, |_| Some(0.0));
    assert_eq!(listener.latency_frames(), 128.0);
}

#[test]
fn big_blocks_are_played_over_several_callbacks_without_waiting() {
    let mut listener = Listener::new(64, SourceConfig::new(48_000, 1));
    listener.listen(&Sender::steady(256), 3.0, |_| Some(0.0));
    assert_eq!(listener.latency_frames(), 256.0);
    assert_eq!(listener.counters().concealed_frames, 0);
}

#[test]
fn blocks_and_periods_that_do_not_divide_settle_during_the_fade_in() {
    for (block, period) in [(480, 128), (128, 480), (120, 64), (960, 32), (240, 1_024)] {
        let mut listener = Listener::new(period, SourceConfig::new(48_000, 1));
        let sender = Sender::steady(block);
        listener.listen(&sender, 0.3, |_| Some(0.0));
        let early = listener.counters().concealed_frames;
        listener.listen(&sender, 20.0, |_| Some(0.0));
        let counters = listener.counters();
        assert_eq!(counters.concealed_frames, early, "{block} to {period}");
        assert!(early <= 2 * period as u64, "{block} to {period}: {early}");
        let latency = listener.latency_frames() as usize;
        assert!(latency < block + period, "{block} to {period}: {latency}");
        assert_eq!(listener.writer.stats().drift_ppm(), 0.0);
    }
}

#[test]
fn stream_fades_in_and_tells_when_it_started() {
    let mut listener = Listener::new(128, SourceConfig::new(48_000, 1));
    listener.listen(&Sender::steady(128), 0.1, |_| Some(0.0));
    assert_eq!(listener.events, [(1, StreamEvent::Started)]);
    let early = listener.heard[128..228].iter().fold(0.0f32, |peak, s| peak.max(s.abs()));
    assert!(early < 0.06, "{early}");
}

#[test]
fn lost_packets_are_concealed_without_a_click_and_counted() {
    let mut listener = Listener::new(128, SourceConfig::new(48_000, 1));
    listener.listen(&Sender::steady(128), 10.0, |k| (k % 50 != 30).then_some(0.0));
    let counters = listener.counters();
    assert!((74..=75).contains(&counters.concealment_events), "{counters:?}");
    assert_eq!(counters.concealed_frames, counters.concealment_events * 128);
    assert_eq!((counters.late_frames, counters.stretched_frames), (0, 0));
    assert_eq!(listener.latency_frames(), 128.0, "loss is no reason to wait longer");
    let bend = sharpest_bend(&listener.heard[4_800..]);
    assert!(bend < 0.004, "{bend}");
}

#[test]
fn reordered_and_doubled_packets_are_put_right() {
    let mut listener = Listener::new(128, SourceConfig::new(48_000, 1));
    let sender = Sender::steady(128);
    // Odd blocks take so long that their successors overtake them.
    listener.listen(&sender, 2.0, |k| Some(if k % 2 == 1 { 0.003 } else { 0.0 }));
    let before = listener.counters().concealed_frames;
    listener.listen(&sender, 1.0, |k| Some(if k % 2 == 1 { 0.003 } else { 0.0 }));
    assert_eq!(listener.counters().concealed_frames, before, "after the first the delay is enough");

    let counters = listener.counters();
    for again in 1_100..1_120 {
        let block: Vec<f32> = vec![0.9; 128];
        listener.writer.push(1_000_000 + again * 128, HostTime(0), &block).unwrap();
    }
    listener.callback();
    assert_eq!(listener.counters().duplicate_frames, counters.duplicate_frames + 20 * 128);
}

#[test]
fn jitter_grows_the_delay_at_once_and_calm_shrinks_it_back_to_one_period() {
    let mut listener = Listener::new(128, SourceConfig::new(48_000, 1));
    let sender = Sender::steady(128);
    let mut random = Random(7);
    listener.listen(&sender, 10.0, |_| Some(random.exponential(0.002)));
    let rough = listener.latency_frames();
    assert!((384.0..2_000.0).contains(&rough), "{rough}");
    let late_share = listener.counters().late_frames as f64 / listener.counters().received_frames as f64;
    assert!(late_share < 0.02, "{late_share}");

    listener.listen(&sender, 40.0, |_| Some(0.0));
    assert_eq!(listener.latency_frames(), 128.0);
    let counters = listener.counters();
    let calm = listener.heard.len() - 480_000;
    assert!(sharpest_bend(&listener.heard[calm..]) < NEVER_BENDS, "shrinking is not heard");
    assert!(counters.stretched_frames > 256);
    assert_eq!(counters.buffer_resets, 0);
    for (n, sample) in listener.heard.iter().enumerate().skip(calm) {
        assert_eq!(*sample, sine((n - 128) as f64 / 48_000.0), "bit for bit again, frame {n}");
    }
}

#[test]
fn steady_jitter_is_held_to_the_loss_target() {
    for seed in 0..5 {
        let mut random = Random(seed);
        let mut listener = Listener::new(128, SourceConfig::new(48_000, 1));
        let sender = Sender::steady(128);
        listener.listen(&sender, 20.0, |_| Some(random.exponential(0.003)));
        let before = listener.counters();
        listener.listen(&sender, 40.0, |_| Some(random.exponential(0.003)));
        let after = listener.counters();
        let late = (after.late_frames - before.late_frames) as f64 / (40.0 * 48_000.0);
        assert!(late < 0.01, "seed {seed}: {late}");
        // 0.5 % of an exponential of 3 ms is 16 ms.
        assert!(listener.latency_frames() < 48.0 * 25.0, "seed {seed}: {}", listener.latency_frames());
    }
}

#[test]
fn longer_path_is_followed_and_a_shorter_one_won_back() {
    let mut listener = Listener::new(128, SourceConfig::new(48_000, 1));
    let sender = Sender::steady(128);
    listener.listen(&sender, 5.0, |_| Some(0.0));
    let concealed = listener.counters().concealed_frames;
    listener.listen(&sender, 5.0, |_| Some(0.020));
    assert!(listener.counters().concealed_frames - concealed < 48 * 35);
    // 20 ms are seven and a half periods.
    assert_eq!(listener.latency_frames(), 9.0 * 128.0);
    listener.listen(&sender, 30.0, |_| Some(0.0));
    assert_eq!(listener.latency_frames(), 128.0);
    assert_eq!(listener.counters().buffer_resets, 0);
}

#[test]
fn callbacks_that_wake_up_late_are_not_taken_for_drift() {
    for wake_up_ms in [0.2, 1.0, 2.0] {
        let mut listener = Listener::new(128, SourceConfig::new(48_000, 1));
        listener.wake_up_ns = wake_up_ms * 1e6;
        let sender = Sender::steady(128);
        listener.listen(&sender, 5.0, |_| Some(0.000_3));
        let early = listener.counters().concealed_frames;
        listener.listen(&sender, 115.0, |_| Some(0.000_3));
        assert_eq!(listener.writer.stats().drift_ppm(), 0.0);
        assert_eq!(listener.counters().concealed_frames, early, "{wake_up_ms} ms");
        let latency = listener.latency_frames() as usize;
        assert!(latency <= 3 * 128, "{wake_up_ms} ms: {latency}");
    }
}

#[test]
fn device_that_stood_still_is_back_at_one_period_at_once() {
    for stall_ms in [8.0, 100.0, 450.0] {
        let mut listener = Listener::new(128, SourceConfig::new(48_000, 1));
        let sender = Sender::steady(128);
        listener.listen(&sender, 5.0, |_| Some(0.0));
        listener.stalled_ns += stall_ms * 1e6;
        listener.listen(&sender, 0.1, |_| Some(0.0));
        // By the sender's clock a stall that is no whole number of periods leaves up to a period more.
        let latency = listener.latency_frames();
        assert!((128.0..=256.0).contains(&latency), "{stall_ms} ms: {latency}");
    }
}

#[test]
fn silent_sender_fades_stops_and_starts_again_at_once() {
    let mut listener = Listener::new(128, SourceConfig::new(48_000, 1));
    let sender = Sender::steady(128);
    listener.listen(&sender, 1.0, |_| Some(0.0));
    let gone = listener.heard.len();
    listener.listen(&sender, 1.0, |_| None);
    assert!(listener.heard[gone + 3_200..].iter().all(|s| *s == 0.0), "silent after 60 ms");
    assert!(sharpest_bend(&listener.heard[gone - 4_800..]) < 0.004, "and without a click");
    assert_eq!(listener.writer.stats().playout(), None);
    listener.listen(&sender, 1.0, |_| Some(0.0));
    let events: Vec<StreamEvent> = listener.events.iter().map(|(_, event)| *event).collect();
    assert_eq!(events, [StreamEvent::Started, StreamEvent::Stopped, StreamEvent::Started]);
    assert_eq!(listener.latency_frames(), 128.0);
}

#[test]
fn jumped_timestamps_are_believed_at_the_second_block() {
    let mut listener = Listener::new(128, SourceConfig::new(48_000, 1));
    let sender = Sender::steady(128);
    listener.listen(&sender, 1.0, |_| Some(0.0));
    let restarted = Sender { timestamp: |frame| frame - 7_000_000_000, ..Sender::steady(128) };
    listener.listen(&restarted, 1.0, |_| Some(0.0));
    let counters = listener.counters();
    assert_eq!((counters.buffer_resets, counters.dropped_frames), (1, 128));
    let events: Vec<StreamEvent> = listener.events.iter().map(|(_, event)| *event).collect();
    assert_eq!(events, [StreamEvent::Started, StreamEvent::Reset]);
    let end = listener.heard.len();
    assert_eq!(listener.heard[end - 1], sine((end - 1 - 128) as f64 / 48_000.0));
}

#[test]
fn single_wild_timestamp_changes_nothing() {
    let mut listener = Listener::new(128, SourceConfig::new(48_000, 1));
    let sender = Sender::steady(128);
    listener.listen(&sender, 1.0, |_| Some(0.0));
    for wild in [i64::MAX, i64::MIN, 0, 1_000_000 + 10_000_000] {
        listener.writer.push(wild, HostTime(u64::MAX), &[0.9; 128]).unwrap();
    }
    listener.listen(&sender, 1.0, |_| Some(0.0));
    let counters = listener.counters();
    assert_eq!((counters.buffer_resets, counters.dropped_frames), (0, 4 * 128));
    assert_eq!(counters.concealed_frames, 0);
}

#[test]
fn drift_of_300_ppm_is_corrected_without_clicks_or_resets() {
    for ppm in [-300.0, 300.0, 60.0, -20.0] {
        let mut random = Random(3);
        let mut listener = Listener::new(128, SourceConfig::new(48_000, 1));
        let sender = Sender { ppm, ..Sender::steady(128) };
        listener.listen(&sender, 180.0, |_| Some(0.000_2 + random.exponential(0.000_05)));
        let counters = listener.counters();
        assert_eq!(counters.buffer_resets, 0);
        let bend = sharpest_bend(&listener.heard[4_800..]);
        assert!(bend < 0.004, "{ppm} ppm: {bend}");
        let later = &listener.heard[15 * 48_000..];
        let bend = sharpest_bend(later);
        assert!(bend < NEVER_BENDS, "{ppm} ppm: {bend} once the drift is known");
        let found = f64::from(listener.writer.stats().drift_ppm());
        assert!((found - ppm).abs() < 3.0, "{found} instead of {ppm} ppm");
        assert!(listener.writer.stats().delay_frames() < 300.0);
        // The last ten seconds are free of made-up sound.
        let before = counters.concealed_frames;
        listener.listen(&sender, 10.0, |_| Some(0.000_2));
        assert_eq!(listener.counters().concealed_frames, before);
    }
}

#[test]
fn other_rates_are_converted_in_tune() {
    for rate in [44_100u32, 96_000, 32_000] {
        let mut listener = Listener::new(128, SourceConfig::new(rate, 1));
        let sender = Sender { rate_hz: f64::from(rate), ..Sender::steady(128) };
        listener.listen(&sender, 20.0, |_| Some(0.000_1));
        let tail = &listener.heard[15 * 48_000..];
        // Least-squares fit of the sine; what is left is error.
        let omega = TAU * 437.0 / 48_000.0;
        let (mut s, mut c, mut power) = (0.0f64, 0.0f64, 0.0f64);
        for (n, sample) in tail.iter().enumerate() {
            let angle = omega * n as f64;
            s += f64::from(*sample) * angle.sin();
            c += f64::from(*sample) * angle.cos();
            power += f64::from(*sample).powi(2);
        }
        let fitted = 2.0 * (s * s + c * c) / tail.len() as f64;
        let error_db = 10.0 * ((power - fitted).max(1e-12) / power).log10();
        assert!(error_db < -45.0, "{rate} Hz: {error_db:.1} dB");
        assert_eq!(listener.counters().buffer_resets, 0);
    }
}

#[test]
fn rate_measured_elsewhere_is_used_from_the_first_block() {
    let mut listener = Listener::new(128, SourceConfig::new(48_000, 1));
    listener.stream.set_measured_rate(48_000.0 * 1.0002);
    let sender = Sender { ppm: 200.0, ..Sender::steady(128) };
    listener.listen(&sender, 1.0, |_| Some(0.000_2));
    assert!((listener.writer.stats().drift_ppm() - 200.0).abs() < 1.0);
    listener.stream.set_measured_rate(1.0);
    listener.listen(&sender, 1.0, |_| Some(0.000_2));
    assert!((listener.writer.stats().drift_ppm() - 200.0).abs() < 5.0, "nonsense is ignored");
}

#[test]
fn full_queue_drops_and_counts_and_bad_blocks_are_refused() {
    let (mut writer, _source) = source(SourceConfig::new(48_000, 2), 48_000, 128).unwrap();
    assert_eq!(writer.push(0, HostTime(0), &[0.0; 3]), Err(PushError::BadBlock { samples: 3, channels: 2 }));
    assert!(writer.push(0, HostTime(0), &[]).is_err());
    assert!(writer.push(0, HostTime(0), &vec![0.0; 2 * MAX_BLOCK_FRAMES + 2]).is_err());
    let mut taken = 0;
    while writer.push(taken * 128, HostTime(0), &[0.0; 256]).is_ok() {
        taken += 1;
    }
    assert_eq!(taken, 187);
    assert_eq!(writer.stats().counters().dropped_frames, 128);
}

#[test]
fn source_out_of_range_is_refused_with_the_range() {
    let refuse = |config| source(config, 48_000, 128).unwrap_err();
    assert_eq!(refuse(SourceConfig::new(7_999, 1)), SourceError::Rate(7_999));
    assert_eq!(refuse(SourceConfig::new(48_000, 3)), SourceError::Channels(3));
    let nan = SourceConfig { loss_target: f32::NAN, ..SourceConfig::new(48_000, 1) };
    assert!(refuse(nan).to_string().contains("0 to 0.015"));
}

proptest::proptest! {
    #![proptest_config(proptest::test_runner::Config::with_cases(64))]
    #[test]
    fn any_sequence_of_blocks_gives_finite_sound(
        blocks in proptest::collection::vec(
            (proptest::prelude::any::<i64>(), -3000i64..3000, 1usize..400, 0u8..4, proptest::num::f32::ANY),
            1..200,
        ),
        rate in proptest::sample::select(vec![8_000u32, 44_100, 48_000, 192_000]),
    ) {
        let mut listener = Listener::new(64, SourceConfig::new(rate, 1));
        for (wild, near, frames, kind, sample) in blocks {
            let timestamp = if kind == 0 { wild } else { near };
            let _ = listener.writer.push(timestamp, HostTime(wild as u64), &vec![sample; frames]);
            for _ in 0..kind {
                listener.callback();
            }
        }
        // What comes in is cut at 16, and no kernel makes more than three times that of it.
        let peak = listener.heard.iter().fold(0.0, |peak: f32, s| if s.is_finite() { peak.max(s.abs()) } else { f32::MAX });
        proptest::prop_assert!(peak <= 48.0, "{}", peak);
    }
}

/// One-way delay in seconds over time, and whether a packet is lost.
struct Weather {
    delay_ms: Vec<f64>,
    lost: Vec<bool>,
    last_arrival: f64,
}

impl Weather {
    const GRID_MS: f64 = 0.25;

    fn wifi(seed: u64, seconds: f64) -> Self {
        let mut random = Random(seed);
        let steps = (seconds * 1_000.0 / Self::GRID_MS) as usize;
        let mut delay_ms: Vec<f64> = (0..steps).map(|_| 1.6 + random.exponential(1.0)).collect();
        let mut stall = |random: &mut Random, per_second: f64, length: &dyn Fn(f64) -> f64| {
            let mut at = 0.0;
            loop {
                at += random.exponential(1_000.0 / per_second);
                let long = length(random.uniform());
                let first = (at / Self::GRID_MS) as usize;
                if first >= steps {
                    break;
                }
                for (n, slot) in
                    delay_ms.iter_mut().skip(first).take((long / Self::GRID_MS) as usize).enumerate()
                {
                    *slot += long - n as f64 * Self::GRID_MS;
                }
            }
        };
        stall(&mut random, 5.0, &|u| (2.0 * (1.0 - u).powf(-1.0 / 1.8)).min(12.0));
        stall(&mut random, 0.5, &|u| 20.0 + 20.0 * u);
        Self { lost: vec![false; steps], delay_ms, last_arrival: 0.0 }
    }

    fn internet(
        seed: u64,
        seconds: f64,
        base: f64,
        sigma: f64,
        tau: f64,
        burst_loss: f64,
        loss: f64,
    ) -> Self {
        let mut random = Random(seed);
        let steps = (seconds * 1_000.0 / Self::GRID_MS) as usize;
        let mut x = 0.0;
        let keep = (-Self::GRID_MS / tau).exp();
        let mut bad = false;
        let mut delay_ms = Vec::new();
        let mut lost = Vec::new();
        for _ in 0..steps {
            let normal = (0..12).map(|_| random.uniform()).sum::<f64>() - 6.0;
            x = x * keep + normal * sigma * (1.0 - keep * keep).sqrt();
            delay_ms.push((base + x).max(0.1));
            let leave = if bad { Self::GRID_MS / 15.0 } else { Self::GRID_MS / 510.0 };
            bad ^= random.uniform() < leave;
            lost.push(random.uniform() < if bad { burst_loss } else { loss });
        }
        Self { delay_ms, lost, last_arrival: 0.0 }
    }

    fn path(&mut self, sent_ms: f64) -> Option<f64> {
        let n = (sent_ms / Self::GRID_MS) as usize % self.delay_ms.len();
        if self.lost[n] {
            return None;
        }
        self.last_arrival = self.last_arrival.max(sent_ms + self.delay_ms[n]);
        Some((self.last_arrival - sent_ms) / 1_000.0)
    }
}

#[test]
fn bad_weather_is_ridden_out_near_the_loss_target() {
    let wifi = |seed| Weather::wifi(seed, 100.0);
    let good = |seed| Weather::internet(seed, 100.0, 15.0, 1.0, 10.0, 0.0, 0.001);
    let bad = |seed| Weather::internet(seed, 100.0, 25.0, 5.0, 20.0, 0.7, 0.0);
    // Latency in ms that holds 19 times of 20, from the end of a block's capture.
    type Forecast<'a> = (&'a str, &'a dyn Fn(u64) -> Weather, f64);
    let cases: [Forecast<'_>; 3] =
        [("wifi", &wifi, 40.0), ("good internet", &good, 18.8), ("bad internet", &bad, 45.0)];
    for (name, weather, bound_ms) in cases {
        for seed in 1..4 {
            let mut weather = weather(seed);
            let mut listener = Listener::new(128, SourceConfig::new(48_000, 1));
            let sender = Sender::steady(128);
            let mut latencies = Vec::new();
            for _ in 0..600 {
                listener.listen(&sender, 0.08, |k| weather.path((k + 1) as f64 * 128.0 / 48.0));
                latencies.push(listener.latency_frames() / 48.0 - 128.0 / 48.0);
            }
            let counters = listener.counters();
            let late = counters.late_frames as f64 / listener.heard.len() as f64;
            assert!(late < 0.006, "{name}, seed {seed}: {late} late");
            assert_eq!(counters.buffer_resets, 0);
            assert_eq!(listener.writer.stats().drift_ppm(), 0.0, "{name}, seed {seed}: weather is not drift");
            latencies.sort_by(f64::total_cmp);
            let p95 = latencies[latencies.len() * 95 / 100];
            assert!(p95 < bound_ms, "{name}, seed {seed}: {p95} ms");
        }
    }
}
