//! The project's side of the conversation with peers; what is said is in [`crate::sync`].
//!
//! A change names every open branch it merges and every value it replaces. So a member who opens hundreds of branches, or
//! sets one thing hundreds of times at once, under as many numbers of starts, could make everybody else's next change
//! larger than any node takes. How many is too many cannot be a reason to refuse: which came first is different on every
//! node, and nodes that refuse different changes never become equal. Idea: who sees [`MAX_BRANCHES`] merges them at once
//! by a small change of its own, and who sees [`MAX_RIVALS`] at one key writes there once more what was chosen. Both are
//! changes like any other, so everybody ends up equal, and both limits are half of what a change may hold.

use std::collections::{BTreeMap, BTreeSet};

use automerge::ScalarValue;

use super::place::{self, DOCUMENTS, MIXER};
use super::view::to_json;
use super::{MAX_QUEUED_SENDS, MAX_UNSAVED_BATCHES, Output, Project};
use crate::document::{Cause, Document, Received};
use crate::member::{Author, PeerKey};
use crate::sync::{ANSWER_BYTES, DIGEST_INTERVAL_MS, Message, PROTOCOL_VERSION, PeerState, Standing};
use crate::vetting::{MAX_DEPENDENCIES, Refusal, SignedChange, Vetted, vet};

/// Branches of a document that may be open; with more they are merged. A band's nodes open one each.
const MAX_BRANCHES: usize = MAX_DEPENDENCIES / 2;
/// Values that may stand at one key at once; with more the chosen one is written again.
const MAX_RIVALS: usize = MAX_DEPENDENCIES / 2;
/// Most peers that are spoken with.
const MAX_PEERS: usize = 256;
/// Most authors in one question; a document has one per start of a member who wrote in it.
const MAX_AUTHORS: usize = 50_000;

impl Project {
    /// A connection to a member is open. If there was one before, this replaces it.
    pub fn handle_peer_connected(&mut self, now_ms: u64, peer: PeerKey) {
        let now = self.clock.steady(now_ms);
        if peer == self.me || (self.peers.len() >= MAX_PEERS && !self.peers.contains_key(&peer)) {
            return;
        }
        if self.peers.is_empty() {
            self.next_digest_ms = now + DIGEST_INTERVAL_MS;
        }
        self.peers.insert(peer, PeerState::new(now));
        self.send(peer, &self.digest_message());
    }

    /// The connection to a member is gone.
    pub fn handle_peer_disconnected(&mut self, now_ms: u64, peer: PeerKey) {
        self.clock.steady(now_ms);
        self.peers.remove(&peer);
        self.waiting.forget(peer);
    }

    /// A frame from a connected member: any bytes, which may be lost, repeated or made up.
    pub fn handle_message(&mut self, now_ms: u64, peer: PeerKey, frame: &[u8]) {
        let now = self.clock.steady(now_ms);
        let Some(state) = self.peers.get_mut(&peer) else { return };
        if state.standing == Standing::Ignored {
            return;
        }
        let Some(message) = Message::decode(frame) else {
            self.quarantine(peer, "a frame is not a message");
            return;
        };
        match message {
            Message::Digest { version, session, digest } => {
                self.hear_digest(now, peer, version, session, digest)
            }
            _ if state.standing == Standing::New => {}
            Message::Summary { documents, answer } => self.hear_summary(now, peer, documents, answer),
            Message::Want { document, have } => self.hear_want(now, peer, document, have),
            Message::Changes { document, changes, answers, more } => {
                self.hear_changes(now_ms, now, peer, document, changes, answers, more);
            }
        }
        self.ask(now, peer);
    }

    /// Sends everybody what has become durable.
    pub(super) fn announce(&mut self, changes: Vec<(String, SignedChange)>) {
        let peers: Vec<PeerKey> = self
            .peers
            .iter()
            .filter(|(_, s)| s.standing == Standing::Trusted)
            .map(|(peer, _)| *peer)
            .collect();
        for (document, change) in changes {
            let message = Message::Changes { document, changes: vec![change], answers: false, more: false };
            for peer in &peers {
                self.send(*peer, &message);
            }
        }
    }

    /// Sends digests when they are due and asks again what was not answered.
    pub(super) fn tell_digests(&mut self, now: u64) {
        if self.peers.is_empty() || now < self.next_digest_ms {
            return;
        }
        self.next_digest_ms = now + DIGEST_INTERVAL_MS;
        let message = self.digest_message();
        let peers: Vec<PeerKey> = self.peers.keys().copied().collect();
        for peer in peers {
            if let Some(state) = self.peers.get_mut(&peer)
                && state.standing != Standing::Ignored
            {
                state.expire(now);
                self.send(peer, &message);
                self.ask(now, peer);
            }
        }
    }

    // --- Hearing --------------------------------------------------------------------------------------------

    fn hear_digest(&mut self, now: u64, peer: PeerKey, version: u16, session: [u8; 32], digest: [u8; 32]) {
        let equal = digest == self.digest();
        let Some(state) = self.peers.get_mut(&peer) else { return };
        let first = state.standing == Standing::New;
        if version != PROTOCOL_VERSION || session != self.session {
            state.standing = Standing::Ignored;
            let what =
                if version == PROTOCOL_VERSION { "another session" } else { "another program version" };
            self.warn(format!("{} is of {what}; projects are not exchanged", peer.name()));
            return;
        }
        state.standing = Standing::Trusted;
        if state.question_budget.take(now) && state.compare(now, equal, first) {
            let message = self.summary_message(true);
            self.send(peer, &message);
        }
    }

    fn hear_summary(&mut self, now: u64, peer: PeerKey, documents: Vec<(String, [u8; 32])>, answer: bool) {
        let Some(state) = self.peers.get_mut(&peer) else { return };
        if !state.question_budget.take(now) {
            return;
        }
        if documents.len() > DOCUMENTS.len() || documents.iter().any(|(name, _)| !place::is_document(name)) {
            self.quarantine(peer, "a summary is of no possible project");
            return;
        }
        for (name, digest) in &documents {
            if self.documents.get(name).is_none_or(|document| document.digest() != *digest) {
                state.want(name);
            }
        }
        if answer && state.may_send_summary(now) {
            let message = self.summary_message(false);
            self.send(peer, &message);
        }
    }

    fn hear_want(&mut self, now: u64, peer: PeerKey, name: String, have: Vec<(Author, u64)>) {
        let sent = self.durable_changes(&name);
        let Some(state) = self.peers.get_mut(&peer) else { return };
        if !state.question_budget.take(now) {
            return;
        }
        if !place::is_document(&name) || have.len() > MAX_AUTHORS {
            self.quarantine(peer, "a question is about no possible document");
            return;
        }
        let have: BTreeMap<Author, u64> = have.into_iter().collect();
        let Some(document) = self.documents.get_mut(&name) else {
            let message = Message::Changes { document: name, changes: vec![], answers: true, more: false };
            self.send(peer, &message);
            return;
        };
        let held: BTreeMap<Author, u64> = document.frontier().into_iter().collect();
        if have.iter().any(|(author, n)| held.get(author).copied().unwrap_or(0) < *n) {
            state.want(&name);
        }
        let (changes, more) = document.missing_from(&have, (self.author, sent), ANSWER_BYTES);
        self.send(peer, &Message::Changes { document: name, changes, answers: true, more });
    }

    #[expect(clippy::too_many_arguments, reason = "the fields of one message and the two clocks")]
    fn hear_changes(
        &mut self,
        now_ms: u64,
        now: u64,
        peer: PeerKey,
        name: String,
        changes: Vec<SignedChange>,
        answers: bool,
        more: bool,
    ) {
        let Some(state) = self.peers.get_mut(&peer) else { return };
        if !place::is_document(&name) {
            self.quarantine(peer, "changes are of no possible document");
            return;
        }
        let asked = answers && state.answered(&name);
        if self.unsaved.len() >= MAX_UNSAVED_BATCHES || self.store_failure.is_some() {
            // Dropped: what cannot be saved is not taken, and the digests keep reminding us.
            return;
        }
        // The frame pays for its first change, and also if there is none.
        if !asked && !state.change_budget.take(now) {
            state.want(&name);
            return;
        }
        let mut intake = Intake::default();
        for (n, signed) in changes.into_iter().enumerate() {
            let Some(state) = self.peers.get_mut(&peer) else { return };
            if !asked && n > 0 && !state.change_budget.take(now) {
                state.want(&name);
                break;
            }
            if let Err(refusal) = self.take_in(peer, &name, signed, &mut intake) {
                self.refused(now_ms, peer, &name, refusal);
                // Whoever is not at fault goes on, but it was work, also in an answer.
                let goes_on = |state: &mut PeerState| {
                    state.standing != Standing::Ignored && state.change_budget.take(now)
                };
                if !self.peers.get_mut(&peer).is_some_and(goes_on) {
                    break;
                }
            }
            self.merge_branches(now_ms, &name, &mut intake);
        }
        self.retry_waiting(now_ms, &name, &mut intake);
        // An answer has all that it builds on, so after one that was of no use the same question would get it again.
        let again = if asked { intake.useful && (intake.too_early || more) } else { intake.too_early };
        if let Some(state) = self.peers.get_mut(&peer)
            && again
        {
            state.want(&name);
        }
        self.keep(now_ms, &name, &mut intake);
    }

    /// Hands what was taken in to the disk and says what has changed.
    fn keep(&mut self, now_ms: u64, name: &str, intake: &mut Intake) {
        if intake.accepted.is_empty() {
            return;
        }
        let accepted = std::mem::take(&mut intake.accepted);
        self.store(accepted.into_iter().map(|change| (name.to_owned(), change)).collect(), Vec::new());
        let mut keys = std::mem::take(&mut intake.keys);
        keys.sort_unstable();
        keys.dedup();
        self.changed(keys.iter().flat_map(|key| place::addresses(name, key)).collect());
        self.report_conflicts(name, &keys);
        self.settle(now_ms, vec![name.to_owned()]);
    }

    /// Merges branches and settles rivals where there are too many of them.
    fn merge_branches(&mut self, now_ms: u64, name: &str, intake: &mut Intake) {
        let Some(document) = self.documents.get(name) else { return };
        let crowded = std::mem::take(&mut intake.crowded);
        let mut steps: Vec<(String, ScalarValue)> = Vec::new();
        for key in crowded {
            let Some(register) = document.register(&key) else { continue };
            // What stands there already cannot be written again, so something else comes in between.
            let other = match &register.value {
                ScalarValue::Int(0) => ScalarValue::Int(1),
                _ => ScalarValue::Int(0),
            };
            steps.extend([(key.clone(), other), (key, register.value.clone())]);
        }
        if steps.is_empty() && document.branches() > MAX_BRANCHES {
            let merged = document.register(place::MERGED).and_then(|register| register.value.as_i64());
            let next = ScalarValue::Int(merged.unwrap_or_default().wrapping_add(1));
            steps.push((place::MERGED.to_owned(), next));
        }
        if steps.is_empty() {
            return;
        }
        self.keep(now_ms, name, intake);
        for step in steps {
            let edits = BTreeMap::from([(name.to_owned(), BTreeMap::from([step]))]);
            if let Err(error) = self.write(now_ms, &edits) {
                self.warn(format!("the branches of document {name} could not be merged: {error}"));
                return;
            }
        }
    }

    fn take_in(
        &mut self,
        peer: PeerKey,
        name: &str,
        signed: SignedChange,
        intake: &mut Intake,
    ) -> Result<(), Refusal> {
        let vetted = vet(signed)?;
        let session = self.session;
        let document = self.documents.entry(name.to_owned()).or_insert_with(|| Document::new(name, session));
        match document.receive(&vetted)? {
            Received::Known => {}
            Received::Applied(keys) => intake.took(document, keys, vetted),
            Received::TooEarly(cause, proved) => {
                intake.too_early = true;
                self.waiting.park(name, cause, peer, Vetted { proved, ..vetted });
            }
        }
        Ok(())
    }

    /// Takes in what waited for what has come.
    fn retry_waiting(&mut self, now_ms: u64, name: &str, intake: &mut Intake) {
        while let Some(cause) = intake.arrived.pop() {
            for (from, vetted) in self.waiting.take(name, cause) {
                let Some(document) = self.documents.get_mut(name) else { return };
                match document.receive(&vetted) {
                    Ok(Received::Applied(keys)) => {
                        intake.took(document, keys, vetted);
                        self.merge_branches(now_ms, name, intake);
                    }
                    Ok(Received::TooEarly(cause, proved)) => {
                        self.waiting.park(name, cause, from, Vetted { proved, ..vetted });
                    }
                    Ok(Received::Known) => {}
                    Err(refusal) => self.refused(now_ms, from, name, refusal),
                }
            }
        }
    }

    /// Honest nodes vet before they pass anything on, so whoever delivers a bad change is at fault. An author who forks
    /// leads others to pass on what is good only where they are; then only the author itself is.
    fn refused(&mut self, now_ms: u64, peer: PeerKey, name: &str, refusal: Refusal) {
        match refusal {
            Refusal::Forked(author) | Refusal::Unverifiable(author) if author != peer => {
                self.warn_once(format!(
                    "document {name}: {refusal}; what came first is kept, nodes that heard something else stay different"
                ));
            }
            Refusal::Broke(_) => {
                self.quarantine(peer, &refusal.to_string());
                self.rebuild(now_ms, name);
            }
            _ => self.quarantine(peer, &refusal.to_string()),
        }
    }

    fn report_conflicts(&mut self, name: &str, keys: &[String]) {
        // Two hands on one fader is no news: the next move settles it.
        if name == MIXER {
            return;
        }
        for key in keys {
            let Some(document) = self.documents.get(name) else { return };
            let (rivals, chosen) = (document.rivals(key), document.register(key).map(|r| to_json(&r.value)));
            let values: Vec<_> = rivals.iter().map(to_json).collect();
            if let Some(chosen) = chosen
                && values.iter().any(|value| *value != chosen)
            {
                let address = place::address(name, key);
                self.outputs.push_back(Output::Conflict { address, values, chosen });
            }
        }
    }

    // --- Speaking -------------------------------------------------------------------------------------------

    /// Asks a peer for documents as long as few enough answers are outstanding.
    fn ask(&mut self, now: u64, peer: PeerKey) {
        while let Some(document) = self.peers.get_mut(&peer).and_then(|state| state.next_question(now)) {
            let have = self.documents.get(&document).map(Document::frontier).unwrap_or_default();
            self.send(peer, &Message::Want { document, have });
        }
    }

    fn digest_message(&self) -> Message {
        Message::Digest { version: PROTOCOL_VERSION, session: self.session, digest: self.digest() }
    }

    fn summary_message(&self, answer: bool) -> Message {
        let held = self.documents.values().filter(|document| !document.is_empty());
        let documents = held.map(|document| (document.name().to_owned(), document.digest())).collect();
        Message::Summary { documents, answer }
    }

    /// How many of this start's changes in a document may be given away: those that are on disk.
    fn durable_changes(&self, name: &str) -> u64 {
        let own = self.documents.get(name).map_or(0, |document| document.changes_of(self.author));
        let unsaved = self.unsaved.values().flat_map(|unsaved| &unsaved.announce);
        own.saturating_sub(unsaved.filter(|(document, _)| document == name).count() as u64)
    }

    fn quarantine(&mut self, member: PeerKey, reason: &str) {
        if let Some(state) = self.peers.get_mut(&member) {
            state.standing = Standing::Ignored;
        }
        self.waiting.forget(member);
        self.outputs.push_back(Output::Quarantined { member, reason: reason.to_owned() });
    }

    fn send(&mut self, peer: PeerKey, message: &Message) {
        if self.queued_sends < MAX_QUEUED_SENDS {
            self.queued_sends += 1;
            self.outputs.push_back(Output::Send { peer, bytes: message.encode() });
        }
    }
}

/// What came of the changes in one message.
#[derive(Default)]
struct Intake {
    accepted: Vec<SignedChange>,
    keys: Vec<String>,
    /// Keys at which too many values stand at once.
    crowded: BTreeSet<String>,
    /// What others may have waited for.
    arrived: Vec<Cause>,
    /// Anything was new.
    useful: bool,
    too_early: bool,
}

impl Intake {
    fn took(&mut self, document: &Document, keys: Vec<String>, vetted: Vetted) {
        self.useful = true;
        let Vetted { change, author, signed, .. } = vetted;
        self.arrived.extend([Cause::Change(change.hash().0), Cause::Number(author, change.seq())]);
        self.crowded.extend(keys.iter().filter(|key| document.rival_count(key) > MAX_RIVALS).cloned());
        self.keys.extend(keys);
        self.accepted.push(signed);
    }
}
