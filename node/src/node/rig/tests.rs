//! The rig with a device that plays into the void, and sometimes is stuck.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use super::*;
use crate::device::{AudioChoice, Realtime, monotonic_ns};

const ENGINE_HZ: u32 = 48_000;

fn null(rate_hz: u32) -> DeviceConfig {
    DeviceConfig {
        choice: AudioChoice::Null,
        rate_hz: Some(rate_hz),
        period_frames: Some(128),
        jack_name: "bandmesh".into(),
    }
}

/// Calls the engine only while it is open.
struct Gate(Box<dyn AudioCallback>, Arc<AtomicBool>);

impl AudioCallback for Gate {
    fn process(&mut self, input: &[f32], output: &mut [f32], host_time_ns: u64) {
        if self.1.load(Ordering::Relaxed) {
            self.0.process(input, output, host_time_ns);
        } else {
            output.fill(0.0);
        }
    }
}

fn rig(open: &Arc<AtomicBool>) -> Rig {
    let open = open.clone();
    let wrap = move |callback, _: &Opened| Box::new(Gate(callback, open.clone())) as Box<dyn AudioCallback>;
    Rig::start(null(ENGINE_HZ), Codec::Pcm16, None, Recorder::default(), wrap).unwrap().0
}

fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn stream(ssrc: u32) -> StreamInfo {
    StreamInfo { ssrc, codec: Codec::Pcm16, rate_hz: ENGINE_HZ, channels: 1, packet_frames: 128 }
}

/// Sends through `plug` until the engine plays it.
fn is_played(plug: &mut Plug, patience: Duration) -> bool {
    let deadline = Instant::now() + patience;
    let mut sent = 0;
    while plug.writer.stats().playout().is_none() {
        if Instant::now() > deadline {
            return false;
        }
        let _ = plug.writer.push(sent * 128, HostTime(monotonic_ns()), &[0.1; 128]);
        sent += 1;
        std::thread::sleep(Duration::from_micros(2_667));
    }
    true
}

#[test]
fn who_joins_while_the_engine_is_stuck_is_heard_once_it_is_not() {
    let open = Arc::new(AtomicBool::new(true));
    let mut rig = rig(&open);
    let [early, late, gone] = [(); 3].map(|()| PeerId::random());
    let mut early_plug = rig.add(early, stream(1)).unwrap();
    rig.add(gone, stream(2)).unwrap();
    assert!(is_played(&mut early_plug, Duration::from_secs(10)));
    assert!(rig.mend().is_none(), "nothing was refused");

    open.store(false, Ordering::Relaxed);
    while rig.send(Command::SetMasterGain { gain_db: 0.0 }) {}
    rig.set_master(-12.0);
    rig.remove(&gone);
    let mut refused = rig.add(late, stream(3)).unwrap();
    assert!(rig.mend().is_none(), "it still takes nothing");

    open.store(true, Ordering::Relaxed);
    let mut mended = None;
    wait_for("the engine to take commands", || {
        mended = rig.mend();
        mended.is_some()
    });
    let mut plugs = mended.unwrap().plugs;
    let peers: Vec<PeerId> = plugs.iter().map(|(peer, _)| *peer).collect();
    assert_eq!(peers, [late], "of the others the engine knows");
    assert!(is_played(&mut plugs[0].1, Duration::from_secs(10)));
    assert!(!is_played(&mut refused, Duration::from_millis(50)));
    wait_for("the place of who left", || {
        let removed = std::iter::from_fn(|| rig.poll_report());
        removed.into_iter().any(|report| matches!(report, Report::Removed(SourceId(2))))
    });
    wait_for("all to be settled", || rig.mend().is_none() && !rig.refused);
}

#[test]
fn a_device_that_changed_twice_between_two_looks_has_one_new_engine() {
    let mut rig = rig(&Arc::new(AtomicBool::new(true)));
    let member = PeerId::random();
    rig.add(member, stream(1)).unwrap();
    for rate_hz in [44_100, 96_000] {
        rig.audio().switch(null(rate_hz)).unwrap();
    }
    let began = Instant::now();
    let mut engines = Vec::new();
    while let Some((_, rewired)) = rig.poll_device() {
        engines.extend(rewired);
    }
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    let rates: Vec<u32> = engines.iter().map(|rewired| rewired.capture.rate_hz).collect();
    assert_eq!(rates, [96_000]);
    let (peer, plug) = &mut engines[0].plugs[0];
    assert_eq!(*peer, member);
    assert!(is_played(plug, Duration::from_secs(10)), "the engine is the one that is called");
}

#[test]
fn another_period_is_announced_as_another_stream_where_packets_follow_it() {
    let device = |rate_hz, period_frames| DeviceInfo {
        host: "jack".into(),
        device: "bandmesh".into(),
        rate_hz,
        period_frames,
        input_channels: 2,
        realtime: Realtime::DeviceDecides,
        notes: Vec::new(),
    };
    let pcm = announce(Codec::Pcm16, 5, 48_000, 128, 2);
    let anew = |info| announced_anew(Codec::Pcm16, pcm, 48_000, &info);
    let longer = anew(device(48_000, 256)).unwrap();
    assert_ne!(longer.ssrc, pcm.ssrc, "packets of both are told apart");
    assert_eq!(StreamInfo { ssrc: 5, packet_frames: 128, ..longer }, pcm);
    assert_eq!(longer.packet_frames, 256);
    assert_eq!(anew(device(48_000, 128)), None);
    assert_eq!(anew(device(44_100, 256)), None, "that is another engine");
    let opus = announce(Codec::Opus, 5, 44_100, 64, 2);
    let anew = |info| announced_anew(Codec::Opus, opus, 44_100, &info);
    assert_eq!(anew(device(44_100, 128)), None, "its packets stay");
    assert_eq!(anew(device(96_000, 512)), None, "that is another engine, though the stream has one rate");
    let longer = anew(device(44_100, 512)).unwrap();
    assert_eq!(longer.packet_frames, 480);
}
