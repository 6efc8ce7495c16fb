//! How busy the machine is, from `/proc/stat`.

use std::fs;

/// Reads how much of all processors' time was spent working since the last reading.
#[derive(Debug, Default)]
pub struct CpuMeter {
    before: Option<(u64, u64)>,
}

impl CpuMeter {
    /// Share of busy time since the last call, 0 to 1; `None` the first time, and where the system does not say.
    pub fn read(&mut self) -> Option<f64> {
        let text = fs::read_to_string("/proc/stat").ok()?;
        self.update(parse(&text)?)
    }

    fn update(&mut self, (busy, all): (u64, u64)) -> Option<f64> {
        let (busy_before, all_before) = self.before.replace((busy, all))?;
        let (busy, all) = (busy.saturating_sub(busy_before), all.saturating_sub(all_before));
        (all > 0).then(|| (busy as f64 / all as f64).min(1.0))
    }
}

/// Busy and whole time of all processors, in ticks (proc_pid_stat(5): user, nice, system, idle, iowait, irq, softirq, steal).
fn parse(text: &str) -> Option<(u64, u64)> {
    let line = text.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let ticks: Vec<u64> = line.split_whitespace().take(8).map_while(|word| word.parse().ok()).collect();
    let [_, _, _, idle, iowait, ..] = ticks.as_slice() else { return None };
    let all: u64 = ticks.iter().sum();
    Some((all.saturating_sub(idle + iowait), all))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn share_is_of_the_time_between_two_readings() {
        let first = parse("cpu  100 0 100 700 100 0 0 0 0 0\ncpu0 1 2 3\n").unwrap();
        assert_eq!(first, (200, 1_000));
        let mut meter = CpuMeter::default();
        assert_eq!(meter.update(first), None);
        assert_eq!(meter.update((290, 1_100)), Some(0.9));
        assert_eq!(meter.update((290, 1_100)), None, "no time has passed");
        assert_eq!(parse("intr 5\n"), None);
        assert_eq!(parse("cpu  1 2 x"), None);
    }
}
