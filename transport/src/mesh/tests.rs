//! Stories of two planners, and of one under attack. No sockets, no clock but the one passed in.

use std::collections::{BTreeSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use libp2p::identity::Keypair;
use libp2p::{Multiaddr, PeerId};

use super::*;
use crate::time::LocalTime;

const TAG: [u8; 8] = *b"testtest";
/// Where announcements come from, if it does not matter.
const LAN: Source = Source::Discovery(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2)));
/// Where made-up announcements come from.
const LIAR: Source = Source::Discovery(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 66)));

fn peer(seed: u8) -> PeerId {
    Keypair::ed25519_from_bytes([seed; 32]).unwrap().public().to_peer_id()
}

/// A smaller and a larger id.
fn two_peers() -> (PeerId, PeerId) {
    let (a, b) = (peer(1), peer(2));
    (a.min(b), a.max(b))
}

fn address(last: u8) -> Multiaddr {
    format!("/ip4/10.0.0.{last}/udp/7778/quic-v1").parse().unwrap()
}

fn at(ms: u64) -> LocalTime {
    LocalTime::from_nanos(0) + Duration::from_millis(ms)
}

fn settings(local: PeerId) -> Settings {
    Settings { local, session_tag: TAG, instance: 1, pinned: false, seed: 7 }
}

fn outputs(planner: &mut Planner) -> Vec<Output> {
    std::iter::from_fn(|| planner.poll()).collect()
}

/// Runs the deadlines up to `until`, and returns what was decided when, in milliseconds.
fn run(planner: &mut Planner, until: LocalTime) -> Vec<(u64, Output)> {
    let mut log = Vec::new();
    while let Some(due) = planner.poll_deadline().filter(|due| *due <= until) {
        planner.handle_deadline(due);
        log.extend(outputs(planner).into_iter().map(|output| (due.as_nanos() / 1_000_000, output)));
    }
    log
}

fn dials(outputs: impl IntoIterator<Item = Output>) -> Vec<(Attempt, Vec<Multiaddr>)> {
    let dial = |output| match output {
        Output::Dial { attempt, addresses, .. } => Some((attempt, addresses)),
        _ => None,
    };
    outputs.into_iter().filter_map(dial).collect()
}

/// A planner connected to `other` by connection 1, which `side` made at time 0.
fn connected(local: PeerId, other: PeerId, side: Side) -> Planner {
    let mut planner = Planner::new(settings(local));
    planner.handle_connected(at(0), ConnectionKey(1), made(other, side, address(2), None));
    planner.handle_ready(at(0), ConnectionKey(1), hello(1, 5));
    assert!(matches!(outputs(&mut planner)[..], [Output::Connected { .. }]));
    planner
}

fn made(peer: PeerId, side: Side, address: Multiaddr, attempt: Option<Attempt>) -> Made {
    Made { peer, side, address, local_ip: None, attempt }
}

fn hello(instance: u64, nonce: u64) -> Hello {
    Hello { version: PROTOCOL_VERSION, session_tag: TAG, instance, nonce, generation: 0 }
}

#[test]
fn a_silent_connection_is_given_up_and_dialled_again_at_once_by_both() {
    let (small, large) = two_peers();
    let mut planner = connected(small, large, Side::Dialer);
    planner.renew(at(5_000), &large);
    assert!(matches!(
        outputs(&mut planner)[..],
        [
            Output::Close { reason: CloseReason::Silent, .. },
            Output::Disconnected { reason: DisconnectReason::Silence, .. }
        ]
    ));
    assert_eq!(planner.poll_deadline(), Some(at(5_000)));

    let mut other = connected(large, small, Side::Dialer);
    let code = u64::from(CloseReason::Silent.code());
    other.handle_closed(at(5_000), ConnectionKey(1), ClosedBy::Peer { code, text: String::new() });
    assert_eq!(other.poll_deadline(), Some(at(5_400)));
}

#[test]
fn the_smaller_id_dials_at_once_and_the_larger_a_moment_later() {
    let (small, large) = two_peers();
    for (local, other, expected_ms) in [(small, large, 0), (large, small, 400)] {
        let mut planner = Planner::new(settings(local));
        planner.handle_hint(at(0), LAN, other, TAG, &[address(2)]);
        let log = run(&mut planner, at(1000));
        assert_eq!(log.len(), 1);
        assert_eq!(log[0].0, expected_ms);
    }
}

#[test]
fn nobody_dials_itself_another_session_or_a_connected_peer() {
    let (small, large) = two_peers();
    let mut planner = connected(small, large, Side::Listener);
    planner.handle_hint(at(0), LAN, small, TAG, &[address(1)]);
    planner.handle_hint(at(0), LAN, peer(3), *b"elsewher", &[address(3)]);
    planner.handle_hint(at(0), LAN, large, TAG, &[address(2)]);
    assert_eq!(run(&mut planner, at(60_000)), []);
}

#[test]
fn an_unreachable_peer_is_tried_ever_less_often_but_within_seconds() {
    let (small, large) = two_peers();
    let mut planner = Planner::new(settings(small));
    planner.handle_hint(at(0), LAN, large, TAG, &[address(2)]);
    let mut tried = Vec::new();
    while let Some(due) = planner.poll_deadline().filter(|due| *due < at(60_000)) {
        planner.handle_deadline(due);
        for (attempt, _) in dials(outputs(&mut planner)) {
            tried.push(due.as_nanos() / 1_000_000);
            planner.handle_dial_failed(due, attempt, DialFailure::Unreachable);
        }
    }
    let pauses: Vec<_> = tried.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(pauses[0] <= 250 && pauses.iter().all(|pause| *pause <= 4000), "{pauses:?}");
    assert!(tried.len() < 40, "{tried:?}");
}

/// Both dialled; each side has both connections ready, in its own order.
#[test]
fn both_sides_keep_the_same_of_two_connections() {
    let (small, large) = two_peers();
    for newcomer_first in [false, true] {
        let (mut a, mut b) = (Planner::new(settings(small)), Planner::new(settings(large)));
        // Connection 1 was dialled by the smaller, connection 2 by the larger.
        for (key, a_side, b_side) in [(1, Side::Dialer, Side::Listener), (2, Side::Listener, Side::Dialer)] {
            a.handle_connected(at(0), ConnectionKey(key), made(large, a_side, address(2), None));
            b.handle_connected(at(0), ConnectionKey(key), made(small, b_side, address(1), None));
        }
        let hellos = [1, 2].map(|key| {
            (ConnectionKey(key), a.hello(ConnectionKey(key)).unwrap(), b.hello(ConnectionKey(key)).unwrap())
        });
        for (key, _, of_b) in hellos {
            a.handle_ready(at(10), key, of_b);
        }
        let order = if newcomer_first { [1, 0] } else { [0, 1] };
        for index in order {
            let (key, of_a, _) = hellos[index];
            b.handle_ready(at(10), key, of_a);
        }
        for planner in [&mut a, &mut b] {
            let outputs = outputs(planner);
            let closed: Vec<_> =
                outputs.iter().filter(|output| matches!(output, Output::Close { .. })).collect();
            assert_eq!(
                closed,
                [&Output::Close { connection: ConnectionKey(2), reason: CloseReason::Duplicate }]
            );
            let last = outputs.iter().rev().find(|output| matches!(output, Output::Connected { .. }));
            assert!(matches!(last, Some(Output::Connected { connection: ConnectionKey(1), .. })));
        }
    }
}

#[test]
fn a_new_run_of_a_peer_replaces_the_old_one_whoever_dialled() {
    let (small, large) = two_peers();
    for (local, other) in [(small, large), (large, small)] {
        for side in [Side::Dialer, Side::Listener] {
            let mut planner = connected(local, other, side);
            planner.handle_connected(
                at(100),
                ConnectionKey(2),
                made(other, Side::Listener, address(2), None),
            );
            planner.handle_ready(at(110), ConnectionKey(2), hello(2, 0));
            let outputs = outputs(&mut planner);
            let old = ConnectionKey(1);
            assert_eq!(outputs[0], Output::Close { connection: old, reason: CloseReason::Duplicate });
            assert_eq!(
                outputs[1],
                Output::Disconnected { peer: other, connection: old, reason: DisconnectReason::Restarted }
            );
            assert!(matches!(outputs[2], Output::Connected { connection: ConnectionKey(2), .. }));
        }
    }
}

#[test]
fn a_lost_peer_is_dialled_again_and_one_that_said_goodbye_is_not() {
    let (small, large) = two_peers();
    let goodbye = ClosedBy::Peer { code: CloseReason::Goodbye.code().into(), text: "goodbye".to_owned() };
    for (by, dials_again) in [(ClosedBy::Silence, true), (ClosedBy::Reset, true), (goodbye, false)] {
        let mut planner = connected(small, large, Side::Dialer);
        planner.handle_closed(at(1000), ConnectionKey(1), by.clone());
        assert!(matches!(outputs(&mut planner)[..], [Output::Disconnected { .. }]));
        let log = run(&mut planner, at(20_000));
        assert_eq!(!log.is_empty(), dials_again, "{by:?}: {log:?}");
    }
}

#[test]
fn a_named_address_without_an_id_is_dialled_until_somebody_answers_and_again_when_lost() {
    let (small, large) = two_peers();
    let mut planner = Planner::new(settings(large));
    planner.handle_named(at(0), address(9));
    let first = dials(run(&mut planner, at(10)).into_iter().map(|(_, output)| output));
    assert_eq!(first[0].1, [address(9)]);
    planner.handle_dial_failed(at(4000), first[0].0, DialFailure::Unreachable);
    let second = dials(run(&mut planner, at(5000)).into_iter().map(|(_, output)| output));
    planner.handle_connected(
        at(5000),
        ConnectionKey(1),
        made(small, Side::Dialer, address(9), Some(second[0].0)),
    );
    planner.handle_ready(at(5000), ConnectionKey(1), hello(1, 5));
    outputs(&mut planner);
    assert_eq!(run(&mut planner, at(60_000)), [], "connected, yet it dials");
    planner.handle_closed(at(60_000), ConnectionKey(1), ClosedBy::Silence);
    outputs(&mut planner);
    let third = dials(run(&mut planner, at(61_000)).into_iter().map(|(_, output)| output));
    assert_eq!(third[0].1, [address(9)]);
}

#[test]
fn a_pinned_node_dials_what_it_was_given_and_nothing_it_learned() {
    let (small, large) = two_peers();
    let mut planner = Planner::new(Settings { pinned: true, ..settings(small) });
    planner.handle_named(at(0), address(9));
    planner.handle_hint(at(0), LAN, peer(3), TAG, &[address(3)]);
    let first = dials(run(&mut planner, at(1000)).into_iter().map(|(_, output)| output));
    assert_eq!(first.len(), 1);
    // The peer is reached by the pinned address, and also comes in from another.
    planner.handle_connected(
        at(1000),
        ConnectionKey(1),
        made(large, Side::Dialer, address(9), Some(first[0].0)),
    );
    planner.handle_connected(at(1000), ConnectionKey(2), made(large, Side::Listener, address(2), None));
    planner.handle_ready(at(1000), ConnectionKey(1), hello(1, 5));
    planner.handle_ready(at(1000), ConnectionKey(2), hello(1, 6));
    planner.handle_closed(at(2000), ConnectionKey(1), ClosedBy::Silence);
    planner.handle_closed(at(2000), ConnectionKey(2), ClosedBy::Silence);
    outputs(&mut planner);
    for (_, addresses) in dials(run(&mut planner, at(9000)).into_iter().map(|(_, output)| output)) {
        assert_eq!(addresses, [address(9)]);
    }
}

#[test]
fn whoever_was_server_on_a_lost_address_dials_to_replace() {
    let (small, large) = two_peers();
    for (side, replaces_expected) in [(Side::Listener, true), (Side::Dialer, false)] {
        let mut planner = connected(small, large, side);
        planner.handle_interface(at(5000), false, [10, 0, 0, 1].into(), 24);
        let log = run(&mut planner, at(6000));
        let replaces = log.iter().any(|(_, output)| matches!(output, Output::Dial { replaces: true, .. }));
        assert_eq!(replaces, replaces_expected, "{log:?}");
        let Some((attempt, _)) = dials(log.into_iter().map(|(_, output)| output)).pop() else { continue };
        planner.handle_connected(
            at(6100),
            ConnectionKey(2),
            made(large, Side::Dialer, address(2), Some(attempt)),
        );
        assert_eq!(planner.hello(ConnectionKey(2)).unwrap().generation, 1);
        planner.handle_ready(at(6200), ConnectionKey(2), hello(1, 0));
        assert!(
            outputs(&mut planner)
                .iter()
                .any(|o| matches!(o, Output::Connected { connection: ConnectionKey(2), .. }))
        );
    }
}

#[test]
fn each_address_that_goes_gets_all_its_dials_to_replace_a_connection_that_lives_on() {
    let (small, large) = two_peers();
    let mut planner = connected(small, large, Side::Listener);
    for lost in [5_000, 65_000] {
        planner.handle_interface(at(lost), false, [10, 0, 0, 1].into(), 24);
        let tried = fail_dials(&mut planner, at(lost + 30_000));
        assert_eq!(tried.len(), 4, "{tried:?}");
        planner.handle_interface(at(lost + 30_000), true, [10, 0, 0, 1].into(), 24);
    }
}

#[test]
fn dials_that_replaced_nothing_do_not_delay_those_after_the_loss() {
    let (small, large) = two_peers();
    let mut planner = connected(small, large, Side::Listener);
    planner.handle_interface(at(5_000), false, [10, 0, 0, 1].into(), 24);
    fail_dials(&mut planner, at(20_000));
    planner.handle_broken(at(20_000), ConnectionKey(1));
    outputs(&mut planner);
    let tried = fail_dials(&mut planner, at(22_000));
    assert!(tried.len() >= 3, "begins with short pauses: {tried:?}");
}

#[test]
fn a_stranger_that_says_nothing_is_dropped_and_too_many_are_refused() {
    let mut planner = Planner::new(settings(peer(1)));
    for number in 0..100u8 {
        let key = ConnectionKey(number.into());
        planner.handle_connected(
            at(0),
            key,
            made(peer(number.wrapping_add(10)), Side::Listener, address(number), None),
        );
    }
    let refused = outputs(&mut planner).len();
    assert_eq!(refused, 100 - MAX_STRANGERS);
    let dropped =
        run(&mut planner, at(5000)).into_iter().filter(|(_, o)| matches!(o, Output::Close { .. })).count();
    assert_eq!(dropped, MAX_STRANGERS);
}

/// Plays 16 s on a LAN where the sources in `liars` announce 1,000 made-up peers a second, to which dials take 4 s. From
/// 6 s on a friend announces itself every 4 s. When it was dialled after that, and how many fakes were in all.
fn search_among_fakes(liars: &[Source]) -> (Option<Duration>, usize) {
    const HANDSHAKE: Duration = Duration::from_secs(4);
    let (small, large) = two_peers();
    let mut planner = Planner::new(settings(small));
    let (mut under_way, mut fakes) = (VecDeque::new(), BTreeSet::new());
    let addresses: Vec<_> = (0..20).map(|last| address(last + 100)).collect();
    for ms in 0..16_000u64 {
        let now = at(ms);
        let liar = liars[ms as usize % liars.len()];
        planner.handle_hint(now, liar, PeerId::random(), TAG, &addresses);
        if ms >= 6_000 && ms % 4_000 == 2_000 {
            planner.handle_hint(now, LAN, large, TAG, &[address(2)]);
        }
        while under_way.front().is_some_and(|(until, _)| *until <= now) {
            let (_, attempt) = under_way.pop_front().unwrap();
            planner.handle_dial_failed(now, attempt, DialFailure::Unreachable);
        }
        if planner.poll_deadline().is_some_and(|due| due <= now) {
            planner.handle_deadline(now);
        }
        for output in outputs(&mut planner) {
            let Output::Dial { attempt, peer, addresses, .. } = output else { continue };
            assert!(addresses.len() <= MAX_ADDRESSES);
            if peer == Some(large) {
                return (Some(now.saturating_since(at(6_000))), fakes.len());
            }
            under_way.push_back((now + HANDSHAKE, attempt));
            fakes.extend(peer);
        }
        assert!(planner.peer_count() <= MAX_PEERS);
        assert!(planner.poll_deadline().is_none_or(|due| due > now), "it would spin");
    }
    (None, fakes.len())
}

#[test]
fn a_flood_of_fake_peers_is_bounded_and_a_friend_among_them_is_dialled_at_once() {
    let (friend, fakes) = search_among_fakes(&[LIAR]);
    assert!(friend.is_some_and(|after| after < Duration::from_millis(10)), "{friend:?}");
    assert!(fakes < 50, "{fakes} fakes were dialled");
}

#[test]
fn a_flood_from_many_addresses_hides_no_friend_either() {
    let liars: Vec<_> = (1..=50).map(|last| Source::Discovery([10, 0, 1, last].into())).collect();
    let (friend, fakes) = search_among_fakes(&liars);
    assert!(friend.is_some_and(|after| after < Duration::from_secs(5)), "{friend:?}");
    assert!(fakes < 150, "{fakes} fakes were dialled");
}

#[test]
fn whoever_said_hello_once_outlives_a_flood() {
    let (small, large) = two_peers();
    let mut planner = connected(small, large, Side::Dialer);
    planner.handle_closed(at(1_000), ConnectionKey(1), ClosedBy::Silence);
    outputs(&mut planner);
    for ms in 1_000..20_000u64 {
        let liar = Source::Discovery([10, 0, 1, (ms % 200) as u8].into());
        planner.handle_hint(at(ms), liar, PeerId::random(), TAG, &[address(9)]);
        planner.handle_deadline(at(ms));
        for (attempt, _) in dials(outputs(&mut planner)) {
            planner.handle_dial_failed(at(ms), attempt, DialFailure::Unreachable);
        }
    }
    let dialled = run(&mut planner, at(30_000))
        .into_iter()
        .any(|(_, output)| matches!(output, Output::Dial { peer, .. } if peer == Some(large)));
    assert!(dialled, "it was forgotten");
}

/// Lets every dial fail up to `until`, and returns when they were, in milliseconds.
fn fail_dials(planner: &mut Planner, until: LocalTime) -> Vec<u64> {
    let mut tried = Vec::new();
    while let Some(due) = planner.poll_deadline().filter(|due| *due <= until) {
        planner.handle_deadline(due);
        for (attempt, _) in dials(outputs(planner)) {
            tried.push(due.as_nanos() / 1_000_000);
            planner.handle_dial_failed(due, attempt, DialFailure::Unreachable);
        }
    }
    tried
}

#[test]
fn a_peer_seen_again_after_most_of_an_hour_is_dialled_within_seconds() {
    let (small, large) = two_peers();
    for healed in (3_000_000..3_030_000).step_by(1_000) {
        let mut planner = connected(small, large, Side::Dialer);
        planner.handle_closed(at(0), ConnectionKey(1), ClosedBy::Silence);
        outputs(&mut planner);
        fail_dials(&mut planner, at(healed));
        planner.handle_hint(at(healed), LAN, large, TAG, &[address(2)]);
        let after = fail_dials(&mut planner, at(healed + 30_000));
        assert!(after.first().is_some_and(|first| first - healed <= 4_000), "healed at {healed}: {after:?}");
    }
}

#[test]
fn an_announcement_repeated_without_end_is_no_reason_to_hammer() {
    let (small, large) = two_peers();
    let mut planner = Planner::new(settings(small));
    let mut tried = Vec::new();
    for ms in (0..600_000).step_by(50) {
        planner.handle_hint(at(ms), LAN, large, TAG, &[address(2)]);
        tried.extend(fail_dials(&mut planner, at(ms)));
    }
    // Backoff takes 2 to 4 s in the long run.
    assert!(tried.len() < 300, "{} dials in ten minutes", tried.len());

    // With another address each time, which a liar can make up, it is a little more.
    tried.clear();
    for ms in (600_000..660_000).step_by(50) {
        planner.handle_hint(at(ms), LAN, large, TAG, &[address((ms / 50 % 256) as u8)]);
        tried.extend(fail_dials(&mut planner, at(ms)));
    }
    assert!(tried.len() <= 61, "{} dials in a minute", tried.len());
}

#[test]
fn the_true_address_of_a_friend_gets_in_though_a_liar_told_of_eight_dead_ones() {
    let (small, large) = two_peers();
    let mut planner = Planner::new(settings(small));
    let dead: Vec<_> = (100..108).map(address).collect();
    planner.handle_hint(at(0), LIAR, large, TAG, &dead);
    planner.handle_hint(at(0), LAN, large, TAG, &[address(2)]);
    // Nor does the liar get it out again.
    for number in 0..50 {
        planner.handle_hint(at(1 + number), LIAR, large, TAG, &[address(200 + number as u8)]);
    }
    let dialled = dials(run(&mut planner, at(100)).into_iter().map(|(_, output)| output));
    let (_, addresses) = dialled.first().unwrap();
    assert!(addresses.contains(&address(2)) && addresses.len() <= MAX_ADDRESSES, "{addresses:?}");
}

#[test]
fn the_newest_of_many_addresses_of_a_peer_is_dialled() {
    let (small, large) = two_peers();
    // A machine that was killed and is back on another port again and again, and one with a new address each day.
    let ports = |number: u16| format!("/ip4/10.0.0.2/udp/{}/quic-v1", 40_000 + number);
    let days = |number: u16| format!("/ip4/10.0.{number}.2/udp/7778/quic-v1");
    for (at_port, source) in [(true, None), (false, Some(()))] {
        let mut planner = Planner::new(settings(small));
        for number in 0..20u16 {
            let now = at(u64::from(number) * 60_000);
            let address: Multiaddr = if at_port { ports(number) } else { days(number) }.parse().unwrap();
            let source = source.map_or(LAN, |()| Source::Discovery([10, 0, number as u8, 2].into()));
            planner.handle_hint(now, source, large, TAG, std::slice::from_ref(&address));
            planner.handle_deadline(now + Duration::from_secs(30));
            let dialled = dials(outputs(&mut planner));
            let (attempt, addresses) = dialled.first().expect("a dial");
            assert!(addresses.contains(&address), "{address} is not in {addresses:?}");
            assert!(addresses.len() <= MAX_ADDRESSES);
            planner.handle_dial_failed(now + Duration::from_secs(34), *attempt, DialFailure::Unreachable);
        }
    }
}

#[test]
fn whoever_answers_but_never_takes_part_is_dialled_ever_less_often() {
    let (small, large) = two_peers();
    let mut planner = Planner::new(settings(small));
    planner.handle_hint(at(0), LAN, large, TAG, &[address(2)]);
    let (mut key, mut count) = (0, 0);
    while let Some(due) = planner.poll_deadline().filter(|due| *due < at(600_000)) {
        planner.handle_deadline(due);
        for (attempt, _) in dials(outputs(&mut planner)) {
            (key, count) = (key + 1, count + 1);
            let connection = ConnectionKey(key);
            let made = made(large, Side::Dialer, address(2), Some(attempt));
            planner.handle_connected(due, connection, made);
            planner.handle_ready(due, connection, hello(1, key));
            // Those above hear nothing of it for 3 s.
            planner.renew(due + Duration::from_secs(3), &large);
            outputs(&mut planner);
        }
    }
    assert!((5..=45).contains(&count), "{count} connections in ten minutes");
}

#[test]
fn another_version_of_the_protocol_is_told_once_and_what_to_do() {
    let (small, large) = two_peers();
    let mut planner = Planner::new(settings(small));
    for _ in 0..10 {
        planner.handle_other_version(large, TAG, PROTOCOL_VERSION + 1);
        planner.handle_other_version(peer(3), *b"elsewher", PROTOCOL_VERSION + 1);
    }
    let told = outputs(&mut planner);
    assert!(
        matches!(&told[..], [Output::Warning(text)] if text.contains("update Bandmesh here")),
        "{told:?}"
    );
    // Who makes up peers does not fill the user's screen.
    for _ in 0..1000 {
        planner.handle_other_version(PeerId::random(), TAG, 0);
    }
    assert!(outputs(&mut planner).len() < 10);
}

#[test]
fn whoever_was_client_on_a_network_that_is_gone_takes_the_other_one() {
    let (small, large) = two_peers();
    let stage: Multiaddr = "/ip4/10.1.0.2/udp/7778/quic-v1".parse().unwrap();
    let own = |network: u8| IpAddr::from([10, network, 0, 1]);
    for is_back_at_once in [false, true] {
        let mut planner = Planner::new(settings(small));
        planner.handle_interface(at(0), true, own(0), 24);
        planner.handle_interface(at(0), true, own(1), 24);
        planner.handle_hint(at(0), LAN, large, TAG, &[address(2), stage.clone()]);
        let (attempt, _) = dials(run(&mut planner, at(0)).into_iter().map(|(_, output)| output)).remove(0);
        let made = made(large, Side::Dialer, address(2), Some(attempt));
        planner.handle_connected(at(5), ConnectionKey(1), made);
        planner.handle_ready(at(10), ConnectionKey(1), hello(1, 5));
        outputs(&mut planner);
        // What the connection does not use may go.
        planner.handle_interface(at(1_000), false, own(1), 24);
        assert_eq!(run(&mut planner, at(2_000)), []);
        planner.handle_interface(at(2_000), true, own(1), 24);

        planner.handle_interface(at(3_000), false, own(0), 24);
        if is_back_at_once {
            // A new lease on the same network: QUIC goes on with it.
            planner.handle_interface(at(3_050), true, [10, 0, 0, 9].into(), 24);
        }
        let log = run(&mut planner, at(4_000));
        let replaces = |output: &Output| matches!(output, Output::Dial { replaces: true, addresses, .. } if addresses.contains(&stage));
        let replaced = log.iter().any(|(_, output)| replaces(output));
        assert_eq!(replaced, !is_back_at_once, "{log:?}");
    }
}

#[test]
fn another_network_is_known_from_the_peers_own_word() {
    let (small, large) = two_peers();
    let stage: Multiaddr = "/ip4/10.1.0.2/udp/7778/quic-v1".parse().unwrap();
    let elsewhere: Multiaddr = "/ip4/172.16.0.2/udp/7778/quic-v1".parse().unwrap();
    for pinned in [false, true] {
        let mut planner = Planner::new(Settings { pinned, ..settings(small) });
        for network in 0..2 {
            planner.handle_interface(at(0), true, [10, network, 0, 1].into(), 24);
        }
        // Who was dialled has seen no announcement yet.
        planner.handle_connected(at(5), ConnectionKey(1), made(large, Side::Listener, address(2), None));
        planner.handle_ready(at(10), ConnectionKey(1), hello(1, 5));
        planner.handle_listens(at(20), &large, &[address(2), stage.clone(), elsewhere.clone()]);
        outputs(&mut planner);
        planner.handle_interface(at(3_000), false, [10, 0, 0, 1].into(), 24);
        let log = run(&mut planner, at(4_000));
        let dialled = dials(log.into_iter().map(|(_, output)| output)).into_iter().flat_map(|(_, to)| to);
        let dialled: Vec<Multiaddr> = dialled.collect();
        assert_eq!(dialled.contains(&stage), !pinned, "{dialled:?}");
        assert!(!dialled.contains(&elsewhere), "{dialled:?}");
    }
}

#[test]
fn a_banned_peer_is_refused_until_the_ban_ends() {
    let (small, large) = two_peers();
    let mut planner = connected(small, large, Side::Listener);
    planner.ban(at(0), large, Duration::from_secs(60));
    outputs(&mut planner);
    planner.handle_connected(at(1000), ConnectionKey(2), made(large, Side::Listener, address(2), None));
    assert!(matches!(outputs(&mut planner)[..], [Output::Close { .. }]));
    planner.handle_connected(at(61_000), ConnectionKey(3), made(large, Side::Listener, address(2), None));
    planner.handle_ready(at(61_000), ConnectionKey(3), hello(1, 9));
    assert!(matches!(outputs(&mut planner)[..], [Output::Connected { .. }]));
}

#[test]
fn an_address_where_somebody_else_answers_is_forgotten() {
    let (small, large) = two_peers();
    let mut planner = Planner::new(settings(small));
    planner.handle_hint(at(0), LAN, large, TAG, &[address(2), address(3)]);
    let first = dials(run(&mut planner, at(0)).into_iter().map(|(_, output)| output));
    let wrong = DialFailure::WrongPeer { address: address(2), obtained: peer(3) };
    planner.handle_dial_failed(at(10), first[0].0, wrong);
    let second = dials(run(&mut planner, at(1000)).into_iter().map(|(_, output)| output));
    assert_eq!(second[0].1, [address(3)]);
}

#[test]
fn nobody_is_dialled_while_a_connection_to_it_says_hello() {
    let (small, large) = two_peers();
    let mut planner = Planner::new(settings(small));
    planner.handle_hint(at(0), LAN, large, TAG, &[address(2)]);
    let (attempt, _) = dials(run(&mut planner, at(0)).into_iter().map(|(_, output)| output)).remove(0);
    planner.handle_connected(at(10), ConnectionKey(1), made(large, Side::Dialer, address(2), Some(attempt)));
    assert_eq!(run(&mut planner, at(4000)), []);
    planner.handle_closed(at(4000), ConnectionKey(1), ClosedBy::Silence);
    assert_eq!(dials(run(&mut planner, at(4500)).into_iter().map(|(_, output)| output)).len(), 1);
}

#[test]
fn a_link_local_address_is_dialled_only_when_no_other_answers() {
    let (small, large) = two_peers();
    let link_local: Multiaddr = "/ip6zone/2/ip6/fe80::1/udp/7778/quic-v1".parse().unwrap();
    let mut planner = Planner::new(settings(small));
    planner.handle_hint(at(0), LAN, large, TAG, &[link_local.clone(), address(2)]);
    let (attempt, first) = dials(run(&mut planner, at(0)).into_iter().map(|(_, output)| output)).remove(0);
    assert_eq!(first, [address(2)]);
    planner.handle_dial_failed(at(100), attempt, DialFailure::Unreachable);
    let (attempt, second) =
        dials(run(&mut planner, at(1000)).into_iter().map(|(_, output)| output)).remove(0);
    assert_eq!(second, [address(2), link_local.clone()]);

    // It answered; when that link goes, another way is looked for at once.
    planner.handle_connected(
        at(1000),
        ConnectionKey(1),
        made(large, Side::Dialer, link_local, Some(attempt)),
    );
    planner.handle_ready(at(1000), ConnectionKey(1), hello(1, 5));
    outputs(&mut planner);
    planner.handle_interface(at(2000), false, "fe80::2".parse().unwrap(), 64);
    let log = run(&mut planner, at(3000));
    assert!(log.iter().any(|(_, output)| matches!(output, Output::Dial { replaces: true, .. })), "{log:?}");
}

#[test]
fn a_friend_gets_in_during_a_flood_of_silent_strangers() {
    let (small, large) = two_peers();
    let mut planner = Planner::new(settings(small));
    let friend = ConnectionKey(500);
    for number in 0..1000u64 {
        let now = at(number);
        if number == 500 {
            planner.handle_connected(now, friend, made(large, Side::Listener, address(2), None));
        }
        let stranger = made(PeerId::random(), Side::Listener, address(100 + (number % 3) as u8), None);
        planner.handle_connected(now, ConnectionKey(1000 + number), stranger);
    }
    let closed: Vec<_> = outputs(&mut planner);
    assert_eq!(closed.len(), 1001 - MAX_STRANGERS);
    assert!(
        closed
            .iter()
            .all(|output| !matches!(output, Output::Close { connection, .. } if *connection == friend))
    );
    planner.handle_ready(at(1000), friend, hello(9, 9));
    let after = outputs(&mut planner);
    assert!(
        after.iter().any(|output| matches!(output, Output::Connected { peer, .. } if *peer == large)),
        "{after:?}"
    );
}

#[test]
fn a_peer_that_moved_is_dialled_at_its_new_address_when_we_move() {
    let (small, large) = two_peers();
    let mut planner = connected(small, large, Side::Listener);
    planner.handle_address_change(ConnectionKey(1), address(9));
    assert!(matches!(outputs(&mut planner)[..], [Output::PathChanged { .. }]));
    planner.handle_interface(at(1_000), false, "10.0.0.1".parse().unwrap(), 24);
    let dialled = dials(run(&mut planner, at(2_000)).into_iter().map(|(_, output)| output));
    assert_eq!(dialled.first().map(|(_, addresses)| addresses.first()), Some(Some(&address(9))));
}
