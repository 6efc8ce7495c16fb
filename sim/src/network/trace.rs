//! A record of what a real path did, to be played again.
//!
//! A model says what its author knew of networks; a record also has the rest. `bandmesh-sim path record` sends
//! small packets over a real path and writes one line for each; [`Replay`] gives every packet of a virtual link the
//! delay or the loss that the recorded one had at that moment.
//!
//! The file is text, one direction of one path:
//!
//! ```text
//! # bandmesh path trace 1
//! # any number of lines that say where it was recorded
//! time_ms,delay_ms,octets
//! 0.000,12.345,60
//! 20.004,lost,60
//! ```
//!
//! `time_ms` is when the packet was sent, from the first one on and never falling; `delay_ms` is the one-way delay or
//! `lost`; `octets` is the size of the IP packet. Lines that begin with `#` and empty lines mean nothing, but the
//! first line names the format.
//!
//! Limits: between two recorded packets the delay of the earlier one holds, so a record shows nothing faster than its
//! own spacing, and how a path answers to more traffic than was recorded is not in it.

use std::{fmt, fmt::Write as _, sync::Arc, time::Duration};

use crate::clock::WorldTime;

/// First line of every file.
const MAGIC: &str = "# bandmesh path trace 1";
/// Names of the columns.
const COLUMNS: &str = "time_ms,delay_ms,octets";
/// Packets in one record, at most: an hour at 250 a second.
pub const MAX_PACKETS: usize = 900_000;
/// The longest delay taken, ms: what comes later is lost.
const MAX_DELAY_MS: f64 = 10_000.0;
/// The longest record, ms: a day.
const MAX_TIME_MS: f64 = 86_400_000.0;

/// One packet of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// When it was sent, since the record began.
    pub at: Duration,
    /// How long it took; `None`: it was lost.
    pub delay: Option<Duration>,
    /// Size of the IP packet.
    pub octets: u32,
}

/// A record of one direction of a path.
#[derive(Clone, PartialEq, Eq)]
pub struct Trace {
    packets: Vec<Packet>,
    /// For each packet whether it overtook one that was sent before it.
    overtook: Vec<bool>,
    shortest: Duration,
    length: Duration,
}

/// Why a text is no record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceError {
    /// The line that is wrong, from 1; 0: the whole.
    pub line: usize,
    /// What is wrong with it.
    pub what: &'static str,
}

impl fmt::Display for TraceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => f.write_str(self.what),
            line => write!(f, "line {line}: {}", self.what),
        }
    }
}

impl std::error::Error for TraceError {}

// A plan with a record in it is printed for people.
impl fmt::Debug for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Trace({} packets, {:?})", self.packets.len(), self.length)
    }
}

impl Trace {
    /// A record of these packets, in the order they were sent.
    ///
    /// # Errors
    /// There are fewer than two, more than [`MAX_PACKETS`], none of them arrived, or they are not in order of time.
    pub fn new(packets: Vec<Packet>) -> Result<Self, TraceError> {
        let whole = |what| TraceError { line: 0, what };
        if packets.len() > MAX_PACKETS {
            return Err(whole("more packets than a record may have"));
        }
        if !packets.is_sorted_by_key(|packet| packet.at) {
            return Err(whole("the packets are not in the order they were sent"));
        }
        let (Some(first), Some(last)) = (packets.first(), packets.last()) else {
            return Err(whole("there are no packets in it"));
        };
        let span = last.at.saturating_sub(first.at);
        if span.is_zero() {
            return Err(whole("a record needs two packets that were sent at different times"));
        }
        let Some(shortest) = packets.iter().filter_map(|packet| packet.delay).min() else {
            return Err(whole("all its packets were lost"));
        };
        // The last packet holds as long as the others do on average.
        let length = span + span / u32::try_from(packets.len() - 1).unwrap_or(u32::MAX);
        let mut latest = Duration::ZERO;
        let overtook = packets
            .iter()
            .map(|packet| {
                let arrival = packet.delay.map(|delay| packet.at + delay);
                let overtook = arrival.is_some_and(|arrival| arrival < latest);
                latest = latest.max(arrival.unwrap_or_default());
                overtook
            })
            .collect();
        Ok(Self { packets, overtook, shortest, length })
    }

    /// Reads a record.
    ///
    /// # Errors
    /// Which line is wrong and why.
    pub fn parse(text: &str) -> Result<Self, TraceError> {
        let mut lines = text.lines().enumerate().map(|(index, line)| (index + 1, line.trim()));
        if lines.next().is_none_or(|(_, line)| line != MAGIC) {
            return Err(TraceError { line: 1, what: "a record begins with `# bandmesh path trace 1`" });
        }
        let mut lines = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
        match lines.next() {
            Some((_, COLUMNS)) => {}
            Some((line, _)) => {
                return Err(TraceError { line, what: "expected the columns `time_ms,delay_ms,octets`" });
            }
            None => return Err(TraceError { line: 0, what: "there are no packets in it" }),
        }
        let mut packets = vec![];
        for (number, line) in lines {
            if packets.len() >= MAX_PACKETS {
                return Err(TraceError { line: number, what: "more packets than a record may have" });
            }
            packets.push(parse_line(line).map_err(|what| TraceError { line: number, what })?);
        }
        Self::new(packets)
    }

    /// The record as text. `about` says where it comes from, a line each.
    pub fn to_text(&self, about: &[String]) -> String {
        let mut text = format!("{MAGIC}\n");
        for line in about {
            text.push_str("# ");
            // A line break in a host's name must not become a line of the table.
            text.extend(line.chars().map(|c| if c.is_control() { ' ' } else { c }));
            text.push('\n');
        }
        text.push_str(COLUMNS);
        text.push('\n');
        for Packet { at, delay, octets } in &self.packets {
            // Writing to a string cannot fail.
            let _ = match delay {
                Some(delay) => writeln!(text, "{},{},{octets}", Milliseconds(*at), Milliseconds(*delay)),
                None => writeln!(text, "{},lost,{octets}", Milliseconds(*at)),
            };
        }
        text
    }

    /// Its packets, in the order they were sent.
    pub fn packets(&self) -> &[Packet] {
        &self.packets
    }

    /// The time after which it begins again.
    pub fn length(&self) -> Duration {
        self.length
    }

    /// The shortest delay in it.
    pub fn shortest(&self) -> Duration {
        self.shortest
    }

    /// The share of packets that were lost.
    pub fn loss(&self) -> f64 {
        let lost = self.packets.iter().filter(|packet| packet.delay.is_none()).count();
        lost as f64 / self.packets.len().max(1) as f64
    }

    /// What a packet sent so long after the beginning gets, and whether it may overtake.
    fn at(&self, since_begin: Duration) -> Option<(Duration, bool)> {
        let begin = self.packets.first()?.at;
        let position = since_begin.as_nanos() % self.length.as_nanos().max(1);
        let position = begin + Duration::from_nanos(u64::try_from(position).unwrap_or(0));
        let index = self.packets.partition_point(|packet| packet.at <= position).checked_sub(1)?;
        let delay = self.packets.get(index)?.delay?;
        Some((delay, self.overtook.get(index).copied().unwrap_or(false)))
    }
}

/// A time with the microseconds a record keeps.
struct Milliseconds(Duration);

impl fmt::Display for Milliseconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let us = self.0.as_micros();
        write!(f, "{}.{:03}", us / 1_000, us % 1_000)
    }
}

fn parse_line(line: &str) -> Result<Packet, &'static str> {
    let mut fields = line.split(',').map(str::trim);
    let (Some(time), Some(delay), Some(octets), None) =
        (fields.next(), fields.next(), fields.next(), fields.next())
    else {
        return Err("expected three values: time_ms,delay_ms,octets");
    };
    let at = parse_ms(time, MAX_TIME_MS).ok_or("time_ms is no number between 0 and a day")?;
    let delay = match delay {
        "lost" => None,
        delay => {
            Some(parse_ms(delay, MAX_DELAY_MS).ok_or("delay_ms is neither `lost` nor between 0 and 10000")?)
        }
    };
    let octets = octets.parse().map_err(|_| "octets is no whole number")?;
    Ok(Packet { at, delay, octets })
}

fn parse_ms(text: &str, most: f64) -> Option<Duration> {
    let ms: f64 = text.parse().ok()?;
    // Whole microseconds, as they are written, so that a record read and written again is the same.
    (0.0..=most).contains(&ms).then(|| Duration::from_micros((ms * 1e3).round() as u64))
}

/// A record that is being played.
#[derive(Clone, Debug)]
pub(super) struct Replay {
    trace: Arc<Trace>,
    begun: WorldTime,
}

impl Replay {
    pub(super) fn new(trace: Arc<Trace>, begun: WorldTime) -> Self {
        Self { trace, begun }
    }

    pub(super) fn shortest_ms(&self) -> f64 {
        self.trace.shortest().as_secs_f64() * 1e3
    }

    /// The delay of a packet that leaves at `now`, and whether it may overtake; `None`: it is lost.
    pub(super) fn at(&self, now: WorldTime) -> Option<(Duration, bool)> {
        self.trace.at(now.since(self.begun))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(at_ms: u64, delay_ms: Option<u64>) -> Packet {
        Packet { at: Duration::from_millis(at_ms), delay: delay_ms.map(Duration::from_millis), octets: 60 }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let trace = Trace::new(vec![
            packet(0, Some(12)),
            packet(20, None),
            packet(40, Some(7)),
            packet(61, Some(300)),
        ])
        .unwrap();
        let text = trace.to_text(&["from a test".to_owned(), "two\nlines".to_owned()]);
        assert_eq!(Trace::parse(&text).unwrap(), trace);
        assert!(text.contains("\n20.000,lost,60\n"), "{text}");
        assert_eq!(trace.loss(), 0.25);
    }

    #[test]
    fn a_replay_has_the_delay_of_the_moment_and_begins_again() {
        let trace = Arc::new(
            Trace::new(vec![packet(100, Some(12)), packet(120, None), packet(140, Some(7))]).unwrap(),
        );
        assert_eq!(trace.length(), Duration::from_millis(60));
        let replay = Replay::new(trace, WorldTime(5));
        let at = |ms: u64| replay.at(WorldTime(5 + ms * 1_000_000)).map(|(delay, _)| delay.as_millis());
        assert_eq!(
            [at(0), at(19), at(20), at(39), at(40), at(59)],
            [Some(12), Some(12), None, None, Some(7), Some(7)]
        );
        assert_eq!([at(60), at(80), at(100)], [Some(12), None, Some(7)]);
    }

    #[test]
    fn only_what_overtook_on_the_real_path_may_overtake() {
        let trace = Trace::new(vec![
            packet(0, Some(50)),
            packet(10, Some(5)),
            packet(20, Some(5)),
            packet(60, Some(5)),
        ])
        .unwrap();
        assert_eq!(trace.overtook, [false, true, true, false]);
    }

    #[test]
    fn a_text_that_is_no_record_is_refused_with_its_line() {
        let error = |text: &str| Trace::parse(text).unwrap_err();
        assert_eq!(error("").line, 1);
        assert_eq!(error("time_ms,delay_ms,octets\n0,1,2\n").line, 1);
        let head = "# bandmesh path trace 1\ntime_ms,delay_ms,octets\n";
        for bad in ["x,1,60", "0,nan,60", "0,-1,60", "0,1e9,60", "0,1", "0,1,60,5", "0,1,many", "inf,1,60"] {
            assert_eq!(error(&format!("{head}0,1,60\n{bad}\n")).line, 4, "{bad}");
        }
        assert_eq!(error(head).line, 0);
        assert_eq!(error(&format!("{head}0,1,60\n")).line, 0, "one packet is no record");
        assert_eq!(error(&format!("{head}0,lost,60\n1,lost,60\n")).line, 0);
        assert_eq!(error(&format!("{head}5,1,60\n1,1,60\n")).line, 0, "not in order");
    }
}
