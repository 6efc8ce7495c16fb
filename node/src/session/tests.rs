//! Sessions of a few nodes over a perfect control stream, in virtual time.

use super::message::Codec;
use super::*;

mod people;

const MS: i64 = 1_000_000;
const SECOND: i64 = 1_000 * MS;

/// A band whose nodes hear each other's control frames at once, each with a clock of its own.
struct Band {
    nodes: Vec<Session<u8>>,
    /// Each node's clock minus the world's, ns.
    clocks: Vec<i64>,
    joined: Vec<Vec<u8>>,
    left: Vec<Vec<(u8, LeaveReason)>>,
    refused: Vec<Vec<Refusal>>,
    renamed: Vec<Vec<(u8, String)>>,
    cut: bool,
}

impl Band {
    fn new() -> Self {
        Self {
            nodes: vec![],
            clocks: vec![],
            joined: vec![],
            left: vec![],
            refused: vec![],
            renamed: vec![],
            cut: false,
        }
    }

    fn start(&mut self, now: i64, session: &str, tempo: f64, clock: i64) -> u8 {
        let peer = self.nodes.len() as u8;
        let me = Identity {
            peer,
            author: u64::from(peer) + 1,
            author_of: |peer| u64::from(*peer) + 1,
            name: format!("player {peer}"),
            session: session.into(),
            incarnation: u64::from(peer),
            timebase: [peer + 1; 16],
            stream: StreamInfo {
                ssrc: 1,
                codec: Codec::Pcm16,
                rate_hz: 48_000,
                channels: 1,
                packet_frames: 128,
            },
        };
        self.nodes.push(Session::new(me, now + clock, tempo, 4));
        self.clocks.push(clock);
        self.joined.push(vec![]);
        self.left.push(vec![]);
        self.refused.push(vec![]);
        self.renamed.push(vec![]);
        peer
    }

    fn connect(&mut self, now: i64, a: u8, b: u8) {
        let (clock_a, clock_b) = (self.clocks[a as usize], self.clocks[b as usize]);
        self.nodes[a as usize].handle_connected(now + clock_a, b);
        self.nodes[b as usize].handle_connected(now + clock_b, a);
        self.deliver(now);
        self.nodes[a as usize].handle_clock(now + clock_a, &b, clock_b - clock_a);
        self.nodes[b as usize].handle_clock(now + clock_b, &a, clock_a - clock_b);
        self.deliver(now);
    }

    fn run(&mut self, from: i64, to: i64) {
        let mut now = from;
        while now <= to {
            for (node, clock) in self.nodes.iter_mut().zip(&self.clocks) {
                node.handle_deadline(now + clock);
            }
            self.deliver(now);
            now += 50 * MS;
        }
    }

    fn deliver(&mut self, now: i64) {
        loop {
            let mut frames = vec![];
            for (from, node) in self.nodes.iter_mut().enumerate() {
                while let Some(output) = node.poll() {
                    match output {
                        Output::Send(to, message) => frames.push((from as u8, to, message::encode(&message))),
                        Output::Joined(peer, _) => self.joined[from].push(peer),
                        Output::Left(peer, why) => self.left[from].push((peer, why)),
                        Output::Disconnect { why, .. } => self.refused[from].push(why),
                        Output::Renamed(peer, name) => self.renamed[from].push((peer, name)),
                        Output::StreamChanged(..)
                        | Output::BeatChanged
                        | Output::StateChanged(_)
                        | Output::TouchesChanged(_) => {}
                    }
                }
            }
            if frames.is_empty() {
                return;
            }
            for (from, to, frame) in frames {
                // A peer that exists only as a connection answers nothing.
                if let Some(clock) = self.clocks.get(to as usize).filter(|_| !self.cut) {
                    self.nodes[to as usize].handle_frame(now + clock, &from, &frame).unwrap();
                }
            }
        }
    }

    fn beat(&self, node: u8, now: i64) -> f64 {
        let session = &self.nodes[node as usize];
        session.beat().beat_at(session.timebase().session_at(now + self.clocks[node as usize]))
    }
}

#[test]
fn joining_takes_over_tempo_and_beat_and_never_changes_them() {
    for (joiner_first, tempo) in [(false, 93.0), (true, 93.0)] {
        let mut band = Band::new();
        // In one case the joiner has the smaller peer id and so decides, in the other the founder does.
        let (founder, joiner) = if joiner_first {
            let joiner = band.start(10 * SECOND, "jam", 140.0, -3 * SECOND);
            (band.start(0, "jam", tempo, 5 * SECOND), joiner)
        } else {
            let founder = band.start(0, "jam", tempo, 5 * SECOND);
            (founder, band.start(10 * SECOND, "jam", 140.0, -3 * SECOND))
        };
        let before = band.beat(founder, 20 * SECOND);
        band.connect(20 * SECOND, founder, joiner);
        band.run(20 * SECOND, 22 * SECOND);
        assert_eq!(band.nodes[founder as usize].beat().tempo_bpm, tempo);
        assert_eq!(band.nodes[joiner as usize].beat().tempo_bpm, tempo);
        assert!((band.beat(founder, 20 * SECOND) - before).abs() < 1e-9);
        assert!((band.beat(founder, 22 * SECOND) - band.beat(joiner, 22 * SECOND)).abs() < 1e-6);
    }
}

#[test]
fn a_tempo_change_reaches_everybody_with_one_beat() {
    let mut band = Band::new();
    for clock in [0, 7 * SECOND, -2 * SECOND] {
        band.start(0, "jam", 120.0, clock);
    }
    for (a, b) in [(0, 1), (0, 2), (1, 2)] {
        band.connect(SECOND, a, b);
    }
    band.run(SECOND, 3 * SECOND);
    let clock = band.clocks[2];
    band.nodes[2].change_beat(3 * SECOND + clock, |beat, at, author| beat.with_tempo(150.0, at, author));
    band.run(3 * SECOND, 4 * SECOND);
    for node in 0..3 {
        assert_eq!(band.nodes[node as usize].beat().tempo_bpm, 150.0);
        assert!((band.beat(node, 9 * SECOND) - band.beat(0, 9 * SECOND)).abs() < 1e-6);
    }
}

#[test]
fn other_session_names_do_not_mix() {
    let mut band = Band::new();
    band.start(0, "jam", 120.0, 0);
    band.start(0, "rehearsal", 99.0, 0);
    band.connect(0, 0, 1);
    band.run(0, SECOND);
    assert!(band.joined.iter().all(Vec::is_empty));
    assert!(matches!(&band.refused[0][..], [Refusal::OtherSession(name)] if name == "rehearsal"));
    assert_eq!(band.nodes[1].beat().tempo_bpm, 99.0);
}

#[test]
fn a_silent_member_is_dropped_and_a_silent_stranger_too() {
    let mut band = Band::new();
    band.start(0, "jam", 120.0, 0);
    band.start(0, "jam", 120.0, 0);
    band.connect(0, 0, 1);
    band.run(0, SECOND);
    band.cut = true;
    band.nodes[0].handle_connected(SECOND, 9);
    band.run(SECOND, 6 * SECOND);
    assert_eq!(band.left[0], [(1, LeaveReason::TimedOut)]);
    assert_eq!(band.refused[0], [Refusal::NoHello, Refusal::Silent]);
}

#[test]
fn goodbye_is_noticed_at_once() {
    let mut band = Band::new();
    band.start(0, "jam", 120.0, 0);
    band.start(0, "jam", 120.0, 0);
    band.connect(0, 0, 1);
    band.nodes[0].leave();
    band.deliver(MS);
    assert_eq!(band.left[1], [(0, LeaveReason::Goodbye)]);
}

#[test]
fn halves_of_a_split_keep_playing_and_meet_again_on_one_beat() {
    let mut band = Band::new();
    for _ in 0..2 {
        band.start(0, "jam", 120.0, 0);
    }
    band.connect(0, 0, 1);
    band.run(0, 2 * SECOND);
    band.nodes[0].handle_disconnected(&1);
    band.nodes[1].handle_disconnected(&0);
    // Apart, one half changes the tempo twice, the other once: the more changed register wins.
    for tempo in [100.0, 110.0] {
        band.nodes[1].change_beat(3 * SECOND, |beat, at, author| beat.with_tempo(tempo, at, author));
    }
    band.nodes[0].change_beat(3 * SECOND, |beat, at, author| beat.with_tempo(90.0, at, author));
    band.connect(60 * SECOND, 0, 1);
    band.run(60 * SECOND, 62 * SECOND);
    assert_eq!(band.nodes[0].beat().tempo_bpm, 110.0);
    assert!((band.beat(0, 62 * SECOND) - band.beat(1, 62 * SECOND)).abs() < 1e-6);
}

/// Found by the simulator on `chaos`, seed 224: Carol's clock jumps while she reaches only Bob, and Bob reaches Alice too. Bob
/// had the majority on his side, Carol was ahead of him in a band of two, and both stayed.
#[test]
fn whoever_jumped_comes_back_though_it_sees_only_one_of_the_band() {
    let mut band = Band::new();
    for _ in 0..3 {
        band.start(0, "jam", 120.0, 0);
    }
    band.connect(0, 0, 1);
    band.connect(0, 1, 2);
    band.run(0, 2 * SECOND);
    let before = band.beat(0, 2 * SECOND);
    let jump = 387 * MS;
    band.clocks[2] += jump;
    band.nodes[1].handle_clock(2 * SECOND, &2, jump);
    band.nodes[2].handle_clock(2 * SECOND + jump, &1, -jump);
    band.run(2 * SECOND, 8 * SECOND);
    for node in [1, 2] {
        assert!((band.beat(node, 8 * SECOND) - band.beat(0, 8 * SECOND)).abs() < 1e-6, "player {node}");
    }
    assert!((band.beat(0, 2 * SECOND) - before).abs() < 1e-9, "the two who agreed stay");
}

#[test]
fn a_chain_of_members_who_do_not_all_see_each_other_keeps_one_time() {
    // Alice sees Dora, Dora Bob, Bob Carol: each in the middle has a neighbour whom it could take for the first.
    let mut band = Band::new();
    let [alice, bob, carol, dora] = [0, 1, 2, 3].map(|_| band.start(0, "jam", 120.0, 0));
    let chain = [(alice, dora), (dora, bob), (bob, carol)];
    for (one, other) in chain {
        band.connect(SECOND, one, other);
    }
    band.run(SECOND, 5 * SECOND);
    // What Dora thought of Alice's clock was wrong by 5 ms. She corrects it, and the others with her.
    band.clocks[usize::from(alice)] += 5 * MS;
    band.nodes[usize::from(dora)].handle_clock(5 * SECOND, &alice, 5 * MS);
    band.nodes[usize::from(alice)].handle_clock(5 * SECOND + 5 * MS, &dora, -5 * MS);
    band.run(5 * SECOND, 45 * SECOND);
    let beats = [alice, dora, bob, carol].map(|node| band.beat(node, 45 * SECOND));
    for beat in beats {
        assert!((beat - beats[0]).abs() < 0.000_1, "{beats:?}");
    }

    // Alice goes. Bob, the first of those who stay, is followed by both his neighbours.
    for peer in [alice, dora] {
        band.nodes[usize::from(peer)].handle_disconnected(&(alice + dora - peer));
    }
    band.run(45 * SECOND, 60 * SECOND);
    let followed =
        [bob, dora, carol].map(|node| band.nodes[usize::from(node)].reference(60 * SECOND).copied());
    assert_eq!(followed, [None, Some(bob), Some(bob)]);
}

#[test]
fn nonsense_from_a_peer_ends_in_its_dismissal() {
    let mut band = Band::new();
    band.start(0, "jam", 120.0, 0);
    band.nodes[0].handle_connected(0, 5);
    for _ in 0..MAX_BAD_FRAMES {
        assert!(band.nodes[0].handle_frame(0, &5, &[0xff; 40]).is_err());
    }
    band.deliver(0);
    assert_eq!(band.refused[0], [Refusal::Nonsense]);
}

#[test]
fn what_changes_between_two_hellos_is_known_to_who_comes() {
    let mut band = Band::new();
    band.start(0, "jam", 120.0, 0);
    band.start(0, "jam", 120.0, 0);
    // Player 0 has said Hello and has not heard player 1's when the device and the name change.
    band.nodes[0].handle_connected(0, 1);
    let stream = StreamInfo { ssrc: 77, ..band.nodes[0].own_stream() };
    band.nodes[0].change_stream(stream);
    band.nodes[0].rename("Zed".into());
    band.nodes[1].handle_connected(0, 0);
    band.deliver(0);
    let (_, hello) = band.nodes[1].members().next().unwrap();
    assert_eq!((hello.stream, hello.name.as_str()), (stream, "Zed"));
}

#[test]
fn a_peer_that_changes_its_stream_without_end_is_sent_away() {
    let mut band = Band::new();
    band.start(0, "jam", 120.0, 0);
    band.start(0, "jam", 120.0, 0);
    band.connect(0, 0, 1);
    for ssrc in 0..2 * MAX_CHURN {
        let mut stream = band.nodes[1].own_stream();
        stream.ssrc = 100 + ssrc;
        band.nodes[1].change_stream(stream);
        band.deliver(MS);
    }
    assert_eq!(band.refused[0], [Refusal::Nonsense]);
}

#[test]
fn one_frame_cannot_freeze_the_tempo() {
    let mut band = Band::new();
    band.start(0, "jam", 120.0, 0);
    band.start(0, "jam", 120.0, 0);
    band.connect(0, 0, 1);
    band.run(0, SECOND);
    let session = &band.nodes[1];
    let hostile = Heartbeat {
        timebase: session.timebase().id,
        session_offset_ns: session.timebase().offset_ns,
        session_now_ns: SECOND,
        beat: BeatRegister { counter: (1 << 40) - 1, ..session.beat() },
    };
    let frame = message::encode(&Control::Heartbeat(hostile));
    band.nodes[0].handle_frame(SECOND, &1, &frame).unwrap();
    band.nodes[0].change_beat(SECOND, |beat, at, author| beat.with_tempo(77.0, at, author));
    assert_eq!(band.nodes[0].beat().tempo_bpm, 77.0);
}

/// A heartbeat of `peer`'s, changed, as `peer` would send it.
fn said(band: &Band, peer: u8, now: i64, claim: bool, change: impl FnOnce(&mut Heartbeat)) -> Vec<u8> {
    let mut heartbeat = band.nodes[usize::from(peer)].heartbeat(now);
    change(&mut heartbeat);
    message::encode(&match claim {
        true => Control::ClaimTimebase(heartbeat),
        false => Control::Heartbeat(heartbeat),
    })
}

#[test]
fn no_timebase_carries_the_counter_to_its_end() {
    // Mallory has the greater id, or the smaller.
    for (me, mallory) in [(0u8, 1u8), (1, 0)] {
        for claim in [false, true] {
            let mut band = Band::new();
            band.start(0, "jam", 120.0, 0);
            band.start(0, "jam", 120.0, 0);
            band.connect(0, 0, 1);
            band.run(0, SECOND);
            let years = 9 * 365 * 86_400 * SECOND;
            for counter in [(1 << 40) - 1, (1 << 48) - 1, u64::MAX] {
                let frame = said(&band, mallory, SECOND, claim, |it| {
                    (it.timebase, it.session_offset_ns) = ([99; 16], years);
                    it.beat.counter = counter;
                });
                // Refused as nonsense or not believed: either will do.
                let _ = band.nodes[usize::from(me)].handle_frame(SECOND, &mallory, &frame);
            }
            // As much as is believed of nine years, at the end of where beats may be.
            let frame = said(&band, mallory, SECOND, claim, |it| {
                (it.timebase, it.session_offset_ns) = ([99; 16], years);
                it.beat.counter = years.unsigned_abs() / 1_000_000;
                it.beat.origin_beat = 3.9e9;
            });
            band.nodes[usize::from(me)].handle_frame(SECOND, &mallory, &frame).unwrap();
            band.nodes[usize::from(me)]
                .change_beat(2 * SECOND, |beat, at, author| beat.with_tempo(77.0, at, author));
            assert_eq!(band.nodes[usize::from(me)].beat().tempo_bpm, 77.0, "{me} {claim}");
            let frame = said(&band, me, 2 * SECOND, false, |_| {});
            assert!(message::decode(&frame).is_ok(), "and the others will take it");
        }
    }
}

/// Alice and Bob start at one moment and Alice claims Bob; before he knows her clock he has met Carol, who has played for a minute.
#[test]
fn a_claim_that_was_overtaken_by_an_older_session_is_not_obeyed() {
    let mut band = Band::new();
    let alice = band.start(60 * SECOND, "jam", 120.0, 0);
    let bob = band.start(60 * SECOND, "jam", 120.0, 0);
    let carol = band.start(0, "jam", 97.0, 0);
    let now = 61 * SECOND;
    band.nodes[usize::from(alice)].handle_connected(now, bob);
    band.nodes[usize::from(bob)].handle_connected(now, alice);
    band.deliver(now);
    // Alice knows Bob's clock at once, Bob hers not yet.
    band.run(now, now + 50 * MS);
    band.nodes[usize::from(alice)].handle_clock(now, &bob, 0);
    band.deliver(now);
    band.connect(now, bob, carol);
    band.nodes[usize::from(carol)].handle_deadline(now);
    band.deliver(now);
    assert_eq!(band.nodes[usize::from(bob)].beat().tempo_bpm, 97.0);
    band.nodes[usize::from(bob)].handle_clock(now, &alice, 0);
    let mut seen = vec![band.nodes[usize::from(bob)].beat().tempo_bpm];
    band.run(now, now + 3 * SECOND);
    seen.extend(band.nodes.iter().map(|node| node.beat().tempo_bpm));
    assert_eq!(seen, [97.0; 4], "the oldest session's tempo, and no other in between");
}

#[test]
fn nobody_keeps_the_time_for_somebody_else_and_one_who_is_always_ahead_hurries_nobody() {
    for hops in [0, 1] {
        let mut band = Band::new();
        let [alice, bob, mallory] = [0, 1, 2].map(|_| band.start(0, "jam", 120.0, 0));
        for (one, other) in [(alice, bob), (alice, mallory), (bob, mallory)] {
            band.connect(0, one, other);
        }
        band.run(0, 11 * SECOND);
        let lie = Follows { reference: 0, hops };
        let state = message::encode(&Control::State(message::MemberState {
            follows: Some(lie),
            ..message::MemberState::default()
        }));
        for node in [alice, bob] {
            band.nodes[usize::from(node)].handle_frame(11 * SECOND, &mallory, &state).unwrap();
        }
        // Who it is by way of can be anybody; that it is itself is seen.
        let reference = band.nodes[usize::from(alice)].reference(11 * SECOND).copied();
        assert_eq!(reference, (hops == 1).then_some(mallory));
        let before = band.nodes[usize::from(alice)].timebase().session_at(0);
        for now in (11 * SECOND..21 * SECOND).step_by(MS as usize) {
            for node in [alice, bob] {
                let ahead = band.nodes[usize::from(node)].timebase().offset_ns + 15 * MS;
                let frame = said(&band, mallory, now, false, |it| it.session_offset_ns = ahead);
                band.nodes[usize::from(node)].handle_frame(now, &mallory, &frame).unwrap();
                band.nodes[usize::from(node)].handle_clock(now, &mallory, 0);
            }
        }
        let moved = band.nodes[usize::from(alice)].timebase().session_at(0) - before;
        assert!(moved <= 10 * MS + MS, "{moved} ns in 10 s with {hops} hops");
    }
}

#[test]
fn link_is_led_by_the_first_of_those_who_see_others_there() {
    let mut band = Band::new();
    let [alice, bob, carol] = [0, 1, 2].map(|_| band.start(0, "jam", 120.0, 0));
    for (one, other) in [(alice, bob), (alice, carol), (bob, carol)] {
        band.connect(0, one, other);
    }
    band.run(0, SECOND);
    let leads = |band: &Band, node: u8| {
        let others: Vec<u8> = [alice, bob, carol].into_iter().filter(|it| *it != node).collect();
        band.nodes[usize::from(node)].leads_link(2 * SECOND, others.iter())
    };
    for node in [bob, carol] {
        band.nodes[usize::from(node)].set_in_link(SECOND, true);
    }
    band.run(SECOND, 2 * SECOND);
    assert!(leads(&band, bob) && !leads(&band, carol), "Alice has no Link");
    band.nodes[usize::from(bob)].set_in_link(2 * SECOND, false);
    band.run(2 * SECOND, 3 * SECOND);
    assert!(leads(&band, carol), "Bob has switched it off");
}

#[test]
fn who_gives_itself_names_without_end_is_shown_a_few_and_the_last() {
    let mut band = Band::new();
    band.start(0, "jam", 120.0, 0);
    band.start(0, "jam", 120.0, 0);
    band.connect(0, 0, 1);
    band.run(0, SECOND);
    for number in 0..1_000 {
        band.nodes[1].rename(format!("Maya {number}"));
        band.deliver(SECOND);
    }
    assert_eq!(band.renamed[0].len(), MAX_RENAMES as usize);
    band.run(SECOND, SECOND + CHURN_WINDOW_NS + 2 * HEARTBEAT_NS);
    assert_eq!(band.renamed[0].last(), Some(&(1, "Maya 999".to_owned())));
    assert_eq!((band.renamed[0].len(), band.refused[0].len()), (MAX_RENAMES as usize + 1, 0));
}

#[test]
fn another_name_reaches_the_others_and_disturbs_nothing() {
    let mut band = Band::new();
    band.start(0, "jam", 120.0, 0);
    band.start(0, "jam", 120.0, 0);
    band.connect(0, 0, 1);
    band.run(0, SECOND);
    // As often as somebody types; a name is nothing to be sent away for.
    for number in 0..3 * MAX_CHURN {
        band.nodes[1].rename(format!("Maya {number}"));
        band.deliver(SECOND);
    }
    band.nodes[1].rename(format!("Maya {}", 3 * MAX_CHURN - 1));
    band.deliver(SECOND);
    assert_eq!(band.renamed[0].len(), 3 * MAX_CHURN as usize);
    assert_eq!(band.renamed[0].last(), Some(&(1, format!("Maya {}", 3 * MAX_CHURN - 1))));
    assert_eq!((band.joined[0].len(), band.left[0].len(), band.refused[0].len()), (1, 0, 0));
}
