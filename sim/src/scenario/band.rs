//! Bands: who comes, goes, crashes and falls apart.

use super::{at, edits, finish, plan, with_cards};
use crate::{
    clock::WorldTime,
    network::{HostId, Weather},
    plan::{Action, Fault, Plan},
    random::Random,
};

pub(super) fn first_jam(name: &'static str, random: &mut Random) -> Plan {
    let mut plan = plan(name, random, 2, Weather::lan());
    with_cards(&mut plan, random, 50.0);
    for host in 0..2 {
        plan.actions.push(at(random, 0.0, 3.0, Action::Start(host)));
        edits(&mut plan, random, host, 6, 3.0, 12.0);
    }
    let tempo = random.between(60.0, 180.0).round();
    plan.actions.push(at(random, 8.0, 12.0, Action::Tempo(0, tempo)));
    finish(plan)
}

pub(super) fn two_founders(name: &'static str, random: &mut Random) -> Plan {
    let mut plan = plan(name, random, 2, Weather::lan());
    let start = WorldTime::from_seconds(1.0);
    plan.actions.push((WorldTime(0), Action::Split(vec![vec![0], vec![1]])));
    for host in 0..2 {
        plan.actions.push((start, Action::Start(host)));
        edits(&mut plan, random, host, 8, 1.5, 5.0);
    }
    plan.actions.push(at(random, 1.2, 8.0, Action::Heal));
    finish(plan)
}

pub(super) fn five_nodes_kill_one(name: &'static str, random: &mut Random) -> Plan {
    let mut plan = plan(name, random, 5, Weather::wifi());
    for host in 0..5 {
        plan.actions.push(at(random, 0.0, 4.0, Action::Start(host)));
        edits(&mut plan, random, host, 8, 4.0, 24.0);
    }
    let victim = random.below(5) as HostId;
    plan.actions.push(at(random, 10.0, 14.0, Action::Kill(victim)));
    plan.actions.push(at(random, 14.1, 22.0, Action::Start(victim)));
    finish(plan)
}

pub(super) fn power_cut(name: &'static str, random: &mut Random) -> Plan {
    let mut plan = plan(name, random, 3, Weather::lan());
    for host in 0..3 {
        plan.actions.push(at(random, 0.0, 1.0, Action::Start(host)));
    }
    edits(&mut plan, random, 1, 10, 2.0, 30.0);
    let mut moment = 3.0;
    for _ in 0..3 {
        // Many edits close to the cut, so that it often falls into a commit.
        edits(&mut plan, random, 0, 20, moment, moment + 0.3);
        plan.actions.push(at(random, moment + 0.05, moment + 0.3, Action::PowerCut(0)));
        plan.actions.push(at(random, moment + 0.5, moment + 7.0, Action::Start(0)));
        moment += 8.0;
    }
    finish(plan)
}

pub(super) fn split_and_heal(name: &'static str, random: &mut Random) -> Plan {
    let hosts = 4 + random.below(3) as usize;
    let mut plan = plan(name, random, hosts, Weather::internet_good());
    let mut groups = vec![vec![]; 2 + random.below(2) as usize];
    for host in 0..hosts {
        plan.actions.push(at(random, 0.0, 2.0, Action::Start(host)));
        edits(&mut plan, random, host, 8, 3.0, 40.0);
        let count = groups.len() as u64;
        if let Some(group) = groups.get_mut(random.below(count) as usize) {
            group.push(host);
        }
    }
    plan.actions.push(at(random, 8.0, 12.0, Action::Split(groups)));
    for _ in 0..3 {
        let (host, tempo) = (random.below(hosts as u64) as HostId, random.between(60.0, 180.0).round());
        plan.actions.push(at(random, 12.0, 30.0, Action::Tempo(host, tempo)));
    }
    plan.actions.push(at(random, 13.0, 50.0, Action::Heal));
    finish(plan)
}

pub(super) fn two_sessions(name: &'static str, random: &mut Random) -> Plan {
    let mut plan = plan(name, random, 4, Weather::lan());
    for host in 0..4 {
        if let Some(host) = plan.hosts.get_mut(host).filter(|_| host % 2 == 1) {
            host.session = "rehearsal".to_owned();
        }
        plan.actions.push(at(random, 0.0, 3.0, Action::Start(host)));
        edits(&mut plan, random, host, 6, 3.0, 10.0);
    }
    finish(plan)
}

pub(super) fn long_jam(name: &'static str, random: &mut Random) -> Plan {
    let mut plan = plan(name, random, 8, Weather::lan());
    for host in 0..8 {
        plan.actions.push(at(random, 0.0, 5.0, Action::Start(host)));
        edits(&mut plan, random, host, 60, 5.0, 584.0);
    }
    finish(plan)
}

/// Three players drag, hold and mute themselves.
pub(super) fn hands_and_mutes(name: &'static str, random: &mut Random) -> Plan {
    let mut plan = plan(name, random, 3, Weather::wifi());
    for host in 0..3 {
        plan.actions.push(at(random, 0.0, 2.0, Action::Start(host)));
        edits(&mut plan, random, host, 3, 3.0, 30.0);
        for _ in 0..3 {
            let begin_s = random.between(4.0, 30.0);
            drag(&mut plan, random, host, begin_s);
            let muted = random.chance(0.5);
            plan.actions.push(at(random, 4.0, 34.0, Action::Mute(host, muted)));
        }
    }
    let away = random.below(3) as HostId;
    let others: Vec<HostId> = (0..3).filter(|host| *host != away).collect();
    let begin_s = random.between(10.0, 20.0);
    let end_s = begin_s + random.between(0.5, 8.0);
    plan.faults.push(Fault {
        about: format!("host {away} is cut off from {begin_s:.1} to {end_s:.1} s"),
        actions: vec![
            (WorldTime::from_seconds(begin_s), Action::Split(vec![others, vec![away]])),
            (WorldTime::from_seconds(end_s), Action::Heal),
        ],
    });
    finish(plan)
}

/// Somebody drags the tempo or holds the chat: thirty values a second for a moment, then one a second for longer.
fn drag(plan: &mut Plan, random: &mut Random, host: HostId, begin_s: f64) {
    let (address, has_value) =
        if random.chance(0.7) { ("/transport/tempo_bpm", true) } else { ("/chat", false) };
    let (drag_s, hold_s) = (random.between(0.1, 2.0), random.between(0.0, 8.0));
    let mut moment_s = begin_s;
    while moment_s < begin_s + drag_s + hold_s {
        let value = has_value.then(|| random.between(60.0, 180.0).round());
        let touch = Action::Touch(host, address.to_owned(), value);
        plan.actions.push((WorldTime::from_seconds(moment_s), touch));
        moment_s += if moment_s < begin_s + drag_s { 1.0 / 30.0 } else { 1.0 };
    }
    // A page that is closed says nothing more, and the touch runs out.
    if random.chance(0.7) {
        plan.actions.push((WorldTime::from_seconds(moment_s), Action::LetGo(host, address.to_owned())));
    }
}

/// The long jam, and everybody hears everybody.
pub(super) fn long_jam_audio(name: &'static str, random: &mut Random) -> Plan {
    let mut plan = long_jam(name, random);
    with_cards(&mut plan, random, 50.0);
    plan
}
