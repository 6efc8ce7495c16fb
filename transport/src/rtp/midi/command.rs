//! The MIDI list of a packet: delta times and commands (RFC 6295, section 3).

use super::super::PacketError;

/// Largest delta time four octets of seven bits can hold.
pub(super) const MAX_DELTA: u32 = 0x0FFF_FFFF;
/// Octets a delta time takes at most.
pub(super) const MAX_DELTA_LEN: usize = 4;

const SYSEX: u8 = 0xF0;
const SYSEX_END: u8 = 0xF7;
/// Cancels a SysEx sent in segments.
const SYSEX_CANCEL: u8 = 0xF4;

/// A decoded command: ticks after the packet's timestamp, and the message with its status byte.
pub(super) type Command = (u64, Vec<u8>);

/// Octets of a message with this status byte, itself included; `None` for data bytes, SysEx and undefined ones.
pub(super) fn message_len(status: u8) -> Option<usize> {
    match status {
        0x80..=0xBF | 0xE0..=0xEF | 0xF2 => Some(3),
        0xC0..=0xDF | 0xF1 | 0xF3 => Some(2),
        0xF6 | 0xF8..=0xFF => Some(1),
        _ => None,
    }
}

/// Whether this is exactly one complete message.
pub(super) fn is_message(message: &[u8]) -> bool {
    match *message {
        [SYSEX, ref data @ .., SYSEX_END] => data.iter().all(|&octet| octet < 0x80),
        [status, ref data @ ..] => {
            message_len(status) == Some(message.len()) && data.iter().all(|&octet| octet < 0x80)
        }
        [] => false,
    }
}

/// Appends a delta time in 1 to 4 octets, most significant first.
pub(super) fn write_delta(out: &mut Vec<u8>, delta: u32) {
    let delta = delta.min(MAX_DELTA);
    for shift in [21, 14, 7] {
        if delta >> shift != 0 {
            out.push(0x80 | (delta >> shift) as u8);
        }
    }
    out.push((delta & 0x7F) as u8);
}

/// Reads a MIDI list. Running status is understood; SysEx in segments is skipped.
pub(super) fn parse_list(mut list: &[u8], first_has_delta: bool) -> Result<Vec<Command>, PacketError> {
    let mut commands = Vec::new();
    let mut ticks = 0;
    let mut running = None;
    let mut has_delta = first_has_delta;
    while !list.is_empty() {
        if has_delta {
            ticks += u64::from(read_delta(&mut list)?);
        }
        has_delta = true;
        let Some(&first) = list.first() else { break };
        if matches!(first, SYSEX | SYSEX_END | SYSEX_CANCEL) {
            running = None;
            if let Some(message) = read_sysex(&mut list, first)? {
                commands.push((ticks, message));
            }
            continue;
        }
        let status = if first < 0x80 { running.ok_or(PacketError::MidiList)? } else { first };
        let len = message_len(status).ok_or(PacketError::MidiList)?;
        let data_at = usize::from(first >= 0x80);
        let end = data_at + len - 1;
        let data = list.get(data_at..end).ok_or(PacketError::MidiList)?;
        let message: Vec<u8> = std::iter::once(status).chain(data.iter().copied()).collect();
        if !is_message(&message) {
            return Err(PacketError::MidiList);
        }
        // Real-time messages leave running status alone, other system messages end it.
        match status {
            0x80..=0xEF => running = Some(status),
            0xF0..=0xF7 => running = None,
            _ => {}
        }
        commands.push((ticks, message));
        list = list.get(end..).unwrap_or_default();
    }
    Ok(commands)
}

fn read_delta(list: &mut &[u8]) -> Result<u32, PacketError> {
    let mut delta = 0;
    for _ in 0..MAX_DELTA_LEN {
        let (&octet, rest) = list.split_first().ok_or(PacketError::MidiList)?;
        *list = rest;
        delta = delta << 7 | u32::from(octet & 0x7F);
        if octet < 0x80 {
            return Ok(delta);
        }
    }
    Err(PacketError::MidiList)
}

/// Takes a SysEx command off the list; its message if it is a whole one.
fn read_sysex(list: &mut &[u8], first: u8) -> Result<Option<Vec<u8>>, PacketError> {
    let (command, rest) = match first {
        SYSEX_CANCEL => list.split_at(1),
        _ => {
            let end = list.iter().skip(1).position(|&octet| octet >= 0x80).ok_or(PacketError::MidiList)?;
            list.split_at_checked(end + 2).ok_or(PacketError::MidiList)?
        }
    };
    *list = rest;
    if !matches!(command.last(), Some(&(SYSEX | SYSEX_END | SYSEX_CANCEL))) {
        return Err(PacketError::MidiList);
    }
    Ok(is_message(command).then(|| command.to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn running_status_and_real_time_messages_are_understood() {
        let list = [0x90, 60, 100, 0x00, 64, 90, 0x81, 0x00, 0xF8, 0x05, 67, 80];
        let commands = parse_list(&list, false).unwrap();
        assert_eq!(
            commands,
            [(0, vec![0x90, 60, 100]), (0, vec![0x90, 64, 90]), (128, vec![0xF8]), (133, vec![0x90, 67, 80])]
        );
    }

    #[test]
    fn whole_sysex_is_kept_and_segments_are_skipped() {
        let list = [0xF0, 1, 2, 0xF7, 0x00, 0xF0, 3, 0xF0, 0x00, 0xF7, 4, 0xF7, 0x00, 0xC0, 5];
        assert_eq!(parse_list(&list, false).unwrap(), [(0, vec![0xF0, 1, 2, 0xF7]), (0, vec![0xC0, 5])]);
    }

    #[test]
    fn data_without_a_status_is_refused() {
        assert_eq!(parse_list(&[60, 100], false), Err(PacketError::MidiList));
        assert_eq!(parse_list(&[0x90, 60], false), Err(PacketError::MidiList));
        assert_eq!(parse_list(&[0xF0, 1, 2], false), Err(PacketError::MidiList));
    }

    proptest! {
        #[test]
        fn delta_times_are_read_back(delta in 0u32..=MAX_DELTA) {
            let mut octets = Vec::new();
            write_delta(&mut octets, delta);
            prop_assert!(octets.len() <= MAX_DELTA_LEN);
            prop_assert_eq!(read_delta(&mut &octets[..]), Ok(delta));
        }

        #[test]
        fn random_lists_give_whole_messages_or_an_error(list: Vec<u8>, first_has_delta: bool) {
            for (_, message) in parse_list(&list, first_has_delta).unwrap_or_default() {
                prop_assert!(is_message(&message));
            }
        }
    }
}
