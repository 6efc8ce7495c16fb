//! One running node: everything put together.
//!
//! [`Node::start`] opens the device, starts the network, media and project threads, serves the control
//! interface, and runs the *brain*: the loop that carries events between them and the session value. Nothing is
//! decided here that one of the values could decide.

mod appearance;
mod backend;
mod brain;
mod cpu;
mod desk;
mod diagnosis;
mod feedback;
mod follow;
mod history;
mod listening;
mod meters;
mod midi_hub;
mod network;
mod observer;
mod people;
mod recorded;
mod rig;
mod wake;

use std::{
    collections::BTreeMap,
    io::ErrorKind,
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use crdt::Config as ProjectConfig;
use ed25519_dalek::SigningKey;
use sha2::{Digest, Sha256};
use tokio::{
    sync::{broadcast, mpsc, watch},
    task::JoinHandle,
};
use transport::{
    Keypair, Multiaddr, PeerId,
    driver::{self, Mesh},
};

use self::{
    appearance::Appearance,
    backend::NodeBackend,
    brain::{Brain, Inner, lock},
    follow::{Following, ProjectBeat},
    meters::Levels,
    midi_hub::MidiHub,
    network::{Network, Outlet},
    rig::{Rewired, Rig},
};
use crate::{
    cli::{Event, ProfileStore, Ready},
    codec::Codec,
    control::{self, Keys, LogBuffer},
    device::{
        AudioCallback, AudioChoice, DeviceConfig, DeviceError, Opened,
        midi::{MidiChoice, MidiPorts, SystemMidi},
        monotonic_ns,
    },
    media, project,
    session::{Identity, beat::DEFAULT_TEMPO_BPM},
    trace::{self, Recorder},
};

pub use network::NetworkError;
pub use recorded::RecordedSession;
pub use rig::RigError;

/// Notices that a slow reader may be behind before it is sent the whole state again.
const NOTICES: usize = 256;
/// Lines for the terminal that may wait; more are dropped.
const TERMINAL_EVENTS: usize = 64;
/// How long the mesh may take to find out at which addresses it listens.
const LISTEN_TIMEOUT: Duration = Duration::from_secs(2);

/// Puts something between the device and the engine; the demo's bandmates play a clip there.
pub type Wrap = Box<dyn Fn(Box<dyn AudioCallback>, &Opened) -> Box<dyn AudioCallback> + Send>;

/// Makes files for the support bundle, as name and text.
pub type SupportFiles = Arc<dyn Fn() -> Vec<(String, String)> + Send + Sync>;

/// What a node runs with.
pub struct Settings {
    /// The musician's name.
    pub name: String,
    /// The same, if this start was told it, and so will be the next one by the same command.
    pub given_name: Option<String>,
    /// The session's name.
    pub session: String,
    /// Seed of the Ed25519 identity.
    pub identity_seed: [u8; 32],
    /// The project database.
    pub project_file: PathBuf,
    /// UDP address to listen at; another free port is taken if this one is in use.
    pub listen: SocketAddr,
    /// Control interface; `None` serves none.
    pub control: Option<ControlSettings>,
    /// Audio device.
    pub device: DeviceConfig,
    /// Whether `device` may be gone by now, and the best that is there does as well.
    pub device_may_be_gone: bool,
    /// What the player answered on the page.
    pub profile: ProfileStore,
    /// A name to propose to a player who has none yet.
    pub suggested_name: String,
    /// Makes the program's own part of the support bundle: names and texts of files. May take seconds.
    pub support_files: Option<SupportFiles>,
    /// How audio is sent.
    pub codec: Codec,
    /// Peers to dial.
    pub peers: Vec<Multiaddr>,
    /// Dial only `peers`.
    pub pin_peers: bool,
    /// Find peers on the LAN.
    pub mdns: bool,
    /// Join Ableton Link.
    pub link: bool,
    /// The system's MIDI ports to open; `None`: not even its own.
    pub midi: Option<MidiChoice>,
    /// Between device and engine.
    pub wrap: Option<Wrap>,
    /// Write a trace.
    pub trace: Option<trace::Settings>,
}

/// How the control interface is served.
pub struct ControlSettings {
    /// Where.
    pub address: SocketAddr,
    /// What opens it.
    pub keys: Keys,
    /// Where the token is kept, for the ready line.
    pub token_file: PathBuf,
    /// The log to show.
    pub logs: LogBuffer,
}

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The identity's key.
    #[error(
        "the node's identity is not an Ed25519 key; restore identity.key from a copy, or delete it to become a new member"
    )]
    Identity,
    /// The audio device or engine.
    #[error(transparent)]
    Rig(#[from] RigError),
    /// The network.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// The project database.
    #[error(transparent)]
    Project(#[from] project::OpenError),
    /// The control interface.
    #[error(transparent)]
    Control(#[from] control::StartError),
    /// The trace.
    #[error(transparent)]
    Trace(#[from] trace::OpenError),
    /// A thread.
    #[error("no thread for media ({0}); close other programs or raise `ulimit -u`")]
    Thread(#[from] std::io::Error),
}

impl StartError {
    /// Whether the user asked for something that cannot be, rather than something failing.
    pub fn is_wrong_argument(&self) -> bool {
        match self {
            Self::Rig(RigError::Device(error)) => matches!(
                error,
                DeviceError::NoSuchDevice { .. }
                    | DeviceError::Rate(_)
                    | DeviceError::Period(_)
                    | DeviceError::JackName(_)
                    | DeviceError::Wav(_)
            ),
            Self::Network(NetworkError::Mesh(error)) => match error {
                driver::StartError::PeerAddress(_) => true,
                driver::StartError::Listen { source, .. } => source.kind() == ErrorKind::AddrNotAvailable,
                _ => false,
            },
            Self::Control(error) => {
                matches!(error, control::StartError::NoSuchAddress(_) | control::StartError::NotPermitted(_))
            }
            _ => false,
        }
    }
}

/// A running node.
pub struct Node {
    inner: Arc<Inner>,
    ready: Ready,
    server: Option<control::Server>,
    media: media::Running,
    project: project::Running,
    network: Network,
    brain: Option<JoinHandle<()>>,
    stop: watch::Sender<bool>,
    events: mpsc::Receiver<Event>,
    trace: Option<trace::Running>,
}

impl Node {
    /// Starts a node; when this returns it can be reached and heard.
    ///
    /// # Errors
    /// [`StartError`], whose text says what to do.
    pub async fn start(mut settings: Settings) -> Result<Self, StartError> {
        let keypair =
            Keypair::ed25519_from_bytes(settings.identity_seed).map_err(|_| StartError::Identity)?;
        let me = keypair.public().to_peer_id();
        let tag = session_tag(&settings.session);
        let (terminal, events) = mpsc::channel(TERMINAL_EVENTS);
        let mut warnings = Vec::new();
        let (recorder, trace) = start_trace(&settings, me)?;

        // The project first: it is what may refuse to open, and nothing has to be undone then.
        let (project_events, from_project) = mpsc::channel(NOTICES);
        let project_missed = Arc::new(AtomicBool::new(false));
        let config = ProjectConfig {
            signing_key: SigningKey::from_bytes(&settings.identity_seed),
            session: settings.session.clone(),
            seed: rand::random(),
        };
        let to_mesh: Arc<OnceLock<Mesh>> = Arc::default();
        let (mesh_cell, missed, project_recorder) =
            (to_mesh.clone(), project_missed.clone(), recorder.clone());
        let (project, notes) =
            project::start(&settings.project_file, config, recorder.clone(), move |event| {
                if let Some(mesh) = mesh_cell.get() {
                    brain::serve_project(mesh, &project_recorder, &event);
                }
                if !matches!(event, project::Event::Send { .. }) && project_events.try_send(event).is_err() {
                    missed.store(true, Ordering::Release);
                }
            })?;
        warnings.extend(notes);
        let stored = stored_beat(&project.handle).await;
        let appearance = stored_appearance(&project.handle, &settings, &me).await;

        let wrap = settings.wrap.take().unwrap_or_else(|| Box::new(|callback, _| callback));
        let (rig, wiring) = open_rig(&settings, &recorder, wrap, &mut warnings)?;
        warnings.extend(rig.info().notes);

        let (network, mesh, mut mesh_events) = Network::start(driver::Config {
            keypair,
            listen: settings.listen,
            fallback_to_any_port: true,
            session_tag: tag,
            services: "audio,midi,project".into(),
            mdns: settings.mdns,
            peers: settings.peers.clone(),
            pin_peers: settings.pin_peers,
            agent: format!("bandmesh/{}", env!("CARGO_PKG_VERSION")),
        })
        .await?;
        let table = mesh.media();
        // Nothing was there to send before, so no frame is missed.
        let _ = to_mesh.set(mesh.clone());

        let (ports, midi) = system_midi(&settings).unzip();
        let hub = MidiHub::new(rig.audio(), ports, recorder.clone());
        let outlet = Outlet { table: table.clone(), recorder: recorder.clone() };
        let answer = outlet.clone();
        let media = media::start(outlet, Box::new(hub), rand::random(), recorder.clone())?;
        let receive = media.media.clone();
        table.set_receiver(Arc::new(move |peer, datagram| {
            if let Some(reply) = receive.handle_datagram(&peer, &datagram) {
                media::Datagrams::send(&answer, &peer, reply);
            }
        }));

        let now = monotonic_ns() as i64;
        let session = RecordedSession::new(
            Identity {
                peer: me,
                author: author_number(&me),
                name: appearance.name.clone(),
                author_of: author_number,
                session: settings.session.clone(),
                incarnation: rand::random(),
                timebase: rand::random(),
                stream: wiring.capture.info,
            },
            now,
            stored.tempo_bpm,
            stored.beats_per_bar,
            recorder.clone(),
        );

        #[cfg(feature = "devices")]
        let link = if settings.link { open_link(&stored, &mut warnings) } else { None };
        let inner = Arc::new(Inner {
            me,
            name: Mutex::new(appearance.name.clone()),
            given_name: settings.given_name,
            suggested_name: settings.suggested_name,
            profile: settings.profile,
            support_files: settings.support_files,
            session_name: settings.session.clone(),
            session_id: hex(&tag),
            started: Instant::now(),
            session: Mutex::new(session),
            pumping: Mutex::default(),
            following: Following::default(),
            rig: Mutex::new(rig),
            media: media.media.clone(),
            mesh: mesh.clone(),
            project: project.handle.clone(),
            #[cfg(feature = "devices")]
            link: Mutex::new(link.map(Arc::new)),
            midi,
            choosing_midi: Mutex::default(),
            peers: Mutex::new(BTreeMap::new()),
            levels: Mutex::new(Levels::default()),
            warnings: Mutex::new(Vec::new()),
            notifier: Mutex::default(),
            history: Mutex::default(),
            verdict: Mutex::default(),
            callback_max_us: Mutex::new(0.0),
            following_device: Mutex::default(),
            next_switch: Mutex::default(),
            device_warning: Mutex::default(),
            notices: broadcast::channel(NOTICES).0,
            terminal,
            recorder,
        });
        for warning in warnings {
            inner.warn(&warning);
        }
        inner.rewire(wiring);
        let introduced = inner.clone();
        let name = appearance.name.clone();
        tokio::spawn(async move { introduced.introduce_myself(appearance.told, appearance.said).await });

        let (stop, stopping) = watch::channel(false);
        let first = first_events(&mut mesh_events).await;
        let mut brain = Brain::new(inner.clone(), mesh_events, from_project, project_missed);
        for event in first {
            brain.handle_mesh(event);
        }
        let brain = Some(tokio::spawn(brain.run(stopping)));

        let mut server = None;
        let mut ready = Ready {
            peer_id: me.to_string(),
            name,
            http: String::new(),
            listen: mesh.listen_addresses().iter().map(ToString::to_string).collect(),
            session: settings.session,
            token_file: PathBuf::new(),
            page_url: String::new(),
        };
        if let Some(control) = settings.control {
            let config = control::Config { address: control.address, keys: control.keys, logs: control.logs };
            let started = control::start(config, Arc::new(NodeBackend(inner.clone()))).await?;
            if let Some(warning) = started.warning() {
                inner.warn(warning);
            }
            ready.http = started.url();
            ready.page_url = started.page_url();
            ready.token_file = control.token_file;
            server = Some(started);
        }
        Ok(Self { inner, ready, server, media, project, network, brain, stop, events, trace })
    }

    /// What the ready line says.
    pub fn ready(&self) -> &Ready {
        &self.ready
    }

    /// The next thing for the terminal; `None` when the node has ended.
    pub async fn next_event(&mut self) -> Option<Event> {
        let ended = async {
            match self.brain.as_mut() {
                Some(brain) => drop(brain.await),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            event = self.events.recv() => event,
            () = ended => {
                self.brain = None;
                None
            }
        }
    }

    /// Session time and beat as audio code needs them: beats at a host time, and tempo.
    pub fn beat_clock(&self) -> impl Fn() -> (f64, f64, bool) + Send + Sync + use<> {
        let inner = self.inner.clone();
        move || inner.beat_now()
    }

    /// The UDP port this node listens on.
    pub fn port(&self) -> u16 {
        self.inner.mesh.port()
    }

    /// Starts playback for everybody.
    pub fn play(&self) {
        self.inner.change_beat(|beat, at, author| beat.with_playing(true, at, author));
    }

    /// Leaves the session politely and saves; takes under two seconds.
    pub async fn stop(self) {
        self.inner.leave();
        self.kill().await;
    }

    /// Ends without the session's goodbye.
    pub async fn kill(self) {
        let Self { inner, server, media, project, network, brain, stop, trace, .. } = self;
        // The brain ends first, so that nothing new begins; then everything closes side by side.
        let _ = stop.send(true);
        if let Some(brain) = brain {
            drop(brain.await);
        }
        // The receiver holds the table that holds it; this lets both go.
        inner.mesh.media().set_receiver(Arc::new(|_, _| {}));
        let control = async {
            if let Some(server) = server {
                server.shutdown().await;
            }
        };
        let saving = tokio::task::spawn_blocking(move || project.stop());
        let (_, _, _) = tokio::join!(control, network.stop(), saving);
        // The device last: closing a sound card may take longer than anything else, and nothing is lost by it.
        let closing = tokio::task::spawn_blocking(move || {
            media.stop();
            drop(inner);
            if let Some(trace) = trace {
                trace.stop();
            }
        });
        drop(closing.await);
    }
}

/// Opens the device, or the best there is if the one that was chosen long ago is not there.
fn open_rig(
    settings: &Settings,
    recorder: &Recorder,
    wrap: Wrap,
    warnings: &mut Vec<String>,
) -> Result<(Rig, Rewired), RigError> {
    let wrap = Arc::new(Mutex::new(wrap));
    let wrapping = || {
        let wrap = wrap.clone();
        move |callback, opened: &Opened| lock(&wrap)(callback, opened)
    };
    match Rig::start(settings.device.clone(), settings.codec, None, recorder.clone(), wrapping()) {
        Err(RigError::Device(error)) if settings.device_may_be_gone => {
            warnings.push(format!(
                "the sound card you chose cannot be opened ({error}); the best there is plays instead"
            ));
            let best = DeviceConfig {
                choice: AudioChoice::Auto,
                rate_hz: None,
                period_frames: None,
                ..settings.device.clone()
            };
            Rig::start(best, settings.codec, None, recorder.clone(), wrapping())
        }
        started => started,
    }
}

/// Begins the trace, if one is asked for.
fn start_trace(
    settings: &Settings,
    me: PeerId,
) -> Result<(Recorder, Option<trace::Running>), trace::OpenError> {
    let Some(wanted) = &settings.trace else { return Ok((Recorder::default(), None)) };
    let unix = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let start = trace::record::Start {
        format: trace::record::FORMAT,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        arch: std::env::consts::ARCH.to_owned(),
        host_ns: monotonic_ns(),
        unix_ns: u64::try_from(unix.as_nanos()).unwrap_or(u64::MAX),
        me,
        name: settings.name.clone(),
        settings: format!(
            "session {:?}, codec {}, device {:?}, mdns {}, link {}, peers {:?}",
            settings.session, settings.codec, settings.device, settings.mdns, settings.link, settings.peers
        ),
    };
    trace::start(wanted, start).map(|(recorder, running)| (recorder, Some(running)))
}

/// The session's name as the mesh compares it.
pub fn session_tag(session: &str) -> [u8; 8] {
    let digest = Sha256::digest(session.as_bytes());
    let mut tag = [0; 8];
    tag.copy_from_slice(digest.get(..8).unwrap_or(&[0; 8]));
    tag
}

/// A number for `peer` that breaks ties between beat changes.
pub fn author_number(peer: &PeerId) -> u64 {
    let digest = Sha256::digest(peer.to_bytes());
    digest.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

async fn stored_beat(project: &project::Handle) -> ProjectBeat {
    let value = project.read(Some("/transport".into())).await.ok().flatten();
    let stored = value.as_ref().and_then(ProjectBeat::from_json);
    stored.unwrap_or(ProjectBeat { tempo_bpm: DEFAULT_TEMPO_BPM, beats_per_bar: 4 })
}

/// How the player appears, by what they say and what the project holds of them.
async fn stored_appearance(project: &project::Handle, settings: &Settings, me: &PeerId) -> Appearance {
    let stored = project.read(Some(appearance::address(me))).await.ok().flatten();
    let said = appearance::said(settings.given_name.as_deref(), &settings.name, &settings.profile);
    let told_before = settings.profile.get().introduced.remove(&settings.session);
    Appearance::new(said, told_before.as_ref(), stored.as_ref())
}

/// What the mesh says until it listens, for a bounded time.
async fn first_events(events: &mut driver::Events) -> Vec<driver::Event> {
    let mut seen = Vec::new();
    let listening = async {
        while let Some(event) = events.recv().await {
            let listens = matches!(event, driver::Event::Listening { .. });
            seen.push(event);
            if listens {
                return;
            }
        }
    };
    // Too long: the ready line shows no address then, and the log says why.
    let _ = tokio::time::timeout(LISTEN_TIMEOUT, listening).await;
    seen
}

#[cfg(feature = "devices")]
fn system_midi(settings: &Settings) -> Option<(MidiPorts, Arc<dyn SystemMidi>)> {
    let opened = crate::device::midi::open(&settings.device.jack_name, settings.midi.clone()?);
    opened.inspect_err(|error| tracing::warn!(%error, "no system MIDI")).ok()
}

#[cfg(not(feature = "devices"))]
fn system_midi(_settings: &Settings) -> Option<(MidiPorts, Arc<dyn SystemMidi>)> {
    None
}

#[cfg(feature = "devices")]
fn open_link(stored: &ProjectBeat, warnings: &mut Vec<String>) -> Option<crate::device::link::Link> {
    match crate::device::link::Link::new(stored.tempo_bpm, f64::from(stored.beats_per_bar)) {
        Ok(link) => {
            link.enable(true);
            Some(link)
        }
        Err(error) => {
            warnings.push(format!("Ableton Link is off: {error}"));
            None
        }
    }
}
