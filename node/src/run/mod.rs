//! Running a node as a program: from options to a node, and from signals to its end.

mod browser;
mod demo;
mod machine;
mod terminal;

use std::{io::IsTerminal, path::Path, process, sync::Arc, time::Duration};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing_subscriber::{EnvFilter, layer::SubscriberExt, util::SubscriberInitExt};
use transport::Multiaddr;

use crate::{
    cli::{self, DataDir, Event, Exit, NodeFile, Options, ProfileStore, RunningFile},
    codec::Codec,
    control::{Keys, LogBuffer},
    device::{AudioChoice, DeviceConfig},
    node::{ControlSettings, Node, Settings, StartError, SupportFiles},
};

pub use demo::demo;
pub use machine::LocalMachine;
use terminal::{Outlet, Terminal};

/// A polite end takes at most this long; after it the process ends anyway.
const STOP_TIMEOUT: Duration = Duration::from_millis(1_800);

/// Runs a node until Ctrl-C or SIGTERM.
///
/// # Errors
/// The [`Exit`] to print when the node cannot start.
pub fn up(options: Options) -> Result<(), Exit> {
    with_terminal(options.json, async |terminal, logs| {
        let mut interrupts = signals()?;
        let (data_dir, settings) = prepare(&options, logs)?;
        let Some(node) = start(settings, &mut interrupts).await? else { return Ok(()) };
        let running = introduce(&options, &data_dir, &node, terminal)?;
        follow(node, &mut interrupts, terminal).await;
        drop(running);
        Ok(())
    })
}

/// Runs the program's main task, with a terminal to talk to and a log. Whatever still runs when it is done (a sound card
/// that does not close, a disk that does not write) ends with the process.
fn with_terminal(
    json: bool,
    main: impl AsyncFnOnce(&Terminal, LogBuffer) -> Result<(), Exit>,
) -> Result<(), Exit> {
    let terminal = Terminal::open(json)?;
    let logs = start_log(terminal.log());
    let runtime = runtime()?;
    let outcome = runtime.block_on(main(&terminal, logs));
    runtime.shutdown_background();
    terminal.close();
    outcome
}

/// A running node; `None` if the user interrupted before it was one.
async fn start(settings: Settings, interrupts: &mut Interrupts) -> Result<Option<Node>, Exit> {
    tokio::select! {
        biased;
        () = interrupts.recv() => Ok(None),
        node = Node::start(settings) => node.map(Some).map_err(|error| failed(&error)),
    }
}

fn failed(error: &StartError) -> Exit {
    if error.is_wrong_argument() {
        Exit::usage(&error.to_string())
    } else {
        Exit::failure(&error.to_string())
    }
}

/// Data directory and settings for `options`.
fn prepare(options: &Options, logs: LogBuffer) -> Result<(DataDir, Settings), Exit> {
    let usage = |error: &dyn std::fmt::Display| Exit::usage(&error.to_string());
    let choice: AudioChoice = options.audio.parse().map_err(|error| usage(&error))?;
    let peers = options
        .peers
        .iter()
        .map(|text| {
            text.parse::<Multiaddr>().map_err(|error| {
                Exit::usage(&format!("--peer {text:?} is no multiaddr ({error}); give for example /ip4/192.168.1.5/udp/7778/quic-v1"))
            })
        })
        .collect::<Result<Vec<_>, _>>()?;
    let data_dir = DataDir::open(&options.data_dir).map_err(|error| Exit::failure(&error.to_string()))?;
    let secret = |error: cli::DataDirError| Exit::failure(&error.to_string());
    let settings = Settings {
        name: options.name.clone(),
        session: options.session.clone(),
        identity_seed: data_dir.identity_seed().map_err(secret)?,
        project_file: data_dir.project_file(&options.session),
        listen: options.listen,
        control: Some(ControlSettings {
            address: options.http,
            keys: Keys {
                player: data_dir.token().map_err(secret)?,
                viewer: Some(data_dir.view_token().map_err(secret)?),
            },
            token_file: data_dir.token_file(),
            logs,
        }),
        device: DeviceConfig {
            choice,
            rate_hz: options.rate_hz,
            period_frames: options.period_frames,
            jack_name: options.jack_name.clone(),
        },
        device_may_be_gone: options.audio_remembered,
        profile: ProfileStore::open(data_dir.path()),
        suggested_name: options.suggested_name.clone(),
        given_name: options.given_name.clone(),
        support_files: Some(support_files(options, data_dir.path())),
        codec: match options.codec {
            cli::Codec::Pcm24 => Codec::Pcm24,
            cli::Codec::Opus => Codec::Opus,
            // Every path this version connects over carries PCM, and nothing is faster.
            cli::Codec::Pcm16 | cli::Codec::Auto => Codec::Pcm16,
        },
        peers,
        pin_peers: options.pin_peers,
        mdns: options.mdns && !options.pin_peers,
        link: options.link,
        midi: Some(options.midi.clone()),
        wrap: None,
        trace: options.trace.clone(),
    };
    Ok((data_dir, settings))
}

/// What the program knows that the node does not: its version and system, its options, and what `doctor` finds.
fn support_files(options: &Options, data_dir: &Path) -> SupportFiles {
    let (options, data_dir) = (options.clone(), data_dir.to_owned());
    Arc::new(move || {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let versions = format!(
            "bandmesh {}\n{} {}\n{}\n{}\n",
            env!("CARGO_PKG_VERSION"),
            std::env::consts::OS,
            std::env::consts::ARCH,
            read("/proc/version").trim(),
            read("/etc/os-release").trim(),
        );
        let task = cli::Task {
            kind: cli::TaskKind::Doctor(Box::new(options.clone())),
            data_dir: data_dir.clone(),
            json: false,
        };
        vec![
            ("versions.txt".to_owned(), versions),
            ("config.toml".to_owned(), cli::config_text(&data_dir)),
            ("doctor.txt".to_owned(), cli::examine(&task, &options, &LocalMachine)),
        ]
    })
}

/// Tells the world that the node runs: the ready line, `node.json`, the browser.
fn introduce(
    options: &Options,
    data_dir: &DataDir,
    node: &Node,
    terminal: &Terminal,
) -> Result<RunningFile, Exit> {
    let ready = node.ready().clone();
    let file = NodeFile { pid: process::id(), http: ready.http.clone(), peer_id: ready.peer_id.clone() };
    let running = data_dir.announce(&file).map_err(|error| Exit::failure(&error.to_string()))?;
    if !options.headless && !options.json {
        browser::open(&ready.page_url);
    }
    terminal.say(&Event::Ready(ready));
    for message in &options.warnings {
        terminal.say(&Event::Warning { message: message.clone() });
    }
    Ok(running)
}

/// Prints what the node says until a signal comes, then stops it.
async fn follow(mut node: Node, interrupts: &mut Interrupts, terminal: &Terminal) {
    loop {
        tokio::select! {
            () = interrupts.recv() => break,
            event = node.next_event() => match event {
                Some(event) => terminal.say(&event),
                None => break,
            },
        }
    }
    stop(vec![node], terminal).await;
}

/// Leaves the session and saves, within a bound.
async fn stop(nodes: Vec<Node>, terminal: &Terminal) {
    let stopping = futures::future::join_all(nodes.into_iter().map(Node::stop));
    match tokio::time::timeout(STOP_TIMEOUT, stopping).await {
        Ok(_) => terminal.say(&Event::Stopped),
        Err(_) => {
            tracing::warn!("some part of the node did not end in time; what it had acknowledged is saved")
        }
    }
}

/// Ctrl-C and SIGTERM.
struct Interrupts {
    interrupt: Signal,
    terminate: Signal,
}

impl Interrupts {
    async fn recv(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

fn signals() -> Result<Interrupts, Exit> {
    let failure = |error: std::io::Error| Exit::failure(&format!("cannot listen for signals: {error}"));
    Ok(Interrupts {
        interrupt: signal(SignalKind::interrupt()).map_err(failure)?,
        terminate: signal(SignalKind::terminate()).map_err(failure)?,
    })
}

fn runtime() -> Result<tokio::runtime::Runtime, Exit> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Exit::failure(&format!("cannot start threads: {error}; raise `ulimit -u`")))
}

/// Logs to stderr and to the page. `RUST_LOG` chooses what.
fn start_log(to: Outlet) -> LogBuffer {
    let logs = LogBuffer::default();
    let filter = EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| EnvFilter::new("warn,bandmesh=info,transport=info,crdt=info"));
    let stderr = tracing_subscriber::fmt::layer()
        .with_writer(move || to.clone())
        .with_ansi(std::io::stderr().is_terminal());
    // A second start in one process (tests) keeps the first logger.
    let _ = tracing_subscriber::registry().with(filter).with(stderr).with(logs.clone()).try_init();
    logs
}
