//! Everything at once, drawn from the seed.

use super::{at, edits, finish, plan, with_cards};
use crate::{
    clock::WorldTime,
    network::{HostId, Weather},
    plan::{Action, Plan},
    random::Random,
};

/// When the last fault may happen, s.
const FAULTS_END_S: f64 = 40.0;

pub(super) fn chaos(name: &'static str, random: &mut Random) -> Plan {
    let hosts = 2 + random.below(5) as usize;
    let everywhere = weather(random);
    let mut plan = plan(name, random, hosts, everywhere);
    // Audio costs far more to play than all the rest, so only small bands have it.
    if hosts <= 3 && random.chance(0.5) {
        with_cards(&mut plan, random, 300.0);
    }
    for a in 0..hosts {
        for b in a + 1..hosts {
            if random.chance(0.4) {
                plan.paths.push((a, b, weather(random)));
            }
        }
        plan.actions.push(at(random, 0.0, 10.0, Action::Start(a)));
        let count = random.below(12) as usize;
        edits(&mut plan, random, a, count, 0.5, FAULTS_END_S);
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

fn weather(random: &mut Random) -> Weather {
    let chosen = random.below(Weather::PRESETS.len() as u64) as usize;
    let preset = Weather::PRESETS.get(chosen).map_or(Weather::lan(), |(_, weather)| *weather);
    Weather {
        reorder: if random.chance(0.3) { random.between(0.0, 0.02) } else { 0.0 },
        reorder_ms: random.between(1.0, 30.0),
        duplicate: if random.chance(0.3) { random.between(0.0, 0.02) } else { 0.0 },
        ..preset
    }
}

fn fault(plan: &mut Plan, random: &mut Random) {
    let hosts = plan.hosts.len();
    let host = random.below(hosts as u64) as HostId;
    let begin = random.between(2.0, FAULTS_END_S - 10.0);
    let end = random.between(begin + 0.3, FAULTS_END_S);
    let (begin, end) = (WorldTime::from_seconds(begin), WorldTime::from_seconds(end));
    match random.below(5) {
        0 => plan.actions.extend([(begin, Action::Kill(host)), (end, Action::Start(host))]),
        1 => plan.actions.extend([(begin, Action::PowerCut(host)), (end, Action::Start(host))]),
        2 => plan.actions.extend([(begin, Action::Stop(host)), (end, Action::Start(host))]),
        3 => {
            let mut groups = vec![vec![], vec![]];
            for host in 0..hosts {
                if let Some(group) = groups.get_mut(random.below(2) as usize) {
                    group.push(host);
                }
            }
            plan.actions.extend([(begin, Action::Split(groups)), (end, Action::Heal)]);
        }
        _ => {
            let other = random.below(hosts as u64) as HostId;
            if other != host {
                plan.actions.push((begin, Action::SetWeather(host, other, weather(random))));
            }
        }
    }
}
