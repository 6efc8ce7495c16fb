//! What nodes say to each other about the project, and what each remembers about the other.
//!
//! Problem: every edit must reach everybody at once, and whatever was missed (a lost connection, a partition, a node that
//! was away for a month) must be found and repaired, at a cost that grows with what is missing and not with the history.
//! Idea: new changes are sent to everybody directly. Apart from that each node tells the others every
//! two seconds a digest of all it holds. Digests that stay different lead to a [`Message::Summary`] with one
//! digest per document; for documents that differ each side asks by [`Message::Want`] with the number of changes it holds
//! *per author*, and gets exactly what it lacks. Because authors number their changes without gaps, that
//! answer is exact, and any message may be lost: the next digest finds the difference again.
//!
//! Automerge's own sync protocol finds differences by Bloom filters instead. We do not use it: its messages
//! carry unvetted changes and compressed documents, a hostile filter can cost the reader any amount of time, and
//! without a state kept per peer its first message grows with the history. What it would give is speed for documents
//! with very many authors.
//!
//! Limits: a first copy travels as single changes, about 200 bytes each.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::member::Author;
use crate::vetting::SignedChange;

/// Version of these messages and of the documents they may name; nodes of different versions do not exchange projects.
/// Those of version 1 had a document for each track.
pub(crate) const PROTOCOL_VERSION: u16 = 2;
/// Largest frame that is read, in bytes.
pub(crate) const MAX_FRAME_BYTES: usize = 4 * 1024 * 1024 - 64;
/// About how much one answer to a [`Message::Want`] carries, in bytes: some 1,400 changes, which take the
/// receiver around 100 ms.
pub(crate) const ANSWER_BYTES: usize = 256 * 1024;
/// How often a digest is sent to each peer.
pub(crate) const DIGEST_INTERVAL_MS: u64 = 2_000;
/// How long digests must differ before anything is done: changes that are on their way arrive within that.
pub(crate) const MISMATCH_MS: u64 = 1_000;
/// How long an answer is waited for.
pub(crate) const ANSWER_TIMEOUT_MS: u64 = 5_000;
/// How many documents are asked for at once.
const MAX_ASKED: usize = 8;

/// One message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Message {
    /// First on every connection and then every two seconds: a digest of everything the sender holds.
    Digest { version: u16, session: [u8; 32], digest: [u8; 32] },
    /// A digest of each document the sender holds; `answer` asks for the receiver's in return.
    Summary { documents: Vec<(String, [u8; 32])>, answer: bool },
    /// Asks for the changes of a document beyond these.
    Want { document: String, have: Vec<(Author, u64)> },
    /// Changes, causes first. `answers` if they were asked for; `more` if asking again will give more.
    Changes { document: String, changes: Vec<SignedChange>, answers: bool, more: bool },
}

impl Message {
    pub(crate) fn encode(&self) -> Vec<u8> {
        // Encoding plain data into memory has no way to fail; an empty frame would be refused by the reader.
        postcard::to_stdvec(self).unwrap_or_default()
    }

    /// Reads a frame; `None` if it is too large or is not exactly one message.
    pub(crate) fn decode(frame: &[u8]) -> Option<Message> {
        if frame.len() > MAX_FRAME_BYTES {
            return None;
        }
        match postcard::take_from_bytes(frame) {
            Ok((message, [])) => Some(message),
            _ => None,
        }
    }
}

/// Whether a peer is listened to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Its version and session are not known yet.
    New,
    /// It is of our session and version.
    Trusted,
    /// It is of another session or version, or sent what no honest node sends.
    Ignored,
}

/// What is remembered about one connected peer.
pub(crate) struct PeerState {
    pub(crate) standing: Standing,
    /// Since when its digests differ from ours.
    mismatch_since_ms: Option<u64>,
    summary_sent_ms: Option<u64>,
    to_ask: BTreeSet<String>,
    asked: BTreeMap<String, u64>,
    /// Unasked changes it may still send, and frames without any.
    pub(crate) change_budget: Budget,
    /// Questions it may still ask.
    pub(crate) question_budget: Budget,
}

impl PeerState {
    pub(crate) fn new(now_ms: u64) -> PeerState {
        PeerState {
            standing: Standing::New,
            mismatch_since_ms: None,
            summary_sent_ms: None,
            to_ask: BTreeSet::new(),
            asked: BTreeMap::new(),
            // Eight members' gestures stay far below; see the findings on commit rates (4 per second each).
            change_budget: Budget::new(now_ms, 2_000, 500),
            // An answer costs about 15 ms. Whoever takes in a first copy asks ten times a second, see [`ANSWER_BYTES`].
            question_budget: Budget::new(now_ms, 256, 20),
        }
    }

    /// Judges a digest; says whether a summary should be sent now.
    pub(crate) fn compare(&mut self, now_ms: u64, equal: bool, at_once: bool) -> bool {
        if equal {
            self.mismatch_since_ms = None;
            return false;
        }
        let since = *self.mismatch_since_ms.get_or_insert(now_ms);
        (at_once || now_ms.saturating_sub(since) >= MISMATCH_MS) && self.may_send_summary(now_ms)
    }

    /// Whether a summary may be sent now, which it then is.
    pub(crate) fn may_send_summary(&mut self, now_ms: u64) -> bool {
        let recent = self.summary_sent_ms.is_some_and(|sent| now_ms.saturating_sub(sent) < MISMATCH_MS);
        if !recent {
            self.summary_sent_ms = Some(now_ms);
        }
        !recent
    }

    pub(crate) fn want(&mut self, document: &str) {
        if !self.asked.contains_key(document) {
            self.to_ask.insert(document.to_owned());
        }
    }

    /// The next document to ask for, if not too many answers are outstanding.
    pub(crate) fn next_question(&mut self, now_ms: u64) -> Option<String> {
        if self.asked.len() >= MAX_ASKED {
            return None;
        }
        let document = self.to_ask.pop_first()?;
        self.asked.insert(document.clone(), now_ms);
        Some(document)
    }

    /// Notes an answer; `false` if nothing of the kind was asked.
    pub(crate) fn answered(&mut self, document: &str) -> bool {
        self.asked.remove(document).is_some()
    }

    /// Gives up answers that are overdue; the next digest will ask again.
    pub(crate) fn expire(&mut self, now_ms: u64) {
        self.asked.retain(|_, asked| now_ms.saturating_sub(*asked) < ANSWER_TIMEOUT_MS);
    }
}

/// A rate limit that allows bursts.
pub(crate) struct Budget {
    tokens: u64,
    most: u64,
    per_second: u64,
    refilled_ms: u64,
}

impl Budget {
    fn new(now_ms: u64, most: u64, per_second: u64) -> Budget {
        Budget { tokens: most, most, per_second, refilled_ms: now_ms }
    }

    /// Takes one token; `false` if there is none.
    pub(crate) fn take(&mut self, now_ms: u64) -> bool {
        let elapsed_ms = now_ms.saturating_sub(self.refilled_ms);
        let earned = elapsed_ms.saturating_mul(self.per_second) / 1_000;
        if earned > 0 {
            self.tokens = self.most.min(self.tokens.saturating_add(earned));
            self.refilled_ms = now_ms;
        }
        match self.tokens.checked_sub(1) {
            Some(rest) => {
                self.tokens = rest;
                true
            }
            None => false,
        }
    }
}
