//! Alice plays, the network loses, and nothing hangs at Bob's.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::rtp::PacketError;
use crate::time::LocalTime;

fn sender() -> MidiSender {
    MidiSender::new(MidiSenderConfig { ssrc: 5, first_sequence: 65_534, max_datagram: 1_200 })
}

fn local(ms: u64) -> LocalTime {
    LocalTime::from_nanos(ms * 1_000_000)
}

fn session(ms: u64) -> SessionTime {
    SessionTime::from_nanos(90_000_000_000_000 + ms as i64 * 1_000_000)
}

/// One message in one packet, sent at once.
fn play(alice: &mut MidiSender, ms: u64, message: &[u8]) -> Bytes {
    alice.push(session(ms), message).unwrap();
    alice.poll_transmit(local(ms), session(ms)).unwrap()
}

fn hear(bob: &mut MidiReceiver, ms: u64, packet: &[u8]) -> Vec<(Vec<u8>, bool)> {
    bob.handle_packet(local(ms), session(ms), packet).unwrap();
    events(bob)
}

fn events(bob: &mut MidiReceiver) -> Vec<(Vec<u8>, bool)> {
    std::iter::from_fn(|| bob.poll_event()).map(|event| (event.message, event.repaired)).collect()
}

#[test]
fn messages_arrive_with_the_times_they_were_played_at() {
    let (mut alice, mut bob) = (sender(), MidiReceiver::new(None));
    alice.push(session(10), &[0x90, 60, 100]).unwrap();
    alice.push(session(13), &[0xB0, 7, 90]).unwrap();
    alice.push(session(13), &[0xF0, 1, 2, 3, 0xF7]).unwrap();
    let packet = alice.poll_transmit(local(14), session(14)).unwrap();
    assert_eq!(alice.poll_transmit(local(14), session(14)), None);
    bob.handle_packet(local(40), session(40), &packet).unwrap();
    let heard: Vec<MidiEvent> = std::iter::from_fn(|| bob.poll_event()).collect();
    for (event, ms) in heard.iter().zip([10, 13, 13]) {
        assert!(event.time.nanos_from(session(ms)).abs() < 21_000, "within a tick: {event:?}");
        assert!(!event.repaired);
    }
    assert_eq!(heard[2].message, [0xF0, 1, 2, 3, 0xF7]);
}

#[test]
fn a_lost_note_off_is_made_good_by_the_next_packet_whatever_it_is() {
    let (mut alice, mut bob) = (sender(), MidiReceiver::new(None));
    hear(&mut bob, 0, &play(&mut alice, 0, &[0x93, 60, 100]));
    play(&mut alice, 50, &[0x83, 60, 0]);
    let next = play(&mut alice, 80, &[0x93, 64, 90]);
    assert_eq!(hear(&mut bob, 80, &next), [(vec![0x83, 60, 64], true), (vec![0x93, 64, 90], false)]);
}

#[test]
fn a_lost_note_off_at_the_end_of_a_phrase_is_made_good_by_a_repeat() {
    let (mut alice, mut bob) = (sender(), MidiReceiver::new(None));
    hear(&mut bob, 0, &play(&mut alice, 0, &[0x90, 60, 100]));
    play(&mut alice, 50, &[0x80, 60, 0]);
    let due = alice.poll_deadline().unwrap();
    assert_eq!(due, local(60));
    let repeat = alice.poll_transmit(due, session(60)).unwrap();
    assert_eq!(hear(&mut bob, 60, &repeat), [(vec![0x80, 60, 64], true)]);
}

#[test]
fn a_lost_note_is_started_late_only_while_it_is_young() {
    for (delay_ms, starts) in [(30, true), (500, false)] {
        let (mut alice, mut bob) = (sender(), MidiReceiver::new(None));
        hear(&mut bob, 0, &play(&mut alice, 0, &[0xC0, 4]));
        play(&mut alice, 10, &[0x90, 60, 100]);
        let next = play(&mut alice, 10 + delay_ms, &[0xB0, 1, 1]);
        let heard = hear(&mut bob, 10 + delay_ms, &next);
        assert_eq!(heard.contains(&(vec![0x90, 60, 100], true)), starts, "{delay_ms} ms: {heard:?}");
    }
}

#[test]
fn controllers_program_wheel_and_pressure_are_restored_after_loss() {
    let (mut alice, mut bob) = (sender(), MidiReceiver::new(None));
    hear(&mut bob, 0, &play(&mut alice, 0, &[0x90, 60, 100]));
    let lost: [&[u8]; 6] =
        [&[0xB0, 0, 1], &[0xB0, 32, 2], &[0xC0, 9], &[0xB0, 64, 127], &[0xE0, 3, 70], &[0xD0, 55]];
    for message in lost {
        play(&mut alice, 10, message);
    }
    let heard = hear(&mut bob, 20, &play(&mut alice, 20, &[0x90, 62, 80]));
    for message in lost {
        assert!(heard.contains(&(message.to_vec(), true)), "{message:?} in {heard:?}");
    }
    assert_eq!(heard.len(), lost.len() + 1, "each once");
}

/// What an instrument at the end of `messages` has set: the value by the parameter that was selected before it.
fn parameters(messages: &[(Vec<u8>, bool)]) -> BTreeMap<(u8, u8), u8> {
    let mut selected = (127, 127);
    let mut set = BTreeMap::new();
    for (message, _) in messages {
        match message[..] {
            [0xB0, 101, high] => selected.0 = high,
            [0xB0, 100, low] => selected.1 = low,
            [0xB0, 6, value] => drop(set.insert(selected, value)),
            _ => {}
        }
    }
    set
}

#[test]
fn a_restored_value_is_for_the_parameter_it_was_played_for() {
    let (mut alice, mut bob) = (sender(), MidiReceiver::new(None));
    let mut heard = Vec::new();
    for message in [[0xB0, 101, 0], [0xB0, 100, 0], [0xB0, 6, 12]] {
        heard.extend(hear(&mut bob, 0, &play(&mut alice, 0, &message)));
    }
    // Another parameter is given the same value, and a third one another.
    for message in [[0xB0, 100, 1], [0xB0, 6, 12]] {
        play(&mut alice, 10, &message);
    }
    heard.extend(hear(&mut bob, 20, &play(&mut alice, 20, &[0xB0, 1, 1])));
    for message in [[0xB0, 100, 2], [0xB0, 6, 70]] {
        play(&mut alice, 30, &message);
    }
    heard.extend(hear(&mut bob, 40, &play(&mut alice, 40, &[0xB0, 1, 2])));
    let set = [((0, 0), 12), ((0, 1), 12), ((0, 2), 70)];
    assert_eq!(parameters(&heard), BTreeMap::from(set), "{heard:?}");
    let later = hear(&mut bob, 50, &play(&mut alice, 50, &[0xB0, 1, 3]));
    assert_eq!(later, [(vec![0xB0, 1, 3], false)], "and once");
}

#[test]
fn a_step_that_was_heard_is_not_taken_again_when_another_parameter_is_selected() {
    let (mut alice, mut bob) = (sender(), MidiReceiver::new(None));
    for message in [[0xB0, 101, 0], [0xB0, 100, 0], [0xB0, 96, 0], [0xB0, 97, 0]] {
        hear(&mut bob, 0, &play(&mut alice, 0, &message));
    }
    play(&mut alice, 10, &[0xB0, 100, 1]);
    let heard = hear(&mut bob, 20, &play(&mut alice, 20, &[0xB0, 1, 1]));
    assert_eq!(heard, [(vec![0xB0, 100, 1], true), (vec![0xB0, 1, 1], false)]);
}

#[test]
fn all_notes_off_reaches_bob_even_if_lost() {
    let (mut alice, mut bob) = (sender(), MidiReceiver::new(None));
    hear(&mut bob, 0, &play(&mut alice, 0, &[0x90, 60, 100]));
    play(&mut alice, 10, &[0xB0, 123, 0]);
    assert_eq!(hear(&mut bob, 20, &play(&mut alice, 20, &[0xC0, 1]))[0], (vec![0x80, 60, 64], true));
}

#[test]
fn when_alice_vanishes_bob_lifts_her_keys_after_three_seconds() {
    let (mut alice, mut bob) = (sender(), MidiReceiver::new(None));
    hear(&mut bob, 0, &play(&mut alice, 0, &[0x90, 60, 100]));
    hear(&mut bob, 5, &play(&mut alice, 5, &[0xB0, 64, 127]));
    assert_eq!(bob.poll_deadline(), Some(local(3_005)));
    bob.handle_deadline(local(3_004), session(3_004));
    assert_eq!(events(&mut bob), []);
    bob.handle_deadline(local(3_005), session(3_005));
    assert_eq!(events(&mut bob), [(vec![0x80, 60, 64], true), (vec![0xB0, 64, 0], true)]);
    assert_eq!(bob.poll_deadline(), None);
}

#[test]
fn a_chord_held_for_long_is_kept_alive_by_the_senders_repeats() {
    let (mut alice, mut bob) = (sender(), MidiReceiver::new(None));
    hear(&mut bob, 0, &play(&mut alice, 0, &[0x90, 60, 100]));
    let mut packets = 0;
    for ms in 0..30_000 {
        while let Some(packet) = alice.poll_transmit(local(ms), session(ms)) {
            packets += 1;
            assert_eq!(hear(&mut bob, ms, &packet), []);
        }
        bob.handle_deadline(local(ms), session(ms));
        assert_eq!(events(&mut bob), []);
    }
    assert!((30..45).contains(&packets), "{packets} packets in 30 s");
}

#[test]
fn a_restarted_sender_does_not_leave_its_old_notes_behind() {
    let (mut alice, mut bob) = (sender(), MidiReceiver::new(None));
    hear(&mut bob, 0, &play(&mut alice, 0, &[0x90, 60, 100]));
    let mut again = MidiSender::new(MidiSenderConfig { ssrc: 6, first_sequence: 9, max_datagram: 1_200 });
    let heard = hear(&mut bob, 10, &play(&mut again, 10, &[0x90, 72, 90]));
    assert_eq!(heard, [(vec![0x80, 60, 64], true), (vec![0x90, 72, 90], false)]);
    let stale = play(&mut alice, 11, &[0x90, 61, 1]);
    assert_eq!(bob.handle_packet(local(11), session(11), &stale), Err(PacketError::ReplacedStream(5)));
}

#[test]
fn an_acknowledgement_shortens_the_journal() {
    let (mut alice, mut bob) = (sender(), MidiReceiver::new(None));
    for note in 0..100 {
        hear(&mut bob, 0, &play(&mut alice, 0, &[0x90, note, 100]));
    }
    let long = play(&mut alice, 0, &[0xB0, 1, 1]);
    alice.handle_acknowledged(bob.report_block().unwrap().highest_sequence);
    let short = play(&mut alice, 0, &[0xB0, 1, 2]);
    assert!(long.len() > 200 && short.len() < 40, "{} then {}", long.len(), short.len());
}

#[test]
fn a_packet_overtaken_by_its_successor_is_not_played_again() {
    let (mut alice, mut bob) = (sender(), MidiReceiver::new(None));
    hear(&mut bob, 0, &play(&mut alice, 0, &[0xC0, 1]));
    let first = play(&mut alice, 1, &[0x90, 60, 100]);
    let second = play(&mut alice, 2, &[0x80, 60, 0]);
    let heard = hear(&mut bob, 2, &second);
    assert_eq!(heard, [(vec![0x90, 60, 100], true), (vec![0x80, 60, 0], false)]);
    assert_eq!(hear(&mut bob, 3, &first), []);
    assert_eq!(bob.statistics().late, 1);
}

#[test]
fn what_is_no_whole_message_is_refused_before_it_is_sent() {
    let mut alice = sender();
    for bad in [&[][..], &[60, 100], &[0x90, 60], &[0x90, 60, 200], &[0xF0, 1], &[0xF4], &[0x90, 1, 2, 3]] {
        assert_eq!(alice.push(session(0), bad), Err(MidiError::Malformed), "{bad:?}");
    }
    let sysex = [&[0xF0][..], &[1; 2_000], &[0xF7]].concat();
    assert!(matches!(alice.push(session(0), &sysex), Err(MidiError::TooLarge { got: 2_002, .. })));
}

/// Which keys are down and what the controllers say, as anybody who heard the messages would have it.
#[derive(Debug, Default, PartialEq)]
struct Heard {
    notes: BTreeMap<(u8, u8), ()>,
    values: BTreeMap<(u8, u8), (u8, u8)>,
}

impl Heard {
    fn follow(&mut self, message: &[u8]) {
        let &[status, first, ref rest @ ..] = message else { return };
        let (channel, second) = (status & 0x0F, rest.first().copied().unwrap_or(0));
        match (status & 0xF0, first) {
            (0x90, _) if second > 0 => drop(self.notes.insert((channel, first), ())),
            (0x80 | 0x90, _) => drop(self.notes.remove(&(channel, first))),
            (0xB0, 123) => self.notes.retain(|&(it, _), _| it != channel),
            (0xB0, _) => drop(self.values.insert((status, first), (second, 0))),
            _ => drop(self.values.insert((status, 0), (first, second))),
        }
    }
}

fn message() -> impl Strategy<Value = Vec<u8>> {
    let channel = 0u8..16;
    prop_oneof![
        4 => (channel.clone(), 0u8..128, 0u8..128).prop_map(|(channel, note, velocity)| vec![0x90 | channel, note, velocity]),
        4 => (channel.clone(), 0u8..128).prop_map(|(channel, note)| vec![0x80 | channel, note, 0]),
        2 => (channel.clone(), 0u8..120, 0u8..128).prop_map(|(channel, number, value)| vec![0xB0 | channel, number, value]),
        1 => channel.clone().prop_map(|channel| vec![0xB0 | channel, 123, 0]),
        1 => (channel.clone(), 0u8..128).prop_map(|(channel, program)| vec![0xC0 | channel, program]),
        1 => (channel, 0u8..128, 0u8..128).prop_map(|(channel, low, high)| vec![0xE0 | channel, low, high]),
    ]
}

proptest! {
    /// Any phrase over any loss: once packets get through again, no key is down at Bob's that is up at Alice's, and
    /// all else is the same on both sides. `max_datagram` is small enough that journals do not always fit.
    #[test]
    fn after_any_loss_nothing_hangs_and_all_settings_agree(
        phrase in prop::collection::vec((message(), any::<bool>(), 0u64..200, prop::bool::weighted(0.2)), 1..300),
        max_datagram in 256usize..1_400
    ) {
        let mut alice = MidiSender::new(MidiSenderConfig { ssrc: 5, first_sequence: 65_500, max_datagram });
        let mut bob = MidiReceiver::new(None);
        let (mut played, mut heard) = (Heard::default(), Heard::default());
        let mut ms = 0;
        for (message, lost, wait_ms, acknowledge) in &phrase {
            ms += wait_ms;
            played.follow(message);
            alice.push(session(ms), message).unwrap();
            while let Some(packet) = alice.poll_transmit(local(ms), session(ms)) {
                prop_assert!(packet.len() <= max_datagram);
                if !lost {
                    bob.handle_packet(local(ms), session(ms), &packet).unwrap();
                }
            }
            if let Some(block) = bob.report_block().filter(|_| *acknowledge) {
                alice.handle_acknowledged(block.highest_sequence);
            }
        }
        for _ in 0..40 {
            ms += 1_000;
            while let Some(packet) = alice.poll_transmit(local(ms), session(ms)) {
                prop_assert!(packet.len() <= max_datagram);
                bob.handle_packet(local(ms), session(ms), &packet).unwrap();
            }
            alice.handle_acknowledged(bob.report_block().unwrap().highest_sequence);
        }
        while let Some(event) = bob.poll_event() {
            heard.follow(&event.message);
        }
        prop_assert!(heard.notes.keys().all(|note| played.notes.contains_key(note)), "{:?} of {:?}", heard.notes, played.notes);
        for (key, value) in &played.values {
            prop_assert_eq!(heard.values.get(key), Some(value));
        }
        alice.poll_transmit(local(ms + 5_000), session(ms + 5_000)).map(|packet| bob.handle_packet(local(ms), session(ms), &packet));
        prop_assert_eq!(events(&mut bob), [], "repairs end");
    }

    #[test]
    fn session_times_survive_the_wrapped_timestamp(now: i32, distance in -30_000_000_000i64..30_000_000_000) {
        let now = SessionTime::from_nanos(i64::from(now) * 1_000_000_000);
        let time = now.offset_by(distance);
        prop_assert!(unwrap_time(now, ticks(time) as u32).nanos_from(time).abs() < 21_000);
    }

    #[test]
    fn random_packets_cost_bounded_memory_and_never_panic(
        packets in prop::collection::vec((any::<u16>(), any::<u32>(), 0u32..2, prop::collection::vec(any::<u8>(), 0..60)), 0..100)
    ) {
        let mut bob = MidiReceiver::new(None);
        for (sequence, timestamp, ssrc, payload) in packets {
            let header = crate::rtp::Header { marker: false, payload_type: 99, sequence, timestamp, ssrc };
            let packet = [&header.to_bytes()[..], &payload].concat();
            let _ = bob.handle_packet(local(0), session(0), &packet);
        }
        bob.release_all(session(0));
        while let Some(event) = bob.poll_event() {
            prop_assert!(event.time.nanos_from(session(0)).abs() <= 5_000_000_000);
        }
        prop_assert_eq!(bob.poll_deadline().map(|_| Duration::ZERO), None);
    }
}
