//! The thread that writes the project to disk, as a value.
//!
//! In the product a committer thread gathers batches and commits them together. Here the commit's operations
//! reach the disk at once and the world says when they are done, so that a power cut can fall in between.

use std::collections::{BTreeMap, VecDeque};

use crdt::storage::{Batch, BatchId, Store};

/// Batches that may wait for the disk; beyond it they are refused, as the product's bounded queue does.
pub(super) const MAX_WAITING: usize = 1024;

/// A finished batch: what it is, whose edits it carries, and how it went.
pub(super) type Finished = (BatchId, Vec<String>, Result<(), String>);

pub(super) struct Saving {
    store: Store,
    waiting: VecDeque<Batch>,
    under_way: Option<(Vec<BatchId>, Result<(), String>)>,
    promised: BTreeMap<BatchId, Vec<String>>,
    most_waiting: usize,
}

impl Saving {
    pub(super) fn new(store: Store) -> Self {
        Self { store, waiting: VecDeque::new(), under_way: None, promised: BTreeMap::new(), most_waiting: 0 }
    }

    /// Takes a batch; gives it back when the queue is full.
    pub(super) fn submit(&mut self, batch: Batch) -> Result<(), Batch> {
        if self.waiting.len() >= MAX_WAITING {
            return Err(batch);
        }
        self.waiting.push_back(batch);
        self.most_waiting = self.most_waiting.max(self.waiting.len());
        Ok(())
    }

    /// Somebody waits for this batch, which carries edits of these addresses.
    pub(super) fn promise(&mut self, batch: BatchId, addresses: Vec<String>) {
        self.promised.entry(batch).or_default().extend(addresses);
    }

    /// Begins a commit if there is something to commit and the disk is free. Returns whether it did.
    pub(super) fn begin(&mut self) -> bool {
        if self.under_way.is_some() || self.waiting.is_empty() {
            return false;
        }
        let batches: Vec<Batch> = self.waiting.drain(..).collect();
        let result = self.store.commit(&batches).map_err(|error| error.to_string());
        self.under_way = Some((batches.iter().map(Batch::id).collect(), result));
        true
    }

    /// The disk is done.
    pub(super) fn finish(&mut self) -> Vec<Finished> {
        let Some((batches, result)) = self.under_way.take() else { return vec![] };
        let promised = &mut self.promised;
        batches
            .into_iter()
            .map(|batch| (batch, promised.remove(&batch).unwrap_or_default(), result.clone()))
            .collect()
    }

    pub(super) fn is_under_way(&self) -> bool {
        self.under_way.is_some()
    }

    pub(super) fn most_waiting(&self) -> usize {
        self.most_waiting
    }
}
