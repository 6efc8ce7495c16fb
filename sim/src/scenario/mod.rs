//! The named situations.
//!
//! A scenario is a function from a seed to a [`Plan`]: the seed chooses names of the moment such as who
//! crashes and when, while the scenario stays what its name says. Each ends with a quiet stretch long
//! enough for everything to meet again ([`QUIET`]).

mod band;
mod chaos;
mod hostile;
mod lines;
mod link;
mod media;
mod paths;

use std::time::Duration;

use bandmesh::codec::Codec;

use crate::{
    clock::{HostClock, WorldTime},
    network::{HostId, Weather},
    plan::{Action, Bounds, Edit, HostPlan, LinkPart, Plan},
    random::Random,
    sound_card::Card,
};

/// The last stretch of each run, in which nothing is done: design.md asks for equal heads within 10 s of
/// healing, and an idle timeout of 5 s may come before.
pub const QUIET: Duration = Duration::from_secs(16);

/// A named situation.
pub struct Scenario {
    /// Its name on the command line.
    pub name: &'static str,
    /// What happens, in one line.
    pub about: &'static str,
    /// Draws the plan.
    pub plan: fn(&'static str, &mut Random) -> Plan,
}

/// All scenarios.
pub const ALL: &[Scenario] = &[
    Scenario {
        name: "first-jam",
        about: "two nodes on a LAN find each other, share a project and a beat",
        plan: band::first_jam,
    },
    Scenario {
        name: "two-founders",
        about: "two nodes start at one moment, both edit before they meet, and become one session",
        plan: band::two_founders,
    },
    Scenario {
        name: "five-nodes-kill-one",
        about: "five nodes on Wi-Fi, one killed with SIGKILL while everybody edits, and started again",
        plan: band::five_nodes_kill_one,
    },
    Scenario {
        name: "power-cut",
        about: "three nodes, one loses power while it saves, and starts again on what the disk kept",
        plan: band::power_cut,
    },
    Scenario {
        name: "split-and-heal",
        about: "four to six nodes across the internet fall apart, edit and change tempo apart, and meet again",
        plan: band::split_and_heal,
    },
    Scenario {
        name: "two-sessions",
        about: "two sessions of other names on one LAN do not mix",
        plan: band::two_sessions,
    },
    Scenario {
        name: "long-jam",
        about: "eight nodes play for ten minutes, editing all the time",
        plan: band::long_jam,
    },
    Scenario {
        name: "long-jam-audio",
        about: "eight nodes with sound cards play for ten minutes, editing all the time",
        plan: band::long_jam_audio,
    },
    Scenario {
        name: "drifting-cards",
        about: "three nodes whose clocks and sound cards drift apart as far as hardware does",
        plan: lines::drifting_cards,
    },
    Scenario {
        name: "lossy-line",
        about: "two nodes over a busy internet path with loss in bursts, reordering and duplicates",
        plan: lines::lossy_line,
    },
    Scenario { name: "on-lan", about: "two players on a wired LAN", plan: paths::on_preset },
    Scenario { name: "on-wifi", about: "two players on the Wi-Fi of a flat", plan: paths::on_preset },
    Scenario { name: "on-wifi-crowded", about: "two players on crowded Wi-Fi", plan: paths::on_preset },
    Scenario { name: "on-fibre", about: "two players on fibre in one region", plan: paths::on_preset },
    Scenario { name: "on-cable", about: "two players on cable television", plan: paths::on_preset },
    Scenario { name: "on-lte", about: "two players on phones", plan: paths::on_preset },
    Scenario {
        name: "on-satellite",
        about: "two players by a geostationary satellite, 0.3 s one way",
        plan: paths::on_preset,
    },
    Scenario {
        name: "on-conference-hotel",
        about: "two players on the network of a hotel with a conference in it",
        plan: paths::on_preset,
    },
    Scenario {
        name: "rate-limited",
        about: "two players on a line that just fits them, with a queue of 0.1 s",
        plan: paths::rate_limited,
    },
    Scenario {
        name: "path-replay",
        about: "two players on a path that was recorded",
        plan: paths::path_replay,
    },
    Scenario {
        name: "nat-classes",
        about: "two players behind NATs of any class and one with a public address; one NAT forgets all",
        plan: paths::nat_classes,
    },
    Scenario {
        name: "roaming",
        about: "a laptop changes from the network at home to a phone's and back while three play",
        plan: paths::roaming,
    },
    Scenario {
        name: "lid-closed",
        about: "three players; laptops are closed and opened again, for a moment and for long",
        plan: lines::lid_closed,
    },
    Scenario {
        name: "card-stall",
        about: "two players whose sound cards miss callbacks and change their rate",
        plan: lines::card_stall,
    },
    Scenario {
        name: "hostile-garbage",
        about: "three members and a fourth that sends random octets on every channel",
        plan: hostile::garbage,
    },
    Scenario {
        name: "hostile-flood",
        about: "a member that says thousands of things a second",
        plan: hostile::flood,
    },
    Scenario {
        name: "hostile-clock",
        about: "a member that lies about what time it is",
        plan: hostile::clock,
    },
    Scenario {
        name: "hostile-replay",
        about: "a member that sends old messages again",
        plan: hostile::replay,
    },
    Scenario {
        name: "hostile-silence",
        about: "a peer that takes connections and never says hello",
        plan: hostile::silence,
    },
    Scenario {
        name: "hostile-oversize",
        about: "a member that sends frames longer than anybody reads",
        plan: hostile::oversize,
    },
    Scenario {
        name: "hostile-forgery",
        about: "a member that alters changes of the project and signs for others",
        plan: hostile::forgery,
    },
    Scenario {
        name: "hands-and-mutes",
        about: "three players on Wi-Fi drag faders, hold tracks and mute themselves; one of them is cut off a while",
        plan: band::hands_and_mutes,
    },
    Scenario {
        name: "opus-on-lte",
        about: "three players on phones who send Opus, one of them with a card at a rate that Opus does not have",
        plan: media::opus_on_lte,
    },
    Scenario {
        name: "notes-for-instruments",
        about: "two players send notes, which an instrument at the other end plays",
        plan: media::notes_for_instruments,
    },
    Scenario {
        name: "link-app-on-the-lan",
        about: "two players and a Link app on one LAN; it follows, leads, starts, stops, leaves, comes back",
        plan: link::app_on_the_lan,
    },
    Scenario {
        name: "two-link-islands",
        about: "two LANs, each with a Link app of its own tempo and a player; the players meet",
        plan: link::two_islands,
    },
    Scenario {
        name: "older-link-app",
        about: "two or three players, and a Link app with an older Link session that gets its cable while they play",
        plan: link::older_app,
    },
    Scenario {
        name: "link-bystanders",
        about: "a Link app beside three players of whom two have Link off, in bars of three and more beats",
        plan: link::bystanders,
    },
    Scenario {
        name: "chaos",
        about: "everything drawn from the seed: hosts, weather, crashes, power cuts, splits, edits, tempi",
        plan: chaos::chaos,
    },
];

/// The scenario of this name.
pub fn find(name: &str) -> Option<&'static Scenario> {
    ALL.iter().find(|scenario| scenario.name == name)
}

impl Scenario {
    /// The plan of `seed`.
    pub fn draw(&self, seed: u64) -> Plan {
        (self.plan)(self.name, &mut Random::new(seed).fork(0x504C_414E))
    }
}

/// Scenarios that take longer than a swarm or a test should wait.
pub const SLOW: [&str; 2] = ["long-jam", "long-jam-audio"];
/// Scenarios that swarms draw apart from the others, one seed in [`NEWER_ONE_IN`], so that what the other seeds play stays
/// as it was before there were these.
const NEWER: [&str; 7] = [
    "link-app-on-the-lan",
    "two-link-islands",
    "hands-and-mutes",
    "opus-on-lte",
    "notes-for-instruments",
    "older-link-app",
    "link-bystanders",
];
const NEWER_ONE_IN: u64 = 12;

/// Which scenario a swarm plays for `seed`: one in three seeds gets a named one, the others chaos. Ten-minute
/// jams are left out; a swarm looks for rare moments, not for slow ones.
pub fn of_seed(seed: u64) -> &'static Scenario {
    let mut random = Random::new(seed).fork(0x4E45_5745);
    if random.below(NEWER_ONE_IN) == 0
        && let Some(newer) = NEWER.get(random.below(NEWER.len() as u64) as usize)
        && let Some(scenario) = find(newer)
    {
        return scenario;
    }
    let mut random = Random::new(seed).fork(0x5357_4152);
    let is_drawn = |name| name != "chaos" && !SLOW.contains(&name) && !NEWER.contains(&name);
    let named = ALL.iter().filter(|scenario| is_drawn(scenario.name));
    let chosen = random.below(3 * named.clone().count() as u64) as usize;
    named.clone().nth(chosen).or_else(|| find("chaos")).unwrap_or(&ALL[0])
}

/// A plan with `hosts` hosts of one session, all clocks different, nothing happening yet.
fn plan(scenario: &'static str, random: &mut Random, hosts: usize, weather: Weather) -> Plan {
    Plan {
        scenario,
        hosts: (0..hosts).map(|host| musician(random, host)).collect(),
        weather,
        paths: vec![],
        replays: vec![],
        sites: vec![],
        actions: vec![],
        faults: vec![],
        length: WorldTime(0),
        bounds: Bounds::default(),
    }
}

/// A musician with a laptop: up to a month since boot, a quartz within 50 ppm.
fn musician(random: &mut Random, host: HostId) -> HostPlan {
    const NAMES: [&str; 8] = ["Alice", "Bob", "Carol", "Dave", "Erin", "Frank", "Grace", "Heidi"];
    HostPlan {
        name: NAMES.get(host).map_or_else(|| format!("player {host}"), |name| (*name).to_owned()),
        session: "jam".to_owned(),
        tempo_bpm: random.between(60.0, 180.0).round(),
        clock: HostClock {
            offset_ns: random.below(30 * 86_400_000_000_000) as i64,
            drift_ppb: random.between(-50_000.0, 50_000.0) as i64,
        },
        card: None,
        codec: Codec::Pcm16,
        instruments: false,
        site: 0,
        link: LinkPart::None,
        sabotage: None,
        hostile: None,
    }
}

/// Gives every host a sound card at 48 kHz and 128 frames, within `error_ppm` of its rate, with both inputs in use.
fn with_cards(plan: &mut Plan, random: &mut Random, error_ppm: f64) {
    for host in &mut plan.hosts {
        host.card = Some(Card {
            rate_hz: 48_000,
            period_frames: 128,
            rate_error_ppb: random.between(-1e3 * error_ppm, 1e3 * error_ppm) as i64,
            late_us: 30.0,
            second_input: true,
        });
    }
}

/// Sets the bounds for the weather there is and ends the plan after the quiet stretch.
fn finish(mut plan: Plan) -> Plan {
    let changes = plan.timeline().into_iter().filter_map(|(_, action)| match action {
        Action::SetWeather(_, _, weather) => Some(weather),
        _ => None,
    });
    let weathers = [plan.weather].into_iter().chain(plan.paths.iter().map(|(_, _, weather)| *weather));
    plan.bounds = weathers.chain(changes).fold(plan.bounds, |bounds, weather| bounds.with_weather(&weather));
    plan.length = plan.timeline().last().map_or(WorldTime(0), |(at, _)| *at) + QUIET;
    plan
}

/// An action at a random moment between two, in seconds.
fn at(random: &mut Random, from_s: f64, to_s: f64, action: Action) -> (WorldTime, Action) {
    (WorldTime::from_seconds(random.between(from_s, to_s)), action)
}

/// `count` edits by `host` at random moments between two, in seconds.
fn edits(plan: &mut Plan, random: &mut Random, host: HostId, count: usize, from_s: f64, to_s: f64) {
    for number in 0..count {
        let edit = match random.below(5) {
            0 | 1 => Edit::AddTrack(format!("track {number} of {host}")),
            2 => Edit::Say(format!("line {number} of {host}")),
            3 => Edit::Gain(random.between(-30.0, 0.0).round()),
            _ => Edit::Rename(format!("song {number} of {host}")),
        };
        plan.actions.push(at(random, from_s, to_s, Action::Edit(host, edit)));
    }
}

#[cfg(test)]
mod tests;
