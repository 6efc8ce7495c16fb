//! The built-in sounds.
//!
//! A node must be able to play a bandmate's notes at first start, offline, without a hundred megabytes of
//! somebody's recordings. So a small SoundFont (SoundFont Technical Specification 2.04) is synthesised in
//! memory: an electric piano, a bass, a pad and a drum kit, on the General MIDI programs where players expect
//! them.

/// Sample rate at which 128 frames are one period of middle C, so that loops close without a seam.
const RATE_HZ: u32 = 33_488;
/// Silence the specification asks for after every sample.
const GUARD_FRAMES: usize = 46;

const DELAY: u16 = 33;
const ATTACK: u16 = 34;
const DECAY: u16 = 36;
const SUSTAIN: u16 = 37;
const RELEASE: u16 = 38;
const INSTRUMENT: u16 = 41;
const KEY_RANGE: u16 = 43;
const ATTENUATION: u16 = 48;
const SAMPLE: u16 = 53;
const LOOPS: u16 = 54;
const SCALE_TUNING: u16 = 56;
const EXCLUSIVE_CLASS: u16 = 57;
const ROOT_KEY: u16 = 58;

/// The bytes of a SoundFont 2 file.
pub(super) fn built_in() -> Vec<u8> {
    let mut font = Font::default();
    let piano = font.sample("e-piano", 60, electric_piano(), Some(128 * 8));
    let bass = font.sample("bass", 36, bass(), Some(512 * 8));
    let pad = font.sample("pad", 60, pad(), Some(PAD_FRAMES));
    let piano = font.instrument(
        "E-Piano",
        &[vec![
            (DECAY, timecents(9.0)),
            (SUSTAIN, 1_000),
            (RELEASE, timecents(0.25)),
            (LOOPS, 1),
            (SAMPLE, piano),
        ]],
    );
    let bass = font.instrument(
        "Bass",
        &[vec![
            (DECAY, timecents(6.0)),
            (SUSTAIN, 1_000),
            (RELEASE, timecents(0.12)),
            (LOOPS, 1),
            (SAMPLE, bass),
        ]],
    );
    let pad = font.instrument(
        "Pad",
        &[vec![
            (ATTACK, timecents(0.25)),
            (RELEASE, timecents(0.8)),
            (ATTENUATION, 60),
            (LOOPS, 1),
            (SAMPLE, pad),
        ]],
    );
    let kit = drum_kit(&mut font);

    for program in 0..32 {
        font.preset(0, program, piano);
    }
    for program in 32..40 {
        font.preset(0, program, bass);
    }
    for program in (40..56).chain(88..96) {
        font.preset(0, program, pad);
    }
    font.preset(128, 0, kit);
    font.into_bytes()
}

/// A font of one sound on all programs, to be judged.
#[cfg(test)]
pub(super) fn one_sound(root_key: u8, wave: Vec<f32>, looped: usize, zone: &[(u16, u16)]) -> Vec<u8> {
    let mut font = Font::default();
    let sample = font.sample("sound", root_key, wave, Some(looped));
    let zone = [zone, &[(SAMPLE, sample)]].concat();
    let instrument = font.instrument("Sound", &[zone]);
    font.preset(0, 0, instrument);
    font.into_bytes()
}

fn drum_kit(font: &mut Font) -> u16 {
    let kick = font.sample("kick", 60, drum(0.35, |t, _| sweep(t, 45.0, 160.0, 0.03) * fall(t, 0.1)), None);
    let snare = font.sample(
        "snare",
        60,
        drum(0.3, |t, noise| 0.5 * sine(t, 190.0) * fall(t, 0.05) + 0.6 * noise * fall(t, 0.07)),
        None,
    );
    let closed =
        font.sample("closed hat", 60, drum(0.1, |t, noise| 0.7 * metal(t, noise) * fall(t, 0.018)), None);
    let open = font.sample("open hat", 60, drum(0.6, |t, noise| 0.7 * metal(t, noise) * fall(t, 0.15)), None);
    let crash = font.sample("crash", 60, drum(1.4, |t, noise| 0.8 * metal(t, noise) * fall(t, 0.4)), None);
    let ride = font.sample(
        "ride",
        60,
        drum(1.0, |t, noise| 0.4 * metal(t, noise) * fall(t, 0.3) + 0.3 * sine(t, 2_780.0) * fall(t, 0.1)),
        None,
    );
    let clap = font.sample(
        "clap",
        60,
        drum(0.25, |t, noise| noise * (fall(t, 0.06) * if t < 0.03 { (t * 100.0).fract() } else { 1.0 })),
        None,
    );
    let tom = font.sample("tom", 47, drum(0.5, |t, _| sweep(t, 110.0, 60.0, 0.05) * fall(t, 0.15)), None);

    let hit = |low: u16, high: u16, sample: u16| {
        vec![(KEY_RANGE, low | high << 8), (RELEASE, timecents(1.5)), (SCALE_TUNING, 0), (SAMPLE, sample)]
    };
    let hat = |key: u16, sample: u16| {
        vec![
            (KEY_RANGE, key | key << 8),
            (RELEASE, timecents(1.0)),
            (SCALE_TUNING, 0),
            (EXCLUSIVE_CLASS, 1),
            (SAMPLE, sample),
        ]
    };
    let toms = |low: u16, high: u16| {
        vec![(KEY_RANGE, low | high << 8), (RELEASE, timecents(1.5)), (ROOT_KEY, 47), (SAMPLE, tom)]
    };
    font.instrument(
        "Drum kit",
        &[
            hit(35, 36, kick),
            hit(37, 38, snare),
            hit(39, 39, clap),
            hit(40, 40, snare),
            toms(41, 41),
            hat(42, closed),
            toms(43, 43),
            hat(44, closed),
            toms(45, 45),
            hat(46, open),
            toms(47, 48),
            hit(49, 49, crash),
            toms(50, 50),
            hit(51, 51, ride),
            hit(52, 52, crash),
            hit(53, 53, ride),
            hit(55, 57, crash),
            hit(59, 59, ride),
        ],
    )
}

/// A struck tine: a bell that dies within half a second over a mellow tone that stays.
fn electric_piano() -> Vec<f32> {
    (0..128 * 220)
        .map(|n| {
            let t = n as f32 / RATE_HZ as f32;
            let phase = (n % 128) as f32 / 128.0;
            let bell =
                0.25 * fall(t, 0.09) * partial(phase, 14.0) + 0.15 * fall(t, 0.05) * partial(phase, 7.0);
            let tone = 0.55 * partial(phase, 1.0) + 0.18 * partial(phase, 2.0) + 0.06 * partial(phase, 3.0);
            0.8 * (tone + bell)
        })
        .collect()
}

/// A plucked string: the upper partials die first.
fn bass() -> Vec<f32> {
    (0..512 * 56)
        .map(|n| {
            let t = n as f32 / RATE_HZ as f32;
            let phase = (n % 512) as f32 / 512.0;
            let string: f32 = (1..14)
                .map(|k| {
                    let k = k as f32;
                    let stays = if k < 4.0 { 0.5 } else { 0.0 };
                    partial(phase, k) / k * (stays + (1.0 - stays) * fall(t, 0.35 / k))
                })
                .sum();
            0.5 * string
        })
        .collect()
}

const PAD_FRAMES: usize = 128 * 256;

/// Slightly detuned partials that all close over one long loop.
fn pad() -> Vec<f32> {
    let partials: Vec<(f32, f32, f32)> = [1.0f32, 2.0, 3.0, 4.0, 6.0]
        .iter()
        .flat_map(|&k| {
            [(-1.0, 0.3), (0.0, 0.0), (1.0, 0.7)]
                .map(|(off, phase)| (256.0 * k + off * k.sqrt().round(), 0.22 / k, phase * k))
        })
        .collect();
    (0..PAD_FRAMES)
        .map(|n| {
            let turn = n as f32 / PAD_FRAMES as f32;
            partials
                .iter()
                .map(|(cycles, level, phase)| {
                    level * (std::f32::consts::TAU * ((turn * cycles).fract() + phase)).sin()
                })
                .sum()
        })
        .collect()
}

fn drum(seconds: f32, wave: impl Fn(f32, f32) -> f32) -> Vec<f32> {
    let mut seed = 22_222u32;
    (0..(seconds * RATE_HZ as f32) as usize)
        .map(|n| {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let noise = seed as f32 / u32::MAX as f32 * 2.0 - 1.0;
            let t = n as f32 / RATE_HZ as f32;
            let end = (1.0 - t / seconds).min(0.05) / 0.05;
            (0.9 * wave(t, noise) * end).clamp(-1.0, 1.0)
        })
        .collect()
}

fn partial(phase: f32, number: f32) -> f32 {
    (std::f32::consts::TAU * phase * number).sin()
}

fn sine(t: f32, hz: f32) -> f32 {
    (std::f32::consts::TAU * hz * t).sin()
}

fn fall(t: f32, seconds: f32) -> f32 {
    (-t / seconds).exp()
}

/// A tone that falls from `hz + extra_hz` to `hz`.
fn sweep(t: f32, hz: f32, extra_hz: f32, seconds: f32) -> f32 {
    (std::f32::consts::TAU * (hz * t + extra_hz * seconds * (1.0 - fall(t, seconds)))).sin()
}

fn metal(t: f32, noise: f32) -> f32 {
    let ring: f32 = [3_170.0, 4_430.0, 5_930.0, 7_210.0].iter().map(|hz| sine(t, *hz).signum()).sum();
    0.6 * noise + 0.12 * ring
}

/// Seconds as the specification counts them: 1200 to the octave, 0 at one second.
fn timecents(seconds: f32) -> u16 {
    (1_200.0 * seconds.log2()) as i16 as u16
}

/// The most negative time means none at all; what a zone leaves out is a millisecond each of delay and
/// attack.
const AT_ONCE: u16 = 0x8000;

type Generators = Vec<(u16, u16)>;

#[derive(Default)]
struct Font {
    frames: Vec<i16>,
    sample_headers: Vec<u8>,
    samples: u16,
    instruments: Vec<(String, Vec<Generators>)>,
    presets: Vec<(u16, u16, u16)>,
}

impl Font {
    /// Adds a sample that sounds at `root_key`; `looped` is the length of the loop at its end.
    fn sample(&mut self, name: &str, root_key: u8, wave: Vec<f32>, looped: Option<usize>) -> u16 {
        let start = self.frames.len();
        let end = start + wave.len();
        self.frames.extend(wave.iter().map(|s| (s.clamp(-1.0, 1.0) * 32_000.0) as i16));
        // An interpolating player reads past the end of a loop; what follows there is its beginning.
        let after = looped.map_or(0, |length| wave.len() - length.min(wave.len()));
        let tail: Vec<i16> =
            (0..GUARD_FRAMES)
                .map(|n| {
                    if looped.is_some() {
                        self.frames.get(start + after + n).copied().unwrap_or(0)
                    } else {
                        0
                    }
                })
                .collect();
        self.frames.extend(tail);
        push_name(&mut self.sample_headers, name);
        for value in [start, end, end - looped.unwrap_or(0).min(wave.len()), end] {
            self.sample_headers.extend((value as u32).to_le_bytes());
        }
        self.sample_headers.extend(RATE_HZ.to_le_bytes());
        self.sample_headers.extend([root_key, 0, 0, 0, 1, 0]);
        self.samples += 1;
        self.samples - 1
    }

    fn instrument(&mut self, name: &str, zones: &[Generators]) -> u16 {
        self.instruments.push((name.to_owned(), zones.to_vec()));
        (self.instruments.len() - 1) as u16
    }

    fn preset(&mut self, bank: u16, program: u16, instrument: u16) {
        self.presets.push((bank, program, instrument));
    }

    fn into_bytes(self) -> Vec<u8> {
        let mut info = Vec::from(*b"INFO");
        push_chunk(&mut info, *b"ifil", &[2, 0, 4, 0]);
        push_chunk(&mut info, *b"INAM", b"Bandmesh\0\0");

        let mut data = Vec::from(*b"sdta");
        let frames: Vec<u8> = self.frames.iter().flat_map(|s| s.to_le_bytes()).collect();
        push_chunk(&mut data, *b"smpl", &frames);

        let mut file = Vec::from(*b"sfbk");
        push_chunk(&mut file, *b"LIST", &info);
        push_chunk(&mut file, *b"LIST", &data);
        let parameters = self.parameters();
        push_chunk(&mut file, *b"LIST", &parameters);
        let mut riff = Vec::new();
        push_chunk(&mut riff, *b"RIFF", &file);
        riff
    }

    fn parameters(self) -> Vec<u8> {
        let (mut headers, mut bags, mut generators) = (Vec::new(), Vec::new(), Vec::new());
        for (n, (bank, program, instrument)) in self.presets.iter().enumerate() {
            push_name(&mut headers, "Bandmesh");
            push_words(&mut headers, &[*program, *bank, n as u16]);
            headers.extend([0; 12]);
            push_words(&mut bags, &[n as u16, 0]);
            push_words(&mut generators, &[INSTRUMENT, *instrument]);
        }
        let count = self.presets.len() as u16;
        push_name(&mut headers, "EOP");
        push_words(&mut headers, &[0, 0, count]);
        headers.extend([0; 12]);
        push_words(&mut bags, &[count, 0]);
        push_words(&mut generators, &[0, 0]);

        let mut out = Vec::from(*b"pdta");
        push_chunk(&mut out, *b"phdr", &headers);
        push_chunk(&mut out, *b"pbag", &bags);
        push_chunk(&mut out, *b"pmod", &[0; 10]);
        push_chunk(&mut out, *b"pgen", &generators);

        let (mut headers, mut bags, mut generators) = (Vec::new(), Vec::new(), Vec::new());
        let (mut bag, mut generator) = (0u16, 0u16);
        for (name, zones) in &self.instruments {
            push_name(&mut headers, name);
            push_words(&mut headers, &[bag]);
            for zone in zones {
                push_words(&mut bags, &[generator, 0]);
                bag += 1;
                let (first, rest) =
                    zone.split_at(usize::from(zone.first().is_some_and(|g| g.0 == KEY_RANGE)));
                let at_once = [(DELAY, AT_ONCE), (ATTACK, AT_ONCE)];
                for (kind, value) in first.iter().chain(&at_once).chain(rest) {
                    push_words(&mut generators, &[*kind, *value]);
                    generator += 1;
                }
            }
        }
        push_name(&mut headers, "EOI");
        push_words(&mut headers, &[bag]);
        push_words(&mut bags, &[generator, 0]);
        push_words(&mut generators, &[0, 0]);
        push_chunk(&mut out, *b"inst", &headers);
        push_chunk(&mut out, *b"ibag", &bags);
        push_chunk(&mut out, *b"imod", &[0; 10]);
        push_chunk(&mut out, *b"igen", &generators);

        let mut headers = self.sample_headers;
        push_name(&mut headers, "EOS");
        headers.extend([0; 26]);
        push_chunk(&mut out, *b"shdr", &headers);
        out
    }
}

fn push_chunk(out: &mut Vec<u8>, id: [u8; 4], body: &[u8]) {
    out.extend(id);
    out.extend((body.len() as u32).to_le_bytes());
    out.extend(body);
}

fn push_words(out: &mut Vec<u8>, words: &[u16]) {
    out.extend(words.iter().flat_map(|word| word.to_le_bytes()));
}

/// Names are 20 bytes, padded with zeros.
fn push_name(out: &mut Vec<u8>, name: &str) {
    let mut bytes = [0; 20];
    for (slot, byte) in bytes.iter_mut().zip(name.bytes().take(19)) {
        *slot = byte;
    }
    out.extend(bytes);
}
