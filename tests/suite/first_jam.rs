//! Two players on one LAN, nobody types an address, and both hear each other.

use std::path::PathBuf;
use std::time::Duration;
use tests::audio::{Delivery, compare, first_sound, noise, read_wav, silence, to_ms};
use tests::{Lan, Node, Options, eventually, ms, number, seconds, seed};

/// Seconds of noise the two play to each other.
const JAM_S: f64 = 12.0;
/// How much of that is listened to: the rest is for starting up and for the way.
const LISTENED_S: f64 = 8.0;
/// What a handshake and the first packets may keep the network thread busy. TLS's random numbers alone once took 30 ms
/// of its first handshake.
const FIRST_HANDSHAKE: Duration = ms(20);

/// How far the lag of music in tune may wander while it is listened to, milliseconds. Taken for another rate, it wanders by
/// 80 ms or more a second; and where the machine stumbles, the playout delay moves by some tens.
const IN_TUNE_MS: f64 = 60.0;

/// How far the lag wanders in all, milliseconds.
fn wander_ms(delivery: &Delivery) -> f64 {
    to_ms(delivery.lag_frames[2] - delivery.lag_frames[0])
}

/// A node that plays `play` and records what it hears.
fn player(lan: &Lan, host: usize, options: Options, play: &[f32]) -> (Node, PathBuf) {
    let mut node = Node::player(lan.host(host), options, play);
    node.restart();
    let heard = node.recording();
    (node, heard)
}

#[test]
fn two_players_find_and_hear_each_other_both_ways_at_once() {
    let seed = seed("noise of Alice, and one more for Bob");
    let lan = Lan::alone(2);
    let (alice_plays, bob_plays) = (noise(seed, JAM_S), noise(seed + 1, JAM_S));
    let (mut alice, alice_heard) = player(&lan, 0, Options::named("Alice"), &alice_plays);
    let (mut bob, bob_heard) = player(&lan, 1, Options::named("Bob"), &bob_plays);
    eventually(seconds(3), "Alice and Bob hear each other", || alice.hears(&bob) && bob.hears(&alice));

    // The last moment both still play: what they say of each other then is compared with the recordings.
    let listened = || number(&bob.status(), "/uptime_s") > LISTENED_S;
    eventually(Duration::from_secs_f64(JAM_S), "they have played for a while", listened);
    let (of_bob, of_alice) = (alice.peer(&bob), bob.peer(&alice));
    assert_eq!(alice.stop().0, 0);
    assert_eq!(bob.stop().0, 0);

    let to_bob =
        compare(&alice_plays, &read_wav(&bob_heard)).expect("Bob's recording holds what Alice played");
    let to_alice = compare(&bob_plays, &read_wav(&alice_heard)).expect("and Alice's what Bob played");
    eprintln!("Bob recorded Alice:   {to_bob}");
    eprintln!("Alice recorded Bob:   {to_alice}");
    eprintln!("Bob says of Alice:    {} {}", of_alice["audio"], of_alice["clock"]);
    eprintln!("Alice says of Bob:    {} {}", of_bob["audio"], of_bob["clock"]);
    for delivery in [&to_bob, &to_alice] {
        let [from, to] = delivery.span_frames.map(|frame| to_ms(frame as f64) / 1e3);
        assert!(to - from > LISTENED_S - 3.0, "heard only from {from} s to {to} s");
        assert!(delivery.lost_ratio < 0.02, "{delivery}");
    }

    // The two recordings began at different moments, the same ones for both ways: in the sum of the lags that
    // difference is gone, and what remains is both latencies.
    let proved_ms = to_bob.lag_ms() + to_alice.lag_ms();
    let said_ms = number(&of_alice, "/audio/one_way_ms") + number(&of_bob, "/audio/one_way_ms");
    eprintln!(
        "mouth to ear, both ways together: {proved_ms:.2} ms by the recordings, {said_ms:.2} ms by the nodes"
    );
    assert!(proved_ms > 0.0 && proved_ms < 60.0, "{proved_ms}");
    assert!((proved_ms - said_ms).abs() < 4.0, "one_way_ms is not true");

    // Each measures the other's clock against its own: the two offsets cancel, within the errors they admit.
    let sum_us = number(&of_alice, "/clock/offset_us") + number(&of_bob, "/clock/offset_us");
    let admitted_us = number(&of_alice, "/clock/error_us") + number(&of_bob, "/clock/error_us");
    eprintln!("clock offsets disagree by {:.1} us, error bounds together {admitted_us:.1} us", sum_us.abs());
    assert!(sum_us.abs() <= admitted_us, "the error bound is not honest");
}

#[test]
fn players_whose_devices_run_at_different_rates_hear_each_other_in_tune() {
    let seed = seed("noise of Alice");
    let lan = Lan::alone(2);
    // Alice's device has 44.1 kHz, to which her file is converted, and Bob's what is converted back.
    let plays = noise(seed, JAM_S);
    let (mut alice, _) = player(&lan, 0, Options::named("Alice").with(&["--rate", "44100"]), &plays);
    let (mut bob, heard) = player(&lan, 1, Options::named("Bob"), &silence());
    assert_eq!(number(&alice.status(), "/audio/rate_hz"), 44_100.0);
    assert_eq!(number(&bob.status(), "/audio/rate_hz"), 48_000.0);
    let listened = || number(&bob.status(), "/uptime_s") > LISTENED_S;
    eventually(Duration::from_secs_f64(JAM_S), "they have played for a while", listened);
    alice.stop();
    bob.stop();
    let delivery = compare(&plays, &read_wav(&heard)).expect("Bob's recording holds what Alice played");
    eprintln!("Bob recorded Alice: {delivery}");
    assert!(delivery.lost_ratio < 0.02, "{delivery}");
    assert!(wander_ms(&delivery) < IN_TUNE_MS, "{delivery}");
}

#[test]
fn every_codec_is_heard_in_tune_from_a_device_of_any_rate() {
    let seed = seed("noise of Alice, and one more for Carol");
    let lan = Lan::alone(3);
    let (alice_plays, carol_plays) = (noise(seed, JAM_S), noise(seed + 1, JAM_S));
    let alice = Options::named("Alice").with(&["--rate", "44100", "--codec", "opus"]);
    let carol = Options::named("Carol").with(&["--rate", "96000", "--codec", "pcm24"]);
    let (mut alice, _) = player(&lan, 0, alice, &alice_plays);
    let (mut carol, _) = player(&lan, 1, carol, &carol_plays);
    let (mut bob, heard) = player(&lan, 2, Options::named("Bob"), &silence());
    let listened = || number(&bob.status(), "/uptime_s") > LISTENED_S;
    eventually(Duration::from_secs_f64(JAM_S), "they have played for a while", listened);
    let said = [bob.peer(&alice), bob.peer(&carol)];
    for node in [&mut alice, &mut carol, &mut bob] {
        node.stop();
    }
    let heard = read_wav(&heard);
    for (name, codec, plays, said) in
        [("Alice", "opus", &alice_plays, &said[0]), ("Carol", "pcm24", &carol_plays, &said[1])]
    {
        assert_eq!(said["audio"]["codec"], codec);
        let delivery = compare(plays, &heard).expect("Bob's recording holds what was played");
        eprintln!("Bob recorded {name}: {delivery}; he says {}", said["audio"]);
        assert!(delivery.lost_ratio < 0.02, "{delivery}");
        assert!(wander_ms(&delivery) < IN_TUNE_MS, "{delivery}");
        assert!((0.0..60.0).contains(&number(said, "/audio/one_way_ms")), "{said}");
    }
}

/// `BANDMESH_STARTS=20` for the figure of the note; a few are enough to notice that it broke.
#[test]
fn a_player_who_starts_hears_the_others_within_two_seconds() {
    let starts: usize = std::env::var("BANDMESH_STARTS").ok().and_then(|n| n.parse().ok()).unwrap_or(3);
    let seed = seed("noise of Alice");
    let lan = Lan::alone(2);
    // Each start takes about four seconds at most, and Alice plays through all.
    let plays = noise(seed, 10.0 + 5.0 * starts as f64);
    let (_alice, _) = player(&lan, 0, Options::named("Alice"), &plays);
    let mut after_ready: Vec<Duration> = Vec::new();
    let mut after_start: Vec<Duration> = Vec::new();
    for _ in 0..starts {
        let (mut bob, heard) = player(&lan, 1, Options::named("Bob"), &silence());
        eventually(seconds(4), "Bob hears Alice", || number(&bob.status(), "/audio/output_peak_db") > -50.0);
        let since_start = bob.started().elapsed();
        after_start.push(since_start);
        after_ready.push(since_start.saturating_sub(bob.ready_after()));
        bob.stop();
        // The meter is the node's word; the recording proves that there was sound by then.
        let first = first_sound(&read_wav(&heard)).expect("Bob's recording holds sound");
        let recorded = Duration::from_secs_f64(to_ms(first as f64) / 1e3);
        assert!(recorded <= since_start + ms(100), "sound at {recorded:?}, meter at {since_start:?}");
    }
    let (ready_p95, start_p95) = (p95(after_ready), p95(after_start));
    eprintln!(
        "first sound of Alice, p95 of {starts} starts: {ready_p95:?} after ready, {start_p95:?} after start"
    );
    assert!(ready_p95 < seconds(2), "{ready_p95:?}");
}

#[test]
fn only_what_carries_sound_and_notes_runs_before_everything_else() {
    let lan = Lan::new(1);
    let node = Node::start(lan.host(0), Options::named("Alice"));
    // Whatever else had realtime priority, the two that mDNS takes for instance, could keep sound from a processor.
    let threads = node.threads();
    let mut realtime: Vec<&str> =
        threads.iter().filter(|thread| thread.realtime_priority > 0).map(|thread| &*thread.name).collect();
    realtime.sort_unstable();
    if realtime.is_empty() {
        eprintln!("LEFT OUT where realtime priority is denied: which threads take it");
        return;
    }
    assert_eq!(realtime, ["bandmesh-midi", "bandmesh-timer", "media", "network"], "{threads:?}");
}

#[test]
fn the_first_handshake_does_not_keep_the_network_thread_from_packets() {
    let lan = Lan::alone(2);
    let alice = Node::start(lan.host(0), Options::named("Alice"));
    let before = alice.thread("network").busy;
    let mut bob = Node::prepared(lan.host(1), Options::named("Bob"));
    bob.launch();
    // Not until Bob is ready: packets cost something, too.
    eventually(seconds(5), "Alice hears somebody", || {
        alice.peers().iter().any(|peer| peer["audio"]["received"].as_u64().is_some_and(|count| count > 0))
    });
    let busy = alice.thread("network").busy - before;
    eprintln!("Alice's network thread was busy for {busy:?} until she heard Bob");
    assert!(busy < FIRST_HANDSHAKE, "{busy:?}");
}

fn p95(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[(times.len() * 95).div_ceil(100) - 1]
}
