//! `jack-probe PLAY.wav PORT_IN PORT_OUT HEARD.wav`: plays a mono file into a port and records another.
//!
//! Frame n of `HEARD.wav` is what came out in the frame in which frame n of `PLAY.wav` went in, so a lag
//! between the two files is the latency inside the JACK graph. Two clients, because one with both ports
//! would close a loop, and JACK breaks a loop by a hidden period.
//!
//! On stdout: the frames at which the machine *stumbled*. Either the server began a cycle less than half a period
//! after the one before, as it does after waking late; or a witness ([`Watch`]) was not woken in time.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a test tool: a failed step ends it, saying which"
)]

use jack::contrib::ClosureProcessHandler;
use jack::{AudioIn, AudioOut, Client, ClientOptions, Control, ProcessScope};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};
use tests::Watch;
use tests::audio::{RATE_HZ, read_wav, write_wav};

/// Stumbles that are remembered; a machine with more proves nothing.
const MAX_STUMBLES: usize = 10_000;

/// Frames between deciding when to begin and beginning: many periods, far less than a test lasts.
const LEAD_FRAMES: u32 = 9_600;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    assert_eq!(arguments.len(), 5, "jack-probe PLAY.wav PORT_IN PORT_OUT HEARD.wav");
    let (play, port_in, port_out, heard) = (&arguments[1], &arguments[2], &arguments[3], &arguments[4]);
    let signal = read_wav(play.as_ref());
    let length = signal.len();
    let open = |name: &str| Client::new(name, ClientOptions::NO_START_SERVER).expect("a JACK server").0;
    let (player, recorder) = (open("probe-play"), open("probe-record"));
    assert_eq!(player.sample_rate() as usize, RATE_HZ, "the probe's files have this rate");
    let mut out = player.register_port("out", AudioOut::default()).expect("register out");
    let input = recorder.register_port("in", AudioIn::default()).expect("register in");

    // JACK's frame time at which frame 0 is played; 0 while that is not decided.
    let begin = Arc::new(AtomicU32::new(0));
    let position = |begin: &AtomicU32, scope: &ProcessScope| match begin.load(Ordering::Relaxed) {
        0 => i64::MIN / 2,
        frame => i64::from(scope.last_frame_time().wrapping_sub(frame).cast_signed()),
    };
    let clock = Arc::clone(&begin);
    let period = Duration::from_secs_f64(f64::from(player.buffer_size()) / RATE_HZ as f64);
    let mut last_cycle: Option<Instant> = None;
    let (stumble, stumbled) = sync_channel(MAX_STUMBLES);
    let now_at = Arc::new(AtomicI64::new(i64::MIN));
    let (seen_at, seen) = (Arc::clone(&now_at), stumble.clone());
    let _watch = Watch::start(move || {
        let _ = seen.try_send(seen_at.load(Ordering::Relaxed));
    });
    let play = ClosureProcessHandler::new(move |_: &Client, scope: &ProcessScope| {
        let first = position(&clock, scope);
        let now = Instant::now();
        let since = last_cycle.replace(now).map(|last| now - last);
        now_at.store(first, Ordering::Relaxed);
        if since.is_some_and(|since| since < period / 2) {
            let _ = stumble.try_send(first);
        }
        for (sample, at) in out.as_mut_slice(scope).iter_mut().zip(first..) {
            *sample = usize::try_from(at).ok().and_then(|at| signal.get(at)).copied().unwrap_or(0.0);
        }
        Control::Continue
    });
    let clock = Arc::clone(&begin);
    let (done, recorded) = sync_channel(1);
    let mut recording = vec![0.0; length];
    let record = ClosureProcessHandler::new(move |_: &Client, scope: &ProcessScope| {
        let first = position(&clock, scope);
        for (sample, at) in input.as_slice(scope).iter().zip(first..) {
            if let Some(slot) = usize::try_from(at).ok().and_then(|at| recording.get_mut(at)) {
                *slot = *sample;
            }
        }
        if usize::try_from(first).is_ok_and(|at| at >= recording.len()) {
            let _ = done.try_send(std::mem::take(&mut recording));
        }
        Control::Continue
    });
    let player = player.activate_async((), play).expect("activate");
    let recorder = recorder.activate_async((), record).expect("activate");
    player.as_client().connect_ports_by_name("probe-play:out", port_in).expect("connect the input");
    recorder.as_client().connect_ports_by_name(port_out, "probe-record:in").expect("connect the output");
    let first = player.as_client().frame_time().wrapping_add(LEAD_FRAMES).max(1);
    begin.store(first, Ordering::Relaxed);
    let limit = Duration::from_secs_f64(length as f64 / RATE_HZ as f64 * 1.5 + 5.0);
    write_wav(heard.as_ref(), &recorded.recv_timeout(limit).expect("the recording ends"));
    for frame in stumbled.try_iter().filter(|frame| *frame >= 0) {
        println!("{frame}");
    }
}
