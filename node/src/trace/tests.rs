use std::{fs, time::Duration};

use super::{
    record::{End, FORMAT},
    *,
};

fn settings(limit_bytes: u64) -> (tempfile::TempDir, Settings) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.pcapng");
    (folder, Settings { file, limit_bytes })
}

fn beginning() -> Start {
    Start {
        format: FORMAT,
        version: "0".into(),
        arch: "any".into(),
        host_ns: 1_000,
        unix_ns: 1_700_000_000_000_000_000,
        me: PeerId::random(),
        name: "Alice".into(),
        settings: String::new(),
    }
}

fn api(number: u64) -> Record {
    Record::Api { at_ns: number, what: "test".into(), arguments: "x".repeat(100) }
}

fn read(settings: &Settings) -> (Vec<Item>, bool) {
    let mut reader = Reader::begin(File::open(&settings.file).unwrap()).unwrap();
    let mut items = Vec::new();
    while let Some(item) = reader.next_item().unwrap() {
        items.push(item);
    }
    (items, reader.is_truncated())
}

#[test]
fn what_is_recorded_is_read_in_order() {
    let (_folder, settings) = settings(1_000_000);
    let (recorder, running) = start(&settings, beginning()).unwrap();
    let peer = PeerId::random();
    let packet = Bytes::from_static(&[0x80, 96, 0, 1]);
    let call = || Some(PacketCall::Session("Ok(())".into()));
    recorder.incoming(1_100, &peer, Way::Control, &packet, call);
    recorder.record(|| Record::Name { peer, name: "Bob".into() });
    recorder.outgoing(|| 1_200, &peer, Way::Datagram, &packet);
    recorder.outgoing(|| 1_300, &peer, Way::Project, &Bytes::from(vec![7; 1 << 20]));
    running.stop();
    recorder.record(|| api(0));
    let (items, truncated) = read(&settings);
    assert!(!truncated);
    assert!(matches!(&items[0], Item::Packet(note, bytes)
        if note.peer == peer && note.incoming && note.at_ns == 1_100 && *bytes == packet && note.call.is_some()));
    assert!(matches!(&items[1], Item::Record(Record::Name { name, .. }) if name == "Bob"));
    assert!(matches!(&items[2], Item::Packet(note, bytes) if !note.incoming && *bytes == packet));
    assert!(matches!(&items[3], Item::Packet(_, bytes) if bytes.len() == address::MAX_PAYLOAD_BYTES));
    assert!(matches!(items[4..], [Item::Record(Record::End(End::Stopped))]));
}

#[test]
fn a_trace_that_is_given_up_has_no_end() {
    let (_folder, settings) = settings(1_000_000);
    let (recorder, running) = start(&settings, beginning()).unwrap();
    recorder.record(|| api(0));
    drop(running);
    assert!(!recorder.is_on());
    std::thread::sleep(Duration::from_millis(300));
    let (items, _) = read(&settings);
    assert!(!items.iter().any(|item| matches!(item, Item::Record(Record::End(_)))), "{items:?}");
}

#[test]
fn nobody_else_may_read_it() {
    use std::os::unix::fs::PermissionsExt;
    let (_folder, settings) = settings(1_000_000);
    let (_, running) = start(&settings, beginning()).unwrap();
    running.stop();
    assert_eq!(fs::metadata(&settings.file).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_file_that_cannot_be_had_is_named() {
    let (_folder, mut settings) = settings(1_000);
    settings.file = settings.file.join("beyond");
    let error = start(&settings, beginning()).err().unwrap().to_string();
    assert!(error.contains("beyond") && error.contains("--trace"), "{error}");
}

#[test]
fn a_trace_ends_at_its_limit_and_keeps_the_beginning() {
    let limit = 20_000;
    let (_folder, settings) = settings(limit);
    let (recorder, running) = start(&settings, beginning()).unwrap();
    for number in 0..1_000 {
        recorder.record(|| api(number));
    }
    let ended = || {
        (0..1_000).any(|_| {
            std::thread::sleep(Duration::from_millis(5));
            !recorder.is_on()
        })
    };
    assert!(ended(), "the recorder learns that there is no more room");
    running.stop();
    assert!(fs::metadata(&settings.file).unwrap().len() <= limit);
    let (items, _) = read(&settings);
    assert!(items.len() > 50);
    for (number, item) in items[..items.len() - 1].iter().enumerate() {
        assert!(matches!(item, Item::Record(Record::Api { at_ns, .. }) if *at_ns == number as u64));
    }
    assert!(matches!(items.last(), Some(Item::Record(Record::End(End::Limit)))));
}

#[test]
fn a_writer_that_is_too_slow_leaves_a_gap_and_nothing_behind_it() {
    // Nobody takes anything here.
    let (recorder, memory) = Recorder::in_memory();
    for number in 0..2 * MAX_QUEUED as u64 {
        recorder.record(|| api(number));
    }
    let mut taken = 0;
    while let Some(Item::Record(Record::Api { at_ns, .. })) = memory.take() {
        assert_eq!(at_ns, taken);
        taken += 1;
    }
    assert_eq!(taken, MAX_QUEUED as u64);
    recorder.record(|| api(0));
    assert!(memory.take().is_none(), "there is room again, and a hole before it");
    assert_eq!(memory.inner.lost.load(Ordering::Relaxed), MAX_QUEUED as u64 + 1);
}

#[test]
fn waiting_packets_are_bounded_by_their_octets() {
    let (recorder, memory) = Recorder::in_memory();
    let (peer, packet) = (PeerId::random(), Bytes::from(vec![0; 4 << 20]));
    for _ in 0..100 {
        recorder.outgoing(|| 0, &peer, Way::Project, &packet);
    }
    let taken = std::iter::from_fn(|| memory.take()).count();
    assert_eq!(taken, MAX_QUEUED_BYTES / packet.len());
}

#[test]
fn callbacks_that_find_no_room_end_the_trace() {
    let (_folder, settings) = settings(100_000_000);
    let (recorder, running) = start(&settings, beginning()).unwrap();
    let config = engine::Config { trace: true, ..engine::Config::new(48_000, 16) };
    let (mut engine, mut handle) = engine::engine(config).unwrap();
    let reader = handle.take_trace().unwrap();
    for callback in 0..70_000 {
        engine.process(&[], &mut [0.0; 32], engine::HostTime(callback));
    }
    assert!(reader.lost_callbacks() > 0);
    recorder.engine(1, reader);
    // Until the writer has found it; what is recorded then is behind the gap.
    let gap = || recorder.0.as_ref().unwrap().gap.load(Ordering::Relaxed);
    assert!((0..1_000).any(|_| {
        std::thread::sleep(Duration::from_millis(5));
        gap()
    }));
    recorder.record(|| api(0));
    running.stop();
    let (items, _) = read(&settings);
    let lost = |item: &Item| match item {
        Item::Record(Record::Gap { callbacks, .. } | Record::End(End::Lost { callbacks, .. })) => *callbacks,
        _ => 0,
    };
    let [.., gap, end] = &items[..] else { panic!("{items:?}") };
    assert!(lost(gap) > 0 && lost(end) == lost(gap), "{gap:?} {end:?}");
    assert!(!items.iter().any(|item| matches!(item, Item::Record(Record::Api { .. }))));
}

#[test]
fn without_a_trace_nothing_is_made() {
    let recorder = Recorder::default();
    recorder.record(|| unreachable!());
    recorder.outgoing(|| unreachable!(), &PeerId::random(), Way::Control, &Bytes::new());
    assert!(!recorder.is_on());
}
