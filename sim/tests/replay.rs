//! Traces that a small node wrote here, without threads: replayed whole, cut, changed and damaged.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a failed step ends its test"
)]

use std::{path::Path, process::Command};

use bandmesh::{
    media::{Incoming, Recording},
    node::RecordedSession,
    session::{
        Identity,
        message::{Codec, Control, Hello, PROTOCOL, StreamInfo, encode},
    },
    trace::{
        self, Recorder, Settings,
        record::{EngineCommand, FORMAT, Record, Start},
    },
};
use bytes::Bytes;
use engine::{Engine, Handle, HostTime, SourceConfig, SourceId};
use sim::replay::{Outcome, replay};
use transport::{
    PeerId,
    clock::Clock,
    rtp::{self, Layout, StreamSender, StreamSenderConfig},
    time::{LocalTime, SessionTime},
};

const RATE_HZ: u32 = 48_000;
const PERIOD: usize = 128;
const PERIOD_NS: u64 = 2_666_667;
const TAG: u64 = 7;
const BOB: StreamInfo =
    StreamInfo { ssrc: 2, codec: Codec::Pcm16, rate_hz: RATE_HZ, channels: 1, packet_frames: 128 };

/// Alice's node, as far as a trace goes, with Bob in her session.
struct Alice {
    recorder: Recorder,
    session: RecordedSession,
    incoming: Incoming,
    engine: Engine,
    handle: Handle,
    bob: PeerId,
    bobs_clock: Clock,
    sender: StreamSender,
    now_ns: u64,
    dice: u64,
}

impl Alice {
    fn new(recorder: Recorder, me: PeerId) -> Self {
        let config = engine::Config { trace: true, max_sources: 4, ..engine::Config::new(RATE_HZ, PERIOD) };
        let (engine, mut handle) = engine::engine(config).unwrap();
        recorder.record(|| Record::Engine {
            engine: 1,
            rate_hz: RATE_HZ,
            max_period_frames: PERIOD as u32,
            input_channels: 1,
            max_sources: 4,
        });
        recorder.engine(1, handle.take_trace().unwrap());
        let (mut writer, source) = handle.source(SourceConfig::new(RATE_HZ, 1)).unwrap();
        writer.set_tag(TAG);
        handle.send(engine::Command::AddSource(SourceId(1), source)).unwrap();
        recorder.record(|| Record::Command {
            engine: 1,
            command: EngineCommand::AddSource { source: 1, rate_hz: RATE_HZ, channels: 1, tag: TAG },
        });
        let identity = Identity {
            peer: me,
            author: 1,
            author_of: bandmesh::node::author_number,
            name: "Alice".into(),
            session: "jam".into(),
            incarnation: 5,
            timebase: [1; 16],
            stream: StreamInfo { ssrc: 1, ..BOB },
        };
        let session = RecordedSession::new(identity, 1_000_000_000, 120.0, 4, recorder.clone());
        let bob = PeerId::random();
        let mut incoming = Incoming::new(BOB, writer, None, RATE_HZ, Clock::new(9));
        incoming.record(Recording::new(&recorder, bob), 9);
        let sender = StreamSender::new(StreamSenderConfig {
            ssrc: BOB.ssrc,
            first_sequence: 65_500,
            format: rtp::Format { codec: rtp::Codec::Pcm16, rate_hz: RATE_HZ, channels: 1 },
            max_datagram: 1_200,
            redundancy: 0,
        });
        let bobs_clock = Clock::new(11);
        Self {
            recorder,
            session,
            incoming,
            engine,
            handle,
            bob,
            bobs_clock,
            sender,
            now_ns: 1_000_000_000,
            dice: 3,
        }
    }

    fn roll(&mut self, sides: u64) -> u64 {
        self.dice = self.dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.dice >> 33) % sides
    }

    fn moment(&self) -> bandmesh::media::Moment {
        let session = SessionTime::from_nanos(self.now_ns as i64 - 500_000_000);
        bandmesh::media::Moment { local: LocalTime::from_nanos(self.now_ns), session, common: Some((1, 0)) }
    }

    fn meet(&mut self) {
        let now_ns = self.now_ns as i64;
        self.session.handle_connected(now_ns, self.bob);
        let hello = Hello {
            protocol: PROTOCOL,
            session: "jam".into(),
            name: "Bob".into(),
            incarnation: 4,
            stream: BOB,
        };
        let frame = Bytes::from(encode(&Control::Hello(hello)));
        self.session.handle_frame(now_ns, &self.bob, &frame).unwrap();
        self.session.handle_frame(now_ns, &self.bob, &Bytes::from_static(b"no frame")).unwrap_err();
        self.recorder.record(|| Record::Name { peer: self.bob, name: "Bob".into() });
    }

    fn period(&mut self, index: u64) {
        self.now_ns = 1_000_000_000 + index * PERIOD_NS + self.roll(200_000);
        let payload: Vec<u8> = (0..2 * PERIOD).map(|_| self.roll(64) as u8).collect();
        self.sender.push((index as usize * PERIOD) as i64, Layout::All, &payload).unwrap();
        let packet = self.sender.poll_transmit().unwrap();
        if self.roll(30) != 0 {
            self.hear(&packet);
        }
        while let Some(question) = self.incoming.poll_clock(LocalTime::from_nanos(self.now_ns)) {
            self.bobs_clock.handle_packet(LocalTime::from_nanos(self.now_ns + 600_000), &question).unwrap();
            let answered = LocalTime::from_nanos(self.now_ns + 650_000);
            while let Some(answer) = self.bobs_clock.poll_transmit(answered) {
                self.now_ns += 1_000_000 + self.roll(100_000);
                self.hear(&answer);
            }
        }
        if index.is_multiple_of(20) {
            self.incoming.handle_deadline(self.moment());
            self.incoming.observe(self.moment());
            let _ = self.incoming.report_blocks(LocalTime::from_nanos(self.now_ns));
            self.session.handle_deadline(self.now_ns as i64);
            self.session.handle_clock(self.now_ns as i64, &self.bob, 50_000);
        }
        if index == 200 {
            self.session
                .change_beat(self.now_ns as i64, |beat, at, author| beat.with_tempo(97.0, at, author));
        }
        while self.session.poll(|| 0).is_some() {}
        self.engine.process(&[0.1; PERIOD], &mut [0.0; 2 * PERIOD], HostTime(self.now_ns));
        while self.handle.poll_report().is_some() {}
    }

    fn hear(&mut self, datagram: &Bytes) {
        let at = self.moment();
        let _ = self.incoming.handle_datagram(at, datagram);
    }
}

/// A trace of so many periods.
fn write(file: &Path, periods: u64) {
    let me = PeerId::random();
    let start = Start {
        format: FORMAT,
        version: env!("CARGO_PKG_VERSION").into(),
        arch: std::env::consts::ARCH.into(),
        host_ns: 1_000_000_000,
        unix_ns: 1_700_000_000_000_000_000,
        me,
        name: "Alice".into(),
        settings: String::new(),
    };
    let settings = Settings { file: file.to_owned(), limit_bytes: 100_000_000 };
    let (recorder, running) = trace::start(&settings, start).unwrap();
    let mut alice = Alice::new(recorder, me);
    alice.meet();
    for index in 0..periods {
        alice.period(index);
    }
    alice.session.leave(alice.now_ns as i64);
    while alice.session.poll(|| 0).is_some() {}
    running.stop();
}

/// Two seconds.
fn trace() -> Vec<u8> {
    trace_of(750)
}

fn trace_of(periods: u64) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("alice.pcapng");
    write(&file, periods);
    std::fs::read(file).unwrap()
}

fn count(outcome: &Outcome, kind: &str) -> u64 {
    outcome.compared[kind]
}

#[test]
fn a_whole_trace_is_decided_again() {
    let outcome = replay(&trace()[..]).unwrap();
    assert!(outcome.equal && outcome.complete, "{outcome:#?}");
    assert_eq!(count(&outcome, "callbacks"), 750);
    assert_eq!(count(&outcome, "source_callbacks"), 750);
    assert!(count(&outcome, "concealed_frames") > 1_000);
    assert_eq!(count(&outcome, "clock_estimates"), 38);
    assert_eq!(count(&outcome, "session_frames"), 2);
    assert!(count(&outcome, "session_outputs") > 5 && count(&outcome, "clock_datagrams") > 30);
    assert!(count(&outcome, "blocks") > 700 && count(&outcome, "datagrams") > 750);
}

#[test]
fn a_trace_cut_anywhere_is_replayed_as_far_as_it_goes() {
    let trace = trace();
    let whole = replay(&trace[..]).unwrap();
    for share in 1..20 {
        let outcome = replay(&trace[..trace.len() * share / 20 + share]).unwrap();
        assert!(outcome.equal && !outcome.complete, "{outcome:#?}");
        assert!(outcome.records < whole.records);
        assert!(outcome.ended.contains("cut off") || outcome.ended.contains("killed"), "{}", outcome.ended);
    }
}

/// Where the payload of the `nth` audio packet of Bob lies.
fn audio(trace: &[u8], nth: usize) -> usize {
    // IP from 10.77.1.1 to 10.77.0.1, then UDP from and to 5004.
    let pattern = [10, 77, 1, 1, 10, 77, 0, 1, 0x13, 0x8C, 0x13, 0x8C];
    let found = trace.windows(pattern.len()).enumerate().filter(|(_, window)| *window == pattern);
    found.map(|(at, _)| at).nth(nth).unwrap() + pattern.len() + 4 + 12
}

#[test]
fn one_other_sample_in_one_packet_is_found_where_it_is() {
    let mut trace = trace();
    let at = audio(&trace, 400);
    trace[at + 17] ^= 1;
    let outcome = replay(&trace[..]).unwrap();
    let difference = outcome.difference.unwrap();
    assert!(!outcome.equal);
    assert!(difference.what.contains("datagram") && difference.context.len() == 6, "{difference:#?}");
    assert!((difference.octet as usize) < at && at - (difference.octet as usize) < 200);
    assert!((0.9..1.4).contains(&difference.at_s), "{}", difference.at_s);
}

#[test]
fn a_packet_that_is_missing_is_found() {
    let trace = trace();
    let block = audio(&trace, 400) - 12 - 8 - 20 - 28;
    let length = u32::from_le_bytes(trace[block + 4..block + 8].try_into().unwrap()) as usize;
    assert_eq!(trace[block], 6, "a packet begins there");
    let outcome = replay(&[&trace[..block], &trace[block + length..]].concat()[..]).unwrap();
    // Everything after it is counted otherwise.
    assert!(!outcome.equal, "{outcome:#?}");
}

#[test]
fn a_damaged_trace_is_an_error_or_a_difference_and_never_more() {
    // Short, and whole: where the callbacks stand in the file depends on when the writing thread wakes.
    let trace = trace_of(120);
    let mut differences = 0;
    for attempt in 0..400usize {
        let at = (attempt * 7_919 + 13) % trace.len();
        let mut damaged = trace.clone();
        damaged[at] ^= 1 << (attempt % 8);
        match replay(&damaged[..]) {
            Ok(outcome) => differences += u32::from(!outcome.equal),
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
    assert!(differences > 100, "{differences} of 400");
}

#[test]
fn the_program_says_by_its_exit_code_what_came_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("alice.pcapng");
    write(&file, 750);
    let run = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bandmesh-sim"));
        let output = command.args(["replay", "--json"]).arg(&file).output().unwrap();
        let told = serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap_or_default();
        (output.status.code().unwrap(), told, String::from_utf8(output.stderr).unwrap())
    };
    let (code, told, _) = run();
    assert_eq!((code, &told["equal"], &told["compared"]["callbacks"]), (0, &true.into(), &750.into()));

    let mut trace = std::fs::read(&file).unwrap();
    let at = audio(&trace, 100);
    trace[at] ^= 0x80;
    std::fs::write(&file, trace).unwrap();
    let (code, told, _) = run();
    assert_eq!((code, &told["equal"]), (1, &false.into()));
    assert!(told["difference"]["recorded"] != told["difference"]["replayed"]);

    std::fs::write(&file, "no trace").unwrap();
    let (code, _, said) = run();
    assert!(code == 2 && said.contains("alice.pcapng") && said.contains("no trace"), "{said}");
}
