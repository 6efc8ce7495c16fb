//! A bandmate's hands: the score, on the session's beat, into the input of its node.
//!
//! A bandmate has no sound card. Its `null` device calls an engine as any device would; the performer sits in
//! between and plays an instrument into the input, so that everything from there on (packets, network,
//! playout) is the real thing. Notes are scheduled a moment ahead from an ordinary thread; the callback only
//! renders.

use std::{
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    time::Duration,
};

use engine::{Command, Engine, Handle, HostTime, MidiWriter, SourceId};

use super::score::Part;
use crate::{
    device::{AudioCallback, MAX_PERIOD_FRAMES, OUTPUT_CHANNELS, Opened, monotonic_ns},
    node::Wrap,
};

/// How far ahead notes are scheduled, seconds: several times the pause between two looks.
const AHEAD_S: f64 = 0.12;
/// Pause between two looks at the beat.
const PAUSE: Duration = Duration::from_millis(20);

/// An instrument that was built for a device, on its way to the scheduler.
pub struct Built {
    handle: Handle,
    writer: MidiWriter,
}

/// What goes between a bandmate's device and engine, and the other end for [`perform`].
pub fn instrument() -> (Wrap, Receiver<Built>) {
    // One instrument a device; a device that is reopened builds another.
    let (built, instruments) = sync_channel(4);
    let wrap: Wrap = Box::new(move |next, opened| match hands(next, opened, &built) {
        Ok(callback) => callback,
        Err(silent) => silent,
    });
    (wrap, instruments)
}

/// Plays `part` on the beat that `clock` tells (beats, tempo in beats a minute, playing) until `instruments` ends.
pub async fn perform(part: Part, instruments: Receiver<Built>, clock: impl Fn() -> (f64, f64, bool)) {
    let mut current: Option<Built> = None;
    let mut scheduled: Option<f64> = None;
    let mut offs: Vec<(f64, u8)> = Vec::new();
    loop {
        match instruments.try_recv() {
            Ok(mut built) => {
                let program = [0xC0 | part.channel(), part.program(), 0];
                drop(built.writer.push(HostTime(monotonic_ns()), program));
                current = Some(built);
            }
            Err(std::sync::mpsc::TryRecvError::Disconnected) => return,
            Err(std::sync::mpsc::TryRecvError::Empty) => {}
        }
        if let Some(built) = current.as_mut() {
            while built.handle.poll_report().is_some() {}
            let now = monotonic_ns();
            let (beat, tempo_bpm, playing) = clock();
            if playing {
                let to = beat + AHEAD_S * tempo_bpm / 60.0;
                // After a jump of the beat the window begins anew at the new place, and nothing of the old one sounds on.
                let from = match scheduled {
                    Some(at) if (beat - 1.0..=to).contains(&at) => at,
                    Some(_) => {
                        built.writer.all_notes_off();
                        offs.clear();
                        beat
                    }
                    None => beat,
                };
                let due =
                    |at: f64| HostTime(now.saturating_add(((at - beat).max(0.0) * 60e9 / tempo_bpm) as u64));
                for note in part.notes(from, to) {
                    drop(built.writer.push(due(note.beat), [0x90 | part.channel(), note.key, note.velocity]));
                    offs.push((note.beat + note.length_beats, note.key));
                }
                for (at, key) in offs.extract_if(.., |(at, _)| *at < to) {
                    drop(built.writer.push(due(at), [0x80 | part.channel(), key, 0]));
                }
                scheduled = Some(to);
            } else if scheduled.take().is_some() {
                built.writer.all_notes_off();
                offs.clear();
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Renders the instrument into the input of the engine behind it.
struct Hands {
    instrument: Engine,
    next: Box<dyn AudioCallback>,
    input_channels: usize,
    silence: Vec<f32>,
    rendered: Vec<f32>,
    input: Vec<f32>,
}

impl AudioCallback for Hands {
    fn process(&mut self, _input: &[f32], output: &mut [f32], host_time_ns: u64) {
        let frames = output.len() / OUTPUT_CHANNELS;
        let (Some(silence), Some(rendered), Some(input)) = (
            self.silence.get(..frames),
            self.rendered.get_mut(..frames * OUTPUT_CHANNELS),
            self.input.get_mut(..frames * self.input_channels),
        ) else {
            return self.next.process(&[], output, host_time_ns);
        };
        self.instrument.process(silence, rendered, HostTime(host_time_ns));
        for (to, from) in
            input.chunks_exact_mut(self.input_channels).zip(rendered.chunks_exact(OUTPUT_CHANNELS))
        {
            for (sample, heard) in to.iter_mut().zip(from) {
                *sample = *heard;
            }
        }
        self.next.process(input, output, host_time_ns);
    }
}

fn hands(
    next: Box<dyn AudioCallback>,
    opened: &Opened,
    built: &SyncSender<Built>,
) -> Result<Box<dyn AudioCallback>, Box<dyn AudioCallback>> {
    let config =
        engine::Config { input_channels: 1, ..engine::Config::new(opened.rate_hz, opened.max_period_frames) };
    let Ok((instrument, mut handle)) = engine::engine(config) else { return Err(next) };
    let Ok((writer, sound)) = handle.instrument() else { return Err(next) };
    if handle.send(Command::AddInstrument(SourceId::OWN_INSTRUMENT, sound)).is_err()
        || built.try_send(Built { handle, writer }).is_err()
    {
        return Err(next);
    }
    let frames = opened.max_period_frames.max(MAX_PERIOD_FRAMES);
    let input_channels = opened.input_channels.max(1);
    Ok(Box::new(Hands {
        instrument,
        next,
        input_channels,
        silence: vec![0.0; frames],
        rendered: vec![0.0; frames * OUTPUT_CHANNELS],
        input: vec![0.0; frames * input_channels],
    }))
}
