//! A JACK server without a sound card, and a client of it that plays and records.

use crate::audio::{read_wav, write_wav};
use crate::binary::jack_probe;
use crate::keyboard::Keyboard;
use std::ffi::OsStr;
use std::io::{Read, Seek};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::wait::{eventually, seconds};

/// JACK's registry has eight entries and keeps those of servers that were killed; with one fixed name a new
/// server takes its predecessor's. Only a test that has the machine to itself may start one.
const SERVER: &str = "bandmesh-test";

/// What came back through a JACK graph.
#[derive(Debug)]
pub struct Heard {
    /// The recording, frame by frame beside what was played.
    pub samples: Vec<f32>,
    /// Frames at which the server hurried or the machine did not wake a thread in time, see `jack_probe.rs`.
    pub stumbles: Vec<usize>,
}

impl Heard {
    /// Whether the machine stumbled near `frame`, so that nobody could have been in time.
    pub fn stumbled_near(&self, frame: usize, period_frames: usize) -> bool {
        self.stumbles.iter().any(|stumble| stumble.abs_diff(frame) <= 4 * period_frames)
    }
}

/// A `jackd` with the dummy driver; killed on drop.
#[derive(Debug)]
pub struct JackServer {
    child: Child,
}

impl JackServer {
    /// Starts a server at `rate_hz` with `period_frames`.
    ///
    /// It waits for its clients (`-S`), so that a late wake-up of a virtual machine stretches everybody's
    /// time instead of dropping a period that nobody was to blame for.
    pub fn start(rate_hz: u32, period_frames: u32) -> Self {
        let child = jack_command("setpriv")
            .args(["--pdeathsig", "KILL", "jackd", "-S", "-R", "-P", "70", "-n", SERVER])
            .args(["-d", "dummy", "-r", &rate_hz.to_string(), "-p", &period_frames.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|e| panic!("jackd: {e}; ./dev setup installs it"));
        let mut server = Self { child };
        eventually(seconds(10), "jackd answers", || {
            assert!(server.child.try_wait().unwrap().is_none(), "jackd ended");
            !server.ports().is_empty()
        });
        server
    }

    /// What a client needs in its environment to find this server.
    pub fn environment() -> [(&'static str, &'static str); 3] {
        [("JACK_DEFAULT_SERVER", SERVER), ("JACK_NO_START_SERVER", "1"), ("JACK_NO_AUDIO_RESERVATION", "1")]
    }

    /// The names of all ports.
    pub fn ports(&self) -> Vec<String> {
        let out = jack_command("jack_lsp").stderr(Stdio::null()).output();
        let out = out.unwrap_or_else(|e| panic!("jack_lsp: {e}; ./dev setup installs it"));
        String::from_utf8_lossy(&out.stdout).lines().map(str::to_owned).collect()
    }

    /// Changes the period of the running server, for all its clients.
    pub fn set_period(&self, period_frames: u32) {
        let changed = jack_command("jack_bufsize")
            .arg(period_frames.to_string())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        let changed = changed.unwrap_or_else(|e| panic!("jack_bufsize: {e}; ./dev setup installs it"));
        assert!(changed.success(), "the server does not change its period");
    }

    /// Plays `signal` (48 kHz) into `port_in` and returns what `port_out` gave in the same frames.
    pub fn play_through(&self, signal: &[f32], port_in: &str, port_out: &str) -> Heard {
        let scratch = tempfile::tempdir().expect("a temporary directory");
        let (play, heard) = (scratch.path().join("play.wav"), scratch.path().join("heard.wav"));
        write_wav(&play, signal);
        let length = Duration::from_secs_f64(signal.len() as f64 / 48e3);
        let said = run_probe(&play, port_in, port_out, &heard, length);
        let stumbles = said.lines().map(|line| line.parse().expect("a frame number")).collect();
        Heard { samples: read_wav(&heard), stumbles }
    }

    /// Somebody at a keyboard on `midi_in`, with ears on `midi_out` and `audio_out`.
    pub fn keyboard(&self, midi_in: &str, midi_out: &str, audio_out: &str) -> Keyboard {
        Keyboard::start(midi_in, midi_out, audio_out)
    }

    /// Stops the server as a user would.
    pub fn stop(self) {}
}

impl Drop for JackServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `program` with what a client needs in its environment.
pub(crate) fn jack_command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.envs(JackServer::environment());
    command
}

fn run_probe(play: &Path, port_in: &str, port_out: &str, heard: &Path, length: Duration) -> String {
    let mut said = tempfile::tempfile().expect("a temporary file");
    let mut child = jack_command("setpriv")
        .args(["--pdeathsig", "KILL"])
        .arg(jack_probe())
        .arg(play)
        .args([port_in, port_out])
        .arg(heard)
        .stdin(Stdio::null())
        .stdout(said.try_clone().expect("share the file"))
        .spawn()
        .expect("start the JACK probe");
    let mut ended = None;
    eventually(length * 2 + seconds(20), "the JACK probe ends", || {
        ended = child.try_wait().unwrap();
        ended.is_some()
    });
    assert!(ended.is_some_and(|status| status.success()), "the JACK probe failed");
    let mut text = String::new();
    said.rewind().and_then(|()| said.read_to_string(&mut text)).expect("read what the probe said");
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::{compare, noise};
    use crate::lan::Lan;

    /// A client of JACK's own that passes sound through, killed on drop.
    struct Through(Child);

    impl Drop for Through {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    #[test]
    fn what_is_played_through_a_client_comes_back_in_the_same_frame() {
        let _machine = Lan::alone(0);
        let server = JackServer::start(48_000, 128);
        let through = jack_command("jack_thru").stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let _through = Through(through.expect("start jack_thru"));
        eventually(seconds(5), "jack_thru has ports", || {
            server.ports().iter().filter(|port| port.starts_with("jack_thru:")).count() == 4
        });
        let sent = noise(1, 1.0);
        let heard = server.play_through(&sent, "jack_thru:input_1", "jack_thru:output_1");
        let delivery = compare(&sent, &heard.samples).expect("it comes back");
        assert_eq!(delivery.lag_frames, [0.0; 3]);
        assert!(delivery.gaps.is_empty(), "{delivery}");
    }
}
