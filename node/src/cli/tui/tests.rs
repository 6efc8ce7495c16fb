//! The screen from a pretended node's words, and what keys ask of it.

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use serde_json::json;

use super::model::{Model, Request, Said};
use super::view;
use crate::control::Backend;
use crate::control::tests::Pretended;
use crate::control::types::{Level, Meters, PeerLevel};

fn message(kind: &str, data: impl serde::Serialize) -> Said {
    Said::Message(json!({"type": kind, "data": data}))
}

/// A model that has heard the pretended node: Lee is there, and both play.
fn model() -> Model {
    let node = Pretended::new();
    let mut model = Model::default();
    model.hear(Said::Found);
    model.hear(message("status", node.status()));
    let mut peers = node.peers();
    peers[0].name = "Lee".into();
    let other =
        crate::control::types::Peer { peer_id: "12D3KooWKim".into(), name: "Kim".into(), ..peers[0].clone() };
    peers.push(other);
    model.hear(message("peers", peers));
    model.hear(message("playback", node.playback()));
    let level = Level { peak_db: -6.0, rms_db: -9.0 };
    let peers = vec![PeerLevel { peer_id: "12D3KooWLee".into(), peak_db: -27.0, rms_db: -30.0 }];
    let meters = Meters { input: vec![level], peers, beat: 6.5, phase: 2.5, ..node.meters() };
    model.hear(message("meters", meters));
    model
}

fn picture(model: &Model, width: u16, height: u16) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| view::draw(model, frame)).unwrap();
    let buffer = terminal.backend().buffer();
    let row = |y| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>().trim_end().to_owned();
    (0..height).map(row).collect::<Vec<_>>().join("\n")
}

fn press(model: &mut Model, code: KeyCode) -> Vec<Request> {
    model.press(KeyEvent::new(code, KeyModifiers::NONE))
}

fn put(route: &str, body: serde_json::Value) -> Vec<Request> {
    vec![Request::Put { route: route.into(), body }]
}

/// How many characters of the meter in the line with `name` are full.
fn bar(picture: &str, name: &str) -> usize {
    let line =
        picture.lines().find(|line| line.contains(name)).unwrap_or_else(|| panic!("no {name}:\n{picture}"));
    line.chars().filter(|c| *c == '█').count()
}

#[test]
fn the_screen_shows_the_band_the_beat_and_what_is_wrong() {
    let mut model = model();
    let mut peers = Pretended::new().peers();
    (peers[0].name, peers[0].hears_me, peers[0].muted_themselves) = ("Lee".into(), Some(false), true);
    model.hear(message("peers", peers));
    model.hear(message(
        "notification",
        json!({"id": 1, "kind": "peer_joined", "severity": "good", "text": "Lee joined", "peer_id": null, "at_ms": 1}),
    ));
    let picture = picture(&model, 120, 20);
    let sentence = Pretended::new().status().diagnosis.sentence;
    for wanted in [
        "session jam",
        "Lee",
        "Tight, 6 ms",
        "lan",
        "+0 dB",
        "does not hear you",
        "muted themselves",
        "● ",
        "120.0 bpm",
        "4/4",
        "playing",
        "click off",
        "Link with 1",
        &sentence,
        "Lee joined",
        "q quit",
    ] {
        assert!(picture.contains(wanted), "{wanted}:\n{picture}");
    }
    // Three beats into the bar; half full and nearly full meters.
    assert!(picture.contains("○ ○ ● ○"), "{picture}");
    assert_eq!((bar(&picture, "Lee "), bar(&picture, "you")), (9, 16));
    assert!(!picture.contains('\u{1b}'));
}

#[test]
fn names_and_signs_are_read_on_eighty_columns() {
    let mut model = model();
    let mut peers = Pretended::new().peers();
    (peers[0].name, peers[0].muted_by_me) = ("Robin (drums)".into(), true);
    model.hear(message("peers", peers));
    let wide = picture(&model, 80, 24);
    for wanted in ["Robin (drums)", "Tight, 6 ms", "lan", "muted by me"] {
        assert!(wide.contains(wanted), "{wanted}:\n{wide}");
    }
    let narrow = picture(&model, 50, 24);
    for wanted in ["Robin", "Tight, 6 ms"] {
        assert!(narrow.contains(wanted), "{wanted}:\n{narrow}");
    }
}

#[test]
fn keys_mute_solo_and_mix_the_selected_player_only() {
    let mut model = model();
    assert_eq!(press(&mut model, KeyCode::Char('m')), put("/me", json!({"muted": true})));
    assert_eq!(press(&mut model, KeyCode::Char('m')), put("/me", json!({"muted": false})));
    assert_eq!(press(&mut model, KeyCode::Char('s')), []);
    assert!(picture(&model, 100, 20).contains("select another player"));
    press(&mut model, KeyCode::Down);
    press(&mut model, KeyCode::Char('j'));
    assert!(
        picture(&model, 100, 20).lines().any(|line| line.starts_with("> Kim") || line.starts_with(">Kim"))
    );
    let kim = "/peers/12D3KooWKim";
    assert_eq!(press(&mut model, KeyCode::Char('m')), put(kim, json!({"muted_by_me": true})));
    assert_eq!(press(&mut model, KeyCode::Char('s')), put(kim, json!({"soloed_by_me": true})));
    assert_eq!(press(&mut model, KeyCode::Left), put(kim, json!({"gain_db": -1.0})));
    assert_eq!(press(&mut model, KeyCode::Char('-')), put(kim, json!({"gain_db": -2.0})));
    for _ in 0..100 {
        press(&mut model, KeyCode::Right);
    }
    assert_eq!(press(&mut model, KeyCode::Right), put(kim, json!({"gain_db": 12.0})));
    // Whoever is selected stays selected when others come and go, and nobody else is muted by mistake.
    let mut peers = Pretended::new().peers();
    peers[0].peer_id = "12D3KooWKim".into();
    model.hear(message("peers", &peers));
    assert_eq!(model.selected_row(), 1);
    peers[0].peer_id = "12D3KooWZoe".into();
    model.hear(message("peers", &peers));
    assert_eq!(model.selected_row(), 0);
}

#[test]
fn what_was_on_its_way_when_a_key_was_pressed_takes_nothing_back() {
    let mut model = model();
    let before = Pretended::new();
    press(&mut model, KeyCode::Down);
    press(&mut model, KeyCode::Left);
    model.hear(message("peers", before.peers()));
    assert_eq!(press(&mut model, KeyCode::Left), put("/peers/12D3KooWLee", json!({"gain_db": -2.0})));
    // A node that goes on saying otherwise is right.
    for _ in 0..6 {
        model.hear(message("peers", before.peers()));
    }
    assert_eq!(model.peers[0].gain_db, 0.0);
    press(&mut model, KeyCode::Up);
    press(&mut model, KeyCode::Char('m'));
    model.hear(message("status", before.status()));
    assert_eq!(press(&mut model, KeyCode::Char('m')), put("/me", json!({"muted": false})));
}

#[test]
fn keys_play_and_undo_and_end() {
    let mut model = model();
    let playback = |change| vec![Request::Say(json!({"type": "playback", "change": change}))];
    assert_eq!(press(&mut model, KeyCode::Char(' ')), playback(json!({"playing": false})));
    assert_eq!(press(&mut model, KeyCode::Char('c')), playback(json!({"metronome": true})));
    assert_eq!(press(&mut model, KeyCode::Char(']')), playback(json!({"tempo_bpm": 121.0})));
    assert_eq!(press(&mut model, KeyCode::Char(']')), playback(json!({"tempo_bpm": 122.0})));
    assert_eq!(press(&mut model, KeyCode::Char('u')), [Request::Say(json!({"type": "undo"}))]);
    press(&mut model, KeyCode::Char('?'));
    assert!(picture(&model, 100, 30).contains("these keys"));
    press(&mut model, KeyCode::Esc);
    assert!(!model.ended() && !model.help);
    model.press(KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL));
    assert!(model.ended());
    let mut model = Model::default();
    press(&mut model, KeyCode::Char('q'));
    assert!(model.ended());
}

#[test]
fn a_node_that_goes_and_comes_is_said_once() {
    let mut model = model();
    for _ in 0..5 {
        model.hear(Said::Lost("no node runs here; start one with `bandmesh up`".into()));
    }
    let gone = picture(&model, 100, 20);
    assert!(gone.contains("the node is gone"), "{gone}");
    assert_eq!(bar(&gone, "you"), 0, "no meter stands still as if it were alive");
    model.hear(Said::Found);
    let lines: Vec<&str> = model.lines.iter().map(|line| line.text.as_str()).collect();
    assert_eq!(lines, ["no node runs here; start one with `bandmesh up`", "The node is back"]);
}

#[test]
fn hostile_words_and_tiny_terminals_do_no_harm() {
    let mut model = model();
    let node = Pretended::new();
    let mut peers = node.peers();
    peers[0].name = format!("\u{1b}]0;x\u{7}\u{202e}{}", "🎸".repeat(3_000));
    model.hear(message("peers", peers));
    for strange in [json!(null), json!({}), json!([1, "x", {"peer_id": 7}]), json!("\u{1b}[2J")] {
        for kind in ["status", "meters", "peers", "playback", "notification", "log", "error", "undone", "?"] {
            model.hear(message(kind, &strange));
        }
    }
    for n in 0..1_000 {
        model.hear(Said::Refused(format!("line {n}\r\n\u{1b}[2J")));
    }
    assert!(model.lines.len() <= 200);
    for (width, height) in [(120, 40), (80, 24), (40, 10), (20, 5), (7, 3), (1, 1)] {
        for help in [false, true] {
            model.help = help;
            let picture = picture(&model, width, height);
            assert!(!picture.contains('\u{1b}') && !picture.contains('\u{202e}'));
        }
    }
}
