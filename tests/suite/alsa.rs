//! Sound cards through ALSA. The card is ALSA's own plugin for JACK, so real streams run in a real server's time.

use std::fs;

use tests::audio::{compare, frames, noise, to_ms};
use tests::{JackServer, Lan, Node, Options, eventually, number, run_to_exit, seconds, seed};

const RATE_HZ: u32 = 48_000;
const PERIOD_FRAMES: u32 = 128;
/// Playing before measuring, so that the playout delay has settled.
const SETTLING_S: f64 = 5.0;
const LENGTH_S: f64 = 8.0;

/// A sound card called `studio` whose two inputs and outputs are ports of the JACK server.
const CARD: &str = r#"
</usr/share/alsa/alsa.conf>
pcm.studio {
    type plug
    slave.pcm {
        type jack
        playback_ports { 0 system:playback_1 1 system:playback_2 }
        capture_ports { 0 system:capture_1 1 system:capture_2 }
    }
    hint { show on description "Studio" }
}
"#;

/// The port of the client that the plugin made for the process's capture (`C`) or playback (`P`).
fn port(server: &JackServer, node: &Node, direction: char, name: &str) -> String {
    let client = format!("bandmesh.{direction}.{}.", node.process_id());
    let ports = server.ports();
    let found = ports.iter().find(|port| port.starts_with(&client) && port.ends_with(name));
    found.unwrap_or_else(|| panic!("no {name} of {client} in {ports:?}")).clone()
}

#[test]
fn a_player_at_an_alsa_card_hears_another() {
    let seed = seed("noise");
    let lan = Lan::alone(2);
    let server = JackServer::start(RATE_HZ, PERIOD_FRAMES);
    let scratch = tempfile::tempdir().expect("a temporary directory");
    let card = scratch.path().join("asound.conf");
    fs::write(&card, CARD).expect("describe the card");
    let player = |host: usize, name: &str| {
        let mut options =
            Options::named(name).audio("studio").env("ALSA_CONFIG_PATH", card.to_str().unwrap());
        for (key, value) in JackServer::environment() {
            options = options.env(key, value);
        }
        Node::start(lan.host(host), options)
    };
    let (mut a, mut b) = (player(0, "A"), player(1, "B"));
    for node in [&a, &b] {
        let status = node.status();
        assert_eq!(status["audio"]["host"], "alsa", "{status}");
        assert_eq!(status["audio"]["device"], "studio", "{status}");
        assert_eq!(number(&status, "/audio/rate_hz"), f64::from(RATE_HZ));
    }
    eventually(seconds(5), "B hears A", || b.hears(&a));

    let sent = noise(seed, SETTLING_S + LENGTH_S);
    let heard =
        server.play_through(&sent, &port(&server, &a, 'C', "in_000"), &port(&server, &b, 'P', "out_000"));
    let from = frames(SETTLING_S);
    let delivery = compare(&sent[from..], &heard.samples[from..]).expect("B gives out what A was given");
    eprintln!("from card to card: {delivery}; one period is {:.2} ms", to_ms(f64::from(PERIOD_FRAMES)));
    eprintln!("B says of A: {}", b.peer(&a)["audio"]);
    assert!(delivery.lag_ms() < 60.0, "{delivery}");
    for node in [&mut a, &mut b] {
        assert_eq!(node.stop().0, 0);
    }
}

#[test]
fn devices_are_listed_without_the_library_s_own_complaints() {
    let lan = Lan::new(1);
    let exit = run_to_exit(lan.host(0), &["devices"], seconds(10));
    assert_eq!(exit.code, 0, "{exit:?}");
    assert!(!exit.stderr.contains("ALSA lib"), "{}", exit.stderr);
    for name in ["null", "jack"] {
        let lines = exit.stdout.lines().filter(|line| line.split_whitespace().next() == Some(name)).count();
        assert!(lines <= 1, "{name} is offered {lines} times:\n{}", exit.stdout);
    }
}
