//! The media plane between two bandmates, without threads: Bob's side is played by the transport's own cores.

use std::{
    collections::VecDeque,
    f64::consts::TAU,
    sync::{Arc, Mutex, mpsc::channel},
    time::Duration,
};

use bytes::Bytes;
use engine::{Config, Engine, Handle, HostTime, SourceConfig, SourceId, engine};
use transport::{
    PeerId,
    clock::Clock,
    datagram::{Kind, classify},
    rtp::{
        Header, Layout, StreamSender, StreamSenderConfig,
        midi::{MidiReceiver, MidiSender, MidiSenderConfig},
        payload_type, report,
    },
    time::{LocalTime, SessionTime},
};

use super::{
    Capture, Datagrams, Incoming, IncomingReport, Media, MidiIo, Moment, Plane, lock, now,
    outgoing::Outgoing,
    packetiser::{Encoded, Packetiser, announce},
    plane, stream_format,
};
use crate::{
    codec::{Codec, Encoder, EncoderConfig, OpusMode},
    session::message::StreamInfo,
};

const MS: u64 = 1_000_000;
/// Bob's MIDI and audio streams.
const BOB: u32 = 7;
const BOB_MIDI: u32 = 1_000;

fn stream(ssrc: u32, codec: Codec) -> StreamInfo {
    let packet_frames = if codec == Codec::Opus { 120 } else { 128 };
    StreamInfo { ssrc, codec, rate_hz: 48_000, channels: 1, packet_frames }
}

/// Alice's node as far as Bob's media goes: an engine, and what comes in from him.
struct Alice {
    engine: Engine,
    handle: Handle,
    incoming: Incoming,
    host_ns: u64,
    common: Option<(u64, u64)>,
    /// Alice's session time minus host time, ns.
    session_offset_ns: i64,
}

impl Alice {
    fn listening_to(info: StreamInfo, start_delay_frames: u32) -> Self {
        let (engine, mut handle) = engine(Config::new(48_000, 128)).unwrap();
        let writer = plug(&mut handle, info, start_delay_frames);
        let incoming = Incoming::new(info, writer, None, 48_000, Clock::new(1));
        Self { engine, handle, incoming, host_ns: 1_000 * MS, common: Some((1, 0)), session_offset_ns: 0 }
    }

    fn moment(&self) -> Moment {
        Moment {
            local: LocalTime::from_nanos(self.host_ns),
            session: SessionTime::from_nanos(self.host_ns as i64 + self.session_offset_ns),
            common: self.common,
        }
    }

    fn hear(&mut self, datagram: &Bytes) -> Vec<report::ReportBlock> {
        self.incoming.handle_datagram(self.moment(), datagram)
    }

    /// One callback of 120 frames, 2.5 ms later. Returns what she hears in it.
    fn play(&mut self) -> [f32; 240] {
        self.host_ns += 5 * MS / 2;
        let mut heard = [0.0; 240];
        self.engine.process(&[0.0; 120], &mut heard, HostTime(self.host_ns));
        self.incoming.handle_deadline(self.moment());
        heard
    }

    fn one_way_ms(&mut self) -> Option<i64> {
        self.incoming.observe(self.moment());
        self.incoming.report(self.moment().local).one_way_ns.map(|ns| (ns as f64 / 1e6).round() as i64)
    }
}

fn plug(handle: &mut Handle, info: StreamInfo, start_delay_frames: u32) -> engine::SourceWriter {
    let config =
        SourceConfig { start_delay_frames, ..SourceConfig::new(info.rate_hz, usize::from(info.channels)) };
    let (writer, source) = handle.source(config).unwrap();
    handle.send(engine::Command::AddSource(SourceId(1), source)).unwrap();
    writer
}

/// Bob's audio, a packet of 120 frames at a time.
struct Bob {
    sender: StreamSender,
    encoder: Encoder,
    codec: Codec,
    sent: i64,
}

impl Bob {
    fn sending(info: StreamInfo) -> Self {
        let sender = StreamSender::new(StreamSenderConfig {
            ssrc: info.ssrc,
            first_sequence: 1,
            format: stream_format(&info),
            max_datagram: 1_150,
            redundancy: 0,
        });
        let encoder = Encoder::new(EncoderConfig {
            codec: info.codec,
            rate_hz: info.rate_hz,
            channels: 1,
            bitrate_bps: 128_000,
            opus_mode: OpusMode::LowDelay,
        });
        Self { sender, encoder: encoder.unwrap(), codec: info.codec, sent: 0 }
    }

    fn packet(&mut self) -> Bytes {
        let mut payload = vec![0; self.codec.payload_bytes(120, 1)];
        let octets = self.encoder.encode(&[0.1; 120], Layout::All, &mut payload).unwrap();
        self.sender.push(self.sent * 120, Layout::All, &payload[..octets]).unwrap();
        self.sent += 1;
        self.sender.poll_transmit().unwrap()
    }

    /// His report says that what he sends next was captured at `captured_ns` of his session time.
    fn report(&self, captured_ns: i64) -> Bytes {
        let report = self.sender.sender_report(SessionTime::from_nanos(captured_ns), self.sent * 120);
        report::encode(&[report::Report::Sender(report)])
    }
}

#[test]
fn mouth_to_ear_is_measured_only_on_common_time() {
    let info = stream(BOB, Codec::Pcm16);
    let (mut alice, mut bob) = (Alice::listening_to(info, 0), Bob::sending(info));
    let mut jam = |alice: &mut Alice, bob_ahead_ns: i64| {
        for index in 0..40 {
            if index % 10 == 1 {
                // Captured 30 ms ago by Alice's clock.
                let captured = alice.host_ns as i64 - 30 * MS as i64 + bob_ahead_ns;
                let report = bob.report(captured);
                alice.hear(&report);
            }
            let packet = bob.packet();
            alice.hear(&packet);
            alice.play();
            alice.incoming.observe(alice.moment());
        }
    };
    alice.common = None;
    jam(&mut alice, 1_234_567_890_123);
    assert_eq!(alice.one_way_ms(), None, "his time means nothing here yet");

    alice.common = Some((1, 0));
    assert_eq!(alice.one_way_ms(), None, "what he said before neither");
    jam(&mut alice, 0);
    let measured = alice.one_way_ms().unwrap();
    assert!((30..=40).contains(&measured), "{measured} ms");
    // Of these the packets were 30 ms on their way; the rest they waited for their callback.
    let report = alice.incoming.report(alice.moment().local);
    let on_the_way = report.on_the_way_ns.unwrap() as f64 / 1e6;
    assert!((on_the_way - 30.0).abs() < 0.1 && report.one_way_ns > report.on_the_way_ns, "{on_the_way} ms");

    let step_ns = 5_000 * MS as i64;
    alice.common = Some((1, 1));
    alice.session_offset_ns += step_ns;
    assert_eq!(alice.one_way_ms(), None);
    jam(&mut alice, step_ns);
    assert_eq!(alice.one_way_ms(), Some(measured));
}

#[test]
fn the_end_of_a_note_never_overtakes_its_beginning() {
    let mut alice = Alice::listening_to(stream(BOB, Codec::Pcm16), 0);
    let mut keys =
        MidiSender::new(MidiSenderConfig { ssrc: BOB_MIDI, first_sequence: 1, max_datagram: 1_150 });
    let mut press = |alice: &mut Alice, played_ms: i64, message: [u8; 3]| {
        let moment = alice.moment();
        let played = moment.session.offset_by(played_ms * MS as i64);
        keys.push(played, &message).unwrap();
        let packet = keys.poll_transmit(moment.local, moment.session).unwrap();
        alice.hear(&packet);
    };
    press(&mut alice, 200, [0x90, 60, 100]);
    alice.host_ns += 10 * MS;
    press(&mut alice, 0, [0x80, 60, 64]);
    alice.common = None;
    alice.host_ns += 10 * MS;
    press(&mut alice, 0, [0x90, 61, 100]);
    let due: Vec<(u64, u8)> =
        alice.incoming.take_due_midi().iter().map(|event| (event.due_ns, event.message[0])).collect();
    assert_eq!(due.iter().map(|(_, status)| *status).collect::<Vec<_>>(), [0x90, 0x80, 0x90]);
    assert!(due.is_sorted_by_key(|(due_ns, _)| *due_ns), "{due:?}");
}

#[test]
fn waiting_midi_calls_for_the_media_thread_at_once() {
    let mut alice = Alice::listening_to(stream(BOB, Codec::Pcm16), 0);
    while alice.incoming.poll_clock(alice.moment().local).is_some() {}
    assert!(alice.incoming.poll_deadline() > alice.moment().local);
    let mut keys =
        MidiSender::new(MidiSenderConfig { ssrc: BOB_MIDI, first_sequence: 1, max_datagram: 1_150 });
    let moment = alice.moment();
    keys.push(moment.session, &[0x90, 60, 100]).unwrap();
    alice.hear(&keys.poll_transmit(moment.local, moment.session).unwrap());
    assert!(alice.incoming.poll_deadline() <= moment.local);
    assert_eq!(alice.incoming.take_due_midi().len(), 1);
    assert!(alice.incoming.poll_deadline() > moment.local);
}

#[test]
fn after_a_member_has_left_nothing_begins_to_sound() {
    let mut alice = Alice::listening_to(stream(BOB, Codec::Pcm16), 0);
    let mut keys =
        MidiSender::new(MidiSenderConfig { ssrc: BOB_MIDI, first_sequence: 1, max_datagram: 1_150 });
    let moment = alice.moment();
    for note in [60, 61] {
        keys.push(moment.session, &[0x90, note, 100]).unwrap();
        let packet = keys.poll_transmit(moment.local, moment.session).unwrap();
        alice.hear(&packet);
        alice.incoming.release(moment);
    }
    let messages: Vec<Vec<u8>> =
        alice.incoming.take_due_midi().into_iter().map(|event| event.message).collect();
    assert_eq!(messages, [vec![0x90, 60, 100], vec![0x80, 60, 64]]);
}

#[test]
fn opus_waits_for_a_lost_packet_as_long_as_the_engine_has_time() {
    let info = stream(BOB, Codec::Opus);
    // The engine plays Bob 100 ms after he comes.
    let (mut alice, mut bob) = (Alice::listening_to(info, 4_800), Bob::sending(info));
    for _ in 0..400 {
        let packet = bob.packet();
        alice.hear(&packet);
        alice.play();
        alice.incoming.observe(alice.moment());
    }
    let concealed = |alice: &Alice| alice.incoming.report(alice.moment().local).totals.concealed_frames;
    let delay = alice.incoming.report(alice.moment().local).playout_delay;
    assert!(delay > Duration::from_millis(50), "{delay:?}");
    let before = concealed(&alice);
    drop(bob.packet());
    for _ in 0..16 {
        let packet = bob.packet();
        alice.hear(&packet);
        alice.play();
        alice.incoming.observe(alice.moment());
    }
    assert_eq!(concealed(&alice), before, "it may still come");
    for _ in 0..60 {
        let packet = bob.packet();
        alice.hear(&packet);
        alice.play();
        alice.incoming.observe(alice.moment());
    }
    assert!(concealed(&alice) >= before + 120);
}

/// What Alice learns and hears in 6 s of a tone that Bob plays on a card at `rate_hz`, over a path of 5 ms that never
/// varies: her report, and by how many ms what she hears is younger (or older) than it says.
fn tone_over_an_even_path(codec: Codec, rate_hz: u32, period: u32) -> (IncomingReport, f64) {
    /// One turn is 10 ms, so that an error of some ms is not taken for another.
    const TONE_HZ: f64 = 100.0;
    let info = announce(codec, BOB, rate_hz, period, 1);
    let mut alice = Alice::listening_to(info, 0);
    let began_ns = alice.host_ns;
    let mut bob = Packetiser::new(&info, rate_hz, 5_000).unwrap();
    let mut to_alice = Outgoing::new(info, BOB_MIDI, 1, alice.moment().local);
    let mut under_way = VecDeque::new();
    let mut position = 0u64;
    let mut turns = [[0.0f64; 2]; 2];
    for step in 1..=6 * 400u64 {
        let callback_ns = began_ns + step * 5 * MS / 2;
        loop {
            let captured_ns = began_ns + position * 1_000_000_000 / u64::from(rate_hz);
            if captured_ns > callback_ns {
                break;
            }
            let at = (LocalTime::from_nanos(captured_ns), SessionTime::from_nanos(captured_ns as i64));
            if to_alice.report_is_due(at.0) {
                let stood = Some((bob.heard_position(position), at.1));
                under_way.push_back((captured_ns + 5 * MS, to_alice.report(at.0, stood, Vec::new())));
            }
            let samples: Vec<f32> = (position..position + u64::from(period))
                .map(|n| (0.5 * (TAU * TONE_HZ * n as f64 / f64::from(rate_hz)).sin()) as f32)
                .collect();
            bob.push(position, &samples, 1, true, &mut |block| to_alice.push_audio(block));
            under_way
                .extend(std::iter::from_fn(|| to_alice.poll_audio()).map(|it| (captured_ns + 5 * MS, it)));
            position += u64::from(period);
        }
        while let Some((_, datagram)) = under_way.pop_front_if(|(arrives_ns, _)| {
            let has_come = *arrives_ns <= callback_ns;
            if has_come {
                alice.host_ns = *arrives_ns;
            }
            has_come
        }) {
            alice.hear(&datagram);
        }
        alice.host_ns = callback_ns - 5 * MS / 2;
        let heard = alice.play();
        if step % 20 == 0 {
            alice.incoming.observe(alice.moment());
        }
        // The phase of two seconds, the fourth and the last.
        let second = match step {
            1_201..=1_600 => 0,
            2_001..=2_400 => 1,
            _ => continue,
        };
        for (n, frame) in heard.chunks_exact(2).enumerate() {
            let since = (callback_ns - began_ns) as f64 / 1e9 + n as f64 / 48_000.0;
            let turn = TAU * TONE_HZ * since;
            turns[second][0] += f64::from(frame[0]) * turn.sin();
            turns[second][1] += f64::from(frame[0]) * turn.cos();
        }
    }
    let report = alice.incoming.report(alice.moment().local);
    let behind = turns.map(|[sine, cosine]| -cosine.atan2(sine) / TAU * 1e3 / TONE_HZ);
    let near = |ms: f64| (ms + 5.0).rem_euclid(10.0) - 5.0;
    assert!(near(behind[1] - behind[0]).abs() < 0.01, "out of tune at {rate_hz} Hz: {behind:?}");
    let claimed = report.one_way_ns.unwrap() as f64 / 1e6;
    (report, near(behind[1] - claimed))
}

#[test]
fn every_codec_at_every_rate_is_heard_in_tune_and_its_way_and_delay_are_told_as_they_are() {
    for (codec, rate_hz, period) in [
        (Codec::Pcm16, 48_000, 128),
        (Codec::Pcm16, 48_000, 1_024),
        (Codec::Pcm16, 48_000, 2_048),
        (Codec::Pcm24, 44_100, 512),
        (Codec::Opus, 48_000, 128),
        (Codec::Opus, 48_000, 1_024),
        (Codec::Opus, 44_100, 128),
        (Codec::Opus, 44_100, 441),
        (Codec::Opus, 96_000, 256),
    ] {
        let (report, error_ms) = tone_over_an_even_path(codec, rate_hz, period);
        let what = format!("{codec} at {rate_hz} Hz, period {period}: {report:?}");
        assert!(error_ms.abs() < 0.1, "{error_ms:.3} ms, {what}");
        let way_ms = report.on_the_way_ns.unwrap() as f64 / 1e6;
        assert!((way_ms - 5.0).abs() < 0.05, "{way_ms} ms, {what}");
        assert!(report.jitter < Duration::from_micros(50), "{what}");
        assert_eq!((report.totals.lost, report.totals.buffer_resets), (0, 0), "{what}");
    }
}

#[test]
fn counters_go_on_over_a_new_engine_and_a_new_stream() {
    let info = stream(BOB, Codec::Pcm16);
    let (mut alice, mut bob) = (Alice::listening_to(info, 0), Bob::sending(info));
    for index in 0..200 {
        let packet = bob.packet();
        if index % 10 != 3 {
            alice.hear(&packet);
        }
        alice.play();
    }
    let now = alice.moment().local;
    let before = alice.incoming.report(now).totals;
    assert!(before.concealed_frames > 0 && before.concealed_ratio() > 0.0);
    assert_eq!((before.received, before.lost), (180, 20));

    let writer = plug(&mut alice.handle, info, 0);
    alice.incoming.refit(writer, None, 96_000);
    assert_eq!(alice.incoming.report(now).totals, before);

    let writer = plug(&mut alice.handle, info, 0);
    alice.incoming.change_stream(stream(BOB + 1, Codec::Pcm24), writer, None, 96_000);
    assert_eq!(alice.incoming.report(now).totals, before);
}

#[test]
fn a_straggler_of_the_stream_before_does_not_end_the_announced_one() {
    let (old, new) = (stream(BOB, Codec::Pcm16), stream(BOB + 1, Codec::Pcm16));
    let (mut alice, mut before, mut after) =
        (Alice::listening_to(old, 0), Bob::sending(old), Bob::sending(new));
    alice.hear(&before.packet());
    let writer = plug(&mut alice.handle, new, 0);
    alice.incoming.change_stream(new, writer, None, 48_000);
    alice.hear(&before.packet());
    alice.hear(&after.packet());
    alice.hear(&after.packet());
    let report = alice.incoming.report(alice.moment().local);
    assert_eq!((report.totals.received, report.counters.refused), (3, 1));
}

/// Frame `n` of a noise in steps of 16 bits, another one for each `seed`.
fn noise(seed: u32, n: u32) -> f32 {
    let bits = (n ^ seed.wrapping_mul(0x9E37_79B9)).wrapping_mul(0x85EB_CA6B);
    let bits = (bits ^ bits >> 13).wrapping_mul(0xC2B2_AE35);
    f32::from((bits >> 19) as i16 - 4_096) / 32_768.0
}

/// What Bob plays: a voice in his first input; the second one sounds during its third and its fifteenth second.
fn one_voice_and_a_guest(n: u32) -> [f32; 2] {
    let second = n / 48_000;
    [noise(1, n), if second == 2 || second == 14 { noise(2, n) } else { 0.0 }]
}

/// Seventeen seconds of Bob as Alice hears them, frame by frame, and the layouts that came. The path loses the packets of
/// which `loses` is true; it is told what a packet carries, and what the one before it carried.
fn jam_with_a_guest(mut loses: impl FnMut(Layout, Layout) -> bool) -> (Alice, Vec<[f32; 2]>, Vec<Layout>) {
    let info = StreamInfo { channels: 2, packet_frames: 120, ..stream(BOB, Codec::Pcm16) };
    let mut alice = Alice::listening_to(info, 0);
    let mut bob = Packetiser::new(&info, 48_000, 0).unwrap();
    let mut to_alice = Outgoing::new(info, BOB_MIDI, 1, alice.moment().local);
    let (mut heard, mut layouts) = (Vec::new(), vec![Layout::Left]);
    for block in 0..17 * 400u32 {
        let samples: Vec<f32> = (block * 120..(block + 1) * 120).flat_map(one_voice_and_a_guest).collect();
        bob.push(u64::from(block) * 120, &samples, 2, true, &mut |block| {
            to_alice.push_audio(block);
            layouts.push(block.layout);
        });
        let [.., before, layout] = layouts[..] else { panic!("{layouts:?}") };
        let datagram = to_alice.poll_audio().unwrap();
        assert_eq!(to_alice.poll_audio(), None);
        if !loses(before, layout) {
            alice.hear(&datagram);
        }
        heard.extend_from_slice(alice.play().as_chunks().0);
    }
    (alice, heard, layouts)
}

/// The frames that differ from what Bob played, after a second in which he fades in.
fn differing(heard: &[[f32; 2]]) -> Vec<u32> {
    let is_played = |lag: u32, n: u32| heard[(n + lag) as usize] == one_voice_and_a_guest(n);
    let begun = 48_000;
    let lag = (0..4_800).find(|lag| (begun..begun + 100).all(|n| is_played(*lag, n))).unwrap();
    (begun..heard.len() as u32 - lag).filter(|n| !is_played(lag, *n)).collect()
}

#[test]
fn second_input_that_wakes_up_and_falls_asleep_is_heard_to_the_last_bit() {
    let (alice, heard, layouts) = jam_with_a_guest(|_, _| false);
    let differing = differing(&heard);
    assert_eq!(differing, [0; 0], "of {} frames", heard.len());
    let mut changes = layouts.clone();
    changes.dedup();
    // The guest is waited for: ten seconds after he fell silent, and no longer than his first sample when he is back.
    assert_eq!(changes, [Layout::Left, Layout::All, Layout::Left, Layout::All]);
    let both = layouts.iter().filter(|layout| **layout == Layout::All).count();
    assert_eq!(both, 400 + 4_000 + 3 * 400 - 1);
    let report = alice.incoming.report(alice.moment().local);
    assert_eq!((report.totals.buffer_resets, report.totals.concealed_frames, report.channels), (0, 0, 2));
}

#[test]
fn packet_lost_where_the_channels_change_costs_that_packet_only() {
    let mut lost = 0;
    let (alice, heard, _) = jam_with_a_guest(|before, layout| {
        lost += u32::from(before != layout);
        before != layout
    });
    assert_eq!(lost, 3);
    let differing = differing(&heard);
    // The second of silence before the third change is concealed with silence, which is what was played.
    for n in &differing {
        let since = [2 * 48_000, 13 * 48_000 - 120, 14 * 48_000].map(|change| n.checked_sub(change));
        assert!(since.into_iter().flatten().any(|since| since < 480), "frame {n} of second {}", n / 48_000);
    }
    let loudest = heard.iter().flatten().fold(0.0f32, |loudest, sample| loudest.max(sample.abs()));
    assert!(loudest < 0.3, "{loudest}");
    let report = alice.incoming.report(alice.moment().local);
    assert_eq!((report.totals.buffer_resets, report.totals.lost), (0, 3));
}

#[test]
fn who_changes_the_channels_with_every_packet_is_heard_like_everybody() {
    use Layout::{All, Left, Right, Same};
    for codec in [Codec::Pcm16, Codec::Pcm24, Codec::Opus] {
        let info = StreamInfo { channels: 2, ..stream(BOB, codec) };
        let mut alice = Alice::listening_to(info, 0);
        let mut sender = Outgoing::new(info, BOB_MIDI, 1, alice.moment().local);
        let mut encoder = Encoder::new(EncoderConfig {
            codec,
            rate_hz: 48_000,
            channels: 2,
            bitrate_bps: 256_000,
            opus_mode: OpusMode::LowDelay,
        })
        .unwrap();
        let layouts = if codec == Codec::Opus { [All, Same, All, Same] } else { [All, Left, Same, Right] };
        let mut payload = vec![0; 1_500];
        for (packet, layout) in (0..2_000).zip(layouts.iter().cycle()) {
            let octets = encoder.encode(&[0.1; 240], *layout, &mut payload).unwrap();
            let told = if codec == Codec::Opus { All } else { *layout };
            let (at, payload) = (packet * 120, &payload[..octets]);
            sender.push_audio(&Encoded { timestamp_frames: at, departs_frames: at, layout: told, payload });
            alice.hear(&sender.poll_audio().unwrap());
            alice.play();
        }
        let report = alice.incoming.report(alice.moment().local);
        let totals = report.totals;
        assert_eq!(
            (totals.received, totals.buffer_resets, totals.concealed_frames),
            (2_000, 0, 0),
            "{codec}"
        );
        assert_eq!(report.counters, super::Counters::default(), "{codec}");
        assert_eq!(report.channels, 1, "{codec}");
    }
}

/// Where the media plane's datagrams go: into a list.
#[derive(Clone, Default)]
struct Wire(Arc<Mutex<Vec<Bytes>>>);

impl Datagrams for Wire {
    fn send(&self, _peer: &PeerId, datagram: Bytes) {
        lock(&self.0).push(datagram);
    }

    fn max_datagram(&self, _peer: &PeerId) -> Option<usize> {
        Some(1_200)
    }
}

impl Wire {
    /// Payload type, SSRC and payload length of the RTP packets sent since the last call.
    fn packets(&self) -> Vec<(u8, u32, usize)> {
        let datagrams: Vec<Bytes> = lock(&self.0).drain(..).collect();
        let rtp = datagrams.iter().filter(|datagram| classify(datagram) == Some(Kind::Rtp));
        rtp.map(|datagram| {
            let (header, payload) = Header::parse(datagram).unwrap();
            (header.payload_type, header.ssrc, payload.len())
        })
        .collect()
    }
}

/// Alice's MIDI ports.
#[derive(Clone, Default)]
struct Ports {
    played: Arc<Mutex<VecDeque<Vec<u8>>>>,
    heard: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl MidiIo for Ports {
    fn poll(&mut self) -> Option<(u64, Vec<u8>)> {
        lock(&self.played).pop_front().map(|message| (now().as_nanos(), message))
    }

    fn send(&mut self, _due_ns: u64, message: &[u8]) {
        lock(&self.heard).push(message.to_vec());
    }
}

/// A whole media plane with Bob as its only member.
struct Node {
    media: Media,
    plane: Plane<Wire>,
    wire: Wire,
    ports: Ports,
    bob: PeerId,
}

impl Node {
    fn with_bob() -> Self {
        let (wire, ports) = (Wire::default(), Ports::default());
        let (media, plane) =
            plane(wire.clone(), Box::new(ports.clone()), 1, crate::trace::Recorder::default());
        let (_, mut handle) = engine(Config::new(48_000, 128)).unwrap();
        let bob = PeerId::random();
        let info = stream(BOB, Codec::Pcm16);
        media.add_peer(bob, info, stream(1, Codec::Pcm16), plug(&mut handle, info, 0), None);
        Self { media, plane, wire, ports, bob }
    }

    /// Bob sends what everybody sends four times a second.
    fn bob_reports(&self) {
        let report = report::ReceiverReport { ssrc: BOB, blocks: vec![] };
        let datagram = report::encode(&[report::Report::Receiver(report)]);
        drop(self.media.handle_datagram(&self.bob, &datagram));
    }

    /// Opens a device that sends as `info`.
    fn open(&self, info: StreamInfo) -> Engine {
        let (engine, mut handle) = engine(Config::new(48_000, 128)).unwrap();
        let tap = handle.take_capture().unwrap();
        self.media.set_capture(Capture { tap, info, rate_hz: 48_000, period_frames: 128 });
        engine
    }
}

fn record(engine: &mut Engine) {
    engine.process(&[0.1; 128], &mut [0.0; 256], HostTime(now().as_nanos()));
}

#[test]
fn no_block_of_one_stream_leaves_under_the_name_of_another() {
    let mut node = Node::with_bob();
    let mut first = node.open(stream(1, Codec::Pcm16));
    node.plane.look();
    record(&mut first);
    node.plane.look();
    assert_eq!(node.wire.packets(), [(payload_type::PCM16, 1, 256)]);

    // The device is replaced while a block waits: announced, and not yet taken by the media thread.
    record(&mut first);
    let mut second = node.open(stream(2, Codec::Pcm24));
    record(&mut second);
    node.plane.look();
    assert_eq!(node.wire.packets(), [(payload_type::PCM24, 2, 384)]);
}

#[test]
fn another_period_goes_out_under_another_name_from_its_first_block() {
    let mut node = Node::with_bob();
    let mut alices = node.open(stream(1, Codec::Pcm16));
    node.plane.look();
    record(&mut alices);
    node.plane.look();
    assert_eq!(node.wire.packets(), [(payload_type::PCM16, 1, 256)]);
    node.media.change_stream(StreamInfo { packet_frames: 64, ..stream(2, Codec::Pcm16) });
    alices.process(&[0.1; 64], &mut [0.0; 128], HostTime(now().as_nanos()));
    node.plane.look();
    assert_eq!(node.wire.packets(), [(payload_type::PCM16, 2, 128)]);
}

#[test]
fn channel_is_left_out_only_while_all_members_understand() {
    let mut node = Node::with_bob();
    let (mut alices, mut handle) = engine(Config { input_channels: 2, ..Config::new(48_000, 128) }).unwrap();
    let info = StreamInfo { channels: 2, ..stream(1, Codec::Pcm16) };
    let tap = handle.take_capture().unwrap();
    node.media.set_capture(Capture { tap, info, rate_hz: 48_000, period_frames: 128 });
    let mut sent = |node: &mut Node| {
        alices.process(&[0.1, 0.0].repeat(128), &mut [0.0; 256], HostTime(now().as_nanos()));
        node.plane.look();
        node.wire.packets()
    };
    node.plane.look();
    let (both, one) = ((payload_type::PCM16, 1, 512), (payload_type::PCM16_LEFT, 1, 256));
    assert_eq!(sent(&mut node), [both]);
    node.media.set_takes_reduced(&node.bob, true);
    assert_eq!(sent(&mut node), [one]);
    // Carol is older.
    let (_, mut handle) = engine(Config::new(48_000, 128)).unwrap();
    let info = stream(BOB + 1, Codec::Pcm16);
    node.media.add_peer(PeerId::random(), info, info, plug(&mut handle, info, 0), None);
    assert_eq!(sent(&mut node), [both, both]);
}

#[test]
fn a_keyboard_stays_the_same_when_the_device_reopens() {
    let mut node = Node::with_bob();
    let mut names = Vec::new();
    for ssrc in [1, 2] {
        node.open(stream(ssrc, Codec::Pcm16));
        lock(&node.ports.played).push_back(vec![0x90, 60, 100]);
        node.plane.look();
        let packets = node.wire.packets();
        names.extend(
            packets.iter().filter(|(kind, ..)| *kind == payload_type::MIDI).map(|(_, ssrc, _)| *ssrc),
        );
    }
    assert!(names.len() >= 2 && names.iter().all(|name| *name == names[0]), "{names:?}");
    assert!(![1, 2].contains(&names[0]));
}

#[test]
fn a_clock_request_is_answered_and_our_own_goes_with_the_next_packet() {
    let node = Node::with_bob();
    let mut clock = Clock::new(2);
    let request = clock.poll_transmit(now()).unwrap();
    let answer = node.media.handle_datagram(&node.bob, &request).unwrap();
    clock.handle_packet(now(), &answer).unwrap();
    assert_eq!(clock.statistics().answered, 1);
    let mut bob = Bob::sending(stream(BOB, Codec::Pcm16));
    // Question and answer leave from one thread, so that they take equally long ways.
    let question = node.media.handle_datagram(&node.bob, &bob.packet()).unwrap();
    assert_eq!(classify(&question), Some(Kind::Clock));
    assert_eq!(node.media.handle_datagram(&node.bob, &bob.packet()), None, "the next one is not due yet");
    assert_eq!(node.media.handle_datagram(&PeerId::random(), &request), None, "a stranger gets nothing");
}

#[test]
fn a_page_can_read_while_a_packet_is_being_handled() {
    let mut node = Node::with_bob();
    node.plane.look();
    let (media, bob) = (node.media.clone(), node.bob);
    let peer = media.peer(&bob).unwrap();
    let handling = lock(&peer.incoming);
    let (tell, told) = channel();
    let page = std::thread::spawn(move || {
        let read = (media.report(&bob).is_some(), media.meter(&bob).is_some(), media.clock_offset_ns(&bob));
        tell.send(read).unwrap();
    });
    assert_eq!(told.recv_timeout(Duration::from_secs(10)), Ok((true, true, None)));
    drop(handling);
    page.join().unwrap();
}

#[test]
fn common_time_ends_with_a_step_and_survives_steering() {
    let node = Node::with_bob();
    let peer = node.media.peer(&node.bob).unwrap();
    let common = || node.media.shared.moment(now(), &peer).common;
    node.media.set_session_offset(-1_000 * MS as i64);
    assert_eq!(common(), None);
    node.media.set_time_shared(&node.bob, true);
    let first = common();
    assert!(first.is_some());
    node.media.set_time_shared(&node.bob, true);
    node.media.set_session_offset(-999 * MS as i64);
    assert_eq!(common(), first, "steered by a millisecond");
    node.media.set_session_offset(0);
    assert!(common().is_some_and(|now| Some(now) != first), "stepped");
    node.media.set_time_shared(&node.bob, false);
    assert_eq!(common(), None);
}

#[test]
fn the_notes_of_a_member_that_left_are_released_at_the_output() {
    let mut node = Node::with_bob();
    node.plane.look();
    let mut keys =
        MidiSender::new(MidiSenderConfig { ssrc: BOB_MIDI, first_sequence: 1, max_datagram: 1_150 });
    let session_now = SessionTime::from_nanos(now().as_nanos() as i64);
    keys.push(session_now, &[0x90, 60, 100]).unwrap();
    let packet = keys.poll_transmit(now(), session_now).unwrap();
    assert_eq!(node.media.handle_datagram(&node.bob, &packet), None);
    node.plane.look();
    assert_eq!(*lock(&node.ports.heard), [[0x90, 60, 100]]);
    node.media.remove_peer(&node.bob);
    node.plane.look();
    assert_eq!(*lock(&node.ports.heard), [[0x90, 60, 100], [0x80, 60, 64]]);
}

/// Alice with what Bob hears of her keyboard.
fn keyboard_with_bob() -> (Node, impl FnMut(&mut Node) -> Vec<Vec<u8>>) {
    let node = Node::with_bob();
    node.open(stream(1, Codec::Pcm16));
    (node, bobs_ears())
}

/// What comes to somebody who has heard nothing so far.
fn bobs_ears() -> impl FnMut(&mut Node) -> Vec<Vec<u8>> {
    let mut bob = MidiReceiver::new(None);
    move |node: &mut Node| {
        node.plane.look();
        let datagrams: Vec<Bytes> = lock(&node.wire.0).drain(..).collect();
        for datagram in datagrams.iter().filter(|datagram| classify(datagram) == Some(Kind::Rtp)) {
            let (header, _) = Header::parse(datagram).unwrap();
            if header.payload_type == payload_type::MIDI {
                let at = now();
                bob.handle_packet(at, SessionTime::from_nanos(at.as_nanos() as i64), datagram).unwrap();
            }
        }
        std::iter::from_fn(|| bob.poll_event()).map(|event| event.message).collect()
    }
}

#[test]
fn muted_player_sends_no_notes_and_lets_go_of_those_that_sound() {
    let (mut node, mut heard) = keyboard_with_bob();
    lock(&node.ports.played).extend([vec![0x90, 60, 100], vec![0x93, 64, 90], vec![0x93, 64, 0]]);
    assert_eq!(heard(&mut node).len(), 3);
    node.media.set_muted(true);
    assert_eq!(heard(&mut node), [[0x80, 60, 64]], "the one key that is down");
    lock(&node.ports.played).extend([vec![0x90, 62, 100], vec![0x80, 62, 0], vec![0x80, 60, 0]]);
    assert_eq!(heard(&mut node), Vec::<Vec<u8>>::new());
    node.media.set_muted(false);
    lock(&node.ports.played).push_back(vec![0x90, 65, 100]);
    assert_eq!(heard(&mut node), [vec![0x90, 65, 100]]);
}

#[test]
fn muted_player_lets_go_of_pedals_whose_keys_are_up() {
    let (mut node, mut heard) = keyboard_with_bob();
    lock(&node.ports.played).extend([
        vec![0xb0, 64, 127],
        vec![0xb1, 66, 127],
        vec![0x90, 60, 100],
        vec![0x80, 60, 0],
    ]);
    assert_eq!(heard(&mut node).len(), 4);
    node.media.set_muted(true);
    assert_eq!(heard(&mut node), [[0xb0, 64, 0], [0xb1, 66, 0]], "the pedals held the chord");
    lock(&node.ports.played).push_back(vec![0xb0, 64, 0]);
    assert_eq!(heard(&mut node), [[0u8; 3]; 0]);
}

/// A program, a volume, the pedal, and a wheel that a player sets before anybody listens.
fn settings() -> Vec<Vec<u8>> {
    vec![vec![0xc2, 33], vec![0xb2, 7, 40], vec![0xb2, 64, 127], vec![0xe2, 0, 80]]
}

#[test]
fn who_comes_later_is_told_how_the_instrument_is_set() {
    let (mut node, _) = keyboard_with_bob();
    lock(&node.ports.played).extend(settings());
    lock(&node.ports.played).extend([vec![0x92, 60, 100], vec![0x82, 60, 0]]);
    node.plane.look();
    node.media.remove_peer(&node.bob);
    node.plane.look();
    lock(&node.wire.0).clear();
    let (_, mut handle) = engine(Config::new(48_000, 128)).unwrap();
    let info = stream(BOB, Codec::Pcm16);
    node.media.add_peer(node.bob, info, stream(1, Codec::Pcm16), plug(&mut handle, info, 0), None);
    let mut heard = bobs_ears();
    assert_eq!(heard(&mut node), [[0u8; 3]; 0], "he may not know of her yet, and would hear nothing");
    node.bob_reports();
    assert_eq!(heard(&mut node), settings(), "how it is set, and nothing of what was played");
    assert_eq!(heard(&mut node), [[0u8; 3]; 0], "once is enough");
}

#[test]
fn what_was_set_while_muted_is_told_afterwards() {
    let (mut node, mut heard) = keyboard_with_bob();
    node.bob_reports();
    node.media.set_muted(true);
    lock(&node.ports.played).extend(settings());
    assert_eq!(heard(&mut node), [[0u8; 3]; 0]);
    node.media.set_muted(false);
    assert_eq!(heard(&mut node), settings());
    node.media.set_muted(true);
    assert_eq!(heard(&mut node), [[0xb2, 64, 0]], "the pedal is let go");
    // Bob's instrument knows the wheel, which is put back without his hearing of it.
    lock(&node.ports.played).push_back(vec![0xb2, 121, 0]);
    assert_eq!(heard(&mut node), [[0u8; 3]; 0]);
    node.media.set_muted(false);
    let now_set = [vec![0xc2, 33], vec![0xb2, 7, 40], vec![0xb2, 64, 0], vec![0xe2, 0, 64]];
    assert_eq!(heard(&mut node), now_set);
}

#[test]
fn channels_that_were_set_are_told_one_at_a_look() {
    let (mut node, mut heard) = keyboard_with_bob();
    lock(&node.ports.played).extend([vec![0xc0, 1], vec![0xc9, 2]]);
    heard(&mut node);
    node.bob_reports();
    let looks: Vec<Vec<Vec<u8>>> = (0..3).map(|_| heard(&mut node)).collect();
    assert_eq!(looks, [vec![vec![0xc0, 1]], vec![vec![0xc9, 2]], vec![]]);
}
