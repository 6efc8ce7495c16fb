//! The WebSocket: what happens, as it happens, and the same commands.
//!
//! One task owns a socket. Status, peers and meters are made at the moment they are sent, so a slow reader gets fewer of them
//! and always the newest; nothing piles up. Commands run in a task of their own, in the order they came, so that waiting for
//! the disk stops no meter.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, mpsc};
use tokio::task::AbortHandle;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, timeout, timeout_at};
use utoipa::ToSchema;

use crate::control::backend::Notice;
use crate::control::guard::read_only;
use crate::control::limits::{
    MAX_CHANGED_ADDRESSES, MAX_PENDING_COMMANDS, MAX_TOUCHES_PER_SECOND, METERS_INTERVAL,
    SOCKET_AUTH_TIMEOUT, SOCKET_PING_INTERVAL, SOCKET_SEND_TIMEOUT, STATUS_INTERVAL, TOUCHES_INTERVAL,
};
use crate::control::problem::Problem;
use crate::control::routes::{Shared, answered, check_commands, check_playback_change};
use crate::control::server::stopped;
use crate::control::types::{
    Command, Graph, LogLine, Meters, Notification, PatchResult, Peer, Playback, PlaybackChange, Role, Status,
    Touch, UndoResult,
};

/// Close codes (RFC 6455 section 7.4); 4401 is ours, after HTTP's 401.
const GOING_AWAY: u16 = 1001;
const POLICY_VIOLATION: u16 = 1008;
const NO_TOKEN: u16 = 4401;

/// Pings without a word in return after which a socket is given up.
const MAX_UNANSWERED_PINGS: u32 = 3;

/// What can be subscribed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Topic {
    /// `status` each second and when it changes.
    Status,
    /// `meters` 30 times a second.
    Meters,
    /// `peers` each second and when one comes, goes or changes.
    Peers,
    /// `playback` when somebody changes it.
    Playback,
    /// `project` whole at first, then `project_changed`.
    Project,
    /// `log`, the lines kept at first.
    Log,
    /// `presence`, all that others touch, when it changes.
    Presence,
    /// `graph` each second and when somebody comes, goes or changes.
    Graph,
    /// `notification`, those kept at first.
    Notifications,
}

/// What a client says, one JSON object a text message.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum ClientMessage {
    /// The first message where no token came with the request.
    Auth {
        /// The bearer token.
        token: String,
    },
    /// Starts topics; the present state comes at once.
    Subscribe {
        /// Which.
        topics: Vec<Topic>,
    },
    /// Stops topics.
    Unsubscribe {
        /// Which.
        topics: Vec<Topic>,
    },
    /// As `PATCH /project`.
    Patch {
        /// Comes back in the answer.
        #[serde(default)]
        id: Option<Value>,
        /// The edits, applied all or none.
        commands: Vec<Command>,
        /// Whether to answer only once they are on disk.
        #[serde(default)]
        wait: Wait,
    },
    /// As `PUT /transport`.
    Playback {
        /// Comes back in the answer.
        #[serde(default)]
        id: Option<Value>,
        /// What to change.
        change: PlaybackChange,
    },
    /// I hold something, or type in it; at most 30 times a second, and each second while it lasts. Forgotten after 3 s. The
    /// value is heard and shown at once everywhere and stored nowhere: send a `patch` at the end, and at most four a
    /// second meanwhile.
    Touch {
        /// A parameter such as `/mixer/strip/ID/gain_db`; without a value also a track `/tracks/ID`, or `/chat`.
        address: String,
        /// Where it stands; `null`: I only touch it.
        #[serde(default)]
        value: Option<Value>,
    },
    /// I let it go.
    TouchEnd {
        /// As in `touch`.
        address: String,
    },
    /// As `POST /undo`.
    Undo {
        /// Comes back in the answer.
        #[serde(default)]
        id: Option<Value>,
    },
    /// As `POST /redo`.
    Redo {
        /// Comes back in the answer.
        #[serde(default)]
        id: Option<Value>,
    },
}

impl ClientMessage {
    /// Whether a viewer may say this. What is added later is not, until it is added here.
    fn only_looks(&self) -> bool {
        matches!(self, Self::Auth { .. } | Self::Subscribe { .. } | Self::Unsubscribe { .. })
    }

    /// What comes back in the answer.
    fn id(&self) -> Option<Value> {
        match self {
            Self::Patch { id, .. } | Self::Playback { id, .. } | Self::Undo { id } | Self::Redo { id } => {
                id.clone()
            }
            _ => None,
        }
    }
}

/// When a `patch` is answered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Wait {
    /// Once the edits are on disk.
    #[default]
    Disk,
    /// At once; of numbers that are set again and again the latest is committed, four times a second.
    None,
}

/// What the server says, one JSON object a text message.
#[derive(Debug, Serialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum ServerMessage {
    /// The token was right; messages are welcome now.
    Ready,
    /// The topics now subscribed to.
    Subscribed {
        /// All of them.
        topics: Vec<Topic>,
    },
    /// This node now.
    Status {
        /// As `GET /status`.
        data: Box<Status>,
    },
    /// Levels and the beat now.
    Meters {
        /// One moment.
        data: Meters,
    },
    /// The other nodes now.
    Peers {
        /// As `GET /peers`.
        data: Vec<Peer>,
    },
    /// The common beat and position now.
    Playback {
        /// As `GET /transport`.
        data: Playback,
    },
    /// The whole project.
    Project {
        /// As `GET /project`.
        data: Value,
    },
    /// What changed in the project. A value has its own address. A track that was deleted has `/tracks/ID` and
    /// `/mixer/strip/ID` with `null`; when a track comes, goes or moves, `/tracks` is given whole as well, since the others
    /// may stand elsewhere. With more than 64 changes at once the whole project comes instead.
    ProjectChanged {
        /// The addresses with what is there now, to be put in their places in the order given.
        changes: Vec<Change>,
    },
    /// Lines of the log.
    Log {
        /// In order.
        lines: Vec<LogLine>,
        /// Lines before these that this reader was too slow for.
        missed: u64,
    },
    /// A `patch` was applied.
    Patched {
        /// As in the command.
        id: Option<Value>,
        /// As `PATCH /project`.
        data: PatchResult,
    },
    /// A `playback` was carried out.
    PlaybackSet {
        /// As in the command.
        id: Option<Value>,
        /// The common beat and position now.
        data: Playback,
    },
    /// All that is touched now by others: other members, and other pages of this node.
    Presence {
        /// In a steady order.
        data: Vec<Touch>,
    },
    /// Who is connected to whom now.
    Graph {
        /// As `GET /graph`.
        data: Graph,
    },
    /// Something happened; said once.
    Notification {
        /// What.
        data: Notification,
    },
    /// An `undo` was carried out.
    Undone {
        /// As in the command.
        id: Option<Value>,
        /// As `POST /undo`.
        data: UndoResult,
    },
    /// A `redo` was carried out.
    Redone {
        /// As in the command.
        id: Option<Value>,
        /// As `POST /redo`.
        data: UndoResult,
    },
    /// A message could not be used; the socket stays open.
    Error {
        /// As in the command.
        id: Option<Value>,
        /// What is wrong and what to do.
        problem: Problem,
    },
}

/// One changed address.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Change {
    /// The address.
    address: String,
    /// What is there now; `null`: nothing any more.
    value: Option<Value>,
}

/// Serves one socket until either side has enough. `role`: the request brought a token or a ticket.
pub(crate) async fn serve(socket: WebSocket, shared: Arc<Shared>, role: Option<Role>) {
    let mut session = Session::new(socket, shared);
    let ending = match session.run(role).await {
        Ok(()) | Err(End::Gone) => return,
        Err(ending) => ending,
    };
    let (code, reason) = match ending {
        End::Gone | End::TooSlow => return,
        End::Stopping => (GOING_AWAY, "the node stops"),
        End::NoToken => (NO_TOKEN, "send {\"type\":\"auth\",\"token\":\"...\"} with this node's token first"),
        End::NotText => (POLICY_VIOLATION, "send JSON as text messages"),
    };
    let frame = CloseFrame { code, reason: Utf8Bytes::from_static(reason) };
    // Whether the goodbye arrives or not, the socket ends here.
    let _ = timeout(SOCKET_SEND_TIMEOUT, session.socket.send(Message::Close(Some(frame)))).await;
}

/// Why a socket ends.
enum End {
    Gone,
    TooSlow,
    Stopping,
    NoToken,
    NotText,
}

/// A command on its way to the backend.
enum Job {
    Patch { id: Option<Value>, commands: Vec<Command>, durable: bool },
    Playback { id: Option<Value>, change: PlaybackChange },
    Undo { id: Option<Value>, redo: bool },
}

struct Session {
    socket: WebSocket,
    role: Role,
    shared: Arc<Shared>,
    topics: BTreeSet<Topic>,
    notices: broadcast::Receiver<Notice>,
    log: Option<broadcast::Receiver<LogLine>>,
    jobs: mpsc::Sender<Job>,
    answers: mpsc::Receiver<ServerMessage>,
    worker: AbortHandle,
    unanswered_pings: u32,
    /// Names this page among the sources of touches.
    source: u32,
    touched: TouchBudget,
    /// Others touch something else than the page was last told.
    touches_stale: bool,
    /// The latest notification sent.
    told: u64,
}

/// How many touches are taken from this socket until the second is over.
struct TouchBudget {
    since: Instant,
    taken: u32,
}

impl TouchBudget {
    fn take(&mut self, now: Instant) -> bool {
        if now.duration_since(self.since).as_secs() >= 1 {
            *self = Self { since: now, taken: 0 };
        }
        self.taken += 1;
        self.taken <= MAX_TOUCHES_PER_SECOND
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.shared.backend.forget_source(self.source);
        self.worker.abort();
    }
}

impl Session {
    fn new(socket: WebSocket, shared: Arc<Shared>) -> Self {
        let (jobs, queue) = mpsc::channel(MAX_PENDING_COMMANDS);
        let (answer, answers) = mpsc::channel(1);
        let worker = tokio::spawn(work(Arc::clone(&shared), queue, answer)).abort_handle();
        let notices = shared.backend.subscribe();
        Self {
            socket,
            // Until it is known.
            role: Role::Viewer,
            shared,
            topics: BTreeSet::new(),
            notices,
            log: None,
            jobs,
            answers,
            worker,
            unanswered_pings: 0,
            source: rand::random(),
            touched: TouchBudget { since: Instant::now(), taken: 0 },
            touches_stale: false,
            told: 0,
        }
    }

    async fn run(&mut self, role: Option<Role>) -> Result<(), End> {
        self.role = match role {
            Some(role) => role,
            None => self.authenticate().await?,
        };
        self.send(&ServerMessage::Ready).await?;
        let mut stop = self.shared.stop.clone();
        let mut meters = ticks(METERS_INTERVAL);
        let mut status = ticks(STATUS_INTERVAL);
        let mut ping = ticks(SOCKET_PING_INTERVAL);
        let mut touches = ticks(TOUCHES_INTERVAL);
        loop {
            tokio::select! {
                () = stopped(&mut stop) => return Err(End::Stopping),
                message = self.socket.recv() => match message {
                    Some(Ok(message)) => self.handle_message(message).await?,
                    // A client may leave without a word, or break the protocol: tungstenite has told it.
                    Some(Err(_)) | None => return Err(End::Gone),
                },
                Some(answer) = self.answers.recv() => self.send(&answer).await?,
                notice = self.notices.recv() => self.handle_notice(notice).await?,
                line = next_line(&mut self.log) => self.handle_log(line).await?,
                _ = meters.tick(), if self.topics.contains(&Topic::Meters) => {
                    let data = self.shared.backend.meters();
                    self.send(&ServerMessage::Meters { data }).await?;
                }
                _ = touches.tick(), if self.touches_stale => {
                    self.touches_stale = false;
                    self.send_state(Topic::Presence).await?;
                }
                _ = status.tick() => {
                    for topic in [Topic::Status, Topic::Peers, Topic::Graph] {
                        self.send_state(topic).await?;
                    }
                }
                _ = ping.tick() => {
                    if self.unanswered_pings >= MAX_UNANSWERED_PINGS {
                        return Err(End::Gone);
                    }
                    self.unanswered_pings += 1;
                    self.send_raw(Message::Ping(Default::default())).await?;
                }
            }
        }
    }

    async fn authenticate(&mut self) -> Result<Role, End> {
        let deadline = Instant::now() + SOCKET_AUTH_TIMEOUT;
        let mut stop = self.shared.stop.clone();
        loop {
            let message = tokio::select! {
                () = stopped(&mut stop) => return Err(End::Stopping),
                message = timeout_at(deadline, self.socket.recv()) => message.map_err(|_| End::NoToken)?,
            };
            match message {
                Some(Ok(Message::Text(text))) => {
                    return match serde_json::from_str(&text) {
                        Ok(ClientMessage::Auth { token }) => {
                            self.shared.keys.role(&token).ok_or(End::NoToken)
                        }
                        _ => Err(End::NoToken),
                    };
                }
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(Ok(Message::Binary(_))) => return Err(End::NotText),
                Some(Ok(Message::Close(_)) | Err(_)) | None => return Err(End::Gone),
            }
        }
    }

    async fn handle_message(&mut self, message: Message) -> Result<(), End> {
        self.unanswered_pings = 0;
        let text = match message {
            Message::Text(text) => text,
            Message::Ping(_) | Message::Pong(_) => return Ok(()),
            Message::Binary(_) => return Err(End::NotText),
            Message::Close(_) => return Err(End::Gone),
        };
        match serde_json::from_str(&text) {
            Ok(message) if self.role == Role::Viewer && !message.only_looks() => {
                self.send(&ServerMessage::Error { id: message.id(), problem: read_only() }).await
            }
            // A second token changes nothing; the first one was right.
            Ok(ClientMessage::Auth { .. }) => Ok(()),
            Ok(ClientMessage::Subscribe { topics }) => self.subscribe(topics).await,
            Ok(ClientMessage::Unsubscribe { topics }) => {
                for topic in topics {
                    self.topics.remove(&topic);
                    if topic == Topic::Log {
                        self.log = None;
                    }
                }
                self.send_topics().await
            }
            Ok(ClientMessage::Patch { id, commands, wait }) => match check_commands(&commands) {
                Ok(()) => self.enqueue(Job::Patch { id, commands, durable: wait == Wait::Disk }).await,
                Err(problem) => self.send(&ServerMessage::Error { id, problem }).await,
            },
            Ok(ClientMessage::Playback { id, change }) => match check_playback_change(&change) {
                Ok(()) => self.enqueue(Job::Playback { id, change }).await,
                Err(problem) => self.send(&ServerMessage::Error { id, problem }).await,
            },
            Ok(ClientMessage::Touch { address, value }) => {
                if !self.touched.take(Instant::now()) {
                    return Ok(());
                }
                match self.shared.backend.touch(self.source, &address, value) {
                    Ok(()) => Ok(()),
                    Err(error) => self.send(&ServerMessage::Error { id: None, problem: error.into() }).await,
                }
            }
            Ok(ClientMessage::TouchEnd { address }) => {
                self.shared.backend.touch_end(self.source, &address);
                Ok(())
            }
            Ok(ClientMessage::Undo { id }) => self.enqueue(Job::Undo { id, redo: false }).await,
            Ok(ClientMessage::Redo { id }) => self.enqueue(Job::Undo { id, redo: true }).await,
            Err(error) => {
                let detail = format!(
                    "The message cannot be used: {error}. See ClientMessage in /api/v1/openapi.json."
                );
                let problem = Problem::new(StatusCode::BAD_REQUEST, "bad_json", detail);
                self.send(&ServerMessage::Error { id: None, problem }).await
            }
        }
    }

    async fn subscribe(&mut self, topics: Vec<Topic>) -> Result<(), End> {
        let new: BTreeSet<Topic> = topics.into_iter().filter(|topic| !self.topics.contains(topic)).collect();
        self.topics.extend(&new);
        self.send_topics().await?;
        if new.contains(&Topic::Notifications) {
            self.told = 0;
        }
        for topic in new {
            if topic == Topic::Log {
                let (lines, following) = self.shared.logs.follow();
                self.log = Some(following);
                self.send(&ServerMessage::Log { lines, missed: 0 }).await?;
            } else {
                self.send_state(topic).await?;
            }
        }
        Ok(())
    }

    async fn send_topics(&mut self) -> Result<(), End> {
        let topics = self.topics.iter().copied().collect();
        self.send(&ServerMessage::Subscribed { topics }).await
    }

    /// Sends a topic's whole present state, if it is subscribed to.
    async fn send_state(&mut self, topic: Topic) -> Result<(), End> {
        if !self.topics.contains(&topic) {
            return Ok(());
        }
        let backend = &self.shared.backend;
        let message = match topic {
            Topic::Status => ServerMessage::Status { data: Box::new(backend.status()) },
            Topic::Peers => ServerMessage::Peers { data: backend.peers() },
            Topic::Playback => ServerMessage::Playback { data: backend.playback() },
            Topic::Project => match backend.project().await {
                Ok(data) => ServerMessage::Project { data },
                // Too busy now; the next change brings the page up to date.
                Err(_) => return Ok(()),
            },
            Topic::Presence => ServerMessage::Presence { data: backend.touches(self.source) },
            Topic::Graph => ServerMessage::Graph { data: backend.graph() },
            Topic::Notifications => return self.send_notifications().await,
            // Meters come by their own tick, the log by its own queue.
            Topic::Meters | Topic::Log => return Ok(()),
        };
        self.send(&message).await
    }

    /// Sends the notifications kept that this page has not been sent.
    async fn send_notifications(&mut self) -> Result<(), End> {
        for data in self.shared.backend.notifications(self.told) {
            self.told = data.id;
            self.send(&ServerMessage::Notification { data }).await?;
        }
        Ok(())
    }

    async fn handle_notice(&mut self, notice: Result<Notice, RecvError>) -> Result<(), End> {
        match notice {
            Ok(Notice::Status) => self.send_state(Topic::Status).await,
            Ok(Notice::Peers) => {
                self.send_state(Topic::Peers).await?;
                self.send_state(Topic::Graph).await
            }
            Ok(Notice::Touches) => {
                self.touches_stale = self.topics.contains(&Topic::Presence);
                Ok(())
            }
            Ok(Notice::Notification) => self.send_state(Topic::Notifications).await,
            Ok(Notice::Playback) => self.send_state(Topic::Playback).await,
            Ok(Notice::Project(addresses))
                if addresses.len() > MAX_CHANGED_ADDRESSES || addresses.iter().any(|at| at == "/") =>
            {
                self.send_state(Topic::Project).await
            }
            Ok(Notice::Project(addresses)) => {
                if !self.topics.contains(&Topic::Project) {
                    return Ok(());
                }
                let mut changes = Vec::with_capacity(addresses.len());
                for address in addresses {
                    if let Ok(value) = self.shared.backend.project_node(&address).await {
                        changes.push(Change { value, address });
                    }
                }
                self.send(&ServerMessage::ProjectChanged { changes }).await
            }
            Err(RecvError::Lagged(_)) => {
                for topic in [
                    Topic::Status,
                    Topic::Peers,
                    Topic::Playback,
                    Topic::Project,
                    Topic::Presence,
                    Topic::Notifications,
                ] {
                    self.send_state(topic).await?;
                }
                Ok(())
            }
            // The node behind us has ended before its server: the same goodbye.
            Err(RecvError::Closed) => Err(End::Stopping),
        }
    }

    async fn handle_log(&mut self, line: Result<LogLine, RecvError>) -> Result<(), End> {
        let (lines, missed) = match line {
            Ok(line) => (vec![line], 0),
            Err(RecvError::Lagged(missed)) => (Vec::new(), missed),
            Err(RecvError::Closed) => {
                self.log = None;
                return Ok(());
            }
        };
        self.send(&ServerMessage::Log { lines, missed }).await
    }

    async fn enqueue(&mut self, job: Job) -> Result<(), End> {
        let Err(refused) = self.jobs.try_send(job) else { return Ok(()) };
        let (Job::Patch { id, .. } | Job::Playback { id, .. } | Job::Undo { id, .. }) = refused.into_inner();
        let detail =
            format!("{MAX_PENDING_COMMANDS} commands wait already. Send the next ones after some answers.");
        let problem = Problem::new(StatusCode::TOO_MANY_REQUESTS, "too_many_commands", detail);
        self.send(&ServerMessage::Error { id, problem }).await
    }

    async fn send(&mut self, message: &ServerMessage) -> Result<(), End> {
        // These types always become JSON: their keys are strings.
        let text = serde_json::to_string(message).map_err(|_| End::Gone)?;
        self.send_raw(Message::Text(text.into())).await
    }

    async fn send_raw(&mut self, message: Message) -> Result<(), End> {
        match timeout(SOCKET_SEND_TIMEOUT, self.socket.send(message)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(End::Gone),
            Err(_) => {
                self.shared.counters.sockets_too_slow.fetch_add(1, Ordering::Relaxed);
                Err(End::TooSlow)
            }
        }
    }
}

/// Carries commands out one after the other.
async fn work(shared: Arc<Shared>, mut queue: mpsc::Receiver<Job>, answer: mpsc::Sender<ServerMessage>) {
    while let Some(job) = queue.recv().await {
        let message = match job {
            Job::Patch { id, commands, durable } => {
                match answered(shared.backend.patch(commands, durable)).await {
                    Ok(data) => ServerMessage::Patched { id, data },
                    Err(problem) => ServerMessage::Error { id, problem },
                }
            }
            Job::Playback { id, change } => match answered(shared.backend.set_playback(change)).await {
                Ok(data) => ServerMessage::PlaybackSet { id, data },
                Err(problem) => ServerMessage::Error { id, problem },
            },
            Job::Undo { id, redo } => match answered(shared.backend.undo(redo)).await {
                Ok(data) if redo => ServerMessage::Redone { id, data },
                Ok(data) => ServerMessage::Undone { id, data },
                Err(problem) => ServerMessage::Error { id, problem },
            },
        };
        if answer.send(message).await.is_err() {
            return;
        }
    }
}

async fn next_line(log: &mut Option<broadcast::Receiver<LogLine>>) -> Result<LogLine, RecvError> {
    match log {
        Some(lines) => lines.recv().await,
        None => std::future::pending().await,
    }
}

fn ticks(period: std::time::Duration) -> Interval {
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    ticks
}
