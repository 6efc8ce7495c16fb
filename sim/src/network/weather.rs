//! What one direction of a path does to packets, as numbers.
//!
//! Packets on real paths are not delayed and lost independently: Wi-Fi holds them for milliseconds and
//! releases them at once, congestion wanders, a full modem queue adds a tenth of a second, and losses come in
//! bursts. [`Weather`] names these effects with their parameters; [`super::Direction`] is one direction of one
//! path with its own random streams; [`super::preset`] has the named ones with their sources.

/// Parameters of one direction of a path. Times are milliseconds, shares are 0 to 1, sizes are octets of IP
/// packets.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Weather {
    /// Propagation: the shortest delay, ms.
    pub delay_ms: f64,
    /// Standard deviation of the correlated jitter, ms.
    pub jitter_ms: f64,
    /// Correlation time of that jitter, ms; 0 makes every packet independent.
    pub jitter_memory_ms: f64,
    /// Mean of an exponential delay per packet (medium access on Wi-Fi, a grant on cable and LTE), ms.
    pub access_ms: f64,
    /// A delay with a heavy tail, per packet.
    pub tail: Tail,
    /// Short holds after which everything comes out at once.
    pub stalls: Stalls,
    /// Rare long holds, as when a radio scans for other networks.
    pub spikes: Stalls,
    /// Share of packets lost independently.
    pub loss: f64,
    /// Loss in bursts, on top of `loss`.
    pub bursts: Bursts,
    /// Share of packets that overtake nothing and are overtaken: held back by `reorder_ms`.
    pub reorder: f64,
    /// How long a reordered packet is held, ms.
    pub reorder_ms: f64,
    /// Share of packets delivered twice.
    pub duplicate: f64,
    /// Share of packets in which one bit is flipped although the link's own checksum passes.
    pub corrupt: f64,
    /// The bottleneck.
    pub rate: Rate,
    /// The largest IP packet that gets through, octets; 0: any. Larger ones are lost: Bandmesh's packets may
    /// not be fragmented.
    pub mtu: u32,
}

/// A delay per packet, drawn anew each time, that is mostly short and sometimes very long. Packets keep their order, so
/// a dense stream meets the long ones more often than a sparse one; heavy tails that belong to the time, as those of
/// radios, are [`Stalls`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Tail {
    /// No such delay.
    None,
    /// Pareto with this scale and exponent; the scale itself is not added, so that the shortest delay is 0.
    Pareto {
        /// Scale, ms.
        scale_ms: f64,
        /// Tail exponent; the mean is infinite at 1 and below, but for the cap.
        exponent: f64,
        /// The longest, ms.
        longest_ms: f64,
    },
    /// Lognormal.
    Lognormal {
        /// Median, ms.
        median_ms: f64,
        /// Standard deviation of its natural logarithm.
        sigma: f64,
        /// The longest, ms.
        longest_ms: f64,
    },
}

/// Holds that begin at random moments; their length is Pareto distributed and capped.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stalls {
    /// How many begin in a second, on average; 0: none.
    pub per_second: f64,
    /// The shortest, ms.
    pub shortest_ms: f64,
    /// The longest, ms.
    pub longest_ms: f64,
    /// Exponent of the Pareto tail; 0: uniform between shortest and longest.
    pub exponent: f64,
}

/// Gilbert-Elliott loss: quiet stretches, and bursts in which a share of the packets is lost.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bursts {
    /// Mean length of the quiet stretches, ms; 0: no bursts.
    pub quiet_ms: f64,
    /// Mean length of a burst, ms.
    pub burst_ms: f64,
    /// Share lost in a burst.
    pub loss: f64,
}

/// A bottleneck with a queue before it: first come, first served, and what does not fit is dropped.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    /// Kilobits a second, counting IP packets; 0: no limit.
    pub kbps: f64,
    /// What may wait, octets. A packet that finds an empty queue is always taken.
    pub queue: u32,
}

/// No holds.
pub const NO_STALLS: Stalls = Stalls { per_second: 0.0, shortest_ms: 0.0, longest_ms: 0.0, exponent: 0.0 };
/// No losses in bursts.
pub const NO_BURSTS: Bursts = Bursts { quiet_ms: 0.0, burst_ms: 0.0, loss: 0.0 };
/// No bottleneck.
pub const NO_LIMIT: Rate = Rate { kbps: 0.0, queue: 0 };

impl Weather {
    /// Nothing but a delay.
    pub const fn calm(delay_ms: f64) -> Self {
        Self {
            delay_ms,
            jitter_ms: 0.0,
            jitter_memory_ms: 0.0,
            access_ms: 0.0,
            tail: Tail::None,
            stalls: NO_STALLS,
            spikes: NO_STALLS,
            loss: 0.0,
            bursts: NO_BURSTS,
            reorder: 0.0,
            reorder_ms: 0.0,
            duplicate: 0.0,
            corrupt: 0.0,
            rate: NO_LIMIT,
            mtu: 0,
        }
    }
}

impl Bursts {
    /// The share of packets lost over a long time.
    pub fn mean_loss(&self) -> f64 {
        let all = self.quiet_ms + self.burst_ms;
        if self.quiet_ms > 0.0 && self.burst_ms > 0.0 { self.loss * self.burst_ms / all } else { 0.0 }
    }
}

impl Stalls {
    /// The longest hold there can be, ms.
    pub fn longest(&self) -> f64 {
        if self.per_second > 0.0 { self.longest_ms } else { 0.0 }
    }

    /// The share of time in which everything is held.
    pub fn held_share(&self) -> f64 {
        let Self { per_second, shortest_ms, longest_ms, exponent } = *self;
        if per_second <= 0.0 {
            return 0.0;
        }
        let mean_ms = if exponent <= 0.0 {
            (shortest_ms + longest_ms) / 2.0
        } else if exponent == 1.0 {
            shortest_ms * (1.0 + (longest_ms / shortest_ms).ln())
        } else {
            // The mean of a Pareto distribution whose tail is heaped up at the cap.
            let beyond = (shortest_ms / longest_ms).powf(exponent - 1.0);
            shortest_ms * (exponent - beyond) / (exponent - 1.0)
        };
        let held = per_second * mean_ms / 1e3;
        held / (1.0 + held)
    }
}
