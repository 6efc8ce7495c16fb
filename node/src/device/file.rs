//! `file:IN.wav[,OUT.wav]`: a take instead of an instrument, a recording instead of headphones.
//!
//! The input plays once in real time, then there is silence. The recording is stereo 32 bit float at the device's rate
//! and keeps wall-clock length: periods that could not run, or that the disk did not take in time, are silence in it. A
//! thread of its own writes it and puts a valid header in place every second, so a killed node leaves a
//! playable file. On stop it is finished.
//!
//! A file that was there before the node is replaced, as the user asked. What the node itself recorded never is: a device
//! that is opened again, and a recording that grows beyond what a WAV file can hold, go on in `OUT-2.wav`, `OUT-3.wav`
//! and so on.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::BufWriter;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
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

/// A WAV file counts its bytes in 32 bits; some are left for its headers. Three hours at 48 kHz.
const MAX_FILE_SAMPLES: u64 = (u32::MAX as u64 - 4_096) / 4 / OUTPUT_CHANNELS as u64 * OUTPUT_CHANNELS as u64;

/// Parts one recording may have.
const MAX_PARTS: u32 = 9_999;

/// The files that were recorded since the node began, whatever they are called.
#[derive(Debug, Default)]
pub(super) struct Recordings(BTreeSet<FileId>);

/// What a file is, by whichever name: its file system and its number there.
type FileId = (u64, u64);

fn id(metadata: &std::fs::Metadata) -> FileId {
    (metadata.dev(), metadata.ino())
}

pub(super) fn open<F>(
    config: &DeviceConfig,
    input: &Path,
    output: Option<&Path>,
    recordings: &mut Recordings,
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
            let (file, path_taken) = output_file(input, path, recordings)?;
            if path_taken != path {
                let (before, now) = (path.display(), path_taken.display());
                tracing::warn!("{before} keeps what was recorded before; the recording goes on in {now}");
                notes
                    .push(format!("{before} keeps what was recorded before; the recording goes on in {now}"));
            }
            let reel = Reel::new(path, path_taken, file, rate_hz, MAX_FILE_SAMPLES)?;
            let (recorder, tape) = record(reel, rate_hz, stats.clone())?;
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

/// Opens the file to be recorded into, empty. What this node recorded is left as it is, and a file of another name made.
fn output_file(
    input: &Path,
    output: &Path,
    recordings: &mut Recordings,
) -> Result<(File, PathBuf), DeviceError> {
    let failed = |error: std::io::Error| unwritable(output, &error);
    // Not emptied yet: it may be the very file that is played, by another name.
    let mut options = OpenOptions::new();
    // A pipe that nobody reads would be waited for, for ever.
    options.write(true).create(true).truncate(false).custom_flags(libc::O_NONBLOCK);
    let file = options.open(output).map_err(|error| match error.raw_os_error() {
        Some(libc::ENXIO) => WavError::NoFile { path: output.to_owned() },
        _ => unwritable(output, &error),
    })?;
    let metadata = file.metadata().map_err(failed)?;
    let existing = id(&metadata);
    if std::fs::metadata(input).is_ok_and(|metadata| id(&metadata) == existing) {
        return Err(WavError::SameFile { path: output.to_owned() }.into());
    }
    // /dev/null keeps nothing.
    if metadata.file_type().is_char_device() {
        return Ok((file, output.to_owned()));
    }
    // A header is written again and again as the recording grows, which a pipe cannot take.
    if !metadata.is_file() {
        return Err(WavError::NoFile { path: output.to_owned() }.into());
    }
    // The number of a recording that was deleted goes to a new file; every recording has a header.
    if recordings.0.insert(existing) || metadata.len() == 0 {
        file.set_len(0).map_err(failed)?;
        return Ok((file, output.to_owned()));
    }
    let (file, path) = next_file(output)?;
    recordings.0.insert(id(&file.metadata().map_err(failed)?));
    Ok((file, path))
}

/// Makes the first of `OUT-2.wav`, `OUT-3.wav` and so on that does not exist.
fn next_file(output: &Path) -> Result<(File, PathBuf), WavError> {
    let name = output.file_stem().unwrap_or_default().to_string_lossy();
    let extension = output.extension().map(|end| format!(".{}", end.to_string_lossy())).unwrap_or_default();
    for part in 2..=MAX_PARTS {
        let path = output.with_file_name(format!("{name}-{part}{extension}"));
        match OpenOptions::new().write(true).create_new(true).open(&path) {
            Ok(file) => return Ok((file, path)),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(unwritable(&path, &error)),
        }
    }
    Err(WavError::Write { path: output.to_owned(), reason: format!("it has {MAX_PARTS} parts already") })
}

fn unwritable(path: &Path, error: &dyn std::fmt::Display) -> WavError {
    WavError::Write { path: path.to_owned(), reason: error.to_string() }
}

type Writer = WavWriter<BufWriter<File>>;

/// A recording that goes on in another file when one is full.
struct Reel {
    /// The name that was asked for.
    output: PathBuf,
    path: PathBuf,
    spec: WavSpec,
    writer: Writer,
    written_samples: u64,
    max_file_samples: u64,
}

impl Reel {
    fn new(
        output: &Path,
        path: PathBuf,
        file: File,
        rate_hz: u32,
        max_file_samples: u64,
    ) -> Result<Self, WavError> {
        let spec = WavSpec {
            channels: OUTPUT_CHANNELS as u16,
            sample_rate: rate_hz,
            bits_per_sample: 32,
            sample_format: SampleFormat::Float,
        };
        let writer = begin(&path, file, spec)?;
        Ok(Self { output: output.to_owned(), path, spec, writer, written_samples: 0, max_file_samples })
    }

    fn write(&mut self, samples: impl Iterator<Item = f32>) -> Result<(), WavError> {
        for sample in samples {
            if self.written_samples >= self.max_file_samples {
                self.go_on_in_another_file()?;
            }
            self.writer.write_sample(sample).map_err(|error| unwritable(&self.path, &error))?;
            self.written_samples += 1;
        }
        Ok(())
    }

    fn go_on_in_another_file(&mut self) -> Result<(), WavError> {
        let (file, path) = next_file(&self.output)?;
        let full = std::mem::replace(&mut self.writer, begin(&path, file, self.spec)?);
        tracing::info!(
            "{} is as long as a WAV file can be; the recording goes on in {}",
            self.path.display(),
            path.display()
        );
        let full_path = std::mem::replace(&mut self.path, path);
        self.written_samples = 0;
        full.finalize().map_err(|error| unwritable(&full_path, &error))
    }

    /// Puts a valid header in place.
    fn flush(&mut self) -> Result<(), WavError> {
        self.writer.flush().map_err(|error| unwritable(&self.path, &error))
    }
}

fn begin(path: &Path, file: File, spec: WavSpec) -> Result<Writer, WavError> {
    let mut writer = WavWriter::new(BufWriter::new(file), spec).map_err(|error| unwritable(path, &error))?;
    writer.flush().map_err(|error| unwritable(path, &error))?;
    Ok(writer)
}

fn record(reel: Reel, rate_hz: u32, stats: Arc<DeviceStats>) -> Result<(Recorder, Tape), DeviceError> {
    let (producer, consumer) = RingBuffer::new(rate_hz as usize * OUTPUT_CHANNELS * RECORDING_QUEUE_S);
    let stop = Arc::new(AtomicBool::new(false));
    let stopping = stop.clone();
    let thread = std::thread::Builder::new()
        .name("bandmesh-record".into())
        .spawn(move || write_until_stopped(&stopping, consumer, reel))
        .map_err(DeviceError::Thread)?;
    let tape = Tape { queue: producer, owed_samples: 0, stats };
    Ok((Recorder { stop, thread: Some(thread) }, tape))
}

fn write_until_stopped(stop: &AtomicBool, mut queue: Consumer<f32>, mut reel: Reel) {
    let mut header_due = Instant::now() + HEADER_EVERY;
    loop {
        let stopping = stop.load(Relaxed);
        let mut written = write_queued(&mut queue, &mut reel);
        if written.is_ok() && Instant::now() >= header_due {
            header_due += HEADER_EVERY;
            written = reel.flush();
        }
        if let Err(error) = written {
            tracing::error!(%error, "the recording ends here; free some disk space and restart it");
            break;
        }
        if stopping {
            break;
        }
        std::thread::sleep(WRITE_EVERY);
    }
    let Reel { writer, path, .. } = reel;
    if let Err(error) = writer.finalize() {
        tracing::error!(path = %path.display(), %error, "the recording's last second may be missing");
    }
}

fn write_queued(queue: &mut Consumer<f32>, reel: &mut Reel) -> Result<(), WavError> {
    let Ok(chunk) = queue.read_chunk(queue.slots()) else { return Ok(()) };
    reel.write(chunk.into_iter())
}

#[cfg(test)]
mod tests;
