//! One connection, three protocols: what is this datagram?
//!
//! Audio, MIDI, reports and clock exchanges all arrive as datagrams of the same QUIC connection. The first byte tells
//! them apart: RTP and RTCP carry version 2 in its two top bits (RFC 3550), which leaves the small values to us, as in
//! the scheme of RFC 7983. RTP and RTCP are split by the second byte (RFC 5761, section 4).
//!
//! Limit: this only sorts. Each protocol's own parser decides whether the datagram is sound.

/// First byte of a clock datagram (see [`crate::clock`]).
pub const CLOCK_FIRST_BYTE: u8 = 0x01;

/// The protocol a datagram belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Audio or MIDI: [`crate::rtp::Header::parse`], then the receiver that owns the SSRC.
    Rtp,
    /// Sender or receiver reports: [`crate::rtp::report::parse`].
    Rtcp,
    /// A clock exchange: [`crate::clock::Clock::handle_packet`].
    Clock,
}

/// Which protocol `datagram` belongs to; `None` for one that no protocol of ours starts like (drop and count it).
pub fn classify(datagram: &[u8]) -> Option<Kind> {
    match *datagram {
        [CLOCK_FIRST_BYTE, ..] => Some(Kind::Clock),
        [0x80..=0xBF, 192..=223, ..] => Some(Kind::Rtcp),
        [0x80..=0xBF, _, ..] => Some(Kind::Rtp),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn each_protocol_is_told_by_its_first_bytes() {
        assert_eq!(classify(&[0x01, 0]), Some(Kind::Clock));
        assert_eq!(classify(&[0x80, 96]), Some(Kind::Rtp));
        assert_eq!(classify(&[0x80, 96 | 0x80]), Some(Kind::Rtp), "a marker bit does not make a report");
        assert_eq!(classify(&[0x81, 201]), Some(Kind::Rtcp));
        assert_eq!(classify(&[0x80]), None);
        assert_eq!(classify(&[0x40, 1, 2]), None);
        assert_eq!(classify(&[]), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_sorted_without_panic(bytes: Vec<u8>) {
            let _ = classify(&bytes);
        }
    }
}
