//! The control interface as a program, a page and an attacker meet it.

use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;
use tests::{Lan, Node, Options, eventually, number, run_to_exit, seconds};

fn alone() -> (Lan, Node) {
    let lan = Lan::new(1);
    let node = Node::start(lan.host(0), Options::named("Alice").with(&["--no-mdns", "--no-link"]));
    (lan, node)
}

#[test]
fn without_the_token_nothing_is_told_or_done() {
    let (_lan, alice) = alone();
    let file = alice.ready()["token_file"].as_str().expect("token_file");
    let mode = std::fs::metadata(file).expect("the token file").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    for stranger in [alice.api().with_token(None), alice.api().with_token(Some("guess"))] {
        for path in ["/status", "/peers", "/project", "/transport", "/metrics"] {
            stranger.get(path).problem(401);
        }
        stranger.patch("/project", &json!({"commands": []})).problem(401);
        stranger.put("/transport", &json!({"playing": true})).problem(401);
    }
    assert_eq!(alice.api().get("/status").status, 200);
}

#[test]
fn a_page_from_elsewhere_is_refused_even_with_the_token() {
    let (_lan, alice) = alone();
    let get = |headers: &[(&str, &str)]| alice.api().request("GET", "/status", None, headers);
    get(&[("Host", "evil.example")]).problem(403);
    get(&[("Host", "evil.example:7780")]).problem(403);
    get(&[("Origin", "http://evil.example")]).problem(403);
    get(&[("Origin", "null")]).problem(403);
    get(&[("Sec-Fetch-Site", "cross-site")]).problem(403);
    assert!(alice.api().socket(&[("Origin", "http://evil.example")]).is_err());
    assert_eq!(get(&[("Origin", &format!("http://{}", alice.api().address()))]).status, 200);
}

#[test]
fn every_promised_field_of_status_is_there() {
    let (_lan, alice) = alone();
    let status = alice.status();
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
        assert!(status.pointer(pointer).is_some_and(|v| !v.is_null()), "no {pointer} in {status}");
    }
    assert_eq!(status["peer_id"], alice.ready()["peer_id"]);
    assert_eq!((status["name"].as_str(), status["audio"]["host"].as_str()), (Some("Alice"), Some("null")));
    assert_eq!(status["session"]["name"], alice.ready()["session"]);
}

#[test]
fn every_promised_field_of_a_peer_is_there() {
    let lan = Lan::new(2);
    let alice = Node::start(lan.host(0), Options::named("Alice"));
    let bob = Node::start(lan.host(1), Options::named("Bob"));
    eventually(seconds(5), "Alice hears Bob and has measured him", || {
        let peer = alice.peer(&bob);
        peer["audio"]["one_way_ms"].is_number() && peer["clock"]["error_us"].is_number()
    });
    let peer = alice.peer(&bob);
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
        assert!(peer.pointer(pointer).is_some_and(|v| !v.is_null()), "no {pointer} in {peer}");
    }
    assert_eq!((peer["name"].as_str(), peer["path"].as_str()), (Some("Bob"), Some("lan")));
}

#[test]
fn the_interface_describes_itself() {
    let (_lan, alice) = alone();
    let document = alice.api().get("/openapi.json").ok();
    assert!(document["openapi"].as_str().is_some_and(|v| v.starts_with("3.1")), "{}", document["openapi"]);
    for (path, method) in [
        ("/api/v1/status", "get"),
        ("/api/v1/peers", "get"),
        ("/api/v1/project", "get"),
        ("/api/v1/project", "patch"),
        ("/api/v1/transport", "get"),
        ("/api/v1/transport", "put"),
        ("/api/v1/ws", "get"),
        ("/api/v1/metrics", "get"),
    ] {
        assert!(document["paths"][path][method].is_object(), "{method} {path} is not described");
    }
}

#[test]
fn metrics_are_prometheus_text() {
    let (_lan, alice) = alone();
    let reply = alice.api().get("/metrics");
    assert_eq!(reply.status, 200);
    let samples: Vec<&str> = reply.text.lines().filter(|line| !line.starts_with('#')).collect();
    assert!(samples.len() > 10, "{}", reply.text);
    for line in samples {
        let value = line.rsplit(' ').next().and_then(|v| v.parse::<f64>().ok());
        assert!(value.is_some() && line.starts_with("bandmesh_"), "{line}");
    }
}

#[test]
fn the_web_socket_tells_what_happens_and_takes_commands() {
    let (_lan, alice) = alone();
    let mut socket = alice.api().socket(&[]).unwrap_or_else(|e| panic!("open the WebSocket: {e}"));
    socket.subscribe(&["status", "meters", "peers", "project"]);
    for kind in ["status", "peers", "project", "meters"] {
        let message = socket.until(kind, |m| m["type"] == kind);
        assert!(!message["data"].is_null(), "{message}");
    }
    let command = json!({"op": "set", "address": "/transport/tempo_bpm", "value": 101.0});
    socket.send(&json!({"type": "patch", "id": 7, "commands": [command]}));
    let mut changed = false;
    let answer = socket.until("the answer", |m| {
        changed |= m["type"] == "project_changed" && m.to_string().contains("/transport/tempo_bpm");
        m["type"] == "patched"
    });
    assert_eq!((answer["id"].as_u64(), answer["data"]["durable"].as_bool()), (Some(7), Some(true)));
    if !changed {
        socket.until("the change", |m| m.to_string().contains("/transport/tempo_bpm"));
    }
    assert_eq!(number(&alice.project("/transport"), "/tempo_bpm"), 101.0);
    // A wrong message is answered, and the socket lives on.
    socket.send(&json!({"type": "patch", "commands": [{"op": "set", "address": "/nothing", "value": 1}]}));
    socket.until("an error", |m| m["type"] == "error" && m["problem"]["detail"].is_string());
    socket.until("more meters", |m| m["type"] == "meters");
}

#[test]
fn playback_starts_locates_and_stops() {
    let (_lan, alice) = alone();
    let put = |change: Value| alice.api().put("/transport", &change).ok();
    put(json!({"tempo_bpm": 240.0, "time_signature": "3/4"}));
    put(json!({"playing": true, "position_beats": 8.0}));
    eventually(seconds(3), "the position moves on from beat 8", || {
        number(&alice.api().get("/transport").ok(), "/position_beats") > 9.0
    });
    let stopped = put(json!({"playing": false}));
    assert_eq!(stopped["playing"], false);
    assert_eq!((number(&stopped, "/tempo_bpm"), stopped["time_signature"].as_str()), (240.0, Some("3/4")));
    alice.api().put("/transport", &json!({"tempo_bpm": 0.0})).problem(422);
}

#[test]
fn the_commands_find_the_running_node_by_its_data_directory() {
    let (_lan, alice) = alone();
    let directory = alice.data_dir();
    let directory = directory.to_str().expect("a path of plain text");
    let run = |arguments: &[&str]| {
        let exit = run_to_exit(alice.host(), &[arguments, &["--data-dir", directory]].concat(), seconds(5));
        assert_eq!(exit.code, 0, "{arguments:?}: {exit:?}");
        exit.stdout
    };
    let status: Value = serde_json::from_str(&run(&["status", "--json"])).expect("JSON");
    assert_eq!(status["peer_id"], alice.ready()["peer_id"]);
    let peers: Value = serde_json::from_str(&run(&["peers", "--json"])).expect("JSON");
    assert_eq!(peers, json!([]));
    assert!(run(&["status"]).contains("Alice"));
}

#[test]
fn devices_and_doctor_answer_without_a_sound_card() {
    let lan = Lan::new(1);
    let directory = tempfile::tempdir().expect("a temporary directory");
    let directory = directory.path().to_str().expect("a path of plain text");
    let devices = run_to_exit(lan.host(0), &["devices", "--json"], seconds(10));
    assert_eq!(devices.code, 0, "{devices:?}");
    assert!(serde_json::from_str::<Value>(&devices.stdout).is_ok(), "{devices:?}");
    let doctor = run_to_exit(lan.host(0), &["doctor", "--json", "--data-dir", directory], seconds(20));
    assert!(doctor.code < 2 && !doctor.stdout.is_empty(), "{doctor:?}");
    for line in doctor.stdout.lines() {
        assert!(
            serde_json::from_str::<Value>(line).is_ok()
                || serde_json::from_str::<Value>(&doctor.stdout).is_ok()
        );
    }
}
