//! The named links, with their numbers and where these come from.
//!
//! Per direction; both directions of a path have the same weather, each with its own luck. Between two homes the
//! bottleneck is the sender's uplink, so the rates are uplink rates.
//!
//! | name | delay ms | jitter | loss | bursts: quiet/burst ms, loss | rate Mbit/s | queue kB | reorder | twice | MTU |
//! |---|---|---|---|---|---|---|---|---|---|
//! | `lan` | 0.3 | normal 0.05 | 0 | - | 1000 | 128 | 0 | 0 | 1500 |
//! | `wifi` | 1.6 | exp. 1; stalls 5/s 2-12; spikes 0.5/s 20-40 | 0 | - | 100 | 256 | 0 | 0 | 1500 |
//! | `wifi-crowded` | 2 | exp. 1; stalls 12/s 5-80; spikes 0.3/s 60-250 | 0.1 % | 1500/20, 30 % | 12 | 256 | 0.1 % | 0.05 % | 1500 |
//! | `fibre` | 6 | normal 0.3 over 10 | 0.01 % | - | 100 | 256 | 0 | 0 | 1492 |
//! | `cable` | 11 | exp. 2; normal 1.5 over 30; spikes 0.1/s 20-60 | 0.05 % | 5000/20, 30 % | 20 | 250 | 0 | 0 | 1500 |
//! | `lte` | 25 | exp. 2; normal 5 over 50; stalls 5/s 8-60; spikes 0.05/s 50-200 | 0.1 % | - | 10 | 500 | 0 | 0 | 1428 |
//! | `satellite` | 290 | exp. 6; normal 4 over 100 | 0.1 % | 10000/60, 50 % | 3 | 375 | 0 | 0 | 1500 |
//! | `conference-hotel` | 12 | exp. 2; stalls 12/s 5-150; spikes 1/s 60-300 | 0.5 % | 800/40, 50 % | 4 | 500 | 0.3 % | 0.1 % | 1400 |
//! | `internet-good` | 15 | normal 1 over 10 | 0.1 % | - | - | - | 0 | 0 | - |
//! | `internet-bad` | 25 | normal 5 over 20 | 0 | 510/15, 70 % | - | - | 0 | 0 | - |
//!
//! The loss model (two states) and the idea of a table of access links are those of ITU-T G.1050 (11/2007), whose
//! later editions replace fixed distributions by queues filled with other people's traffic; the figures below are
//! not taken from its tables. Each constructor says which of its figures are published, which are measured by us and
//! which are assumed.

use super::weather::{Bursts, Rate, Stalls, Weather};

const ETHERNET_MTU: u32 = 1500;

impl Weather {
    /// A wired LAN: 0.3 ms, sigma 0.05 ms, as in the comparison bench (`bench/src/bin/impair.rs`). Gigabit
    /// Ethernet; the 128 kB of switch buffer are assumed.
    pub const fn lan() -> Self {
        Self {
            jitter_ms: 0.05,
            rate: Rate { kbps: 1_000_000.0, queue: 128_000 },
            mtu: ETHERNET_MTU,
            ..Self::calm(0.3)
        }
    }

    /// One Wi-Fi hop in a flat, as in the comparison bench: 1.6 ms and an exponential access delay of mean 1 ms;
    /// stalls (5/s, 2 to 12 ms) and spikes (one in two seconds, 20 to 40 ms). Its median of 3 ms is that of Sui
    /// et al., "Characterizing and Improving WiFi Latency in Large-Scale Operational Networks" (MobiSys 2016).
    /// Rate and queue are assumed.
    pub const fn wifi() -> Self {
        Self {
            access_ms: 1.0,
            stalls: Stalls { per_second: 5.0, shortest_ms: 2.0, longest_ms: 12.0, exponent: 1.8 },
            spikes: Stalls { per_second: 0.5, shortest_ms: 20.0, longest_ms: 40.0, exponent: 0.0 },
            rate: Rate { kbps: 100_000.0, queue: 256_000 },
            mtu: ETHERNET_MTU,
            ..Self::calm(1.6)
        }
    }

    /// Wi-Fi in a full house: Sui et al. (see [`Self::wifi`]) found the 90th percentile of one campus's Wi-Fi hops
    /// around 20 ms and the 99th around 250 ms, with a median as low as 3 ms. The holds are chosen so that a
    /// stream of audio meets 3 ms, 19 ms and 139 ms, which a test holds; how long each hold is, the loss, the
    /// reordering (link-layer retries) and the rate are assumed.
    pub const fn wifi_crowded() -> Self {
        Self {
            access_ms: 1.0,
            stalls: Stalls { per_second: 12.0, shortest_ms: 5.0, longest_ms: 80.0, exponent: 1.1 },
            spikes: Stalls { per_second: 0.3, shortest_ms: 60.0, longest_ms: 250.0, exponent: 0.0 },
            loss: 0.001,
            bursts: Bursts { quiet_ms: 1_500.0, burst_ms: 20.0, loss: 0.3 },
            reorder: 0.001,
            reorder_ms: 5.0,
            duplicate: 0.000_5,
            corrupt: 0.000_01,
            rate: Rate { kbps: 12_000.0, queue: 256_000 },
            mtu: ETHERNET_MTU,
            ..Self::calm(2.0)
        }
    }

    /// Fibre to two homes in one region: light takes 5 us/km, so 6 ms are 500 km of cable on its detours and two
    /// access networks of 1 to 2 ms (the FCC's Measuring Broadband America reports have fibre at the lowest
    /// latency of all access kinds, 10 to 15 ms there and back to the nearest test server). Jitter, loss and rate
    /// are assumed; the MTU is that of PPPoE (RFC 2516).
    pub const fn fibre() -> Self {
        Self {
            jitter_ms: 0.3,
            jitter_memory_ms: 10.0,
            loss: 0.000_1,
            rate: Rate { kbps: 100_000.0, queue: 256_000 },
            mtu: 1492,
            ..Self::calm(6.0)
        }
    }

    /// Cable television networks: an uplink packet first asks for a slot and waits for its grant, some
    /// milliseconds by DOCSIS's request-grant cycle, here an exponential delay of mean 2 ms. 250 kB at 20 Mbit/s are
    /// 100 ms of standing queue, within what Gettys and Nichols ("Bufferbloat: Dark Buffers in the Internet", ACM
    /// Queue 2011) describe for modems. Delay, wander, spikes and loss are assumed.
    pub const fn cable() -> Self {
        Self {
            jitter_ms: 1.5,
            jitter_memory_ms: 30.0,
            access_ms: 2.0,
            spikes: Stalls { per_second: 0.1, shortest_ms: 20.0, longest_ms: 60.0, exponent: 0.0 },
            loss: 0.000_5,
            bursts: Bursts { quiet_ms: 5_000.0, burst_ms: 20.0, loss: 0.3 },
            rate: Rate { kbps: 20_000.0, queue: 250_000 },
            mtu: ETHERNET_MTU,
            ..Self::calm(11.0)
        }
    }

    /// A phone as modem: the radio hides loss behind retransmissions of 8 ms each (the uplink HARQ round trip of
    /// LTE, 3GPP TS 36.321), which hold back what comes after; handovers interrupt for 50 ms and more. 1428 octets are
    /// what a 1500-octet backbone leaves inside the GTP tunnel by common configuration. Mean delay, wander, how often
    /// and rate are assumed.
    pub const fn lte() -> Self {
        Self {
            jitter_ms: 5.0,
            jitter_memory_ms: 50.0,
            access_ms: 2.0,
            stalls: Stalls { per_second: 5.0, shortest_ms: 8.0, longest_ms: 60.0, exponent: 1.5 },
            spikes: Stalls { per_second: 0.05, shortest_ms: 50.0, longest_ms: 200.0, exponent: 0.0 },
            loss: 0.001,
            rate: Rate { kbps: 10_000.0, queue: 500_000 },
            mtu: 1428,
            ..Self::calm(25.0)
        }
    }

    /// A geostationary satellite: up and down are at least 2 x 35,786 km, 239 ms at the speed of light; with slot
    /// assignment and the ground network about 290 ms one way, in accord with the 600 ms and more there and back
    /// that the FCC's reports give for it. Fades as bursts, rate and queue (1 s) are assumed.
    pub const fn satellite() -> Self {
        Self {
            jitter_ms: 4.0,
            jitter_memory_ms: 100.0,
            access_ms: 6.0,
            loss: 0.001,
            bursts: Bursts { quiet_ms: 10_000.0, burst_ms: 60.0, loss: 0.5 },
            rate: Rate { kbps: 3_000.0, queue: 375_000 },
            mtu: ETHERNET_MTU,
            ..Self::calm(290.0)
        }
    }

    /// The network of a hotel with a conference in it: a crowded radio, then a gateway that shapes each guest to
    /// 4 Mbit/s with a second of queue, then a tunnel. Everything here is assumed, as the worst that somebody may
    /// still want to play over.
    pub const fn conference_hotel() -> Self {
        Self {
            access_ms: 2.0,
            stalls: Stalls { per_second: 12.0, shortest_ms: 5.0, longest_ms: 150.0, exponent: 1.1 },
            spikes: Stalls { per_second: 1.0, shortest_ms: 60.0, longest_ms: 300.0, exponent: 0.0 },
            loss: 0.005,
            bursts: Bursts { quiet_ms: 800.0, burst_ms: 40.0, loss: 0.5 },
            reorder: 0.003,
            reorder_ms: 15.0,
            duplicate: 0.001,
            corrupt: 0.000_02,
            rate: Rate { kbps: 4_000.0, queue: 500_000 },
            mtu: 1400,
            ..Self::calm(12.0)
        }
    }

    /// Fibre between two cities as in the comparison bench: 15 ms, sigma 1 ms over 10 ms, 0.1 % independent loss.
    pub const fn internet_good() -> Self {
        Self { jitter_ms: 1.0, jitter_memory_ms: 10.0, loss: 0.001, ..Self::calm(15.0) }
    }

    /// A busy path as in the comparison bench: 25 ms, sigma 5 ms over 20 ms, 2 % loss in bursts (70 % during bursts
    /// of mean 15 ms).
    pub const fn internet_bad() -> Self {
        Self {
            jitter_ms: 5.0,
            jitter_memory_ms: 20.0,
            bursts: Bursts { quiet_ms: 510.0, burst_ms: 15.0, loss: 0.7 },
            ..Self::calm(25.0)
        }
    }

    /// All presets by name.
    pub const PRESETS: [(&'static str, Weather); 10] = [
        ("lan", Self::lan()),
        ("wifi", Self::wifi()),
        ("wifi-crowded", Self::wifi_crowded()),
        ("fibre", Self::fibre()),
        ("cable", Self::cable()),
        ("lte", Self::lte()),
        ("satellite", Self::satellite()),
        ("conference-hotel", Self::conference_hotel()),
        ("internet-good", Self::internet_good()),
        ("internet-bad", Self::internet_bad()),
    ];

    /// The preset of this name; `_` counts as `-`.
    pub fn preset(name: &str) -> Option<Self> {
        let name = name.replace('_', "-");
        Self::PRESETS.iter().find(|(known, _)| *known == name).map(|(_, weather)| *weather)
    }
}
