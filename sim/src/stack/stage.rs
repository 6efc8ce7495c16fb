//! What scenarios are played on: hosts, the nodes that run on them, and the words to tell a story with.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use libp2p::{Multiaddr, PeerId, identity::Keypair, multiaddr::Protocol};
use quinn::congestion::ControllerFactory;
use transport::driver::{self, Channel, Config, Event, Events, Mesh, PathStats, SendError};

use super::{
    Machine,
    agenda::Agenda,
    host::{Host, Lan},
    internet::{Internet, Line},
    ledger::Ledger,
    payload, quic_address,
    record::Record,
};
use crate::{
    clock::WorldTime,
    network::{HostId, Weather},
    random::Random,
};

/// The port nodes listen on.
pub const PORT: u16 = 7778;

/// How often a story looks whether what it waits for has happened.
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// How long a sender leaves a full queue alone.
const FULL_PAUSE: Duration = Duration::from_millis(10);

/// The time between two packets of a player: 128 frames at 48 kHz, 375 a second.
const PERIOD_NS: u64 = 2_666_667;

/// The world of one run.
pub struct Stage {
    /// What will happen when.
    pub agenda: Agenda,
    /// The network.
    pub internet: Internet,
    /// The truth, and the objections.
    pub ledger: Ledger,
    /// What the scenario draws from.
    pub random: Random,
    /// The computer this runs on.
    pub machine: Machine,
    record: Record,
    hosts: Vec<HostSeat>,
    congestion: Option<Arc<dyn ControllerFactory + Send + Sync>>,
    figures: BTreeMap<&'static str, f64>,
}

struct HostSeat {
    key: Keypair,
    runs: u64,
    playing: Option<Playing>,
}

struct Playing {
    mesh: Mesh,
    host: Arc<Host>,
}

impl Stage {
    /// A stage without hosts. Every path has `weather` unless it is given another.
    pub fn new(
        agenda: Agenda,
        record: Record,
        random: Random,
        machine: Machine,
        congestion: Option<Arc<dyn ControllerFactory + Send + Sync>>,
    ) -> Self {
        let internet = Internet::new(agenda.clone(), record.clone(), random.fork(0x4E45_5457));
        Self {
            agenda,
            internet,
            ledger: Ledger::default(),
            random,
            machine,
            record,
            hosts: vec![],
            congestion,
            figures: BTreeMap::new(),
        }
    }

    // Who is there.

    /// Adds hosts on free lines; `weather` is that of every path from now on.
    pub fn add_hosts(&mut self, count: usize, weather: Weather) -> Vec<HostId> {
        self.internet.set_weather(weather);
        (0..count).map(|_| self.add_host(Line::FREE, Line::FREE)).collect()
    }

    /// Adds a host with these lines to and from the network.
    pub fn add_host(&mut self, up: Line, down: Line) -> HostId {
        let id = self.internet.add_host(up, down);
        let key = self.draw_key();
        self.hosts.push(HostSeat { key, runs: 0, playing: None });
        id
    }

    /// An identity.
    pub fn draw_key(&mut self) -> Keypair {
        loop {
            // Every 32 bytes are an Ed25519 key, so the first draw is the last.
            if let Ok(key) = Keypair::ed25519_from_bytes(self.random.bytes::<32>()) {
                return key;
            }
        }
    }

    /// Hosts that have been added.
    pub fn host_count(&self) -> usize {
        self.hosts.len()
    }

    /// Who `host` is.
    pub fn peer(&self, host: HostId) -> PeerId {
        self.hosts[host].key.public().to_peer_id()
    }

    /// Where `host` listens, and who it is.
    pub fn address(&self, host: HostId) -> Multiaddr {
        quic_address(SocketAddr::new(self.internet.address(host), PORT)).with(Protocol::P2p(self.peer(host)))
    }

    /// Starts a node on `host` that looks for others on `lan` and dials `peers`.
    pub fn start(&mut self, host: HostId, lan: Option<&Lan>, peers: &[Multiaddr]) {
        let random = self.random.fork(0x484F_5354 + host as u64);
        let seat = &mut self.hosts[host];
        seat.runs += 1;
        let net = Arc::new(Host {
            id: host,
            agenda: self.agenda.clone(),
            internet: self.internet.clone(),
            lan: lan.cloned(),
            random: Mutex::new(random.fork(seat.runs)),
            congestion: self.congestion.clone(),
            watchers: Mutex::default(),
        });
        let config = Config {
            keypair: seat.key.clone(),
            listen: SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), PORT),
            fallback_to_any_port: false,
            session_tag: *b"sim-jam!",
            services: String::new(),
            mdns: lan.is_some(),
            peers: peers.to_vec(),
            pin_peers: false,
            agent: "bandmesh/sim".to_owned(),
        };
        match driver::start(config, net.clone()) {
            Ok((mesh, events)) => {
                let ids: BTreeMap<PeerId, HostId> = self
                    .hosts
                    .iter()
                    .enumerate()
                    .map(|(id, it)| (it.key.public().to_peer_id(), id))
                    .collect();
                let ears = Ears {
                    host,
                    ids,
                    agenda: self.agenda.clone(),
                    ledger: self.ledger.clone(),
                    record: self.record.clone(),
                };
                let media_ears = ears.clone();
                mesh.media().set_receiver(Arc::new(move |peer, bytes| media_ears.datagram(peer, &bytes)));
                tokio::spawn(ears.listen(events));
                self.hosts[host].playing = Some(Playing { mesh, host: net });
            }
            Err(error) => self.ledger.object("start", format!("{host}: {error}")),
        }
    }

    /// Starts nodes on all hosts: on one LAN, or each knowing the addresses of all before it.
    pub fn start_all(&mut self, lan: Option<&Lan>) {
        for host in 0..self.hosts.len() {
            let named: Vec<Multiaddr> = match lan {
                Some(_) => vec![],
                None => (0..host).map(|other| self.address(other)).collect(),
            };
            self.start(host, lan, &named);
        }
    }

    /// Says goodbye for the node on `host`.
    pub async fn stop(&mut self, host: HostId) {
        if let Some(playing) = self.hosts[host].playing.take() {
            playing.mesh.shutdown().await;
            self.ledger.killed(host);
        }
    }

    /// The node on `host` is gone from one moment to the next.
    pub fn kill(&mut self, host: HostId) {
        self.internet.kill(host);
        self.ledger.killed(host);
        self.hosts[host].playing = None;
    }

    /// The node on `host`.
    pub fn mesh(&self, host: HostId) -> Option<&Mesh> {
        self.hosts[host].playing.as_ref().map(|playing| &playing.mesh)
    }

    /// What QUIC knows about the way from one host to another.
    pub fn path_stats(&self, from: HostId, to: HostId) -> Option<PathStats> {
        self.mesh(from)?.media().path_stats(&self.peer(to))
    }

    /// Gives `host` another address, which its node is told of as by its system.
    pub fn move_host(&mut self, host: HostId, generation: u8) {
        let Some((old, new)) = self.internet.move_host(host, generation) else { return };
        self.record.note("moves", host, host, new.to_string().as_bytes());
        if let Some(playing) = &self.hosts[host].playing {
            playing.host.report(Host::interface(old, false));
            playing.host.report(Host::interface(new, true));
        }
    }

    // What happens.

    /// The present.
    pub fn now(&self) -> WorldTime {
        self.agenda.now()
    }

    /// Lets `seconds` pass.
    pub async fn sleep(&self, seconds: f64) {
        self.agenda.sleep(Duration::from_secs_f64(seconds)).await;
    }

    /// Waits until each pair of `hosts` is connected, both sides agreeing; objects after `bound_s`. Returns how long it
    /// took, s.
    pub async fn meet(&self, hosts: &[HostId], bound_s: f64) -> f64 {
        let apart = || {
            let pairs = hosts.iter().flat_map(|a| hosts.iter().map(move |b| (*a, *b)));
            pairs.filter(|(a, b)| a != b && !self.ledger.link(*a, *b).connected).collect::<Vec<_>>()
        };
        self.wait(bound_s, "connects", || {
            let apart = apart();
            if apart.is_empty() { Ok(()) } else { Err(format!("still apart: {apart:?}")) }
        })
        .await
    }

    /// Waits until every pair of `a` and `b` has noticed that it is apart; objects after `bound_s`.
    pub async fn part(&self, a: &[HostId], b: &[HostId], bound_s: f64) -> f64 {
        self.wait(bound_s, "notices", || {
            let pairs = a.iter().flat_map(|a| b.iter().flat_map(move |b| [(*a, *b), (*b, *a)]));
            let blind: Vec<_> = pairs.filter(|(a, b)| self.ledger.link(*a, *b).connected).collect();
            if blind.is_empty() { Ok(()) } else { Err(format!("have not noticed: {blind:?}")) }
        })
        .await
    }

    /// Waits until `check` is content; objects as `checker` with what it says after `bound_s`.
    pub async fn wait(
        &self,
        bound_s: f64,
        checker: &'static str,
        check: impl Fn() -> Result<(), String>,
    ) -> f64 {
        let begun = self.now();
        loop {
            let waited = self.now().since(begun).as_secs_f64();
            match check() {
                Ok(()) => return waited,
                Err(detail) if waited >= bound_s => {
                    self.ledger.object(checker, format!("after {bound_s} s: {detail}"));
                    return waited;
                }
                Err(_) => self.agenda.sleep(LOOK_EVERY).await,
            }
        }
    }

    /// Sends one message of `length` bytes, if there is room for it.
    pub fn say(&self, from: HostId, to: HostId, channel: Channel, length: usize) -> Result<(), SendError> {
        let mesh = self.mesh(from).ok_or(SendError::NotConnected)?;
        say(mesh, &self.ledger, (from, to), self.peer(to), channel, length)
    }

    /// `from` sends `to` messages of `length` bytes on the project channel, as fast as they are taken, until `end`.
    pub fn pour(&self, from: HostId, to: HostId, length: usize, end: WorldTime) {
        let (Some(mesh), peer) = (self.mesh(from).cloned(), self.peer(to)) else { return };
        let (agenda, ledger) = (self.agenda.clone(), self.ledger.clone());
        tokio::spawn(async move {
            while agenda.now() < end {
                if say(&mesh, &ledger, (from, to), peer, Channel::Project, length).is_err() {
                    agenda.sleep(FULL_PAUSE).await;
                }
            }
        });
    }

    /// `from` plays to all of `to` until `end`: a datagram of `length` bytes to each, 375 times a second.
    pub fn play(&mut self, from: HostId, to: &[HostId], length: usize, end: WorldTime) {
        let Some(mesh) = self.mesh(from).cloned() else { return };
        let to: Vec<(HostId, PeerId)> =
            to.iter().filter(|it| **it != from).map(|it| (*it, self.peer(*it))).collect();
        let (agenda, ledger) = (self.agenda.clone(), self.ledger.clone());
        // Sound cards do not tick together.
        let begin = self.now() + Duration::from_nanos(self.random.below(PERIOD_NS));
        tokio::spawn(async move {
            let media = mesh.media();
            for tick in 0.. {
                let at = begin + Duration::from_nanos(tick * PERIOD_NS);
                if at >= end {
                    return;
                }
                agenda.sleep_until(at).await;
                for (host, peer) in &to {
                    // A player does not know why it is not heard, so it counts as sent even when nobody is connected.
                    let number = ledger.next_datagram(agenda.now(), from, *host);
                    let _ = media.send(peer, payload::make(number, length));
                }
            }
        });
    }

    /// Notes a measured figure.
    pub fn figure(&mut self, name: &'static str, value: f64) {
        // Shown with three digits; more would be noise of the arithmetic.
        self.figures.insert(name, (value * 1e3).round() / 1e3);
    }

    /// All figures.
    pub fn figures(&self) -> BTreeMap<&'static str, f64> {
        self.figures.clone()
    }
}

fn say(
    mesh: &Mesh,
    ledger: &Ledger,
    (from, to): (HostId, HostId),
    peer: PeerId,
    channel: Channel,
    length: usize,
) -> Result<(), SendError> {
    let number = ledger.next_message(from, to, channel);
    mesh.send(&peer, channel, payload::make(number, length))?;
    ledger.sent(from, to, channel);
    Ok(())
}

/// Hears all that a node is told.
#[derive(Clone)]
struct Ears {
    host: HostId,
    ids: BTreeMap<PeerId, HostId>,
    agenda: Agenda,
    ledger: Ledger,
    record: Record,
}

impl Ears {
    async fn listen(self, mut events: Events) {
        while let Some(event) = events.recv().await {
            self.event(event);
        }
    }

    fn event(&self, event: Event) {
        let (now, host) = (self.agenda.now(), self.host);
        let words = match &event {
            Event::Message { .. } => String::new(),
            event => format!("{event:?}"),
        };
        let who = |peer: &PeerId| self.ids.get(peer).copied();
        let about = match &event {
            Event::PeerConnected { peer, .. }
            | Event::PeerDisconnected { peer, .. }
            | Event::PathChanged { peer, .. }
            | Event::Message { peer, .. } => match who(peer) {
                Some(about) => about,
                None => {
                    self.ledger.object("strangers", format!("{host} was told of a stranger: {words}"));
                    return;
                }
            },
            Event::Listening { .. } | Event::Warning(_) => host,
        };
        match event {
            Event::Message { channel, bytes, .. } => {
                let kind = match channel {
                    Channel::Control => "control",
                    Channel::Project => "project",
                };
                self.record.note(kind, about, host, &bytes);
                match payload::read(&bytes) {
                    Some(number) => self.ledger.received(about, host, channel, number, bytes.len()),
                    None => self.ledger.object("messages", format!("{about} to {host}: damaged message")),
                }
                return;
            }
            Event::PeerConnected { .. } => self.ledger.connected(now, host, about),
            Event::PeerDisconnected { .. } => self.ledger.disconnected(now, host, about),
            Event::PathChanged { .. } => self.ledger.moved(host, about),
            Event::Listening { .. } | Event::Warning(_) => {}
        }
        self.record.note("event", about, host, words.as_bytes());
    }

    fn datagram(&self, peer: PeerId, bytes: &Bytes) {
        let (now, host) = (self.agenda.now(), self.host);
        let from = self.ids.get(&peer).copied();
        match (from, payload::read(bytes)) {
            (Some(from), Some(number)) => {
                self.record.note("datagram", from, host, bytes);
                self.ledger.datagram(now, from, host, number);
            }
            _ => self.ledger.object("datagrams", format!("{host} got a damaged datagram of {peer}")),
        }
    }
}
