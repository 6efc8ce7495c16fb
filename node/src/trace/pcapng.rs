//! Just enough of pcapng (draft-ietf-opsawg-pcapng) to write a trace that Wireshark opens, and to read it back.
//!
//! Written: one section, one interface of raw IP packets with nanosecond timestamps, Enhanced Packet Blocks, Name
//! Resolution Blocks, Custom Blocks. Little-endian, always: the only reader that cares is ours. `FORMAT.md` beside this
//! file says what is in them. The crates for pcapng have no Custom Blocks to write, which half of a trace is made of.
//!
//! [`Reader`] takes any file: each block's length is checked before memory is taken for it, and an end in the middle of
//! a block is told apart from damage.

use std::io::{self, Read, Write};

/// Private enterprise number reserved for documentation (RFC 5612).
pub const ENTERPRISE: u32 = 32_473;
/// Longest block that is read or written, octets.
pub const MAX_BLOCK_BYTES: usize = 16 << 20;

const SECTION: u32 = 0x0A0D_0D0A;
const BYTE_ORDER: u32 = 0x1A2B_3C4D;
const INTERFACE: u32 = 1;
const NAMES: u32 = 4;
const PACKET: u32 = 6;
const CUSTOM: u32 = 0x0000_0BAD;
/// Raw IPv4 or IPv6 (LINKTYPE_RAW).
const LINK_RAW: u16 = 101;
const OPTION_COMMENT: u16 = 1;
const OPTION_CUSTOM: u16 = 2_989;
const OPTION_APPLICATION: u16 = 4;
const OPTION_INTERFACE_NAME: u16 = 2;
const OPTION_RESOLUTION: u16 = 9;
/// Longest value of an option that is written, octets.
pub const MAX_OPTION_BYTES: usize = 65_000;

/// Why a trace cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The system.
    #[error("the file cannot be read: {0}")]
    Io(#[from] io::Error),
    /// Another kind of file.
    #[error("this is no trace of Bandmesh (a little-endian pcapng file): {0}")]
    NotATrace(&'static str),
    /// The file was changed or damaged.
    #[error("the block at octet {at} is damaged: {why}")]
    Damaged {
        /// Where it begins.
        at: u64,
        /// What is wrong.
        why: &'static str,
    },
}

/// One block of interest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Block {
    /// A packet.
    Packet {
        /// The packet from its IP header on.
        data: Vec<u8>,
        /// Our own option, if it has one.
        note: Vec<u8>,
    },
    /// A Custom Block of ours.
    Custom(Vec<u8>),
}

/// Writes blocks; counts octets.
pub struct Writer<W> {
    out: W,
    written: u64,
    block: Vec<u8>,
}

impl<W: Write> Writer<W> {
    /// Begins the file: its section, whose writer is `application`, with a `comment` for readers, and its interface.
    ///
    /// # Errors
    /// What the system says.
    pub fn begin(out: W, application: &str, comment: &str) -> io::Result<Self> {
        let mut writer = Self { out, written: 0, block: Vec::new() };
        writer.block(SECTION, |body| {
            put32(body, BYTE_ORDER);
            // Version 1.0, length unknown.
            body.extend([1, 0, 0, 0]);
            body.extend(u64::MAX.to_le_bytes());
            option(body, OPTION_COMMENT, comment.as_bytes());
            option(body, OPTION_APPLICATION, application.as_bytes());
            put32(body, 0);
        })?;
        writer.block(INTERFACE, |body| {
            body.extend(LINK_RAW.to_le_bytes());
            body.extend([0, 0]);
            put32(body, 0);
            option(body, OPTION_INTERFACE_NAME, b"bandmesh");
            option(body, OPTION_RESOLUTION, &[9]);
            put32(body, 0);
        })?;
        Ok(writer)
    }

    /// A packet of `original` octets of which `data` is kept, at `unix_ns`. `comment` may be empty.
    ///
    /// # Errors
    /// What the system says.
    pub fn packet(
        &mut self,
        unix_ns: u64,
        data: &[u8],
        original: usize,
        note: &[u8],
        comment: &str,
    ) -> io::Result<()> {
        self.block(PACKET, |body| {
            put32(body, 0);
            put32(body, (unix_ns >> 32) as u32);
            put32(body, unix_ns as u32);
            put32(body, data.len() as u32);
            put32(body, u32::try_from(original).unwrap_or(u32::MAX));
            body.extend(data);
            pad(body);
            if !comment.is_empty() {
                option(body, OPTION_COMMENT, comment.as_bytes());
            }
            let mut value = ENTERPRISE.to_le_bytes().to_vec();
            value.extend(note);
            option(body, OPTION_CUSTOM, &value);
            put32(body, 0);
        })
    }

    /// A Custom Block.
    ///
    /// # Errors
    /// What the system says.
    pub fn custom(&mut self, data: &[u8]) -> io::Result<()> {
        self.block(CUSTOM, |body| {
            put32(body, ENTERPRISE);
            // The data has no length of its own, and the padding at its end could not be told from it.
            put32(body, data.len() as u32);
            body.extend(data);
        })
    }

    /// Tells viewers the name of an IPv4 address.
    ///
    /// # Errors
    /// What the system says.
    pub fn name(&mut self, address: [u8; 4], name: &str) -> io::Result<()> {
        self.block(NAMES, |body| {
            let name: Vec<u8> = name.bytes().filter(|byte| *byte != 0).take(255).collect();
            body.extend([1, 0]);
            body.extend((name.len() as u16 + 5).to_le_bytes());
            body.extend(address);
            body.extend(name);
            body.push(0);
            pad(body);
            put32(body, 0);
        })
    }

    /// Octets written so far.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Hands everything to the system.
    ///
    /// # Errors
    /// What the system says.
    pub fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    fn block(&mut self, kind: u32, fill: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
        let mut block = std::mem::take(&mut self.block);
        block.clear();
        put32(&mut block, kind);
        put32(&mut block, 0);
        fill(&mut block);
        pad(&mut block);
        let length = (block.len() + 4) as u32;
        if let Some(place) = block.get_mut(4..8) {
            place.copy_from_slice(&length.to_le_bytes());
        }
        put32(&mut block, length);
        let done = self.out.write_all(&block);
        self.written += block.len() as u64;
        self.block = block;
        done
    }
}

fn put32(body: &mut Vec<u8>, value: u32) {
    body.extend(value.to_le_bytes());
}

fn pad(body: &mut Vec<u8>) {
    body.resize(body.len().next_multiple_of(4), 0);
}

fn option(body: &mut Vec<u8>, code: u16, value: &[u8]) {
    let value = value.get(..value.len().min(MAX_OPTION_BYTES)).unwrap_or_default();
    body.extend(code.to_le_bytes());
    body.extend((value.len() as u16).to_le_bytes());
    body.extend(value);
    pad(body);
}

/// Reads blocks.
pub struct Reader<R> {
    input: R,
    at: u64,
    truncated: bool,
}

impl<R: Read> Reader<R> {
    /// Checks that `input` begins like a trace.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn begin(input: R) -> Result<Self, ReadError> {
        let mut reader = Self { input, at: 0, truncated: false };
        match reader.next_raw()? {
            Some((SECTION, body)) if word(&body, 0) == Some(BYTE_ORDER) => Ok(reader),
            Some((SECTION, _)) => Err(ReadError::NotATrace("its byte order is another")),
            _ => Err(ReadError::NotATrace("it does not begin with a section")),
        }
    }

    /// The next block of interest; `None` at the end of the file.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn next_block(&mut self) -> Result<Option<Block>, ReadError> {
        loop {
            let at = self.at;
            let damaged = |why| ReadError::Damaged { at, why };
            let Some((kind, body)) = self.next_raw()? else { return Ok(None) };
            match kind {
                PACKET => return packet(&body).map(Some).ok_or_else(|| damaged("its lengths do not fit")),
                CUSTOM if word(&body, 0) == Some(ENTERPRISE) => {
                    let length = word(&body, 4).map_or(0, |length| length as usize);
                    let data = body.get(8..).and_then(|rest| rest.get(..length));
                    return data
                        .map(|data| Some(Block::Custom(data.to_vec())))
                        .ok_or_else(|| damaged("its lengths do not fit"));
                }
                SECTION => return Err(damaged("a second section begins")),
                _ => {}
            }
        }
    }

    /// Octets read so far.
    pub fn position(&self) -> u64 {
        self.at
    }

    /// Whether the file ended within a block.
    pub fn is_truncated(&self) -> bool {
        self.truncated
    }

    /// Kind and body of the next block; `None` at the end, whole or not.
    fn next_raw(&mut self) -> Result<Option<(u32, Vec<u8>)>, ReadError> {
        let at = self.at;
        let damaged = |why| ReadError::Damaged { at, why };
        let head = self.take(8)?;
        let (Some(kind), Some(length)) = (word(&head, 0), word(&head, 4)) else {
            self.truncated |= !head.is_empty();
            return Ok(None);
        };
        let length = length as usize;
        if at == 0 && kind != SECTION {
            return Err(ReadError::NotATrace("it does not begin with a section"));
        }
        if !(12..=MAX_BLOCK_BYTES).contains(&length) || !length.is_multiple_of(4) {
            return Err(damaged("its length is none"));
        }
        let mut body = self.take(length - 8)?;
        if body.len() < length - 8 {
            self.truncated = true;
            return Ok(None);
        }
        if word(&body, length - 12) != Some(length as u32) {
            return Err(damaged("its two lengths differ"));
        }
        body.truncate(length - 12);
        Ok(Some((kind, body)))
    }

    /// Up to `count` octets; fewer at the end of the file. Memory grows with what is there, not with what is claimed.
    fn take(&mut self, count: usize) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.input.by_ref().take(count as u64).read_to_end(&mut bytes)?;
        self.at += bytes.len() as u64;
        Ok(bytes)
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..)?.first_chunk::<4>()?;
    Some(u32::from_le_bytes(*bytes))
}

fn packet(body: &[u8]) -> Option<Block> {
    let length = word(body, 12)? as usize;
    let data = body.get(20..)?.get(..length)?.to_vec();
    let mut options = body.get(20 + length.next_multiple_of(4)..).unwrap_or_default();
    let mut note = Vec::new();
    while let Some(head) = word(options, 0) {
        let (code, length) = (head as u16, (head >> 16) as usize);
        let value = options.get(4..)?.get(..length)?;
        match code {
            0 => break,
            OPTION_CUSTOM if word(value, 0) == Some(ENTERPRISE) => {
                note = value.get(4..).unwrap_or_default().to_vec()
            }
            _ => {}
        }
        options = options.get(4 + length.next_multiple_of(4)..).unwrap_or_default();
    }
    Some(Block::Packet { data, note })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn file() -> Vec<u8> {
        let mut file = Vec::new();
        let mut writer = Writer::begin(&mut file, "test", "a comment").unwrap();
        writer.packet(1_700_000_000_123_456_789, &[0x45, 1, 2], 3, &[9; 5], "first").unwrap();
        writer.name([10, 77, 1, 1], "Bob").unwrap();
        writer.custom(&[7; 10]).unwrap();
        writer.packet(u64::MAX, &[], 70_000, &[], "").unwrap();
        let written = writer.written();
        assert_eq!(written, file.len() as u64);
        file
    }

    fn read(file: &[u8]) -> Result<(Vec<Block>, bool), ReadError> {
        let mut reader = Reader::begin(file)?;
        let mut blocks = Vec::new();
        while let Some(block) = reader.next_block()? {
            blocks.push(block);
        }
        Ok((blocks, reader.is_truncated()))
    }

    #[test]
    fn what_is_written_is_read() {
        let (blocks, truncated) = read(&file()).unwrap();
        let expected = [
            Block::Packet { data: vec![0x45, 1, 2], note: vec![9; 5] },
            Block::Custom(vec![7; 10]),
            Block::Packet { data: vec![], note: vec![] },
        ];
        assert_eq!((blocks.as_slice(), truncated), (&expected[..], false));
    }

    #[test]
    fn a_file_cut_anywhere_gives_what_is_whole_and_says_so() {
        let file = file();
        let (all, _) = read(&file).unwrap();
        let mut whole = 0;
        for length in 1..file.len() {
            match read(&file[..length]) {
                Ok((blocks, truncated)) => {
                    assert_eq!(blocks, all[..blocks.len()], "{length}");
                    assert!(blocks.len() >= whole);
                    whole = blocks.len();
                    // A cut between two blocks looks like an end.
                    assert!(truncated || read(&file[..length + 1]).unwrap().1, "{length}");
                }
                Err(error) => assert!(matches!(error, ReadError::NotATrace(_)) && whole == 0, "{error}"),
            }
        }
        assert_eq!(whole, 2);
    }

    #[test]
    fn damage_is_named_with_its_place() {
        let good = file();
        for (at, byte) in [(4, 0xFF), (good.len() - 1, 0xFF), (good.len() - 2, 1)] {
            let mut bad = good.clone();
            bad[at] = byte;
            let error = read(&bad).unwrap_err().to_string();
            assert!(error.contains("octet"), "{error}");
        }
        for other in [&b"RIFF....WAVEfmt "[..], b"", b"\n"] {
            assert!(matches!(read(other), Err(ReadError::NotATrace(_))));
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes: Vec<u8>, at in 0usize..300) {
            let _ = read(&bytes);
            let mut file = file();
            let at = at.min(file.len());
            let end = (at + bytes.len()).min(file.len());
            file.splice(at..end, bytes);
            let _ = read(&file);
        }
    }
}
