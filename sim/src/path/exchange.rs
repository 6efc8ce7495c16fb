//! Probes of a path, and what follows from their four times.
//!
//! Two machines' clocks neither agree nor run alike, so the difference between a sending and a receiving time is no delay
//! yet. Probes that were quick both ways say best how far the clocks are apart (as in RFC 5905); a line through the
//! quickest of each stretch of the record takes out offset and drift. What remains is the delay of each way, on the
//! assumption that the quickest way there and back take equally long: an asymmetry of the bare path cannot be seen by
//! exchanging packets.
//!
//! A missing answer does not say which way it was lost. The far end numbers its answers: a number that is skipped was lost
//! on the way back, the other missing ones on the way there. When both happen between two answers that came, the
//! ones on the way there are taken to be the earlier ones.
//!
//! Wire format, all numbers big-endian, padded with zeros to the size asked for, at least [`MIN_SIZE`]:
//! request `"BMPATH1?" session:u64 number:u64`; answer `"BMPATH1!" session:u64 number:u64 count:u64 received_ns:u64
//! answered_ns:u64`. An answer is as long as its request: nobody can be flooded by way of an echo.

use std::time::Duration;

use crate::network::{
    UDP_OVERHEAD,
    trace::{Packet, Trace, TraceError},
};

/// The smallest packet, octets: an answer without padding.
pub const MIN_SIZE: usize = 48;
/// The largest: what fits an Ethernet frame.
pub const MAX_SIZE: usize = 1_472;

const REQUEST: &[u8; 8] = b"BMPATH1?";
const ANSWER: &[u8; 8] = b"BMPATH1!";
/// Stretches of a record, of each of which the quickest probe counts for the clocks' line.
const STRETCHES: usize = 16;

/// A probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// Random number of this recording.
    pub session: u64,
    /// Number of the probe in it, from 0.
    pub number: u64,
}

/// The answer to a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Which probe.
    pub request: Request,
    /// How many answers the far end had given before, in this recording.
    pub count: u64,
    /// When the far end received it, on its clock.
    pub received_ns: u64,
    /// When it answered.
    pub answered_ns: u64,
}

/// What became of one probe; the times are those of the recording machine, but for those inside the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exchange {
    /// When it was sent.
    pub sent_ns: u64,
    /// The answer and when it came.
    pub answer: Option<(Answer, u64)>,
}

impl Request {
    /// As a packet of `size` octets.
    pub fn encode(&self, size: usize) -> Vec<u8> {
        let mut packet = Vec::with_capacity(MAX_SIZE);
        packet.extend(REQUEST);
        packet.extend([self.session, self.number].iter().flat_map(|number| number.to_be_bytes()));
        packet.resize(size.clamp(MIN_SIZE, MAX_SIZE), 0);
        packet
    }

    /// Reads a packet; `None`: it is none of ours.
    pub fn decode(packet: &[u8]) -> Option<Self> {
        let (magic, rest) = packet.split_first_chunk::<8>()?;
        let [session, number] = numbers(rest)?;
        let is_ours = magic == REQUEST && (MIN_SIZE..=MAX_SIZE).contains(&packet.len());
        is_ours.then_some(Self { session, number })
    }
}

impl Answer {
    /// As a packet of `size` octets.
    pub fn encode(&self, size: usize) -> Vec<u8> {
        let numbers =
            [self.request.session, self.request.number, self.count, self.received_ns, self.answered_ns];
        let mut packet = Vec::with_capacity(MAX_SIZE);
        packet.extend(ANSWER);
        packet.extend(numbers.iter().flat_map(|number| number.to_be_bytes()));
        packet.resize(size.clamp(MIN_SIZE, MAX_SIZE), 0);
        packet
    }

    /// Reads a packet; `None`: it is none of ours.
    pub fn decode(packet: &[u8]) -> Option<Self> {
        let (magic, rest) = packet.split_first_chunk::<8>()?;
        let [session, number, count, received_ns, answered_ns] = numbers(rest)?;
        let request = Request { session, number };
        (magic == ANSWER).then_some(Self { request, count, received_ns, answered_ns })
    }
}

fn numbers<const N: usize>(bytes: &[u8]) -> Option<[u64; N]> {
    let (words, _) = bytes.as_chunks::<8>();
    let words: &[[u8; 8]; N] = words.first_chunk()?;
    Some(words.map(u64::from_be_bytes))
}

/// The way there and the way back, from all probes in the order they were sent, each of `size` octets of UDP payload.
///
/// # Errors
/// Too few answers came for a record.
pub fn traces(exchanges: &[Exchange], size: usize) -> Result<(Trace, Trace), TraceError> {
    let clocks =
        Line::between_clocks(exchanges).ok_or(TraceError { line: 0, what: "no answer came to any probe" })?;
    let begun = exchanges.first().map_or(0, |exchange| exchange.sent_ns);
    let octets = u32::try_from(size.clamp(MIN_SIZE, MAX_SIZE) + UDP_OVERHEAD).unwrap_or(u32::MAX);
    let (mut there, mut back) = (vec![], vec![]);
    let lost_there = lost_there(exchanges);
    for (exchange, lost_there) in exchanges.iter().zip(lost_there) {
        let at = Duration::from_nanos(exchange.sent_ns.saturating_sub(begun));
        let Some((answer, came_ns)) = exchange.answer else {
            there.push(Packet { at, delay: (!lost_there).then_some(Duration::ZERO), octets });
            if !lost_there {
                back.push(Packet { at, delay: None, octets });
            }
            continue;
        };
        let offset = clocks.at(exchange.sent_ns);
        let way = |from: f64, to: f64| Some(Duration::from_nanos((to - from).max(0.0) as u64));
        let received = answer.received_ns as f64 - offset;
        let answered = answer.answered_ns as f64 - offset;
        there.push(Packet { at, delay: way(exchange.sent_ns as f64, received), octets });
        back.push(Packet { at, delay: way(answered, came_ns as f64), octets });
    }
    fill_unknown(&mut there, exchanges);
    Ok((Trace::new(there)?, Trace::new(back)?))
}

/// Of a probe that came there but whose answer was lost nothing is known but that; it took as long as the one before.
fn fill_unknown(there: &mut [Packet], exchanges: &[Exchange]) {
    let mut before = None;
    for (packet, exchange) in there.iter_mut().zip(exchanges) {
        match exchange.answer {
            Some(_) => before = packet.delay,
            None if packet.delay.is_some() => packet.delay = before,
            None => {}
        }
    }
}

/// For each probe whether it was lost on the way there.
fn lost_there(exchanges: &[Exchange]) -> Vec<bool> {
    let mut lost = vec![];
    // Counts of answers that came late do not go back.
    let mut count_before = 0;
    let mut missing = 0;
    for exchange in exchanges {
        let Some((answer, _)) = exchange.answer else {
            missing += 1;
            continue;
        };
        let lost_back = answer.count.saturating_sub(count_before).min(missing);
        lost.extend((0..missing).map(|index| index < missing - lost_back));
        lost.push(false);
        count_before = count_before.max(answer.count + 1);
        missing = 0;
    }
    // After the last answer nothing more is known.
    lost.extend((0..missing).map(|_| true));
    lost
}

/// How far the far clock is ahead of ours, as a line over our time.
#[derive(Clone, Copy, Debug)]
struct Line {
    centre_ns: f64,
    offset_ns: f64,
    slope: f64,
}

impl Line {
    fn between_clocks(exchanges: &[Exchange]) -> Option<Self> {
        let size = exchanges.len().div_ceil(STRETCHES).max(1);
        let mut quickest: Vec<(f64, f64, f64)> = exchanges
            .chunks(size)
            .filter_map(|stretch| {
                let probes = stretch.iter().filter_map(|exchange| {
                    let (answer, came_ns) = exchange.answer?;
                    let there = answer.received_ns as f64 - exchange.sent_ns as f64;
                    let back = came_ns as f64 - answer.answered_ns as f64;
                    Some((there + back, exchange.sent_ns as f64, (there - back) / 2.0))
                });
                probes.min_by(|a, b| a.0.total_cmp(&b.0))
            })
            .collect();
        // Stretches without a quick probe would only bend the line.
        quickest.sort_by(|a, b| a.0.total_cmp(&b.0));
        quickest.truncate(quickest.len().div_ceil(2).max(quickest.len().min(2)));
        let count = quickest.len() as f64;
        if quickest.is_empty() {
            return None;
        }
        let centre_ns = quickest.iter().map(|point| point.1).sum::<f64>() / count;
        let offset_ns = quickest.iter().map(|point| point.2).sum::<f64>() / count;
        let spread: f64 = quickest.iter().map(|point| (point.1 - centre_ns).powi(2)).sum();
        let together: f64 = quickest.iter().map(|point| (point.1 - centre_ns) * (point.2 - offset_ns)).sum();
        let slope = if spread > 0.0 { together / spread } else { 0.0 };
        Some(Self { centre_ns, offset_ns, slope })
    }

    fn at(&self, ns: u64) -> f64 {
        self.offset_ns + self.slope * (ns as f64 - self.centre_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        clock::{HostClock, WorldTime},
        network::{Direction, Weather},
        random::Random,
    };

    #[test]
    fn packets_are_read_as_they_were_written_and_nothing_else_is() {
        let request = Request { session: 7, number: 9 };
        let answer = Answer { request, count: 3, received_ns: 11, answered_ns: 12 };
        assert_eq!(Request::decode(&request.encode(314)), Some(request));
        assert_eq!(Answer::decode(&answer.encode(314)), Some(answer));
        assert_eq!(request.encode(314).len(), 314);
        assert_eq!(answer.encode(0).len(), MIN_SIZE);
        assert_eq!(Request::decode(&answer.encode(100)), None);
        assert_eq!(Answer::decode(&request.encode(100)), None);
        assert_eq!(Request::decode(&request.encode(100)[..30]), None, "an answer would be longer");
        for length in 0..MIN_SIZE {
            assert_eq!(Answer::decode(&answer.encode(MIN_SIZE)[..length]), None);
        }
    }

    #[test]
    fn a_record_through_two_drifting_clocks_has_the_delays_and_losses_of_each_way() {
        let ours = HostClock { offset_ns: 5_000_000_000, drift_ppb: -40_000 };
        let far = HostClock { offset_ns: 77_000_000_000, drift_ppb: 40_000 };
        let weather = Weather { loss: 0.03, ..Weather::wifi() };
        let mut there = Direction::new(weather, &Random::new(1), WorldTime(0));
        let mut back = Direction::new(weather, &Random::new(2), WorldTime(0));
        let local = |clock: &HostClock, at: WorldTime| clock.local_at(at) as u64;
        let (mut exchanges, mut truth, mut count) = (vec![], vec![], 0);
        for number in 0..6_000u64 {
            let sent = WorldTime(number * 10_000_000);
            let came_there = there.send(sent, 342).arrival();
            let received = came_there.map(|at| (at, count));
            count += u64::from(came_there.is_some());
            let answer = received.and_then(|(at, count)| {
                let came = back.send(at, 342).arrival()?;
                let request = Request { session: 1, number };
                let (received_ns, answered_ns) =
                    (local(&far, at), local(&far, at + Duration::from_micros(30)));
                Some((Answer { request, count, received_ns, answered_ns }, local(&ours, came)))
            });
            exchanges.push(Exchange { sent_ns: local(&ours, sent), answer });
            truth.push(came_there.map(|at| at.since(sent)));
        }
        let (trace, way_back) = traces(&exchanges, 314).unwrap();
        let mut wrong = 0;
        for (packet, truth) in trace.packets().iter().zip(&truth) {
            match (packet.delay, truth) {
                (Some(seen), Some(truth)) => {
                    wrong += u32::from(seen.abs_diff(*truth) > Duration::from_micros(300));
                }
                (None, None) => {}
                _ => wrong += 1,
            }
        }
        assert!(wrong < 250, "{wrong} of 6000 are wrong; a lost answer hides 3 % of the delays");
        assert!((trace.loss() - there.counters().lost as f64 / 6_000.0).abs() < 0.003, "{}", trace.loss());
        assert!((way_back.loss() - 0.03).abs() < 0.01, "{}", way_back.loss());
    }

    #[test]
    fn without_answers_there_is_no_record() {
        let exchanges: Vec<Exchange> =
            (0..5).map(|number| Exchange { sent_ns: number * 1_000, answer: None }).collect();
        assert!(traces(&exchanges, 100).is_err());
        assert!(traces(&[], 100).is_err());
    }
}
