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
    /// Whether something sounds in the second of its two inputs now and then.
    pub second_input: bool,
}

/// A card that runs.
#[derive(Clone, Debug)]
pub struct SoundCard {
    card: Card,
    /// Stretches of even running, in order of time, each from the end of the one before. Never empty; one more for each
    /// stall and change of rate, of which a plan has few.
    stretches: Vec<Stretch>,
    callbacks: u64,
    random: Random,
}

/// From when on, and from which frame on, the card counts at which rate.
#[derive(Clone, Copy, Debug)]
struct Stretch {
    begun: WorldTime,
    frames: u64,
    rate_error_ppb: i64,
}

impl SoundCard {
    /// A card that starts at `now`.
    pub fn new(card: Card, now: WorldTime, random: Random) -> Self {
        let stretch = Stretch { begun: now, frames: 0, rate_error_ppb: card.rate_error_ppb };
        Self { card, stretches: vec![stretch], callbacks: 0, random }
    }

    /// When the next callback comes; each call is one callback later.
    pub fn next_callback(&mut self) -> WorldTime {
        self.callbacks += 1;
        let due = self.due(self.callbacks * self.card.period_frames as u64);
        let period_us = self.card.period_frames as f64 * 1e6 / f64::from(self.card.rate_hz);
        let late_us = self.random.exponential(self.card.late_us).min(period_us * MAX_LATE);
        due + Duration::from_nanos((late_us * 1e3) as u64)
    }

    /// No frame is counted for `length` after the last callback. The callback that is waited for comes so much later:
    /// ask for it again.
    pub fn stall(&mut self, length: Duration) {
        self.turn(length, self.latest().rate_error_ppb);
    }

    /// From the last callback on the card runs at another rate. Ask again for the callback that is waited for.
    pub fn change_rate(&mut self, rate_error_ppb: i64) {
        self.turn(Duration::ZERO, rate_error_ppb);
    }

    fn turn(&mut self, pause: Duration, rate_error_ppb: i64) {
        self.callbacks = self.callbacks.saturating_sub(1);
        let frames = self.callbacks * self.card.period_frames as u64;
        let begun = self.due(frames) + pause;
        self.stretches.push(Stretch { begun, frames, rate_error_ppb });
    }

    /// Its nominal rate.
    pub fn rate_hz(&self) -> u32 {
        self.card.rate_hz
    }

    /// When the callback was due that handed over frame `position` of all it has captured.
    pub fn captured_at(&self, position: u64) -> WorldTime {
        let period = self.card.period_frames.max(1) as u64;
        self.due((position / period + 1) * period)
    }

    fn latest(&self) -> Stretch {
        let start = Stretch { begun: WorldTime(0), frames: 0, rate_error_ppb: self.card.rate_error_ppb };
        self.stretches.last().copied().unwrap_or(start)
    }

    /// When the card has counted this many frames. Computed from the start of its stretch each time, so that rounding
    /// does not add up to a rate error of its own.
    fn due(&self, frames: u64) -> WorldTime {
        let stretch = self.stretches.iter().rev().find(|stretch| stretch.frames < frames);
        let Stretch { begun, frames: before, rate_error_ppb } =
            stretch.or(self.stretches.first()).copied().unwrap_or(self.latest());
        let rate = i128::from(self.card.rate_hz) * (1_000_000_000 + i128::from(rate_error_ppb));
        let rate = u128::try_from(rate).unwrap_or(1).max(1);
        let due_ns = u128::from(frames.saturating_sub(before)) * 1_000_000_000_000_000_000 / rate;
        begun + Duration::from_nanos(u64::try_from(due_ns).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn card(period_frames: usize, rate_error_ppb: i64, late_us: f64) -> Card {
        Card { rate_hz: 48_000, period_frames, rate_error_ppb, late_us, second_input: false }
    }

    #[test]
    fn a_fast_card_asks_for_more_frames_and_never_out_of_order() {
        let card = card(128, 300_000, 50.0);
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

    #[test]
    fn a_stall_puts_off_what_comes_and_leaves_alone_what_was() {
        let card = card(480, 0, 0.0);
        let mut running = SoundCard::new(card, WorldTime(0), Random::new(1));
        let ms = |at: WorldTime| at.0 / 1_000_000;
        assert_eq!([ms(running.next_callback()), ms(running.next_callback())], [10, 20]);
        // The callback of 20 ms is waited for when the card stalls for 100 ms.
        running.stall(Duration::from_millis(100));
        assert_eq!(ms(running.captured_at(0)), 10);
        assert_eq!(ms(running.captured_at(480)), 120);
        assert_eq!([ms(running.next_callback()), ms(running.next_callback())], [120, 130]);
        running.change_rate(-500_000_000);
        assert_eq!(ms(running.captured_at(480)), 120);
        assert_eq!(ms(running.next_callback()), 140, "at half the rate from the callback of 120 ms on");
    }
}
