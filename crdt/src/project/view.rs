//! The project as a JSON tree whose paths are the addresses of commands.

use std::collections::BTreeSet;

use automerge::ScalarValue;
use serde_json::{Map, Value, json};

use super::Project;
use super::place::{self, CHAT, MIXER, ROOT};
use crate::member::PeerKey;
use crate::parameter::{parameter, parameters};

/// How many of the latest chat messages are shown.
const SHOWN_MESSAGES: usize = 200;

impl Project {
    /// The whole project: `session`, `transport`, `members`, `mixer`, `tracks`, `chat`.
    ///
    /// Tracks and members are objects by id; a track's `order` is its place, counted from 0. `chat` is a list of the
    /// latest 200 messages, a reply after what it replies to. Parameters nobody has set show their defaults.
    pub fn to_json(&self) -> Value {
        json!({
            "session": self.group("/session"),
            "transport": self.group("/transport"),
            "members": self.members(),
            "mixer": { "strip": self.strips() },
            "tracks": self.tracks(),
            "chat": self.chat(),
        })
    }

    /// One node of the tree, such as `/tracks/ID` or `/transport/tempo_bpm`; `None` if there is none.
    pub fn node_json(&self, address: &str) -> Option<Value> {
        let mut path = address.strip_prefix('/')?.split('/').filter(|part| !part.is_empty());
        let first = path.next();
        let mut node = match first {
            None => self.to_json(),
            Some("session") => self.group("/session"),
            Some("transport") => self.group("/transport"),
            Some("members") => self.members(),
            Some("mixer") => json!({ "strip": self.strips() }),
            Some("tracks") => self.tracks(),
            Some("chat") => self.chat(),
            Some(_) => return None,
        };
        for part in path {
            node = match node {
                Value::Object(mut fields) => fields.remove(part)?,
                Value::Array(items) => items.into_iter().find(|item| item.get("id") == Some(&json!(part)))?,
                _ => return None,
            };
        }
        Some(node)
    }

    /// The number at a parameter's address; `None` if that is no number parameter.
    pub fn number(&self, address: &str) -> Option<f64> {
        self.read(address)?.as_f64()
    }

    /// The flag at a parameter's address; `None` if that is no flag parameter.
    pub fn flag(&self, address: &str) -> Option<bool> {
        self.read(address)?.as_bool()
    }

    /// The text at a parameter's address; `None` if that is no text parameter.
    pub fn text(&self, address: &str) -> Option<String> {
        self.read(address)?.as_str().map(str::to_owned)
    }

    fn read(&self, address: &str) -> Option<Value> {
        let parameter = parameter(address)?;
        let (document, key) = place::of_parameter(address)?;
        let register = self.documents.get(document).and_then(|document| document.register(key));
        let stored = register.and_then(|register| parameter.read(to_json(&register.value)));
        Some(stored.unwrap_or_else(|| parameter.default.in_session(&self.session_name)))
    }

    /// All parameters directly below an address.
    fn group(&self, address: &str) -> Value {
        // A pattern's `ID` stands where `address` has an id, so only the last part has to be known.
        let parts = address.split('/').count();
        let fields = parameters().iter().filter_map(|parameter| {
            let (_, field) = parameter.pattern.rsplit_once('/')?;
            let full = format!("{address}/{field}");
            let fits = parameter.pattern.split('/').count() == parts + 1;
            let value = fits.then(|| self.read(&full)).flatten()?;
            Some((field.to_owned(), value))
        });
        Value::Object(fields.collect())
    }

    fn member_ids(&self) -> BTreeSet<String> {
        let registers = self.documents.get(ROOT).into_iter().flat_map(|root| root.registers("members/"));
        let ids = registers.filter_map(|(key, _)| key.split('/').nth(1));
        ids.filter(|id| PeerKey::from_name(id).is_some()).map(str::to_owned).collect()
    }

    fn members(&self) -> Value {
        let group = |id: String| {
            let group = self.group(&format!("/members/{id}"));
            (id, group)
        };
        Value::Object(self.member_ids().into_iter().map(group).collect())
    }

    fn strips(&self) -> Value {
        let registers = self.documents.get(MIXER).into_iter().flat_map(|mixer| mixer.registers("strip/"));
        let set = registers.filter_map(|(key, _)| key.split('/').nth(1));
        let set = set.filter(|id| PeerKey::from_name(id).is_some()).map(str::to_owned);
        let ids: BTreeSet<String> =
            self.member_ids().into_iter().chain(self.track_ids()).chain(set).collect();
        let group = |id: String| {
            let group = self.group(&format!("/mixer/strip/{id}"));
            (id, group)
        };
        Value::Object(ids.into_iter().map(group).collect())
    }

    fn tracks(&self) -> Value {
        let mut tracks = Map::new();
        for (order, id) in self.track_ids().into_iter().enumerate() {
            let mut track = self.group(&format!("/tracks/{id}"));
            let root = self.documents.get(ROOT);
            let kind = root.and_then(|root| root.register(&format!("tracks/{id}/kind")));
            let midi = kind.is_some_and(|kind| kind.value.as_str() == Some("midi"));
            if let Value::Object(fields) = &mut track {
                fields.insert("kind".into(), json!(if midi { "midi" } else { "audio" }));
                fields.insert("order".into(), json!(order));
            }
            tracks.insert(id, track);
        }
        Value::Object(tracks)
    }

    fn chat(&self) -> Value {
        let Some(chat) = self.documents.get(CHAT) else { return json!([]) };
        let texts = chat.registers("").filter_map(|(key, register)| {
            let id = key.strip_suffix("/text").filter(|id| !id.contains('/'))?;
            Some((register.operation, id, register))
        });
        let mut messages: Vec<_> = texts.collect();
        messages.sort_unstable_by_key(|(operation, id, _)| (*operation, *id));
        let latest = messages.len().saturating_sub(SHOWN_MESSAGES);
        let shown = messages.into_iter().skip(latest).map(|(_, id, register)| {
            let at = chat.register(&format!("{id}/at_ms")).and_then(|register| register.value.as_i64());
            json!({
                "id": id,
                "text": register.value.as_str().unwrap_or_default(),
                "from": register.by.name(),
                "at_ms": at.unwrap_or_default().max(0),
            })
        });
        Value::Array(shown.collect())
    }
}

/// A stored value as JSON.
pub(super) fn to_json(value: &ScalarValue) -> Value {
    match value {
        ScalarValue::F64(number) => json!(number),
        ScalarValue::Int(number) => json!(number),
        ScalarValue::Boolean(flag) => json!(flag),
        ScalarValue::Str(text) => json!(text.as_str()),
        _ => Value::Null,
    }
}
