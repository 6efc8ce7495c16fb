//! ALSA's sequencer: one client with an input and an output, to which others are connected.
//!
//! midir would make a client, a thread and a queue for each port, and the kernel has 32 queues for everybody; it does
//! not say which port a message came from, nor that one was unplugged. Here all inputs lead into one port.

use std::ffi::CString;
use std::time::Duration;

use alsa::PollDescriptors;
use alsa::seq::{
    Addr, ClientIter, Connect, Event, EventType, MidiEvent as Coder, PortCap, PortInfo, PortIter,
    PortSubscribe, PortType, Seq,
};

use super::super::libasound::quietly;
use super::choice::{Address, Kind, OWN_INPUT, OWN_OUTPUT, Port, name, tell_apart};

/// Longest message that is carried; the coder needs as much.
const MAX_BYTES: usize = 12;
/// Messages that the kernel keeps while nobody reads; the most it grants.
const KERNEL_EVENTS: u32 = 2_000;
/// Linux' client that gives back what it is sent.
const THRU_CLIENT: i32 = 14;
/// No access, and already connected.
const EACCES: i32 = libc::EACCES;
const EBUSY: i32 = libc::EBUSY;

/// Why there is no MIDI.
#[derive(Debug, thiserror::Error)]
pub enum MidiError {
    /// The kernel has no sequencer.
    #[error(
        "this machine has no MIDI sequencer; load it with `sudo modprobe snd-seq`, or use JACK's MIDI ports"
    )]
    Unavailable,
    /// The sequencer is there and may not be used.
    #[error(
        "this user may not use MIDI; add them to the group `audio` (sudo usermod -aG audio $USER) and log in again"
    )]
    Forbidden,
    /// The sequencer does not do what it should.
    #[error("the MIDI sequencer failed ({0}); close other MIDI programs, or restart the machine")]
    Failed(#[from] alsa::Error),
    /// The system would not give a thread or a socket.
    #[error("no thread for MIDI ({0}); close other programs or raise `ulimit -u`")]
    Thread(#[from] std::io::Error),
}

/// Something that the sequencer says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// A message, with the time on the sequencer's clock if it has one.
    Message { from: Address, stamp: Option<Duration>, bytes: [u8; 3], length: usize },
    /// A port is there that was not.
    PortCame(Address),
    /// Ports went or changed their names.
    PortsChanged,
    /// This input leads here no more.
    InputParted(Address),
    /// This output is reached no more.
    OutputParted(Address),
    /// Messages were lost, as nobody read them in time.
    Overrun,
}

/// The open sequencer.
pub(super) struct Sequencer {
    seq: Seq,
    input: Addr,
    output: Addr,
    coder: Coder,
}

impl Sequencer {
    /// Opens it as `client`, with its two ports.
    pub(super) fn open(client: &str) -> Result<Self, MidiError> {
        let seq = open_client(client)?;
        let own = seq.client_id()?;
        // Without a larger one, a wheel turned while nobody reads would lose keys.
        let _ = seq.set_client_pool_input(KERNEL_EVENTS);
        let queue = seq.alloc_queue()?;
        seq.control_queue(queue, EventType::Start, 0, None)?;
        seq.drain_output()?;
        let mut info = PortInfo::empty()?;
        info.set_name(&c_string(OWN_INPUT));
        info.set_capability(PortCap::WRITE | PortCap::SUBS_WRITE);
        info.set_type(PortType::MIDI_GENERIC | PortType::APPLICATION);
        info.set_midi_channels(16);
        info.set_timestamping(true);
        info.set_timestamp_real(true);
        info.set_timestamp_queue(queue);
        seq.create_port(&info)?;
        let output = seq.create_simple_port(
            &c_string(OWN_OUTPUT),
            PortCap::READ | PortCap::SUBS_READ,
            PortType::MIDI_GENERIC | PortType::APPLICATION,
        )?;
        let coder = Coder::new(MAX_BYTES as u32)?;
        coder.enable_running_status(false);
        let sequencer = Sequencer {
            input: Addr { client: own, port: info.get_port() },
            output: Addr { client: own, port: output },
            seq,
            coder,
        };
        // What is plugged in is heard of at once; a sequencer that does not tell is asked from time to time.
        let _ = connect(&sequencer.seq, Addr::system_announce(), sequencer.input);
        Ok(sequencer)
    }

    /// What to wait on for [`Self::read`].
    pub(super) fn poll_descriptors(&self) -> Vec<libc::pollfd> {
        (&self.seq, Some(alsa::Direction::Capture)).get().unwrap_or_default()
    }

    /// All ports of others, by address.
    pub(super) fn ports(&self) -> Vec<Port> {
        ports(&self.seq, self.input.client)
    }

    /// Listens to `port`.
    pub(super) fn listen(&self, port: Address) -> Result<(), MidiError> {
        connect(&self.seq, address(port), self.input)
    }

    /// Listens to `port` no more.
    pub(super) fn unlisten(&self, port: Address) {
        // One that is gone is parted already.
        let _ = self.seq.unsubscribe_port(address(port), self.input);
    }

    /// Sends to `port` whatever is sent to everybody.
    pub(super) fn feed(&self, port: Address) -> Result<(), MidiError> {
        connect(&self.seq, self.output, address(port))
    }

    /// Sends to `port` no more.
    pub(super) fn unfeed(&self, port: Address) {
        let _ = self.seq.unsubscribe_port(self.output, address(port));
    }

    /// Sends at once, to one port or to everybody who is connected.
    pub(super) fn send(&mut self, to: Option<Address>, message: &[u8]) {
        self.coder.reset_encode();
        let Ok((_, Some(mut event))) = self.coder.encode(message) else { return };
        event.set_source(self.output.port);
        match to {
            Some(port) => event.set_dest(address(port)),
            None => event.set_subs(),
        }
        event.set_direct();
        // A port that fails is one that is being unplugged.
        let _ = self.seq.event_output_direct(&mut event);
    }

    /// The next thing it says; `None`: nothing now.
    ///
    /// # Errors
    /// When the sequencer itself is gone.
    pub(super) fn read(&mut self) -> Result<Option<Said>, MidiError> {
        let mut input = self.seq.input();
        loop {
            match input.event_input_pending(true) {
                Ok(0) => return Ok(None),
                Ok(_) => {}
                Err(error) if error.errno() == libc::EAGAIN => return Ok(None),
                Err(error) if error.errno() == libc::ENOSPC => return Ok(Some(Said::Overrun)),
                Err(error) => return Err(error.into()),
            }
            let mut event = match input.event_input() {
                Ok(event) => event,
                Err(error) if error.errno() == libc::EAGAIN => return Ok(None),
                Err(error) if error.errno() == libc::ENOSPC => return Ok(Some(Said::Overrun)),
                // A type that the library does not know.
                Err(error) if error.errno() == libc::EINVAL => continue,
                Err(error) => return Err(error.into()),
            };
            if let Some(said) = understood(&self.coder, &mut event, self.input, self.output) {
                return Ok(Some(said));
            }
        }
    }
}

fn understood(coder: &Coder, event: &mut Event<'_>, input: Addr, output: Addr) -> Option<Said> {
    match event.get_type() {
        EventType::PortStart => Some(Said::PortCame(known(event.get_data::<Addr>()?))),
        EventType::PortExit
        | EventType::PortChange
        | EventType::ClientStart
        | EventType::ClientExit
        | EventType::ClientChange => Some(Said::PortsChanged),
        EventType::PortUnsubscribed => match event.get_data::<Connect>()? {
            Connect { sender, dest } if dest == input => Some(Said::InputParted(known(sender))),
            Connect { sender, dest } if sender == output => Some(Said::OutputParted(known(dest))),
            _ => None,
        },
        _ => {
            let mut bytes = [0; MAX_BYTES];
            let length = coder.decode(&mut bytes, event).ok()?;
            let bytes = *bytes.first_chunk()?;
            let from = known(event.get_source());
            (1..=3).contains(&length).then(|| Said::Message { from, stamp: event.get_time(), bytes, length })
        }
    }
}

/// Names of the system's MIDI inputs and outputs, without those of nodes.
pub(in super::super) fn port_names() -> Result<(Vec<String>, Vec<String>), MidiError> {
    let seq = open_client("bandmesh-list")?;
    let ports = ports(&seq, seq.client_id()?);
    let names = |way: fn(&Port) -> bool| {
        let ports = ports.iter().filter(|port| way(port) && port.kind != Kind::Bandmesh);
        ports.map(|port| port.name.clone()).collect()
    };
    Ok((names(|port| port.plays), names(|port| port.sounds)))
}

fn open_client(name: &str) -> Result<Seq, MidiError> {
    let seq = quietly(|| Seq::open(None, None, true)).map_err(|error| match error.errno() {
        EACCES => MidiError::Forbidden,
        libc::ENOENT | libc::ENODEV | libc::ENXIO => MidiError::Unavailable,
        _ => MidiError::Failed(error),
    })?;
    seq.set_client_name(&c_string(name))?;
    Ok(seq)
}

fn ports(seq: &Seq, own_client: i32) -> Vec<Port> {
    let clients = ClientIter::new(seq).filter(|client| client.get_client() != own_client);
    let mut ports: Vec<Port> = clients
        .flat_map(|client| {
            let has_card = client.get_card().is_ok();
            let client_name = client.get_name().unwrap_or_default().to_owned();
            PortIter::new(seq, client.get_client()).filter_map(move |info| {
                let midi = PortType::MIDI_GENERIC | PortType::SYNTH | PortType::APPLICATION;
                let can = |capability| info.get_capability().contains(capability);
                if !info.get_type().intersects(midi) || can(PortCap::NO_EXPORT) {
                    return None;
                }
                let port_name = info.get_name().unwrap_or_default();
                let kind = match port_name {
                    OWN_INPUT | OWN_OUTPUT => Kind::Bandmesh,
                    _ if info.get_client() == THRU_CLIENT => Kind::Thru,
                    _ if has_card || info.get_type().contains(PortType::HARDWARE) => Kind::Instrument,
                    _ => Kind::Program,
                };
                Some(Port {
                    address: known(info.addr()),
                    name: name(&client_name, port_name),
                    kind,
                    plays: can(PortCap::READ | PortCap::SUBS_READ),
                    sounds: can(PortCap::WRITE | PortCap::SUBS_WRITE),
                })
            })
        })
        .filter(|port| port.plays || port.sounds)
        .collect();
    tell_apart(&mut ports);
    ports
}

fn connect(seq: &Seq, sender: Addr, dest: Addr) -> Result<(), MidiError> {
    let subscription = PortSubscribe::empty()?;
    subscription.set_sender(sender);
    subscription.set_dest(dest);
    match seq.subscribe_port(&subscription) {
        Err(error) if error.errno() != EBUSY => Err(error.into()),
        // Busy: the two are connected already.
        _ => Ok(()),
    }
}

fn address(known: Address) -> Addr {
    Addr { client: known.client, port: known.port }
}

fn known(address: Addr) -> Address {
    Address { client: address.client, port: address.port }
}

/// Names come without the character that ends them in C; one that has it is cut there.
fn c_string(text: &str) -> CString {
    CString::new(text.split('\0').next().unwrap_or_default()).unwrap_or_default()
}
