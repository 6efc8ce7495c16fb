//! This machine's devices, for the commands that list and check them.

use crate::{
    cli::{AudioDevice, Devices, Machine},
    device,
};

/// The machine the program runs on.
pub struct LocalMachine;

impl Machine for LocalMachine {
    fn devices(&self) -> Devices {
        let listing = device::list();
        let named = |direction: &str| {
            let ports = listing.midi.iter().filter(|port| port.direction == direction);
            ports.map(|port| port.name.clone()).collect()
        };
        Devices {
            audio: listing.audio.iter().map(audio_device).collect(),
            midi_inputs: named("input"),
            midi_outputs: named("output"),
            problems: listing.notes.clone(),
        }
    }
}

fn audio_device(device: &device::AudioDevice) -> AudioDevice {
    AudioDevice {
        name: device.choice.clone(),
        host: device.host.clone(),
        input_channels: device.input_channels.map_or(0, u32::from),
        output_channels: device.output_channels.map_or(0, u32::from),
        default_rate_hz: device.rate_hz.map(|(lowest, highest)| 48_000.clamp(lowest, highest.max(lowest))),
        is_default: device.is_default,
    }
}
