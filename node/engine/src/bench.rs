//! How long the callback takes, offline.
//!
//! The wall time of one callback against its period says how many bandmates a machine can carry. Every source
//! sends one block per callback, one in a hundred of which is lost, so that concealment is in the figures.

use std::time::Instant;

use crate::{Command, Config, HostTime, SourceConfig, SourceId, engine};

const CALLBACKS: usize = 3_000;
const WARM_UP: usize = 200;
const RATE_HZ: u32 = 48_000;

/// One measured combination.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Row {
    /// Frames per callback at 48 kHz.
    pub period_frames: usize,
    /// Stereo sources playing.
    pub sources: usize,
    /// Median time of a callback.
    pub median_us: f64,
    /// 99th percentile.
    pub p99_us: f64,
    /// The slowest.
    pub max_us: f64,
    /// The 99th percentile as a share of the period.
    pub p99_share: f64,
}

/// Measures every combination of `periods` (frames) and `sources`. Combinations an engine cannot be built for
/// are left out.
#[must_use]
pub fn callback_times(periods: &[usize], sources: &[usize]) -> Vec<Row> {
    periods
        .iter()
        .flat_map(|&period| sources.iter().filter_map(move |&count| measure(period, count)))
        .collect()
}

fn measure(period_frames: usize, sources: usize) -> Option<Row> {
    let config = Config { max_sources: sources, ..Config::new(RATE_HZ, period_frames) };
    let (mut engine, mut handle) = engine(config).ok()?;
    let mut writers = Vec::new();
    for n in 0..sources {
        let (writer, source) = handle.source(SourceConfig::new(RATE_HZ, 2)).ok()?;
        handle.send(Command::AddSource(SourceId(n as u32), source)).ok()?;
        writers.push(writer);
    }
    let input = vec![0.1; period_frames];
    let mut output = vec![0.0; 2 * period_frames];
    let mut times_us = Vec::with_capacity(CALLBACKS);
    for k in 0..CALLBACKS + WARM_UP {
        let now = HostTime(1_000_000_000 + (k * period_frames) as u64 * 1_000_000_000 / u64::from(RATE_HZ));
        let block: Vec<f32> =
            (0..2 * period_frames).map(|n| 0.2 * ((k * period_frames + n / 2) as f32 * 0.05).sin()).collect();
        for (n, writer) in writers.iter_mut().enumerate() {
            if (k * 31 + n * 17) % 100 != 0 {
                writer.push((k * period_frames) as i64, now, &block).ok()?;
            }
        }
        let start = Instant::now();
        engine.process(&input, &mut output, now);
        if k >= WARM_UP {
            times_us.push(start.elapsed().as_secs_f64() * 1e6);
        }
        while handle.poll_report().is_some() {}
    }
    times_us.sort_by(f64::total_cmp);
    let at = |share: f64| times_us.get((share * (times_us.len() - 1) as f64) as usize).copied();
    let p99_us = at(0.99)?;
    Some(Row {
        period_frames,
        sources,
        median_us: at(0.5)?,
        p99_us,
        max_us: at(1.0)?,
        p99_share: p99_us * 1e-6 * f64::from(RATE_HZ) / period_frames as f64,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_combination_is_measured() {
        let rows = callback_times(&[64], &[0, 2]);
        assert_eq!(rows.len(), 2);
        assert!(rows.iter().all(|row| row.median_us > 0.0 && row.max_us >= row.p99_us));
    }
}
