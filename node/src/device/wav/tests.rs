use std::f32::consts::TAU;
use std::time::Instant;

use hound::WavWriter;
use proptest::prelude::*;

use super::*;

fn spec(channels: u16, sample_rate: u32, bits_per_sample: u16, sample_format: SampleFormat) -> WavSpec {
    WavSpec { channels, sample_rate, bits_per_sample, sample_format }
}

fn temporary(bytes: &[u8]) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    file
}

#[test]
fn every_width_we_promise_reads_at_full_scale() {
    let file = tempfile::NamedTempFile::new().unwrap();
    for bits in [16, 24, 32] {
        let mut writer = WavWriter::create(file.path(), spec(2, 44_100, bits, SampleFormat::Int)).unwrap();
        let full = -(1i64 << (bits - 1)) as i32;
        for sample in [full, full / -2, 0, 1 << (bits - 3)] {
            writer.write_sample(sample).unwrap();
        }
        writer.finalize().unwrap();
        let clip = read(file.path()).unwrap();
        assert_eq!(
            (clip.samples, clip.channels, clip.rate_hz),
            (vec![-1.0, 0.5, 0.0, 0.25], 2, 44_100),
            "{bits}"
        );
    }
    let mut writer = WavWriter::create(file.path(), spec(1, 96_000, 32, SampleFormat::Float)).unwrap();
    writer.write_sample(0.1f32).unwrap();
    writer.finalize().unwrap();
    assert_eq!(read(file.path()).unwrap().samples, [0.1]);
}

#[test]
fn another_rate_keeps_length_pitch_and_start() {
    let samples: Vec<f32> =
        (0..44_100).flat_map(|n| [(TAU * 441.0 * n as f32 / 44_100.0).sin() * 0.5, 0.0]).collect();
    let clip = Clip { samples, channels: 2, rate_hz: 44_100, truncated: false };
    let clip = resample(clip, 48_000, Path::new("a.wav")).unwrap();
    assert_eq!((clip.samples.len(), clip.rate_hz), (96_000, 48_000));
    let error = (1_000..47_000)
        .map(|n| (clip.samples[2 * n] - (TAU * 441.0 * n as f32 / 48_000.0).sin() * 0.5).abs())
        .fold(0.0, f32::max);
    assert!(error < 2e-3, "off by {error}");
    assert!(clip.samples.iter().skip(1).step_by(2).all(|right| right.abs() < 1e-6), "channels stay apart");
}

/// A header by hand: `fmt ` of 16 bytes and `data`, with what it claims.
fn header(channels: u16, rate: u32, bits: u16, claimed_bytes: u32) -> Vec<u8> {
    let block = channels.wrapping_mul(bits / 8);
    let mut bytes = Vec::new();
    bytes.extend(b"RIFF");
    bytes.extend(claimed_bytes.wrapping_add(36).to_le_bytes());
    bytes.extend(b"WAVEfmt \x10\0\0\0\x01\0");
    bytes.extend(channels.to_le_bytes());
    bytes.extend(rate.to_le_bytes());
    bytes.extend(rate.wrapping_mul(u32::from(block)).to_le_bytes());
    bytes.extend(block.to_le_bytes());
    bytes.extend(bits.to_le_bytes());
    bytes.extend(b"data");
    bytes.extend(claimed_bytes.to_le_bytes());
    bytes
}

#[test]
fn four_gigabytes_claimed_in_44_bytes_fail_fast_and_clearly() {
    let began = Instant::now();
    let bytes = header(2, 48_000, 16, u32::MAX - 3);
    assert_eq!(bytes.len(), 44);
    let error = read(temporary(&bytes).path()).unwrap_err();
    assert!(matches!(error, WavError::Empty { .. }), "{error}");
    assert!(error.to_string().contains("damaged"), "{error}");
    assert!(began.elapsed().as_millis() < 500);
}

#[test]
fn a_file_cut_short_plays_what_is_there() {
    let mut bytes = header(2, 48_000, 16, 4_000);
    bytes.extend([0, 64, 0, 32, 0, 16]);
    let clip = read(temporary(&bytes).path()).unwrap();
    assert_eq!((clip.samples, clip.truncated), (vec![0.5, 0.25], true), "whole frames only");
}

#[test]
fn strange_files_are_refused_in_words() {
    let mut told = Vec::new();
    for bytes in [
        Vec::new(),
        b"RIFF".to_vec(),
        b"ID3\x04 this is no wave file, it is a song".to_vec(),
        header(0, 48_000, 16, 4),
        header(6, 48_000, 16, 4),
        header(2, 0, 16, 4),
        header(2, u32::MAX, 16, 4),
        header(2, 48_000, 8, 4),
        header(2, 48_000, 0, 4),
    ] {
        told.push(read(temporary(&bytes).path()).unwrap_err().to_string());
    }
    for (path, word) in
        [("/no/such/file.wav", "cannot read"), ("/tmp", "regular file"), ("/dev/zero", "regular file")]
    {
        let error = read(Path::new(path)).unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
    }
    assert!(told.iter().all(|error| error.contains("not a usable WAV file")), "{told:#?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn no_header_makes_the_reader_panic(
        channels: u16, rate: u32, bits: u16, claimed: u32,
        noise in prop::collection::vec(any::<u8>(), 0..200),
        (at, value) in (0usize..44, any::<u8>()),
    ) {
        let mut bytes = header(channels, rate, bits, claimed);
        bytes.extend(&noise);
        let _ = read(temporary(&bytes).path());
        let mut good = header(2, 48_000, 24, 96);
        good.extend(&noise);
        good[at] = value;
        if let Ok(clip) = read(temporary(&good).path()) {
            let _ = resample(clip, 48_000, Path::new("a.wav"));
        }
        let _ = read(temporary(&noise).path());
    }
}
