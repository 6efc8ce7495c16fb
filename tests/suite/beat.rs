//! One beat for two nodes and somebody else's Link app.

use serde_json::json;
use std::time::{Duration, Instant};
use tests::{Lan, LinkApp, Node, Options, eventually, number, seconds};

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
    let mut best = (Duration::MAX, 0.0);
    for _ in 0..20 {
        let (began, before) = (Instant::now(), app.phase(QUANTUM));
        let said = number(&node.status(), "/link/phase");
        let (took, after) = (began.elapsed(), app.phase(QUANTUM));
        let middle = before + (after - before).rem_euclid(QUANTUM) / 2.0;
        if took < best.0 {
            let error = (said - middle + QUANTUM / 2.0).rem_euclid(QUANTUM) - QUANTUM / 2.0;
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
