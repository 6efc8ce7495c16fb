//! A device that comes back.
//!
//! [`Audio`] owns a [`Running`] device on a thread of its own. When the device is lost or changes its rate, it is closed,
//! opened again when [`Recovery`] says so, and given the same engine if that still fits. What happens is told by events.

use std::collections::VecDeque;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::midi::{MidiEvent, MidiPorts, MidiQueueFull};
use super::recovery::{Recovery, RecoveryAction};
use super::{
    AudioCallback, DeviceConfig, DeviceError, DeviceEvent, DeviceInfo, DeviceStats, Opened, Running,
    StatsSnapshot, monotonic_ns, open_counting,
};

const LOOK_EVERY: Duration = Duration::from_millis(50);

/// When nobody asks for events, the oldest are dropped.
const QUEUE_EVENTS: usize = 64;

/// An open device with recovery. Dropping it stops the device.
///
/// Thread-safe: yes. Realtime-safe: no.
pub struct Audio {
    shared: Arc<Shared>,
    stats: Arc<DeviceStats>,
    stop: Sender<()>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    info: Mutex<DeviceInfo>,
    running: Mutex<bool>,
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
        let mut running = open_counting(&config, stats.clone(), |opened| {
            format = Some(*opened);
            make(opened)
        })?;
        let shared = Arc::new(Shared {
            info: Mutex::new(running.info()),
            running: Mutex::new(true),
            midi: Mutex::new(running.take_midi()),
            events: Mutex::new(VecDeque::new()),
        });
        let keeper =
            Keeper { config, build: Box::new(make), format, shared: shared.clone(), stats: stats.clone() };
        let (stop, stopped) = mpsc::channel();
        let thread = std::thread::Builder::new()
            .name("bandmesh-audio".into())
            .spawn(move || keeper.keep(running, &stopped))
            .map_err(DeviceError::Thread)?;
        Ok(Audio { shared, stats, stop, thread: Some(thread) })
    }

    /// What is open, or was when it was lost.
    pub fn info(&self) -> DeviceInfo {
        lock(&self.shared.info).clone()
    }

    /// False from a loss until the device is open again.
    pub fn is_running(&self) -> bool {
        *lock(&self.shared.running)
    }

    /// Numbers about the callback, since the first opening.
    pub fn stats(&self) -> StatsSnapshot {
        self.stats.snapshot()
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

    /// Stops the device; returns within about three seconds even if its driver hangs.
    pub fn stop(self) {}
}

impl Drop for Audio {
    fn drop(&mut self) {
        let _ = self.stop.send(());
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
    shared: Arc<Shared>,
    stats: Arc<DeviceStats>,
}

impl Keeper {
    fn keep(mut self, running: Running, stopped: &Receiver<()>) {
        let mut device = Some(running);
        let mut spare = None;
        let mut recovery = Recovery::default();
        recovery.handle_opened(monotonic_ns());
        while stopped.recv_timeout(LOOK_EVERY) == Err(RecvTimeoutError::Timeout) {
            if let Some(running) = &mut device
                && self.look(running)
            {
                self.close();
                spare = device.take().and_then(Running::stop);
                recovery.handle_lost(monotonic_ns());
            }
            if recovery.poll(monotonic_ns()) == Some(RecoveryAction::Reopen) {
                match self.reopen(&mut spare) {
                    Ok(running) => {
                        device = Some(running);
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
        *lock(&self.shared.running) = false;
        *lock(&self.shared.midi) = None;
    }

    fn reopen(&mut self, spare: &mut Option<Box<dyn AudioCallback>>) -> Result<Running, DeviceError> {
        let Keeper { build, format, .. } = self;
        let mut rebuilt = false;
        let mut running = open_counting(&self.config, self.stats.clone(), |opened| {
            let fits = format.is_some_and(|format| {
                (format.rate_hz, format.input_channels) == (opened.rate_hz, opened.input_channels)
            });
            *format = Some(*opened);
            spare.take().filter(|_| fits).unwrap_or_else(|| {
                rebuilt = true;
                build(opened)
            })
        })?;
        let info = running.info();
        *lock(&self.shared.info) = info.clone();
        *lock(&self.shared.midi) = running.take_midi();
        *lock(&self.shared.running) = true;
        self.tell(DeviceEvent::Reopened { info, rebuilt });
        Ok(running)
    }

    fn tell(&self, event: DeviceEvent) {
        let mut events = lock(&self.shared.events);
        if events.len() >= QUEUE_EVENTS {
            events.pop_front();
        }
        events.push_back(event);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Each lock guards one assignment, so the value is whole even if its holder panicked.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
