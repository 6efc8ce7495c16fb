//! A device that comes back.
//!
//! [`Audio`] owns a [`Running`] device on a thread of its own. When the device is lost or changes its rate, it is closed,
//! opened again when [`Recovery`] says so, and given the same engine if that still fits. What happens is told by events.

use std::collections::VecDeque;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender, TrySendError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::file::Recordings;
use super::midi::{MidiEvent, MidiPorts, MidiQueueFull};
use super::recovery::{Recovery, RecoveryAction};
use super::switch::{Order, SwitchError, order};
use super::{
    AudioCallback, AudioChoice, DeviceConfig, DeviceError, DeviceEvent, DeviceInfo, DeviceStats, Opened,
    Running, StatsSnapshot, monotonic_ns, open_better, open_counting,
};

const LOOK_EVERY: Duration = Duration::from_millis(50);

/// How often `auto` looks whether a JACK server or a card has come while it plays into the void.
const LOOK_FOR_BETTER_EVERY: Duration = Duration::from_secs(3);

/// How long a change of the device may take before the asker is told that it is under way; drivers give up sooner.
const SWITCH_PATIENCE: Duration = Duration::from_secs(12);

/// When nobody asks for events, the oldest are dropped.
const QUEUE_EVENTS: usize = 64;

/// An open device with recovery. Dropping it stops the device.
///
/// Thread-safe: yes. Realtime-safe: no.
pub struct Audio {
    shared: Arc<Shared>,
    stats: Arc<DeviceStats>,
    requests: Option<SyncSender<Request>>,
    thread: Option<JoinHandle<()>>,
}

/// A wish for another device, and where its outcome goes.
struct Request {
    config: DeviceConfig,
    answer: SyncSender<Result<DeviceInfo, SwitchError>>,
}

/// How the device is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AudioRunning {
    /// It calls.
    Running,
    /// Another is being opened.
    Opening,
    /// It is gone and will be tried again.
    Lost,
}

struct Shared {
    config: Mutex<DeviceConfig>,
    info: Mutex<DeviceInfo>,
    running: Mutex<AudioRunning>,
    midi: Mutex<Option<MidiPorts>>,
    events: Mutex<VecDeque<DeviceEvent>>,
}

/// Builds an engine for a format. Called again when the old one was lost or no longer fits.
type Build = Box<dyn FnMut(&Opened) -> Box<dyn AudioCallback> + Send>;

impl Audio {
    /// Opens the device now; fails as [`super::open`] does. Only later losses are recovered from.
    pub fn start<F>(config: DeviceConfig, mut make: F) -> Result<Self, DeviceError>
    where
        F: FnMut(&Opened) -> Box<dyn AudioCallback> + Send + 'static,
    {
        let stats = Arc::new(DeviceStats::default());
        let mut format = None;
        let mut recordings = Recordings::default();
        let mut running = open_counting(&config, &mut recordings, stats.clone(), |opened| {
            format = Some(*opened);
            make(opened)
        })?;
        let shared = Arc::new(Shared {
            config: Mutex::new(config.clone()),
            info: Mutex::new(running.info()),
            running: Mutex::new(AudioRunning::Running),
            midi: Mutex::new(running.take_midi()),
            events: Mutex::new(VecDeque::new()),
        });
        let keeper = Keeper {
            config,
            build: Box::new(make),
            format,
            recordings,
            shared: shared.clone(),
            stats: stats.clone(),
        };
        // One change at a time; another one is told to wait.
        let (requests, queue) = mpsc::sync_channel(1);
        let thread = std::thread::Builder::new()
            .name("bandmesh-audio".into())
            .spawn(move || keeper.keep(running, &queue))
            .map_err(DeviceError::Thread)?;
        Ok(Audio { shared, stats, requests: Some(requests), thread: Some(thread) })
    }

    /// What is open, or was when it was lost.
    pub fn info(&self) -> DeviceInfo {
        lock(&self.shared.info).clone()
    }

    /// What was asked for.
    pub fn config(&self) -> DeviceConfig {
        lock(&self.shared.config).clone()
    }

    /// How the device is doing.
    pub fn state(&self) -> AudioRunning {
        *lock(&self.shared.running)
    }

    /// False from a loss until the device is open again.
    pub fn is_running(&self) -> bool {
        self.state() != AudioRunning::Lost
    }

    /// Changes to another device or format while the old one plays, and says what is open then. A
    /// [`DeviceEvent::Reopened`] tells of the new engine before this returns. Waits up to 12 s: not for an async task.
    ///
    /// # Errors
    /// [`SwitchError`]; the old device goes on then, or is being recovered as after a loss.
    pub fn switch(&self, config: DeviceConfig) -> Result<DeviceInfo, SwitchError> {
        super::check(&config)?;
        let (answer, answered) = mpsc::sync_channel(1);
        let requests = self.requests.as_ref().ok_or(SwitchError::Busy)?;
        match requests.try_send(Request { config, answer }) {
            Ok(()) => answered.recv_timeout(SWITCH_PATIENCE).unwrap_or(Err(SwitchError::Busy)),
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => Err(SwitchError::Busy),
        }
    }

    /// The longest callback since the last call, in microseconds. For one reader.
    pub fn take_callback_max_us(&self) -> f64 {
        self.stats.take_callback_max_us()
    }

    /// Numbers about the callback, since the first opening.
    pub fn stats(&self) -> StatsSnapshot {
        let stats = self.stats.snapshot();
        // The numbers outlive the device, and these two have no word of their own.
        let has_latency = !matches!(lock(&self.shared.info).host.as_str(), "null" | "file");
        let output_latency_frames = if has_latency { stats.output_latency_frames } else { 0 };
        StatsSnapshot { output_latency_frames, ..stats }
    }

    /// The next thing that happened to the device.
    pub fn poll_event(&self) -> Option<DeviceEvent> {
        lock(&self.shared.events).pop_front()
    }

    /// Whether the device has MIDI ports of its own, as JACK's client does.
    pub fn has_midi(&self) -> bool {
        lock(&self.shared.midi).is_some()
    }

    /// The next MIDI event played into the device's own port.
    pub fn poll_midi(&self) -> Option<MidiEvent> {
        lock(&self.shared.midi).as_mut().and_then(MidiPorts::poll)
    }

    /// Plays an event on the device's own MIDI output at its time. Without one, nothing happens.
    pub fn send_midi(&self, event: MidiEvent) -> Result<(), MidiQueueFull> {
        lock(&self.shared.midi).as_mut().map_or(Ok(()), |ports| ports.send(event))
    }

    /// How long after the start of a callback its first frame leaves the sound card, by the device's own word.
    pub fn output_latency_ns(&self) -> u64 {
        let rate_hz = lock(&self.shared.info).rate_hz;
        u64::from(self.stats().output_latency_frames) * 1_000_000_000 / u64::from(rate_hz.max(1))
    }

    /// Stops the device; returns within about three seconds even if its driver hangs.
    pub fn stop(self) {}
}

impl Drop for Audio {
    fn drop(&mut self) {
        self.requests = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The thread's part.
struct Keeper {
    config: DeviceConfig,
    build: Build,
    format: Option<Opened>,
    recordings: Recordings,
    shared: Arc<Shared>,
    stats: Arc<DeviceStats>,
}

impl Keeper {
    fn keep(mut self, running: Running, requests: &Receiver<Request>) {
        let mut device = Some(running);
        let mut spare = None;
        let mut recovery = Recovery::default();
        let mut looked_ns = monotonic_ns();
        recovery.handle_opened(monotonic_ns());
        loop {
            match requests.recv_timeout(LOOK_EVERY) {
                Ok(request) => {
                    self.switch(request, &mut device, &mut spare);
                    match device {
                        Some(_) => recovery.handle_opened(monotonic_ns()),
                        None => recovery.handle_lost(monotonic_ns()),
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if let Some(running) = &mut device
                && self.look(running)
            {
                self.close();
                spare = device.take().and_then(Running::stop);
                recovery.handle_lost(monotonic_ns());
            }
            if monotonic_ns().saturating_sub(looked_ns) > LOOK_FOR_BETTER_EVERY.as_nanos() as u64 {
                if let Some(void) = device.take_if(|running| self.plays_into_the_void(running)) {
                    device = Some(self.better_than(void));
                }
                looked_ns = monotonic_ns();
            }
            if recovery.poll(monotonic_ns()) == Some(RecoveryAction::Reopen) {
                match self.reopen(&mut spare) {
                    Ok(opened) => {
                        device = Some(self.install(opened));
                        recovery.handle_opened(monotonic_ns());
                    }
                    Err(error) => {
                        let wait = recovery.handle_failed(monotonic_ns());
                        let error = error.to_string();
                        self.tell(DeviceEvent::ReopenFailed { error, retry_ms: wait.as_millis() as u64 });
                    }
                }
            }
        }
    }

    fn plays_into_the_void(&self, running: &Running) -> bool {
        self.config.choice == AudioChoice::Auto && running.info.host == "null"
    }

    /// What `auto` would choose by now, with an engine of its own, or `void` as it is.
    fn better_than(&mut self, void: Running) -> Running {
        let Keeper { build, format, .. } = self;
        let mut opened_format = None;
        let better = open_better(&self.config, self.stats.clone(), |opened| {
            opened_format = Some(*opened);
            build(opened)
        });
        let Some(running) = better else { return void };
        *format = opened_format;
        void.fade_out();
        self.install(Reopened { running, rebuilt: true })
    }

    /// Passes events on; true when the device must be opened anew.
    fn look(&self, running: &mut Running) -> bool {
        let mut anew = false;
        while let Some(event) = running.poll_event() {
            anew |= matches!(event, DeviceEvent::Lost(_) | DeviceEvent::RateChanged { .. });
            if let DeviceEvent::PeriodChanged { .. } = event {
                *lock(&self.shared.info) = running.info();
            }
            self.tell(event);
        }
        anew
    }

    fn close(&self) {
        *lock(&self.shared.running) = AudioRunning::Lost;
        *lock(&self.shared.midi) = None;
    }

    /// Carries a wish for another device out, answers it, and leaves in `device` what plays then.
    fn switch(
        &mut self,
        request: Request,
        device: &mut Option<Running>,
        spare: &mut Option<Box<dyn AudioCallback>>,
    ) {
        let Request { config, answer } = request;
        let order = match device {
            Some(old) => order(&self.config, &old.info.host, &config),
            None => Order::CloseFirst,
        };
        *lock(&self.shared.running) = AudioRunning::Opening;
        let mut old = None;
        let outcome = match order {
            Order::CloseFirst => self.close_and_open(&config, device, spare),
            Order::OpenFirst { old_may_block } => match self.open_new(&config) {
                Ok(opened) => {
                    // It plays on, ever softer, until the new one has taken over.
                    old = device.take();
                    Ok(opened)
                }
                Err(error) if old_may_block && may_be_blocked(&error) => {
                    self.close_and_open(&config, device, spare)
                }
                Err(error) => Err(error),
            },
        };
        let outcome = outcome.map(|opened| {
            if let Some(old) = &old {
                old.fade_out();
            }
            self.config = config.clone();
            *lock(&self.shared.config) = config;
            *spare = None;
            let installed = self.install(opened);
            let info = installed.info();
            *device = Some(installed);
            info
        });
        *lock(&self.shared.running) =
            if device.is_some() { AudioRunning::Running } else { AudioRunning::Lost };
        // Whoever asked may have given up; the device is changed all the same.
        let _ = answer.send(outcome.map_err(SwitchError::Device));
        drop(old);
    }

    /// For a device that cannot be open beside the old one. If it fails the old one is opened again.
    fn close_and_open(
        &mut self,
        config: &DeviceConfig,
        device: &mut Option<Running>,
        spare: &mut Option<Box<dyn AudioCallback>>,
    ) -> Result<Reopened, DeviceError> {
        if let Some(old) = device.take() {
            old.fade_out();
            *lock(&self.shared.midi) = None;
            *spare = old.stop();
        }
        let format = self.format;
        let error = match self.open_new(config) {
            Ok(opened) => return Ok(opened),
            Err(error) => error,
        };
        self.format = format;
        match self.reopen(spare) {
            Ok(opened) => *device = Some(self.install(opened)),
            Err(again) => {
                self.close();
                tracing::warn!(%again, "the audio device before does not open again either; it is tried further");
            }
        }
        Err(error)
    }

    /// Opens a device with an engine of its own.
    fn open_new(&mut self, config: &DeviceConfig) -> Result<Reopened, DeviceError> {
        let Keeper { build, format, recordings, .. } = self;
        let mut opened_format = None;
        let running = open_counting(config, recordings, self.stats.clone(), |opened| {
            opened_format = Some(*opened);
            build(opened)
        })?;
        *format = opened_format;
        Ok(Reopened { running, rebuilt: true })
    }

    /// Makes an opened device the one that everybody sees.
    fn install(&self, opened: Reopened) -> Running {
        let Reopened { mut running, rebuilt } = opened;
        let info = running.info();
        *lock(&self.shared.info) = info.clone();
        *lock(&self.shared.midi) = running.take_midi();
        *lock(&self.shared.running) = AudioRunning::Running;
        self.tell(DeviceEvent::Reopened { info, rebuilt });
        running
    }

    fn reopen(&mut self, spare: &mut Option<Box<dyn AudioCallback>>) -> Result<Reopened, DeviceError> {
        let Keeper { build, format, recordings, .. } = self;
        let mut rebuilt = false;
        let running = open_counting(&self.config, recordings, self.stats.clone(), |opened| {
            let fits = format.is_some_and(|format| {
                (format.rate_hz, format.input_channels) == (opened.rate_hz, opened.input_channels)
            });
            *format = Some(*opened);
            spare.take().filter(|_| fits).unwrap_or_else(|| {
                rebuilt = true;
                build(opened)
            })
        })?;
        Ok(Reopened { running, rebuilt })
    }

    fn tell(&self, event: DeviceEvent) {
        let mut events = lock(&self.shared.events);
        if events.len() >= QUEUE_EVENTS {
            events.pop_front();
        }
        events.push_back(event);
    }
}

/// A device that was opened again or anew.
struct Reopened {
    running: Running,
    /// Whether a new engine was made for it.
    rebuilt: bool,
}

/// Whether an error may come from the old device still being open.
fn may_be_blocked(error: &DeviceError) -> bool {
    matches!(
        error,
        DeviceError::Start { .. }
            | DeviceError::Unsupported { .. }
            | DeviceError::Jack(_)
            | DeviceError::JackNameTaken(_)
    )
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Each lock guards one assignment, so the value is whole even if its holder panicked.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(all(test, feature = "devices"))]
mod tests {
    use super::super::tests::{Echo, config};
    use super::*;

    #[test]
    fn what_plays_into_the_void_has_no_latency_of_the_card_before_it() {
        let audio = Audio::start(config(AudioChoice::Null), |_| Box::new(Echo)).unwrap();
        // As a card leaves it behind.
        audio.stats.note_output_latency(960);
        for (host, frames, ns) in [("alsa", 960, 20_000_000), ("null", 0, 0), ("file", 0, 0)] {
            lock(&audio.shared.info).host = host.to_owned();
            assert_eq!(
                (audio.stats().output_latency_frames, audio.output_latency_ns()),
                (frames, ns),
                "{host}"
            );
        }
    }
}
