//! Two nodes on one JACK server, as in a studio with one sound card.

use tests::audio::{Gap, compare, frames, noise, to_ms};
use tests::{JackServer, Lan, Node, Options, eventually, number, seconds, seed};

/// Witnessed stumbles of the machine for each that is taken to have passed unseen.
const STUMBLES_FOR_ONE_UNSEEN: usize = 20;
const RATE_HZ: u32 = 48_000;
const PERIOD_FRAMES: u32 = 128;
/// Playing before measuring, so that the playout delay has settled.
const SETTLING_S: f64 = 8.0;

fn player(lan: &Lan, host: usize, name: &str) -> Node {
    let mut options = Options::named(name).audio("jack").with(&["--jack-name", name]);
    for (key, value) in JackServer::environment() {
        options = options.env(key, value);
    }
    Node::start(lan.host(host), options)
}

/// `BANDMESH_JACK_SECONDS=600` for the ten minutes of the figures.
#[test]
fn music_through_two_nodes_on_one_server_has_no_dropout_of_our_making() {
    let length_s = std::env::var("BANDMESH_JACK_SECONDS").ok().and_then(|s| s.parse().ok()).unwrap_or(30.0);
    let seed = seed("noise");
    let lan = Lan::alone(2);
    let server = JackServer::start(RATE_HZ, PERIOD_FRAMES);
    let (mut a, mut b) = (player(&lan, 0, "A"), player(&lan, 1, "B"));
    let ports = server.ports();
    for port in ["A:in_1", "A:out_1", "B:in_1", "B:out_1"] {
        assert!(ports.iter().any(|p| p == port), "no {port} in {ports:?}");
    }
    for node in [&a, &b] {
        let status = node.status();
        assert_eq!(status["audio"]["host"], "jack", "{status}");
        assert_eq!(number(&status, "/audio/rate_hz"), f64::from(RATE_HZ));
        assert_eq!(number(&status, "/audio/period_frames"), f64::from(PERIOD_FRAMES));
    }
    // The dummy driver plays a period after it was given one, as a card with two buffers does.
    for node in [&a, &b] {
        eventually(seconds(2), "the server's word on output latency", || {
            (number(&node.status(), "/audio/output_latency_ms") - to_ms(f64::from(PERIOD_FRAMES))).abs()
                < 0.01
        });
    }
    eventually(seconds(5), "B hears A", || b.hears(&a));

    let sent = noise(seed, SETTLING_S + length_s);
    let heard = server.play_through(&sent, "A:in_1", "B:out_1");
    let from = frames(SETTLING_S);
    let delivery = compare(&sent[from..], &heard.samples[from..]).expect("B gives out what A was given");
    let peer = b.peer(&a);
    eprintln!("through A and B: {delivery}");
    eprintln!(
        "one period is {:.2} ms; B says of A: {} {}",
        to_ms(f64::from(PERIOD_FRAMES)),
        peer["audio"],
        peer["clock"]
    );
    // A virtual machine's timers slip now and then: the server wakes late and runs its next cycle at once.
    let period = PERIOD_FRAMES as usize;
    let ours: Vec<&Gap> =
        delivery.gaps.iter().filter(|gap| !heard.stumbled_near(from + gap.at_frame, period)).collect();
    eprintln!("the machine stumbled {} times; gaps of our making: {}", heard.stumbles.len(), ours.len());
    // On a machine that keeps time, none. Where it stumbles, the witnesses see some of it only: time that the host takes
    // from an audio thread's processor alone shows nowhere else.
    let unseen = heard.stumbles.len() / STUMBLES_FOR_ONE_UNSEEN;
    assert!(ours.len() <= unseen, "{delivery}: {ours:?}, stumbles {:?}", heard.stumbles);
    assert!(delivery.lag_ms() < 15.0, "{delivery}");
    for node in [&mut a, &mut b] {
        // The server counts its own late wake-ups too.
        assert!(number(&node.status(), "/audio/xruns") <= heard.stumbles.len() as f64);
        assert_eq!(node.stop().0, 0);
    }
}

#[test]
fn a_server_that_changes_its_period_changes_what_the_others_are_sent() {
    let lan = Lan::alone(2);
    let server = JackServer::start(RATE_HZ, PERIOD_FRAMES);
    let (mut a, mut b) = (player(&lan, 0, "A"), player(&lan, 1, "B"));
    let say = |node: &Node, other: &Node, period_frames: u32| {
        node.peer(other)["audio"]["frame_frames"] == period_frames && node.hears(other)
    };
    eventually(seconds(5), "both hear each other", || {
        say(&a, &b, PERIOD_FRAMES) && say(&b, &a, PERIOD_FRAMES)
    });
    for period_frames in [256, 64, 128] {
        server.set_period(period_frames);
        eventually(seconds(5), &format!("both are sent {period_frames} frames at a time"), || {
            say(&a, &b, period_frames) && say(&b, &a, period_frames)
        });
        assert_eq!(number(&a.status(), "/audio/period_frames"), f64::from(period_frames));
    }
    let received = |node: &Node, other: &Node| number(&node.peer(other), "/audio/received");
    let before = received(&b, &a);
    eventually(seconds(5), "and the music goes on", || received(&b, &a) > before + 500.0);
    for node in [&mut a, &mut b] {
        assert_eq!(node.stop().0, 0);
    }
}

#[test]
fn auto_finds_a_server_that_starts_later_and_one_that_comes_back() {
    let lan = Lan::alone(2);
    let auto = |host: usize, name: &str| {
        let mut options = Options::named(name).audio("auto").with(&["--jack-name", name]);
        for (key, value) in JackServer::environment() {
            options = options.env(key, value);
        }
        Node::start(lan.host(host), options)
    };
    let (mut a, mut b) = (auto(0, "A"), auto(1, "B"));
    let plays_on = |host: &str| {
        eventually(seconds(20), &format!("both play on {host}"), || {
            [&a, &b].iter().all(|node| node.status()["audio"]["host"] == host)
        });
        eventually(seconds(10), "they hear each other", || a.hears(&b) && b.hears(&a));
    };
    plays_on("null");
    for _ in 0..2 {
        let server = JackServer::start(RATE_HZ, PERIOD_FRAMES);
        plays_on("jack");
        server.stop();
        plays_on("null");
    }
    for node in [&mut a, &mut b] {
        assert_eq!(node.stop().0, 0);
    }
}

#[test]
fn a_server_that_dies_is_survived_and_said() {
    let lan = Lan::alone(1);
    let server = JackServer::start(RATE_HZ, PERIOD_FRAMES);
    let mut node = player(&lan, 0, "A");
    server.stop();
    eventually(seconds(10), "the node says that JACK is gone", || {
        node.status()["warnings"].to_string().to_lowercase().contains("jack")
    });
    assert!(node.is_alive());
    assert_eq!(node.stop().0, 0);
}
