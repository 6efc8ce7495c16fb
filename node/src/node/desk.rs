//! The player's own desk: what the control interface's [`Backend`](crate::control::Backend) says and does about it.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use engine::{Input, Monitor};
use serde_json::json;
use transport::PeerId;

use super::{
    appearance,
    backend::NodeBackend,
    brain::{Inner, lock},
    diagnosis::{self, Culprit, Remedy, Verdict},
    history::{PeerNow, PeerRow},
    rig::BETWEEN_STREAMS,
};
use crate::{
    cli::{DataDirError, RememberedAudio, RememberedMidi},
    control::{
        BackendError, Notice,
        types::{
            Action, AudioChange, AudioDevice, AudioRunning, AudioState, Culprit as ShownCulprit, CulpritKind,
            DeviceHistory, Devices, Diagnosis, History, Link, LinkChange, Master, MasterChange, Me, MeChange,
            MidiChange, MidiPort, MidiPortState, MidiState, PeerHistory, Setup, SetupChange, Severity,
            TestTone,
        },
    },
    device::{
        self, AudioChoice, DeviceConfig, SwitchError,
        midi::{self, MidiChoice, MidiReport},
        monotonic_ns,
    },
};

/// Colours for players who have not chosen one: those the page offers (`node/web/src/text.ts`), so that the suggested one
/// is seen among them.
const COLORS: [&str; 10] = [
    "#e5705f", "#e8a33d", "#cfc04a", "#74b95a", "#3fb6a0", "#4aa3df", "#8088ee", "#b874d8", "#e06fa8",
    "#9a8c7c",
];
/// The longest one waits for one's turn; whoever asks more often is told that it is busy.
const SWITCH_PATIENCE: Duration = Duration::from_secs(3);
/// Why a node has no MIDI ports at all.
const NO_MIDI: &str = "this node was started without MIDI ports";
/// Rates that devices are usually run at.
const USUAL_RATES_HZ: [u32; 6] = [44_100, 48_000, 88_200, 96_000, 176_400, 192_000];

impl NodeBackend {
    pub(super) async fn desk_setup(&self) -> Setup {
        let inner = &self.0;
        let profile = inner.profile.get();
        // How the player appears is for the project to say, which anybody may edit.
        let me = inner.project.read(Some(appearance::address(&inner.me))).await.ok().flatten();
        let appears = |field: &str| Some(me.as_ref()?.get(field)?.as_str()?.to_owned());
        let painted = appears("color").filter(|color| color != crdt::DEFAULT_COLOR);
        Setup {
            done: profile.done,
            name: inner.name(),
            color: painted.or(profile.color).unwrap_or_else(|| color_of(&inner.me).to_owned()),
            instrument: appears("instrument").unwrap_or(profile.instrument),
            suggested_name: inner.suggested_name.clone(),
        }
    }

    pub(super) async fn desk_set_setup(&self, change: SetupChange) -> Result<Setup, BackendError> {
        let inner = self.0.clone();
        let name = change.name.as_ref().map(|name| name.trim().to_owned());
        let stored = change.clone();
        let kept = off_the_runtime(move || {
            inner.profile.change(|profile| {
                profile.name = stored.name.map(|name| name.trim().to_owned()).or(profile.name.take());
                profile.color = stored.color.or(profile.color.take());
                profile.instrument = stored.instrument.unwrap_or(std::mem::take(&mut profile.instrument));
                profile.done = stored.done.unwrap_or(profile.done);
            })
        })
        .await?;
        let told = [("name", name.clone()), ("color", change.color), ("instrument", change.instrument)];
        let told = told.into_iter().filter_map(|(field, value)| Some((field, value?))).collect();
        if let Some(name) = name {
            self.0.rename(name);
        }
        // Remembered is what the next start by the same command will say, or that would seem to be news and be told again.
        let Inner { given_name, suggested_name, profile, .. } = &*self.0;
        let said = appearance::said(given_name.as_deref(), suggested_name, profile);
        self.0.introduce_myself(told, said).await;
        self.0.notify(Notice::Status);
        kept.map_err(not_kept)?;
        Ok(self.desk_setup().await)
    }

    pub(super) async fn desk_devices(&self) -> Result<Devices, BackendError> {
        let listing = off_the_runtime(device::list).await?;
        let named = |direction: &str| {
            let ports = listing.midi.iter().filter(|port| port.direction == direction);
            ports.map(|port| port.name.clone()).collect()
        };
        Ok(Devices {
            midi_inputs: named("input"),
            midi_outputs: named("output"),
            // A file is no device to choose from a list.
            audio: listing.audio.iter().filter(|device| device.host != "file").map(audio_device).collect(),
            notes: listing.notes,
        })
    }

    pub(super) fn desk_audio(&self) -> AudioState {
        let audio = lock(&self.0.rig).audio();
        let (config, info, state) = (audio.config(), audio.info(), audio.state());
        let lost = lock(&self.0.device_warning).clone();
        AudioState {
            choice: config.choice.to_string(),
            host: info.host,
            device: info.device,
            rate_hz: info.rate_hz,
            period_frames: info.period_frames,
            state: match state {
                device::AudioRunning::Running => AudioRunning::Running,
                device::AudioRunning::Opening => AudioRunning::Opening,
                device::AudioRunning::Lost => AudioRunning::Lost,
            },
            detail: lost.or((!info.notes.is_empty()).then(|| info.notes.join("; "))),
        }
    }

    pub(super) async fn desk_set_audio(&self, change: AudioChange) -> Result<AudioState, BackendError> {
        let audio = lock(&self.0.rig).audio();
        let before = audio.config();
        let choice = match &change.device {
            None => before.choice.clone(),
            Some(text) => text
                .parse::<AudioChoice>()
                .map_err(|error| BackendError::Invalid(error.to_string().replace("--audio", "device")))?,
        };
        if let AudioChoice::File { output: Some(output), .. } = &choice
            && output.exists()
        {
            return Err(BackendError::Invalid(format!(
                "{} exists already and is not recorded over while the node runs; give another file",
                output.display()
            )));
        }
        let wanted = DeviceConfig {
            choice,
            rate_hz: change.rate_hz.or(before.rate_hz),
            period_frames: change.period_frames.or(before.period_frames),
            jack_name: before.jack_name.clone(),
        };
        // What was asked of another device need not be asked of this one.
        let relaxed =
            DeviceConfig { rate_hz: change.rate_hz, period_frames: change.period_frames, ..wanted.clone() };
        let inner = self.0.clone();
        let switching = audio.clone();
        off_the_runtime(move || {
            let audio = switching;
            inner.wait_for_my_turn_to_switch()?;
            let switched = match audio.switch(wanted.clone()) {
                Err(SwitchError::Device(_)) if relaxed != wanted && change.device.is_some() => {
                    audio.switch(relaxed)
                }
                switched => switched,
            };
            // Whoever waits for the answer hears the new device already.
            inner.follow_device();
            switched
        })
        .await?
        .map_err(|error| match error {
            SwitchError::Busy => BackendError::Busy(error.to_string()),
            SwitchError::Device(error) => BackendError::Invalid(format!("{error}; the old device goes on")),
        })?;
        self.remember_audio(&audio.config()).await;
        Ok(self.desk_audio())
    }

    /// The next start begins with this device. A recording is of one evening.
    async fn remember_audio(&self, config: &DeviceConfig) {
        if matches!(config.choice, AudioChoice::File { .. }) {
            return;
        }
        let audio = RememberedAudio {
            device: config.choice.to_string(),
            rate_hz: config.rate_hz,
            period_frames: config.period_frames,
        };
        let inner = self.0.clone();
        let kept = off_the_runtime(move || inner.profile.change(|profile| profile.audio = Some(audio))).await;
        if let Ok(Err(error)) = kept {
            tracing::warn!(%error, "the chosen device is not remembered");
        }
    }

    pub(super) fn desk_midi(&self) -> MidiState {
        let inner = &self.0;
        let (choice, report) = match &inner.midi {
            Some(midi) => (midi.choice(), midi.report()),
            None => (MidiChoice::default(), MidiReport::default()),
        };
        let audio = lock(&inner.rig).audio();
        let problem = inner.midi.is_none().then(|| NO_MIDI.to_owned());
        MidiState {
            client: audio.config().jack_name.clone(),
            device_ports: audio.has_midi(),
            problem: report.problem.or(problem),
            all_inputs: choice.all_inputs,
            inputs: choice.inputs,
            outputs: choice.outputs,
            input_ports: report.inputs.into_iter().map(midi_port).collect(),
            output_ports: report.outputs.into_iter().map(midi_port).collect(),
        }
    }

    pub(super) async fn desk_set_midi(&self, change: MidiChange) -> Result<MidiState, BackendError> {
        let inner = self.0.clone();
        let Some(midi) = inner.midi.clone() else { return Err(BackendError::Invalid(NO_MIDI.into())) };
        let kept = off_the_runtime(move || {
            // One after the other, so that what is remembered is what holds.
            let _turn = lock(&inner.choosing_midi);
            let before = midi.choice();
            let choice = MidiChoice {
                all_inputs: change.all_inputs.unwrap_or(before.all_inputs),
                inputs: change.inputs.unwrap_or(before.inputs),
                outputs: change.outputs.unwrap_or(before.outputs),
            };
            midi.choose(choice.clone());
            let remembered = RememberedMidi {
                all_inputs: choice.all_inputs,
                inputs: choice.inputs,
                outputs: choice.outputs,
            };
            inner.profile.change(|profile| profile.midi = Some(remembered))
        })
        .await?;
        kept.map_err(not_kept)?;
        Ok(self.desk_midi())
    }

    pub(super) fn desk_play_tone(&self, tone: TestTone) -> Result<(), BackendError> {
        if lock(&self.0.rig).play_tone(tone.seconds, tone.level_db) {
            return Ok(());
        }
        Err(BackendError::Busy("no sound card plays at the moment; choose one with PUT /api/v1/audio".into()))
    }

    pub(super) fn desk_me(&self) -> Me {
        let (input, monitor) = lock(&self.0.rig).own_sound();
        Me {
            muted: input.mute,
            input_gain_db: input.gain_db,
            monitor: !monitor.mute,
            monitor_gain_db: monitor.gain_db,
        }
    }

    pub(super) fn desk_set_me(&self, change: MeChange) -> Me {
        {
            let mut rig = lock(&self.0.rig);
            let (input, monitor) = rig.own_sound();
            let new = Input {
                gain_db: change.input_gain_db.unwrap_or(input.gain_db),
                mute: change.muted.unwrap_or(input.mute),
            };
            rig.set_input(new);
            rig.set_own_monitor(Monitor {
                gain_db: change.monitor_gain_db.unwrap_or(monitor.gain_db),
                mute: change.monitor.map_or(monitor.mute, |on| !on),
                ..monitor
            });
            self.0.media.set_muted(new.mute);
        }
        let me = self.desk_me();
        // After the rig is let go: carrying out what the session decides may need it.
        self.0.tell_muted(me.muted);
        self.0.notify(Notice::Status);
        me
    }

    pub(super) fn desk_master(&self) -> Master {
        Master { gain_db: lock(&self.0.rig).master_gain_db() }
    }

    pub(super) fn desk_set_master(&self, change: MasterChange) -> Master {
        lock(&self.0.rig).set_master(change.gain_db);
        self.0.notify(Notice::Status);
        self.desk_master()
    }

    pub(super) async fn desk_set_link(&self, change: LinkChange) -> Result<Link, BackendError> {
        let inner = self.0.clone();
        off_the_runtime(move || inner.set_link(change.enabled)).await?.map_err(BackendError::Failed)?;
        self.0.notify(Notice::Status);
        Ok(self.shown_link())
    }

    pub(super) fn desk_history(&self, seconds: usize) -> History {
        let history = lock(&self.0.history);
        let rows: Vec<_> = history.device(seconds).copied().collect();
        History {
            interval_s: 1,
            end_ms: history.end_ms(),
            device: DeviceHistory {
                xruns: rows.iter().map(|row| Some(row.xruns)).collect(),
                callback_load: rows.iter().map(|row| row.callback_load).collect(),
                concealed_ms: rows.iter().map(|row| Some(row.concealed_ms)).collect(),
            },
            peers: history.peers(seconds).map(|(peer, name, rows)| peer_history(peer, name, rows)).collect(),
        }
    }

    pub(super) fn desk_diagnosis(&self) -> Diagnosis {
        shown(&lock(&self.0.verdict))
    }

    pub(super) async fn desk_support_files(&self) -> Vec<(String, String)> {
        let Some(support) = self.0.support_files.clone() else { return Vec::new() };
        off_the_runtime(move || support()).await.unwrap_or_default()
    }
}

impl Inner {
    /// Waits until the last change of the device is long enough ago; not for an async task.
    fn wait_for_my_turn_to_switch(&self) -> Result<(), SwitchError> {
        let wait = {
            let mut next = lock(&self.next_switch);
            let now = Instant::now();
            let wait = next.map_or(Duration::ZERO, |at| at.saturating_duration_since(now));
            if wait > SWITCH_PATIENCE {
                return Err(SwitchError::Busy);
            }
            // Who comes next waits behind this one.
            *next = Some(now + wait + BETWEEN_STREAMS);
            wait
        };
        std::thread::sleep(wait);
        Ok(())
    }
}

/// Work that waits for the disk or a driver.
async fn off_the_runtime<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, BackendError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|_| BackendError::Failed("the node is ending, or a part of it failed; see its log".into()))
}

fn not_kept(error: DataDirError) -> BackendError {
    BackendError::Failed(format!("it holds until the node stops, but could not be written down: {error}"))
}

fn color_of(peer: &PeerId) -> &'static str {
    let sum = peer.to_bytes().iter().fold(0usize, |sum, byte| sum + usize::from(*byte));
    COLORS.get(sum % COLORS.len()).copied().unwrap_or("#4aa3df")
}

fn midi_port(port: midi::MidiPort) -> MidiPort {
    MidiPort {
        name: port.name,
        state: match port.state {
            midi::MidiPortState::Open => MidiPortState::Open,
            midi::MidiPortState::Closed => MidiPortState::Closed,
            midi::MidiPortState::Absent => MidiPortState::Absent,
            midi::MidiPortState::Loop => MidiPortState::Loop,
            midi::MidiPortState::Refused => MidiPortState::Refused,
        },
        played_ms_ago: port.played_ns.map(|at| monotonic_ns().saturating_sub(at) / 1_000_000),
    }
}

fn audio_device(device: &device::AudioDevice) -> AudioDevice {
    let rates: BTreeSet<u32> = device
        .rate_hz
        .map(|(lowest, highest)| {
            let within = |rate: &u32| (lowest..=highest).contains(rate);
            let ends = if lowest == highest { Some(lowest) } else { None };
            USUAL_RATES_HZ.into_iter().filter(within).chain(ends).collect()
        })
        .unwrap_or_default();
    let name = if device.description.is_empty() { &device.choice } else { &device.description };
    AudioDevice {
        id: device.choice.clone(),
        host: device.host.clone(),
        name: name.clone(),
        inputs: device.input_channels,
        outputs: device.output_channels,
        rates_hz: rates.into_iter().collect(),
        is_default: device.is_default,
    }
}

fn peer_history<'a>(
    peer: &PeerId,
    name: &str,
    rows: impl Iterator<Item = Option<&'a PeerRow>>,
) -> PeerHistory {
    let rows: Vec<Option<PeerRow>> = rows.map(Option::<&PeerRow>::copied).collect();
    let counts = |get: fn(&PeerRow) -> u64| rows.iter().map(|row| row.as_ref().map(get)).collect();
    let numbers = |get: fn(&PeerNow) -> Option<f64>| {
        rows.iter().map(|row| row.as_ref().and_then(|row| get(&row.now))).collect()
    };
    PeerHistory {
        peer_id: peer.to_string(),
        name: name.to_owned(),
        received: counts(|row| row.received),
        lost: counts(|row| row.lost),
        late: counts(|row| row.late),
        recovered: counts(|row| row.recovered),
        concealed_ms: rows.iter().map(|row| row.as_ref().map(|row| row.concealed_ms)).collect(),
        jitter_ms: numbers(|now| Some(now.jitter_ms)),
        playout_delay_ms: numbers(|now| Some(now.playout_delay_ms)),
        one_way_ms: numbers(|now| now.one_way_ms),
        rtt_ms: numbers(|now| now.rtt_ms),
        clock_offset_us: numbers(|now| now.clock_us.map(|clock| clock.0)),
        clock_error_us: numbers(|now| now.clock_us.map(|clock| clock.1)),
    }
}

fn shown(verdict: &Verdict) -> Diagnosis {
    let (kind, peer_id) = match &verdict.culprit {
        Culprit::None => (CulpritKind::None, None),
        Culprit::Device => (CulpritKind::Device, None),
        Culprit::Cpu => (CulpritKind::Cpu, None),
        Culprit::Network => (CulpritKind::Network, None),
        Culprit::Peer(peer) => (CulpritKind::Peer, Some(peer.clone())),
        Culprit::Clock(peer) => (CulpritKind::Clock, Some(peer.clone())),
        Culprit::Unknown(peer) => (CulpritKind::Unknown, peer.clone()),
    };
    let action = verdict.remedy.as_ref().map(|remedy| {
        let (label, body) = match remedy {
            Remedy::Period(frames) => (format!("Use {frames} frames"), json!({"period_frames": frames})),
            Remedy::BestDevice => ("Use the best device there is".to_owned(), json!({"device": "auto"})),
        };
        Action { label, method: "PUT".to_owned(), path: "/audio".to_owned(), body: Some(body) }
    });
    Diagnosis {
        severity: match verdict.severity {
            diagnosis::Severity::Good => Severity::Good,
            diagnosis::Severity::Notice => Severity::Notice,
            diagnosis::Severity::Bad => Severity::Bad,
        },
        sentence: verdict.sentence.clone(),
        culprit: ShownCulprit { kind, peer_id },
        action,
    }
}
