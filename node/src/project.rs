//! The shared project on a thread of its own.
//!
//! Merging a colleague's hour of edits may take many milliseconds, and making an edit durable waits for the
//! disk; neither may hold up a packet or an HTTP answer. So one thread owns the [`crdt::Project`] value, a
//! second (the committer in `crdt::storage`) writes to disk, and everybody else sends requests to the first
//! through a bounded queue.
//!
//! Queue policy: requests from this machine are answered "busy" when there is no room. Messages from peers may fill half
//! of the queue, and a bounded number of bytes each; beyond that they are dropped, which the project's own digests
//! repair within seconds.

mod coalesce;
mod recorded;

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use crdt::{
    Command, CommandError, Config, Outcome, Output, PeerKey, Project, UndoError, UndoLeft, Undone,
    storage::{BatchId, Committer, Store, StoreError},
};
use serde_json::Value;
use tokio::sync::oneshot;

use crate::trace::Recorder;
use coalesce::Coalescer;

pub use recorded::RecordedProject;

/// Requests that may wait for the project thread.
const QUEUE: usize = 1024;
/// Messages of peers among them.
const MAX_MESSAGES: usize = QUEUE / 2;
/// Bytes of one peer's messages among them: two of the longest.
const MAX_PEER_BYTES: usize = 8 * 1024 * 1024;
/// How long a caller waits for the project thread before it gets [`Unavailable`].
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// What the project thread tells the node.
#[derive(Debug)]
pub enum Event {
    /// Send these bytes to that member on the project channel; may be dropped.
    Send {
        /// To whom.
        peer: PeerKey,
        /// One project frame.
        bytes: Vec<u8>,
    },
    /// These addresses have other values now.
    Changed(Vec<String>),
    /// That member sent changes no honest node makes.
    Quarantined {
        /// Who.
        member: PeerKey,
        /// What is wrong with them.
        reason: String,
    },
    /// Something a person should read.
    Warning(String),
}

/// The project thread is gone or does not answer.
#[derive(Debug, thiserror::Error)]
#[error("the project does not answer; look at the log for the reason and restart the node")]
pub struct Unavailable;

/// Why the project could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A thread.
    #[error("no thread for the project ({0}); close other programs or raise `ulimit -u`")]
    Thread(#[from] std::io::Error),
}

/// Why commands were not carried out.
#[derive(Debug, thiserror::Error)]
pub enum EditError {
    /// A command is wrong; nothing was applied.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// Applied in memory, but the disk refused it; the band hears of it once it is saved.
    #[error(
        "the edit is not saved yet: {0}; free some disk space: it is kept in memory, is tried again every few seconds, and \
         reaches the other members once it is saved"
    )]
    NotSaved(String),
    /// No answer.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// Why nothing was undone or redone.
#[derive(Debug, thiserror::Error)]
pub enum UndoFailed {
    /// The project said no.
    #[error(transparent)]
    Refused(#[from] UndoError),
    /// As with an edit.
    #[error(transparent)]
    Edit(#[from] EditError),
}

/// What became of a list of commands.
#[derive(Clone, Debug)]
pub struct Edited {
    /// One result per command.
    pub results: Vec<Outcome>,
    /// The project's state after them.
    pub heads_hash: String,
    /// Whether they are on disk.
    pub durable: bool,
}

/// The project's state in a few words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Equal on two nodes exactly when their projects are equal.
    pub heads_hash: String,
    /// Changes in all documents.
    pub changes: u64,
    /// Whether everything is on disk.
    pub saved: bool,
    /// What can be undone and redone.
    pub undo: UndoLeft,
}

/// A handle on the project thread; cheap to clone.
#[derive(Clone)]
pub struct Handle {
    requests: SyncSender<Request>,
    summary: Arc<Mutex<Summary>>,
    waiting: Arc<Mutex<Waiting>>,
    stopping: Arc<AtomicBool>,
}

/// Messages of peers that wait for the project thread.
#[derive(Default)]
struct Waiting {
    messages: usize,
    bytes: BTreeMap<PeerKey, usize>,
}

enum Request {
    Edit { commands: Vec<Command>, wait: bool, gesture: bool, reply: Reply },
    Undo { redo: bool, what: oneshot::Sender<Result<Undone, UndoError>>, reply: Reply },
    Read { address: Option<String>, reply: oneshot::Sender<Option<Value>> },
    Connected(PeerKey),
    Disconnected(PeerKey),
    Message(PeerKey, Vec<u8>),
    Stored(BatchId, Result<(), String>),
    Stop,
}

/// The running project thread.
pub struct Running {
    /// The way to talk to it.
    pub handle: Handle,
    thread: std::thread::JoinHandle<()>,
}

/// Opens the project database at `path` and starts the thread. `events` is called on the project thread and
/// must not block. The second result says in sentences what was done about a damaged database.
///
/// # Errors
/// [`OpenError`], for instance when another node uses the database.
pub fn start(
    path: &Path,
    config: Config,
    recorder: Recorder,
    events: impl FnMut(Event) + Send + 'static,
) -> Result<(Running, Vec<String>), OpenError> {
    let (store, loaded) = Store::open(path)?;
    let notes = loaded.notes.clone();
    let (requests, queue) = sync_channel(QUEUE);
    let stored = requests.clone();
    let committer = Committer::start(store, move |batch, result| {
        // The project thread outlives the committer; a closed queue means both are stopping.
        let _ = stored.send(Request::Stored(batch, result));
    })?;
    let project = RecordedProject::new(unix_ms(), config, loaded, recorder);
    let summary = Arc::new(Mutex::new(summarise(&project)));
    let handle =
        Handle { requests, summary: summary.clone(), waiting: Arc::default(), stopping: Arc::default() };
    let actor = Actor {
        handle: handle.clone(),
        project,
        committer,
        summary,
        events,
        coalescer: Coalescer::default(),
        waiting: BTreeMap::new(),
        answers: vec![],
    };
    let thread = std::thread::Builder::new().name("project".into()).spawn(move || actor.run(queue))?;
    Ok((Running { handle, thread }, notes))
}

impl Running {
    /// Saves everything and ends the thread.
    pub fn stop(self) {
        self.handle.stopping.store(true, Ordering::Release);
        // Wakes the thread if it waits; if the queue is full it does not.
        let _ = self.handle.requests.try_send(Request::Stop);
        let _ = self.thread.join();
    }
}

impl Handle {
    /// Carries out `commands`, all or none, as one gesture that can be undone. With `wait` the answer comes once they are on
    /// disk; without, numbers set again and again are committed four times a second ([`coalesce`]), and shown at once.
    ///
    /// # Errors
    /// [`EditError`].
    pub async fn edit(&self, commands: Vec<Command>, wait: bool) -> Result<Edited, EditError> {
        self.answered(commands, wait, true).await
    }

    async fn answered(&self, commands: Vec<Command>, wait: bool, gesture: bool) -> Result<Edited, EditError> {
        let (reply, answer) = oneshot::channel();
        self.request(Request::Edit { commands, wait, gesture, reply })?;
        tokio::time::timeout(ANSWER_TIMEOUT, answer)
            .await
            .map_err(|_| Unavailable)?
            .map_err(|_| Unavailable)?
    }

    /// Takes this node's latest edit back, or makes the latest undone one again, and waits until that is on disk.
    ///
    /// # Errors
    /// [`UndoFailed`].
    pub async fn undo(&self, redo: bool) -> Result<Undone, UndoFailed> {
        let ((what, undone), (reply, answer)) = (oneshot::channel(), oneshot::channel());
        self.request(Request::Undo { redo, what, reply }).map_err(EditError::from)?;
        let outcome = tokio::time::timeout(ANSWER_TIMEOUT, async {
            let undone = undone.await.map_err(|_| EditError::Unavailable(Unavailable))??;
            answer.await.map_err(|_| EditError::Unavailable(Unavailable))??;
            Ok(undone)
        });
        outcome.await.unwrap_or_else(|_| Err(EditError::Unavailable(Unavailable).into()))
    }

    /// Carries out `commands` without waiting for any result and without undo; for what the node itself notes down.
    pub fn note(&self, commands: Vec<Command>) {
        let (reply, _) = oneshot::channel();
        if self.request(Request::Edit { commands, wait: false, gesture: false, reply }).is_err() {
            tracing::warn!("the project queue is full; an edit of the node's own was dropped");
        }
    }

    /// Edits of the node's own, which no undo takes back; waits until they are on disk.
    ///
    /// # Errors
    /// [`EditError`].
    pub async fn keep(&self, commands: Vec<Command>) -> Result<Edited, EditError> {
        self.answered(commands, true, false).await
    }

    /// The whole project, or the node at `address`; `None` when there is nothing.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn read(&self, address: Option<String>) -> Result<Option<Value>, Unavailable> {
        let (reply, answer) = oneshot::channel();
        self.request(Request::Read { address, reply })?;
        tokio::time::timeout(ANSWER_TIMEOUT, answer).await.map_err(|_| Unavailable)?.map_err(|_| Unavailable)
    }

    /// A member is here.
    pub fn connected(&self, peer: PeerKey) {
        if self.request(Request::Connected(peer)).is_err() {
            tracing::error!(
                "the project thread is too busy to take a member in; it will not sync until it reconnects"
            );
        }
    }

    /// A member is gone.
    pub fn disconnected(&self, peer: PeerKey) {
        let _ = self.request(Request::Disconnected(peer));
    }

    /// A project frame from a member. Dropped when too much waits already.
    pub fn message(&self, peer: PeerKey, bytes: Vec<u8>) {
        {
            let mut waiting = lock(&self.waiting);
            let of_peer = waiting.bytes.get(&peer).copied().unwrap_or(0);
            if waiting.messages >= MAX_MESSAGES || of_peer + bytes.len() > MAX_PEER_BYTES {
                tracing::debug!("too many project frames wait, one was dropped; digests will repair it");
                return;
            }
            waiting.messages += 1;
            waiting.bytes.insert(peer, of_peer + bytes.len());
        }
        if let Err(TrySendError::Full(Request::Message(peer, bytes))) =
            self.requests.try_send(Request::Message(peer, bytes))
        {
            self.taken(peer, bytes.len());
        }
    }

    fn taken(&self, peer: PeerKey, bytes: usize) {
        let mut waiting = lock(&self.waiting);
        waiting.messages = waiting.messages.saturating_sub(1);
        match waiting.bytes.get_mut(&peer) {
            Some(left) if *left > bytes => *left -= bytes,
            _ => drop(waiting.bytes.remove(&peer)),
        }
    }

    /// The state in a few words, without waiting.
    pub fn summary(&self) -> Summary {
        lock(&self.summary).clone()
    }

    fn request(&self, request: Request) -> Result<(), Unavailable> {
        self.requests.try_send(request).map_err(|_| Unavailable)
    }
}

struct Actor<F> {
    handle: Handle,
    project: RecordedProject,
    committer: Committer,
    summary: Arc<Mutex<Summary>>,
    events: F,
    coalescer: Coalescer,
    /// Answers that wait for their batch to be on disk.
    waiting: BTreeMap<BatchId, Vec<(Reply, Edited)>>,
    /// Answers that go out once the summary shows what they tell.
    answers: Vec<(Reply, Result<Edited, EditError>)>,
}

type Reply = oneshot::Sender<Result<Edited, EditError>>;

impl<F: FnMut(Event)> Actor<F> {
    fn run(mut self, queue: Receiver<Request>) {
        loop {
            self.drain();
            let now = unix_ms();
            let wait = match self.project.poll_deadline() {
                Some(at) => Duration::from_millis(at.saturating_sub(now).min(1_000)),
                None => Duration::from_secs(1),
            };
            let due = self.coalescer.poll_deadline();
            let wait = due.map_or(wait, |due| wait.min(due.saturating_duration_since(Instant::now())));
            match queue.recv_timeout(wait) {
                Ok(Request::Stop) | Err(RecvTimeoutError::Disconnected) => break,
                Ok(request) => self.handle(request),
                Err(RecvTimeoutError::Timeout) => {}
            }
            if self.handle.stopping.load(Ordering::Acquire) {
                break;
            }
            if self.project.poll_deadline().is_some_and(|at| at <= unix_ms()) {
                self.project.handle_deadline(unix_ms());
            }
            if self.coalescer.poll_deadline().is_some_and(|due| due <= Instant::now()) {
                self.commit_pending();
            }
        }
        self.commit_pending();
        self.drain();
        // From here on nobody listens, and the committer must not wait for room in the queue.
        drop(queue);
        self.committer.stop();
    }

    fn handle(&mut self, request: Request) {
        let now = unix_ms();
        match request {
            Request::Edit { commands, wait, gesture, reply } => {
                let may_wait = !wait && gesture && self.project.check_saving().is_ok();
                if may_wait && self.coalescer.defer(Instant::now(), &commands) {
                    let outcome = |command: Command| Outcome { address: command.address().to_owned() };
                    let results = commands.into_iter().map(outcome).collect();
                    let heads_hash = self.project.heads_hash();
                    self.answers.push((reply, Ok(Edited { results, heads_hash, durable: false })));
                    return;
                }
                if self.coalescer.must_follow(&commands) {
                    self.commit_pending();
                }
                let receipt = match gesture {
                    true => self.project.gesture(now, &commands),
                    false => self.project.command(now, &commands),
                };
                match receipt {
                    Err(error) => self.answers.push((reply, Err(error.into()))),
                    Ok(receipt) => {
                        self.coalescer.committed(Instant::now(), &commands);
                        self.answer(reply, receipt.results, receipt.batch, wait);
                    }
                }
            }
            Request::Undo { redo, what, reply } => {
                self.commit_pending();
                let undone = self.project.undo(now, redo);
                if let Ok(undone) = &undone {
                    self.answer(reply, Vec::new(), undone.batch, true);
                }
                // Whoever asked may have given up by now.
                drop(what.send(undone));
            }
            Request::Read { address, reply } => {
                let mut value = match &address {
                    None => Some(self.project.to_json()),
                    Some(address) => self.project.node_json(address),
                };
                if let Some(value) = &mut value {
                    self.coalescer.lay_over(address.as_deref(), value);
                }
                drop(reply.send(value));
            }
            Request::Connected(peer) => self.project.handle_peer_connected(now, peer),
            Request::Disconnected(peer) => self.project.handle_peer_disconnected(now, peer),
            Request::Message(peer, bytes) => {
                self.handle.taken(peer, bytes.len());
                self.project.handle_message(now, peer, &bytes);
            }
            Request::Stored(batch, result) => {
                for (reply, edited) in self.waiting.remove(&batch).unwrap_or_default() {
                    let answer = match &result {
                        Ok(()) => Ok(Edited { durable: true, ..edited }),
                        Err(why) => Err(EditError::NotSaved(why.clone())),
                    };
                    self.answers.push((reply, answer));
                }
                self.project.handle_stored(now, batch, result);
            }
            Request::Stop => {}
        }
    }

    /// Commits the latest values of what is dragged, as one gesture; where one of them cannot be set any more, because
    /// somebody deleted its track, each for itself.
    fn commit_pending(&mut self) {
        let commands = self.coalescer.take();
        if commands.is_empty() {
            return;
        }
        let whole = self.project.gesture(unix_ms(), &commands);
        let apart = commands.len() > 1 && !matches!(whole, Ok(_) | Err(CommandError::NotSaving { .. }));
        let outcomes: Vec<_> = match apart {
            true => commands.chunks(1).map(|one| (one, self.project.gesture(unix_ms(), one))).collect(),
            false => vec![(commands.as_slice(), whole)],
        };
        for (commands, outcome) in outcomes {
            match outcome {
                Ok(_) => self.coalescer.committed(Instant::now(), commands),
                // It was answered that it might be lost.
                Err(error) => (self.events)(Event::Warning(format!("the end of a drag is lost: {error}"))),
            }
        }
    }

    /// Answers an edit, at once or when its batch is on disk.
    fn answer(&mut self, reply: Reply, results: Vec<Outcome>, batch: Option<BatchId>, wait: bool) {
        let edited = Edited { results, heads_hash: self.project.heads_hash(), durable: false };
        // What changed nothing stands only as safely as the write that made it so, which may be on its way.
        let batch = batch.or_else(|| self.project.newest_unsaved());
        match batch.filter(|batch| wait && !self.project.is_durable(*batch)) {
            Some(batch) => self.waiting.entry(batch).or_default().push((reply, edited)),
            None => self.answers.push((reply, Ok(Edited { durable: wait, ..edited }))),
        }
    }

    fn drain(&mut self) {
        while let Some(output) = self.project.poll(unix_ms) {
            match output {
                Output::Send { peer, bytes } => (self.events)(Event::Send { peer, bytes }),
                Output::Store(batch) => {
                    if let Err(batch) = self.committer.submit(batch) {
                        let why = "the disk does not keep up".to_owned();
                        self.project.handle_stored(unix_ms(), batch.id(), Err(why));
                    }
                }
                Output::Changed { addresses } => (self.events)(Event::Changed(addresses)),
                Output::Conflict { address, values, chosen } => {
                    tracing::info!(%address, ?values, %chosen, "two members changed this at once; one value was chosen");
                }
                Output::Quarantined { member, reason } => {
                    (self.events)(Event::Quarantined { member, reason })
                }
                Output::Warning(text) => (self.events)(Event::Warning(text)),
            }
        }
        let mut summary = summarise(&self.project);
        summary.saved &= self.coalescer.poll_deadline().is_none();
        self.project.note_heads(unix_ms, &summary.heads_hash);
        *lock(&self.summary) = summary;
        for (reply, answer) in self.answers.drain(..) {
            // Whoever asked may have given up by now.
            drop(reply.send(answer));
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn summarise(project: &Project) -> Summary {
    Summary {
        heads_hash: project.heads_hash(),
        changes: project.changes(),
        saved: project.saved(),
        undo: project.undo_left(),
    }
}

/// Milliseconds since 1970, for stamps that people read.
pub fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

#[cfg(test)]
mod tests;
