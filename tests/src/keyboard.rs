//! A musician with a MIDI keyboard on a JACK server.

use crate::binary::jack_keyboard;
use crate::jack::jack_command;
use crate::wait::{eventually, seconds};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Stdio};
use std::sync::{Arc, Mutex};

/// A MIDI message and when it passed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Frame on the JACK server's clock.
    pub frame: u32,
    /// Status byte first.
    pub bytes: Vec<u8>,
}

/// Plays into one MIDI port, hears another and an audio port; gone on drop.
#[derive(Debug)]
pub struct Keyboard {
    child: Child,
    stdin: ChildStdin,
    said: Arc<Mutex<Said>>,
}

#[derive(Debug, Default)]
struct Said {
    played: Vec<Message>,
    heard: Vec<Message>,
    peak: Option<f32>,
}

impl Keyboard {
    /// Connects to the ports, which must exist, and returns when the audio is heard.
    pub(crate) fn start(midi_in: &str, midi_out: &str, audio_out: &str) -> Self {
        let mut child = jack_command("setpriv")
            .args(["--pdeathsig", "KILL"])
            .arg(jack_keyboard())
            .args([midi_in, midi_out, audio_out])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("start the JACK keyboard");
        let stdin = child.stdin.take().expect("piped");
        let stdout = child.stdout.take().expect("piped");
        let said = Arc::new(Mutex::new(Said::default()));
        let sink = Arc::clone(&said);
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                sink.lock().unwrap().take(&line);
            }
        });
        let mut keyboard = Self { child, stdin, said };
        eventually(seconds(5), "the keyboard is connected", || {
            assert!(keyboard.child.try_wait().unwrap().is_none(), "the JACK keyboard ended");
            keyboard.said.lock().unwrap().peak.is_some()
        });
        keyboard
    }

    /// Plays one message.
    pub fn play(&mut self, bytes: &[u8]) {
        let line: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        writeln!(self.stdin, "{}", line.join(" ")).expect("the keyboard runs");
    }

    /// The messages played so far, each with its frame.
    pub fn played(&self) -> Vec<Message> {
        self.said.lock().unwrap().played.clone()
    }

    /// The messages heard so far.
    pub fn heard(&self) -> Vec<Message> {
        self.said.lock().unwrap().heard.clone()
    }

    /// Largest sample of the last tenth of a second.
    pub fn peak(&self) -> f32 {
        self.said.lock().unwrap().peak.unwrap_or_default()
    }
}

impl Drop for Keyboard {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Said {
    fn take(&mut self, line: &str) {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["peak", level] => self.peak = Some(level.parse().expect("a level")),
            [what, frame, ref bytes @ ..] => {
                let byte = |text: &&str| u8::from_str_radix(text, 16).expect("a hexadecimal byte");
                let bytes = bytes.iter().map(byte).collect();
                let message = Message { frame: frame.parse().expect("a frame number"), bytes };
                if what == "played" { self.played.push(message) } else { self.heard.push(message) }
            }
            _ => {}
        }
    }
}
