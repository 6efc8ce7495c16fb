//! Undo and redo of what was edited here.
//!
//! Problem: everybody edits one project, so going back in its history would take back other people's work. Idea: for each
//! gesture made here, remember of every register it wrote the value before and *which operation* wrote the value after. Undo
//! is an ordinary edit that writes the old values, and only to registers where that very operation still stands: what
//! anybody has changed since is left alone and named.
//!
//! A register that did not exist before goes back to its default, since registers are never taken away; a track that was
//! added is marked as deleted, and only while nobody else has worked on it. Chat is not undone: it has been read.
//!
//! Limits: [`MAX_STEPS`] gestures, in memory, of this start of the node.

use std::collections::{BTreeMap, VecDeque};

use automerge::ScalarValue;
use serde_json::Value;

use super::place::{self, CHAT, MIXER, ROOT};
use super::view::to_json;
use super::{Edits, Project};
use crate::command::{Command, CommandError};
use crate::member::PeerKey;
use crate::parameter::{DefaultValue, parameter};
use crate::storage::BatchId;

/// Gestures that can be undone; one more makes the oldest permanent.
pub const MAX_STEPS: usize = 200;
/// Edits of the same numbers closer than this are one gesture: a drag commits four times a second.
const SAME_GESTURE_MS: u64 = 700;

/// What an undo or redo did.
#[derive(Clone, Debug, PartialEq)]
pub struct Undone {
    /// The gesture, such as `Gain of Bea`.
    pub label: String,
    /// What reads differently now, and how; `None` for what is no parameter.
    pub changed: Vec<(String, Option<Value>)>,
    /// What was left alone, and who changed it since.
    pub kept: Vec<(String, PeerKey)>,
    /// The write that makes it durable; `None` if nothing had to be written.
    pub batch: Option<BatchId>,
    /// What can be undone and redone now.
    pub left: UndoLeft,
}

/// What can be undone and redone: the gestures' labels.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UndoLeft {
    /// What undo would take back.
    pub undo: Option<String>,
    /// What redo would make again.
    pub redo: Option<String>,
}

/// Why nothing was undone or redone.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum UndoError {
    /// There is no gesture.
    #[error("there is nothing to {}; only this node's own edits since its start can be undone", if *.redo { "redo" } else { "undo" })]
    Nothing {
        /// Whether redo was asked for.
        redo: bool,
    },
    /// Others have changed all of it since; the gesture is forgotten.
    #[error(
        "{label}: {address} was changed since by {name}, so it stays; undo once more takes the edit before it"
    )]
    ChangedSince {
        /// The gesture.
        label: String,
        /// Some address it wrote.
        address: String,
        /// Who changed that.
        by: PeerKey,
        /// That member's name, or peer id.
        name: String,
    },
    /// The edit could not be made; the gesture can be undone later.
    #[error(transparent)]
    Command(#[from] CommandError),
}

/// The gestures that can be undone and redone.
#[derive(Default)]
pub(super) struct History {
    undo: VecDeque<Step>,
    redo: Vec<Step>,
}

struct Step {
    label: String,
    at_ms: u64,
    changes: Vec<Change>,
}

#[derive(Clone)]
struct Change {
    document: String,
    key: String,
    /// What to write to take the step back, and what stands there until then.
    from: ScalarValue,
    to: ScalarValue,
    /// The write that is to be taken back; `None`: the register was not there.
    mark: Option<Mark>,
    /// The write before that, which the step before this one may have made.
    under: Option<Mark>,
    /// It made the track whose `deleted` this is.
    creates: bool,
}

/// One write: the operation's counter and who made it.
type Mark = (u64, PeerKey);

/// Registers as they stood before a gesture.
pub(super) type Before = BTreeMap<(String, String), Option<(Mark, ScalarValue)>>;

impl Project {
    /// What can be undone and redone.
    pub fn undo_left(&self) -> UndoLeft {
        UndoLeft {
            undo: self.history.undo.back().map(|step| step.label.clone()),
            redo: self.history.redo.last().map(|step| step.label.clone()),
        }
    }

    /// Takes the latest gesture made by [`Project::gesture`] back, or with `redo` makes the latest undone one again.
    ///
    /// # Errors
    /// [`UndoError`]; nothing was changed.
    pub fn undo(&mut self, now_ms: u64, redo: bool) -> Result<Undone, UndoError> {
        self.check_saving()?;
        let step = if redo { self.history.redo.pop() } else { self.history.undo.pop_back() };
        let Some(step) = step else { return Err(UndoError::Nothing { redo }) };
        let (mut ours, mut kept) = (Vec::new(), Vec::new());
        for change in &step.changes {
            match self.overwritten(change) {
                None => ours.push(change.clone()),
                Some(by) => kept.push((place::address(&change.document, &change.key), by)),
            }
        }
        if ours.is_empty()
            && let Some((address, by)) = kept.first()
        {
            let (address, by) = (address.clone(), *by);
            let name = if by == self.me { "you".to_owned() } else { self.name_of(&by.name()) };
            return Err(UndoError::ChangedSince { label: step.label, address, by, name });
        }
        let mut edits = Edits::new();
        for change in &ours {
            edits.entry(change.document.clone()).or_default().insert(change.key.clone(), change.from.clone());
        }
        let batch = match self.write(now_ms, &edits) {
            Ok(batch) => batch,
            Err(error) => {
                self.history.put(step, redo);
                return Err(error.into());
            }
        };
        let mut changed: Vec<(String, Option<Value>)> = Vec::new();
        for change in &mut ours {
            std::mem::swap(&mut change.from, &mut change.to);
            let new = self.mark(&change.document, &change.key).map(|(mark, _)| mark);
            self.history.stands_again(change, new);
            (change.mark, change.under) = (new, change.mark);
            let address = address_of(change);
            let value = parameter(&address).map(|_| to_json(&change.to));
            changed.push((address, value));
        }
        self.history.put(Step { label: step.label.clone(), at_ms: 0, changes: ours }, !redo);
        Ok(Undone { label: step.label, changed, kept, batch, left: self.undo_left() })
    }

    /// The registers that a gesture is about to write, and how people would call it.
    pub(super) fn before(&self, edits: &Edits, commands: &[Command]) -> (Before, String) {
        let keys = edits.iter().flat_map(|(document, values)| values.keys().map(move |key| (document, key)));
        let before = keys.map(|(document, key)| ((document.clone(), key.clone()), self.mark(document, key)));
        (before.collect(), self.label(commands))
    }

    /// Remembers a gesture that was made.
    pub(super) fn remember(&mut self, now_ms: u64, before: Before, label: String) {
        let mut changes = Vec::new();
        let stood = |key: String| before.get(&(ROOT.to_owned(), key));
        let is_new = |id: &str| stood(format!("tracks/{id}/order")) == Some(&None);
        let is_hidden = |id: &str| stood(format!("tracks/{id}/deleted")).is_some();
        for ((document, key), before) in &before {
            let Some((mark, to)) = self.mark(document, key) else { continue };
            if before.as_ref().is_some_and(|(old, _)| *old == mark) || document == CHAT {
                continue;
            }
            let track = (document == ROOT).then(|| key.strip_prefix("tracks/")?.split_once('/')).flatten();
            let change = match track {
                Some((id, "order")) if is_new(id) && !is_hidden(id) => Change {
                    key: format!("tracks/{id}/deleted"),
                    from: ScalarValue::Boolean(true),
                    to: ScalarValue::Boolean(false),
                    mark: None,
                    under: None,
                    creates: true,
                    document: document.clone(),
                },
                Some((id, _)) if is_new(id) => continue,
                _ => {
                    let from = match before {
                        Some((_, value)) => value.clone(),
                        None => match default_of(document, key, &self.session_name) {
                            Some(value) => value,
                            None => continue,
                        },
                    };
                    let (document, key) = (document.clone(), key.clone());
                    let under = before.as_ref().map(|(mark, _)| *mark);
                    Change { document, key, from, to, mark: Some(mark), under, creates: false }
                }
            };
            changes.push(change);
        }
        if changes.is_empty() {
            return;
        }
        self.history.redo.clear();
        if !self.history.continues(now_ms, &before, &changes) {
            self.history.put(Step { label, at_ms: now_ms, changes }, false);
        }
    }

    fn mark(&self, document: &str, key: &str) -> Option<(Mark, ScalarValue)> {
        let register = self.documents.get(document)?.register(key)?;
        Some(((register.operation, register.by), register.value.clone()))
    }

    /// Who has changed since what `change` wrote.
    fn overwritten(&self, change: &Change) -> Option<PeerKey> {
        let now = self.mark(&change.document, &change.key).map(|(mark, _)| mark);
        if now != change.mark {
            return Some(now.map_or(self.me, |(_, by)| by));
        }
        let id = change.key.strip_prefix("tracks/")?.strip_suffix("/deleted")?;
        if change.from.as_bool() != Some(true) || change.document != ROOT {
            return None;
        }
        // Hiding a track hides what others did to it.
        let since = if change.creates { 0 } else { change.mark.map_or(0, |(operation, _)| operation) };
        let work = |document: &str, prefix: &str, since: u64| {
            let registers = self.documents.get(document)?.registers(prefix);
            let mut others = registers.filter(|(_, r)| r.by != self.me && r.operation > since);
            others.next().map(|(_, register)| register.by)
        };
        let elsewhere = || {
            if !change.creates {
                return None;
            }
            work(MIXER, &format!("strip/{id}/"), 0)
        };
        work(ROOT, &format!("tracks/{id}/"), since).or_else(elsewhere)
    }

    fn label(&self, commands: &[Command]) -> String {
        let Some(first) = commands.first() else { return String::new() };
        let parts: Vec<&str> = first.address().split('/').skip(1).collect();
        let label = match (first, parts.as_slice()) {
            (Command::Add { value, .. }, ["tracks"]) => {
                let name = value.get("name").and_then(Value::as_str);
                name.map_or("New track".to_owned(), |name| format!("New track {name}"))
            }
            (Command::Move { .. }, [_, id]) => format!("Move of {}", self.name_of(id)),
            (Command::Delete { .. }, [_, id]) => format!("Delete {}", self.name_of(id)),
            (_, ["mixer", "strip", id, field]) => format!("{} of {}", word(field), self.name_of(id)),
            (_, ["tracks" | "members", id, field]) => format!("{} of {}", word(field), self.name_of(id)),
            (_, ["session", "name"]) => "Session name".to_owned(),
            (_, [.., field]) => word(field),
            _ => "Edit".to_owned(),
        };
        match commands.len() {
            1 => label,
            more => format!("{label} and {} more", more - 1),
        }
    }

    /// The name of a member or track, or its id.
    fn name_of(&self, id: &str) -> String {
        let of = |group: &str| {
            // A name that nobody has given is none.
            self.mark(ROOT, &format!("{group}/{id}/name"))?;
            self.text(&format!("/{group}/{id}/name")).filter(|name| !name.is_empty())
        };
        of("members").or_else(|| of("tracks")).unwrap_or_else(|| id.chars().take(64).collect())
    }
}

impl History {
    fn put(&mut self, step: Step, redo: bool) {
        if redo {
            self.redo.push(step);
        } else {
            if self.undo.len() >= MAX_STEPS {
                self.undo.pop_front();
            }
            self.undo.push_back(step);
        }
    }

    /// What the write under `change` made stands again, by the write `new`: whoever wants to take that one back finds it.
    fn stands_again(&mut self, change: &Change, new: Option<Mark>) {
        let steps = self.undo.iter_mut().chain(&mut self.redo);
        for other in steps.flat_map(|step| &mut step.changes) {
            if other.document == change.document && other.key == change.key && other.mark == change.under {
                other.mark = new;
            }
        }
    }

    /// Makes `changes` part of the gesture before, if they go on with it.
    fn continues(&mut self, now_ms: u64, before: &Before, changes: &[Change]) -> bool {
        let Some(step) = self.undo.back_mut() else { return false };
        let drags = |change: &Change| matches!(change.to, ScalarValue::F64(_));
        let goes_on = |(old, new): (&Change, &Change)| {
            let stood = before.get(&(new.document.clone(), new.key.clone()));
            let stood = stood.and_then(|stood| stood.as_ref()).map(|(mark, _)| *mark);
            old.document == new.document && old.key == new.key && old.mark == stood && drags(new)
        };
        if step.changes.len() != changes.len()
            || now_ms.saturating_sub(step.at_ms) > SAME_GESTURE_MS
            || !step.changes.iter().zip(changes).all(goes_on)
        {
            return false;
        }
        step.at_ms = now_ms;
        for (old, new) in step.changes.iter_mut().zip(changes) {
            (old.to, old.mark) = (new.to.clone(), new.mark);
        }
        true
    }
}

/// The address people know: a track's for its `deleted`.
fn address_of(change: &Change) -> String {
    let address = place::address(&change.document, &change.key);
    address.strip_suffix("/deleted").map(str::to_owned).unwrap_or(address)
}

/// What a register that does not exist reads as, in a session of that name.
fn default_of(document: &str, key: &str, session_name: &str) -> Option<ScalarValue> {
    if document == ROOT && key.starts_with("tracks/") && key.ends_with("/deleted") {
        return Some(ScalarValue::Boolean(false));
    }
    Some(match parameter(&place::address(document, key))?.default {
        DefaultValue::Number(number) => ScalarValue::F64(number),
        DefaultValue::Flag(flag) => ScalarValue::Boolean(flag),
        DefaultValue::Text(text) => ScalarValue::from(text),
        DefaultValue::SessionName => ScalarValue::from(session_name),
    })
}

/// A field's name as people read it.
fn word(field: &str) -> String {
    match field {
        "gain_db" => "Gain".into(),
        "tempo_bpm" => "Tempo".into(),
        "color" => "Colour".into(),
        other => {
            let text = other.replace('_', " ");
            let mut chars = text.chars();
            chars.next().map_or(String::new(), |first| first.to_uppercase().chain(chars).collect())
        }
    }
}
