//! The thread that writes a trace.

use std::{
    fs::File,
    io::{self, BufWriter},
    sync::{
        Arc,
        atomic::Ordering,
        mpsc::{Receiver, TryRecvError},
    },
    time::Duration,
};

use engine::TraceReader;

use super::{
    Inner, Message,
    address::{Addresses, HEADER_BYTES, OURS, dress, port},
    pcapng,
    record::{End, Item, PacketNote, Record, Start},
};

/// Time between two looks at the queues: what a killed process loses of its trace, and far below what they hold.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);
/// Kept of the size limit for the end record.
const END_BYTES: u64 = 256;
/// Records written before the callbacks' turn comes again: a replay holds back what stands between a packet and the callback
/// that took it, and on a busy machine the queues are long.
const BATCH: usize = 256;
const BUFFER_BYTES: usize = 1 << 18;
const COMMENT: &str = "Bandmesh trace: what QUIC carried, after decryption, in IP and UDP headers made up for viewers. \
UDP port 5004 is RTP (in Wireshark: Decode As), 5005 RTCP, 7001 control, 7002 project, 7003 clock. \
10.77.0.1 is the node that wrote it. Everything else is in Custom Blocks; replay with bandmesh-sim replay FILE.";

/// The writer's state.
pub(super) struct Writer {
    inner: Arc<Inner>,
    messages: Receiver<Message>,
    file: pcapng::Writer<BufWriter<File>>,
    limit_bytes: u64,
    start: Start,
    addresses: Addresses,
    engines: Vec<(u32, TraceReader)>,
    gap_written: bool,
}

impl Writer {
    pub(super) fn begin(
        file: File,
        limit_bytes: u64,
        start: Start,
        inner: Arc<Inner>,
        messages: Receiver<Message>,
    ) -> io::Result<Self> {
        let application = format!("bandmesh {}", start.version);
        let file =
            pcapng::Writer::begin(BufWriter::with_capacity(BUFFER_BYTES, file), &application, COMMENT)?;
        let mut writer = Self {
            inner,
            messages,
            file,
            limit_bytes,
            addresses: Addresses::default(),
            engines: Vec::new(),
            gap_written: false,
            start,
        };
        writer.file.name(OURS, &writer.start.name)?;
        writer.write(&Record::Start(writer.start.clone()))?;
        writer.file.flush()?;
        Ok(writer)
    }

    /// Writes until the trace is closed or cannot go on.
    pub(super) fn run(&mut self) {
        let outcome = self.follow();
        self.inner.open.store(false, Ordering::Release);
        let end = match outcome {
            Ok(Some(end)) => end,
            Ok(None) => return,
            Err(error) => {
                tracing::error!(%error, "the trace ends here: it cannot be written");
                return;
            }
        };
        if end == End::Limit {
            tracing::warn!(
                "the trace has reached its size limit and ends here; raise it with --trace-limit-mb"
            );
        }
        if let Err(error) = self.write(&Record::End(end)).and_then(|()| self.file.flush()) {
            tracing::error!(%error, "the trace has no end record: it cannot be written");
        }
    }

    /// Returns how the trace ends; `None` for one that was given up.
    fn follow(&mut self) -> io::Result<Option<End>> {
        loop {
            let closing = !self.inner.open.load(Ordering::Acquire);
            // Callbacks first: what they took had been recorded, or will be found in the queue behind it.
            let before = self.file.written();
            self.drain_engines()?;
            let has_more = self.drain_queue()?;
            if self.file.written() != before {
                self.file.flush()?;
            }
            if self.is_full() {
                return Ok(Some(End::Limit));
            }
            self.note_gap()?;
            if has_more {
                continue;
            }
            if closing {
                let complete = self.inner.complete.load(Ordering::Acquire);
                return Ok(match self.lost() {
                    (0, 0) => complete.then_some(End::Stopped),
                    (records, callbacks) => Some(End::Lost { records, callbacks }),
                });
            }
            std::thread::park_timeout(LOOK_INTERVAL);
        }
    }

    /// Returns whether there may be more.
    fn drain_queue(&mut self) -> io::Result<bool> {
        for _ in 0..BATCH {
            if self.is_full() {
                break;
            }
            match self.messages.try_recv() {
                Ok(Message::Engine(engine, reader)) => self.engines.push((engine, reader)),
                Ok(Message::Item(Item::Record(record))) => {
                    if let Record::Name { peer, name } = &record {
                        let (address, _) = self.addresses.of(peer);
                        self.file.name(address, name)?;
                    }
                    self.write(&record)?;
                }
                Ok(Message::Item(Item::Packet(note, message))) => {
                    self.inner.queued_bytes.fetch_sub(message.len(), Ordering::Relaxed);
                    self.write_packet(&note, &message)?;
                }
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => return Ok(false),
            }
        }
        Ok(true)
    }

    fn drain_engines(&mut self) -> io::Result<()> {
        if self.gap_written {
            return Ok(());
        }
        let mut engines = std::mem::take(&mut self.engines);
        let mut sources = Vec::new();
        for (engine, reader) in &mut engines {
            while !self.is_full()
                && let Some(callback) = reader.next_callback(&mut sources)
            {
                self.write(&Record::Callback {
                    engine: *engine,
                    callback: callback.into(),
                    sources: sources.iter().map(|source| (*source).into()).collect(),
                })?;
            }
        }
        engines.retain(|(_, reader)| !reader.is_over() || reader.lost_callbacks() > 0);
        self.engines = engines;
        Ok(())
    }

    fn note_gap(&mut self) -> io::Result<()> {
        let (records, callbacks) = self.lost();
        if self.gap_written || (records, callbacks) == (0, 0) {
            return Ok(());
        }
        self.gap_written = true;
        self.inner.gap.store(true, Ordering::Release);
        tracing::error!(records, callbacks, "the trace ends here: this machine is too busy to write it");
        self.write(&Record::Gap { records, callbacks })?;
        self.file.flush()
    }

    fn lost(&self) -> (u64, u64) {
        let callbacks = self.engines.iter().map(|(_, reader)| reader.lost_callbacks()).sum();
        (self.inner.lost.load(Ordering::Relaxed), callbacks)
    }

    fn is_full(&self) -> bool {
        self.file.written() + END_BYTES >= self.limit_bytes
    }

    fn write(&mut self, record: &Record) -> io::Result<()> {
        self.file.custom(&postcard::to_stdvec(record).map_err(io::Error::other)?)
    }

    fn write_packet(&mut self, note: &PacketNote, message: &[u8]) -> io::Result<()> {
        let (theirs, is_new) = self.addresses.of(&note.peer);
        let (from, to) = if note.incoming { (theirs, OURS) } else { (OURS, theirs) };
        let packet = dress(from, to, port(note.way, message), message);
        let comment = if is_new { format!("peer {}", note.peer) } else { String::new() };
        let unix_ns = self.start.unix_ns.saturating_add(note.at_ns.saturating_sub(self.start.host_ns));
        let bytes = postcard::to_stdvec(note).map_err(io::Error::other)?;
        self.file.packet(unix_ns, &packet, message.len() + HEADER_BYTES, &bytes, &comment)
    }
}
