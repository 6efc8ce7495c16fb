//! What is sent besides plain samples.

use bandmesh::codec::Codec;

use super::{at, finish, plan, with_cards};
use crate::{
    network::Weather,
    plan::{Action, Plan},
    random::Random,
};

/// Three on phones send Opus; the card of the third runs at a rate that Opus does not have, so the product resamples there.
pub(super) fn opus_on_lte(name: &'static str, random: &mut Random) -> Plan {
    let mut plan = plan(name, random, 3, Weather::lte());
    with_cards(&mut plan, random, 50.0);
    for (id, host) in plan.hosts.iter_mut().enumerate() {
        host.codec = Codec::Opus;
        if let Some(card) = host.card.as_mut().filter(|_| id == 2) {
            card.rate_hz = 44_100;
        }
        plan.actions.push(at(random, 0.0, 2.0, Action::Start(id)));
    }
    let tempo = random.between(60.0, 180.0).round();
    plan.actions.push(at(random, 8.0, 12.0, Action::Tempo(0, tempo)));
    finish(plan)
}

pub(super) fn notes_for_instruments(name: &'static str, random: &mut Random) -> Plan {
    let mut plan = plan(name, random, 2, Weather::wifi());
    with_cards(&mut plan, random, 50.0);
    for (id, host) in plan.hosts.iter_mut().enumerate() {
        host.instruments = true;
        plan.actions.push(at(random, 0.0, 2.0, Action::Start(id)));
    }
    finish(plan)
}
