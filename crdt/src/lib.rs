//! The band's shared project as data: documents, sync, storage. It knows no network and no clock.
//!
//! Problem: everybody edits one project at the same time, also while the network is split and while alone on a
//! train, and nothing anybody was told is saved may be lost. Idea: conflict-free documents (Automerge) below, one
//! registry of addresses and one kind of command above, and between them one value, [`Project`], that is handed
//! everything that happens and gives back everything that is to be done.
//!
//! Reading order: [`Command`] and [`parameters`] say what can be edited, [`Project`] how edits become durable and
//! reach everybody, [`storage`] how they are kept. What is stored where:
//!
#![doc = include_str!("../SCHEMA.md")]

mod command;
mod document;
mod member;
mod order;
mod parameter;
mod project;
mod signer;
mod sync;
mod vetting;

pub mod bench;
pub mod storage;

pub use command::{Command, CommandError, MAX_COMMANDS, Outcome, Receipt};
pub use member::PeerKey;
pub use parameter::{DEFAULT_COLOR, DefaultValue, Kind, Parameter, parameter, parameters};
pub use project::{Config, MAX_UNDO_STEPS, Output, Project, UndoError, UndoLeft, Undone};
