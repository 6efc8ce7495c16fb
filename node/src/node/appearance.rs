//! How this player appears to the others: name, colour, instrument.
//!
//! Two places say so. The player does, by `--name` and on the page; and the project does, where anybody may edit
//! `/members/PEER_ID`. Neither simply wins: a start must not take back what was edited and acknowledged, and must not
//! leave a player under an old name who asks for a new one. So a node remembers what it told this session's project on
//! the player's behalf, and tells it again only what the player says differently now. What stands in the project is how
//! the player appears, to the session's members too.

use std::time::{Duration, Instant};

use crdt::Command as Edit;
use serde_json::{Value, json};
use transport::PeerId;

use super::brain::{Inner, lock};
use crate::{
    cli::{Introduction, ProfileStore, printable},
    device::monotonic_ns,
};

/// Time between two names that are told to the members, who send somebody away that changes names all the time
/// (`session::MAX_CHURN`). A bandmate may edit mine as fast as they like.
const BETWEEN_NAMES: Duration = Duration::from_secs(2);

/// What a start does about the player's appearance.
#[derive(Debug, PartialEq, Eq)]
pub struct Appearance {
    /// The player's name from now on.
    pub name: String,
    /// What the project is told, as field and value.
    pub told: Vec<(&'static str, String)>,
    /// What the player said, to be remembered with it.
    pub said: Introduction,
}

impl Appearance {
    /// From what the player says now, what the project was told on their behalf before, and what it holds at
    /// `/members/PEER_ID`.
    pub fn new(said: Introduction, told_before: Option<&Introduction>, stored: Option<&Value>) -> Self {
        let stored = |field: &str| stored.and_then(|member| member.get(field)?.as_str());
        let mut told = Vec::new();
        let mut name = said.name.clone();
        for (field, value) in said.fields() {
            match stored(field) {
                Some(stored)
                    if told_before.is_some_and(|before| before.fields().contains(&(field, value))) =>
                {
                    if field == "name" && is_a_name(stored) {
                        name = stored.to_owned();
                    }
                }
                Some(stored) if stored == value => {}
                _ => told.push((field, value.to_owned())),
            }
        }
        Self { name, told, said }
    }
}

/// What the player says of themselves at a start that was told a name or was not; who never said one has the `suggested`.
pub fn said(given_name: Option<&str>, suggested: &str, profile: &ProfileStore) -> Introduction {
    let profile = profile.get();
    let name = given_name.map(str::to_owned).or(profile.name).unwrap_or_else(|| suggested.to_owned());
    Introduction { name, color: profile.color, instrument: profile.instrument }
}

/// Whether somebody can be called that, on the members' screens and terminals. The project takes any text.
fn is_a_name(text: &str) -> bool {
    !text.trim().is_empty() && text == printable(text)
}

/// A member's place in the project.
pub fn address(peer: &PeerId) -> String {
    format!("/members/{peer}")
}

impl Inner {
    /// The player's name now.
    pub fn name(&self) -> String {
        lock(&self.name).clone()
    }

    /// Another name, told to everybody.
    pub fn rename(&self, name: String) {
        lock(&self.name).clone_from(&name);
        lock(&self.session).rename(monotonic_ns() as i64, name);
        self.pump();
    }

    /// Tells the project how the player appears, and remembers that when it is on disk; waits for both.
    pub async fn introduce_myself(&self, told: Vec<(&'static str, String)>, said: Introduction) {
        let place = address(&self.me);
        let edits = told
            .into_iter()
            .map(|(field, value)| Edit::Set { address: format!("{place}/{field}"), value: json!(value) });
        // Not remembered, it is told again at the next start.
        if let Err(error) = self.project.keep(edits.collect()).await {
            return tracing::warn!(%error, "the player is not noted in the project");
        }
        let (profile, session) = (self.profile.clone(), self.session_name.clone());
        let kept = tokio::task::spawn_blocking(move || profile.introduced(&session, said)).await;
        if let Ok(Err(error)) = kept {
            tracing::warn!(%error, "what the project was told of the player is not remembered");
        }
    }

    /// Takes the name that stands in the project, soon after it has changed there.
    pub async fn follow_my_name(&self) {
        // One at a time: who reads later reads what is newer, and must not be overtaken.
        let _turn = self.following.reading_my_name.lock().await;
        let stored = self.project.read(Some(format!("{}/name", address(&self.me)))).await;
        if let Ok(Some(Value::String(name))) = stored
            && is_a_name(&name)
        {
            *lock(&self.following.my_name) = Some(name);
        }
    }

    /// Tells the members the name that was followed, if it is time; call it now and then.
    pub fn tell_my_name(&self, told_at: &mut Option<Instant>) {
        if told_at.is_some_and(|at| at.elapsed() < BETWEEN_NAMES) {
            return;
        }
        let followed = lock(&self.following.my_name).take();
        if let Some(name) = followed.filter(|name| *name != self.name()) {
            *told_at = Some(Instant::now());
            self.rename(name);
            self.notify(crate::control::Notice::Status);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn says(name: &str, color: Option<&str>, instrument: &str) -> Introduction {
        Introduction { name: name.into(), color: color.map(Into::into), instrument: instrument.into() }
    }

    #[test]
    fn a_new_player_is_introduced_with_all_they_said() {
        let appearance = Appearance::new(says("Maya", Some("#aabbcc"), ""), None, None);
        assert_eq!(appearance.name, "Maya");
        assert_eq!(appearance.told, [("name", "Maya".to_owned()), ("color", "#aabbcc".to_owned())]);
    }

    #[test]
    fn what_was_edited_in_the_project_outlives_a_restart() {
        let said = says("Maya", Some("#aabbcc"), "bass");
        let stored = json!({"name": "Zed", "color": "#aabbcc", "instrument": "drums"});
        let appearance = Appearance::new(said.clone(), Some(&said), Some(&stored));
        assert_eq!(appearance.name, "Zed");
        assert_eq!(appearance.told, []);
    }

    #[test]
    fn who_asks_for_another_name_gets_it() {
        let stored = json!({"name": "Zed", "color": "#aabbcc"});
        let before = says("Maya", Some("#aabbcc"), "");
        let appearance = Appearance::new(says("Mia", Some("#aabbcc"), ""), Some(&before), Some(&stored));
        assert_eq!(appearance.name, "Mia");
        assert_eq!(appearance.told, [("name", "Mia".to_owned())]);
    }

    #[test]
    fn what_nobody_remembers_telling_is_told() {
        let stored = json!({"name": "Zed"});
        let appearance = Appearance::new(says("Maya", None, ""), None, Some(&stored));
        assert_eq!((appearance.name.as_str(), appearance.told), ("Maya", vec![("name", "Maya".to_owned())]));
    }
}
