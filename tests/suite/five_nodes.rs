//! A band of five, one of whose laptops dies and comes back.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tests::audio::{Gap, compare, frames, noise, read_wav, silence, to_ms};
use tests::{Lan, Node, Options, Watch, eventually, ms, number, seconds, seed};

/// Long enough for five to start on a slow machine, one to die, and come back.
const SET_S: f64 = 40.0;
/// Four seconds of packets of 128 frames: longer than a delay takes to shrink by a period, in which noise that is
/// played fast by a hair would not be recognised.
const PACKETS_FOR_A_WHILE: f64 = 1_500.0;
/// A hole an audience hears; what concealment covers is shorter.
const AUDIBLE_GAP_MS: f64 = 60.0;
/// What a newcomer may cost those who play on: a packet or two, since five handshakes of a millisecond or two each share
/// two processors here with everybody's music. What held a processor up for longer cost three and more.
const NEWCOMER_GAP_MS: f64 = 5.0;
/// Everything that a newcomer makes the others do is done by then.
const REJOIN: Duration = seconds(2);
/// A gap this near to a stumble of the machine may be its doing: how well the moment of a gap is known, and what a
/// packet may wait.
const NEAR: Duration = ms(40);
/// Witnessed stumbles of the machine for each that is taken to have passed unseen, as in [`super::jack`].
const STUMBLES_FOR_ONE_UNSEEN: usize = 20;

fn heads(band: &[Node]) -> Vec<String> {
    let mut heads: Vec<String> = band.iter().map(Node::heads).collect();
    heads.dedup();
    heads
}

#[test]
fn one_is_killed_and_comes_back_and_nobody_else_is_interrupted() {
    let seed = seed("noise of Alice, and one more for Eve");
    let lan = Lan::alone(5);
    let stumbles: Arc<Mutex<Vec<Instant>>> = Arc::default();
    let seen = Arc::clone(&stumbles);
    let _watch = Watch::start(move || seen.lock().unwrap().push(Instant::now()));
    let (alice_plays, eve_plays) = (noise(seed, SET_S), noise(seed + 1, SET_S));
    let mut band: Vec<Node> = ["Alice", "Bob", "Carol", "Dave", "Eve"]
        .iter()
        .enumerate()
        .map(|(i, name)| {
            let silence = silence();
            let signal = match i {
                0 => &alice_plays,
                4 => &eve_plays,
                _ => &silence,
            };
            let mut node = Node::player(lan.host(i), Options::named(name), signal);
            node.restart();
            node
        })
        .collect();
    eventually(seconds(5), "everybody hears everybody", || {
        band.iter()
            .enumerate()
            .all(|(i, one)| band.iter().enumerate().all(|(j, other)| i == j || one.hears(other)))
    });
    band[1].edit(
        serde_json::json!([{"op": "add", "address": "/tracks", "value": {"name": "Bass", "kind": "audio"}}]),
    );
    eventually(seconds(5), "all five have the same project", || heads(&band).len() == 1);

    let id = band[4].id().to_owned();
    band[4].kill();
    band[2].edit(serde_json::json!([{"op": "set", "address": "/transport/tempo_bpm", "value": 97.0}]));
    eventually(seconds(8), "Bob no longer counts Eve as connected", || {
        band[1].peers().iter().all(|p| p["peer_id"] != id.as_str() || p["state"] != "connected")
    });
    // The thread that is her sound card's clock: her first frame is played when it begins.
    let alice_played_from = band[0].thread("bandmesh-timer").started;
    let rejoined = Instant::now();
    let before: Vec<f64> = (0..4).map(|i| received_of_eve(&band[i], &id)).collect();
    band[4].restart();
    assert_eq!(band[4].id(), id, "the same identity, from the same data directory");
    let back = eventually(seconds(5), "everybody hears Eve again", || {
        (0..4).all(|i| {
            // The count may begin anew with her stream.
            let received = received_of_eve(&band[i], &id);
            received > 0.0 && received != before[i]
        })
    });
    let audio_back = band[4].started().elapsed();
    eventually(seconds(5), "all five have the same project again", || heads(&band).len() == 1);
    assert_eq!(number(&band[4].project("/transport"), "/tempo_bpm"), 97.0);
    eprintln!("Eve audible {audio_back:?} after her restart, {back:?} after ready");
    assert!(audio_back < seconds(2), "{audio_back:?}");

    // So that the recordings hold enough of her to be found.
    eventually(seconds(15), "Bob has heard her play for a while", || {
        received_of_eve(&band[1], &id) > PACKETS_FOR_A_WHILE
    });

    for node in &mut band {
        assert_eq!(node.stop().0, 0);
    }
    let stumbles: Vec<Duration> =
        stumbles.lock().unwrap().iter().map(|at| at.saturating_duration_since(alice_played_from)).collect();
    let rejoined = rejoined - alice_played_from;
    let meanwhile = |at: Duration| at + NEAR > rejoined && at < rejoined + REJOIN;
    let unseen = stumbles.iter().filter(|at| meanwhile(**at)).count() / STUMBLES_FOR_ONE_UNSEEN;
    let mut heard_until: Vec<usize> = Vec::new();
    let mut interrupted: Vec<Gap> = Vec::new();
    for node in &band[1..4] {
        let heard = read_wav(&node.recording());
        let alice = compare(&alice_plays, &heard).expect("Alice is in everybody's recording");
        eprintln!("Alice, as recorded by one who stayed: {alice}");
        heard_until.push(alice.span_frames[1]);
        assert!(alice.longest_gap_ms() < AUDIBLE_GAP_MS, "interrupted: {alice}, {:?}", alice.gaps);
        let at = |frame: usize| Duration::from_secs_f64(to_ms(frame as f64) / 1e3);
        let gaps = alice.gaps.iter().filter(|gap| meanwhile(at(gap.at_frame)));
        let (lost, ours) = gaps.partition::<Vec<&Gap>, _>(|gap| {
            stumbles.iter().any(|stumble| stumble.abs_diff(at(gap.at_frame)) < NEAR)
        });
        eprintln!("while Eve came back: gaps when the machine stumbled {lost:?}, others {ours:?}");
        interrupted.extend(ours.into_iter().filter(|gap| to_ms(gap.frames as f64) > NEWCOMER_GAP_MS));
    }
    // What a newcomer does to those who play on it does to each of them; one alone may have stood still unseen.
    assert!(interrupted.len() <= unseen + 1, "interrupted: {interrupted:?}, stumbles {stumbles:?}");
    // Alice stopped before the others did, and so is last heard by all of them at one moment.
    let (first, last) = (heard_until.iter().min().unwrap(), heard_until.iter().max().unwrap());
    assert!(last - first < frames(0.2), "heard until {heard_until:?}");
    let heard = read_wav(&band[1].recording());
    assert!(compare(&eve_plays, &heard).is_some(), "Eve is in Bob's recording");
}

/// Packets received of the peer `id`; 0 if it is not known or not heard.
fn received_of_eve(node: &Node, id: &str) -> f64 {
    let peers = node.peers();
    let eve = peers.iter().find(|p| p["peer_id"] == id);
    eve.and_then(|p| p["audio"]["received"].as_f64()).unwrap_or(0.0)
}

#[test]
fn one_who_leaves_politely_is_gone_at_once_and_the_others_play_on() {
    let lan = Lan::new(3);
    let mut band: Vec<Node> = ["Alice", "Bob", "Carol"]
        .iter()
        .enumerate()
        .map(|(i, name)| Node::start(lan.host(i), Options::named(name)))
        .collect();
    eventually(seconds(5), "all three hear each other", || {
        band.iter().all(|one| one.peers().iter().filter(|p| p["state"] == "connected").count() == 2)
    });
    let id = band[2].id().to_owned();
    let (code, took) = band[2].stop();
    assert_eq!(code, 0);
    assert!(took < seconds(2), "{took:?}");
    // A goodbye, not a timeout: those take four seconds.
    eventually(ms(1_500), "the others know that Carol has left", || {
        band[..2]
            .iter()
            .all(|node| node.peers().iter().all(|p| p["peer_id"] != id.as_str() || p["state"] != "connected"))
    });
    assert!(band[0].hears(&band[1]) && band[1].hears(&band[0]));
}
