//! The RTP fixed header (RFC 3550, section 5.1).

use bytes::BufMut;

use super::PacketError;

/// Octets of a header without contributing sources or extension.
pub const HEADER_LEN: usize = 12;

/// Octets of the header extension that says when a packet left.
pub const DEPARTURE_LEN: usize = 4;

const VERSION: u8 = 2;

/// The fields of an RTP header that carry meaning here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// First packet after a silence or a gap in the sender's timeline (RFC 3551, section 4.1).
    pub marker: bool,
    /// What the payload is, 0..=127; see [`super::payload_type`].
    pub payload_type: u8,
    /// Counts packets, modulo 2^16.
    pub sequence: u16,
    /// The first frame's (or first MIDI event's) position in the stream's clock ticks, modulo 2^32.
    pub timestamp: u32,
    /// Names the stream within a peer.
    pub ssrc: u32,
}

impl Header {
    /// Splits a packet into header and payload. Contributing sources, a header extension and padding are skipped.
    ///
    /// # Errors
    /// [`PacketError`] if the version is not 2 or a length field points past the end.
    pub fn parse(packet: &[u8]) -> Result<(Header, &[u8]), PacketError> {
        let Some((fixed, mut rest)) = packet.split_first_chunk::<HEADER_LEN>() else {
            return Err(PacketError::Truncated { needed: HEADER_LEN, got: packet.len() });
        };
        let [flags, kind, s0, s1, t0, t1, t2, t3, c0, c1, c2, c3] = *fixed;
        if flags >> 6 != VERSION {
            return Err(PacketError::Version(flags >> 6));
        }
        rest = skip(rest, usize::from(flags & 0x0F) * 4)?;
        if flags & 0x10 != 0 {
            let Some(([_, _, high, low], after)) = rest.split_first_chunk::<4>() else {
                return Err(PacketError::Truncated { needed: 4, got: rest.len() });
            };
            rest = skip(after, usize::from(u16::from_be_bytes([*high, *low])) * 4)?;
        }
        if flags & 0x20 != 0 {
            let padding = usize::from(rest.last().copied().unwrap_or(0));
            let Some(kept) = rest.len().checked_sub(padding).filter(|_| padding > 0) else {
                return Err(PacketError::Padding(padding));
            };
            rest = rest.get(..kept).unwrap_or_default();
        }
        let header = Header {
            marker: kind & 0x80 != 0,
            payload_type: kind & 0x7F,
            sequence: u16::from_be_bytes([s0, s1]),
            timestamp: u32::from_be_bytes([t0, t1, t2, t3]),
            ssrc: u32::from_be_bytes([c0, c1, c2, c3]),
        };
        Ok((header, rest))
    }

    /// By how many ticks a packet left after (or, negative, before) the instant of its timestamp; 0 if it does not say.
    ///
    /// A packet's own timestamp does not tell: several leave with one callback of the device, some with what an earlier
    /// callback captured. The idea is that of RFC 5450; as nothing else is ever said in an extension, the 16 bits that
    /// RFC 3550 (section 5.3.1) leaves to the profile are the number itself, and no words follow.
    pub fn departure_ticks(packet: &[u8]) -> i16 {
        match packet.split_first_chunk::<HEADER_LEN>() {
            Some(([flags, ..], [high, low, 0, 0, ..])) if flags & 0x1F == 0x10 => {
                i16::from_be_bytes([*high, *low])
            }
            _ => 0,
        }
    }

    /// The wire form of the header of a packet that left `departure_ticks` after the instant of its timestamp.
    pub fn write(&self, departure_ticks: i16, out: &mut impl BufMut) {
        let mut fixed = self.to_bytes();
        if departure_ticks == 0 {
            out.put_slice(&fixed);
            return;
        }
        if let Some(flags) = fixed.first_mut() {
            *flags |= 0x10;
        }
        out.put_slice(&fixed);
        out.put_i16(departure_ticks);
        out.put_u16(0);
    }

    /// The header's wire form.
    pub fn to_bytes(&self) -> [u8; HEADER_LEN] {
        let [s0, s1] = self.sequence.to_be_bytes();
        let [t0, t1, t2, t3] = self.timestamp.to_be_bytes();
        let [c0, c1, c2, c3] = self.ssrc.to_be_bytes();
        let kind = (u8::from(self.marker) << 7) | (self.payload_type & 0x7F);
        [VERSION << 6, kind, s0, s1, t0, t1, t2, t3, c0, c1, c2, c3]
    }
}

fn skip(bytes: &[u8], count: usize) -> Result<&[u8], PacketError> {
    bytes.get(count..).ok_or(PacketError::Truncated { needed: count, got: bytes.len() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn csrc_extension_and_padding_are_skipped() {
        let header = Header { marker: true, payload_type: 96, sequence: 7, timestamp: 9, ssrc: 11 };
        let mut packet = header.to_bytes().to_vec();
        packet[0] |= 0x20 | 0x10 | 0x01;
        packet.extend([1, 1, 1, 1]);
        packet.extend([0xBE, 0xDE, 0, 1, 5, 5, 5, 5]);
        packet.extend(*b"pcm");
        packet.extend([0, 0, 3]);
        assert_eq!(Header::parse(&packet), Ok((header, &b"pcm"[..])));
    }

    #[test]
    fn padding_longer_than_the_payload_is_refused() {
        let mut packet = Header { marker: false, payload_type: 96, sequence: 0, timestamp: 0, ssrc: 0 }
            .to_bytes()
            .to_vec();
        packet[0] |= 0x20;
        packet.extend([0, 9]);
        assert_eq!(Header::parse(&packet), Err(PacketError::Padding(9)));
        packet[13] = 0;
        assert_eq!(Header::parse(&packet), Err(PacketError::Padding(0)));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(
            marker: bool, payload_type in 0u8..128, sequence: u16, timestamp: u32, ssrc: u32, payload: Vec<u8>
        ) {
            let header = Header { marker, payload_type, sequence, timestamp, ssrc };
            let packet = [&header.to_bytes()[..], &payload].concat();
            prop_assert_eq!(Header::parse(&packet), Ok((header, &payload[..])));
        }

        #[test]
        fn when_a_packet_left_is_read_back(ticks: i16, timestamp: u32, payload: Vec<u8>) {
            let header = Header { marker: true, payload_type: 96, sequence: 1, timestamp, ssrc: 2 };
            let mut packet = Vec::new();
            header.write(ticks, &mut packet);
            packet.extend(&payload);
            prop_assert_eq!(Header::departure_ticks(&packet), ticks);
            prop_assert_eq!(Header::parse(&packet), Ok((header, &payload[..])));
        }

        #[test]
        fn random_bytes_never_panic(mut bytes: Vec<u8>, valid_version: bool) {
            if let (true, Some(first)) = (valid_version, bytes.first_mut()) {
                *first = 0x80 | (*first & 0x3F);
            }
            let _ = Header::parse(&bytes);
            let _ = Header::departure_ticks(&bytes);
        }
    }
}
