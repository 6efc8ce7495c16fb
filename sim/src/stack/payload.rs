//! What test messages and datagrams carry: their number, and bytes that follow from it.

use bytes::Bytes;

const NUMBER_BYTES: usize = 8;

/// `length` bytes (at least 8) with this number.
pub fn make(number: u64, length: usize) -> Bytes {
    let mut bytes = vec![filler(number); length.max(NUMBER_BYTES)];
    bytes[..NUMBER_BYTES].copy_from_slice(&number.to_le_bytes());
    bytes.into()
}

/// The number, if all bytes are as they were made.
pub fn read(bytes: &[u8]) -> Option<u64> {
    let (number, rest) = bytes.split_first_chunk::<NUMBER_BYTES>()?;
    let number = u64::from_le_bytes(*number);
    rest.iter().all(|byte| *byte == filler(number)).then_some(number)
}

fn filler(number: u64) -> u8 {
    (number ^ number >> 8 ^ 0x5A) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_made_reads_back_and_damage_shows() {
        let bytes = make(7_000, 300);
        assert_eq!((read(&bytes), bytes.len()), (Some(7_000), 300));
        let mut damaged = bytes.to_vec();
        damaged[200] ^= 1;
        assert_eq!(read(&damaged), None);
        assert_eq!(read(&bytes[..5]), None);
    }
}
