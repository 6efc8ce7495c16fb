//! An ear that trusts only recordings.
//!
//! What is played is noise from a seed: every stretch of it is unlike every other, so where it turns up in a
//! recording is unmistakable, and no concealment can invent it. [`compare`] says when and how well it
//! arrived.

mod compare;

pub use compare::{Delivery, Gap, compare};

use hound::{SampleFormat, WavReader, WavSpec, WavWriter};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::path::Path;

/// The rate of everything the suite plays, in frames a second.
pub const RATE_HZ: usize = 48_000;
/// Largest sample of the noise: loud, with room for several to be mixed below the limiter.
const LEVEL: f32 = 0.15;

/// `length_s` seconds of white noise, samples in -0.15 to 0.15, the same for the same seed.
pub fn noise(seed: u64, length_s: f64) -> Vec<f32> {
    let mut rng = StdRng::seed_from_u64(seed);
    (0..frames(length_s)).map(|_| rng.random_range(-LEVEL..LEVEL)).collect()
}

/// What a player who only listens plays: a recorder needs a file, and a file some frames.
pub fn silence() -> Vec<f32> {
    vec![0.0; frames(0.1)]
}

/// As many frames as `length_s` seconds are.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "lengths are small and positive")]
pub fn frames(length_s: f64) -> usize {
    (length_s * RATE_HZ as f64) as usize
}

/// Writes `samples` as a mono 16-bit WAV file at 48 kHz.
#[track_caller]
pub fn write_wav(path: &Path, samples: &[f32]) {
    write_interleaved(path, 1, samples.iter());
}

/// Writes a stereo one.
#[track_caller]
pub fn write_stereo_wav(path: &Path, left: &[f32], right: &[f32]) {
    write_interleaved(path, 2, left.iter().zip(right).flat_map(|(l, r)| [l, r]));
}

#[track_caller]
#[allow(clippy::cast_possible_truncation, reason = "clamped to the range of i16")]
fn write_interleaved<'a>(path: &Path, channels: u16, samples: impl Iterator<Item = &'a f32>) {
    let spec = WavSpec {
        channels,
        sample_rate: RATE_HZ as u32,
        bits_per_sample: 16,
        sample_format: SampleFormat::Int,
    };
    let mut writer = WavWriter::create(path, spec).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    for sample in samples {
        writer.write_sample((sample.clamp(-1.0, 1.0) * 32767.0).round() as i16).expect("write a WAV file");
    }
    writer.finalize().expect("finish a WAV file");
}

/// Reads a WAV file at 48 kHz of any sample format as mono, the mean of its channels.
#[track_caller]
pub fn read_wav(path: &Path) -> Vec<f32> {
    let (samples, channels) = read_interleaved(path);
    samples.chunks_exact(channels).map(|frame| frame.iter().sum::<f32>() / channels as f32).collect()
}

/// Reads a stereo one: left and right.
#[track_caller]
pub fn read_stereo_wav(path: &Path) -> [Vec<f32>; 2] {
    let (samples, channels) = read_interleaved(path);
    assert_eq!(channels, 2, "the channels of {}", path.display());
    [0, 1].map(|side| samples.iter().skip(side).step_by(2).copied().collect())
}

#[track_caller]
fn read_interleaved(path: &Path) -> (Vec<f32>, usize) {
    let mut reader = WavReader::open(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let spec = reader.spec();
    assert_eq!(spec.sample_rate as usize, RATE_HZ, "the rate of {}", path.display());
    let samples: Result<Vec<f32>, _> = match spec.sample_format {
        SampleFormat::Float => reader.samples::<f32>().collect(),
        SampleFormat::Int => {
            let full_scale = 2_f32.powi(i32::from(spec.bits_per_sample) - 1);
            reader.samples::<i32>().map(|s| s.map(|s| s as f32 / full_scale)).collect()
        }
    };
    (samples.unwrap_or_else(|e| panic!("{}: {e}", path.display())), usize::from(spec.channels))
}

/// Frames in milliseconds.
pub fn to_ms(frames: f64) -> f64 {
    frames * 1e3 / RATE_HZ as f64
}

/// The first frame louder than -50 dB of full scale.
pub fn first_sound(samples: &[f32]) -> Option<usize> {
    samples.iter().position(|sample| sample.abs() > 0.003)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wav_file_gives_back_what_was_written() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("noise.wav");
        let written = noise(1, 0.1);
        write_wav(&path, &written);
        let read = read_wav(&path);
        assert_eq!(read.len(), written.len());
        assert!(read.iter().zip(&written).all(|(r, w)| (r - w).abs() < 1e-4));
        assert!(first_sound(&read).is_some_and(|at| at < 20));
    }

    #[test]
    fn noise_is_the_same_for_the_same_seed_only() {
        assert_eq!(noise(7, 0.01), noise(7, 0.01));
        assert_ne!(noise(7, 0.01), noise(8, 0.01));
    }
}
