use super::super::AudioChoice;
use super::super::tests::{Echo, config, wait_for};
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
    let running = crate::device::open(&choice(&input, &output), |opened| {
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
    let running = crate::device::open(&choice(&input, &output), |_| Box::new(Echo)).unwrap();
    // What a crash would leave is what the file holds while it is being written.
    wait_for("the first header", || wav::read(&output).is_ok_and(|clip| clip.samples.len() > 48_000));
    drop(running);
}

#[test]
fn a_device_that_is_opened_again_keeps_what_was_recorded() {
    let folder = tempfile::tempdir().unwrap();
    let (input, output) = (folder.path().join("in.wav"), folder.path().join("out.wav"));
    write_take(&input);
    std::fs::write(&output, "of an earlier start").unwrap();
    let mut recordings = Recordings::default();
    let mut take = |periods: u64, path: &Path| {
        let stats = Arc::new(DeviceStats::default());
        let config = choice(&input, path);
        let running = open(&config, &input, Some(path), &mut recordings, stats, |_| Box::new(Echo)).unwrap();
        wait_for("some sound", || running.stats().callbacks() >= periods);
        let notes = running.info().notes;
        drop(running);
        notes
    };
    assert!(take(60, &output).is_empty(), "a file from before the node is replaced");
    let first = wav::read(&output).unwrap();
    assert!(first.samples.len() >= 60 * 256);

    // By whichever name.
    let notes = take(10, &folder.path().join(".").join("out.wav"));
    assert!(notes.iter().any(|note| note.contains("goes on in") && note.contains("out-2.wav")), "{notes:?}");
    assert_eq!(wav::read(&output).unwrap(), first, "nothing is lost");
    assert!(wav::read(&folder.path().join("out-2.wav")).unwrap().samples.len() >= 10 * 256);
    // A file that nobody asked to be replaced stays.
    std::fs::write(folder.path().join("out-3.wav"), "somebody's").unwrap();
    take(10, &output);
    assert_eq!(std::fs::read(folder.path().join("out-3.wav")).unwrap(), b"somebody's");
    assert!(wav::read(&folder.path().join("out-4.wav")).unwrap().samples.len() >= 10 * 256);
}

#[test]
fn a_recording_that_was_deleted_is_made_again_under_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let (input, output) = (folder.path().join("in.wav"), folder.path().join("out.wav"));
    let mut recordings = Recordings::default();
    std::fs::write(&output, "recorded").unwrap();
    let (_, taken) = output_file(&input, &output, &mut recordings).unwrap();
    assert_eq!(taken, output);
    std::fs::remove_file(&output).unwrap();
    // The file system may give its number to the next file; here the number is known to be an earlier recording's.
    std::fs::write(&output, "").unwrap();
    recordings.0.insert(id(&std::fs::metadata(&output).unwrap()));
    let (_, taken) = output_file(&input, &output, &mut recordings).unwrap();
    assert_eq!(taken, output);
    assert!(!folder.path().join("out-2.wav").exists());
}

#[test]
fn a_pipe_is_refused_at_once_whether_or_not_anybody_reads() {
    let folder = tempfile::tempdir().unwrap();
    let (input, pipe) = (folder.path().join("in.wav"), folder.path().join("pipe"));
    write_take(&input);
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let refused = |input: &Path, output: &Path| {
        crate::device::open(&choice(input, output), |_| panic!("never built")).err().unwrap().to_string()
    };
    assert!(refused(&input, &pipe).contains("name another file"));
    let reader = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(&pipe).unwrap();
    assert!(refused(&input, &pipe).contains("name another file"));
    drop(reader);
    assert!(refused(&pipe, &folder.path().join("out.wav")).contains("regular file"), "nor is it waited for");
    // What keeps nothing takes everything.
    let running = crate::device::open(&choice(&input, Path::new("/dev/null")), |_| Box::new(Echo)).unwrap();
    wait_for("some sound", || running.stats().callbacks() >= 10);
}

#[test]
fn a_recording_over_its_own_take_is_refused_by_whichever_name() {
    let folder = tempfile::tempdir().unwrap();
    let input = folder.path().join("in.wav");
    let take = write_take(&input);
    let (soft, hard) = (folder.path().join("soft.wav"), folder.path().join("hard.wav"));
    std::os::unix::fs::symlink(&input, &soft).unwrap();
    std::fs::hard_link(&input, &hard).unwrap();
    for output in [folder.path().join(".").join("in.wav"), soft, hard] {
        let config = choice(&input, &output);
        let error = crate::device::open(&config, |_| panic!("never built")).err().unwrap().to_string();
        assert!(error.contains("file that is played"), "{error}");
        assert_eq!(wav::read(&input).unwrap().samples, take, "{}", output.display());
    }
}

#[test]
fn a_recording_longer_than_a_file_can_be_goes_on_in_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("out.wav");
    let file = File::create(&output).unwrap();
    let mut reel = Reel::new(&output, output.clone(), file, 48_000, 1_000).unwrap();
    let sound: Vec<f32> = (0..2_500).map(|n| n as f32 / 4_096.0).collect();
    for block in sound.chunks(256) {
        reel.write(block.iter().copied()).unwrap();
    }
    let Reel { writer, .. } = reel;
    writer.finalize().unwrap();
    let parts =
        ["out.wav", "out-2.wav", "out-3.wav"].map(|name| wav::read(&folder.path().join(name)).unwrap());
    assert_eq!(parts.each_ref().map(|part| part.samples.len()), [1_000, 1_000, 500]);
    let joined: Vec<f32> = parts.into_iter().flat_map(|part| part.samples).collect();
    assert_eq!(joined, sound, "not a sample is missing");
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
    let error =
        crate::device::open(&choice(&input, &output), |_| panic!("never built")).err().unwrap().to_string();
    assert!(error.contains("out.wav") && error.contains("folder"), "{error}");
}
