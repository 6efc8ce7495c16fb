//! Paths as people have them: each kind of access, boxes in between, addresses that change, a recorded one.

use std::{sync::Arc, time::Duration};

use super::{at, edits, finish, plan, with_cards};
use crate::{
    clock::WorldTime,
    network::{
        HostId, NatKind, Site, SiteId, Trace, Weather,
        nat::{Filtering, Mapping, PortAllocation},
        weather::Rate,
    },
    plan::{Action, Fault, Plan},
    random::Random,
};

/// Half a minute of a Wi-Fi path: `bandmesh-sim path record` through `bandmesh-sim link`.
const RECORDED: &str = include_str!("../../traces/wifi.csv");

/// A period of 128 frames of mono PCM 16 in all its headers.
const AUDIO_PACKET_OCTETS: f64 = 330.0;

/// What the names of the scenarios of the presets begin with.
pub(super) const ON: &str = "on-";

/// Two players on the preset that the scenario is named after.
pub(super) fn on_preset(name: &'static str, random: &mut Random) -> Plan {
    let weather = name.strip_prefix(ON).and_then(Weather::preset).unwrap_or(Weather::lan());
    two_players(name, random, weather)
}

fn two_players(name: &'static str, random: &mut Random, weather: Weather) -> Plan {
    let mut plan = plan(name, random, 2, weather);
    with_cards(&mut plan, random, 50.0);
    for host in 0..2 {
        plan.actions.push(at(random, 0.0, 2.0, Action::Start(host)));
        edits(&mut plan, random, host, 6, 2.0, 24.0);
    }
    finish(plan)
}

pub(super) fn rate_limited(name: &'static str, random: &mut Random) -> Plan {
    // One stream of one channel is about 1 Mbit/s with all headers, of two nearly twice that. 100 ms of queue before the
    // bottleneck.
    let kbps = random.between(1_300.0, 2_500.0).round();
    let rate = Rate { kbps, queue: (kbps * 12.5) as u32 };
    let mut plan = two_players(name, random, Weather { rate, mtu: 1_500, ..Weather::calm(15.0) });
    for host in 0..2 {
        if let Some(card) = plan.hosts.get_mut(host).and_then(|host| host.card.as_mut()) {
            card.second_input = false;
        }
        // What others add to the line comes in bursts: many edits at once.
        edits(&mut plan, random, host, 30, 10.0, 12.0);
    }
    // On a line that is nearly full a clock packet waits for the audio packet before it, and how long changes with the
    // slow beat between the streams: for tens of seconds unequal there and back, which no exchange can tell from a
    // clock that is off by half of it.
    plan.bounds.clock_slack = Duration::from_secs_f64(AUDIO_PACKET_OCTETS * 8.0 / (kbps * 1e3) / 2.0);
    finish(plan)
}

pub(super) fn path_replay(name: &'static str, random: &mut Random) -> Plan {
    let mut plan = two_players(name, random, Weather::calm(0.0));
    // The text is part of the program and was read by a test.
    if let Ok(trace) = Trace::parse(RECORDED) {
        plan.replays.push((0, 1, Arc::new(trace)));
    }
    plan
}

/// Two players behind boxes of any classes, and one with a public address.
pub(super) fn nat_classes(name: &'static str, random: &mut Random) -> Plan {
    let mut plan = plan(name, random, 3, Weather::fibre());
    plan.sites = vec![Site { nat: Some(nat(random)) }, Site { nat: Some(nat(random)) }, Site::default()];
    for (site, host) in plan.hosts.iter_mut().enumerate() {
        host.site = site;
    }
    for host in 0..3 {
        plan.actions.push(at(random, 0.0, 2.0, Action::Start(host)));
        edits(&mut plan, random, host, 6, 2.0, 20.0);
    }
    let reboot = at(random, 10.0, 14.0, Action::RebootNat(0));
    plan.faults.push(Fault { about: "the NAT before host 0 forgets all".to_owned(), actions: vec![reboot] });
    finish(plan)
}

/// A box of any class.
pub(super) fn nat(random: &mut Random) -> NatKind {
    let pick = |random: &mut Random| random.below(3);
    NatKind {
        mapping: match pick(random) {
            0 => Mapping::EndpointIndependent,
            1 => Mapping::AddressDependent,
            _ => Mapping::AddressAndPortDependent,
        },
        filtering: match pick(random) {
            0 => Filtering::EndpointIndependent,
            1 => Filtering::AddressDependent,
            _ => Filtering::AddressAndPortDependent,
        },
        ports: match pick(random) {
            0 => PortAllocation::Preserving,
            1 => PortAllocation::Sequential,
            _ => PortAllocation::Random,
        },
        inbound_refreshes: random.chance(0.5),
        hairpins: random.chance(0.5),
        ..NatKind::home()
    }
}

/// A laptop goes from the Wi-Fi at home to the phone's network and back while everybody plays.
pub(super) fn roaming(name: &'static str, random: &mut Random) -> Plan {
    const LAPTOP: HostId = 0;
    const HOME: SiteId = 0;
    const PHONE: SiteId = 1;
    let mut plan = plan(name, random, 3, Weather::fibre());
    let home = Site { nat: Some(NatKind::home()) };
    let carrier = Site { nat: Some(NatKind::symmetric()) };
    plan.sites = vec![home, carrier, home, Site::default()];
    for (host, site) in [(0, HOME), (1, 2), (2, 3)] {
        if let Some(host) = plan.hosts.get_mut(host) {
            host.site = site;
        }
        plan.actions.push(at(random, 0.0, 2.0, Action::Start(host)));
        edits(&mut plan, random, host, 8, 2.0, 40.0);
    }
    for (from_s, to_s, site, weather) in
        [(10.0, 14.0, PHONE, Weather::lte()), (24.0, 30.0, HOME, Weather::fibre())]
    {
        let moment = WorldTime::from_seconds(random.between(from_s, to_s));
        let mut actions = vec![(moment, Action::Move(LAPTOP, site))];
        actions.extend((1..3).map(|other| (moment, Action::SetWeather(LAPTOP, other, weather))));
        plan.faults.push(Fault { about: format!("the laptop moves to network {site}"), actions });
    }
    finish(plan)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_recorded_path_is_a_record() {
        let trace = Trace::parse(RECORDED).unwrap();
        assert!(trace.length().as_secs_f64() > 20.0, "{trace:?}");
        assert!(trace.shortest().as_secs_f64() > 0.001, "{:?}", trace.shortest());
    }
}
