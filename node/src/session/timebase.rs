//! One common timeline for a session without a time server.
//!
//! Every machine has its own monotonic clock. *Session time* is a timeline that all members share: each
//! node keeps `session = local + offset`. A node that starts founds a timebase of its own, whose time is its
//! age; when two timebases meet, the older one wins, so somebody who joins takes over the session's time
//! (and with it the tempo and the beat) and never the other way round. Only one side of each pair, the
//! smaller peer id, decides, so that two nodes of nearly equal age cannot swap.
//!
//! Inside one timebase the member with the smallest peer id is the *reference*: the others steer their
//! offset towards its, by small steps that no ear can hear. After a split each half goes on from where it
//! was, with its own reference, and steers back together when it heals.
//!
//! The offsets between clocks come from `transport::clock`; this file only combines them.

/// Steering error above which the offset is set instead of slewed, ns. Larger than any honest error of an
/// internet path, so only a new timebase, a suspended machine or a healed split gets there.
const STEP_ABOVE_NS: i64 = 20_000_000;
/// Share of the error that one update takes away.
const SLEW_DIVISOR: i64 = 8;

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

    /// Steers towards another member of the same timebase. Returns whether session time was moved at once.
    ///
    /// Small errors are taken away slowly, and only towards the reference. A member that is far *ahead* is caught up
    /// with whoever it is, and one far behind is left where it is: a machine that slept comes back with an old
    /// session time, and must jump to the band instead of dragging the band back.
    pub fn steer(&mut self, their_offset_ns: i64, clock_offset_ns: i64, is_reference: bool) -> bool {
        let target = their_offset_ns.saturating_add(clock_offset_ns);
        let error = target.saturating_sub(self.offset_ns);
        if error > STEP_ABOVE_NS {
            self.offset_ns = target;
            return true;
        }
        if is_reference && error >= -STEP_ABOVE_NS {
            // Rounded away from zero, so that the last nanoseconds go too.
            self.offset_ns += error / SLEW_DIVISOR + error.signum() * i64::from(error % SLEW_DIVISOR != 0);
        }
        false
    }

    /// Whether the timebase of age `other_age_ns` wins against ours at `now_local_ns`. Called by the side
    /// that decides; equal ages go to the smaller id.
    pub fn loses_to(&self, now_local_ns: i64, other_id: &[u8; 16], other_age_ns: i64) -> bool {
        let own_age = self.session_at(now_local_ns);
        (other_age_ns, std::cmp::Reverse(other_id)) > (own_age, std::cmp::Reverse(&self.id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert!(!timebase.steer(1_000_000, 0, true));
        assert_eq!(timebase.offset_ns, 125_000);
        for _ in 0..200 {
            timebase.steer(1_000_000, 0, true);
        }
        assert_eq!(timebase.offset_ns, 1_000_000);
        assert!(timebase.steer(1_000_000_000, 0, true));
        assert_eq!(timebase.offset_ns, 1_000_000_000);
    }

    #[test]
    fn a_machine_that_slept_jumps_to_the_band_and_the_band_stays() {
        let (mut sleeper, mut band) =
            (Timebase { id: [1; 16], offset_ns: 0 }, Timebase { id: [1; 16], offset_ns: 0 });
        // The sleeper's clock stood still for an hour: the band's clock is now that much ahead.
        let hour = 3_600_000_000_000;
        assert!(!band.steer(0, -hour, true));
        assert_eq!(band.offset_ns, 0);
        assert!(sleeper.steer(0, hour, false));
        assert_eq!(sleeper.offset_ns, hour);
    }

    #[test]
    fn hostile_offsets_do_not_overflow() {
        let mut timebase = Timebase::found([1; 16], 5);
        timebase.adopt([2; 16], i64::MAX, i64::MAX);
        timebase.steer(i64::MIN, i64::MIN, true);
        timebase.steer(i64::MAX, i64::MIN, true);
        let _ = timebase.session_at(i64::MAX);
    }
}
