//! Files beside music: what a transfer does to the delay of datagrams that share its lines.

use std::time::Duration;

use crate::{
    network::{HostId, Weather},
    stack::{internet::Line, ledger::MediaFigures, stage::Stage},
};

/// Datagrams of 128 frames of 16-bit mono with an RTP header; with QUIC, UDP and IP about 1 Mbit/s.
const MEDIA_BYTES: usize = 268;

/// Messages of a project transfer: a stretch of a recording.
const MESSAGE_BYTES: usize = 256 * 1024;

/// How long everybody only plays, then plays beside a transfer. The first second of each is not judged: connections have
/// just begun, and a transfer has to find out what the line carries.
const QUIET_S: f64 = 12.0;
const BUSY_S: f64 = 15.0;
const SETTLING_S: f64 = 1.0;

/// What a transfer may add to the delay of datagrams.
pub struct Bound {
    /// To that which 99 % of them do not exceed, ms.
    pub p99_ms: f64,
    /// To the longest one, from the first moment of the transfer on, ms.
    pub max_ms: f64,
    /// To the share of those that are lost.
    pub lost: f64,
    /// What the transfer must get done meanwhile, Mbit/s.
    pub rate_mbit: f64,
}

/// Two nodes, both playing; then one of them sends the other a large project.
pub async fn beside_one(stage: &mut Stage, line: Line, weather: Weather, bound: Bound) {
    stage.internet.set_weather(weather);
    let hosts = [stage.add_host(line, line), stage.add_host(line, line)];
    beside(stage, &hosts, &[0], weather.delay_ms, bound).await;
}

/// A full mesh of eight, everybody playing to everybody; then the first one sends everybody a large project.
pub async fn beside_a_band(stage: &mut Stage, line: Line, weather: Weather, bound: Bound) {
    stage.internet.set_weather(weather);
    let hosts: Vec<HostId> = (0..8).map(|_| stage.add_host(line, line)).collect();
    beside(stage, &hosts, &[0], weather.delay_ms, bound).await;
}

async fn beside(stage: &mut Stage, hosts: &[HostId], senders: &[HostId], path_ms: f64, bound: Bound) {
    stage.start_all(None);
    let met = stage.meet(hosts, 5.0).await;
    stage.figure("met_s", met);
    let begin = stage.now();
    let after = |seconds: f64| begin + Duration::from_secs_f64(seconds);
    let (quiet_end, end) = (after(QUIET_S), after(QUIET_S + BUSY_S));
    for host in hosts {
        stage.play(*host, hosts, MEDIA_BYTES, end);
    }
    stage.agenda.sleep_until(quiet_end).await;
    for from in senders {
        for to in hosts.iter().filter(|to| *to != from) {
            stage.pour(*from, *to, MESSAGE_BYTES, end);
        }
    }
    stage.agenda.sleep_until(end).await;
    let arrived: u64 = senders
        .iter()
        .flat_map(|from| hosts.iter().map(move |to| (*from, *to)))
        .map(|(from, to)| stage.ledger.received_bytes(from, to, transport::driver::Channel::Project))
        .sum();
    let bulk_mbit = arrived as f64 * 8e-6 / BUSY_S;
    let windows: Vec<u64> =
        hosts.iter().filter_map(|to| Some(stage.path_stats(senders[0], *to)?.window_bytes)).collect();

    // What was sent in the last moment is still on its way.
    let judged_end = after(QUIET_S + BUSY_S - SETTLING_S);
    let of_senders = |from: HostId, _: HostId| senders.contains(&from);
    let quiet = stage.ledger.media(after(SETTLING_S), quiet_end, of_senders);
    let busy = stage.ledger.media(after(QUIET_S + SETTLING_S), judged_end, of_senders);
    let whole = stage.ledger.media(quiet_end, judged_end, of_senders);
    let of_all = stage.ledger.media(after(QUIET_S + SETTLING_S), judged_end, |_, _| true);
    judge(stage, &bound, &quiet, &busy, &whole, bulk_mbit);
    let totals = stage.internet.totals();
    for (name, value) in [
        ("quiet_p50_ms", quiet.p50_ms - path_ms),
        ("quiet_p99_ms", quiet.p99_ms - path_ms),
        ("quiet_max_ms", quiet.max_ms - path_ms),
        ("quiet_lost", quiet.lost),
        ("busy_p50_ms", busy.p50_ms - path_ms),
        ("busy_p99_ms", busy.p99_ms - path_ms),
        ("busy_p999_ms", busy.p999_ms - path_ms),
        ("busy_max_ms", whole.max_ms - path_ms),
        ("busy_lost", busy.lost),
        ("all_p99_ms", of_all.p99_ms - path_ms),
        ("bulk_mbit", bulk_mbit),
        ("queue_ms", totals.longest_wait.as_secs_f64() * 1e3),
        ("queue_dropped", totals.dropped as f64),
        ("window_bytes", windows.iter().max().copied().unwrap_or(0) as f64),
    ] {
        stage.figure(name, value);
    }
    // What is still queued is worth nobody's time: 16 MiB would take half a minute on a slow line.
    for host in senders {
        stage.stop(*host).await;
    }
    stage.sleep(1.0).await;
}

fn judge(
    stage: &Stage,
    bound: &Bound,
    quiet: &MediaFigures,
    busy: &MediaFigures,
    whole: &MediaFigures,
    bulk_mbit: f64,
) {
    for (what, got, limit) in [
        ("p99 delay, ms", busy.p99_ms - quiet.p99_ms, bound.p99_ms),
        ("longest delay, ms", whole.max_ms - quiet.max_ms, bound.max_ms),
        ("share lost", busy.lost - quiet.lost, bound.lost),
    ] {
        if got > limit {
            let text = format!("a transfer adds {got:.3} to the {what}, {limit} at most are bearable");
            stage.ledger.object("datagram-delay", text);
        }
    }
    if bulk_mbit < bound.rate_mbit {
        let text = format!("the transfer got {bulk_mbit:.2} Mbit/s, where {} are to be had", bound.rate_mbit);
        stage.ledger.object("throughput", text);
    }
}
