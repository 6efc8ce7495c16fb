//! Somebody alone, with a band.

use serde_json::Value;
use tests::audio::{first_sound, read_wav, silence};
use tests::{Lan, Node, Options, eventually, number, seconds};

/// The bandmates that are there and heard, by id.
fn heard(node: &Node) -> Vec<String> {
    let playing = |peer: &Value| {
        peer["state"] == "connected" && peer["audio"]["received"].as_u64().is_some_and(|count| count > 0)
    };
    let peers = node.peers();
    peers.iter().filter(|p| playing(p)).map(|p| p["peer_id"].as_str().expect("peer_id").into()).collect()
}

#[test]
fn an_end_does_not_wait_for_bandmates_who_are_being_started() {
    let lan = Lan::new(1);
    let options = Options::named("Alice").demo().with(&["--bandmates", "7"]);
    let mut alice = Node::start(lan.host(0), options);
    let (code, took) = alice.stop();
    assert_eq!(code, 0);
    assert!(took < seconds(2), "{took:?}");
}

#[test]
fn somebody_alone_hears_a_band_of_which_one_leaves_and_comes_back() {
    let lan = Lan::alone(1);
    let mut alice = Node::player(lan.host(0), Options::named("Alice").demo(), &silence());
    alice.restart();
    let took = eventually(seconds(10), "three bandmates are heard", || heard(&alice).len() == 3);
    eprintln!("three bandmates {took:?} after ready");
    let band = heard(&alice);
    eventually(seconds(5), "they play", || {
        let status = alice.status();
        status["link"]["playing"] == true && number(&status, "/audio/output_peak_db") > -40.0
    });

    alice.type_line("kill drums");
    eventually(seconds(8), "the drummer is gone, the others play on", || heard(&alice).len() == 2);
    let stayed = heard(&alice);
    alice.type_line("start drums");
    let back = eventually(seconds(8), "the drummer is back, as the same player", || {
        let mut now = heard(&alice);
        now.sort();
        let mut all = band.clone();
        all.sort();
        now == all
    });
    eprintln!("the drummer was back after {back:?}");
    assert!(stayed.iter().all(|id| band.contains(id)));

    let (code, took) = alice.stop();
    assert_eq!(code, 0);
    assert!(took < seconds(2), "{took:?}");
    assert!(first_sound(&read_wav(&alice.recording())).is_some(), "Alice has heard nothing");
    assert!(!alice.log().contains("panicked"), "{}", alice.log());
}
