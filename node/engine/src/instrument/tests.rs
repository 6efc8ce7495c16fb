use super::*;

const PERIOD: usize = 128;

struct Stage {
    clock: FrameClock,
    writer: MidiWriter,
    voice: Box<InstrumentVoice>,
    callbacks: u64,
}

impl Stage {
    fn new() -> Self {
        let font = load_soundfont(None).unwrap();
        let (writer, instrument) = instrument(&font, 48_000, PERIOD).unwrap();
        Self { clock: FrameClock::new(48_000), writer, voice: instrument.0, callbacks: 0 }
    }

    fn at_frame(frame: u64) -> HostTime {
        HostTime(1_000_000_000 + frame * 1_000_000_000 / 48_000)
    }

    fn play(&mut self, seconds: f64) -> Vec<f32> {
        let mut heard = Vec::new();
        for _ in 0..(seconds * 48_000.0) as usize / PERIOD {
            self.clock.handle_callback(Self::at_frame(self.callbacks * PERIOD as u64), PERIOD);
            self.callbacks += 1;
            let (mut left, mut right) = ([0.0; PERIOD], [0.0; PERIOD]);
            self.voice.process(&self.clock, &mut left, &mut right);
            heard.extend(left);
        }
        heard
    }
}

fn peak(heard: &[f32]) -> f32 {
    heard.iter().fold(0.0, |peak, s| peak.max(s.abs()))
}

/// Pitch by autocorrelation, in Hz.
fn pitch(heard: &[f32]) -> f32 {
    let score = |lag: usize| heard.iter().zip(&heard[lag..]).map(|(a, b)| a * b).sum::<f32>();
    let best = (30..1_500).max_by(|a, b| score(*a).total_cmp(&score(*b))).unwrap();
    48_000.0 / best as f32
}

#[test]
fn every_built_in_sound_is_heard_at_its_pitch_and_ends() {
    for (program, key, hz) in [(0, 69, 440.0), (33, 45, 110.0), (89, 69, 440.0), (5, 57, 220.0)] {
        let mut stage = Stage::new();
        stage.writer.push(HostTime(0), [0xc0, program, 0]).unwrap();
        stage.writer.push(HostTime(0), [0x90, key, 100]).unwrap();
        let heard = stage.play(0.6);
        assert!(peak(&heard) > 0.02 && peak(&heard) < 0.9, "program {program}: {}", peak(&heard));
        let found = pitch(&heard[14_400..20_000]);
        assert!((found / hz - 1.0).abs() < 0.02, "program {program}: {found} Hz instead of {hz}");
        stage.writer.push(HostTime(0), [0x80, key, 0]).unwrap();
        stage.play(3.0);
        assert!(peak(&stage.play(0.1)) < 1e-3, "program {program} has ended");
    }
}

#[test]
fn drums_sound_on_channel_ten() {
    for key in [36, 38, 42, 46, 49, 51, 39, 45] {
        let mut stage = Stage::new();
        stage.writer.push(HostTime(0), [0x99, key, 110]).unwrap();
        let heard = stage.play(0.2);
        assert!(peak(&heard) > 0.03 && peak(&heard) < 0.9, "key {key}: {}", peak(&heard));
    }
}

#[test]
fn note_starts_on_its_frame_to_within_a_step() {
    for due in [0u64, 5, 127, 128, 1_000, 4_801] {
        let mut stage = Stage::new();
        stage.play(0.02);
        let start = stage.callbacks * PERIOD as u64;
        stage.writer.push(Stage::at_frame(start + due), [0x99, 38, 127]).unwrap();
        let heard = stage.play(0.2);
        let onset = heard.iter().position(|s| s.abs() > 1e-4).expect("heard") as u64;
        assert!((due..due + 2 * STEP_FRAMES as u64).contains(&onset), "due {due}, heard at {onset}");
    }
}

#[test]
fn events_pushed_out_of_order_sound_in_order() {
    let mut stage = Stage::new();
    stage.writer.push(Stage::at_frame(4_800), [0x80, 69, 0]).unwrap();
    stage.writer.push(Stage::at_frame(480), [0x90, 69, 100]).unwrap();
    assert!(peak(&stage.play(0.1)) > 0.02);
    stage.play(2.0);
    assert!(peak(&stage.play(0.1)) < 1e-3);
}

#[test]
fn all_notes_off_releases_held_and_coming_notes_even_under_the_pedal() {
    let mut stage = Stage::new();
    stage.writer.push(HostTime(0), [0xb0, 64, 127]).unwrap();
    stage.writer.push(HostTime(0), [0x90, 69, 100]).unwrap();
    stage.writer.push(Stage::at_frame(48_000), [0x90, 72, 100]).unwrap();
    stage.play(0.2);
    stage.writer.all_notes_off();
    stage.play(3.0);
    assert!(peak(&stage.play(0.1)) < 1e-3);
}

#[test]
fn flood_and_garbage_are_bounded() {
    let mut stage = Stage::new();
    let mut seed = 1u32;
    for _ in 0..40_000 {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let [a, b, c, d] = seed.to_le_bytes();
        let _ = stage.writer.push(HostTime(u64::from(d) << 56), [a, b, c]);
        if a == 0 {
            assert!(stage.play(0.003).iter().all(|s| s.is_finite()));
        }
    }
    let refused =
        (0..5_000).filter(|_| stage.writer.push(HostTime(u64::MAX), [0x90, 60, 1]).is_err()).count();
    assert!(refused > 0);
    assert!(stage.voice.pending.capacity() == PENDING_EVENTS);
}

#[test]
fn damaged_soundfont_is_an_error() {
    let whole = soundfont::built_in();
    assert!(load_soundfont(Some(b"not a soundfont")).is_err());
    for cut in [0, 10, 100, whole.len() / 2, whole.len() - 10] {
        assert!(load_soundfont(whole.get(..cut)).is_err(), "cut at {cut}");
    }
}
