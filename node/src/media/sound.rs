//! How a player has set the channels of an instrument: program, volume, pedal and the like.
//!
//! MIDI says each of these once. Whoever was not there then, a new engine or a new member, must be told.

/// Controllers that instruments obey: modulation, volume, balance and expression, coarse and fine, the pedal, and
/// two sends.
const CONTROLLERS: [u8; 11] = [1, 7, 10, 11, 33, 39, 42, 43, 64, 91, 93];
/// Registered parameters that they obey, by the low half of their number: range of the wheel, fine and coarse tuning. The
/// high half is 0.
const PARAMETERS: u8 = 3;
/// MIDI 1.0: the halves of a bank, of the value of the selected parameter, and of its number, of either kind.
const BANK: [u8; 2] = [0, 32];
const DATA: [u8; 2] = [6, 38];
const UNREGISTERED: [u8; 2] = [99, 98];
const REGISTERED: [u8; 2] = [101, 100];
const RESET_CONTROLLERS: u8 = 121;
/// What that resets (MIDI RP-015), of what is kept here, and to what.
const RESET: [(u8, u8); 5] = [(1, 0), (11, 127), (33, 0), (43, 0), (64, 0)];
const WHEEL_CENTRE: [u8; 2] = [0, 64];
/// The number of no parameter, halves as they are kept.
const NO_PARAMETER: [Option<u8>; 2] = [Some(127); 2];

/// How all channels are set.
#[derive(Clone, Debug, Default)]
pub struct Sounds([Sound; 16]);

impl Sounds {
    /// Takes notice of a message that may set something.
    pub fn note(&mut self, message: &[u8]) {
        let channel = message.first().and_then(|status| self.0.get_mut(usize::from(status & 0x0F)));
        if let Some(channel) = channel {
            channel.note(message);
        }
    }

    /// Messages that set all channels as they are, in an order that does; a program's has a zero at its end.
    pub fn messages(&self) -> impl Iterator<Item = [u8; 3]> {
        (0..).zip(&self.0).flat_map(|(channel, sound)| sound.messages(channel))
    }

    /// Those of one channel.
    pub fn of(&self, channel: u8) -> impl Iterator<Item = [u8; 3]> {
        self.0.get(usize::from(channel)).into_iter().flat_map(move |sound| sound.messages(channel))
    }
}

/// How a channel is set. The messages that say so are some thirty at most, so those of all channels fit into an
/// instrument's queue, and into a member's, at once.
#[derive(Clone, Copy, Debug, Default)]
struct Sound {
    bank: [Option<u8>; 2],
    program: Option<u8>,
    /// In the order of [`CONTROLLERS`].
    controllers: [Option<u8>; CONTROLLERS.len()],
    wheel: Option<[u8; 2]>,
    parameters: [[Option<u8>; 2]; PARAMETERS as usize],
    selected: Option<Selected>,
}

/// The parameter that values are for.
#[derive(Clone, Copy, Debug)]
struct Selected {
    /// The two controllers that name it.
    kind: [u8; 2],
    number: [Option<u8>; 2],
}

impl Sound {
    fn note(&mut self, message: &[u8]) {
        match *message {
            [0xB0..=0xBF, RESET_CONTROLLERS, _] => {
                // Kept as what it is reset to: who is told of it may have heard what was before, and not the reset.
                for (number, kept) in CONTROLLERS.iter().zip(&mut self.controllers) {
                    if let (Some(value), Some((_, reset))) =
                        (kept.as_mut(), RESET.iter().find(|(it, _)| it == number))
                    {
                        *value = *reset;
                    }
                }
                self.wheel = self.wheel.and(Some(WHEEL_CENTRE));
                if let Some(selected) = &mut self.selected {
                    selected.number = NO_PARAMETER;
                }
            }
            [0xB0..=0xBF, number, value] => self.note_controller(number, value),
            [0xC0..=0xCF, value, ..] => self.program = Some(value),
            [0xE0..=0xEF, low, high] => self.wheel = Some([low, high]),
            _ => {}
        }
    }

    fn note_controller(&mut self, number: u8, value: u8) {
        let set = |halves: &mut [Option<u8>; 2], numbers: [u8; 2]| {
            let half = numbers.iter().zip(halves).find(|(half, _)| **half == number);
            half.map(|(_, half)| *half = Some(value)).is_some()
        };
        if set(&mut self.bank, BANK) {
            return;
        }
        for kind in [UNREGISTERED, REGISTERED] {
            if kind.contains(&number) {
                // One half may be named anew while the other stays.
                let before = self.selected.filter(|selected| selected.kind == kind);
                let mut selected = before.unwrap_or(Selected { kind, number: [None; 2] });
                set(&mut selected.number, kind);
                self.selected = Some(selected);
                return;
            }
        }
        if DATA.contains(&number) {
            if let Some(Selected { kind: REGISTERED, number: [Some(0), Some(low)] }) = self.selected
                && let Some(parameter) = self.parameters.get_mut(usize::from(low))
            {
                set(parameter, DATA);
            }
            return;
        }
        if let Some((_, kept)) = CONTROLLERS.iter().zip(&mut self.controllers).find(|(it, _)| **it == number)
        {
            *kept = Some(value);
        }
    }

    /// Messages that set `channel` as this is, in an order that does.
    fn messages(&self, channel: u8) -> impl Iterator<Item = [u8; 3]> {
        let control = move |(number, value): (u8, Option<u8>)| Some([0xB0 | channel, number, value?]);
        let both = |numbers: [u8; 2], values: [Option<u8>; 2]| numbers.into_iter().zip(values);
        let set = (0..).zip(self.parameters).filter(|(_, value)| *value != [None; 2]);
        let parameters =
            set.flat_map(move |(low, value)| both(REGISTERED, [Some(0), Some(low)]).chain(both(DATA, value)));
        let selected = self.selected.into_iter().flat_map(move |it| both(it.kind, it.number));
        let program = self.program.map(|value| [0xC0 | channel, value, 0]);
        let wheel = self.wheel.map(|[low, high]| [0xE0 | channel, low, high]);
        both(BANK, self.bank)
            .filter_map(control)
            .chain(program)
            .chain(CONTROLLERS.into_iter().zip(self.controllers).filter_map(control))
            .chain(parameters.chain(selected).filter_map(control))
            .chain(wheel)
    }
}
