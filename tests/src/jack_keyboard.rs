//! `jack-keyboard MIDI_IN MIDI_OUT AUDIO_OUT`: plays into one MIDI port, listens to another and to an audio port.
//!
//! Each line of hexadecimal bytes on stdin is one message, played in the next cycle. On stdout, one line each: `played
//! FRAME BYTES`, `heard FRAME BYTES` (frames on JACK's one clock, so that their difference is the latency), and
//! ten times a second `peak LEVEL` of the audio. It ends with its stdin.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test tool: a failed step ends it, saying which"
)]

use jack::contrib::ClosureProcessHandler;
use jack::{AudioIn, Client, ClientOptions, Control, MidiIn, MidiOut, ProcessScope, RawMidi};
use std::sync::mpsc::sync_channel;
use tests::audio::RATE_HZ;

/// Cycles, messages and levels that may wait for the other side of the callback.
const QUEUE: usize = 1_024;
/// Longest message.
const MAX_BYTES: usize = 3;

enum Said {
    Played(u32, [u8; MAX_BYTES], usize),
    Heard(u32, [u8; MAX_BYTES], usize),
    Peak(f32),
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    assert_eq!(arguments.len(), 4, "jack-keyboard MIDI_IN MIDI_OUT AUDIO_OUT");
    let open = |name: &str| Client::new(name, ClientOptions::NO_START_SERVER).expect("a JACK server").0;
    // Two clients, for the reason that jack-probe gives.
    let (player, listener) = (open("keyboard"), open("keyboard-ears"));
    let mut keys = player.register_port("keys", MidiOut::default()).expect("register keys");
    let notes = listener.register_port("notes", MidiIn::default()).expect("register notes");
    let ear = listener.register_port("ear", AudioIn::default()).expect("register ear");
    let (press, pressed) = sync_channel::<([u8; MAX_BYTES], usize)>(QUEUE);
    let (say, said) = sync_channel(QUEUE);

    let tell = say.clone();
    let play = ClosureProcessHandler::new(move |_: &Client, scope: &ProcessScope| {
        let mut writer = keys.writer(scope);
        while let Ok((bytes, length)) = pressed.try_recv() {
            writer.write(&RawMidi { time: 0, bytes: &bytes[..length] }).expect("room for a message");
            let _ = tell.try_send(Said::Played(scope.last_frame_time(), bytes, length));
        }
        Control::Continue
    });
    let (mut peak, mut frames) = (0.0_f32, 0);
    let listen = ClosureProcessHandler::new(move |_: &Client, scope: &ProcessScope| {
        for message in notes.iter(scope) {
            let mut bytes = [0; MAX_BYTES];
            let length = message.bytes.len().min(MAX_BYTES);
            bytes[..length].copy_from_slice(&message.bytes[..length]);
            let _ = say.try_send(Said::Heard(scope.last_frame_time() + message.time, bytes, length));
        }
        for sample in ear.as_slice(scope) {
            peak = peak.max(sample.abs());
        }
        frames += scope.n_frames() as usize;
        if frames >= RATE_HZ / 10 {
            let _ = say.try_send(Said::Peak(std::mem::take(&mut peak)));
            frames = 0;
        }
        Control::Continue
    });
    let player = player.activate_async((), play).expect("activate");
    let listener = listener.activate_async((), listen).expect("activate");
    let connect = |client: &Client, from: &str, to: &str| {
        client.connect_ports_by_name(from, to).unwrap_or_else(|e| panic!("connect {from} to {to}: {e}"));
    };
    connect(player.as_client(), "keyboard:keys", &arguments[1]);
    connect(listener.as_client(), &arguments[2], "keyboard-ears:notes");
    connect(listener.as_client(), &arguments[3], "keyboard-ears:ear");

    std::thread::spawn(move || {
        for said in said {
            match said {
                Said::Played(frame, bytes, length) => println!("played {frame} {}", hex(&bytes[..length])),
                Said::Heard(frame, bytes, length) => println!("heard {frame} {}", hex(&bytes[..length])),
                Said::Peak(level) => println!("peak {level}"),
            }
        }
    });
    for line in std::io::stdin().lines() {
        let line = line.expect("read stdin");
        let bytes: Vec<u8> = line
            .split_whitespace()
            .map(|byte| u8::from_str_radix(byte, 16).expect("a hexadecimal byte"))
            .collect();
        let mut message = [0; MAX_BYTES];
        message[..bytes.len()].copy_from_slice(&bytes);
        press.send((message, bytes.len())).expect("the player runs");
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ")
}
