//! Hardware and lines at their worst.

use std::time::Duration;

use super::{at, edits, finish, plan, with_cards};
use crate::{
    clock::WorldTime,
    network::{HostId, Weather},
    plan::{Action, Fault, Plan},
    random::Random,
};

pub(super) fn drifting_cards(name: &'static str, random: &mut Random) -> Plan {
    let mut plan = plan(name, random, 3, Weather::lan());
    with_cards(&mut plan, random, 0.0);
    // Clocks as far off as a bad quartz, cards as far as the worst consumer hardware.
    for (host, clock_ppm, card_ppm) in [(0, -90, 290), (1, 0, 0), (2, 90, -290)] {
        if let Some(host) = plan.hosts.get_mut(host) {
            host.clock.drift_ppb = clock_ppm * 1_000 + random.between(-10_000.0, 10_000.0) as i64;
            if let Some(card) = &mut host.card {
                card.rate_error_ppb = card_ppm * 1_000 + random.between(-10_000.0, 10_000.0) as i64;
            }
        }
        plan.actions.push(at(random, 0.0, 2.0, Action::Start(host)));
        edits(&mut plan, random, host, 4, 2.0, 100.0);
    }
    finish(plan)
}

pub(super) fn lossy_line(name: &'static str, random: &mut Random) -> Plan {
    let weather = Weather { reorder: 0.01, reorder_ms: 12.0, duplicate: 0.005, ..Weather::internet_bad() };
    let mut plan = plan(name, random, 2, weather);
    with_cards(&mut plan, random, 50.0);
    for host in 0..2 {
        plan.actions.push(at(random, 0.0, 2.0, Action::Start(host)));
        edits(&mut plan, random, host, 12, 2.0, 44.0);
    }
    finish(plan)
}

/// Three play on Wi-Fi; one closes the lid twice, for a moment and for longer than a connection lives.
pub(super) fn lid_closed(name: &'static str, random: &mut Random) -> Plan {
    let mut plan = plan(name, random, 3, Weather::wifi());
    with_cards(&mut plan, random, 50.0);
    for host in 0..3 {
        plan.actions.push(at(random, 0.0, 2.0, Action::Start(host)));
        edits(&mut plan, random, host, 8, 2.0, 45.0);
    }
    for (begin_s, length_s) in [(8.0, random.between(0.05, 3.0)), (18.0, random.between(6.0, 20.0))] {
        let host = random.below(3) as HostId;
        plan.faults.push(lid(host, random.between(begin_s, begin_s + 4.0), length_s));
    }
    finish(plan)
}

/// The host sleeps for so long.
pub(super) fn lid(host: HostId, begin_s: f64, length_s: f64) -> Fault {
    let (begin, end) = (WorldTime::from_seconds(begin_s), WorldTime::from_seconds(begin_s + length_s));
    Fault {
        about: format!("host {host} sleeps from {begin_s:.1} s for {length_s:.2} s"),
        actions: vec![(begin, Action::Suspend(host)), (end, Action::Resume(host))],
    }
}

/// Cards that miss callbacks, for as long as a page fault takes and for as long as a plug takes, and one whose clock
/// changes.
pub(super) fn card_stall(name: &'static str, random: &mut Random) -> Plan {
    let mut plan = plan(name, random, 2, Weather::lan());
    with_cards(&mut plan, random, 100.0);
    for host in 0..2 {
        plan.actions.push(at(random, 0.0, 2.0, Action::Start(host)));
        edits(&mut plan, random, host, 4, 2.0, 30.0);
        for longest_ms in [10.0, 10.0, 100.0, 1_500.0] {
            let length = Duration::from_secs_f64(random.between(0.003, longest_ms / 1e3));
            plan.faults.push(stall(host, random.between(8.0, 36.0), length));
        }
    }
    let (host, error_ppb) = (random.below(2) as HostId, random.between(-250e3, 250e3) as i64);
    plan.faults.push(Fault {
        about: format!("the card of host {host} now runs {error_ppb} ppb fast"),
        actions: vec![at(random, 10.0, 20.0, Action::ChangeCardRate(host, error_ppb))],
    });
    finish(plan)
}

/// The host's card makes no callback for so long.
pub(super) fn stall(host: HostId, begin_s: f64, length: Duration) -> Fault {
    Fault {
        about: format!("the card of host {host} stalls at {begin_s:.1} s for {length:.1?}"),
        actions: vec![(WorldTime::from_seconds(begin_s), Action::StallCard(host, length))],
    }
}
