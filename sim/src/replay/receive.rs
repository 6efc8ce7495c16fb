//! The receiving halves of the members.

use std::collections::{BTreeMap, btree_map::Entry};

use bandmesh::{
    media::{Incoming, Recording},
    session::message::StreamInfo,
    trace::{
        Memory, Recorder,
        record::{Item, PacketCall, PacketNote, Push, ReceiveCall, Record},
    },
};
use bytes::Bytes;
use engine::{BlockReader, HostTime, PlayoutPoint, SourceConfig, SourceWriter, block_queue};
use transport::{PeerId, clock::Clock, time::LocalTime};

use super::{Halt, MAX_LANES, engine::Engines, equal};

/// All members that there have been.
#[derive(Default)]
pub struct Members {
    halves: BTreeMap<PeerId, Half>,
    datagrams: u64,
    blocks: u64,
    clock_estimates: u64,
    clock_datagrams: u64,
    reports: u64,
    midi: u64,
}

/// One member's receiving half, and the queue that its blocks come out of.
struct Half {
    incoming: Incoming,
    blocks: BlockReader,
    /// Tag of the source that it feeds.
    source: u64,
}

impl Members {
    /// Compared so far, by kind.
    pub fn compared(&self) -> BTreeMap<&'static str, u64> {
        BTreeMap::from([
            ("datagrams", self.datagrams),
            ("blocks", self.blocks),
            ("clock_estimates", self.clock_estimates),
            ("clock_datagrams", self.clock_datagrams),
            ("report_blocks", self.reports),
            ("midi_outputs", self.midi),
        ])
    }

    /// A datagram came.
    pub fn handle_datagram(
        &mut self,
        note: &PacketNote,
        message: &Bytes,
        memory: &Memory,
        engines: &mut Engines,
    ) -> Result<(), Halt> {
        let Some(PacketCall::Receive { at, pushed, .. }) = &note.call else { return Ok(()) };
        let half = self.half(&note.peer)?;
        // What the reports say is in what it records.
        let _ = half.incoming.handle_datagram((*at).into(), message);
        let source = half.source;
        let mut replayed = memory.take();
        if let Some(Item::Packet(
            PacketNote { call: Some(PacketCall::Receive { pushed: again, .. }), .. },
            _,
        )) = &mut replayed
        {
            as_taken(again, pushed);
        }
        self.datagrams += 1;
        let recorded = Item::Packet(note.clone(), Bytes::new());
        super::expect("what became of a datagram", &recorded, replayed)?;
        self.hand_over(&note.peer, source, pushed, engines)
    }

    /// Any other call.
    pub fn handle(
        &mut self,
        peer: PeerId,
        call: &ReceiveCall,
        recorder: &Recorder,
        memory: &Memory,
        engines: &mut Engines,
    ) -> Result<(), Halt> {
        let mut pushes: &[Push] = &[];
        let what = match call {
            ReceiveCall::New { info, source, engine_rate_hz, incarnation } => {
                self.begin(peer, info, *source, *engine_rate_hz, *incarnation, recorder)?;
                "how a member's receiving half begins"
            }
            ReceiveCall::ChangeStream { info, source, engine_rate_hz } => {
                let (mut writer, blocks) = queue(info)?;
                writer.set_tag(*source);
                let half = self.half(&peer)?;
                half.incoming.change_stream(*info, writer, None, *engine_rate_hz);
                (half.blocks, half.source) = (blocks, *source);
                "a call of a receiving half"
            }
            ReceiveCall::Refit { source, engine_rate_hz } => {
                let half = self.half(&peer)?;
                let info = half.incoming.report(LocalTime::default()).info;
                let (mut writer, blocks) = queue(&info)?;
                writer.set_tag(*source);
                half.incoming.refit(writer, None, *engine_rate_hz);
                (half.blocks, half.source) = (blocks, *source);
                "a call of a receiving half"
            }
            ReceiveCall::Deadline { at, pushed } => {
                self.half(&peer)?.incoming.handle_deadline((*at).into());
                pushes = pushed;
                "what a timer of a receiving half did"
            }
            ReceiveCall::Observe { at, delay_frames, playout, .. } => {
                let half = self.half(&peer)?;
                let playout = playout.map(|(timestamp_frames, host_ns)| PlayoutPoint {
                    timestamp_frames,
                    host_time: HostTime(host_ns),
                });
                half.blocks.show(*delay_frames, playout);
                half.incoming.observe((*at).into());
                self.clock_estimates += 1;
                "clock estimate, packet statistics and latency of a member"
            }
            ReceiveCall::Clock { at_ns, .. } => {
                // Which of the two calls it was makes no difference here.
                let _ = self.half(&peer)?.incoming.poll_clock(LocalTime::from_nanos(*at_ns));
                self.clock_datagrams += 1;
                "a clock datagram"
            }
            ReceiveCall::ReportBlocks { at_ns, .. } => {
                let _ = self.half(&peer)?.incoming.report_blocks(LocalTime::from_nanos(*at_ns));
                self.reports += 1;
                "what is reported to a member"
            }
            ReceiveCall::DueMidi(_) => {
                let _ = self.half(&peer)?.incoming.take_due_midi();
                self.midi += 1;
                "MIDI for the output"
            }
            ReceiveCall::Release { at } => {
                self.half(&peer)?.incoming.release((*at).into());
                "a call of a receiving half"
            }
        };
        let mut replayed = memory.take();
        if let Some(Item::Record(Record::Receive {
            call: ReceiveCall::Deadline { pushed: again, .. }, ..
        })) = &mut replayed
        {
            as_taken(again, pushes);
        }
        let recorded = Item::Record(Record::Receive { peer, call: call.clone() });
        super::expect(what, &recorded, replayed)?;
        let source = self.half(&peer)?.source;
        self.hand_over(&peer, source, pushes, engines)
    }

    fn begin(
        &mut self,
        peer: PeerId,
        info: &StreamInfo,
        source: u64,
        engine_rate_hz: u32,
        incarnation: u32,
        recorder: &Recorder,
    ) -> Result<(), Halt> {
        let (mut writer, blocks) = queue(info)?;
        writer.set_tag(source);
        let mut incoming = Incoming::new(*info, writer, None, engine_rate_hz, Clock::new(incarnation));
        incoming.record(Recording::new(recorder, peer), incarnation);
        let half = Half { incoming, blocks, source };
        let full = self.halves.len() >= MAX_LANES;
        match self.halves.entry(peer) {
            Entry::Vacant(_) if full => Err(Halt::Senseless("more members than any node follows".into())),
            Entry::Vacant(place) => {
                place.insert(half);
                Ok(())
            }
            Entry::Occupied(mut place) => {
                place.insert(half);
                Ok(())
            }
        }
    }

    /// Gives the engine what its queue had room for.
    fn hand_over(
        &mut self,
        peer: &PeerId,
        source: u64,
        pushes: &[Push],
        engines: &mut Engines,
    ) -> Result<(), Halt> {
        let half = self.half(peer)?;
        let mut handed = 0;
        for push in pushes {
            let Some((timestamp_frames, arrival, samples)) = half.blocks.next_block() else {
                return equal("a block for the engine", &format!("{push:?}"), "nothing");
            };
            handed += 1;
            if push.taken {
                engines.deliver(source, timestamp_frames, arrival, samples)?;
            }
        }
        self.blocks += handed;
        engines.run()
    }

    fn half(&mut self, peer: &PeerId) -> Result<&mut Half, Halt> {
        self.halves.get_mut(peer).ok_or_else(|| Halt::Senseless(format!("{peer} is no member yet")))
    }
}

/// Whether the engine's queue had room is no decision of the receiving half; here it always has.
fn as_taken(replayed: &mut [Push], recorded: &[Push]) {
    for (again, push) in replayed.iter_mut().zip(recorded) {
        again.taken = push.taken;
    }
}

fn queue(info: &StreamInfo) -> Result<(SourceWriter, BlockReader), Halt> {
    block_queue(SourceConfig::new(info.rate_hz, usize::from(info.channels)))
        .map_err(|error| Halt::Senseless(error.to_string()))
}
