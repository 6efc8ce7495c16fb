//! A look at a change chunk before the engine parses it.
//!
//! Problem: columns are run-length encoded, so a chunk of a hundred bytes can stand for millions of operations,
//! and parsing alone would cost seconds. Idea: walk the chunk without expanding anything and add up the run
//! lengths. The walk costs at most one step per byte.
//!
//! Source of the layout: the Automerge binary format specification, sections "chunk container", "change chunk"
//! and "columns".

use super::{MAX_OPERATIONS, Refusal};

/// The first bytes of every chunk.
const MAGIC: [u8; 4] = [0x85, 0x6f, 0x4a, 0x83];
/// Chunk type of an uncompressed change.
const CHANGE: u8 = 1;
/// Most items a column may expand to. Only the operations that values replace can outnumber the operations.
const MAX_ITEMS: u64 = 4 * MAX_OPERATIONS as u64;
/// Most columns; the format defines 14 for changes.
const MAX_COLUMNS: u64 = 32;

/// Refuses everything but one uncompressed change whose columns expand to a bounded number of items.
pub(super) fn check(bytes: &[u8]) -> Result<(), Refusal> {
    let mut chunk = Reader(bytes);
    if chunk.take(4)? != MAGIC {
        return Err(Refusal::Malformed("not a chunk"));
    }
    chunk.take(4)?;
    if chunk.take(1)? != [CHANGE] {
        return Err(Refusal::Malformed("not an uncompressed change"));
    }
    if chunk.unsigned()? != chunk.0.len() as u64 {
        return Err(Refusal::Malformed("length"));
    }
    let dependencies = chunk.unsigned()?;
    chunk.skip(dependencies.saturating_mul(32))?;
    chunk.skip_prefixed()?; // actor
    chunk.unsigned()?; // number
    chunk.unsigned()?; // first operation
    chunk.unsigned()?; // time: signed, but as long
    chunk.skip_prefixed()?; // message
    for _ in 0..chunk.unsigned()? {
        chunk.skip_prefixed()?; // other actors; each costs at least a byte, so this ends
    }
    let columns = chunk.unsigned()?;
    if columns > MAX_COLUMNS {
        return Err(Refusal::TooLarge("columns"));
    }
    let mut layout = Vec::new();
    for _ in 0..columns {
        layout.push((chunk.unsigned()?, chunk.unsigned()?));
    }
    for (specification, length) in layout {
        let length = usize::try_from(length).map_err(|_| Refusal::Malformed("column length"))?;
        let column = Reader(chunk.take(length)?);
        if specification & 8 != 0 {
            return Err(Refusal::Malformed("compressed column"));
        }
        if column.items(specification & 7)? > MAX_ITEMS {
            return Err(Refusal::TooLarge("run lengths"));
        }
    }
    Ok(())
}

/// Column types of the format.
const GROUP: u64 = 0;
const BOOLEAN: u64 = 4;
const STRING: u64 = 5;
const VALUE: u64 = 7;

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// How many items a column of this type stands for; for groups, how many their members must hold.
    fn items(mut self, kind: u64) -> Result<u64, Refusal> {
        let mut items: u64 = 0;
        match kind {
            VALUE => {}
            BOOLEAN => {
                while !self.0.is_empty() {
                    items = items.saturating_add(self.unsigned()?);
                }
            }
            _ => {
                while !self.0.is_empty() {
                    items = items.saturating_add(self.run(kind)?);
                }
            }
        }
        Ok(items)
    }

    /// One run: `n > 0` repeats one value n times, `n < 0` precedes -n values, `0` precedes a number of nulls.
    fn run(&mut self, kind: u64) -> Result<u64, Refusal> {
        let length = self.signed()?;
        if length == 0 {
            return self.unsigned();
        }
        let items = length.unsigned_abs();
        let written = if length > 0 { 1 } else { items };
        let repeats = if length > 0 { items } else { 1 };
        let mut members: u64 = 0;
        for _ in 0..written {
            match kind {
                STRING => self.skip_prefixed()?,
                _ => members = members.saturating_add(self.unsigned()?),
            }
        }
        if kind == GROUP { Ok(items.max(members.saturating_mul(repeats))) } else { Ok(items) }
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Refusal> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(Refusal::Malformed("cut short"))?;
        self.0 = rest;
        Ok(taken)
    }

    fn skip(&mut self, length: u64) -> Result<(), Refusal> {
        self.take(usize::try_from(length).unwrap_or(usize::MAX)).map(|_| ())
    }

    fn skip_prefixed(&mut self) -> Result<(), Refusal> {
        let length = self.unsigned()?;
        self.skip(length)
    }

    /// An unsigned LEB128 number. A signed one has the same length, so this also skips those.
    fn unsigned(&mut self) -> Result<u64, Refusal> {
        self.leb128().map(|(number, _, _)| number)
    }

    fn signed(&mut self) -> Result<i64, Refusal> {
        let (number, bits, negative) = self.leb128()?;
        let extended = if negative && bits < 64 { number | (u64::MAX << bits) } else { number };
        Ok(extended as i64)
    }

    /// Number, bits read and whether the last group's sign bit was set.
    fn leb128(&mut self) -> Result<(u64, u32, bool), Refusal> {
        let mut number = 0u64;
        for group in 0..10u32 {
            let byte = self.take(1)?.first().copied().unwrap_or_default();
            number |= u64::from(byte & 0x7f) << (7 * group);
            if byte & 0x80 == 0 {
                return Ok((number, 7 * (group + 1), byte & 0x40 != 0));
            }
        }
        Err(Refusal::Malformed("number"))
    }
}
