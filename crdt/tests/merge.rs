//! Edits made apart become one project, whatever happens to the messages.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod band;

use band::{Band, peer};
use crdt::Output;
use proptest::prelude::*;
use serde_json::{Value, json};

#[test]
fn an_edit_reaches_everybody_at_once() {
    let mut band = Band::new(3);
    band.connect_all();
    band.deliver();
    band.set(0, "/transport/tempo_bpm", 97.5);
    band.deliver();
    for who in 0..3 {
        assert_eq!(band.read(who, "/transport/tempo_bpm"), json!(97.5));
    }
    band.assert_equal();
}

#[test]
fn nobody_hears_of_an_edit_before_it_is_on_disk() {
    let mut band = Band::new(2);
    band.connect_all();
    band.deliver();
    band.nodes[0].disk.0.lock().unwrap().dies_after = Some(0);
    let command = json!([{"op": "set", "address": "/session/name", "value": "Tuesday"}]);
    band.edit(0, command);
    band.pass(10_000);
    assert!(!band.nodes[0].project.saved());
    assert_eq!(band.read(1, "/session/name"), json!("jam"));
}

#[test]
fn two_projects_founded_apart_become_one() {
    let mut band = Band::new(2);
    for who in 0..2 {
        let me = peer(who).name();
        band.set(who, &format!("/members/{me}/name"), format!("Player {who}"));
        band.set(who, &format!("/mixer/strip/{me}/gain_db"), -3.0 - who as f64);
        band.edit(
            who,
            json!([{"op": "add", "address": "/tracks", "value": {"name": format!("Track {who}")}}]),
        );
        band.edit(
            who,
            json!([{"op": "add", "address": "/chat", "value": {"text": format!("hello from {who}")}}]),
        );
    }
    band.connect_all();
    band.deliver();
    band.assert_equal();
    assert_eq!(band.read(0, "/members").as_object().unwrap().len(), 2);
    assert_eq!(band.read(0, "/tracks").as_object().unwrap().len(), 2);
    assert_eq!(band.read(0, "/chat").as_array().unwrap().len(), 2);
    assert_eq!(band.read(0, &format!("/mixer/strip/{}/gain_db", peer(1).name())), json!(-4.0));
    assert!(band.complaints().is_empty());
}

#[test]
fn edits_on_both_sides_of_a_split_merge_when_it_heals() {
    let mut band = Band::new(4);
    band.connect_all();
    band.deliver();
    let track =
        band.edit(0, json!([{"op": "add", "address": "/tracks", "value": {"name": "Bass"}}])).remove(0);
    band.pass(1_000);
    for (one, other) in [(0, 2), (0, 3), (1, 2), (1, 3)] {
        band.disconnect(one, other);
    }
    band.set(0, &format!("{track}/name"), "Deep bass");
    band.set(3, &format!("{track}/color"), "#112233");
    band.edit(2, json!([{"op": "delete", "address": track}]));
    band.set(1, "/transport/tempo_bpm", 100.0);
    band.set(2, "/transport/tempo_bpm", 140.0);
    band.pass(30_000);
    assert_ne!(band.nodes[0].project.heads_hash(), band.nodes[3].project.heads_hash());
    band.connect_all();
    band.pass(4_000);
    band.assert_equal();
    assert_eq!(band.read(0, &track), Value::Null);
    let conflicts = band.nodes[0].said.iter().filter(
        |output| matches!(output, Output::Conflict { address, .. } if address == "/transport/tempo_bpm"),
    );
    assert_eq!(conflicts.count(), 1);
}

#[test]
fn a_chain_of_nodes_that_do_not_all_meet_still_converges() {
    let mut band = Band::new(4);
    for (one, other) in [(0, 1), (1, 2), (2, 3)] {
        band.connect(one, other);
    }
    band.set(0, "/session/name", "Basement");
    band.pass(10_000);
    assert_eq!(band.read(3, "/session/name"), json!("Basement"));
    band.assert_equal();
}

#[test]
fn a_long_history_reaches_a_newcomer() {
    let mut band = Band::new(2);
    for n in 0..1_500 {
        band.set(0, "/transport/tempo_bpm", 60.0 + f64::from(n) / 10.0);
    }
    band.connect_all();
    band.pass(2_000);
    band.assert_equal();
    assert_eq!(band.nodes[1].project.changes(), 1_500);
    assert!(band.complaints().is_empty());
}

#[test]
fn nodes_of_different_sessions_keep_their_projects_apart() {
    let mut band = Band::new(1);
    let other = crdt::Project::new(
        crdt::Config { signing_key: band::key(1), session: "other".into(), seed: [99; 32] },
        crdt::storage::Loaded::default(),
    );
    band.nodes.push(band::Node::over(other));
    band.set(0, "/session/name", "Ours");
    band.connect_all();
    band.pass(10_000);
    assert_eq!(band.read(1, "/session/name"), json!("other"));
}

#[test]
fn a_clock_that_goes_back_stops_nothing() {
    let mut band = Band::new(2);
    band.connect_all();
    band.deliver();
    band.now_ms -= 3_600_000;
    band.disconnect(0, 1);
    band.set(0, "/transport/tempo_bpm", 77.0);
    band.connect_all();
    band.pass(5_000);
    band.assert_equal();
}

#[test]
fn tracks_keep_one_order_whoever_moves_them() {
    let mut band = Band::new(2);
    let tracks: Vec<String> = (0..4)
        .map(|n| {
            band.edit(0, json!([{"op": "add", "address": "/tracks", "value": {"name": format!("T{n}")}}]))
                .remove(0)
        })
        .collect();
    let order = |band: &Band, who| -> Vec<u64> {
        tracks.iter().map(|track| band.read(who, track)["order"].as_u64().unwrap()).collect()
    };
    assert_eq!(order(&band, 0), [0, 1, 2, 3]);
    band.edit(0, json!([{"op": "move", "address": tracks[3], "before": tracks[0]}]));
    assert_eq!(order(&band, 0), [1, 2, 3, 0]);
    band.connect_all();
    band.pass(3_000);
    band.disconnect(0, 1);
    band.edit(0, json!([{"op": "move", "address": tracks[3], "before": null}]));
    band.edit(1, json!([{"op": "move", "address": tracks[3], "before": tracks[1]}]));
    band.connect_all();
    band.pass(3_000);
    band.assert_equal();
    assert_eq!(band.read(0, "/tracks").as_object().unwrap().len(), 4);
}

/// What happens in a random life of a band.
#[derive(Clone, Debug)]
enum Happening {
    Edit { who: usize, kind: u8, pick: u8, value: u8 },
    Deliver { from: usize, to: usize, at: prop::sample::Index, lose: bool, repeat: bool },
    Connect { one: usize, other: usize },
    Disconnect { one: usize, other: usize },
    Restart { who: usize, torn: u8 },
    Wait { ms: u64 },
}

const NODES: usize = 3;

fn happening() -> impl Strategy<Value = Happening> {
    let node = 0..NODES;
    prop_oneof![
        6 => (node.clone(), 0..8u8, any::<u8>(), any::<u8>())
            .prop_map(|(who, kind, pick, value)| Happening::Edit { who, kind, pick, value }),
        12 => (node.clone(), node.clone(), any::<prop::sample::Index>(), prop::bool::weighted(0.1), prop::bool::weighted(0.2))
            .prop_map(|(from, to, at, lose, repeat)| Happening::Deliver { from, to, at, lose, repeat }),
        2 => (node.clone(), node.clone()).prop_map(|(one, other)| Happening::Connect { one, other }),
        1 => (node.clone(), node.clone()).prop_map(|(one, other)| Happening::Disconnect { one, other }),
        1 => (node, any::<u8>()).prop_map(|(who, torn)| Happening::Restart { who, torn }),
        2 => (1..3_000u64).prop_map(|ms| Happening::Wait { ms }),
    ]
}

fn happen(band: &mut Band, happening: &Happening) {
    match happening {
        Happening::Edit { who, kind, pick, value } => random_edit(band, *who, *kind, *pick, *value),
        Happening::Deliver { from, to, at, lose, repeat } => {
            let Some(wire) = band.wires.get_mut(&(*from, *to)).filter(|wire| !wire.is_empty()) else {
                return;
            };
            let at = at.index(wire.len());
            let bytes = if *repeat { wire[at].clone() } else { wire.remove(at).unwrap() };
            if !lose {
                band.nodes[*to].project.handle_message(band.now_ms, peer(*from), &bytes);
                band.work();
            }
        }
        Happening::Connect { one, other } => band.connect(*one, *other),
        Happening::Disconnect { one, other } => band.disconnect(*one, *other),
        Happening::Restart { who, torn } => band.restart(*who, |len| len * usize::from(*torn) / 255),
        Happening::Wait { ms } => {
            band.now_ms += ms;
            for node in &mut band.nodes {
                if node.project.poll_deadline().is_some_and(|deadline| deadline <= band.now_ms) {
                    node.project.handle_deadline(band.now_ms);
                }
            }
            band.work();
        }
    }
}

fn random_edit(band: &mut Band, who: usize, kind: u8, pick: u8, value: u8) {
    let tracks: Vec<String> = band.read(who, "/tracks").as_object().unwrap().keys().cloned().collect();
    let track = tracks.get(usize::from(pick) % tracks.len().max(1)).map(|id| format!("/tracks/{id}"));
    let member = peer(usize::from(pick) % NODES).name();
    let command = match (kind, track) {
        (0, _) => json!({"op": "add", "address": "/tracks", "value": {"name": format!("T{value}")}}),
        (1, _) => json!({"op": "add", "address": "/chat", "value": {"text": format!("{value}")}}),
        (2, _) => json!({"op": "set", "address": "/transport/tempo_bpm", "value": 20 + u16::from(value)}),
        (3, _) => {
            json!({"op": "set", "address": format!("/mixer/strip/{member}/pan"), "value": f64::from(value) / 255.0})
        }
        (4, _) => {
            json!({"op": "set", "address": format!("/members/{member}/name"), "value": format!("M{value}")})
        }
        (5, Some(track)) => {
            json!({"op": "set", "address": format!("{track}/name"), "value": format!("N{value}")})
        }
        (6, Some(track)) => {
            let before = tracks.get(usize::from(value) % tracks.len()).map(|id| format!("/tracks/{id}"));
            json!({"op": "move", "address": track, "before": before})
        }
        (7, Some(track)) => json!({"op": "delete", "address": track}),
        _ => return,
    };
    band.edit(who, json!([command]));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn after_any_history_all_nodes_show_one_project(life in prop::collection::vec(happening(), 1..80)) {
        let mut band = Band::new(NODES);
        band.connect_all();
        for happening in &life {
            happen(&mut band, happening);
        }
        band.connect_all();
        band.pass(10_000);
        band.assert_equal();
        prop_assert!(band.complaints().is_empty(), "{:?}", band.complaints());
    }
}

#[test]
fn a_conflict_is_settled_by_writing_the_value_that_stands() {
    for (zero, one) in [("n7", "n1"), ("n1", "n7")] {
        let mut band = Band::new(2);
        band.connect_all();
        band.deliver();
        band.set(0, "/session/name", zero);
        band.set(1, "/session/name", one);
        band.pass(3_000);
        band.assert_equal();
        band.set(0, "/session/name", zero);
        band.pass(3_000);
        assert_eq!(band.complaints(), Vec::<&Output>::new());
        band.assert_equal();
    }
}
