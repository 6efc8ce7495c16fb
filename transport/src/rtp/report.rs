//! Sender and receiver reports (RTCP, RFC 3550, section 6.4).
//!
//! A sender report ties a stream's timestamps to session time, which is what makes mouth-to-ear latency measurable. A
//! receiver report tells the sender what was lost, which switches redundancy on, and how far MIDI has come, which
//! shortens the recovery journal. Limits: no SDES, no BYE (the connection knows who left), no profile extensions.

use bytes::{BufMut, Bytes, BytesMut};

use super::PacketError;
use crate::time::SessionTime;

const SENDER_REPORT: u8 = 200;
const RECEIVER_REPORT: u8 = 201;
const REPORT_BLOCK_LEN: usize = 24;
const MAX_BLOCKS: usize = 31;

/// One report of a compound packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Report {
    /// From the peer that sends the stream.
    Sender(SenderReport),
    /// From a peer that receives streams.
    Receiver(ReceiverReport),
}

/// "At this session time, my stream's timestamp was this."
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SenderReport {
    /// The stream.
    pub ssrc: u32,
    /// The instant, on the session's timebase. Steps of 0.23 ns on the wire.
    pub session_time: SessionTime,
    /// The stream's timestamp at that instant, modulo 2^32.
    pub timestamp: u32,
    /// Packets sent so far, modulo 2^32.
    pub packets: u32,
    /// Payload octets sent so far, modulo 2^32.
    pub octets: u32,
    /// What the same peer received, if it says so here; at most 31.
    pub blocks: Vec<ReportBlock>,
}

/// What a peer received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceiverReport {
    /// A stream of the reporting peer, or 0 if it sends none.
    pub ssrc: u32,
    /// One block a stream; at most 31.
    pub blocks: Vec<ReportBlock>,
}

/// What became of one stream at the peer that reports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReportBlock {
    /// The stream.
    pub ssrc: u32,
    /// Share of packets lost since the last report, in 1/256.
    pub fraction_lost: u8,
    /// Packets lost since the stream began, up to 2^23 - 1.
    pub cumulative_lost: u32,
    /// Highest sequence number received, extended to 32 bits.
    pub highest_sequence: u32,
    /// Interarrival jitter in timestamp ticks.
    pub jitter_ticks: u32,
    /// Middle 32 bits of the NTP timestamp of the last sender report; 0 if there was none.
    pub last_sender_report: u32,
    /// Time since that report arrived, in 1/65,536 s.
    pub delay_since_last: u32,
}

impl SenderReport {
    /// The form in which a receiver quotes this report's time back.
    pub fn middle_ntp(&self) -> u32 {
        (self.session_time.to_ntp() >> 16) as u32
    }
}

/// Writes the reports into one datagram. Of more than 31 blocks in a report the rest are left out.
pub fn encode(reports: &[Report]) -> Bytes {
    let mut out = BytesMut::new();
    for report in reports {
        let (kind, ssrc, blocks) = match report {
            Report::Sender(report) => (SENDER_REPORT, report.ssrc, &report.blocks),
            Report::Receiver(report) => (RECEIVER_REPORT, report.ssrc, &report.blocks),
        };
        let count = blocks.len().min(MAX_BLOCKS);
        let fixed_words = if kind == SENDER_REPORT { 6 } else { 1 };
        out.put_u8(0x80 | count as u8);
        out.put_u8(kind);
        out.put_u16((fixed_words + count * REPORT_BLOCK_LEN / 4) as u16);
        out.put_u32(ssrc);
        if let Report::Sender(report) = report {
            out.put_u64(report.session_time.to_ntp());
            out.put_u32(report.timestamp);
            out.put_u32(report.packets);
            out.put_u32(report.octets);
        }
        for block in blocks.iter().take(MAX_BLOCKS) {
            out.put_u32(block.ssrc);
            out.put_u32(u32::from(block.fraction_lost) << 24 | block.cumulative_lost.min(0x7F_FFFF));
            out.put_u32(block.highest_sequence);
            out.put_u32(block.jitter_ticks);
            out.put_u32(block.last_sender_report);
            out.put_u32(block.delay_since_last);
        }
    }
    out.freeze()
}

/// Reads a compound packet. Packet types we do not use (SDES, BYE, APP, feedback) are skipped.
///
/// # Errors
/// [`PacketError::Report`] or [`PacketError::Version`] if any part of it is malformed; nothing of it is used then.
pub fn parse(datagram: &[u8]) -> Result<Vec<Report>, PacketError> {
    let mut reports = Vec::new();
    let mut rest = datagram;
    while let Some((&[flags, kind, high, low], body)) = rest.split_first_chunk::<4>() {
        if flags >> 6 != 2 {
            return Err(PacketError::Version(flags >> 6));
        }
        let octets = usize::from(u16::from_be_bytes([high, low])) * 4;
        let (body, after) = body.split_at_checked(octets).ok_or(PacketError::Report)?;
        rest = after;
        let blocks = usize::from(flags & 0x1F);
        match kind {
            SENDER_REPORT => reports.push(Report::Sender(parse_sender(body, blocks)?)),
            RECEIVER_REPORT => {
                let (ssrc, body) = split_u32(body)?;
                reports.push(Report::Receiver(ReceiverReport { ssrc, blocks: parse_blocks(body, blocks)? }));
            }
            _ => {}
        }
    }
    if rest.is_empty() { Ok(reports) } else { Err(PacketError::Report) }
}

fn parse_sender(body: &[u8], blocks: usize) -> Result<SenderReport, PacketError> {
    let (ssrc, body) = split_u32(body)?;
    let (ntp_high, body) = split_u32(body)?;
    let (ntp_low, body) = split_u32(body)?;
    let (timestamp, body) = split_u32(body)?;
    let (packets, body) = split_u32(body)?;
    let (octets, body) = split_u32(body)?;
    let session_time = SessionTime::from_ntp(u64::from(ntp_high) << 32 | u64::from(ntp_low));
    let blocks = parse_blocks(body, blocks)?;
    Ok(SenderReport { ssrc, session_time, timestamp, packets, octets, blocks })
}

fn parse_blocks(mut body: &[u8], count: usize) -> Result<Vec<ReportBlock>, PacketError> {
    let mut blocks = Vec::with_capacity(count);
    for _ in 0..count {
        let mut word = || {
            let (value, after) = split_u32(body)?;
            body = after;
            Ok(value)
        };
        let (ssrc, lost) = (word()?, word()?);
        // The field is signed; doubles can make it negative at other implementations, which to us is no loss.
        let cumulative_lost = if lost & 0x80_0000 == 0 { lost & 0x7F_FFFF } else { 0 };
        blocks.push(ReportBlock {
            ssrc,
            fraction_lost: (lost >> 24) as u8,
            cumulative_lost,
            highest_sequence: word()?,
            jitter_ticks: word()?,
            last_sender_report: word()?,
            delay_since_last: word()?,
        });
    }
    Ok(blocks)
}

fn split_u32(bytes: &[u8]) -> Result<(u32, &[u8]), PacketError> {
    let (word, rest) = bytes.split_first_chunk::<4>().ok_or(PacketError::Report)?;
    Ok((u32::from_be_bytes(*word), rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn block() -> impl Strategy<Value = ReportBlock> {
        (any::<u32>(), any::<u8>(), 0u32..0x80_0000, any::<u32>(), any::<(u32, u32, u32)>()).prop_map(
            |(ssrc, fraction_lost, cumulative_lost, highest_sequence, (jitter, lsr, dlsr))| ReportBlock {
                ssrc,
                fraction_lost,
                cumulative_lost,
                highest_sequence,
                jitter_ticks: jitter,
                last_sender_report: lsr,
                delay_since_last: dlsr,
            },
        )
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(
            ssrc: u32, ntp in any::<i32>(), fields: (u32, u32, u32), blocks in prop::collection::vec(block(), 0..6)
        ) {
            let sender = SenderReport {
                ssrc,
                session_time: SessionTime::from_nanos(i64::from(ntp) * 1_000_000_000),
                timestamp: fields.0,
                packets: fields.1,
                octets: fields.2,
                blocks: blocks.clone(),
            };
            let reports = vec![Report::Sender(sender), Report::Receiver(ReceiverReport { ssrc, blocks })];
            prop_assert_eq!(parse(&encode(&reports)), Ok(reports));
        }

        #[test]
        fn random_bytes_never_panic(mut bytes: Vec<u8>, kind in 199u8..203) {
            if let [flags, second, ..] = &mut bytes[..] {
                *flags = 0x80 | (*flags & 0x1F);
                *second = kind;
            }
            let _ = parse(&bytes);
        }
    }

    #[test]
    fn unknown_packets_in_a_compound_are_skipped() {
        let report = Report::Receiver(ReceiverReport { ssrc: 5, blocks: vec![ReportBlock::default()] });
        let mut datagram = vec![0x81, 202, 0, 1, 0, 0, 0, 0];
        datagram.extend(encode(std::slice::from_ref(&report)));
        assert_eq!(parse(&datagram), Ok(vec![report]));
    }

    #[test]
    fn a_block_count_without_blocks_is_refused() {
        assert_eq!(parse(&[0x85, 201, 0, 1, 0, 0, 0, 0]), Err(PacketError::Report));
    }
}
