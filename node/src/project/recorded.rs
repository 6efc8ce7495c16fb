//! The project, each call of which goes into the trace.
//!
//! Whoever holds it may look at everything the project shows. Changing it takes one of the methods here: a change that was
//! not recorded could not be replayed.

use std::ops::Deref;

use crdt::{
    Command, CommandError, Config, Output, PeerKey, Project, Receipt, UndoError, Undone,
    storage::{BatchId, Loaded},
};
use sha2::{Digest, Sha256};

use crate::trace::{
    Recorder,
    record::{self, ProjectCall, Record},
};

/// Longest stored project that goes into a trace, octets.
const MAX_STORED_BYTES: usize = 15 << 20;

/// A [`Project`] and where its calls are recorded.
pub struct RecordedProject {
    project: Project,
    recorder: Recorder,
    heads_hash: String,
}

impl Deref for RecordedProject {
    type Target = Project;

    fn deref(&self) -> &Project {
        &self.project
    }
}

impl RecordedProject {
    /// [`Project::new`].
    pub fn new(now_ms: u64, config: Config, stored: Loaded, recorder: Recorder) -> Self {
        let (session, seed) = (config.session.clone(), config.seed);
        let bytes = if recorder.is_on() { postcard::to_stdvec(&stored).ok() } else { None };
        let mut project = Project::new(config, stored);
        if recorder.is_on() {
            project.keep_signatures();
        }
        Self::begin(now_ms, project, session, seed, bytes, recorder)
    }

    /// [`Project::replayed`], of what a [`ProjectCall::New`] says; `None` when it was not in the trace, or makes no sense.
    pub fn replayed(now_ms: u64, me: PeerKey, call: &ProjectCall, recorder: Recorder) -> Option<Self> {
        let ProjectCall::New { session, seed, stored: Some(bytes) } = call else { return None };
        let stored = postcard::from_bytes(bytes).ok()?;
        let project = Project::replayed(me, session, *seed, stored);
        Some(Self::begin(now_ms, project, session.clone(), *seed, Some(bytes.clone()), recorder))
    }

    fn begin(
        now_ms: u64,
        project: Project,
        session: String,
        seed: [u8; 32],
        stored: Option<Vec<u8>>,
        recorder: Recorder,
    ) -> Self {
        let stored = stored.filter(|bytes| bytes.len() <= MAX_STORED_BYTES);
        let mut recorded = Self { project, recorder, heads_hash: String::new() };
        recorded.record(now_ms, || ProjectCall::New { session, seed, stored });
        recorded
    }

    /// For a replay: what is signed in the next call.
    pub fn give_signatures(&mut self, signatures: &[Vec<u8>]) {
        self.project.give_signatures(signatures);
    }

    /// [`Project::command`].
    ///
    /// # Errors
    /// The same.
    pub fn command(&mut self, now_ms: u64, commands: &[Command]) -> Result<Receipt, CommandError> {
        let answer = self.project.command(now_ms, commands);
        self.record_commands(now_ms, false, commands, &answer);
        answer
    }

    /// [`Project::gesture`].
    ///
    /// # Errors
    /// The same.
    pub fn gesture(&mut self, now_ms: u64, commands: &[Command]) -> Result<Receipt, CommandError> {
        let answer = self.project.gesture(now_ms, commands);
        self.record_commands(now_ms, true, commands, &answer);
        answer
    }

    /// [`Project::undo`].
    ///
    /// # Errors
    /// The same.
    pub fn undo(&mut self, now_ms: u64, redo: bool) -> Result<Undone, UndoError> {
        let answer = self.project.undo(now_ms, redo);
        self.record(now_ms, || ProjectCall::Undo { redo, answer: record::bounded(format!("{answer:?}")) });
        answer
    }

    /// [`Project::handle_peer_connected`].
    pub fn handle_peer_connected(&mut self, now_ms: u64, peer: PeerKey) {
        self.project.handle_peer_connected(now_ms, peer);
        self.record(now_ms, || ProjectCall::Connected(peer.0));
    }

    /// [`Project::handle_peer_disconnected`].
    pub fn handle_peer_disconnected(&mut self, now_ms: u64, peer: PeerKey) {
        self.project.handle_peer_disconnected(now_ms, peer);
        self.record(now_ms, || ProjectCall::Disconnected(peer.0));
    }

    /// [`Project::handle_message`].
    pub fn handle_message(&mut self, now_ms: u64, peer: PeerKey, frame: &[u8]) {
        self.project.handle_message(now_ms, peer, frame);
        self.record(now_ms, || ProjectCall::Message(peer.0, frame.to_vec()));
    }

    /// [`Project::handle_stored`].
    pub fn handle_stored(&mut self, now_ms: u64, batch: BatchId, result: Result<(), String>) {
        let why = result.clone().err();
        self.project.handle_stored(now_ms, batch, result);
        self.record(now_ms, || ProjectCall::Stored(batch, why));
    }

    /// [`Project::handle_deadline`].
    pub fn handle_deadline(&mut self, now_ms: u64) {
        self.project.handle_deadline(now_ms);
        self.record(now_ms, || ProjectCall::Deadline);
    }

    /// [`Project::poll`].
    pub fn poll(&mut self, now_ms: impl FnOnce() -> u64) -> Option<Output> {
        let output = self.project.poll()?;
        if self.recorder.is_on() {
            self.record(now_ms(), || ProjectCall::Output(told(&output)));
        }
        Some(output)
    }

    /// Notes what all documents come to, if that is news.
    pub fn note_heads(&mut self, now_ms: impl FnOnce() -> u64, heads_hash: &str) {
        if self.recorder.is_on() && self.heads_hash != heads_hash {
            heads_hash.clone_into(&mut self.heads_hash);
            self.record(now_ms(), || ProjectCall::Heads(heads_hash.to_owned()));
        }
    }

    fn record_commands(
        &mut self,
        now_ms: u64,
        gesture: bool,
        commands: &[Command],
        answer: &Result<Receipt, CommandError>,
    ) {
        self.record(now_ms, || {
            let (commands, floats) = record::commands(commands);
            let answer = record::bounded(format!("{answer:?}"));
            ProjectCall::Command { gesture, commands, floats, answer }
        });
    }

    fn record(&mut self, at_ms: u64, call: impl FnOnce() -> ProjectCall) {
        let Self { project, recorder, .. } = self;
        recorder.record(|| Record::Project { at_ms, call: call(), signatures: project.take_signatures() });
    }
}

/// An output as text; of what is long, its digest.
fn told(output: &Output) -> String {
    match output {
        Output::Send { peer, bytes } => {
            format!("Send {} octets to {}, SHA-256 {:x}", bytes.len(), peer.name(), Sha256::digest(bytes))
        }
        Output::Store(batch) => {
            format!("Store {:?}, SHA-256 {:x}", batch.id(), Sha256::digest(format!("{batch:?}")))
        }
        other => record::bounded(format!("{other:?}")),
    }
}
