//! The emulator against its settings: what packets meet must be what the preset says they meet.
//!
//! Each figure is compared with what follows from the settings by calculation, not with an earlier run. Bounds are
//! set so that a right emulator fails one comparison in a million seeds, and all of them together less than once in
//! ten thousand. Times are virtual, so that 100,000 packets take no time and no machine is too busy for this.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "test code: figures are printed for the reader"
)]

#[path = "emulator_statistics/expected.rs"]
mod expected;

use expected::{Distribution, loss_per_packet, loss_runs_per_packet};
use sim::{
    emulator::line::{Counts, Line, Settings, Way},
    network::{Weather, weather::Rate},
};

/// A standard normal variable is beyond this once in a million.
const SIGMAS: f64 = 4.9;
/// Student's t with 99 degrees of freedom is.
const SIGMAS_OF_100: f64 = 5.2;
/// Kolmogorov's distance times the root of the number of samples is beyond this once in a million.
const KOLMOGOROV: f64 = 2.7;
const SEED: u64 = 20_262;
/// 128 frames at 48 kHz, ns.
const PERIOD_NS: u64 = 2_666_667;
const OCTETS: usize = 300;

fn line(weather: Weather, seed: u64) -> Line<()> {
    let settings = Settings { weather, trace: None };
    Line::new([settings.clone(), settings], seed)
}

/// Sends packets `every_ns` and calls `left` with number of the packet and the time it was on the way, ns.
fn send(line: &mut Line<()>, packets: u64, every_ns: u64, octets: usize, mut left: impl FnMut(u64, u64)) {
    let mut take = |line: &mut Line<()>, now: u64| {
        while let Some(departure) = line.poll_departure(now) {
            let number = u64::from_be_bytes(departure.bytes.try_into().unwrap());
            left(number, departure.due_ns - number * every_ns);
        }
    };
    for number in 0..packets {
        let now = number * every_ns;
        take(line, now);
        line.handle_packet(Way::AToB, now, octets, (), number.to_be_bytes().to_vec());
    }
    take(line, u64::MAX);
}

#[test]
fn delays_are_distributed_as_every_preset_says() {
    let packets = 100_000;
    eprintln!(
        "preset             mean ms  p50 ms  p95 ms  p99 ms   by the settings: p50     p95     p99   distance"
    );
    for (name, weather) in Weather::PRESETS {
        // A second apart, so that packets are independent and none waits for the one before. Damage would hide in the
        // packet's number, and copies are not delays.
        let weather = Weather { duplicate: 0.0, corrupt: 0.0, ..weather };
        let mut delays_ms = Vec::new();
        send(&mut line(weather, SEED), packets, 1_000_000_000, OCTETS, |_, ns| {
            delays_ms.push(ns as f64 / 1e6)
        });
        delays_ms.sort_by(f64::total_cmp);
        let expected = Distribution::of(&weather, OCTETS);
        let distance = expected.distance(&delays_ms);
        let seen = |share: f64| delays_ms[(share * delays_ms.len() as f64) as usize];
        let mean = delays_ms.iter().sum::<f64>() / delays_ms.len() as f64;
        let [p50, p95, p99] = [0.5, 0.95, 0.99];
        eprintln!(
            "{name:18} {mean:7.2} {:7.2} {:7.2} {:7.2}                    {:7.2} {:7.2} {:7.2}   {distance:.4}",
            seen(p50),
            seen(p95),
            seen(p99),
            expected.quantile(p50),
            expected.quantile(p95),
            expected.quantile(p99),
        );
        let bound = KOLMOGOROV / (delays_ms.len() as f64).sqrt();
        assert!(distance < bound, "{name}: distance {distance}, bound {bound}");
    }
}

#[test]
fn the_comparison_of_delays_notices_a_tenth_of_a_millisecond() {
    let weather = Weather::wifi();
    let expected = Distribution::of(&Weather { delay_ms: weather.delay_ms + 0.1, ..weather }, OCTETS);
    let mut delays_ms = Vec::new();
    send(&mut line(weather, SEED), 100_000, 1_000_000_000, OCTETS, |_, ns| delays_ms.push(ns as f64 / 1e6));
    delays_ms.sort_by(f64::total_cmp);
    let distance = expected.distance(&delays_ms);
    assert!(distance > 2.0 * KOLMOGOROV / (delays_ms.len() as f64).sqrt(), "{distance}");
}

/// Differences of the counts between two moments.
fn since(now: Counts, before: Counts) -> [f64; 2] {
    [now.lost - before.lost, now.loss_runs - before.loss_runs].map(|count| count as f64)
}

#[test]
fn losses_are_as_many_and_as_bursty_as_every_preset_says() {
    // A hundred stretches of 2 minutes: long beside the longest quiet of a preset (10 s).
    let (batches, packets) = (100u64, 45_000u64);
    eprintln!("preset             lost %   wanted    in runs of   wanted");
    for (name, weather) in Weather::PRESETS {
        let weather = Weather { rate: Rate { kbps: 0.0, queue: 0 }, ..weather };
        let mut line = line(weather, SEED);
        let mut seen: Vec<[f64; 2]> = Vec::new();
        for batch in 0..=batches {
            let before = line.counts(Way::AToB);
            for number in 0..packets {
                let now = (batch * packets + number) * PERIOD_NS;
                while line.poll_departure(now).is_some() {}
                line.handle_packet(Way::AToB, now, OCTETS, (), Vec::new());
            }
            // The first stretch begins in no typical state.
            if batch > 0 {
                seen.push(since(line.counts(Way::AToB), before).map(|count| count / packets as f64));
            }
        }
        let wanted = [loss_per_packet(&weather), loss_runs_per_packet(&weather, PERIOD_NS as f64 / 1e6)];
        let mean = |index: usize| seen.iter().map(|batch| batch[index]).sum::<f64>() / batches as f64;
        eprintln!(
            "{name:18} {:7.4} {:8.4} {:12.3} {:8.3}",
            100.0 * mean(0),
            100.0 * wanted[0],
            mean(0) / mean(1).max(1e-12),
            wanted[0] / wanted[1].max(1e-12)
        );
        for (index, what) in [(0, "losses"), (1, "runs of losses")] {
            let mean = mean(index);
            let variance =
                seen.iter().map(|batch| (batch[index] - mean).powi(2)).sum::<f64>() / (batches - 1) as f64;
            let error = SIGMAS_OF_100 * (variance / batches as f64).sqrt();
            assert!(
                (mean - wanted[index]).abs() <= error,
                "{name}: {what} {mean} a packet, wanted {} within {error}",
                wanted[index]
            );
        }
    }
}

#[test]
fn packets_are_reordered_doubled_and_damaged_as_often_as_asked() {
    let packets = 100_000u64;
    let weather =
        Weather { reorder: 0.02, reorder_ms: 5.0, duplicate: 0.03, corrupt: 0.01, ..Weather::calm(10.0) };
    let mut line = line(weather, SEED);
    let (mut gone, mut damaged) = (0, 0u64);
    for number in 0..packets {
        // A packet is overtaken by the four that follow it within 5 ms, unless all of these are held back too.
        let now = number * 1_000_000;
        while let Some(departure) = line.poll_departure(now) {
            gone += 1;
            damaged += u64::from(departure.bytes != [0xA5; 32]);
        }
        line.handle_packet(Way::AToB, now, OCTETS, (), vec![0xA5; 32]);
    }
    while line.poll_departure(u64::MAX).is_some() {
        gone += 1;
    }
    let counts = line.counts(Way::AToB);
    for (what, seen, share) in [
        ("reordered", counts.reordered, weather.reorder),
        ("damaged", counts.damaged, weather.corrupt),
        ("doubled", counts.duplicated, weather.duplicate * (1.0 - weather.corrupt)),
    ] {
        let error = SIGMAS * (share * (1.0 - share) / packets as f64).sqrt();
        let seen = seen as f64 / packets as f64;
        eprintln!(
            "{what:10} {:.3} % of packets, wanted {:.3} within {:.3}",
            100.0 * seen,
            100.0 * share,
            100.0 * error
        );
        assert!((seen - share).abs() <= error, "{what}: {seen}, wanted {share} within {error}");
    }
    assert_eq!(gone, packets + counts.duplicated);
    // All but those of the last 15 ms were looked at.
    assert!(counts.damaged - damaged <= 20, "{} said to be damaged, {damaged} were", counts.damaged);
}

#[test]
fn a_bottleneck_passes_its_rate_and_delays_by_its_queue() {
    eprintln!("preset             Mbit/s passed  limit     longest wait ms  queue ms");
    for (name, weather) in Weather::PRESETS.into_iter().filter(|(_, weather)| weather.rate.kbps > 0.0) {
        let Rate { kbps, queue } = weather.rate;
        // Nothing but the bottleneck, so that its delay can be read off.
        let weather = Weather { rate: weather.rate, ..Weather::calm(1.0) };
        let octets = 1_000usize;
        // Twice the rate, four times as long as it takes to fill the queue.
        let every_ns = (octets as f64 * 8.0 / kbps * 1e6 / 2.0) as u64;
        let packets = 8 * u64::from(queue) / octets as u64;
        let mut line = line(weather, SEED);
        let (mut left, mut longest_ns, mut last_ns) = (0u64, 0, 0);
        send(&mut line, packets, every_ns, octets, |number, ns| {
            left += 1;
            longest_ns = longest_ns.max(ns);
            last_ns = number * every_ns + ns;
        });
        let passed_kbps = left as f64 * octets as f64 * 8.0 / ((last_ns as f64 - 1e6) / 1e6);
        let (wait_ms, queue_ms) = (longest_ns as f64 / 1e6 - 1.0, f64::from(queue) * 8.0 / kbps);
        eprintln!("{name:18} {:13.3} {:6.0} {wait_ms:20.3} {queue_ms:9.3}", passed_kbps / 1e3, kbps / 1e3);
        assert!((passed_kbps / kbps - 1.0).abs() < 0.001, "{name}: {passed_kbps}");
        // A packet more or less, since the queue holds whole packets.
        let packet_ms = octets as f64 * 8.0 / kbps;
        assert!((wait_ms - queue_ms).abs() <= packet_ms * 1.01, "{name}: {wait_ms}, queue {queue_ms}");
        let counts = line.counts(Way::AToB);
        assert_eq!(counts.queue_full, packets - left);
        assert!(counts.queue_full > packets / 4, "{counts:?}");
    }
}

#[test]
fn packets_above_the_mtu_vanish_and_no_others() {
    for (name, weather) in Weather::PRESETS.into_iter().filter(|(_, weather)| weather.mtu > 0) {
        let mut line = line(Weather { mtu: weather.mtu, ..Weather::calm(1.0) }, SEED);
        for extra in 0..2 {
            line.handle_packet(Way::AToB, 0, weather.mtu as usize + extra, (), vec![extra as u8]);
        }
        let left: Vec<Vec<u8>> =
            std::iter::from_fn(|| line.poll_departure(u64::MAX)).map(|d| d.bytes).collect();
        assert_eq!((left, line.counts(Way::AToB).too_large), (vec![vec![0]], 1), "{name}");
    }
}
