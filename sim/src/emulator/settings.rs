//! From a preset's name and single options to what a line does.

use std::{fs::File, io::Read as _, path::Path, sync::Arc};

use clap::Args;

use crate::{
    emulator::line::Settings,
    network::{
        Trace, Weather,
        weather::{Bursts, NO_BURSTS, NO_STALLS, Rate, Tail},
    },
};

/// The largest trace file read: [`crate::network::trace::MAX_PACKETS`] lines of at most 40 bytes.
const MAX_TRACE_BYTES: u64 = 36_000_000;
/// The share lost within a burst of `--burst`, as in the preset `internet-bad`.
const LOSS_IN_BURST: f64 = 0.7;
/// Milliseconds of queue before a `--rate-kbit` without a `--queue-ms`.
const QUEUE_MS: f64 = 100.0;
/// How long `--reorder` holds a packet back, ms: four packets at 1.33 ms.
const REORDER_MS: f64 = 5.0;
/// The longest delay that can be asked for, ms.
const LONGEST_MS: f64 = 60_000.0;

/// Which line. A preset, single settings that replace the preset's, or both; shares are `2%` or `0.02`.
#[derive(Args, Clone, Debug, Default)]
pub struct LineArguments {
    /// The link to be: `bandmesh-sim link --list` names them. Without one the line is perfect.
    #[arg(long)]
    pub preset: Option<String>,
    /// Propagation delay, ms.
    #[arg(long, value_name = "MS", value_parser = milliseconds)]
    pub delay_ms: Option<f64>,
    /// Standard deviation of normal jitter, ms; replaces all other jitter of the preset.
    #[arg(long, value_name = "MS", value_parser = milliseconds)]
    pub jitter_ms: Option<f64>,
    /// Share of packets lost; replaces the preset's loss.
    #[arg(long, value_name = "SHARE", value_parser = share)]
    pub loss: Option<f64>,
    /// Lose packets in bursts of this mean length, ms, instead of one by one; needs a loss.
    #[arg(long, value_name = "MS", value_parser = milliseconds)]
    pub burst: Option<f64>,
    /// Share of packets held back by 5 ms (or as the preset says), so that later ones overtake them.
    #[arg(long, value_name = "SHARE", value_parser = share)]
    pub reorder: Option<f64>,
    /// Share of packets that come twice.
    #[arg(long, value_name = "SHARE", value_parser = share)]
    pub duplicate: Option<f64>,
    /// Share of packets that come with a bit flipped. Over TUN kernels discard most of these by their checksums.
    #[arg(long, value_name = "SHARE", value_parser = share)]
    pub corrupt: Option<f64>,
    /// Bottleneck, kbit/s of IP packets; 0: none.
    #[arg(long, value_name = "KBIT")]
    pub rate_kbit: Option<u32>,
    /// Queue before the bottleneck, ms at its rate (100); the rest is dropped.
    #[arg(long, value_name = "MS", value_parser = milliseconds)]
    pub queue_ms: Option<f64>,
    /// Largest IP packet that passes, octets; larger ones vanish. 0: any.
    #[arg(long, value_name = "OCTETS")]
    pub mtu: Option<u32>,
    /// Replay a path recorded by `bandmesh-sim path record`. Given twice, the second is from B to A.
    #[arg(long, value_name = "FILE")]
    pub trace_file: Vec<std::path::PathBuf>,
}

impl LineArguments {
    /// What the line does from A to B and from B to A; the error names the option that is wrong.
    pub fn settings(&self) -> Result<[Settings; 2], String> {
        let weather = self.weather()?;
        let traces: Result<Vec<_>, String> = self.trace_file.iter().map(|path| read_trace(path)).collect();
        let traces = traces?;
        let (there, back) = match traces.as_slice() {
            [] => (None, None),
            [both] => (Some(both), Some(both)),
            [there, back] => (Some(there), Some(back)),
            _ => return Err("--trace-file can be given twice at most: from A to B, and from B to A".into()),
        };
        Ok([there, back].map(|trace| Settings { weather, trace: trace.cloned() }))
    }

    /// The parameters of both directions.
    fn weather(&self) -> Result<Weather, String> {
        let mut weather = match &self.preset {
            Some(name) => Weather::preset(name).ok_or_else(|| {
                let names: Vec<&str> = Weather::PRESETS.iter().map(|(name, _)| *name).collect();
                format!("there is no preset {name}; there are {}", names.join(", "))
            })?,
            None => Weather::calm(0.0),
        };
        if let Some(delay_ms) = self.delay_ms {
            weather.delay_ms = delay_ms;
        }
        if let Some(jitter_ms) = self.jitter_ms {
            weather = Weather {
                jitter_ms,
                access_ms: 0.0,
                tail: Tail::None,
                stalls: NO_STALLS,
                spikes: NO_STALLS,
                ..weather
            };
        }
        if let Some(loss) = self.loss {
            weather = Weather { loss, bursts: NO_BURSTS, ..weather };
        }
        if let Some(burst_ms) = self.burst {
            weather = with_bursts(weather, burst_ms)?;
        }
        if let Some(reorder) = self.reorder {
            let reorder_ms = if weather.reorder_ms > 0.0 { weather.reorder_ms } else { REORDER_MS };
            weather = Weather { reorder, reorder_ms, ..weather };
        }
        weather.duplicate = self.duplicate.unwrap_or(weather.duplicate);
        weather.corrupt = self.corrupt.unwrap_or(weather.corrupt);
        weather.mtu = self.mtu.unwrap_or(weather.mtu);
        weather.rate = self.rate(weather.rate)?;
        Ok(weather)
    }

    fn rate(&self, preset: Rate) -> Result<Rate, String> {
        let octets = |kbps: f64, ms: f64| (kbps * ms / 8.0).min(f64::from(u32::MAX)) as u32;
        match (self.rate_kbit.map(f64::from), self.queue_ms) {
            (None, None) => Ok(preset),
            (None, Some(_)) if preset.kbps <= 0.0 => Err("--queue-ms needs a rate: --rate-kbit".into()),
            (None, Some(ms)) => Ok(Rate { queue: octets(preset.kbps, ms), ..preset }),
            (Some(kbps), ms) => Ok(Rate { kbps, queue: octets(kbps, ms.unwrap_or(QUEUE_MS)) }),
        }
    }
}

/// The same loss as before, but in bursts.
fn with_bursts(weather: Weather, burst_ms: f64) -> Result<Weather, String> {
    let overall = (weather.loss + weather.bursts.mean_loss()).min(1.0);
    if overall <= 0.0 || burst_ms <= 0.0 {
        return Err("--burst says how losses come together; how many there are is --loss".into());
    }
    // The share of time in bursts times the share lost in them is the overall loss.
    let loss = LOSS_IN_BURST.max(overall);
    let quiet_ms = burst_ms * (loss / overall - 1.0);
    Ok(if quiet_ms > 0.0 {
        Weather { loss: 0.0, bursts: Bursts { quiet_ms, burst_ms, loss }, ..weather }
    } else {
        Weather { loss: overall, bursts: NO_BURSTS, ..weather }
    })
}

fn read_trace(path: &Path) -> Result<Arc<Trace>, String> {
    let explain = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let file = File::open(path).map_err(|e| explain(&e))?;
    let mut text = String::new();
    let read = file.take(MAX_TRACE_BYTES + 1).read_to_string(&mut text).map_err(|e| explain(&e))?;
    if read as u64 > MAX_TRACE_BYTES {
        return Err(explain(&format!("larger than {MAX_TRACE_BYTES} bytes")));
    }
    Trace::parse(&text).map(Arc::new).map_err(|e| explain(&e))
}

fn share(text: &str) -> Result<f64, String> {
    let value = match text.strip_suffix('%') {
        Some(percent) => percent.trim().parse::<f64>().map(|percent| percent / 100.0),
        None => text.parse::<f64>(),
    };
    match value {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        _ => Err("a share is 0 to 1, or 0% to 100%".into()),
    }
}

fn milliseconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(ms) if (0.0..=LONGEST_MS).contains(&ms) => Ok(ms),
        _ => Err(format!("0 to {LONGEST_MS} milliseconds")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn single_settings_replace_those_of_the_preset() {
        let plain = LineArguments { preset: Some("wifi".into()), ..LineArguments::default() };
        assert_eq!(plain.weather().unwrap(), Weather::wifi());
        let changed = LineArguments { delay_ms: Some(7.0), loss: Some(0.02), ..plain };
        let wanted = Weather { delay_ms: 7.0, loss: 0.02, ..Weather::wifi() };
        assert_eq!(changed.weather().unwrap(), wanted);
    }

    #[test]
    fn bursts_keep_the_overall_loss() {
        let arguments = LineArguments { loss: Some(0.02), burst: Some(15.0), ..LineArguments::default() };
        let weather = arguments.weather().unwrap();
        assert_eq!(weather.loss, 0.0);
        assert!((weather.bursts.mean_loss() - 0.02).abs() < 1e-12);
        let none = LineArguments { burst: Some(15.0), ..LineArguments::default() };
        assert!(none.weather().unwrap_err().contains("--loss"));
        let all = LineArguments { loss: Some(1.0), burst: Some(15.0), ..LineArguments::default() };
        assert_eq!(all.weather().unwrap().loss, 1.0);
    }

    #[test]
    fn a_rate_has_a_queue_and_a_queue_needs_a_rate() {
        let rate = |rate_kbit, queue_ms| {
            LineArguments { rate_kbit, queue_ms, ..LineArguments::default() }.weather().map(|w| w.rate)
        };
        assert_eq!(rate(Some(1_000), None), Ok(Rate { kbps: 1_000.0, queue: 12_500 }));
        assert_eq!(rate(Some(1_000), Some(8.0)), Ok(Rate { kbps: 1_000.0, queue: 1_000 }));
        assert!(rate(None, Some(8.0)).unwrap_err().contains("--rate-kbit"));
    }

    #[test]
    fn an_unknown_preset_is_answered_with_those_there_are() {
        let arguments = LineArguments { preset: Some("dsl".into()), ..LineArguments::default() };
        let error = arguments.settings().unwrap_err();
        assert!(error.contains("dsl") && error.contains("conference-hotel"), "{error}");
    }

    #[test]
    fn shares_are_read_both_ways() {
        assert_eq!((share("2%"), share("0.02"), share("0")), (Ok(0.02), Ok(0.02), Ok(0.0)));
        for bad in ["2", "-1%", "nan", "101%", "", "%"] {
            assert!(share(bad).is_err(), "{bad}");
        }
    }
}
