use super::super::tests::{Echo, config, wait_for};
use super::super::{AudioChoice, open};
use super::*;

fn choice(input: &Path, output: &Path) -> DeviceConfig {
    config(AudioChoice::File { input: input.to_owned(), output: Some(output.to_owned()) })
}

/// Half a second of distinct 24 bit values.
fn write_take(path: &Path) -> Vec<f32> {
    let spec =
        WavSpec { channels: 1, sample_rate: 48_000, bits_per_sample: 24, sample_format: SampleFormat::Int };
    let mut writer = WavWriter::create(path, spec).unwrap();
    let values: Vec<i32> = (1..24_001).map(|index| index * 300 - 3_600_000).collect();
    for value in &values {
        writer.write_sample(*value).unwrap();
    }
    writer.finalize().unwrap();
    values.iter().map(|value| *value as f32 / 8_388_608.0).collect()
}

#[test]
fn a_take_is_played_once_and_recorded_bit_for_bit() {
    let folder = tempfile::tempdir().unwrap();
    let (input, output) = (folder.path().join("in.wav"), folder.path().join("out.wav"));
    let take = write_take(&input);
    let running = open(&choice(&input, &output), |opened| {
        assert_eq!(opened.input_channels, 1);
        Box::new(Echo)
    })
    .unwrap();
    wait_for("the take and some silence", || running.stats().callbacks() >= 250);
    let stats = running.stats().clone();
    assert!(running.stop().is_some());
    let recording = wav::read(&output).unwrap();
    assert_eq!((recording.channels, recording.rate_hz, recording.truncated), (2, 48_000, false));
    let stats = stats.snapshot();
    if stats.xruns == 0 && stats.recording_missed_frames == 0 {
        assert_eq!(recording.samples.len() as u64, stats.callbacks * 256);
        let expected: Vec<f32> = take.iter().flat_map(|sample| [*sample; 2]).collect();
        assert_eq!(recording.samples[..expected.len()], expected);
        assert!(recording.samples[expected.len()..].iter().all(|sample| *sample == 0.0), "then silence");
    }
}

#[test]
fn a_recording_cut_off_by_a_crash_is_a_valid_file() {
    let folder = tempfile::tempdir().unwrap();
    let (input, output) = (folder.path().join("in.wav"), folder.path().join("out.wav"));
    write_take(&input);
    let running = open(&choice(&input, &output), |_| Box::new(Echo)).unwrap();
    // What a crash would leave is what the file holds while it is being written.
    wait_for("the first header", || wav::read(&output).is_ok_and(|clip| clip.samples.len() > 48_000));
    drop(running);
}

#[test]
fn a_disk_that_stalls_leaves_silence_of_the_right_length() {
    let stats = Arc::new(DeviceStats::default());
    let (queue, mut taken) = RingBuffer::new(8);
    let mut tape = Tape { queue, owed_samples: 0, stats: stats.clone() };
    tape.write(&[1.0; 4]);
    tape.write(&[2.0; 4]);
    tape.write(&[3.0; 4]);
    assert_eq!(stats.snapshot().recording_missed_frames, 2);
    let mut drain = || -> Vec<f32> { std::iter::from_fn(|| taken.pop().ok()).collect() };
    assert_eq!(drain(), [1.0, 1.0, 1.0, 1.0, 2.0, 2.0, 2.0, 2.0]);
    tape.write(&[4.0; 4]);
    assert_eq!(drain(), [0.0, 0.0, 0.0, 0.0, 4.0, 4.0, 4.0, 4.0]);
}

#[test]
fn a_recording_that_cannot_be_made_is_told_before_anything_plays() {
    let folder = tempfile::tempdir().unwrap();
    let input = folder.path().join("in.wav");
    write_take(&input);
    let output = folder.path().join("no/such/folder/out.wav");
    let error = open(&choice(&input, &output), |_| panic!("never built")).err().unwrap().to_string();
    assert!(error.contains("out.wav") && error.contains("folder"), "{error}");
}
