//! Reading a trace back.

use std::io::Read;

use bytes::Bytes;

use super::{
    address::undress,
    pcapng::{self, Block, ReadError},
    record::{FORMAT, Item, PacketNote, Record, Start},
};

/// The records of a trace, in the order of the file.
pub struct Reader<R> {
    blocks: pcapng::Reader<R>,
    start: Start,
    at: u64,
}

impl<R: Read> Reader<R> {
    /// Reads how the trace begins.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn begin(input: R) -> Result<Self, ReadError> {
        let mut blocks = pcapng::Reader::begin(input)?;
        let first = match blocks.next_block()? {
            Some(Block::Custom(data)) => postcard::from_bytes(&data).ok(),
            _ => None,
        };
        match first {
            Some(Record::Start(start)) if start.format == FORMAT => {
                let at = blocks.position();
                Ok(Self { blocks, start, at })
            }
            Some(Record::Start(_)) => {
                Err(ReadError::NotATrace("it was written by another version of Bandmesh"))
            }
            _ => Err(ReadError::NotATrace("it has no start record")),
        }
    }

    /// How the trace begins.
    pub fn start(&self) -> &Start {
        &self.start
    }

    /// The next record; `None` at the end of the file.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn next_item(&mut self) -> Result<Option<Item>, ReadError> {
        self.at = self.blocks.position();
        let damaged = |why| ReadError::Damaged { at: self.at, why };
        let item = match self.blocks.next_block()? {
            None => return Ok(None),
            Some(Block::Custom(data)) => {
                Item::Record(postcard::from_bytes(&data).map_err(|_| damaged("its record is none"))?)
            }
            Some(Block::Packet { data, note }) => {
                let note: PacketNote =
                    postcard::from_bytes(&note).map_err(|_| damaged("the note of its packet is none"))?;
                let message = undress(&data).ok_or_else(|| damaged("its packet is too short"))?;
                Item::Packet(note, Bytes::copy_from_slice(message))
            }
        };
        Ok(Some(item))
    }

    /// Where the latest record begins, octets from the start of the file.
    pub fn position(&self) -> u64 {
        self.at
    }

    /// Whether the file ended within a block.
    pub fn is_truncated(&self) -> bool {
        self.blocks.is_truncated()
    }
}
