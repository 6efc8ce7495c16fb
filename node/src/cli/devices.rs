//! `bandmesh devices`

use serde::Serialize;

use crate::cli::{Exit, Machine, Output, Task, text};

/// Audio and MIDI devices of this machine.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Devices {
    /// What `--audio` takes besides `auto`, `null` and `file:`.
    pub audio: Vec<AudioDevice>,
    /// MIDI inputs by name.
    pub midi_inputs: Vec<String>,
    /// MIDI outputs by name.
    pub midi_outputs: Vec<String>,
    /// What could not be listed, one sentence each that says what to do.
    pub problems: Vec<String>,
}

/// One audio device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AudioDevice {
    /// What `--audio` takes.
    pub name: String,
    /// `alsa` or `jack`.
    pub host: String,
    /// Channels it can record; 0: none.
    pub input_channels: u32,
    /// Channels it can play; 0: none.
    pub output_channels: u32,
    /// The rate it runs at by itself; `None`: it does not say.
    pub default_rate_hz: Option<u32>,
    /// Whether `--audio auto` takes it.
    pub is_default: bool,
}

pub(crate) fn run(task: &Task, machine: &dyn Machine) -> Result<Output, Exit> {
    let devices = machine.devices();
    Ok(if task.json { Output::json(&devices) } else { Output::text(render(&devices)) })
}

fn render(devices: &Devices) -> String {
    let mut out = String::new();
    if devices.audio.is_empty() {
        out.push_str("No sound card. `bandmesh up` still works: it plays to nobody (--audio null) or files (--audio file:IN.wav).\n");
    } else {
        let head = ["AUDIO", "HOST", "IN", "OUT", "RATE", ""].map(str::to_owned).to_vec();
        let rows = devices.audio.iter().map(|device| {
            vec![
                device.name.clone(),
                device.host.clone(),
                device.input_channels.to_string(),
                device.output_channels.to_string(),
                device.default_rate_hz.map_or_else(|| "-".to_owned(), |rate| format!("{rate} Hz")),
                if device.is_default { "auto".to_owned() } else { String::new() },
            ]
        });
        out.push_str(&text::table(&std::iter::once(head).chain(rows).collect::<Vec<_>>()));
    }
    let midi = [("in", &devices.midi_inputs), ("out", &devices.midi_outputs)];
    let ports =
        midi.iter().flat_map(|(way, names)| names.iter().map(|name| vec![name.clone(), (*way).to_owned()]));
    let ports: Vec<Vec<String>> = ports.collect();
    if ports.is_empty() {
        out.push_str("\nNo MIDI ports.\n");
    } else {
        let head = vec!["MIDI".to_owned(), "WAY".to_owned()];
        out.push('\n');
        out.push_str(&text::table(&std::iter::once(head).chain(ports).collect::<Vec<_>>()));
    }
    for problem in &devices.problems {
        out.push_str(&format!("! {}\n", text::printable(problem)));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machine_without_devices_is_told_what_still_works() {
        let text = render(&Devices::default());
        assert!(text.contains("--audio null") && text.contains("No MIDI ports"));
    }

    #[test]
    fn device_names_are_harmless_and_the_default_is_marked() {
        let text = render(&Devices {
            audio: vec![AudioDevice {
                name: "USB\u{1b}[31m Mic".into(),
                host: "alsa".into(),
                input_channels: 2,
                output_channels: 0,
                default_rate_hz: Some(48_000),
                is_default: true,
            }],
            midi_inputs: vec!["Keys".into()],
            ..Devices::default()
        });
        assert!(!text.contains('\u{1b}'));
        assert!(text.contains("48000 Hz  auto") && text.contains("Keys  in"), "{text}");
    }
}
