//! `bandmesh demo`: a band for somebody who is alone.
//!
//! Beside the player's own node run bandmates: each a whole node with its own identity, project, engine and
//! connection, on the loopback network, with a performer in place of a musician. Whatever the player tries (faders,
//! tempo, stop) is answered by real nodes; and a bandmate can be made to vanish and come back.
//!
//! The demo has a session of its own and announces nothing on the LAN: nobody else's evening is disturbed.

mod performer;
mod score;

use std::{
    io::BufRead,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
};

use sha2::{Digest, Sha256};
use tokio::{sync::mpsc, task::JoinHandle};
use transport::Multiaddr;

use self::score::Part;
use super::{Terminal, failed, introduce, prepare, signals, start, stop, with_terminal};
use crate::{
    cli::{Event, Exit, Options, Profile, ProfileStore},
    codec::Codec,
    device::{AudioChoice, DeviceConfig},
    node::{Node, Settings},
};

/// The parts, in the order in which bandmates join.
const PARTS: [Part; 4] = [Part::Drums, Part::Bass, Part::Keys, Part::Pad];
/// Name of the demo's session.
const SESSION: &str = "demo";
/// Frames a period of the bandmates' timers; coarser than a player's, as several share the machine.
const BANDMATE_PERIOD: u32 = 256;
/// Commands typed ahead.
const COMMANDS: usize = 16;

/// Runs the player's node with `bandmates` simulated players.
///
/// # Errors
/// The [`Exit`] to print when a node cannot start.
pub fn demo(options: Options, bandmates: u8) -> Result<(), Exit> {
    // Nothing of the demo reaches the LAN, nor its Link session.
    let options = Options {
        session: SESSION.into(),
        mdns: false,
        link: false,
        peers: Vec::new(),
        pin_peers: true,
        ..options
    };
    with_terminal(options.json, async |terminal, logs| {
        let mut interrupts = signals()?;
        let (data_dir, settings) = prepare(&options, logs)?;
        let seed = settings.identity_seed;
        let Some(mut node) = start(settings, &mut interrupts).await? else { return Ok(()) };
        let running = introduce(&options, &data_dir, &node, terminal)?;
        let mut band = Band { seats: Vec::new(), player: loopback(node.port()) };
        let folder = data_dir.path().join("demo");
        std::fs::create_dir_all(&folder).map_err(|error| {
            Exit::failure(&format!("cannot make {}: {error}; free some space", folder.display()))
        })?;
        for number in 0..usize::from(bandmates) {
            let part = PARTS.get(number % PARTS.len()).copied().unwrap_or(Part::Drums);
            let word = match number / PARTS.len() {
                0 => part.word().to_owned(),
                round => format!("{}{}", part.word(), round + 1),
            };
            band.seats.push(Seat { part, identity_seed: identity(&seed, &word), word, mate: None });
        }
        let playing = async {
            for seat in 0..band.seats.len() {
                band.start(seat, &folder).await?;
            }
            node.play();
            let mut lines = typed_lines();
            band.explain(terminal);
            loop {
                tokio::select! {
                    event = node.next_event() => match event {
                        Some(event) => terminal.say(&event),
                        None => return Ok(()),
                    },
                    Some(line) = lines.recv() => band.obey(&line, &folder, terminal).await,
                }
            }
        };
        // Bandmates that are being started take their time, and so do those that are killed: neither holds up an end.
        let outcome = tokio::select! {
            biased;
            () = interrupts.recv() => Ok(()),
            outcome = playing => outcome,
        };
        let mut nodes = band.dismiss();
        nodes.push(node);
        stop(nodes, terminal).await;
        drop(running);
        outcome
    })
}

struct Band {
    seats: Vec<Seat>,
    player: Multiaddr,
}

/// A place in the band; the node in it may come and go.
struct Seat {
    part: Part,
    word: String,
    identity_seed: [u8; 32],
    mate: Option<Mate>,
}

struct Mate {
    node: Node,
    address: Multiaddr,
    performing: JoinHandle<()>,
}

impl Band {
    async fn start(&mut self, seat: usize, folder: &Path) -> Result<(), Exit> {
        let mut peers = vec![self.player.clone()];
        peers.extend(self.seats.iter().filter_map(|seat| Some(seat.mate.as_ref()?.address.clone())));
        let Some(seat) = self.seats.get_mut(seat) else { return Ok(()) };
        let (wrap, instruments) = performer::instrument();
        let (instrument, color) = seat.part.look();
        let settings = Settings {
            name: seat.part.player().to_owned(),
            session: SESSION.to_owned(),
            identity_seed: seat.identity_seed,
            project_file: folder.join(format!("{}.redb", seat.word)),
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            control: None,
            device: DeviceConfig {
                choice: AudioChoice::Null,
                rate_hz: None,
                period_frames: Some(BANDMATE_PERIOD),
                jack_name: format!("bandmesh-{}", seat.word),
            },
            device_may_be_gone: false,
            profile: ProfileStore::of(Profile {
                done: true,
                color: Some(color.to_owned()),
                instrument: instrument.to_owned(),
                ..Profile::default()
            }),
            suggested_name: String::new(),
            given_name: None,
            support_files: None,
            codec: Codec::Pcm16,
            peers,
            pin_peers: true,
            mdns: false,
            link: false,
            midi: None,
            wrap: Some(wrap),
            trace: None,
        };
        let node = Node::start(settings).await.map_err(|error| failed(&error))?;
        let performing = tokio::spawn(performer::perform(seat.part, instruments, node.beat_clock()));
        seat.mate = Some(Mate { address: loopback(node.port()), node, performing });
        Ok(())
    }

    /// Carries out a typed line.
    async fn obey(&mut self, line: &str, folder: &Path, terminal: &Terminal) {
        let mut words = line.split_whitespace();
        let (verb, word) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let found = self.seats.iter().position(|seat| seat.word == word);
        match (verb, found) {
            ("kill", Some(number)) => {
                if let Some(mate) = self.seats.get_mut(number).and_then(|seat| seat.mate.take()) {
                    mate.performing.abort();
                    mate.node.kill().await;
                }
            }
            ("start", Some(number)) => {
                if self.seats.get(number).is_some_and(|seat| seat.mate.is_none())
                    && let Err(error) = self.start(number, folder).await
                {
                    terminal.say(&Event::Warning { message: error.message().to_owned() });
                }
            }
            ("", _) => {}
            _ => self.explain(terminal),
        }
    }

    /// Says what can be typed.
    fn explain(&self, terminal: &Terminal) {
        let words: Vec<&str> = self.seats.iter().map(|seat| seat.word.as_str()).collect();
        terminal
            .explain(format!("the bandmates are {}; type \"kill NAME\" or \"start NAME\"", words.join(", ")));
    }

    /// The nodes of the band, which no longer plays.
    fn dismiss(&mut self) -> Vec<Node> {
        let mates = self.seats.iter_mut().filter_map(|seat| seat.mate.take());
        mates
            .map(|mate| {
                mate.performing.abort();
                mate.node
            })
            .collect()
    }
}

fn loopback(port: u16) -> Multiaddr {
    use transport::Protocol;
    Multiaddr::empty()
        .with(Protocol::Ip4(Ipv4Addr::LOCALHOST))
        .with(Protocol::Udp(port))
        .with(Protocol::QuicV1)
}

/// A bandmate's identity: its own, and the same at the next demo.
fn identity(player: &[u8; 32], word: &str) -> [u8; 32] {
    let digest =
        Sha256::new().chain_update(b"bandmesh demo").chain_update(player).chain_update(word).finalize();
    digest.into()
}

/// Lines from the terminal. The thread ends with the terminal or the process.
fn typed_lines() -> mpsc::Receiver<String> {
    let (lines, receiver) = mpsc::channel(COMMANDS);
    let reading = std::thread::Builder::new().name("terminal".into()).spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if lines.blocking_send(line).is_err() {
                return;
            }
        }
    });
    if let Err(error) = reading {
        tracing::warn!(%error, "the terminal is not read; bandmates cannot be killed by hand");
    }
    receiver
}
