//! Receiving one audio stream.
//!
//! Checks what came against the announced format, drops doubles, follows restarts, and hands payloads on. PCM leaves
//! at once and in whatever order it came: the engine places blocks by timestamp, so waiting here would only add
//! latency. Opus leaves in order with a deadline for each packet (see the module `in_order`).
//!
//! Limits: memory is bounded by the constants below whatever a peer sends; how early or late a PCM block is, only the
//! engine can tell.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;

use super::in_order::{InOrder, Taken};
use super::redundancy::{self, Block};
use super::report::{ReportBlock, SenderReport};
use super::statistics::{Arrival, Sequence};
use super::{Codec, Format, Header, Layout, PacketError, Statistics, extend_timestamp, payload_type};
use crate::time::LocalTime;

/// Timestamps remembered to tell a repeated payload from a new one. 0.3 s at 32 frames.
const REMEMBERED: usize = 512;
/// Outputs kept for the caller; at the bound the oldest is dropped and counted.
const MAX_OUTPUTS: usize = 256;
/// Most frames one packet may hold; an announced rate of 192 kHz and 120 ms stay below.
const MAX_PACKET_FRAMES: u32 = 32_768;
/// Playout budget until the node says better: about the delay an engine starts an internet stream with.
const DEFAULT_BUDGET: Duration = Duration::from_millis(10);

/// What a stream gives to the decoder or the engine. Timestamps are in frames of the stream's rate, extended so that
/// they do not wrap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// The sender began anew: what follows is on a new timeline. Reset decoder and playout.
    Restarted,
    /// One payload to decode. PCM: any order, at most once. Opus: in order, at most once.
    Packet {
        /// Position of the first frame.
        timestamp_frames: i64,
        /// Frames in the payload, at least 1.
        frames: u32,
        /// Whether only a repetition (RFC 2198) brought it.
        recovered: bool,
        /// Which channels it carries; [`Layout::All`] for Opus, whose packets say so themselves.
        layout: Layout,
        /// PCM big-endian interleaved, or one Opus packet.
        payload: Bytes,
    },
    /// Opus only: this part is not coming in time; let the decoder conceal it.
    Conceal {
        /// Position of the first missing frame.
        timestamp_frames: i64,
        /// Missing frames, at least 1 and at most 5,760.
        frames: u32,
        /// The packet right after the gap, which may carry in-band FEC for it. It comes again as [`Output::Packet`].
        following: Option<Bytes>,
    },
}

/// A payload that fits the stream's format.
struct Checked {
    block: Block,
    layout: Layout,
    frames: u32,
}

/// One incoming audio stream.
#[derive(Debug)]
pub struct StreamReceiver {
    format: Format,
    ssrc: Option<u32>,
    replaced_ssrc: Option<u32>,
    sequence: Sequence,
    /// Extended timestamp of the packet with the highest number.
    reference: Option<i64>,
    delivered: BTreeSet<i64>,
    in_order: Option<InOrder>,
    outputs: VecDeque<Output>,
    last_sender_report: Option<(u32, LocalTime)>,
}

impl StreamReceiver {
    /// A receiver for a stream announced as `format`. With no `ssrc` it takes the first that comes. A packet with
    /// another SSRC is taken as a restart of the sender; route by SSRC first where one peer sends several streams.
    pub fn new(format: Format, ssrc: Option<u32>) -> Self {
        StreamReceiver {
            format,
            ssrc,
            replaced_ssrc: None,
            sequence: Sequence::default(),
            reference: None,
            delivered: BTreeSet::new(),
            in_order: (format.codec == Codec::Opus).then(|| InOrder::new(format, DEFAULT_BUDGET)),
            outputs: VecDeque::new(),
            last_sender_report: None,
        }
    }

    /// The announced format.
    pub fn format(&self) -> Format {
        self.format
    }

    /// The stream now followed.
    pub fn ssrc(&self) -> Option<u32> {
        self.ssrc
    }

    /// Opus only: how long after the fastest packet a packet is still of use, that is, the engine's playout delay less
    /// the time decoding takes. Begins at 10 ms.
    pub fn set_playout_budget(&mut self, budget: Duration) {
        if let Some(in_order) = &mut self.in_order {
            in_order.set_budget(budget);
        }
    }

    /// Takes a datagram that [`crate::datagram::classify`] calls RTP. Then poll the outputs.
    ///
    /// # Errors
    /// [`PacketError`] if the packet is refused; the stream is unharmed and the refusal counted.
    pub fn handle_packet(&mut self, now: LocalTime, packet: &Bytes) -> Result<(), PacketError> {
        self.take(now, packet).inspect_err(|_| self.sequence.counts.refused += 1)
    }

    /// What to do next; call until `None` after every `handle_*`.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`StreamReceiver::handle_deadline`] is due: a missing Opus packet stops being of use. `None` for PCM.
    pub fn poll_deadline(&self) -> Option<LocalTime> {
        self.in_order.as_ref()?.deadline()
    }

    /// Gives up on packets whose deadline has passed. Harmless when early.
    pub fn handle_deadline(&mut self, now: LocalTime) {
        if let Some(in_order) = &mut self.in_order {
            let (concealed, recovered) = in_order.drain(now, &mut self.outputs);
            self.sequence.counts.concealed_frames += concealed;
            self.sequence.counts.recovered += recovered;
            self.bound_outputs();
        }
    }

    /// Notes a sender report, so that the next receiver report can quote it.
    pub fn handle_sender_report(&mut self, now: LocalTime, report: &SenderReport) {
        if self.ssrc == Some(report.ssrc) {
            self.last_sender_report = Some((report.middle_ntp(), now));
        }
    }

    /// The block for the next receiver report; each call starts a new interval for the fraction lost. `None` before
    /// the first packet.
    pub fn report_block(&mut self, now: LocalTime) -> Option<ReportBlock> {
        self.reference?;
        let mut block = self.sequence.report_block(self.ssrc?, self.format.rate_hz);
        if let Some((quoted, arrived)) = self.last_sender_report {
            let delay = now.saturating_since(arrived).as_nanos() * 65_536 / 1_000_000_000;
            block.last_sender_report = quoted;
            block.delay_since_last = u32::try_from(delay).unwrap_or(u32::MAX);
        }
        Some(block)
    }

    /// Counts since the stream began.
    pub fn statistics(&self) -> Statistics {
        self.sequence.counts
    }

    /// Extends a 32-bit timestamp (of a sender report, say) onto this stream's timeline; `None` before the first
    /// packet.
    pub fn extend_timestamp(&self, timestamp: u32) -> Option<i64> {
        self.reference.map(|reference| extend_timestamp(reference, timestamp))
    }

    fn take(&mut self, now: LocalTime, packet: &Bytes) -> Result<(), PacketError> {
        let (header, payload) = Header::parse(packet)?;
        if self.replaced_ssrc == Some(header.ssrc) {
            return Err(PacketError::ReplacedStream(header.ssrc));
        }
        // Everything is checked before anything is changed: a malformed packet must not start or restart a stream.
        let blocks = self.blocks(&header, &packet.slice_ref(payload))?;
        if self.ssrc.is_some_and(|ssrc| ssrc != header.ssrc) {
            self.replaced_ssrc = self.ssrc;
            self.sequence.restart();
            self.forget_timeline();
        }
        self.ssrc = Some(header.ssrc);
        let sequence = match self.sequence.handle(header.sequence)? {
            Arrival::New(sequence) => sequence,
            Arrival::Restart(sequence) => {
                self.forget_timeline();
                sequence
            }
            Arrival::Duplicate | Arrival::TooOld => return Ok(()),
        };
        let previous = self.reference.unwrap_or(i64::from(header.timestamp));
        let timestamp = extend_timestamp(previous, header.timestamp);
        let is_newest = self.sequence.counts.highest_sequence == sequence as u32;
        if is_newest {
            // Numbers went on, time went back: the sender started its timeline over. Without this its sound would be
            // taken for old news until it caught up.
            if timestamp < previous {
                self.sequence.counts.restarts += 1;
                self.forget_timeline();
            }
            self.reference = Some(timestamp);
        }
        // What left together is not uneven because it arrives together.
        let departed = timestamp.saturating_add(i64::from(Header::departure_ticks(packet)));
        self.sequence.handle_timing(now, self.format.nanos(departed));
        if let Some(in_order) = &mut self.in_order {
            in_order.handle_timing(now, timestamp);
        }
        let last = blocks.len() - 1;
        for (index, checked) in blocks.into_iter().enumerate() {
            let position = timestamp.saturating_sub(i64::from(checked.block.timestamp_offset));
            self.deliver(position, (index == last).then_some(sequence), checked);
        }
        self.handle_deadline(now);
        self.bound_outputs();
        Ok(())
    }

    /// The payloads in a packet, the primary last.
    fn blocks(&self, header: &Header, payload: &Bytes) -> Result<Vec<Checked>, PacketError> {
        let blocks = if header.payload_type == payload_type::REDUNDANT {
            redundancy::decode(payload)?
        } else {
            let data = payload.clone();
            vec![Block { payload_type: header.payload_type, timestamp_offset: 0, data }]
        };
        let checked = blocks.into_iter().map(|block| {
            let layout = self.format.layout(block.payload_type).ok_or(PacketError::PayloadType {
                expected: self.format.codec.payload_type(Layout::All),
                got: block.payload_type,
            })?;
            let frames = self.format.frames(layout, &block.data)?;
            if frames > MAX_PACKET_FRAMES {
                return Err(PacketError::PayloadLength(block.data.len()));
            }
            Ok(Checked { block, layout, frames })
        });
        checked.collect()
    }

    /// Gives a payload on unless it has been given on before. `sequence` is `None` for a repeated payload.
    fn deliver(&mut self, timestamp: i64, sequence: Option<i64>, checked: Checked) {
        let Checked { block: Block { data: payload, .. }, layout, frames } = checked;
        let recovered = sequence.is_none();
        let too_old = self.delivered.len() >= REMEMBERED
            && self.delivered.first().is_some_and(|&oldest| timestamp < oldest);
        if too_old || self.delivered.contains(&timestamp) && (recovered || self.in_order.is_none()) {
            // A repeated payload that is not needed is the ordinary case, not an event.
            self.sequence.counts.late += u64::from(!recovered);
            return;
        }
        if let Some(in_order) = &mut self.in_order {
            if in_order.insert(timestamp, frames, sequence, payload) == Taken::Late {
                self.sequence.counts.late += u64::from(!recovered);
            }
        } else {
            self.sequence.counts.recovered += u64::from(recovered);
            self.outputs.push_back(Output::Packet {
                timestamp_frames: timestamp,
                frames,
                recovered,
                layout,
                payload,
            });
        }
        self.delivered.insert(timestamp);
        if self.delivered.len() > REMEMBERED {
            self.delivered.pop_first();
        }
    }

    fn forget_timeline(&mut self) {
        self.reference = None;
        self.delivered.clear();
        self.last_sender_report = None;
        if let Some(in_order) = &mut self.in_order {
            in_order.restart();
        }
        self.outputs.push_back(Output::Restarted);
    }

    fn bound_outputs(&mut self) {
        while self.outputs.len() > MAX_OUTPUTS {
            self.outputs.pop_front();
            self.sequence.counts.overflowed += 1;
        }
    }
}

#[cfg(test)]
mod tests;
