//! Everything the callback can meet, at once and for minutes of audio.

#![allow(clippy::unwrap_used, reason = "a test's stage may fall")]

use engine::{
    Command, Config, Engine, Handle, HostTime, Input, Metronome, MidiWriter, Monitor, SourceConfig, SourceId,
    SourceWriter, Strip, StripId, TapReader, Timeline, Tone, engine,
};

pub(crate) const PERIOD: usize = 64;
const RATE_HZ: u64 = 48_000;

/// What happens to a sender's blocks.
#[derive(Clone, Copy)]
enum Path {
    Perfect,
    Lossy,
    Jittery,
    /// The sound card runs 300 ppm fast.
    Drifting,
    /// Jumps to other timestamps, now without a pause, now after one.
    Restarting,
    /// Rubbish samples, timestamps and sizes.
    Hostile,
}

struct Sender {
    writer: SourceWriter,
    path: Path,
    rate_hz: u64,
    channels: usize,
    sent_frames: u64,
    held_back: Vec<(i64, Vec<f32>)>,
}

/// The side that feeds the callback; may allocate.
pub(crate) struct Band {
    handle: Handle,
    senders: Vec<Sender>,
    keyboard: MidiWriter,
    taps: Vec<TapReader>,
    random: u64,
    callback: u64,
    pub(crate) read_frames: usize,
    pub(crate) reports: usize,
}

pub(crate) fn host_time(callback: u64) -> HostTime {
    HostTime(1_000_000_000 + callback * PERIOD as u64 * 1_000_000_000 / RATE_HZ)
}

pub(crate) fn stage() -> (Engine, Band) {
    let config =
        Config { input_channels: 2, max_sources: 12, trace: true, ..Config::new(RATE_HZ as u32, PERIOD) };
    let (engine, mut handle) = engine(config).unwrap();
    let mut senders = Vec::new();
    let parts = [
        (Path::Perfect, 48_000, 2),
        (Path::Lossy, 48_000, 1),
        (Path::Jittery, 48_000, 2),
        (Path::Drifting, 48_000, 1),
        (Path::Restarting, 48_000, 1),
        (Path::Hostile, 48_000, 2),
        (Path::Lossy, 44_100, 2),
        (Path::Jittery, 96_000, 1),
    ];
    for (n, (path, rate_hz, channels)) in parts.into_iter().enumerate() {
        let (writer, source) = handle.source(SourceConfig::new(rate_hz as u32, channels)).unwrap();
        handle.send(Command::AddSource(SourceId(n as u32), source)).unwrap();
        senders.push(Sender { writer, path, rate_hz, channels, sent_frames: 0, held_back: Vec::new() });
    }
    let (keyboard, instrument) = handle.instrument().unwrap();
    handle.send(Command::AddInstrument(SourceId(0), instrument)).unwrap();
    handle.send(Command::SetMetronome(Metronome { on: true, gain_db: -6.0 })).unwrap();
    handle.send(Command::SetMonitor(StripId::Own, Monitor { gain_db: -3.0, ..Monitor::default() })).unwrap();
    handle.send(Command::SetOutputLatency { frames: 100 }).unwrap();
    let taps = vec![
        handle.take_capture().unwrap(),
        handle.take_played().unwrap(),
        handle.take_heard().unwrap(),
        handle.take_analysis().unwrap(),
    ];
    let band = Band { handle, senders, keyboard, taps, random: 1, callback: 0, read_frames: 0, reports: 0 };
    (engine, band)
}

impl Band {
    /// Prepares what the next callback meets.
    pub(crate) fn prepare(&mut self) {
        let callback = self.callback;
        let now = host_time(callback);
        for n in 0..self.senders.len() {
            let dice = self.dice();
            if let Some(sender) = self.senders.get_mut(n) {
                sender.send(callback, now, dice);
            }
        }
        self.play_keys(now);
        self.turn_knobs();
        while self.handle.poll_report().is_some() {
            self.reports += 1;
        }
        for tap in &mut self.taps {
            while let Some(block) = tap.next_block() {
                self.read_frames += block.samples.len() / block.channels;
            }
        }
        self.callback += 1;
    }

    fn play_keys(&mut self, now: HostTime) {
        let dice = self.dice();
        let key = 36 + (dice >> 8 & 0x3f) as u8;
        let status = match dice >> 16 & 7 {
            0 => 0x99,
            1 | 2 => 0x90,
            3 | 4 => 0x80,
            5 => 0xe0,
            6 => 0xc0,
            _ => 0xb0,
        };
        if dice & 7 == 0 {
            let _ = self
                .keyboard
                .push(HostTime(now.0 + (dice & 0xf_ffff)), [status, key, (dice >> 24 & 0x7f) as u8]);
        }
        if self.callback.is_multiple_of(5_000) {
            self.keyboard.all_notes_off();
        }
    }

    fn turn_knobs(&mut self) {
        let dice = self.dice();
        let id = SourceId((dice >> 8 & 7) as u32);
        let now = host_time(self.callback);
        let gain_db = (dice >> 16 & 0x1f) as f32 - 20.0;
        let command = match dice % 400 {
            0 => Command::SetStrip(
                StripId::Source(id),
                Strip { gain_db, pan: gain_db / 20.0, mute: gain_db < -15.0, solo: gain_db > 9.0 },
            ),
            1 => Command::SetMonitor(
                StripId::Source(id),
                Monitor { gain_db, pan: gain_db / 30.0, solo: gain_db > 8.0, ..Monitor::default() },
            ),
            2 => Command::SetInput(Input { gain_db, mute: gain_db > 5.0 }),
            3 => Command::SetMasterGain { gain_db: gain_db.max(-6.0) },
            4 => Command::SetTimeline(Timeline {
                tempo_bpm: 130.0,
                beat: 0.0,
                at: now,
                quantum: 4.0,
                playing: true,
            }),
            5 => Command::AllNotesOff(SourceId(0)),
            6 => Command::SetSourceRate(SourceId(1), 48_000.5),
            // A player who comes and goes, and one for whom there is no room.
            7 => {
                Command::AddSource(SourceId(20), self.handle.source(SourceConfig::new(48_000, 1)).unwrap().1)
            }
            8 => Command::RemoveSource(SourceId(20)),
            9 => Command::AddInstrument(SourceId(20), self.handle.instrument().unwrap().1),
            10 => Command::RemoveInstrument(SourceId(20)),
            11 => Command::AddSource(
                SourceId(30 + (dice >> 40 & 7) as u32),
                self.handle.source(SourceConfig::new(44_100, 2)).unwrap().1,
            ),
            12 => Command::RemoveSource(SourceId(30 + (dice >> 40 & 7) as u32)),
            13 => Command::SetTestTone(Tone { level_db: gain_db, frames: (dice >> 24) % 9_600 }),
            _ => return,
        };
        self.handle.send(command).unwrap();
    }

    fn dice(&mut self) -> u64 {
        self.random =
            self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.random >> 16
    }

    /// Concealments of all senders, resets, and the drift found for the one that drifts.
    pub(crate) fn outcome(&self) -> (u64, u64, f32) {
        let counters = self.senders.iter().map(|sender| sender.writer.stats().counters());
        let (events, resets) = counters
            .fold((0, 0), |(events, resets), c| (events + c.concealment_events, resets + c.buffer_resets));
        (events, resets, self.senders.get(3).map_or(0.0, |sender| sender.writer.stats().drift_ppm()))
    }
}

impl Sender {
    fn send(&mut self, callback: u64, now: HostTime, dice: u64) {
        let fast = if matches!(self.path, Path::Drifting) { 1.0003 } else { 1.0 };
        let due =
            ((callback + 1) as f64 * PERIOD as f64 * self.rate_hz as f64 / RATE_HZ as f64 * fast) as u64;
        while self.sent_frames + PERIOD as u64 <= due {
            let timestamp = self.sent_frames as i64;
            let mut block: Vec<f32> = (0..PERIOD * self.channels)
                .map(|n| 0.4 * ((self.sent_frames as f32 + (n / self.channels) as f32) * 0.03).sin())
                .collect();
            self.sent_frames += PERIOD as u64;
            match self.path {
                Path::Perfect | Path::Drifting => self.push(timestamp, now, &block),
                Path::Lossy if dice.is_multiple_of(29) => {}
                Path::Lossy => self.push(timestamp, now, &block),
                Path::Jittery if dice.is_multiple_of(3) && self.held_back.len() < 20 => {
                    self.held_back.push((timestamp, block));
                }
                Path::Jittery => {
                    for (timestamp, block) in std::mem::take(&mut self.held_back) {
                        self.push(timestamp, now, &block);
                    }
                    self.push(timestamp, now, &block);
                    self.push(timestamp, now, &block);
                }
                Path::Restarting => {
                    let life = callback / 1_000;
                    if callback % 2_000 < 1_600 {
                        self.push(timestamp - life as i64 * 9_999_999, now, &block);
                    }
                }
                Path::Hostile => {
                    block.fill(f32::from_bits(dice as u32));
                    let timestamp = if dice.is_multiple_of(5) { dice as i64 } else { timestamp };
                    block.truncate((dice >> 7) as usize % 200);
                    self.push(timestamp, HostTime(dice), &block);
                }
            }
        }
    }

    fn push(&mut self, timestamp: i64, now: HostTime, block: &[f32]) {
        // A hostile block may be refused; so may any while nobody takes them.
        let _ = self.writer.push(timestamp, now, block);
    }
}
