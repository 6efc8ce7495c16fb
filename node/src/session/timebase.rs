//! One common timeline for a session without a time server.
//!
//! Every machine has its own monotonic clock. *Session time* is a timeline that all members share: each
//! node keeps `session = local + offset`. A node that starts founds a timebase of its own, whose time is its
//! age; when two timebases meet, the older one wins, so somebody who joins takes over the session's time
//! (and with it the tempo and the beat) and never the other way round. Only one side of each pair, the
//! smaller peer id, decides, so that two nodes of nearly equal age cannot swap.
//!
//! Inside one timebase one member is the *reference* (see [`Follows`](super::message::Follows)): the others steer their
//! offset towards its, directly or by way of another, by small steps that no ear can hear, never faster than [`Slew`] allows
//! and never far from the others. After a split each half goes on from where it was, with its own reference, and steers back together when it heals.
//!
//! The offsets between clocks come from `transport::clock`; this file only combines them.

use std::cmp::Ordering;

/// Steering error above which the offset is set instead of slewed, ns. Larger than any honest error of an
/// internet path, so only a new timebase, a suspended machine or a healed split gets there.
const STEP_ABOVE_NS: i64 = 20_000_000;
/// How long a tie may last before the one ahead, who would stay, goes to the other, ns: ten heartbeats. The other, if it sees
/// the same tie, comes within one; it stays only because it sees more members than we do.
const TIE_NS: i64 = 5_000_000_000;
/// Share of the error that one update takes away.
const SLEW_DIVISOR: i64 = 8;
/// Least time between two steps, ns, however often somebody says what time it is: under the brain's tick.
const LEAST_STEP_NS: i64 = 40_000_000;
/// How long after a timebase was taken over the steps may be larger, ns: the first estimates of a clock are rough.
const SETTLING_NS: i64 = 10_000_000_000;
/// One part in this many by which session time then goes faster or slower at most.
const SETTLING_LIMIT: i64 = 300;
/// Later, session time goes faster or slower by at most one part in this many, for one second at most without a step.
/// It is twenty times what two clocks part by, and turns 120 beats a minute into 120.12: whoever is followed, in good
/// faith or not, can hurry nobody.
const SLEW_LIMIT: i64 = 1_000;
/// How far beyond the middle of the members the reference is followed, ns: under what a bar's first beat may be apart,
/// and more than estimates of a LAN's clocks are off. One that tells each of three or
/// more another time parts them by three times this at most; two cannot know which of them is wrong.
const GUARD_NS: i64 = 2_000_000;
/// The longest time without a step that the next one makes up for, ns.
const MAX_PAUSE_NS: i64 = 1_000_000_000;

/// A node's mapping between its own clock and the session's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timebase {
    /// Identity of the timebase; equal on all members that share it.
    pub id: [u8; 16],
    /// Session time minus local time, ns.
    pub offset_ns: i64,
}

impl Timebase {
    /// A timebase that begins now.
    pub fn found(id: [u8; 16], now_local_ns: i64) -> Self {
        Self { id, offset_ns: -now_local_ns }
    }

    /// Session time at local time `local_ns`.
    pub fn session_at(&self, local_ns: i64) -> i64 {
        local_ns.saturating_add(self.offset_ns)
    }

    /// Local time at session time `session_ns`.
    pub fn local_at(&self, session_ns: i64) -> i64 {
        session_ns.saturating_sub(self.offset_ns)
    }

    /// Takes over another timebase at once.
    ///
    /// `their_offset_ns` is that peer's session offset, `clock_offset_ns` its clock minus ours.
    pub fn adopt(&mut self, id: [u8; 16], their_offset_ns: i64, clock_offset_ns: i64) {
        self.id = id;
        self.offset_ns = their_offset_ns.saturating_add(clock_offset_ns);
    }

    /// How far another member of the same timebase is ahead of us, ns; negative when it is behind.
    pub fn error(&self, their_offset_ns: i64, clock_offset_ns: i64) -> i64 {
        their_offset_ns.saturating_add(clock_offset_ns).saturating_sub(self.offset_ns)
    }

    /// Steers towards another member of the same timebase. Returns whether session time was moved at once.
    ///
    /// Small errors are taken away slowly, by at most `limit_ns` ([`Slew::limit`]), which is nothing for members other than
    /// the reference, and towards it only as far as `middle_ns` ([`middle`]) allows. A member that is far away is another matter: a
    /// machine that slept comes back with an old session time, a split may have lasted long, or somebody lies about its
    /// clock. One of the two has to jump, and `outvoted` says that it is us ([`vote`], [`Patience`]).
    pub fn steer(
        &mut self,
        their_offset_ns: i64,
        clock_offset_ns: i64,
        middle_ns: i64,
        limit_ns: i64,
        outvoted: bool,
    ) -> bool {
        let error = self.error(their_offset_ns, clock_offset_ns);
        if is_far(error) {
            if outvoted {
                self.offset_ns = their_offset_ns.saturating_add(clock_offset_ns);
            }
            return outvoted;
        }
        // Rounded away from zero, so that the last nanoseconds go too.
        let aim = error.clamp(middle_ns.saturating_sub(GUARD_NS), middle_ns.saturating_add(GUARD_NS));
        let step = aim / SLEW_DIVISOR + aim.signum() * i64::from(aim % SLEW_DIVISOR != 0);
        // Who is behind the others catches up with them at twice the pace, or all would run after the reference as they are.
        let catches_up =
            step.signum() == middle_ns.signum() && step.unsigned_abs() <= middle_ns.unsigned_abs();
        let limit_ns = if catches_up { limit_ns.saturating_mul(2) } else { limit_ns };
        self.offset_ns = self.offset_ns.saturating_add(step.clamp(-limit_ns, limit_ns));
        false
    }

    /// Whether the timebase of age `other_age_ns` wins against ours at `now_local_ns`. Called by the side
    /// that decides; equal ages go to the smaller id.
    pub fn loses_to(&self, now_local_ns: i64, other_id: &[u8; 16], other_age_ns: i64) -> bool {
        let own_age = self.session_at(now_local_ns);
        (other_age_ns, std::cmp::Reverse(other_id)) > (own_age, std::cmp::Reverse(&self.id))
    }
}

/// How fast session time may be steered, whatever is said how often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slew {
    begun_ns: i64,
    stepped_ns: i64,
}

impl Slew {
    /// The timebase was taken over, or set, at local time `now_ns`.
    pub fn new(now_ns: i64) -> Self {
        Self { begun_ns: now_ns, stepped_ns: now_ns.saturating_sub(LEAST_STEP_NS) }
    }

    /// The most that one step at `now_ns` may be, ns; the step counts as made.
    pub fn limit(&mut self, now_ns: i64) -> i64 {
        let pause = now_ns.saturating_sub(self.stepped_ns);
        if pause < LEAST_STEP_NS {
            return 0;
        }
        self.stepped_ns = now_ns;
        let settles = now_ns.saturating_sub(self.begun_ns) < SETTLING_NS;
        pause.min(MAX_PAUSE_NS) / if settles { SETTLING_LIMIT } else { SLEW_LIMIT }
    }
}

/// Where the middle of the members is, ns ahead of us, of ourselves and those who are ahead by `others_ns`. Whoever is far away
/// does not count: that is for [`vote`].
pub fn middle(others_ns: impl Iterator<Item = i64>) -> i64 {
    let mut all: Vec<i64> = others_ns.filter(|other| !is_far(*other)).chain([0]).collect();
    all.sort_unstable();
    let at = |place: usize| all.get(place).copied().unwrap_or(0);
    at((all.len() - 1) / 2).midpoint(at(all.len() / 2))
}

/// Whether a member that is `error_ns` ahead is too far away to be steered to.
pub fn is_far(error_ns: i64) -> bool {
    error_ns.unsigned_abs() > STEP_ABOVE_NS.unsigned_abs()
}

/// What the members of a timebase say, by where they are, to our staying apart from one that is far away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vote {
    /// Most of them are not there: it has to come to us.
    Stay,
    /// As many are there as are not, and it is behind: time that was played is not played again, so it has to come to us.
    Tie,
    /// We have to go there.
    Go,
}

/// Whether we are the ones who have to jump to a member that is `error_ns` ahead, when the members of our timebase are
/// ahead by `others_ns`.
///
/// The greater group stays, and of two equal ones the one that is ahead. So of two groups that see each other exactly one
/// moves, and a single member, whatever it says of its clock, moves no two others.
pub fn vote(error_ns: i64, others_ns: impl Iterator<Item = i64>) -> Vote {
    let (mut ahead, mut behind, mut all) = (0, 0, 1);
    for other_ns in others_ns {
        all += 1;
        ahead += usize::from(is_far(other_ns) && other_ns > 0);
        behind += usize::from(is_far(other_ns) && other_ns < 0);
    }
    let there = if error_ns > 0 { ahead } else { behind };
    match (2 * there).cmp(&all) {
        Ordering::Greater => Vote::Go,
        Ordering::Equal if error_ns > 0 => Vote::Go,
        Ordering::Equal => Vote::Tie,
        Ordering::Less => Vote::Stay,
    }
}

/// How long a member that is far behind has not come to us although by what we see it should.
///
/// Where not everybody reaches everybody, the two ends of a connection do not count the same votes: Carol, whose clock
/// jumped, reaches Bob only, and Bob, with Alice on his side, stays. That Bob does not come tells Carol so. Limit: two
/// groups of several members each, joined by one connection alone, stay apart until there are more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Patience {
    since_ns: Option<i64>,
}

impl Patience {
    /// Whether to jump to the member for which the votes are these.
    pub fn is_to_go(&mut self, now_ns: i64, vote: Vote) -> bool {
        if vote != Vote::Tie {
            self.since_ns = None;
            return vote == Vote::Go;
        }
        let since_ns = *self.since_ns.get_or_insert(now_ns);
        now_ns.saturating_sub(since_ns) >= TIE_NS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn goes(error_ns: i64, others_ns: impl Iterator<Item = i64>) -> bool {
        vote(error_ns, others_ns) == Vote::Go
    }

    #[test]
    fn session_time_of_a_founder_is_its_age() {
        let timebase = Timebase::found([1; 16], 500);
        assert_eq!(timebase.session_at(500), 0);
        assert_eq!(timebase.session_at(800), 300);
        assert_eq!(timebase.local_at(300), 800);
    }

    #[test]
    fn the_joiner_reads_the_same_session_time_as_the_founder() {
        // Bob's clock is 7000 ahead of Alice's.
        let alice = Timebase::found([1; 16], 1_000);
        let mut bob = Timebase::found([2; 16], 8_900);
        assert!(bob.loses_to(9_000, &alice.id, alice.session_at(2_000)));
        bob.adopt(alice.id, alice.offset_ns, -7_000);
        assert_eq!(bob.session_at(10_000), alice.session_at(3_000));
    }

    #[test]
    fn small_errors_are_slewed_away_and_large_ones_stepped() {
        let mut timebase = Timebase { id: [1; 16], offset_ns: 0 };
        assert!(!timebase.steer(1_000_000, 0, 0, i64::MAX, false));
        assert_eq!(timebase.offset_ns, 125_000);
        for _ in 0..200 {
            timebase.steer(1_000_000, 0, 0, i64::MAX, false);
        }
        assert_eq!(timebase.offset_ns, 1_000_000);
        assert!(timebase.steer(1_000_000_000, 0, 0, i64::MAX, true));
        assert_eq!(timebase.offset_ns, 1_000_000_000);
    }

    #[test]
    fn once_settled_nobody_is_hurried_however_often_the_time_is_told() {
        let mut timebase = Timebase { id: [1; 16], offset_ns: 0 };
        let mut slew = Slew::new(0);
        let second = 1_000_000_000;
        let mut hear = |from_s: i64, to_s: i64| {
            let before = timebase.offset_ns;
            // A member that is always 15 ms ahead says so every millisecond.
            for now_ns in (from_s * second..to_s * second).step_by(1_000_000) {
                timebase.steer(timebase.offset_ns + 15_000_000, 0, 0, slew.limit(now_ns), false);
            }
            timebase.offset_ns - before
        };
        let begun = hear(0, 10);
        assert!((33_000_000..=33_400_000).contains(&begun), "{begun} ns in the first 10 s");
        let moved = hear(10, 110);
        assert!((99_000_000..=100_100_000).contains(&moved), "{moved} ns in 100 s");
        assert_eq!(slew.limit(109 * second + 999_000_001), 0, "a step was just made");
        assert_eq!(slew.limit(10_000 * second), MAX_PAUSE_NS / SLEW_LIMIT, "a pause is not saved up");
    }

    #[test]
    fn a_reference_that_tells_each_another_time_does_not_part_them() {
        let second = 1_000_000_000;
        for members in 3..6 {
            let mut band = vec![(Timebase { id: [1; 16], offset_ns: 0 }, Slew::new(0)); members];
            for now_ns in (0..600 * second).step_by(50_000_000) {
                let offsets: Vec<i64> = band.iter().map(|(timebase, _)| timebase.offset_ns).collect();
                for (place, (timebase, slew)) in band.iter_mut().enumerate() {
                    let lie = if place == 0 { 15_000_000 } else { -15_000_000 };
                    let others = offsets.iter().enumerate().filter(|(other, _)| *other != place);
                    let others = others.map(|(_, offset)| offset - offsets[place]);
                    let told = timebase.offset_ns + lie;
                    timebase.steer(told, 0, middle(others.chain([lie])), slew.limit(now_ns), false);
                }
            }
            let offsets = band.iter().map(|(timebase, _)| timebase.offset_ns);
            let apart = offsets.clone().max().unwrap() - offsets.min().unwrap();
            assert!(apart <= 3 * GUARD_NS, "{apart} ns among {members}");
        }
    }

    #[test]
    fn who_is_behind_the_others_catches_up_although_all_run_after_one_who_hurries() {
        let mut band =
            [0, 0, -4_000_000].map(|offset_ns| (Timebase { id: [1; 16], offset_ns }, Slew::new(0)));
        let begun_ns = 20_000_000_000;
        for now_ns in (begun_ns..2 * begun_ns).step_by(50_000_000) {
            let offsets = band.map(|(timebase, _)| timebase.offset_ns);
            for (place, (timebase, slew)) in band.iter_mut().enumerate() {
                let others = offsets.iter().enumerate().filter(|(other, _)| *other != place);
                let others = others.map(|(_, offset)| offset - offsets[place]);
                let told = timebase.offset_ns + 15_000_000;
                timebase.steer(told, 0, middle(others), slew.limit(now_ns), false);
            }
        }
        let apart = band[0].0.offset_ns - band[2].0.offset_ns;
        assert!(apart.abs() < 300_000, "{apart} ns");
    }

    #[test]
    fn one_who_is_not_the_reference_moves_nobody() {
        for others in
            [vec![0, 15_000_000], vec![0, 0, 15_000_000], vec![0, 387_000_000], vec![0, -19_000_000]]
        {
            let mut timebase = Timebase { id: [1; 16], offset_ns: 0 };
            timebase.steer(0, 0, middle(others.iter().copied()), i64::MAX, false);
            assert_eq!(timebase.offset_ns, 0, "{others:?}");
        }
    }

    #[test]
    fn a_machine_that_slept_jumps_to_the_band_and_the_band_stays() {
        let (mut sleeper, mut band) =
            (Timebase { id: [1; 16], offset_ns: 0 }, Timebase { id: [1; 16], offset_ns: 0 });
        // The sleeper's clock stood still for an hour: the band's clock is now that much ahead.
        let hour = 3_600_000_000_000;
        assert!(!band.steer(0, -hour, 0, i64::MAX, goes(-hour, [-hour].into_iter())));
        assert_eq!(band.offset_ns, 0);
        assert!(sleeper.steer(0, hour, 0, 0, goes(hour, [hour].into_iter())));
        assert_eq!(sleeper.offset_ns, hour);
    }

    #[test]
    fn of_two_groups_apart_exactly_one_moves_and_a_single_liar_moves_nobody() {
        let far = 10 * STEP_ABOVE_NS;
        for (ahead, behind) in (1..6).flat_map(|ahead| (1..6).map(move |behind| (ahead, behind))) {
            let seen_from_behind = std::iter::repeat_n(far, ahead).chain(std::iter::repeat_n(0, behind - 1));
            let seen_from_ahead = std::iter::repeat_n(-far, behind).chain(std::iter::repeat_n(0, ahead - 1));
            let (up, down) = (goes(far, seen_from_behind), goes(-far, seen_from_ahead));
            assert_ne!(up, down, "{ahead} ahead of {behind}");
            assert_eq!(up, ahead >= behind, "{ahead} ahead of {behind}");
        }
    }

    #[test]
    fn hostile_offsets_do_not_overflow() {
        let mut timebase = Timebase::found([1; 16], 5);
        timebase.adopt([2; 16], i64::MAX, i64::MAX);
        timebase.steer(i64::MIN, i64::MIN, i64::MIN, i64::MAX, true);
        timebase.steer(i64::MAX, i64::MIN, i64::MAX, i64::MAX, true);
        let _ = timebase.session_at(i64::MAX);
    }
}
