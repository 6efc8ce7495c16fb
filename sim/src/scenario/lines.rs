//! Hardware and lines at their worst.

use super::{at, edits, finish, plan, with_cards};
use crate::{
    network::Weather,
    plan::{Action, Plan},
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
