//! Sound cards: who asks for audio, and when.
//!
//! A card counts its own seconds. Its callbacks come at the rate of its own quartz, up to 300 parts per million
//! off, and the operating system delivers each a little late. Both are what a playout buffer has to live
//! with, and neither is visible to the node except by the callbacks themselves.

use std::time::Duration;

use crate::{clock::WorldTime, random::Random};

/// Largest share of a period by which a callback is late: more would be an overrun, which is another fault.
const MAX_LATE: f64 = 0.4;

/// What kind of card a host has.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Card {
    /// Nominal rate, Hz.
    pub rate_hz: u32,
    /// Frames in one callback.
    pub period_frames: usize,
    /// How much too fast it runs, parts per billion of true time.
    pub rate_error_ppb: i64,
    /// How late callbacks are on average, microseconds; exponential, at most 40 % of a period.
    pub late_us: f64,
}

/// A card that runs.
#[derive(Clone, Debug)]
pub struct SoundCard {
    card: Card,
    begun: WorldTime,
    callbacks: u64,
    random: Random,
}

impl SoundCard {
    /// A card that starts at `now`.
    pub fn new(card: Card, now: WorldTime, random: Random) -> Self {
        Self { card, begun: now, callbacks: 0, random }
    }

    /// When the next callback comes; each call is one callback later.
    pub fn next_callback(&mut self) -> WorldTime {
        self.callbacks += 1;
        let due = self.due(self.callbacks * self.card.period_frames as u64);
        let period_us = self.card.period_frames as f64 * 1e6 / f64::from(self.card.rate_hz);
        let late_us = self.random.exponential(self.card.late_us).min(period_us * MAX_LATE);
        due + Duration::from_nanos((late_us * 1e3) as u64)
    }

    /// When the callback was due that handed over frame `position` of all it has captured.
    pub fn captured_at(&self, position: u64) -> WorldTime {
        let period = self.card.period_frames.max(1) as u64;
        self.due((position / period + 1) * period)
    }

    /// When the card has counted this many frames. Computed from its start each time, so that rounding does not
    /// add up to a rate error of its own.
    fn due(&self, frames: u64) -> WorldTime {
        let rate = i128::from(self.card.rate_hz) * (1_000_000_000 + i128::from(self.card.rate_error_ppb));
        let rate = u128::try_from(rate).unwrap_or(1).max(1);
        let due_ns = u128::from(frames) * 1_000_000_000_000_000_000 / rate;
        self.begun + Duration::from_nanos(u64::try_from(due_ns).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fast_card_asks_for_more_frames_and_never_out_of_order() {
        let card = Card { rate_hz: 48_000, period_frames: 128, rate_error_ppb: 300_000, late_us: 50.0 };
        let mut running = SoundCard::new(card, WorldTime(0), Random::new(1));
        let mut last = WorldTime(0);
        for _ in 0..37_500 {
            let at = running.next_callback();
            assert!(at > last);
            last = at;
        }
        // 100 s of its own are 300 ppm shorter in truth.
        assert!((last.as_seconds() - 99.970).abs() < 0.002, "{}", last.as_seconds());
    }
}
