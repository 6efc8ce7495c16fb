//! Notes played on one node, heard on the other.

use tests::audio::to_ms;
use tests::{JackServer, Keyboard, Lan, Node, Options, eventually, eventually_some, seconds};

/// Louder than the noise floor of nothing, softer than any note.
const SOUNDS: f32 = 0.003;
const NOTE: [u8; 3] = [0x90, 60, 100];

fn player(lan: &Lan, host: usize, name: &str) -> Node {
    let mut options = Options::named(name).audio("jack").with(&["--jack-name", name]);
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
