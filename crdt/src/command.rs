//! Edits as data: what a person, a script or a controller asks the project to do.
//!
//! Problem: REST, WebSocket, OSC and MIDI learn must mean the same by one edit, and a refused edit must say what would
//! have been accepted. Idea: one enum, in the JSON of the public interface, on the addresses of the parameter
//! registry ([`crate::parameters`]); a list of commands is applied all or none.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::storage::BatchId;

/// Most commands in one list: a list becomes one change per document, and a change has a bounded size.
pub const MAX_COMMANDS: usize = 256;

/// One edit.
///
/// ```
/// let command: crdt::Command =
///     serde_json::from_str(r#"{"op":"set","address":"/transport/tempo_bpm","value":124.0}"#)?;
/// assert_eq!(command.address(), "/transport/tempo_bpm");
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case", deny_unknown_fields)]
pub enum Command {
    /// Gives a parameter a value.
    Set {
        /// A parameter, such as `/tracks/ID/name`.
        address: String,
        /// A value the parameter takes.
        value: Value,
    },
    /// Adds an item to `/tracks` (`name`, `kind`: `audio` or `midi`, `color`) or to `/chat` (`text`).
    Add {
        /// The collection.
        address: String,
        /// The item's fields; those left out get their defaults.
        #[serde(default)]
        value: Value,
    },
    /// Moves a track.
    Move {
        /// The track, `/tracks/ID`.
        address: String,
        /// The track it shall stand directly before; `None`: at the end.
        #[serde(default)]
        before: Option<String>,
    },
    /// Removes a track. Its content stays stored, so that edits others make meanwhile are not lost.
    Delete {
        /// The track, `/tracks/ID`.
        address: String,
    },
}

impl Command {
    /// The address the command is about.
    pub fn address(&self) -> &str {
        match self {
            Command::Set { address, .. }
            | Command::Add { address, .. }
            | Command::Move { address, .. }
            | Command::Delete { address } => address,
        }
    }
}

/// What became of a list of commands.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Receipt {
    /// One result per command, in their order.
    pub results: Vec<Outcome>,
    /// The write that makes the edits durable; `None` if they changed nothing.
    #[serde(skip)]
    pub batch: Option<BatchId>,
}

/// What became of one command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Outcome {
    /// The address of what was changed or made.
    pub address: String,
}

/// Why a list of commands was refused; none of it was applied.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum CommandError {
    /// There is nothing at this address.
    #[error("command {index}: {address} does not exist; GET /project shows the addresses there are")]
    UnknownAddress {
        /// Which command, counted from 0.
        index: usize,
        /// The address as given.
        address: String,
    },
    /// The address exists but cannot be used in this way.
    #[error("command {index}: {address} {why}")]
    NotPossible {
        /// Which command, counted from 0.
        index: usize,
        /// The address as given.
        address: String,
        /// What would be possible.
        why: String,
    },
    /// The value does not fit.
    #[error("command {index}: {address} {takes}, not {value}")]
    BadValue {
        /// Which command, counted from 0.
        index: usize,
        /// The address as given.
        address: String,
        /// Which values it takes.
        takes: String,
        /// The value as given, shortened.
        value: String,
    },
    /// The list is too long or too large.
    #[error("too much in one list; send at most {MAX_COMMANDS} commands and 32 kB of text at a time")]
    TooLarge,
    /// The project holds as many items as it can.
    #[error("command {index}: {what} are full ({most}); delete some first")]
    Full {
        /// Which command, counted from 0.
        index: usize,
        /// What is full.
        what: &'static str,
        /// How many there can be.
        most: usize,
    },
    /// Earlier edits have not reached the disk.
    #[error(
        "edits are not being saved ({reason}); free some disk space or check the data directory, then try again"
    )]
    NotSaving {
        /// What the disk said.
        reason: String,
    },
    /// The edit would be larger than others take, because of what they have written at once.
    #[error(
        "too many members have set this at the same time to set it in one list; send fewer commands at a time, or try again \
         in a few seconds"
    )]
    Crowded,
    /// The document engine refused the edit.
    #[error("the edit could not be made ({reason}); nothing was changed, please report this")]
    Engine {
        /// What it said.
        reason: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn commands_read_as_the_interface_writes_them() {
        let list = json!([
            {"op":"set","address":"/transport/tempo_bpm","value":124.0},
            {"op":"add","address":"/tracks","value":{"name":"Bass","kind":"audio"}},
            {"op":"move","address":"/tracks/a","before":"/tracks/b"},
            {"op":"move","address":"/tracks/a","before":null},
            {"op":"delete","address":"/tracks/a"},
        ]);
        let commands: Vec<Command> = serde_json::from_value(list.clone()).unwrap();
        assert_eq!(serde_json::to_value(&commands).unwrap(), list);
    }

    #[test]
    fn unknown_operations_and_fields_are_refused_by_name() {
        let error = serde_json::from_value::<Command>(json!({"op":"frob","address":"/x"})).unwrap_err();
        assert!(error.to_string().contains("frob"));
        let error =
            serde_json::from_value::<Command>(json!({"op":"delete","address":"/x","valeu":1})).unwrap_err();
        assert!(error.to_string().contains("valeu"));
    }
}
