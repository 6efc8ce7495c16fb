//! Two clocks, two types.
//!
//! A node reads its own steady clock; a session agrees on a shared one. Both count nanoseconds, and mixing them up is
//! a bug nobody hears until two people play together. So each has its own type, and only the clock estimate (see
//! [`crate::clock`]) may carry a value from one to the other. Neither type can read a clock: time is always passed in.

use std::ops::{Add, Sub};
use std::time::Duration;

/// Nanoseconds on this process's steady clock (`CLOCK_MONOTONIC`), since an origin the process chose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LocalTime(u64);

/// Nanoseconds on the session's common timebase. Signed: a newcomer's clock may place an event before the origin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionTime(i64);

impl LocalTime {
    /// The instant `nanos` nanoseconds after the origin.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the origin.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// How long ago `earlier` was; zero if it is in the future.
    pub const fn saturating_since(self, earlier: LocalTime) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// Signed nanoseconds from `other` to `self`, saturating at the ends of `i64`.
    pub fn nanos_from(self, other: LocalTime) -> i64 {
        i64::try_from(i128::from(self.0) - i128::from(other.0)).unwrap_or(if self.0 > other.0 {
            i64::MAX
        } else {
            i64::MIN
        })
    }
}

impl Add<Duration> for LocalTime {
    type Output = LocalTime;

    fn add(self, later: Duration) -> LocalTime {
        LocalTime(self.0.saturating_add(saturating_nanos(later)))
    }
}

impl Sub<Duration> for LocalTime {
    type Output = LocalTime;

    fn sub(self, earlier: Duration) -> LocalTime {
        LocalTime(self.0.saturating_sub(saturating_nanos(earlier)))
    }
}

impl SessionTime {
    /// The instant `nanos` nanoseconds after the session's origin, or before it if negative.
    pub const fn from_nanos(nanos: i64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the session's origin.
    pub const fn as_nanos(self) -> i64 {
        self.0
    }

    /// Signed nanoseconds from `other` to `self`, saturating at the ends of `i64`.
    pub const fn nanos_from(self, other: SessionTime) -> i64 {
        self.0.saturating_sub(other.0)
    }

    /// The instant `nanos` later (earlier if negative).
    pub const fn offset_by(self, nanos: i64) -> SessionTime {
        SessionTime(self.0.saturating_add(nanos))
    }

    /// As an NTP timestamp (RFC 3550, section 4): 32 bits of seconds, 32 bits of fraction, steps of 0.23 ns. Negative
    /// times use the two's complement, so the pair of conversions is exact to 1 ns over +-68 years.
    pub const fn to_ntp(self) -> u64 {
        (((self.0 as i128) << 32) / NANOS_PER_SECOND) as i64 as u64
    }

    /// The session time an NTP timestamp from [`SessionTime::to_ntp`] stands for, rounded to the nearest nanosecond.
    pub const fn from_ntp(ntp: u64) -> SessionTime {
        let scaled = (ntp as i64 as i128) * NANOS_PER_SECOND;
        SessionTime(((scaled + (1 << 31)) >> 32) as i64)
    }
}

impl Add<Duration> for SessionTime {
    type Output = SessionTime;

    fn add(self, later: Duration) -> SessionTime {
        self.offset_by(i64::try_from(later.as_nanos()).unwrap_or(i64::MAX))
    }
}

const NANOS_PER_SECOND: i128 = 1_000_000_000;

fn saturating_nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn session_time_survives_the_ntp_format(nanos in -2_000_000_000_000_000_000i64..2_000_000_000_000_000_000) {
            let time = SessionTime::from_nanos(nanos);
            prop_assert!(SessionTime::from_ntp(time.to_ntp()).nanos_from(time).abs() <= 1);
        }

        #[test]
        fn no_ntp_timestamp_is_rejected_or_panics(ntp: u64) {
            let _ = SessionTime::from_ntp(ntp);
        }
    }

    #[test]
    fn time_stops_at_its_ends_instead_of_wrapping() {
        let end = LocalTime::from_nanos(u64::MAX);
        assert_eq!(end + Duration::from_secs(1), end);
        assert_eq!(LocalTime::default() - Duration::from_secs(1), LocalTime::default());
        assert_eq!(LocalTime::default().nanos_from(end), i64::MIN);
        assert_eq!(LocalTime::from_nanos(5).saturating_since(LocalTime::from_nanos(9)), Duration::ZERO);
    }
}
