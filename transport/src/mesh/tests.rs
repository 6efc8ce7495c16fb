//! Stories of two planners, and of one under attack. No sockets, no clock but the one passed in.

use std::collections::BTreeSet;
use std::time::Duration;

use libp2p::identity::Keypair;
use libp2p::{Multiaddr, PeerId};

use super::*;
use crate::time::LocalTime;

const TAG: [u8; 8] = *b"testtest";

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
        planner.handle_hint(at(0), Source::Discovery, other, TAG, &[address(2)]);
        let log = run(&mut planner, at(1000));
        assert_eq!(log.len(), 1);
        assert_eq!(log[0].0, expected_ms);
    }
}

#[test]
fn nobody_dials_itself_another_session_or_a_connected_peer() {
    let (small, large) = two_peers();
    let mut planner = connected(small, large, Side::Listener);
    planner.handle_hint(at(0), Source::Discovery, small, TAG, &[address(1)]);
    planner.handle_hint(at(0), Source::Discovery, peer(3), *b"elsewher", &[address(3)]);
    planner.handle_hint(at(0), Source::Discovery, large, TAG, &[address(2)]);
    assert_eq!(run(&mut planner, at(60_000)), []);
}

#[test]
fn an_unreachable_peer_is_tried_ever_less_often_but_within_seconds() {
    let (small, large) = two_peers();
    let mut planner = Planner::new(settings(small));
    planner.handle_hint(at(0), Source::Discovery, large, TAG, &[address(2)]);
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
    planner.handle_hint(at(0), Source::Discovery, peer(3), TAG, &[address(3)]);
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

#[test]
fn a_flood_of_fake_peers_is_bounded_and_friends_are_still_dialled() {
    let (small, large) = two_peers();
    let mut planner = Planner::new(settings(small));
    let mut answered = BTreeSet::new();
    let mut now = at(0);
    for number in 0..20_000u32 {
        now = now + Duration::from_millis(1);
        let fake = PeerId::random();
        let addresses: Vec<_> = (0..20).map(|last| address(last + 100)).collect();
        planner.handle_hint(now, Source::Discovery, fake, TAG, &addresses);
        if number == 15_000 {
            // mDNS repeats itself until it is heard.
            for repeat in 0..100 {
                planner.handle_hint(
                    now + Duration::from_millis(100 * repeat),
                    Source::Discovery,
                    large,
                    TAG,
                    &[address(2)],
                );
            }
        }
        planner.handle_deadline(now);
        for output in outputs(&mut planner) {
            if let Output::Dial { attempt, peer, addresses, .. } = output {
                assert!(addresses.len() <= MAX_ADDRESSES);
                answered.extend(peer);
                planner.handle_dial_failed(now, attempt, DialFailure::Unreachable);
            }
        }
    }
    assert!(planner.peer_count() <= MAX_PEERS);
    assert!(answered.len() < 700, "{} fakes were dialled in 20 s", answered.len());
    assert!(answered.contains(&large));
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
    planner.handle_hint(at(0), Source::Discovery, large, TAG, &[address(2), address(3)]);
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
    planner.handle_hint(at(0), Source::Discovery, large, TAG, &[address(2)]);
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
    planner.handle_hint(at(0), Source::Discovery, large, TAG, &[link_local.clone(), address(2)]);
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
