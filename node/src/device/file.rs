//! `file:IN.wav[,OUT.wav]`: a take instead of an instrument, a recording instead of headphones.
//!
//! The input plays once in real time, then there is silence. The recording is stereo 32 bit float at the device's rate
//! and keeps wall-clock length: periods that could not run, or that the disk did not take in time, are silence in it. A
//! thread of its own writes it and puts a valid header in place every second, so a killed node leaves a
//! playable file. On stop it is finished.

use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use hound::{SampleFormat, WavSpec, WavWriter};
use rtrb::{Consumer, Producer, RingBuffer};

use super::timer::PeriodIo;
use super::wav::{self, Clip, WavError};
use super::{
    AudioCallback, Backend, DEFAULT_PERIOD_FRAMES, DEFAULT_RATE_HZ, DeviceConfig, DeviceError, DeviceStats,
    MAX_PERIOD_FRAMES, OUTPUT_CHANNELS, Opened, Running, null,
};

/// How long the disk may stall before the recording gets a gap.
const RECORDING_QUEUE_S: usize = 4;

const HEADER_EVERY: Duration = Duration::from_secs(1);
const WRITE_EVERY: Duration = Duration::from_millis(20);

pub(super) fn open<F>(
    config: &DeviceConfig,
    input: &Path,
    output: Option<&Path>,
    stats: Arc<DeviceStats>,
    make: F,
) -> Result<Running, DeviceError>
where
    F: FnOnce(&Opened) -> Box<dyn AudioCallback>,
{
    let rate_hz = config.rate_hz.unwrap_or(DEFAULT_RATE_HZ);
    let recorded = wav::read(input)?;
    let mut notes = Vec::new();
    if recorded.truncated {
        notes.push(format!("{} ends before its header says; what is there is played", input.display()));
    }
    if recorded.rate_hz != rate_hz {
        notes.push(format!("{} was resampled from {} to {rate_hz} Hz", input.display(), recorded.rate_hz));
    }
    let clip = wav::resample(recorded, rate_hz, input)?;
    let opened = Opened {
        rate_hz,
        period_frames: config.period_frames.unwrap_or(DEFAULT_PERIOD_FRAMES),
        max_period_frames: MAX_PERIOD_FRAMES,
        input_channels: clip.channels,
    };
    let (recorder, tape) = match output {
        Some(path) => {
            let (recorder, tape) = record(path, rate_hz, stats.clone())?;
            (Some(recorder), Some(tape))
        }
        None => (None, None),
    };
    let io = Player { clip, position: 0, tape };
    let mut running = null::open_timer(opened, "file", config.choice.to_string(), io, stats, make)?;
    running.info.notes = notes;
    running.backend =
        running.backend.take().map(|timer| Box::new(Session { timer, recorder }) as Box<dyn Backend>);
    Ok(running)
}

/// The timer and the recording it feeds; stopped in that order.
struct Session {
    timer: Box<dyn Backend>,
    recorder: Option<Recorder>,
}

impl Backend for Session {
    fn stop(self: Box<Self>) -> Option<Box<dyn AudioCallback>> {
        let callback = self.timer.stop();
        drop(self.recorder);
        callback
    }
}

struct Player {
    clip: Clip,
    position: usize,
    tape: Option<Tape>,
}

impl PeriodIo for Player {
    fn read(&mut self, input: &mut [f32]) {
        let rest = self.clip.samples.get(self.position..).unwrap_or_default();
        let count = rest.len().min(input.len());
        let (played, silent) = input.split_at_mut(count);
        played.copy_from_slice(rest.get(..count).unwrap_or_default());
        silent.fill(0.0);
        self.position += count;
    }

    fn write(&mut self, output: &[f32]) {
        if let Some(tape) = &mut self.tape {
            tape.write(output);
        }
    }

    fn skip(&mut self, frames: u64) {
        if let Some(tape) = &mut self.tape {
            tape.owed_samples += frames as usize * OUTPUT_CHANNELS;
        }
    }
}

/// The audio thread's end of a recording. When the queue is full, the newest audio becomes silence of equal length.
struct Tape {
    queue: Producer<f32>,
    owed_samples: usize,
    stats: Arc<DeviceStats>,
}

impl Tape {
    /// Realtime-safe: yes.
    fn write(&mut self, output: &[f32]) {
        let silence = self.owed_samples.min(self.queue.slots());
        if let Ok(chunk) = self.queue.write_chunk_uninit(silence) {
            self.owed_samples -= chunk.fill_from_iter(std::iter::repeat(0.0));
        }
        // All or nothing, so that left and right never change places.
        match self.queue.write_chunk_uninit(output.len()) {
            Ok(chunk) if self.owed_samples == 0 => {
                chunk.fill_from_iter(output.iter().copied());
            }
            _ => {
                self.owed_samples += output.len();
                self.stats.count_recording_missed((output.len() / OUTPUT_CHANNELS) as u64);
            }
        }
    }
}

/// The writing thread. Dropping it finishes the file.
struct Recorder {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn record(path: &Path, rate_hz: u32, stats: Arc<DeviceStats>) -> Result<(Recorder, Tape), DeviceError> {
    let spec = WavSpec {
        channels: OUTPUT_CHANNELS as u16,
        sample_rate: rate_hz,
        bits_per_sample: 32,
        sample_format: SampleFormat::Float,
    };
    let failed = |error: hound::Error| WavError::Write { path: path.to_owned(), reason: error.to_string() };
    let mut writer = WavWriter::create(path, spec).map_err(failed)?;
    writer.flush().map_err(failed)?;
    let (producer, consumer) = RingBuffer::new(rate_hz as usize * OUTPUT_CHANNELS * RECORDING_QUEUE_S);
    let stop = Arc::new(AtomicBool::new(false));
    let (stopping, name) = (stop.clone(), path.to_owned());
    let thread = std::thread::Builder::new()
        .name("bandmesh-record".into())
        .spawn(move || write_until_stopped(&stopping, consumer, writer, name))
        .map_err(DeviceError::Thread)?;
    let tape = Tape { queue: producer, owed_samples: 0, stats };
    Ok((Recorder { stop, thread: Some(thread) }, tape))
}

fn write_until_stopped(
    stop: &AtomicBool,
    mut queue: Consumer<f32>,
    mut writer: WavWriter<BufWriter<File>>,
    path: PathBuf,
) {
    let mut header_due = Instant::now() + HEADER_EVERY;
    loop {
        let stopping = stop.load(Relaxed);
        let mut written = write_queued(&mut queue, &mut writer);
        if written.is_ok() && Instant::now() >= header_due {
            header_due += HEADER_EVERY;
            written = writer.flush();
        }
        if let Err(error) = written {
            tracing::error!(path = %path.display(), %error, "the recording ends here; free some disk space and restart it");
            break;
        }
        if stopping {
            break;
        }
        std::thread::sleep(WRITE_EVERY);
    }
    if let Err(error) = writer.finalize() {
        tracing::error!(path = %path.display(), %error, "the recording's last second may be missing");
    }
}

fn write_queued(queue: &mut Consumer<f32>, writer: &mut WavWriter<BufWriter<File>>) -> hound::Result<()> {
    let Ok(chunk) = queue.read_chunk(queue.slots()) else { return Ok(()) };
    for sample in chunk {
        writer.write_sample(sample)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
