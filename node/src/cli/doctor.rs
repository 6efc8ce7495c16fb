//! `bandmesh doctor`: what a jam needs, checked on this machine, each finding with what to do.
//!
//! The checks read what the system says (`/proc`, `/sys`), bind sockets for a moment and watch a timer for a quarter of a
//! second; they change nothing and send one mDNS question. A firewall cannot be seen from inside; the text says so.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::cli::client::RunningNode;
use crate::cli::{AudioDevice, Exit, Machine, Options, Output, Task, text};

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Verdict {
    Ok,
    /// A jam works, but worse than it could.
    Warning,
    /// A jam does not work.
    Problem,
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Check {
    name: &'static str,
    verdict: Verdict,
    found: String,
    /// What to do; empty if nothing.
    fix: String,
}

impl Check {
    fn ok(name: &'static str, found: impl Into<String>) -> Self {
        Self { name, verdict: Verdict::Ok, found: found.into(), fix: String::new() }
    }

    fn warning(name: &'static str, found: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { name, verdict: Verdict::Warning, found: found.into(), fix: fix.into() }
    }

    fn problem(name: &'static str, found: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { name, verdict: Verdict::Problem, found: found.into(), fix: fix.into() }
    }
}

#[derive(Serialize)]
struct Report<'a> {
    checks: &'a [Check],
}

pub(crate) fn run(task: &Task, options: &Options, machine: &dyn Machine) -> Result<Output, Exit> {
    let node_runs = RunningNode::find(&task.data_dir).is_ok_and(|node| node.get("/status").is_ok());
    let mut checks = audio(machine);
    checks.push(realtime());
    checks.extend(power());
    checks.push(timer());
    checks.extend(clock_source());
    checks.push(mdns());
    checks.push(port("udp port", options.listen, node_runs, |address| UdpSocket::bind(address).map(drop)));
    checks.push(port("http port", options.http, node_runs, |address| TcpListener::bind(address).map(drop)));
    checks.push(Check::ok(
        "nat",
        "not checked in this version: other networks reach this node only if their UDP packets do",
    ));
    let mut output =
        if task.json { Output::json(&Report { checks: &checks }) } else { Output::text(render(&checks)) };
    output.code = u8::from(checks.iter().any(|check| check.verdict == Verdict::Problem));
    Ok(output)
}

fn render(checks: &[Check]) -> String {
    let mut out = String::new();
    for check in checks {
        let mark = match check.verdict {
            Verdict::Ok => "ok     ",
            Verdict::Warning => "warning",
            Verdict::Problem => "PROBLEM",
        };
        out.push_str(&format!("{mark}  {:<10} {}\n", check.name, text::printable(&check.found)));
        if !check.fix.is_empty() {
            out.push_str(&format!("{:<20} {}\n", "", text::printable(&check.fix)));
        }
    }
    out
}

fn audio(machine: &dyn Machine) -> Vec<Check> {
    let devices = machine.devices();
    let mut checks: Vec<Check> =
        devices.problems.iter().map(|problem| Check::warning("audio", problem.clone(), "")).collect();
    let names = |has: fn(&AudioDevice) -> bool| {
        let names: Vec<&str> =
            devices.audio.iter().filter(|device| has(device)).map(|device| device.name.as_str()).collect();
        text::head(&names.join(", "), 100)
    };
    let inputs = names(|device| device.input_channels > 0);
    let outputs = names(|device| device.output_channels > 0);
    let fix = "Plug in a sound card, or add your user to the group `audio` (sudo usermod -aG audio $USER) and log in again. \
               Without one, nodes play --audio null or file:IN.wav.";
    checks.push(match (inputs.as_str(), outputs.as_str()) {
        ("", "") => Check::warning("audio", "no sound card", fix),
        ("", _) => Check::warning(
            "audio",
            "no device to record from: you hear the others, they do not hear you",
            fix,
        ),
        (_, "") => {
            Check::warning("audio", "no device to play on: the others hear you, you do not hear them", fix)
        }
        _ => Check::ok("audio", format!("plays on {outputs}; records from {inputs}")),
    });
    let midi = devices.midi_inputs.len();
    checks.push(Check::ok("midi", format!("{midi} inputs, {} outputs", devices.midi_outputs.len())));
    checks
}

/// Whether this user may run threads ahead of others, without which the sound card is served late when the machine is busy.
fn realtime() -> Check {
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    match soft_limit(&limits, "Max realtime priority").as_deref() {
        None => Check::ok("realtime", "this system does not say"),
        Some("0") if running_as_root() => Check::ok("realtime", "root may"),
        Some("0") => Check::warning(
            "realtime",
            "this user may not run realtime threads: expect dropouts when the machine is busy",
            "Write `@audio - rtprio 95` and `@audio - memlock unlimited` to /etc/security/limits.d/audio.conf, add your user \
             to the group `audio` and log in again.",
        ),
        Some(priority) => Check::ok("realtime", format!("priorities up to {priority}")),
    }
}

fn running_as_root() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("Uid:"))
        .and_then(|ids| ids.split_whitespace().nth(1));
    effective == Some("0")
}

/// The soft limit in `/proc/self/limits`, whose columns are separated by two spaces or more.
fn soft_limit(limits: &str, name: &str) -> Option<String> {
    let rest = limits.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_whitespace().next().map(str::to_owned)
}

/// A processor that saves power wakes late.
fn power() -> Option<Check> {
    let governor = fs::read_to_string("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor").ok()?;
    Some(match governor.trim() {
        "powersave" => Check::warning(
            "power",
            "the processor saves power (governor powersave): small periods may drop out",
            "While you play: echo performance | sudo tee /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor",
        ),
        governor => Check::ok("power", format!("governor {governor}")),
    })
}

/// How late an ordinary thread wakes, at worst, in a quarter of a second.
fn timer() -> Check {
    let step = Duration::from_millis(1);
    let mut worst = Duration::ZERO;
    let end = Instant::now() + Duration::from_millis(250);
    while Instant::now() < end {
        let began = Instant::now();
        thread::sleep(step);
        worst = worst.max(began.elapsed().saturating_sub(step));
    }
    let found = format!("a thread wakes at most {:.1} ms late", worst.as_secs_f64() * 1e3);
    if worst < Duration::from_millis(3) {
        Check::ok("clock", found)
    } else {
        Check::warning("clock", found, "Close what keeps the processor busy, or play with a larger --period.")
    }
}

fn clock_source() -> Option<Check> {
    let source =
        fs::read_to_string("/sys/devices/system/clocksource/clocksource0/current_clocksource").ok()?;
    Some(match source.trim() {
        slow @ ("hpet" | "acpi_pm" | "jiffies") => Check::warning(
            "clock",
            format!("the system reads time from {slow}, which is slow"),
            "Boot with `clocksource=tsc` if the processor's counter is sound.",
        ),
        source => Check::ok("clock", format!("time is read from {source}")),
    })
}

/// The group and port of mDNS (RFC 6762 section 3).
const MDNS_GROUP: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 251);
const MDNS_PORT: u16 = 5353;

fn mdns() -> Check {
    let interfaces = multicast_interfaces();
    if interfaces.is_empty() {
        return Check::problem(
            "mdns",
            "no network interface that is up carries multicast",
            "Connect to the LAN; without one, give the others' addresses with --peer MULTIADDR.",
        );
    }
    match ask_mdns() {
        Ok(answers) => Check::ok(
            "mdns",
            format!(
                "multicast leaves by {}; {answers} answers to a question for other nodes (a firewall must let UDP {MDNS_PORT} \
                 in)",
                text::head(&interfaces.join(", "), 80)
            ),
        ),
        Err(error) => Check::problem(
            "mdns",
            format!("multicast cannot be sent: {error}"),
            "Check the LAN connection and the firewall (UDP 5353); or give the others' addresses with --peer MULTIADDR.",
        ),
    }
}

/// Interfaces but loopback that are up and carry multicast.
fn multicast_interfaces() -> Vec<String> {
    const UP: u32 = 0x1;
    const LOOPBACK: u32 = 0x8;
    const MULTICAST: u32 = 0x1000;
    let Ok(entries) = fs::read_dir("/sys/class/net") else { return Vec::new() };
    let mut names: Vec<String> = entries
        .filter_map(Result::ok)
        .filter(|entry| {
            let flags = fs::read_to_string(entry.path().join("flags")).unwrap_or_default();
            let flags = u32::from_str_radix(flags.trim().trim_start_matches("0x"), 16).unwrap_or(0);
            flags & UP != 0 && flags & MULTICAST != 0 && flags & LOOPBACK == 0
        })
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// Asks once for `_bandmesh._udp.local`; how many packets came in return.
fn ask_mdns() -> io::Result<usize> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.join_multicast_v4(&MDNS_GROUP, &Ipv4Addr::UNSPECIFIED)?;
    socket.set_read_timeout(Some(Duration::from_millis(100)))?;
    socket.send_to(&question(&["_bandmesh", "_udp", "local"]), (MDNS_GROUP, MDNS_PORT))?;
    let end = Instant::now() + Duration::from_millis(700);
    let mut answers = 0;
    let mut packet = [0; 1500];
    // Bounded by time and count: anybody may answer.
    while Instant::now() < end && answers < 100 {
        if socket.recv_from(&mut packet).is_ok() {
            answers += 1;
        }
    }
    Ok(answers)
}

/// A DNS question for PTR records (RFC 1035 section 4.1) that wants its answers sent back to it (RFC 6762 section 5.4).
fn question(labels: &[&str]) -> Vec<u8> {
    let mut packet = vec![0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in labels {
        packet.extend(u8::try_from(label.len()));
        packet.extend(label.bytes());
    }
    packet.extend([0, 0, 12, 0x80, 1]);
    packet
}

fn port(
    name: &'static str,
    address: SocketAddr,
    node_runs: bool,
    bind: impl Fn(SocketAddr) -> io::Result<()>,
) -> Check {
    match bind(address) {
        Ok(()) => Check::ok(name, format!("{address} is free (a firewall must let the others' packets in)")),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && node_runs => {
            Check::ok(name, format!("{address} is taken, as it should be while a node runs"))
        }
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Check::warning(
            name,
            format!("{address} is taken by another program"),
            "Nothing to do on a LAN: the node takes any free port. For a fixed one, stop the other program or choose another \
             address.",
        ),
        Err(error) => Check::problem(
            name,
            format!("{address} cannot be used: {error}"),
            "Choose an address this machine has, with --listen and --http.",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Devices;

    struct Bare;

    impl Machine for Bare {
        fn devices(&self) -> Devices {
            Devices::default()
        }
    }

    #[test]
    fn machine_without_sound_card_gets_a_warning_that_says_what_to_do() {
        let checks = audio(&Bare);
        let card = checks.iter().find(|check| check.name == "audio").unwrap();
        assert_eq!(card.verdict, Verdict::Warning);
        assert!(card.fix.contains("--audio null"));
    }

    #[test]
    fn taken_port_is_fine_while_a_node_runs_and_a_warning_otherwise() {
        let taken = |_| Err(io::Error::from(io::ErrorKind::AddrInUse));
        let address = "127.0.0.1:1".parse().unwrap();
        assert_eq!(port("udp port", address, true, taken).verdict, Verdict::Ok);
        assert_eq!(port("udp port", address, false, taken).verdict, Verdict::Warning);
        let foreign = |_| Err(io::Error::from(io::ErrorKind::AddrNotAvailable));
        assert_eq!(port("udp port", address, false, foreign).verdict, Verdict::Problem);
    }

    #[test]
    fn soft_limit_is_read_from_its_column() {
        let limits = "Limit                     Soft Limit           Hard Limit           Units     \n\
                      Max realtime priority     95                   99                             \n";
        assert_eq!(soft_limit(limits, "Max realtime priority").as_deref(), Some("95"));
        assert_eq!(soft_limit("", "Max realtime priority"), None);
    }

    #[test]
    fn question_is_a_well_formed_dns_packet() {
        let packet = question(&["_bandmesh", "_udp", "local"]);
        assert_eq!(packet.len(), 12 + 10 + 5 + 6 + 1 + 4);
        assert_eq!(packet[12], 9);
        assert_eq!(packet[5], 1);
    }
}
