//! The Link session itself, by rusty_link, and the thread that watches it.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rusty_link::{AblLink, SessionState};

use super::super::monotonic_ns;
use super::watch::{Reading, Watch};
use super::{ClockOffset, LinkEvent, LinkState, LinkTimeline};

/// A change by others is told within this; Link itself needs longer to carry it.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Between two measurements the clocks part by half a millisecond at worst, usually by tens of microseconds.
const MEASURE_EVERY_LOOKS: u32 = 50;
const MEASURE_TRIES: u32 = 8;

/// Events waiting for [`Link::poll_event`]; when full the newest is dropped, and [`Link::state`] still tells the truth.
const QUEUE_EVENTS: usize = 64;

/// Why there is no Link.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The system would not give a thread.
    #[error("no thread for Link ({0}); close other programs or raise `ulimit -u`")]
    Thread(std::io::Error),
    /// A tempo Link cannot have.
    #[error("Link's tempo must be between 20 and 999 bpm, not {0}")]
    Tempo(f64),
    /// A quantum that is none.
    #[error("Link's quantum must be between 1 and 64 beats, not {0}")]
    Quantum(f64),
}

/// This program's part in the LAN's Link session. Dropping it leaves.
///
/// Thread-safe: yes. Realtime-safe: no; hand the engine a [`LinkTimeline`] instead.
pub struct Link {
    shared: Arc<Shared>,
    events: Mutex<Receiver<LinkEvent>>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    link: AblLink,
    inner: Mutex<Inner>,
    stop: AtomicBool,
}

struct Inner {
    session: SessionState,
    offset: ClockOffset,
    watch: Watch,
    quantum: f64,
}

impl Link {
    /// Prepares Link with a tempo, not yet taking part: see [`Link::enable`]. The quantum is in beats.
    pub fn new(tempo_bpm: f64, quantum: f64) -> Result<Self, LinkError> {
        check_tempo(tempo_bpm)?;
        check_quantum(quantum)?;
        let link = AblLink::new(tempo_bpm);
        link.enable_start_stop_sync(true);
        let offset = measure(&link);
        let mut session = SessionState::new();
        let reading = read(&link, &mut session, offset, quantum);
        let inner = Inner { session, offset, watch: Watch::new(&reading, quantum), quantum };
        let shared = Arc::new(Shared { link, inner: Mutex::new(inner), stop: AtomicBool::new(false) });
        let (sender, events) = mpsc::sync_channel(QUEUE_EVENTS);
        let watched = shared.clone();
        let thread = std::thread::Builder::new()
            .name("bandmesh-link".into())
            .spawn(move || watch(&watched, &sender))
            .map_err(LinkError::Thread)?;
        Ok(Link { shared, events: Mutex::new(events), thread: Some(thread) })
    }

    /// From now on positions agree with those of others after so many beats: the length of a bar.
    pub fn set_quantum(&self, quantum: f64) -> Result<(), LinkError> {
        check_quantum(quantum)?;
        let mut inner = self.lock();
        if inner.quantum != quantum {
            inner.quantum = quantum;
            // The beat is read anew in bars of another length, which nobody else did.
            let reading = inner.read(&self.shared.link);
            inner.watch = Watch::new(&reading, quantum);
        }
        Ok(())
    }

    /// Joins or leaves the LAN's Link session.
    pub fn enable(&self, enabled: bool) {
        self.shared.link.enable(enabled);
    }

    /// Link now.
    pub fn state(&self) -> LinkState {
        let mut inner = self.lock();
        let (reading, quantum) = (inner.read(&self.shared.link), inner.quantum);
        LinkState {
            enabled: self.shared.link.is_enabled(),
            peers: reading.peers,
            tempo_bpm: reading.timeline.tempo_bpm,
            beat: reading.timeline.beat,
            phase: reading.timeline.beat.rem_euclid(quantum),
            quantum,
            playing: reading.playing,
        }
    }

    /// Where the beat is now; good for predicting for as long as no [`LinkEvent::Timeline`] comes.
    pub fn timeline(&self) -> LinkTimeline {
        self.lock().read(&self.shared.link).timeline
    }

    /// The next change made by others.
    pub fn poll_event(&self) -> Option<LinkEvent> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).try_recv().ok()
    }

    /// Changes the tempo for all, from `host_time_ns` on; the beat at that time stays where it is.
    pub fn set_tempo(&self, tempo_bpm: f64, host_time_ns: u64) -> Result<(), LinkError> {
        check_tempo(tempo_bpm)?;
        self.change(|session, offset, _| session.set_tempo(tempo_bpm, offset.to_link_us(host_time_ns)));
        Ok(())
    }

    /// Puts tempo and beat where `timeline` says, for all, at once: everybody's beat jumps. A bridge between LANs
    /// does this; a player's program should ask by [`Link::request_beat`].
    pub fn set_timeline(&self, timeline: LinkTimeline) -> Result<(), LinkError> {
        check_tempo(timeline.tempo_bpm)?;
        self.change(|session, offset, quantum| {
            let at_us = offset.to_link_us(timeline.host_time_ns);
            session.set_tempo(timeline.tempo_bpm, at_us);
            session.force_beat_at_time(timeline.beat, at_us, quantum);
        });
        Ok(())
    }

    /// Maps `beat` to `host_time_ns` if alone; with others in the session, to the next time their phase fits.
    pub fn request_beat(&self, beat: f64, host_time_ns: u64) {
        self.change(|session, offset, quantum| {
            session.request_beat_at_time(beat, offset.to_link_us(host_time_ns), quantum);
        });
    }

    /// Starts or stops playback for all who synchronise it.
    pub fn set_playing(&self, playing: bool, host_time_ns: u64) {
        self.change(|session, offset, _| {
            session.set_is_playing(playing, offset.to_link_us(host_time_ns).max(0));
        });
    }

    /// Link's clock against the host's, as last measured.
    pub fn clock_offset(&self) -> ClockOffset {
        self.lock().offset
    }

    /// Takes, changes and commits the session in one, and remembers the outcome as ours.
    fn change(&self, change: impl FnOnce(&mut SessionState, ClockOffset, f64)) {
        let link = &self.shared.link;
        let mut inner = self.lock();
        let Inner { session, offset, quantum, .. } = &mut *inner;
        link.capture_app_session_state(session);
        change(session, *offset, *quantum);
        link.commit_app_session_state(session);
        let reading = inner.read(link);
        inner.watch.accept(&reading);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        lock(&self.shared)
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.shared.stop.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        self.shared.link.enable(false);
    }
}

impl Inner {
    fn read(&mut self, link: &AblLink) -> Reading {
        read(link, &mut self.session, self.offset, self.quantum)
    }
}

fn watch(shared: &Shared, events: &SyncSender<LinkEvent>) {
    let mut looks = 0;
    while !shared.stop.load(Relaxed) {
        std::thread::sleep(LOOK_EVERY);
        looks += 1;
        let mut inner = lock(shared);
        if looks % MEASURE_EVERY_LOOKS == 0 {
            inner.offset = measure(&shared.link);
        }
        let reading = inner.read(&shared.link);
        for event in inner.watch.look(&reading).into_iter().flatten() {
            let _ = events.try_send(event);
        }
    }
}

fn read(link: &AblLink, session: &mut SessionState, offset: ClockOffset, quantum: f64) -> Reading {
    link.capture_app_session_state(session);
    let now_us = link.clock_micros();
    let timeline = LinkTimeline {
        tempo_bpm: session.tempo(),
        beat: session.beat_at_time(now_us, quantum),
        host_time_ns: offset.to_host_ns(now_us),
    };
    Reading {
        peers: link.num_peers(),
        timeline,
        playing: session.is_playing(),
        playing_since_ns: offset.to_host_ns(session.time_for_is_playing()),
    }
}

fn measure(link: &AblLink) -> ClockOffset {
    ClockOffset::measure(MEASURE_TRIES, monotonic_ns, || link.clock_micros())
}

fn check_tempo(tempo_bpm: f64) -> Result<(), LinkError> {
    if (20.0..=999.0).contains(&tempo_bpm) { Ok(()) } else { Err(LinkError::Tempo(tempo_bpm)) }
}

fn check_quantum(quantum: f64) -> Result<(), LinkError> {
    if (1.0..=64.0).contains(&quantum) { Ok(()) } else { Err(LinkError::Quantum(quantum)) }
}

fn lock(shared: &Shared) -> MutexGuard<'_, Inner> {
    // The state is Link's own and whole after every call, so a panic elsewhere does not spoil it.
    shared.inner.lock().unwrap_or_else(PoisonError::into_inner)
}
