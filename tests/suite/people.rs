//! What people notice of each other: hands on faders, who hears whom, what is undone, who comes and goes.

use serde_json::{Value, json};
use std::path::Path;
use std::time::{Duration, Instant};
use tests::audio::noise;
use tests::{Lan, Node, Options, Socket, Terminal, eventually, ms, number, run_to_exit, seconds, seed};

/// The time in which a move must reach another page and an ear even on a busy machine.
const PATIENCE: Duration = seconds(5);

fn socket(node: &Node, topics: &[&str]) -> Socket {
    let mut socket = node.api().socket(&[]).unwrap_or_else(|e| panic!("open the WebSocket: {e}"));
    socket.until("ready", |message| message["type"] == "ready");
    if !topics.is_empty() {
        socket.subscribe(topics);
        socket.until("the topics", |message| message["type"] == "subscribed");
    }
    socket
}

/// Alice, who plays noise, and Bob; they hear each other.
fn two(lan: &Lan) -> (Node, Node) {
    let noise = noise(seed("noise of Alice"), 60.0);
    let mut alice = Node::player(lan.host(0), Options::named("Alice"), &noise);
    alice.restart();
    let bob = Node::start(lan.host(1), Options::named("Bob"));
    eventually(PATIENCE, "Alice and Bob hear each other", || alice.hears(&bob) && bob.hears(&alice));
    (alice, bob)
}

/// What `message` of the topic `presence` says of `address`; `Null` if nobody touches it.
fn touched(message: &Value, address: &str) -> Value {
    let touches = message["data"].as_array().cloned().unwrap_or_default();
    touches.into_iter().find(|touch| touch["address"] == address).unwrap_or_default()
}

/// Reads meters until the loudest of the output satisfies `wanted`.
#[track_caller]
fn output_db(socket: &mut Socket, what: &str, wanted: impl Fn(f64) -> bool) -> f64 {
    let level = |message: &Value| number(message, "/data/output/0/peak_db");
    let message = socket.until(what, |message| message["type"] == "meters" && wanted(level(message)));
    level(&message)
}

#[test]
fn a_player_is_called_as_the_project_says_also_after_a_restart() {
    let lan = Lan::new(2);
    let mut alice = Node::start(lan.host(0), Options::named("Alice"));
    let bob = Node::start(lan.host(1), Options::named("Bob"));
    let at_bobs = |alice: &Node, name: &str| {
        eventually(PATIENCE, &format!("she is {name} at Bob's"), || {
            let peers = bob.peers();
            let her = peers.iter().find(|peer| peer["peer_id"] == alice.id());
            her.is_some_and(|her| her["name"] == name && her["state"] == "connected")
        });
    };
    at_bobs(&alice, "Alice");
    eventually(PATIENCE, "and all they say of themselves is in both projects", || {
        alice.heads() == bob.heads() && alice.project(&format!("/members/{}", bob.id()))["name"] == "Bob"
    });
    let me = format!("/members/{}", alice.id());
    let set =
        |field: &str, value: &str| json!({"op": "set", "address": format!("{me}/{field}"), "value": value});
    alice.edit(json!([set("name", "Zed"), set("color", "#102030"), set("instrument", "tuba")]));
    let (heads, edited) = (alice.heads(), alice.project(&me));
    at_bobs(&alice, "Zed");
    assert_eq!(alice.status()["name"], "Zed");

    // What was acknowledged holds, though she is started by the same command as before.
    alice.kill();
    alice.restart();
    assert_eq!((alice.heads(), alice.project(&me)), (heads, edited));
    assert_eq!(alice.ready()["name"], "Zed");
    at_bobs(&alice, "Zed");

    // By another command she gets the other name, and keeps what else was edited.
    alice.stop();
    alice.set_options(|_| Options::named("Mia"));
    alice.restart();
    at_bobs(&alice, "Mia");
    eventually(PATIENCE, "it stands in the project", || alice.project(&me)["name"] == "Mia");
    assert_eq!(alice.project(&me)["instrument"], "tuba");
}

#[test]
fn a_fader_in_one_hand_moves_everywhere_at_once_and_is_kept_when_let_go() {
    let lan = Lan::alone(2);
    let (alice, bob) = two(&lan);
    let gain = format!("/mixer/strip/{}/gain_db", alice.id());
    // Two pages of Alice's, one of Bob's.
    let (mut hand, mut beside, mut other) =
        (socket(&alice, &["presence"]), socket(&alice, &["presence"]), socket(&bob, &["presence"]));

    let mut took = Vec::new();
    for step in 0..40 {
        let value = -f64::from(step);
        let began = Instant::now();
        hand.send(&json!({"type": "touch", "address": gain, "value": value}));
        let seen =
            other.until("the fader moves at Bob's", |message| touched(message, &gain)["value"] == value);
        took.push(began.elapsed());
        assert_eq!(touched(&seen, &gain)["peer_id"], alice.id());
        assert_eq!(touched(&seen, &gain)["name"], "Alice");
        beside.until("and on the page beside", |message| touched(message, &gain)["value"] == value);
        // The rhythm of a page that draws 30 times a second.
        std::thread::sleep(ms(33).saturating_sub(began.elapsed()));
    }
    took.sort();
    let (median, p95) = (took[took.len() / 2], took[took.len() * 95 / 100]);
    eprintln!("a touch reaches the other's page after {median:?}, p95 {p95:?}");

    hand.send(&json!({"type": "touch", "address": gain, "value": 0}));
    // Opened only now: what was not read meanwhile would be heard late.
    let mut ear = socket(&bob, &["meters"]);
    output_db(&mut ear, "Alice's noise", |db| db > -30.0);
    // It still rises then: the gain is on a ramp.
    let full_at = Instant::now() + ms(500);
    let mut loud_db = f64::NEG_INFINITY;
    while Instant::now() < full_at {
        loud_db = loud_db.max(output_db(&mut ear, "the next meter", |_| true));
    }
    hand.send(&json!({"type": "touch", "address": gain, "value": -90}));
    let began = Instant::now();
    // The meter falls by 20 dB a second at most, so that people can read it: it is the beginning that counts.
    output_db(&mut ear, "less of Alice's noise", |db| db < loud_db - 3.0);
    let took = began.elapsed();
    eprintln!("and the other's ear, on a slow meter, after {took:?}");
    assert!(took < ms(500), "{took:?}");
    output_db(&mut ear, "silence", |db| db < -60.0);
    assert_eq!(number(&bob.project(&gain[..gain.len() - 8]), "/gain_db"), 0.0, "a touch is not stored");

    // Let go together with the last value: nothing may jump back while that is on its way.
    let set = json!({"op": "set", "address": gain, "value": -90.0});
    hand.send(&json!({"type": "patch", "commands": [set]}));
    hand.send(&json!({"type": "touch_end", "address": gain}));
    other.until("Bob's page knows it was let go", |message| {
        message["type"] == "presence" && touched(message, &gain).is_null()
    });
    let until = Instant::now() + ms(1_500);
    while Instant::now() < until {
        let db = output_db(&mut ear, "the next meter", |_| true);
        assert!(db < -60.0, "it was heard at {db} dB after it was let go");
    }
    assert_eq!(number(&bob.project(&gain[..gain.len() - 8]), "/gain_db"), -90.0);
    // The page that holds it is not told of its own hand.
    hand.send(&json!({"type": "touch", "address": gain, "value": -3}));
    beside.until("the page beside sees it", |message| touched(message, &gain)["value"] == -3);
    hand.subscribe(&["status"]);
    hand.until("a later message", |message| {
        assert!(touched(message, &gain).is_null(), "{message}");
        message["type"] == "status"
    });
}

#[test]
fn a_hand_that_vanishes_lets_go() {
    let lan = Lan::new(2);
    let (alice, bob) = two(&lan);
    let gain = format!("/mixer/strip/{}/gain_db", alice.id());
    let mut ear = socket(&bob, &["meters"]);
    let mut hand = socket(&alice, &[]);
    hand.send(&json!({"type": "touch", "address": gain, "value": -90}));
    output_db(&mut ear, "silence", |db| db < -60.0);
    // The page is closed without a word.
    drop(hand);
    output_db(&mut ear, "Alice's noise again", |db| db > -30.0);
    // The page hangs: nothing is renewed.
    let mut hand = socket(&alice, &[]);
    hand.send(&json!({"type": "touch", "address": gain, "value": -90}));
    output_db(&mut ear, "silence", |db| db < -60.0);
    output_db(&mut ear, "Alice's noise after three seconds", |db| db > -30.0);
    hand.send(&json!({"type": "touch", "address": gain, "value": 999}));
    let error = hand.until("an error", |message| message["type"] == "error");
    assert!(
        error["problem"]["detail"].as_str().is_some_and(|detail| detail.contains("-90 to 12")),
        "{error}"
    );
}

#[test]
fn undo_takes_back_ones_own_edits_and_leaves_the_others() {
    let lan = Lan::new(2);
    let alice = Node::start(lan.host(0), Options::named("Alice"));
    let bob = Node::start(lan.host(1), Options::named("Bob"));
    eventually(PATIENCE, "they have met", || bob.project("/members")[alice.id()]["name"] == "Alice");
    let tempo = |bpm: f64| json!([{"op": "set", "address": "/transport/tempo_bpm", "value": bpm}]);
    let post = |node: &Node, what: &str| node.api().request("POST", what, None, &[]);
    assert!(post(&alice, "/undo").problem(409).contains("nothing to undo"));

    let mut page = socket(&alice, &["status"]);
    alice.edit(tempo(140.0));
    page.until("undo is offered", |message| message["data"]["undo"]["undo_label"] == "Tempo");
    eventually(PATIENCE, "Bob plays Alice's tempo", || number(&bob.status(), "/link/tempo_bpm") == 140.0);
    page.send(&json!({"type": "undo", "id": 1}));
    let undone = page.until("it is undone", |message| message["type"] == "undone");
    assert_eq!(
        (&undone["id"], &undone["data"]["label"], &undone["data"]["can_redo"]),
        (&json!(1), &json!("Tempo"), &json!(true))
    );
    // Both the project and the beat that plays.
    eventually(PATIENCE, "the tempo is back everywhere", || {
        let stored = |node: &Node| number(&node.project("/transport"), "/tempo_bpm");
        [&alice, &bob]
            .iter()
            .all(|node| stored(node) == 120.0 && number(&node.status(), "/link/tempo_bpm") == 120.0)
    });
    let plays = |node: &Node, bpm: f64, signature: &str| {
        let (transport, stored) = (node.api().get("/transport").ok(), node.project("/transport"));
        [&transport, &stored].iter().all(|beat| number(beat, "/tempo_bpm") == bpm)
            && transport["time_signature"] == signature
    };
    // However fast they come, none is taken for a change of the beat alone, to be written down later over the next.
    for _ in 0..10 {
        assert_eq!(post(&alice, "/redo").ok()["address"], "/transport/tempo_bpm");
        post(&alice, "/undo").ok();
    }
    post(&alice, "/redo").ok();

    // The beat's own route is an edit too, of tempo and meter; play and stop are none.
    alice.api().put("/transport", &json!({"tempo_bpm": 96.0, "time_signature": "3/4", "playing": true})).ok();
    eventually(PATIENCE, "Bob plays both", || plays(&bob, 96.0, "3/4"));
    assert_eq!(post(&alice, "/undo").ok()["label"], "Tempo and 1 more");
    eventually(PATIENCE, "both are back", || plays(&bob, 140.0, "4/4") && plays(&alice, 140.0, "4/4"));
    assert_eq!(bob.api().get("/transport").ok()["playing"], true);
    // What came from Alice is not Bob's to undo, though his node followed it.
    assert!(post(&bob, "/undo").problem(409).contains("nothing to undo"));

    // A track that Bob has renamed is his as well.
    let made = alice.edit(json!([{"op": "add", "address": "/tracks", "value": {"name": "Drums"}}]));
    eventually(PATIENCE, "Bob has the track", || bob.project("/tracks").to_string().contains("Drums"));
    bob.edit(json!([{"op": "set", "address": format!("{}/name", made[0]), "value": "Congas"}]));
    eventually(PATIENCE, "Alice has its name", || alice.project("/tracks").to_string().contains("Congas"));
    let reply = post(&alice, "/undo");
    assert!(reply.problem(409).contains("by Bob"), "{reply:?}");
    assert_eq!(reply.json()["code"], "changed_since");
    assert!(alice.project("/tracks").to_string().contains("Congas"));
    // What Bob did himself he can take back.
    post(&bob, "/undo").ok();
    eventually(PATIENCE, "the name is back", || alice.project("/tracks").to_string().contains("Drums"));
}

#[test]
fn everybody_sees_who_is_connected_to_whom_and_who_muted_themselves() {
    let lan = Lan::new(3);
    let nodes: Vec<Node> = ["Alice", "Bob", "Carol"]
        .iter()
        .enumerate()
        .map(|(host, name)| Node::start(lan.host(host), Options::named(name)))
        .collect();
    let edges = |node: &Node| node.api().get("/graph").ok()["edges"].as_array().cloned().unwrap_or_default();
    for node in &nodes {
        eventually(seconds(8), "the graph has both ways of all three links", || {
            let whole = |edge: &Value| {
                edge["path"].is_string() && edge["rtt_ms"].is_f64() && edge["audio_arrives"] == true
            };
            edges(node).iter().filter(|edge| whole(edge)).count() == 6
        });
        let graph = node.api().get("/graph").ok();
        let members = graph["nodes"].as_array().expect("nodes");
        assert_eq!(members.len(), 3, "{graph}");
        let me: Vec<&Value> = members.iter().filter(|member| member["me"] == true).collect();
        assert_eq!((me.len(), &me[0]["peer_id"]), (1, &json!(node.id())));
        assert!(members.iter().all(|member| member["name"].as_str().is_some_and(|name| !name.is_empty())));
    }
    let mut page = socket(&nodes[0], &["graph"]);
    page.until("the graph on the WebSocket", |message| {
        message["type"] == "graph"
            && message["data"]["edges"].as_array().is_some_and(|edges| edges.len() == 6)
    });
    let [alice, bob, _] = &nodes[..] else { panic!("three") };
    assert_eq!(
        (&alice.peer(bob)["hears_me"], &alice.peer(bob)["muted_themselves"]),
        (&json!(true), &json!(false))
    );
    bob.api().put("/me", &json!({"muted": true})).ok();
    let took = eventually(seconds(2), "Alice sees that Bob muted himself", || {
        alice.peer(bob)["muted_themselves"] == true
    });
    eprintln!("seen after {took:?}");
    bob.api().put("/me", &json!({"muted": false})).ok();
    eventually(seconds(2), "and that he plays again", || alice.peer(bob)["muted_themselves"] == false);
}

#[test]
fn who_is_not_heard_learns_it() {
    let lan = Lan::new(2);
    if !lan.can("a network that loses sound only") {
        return;
    }
    let alice = Node::start(lan.host(0), Options::named("Alice"));
    let bob = Node::start(lan.host(1), Options::named("Bob"));
    eventually(seconds(8), "both know that they hear each other", || {
        alice.peer(&bob)["hears_me"] == true && bob.peer(&alice)["hears_me"] == true
    });
    // A packet of sound holds a block of 271 octets, after a stumble of the machine several, and 34 to 68 of headers. All else
    // goes through: a control frame that were lost each time would stop all that follows it. The kernel must not carry
    // several packets as one, or all would be lost together.
    alice.host().ip("link set dev eth0 gso_max_segs 1\n");
    let rules = "add table inet lossy\n\
                 add chain inet lossy in { type filter hook input priority 0 ; }\n\
                 add rule inet lossy in udp length { 305-339, 576-610, 847-881, 1118-1152, 1389-1423 } drop\n";
    let file = alice.scratch("rules");
    std::fs::write(&file, rules).expect("write the rules");
    let loaded = bob.host().command("nft").arg("-f").arg(&file).output().expect("run nft");
    assert!(loaded.status.success(), "{loaded:?}");
    eventually(seconds(12), "Alice learns that Bob does not hear her", || {
        alice.peer(&bob)["hears_me"] == false
    });
    // Nothing is wrong with the other direction, nor with what she wants.
    assert_eq!(alice.peer(&bob)["muted_themselves"], false);
    assert_ne!(bob.peer(&alice)["hears_me"], false);
    let healed = bob.host().command("nft").args(["flush", "ruleset"]).output().expect("run nft");
    assert!(healed.status.success(), "{healed:?}");
    eventually(seconds(8), "and that he does again", || alice.peer(&bob)["hears_me"] == true);
}

#[test]
fn a_lost_player_is_said_once_and_so_is_the_return() {
    let lan = Lan::new(2);
    let alice = Node::start(lan.host(0), Options::named("Alice"));
    let mut bob = Node::start(lan.host(1), Options::named("Bob"));
    let said = || {
        let all = alice.api().get("/notifications").ok();
        let all = all.as_array().cloned().unwrap_or_default();
        let of_bob =
            all.into_iter().filter(|one| one["text"].as_str().is_some_and(|text| text.contains("Bob")));
        of_bob.map(|one| one["kind"].as_str().unwrap_or_default().to_owned()).collect::<Vec<_>>()
    };
    eventually(PATIENCE, "Bob's coming is said", || said() == ["peer_joined"]);
    let mut page = socket(&alice, &["notifications"]);
    let first = page.until("what was said before", |message| message["type"] == "notification");
    assert_eq!((&first["data"]["text"], &first["data"]["peer_id"]), (&json!("Bob joined"), &json!(bob.id())));
    bob.kill();
    let so_far = |kind: &str| said().iter().any(|one| one == kind);
    eventually(seconds(12), "Bob's loss is said", || so_far("peer_lost"));
    let lost = page.until("Bob's loss", |message| message["data"]["kind"] == "peer_lost");
    assert_eq!(
        (&lost["data"]["severity"], &lost["data"]["text"]),
        (&json!("bad"), &json!("Bob cannot be reached"))
    );
    bob.restart();
    eventually(seconds(8), "Bob's return is said", || so_far("peer_back"));
    page.until("Bob's return", |message| message["data"]["kind"] == "peer_back");
    assert_eq!(bob.stop().0, 0);
    page.until("Bob's goodbye", |message| message["data"]["kind"] == "peer_left");
    assert_eq!(said(), ["peer_joined", "peer_lost", "peer_back", "peer_left"]);
}

#[test]
fn the_band_is_seen_and_steered_in_a_terminal() {
    let lan = Lan::new(2);
    let mut alice = Node::start(lan.host(0), Options::named("Alice"));
    let bob = Node::start(lan.host(1), Options::named("Bob"));
    eventually(PATIENCE, "they hear each other", || alice.hears(&bob) && bob.hears(&alice));
    let directory = alice.data_dir();
    let mut terminal = Terminal::run(alice.host(), &directory, &["tui"]);
    for text in ["Alice", "Bob", "lan", "120.0 bpm", "stopped", "q quit", "ight, "] {
        terminal.shows(PATIENCE, text);
    }
    // Select Bob, mute him, and turn him down; then play.
    terminal.press("\u{1b}[B");
    terminal.press("m");
    eventually(PATIENCE, "Bob is muted", || alice.peer(&bob)["muted_by_me"] == true);
    terminal.shows(PATIENCE, "muted by me");
    terminal.press("--");
    eventually(PATIENCE, "Bob is softer", || number(&alice.peer(&bob), "/gain_db") == -2.0);
    terminal.press("s");
    eventually(PATIENCE, "Bob is soloed", || alice.peer(&bob)["soloed_by_me"] == true);
    terminal.press(" c");
    eventually(PATIENCE, "the band plays", || bob.status()["link"]["playing"] == true);
    terminal.shows(PATIENCE, "playing");
    terminal.shows(PATIENCE, "click on");
    terminal.press("?");
    terminal.shows(PATIENCE, "these keys");
    terminal.press("?");

    // The node goes and comes, elsewhere than before; the screen finds it.
    alice.kill();
    terminal.shows(PATIENCE, "the node is gone");
    alice.restart();
    terminal.shows(PATIENCE, "The node is back");
    terminal.press("q");
    assert_eq!(terminal.ends(PATIENCE), 0);
    assert!(terminal.is_as_before());

    for end in ["\u{3}", "SIGTERM"] {
        let mut terminal = Terminal::run(alice.host(), &directory, &["tui"]);
        terminal.shows(PATIENCE, "Alice");
        assert!(!terminal.is_as_before(), "it draws a screen of its own");
        match end {
            "SIGTERM" => {
                terminal.terminate();
            }
            key => terminal.press(key),
        }
        assert_eq!(terminal.ends(PATIENCE), 0, "{end:?}");
        assert!(terminal.is_as_before(), "{end:?}");
    }

    let mut terminal = Terminal::run(alice.host(), &directory, &["tui"]);
    terminal.shows(PATIENCE, "Alice");
    terminal.hang_up();
    terminal.ends(PATIENCE);
}

#[test]
fn without_a_node_or_a_terminal_the_reason_is_said() {
    let lan = Lan::new(1);
    let mut alice = Node::start(lan.host(0), Options::named("Alice").with(&["--no-mdns", "--no-link"]));
    let directory = alice.data_dir();
    let tui = |directory: &Path| {
        run_to_exit(alice.host(), &["tui", "--data-dir", directory.to_str().expect("plain text")], seconds(5))
    };
    let exit = tui(&directory);
    assert_eq!((exit.code, exit.stdout.as_str()), (1, ""), "{exit:?}");
    assert!(exit.stderr.contains("needs a terminal"), "{exit:?}");
    let exit = tui(&directory.join("nowhere"));
    assert_eq!(exit.code, 1);
    assert!(exit.stderr.contains("bandmesh up"), "{exit:?}");
    alice.stop();
    let mut terminal = Terminal::run(lan.host(0), &directory, &["tui"]);
    assert_eq!(terminal.ends(PATIENCE), 1);
    // Its last words may still be on their way.
    terminal.shows(PATIENCE, "no node runs");
    assert!(terminal.is_as_before());
}
