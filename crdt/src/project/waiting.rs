//! Changes that wait for what they build on.
//!
//! Problem: changes overtake each other, so one may come before what it depends on. Until that is there, its author's
//! signature cannot be checked, so anybody can send any number of such changes in anybody's name. Idea: keep a bounded
//! amount, of each peer and in all, each with who delivered it: with that peer they go, and that peer is at fault if one
//! turns out to be forged. What is not kept is asked for again by the digests.

use std::collections::BTreeMap;

use crate::member::PeerKey;
use crate::vetting::Vetted;

/// Most changes that wait.
const MAX_CHANGES: usize = 2_048;
/// Most memory for the changes that one peer delivered, in bytes.
const MAX_PEER_BYTES: usize = 2 * 1024 * 1024;
/// Most memory for all of them, in bytes.
const MAX_BYTES: usize = 4 * MAX_PEER_BYTES;

/// A place that grows along every dependency: the first operation, and the hash.
type Place = (u64, [u8; 32]);

/// What waits, by document, causes first.
#[derive(Default)]
pub(super) struct Waiting {
    documents: BTreeMap<String, BTreeMap<Place, (PeerKey, Vetted)>>,
    bytes: BTreeMap<PeerKey, usize>,
}

impl Waiting {
    /// Keeps a change that `from` delivered, if there is room.
    pub(super) fn park(&mut self, document: &str, from: PeerKey, vetted: Vetted) {
        let (memory, of_peer) = (vetted.memory(), self.bytes.get(&from).copied().unwrap_or(0));
        if self.len() >= MAX_CHANGES || of_peer + memory > MAX_PEER_BYTES || self.bytes() + memory > MAX_BYTES
        {
            return;
        }
        let place = (vetted.change.start_op().get(), vetted.change.hash().0);
        let waiting = self.documents.entry(document.to_owned()).or_default();
        // The first delivery stays: if it is forged, its peer is found out and the change is asked for again.
        if let std::collections::btree_map::Entry::Vacant(entry) = waiting.entry(place) {
            entry.insert((from, vetted));
            *self.bytes.entry(from).or_default() += memory;
        }
    }

    /// Takes out all that waits in a document, causes first.
    pub(super) fn take(&mut self, document: &str) -> Vec<(PeerKey, Vetted)> {
        let taken: Vec<_> = self.documents.remove(document).unwrap_or_default().into_values().collect();
        for (from, vetted) in &taken {
            self.give_back(*from, vetted.memory());
        }
        taken
    }

    /// Forgets what a peer delivered.
    pub(super) fn forget(&mut self, peer: PeerKey) {
        self.bytes.remove(&peer);
        for waiting in self.documents.values_mut() {
            waiting.retain(|_, (from, _)| *from != peer);
        }
        self.documents.retain(|_, waiting| !waiting.is_empty());
    }

    pub(super) fn len(&self) -> usize {
        self.documents.values().map(BTreeMap::len).sum()
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
