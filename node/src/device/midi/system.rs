//! The system's MIDI ports: the thread that serves ALSA's sequencer.
//!
//! It waits on the sequencer and on the node at once, so that a message leaves for the band, and for a synthesiser, when
//! its time has come. What is plugged in is heard of at once and looked for every two seconds besides. A sequencer that
//! is not there (its module is not loaded, the user may not) is tried again as often.
//!
//! Whatever ends the way of a note ends the note: see [`super::keys`].

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::Read;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{self, Receiver, SyncSender, TryRecvError};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::super::os::wait_readable;
use super::super::{monotonic_ns, use_realtime_priority};
use super::choice::{Address, Kind, Port, Wanted, listed, wanted};
use super::echo::Echo;
use super::held::Held;
use super::sequencer::{MidiError, Said, Sequencer};
use super::{
    DueQueue, Keys, MidiChoice, MidiEvent, MidiPort, MidiPortState, MidiPorts, MidiReport, QUEUE_EVENTS,
    SystemMidi,
};

const LOOK_EVERY_NS: u64 = 2_000_000_000;
/// A device that is plugged in announces several ports, one after the other.
const SETTLE_NS: u64 = 50_000_000;
/// How long whoever chooses ports waits for them at most.
const CHOICE_PATIENCE: Duration = Duration::from_secs(2);
/// Below the network's and the media thread's, above everything that is not music.
const PRIORITY: i32 = 45;

/// Opens the ports of `choice`, now and as they appear, under the client name `name`.
///
/// # Errors
/// Only if the system gives no thread; a machine without MIDI may get it later.
pub fn open(name: &str, choice: MidiChoice) -> Result<(MidiPorts, Arc<dyn SystemMidi>), MidiError> {
    let (played, input) = mpsc::sync_channel(QUEUE_EVENTS);
    let (output, to_play) = mpsc::sync_channel(QUEUE_EVENTS);
    let (waker, woken) = UnixStream::pair()?;
    waker.set_nonblocking(true)?;
    woken.set_nonblocking(true)?;
    let shared = Arc::new(Shared {
        desk: Mutex::new(Desk { choice, ..Desk::default() }),
        served: Condvar::new(),
        waker: waker.try_clone()?,
    });
    let mut server = Server {
        name: name.to_owned(),
        shared: shared.clone(),
        woken,
        played,
        to_play,
        waiting: VecDeque::new(),
    };
    let thread = std::thread::Builder::new().name("bandmesh-midi".into()).spawn(move || server.run())?;
    let carrier = Carrier { shared: shared.clone(), thread: Some(thread) };
    Ok((MidiPorts::threads(input, output, waker, Box::new(carrier)), shared))
}

/// Ends the thread with the ports that it serves.
struct Carrier {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Carrier {
    fn drop(&mut self) {
        self.shared.lock().stop = true;
        self.shared.wake();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What the thread and its users know of each other. Held for microseconds.
#[derive(Debug, Default)]
struct Desk {
    choice: MidiChoice,
    /// Counts the choices.
    asked: u64,
    /// The choice that the report is about.
    served: u64,
    report: MidiReport,
    stop: bool,
}

struct Shared {
    desk: Mutex<Desk>,
    served: Condvar,
    waker: UnixStream,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self) {
        use std::io::Write;
        // It does not block. With no room there are bytes enough to wake anybody.
        let _ = (&self.waker).write(&[0]);
    }
}

impl SystemMidi for Shared {
    fn choice(&self) -> MidiChoice {
        self.lock().choice.clone()
    }

    fn report(&self) -> MidiReport {
        self.lock().report.clone()
    }

    fn choose(&self, choice: MidiChoice) {
        let asked = {
            let mut desk = self.lock();
            desk.asked += 1;
            desk.choice = choice;
            desk.asked
        };
        self.wake();
        let desk = self.lock();
        // When it takes longer, the report says what is open so far.
        drop(self.served.wait_timeout_while(desk, CHOICE_PATIENCE, |desk| desk.served < asked && !desk.stop));
    }
}

/// Why serving the sequencer ended.
enum End {
    Stopped,
    Failed(MidiError),
}

/// The thread.
struct Server {
    name: String,
    shared: Arc<Shared>,
    woken: UnixStream,
    played: SyncSender<MidiEvent>,
    to_play: Receiver<MidiEvent>,
    /// Ends of notes that found the queue full; as many as there are keys at most.
    waiting: VecDeque<MidiEvent>,
}

impl Server {
    fn run(&mut self) {
        if let Err(error) = use_realtime_priority(PRIORITY) {
            tracing::debug!(%error, "MIDI ports are served without realtime priority");
        }
        let mut known = None;
        loop {
            let problem = match Sequencer::open(&self.name) {
                Ok(sequencer) => match self.serve(sequencer) {
                    End::Stopped => return,
                    End::Failed(error) => error,
                },
                Err(error) => error,
            };
            let problem = problem.to_string();
            // Machines without MIDI are common and no reason to bother anybody; the page says it.
            if known.as_ref() != Some(&problem) {
                tracing::info!("no system MIDI: {problem}");
            }
            known = Some(problem.clone());
            if self.wait_without_ports(&problem) {
                return;
            }
        }
    }

    /// Shows `problem` until it is time to try again. True if it is time to end.
    fn wait_without_ports(&mut self, problem: &str) -> bool {
        let until_ns = monotonic_ns() + LOOK_EVERY_NS;
        loop {
            {
                let mut desk = self.shared.lock();
                let absent = |names: &[String]| {
                    let port =
                        |name: &String| shown((None, name.clone(), MidiPortState::Absent), &BTreeMap::new());
                    names.iter().map(port).collect()
                };
                desk.report = MidiReport {
                    problem: Some(problem.to_owned()),
                    inputs: absent(&desk.choice.inputs),
                    outputs: absent(&desk.choice.outputs),
                };
                desk.served = desk.asked;
                if desk.stop {
                    return true;
                }
            }
            self.shared.served.notify_all();
            loop {
                match self.to_play.try_recv() {
                    Ok(_) => {}
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Disconnected) => return true,
                }
            }
            let now_ns = monotonic_ns();
            if now_ns >= until_ns {
                return false;
            }
            self.sleep(Vec::new(), until_ns - now_ns);
        }
    }

    fn sleep(&mut self, mut files: Vec<libc::pollfd>, nanoseconds: u64) {
        files.push(libc::pollfd { fd: self.woken.as_raw_fd(), events: libc::POLLIN, revents: 0 });
        wait_readable(&mut files, Duration::from_nanos(nanoseconds));
        let mut bytes = [0; 64];
        while matches!(self.woken.read(&mut bytes), Ok(64)) {}
    }

    /// Serves the ports until the end, or until the sequencer is gone.
    fn serve(&mut self, sequencer: Sequencer) -> End {
        let mut studio = Studio::new(sequencer);
        let end = loop {
            let now_ns = monotonic_ns();
            let (choice, asked) = {
                let shared = self.shared.lock();
                if shared.stop {
                    break End::Stopped;
                }
                (shared.choice.clone(), shared.asked)
            };
            if studio.look_ns <= now_ns || studio.served != Some(asked) {
                if studio.served != Some(asked) {
                    studio.parted.clear();
                }
                studio.look(&choice, now_ns);
                studio.served = Some(asked);
                self.deliver(&mut studio.ended);
                self.show(&studio, &choice, asked);
            }
            let more = match self.read(&mut studio) {
                Ok(more) => more,
                Err(error) => break End::Failed(error),
            };
            if !self.take(&mut studio) {
                break End::Stopped;
            }
            if more {
                continue;
            }
            let now_ns = monotonic_ns();
            let next_ns = studio.due.next_due_ns().unwrap_or(u64::MAX).min(studio.look_ns);
            // What found no room is tried again soon.
            let next_ns = if self.waiting.is_empty() { next_ns } else { next_ns.min(now_ns + 1_000_000) };
            self.sleep(studio.sequencer.poll_descriptors(), next_ns.saturating_sub(now_ns));
        };
        studio.close();
        self.deliver(&mut studio.ended);
        end
    }

    /// Takes what the sequencer says. True if that was not all.
    fn read(&mut self, studio: &mut Studio) -> Result<bool, MidiError> {
        self.deliver(&mut studio.ended);
        // Bounded, so that a port that never stops does not keep the others from being served.
        for _ in 0..QUEUE_EVENTS {
            let Some(said) = studio.sequencer.read()? else { return Ok(false) };
            let now_ns = monotonic_ns();
            match said {
                Said::Message { from, stamp, bytes, length } => {
                    let Some(message) = bytes.get(..length) else { continue };
                    let Some(event) = studio.heard(from, stamp, message, now_ns) else { continue };
                    self.note_played(&studio.inputs, from, now_ns);
                    if self.waiting.is_empty() && self.played.try_send(event).is_ok() {
                        studio.held.note(from, message);
                    } else if studio.held.ends(from, message) {
                        // A beginning may be lost, an end may not.
                        studio.held.note(from, message);
                        self.waiting.push_back(event);
                    }
                }
                Said::PortCame(port) => {
                    studio.parted.remove(&port);
                    studio.look_ns = studio.look_ns.min(now_ns + SETTLE_NS);
                }
                Said::PortsChanged => studio.look_ns = studio.look_ns.min(now_ns + SETTLE_NS),
                Said::InputParted(port) => studio.input_parted(port, now_ns),
                Said::OutputParted(port) => studio.output_parted(port, now_ns),
                Said::Overrun => studio.overrun(now_ns),
            }
            self.deliver(&mut studio.ended);
        }
        Ok(true)
    }

    /// Ends of notes for the band.
    fn deliver(&mut self, ended: &mut Vec<MidiEvent>) {
        self.waiting.extend(ended.drain(..));
        while let Some(event) = self.waiting.front() {
            if self.played.try_send(*event).is_err() {
                return;
            }
            self.waiting.pop_front();
        }
    }

    fn note_played(&self, inputs: &BTreeMap<Address, String>, from: Address, now_ns: u64) {
        let Some(name) = inputs.get(&from) else { return };
        let mut desk = self.shared.lock();
        if let Some(port) = desk.report.inputs.iter_mut().find(|port| port.name == *name) {
            port.played_ns = Some(now_ns);
        }
    }

    /// Takes what is to be played and plays what is due. False if nobody will send any more.
    fn take(&mut self, studio: &mut Studio) -> bool {
        // As many as fit into the queue, so that inputs are read in between.
        for _ in 0..QUEUE_EVENTS {
            match self.to_play.try_recv() {
                Ok(event) => {
                    if let Some(early) = studio.due.push(event) {
                        studio.play(early);
                    }
                }
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => return false,
            }
        }
        while let Some(event) = studio.due.pop_before(monotonic_ns().saturating_add(1)) {
            studio.play(event);
        }
        true
    }

    fn show(&self, studio: &Studio, choice: &MidiChoice, asked: u64) {
        let open = |ports: &BTreeMap<Address, String>| ports.keys().copied().collect::<BTreeSet<Address>>();
        let list = |picks: &[String], way, wanted, ports: &BTreeMap<Address, String>| {
            listed(picks, &studio.ports, way, wanted, &open(ports))
        };
        let inputs = list(&choice.inputs, |port: &Port| port.plays, &studio.wanted.inputs, &studio.inputs);
        let outputs =
            list(&choice.outputs, |port: &Port| port.sounds, &studio.wanted.outputs, &studio.outputs);
        let mut shared = self.shared.lock();
        let played: BTreeMap<String, u64> = std::mem::take(&mut shared.report.inputs)
            .into_iter()
            .filter_map(|port| Some((port.name, port.played_ns?)))
            .collect();
        shared.report = MidiReport {
            problem: None,
            inputs: inputs.into_iter().map(|port| shown(port, &played)).collect(),
            outputs: outputs.into_iter().map(|port| shown(port, &BTreeMap::new())).collect(),
        };
        shared.served = asked;
        drop(shared);
        self.shared.served.notify_all();
    }
}

fn shown(
    (_, name, state): (Option<Address>, String, MidiPortState),
    played: &BTreeMap<String, u64>,
) -> MidiPort {
    MidiPort { played_ns: played.get(&name).copied(), name, state }
}

/// The sequencer with what is connected to it.
struct Studio {
    sequencer: Sequencer,
    stamps: Stamps,
    ports: Vec<Port>,
    wanted: Wanted,
    /// Inputs and outputs that are open.
    inputs: BTreeMap<Address, String>,
    outputs: BTreeMap<Address, String>,
    /// What another program has disconnected. It stays so until it is chosen again or comes anew.
    parted: BTreeSet<Address>,
    held: Held,
    echo: Echo,
    /// What sounds at the outputs.
    sounding: Keys,
    due: DueQueue,
    /// Ends of notes that the band has to be told.
    ended: Vec<MidiEvent>,
    look_ns: u64,
    /// The choice that is served.
    served: Option<u64>,
}

impl Studio {
    fn new(sequencer: Sequencer) -> Self {
        Studio {
            sequencer,
            stamps: Stamps::default(),
            ports: Vec::new(),
            wanted: Wanted::default(),
            inputs: BTreeMap::new(),
            outputs: BTreeMap::new(),
            parted: BTreeSet::new(),
            held: Held::default(),
            echo: Echo::default(),
            sounding: Keys::default(),
            due: DueQueue::new(),
            ended: Vec::new(),
            look_ns: 0,
            served: None,
        }
    }

    /// Opens what is wanted and has come, closes what is not.
    fn look(&mut self, choice: &MidiChoice, now_ns: u64) {
        self.look_ns = now_ns + LOOK_EVERY_NS;
        self.ports = self.sequencer.ports();
        self.wanted = wanted(choice, &self.ports);
        let present: BTreeSet<Address> = self.ports.iter().map(|port| port.address).collect();
        self.parted.retain(|port| present.contains(port));
        let wanted = self.wanted.clone();
        for (port, name) in without(&self.inputs, &wanted.inputs) {
            self.sequencer.unlisten(port);
            self.inputs.remove(&port);
            self.release(port, now_ns);
            tracing::info!(port = name, "MIDI input closed");
        }
        // Others may have connected what was not wanted here, and be gone without a word.
        for port in self.held.inputs().into_iter().filter(|port| !present.contains(port)) {
            self.release(port, now_ns);
        }
        for (port, name) in without(&wanted.inputs, &self.inputs) {
            if !self.parted.contains(&port) && opened(&name, "input", self.sequencer.listen(port)) {
                self.inputs.insert(port, name);
            }
        }
        for (port, name) in without(&self.outputs, &wanted.outputs) {
            self.silence(Some(port));
            self.sequencer.unfeed(port);
            self.outputs.remove(&port);
            tracing::info!(port = name, "MIDI output closed");
        }
        for (port, name) in without(&wanted.outputs, &self.outputs) {
            if !self.parted.contains(&port) && opened(&name, "output", self.sequencer.feed(port)) {
                self.outputs.insert(port, name);
            }
        }
    }

    /// A message from a port, as an event for the band; `None` if it is not its player's.
    fn heard(
        &mut self,
        from: Address,
        stamp: Option<Duration>,
        message: &[u8],
        now_ns: u64,
    ) -> Option<MidiEvent> {
        // Another node's, connected by hand or before it was known.
        let is_ours = self.ports.iter().any(|port| port.address == from && port.kind == Kind::Bandmesh);
        let stamp_ns = stamp.and_then(|stamp| u64::try_from(stamp.as_nanos()).ok());
        let at_ns = stamp_ns.map_or(now_ns, |stamp_ns| self.stamps.host_time(stamp_ns, now_ns));
        let event = MidiEvent::new(at_ns, message)?;
        let held = self.held.ends(from, message);
        if is_ours || self.returns(from) && self.echo.is_echo(at_ns, message, held) {
            return None;
        }
        Some(event)
    }

    /// Whether `input` may return what it is sent: its instrument is an output too.
    fn returns(&self, input: Address) -> bool {
        self.outputs.keys().any(|output| output.client == input.client)
    }

    fn play(&mut self, event: MidiEvent) {
        self.sequencer.send(None, event.bytes());
        self.sounding.note(event.bytes());
        if self.inputs.keys().any(|input| self.returns(*input)) {
            self.echo.sent(monotonic_ns(), event.bytes());
        }
    }

    fn input_parted(&mut self, port: Address, now_ns: u64) {
        self.release(port, now_ns);
        if let Some(name) = self.inputs.remove(&port) {
            tracing::info!(port = name, "MIDI input is gone");
            self.parted.insert(port);
        }
        self.look_ns = self.look_ns.min(now_ns + SETTLE_NS);
    }

    fn output_parted(&mut self, port: Address, now_ns: u64) {
        // If it was another program that parted it, it can still be reached by its number.
        self.silence(Some(port));
        if let Some(name) = self.outputs.remove(&port) {
            tracing::info!(port = name, "MIDI output is gone");
            self.parted.insert(port);
        }
        self.look_ns = self.look_ns.min(now_ns + SETTLE_NS);
    }

    /// Messages were lost, so nobody knows what is held.
    fn overrun(&mut self, now_ns: u64) {
        tracing::warn!("MIDI came faster than it could be read; all keys are let go");
        self.release_all(now_ns);
    }

    fn release_all(&mut self, now_ns: u64) {
        for input in self.held.inputs() {
            self.release(input, now_ns);
        }
    }

    /// Lets go what `input` holds.
    fn release(&mut self, input: Address, now_ns: u64) {
        let ends = self.held.release(input);
        self.ended.extend(ends.iter().filter_map(|message| MidiEvent::new(now_ns, message)));
    }

    /// Ends what sounds at one output, or at all.
    fn silence(&mut self, output: Option<Address>) {
        for message in self.sounding.silence() {
            self.sequencer.send(output, &message);
        }
    }

    /// Ends all notes, here and there.
    fn close(&mut self) {
        self.silence(None);
        self.release_all(monotonic_ns());
    }
}

fn without(these: &BTreeMap<Address, String>, those: &BTreeMap<Address, String>) -> Vec<(Address, String)> {
    let missing = these.iter().filter(|(port, _)| !those.contains_key(port));
    missing.map(|(port, name)| (*port, name.clone())).collect()
}

fn opened(name: &str, direction: &str, outcome: Result<(), MidiError>) -> bool {
    match &outcome {
        Ok(()) => tracing::info!(port = name, "MIDI {direction} opened"),
        Err(error) => tracing::debug!(port = name, %error, "MIDI {direction} does not open"),
    }
    outcome.is_ok()
}

/// Turns the sequencer's stamps into host times.
///
/// A stamp is exact but on a clock of unknown offset; our own clock is known but read late, when this thread runs. The
/// smallest delay seen tells the offset. It leaks upwards by 100 ppm so that a slower clock is followed.
#[derive(Clone, Copy, Debug, Default)]
struct Stamps {
    offset_ns: Option<i128>,
    last_ns: u64,
}

impl Stamps {
    fn host_time(&mut self, stamp_ns: u64, now_ns: u64) -> u64 {
        let seen = i128::from(now_ns) - i128::from(stamp_ns);
        let leak = i128::from(now_ns.saturating_sub(self.last_ns)) / 10_000;
        let offset = self.offset_ns.map_or(seen, |offset| seen.min(offset + leak));
        (self.offset_ns, self.last_ns) = (Some(offset), now_ns);
        u64::try_from(i128::from(stamp_ns) + offset).unwrap_or(now_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_remove_the_jitter_of_the_reading_thread() {
        let mut stamps = Stamps::default();
        // The driver's clock started 5 s after ours; reading is late by 0.1 to 3 ms.
        let delays_us = [3_000, 100, 2_500, 900, 100, 1_700];
        let mut times = Vec::new();
        for (index, delay_us) in delays_us.into_iter().enumerate() {
            let stamp_ns = index as u64 * 10_000_000;
            times.push(stamps.host_time(stamp_ns, 5_000_000_000 + stamp_ns + delay_us * 1_000));
        }
        for pair in times[1..].windows(2) {
            assert!((pair[1] - pair[0]).abs_diff(10_000_000) < 3_000, "{times:?}");
        }
    }

    #[test]
    fn ports_without_a_sequencer_say_why_take_a_choice_and_end() {
        let choice =
            MidiChoice { all_inputs: false, inputs: vec!["no such port".into()], outputs: Vec::new() };
        let (mut ports, system) =
            open("bandmesh-test", MidiChoice { all_inputs: false, ..MidiChoice::default() }).unwrap();
        system.choose(choice.clone());
        assert_eq!(system.choice(), choice);
        let report = system.report();
        let wish = report.inputs.iter().find(|port| port.name == "no such port");
        assert_eq!(wish.map(|port| port.state), Some(MidiPortState::Absent), "{report:?}");
        let note = MidiEvent::new(0, &[0x90, 60, 1]).unwrap();
        for _ in 0..10 {
            ports.send(note).unwrap();
        }
        drop(ports);
    }
}
