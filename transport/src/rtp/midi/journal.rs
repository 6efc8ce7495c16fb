//! The recovery journal's wire form (RFC 6295, section 5 and appendix A).
//!
//! The S, B and Y bits let a receiver skip work after the loss of a single packet. We leave S and B at 0 ("do not
//! skip"), which is always safe, and use Y as the standard says: start this note even now.

use super::super::PacketError;

/// Octets of the journal header.
pub(super) const HEADER_LEN: usize = 3;
const CHANNEL_HEADER_LEN: usize = 3;

const CHAPTER_P: u8 = 0x80;
const CHAPTER_C: u8 = 0x40;
const CHAPTER_M: u8 = 0x20;
const CHAPTER_W: u8 = 0x10;
const CHAPTER_N: u8 = 0x08;
const CHAPTER_E: u8 = 0x04;
const CHAPTER_T: u8 = 0x02;

const SYSTEM_JOURNAL: u8 = 0x40;
const CHANNEL_JOURNALS: u8 = 0x20;

/// Program and, if one was chosen, bank.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Program {
    pub(super) number: u8,
    /// Controllers 0 and 32 as they were at the program change.
    pub(super) bank: Option<(u8, u8)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NoteOn {
    pub(super) note: u8,
    pub(super) velocity: u8,
    /// Whether it is young enough to be started late.
    pub(super) play: bool,
}

/// What changed on one channel since the checkpoint, as it is now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ChannelJournal {
    pub(super) channel: u8,
    pub(super) program: Option<Program>,
    /// Number and value, by number.
    pub(super) controllers: Vec<(u8, u8)>,
    /// The two data bytes of a pitch wheel message.
    pub(super) wheel: Option<(u8, u8)>,
    pub(super) pressure: Option<u8>,
    /// Notes that sound, by number.
    pub(super) notes_on: Vec<NoteOn>,
    /// Notes that do not, one bit a note.
    pub(super) notes_off: u128,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Journal {
    /// The first packet whose commands the journal covers.
    pub(super) checkpoint: u16,
    pub(super) channels: Vec<ChannelJournal>,
}

/// The journal's header for so many channel journals, at most 16.
pub(super) fn header(checkpoint: u16, channels: usize) -> [u8; HEADER_LEN] {
    let [high, low] = checkpoint.to_be_bytes();
    let flags = if channels == 0 { 0 } else { CHANNEL_JOURNALS | (channels - 1).min(15) as u8 };
    [flags, high, low]
}

impl ChannelJournal {
    /// The wire form: at most 539 octets, well within the 10 bits of its length.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut flags = 0;
        let mut body = Vec::new();
        if let Some(program) = self.program {
            flags |= CHAPTER_P;
            let (high, low) = program.bank.unwrap_or_default();
            body.extend([program.number, u8::from(program.bank.is_some()) << 7 | high, low]);
        }
        if let Some(last) = self.controllers.len().checked_sub(1) {
            flags |= CHAPTER_C;
            body.push(last as u8);
            body.extend(self.controllers.iter().flat_map(|&(number, value)| [number, value]));
        }
        if let Some((low, high)) = self.wheel {
            flags |= CHAPTER_W;
            body.extend([low, high]);
        }
        if !self.notes_on.is_empty() || self.notes_off != 0 {
            flags |= CHAPTER_N;
            self.write_notes(&mut body);
        }
        if let Some(pressure) = self.pressure {
            flags |= CHAPTER_T;
            body.push(pressure);
        }
        let len = CHANNEL_HEADER_LEN + body.len();
        let mut out = Vec::with_capacity(len);
        out.extend([self.channel << 3 | (len >> 8) as u8, len as u8, flags]);
        out.append(&mut body);
        out
    }

    fn write_notes(&self, out: &mut Vec<u8>) {
        // LOW above HIGH says that no bits follow; which such pair tells 127 logs from 128 (appendix A.6.1).
        let all = self.notes_on.len() > 127;
        let (low, high) = match self.notes_off {
            0 => (15, u8::from(!all)),
            off => ((off.trailing_zeros() / 8) as u8, 15 - (off.leading_zeros() / 8) as u8),
        };
        out.push(self.notes_on.len().min(127) as u8);
        out.push(low << 4 | high);
        for on in &self.notes_on {
            out.extend([on.note, u8::from(on.play) << 7 | on.velocity]);
        }
        if self.notes_off != 0 {
            for octet in low..=high {
                out.push(((self.notes_off >> (8 * octet)) as u8).reverse_bits());
            }
        }
    }

    fn parse(bytes: &[u8]) -> Result<(ChannelJournal, &[u8]), PacketError> {
        let (&[first, length_low, flags], _) = bytes.split_first_chunk().ok_or(PacketError::MidiJournal)?;
        let len = usize::from(first & 0x03) << 8 | usize::from(length_low);
        let (own, rest) = bytes.split_at_checked(len).ok_or(PacketError::MidiJournal)?;
        let mut body = Reader(own.get(CHANNEL_HEADER_LEN..).ok_or(PacketError::MidiJournal)?);
        let mut journal = ChannelJournal { channel: first >> 3 & 0x0F, ..Default::default() };
        if flags & CHAPTER_P != 0 {
            let [number, bank_high, bank_low] = body.take()?;
            let bank = (bank_high & 0x80 != 0).then_some((bank_high & 0x7F, bank_low & 0x7F));
            journal.program = Some(Program { number: number & 0x7F, bank });
        }
        if flags & CHAPTER_C != 0 {
            let [last] = body.take()?;
            for _ in 0..=last & 0x7F {
                let [number, value] = body.take()?;
                // Logs of the toggle and count tools say how often, not what; no value can be had from them.
                if value & 0x80 == 0 {
                    journal.controllers.push((number & 0x7F, value));
                }
            }
        }
        if flags & CHAPTER_M != 0 {
            let [high, low] = body.take()?;
            let len = usize::from(high & 0x03) << 8 | usize::from(low);
            body.skip(len.checked_sub(2).ok_or(PacketError::MidiJournal)?)?;
        }
        if flags & CHAPTER_W != 0 {
            let [low, high] = body.take()?;
            journal.wheel = Some((low & 0x7F, high & 0x7F));
        }
        if flags & CHAPTER_N != 0 {
            journal.parse_notes(&mut body)?;
        }
        if flags & CHAPTER_E != 0 {
            let [last] = body.take()?;
            body.skip(2 * (usize::from(last & 0x7F) + 1))?;
        }
        if flags & CHAPTER_T != 0 {
            let [pressure] = body.take()?;
            journal.pressure = Some(pressure & 0x7F);
        }
        Ok((journal, rest))
    }

    fn parse_notes(&mut self, body: &mut Reader<'_>) -> Result<(), PacketError> {
        let [len, range] = body.take()?;
        let (low, high) = (range >> 4, range & 0x0F);
        let logs = match (len & 0x7F, low, high) {
            (127, 15, 0) => 128,
            (len, ..) => len,
        };
        for _ in 0..logs {
            let [note, velocity] = body.take()?;
            if velocity & 0x7F == 0 {
                return Err(PacketError::MidiJournal);
            }
            let (note, play) = (note & 0x7F, velocity & 0x80 != 0);
            self.notes_on.push(NoteOn { note, velocity: velocity & 0x7F, play });
        }
        if low > high && !(low == 15 && high <= 1) {
            return Err(PacketError::MidiJournal);
        }
        for octet in low..=high {
            let [bits] = body.take()?;
            self.notes_off |= u128::from(bits.reverse_bits()) << (8 * octet);
        }
        Ok(())
    }
}

impl Journal {
    /// Reads a journal section. A system journal in it is skipped.
    pub(super) fn parse(bytes: &[u8]) -> Result<Journal, PacketError> {
        let (&[flags, high, low], mut rest) = bytes.split_first_chunk().ok_or(PacketError::MidiJournal)?;
        if flags & SYSTEM_JOURNAL != 0 {
            let (&[first, length_low], _) = rest.split_first_chunk().ok_or(PacketError::MidiJournal)?;
            let len = (usize::from(first & 0x03) << 8 | usize::from(length_low)).max(2);
            rest = rest.get(len..).ok_or(PacketError::MidiJournal)?;
        }
        let count = if flags & CHANNEL_JOURNALS == 0 { 0 } else { (flags & 0x0F) + 1 };
        let mut channels = Vec::with_capacity(usize::from(count));
        for _ in 0..count {
            let (channel, after) = ChannelJournal::parse(rest)?;
            channels.push(channel);
            rest = after;
        }
        Ok(Journal { checkpoint: u16::from_be_bytes([high, low]), channels })
    }
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], PacketError> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(PacketError::MidiJournal)?;
        self.0 = rest;
        Ok(*taken)
    }

    fn skip(&mut self, count: usize) -> Result<(), PacketError> {
        self.0 = self.0.get(count..).ok_or(PacketError::MidiJournal)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn channel_journal() -> impl Strategy<Value = ChannelJournal> {
        let program = prop::option::of((0u8..128, prop::option::of((0u8..128, 0u8..128))))
            .prop_map(|program| program.map(|(number, bank)| Program { number, bank }));
        let controllers = prop::collection::btree_map(0u8..128, 0u8..128, 0..128);
        let wheel = prop::option::of((0u8..128, 0u8..128));
        let notes = prop::collection::btree_map(0u8..128, (0u8..128, any::<bool>()), 0..=128);
        (0u8..16, program, controllers, wheel, prop::option::of(0u8..128), notes).prop_map(
            |(channel, program, controllers, wheel, pressure, notes)| {
                let notes_off = notes
                    .iter()
                    .filter(|(_, (velocity, _))| *velocity == 0)
                    .fold(0, |bits, (note, _)| bits | 1u128 << note);
                let notes_on = notes
                    .into_iter()
                    .filter(|(_, (velocity, _))| *velocity > 0)
                    .map(|(note, (velocity, play))| NoteOn { note, velocity, play })
                    .collect();
                let controllers = controllers.into_iter().collect();
                ChannelJournal { channel, program, controllers, wheel, pressure, notes_on, notes_off }
            },
        )
    }

    #[test]
    fn a_released_note_looks_as_the_standard_draws_it() {
        let journal = ChannelJournal { channel: 2, notes_off: 1 << 60, ..Default::default() };
        assert_eq!(journal.to_bytes(), [2 << 3, 6, CHAPTER_N, 0, 0x77, 0x08]);
    }

    #[test]
    fn all_128_notes_may_sound_at_once() {
        let notes_on = (0..128).map(|note| NoteOn { note, velocity: 1, play: false }).collect();
        let journal = ChannelJournal { notes_on, ..Default::default() };
        let bytes = journal.to_bytes();
        assert_eq!(ChannelJournal::parse(&bytes), Ok((journal, &[][..])));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(channels in prop::collection::vec(channel_journal(), 0..16), checkpoint: u16) {
            let mut bytes = header(checkpoint, channels.len()).to_vec();
            for channel in &channels {
                let octets = channel.to_bytes();
                prop_assert!(octets.len() <= 539);
                bytes.extend(octets);
            }
            prop_assert_eq!(Journal::parse(&bytes), Ok(Journal { checkpoint, channels }));
        }

        #[test]
        fn random_bytes_never_panic(mut bytes: Vec<u8>, flags: u8) {
            if let Some(first) = bytes.first_mut() {
                *first = flags;
            }
            let _ = Journal::parse(&bytes);
        }
    }
}
