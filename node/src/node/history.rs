//! The last five minutes in figures, one row a second.
//!
//! "It was crackling a minute ago" can only be answered by who wrote it down. Counters come in as they are, growing for
//! ever, and rows keep what they grew by. Everything is bounded: [`ROWS`] rows, [`MAX_PEERS_KEPT`] members, and a member of
//! whom no row is left is forgotten. A value without I/O: figures and time are passed in.

use std::collections::{BTreeMap, VecDeque};

use crate::media::Totals;

/// Rows kept: five minutes.
pub const ROWS: usize = 300;
/// Members followed; of more the newest are left out.
const MAX_PEERS_KEPT: usize = 64;

/// One second of this node's device.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct DeviceRow {
    /// Deadlines missed.
    pub xruns: u64,
    /// The longest callback over the time it had; `None` when none ran.
    pub callback_load: Option<f64>,
    /// Sound of all members that was made up, ms.
    pub concealed_ms: f64,
    /// Share of the machine's processors that was busy, 0 to 1, if known.
    pub cpu_busy: Option<f64>,
    /// The latest that a thread of the program woke up, ms.
    pub wake_late_ms: f64,
}

/// What the machine did in one second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct MachineSample {
    /// Missed deadlines since the start.
    pub xruns: u64,
    /// The longest callback over the time it had; `None` when none ran.
    pub callback_load: Option<f64>,
    /// Share of the machine's processors that was busy, 0 to 1, if known.
    pub cpu_busy: Option<f64>,
    /// The latest that a thread of the program woke up, ms.
    pub wake_late_ms: f64,
}

/// One second of a member's stream.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct PeerRow {
    /// Packets that came.
    pub received: u64,
    /// Packets missed.
    pub lost: u64,
    /// Packets that came after their time.
    pub late: u64,
    /// Packets won back.
    pub recovered: u64,
    /// Sound made up, ms.
    pub concealed_ms: f64,
    /// What is of the moment.
    pub now: PeerNow,
}

/// What a member's stream is like at the end of a second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct PeerNow {
    /// Interarrival jitter, ms.
    pub jitter_ms: f64,
    /// The most that was in the last two seconds, ms.
    pub jitter_peak_ms: f64,
    /// Wait before playing, ms.
    pub playout_delay_ms: f64,
    /// Mouth to ear, ms.
    pub one_way_ms: Option<f64>,
    /// Round trip of the network, ms.
    pub rtt_ms: Option<f64>,
    /// Its clock minus ours, and the bound of the error, us.
    pub clock_us: Option<(f64, f64)>,
}

/// A member's figures as they are now.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct PeerSample {
    /// Counters since it joined.
    pub totals: Totals,
    /// Frames a second of its stream.
    pub rate_hz: u32,
    /// What is of the moment.
    pub now: PeerNow,
}

/// The rows.
#[derive(Debug)]
pub struct History<P> {
    end_ms: u64,
    device: VecDeque<DeviceRow>,
    xruns_before: Option<u64>,
    peers: BTreeMap<P, Track>,
}

/// A member's rows, as many as the device's; `None` where it was away.
#[derive(Debug)]
pub struct Track {
    /// Its name.
    pub name: String,
    /// Oldest first.
    pub rows: VecDeque<Option<PeerRow>>,
    before: Option<Totals>,
}

impl<P> Default for History<P> {
    fn default() -> Self {
        Self { end_ms: 0, device: VecDeque::new(), xruns_before: None, peers: BTreeMap::new() }
    }
}

impl<P: Ord + Clone> History<P> {
    /// Adds the second that ended at `now_ms` since 1970: what the machine did, and the members.
    pub fn push(&mut self, now_ms: u64, machine: MachineSample, members: &[(P, String, Option<PeerSample>)]) {
        let MachineSample { xruns, callback_load, cpu_busy, wake_late_ms } = machine;
        self.end_ms = now_ms;
        let length = self.device.len();
        let mut concealed_ms = 0.0;
        for track in self.peers.values_mut() {
            track.rows.push_back(None);
        }
        for (peer, name, sample) in members {
            if !self.peers.contains_key(peer) && self.peers.len() >= MAX_PEERS_KEPT {
                continue;
            }
            let track = self.peers.entry(peer.clone()).or_insert_with(|| Track {
                name: String::new(),
                rows: std::iter::repeat_n(None, length + 1).collect(),
                before: None,
            });
            track.name.clone_from(name);
            let row = sample.as_ref().map(|sample| track.row(sample));
            concealed_ms += row.map_or(0.0, |row| row.concealed_ms);
            if let Some(last) = track.rows.back_mut() {
                *last = row;
            }
        }
        // A member that is away begins anew when it comes back.
        for (peer, track) in &mut self.peers {
            if !members.iter().any(|(member, _, sample)| member == peer && sample.is_some()) {
                track.before = None;
            }
        }
        let before = self.xruns_before.replace(xruns).unwrap_or(xruns);
        self.device.push_back(DeviceRow {
            xruns: xruns.saturating_sub(before),
            callback_load,
            concealed_ms,
            cpu_busy,
            wake_late_ms,
        });
        if self.device.len() > ROWS {
            self.device.pop_front();
            for track in self.peers.values_mut() {
                track.rows.pop_front();
            }
        }
        self.peers.retain(|_, track| track.rows.iter().any(Option::is_some));
    }

    /// When the last second ended, ms since 1970.
    pub fn end_ms(&self) -> u64 {
        self.end_ms
    }

    /// The last `seconds` of the device, oldest first.
    pub fn device(&self, seconds: usize) -> impl Iterator<Item = &DeviceRow> {
        self.device.iter().skip(self.device.len().saturating_sub(seconds))
    }

    /// The members and the last `seconds` of each, oldest first and as many as of the device.
    pub fn peers(
        &self,
        seconds: usize,
    ) -> impl Iterator<Item = (&P, &str, impl Iterator<Item = Option<&PeerRow>>)> {
        let skipped = self.device.len().saturating_sub(seconds);
        self.peers.iter().map(move |(peer, track)| {
            (peer, track.name.as_str(), track.rows.iter().skip(skipped).map(Option::as_ref))
        })
    }
}

impl Track {
    fn row(&mut self, sample: &PeerSample) -> PeerRow {
        let totals = sample.totals;
        // Fewer packets than before: another stream; what it counted so far is of this second.
        let before = match self.before.replace(totals) {
            Some(before) if before.received <= totals.received => before,
            Some(_) => Totals::default(),
            // What it counted before anybody looked belongs to no second.
            None => totals,
        };
        let concealed = totals.concealed_frames.saturating_sub(before.concealed_frames);
        PeerRow {
            received: totals.received - before.received,
            // A packet that was missed and then came late is no longer lost.
            lost: totals.lost.saturating_sub(before.lost),
            late: totals.late.saturating_sub(before.late),
            recovered: totals.recovered.saturating_sub(before.recovered),
            concealed_ms: concealed as f64 * 1e3 / f64::from(sample.rate_hz.max(1)),
            now: sample.now,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(received: u64, concealed_frames: u64) -> Option<PeerSample> {
        let totals = Totals { received, concealed_frames, ..Totals::default() };
        Some(PeerSample { totals, rate_hz: 48_000, ..PeerSample::default() })
    }

    fn machine(xruns: u64) -> MachineSample {
        MachineSample { xruns, ..MachineSample::default() }
    }

    fn received(history: &History<u8>, peer: u8) -> Vec<Option<u64>> {
        let (_, _, rows) = history.peers(ROWS).find(|(id, _, _)| **id == peer).unwrap();
        rows.map(|row| row.map(|row| row.received)).collect()
    }

    #[test]
    fn rows_keep_what_counters_grew_by_and_line_up() {
        let mut history = History::default();
        history.push(1_000, machine(5), &[]);
        history.push(2_000, machine(7), &[(1, "Bob".into(), sample(100, 0))]);
        history.push(3_000, machine(7), &[(1, "Bob".into(), sample(475, 480))]);
        assert_eq!(received(&history, 1), [None, Some(0), Some(375)]);
        let device: Vec<_> = history.device(ROWS).map(|row| (row.xruns, row.concealed_ms)).collect();
        assert_eq!(device, [(0, 0.0), (2, 0.0), (0, 10.0)]);
        assert_eq!((history.device(2).count(), history.end_ms()), (2, 3_000));
    }

    #[test]
    fn absence_is_a_gap_and_a_new_stream_is_no_flood() {
        let mut history = History::default();
        let bob = |sample| vec![(1, "Bob".to_owned(), sample)];
        history.push(1, machine(0), &bob(sample(1_000, 0)));
        history.push(2, machine(0), &bob(sample(1_375, 0)));
        history.push(3, machine(0), &[]);
        history.push(4, machine(0), &bob(None));
        history.push(5, machine(0), &bob(sample(9_000, 0)));
        history.push(6, machine(0), &bob(sample(300, 0)));
        assert_eq!(received(&history, 1), [Some(0), Some(375), None, None, Some(0), Some(300)]);
    }

    #[test]
    fn five_minutes_are_kept_and_the_long_gone_forgotten() {
        let mut history = History::default();
        history.push(0, machine(0), &[(1, "Bob".into(), sample(1, 0))]);
        for second in 0..ROWS as u64 - 1 {
            history.push(second, machine(second), &[]);
        }
        assert_eq!((history.device(usize::MAX).count(), history.peers(ROWS).count()), (ROWS, 1));
        history.push(0, machine(0), &[]);
        assert_eq!((history.device(usize::MAX).count(), history.peers(ROWS).count()), (ROWS, 0));
        let crowd: Vec<_> = (0..=255u8).map(|id| (id, String::new(), sample(1, 0))).collect();
        history.push(0, machine(0), &crowd);
        assert_eq!(history.peers(ROWS).count(), MAX_PEERS_KEPT);
    }
}
