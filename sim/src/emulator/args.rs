//! `bandmesh-sim link` and `bandmesh-sim nat`: from arguments to a running emulator, and its report.

use std::{io, io::Write as _, process::ExitCode, time::Duration};

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::{
    emulator::{
        drive::{self, Own, Stop},
        line::{Counts, Line, Way},
        namespace::Namespace,
        nat::{Kind, Lab, probe},
        settings::LineArguments,
        tun::{End, TunSides},
        udp::{Flow, UdpSides},
    },
    network::Weather,
};

/// MTU of the TUN devices: Ethernet's. A smaller one of the line shows as packets that vanish, which is what paths
/// do to those who trust the first hop.
const DEVICE_MTU: u32 = 1500;

/// A bad link between real programs.
#[derive(Args, Clone, Debug)]
pub struct LinkArguments {
    /// Between UDP endpoints: what is sent to LISTEN comes out at TARGET, and its answers go back. Several flows
    /// share the link.
    #[arg(long, value_name = "LISTEN=TARGET", num_args = 1.., conflicts_with = "tun")]
    pub udp: Vec<Flow>,
    /// Between two network namespaces: a name of `ip netns`, a path, or the id of a process in it. Needs root, there
    /// or in a user namespace.
    #[arg(long, num_args = 2, value_names = ["NETNS_A", "NETNS_B"])]
    pub tun: Vec<String>,
    /// Addresses of the device in A.
    #[arg(long, value_name = "ADDRESS/BITS", num_args = 1.., default_values_t = [String::from("10.77.0.1/24")])]
    pub address_a: Vec<String>,
    /// Addresses of the device in B.
    #[arg(long, value_name = "ADDRESS/BITS", num_args = 1.., default_values_t = [String::from("10.77.0.2/24")])]
    pub address_b: Vec<String>,
    /// Name of both devices.
    #[arg(long, default_value = "bandlink0")]
    pub device: String,
    /// What the link does.
    #[command(flatten)]
    pub line: LineArguments,
    /// The seed that its luck is drawn from.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// End after so many seconds; otherwise on SIGTERM or SIGINT.
    #[arg(long, value_name = "S", value_parser = seconds)]
    pub duration: Option<Duration>,
    /// Name the presets and end.
    #[arg(long)]
    pub list: bool,
}

/// Routers that translate addresses, in network namespaces of their own.
#[derive(Subcommand, Clone, Debug)]
pub enum NatCommand {
    /// Make a public network, and for each --kind a router with hosts behind it.
    Up {
        /// Name of the lab: lower-case letters and digits.
        #[arg(long, default_value = "lab")]
        name: String,
        /// What the router does to UDP; give it again for more routers.
        #[arg(long, value_enum, required = true)]
        kind: Vec<Kind>,
        /// Hosts behind each router.
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=20))]
        hosts: u8,
    },
    /// Remove a lab, and nothing else.
    Down {
        /// Its name.
        #[arg(long, default_value = "lab")]
        name: String,
    },
    /// Name the labs there are.
    List,
    /// Find out from inside what a router does, by the method of RFC 5780; fails if it is not what its kind says.
    Probe {
        /// The lab.
        #[arg(long, default_value = "lab")]
        name: String,
        /// Which router, from 1.
        #[arg(long, default_value_t = 1)]
        router: u8,
        /// Which of its hosts asks, from 1.
        #[arg(long, default_value_t = 1)]
        host: u8,
    },
}

/// Runs `bandmesh-sim link`; the exit code is 1 when it failed and 2 when the arguments cannot be meant.
pub fn link(arguments: &LinkArguments, json: bool) -> ExitCode {
    if arguments.list {
        return exit(list_presets(json));
    }
    let settings = match arguments.line.settings() {
        Ok(settings) => settings,
        Err(text) => return misused(&text),
    };
    if arguments.udp.is_empty() && arguments.tun.is_empty() {
        return misused("between what? --udp LISTEN=TARGET or --tun NETNS_A NETNS_B");
    }
    let stop = match Stop::new() {
        Ok(stop) => stop,
        Err(error) => return exit(Err(error)),
    };
    if let [a, b] = arguments.tun.as_slice() {
        let mut line = Line::new(settings, arguments.seed);
        return exit(link_tun(arguments, a, b, &mut line, &stop, json));
    }
    let mut line = Line::new(settings, arguments.seed);
    exit(link_udp(arguments, &mut line, &stop, json))
}

fn link_udp(arguments: &LinkArguments, line: &mut Line<u64>, stop: &Stop, json: bool) -> io::Result<()> {
    let mut sides = UdpSides::open(&arguments.udp)?;
    let listening: Vec<String> = sides.listening().iter().map(ToString::to_string).collect();
    say_ready(json, &json!({"event": "ready", "listening": listening}), &listening.join(" "))?;
    let own = drive::drive(&mut sides, line, stop, arguments.duration)?;
    report(line, &own, sides.strangers(), json)
}

fn link_tun(
    arguments: &LinkArguments,
    a: &str,
    b: &str,
    line: &mut Line<()>,
    stop: &Stop,
    json: bool,
) -> io::Result<()> {
    let end = |name: &str, addresses: &[String]| -> io::Result<End> {
        Ok(End { namespace: Namespace::find(name)?, addresses: addresses.to_vec() })
    };
    let (a, b) = (end(a, &arguments.address_a)?, end(b, &arguments.address_b)?);
    let mut sides = TunSides::open(&a, &b, &arguments.device, DEVICE_MTU)?;
    let text = format!("{} in {} and {}", arguments.device, a.namespace.name(), b.namespace.name());
    say_ready(json, &json!({"event": "ready", "device": arguments.device}), &text)?;
    let own = drive::drive(&mut sides, line, stop, arguments.duration)?;
    report(line, &own, 0, json)
}

/// Runs `bandmesh-sim nat`.
pub fn nat(command: &NatCommand, json: bool) -> ExitCode {
    let done = match command {
        NatCommand::Up { name, kind, hosts } => match Lab::check(name, kind.len()) {
            Ok(()) => Lab::up(name, kind, *hosts).and_then(|lab| say_labs(&[lab], json)),
            Err(text) => return misused(&text),
        },
        NatCommand::Down { name } => match Lab::check(name, 1) {
            Ok(()) => Lab::down(name),
            Err(text) => return misused(&text),
        },
        NatCommand::List => Lab::list().and_then(|labs| say_labs(&labs, json)),
        NatCommand::Probe { name, router, host } => {
            let found = Lab::find(name).and_then(|lab| probe::probe(&lab, *router, *host));
            match found.and_then(|found| say_found(&found, json).map(|()| found.is_as_stated())) {
                Ok(true) => Ok(()),
                Ok(false) => return ExitCode::FAILURE,
                Err(error) => Err(error),
            }
        }
    };
    exit(done)
}

fn say_labs(labs: &[Lab], json: bool) -> io::Result<()> {
    let mut out = io::stdout().lock();
    for lab in labs {
        if json {
            writeln!(out, "{}", serde_json::to_string(lab).map_err(io::Error::other)?)?;
            continue;
        }
        writeln!(out, "{}: public host {} in {}", lab.name, lab.public.address, lab.public.namespace)?;
        for router in &lab.routers {
            writeln!(out, "  {:16}{:16}{}", router.kind.name(), router.at.address, router.at.namespace)?;
            for host in &router.hosts {
                writeln!(out, "    {:30}{}", host.address, host.namespace)?;
            }
        }
    }
    Ok(())
}

fn say_found(found: &probe::Found, json: bool) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if json {
        return writeln!(out, "{}", serde_json::to_string(found).map_err(io::Error::other)?);
    }
    writeln!(out, "mapping    {}", found.mapping.text())?;
    writeln!(out, "filtering  {}", found.filtering.text())?;
    writeln!(out, "ports      {}", if found.preserves_ports { "preserved" } else { "changed" })?;
    writeln!(out, "hairpin    {}", if found.hairpins { "yes" } else { "no" })?;
    let verdict = if found.is_as_stated() { "as stated" } else { "NOT as stated" };
    writeln!(out, "{}: {verdict}", found.kind.name())
}

fn list_presets(json: bool) -> io::Result<()> {
    let mut out = io::stdout().lock();
    for (name, weather) in Weather::PRESETS {
        let loss = 100.0 * (weather.loss + weather.bursts.mean_loss());
        if json {
            let Weather { delay_ms, rate, mtu, .. } = weather;
            let line = json!({"preset": name, "delay_ms": delay_ms, "loss_percent": loss,
                "rate_kbit": rate.kbps, "mtu": mtu});
            writeln!(out, "{line}")?;
        } else {
            let limit = match weather.rate.kbps {
                kbps if kbps > 0.0 => format!("{} Mbit/s", kbps / 1e3),
                _ => "no limit".into(),
            };
            writeln!(out, "{name:20}{:>6} ms and jitter {loss:6.2} % lost  {limit}", weather.delay_ms)?;
        }
    }
    Ok(())
}

/// Scripts wait for this line.
fn say_ready(json: bool, event: &Value, text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if json {
        writeln!(out, "{event}")?;
    } else {
        writeln!(out, "ready: {text}")?;
    }
    out.flush()
}

fn report<T: Clone>(line: &Line<T>, own: &Own, strangers: u64, json: bool) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let sides = [("a_to_b", "A to B", Way::AToB), ("b_to_a", "B to A", Way::BToA)];
    if json {
        let mut all = json!({"event": "end", "own": own, "strangers": strangers});
        for (key, _, way) in sides {
            let counts = line.counts(way);
            all[key] = json!({"counts": counts, "loss": counts.loss(), "mean_loss_run": counts.mean_loss_run(),
                "delay_ms": line.delays(way)});
        }
        return writeln!(out, "{all}");
    }
    for (_, name, way) in sides {
        let (counts, delays) = (line.counts(way), line.delays(way));
        let Counts { packets, queue_full, too_large, reordered, duplicated, damaged, overflow, .. } = counts;
        writeln!(
            out,
            "{name}: {packets} packets, {:.3} % lost in runs of {:.2}, {queue_full} queue full, {too_large} too large, \
             {reordered} overtaken, {duplicated} twice, {damaged} damaged",
            100.0 * counts.loss(),
            counts.mean_loss_run()
        )?;
        writeln!(
            out,
            "        delay {:.2} ms in the mean, p50 {:.2}, p95 {:.2}, p99 {:.2}, max {:.2}",
            delays.mean, delays.p50, delays.p95, delays.p99, delays.max
        )?;
        if overflow > 0 {
            writeln!(out, "        {overflow} dropped because the emulator was full: do not trust this run")?;
        }
    }
    if strangers > 0 {
        writeln!(out, "{strangers} packets of clients that found no place")?;
    }
    let Own { added_ms, sent, refused, realtime, ran_s } = own;
    writeln!(
        out,
        "added by the emulator: {:.3} ms in the mean, p50 {:.3}, p95 {:.3}, p99 {:.3}, max {:.3} \
         ({sent} packets sent, {refused} refused, {ran_s:.1} s, {})",
        added_ms.mean,
        added_ms.p50,
        added_ms.p95,
        added_ms.p99,
        added_ms.max,
        if *realtime { "realtime priority" } else { "no realtime priority: run it as root for exact times" }
    )
}

fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse::<f64>() {
        Ok(s) if (0.001..=1e7).contains(&s) => Ok(Duration::from_secs_f64(s)),
        _ => Err("0.001 to 10000000 seconds".into()),
    }
}

fn misused(text: &str) -> ExitCode {
    say_error(text);
    ExitCode::from(2)
}

fn exit(done: io::Result<()>) -> ExitCode {
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say_error(&error.to_string());
            ExitCode::FAILURE
        }
    }
}

fn say_error(text: &str) {
    // With stderr gone there is no other place to complain.
    let _ = writeln!(io::stderr().lock(), "{text}");
}
