//! The audio callback, from top to bottom.
//!
//! ```text
//! input ─ input gain ─┬─ mute ─ capture tap (packetiser), played tap (recorder)
//!                     └─ own strip ─────────┐
//! remote source ─┐                          │       test tone ─┐
//! its instrument ┴─ strip × my monitor ─────┼─ sum ─ master ───┴─ limiter ─ output, heard tap
//! metronome ────────────────────────────────┘
//! input (mono), output ── analysis tap (loudness, feedback)
//! ```
//!
//! Invariants: nothing here allocates, frees, locks, waits, logs or enters the kernel; time per callback is
//! bounded by the number of slots and the sizes of the queues; at 0 dB with nothing to correct, samples pass
//! bit for bit.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use rtrb::{Consumer, Producer};

use crate::frame_clock::FrameClock;
use crate::gain::{Ramp, from_db, scrubbed};
use crate::instrument::InstrumentVoice;
use crate::limiter::Limiter;
use crate::message::{Command, HostTime, Input, Monitor, Report, Returned, SourceId, Strip, StripId};
use crate::metronome::Click;
use crate::source::{Callback, SourceStream, StreamEvent};
use crate::stats::EngineStats;
use crate::tap::Tap;
use crate::timeline::Timeline;
use crate::tone::TestTone;
use crate::trace::{CallbackTrace, Trace, hash};

/// Channels of the analysis tap: left, right, input.
pub(crate) const ANALYSIS_CHANNELS: usize = 3;
const RAMP_SECONDS: f32 = 0.005;
/// Commands taken per callback; the rest waits for the next.
const COMMANDS_PER_CALLBACK: u32 = 64;
/// Predictors fitted per callback, one per channel: each takes some 10 us, and a stall of the whole network
/// asks for all at once.
const FITS_PER_CALLBACK: u32 = 8;

/// The audio thread's half of the engine.
#[derive(Debug)]
pub struct Engine {
    pub(crate) rate_hz: u32,
    pub(crate) max_period_frames: usize,
    pub(crate) input_channels: usize,
    pub(crate) commands: Consumer<Command>,
    pub(crate) reports: Producer<Report>,
    pub(crate) returns: Producer<Returned>,
    pub(crate) capture: Tap,
    pub(crate) played: Tap,
    pub(crate) heard: Tap,
    pub(crate) analysis: Tap,
    pub(crate) trace: Option<Trace>,
    pub(crate) stats: Arc<EngineStats>,
    pub(crate) slots: Vec<Slot>,
    pub(crate) own: Channel,
    pub(crate) input_gain: Ramp,
    pub(crate) input_mute: Ramp,
    pub(crate) master: Ramp,
    pub(crate) click: Click,
    pub(crate) tone: TestTone,
    pub(crate) timeline: Timeline,
    pub(crate) limiter: Limiter,
    pub(crate) clock: FrameClock,
    pub(crate) position_frames: u64,
    pub(crate) output_latency_frames: u32,
    /// The input after its gain, interleaved.
    pub(crate) sent: Vec<f32>,
    /// Left, right and input in mono, interleaved.
    pub(crate) analysed: Vec<f32>,
    pub(crate) left: Vec<f32>,
    pub(crate) right: Vec<f32>,
}

impl Engine {
    /// Runs one callback: `input` is interleaved with the configured number of channels (what is missing is
    /// silence), `output` interleaved stereo of the same number of frames, `host_time` when the callback
    /// began.
    ///
    /// Thread-safe: no, the audio thread only. Realtime-safe: yes.
    pub fn process(&mut self, input: &[f32], output: &mut [f32], host_time: HostTime) {
        #[allow(unsafe_code, reason = "the only way to keep denormals from costing a hundredfold")]
        // SAFETY: the processor flags are put back before anything but this closure runs, and its arithmetic
        // is right whether a denormal counts as itself or as zero.
        unsafe {
            no_denormals::no_denormals(|| self.process_all(input, output, host_time));
        }
    }

    /// Devices may ask for more than they promised; then it is done in parts.
    fn process_all(&mut self, input: &[f32], output: &mut [f32], host_time: HostTime) {
        let mut done = 0usize;
        for part in output.chunks_mut(2 * self.max_period_frames) {
            let frames = part.len() / 2;
            let begin = (done * self.input_channels).min(input.len());
            let end = ((done + frames) * self.input_channels).min(input.len());
            let since = done as u64 * 1_000_000_000 / u64::from(self.rate_hz);
            let host_time = HostTime(host_time.0.saturating_add(since));
            self.process_period(input.get(begin..end).unwrap_or(&[]), part, host_time);
            done += frames;
        }
    }

    fn process_period(&mut self, input: &[f32], output: &mut [f32], host_time: HostTime) {
        let frames = output.len() / 2;
        if frames == 0 {
            return;
        }
        let seconds = frames as f32 / self.rate_hz as f32;
        self.clock.handle_callback(host_time, frames);
        let commands = self.take_commands();
        if let Some(trace) = &mut self.trace {
            trace.begin(self.slots.len());
        }
        self.take_input(input, frames, seconds);
        output.fill(0.0);
        self.mix_own(output, frames);
        self.keep_input_for_analysis();
        self.send(frames, host_time);
        self.mix_sources(output, frames, host_time);
        self.mix_click(output);
        self.finish(output, host_time, seconds);
        if let Some(trace) = &mut self.trace {
            trace.callback(CallbackTrace {
                position_frames: self.position_frames,
                host_time,
                frames: frames as u32,
                commands,
                input_hash: hash(input),
            });
        }
        self.position_frames += frames as u64;
    }

    /// The input as it came, measured, and with its gain.
    fn take_input(&mut self, input: &[f32], frames: usize, seconds: f32) {
        let length = frames * self.input_channels;
        let Some(sent) = self.sent.get_mut(..length) else { return };
        let (given, missing) = sent.split_at_mut(input.len().min(length));
        for (out, sample) in given.iter_mut().zip(input) {
            *out = scrubbed(*sample);
        }
        missing.fill(0.0);
        self.stats.input.measure(sent, seconds);
        apply(&mut self.input_gain, sent, self.input_channels);
    }

    /// The mute, then the taps.
    fn send(&mut self, frames: usize, host_time: HostTime) {
        let Some(sent) = self.sent.get_mut(..frames * self.input_channels) else { return };
        apply(&mut self.input_mute, sent, self.input_channels);
        self.capture.write(self.position_frames, host_time, sent);
        self.played.write(self.position_frames, host_time, sent);
    }

    fn mix_own(&mut self, output: &mut [f32], frames: usize) {
        if self.own.is_silent() || self.input_channels == 0 {
            return;
        }
        let right = usize::from(self.input_channels > 1);
        for (out, frame) in
            output.chunks_exact_mut(2).zip(self.sent.chunks_exact(self.input_channels)).take(frames)
        {
            let (gain_left, gain_right) = self.own.advance();
            if let ([left_out, right_out], Some(l), Some(r)) = (out, frame.first(), frame.get(right)) {
                *left_out += l * gain_left;
                *right_out += r * gain_right;
            }
        }
    }

    fn mix_sources(&mut self, output: &mut [f32], frames: usize, host_time: HostTime) {
        let mut callback =
            Callback { clock: &self.clock, host_time, frames, fits_left: &mut { FITS_PER_CALLBACK } };
        let mut somebody_left = false;
        for slot in &mut self.slots {
            let Some(id) = slot.id else { continue };
            let (Some(left), Some(right)) = (self.left.get_mut(..frames), self.right.get_mut(..frames))
            else {
                return;
            };
            left.fill(0.0);
            right.fill(0.0);
            if let Some(stream) = slot.stream.as_mut() {
                let event = stream.process(&mut callback);
                if let Some(event) = event {
                    let report = match event {
                        StreamEvent::Started => Report::SourceStarted(id, host_time),
                        StreamEvent::Stopped => Report::SourceStopped(id),
                        StreamEvent::Reset => Report::BufferReset(id),
                    };
                    tell(&mut self.reports, &self.stats, report);
                }
                if let Some(trace) = &mut self.trace {
                    trace.source(stream.trace(id, frames));
                }
                let (l, r) = stream.output(frames);
                left.copy_from_slice(l);
                right.copy_from_slice(r);
                if slot.stream_leaves {
                    fade_out(left);
                    fade_out(right);
                }
            }
            if let Some(voice) = slot.voice.as_mut() {
                voice.process(&self.clock, slot.voice_leaves, left, right);
            }
            for ((out, l), r) in output.chunks_exact_mut(2).zip(left.iter()).zip(right.iter()) {
                let (gain_left, gain_right) = slot.channel.advance();
                if let [left_out, right_out] = out {
                    *left_out += l * gain_left;
                    *right_out += r * gain_right;
                }
            }
            if slot.send_home(&mut self.returns) {
                tell(&mut self.reports, &self.stats, Report::Removed(id));
                somebody_left = true;
            }
        }
        if somebody_left {
            self.set_gains();
        }
    }

    fn mix_click(&mut self, output: &mut [f32]) {
        let latency = u64::from(self.output_latency_frames) * 1_000_000_000 / u64::from(self.rate_hz);
        let heard_at = HostTime(self.clock.callback_time().0.saturating_add(latency));
        self.click.process(&self.timeline, heard_at, output);
    }

    fn finish(&mut self, output: &mut [f32], host_time: HostTime, seconds: f32) {
        apply(&mut self.master, output, 2);
        self.tone.process(output);
        let lowest = self.limiter.process(output);
        self.stats.set_limiter_gain(lowest);
        self.stats.output.measure(output, seconds);
        self.heard.write(self.position_frames, host_time, output);
        if let Some(analysed) = self.analysed.get_mut(..output.len() / 2 * ANALYSIS_CHANNELS) {
            for (kept, frame) in analysed.chunks_exact_mut(ANALYSIS_CHANNELS).zip(output.chunks_exact(2)) {
                for (kept, sample) in kept.iter_mut().zip(frame) {
                    *kept = *sample;
                }
            }
            self.analysis.write(self.position_frames, host_time, analysed);
        }
    }

    /// The input as the microphone gave it, before anybody is muted.
    fn keep_input_for_analysis(&mut self) {
        let share = 1.0 / self.input_channels.max(1) as f32;
        let mut frames = self.sent.chunks_exact(self.input_channels.max(1));
        for kept in self.analysed.chunks_exact_mut(ANALYSIS_CHANNELS) {
            let mono = frames.next().map_or(0.0, |frame| frame.iter().sum::<f32>() * share);
            if let Some(last) = kept.last_mut() {
                *last = mono;
            }
        }
    }

    /// Returns how many it took.
    fn take_commands(&mut self) -> u32 {
        let mut taken = 0;
        while taken < COMMANDS_PER_CALLBACK {
            // A command may send memory home; without room for it the command waits.
            if self.returns.slots() < 2 {
                break;
            }
            let Ok(command) = self.commands.pop() else { break };
            self.obey(command);
            taken += 1;
        }
        taken
    }

    fn obey(&mut self, command: Command) {
        let ramp_frames = self.ramp_frames();
        match command {
            Command::AddSource(id, source) => match slot(&mut self.slots, id) {
                Some(slot) => {
                    slot.stream_leaves = false;
                    give_back(&mut self.returns, slot.stream.replace(source.0).map(Returned::Stream));
                    self.set_gains();
                }
                None => {
                    give_back(&mut self.returns, Some(Returned::Stream(source.0)));
                    tell(&mut self.reports, &self.stats, Report::Refused(id));
                }
            },
            Command::AddInstrument(id, instrument) => match slot(&mut self.slots, id) {
                Some(slot) => {
                    slot.voice_leaves = false;
                    give_back(&mut self.returns, slot.voice.replace(instrument.0).map(Returned::Voice));
                    self.set_gains();
                }
                None => {
                    give_back(&mut self.returns, Some(Returned::Voice(instrument.0)));
                    tell(&mut self.reports, &self.stats, Report::Refused(id));
                }
            },
            Command::RemoveSource(id) => {
                if let Some(slot) = self.slots.iter_mut().find(|slot| slot.id == Some(id)) {
                    slot.stream_leaves = true;
                }
            }
            Command::RemoveInstrument(id) => {
                if let Some(slot) = self.slots.iter_mut().find(|slot| slot.id == Some(id)) {
                    slot.voice_leaves = true;
                }
            }
            Command::SetStrip(id, strip) => {
                if let Some(channel) = self.channel(id) {
                    channel.strip = strip;
                    self.set_gains();
                }
            }
            Command::SetMonitor(id, monitor) => {
                if let Some(channel) = self.channel(id) {
                    channel.monitor = monitor;
                    self.set_gains();
                }
            }
            Command::SetInput(Input { gain_db, mute }) => {
                self.input_gain.set(from_db(gain_db), ramp_frames);
                self.input_mute.set(if mute { 0.0 } else { 1.0 }, ramp_frames);
            }
            Command::SetMasterGain { gain_db } => self.master.set(from_db(gain_db), ramp_frames),
            Command::SetTestTone(tone) => self.tone.set(tone),
            Command::SetMetronome(metronome) => self.click.set(metronome, ramp_frames),
            Command::SetTimeline(timeline) => self.timeline = timeline.clamped(),
            Command::SetSourceRate(id, rate_hz) => {
                let slot = self.slots.iter_mut().find(|slot| slot.id == Some(id));
                if let Some(stream) = slot.and_then(|slot| slot.stream.as_mut()) {
                    stream.set_measured_rate(rate_hz);
                }
            }
            Command::AllNotesOff(id) => {
                let slot = self.slots.iter_mut().find(|slot| slot.id == Some(id));
                if let Some(voice) = slot.and_then(|slot| slot.voice.as_mut()) {
                    voice.all_notes_off();
                }
            }
            Command::SetOutputLatency { frames } => self.output_latency_frames = frames.min(self.rate_hz),
        }
    }

    fn ramp_frames(&self) -> u32 {
        (RAMP_SECONDS * self.rate_hz as f32) as u32
    }

    fn channel(&mut self, id: StripId) -> Option<&mut Channel> {
        match id {
            StripId::Own => Some(&mut self.own),
            StripId::Source(id) => slot(&mut self.slots, id).map(|slot| &mut slot.channel),
        }
    }

    /// A solo counts while the player is there: one who left silences nobody, whether the strip was set before or
    /// after.
    fn set_gains(&mut self) {
        let ramp_frames = self.ramp_frames();
        let present = || self.slots.iter().filter(|slot| slot.is_present());
        let soloed = self.own.strip.solo || present().any(|slot| slot.channel.strip.solo);
        let soloed_by_me = present().any(|slot| slot.channel.monitor.solo);
        // What I hear of myself stays on a solo of mine, be it my voice or my keys.
        let own_left_out = soloed && !self.own.strip.solo;
        self.own.set_gains(own_left_out, ramp_frames);
        for slot in &mut self.slots {
            let Channel { strip, monitor, .. } = &slot.channel;
            let left_out = match slot.id {
                Some(SourceId::OWN_INSTRUMENT) => own_left_out,
                _ => soloed && !strip.solo || soloed_by_me && !monitor.solo,
            };
            slot.channel.set_gains(left_out, ramp_frames);
        }
    }
}

/// One player's place in the mix. It is taken by the first command that names the player, so that a strip may
/// be set before the first audio, and is free again once both source and instrument have left.
#[derive(Debug)]
pub(crate) struct Slot {
    id: Option<SourceId>,
    stream: Option<Box<SourceStream>>,
    voice: Option<Box<InstrumentVoice>>,
    stream_leaves: bool,
    voice_leaves: bool,
    channel: Channel,
}

impl Slot {
    pub(crate) fn free() -> Self {
        Self {
            id: None,
            stream: None,
            voice: None,
            stream_leaves: false,
            voice_leaves: false,
            channel: Channel::new(Monitor::default()),
        }
    }

    /// Whether there is anything to be heard of the player.
    fn is_present(&self) -> bool {
        self.id.is_some() && (self.stream.is_some() || self.voice.is_some())
    }

    /// Sends home what has faded out. True when the player has left altogether.
    fn send_home(&mut self, returns: &mut Producer<Returned>) -> bool {
        if !self.stream_leaves && !self.voice_leaves {
            return false;
        }
        // Without room it stays, faded out, until the next callback.
        if returns.slots() < 2 {
            return false;
        }
        if std::mem::take(&mut self.stream_leaves) {
            give_back(returns, self.stream.take().map(Returned::Stream));
        }
        if std::mem::take(&mut self.voice_leaves) {
            give_back(returns, self.voice.take().map(Returned::Voice));
        }
        if self.stream.is_some() || self.voice.is_some() {
            return false;
        }
        self.id = None;
        self.channel = Channel::new(Monitor::default());
        true
    }
}

/// Gains of one strip, for left and right.
#[derive(Debug)]
pub(crate) struct Channel {
    strip: Strip,
    monitor: Monitor,
    left: Ramp,
    right: Ramp,
}

impl Channel {
    pub(crate) fn new(monitor: Monitor) -> Self {
        let gain = if monitor.mute { 0.0 } else { 1.0 };
        Self { strip: Strip::default(), monitor, left: Ramp::resting_at(gain), right: Ramp::resting_at(gain) }
    }

    /// `left_out`: somebody else is soloed.
    fn set_gains(&mut self, left_out: bool, ramp_frames: u32) {
        let silent = self.strip.mute || self.monitor.mute || left_out;
        let gain = if silent { 0.0 } else { from_db(self.strip.gain_db) * from_db(self.monitor.gain_db) };
        let pan = self.strip.pan + self.monitor.pan;
        let pan = if pan.is_finite() { pan.clamp(-1.0, 1.0) } else { 0.0 };
        self.left.set(gain * (1.0 - pan).min(1.0), ramp_frames);
        self.right.set(gain * (1.0 + pan).min(1.0), ramp_frames);
    }

    #[inline]
    fn advance(&mut self) -> (f32, f32) {
        (self.left.advance(), self.right.advance())
    }

    fn is_silent(&self) -> bool {
        self.left.is_silent() && self.right.is_silent()
    }
}

fn slot(slots: &mut [Slot], id: SourceId) -> Option<&mut Slot> {
    let place = slots
        .iter()
        .position(|slot| slot.id == Some(id))
        .or_else(|| slots.iter().position(|slot| slot.id.is_none()))?;
    let slot = slots.get_mut(place)?;
    slot.id = Some(id);
    Some(slot)
}

fn give_back(returns: &mut Producer<Returned>, returned: Option<Returned>) {
    if let Some(returned) = returned
        && let Err(rtrb::PushError::Full(returned)) = returns.push(returned)
    {
        // Cannot be: room is looked for before every command and removal. Leaking is the one safe answer
        // here.
        std::mem::forget(returned);
    }
}

fn tell(reports: &mut Producer<Report>, stats: &EngineStats, report: Report) {
    if reports.push(report).is_err() {
        stats.missed_reports.fetch_add(1, Ordering::Relaxed);
    }
}

/// Moves a gain on over interleaved frames; at rest at 1 no bit is changed.
fn apply(gain: &mut Ramp, samples: &mut [f32], channels: usize) {
    if gain.resting() == Some(1.0) {
        return;
    }
    for frame in samples.chunks_exact_mut(channels.max(1)) {
        let gain = gain.advance();
        frame.iter_mut().for_each(|sample| *sample *= gain);
    }
}

fn fade_out(samples: &mut [f32]) {
    let step = 1.0 / samples.len().max(1) as f32;
    let mut gain = 1.0;
    for sample in samples {
        gain -= step;
        *sample *= gain;
    }
}
