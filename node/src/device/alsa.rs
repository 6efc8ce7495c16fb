//! Sound cards through ALSA, by cpal; PipeWire and PulseAudio sit behind ALSA's `default`.
//!
//! ALSA calls for input and output separately, on two threads. The output's call is the node's callback; the input's call
//! only puts frames into a short queue in front of it. On one card both run on one clock and the queue
//! holds about a period; on two cards it slowly fills or empties, and frames are dropped or missing, which is counted.
//!
//! Both streams are open and running before the engine is built, so that a busy card costs nothing and the next candidate
//! of `auto` can be tried.

use std::sync::{Arc, mpsc};
use std::time::Duration;

use cpal::traits::{DeviceTrait, HostTrait, StreamTrait};
use cpal::{
    BufferSize, Device, ErrorKind, FromSample, Sample, SampleFormat, SizedSample, Stream, StreamConfig,
    SupportedStreamConfigRange,
};
use rtrb::{Consumer, Producer, RingBuffer};

use super::driven::{Driven, Seen, Signals, realtime};
use super::libasound::quietly;
use super::{
    AudioCallback, AudioDevice, Backend, DEFAULT_PERIOD_FRAMES, DEFAULT_RATE_HZ, DeviceConfig, DeviceError,
    DeviceInfo, DeviceStats, LostReason, MAX_PERIOD_FRAMES, Make, OUTPUT_CHANNELS, Opened, Realtime, Refused,
    Running, monotonic_ns, os,
};

const PRIORITY: i32 = 70;

/// Names that `--audio` understands otherwise. ALSA's devices of these names, the same things again, are not offered.
const TAKEN: [&str; 2] = ["jack", "null"];

/// How long a driver may take to build a stream, to call for the first time, and to end.
const PATIENCE: Duration = Duration::from_secs(2);

pub(super) fn open<'a>(
    config: &DeviceConfig,
    name: Option<&str>,
    stats: Arc<DeviceStats>,
    make: Make<'a>,
) -> Result<Running, Refused<'a>> {
    let (streams, plan) = match quietly(|| start(config, name, &stats)) {
        Ok(started) => started,
        Err(error) => return Err(Refused::early(error, make)),
    };
    let Streams { input, output, mut slot, home, signals, first_call } = streams;
    let seen = Seen::new(&plan.opened, &stats);
    let driven = Driven::new(make(&plan.opened), &plan.opened, stats.clone(), signals.clone());
    // The slot holds one and is empty, so this cannot fail.
    let _ = slot.push(driven);
    let info = DeviceInfo {
        host: "alsa".to_owned(),
        device: plan.name,
        rate_hz: plan.opened.rate_hz,
        period_frames: plan.opened.period_frames,
        input_channels: plan.opened.input_channels,
        realtime: first_call.recv_timeout(PATIENCE).unwrap_or(Realtime::DeviceDecides),
        notes: plan.notes,
    };
    let backend = Cards { streams: (input, output), home };
    Ok(Running { info, stats, signals, seen, midi: None, backend: Some(Box::new(backend)) })
}

/// The sound cards for `devices`.
pub(super) fn list() -> Result<Vec<AudioDevice>, DeviceError> {
    quietly(|| {
        let devices = cpal::default_host().devices().map_err(|_| DeviceError::NoDevice)?;
        let known = |device: &AudioDevice| TAKEN.contains(&device.choice.as_str());
        Ok(devices.filter_map(|device| describe(&device)).filter(|device| !known(device)).collect())
    })
}

/// What [`open`] takes when it is given no name.
pub(super) fn default_choice() -> Option<String> {
    find(None).ok().map(|(output, _)| label(&output))
}

struct Plan {
    name: String,
    opened: Opened,
    notes: Vec<String>,
}

struct Streams {
    input: Option<Stream>,
    output: Stream,
    slot: Producer<Driven>,
    home: mpsc::Receiver<Driven>,
    signals: Arc<Signals>,
    first_call: mpsc::Receiver<Realtime>,
}

fn start(
    config: &DeviceConfig,
    name: Option<&str>,
    stats: &Arc<DeviceStats>,
) -> Result<(Streams, Plan), DeviceError> {
    let (output, input) = find(name)?;
    let name = label(&output);
    let period_frames = config.period_frames.unwrap_or(DEFAULT_PERIOD_FRAMES);
    let out = choose(&name, output.supported_output_configs(), config.rate_hz)?;
    let mut notes = Vec::new();
    let inn = match &input {
        Some(input) => match choose(&label(input), input.supported_input_configs(), Some(out.rate_hz)) {
            Ok(inn) => Some(inn),
            Err(error) => {
                notes.push(format!("no input: {error}"));
                None
            }
        },
        None => {
            notes.push("this device has no input; you are heard as silence".to_owned());
            None
        }
    };
    let input_channels = inn.as_ref().map_or(2, |inn| usize::from(inn.channels.min(2)));
    let mut opened =
        Opened { rate_hz: out.rate_hz, period_frames, max_period_frames: MAX_PERIOD_FRAMES, input_channels };
    let signals = Signals::new(&opened);
    let (writer, reader) = join(input_channels, period_frames as usize, stats.clone());
    let (slot, slot_out) = RingBuffer::new(1);
    let (send_home, home) = mpsc::sync_channel(1);
    let (tell, first_call) = mpsc::sync_channel(1);
    let player = Player {
        slot: slot_out,
        driven: Returning { driven: None, home: send_home },
        reader,
        input: vec![0.0; MAX_PERIOD_FRAMES * input_channels],
        output: vec![0.0; MAX_PERIOD_FRAMES * OUTPUT_CHANNELS],
        tell: Some(tell),
        stats: stats.clone(),
    };
    let failed = |error: cpal::Error| DeviceError::Start { device: name.clone(), reason: error.to_string() };
    let errors = || on_error(signals.clone(), stats.clone());
    let output = build_output(&output, &out, period_frames, player, errors()).map_err(failed)?;
    let input = match (input, inn) {
        (Some(input), Some(inn)) => {
            Some(build_input(&input, &inn, period_frames, writer, errors()).map_err(failed)?)
        }
        _ => None,
    };
    if let Some(input) = &input {
        input.play().map_err(failed)?;
    }
    output.play().map_err(failed)?;
    let granted = output.buffer_size().unwrap_or(period_frames);
    if granted != period_frames {
        notes.push(format!("the device's period is {granted} frames, not {period_frames}"));
    }
    opened.period_frames = granted;
    signals.set_period_frames(granted);
    let streams = Streams { input, output, slot, home, signals, first_call };
    Ok((streams, Plan { name, opened, notes }))
}

/// The output named `name` and the input that belongs to it: the same device, else the default input.
fn find(name: Option<&str>) -> Result<(Device, Option<Device>), DeviceError> {
    let host = cpal::default_host();
    let Some(name) = name else {
        let output =
            host.default_output_device().filter(DeviceTrait::supports_output).ok_or(DeviceError::NoDevice)?;
        return Ok((output, host.default_input_device().filter(DeviceTrait::supports_input)));
    };
    let devices: Vec<Device> = host.devices().map(Iterator::collect).unwrap_or_default();
    let exact = devices.iter().position(|device| label(device) == name);
    let near: Vec<usize> = devices
        .iter()
        .enumerate()
        .filter(|(_, device)| matches(device, name))
        .map(|(index, _)| index)
        .collect();
    let index = match (exact, near.as_slice()) {
        (Some(index), _) | (None, &[index]) => index,
        (None, near) => {
            let names: Vec<String> =
                near.iter().filter_map(|index| devices.get(*index)).map(label).take(4).collect();
            let hint = if names.is_empty() {
                String::new()
            } else {
                format!("; it could be {}", names.join(" or "))
            };
            return Err(DeviceError::NoSuchDevice { name: name.to_owned(), hint });
        }
    };
    let device = devices.into_iter().nth(index).ok_or(DeviceError::NoDevice)?;
    if device.supports_input() {
        Ok((device.clone(), Some(device)))
    } else {
        Ok((device, host.default_input_device()))
    }
}

/// ALSA's own name for the device, such as `hw:CARD=PCH,DEV=0`.
fn label(device: &Device) -> String {
    device.id().map(|id| id.id().to_owned()).unwrap_or_default()
}

fn matches(device: &Device, part: &str) -> bool {
    let part = part.to_lowercase();
    let description = device.description().map(|description| description.to_string()).unwrap_or_default();
    label(device).to_lowercase().contains(&part) || description.to_lowercase().contains(&part)
}

fn describe(device: &Device) -> Option<AudioDevice> {
    let inputs: Vec<_> = device.supported_input_configs().map(Iterator::collect).unwrap_or_default();
    let outputs: Vec<_> = device.supported_output_configs().map(Iterator::collect).unwrap_or_default();
    let all = || inputs.iter().chain(&outputs);
    let rates = all()
        .map(|range| range.min_sample_rate())
        .min()
        .zip(all().map(|range| range.max_sample_rate()).max());
    rates?;
    let channels = |ranges: &[SupportedStreamConfigRange]| ranges.iter().map(|range| range.channels()).max();
    Some(AudioDevice {
        choice: label(device),
        description: device.description().map(|description| description.to_string()).unwrap_or_default(),
        host: "alsa".to_owned(),
        input_channels: channels(&inputs),
        output_channels: channels(&outputs),
        rate_hz: rates,
        period_frames: None,
        is_default: false,
    })
}

/// One direction's format.
#[derive(Clone, Debug, PartialEq)]
struct Format {
    rate_hz: u32,
    channels: u16,
    sample: SampleFormat,
}

/// The offer nearest to stereo at the asked rate in the least lossy format.
fn choose(
    device: &str,
    offers: Result<impl Iterator<Item = SupportedStreamConfigRange>, cpal::Error>,
    rate_hz: Option<u32>,
) -> Result<Format, DeviceError> {
    let offers: Vec<SupportedStreamConfigRange> = offers
        .map_err(|error| DeviceError::Start { device: device.to_owned(), reason: error.to_string() })?
        .filter(|offer| quality(offer.sample_format()).is_some() && offer.channels() > 0)
        .collect();
    let nearest = |offer: &SupportedStreamConfigRange| {
        rate_hz.unwrap_or(DEFAULT_RATE_HZ).clamp(offer.min_sample_rate(), offer.max_sample_rate())
    };
    let best = offers.iter().filter(|offer| rate_hz.is_none_or(|asked| nearest(offer) == asked)).min_by_key(
        |offer| {
            let off_rate = nearest(offer).abs_diff(DEFAULT_RATE_HZ);
            (off_rate, offer.channels().abs_diff(2), quality(offer.sample_format()))
        },
    );
    match best {
        Some(offer) => {
            Ok(Format { rate_hz: nearest(offer), channels: offer.channels(), sample: offer.sample_format() })
        }
        None => Err(DeviceError::Unsupported {
            device: device.to_owned(),
            wanted: rate_hz.map_or("any format we know".to_owned(), |rate_hz| format!("{rate_hz} Hz")),
            offered: offered(&offers),
        }),
    }
}

fn offered(offers: &[SupportedStreamConfigRange]) -> String {
    let low = offers.iter().map(SupportedStreamConfigRange::min_sample_rate).min();
    let high = offers.iter().map(SupportedStreamConfigRange::max_sample_rate).max();
    match low.zip(high) {
        Some((low, high)) if low == high => format!("{low} Hz"),
        Some((low, high)) => format!("{low} to {high} Hz"),
        None => "nothing in this direction".to_owned(),
    }
}

/// Sample formats we convert, best first.
fn quality(format: SampleFormat) -> Option<u8> {
    match format {
        SampleFormat::F32 => Some(0),
        SampleFormat::I32 => Some(1),
        SampleFormat::I24 => Some(2),
        SampleFormat::I16 => Some(3),
        SampleFormat::U8 => Some(4),
        _ => None,
    }
}

fn on_error(signals: Arc<Signals>, stats: Arc<DeviceStats>) -> impl FnMut(cpal::Error) + Send + 'static {
    move |error| match error.kind() {
        ErrorKind::Xrun => stats.count_xruns(1),
        ErrorKind::DeviceChanged | ErrorKind::RealtimeDenied => {}
        ErrorKind::DeviceNotAvailable | ErrorKind::HostUnavailable => signals.lose(LostReason::Disconnected),
        _ => signals.lose(LostReason::StreamInvalid),
    }
}

fn stream_config(format: &Format, period_frames: u32) -> StreamConfig {
    StreamConfig {
        channels: format.channels,
        sample_rate: format.rate_hz,
        buffer_size: BufferSize::Fixed(period_frames),
    }
}

fn build_output(
    device: &Device,
    format: &Format,
    period_frames: u32,
    mut player: Player,
    errors: impl FnMut(cpal::Error) + Send + 'static,
) -> Result<Stream, cpal::Error> {
    fn build<T: SizedSample + FromSample<f32>>(
        device: &Device,
        config: StreamConfig,
        mut player: Player,
        errors: impl FnMut(cpal::Error) + Send + 'static,
    ) -> Result<Stream, cpal::Error> {
        let channels = usize::from(config.channels);
        let rate_hz = f64::from(config.sample_rate);
        let call = move |data: &mut [T], info: &cpal::OutputCallbackInfo| {
            player.first();
            let moment = info.timestamp();
            let ahead = moment.playback.duration_since(moment.callback);
            player.stats.note_output_latency((ahead.as_secs_f64() * rate_hz) as u32);
            player.call(data, channels);
        };
        device.build_output_stream(config, call, errors, Some(PATIENCE))
    }
    let config = stream_config(format, period_frames);
    player.reader.period_frames = period_frames as usize;
    match format.sample {
        SampleFormat::F32 => build::<f32>(device, config, player, errors),
        SampleFormat::I32 => build::<i32>(device, config, player, errors),
        SampleFormat::I24 => build::<cpal::I24>(device, config, player, errors),
        SampleFormat::I16 => build::<i16>(device, config, player, errors),
        _ => build::<u8>(device, config, player, errors),
    }
}

fn build_input(
    device: &Device,
    format: &Format,
    period_frames: u32,
    writer: JoinWriter,
    errors: impl FnMut(cpal::Error) + Send + 'static,
) -> Result<Stream, cpal::Error> {
    fn build<T: SizedSample>(
        device: &Device,
        config: StreamConfig,
        mut writer: JoinWriter,
        errors: impl FnMut(cpal::Error) + Send + 'static,
    ) -> Result<Stream, cpal::Error>
    where
        f32: FromSample<T>,
    {
        let channels = usize::from(config.channels);
        let call = move |data: &[T], _: &cpal::InputCallbackInfo| {
            let frames =
                data.chunks_exact(channels).map(|frame| frame.iter().map(|sample| f32::from_sample(*sample)));
            realtime(|| writer.write(frames));
        };
        device.build_input_stream(config, call, errors, Some(PATIENCE))
    }
    let config = stream_config(format, period_frames);
    match format.sample {
        SampleFormat::F32 => build::<f32>(device, config, writer, errors),
        SampleFormat::I32 => build::<i32>(device, config, writer, errors),
        SampleFormat::I24 => build::<cpal::I24>(device, config, writer, errors),
        SampleFormat::I16 => build::<i16>(device, config, writer, errors),
        _ => build::<u8>(device, config, writer, errors),
    }
}

/// The output stream's side. Lives on cpal's output thread.
struct Player {
    slot: Consumer<Driven>,
    driven: Returning,
    reader: JoinReader,
    input: Vec<f32>,
    output: Vec<f32>,
    tell: Option<mpsc::SyncSender<Realtime>>,
    stats: Arc<DeviceStats>,
}

impl Player {
    /// What is not realtime-safe, once, before there is anything to interrupt.
    fn first(&mut self) {
        if let Some(tell) = self.tell.take() {
            let _ = tell.try_send(match os::use_realtime_priority(PRIORITY) {
                Ok(()) => Realtime::Fifo(PRIORITY),
                Err(error) => Realtime::Denied(format!("{error}; allow it with `ulimit -r {PRIORITY}`")),
            });
        }
    }

    fn call<T: SizedSample + FromSample<f32>>(&mut self, data: &mut [T], channels: usize) {
        let host_time_ns = monotonic_ns();
        if self.driven.driven.is_none() {
            self.driven.driven = self.slot.pop().ok();
        }
        for piece in data.chunks_mut(MAX_PERIOD_FRAMES * channels.max(1)) {
            let frames = piece.len() / channels.max(1);
            let (input, _) = self.input.split_at_mut(frames * self.reader.channels);
            let (output, _) = self.output.split_at_mut(frames * OUTPUT_CHANNELS);
            match &mut self.driven.driven {
                Some(driven) => {
                    realtime(|| self.reader.read(input));
                    driven.run(input, output, host_time_ns);
                }
                None => output.fill(0.0),
            }
            realtime(|| spread(output, piece, channels));
        }
    }
}

/// Stereo onto a device's channels: both mixed to the one there is, or the first two and silence on the rest.
fn spread<T: SizedSample + FromSample<f32>>(stereo: &[f32], data: &mut [T], channels: usize) {
    for (from, to) in stereo.chunks_exact(OUTPUT_CHANNELS).zip(data.chunks_exact_mut(channels.max(1))) {
        match to {
            [mono] => *mono = T::from_sample(from.iter().sum::<f32>() / 2.0),
            _ => {
                let padded = from.iter().copied().chain(std::iter::repeat(0.0));
                to.iter_mut().zip(padded).for_each(|(to, from)| *to = T::from_sample(from));
            }
        }
    }
}

/// Sends the callback home when cpal drops the stream.
struct Returning {
    driven: Option<Driven>,
    home: mpsc::SyncSender<Driven>,
}

impl Drop for Returning {
    fn drop(&mut self) {
        if let Some(driven) = self.driven.take() {
            let _ = self.home.try_send(driven);
        }
    }
}

struct Cards {
    streams: (Option<Stream>, Stream),
    home: mpsc::Receiver<Driven>,
}

impl Backend for Cards {
    fn stop(self: Box<Self>) -> Option<Box<dyn AudioCallback>> {
        let Cards { streams, home } = *self;
        // Dropping joins cpal's threads, which a hanging driver may never end.
        let closing =
            std::thread::Builder::new().name("bandmesh-card-end".into()).spawn(move || drop(streams));
        closing.ok().and_then(|_| home.recv_timeout(PATIENCE).ok()).and_then(Driven::into_callback)
    }
}

/// The queue between the two callbacks, and its policy: start when a period is there; when more than two periods too many
/// wait, drop to one; when too few, silence for the rest.
fn join(channels: usize, period_frames: usize, stats: Arc<DeviceStats>) -> (JoinWriter, JoinReader) {
    let (producer, consumer) = RingBuffer::new(MAX_PERIOD_FRAMES * 4 * channels);
    let writer = JoinWriter { queue: producer, channels, stats: stats.clone() };
    (writer, JoinReader { queue: consumer, channels, period_frames, primed: false, stats })
}

struct JoinWriter {
    queue: Producer<f32>,
    channels: usize,
    stats: Arc<DeviceStats>,
}

impl JoinWriter {
    /// Realtime-safe: yes. Takes the first `channels` of each frame; whole frames that do not fit are dropped.
    fn write(&mut self, frames: impl Iterator<Item = impl Iterator<Item = f32>>) {
        for frame in frames {
            if self.queue.slots() < self.channels {
                self.stats.count_joined(1, 0);
                continue;
            }
            for sample in frame.take(self.channels) {
                let _ = self.queue.push(sample);
            }
        }
    }
}

struct JoinReader {
    queue: Consumer<f32>,
    channels: usize,
    period_frames: usize,
    primed: bool,
    stats: Arc<DeviceStats>,
}

impl JoinReader {
    /// Realtime-safe: yes.
    fn read(&mut self, input: &mut [f32]) {
        let wanted = input.len() / self.channels;
        let mut waiting = self.queue.slots() / self.channels;
        self.primed |= waiting >= wanted;
        if !self.primed {
            input.fill(0.0);
            return;
        }
        if waiting > wanted + 2 * self.period_frames {
            let extra = waiting - wanted - self.period_frames.min(waiting - wanted);
            if let Ok(chunk) = self.queue.read_chunk(extra * self.channels) {
                chunk.commit_all();
                waiting -= extra;
                self.stats.count_joined(extra as u64, 0);
            }
        }
        let frames = waiting.min(wanted);
        let (filled, silent) = input.split_at_mut(frames * self.channels);
        if let Ok(chunk) = self.queue.read_chunk(filled.len()) {
            filled.iter_mut().zip(chunk).for_each(|(to, from)| *to = from);
        }
        silent.fill(0.0);
        if frames < wanted {
            self.stats.count_joined(0, (wanted - frames) as u64);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(values: std::ops::Range<usize>) -> impl Iterator<Item = impl Iterator<Item = f32>> {
        values.map(|value| std::iter::repeat_n(value as f32, 4))
    }

    #[test]
    fn input_and_output_in_step_lose_nothing_and_wait_one_period() {
        let stats = Arc::new(DeviceStats::default());
        let (mut writer, mut reader) = join(2, 64, stats.clone());
        let mut input = [1.0; 128];
        reader.read(&mut input);
        assert_eq!(input, [0.0; 128], "silence until the first input");
        for period in 0..100 {
            writer.write(frames(period * 64..(period + 1) * 64));
            reader.read(&mut input);
            assert_eq!(
                (input[0], input[1], input[127]),
                (period as f32 * 64.0, period as f32 * 64.0, period as f32 * 64.0 + 63.0)
            );
        }
        let now = stats.snapshot();
        assert_eq!((now.joined_dropped_frames, now.joined_missing_frames), (0, 0));
    }

    #[test]
    fn a_faster_input_is_dropped_back_to_one_period_and_counted() {
        let stats = Arc::new(DeviceStats::default());
        let (mut writer, mut reader) = join(1, 64, stats.clone());
        writer.write(frames(0..64 * 4));
        let mut input = [0.0; 64];
        reader.read(&mut input);
        assert_eq!(stats.snapshot().joined_dropped_frames, 128);
        assert_eq!(input[0], 128.0, "the oldest went");
        reader.read(&mut input);
        reader.read(&mut input);
        assert_eq!(stats.snapshot().joined_missing_frames, 64, "then a slower one is silence");
        assert_eq!(input, [0.0; 64]);
    }

    #[test]
    fn an_input_nobody_reads_is_bounded() {
        let stats = Arc::new(DeviceStats::default());
        let (mut writer, _reader) = join(2, 64, stats.clone());
        writer.write(frames(0..MAX_PERIOD_FRAMES * 4 + 5));
        assert_eq!(stats.snapshot().joined_dropped_frames, 5);
    }

    #[test]
    fn stereo_fits_any_number_of_channels() {
        let (mut mono, mut stereo, mut quad) = ([0i16; 1], [0.0f32; 2], [9.0f32; 4]);
        spread(&[0.5, 0.0], &mut mono, 1);
        spread(&[0.5, -0.25], &mut stereo, 2);
        spread(&[0.5, -0.25], &mut quad, 4);
        assert_eq!((mono, stereo, quad), ([8192], [0.5, -0.25], [0.5, -0.25, 0.0, 0.0]));
    }

    #[test]
    fn stereo_float_at_the_asked_rate_wins() {
        let offer = |channels, low, high, format| {
            let any = cpal::SupportedBufferSize::Unknown;
            SupportedStreamConfigRange::new(channels, low, high, any, format)
        };
        let offers = [
            offer(8, 44_100, 96_000, SampleFormat::F32),
            offer(2, 44_100, 96_000, SampleFormat::I16),
            offer(2, 44_100, 96_000, SampleFormat::F32),
        ];
        let best = choose("card", Ok(offers.into_iter()), Some(44_100)).unwrap();
        assert_eq!(best, Format { rate_hz: 44_100, channels: 2, sample: SampleFormat::F32 });
        let error = choose("card", Ok(offers.into_iter()), Some(192_000)).unwrap_err().to_string();
        assert!(error.contains("192000 Hz") && error.contains("44100 to 96000 Hz"), "{error}");
    }
}
