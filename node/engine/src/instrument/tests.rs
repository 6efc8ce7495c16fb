use std::sync::LazyLock;

use proptest::prelude::*;

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
        Self::with(&load_sounds(None, 48_000).unwrap(), 48_000)
    }

    fn with(sounds: &Sounds, rate_hz: u32) -> Self {
        let (writer, instrument) = instrument(sounds, rate_hz, PERIOD).unwrap();
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
            self.voice.process(&self.clock, false, &mut left, &mut right);
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
fn all_notes_off_forgets_what_came_before_and_nothing_after() {
    let mut stage = Stage::new();
    stage.writer.push(HostTime(0), [0x90, 69, 100]).unwrap();
    stage.writer.all_notes_off();
    stage.writer.push(HostTime(0), [0x90, 45, 100]).unwrap();
    stage.writer.all_notes_off();
    assert!(peak(&stage.play(0.1)) < 1e-3);
    stage.writer.all_notes_off();
    stage.writer.push(HostTime(0), [0xc0, 33, 0]).unwrap();
    stage.writer.push(HostTime(0), [0x90, 45, 100]).unwrap();
    let heard = stage.play(0.6);
    assert!(peak(&heard) > 0.02);
    let found = pitch(&heard[14_400..20_000]);
    assert!((found / 110.0 - 1.0).abs() < 0.02, "{found}");
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
    assert!(load_sounds(Some(b"not a soundfont"), 48_000).is_err());
    for cut in [0, 10, 100, whole.len() / 2, whole.len() - 10] {
        assert!(load_sounds(whole.get(..cut), 48_000).is_err(), "cut at {cut}");
    }
}

fn say(stage: &mut Stage, messages: &[[u8; 3]]) {
    for message in messages {
        stage.writer.push(HostTime(0), *message).unwrap();
    }
}

#[test]
fn bending_beyond_every_loop_only_sounds_odd() {
    for program in [0, 33, 89] {
        for rate_hz in [16_000, 48_000] {
            let mut stage = Stage::with(&load_sounds(None, rate_hz).unwrap(), rate_hz);
            say(&mut stage, &[[0xc0, program, 0], [0xb0, 101, 0], [0xb0, 100, 0], [0xb0, 6, 127]]);
            say(&mut stage, &[[0x90, 60, 100], [0x90, 127, 100], [0xe0, 127, 127], [0xb0, 1, 127]]);
            assert!(stage.play(0.3).iter().all(|s| s.is_finite()));
            say(&mut stage, &[[0xb0, 101, 0], [0xb0, 100, 2], [0xb0, 6, 127]]);
            assert!(stage.play(0.3).iter().all(|s| s.is_finite()));
        }
    }
}

#[test]
fn bends_and_tuning_are_heard_at_their_pitch() {
    let bent = |messages: &[[u8; 3]]| {
        let mut stage = Stage::new();
        say(&mut stage, messages);
        say(&mut stage, &[[0x90, 69, 100]]);
        pitch(&stage.play(0.6)[14_400..20_000])
    };
    let range = [[0xb0, 101, 0], [0xb0, 100, 0], [0xb0, 6, 48]];
    for (messages, hz) in [
        (vec![[0xe0, 0, 0]], 392.0),
        (vec![range[0], range[1], range[2], [0xe0, 0, 48]], 220.0),
        (vec![range[0], range[1], range[2], [0xe0, 0, 48], [0xb0, 121, 0]], 440.0),
        (vec![[0xb0, 101, 0], [0xb0, 100, 2], [0xb0, 6, 57]], 293.66),
    ] {
        let found = bent(&messages);
        assert!((found / hz - 1.0f32).abs() < 0.02, "{messages:?}: {found} Hz instead of {hz}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn no_sequence_of_bends_tunings_and_notes_stops_the_callback(
        rate_hz in prop::sample::select(vec![16_000, 44_100, 48_000, 192_000]),
        steps in prop::collection::vec(
            (0u8..16, prop_oneof![
                (0x80u8..0xf0, any::<u8>(), any::<u8>()).prop_map(|(kind, a, b)| vec![[kind & 0xf0, a, b]]),
                (0u8..3, 0u8..128).prop_map(|(parameter, value)| {
                    vec![[0xb0, 101, 0], [0xb0, 100, parameter], [0xb0, 6, value]]
                }),
                (100u8..128).prop_map(|key| vec![[0x90, key, 127]]),
                (0u8..128).prop_map(|bend| vec![[0xe0, 127, bend]]),
                prop::sample::select(vec![0, 33, 89]).prop_map(|program| vec![[0xc0, program, 0]]),
            ]),
            1..40,
        ),
    ) {
        static SOUNDS: LazyLock<Sounds> = LazyLock::new(|| load_sounds(None, 16_000).unwrap());
        let mut stage = Stage::with(&SOUNDS, rate_hz);
        for (channel, messages) in steps {
            for [kind, first, second] in messages {
                stage.writer.push(HostTime(0), [kind | channel, first, second]).unwrap();
            }
            prop_assert!(stage.play(0.006).iter().all(|s| s.is_finite()));
        }
    }
}

/// A font of one sound: a square wave with this loop, over all keys.
fn square(loop_frames: usize, zone: &[(u16, u16)]) -> Vec<u8> {
    let wave = (0..1_000).map(|n| if n / 4 % 2 == 0 { 0.5 } else { -0.5 }).collect();
    soundfont::one_sound(60, wave, loop_frames, zone)
}

const LOOPS: (u16, u16) = (54, 1);

#[test]
fn font_whose_loops_are_too_short_for_its_keys_is_refused() {
    let error = load_sounds(Some(&square(8, &[LOOPS])), 48_000).unwrap_err();
    assert!(error.contains("loop") && error.contains("Sound"), "{error}");
    load_sounds(Some(&square(8, &[])), 48_000).expect("without a loop it is only short");
    load_sounds(Some(&square(800, &[LOOPS])), 48_000).expect("long enough");
    let to_key = |key: u16| [(43, key << 8), LOOPS];
    load_sounds(Some(&square(8, &to_key(72))), 48_000).expect("for the keys it is meant for");
    // Fine where two frames pass in one, not where six do.
    assert!(load_sounds(Some(&square(8, &to_key(84))), 48_000).is_ok());
    assert!(load_sounds(Some(&square(8, &to_key(84))), 16_000).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn font_that_is_taken_bears_everything(
        loop_frames in prop_oneof![1usize..64, 1usize..1_000],
        // Tunings, scale, root key, wobbles, kinds of loop.
        zone in prop::collection::vec(
            (prop::sample::select(vec![5u16, 6, 7, 51, 52, 54, 56, 58, 25, 26, 27, 28, 22, 24]), any::<i16>(),
                0u32..16)
                .prop_map(|(kind, value, shift)| (kind, (value >> shift) as u16)),
            0..6,
        ),
        keys in prop::collection::vec(0u8..128, 1..6),
        bends in prop::collection::vec(0u8..128, 1..6),
    ) {
        let mut zone = zone;
        zone.push(LOOPS);
        if let Ok(sounds) = load_sounds(Some(&square(loop_frames, &zone)), 16_000) {
            let mut stage = Stage::with(&sounds, 16_000);
            say(&mut stage, &[[0xb0, 101, 0], [0xb0, 100, 0], [0xb0, 6, 127], [0xb0, 1, 127]]);
            for (key, bend) in keys.iter().zip(&bends) {
                say(&mut stage, &[[0x90, *key, 127], [0x90, 127, 127], [0x90, 0, 127], [0xe0, 127, *bend]]);
                prop_assert!(stage.play(0.02).iter().all(|s| s.is_finite()));
            }
        }
    }
}
