//! The server from outside: real sockets on loopback, a pretended node behind it.

mod desk;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::BoxFuture;
use futures::{FutureExt, SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::sync::broadcast;
use tokio::time::{Instant, timeout};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use super::types::*;
use super::*;

mod people;

const PATIENCE: Duration = Duration::from_secs(10);
const EVIL_NAME: &str = "<script>alert(1)</script>\"\n\u{1b}[2J";

/// A node that keeps what it is told.
pub(crate) struct Pretended {
    notices: broadcast::Sender<Notice>,
    patches: Mutex<Vec<(Vec<Command>, bool)>>,
    tempo_bpm: Mutex<f64>,
    held: Mutex<BTreeMap<(u32, String), Option<Value>>>,
    told: Mutex<Vec<Notification>>,
    /// What was changed at the player's own desk, as debug text.
    desk: Mutex<Vec<String>>,
}

impl Pretended {
    pub(crate) fn new() -> Arc<Self> {
        let (notices, _) = broadcast::channel(16);
        Arc::new(Self {
            notices,
            patches: Mutex::default(),
            tempo_bpm: Mutex::new(120.0),
            held: Mutex::default(),
            told: Mutex::default(),
            desk: Mutex::default(),
        })
    }

    fn note(&self, change: impl std::fmt::Debug) {
        self.desk.lock().unwrap().push(format!("{change:?}"));
    }
}

impl Backend for Pretended {
    fn status(&self) -> Status {
        Status {
            peer_id: "12D3KooWMe".into(),
            name: EVIL_NAME.into(),
            version: "0.1.0".into(),
            uptime_s: 1.5,
            session: Session { id: "abc".into(), name: "jam".into() },
            audio: Audio {
                host: "null".into(),
                device: "null".into(),
                rate_hz: 48_000,
                period_frames: 128,
                xruns: 2,
                callback_max_us: 80.0,
                output_latency_ms: 2.5,
                input_peak_db: level_db(0.0),
                output_peak_db: level_db(1.0),
            },
            me: Me { muted: false, input_gain_db: 0.0, monitor: false, monitor_gain_db: 0.0 },
            master: Master { gain_db: 0.0 },
            feedback_warning: false,
            diagnosis: desk::diagnosis(),
            link: Link { enabled: true, peers: 1, tempo_bpm: 120.0, beat: 5.25, phase: 1.25, playing: true },
            doc: Doc { heads_hash: "00ff".into(), changes: 7, saved: true },
            listen: vec!["/ip4/127.0.0.1/udp/7778/quic-v1".into()],
            warnings: vec![],
            undo: UndoState::default(),
        }
    }

    fn peers(&self) -> Vec<Peer> {
        vec![Peer {
            peer_id: "12D3KooWLee".into(),
            name: EVIL_NAME.into(),
            state: PeerState::Connected,
            path: Some(Path::Lan),
            address: Some("/ip4/10.0.0.2/udp/7778/quic-v1".into()),
            rtt_ms: Some(0.4),
            clock: Some(PeerClock { offset_us: -3.0, error_us: 20.0, drift_ppm: 0.5 }),
            audio: Some(PeerAudio {
                codec: "pcm16".into(),
                channels: 1,
                frame_frames: 128,
                playout_delay_ms: 2.7,
                one_way_ms: Some(5.9),
                jitter_ms: 0.1,
                received: 100,
                lost: 1,
                late: 0,
                concealed_frames: 128,
                recovered: 0,
                concealed_ratio: 0.01,
                buffer_resets: 0,
            }),
            waterfall: Some(vec![LatencyStage { stage: Stage::Network, ms: 5.9 }]),
            path_reason: Some("Both are on the same local network.".into()),
            muted_by_me: false,
            soloed_by_me: false,
            gain_db: 0.0,
            muted_themselves: false,
            hears_me: Some(true),
            pan: 0.0,
        }]
    }

    fn meters(&self) -> Meters {
        Meters { tempo_bpm: 120.0, ..Meters::default() }
    }

    fn project(&self) -> BoxFuture<'_, Result<Value, BackendError>> {
        async { Ok(json!({"session": {"name": "jam"}})) }.boxed()
    }

    fn project_node(&self, address: &str) -> BoxFuture<'_, Result<Option<Value>, BackendError>> {
        let value = (address == "/session/name").then(|| json!("jam"));
        async move { Ok(value) }.boxed()
    }

    fn patch(
        &self,
        commands: Vec<Command>,
        durable: bool,
    ) -> BoxFuture<'_, Result<PatchResult, BackendError>> {
        async move {
            if commands.iter().any(|command| command.address() == "/forbidden") {
                return Err(BackendError::Invalid(
                    "there is no /forbidden; GET /api/v1/project shows all".into(),
                ));
            }
            if commands.iter().any(|command| command.address() == "/slow") {
                tokio::time::sleep(PATIENCE).await;
            }
            let results = commands
                .iter()
                .map(|command| CommandResult { address: command.address().to_owned() })
                .collect();
            self.patches.lock().unwrap().push((commands, durable));
            Ok(PatchResult { results, heads_hash: "00ff".into(), durable })
        }
        .boxed()
    }

    fn playback(&self) -> Playback {
        Playback {
            tempo_bpm: *self.tempo_bpm.lock().unwrap(),
            time_signature: "4/4".into(),
            playing: true,
            position_beats: 5.25,
            phase_beats: 1.25,
            metronome: false,
        }
    }

    fn set_playback(&self, change: PlaybackChange) -> BoxFuture<'_, Result<Playback, BackendError>> {
        if let Some(tempo_bpm) = change.tempo_bpm {
            *self.tempo_bpm.lock().unwrap() = tempo_bpm;
        }
        async move { Ok(self.playback()) }.boxed()
    }

    fn set_peer(&self, peer_id: &str, change: PeerChange) -> BoxFuture<'_, Result<Peer, BackendError>> {
        let found = self.peers().into_iter().find(|peer| peer.peer_id == peer_id);
        let answer = match found {
            Some(peer) => Ok(Peer {
                gain_db: change.gain_db.unwrap_or(peer.gain_db),
                muted_by_me: change.muted_by_me.unwrap_or(peer.muted_by_me),
                soloed_by_me: change.soloed_by_me.unwrap_or(peer.soloed_by_me),
                pan: change.pan.unwrap_or(peer.pan),
                ..peer
            }),
            None => Err(BackendError::NotFound("no such peer; GET /api/v1/peers lists them".into())),
        };
        async move { answer }.boxed()
    }

    fn setup(&self) -> BoxFuture<'_, Setup> {
        async { desk::setup() }.boxed()
    }

    fn set_setup(&self, change: SetupChange) -> BoxFuture<'_, Result<Setup, BackendError>> {
        self.note(&change);
        let name = change.name.unwrap_or_default();
        async { Ok(Setup { name, ..desk::setup() }) }.boxed()
    }

    fn devices(&self) -> BoxFuture<'_, Result<Devices, BackendError>> {
        let null = AudioDevice {
            id: "null".into(),
            host: "null".into(),
            name: "a steady timer".into(),
            inputs: Some(2),
            outputs: Some(2),
            rates_hz: vec![48_000],
            is_default: true,
        };
        async { Ok(Devices { audio: vec![null], ..Devices::default() }) }.boxed()
    }

    fn audio(&self) -> AudioState {
        desk::audio()
    }

    fn set_audio(&self, change: AudioChange) -> BoxFuture<'_, Result<AudioState, BackendError>> {
        self.note(&change);
        let period_frames = change.period_frames.unwrap_or(128);
        async move { Ok(AudioState { period_frames, ..desk::audio() }) }.boxed()
    }

    fn midi(&self) -> MidiState {
        MidiState { client: "bandmesh".into(), all_inputs: true, ..MidiState::default() }
    }

    fn set_midi(&self, change: MidiChange) -> BoxFuture<'_, Result<MidiState, BackendError>> {
        self.note(&change);
        let outputs = change.outputs.unwrap_or_default();
        async move { Ok(MidiState { outputs, ..self.midi() }) }.boxed()
    }

    fn play_tone(&self, tone: TestTone) -> Result<(), BackendError> {
        self.note(tone);
        Ok(())
    }

    fn set_me(&self, change: MeChange) -> Me {
        self.note(change);
        Me {
            muted: change.muted.unwrap_or(false),
            input_gain_db: change.input_gain_db.unwrap_or(0.0),
            monitor: change.monitor.unwrap_or(false),
            monitor_gain_db: change.monitor_gain_db.unwrap_or(0.0),
        }
    }

    fn set_master(&self, change: MasterChange) -> Master {
        self.note(change);
        Master { gain_db: change.gain_db }
    }

    fn set_link(&self, change: LinkChange) -> BoxFuture<'_, Result<Link, BackendError>> {
        self.note(change);
        async move { Ok(Link { enabled: change.enabled, ..self.status().link }) }.boxed()
    }

    fn history(&self, seconds: usize) -> History {
        desk::history(seconds)
    }

    fn diagnosis(&self) -> Diagnosis {
        desk::diagnosis()
    }

    fn support_files(&self) -> BoxFuture<'_, Vec<(String, String)>> {
        let files = vec![
            ("doctor.txt".to_owned(), "ok\n".to_owned()),
            ("config.toml".to_owned(), "rate = 48000\npassword = \"hunter2\"\n".to_owned()),
        ];
        async { files }.boxed()
    }

    fn subscribe(&self) -> broadcast::Receiver<Notice> {
        self.notices.subscribe()
    }

    fn metrics(&self) -> Vec<Metric> {
        vec![Metric {
            name: "engine_callbacks",
            help: "Callbacks run",
            kind: MetricKind::Counter,
            labels: vec![],
            value: 9.0,
        }]
    }
}

struct World {
    node: Arc<Pretended>,
    server: Server,
    token: Token,
    view_token: Token,
    logs: LogBuffer,
}

async fn world() -> World {
    world_at("127.0.0.1:0".parse().unwrap()).await
}

async fn world_at(address: SocketAddr) -> World {
    let (node, token, logs) = (Pretended::new(), Token::generate(), LogBuffer::default());
    let view_token = Token::generate();
    let keys = Keys { player: token.clone(), viewer: Some(view_token.clone()) };
    let config = Config { address, keys, logs: logs.clone() };
    let backend: Arc<dyn Backend> = Arc::clone(&node) as _;
    let server = start(config, backend).await.unwrap();
    World { node, server, token, view_token, logs }
}

struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    /// The problem's `code`, having seen that it is a whole problem document with a helpful sentence.
    fn problem(&self) -> String {
        assert!(self.head.contains("application/problem+json"), "{}\n{}", self.head, self.body);
        let problem = self.json();
        assert_eq!(problem["status"], self.status);
        assert!(problem["detail"].as_str().unwrap().len() > 20, "{problem}");
        problem["code"].as_str().unwrap().to_owned()
    }
}

impl World {
    /// Sends a request as it stands and reads until the other side closes.
    async fn raw(&self, request: Vec<u8>) -> String {
        String::from_utf8_lossy(&self.raw_bytes(request).await).into_owned()
    }

    /// The same, where the answer is no text.
    async fn raw_bytes(&self, request: Vec<u8>) -> Vec<u8> {
        let address = self.server.address();
        tokio::task::spawn_blocking(move || {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            // The server may close on us midway; what it said before is what counts.
            let _ = stream.write_all(&request);
            let mut answer = Vec::new();
            let _ = stream.read_to_end(&mut answer);
            answer
        })
        .await
        .unwrap()
    }

    async fn request(&self, line: &str, headers: &[&str], body: &str) -> Answer {
        let mut text = format!("{line} HTTP/1.1\r\nConnection: close\r\nContent-Length: {}\r\n", body.len());
        if !headers.iter().any(|header| header.starts_with("Host:")) {
            text.push_str(&format!("Host: {}\r\n", self.server.address()));
        }
        for header in headers {
            text.push_str(header);
            text.push_str("\r\n");
        }
        let answer = self.raw(format!("{text}\r\n{body}").into_bytes()).await;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{line}: {answer:?}"));
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Answer { status, head: head.to_lowercase(), body: body.to_owned() }
    }

    fn authorization(&self) -> String {
        format!("Authorization: Bearer {}", self.token.secret())
    }

    async fn get(&self, path: &str) -> Answer {
        self.request(&format!("GET {path}"), &[&self.authorization()], "").await
    }

    async fn send(&self, line: &str, body: &str) -> Answer {
        self.request(line, &[&self.authorization(), "Content-Type: application/json"], body).await
    }

    async fn socket(
        &self,
        query: &str,
        headers: &[(&'static str, &str)],
    ) -> Result<Socket, tungstenite::Error> {
        let mut request =
            format!("ws://{}/api/v1/ws{query}", self.server.address()).into_client_request().unwrap();
        for (name, value) in headers {
            request.headers_mut().insert(*name, value.parse().unwrap());
        }
        timeout(PATIENCE, connect_async(request)).await.unwrap().map(|(socket, _)| socket)
    }

    async fn open_socket(&self) -> Socket {
        let authorization = format!("Bearer {}", self.token.secret());
        let mut socket = self.socket("", &[("authorization", &authorization)]).await.unwrap();
        assert_eq!(next(&mut socket).await["type"], "ready");
        socket
    }
}

type Socket = WebSocketStream<MaybeTlsStream<tokio::net::TcpStream>>;

async fn say(socket: &mut Socket, message: Value) {
    socket.send(Message::text(message.to_string())).await.unwrap();
}

async fn next(socket: &mut Socket) -> Value {
    loop {
        match timeout(PATIENCE, socket.next()).await.unwrap().unwrap().unwrap() {
            Message::Text(text) => return serde_json::from_str(&text).unwrap(),
            Message::Ping(_) | Message::Pong(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

async fn next_of(socket: &mut Socket, kind: &str) -> Value {
    loop {
        let message = next(socket).await;
        if message["type"] == kind {
            return message;
        }
    }
}

async fn close_code(socket: &mut Socket) -> u16 {
    loop {
        match timeout(PATIENCE, socket.next()).await.unwrap() {
            Some(Ok(Message::Close(Some(frame)))) => return frame.code.into(),
            Some(Ok(Message::Text(_) | Message::Ping(_))) => {}
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn routes_give_what_the_design_promises() {
    let world = world().await;
    let status = world.get("/api/v1/status").await.json();
    for pointer in [
        "/peer_id",
        "/name",
        "/version",
        "/uptime_s",
        "/session/id",
        "/session/name",
        "/audio/host",
        "/audio/device",
        "/audio/rate_hz",
        "/audio/period_frames",
        "/audio/xruns",
        "/audio/callback_max_us",
        "/audio/output_latency_ms",
        "/audio/input_peak_db",
        "/audio/output_peak_db",
        "/link/enabled",
        "/link/peers",
        "/link/tempo_bpm",
        "/link/beat",
        "/link/phase",
        "/link/playing",
        "/doc/heads_hash",
        "/doc/changes",
        "/doc/saved",
    ] {
        assert!(status.pointer(pointer).is_some(), "{pointer}");
    }
    assert_eq!(status["audio"]["input_peak_db"], -120.0);
    let peer = world.get("/api/v1/peers").await.json()[0].clone();
    for pointer in [
        "/peer_id",
        "/name",
        "/state",
        "/path",
        "/address",
        "/rtt_ms",
        "/clock/offset_us",
        "/clock/error_us",
        "/clock/drift_ppm",
        "/audio/codec",
        "/audio/channels",
        "/audio/frame_frames",
        "/audio/playout_delay_ms",
        "/audio/one_way_ms",
        "/audio/jitter_ms",
        "/audio/received",
        "/audio/lost",
        "/audio/late",
        "/audio/concealed_frames",
        "/audio/recovered",
        "/audio/concealed_ratio",
        "/audio/buffer_resets",
        "/muted_by_me",
        "/gain_db",
    ] {
        assert!(peer.pointer(pointer).is_some(), "{pointer}");
    }
    assert_eq!((peer["state"].as_str(), peer["path"].as_str()), (Some("connected"), Some("lan")));
    assert_eq!(world.get("/api/v1/project").await.json()["session"]["name"], "jam");
    assert_eq!(world.get("/api/v1/project/session/name").await.json(), "jam");
    assert_eq!(world.get("/api/v1/transport").await.json()["time_signature"], "4/4");
}

#[tokio::test]
async fn edits_reach_the_node_and_wait_for_the_disk_unless_told_not_to() {
    let world = world().await;
    let body = r#"{"commands":[{"op":"set","address":"/transport/tempo_bpm","value":124.0},
        {"op":"add","address":"/tracks","value":{"name":"Bass","kind":"audio"}},
        {"op":"move","address":"/tracks/a","before":null},{"op":"delete","address":"/tracks/a"}]}"#;
    let answer = world.send("PATCH /api/v1/project", body).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!(answer.json()["results"][1]["address"], "/tracks");
    assert_eq!(answer.json()["durable"], true);
    let answer = world.send("PATCH /api/v1/project?wait=none", body).await;
    assert_eq!(answer.json()["durable"], false);
    let patches = world.node.patches.lock().unwrap();
    assert_eq!(patches[0].0.len(), 4);
    assert_eq!((patches[0].1, patches[1].1), (true, false));
    assert_eq!(patches[0].0[2], Command::Move { address: "/tracks/a".into(), before: None });
}

#[tokio::test]
async fn playback_and_my_mix_change() {
    let world = world().await;
    let answer = world.send("PUT /api/v1/transport", r#"{"tempo_bpm":90.5}"#).await;
    assert_eq!(answer.json()["tempo_bpm"], 90.5);
    let answer = world.send("PUT /api/v1/peers/12D3KooWLee", r#"{"gain_db":-6,"muted_by_me":true}"#).await;
    assert_eq!(
        (answer.json()["gain_db"].as_f64(), answer.json()["muted_by_me"].as_bool()),
        (Some(-6.0), Some(true))
    );
}

#[tokio::test]
async fn every_refusal_is_a_problem_document_that_says_what_to_do() {
    let world = world().await;
    let json = "Content-Type: application/json";
    let auth = world.authorization();
    let long = format!(
        r#"{{"commands":[{}]}}"#,
        vec![r#"{"op":"delete","address":"/a"}"#; limits::MAX_COMMANDS + 1].join(",")
    );
    let limit = format!(
        r#"{{"commands":[{}]}}"#,
        vec![r#"{"op":"delete","address":"/a"}"#; limits::MAX_COMMANDS].join(",")
    );
    assert_eq!(world.send("PATCH /api/v1/project", &limit).await.status, 200);
    for (line, headers, body, status, code) in [
        ("GET /nowhere", vec![], "", 404, "not_found"),
        ("GET /api/v1/nowhere", vec![auth.as_str()], "", 404, "not_found"),
        ("GET /api/v1/project/no/such", vec![&auth], "", 404, "not_found"),
        ("GET /api/v1/project/%ff", vec![&auth], "", 400, "bad_address"),
        ("DELETE /api/v1/status", vec![&auth], "", 405, "wrong_method"),
        ("POST /", vec![], "", 405, "wrong_method"),
        ("OPTIONS /api/v1/project", vec![&auth], "", 405, "wrong_method"),
        ("PATCH /api/v1/project", vec![&auth], "{}", 415, "not_json"),
        ("PATCH /api/v1/project", vec![&auth, "Content-Type: text/plain"], "{}", 415, "not_json"),
        ("PATCH /api/v1/project", vec![&auth, json], "", 400, "bad_json"),
        ("PATCH /api/v1/project", vec![&auth, json], "{\"commands\":[", 400, "bad_json"),
        ("PATCH /api/v1/project", vec![&auth, json], "\u{0}\u{1}", 400, "bad_json"),
        ("PATCH /api/v1/project", vec![&auth, json], "{}", 422, "wrong_json"),
        ("PATCH /api/v1/project", vec![&auth, json], " [[]]", 422, "wrong_json"),
        ("PATCH /api/v1/project", vec![&auth, json], r#"{"commands":[]}"#, 422, "invalid"),
        ("PATCH /api/v1/project", vec![&auth, json], &long, 422, "invalid"),
        (
            "PATCH /api/v1/project",
            vec![&auth, json],
            r#"{"commands":[{"op":"explode","address":"/a"}]}"#,
            422,
            "wrong_json",
        ),
        (
            "PATCH /api/v1/project",
            vec![&auth, json],
            r#"{"commands":[{"op":"delete","address":"a"}]}"#,
            422,
            "invalid",
        ),
        (
            "PATCH /api/v1/project",
            vec![&auth, json],
            r#"{"commands":[{"op":"delete","address":"/forbidden"}]}"#,
            422,
            "invalid",
        ),
        ("PATCH /api/v1/project?wait=maybe", vec![&auth, json], r#"{"commands":[]}"#, 400, "bad_query"),
        ("PUT /api/v1/transport", vec![&auth, json], "{}", 422, "invalid"),
        ("PUT /api/v1/transport", vec![&auth, json], r#"{"tempo_bpm":19.9}"#, 422, "invalid"),
        ("PUT /api/v1/transport", vec![&auth, json], r#"{"tempo_bpm":1e999}"#, 400, "bad_json"),
        ("PUT /api/v1/transport", vec![&auth, json], r#"{"tempo":120}"#, 422, "wrong_json"),
        ("PUT /api/v1/peers/nobody", vec![&auth, json], r#"{"gain_db":0}"#, 404, "not_found"),
        ("PUT /api/v1/peers/12D3KooWLee", vec![&auth, json], r#"{"gain_db":12.1}"#, 422, "invalid"),
        ("GET /api/v1/ws", vec![&auth], "", 426, "not_websocket"),
    ] {
        let answer = world.request(line, &headers, body).await;
        let shown = &body[..body.len().min(80)];
        assert_eq!(answer.status, status, "{line} {shown}: {}", answer.body);
        assert_eq!(answer.problem(), code, "{line} {shown}");
    }
    let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    assert_eq!(world.send("PATCH /api/v1/project", &deep).await.status, 422);
}

#[tokio::test]
async fn wrong_method_names_the_right_ones() {
    let world = world().await;
    let answer = world.request("DELETE /api/v1/project", &[&world.authorization()], "").await;
    assert!(answer.head.contains("allow: ") && answer.head.contains("patch"), "{}", answer.head);
}

#[tokio::test]
async fn without_the_token_nothing_of_the_players_is_told() {
    let world = world().await;
    let document: Value = serde_json::from_str(&openapi()).unwrap();
    let mut tried = 0;
    for (path, item) in document["paths"].as_object().unwrap() {
        for method in item.as_object().unwrap().keys() {
            let line = format!("{} {}", method.to_uppercase(), path.replace(['{', '}'], ""));
            if path.ends_with("/openapi.json") || path.ends_with("/ws") {
                continue;
            }
            tried += 1;
            let wrong = format!("Authorization: Bearer {}", Token::generate().secret());
            let basic = format!("Authorization: Basic {}", world.token.secret());
            let twice = format!("{}\r\n{}", world.authorization(), wrong);
            for headers in
                [vec![], vec![wrong.as_str()], vec![&basic], vec!["Authorization: Bearer "], vec![&twice]]
            {
                let answer = world.request(&line, &headers, "").await;
                assert_eq!((answer.status, answer.problem().as_str()), (401, "no_token"), "{line}");
                assert!(answer.head.contains("www-authenticate: bearer"));
            }
        }
    }
    assert!(tried >= 9, "{tried}");
    assert_eq!(world.request("GET /metrics", &[], "").await.status, 401);
}

#[tokio::test]
async fn foreign_pages_and_rebound_names_are_refused_even_with_the_token() {
    let world = world().await;
    let auth = world.authorization();
    for (headers, status, code) in [
        (vec!["Host: evil.example"], 403, "wrong_host"),
        (vec!["Host: evil.example:7780"], 403, "wrong_host"),
        (vec!["Host: localhost\r\nHost: evil.example"], 400, "bad_host"),
        (vec!["Origin: http://evil.example"], 403, "foreign_origin"),
        (vec!["Origin: http://localhost:1"], 403, "foreign_origin"),
        (vec!["Origin: null"], 403, "foreign_origin"),
        (vec!["Sec-Fetch-Site: cross-site"], 403, "foreign_origin"),
        (vec!["Sec-Fetch-Site: same-site"], 403, "foreign_origin"),
    ] {
        for line in
            ["GET /api/v1/status", "PATCH /api/v1/project", "GET /api/v1/ws", "POST /api/v1/ws-ticket"]
        {
            let mut all = headers.clone();
            all.push(&auth);
            let answer = world.request(line, &all, "").await;
            assert_eq!((answer.status, answer.problem().as_str()), (status, code), "{line} {headers:?}");
            assert!(!answer.head.contains("access-control"));
        }
    }
    let own = format!("Origin: http://{}", world.server.address());
    let answer = world.request("GET /api/v1/status", &[&auth, &own, "Sec-Fetch-Site: same-origin"], "").await;
    assert_eq!(answer.status, 200);
    assert_eq!(world.request("GET /", &["Host: evil.example"], "").await.status, 403);
}

#[tokio::test]
async fn request_without_host_is_refused() {
    let world = world().await;
    let answer = world.raw(b"GET /api/v1/status HTTP/1.0\r\n\r\n".to_vec()).await;
    assert!(answer.contains(" 400 ") && answer.contains("bad_host"), "{answer}");
}

#[tokio::test]
async fn page_is_served_under_a_policy_that_runs_nothing_foreign() {
    let world = world().await;
    for (path, kind) in [("/", "text/html"), ("/page.js", "text/javascript"), ("/page.css", "text/css")] {
        let answer = world.request(&format!("GET {path}"), &[], "").await;
        assert_eq!(answer.status, 200);
        assert!(answer.head.contains(kind), "{}", answer.head);
        assert!(answer.head.contains("default-src 'none'") && answer.head.contains("frame-ancestors 'none'"));
        assert!(answer.head.contains("nosniff") && !answer.head.contains("unsafe"));
        // The policy would refuse these; that they are not in our own source is looked after by `./dev lint`.
        assert!(!answer.body.contains("onclick=") && !answer.body.contains("<style"), "{path}");
        assert!(
            !answer.body.contains("http://") || !answer.body.contains("src=\"http"),
            "{path} loads from elsewhere"
        );
    }
}

#[tokio::test]
async fn description_is_openapi_3_1_and_covers_every_route() {
    let world = world().await;
    let answer = world.request("GET /api/v1/openapi.json", &[], "").await;
    let document = answer.json();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    for path in [
        "status",
        "peers",
        "peers/{peer_id}",
        "project",
        "project/{address}",
        "transport",
        "ws",
        "ws-ticket",
        "whoami",
        "setup",
        "devices",
        "audio",
        "audio/test-tone",
        "me",
        "master",
        "link",
        "history",
        "diagnosis",
        "support-bundle",
        "metrics",
        "openapi.json",
    ] {
        assert!(document["paths"].get(format!("/api/v1/{path}")).is_some(), "{path}");
    }
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let responses = operation["responses"].as_object().unwrap();
            assert!(responses.contains_key("default"), "{method} {path}");
            for response in responses.values() {
                assert!(!response["description"].as_str().unwrap().is_empty(), "{method} {path}");
            }
        }
    }
    let text = document.to_string();
    for reference in text.split("\"#/components/schemas/").skip(1) {
        let name = reference.split('"').next().unwrap();
        assert!(document["components"]["schemas"].get(name).is_some(), "{name} is referred to and missing");
    }
}

#[tokio::test]
async fn metrics_agree_with_status_and_escape_names() {
    let world = world().await;
    let text = world.get("/metrics").await.body;
    assert_eq!(text, text.replace('\u{0}', ""));
    for wanted in [
        "bandmesh_audio_xruns_total 2",
        "bandmesh_peers 1",
        "bandmesh_engine_callbacks_total 9",
        "bandmesh_peer_one_way_ms{peer_id=\"12D3KooWLee\"",
        "bandmesh_control_limit{what=\"connections\"} 256",
        "# EOF",
    ] {
        assert!(text.contains(wanted), "{wanted}: {text}");
    }
    // A name with a line break or a quote must not make a line of its own.
    let odd = text.lines().find(|line| !line.starts_with("bandmesh_") && !line.starts_with('#'));
    assert_eq!(odd, None);
}

#[tokio::test]
async fn occupied_port_is_left_alone_and_the_warning_names_the_other() {
    let occupied = TcpListener::bind("127.0.0.1:0").unwrap();
    let world = world_at(occupied.local_addr().unwrap()).await;
    let port = world.server.address().port();
    assert_ne!(port, occupied.local_addr().unwrap().port());
    assert!(world.server.warning().unwrap().contains(&port.to_string()));
    assert!(world.server.url().ends_with(&format!(":{port}")));
    assert_eq!(world.get("/api/v1/status").await.status, 200);
}

#[tokio::test]
async fn address_of_another_machine_is_refused_with_advice() {
    let config = Config {
        address: "192.0.2.1:7780".parse().unwrap(),
        keys: Token::generate().into(),
        logs: LogBuffer::default(),
    };
    let Err(error) = start(config, Pretended::new() as Arc<dyn Backend>).await else { panic!() };
    assert!(error.to_string().contains("--http"), "{error}");
}

#[tokio::test]
async fn huge_bodies_are_refused_and_never_held() {
    let world = world().await;
    let at_limit = format!("\"{}\"", "x".repeat(limits::MAX_BODY_BYTES - 2));
    assert_eq!(world.send("PATCH /api/v1/project", &at_limit).await.status, 422);
    let above = format!("\"{}\"", "x".repeat(limits::MAX_BODY_BYTES - 1));
    let answer = world.send("PATCH /api/v1/project", &above).await;
    assert_eq!((answer.status, answer.problem().as_str()), (413, "too_large"));

    let head = format!(
        "PATCH /api/v1/project HTTP/1.1\r\nHost: localhost\r\n{}\r\nContent-Type: application/json\r\n",
        world.authorization()
    );
    let began = Instant::now();
    let announced = world.raw(format!("{head}Content-Length: 1073741824\r\n\r\nxxx").into_bytes()).await;
    assert!(announced.contains(" 413 "), "{announced}");
    let mut chunked = format!("{head}Transfer-Encoding: chunked\r\n\r\n").into_bytes();
    for _ in 0..40 {
        chunked.extend(format!("{:x}\r\n{}\r\n", 1 << 16, "x".repeat(1 << 16)).into_bytes());
    }
    let endless = world.raw(chunked).await;
    assert!(endless.contains(" 413 "), "{endless}");
    assert!(began.elapsed() < 2 * limits::DISCARD_TIMEOUT + Duration::from_secs(2));
    assert_eq!(world.get("/api/v1/status").await.status, 200);
}

#[tokio::test]
async fn endless_heads_and_random_bytes_are_refused() {
    let world = world().await;
    let flood: String = (0..2_000).map(|number| format!("X-{number}: y\r\n")).collect();
    let answer = world.raw(format!("GET / HTTP/1.1\r\nHost: localhost\r\n{flood}\r\n").into_bytes()).await;
    assert!(answer.contains(" 431 ") || answer.contains(" 400 "), "{answer}");
    let long = world.raw(format!("GET /{} HTTP/1.1\r\n", "a".repeat(1 << 20)).into_bytes()).await;
    assert!(
        long.contains(" 431 ") || long.contains(" 414 ") || long.contains(" 400 ") || long.is_empty(),
        "{long}"
    );
    let mut state = 1_u64;
    for length in [1, 7, 100, 5_000] {
        let noise = (0..length)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 56) as u8
            })
            .chain(*b"\r\n\r\n")
            .collect();
        world.raw(noise).await;
    }
    assert_eq!(world.get("/api/v1/status").await.status, 200);
}

#[tokio::test]
async fn idle_and_dribbling_connections_make_room_for_honest_ones() {
    let world = world().await;
    let address = world.server.address();
    let mut idle = Vec::new();
    for number in 0..limits::MAX_CONNECTIONS + 44 {
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        if number % 2 == 0 {
            tokio::io::AsyncWriteExt::write_all(&mut stream, b"GET / HTTP/1.1\r\nX-Dribble: ").await.unwrap();
        }
        idle.push(stream);
    }
    let began = Instant::now();
    assert_eq!(world.get("/api/v1/status").await.status, 200);
    assert!(began.elapsed() < Duration::from_secs(1));
    let metrics = world.get("/metrics").await.body;
    let held: f64 = metrics
        .lines()
        .find_map(|line| line.strip_prefix("bandmesh_control_connections "))
        .unwrap()
        .parse()
        .unwrap();
    assert!(held <= limits::MAX_CONNECTIONS as f64, "{held}");
    drop(idle);
}

#[tokio::test]
async fn socket_opens_by_header_ticket_or_first_message_only() {
    let world = world().await;
    world.open_socket().await;

    let ticket = world.send("POST /api/v1/ws-ticket", "").await.json()["ticket"].as_str().unwrap().to_owned();
    let mut socket = world.socket(&format!("?ticket={ticket}"), &[]).await.unwrap();
    assert_eq!(next(&mut socket).await["type"], "ready");
    assert!(world.socket(&format!("?ticket={ticket}"), &[]).await.is_err(), "a ticket works once");

    let mut socket = world.socket("", &[]).await.unwrap();
    say(&mut socket, json!({"type": "auth", "token": world.token.secret()})).await;
    assert_eq!(next(&mut socket).await["type"], "ready");

    for first in [
        json!({"type": "auth", "token": "wrong"}),
        json!({"type": "subscribe", "topics": ["status"]}),
        json!(7),
    ] {
        let mut socket = world.socket("", &[]).await.unwrap();
        say(&mut socket, first).await;
        assert_eq!(close_code(&mut socket).await, 4401);
    }
    assert!(world.socket("", &[("authorization", "Bearer wrong")]).await.is_err());
    assert!(world.socket("", &[("origin", "http://evil.example")]).await.is_err());
}

#[tokio::test]
async fn subscriber_sees_the_state_at_once_and_then_what_changes() {
    let world = world().await;
    let mut socket = world.open_socket().await;
    say(
        &mut socket,
        json!({"type": "subscribe", "topics": ["status", "meters", "peers", "project", "playback", "log"]}),
    )
    .await;
    assert_eq!(next_of(&mut socket, "subscribed").await["topics"].as_array().unwrap().len(), 6);
    assert_eq!(next_of(&mut socket, "status").await["data"]["peer_id"], "12D3KooWMe");
    assert_eq!(next_of(&mut socket, "meters").await["data"]["tempo_bpm"], 120.0);
    assert_eq!(next_of(&mut socket, "peers").await["data"][0]["peer_id"], "12D3KooWLee");

    world.node.notices.send(Notice::Project(vec!["/session/name".into(), "/tracks/gone".into()])).unwrap();
    let changed = next_of(&mut socket, "project_changed").await;
    assert_eq!(changed["changes"][0], json!({"address": "/session/name", "value": "jam"}));
    assert_eq!(changed["changes"][1]["value"], Value::Null);

    let many = (0..=limits::MAX_CHANGED_ADDRESSES).map(|number| format!("/a/{number}")).collect();
    world.node.notices.send(Notice::Project(many)).unwrap();
    assert_eq!(next_of(&mut socket, "project").await["data"]["session"]["name"], "jam");

    let subscriber =
        tracing_subscriber::layer::SubscriberExt::with(tracing_subscriber::registry(), world.logs.clone());
    tracing::subscriber::with_default(subscriber, || tracing::info!("hello"));
    assert_eq!(next_of(&mut socket, "log").await["lines"][0]["message"], "hello");

    say(&mut socket, json!({"type": "unsubscribe", "topics": ["meters", "log", "status", "peers"]})).await;
    assert_eq!(next_of(&mut socket, "subscribed").await["topics"], json!(["playback", "project"]));
}

#[tokio::test]
async fn commands_of_a_socket_run_in_order_and_are_answered_by_id() {
    let world = world().await;
    let mut socket = world.open_socket().await;
    let set = |value: i32| json!([{"op": "set", "address": "/transport/tempo_bpm", "value": value}]);
    say(&mut socket, json!({"type": "patch", "id": 1, "commands": set(100)})).await;
    say(&mut socket, json!({"type": "patch", "id": "two", "commands": set(101), "wait": "none"})).await;
    say(&mut socket, json!({"type": "playback", "id": 3, "change": {"tempo_bpm": 99.0}})).await;
    let first = next_of(&mut socket, "patched").await;
    assert_eq!((&first["id"], &first["data"]["durable"]), (&json!(1), &json!(true)));
    let second = next_of(&mut socket, "patched").await;
    assert_eq!((&second["id"], &second["data"]["durable"]), (&json!("two"), &json!(false)));
    assert_eq!(next_of(&mut socket, "playback_set").await["data"]["tempo_bpm"], 99.0);

    for (message, code) in [
        (json!({"type": "patch", "id": 4, "commands": []}), "invalid"),
        (
            json!({"type": "patch", "id": 4, "commands": [{"op": "delete", "address": "/forbidden"}]}),
            "invalid",
        ),
        (json!({"type": "playback", "id": 4, "change": {}}), "invalid"),
        (json!({"type": "dance"}), "bad_json"),
        (json!({"type": "subscribe", "topics": ["everything"]}), "bad_json"),
    ] {
        say(&mut socket, message).await;
        assert_eq!(next_of(&mut socket, "error").await["problem"]["code"], code);
    }
}

#[tokio::test]
async fn one_command_too_many_is_refused_and_the_socket_lives() {
    let world = world().await;
    let mut socket = world.open_socket().await;
    for id in 0..limits::MAX_PENDING_COMMANDS + 2 {
        say(
            &mut socket,
            json!({"type": "patch", "id": id, "commands": [{"op": "delete", "address": "/slow"}]}),
        )
        .await;
    }
    assert_eq!(next_of(&mut socket, "error").await["problem"]["code"], "too_many_commands");
    say(&mut socket, json!({"type": "subscribe", "topics": ["meters"]})).await;
    next_of(&mut socket, "meters").await;
}

#[tokio::test]
async fn oversized_and_binary_messages_end_their_socket_only() {
    let world = world().await;
    let mut socket = world.open_socket().await;
    socket.send(Message::binary(vec![0_u8; 10])).await.unwrap();
    assert_eq!(close_code(&mut socket).await, u16::from(CloseCode::Policy));
    let mut socket = world.open_socket().await;
    let _ = socket.send(Message::text("x".repeat(limits::MAX_SOCKET_MESSAGE_BYTES + 1))).await;
    let ended = timeout(PATIENCE, async { while let Some(Ok(_)) = socket.next().await {} }).await;
    assert!(ended.is_ok());
    assert_eq!(world.get("/api/v1/status").await.status, 200);
}

#[tokio::test]
async fn one_socket_too_many_is_refused_until_another_closes() {
    let world = world().await;
    let mut sockets = Vec::new();
    for _ in 0..limits::MAX_SOCKETS {
        sockets.push(world.open_socket().await);
    }
    let authorization = format!("Bearer {}", world.token.secret());
    match world.socket("", &[("authorization", &authorization)]).await {
        Err(tungstenite::Error::Http(response)) => assert_eq!(response.status(), 503),
        other => panic!("{other:?}"),
    }
    sockets.pop();
    let again = timeout(PATIENCE, async {
        while world.socket("", &[("authorization", &authorization)]).await.is_err() {
            tokio::task::yield_now().await;
        }
    });
    again.await.unwrap();
}

#[tokio::test]
async fn shutdown_is_quick_and_says_goodbye() {
    let world = world().await;
    let mut socket = world.open_socket().await;
    let idle = TcpStream::connect(world.server.address()).unwrap();
    let World { server, .. } = world;
    let address = server.address();
    let began = Instant::now();
    server.shutdown().await;
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    assert_eq!(close_code(&mut socket).await, 1001);
    assert!(TcpStream::connect(address).is_err());
    drop(idle);
}
