//! The shared project as one value without I/O and without a clock.
//!
//! Problem: edits come from this player and from everybody else, must be on disk before anybody is told of them, and must end
//! up the same everywhere. Idea: everything that happens is handed in (`command`, `handle_*`, with the time), and
//! everything to be done comes out of [`Project::poll`]; the same value runs in a node and in a simulator.
//!
//! An edit made here goes: [`Project::command`] → [`Output::Store`] → the disk → [`Project::handle_stored`] →
//! [`Output::Send`] to everybody. An edit made elsewhere goes: [`Project::handle_message`] → vetting → the
//! document → [`Output::Changed`] and [`Output::Store`].
//!
//! The parts: [`edit`] turns commands into values at keys, [`exchange`] speaks with the peers, [`view`] shows the
//! project as a tree. What is stored where is in `SCHEMA.md`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use automerge::ScalarValue;
use ed25519_dalek::SigningKey;
use rand::{Rng, SeedableRng, rngs::StdRng};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::command::{Command, CommandError, Receipt};
use crate::document::{Document, Rebuilt};
use crate::member::{Author, PeerKey};
use crate::signer::Signer;
use crate::storage::{Batch, BatchId, Loaded, Write};
use crate::sync::PeerState;
use crate::vetting::SignedChange;

mod edit;
mod exchange;
mod place;
mod undo;
mod view;
mod waiting;

pub use undo::{MAX_STEPS as MAX_UNDO_STEPS, UndoError, UndoLeft, Undone};

/// Most messages that wait for [`Project::poll`]; more are dropped, and the next digest finds what was missed.
const MAX_QUEUED_SENDS: usize = 1_024;
/// Most writes that wait for the disk; with more, edits are refused and changes from others wait at those others.
const MAX_UNSAVED_BATCHES: usize = 1_024;
/// How long after a failed write it is tried again: at first, and at most, after twice as long each time.
const STORE_RETRY_MS: (u64, u64) = (1_000, 8_000);
/// Most warnings that are given once; keys cost nothing, so somebody could act in the name of any number of members.
const MAX_WARNED: usize = 256;
/// A document is written as a whole when this many changes have been written singly since the last time.
const COMPACT_AFTER_CHANGES: usize = 1_000;

/// Who this node is.
pub struct Config {
    /// The member's key.
    pub signing_key: SigningKey,
    /// The session the project belongs to. Changes are signed for it; nodes of other sessions are not listened to.
    pub session: String,
    /// Fresh random bytes: the same seed must never be used for two starts of one node. Ids, positions and the
    /// number of this start come from it.
    pub seed: [u8; 32],
}

/// Something to be done or to be told.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Send this to a connected peer, in order. If it cannot be sent, drop it: it will be found to be missing.
    Send {
        /// The receiver.
        peer: PeerKey,
        /// At most 4 MiB.
        bytes: Vec<u8>,
    },
    /// Write this, then call [`Project::handle_stored`].
    Store(Batch),
    /// These addresses may read differently now, whoever changed them.
    Changed {
        /// Sorted, each once.
        addresses: Vec<String>,
    },
    /// Several people set one thing at the same time; all nodes show `chosen`. Setting it once more settles it.
    Conflict {
        /// What was set.
        address: String,
        /// What the others would have been, and `chosen` itself.
        values: Vec<Value>,
        /// What every node picked.
        chosen: Value,
    },
    /// A member sent what no honest node sends; it should be disconnected and kept away.
    Quarantined {
        /// The member.
        member: PeerKey,
        /// What it sent.
        reason: String,
    },
    /// Something a person should read in the log.
    Warning(String),
}

/// One node's copy of the project.
pub struct Project {
    signing_key: Signer,
    me: PeerKey,
    author: Author,
    session: [u8; 32],
    session_name: String,
    rng: StdRng,
    documents: BTreeMap<String, Document>,
    logs: BTreeMap<String, LogState>,
    waiting: waiting::Waiting,
    peers: BTreeMap<PeerKey, PeerState>,
    next_digest_ms: u64,
    next_batch: u64,
    unsaved: BTreeMap<BatchId, Unsaved>,
    store_failure: Option<StoreFailure>,
    outputs: VecDeque<Output>,
    queued_sends: usize,
    clock: SteadyClock,
    history: undo::History,
    /// Warnings that are given once.
    warned: BTreeSet<String>,
}

/// How much of a document is written singly.
#[derive(Default)]
struct LogState {
    next: u64,
    changes: usize,
    generation: u64,
}

/// The disk does not write.
struct StoreFailure {
    reason: String,
    retry_ms: u64,
    delay_ms: u64,
}

struct Unsaved {
    batch: Batch,
    /// What everybody is told once the batch is on disk.
    announce: Vec<(String, SignedChange)>,
    failed: bool,
}

impl Project {
    /// The project as it was stored, or a new one if nothing was.
    ///
    /// What cannot be loaded is reported by [`Output::Warning`]; the rest of the project works without it, and
    /// peers who have it will send it.
    pub fn new(config: Config, stored: Loaded) -> Project {
        let me = PeerKey(config.signing_key.verifying_key().to_bytes());
        Self::begin(me, Signer::new(config.signing_key), &config.session, config.seed, stored)
    }

    /// A project that is given the calls of another one: `me` and the rest as they were there. It has no key, so before
    /// each call [`Project::give_signatures`] gives it those that were made in that call.
    pub fn replayed(me: PeerKey, session: &str, seed: [u8; 32], stored: Loaded) -> Project {
        Self::begin(me, Signer::recorded(), session, seed, stored)
    }

    fn begin(me: PeerKey, signer: Signer, session_name: &str, seed: [u8; 32], stored: Loaded) -> Project {
        let mut rng = StdRng::from_seed(seed);
        let mut session = Sha256::new();
        session.update(b"bandmesh session 1");
        session.update(session_name.as_bytes());
        let author = Author { member: me, start: rng.random() };
        let mut project = Project {
            signing_key: signer,
            me,
            author,
            session: session.finalize().into(),
            session_name: session_name.to_owned(),
            rng,
            documents: BTreeMap::new(),
            logs: BTreeMap::new(),
            waiting: waiting::Waiting::default(),
            peers: BTreeMap::new(),
            next_digest_ms: 0,
            next_batch: 1,
            unsaved: BTreeMap::new(),
            store_failure: None,
            outputs: VecDeque::new(),
            queued_sends: 0,
            clock: SteadyClock::default(),
            history: undo::History::default(),
            warned: BTreeSet::new(),
        };
        project.load(stored);
        project.fresh_author();
        project
    }

    /// Keeps the signatures made from now on, for [`Project::take_signatures`].
    pub fn keep_signatures(&mut self) {
        self.signing_key.keep();
    }

    /// The signatures made since the last call, in their order.
    pub fn take_signatures(&mut self) -> Vec<Vec<u8>> {
        self.signing_key.take()
    }

    /// What a [replayed](Project::replayed) project signs with next.
    pub fn give_signatures(&mut self, signatures: &[Vec<u8>]) {
        self.signing_key.give(signatures);
    }

    /// This node's member.
    pub fn me(&self) -> PeerKey {
        self.me
    }

    /// Applies a list of commands, all or none. `now_ms` is Unix time in milliseconds.
    ///
    /// # Errors
    /// Nothing was applied; the error's text says what would be accepted.
    pub fn command(&mut self, now_ms: u64, commands: &[Command]) -> Result<Receipt, CommandError> {
        self.clock.steady(now_ms);
        self.check_saving()?;
        let (edits, results) = self.plan(now_ms, commands)?;
        let batch = self.write(now_ms, &edits)?;
        Ok(Receipt { results, batch })
    }

    /// As [`Project::command`], for what a person did: [`Project::undo`] can take it back as one.
    ///
    /// # Errors
    /// As [`Project::command`].
    pub fn gesture(&mut self, now_ms: u64, commands: &[Command]) -> Result<Receipt, CommandError> {
        let now = self.clock.steady(now_ms);
        self.check_saving()?;
        let (edits, results) = self.plan(now_ms, commands)?;
        let (before, label) = self.before(&edits, commands);
        let batch = self.write(now_ms, &edits)?;
        self.remember(now, before, label);
        Ok(Receipt { results, batch })
    }

    /// The disk's answer to [`Output::Store`]: the batch is durable, or why not. A failed batch comes out of
    /// [`Project::poll`] again, after a second at first and eight at most.
    pub fn handle_stored(&mut self, now_ms: u64, batch: BatchId, result: Result<(), String>) {
        let now = self.clock.steady(now_ms);
        match result {
            Ok(()) => {
                let Some(unsaved) = self.unsaved.remove(&batch) else { return };
                if !self.unsaved.values().any(|unsaved| unsaved.failed) {
                    self.store_failure = None;
                }
                self.announce(unsaved.announce);
            }
            Err(reason) => {
                if let Some(unsaved) = self.unsaved.get_mut(&batch) {
                    unsaved.failed = true;
                    let delay_ms = match &self.store_failure {
                        Some(failure) => failure.delay_ms,
                        None => {
                            self.warn(format!("the project cannot be saved: {reason}"));
                            STORE_RETRY_MS.0
                        }
                    };
                    self.store_failure = Some(StoreFailure { reason, retry_ms: now + delay_ms, delay_ms });
                }
            }
        }
    }

    /// To be called when the time of [`Project::poll_deadline`] has come.
    pub fn handle_deadline(&mut self, now_ms: u64) {
        let now = self.clock.steady(now_ms);
        if let Some(failure) = &mut self.store_failure
            && failure.retry_ms <= now
        {
            failure.delay_ms = (failure.delay_ms * 2).min(STORE_RETRY_MS.1);
            failure.retry_ms = now + failure.delay_ms;
            for unsaved in self.unsaved.values_mut().filter(|unsaved| unsaved.failed) {
                self.outputs.push_back(Output::Store(unsaved.batch.clone()));
            }
        }
        self.tell_digests(now);
    }

    /// When [`Project::handle_deadline`] is to be called next, on the clock of `now_ms`.
    pub fn poll_deadline(&self) -> Option<u64> {
        let digest = (!self.peers.is_empty()).then_some(self.next_digest_ms);
        let retry = self.store_failure.as_ref().map(|failure| failure.retry_ms);
        digest.into_iter().chain(retry).min().map(|steady| self.clock.given(steady))
    }

    /// The next thing to be done; to be called until it gives `None` after every other call.
    pub fn poll(&mut self) -> Option<Output> {
        let output = self.outputs.pop_front();
        if matches!(output, Some(Output::Send { .. })) {
            self.queued_sends = self.queued_sends.saturating_sub(1);
        }
        output
    }

    /// A digest, in hex, that is equal on two nodes exactly when their projects are equal.
    pub fn heads_hash(&self) -> String {
        self.digest().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// How many changes all documents together hold.
    pub fn changes(&self) -> u64 {
        self.documents.values().map(|document| document.changes() as u64).sum()
    }

    /// Whether everything is on disk.
    pub fn saved(&self) -> bool {
        self.unsaved.is_empty()
    }

    /// Whether a batch is on disk.
    pub fn is_durable(&self, batch: BatchId) -> bool {
        !self.unsaved.contains_key(&batch) && batch.0 < self.next_batch
    }

    /// The latest batch that is not on disk; `None` if everything is. When that one is, so is what stands in the project
    /// now.
    pub fn newest_unsaved(&self) -> Option<BatchId> {
        self.unsaved.keys().next_back().copied()
    }

    // --- Loading --------------------------------------------------------------------------------------------

    fn load(&mut self, stored: Loaded) {
        for mut entry in stored.documents {
            // Earlier versions wrote one with each new track; nothing is shown from it.
            if entry.name.starts_with("track/") {
                continue;
            }
            if !place::is_document(&entry.name) {
                self.warn(format!("the stored document {} is of no kind this version knows", entry.name));
                continue;
            }
            let next = entry.log.last().map_or(0, |(n, _)| n + 1);
            let generation = entry.snapshots.first().map_or(0, |(generation, _)| *generation);
            self.logs.insert(entry.name.clone(), LogState { next, changes: entry.log.len(), generation });
            let mut document = None;
            for (generation, saved) in entry.snapshots.drain(..) {
                match Document::load(&entry.name, self.session, saved) {
                    Ok(loaded) => {
                        document = Some(loaded);
                        break;
                    }
                    Err(reason) => self.warn(format!(
                        "generation {generation} of document {} does not load ({reason}); trying the one before",
                        entry.name
                    )),
                }
            }
            let document = document.unwrap_or_else(|| Document::new(&entry.name, self.session));
            self.documents.insert(entry.name.clone(), document);
            self.replay(&entry.name, entry.log.into_iter().map(|(_, signed)| signed).collect());
        }
    }

    /// Applies what was written singly. Order is repaired, what is in already is skipped.
    fn replay(&mut self, name: &str, log: Vec<SignedChange>) {
        let mut refused = 0;
        let mut waiting = BTreeMap::new();
        for signed in log {
            match crate::vetting::vet(signed) {
                Ok(vetted) => {
                    waiting.insert((vetted.change.start_op().get(), vetted.change.hash().0), vetted);
                }
                Err(_) => refused += 1,
            }
        }
        let Some(document) = self.documents.get_mut(name) else { return };
        for vetted in waiting.values() {
            if !matches!(
                document.receive(vetted),
                Ok(crate::document::Received::Applied(_) | crate::document::Received::Known)
            ) {
                refused += 1;
            }
        }
        if refused > 0 {
            self.warn(format!("{refused} stored changes of document {name} could not be used"));
        }
    }

    /// Makes sure that no document has ever seen this start's author.
    fn fresh_author(&mut self) {
        while self.documents.values().any(|document| document.has_author(self.author)) {
            self.author.start = self.rng.random();
        }
    }

    // --- Writing --------------------------------------------------------------------------------------------

    /// Whether edits reach the disk.
    ///
    /// # Errors
    /// [`CommandError::NotSaving`]: none is taken until the disk writes again.
    pub fn check_saving(&self) -> Result<(), CommandError> {
        if let Some(failure) = &self.store_failure {
            return Err(CommandError::NotSaving { reason: failure.reason.clone() });
        }
        if self.unsaved.len() >= MAX_UNSAVED_BATCHES {
            return Err(CommandError::NotSaving { reason: "the disk does not keep up".into() });
        }
        Ok(())
    }

    /// Writes values into documents, all or none, and hands the changes to the disk.
    fn write(&mut self, now_ms: u64, edits: &Edits) -> Result<Option<BatchId>, CommandError> {
        let fits = |(name, values): (&String, _)| {
            self.documents.get(name).is_none_or(|document| document.fits(values).is_ok())
        };
        if !edits.iter().all(fits) {
            return Err(CommandError::Crowded);
        }
        for (name, values) in edits {
            let session = self.session;
            let document = self.documents.entry(name.clone()).or_insert_with(|| Document::new(name, session));
            if let Err(reason) = document.stage(self.author, values) {
                for name in edits.keys() {
                    if let Some(document) = self.documents.get_mut(name) {
                        document.rollback();
                    }
                }
                return Err(CommandError::Engine { reason });
            }
        }
        let unix_s = i64::try_from(now_ms / 1_000).unwrap_or(i64::MAX);
        let mut signed = Vec::new();
        let mut addresses = Vec::new();
        for (name, values) in edits {
            let Some(document) = self.documents.get_mut(name) else { continue };
            if let Some(change) = document.commit(self.author, &mut self.signing_key, unix_s, values) {
                signed.push((name.clone(), change));
                addresses.extend(values.keys().flat_map(|key| place::addresses(name, key)));
            }
        }
        if signed.is_empty() {
            return Ok(None);
        }
        let batch = self.store(signed.clone(), signed);
        self.changed(addresses);
        self.settle(now_ms, edits.keys().cloned().collect());
        Ok(Some(batch))
    }

    /// Hands changes to the disk; `announce` is sent to everybody once they are there.
    fn store(
        &mut self,
        changes: Vec<(String, SignedChange)>,
        announce: Vec<(String, SignedChange)>,
    ) -> BatchId {
        let mut writes = Vec::with_capacity(changes.len());
        for (document, change) in changes {
            let log = self.logs.entry(document.clone()).or_default();
            writes.push(Write::Append { document, n: log.next, change });
            log.next += 1;
            log.changes += 1;
        }
        self.submit(writes, announce)
    }

    fn submit(&mut self, writes: Vec<Write>, announce: Vec<(String, SignedChange)>) -> BatchId {
        let id = BatchId(self.next_batch);
        self.next_batch += 1;
        let batch = Batch { id, writes };
        self.outputs.push_back(Output::Store(batch.clone()));
        self.unsaved.insert(id, Unsaved { batch, announce, failed: false });
        id
    }

    /// After documents have changed: checks that they load back where that is due, and writes them as a whole where
    /// enough was written singly.
    fn settle(&mut self, now_ms: u64, names: Vec<String>) {
        for name in names {
            let Some(document) = self.documents.get_mut(&name) else { continue };
            let compact = self
                .logs
                .get(&name)
                .is_some_and(|log| log.changes >= COMPACT_AFTER_CHANGES.max(document.changes() / 4));
            if !compact && !document.wants_check() {
                continue;
            }
            match document.check() {
                Ok(saved) if compact => {
                    let saved = saved.clone();
                    let log = self.logs.entry(name.clone()).or_default();
                    log.generation += 1;
                    log.changes = 0;
                    let write =
                        Write::Snapshot { document: name, generation: log.generation, saved, next: log.next };
                    self.submit(vec![write], Vec::new());
                }
                Ok(_) => {}
                Err(_) => self.rebuild(now_ms, &name),
            }
        }
    }

    /// Throws away a document the engine broke on and builds it again without what broke it.
    fn rebuild(&mut self, now_ms: u64, name: &str) {
        let Some(document) = self.documents.get_mut(name) else { return };
        match document.rebuild(self.author) {
            Ok(Rebuilt { culprits, lost }) => {
                for member in culprits {
                    let reason = format!("a change broke document {name}");
                    self.outputs.push_back(Output::Quarantined { member, reason });
                }
                // The numbers of changes that are gone must not be used a second time.
                self.author.start = self.rng.random();
                self.fresh_author();
                let lost: BTreeMap<String, ScalarValue> = lost.into_iter().collect();
                if !lost.is_empty()
                    && let Err(error) = self.write(now_ms, &BTreeMap::from([(name.to_owned(), lost)]))
                {
                    self.warn(error.to_string());
                }
            }
            Err(reason) => {
                let fresh = Document::new(name, self.session);
                self.documents.insert(name.to_owned(), fresh);
                self.author.start = self.rng.random();
                self.fresh_author();
                self.warn(format!("document {name} is lost ({reason}); waiting for a peer to send it"));
            }
        }
    }

    // --- Helpers --------------------------------------------------------------------------------------------

    fn digest(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        for document in self.documents.values().filter(|document| !document.is_empty()) {
            hash.update(document.name().as_bytes());
            hash.update([0]);
            hash.update(document.digest());
        }
        hash.finalize().into()
    }

    fn changed(&mut self, mut addresses: Vec<String>) {
        addresses.sort_unstable();
        addresses.dedup();
        if !addresses.is_empty() {
            self.outputs.push_back(Output::Changed { addresses });
        }
    }

    fn warn(&mut self, text: String) {
        self.outputs.push_back(Output::Warning(text));
    }

    /// Warns of what somebody may do again and again.
    fn warn_once(&mut self, text: String) {
        if self.warned.len() < MAX_WARNED && self.warned.insert(text.clone()) {
            self.warn(text);
        }
    }
}

/// Values to be written, by document and key.
type Edits = BTreeMap<String, BTreeMap<String, ScalarValue>>;

/// A clock that never goes back, made from one that may.
#[derive(Default)]
struct SteadyClock {
    latest: u64,
    shift: u64,
}

impl SteadyClock {
    fn steady(&mut self, given_ms: u64) -> u64 {
        let steady = given_ms.saturating_add(self.shift);
        if steady < self.latest {
            self.shift = self.latest.saturating_sub(given_ms);
        } else {
            self.latest = steady;
        }
        self.latest
    }

    fn given(&self, steady_ms: u64) -> u64 {
        steady_ms.saturating_sub(self.shift)
    }
}

#[cfg(test)]
mod tests;
