//! Cutting coded sound into packets.
//!
//! A period of PCM may be larger than a datagram can carry, and the path's limit changes while people play. Each block
//! is split into equal packets under the limit of the moment, so that none is fragmented or refused. With redundancy
//! on, every packet has room for the older payloads it repeats: packets get smaller instead of redundancy being lost.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use super::redundancy::{self, Block};
use super::report::SenderReport;
use super::{DEPARTURE_LEN, Format, HEADER_LEN, Header, Layout, PacketError, payload_type};
use crate::time::SessionTime;

/// Most earlier blocks a packet can repeat.
const MAX_REDUNDANCY: u8 = 3;
/// Packets waiting to be polled; at the bound a new block is refused.
const MAX_WAITING: usize = 128;
/// Smallest usable datagram limit; QUIC itself guarantees far more (RFC 9000, section 14).
const MIN_DATAGRAM: usize = 256;

/// How a stream is sent.
#[derive(Clone, Copy, Debug)]
pub struct StreamSenderConfig {
    /// Names the stream; random (RFC 3550, section 8.1).
    pub ssrc: u32,
    /// Number of the first packet; random.
    pub first_sequence: u16,
    /// What the payloads are.
    pub format: Format,
    /// Largest datagram the path takes, in octets; values below 256 count as 256.
    pub max_datagram: usize,
    /// Earlier blocks each packet repeats, 0 (off) to 3.
    pub redundancy: u8,
}

/// Why a block was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The payload does not match the stream's format.
    #[error("the block does not match the stream's format; encode it as announced: {0}")]
    Format(#[from] PacketError),
    /// The packets would not be taken away fast enough, or the block is absurdly large.
    #[error("{MAX_WAITING} packets are waiting; poll them, or drop this block")]
    Full,
    /// One Opus packet cannot be split.
    #[error(
        "an Opus packet of {got} octets exceeds the path's {max}; lower the bit rate or the frame length"
    )]
    TooLarge {
        /// Octets a payload may have now.
        max: usize,
        /// Octets this one has.
        got: usize,
    },
}

/// One outgoing audio stream. Cheap enough to keep one a peer where paths differ.
#[derive(Debug)]
pub struct StreamSender {
    config: StreamSenderConfig,
    sequence: u16,
    next_timestamp: Option<i64>,
    /// Packets each of the latest blocks was cut into: how far back a packet's counterpart in the last block lies.
    pieces: usize,
    /// Payloads already sent that a packet may repeat, oldest first, with their timestamps and types.
    sent: VecDeque<(i64, u8, Bytes)>,
    waiting: VecDeque<Bytes>,
    packets: u32,
    octets: u32,
}

impl StreamSender {
    /// A stream that has sent nothing yet.
    pub fn new(config: StreamSenderConfig) -> Self {
        StreamSender {
            sequence: config.first_sequence,
            config,
            next_timestamp: None,
            pieces: 1,
            sent: VecDeque::new(),
            waiting: VecDeque::new(),
            packets: 0,
            octets: 0,
        }
    }

    /// Follows the path: largest datagram in octets, from the next block on.
    pub fn set_max_datagram(&mut self, octets: usize) {
        self.config.max_datagram = octets;
    }

    /// Earlier blocks each packet repeats, 0 (off) to 3; higher values count as 3.
    pub fn set_redundancy(&mut self, blocks: u8) {
        self.config.redundancy = blocks;
    }

    /// [`StreamSender::push_at`] for a block that leaves when its own first frame is due.
    ///
    /// # Errors
    /// [`SendError`]; nothing of the block is sent then.
    pub fn push(&mut self, timestamp_frames: i64, layout: Layout, payload: &[u8]) -> Result<(), SendError> {
        self.push_at(timestamp_frames, timestamp_frames, layout, payload)
    }

    /// Takes one coded block (PCM big-endian and interleaved, or exactly one Opus packet) whose first frame is
    /// `timestamp_frames` on the stream's timeline; `layout` says which channels are in it. A gap in the timeline sets the
    /// marker bit. `departs_frames` is where the timeline stands now: at the first frame of the device callback that
    /// completed the block.
    ///
    /// # Errors
    /// [`SendError`]; nothing of the block is sent then.
    pub fn push_at(
        &mut self,
        departs_frames: i64,
        timestamp_frames: i64,
        layout: Layout,
        payload: &[u8],
    ) -> Result<(), SendError> {
        let format = self.config.format;
        let payload_type = format.codec.payload_type(layout);
        if format.layout(payload_type).is_none() {
            let expected = format.codec.payload_type(Layout::All);
            return Err(PacketError::PayloadType { expected, got: payload_type }.into());
        }
        let frames = format.frames(layout, payload)?;
        let room = self.payload_room();
        let (piece_octets, piece_frames) = match format.frame_octets(layout) {
            Some(frame_octets) => {
                let pieces = frames.div_ceil(((room / frame_octets) as u32).max(1));
                let piece_frames = frames.div_ceil(pieces);
                (piece_frames as usize * frame_octets, piece_frames)
            }
            None if payload.len() > self.room() => {
                return Err(SendError::TooLarge { max: self.room(), got: payload.len() });
            }
            None => (payload.len(), frames),
        };
        let pieces = frames.div_ceil(piece_frames) as usize;
        if self.waiting.len() + pieces > MAX_WAITING {
            return Err(SendError::Full);
        }
        if pieces != self.pieces {
            self.pieces = pieces;
            self.sent.clear();
        }
        let mut timestamp = timestamp_frames;
        for piece in payload.chunks(piece_octets) {
            self.send(departs_frames, timestamp, payload_type, Bytes::copy_from_slice(piece));
            timestamp = timestamp.saturating_add(i64::from(piece_frames));
            self.next_timestamp = Some(timestamp);
        }
        self.next_timestamp = Some(timestamp_frames.saturating_add(i64::from(frames)));
        Ok(())
    }

    /// The next datagram to send, in order.
    pub fn poll_transmit(&mut self) -> Option<Bytes> {
        self.waiting.pop_front()
    }

    /// A report saying that at `session_time` the stream's timeline stood at `timestamp_frames`. Take both from one
    /// device callback; two to four a second are enough.
    pub fn sender_report(&self, session_time: SessionTime, timestamp_frames: i64) -> SenderReport {
        SenderReport {
            ssrc: self.config.ssrc,
            session_time,
            timestamp: timestamp_frames as u32,
            packets: self.packets,
            octets: self.octets,
            blocks: Vec::new(),
        }
    }

    fn send(&mut self, departs: i64, timestamp: i64, payload_type: u8, payload: Bytes) {
        let primary = Block { payload_type, timestamp_offset: 0, data: payload };
        let repeated = self.repeated(timestamp, &primary);
        let (payload_type, body) = if repeated.is_empty() {
            (primary.payload_type, primary.data.clone())
        } else {
            (payload_type::REDUNDANT, redundancy::encode(&repeated, &primary))
        };
        let header = Header {
            // Pieces of one block follow each other; only the first can come after a gap.
            marker: self.next_timestamp.is_none_or(|expected| expected != timestamp),
            payload_type,
            sequence: self.sequence,
            timestamp: timestamp as u32,
            ssrc: self.config.ssrc,
        };
        // So far apart are no callback and no packet of it.
        let departure_ticks = i16::try_from(departs.saturating_sub(timestamp)).unwrap_or(0);
        let mut packet = BytesMut::with_capacity(HEADER_LEN + DEPARTURE_LEN + body.len());
        header.write(departure_ticks, &mut packet);
        packet.extend_from_slice(&body);
        self.waiting.push_back(packet.freeze());
        self.sequence = self.sequence.wrapping_add(1);
        self.packets = self.packets.wrapping_add(1);
        self.octets = self.octets.wrapping_add(body.len() as u32);
        self.sent.push_back((timestamp, primary.payload_type, primary.data));
        while self.sent.len() > usize::from(MAX_REDUNDANCY) * self.pieces {
            self.sent.pop_front();
        }
    }

    /// The counterparts of this packet in the last blocks, oldest first: pieces of one block leave together and are
    /// lost together, so repeating a neighbour would help little.
    fn repeated(&self, timestamp: i64, primary: &Block) -> Vec<Block> {
        let wanted = usize::from(self.config.redundancy.min(MAX_REDUNDANCY));
        let mut room = self.room().saturating_sub(redundancy::PRIMARY_HEADER_LEN + primary.data.len());
        let mut repeated = Vec::new();
        for block in 1..=wanted {
            let Some((older, payload_type, data)) =
                self.sent.len().checked_sub(block * self.pieces).and_then(|index| self.sent.get(index))
            else {
                break;
            };
            let offset = u32::try_from(timestamp.saturating_sub(*older)).unwrap_or(0);
            let octets = redundancy::BLOCK_HEADER_LEN + data.len();
            let expressible = (1..=redundancy::MAX_TIMESTAMP_OFFSET).contains(&offset)
                && data.len() <= redundancy::MAX_BLOCK_LEN;
            if !expressible || octets > room {
                break;
            }
            room -= octets;
            repeated.push(Block {
                payload_type: *payload_type,
                timestamp_offset: offset,
                data: data.clone(),
            });
        }
        repeated.reverse();
        repeated
    }

    /// Octets after the header.
    fn room(&self) -> usize {
        self.config.max_datagram.max(MIN_DATAGRAM) - HEADER_LEN - DEPARTURE_LEN
    }

    /// Octets one payload may have so that the packet, with all it repeats, stays under the limit.
    fn payload_room(&self) -> usize {
        let room = self.room();
        let repeated = usize::from(self.config.redundancy.min(MAX_REDUNDANCY));
        if repeated == 0 {
            return room;
        }
        let headers = redundancy::PRIMARY_HEADER_LEN + repeated * redundancy::BLOCK_HEADER_LEN;
        (room.saturating_sub(headers) / (repeated + 1)).min(redundancy::MAX_BLOCK_LEN)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Codec;
    use super::*;
    use proptest::prelude::*;

    fn sender(codec: Codec, max_datagram: usize, redundancy: u8) -> StreamSender {
        let format = Format { codec, rate_hz: 48_000, channels: 2 };
        StreamSender::new(StreamSenderConfig {
            ssrc: 7,
            first_sequence: 65_535,
            format,
            max_datagram,
            redundancy,
        })
    }

    fn packets(sender: &mut StreamSender) -> Vec<Bytes> {
        std::iter::from_fn(|| sender.poll_transmit()).collect()
    }

    #[test]
    fn a_large_block_becomes_equal_packets_under_the_limit() {
        let mut sender = sender(Codec::Pcm24, 1_200, 0);
        sender.push(0, Layout::All, &[1; 1_024 * 6]).unwrap();
        let packets = packets(&mut sender);
        assert_eq!(packets.len(), 6);
        let parsed: Vec<Header> = packets.iter().map(|packet| Header::parse(packet).unwrap().0).collect();
        assert_eq!(parsed[1].timestamp, 171);
        assert_eq!(parsed[1].sequence, 0, "numbers wrap");
        assert_eq!(parsed.iter().filter(|header| header.marker).count(), 1);
    }

    #[test]
    fn redundancy_shrinks_packets_rather_than_being_left_out() {
        let mut sender = sender(Codec::Pcm24, 1_200, 1);
        for block in 0..2 {
            sender.push(block * 128, Layout::All, &[block as u8; 128 * 6]).unwrap();
        }
        let packets = packets(&mut sender);
        assert_eq!(packets.len(), 4, "128 stereo frames of 24 bits do not fit twice");
        let (header, payload) = Header::parse(&packets[3]).unwrap();
        assert_eq!(header.payload_type, payload_type::REDUNDANT);
        let blocks = redundancy::decode(&Bytes::copy_from_slice(payload)).unwrap();
        assert_eq!(blocks[0].timestamp_offset, 128, "the counterpart in the block before");
        assert_eq!(&blocks[0].data[..], &[0; 64 * 6]);
        assert_eq!(&blocks[1].data[..], &[1; 64 * 6]);
    }

    #[test]
    fn an_opus_packet_over_the_limit_is_refused_with_the_limit() {
        let mut sender = sender(Codec::Opus, 300, 0);
        assert_eq!(
            sender.push(0, Layout::All, &[0xF0; 400]),
            Err(SendError::TooLarge { max: 284, got: 400 })
        );
        sender.push(0, Layout::All, &[0xF0; 284]).unwrap();
    }

    #[test]
    fn a_queue_nobody_polls_refuses_instead_of_growing() {
        let mut sender = sender(Codec::Pcm16, 1_200, 0);
        let results: Vec<_> = (0..200).map(|block| sender.push(block * 64, Layout::All, &[0; 256])).collect();
        assert_eq!(results.iter().filter(|result| result.is_ok()).count(), MAX_WAITING);
        assert_eq!(results.last(), Some(&Err(SendError::Full)));
    }

    proptest! {
        #[test]
        fn no_packet_exceeds_the_limit(
            max in 0usize..1_500, redundancy in 0u8..5, blocks in prop::collection::vec(1usize..600, 1..8)
        ) {
            let mut sender = sender(Codec::Pcm16, max, redundancy);
            let mut timestamp = 0;
            for frames in blocks {
                let _ = sender.push(timestamp, Layout::All, &vec![0; frames * 4]);
                timestamp += frames as i64;
            }
            for packet in packets(&mut sender) {
                prop_assert!(packet.len() <= max.max(MIN_DATAGRAM));
            }
        }
    }
}
