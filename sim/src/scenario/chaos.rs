//! Everything at once, drawn from the seed.
//!
//! All that goes wrong is a [`Fault`] of its own, the weather too, so that a failed run can be made short: what is left
//! out becomes a calm LAN, a running host, an open path.

use std::time::Duration;

use super::{at, edits, finish, lines, plan, with_cards};
use crate::{
    clock::WorldTime,
    network::{HostId, NatKind, Site, SiteId, Weather, nat::Filtering},
    plan::{Action, Fault, Plan},
    random::Random,
};

/// When the last fault may happen, s.
const FAULTS_END_S: f64 = 40.0;

pub(super) fn chaos(name: &'static str, random: &mut Random) -> Plan {
    let hosts = 2 + random.below(5) as usize;
    let mut plan = plan(name, random, hosts, Weather::lan());
    // Audio costs far more to play than all the rest, so only small bands have it.
    if hosts <= 3 && random.chance(0.5) {
        with_cards(&mut plan, random, 300.0);
    }
    houses(&mut plan, random);
    paths(&mut plan, random);
    for host in 0..hosts {
        plan.actions.push(at(random, 0.0, 10.0, Action::Start(host)));
        let count = random.below(12) as usize;
        edits(&mut plan, random, host, count, 0.5, FAULTS_END_S);
    }
    for _ in 0..random.below(8) {
        fault(&mut plan, random);
    }
    for _ in 0..random.below(4) {
        let (host, tempo) = (random.below(hosts as u64) as HostId, random.between(60.0, 180.0).round());
        plan.actions.push(at(random, 1.0, FAULTS_END_S, Action::Tempo(host, tempo)));
    }
    // In the end everybody is there and all paths are open.
    plan.actions.push((WorldTime::from_seconds(FAULTS_END_S + 5.0), Action::Heal));
    for host in 0..hosts {
        plan.actions.push(at(random, FAULTS_END_S, FAULTS_END_S + 5.0, Action::Start(host)));
    }
    finish(plan)
}

/// One band in three is spread over houses, behind boxes that can be punched through.
fn houses(plan: &mut Plan, random: &mut Random) {
    if !random.chance(0.33) {
        return;
    }
    let count = 2 + random.below(3);
    plan.sites = (0..count).map(|_| Site { nat: box_or_none(random) }).collect();
    for host in &mut plan.hosts {
        host.site = random.below(count) as SiteId;
    }
}

fn box_or_none(random: &mut Random) -> Option<NatKind> {
    match random.below(4) {
        0 => None,
        1 => Some(NatKind::well_behaved(Filtering::AddressDependent)),
        _ => Some(NatKind::home()),
    }
}

/// Weather everywhere, and other weather here and there.
fn paths(plan: &mut Plan, random: &mut Random) {
    let hosts = plan.hosts.len();
    let pairs: Vec<(HostId, HostId)> = (0..hosts).flat_map(|a| (a + 1..hosts).map(move |b| (a, b))).collect();
    let (name, everywhere) = weather(random);
    let actions = pairs.iter().map(|(a, b)| (WorldTime(0), Action::SetWeather(*a, *b, everywhere))).collect();
    plan.faults.push(Fault { about: format!("{name} everywhere"), actions });
    for (a, b) in pairs {
        if random.chance(0.4) {
            let (name, weather) = weather(random);
            let actions = vec![(WorldTime(0), Action::SetWeather(a, b, weather))];
            plan.faults.push(Fault { about: format!("{name} between hosts {a} and {b}"), actions });
        }
    }
}

fn weather(random: &mut Random) -> (&'static str, Weather) {
    let chosen = random.below(Weather::PRESETS.len() as u64) as usize;
    let (name, preset) = Weather::PRESETS.get(chosen).copied().unwrap_or(("lan", Weather::lan()));
    let mut weather = preset;
    if random.chance(0.3) {
        (weather.reorder, weather.reorder_ms) = (random.between(0.0, 0.02), random.between(1.0, 30.0));
    }
    if random.chance(0.3) {
        weather.duplicate = random.between(0.0, 0.02);
    }
    if random.chance(0.2) {
        weather.corrupt = random.between(0.0, 0.01);
    }
    (name, weather)
}

fn fault(plan: &mut Plan, random: &mut Random) {
    let hosts = plan.hosts.len();
    let host = random.below(hosts as u64) as HostId;
    let other = (host + 1 + random.below(hosts as u64 - 1) as HostId) % hosts;
    let begin_s = random.between(2.0, FAULTS_END_S - 10.0);
    let end_s = random.between(begin_s + 0.3, FAULTS_END_S);
    let (begin, end) = (WorldTime::from_seconds(begin_s), WorldTime::from_seconds(end_s));
    let when = format!("from {begin_s:.1} to {end_s:.1} s");
    let (about, actions) = match random.below(12) {
        0 => (
            format!("host {host} is killed at {begin_s:.1} s and back at {end_s:.1} s"),
            vec![(begin, Action::Kill(host)), (end, Action::Start(host))],
        ),
        1 => (
            format!("host {host} loses power at {begin_s:.1} s and is back at {end_s:.1} s"),
            vec![(begin, Action::PowerCut(host)), (end, Action::Start(host))],
        ),
        2 => (
            format!("host {host} leaves at {begin_s:.1} s and is back at {end_s:.1} s"),
            vec![(begin, Action::Stop(host)), (end, Action::Start(host))],
        ),
        3 => {
            let mut groups = vec![vec![], vec![]];
            for host in 0..hosts {
                if let Some(group) = groups.get_mut(random.below(2) as usize) {
                    group.push(host);
                }
            }
            let about = format!("split into {groups:?} {when}");
            (about, vec![(begin, Action::Split(groups)), (end, Action::Heal)])
        }
        4 => {
            let pairs = vec![(host, other), (other, host)];
            let actions = vec![(begin, Action::Cut(pairs.clone())), (end, Action::Mend(pairs))];
            (format!("hosts {host} and {other} are cut apart {when}"), actions)
        }
        5 => {
            let pairs = vec![(host, other)];
            let actions = vec![(begin, Action::Cut(pairs.clone())), (end, Action::Mend(pairs))];
            (format!("nothing gets from host {host} to {other} {when}"), actions)
        }
        6 => {
            let (name, weather) = weather(random);
            let actions = vec![(begin, Action::SetWeather(host, other, weather))];
            (format!("{name} between hosts {host} and {other} from {begin_s:.1} s"), actions)
        }
        7 => {
            let Fault { about, actions } = lines::lid(host, begin_s, end_s - begin_s);
            (about, actions)
        }
        8 => {
            // Steady clocks jump when a whole machine was paused. A jump of less than some tens of milliseconds, on a path
            // that jitters, the clock core takes for a change of rate, and states too small an error for many seconds: a
            // limit of its own that it names. Here are only jumps that it must find at once on any preset.
            let by = Duration::from_secs_f64(random.pareto(0.35, 0.4).min(3_600.0));
            let about = format!("the clock of host {host} jumps by {by:.3?} at {begin_s:.1} s");
            (about, vec![(begin, Action::StepClock(host, by))])
        }
        9 => {
            let Fault { about, actions } =
                lines::stall(host, begin_s, Duration::from_secs_f64(random.pareto(0.003, 0.7).min(3.0)));
            (about, actions)
        }
        10 => {
            let error_ppb = random.between(-300e3, 300e3) as i64;
            let about = format!("the card of host {host} runs {error_ppb} ppb fast from {begin_s:.1} s");
            (about, vec![(begin, Action::ChangeCardRate(host, error_ppb))])
        }
        _ => {
            let site = random.below(plan.sites.len().max(1) as u64) as SiteId;
            let about = format!("host {host} moves to network {site} at {begin_s:.1} s");
            (about, vec![(begin, Action::Move(host, site))])
        }
    };
    plan.faults.push(Fault { about, actions });
}
