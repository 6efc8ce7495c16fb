//! What Bob hears of Alice's stream over a link that loses, doubles, delays and reorders.

use super::super::{SendError, StreamSender, StreamSenderConfig};
use super::*;
use proptest::prelude::*;

const PCM: Format = Format { codec: Codec::Pcm16, rate_hz: 48_000, channels: 2 };
const OPUS: Format = Format { codec: Codec::Opus, rate_hz: 48_000, channels: 2 };
/// A CELT packet of 2.5 ms; the second octet tells packets apart.
const OPUS_FRAMES: i64 = 120;

fn at_ms(ms: f64) -> LocalTime {
    LocalTime::from_nanos((10e9 + ms * 1e6) as u64)
}

fn sender(format: Format, redundancy: u8) -> StreamSender {
    StreamSender::new(StreamSenderConfig {
        ssrc: 7,
        first_sequence: 65_530,
        format,
        max_datagram: 1_200,
        redundancy,
    })
}

/// Packets of 64 PCM frames each, block `n` filled with `n`, at timestamps from `first` on.
fn pcm_packets(sender: &mut StreamSender, first: i64, count: i64) -> Vec<Bytes> {
    (0..count)
        .map(|block| {
            sender.push(first + block * 64, Layout::All, &[block as u8; 256]).unwrap();
            sender.poll_transmit().unwrap()
        })
        .collect()
}

fn opus_packets(sender: &mut StreamSender, first: i64, count: i64) -> Vec<Bytes> {
    (0..count)
        .map(|block| {
            sender.push(first + block * OPUS_FRAMES, Layout::All, &[0x80, block as u8]).unwrap();
            sender.poll_transmit().unwrap()
        })
        .collect()
}

fn outputs(receiver: &mut StreamReceiver) -> Vec<Output> {
    std::iter::from_fn(|| receiver.poll_output()).collect()
}

/// The timestamps handed on, each with whether it was recovered.
fn positions(receiver: &mut StreamReceiver) -> Vec<(i64, bool)> {
    let of = |output| match output {
        Output::Packet { timestamp_frames, recovered, .. } => Some((timestamp_frames, recovered)),
        _ => None,
    };
    outputs(receiver).into_iter().filter_map(of).collect()
}

#[test]
fn pcm_is_handed_on_at_once_in_the_order_it_came() {
    let mut bob = StreamReceiver::new(PCM, Some(7));
    let packets = pcm_packets(&mut sender(PCM, 0), 0, 4);
    for index in [0, 2, 1, 3] {
        bob.handle_packet(at_ms(0.0), &packets[index]).unwrap();
        assert_eq!(positions(&mut bob), [(index as i64 * 64, false)]);
    }
    assert_eq!(bob.poll_deadline(), None, "nobody waits for PCM");
    assert_eq!((bob.statistics().reordered, bob.statistics().lost), (1, 0));
}

#[test]
fn a_double_is_heard_once() {
    let mut bob = StreamReceiver::new(PCM, None);
    let packets = pcm_packets(&mut sender(PCM, 0), 0, 2);
    for packet in [&packets[0], &packets[0], &packets[1], &packets[0]] {
        bob.handle_packet(at_ms(0.0), packet).unwrap();
    }
    assert_eq!(positions(&mut bob), [(0, false), (64, false)]);
    assert_eq!(bob.statistics().duplicate, 2);
}

#[test]
fn timestamps_go_on_across_the_32_bit_wrap() {
    let mut bob = StreamReceiver::new(PCM, None);
    let first = i64::from(u32::MAX) - 63;
    for packet in pcm_packets(&mut sender(PCM, 0), first, 3) {
        bob.handle_packet(at_ms(0.0), &packet).unwrap();
    }
    assert_eq!(positions(&mut bob), [(first, false), (first + 64, false), (first + 128, false)]);
}

#[test]
fn a_lost_block_comes_back_with_the_next_packet_when_redundancy_is_on() {
    let mut bob = StreamReceiver::new(PCM, None);
    let packets = pcm_packets(&mut sender(PCM, 1), 0, 5);
    for index in [0, 1, 3, 4] {
        bob.handle_packet(at_ms(0.0), &packets[index]).unwrap();
    }
    let heard = positions(&mut bob);
    assert_eq!(heard, [(0, false), (64, false), (128, true), (192, false), (256, false)]);
    bob.handle_packet(at_ms(0.0), &packets[2]).unwrap();
    assert_eq!(positions(&mut bob), [], "the original is too late to matter");
    assert_eq!((bob.statistics().recovered, bob.statistics().late), (1, 1));
}

#[test]
fn two_blocks_lost_in_a_row_come_back_at_depth_two() {
    let mut bob = StreamReceiver::new(PCM, None);
    let packets = pcm_packets(&mut sender(PCM, 2), 0, 5);
    for index in [0, 1, 4] {
        bob.handle_packet(at_ms(0.0), &packets[index]).unwrap();
    }
    let mut heard: Vec<i64> = positions(&mut bob).into_iter().map(|(position, _)| position).collect();
    heard.sort_unstable();
    assert_eq!(heard, [0, 64, 128, 192, 256]);
}

/// Blocks of 64 frames that carry now both channels and now one.
fn changing_packets(sender: &mut StreamSender, layouts: &[Layout]) -> Vec<Bytes> {
    (0..)
        .zip(layouts)
        .map(|(block, layout)| {
            let octets = 128 * usize::from(layout.carried(2));
            sender.push(block * 64, *layout, &vec![block as u8; octets]).unwrap();
            sender.poll_transmit().unwrap()
        })
        .collect()
}

#[test]
fn channels_come_and_go_from_packet_to_packet_and_nothing_begins_anew() {
    use Layout::{All, Left, Right, Same};
    let layouts = [Left, All, Same, Right, Left, All];
    let mut bob = StreamReceiver::new(PCM, Some(7));
    for packet in changing_packets(&mut sender(PCM, 0), &layouts) {
        assert_eq!(Header::parse(&packet).unwrap().0.marker, bob.statistics().received == 0);
        bob.handle_packet(at_ms(0.0), &packet).unwrap();
    }
    let heard = outputs(&mut bob);
    for (block, (output, layout)) in heard.iter().zip(layouts).enumerate() {
        let octets = 128 * usize::from(layout.carried(2));
        let payload = Bytes::from(vec![block as u8; octets]);
        let timestamp_frames = block as i64 * 64;
        let expected = Output::Packet { timestamp_frames, frames: 64, recovered: false, layout, payload };
        assert_eq!(*output, expected);
    }
    assert_eq!((heard.len(), bob.statistics().restarts, bob.statistics().lost), (layouts.len(), 0, 0));
}

#[test]
fn a_repeated_payload_keeps_the_channels_it_had() {
    use Layout::{All, Left};
    let mut bob = StreamReceiver::new(PCM, None);
    let packets = changing_packets(&mut sender(PCM, 1), &[Left, Left, All, All]);
    for index in [0, 2, 3] {
        bob.handle_packet(at_ms(0.0), &packets[index]).unwrap();
    }
    let of = |output| match output {
        Output::Packet { timestamp_frames, recovered, layout, .. } => (timestamp_frames, recovered, layout),
        _ => panic!("{output:?}"),
    };
    let heard: Vec<_> = outputs(&mut bob).into_iter().map(of).collect();
    assert_eq!(heard, [(0, false, Left), (64, true, Left), (128, false, All), (192, false, All)]);
}

#[test]
fn one_channel_of_two_means_nothing_in_a_stream_of_one() {
    let mono = Format { channels: 1, ..PCM };
    let mut bob = StreamReceiver::new(mono, None);
    let packet = &changing_packets(&mut sender(PCM, 0), &[Layout::Left])[0];
    let refused = PacketError::PayloadType { expected: payload_type::PCM16, got: payload_type::PCM16_LEFT };
    assert_eq!(bob.handle_packet(at_ms(0.0), packet), Err(refused));
    assert_eq!(sender(mono, 0).push(0, Layout::Left, &[0; 128]), Err(SendError::Format(refused)));
}

#[test]
fn a_restarted_sender_is_followed_at_once_and_its_old_packets_are_not() {
    let mut bob = StreamReceiver::new(PCM, None);
    let old = pcm_packets(&mut sender(PCM, 0), 1_000_000, 3);
    bob.handle_packet(at_ms(0.0), &old[0]).unwrap();
    let config =
        StreamSenderConfig { ssrc: 8, first_sequence: 3, format: PCM, max_datagram: 1_200, redundancy: 0 };
    let new = pcm_packets(&mut StreamSender::new(config), 0, 1);
    bob.handle_packet(at_ms(1.0), &new[0]).unwrap();
    assert_eq!(bob.handle_packet(at_ms(2.0), &old[1]), Err(PacketError::ReplacedStream(7)));
    let heard = outputs(&mut bob);
    assert_eq!(heard[1], Output::Restarted);
    assert!(matches!(heard[2], Output::Packet { timestamp_frames: 0, .. }));
    assert_eq!((heard.len(), bob.statistics().restarts, bob.statistics().refused), (3, 1, 1));
}

#[test]
fn a_timeline_that_steps_back_is_a_restart_not_old_news() {
    for format in [PCM, OPUS] {
        let mut bob = StreamReceiver::new(format, None);
        let mut alice = sender(format, 0);
        let packets = if format == PCM { pcm_packets } else { opus_packets };
        for packet in packets(&mut alice, 900_000, 3) {
            bob.handle_packet(at_ms(0.0), &packet).unwrap();
        }
        outputs(&mut bob);
        for packet in packets(&mut alice, 0, 2) {
            bob.handle_packet(at_ms(1.0), &packet).unwrap();
        }
        let heard = outputs(&mut bob);
        assert_eq!(heard[0], Output::Restarted);
        assert_eq!(heard.len(), 3);
    }
}

#[test]
fn a_timeline_that_leaps_ahead_is_followed_without_waiting() {
    for format in [PCM, OPUS] {
        let mut bob = StreamReceiver::new(format, None);
        let mut alice = sender(format, 0);
        let packets = if format == PCM { pcm_packets } else { opus_packets };
        for packet in [packets(&mut alice, 0, 1), packets(&mut alice, 50_000_000, 1)].concat() {
            bob.handle_packet(at_ms(0.0), &packet).unwrap();
        }
        assert_eq!(positions(&mut bob), [(0, false), (50_000_000, false)]);
    }
}

#[test]
fn a_gap_is_given_up_when_too_many_packets_wait_behind_it() {
    let mut bob = StreamReceiver::new(OPUS, None);
    bob.set_playout_budget(Duration::from_secs(60));
    let packets = opus_packets(&mut sender(OPUS, 0), 0, 67);
    for packet in [&packets[..1], &packets[2..]].concat() {
        bob.handle_packet(at_ms(0.0), &packet).unwrap();
    }
    let heard = outputs(&mut bob);
    assert!(matches!(heard[1], Output::Conceal { timestamp_frames: 120, frames: 120, following: Some(_) }));
    assert_eq!(heard.len(), 67, "and all that waited comes out");
}

#[test]
fn a_payload_of_another_format_is_refused_and_starts_nothing() {
    let mut bob = StreamReceiver::new(PCM, None);
    let opus = opus_packets(&mut sender(OPUS, 0), 0, 1);
    let refused = bob.handle_packet(at_ms(0.0), &opus[0]);
    assert_eq!(
        refused,
        Err(PacketError::PayloadType { expected: payload_type::PCM16, got: payload_type::OPUS })
    );
    assert_eq!(bob.ssrc(), None);
    assert_eq!(outputs(&mut bob), []);
}

#[test]
fn opus_waits_for_a_straggler_and_comes_out_in_order() {
    let mut bob = StreamReceiver::new(OPUS, None);
    let packets = opus_packets(&mut sender(OPUS, 0), 0, 4);
    bob.handle_packet(at_ms(0.0), &packets[0]).unwrap();
    bob.handle_packet(at_ms(5.0), &packets[2]).unwrap();
    assert_eq!(positions(&mut bob), [(0, false)]);
    bob.handle_packet(at_ms(6.0), &packets[1]).unwrap();
    assert_eq!(positions(&mut bob), [(120, false), (240, false)]);
    assert_eq!(bob.poll_deadline(), None);
}

#[test]
fn an_opus_packet_past_its_deadline_is_concealed_with_the_next_one_at_hand_and_then_late() {
    let mut bob = StreamReceiver::new(OPUS, None);
    bob.set_playout_budget(Duration::from_millis(4));
    let packets = opus_packets(&mut sender(OPUS, 0), 0, 4);
    bob.handle_packet(at_ms(0.0), &packets[0]).unwrap();
    bob.handle_packet(at_ms(5.0), &packets[2]).unwrap();
    let deadline = bob.poll_deadline().unwrap();
    assert_eq!(deadline, at_ms(2.5 + 4.0), "when the fastest would have brought it, plus the budget");
    bob.handle_deadline(at_ms(6.4));
    assert_eq!(outputs(&mut bob).len(), 1, "not a moment early");
    bob.handle_deadline(deadline);
    let heard = outputs(&mut bob);
    let following = Some(Bytes::from_static(&[0x80, 2]));
    assert_eq!(heard[0], Output::Conceal { timestamp_frames: 120, frames: 120, following });
    assert!(matches!(heard[1], Output::Packet { timestamp_frames: 240, .. }));
    bob.handle_packet(at_ms(7.0), &packets[1]).unwrap();
    assert_eq!(outputs(&mut bob), []);
    assert_eq!((bob.statistics().late, bob.statistics().concealed_frames), (1, 120));
}

#[test]
fn each_missing_opus_packet_has_its_own_deadline() {
    let mut bob = StreamReceiver::new(OPUS, None);
    bob.set_playout_budget(Duration::from_millis(10));
    let packets = opus_packets(&mut sender(OPUS, 0), 0, 4);
    bob.handle_packet(at_ms(0.0), &packets[0]).unwrap();
    bob.handle_packet(at_ms(7.5), &packets[3]).unwrap();
    outputs(&mut bob);
    bob.handle_deadline(at_ms(12.5));
    assert_eq!(outputs(&mut bob), [Output::Conceal { timestamp_frames: 120, frames: 120, following: None }]);
    bob.handle_packet(at_ms(13.0), &packets[2]).unwrap();
    assert_eq!(positions(&mut bob), [(240, false), (360, false)], "the second one still made it");
}

#[test]
fn a_pause_the_sender_made_is_not_waited_for() {
    let mut bob = StreamReceiver::new(OPUS, None);
    let mut alice = sender(OPUS, 0);
    let before = opus_packets(&mut alice, 0, 1);
    let after = opus_packets(&mut alice, 48_000, 1);
    bob.handle_packet(at_ms(0.0), &before[0]).unwrap();
    bob.handle_packet(at_ms(1_000.0), &after[0]).unwrap();
    assert_eq!(positions(&mut bob), [(0, false), (48_000, false)]);
}

#[test]
fn a_repeated_opus_payload_saves_the_wait() {
    let mut bob = StreamReceiver::new(OPUS, None);
    let packets = opus_packets(&mut sender(OPUS, 1), 0, 4);
    for index in [0, 2, 3] {
        bob.handle_packet(at_ms(index as f64 * 2.5), &packets[index]).unwrap();
    }
    assert_eq!(positions(&mut bob), [(0, false), (120, true), (240, false), (360, false)]);
    assert_eq!((bob.statistics().recovered, bob.statistics().concealed_frames), (1, 0));
}

#[test]
fn outputs_nobody_polls_are_dropped_oldest_first() {
    let mut bob = StreamReceiver::new(PCM, None);
    for packet in pcm_packets(&mut sender(PCM, 0), 0, 300) {
        bob.handle_packet(at_ms(0.0), &packet).unwrap();
    }
    let heard = positions(&mut bob);
    assert_eq!((heard.len(), heard[0].0), (MAX_OUTPUTS, 44 * 64));
    assert_eq!(bob.statistics().overflowed, 44);
}

#[test]
fn the_report_says_what_was_lost_and_quotes_the_sender_report() {
    let mut bob = StreamReceiver::new(PCM, None);
    let mut alice = sender(PCM, 0);
    let packets = pcm_packets(&mut alice, 0, 8);
    for index in [0, 1, 2, 3, 6, 7] {
        bob.handle_packet(at_ms(0.0), &packets[index]).unwrap();
    }
    let report = alice.sender_report(crate::time::SessionTime::from_nanos(5_000_000_000), 512);
    bob.handle_sender_report(at_ms(10.0), &report);
    let block = bob.report_block(at_ms(510.0)).unwrap();
    assert_eq!((block.ssrc, block.fraction_lost, block.cumulative_lost), (7, 64, 2));
    assert_eq!((block.last_sender_report, block.delay_since_last), (5 << 16, 32_768));
}

#[test]
fn jitter_is_measured_in_time() {
    let mut bob = StreamReceiver::new(PCM, None);
    for (index, packet) in pcm_packets(&mut sender(PCM, 0), 0, 400).iter().enumerate() {
        let late_ms = if index % 2 == 0 { 0.0 } else { 2.0 };
        bob.handle_packet(at_ms(index as f64 * 64.0 / 48.0 + late_ms), packet).unwrap();
        outputs(&mut bob);
    }
    let jitter_ms = bob.statistics().jitter.as_secs_f64() * 1e3;
    assert!((jitter_ms - 2.0).abs() < 0.1, "{jitter_ms}");
}

/// What leaves with the callbacks of a card over a path of 5 ms that never varies, in blocks of `block` frames.
fn over_an_even_path(format: Format, period: i64, block: i64, octets: usize) -> Statistics {
    let mut alice = sender(format, 0);
    let mut bob = StreamReceiver::new(format, None);
    let (mut captured, mut sent) = (0, 0);
    while captured < 200_000 {
        // A block leaves with the callback that completes it.
        let departs = captured;
        captured += period;
        let now = at_ms(5.0 + captured as f64 / 48.0);
        while sent + block <= captured {
            let payload = if format.codec == Codec::Opus { &[0x80, 1][..] } else { &vec![0; octets] };
            alice.push_at(departs, sent, Layout::All, payload).unwrap();
            sent += block;
            while let Some(packet) = alice.poll_transmit() {
                bob.handle_packet(now, &packet).unwrap();
                outputs(&mut bob);
            }
        }
    }
    bob.statistics()
}

#[test]
fn even_path_has_no_jitter_whatever_leaves_together() {
    for period in [64, 100, 128, 256, 441, 512, 1_024, 2_048] {
        let jitter = over_an_even_path(PCM, period, period, period as usize * 4).jitter;
        assert!(jitter < Duration::from_micros(1), "PCM, period {period}: {jitter:?}");
        let jitter = over_an_even_path(OPUS, period, OPUS_FRAMES, 2).jitter;
        assert!(jitter < Duration::from_micros(1), "Opus, period {period}: {jitter:?}");
    }
}

proptest! {
    #[test]
    fn no_frame_is_handed_on_twice_and_opus_never_runs_backwards(
        events in prop::collection::vec((0usize..60, 0.0f64..3.0), 1..200), redundancy in 0u8..4, opus: bool
    ) {
        let format = if opus { OPUS } else { PCM };
        let mut alice = sender(format, redundancy);
        let packets = if opus { opus_packets(&mut alice, 0, 60) } else { pcm_packets(&mut alice, 0, 60) };
        let mut bob = StreamReceiver::new(format, None);
        let (mut now_ms, mut seen, mut last) = (0.0, BTreeSet::new(), -1);
        for (index, wait_ms) in events {
            now_ms += wait_ms;
            let _ = bob.handle_packet(at_ms(now_ms), &packets[index]);
            if bob.poll_deadline().is_some_and(|due| due <= at_ms(now_ms)) {
                bob.handle_deadline(at_ms(now_ms));
            }
            for output in outputs(&mut bob) {
                let (Output::Packet { timestamp_frames, .. } | Output::Conceal { timestamp_frames, .. }) = output else {
                    prop_assert!(false, "nothing restarted");
                    continue;
                };
                prop_assert!(seen.insert(timestamp_frames));
                if opus {
                    prop_assert!(timestamp_frames > last);
                    last = timestamp_frames;
                }
            }
        }
    }

    #[test]
    fn random_packets_cost_bounded_memory_and_never_panic(
        packets in prop::collection::vec((any::<u16>(), any::<u32>(), 0u32..3, prop::collection::vec(any::<u8>(), 0..40)), 0..200),
        kind in 96u8..101, opus: bool
    ) {
        let mut bob = StreamReceiver::new(if opus { OPUS } else { PCM }, None);
        for (index, (sequence, timestamp, ssrc, payload)) in packets.into_iter().enumerate() {
            let header = Header { marker: false, payload_type: kind, sequence, timestamp, ssrc };
            let packet = Bytes::from([&header.to_bytes()[..], &payload].concat());
            let _ = bob.handle_packet(at_ms(index as f64), &packet);
            bob.handle_deadline(at_ms(index as f64));
            prop_assert!(bob.outputs.len() <= MAX_OUTPUTS && bob.delivered.len() <= REMEMBERED);
        }
    }
}

#[test]
fn a_block_of_another_shape_is_refused_by_the_sender() {
    let mut alice = sender(PCM, 0);
    assert!(matches!(
        alice.push(0, Layout::All, &[0; 5]),
        Err(SendError::Format(PacketError::PayloadLength(5)))
    ));
}
