//! A device for machines without one: silence in, nothing out, exactly on time.
//!
//! Servers, tests and `demo` bandmates run on it. Its clock is CLOCK_MONOTONIC, so two `null` devices on one machine do
//! not drift apart.

use std::sync::Arc;

use super::driven::{Driven, Seen, Signals};
use super::timer::{self, PeriodIo};
use super::{
    AudioCallback, DEFAULT_PERIOD_FRAMES, DEFAULT_RATE_HZ, DeviceConfig, DeviceError, DeviceInfo,
    DeviceStats, MAX_PERIOD_FRAMES, Opened, Running,
};

pub(super) fn open<F>(config: &DeviceConfig, stats: Arc<DeviceStats>, make: F) -> Result<Running, DeviceError>
where
    F: FnOnce(&Opened) -> Box<dyn AudioCallback>,
{
    let opened = Opened {
        rate_hz: config.rate_hz.unwrap_or(DEFAULT_RATE_HZ),
        period_frames: config.period_frames.unwrap_or(DEFAULT_PERIOD_FRAMES),
        max_period_frames: MAX_PERIOD_FRAMES,
        input_channels: 2,
    };
    open_timer(opened, "null", "timer".to_owned(), Silence, stats, make)
}

/// Opens a device made of the timer thread and `io`.
pub(super) fn open_timer<F>(
    opened: Opened,
    host: &str,
    device: String,
    io: impl PeriodIo + 'static,
    stats: Arc<DeviceStats>,
    make: F,
) -> Result<Running, DeviceError>
where
    F: FnOnce(&Opened) -> Box<dyn AudioCallback>,
{
    let signals = Signals::new(&opened);
    let seen = Seen::new(&opened, &stats);
    let driven = Driven::new(make(&opened), &opened, stats.clone(), signals.clone());
    let (timer, realtime) = timer::start(opened, driven, io, stats.clone())?;
    let info = DeviceInfo {
        host: host.to_owned(),
        device,
        rate_hz: opened.rate_hz,
        period_frames: opened.period_frames,
        input_channels: opened.input_channels,
        realtime,
        notes: Vec::new(),
    };
    Ok(Running { info, stats, signals, seen, midi: None, backend: Some(Box::new(timer)) })
}

struct Silence;

impl PeriodIo for Silence {
    fn read(&mut self, _input: &mut [f32]) {}
    fn write(&mut self, _output: &[f32]) {}
    fn skip(&mut self, _frames: u64) {}
}
