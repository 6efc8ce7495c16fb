//! Two players on a bad link, and players behind NATs: what they are shown is what they have.

use std::time::Duration;
use tests::audio::{compare, noise, read_wav, to_ms};
use tests::{BadLink, Lan, NatLab, Node, Options, eventually, number, seconds, seed};

/// Seconds of noise the two play to each other.
const JAM_S: f64 = 16.0;
/// When their figures are read.
const LISTENED_S: f64 = 12.0;
/// The link's loss, and how far from it so few packets may be: 4.9 sigma of 3,000 packets.
const LOSS: f64 = 0.02;
const LOSS_ERROR: f64 = 0.0125;
/// Of the preset `wifi`: the shortest delay, and its 95th percentile.
const SHORTEST_MS: f64 = 1.6;
const P95_MS: f64 = 5.0;

/// The multiaddr of a node on its default port.
fn dial(address: std::net::Ipv4Addr) -> String {
    format!("/ip4/{address}/udp/7778/quic-v1")
}

#[test]
fn two_players_on_bad_wifi_hear_each_other_and_are_told_how_bad_it_is() {
    let seed = seed("noise of Alice, and one more for Bob");
    let lan = Lan::alone(2);
    if !lan.can("a bad link between two players") {
        return;
    }
    let link =
        BadLink::between(lan.host(0), lan.host(1), &["--preset", "wifi", "--loss", "2%", "--seed", "5"]);
    let (alice_plays, bob_plays) = (noise(seed, JAM_S), noise(seed + 1, JAM_S));
    let player = |host: usize, options: Options, play: &[f32]| {
        let mut node = Node::player(lan.host(host), options.with(&["--no-mdns", "--no-link"]), play);
        node.restart();
        let heard = node.recording();
        (node, heard)
    };
    let (mut alice, alice_heard) = player(0, Options::named("Alice"), &alice_plays);
    let (mut bob, bob_heard) =
        player(1, Options::named("Bob").with(&["--peer", &dial(BadLink::A)]), &bob_plays);
    eventually(seconds(5), "Alice and Bob hear each other", || alice.hears(&bob) && bob.hears(&alice));
    let listened = || number(&bob.status(), "/uptime_s") > LISTENED_S;
    eventually(Duration::from_secs_f64(JAM_S), "they have played for a while", listened);
    let (of_bob, of_alice) = (alice.peer(&bob), bob.peer(&alice));
    assert_eq!(alice.stop().0, 0);
    assert_eq!(bob.stop().0, 0);
    let report = link.stop();
    eprintln!("the link: {report}");

    for (whose, figures, way) in [("Bob", &of_bob, "b_to_a"), ("Alice", &of_alice, "a_to_b")] {
        eprintln!("said of {whose}: {figures}");
        let counted = number(&report, &format!("/{way}/loss"));
        assert!((counted - LOSS).abs() < LOSS_ERROR, "the link lost {counted}");
        let (received, lost) = (number(figures, "/audio/received"), number(figures, "/audio/lost"));
        let said = lost / (received + lost);
        eprintln!("lost: asked for {LOSS}, the link says {counted:.4}, the node {said:.4}");
        assert!((said - LOSS).abs() < LOSS_ERROR, "lost {lost} of {}", received + lost);
        let rtt_ms = number(figures, "/rtt_ms");
        assert!((2.0 * SHORTEST_MS..2.0 * P95_MS + 40.0).contains(&rtt_ms), "{rtt_ms}");
        // Access delays of 1 ms in the mean differ from one packet to the next by about as much; holds add to it.
        let jitter_ms = number(figures, "/audio/jitter_ms");
        assert!((0.2..P95_MS + 5.0).contains(&jitter_ms), "{jitter_ms}");
        let one_way_ms = number(figures, "/audio/one_way_ms");
        assert!((SHORTEST_MS + 1.0..60.0).contains(&one_way_ms), "{one_way_ms}");
    }

    let to_bob =
        compare(&alice_plays, &read_wav(&bob_heard)).expect("Bob's recording holds what Alice played");
    let to_alice = compare(&bob_plays, &read_wav(&alice_heard)).expect("and Alice's what Bob played");
    eprintln!("Bob recorded Alice: {to_bob}\nAlice recorded Bob: {to_alice}");
    for delivery in [&to_bob, &to_alice] {
        let [from, to] = delivery.span_frames.map(|frame| to_ms(frame as f64) / 1e3);
        assert!(to - from > LISTENED_S - 5.0, "heard only from {from} s to {to} s");
    }
    // Both latencies together, by the recordings and by the nodes. Over such a link the playout delay is adjusted all
    // the time: the nodes' figure is of a moment, and must be among those of the recordings.
    let sum_ms = |lag: usize| to_ms(to_bob.lag_frames[lag] + to_alice.lag_frames[lag]);
    let said_ms = number(&of_alice, "/audio/one_way_ms") + number(&of_bob, "/audio/one_way_ms");
    let (least, most) = (sum_ms(0), sum_ms(2));
    eprintln!(
        "mouth to ear, both ways together: {least:.2} to {most:.2} ms by the recordings, {said_ms:.2} by the nodes"
    );
    assert!((least - 4.0..most + 4.0).contains(&said_ms), "one_way_ms is not true");
}

#[test]
fn players_behind_nats_reach_a_public_one() {
    let kinds = ["full-cone", "restricted", "port-restricted", "symmetric"];
    let Some(lab) = NatLab::new("players behind NATs", &kinds) else { return };
    let public = Node::start(lab.public(), Options::named("Public"));
    let peer = dial(lab.public().ipv4());
    for (router, kind) in kinds.iter().enumerate() {
        let mut inside = Node::start(lab.behind(router), Options::named(kind).with(&["--peer", &peer]));
        eventually(seconds(5), &format!("both hear each other through {kind}"), || {
            public.hears(&inside) && inside.hears(&public)
        });
        let seen = public.peer(&inside)["address"].as_str().unwrap_or_default().to_owned();
        eprintln!("{kind}: seen at {seen}");
        assert!(seen.contains(lab.outside(router)), "seen at {seen}, not at {}", lab.outside(router));
        assert_eq!(inside.stop().0, 0);
    }
}
