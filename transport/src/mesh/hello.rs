//! The first message each way on a connection's control stream.
//!
//! TLS has proved who the peer is; the hello says what it is here for. It keeps nodes of other sessions out, tells a
//! restarted peer from a second connection of the same one, and carries what both sides need to agree on which of
//! several connections to keep.
//!
//! 40 bytes, big-endian, further bytes are ignored so that later versions can add to it:
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 4 | `BMSH` |
//! | 4 | 2 | version of the mesh protocol, [`PROTOCOL_VERSION`] |
//! | 6 | 2 | zero |
//! | 8 | 8 | session tag |
//! | 16 | 8 | instance: random, new at every start of the process |
//! | 24 | 8 | nonce: random, new for every connection |
//! | 32 | 4 | generation: 0, or one more than that of the connection this one is to replace |
//! | 36 | 4 | zero |

/// Version of the mesh protocol: the hello and the channels' framing.
pub const PROTOCOL_VERSION: u16 = 1;

const MAGIC: [u8; 4] = *b"BMSH";
const LENGTH: usize = 40;

/// What a node says first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hello {
    /// Version of the mesh protocol it speaks.
    pub version: u16,
    /// The session it plays in.
    pub session_tag: [u8; 8],
    /// One run of the process.
    pub instance: u64,
    /// This connection; decides between two that are otherwise equal.
    pub nonce: u64,
    /// How often this pair replaced its connection on purpose.
    pub generation: u32,
}

/// The peer's first message is no hello.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the peer's first message is no Bandmesh hello; it is another program, or its version is too different"
)]
pub struct NoHello;

impl Hello {
    /// The bytes on the wire.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(LENGTH);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&self.version.to_be_bytes());
        bytes.extend_from_slice(&[0; 2]);
        bytes.extend_from_slice(&self.session_tag);
        bytes.extend_from_slice(&self.instance.to_be_bytes());
        bytes.extend_from_slice(&self.nonce.to_be_bytes());
        bytes.extend_from_slice(&self.generation.to_be_bytes());
        bytes.extend_from_slice(&[0; 4]);
        bytes
    }

    /// Reads a hello of this or a later version.
    pub fn decode(bytes: &[u8]) -> Result<Self, NoHello> {
        let (magic, rest) = take::<4>(bytes)?;
        if magic != MAGIC {
            return Err(NoHello);
        }
        let (version, rest) = take::<2>(rest)?;
        let (_, rest) = take::<2>(rest)?;
        let (session_tag, rest) = take::<8>(rest)?;
        let (instance, rest) = take::<8>(rest)?;
        let (nonce, rest) = take::<8>(rest)?;
        let (generation, rest) = take::<4>(rest)?;
        take::<4>(rest)?;
        Ok(Self {
            version: u16::from_be_bytes(version),
            session_tag,
            instance: u64::from_be_bytes(instance),
            nonce: u64::from_be_bytes(nonce),
            generation: u32::from_be_bytes(generation),
        })
    }
}

fn take<const N: usize>(bytes: &[u8]) -> Result<([u8; N], &[u8]), NoHello> {
    let (head, rest) = bytes.split_first_chunk::<N>().ok_or(NoHello)?;
    Ok((*head, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HELLO: Hello =
        Hello { version: 1, session_tag: *b"jamjamja", instance: 7, nonce: 9, generation: 3 };

    #[test]
    fn a_hello_survives_the_wire() {
        assert_eq!(Hello::decode(&HELLO.encode()), Ok(HELLO));
    }

    #[test]
    fn a_longer_hello_of_the_future_is_read() {
        let mut bytes = HELLO.encode();
        bytes.extend_from_slice(b"and more");
        assert_eq!(Hello::decode(&bytes), Ok(HELLO));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = Hello::decode(&bytes);
        }

        #[test]
        fn every_cut_is_refused(length in 0..LENGTH) {
            prop_assert_eq!(Hello::decode(&HELLO.encode()[..length]), Err(NoHello));
        }
    }
}
