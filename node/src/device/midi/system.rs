//! The system's MIDI ports (ALSA's sequencer, by midir).
//!
//! A musician plugs a keyboard in and expects it to work, so every input is opened, and the list is looked at again every
//! two seconds. Outputs are not: sending a bandmate's notes to every synthesiser in the room is for the user to choose. One
//! virtual output is always there for others to connect to; named outputs are opened in addition.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use midir::os::unix::VirtualOutput;
use midir::{Ignore, MidiIO, MidiInput, MidiInputConnection, MidiOutput, MidiOutputConnection};

use super::super::libasound::quietly;
use super::super::monotonic_ns;
use super::{DueQueue, MidiEvent, MidiPorts, QUEUE_EVENTS};

const LOOK_EVERY: Duration = Duration::from_secs(2);

/// How soon a stop is noticed; also bounds how long a wait for the next event may be.
const NAP: Duration = Duration::from_millis(50);

/// More inputs than a studio has; a broken driver that lists thousands costs no thread each.
const MAX_INPUTS: usize = 64;

/// Which MIDI ports to use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MidiConfig {
    /// The client's name, as other programs see it.
    pub name: String,
    /// Outputs to open besides the virtual one, each by a part of its name.
    pub outputs: Vec<String>,
}

/// Why there is no MIDI.
#[derive(Debug, thiserror::Error)]
pub enum MidiError {
    /// The sequencer does not open.
    #[error("this machine has no MIDI sequencer; load it with `modprobe snd-seq`, or use JACK's MIDI ports")]
    Unavailable,
    /// The virtual output was refused.
    #[error("cannot make a MIDI output port: {0}")]
    Output(String),
    /// The system would not give a thread.
    #[error("no thread for MIDI ({0}); close other programs or raise `ulimit -u`")]
    Thread(std::io::Error),
}

/// Opens all MIDI inputs, now and as they appear, and the outputs of `config`.
pub fn open(config: &MidiConfig) -> Result<MidiPorts, MidiError> {
    let output = quietly(|| MidiOutput::new(&config.name)).map_err(|_| MidiError::Unavailable)?;
    let main = output.create_virtual("out").map_err(|error| MidiError::Output(error.to_string()))?;
    let (played, input) = mpsc::sync_channel(QUEUE_EVENTS);
    let (output, to_play) = mpsc::sync_channel(QUEUE_EVENTS);
    let (changes, outputs) = mpsc::channel();
    let stop = Arc::new(AtomicBool::new(false));
    let (stop_watch, stop_play, config) = (stop.clone(), stop.clone(), config.clone());
    let watcher = std::thread::Builder::new()
        .name("bandmesh-midi-in".into())
        .spawn(move || watch(&stop_watch, &config, &played, &changes))
        .map_err(MidiError::Thread)?;
    let player = std::thread::Builder::new()
        .name("bandmesh-midi-out".into())
        .spawn(move || play(&stop_play, main, &to_play, &outputs))
        .map_err(MidiError::Thread)?;
    let threads = Threads { stop, threads: vec![watcher, player] };
    Ok(MidiPorts::threads(input, output, Box::new(threads)))
}

/// Names of the system's MIDI inputs and outputs.
pub(in super::super) fn port_names() -> Result<(Vec<String>, Vec<String>), MidiError> {
    let input = quietly(|| MidiInput::new("bandmesh-list")).map_err(|_| MidiError::Unavailable)?;
    let inputs = names(&input);
    drop(input);
    let output = MidiOutput::new("bandmesh-list").map_err(|_| MidiError::Unavailable)?;
    Ok((inputs, names(&output)))
}

fn names<M: MidiIO>(io: &M) -> Vec<String> {
    io.ports().iter().filter_map(|port| io.port_name(port).ok()).collect()
}

struct Threads {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

enum OutputChange {
    Opened(String, MidiOutputConnection),
    Gone(String),
}

/// Opens what appeared and closes what went away, every two seconds.
fn watch(
    stop: &AtomicBool,
    config: &MidiConfig,
    played: &SyncSender<MidiEvent>,
    changes: &mpsc::Sender<OutputChange>,
) {
    let mut inputs: BTreeMap<String, MidiInputConnection<Stamps>> = BTreeMap::new();
    let mut outputs: BTreeMap<String, ()> = BTreeMap::new();
    let mut due = Instant::now();
    while !stop.load(Relaxed) {
        if Instant::now() < due {
            std::thread::sleep(NAP);
            continue;
        }
        due = Instant::now() + LOOK_EVERY;
        let Ok((present_inputs, present_outputs)) = port_names() else { continue };
        let wanted = present_inputs.into_iter().filter(|name| !is_own(name, &config.name)).take(MAX_INPUTS);
        let plan = plan(&inputs, wanted);
        for name in plan.close {
            inputs.remove(&name);
            tracing::info!(port = name, "MIDI input is gone");
        }
        for name in plan.open {
            if let Some(connection) = listen(&config.name, &name, played.clone()) {
                tracing::info!(port = name, "MIDI input opened");
                inputs.insert(name, connection);
            }
        }
        let chosen = |name: &String| config.outputs.iter().any(|part| name.contains(part.as_str()));
        let wanted = present_outputs.into_iter().filter(|name| !is_own(name, &config.name)).filter(chosen);
        let plan = self::plan(&outputs, wanted);
        for name in plan.close {
            outputs.remove(&name);
            let _ = changes.send(OutputChange::Gone(name));
        }
        for name in plan.open {
            if let Some(connection) = speak(&config.name, &name) {
                outputs.insert(name.clone(), ());
                let _ = changes.send(OutputChange::Opened(name, connection));
            }
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Plan {
    open: Vec<String>,
    close: Vec<String>,
}

fn plan<T>(open: &BTreeMap<String, T>, wanted: impl IntoIterator<Item = String>) -> Plan {
    let wanted: Vec<String> = wanted.into_iter().collect();
    Plan {
        close: open.keys().filter(|name| !wanted.contains(name)).cloned().collect(),
        open: wanted.into_iter().filter(|name| !open.contains_key(name)).collect(),
    }
}

/// Our own ports, which would feed a bandmate's notes back; and the sequencer's announcements.
fn is_own(port: &str, client: &str) -> bool {
    port.strip_prefix(client).is_some_and(|rest| rest.starts_with(':'))
        || port.starts_with("bandmesh-list:")
        || port.starts_with("System:")
}

fn listen(client: &str, name: &str, played: SyncSender<MidiEvent>) -> Option<MidiInputConnection<Stamps>> {
    let mut input = MidiInput::new(client).ok()?;
    input.ignore(Ignore::All);
    let ports = MidiIO::ports(&input);
    let port = ports.iter().find(|port| input.port_name(port).is_ok_and(|found| found == name))?;
    let deliver = move |stamp_us: u64, bytes: &[u8], stamps: &mut Stamps| {
        let time_ns = stamps.host_time(stamp_us.saturating_mul(1_000), monotonic_ns());
        if let Some(event) = MidiEvent::new(time_ns, bytes) {
            let _ = played.try_send(event);
        }
    };
    input.connect(port, "in", deliver, Stamps::default()).ok()
}

fn speak(client: &str, name: &str) -> Option<MidiOutputConnection> {
    let output = MidiOutput::new(client).ok()?;
    let ports = MidiIO::ports(&output);
    let port = ports.iter().find(|port| output.port_name(port).is_ok_and(|found| found == name))?;
    output.connect(port, "out").ok()
}

/// Turns a driver's stamps into host times.
///
/// A stamp is exact but on a clock of unknown offset; our own clock is known but read late, when this thread runs. The
/// smallest delay seen tells the offset. It leaks upwards by 100 ppm so that a slower driver clock is followed.
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

/// Sends each event at its time. On stop everything sounding is ended.
fn play(
    stop: &AtomicBool,
    main: MidiOutputConnection,
    to_play: &Receiver<MidiEvent>,
    changes: &Receiver<OutputChange>,
) {
    let mut outputs = BTreeMap::from([(String::new(), main)]);
    let mut due = DueQueue::new();
    while !stop.load(Relaxed) {
        for change in changes.try_iter() {
            match change {
                OutputChange::Opened(name, connection) => drop(outputs.insert(name, connection)),
                OutputChange::Gone(name) => drop(outputs.remove(&name)),
            }
        }
        let now_ns = monotonic_ns();
        while let Some(event) = due.pop_before(now_ns.saturating_add(1)) {
            send_all(&mut outputs, event.bytes());
        }
        let wait =
            due.next_due_ns().map_or(NAP, |at| Duration::from_nanos(at.saturating_sub(now_ns)).min(NAP));
        match to_play.recv_timeout(wait) {
            Ok(event) => {
                if let Some(early) = due.push(event) {
                    send_all(&mut outputs, early.bytes());
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    for channel in 0..16 {
        send_all(&mut outputs, &[0xB0 | channel, 123, 0]);
    }
}

/// A port that fails is one that is being unplugged; the watcher removes it.
fn send_all(outputs: &mut BTreeMap<String, MidiOutputConnection>, bytes: &[u8]) {
    for output in outputs.values_mut() {
        let _ = output.send(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unplugged_ports_close_and_new_ones_open() {
        let open = BTreeMap::from([("a".to_owned(), ()), ("b".to_owned(), ())]);
        let plan = plan(&open, ["b".to_owned(), "c".to_owned()]);
        assert_eq!(plan, Plan { open: vec!["c".to_owned()], close: vec!["a".to_owned()] });
    }

    #[test]
    fn our_own_ports_are_never_listened_to() {
        assert!(is_own("bandmesh:out 128:0", "bandmesh"));
        assert!(is_own("System:Announce 0:1", "bandmesh"));
        assert!(!is_own("bandmesh-two:out 130:0", "bandmesh"));
        assert!(!is_own("KeyStation:MIDI 1 20:0", "bandmesh"));
    }

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
}
