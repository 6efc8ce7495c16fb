//! Link apps beside the players: they follow, lead, come late and leave.

use super::{at, finish, plan};
use crate::{
    clock::WorldTime,
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

/// Two or three players on one LAN, and an app that has run for longer than they and gets its cable while they play: its Link
/// session is the older one, and theirs keeps its tempo.
pub(super) fn older_app(name: &'static str, random: &mut Random) -> Plan {
    let players = 2 + random.below(2) as HostId;
    let weather = if random.chance(0.5) { Weather::lan() } else { Weather::wifi() };
    let mut plan = plan(name, random, players + 1, weather);
    let app = players;
    plan.sites = vec![Site::default(); 2];
    link(&mut plan, &[app]);
    if let Some(host) = plan.hosts.get_mut(app) {
        host.site = 1;
    }
    plan.actions.push((WorldTime::from_seconds(0.0), Action::Start(app)));
    for host in 0..players {
        plan.actions.push(at(random, 4.0, 8.0, Action::Start(host)));
    }
    plan.actions.push(at(random, 20.0, 24.0, Action::Move(app, 0)));
    let turned = tempo(random);
    plan.actions.push(at(random, 40.0, 44.0, Action::Tempo(app, turned)));
    finish(plan)
}

/// Players on one LAN of whom some have Link off, whoever has the smallest id, and an app; the bars get other lengths.
pub(super) fn bystanders(name: &'static str, random: &mut Random) -> Plan {
    const APP: HostId = 3;
    let mut plan = plan(name, random, 4, Weather::lan());
    link(&mut plan, &[APP]);
    let with_link = random.below(3) as HostId;
    for (id, host) in plan.hosts.iter_mut().enumerate() {
        if id != with_link && id != APP {
            host.link = LinkPart::None;
        }
    }
    let app_first = random.chance(0.5);
    plan.actions.push(at(random, 0.0, 1.0, Action::Start(if app_first { APP } else { with_link })));
    for host in (0..4).filter(|host| *host != if app_first { APP } else { with_link }) {
        plan.actions.push(at(random, 4.0, 8.0, Action::Start(host)));
    }
    let anybody = random.below(3) as HostId;
    let actions = [
        Action::Meter(anybody, 3),
        Action::Tempo(anybody, tempo(random)),
        Action::Play(APP, true),
        Action::Meter(with_link, 5 + random.below(3) as u8),
        Action::Tempo(APP, tempo(random)),
        Action::Meter(anybody, 4),
    ];
    for (number, action) in actions.into_iter().enumerate() {
        let begin_s = 8.0 + APART_S * (number as f64 + 1.0);
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
