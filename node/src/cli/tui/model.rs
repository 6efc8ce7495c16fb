//! What the screen shows, and what keys do to it: a value without I/O.

use std::collections::{BTreeMap, VecDeque};

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::cli::printable;
use crate::control::types::{LogLine, Meters, Notification, Peer, Playback, Severity, Status};

/// Lines kept below the band.
const MAX_LINES: usize = 200;
/// One key press changes a gain by this, dB.
const GAIN_STEP_DB: f32 = 1.0;
/// One key press changes the tempo by this, beats a minute.
const TEMPO_STEP_BPM: f64 = 1.0;

/// Messages that may still show what was before a change of mine, because they were on their way when it was made.
const STALE_MESSAGES: u8 = 4;

/// What comes from the thread that speaks with the node.
#[derive(Debug)]
pub(super) enum Said {
    /// The node is there.
    Found,
    /// It is not, and why.
    Lost(String),
    /// One message of its WebSocket.
    Message(Value),
    /// It did not do what was asked, and why.
    Refused(String),
}

/// What is asked of the node.
#[derive(Debug, PartialEq)]
pub(super) enum Request {
    /// A message on the WebSocket.
    Say(Value),
    /// A PUT below `/api/v1`.
    Put {
        /// Where.
        route: String,
        /// What.
        body: Value,
    },
}

/// One line at the bottom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    /// How bad it is.
    pub(super) severity: Severity,
    /// What it says, harmless for a terminal.
    pub(super) text: String,
}

/// Gain, mute and solo of a peer in my own mix.
type Mix = (f32, bool, bool);

/// The screen's state.
#[derive(Debug, Default)]
pub(super) struct Model {
    pub(super) status: Option<Status>,
    pub(super) peers: Vec<Peer>,
    pub(super) meters: Meters,
    pub(super) playback: Option<Playback>,
    pub(super) lines: VecDeque<Line>,
    /// Why there is no node; `None`: there is.
    pub(super) lost: Option<String>,
    /// The selected member; `None`: me.
    selected: Option<String>,
    /// My mix of a peer as I just set it, and how many messages may still say otherwise.
    set: BTreeMap<String, (Mix, u8)>,
    /// The same for my own mute and gain.
    set_me: Option<((bool, f32), u8)>,
    pub(super) help: bool,
    ended: bool,
}

impl Model {
    /// Whether the user has had enough.
    pub(super) fn ended(&self) -> bool {
        self.ended
    }

    /// The row that is selected: 0 is me, then the peers in their order.
    pub(super) fn selected_row(&self) -> usize {
        self.selected_peer().map_or(0, |index| index + 1)
    }

    /// Takes what the node said.
    pub(super) fn hear(&mut self, said: Said) {
        match said {
            Said::Found => {
                if self.lost.take().is_some() {
                    self.say(Severity::Good, "The node is back");
                }
            }
            Said::Lost(why) => {
                if self.lost.is_none() {
                    self.say(Severity::Bad, &why);
                }
                self.lost = Some(printable(&why));
                self.meters = Meters::default();
            }
            Said::Refused(why) => self.say(Severity::Bad, &why),
            Said::Message(message) => self.hear_message(message),
        }
    }

    /// What a key does.
    pub(super) fn press(&mut self, key: KeyEvent) -> Vec<Request> {
        if key.kind == KeyEventKind::Release {
            return Vec::new();
        }
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        match key.code {
            KeyCode::Char('c') if control => self.ended = true,
            KeyCode::Char('q') | KeyCode::Esc if self.help => self.help = false,
            KeyCode::Char('q') | KeyCode::Esc => self.ended = true,
            KeyCode::Char('?' | 'h') => self.help = !self.help,
            KeyCode::Up | KeyCode::Char('k') => self.select(self.selected_row().saturating_sub(1)),
            KeyCode::Down | KeyCode::Char('j') => self.select(self.selected_row() + 1),
            KeyCode::Char('m') => return self.mute(),
            KeyCode::Char('s') => return self.solo(),
            KeyCode::Left | KeyCode::Char('-') => return self.gain(-GAIN_STEP_DB),
            KeyCode::Right | KeyCode::Char('+' | '=') => return self.gain(GAIN_STEP_DB),
            KeyCode::Char(' ') => {
                return self.playback(|now| json!({"playing": !now.playing}));
            }
            KeyCode::Char('c') => return self.playback(|now| json!({"metronome": !now.metronome})),
            KeyCode::Char('[') => return self.tempo(-TEMPO_STEP_BPM),
            KeyCode::Char(']') => return self.tempo(TEMPO_STEP_BPM),
            KeyCode::Char('u') => return vec![Request::Say(json!({"type": "undo"}))],
            KeyCode::Char('r') => return vec![Request::Say(json!({"type": "redo"}))],
            _ => {}
        }
        Vec::new()
    }

    fn hear_message(&mut self, message: Value) {
        let kind = message.get("type").and_then(Value::as_str).unwrap_or_default().to_owned();
        let data = message.get("data").unwrap_or(&Value::Null);
        match kind.as_str() {
            "status" => {
                read(data, &mut self.status);
                self.keep_me();
            }
            "meters" => {
                if let Ok(meters) = Meters::deserialize(data) {
                    self.meters = meters;
                }
            }
            "peers" => {
                if let Ok(peers) = Vec::deserialize(data) {
                    self.peers = peers;
                    self.keep_mixes();
                }
            }
            "playback" | "playback_set" => read(data, &mut self.playback),
            "notification" => {
                if let Ok(said) = Notification::deserialize(data) {
                    self.say(said.severity, &said.text);
                }
            }
            "log" => {
                let lines = message.get("lines").and_then(Value::as_array);
                for line in lines.into_iter().flatten().filter_map(|line| LogLine::deserialize(line).ok()) {
                    let severity = match line.level.as_str() {
                        "error" => Severity::Bad,
                        _ => Severity::Notice,
                    };
                    self.say(severity, &format!("{} {}", line.level, line.message));
                }
            }
            "undone" | "redone" => {
                let label = data.get("label").and_then(Value::as_str).unwrap_or_default();
                let done = if kind == "undone" { "Undone" } else { "Made again" };
                self.say(Severity::Good, &format!("{done}: {label}"));
            }
            "error" => {
                let detail = message.pointer("/problem/detail").and_then(Value::as_str);
                self.say(Severity::Bad, detail.unwrap_or("the node refused, without a reason"));
            }
            _ => {}
        }
    }

    /// What I just set stays shown until the node says the same, or keeps saying otherwise.
    fn keep_mixes(&mut self) {
        for peer in &mut self.peers {
            let Some((wanted, left)) = self.set.get_mut(&peer.peer_id) else { continue };
            if mix(peer) == *wanted || *left == 0 {
                self.set.remove(&peer.peer_id);
            } else {
                *left -= 1;
                (peer.gain_db, peer.muted_by_me, peer.soloed_by_me) = *wanted;
            }
        }
    }

    fn keep_me(&mut self) {
        let (Some(status), Some((wanted, left))) = (&mut self.status, &mut self.set_me) else { return };
        if (status.me.muted, status.me.input_gain_db) == *wanted || *left == 0 {
            self.set_me = None;
        } else {
            *left -= 1;
            (status.me.muted, status.me.input_gain_db) = *wanted;
        }
    }

    fn say(&mut self, severity: Severity, text: &str) {
        if self.lines.len() >= MAX_LINES {
            self.lines.pop_front();
        }
        self.lines.push_back(Line { severity, text: printable(text) });
    }

    fn selected_peer(&self) -> Option<usize> {
        let selected = self.selected.as_ref()?;
        self.peers.iter().position(|peer| peer.peer_id == *selected)
    }

    fn select(&mut self, row: usize) {
        let row = row.min(self.peers.len());
        let peer = row.checked_sub(1).and_then(|index| self.peers.get(index));
        self.selected = peer.map(|peer| peer.peer_id.clone());
    }

    fn mute(&mut self) -> Vec<Request> {
        if let Some(peer) = self.selected_peer().and_then(|index| self.peers.get_mut(index)) {
            peer.muted_by_me = !peer.muted_by_me;
            self.set.insert(peer.peer_id.clone(), (mix(peer), STALE_MESSAGES));
            return vec![put_peer(&peer.peer_id, json!({"muted_by_me": peer.muted_by_me}))];
        }
        let Some(status) = &mut self.status else { return Vec::new() };
        status.me.muted = !status.me.muted;
        self.set_me = Some(((status.me.muted, status.me.input_gain_db), STALE_MESSAGES));
        vec![Request::Put { route: "/me".into(), body: json!({"muted": status.me.muted}) }]
    }

    fn solo(&mut self) -> Vec<Request> {
        let Some(peer) = self.selected_peer().and_then(|index| self.peers.get_mut(index)) else {
            return self.cannot("select another player with the arrow keys to solo them");
        };
        peer.soloed_by_me = !peer.soloed_by_me;
        self.set.insert(peer.peer_id.clone(), (mix(peer), STALE_MESSAGES));
        vec![put_peer(&peer.peer_id, json!({"soloed_by_me": peer.soloed_by_me}))]
    }

    fn gain(&mut self, step_db: f32) -> Vec<Request> {
        // Shown at once, so that five quick presses are five steps.
        if let Some(peer) = self.selected_peer().and_then(|index| self.peers.get_mut(index)) {
            peer.gain_db = (peer.gain_db.round() + step_db).clamp(-60.0, 12.0);
            self.set.insert(peer.peer_id.clone(), (mix(peer), STALE_MESSAGES));
            return vec![put_peer(&peer.peer_id, json!({"gain_db": peer.gain_db}))];
        }
        let Some(status) = &mut self.status else { return Vec::new() };
        let gain_db = (status.me.input_gain_db.round() + step_db).clamp(-60.0, 12.0);
        status.me.input_gain_db = gain_db;
        self.set_me = Some(((status.me.muted, gain_db), STALE_MESSAGES));
        vec![Request::Put { route: "/me".into(), body: json!({"input_gain_db": gain_db}) }]
    }

    fn tempo(&mut self, step_bpm: f64) -> Vec<Request> {
        let requests =
            self.playback(|now| json!({"tempo_bpm": (now.tempo_bpm.round() + step_bpm).clamp(20.0, 999.0)}));
        if let (Some(Request::Say(message)), Some(playback)) = (requests.first(), self.playback.as_mut()) {
            let tempo = message.pointer("/change/tempo_bpm").and_then(Value::as_f64);
            playback.tempo_bpm = tempo.unwrap_or(playback.tempo_bpm);
        }
        requests
    }

    fn playback(&mut self, change: impl FnOnce(&Playback) -> Value) -> Vec<Request> {
        match &self.playback {
            Some(now) => vec![Request::Say(json!({"type": "playback", "change": change(now)}))],
            None => Vec::new(),
        }
    }

    fn cannot(&mut self, why: &str) -> Vec<Request> {
        self.say(Severity::Notice, why);
        Vec::new()
    }
}

fn mix(peer: &Peer) -> Mix {
    (peer.gain_db, peer.muted_by_me, peer.soloed_by_me)
}

fn put_peer(peer_id: &str, body: Value) -> Request {
    Request::Put { route: format!("/peers/{peer_id}"), body }
}

fn read<T: for<'a> Deserialize<'a>>(data: &Value, into: &mut Option<T>) {
    if let Ok(value) = T::deserialize(data) {
        *into = Some(value);
    }
}
