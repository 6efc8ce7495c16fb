//! Link apps beside the players: they follow, lead, come late and leave.

use super::{at, finish, plan};
use crate::{
    network::{HostId, Site, Weather},
    plan::{Action, LinkPart, Plan},
    random::Random,
};

/// Time between two things that somebody does, s: longer than all may take to settle.
const APART_S: f64 = 15.0;

/// Puts hosts into Link: nodes with a bridge, and apps.
fn link(plan: &mut Plan, apps: &[HostId]) {
    for (id, host) in plan.hosts.iter_mut().enumerate() {
        host.link = if apps.contains(&id) { LinkPart::App } else { LinkPart::Bridge };
        if apps.contains(&id) {
            host.name = format!("Link app {id}");
        }
    }
}

fn tempo(random: &mut Random) -> f64 {
    random.between(60.0, 180.0).round()
}

/// Two players and an app on one LAN. In half of the runs the app was there first.
pub(super) fn app_on_the_lan(name: &'static str, random: &mut Random) -> Plan {
    const APP: HostId = 2;
    let mut plan = plan(name, random, 3, Weather::lan());
    link(&mut plan, &[APP]);
    let app_first = random.chance(0.5);
    let (app_s, nodes_s) = if app_first { (0.0, 4.0) } else { (8.0, 0.0) };
    plan.actions.push(at(random, app_s, app_s + 2.0, Action::Start(APP)));
    for host in 0..2 {
        plan.actions.push(at(random, nodes_s, nodes_s + 4.0, Action::Start(host)));
    }
    let player = random.below(2) as HostId;
    let actions = [
        Action::Tempo(APP, tempo(random)),
        Action::Play(APP, true),
        Action::Tempo(player, tempo(random)),
        Action::Play(player, false),
        if random.chance(0.5) { Action::Stop(APP) } else { Action::Kill(APP) },
        Action::Tempo(player, tempo(random)),
        Action::Start(APP),
    ];
    for (number, action) in actions.into_iter().enumerate() {
        let begin_s = 12.0 + APART_S * (number as f64 + 1.0);
        plan.actions.push(at(random, begin_s, begin_s + 1.0, action));
    }
    finish(plan)
}

/// Two LANs across the internet, with a player and an app on each; the apps play before the players come.
pub(super) fn two_islands(name: &'static str, random: &mut Random) -> Plan {
    const APPS: [HostId; 2] = [2, 3];
    let mut plan = plan(name, random, 4, Weather::fibre());
    plan.sites = vec![Site::default(); 2];
    link(&mut plan, &APPS);
    for (id, host) in plan.hosts.iter_mut().enumerate() {
        host.site = id % 2;
    }
    for (player, app) in [(0, 2), (1, 3)] {
        plan.paths.push((player, app, Weather::lan()));
        plan.actions.push(at(random, 0.0, 2.0, Action::Start(app)));
    }
    let first = random.below(2) as HostId;
    plan.actions.push(at(random, 3.0, 6.0, Action::Start(first)));
    // The other one joins an older session, from an island that plays at a tempo of its own.
    plan.actions.push(at(random, 20.0, 24.0, Action::Start(1 - first)));
    let app = APPS.get(random.below(2) as usize).copied().unwrap_or(2);
    let actions = [
        Action::Tempo(app, tempo(random)),
        Action::Play(app, true),
        Action::Stop(1 - first),
        Action::Start(1 - first),
        Action::Tempo(first, tempo(random)),
    ];
    for (number, action) in actions.into_iter().enumerate() {
        let begin_s = 24.0 + APART_S * (number as f64 + 1.0);
        plan.actions.push(at(random, begin_s, begin_s + 1.0, action));
    }
    finish(plan)
}
