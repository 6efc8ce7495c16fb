//! The loop that carries events between the session and everything around it.
//!
//! The state is shared with the control interface behind small locks that are held for microseconds and
//! never across a wait. [`Inner::pump`] carries out what the session decided, whoever made it decide.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use crdt::PeerKey;
use engine::{HostTime, Monitor, Report, Timeline};
use tokio::{
    sync::{broadcast, mpsc, watch},
    time::MissedTickBehavior,
};
use transport::{
    Multiaddr, PeerId,
    driver::{Channel, Event as MeshEvent, Events, Mesh, PathKind, SendError},
};

use super::{
    SupportFiles, appearance,
    diagnosis::Verdict,
    follow::{Following, Patience},
    history::History,
    meters::{Levels, METER_INTERVAL},
    observer::Observer,
    recorded::RecordedSession,
    rig::{Mended, Rewired, Rig},
};
#[cfg(feature = "devices")]
use crate::session::link_bridge::{Action, LinkBridge, LinkReading, Standing};
use crate::{
    cli::{Event, ProfileStore},
    control::Notice,
    device::{DeviceEvent, midi::SystemMidi, monotonic_ns},
    media::Media,
    project,
    session::{LeaveReason, Output, message, notifier::Notifier},
    trace::{
        Recorder,
        record::{Record, Way},
    },
};

/// Time between two looks at session timers, clocks and Link.
const TICK: Duration = Duration::from_millis(50);
/// Ticks between two updates of the engine's timeline: often enough that steering of the timebase is inaudible.
const TIMELINE_TICKS: u32 = 4;
/// Ticks between two looks at the tempo in the project.
const BEAT_TICKS: u32 = 5;
/// Ticks between two measurements of links and clocks.
const MEMBER_TICKS: u32 = 10;
/// Ticks of a second.
const SECOND_TICKS: u32 = 20;
/// How long a member that sent hostile changes stays out.
const QUARANTINE_BAN: Duration = Duration::from_secs(3600);
/// Peers shown before those that are away are forgotten.
const MAX_SHOWN: usize = 64;
/// Warnings kept for the page.
const MAX_WARNINGS: usize = 32;

/// What the brain and the control interface share.
pub struct Inner {
    pub me: PeerId,
    pub name: Mutex<String>,
    pub suggested_name: String,
    /// The name this start was told.
    pub given_name: Option<String>,
    /// What the player answered on the page.
    pub profile: ProfileStore,
    /// Makes the program's own part of the support bundle.
    pub support_files: Option<SupportFiles>,
    pub session_name: String,
    pub session_id: String,
    pub started: Instant,
    pub session: Mutex<RecordedSession>,
    /// Held while the session's decisions are carried out.
    pub pumping: Mutex<()>,
    pub following: Following,
    pub rig: Mutex<Rig>,
    pub media: Media,
    pub mesh: Mesh,
    pub project: project::Handle,
    #[cfg(feature = "devices")]
    pub link: Mutex<Option<Arc<crate::device::link::Link>>>,
    /// The system's MIDI ports, if this node uses them.
    pub midi: Option<Arc<dyn SystemMidi>>,
    /// Held while other MIDI ports are chosen.
    pub choosing_midi: Mutex<()>,
    pub peers: Mutex<BTreeMap<PeerId, PeerView>>,
    pub levels: Mutex<Levels>,
    pub history: Mutex<History<PeerId>>,
    pub verdict: Mutex<Verdict>,
    /// The longest callback of the last seconds.
    pub callback_max_us: Mutex<f64>,
    /// Held while what the device did is followed; what was said when it was lost, until it is back.
    pub following_device: Mutex<()>,
    /// When the device may be changed again.
    pub next_switch: Mutex<Option<Instant>>,
    pub device_warning: Mutex<Option<String>>,
    pub warnings: Mutex<Vec<String>>,
    pub notifier: Mutex<Notifier<PeerId>>,
    pub notices: broadcast::Sender<Notice>,
    pub terminal: mpsc::Sender<Event>,
    pub recorder: Recorder,
}

/// A peer as people see it.
#[derive(Clone, Debug, Default)]
pub struct PeerView {
    pub name: String,
    pub member: bool,
    pub connection: Option<(Multiaddr, PathKind)>,
    /// Why the last connection ended.
    pub ended: Option<String>,
    pub monitor: Monitor,
}

/// Locks without caring whether another holder panicked: each value stays usable.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Carries out what the project asks of the network, on the project's own thread. A full queue drops a frame, which the
/// project's digests repair.
pub fn serve_project(mesh: &Mesh, recorder: &Recorder, event: &project::Event) {
    match event {
        project::Event::Send { peer, bytes } => {
            let Ok(id) = peer.name().parse::<PeerId>() else { return };
            let bytes = Bytes::copy_from_slice(bytes);
            recorder.outgoing(monotonic_ns, &id, Way::Project, &bytes);
            if let Err(error) = mesh.send(&id, Channel::Project, bytes) {
                tracing::debug!(peer = %id, %error, "a project frame was not sent");
            }
        }
        project::Event::Quarantined { member, reason } => {
            if let Ok(peer) = member.name().parse::<PeerId>() {
                mesh.disconnect(peer, reason.clone());
                mesh.ban(peer, QUARANTINE_BAN);
            }
        }
        project::Event::Changed(_) | project::Event::Warning(_) => {}
    }
}

impl Inner {
    /// Carries out what the session decided.
    pub fn pump(&self) {
        let _turn = lock(&self.pumping);
        self.carry_out();
    }

    /// [`Self::pump`] for who already has its turn. One at a time: a Left must not overtake the Joined before it.
    fn carry_out(&self) {
        loop {
            let Some(output) = lock(&self.session).poll(|| monotonic_ns() as i64) else { return };
            match output {
                Output::Send(peer, control) => self.send_control(peer, &control),
                Output::Joined(peer, hello) => {
                    self.join(peer, &hello);
                    self.tell(|notifier, now, at_ms| notifier.joined(now, at_ms, &peer, &hello.name));
                }
                Output::StateChanged(_) => self.notify(Notice::Peers),
                Output::TouchesChanged(addresses) => self.follow_touches(&addresses),
                Output::Left(peer, why) => {
                    tracing::info!(%peer, ?why, "a member left");
                    self.part(&peer);
                    self.tell(|notifier, now, at_ms| {
                        notifier.gone(now, at_ms, &peer, why == LeaveReason::Goodbye)
                    });
                }
                Output::StreamChanged(peer, stream) => self.replug(peer, stream),
                Output::Renamed(peer, name) => {
                    tracing::info!(%peer, %name, "a member has another name");
                    if let Some(view) = lock(&self.peers).get_mut(&peer) {
                        view.name.clone_from(&name);
                    }
                    lock(&self.notifier).renamed(&peer, &name);
                    self.notify(Notice::Peers);
                }
                Output::Disconnect { peer, why, ban_ns: 0 } => {
                    tracing::info!(%peer, %why, "a connection is given up");
                    self.mesh.renew(peer);
                }
                Output::Disconnect { peer, why, ban_ns } => {
                    tracing::info!(%peer, %why, "a peer is sent away");
                    // In this order, or the peer reads "banned" instead of the reason.
                    self.mesh.disconnect(peer, why.to_string());
                    self.mesh.ban(peer, Duration::from_nanos(ban_ns.unsigned_abs()));
                }
                Output::BeatChanged => {
                    self.update_timeline();
                    self.notify(Notice::Playback);
                }
            }
        }
    }

    /// Changes tempo, position or playback for everybody.
    pub fn change_beat(
        &self,
        change: impl FnOnce(&crate::session::beat::BeatRegister, i64, u64) -> crate::session::beat::BeatRegister,
    ) {
        lock(&self.session).change_beat(monotonic_ns() as i64, change);
        self.pump();
    }

    /// Beat, tempo and playback now.
    pub fn beat_now(&self) -> (f64, f64, bool) {
        let session = lock(&self.session);
        let register = session.beat();
        (
            register.beat_at(session.timebase().session_at(monotonic_ns() as i64)),
            register.tempo_bpm,
            register.playing,
        )
    }

    /// Says Goodbye to everybody.
    pub fn leave(&self) {
        lock(&self.session).leave(monotonic_ns() as i64);
        self.pump();
    }

    /// Tells the player something, on every surface.
    pub fn warn(&self, warning: &str) {
        self.tell(|notifier, now, at_ms| notifier.warning(now, at_ms, warning));
        self.show_warning(warning);
    }

    /// Shows a warning of which the notifier has words of its own.
    fn show_warning(&self, warning: &str) {
        tracing::warn!("{warning}");
        let mut warnings = lock(&self.warnings);
        warnings.retain(|known| known != warning);
        if warnings.len() >= MAX_WARNINGS {
            warnings.remove(0);
        }
        warnings.push(warning.to_owned());
        drop(warnings);
        // A terminal that does not keep up misses lines, the page still has them.
        let _ = self.terminal.try_send(Event::Warning { message: warning.to_owned() });
        self.notify(Notice::Status);
    }

    /// A warning no longer holds.
    pub fn settle(&self, warning: &str) {
        lock(&self.warnings).retain(|known| known != warning);
        lock(&self.notifier).settled(warning);
        self.notify(Notice::Status);
    }

    /// Connects media to a new engine.
    pub fn rewire(&self, wiring: Rewired) {
        let _turn = lock(&self.pumping);
        self.rewire_in_turn(wiring);
    }

    /// [`Self::rewire`] for who already has its turn.
    fn rewire_in_turn(&self, wiring: Rewired) {
        lock(&self.session).change_stream(monotonic_ns() as i64, wiring.capture.info);
        self.media.set_capture(wiring.capture);
        if let Some(writer) = wiring.own_instrument {
            self.media.set_local_instrument(writer);
        }
        for (peer, plug) in wiring.plugs {
            self.media.refit_peer(&peer, plug.writer, plug.instrument);
        }
        self.update_timeline();
        self.carry_out();
    }

    /// My own level of a member.
    pub fn set_monitor(&self, peer: &PeerId, change: impl FnOnce(&mut Monitor)) -> Option<PeerView> {
        let view = {
            let mut peers = lock(&self.peers);
            let view = peers.get_mut(peer)?;
            change(&mut view.monitor);
            view.clone()
        };
        lock(&self.rig).set_monitor(peer, view.monitor);
        self.notify(Notice::Peers);
        Some(view)
    }

    /// Tells the pages; nobody listening is fine.
    pub fn notify(&self, notice: Notice) {
        let _ = self.notices.send(notice);
    }

    fn send_control(&self, peer: PeerId, control: &message::Control) {
        let bytes = Bytes::from(message::encode(control));
        self.recorder.outgoing(monotonic_ns, &peer, Way::Control, &bytes);
        match self.mesh.send(&peer, Channel::Control, bytes) {
            Ok(()) | Err(SendError::NotConnected) => {}
            Err(error) => {
                // A peer that does not take small messages twice a second is not there any more.
                tracing::warn!(%peer, %error, "a control message was not sent");
                self.mesh.renew(peer);
            }
        }
    }

    fn join(&self, peer: PeerId, hello: &message::Hello) {
        self.recorder.record(|| Record::Name { peer, name: hello.name.clone() });
        tracing::info!(%peer, name = %hello.name, stream = ?hello.stream, "a member joined");
        let monitor = {
            let mut peers = lock(&self.peers);
            let view = peers.entry(peer).or_default();
            view.name.clone_from(&hello.name);
            view.member = true;
            view.monitor
        };
        let plug = lock(&self.rig).add(peer, hello.stream);
        match plug {
            Ok(plug) => {
                lock(&self.rig).set_monitor(&peer, monitor);
                let ours = lock(&self.session).own_stream();
                self.media.add_peer(peer, hello.stream, ours, plug.writer, plug.instrument);
            }
            Err(error) => self.warn(&format!("{} cannot be heard: {error}", hello.name)),
        }
        if let Some(key) = PeerKey::from_name(&peer.to_string()) {
            self.project.connected(key);
        }
        let _ =
            self.terminal.try_send(Event::PeerJoined { peer_id: peer.to_string(), name: hello.name.clone() });
        self.notify(Notice::Peers);
        self.notify(Notice::Project(vec!["/mixer/strip".into()]));
    }

    fn part(&self, peer: &PeerId) {
        self.media.remove_peer(peer);
        lock(&self.rig).remove(peer);
        if let Some(key) = PeerKey::from_name(&peer.to_string()) {
            self.project.disconnected(key);
        }
        let name = {
            let mut peers = lock(&self.peers);
            let name = peers.get_mut(peer).map(|view| {
                view.member = false;
                view.name.clone()
            });
            if peers.len() > MAX_SHOWN {
                // Somebody who is away and of whom I have no setting of my own.
                let idle = |view: &PeerView| {
                    !view.member && view.connection.is_none() && view.monitor == Monitor::default()
                };
                peers.retain(|_, view| !idle(view));
            }
            name.unwrap_or_default()
        };
        let _ = self.terminal.try_send(Event::PeerLeft { peer_id: peer.to_string(), name });
        self.notify(Notice::Peers);
    }

    /// Forgets the way to a peer, and the peer itself if it never was a member.
    fn disconnected(&self, peer: &PeerId, reason: String) {
        let mut peers = lock(&self.peers);
        if let Some(view) = peers.get_mut(peer) {
            view.connection = None;
            view.ended = Some(reason);
            if !view.member && view.name.is_empty() {
                peers.remove(peer);
            }
        }
    }

    fn replug(&self, peer: PeerId, stream: message::StreamInfo) {
        let plug = lock(&self.rig).add(peer, stream);
        match plug {
            Ok(plug) => {
                self.media.change_peer(&peer, stream, plug.writer, plug.instrument);
                self.notify(Notice::Peers);
            }
            Err(error) => self.warn(&format!("a member's new stream cannot be heard: {error}")),
        }
    }

    /// Carries out what follows from what the device did by itself, or was told to.
    pub fn follow_device(&self) {
        let _turn = lock(&self.following_device);
        while let Some(event) = self.poll_device() {
            match event {
                DeviceEvent::Lost(reason) => {
                    let reason = reason.to_string();
                    self.show_warning(&reason);
                    self.tell(|notifier, now, at_ms| notifier.device(now, at_ms, Some(&reason)));
                    *lock(&self.device_warning) = Some(reason);
                }
                DeviceEvent::RateChanged { rate_hz } => {
                    self.warn(&format!("the audio device now runs at {rate_hz} Hz; the engine follows"));
                }
                DeviceEvent::ReopenFailed { error, retry_ms } => {
                    tracing::info!(%error, retry_ms, "the audio device is still not there");
                }
                DeviceEvent::Reopened { info, .. } => {
                    let lost = lock(&self.device_warning).take();
                    if let Some(lost) = lost {
                        self.settle(&lost);
                    }
                    self.tell(|notifier, now, at_ms| notifier.device(now, at_ms, None));
                    tracing::info!(device = %info.device, host = %info.host, "sound is back");
                }
                DeviceEvent::PeriodChanged { period_frames } => {
                    tracing::info!(period_frames, "the device changed its period");
                }
                DeviceEvent::Xruns { new, total } => {
                    tracing::debug!(new, total, "the device missed deadlines")
                }
            }
            self.notify(Notice::Status);
        }
        self.follow_period();
        self.mend();
    }

    /// What the device did, after media and the others were told. In one turn, so that nobody is plugged in or out between
    /// the rig's plugs and their way to media: a member would go on into a source that is no more.
    fn poll_device(&self) -> Option<DeviceEvent> {
        let _turn = lock(&self.pumping);
        let (event, wiring) = lock(&self.rig).poll_device()?;
        if let Some(wiring) = wiring {
            self.rewire_in_turn(wiring);
        }
        Some(event)
    }

    /// Sends in the device's own period, and tells the others.
    fn follow_period(&self) {
        let _turn = lock(&self.pumping);
        let Some(stream) = lock(&self.rig).poll_stream() else { return };
        lock(&self.session).change_stream(monotonic_ns() as i64, stream);
        self.media.change_stream(stream);
        self.carry_out();
    }

    /// Makes good what the engine refused while nothing called it.
    fn mend(&self) {
        let _turn = lock(&self.pumping);
        let Some(Mended { own_instrument, plugs }) = lock(&self.rig).mend() else { return };
        tracing::info!(members = plugs.len(), "the audio engine takes commands again");
        if let Some(writer) = own_instrument {
            self.media.set_local_instrument(writer);
        }
        for (peer, plug) in plugs {
            self.media.refit_peer(&peer, plug.writer, plug.instrument);
        }
    }

    /// Joins or leaves Link; the text of an error says what to do.
    #[cfg(feature = "devices")]
    pub fn set_link(&self, enabled: bool) -> Result<(), String> {
        let mut link = lock(&self.link);
        match link.as_ref() {
            Some(link) => link.enable(enabled),
            None if enabled => {
                let register = lock(&self.session).beat();
                let quantum = f64::from(register.beats_per_bar);
                let new = crate::device::link::Link::new(register.tempo_bpm, quantum)
                    .map_err(|error| error.to_string())?;
                new.enable(true);
                *link = Some(Arc::new(new));
            }
            None => {}
        }
        Ok(())
    }

    /// Joins or leaves Link; the text of an error says what to do.
    #[cfg(not(feature = "devices"))]
    pub fn set_link(&self, enabled: bool) -> Result<(), String> {
        if enabled {
            Err("this build has no Ableton Link; use one with the feature `devices`".into())
        } else {
            Ok(())
        }
    }

    fn update_timeline(&self) {
        let now = monotonic_ns();
        let (register, timebase) = {
            let session = lock(&self.session);
            (session.beat(), session.timebase())
        };
        self.media.set_session_offset(timebase.offset_ns);
        lock(&self.rig).set_timeline(Timeline {
            tempo_bpm: register.tempo_bpm,
            beat: register.beat_at(timebase.session_at(now as i64)),
            at: HostTime(now),
            quantum: f64::from(register.beats_per_bar),
            playing: register.playing,
        });
    }
}

/// The loop.
pub struct Brain {
    inner: Arc<Inner>,
    mesh: Events,
    project: mpsc::Receiver<project::Event>,
    #[cfg(feature = "devices")]
    bridge: LinkBridge,
    ticks: u32,
    /// Set when an event of the project found no room; everything is read again.
    project_missed: Arc<AtomicBool>,
    beat_patience: Patience,
    /// When the members were last told a name that stands in the project.
    name_told_at: Option<Instant>,
    observer: Observer,
}

impl Brain {
    /// A brain for `inner`, fed by the mesh and the project; `project_missed` is set where the latter overflows.
    pub fn new(
        inner: Arc<Inner>,
        mesh: Events,
        project: mpsc::Receiver<project::Event>,
        project_missed: Arc<AtomicBool>,
    ) -> Self {
        Self {
            inner,
            mesh,
            project,
            #[cfg(feature = "devices")]
            bridge: LinkBridge::default(),
            ticks: 0,
            project_missed,
            beat_patience: Patience::default(),
            name_told_at: None,
            observer: Observer::default(),
        }
    }

    /// Runs until told to stop.
    pub async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let mut tick = tokio::time::interval(TICK);
        let mut meters = tokio::time::interval(METER_INTERVAL);
        tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
        meters.set_missed_tick_behavior(MissedTickBehavior::Skip);
        self.inner.follow_project();
        loop {
            tokio::select! {
                biased;
                _ = stop.changed() => return,
                // Before the traffic, which must not keep heartbeats from going out.
                _ = tick.tick() => self.tick(),
                event = self.mesh.recv() => match event {
                    Some(event) => self.handle_mesh(event),
                    None => {
                        tracing::error!("the network has ended; restart the node");
                        return;
                    }
                },
                Some(event) = self.project.recv() => self.handle_project(event),
                _ = meters.tick() => self.observer.read_levels(&self.inner),
            }
        }
    }

    /// Carries one event of the mesh to the session.
    pub fn handle_mesh(&mut self, event: MeshEvent) {
        let inner = &self.inner;
        let now = monotonic_ns() as i64;
        match event {
            MeshEvent::Listening { addresses } => {
                tracing::info!(?addresses, "listening");
                inner.notify(Notice::Status);
            }
            MeshEvent::PeerConnected { peer, address, path } => {
                lock(&inner.peers).entry(peer).or_default().connection = Some((address, path));
                lock(&inner.session).handle_connected(now, peer);
            }
            MeshEvent::PathChanged { peer, address, path } => {
                if let Some(view) = lock(&inner.peers).get_mut(&peer) {
                    view.connection = Some((address, path));
                }
                inner.notify(Notice::Peers);
            }
            MeshEvent::PeerDisconnected { peer, reason } => {
                tracing::info!(%peer, %reason, "a connection ended");
                inner.disconnected(&peer, reason.to_string());
                lock(&inner.session).handle_disconnected(now, &peer);
            }
            MeshEvent::Message { peer, channel: Channel::Control, bytes } => {
                let handled = lock(&inner.session).handle_frame(now, &peer, &bytes);
                if let Err(error) = handled {
                    tracing::warn!(%peer, %error, "a control frame was refused");
                }
            }
            MeshEvent::Message { peer, channel: Channel::Project, bytes } => {
                inner.recorder.incoming(now.unsigned_abs(), &peer, Way::Project, &bytes, || None);
                if lock(&inner.session).is_member(&peer)
                    && let Some(key) = PeerKey::from_name(&peer.to_string())
                {
                    inner.project.message(key, bytes.to_vec());
                }
            }
            MeshEvent::Warning(text) => inner.warn(&text),
        }
        inner.pump();
    }

    fn handle_project(&mut self, event: project::Event) {
        match event {
            // Carried out where it arises, on the project thread.
            project::Event::Send { .. } => {}
            project::Event::Changed(addresses) => {
                let followed = |address: &String| {
                    ["/mixer/strip", "/transport"].iter().any(|part| address.starts_with(part))
                        || address == "/"
                };
                let followed = addresses.iter().any(followed);
                let me = appearance::address(&self.inner.me);
                if addresses.iter().any(|address| address.starts_with(&me) || address == "/") {
                    let inner = self.inner.clone();
                    tokio::spawn(async move { inner.follow_my_name().await });
                }
                lock(&self.inner.following.changed).extend(addresses.iter().cloned());
                self.inner.notify(Notice::Project(addresses));
                match followed {
                    true => self.inner.follow_project(),
                    false => self.inner.settle_touches(),
                }
            }
            project::Event::Quarantined { member, reason } => {
                self.inner.warn(&format!(
                    "{} sent changes that no honest node makes ({reason}); it is kept out for an hour",
                    member.name()
                ));
            }
            project::Event::Warning(text) => self.inner.warn(&text),
        }
    }

    fn tick(&mut self) {
        self.ticks = self.ticks.wrapping_add(1);
        let inner = &self.inner;
        let now = monotonic_ns() as i64;
        {
            let mut session = lock(&inner.session);
            let members: Vec<PeerId> = session.members().map(|(peer, _)| *peer).collect();
            for peer in members {
                inner.media.set_time_shared(&peer, session.shares_time(&peer));
                inner.media.set_takes_reduced(&peer, session.takes_reduced(&peer));
                if let Some(offset) = inner.media.clock_offset_ns(&peer) {
                    session.handle_clock(now, &peer, offset);
                }
            }
            session.handle_deadline(now);
            inner.media.set_session_offset(session.timebase().offset_ns);
        }
        inner.pump();
        if self.ticks.is_multiple_of(TIMELINE_TICKS) {
            inner.update_timeline();
        }
        if self.ticks.is_multiple_of(BEAT_TICKS) {
            inner.keep_beat(&mut self.beat_patience);
        }
        if self.ticks.is_multiple_of(MEMBER_TICKS) {
            inner.observe_members();
        }
        inner.tell_my_name(&mut self.name_told_at);
        inner.tell(Notifier::poll);
        if self.project_missed.swap(false, Ordering::AcqRel) {
            self.handle_project(project::Event::Changed(vec!["/".into()]));
        }
        if self.ticks.is_multiple_of(SECOND_TICKS) {
            self.observer.note_second(&self.inner);
        }
        self.inner.follow_device();
        self.follow_engine();
        self.follow_link(now);
    }

    fn follow_engine(&mut self) {
        loop {
            let report = lock(&self.inner.rig).poll_report();
            match report {
                None => return,
                Some(Report::Refused(source)) => {
                    self.inner.warn("more members play than this node can mix; some are not heard");
                    tracing::warn!(?source, "the engine has no room");
                }
                Some(report) => tracing::debug!(?report, "engine"),
            }
        }
    }

    #[cfg(feature = "devices")]
    fn follow_link(&mut self, now: i64) {
        let inner = self.inner.clone();
        let Some(link) = lock(&inner.link).clone() else { return };
        let state = link.state();
        lock(&inner.session).set_in_link(now, state.enabled && state.peers > 0);
        if !state.enabled {
            // Whatever it sees when it is on again is new to it.
            self.bridge = LinkBridge::default();
            return;
        }
        let (register, timebase, standing) = {
            let session = lock(&inner.session);
            let peers = lock(&inner.peers);
            let on_lan = peers
                .iter()
                .filter(|(_, view)| view.member && matches!(view.connection, Some((_, PathKind::Lan))));
            let standing = Standing {
                leads: session.leads_link(now, on_lan.map(|(peer, _)| peer)),
                in_company: session.members().next().is_some(),
            };
            (session.beat(), session.timebase(), standing)
        };
        // Where the bars have another length, so has Link's phase, and what is off then is put right as always.
        let quantum = f64::from(register.beats_per_bar);
        if let Err(error) = link.set_quantum(quantum) {
            tracing::warn!(%error, "Link keeps its quantum");
        }
        let state = link.state();
        let reading = LinkReading {
            peers: state.peers,
            tempo_bpm: state.tempo_bpm,
            beat: link.timeline().beat_at(now.unsigned_abs()),
            quantum: state.quantum,
            playing: state.playing,
        };
        let session_now = timebase.session_at(now);
        let actions = self.bridge.tick(session_now, &register, &reading, standing);
        inner.recorder.record(|| Record::Link {
            session_ns: session_now,
            register,
            reading,
            standing,
            actions: format!("{actions:?}"),
        });
        for action in actions {
            tracing::debug!(?action, "Link bridge");
            let host_now = monotonic_ns();
            let done = match action {
                Action::SetLinkTempo(bpm) => link.set_tempo(bpm, host_now),
                Action::ForceLinkBeat(beat) => link.set_timeline(crate::device::link::LinkTimeline {
                    tempo_bpm: register.tempo_bpm,
                    beat,
                    host_time_ns: now.unsigned_abs(),
                }),
                Action::SetLinkPlaying(playing) => {
                    link.set_playing(playing, host_now);
                    Ok(())
                }
                Action::TakeTempo(bpm) => {
                    inner.change_beat(|beat, at, author| beat.with_tempo(bpm, at, author));
                    inner.following.unwritten_beat.store(true, Ordering::Release);
                    Ok(())
                }
                Action::TakeBeat(beat) => {
                    inner.change_beat(|register, at, author| {
                        // The reading is a few microseconds old by now.
                        let aged = beat + (at - session_now) as f64 * register.tempo_bpm / 60e9;
                        register.with_beat_at(aged, at, author)
                    });
                    Ok(())
                }
                Action::TakePlaying(playing) => {
                    inner.change_beat(|beat, at, author| beat.with_playing(playing, at, author));
                    Ok(())
                }
            };
            if let Err(error) = done {
                tracing::warn!(%error, "Link did not take a change");
            }
        }
    }

    #[cfg(not(feature = "devices"))]
    fn follow_link(&mut self, _now: i64) {}
}
