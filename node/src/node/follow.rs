//! What the node does about the project's values: the shared mix is heard, tempo and meter are kept.
//!
//! Reading the project may wait for a merge, so it happens on a task of its own, never in the brain. Requests
//! while it runs are folded into one more round.
//!
//! Tempo and meter live twice: in the beat register, which plays, and in the project, where the next session begins
//! with them. A player's change is an edit of the project first and reaches the register after it. What Link changes
//! is written down here, at most four times a second. After a split the two may have had different winners; then the
//! register stands, and the member with the smallest id writes it down.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use engine::Strip;
use serde_json::{Value, json};
use transport::PeerId;

use super::brain::{Inner, lock};
use crate::{device::monotonic_ns, session::beat::BeatRegister};

/// Rounds of [`Inner::keep_beat`] for which project and register may differ in one and the same way before somebody who
/// changed neither writes: a second, in which the author's own write arrives.
const PATIENCE_ROUNDS: u32 = 4;
/// Beats of a bar where the project says none.
const DEFAULT_BEATS_PER_BAR: u8 = 4;
/// Strips that are followed; the project may hold more than a band has players.
const MAX_STRIPS: usize = 1024;

/// What is known of the project.
#[derive(Default)]
pub struct Following {
    /// Values have changed since the last reading began.
    stale: AtomicBool,
    reading: AtomicBool,
    beat: Mutex<Option<ProjectBeat>>,
    /// The players' strips as the project has them.
    pub strips: Mutex<BTreeMap<PeerId, Strip>>,
    /// Addresses that have changed since the last reading began.
    pub changed: Mutex<BTreeSet<String>>,
    /// What the project calls this player, as long as the members were not told.
    pub my_name: Mutex<Option<String>>,
    /// Held while that is read.
    pub reading_my_name: tokio::sync::Mutex<()>,
    /// A timer runs for touches that wait until they may be sent.
    pub sending_touches: AtomicBool,
    /// The register was changed here by somebody who does not write the project: Link, or an edit that failed.
    pub unwritten_beat: AtomicBool,
    /// Edits on their way from the project to the register, which is changed once they are on disk.
    edits: AtomicUsize,
}

/// An edit on its way from the project to the register, until dropped.
pub struct Editing<'a>(&'a AtomicUsize);

impl Following {
    /// Until this ends, that the register differs from the project is no reason to write.
    pub fn editing(&self) -> Editing<'_> {
        self.edits.fetch_add(1, Ordering::AcqRel);
        Editing(&self.edits)
    }
}

impl Drop for Editing<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Tempo and meter as the project has them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ProjectBeat {
    /// Beats per minute.
    pub tempo_bpm: f64,
    /// Beats in a bar.
    pub beats_per_bar: u8,
}

impl ProjectBeat {
    /// From the project's `/transport`; `None` if it has no tempo. A meter that makes no sense is 4/4.
    pub fn from_json(value: &Value) -> Option<Self> {
        let tempo_bpm = value.get("tempo_bpm")?.as_f64()?;
        let meter = value.get("time_signature").and_then(Value::as_str).and_then(beats_per_bar);
        Some(Self { tempo_bpm, beats_per_bar: meter.unwrap_or(DEFAULT_BEATS_PER_BAR) })
    }

    fn of(register: &BeatRegister) -> Self {
        Self { tempo_bpm: register.tempo_bpm, beats_per_bar: register.beats_per_bar }
    }
}

/// For how many rounds register and project have differed with no change of either.
#[derive(Debug, Default)]
pub struct Patience {
    differ: Option<((u64, u64), ProjectBeat)>,
    rounds: u32,
}

impl Patience {
    /// One more round in which the register of this version and the project's beat differ; how many that makes.
    fn wait(&mut self, version: (u64, u64), stored: ProjectBeat) -> u32 {
        if self.differ.replace((version, stored)) != Some((version, stored)) {
            self.rounds = 0;
        }
        self.rounds += 1;
        self.rounds
    }
}

/// Beats of a bar in a time signature that the project takes, such as `3/4`.
pub fn beats_per_bar(text: &str) -> Option<u8> {
    let meter = crdt::parameter("/transport/time_signature")?;
    meter.check(&json!(text)).ok()?;
    text.split_once('/')?.0.parse().ok()
}

impl Inner {
    /// Takes the project's mix and beat into account, soon.
    pub fn follow_project(self: &Arc<Self>) {
        self.following.stale.store(true, Ordering::Release);
        if self.following.reading.swap(true, Ordering::AcqRel) {
            return;
        }
        let inner = self.clone();
        tokio::spawn(async move {
            while inner.following.stale.swap(false, Ordering::AcqRel) {
                inner.read_project().await;
            }
            inner.following.reading.store(false, Ordering::Release);
            if inner.following.stale.load(Ordering::Acquire) {
                // A request came between the last look and the end.
                inner.follow_project();
            }
        });
    }

    /// Writes tempo and meter into the project where that is this node's part; call four times a second.
    pub fn keep_beat(&self, patience: &mut Patience) {
        if self.following.edits.load(Ordering::Acquire) > 0 {
            return *patience = Patience::default();
        }
        let Some(stored) = *lock(&self.following.beat) else { return };
        let (register, acts) = {
            let session = lock(&self.session);
            let acts = session.acts_for(session.members().map(|(peer, _)| peer));
            (session.beat(), acts)
        };
        let playing = ProjectBeat::of(&register);
        let unwritten = self.following.unwritten_beat.swap(false, Ordering::AcqRel);
        if playing == stored {
            *patience = Patience::default();
            return;
        }
        let waited = patience.wait((register.counter, register.author), stored);
        if unwritten || (acts && waited >= PATIENCE_ROUNDS) {
            tracing::debug!(?playing, ?stored, unwritten, "the project is told the beat that plays");
            *patience = Patience::default();
            *lock(&self.following.beat) = Some(playing);
            let set = |address: &str, value: Value| crdt::Command::Set { address: address.to_owned(), value };
            self.project.note(vec![
                set("/transport/tempo_bpm", json!(playing.tempo_bpm)),
                set("/transport/time_signature", json!(format!("{}/4", playing.beats_per_bar))),
            ]);
        }
    }

    async fn read_project(&self) {
        if let Ok(Some(transport)) = self.project.read(Some("/transport".into())).await {
            *lock(&self.following.beat) = ProjectBeat::from_json(&transport);
        }
        // What is let go by now stays laid over until the values read here are played.
        let changed = std::mem::take(&mut *lock(&self.following.changed));
        let strips = self.project.read(Some("/mixer/strip".into())).await;
        if let Ok(Some(Value::Object(strips))) = strips {
            let players = strips.iter().take(MAX_STRIPS);
            let players = players.filter_map(|(id, value)| Some((id.parse().ok()?, strip(value))));
            let players: BTreeMap<PeerId, Strip> = players.collect();
            let peers: Vec<PeerId> = players.keys().copied().collect();
            *lock(&self.following.strips) = players;
            for peer in peers {
                self.mix(&peer);
            }
        }
        lock(&self.session).handle_project_followed(monotonic_ns() as i64, &changed);
        self.pump();
    }

    /// The project has changed where nothing is followed: what was let go there is over.
    pub fn settle_touches(&self) {
        let changed = std::mem::take(&mut *lock(&self.following.changed));
        lock(&self.session).handle_project_followed(monotonic_ns() as i64, &changed);
        self.pump();
    }
}

fn strip(value: &Value) -> Strip {
    let number = |key: &str| value.get(key).and_then(Value::as_f64).unwrap_or_default() as f32;
    let flag = |key: &str| value.get(key).and_then(Value::as_bool).unwrap_or_default();
    Strip { gain_db: number("gain_db"), pan: number("pan"), mute: flag("mute"), solo: flag("solo") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_signatures_are_quarters_in_a_bar() {
        assert_eq!(beats_per_bar("3/4"), Some(3));
        assert_eq!(beats_per_bar("16/4"), Some(16));
        for bad in ["", "4", "0/4", "17/4", "6/8", "x/4", "-1/4", "+3/4", "03/4"] {
            assert_eq!(beats_per_bar(bad), None, "{bad}");
        }
    }

    #[test]
    fn patience_begins_anew_with_each_change_of_either_side() {
        let beat = |tempo_bpm| ProjectBeat { tempo_bpm, beats_per_bar: 4 };
        let mut patience = Patience::default();
        let waited = [(1, 120.0), (1, 120.0), (2, 120.0), (2, 120.0), (2, 140.0), (2, 140.0), (2, 140.0)]
            .map(|(counter, tempo_bpm)| patience.wait((counter, 7), beat(tempo_bpm)));
        assert_eq!(waited, [1, 2, 1, 2, 1, 2, 3]);
    }

    #[test]
    fn the_projects_beat_is_read_or_left_alone() {
        let good = json!({"tempo_bpm": 97.5, "time_signature": "3/4"});
        assert_eq!(ProjectBeat::from_json(&good), Some(ProjectBeat { tempo_bpm: 97.5, beats_per_bar: 3 }));
        // The tempo counts, whatever the meter says.
        let odd = json!({"tempo_bpm": 97.5, "time_signature": "6/8"});
        assert_eq!(ProjectBeat::from_json(&odd), Some(ProjectBeat { tempo_bpm: 97.5, beats_per_bar: 4 }));
        assert_eq!(ProjectBeat::from_json(&json!({})), None);
    }
}
