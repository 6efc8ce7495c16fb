//! Whole devices that need no hardware.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use assert_no_alloc::AllocDisabler;

use super::*;

/// Aborts a test whose callback, or our wrapper around it, allocates.
#[global_allocator]
static ALLOCATOR: AllocDisabler = AllocDisabler;

pub(super) fn config(choice: AudioChoice) -> DeviceConfig {
    DeviceConfig { choice, rate_hz: None, period_frames: None, jack_name: "bandmesh-test".to_owned() }
}

pub(super) fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Gives back what it hears, on both sides.
pub(super) struct Echo;
impl AudioCallback for Echo {
    fn process(&mut self, input: &[f32], output: &mut [f32], _: u64) {
        let channels = input.len() / (output.len() / 2);
        for (from, to) in input.chunks_exact(channels).zip(output.chunks_exact_mut(2)) {
            to.copy_from_slice(&[from[0], from[channels - 1]]);
        }
    }
}

#[derive(Default)]
struct Times {
    first_ns: Arc<AtomicU64>,
    last_ns: Arc<AtomicU64>,
}
impl AudioCallback for Times {
    fn process(&mut self, _: &[f32], _: &mut [f32], host_time_ns: u64) {
        let _ = self.first_ns.compare_exchange(0, host_time_ns, Relaxed, Relaxed);
        self.last_ns.store(host_time_ns, Relaxed);
    }
}

#[test]
fn null_device_keeps_exact_time_and_gives_the_callback_back() {
    let times = Times::default();
    let (first, last) = (times.first_ns.clone(), times.last_ns.clone());
    let running = open(&config(AudioChoice::Null), |opened| {
        assert_eq!((opened.rate_hz, opened.period_frames, opened.input_channels), (48_000, 128, 2));
        Box::new(times)
    })
    .unwrap();
    wait_for("half a second of periods", || running.stats().callbacks() >= 188);
    let stats = running.stats().clone();
    assert!(running.stop().is_some());
    let periods = (last.load(Relaxed) - first.load(Relaxed)) as f64 / (128.0 / 48_000.0 * 1e9);
    assert!((periods - periods.round()).abs() < 1e-3, "{periods} periods");
    let calls = stats.snapshot();
    if calls.xruns == 0 {
        assert_eq!(periods.round() as u64 + 1, calls.callbacks);
    }
    let after = stats.callbacks();
    std::thread::sleep(Duration::from_millis(10));
    assert_eq!(stats.callbacks(), after, "nothing runs after stop");
}

#[test]
fn priority_is_realtime_or_the_refusal_says_what_to_change() {
    let running = open(&config(AudioChoice::Null), |_| Box::new(Echo)).unwrap();
    match running.info().realtime {
        Realtime::Fifo(priority) => assert!(priority > 0),
        Realtime::Denied(reason) => assert!(reason.contains("ulimit"), "{reason}"),
        Realtime::DeviceDecides => panic!("the timer decides itself"),
    }
}

#[test]
fn formats_out_of_range_are_refused_before_anything_opens() {
    for (rate_hz, period_frames) in
        [(Some(0), None), (Some(4_000_000_000), None), (None, Some(0)), (None, Some(5000))]
    {
        let wrong = DeviceConfig { rate_hz, period_frames, ..config(AudioChoice::Null) };
        let error = open(&wrong, |_| panic!("never built")).err().unwrap().to_string();
        assert!(error.contains("out of range"), "{error}");
    }
}

struct Bomb(u32);
impl AudioCallback for Bomb {
    fn process(&mut self, _: &[f32], output: &mut [f32], _: u64) {
        output.fill(0.0);
        self.0 = self.0.saturating_sub(1);
        assert!(self.0 > 0, "a bug in the engine");
    }
}

#[test]
fn an_engine_that_panics_is_replaced_by_a_new_one() {
    let mut fuse = 20;
    let audio = Audio::start(config(AudioChoice::Null), move |_| {
        fuse += 1_000_000;
        Box::new(Bomb(fuse - 1_000_000))
    })
    .unwrap();
    let mut events = Vec::new();
    wait_for("a new engine", || {
        events.extend(std::iter::from_fn(|| audio.poll_event()));
        events.iter().any(|event| matches!(event, DeviceEvent::Reopened { rebuilt: true, .. }))
    });
    assert!(events.contains(&DeviceEvent::Lost(LostReason::CallbackPanicked)));
    assert!(audio.is_running());
    audio.stop();
}

#[test]
fn an_engine_that_panics_loses_nothing_of_the_recording() {
    let folder = tempfile::tempdir().unwrap();
    let (input, output) = (folder.path().join("in.wav"), folder.path().join("out.wav"));
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: 48_000,
        bits_per_sample: 32,
        sample_format: hound::SampleFormat::Float,
    };
    let mut writer = hound::WavWriter::create(&input, spec).unwrap();
    writer.write_sample(0.5f32).unwrap();
    writer.finalize().unwrap();
    let mut fuse = 100;
    let choice = AudioChoice::File { input, output: Some(output.clone()) };
    let audio = Audio::start(config(choice), move |_| {
        fuse += 1_000_000;
        Box::new(Bomb(fuse - 1_000_000))
    })
    .unwrap();
    let mut notes = Vec::new();
    wait_for("a new engine", || {
        let event = audio.poll_event();
        if let Some(DeviceEvent::Reopened { info, rebuilt: true }) = event {
            notes = info.notes;
        }
        !notes.is_empty()
    });
    audio.stop();
    assert!(notes.iter().any(|note| note.contains("out-2.wav")), "{notes:?}");
    let frames = |path: &std::path::Path| hound::WavReader::open(path).unwrap().duration();
    assert!(frames(&output) >= 99 * 128, "{}", frames(&output));
    frames(&folder.path().join("out-2.wav"));
}

/// An engine that counts its calls under the number it was built with.
struct Counter(Arc<AtomicU64>);
impl AudioCallback for Counter {
    fn process(&mut self, _: &[f32], output: &mut [f32], _: u64) {
        self.0.fetch_add(1, Relaxed);
        output.fill(0.0);
    }
}

type Engines = Arc<std::sync::Mutex<Vec<Arc<AtomicU64>>>>;

/// A `null` device whose engines can be watched.
fn counted(period_frames: u32) -> (Audio, Engines) {
    let engines = Engines::default();
    let built = engines.clone();
    let config = DeviceConfig { period_frames: Some(period_frames), ..config(AudioChoice::Null) };
    let audio = Audio::start(config, move |_| {
        let calls = Arc::new(AtomicU64::new(0));
        built.lock().unwrap().push(calls.clone());
        Box::new(Counter(calls))
    })
    .unwrap();
    (audio, engines)
}

#[test]
fn another_period_is_taken_up_by_a_new_engine_before_the_old_one_goes() {
    let (audio, engines) = counted(128);
    let calls = |number: usize| engines.lock().unwrap()[number].load(Relaxed);
    wait_for("the first engine", || calls(0) > 10);
    let info = audio.switch(DeviceConfig { period_frames: Some(256), ..audio.config() }).unwrap();
    assert_eq!(
        (info.period_frames, audio.info().period_frames, audio.config().period_frames),
        (256, 256, Some(256))
    );
    // Told before the answer came, so that whoever asked finds it.
    let event = audio.poll_event();
    assert!(matches!(event, Some(DeviceEvent::Reopened { rebuilt: true, .. })), "{event:?}");
    wait_for("the second engine", || calls(1) > 10);
    wait_for("the first one's end", || {
        let before = calls(0);
        std::thread::sleep(Duration::from_millis(20));
        calls(0) == before
    });
    assert_eq!((audio.state(), engines.lock().unwrap().len()), (AudioRunning::Running, 2));
}

#[test]
fn device_that_cannot_be_opened_changes_nothing() {
    let (audio, engines) = counted(128);
    let before = (audio.config(), audio.info());
    let missing = std::env::temp_dir().join("no-such-take.wav");
    let impossible = [
        DeviceConfig { period_frames: Some(1), ..before.0.clone() },
        DeviceConfig { choice: AudioChoice::File { input: missing, output: None }, ..before.0.clone() },
    ];
    for config in impossible {
        let error = audio.switch(config).unwrap_err().to_string();
        assert!(error.len() > 20, "{error}");
        assert_eq!((audio.config(), audio.info()), before);
    }
    assert_eq!((audio.state(), audio.poll_event()), (AudioRunning::Running, None));
    let calls = engines.lock().unwrap()[0].load(Relaxed);
    wait_for("it to go on", || engines.lock().unwrap()[0].load(Relaxed) > calls + 10);
    assert_eq!(engines.lock().unwrap().len(), 1);
}

#[test]
fn changes_asked_for_all_at_once_are_made_one_after_the_other_or_refused() {
    let (audio, _) = counted(128);
    let done = std::thread::scope(|scope| {
        let switches: Vec<_> = (0..6)
            .map(|number| {
                let config = DeviceConfig { period_frames: Some(64 + 16 * number), ..audio.config() };
                let audio = &audio;
                scope.spawn(move || audio.switch(config).map(|info| info.period_frames))
            })
            .collect();
        switches.into_iter().map(|switch| switch.join().unwrap()).collect::<Vec<_>>()
    });
    assert!(done.iter().any(Result::is_ok), "{done:?}");
    assert!(done.iter().all(|one| matches!(one, Ok(_) | Err(SwitchError::Busy))), "{done:?}");
    assert!(done.iter().flatten().any(|period| *period == audio.info().period_frames));
    assert_eq!(audio.state(), AudioRunning::Running);
}

#[test]
fn the_listing_always_offers_null_and_file() {
    let listing = list();
    let choices: Vec<&str> = listing.audio.iter().map(|device| device.choice.as_str()).collect();
    assert!(choices.contains(&"null"), "{choices:?}");
    assert_eq!(listing.audio.iter().filter(|device| device.is_default).count(), 1);
    assert!(serde_json::to_string(&listing).unwrap().contains("file:IN.wav[,OUT.wav]"));
}

#[cfg(feature = "devices")]
#[test]
fn a_card_that_is_not_there_is_named_in_the_error() {
    let choice = AudioChoice::Device("no such card at all".to_owned());
    let error = open(&config(choice), |_| panic!("never built")).err().unwrap().to_string();
    assert!(error.contains("no such card at all") && error.contains("bandmesh devices"), "{error}");
}
