//! A microphone in the first of two inputs is one channel on the wire, until something sounds in the second.

use std::time::Duration;
use tests::audio::{Delivery, compare, frames, noise, read_stereo_wav, silence, to_ms, write_stereo_wav};
use tests::{Lan, Node, Options, eventually, number, seconds, seed};

/// Seconds that Alice plays, and after which the second input wakes up.
const JAM_S: f64 = 14.0;
const WAKES_S: f64 = 7.0;
/// Seconds of Bob's recording.
const LISTENED_S: f64 = 10.0;

#[test]
fn second_input_that_wakes_up_loses_nothing_and_moves_nothing() {
    let seed = seed("noise of Alice's voice, and one more for her guitar");
    let lan = Lan::alone(2);
    let (voice, guitar) = (noise(seed, JAM_S), noise(seed + 1, JAM_S - WAKES_S));
    let mut second = vec![0.0; frames(WAKES_S)];
    second.extend(&guitar);

    let mut alice = Node::player(lan.host(0), Options::named("Alice"), &silence());
    write_stereo_wav(&alice.playing(), &voice, &second);
    alice.restart();
    let mut bob = Node::player(lan.host(1), Options::named("Bob"), &silence());
    bob.restart();

    let channels = || bob.peer(&alice)["audio"]["channels"].as_u64();
    eventually(seconds(4), "Bob hears Alice and is sent her voice only", || {
        bob.hears(&alice) && channels() == Some(1)
    });
    assert!(number(&alice.status(), "/uptime_s") < WAKES_S - 0.5, "too late to hear the guitar begin");
    eventually(Duration::from_secs_f64(WAKES_S), "he is sent both", || channels() == Some(2));
    eventually(Duration::from_secs_f64(JAM_S), "they have played for a while", || {
        number(&bob.status(), "/uptime_s") > LISTENED_S
    });
    let of_alice = bob.peer(&alice);
    eprintln!("Bob says of Alice:  {}", of_alice["audio"]);
    assert_eq!(of_alice["audio"]["buffer_resets"], 0);
    assert_eq!(alice.stop().0, 0);
    assert_eq!(bob.stop().0, 0);

    let [left, right] = read_stereo_wav(&bob.recording());
    let of_voice = compare(&voice, &left).expect("the voice is on the left");
    let of_guitar = compare(&guitar, &right).expect("the guitar is on the right");
    eprintln!("on the left:  {of_voice}");
    eprintln!("on the right: {of_guitar}");
    assert!(compare(&voice, &right).is_none(), "the voice is not on the right");
    for delivery in [&of_voice, &of_guitar] {
        assert!(delivery.lost_ratio < 0.02, "{delivery}");
    }
    let wakes = frames(WAKES_S);
    assert_eq!(of_guitar.span_frames[0], 0, "its first stroke is whole");
    assert!(!is_gap_near(&of_voice, wakes), "the voice goes on: {:?}", of_voice.gaps);
    // Both sides of one moment are one moment, give or take what a playout delay moves in the meantime.
    let apart = of_guitar.lag_frames[0] - wakes as f64 - of_voice.lag_frames[2];
    let beside = of_guitar.lag_frames[2] - wakes as f64 - of_voice.lag_frames[0];
    assert!(apart < 2.0 && beside > -2.0, "{apart} {beside}");
    let early = &right[..right.len().min((of_guitar.lag_frames[0] as usize).saturating_sub(240))];
    assert!(early.iter().all(|sample| *sample == 0.0), "before it the right side is silent");
}

fn is_gap_near(delivery: &Delivery, frame: usize) -> bool {
    delivery.gaps.iter().any(|gap| {
        let from = frame.saturating_sub(gap.frames);
        to_ms(gap.at_frame.abs_diff(frame) as f64) < 20.0 || (from..frame).contains(&gap.at_frame)
    })
}
