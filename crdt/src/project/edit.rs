//! Commands become values at keys: the checks that need the project, and what each operation writes.

use std::collections::BTreeMap;

use automerge::ScalarValue;
use rand::Rng;
use serde_json::Value;

use super::place::{self, CHAT, ROOT};
use super::{Edits, Project};
use crate::command::{Command, CommandError, MAX_COMMANDS, Outcome};
use crate::member::PeerKey;
use crate::order::Position;
use crate::parameter::{Parameter, parameter};

/// Most tracks to which one more can be added. Projects edited apart may have more when they meet.
const MAX_TRACKS: usize = 1_000;
/// Longest part of a refused address that is quoted back, in characters: more than any address has.
const MAX_QUOTED_ADDRESS_CHARS: usize = 160;
/// Most bytes of keys and text in one list; keeps every change below the size others accept.
const MAX_LIST_BYTES: usize = 32 * 1024;
/// Longest chat message, in characters.
const MAX_CHAT_CHARS: usize = 2_000;
/// Longest part of a refused value that is quoted back, in characters.
const MAX_QUOTED_CHARS: usize = 40;
/// Digits of an id and how many: 32^12 = 2^60 ids.
const ID_DIGITS: &[u8; 32] = b"0123456789abcdefghijklmnopqrstuv";
const ID_LENGTH: usize = 12;

impl Project {
    /// What a list of commands would write, and their results; nothing is written yet.
    pub(super) fn plan(
        &mut self,
        now_ms: u64,
        commands: &[Command],
    ) -> Result<(Edits, Vec<Outcome>), CommandError> {
        if commands.len() > MAX_COMMANDS {
            return Err(CommandError::TooLarge);
        }
        let mut edits = Edits::new();
        let mut results = Vec::with_capacity(commands.len());
        for (index, command) in commands.iter().enumerate() {
            let mut step = Step { project: self, edits: &mut edits, index, address: command.address() };
            let address = match command {
                Command::Set { value, .. } => step.set(value)?,
                Command::Add { value, .. } => step.add(now_ms, value)?,
                Command::Move { before, .. } => step.shift(before.as_deref())?,
                Command::Delete { .. } => step.delete()?,
            };
            results.push(Outcome { address });
        }
        let bytes = |(key, value): (&String, &ScalarValue)| key.len() + value.as_str().map_or(8, str::len);
        if edits.values().any(|values| values.iter().map(bytes).sum::<usize>() > MAX_LIST_BYTES) {
            return Err(CommandError::TooLarge);
        }
        Ok((edits, results))
    }

    /// The ids of the tracks there are, in order.
    pub(super) fn track_ids(&self) -> Vec<String> {
        self.track_order(&Edits::new()).into_iter().map(|(_, id)| id).collect()
    }

    /// Position and id of each track, in order, as they would be with some edits.
    fn track_order(&self, edits: &Edits) -> Vec<(Position, String)> {
        let mut positions: BTreeMap<&str, Option<&str>> = BTreeMap::new();
        let stored = self.documents.get(ROOT).into_iter().flat_map(|root| root.registers("tracks/"));
        let stored = stored.map(|(key, register)| (key, &register.value));
        let planned = edits.get(ROOT).into_iter().flatten().map(|(key, value)| (key.as_str(), value));
        let mut deleted: BTreeMap<&str, bool> = BTreeMap::new();
        for (key, value) in stored.chain(planned) {
            match key.strip_prefix("tracks/").and_then(|rest| rest.split_once('/')) {
                Some((id, "order")) => {
                    positions.insert(id, value.as_str());
                }
                Some((id, "deleted")) => {
                    deleted.insert(id, value.as_bool() == Some(true));
                }
                _ => {}
            }
        }
        let listed = positions.into_iter().filter(|(id, _)| deleted.get(id) != Some(&true));
        let mut order: Vec<_> =
            listed.filter_map(|(id, position)| Some((Position::read(position?), id.to_owned()))).collect();
        order.sort_unstable();
        order
    }

    fn new_id(&mut self) -> String {
        let digit =
            |_| ID_DIGITS.get(self.rng.random_range(0..ID_DIGITS.len())).map_or('0', |b| char::from(*b));
        (0..ID_LENGTH).map(digit).collect()
    }
}

/// One command on its way.
struct Step<'a> {
    project: &'a mut Project,
    edits: &'a mut Edits,
    index: usize,
    address: &'a str,
}

impl Step<'_> {
    fn set(&mut self, value: &Value) -> Result<String, CommandError> {
        let (document, key) = place::of_parameter(self.address).ok_or_else(|| self.unknown())?;
        let parameter = parameter(self.address).ok_or_else(|| self.no_parameter())?;
        self.check_owner()?;
        let value = self.checked(self.address, parameter, value)?;
        self.put(document, key.to_owned(), value);
        Ok(self.address.to_owned())
    }

    fn add(&mut self, now_ms: u64, value: &Value) -> Result<String, CommandError> {
        match self.address {
            "/tracks" => self.add_track(value),
            "/chat" => self.add_chat(now_ms, value),
            _ => Err(self.not_possible("takes no new items; items can be added to /tracks and /chat")),
        }
    }

    fn add_track(&mut self, value: &Value) -> Result<String, CommandError> {
        const TAKES: &str = "takes an object with name, kind (audio or midi) and color, each optional";
        let order = self.project.track_order(self.edits);
        if order.len() >= MAX_TRACKS {
            return Err(CommandError::Full { index: self.index, what: "tracks", most: MAX_TRACKS });
        }
        let empty = serde_json::Map::new();
        let fields = match value {
            Value::Object(fields) => fields,
            Value::Null => &empty,
            _ => return Err(self.bad_value(TAKES, value)),
        };
        let id = self.project.new_id();
        let address = format!("/tracks/{id}");
        let mut kind = "audio";
        for (field, value) in fields {
            match (field.as_str(), value.as_str()) {
                ("kind", Some("audio")) => kind = "audio",
                ("kind", Some("midi")) => kind = "midi",
                ("name" | "color", _) => {
                    let address = format!("{address}/{field}");
                    let parameter = parameter(&address).ok_or_else(|| self.unknown())?;
                    let value = self.checked(&format!("{}: {field}", self.address), parameter, value)?;
                    self.put(ROOT, format!("tracks/{id}/{field}"), value);
                }
                _ => return Err(self.bad_value(TAKES, &serde_json::json!({ field: value }))),
            }
        }
        let last = order.last().map(|(position, _)| position);
        let position = Position::between(last, None, &mut self.project.rng).text();
        self.put(ROOT, format!("tracks/{id}/kind"), ScalarValue::from(kind));
        self.put(ROOT, format!("tracks/{id}/order"), ScalarValue::from(position.as_str()));
        Ok(address)
    }

    fn add_chat(&mut self, now_ms: u64, value: &Value) -> Result<String, CommandError> {
        let text = value.as_object().filter(|fields| fields.len() == 1).and_then(|fields| fields.get("text"));
        let fits = |text: &&str| !text.trim().is_empty() && text.chars().count() <= MAX_CHAT_CHARS;
        let Some(text) = text.and_then(Value::as_str).filter(fits) else {
            let takes = format!("takes {{\"text\": …}} with 1 to {MAX_CHAT_CHARS} characters");
            return Err(self.bad_value(&takes, value));
        };
        let id = self.project.new_id();
        let at_ms = i64::try_from(now_ms).unwrap_or(i64::MAX);
        self.put(CHAT, format!("{id}/text"), ScalarValue::from(text));
        self.put(CHAT, format!("{id}/at_ms"), ScalarValue::Int(at_ms));
        Ok(format!("/chat/{id}"))
    }

    fn shift(&mut self, before: Option<&str>) -> Result<String, CommandError> {
        let id = self.track(self.address)?;
        let before = before.map(|address| self.track(address)).transpose()?;
        let mut order = self.project.track_order(self.edits);
        if before.as_deref() == Some(id.as_str()) {
            return Ok(self.address.to_owned());
        }
        order.retain(|(_, other)| *other != id);
        let at = order.iter().position(|(_, other)| Some(other) == before.as_ref()).unwrap_or(order.len());
        let position = |index: Option<usize>| index.and_then(|i| order.get(i)).map(|(position, _)| position);
        let (before, after) = (position(at.checked_sub(1)), position(Some(at)));
        let position = Position::between(before, after, &mut self.project.rng).text();
        self.put(ROOT, format!("tracks/{id}/order"), ScalarValue::from(position.as_str()));
        Ok(self.address.to_owned())
    }

    fn delete(&mut self) -> Result<String, CommandError> {
        let id = self.track(self.address)?;
        self.put(ROOT, format!("tracks/{id}/deleted"), ScalarValue::Boolean(true));
        Ok(self.address.to_owned())
    }

    // --- Helpers --------------------------------------------------------------------------------------------

    /// The id of an existing track from its address.
    fn track(&self, address: &str) -> Result<String, CommandError> {
        let Some(id) = address.strip_prefix("/tracks/").filter(|id| !id.contains('/')) else {
            return Err(self.not_possible("is no track; tracks can be moved and deleted, as /tracks/ID"));
        };
        if self.project.track_order(self.edits).iter().any(|(_, known)| known == id) {
            Ok(id.to_owned())
        } else {
            Err(CommandError::UnknownAddress { index: self.index, address: quoted_address(address) })
        }
    }

    /// Checks that the track or member exists whose parameter is meant.
    fn check_owner(&self) -> Result<(), CommandError> {
        let mut parts = self.address.split('/').skip(1);
        match (parts.next(), parts.next(), parts.next()) {
            (Some("tracks"), Some(id), _) => self.track(&format!("/tracks/{id}")).map(|_| ()),
            (Some("members"), Some(id), _) if PeerKey::from_name(id).is_none() => {
                Err(self.not_possible("is not about a member; members stand by their peer id"))
            }
            (Some("mixer"), _, Some(id)) if PeerKey::from_name(id).is_none() => self
                .track(&format!("/tracks/{id}"))
                .map(|_| ())
                .map_err(|_| self.not_possible("has no strip; strips stand by a peer id or a track's id")),
            _ => Ok(()),
        }
    }

    fn checked(&self, what: &str, parameter: &Parameter, value: &Value) -> Result<ScalarValue, CommandError> {
        parameter.check(value).map_err(|takes| CommandError::BadValue {
            index: self.index,
            address: what.to_owned(),
            takes,
            value: quoted(value),
        })?;
        Ok(match value {
            Value::Bool(flag) => ScalarValue::Boolean(*flag),
            Value::String(text) => ScalarValue::from(text.as_str()),
            other => ScalarValue::F64(other.as_f64().unwrap_or_default()),
        })
    }

    fn put(&mut self, document: &str, key: String, value: ScalarValue) {
        self.edits.entry(document.to_owned()).or_default().insert(key, value);
    }

    fn unknown(&self) -> CommandError {
        CommandError::UnknownAddress { index: self.index, address: quoted_address(self.address) }
    }

    /// Why an address cannot be set at which there is no parameter, though there may be something else.
    fn no_parameter(&self) -> CommandError {
        if self.address == "/" || self.project.node_json(self.address).is_none() {
            return self.unknown();
        }
        let parts: Vec<&str> = self.address.split('/').skip(1).collect();
        self.not_possible(match parts.as_slice() {
            ["tracks", _, "kind"] => "cannot be set; add a track of the other kind and delete this one",
            ["tracks", _, "order"] => {
                "cannot be set; move the track, to the end or before another: {\"op\":\"move\",…}"
            }
            ["chat", ..] => "cannot be set; what was said stays, and more can be added to /chat",
            _ => "is no single value; set one of those that GET /project shows in it",
        })
    }

    fn not_possible(&self, why: &str) -> CommandError {
        let address = quoted_address(self.address);
        CommandError::NotPossible { index: self.index, address, why: why.to_owned() }
    }

    fn bad_value(&self, takes: &str, value: &Value) -> CommandError {
        CommandError::BadValue {
            index: self.index,
            address: quoted_address(self.address),
            takes: takes.to_owned(),
            value: quoted(value),
        }
    }
}

/// A value as JSON, cut to what fits on a line.
fn quoted(value: &Value) -> String {
    cut(&value.to_string(), MAX_QUOTED_CHARS)
}

/// An address as it was given, cut to what an address can be.
fn quoted_address(address: &str) -> String {
    cut(address, MAX_QUOTED_ADDRESS_CHARS)
}

fn cut(text: &str, most_chars: usize) -> String {
    match text.char_indices().nth(most_chars) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}
