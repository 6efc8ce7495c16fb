//! Runs replay, healthy nodes pass, and each checker catches the bug it is there for.

use super::*;
use crate::{
    hostile::{FalseClock, Hostile},
    node::Sabotage,
    report::{OK, Report},
    world,
};

fn play(name: &str, seed: u64) -> Report {
    world::run(find(name).unwrap().draw(seed), seed, None)
}

#[test]
fn the_same_seed_gives_the_same_events_and_another_seed_others() {
    for name in ["first-jam", "five-nodes-kill-one", "power-cut", "split-and-heal", "chaos"] {
        let (once, again, other) = (play(name, 7), play(name, 7), play(name, 8));
        assert_eq!(once, again, "{name}");
        assert_ne!(once.log_hash, other.log_hash, "{name}");
    }
}

#[test]
fn every_scenario_passes_with_its_first_seeds() {
    for scenario in ALL.iter().filter(|scenario| !SLOW.contains(&scenario.name)) {
        // Two minutes of three sound cards, or half a minute of four, take as long to play as all the rest.
        let is_long = scenario.name == "drifting-cards" || scenario.name.starts_with("hostile-");
        let seeds = if is_long { 1 } else { 3 };
        for seed in 1..=seeds {
            let report = world::run(scenario.draw(seed), seed, None);
            assert_eq!(report.verdict, OK, "{}: {:?}", report.replay(), report.detail);
        }
    }
}

#[test]
fn a_run_does_something() {
    let report = play("first-jam", 1);
    assert!(report.figures["acknowledged_edits"] >= 3.0);
    assert!(report.figures["clock_error_worst_us"] > 0.0, "clocks were compared");
    assert!(report.events > 500);
}

/// A host alone that edits, loses power and starts again, so that nobody can give back what it lost.
fn alone() -> Plan {
    let mut plan = plan("alone", &mut Random::new(1), 1, Weather::lan());
    let mut act =
        |seconds: f64, action: Action| plan.actions.push((WorldTime::from_seconds(seconds), action));
    act(1.0, Action::Start(0));
    act(2.0, Action::Edit(0, Edit::AddTrack("Bass".to_owned())));
    act(5.0, Action::PowerCut(0));
    act(6.0, Action::Start(0));
    finish(plan)
}

/// Two hosts of which the first holds the chat for ten seconds.
fn holding() -> Plan {
    let mut plan = plan("holding", &mut Random::new(1), 2, Weather::lan());
    let moments = (5..15).map(f64::from).map(WorldTime::from_seconds);
    plan.actions.extend([0, 1].map(|host| (WorldTime::from_seconds(1.0), Action::Start(host))));
    plan.actions.extend(moments.map(|at| (at, Action::Touch(0, "/chat".to_owned(), None))));
    finish(plan)
}

/// Two islands of which the first host's joins the session of the other.
fn joins_from_its_island() -> (Plan, u64) {
    let islands = find("two-link-islands").unwrap();
    let starts = |plan: &Plan, host| {
        plan.actions
            .iter()
            .filter(|(_, act)| matches!(act, Action::Start(it) if *it == host))
            .map(|(at, _)| *at)
            .min()
    };
    let mut draws = (1..100).map(|seed| (islands.draw(seed), seed));
    draws.find(|(plan, _)| starts(plan, 0) > starts(plan, 1)).unwrap()
}

/// Plays `plan` with a bug in one host; the checker that objects, or that none does.
fn caught_by(plan: &Plan, seed: u64, host: HostId, bug: Sabotage) -> &'static str {
    let mut sabotaged = plan.clone();
    sabotaged.hosts[host].sabotage = Some(bug);
    world::run(sabotaged, seed, None).verdict
}

/// Every checker catches the bug it is there for, and no other checker does; without the bug all are content.
#[test]
fn each_checker_catches_its_own_bug() {
    let named = |name, seed| (find(name).unwrap().draw(seed), seed);
    let jam = |seed| (find("first-jam").unwrap().draw(seed), seed);
    let line = |seed| (find("lossy-line").unwrap().draw(seed), seed);
    let forger = |seed| (find("hostile-forgery").unwrap().draw(seed), seed);
    let cases: Vec<((Plan, u64), Sabotage, &str)> = vec![
        (jam(1), Sabotage::DropHellos, "everybody_here"),
        (jam(1), Sabotage::DropChanges, "equal_heads"),
        ((alone(), 1), Sabotage::LoseWrites, "acknowledged_edits"),
        ((alone(), 1), Sabotage::SpoilDisk, "starts_again"),
        (jam(1), Sabotage::LieAboutOffset(5_000_000), "clock_bound"),
        (jam(1), Sabotage::DoubleFrames, "played_once"),
        (line(1), Sabotage::SkipSequenceCheck, "played_once"),
        (jam(1), Sabotage::DropAudio, "concealed_within_loss"),
        (jam(1), Sabotage::HoldNotes, "notes_end"),
        (forger(1), Sabotage::BelieveForgeries, "forgeries_kept_out"),
        (line(1), Sabotage::RepeatAsOwn, "own_words"),
        (named("hands-and-mutes", 1), Sabotage::DropStates, "states_converge"),
        ((holding(), 1), Sabotage::DropTouches, "touches_converge"),
        (named("notes-for-instruments", 1), Sabotage::NoInstrument, "instruments_sound"),
        // On an island of its own; with another node beside it that one would pass everything on.
        (named("two-link-islands", 1), Sabotage::DeafToLink, "link_phase"),
        (joins_from_its_island(), Sabotage::BowToLink, "tempo_kept"),
        (jam(1), Sabotage::HurryBeat, "steady_pace"),
        (jam(1), Sabotage::TalkWithoutEnd, "bounded_queues"),
        (jam(1), Sabotage::IgnoreTimers, "progress"),
    ];
    for ((plan, seed), bug, checker) in &cases {
        assert_eq!(world::run(plan.clone(), *seed, None).verdict, OK, "{} without a bug", plan.scenario);
        assert_eq!(caught_by(plan, *seed, 0, *bug), *checker, "{bug:?} in {}", plan.scenario);
    }
    // Beside these, a misread offset is caught by `beat_phase`, see below.
    let proven: Vec<&str> = cases.iter().map(|(.., checker)| *checker).chain(["beat_phase"]).collect();
    for checker in crate::checker::all(&Bounds::default()) {
        assert!(proven.contains(&checker.name()), "nothing shows that {} can fail", checker.name());
    }
}

#[test]
fn an_offset_misread_by_the_session_is_caught_by_the_beat() {
    // The host with the greater peer id steers towards the other; which one that is depends on the keys.
    let plan = find("first-jam").unwrap().draw(1);
    let verdicts = [0, 1].map(|host| caught_by(&plan, 1, host, Sabotage::MisreadOffset(5_000_000)));
    assert!(verdicts.contains(&"beat_phase"), "{verdicts:?}");
    assert!(verdicts.iter().all(|verdict| ["beat_phase", OK].contains(verdict)), "{verdicts:?}");
}

/// What was wrong: the bound took exchanges for independent whose waits in the queues resembled each other, and a row of
/// such waits for a changed clock rate. Seed 1090 had a quarter of all estimates outside their bound, seed 68 six in a
/// hundred, and seeds 7 and 50 a beat more than 3 ms apart.
#[test]
fn clock_bound_on_lossy_line_with_seeds_7_50_68_and_1090() {
    for seed in [7, 50, 68, 1090] {
        let report = play("lossy-line", seed);
        assert_eq!(report.verdict, OK, "{}: {:?}", report.replay(), report.detail);
    }
}

/// Plays `chaos` with these of its faults, by their numbers from 1.
fn plays_chaos(seed: u64, only: &[usize]) {
    let kept = only.iter().map(|number| number - 1).collect();
    let report = world::run(find("chaos").unwrap().draw(seed).with_only(&kept), seed, None);
    assert_eq!(report.verdict, OK, "{} --only={only:?}: {:?}", report.replay(), report.detail);
}

/// What was wrong: a clock's jump was known only by causality, that is, when it was longer than the round trip. A shorter one
/// over a satellite was taken for a change of rate, and even the bound for any path was untrue for good.
#[test]
fn clock_jumps_shorter_than_the_round_trip_are_found_on_chaos_with_seeds_378_412_615_and_928() {
    plays_chaos(378, &[2, 5]);
    plays_chaos(412, &[6, 12]);
    for seed in [615, 928] {
        let report = play("chaos", seed);
        assert_eq!(report.verdict, OK, "{}: {:?}", report.replay(), report.detail);
    }
}

/// What was wrong: exchanges on their way while the node's own clock jumped looked as if they had waited, and made the estimate
/// so unsure that the jump was lost in it.
#[test]
fn a_jump_of_a_young_clock_is_found_over_a_satellite_on_chaos_with_seed_2424() {
    plays_chaos(2424, &[3, 6]);
}

/// What was wrong: of a node whose clock had jumped and the only member it reached each took the other for outvoted, for that
/// member reached a third who agreed with it.
#[test]
fn a_beat_is_found_again_where_not_all_reach_all_on_chaos_with_seed_224() {
    plays_chaos(224, &[5, 6]);
}

/// What was wrong with the checker: it took one estimate's bad luck in its first seconds, 3.6 sigmas, for twenty.
#[test]
fn one_unlucky_estimate_is_no_untrue_bound_on_chaos_with_seed_174() {
    plays_chaos(174, &[1, 3]);
}

/// What was wrong: every exchange of packets counted alike, however long it had waited. Seed 994 leaves a LAN for the
/// internet, seeds 408 and 930 begin on a path that holds everything now and then.
#[test]
fn exchanges_that_waited_count_for_less_on_chaos_with_seeds_408_930_and_994() {
    plays_chaos(408, &[1]);
    for seed in [930, 994] {
        let report = play("chaos", seed);
        assert_eq!(report.verdict, OK, "{}: {:?}", report.replay(), report.detail);
    }
}

/// What was wrong with the simulator: what was lost in a burst was sent again within the same burst, so six losses in a row held a
/// member's heartbeats back for longer than a member may be silent.
#[test]
fn a_burst_takes_a_frame_once_on_chaos_with_seed_613() {
    let report = play("chaos", 613);
    assert_eq!(report.verdict, OK, "{}: {:?}", report.replay(), report.detail);
}

/// What was wrong with the checker: a playout was to know of the longest hold of a hotel's network before it met one.
#[test]
fn a_delay_is_found_on_the_way_on_chaos_with_seeds_232_373_629_and_815() {
    plays_chaos(232, &[2]);
    plays_chaos(373, &[1, 4]);
    for seed in [629, 815] {
        let report = play("chaos", seed);
        assert_eq!(report.verdict, OK, "{}: {:?}", report.replay(), report.detail);
    }
}

/// What was wrong: whoever was far ahead was believed, so one member that lied about its clock took the whole band along,
/// each at another moment: 70 ms apart.
#[test]
fn a_false_clock_moves_nobody_on_hostile_clock_with_seeds_7_and_8() {
    for seed in [7, 8] {
        let report = play("hostile-clock", seed);
        assert_eq!(report.verdict, OK, "{}: {:?}", report.replay(), report.detail);
    }
}

/// What was wrong: whoever said that it keeps the session's time was believed, and as fast as it said so.
#[test]
fn who_is_always_ahead_hurries_nobody() {
    for lie in [FalseClock::Hurries, FalseClock::HurriesForAnother] {
        let mut plan = find("hostile-clock").unwrap().draw(1);
        plan.hosts[3].hostile = Some(Hostile::FalseClock(lie));
        let report = world::run(plan, 1, None);
        assert_eq!(report.verdict, OK, "{lie:?}: {:?}", report.detail);
        assert!(report.figures["pace_worst_ppm"] < 1_500.0, "{lie:?}: {:?}", report.figures);
    }
}

#[test]
fn forgeries_are_sent_and_kept_out() {
    for seed in 1..=3 {
        let report = play("hostile-forgery", seed);
        assert_eq!(report.verdict, OK, "{}: {:?}", report.replay(), report.detail);
        assert!(
            report.figures["forged_frames"] >= 3.0,
            "each of three members gets one: {:?}",
            report.figures
        );
    }
}

#[test]
fn bandmates_hear_each_other() {
    let report = play("first-jam", 1);
    assert!(report.figures["concealed_share"] < 0.01, "{:?}", report.figures);
}

#[test]
fn swarms_draw_mostly_chaos_and_every_short_scenario_now_and_then() {
    let drawn: Vec<&str> = (0..3_000).map(|seed| of_seed(seed).name).collect();
    let chaos = drawn.iter().filter(|name| **name == "chaos").count();
    // Two in three, of eleven seeds in twelve.
    assert!((1_650..2_020).contains(&chaos), "{chaos}");
    for scenario in ALL.iter().filter(|scenario| !SLOW.contains(&scenario.name)) {
        assert!(drawn.contains(&scenario.name), "{}", scenario.name);
    }
}

/// What was wrong: a node that met the Link apps on its LAN just after it had met its bandmates took their tempo for a change
/// that somebody had made, and gave it to the band.
#[test]
fn meeting_link_apps_leaves_the_bands_tempo_alone_with_seeds_1_to_6() {
    for seed in 1..=6 {
        for name in ["two-link-islands", "link-app-on-the-lan", "older-link-app", "link-bystanders"] {
            let report = play(name, seed);
            assert_eq!(report.verdict, OK, "{}: {:?}", report.replay(), report.detail);
            assert!(report.figures["link_phase_compared"] > 100.0, "{name}: the apps were compared");
        }
    }
}

#[test]
fn opus_is_heard_where_it_can_be_had() {
    let report = play("opus-on-lte", 1);
    assert_eq!(report.verdict, OK, "{}: {:?}", report.replay(), report.detail);
    assert!(report.figures["concealed_share"] < 0.1, "{:?}", report.figures);
}
