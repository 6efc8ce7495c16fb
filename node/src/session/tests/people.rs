//! What people see of each other, between whole sessions.

use serde_json::json;

use super::super::member_state::ConnectionReading;
use super::super::message::{MemberState, Touch, TouchValue};
use super::*;

const GAIN: &str = "/mixer/strip/x/gain_db";

fn two() -> Band {
    let mut band = Band::new();
    band.start(0, "jam", 120.0, 0);
    band.start(0, "jam", 120.0, 5 * SECOND);
    band.connect(0, 0, 1);
    band.run(0, SECOND);
    band
}

fn reading(peer: u8, received: u64) -> ConnectionReading<u8> {
    ConnectionReading {
        peer,
        id: vec![peer],
        path: 1,
        rtt_us: Some(300),
        one_way_us: Some(5_000),
        received,
        lost: 0,
    }
}

#[test]
fn everybody_knows_who_muted_themselves_and_who_hears_whom() {
    let mut band = two();
    band.nodes[0].set_muted(SECOND, true);
    // Alice gets packets of Bob, Bob none of Alice.
    for step in 0..50 {
        let now = SECOND + step * 100 * MS;
        band.nodes[0].handle_links(now, vec![reading(1, step as u64)]);
        band.nodes[1].handle_links(now + 5 * SECOND, vec![reading(0, 0)]);
        band.run(now, now + 50 * MS);
    }
    let (now, bobs_now) = (6 * SECOND, 11 * SECOND);
    let of_alice = band.nodes[1].state_of(bobs_now, &0).unwrap();
    assert!(of_alice.muted);
    assert_eq!(of_alice.hears(&[1]), Some(true));
    assert_eq!(of_alice.link(&[1]).unwrap().one_way_us, Some(5_000));
    let of_bob = band.nodes[0].state_of(now, &1).unwrap();
    assert!(!of_bob.muted);
    assert_eq!(of_bob.hears(&[0]), Some(false));
    band.nodes[1].leave();
    band.deliver(now);
    assert_eq!(band.nodes[0].state_of(now, &1), None);
}

#[test]
fn a_drag_is_seen_by_the_others_without_a_tick_and_by_those_who_come_meanwhile() {
    let mut band = two();
    band.nodes[0].touch(2 * SECOND, 7, GAIN, Some(json!(-6.0))).unwrap();
    band.deliver(2 * SECOND);
    let seen = |band: &Band, node: usize| band.nodes[node].touches().value_at(GAIN).cloned();
    assert_eq!(seen(&band, 1), Some(json!(-6.0)));
    band.start(0, "jam", 120.0, 0);
    band.connect(2 * SECOND, 0, 2);
    assert_eq!(seen(&band, 2), Some(json!(-6.0)));
    band.nodes[0].let_go(2 * SECOND, 7, Some(GAIN));
    band.run(2 * SECOND, 4 * SECOND);
    for node in 0..3 {
        assert_eq!(seen(&band, node), None, "node {node}");
    }
}

#[test]
fn what_a_lost_member_held_is_let_go() {
    let mut band = two();
    band.nodes[0].touch(2 * SECOND, 7, GAIN, Some(json!(-6.0))).unwrap();
    band.deliver(2 * SECOND);
    band.nodes[1].handle_disconnected(&0);
    assert_eq!(band.nodes[1].touches().iter().count(), 0);
}

#[test]
fn an_older_node_is_asked_once_and_then_left_in_peace() {
    let mut alice = {
        let mut band = Band::new();
        band.start(0, "jam", 120.0, 0);
        band.nodes.remove(0)
    };
    let mut other = Band::new();
    other.start(0, "jam", 120.0, 0);
    let hello = message::encode(&Control::Hello(other.nodes[0].hello()));
    alice.handle_connected(0, 9);
    alice.handle_frame(0, &9, &hello).unwrap();
    let mut states = 0;
    for step in 0..60 {
        let now = step * 50 * MS;
        alice.set_muted(now, step % 2 == 0);
        alice.touch(now, 1, GAIN, Some(json!(0))).unwrap();
        alice.handle_deadline(now);
        while let Some(output) = alice.poll() {
            if let Output::Send(_, Control::State(_) | Control::Touch(_)) = output {
                states += 1;
            }
        }
    }
    assert_eq!(states, 1);
}

#[test]
fn strangers_and_later_versions_change_nothing() {
    let mut band = two();
    let state = message::encode(&Control::State(MemberState { muted: true, ..MemberState::default() }));
    let touch = Touch { source: 1, address: GAIN.into(), value: TouchValue::Number(0.0) };
    let touch = message::encode(&Control::Touch(touch));
    band.nodes[0].handle_connected(SECOND, 9);
    for frame in [&state[..], &touch[..], &[12, 1, 2]] {
        for _ in 0..3 * MAX_BAD_FRAMES {
            band.nodes[0].handle_frame(SECOND, &9, frame).unwrap();
        }
    }
    assert_eq!(band.nodes[0].touches().iter().count(), 0);
    assert_eq!(band.nodes[0].state_of(SECOND, &9), None);
    assert!(band.refused[0].is_empty());
}
