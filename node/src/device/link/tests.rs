use std::time::{Duration, Instant};

use super::super::monotonic_ns;
use super::watch::{Reading, Watch};
use super::*;

fn reading(tempo_bpm: f64, beat: f64, host_time_ns: u64) -> Reading {
    let timeline = LinkTimeline { tempo_bpm, beat, host_time_ns };
    Reading { peers: 0, timeline, playing: false, playing_since_ns: 0 }
}

#[test]
fn the_narrowest_window_gives_the_clock_offset_and_an_honest_error() {
    // Link is 7 s ahead; the second try is interrupted for 2 ms between the readings.
    let mut host = [1_000_000u64, 1_400_000, 2_000_000, 4_000_000, 5_000_000, 5_020_000].into_iter();
    let mut link = [7_001_300i64, 7_002_100, 7_005_010].into_iter();
    let offset = ClockOffset::measure(3, || host.next().unwrap(), || link.next().unwrap());
    assert_eq!(offset, ClockOffset { offset_ns: 7_000_000_000, error_ns: 11_000 });
    assert_eq!(offset.to_link_us(3_000_000), 7_003_000);
    assert_eq!(offset.to_host_ns(7_003_000), 3_000_000);
    assert_eq!(offset.to_host_ns(0), 0, "before the host's clock began");
}

#[test]
fn others_changes_are_told_once_and_our_own_never() {
    let mut watch = Watch::new(&reading(120.0, 0.0, 0), 4.0);
    let half_second = 500_000_000;
    assert_eq!(watch.look(&reading(120.0, 1.0, half_second)), [None; 3], "time goes on");
    let faster = reading(130.0, 2.0, 2 * half_second);
    assert_eq!(watch.look(&faster), [None, Some(LinkEvent::Timeline(faster.timeline)), None]);
    assert_eq!(watch.look(&faster), [None; 3]);
    let ours = reading(90.0, 7.3, 2 * half_second);
    watch.accept(&ours);
    assert_eq!(watch.look(&ours), [None; 3], "no echo");
    let joined = Reading { peers: 2, playing: true, playing_since_ns: 5, ..ours };
    let playing = LinkEvent::Playing { playing: true, host_time_ns: 5 };
    assert_eq!(watch.look(&joined), [Some(LinkEvent::Peers(2)), None, Some(playing)]);
}

#[test]
fn a_jump_of_the_beat_is_told_but_neither_whole_bars_nor_a_drifting_clock() {
    let mut watch = Watch::new(&reading(120.0, 0.0, 0), 4.0);
    assert_eq!(watch.look(&reading(120.0, 400.0, 0)), [None; 3], "100 bars on is the same place");
    // 500 ppm for a minute: 30 ms in all, but never more than 5 µs at a look.
    for look in 1..6_000u64 {
        let beat = 400.0 + look as f64 * 0.02 * 1.0005;
        assert_eq!(watch.look(&reading(120.0, beat, look * 10_000_000)), [None; 3]);
    }
    let at = 60_000_000_000;
    let jumped = reading(120.0, 400.0 + 120.0 * 1.0005 + 0.01, at);
    assert_eq!(watch.look(&jumped)[1], Some(LinkEvent::Timeline(jumped.timeline)), "5 ms is a jump");
}

#[test]
fn tempo_beat_and_playback_are_set_at_host_times() {
    let link = Link::new(100.0, 4.0).unwrap();
    assert!(!link.state().enabled);
    let offset = link.clock_offset();
    assert!(offset.error_ns < 1_000_000, "{offset:?}");
    let now = monotonic_ns();
    assert!(link.timeline().host_time_ns.abs_diff(now) < 50_000_000, "Link's now is the host's now");
    link.set_timeline(LinkTimeline { tempo_bpm: 140.0, beat: 2.0, host_time_ns: now }).unwrap();
    let timeline = link.timeline();
    assert!((timeline.tempo_bpm - 140.0).abs() < 0.01);
    let phase = timeline.beat_at(now).rem_euclid(4.0);
    assert!((phase - 2.0).abs() < 0.001, "phase {phase}");
    link.set_tempo(70.0, now).unwrap();
    let phase = link.timeline().beat_at(now).rem_euclid(4.0);
    assert!((phase - 2.0).abs() < 0.001, "the beat stays, at {phase}");
    link.set_playing(true, now);
    let state = link.state();
    assert!(state.playing && (0.0..4.0).contains(&state.phase));
    assert!(link.set_tempo(5.0, now).is_err() && link.set_tempo(f64::NAN, now).is_err());
    assert!(Link::new(120.0, 0.0).is_err());
    assert_eq!(link.poll_event(), None, "all of this was ours");
}

#[test]
#[allow(clippy::print_stdout, reason = "a skipped test says so")]
fn two_programs_on_one_machine_share_tempo_and_phase() {
    let alice = Link::new(97.0, 4.0).unwrap();
    alice.enable(true);
    let bob = Link::new(120.0, 4.0).unwrap();
    // Link prefers the session that has run longer.
    std::thread::sleep(Duration::from_millis(300));
    bob.enable(true);
    let deadline = Instant::now() + Duration::from_secs(8);
    while (alice.state().peers, bob.state().peers) != (1, 1) {
        if Instant::now() > deadline {
            println!("skipped: no multicast between two programs here");
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let same = || {
        let (alice, bob) = (alice.timeline(), bob.timeline());
        let at = monotonic_ns();
        let apart = (alice.beat_at(at) - bob.beat_at(at)).rem_euclid(4.0);
        let apart_ms = apart.min(4.0 - apart) * 60e3 / alice.tempo_bpm;
        (alice.tempo_bpm - bob.tempo_bpm).abs() < 0.01 && apart_ms < 3.0
    };
    let settle = |what: &str, condition: &dyn Fn() -> bool| {
        let deadline = Instant::now() + Duration::from_secs(8);
        while !condition() {
            assert!(Instant::now() < deadline, "waited in vain for {what}");
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    settle("one beat", &same);
    while bob.poll_event().is_some() {}
    while alice.poll_event().is_some() {}
    alice.set_tempo(133.0, monotonic_ns()).unwrap();
    let mut told = None;
    let deadline = Instant::now() + Duration::from_secs(8);
    while told.is_none_or(|timeline: LinkTimeline| (timeline.tempo_bpm - 133.0).abs() > 0.01) {
        assert!(Instant::now() < deadline, "bob is not told");
        if let Some(LinkEvent::Timeline(timeline)) = bob.poll_event() {
            told = Some(timeline);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    settle("one beat again", &same);
    assert!(
        !std::iter::from_fn(|| alice.poll_event()).any(|event| matches!(event, LinkEvent::Timeline(_))),
        "alice is not told of her own change"
    );
}
