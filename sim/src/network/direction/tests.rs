//! Each effect happens as often and as strongly as its parameters say.

use super::*;
use crate::network::trace::Packet;

/// A period of 128 frames of mono PCM 16 with all headers, octets.
const OCTETS: usize = 330;

struct Statistics {
    lost: f64,
    mean_ms: f64,
    sigma_ms: f64,
    shortest_ms: f64,
    /// All delays, in order of size.
    delays: Vec<f64>,
    reordered: f64,
    doubled: f64,
    /// Mean number of packets lost in a row.
    burst: f64,
}

impl Statistics {
    fn quantile(&self, share: f64) -> f64 {
        self.delays[((self.delays.len() - 1) as f64 * share) as usize]
    }
}

/// What ten minutes of packets every 2.667 ms see.
fn measure(weather: Weather) -> Statistics {
    measure_direction(Direction::new(weather, &Random::new(5), WorldTime(0)))
}

fn measure_direction(mut direction: Direction) -> Statistics {
    let packets = 225_000u64;
    let (mut delays, mut losses, mut runs, mut in_run) = (vec![], 0u64, 0u64, false);
    let (mut overtaken, mut doubled, mut before) = (0u64, 0u64, WorldTime(0));
    for packet in 0..packets {
        let now = WorldTime(packet * 2_666_667);
        let fate = direction.send(now, OCTETS);
        doubled += u64::from(matches!(fate, Fate::ArrivesTwice(..)));
        let Some(arrival) = fate.arrival() else {
            losses += 1;
            runs += u64::from(!in_run);
            in_run = true;
            continue;
        };
        in_run = false;
        overtaken += u64::from(arrival < before);
        before = arrival;
        delays.push(arrival.since(now).as_secs_f64() * 1e3);
    }
    let counters = direction.counters();
    assert_eq!(counters.sent, packets);
    assert_eq!(counters.lost + counters.dropped + counters.too_large + counters.damaged, losses);
    assert_eq!(counters.doubled, doubled);
    let mean_ms = delays.iter().sum::<f64>() / delays.len() as f64;
    let variance = delays.iter().map(|d| (d - mean_ms).powi(2)).sum::<f64>() / delays.len() as f64;
    delays.sort_by(f64::total_cmp);
    Statistics {
        lost: losses as f64 / packets as f64,
        mean_ms,
        sigma_ms: variance.sqrt(),
        shortest_ms: delays[0],
        delays,
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
    let longest = seen.quantile(1.0);
    assert!((30.0..55.0).contains(&longest), "{longest}");
    assert_eq!(seen.reordered, 0.0);
}

#[test]
fn crowded_wifi_has_the_published_tail() {
    let seen = measure(Weather::wifi_crowded());
    let (p90, p99) = (seen.quantile(0.9), seen.quantile(0.99));
    assert_near("median", seen.quantile(0.5), 3.0, 1.0);
    assert_near("90th percentile", p90, 20.0, 5.0);
    assert!((100.0..250.0).contains(&p99), "99th percentile {p99} ms");
    assert_near("loss", seen.lost, 0.001 + Weather::wifi_crowded().bursts.mean_loss(), 0.001_5);
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
fn every_preset_is_found_by_its_name_and_can_carry_one_stream() {
    for (name, weather) in Weather::PRESETS {
        assert_eq!(Weather::preset(name), Some(weather));
        let seen = measure(weather);
        let stated = weather.loss + weather.bursts.mean_loss() + weather.corrupt;
        assert_near(name, seen.lost, stated, 0.2 * stated + 0.000_3);
        assert!(
            seen.shortest_ms >= weather.delay_ms - 6.0 * weather.jitter_ms,
            "{name}: {}",
            seen.shortest_ms
        );
    }
    assert_eq!(Weather::preset("internet_bad"), Some(Weather::internet_bad()));
    assert_eq!(Weather::preset("marshmallow"), None);
}

#[test]
fn reordering_and_duplicates_happen_as_often_as_asked() {
    let weather = Weather { reorder: 0.01, reorder_ms: 8.0, duplicate: 0.02, ..Weather::calm(2.0) };
    let seen = measure(weather);
    assert_near("reordered", seen.reordered, 0.01, 0.002);
    assert_near("doubled", seen.doubled, 0.02, 0.002);
}

#[test]
fn heavy_tails_have_the_quantiles_of_their_distributions() {
    // Packets far apart, so that none waits for the one before.
    let quantiles = |tail: Tail| {
        let weather = Weather { tail, ..Weather::calm(1.0) };
        let mut direction = Direction::new(weather, &Random::new(5), WorldTime(0));
        let mut delays: Vec<f64> = (0..50_000u64)
            .map(|packet| {
                let now = WorldTime(packet * 1_000_000_000);
                direction.send(now, OCTETS).arrival().unwrap().since(now).as_secs_f64() * 1e3 - 1.0
            })
            .collect();
        delays.sort_by(f64::total_cmp);
        [0.5, 0.9, 0.99, 1.0].map(|share| delays[((delays.len() - 1) as f64 * share) as usize])
    };
    let pareto = quantiles(Tail::Pareto { scale_ms: 2.0, exponent: 1.5, longest_ms: 500.0 });
    for (got, share) in pareto.iter().zip([0.5, 0.9, 0.99f64]) {
        let wanted = 2.0 / (1.0 - share).powf(1.0 / 1.5) - 2.0;
        assert_near("Pareto", *got, wanted, 0.1 * wanted);
    }
    assert_near("Pareto's cap", pareto[3], 500.0, 0.001);
    let lognormal = quantiles(Tail::Lognormal { median_ms: 3.0, sigma: 0.8, longest_ms: 500.0 });
    for (got, sigmas) in lognormal.iter().zip([0.0, 1.2816, 2.3263f64]) {
        let wanted = 3.0 * (0.8 * sigmas).exp();
        assert_near("lognormal", *got, wanted, 0.1 * wanted);
    }
}

#[test]
fn a_bottleneck_spaces_packets_and_drops_what_its_queue_cannot_hold() {
    // 1 Mbit/s: 1000 octets take 8 ms; four of them may wait.
    let rate = Rate { kbps: 1_000.0, queue: 4_000 };
    let mut direction =
        Direction::new(Weather { rate, ..Weather::calm(10.0) }, &Random::new(5), WorldTime(0));
    let fates: Vec<Option<u64>> =
        (0..6).map(|_| direction.send(WorldTime(0), 1_000).arrival().map(|at| at.0 / 1_000_000)).collect();
    assert_eq!(fates, [Some(18), Some(26), Some(34), Some(42), None, None]);
    assert_eq!(direction.counters().dropped, 2);
    assert_eq!(direction.counters().most_queued, 4_000);
    // 8 ms later one has left, and there is room for one.
    let later = WorldTime(8_000_000);
    assert_eq!(direction.send(later, 1_000).arrival().map(|at| at.0 / 1_000_000), Some(50));
    assert_eq!(direction.send(later, 1_000), Fate::Lost(Loss::Queue));
    // One that is larger than the queue is taken when nothing waits.
    assert!(direction.send(WorldTime(1_000_000_000), 9_000).arrival().is_some());
}

#[test]
fn a_packet_above_the_mtu_is_lost_and_counted() {
    let mut direction =
        Direction::new(Weather { mtu: 1_400, ..Weather::calm(1.0) }, &Random::new(5), WorldTime(0));
    assert!(direction.send(WorldTime(0), 1_400).arrival().is_some());
    assert_eq!(direction.send(WorldTime(0), 1_401), Fate::Lost(Loss::Size));
    assert_eq!(direction.counters().too_large, 1);
}

#[test]
fn damage_flips_one_bit_as_often_as_asked() {
    let weather = Weather { corrupt: 0.1, ..Weather::calm(1.0) };
    let mut direction = Direction::new(weather, &Random::new(5), WorldTime(0));
    let (mut damaged, mut bits) = (0, [0u32; 32]);
    for packet in 0..20_000u64 {
        if let Fate::ArrivesDamaged(_, damage) = direction.send(WorldTime(packet * 1_000_000), OCTETS) {
            let mut content = [0u8; 4];
            damage.apply(&mut content);
            let flipped = u32::from_be_bytes(content);
            assert_eq!(flipped.count_ones(), 1);
            bits[flipped.trailing_zeros() as usize] += 1;
            damaged += 1;
        }
    }
    assert_near("damaged", f64::from(damaged) / 20_000.0, 0.1, 0.01);
    assert!(bits.iter().all(|count| *count > 20), "every bit is hit: {bits:?}");
    direction_does_nothing_to_an_empty_packet(&mut direction);
}

fn direction_does_nothing_to_an_empty_packet(direction: &mut Direction) {
    let mut empty: [u8; 0] = [];
    let damage = (0..1_000u64).find_map(|packet| {
        match direction.send(WorldTime(30_000_000_000 + packet * 1_000_000), 0) {
            Fate::ArrivesDamaged(_, damage) => Some(damage),
            _ => None,
        }
    });
    damage.unwrap().apply(&mut empty);
}

#[test]
fn stalls_do_not_depend_on_how_much_is_sent() {
    let arrivals = |every_ns: u64| -> Vec<u64> {
        let weather = Weather { access_ms: 0.0, ..Weather::wifi() };
        let mut direction = Direction::new(weather, &Random::new(3), WorldTime(0));
        (0..10_000_000_000 / every_ns)
            .map(|packet| match direction.send(WorldTime(packet * every_ns), OCTETS) {
                Fate::Arrives(at) => at.0 - packet * every_ns,
                other => panic!("{other:?}"),
            })
            .collect()
    };
    let (sparse, dense) = (arrivals(10_000_000), arrivals(1_000_000));
    let same = sparse.iter().zip(dense.iter().step_by(10)).filter(|(a, b)| a == b).count();
    assert!(same as f64 > 0.99 * sparse.len() as f64, "{same} of {}", sparse.len());
}

#[test]
fn one_more_effect_does_not_shift_the_luck_of_the_others() {
    let lost = |weather: Weather| -> Vec<bool> {
        let mut direction = Direction::new(weather, &Random::new(3), WorldTime(0));
        (0..5_000u64)
            .map(|packet| direction.send(WorldTime(packet * 3_000_000), OCTETS).arrival().is_none())
            .collect()
    };
    let plain = Weather { loss: 0.1, ..Weather::calm(5.0) };
    let tail = Tail::Lognormal { median_ms: 2.0, sigma: 1.0, longest_ms: 50.0 };
    let more = Weather { tail, duplicate: 0.1, jitter_ms: 1.0, ..plain };
    assert_eq!(lost(plain), lost(more));
}

#[test]
fn a_replayed_path_delays_and_loses_as_the_recorded_one() {
    // A record of the busy path, every 10 ms.
    let mut real = Direction::new(Weather::internet_bad(), &Random::new(11), WorldTime(0));
    let packets = (0..60_000u64)
        .map(|packet| {
            let now = WorldTime(packet * 10_000_000);
            let delay = real.send(now, 60).arrival().map(|at| at.since(now));
            Packet { at: Duration::from_nanos(now.0), delay, octets: 60 }
        })
        .collect();
    let trace = Arc::new(Trace::new(packets).unwrap());
    let (recorded, trace_shortest_ms) = (trace.loss(), trace.shortest().as_secs_f64() * 1e3);
    let replayed = Direction::replay(trace, Weather::calm(0.0), &Random::new(1), WorldTime(0));
    assert_near("shortest", replayed.shortest_ms(), trace_shortest_ms, 0.001);
    let seen = measure_direction(replayed);
    let truth = measure(Weather::internet_bad());
    assert_near("loss", seen.lost, recorded, 0.001);
    assert_near("mean", seen.mean_ms, truth.mean_ms, 0.7);
    assert_near("sigma", seen.sigma_ms, truth.sigma_ms, 0.5);
    assert!(seen.reordered < 0.001, "a path that kept the order keeps it: {}", seen.reordered);
}

#[test]
fn a_path_does_not_begin_in_a_burst() {
    let bursts = Bursts { quiet_ms: 900.0, burst_ms: 100.0, loss: 1.0 };
    let weather = Weather { bursts, ..Weather::calm(1.0) };
    let at = |ms: u64| WorldTime(ms * 1_000_000);
    let lost = |seed: u64, ms: u64| {
        let mut direction = Direction::new(weather, &Random::new(seed), WorldTime(0));
        direction.send(at(ms), 100).arrival().is_none()
    };
    assert!(!(0..2_000).any(|seed| lost(seed, 0)), "all begin quietly");
    // The share of paths that are in a burst grows to the share of time that bursts take, 10 %.
    for (ms, share) in [(20, 0.02), (2_000, 0.1)] {
        let share_lost = (0..4_000).filter(|seed| lost(*seed, ms)).count() as f64 / 4_000.0;
        assert!((share_lost - share).abs() < 0.015, "{share_lost} after {ms} ms, expected {share}");
    }
}

#[test]
fn held_back_packets_are_counted_as_overtaken_once_each() {
    let weather = Weather { reorder: 0.05, reorder_ms: 10.0, ..Weather::calm(5.0) };
    let mut direction = Direction::new(weather, &Random::new(3), WorldTime(0));
    let mut arrivals = vec![];
    for packet in 0..20_000u64 {
        arrivals.push(direction.send(WorldTime(packet * 2_000_000), 100).arrival().unwrap());
    }
    let overtaken = |place: usize| {
        let later = arrivals.iter().skip(place + 1).take(20);
        later.clone().any(|other| *other < arrivals[place])
    };
    let expected = (0..arrivals.len()).filter(|place| overtaken(*place)).count() as u64;
    assert!(expected > 900, "{expected}");
    assert_eq!(direction.counters().overtaken, expected);
}
