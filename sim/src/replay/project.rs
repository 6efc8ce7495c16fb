//! The project: the same calls on the same stored documents, with the signatures that were made then.

use std::collections::BTreeMap;

use bandmesh::{
    project::RecordedProject,
    trace::{
        Memory, Recorder,
        record::{Item, ProjectCall, Record, parse_commands},
    },
};
use crdt::PeerKey;
use transport::PeerId;

use super::{Halt, expect};

/// The project of the node, if the trace has what was stored of it.
#[derive(Default)]
pub struct Lane {
    project: Option<RecordedProject>,
    /// The trace has not what it began with.
    left_out: bool,
    calls: u64,
    outputs: u64,
    states: u64,
}

impl Lane {
    /// Compared so far, by kind.
    pub fn compared(&self) -> BTreeMap<&'static str, u64> {
        BTreeMap::from([
            ("project_calls", self.calls),
            ("project_outputs", self.outputs),
            ("project_states", self.states),
        ])
    }

    /// What to say if it could not be run.
    pub fn warning(&self) -> Option<String> {
        self.left_out
            .then(|| "the stored project was too long for the trace: the project is not run again".to_owned())
    }

    /// One call.
    pub fn handle(
        &mut self,
        me: &PeerId,
        at_ms: u64,
        call: &ProjectCall,
        signatures: &[Vec<u8>],
        recorder: &Recorder,
        memory: &Memory,
    ) -> Result<(), Halt> {
        let senseless = |why: &str| Halt::Senseless(why.to_owned());
        if let ProjectCall::New { stored, .. } = call {
            if self.project.is_some() {
                return Err(senseless("the project is opened a second time"));
            }
            self.left_out = stored.is_none();
            if !self.left_out {
                let me = PeerKey::from_name(&me.to_string())
                    .ok_or_else(|| senseless("the node's identity is no Ed25519 key"))?;
                let project = RecordedProject::replayed(at_ms, me, call, recorder.clone());
                self.project = Some(project.ok_or_else(|| senseless("the stored project is none"))?);
                let _ = memory.take();
            }
            return Ok(());
        }
        if self.left_out {
            return Ok(());
        }
        let project = self.project.as_mut().ok_or_else(|| senseless("the project is not open"))?;
        project.give_signatures(signatures);
        let what = match call {
            ProjectCall::New { .. } => return Ok(()),
            ProjectCall::Command { gesture, commands, floats, .. } => {
                let commands = parse_commands(commands, floats)
                    .ok_or_else(|| senseless("the edits of the project are none"))?;
                // The answer is in what it records.
                let _ = match gesture {
                    true => project.gesture(at_ms, &commands),
                    false => project.command(at_ms, &commands),
                };
                "the project's answer to edits"
            }
            ProjectCall::Undo { redo, .. } => {
                let _ = project.undo(at_ms, *redo);
                "what was undone"
            }
            ProjectCall::Connected(peer) => {
                project.handle_peer_connected(at_ms, PeerKey(*peer));
                "a call of the project"
            }
            ProjectCall::Disconnected(peer) => {
                project.handle_peer_disconnected(at_ms, PeerKey(*peer));
                "a call of the project"
            }
            ProjectCall::Message(peer, frame) => {
                project.handle_message(at_ms, PeerKey(*peer), frame);
                "what was signed after a project frame"
            }
            ProjectCall::Stored(batch, why) => {
                project.handle_stored(at_ms, *batch, why.clone().map_or(Ok(()), Err));
                "a call of the project"
            }
            ProjectCall::Deadline => {
                project.handle_deadline(at_ms);
                "a call of the project"
            }
            ProjectCall::Output(_) => {
                let _ = project.poll(|| at_ms);
                self.outputs += 1;
                "what the project decided"
            }
            ProjectCall::Heads(_) => {
                let heads = project.heads_hash();
                project.note_heads(|| at_ms, &heads);
                self.states += 1;
                "the state of the project"
            }
        };
        self.calls += 1;
        let recorded = Record::Project { at_ms, call: call.clone(), signatures: signatures.to_vec() };
        expect(what, &Item::Record(recorded), memory.take())
    }
}
