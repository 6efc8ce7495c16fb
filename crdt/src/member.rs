//! Who wrote what: member keys, author ids and the names shown for them.
//!
//! Problem: every node must be able to prove, for any change it holds and whoever forwarded it, which member
//! made it. Idea: the Automerge actor id of a change *contains* the member's ed25519 public key, and every
//! change is signed by that key (see [`crate::vetting`]), so an actor id is its own certificate and no
//! certificate has to travel or be stored. The other half of the actor id is fresh for every start of a node:
//! a node that lost its last writes in a power cut can therefore never publish a second, different change under
//! a number its peers have already seen, which Automerge cannot repair.
//!
//! Limits: one key is one member; a member with two machines appears as two.

use std::fmt;

use automerge::ActorId;
use serde::{Deserialize, Serialize};

/// The alphabet of base58 as bitcoin wrote it down, which peer ids use.
const BASE58: &[u8; 58] = b"123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";

/// What precedes the 32 key bytes in a peer id of an ed25519 key: an identity multihash (code 0, 36 bytes) of a
/// protobuf with key type 1 and a 32-byte field (libp2p peer id specification).
const PEER_ID_PREFIX: [u8; 6] = [0x00, 0x24, 0x08, 0x01, 0x12, 0x20];

/// Length of the longest text that can be a peer id; longer input is refused before it is decoded.
const MAX_PEER_ID_CHARS: usize = 64;

/// A member of the session: its 32-byte ed25519 public key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PeerKey(pub [u8; 32]);

impl PeerKey {
    /// The peer id text of this key (`12D3Koo…`), as it stands in addresses such as `/members/PEER_ID/name`.
    pub fn name(&self) -> String {
        let mut bytes = PEER_ID_PREFIX.to_vec();
        bytes.extend_from_slice(&self.0);
        base58(&bytes)
    }

    /// The key behind a peer id text, or `None` if the text is not the peer id of an ed25519 key.
    pub fn from_name(name: &str) -> Option<PeerKey> {
        let bytes = unbase58(name)?;
        let key = bytes.strip_prefix(&PEER_ID_PREFIX)?;
        key.try_into().ok().map(PeerKey)
    }
}

impl fmt::Debug for PeerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PeerKey({})", self.name())
    }
}

/// One start of one member's node; the author of a contiguous, numbered run of changes in each document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Author {
    pub(crate) member: PeerKey,
    pub(crate) start: u64,
}

impl Author {
    pub(crate) fn to_actor(self) -> ActorId {
        let mut bytes = [0u8; 40];
        let (key, start) = bytes.split_at_mut(32);
        key.copy_from_slice(&self.member.0);
        start.copy_from_slice(&self.start.to_be_bytes());
        ActorId::from(bytes)
    }

    pub(crate) fn from_actor_bytes(bytes: &[u8]) -> Option<Author> {
        let (key, start) = bytes.split_first_chunk::<32>()?;
        let start: [u8; 8] = start.try_into().ok()?;
        Some(Author { member: PeerKey(*key), start: u64::from_be_bytes(start) })
    }
}

fn base58(bytes: &[u8]) -> String {
    // Little-endian base-58 digits; every input byte multiplies the number by 256.
    let mut digits: Vec<u32> = Vec::new();
    for &byte in bytes {
        let mut carry = u32::from(byte);
        for digit in &mut digits {
            carry += *digit << 8;
            *digit = carry % 58;
            carry /= 58;
        }
        while carry > 0 {
            digits.push(carry % 58);
            carry /= 58;
        }
    }
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    let leading = std::iter::repeat_n('1', zeros);
    let rest =
        digits.iter().rev().filter_map(|digit| BASE58.get(*digit as usize)).map(|byte| char::from(*byte));
    leading.chain(rest).collect()
}

fn unbase58(text: &str) -> Option<Vec<u8>> {
    if text.len() > MAX_PEER_ID_CHARS {
        return None;
    }
    let mut bytes: Vec<u32> = Vec::new();
    for c in text.bytes() {
        let mut carry = BASE58.iter().position(|known| *known == c)? as u32;
        for byte in &mut bytes {
            carry += *byte * 58;
            *byte = carry & 0xff;
            carry >>= 8;
        }
        while carry > 0 {
            bytes.push(carry & 0xff);
            carry >>= 8;
        }
    }
    let zeros = text.bytes().take_while(|c| *c == b'1').count();
    Some(std::iter::repeat_n(0, zeros).chain(bytes.iter().rev().map(|byte| *byte as u8)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_is_the_peer_id_of_the_key_and_reads_back() {
        for fill in [0u8, 1, 0x7f, 0xff] {
            let key = PeerKey([fill; 32]);
            let name = key.name();
            assert!(name.starts_with("12D3Koo"), "{name}");
            assert_eq!(name.len(), 52);
            assert_eq!(PeerKey::from_name(&name), Some(key));
        }
    }

    #[test]
    fn text_that_is_no_peer_id_is_refused() {
        let too_long = "1".repeat(65);
        for text in
            ["", "0OIl", "12D3Koo", "QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N", too_long.as_str()]
        {
            assert_eq!(PeerKey::from_name(text), None, "{text}");
        }
    }

    #[test]
    fn author_survives_the_trip_through_an_actor_id() {
        let author = Author { member: PeerKey([7; 32]), start: 0x0102_0304_0506_0708 };
        assert_eq!(Author::from_actor_bytes(author.to_actor().to_bytes()), Some(author));
        assert_eq!(Author::from_actor_bytes(&[0; 39]), None);
    }
}
