//! Stories on a real JACK server with its dummy driver.
//!
//! libjack keeps one server for the whole process and finds it by environment variables, so each story runs in a process of
//! its own: the test starts itself again with the variables set, and ends it if it hangs.

use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use super::super::{Audio, AudioChoice, DeviceEvent, open};
use super::*;

const STORY_LIMIT: Duration = Duration::from_secs(40);

/// Always the same: a killed server keeps one of the eight places in JACK's registry until one of its name starts.
const SERVER_NAME: &str = "bandmesh-device-test";
const MARK: &str = "BANDMESH_TEST_JACK_STORY";

/// Runs `body` in a child process that sees only the JACK server `Server` starts.
#[allow(clippy::print_stdout, reason = "a skipped test says so")]
fn story(test: &str, body: fn()) {
    if std::env::var_os(MARK).is_some() {
        return body();
    }
    if Command::new("jackd").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_err() {
        println!("skipped: jackd is not installed");
        return;
    }
    // One server at a time: two cores cannot keep the time of several.
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let module = module_path!().split_once("::").unwrap().1;
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([&format!("{module}::{test}"), "--exact", "--nocapture", "--test-threads=1"])
        .env(MARK, "1")
        .env("JACK_DEFAULT_SERVER", SERVER_NAME)
        .env("JACK_NO_START_SERVER", "1")
        .env("JACK_NO_AUDIO_RESERVATION", "1")
        .process_group(0)
        .spawn()
        .unwrap();
    let deadline = Instant::now() + STORY_LIMIT;
    let status = loop {
        match child.try_wait().unwrap() {
            Some(status) => break status,
            None if Instant::now() > deadline => {
                let _ = Command::new("kill").args(["-9", "--", &format!("-{}", child.id())]).status();
                let _ = child.wait();
                panic!("{test} hung");
            }
            None => std::thread::sleep(Duration::from_millis(20)),
        }
    };
    assert!(status.success(), "{test} failed: {status}");
}

struct Server(Child);

impl Server {
    fn start(rate_hz: u32, period_frames: u32) -> Self {
        let child = Command::new("jackd")
            .args([
                "-r",
                "-n",
                SERVER_NAME,
                "-d",
                "dummy",
                "-r",
                &rate_hz.to_string(),
                "-p",
                &period_frames.to_string(),
            ])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Server(child)
    }

    /// Started, and answering.
    fn up(rate_hz: u32, period_frames: u32) -> Self {
        let server = Server::start(rate_hz, period_frames);
        wait_for("the server", || probe().is_ok());
        server
    }
}

impl Server {
    /// As a crash would end it.
    fn crash(mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Politely first, so that it gives its shared memory back.
impl Drop for Server {
    fn drop(&mut self) {
        let _ = Command::new("kill").args(["-TERM", &self.0.id().to_string()]).stderr(Stdio::null()).status();
        let deadline = Instant::now() + Duration::from_secs(2);
        while matches!(self.0.try_wait(), Ok(None)) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(8);
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn config(name: &str) -> DeviceConfig {
    DeviceConfig { choice: AudioChoice::Jack, rate_hz: None, period_frames: None, jack_name: name.to_owned() }
}

/// Plays 1, 2, 3, … and counts where what it hears goes on by one.
#[derive(Default)]
struct Counts {
    next: f32,
    last_heard: f32,
    heard: Arc<AtomicU64>,
    broken: Arc<AtomicU64>,
    frames: Arc<AtomicUsize>,
}

impl AudioCallback for Counts {
    fn process(&mut self, input: &[f32], output: &mut [f32], _: u64) {
        self.frames.store(output.len() / 2, Relaxed);
        for frame in input.chunks_exact(2).filter(|frame| frame[0] != 0.0) {
            let counter = if frame[0] == self.last_heard + 1.0 { &self.heard } else { &self.broken };
            counter.fetch_add(1, Relaxed);
            self.last_heard = frame[0];
        }
        for frame in output.chunks_exact_mut(2) {
            // Below 2^24, where every integer is a float.
            self.next = (self.next + 1.0) % 16_000_000.0;
            frame.fill(self.next);
        }
    }
}

fn counts() -> (Box<dyn AudioCallback>, Arc<AtomicU64>, Arc<AtomicU64>, Arc<AtomicUsize>) {
    let counts = Counts::default();
    let (heard, broken, frames) = (counts.heard.clone(), counts.broken.clone(), counts.frames.clone());
    (Box::new(counts), heard, broken, frames)
}

#[test]
fn two_clients_keep_their_names_and_hear_each_other_sample_by_sample() {
    story("two_clients_keep_their_names_and_hear_each_other_sample_by_sample", || {
        let _server = Server::up(48_000, 128);
        let (alice, ..) = counts();
        let (bob, heard, broken, _) = counts();
        let alice = open(&config("alice"), |_| alice).unwrap();
        let mut bob = open(&config("bob"), |_| bob).unwrap();
        let (patch, _) = Client::new("patch", ClientOptions::NO_START_SERVER).unwrap();
        let ports = patch.ports(None, None, PortFlags::empty());
        for port in ["in_1", "in_2", "out_1", "out_2", "midi_in", "midi_out"] {
            for name in ["alice", "bob"] {
                assert!(ports.contains(&format!("{name}:{port}")), "{ports:?}");
            }
        }
        let system = patch.port_by_name("alice:out_2").unwrap();
        assert!(system.is_connected_to("system:playback_2").unwrap(), "connected to the system by itself");
        patch.connect_ports_by_name("alice:out_1", "bob:in_1").unwrap();
        wait_for("a second of audio", || heard.load(Relaxed) > 48_000);
        // The first sample heard starts the count, and a dummy driver's missed cycle may break it.
        let xruns = alice.stats().xruns().max(bob.stats().xruns());
        assert!(broken.load(Relaxed) <= 1 + xruns, "{} breaks, {xruns} xruns", broken.load(Relaxed));
        let info = bob.info();
        assert_eq!(
            (info.host.as_str(), info.device.as_str(), info.rate_hz, info.period_frames),
            ("jack", "bob", 48_000, 128)
        );
        assert!(!matches!(bob.poll_event(), Some(DeviceEvent::Lost(_))));
        assert!(alice.stop().is_some(), "the engine comes back");
    });
}

#[test]
fn a_taken_name_and_a_missing_server_are_clear_errors() {
    story("a_taken_name_and_a_missing_server_are_clear_errors", || {
        let began = Instant::now();
        let error = open(&config("alice"), |_| counts().0).err().unwrap();
        assert!(matches!(error, DeviceError::JackUnavailable(_)), "{error}");
        assert!(began.elapsed() < Duration::from_secs(3));
        let server = Server::up(48_000, 128);
        let first = open(&config("alice"), |_| counts().0).unwrap();
        let error = open(&config("alice"), |_| counts().0).err().unwrap();
        assert!(error.to_string().contains("--jack-name"), "{error}");
        drop(first);
        open(&config("alice"), |_| counts().0).expect("the name is free again");
        for name in ["", "a:b", "a\0b", &"x".repeat(33)] {
            assert!(matches!(open(&config(name), |_| counts().0), Err(DeviceError::JackName(_))));
        }
        drop(server);
    });
}

#[test]
fn a_killed_server_is_an_event_and_the_callback_comes_back() {
    story("a_killed_server_is_an_event_and_the_callback_comes_back", || {
        let server = Server::up(48_000, 128);
        let (callback, ..) = counts();
        let mut alice = open(&config("alice"), |_| callback).unwrap();
        wait_for("callbacks", || alice.stats().callbacks() > 100);
        server.crash();
        wait_for("the loss", || alice.poll_event() == Some(DeviceEvent::Lost(LostReason::ServerGone)));
        let began = Instant::now();
        drop(alice.stop());
        assert!(began.elapsed() < Duration::from_secs(4), "stopping took {:?}", began.elapsed());
        assert!(matches!(open(&config("alice"), |_| counts().0), Err(DeviceError::JackUnavailable(_))));
    });
}

#[test]
fn audio_comes_back_with_the_server_and_a_new_engine_only_for_a_new_rate() {
    story("audio_comes_back_with_the_server_and_a_new_engine_only_for_a_new_rate", || {
        let server = Server::up(48_000, 128);
        let built = Arc::new(AtomicUsize::new(0));
        let count = built.clone();
        let audio = Audio::start(config("alice"), move |_| {
            count.fetch_add(1, Relaxed);
            counts().0
        })
        .unwrap();
        let mut events = Vec::new();
        let mut reopened = |what: &str| {
            let mut found = None;
            wait_for(what, || {
                while let Some(event) = audio.poll_event() {
                    if let DeviceEvent::Reopened { info, rebuilt } = &event {
                        found = Some((info.rate_hz, info.period_frames, *rebuilt));
                    }
                    events.push(event);
                }
                found.is_some()
            });
            found.unwrap()
        };
        server.crash();
        wait_for("the loss", || !audio.is_running());
        let server = Server::start(48_000, 256);
        let (rate_hz, period_frames, rebuilt) = reopened("the same server");
        assert_eq!((rate_hz, period_frames), (48_000, 256));
        assert_eq!(rebuilt, built.load(Relaxed) == 2, "told as it is");
        let before = audio.stats().callbacks;
        wait_for("callbacks", || audio.stats().callbacks > before + 20);
        drop(server);
        wait_for("the second loss", || !audio.is_running());
        let _server = Server::start(44_100, 256);
        assert_eq!(reopened("a server of another rate"), (44_100, 256, true));
        assert!(events.contains(&DeviceEvent::Lost(LostReason::ServerGone)));
    });
}

#[test]
fn a_changed_period_is_survived_without_a_gap_in_the_callback() {
    story("a_changed_period_is_survived_without_a_gap_in_the_callback", || {
        let _server = Server::up(48_000, 128);
        let (callback, _, _, frames) = counts();
        let mut alice = open(&config("alice"), |_| callback).unwrap();
        wait_for("callbacks", || frames.load(Relaxed) == 128);
        let (patch, _) = Client::new("patch", ClientOptions::NO_START_SERVER).unwrap();
        for period in [1024, 64, 8192] {
            patch.set_buffer_size(period).unwrap();
            let told = DeviceEvent::PeriodChanged { period_frames: period };
            wait_for("the event", || alice.poll_event().as_ref() == Some(&told));
            assert_eq!(alice.info().period_frames, period);
            let expected = (period as usize).min(MAX_PERIOD_FRAMES);
            wait_for("callbacks of the new length", || frames.load(Relaxed) == expected);
        }
    });
}

#[test]
fn midi_arrives_at_the_frame_it_was_sent_for() {
    story("midi_arrives_at_the_frame_it_was_sent_for", || {
        let _server = Server::up(48_000, 128);
        let mut alice = open(&config("alice"), |_| counts().0).unwrap();
        let mut bob = open(&config("bob"), |_| counts().0).unwrap();
        let (patch, _) = Client::new("patch", ClientOptions::NO_START_SERVER).unwrap();
        patch.connect_ports_by_name("alice:midi_out", "bob:midi_in").unwrap();
        let (mut sender, mut receiver) = (alice.take_midi().unwrap(), bob.take_midi().unwrap());
        // A stalled server plays late what it slept through; in a round it did not, half the notes are exact. Both ends
        // round to frames of 21 µs, and the cycle's own time is in microseconds.
        let exact = (0..15).any(|_| round_trip(&mut sender, &mut receiver) < 100_000);
        assert!(exact, "never on time in 15 rounds");
    });
}

/// What was heard on a port since the last call.
fn heard_by(listener: &mut MidiPorts) -> Vec<Vec<u8>> {
    std::iter::from_fn(|| listener.poll()).map(|event| event.bytes().to_vec()).collect()
}

#[test]
fn a_client_that_ends_silences_the_synthesisers_at_its_output() {
    story("a_client_that_ends_silences_the_synthesisers_at_its_output", || {
        let _server = Server::up(48_000, 128);
        let mut synth = open(&config("synth"), |_| counts().0).unwrap();
        let mut synth = synth.take_midi().unwrap();
        for fades in [false, true] {
            let mut alice = open(&config("alice"), |_| counts().0).unwrap();
            let (patch, _) = Client::new("patch", ClientOptions::NO_START_SERVER).unwrap();
            patch.connect_ports_by_name("alice:midi_out", "synth:midi_in").unwrap();
            let mut sender = alice.take_midi().unwrap();
            let mut play = |after_ns: u64, message: [u8; 3]| {
                sender.send(MidiEvent::new(monotonic_ns() + after_ns, &message).unwrap()).unwrap();
            };
            for message in [[0x90, 60, 100], [0xB2, 64, 127], [0xB3, 66, 127], [0x90, 61, 100], [0x80, 61, 0]]
            {
                play(0, message);
            }
            // Nobody shall hear what is to come.
            play(60_000_000_000, [0x90, 70, 100]);
            let mut heard = Vec::new();
            wait_for("what is played", || {
                heard.extend(heard_by(&mut synth));
                heard.len() == 5
            });
            if fades {
                assert!(alice.fade_out());
            }
            assert!(alice.stop().is_some(), "the engine comes back");
            let ends = vec![[0x80, 60, 64], [0xB2, 64, 0], [0xB3, 66, 0], [0xB0, 123, 0]];
            let mut heard = Vec::new();
            wait_for("the ends", || {
                heard.extend(heard_by(&mut synth));
                heard.len() >= ends.len()
            });
            assert_eq!(heard, ends);
        }
    });
}

#[test]
fn a_reader_that_was_away_misses_beginnings_and_no_ends() {
    story("a_reader_that_was_away_misses_beginnings_and_no_ends", || {
        let _server = Server::up(48_000, 1024);
        let mut alice = open(&config("alice"), |_| counts().0).unwrap();
        let mut bob = open(&config("bob"), |_| counts().0).unwrap();
        let (patch, _) = Client::new("patch", ClientOptions::NO_START_SERVER).unwrap();
        patch.connect_ports_by_name("alice:midi_out", "bob:midi_in").unwrap();
        let (mut sender, mut receiver) = (alice.take_midi().unwrap(), bob.take_midi().unwrap());
        let mut send = |message: [u8; 3]| {
            wait_for("room", || sender.send(MidiEvent::new(0, &message).unwrap()).is_ok());
        };
        // More than the queue holds, then the ends, while Bob's node looks away.
        for wheel in 0..2 * QUEUE_EVENTS {
            if wheel < 100 {
                send([0x90, wheel as u8, 100]);
            }
            send([0xE0, (wheel % 128) as u8, 64]);
        }
        for key in 0..100 {
            send([0x80, key, 0]);
        }
        let before = bob.stats().callbacks();
        wait_for("all of it to pass", || bob.stats().callbacks() > before + 40);
        let mut held = Keys::default();
        let mut count = 0;
        wait_for("the ends", || {
            while let Some(event) = receiver.poll() {
                held.note(event.bytes());
                count += 1;
            }
            count > 100 && held.is_empty()
        });
        assert!(count < 2 * QUEUE_EVENTS, "{count}: the queue is bounded");
    });
}

/// A keyboard that says `says` once, when it is switched on, and then nothing.
fn keyboard(says: Vec<[u8; 3]>) -> AsyncClient<(), impl ProcessHandler> {
    let (client, _) = Client::new("keyboard", ClientOptions::NO_START_SERVER).unwrap();
    let mut port = client.register_port("keys", MidiOut::default()).unwrap();
    let mut waits = true;
    let process = move |_: &Client, scope: &ProcessScope| {
        let is_heard = port.connected_count().is_ok_and(|count| count > 0);
        let mut writer = port.writer(scope);
        if is_heard && std::mem::take(&mut waits) {
            for message in &says {
                writer.write(&RawMidi { time: 0, bytes: message }).unwrap();
            }
        }
        Control::Continue
    };
    client.activate_async((), ::jack::contrib::ClosureProcessHandler::new(process)).unwrap()
}

#[test]
fn a_keyboard_that_goes_lets_go_of_its_keys_and_pedals() {
    story("a_keyboard_that_goes_lets_go_of_its_keys_and_pedals", || {
        let _server = Server::up(48_000, 128);
        let mut bob = open(&config("bob"), |_| counts().0).unwrap();
        let mut listener = bob.take_midi().unwrap();
        let (patch, _) = Client::new("patch", ClientOptions::NO_START_SERVER).unwrap();
        let held = vec![[0x90, 60, 100], [0xB0, 64, 127]];
        let ends = [[0x80, 60, 64], [0xB0, 64, 0]];
        for is_unplugged in [true, false] {
            let keyboard = keyboard(held.clone());
            patch.connect_ports_by_name("keyboard:keys", "bob:midi_in").unwrap();
            let mut heard = Vec::new();
            wait_for("what is played", || {
                heard.extend(heard_by(&mut listener));
                heard.len() >= held.len()
            });
            // A cable of something else.
            patch.connect_ports_by_name("bob:out_1", "bob:in_1").unwrap();
            patch.disconnect_ports_by_name("bob:out_1", "bob:in_1").unwrap();
            let before = bob.stats().callbacks();
            wait_for("some cycles", || bob.stats().callbacks() > before + 100);
            heard.extend(heard_by(&mut listener));
            assert_eq!(heard, held, "the keys are down");
            match is_unplugged {
                true => patch.disconnect_ports_by_name("keyboard:keys", "bob:midi_in").unwrap(),
                false => drop(keyboard.deactivate().unwrap()),
            }
            let mut heard = Vec::new();
            wait_for("the ends", || {
                heard.extend(heard_by(&mut listener));
                heard.len() >= ends.len()
            });
            assert_eq!(heard, ends);
        }
    });
}

#[test]
fn who_takes_any_device_takes_any_free_name() {
    story("who_takes_any_device_takes_any_free_name", || {
        let _server = Server::up(48_000, 128);
        let first = open(&config("alice"), |_| counts().0).unwrap();
        let auto = DeviceConfig { choice: AudioChoice::Auto, ..config("alice") };
        let second = open(&auto, |_| counts().0).unwrap();
        let info = second.info();
        assert_eq!((first.info().device.as_str(), info.host.as_str()), ("alice", "jack"));
        assert!(info.device != "alice" && info.device.starts_with("alice"), "{info:?}");
        assert!(info.notes.iter().any(|note| note.contains("\"alice\"")), "{info:?}");
        let (patch, _) = Client::new("patch", ClientOptions::NO_START_SERVER).unwrap();
        let ports = patch.ports(None, None, PortFlags::empty());
        assert!(ports.contains(&format!("{}:midi_out", info.device)), "{ports:?}");
        let output = patch.port_by_name(&format!("{}:out_1", info.device)).unwrap();
        assert!(output.is_connected_to("system:playback_1").unwrap());
    });
}

/// Plays twenty notes from one port to another and returns by how much the middle one was off its time.
fn round_trip(sender: &mut MidiPorts, receiver: &mut MidiPorts) -> u64 {
    let start = monotonic_ns() + 100_000_000;
    let times: Vec<u64> = (0..20).map(|index| start + index * 3_700_000).collect();
    // Sent out of order, to be heard in order.
    for (key, time) in times.iter().enumerate().rev() {
        sender.send(MidiEvent::new(*time, &[0x90, key as u8, 100]).unwrap()).unwrap();
    }
    let mut heard = Vec::new();
    wait_for("all notes", || {
        heard.extend(std::iter::from_fn(|| receiver.poll()));
        heard.len() == times.len()
    });
    let mut off_ns = Vec::new();
    for (key, (event, time)) in heard.iter().zip(&times).enumerate() {
        assert_eq!(event.bytes(), [0x90, key as u8, 100]);
        off_ns.push(event.host_time_ns.abs_diff(*time));
    }
    off_ns.sort_unstable();
    off_ns[off_ns.len() / 2]
}
