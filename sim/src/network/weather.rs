//! What one direction of a path does to packets.
//!
//! Packets on real paths are not delayed and lost independently: Wi-Fi holds them for milliseconds and
//! releases them at once, congestion wanders, and losses come in bursts. [`Weather`] names these effects with
//! their parameters; [`Direction`] is one direction of one path with its own random stream. Stalls and loss
//! bursts are functions of time alone, so nodes that send more packets do not get other weather.
//!
//! The models and the preset numbers are those of the comparison bench (`bench/src/bin/impair.rs`: correlated
//! Gaussian jitter, exponential access delay, Pareto stalls, Gilbert-Elliott loss), so that a result here and
//! a measurement there speak of the same link.

use std::time::Duration;

use crate::{clock::WorldTime, random::Random};

/// Parameters of one direction of a path. Times are milliseconds, shares are 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Weather {
    /// Propagation: the shortest delay, ms.
    pub delay_ms: f64,
    /// Standard deviation of the correlated jitter, ms.
    pub jitter_ms: f64,
    /// Correlation time of that jitter, ms; 0 makes every packet independent.
    pub jitter_memory_ms: f64,
    /// Mean of an exponential delay per packet (medium access on Wi-Fi), ms.
    pub access_ms: f64,
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

const NO_STALLS: Stalls = Stalls { per_second: 0.0, shortest_ms: 0.0, longest_ms: 0.0, exponent: 0.0 };

impl Weather {
    /// Nothing but a delay.
    pub const fn calm(delay_ms: f64) -> Self {
        Self {
            delay_ms,
            jitter_ms: 0.0,
            jitter_memory_ms: 0.0,
            access_ms: 0.0,
            stalls: NO_STALLS,
            spikes: NO_STALLS,
            loss: 0.0,
            bursts: Bursts { quiet_ms: 0.0, burst_ms: 0.0, loss: 0.0 },
            reorder: 0.0,
            reorder_ms: 0.0,
            duplicate: 0.0,
        }
    }

    /// A wired LAN: 0.3 ms, sigma 0.05 ms.
    pub const fn lan() -> Self {
        Self { jitter_ms: 0.05, ..Self::calm(0.3) }
    }

    /// One Wi-Fi hop in a flat: 1.6 ms and an exponential access delay of mean 1 ms; stalls (5/s, 2 to 12 ms)
    /// and spikes (one in two seconds, 20 to 40 ms).
    pub const fn wifi() -> Self {
        Self {
            access_ms: 1.0,
            stalls: Stalls { per_second: 5.0, shortest_ms: 2.0, longest_ms: 12.0, exponent: 1.8 },
            spikes: Stalls { per_second: 0.5, shortest_ms: 20.0, longest_ms: 40.0, exponent: 0.0 },
            ..Self::calm(1.6)
        }
    }

    /// Fibre between two cities: 15 ms, sigma 1 ms over 10 ms, 0.1 % independent loss.
    pub const fn internet_good() -> Self {
        Self { jitter_ms: 1.0, jitter_memory_ms: 10.0, loss: 0.001, ..Self::calm(15.0) }
    }

    /// A busy path: 25 ms, sigma 5 ms over 20 ms, 2 % loss in bursts (70 % during bursts of mean 15 ms).
    pub const fn internet_bad() -> Self {
        Self {
            jitter_ms: 5.0,
            jitter_memory_ms: 20.0,
            bursts: Bursts { quiet_ms: 510.0, burst_ms: 15.0, loss: 0.7 },
            ..Self::calm(25.0)
        }
    }

    /// All presets by name.
    pub const PRESETS: [(&'static str, Weather); 4] = [
        ("lan", Self::lan()),
        ("wifi", Self::wifi()),
        ("internet_good", Self::internet_good()),
        ("internet_bad", Self::internet_bad()),
    ];
}

/// What becomes of one packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It never arrives.
    Lost,
    /// It arrives then.
    Arrives(WorldTime),
    /// It arrives twice.
    ArrivesTwice(WorldTime, WorldTime),
}

/// One direction of a path, with its state.
#[derive(Clone, Debug)]
pub struct Direction {
    weather: Weather,
    packets: Random,
    jitter: f64,
    jitter_at: WorldTime,
    last_arrival: WorldTime,
    stalls: Holds,
    spikes: Holds,
    bursts: BurstState,
}

impl Direction {
    /// A direction with this weather from `now` on.
    pub fn new(weather: Weather, random: &Random, now: WorldTime) -> Self {
        let mut packets = random.fork(1);
        Self {
            jitter: packets.normal(),
            jitter_at: now,
            last_arrival: now,
            stalls: Holds::new(weather.stalls, random.fork(2), now),
            spikes: Holds::new(weather.spikes, random.fork(3), now),
            bursts: BurstState { random: random.fork(4), bad: false, until: now },
            weather,
            packets,
        }
    }

    /// Its parameters.
    pub fn weather(&self) -> &Weather {
        &self.weather
    }

    /// Decides about a packet that leaves at `now`; call in order of time.
    pub fn send(&mut self, now: WorldTime) -> Fate {
        // The same number of draws for every packet: a lost one must not shift the luck of the next.
        let (loss, reorder, duplicate) = (self.packets.share(), self.packets.share(), self.packets.share());
        let access_ms = self.packets.exponential(self.weather.access_ms);
        let delay_ms = (self.weather.delay_ms + self.weather.jitter_ms * self.jitter_at(now)).max(0.0);
        let in_burst = self.bursts.is_bad(now, &self.weather.bursts);
        let burst_loss = if in_burst { self.weather.bursts.loss } else { 0.0 };
        let held = self.stalls.until(now).max(self.spikes.until(now)).unwrap_or(now);
        if loss < burst_loss.max(self.weather.loss) {
            return Fate::Lost;
        }
        let mut arrival = (now + milliseconds(delay_ms)).max(held) + milliseconds(access_ms);
        if reorder < self.weather.reorder {
            arrival = arrival + milliseconds(self.weather.reorder_ms);
        } else {
            arrival = arrival.max(self.last_arrival);
            self.last_arrival = arrival;
        }
        if duplicate < self.weather.duplicate {
            return Fate::ArrivesTwice(arrival, arrival + milliseconds(access_ms + 0.1));
        }
        Fate::Arrives(arrival)
    }

    /// A first-order Gauss-Markov process: what is left of the old value shrinks with the time between.
    fn jitter_at(&mut self, now: WorldTime) -> f64 {
        let elapsed_ms = now.since(self.jitter_at).as_secs_f64() * 1e3;
        let kept = if self.weather.jitter_memory_ms > 0.0 {
            (-elapsed_ms / self.weather.jitter_memory_ms).exp()
        } else {
            0.0
        };
        self.jitter_at = now;
        self.jitter = kept * self.jitter + (1.0 - kept * kept).sqrt() * self.packets.normal();
        self.jitter
    }
}

/// The holds of one kind along the time axis.
#[derive(Clone, Debug)]
struct Holds {
    kind: Stalls,
    random: Random,
    begin: WorldTime,
    end: WorldTime,
}

impl Holds {
    fn new(kind: Stalls, random: Random, now: WorldTime) -> Self {
        let mut holds = Self { kind, random, begin: now, end: now };
        holds.advance();
        holds
    }

    /// The end of the hold at `now`, if there is one.
    fn until(&mut self, now: WorldTime) -> Option<WorldTime> {
        while self.kind.per_second > 0.0 && self.end <= now {
            self.advance();
        }
        (self.begin <= now && now < self.end).then_some(self.end)
    }

    fn advance(&mut self) {
        if self.kind.per_second <= 0.0 {
            return;
        }
        let Stalls { per_second, shortest_ms, longest_ms, exponent } = self.kind;
        self.begin = self.end + milliseconds(self.random.exponential(1_000.0 / per_second));
        let length_ms = if exponent > 0.0 {
            self.random.pareto(shortest_ms, exponent).min(longest_ms)
        } else {
            self.random.between(shortest_ms, longest_ms)
        };
        // Never empty, or `until` would not get on.
        self.end = self.begin + milliseconds(length_ms.max(0.001));
    }
}

#[derive(Clone, Debug)]
struct BurstState {
    random: Random,
    bad: bool,
    until: WorldTime,
}

impl BurstState {
    fn is_bad(&mut self, now: WorldTime, bursts: &Bursts) -> bool {
        if bursts.quiet_ms <= 0.0 || bursts.burst_ms <= 0.0 {
            return false;
        }
        while self.until <= now {
            self.bad = !self.bad;
            let mean_ms = if self.bad { bursts.burst_ms } else { bursts.quiet_ms };
            self.until = self.until + milliseconds(self.random.exponential(mean_ms).max(0.001));
        }
        self.bad
    }
}

fn milliseconds(ms: f64) -> Duration {
    Duration::from_nanos((ms.max(0.0) * 1e6) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Statistics {
        lost: f64,
        mean_ms: f64,
        sigma_ms: f64,
        shortest_ms: f64,
        longest_ms: f64,
        reordered: f64,
        doubled: f64,
        /// Mean number of packets lost in a row.
        burst: f64,
    }

    /// What ten minutes of packets every 2.667 ms see.
    fn measure(weather: Weather) -> Statistics {
        let mut direction = Direction::new(weather, &Random::new(5), WorldTime(0));
        let packets = 225_000u64;
        let (mut delays, mut losses, mut runs, mut in_run) = (vec![], 0u64, 0u64, false);
        let (mut overtaken, mut doubled, mut before) = (0u64, 0u64, WorldTime(0));
        for packet in 0..packets {
            let now = WorldTime(packet * 2_666_667);
            let arrival = match direction.send(now) {
                Fate::Lost => {
                    losses += 1;
                    runs += u64::from(!in_run);
                    in_run = true;
                    continue;
                }
                Fate::Arrives(at) => at,
                Fate::ArrivesTwice(at, _) => {
                    doubled += 1;
                    at
                }
            };
            in_run = false;
            overtaken += u64::from(arrival < before);
            before = arrival;
            delays.push(arrival.since(now).as_secs_f64() * 1e3);
        }
        let mean_ms = delays.iter().sum::<f64>() / delays.len() as f64;
        let variance = delays.iter().map(|d| (d - mean_ms).powi(2)).sum::<f64>() / delays.len() as f64;
        Statistics {
            lost: losses as f64 / packets as f64,
            mean_ms,
            sigma_ms: variance.sqrt(),
            shortest_ms: delays.iter().copied().fold(f64::MAX, f64::min),
            longest_ms: delays.iter().copied().fold(0.0, f64::max),
            reordered: overtaken as f64 / packets as f64,
            doubled: doubled as f64 / packets as f64,
            burst: losses as f64 / runs.max(1) as f64,
        }
    }

    fn assert_near(what: &str, got: f64, wanted: f64, tolerance: f64) {
        assert!((got - wanted).abs() <= tolerance, "{what}: {got}, wanted {wanted} within {tolerance}");
    }

    #[test]
    fn lan_is_what_it_says() {
        let seen = measure(Weather::lan());
        assert_near("mean", seen.mean_ms, 0.3, 0.01);
        assert_near("sigma", seen.sigma_ms, 0.05, 0.01);
        assert_eq!(seen.lost, 0.0);
    }

    #[test]
    fn wifi_holds_packets_and_releases_them_in_order() {
        let seen = measure(Weather::wifi());
        assert_near("mean", seen.mean_ms, 3.0, 0.6);
        assert!(seen.shortest_ms >= 1.6);
        assert!((30.0..55.0).contains(&seen.longest_ms), "{}", seen.longest_ms);
        assert_eq!(seen.reordered, 0.0);
    }

    #[test]
    fn internet_presets_lose_and_wander_as_stated() {
        let good = measure(Weather::internet_good());
        assert_near("loss", good.lost, 0.001, 0.0004);
        assert_near("mean", good.mean_ms, 15.2, 0.6);
        let bad = measure(Weather::internet_bad());
        assert_near("loss", bad.lost, 0.02, 0.003);
        assert_near("sigma", bad.sigma_ms, 5.0, 0.7);
        assert!(bad.burst > 1.8, "losses come in bursts, mean {}", bad.burst);
    }

    #[test]
    fn reordering_and_duplicates_happen_as_often_as_asked() {
        let weather = Weather { reorder: 0.01, reorder_ms: 8.0, duplicate: 0.02, ..Weather::calm(2.0) };
        let seen = measure(weather);
        assert_near("reordered", seen.reordered, 0.01, 0.002);
        assert_near("doubled", seen.doubled, 0.02, 0.002);
    }

    #[test]
    fn stalls_do_not_depend_on_how_much_is_sent() {
        let arrivals = |every_ns: u64| -> Vec<u64> {
            let mut direction =
                Direction::new(Weather { access_ms: 0.0, ..Weather::wifi() }, &Random::new(3), WorldTime(0));
            (0..10_000_000_000 / every_ns)
                .map(|packet| match direction.send(WorldTime(packet * every_ns)) {
                    Fate::Arrives(at) => at.0 - packet * every_ns,
                    other => panic!("{other:?}"),
                })
                .collect()
        };
        let (sparse, dense) = (arrivals(10_000_000), arrivals(1_000_000));
        let same = sparse.iter().zip(dense.iter().step_by(10)).filter(|(a, b)| a == b).count();
        assert!(same as f64 > 0.99 * sparse.len() as f64, "{same} of {}", sparse.len());
    }
}
