//! Changes that wait for what they build on.
//!
//! Problem: changes overtake each other, so one may come before what it depends on. Until its author's change before it
//! is there, the signature cannot be checked, so anybody can send any number of such changes in anybody's name. Idea:
//! keep a bounded amount, of each peer and in all, each with who delivered it, and with that peer they go. Each waits
//! under one change that it lacks, so what comes makes no work but for what waited for it. What is not kept is asked for
//! again by the digests.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use crate::document::Cause;
use crate::member::PeerKey;
use crate::vetting::Vetted;

/// Most changes that wait.
const MAX_CHANGES: usize = 2_048;
/// Most memory for the changes that one peer delivered, in bytes.
const MAX_PEER_BYTES: usize = 2 * 1024 * 1024;
/// Most memory for all of them, in bytes.
const MAX_BYTES: usize = 4 * MAX_PEER_BYTES;

/// A change by its hash and its signature: the hash alone would let a forged copy keep out the genuine one.
type Delivered = ([u8; 32], Vec<u8>);

/// What waits, by document and what it waits for.
#[derive(Default)]
pub(super) struct Waiting {
    causes: BTreeMap<(String, Cause), BTreeMap<Delivered, (PeerKey, Vetted)>>,
    changes: usize,
    bytes: BTreeMap<PeerKey, usize>,
}

impl Waiting {
    /// Keeps a change that `from` delivered, if there is room.
    pub(super) fn park(&mut self, document: &str, cause: Cause, from: PeerKey, vetted: Vetted) {
        let (memory, of_peer) = (vetted.memory(), self.bytes.get(&from).copied().unwrap_or(0));
        if self.changes >= MAX_CHANGES
            || of_peer + memory > MAX_PEER_BYTES
            || self.bytes() + memory > MAX_BYTES
        {
            return;
        }
        let delivered = (vetted.change.hash().0, vetted.signed.signature.clone());
        let waiting = self.causes.entry((document.to_owned(), cause)).or_default();
        if let Entry::Vacant(entry) = waiting.entry(delivered) {
            entry.insert((from, vetted));
            self.changes += 1;
            *self.bytes.entry(from).or_default() += memory;
        }
    }

    /// Takes out all that waits in a document for a change that has come.
    pub(super) fn take(&mut self, document: &str, cause: Cause) -> Vec<(PeerKey, Vetted)> {
        let taken = self.causes.remove(&(document.to_owned(), cause)).unwrap_or_default();
        let taken: Vec<_> = taken.into_values().collect();
        self.changes -= taken.len();
        for (from, vetted) in &taken {
            self.give_back(*from, vetted.memory());
        }
        taken
    }

    /// Forgets what a peer delivered.
    pub(super) fn forget(&mut self, peer: PeerKey) {
        self.bytes.remove(&peer);
        for waiting in self.causes.values_mut() {
            waiting.retain(|_, (from, _)| *from != peer);
        }
        self.causes.retain(|_, waiting| !waiting.is_empty());
        self.changes = self.causes.values().map(BTreeMap::len).sum();
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.changes
    }

    /// The memory of all that waits.
    pub(super) fn bytes(&self) -> usize {
        self.bytes.values().sum()
    }

    fn give_back(&mut self, from: PeerKey, memory: usize) {
        match self.bytes.get_mut(&from) {
            Some(bytes) if *bytes > memory => *bytes -= memory,
            _ => drop(self.bytes.remove(&from)),
        }
    }
}
