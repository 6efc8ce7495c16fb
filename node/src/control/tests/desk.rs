//! The player's own desk: roles, setup, device, mix, history, diagnosis, support bundle.

use std::io::{Cursor, Read};

use super::*;

/// What the pretended node's desk looks like at first.
pub(super) fn setup() -> Setup {
    Setup {
        done: false,
        name: "Maya".into(),
        color: "#56b4e9".into(),
        instrument: String::new(),
        suggested_name: "maya".into(),
    }
}

pub(super) fn audio() -> AudioState {
    AudioState {
        choice: "auto".into(),
        host: "null".into(),
        device: "timer".into(),
        rate_hz: 48_000,
        period_frames: 128,
        state: AudioRunning::Running,
        detail: None,
    }
}

pub(super) fn history(seconds: usize) -> History {
    let xruns = vec![Some(0); seconds];
    let device = DeviceHistory { xruns, ..DeviceHistory::default() };
    History { interval_s: 1, end_ms: 5, device, peers: Vec::new() }
}

pub(super) fn diagnosis() -> Diagnosis {
    Diagnosis {
        severity: Severity::Bad,
        sentence: "Your sound card does not keep up with 128 frames.".into(),
        culprit: Culprit { kind: CulpritKind::Device, peer_id: None },
        action: Some(Action {
            label: "Use 256 frames".into(),
            method: "PUT".into(),
            path: "/audio".into(),
            body: Some(json!({"period_frames": 256})),
        }),
    }
}

impl World {
    fn view_authorization(&self) -> String {
        format!("Authorization: Bearer {}", self.view_token.secret())
    }
}

#[tokio::test]
async fn viewer_sees_everything_and_changes_nothing() {
    let world = world().await;
    let auth = world.view_authorization();
    let document: Value = serde_json::from_str(&openapi()).unwrap();
    let (mut looked, mut refused) = (0, 0);
    for (path, item) in document["paths"].as_object().unwrap() {
        for method in item.as_object().unwrap().keys() {
            let line = format!("{} {}", method.to_uppercase(), path.replace(['{', '}'], ""));
            let answer = world.request(&line, &[&auth, "Content-Type: application/json"], "{}").await;
            match method.as_str() {
                _ if path.ends_with("/ws") => {}
                // Changes nothing: it opens a WebSocket with the same role.
                "post" if path.ends_with("/ws-ticket") => assert_eq!(answer.status, 200),
                "get" => {
                    looked += 1;
                    // An address in the path was a made-up one.
                    assert!(matches!(answer.status, 200 | 404), "{line}: {}", answer.body);
                }
                _ => {
                    refused += 1;
                    assert_eq!((answer.status, answer.problem().as_str()), (403, "read_only"), "{line}");
                }
            }
        }
    }
    assert!(looked >= 14 && refused >= 9, "{looked} {refused}");
    for (auth, role) in [(auth, "viewer"), (world.authorization(), "player")] {
        assert_eq!(world.request("GET /api/v1/whoami", &[&auth], "").await.json()["role"], role);
    }
    assert!(world.node.desk.lock().unwrap().is_empty() && world.node.patches.lock().unwrap().is_empty());
}

#[tokio::test]
async fn viewers_socket_shows_every_topic_and_takes_no_command_however_it_was_opened() {
    let world = world().await;
    let auth = world.view_authorization();
    let ticket = world.request("POST /api/v1/ws-ticket", &[&auth], "").await.json()["ticket"].clone();
    let by_ticket = format!("?ticket={}", ticket.as_str().unwrap());
    let bearer = format!("Bearer {}", world.view_token.secret());
    let by_header: &[(&'static str, &str)] = &[("authorization", &bearer)];
    for (query, headers, says_it) in
        [(by_ticket.as_str(), &[][..], false), ("", by_header, false), ("", &[], true)]
    {
        let mut socket = world.socket(query, headers).await.unwrap();
        if says_it {
            say(&mut socket, json!({"type": "auth", "token": world.view_token.secret()})).await;
        }
        assert_eq!(next(&mut socket).await["type"], "ready");
        say(&mut socket, json!({"type": "subscribe", "topics": ["status", "meters", "peers", "log"]})).await;
        next_of(&mut socket, "status").await;
        // Every message that a client can send but those of the handshake and the topics.
        let document: Value = serde_json::from_str(&openapi()).unwrap();
        let messages =
            document["components"]["schemas"]["ClientMessage"]["oneOf"].as_array().unwrap().clone();
        let kinds: Vec<String> = messages
            .iter()
            .map(|message| message["properties"]["type"]["enum"][0].as_str().unwrap().to_owned())
            .filter(|kind| !["auth", "subscribe", "unsubscribe"].contains(&kind.as_str()))
            .collect();
        assert!(kinds.len() >= 2, "{kinds:?}");
        say(&mut socket, json!({"type": "patch", "id": 7, "commands": [{"op": "delete", "address": "/a"}]}))
            .await;
        let refusal = next_of(&mut socket, "error").await;
        assert_eq!(
            (refusal["id"].as_u64(), refusal["problem"]["code"].as_str()),
            (Some(7), Some("read_only"))
        );
        say(&mut socket, json!({"type": "playback", "id": 8, "change": {"playing": true}})).await;
        assert_eq!(next_of(&mut socket, "error").await["problem"]["code"], "read_only");
    }
    assert!(world.node.patches.lock().unwrap().is_empty());
}

#[tokio::test]
async fn players_own_desk_is_set_and_answers_with_what_holds_now() {
    let world = world().await;
    let setup = world.get("/api/v1/setup").await.json();
    assert_eq!((setup["done"].as_bool(), setup["suggested_name"].as_str()), (Some(false), Some("maya")));
    let answer = world
        .send("PUT /api/v1/setup", r##"{"name":"Lee","color":"#3fa9f5","instrument":"bass","done":true}"##)
        .await;
    assert_eq!((answer.status, answer.json()["name"].as_str()), (200, Some("Lee")));
    let devices = world.get("/api/v1/devices").await.json();
    assert_eq!(devices["audio"][0]["id"], "null");
    assert_eq!(world.get("/api/v1/audio").await.json()["state"], "running");
    let audio = world.send("PUT /api/v1/audio", r#"{"period_frames":256}"#).await.json();
    assert_eq!(audio["period_frames"], 256);
    assert_eq!(world.get("/api/v1/midi").await.json()["all_inputs"], true);
    let midi = world.send("PUT /api/v1/midi", r#"{"outputs":["Synth"]}"#).await.json();
    assert_eq!(midi["outputs"], json!(["Synth"]));
    let tone = world.send("POST /api/v1/audio/test-tone", "{}").await.json();
    assert_eq!((tone["seconds"].as_f64(), tone["level_db"].as_f64()), (Some(2.0), Some(-20.0)));
    let silent = world.request("DELETE /api/v1/audio/test-tone", &[&world.authorization()], "").await;
    assert_eq!(silent.json()["seconds"], 0.0);
    let me = world.send("PUT /api/v1/me", r#"{"muted":true,"input_gain_db":-3}"#).await.json();
    assert_eq!((me["muted"].as_bool(), me["input_gain_db"].as_f64()), (Some(true), Some(-3.0)));
    assert_eq!(world.send("PUT /api/v1/master", r#"{"gain_db":-6}"#).await.json()["gain_db"], -6.0);
    assert_eq!(world.send("PUT /api/v1/link", r#"{"enabled":false}"#).await.json()["enabled"], false);
    let peer =
        world.send("PUT /api/v1/peers/12D3KooWLee", r#"{"pan":-0.5,"soloed_by_me":true}"#).await.json();
    assert_eq!((peer["pan"].as_f64(), peer["soloed_by_me"].as_bool()), (Some(-0.5), Some(true)));
    let seen = world.node.desk.lock().unwrap().join("\n");
    for wanted in ["Lee", "256", "TestTone { seconds: 2.0", "TestTone { seconds: 0.0", "muted: Some(true)"] {
        assert!(seen.contains(wanted), "{wanted}: {seen}");
    }
}

#[tokio::test]
async fn what_makes_no_sense_at_the_desk_is_refused_before_the_node_hears_of_it() {
    let world = world().await;
    let long = "x".repeat(65);
    for (line, body) in [
        ("PUT /api/v1/setup", "{}".to_owned()),
        ("PUT /api/v1/setup", r#"{"name":"  "}"#.to_owned()),
        ("PUT /api/v1/setup", format!(r#"{{"name":"{long}"}}"#)),
        ("PUT /api/v1/setup", r#"{"name":"a\nb"}"#.to_owned()),
        ("PUT /api/v1/setup", r#"{"instrument":"\u001b[2J"}"#.to_owned()),
        ("PUT /api/v1/setup", r#"{"color":"red"}"#.to_owned()),
        ("PUT /api/v1/setup", r##"{"color":"#12345g"}"##.to_owned()),
        ("PUT /api/v1/audio", "{}".to_owned()),
        ("PUT /api/v1/audio", r#"{"rate_hz":7999}"#.to_owned()),
        ("PUT /api/v1/audio", r#"{"period_frames":4097}"#.to_owned()),
        ("PUT /api/v1/audio", format!(r#"{{"device":"{}"}}"#, "x".repeat(9_000))),
        ("PUT /api/v1/midi", "{}".to_owned()),
        ("PUT /api/v1/midi", r#"{"inputs":[""]}"#.to_owned()),
        ("PUT /api/v1/midi", r#"{"outputs":["a\u001b[2J"]}"#.to_owned()),
        ("PUT /api/v1/midi", format!(r#"{{"outputs":{:?}}}"#, vec!["x"; 65])),
        ("PUT /api/v1/midi", format!(r#"{{"inputs":["{}"]}}"#, "x".repeat(129))),
        ("PUT /api/v1/midi", r#"{"inputs":"all"}"#.to_owned()),
        ("POST /api/v1/audio/test-tone", r#"{"level_db":-5}"#.to_owned()),
        ("POST /api/v1/audio/test-tone", r#"{"seconds":11}"#.to_owned()),
        ("PUT /api/v1/me", "{}".to_owned()),
        ("PUT /api/v1/me", r#"{"input_gain_db":12.5}"#.to_owned()),
        ("PUT /api/v1/me", r#"{"volume":1}"#.to_owned()),
        ("PUT /api/v1/master", r#"{"gain_db":-61}"#.to_owned()),
        ("PUT /api/v1/master", r#"{"gain_db":1e999}"#.to_owned()),
        ("PUT /api/v1/link", "{}".to_owned()),
        ("PUT /api/v1/peers/12D3KooWLee", r#"{"pan":1.5}"#.to_owned()),
    ] {
        let answer = world.send(line, &body).await;
        assert!(matches!(answer.status, 400 | 422), "{line} {body}: {}", answer.body);
        answer.problem();
    }
    for query in ["0", "301", "-1", "x", ""] {
        assert_eq!(world.get(&format!("/api/v1/history?seconds={query}")).await.status, 400, "{query}");
    }
    assert!(world.node.desk.lock().unwrap().is_empty());
}

#[tokio::test]
async fn last_minutes_and_the_culprit_are_told() {
    let world = world().await;
    let all = world.get("/api/v1/history").await.json();
    assert_eq!(all["device"]["xruns"].as_array().unwrap().len(), 300);
    let some = world.get("/api/v1/history?seconds=10").await.json();
    assert_eq!(some["device"]["xruns"].as_array().unwrap().len(), 10);
    let diagnosis = world.get("/api/v1/diagnosis").await.json();
    assert_eq!(
        (diagnosis["severity"].as_str(), diagnosis["culprit"]["kind"].as_str()),
        (Some("bad"), Some("device"))
    );
    assert_eq!(diagnosis["action"]["body"]["period_frames"], 256);
    assert_eq!(world.get("/api/v1/status").await.json()["diagnosis"], diagnosis);
}

#[tokio::test]
async fn support_bundle_is_a_zip_of_everything_but_secrets() {
    let world = world().await;
    let authorization = world.authorization();
    let line = "GET /api/v1/support-bundle HTTP/1.1\r\nConnection: close\r\nHost: ";
    let request = format!("{line}{}\r\n{authorization}\r\n\r\n", world.server.address());
    let answer = world.raw_bytes(request.into_bytes()).await;
    let split = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").unwrap();
    let head = String::from_utf8_lossy(&answer[..split]).to_lowercase();
    assert!(
        head.contains("200 ok") && head.contains("application/zip") && head.contains("attachment"),
        "{head}"
    );
    let mut zip = zip::ZipArchive::new(Cursor::new(&answer[split + 4..])).unwrap();
    let mut all = String::new();
    for index in 0..zip.len() {
        let mut file = zip.by_index(index).unwrap();
        let name = file.name().unwrap().into_owned();
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        assert!(!text.is_empty() || name == "log.txt", "{name} is empty");
        all.push_str(&format!("--- {name}\n{text}\n"));
    }
    for wanted in
        ["status.json", "peers.json", "history.json", "log.txt", "doctor.txt", "12D3KooWLee", "rate = 48000"]
    {
        assert!(all.contains(wanted), "{wanted}: {all}");
    }
    for secret in [world.token.secret(), world.view_token.secret(), "hunter2"] {
        assert!(!all.contains(secret), "{secret}");
    }
}

#[tokio::test]
async fn page_is_sent_once_and_then_only_asked_after() {
    let world = world().await;
    let first = world.request("GET /", &[], "").await;
    assert_eq!(first.status, 200);
    let tag = first.head.lines().find_map(|line| line.strip_prefix("etag: ")).unwrap().to_owned();
    assert!(first.head.contains("cache-control: no-cache"), "{}", first.head);
    let known = format!("If-None-Match: \"x\", {tag}");
    let again = world.request("GET /", &[&known], "").await;
    assert_eq!((again.status, again.body.as_str()), (304, ""));
    assert_eq!(world.request("GET /", &["If-None-Match: \"other\""], "").await.status, 200);
    let head = world.request("HEAD /", &[], "").await;
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    for method in ["POST", "PUT", "DELETE", "PATCH"] {
        let answer = world.request(&format!("{method} /"), &[], "").await;
        assert_eq!((answer.status, answer.problem().as_str()), (405, "wrong_method"), "{method}");
        assert!(answer.head.contains("allow: get,head"), "{}", answer.head);
    }
    for path in ["/../Cargo.toml", "/%2e%2e/Cargo.toml", "/.git/config", "/index.html/x"] {
        assert_eq!(world.request(&format!("GET {path}"), &[], "").await.status, 404, "{path}");
    }
}
