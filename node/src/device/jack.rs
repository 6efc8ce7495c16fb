//! JACK: one duplex client, so that what is played in a cycle and what is heard in it belong together.
//!
//! cpal 0.18 has a JACK host, but names its clients after the process and splits input and output in two; design.md
//! wants the user's name and one cycle of latency. So this speaks to libjack directly.
//!
//! The client has `in_1`, `in_2`, `out_1`, `out_2`, `midi_in` and `midi_out`, connected to the system's ports when
//! there are any. The server's rate and period stand; both may change while we run. `host_time_ns` is the start of the
//! JACK cycle, equal for all clients of one server.
//!
//! **MIDI and sound leave together.** JACK says of each port how long it takes from there to the outside. For `midi_out`
//! that is the cable of a hardware synthesiser, which plays at once, or a program that plays it and the sound card after
//! it. A note waits for as long as the sound of the same cycle takes longer, so that both are heard at one moment.
//!
//! Before the client goes, its MIDI output is silenced, since the synthesisers behind it stay.
//!
//! libjack can wait forever on a server that stopped answering, so opening and closing happen on a thread that is given
//! up after a while. libjack is loaded at run time: a machine without it gets an error, not a missing library.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering::Relaxed};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use ::jack::{
    AsyncClient, AudioIn, AudioOut, Client, ClientOptions, ClientStatus, Control, Frames, LatencyType,
    MidiIn, MidiOut, NotificationHandler, Port, PortFlags, PortId, PortSpec, ProcessHandler, ProcessScope,
    RawMidi,
};
use rtrb::{Consumer, Producer, RingBuffer};

use super::driven::{Driven, Seen, Signals, frames_to_ns, realtime};
use super::midi::{DueQueue, Ends, Keys, MidiEvent, MidiPorts, QUEUE_EVENTS};
use super::{
    AudioCallback, AudioChoice, Backend, DeviceConfig, DeviceError, DeviceInfo, DeviceStats, LostReason,
    MAX_PERIOD_FRAMES, Make, OUTPUT_CHANNELS, Opened, Realtime, Refused, Running, monotonic_ns,
};

const MIDI_IN: &str = "midi_in";
/// JACK's own limit on a period.
const MAX_JACK_FRAMES: usize = 8192;
const PATIENCE: Duration = Duration::from_secs(2);
/// How long the server may take for the cycles that silence the MIDI output: some of the longest.
const SILENCE_PATIENCE_MS: u32 = 400;
const INPUT_CHANNELS: usize = 2;
/// A cycle that seems to have begun longer ago, or not yet for as long, was not dated by a clock that works.
const MAX_CYCLE_AGE_US: u64 = 1_000_000;

pub(super) fn open<'a>(
    config: &DeviceConfig,
    stats: Arc<DeviceStats>,
    make: Make<'a>,
) -> Result<Running, Refused<'a>> {
    let free_name = config.choice == AudioChoice::Auto;
    let (client, ports) = match connect(&config.jack_name, free_name)
        .and_then(|client| register(&client).map(|ports| (client, ports)))
    {
        Ok(connected) => connected,
        Err(error) => return Err(Refused::early(error, make)),
    };
    let name = client.name().to_owned();
    let opened = Opened {
        rate_hz: client.sample_rate(),
        period_frames: client.buffer_size(),
        max_period_frames: MAX_PERIOD_FRAMES,
        input_channels: INPUT_CHANNELS,
    };
    let signals = Signals::new(&opened);
    let seen = Seen::new(&opened, &stats);
    let (midi_in_sender, midi_in) = RingBuffer::new(QUEUE_EVENTS);
    let (midi_out, midi_out_receiver) = RingBuffer::new(QUEUE_EVENTS);
    let silence = Arc::new(Silence::default());
    let parted = Arc::new(AtomicBool::new(false));
    let notify = Notify { signals: signals.clone(), stats: stats.clone(), parted: parted.clone() };
    let process = Process {
        driven: Driven::new(make(&opened), &opened, stats.clone(), signals.clone()),
        ports,
        input: vec![0.0; MAX_JACK_FRAMES * INPUT_CHANNELS],
        output: vec![0.0; MAX_JACK_FRAMES * OUTPUT_CHANNELS],
        midi_in: midi_in_sender,
        played: Ends::default(),
        parted,
        midi_out: midi_out_receiver,
        due: DueQueue::new(),
        sounding: Keys::default(),
        silence: silence.clone(),
        rate_hz: opened.rate_hz,
        stats: stats.clone(),
    };
    let active = client
        .activate_async(notify, process)
        .map_err(|error| Refused::late(DeviceError::Jack(error.to_string())))?;
    connect_to_system(active.as_client(), &name);
    let mut notes = unmet(config, &opened);
    if name != config.jack_name {
        notes.push(format!("another client is named {:?}; this one is {name:?}", config.jack_name));
    }
    let info = DeviceInfo {
        host: "jack".to_owned(),
        device: name,
        rate_hz: opened.rate_hz,
        period_frames: opened.period_frames,
        input_channels: INPUT_CHANNELS,
        realtime: Realtime::DeviceDecides,
        notes,
    };
    let midi = Some(MidiPorts::realtime(midi_in, midi_out));
    let backend = Box::new(Active { client: active, signals: signals.clone(), silence });
    Ok(Running { info, stats, signals, seen, midi, backend: Some(backend) })
}

/// The rate and period of the running server, for `devices`.
pub(super) fn probe() -> Result<(u32, u32), DeviceError> {
    let client = connect(&format!("bandmesh-probe-{}", std::process::id()), false)?;
    let found = (client.sample_rate(), client.buffer_size());
    bounded("bandmesh-jack-end", move || drop(client));
    Ok(found)
}

/// A client called `name`, or with `free_name` one of another name, by JACK's own numbering, where that is taken: who asked
/// for no device in particular wants to play, beside a second node too.
fn connect(name: &str, free_name: bool) -> Result<Client, DeviceError> {
    // A NUL would end the C string early; a colon separates client and port. JACK2 allows 63 bytes, older ones 32.
    if name.is_empty() || name.len() > 32 || name.contains([':', '\0']) {
        return Err(DeviceError::JackName(name.to_owned()));
    }
    let wanted = name.to_owned();
    // Asking for the exact name would fail without saying why; so take what comes and look at it.
    match bounded("bandmesh-jack-open", move || Client::new(&wanted, ClientOptions::NO_START_SERVER)) {
        Some(Ok((client, _))) if free_name || client.name() == name => Ok(client),
        Some(Ok((client, _))) => {
            bounded("bandmesh-jack-end", move || drop(client));
            Err(DeviceError::JackNameTaken(name.to_owned()))
        }
        Some(Err(::jack::Error::ClientError(status))) if status.contains(ClientStatus::SERVER_FAILED) => {
            Err(DeviceError::JackUnavailable("none is running for this user".to_owned()))
        }
        Some(Err(::jack::Error::LibraryError(_))) => {
            Err(DeviceError::JackUnavailable("libjack is not installed".to_owned()))
        }
        Some(Err(error)) => Err(DeviceError::JackUnavailable(error.to_string())),
        None => Err(DeviceError::JackUnavailable("it hangs".to_owned())),
    }
}

/// Runs `work` on a thread and waits for it a bounded time; a libjack call that hangs keeps its thread, not ours.
fn bounded<T: Send + 'static>(name: &str, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let (done, result) = mpsc::sync_channel(1);
    let spawned = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
        let _ = done.send(work());
    });
    spawned.ok().and_then(|_| result.recv_timeout(PATIENCE).ok())
}

struct Ports {
    inputs: [Port<AudioIn>; INPUT_CHANNELS],
    outputs: [Port<AudioOut>; OUTPUT_CHANNELS],
    midi_in: Port<MidiIn>,
    midi_out: Port<MidiOut>,
}

fn register(client: &Client) -> Result<Ports, DeviceError> {
    fn port<S: PortSpec>(client: &Client, name: &str, spec: S) -> Result<Port<S>, DeviceError> {
        client.register_port(name, spec).map_err(|error| DeviceError::Jack(error.to_string()))
    }
    Ok(Ports {
        inputs: [port(client, "in_1", AudioIn::default())?, port(client, "in_2", AudioIn::default())?],
        outputs: [port(client, "out_1", AudioOut::default())?, port(client, "out_2", AudioOut::default())?],
        midi_in: port(client, MIDI_IN, MidiIn::default())?,
        midi_out: port(client, "midi_out", MidiOut::default())?,
    })
}

/// Best effort: a server without hardware, or a user's patch bay that is faster, is no error.
fn connect_to_system(client: &Client, name: &str) {
    let (audio, midi) = (AudioIn::default(), MidiIn::default());
    let (audio, midi) = (Some(audio.jack_port_type()), Some(midi.jack_port_type()));
    let captures = client.ports(None, audio, PortFlags::IS_PHYSICAL | PortFlags::IS_OUTPUT);
    for (capture, input) in captures.iter().zip(["in_1", "in_2"]) {
        let _ = client.connect_ports_by_name(capture, &format!("{name}:{input}"));
    }
    let playbacks = client.ports(None, audio, PortFlags::IS_PHYSICAL | PortFlags::IS_INPUT);
    for (playback, output) in playbacks.iter().zip(["out_1", "out_2"]) {
        let _ = client.connect_ports_by_name(&format!("{name}:{output}"), playback);
    }
    for source in client.ports(None, midi, PortFlags::IS_PHYSICAL | PortFlags::IS_OUTPUT) {
        let _ = client.connect_ports_by_name(&source, &format!("{name}:{MIDI_IN}"));
    }
}

fn unmet(config: &DeviceConfig, opened: &Opened) -> Vec<String> {
    let mut notes = Vec::new();
    if config.rate_hz.is_some_and(|asked| asked != opened.rate_hz) {
        notes.push(format!("the JACK server runs at {} Hz; restart it to change that", opened.rate_hz));
    }
    if config.period_frames.is_some_and(|asked| asked != opened.period_frames) {
        let period = opened.period_frames;
        notes.push(format!(
            "the JACK server's period is {period} frames; `jack_bufsize` changes it for everyone"
        ));
    }
    notes
}

struct Active {
    client: AsyncClient<Notify, Process>,
    signals: Arc<Signals>,
    silence: Arc<Silence>,
}

impl Backend for Active {
    fn stop(self: Box<Self>) -> Option<Box<dyn AudioCallback>> {
        let Active { client, signals, silence } = *self;
        silence.ask();
        for _ in 0..SILENCE_PATIENCE_MS {
            if silence.is_kept() || signals.is_server_gone() {
                break;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        let stopped =
            bounded("bandmesh-jack-end", move || client.deactivate().map(|(_, _, process)| process));
        stopped.and_then(Result::ok).and_then(|process| process.driven.into_callback())
    }
}

/// How far the MIDI output's last words have come.
#[derive(Debug, Default)]
struct Silence(AtomicU8);

impl Silence {
    const ASKED: u8 = 1;
    /// The last end was written in the cycle that runs.
    const TOLD: u8 = 2;
    /// That cycle is over.
    const KEPT: u8 = 3;

    fn ask(&self) {
        let _ = self.0.compare_exchange(0, Self::ASKED, Relaxed, Relaxed);
    }

    fn is_kept(&self) -> bool {
        self.0.load(Relaxed) == Self::KEPT
    }
}

/// Called on libjack's notification thread.
struct Notify {
    signals: Arc<Signals>,
    stats: Arc<DeviceStats>,
    parted: Arc<AtomicBool>,
}

impl NotificationHandler for Notify {
    #[allow(unsafe_code, reason = "the trait's signature")]
    // SAFETY: it only writes an atomic, which a signal handler may.
    unsafe fn shutdown(&mut self, _status: ClientStatus, _reason: &str) {
        self.signals.lose(LostReason::ServerGone);
    }

    fn sample_rate(&mut self, _: &Client, rate_hz: Frames) -> Control {
        self.signals.set_rate_hz(rate_hz);
        Control::Continue
    }

    fn ports_connected(&mut self, client: &Client, one: PortId, other: PortId, are_connected: bool) {
        if !are_connected && [one, other].into_iter().any(|port| is_midi_in(client, port)) {
            self.parted.store(true, Relaxed);
        }
    }

    fn xrun(&mut self, _: &Client) -> Control {
        self.stats.count_xruns(1);
        Control::Continue
    }
}

/// Whether that is our own `midi_in`. libjack looks it up without asking the server, which a notification may not.
fn is_midi_in(client: &Client, port: PortId) -> bool {
    client
        .port_by_id(port)
        .is_some_and(|port| client.is_mine(&port) && port.short_name().is_ok_and(|name| name == MIDI_IN))
}

/// Called on libjack's realtime thread. Everything it touches was allocated before.
struct Process {
    driven: Driven,
    ports: Ports,
    input: Vec<f32>,
    output: Vec<f32>,
    midi_in: Producer<MidiEvent>,
    /// What the node knows of what is held on `midi_in`.
    played: Ends,
    /// Somebody who played into `midi_in` no longer can.
    parted: Arc<AtomicBool>,
    midi_out: Consumer<MidiEvent>,
    due: DueQueue,
    /// What sounds at `midi_out`.
    sounding: Keys,
    silence: Arc<Silence>,
    rate_hz: u32,
    stats: Arc<DeviceStats>,
}

impl ProcessHandler for Process {
    fn process(&mut self, client: &Client, scope: &ProcessScope) -> Control {
        let cycle_ns = cycle_start_ns(client, scope);
        let frames = (scope.n_frames() as usize).min(MAX_JACK_FRAMES);
        realtime(|| {
            self.receive_midi(scope, cycle_ns);
            self.take_input(scope, frames);
        });
        let (input, _) = self.input.split_at_mut(frames * INPUT_CHANNELS);
        let (output, _) = self.output.split_at_mut(frames * OUTPUT_CHANNELS);
        self.driven.run(input, output, cycle_ns);
        realtime(|| {
            self.give_output(scope, frames);
            // A look at shared memory; changes with what the user connects.
            let [left, _] = &self.ports.outputs;
            let sound_frames = left.get_latency_range(LatencyType::Playback).1;
            let midi_frames = self.ports.midi_out.get_latency_range(LatencyType::Playback).1;
            self.stats.note_output_latency(sound_frames);
            match self.silence.0.load(Relaxed) {
                0 => self.send_midi(scope, cycle_ns, sound_frames.saturating_sub(midi_frames)),
                Silence::ASKED => self.silence_midi(scope),
                _ => {
                    // Without a new writer the port would say again what it said in the cycle before.
                    let _ = self.ports.midi_out.writer(scope);
                    self.silence.0.store(Silence::KEPT, Relaxed);
                }
            }
        });
        Control::Continue
    }

    fn buffer_size(&mut self, _: &Client, frames: Frames) -> Control {
        self.driven.signals().set_period_frames(frames);
        Control::Continue
    }
}

impl Process {
    fn take_input(&mut self, scope: &ProcessScope, frames: usize) {
        let (input, _) = self.input.split_at_mut(frames * INPUT_CHANNELS);
        let [left, right] = &self.ports.inputs;
        for ((frame, left), right) in
            input.chunks_exact_mut(INPUT_CHANNELS).zip(left.as_slice(scope)).zip(right.as_slice(scope))
        {
            frame.copy_from_slice(&[*left, *right]);
        }
    }

    fn give_output(&mut self, scope: &ProcessScope, frames: usize) {
        let (output, _) = self.output.split_at(frames * OUTPUT_CHANNELS);
        for (channel, port) in self.ports.outputs.iter_mut().enumerate() {
            let samples = output.iter().skip(channel).step_by(OUTPUT_CHANNELS);
            for (to, from) in port.as_mut_slice(scope).iter_mut().zip(samples) {
                *to = *from;
            }
        }
    }

    /// When the queue is full the newest event is dropped, as the reader has been away for a thousand events; the end of a
    /// note waits.
    fn receive_midi(&mut self, scope: &ProcessScope, cycle_ns: u64) {
        let Self { ports, midi_in, played, parted, rate_hz, .. } = self;
        let mut push = |event| midi_in.push(event).is_ok();
        played.catch_up(&mut push);
        for raw in ports.midi_in.iter(scope) {
            let time_ns = cycle_ns + frames_to_ns(u64::from(raw.time), *rate_hz);
            if let Some(event) = MidiEvent::new(time_ns, raw.bytes) {
                let _ = played.pass(event, &mut push);
            }
        }
        // The port does not say who plays what, so everything is let go. Only now: this cycle may still carry the
        // last of who has gone.
        if parted.swap(false, Relaxed) {
            played.let_go(cycle_ns);
            played.catch_up(&mut push);
        }
    }

    /// Writes what is due, `later_frames` after its time. What finds no room in the port keeps its place.
    fn send_midi(&mut self, scope: &ProcessScope, cycle_ns: u64, later_frames: u32) {
        let Self { ports, midi_out, due, sounding, rate_hz, .. } = self;
        let frames = scope.n_frames();
        let later_ns = frames_to_ns(u64::from(later_frames), *rate_hz);
        let end_ns = cycle_ns + frames_to_ns(u64::from(frames), *rate_hz);
        let mut writer = ports.midi_out.writer(scope);
        let mut write = |time: u32, event: MidiEvent| {
            let written = writer.write(&RawMidi { time, bytes: event.bytes() }).is_ok();
            if written {
                sounding.note(event.bytes());
            }
            written
        };
        loop {
            if due.is_full()
                && midi_out.slots() > 0
                && let Some(early) = due.next()
            {
                if !write(0, early) {
                    return;
                }
                due.pop();
            }
            let Ok(event) = midi_out.pop() else { break };
            // There is room now.
            let _ = due.push(event);
        }
        while let Some(event) = due.next() {
            let at_ns = event.host_time_ns.saturating_add(later_ns);
            if at_ns >= end_ns {
                return;
            }
            let into_ns = at_ns.saturating_sub(cycle_ns);
            let time = (u128::from(into_ns) * u128::from(*rate_hz) / 1_000_000_000) as u32;
            if !write(time.min(frames.saturating_sub(1)), event) {
                return;
            }
            due.pop();
        }
    }

    /// Ends all that sounds at the output; what was still to come does not come. As many cycles as the port needs.
    fn silence_midi(&mut self, scope: &ProcessScope) {
        while self.midi_out.pop().is_ok() {}
        self.due.clear();
        let mut writer = self.ports.midi_out.writer(scope);
        while let Some(message) = self.sounding.next_silence() {
            if writer.write(&RawMidi { time: 0, bytes: &message }).is_err() {
                return;
            }
            self.sounding.note(&message);
        }
        self.silence.0.store(Silence::TOLD, Relaxed);
    }
}

/// JACK smooths its cycle times, but counts them on a clock of its own (on Linux CLOCK_MONOTONIC_RAW, which no time
/// daemon steers, and which is soon far from ours), so only how long ago the cycle began is taken from it. Where
/// that makes no sense, the cycle begins now.
fn cycle_start_ns(client: &Client, scope: &ProcessScope) -> u64 {
    let now_ns = monotonic_ns();
    let since_us =
        scope.cycle_times().ok().map(|times| client.time().wrapping_sub(times.current_usecs).cast_signed());
    match since_us {
        Some(since_us) if since_us.unsigned_abs() < MAX_CYCLE_AGE_US => {
            now_ns.saturating_add_signed(-since_us * 1_000)
        }
        _ => now_ns,
    }
}

#[cfg(test)]
mod tests;
