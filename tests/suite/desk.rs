//! The player's own desk, on whole nodes: another device in the middle of a song, mute, tone, name, the last minutes.

use serde_json::{Value, json};
use std::path::PathBuf;
use tests::audio::{frames, read_wav, silence, to_ms, write_wav};
use tests::{Lan, Node, Options, eventually, eventually_some, ms, number, seconds};

/// Peak of the tone that Alice plays.
const LEVEL: f32 = 0.25;
const TONE_HZ: f32 = 220.0;

/// A lasting tone.
fn tone(length_s: f64) -> Vec<f32> {
    (0..frames(length_s))
        .map(|n| LEVEL * (std::f32::consts::TAU * TONE_HZ * n as f32 / 48_000.0).sin())
        .collect()
}

/// A node that plays `play` and records what it hears.
fn player(lan: &Lan, host: usize, name: &str, play: &[f32]) -> (Node, PathBuf, PathBuf) {
    let mut node = Node::player(lan.host(host), Options::named(name), play);
    node.restart();
    let (plays, hears) = (node.playing(), node.recording());
    (node, plays, hears)
}

fn peak_db(node: &Node) -> f64 {
    number(&node.status(), "/audio/output_peak_db")
}

/// Stretches in which nothing is heard between the first sound and the last, ms: each longer than a wave's own zeros.
fn gaps_ms(heard: &[f32]) -> Vec<f64> {
    let loud = |n: &usize| heard[*n].abs() > LEVEL / 20.0;
    let sounding: Vec<usize> = (0..heard.len()).filter(loud).collect();
    let pairs = sounding.windows(2).map(|pair| to_ms((pair[1] - pair[0]) as f64));
    pairs.filter(|gap| *gap > 2.0).collect()
}

#[test]
fn device_changes_in_the_middle_of_a_song_and_the_others_hear_a_short_gap() {
    let lan = Lan::alone(2);
    let (mut bob, _, heard) = player(&lan, 1, "Bob", &silence());
    let (alice, song, _) = player(&lan, 0, "Alice", &tone(15.0));
    eventually(seconds(5), "Bob hears Alice", || peak_db(&bob) > -20.0);
    let again = format!("file:{}", song.display());
    // Opening a device is work, and the file has to be read.
    let api = alice.api().with_timeout(seconds(16));
    let put = |change: Value| api.put("/audio", &change).ok();

    // Another period, and a device that only hears; the song begins anew.
    for period in [256, 64] {
        let now = put(json!({"device": again, "period_frames": period}));
        assert_eq!(
            (now["period_frames"].as_u64(), now["state"].as_str()),
            (Some(period), Some("running")),
            "{now}"
        );
        eventually(seconds(3), "Bob gets the new period", || {
            bob.peer(&alice)["audio"]["frame_frames"].as_u64() == Some(period)
        });
        eventually(seconds(3), "Bob hears Alice again", || peak_db(&bob) > -20.0);
        std::thread::sleep(ms(1_500));
    }
    // Another rate.
    put(json!({"rate_hz": 44_100}));
    std::thread::sleep(ms(1_500));
    assert!(peak_db(&bob) > -20.0);
    let received = number(&bob.peer(&alice), "/audio/received");
    eventually(seconds(2), "packets go on", || {
        number(&bob.peer(&alice), "/audio/received") > received + 100.0
    });
    bob.stop();
    let heard: Vec<f32> = read_wav(&heard);
    let gaps = gaps_ms(&heard);
    eprintln!("three changes of the device; gaps at the other player: {gaps:.1?} ms");
    assert!(gaps.len() <= 6 && gaps.iter().all(|gap| *gap < 300.0), "{gaps:?}");
    // No click: nowhere steeper than twice the wave itself.
    let steepest = LEVEL * std::f32::consts::TAU * TONE_HZ / 48_000.0;
    let steps = heard.windows(2).map(|pair| (pair[1] - pair[0]).abs());
    let worst = steps.fold(0.0f32, f32::max);
    eprintln!("steepest step {worst:.4}, the wave's own {steepest:.4}");
    assert!(worst < 4.0 * steepest, "a click of {worst}");
}

#[test]
fn device_that_cannot_be_had_leaves_everything_as_it_was() {
    let lan = Lan::new(1);
    let alice = Node::start(lan.host(0), Options::named("Alice"));
    let before = alice.api().get("/audio").ok();
    assert_eq!(before["choice"], "null");
    let taken = alice.scratch("taken.wav");
    write_wav(&taken, &silence());
    for change in [
        json!({"device": "no such card at all"}),
        json!({"device": "file:/nowhere/in.wav"}),
        json!({"device": format!("file:{0},{0}.wav", "/nowhere/in.wav")}),
        json!({"device": format!("file:{},{}", taken.display(), alice.data_dir().join("token").display())}),
        json!({"device": ""}),
    ] {
        let detail = alice.api().put("/audio", &change).problem(422);
        assert!(detail.len() > 20, "{change}: {detail}");
        assert_eq!(alice.api().get("/audio").ok(), before, "{change}");
    }
    assert!(
        std::fs::read_to_string(alice.data_dir().join("token")).unwrap().len() > 32,
        "the token is still there"
    );
    let devices = alice.api().get("/devices").ok();
    let null = devices["audio"].as_array().unwrap().iter().any(|device| device["id"] == "null");
    assert!(null, "{devices}");
}

#[test]
fn chosen_device_is_remembered_and_what_is_typed_wins() {
    let lan = Lan::new(1);
    let mut alice = Node::start(lan.host(0), Options::named("Alice"));
    alice.api().put("/audio", &json!({"period_frames": 512})).ok();
    alice.stop();
    // The test's own `--audio null` is what is typed: the period belongs to the device that was chosen.
    alice.restart();
    assert_eq!(number(&alice.status(), "/audio/period_frames"), 128.0);
    alice.stop();
    let profile = std::fs::read_to_string(alice.data_dir().join("profile.json")).unwrap();
    let profile: Value = serde_json::from_str(&profile).unwrap();
    assert_eq!(
        (profile["audio"]["device"].as_str(), profile["audio"]["period_frames"].as_u64()),
        (Some("null"), Some(512))
    );
}

#[test]
fn mute_is_silence_for_the_others_and_nothing_else() {
    let lan = Lan::new(2);
    let (alice, _, _) = player(&lan, 0, "Alice", &tone(60.0));
    let (bob, _, _) = player(&lan, 1, "Bob", &silence());
    eventually(seconds(5), "Bob hears Alice", || peak_db(&bob) > -20.0);
    let me = alice.api().put("/me", &json!({"muted": true})).ok();
    assert_eq!((me["muted"].as_bool(), &alice.status()["me"]), (Some(true), &me));
    // The meter falls by 20 dB a second.
    eventually(seconds(8), "Bob hears silence", || peak_db(&bob) < -60.0);
    let received = number(&bob.peer(&alice), "/audio/received");
    eventually(seconds(2), "packets go on", || {
        number(&bob.peer(&alice), "/audio/received") > received + 100.0
    });
    assert!(peak_db(&alice) < -60.0, "nobody hears themselves unasked");
    alice.api().put("/me", &json!({"monitor": true, "monitor_gain_db": 0})).ok();
    eventually(seconds(2), "Alice hears herself, to tune", || peak_db(&alice) > -20.0);
    alice.api().put("/me", &json!({"muted": false, "input_gain_db": -20})).ok();
    eventually(seconds(5), "Bob hears Alice, softer", || (-35.0..-25.0).contains(&peak_db(&bob)));
    bob.api().put(&format!("/peers/{}", alice.id()), &json!({"pan": 1.0, "soloed_by_me": true})).ok();
    let peer = bob.peer(&alice);
    assert_eq!((number(&peer, "/pan"), peer["soloed_by_me"].as_bool()), (1.0, Some(true)));
    bob.api().put("/master", &json!({"gain_db": -20})).ok();
    eventually(seconds(5), "Bob's master turns Alice down", || peak_db(&bob) < -45.0);
}

#[test]
fn test_tone_and_loudness_are_of_the_players_own_ears() {
    let lan = Lan::new(2);
    let alice = Node::start(lan.host(0), Options::named("Alice"));
    let bob = Node::start(lan.host(1), Options::named("Bob"));
    eventually(seconds(5), "they hear each other", || alice.hears(&bob) && bob.hears(&alice));
    let mut socket = alice.api().socket(&[]).unwrap();
    socket.subscribe(&["meters"]);
    let silent =
        socket.until("silence", |m| m["type"] == "meters" && m["data"]["at_ms"].as_f64() > Some(1e12));
    assert!(silent["data"]["master"]["momentary_lufs"].is_null(), "{silent}");
    let tone =
        alice.api().request("POST", "/audio/test-tone", Some(&json!({"seconds": 4, "level_db": -20})), &[]);
    assert_eq!(number(&tone.ok(), "/seconds"), 4.0);
    // A stereo sine of -20 dBFS: about as many LUFS, as the weighting is near 0 dB at 440 Hz.
    let loud = socket.until("the tone", |m| {
        let master = &m["data"]["master"];
        master["momentary_lufs"].as_f64().is_some_and(|lufs| (-21.5..-19.5).contains(&lufs))
    });
    assert_eq!(number(&loud, "/data/master/limiter_reduction_db"), 0.0);
    assert!(peak_db(&bob) < -100.0, "the tone is Alice's alone");
    alice.api().request("DELETE", "/audio/test-tone", None, &[]).ok();
    socket
        .until("silence again", |m| m["type"] == "meters" && m["data"]["master"]["momentary_lufs"].is_null());
}

#[test]
fn name_and_colour_given_on_the_page_reach_everybody() {
    let lan = Lan::new(2);
    let alice = Node::start(lan.host(0), Options::named("Alice"));
    let bob = Node::start(lan.host(1), Options::named("Bob"));
    eventually(seconds(5), "they are together", || bob.peer(&alice)["state"] == "connected");
    assert_eq!(alice.api().get("/setup").ok()["done"], false);
    let answers = json!({"name": "Maya <b>", "color": "#3fa9f5", "instrument": "bass", "done": true});
    assert_eq!(alice.api().put("/setup", &answers).ok()["done"], true);
    eventually(seconds(3), "Bob sees the new name", || bob.peer(&alice)["name"] == "Maya <b>");
    let address = format!("/members/{}", alice.id());
    let member = eventually_some(seconds(5), "the project has it too", || {
        // Alice's own entry may still be on its way.
        let answer = bob.api().get(&format!("/project{address}"));
        let member = (answer.status == 200).then(|| answer.ok())?;
        (member["instrument"] == "bass").then_some(member)
    });
    assert_eq!((member["name"].as_str(), member["color"].as_str()), (Some("Maya <b>"), Some("#3fa9f5")));
    assert_eq!(alice.status()["name"], "Maya <b>");
}

#[test]
fn last_minutes_diagnosis_and_support_bundle_tell_of_a_real_session() {
    let lan = Lan::new(2);
    let alice = Node::start(lan.host(0), Options::named("Alice"));
    let bob = Node::start(lan.host(1), Options::named("Bob"));
    eventually(seconds(5), "they hear each other", || alice.hears(&bob));
    let history = eventually_some(seconds(10), "some seconds of figures", || {
        let history = alice.api().get("/history").ok();
        let rows = history["peers"][0]["received"]
            .as_array()
            .map_or(0, |rows| rows.iter().filter(|count| count.as_u64() > Some(300)).count());
        (rows >= 3).then_some(history)
    });
    let length = history["device"]["xruns"].as_array().unwrap().len();
    for figures in history["peers"][0].as_object().unwrap().values().filter_map(Value::as_array) {
        assert_eq!(figures.len(), length, "{history}");
    }
    assert_eq!(history["peers"][0]["peer_id"], bob.id());
    assert_eq!(alice.api().get("/history?seconds=2").ok()["device"]["xruns"].as_array().unwrap().len(), 2);
    let diagnosis = alice.api().get("/diagnosis").ok();
    assert!(diagnosis["sentence"].as_str().is_some_and(|sentence| sentence.len() > 10), "{diagnosis}");

    // Where the time goes adds up to the whole.
    let peer = eventually_some(seconds(10), "the way is measured", || {
        let peer = alice.peer(&bob);
        peer["waterfall"].is_array().then_some(peer)
    });
    let stages = peer["waterfall"].as_array().unwrap();
    let sum: f64 = stages.iter().map(|stage| number(stage, "/ms")).sum();
    eprintln!("mouth to ear {}: {}", peer["audio"]["one_way_ms"], peer["waterfall"]);
    assert!((sum - number(&peer, "/audio/one_way_ms")).abs() < 1e-6, "{peer}");
    assert!(
        stages.iter().all(|stage| number(stage, "/ms") >= 0.0) && peer["path_reason"].is_string(),
        "{peer}"
    );

    let (kind, bundle) = alice.api().with_timeout(seconds(30)).download("/support-bundle");
    assert_eq!((kind.as_str(), &bundle[..4]), ("application/zip", &b"PK\x03\x04"[..]));
    // Names of files stand in a zip as they are.
    let bundle = String::from_utf8_lossy(&bundle);
    for file in
        ["README.txt", "status.json", "history.json", "log.txt", "doctor.txt", "config.toml", "versions.txt"]
    {
        assert!(bundle.contains(file), "{file}");
    }
}

#[test]
fn viewers_token_opens_every_view_and_no_change() {
    let lan = Lan::new(1);
    let alice = Node::start(lan.host(0), Options::named("Alice"));
    let token = std::fs::read_to_string(alice.data_dir().join("view-token")).unwrap();
    let viewer = alice.api().with_token(Some(token.trim()));
    assert_eq!(viewer.get("/whoami").ok()["role"], "viewer");
    assert_eq!(alice.api().get("/whoami").ok()["role"], "player");
    let document = viewer.get("/openapi.json").ok();
    let mut refused = 0;
    for (path, item) in document["paths"].as_object().unwrap() {
        let path = path.trim_start_matches("/api/v1").replace(['{', '}'], "");
        for method in item.as_object().unwrap().keys().map(|method| method.to_uppercase()) {
            // A ticket changes nothing; it opens a WebSocket for looking.
            if method == "GET" || path == "/ws-ticket" {
                continue;
            }
            viewer.request(&method, &path, Some(&json!({})), &[]).problem(403);
            refused += 1;
        }
    }
    assert!(refused >= 9, "{refused}");
    let mut socket = viewer.socket(&[]).unwrap();
    socket.subscribe(&["status", "meters"]);
    socket.until("status", |m| m["type"] == "status");
    let command = json!({"op": "set", "address": "/transport/tempo_bpm", "value": 77.0});
    socket.send(&json!({"type": "patch", "id": 1, "commands": [command]}));
    socket.until("a refusal", |m| m["problem"]["code"] == "read_only");
    assert_ne!(number(&alice.api().get("/transport").ok(), "/tempo_bpm"), 77.0);
}

#[test]
fn link_is_left_and_joined_while_the_node_runs() {
    let lan = Lan::new(1);
    if !lan.can("leaving and joining Ableton Link") {
        return;
    }
    let alice = Node::start(lan.host(0), Options::named("Alice"));
    assert_eq!(alice.status()["link"]["enabled"], true);
    for enabled in [false, true, false] {
        assert_eq!(alice.api().put("/link", &json!({ "enabled": enabled })).ok()["enabled"], enabled);
        assert_eq!(alice.status()["link"]["enabled"], enabled);
    }
    // A tempo change while it is off stays as it is when it is on again.
    alice.api().put("/transport", &json!({"tempo_bpm": 91.0})).ok();
    alice.api().put("/link", &json!({"enabled": true})).ok();
    std::thread::sleep(seconds(1));
    assert_eq!(number(&alice.api().get("/transport").ok(), "/tempo_bpm"), 91.0);
    let without = Node::start(lan.host(0), Options::named("Bob").with(&["--no-link", "--session", "other"]));
    assert_eq!(without.status()["link"]["enabled"], false);
    assert_eq!(without.api().put("/link", &json!({"enabled": true})).ok()["enabled"], true);
}
