use serde_json::json;

use super::*;
use crate::sync::Message;
use crate::vetting::Chain;

fn project(who: u8) -> Project {
    let config =
        Config { signing_key: SigningKey::from_bytes(&[who; 32]), session: "jam".into(), seed: [who; 32] };
    Project::new(config, Loaded::default())
}

fn command(project: &mut Project, list: Value) -> Result<Vec<String>, String> {
    let commands: Vec<Command> = serde_json::from_value(list).unwrap();
    let receipt = project.command(0, &commands).map_err(|error| error.to_string())?;
    Ok(receipt.results.into_iter().map(|outcome| outcome.address).collect())
}

fn drain(project: &mut Project) -> Vec<Output> {
    let mut outputs = Vec::new();
    while let Some(output) = project.poll() {
        if let Output::Store(batch) = &output {
            project.handle_stored(0, batch.id(), Ok(()));
        }
        outputs.push(output);
    }
    outputs
}

/// A member who is connected and greeted, and may say anything.
fn stranger(project: &mut Project) -> (SigningKey, PeerKey) {
    let key = SigningKey::from_bytes(&[99; 32]);
    let peer = PeerKey(key.verifying_key().to_bytes());
    greet(project, peer);
    (key, peer)
}

fn greet(project: &mut Project, peer: PeerKey) {
    project.handle_peer_connected(0, peer);
    let session = project.session;
    let digest = Message::Digest { version: crate::sync::PROTOCOL_VERSION, session, digest: [0; 32] };
    project.handle_message(0, peer, &digest.encode());
    drain(project);
}

/// Has a peer deliver changes of the root document that nobody asked for.
fn deliver(project: &mut Project, from: PeerKey, changes: &[SignedChange]) {
    let (document, changes) = ("root".to_owned(), changes.to_vec());
    let message = Message::Changes { document, changes, answers: false, more: false };
    project.handle_message(0, from, &message.encode());
}

/// An author's next change, which sets these registers.
fn write(document: &mut Document, author: Author, key: &SigningKey, registers: &[&str]) -> SignedChange {
    let value = |register: &&str| ((*register).to_owned(), ScalarValue::from(author.start as i64));
    let values: BTreeMap<String, ScalarValue> = registers.iter().map(value).collect();
    document.stage(author, &values).unwrap();
    document.commit(author, key, 0, &values).unwrap()
}

/// The root document of somebody who holds these changes and no others.
fn holding(session: [u8; 32], changes: &[&SignedChange]) -> Document {
    let mut document = Document::new("root", session);
    for change in changes {
        let vetted = crate::vetting::vet((*change).clone()).unwrap();
        assert!(matches!(document.receive(&vetted), Ok(crate::document::Received::Applied(_))));
    }
    document
}

fn quarantined(said: &[Output]) -> Vec<PeerKey> {
    let member = |output: &Output| match output {
        Output::Quarantined { member, .. } => Some(*member),
        _ => None,
    };
    said.iter().filter_map(member).collect()
}

fn warnings(said: &[Output]) -> usize {
    said.iter().filter(|output| matches!(output, Output::Warning(_))).count()
}

#[test]
fn a_new_project_shows_defaults_and_holds_nothing() {
    let project = project(1);
    assert_eq!(project.changes(), 0);
    assert_eq!(
        project.to_json(),
        json!({
            "session": {"name": "jam"},
            "transport": {"tempo_bpm": 120.0, "time_signature": "4/4"},
            "members": {}, "mixer": {"strip": {}}, "tracks": {}, "chat": [],
        })
    );
}

#[test]
fn a_project_is_called_after_its_session_until_somebody_names_it() {
    let config =
        Config { signing_key: SigningKey::from_bytes(&[1; 32]), session: "Attic".into(), seed: [1; 32] };
    let mut project = Project::new(config, Loaded::default());
    assert_eq!(project.text("/session/name"), Some("Attic".into()));
    let rename = json!([{"op": "set", "address": "/session/name", "value": "Tuesday"}]);
    let rename: Vec<Command> = serde_json::from_value(rename).unwrap();
    project.gesture(0, &rename).unwrap();
    assert_eq!(project.text("/session/name"), Some("Tuesday".into()));
    project.undo(0, false).unwrap();
    assert_eq!(project.text("/session/name"), Some("Attic".into()));
}

#[test]
fn the_tree_has_the_addresses_of_the_commands() {
    let mut project = project(1);
    let me = project.me().name();
    let strip = format!("/mixer/strip/{me}/gain_db");
    let name = format!("/members/{me}/name");
    let addresses = command(
        &mut project,
        json!([
            {"op": "set", "address": name, "value": "Ana"},
            {"op": "set", "address": strip, "value": -6},
            {"op": "add", "address": "/tracks", "value": {"name": "Bass", "kind": "midi", "color": "#ff8800"}},
            {"op": "add", "address": "/chat", "value": {"text": "hello"}},
        ]),
    )
    .unwrap();
    assert_eq!(project.node_json(&name), Some(json!("Ana")));
    assert_eq!(project.node_json(&strip), Some(json!(-6.0)));
    assert_eq!(
        project.node_json(&addresses[2]),
        Some(json!({"name": "Bass", "kind": "midi", "color": "#ff8800", "order": 0}))
    );
    let message = project.node_json(&addresses[3]).unwrap();
    assert_eq!((&message["text"], &message["from"]), (&json!("hello"), &json!(me)));
    assert_eq!(project.node_json("/nothing/here"), None);
    assert_eq!(project.node_json("/"), Some(project.to_json()));
}

#[test]
fn changed_addresses_name_what_was_touched() {
    let mut project = project(1);
    command(&mut project, json!([{"op": "set", "address": "/transport/tempo_bpm", "value": 99}])).unwrap();
    let changed = Output::Changed { addresses: vec!["/transport/tempo_bpm".into()] };
    assert!(drain(&mut project).contains(&changed));
    let nothing =
        project.command(0, &[Command::Set { address: "/transport/tempo_bpm".into(), value: json!(99.0) }]);
    assert_eq!(nothing.unwrap().batch, None);
    assert!(drain(&mut project).is_empty());
}

#[test]
fn whoever_follows_the_addresses_that_changed_sees_the_tree_as_it_is() {
    let mut project = project(1);
    let mut known = project.to_json();
    let tracks: Vec<String> = ["Drums", "Bass", "Keys"]
        .map(|name| json!([{"op": "add", "address": "/tracks", "value": {"name": name, "color": "#112233"}}]))
        .map(|add| {
            let made = command(&mut project, add).unwrap().remove(0);
            follow(&mut project, &mut known);
            made
        })
        .to_vec();
    for list in [
        json!([{"op": "move", "address": tracks[2], "before": tracks[0]}]),
        json!([{"op": "set", "address": format!("{}/name", tracks[1]), "value": "Double bass"}]),
        json!([{"op": "move", "address": tracks[2], "before": null}]),
        json!([{"op": "delete", "address": tracks[1]}]),
        json!([{"op": "add", "address": "/chat", "value": {"text": "hello"}}]),
    ] {
        let commands: Vec<Command> = serde_json::from_value(list).unwrap();
        project.gesture(0, &commands).unwrap();
        follow(&mut project, &mut known);
    }
    for _ in 0..4 {
        project.undo(0, false).unwrap();
        follow(&mut project, &mut known);
    }
}

/// Puts what stands at the addresses that changed into `known`, as a page does, which then is the project.
fn follow(project: &mut Project, known: &mut Value) {
    for output in drain(project) {
        let Output::Changed { addresses } = output else { continue };
        for address in addresses {
            let now = project.node_json(&address);
            let (group, last) = address.rsplit_once('/').unwrap();
            match (known.pointer_mut(group), now) {
                (Some(Value::Object(fields)), Some(now)) => drop(fields.insert(last.to_owned(), now)),
                (Some(Value::Object(fields)), None) => drop(fields.remove(last)),
                (Some(Value::Array(items)), Some(now)) => items.push(now),
                // A part of what another address brings whole.
                (group, now) => assert!(group.is_none(), "{address}: {now:?}"),
            }
        }
    }
    assert_eq!(*known, project.to_json());
}

/// A change by another member that puts texts at keys of the root document.
fn foreign(key: &SigningKey, session: [u8; 32], values: &[(&str, ScalarValue)]) -> Message {
    let author = Author { member: PeerKey(key.verifying_key().to_bytes()), start: 7 };
    let mut document = Document::new("root", session);
    let values: BTreeMap<String, ScalarValue> =
        values.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect();
    document.stage(author, &values).unwrap();
    let change = document.commit(author, key, 0, &values).unwrap();
    Message::Changes { document: "root".into(), changes: vec![change], answers: false, more: false }
}

#[test]
fn tracks_are_added_and_moved_around_tracks_of_any_position() {
    let mut project = project(1);
    let (key, peer) = stranger(&mut project);
    let texts = ["0", " ", "5", "50", "a", "a ", "\u{10ffff}", &"0".repeat(16_384), &"z".repeat(16_384)];
    let orders: Vec<String> = (0..texts.len()).map(|n| format!("tracks/t{n}/order")).collect();
    let values: Vec<(&str, ScalarValue)> =
        orders.iter().zip(texts).map(|(key, text)| (key.as_str(), ScalarValue::from(text))).collect();
    let message = foreign(&key, project.session, &values);
    project.handle_message(0, peer, &message.encode());
    assert_eq!(project.track_ids().len(), texts.len(), "the stranger's tracks are here");
    for n in 0..texts.len() {
        let added = command(&mut project, json!([{"op": "add", "address": "/tracks"}])).unwrap().remove(0);
        let before = format!("/tracks/t{n}");
        command(&mut project, json!([{"op": "move", "address": added, "before": before}])).unwrap();
        let order = project.track_ids();
        assert!(order.iter().any(|id| added.ends_with(id)), "{n} is listed");
    }
    // Where there is room, they stand as they were put.
    command(&mut project, json!([{"op": "move", "address": "/tracks/t8", "before": "/tracks/t4"}])).unwrap();
    let order = project.track_ids();
    let place = |id: &str| order.iter().position(|other| other == id);
    assert_eq!(place("t8").map(|at| at + 1), place("t4"));
}

#[test]
fn one_bad_command_undoes_the_whole_list() {
    let mut project = project(1);
    let error = command(
        &mut project,
        json!([
            {"op": "set", "address": "/session/name", "value": "Attic"},
            {"op": "add", "address": "/tracks", "value": {"name": "Bass"}},
            {"op": "set", "address": "/transport/tempo_bpm", "value": 5000},
        ]),
    )
    .unwrap_err();
    assert_eq!(error, "command 2: /transport/tempo_bpm takes a number from 20 to 999 bpm, not 5000");
    assert_eq!((project.changes(), project.text("/session/name")), (0, Some("jam".into())));
}

#[test]
fn refusals_say_what_would_be_accepted() {
    let mut project = project(1);
    let cases = [
        (json!({"op": "set", "address": "/nope", "value": 1}), "does not exist"),
        (json!({"op": "set", "address": "/tracks/x/name", "value": "B"}), "does not exist"),
        (json!({"op": "set", "address": "/members/bob/name", "value": "B"}), "peer id"),
        (json!({"op": "set", "address": "/mixer/strip/bob/pan", "value": 0}), "peer id or a track"),
        (json!({"op": "set", "address": "/session/name", "value": ""}), "1 to 64 characters"),
        (json!({"op": "set", "address": "/session/name", "value": "a\nb"}), "one line"),
        (json!({"op": "add", "address": "/members", "value": {}}), "/tracks and /chat"),
        (json!({"op": "add", "address": "/tracks", "value": {"kind": "video"}}), "audio or midi"),
        (json!({"op": "add", "address": "/tracks", "value": "Bass"}), "takes an object"),
        (json!({"op": "add", "address": "/chat", "value": {"text": ""}}), "1 to 2000 characters"),
        (json!({"op": "move", "address": "/session/name"}), "is no track"),
        (json!({"op": "delete", "address": "/tracks/zzz"}), "does not exist"),
        (json!({"op": "set", "address": "/../../etc/passwd", "value": 1}), "does not exist"),
        (json!({"op": "set", "address": "/session", "value": 1}), "no single value"),
        (json!({"op": "set", "address": "/chat", "value": "x"}), "can be added"),
    ];
    for (case, part) in cases {
        let error = command(&mut project, json!([case])).unwrap_err();
        assert!(error.contains(part) && error.starts_with("command 0: "), "{case}: {error}");
    }
    let long = format!("/{}", "ö".repeat(500_000));
    for case in [
        json!({"op": "set", "address": long, "value": 1}),
        json!({"op": "add", "address": long}),
        json!({"op": "move", "address": long, "before": long}),
        json!({"op": "delete", "address": format!("/tracks{long}")}),
        json!({"op": "set", "address": format!("/mixer/strip{long}/pan"), "value": 1}),
    ] {
        let error = command(&mut project, json!([case])).unwrap_err();
        assert!(error.len() < 1_000, "{} bytes", error.len());
    }
    let set = json!({"op": "set", "address": "/session/name", "value": "x"});
    assert!(command(&mut project, Value::Array(vec![set; 257])).unwrap_err().contains("256"));
    let talk = json!({"op": "add", "address": "/chat", "value": {"text": "ö".repeat(2_000)}});
    assert!(command(&mut project, Value::Array(vec![talk; 10])).unwrap_err().contains("32 kB"));
    assert_eq!(project.changes(), 0);
}

#[test]
fn what_is_shown_but_cannot_be_set_says_what_to_do_instead() {
    let mut project = project(1);
    let track = command(&mut project, json!([{"op": "add", "address": "/tracks"}])).unwrap().remove(0);
    for (field, value, part) in
        [("kind", json!("midi"), "add a track"), ("order", json!(0), "move the track")]
    {
        let address = format!("{track}/{field}");
        assert!(project.node_json(&address).is_some());
        let set = json!([{"op": "set", "address": address, "value": value}]);
        let error = command(&mut project, set).unwrap_err();
        assert!(error.contains("cannot be set") && error.contains(part), "{error}");
    }
}

#[test]
fn a_deleted_track_is_gone_and_cannot_be_edited() {
    let mut project = project(1);
    let track = command(&mut project, json!([{"op": "add", "address": "/tracks"}])).unwrap().remove(0);
    command(&mut project, json!([{"op": "delete", "address": track}])).unwrap();
    assert_eq!(project.node_json(&track), None);
    assert!(
        command(&mut project, json!([{"op": "set", "address": format!("{track}/name"), "value": "B"}]))
            .is_err()
    );
}

#[test]
fn chat_shows_a_reply_after_what_it_replies_to_whatever_the_clocks_say() {
    let (mut ana, mut ben) = (project(1), project(2));
    ana.command(9_000_000, &[Command::Add { address: "/chat".into(), value: json!({"text": "ready?"}) }])
        .unwrap();
    ana.handle_peer_connected(0, ben.me());
    ben.handle_peer_connected(0, ana.me());
    for _ in 0..10 {
        for output in drain(&mut ana) {
            if let Output::Send { bytes, .. } = output {
                ben.handle_message(0, ana.me(), &bytes);
            }
        }
        for output in drain(&mut ben) {
            if let Output::Send { bytes, .. } = output {
                ana.handle_message(0, ben.me(), &bytes);
            }
        }
    }
    ben.command(5, &[Command::Add { address: "/chat".into(), value: json!({"text": "ready!"}) }]).unwrap();
    let chat = ben.node_json("/chat").unwrap();
    let texts: Vec<_> = chat.as_array().unwrap().iter().map(|message| &message["text"]).collect();
    assert_eq!(texts, ["ready?", "ready!"]);
}

#[test]
fn a_member_who_sends_garbage_is_named_once_and_not_heard_again() {
    let mut project = project(1);
    let (_, peer) = stranger(&mut project);
    for _ in 0..3 {
        project.handle_message(0, peer, b"\xff\xff\xff garbage");
    }
    let said = drain(&mut project);
    assert!(matches!(said.as_slice(), [Output::Quarantined { member, .. }] if *member == peer), "{said:?}");
}

#[test]
fn changes_that_never_can_be_used_fill_no_memory() {
    let mut project = project(1);
    let (key, peer) = stranger(&mut project);
    let author = Author { member: peer, start: 1 };
    let mut theirs = Document::new("root", project.session);
    let mut now_ms = 0;
    for n in 0..4_000 {
        let values = BTreeMap::from([("session/name".to_owned(), ScalarValue::from(format!("{n}")))]);
        theirs.stage(author, &values).unwrap();
        let change = theirs.commit(author, &key, 0, &values).unwrap();
        if n > 0 {
            let document = "root".to_owned();
            let message = Message::Changes { document, changes: vec![change], answers: false, more: false };
            now_ms += 5;
            project.handle_message(now_ms, peer, &message.encode());
            drain(&mut project);
        }
    }
    assert_eq!(project.changes(), 0);
    assert!((500..=2_048).contains(&project.waiting.len()), "{}", project.waiting.len());
    assert!(project.waiting.bytes() <= 2 << 20, "{}", project.waiting.bytes());
    project.handle_peer_disconnected(now_ms, peer);
    assert_eq!((project.waiting.len(), project.waiting.bytes()), (0, 0));
}

#[test]
fn large_changes_wait_in_a_few_megabytes_and_go_with_who_brought_them() {
    let mut project = project(1);
    let (key, peer) = stranger(&mut project);
    let author = Author { member: peer, start: 1 };
    let mut theirs = Document::new("root", project.session);
    for n in 0..400 {
        let text = ScalarValue::from(format!("{n}").repeat(5_000));
        let values: BTreeMap<_, _> = (0..3).map(|at| (format!("notes/{at}"), text.clone())).collect();
        theirs.stage(author, &values).unwrap();
        let change = theirs.commit(author, &key, 0, &values).unwrap();
        if n > 0 {
            let document = "root".to_owned();
            let message = Message::Changes { document, changes: vec![change], answers: false, more: false };
            project.handle_message(0, peer, &message.encode());
            drain(&mut project);
        }
    }
    assert!(project.waiting.len() > 10 && project.waiting.bytes() <= 2 << 20);
    project.handle_message(0, peer, b"\xff garbage");
    assert_eq!((project.waiting.len(), project.waiting.bytes()), (0, 0));
}

/// What waits cannot be checked, so it may be forged; that must not fall back on the member whose name it bears, nor keep
/// out what that member says.
#[test]
fn a_forged_change_that_waited_is_dropped_and_harms_nobody() {
    let mut project = project(1);
    let (_, peer) = stranger(&mut project);
    let victim = SigningKey::from_bytes(&[98; 32]);
    let victims = PeerKey(victim.verifying_key().to_bytes());
    let author = Author { member: victims, start: 1 };
    let mut theirs = Document::new("root", project.session);
    let mut changes = Vec::new();
    for tempo in [90.0, 91.0, 92.0] {
        let values = BTreeMap::from([("transport/tempo_bpm".to_owned(), ScalarValue::F64(tempo))]);
        theirs.stage(author, &values).unwrap();
        changes.push(theirs.commit(author, &victim, 0, &values).unwrap());
    }
    let forged = SignedChange { signature: vec![7; 64], ..changes[1].clone() };
    deliver(&mut project, peer, &[forged]);
    greet(&mut project, victims);
    // What the forged one is a copy of comes too early as well.
    for at in [1, 0, 2] {
        deliver(&mut project, victims, &changes[at..=at]);
    }
    assert_eq!(quarantined(&drain(&mut project)), []);
    assert_eq!(project.number("/transport/tempo_bpm"), Some(92.0));
    assert_eq!((project.waiting.len(), project.waiting.bytes()), (0, 0));
}

/// Only there is it certain: everybody begins a chain alike.
#[test]
fn who_delivers_a_forged_first_change_is_at_fault() {
    let mut project = project(1);
    let (_, peer) = stranger(&mut project);
    let victim = SigningKey::from_bytes(&[98; 32]);
    let author = Author { member: PeerKey(victim.verifying_key().to_bytes()), start: 1 };
    let change = write(&mut holding(project.session, &[]), author, &victim, &["tracks/a/name"]);
    deliver(&mut project, peer, &[SignedChange { signature: vec![7; 64], ..change }]);
    assert_eq!(quarantined(&drain(&mut project)), [peer]);
}

/// One member signs two changes under number 2, tells each to one of the band, and goes on from the one.
#[test]
fn members_who_were_told_different_things_do_not_hold_each_other_for_forgers() {
    for names_the_one_before in [true, false] {
        let mut band = [project(1), project(2)];
        let peers = [band[0].me(), band[1].me()];
        let session = band[0].session;
        let (key, peer) = stranger(&mut band[0]);
        stranger(&mut band[1]);
        let (author, other) = (Author { member: peer, start: 1 }, Author { member: peer, start: 2 });
        let first = write(&mut holding(session, &[]), author, &key, &["tracks/a/name"]);
        let aside = write(&mut holding(session, &[&first]), other, &key, &["tracks/b/name", "tracks/c/name"]);
        let mut one = holding(session, &[&first, &aside]);
        let twins = ["tracks/d/name", "tracks/e/name"]
            .map(|register| write(&mut holding(session, &[&first]), author, &key, &[register]));
        let third = if names_the_one_before {
            write(&mut holding(session, &[&first, &twins[0], &aside]), author, &key, &["tracks/f/name"])
        } else {
            let unnumbered = write(&mut one, author, &key, &["tracks/f/name"]);
            let mut expanded = automerge::Change::from_bytes(unnumbered.bytes).unwrap().decode();
            expanded.seq = 3;
            let third = automerge::Change::from(expanded);
            let hash =
                |change: &SignedChange| automerge::Change::from_bytes(change.bytes.clone()).unwrap().hash().0;
            let chain = Chain::begin(&session, "root", author).next(&hash(&first)).next(&hash(&twins[0]));
            let signature = chain.next(&third.hash().0).sign(&key);
            SignedChange { bytes: third.raw_bytes().to_vec(), signature }
        };
        let [told, twin] = twins;
        deliver(&mut band[0], peer, &[first.clone(), aside.clone(), told, third]);
        deliver(&mut band[1], peer, &[first, aside, twin]);
        assert_eq!((band[0].changes(), band[1].changes()), (4, 3));
        for project in &mut band {
            project.handle_peer_disconnected(0, peer);
            drain(project);
        }
        band[0].handle_peer_connected(0, peers[1]);
        band[1].handle_peer_connected(0, peers[0]);
        exchange(&mut band, peers);
        assert_eq!(band[1].warned.len(), 1, "who uses it learns of it");
        assert!(drain(&mut band[0]).is_empty() && drain(&mut band[1]).is_empty(), "nobody asks on and on");
        assert_eq!(band[1].waiting.len(), 0);
        // What has nothing to do with it is shared as before.
        let strip = format!("/mixer/strip/{}/gain_db", peers[1].name());
        command(&mut band[1], json!([{"op": "set", "address": strip, "value": -3}])).unwrap();
        exchange(&mut band, peers);
        assert_eq!(band[0].number(&strip), Some(-3.0));
    }
}

#[test]
fn a_member_who_publishes_two_changes_under_one_number_is_kept_away_and_who_passes_it_on_is_not() {
    let mut project = project(1);
    let (key, peer) = stranger(&mut project);
    let honest = PeerKey(SigningKey::from_bytes(&[98; 32]).verifying_key().to_bytes());
    greet(&mut project, honest);
    let author = Author { member: peer, start: 1 };
    let twin = |register: &str| write(&mut holding(project.session, &[]), author, &key, &[register]);
    let twins = ["tracks/a/name", "tracks/b/name", "tracks/c/name"].map(twin);
    let other = Author { member: peer, start: 2 };
    let good = write(&mut holding(project.session, &[]), other, &key, &["tracks/d/name"]);
    deliver(&mut project, honest, &[twins[0].clone(), twins[1].clone(), twins[2].clone(), good]);
    for twin in &twins {
        deliver(&mut project, honest, std::slice::from_ref(twin));
    }
    let said = drain(&mut project);
    assert_eq!((quarantined(&said), warnings(&said)), (vec![], 1));
    assert_eq!(project.changes(), 2, "what came with them is taken");
    deliver(&mut project, peer, &twins[1..2]);
    assert_eq!(quarantined(&drain(&mut project)), [peer]);
}

#[test]
fn what_waits_makes_no_work_for_what_it_does_not_wait_for() {
    let mut project = project(1);
    let (key, peer) = stranger(&mut project);
    let session = project.session;
    let start = |start: u64| Author { member: peer, start };
    let missing = write(&mut holding(session, &[]), start(1), &key, &["tracks/a/name"]);
    let parked: Vec<SignedChange> = (10..210)
        .map(|n| write(&mut holding(session, &[&missing]), start(n), &key, &["tracks/b/name"]))
        .collect();
    deliver(&mut project, peer, &parked);
    assert_eq!((project.waiting.len(), project.documents["root"].looks), (200, 200));
    for _ in 0..100 {
        deliver(&mut project, peer, &[]);
    }
    assert_eq!(project.documents["root"].looks, 200, "frames without changes");
    let honest = SigningKey::from_bytes(&[98; 32]);
    let honests = PeerKey(honest.verifying_key().to_bytes());
    greet(&mut project, honests);
    let mut theirs = holding(session, &[]);
    for n in 0..50 {
        let author = Author { member: honests, start: 1 };
        let change = write(&mut theirs, author, &honest, &[&format!("tracks/{n}/name")]);
        deliver(&mut project, honests, &[change]);
    }
    assert_eq!(project.documents["root"].looks, 250, "honest changes");
    deliver(&mut project, peer, &[missing]);
    assert_eq!((project.waiting.len(), project.waiting.bytes()), (0, 0));
    assert!(project.changes() >= 251, "{}", project.changes());
    assert_eq!(quarantined(&drain(&mut project)), []);
}

#[test]
fn a_change_that_waits_for_many_is_proved_once() {
    let mut project = project(1);
    let (key, peer) = stranger(&mut project);
    let session = project.session;
    let start = |start: u64| Author { member: peer, start };
    let causes: Vec<SignedChange> = (1..=40)
        .map(|n| write(&mut holding(session, &[]), start(n), &key, &[&format!("tracks/{n}/name")]))
        .collect();
    let mut all = holding(session, &causes.iter().collect::<Vec<_>>());
    let late = write(&mut all, start(50), &key, &["tracks/late/name"]);
    let proofs = Chain::proofs();
    deliver(&mut project, peer, &[late]);
    for cause in &causes {
        deliver(&mut project, peer, std::slice::from_ref(cause));
    }
    assert_eq!((project.changes(), project.waiting.len()), (41, 0));
    assert_eq!(Chain::proofs() - proofs, 41);
}

#[test]
fn changes_that_come_backwards_are_all_taken_in_once_the_first_is_there() {
    let mut project = project(1);
    let (key, peer) = stranger(&mut project);
    let mut theirs = holding(project.session, &[]);
    let author = |n: u64| Author { member: peer, start: n % 3 };
    let changes: Vec<SignedChange> =
        (0..60).map(|n| write(&mut theirs, author(n), &key, &[&format!("tracks/{n}/name")])).collect();
    for change in changes.iter().rev() {
        deliver(&mut project, peer, std::slice::from_ref(change));
    }
    assert_eq!((project.changes(), project.waiting.len(), project.waiting.bytes()), (60, 0, 0));
    assert_eq!(project.documents["root"].digest(), theirs.digest());
    let looks = project.documents["root"].looks;
    assert!(looks <= 180, "{looks} looks");
}

#[test]
fn documents_of_an_earlier_version_are_passed_over_and_its_nodes_only_not_spoken_with() {
    let mut project = project(1);
    let stored = |name: &str| {
        let mut document = Document::new(name, project.session);
        let author = Author { member: project.me(), start: 1 };
        let values = BTreeMap::from([("name".to_owned(), ScalarValue::from("Bass"))]);
        document.stage(author, &values).unwrap();
        document.commit(author, &SigningKey::from_bytes(&[1; 32]), 0, &values).unwrap();
        let saved = document.check().unwrap().clone();
        crate::storage::StoredDocument { name: name.into(), snapshots: vec![(1, saved)], log: Vec::new() }
    };
    let config =
        Config { signing_key: SigningKey::from_bytes(&[1; 32]), session: "jam".into(), seed: [2; 32] };
    let documents = vec![stored("root"), stored("track/abc")];
    let mut loaded = Project::new(config, Loaded { notes: Vec::new(), documents });
    assert_eq!((loaded.changes(), drain(&mut loaded)), (1, vec![]));

    let older = PeerKey(SigningKey::from_bytes(&[98; 32]).verifying_key().to_bytes());
    project.handle_peer_connected(0, older);
    let digest = Message::Digest { version: 1, session: project.session, digest: [0; 32] };
    let summary = Message::Summary { documents: vec![("track/abc".into(), [0; 32])], answer: true };
    for message in [digest, summary] {
        project.handle_message(0, older, &message.encode());
    }
    let said = drain(&mut project);
    assert_eq!((quarantined(&said), warnings(&said)), (vec![], 1));
}

/// First changes of one member under many numbers of starts: nothing about them is wrong, and none builds on another.
fn apart(key: &SigningKey, session: [u8; 32], register: &str, count: u64) -> Vec<Message> {
    let change = |start: u64| {
        let author = Author { member: PeerKey(key.verifying_key().to_bytes()), start };
        let mut document = Document::new("root", session);
        let values = BTreeMap::from([(register.to_owned(), ScalarValue::from(format!("{start}")))]);
        document.stage(author, &values).unwrap();
        let changes = vec![document.commit(author, key, 0, &values).unwrap()];
        Message::Changes { document: "root".into(), changes, answers: false, more: false }
    };
    (1..=count).map(change).collect()
}

#[test]
fn a_member_with_hundreds_of_branches_cannot_make_others_offend_each_other() {
    let mut band = [project(1), project(2)];
    let peers = [band[0].me(), band[1].me()];
    let (key, peer) = stranger(&mut band[0]);
    for message in apart(&key, band[0].session, "tracks/x/name", 600) {
        band[0].handle_message(0, peer, &message.encode());
        let said = drain(&mut band[0]);
        assert!(!said.iter().any(|output| matches!(output, Output::Quarantined { .. })), "{said:?}");
    }
    let root = &band[0].documents["root"];
    assert!(root.changes() >= 600 && root.branches() <= 129, "{} branches", root.branches());
    assert!(root.rival_count("tracks/x/name") <= 129, "{} values", root.rival_count("tracks/x/name"));
    let chosen = root.register("tracks/x/name").unwrap().value.clone();
    let rename = json!([
        {"op": "set", "address": "/session/name", "value": "Attic"},
        {"op": "set", "address": "/transport/tempo_bpm", "value": 90},
    ]);
    command(&mut band[0], rename).unwrap();
    band[0].handle_peer_disconnected(0, peer);
    band[0].handle_peer_connected(0, peers[1]);
    band[1].handle_peer_connected(0, peers[0]);
    exchange(&mut band, peers);
    assert_eq!(band[1].text("/session/name"), Some("Attic".into()));
    assert_eq!(band[1].heads_hash(), band[0].heads_hash());
    assert_eq!(band[1].documents["root"].register("tracks/x/name").unwrap().value, chosen);
    // Everybody can go on, also where the many values stood.
    command(&mut band[1], json!([{"op": "set", "address": "/session/name", "value": "Cellar"}])).unwrap();
    exchange(&mut band, peers);
    assert_eq!(band[0].text("/session/name"), Some("Cellar".into()));
    assert_eq!(band[0].documents["root"].branches(), 1);
}

#[test]
fn a_change_that_others_would_refuse_is_refused_here() {
    let mut project = project(1);
    let (key, _) = stranger(&mut project);
    // As they would come if nobody merged them.
    let mut document = Document::new("root", project.session);
    for message in apart(&key, project.session, "session/name", 300) {
        let Message::Changes { changes, .. } = message else { continue };
        document.receive(&crate::vetting::vet(changes[0].clone()).unwrap()).unwrap();
    }
    project.documents.insert("root".into(), document);
    let error = command(&mut project, json!([{"op": "set", "address": "/session/name", "value": "x"}]));
    assert!(error.unwrap_err().contains("at the same time"));
    assert_eq!(project.changes(), 300);
}

#[test]
fn questions_that_cost_work_are_answered_at_a_bounded_rate() {
    let mut project = project(1);
    let (_, peer) = stranger(&mut project);
    command(&mut project, json!([{"op": "set", "address": "/session/name", "value": "Attic"}])).unwrap();
    drain(&mut project);
    let want = Message::Want { document: "root".into(), have: vec![] }.encode();
    let mut answered = 0;
    for n in 0..2_000 {
        // 200 a second, for ten seconds.
        project.handle_message(5 * n, peer, &want);
        answered += drain(&mut project).len();
    }
    assert!((200..=500).contains(&answered), "{answered} answers");
}

#[test]
fn deleting_makes_room_for_new_tracks_however_many_there_were() {
    let mut project = project(1);
    for _ in 0..12 {
        let adds = vec![json!({"op": "add", "address": "/tracks"}); 100];
        let made = command(&mut project, Value::Array(adds)).unwrap();
        let delete = |address: &String| json!({"op": "delete", "address": address});
        command(&mut project, made.iter().map(delete).collect()).unwrap();
        drain(&mut project);
    }
    for _ in 0..10 {
        command(&mut project, Value::Array(vec![json!({"op": "add", "address": "/tracks"}); 100])).unwrap();
        drain(&mut project);
    }
    let error = command(&mut project, json!([{"op": "add", "address": "/tracks"}])).unwrap_err();
    assert!(error.contains("1000") && error.contains("delete some first"), "{error}");
    let first = format!("/tracks/{}", project.track_ids()[0]);
    command(&mut project, json!([{"op": "delete", "address": first}])).unwrap();
    command(&mut project, json!([{"op": "add", "address": "/tracks"}])).unwrap();
}

#[test]
fn two_full_projects_become_one() {
    let mut band = [project(1), project(2)];
    let peers = [band[0].me(), band[1].me()];
    for project in &mut band {
        for _ in 0..7 {
            let adds = vec![json!({"op": "add", "address": "/tracks"}); 100];
            command(project, Value::Array(adds)).unwrap();
            drain(project);
        }
    }
    band[0].handle_peer_connected(0, peers[1]);
    band[1].handle_peer_connected(0, peers[0]);
    exchange(&mut band, peers);
    assert_eq!(band[0].track_ids().len(), 1_400);
    assert_eq!(band[0].heads_hash(), band[1].heads_hash());
}

/// Found by the simulator (`rate-limited`, seed 6): both set a register at once, then one sets it to what it already shows.
#[test]
fn setting_what_already_won_a_conflict_offends_nobody() {
    let mut band = [project(1), project(2)];
    let peers = [band[0].me(), band[1].me()];
    let rename = |project: &mut Project, name: &str| {
        command(project, json!([{"op": "set", "address": "/session/name", "value": name}])).unwrap();
    };
    rename(&mut band[0], "Attic");
    rename(&mut band[1], "Cellar");
    band[0].handle_peer_connected(0, peers[1]);
    band[1].handle_peer_connected(0, peers[0]);
    exchange(&mut band, peers);
    let winner = band[0].text("/session/name").unwrap();
    assert_eq!(band[1].text("/session/name"), Some(winner.clone()), "they have met");
    for who in 0..2 {
        rename(&mut band[who], &winner);
        exchange(&mut band, peers);
    }
    rename(&mut band[0], "Kitchen");
    exchange(&mut band, peers);
    assert_eq!(band[1].text("/session/name"), Some("Kitchen".into()));
}

/// Carries messages between two members until neither has more to say; nobody may be offended.
fn exchange(band: &mut [Project; 2], peers: [PeerKey; 2]) {
    for round in 0..20 {
        for from in 0..2 {
            let to = 1 - from;
            for output in drain(&mut band[from]) {
                match output {
                    Output::Send { bytes, .. } => band[to].handle_message(round, peers[from], &bytes),
                    Output::Quarantined { reason, .. } => panic!("{reason}"),
                    _ => {}
                }
            }
        }
    }
}

#[test]
fn nobody_can_speak_for_somebody_else() {
    let mut project = project(1);
    let (key, peer) = stranger(&mut project);
    let victim = SigningKey::from_bytes(&[98; 32]);
    let author = Author { member: PeerKey(victim.verifying_key().to_bytes()), start: 1 };
    let mut theirs = Document::new("root", project.session);
    let values = BTreeMap::from([("session/name".to_owned(), ScalarValue::from("forged"))]);
    theirs.stage(author, &values).unwrap();
    let change = theirs.commit(author, &key, 0, &values).unwrap();
    let message =
        Message::Changes { document: "root".into(), changes: vec![change], answers: false, more: false };
    project.handle_message(0, peer, &message.encode());
    assert_eq!(project.text("/session/name"), Some("jam".into()));
    assert!(drain(&mut project).iter().any(|output| matches!(output, Output::Quarantined { .. })));
}

#[test]
fn own_edits_are_written_again_when_a_document_is_rebuilt_without_what_they_stood_on() {
    let mut project = project(1);
    let (key, peer) = stranger(&mut project);
    // What a flaw in the engine would leave behind: a change in the tail that does not survive a rebuild.
    let author = Author { member: peer, start: 1 };
    let mut theirs = Document::new("root", project.session);
    let values = BTreeMap::from([("session/name".to_owned(), ScalarValue::from("theirs"))]);
    theirs.stage(author, &values).unwrap();
    let change = theirs.commit(author, &key, 0, &values).unwrap();
    let message = Message::Changes {
        document: "root".into(),
        changes: vec![change.clone()],
        answers: false,
        more: false,
    };
    let mut document = Document::new("root", project.session);
    document.receive(&crate::vetting::vet(change).unwrap()).unwrap();
    document.forget_first_of_tail();
    let values = BTreeMap::from([("transport/tempo_bpm".to_owned(), ScalarValue::F64(77.0))]);
    document.stage(project.author, &values).unwrap();
    document.commit(project.author, &mut project.signing_key, 0, &values).unwrap();
    project.documents.insert("root".into(), document);
    let start = project.author.start;
    project.rebuild(0, "root");
    assert_eq!(project.number("/transport/tempo_bpm"), Some(77.0));
    assert_eq!(project.text("/session/name"), Some("jam".into()));
    assert_ne!(project.author.start, start);
    project.handle_message(0, peer, &message.encode());
    assert_eq!(project.text("/session/name"), Some("theirs".into()));
}

#[test]
fn two_projects_from_one_seed_and_history_are_equal() {
    let run = || {
        let mut project = project(3);
        command(
            &mut project,
            json!([{"op": "add", "address": "/tracks"}, {"op": "add", "address": "/tracks"}]),
        )
        .unwrap();
        (project.heads_hash(), project.to_json().to_string())
    };
    assert_eq!(run(), run());
}

#[test]
fn a_seed_used_twice_still_gives_a_new_author() {
    let mut first = project(1);
    command(&mut first, json!([{"op": "set", "address": "/session/name", "value": "A"}])).unwrap();
    let saved = first.documents.get_mut("root").unwrap().check().unwrap().clone();
    let stored =
        crate::storage::StoredDocument { name: "root".into(), snapshots: vec![(1, saved)], log: Vec::new() };
    let config =
        Config { signing_key: SigningKey::from_bytes(&[1; 32]), session: "jam".into(), seed: [1; 32] };
    let second = Project::new(config, Loaded { notes: Vec::new(), documents: vec![stored] });
    assert_ne!(first.author, second.author);
    assert_eq!(first.heads_hash(), second.heads_hash());
    assert_ne!(Chain::begin(&[0; 32], "root", first.author), Chain::begin(&[0; 32], "root", second.author));
}

proptest::proptest! {
    #[test]
    fn any_frame_is_survived(frame in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200)) {
        let mut project = project(1);
        let (_, peer) = stranger(&mut project);
        project.handle_message(0, peer, &frame);
        drain(&mut project);
    }

    #[test]
    fn any_command_is_answered(address in "(/[a-z]{0,6}){0,4}", text in ".{0,20}", number: f64) {
        let mut project = project(1);
        for value in [json!(text), json!(number), json!(null), json!([text]), json!({"name": text, "text": text})] {
            let before = project.heads_hash();
            for one in [
                Command::Set { address: address.clone(), value: value.clone() },
                Command::Add { address: address.clone(), value: value.clone() },
                Command::Move { address: address.clone(), before: Some(text.clone()) },
                Command::Delete { address: address.clone() },
            ] {
                if project.command(0, &[one]).is_err() {
                    proptest::prop_assert_eq!(&project.heads_hash(), &before);
                }
            }
        }
    }
}
