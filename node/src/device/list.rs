//! What `bandmesh devices` shows.

use serde::Serialize;

/// Audio and MIDI devices of this machine.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Listing {
    /// What `--audio` can name, best first.
    pub audio: Vec<AudioDevice>,
    /// MIDI ports.
    pub midi: Vec<MidiDevice>,
    /// What is missing, and why.
    pub notes: Vec<String>,
}

/// One thing `--audio` can name.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AudioDevice {
    /// What to write after `--audio`.
    pub choice: String,
    /// In words.
    pub description: String,
    /// `jack`, `alsa`, `null` or `file`.
    pub host: String,
    /// The most input channels, if known.
    pub input_channels: Option<u16>,
    /// The most output channels, if known.
    pub output_channels: Option<u16>,
    /// The lowest and highest rate, if known.
    pub rate_hz: Option<(u32, u32)>,
    /// The period a JACK server runs at.
    pub period_frames: Option<u32>,
    /// Whether `auto` takes it.
    pub is_default: bool,
}

/// One MIDI port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MidiDevice {
    /// The port's name.
    pub name: String,
    /// `input` or `output`.
    pub direction: String,
}

/// Looks at the machine. Takes up to a few seconds, as devices must be asked.
pub fn list() -> Listing {
    let mut listing = Listing::default();
    #[cfg(feature = "devices")]
    list_hardware(&mut listing);
    #[cfg(not(feature = "devices"))]
    listing.notes.push("this build has no support for sound cards".to_owned());
    listing.audio.push(virtual_device("null", "a steady timer: silence in, nothing out"));
    mark_default(&mut listing.audio);
    listing.audio.push(virtual_device("file:IN.wav[,OUT.wav]", "plays one WAV file and records to another"));
    listing
}

/// What `auto` would open: JACK, else the default card, else nothing but a timer.
fn mark_default(devices: &mut [AudioDevice]) {
    #[cfg(feature = "devices")]
    let card = super::alsa::default_choice();
    #[cfg(not(feature = "devices"))]
    let card: Option<String> = None;
    let best = |device: &AudioDevice| match device.host.as_str() {
        "jack" => 0,
        "alsa" if Some(&device.choice) == card.as_ref() => 1,
        "null" => 2,
        _ => 3,
    };
    if let Some(device) = devices.iter_mut().min_by_key(|device| best(device)) {
        device.is_default = true;
    }
}

fn virtual_device(choice: &str, description: &str) -> AudioDevice {
    AudioDevice {
        choice: choice.to_owned(),
        description: description.to_owned(),
        host: choice.split(':').next().unwrap_or(choice).to_owned(),
        input_channels: Some(2),
        output_channels: Some(2),
        rate_hz: Some((8_000, 192_000)),
        period_frames: None,
        is_default: false,
    }
}

#[cfg(feature = "devices")]
fn list_hardware(listing: &mut Listing) {
    match super::jack::probe() {
        Ok((rate_hz, period_frames)) => listing.audio.push(AudioDevice {
            choice: "jack".to_owned(),
            description: "the running JACK server".to_owned(),
            host: "jack".to_owned(),
            input_channels: Some(2),
            output_channels: Some(2),
            rate_hz: Some((rate_hz, rate_hz)),
            period_frames: Some(period_frames),
            is_default: false,
        }),
        Err(error) => listing.notes.push(error.to_string()),
    }
    match super::alsa::list() {
        Ok(devices) if devices.is_empty() => listing.notes.push("no sound card was found".to_owned()),
        Ok(devices) => listing.audio.extend(devices),
        Err(error) => listing.notes.push(error.to_string()),
    }
    match super::midi::port_names() {
        Ok((inputs, outputs)) => {
            let port = |direction: &str| {
                let direction = direction.to_owned();
                move |name| MidiDevice { name, direction: direction.clone() }
            };
            listing.midi.extend(inputs.into_iter().map(port("input")));
            listing.midi.extend(outputs.into_iter().map(port("output")));
        }
        Err(error) => listing.notes.push(error.to_string()),
    }
}
