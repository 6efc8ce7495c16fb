//! What the musicians hear is what was played: once, in order, and made up only where the path lost it.

use std::{collections::BTreeMap, time::Duration};

use transport::{
    datagram::{Kind, classify},
    rtp::{Header, payload_type},
};

use super::{Checker, Fact};
use crate::{network::HostId, node::Playing};

/// Frames by which one callback may advance less than its last: drift correction, rounded.
const SLACK_FRAMES: i64 = 8;
/// Frames made up that need no loss: a stream that ends counts as made up until it counts as stopped after 250 ms,
/// and one that begins may find its delay on the way, where nothing is held (see [`crate::plan::Bounds::longest_hold`]).
const ALLOWED_FRAMES: f64 = 16_000.0;
/// After so much silence a stream counts as stopped, and nothing is made up for it any more; with some to spare for
/// the playout delay.
const STOPPED: Duration = Duration::from_millis(350);
/// Frames in a second of the streams in these worlds.
const RATE_HZ: f64 = 48_000.0;
/// Octets of one frame of the streams in these worlds, stereo with 16 bits, and of one of which one channel is sent.
const FRAME_OCTETS: usize = 4;
const REDUCED_FRAME_OCTETS: usize = 2;
/// Frames in a packet of Opus here: 2.5 ms, for cards with periods of 128 frames.
const OPUS_FRAMES: usize = 120;

/// One stream at one listener.
type Stream = (HostId, HostId);

/// No frame reaches the engine twice, and playing never steps back but by what it counts as stretching.
#[derive(Default)]
pub(super) struct PlayedOnce {
    last: BTreeMap<Stream, (u32, Playing)>,
    longest_delay_frames: f32,
    /// Sum and number of the ages of what was played.
    ages: (Duration, u32),
    stretched_frames: u64,
    resets: u64,
}

impl Checker for PlayedOnce {
    fn name(&self) -> &'static str {
        "played_once"
    }

    fn observe(&mut self, fact: &Fact<'_>) -> Result<(), String> {
        let Fact::Played { host, boot, from, playing, age } = fact else { return Ok(()) };
        let before = self.last.insert((*host, *from), (*boot, **playing));
        self.longest_delay_frames = self.longest_delay_frames.max(playing.delay_frames);
        if let Some(age) = age.filter(|_| playing.playout.is_some()) {
            self.ages = (self.ages.0 + age, self.ages.1 + 1);
        }
        if playing.counters.duplicate_frames > 0 {
            return Err(format!(
                "host {host}'s engine got {} frames of host {from} twice",
                playing.counters.duplicate_frames
            ));
        }
        let Some((_, before)) = before.filter(|(then, before)| then == boot && continues(before, playing))
        else {
            return Ok(());
        };
        let stretched = playing.counters.stretched_frames - before.counters.stretched_frames;
        self.stretched_frames += stretched;
        self.resets += playing.counters.buffer_resets - before.counters.buffer_resets;
        let (Some(now), Some(then)) = (playing.playout, before.playout) else { return Ok(()) };
        let back = then.timestamp_frames - now.timestamp_frames;
        let allowed = i64::try_from(stretched).unwrap_or(i64::MAX).saturating_add(SLACK_FRAMES);
        if playing.counters.buffer_resets == before.counters.buffer_resets && back > allowed {
            return Err(format!(
                "host {host} plays host {from} {back} frames back, from {}",
                then.timestamp_frames
            ));
        }
        Ok(())
    }

    fn figures(&self, into: &mut BTreeMap<&'static str, f64>) {
        if !self.last.is_empty() {
            into.insert("one_way_mean_ms", self.ages.0.as_secs_f64() * 1e3 / f64::from(self.ages.1.max(1)));
            into.insert("playout_delay_longest_frames", f64::from(self.longest_delay_frames));
            into.insert("stretched_frames", self.stretched_frames as f64);
            into.insert("buffer_resets", self.resets as f64);
        }
    }
}

/// Whether `later` is the same engine source as `earlier`: counters of a new one begin at zero, and a sender
/// that restarts begins a new timeline.
fn continues(earlier: &Playing, later: &Playing) -> bool {
    later.counters.received_frames >= earlier.counters.received_frames
        && later.counters.stretched_frames >= earlier.counters.stretched_frames
        && later.counters.buffer_resets >= earlier.counters.buffer_resets
        && later.restarts == earlier.restarts
}

/// Frames are made up only for those the path lost, for a stated share of late ones, and while the delay is found.
pub(super) struct ConcealedWithinLoss {
    share: f64,
    /// Frames made up that need no loss and are no share of anything.
    allowed_frames: f64,
    streams: BTreeMap<Stream, Listening>,
    worst_excess: f64,
}

#[derive(Default)]
struct Listening {
    boot: u32,
    last: Option<Playing>,
    /// Frames the path has lost since this source began.
    lost_frames: f64,
}

impl ConcealedWithinLoss {
    pub(super) fn new(share: f64, longest_hold: Duration) -> Self {
        let allowed_frames = ALLOWED_FRAMES + longest_hold.as_secs_f64() * RATE_HZ;
        Self { share, allowed_frames, streams: BTreeMap::new(), worst_excess: 0.0 }
    }
}

impl Checker for ConcealedWithinLoss {
    fn name(&self) -> &'static str {
        "concealed_within_loss"
    }

    fn observe(&mut self, fact: &Fact<'_>) -> Result<(), String> {
        match fact {
            Fact::Lost { from, to, content } => {
                let is_audio = |(header, _): &(Header, &[u8])| header.payload_type != payload_type::MIDI;
                if classify(content) == Some(Kind::Rtp)
                    && let Some((header, payload)) = Header::parse(content).ok().filter(is_audio)
                {
                    let frames = match header.payload_type {
                        payload_type::OPUS => OPUS_FRAMES,
                        payload_type::PCM16 => payload.len() / FRAME_OCTETS,
                        _ => payload.len() / REDUCED_FRAME_OCTETS,
                    };
                    self.streams.entry((*to, *from)).or_default().lost_frames += frames as f64;
                }
                Ok(())
            }
            // What was never captured counts like what was lost, and a listener that pauses finds its buffers as they
            // were then.
            Fact::Interrupted { host, length } => {
                let frames = length.min(&STOPPED).as_secs_f64() * RATE_HZ;
                let concerned = self.streams.iter_mut().filter(|((to, from), _)| to == host || from == host);
                concerned.for_each(|(_, stream)| stream.lost_frames += frames);
                Ok(())
            }
            Fact::Played { host, boot, from, playing, .. } => {
                let stream = self.streams.entry((*host, *from)).or_default();
                if stream.boot != *boot || stream.last.is_some_and(|last| !continues(&last, playing)) {
                    *stream = Listening { boot: *boot, ..Listening::default() };
                }
                stream.last = Some(**playing);
                let received = playing.counters.received_frames as f64;
                let excess =
                    playing.counters.concealed_frames as f64 - stream.lost_frames - self.allowed_frames;
                self.worst_excess = self.worst_excess.max(excess / received.max(1.0));
                if excess > self.share * received {
                    return Err(format!(
                        "host {host} made up {} frames of host {from}, of which the path lost {} and {received} came",
                        playing.counters.concealed_frames, stream.lost_frames
                    ));
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn figures(&self, into: &mut BTreeMap<&'static str, f64>) {
        let mut concealed = 0;
        let mut received = 0;
        for last in self.streams.values().filter_map(|stream| stream.last) {
            concealed += last.counters.concealed_frames;
            received += last.counters.received_frames;
        }
        if received > 0 {
            into.insert("concealed_share", concealed as f64 / received as f64);
            into.insert("concealed_beyond_loss_worst_share", self.worst_excess);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::{HostTime, PlayoutPoint, SourceCounters};

    fn playing(timestamp_frames: i64, stretched_frames: u64) -> Playing {
        Playing {
            counters: SourceCounters { stretched_frames, ..SourceCounters::default() },
            playout: Some(PlayoutPoint { timestamp_frames, host_time: HostTime(1) }),
            delay_frames: 0.0,
            restarts: 0,
        }
    }

    fn played(playing: &Playing) -> Fact<'_> {
        Fact::Played { host: 0, boot: 1, from: 1, playing, age: None }
    }

    #[test]
    fn stepping_back_is_refused_unless_it_is_counted_as_stretching() {
        let mut checker = PlayedOnce::default();
        assert!(checker.observe(&played(&playing(1_000, 0))).is_ok());
        assert!(checker.observe(&played(&playing(1_128, 0))).is_ok());
        assert!(checker.observe(&played(&playing(1_100, 40))).is_ok());
        assert!(checker.observe(&played(&playing(1_000, 40))).is_err());
    }

    #[test]
    fn making_up_sound_on_a_path_that_loses_nothing_is_refused() {
        let mut checker = ConcealedWithinLoss::new(0.01, Duration::ZERO);
        let mut heard = playing(0, 0);
        heard.counters.received_frames = 480_000;
        heard.counters.concealed_frames = 20_000;
        assert!(checker.observe(&played(&heard)).is_ok());
        heard.counters.concealed_frames = 21_000;
        assert!(checker.observe(&played(&heard)).is_err());
        // On a path that holds everything for up to 0.1 s now and then, that delay has to be found first; no more.
        let mut checker = ConcealedWithinLoss::new(0.01, Duration::from_millis(100));
        assert!(checker.observe(&played(&heard)).is_ok());
        heard.counters.concealed_frames = 26_000;
        assert!(checker.observe(&played(&heard)).is_err());
    }
}
