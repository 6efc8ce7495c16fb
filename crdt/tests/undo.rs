//! Undo takes back what was done here, and never what anybody else did.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod band;

use band::{Band, peer};
use crdt::{Command, MAX_UNDO_STEPS, UndoError, Undone};
use proptest::prelude::*;
use serde_json::{Value, json};

const TEMPO: &str = "/transport/tempo_bpm";

/// Lets one node edit by hand; a second later the next gesture begins.
fn gesture(band: &mut Band, who: usize, commands: Value) -> Vec<String> {
    let made = quick_gesture(band, who, commands);
    band.now_ms += 1_000;
    made
}

fn quick_gesture(band: &mut Band, who: usize, commands: Value) -> Vec<String> {
    let commands: Vec<Command> = serde_json::from_value(commands).unwrap();
    let receipt = band.nodes[who].project.gesture(band.now_ms, &commands).unwrap();
    band.work();
    receipt.results.into_iter().map(|outcome| outcome.address).collect()
}

fn set(band: &mut Band, who: usize, address: &str, value: impl Into<Value>) {
    gesture(band, who, json!([{"op": "set", "address": address, "value": value.into()}]));
}

fn undo(band: &mut Band, who: usize) -> Result<Undone, UndoError> {
    let undone = band.nodes[who].project.undo(band.now_ms, false);
    band.work();
    undone
}

fn redo(band: &mut Band, who: usize) -> Result<Undone, UndoError> {
    let undone = band.nodes[who].project.undo(band.now_ms, true);
    band.work();
    undone
}

fn two() -> Band {
    let mut band = Band::new(2);
    band.connect_all();
    band.deliver();
    band
}

/// The tracks' names in order.
fn tracks(band: &Band, who: usize) -> Vec<String> {
    let tracks = band.read(who, "/tracks");
    let mut tracks: Vec<&Value> = tracks.as_object().unwrap().values().collect();
    tracks.sort_by_key(|track| track["order"].as_u64());
    tracks.iter().map(|track| track["name"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn an_edit_is_taken_back_and_made_again_for_everybody() {
    let mut band = two();
    set(&mut band, 0, TEMPO, 97.0);
    set(&mut band, 0, TEMPO, 140.0);
    let undone = undo(&mut band, 0).unwrap();
    assert_eq!(
        (undone.label.as_str(), &undone.changed[..]),
        ("Tempo", &[(TEMPO.into(), Some(json!(97.0)))][..])
    );
    assert!(undone.batch.is_some() && undone.left.undo.is_some() && undone.left.redo.is_some());
    undo(&mut band, 0).unwrap();
    band.deliver();
    // What was never set reads as its default again.
    assert_eq!(band.read(1, TEMPO), json!(120.0));
    assert_eq!(undo(&mut band, 0), Err(UndoError::Nothing { redo: false }));
    redo(&mut band, 0).unwrap();
    redo(&mut band, 0).unwrap();
    assert_eq!(redo(&mut band, 0), Err(UndoError::Nothing { redo: true }));
    band.deliver();
    assert_eq!(band.read(1, TEMPO), json!(140.0));
    band.assert_equal();
}

#[test]
fn one_list_of_edits_is_one_gesture() {
    let mut band = two();
    let list = json!([
        {"op": "set", "address": TEMPO, "value": 97.0},
        {"op": "set", "address": "/session/name", "value": "Tuesday"},
        {"op": "add", "address": "/chat", "value": {"text": "slower!"}},
    ]);
    gesture(&mut band, 0, list);
    let undone = undo(&mut band, 0).unwrap();
    assert_eq!(undone.label, "Tempo and 2 more");
    assert_eq!(band.read(0, TEMPO), json!(120.0));
    assert_eq!(band.read(0, "/session/name"), json!("jam"));
    assert_eq!(band.read(0, "/chat").as_array().unwrap().len(), 1, "what was said was said");
    gesture(&mut band, 0, json!([{"op": "add", "address": "/chat", "value": {"text": "ok"}}]));
    assert_eq!(undo(&mut band, 0), Err(UndoError::Nothing { redo: false }));
}

#[test]
fn a_drag_is_one_gesture() {
    let mut band = two();
    let gain = format!("/mixer/strip/{}/gain_db", peer(1).name());
    set(&mut band, 0, &gain, -1.0);
    for step in 0..12 {
        quick_gesture(&mut band, 0, json!([{"op": "set", "address": gain, "value": -2.0 - f64::from(step)}]));
        band.now_ms += 250;
    }
    undo(&mut band, 0).unwrap();
    assert_eq!(band.read(0, &gain), json!(-1.0));
    redo(&mut band, 0).unwrap();
    assert_eq!(band.read(0, &gain), json!(-13.0));
    // Another's move in between is not passed over.
    quick_gesture(&mut band, 0, json!([{"op": "set", "address": gain, "value": 3.0}]));
    band.deliver();
    set(&mut band, 1, &gain, 5.0);
    band.deliver();
    quick_gesture(&mut band, 0, json!([{"op": "set", "address": gain, "value": 4.0}]));
    undo(&mut band, 0).unwrap();
    assert_eq!(band.read(0, &gain), json!(5.0));
}

#[test]
fn what_somebody_else_changed_since_stays_and_is_named() {
    let mut band = two();
    set(&mut band, 1, &format!("/members/{}/name", peer(1).name()), "Bea");
    set(&mut band, 0, "/session/name", "Tuesday");
    let list = json!([
        {"op": "set", "address": TEMPO, "value": 97.0},
        {"op": "set", "address": "/transport/time_signature", "value": "3/4"},
    ]);
    gesture(&mut band, 0, list);
    band.deliver();
    set(&mut band, 1, TEMPO, 111.0);
    band.deliver();
    let undone = undo(&mut band, 0).unwrap();
    assert_eq!(undone.kept, [(TEMPO.to_owned(), peer(1))]);
    assert_eq!(band.read(0, TEMPO), json!(111.0));
    assert_eq!(band.read(0, "/transport/time_signature"), json!("4/4"));
    redo(&mut band, 0).unwrap();
    assert_eq!(band.read(0, TEMPO), json!(111.0), "redo is no way around");
    band.deliver();
    set(&mut band, 1, "/transport/time_signature", "7/4");
    band.deliver();
    let error = undo(&mut band, 0).unwrap_err();
    assert!(matches!(error, UndoError::ChangedSince { .. }));
    assert!(error.to_string().contains("by Bea"), "{error}");
    // The gesture before it can still be undone.
    undo(&mut band, 0).unwrap();
    assert_eq!(band.read(0, "/session/name"), json!("jam"));
    band.deliver();
    band.assert_equal();
}

#[test]
fn undo_while_apart_yields_to_what_the_others_did_later() {
    let mut band = two();
    set(&mut band, 0, TEMPO, 97.0);
    band.deliver();
    band.disconnect(0, 1);
    for tempo in [100.0, 101.0, 102.0] {
        set(&mut band, 1, TEMPO, tempo);
    }
    undo(&mut band, 0).unwrap();
    assert_eq!(band.read(0, TEMPO), json!(120.0));
    band.connect(0, 1);
    band.pass(5_000);
    band.assert_equal();
    // Bea's last write has the higher counter, so it won; redo must not touch it.
    assert_eq!(band.read(0, TEMPO), json!(102.0));
    assert!(matches!(redo(&mut band, 0), Err(UndoError::ChangedSince { .. })));
    assert_eq!(band.read(0, TEMPO), json!(102.0));
}

#[test]
fn tracks_come_and_go_and_move_back() {
    let mut band = two();
    let mut made = Vec::new();
    for name in ["Drums", "Bass"] {
        let add = json!([{"op": "add", "address": "/tracks", "value": {"name": name, "color": "#ff0000"}}]);
        made.extend(gesture(&mut band, 0, add));
    }
    gesture(&mut band, 0, json!([{"op": "move", "address": made[1], "before": made[0]}]));
    gesture(&mut band, 0, json!([{"op": "delete", "address": made[0]}]));
    assert_eq!(tracks(&band, 0), ["Bass"]);
    let labels: Vec<String> = (0..4)
        .map(|step| {
            let undone = undo(&mut band, 0).unwrap();
            band.deliver();
            let expected: &[&str] = [&["Bass", "Drums"][..], &["Drums", "Bass"], &["Drums"], &[]][step];
            assert_eq!(tracks(&band, 1), expected);
            undone.label
        })
        .collect();
    assert_eq!(labels, ["Delete Drums", "Move of Bass", "New track Bass", "New track Drums"]);
    for expected in [&["Drums"][..], &["Drums", "Bass"], &["Bass", "Drums"], &["Bass"]] {
        let redone = redo(&mut band, 0).unwrap();
        assert!(redone.changed[0].0.starts_with("/tracks/"));
        assert_eq!(tracks(&band, 0), expected);
    }
    assert_eq!(band.read(0, &made[1])["color"], "#ff0000");
}

#[test]
fn a_track_on_which_others_have_worked_is_not_hidden() {
    let mut band = two();
    let add = json!([{"op": "add", "address": "/tracks", "value": {"name": "Drums"}}]);
    let made = gesture(&mut band, 0, add).remove(0);
    band.deliver();
    let id = made.strip_prefix("/tracks/").unwrap();
    set(&mut band, 1, &format!("/mixer/strip/{id}/pan"), 0.5);
    band.deliver();
    assert!(matches!(undo(&mut band, 0), Err(UndoError::ChangedSince { .. })));
    assert_eq!(tracks(&band, 0), ["Drums"]);
    // Deleting it is one's right, and so is undoing that; but not deleting once more what was painted since.
    gesture(&mut band, 0, json!([{"op": "delete", "address": made}]));
    undo(&mut band, 0).unwrap();
    band.deliver();
    set(&mut band, 1, &format!("{made}/color"), "#00ff00");
    band.deliver();
    assert!(matches!(redo(&mut band, 0), Err(UndoError::ChangedSince { .. })));
    assert_eq!(tracks(&band, 0), ["Drums"]);
}

#[test]
fn adding_and_deleting_are_two_gestures() {
    let mut band = two();
    let made = quick_gesture(&mut band, 0, json!([{"op": "add", "address": "/tracks"}])).remove(0);
    quick_gesture(&mut band, 0, json!([{"op": "delete", "address": made}]));
    undo(&mut band, 0).unwrap();
    assert_eq!(tracks(&band, 0), ["Track"]);
    undo(&mut band, 0).unwrap();
    assert_eq!(tracks(&band, 0), Vec::<String>::new());
}

#[test]
fn a_new_edit_ends_redo_and_the_oldest_edits_become_permanent() {
    let mut band = two();
    set(&mut band, 0, TEMPO, 97.0);
    undo(&mut band, 0).unwrap();
    set(&mut band, 0, "/session/name", "Tuesday");
    assert_eq!(redo(&mut band, 0), Err(UndoError::Nothing { redo: true }));
    for n in 0..MAX_UNDO_STEPS + 5 {
        set(&mut band, 0, "/session/name", format!("Day {n}"));
    }
    for _ in 0..MAX_UNDO_STEPS {
        undo(&mut band, 0).unwrap();
    }
    assert_eq!(undo(&mut band, 0), Err(UndoError::Nothing { redo: false }));
    assert_eq!(band.read(0, "/session/name"), json!("Day 4"));
}

#[test]
fn what_changes_nothing_and_what_the_node_notes_itself_are_no_gestures() {
    let mut band = two();
    set(&mut band, 0, TEMPO, 97.0);
    set(&mut band, 0, TEMPO, 97.0);
    band.set(0, "/session/name", "noted");
    undo(&mut band, 0).unwrap();
    assert_eq!(band.read(0, TEMPO), json!(120.0));
    assert_eq!(band.read(0, "/session/name"), json!("noted"));
    assert_eq!(undo(&mut band, 0), Err(UndoError::Nothing { redo: false }));
}

#[test]
fn a_full_disk_keeps_the_gesture_for_later() {
    let mut band = two();
    set(&mut band, 0, TEMPO, 97.0);
    band.nodes[0].disk.0.lock().unwrap().dies_after = Some(0);
    band.set(0, "/session/name", "Tuesday");
    assert!(matches!(undo(&mut band, 0), Err(UndoError::Command(_))));
    assert_eq!(band.nodes[0].project.undo_left().undo.as_deref(), Some("Tempo"));
}

#[derive(Clone, Debug)]
enum Move {
    Edit { who: usize, what: usize, value: u8 },
    Undo { who: usize },
    Redo { who: usize },
    Meet,
}

fn a_move() -> impl Strategy<Value = Move> {
    prop_oneof![
        4 => (0..2usize, 0..3usize, 1..9u8).prop_map(|(who, what, value)| Move::Edit { who, what, value }),
        3 => (0..2usize).prop_map(|who| Move::Undo { who }),
        2 => (0..2usize).prop_map(|who| Move::Redo { who }),
        2 => Just(Move::Meet),
    ]
}

const WHAT: [&str; 3] = [TEMPO, "/mixer/strip/a/gain_db", "/session/name"];

fn address(what: usize) -> String {
    WHAT[what].replace("/a/", &format!("/{}/", peer(0).name()))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whoever undoes and redoes whatever and whenever: what another wrote last stays as it is.
    #[test]
    fn undo_never_changes_what_another_wrote_last(moves in prop::collection::vec(a_move(), 1..60)) {
        let mut band = two();
        // Who wrote each value last, as each node knows it: learnt from what is known to both after they met.
        let mut last: [[Option<usize>; 3]; 2] = [[None; 3]; 2];
        for one in moves {
            match one {
                Move::Edit { who, what, value } => {
                    let before = band.read(who, &address(what));
                    let value = if what == 2 { json!(format!("n{value}")) } else { json!(f64::from(value) + 20.0 * f64::from(what == 0)) };
                    let value = if what == 1 { json!(-value.as_f64().unwrap()) } else { value };
                    set(&mut band, who, &address(what), value.clone());
                    if before != value {
                        last[who][what] = Some(who);
                    }
                }
                Move::Undo { who } | Move::Redo { who } => {
                    let before: Vec<Value> = (0..3).map(|what| band.read(who, &address(what))).collect();
                    let undone = match one {
                        Move::Undo { .. } => undo(&mut band, who),
                        _ => redo(&mut band, who),
                    };
                    for what in 0..3 {
                        if last[who][what] == Some(1 - who) {
                            prop_assert_eq!(&band.read(who, &address(what)), &before[what]);
                        }
                    }
                    if undone.is_err() {
                        let after: Vec<Value> = (0..3).map(|what| band.read(who, &address(what))).collect();
                        prop_assert_eq!(before, after);
                    }
                }
                Move::Meet => {
                    let before: Vec<Vec<Value>> =
                        (0..2).map(|who| (0..3).map(|what| band.read(who, &address(what))).collect()).collect();
                    band.pass(3_000);
                    band.assert_equal();
                    for what in 0..3 {
                        let now = band.read(0, &address(what));
                        for who in 0..2 {
                            // A value that came from the other side is the other's.
                            if now != before[who][what] {
                                last[who][what] = Some(1 - who);
                            }
                        }
                    }
                }
            }
        }
    }

    /// Alone, as many redos as undos give back what was there.
    #[test]
    fn undo_and_redo_are_each_others_inverse(edits in prop::collection::vec((0..3usize, 1..9u8), 1..20), back in 1..20usize) {
        let mut band = Band::new(1);
        for (what, value) in edits {
            let value = match what {
                0 => json!(20.0 + f64::from(value)),
                1 => json!(-f64::from(value)),
                _ => json!(format!("n{value}")),
            };
            set(&mut band, 0, &address(what), value);
        }
        let before = band.nodes[0].project.to_json();
        let undone = (0..back).take_while(|_| undo(&mut band, 0).is_ok()).count();
        for _ in 0..undone {
            redo(&mut band, 0).unwrap();
        }
        prop_assert_eq!(band.nodes[0].project.to_json(), before);
    }
}
