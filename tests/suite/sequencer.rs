//! Keyboards and synthesisers at the system's MIDI ports, in a machine that has some.

use serde_json::{Value, json};
use std::fs::File;
use std::io::{Read, Write};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tests::{Lan, Node, Options, eventually, in_machine, ms, run_to_exit, seconds};

const KEYBOARD: &str = "/dev/snd/midiC0D0";
/// The keyboard's card, as the kernel's driver knows it.
const KEYBOARD_CARD: &str = "snd_virmidi.0";

/// Messages and when they came.
type Notes = Vec<(Instant, [u8; 3])>;

/// The other end of a MIDI cable: hears what is sent to a port, and plays what its player does.
struct Synth {
    device: &'static str,
    heard: Arc<Mutex<Notes>>,
    echoes: Arc<Mutex<bool>>,
}

impl Synth {
    fn at(device: &'static str) -> Self {
        let heard: Arc<Mutex<Notes>> = Arc::default();
        let echoes: Arc<Mutex<bool>> = Arc::default();
        let (sink, echo) = (Arc::clone(&heard), Arc::clone(&echoes));
        let mut cable = File::open(device).unwrap_or_else(|e| panic!("{device}: {e}"));
        std::thread::spawn(move || {
            let (mut status, mut data) = (0, Vec::new());
            let mut byte = [0];
            while cable.read_exact(&mut byte).is_ok() {
                let at = Instant::now();
                match byte[0] {
                    0xF8.. => continue,
                    new @ 0x80.. => (status, data) = (new, Vec::new()),
                    value => data.push(value),
                }
                // Notes and controllers; a status byte may be left out when it is that of the message before.
                if let [first, second] = data[..] {
                    sink.lock().unwrap().push((at, [status, first, second]));
                    data.clear();
                    if *echo.lock().unwrap() {
                        play(device, &[status, first, second]);
                    }
                }
            }
        });
        Self { device, heard, echoes }
    }

    fn heard(&self) -> Vec<[u8; 3]> {
        self.heard.lock().unwrap().iter().map(|(_, message)| *message).collect()
    }

    fn when(&self, wanted: impl Fn(&[u8; 3]) -> bool) -> Option<Instant> {
        self.heard.lock().unwrap().iter().find(|(_, message)| wanted(message)).map(|(at, _)| *at)
    }

    fn starts(&self, key: u8) -> usize {
        self.heard()
            .iter()
            .filter(|message| matches!(message, [0x90, k, force] if *k == key && *force > 0))
            .count()
    }

    fn ended(&self, key: u8) -> Option<Instant> {
        self.when(|message| matches!(message, [0x80, k, _] | [0x90, k, 0] if *k == key))
    }

    fn forget(&self) {
        self.heard.lock().unwrap().clear();
    }
}

/// Somebody presses and releases keys at the other end of a cable.
fn play(device: &str, bytes: &[u8]) -> Instant {
    let mut cable = File::options().write(true).open(device).unwrap_or_else(|e| panic!("{device}: {e}"));
    let at = Instant::now();
    cable.write_all(bytes).expect("play");
    at
}

fn driver(what: &str, card: &str) {
    let path = format!("/sys/bus/platform/drivers/snd_virmidi/{what}");
    std::fs::write(&path, card).unwrap_or_else(|e| panic!("{path}: {e}"));
}

fn aconnect(from: &str, to: &str) {
    let done = Command::new("aconnect").args([from, to]).output().expect("run aconnect");
    assert!(done.status.success(), "aconnect {from} {to}: {}", String::from_utf8_lossy(&done.stderr));
}

fn player(lan: &Lan, host: usize, name: &str, arguments: &[&str]) -> Node {
    // As little sound as possible: the processor is emulated.
    let options = Options::named(name).with(&["--jack-name", name, "--rate", "8000", "--period", "256"]);
    Node::start(lan.host(host), options.with(arguments))
}

fn midi(node: &Node) -> Value {
    node.api().get("/midi").ok()
}

fn choose(node: &Node, change: Value) -> Value {
    node.api().put("/midi", &change).ok()
}

/// What a node says of a port: its state, or nothing.
fn state(midi: &Value, direction: &str, name: &str) -> String {
    let ports = midi[direction].as_array().expect("a list of ports");
    let port = ports.iter().find(|port| port["name"].as_str().is_some_and(|found| found.contains(name)));
    port.map_or_else(String::new, |port| port["state"].as_str().expect("a state").to_owned())
}

/// Two nodes on one machine; Alice has the keyboard, Bob the synthesiser.
struct Studio {
    lan: Lan,
    alice: Node,
    bob: Node,
    synth: Synth,
    ear: Synth,
}

#[test]
fn keyboards_and_synthesisers_of_the_system_play_together() {
    in_machine("sequencer::keyboards_and_synthesisers_of_the_system_play_together", || {
        let lan = Lan::alone(2);
        let alice = player(&lan, 0, "Alice", &[]);
        let bob = player(&lan, 1, "Bob", &["--midi-in", "none", "--midi-out", "VirMIDI 1-0"]);
        let (synth, ear) = (Synth::at("/dev/snd/midiC1D0"), Synth::at("/dev/snd/midiC1D1"));
        let mut studio = Studio { lan, alice, bob, synth, ear };
        eventually(seconds(10), "they play together", || {
            studio.bob.hears(&studio.alice) && studio.alice.hears(&studio.bob)
        });
        studio.a_key_sounds_on_the_other_side();
        studio.no_note_goes_round();
        studio.an_output_that_is_taken_away_falls_silent_and_an_absent_one_is_waited_for();
        studio.what_a_synthesiser_returns_stays_there();
        studio.an_unplugged_keyboard_lets_go_and_is_heard_again_when_it_is_back();
        studio.a_sound_card_is_taken();
        studio.what_is_there_is_listed_and_what_was_chosen_is_remembered();
    });
}

impl Studio {
    fn a_key_sounds_on_the_other_side(&self) {
        assert_eq!(state(&midi(&self.alice), "input_ports", "VirMIDI 0-0"), "open");
        assert_eq!(state(&midi(&self.bob), "input_ports", "VirMIDI 0-0"), "closed");
        assert_eq!(state(&midi(&self.bob), "output_ports", "VirMIDI 1-0"), "open");
        // By hand, as a musician connects a DAW to what the band plays.
        aconnect("Bob:1", "Virtual Raw MIDI 1-1:0");
        let mut took = Vec::new();
        for key in 60..70 {
            let at = play(KEYBOARD, &[0x90, key, 100]);
            eventually(seconds(2), "the key sounds on Bob's synthesiser", || self.synth.starts(key) == 1);
            took.push(self.synth.when(|message| message[1] == key).expect("it was heard") - at);
            play(KEYBOARD, &[0x80, key, 0]);
            eventually(seconds(2), "and ends there", || self.synth.ended(key).is_some());
        }
        took.sort();
        eprintln!("from a key to a synthesiser: median {:?}, of {took:?}", took[took.len() / 2]);
        eventually(seconds(2), "and at Bob's own output", || self.ear.ended(69).is_some());
        assert_eq!(self.ear.heard(), self.synth.heard());
        let played = midi(&self.alice)["input_ports"][1].clone();
        assert!(played["played_ms_ago"].is_u64(), "{played}");
    }

    fn no_note_goes_round(&self) {
        // Both listen to all there is, and somebody has even laid cables between them.
        choose(&self.bob, json!({"all_inputs": true, "inputs": ["Bandmesh", "Alice", "Through"]}));
        choose(&self.alice, json!({"inputs": ["Bandmesh", "Bob"], "outputs": ["Bandmesh", "Bob"]}));
        aconnect("Alice:1", "Bob:0");
        aconnect("Bob:1", "Alice:0");
        for node in [&self.alice, &self.bob] {
            let midi = midi(node);
            for direction in ["input_ports", "output_ports"] {
                assert_eq!(state(&midi, direction, "Bandmesh "), "", "{midi}");
            }
        }
        self.synth.forget();
        play(KEYBOARD, &[0x90, 40, 100]);
        eventually(seconds(2), "the note comes", || self.synth.starts(40) > 0);
        std::thread::sleep(ms(2_000));
        assert_eq!(self.synth.starts(40), 1, "{:?}", self.synth.heard());
        play(KEYBOARD, &[0x80, 40, 0]);
        eventually(seconds(2), "the note ends", || self.synth.ended(40).is_some());
        choose(&self.alice, json!({"inputs": [], "outputs": []}));
        choose(&self.bob, json!({"all_inputs": false, "inputs": []}));
    }

    fn an_output_that_is_taken_away_falls_silent_and_an_absent_one_is_waited_for(&self) {
        self.synth.forget();
        play(KEYBOARD, &[0x90, 50, 100]);
        eventually(seconds(2), "the note sounds", || self.synth.starts(50) == 1);
        let now = choose(&self.bob, json!({"outputs": ["Grand Piano"]}));
        assert_eq!(state(&now, "output_ports", "VirMIDI 1-0"), "closed", "{now}");
        assert_eq!(state(&now, "output_ports", "Grand Piano"), "absent", "{now}");
        eventually(seconds(1), "the note ends where nobody would end it", || self.synth.ended(50).is_some());
        let now = choose(&self.bob, json!({"outputs": ["VirMIDI 1-0"]}));
        assert_eq!(state(&now, "output_ports", "VirMIDI 1-0"), "open", "{now}");
        self.synth.forget();
        // An input that is left out with the key down.
        let now = choose(&self.alice, json!({"all_inputs": false}));
        assert_eq!(state(&now, "input_ports", "VirMIDI 0-0"), "closed", "{now}");
        eventually(seconds(2), "Alice's key is let go for her", || self.synth.ended(50).is_some());
        choose(&self.alice, json!({"all_inputs": true}));
    }

    fn what_a_synthesiser_returns_stays_there(&self) {
        // An instrument with keys and sound of its own, on one cable each way.
        choose(&self.bob, json!({"inputs": ["VirMIDI 1-0"]}));
        choose(&self.alice, json!({"all_inputs": false, "inputs": ["VirMIDI 0-0"]}));
        let cut = Command::new("aconnect").args(["-d", "Bob:1", "Virtual Raw MIDI 1-1:0"]).status();
        assert!(cut.expect("run aconnect").success());
        aconnect("Alice:1", "Virtual Raw MIDI 1-1:0");
        *self.synth.echoes.lock().unwrap() = true;
        self.ear.forget();
        self.synth.forget();
        for key in 70..75 {
            play(KEYBOARD, &[0x90, key, 100]);
            play(KEYBOARD, &[0x80, key, 0]);
        }
        eventually(seconds(2), "the notes sound", || self.synth.ended(74).is_some());
        play(self.synth.device, &[0x90, 99, 50]);
        eventually(seconds(2), "Alice hears what Bob plays himself", || self.ear.starts(99) == 1);
        play(self.synth.device, &[0x80, 99, 0]);
        eventually(seconds(2), "and its end", || self.ear.ended(99).is_some());
        let returned: Vec<_> = self.ear.heard().into_iter().filter(|message| message[1] != 99).collect();
        assert!(returned.is_empty(), "Alice's own notes came back: {returned:?}");
        *self.synth.echoes.lock().unwrap() = false;
        choose(&self.bob, json!({"inputs": []}));
    }

    fn an_unplugged_keyboard_lets_go_and_is_heard_again_when_it_is_back(&self) {
        self.synth.forget();
        play(KEYBOARD, &[0x90, 80, 100]);
        play(KEYBOARD, &[0xB0, 64, 127]);
        eventually(seconds(2), "a key and the pedal are down", || self.synth.heard().len() == 2);
        let unplugged = Instant::now();
        driver("unbind", KEYBOARD_CARD);
        eventually(seconds(2), "nobody holds the key", || self.synth.ended(80).is_some());
        let took = self.synth.ended(80).expect("it ended") - unplugged;
        eprintln!("from the plug pulled to the note's end at the other side: {took:?}");
        eventually(seconds(2), "nor the pedal", || self.synth.heard().contains(&[0xB0, 64, 0]));
        eventually(seconds(3), "the keyboard is said to be absent", || {
            state(&midi(&self.alice), "input_ports", "VirMIDI 0-0") == "absent"
        });
        driver("bind", KEYBOARD_CARD);
        let took = eventually(seconds(3), "it is open again", || {
            state(&midi(&self.alice), "input_ports", "VirMIDI 0-0") == "open"
        });
        eprintln!("a keyboard that comes back is open after {took:?}");
        play(KEYBOARD, &[0x90, 81, 100, 0x80, 81, 0]);
        eventually(seconds(2), "and heard", || self.synth.ended(81).is_some());
    }

    fn a_sound_card_is_taken(&self) {
        let change = json!({"device": "hw:CARD=Dummy,DEV=0", "rate_hz": 8_000, "period_frames": 256});
        let now = self.bob.api().put("/audio", &change).ok();
        assert_eq!((now["host"].as_str(), now["state"].as_str()), (Some("alsa"), Some("running")), "{now}");
        let received = || self.alice.peer(&self.bob)["audio"]["received"].as_u64().unwrap_or_default();
        let before = received();
        eventually(seconds(5), "Alice hears Bob through his sound card", || received() > before + 20);
        eprintln!("through a sound card: {now}");
    }

    fn what_is_there_is_listed_and_what_was_chosen_is_remembered(&mut self) {
        let exit = run_to_exit(self.lan.host(0), &["devices"], seconds(20));
        for name in ["VirMIDI 0-0", "VirMIDI 1-1", "Midi Through Port-0"] {
            assert!(exit.stdout.contains(name), "{exit:?}");
        }
        assert!(!exit.stdout.contains("Bandmesh"), "{exit:?}");
        assert_eq!(self.bob.stop().0, 0);
        let profile = std::fs::read_to_string(self.bob.data_dir().join("profile.json")).expect("a profile");
        let profile: Value = serde_json::from_str(&profile).expect("JSON");
        assert_eq!(profile["midi"]["outputs"], json!(["VirMIDI 1-0"]));
        let asked = Instant::now();
        assert_eq!(self.alice.stop().0, 0);
        assert!(asked.elapsed() < Duration::from_secs(10));
    }
}
