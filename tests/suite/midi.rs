//! Notes played on one node, heard on the other.

use std::collections::BTreeSet;
use std::time::Duration;
use tests::audio::to_ms;
use tests::{BadLink, JackServer, Keyboard, Lan, Node, Options, eventually, eventually_some, seconds};

/// Louder than the noise floor of nothing, softer than any note.
const SOUNDS: f32 = 0.003;
const NOTE: [u8; 3] = [0x90, 60, 100];

fn player(lan: &Lan, host: usize, name: &str) -> Node {
    player_with(lan, host, name, &[])
}

fn player_with(lan: &Lan, host: usize, name: &str, arguments: &[&str]) -> Node {
    let mut options = Options::named(name).audio("jack").with(&["--jack-name", name]).with(arguments);
    for (key, value) in JackServer::environment() {
        options = options.env(key, value);
    }
    Node::start(lan.host(host), options)
}

/// The frame at which the keyboard heard `bytes`.
fn heard(keyboard: &Keyboard, bytes: &[u8]) -> Option<u32> {
    keyboard.heard().iter().find(|message| message.bytes == bytes).map(|message| message.frame)
}

/// True once `note` has been released by a note-off or a note-on of velocity 0.
fn is_released(keyboard: &Keyboard, note: u8) -> bool {
    keyboard.heard().iter().any(|message| match message.bytes[..] {
        [0x80, key, _] | [0x90, key, 0] => key == note,
        _ => false,
    })
}

#[test]
fn a_note_sounds_on_the_other_side_and_ends_when_its_player_is_killed() {
    let lan = Lan::alone(2);
    let server = JackServer::start(48_000, 128);
    let (mut alice, bob) = (player(&lan, 0, "A"), player(&lan, 1, "B"));
    eventually(seconds(5), "B hears A", || bob.hears(&alice));
    let mut keyboard = server.keyboard("A:midi_in", "B:midi_out", "B:out_1");
    assert!(keyboard.peak() < SOUNDS, "before any note: {}", keyboard.peak());

    keyboard.play(&NOTE);
    let at = eventually_some(seconds(3), "the note comes out of B's MIDI port", || heard(&keyboard, &NOTE));
    let took = at - keyboard.played()[0].frame;
    eprintln!("from A's MIDI input to B's MIDI output: {:.2} ms", to_ms(f64::from(took)));
    assert!(to_ms(f64::from(took)) < 30.0, "{took} frames");
    eventually(seconds(3), "and sounds on B's instrument", || keyboard.peak() > SOUNDS);
    keyboard.play(&[0x80, 60, 0]);
    eventually(seconds(3), "the key is released", || is_released(&keyboard, 60));
    eventually(seconds(5), "and it is quiet again", || keyboard.peak() < SOUNDS);

    keyboard.play(&[0x90, 64, 100]);
    eventually(seconds(3), "a second note sounds", || {
        heard(&keyboard, &[0x90, 64, 100]).is_some() && keyboard.peak() > SOUNDS
    });
    alice.kill();
    let ended = eventually(seconds(6), "nobody holds the dead player's note", || is_released(&keyboard, 64));
    eventually(seconds(5), "and it is quiet", || keyboard.peak() < SOUNDS);
    eprintln!("the note of a killed player ended after {ended:?}");
}

/// Status and number of the keys and pedals that are down after `messages`.
fn held<'a>(messages: impl Iterator<Item = &'a [u8]>) -> BTreeSet<(u8, u8)> {
    let mut held = BTreeSet::new();
    for message in messages {
        let (down, status, number) = match *message {
            [status @ 0x80..=0x8F, key, _] => (false, status | 0x90, key),
            [status @ 0x90..=0x9F, key, velocity] => (velocity > 0, status, key),
            [status @ 0xB0..=0xBF, pedal @ (64 | 66), value] => (value >= 64, status, pedal),
            _ => continue,
        };
        if down {
            held.insert((status, number))
        } else {
            held.remove(&(status, number))
        };
    }
    held
}

fn held_at(keyboard: &Keyboard) -> BTreeSet<(u8, u8)> {
    let heard = keyboard.heard();
    held(heard.iter().map(|message| &message.bytes[..]))
}

#[test]
fn no_note_hangs_behind_a_link_that_loses_every_fifth_packet() {
    let lan = Lan::alone(2);
    if !lan.can("a bad link between two players") {
        return;
    }
    let server = JackServer::start(48_000, 256);
    let link =
        BadLink::between(lan.host(0), lan.host(1), &["--preset", "wifi", "--loss", "20%", "--seed", "11"]);
    let alice = player_with(&lan, 0, "A", &["--no-mdns", "--no-link"]);
    let dial = format!("/ip4/{}/udp/7778/quic-v1", BadLink::A);
    let bob = player_with(&lan, 1, "B", &["--no-mdns", "--no-link", "--peer", &dial]);
    eventually(seconds(20), "B hears A", || bob.hears(&alice));
    let mut keyboard = server.keyboard("A:midi_in", "B:midi_out", "B:out_1");

    // Chords, now with one pedal and now with the other, in three parts at once.
    let mut pressed = 0;
    for bar in 0..60u8 {
        let (channel, pedal) = (bar % 3, if bar % 2 == 0 { 64 } else { 66 });
        let chord = [0, 4, 7].map(|third| 48 + bar % 24 + third);
        keyboard.play(&[0xB0 | channel, pedal, 127]);
        chord.iter().for_each(|key| keyboard.play(&[0x90 | channel, *key, 100]));
        pressed += chord.len();
        // A player's hands need time.
        std::thread::sleep(Duration::from_millis(40));
        chord.iter().for_each(|key| keyboard.play(&[0x80 | channel, *key, 0]));
        keyboard.play(&[0xB0 | channel, pedal, 0]);
        std::thread::sleep(Duration::from_millis(20));
    }
    keyboard.play(&[0x95, 127, 1]);
    keyboard.play(&[0x85, 127, 0]);
    eventually(seconds(5), "the player has let go", || {
        let played = keyboard.played();
        played.last().is_some_and(|last| last.bytes == [0x85, 127, 0])
            && held(played.iter().map(|message| &message.bytes[..])).is_empty()
    });
    let took = eventually(seconds(5), "nothing is held at B's output", || held_at(&keyboard).is_empty());
    eventually(seconds(5), "and B is quiet", || keyboard.peak() < SOUNDS);
    let began = |message: &&tests::Message| matches!(message.bytes[..], [0x90..=0x9F, _, 1..=127]);
    let heard = keyboard.heard().iter().filter(began).count();
    let report = link.stop();
    eprintln!("{heard} of {pressed} notes were heard, the last ended {took:?} after the last key; {report}");
    assert!(heard * 10 > pressed * 8, "{heard} of {pressed} notes were heard");
    assert!(report["a_to_b"]["loss"].as_f64().is_some_and(|loss| loss > 0.1), "{report}");
}

#[test]
fn who_leaves_or_is_muted_leaves_no_note_behind() {
    let lan = Lan::alone(2);
    let server = JackServer::start(48_000, 128);
    let (alice, mut bob) = (player(&lan, 0, "A"), player(&lan, 1, "B"));
    eventually(seconds(5), "B hears A", || bob.hears(&alice));
    let mut keyboard = server.keyboard("A:midi_in", "B:midi_out", "B:out_1");
    let play = |keyboard: &mut Keyboard, messages: &[[u8; 3]]| {
        messages.iter().for_each(|message| keyboard.play(message));
        let last = messages.last().unwrap();
        eventually(seconds(3), "it comes out of B's MIDI port", || heard(keyboard, last).is_some());
    };
    // The pedal holds a chord whose keys are up.
    play(&mut keyboard, &[[0xB0, 64, 127], NOTE, [0x80, 60, 0], [0xB0, 1, 5]]);
    assert_eq!(held_at(&keyboard), BTreeSet::from([(0xB0, 64)]));
    alice.api().put("/me", &serde_json::json!({"muted": true})).ok();
    eventually(seconds(3), "the pedal is let go", || held_at(&keyboard).is_empty());
    alice.api().put("/me", &serde_json::json!({"muted": false})).ok();
    eventually(seconds(3), "the foot is still on it", || held_at(&keyboard) == BTreeSet::from([(0xB0, 64)]));
    // B's synthesiser stays when B's node goes.
    play(&mut keyboard, &[[0x93, 64, 100], [0xB4, 66, 127], [0x93, 65, 100]]);
    assert_eq!(held_at(&keyboard).len(), 4);
    assert_eq!(bob.stop().0, 0);
    eventually(seconds(3), "all of it is let go", || held_at(&keyboard).is_empty());
}
