//! Bands with somebody in them who does not play by the rules.
//!
//! Three honest members and one hostile one on a LAN. The honest ones are held to the same bounds as in a band of
//! friends, but for what the flood takes of their line.

use super::{at, edits, finish, plan, with_cards};
use crate::{
    hostile::{FalseClock, Forgery, Hostile, TRUE_WORDS},
    network::{HostId, Weather},
    plan::{Action, Edit, Plan},
    random::Random,
};

/// The hostile host.
const MALLORY: HostId = 3;

/// A band whose fourth member is hostile in this way.
fn band(name: &'static str, random: &mut Random, hostile: Hostile) -> Plan {
    let mut plan = plan(name, random, 4, Weather::lan());
    with_cards(&mut plan, random, 50.0);
    if let Some(host) = plan.hosts.get_mut(MALLORY) {
        host.name = "Mallory".to_owned();
        host.hostile = Some(hostile);
    }
    for host in 0..4 {
        plan.actions.push(at(random, 0.0, 1.5, Action::Start(host)));
    }
    for host in 0..MALLORY {
        edits(&mut plan, random, host, 5, 2.0, 18.0);
    }
    plan
}

pub(super) fn garbage(name: &'static str, random: &mut Random) -> Plan {
    finish(band(name, random, Hostile::Garbage))
}

pub(super) fn flood(name: &'static str, random: &mut Random) -> Plan {
    let mut plan = band(name, random, Hostile::Flood);
    edits(&mut plan, random, MALLORY, 8, 3.0, 15.0);
    finish(plan)
}

pub(super) fn clock(name: &'static str, random: &mut Random) -> Plan {
    let lies = [FalseClock::Jumps, FalseClock::Drifts, FalseClock::Asymmetric];
    let lie = lies.get(random.below(3) as usize).copied().unwrap_or(FalseClock::Jumps);
    // Drawn apart, so that seeds from before there were these keep their plans.
    let lie = match random.fork(0x4855_5252).below(5) {
        0 => FalseClock::Hurries,
        1 => FalseClock::HurriesForAnother,
        _ => lie,
    };
    finish(band(name, random, Hostile::FalseClock(lie)))
}

pub(super) fn replay(name: &'static str, random: &mut Random) -> Plan {
    let mut plan = band(name, random, Hostile::Replay);
    edits(&mut plan, random, MALLORY, 8, 3.0, 15.0);
    for _ in 0..3 {
        let (host, tempo) = (random.below(4) as HostId, random.between(60.0, 180.0).round());
        plan.actions.push(at(random, 4.0, 16.0, Action::Tempo(host, tempo)));
    }
    finish(plan)
}

pub(super) fn silence(name: &'static str, random: &mut Random) -> Plan {
    finish(band(name, random, Hostile::Silent))
}

pub(super) fn oversize(name: &'static str, random: &mut Random) -> Plan {
    finish(band(name, random, Hostile::Oversize))
}

pub(super) fn forgery(name: &'static str, random: &mut Random) -> Plan {
    let ways = [Forgery::Damaged, Forgery::Unsigned, Forgery::AnotherAuthor];
    let way = ways.get(random.below(3) as usize).copied().unwrap_or(Forgery::Unsigned);
    // Drawn apart, so that seeds from before there was this one keep their plans.
    let way = if random.fork(0x4855_4745).chance(0.25) { Forgery::Huge } else { way };
    let mut plan = band(name, random, Hostile::Forge(way));
    for _ in 0..3 {
        let words = Action::Edit(MALLORY, Edit::Say(TRUE_WORDS.to_owned()));
        plan.actions.push(at(random, 5.0, 16.0, words));
    }
    finish(plan)
}
