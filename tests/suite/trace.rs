//! What a node decided in a real session is decided again from its trace.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use tests::audio::noise;
use tests::{Lan, Node, Options, eventually, ms, number, seconds, seed, simulator};

/// A player of noise whose trace is at the returned path.
fn traced_player(lan: &Lan, host: usize, name: &str, seed: u64) -> (Node, PathBuf) {
    let mut node = Node::player(lan.host(host), Options::named(name), &noise(seed, 60.0));
    let trace = node.scratch("trace.pcapng");
    let file = trace.display().to_string();
    node.set_options(|options| options.with(&["--trace", &file, "--no-link"]));
    node.restart();
    (node, trace)
}

/// Exit code and summary of `bandmesh-sim replay`.
fn replay(trace: &Path) -> (i32, Value) {
    let output = Command::new(simulator()).args(["replay", "--json"]).arg(trace).output().expect("run it");
    let told = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
        panic!("{error}: {}", String::from_utf8_lossy(&output.stderr));
    });
    (output.status.code().expect("no signal"), told)
}

#[test]
fn a_session_is_decided_again_from_its_trace() {
    let seed = seed("noise of both");
    let lan = Lan::new(2);
    let (mut alice, alice_trace) = traced_player(&lan, 0, "Alice", seed);
    let (mut bob, bob_trace) = traced_player(&lan, 1, "Bob", seed + 1);
    let meet = |alice: &Node, bob: &Node| {
        eventually(seconds(10), "they hear each other", || alice.hears(bob) && bob.hears(alice));
        std::thread::sleep(ms(2_000));
    };
    meet(&alice, &bob);
    alice.api().put("/transport", &json!({"tempo_bpm": 97.5, "playing": true})).ok();
    bob.edit(json!([{"op": "set", "address": "/transport/tempo_bpm", "value": 140.0}]));
    std::thread::sleep(ms(300));
    bob.kill();
    let killed = bob.scratch("killed.pcapng");
    std::fs::copy(&bob_trace, &killed).expect("keep his trace");
    eventually(seconds(10), "Bob is missed", || alice.peers().iter().all(|peer| peer["state"] == "away"));
    bob.restart();
    meet(&alice, &bob);
    assert_eq!(alice.stop().0, 0);
    assert_eq!(bob.stop().0, 0);

    for (whose, trace, complete) in
        [("Alice", &alice_trace, true), ("Bob, killed", &killed, false), ("Bob, back", &bob_trace, true)]
    {
        let (code, told) = replay(trace);
        eprintln!("{whose}: {told}");
        assert_eq!((code, &told["equal"]), (0, &json!(true)), "{whose}: {told:#}");
        assert_eq!(told["complete"], json!(complete), "{whose}");
        let compared = |kind: &str| number(&told, &format!("/compared/{kind}"));
        // Two seconds and more at 375 periods a second.
        for (kind, least) in [
            ("callbacks", 700.0),
            ("source_callbacks", 700.0),
            ("datagrams", 700.0),
            ("blocks", 700.0),
            ("clock_estimates", 30.0),
            ("session_outputs", 4.0),
            ("session_frames", 4.0),
            ("project_outputs", 2.0),
            ("project_states", 1.0),
        ] {
            assert!(compared(kind) >= least, "{whose}: {} {kind}", compared(kind));
        }
        holds_no_secret(trace, if whose == "Alice" { &alice } else { &bob });
    }
    one_changed_sample_is_found(&alice_trace);
    wireshark_shows_the_packets(&alice_trace);
}

/// One octet of sound in the middle of the trace is another.
fn one_changed_sample_is_found(trace: &Path) {
    let mut bytes = std::fs::read(trace).expect("read the trace");
    // From 10.77.1.1 to 10.77.0.1, both on UDP port 5004; then length, checksum and the header of RTP.
    let pattern = [10, 77, 1, 1, 10, 77, 0, 1, 0x13, 0x8C, 0x13, 0x8C];
    let packets: Vec<usize> = bytes
        .windows(pattern.len())
        .enumerate()
        .filter_map(|(at, window)| (window == pattern).then_some(at))
        .collect();
    let at = packets[packets.len() / 2] + pattern.len() + 4 + 12 + 50;
    bytes[at] ^= 0x10;
    let tampered = trace.with_extension("tampered");
    std::fs::write(&tampered, bytes).expect("write the changed trace");
    let (code, told) = replay(&tampered);
    assert_eq!((code, &told["equal"]), (1, &json!(false)));
    let difference = &told["difference"];
    eprintln!("one octet changed: {difference:#}");
    let octet = number(difference, "/octet") as usize;
    assert!(octet < at && at < octet + 600, "found in the record at {octet}, changed at {at}");
    assert!(difference["recorded"] != difference["replayed"]);
    assert!(!difference["context"].as_array().expect("context").is_empty());
}

/// Neither the secret key nor the token is anywhere in the file.
fn holds_no_secret(trace: &Path, node: &Node) {
    let bytes = std::fs::read(trace).expect("read the trace");
    let mut looked_for = 0;
    for entry in std::fs::read_dir(node.data_dir()).expect("list the data directory") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        if name != "identity.key" && !name.contains("token") {
            continue;
        }
        let secret = std::fs::read(&path).expect("read a secret");
        let secret = secret.trim_ascii();
        looked_for += 1;
        // Any 16 octets of it in a row would do.
        for piece in secret.windows(16).step_by(8) {
            assert!(!bytes.windows(16).any(|window| window == piece), "a piece of {name} is in the trace");
        }
    }
    assert!(looked_for >= 2, "the node has secrets");
}

/// Left out, saying so, where tshark is not installed.
fn wireshark_shows_the_packets(trace: &Path) {
    let tshark = Command::new("tshark")
        .args(["-n", "-d", "udp.port==5004,rtp", "-Y", "rtp", "-T", "fields", "-e", "rtp.ssrc", "-r"])
        .arg(trace)
        .output();
    let Ok(output) = tshark else {
        eprintln!("LEFT OUT without tshark: that Wireshark opens a trace");
        return;
    };
    let shown = String::from_utf8_lossy(&output.stdout);
    let streams: std::collections::BTreeSet<&str> = shown.lines().collect();
    eprintln!("tshark shows {} RTP packets of {} streams", shown.lines().count(), streams.len());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    // Alice's, and Bob's before and after.
    assert!(shown.lines().count() > 2_000 && streams.len() == 3, "{streams:?}");
}

#[test]
fn a_trace_that_cannot_be_written_stops_the_start_and_says_why() {
    let lan = Lan::new(1);
    let arguments = ["up", "--audio", "null", "--http", "127.0.0.1:0", "--headless"];
    let folder = tempfile::tempdir().expect("a folder");
    let home = folder.path().join("home").display().to_string();
    let exit = tests::run_to_exit(
        lan.host(0),
        &[&arguments[..], &["--data-dir", &home, "--trace", "/nonexistent/trace.pcapng"]].concat(),
        Duration::from_secs(10),
    );
    assert_eq!(exit.code, 1, "{exit:?}");
    assert!(exit.stderr.contains("/nonexistent/trace.pcapng"), "{exit:?}");
}
