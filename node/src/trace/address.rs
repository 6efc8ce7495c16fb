//! Addresses and ports of packets that never were on a wire like this.
//!
//! What is traced is what QUIC carried, after decryption. Viewers want IP and UDP around it, so each peer gets an IPv4
//! address of 10.77.0.0/16 in the order of appearance, and each kind of message its UDP port, the same on both sides.

use std::collections::BTreeMap;

use transport::{
    PeerId,
    datagram::{Kind, classify},
};

use super::record::Way;

/// This node.
pub const OURS: [u8; 4] = [10, 77, 0, 1];
/// Longest payload of a UDP packet over IPv4, octets; longer messages are cut.
pub const MAX_PAYLOAD_BYTES: usize = 65_507;
/// Octets of both headers.
pub const HEADER_BYTES: usize = 28;

/// The port that stands for a kind of message.
pub fn port(way: Way, message: &[u8]) -> u16 {
    match way {
        Way::Control => 7_001,
        Way::Project => 7_002,
        Way::Datagram => match classify(message) {
            Some(Kind::Rtp) => 5_004,
            Some(Kind::Rtcp) => 5_005,
            Some(Kind::Clock) => 7_003,
            None => 7_009,
        },
    }
}

/// Which peer has which address.
#[derive(Debug, Default)]
pub struct Addresses(BTreeMap<PeerId, [u8; 4]>);

impl Addresses {
    /// The address of `peer`, and whether it is new.
    pub fn of(&mut self, peer: &PeerId) -> ([u8; 4], bool) {
        let next = self.0.len();
        let new = !self.0.contains_key(peer);
        let address =
            *self.0.entry(*peer).or_insert([10, 77, (1 + next / 250) as u8, (1 + next % 250) as u8]);
        (address, new)
    }
}

/// The packet for a viewer: IPv4 and UDP headers, and as much of `message` as fits.
pub fn dress(from: [u8; 4], to: [u8; 4], port: u16, message: &[u8]) -> Vec<u8> {
    let payload = message.get(..message.len().min(MAX_PAYLOAD_BYTES)).unwrap_or_default();
    let udp_length = payload.len() + 8;
    let mut packet = Vec::with_capacity(payload.len() + HEADER_BYTES);
    // Version 4, five words; do not fragment; 64 hops; UDP.
    packet.extend([0x45, 0]);
    packet.extend(((udp_length + 20) as u16).to_be_bytes());
    packet.extend([0, 0, 0x40, 0, 64, 17, 0, 0]);
    packet.extend(from);
    packet.extend(to);
    let checksum = checksum(&packet);
    if let Some(place) = packet.get_mut(10..12) {
        place.copy_from_slice(&checksum.to_be_bytes());
    }
    packet.extend(port.to_be_bytes());
    packet.extend(port.to_be_bytes());
    packet.extend((udp_length as u16).to_be_bytes());
    // No checksum (RFC 768 permits it over IPv4).
    packet.extend([0, 0]);
    packet.extend(payload);
    packet
}

/// What was dressed, without its headers.
pub fn undress(packet: &[u8]) -> Option<&[u8]> {
    packet.get(HEADER_BYTES..)
}

/// RFC 1071.
fn checksum(header: &[u8]) -> u16 {
    let sum: u32 = header
        .chunks_exact(2)
        .filter_map(|pair| pair.first_chunk::<2>())
        .map(|pair| u32::from(u16::from_be_bytes(*pair)))
        .sum();
    let folded = (sum & 0xFFFF) + (sum >> 16);
    !((folded & 0xFFFF) + (folded >> 16)) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_sound_and_come_off_again() {
        let packet = dress(OURS, [10, 77, 1, 1], 5_004, b"sound");
        // A header with its checksum in it sums up to nothing.
        assert_eq!(checksum(&packet[..20]), 0);
        assert_eq!(u16::from_be_bytes([packet[2], packet[3]]) as usize, packet.len());
        assert_eq!(undress(&packet), Some(&b"sound"[..]));
        assert_eq!(dress(OURS, OURS, 1, &[0; 100_000]).len(), 65_535);
        assert_eq!(undress(&[0; 27]), None);
    }

    #[test]
    fn each_peer_has_its_own_address() {
        let mut addresses = Addresses::default();
        let peers: Vec<PeerId> = (0..600).map(|_| PeerId::random()).collect();
        let given: std::collections::BTreeSet<[u8; 4]> =
            peers.iter().map(|peer| addresses.of(peer).0).collect();
        assert_eq!(given.len(), peers.len());
        assert!(!given.contains(&OURS));
        assert!(!addresses.of(&peers[7]).1);
    }
}
