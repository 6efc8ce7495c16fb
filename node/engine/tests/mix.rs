//! What a player hears when they turn their knobs, through the public interface.

#![allow(clippy::unwrap_used, reason = "a test's stage may fall")]

use engine::{
    Command, Config, ConfigError, Engine, Handle, HostTime, Input, Metronome, Monitor, Report, SourceConfig,
    SourceId, SourceWriter, Strip, StripId, Timeline, Tone, engine,
};

const PERIOD: usize = 128;

/// A node with some bandmates, each of whom plays a constant level, which makes gains easy to read.
struct Room {
    engine: Engine,
    handle: Handle,
    band: Vec<(SourceWriter, f32)>,
    callback: u64,
}

impl Room {
    fn new(max_sources: usize, input_channels: usize) -> Self {
        let config = Config { max_sources, input_channels, ..Config::new(48_000, PERIOD) };
        let (engine, handle) = engine(config).unwrap();
        Self { engine, handle, band: Vec::new(), callback: 0 }
    }

    fn join(&mut self, id: u32, level: f32) {
        let (writer, source) = self.handle.source(SourceConfig::new(48_000, 1)).unwrap();
        self.handle.send(Command::AddSource(SourceId(id), source)).unwrap();
        self.band.push((writer, level));
    }

    fn now(&self) -> HostTime {
        HostTime(1_000_000_000 + self.callback * PERIOD as u64 * 1_000_000_000 / 48_000)
    }

    fn callback(&mut self, input: &[f32]) -> Vec<f32> {
        let now = self.now();
        for (writer, level) in &mut self.band {
            writer.push((self.callback * PERIOD as u64) as i64, now, &[*level; PERIOD]).unwrap();
        }
        let mut output = vec![f32::NAN; 2 * PERIOD];
        self.engine.process(input, &mut output, now);
        self.callback += 1;
        output
    }

    /// The level at both ears, once all gains rest.
    fn settle(&mut self, input: &[f32]) -> [f32; 2] {
        let mut last = Vec::new();
        for _ in 0..20 {
            last = self.callback(input);
        }
        [last[2 * PERIOD - 2], last[2 * PERIOD - 1]]
    }

    fn send(&mut self, command: Command) {
        self.handle.send(command).unwrap();
    }

    fn reports(&mut self) -> Vec<Report> {
        std::iter::from_fn(|| self.handle.poll_report()).collect()
    }
}

fn strip(id: u32, strip: Strip) -> Command {
    Command::SetStrip(StripId::Source(SourceId(id)), strip)
}

#[test]
fn bandmates_add_up_and_strips_and_pan_apply() {
    let mut room = Room::new(4, 1);
    room.join(1, 0.25);
    room.join(2, 0.125);
    assert_eq!(room.settle(&[]), [0.375, 0.375]);
    room.send(strip(1, Strip { pan: 1.0, ..Strip::default() }));
    assert_eq!(room.settle(&[]), [0.125, 0.375]);
    room.send(strip(1, Strip { mute: true, ..Strip::default() }));
    assert_eq!(room.settle(&[]), [0.125, 0.125]);
    room.send(strip(1, Strip { gain_db: f32::NAN, pan: f32::NAN, ..Strip::default() }));
    assert_eq!(room.settle(&[]), [0.125, 0.125]);
}

#[test]
fn solo_silences_all_others() {
    let mut room = Room::new(4, 1);
    room.join(1, 0.25);
    room.join(2, 0.125);
    room.send(strip(2, Strip { solo: true, ..Strip::default() }));
    assert_eq!(room.settle(&[]), [0.125, 0.125]);
    room.send(strip(2, Strip::default()));
    assert_eq!(room.settle(&[]), [0.375, 0.375]);
}

#[test]
fn solo_of_a_player_who_is_not_there_silences_nobody() {
    let mut room = Room::new(4, 1);
    room.join(1, 0.25);
    room.join(2, 0.125);
    let solo = Strip { solo: true, ..Strip::default() };
    let monitor = Monitor { solo: true, ..Monitor::default() };
    room.send(strip(2, solo));
    room.send(Command::SetMonitor(StripId::Source(SourceId(2)), monitor));
    assert_eq!(room.settle(&[]), [0.125, 0.125]);
    room.send(Command::RemoveSource(SourceId(2)));
    room.band.pop();
    assert_eq!(room.settle(&[]), [0.25, 0.25], "the others are heard again");
    // As on a node that starts anew: the strips are there before the players.
    room.send(strip(3, solo));
    room.send(Command::SetMonitor(StripId::Source(SourceId(3)), monitor));
    assert_eq!(room.settle(&[]), [0.25, 0.25]);
    room.join(3, 0.5);
    assert_eq!(room.settle(&[]), [0.5, 0.5], "and counts once the player has come");
    room.join(4, 0.125);
    assert_eq!(room.settle(&[]), [0.5, 0.5], "for those who come later too");
}

#[test]
fn my_headphones_are_mine_and_do_not_change_what_is_sent() {
    let mut room = Room::new(4, 1);
    let mut capture = room.handle.take_capture().unwrap();
    assert!(room.handle.take_capture().is_none());
    room.join(1, 0.25);
    let monitor = |gain_db, mute| Monitor { gain_db, mute, ..Monitor::default() };
    assert_eq!(room.settle(&[0.5; PERIOD]), [0.25, 0.25], "one does not hear oneself at first");
    room.send(Command::SetMonitor(StripId::Own, monitor(0.0, false)));
    assert_eq!(room.settle(&[0.5; PERIOD]), [0.75, 0.75]);
    room.send(Command::SetMonitor(StripId::Source(SourceId(1)), monitor(0.0, true)));
    room.send(Command::SetStrip(StripId::Own, Strip { gain_db: -200.0, ..Strip::default() }));
    assert_eq!(room.settle(&[0.5; PERIOD]), [0.0, 0.0]);
    let mut position = 0;
    while let Some(block) = capture.next_block() {
        assert_eq!(block.position_frames, position);
        assert!(block.samples.iter().all(|s| *s == 0.5), "what is sent is the input, bit for bit");
        position += PERIOD as u64;
    }
    room.send(Command::SetInput(Input { gain_db: 0.0, mute: true }));
    room.settle(&[0.5; PERIOD]);
    let mut last = 1.0;
    while let Some(block) = capture.next_block() {
        last = block.samples[PERIOD - 1];
    }
    assert_eq!(last, 0.0, "a muted microphone sends silence");
}

#[test]
fn muted_player_still_hears_themselves_to_tune() {
    let mut room = Room::new(4, 1);
    let mut capture = room.handle.take_capture().unwrap();
    room.send(Command::SetMonitor(StripId::Own, Monitor::default()));
    room.send(Command::SetInput(Input { gain_db: 0.0, mute: true }));
    assert_eq!(room.settle(&[0.5; PERIOD]), [0.5, 0.5]);
    let mut sent = Vec::new();
    while let Some(block) = capture.next_block() {
        sent.extend_from_slice(block.samples);
    }
    assert_eq!(sent.last(), Some(&0.0));
    // No step on the way down: 5 ms from full to nothing.
    assert!(sent.windows(2).all(|pair| pair[0] - pair[1] <= 0.5 * 1.01 / 240.0));
    room.send(Command::SetInput(Input { gain_db: 6.0, mute: false }));
    let louder = room.settle(&[0.25; PERIOD])[0];
    assert!((louder - 0.25 * 1.995).abs() < 1e-3, "{louder}");
}

#[test]
fn my_solo_is_of_bandmates_and_leaves_me_in() {
    let mut room = Room::new(4, 1);
    for id in 1..=3 {
        room.join(id, 0.1 * id as f32);
    }
    let solo = |id: u32, solo| {
        Command::SetMonitor(StripId::Source(SourceId(id)), Monitor { solo, ..Monitor::default() })
    };
    room.send(Command::SetMonitor(StripId::Own, Monitor::default()));
    room.send(solo(2, true));
    let near = |heard: [f32; 2], wanted: f32| assert!((heard[0] - wanted).abs() < 1e-6, "{heard:?} {wanted}");
    near(room.settle(&[0.05; PERIOD]), 0.25);
    room.send(solo(3, true));
    near(room.settle(&[0.05; PERIOD]), 0.55);
    // The band's solo and mine: who passes both.
    room.send(strip(3, Strip { solo: true, ..Strip::default() }));
    near(room.settle(&[0.05; PERIOD]), 0.3);
    room.send(strip(3, Strip::default()));
    room.send(solo(2, false));
    room.send(solo(3, false));
    near(room.settle(&[0.05; PERIOD]), 0.65);
}

#[test]
fn my_own_instrument_stays_on_my_solo_and_on_a_solo_of_me() {
    let mut room = Room::new(4, 1);
    // A level in its place is as good as notes.
    room.join(SourceId::OWN_INSTRUMENT.0, 0.25);
    room.join(1, 0.125);
    room.join(2, 0.5);
    let solo_bob =
        |solo| Command::SetMonitor(StripId::Source(SourceId(1)), Monitor { solo, ..Monitor::default() });
    room.send(solo_bob(true));
    assert_eq!(room.settle(&[]), [0.375, 0.375], "my keys and Bob");
    room.send(solo_bob(false));
    let solo_me = |solo| Command::SetStrip(StripId::Own, Strip { solo, ..Strip::default() });
    room.send(solo_me(true));
    assert_eq!(room.settle(&[]), [0.25, 0.25], "the band hears me alone, and so do I");
    room.send(solo_me(false));
    room.send(strip(1, Strip { solo: true, ..Strip::default() }));
    assert_eq!(room.settle(&[]), [0.125, 0.125], "the band hears Bob alone");
}

#[test]
fn my_pan_adds_to_the_bands() {
    let mut room = Room::new(4, 1);
    room.join(1, 0.25);
    let pan = |pan| Command::SetMonitor(StripId::Source(SourceId(1)), Monitor { pan, ..Monitor::default() });
    room.send(pan(-0.5));
    assert_eq!(room.settle(&[]), [0.25, 0.125]);
    room.send(strip(1, Strip { pan: 0.5, ..Strip::default() }));
    assert_eq!(room.settle(&[]), [0.25, 0.25]);
    room.send(strip(1, Strip { pan: -0.8, ..Strip::default() }));
    assert_eq!(room.settle(&[]), [0.25, 0.0]);
    room.send(pan(f32::NAN));
    assert_eq!(room.settle(&[]), [0.25, 0.25], "nonsense is the middle");
}

#[test]
fn test_tone_is_mine_alone_and_no_fader_moves_it() {
    let mut room = Room::new(4, 1);
    let mut capture = room.handle.take_capture().unwrap();
    room.send(Command::SetMasterGain { gain_db: -90.0 });
    room.send(Command::SetTestTone(Tone { level_db: -20.0, frames: 9_600 }));
    let heard: Vec<f32> = (0..100).flat_map(|_| room.callback(&[0.0; PERIOD])).collect();
    let peak = heard.iter().fold(0.0f32, |peak, sample| peak.max(sample.abs()));
    assert!((peak - 0.1).abs() < 1e-3, "{peak}");
    assert!(heard[2 * 9_600 + 960..].iter().all(|sample| *sample == 0.0), "it ends by itself");
    while let Some(block) = capture.next_block() {
        assert!(block.samples.iter().all(|sample| *sample == 0.0));
    }
}

#[test]
fn analysis_holds_output_and_microphone_of_the_same_moment() {
    let mut room = Room::new(4, 2);
    let mut analysis = room.handle.take_analysis().unwrap();
    room.join(1, 0.25);
    room.send(Command::SetInput(Input { gain_db: 0.0, mute: true }));
    let input: Vec<f32> = (0..PERIOD).flat_map(|_| [0.5, 0.1]).collect();
    for _ in 0..20 {
        let output = room.callback(&input);
        let block = analysis.next_block().unwrap();
        assert_eq!((block.channels, block.samples.len()), (3, 3 * PERIOD));
        for (kept, heard) in block.samples.chunks_exact(3).zip(output.chunks_exact(2)) {
            assert_eq!(kept[..2], *heard);
            assert!((kept[2] - 0.3).abs() < 1e-6, "the microphone is heard though it is muted");
        }
    }
}

#[test]
fn nonsense_from_a_card_is_no_louder_than_a_loud_sound_and_is_forgotten() {
    for nonsense in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, -f32::MAX] {
        let mut room = Room::new(4, 1);
        let stats = room.handle.stats();
        let mut capture = room.handle.take_capture().unwrap();
        room.send(Command::SetMonitor(
            StripId::Own,
            Monitor { gain_db: 12.0, mute: false, ..Monitor::default() },
        ));
        room.send(Command::SetInput(Input { gain_db: 12.0, mute: false }));
        room.send(Command::SetMasterGain { gain_db: 12.0 });
        room.send(Command::SetStrip(StripId::Own, Strip { gain_db: 12.0, ..Strip::default() }));
        room.settle(&[0.1; PERIOD]);
        let heard = room.callback(&[nonsense; PERIOD]);
        assert!(heard.iter().all(|sample| sample.abs() <= 0.892), "{nonsense}");
        while let Some(block) = capture.next_block() {
            assert!(block.samples.iter().all(|sample| sample.abs() <= 16.0 * 4.0));
        }
        assert!(stats.input_meter().peak <= 16.0 && stats.input_meter().rms <= 16.0, "{nonsense}");
        for _ in 0..100 {
            room.settle(&[0.1; PERIOD]);
        }
        let meter = stats.input_meter();
        assert!((meter.rms - 0.1).abs() < 1e-2 && (meter.peak - 0.1).abs() < 1e-2, "{nonsense}: {meter:?}");
    }
}

#[test]
fn limiters_deepest_moment_is_kept_until_somebody_looks() {
    let mut room = Room::new(4, 1);
    let stats = room.handle.stats();
    assert_eq!(stats.take_limiter_gain(), 1.0);
    room.send(Command::SetMonitor(StripId::Own, Monitor::default()));
    room.settle(&[4.0; PERIOD]);
    room.settle(&[0.0; PERIOD]);
    let deepest = stats.take_limiter_gain();
    assert!((deepest - 0.891 / 4.0).abs() < 0.01, "{deepest}");
    for _ in 0..20 {
        room.settle(&[0.0; PERIOD]);
    }
    let _ = stats.take_limiter_gain();
    room.settle(&[0.0; PERIOD]);
    assert_eq!(stats.take_limiter_gain(), 1.0);
}

#[test]
fn gain_changes_never_step() {
    let mut room = Room::new(4, 1);
    room.join(1, 0.5);
    let mut heard = Vec::new();
    room.settle(&[]);
    for n in 0..40 {
        room.send(strip(
            1,
            Strip { mute: n % 2 == 0, pan: if n % 3 == 0 { -1.0 } else { 1.0 }, ..Strip::default() },
        ));
        room.send(Command::SetMasterGain { gain_db: if n % 5 == 0 { -20.0 } else { 0.0 } });
        heard.extend(room.callback(&[]));
    }
    let left: Vec<f32> = heard.chunks_exact(2).map(|frame| frame[0]).collect();
    let step = left.windows(2).map(|w| (w[1] - w[0]).abs()).fold(0.0, f32::max);
    assert!(step < 0.006, "{step}");
}

#[test]
fn eight_loud_bandmates_stay_below_minus_one_dbfs() {
    let mut room = Room::new(8, 1);
    for id in 0..8 {
        room.join(id, 0.9);
    }
    let [left, right] = room.settle(&[]);
    assert!((0.88..=0.8913).contains(&left) && left == right);
    let stats = room.handle.stats();
    assert!(stats.limiter_gain() < 0.2);
    assert!((-1.1..=-0.9).contains(&stats.output_meter().peak_db()));
}

#[test]
fn leaving_fades_and_is_reported_and_the_place_is_free_again() {
    let mut room = Room::new(1, 1);
    room.join(1, 0.5);
    room.settle(&[]);
    assert!(matches!(room.reports()[..], [Report::SourceStarted(SourceId(1), _)]));
    room.join(2, 0.5);
    room.settle(&[]);
    assert_eq!(room.reports(), [Report::Refused(SourceId(2))]);
    room.band.pop();

    room.send(Command::RemoveSource(SourceId(1)));
    let last = room.callback(&[]);
    let step = last
        .chunks_exact(2)
        .collect::<Vec<_>>()
        .windows(2)
        .map(|w| (w[1][0] - w[0][0]).abs())
        .fold(0.0, f32::max);
    assert!(step < 0.01 && last[2 * PERIOD - 1].abs() < 1e-3);
    assert_eq!(room.reports(), [Report::Removed(SourceId(1))]);
    room.band.clear();
    room.join(2, 0.25);
    assert_eq!(room.settle(&[]), [0.25, 0.25]);
}

#[test]
fn strip_set_before_the_first_audio_counts() {
    let mut room = Room::new(2, 1);
    room.send(strip(1, Strip { pan: -1.0, ..Strip::default() }));
    room.join(1, 0.25);
    assert_eq!(room.settle(&[]), [0.25, 0.0]);
}

#[test]
fn audio_may_leave_while_the_instrument_stays() {
    let mut room = Room::new(1, 1);
    room.join(1, 0.25);
    let (mut keyboard, instrument) = room.handle.instrument().unwrap();
    room.send(Command::AddInstrument(SourceId(1), instrument));
    room.settle(&[]);
    room.send(Command::RemoveSource(SourceId(1)));
    room.band.clear();
    assert_eq!(room.settle(&[]), [0.0, 0.0]);
    keyboard.push(HostTime(0), [0x90, 60, 127]).unwrap();
    let heard: Vec<f32> = (0..20).flat_map(|_| room.callback(&[])).collect();
    assert!(heard.iter().any(|s| s.abs() > 0.02));
    room.send(Command::RemoveInstrument(SourceId(1)));
    let before = heard.iter().rev().take(2 * PERIOD).fold(0.0f32, |peak, s| peak.max(s.abs()));
    let last = room.callback(&[]);
    let end = last.iter().rev().take(8).fold(0.0f32, |peak, s| peak.max(s.abs()));
    assert!(end < 0.05 * before, "it fades: {before} to {end}");
    assert_eq!(room.settle(&[]), [0.0, 0.0], "a held note does not ring on");
    assert_eq!(room.reports().last(), Some(&Report::Removed(SourceId(1))));
}

#[test]
fn click_is_heard_on_the_beat_whatever_the_output_latency() {
    for latency in [0u32, 300] {
        let mut room = Room::new(1, 1);
        for _ in 0..10 {
            room.callback(&[]);
        }
        let start = room.now();
        let beat_at = HostTime(start.0 + 50_000_000);
        room.send(Command::SetOutputLatency { frames: latency });
        room.send(Command::SetMetronome(Metronome { on: true, gain_db: 0.0 }));
        room.send(Command::SetTimeline(Timeline {
            tempo_bpm: 60.0,
            beat: 8.0,
            at: beat_at,
            quantum: 4.0,
            playing: true,
        }));
        let heard: Vec<f32> = (0..40).flat_map(|_| room.callback(&[])).step_by(2).collect();
        let onset = heard.iter().position(|s| s.abs() > 0.2).unwrap();
        assert!((onset + latency as usize).abs_diff(2_400) <= 1, "{onset}");
    }
}

#[test]
fn note_is_rendered_for_its_moment_as_audio_is_whatever_the_output_latency() {
    for latency in [0u32, 128, 960] {
        let mut room = Room::new(4, 1);
        let (mut keys, instrument) = room.handle.instrument().unwrap();
        room.send(Command::AddInstrument(SourceId(1), instrument));
        room.send(Command::SetOutputLatency { frames: latency });
        room.settle(&[]);
        // The network brings it, some 5 ms before its time.
        keys.push(HostTime(room.now().0 + 5_000_000), [0x99, 38, 127]).unwrap();
        let heard: Vec<f32> = (0..10).flat_map(|_| room.callback(&[])).collect();
        let onset = heard.iter().position(|s| s.abs() > 1e-4).unwrap() / 2;
        assert!((240..260).contains(&onset), "{latency}: {onset}");
    }
}

#[test]
fn odd_callbacks_are_played_all_the_same() {
    let mut room = Room::new(1, 2);
    room.send(Command::SetMonitor(StripId::Own, Monitor::default()));
    room.settle(&[0.25; 2 * PERIOD]);
    let mut output = vec![0.0; 2 * (3 * PERIOD + 7)];
    let input: Vec<f32> = (0..3 * PERIOD + 7).flat_map(|n| [n as f32 * 1e-3, n as f32 * -1e-3]).collect();
    room.engine.process(&input, &mut output, room.now());
    assert!(output == input, "three periods and a bit, in and out");
    let mut output = [1.0; 64];
    room.engine.process(&[0.5; 10], &mut output, room.now());
    assert_eq!(output[8..12], [0.5, 0.5, 0.0, 0.0]);
    room.engine.process(&[f32::NAN; 64], &mut output, room.now());
    assert_eq!(output, [0.0; 64]);
    room.engine.process(&[], &mut [], room.now());
}

#[test]
fn configuration_out_of_range_is_refused_with_the_remedy() {
    let refuse = |config| engine(config).err().unwrap();
    assert_eq!(refuse(Config::new(1, 128)), ConfigError::Rate(1));
    assert_eq!(refuse(Config::new(48_000, 0)), ConfigError::Period(0));
    let many = Config { max_sources: 257, ..Config::new(48_000, 128) };
    assert!(refuse(many).to_string().contains("at most 256"));
    let font = Config { soundfont: Some(vec![1, 2, 3]), ..Config::new(48_000, 128) };
    assert!(refuse(font).to_string().contains(".sf2"));
}

#[test]
fn commands_beyond_the_queue_are_refused() {
    let (_engine, mut handle) = engine(Config::new(48_000, 128)).unwrap();
    let refused =
        (0..2_000).filter(|_| handle.send(Command::SetMasterGain { gain_db: 0.0 }).is_err()).count();
    assert_eq!(refused, 2_000 - 1_024);
}
