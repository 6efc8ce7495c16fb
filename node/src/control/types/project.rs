//! Edits of the shared project.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

/// One edit of the project.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "op", rename_all = "snake_case", deny_unknown_fields)]
pub enum Command {
    /// Gives one value of the parameter registry a new value.
    Set {
        /// Which value, such as `/transport/tempo_bpm`.
        #[schema(pattern = "^/")]
        address: String,
        /// The new value, within the range the registry gives.
        value: Value,
    },
    /// Adds an item to a list; the result carries its address.
    Add {
        /// Which list, such as `/tracks`.
        #[schema(pattern = "^/")]
        address: String,
        /// The new item.
        value: Value,
    },
    /// Moves an item within its list.
    Move {
        /// Which item.
        #[schema(pattern = "^/")]
        address: String,
        /// The item it goes before; `null`: to the end.
        #[serde(default)]
        before: Option<String>,
    },
    /// Takes an item out of its list.
    Delete {
        /// Which item.
        #[schema(pattern = "^/")]
        address: String,
    },
}

impl Command {
    /// The address the command is about.
    #[must_use]
    pub fn address(&self) -> &str {
        match self {
            Self::Set { address, .. }
            | Self::Add { address, .. }
            | Self::Move { address, .. }
            | Self::Delete { address } => address,
        }
    }
}

/// Edits of the project, applied all or none.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PatchRequest {
    /// The edits in order, 1 to 256 of them.
    #[schema(min_items = 1, max_items = 256)]
    pub commands: Vec<Command>,
}

/// What `PATCH /project` did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PatchResult {
    /// One for each command, in order.
    pub results: Vec<CommandResult>,
    /// The project after the edits; while numbers of a drag wait for their commit (`wait=none`), the project before them.
    pub heads_hash: String,
    /// Whether the edits are on disk.
    pub durable: bool,
}

/// What one command did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CommandResult {
    /// The address of what was set, added, moved or deleted.
    pub address: String,
}
