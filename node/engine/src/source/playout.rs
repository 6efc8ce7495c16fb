//! How long to wait.
//!
//! Played too early, a stream has holes; played too late, nobody can play along. For every block the
//! controller notes its *lead*: by how many frames it was ahead of a clock that consumes the stream at its
//! own rate, when it became usable. The playhead runs at a fixed *offset* to that clock, so a block is on
//! time when its lead is not below the offset, and the largest offset that misses no more than the loss
//! target is the low quantile of the leads seen lately. Leads do not change when the delay does, so what was
//! learned stays true.
//!
//! - A miss beyond the target moves the playhead back at once; there is a hole to be concealed anyway.
//! - A target in percent still leaves a hole every second or so. Where a period more (or three milliseconds) would
//!   have left all but a few seconds of the last minute whole, it is worth that: see [`super::calm`].
//! - Spare margin is taken back slowly and inaudibly, by playing up to 0.2 % fast.
//! - Blocks late in three callbacks running are not jitter but a longer path, and are followed at once.
//! - Blocks earlier than any before, three callbacks running, are a shorter path, or our own device stood
//!   still for a while; what was learned is moved along with them, and the time is won back at once.
//!
//! On a perfect network all leads are equal, the quantile is that lead, and every block is played in the very
//! callback in which it became usable: one period after it was captured.
//!
//! The idea of a delay histogram with a quantile is that of WebRTC's NetEQ (`delay_manager.h`), which starts
//! at 80 ms; a musician cannot wait for that to fall, so this starts at nothing and grows.

use super::calm::Calm;

/// Longest memory, in blocks: 11 s at 128 frames and 48 kHz.
const MEMORY_BLOCKS: usize = 4096;
/// Largest number of misses the target may allow in the memory.
const MAX_MISSES: usize = 63;
/// All blocks late, or early as never before, in this many callbacks running: the path has changed.
const STREAK_CALLBACKS: u32 = 3;
/// Leads this many periods above the highest are a surge; one period may be the luck of sub-period timing.
const SURGE_PERIODS: f64 = 1.5;
/// What a minute without holes may cost when the period is shorter, s.
const CALM_COST_S: f64 = 0.003;
/// Fraction by which the pitch may be off while the delay moves: 0.2 %, 3.4 cents.
const MAX_NUDGE: f64 = 1.0 / 512.0;

/// What the controller is to aim for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Aim {
    /// Share of blocks that may miss, 0 to 0.015.
    pub(crate) loss_target: f64,
    /// Frames of good behaviour before the delay shrinks.
    pub(crate) patience_frames: f64,
    /// Spare delay above this is skipped at once rather than nudged away.
    pub(crate) skip_above_frames: f64,
    /// Largest margin the delay may grow to.
    pub(crate) max_delay_frames: f64,
    /// Frames a second.
    pub(crate) rate_hz: f64,
}

/// How to move the playhead.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Move {
    /// Go on.
    Stay,
    /// Play this many frames more (or fewer) than the stream's rate, within the callback.
    Nudge(f64),
    /// Continue this many frames further on (or back), hiding the seam.
    Jump(f64),
}

/// Leads beyond the highest, callback after callback.
#[derive(Clone, Copy, Debug, Default)]
struct Surge {
    callbacks: u32,
    /// By how much all of them are beyond.
    at_least: f64,
}

/// The playout controller of one stream. All quantities are frames of the stream's own rate.
#[derive(Debug)]
pub(crate) struct Playout {
    aim: Aim,
    offset: f64,
    /// Leads relative to `base`, in a ring.
    leads: Vec<f32>,
    base: f64,
    next: usize,
    count: usize,
    best_late: Option<f64>,
    on_time: bool,
    streak: u32,
    /// The highest lead by ordinary standards.
    highest: Option<f64>,
    /// The highest lead of this callback.
    callback_highest: Option<f64>,
    surge: Surge,
    well_behaved_frames: f64,
    shrinking: bool,
    mean_margin: f64,
    callbacks: u32,
    calm: Calm,
}

impl Playout {
    pub(crate) fn new(aim: Aim) -> Self {
        Self {
            aim,
            calm: Calm::new(aim.rate_hz),
            offset: 0.0,
            leads: vec![0.0; MEMORY_BLOCKS],
            base: 0.0,
            next: 0,
            count: 0,
            best_late: None,
            on_time: false,
            streak: 0,
            highest: None,
            callback_highest: None,
            surge: Surge::default(),
            well_behaved_frames: 0.0,
            shrinking: false,
            mean_margin: 0.0,
            callbacks: 0,
        }
    }

    /// Starts over with the playhead at `offset`.
    pub(crate) fn anchor(&mut self, offset: f64) {
        self.offset = offset;
        self.base = offset;
        self.forget();
        self.mean_margin = 0.0;
    }

    /// Keeps the playhead, now at `offset` by the new measure, but forgets the leads: they were measured
    /// differently.
    pub(crate) fn measure_anew(&mut self, offset: f64) {
        self.offset = offset;
        // Whole, so that leads that are whole come back exactly.
        self.base = offset.floor();
        self.forget();
        // Until a lead is known the present offset is taken to be just right.
        self.remember(offset);
    }

    fn forget(&mut self) {
        self.count = 0;
        self.next = 0;
        self.streak = 0;
        self.highest = None;
        self.callback_highest = None;
        self.surge = Surge::default();
        self.best_late = None;
        self.on_time = false;
        self.well_behaved_frames = 0.0;
        self.shrinking = false;
        self.calm.forget();
    }

    /// Where the playhead is, against the stream's clock.
    pub(crate) fn offset(&self) -> f64 {
        self.offset
    }

    /// Average frames a block waits from being usable to being played.
    pub(crate) fn mean_margin(&self) -> f64 {
        self.mean_margin
    }

    /// The margin that all but the permitted share of blocks have; negative when more miss.
    pub(crate) fn quantile_margin(&self) -> f64 {
        self.quantile().map_or(0.0, |lead| lead - self.offset)
    }

    /// Notes a block that became usable for this callback with `lead`. `reckoned` is the lead to plan by: the
    /// same, or, when clocks drift, the one it would have had at the worst moment.
    pub(crate) fn handle_block(&mut self, lead: f64, reckoned: f64) {
        self.remember(reckoned);
        self.callback_highest = Some(self.callback_highest.map_or(reckoned, |highest| highest.max(reckoned)));
        let margin = lead - self.offset;
        self.mean_margin += (margin.max(0.0) - self.mean_margin) * 0.02;
        if margin < 0.0 {
            self.best_late = Some(self.best_late.map_or(lead, |best: f64| best.max(lead)));
        } else {
            self.on_time = true;
        }
    }

    /// Decides, once all blocks of this callback are noted. `period` is what the callback consumes, `guard`
    /// how many frames beyond the playhead reading needs, `drifting` whether correction is on.
    pub(crate) fn handle_callback(&mut self, period: f64, guard: f64, drifting: bool) -> Move {
        let late = self.best_late.take();
        let on_time = std::mem::take(&mut self.on_time);
        self.callbacks = self.callbacks.wrapping_add(1);
        self.well_behaved_frames += period;
        self.calm.advance(period);

        if let Some(shift) = self.surge_shift(period) {
            self.base += shift;
            self.highest = self.highest.map(|highest| highest + shift);
            return self.jump_to(self.offset + shift);
        }
        match (late, on_time) {
            (_, true) => self.streak = 0,
            (Some(best), false) => {
                self.streak += 1;
                if self.streak >= STREAK_CALLBACKS {
                    self.forget();
                    return self.jump_to(best - guard);
                }
            }
            (None, false) => {}
        }
        if late.is_some() {
            let Some(wanted) = self.wanted(period).map(|lead| lead - guard) else { return Move::Stay };
            if wanted < self.offset {
                self.well_behaved_frames = 0.0;
                self.shrinking = false;
                return self.jump_to(wanted.max(self.offset - self.aim.max_delay_frames));
            }
            return Move::Stay;
        }
        if !self.callbacks.is_multiple_of(4) && !self.shrinking && !drifting {
            return Move::Stay;
        }
        let Some(wanted) = self.wanted(period).map(|lead| lead - guard) else { return Move::Stay };
        self.approach(wanted, period, drifting)
    }

    fn remember(&mut self, lead: f64) {
        let lead = (lead - self.base) as f32;
        if let Some(slot) = self.leads.get_mut(self.next) {
            *slot = lead;
        }
        self.calm.note(lead);
        self.next = (self.next + 1) % MEMORY_BLOCKS;
        self.count = (self.count + 1).min(MEMORY_BLOCKS);
    }

    /// By how much the leads have moved up for good, if they have.
    fn surge_shift(&mut self, period: f64) -> Option<f64> {
        let now = self.callback_highest.take()?;
        let highest = *self.highest.get_or_insert(now);
        let beyond = now - highest;
        if beyond < SURGE_PERIODS * period {
            self.highest = Some(highest.max(now));
            self.surge = Surge::default();
            return None;
        }
        let at_least = if self.surge.callbacks == 0 { beyond } else { self.surge.at_least.min(beyond) };
        self.surge = Surge { callbacks: self.surge.callbacks + 1, at_least };
        if self.surge.callbacks < STREAK_CALLBACKS {
            return None;
        }
        self.surge = Surge::default();
        Some(at_least.floor())
    }

    fn approach(&mut self, wanted: f64, period: f64, drifting: bool) -> Move {
        let spare = wanted - self.offset;
        // A power of two, so that whole steps add up to whole frames exactly.
        let step = (period * MAX_NUDGE).log2().floor().exp2();
        if drifting && spare < -1.0 {
            return self.nudge(-step);
        }
        let dead_band = if drifting { 8.0 } else { 0.0 };
        if spare <= 0.0 || (!self.shrinking && spare <= dead_band) {
            self.shrinking = false;
            return Move::Stay;
        }
        if self.well_behaved_frames < self.aim.patience_frames {
            return Move::Stay;
        }
        if spare > self.aim.skip_above_frames {
            return self.jump_to(wanted);
        }
        self.shrinking = true;
        if step < spare {
            return self.nudge(step);
        }
        self.offset = wanted;
        Move::Nudge(spare)
    }

    fn nudge(&mut self, frames: f64) -> Move {
        self.offset += frames;
        Move::Nudge(frames)
    }

    fn jump_to(&mut self, offset: f64) -> Move {
        let frames = offset - self.offset;
        self.offset = offset;
        Move::Jump(frames)
    }

    /// The lead that the playhead is to be on time for.
    fn wanted(&self, period: f64) -> Option<f64> {
        let quantile = self.quantile()?;
        let calm = self.calm.bound().map_or(quantile, |lead| self.base + f64::from(lead));
        let affordable = period.max(CALM_COST_S * self.aim.rate_hz);
        // What cannot be had for that is not worth half of it.
        Some(if (0.0..=affordable).contains(&(quantile - calm)) { calm } else { quantile })
    }

    /// The smallest lead but for the permitted misses.
    fn quantile(&self) -> Option<f64> {
        let seen = self.leads.get(..self.count)?;
        let permitted = ((self.aim.loss_target * self.count as f64) as usize).min(MAX_MISSES);
        let mut lowest = [f32::INFINITY; MAX_MISSES + 1];
        let lowest = lowest.get_mut(..=permitted)?;
        let mut bound = f32::INFINITY;
        for &lead in seen {
            if lead >= bound {
                continue;
            }
            let place = lowest.partition_point(|other| *other <= lead);
            if place < lowest.len() {
                lowest.copy_within(place..permitted, place + 1);
                if let Some(slot) = lowest.get_mut(place) {
                    *slot = lead;
                }
            }
            bound = lowest.last().copied().unwrap_or(bound);
        }
        bound.is_finite().then(|| self.base + f64::from(bound))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PERIOD: f64 = 128.0;

    fn playout() -> Playout {
        let mut playout = Playout::new(Aim {
            loss_target: 0.005,
            patience_frames: 48_000.0,
            skip_above_frames: 1_440.0,
            max_delay_frames: 24_000.0,
            rate_hz: 48_000.0,
        });
        playout.anchor(0.0);
        playout
    }

    fn callback(playout: &mut Playout, lead: f64) -> Move {
        playout.handle_block(lead, lead);
        playout.handle_callback(PERIOD, 0.0, false)
    }

    #[test]
    fn perfect_network_is_left_alone_at_margin_zero() {
        let mut playout = playout();
        for _ in 0..10_000 {
            assert_eq!(callback(&mut playout, 0.0), Move::Stay);
        }
        assert_eq!((playout.offset(), playout.mean_margin()), (0.0, 0.0));
    }

    #[test]
    fn first_late_block_of_a_fresh_stream_grows_the_delay_at_once() {
        let mut playout = playout();
        for _ in 0..20 {
            callback(&mut playout, 0.0);
        }
        assert_eq!(callback(&mut playout, -128.0), Move::Jump(-128.0));
    }

    #[test]
    fn rare_misses_do_not_cost_latency() {
        let mut playout = playout();
        for k in 0..40_000 {
            let lead = if k > 1_000 && k % 8_000 == 0 { -128.0 } else { 0.0 };
            assert_eq!(callback(&mut playout, lead), Move::Stay, "block {k}");
        }
    }

    #[test]
    fn misses_in_four_seconds_of_a_minute_are_worth_a_period_until_they_stop() {
        let mut playout = playout();
        let second = |playout: &mut Playout, worst: f64| {
            for k in 0..375 {
                callback(playout, if k == 100 { worst } else { 0.0 });
            }
            playout.offset()
        };
        second(&mut playout, 0.0);
        for _ in 0..3 {
            assert_eq!(second(&mut playout, -128.0), 0.0);
        }
        assert_eq!(second(&mut playout, -128.0), -128.0);
        for _ in 0..50 {
            assert_eq!(second(&mut playout, 0.0), -128.0, "a quiet minute has not passed");
        }
        for _ in 0..20 {
            second(&mut playout, 0.0);
        }
        assert_eq!(playout.offset(), 0.0);
    }

    #[test]
    fn calm_that_would_cost_more_than_a_period_is_not_bought_in_part() {
        let mut playout = playout();
        for k in 0..20_000 {
            let lead = if k > 1_000 && k % 500 == 0 { -512.0 } else { 0.0 };
            assert_eq!(callback(&mut playout, lead), Move::Stay, "block {k}");
        }
    }

    #[test]
    fn misses_beyond_the_loss_target_cost_latency() {
        let mut playout = playout();
        for k in 0..200 {
            let lead = if k % 10 == 0 { -128.0 } else { 0.0 };
            callback(&mut playout, lead);
        }
        assert_eq!(playout.offset(), -128.0);
    }

    #[test]
    fn longer_path_is_followed_within_three_callbacks() {
        let mut playout = playout();
        for _ in 0..5_000 {
            callback(&mut playout, 0.0);
        }
        let moves: Vec<Move> = (0..3).map(|_| callback(&mut playout, -512.0)).collect();
        assert_eq!(moves, [Move::Stay, Move::Stay, Move::Jump(-512.0)]);
    }

    #[test]
    fn shorter_path_or_a_stall_of_our_own_is_won_back_at_once() {
        let mut playout = playout();
        for k in 0..5_000 {
            callback(&mut playout, if k % 100 == 50 { -256.0 } else { 0.0 });
        }
        let before = playout.offset();
        let moves: Vec<Move> = (0..3).map(|_| callback(&mut playout, 4_800.0)).collect();
        assert_eq!(moves, [Move::Stay, Move::Stay, Move::Jump(4_800.0)]);
        assert_eq!(playout.quantile_margin(), 0.0, "and the jitter is still known");
        assert_eq!(playout.offset(), before + 4_800.0);
    }

    #[test]
    fn spare_margin_is_taken_back_in_seconds_and_ends_exactly_at_zero() {
        let mut playout = playout();
        playout.anchor(-256.0);
        let mut took = 0.0;
        for _ in 0..5_000 {
            match callback(&mut playout, 0.0) {
                Move::Nudge(frames) => {
                    assert!(frames > 0.0 && frames / PERIOD <= 0.002);
                    took += 1.0;
                }
                other => assert_eq!(other, Move::Stay),
            }
        }
        assert_eq!(playout.offset(), 0.0);
        assert!(took * PERIOD / 48_000.0 > 1.0, "taken back over seconds, not at once");
    }

    #[test]
    fn shrinking_waits_after_trouble() {
        let mut playout = playout();
        for _ in 0..20 {
            callback(&mut playout, 0.0);
        }
        callback(&mut playout, -128.0);
        for _ in 0..300 {
            assert_eq!(callback(&mut playout, 0.0), Move::Stay);
        }
    }

    proptest::proptest! {
        #[test]
        fn quantile_is_the_permitted_order_statistic(
            leads in proptest::collection::vec(-500i32..500, 1..3000),
        ) {
            let mut playout = playout();
            for &lead in &leads {
                playout.handle_block(f64::from(lead), f64::from(lead));
            }
            let mut sorted = leads.clone();
            sorted.sort_unstable();
            let permitted = (leads.len() as f64 * 0.005) as usize;
            proptest::prop_assert_eq!(playout.quantile(), Some(f64::from(sorted[permitted])));
        }
    }
}
