//! The node as the control interface sees it: its JSON types, made from the inside's own.

use std::sync::{Arc, atomic::Ordering};

use engine::Meter;
use futures::{FutureExt, future::BoxFuture};
use serde_json::Value;
use tokio::sync::broadcast;
use transport::{PeerId, driver::PathKind};

use super::{
    brain::{Inner, PeerView, lock},
    follow::beats_per_bar,
    people::undo_state,
};
use crate::{
    control::{
        Backend, BackendError, Metric, MetricKind, Notice,
        types::{
            self, Command, CommandResult, LatencyStage, Level, MasterLevel, Meters, PatchResult, Peer,
            PeerAudio, PeerChange, PeerClock, PeerLevel, PeerState, Playback, PlaybackChange, Stage, Status,
            level_db,
        },
    },
    device::monotonic_ns,
    media::IncomingReport,
    project::{EditError, Unavailable},
    session::beat::clamp_tempo,
    trace::record::{Record, bounded},
};

/// The control interface's view of a node.
pub struct NodeBackend(pub Arc<Inner>);

impl Backend for NodeBackend {
    fn status(&self) -> Status {
        let inner = &self.0;
        let (info, stats) = {
            let rig = lock(&inner.rig);
            (rig.info(), rig.audio().stats())
        };
        let (input_peak, output_peak, feedback_warning) = {
            let levels = lock(&inner.levels);
            (levels.input_peak(), levels.output_peak(), levels.heard.feedback)
        };
        let summary = inner.project.summary();
        Status {
            peer_id: inner.me.to_string(),
            name: inner.name(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime_s: inner.started.elapsed().as_secs_f64(),
            session: types::Session { id: inner.session_id.clone(), name: inner.session_name.clone() },
            audio: types::Audio {
                host: info.host,
                device: info.device,
                rate_hz: info.rate_hz,
                period_frames: info.period_frames,
                xruns: stats.xruns,
                callback_max_us: *lock(&inner.callback_max_us),
                output_latency_ms: f64::from(stats.output_latency_frames) * 1e3
                    / f64::from(info.rate_hz.max(1)),
                input_peak_db: level_db(input_peak),
                output_peak_db: level_db(output_peak),
            },
            me: self.desk_me(),
            master: self.desk_master(),
            feedback_warning,
            link: self.shown_link(),
            doc: types::Doc {
                heads_hash: summary.heads_hash,
                changes: summary.changes,
                saved: summary.saved,
            },
            listen: inner.mesh.listen_addresses().iter().map(ToString::to_string).collect(),
            diagnosis: self.desk_diagnosis(),
            warnings: lock(&inner.warnings).clone(),
            undo: undo_state(&summary.undo),
        }
    }

    fn peers(&self) -> Vec<Peer> {
        let peers: Vec<(PeerId, PeerView)> =
            lock(&self.0.peers).iter().map(|(peer, view)| (*peer, view.clone())).collect();
        peers.iter().map(|(peer, view)| self.peer(peer, view)).collect()
    }

    fn meters(&self) -> Meters {
        let playback = self.playback();
        let levels = lock(&self.0.levels);
        Meters {
            at_ms: levels.at_ms,
            input: vec![level(levels.input)],
            output: vec![level(levels.output)],
            peers: levels
                .peers
                .iter()
                .map(|(peer, meter)| PeerLevel {
                    peer_id: peer.to_string(),
                    peak_db: meter.peak_db(),
                    rms_db: meter.rms_db(),
                })
                .collect(),
            master: MasterLevel {
                momentary_lufs: levels.heard.momentary_lufs,
                short_term_lufs: levels.heard.short_term_lufs,
                limiter_reduction_db: reduction_db(levels.limiter_gain),
            },
            tempo_bpm: playback.tempo_bpm,
            beat: playback.position_beats,
            phase: playback.phase_beats,
            playing: playback.playing,
        }
    }

    fn project(&self) -> BoxFuture<'_, Result<Value, BackendError>> {
        async { Ok(self.0.project.read(None).await?.unwrap_or(Value::Null)) }.boxed()
    }

    fn project_node(&self, address: &str) -> BoxFuture<'_, Result<Option<Value>, BackendError>> {
        let address = address.to_owned();
        async { Ok(self.0.project.read(Some(address)).await?) }.boxed()
    }

    fn patch(
        &self,
        commands: Vec<Command>,
        durable: bool,
    ) -> BoxFuture<'_, Result<PatchResult, BackendError>> {
        async move {
            self.record("patch", &commands);
            let _editing = self.0.following.editing();
            let edited = self.0.project.edit(commands.iter().map(project_command).collect(), durable).await;
            // Tempo and meter are also the beat that is playing now, whether or not the disk has them yet.
            if matches!(edited, Ok(_) | Err(EditError::NotSaved(_))) {
                for command in &commands {
                    if let Command::Set { address, value } = command {
                        self.follow_beat(address, value);
                    }
                }
            }
            let edited = edited?;
            Ok(PatchResult {
                results: edited
                    .results
                    .into_iter()
                    .map(|one| CommandResult { address: one.address })
                    .collect(),
                heads_hash: edited.heads_hash,
                durable: edited.durable,
            })
        }
        .boxed()
    }

    fn playback(&self) -> Playback {
        let (register, session_now) = {
            let session = lock(&self.0.session);
            (session.beat(), session.timebase().session_at(monotonic_ns() as i64))
        };
        Playback {
            tempo_bpm: register.tempo_bpm,
            time_signature: format!("{}/4", register.beats_per_bar),
            playing: register.playing,
            position_beats: register.beat_at(session_now),
            phase_beats: register.phase_at(session_now),
            metronome: lock(&self.0.rig).metronome(),
        }
    }

    fn set_playback(&self, change: PlaybackChange) -> BoxFuture<'_, Result<Playback, BackendError>> {
        async move {
            self.record("playback", &change);
            let meter = match &change.time_signature {
                None => None,
                Some(text) => Some(beats_per_bar(text).ok_or_else(|| no_time_signature(text))?),
            };
            if let Some(on) = change.metronome {
                lock(&self.0.rig).set_metronome(on);
            }
            let _editing = self.0.following.editing();
            self.remember_beat(&change).await;
            self.0.change_beat(|register, at, author| {
                let mut next = *register;
                if let Some(bpm) = change.tempo_bpm {
                    next = next.with_tempo(bpm, at, author);
                }
                if let Some(beats) = meter {
                    next = next.with_beats_per_bar(beats, at, author);
                }
                if let Some(beat) = change.position_beats {
                    next = next.with_beat_at(beat, at, author);
                }
                if let Some(playing) = change.playing {
                    next = next.with_playing(playing, at, author);
                }
                next
            });
            Ok(self.playback())
        }
        .boxed()
    }

    fn set_peer(&self, peer_id: &str, change: PeerChange) -> BoxFuture<'_, Result<Peer, BackendError>> {
        self.record("peer", &(peer_id, &change));
        let unknown = || BackendError::NotFound(format!("no peer {peer_id:?}; GET /api/v1/peers lists them"));
        let result = peer_id.parse::<PeerId>().map_err(|_| unknown()).and_then(|peer| {
            let view = self.0.set_monitor(&peer, |monitor| {
                monitor.gain_db = change.gain_db.unwrap_or(monitor.gain_db);
                monitor.mute = change.muted_by_me.unwrap_or(monitor.mute);
                monitor.pan = change.pan.unwrap_or(monitor.pan);
                monitor.solo = change.soloed_by_me.unwrap_or(monitor.solo);
            });
            view.map(|view| self.peer(&peer, &view)).ok_or_else(unknown)
        });
        async move { result }.boxed()
    }

    fn setup(&self) -> BoxFuture<'_, types::Setup> {
        self.desk_setup().boxed()
    }

    fn set_setup(&self, change: types::SetupChange) -> BoxFuture<'_, Result<types::Setup, BackendError>> {
        self.desk_set_setup(change).boxed()
    }

    fn devices(&self) -> BoxFuture<'_, Result<types::Devices, BackendError>> {
        self.desk_devices().boxed()
    }

    fn audio(&self) -> types::AudioState {
        self.desk_audio()
    }

    fn set_audio(
        &self,
        change: types::AudioChange,
    ) -> BoxFuture<'_, Result<types::AudioState, BackendError>> {
        self.desk_set_audio(change).boxed()
    }

    fn midi(&self) -> types::MidiState {
        self.desk_midi()
    }

    fn set_midi(&self, change: types::MidiChange) -> BoxFuture<'_, Result<types::MidiState, BackendError>> {
        self.desk_set_midi(change).boxed()
    }

    fn play_tone(&self, tone: types::TestTone) -> Result<(), BackendError> {
        self.desk_play_tone(tone)
    }

    fn set_me(&self, change: types::MeChange) -> types::Me {
        self.desk_set_me(change)
    }

    fn set_master(&self, change: types::MasterChange) -> types::Master {
        self.desk_set_master(change)
    }

    fn set_link(&self, change: types::LinkChange) -> BoxFuture<'_, Result<types::Link, BackendError>> {
        self.desk_set_link(change).boxed()
    }

    fn history(&self, seconds: usize) -> types::History {
        self.desk_history(seconds)
    }

    fn diagnosis(&self) -> types::Diagnosis {
        self.desk_diagnosis()
    }

    fn support_files(&self) -> BoxFuture<'_, Vec<(String, String)>> {
        self.desk_support_files().boxed()
    }

    fn subscribe(&self) -> broadcast::Receiver<Notice> {
        self.0.notices.subscribe()
    }

    fn metrics(&self) -> Vec<Metric> {
        let mut metrics = vec![Metric {
            name: "media_packets_sent",
            help: "Audio packets handed to connections.",
            kind: MetricKind::Counter,
            labels: Vec::new(),
            value: self.0.media.sent_packets() as f64,
        }];
        let peers: Vec<PeerId> = lock(&self.0.peers).keys().copied().collect();
        for peer in peers {
            if let Some(report) = self.0.media.report(&peer) {
                metrics.push(Metric {
                    name: "media_datagrams_refused",
                    help: "Datagrams of a peer that were malformed.",
                    kind: MetricKind::Counter,
                    labels: vec![("peer_id", peer.to_string())],
                    value: report.counters.refused as f64,
                });
            }
        }
        metrics
    }
}

impl NodeBackend {
    fn record(&self, what: &str, arguments: &dyn std::fmt::Debug) {
        self.0.recorder.record(|| Record::Api {
            at_ns: monotonic_ns(),
            what: what.to_owned(),
            arguments: bounded(format!("{arguments:?}")),
        });
    }

    /// Tempo and meter are the project's too. Written down here they are an edit of this player's, which undo takes back; a
    /// change that comes from Link or a member is not. Before the beat changes: what [`Inner::keep_beat`] notes down is
    /// nobody's edit.
    async fn remember_beat(&self, change: &PlaybackChange) {
        let now = self.playback();
        let mut edits = Vec::new();
        if let Some(bpm) = change.tempo_bpm.map(clamp_tempo).filter(|bpm| *bpm != now.tempo_bpm) {
            edits.push(set("/transport/tempo_bpm", bpm));
        }
        if let Some(text) = change.time_signature.as_ref().filter(|text| **text != now.time_signature) {
            edits.push(set("/transport/time_signature", text.as_str()));
        }
        if !edits.is_empty()
            && let Err(error) = self.0.project.edit(edits, false).await
        {
            // The beat goes on with it, and `keep_beat` writes it down when it can.
            self.0.following.unwritten_beat.store(true, Ordering::Release);
            tracing::warn!(%error, "the change of tempo cannot be undone");
        }
    }

    /// What was set in the project is also the beat that is playing now, where it is about the beat.
    pub fn follow_beat(&self, address: &str, value: &Value) {
        match (address, value) {
            ("/transport/tempo_bpm", value) => {
                if let Some(bpm) = value.as_f64() {
                    self.0.change_beat(|beat, at, author| beat.with_tempo(bpm, at, author));
                }
            }
            ("/transport/time_signature", Value::String(text)) => {
                if let Some(beats) = beats_per_bar(text) {
                    self.0.change_beat(|beat, at, author| beat.with_beats_per_bar(beats, at, author));
                }
            }
            _ => {}
        }
    }

    fn peer(&self, peer: &PeerId, view: &PeerView) -> Peer {
        let report = self.0.media.report(peer);
        let rtt = self.0.mesh.media().rtt(peer);
        let state = {
            let session = lock(&self.0.session);
            let state = session.state_of(monotonic_ns() as i64, peer);
            state.map(|state| (state.muted, state.hears(&self.0.me.to_bytes())))
        };
        Peer {
            peer_id: peer.to_string(),
            name: view.name.clone(),
            state: match (view.member, &view.connection) {
                (true, _) => PeerState::Connected,
                (false, Some(_)) => PeerState::Connecting,
                (false, None) => PeerState::Away,
            },
            path: view.connection.as_ref().map(|(_, path)| match path {
                PathKind::Lan => types::Path::Lan,
                PathKind::Direct => types::Path::Direct,
                PathKind::Relayed => types::Path::Relayed,
                PathKind::Forwarded => types::Path::Forwarded,
            }),
            address: view.connection.as_ref().map(|(address, _)| address.to_string()),
            rtt_ms: report
                .as_ref()
                .and_then(|report| report.clock)
                .map(|clock| clock.rtt_ns as f64 / 1e6)
                .or(rtt.map(|rtt| rtt.as_secs_f64() * 1e3)),
            clock: report.as_ref().and_then(|report| report.clock).map(|clock| PeerClock {
                offset_us: clock.offset_ns as f64 / 1e3,
                error_us: clock.error_ns as f64 / 1e3,
                drift_ppm: clock.drift_ppm,
            }),
            audio: report.as_ref().map(audio),
            waterfall: report.as_ref().and_then(waterfall),
            path_reason: path_reason(view),
            muted_by_me: view.monitor.mute,
            soloed_by_me: view.monitor.solo,
            gain_db: view.monitor.gain_db,
            muted_themselves: state.is_some_and(|(muted, _)| muted),
            hears_me: state.and_then(|(_, hears)| hears),
            pan: view.monitor.pan,
        }
    }

    /// Link and the beat.
    pub(super) fn shown_link(&self) -> types::Link {
        let playback = self.playback();
        let (enabled, peers) = self.link();
        types::Link {
            enabled,
            peers,
            tempo_bpm: playback.tempo_bpm,
            beat: playback.position_beats,
            phase: playback.phase_beats,
            playing: playback.playing,
        }
    }

    #[cfg(feature = "devices")]
    fn link(&self) -> (bool, u64) {
        lock(&self.0.link).as_ref().map_or((false, 0), |link| {
            let state = link.state();
            (state.enabled, state.peers)
        })
    }

    #[cfg(not(feature = "devices"))]
    fn link(&self) -> (bool, u64) {
        (false, 0)
    }
}

fn audio(report: &IncomingReport) -> PeerAudio {
    let totals = report.totals;
    PeerAudio {
        codec: report.info.codec.to_string(),
        channels: u32::from(report.channels),
        frame_frames: u32::from(report.info.packet_frames),
        playout_delay_ms: report.playout_delay.as_secs_f64() * 1e3,
        one_way_ms: report.one_way_ns.map(|ns| ns as f64 / 1e6),
        jitter_ms: report.jitter.as_secs_f64() * 1e3,
        received: totals.received,
        lost: totals.lost,
        late: totals.late,
        concealed_frames: totals.concealed_frames,
        recovered: totals.recovered,
        concealed_ratio: totals.concealed_ratio(),
        buffer_resets: totals.buffer_resets,
    }
}

/// The stretches of mouth to ear that are measured apart; they add up to the whole.
fn waterfall(report: &IncomingReport) -> Option<Vec<LatencyStage>> {
    let whole = report.one_way_ns? as f64 / 1e6;
    // Both are means of many measurements on a clock with an error of its own: neither part can be less than nothing.
    let network = (report.on_the_way_ns? as f64 / 1e6).clamp(0.0, whole.max(0.0));
    Some(vec![
        LatencyStage { stage: Stage::Network, ms: network },
        LatencyStage { stage: Stage::Playout, ms: whole - network },
    ])
}

/// Why packets take the way they take, or why there is none.
fn path_reason(view: &PeerView) -> Option<String> {
    let reason = match &view.connection {
        None => return view.ended.as_ref().map(|why| format!("Not connected: {why}.")),
        Some((_, PathKind::Lan)) => "Both are on the same local network.",
        Some((_, PathKind::Direct)) => "Packets go straight across the internet, with nobody between.",
        Some((_, PathKind::Relayed)) => {
            "No direct way was found so far; a relay passes packets on, which takes longer."
        }
        Some((_, PathKind::Forwarded)) => "No direct way was found so far; a bandmate passes packets on.",
    };
    Some(reason.to_owned())
}

fn reduction_db(gain: f32) -> f32 {
    if gain >= 1.0 { 0.0 } else { -20.0 * gain.max(1e-6).log10() }
}

fn level(meter: Meter) -> Level {
    Level { peak_db: meter.peak_db(), rms_db: meter.rms_db() }
}

fn project_command(command: &Command) -> crdt::Command {
    match command.clone() {
        Command::Set { address, value } => crdt::Command::Set { address, value },
        Command::Add { address, value } => crdt::Command::Add { address, value },
        Command::Move { address, before } => crdt::Command::Move { address, before },
        Command::Delete { address } => crdt::Command::Delete { address },
    }
}

fn set(address: &str, value: impl Into<Value>) -> crdt::Command {
    crdt::Command::Set { address: address.to_owned(), value: value.into() }
}

// What the interface says it takes in one list, the project takes.
const _: () = assert!(crate::control::limits::MAX_COMMANDS == crdt::MAX_COMMANDS);

fn no_time_signature(text: &str) -> BackendError {
    let quoted: String = text.chars().take(40).collect();
    BackendError::Invalid(format!("{quoted:?} is no time signature here; give 1/4 to 16/4, such as 3/4"))
}

impl From<Unavailable> for BackendError {
    fn from(error: Unavailable) -> Self {
        Self::Busy(error.to_string())
    }
}

impl From<EditError> for BackendError {
    fn from(error: EditError) -> Self {
        match error {
            EditError::Command(crdt::CommandError::NotSaving { .. }) => Self::Failed(error.to_string()),
            EditError::Command(error) => Self::Invalid(error.to_string()),
            EditError::NotSaved(_) => Self::Failed(error.to_string()),
            EditError::Unavailable(_) => Self::Busy(error.to_string()),
        }
    }
}
