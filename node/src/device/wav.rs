//! Reading a whole WAV file, from anybody, at the device's rate.
//!
//! A file is hostile until read: its header may claim four gigabytes in 44 bytes, a rate of zero or 65,535 channels. So
//! the header is checked before memory is taken, memory grows with what is really read, and there is a limit.
//! Resampling happens here, once, so that the audio thread only copies.

use std::fs::OpenOptions;
use std::io::BufReader;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use hound::{SampleFormat, WavReader, WavSpec};
use rubato::audioadapter_buffers::direct::InterleavedSlice;
use rubato::{Fft, FixedSync, Resampler};

/// One hour of stereo at 48 kHz is 1.4 GB of f32, more than a node should take; this is 20 minutes of it.
const MAX_SAMPLES: usize = 2 * 48_000 * 60 * 20;

/// Why a WAV file cannot be played or written.
#[derive(Debug, thiserror::Error)]
pub enum WavError {
    /// It could not be opened or read.
    #[error("cannot read {path}: {error}; check the path and its permissions")]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's words.
        error: std::io::Error,
    },
    /// It is not a WAV file we know.
    #[error(
        "{path} is not a usable WAV file: {reason}; give 16, 24 or 32 bit PCM or 32 bit float, mono or stereo"
    )]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// It has a header but no sound.
    #[error(
        "{path} holds no audio, though its header claims {claimed_frames} frames; it is damaged or was cut short"
    )]
    Empty {
        /// The file.
        path: PathBuf,
        /// What the header says.
        claimed_frames: u32,
    },
    /// It is longer than fits in memory.
    #[error("{path} is too long; give at most 20 minutes of stereo at 48 kHz")]
    TooLong {
        /// The file.
        path: PathBuf,
    },
    /// The recording would replace what is played.
    #[error("{path} is the file that is played, by another name; give the recording a file of its own")]
    SameFile {
        /// The file to be recorded.
        path: PathBuf,
    },
    /// The recording would go into a pipe, a socket or a disk.
    #[error(
        "{path} is not a regular file, and a WAV file cannot be recorded into anything else; name another file, or none to record nothing"
    )]
    NoFile {
        /// What was to be recorded into.
        path: PathBuf,
    },
    /// The recording could not be made.
    #[error("cannot write {path}: {reason}; check that its folder exists and the disk has room")]
    Write {
        /// The file.
        path: PathBuf,
        /// The system's words.
        reason: String,
    },
}

/// Sound in memory.
#[derive(Debug, PartialEq)]
pub(super) struct Clip {
    /// Interleaved, full scale at 1.0.
    pub(super) samples: Vec<f32>,
    /// 1 or 2.
    pub(super) channels: usize,
    /// Frames a second.
    pub(super) rate_hz: u32,
    /// The file ended before its header said so; what was there is played.
    pub(super) truncated: bool,
}

/// Reads `path` as it is. Takes time and memory in proportion to the file's real length.
pub(super) fn read(path: &Path) -> Result<Clip, WavError> {
    let unreadable = |error| WavError::Read { path: path.to_owned(), error };
    // A pipe that nobody writes into would be waited for, for ever.
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path).map_err(unreadable)?;
    if !file.metadata().map_err(unreadable)?.is_file() {
        let reason = "it is not a regular file".to_owned();
        return Err(WavError::Format { path: path.to_owned(), reason });
    }
    let mut reader = WavReader::new(BufReader::new(file)).map_err(|error| broken(path, error))?;
    let spec = reader.spec();
    check(path, spec)?;
    let claimed_frames = reader.duration();
    let limit = MAX_SAMPLES + 1;
    let (mut samples, truncated) = match spec.sample_format {
        SampleFormat::Float => gather(reader.samples::<f32>().take(limit), |sample| sample),
        SampleFormat::Int => {
            let scale = 1.0 / 2f64.powi(i32::from(spec.bits_per_sample) - 1);
            gather(reader.samples::<i32>().take(limit), |sample| (f64::from(sample) * scale) as f32)
        }
    };
    if samples.len() > MAX_SAMPLES {
        return Err(WavError::TooLong { path: path.to_owned() });
    }
    let channels = usize::from(spec.channels);
    samples.truncate(samples.len() / channels * channels);
    if samples.is_empty() {
        return Err(WavError::Empty { path: path.to_owned(), claimed_frames });
    }
    Ok(Clip { samples, channels, rate_hz: spec.sample_rate, truncated })
}

/// The same sound at another rate. The filter's delay is trimmed, so frame zero stays frame zero.
pub(super) fn resample(clip: Clip, rate_hz: u32, path: &Path) -> Result<Clip, WavError> {
    if clip.rate_hz == rate_hz {
        return Ok(clip);
    }
    let failed = |reason: String| WavError::Format { path: path.to_owned(), reason };
    let frames = clip.samples.len() / clip.channels;
    let mut resampler =
        Fft::<f32>::new(clip.rate_hz as usize, rate_hz as usize, 1024, clip.channels, FixedSync::Input)
            .map_err(|error| failed(error.to_string()))?;
    let input = InterleavedSlice::new(&clip.samples, clip.channels, frames)
        .map_err(|error| failed(error.to_string()))?;
    let output = resampler.process_all(&input, frames, None).map_err(|error| failed(error.to_string()))?;
    let mut samples = output.take_data();
    let expected = (frames as u64 * u64::from(rate_hz)).div_ceil(u64::from(clip.rate_hz)) as usize;
    samples.truncate(expected * clip.channels);
    Ok(Clip { samples, rate_hz, ..clip })
}

fn check(path: &Path, spec: WavSpec) -> Result<(), WavError> {
    let reason = if !(1..=2).contains(&spec.channels) {
        format!("it has {} channels", spec.channels)
    } else if !(8_000..=192_000).contains(&spec.sample_rate) {
        format!("its rate is {} Hz", spec.sample_rate)
    } else {
        match (spec.sample_format, spec.bits_per_sample) {
            (SampleFormat::Int, 16 | 24 | 32) | (SampleFormat::Float, 32) => return Ok(()),
            (format, bits) => format!("its samples are {bits} bit {format:?}"),
        }
    };
    Err(WavError::Format { path: path.to_owned(), reason })
}

fn broken(path: &Path, error: hound::Error) -> WavError {
    match error {
        hound::Error::IoError(error) if error.kind() != std::io::ErrorKind::UnexpectedEof => {
            match error.get_ref() {
                // hound words a short header as an error of its own.
                Some(short) => WavError::Format { path: path.to_owned(), reason: short.to_string() },
                None => WavError::Read { path: path.to_owned(), error },
            }
        }
        other => WavError::Format { path: path.to_owned(), reason: other.to_string() },
    }
}

/// Collects until the end or the first error, which for a checked header can only be a missing end.
fn gather<S>(samples: impl Iterator<Item = hound::Result<S>>, scale: impl Fn(S) -> f32) -> (Vec<f32>, bool) {
    let mut all = Vec::new();
    for sample in samples {
        match sample {
            Ok(sample) => all.push(scale(sample)),
            Err(_) => return (all, true),
        }
    }
    (all, false)
}

#[cfg(test)]
mod tests;
