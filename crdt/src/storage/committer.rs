//! The thread that writes: group commit.
//!
//! Problem: an fsync takes milliseconds, edits come in bursts. Idea: whatever waits when the disk is free goes into one
//! transaction, and two transactions are at least 50 ms apart. A single edit after a pause is written at once.

use std::io;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::{Batch, BatchId, Store};

/// Least time between two transactions: at most 20 fsyncs a second.
const COMMIT_INTERVAL: Duration = Duration::from_millis(50);
/// Most batches that wait; [`Committer::submit`] gives back what does not fit.
const QUEUE: usize = 2_048;

/// A thread that commits batches to a [`Store`] and reports on each.
#[derive(Debug)]
pub struct Committer {
    queue: SyncSender<Batch>,
    thread: JoinHandle<()>,
}

impl Committer {
    /// Starts the thread. `done` is called on it for each batch, once, with the result.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(
        store: Store,
        done: impl FnMut(BatchId, Result<(), String>) + Send + 'static,
    ) -> io::Result<Committer> {
        let (queue, batches) = sync_channel(QUEUE);
        let thread =
            thread::Builder::new().name("project-writer".into()).spawn(move || run(store, &batches, done))?;
        Ok(Committer { queue, thread })
    }

    /// Hands over a batch without blocking.
    ///
    /// # Errors
    /// The queue of 2,048 batches is full or the thread is gone; the batch comes back. Answer it with
    /// [`crate::Project::handle_stored`] and an error, then it is tried again.
    pub fn submit(&self, batch: Batch) -> Result<(), Batch> {
        self.queue.try_send(batch).map_err(|error| match error {
            TrySendError::Full(batch) | TrySendError::Disconnected(batch) => batch,
        })
    }

    /// Writes what waits, then ends the thread. Blocks for as long as the disk takes.
    pub fn stop(self) {
        drop(self.queue);
        // A panic on the thread was reported there; there is nothing left to end.
        let _ = self.thread.join();
    }
}

fn run(mut store: Store, batches: &Receiver<Batch>, mut done: impl FnMut(BatchId, Result<(), String>)) {
    let mut next_commit = Instant::now();
    while let Ok(first) = batches.recv() {
        let mut group = vec![first];
        while group.len() < QUEUE
            && let Ok(batch) = batches.recv_timeout(next_commit.saturating_duration_since(Instant::now()))
        {
            group.push(batch);
        }
        next_commit = Instant::now() + COMMIT_INTERVAL;
        let result = store.commit(&group).map_err(|error| error.to_string());
        for batch in group {
            done(batch.id, result.clone());
        }
    }
}
