//! The emulator as scripts and tests use it: as a process, with real sockets and real namespaces.
//!
//! What packets meet is judged in virtual time by `emulator_statistics`; here, that the process does to real packets
//! what it decided, how much it adds, and that it leaves nothing behind.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "test code: a failed step ends its test; figures are printed for the reader"
)]

#[path = "emulator/process.rs"]
mod process;

use std::{
    net::{SocketAddr, UdpSocket},
    sync::{Mutex, MutexGuard},
    time::{Duration, Instant},
};

use process::{Emulator, Place, can_have_namespaces, number, sim};
use serde_json::Value;

/// A standard normal variable is beyond this once in a million.
const SIGMAS: f64 = 4.9;
/// What the emulator may add, ms.
const ADDED_MS: f64 = 0.2;
/// How long a receiver waits for more: longer than any delay used here.
const QUIET: Duration = Duration::from_millis(500);

/// Tests that measure time do not run beside each other.
fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// A packet as it came.
struct Arrival {
    number: usize,
    at: Instant,
    bytes: Vec<u8>,
}

/// Sends `count` packets of `octets` payload every `every`, and returns when each was sent and what came at `to`.
fn stream(
    from: &UdpSocket,
    through: SocketAddr,
    to: &UdpSocket,
    count: usize,
    octets: usize,
    every: Duration,
) -> (Vec<Instant>, Vec<Arrival>) {
    to.set_read_timeout(Some(QUIET)).unwrap();
    std::thread::scope(|scope| {
        let receiving = scope.spawn(|| {
            let mut arrivals = Vec::new();
            let mut bytes = [0; 2_048];
            while let Ok(length) = to.recv(&mut bytes) {
                let bytes = bytes[..length].to_vec();
                let number = usize::from(u16::from_be_bytes([bytes[0], bytes[1]]));
                arrivals.push(Arrival { number, at: Instant::now(), bytes });
            }
            arrivals
        });
        let begun = Instant::now();
        let sent = (0..count)
            .map(|number| {
                let due = every * number as u32;
                std::thread::sleep(due.saturating_sub(begun.elapsed()));
                let mut bytes = vec![0xA5; octets];
                bytes[..2].copy_from_slice(&(number as u16).to_be_bytes());
                let now = Instant::now();
                from.send_to(&bytes, through).unwrap();
                now
            })
            .collect();
        (sent, receiving.join().unwrap())
    })
}

fn local() -> UdpSocket {
    UdpSocket::bind("127.0.0.1:0").unwrap()
}

fn between(target: &UdpSocket, arguments: &[&str]) -> Emulator {
    let flow = format!("127.0.0.1:0={}", target.local_addr().unwrap());
    Emulator::link(&[&["--udp", &flow], arguments].concat())
}

/// Compares a share of `count` with what was asked for.
fn assert_share(what: &str, seen: usize, count: usize, share: f64) {
    let error = SIGMAS * (share * (1.0 - share) / count as f64).sqrt();
    let seen = seen as f64 / count as f64;
    eprintln!("{what:12} {:6.2} %, asked for {:.2} within {:.2}", 100.0 * seen, 100.0 * share, 100.0 * error);
    assert!((seen - share).abs() <= error, "{what}: {seen}, asked for {share} within {error}");
}

/// How many came once at least, how many came again, and how many came after one sent later.
fn tally(arrivals: &[Arrival], count: usize) -> (usize, usize, usize) {
    let mut seen = vec![false; count];
    let (mut again, mut late, mut newest) = (0, 0, 0);
    for arrival in arrivals {
        if std::mem::replace(&mut seen[arrival.number], true) {
            again += 1;
        } else if arrival.number < newest {
            late += 1;
        }
        newest = newest.max(arrival.number);
    }
    (seen.iter().filter(|seen| **seen).count(), again, late)
}

fn assert_adds_little(report: &Value) {
    let added = &report["own"]["added_ms"];
    eprintln!("added by the emulator: {added}, realtime {}", report["own"]["realtime"]);
    assert!(number(added, "/p50") < ADDED_MS, "{added}");
}

#[test]
fn real_packets_meet_what_was_asked_for() {
    let _turn = alone();
    let (count, bob) = (3_000, local());
    let asked = ["--delay-ms", "10", "--loss", "5%", "--duplicate", "3%", "--reorder", "4%", "--seed", "3"];
    let emulator = between(&bob, &asked);
    let (sent, came) = stream(&local(), emulator.listening(), &bob, count, 160, Duration::from_millis(1));
    let report = emulator.stop();

    let (arrived, again, late) = tally(&came, count);
    assert_share("lost", count - arrived, count, 0.05);
    assert_share("came twice", again, count, 0.95 * 0.03);
    assert_share("reordered", late, count, 0.95 * 0.04);
    let counts = &report["a_to_b"]["counts"];
    assert_eq!(counts["packets"], count, "{report}");
    assert_eq!(counts["lost"], count - arrived, "{report}");
    assert_eq!(counts["duplicated"], again, "{report}");
    assert_eq!(counts["reordered"], late, "{report}");
    assert_eq!(counts["overflow"], 0, "{report}");

    let mut delays_ms: Vec<f64> = came.iter().map(|a| (a.at - sent[a.number]).as_secs_f64() * 1e3).collect();
    delays_ms.sort_by(f64::total_cmp);
    let (least, median) = (delays_ms[0], delays_ms[delays_ms.len() / 2]);
    eprintln!("delay, asked for 10 ms: least {least:.3} ms, median {median:.3} ms by the receiver's clock");
    assert!(least >= 10.0, "{least}");
    // The receiver's own waking up is in it.
    assert!(median < 12.0, "{median}");
    assert_adds_little(&report);
}

#[test]
fn the_same_seed_does_the_same_to_every_packet_in_two_runs() {
    let _turn = alone();
    let run = |seed: &str| {
        let bob = local();
        let asked =
            ["--delay-ms", "2", "--loss", "20%", "--duplicate", "10%", "--corrupt", "5%", "--seed", seed];
        let emulator = between(&bob, &asked);
        let (_, came) = stream(&local(), emulator.listening(), &bob, 400, 100, Duration::from_millis(1));
        emulator.stop();
        // Without their order: a copy and the next packet are a tenth of a millisecond apart, and this process's
        // sleeps are not as exact.
        let mut came: Vec<Vec<u8>> = came.into_iter().map(|arrival| arrival.bytes).collect();
        came.sort();
        came
    };
    let first = run("5");
    assert!(first.len() > 200);
    assert!(first == run("5"), "the same seed did something else");
    assert!(first != run("6"), "another seed did the same");
}

#[test]
fn a_bottleneck_passes_its_rate_and_its_queue_and_no_more() {
    let _turn = alone();
    let (count, bob) = (750, local());
    let emulator = between(&bob, &["--rate-kbit", "2000", "--queue-ms", "50"]);
    // 1000 octets every 2 ms are 4 Mbit/s.
    let (sent, came) = stream(&local(), emulator.listening(), &bob, count, 972, Duration::from_millis(2));
    let report = emulator.stop();
    let span = (came[came.len() - 1].at - came[0].at).as_secs_f64();
    let kbps = (came.len() - 1) as f64 * 8.0 / span;
    let longest = came.iter().map(|a| (a.at - sent[a.number]).as_secs_f64() * 1e3).fold(0.0, f64::max);
    eprintln!("{kbps:.1} kbit/s passed, longest wait {longest:.2} ms, {} dropped", count - came.len());
    assert!((kbps / 2_000.0 - 1.0).abs() < 0.05, "{kbps}");
    assert!(number(&report, "/a_to_b/delay_ms/max") <= 54.0, "{report}");
    assert!(longest > 45.0, "{longest}");
    assert_eq!(report["a_to_b"]["counts"]["queue_full"], count - came.len(), "{report}");
    assert_eq!(report["a_to_b"]["counts"]["lost"], 0, "{report}");
}

#[test]
fn a_damaged_packet_differs_by_one_bit() {
    let bob = local();
    let emulator = between(&bob, &["--corrupt", "100%"]);
    bob.set_read_timeout(Some(QUIET)).unwrap();
    let alice = local();
    for _ in 0..20 {
        alice.send_to(&[0; 64], emulator.listening()).unwrap();
        let mut bytes = [0; 128];
        let length = bob.recv(&mut bytes).unwrap();
        let flipped: u32 = bytes[..length].iter().map(|byte| byte.count_ones()).sum();
        assert_eq!((length, flipped), (64, 1));
    }
    assert_eq!(emulator.stop()["a_to_b"]["counts"]["damaged"], 20);
}

#[test]
fn answers_go_back_to_the_client_that_asked() {
    let bob = local();
    let emulator = between(&bob, &["--preset", "lan"]);
    let clients = [local(), local(), local()];
    bob.set_read_timeout(Some(QUIET)).unwrap();
    let mut seen = Vec::new();
    for (index, client) in clients.iter().enumerate() {
        client.set_read_timeout(Some(QUIET)).unwrap();
        client.send_to(&[index as u8], emulator.listening()).unwrap();
        let mut byte = [0];
        let (_, from) = bob.recv_from(&mut byte).unwrap();
        assert_eq!(usize::from(byte[0]), index);
        seen.push(from);
    }
    // In another order than they asked.
    for (index, client) in clients.iter().enumerate().rev() {
        bob.send_to(&[100 + index as u8], seen[index]).unwrap();
        let mut byte = [0];
        client.recv(&mut byte).unwrap();
        assert_eq!(usize::from(byte[0]), 100 + index);
    }
    let report = emulator.stop();
    assert_eq!(
        (&report["a_to_b"]["counts"]["packets"], &report["b_to_a"]["counts"]["packets"]),
        (&3.into(), &3.into())
    );
}

#[test]
fn a_target_that_is_not_there_yet_does_not_end_the_link() {
    let bob = local();
    let target = bob.local_addr().unwrap();
    drop(bob);
    let emulator = Emulator::link(&["--udp", &format!("127.0.0.1:0={target}")]);
    let alice = local();
    for _ in 0..3 {
        alice.send_to(b"anybody?", emulator.listening()).unwrap();
        std::thread::sleep(Duration::from_millis(20));
    }
    let bob = UdpSocket::bind(target).unwrap();
    bob.set_read_timeout(Some(QUIET)).unwrap();
    // The first send after a refusal may be told of it instead of being sent.
    let came = (0..3).any(|_| {
        alice.send_to(b"anybody?", emulator.listening()).unwrap();
        bob.recv(&mut [0; 16]).is_ok()
    });
    assert!(came);
    emulator.stop();
}

#[test]
fn what_cannot_be_meant_is_answered_with_what_can() {
    for (arguments, code, wanted) in [
        (&["link", "--udp", "127.0.0.1:0=127.0.0.1:9", "--preset", "dsl"][..], 2, "conference-hotel"),
        (&["link", "--preset", "lan"], 2, "--udp"),
        (&["link", "--udp", "127.0.0.1:0", "--preset", "lan"], 2, "LISTEN=TARGET"),
        (&["link", "--udp", "127.0.0.1:0=127.0.0.1:9", "--loss", "2"], 2, "share"),
        (&["link", "--udp", "127.0.0.1:0=127.0.0.1:9", "--burst", "10"], 2, "--loss"),
        (
            &["link", "--udp", "127.0.0.1:0=127.0.0.1:9", "--trace-file", "/nonexistent/t"],
            2,
            "/nonexistent/t",
        ),
        (&["link", "--udp", "198.51.100.1:9=127.0.0.1:9"], 1, "198.51.100.1:9"),
        (&["link", "--tun", "no-such-namespace", "neither"], 1, "ip netns add"),
        (&["nat", "up", "--kind", "half-cone"], 2, "port-restricted"),
        (&["nat", "up", "--kind", "symmetric", "--name", "a-b"], 2, "lower-case"),
        (&["nat", "down", "--name", "nosuchlab"], 1, "nat list"),
        (&["nat", "probe", "--name", "nosuchlab"], 1, "nat list"),
    ] {
        let output = sim(arguments).output().unwrap();
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {complaint}");
        assert!(complaint.contains(wanted), "{arguments:?}: {complaint}");
    }
}

#[test]
fn a_recorded_path_is_replayed() {
    let file = std::env::temp_dir().join(format!("bandmesh-emulator-{}.csv", std::process::id()));
    let record = "# bandmesh path trace 1\ntime_ms,delay_ms,octets\n0,5,60\n75,lost,60\n175,20,60\n";
    std::fs::write(&file, record).unwrap();
    let bob = local();
    let emulator = between(&bob, &["--trace-file", file.to_str().unwrap()]);
    let (sent, came) = stream(&local(), emulator.listening(), &bob, 6, 60, Duration::from_millis(50));
    std::fs::remove_file(&file).unwrap();
    emulator.stop();
    let numbers: Vec<usize> = came.iter().map(|arrival| arrival.number).collect();
    assert_eq!(numbers, [0, 1, 4, 5], "of 50 ms steps the third and fourth met the loss");
    let delay_ms = |index: usize| (came[index].at - sent[came[index].number]).as_secs_f64() * 1e3;
    assert!(delay_ms(0) >= 5.0 && delay_ms(2) >= 20.0, "{} {}", delay_ms(0), delay_ms(2));
}

#[test]
fn two_namespaces_are_joined_by_the_link_that_was_asked_for() {
    let _turn = alone();
    if !can_have_namespaces("a link between namespaces") {
        return;
    }
    let (alice, bob) = (Place::new("a"), Place::new("b"));
    let tun =
        ["--tun", alice.name(), bob.name(), "--address-a", "10.66.0.1/24", "--address-b", "10.66.0.2/24"];
    let asked = ["--delay-ms", "4", "--loss", "5%", "--duplicate", "3%"];
    let emulator = Emulator::link(&[&tun[..], &asked].concat());
    let (from, to) = (alice.socket("10.66.0.1:0"), bob.socket("10.66.0.2:7000"));
    let count = 2_000;
    let (sent, came) = stream(&from, to.local_addr().unwrap(), &to, count, 160, Duration::from_millis(1));
    let report = emulator.stop();
    let (arrived, again, late) = tally(&came, count);
    assert_share("lost", count - arrived, count, 0.05);
    assert_share("came twice", again, count, 0.95 * 0.03);
    assert_eq!(late, 0);
    assert_eq!(report["a_to_b"]["counts"]["packets"], count, "nobody else spoke: {report}");
    assert_eq!(report["a_to_b"]["counts"]["lost"], count - arrived, "{report}");
    let least = came.iter().map(|a| (a.at - sent[a.number]).as_secs_f64() * 1e3).fold(f64::MAX, f64::min);
    assert!(least >= 4.0, "{least}");
    assert_adds_little(&report);
    assert!(!alice.has_device("bandlink0") && !bob.has_device("bandlink0"), "the devices are gone");
}

#[test]
fn a_perfect_link_adds_less_than_a_fifth_of_a_millisecond_each_way() {
    let _turn = alone();
    if !can_have_namespaces("what a link between namespaces adds") {
        return;
    }
    let (alice, bob) = (Place::new("c"), Place::new("d"));
    alice.ip(&format!("link add wire type veth peer name wire netns {}", bob.name()));
    for (place, address) in [(&alice, "10.67.0.1/24"), (&bob, "10.67.0.2/24")] {
        place.ip(&format!("addr add {address} dev wire\nlink set wire up"));
    }
    bob.wait_for_carrier("wire");
    let tun =
        ["--tun", alice.name(), bob.name(), "--address-a", "10.66.0.1/24", "--address-b", "10.66.0.2/24"];
    let emulator = Emulator::link(&tun);
    let by_wire = round_trip_ms(&alice.socket("10.67.0.1:0"), &bob.socket("10.67.0.2:7000"));
    let by_link = round_trip_ms(&alice.socket("10.66.0.1:0"), &bob.socket("10.66.0.2:7000"));
    let report = emulator.stop();
    let added_ms = (by_link - by_wire) / 2.0;
    eprintln!(
        "there and back: {by_wire:.3} ms by a veth pair, {by_link:.3} ms by the link: {added_ms:.3} ms each way"
    );
    assert_adds_little(&report);
    assert!(added_ms < ADDED_MS, "{added_ms}");
}

/// The median of how long an echo takes, ms.
fn round_trip_ms(from: &UdpSocket, to: &UdpSocket) -> f64 {
    let target = to.local_addr().unwrap();
    from.set_read_timeout(Some(QUIET)).unwrap();
    to.set_read_timeout(Some(QUIET)).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut bytes = [0; 256];
            while let Ok((length, from)) = to.recv_from(&mut bytes) {
                to.send_to(&bytes[..length], from).unwrap();
            }
        });
        let mut took_ms: Vec<f64> = (0..400)
            .map(|_| {
                let asked = Instant::now();
                from.send_to(&[0; 160], target).unwrap();
                from.recv(&mut [0; 256]).unwrap();
                let took = asked.elapsed();
                std::thread::sleep(Duration::from_millis(1));
                took.as_secs_f64() * 1e3
            })
            .collect();
        took_ms.sort_by(f64::total_cmp);
        took_ms[took_ms.len() / 2]
    })
}

#[test]
fn nothing_is_left_of_a_link_however_it_ends() {
    if !can_have_namespaces("the end of a link between namespaces") {
        return;
    }
    let (alice, bob) = (Place::new("e"), Place::new("f"));
    let mut emulator = Emulator::link(&["--tun", alice.name(), bob.name(), "--device", "wet-string"]);
    assert!(alice.has_device("wet-string") && bob.has_device("wet-string"));
    let busy = sim(&["link", "--tun", alice.name(), bob.name(), "--device", "wet-string"]).output().unwrap();
    assert_eq!(busy.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&busy.stderr).contains("--device"), "{busy:?}");
    emulator.kill();
    assert!(!alice.has_device("wet-string") && !bob.has_device("wet-string"));

    let ended = Emulator::link(&["--tun", alice.name(), bob.name(), "--duration", "0.2"]).wait();
    assert!((0.2..2.0).contains(&number(&ended, "/own/ran_s")), "{ended}");
    assert!(!alice.has_device("bandlink0"));
}
