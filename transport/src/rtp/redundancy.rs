//! Repeating recent payloads so that a lost packet costs nothing (RFC 2198).
//!
//! Where loss is measured, each packet also carries the payload of one or more earlier ones. A block is recovered one
//! packet later than it was due, with no round trip and no extra jitter buffer logic: to the engine it is a block that
//! came late. The price is bandwidth, so it is switched on only against measured loss.
//!
//! Limits of the format: a repeated block is at most 1,023 octets and 16,383 timestamp ticks old.

use bytes::{BufMut, Bytes, BytesMut};

use super::PacketError;

/// Most blocks accepted in one packet, the primary included; bounds the work a packet can cause.
pub const MAX_BLOCKS: usize = 8;
/// Octets each repeated block adds besides its data.
pub const BLOCK_HEADER_LEN: usize = 4;
/// Octets the primary block adds besides its data.
pub const PRIMARY_HEADER_LEN: usize = 1;
/// Most octets of a repeated block (10 bits).
pub const MAX_BLOCK_LEN: usize = 0x3FF;
/// Most ticks a repeated block may lie before the primary (14 bits).
pub const MAX_TIMESTAMP_OFFSET: u32 = 0x3FFF;

/// One payload inside a redundant packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// Payload type of this block.
    pub payload_type: u8,
    /// Ticks by which this block is older than the packet's timestamp; 0 for the primary.
    pub timestamp_offset: u32,
    /// The payload.
    pub data: Bytes,
}

/// Writes the repeated blocks, oldest first, then the primary. Blocks the format cannot express are left out, the
/// oldest first when there are more than [`MAX_BLOCKS`] allow.
pub fn encode(repeated: &[Block], primary: &Block) -> Bytes {
    let fits = |block: &&Block| {
        block.data.len() <= MAX_BLOCK_LEN && (1..=MAX_TIMESTAMP_OFFSET).contains(&block.timestamp_offset)
    };
    let surplus = repeated.iter().filter(fits).count().saturating_sub(MAX_BLOCKS - 1);
    let kept = || repeated.iter().filter(fits).skip(surplus);
    let octets: usize = kept().map(|block| BLOCK_HEADER_LEN + block.data.len()).sum();
    let mut out = BytesMut::with_capacity(octets + PRIMARY_HEADER_LEN + primary.data.len());
    for block in kept() {
        out.put_u8(0x80 | block.payload_type);
        // The mask above keeps the length within 10 bits, so it cannot reach into the offset.
        out.put_slice(&((block.timestamp_offset << 10) | block.data.len() as u32).to_be_bytes()[1..]);
    }
    out.put_u8(primary.payload_type & 0x7F);
    kept().for_each(|block| out.put_slice(&block.data));
    out.put_slice(&primary.data);
    out.freeze()
}

/// Splits a redundant payload into its blocks, oldest first, the primary last. The blocks share `payload`'s memory.
///
/// # Errors
/// [`PacketError::Truncated`] if a length points past the end or there are more than [`MAX_BLOCKS`] blocks.
pub fn decode(payload: &Bytes) -> Result<Vec<Block>, PacketError> {
    let truncated = |needed| PacketError::Truncated { needed, got: payload.len() };
    let mut headers = Vec::with_capacity(MAX_BLOCKS);
    let mut at = 0;
    loop {
        let first = *payload.get(at).ok_or(truncated(at + 1))?;
        if first & 0x80 == 0 {
            headers.push((first, 0, None));
            at += PRIMARY_HEADER_LEN;
            break;
        }
        let &[_, a, b, c] = payload
            .get(at..at + BLOCK_HEADER_LEN)
            .and_then(|header| header.first_chunk::<4>())
            .ok_or(truncated(at + BLOCK_HEADER_LEN))?;
        let word = u32::from_be_bytes([0, a, b, c]);
        headers.push((first & 0x7F, word >> 10, Some((word & 0x3FF) as usize)));
        at += BLOCK_HEADER_LEN;
        if headers.len() == MAX_BLOCKS {
            return Err(truncated(at + 1));
        }
    }
    let mut blocks = Vec::with_capacity(headers.len());
    for (payload_type, timestamp_offset, length) in headers {
        let end = length.map_or(payload.len(), |length| at + length);
        if end > payload.len() {
            return Err(truncated(end));
        }
        blocks.push(Block { payload_type, timestamp_offset, data: payload.slice(at..end) });
        at = end;
    }
    Ok(blocks)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn block(timestamp_offset: u32, data: &[u8]) -> Block {
        Block { payload_type: 96, timestamp_offset, data: Bytes::copy_from_slice(data) }
    }

    #[test]
    fn the_wire_form_is_that_of_rfc_2198() {
        let encoded = encode(&[block(128, b"old")], &block(0, b"new"));
        assert_eq!(&encoded[..], [0x80 | 96, 0x02, 0x00, 3, 96, b'o', b'l', b'd', b'n', b'e', b'w']);
    }

    #[test]
    fn blocks_the_format_cannot_express_are_left_out() {
        let primary = block(0, b"now");
        let repeated = [block(0x4000, b"too old"), block(128, &[0; 1024]), block(128, b"fits")];
        assert_eq!(decode(&encode(&repeated, &primary)), Ok(vec![block(128, b"fits"), primary]));
    }

    #[test]
    fn a_header_chain_without_end_is_refused() {
        assert!(decode(&Bytes::from(vec![0x80; 400])).is_err());
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(
            repeated in prop::collection::vec((1u32..0x4000, prop::collection::vec(any::<u8>(), 0..64)), 0..MAX_BLOCKS),
            primary: Vec<u8>
        ) {
            let mut blocks: Vec<Block> = repeated.iter().map(|(offset, data)| block(*offset, data)).collect();
            let primary = block(0, &primary);
            let encoded = encode(&blocks, &primary);
            blocks.push(primary);
            prop_assert_eq!(decode(&encoded), Ok(blocks));
        }

        #[test]
        fn random_bytes_never_panic(bytes: Vec<u8>) {
            let _ = decode(&Bytes::from(bytes));
        }
    }
}
