//! Which packet is this, and what has become of the others? (RFC 3550, sections 6.4.1, A.1, A.3 and A.8)
//!
//! Extends the 16-bit sequence number, tells new from double from hopelessly old, and keeps the counts that reports
//! and people read. Doubles are told by a bitmap of the last [`WINDOW`] numbers, so memory does not grow.

use std::time::Duration;

use super::{PacketError, extend_sequence, report::ReportBlock};
use crate::time::LocalTime;

/// How far back a packet may come in and still be told from its double. At 1,500 packets a second, 0.7 s.
const WINDOW: i64 = 1_024;

/// Largest step forward taken as loss rather than as a restart (RFC 3550, section A.1, which has far fewer packets in mind):
/// a member is taken to be there for 3.5 s of silence, in which 192 kHz and 32 frames make 21,000.
const MAX_DROPOUT: i64 = 24_000;
/// How far back a number may be out of order before it speaks of a restart; as MAX_DROPOUT is there.
const MAX_MISORDER: i64 = 3_000;

/// Weight of a new transit difference in the jitter estimate (RFC 3550, section 6.4.1).
const JITTER_GAIN: f64 = 1.0 / 16.0;

/// Counts since the stream began; a restart does not reset them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Packets accepted, doubles not counted.
    pub received: u64,
    /// Packets that have not come so far; one that comes late lowers it again.
    pub lost: u64,
    /// Packets that came more than once, each extra time.
    pub duplicate: u64,
    /// Packets that came after one with a higher number.
    pub reordered: u64,
    /// Payloads that came too late to be of use to this core (Opus past its deadline, or older than its memory).
    pub late: u64,
    /// Payloads that reached the output only through redundancy.
    pub recovered: u64,
    /// Frames this core asked the decoder to conceal (Opus only; the engine counts its own).
    pub concealed_frames: u64,
    /// Times the sender restarted or its sequence jumped.
    pub restarts: u64,
    /// Packets refused as malformed or not of this stream.
    pub refused: u64,
    /// Outputs dropped because nobody polled; the oldest go first.
    pub overflowed: u64,
    /// Interarrival jitter as RFC 3550 defines it.
    pub jitter: Duration,
    /// Highest sequence number, extended to 32 bits.
    pub highest_sequence: u32,
}

/// What the sequence number said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    /// A new packet; its extended sequence number.
    New(i64),
    /// As `New`, and nothing before it counts any more.
    Restart(i64),
    /// Seen before.
    Duplicate,
    /// Older than the window: it cannot be told from a double.
    TooOld,
}

/// The receiving side's view of one sequence of packets.
#[derive(Debug, Default)]
pub(super) struct Sequence {
    state: Option<Window>,
    /// The number that would confirm a jump.
    candidate: Option<u16>,
    /// Expected packets of the parts before the last restart.
    expected_before: u64,
    transit_ns: Option<i64>,
    jitter_ns: f64,
    reported_expected: u64,
    reported_received: u64,
    pub(super) counts: Statistics,
}

#[derive(Debug)]
struct Window {
    first: i64,
    highest: i64,
    /// Bit `n mod WINDOW`: number `n` of the last `WINDOW` has come.
    seen: [u64; (WINDOW / 64) as usize],
}

impl Sequence {
    /// Takes a sequence number and updates the counts.
    ///
    /// # Errors
    /// [`PacketError::Probation`] for a number far from the stream's; the next in line confirms it as a restart.
    pub(super) fn handle(&mut self, raw: u16) -> Result<Arrival, PacketError> {
        let Some(window) = &mut self.state else {
            self.state = Some(Window::new(i64::from(raw)));
            self.counts.received += 1;
            self.refresh();
            return Ok(Arrival::New(i64::from(raw)));
        };
        let sequence = extend_sequence(window.highest, raw);
        let step = sequence.saturating_sub(window.highest);
        let arrival = match step {
            1..=MAX_DROPOUT => {
                window.advance(sequence);
                Arrival::New(sequence)
            }
            ..=0 if step > -WINDOW && sequence >= window.first - WINDOW => {
                if window.mark(sequence) {
                    self.counts.duplicate += 1;
                    return Ok(Arrival::Duplicate);
                }
                // The stream's first packets may themselves have been out of order.
                window.first = window.first.min(sequence);
                self.counts.reordered += 1;
                Arrival::New(sequence)
            }
            _ if self.candidate == Some(raw) => {
                self.expected_before += window.expected();
                *window = Window::new(sequence);
                self.counts.restarts += 1;
                self.transit_ns = None;
                Arrival::Restart(sequence)
            }
            ..=0 if step > -MAX_MISORDER => {
                self.candidate = Some(raw.wrapping_add(1));
                self.counts.late += 1;
                return Ok(Arrival::TooOld);
            }
            _ => {
                self.candidate = Some(raw.wrapping_add(1));
                return Err(PacketError::Probation(raw));
            }
        };
        self.candidate = None;
        self.counts.received += 1;
        self.refresh();
        Ok(arrival)
    }

    /// Forgets the numbers, not the counts: the sender began anew.
    pub(super) fn restart(&mut self) {
        if let Some(window) = self.state.take() {
            self.expected_before += window.expected();
            self.counts.restarts += 1;
        }
        self.candidate = None;
        self.transit_ns = None;
    }

    /// Feeds the jitter estimate with a packet's arrival and when it left on the sender's timeline, both in nanoseconds.
    pub(super) fn handle_timing(&mut self, now: LocalTime, media_ns: i64) {
        let transit = i64::try_from(now.as_nanos()).unwrap_or(i64::MAX).wrapping_sub(media_ns);
        if let Some(previous) = self.transit_ns.replace(transit) {
            let difference = transit.saturating_sub(previous).saturating_abs() as f64;
            // A timeline that jumped is no jitter.
            if difference < 1e9 {
                self.jitter_ns += (difference - self.jitter_ns) * JITTER_GAIN;
            }
        }
        self.counts.jitter = Duration::from_nanos(self.jitter_ns as u64);
    }

    /// The report block for the sender, and the start of a new interval for the fraction lost.
    pub(super) fn report_block(&mut self, ssrc: u32, rate_hz: u32) -> ReportBlock {
        let expected = self.expected();
        let (fresh, arrived) =
            (expected - self.reported_expected, self.counts.received - self.reported_received);
        (self.reported_expected, self.reported_received) = (expected, self.counts.received);
        let missing = fresh.saturating_sub(arrived);
        ReportBlock {
            ssrc,
            fraction_lost: missing.saturating_mul(256).checked_div(fresh).unwrap_or(0).min(255) as u8,
            cumulative_lost: self.counts.lost.min(0x7F_FFFF) as u32,
            highest_sequence: self.counts.highest_sequence,
            jitter_ticks: (self.jitter_ns * f64::from(rate_hz) / 1e9) as u32,
            last_sender_report: 0,
            delay_since_last: 0,
        }
    }

    fn expected(&self) -> u64 {
        self.expected_before + self.state.as_ref().map_or(0, Window::expected)
    }

    fn refresh(&mut self) {
        self.counts.lost = self.expected().saturating_sub(self.counts.received);
        self.counts.highest_sequence = self.state.as_ref().map_or(0, |window| window.highest as u32);
    }
}

impl Window {
    fn new(first: i64) -> Self {
        let mut window = Window { first, highest: first, seen: [0; (WINDOW / 64) as usize] };
        window.mark(first);
        window
    }

    fn expected(&self) -> u64 {
        (self.highest - self.first + 1).unsigned_abs()
    }

    fn advance(&mut self, sequence: i64) {
        for passed in (self.highest + 1..=sequence).rev().take(WINDOW as usize) {
            if let Some(word) = self.seen.get_mut(word_of(passed)) {
                *word &= !bit_of(passed);
            }
        }
        self.highest = sequence;
        self.mark(sequence);
    }

    /// Marks a number as come; whether it already had.
    fn mark(&mut self, sequence: i64) -> bool {
        let Some(word) = self.seen.get_mut(word_of(sequence)) else { return false };
        let seen = *word & bit_of(sequence) != 0;
        *word |= bit_of(sequence);
        seen
    }
}

fn word_of(sequence: i64) -> usize {
    (sequence.rem_euclid(WINDOW) / 64) as usize
}

fn bit_of(sequence: i64) -> u64 {
    1 << sequence.rem_euclid(64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fed(numbers: &[u16]) -> Sequence {
        let mut sequence = Sequence::default();
        for &number in numbers {
            let _ = sequence.handle(number);
        }
        sequence
    }

    #[test]
    fn numbers_go_on_across_the_wrap() {
        let sequence = fed(&[65_534, 65_535, 0, 1]);
        assert_eq!(sequence.counts.highest_sequence, 65_537);
        assert_eq!((sequence.counts.received, sequence.counts.lost), (4, 0));
    }

    #[test]
    fn lost_reordered_and_double_packets_are_told_apart() {
        let sequence = fed(&[10, 11, 14, 13, 13, 14]);
        let counts = sequence.counts;
        assert_eq!((counts.received, counts.lost, counts.reordered, counts.duplicate), (4, 1, 1, 2));
    }

    #[test]
    fn packets_before_the_first_one_seen_still_count() {
        let sequence = fed(&[10, 9, 8]);
        assert_eq!((sequence.counts.received, sequence.counts.lost, sequence.counts.reordered), (3, 0, 2));
    }

    #[test]
    fn a_stray_number_is_dropped_and_two_in_a_row_restart_the_stream() {
        let mut sequence = fed(&[10, 11]);
        assert_eq!(sequence.handle(40_000), Err(PacketError::Probation(40_000)));
        assert_eq!(sequence.handle(12), Ok(Arrival::New(12)));
        assert_eq!(sequence.handle(40_001), Err(PacketError::Probation(40_001)));
        assert!(matches!(sequence.handle(40_002), Ok(Arrival::Restart(_))));
        assert_eq!(sequence.counts.restarts, 1);
        assert_eq!(sequence.counts.lost, 0, "what lay between is unknown, not lost");
    }

    #[test]
    fn all_that_a_member_did_not_hear_while_it_stayed_is_lost() {
        // 3.4 s at 48 kHz and 32 frames.
        let sequence = fed(&[65_000, 65_001, 65_002u16.wrapping_add(5_100), 65_003u16.wrapping_add(5_100)]);
        assert_eq!((sequence.counts.lost, sequence.counts.restarts), (5_100, 0));
    }

    #[test]
    fn a_sender_that_begins_again_a_little_below_is_followed() {
        let mut sequence = fed(&(0..2_500).collect::<Vec<u16>>());
        assert_eq!(sequence.handle(100), Ok(Arrival::TooOld));
        assert!(matches!(sequence.handle(101), Ok(Arrival::Restart(_))));
    }

    #[test]
    fn fraction_lost_covers_the_time_since_the_last_report() {
        let mut sequence = fed(&[0, 1, 2, 3]);
        assert_eq!(sequence.report_block(1, 48_000).fraction_lost, 0);
        sequence.handle(7).unwrap();
        assert_eq!(sequence.report_block(1, 48_000).fraction_lost, 192, "three of four");
        assert_eq!(sequence.report_block(1, 48_000).fraction_lost, 0);
    }

    proptest! {
        #[test]
        fn any_sequence_is_counted_without_panic(numbers: Vec<u16>) {
            let counts = fed(&numbers).counts;
            prop_assert!(counts.received + counts.duplicate <= numbers.len() as u64);
        }

        #[test]
        fn no_number_is_new_twice(numbers in prop::collection::vec(0u16..600, 0..300)) {
            let mut sequence = Sequence::default();
            let mut new = std::collections::HashSet::new();
            for number in numbers {
                if let Ok(Arrival::New(extended)) = sequence.handle(number) {
                    prop_assert!(new.insert(extended));
                }
            }
        }
    }
}
