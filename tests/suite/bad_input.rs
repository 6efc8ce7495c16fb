//! Wrong arguments, broken files and nonsense on the wire: a clear word, and the music goes on.

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use std::io::{BufRead, BufReader, PipeWriter, Write, pipe};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Instant;
use tests::audio::{compare, noise, read_wav, silence};
use tests::{
    Client, Exit, Flood, Lan, Node, Options, bandmesh, eventually, eventually_some, number, open_ports,
    run_to_exit, seconds, seed, spray_datagrams, spray_tcp,
};

/// A pipe has room for this many bytes, or is full.
const PAGE_BYTES: usize = 4096;
/// What garbage may cost in memory: the bounded tables and buffers, no more.
const MEMORY_BYTES: u64 = 32 << 20;

/// The program refused with exit code 2 and one line that says `said`.
#[track_caller]
fn refused(exit: &Exit, said: &str) {
    assert_eq!(exit.code, 2, "{exit:?}");
    let lines: Vec<&str> = exit.stderr.lines().filter(|line| !line.trim().is_empty()).collect();
    assert_eq!(lines.len(), 1, "one clear line: {exit:?}");
    assert!(lines[0].contains(said), "{exit:?} does not say {said:?}");
    assert!(!exit.stderr.contains("panicked"), "{exit:?}");
}

#[test]
fn wrong_arguments_exit_2_with_one_line_that_names_them() {
    let lan = Lan::new(1);
    for (arguments, said) in [
        (&["up", "--perod", "128"][..], "--perod"),
        (&["up", "--period", "many"], "many"),
        (&["up", "--period", "7"], "7"),
        (&["up", "--codec", "mp3"], "mp3"),
        (&["up", "--listen", "nowhere"], "nowhere"),
        (&["up", "--http", "127.0.0.1"], "127.0.0.1"),
        (&["up", "--peer", "not-a-multiaddr"], "not-a-multiaddr"),
        (&["play"], "play"),
        (&["join"], "INVITE"),
    ] {
        refused(&run_to_exit(lan.host(0), arguments, seconds(5)), said);
    }
}

#[test]
fn a_corrupt_config_exits_2_and_names_file_and_line() {
    let lan = Lan::new(1);
    for (text, said) in [
        ("name = \"Alice\"\nperiod = = 128\n", "config.toml"),
        ("name = \"Alice\"\nperoid = 128\n", "peroid"),
        ("period = \"often\"\n", "period"),
        ("\u{0}\u{1}\u{2}", "config.toml"),
    ] {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("config.toml"), text).unwrap();
        let path = directory.path().to_str().unwrap();
        let exit = run_to_exit(lan.host(0), &["up", "--headless", "--data-dir", path], seconds(5));
        refused(&exit, said);
    }
}

#[test]
fn a_missing_device_says_which_and_how_to_list_them() {
    let lan = Lan::new(1);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_str().unwrap();
    for audio in ["No Such Card", "file:/no/such/file.wav", "jack"] {
        let arguments =
            ["up", "--headless", "--no-mdns", "--http", "127.0.0.1:0", "--data-dir", path, "--audio", audio];
        let exit = run_to_exit(lan.host(0), &arguments, seconds(10));
        // Whether a server runs is nothing one can type wrongly.
        assert_eq!(exit.code, if audio == "jack" { 1 } else { 2 }, "{audio}: {exit:?}");
        let named = audio.trim_start_matches("file:");
        assert!(exit.stderr.to_lowercase().contains(&named.to_lowercase()), "{audio}: {exit:?}");
        assert!(!exit.stderr.contains("panicked"), "{exit:?}");
    }
}

#[test]
fn an_address_this_machine_does_not_have_is_a_wrong_argument() {
    let lan = Lan::new(1);
    for (option, address) in [("--listen", "192.0.2.7:7778"), ("--http", "192.0.2.7:7780")] {
        let exit = run_to_exit(
            lan.host(0),
            &["up", "--headless", "--audio", "null", "--no-mdns", "--no-link", option, address],
            seconds(10),
        );
        assert_eq!(exit.code, 2, "{option}: {exit:?}");
        assert!(exit.stderr.contains(address) && exit.stderr.contains(option), "{exit:?}");
    }
}

#[test]
fn a_data_directory_that_cannot_be_one_or_is_in_use_is_named() {
    let lan = Lan::new(1);
    let node = Node::start(lan.host(0), Options::named("Alice").with(&["--no-mdns", "--no-link"]));
    let taken = node.data_dir();
    for (path, said) in [("/dev/null/data", "/dev/null/data"), (taken.to_str().unwrap(), "--data-dir")] {
        let arguments = ["up", "--headless", "--audio", "null", "--no-mdns", "--no-link", "--data-dir", path];
        let exit = run_to_exit(lan.host(0), &arguments, seconds(10));
        assert_eq!(exit.code, 1, "{exit:?}");
        assert!(exit.stderr.contains(path) && exit.stderr.contains(said), "{exit:?}");
    }
    // The one that was there first plays on.
    assert_eq!(node.status()["peer_id"], node.id());
}

#[test]
fn a_terminal_that_is_not_read_keeps_no_node_from_its_work_nor_from_its_end() {
    let lan = Lan::new(1);
    let home = tempfile::tempdir().unwrap();
    // A terminal that takes nothing from the first line of the log on.
    let (_unread, mut terminal) = pipe().unwrap();
    let is_full = |terminal: &PipeWriter| {
        poll(&mut [PollFd::new(terminal.as_fd(), PollFlags::POLLOUT)], PollTimeout::ZERO) == Ok(0)
    };
    while !is_full(&terminal) {
        terminal.write_all(&[b' '; PAGE_BYTES]).unwrap();
    }
    let mut child = lan
        .host(0)
        .command(bandmesh())
        .args(["up", "--json", "--headless", "--audio", "null", "--no-mdns", "--no-link"])
        .args(["--http", "127.0.0.1:0", "--listen", "[::]:0", "--data-dir", home.path().to_str().unwrap()])
        .env("RUST_LOG", "trace")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(terminal)
        .spawn()
        .expect("start bandmesh");
    let mut ready = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut ready).expect("read what it says");
    let ready: serde_json::Value = serde_json::from_str(&ready).expect("the ready line");
    let token = std::fs::read_to_string(ready["token_file"].as_str().unwrap()).expect("read the token");
    let api = Client::new(lan.host(0), ready["http"].as_str().unwrap(), token.trim());

    let at = number(&api.get("/status").ok(), "/uptime_s");
    eventually(seconds(10), "the node plays on", || number(&api.get("/status").ok(), "/uptime_s") > at + 0.5);
    let asked = Instant::now();
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), Signal::SIGTERM).expect("ask it to end");
    let status = eventually_some(seconds(10), "it ends", || child.try_wait().unwrap());
    let took = asked.elapsed();
    assert_eq!(status.code(), Some(0));
    assert!(took < seconds(2), "{took:?}");
}

#[test]
fn occupied_default_ports_give_way_to_free_ones() {
    let lan = Lan::new(1);
    if !lan.can("default ports, on a host of its own") {
        return;
    }
    let host = lan.host(0);
    let _udp4 = host.run(|| UdpSocket::bind("0.0.0.0:7778")).unwrap();
    let _udp6 = host.run(|| UdpSocket::bind("[::1]:7778"));
    let _tcp = host.run(|| TcpListener::bind("127.0.0.1:7780")).unwrap();
    let node = Node::start(host, Options::named("Alice").with(&["--http", "127.0.0.1:7780"]));
    assert_ne!(node.api().address().port(), 7780);
    let (udp, _) = open_ports(&node);
    let listen = node.ready()["listen"].as_array().expect("listen").clone();
    assert!(!listen.is_empty());
    for address in listen {
        let address = address.as_str().unwrap().to_owned();
        assert!(!address.contains("/udp/7778/"), "{address}");
        assert!(
            udp.iter().any(|port| address.contains(&format!("/udp/{port}/"))),
            "{address} is not open: {udp:?}"
        );
    }
}

/// The files that hold the project: the largest under the data directory that is no text.
fn database(directory: &Path) -> PathBuf {
    let mut files: Vec<PathBuf> = Vec::new();
    let mut folders = vec![directory.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() { folders.push(path) } else { files.push(path) }
        }
    }
    files.retain(|path| path.extension().is_some_and(|ext| ext == "redb"));
    assert_eq!(files.len(), 1, "one database in {}: {files:?}", directory.display());
    files.remove(0)
}

#[test]
fn a_damaged_database_is_kept_aside_and_the_node_starts() {
    let seed = seed("where the database is damaged");
    let lan = Lan::new(1);
    type Damage = fn(&mut Vec<u8>, u64);
    let damages: [(&str, Damage); 5] = [
        ("emptied", |bytes, _| bytes.clear()),
        ("cut in half", |bytes, _| bytes.truncate(bytes.len() / 2)),
        ("cut to a few bytes", |bytes, _| bytes.truncate(7)),
        ("overwritten at the front", |bytes, seed| {
            bytes.iter_mut().take(4096).for_each(|b| *b ^= (seed | 1) as u8)
        }),
        ("replaced by text", |bytes, _| *bytes = b"this is not a database\n".repeat(500)),
    ];
    for (what, damage) in damages {
        let mut node = Node::start(lan.host(0), Options::named("Alice").with(&["--no-mdns", "--no-link"]));
        node.edit(json!([{"op": "add", "address": "/tracks", "value": {"name": "Bass", "kind": "audio"}}]));
        let id = node.id().to_owned();
        node.stop();
        let path = database(&node.data_dir());
        let mut bytes = std::fs::read(&path).unwrap();
        damage(&mut bytes, seed);
        std::fs::write(&path, &bytes).unwrap();
        node.restart();
        assert_eq!(node.id(), id, "{what}: the identity is another file");
        node.edit(json!([{"op": "add", "address": "/tracks", "value": {"name": "After", "kind": "audio"}}]));
        let folder = path.parent().unwrap();
        let kept = std::fs::read_dir(folder)
            .unwrap()
            .flatten()
            .any(|entry| entry.path() != path && std::fs::read(entry.path()).is_ok_and(|kept| kept == bytes));
        assert!(kept, "{what}: the damaged file is not kept");
        let log = node.log();
        assert!(log.contains("bad"), "{what}: the log does not say what was done with it:\n{log}");
    }
}

#[test]
fn garbage_at_every_open_port_is_not_heard() {
    let seed = seed("garbage");
    let lan = Lan::alone(3);
    let plays = noise(seed, 30.0);
    let mut alice = Node::player(lan.host(0), Options::named("Alice"), &plays);
    let mut bob = Node::player(lan.host(1), Options::named("Bob"), &silence());
    alice.restart();
    bob.restart();
    eventually(seconds(4), "Bob hears Alice", || bob.hears(&alice));
    let memory = bob.memory_bytes();
    let before = bob.status();

    let (udp, tcp) = open_ports(&bob);
    assert!(!udp.is_empty() && !tcp.is_empty(), "{udp:?} {tcp:?}");
    eprintln!("Bob has UDP {udp:?} and TCP {tcp:?} open");
    let attacker = lan.host(2);
    for port in &udp {
        for address in
            [SocketAddr::from((bob.host().ipv4(), *port)), SocketAddr::from((bob.host().ipv6(), *port))]
        {
            spray_datagrams(attacker, address, 10_000, seed);
        }
    }
    for port in &tcp {
        spray_tcp(attacker, SocketAddr::from((bob.host().ipv4(), *port)), 50, seed);
        // What listens on loopback only can be reached from Bob's own host.
        spray_tcp(bob.host(), SocketAddr::from(([127, 0, 0, 1], *port)), 500, seed);
    }

    assert!(bob.is_alive());
    let after = bob.status();
    let grown = bob.memory_bytes().saturating_sub(memory);
    eprintln!("Bob's memory grew by {} KiB", grown >> 10);
    assert!(grown < MEMORY_BYTES, "{grown} bytes");
    let xruns = number(&after, "/audio/xruns") - number(&before, "/audio/xruns");
    eprintln!("xruns meanwhile: {xruns}");
    assert_eq!(bob.peers().len(), 1, "no peer was made up");
    assert_eq!(bob.heads(), alice.heads());
    bob.stop();
    let delivery = compare(&plays, &read_wav(&bob.recording())).expect("Alice is in Bob's recording");
    eprintln!("Bob recorded Alice: {delivery}");
    assert!(delivery.longest_gap_ms() < 100.0, "{delivery}");
    assert!(!bob.log().contains("panicked"), "{}", bob.log());
}

#[test]
fn players_meet_amid_thousands_who_do_not_exist_and_the_music_goes_on() {
    let seed = seed("made-up players");
    let lan = Lan::alone(3);
    if !lan.can("a flood of mDNS") {
        return;
    }
    let flood = Flood::start(lan.host(2), seed);
    eventually(seconds(20), "the LAN is full of them", || flood.sent() > 5_000);
    let plays = noise(seed, 30.0);
    let mut alice = Node::player(lan.host(0), Options::named("Alice"), &plays);
    let mut bob = Node::player(lan.host(1), Options::named("Bob"), &silence());
    alice.launch();
    bob.launch();
    alice.await_ready();
    bob.await_ready();
    // Two processors send the flood, too.
    let met = eventually(seconds(6), "Bob hears Alice", || bob.hears(&alice));
    eprintln!("Bob hears Alice after {met:?}, with {} players made up", flood.sent());

    let (memory, begun) = (bob.memory_bytes(), flood.sent());
    eventually(seconds(60), "as many again were made up", || flood.sent() > begun + 10_000);
    let grown = bob.memory_bytes().saturating_sub(memory);
    eprintln!("Bob's memory grew by {} KiB", grown >> 10);
    assert!(grown < MEMORY_BYTES, "{grown} bytes");
    assert_eq!(bob.peers().len(), 1, "no peer was made up");
    bob.stop();
    let delivery = compare(&plays, &read_wav(&bob.recording())).expect("Alice is in Bob's recording");
    eprintln!("Bob recorded Alice: {delivery}");
    assert!(delivery.longest_gap_ms() < 100.0, "{delivery}");
}
