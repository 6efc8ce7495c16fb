//! The shared project: what was acknowledged stays, what was made apart merges.

use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;
use tests::{Lan, Node, Options, eventually, ms, number, seconds};

fn alone() -> (Lan, Node) {
    let lan = Lan::new(1);
    let node = Node::start(lan.host(0), Options::named("Alice").with(&["--no-mdns", "--no-link"]));
    (lan, node)
}

fn add_track(name: &str) -> Value {
    json!({"op": "add", "address": "/tracks", "value": {"name": name, "kind": "audio"}})
}

fn set(address: &str, value: Value) -> Value {
    json!({"op": "set", "address": address, "value": value})
}

/// The names of the tracks in their order.
fn track_names(node: &Node) -> Vec<String> {
    let tracks = node.project("/tracks");
    let tracks = tracks.as_object().unwrap_or_else(|| panic!("/tracks is not a map by id: {tracks}"));
    let mut tracks: Vec<&Value> = tracks.values().collect();
    tracks.sort_by_key(|track| track["order"].as_u64().expect("a track has a place"));
    tracks.iter().map(|track| track["name"].as_str().expect("a track has a name").into()).collect()
}

#[test]
fn an_acknowledged_edit_survives_sigkill_at_once() {
    let (_lan, mut alice) = alone();
    let strip = format!("/mixer/strip/{}", alice.id());
    for round in 0..5 {
        let made = alice.edit(json!([
            add_track(&format!("Take {round}")),
            set("/transport/tempo_bpm", json!(100.0 + f64::from(round))),
            set(&format!("{strip}/gain_db"), json!(-3.0 - f64::from(round))),
        ]));
        let heads = alice.heads();
        alice.kill();
        alice.restart();
        assert_eq!(alice.heads(), heads);
        assert_eq!(alice.project(&made[0])["name"], format!("Take {round}"));
        assert_eq!(number(&alice.project("/transport"), "/tempo_bpm"), 100.0 + f64::from(round));
        assert_eq!(number(&alice.project(&strip), "/gain_db"), -3.0 - f64::from(round));
    }
    assert_eq!(track_names(&alice).len(), 5);
}

/// A file system of a few megabytes at a path, gone on drop.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// `None` where this machine does not permit it.
    fn mounted(at: &Path) -> Option<Self> {
        let mut mount = Command::new("mount");
        let mount = mount.args(["-t", "tmpfs", "-o", "size=12m", "tmpfs"]).arg(at);
        let mounted = mount.status().is_ok_and(|status| status.success());
        mounted.then(|| Self(at.to_owned()))
    }

    fn ballast(&self) -> PathBuf {
        self.0.join("ballast")
    }

    fn fill(&self) {
        // Ends with an error, as it is meant to.
        let _ = std::fs::write(self.ballast(), vec![1; 16 << 20]);
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_is_named_and_once_there_is_room_everything_is_saved() {
    let lan = Lan::new(1);
    let mut alice = Node::prepared(lan.host(0), Options::named("Alice").with(&["--no-mdns", "--no-link"]));
    let Some(disk) = SmallDisk::mounted(&alice.data_dir()) else {
        eprintln!("skipped: no file system can be mounted here");
        return;
    };
    alice.restart();
    alice.edit(json!([add_track("Before")]));
    disk.fill();
    let say =
        |n: usize| json!({"op": "add", "address": "/chat", "value": {"text": format!("{n}").repeat(500)}});
    let mut said = 0;
    let refused = (0..200).find_map(|n| {
        let list: Vec<Value> = (0..10).map(|_| say(1_000 + n)).collect();
        let reply = alice.api().patch("/project", &json!({"commands": list}));
        said += 10;
        (reply.status != 200).then_some(reply)
    });
    let refused = refused.expect("the disk is full");
    let detail = refused.problem(500);
    assert!(detail.contains("disk space"), "{detail}");
    assert_eq!(alice.status()["doc"]["saved"], false);
    let reply = alice.api().patch("/project", &json!({"commands": [add_track("Meanwhile")]}));
    assert!(reply.problem(500).contains("not being saved"), "{reply:?}");

    std::fs::remove_file(disk.ballast()).expect("make room");
    eventually(seconds(20), "what waited is saved", || alice.status()["doc"]["saved"] == true);
    alice.edit(json!([add_track("After")]));
    alice.kill();
    alice.restart();
    assert_eq!(track_names(&alice), ["Before", "After"]);
    assert_eq!(texts(&alice).len(), said.min(200), "also what was not acknowledged is there");
}

#[test]
fn edits_without_waiting_are_on_disk_after_a_polite_stop() {
    let (_lan, mut alice) = alone();
    let body = json!({"commands": [add_track("Bass"), json!({"op": "add", "address": "/chat", "value": {"text": "hi"}})]});
    let answer = alice.api().patch("/project?wait=none", &body).ok();
    assert_eq!(answer["durable"], false, "{answer}");
    let heads = answer["heads_hash"].as_str().expect("heads_hash").to_owned();
    let (code, took) = alice.stop();
    assert_eq!(code, 0);
    assert!(took < seconds(2), "{took:?}");
    alice.restart();
    assert_eq!(track_names(&alice), ["Bass"]);
    assert_eq!(alice.heads(), heads);
    assert!(alice.project("/chat").to_string().contains("\"hi\""));
}

/// By WebSocket and by REST, which the page does not limit.
#[test]
fn a_drag_is_few_commits_whoever_drags_and_its_end_is_kept() {
    let (_lan, mut node) = alone();
    let gain = format!("/mixer/strip/{}/gain_db", node.id());
    let stored = |node: &Node| number(&node.project(&gain), "");
    let changes = |node: &Node| node.status()["doc"]["changes"].as_u64().expect("a count of changes");
    eventually(seconds(5), "the player's own strip", || {
        changes(&node) > 0 && node.status()["doc"]["saved"] == true
    });

    let mut socket = node.api().socket(&[]).unwrap_or_else(|e| panic!("open the WebSocket: {e}"));
    socket.until("ready", |message| message["type"] == "ready");
    let (before, began) = (changes(&node), Instant::now());
    let mut answered = 0;
    for step in 1..=150 {
        let commands = [set(&gain, json!(-0.1 * f64::from(step)))];
        socket.send(&json!({"type": "patch", "id": step, "commands": commands, "wait": "none"}));
        let answer = socket.until("an answer", |message| message["id"] == step);
        assert_eq!(
            (&answer["type"], &answer["data"]["results"][0]["address"]),
            (&json!("patched"), &json!(gain))
        );
        answered += 1;
        std::thread::sleep(ms(10));
    }
    assert_eq!(stored(&node), -15.0, "whoever reads sees the last value at once");
    eventually(seconds(2), "it is on disk", || node.status()["doc"]["saved"] == true);
    let (made, most) = (changes(&node) - before, 2 + 4 * began.elapsed().as_secs() + 4);
    eprintln!("{answered} sets in {:?} were {made} changes", began.elapsed());
    assert!((2..=most).contains(&made), "{made} changes, at most {most}");

    // One that waits for the disk is there when it is answered, whatever went before, and survives what comes next.
    for step in 1..=20 {
        let commands = json!({"commands": [set(&gain, json!(-20 - step))]});
        node.api().patch("/project?wait=none", &commands).ok();
    }
    let reply = node.api().patch("/project?wait=disk", &json!({"commands": [set(&gain, json!(-60))]})).ok();
    assert_eq!(reply["durable"], true);
    node.kill();
    node.restart();
    assert_eq!(stored(&node), -60.0);

    // The whole drag is one gesture; a polite stop keeps its end.
    for step in 1..=20 {
        node.api().patch("/project?wait=none", &json!({"commands": [set(&gain, json!(-step))]})).ok();
    }
    node.api().request("POST", "/undo", None, &[]).ok();
    assert_eq!(stored(&node), -60.0);
    for step in 1..=20 {
        node.api().patch("/project?wait=none", &json!({"commands": [set(&gain, json!(-step))]})).ok();
    }
    assert_eq!(node.stop().0, 0);
    node.restart();
    assert_eq!(stored(&node), -20.0);
}

#[test]
fn commands_are_applied_all_or_none_and_an_error_says_what_is_allowed() {
    let (_lan, alice) = alone();
    let before = alice.heads();
    let gain = format!("/mixer/strip/{}/gain_db", alice.id());
    let bad = [
        (set("/transport/tempo_bpm", json!(5000.0)), "999"),
        (set(&gain, json!("loud")), "number"),
        (set(&gain, json!(200.0)), "12"),
        (set("/mixer/strip/nobody/gain_db", json!(1.0)), "nobody"),
        (set("/no/such/address", json!(1)), "/no/such/address"),
        (json!({"op": "delete", "address": "/tracks/none"}), "/tracks/none"),
    ];
    for (command, said) in bad {
        let reply = alice.api().patch("/project", &json!({"commands": [add_track("Never"), command]}));
        assert!((400..500).contains(&reply.status), "{reply:?}");
        let detail = reply.problem(reply.status);
        assert!(detail.contains(said), "{command} gave {detail:?}, which does not say {said:?}");
    }
    assert_eq!(alice.heads(), before);
    assert_eq!(track_names(&alice), Vec::<String>::new());
}

#[test]
fn tracks_are_moved_renamed_and_deleted() {
    let (_lan, alice) = alone();
    let made = alice.edit(json!([add_track("Drums"), add_track("Bass"), add_track("Keys")]));
    assert_eq!(track_names(&alice), ["Drums", "Bass", "Keys"]);
    alice.edit(json!([
        {"op": "move", "address": made[2], "before": made[0]},
        {"op": "move", "address": made[0], "before": null},
        set(&format!("{}/name", made[1]), json!("Double bass")),
    ]));
    assert_eq!(track_names(&alice), ["Keys", "Double bass", "Drums"]);
    alice.edit(json!([{"op": "delete", "address": made[1]}]));
    assert_eq!(track_names(&alice), ["Keys", "Drums"]);
    assert_eq!(alice.api().get(&format!("/project{}", made[1])).status, 404);
}

#[test]
fn projects_edited_apart_merge_when_the_players_meet() {
    let lan = Lan::new(2);
    let mut alice = Node::start(lan.host(0), Options::named("Alice"));
    let mut bob = Node::start(lan.host(1), Options::named("Bob"));
    let made = alice.edit(json!([add_track("Shared")]));
    eventually(seconds(4), "they have met", || {
        alice.heads() == bob.heads() && track_names(&bob) == ["Shared"]
    });

    bob.stop();
    alice.edit(json!([add_track("Alice's"), set(&format!("{}/name", made[0]), json!("Ours"))]));
    alice.stop();
    bob.restart();
    bob.edit(json!([add_track("Bob's"), set(&format!("{}/color", made[0]), json!("#00ff00"))]));
    alice.restart();
    eventually(seconds(4), "their projects are one", || {
        alice.heads() == bob.heads() && track_names(&alice).len() == 3
    });
    assert_eq!(track_names(&alice), track_names(&bob));
    let shared = bob.project(&made[0]);
    assert_eq!((shared["name"].as_str(), shared["color"].as_str()), (Some("Ours"), Some("#00ff00")));
}

#[test]
fn a_member_is_known_to_the_others_by_name_colour_and_instrument() {
    let lan = Lan::new(2);
    let alice = Node::start(lan.host(0), Options::named("Alice"));
    let bob = Node::start(lan.host(1), Options::named("Bob"));
    let member = format!("/members/{}", alice.id());
    alice.edit(json!([
        set(&format!("{member}/color"), json!("#123456")),
        set(&format!("{member}/instrument"), json!("Trombone")),
    ]));
    eventually(seconds(5), "Bob sees who Alice is", || {
        let reply = bob.api().get(&format!("/project{member}"));
        let seen = if reply.status == 200 { reply.json() } else { Value::Null };
        seen["name"] == "Alice" && seen["color"] == "#123456" && seen["instrument"] == "Trombone"
    });
}

#[test]
fn the_sessions_name_and_a_whole_strip_reach_the_other_player() {
    let lan = Lan::new(2);
    let alice = Node::start(lan.host(0), Options::named("Alice"));
    let bob = Node::start(lan.host(1), Options::named("Bob"));
    let strip = format!("/mixer/strip/{}", bob.id());
    alice.edit(json!([
        set("/session/name", json!("Tuesday")),
        set(&format!("{strip}/pan"), json!(-0.25)),
        set(&format!("{strip}/mute"), json!(true)),
        set(&format!("{strip}/solo"), json!(true)),
    ]));
    let expected = json!({"gain_db": 0.0, "pan": -0.25, "mute": true, "solo": true});
    eventually(seconds(5), "Bob sees it", || {
        bob.project("/session/name") == "Tuesday"
            && bob.api().get(&format!("/project{strip}")).json() == expected
    });
    assert_eq!(alice.project(&strip), expected);
}

#[test]
fn chat_members_and_the_sessions_name_survive_sigkill() {
    let (_lan, mut alice) = alone();
    let member = format!("/members/{}", alice.id());
    alice.edit(json!([
        set("/session/name", json!("Tuesday")),
        set(&format!("{member}/color"), json!("#123456")),
        set(&format!("{member}/instrument"), json!("Trombone")),
    ]));
    for text in ["one", "two"] {
        alice.edit(json!([{"op": "add", "address": "/chat", "value": {"text": text}}]));
    }
    alice.kill();
    alice.restart();
    assert_eq!(alice.project("/session/name"), "Tuesday");
    let known = alice.project(&member);
    assert_eq!(
        (&known["name"], &known["color"], &known["instrument"]),
        (&json!("Alice"), &json!("#123456"), &json!("Trombone"))
    );
    assert_eq!(texts(&alice), ["one", "two"]);
}

/// What was said, in the order in which it is shown.
fn texts(node: &Node) -> Vec<String> {
    let chat = node.project("/chat");
    let chat = chat.as_array().unwrap_or_else(|| panic!("/chat is not a list: {chat}"));
    chat.iter().map(|said| said["text"].as_str().expect("a text").into()).collect()
}

#[test]
fn what_both_sides_of_a_split_did_to_one_thing_is_one_thing_when_it_heals() {
    let lan = Lan::new(2);
    if !lan.can("a LAN that splits and heals") {
        return;
    }
    let alice = Node::start(lan.host(0), Options::named("Alice"));
    let bob = Node::start(lan.host(1), Options::named("Bob"));
    let connected = |node: &Node| node.peers().iter().filter(|peer| peer["state"] == "connected").count();
    let made = alice.edit(json!([add_track("Drums"), add_track("Bass"), add_track("Keys")]));
    let say = |node: &Node, text: &str| {
        node.edit(json!([{"op": "add", "address": "/chat", "value": {"text": text}}]));
    };
    say(&alice, "ready?");
    eventually(seconds(5), "they have met", || {
        connected(&alice) == 1
            && connected(&bob) == 1
            && alice.heads() == bob.heads()
            && texts(&bob).len() == 1
    });

    lan.split(&[1]);
    eventually(seconds(8), "both notice", || connected(&alice) == 0 && connected(&bob) == 0);
    let strip = format!("/mixer/strip/{}", alice.id());
    alice.edit(json!([
        set(&format!("{strip}/gain_db"), json!(-6)),
        set(&format!("{strip}/pan"), json!(0.5)),
        {"op": "delete", "address": made[0]},
    ]));
    bob.edit(json!([
        set(&format!("{strip}/gain_db"), json!(-12)),
        set(&format!("{strip}/mute"), json!(true)),
        {"op": "move", "address": made[0], "before": null},
        {"op": "move", "address": made[2], "before": made[1]},
    ]));
    say(&bob, "ready!");
    say(&bob, "one, two");
    say(&alice, "hello?");

    lan.heal();
    eventually(seconds(10), "their projects are one", || {
        alice.heads() == bob.heads() && texts(&alice).len() == 4
    });
    assert_eq!(alice.project(""), bob.project(""));
    let mixed = alice.project(&strip);
    assert!([-6.0, -12.0].contains(&number(&mixed, "/gain_db")), "one of the two: {mixed}");
    assert_eq!((number(&mixed, "/pan"), &mixed["mute"]), (0.5, &json!(true)), "each kept the other's");
    // A track that was moved while somebody deleted it is deleted, and once only is everything there.
    assert_eq!(track_names(&alice), ["Keys", "Bass"]);
    let said = texts(&alice);
    let at = |text: &str| said.iter().position(|other| other == text).unwrap_or_else(|| panic!("{said:?}"));
    assert!(at("ready?") < at("ready!") && at("ready!") < at("one, two") && at("ready?") < at("hello?"));
}
