//! What the player answered on the page, for the next start.
//!
//! `config.toml` belongs to the player's editor and is never written; what the page is told goes into `profile.json` beside
//! it and counts less than everything a player writes themselves. A file that makes no sense is a player who was not
//! asked yet: nothing that matters is lost with it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use crate::cli::data_dir::{DataDirError, write_whole};
use crate::cli::{is_port_name, printable};

/// The file's name in the data directory.
const FILE_NAME: &str = "profile.json";
/// A profile is some hundred bytes; more is something else.
const MAX_BYTES: u64 = 64 * 1024;
/// Longest name and instrument, in characters.
const MAX_CHARS: usize = 64;
/// Sessions whose introductions are remembered. Who plays in more is introduced to some of them anew.
const MAX_SESSIONS: usize = 64;

/// The answers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Profile {
    /// Whether the player has been through the first questions.
    pub done: bool,
    /// The name they gave on the page.
    pub name: Option<String>,
    /// Their colour as `#rrggbb`.
    pub color: Option<String>,
    /// What they play; empty: not said.
    pub instrument: String,
    /// The sound card they chose on the page.
    pub audio: Option<RememberedAudio>,
    /// The MIDI ports they chose on the page.
    pub midi: Option<RememberedMidi>,
    /// What each session's project was last told of the player on their behalf.
    pub introduced: BTreeMap<String, Introduction>,
}

/// How a player appears to the others.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Introduction {
    /// Their name.
    pub name: String,
    /// Their colour as `#rrggbb`, if they chose one.
    pub color: Option<String>,
    /// What they play; empty: not said.
    pub instrument: String,
}

impl Introduction {
    /// What is said, as the project's fields of a member and their values.
    #[must_use]
    pub fn fields(&self) -> Vec<(&'static str, &str)> {
        let instrument = Some(self.instrument.as_str()).filter(|instrument| !instrument.is_empty());
        let fields =
            [("name", Some(&*self.name)), ("color", self.color.as_deref()), ("instrument", instrument)];
        fields.into_iter().filter_map(|(field, value)| Some((field, value?))).collect()
    }
}

/// A sound card chosen on the page.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RememberedAudio {
    /// As `--audio`.
    pub device: String,
    /// As `--rate`.
    pub rate_hz: Option<u32>,
    /// As `--period`.
    pub period_frames: Option<u32>,
}

/// MIDI ports chosen on the page.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RememberedMidi {
    /// Whether to listen to every instrument.
    pub all_inputs: bool,
    /// Inputs by name, as `--midi-in`.
    pub inputs: Vec<String>,
    /// Outputs by name, as `--midi-out`.
    pub outputs: Vec<String>,
}

/// The profile and the file it is kept in.
///
/// Thread-safe: yes. Cheap to clone; all clones are one.
#[derive(Debug, Clone, Default)]
pub struct ProfileStore {
    path: Option<PathBuf>,
    profile: Arc<Mutex<Profile>>,
}

impl ProfileStore {
    /// The profile in a data directory, or an empty one.
    #[must_use]
    pub fn open(data_dir: &Path) -> Self {
        Self { path: Some(data_dir.join(FILE_NAME)), profile: Arc::new(Mutex::new(read(data_dir))) }
    }

    /// Answers that are written down nowhere.
    #[must_use]
    pub fn of(profile: Profile) -> Self {
        Self { path: None, profile: Arc::new(Mutex::new(profile)) }
    }

    /// The answers now.
    #[must_use]
    pub fn get(&self) -> Profile {
        self.profile.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Changes the answers and writes them down. Waits for the disk.
    ///
    /// # Errors
    /// If they cannot be written; they hold until the node stops then.
    pub fn change(&self, change: impl FnOnce(&mut Profile)) -> Result<Profile, DataDirError> {
        // Held while writing, so that the file ends up with the last change.
        let mut profile = self.profile.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut profile);
        if let Some(path) = &self.path {
            let text = serde_json::to_string_pretty(&*profile).unwrap_or_default();
            write_whole(path, format!("{text}\n").as_bytes(), 0o600)?;
        }
        Ok(profile.clone())
    }

    /// Remembers what the project of `session` was told. Waits for the disk if that is news.
    ///
    /// # Errors
    /// As [`Self::change`].
    pub fn introduced(&self, session: &str, as_what: Introduction) -> Result<(), DataDirError> {
        if self.get().introduced.get(session) == Some(&as_what) {
            return Ok(());
        }
        let remember = |profile: &mut Profile| {
            if profile.introduced.len() >= MAX_SESSIONS && !profile.introduced.contains_key(session) {
                profile.introduced.pop_first();
            }
            profile.introduced.insert(session.to_owned(), as_what);
        };
        self.change(remember).map(drop)
    }
}

/// The profile in a data directory; an empty one if there is none that makes sense.
pub(crate) fn read(data_dir: &Path) -> Profile {
    let mut bytes = Vec::new();
    let read =
        File::open(data_dir.join(FILE_NAME)).and_then(|file| file.take(MAX_BYTES).read_to_end(&mut bytes));
    let profile = read.ok().and_then(|_| serde_json::from_slice::<Profile>(&bytes).ok()).unwrap_or_default();
    let fits = |text: &String| text.chars().count() <= MAX_CHARS && *text == printable(text);
    Profile {
        name: profile.name.filter(|name| fits(name) && !name.trim().is_empty()),
        instrument: Some(profile.instrument).filter(fits).unwrap_or_default(),
        midi: profile
            .midi
            .filter(|midi| midi.inputs.iter().chain(&midi.outputs).all(|name| is_port_name(name))),
        ..profile
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_there_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let store = ProfileStore::open(dir.path());
        assert_eq!(store.get(), Profile::default());
        store
            .change(|profile| {
                profile.name = Some("Maya".into());
                profile.done = true;
            })
            .unwrap();
        assert_eq!(ProfileStore::open(dir.path()).get(), store.get());
        assert_eq!(store.get().name.as_deref(), Some("Maya"));
    }

    #[test]
    fn introductions_are_remembered_by_session_and_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let store = ProfileStore::open(dir.path());
        let maya = Introduction { name: "Maya".into(), ..Introduction::default() };
        for number in 0..2 * MAX_SESSIONS {
            store.introduced(&format!("session {number:03}"), maya.clone()).unwrap();
        }
        let remembered = ProfileStore::open(dir.path()).get().introduced;
        assert_eq!(remembered.len(), MAX_SESSIONS);
        assert_eq!(remembered.last_key_value(), Some((&"session 127".to_owned(), &maya)));
    }

    #[test]
    fn ports_that_nobody_could_have_chosen_are_not_remembered() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["", "a\\u001b[2J"] {
            let text = format!(
                r#"{{"done": true, "midi": {{"all_inputs": true, "inputs": ["{name}"], "outputs": []}}}}"#
            );
            std::fs::write(dir.path().join(FILE_NAME), text).unwrap();
            assert_eq!(read(dir.path()), Profile { done: true, ..Profile::default() }, "{name:?}");
        }
    }

    #[test]
    fn damaged_or_hostile_profile_is_an_unanswered_one() {
        let dir = tempfile::tempdir().unwrap();
        for text in
            ["", "{", "[1]", "{\"name\": 7}", "{\"name\": \"a\\u001b[2J\"}", "{\"name\": \"  \"}", "\0\0\0"]
        {
            std::fs::write(dir.path().join(FILE_NAME), text).unwrap();
            assert_eq!(read(dir.path()), Profile::default(), "{text:?}");
        }
        std::fs::write(dir.path().join(FILE_NAME), vec![b' '; 1 << 20]).unwrap();
        assert_eq!(read(dir.path()), Profile::default());
    }
}
