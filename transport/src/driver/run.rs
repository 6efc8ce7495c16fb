//! The task that owns the swarm: carries events to the planner and decisions to libp2p, quinn and the streams.

use std::collections::{HashMap, HashSet, VecDeque};
use std::io;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::StreamExt as _;
use futures::future::BoxFuture;
use futures::io::{AsyncReadExt as _, AsyncWriteExt as _};
use futures::stream::{self, BoxStream};
use libp2p::core::ConnectedPoint;
use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::Transport as _;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::swarm::{ConnectionId, DialError, NetworkBehaviour, Stream, SwarmEvent};
use libp2p::{Multiaddr, PeerId, Swarm, identify, ping};
use quinn::AsyncUdpSocket;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::task::AbortHandle;

use super::address::{to_multiaddr, to_socket};
use super::channels::{AlreadyConnected, ChannelEvent, Channels};
use super::discovery::{Announcement, Sighting};
use super::frames::{self, Channel, Outbox, OutboxReader};
use super::media::share_of;
use super::names::{self, HostName, Unknown};
use super::net::{InterfaceEvent, Net};
use super::quic::QuicTransport;
use super::quic_config::QuicConfig;
use super::registry::Registry;
use super::throttle::Throttled;
use super::{
    Command, Config, Delivery, Event, Events, MediaTable, Mesh, PeerEntry, PeerInfo, Shared, StartError, bind,
};
use crate::mesh::{
    Attempt, CloseReason, ClosedBy, ConnectionKey, DialFailure, Hello, Made, Output, PROTOCOL_VERSION,
    Planner, Settings, Side, Source,
};
use crate::time::LocalTime;

const MAX_EVENTS: usize = 1024;
const MAX_COMMANDS: usize = 256;

/// Messages of one peer not yet taken. One of the largest and some small ones.
const MESSAGE_BUDGET_BYTES: usize = Channel::Project.max_message_bytes() + 1024 * 1024;

/// Frames between the readers and the mesh; small, since the budget is what bounds memory.
const MAX_FRAMES: usize = 64;

/// Longest hello we read; see [`Hello`].
const MAX_HELLO_BYTES: usize = 1024;

/// Addresses at which a peer says that it listens, that we remember.
const MAX_LISTENS: usize = 16;

/// Interfaces report their addresses one by one; tell those above once.
const LISTENING_SETTLE: Duration = Duration::from_millis(20);

/// How long goodbyes may take to leave.
const GOODBYE_PATIENCE: Duration = Duration::from_millis(250);

/// See [`super::start`].
pub(crate) fn start(config: Config, net: Arc<dyn Net>) -> Result<(Mesh, Events), StartError> {
    let runtime = tokio::runtime::Handle::try_current().map_err(|_| StartError::NoRuntime)?;
    config.peers.iter().try_for_each(bind::check_peer)?;
    let sockets = bind::bind(&config, &*net)?;
    let listen_error = |source| StartError::Listen { address: config.listen, source };
    let locals = sockets
        .iter()
        .map(|socket| socket.local_addr())
        .collect::<io::Result<Vec<_>>>()
        .map_err(listen_error)?;
    let port = locals.first().map_or(0, |local| local.port());

    let registry = Registry::default();
    let mut swarm = swarm(&config, net.clone(), registry.clone(), sockets)?;
    for local in &locals {
        swarm.listen_on(to_multiaddr(*local)).map_err(|error| listen_error(io::Error::other(error)))?;
    }

    let shared = Arc::new(Shared {
        local: *swarm.local_peer_id(),
        port,
        media: MediaTable::default(),
        peers: Default::default(),
        listening: Default::default(),
    });
    let (commands, command_queue) = mpsc::channel(MAX_COMMANDS);
    let (events, event_queue) = mpsc::channel(MAX_EVENTS);
    let mut driver = Driver::new(&config, net, swarm, registry, shared.clone(), command_queue, events);
    driver.begin(&config);
    runtime.spawn(driver.run());
    Ok((Mesh { shared, commands }, Events { events: event_queue }))
}

/// What libp2p does on each connection.
#[derive(NetworkBehaviour)]
struct Behaviour {
    channels: Channels,
    identify: identify::Behaviour,
    ping: ping::Behaviour,
}

fn swarm(
    config: &Config,
    net: Arc<dyn Net>,
    registry: Registry,
    sockets: Vec<Arc<dyn AsyncUdpSocket>>,
) -> Result<Swarm<Behaviour>, StartError> {
    let quic = QuicConfig::new(&config.keypair, net.endpoint_seed(), net.congestion())?;
    let transport = QuicTransport::new(net, quic, registry, sockets)
        .map_err(|source| StartError::Listen { address: config.listen, source })?
        .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)))
        .boxed();
    let public = config.keypair.public();
    let local = public.to_peer_id();
    let identify =
        identify::Config::new("/bandmesh/1".to_owned(), public).with_agent_version(config.agent.clone());
    let behaviour = Behaviour {
        channels: Channels::default(),
        identify: identify::Behaviour::new(identify),
        ping: ping::Behaviour::default(),
    };
    Ok(Swarm::new(transport, behaviour, local, libp2p::swarm::Config::with_tokio_executor()))
}

/// One connection, from the swarm's first word to its last.
struct Link {
    id: ConnectionId,
    peer: PeerId,
    connection: quinn::Connection,
    control: Option<Stream>,
    project: Option<Stream>,
    theirs: Option<Hello>,
    /// Where the peer says that it listens.
    listens: Vec<Multiaddr>,
    /// Whether it is the one the planner elected.
    adopted: bool,
    tasks: Vec<AbortHandle>,
}

impl Drop for Link {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// What the stream tasks report.
struct Greeted {
    key: ConnectionKey,
    outcome: io::Result<(Stream, Hello)>,
}

struct Frame {
    key: ConnectionKey,
    channel: Channel,
    /// `None`: the channel has ended.
    message: Option<(Bytes, OwnedSemaphorePermit)>,
}

/// A dial whose names have been looked up.
struct LookedUp {
    attempt: Attempt,
    peer: Option<PeerId>,
    addresses: Vec<Multiaddr>,
    replaces: bool,
    /// How many dials of the same address there were before.
    turn: usize,
    unknown: Vec<Unknown>,
}

struct Driver {
    net: Arc<dyn Net>,
    origin: Instant,
    planner: Planner,
    swarm: Swarm<Behaviour>,
    registry: Registry,
    shared: Arc<Shared>,
    discovery: BoxStream<'static, Sighting>,
    interfaces: BoxStream<'static, InterfaceEvent>,
    links: HashMap<ConnectionKey, Link>,
    keys: HashMap<ConnectionId, ConnectionKey>,
    next_key: u64,
    attempts: HashMap<ConnectionId, Attempt>,
    commands: mpsc::Receiver<Command>,
    greeted: (mpsc::Sender<Greeted>, mpsc::Receiver<Greeted>),
    looked_up: (mpsc::Sender<LookedUp>, mpsc::Receiver<LookedUp>),
    /// Dials so far of addresses with names. As many entries at most as the user gave addresses, as with the next.
    look_ups: HashMap<Multiaddr, usize>,
    /// Names the user was told of.
    unknown_hosts: HashSet<String>,
    frames: (mpsc::Sender<Frame>, mpsc::Receiver<Frame>),
    events: mpsc::Sender<Delivery>,
    /// Events that found their queue full. While there are any, no frames are taken, so the bound is the number of peers.
    backlog: VecDeque<Delivery>,
    listening_due: Option<LocalTime>,
    timer: Option<(LocalTime, BoxFuture<'static, ()>)>,
}

#[expect(clippy::large_enum_variant, reason = "it lives on the stack for one turn of the loop")]
enum Input {
    Command(Option<Command>),
    Swarm(SwarmEvent<BehaviourEvent>),
    Greeted(Greeted),
    LookedUp(LookedUp),
    Frame(Frame),
    Sighting(Sighting),
    Interface(InterfaceEvent),
    Delivered,
    Abandoned,
    Deadline,
}

impl Driver {
    fn new(
        config: &Config,
        net: Arc<dyn Net>,
        swarm: Swarm<Behaviour>,
        registry: Registry,
        shared: Arc<Shared>,
        commands: mpsc::Receiver<Command>,
        events: mpsc::Sender<Delivery>,
    ) -> Self {
        let random = || {
            let mut bytes = [0; 8];
            net.random(&mut bytes);
            u64::from_le_bytes(bytes)
        };
        let planner = Planner::new(Settings {
            local: shared.local,
            session_tag: config.session_tag,
            instance: random(),
            pinned: config.pin_peers,
            seed: random(),
        });
        Self {
            origin: net.now(),
            net,
            planner,
            swarm,
            registry,
            shared,
            discovery: stream::pending().boxed(),
            interfaces: stream::pending().boxed(),
            links: HashMap::new(),
            keys: HashMap::new(),
            next_key: 0,
            attempts: HashMap::new(),
            commands,
            greeted: mpsc::channel(MAX_FRAMES),
            looked_up: mpsc::channel(MAX_FRAMES),
            look_ups: HashMap::new(),
            unknown_hosts: HashSet::new(),
            frames: mpsc::channel(MAX_FRAMES),
            events,
            backlog: VecDeque::new(),
            listening_due: None,
            timer: None,
        }
    }

    /// Starts watching the world, and dialling.
    fn begin(&mut self, config: &Config) {
        match self.net.interfaces() {
            Ok(interfaces) => self.interfaces = interfaces.chain(stream::pending()).boxed(),
            Err(error) => self.warn(format!(
                "cannot watch the network interfaces ({error}); restart after a network change"
            )),
        }
        if config.mdns && !config.pin_peers {
            let announcement = Announcement {
                version: PROTOCOL_VERSION,
                peer: self.shared.local,
                session_tag: config.session_tag,
                services: config.services.clone(),
                port: self.shared.port,
            };
            match self.net.discover(announcement) {
                Ok(discovery) => self.discovery = discovery.chain(stream::pending()).boxed(),
                Err(error) => {
                    self.warn(format!("cannot look for others on the LAN ({error}); name them with --peer"));
                }
            }
        }
        let now = self.now();
        for address in &config.peers {
            self.planner.handle_named(now, address.clone());
        }
    }

    async fn run(mut self) {
        loop {
            self.carry_out();
            self.deliver_backlog();
            self.set_timer();
            match self.next_input().await {
                Input::Command(Some(Command::Shutdown(done))) => return self.shut_down(Some(done)).await,
                Input::Command(None) => return self.shut_down(None).await,
                Input::Command(Some(command)) => self.handle_command(command),
                Input::Swarm(event) => self.handle_swarm(event),
                Input::Greeted(greeted) => self.handle_greeted(greeted),
                Input::LookedUp(looked_up) => self.handle_looked_up(looked_up),
                Input::Frame(frame) => self.handle_frame(frame),
                Input::Sighting(sighting) => self.handle_sighting(sighting),
                Input::Interface(event) => {
                    let now = self.now();
                    self.planner.handle_interface(now, event.up, event.address, event.prefix_len);
                }
                Input::Delivered => {}
                // Nobody takes events any more; keep the connections, the commands decide about the end.
                Input::Abandoned => self.backlog.clear(),
                Input::Deadline => self.handle_deadline(),
            }
        }
    }

    async fn next_input(&mut self) -> Input {
        let is_blocked = !self.backlog.is_empty();
        let timer = self.timer.as_mut().map(|(_, timer)| timer);
        let timer = async {
            match timer {
                Some(timer) => timer.await,
                None => std::future::pending().await,
            }
        };
        // In a fixed order, for the simulator; news before messages, or a chatty peer could hold up the rest.
        tokio::select! { biased;
            command = self.commands.recv() => Input::Command(command),
            Some(greeted) = self.greeted.1.recv() => Input::Greeted(greeted),
            Some(looked_up) = self.looked_up.1.recv() => Input::LookedUp(looked_up),
            Some(frame) = self.frames.1.recv(), if !is_blocked => Input::Frame(frame),
            event = self.swarm.select_next_some() => Input::Swarm(event),
            permit = self.events.reserve(), if is_blocked => match (permit, self.backlog.pop_front()) {
                (Ok(permit), Some(delivery)) => {
                    permit.send(delivery);
                    Input::Delivered
                }
                _ => Input::Abandoned,
            },
            Some(sighting) = self.discovery.next() => Input::Sighting(sighting),
            Some(event) = self.interfaces.next() => Input::Interface(event),
            () = timer => Input::Deadline,
        }
    }

    fn now(&self) -> LocalTime {
        let elapsed = self.net.now().saturating_duration_since(self.origin);
        LocalTime::from_nanos(0) + elapsed
    }

    fn set_timer(&mut self) {
        let due = self.planner.poll_deadline().into_iter().chain(self.listening_due).min();
        match due {
            None => self.timer = None,
            Some(due) if self.timer.as_ref().is_some_and(|(at, _)| *at == due) => {}
            Some(due) => self.timer = Some((due, self.net.sleep(due.saturating_since(self.now())))),
        }
    }

    fn handle_deadline(&mut self) {
        self.timer = None;
        let now = self.now();
        self.planner.handle_deadline(now);
        if self.listening_due.is_some_and(|due| due <= now) {
            self.listening_due = None;
            let mut addresses: Vec<_> = self.swarm.listeners().cloned().collect();
            addresses.sort();
            self.shared.listening.write().unwrap_or_else(PoisonError::into_inner).clone_from(&addresses);
            self.emit(Event::Listening { addresses });
        }
    }

    fn handle_command(&mut self, command: Command) {
        let now = self.now();
        match command {
            Command::Dismiss { peer, reason } => self.planner.dismiss(now, &peer, &reason),
            Command::Renew(peer) => self.planner.renew(now, &peer),
            Command::Ban { peer, duration } => self.planner.ban(now, peer, duration),
            Command::Name(address) => self.planner.handle_named(now, address),
            Command::Suggest { from, peer, addresses } => {
                let addresses: Vec<_> = addresses.into_iter().filter(bind::can_dial).collect();
                let session_tag = self.session_tag();
                self.planner.handle_hint(now, Source::Peer(from), peer, session_tag, &addresses);
            }
            Command::Shutdown(_) => {}
        }
    }

    fn session_tag(&self) -> [u8; 8] {
        self.planner.session_tag()
    }

    fn handle_sighting(&mut self, sighting: Sighting) {
        let now = self.now();
        match sighting {
            Sighting::Seen { peer, version, session_tag, addresses, from } => {
                tracing::debug!(%peer, version, ?addresses, %from, "seen");
                if version == PROTOCOL_VERSION {
                    self.planner.handle_hint(now, Source::Discovery(from), peer, session_tag, &addresses);
                } else {
                    self.planner.handle_other_version(peer, session_tag, version);
                }
            }
            Sighting::Gone { peer } => self.planner.handle_gone(&peer),
        }
    }

    fn handle_swarm(&mut self, event: SwarmEvent<BehaviourEvent>) {
        let now = self.now();
        match event {
            SwarmEvent::ConnectionEstablished { peer_id, connection_id, endpoint, .. } => {
                self.handle_established(peer_id, connection_id, &endpoint);
            }
            SwarmEvent::ConnectionClosed { connection_id, .. } => {
                let Some(key) = self.keys.remove(&connection_id) else { return };
                let Some(link) = self.links.get(&key) else { return };
                let by = closed_by(&link.connection);
                tracing::debug!(peer = %link.peer, ?by, "connection closed");
                self.planner.handle_closed(now, key, by);
                // Carry the news out before the link goes: it is what tells an elected connection from others.
                self.carry_out();
                self.links.remove(&key);
            }
            SwarmEvent::OutgoingConnectionError { connection_id, peer_id, error } => {
                let Some(attempt) = self.attempts.remove(&connection_id) else { return };
                tracing::debug!(?peer_id, %error, "dial failed");
                self.planner.handle_dial_failed(now, attempt, dial_failure(peer_id, error));
            }
            SwarmEvent::IncomingConnectionError { error, send_back_addr, .. } => {
                tracing::debug!(%error, %send_back_addr, "handshake failed");
            }
            SwarmEvent::NewListenAddr { .. } | SwarmEvent::ExpiredListenAddr { .. } => {
                self.listening_due = Some(now + LISTENING_SETTLE);
            }
            SwarmEvent::ListenerClosed { addresses, reason, .. } => {
                self.listening_due = Some(now + LISTENING_SETTLE);
                let why = reason.err().map_or_else(|| "closed".to_owned(), |error| error.to_string());
                self.warn(format!(
                    "no longer listening on {addresses:?} ({why}); restart to be reachable again"
                ));
            }
            SwarmEvent::ListenerError { error, .. } => tracing::warn!(%error, "listening"),
            SwarmEvent::Behaviour(BehaviourEvent::Channels(event)) => self.handle_channel(event),
            SwarmEvent::Behaviour(BehaviourEvent::Identify(identify::Event::Received {
                connection_id,
                info,
                ..
            })) => self.handle_identified(connection_id, info.listen_addrs),
            _ => {}
        }
    }

    fn handle_identified(&mut self, id: ConnectionId, listens: Vec<Multiaddr>) {
        let now = self.now();
        let Some(link) = self.keys.get(&id).and_then(|key| self.links.get_mut(key)) else { return };
        link.listens = listens.into_iter().filter(bind::can_dial).take(MAX_LISTENS).collect();
        // Told again when it is elected: until then it may be nobody's.
        self.planner.handle_listens(now, &link.peer, &link.listens);
    }

    fn handle_established(&mut self, peer: PeerId, id: ConnectionId, endpoint: &ConnectedPoint) {
        let now = self.now();
        let attempt = self.attempts.remove(&id);
        let dialled = endpoint.is_dialer();
        let address = endpoint.get_remote_address().clone();
        let quic_side = if dialled { quinn::Side::Client } else { quinn::Side::Server };
        let connection =
            to_socket(&address).and_then(|(socket, _)| self.registry.claim(peer, quic_side, socket));
        let Some(connection) = connection else {
            // Gone between the handshake and this event; the swarm will report its end as a failed connection.
            if let Some(attempt) = attempt {
                self.planner.handle_dial_failed(now, attempt, DialFailure::Unreachable);
            }
            self.swarm.close_connection(id);
            return;
        };
        self.next_key += 1;
        let key = ConnectionKey(self.next_key);
        let local_ip = connection.local_ip();
        let link = Link {
            id,
            peer,
            connection,
            control: None,
            project: None,
            theirs: None,
            listens: Vec::new(),
            adopted: false,
            tasks: Vec::new(),
        };
        self.links.insert(key, link);
        self.keys.insert(id, key);
        let side = if dialled { Side::Dialer } else { Side::Listener };
        tracing::debug!(%peer, %address, ?side, "connection made");
        let made = Made { peer, side, address, local_ip, attempt };
        self.planner.handle_connected(now, key, made);
    }

    fn handle_channel(&mut self, event: ChannelEvent) {
        let now = self.now();
        match event {
            ChannelEvent::Opened { connection, channel: Channel::Control, stream } => {
                let Some(&key) = self.keys.get(&connection) else { return };
                let Some(hello) = self.planner.hello(key) else { return };
                let Some(link) = self.links.get_mut(&key) else { return };
                let reports = self.greeted.0.clone();
                let task = tokio::spawn(async move {
                    let outcome = greet(stream, hello).await;
                    let _ = reports.send(Greeted { key, outcome }).await;
                });
                link.tasks.push(task.abort_handle());
            }
            ChannelEvent::Opened { connection, channel: Channel::Project, stream } => {
                let Some(&key) = self.keys.get(&connection) else { return };
                let Some(link) = self.links.get_mut(&key) else { return };
                link.project = Some(stream);
                self.report_ready(key);
            }
            ChannelEvent::Refused { connection } => {
                if let Some(&key) = self.keys.get(&connection)
                    && !self.has_ended(key)
                {
                    self.planner.handle_broken(now, key);
                }
            }
            ChannelEvent::Moved { connection, address } => {
                if let Some(&key) = self.keys.get(&connection) {
                    self.planner.handle_address_change(key, address);
                }
            }
        }
    }

    fn handle_greeted(&mut self, Greeted { key, outcome }: Greeted) {
        let now = self.now();
        let Some(link) = self.links.get_mut(&key) else { return };
        match outcome {
            Ok((stream, theirs)) => {
                link.control = Some(stream);
                link.theirs = Some(theirs);
                self.report_ready(key);
            }
            // A connection that was lost before the hello is no refusal to say it; the swarm reports its end.
            Err(_) if link.connection.close_reason().is_some() => {}
            Err(error) => {
                tracing::debug!(peer = %link.peer, %error, "no hello");
                self.planner.handle_broken(now, key);
            }
        }
    }

    fn has_ended(&self, key: ConnectionKey) -> bool {
        self.links.get(&key).is_some_and(|link| link.connection.close_reason().is_some())
    }

    fn report_ready(&mut self, key: ConnectionKey) {
        let now = self.now();
        if let Some(link) = self.links.get(&key)
            && let (Some(theirs), Some(_), Some(_)) = (link.theirs, &link.control, &link.project)
        {
            self.planner.handle_ready(now, key, theirs);
        }
    }

    fn handle_frame(&mut self, Frame { key, channel, message }: Frame) {
        let Some(link) = self.links.get(&key).filter(|link| link.adopted) else { return };
        match message {
            Some((bytes, permit)) => {
                let event = Event::Message { peer: link.peer, channel, bytes };
                self.backlog.push_back(Delivery { event, _budget: Some(permit) });
            }
            None if link.connection.close_reason().is_some() => {}
            None => {
                let now = self.now();
                self.planner.handle_broken(now, key);
            }
        }
    }

    // Decisions of the planner.

    fn carry_out(&mut self) {
        while let Some(output) = self.planner.poll() {
            match output {
                Output::Dial { attempt, peer, addresses, replaces } => {
                    self.dial(attempt, peer, addresses, replaces)
                }
                Output::Close { connection, reason } => self.close(connection, &reason),
                Output::Connected { peer, connection, address, path } => {
                    self.adopt(connection, PeerInfo { peer, address, path });
                }
                Output::Disconnected { peer, connection, reason } => {
                    self.release(peer, connection);
                    self.emit(Event::PeerDisconnected { peer, reason });
                }
                Output::PathChanged { peer, address, path } => {
                    if let Some(entry) =
                        self.shared.peers.write().unwrap_or_else(PoisonError::into_inner).get_mut(&peer)
                    {
                        entry.info = PeerInfo { peer, address: address.clone(), path };
                    }
                    self.emit(Event::PathChanged { peer, address, path });
                }
                Output::Warning(text) => self.warn(text),
            }
        }
    }

    /// Dials, after a look-up where there is a name among the addresses.
    fn dial(&mut self, attempt: Attempt, peer: Option<PeerId>, addresses: Vec<Multiaddr>, replaces: bool) {
        let Some(named) = addresses.iter().find(|address| HostName::parse(address).is_some()) else {
            return self.dial_addresses(attempt, peer, addresses, replaces);
        };
        let turn = *self.look_ups.entry(named.clone()).and_modify(|turn| *turn += 1).or_default();
        let (net, reports) = (self.net.clone(), self.looked_up.0.clone());
        tokio::spawn(async move {
            let (addresses, unknown) = names::resolve(net, addresses).await;
            let _ = reports.send(LookedUp { attempt, peer, addresses, replaces, turn, unknown }).await;
        });
    }

    fn handle_looked_up(
        &mut self,
        LookedUp { attempt, peer, mut addresses, replaces, turn, unknown }: LookedUp,
    ) {
        for Unknown { host, why } in unknown {
            tracing::debug!(host, why, "not found");
            // Once for each name, which the user gave: it is tried again and again.
            if self.unknown_hosts.insert(host.clone()) {
                self.warn(format!(
                    "the host {host} is not found ({why}); check its spelling in --peer, and the network"
                ));
            }
        }
        if addresses.is_empty() {
            let now = self.now();
            return self.planner.handle_dial_failed(now, attempt, DialFailure::Unreachable);
        }
        if peer.is_none() {
            // Nobody knows yet who answers there, so one address is tried at a time, each in its turn.
            let chosen = turn % addresses.len();
            addresses.swap(0, chosen);
        }
        self.dial_addresses(attempt, peer, addresses, replaces);
    }

    fn dial_addresses(
        &mut self,
        attempt: Attempt,
        peer: Option<PeerId>,
        addresses: Vec<Multiaddr>,
        replaces: bool,
    ) {
        tracing::debug!(?peer, ?addresses, replaces, "dialling");
        let options = match (peer, addresses.first()) {
            (Some(peer), _) => {
                DialOpts::peer_id(peer).addresses(addresses).condition(PeerCondition::Always).build()
            }
            (None, Some(address)) => DialOpts::unknown_peer_id().address(address.clone()).build(),
            (None, None) => return,
        };
        let id = options.connection_id();
        if replaces {
            self.swarm.behaviour_mut().channels.allow_replacement(id);
        }
        match self.swarm.dial(options) {
            Ok(()) => {
                self.attempts.insert(id, attempt);
            }
            Err(error) => {
                let now = self.now();
                self.planner.handle_dial_failed(now, attempt, dial_failure(peer, error));
            }
        }
    }

    fn close(&mut self, key: ConnectionKey, reason: &CloseReason) {
        if let Some(link) = self.links.remove(&key) {
            tracing::debug!(peer = %link.peer, reason = reason.text(), "closing a connection");
            self.keys.remove(&link.id);
            link.connection.close(reason.code().into(), reason.text().as_bytes());
        }
    }

    /// Starts talking over an elected connection.
    fn adopt(&mut self, key: ConnectionKey, info: PeerInfo) {
        let now = self.now();
        let Some(link) = self.links.get_mut(&key) else { return };
        let (Some(control), Some(project)) = (link.control.take(), link.project.take()) else { return };
        let peer = link.peer;
        link.adopted = true;
        self.planner.handle_listens(now, &peer, &link.listens);
        let budget = Arc::new(Semaphore::new(MESSAGE_BUDGET_BYTES));
        let frames = &self.frames.0;
        let (connection, net) = (&link.connection, &self.net);
        let control =
            run_channel(key, Channel::Control, control, connection, net, &budget, frames, &mut link.tasks);
        let project =
            run_channel(key, Channel::Project, project, connection, net, &budget, frames, &mut link.tasks);
        let media = self.shared.media.clone();
        media.insert(peer, link.connection.clone());
        link.tasks.push(tokio::spawn(media.receive(peer, link.connection.clone())).abort_handle());

        let entry = PeerEntry { info: info.clone(), control, project };
        self.shared.peers.write().unwrap_or_else(PoisonError::into_inner).insert(peer, entry);
        self.swarm.behaviour_mut().channels.set_connected(peer, true);
        let PeerInfo { peer, address, path } = info;
        self.emit(Event::PeerConnected { peer, address, path });
    }

    /// Stops talking over a connection that was elected until now.
    fn release(&mut self, peer: PeerId, key: ConnectionKey) {
        if let Some(link) = self.links.get_mut(&key) {
            link.adopted = false;
            link.tasks.drain(..).for_each(|task| task.abort());
        }
        self.shared.media.remove(&peer);
        self.shared.peers.write().unwrap_or_else(PoisonError::into_inner).remove(&peer);
        self.swarm.behaviour_mut().channels.set_connected(peer, false);
    }

    // News for those above.

    fn warn(&mut self, text: String) {
        tracing::warn!("{text}");
        self.emit(Event::Warning(text));
    }

    fn emit(&mut self, event: Event) {
        self.backlog.push_back(event.into());
    }

    fn deliver_backlog(&mut self) {
        while let Some(delivery) = self.backlog.pop_front() {
            match self.events.try_send(delivery) {
                Ok(()) => {}
                Err(mpsc::error::TrySendError::Full(delivery)) => {
                    self.backlog.push_front(delivery);
                    return;
                }
                Err(mpsc::error::TrySendError::Closed(_)) => {}
            }
        }
    }

    async fn shut_down(mut self, done: Option<oneshot::Sender<()>>) {
        // Withdraws the announcement, so that nobody dials us while we leave.
        self.discovery = stream::pending().boxed();
        let goodbye = CloseReason::Goodbye;
        let net = self.net.clone();
        let sleep = move |duration| net.sleep(duration);
        self.registry.close(goodbye.code(), goodbye.text().as_bytes(), sleep, GOODBYE_PATIENCE).await;
        self.shared.peers.write().unwrap_or_else(PoisonError::into_inner).clear();
        for link in self.links.values() {
            self.shared.media.remove(&link.peer);
        }
        if let Some(done) = done {
            let _ = done.send(());
        }
    }
}

/// Exchanges hellos on a fresh control stream.
async fn greet(mut stream: Stream, ours: Hello) -> io::Result<(Stream, Hello)> {
    frames::write_frame(&mut stream, &ours.encode()).await?;
    stream.flush().await?;
    let length =
        frames::read_length(&mut stream, MAX_HELLO_BYTES).await?.ok_or(io::ErrorKind::UnexpectedEof)?;
    let bytes = frames::read_body(&mut stream, length).await?;
    let theirs = Hello::decode(&bytes).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    Ok((stream, theirs))
}

/// Starts the reader and the writer of one channel.
#[expect(
    clippy::too_many_arguments,
    reason = "parts of the link and of the driver, which cannot both be borrowed"
)]
fn run_channel(
    key: ConnectionKey,
    channel: Channel,
    stream: Stream,
    connection: &quinn::Connection,
    net: &Arc<dyn Net>,
    budget: &Arc<Semaphore>,
    frames: &mpsc::Sender<Frame>,
    tasks: &mut Vec<AbortHandle>,
) -> Outbox {
    let (outbox, outbox_reader) = frames::outbox(channel);
    let (read_half, write_half) = stream.split();
    let write_half =
        Throttled::new(write_half, channel, connection.clone(), share_of(connection), net.clone());
    let (budget, reports) = (budget.clone(), frames.clone());
    let reader = tokio::spawn(async move {
        let ended = read_messages(key, channel, read_half, &budget, &reports).await;
        tracing::trace!(?channel, ?ended, "channel read to its end");
        let _ = reports.send(Frame { key, channel, message: None }).await;
    });
    let reports = frames.clone();
    let writer = tokio::spawn(async move {
        let ended = write_messages(outbox_reader, write_half).await;
        tracing::trace!(?channel, ?ended, "channel written to its end");
        let _ = reports.send(Frame { key, channel, message: None }).await;
    });
    tasks.extend([reader.abort_handle(), writer.abort_handle()]);
    outbox
}

async fn write_messages(
    outbox: OutboxReader,
    stream: impl futures::io::AsyncWrite + Unpin,
) -> io::Result<()> {
    frames::write_all(outbox, stream).await
}

async fn read_messages(
    key: ConnectionKey,
    channel: Channel,
    mut stream: impl futures::io::AsyncRead + Unpin,
    budget: &Arc<Semaphore>,
    reports: &mpsc::Sender<Frame>,
) -> io::Result<()> {
    while let Some(length) = frames::read_length(&mut stream, channel.max_message_bytes()).await? {
        // The fixed part keeps empty messages from being free.
        let share = u32::try_from(length + 64).map_err(|_| io::ErrorKind::InvalidData)?;
        let permit = budget.clone().acquire_many_owned(share).await.map_err(|_| io::ErrorKind::BrokenPipe)?;
        let bytes = frames::read_body(&mut stream, length).await?;
        let frame = Frame { key, channel, message: Some((bytes, permit)) };
        reports.send(frame).await.map_err(|_| io::ErrorKind::BrokenPipe)?;
    }
    Ok(())
}

fn closed_by(connection: &quinn::Connection) -> ClosedBy {
    use quinn::ConnectionError;
    match connection.close_reason() {
        Some(ConnectionError::ApplicationClosed(close)) => {
            ClosedBy::Peer { code: close.error_code.into_inner(), text: readable(&close.reason) }
        }
        Some(ConnectionError::Reset) => ClosedBy::Reset,
        Some(ConnectionError::TimedOut) => ClosedBy::Silence,
        Some(error) => ClosedBy::Failure(error.to_string()),
        None => ClosedBy::Failure("the connection was given up".to_owned()),
    }
}

/// A peer's words, made fit for a log or a screen.
fn readable(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).chars().filter(|c| !c.is_control()).take(100).collect()
}

fn dial_failure(peer: Option<PeerId>, error: DialError) -> DialFailure {
    match error {
        DialError::LocalPeerId { .. } => DialFailure::Ourselves,
        DialError::WrongPeerId { obtained, address } => DialFailure::WrongPeer { address, obtained },
        DialError::Denied { cause } => match (cause.downcast::<AlreadyConnected>(), peer) {
            (Ok(AlreadyConnected), Some(peer)) => DialFailure::AlreadyConnected(peer),
            _ => DialFailure::Unreachable,
        },
        _ => DialFailure::Unreachable,
    }
}
