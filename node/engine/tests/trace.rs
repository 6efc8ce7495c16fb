//! An engine that is given what another one took decides what that one decided.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed step ends its test")]

use engine::{
    Command, Config, Engine, Handle, HostTime, SourceConfig, SourceId, SourceTrace, SourceWriter,
    TraceReader, engine,
};

const PERIOD: usize = 128;
const SOURCES: [(u32, u32, usize); 3] = [(1, 48_000, 1), (2, 48_000, 2), (3, 44_100, 1)];

struct Bench {
    engine: Engine,
    _handle: Handle,
    trace: TraceReader,
    writers: Vec<SourceWriter>,
}

fn bench() -> Bench {
    let config = Config { trace: true, max_sources: 4, ..Config::new(48_000, PERIOD) };
    let (engine, mut handle) = engine(config).unwrap();
    let trace = handle.take_trace().unwrap();
    let mut writers = Vec::new();
    for (id, rate_hz, channels) in SOURCES {
        let (writer, source) = handle.source(SourceConfig::new(rate_hz, channels)).unwrap();
        handle.send(Command::AddSource(SourceId(id), source)).unwrap();
        writers.push(writer);
    }
    Bench { engine, _handle: handle, trace, writers }
}

struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

type Pushed = (i64, HostTime, Vec<f32>);

/// Two minutes with loss, jitter and stalls.
#[test]
fn the_same_blocks_in_the_same_callbacks_give_the_same_bits() {
    let mut dice = Dice(7);
    let (mut first, mut second) = (bench(), bench());
    let mut pushed: [Vec<Pushed>; 3] = Default::default();
    let mut late: [Vec<Pushed>; 3] = Default::default();
    let mut recorded: Vec<SourceTrace> = Vec::new();
    let mut replayed: Vec<SourceTrace> = Vec::new();
    let (mut concealed, mut taken) = (0u64, 0u64);
    for callback in 0..45_000u64 {
        let now = HostTime(1_000_000_000 + callback * 2_666_667 + dice.roll(300_000));
        for (n, (_, _, channels)) in SOURCES.into_iter().enumerate() {
            let samples = (0..PERIOD * channels).map(|_| dice.roll(2_000) as f32 / 1_000.0 - 1.0).collect();
            let block =
                ((callback as usize * PERIOD) as i64, HostTime(now.0 - dice.roll(2_000_000)), samples);
            match dice.roll(40) {
                0 => {}
                1 => late[n].push(block),
                _ => pushed[n].push(block),
            }
            if dice.roll(3) == 0 {
                pushed[n].append(&mut late[n]);
            }
            for (timestamp, arrival, samples) in &pushed[n] {
                first.writers[n].push(*timestamp, *arrival, samples).unwrap();
            }
        }
        first.engine.process(&[], &mut [0.0; 2 * PERIOD], now);
        let trace = first.trace.next_callback(&mut recorded).unwrap();
        assert_eq!(trace.commands, if callback == 0 { 3 } else { 0 });
        for (n, source) in recorded.iter().enumerate() {
            taken += u64::from(source.blocks);
            concealed += u64::from(source.concealed_frames);
            for (timestamp, arrival, samples) in pushed[n].drain(..source.blocks as usize) {
                second.writers[n].push(timestamp, arrival, &samples).unwrap();
            }
            assert!(pushed[n].is_empty());
        }
        second.engine.process(&[], &mut [0.0; 2 * PERIOD], trace.host_time);
        assert_eq!(second.trace.next_callback(&mut replayed), Some(trace));
        assert_eq!(recorded, replayed, "callback {callback}");
    }
    assert!(
        taken > 120_000 && concealed > 100_000,
        "{taken} {concealed}: it was as busy as it is meant to be"
    );
}

#[test]
fn one_other_sample_shows() {
    let play = |sample: f32| {
        let mut bench = bench();
        let mut sources = Vec::new();
        for callback in 0..20 {
            let value = if callback == 12 { sample } else { 0.25 };
            bench.writers[0].push(callback * 128, HostTime(0), &[value; PERIOD]).unwrap();
            bench.engine.process(&[], &mut [0.0; 2 * PERIOD], HostTime(callback as u64 * 2_666_667));
            let mut period = Vec::new();
            bench.trace.next_callback(&mut period).unwrap();
            sources.push(period[0].hash);
        }
        sources
    };
    let (one, other) = (play(0.25), play(0.250_001));
    assert_eq!(one[..12], other[..12]);
    assert_ne!(one[12], other[12]);
}
