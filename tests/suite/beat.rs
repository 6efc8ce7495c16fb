//! One beat for two nodes and somebody else's Link app.

use serde_json::json;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tests::audio::{RATE_HZ, compare, noise, read_stereo_wav, to_ms, write_stereo_wav};
use tests::{Lan, LinkApp, Node, Options, eventually, number, seconds, seed};

/// Beats of a bar in the session's time signature, 4/4.
const QUANTUM: f64 = 4.0;
/// How far apart, in milliseconds, two beats may be at one moment as `/status` tells them. The goal at the speaker is
/// 3 ms; an answer's own way through HTTP is taken out by asking several times.
const PHASE_LIMIT_MS: f64 = 3.0;

fn tempo(node: &Node) -> f64 {
    number(&node.status(), "/link/tempo_bpm")
}

fn playing(node: &Node) -> bool {
    node.status()["link"]["playing"] == true
}

/// How far the node's phase is from the app's, in milliseconds: the answer of the quickest of some requests,
/// against the app's phase in the middle of that request.
fn phase_error_ms(node: &Node, app: &LinkApp) -> f64 {
    phase_error_in_ms(QUANTUM, node, app)
}

/// The same in bars of `quantum` beats.
fn phase_error_in_ms(quantum: f64, node: &Node, app: &LinkApp) -> f64 {
    let mut best = (Duration::MAX, 0.0);
    for _ in 0..20 {
        let (began, before) = (Instant::now(), app.phase(quantum));
        let said = number(&node.status(), "/link/phase");
        let (took, after) = (began.elapsed(), app.phase(quantum));
        let middle = before + (after - before).rem_euclid(quantum) / 2.0;
        if took < best.0 {
            let error = (said - middle + quantum / 2.0).rem_euclid(quantum) - quantum / 2.0;
            best = (took, error * 60_000.0 / app.tempo_bpm());
        }
    }
    eprintln!("phase error {:.2} ms, request took {:?}", best.1, best.0);
    // Half of the request's time is not known: where in it the answer was made.
    best.1.abs() - best.0.as_secs_f64() * 500.0
}

#[test]
fn two_nodes_and_a_link_app_share_tempo_phase_and_start_stop() {
    let lan = Lan::new(3);
    if !lan.can("Ableton Link, which needs multicast") {
        return;
    }
    let alice = Node::start(lan.host(0), Options::named("Alice"));
    let bob = Node::start(lan.host(1), Options::named("Bob"));
    // Until then the two are strangers in Link, who began at one time: Link may choose the tempo of either.
    eventually(seconds(5), "Alice and Bob have met", || {
        [(&alice, &bob), (&bob, &alice)].iter().all(|(node, other)| {
            node.peer(other)["state"] == "connected" && number(&node.status(), "/link/peers") == 1.0
        })
    });
    alice.api().put("/transport", &json!({"tempo_bpm": 133.0})).ok();
    eventually(seconds(5), "Bob has Alice's tempo", || (tempo(&bob) - 133.0).abs() < 0.01);

    // Somebody opens Live, whose own tempo is another: joining never changes the session's.
    let live = LinkApp::start(lan.host(2), 97.0);
    eventually(seconds(10), "everybody sees Live", || {
        live.peers() == 2 && [&alice, &bob].iter().all(|node| number(&node.status(), "/link/peers") >= 2.0)
    });
    eventually(seconds(5), "Live has taken the session's tempo", || (live.tempo_bpm() - 133.0).abs() < 0.01);
    assert!((tempo(&alice) - 133.0).abs() < 0.01 && (tempo(&bob) - 133.0).abs() < 0.01);

    eventually(seconds(5), "all beats line up", || {
        [&alice, &bob].iter().all(|node| phase_error_ms(node, &live) < PHASE_LIMIT_MS)
    });

    // What an app plays in the first quarter of a second is what it brought; nobody's hand is so quick.
    std::thread::sleep(Duration::from_millis(300));
    live.set_tempo(90.0);
    eventually(seconds(5), "the nodes follow Live's tempo", || {
        [&alice, &bob].iter().all(|node| (tempo(node) - 90.0).abs() < 0.01)
    });
    eventually(seconds(5), "and so does the project", || {
        (number(&bob.project("/transport"), "/tempo_bpm") - 90.0).abs() < 0.01
    });

    alice.api().put("/transport", &json!({"playing": true})).ok();
    eventually(seconds(5), "everybody plays", || live.is_playing() && playing(&bob));
    // A tick of Bob's bridge, which tells his Link of the start too.
    std::thread::sleep(Duration::from_millis(300));
    live.set_playing(false);
    eventually(seconds(5), "everybody stops", || !playing(&alice) && !playing(&bob));
    // A tick of the bridge that did not take the stop, which hears of it now.
    std::thread::sleep(Duration::from_millis(300));
    live.set_playing(true);
    eventually(seconds(5), "everybody starts with Live", || playing(&alice) && playing(&bob));
    assert!(live.is_playing());
}

#[test]
fn a_link_app_is_in_phase_with_those_who_have_link_whoever_has_it_off() {
    let lan = Lan::new(3);
    if !lan.can("Ableton Link, which needs multicast") {
        return;
    }
    // One of the two has the smaller peer id, and then the other.
    for without in 0..2 {
        let options = |host: usize, name| match host == without {
            true => Options::named(name).with(&["--no-link"]),
            false => Options::named(name),
        };
        let nodes =
            [(0, "Alice"), (1, "Bob")].map(|(host, name)| Node::start(lan.host(host), options(host, name)));
        let [alice, bob] = &nodes;
        eventually(seconds(5), "they are one band", || alice.peers().len() == 1 && bob.peers().len() == 1);
        alice.api().put("/transport", &json!({"tempo_bpm": 133.0})).ok();
        eventually(seconds(5), "of one tempo", || {
            nodes.iter().all(|node| (tempo(node) - 133.0).abs() < 0.01)
        });
        // What Link's beat is before anybody says what the session's is, is anything.
        let live = LinkApp::start(lan.host(2), 97.0);
        eventually(seconds(10), "Live has the tempo", || (live.tempo_bpm() - 133.0).abs() < 0.01);
        eventually(seconds(5), "and the beat, of both", || {
            nodes.iter().all(|node| phase_error_ms(node, &live) < PHASE_LIMIT_MS)
        });
        assert_eq!(nodes[without].status()["link"]["enabled"], false);
    }
}

#[test]
fn bars_of_three_begin_together_in_a_link_app() {
    let lan = Lan::new(3);
    if !lan.can("Ableton Link, which needs multicast") {
        return;
    }
    let alice = Node::start(lan.host(0), Options::named("Alice"));
    let bob = Node::start(lan.host(1), Options::named("Bob"));
    let live = LinkApp::start(lan.host(2), 97.0);
    eventually(seconds(10), "everybody sees Live", || {
        live.peers() == 2 && [&alice, &bob].iter().all(|node| number(&node.status(), "/link/peers") >= 2.0)
    });
    for (signature, quantum) in [("3/4", 3.0), ("5/4", 5.0), ("4/4", 4.0)] {
        alice.api().put("/transport", &json!({ "time_signature": signature })).ok();
        eventually(seconds(5), "the downbeats line up", || {
            bob.api().get("/transport").ok()["time_signature"] == signature
                && [&alice, &bob].iter().all(|node| phase_error_in_ms(quantum, node, &live) < PHASE_LIMIT_MS)
        });
    }
}

#[test]
fn two_players_of_one_name_are_two_and_keep_one_beat() {
    let lan = Lan::new(2);
    let (one, other) = (
        Node::start(lan.host(0), Options::named("Alice")),
        Node::start(lan.host(1), Options::named("Alice")),
    );
    eventually(seconds(5), "each sees the other", || {
        [(&one, &other), (&other, &one)].iter().all(|(node, peer)| node.peer(peer)["name"] == "Alice")
    });
    assert_ne!(one.id(), other.id());
    one.api().put("/transport", &json!({"tempo_bpm": 88.0, "playing": true})).ok();
    eventually(seconds(5), "they have one tempo", || (tempo(&other) - 88.0).abs() < 0.01 && playing(&other));
    for node in [&one, &other] {
        assert_eq!(node.peers().len(), 1);
        eventually(seconds(5), "and the project both members", || {
            node.project("/members").as_object().is_some_and(|members| members.len() == 2)
        });
    }
}

/// Where each click of a recording begins, in frames, and whether it is the bar's first.
fn clicks(recording: &[f32]) -> Vec<(f64, bool)> {
    // A click is a cosine of 0.4 that dies away in 30 ms: 1 kHz, at the beginning of a bar 1.5 kHz.
    let (longest, heard) = (RATE_HZ * 3 / 100, 0.2);
    let mut found = vec![];
    let mut frame = 0;
    while let Some(next) = recording.iter().skip(frame).position(|sample| sample.abs() > heard) {
        let begin = frame + next;
        let first_ms = &recording[begin..recording.len().min(begin + RATE_HZ / 250)];
        let turns = first_ms.windows(2).filter(|pair| pair[0].signum() != pair[1].signum()).count();
        // Four milliseconds hold 8 changes of sign, or 12.
        found.push((begin as f64, turns > 10));
        frame = begin + longest;
    }
    found
}

#[test]
fn two_metronomes_click_at_one_moment_on_the_beat_and_stress_the_same_one() {
    // How the two recordings lie to each other is known from their beginning, and holds as long as the machine does not stumble.
    let together = (0..5).any(|_| {
        let (apart_ms, xruns) = two_metronomes();
        eprintln!("the two metronomes are {apart_ms:.2} ms apart, with {xruns} xruns");
        let together = apart_ms.abs() < PHASE_LIMIT_MS;
        assert!(together || xruns > 0.0, "{apart_ms} ms, and the machine did not stumble");
        together
    });
    assert!(together, "the machine stumbled each time");
}

/// How far apart two metronomes click, in milliseconds, and the periods that the players' machine was late for.
fn two_metronomes() -> (f64, f64) {
    const NOISE_S: f64 = 6.0;
    const LISTENED_S: f64 = 14.0;
    const TEMPO_BPM: f64 = 90.0;
    let seed = seed("noise of Alice, and one more for Bob");
    let lan = Lan::alone(2);
    let noises = [noise(seed, NOISE_S), noise(seed + 1, NOISE_S)];
    let players: [(Node, PathBuf); 2] = [0, 1].map(|host| {
        let mut node = Node::player(lan.host(host), Options::named(["Alice", "Bob"][host]), &noises[host]);
        // On the left only: the clicks are looked for on the right.
        write_stereo_wav(&node.playing(), &noises[host], &vec![0.0; noises[host].len()]);
        node.restart();
        let heard = node.recording();
        (node, heard)
    });
    let [(mut alice, alice_heard), (mut bob, bob_heard)] = players;
    eventually(seconds(4), "they hear each other", || alice.hears(&bob) && bob.hears(&alice));
    eventually(seconds(8), "the noise is over", || number(&bob.status(), "/uptime_s") > NOISE_S + 1.0);
    let one_way_ms = number(&alice.peer(&bob), "/audio/one_way_ms");
    for node in [&alice, &bob] {
        node.api().put("/transport", &json!({"metronome": true})).ok();
    }
    alice
        .api()
        .put("/transport", &json!({"tempo_bpm": TEMPO_BPM, "time_signature": "3/4", "playing": true}))
        .ok();
    eventually(seconds(12), "they have clicked for a while", || {
        number(&bob.status(), "/uptime_s") > LISTENED_S
    });
    let xruns = [&alice, &bob].iter().map(|node| number(&node.status(), "/audio/xruns")).sum();
    assert_eq!((alice.stop().0, bob.stop().0), (0, 0));

    // The noise is on the left, the clicks on both sides.
    let [alice_left, alice_right] = read_stereo_wav(&alice_heard);
    let [_, bob_right] = read_stereo_wav(&bob_heard);
    let of_bob = compare(&noises[1], &alice_left).expect("Alice's recording holds what Bob played");
    // Bob's recording begins where his noise does, so Alice's tells by how much later than hers that is.
    let later_ms = of_bob.lag_ms() - one_way_ms;
    let (of_alice, of_bob) = (clicks(&alice_right), clicks(&bob_right));
    let beat_ms = 60e3 / TEMPO_BPM;
    for clicks in [&of_alice, &of_bob] {
        assert!(clicks.len() > 6, "{clicks:?}");
        for pair in clicks.windows(2) {
            let apart_ms = to_ms(pair[1].0 - pair[0].0);
            assert!((apart_ms - beat_ms).abs() < 1.0, "{apart_ms} ms from click to click: {clicks:?}");
        }
        let stressed: Vec<usize> = (0..clicks.len()).filter(|n| clicks[*n].1).collect();
        assert!(stressed.len() > 1 && stressed.windows(2).all(|pair| pair[1] - pair[0] == 3), "{clicks:?}");
    }
    let stressed = |clicks: &[(f64, bool)]| clicks.iter().find(|click| click.1).map(|click| to_ms(click.0));
    let (first_ms, second_ms) = (stressed(&of_alice).expect("a bar"), stressed(&of_bob).expect("a bar"));
    let bar_ms = 3.0 * beat_ms;
    let apart_ms = (first_ms - second_ms - later_ms + bar_ms / 2.0).rem_euclid(bar_ms) - bar_ms / 2.0;
    (apart_ms, xruns)
}

#[test]
fn a_node_that_joins_a_running_link_session_takes_its_tempo() {
    let lan = Lan::new(3);
    if !lan.can("Ableton Link, which needs multicast") {
        return;
    }
    let live = LinkApp::start(lan.host(0), 97.0);
    let other = LinkApp::start(lan.host(1), 120.0);
    eventually(seconds(10), "two apps share a session", || live.peers() == 1 && other.peers() == 1);
    live.set_tempo(97.5);
    eventually(seconds(5), "its tempo is 97.5", || (other.tempo_bpm() - 97.5).abs() < 0.01);
    // Link takes sessions begun within half a second of each other for equally old, and then either's tempo may win.
    std::thread::sleep(Duration::from_millis(600));
    let alice = Node::start(lan.host(2), Options::named("Alice"));
    eventually(seconds(10), "Alice has joined", || {
        assert!((live.tempo_bpm() - 97.5).abs() < 0.01, "joining changed the tempo to {}", live.tempo_bpm());
        number(&alice.status(), "/link/peers") == 2.0 && (tempo(&alice) - 97.5).abs() < 0.01
    });
    eventually(seconds(5), "and is on the beat", || phase_error_ms(&alice, &live) < PHASE_LIMIT_MS);
}
