//! The command line: arguments, config file, data directory, and the commands that talk to a running node.
//!
//! Each option of `up` can come from four places, the later ones winning: its default, `config.toml` in the data directory,
//! a `BANDMESH_*` environment variable, the command line. There is one definition of every option, in `args`; the
//! config file is read through it, so a value is checked by the same rule wherever it comes from.
//!
//! Exit codes: 0 done, 1 could not be done, 2 asked wrongly (one line on stderr says what to change).
//!
//! What the terminal shows may be a stranger's words (names, chat): [`printable`] takes the teeth out of them.

mod args;
mod client;
mod config;
mod data_dir;
mod devices;
mod doctor;
mod event;
mod peers;
mod profile;
mod status;
mod text;
mod tui;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

pub(crate) use args::is_port_name;
pub use args::{Codec, Options, parse};
pub use data_dir::{DataDir, DataDirError, NodeFile, RunningFile};
pub use devices::{AudioDevice, Devices};
pub use event::{Event, Ready};
pub use profile::{Introduction, Profile, ProfileStore, RememberedAudio, RememberedMidi};
pub use text::printable;

/// What the user asked for.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// Run a node.
    Up(Options),
    /// Run a node with simulated bandmates.
    Demo {
        /// The player's own node.
        options: Options,
        /// How many bandmates, 1 to 7.
        bandmates: u8,
    },
    /// A command that runs no node; give it to [`run`].
    Task(Task),
}

/// A command that runs no node.
#[derive(Debug, Clone, PartialEq)]
pub struct Task {
    /// What to do.
    pub kind: TaskKind,
    /// Where the running node keeps its files.
    pub data_dir: PathBuf,
    /// Whether to print JSON instead of text.
    pub json: bool,
}

/// The commands that run no node.
#[derive(Debug, Clone, PartialEq)]
pub enum TaskKind {
    /// List audio and MIDI devices.
    Devices,
    /// Show the running node.
    Status,
    /// Show the nodes the running node plays with.
    Peers,
    /// See and steer the running node in the terminal.
    Tui,
    /// Check what a jam needs; with the options `up` would run with.
    Doctor(Box<Options>),
    /// Make an invite.
    Invite,
    /// Join by an invite.
    Join,
    /// Run a relay.
    Relay,
}

/// What the commands need to know about the machine's devices.
pub trait Machine {
    /// All devices that can be used, and what kept others from being listed.
    fn devices(&self) -> Devices;
}

/// The end of the program: what it says last, and its exit code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exit {
    code: u8,
    text: String,
}

impl Exit {
    /// Help and version: text on stdout, code 0.
    pub(crate) fn told(text: String) -> Self {
        Self { code: 0, text }
    }

    /// Asked wrongly: one line that says what to change, code 2.
    #[must_use]
    pub fn usage(message: &str) -> Self {
        Self { code: 2, text: one_line(message) }
    }

    /// Could not be done: one line that says what to do, code 1.
    #[must_use]
    pub fn failure(message: &str) -> Self {
        Self { code: 1, text: one_line(message) }
    }

    /// The exit code.
    #[must_use]
    pub fn code(&self) -> u8 {
        self.code
    }

    /// What it says.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.text
    }

    /// Says it, on stdout if all is well and on stderr otherwise.
    #[must_use]
    pub fn print(self) -> ExitCode {
        // A closed terminal is no reason to change the exit code.
        let _ = if self.code == 0 {
            write!(io::stdout(), "{}", self.text)
        } else {
            writeln!(io::stderr(), "bandmesh: {}", self.text)
        };
        ExitCode::from(self.code)
    }
}

/// Runs a command that runs no node, printing its result.
#[must_use]
pub fn run(task: &Task, machine: &dyn Machine) -> ExitCode {
    let done = match &task.kind {
        TaskKind::Devices => devices::run(task, machine),
        TaskKind::Status => status::run(task),
        TaskKind::Peers => peers::run(task),
        TaskKind::Tui => tui::run(task),
        TaskKind::Doctor(options) => doctor::run(task, options, machine),
        TaskKind::Invite | TaskKind::Join | TaskKind::Relay => Err(unavailable(&task.kind)),
    };
    match done {
        Ok(output) => match io::stdout().write_all(output.text.as_bytes()) {
            Ok(()) => ExitCode::from(output.code),
            // The reader has what it wanted (`bandmesh peers | head -1`).
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::from(output.code),
            Err(error) => Exit::failure(&format!("cannot write the answer: {error}")).print(),
        },
        Err(exit) => exit.print(),
    }
}

/// What `bandmesh doctor` finds, as text, with the options a node runs with. Takes a second or more.
#[must_use]
pub fn examine(task: &Task, options: &Options, machine: &dyn Machine) -> String {
    match doctor::run(task, options, machine) {
        Ok(output) => output.text,
        Err(exit) => exit.text,
    }
}

/// The config file of a data directory, as it stands; empty if there is none that can be read.
#[must_use]
pub fn config_text(data_dir: &std::path::Path) -> String {
    config::text(data_dir)
}

/// What a command prints on stdout.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) text: String,
    pub(crate) code: u8,
}

impl Output {
    pub(crate) fn text(text: String) -> Self {
        Self { text, code: 0 }
    }

    pub(crate) fn json(value: &impl serde::Serialize) -> Self {
        // What we print has string keys only, so it always becomes JSON.
        let mut text = serde_json::to_string(value).unwrap_or_default();
        text.push('\n');
        Self { text, code: 0 }
    }
}

fn unavailable(kind: &TaskKind) -> Exit {
    let (what, instead) = match kind {
        TaskKind::Relay => (
            "running a relay",
            "nodes that can reach each other's UDP port directly connect with --peer MULTIADDR",
        ),
        _ => (
            "playing by invite",
            "nodes on one LAN find each other by themselves, others connect with --peer MULTIADDR",
        ),
    };
    Exit::failure(&format!("{what} is not available in this version; {instead}"))
}

fn one_line(message: &str) -> String {
    message.lines().map(printable).map(|line| line.trim().to_owned()).collect::<Vec<_>>().join(" ")
}
