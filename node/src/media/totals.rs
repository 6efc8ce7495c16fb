//! What has become of a member's sound since it joined.
//!
//! The receiver of the packets and the engine's source each count from their own beginning, and both are made
//! anew while the member stays: the one when the member announces another stream, the other when the engine
//! here is rebuilt. A counter that falls back to zero would hide exactly the trouble it is there to show, so what the
//! replaced ones had counted is kept.

use std::ops::AddAssign;

use engine::SourceCounters;
use transport::rtp::Statistics;

use crate::session::message::StreamInfo;

/// Counters that only grow, but for `lost`, which falls when a packet is late instead.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Packets received.
    pub received: u64,
    /// Packets that have not come so far.
    pub lost: u64,
    /// Packets that came too late to be played.
    pub late: u64,
    /// Packets recovered from redundancy.
    pub recovered: u64,
    /// Frames that were made up, in frames of the stream.
    pub concealed_frames: u64,
    /// Frames that were to be played, in frames of the stream.
    pub played_frames: u64,
    /// Times playing started over.
    pub buffer_resets: u64,
}

impl Totals {
    /// What the receiver of the packets counted.
    pub fn of_packets(packets: &Statistics) -> Self {
        Self {
            received: packets.received,
            lost: packets.lost,
            late: packets.late,
            recovered: packets.recovered,
            concealed_frames: packets.concealed_frames,
            ..Self::default()
        }
    }

    /// What the engine counted of the stream `info` while it ran at `engine_rate_hz`.
    pub fn of_engine(engine: &SourceCounters, info: &StreamInfo, engine_rate_hz: u32) -> Self {
        // The engine makes up frames of its own rate.
        let scaled = u128::from(engine.concealed_frames) * u128::from(info.rate_hz)
            / u128::from(engine_rate_hz.max(1));
        let concealed_frames = u64::try_from(scaled).unwrap_or(u64::MAX);
        Self {
            late: engine.late_frames.div_ceil(u64::from(info.packet_frames.max(1))),
            concealed_frames,
            played_frames: engine.received_frames + concealed_frames,
            buffer_resets: engine.buffer_resets,
            ..Self::default()
        }
    }

    /// Share of what was played that was made up, 0 to 1.
    pub fn concealed_ratio(&self) -> f64 {
        // What the decoder made up reaches the engine as received frames, so it is among those played.
        self.concealed_frames as f64 / self.played_frames.max(self.concealed_frames).max(1) as f64
    }
}

impl AddAssign for Totals {
    fn add_assign(&mut self, other: Self) {
        self.received += other.received;
        self.lost += other.lost;
        self.late += other.late;
        self.recovered += other.recovered;
        self.concealed_frames += other.concealed_frames;
        self.played_frames += other.played_frames;
        self.buffer_resets += other.buffer_resets;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::Codec;

    #[test]
    fn made_up_frames_are_compared_at_one_rate() {
        let info =
            StreamInfo { ssrc: 1, codec: Codec::Pcm16, rate_hz: 48_000, channels: 1, packet_frames: 128 };
        let engine =
            SourceCounters { received_frames: 36_000, concealed_frames: 24_000, ..SourceCounters::default() };
        let totals = Totals::of_engine(&engine, &info, 96_000);
        assert_eq!(totals.concealed_frames, 12_000, "a quarter of a second");
        assert_eq!(totals.concealed_ratio(), 0.25);
    }

    #[test]
    fn nothing_played_is_nothing_concealed() {
        assert_eq!(Totals::default().concealed_ratio(), 0.0);
    }
}
