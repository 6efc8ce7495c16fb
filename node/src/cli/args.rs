//! The arguments of every command, and how they become [`Options`].

use std::ffi::OsString;
use std::fmt::Display;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::builder::BoolishValueParser;
use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};

use crate::cli::RememberedMidi;
use crate::cli::data_dir::DEFAULT_SESSION;
use crate::cli::{Command, Exit, Task, TaskKind, config, profile};
use crate::device::midi::MidiChoice;
use crate::trace;

/// What a node runs with: arguments, environment, config file and defaults put together.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// The player's name, 1 to 64 characters.
    pub name: String,
    /// The same, if this start was told it: an argument, the environment or the config file, not what was said on the page.
    pub given_name: Option<String>,
    /// Where the node keeps everything.
    pub data_dir: PathBuf,
    /// The session's name, 1 to 64 characters.
    pub session: String,
    /// UDP address to listen at.
    pub listen: SocketAddr,
    /// Address of the control interface.
    pub http: SocketAddr,
    /// `auto`, `null`, `jack`, `file:IN.wav[,OUT.wav]` or a device's name.
    pub audio: String,
    /// Frames a second asked of the device, 8000 to 192000; `None`: the device's own.
    pub rate_hz: Option<u32>,
    /// Frames a callback asked of the device, 16 to 4096; `None`: the device's own.
    pub period_frames: Option<u32>,
    /// Whether `audio` is what was chosen on the page some time ago and may be gone by now.
    pub audio_remembered: bool,
    /// A name for a player who has none yet: the login name.
    pub suggested_name: String,
    /// How audio is sent.
    pub codec: Codec,
    /// Name of the client on a JACK server.
    pub jack_name: String,
    /// MIDI ports.
    pub midi: MidiChoice,
    /// Multiaddrs of relays.
    pub relays: Vec<String>,
    /// Multiaddrs to dial. Only their first `/` is checked here.
    pub peers: Vec<String>,
    /// Whether to use the given addresses only.
    pub pin_peers: bool,
    /// Whether to find nodes by mDNS.
    pub mdns: bool,
    /// Whether to join Ableton Link.
    pub link: bool,
    /// Whether to open no browser.
    pub headless: bool,
    /// Where to write a trace, and how much.
    pub trace: Option<trace::Settings>,
    /// Whether stdout carries JSON.
    pub json: bool,
    /// What was asked for and does not work in this version, for the player to read.
    pub warnings: Vec<String>,
}

/// How audio is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Codec {
    /// The node chooses by what the path carries.
    Auto,
    /// 16-bit samples.
    Pcm16,
    /// 24-bit samples.
    Pcm24,
    /// Opus (RFC 6716).
    Opus,
}

/// Understands the program's arguments (the first being its name), `BANDMESH_*` and the config file.
///
/// # Errors
/// If help or the version was asked for, or something was asked wrongly: print the [`Exit`] and leave with its code.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Command, Exit> {
    let mut command = Cli::command();
    let matches = command.try_get_matches_from_mut(args).map_err(|error| exit(&error))?;
    let cli = Cli::from_arg_matches(&matches).map_err(|error| exit(&error))?;
    if let Some((name, _)) = matches.subcommand()
        && let Some(option) = misplaced(&matches)
    {
        return Err(Exit::usage(&format!("put --{option} after `{name}`")));
    }
    let asked = cli.command.unwrap_or(Asked::Up(cli.up));
    let data_dir = match cli.data_dir {
        Some(given) => given,
        None if asked.keeps_nothing() => PathBuf::new(),
        None => default_data_dir()?,
    };
    let json = cli.json;
    let task = |kind| Ok(Command::Task(Task { kind, data_dir: data_dir.clone(), json }));
    match asked {
        Asked::Up(up) => Ok(Command::Up(options(up, &data_dir, json)?)),
        Asked::Demo { up, bandmates } => {
            Ok(Command::Demo { options: options(up, &data_dir, json)?, bandmates })
        }
        Asked::Doctor(up) => task(TaskKind::Doctor(Box::new(options(up, &data_dir, json)?))),
        Asked::Devices => task(TaskKind::Devices),
        Asked::Status => task(TaskKind::Status),
        Asked::Peers => task(TaskKind::Peers),
        Asked::Tui => task(TaskKind::Tui),
        Asked::Invite => task(TaskKind::Invite),
        Asked::Join { .. } => task(TaskKind::Join),
        Asked::Relay => task(TaskKind::Relay),
    }
}

/// Bandmesh: play together over any network, with nobody in the middle.
#[derive(Debug, Parser)]
#[command(name = "bandmesh", bin_name = "bandmesh", version, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Asked>,
    #[command(flatten)]
    up: UpArgs,
    /// Where the node keeps everything [default: ~/.local/share/bandmesh]
    #[arg(long, global = true, value_name = "DIR", env = "BANDMESH_DATA_DIR", value_parser = clap::value_parser!(PathBuf))]
    data_dir: Option<PathBuf>,
    /// Print JSON, one object a line
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Asked {
    /// Run a node (also when no command is given)
    Up(UpArgs),
    /// Run a node with simulated bandmates playing real notes
    Demo {
        #[command(flatten)]
        up: UpArgs,
        /// How many bandmates, 1 to 7
        #[arg(long, value_name = "N", default_value_t = 3, value_parser = bandmates)]
        bandmates: u8,
    },
    /// Make an invite to the running node's session (not in this version)
    Invite,
    /// Join a session by an invite (not in this version)
    Join {
        /// The words or the link
        invite: String,
    },
    /// Run an always-on rendezvous and relay (not in this version)
    Relay,
    /// List audio and MIDI devices
    Devices,
    /// Show the running node
    Status,
    /// Show the nodes the running node plays with
    Peers,
    /// See and steer the running node in this terminal
    Tui,
    /// Check audio, clock, mDNS and ports, and say what to fix
    Doctor(UpArgs),
}

impl Asked {
    /// Whether it neither reads nor writes a file, and so can do without a home directory.
    fn keeps_nothing(&self) -> bool {
        matches!(self, Self::Devices | Self::Invite | Self::Join { .. } | Self::Relay)
    }
}

/// The options of `up`. None has a default here: what is not given may be in the config file.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct UpArgs {
    /// Your name [default: your login name]
    #[arg(long, env = "BANDMESH_NAME", value_parser = name)]
    name: Option<String>,
    /// The session to play in; nodes of one name on one LAN find each other [default: jam]
    #[arg(long, value_name = "NAME", env = "BANDMESH_SESSION", value_parser = name)]
    session: Option<String>,
    /// UDP address for other nodes; any free port if taken [default: [::]:7778]
    #[arg(long, value_name = "UDP_ADDR", env = "BANDMESH_LISTEN", value_parser = address)]
    listen: Option<SocketAddr>,
    /// Address of the page and the control interface; any free port if taken [default: 127.0.0.1:7780]
    #[arg(long, value_name = "ADDR", env = "BANDMESH_HTTP", value_parser = address)]
    http: Option<SocketAddr>,
    /// Sound card: auto, null, jack, file:IN.wav[,OUT.wav] or a name from `bandmesh devices` [default: auto]
    #[arg(long, value_name = "DEVICE", env = "BANDMESH_AUDIO", value_parser = audio)]
    audio: Option<String>,
    /// Frames a second, 8000 to 192000 [default: the device's]
    #[arg(long, value_name = "HZ", env = "BANDMESH_RATE", value_parser = rate)]
    rate: Option<u32>,
    /// Frames a callback, 16 to 4096 [default: the device's]
    #[arg(long, value_name = "FRAMES", env = "BANDMESH_PERIOD", value_parser = period)]
    period: Option<u32>,
    /// How audio is sent: auto, pcm16, pcm24 or opus [default: auto]
    #[arg(long, env = "BANDMESH_CODEC", hide_possible_values = true)]
    codec: Option<Codec>,
    /// Listen to this MIDI input, by a part of its name; all (every instrument) or none; may be repeated [default: all]
    #[arg(long, value_name = "NAME", env = "BANDMESH_MIDI_IN", value_delimiter = ',', value_parser = port_name)]
    midi_in: Vec<String>,
    /// Play what the band plays on this MIDI output, by a part of its name; or none; may be repeated [default: none]
    #[arg(long, value_name = "NAME", env = "BANDMESH_MIDI_OUT", value_delimiter = ',', value_parser = port_name)]
    midi_out: Vec<String>,
    /// Name of the client on a JACK server, and of the MIDI ports [default: bandmesh]
    #[arg(long, value_name = "NAME", env = "BANDMESH_JACK_NAME", value_parser = jack_name)]
    jack_name: Option<String>,
    /// Join by an invite (not in this version)
    #[arg(long, value_name = "INVITE", env = "BANDMESH_JOIN")]
    join: Option<String>,
    /// Use this relay; may be repeated (without effect in this version)
    #[arg(long, value_name = "MULTIADDR", env = "BANDMESH_RELAY", value_delimiter = ',', value_parser = multiaddr)]
    relay: Vec<String>,
    /// Dial this node, such as /ip4/192.0.2.7/udp/7778/quic-v1 or /dns/HOST/udp/7778/quic-v1; may be repeated
    #[arg(long, value_name = "MULTIADDR", env = "BANDMESH_PEER", value_delimiter = ',', value_parser = multiaddr)]
    peer: Vec<String>,
    /// Use the addresses given with --peer only: no discovery, no dialling of learned ones
    #[arg(long, env = "BANDMESH_PIN_PEERS", num_args = 0..=1, require_equals = true, default_missing_value = "true", hide_possible_values = true, value_name = "BOOL", value_parser = BoolishValueParser::new())]
    pin_peers: Option<bool>,
    /// Find no nodes by mDNS
    #[arg(long, env = "BANDMESH_NO_MDNS", num_args = 0..=1, require_equals = true, default_missing_value = "true", hide_possible_values = true, value_name = "BOOL", value_parser = BoolishValueParser::new())]
    no_mdns: Option<bool>,
    /// Stay out of Ableton Link
    #[arg(long, env = "BANDMESH_NO_LINK", num_args = 0..=1, require_equals = true, default_missing_value = "true", hide_possible_values = true, value_name = "BOOL", value_parser = BoolishValueParser::new())]
    no_link: Option<bool>,
    /// Open no browser
    #[arg(long, env = "BANDMESH_HEADLESS", num_args = 0..=1, require_equals = true, default_missing_value = "true", hide_possible_values = true, value_name = "BOOL", value_parser = BoolishValueParser::new())]
    headless: Option<bool>,
    /// Write all that crosses the node's edges to this file, for Wireshark and `bandmesh-sim replay`
    #[arg(long, value_name = "FILE", env = "BANDMESH_TRACE", value_parser = clap::value_parser!(PathBuf))]
    trace: Option<PathBuf>,
    /// End the trace when its file has this many megabytes [default: 1000]
    #[arg(long, value_name = "MB", env = "BANDMESH_TRACE_LIMIT_MB", value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    trace_limit_mb: Option<u64>,
}

/// A parser of `up`'s options alone, for values that come from the config file.
#[derive(Debug, Parser)]
#[command(name = "config", disable_help_flag = true, disable_version_flag = true)]
pub(crate) struct FileArgs {
    #[command(flatten)]
    pub(crate) up: UpArgs,
}

impl UpArgs {
    /// These, and where nothing is given, the others.
    fn or(self, other: Self) -> Self {
        Self {
            name: self.name.or(other.name),
            session: self.session.or(other.session),
            listen: self.listen.or(other.listen),
            http: self.http.or(other.http),
            audio: self.audio.or(other.audio),
            rate: self.rate.or(other.rate),
            period: self.period.or(other.period),
            codec: self.codec.or(other.codec),
            midi_in: if self.midi_in.is_empty() { other.midi_in } else { self.midi_in },
            midi_out: if self.midi_out.is_empty() { other.midi_out } else { self.midi_out },
            jack_name: self.jack_name.or(other.jack_name),
            join: self.join.or(other.join),
            relay: if self.relay.is_empty() { other.relay } else { self.relay },
            peer: if self.peer.is_empty() { other.peer } else { self.peer },
            pin_peers: self.pin_peers.or(other.pin_peers),
            no_mdns: self.no_mdns.or(other.no_mdns),
            no_link: self.no_link.or(other.no_link),
            headless: self.headless.or(other.headless),
            trace: self.trace.or(other.trace),
            trace_limit_mb: self.trace_limit_mb.or(other.trace_limit_mb),
        }
    }
}

fn options(given: UpArgs, data_dir: &Path, json: bool) -> Result<Options, Exit> {
    let up = given.or(config::read(data_dir)?);
    if up.join.is_some() {
        let message = "joining by an invite is not available in this version; nodes on one LAN find each other by themselves, \
                       others connect with --peer MULTIADDR";
        return Err(Exit::failure(message));
    }
    let mut warnings = Vec::new();
    if !up.relay.is_empty() {
        warnings.push(
            "relays are not used in this version: nodes must reach each other directly (--relay has no effect)".to_owned(),
        );
    }
    if up.pin_peers == Some(true) && up.peer.is_empty() {
        warnings.push("--pin-peers without --peer: this node dials nobody and waits for others".to_owned());
    }
    let http = up.http.unwrap_or(SocketAddr::from(([127, 0, 0, 1], 7780)));
    if !http.ip().is_loopback() {
        warnings.push(format!(
            "--http {http} opens the control interface to the network without encryption: use it on a network you trust"
        ));
    }
    let profile = profile::read(data_dir);
    let remembered = profile.audio.filter(|_| up.audio.is_none());
    let (rate_hz, period_frames) =
        remembered.as_ref().map_or((None, None), |audio| (audio.rate_hz, audio.period_frames));
    Ok(Options {
        given_name: up.name.clone(),
        name: up.name.or(profile.name).unwrap_or_else(login_name),
        suggested_name: login_name(),
        data_dir: data_dir.to_owned(),
        session: up.session.unwrap_or_else(|| DEFAULT_SESSION.to_owned()),
        listen: up.listen.unwrap_or(SocketAddr::from(([0_u16; 8], 7778))),
        http,
        audio_remembered: remembered.is_some(),
        audio: up.audio.or(remembered.map(|audio| audio.device)).unwrap_or_else(|| "auto".to_owned()),
        rate_hz: up.rate.or(rate_hz),
        period_frames: up.period.or(period_frames),
        codec: up.codec.unwrap_or(Codec::Auto),
        jack_name: up.jack_name.unwrap_or_else(|| "bandmesh".to_owned()),
        midi: midi(up.midi_in, up.midi_out, profile.midi),
        relays: up.relay,
        peers: up.peer,
        pin_peers: up.pin_peers.unwrap_or(false),
        mdns: !up.no_mdns.unwrap_or(false),
        link: !up.no_link.unwrap_or(false),
        headless: up.headless.unwrap_or(false),
        trace: up.trace.map(|file| trace::Settings {
            file,
            limit_bytes: up.trace_limit_mb.unwrap_or(trace::DEFAULT_LIMIT_MB) * 1_000_000,
        }),
        json,
        warnings,
    })
}

/// What is not said is as it was last chosen on the page.
fn midi(inputs: Vec<String>, outputs: Vec<String>, remembered: Option<RememberedMidi>) -> MidiChoice {
    let before = remembered.map_or_else(MidiChoice::default, |midi| MidiChoice {
        all_inputs: midi.all_inputs,
        inputs: midi.inputs,
        outputs: midi.outputs,
    });
    let named = |names: &[String]| -> Vec<String> {
        names.iter().filter(|name| !["all", "none"].contains(&name.as_str())).cloned().collect()
    };
    let inputs_said = !inputs.is_empty();
    MidiChoice {
        all_inputs: if inputs_said { inputs.iter().any(|name| name == "all") } else { before.all_inputs },
        inputs: if inputs_said { named(&inputs) } else { before.inputs },
        outputs: if outputs.is_empty() { before.outputs } else { named(&outputs) },
    }
}

/// An option of `up` that stands before a command, where it would be lost.
fn misplaced(matches: &clap::ArgMatches) -> Option<String> {
    let own = ["data_dir", "json"];
    FileArgs::command()
        .get_arguments()
        .map(|argument| argument.get_id().as_str())
        .filter(|id| !own.contains(id))
        .find(|id| matches.value_source(id) == Some(ValueSource::CommandLine))
        .map(|id| id.replace('_', "-"))
}

fn default_data_dir() -> Result<PathBuf, Exit> {
    let from =
        |variable: &str| std::env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute());
    from("XDG_DATA_HOME")
        .or_else(|| from("HOME").map(|home| home.join(".local/share")))
        .map(|base| base.join("bandmesh"))
        .ok_or_else(|| Exit::usage("there is no home directory; say where to keep files with --data-dir DIR"))
}

fn login_name() -> String {
    ["USER", "LOGNAME"]
        .iter()
        .filter_map(|variable| std::env::var(variable).ok())
        .find_map(|value| name(&value).ok())
        .unwrap_or_else(|| "Player".to_owned())
}

/// One line for clap's several; help and version stay as they are.
pub(crate) fn exit(error: &clap::Error) -> Exit {
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        return Exit::told(error.to_string());
    }
    Exit::usage(&format!("{}; see `bandmesh --help`", summary(error)))
}

/// What clap says, without its usage lines, on one line.
pub(crate) fn summary(error: &clap::Error) -> String {
    let text = error.to_string();
    let lines = text.lines().map(str::trim).take_while(|line| !line.starts_with("Usage:"));
    let lines: Vec<&str> =
        lines.filter(|line| !line.is_empty() && !line.starts_with("For more information")).collect();
    lines.join("; ").trim_start_matches("error: ").replace(":; ", ": ")
}

fn name(text: &str) -> Result<String, String> {
    let text = text.trim();
    match text.chars().count() {
        1..=64 if text == crate::cli::printable(text) => Ok(text.to_owned()),
        1..=64 => Err("it must have no control characters".to_owned()),
        _ => Err("it must have 1 to 64 characters".to_owned()),
    }
}

fn jack_name(text: &str) -> Result<String, String> {
    // JACK joins client and port name with a colon and holds 64 bytes for the client's.
    let fits = (1..=60).contains(&text.len()) && !text.contains(':') && text == crate::cli::printable(text);
    if fits { Ok(text.to_owned()) } else { Err("it must have 1 to 60 bytes and no colon".to_owned()) }
}

fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| "it must be ADDRESS:PORT, such as 127.0.0.1:7780 or [::]:7778".to_owned())
}

fn rate(text: &str) -> Result<u32, String> {
    whole_number(text, 8_000..=192_000)
}

fn period(text: &str) -> Result<u32, String> {
    whole_number(text, 16..=4_096)
}

fn bandmates(text: &str) -> Result<u8, String> {
    whole_number(text, 1..=7)
}

fn whole_number<N>(text: &str, range: RangeInclusive<N>) -> Result<N, String>
where
    N: FromStr + PartialOrd + Display,
{
    let number = text.parse().ok().filter(|number| range.contains(number));
    number.ok_or_else(|| format!("it must be a whole number from {} to {}", range.start(), range.end()))
}

fn audio(text: &str) -> Result<String, String> {
    match text.strip_prefix("file:") {
        _ if text.is_empty() => Err("name a device; `bandmesh devices` lists them".to_owned()),
        Some(paths) if paths.is_empty() || paths.starts_with(',') || paths.ends_with(',') => {
            Err("it must be file:IN.wav or file:IN.wav,OUT.wav".to_owned())
        }
        _ => Ok(text.to_owned()),
    }
}

/// Longest name of a MIDI port, in characters: ALSA's client's and port's of 63 each, and what joins them.
const MAX_PORT_NAME_CHARS: usize = 128;

/// Whether `text` can be a part of a MIDI port's name.
pub(crate) fn is_port_name(text: &str) -> bool {
    let fits = (1..=MAX_PORT_NAME_CHARS).contains(&text.chars().count());
    fits && !text.trim().is_empty() && !text.contains(char::is_control)
}

fn port_name(text: &str) -> Result<String, String> {
    if is_port_name(text) {
        Ok(text.to_owned())
    } else {
        Err("name a MIDI port, or a part of its name; `bandmesh devices` lists them".to_owned())
    }
}

fn multiaddr(text: &str) -> Result<String, String> {
    if text.starts_with('/') {
        Ok(text.to_owned())
    } else {
        Err("it must be a multiaddr, such as /ip4/192.0.2.7/udp/7778/quic-v1".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(args: &[&str]) -> Result<Command, Exit> {
        let dir = tempfile::tempdir().unwrap();
        parsed_in(dir.path(), args)
    }

    fn parsed_in(dir: &Path, args: &[&str]) -> Result<Command, Exit> {
        let mut all: Vec<OsString> = vec!["bandmesh".into()];
        all.extend(args.iter().map(OsString::from));
        all.extend(["--data-dir".into(), dir.into()]);
        parse(all)
    }

    fn up(args: &[&str]) -> Options {
        match parsed(args) {
            Ok(Command::Up(options)) => options,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn no_command_is_up_and_defaults_hold() {
        let options = up(&[]);
        assert_eq!(options.session, "jam");
        assert_eq!(options.listen.to_string(), "[::]:7778");
        assert_eq!(options.http.to_string(), "127.0.0.1:7780");
        assert_eq!((options.audio.as_str(), options.jack_name.as_str()), ("auto", "bandmesh"));
        assert!(options.mdns && options.link && !options.pin_peers && !options.headless && !options.json);
    }

    #[test]
    fn every_option_of_up_is_understood_with_and_without_the_word_up() {
        let args = [
            "--name",
            "Maya",
            "--session",
            "trio",
            "--listen",
            "127.0.0.1:0",
            "--http",
            "127.0.0.1:0",
            "--audio",
            "file:a.wav,b.wav",
            "--rate",
            "44100",
            "--period",
            "64",
            "--codec",
            "opus",
            "--jack-name",
            "maya",
            "--midi-in",
            "KeyStation,pads",
            "--midi-in",
            "all",
            "--midi-out",
            "none",
            "--relay",
            "/ip4/1.2.3.4/udp/1/quic-v1",
            "--peer",
            "/ip4/1.2.3.4/udp/1/quic-v1",
            "--peer",
            "/ip4/1.2.3.5/udp/1/quic-v1",
            "--pin-peers",
            "--no-mdns",
            "--no-link",
            "--headless",
            "--json",
        ];
        let options = up(&args);
        assert_eq!((options.name.as_str(), options.peers.len(), options.codec), ("Maya", 2, Codec::Opus));
        assert!(options.pin_peers && !options.mdns && !options.link && options.headless && options.json);
        assert_eq!(options.warnings.len(), 1);
        assert!(options.midi.all_inputs && options.midi.outputs.is_empty(), "{:?}", options.midi);
        assert_eq!(options.midi.inputs, ["KeyStation", "pads"]);
        let mut with_word = vec!["up"];
        with_word.extend(args);
        assert_eq!(up(&with_word).name, "Maya");
    }

    #[test]
    fn config_file_fills_what_the_command_line_leaves_open() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(
            dir.path().join("config.toml"),
            "name = \"Lee\"\nrate = 44100\nno_mdns = true\nno-link = true\npeer = [\"/ip4/1.2.3.4/udp/1/quic-v1\"]\n",
        )
        .unwrap();
        let Ok(Command::Up(options)) = parsed_in(dir.path(), &["--name", "Maya", "--no-link=false"]) else {
            panic!()
        };
        assert_eq!((options.name.as_str(), options.rate_hz), ("Maya", Some(44_100)));
        assert!(!options.mdns && options.link);
        assert_eq!(options.peers, ["/ip4/1.2.3.4/udp/1/quic-v1"]);
    }

    #[test]
    fn midi_ports_chosen_on_the_page_hold_until_said_otherwise() {
        let dir = tempfile::tempdir().unwrap();
        let choice = |args: &[&str]| match parsed_in(dir.path(), args) {
            Ok(Command::Up(options)) => options.midi,
            other => panic!("{other:?}"),
        };
        assert_eq!(choice(&[]), MidiChoice::default());
        assert!(!choice(&["--midi-in", "none"]).all_inputs);
        let chosen = r#"{"midi": {"all_inputs": false, "inputs": ["Keys"], "outputs": ["Synth"]}}"#;
        std::fs::write(dir.path().join("profile.json"), chosen).unwrap();
        let midi = choice(&[]);
        assert_eq!(
            (midi.all_inputs, midi.inputs, midi.outputs),
            (false, vec!["Keys".to_owned()], vec!["Synth".to_owned()])
        );
        let midi = choice(&["--midi-in", "all", "--midi-out", "Other"]);
        assert_eq!((midi.all_inputs, midi.inputs, midi.outputs), (true, vec![], vec!["Other".to_owned()]));
    }

    #[test]
    fn wrong_arguments_exit_2_with_one_clear_line() {
        for (args, clue) in [
            (&["--frobnicate"][..], "--frobnicate"),
            (&["stauts"], "status"),
            (&["--rate", "fast"], "--rate"),
            (&["--rate", "7"], "8000"),
            (&["--period", "0"], "16 to 4096"),
            (&["--http", "here"], "127.0.0.1:7780"),
            (&["--codec", "mp3"], "pcm16"),
            (&["--name", ""], "64"),
            (&["--name", "a\u{1b}[2J"], "control"),
            (&["--peer", "1.2.3.4:5"], "multiaddr"),
            (&["--audio", "file:"], "IN.wav"),
            (&["--jack-name", "a:b"], "colon"),
            (&["--midi-in", ""], "bandmesh devices"),
            (&["--midi-out", "a\u{1b}[2J"], "bandmesh devices"),
            (&["join"], "INVITE"),
            (&["--name", "x", "status"], "after `status`"),
            (&["demo", "--bandmates", "0"], "1 to 7"),
        ] {
            let exit = parsed(args).unwrap_err();
            assert_eq!(exit.code(), 2, "{args:?}");
            assert!(exit.message().contains(clue), "{args:?}: {}", exit.message());
            assert!(
                !exit.message().contains('\n') && !exit.message().contains('\u{1b}'),
                "{}",
                exit.message()
            );
        }
    }

    #[test]
    fn json_and_data_dir_go_before_or_after_the_command() {
        for args in [&["--json", "status"][..], &["status", "--json"]] {
            match parsed(args) {
                Ok(Command::Task(Task { kind: TaskKind::Status, json: true, .. })) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn invite_is_refused_honestly() {
        let exit = parsed(&["--join", "one-two-three"]).unwrap_err();
        assert_eq!(exit.code(), 1);
        assert!(exit.message().contains("not available in this version"));
    }
}
