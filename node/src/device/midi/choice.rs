//! Which of the system's MIDI ports a node uses, and which it never does.
//!
//! A musician plugs a keyboard in and expects it to work, so every instrument is listened to unless they say otherwise.
//! Outputs are for them to choose: a bandmate's notes in every synthesiser of the room is nobody's wish.
//!
//! Everything that could bring the band's notes back to the band is kept apart, since a note that goes round never ends:
//!
//! * Ports of Bandmesh itself, of this node or another one on this machine, are known by their names and are never used.
//! * Programs are not listened to unasked, as a DAW that passes its input on would be a loop. They connect to the node's
//!   own input, as is the custom among programs, or are chosen by name.
//! * A port like "Midi Through" gives back what it is sent: it is listened to if chosen, and not if it is an output too.
//! * An instrument may well be both, with keys and a sound of its own. What it returns of the band's notes is
//!   recognised in [`super::echo`].
//!
//! A cable from one port of an interface to another is a loop that no program can see.

use std::collections::{BTreeMap, BTreeSet};

use super::{MidiChoice, MidiPortState};

/// Names of the two ports that other programs see, by which a node knows its own kind.
pub(super) const OWN_INPUT: &str = "Bandmesh in";
/// As [`OWN_INPUT`].
pub(super) const OWN_OUTPUT: &str = "Bandmesh out";

/// More ports than a studio has; a broken driver that lists thousands is not followed.
const MAX_PORTS: usize = 64;

/// A port's number in the sequencer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Address {
    pub client: i32,
    pub port: i32,
}

/// What is behind a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A sound card's or interface's, or a wireless instrument's.
    Instrument,
    /// Another program's.
    Program,
    /// Gives back what it is sent.
    Thru,
    /// A node's.
    Bandmesh,
}

/// A port that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Port {
    pub address: Address,
    pub name: String,
    pub kind: Kind,
    /// Whether it can be listened to.
    pub plays: bool,
    /// Whether it can be sent to.
    pub sounds: bool,
}

/// The ports to use now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Wanted {
    pub inputs: BTreeMap<Address, String>,
    pub outputs: BTreeMap<Address, String>,
}

/// A name for a port, from those of its client and its own. Numbers are left out, since they change from one day to the next.
pub(super) fn name(client: &str, port: &str) -> String {
    let (client, port) = (client.trim(), port.trim());
    match (client, port) {
        ("", "") => "unnamed".to_owned(),
        (client, "") => client.to_owned(),
        (client, port) if port.starts_with(client) => port.to_owned(),
        (client, port) => format!("{client}: {port}"),
    }
}

/// Numbers the second and further ports of one name, as of two keyboards of one make.
pub(super) fn tell_apart(ports: &mut [Port]) {
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for port in ports {
        let count = seen.entry(port.name.clone()).or_default();
        *count += 1;
        if *count > 1 {
            port.name = format!("{} ({count})", port.name);
        }
    }
}

/// Decides which of `ports` to use.
pub(super) fn wanted(choice: &MidiChoice, ports: &[Port]) -> Wanted {
    let outputs = picked(&choice.outputs, ports, |port| port.sounds);
    let mut inputs = picked(&choice.inputs, ports, |port| port.plays);
    if choice.all_inputs {
        inputs.extend(ports.iter().filter(|port| port.plays && port.kind == Kind::Instrument).map(entry));
    }
    let is_loop = |port: &Port| port.kind == Kind::Thru && outputs.contains_key(&port.address);
    for port in ports.iter().filter(|port| is_loop(port)) {
        inputs.remove(&port.address);
    }
    Wanted {
        inputs: inputs.into_iter().take(MAX_PORTS).collect(),
        outputs: outputs.into_iter().take(MAX_PORTS).collect(),
    }
}

fn entry(port: &Port) -> (Address, String) {
    (port.address, port.name.clone())
}

fn picked(picks: &[String], ports: &[Port], way: fn(&Port) -> bool) -> BTreeMap<Address, String> {
    let usable: Vec<&Port> = ports.iter().filter(|port| way(port) && port.kind != Kind::Bandmesh).collect();
    picks
        .iter()
        .flat_map(|pick| {
            // A whole name means that port alone: "Keys 1" is not "Keys 10".
            let exact = usable.iter().any(|port| port.name == *pick);
            usable
                .iter()
                .filter(move |port| if exact { port.name == *pick } else { is_part(pick, &port.name) })
        })
        .map(|port| entry(port))
        .collect()
}

fn is_part(pick: &str, name: &str) -> bool {
    name.to_lowercase().contains(&pick.to_lowercase())
}

/// Every port of one direction with its state, then the picks that stand for none.
pub(super) fn listed(
    picks: &[String],
    ports: &[Port],
    way: fn(&Port) -> bool,
    wanted: &BTreeMap<Address, String>,
    open: &BTreeSet<Address>,
) -> Vec<(Option<Address>, String, MidiPortState)> {
    let chosen = picked(picks, ports, way);
    let mut list: Vec<_> = ports
        .iter()
        .filter(|port| way(port) && port.kind != Kind::Bandmesh)
        .map(|port| {
            let state = match port.address {
                at if open.contains(&at) => MidiPortState::Open,
                at if wanted.contains_key(&at) => MidiPortState::Refused,
                at if chosen.contains_key(&at) => MidiPortState::Loop,
                _ => MidiPortState::Closed,
            };
            (Some(port.address), port.name.clone(), state)
        })
        .take(MAX_PORTS)
        .collect();
    let absent = picks.iter().filter(|pick| !chosen.values().any(|name| is_part(pick, name)));
    list.extend(absent.map(|pick| (None, pick.clone(), MidiPortState::Absent)));
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(client: i32, name: &str, kind: Kind) -> Port {
        Port { address: Address { client, port: 0 }, name: name.into(), kind, plays: true, sounds: true }
    }

    /// A keyboard, a workstation, a thru port, a DAW and another node.
    fn studio() -> Vec<Port> {
        vec![
            port(14, "Midi Through Port-0", Kind::Thru),
            port(20, "Keys 1", Kind::Instrument),
            port(24, "Keys 10", Kind::Instrument),
            port(128, "DAW: out", Kind::Program),
            port(129, "other: Bandmesh out", Kind::Bandmesh),
        ]
    }

    fn choice(all_inputs: bool, inputs: &[&str], outputs: &[&str]) -> MidiChoice {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        MidiChoice { all_inputs, inputs: owned(inputs), outputs: owned(outputs) }
    }

    fn clients(ports: &BTreeMap<Address, String>) -> Vec<i32> {
        ports.keys().map(|address| address.client).collect()
    }

    #[test]
    fn unasked_every_instrument_is_heard_and_none_is_played() {
        let wanted = wanted(&MidiChoice::default(), &studio());
        assert_eq!((clients(&wanted.inputs), clients(&wanted.outputs)), (vec![20, 24], vec![]));
    }

    #[test]
    fn nodes_never_use_each_other_whatever_is_chosen() {
        let wanted = wanted(&choice(true, &["bandmesh", "other"], &["Bandmesh", "other"]), &studio());
        assert!(!clients(&wanted.inputs).contains(&129) && wanted.outputs.is_empty(), "{wanted:?}");
    }

    #[test]
    fn a_pick_is_a_part_of_a_name_in_any_case_or_a_whole_name_that_means_one_port() {
        let inputs = |picks: &[&str]| clients(&wanted(&choice(false, picks, &[]), &studio()).inputs);
        assert_eq!(inputs(&["keys"]), [20, 24]);
        assert_eq!(inputs(&["Keys 1"]), [20]);
        assert_eq!(inputs(&["daw", "through"]), [14, 128]);
        assert_eq!(inputs(&[]), [0; 0]);
    }

    #[test]
    fn a_thru_port_is_an_input_or_an_output_and_an_instrument_may_be_both() {
        let choice = choice(false, &["through", "Keys 1"], &["through", "Keys 1"]);
        let wanted = wanted(&choice, &studio());
        assert_eq!((clients(&wanted.inputs), clients(&wanted.outputs)), (vec![20], vec![14, 20]));
        let open = wanted.inputs.keys().copied().collect();
        let list = listed(&choice.inputs, &studio(), |port| port.plays, &wanted.inputs, &open);
        let state = |name: &str| list.iter().find(|(_, found, _)| found == name).map(|(.., state)| *state);
        assert_eq!(state("Midi Through Port-0"), Some(MidiPortState::Loop));
        assert_eq!(state("Keys 1"), Some(MidiPortState::Open));
        assert_eq!(state("Keys 10"), Some(MidiPortState::Closed));
        assert_eq!(state("other: Bandmesh out"), None);
    }

    #[test]
    fn what_is_chosen_and_not_there_is_shown_as_absent_and_what_does_not_open_as_refused() {
        let choice = choice(false, &["Piano", "Keys 1"], &[]);
        let wanted = wanted(&choice, &studio());
        let list = listed(&choice.inputs, &studio(), |port| port.plays, &wanted.inputs, &BTreeSet::new());
        assert_eq!(list.last(), Some(&(None, "Piano".to_owned(), MidiPortState::Absent)));
        assert!(list.contains(&(
            Some(Address { client: 20, port: 0 }),
            "Keys 1".to_owned(),
            MidiPortState::Refused
        )));
    }

    #[test]
    fn names_have_no_numbers_that_change_and_twins_are_told_apart() {
        assert_eq!(name("KeyStation", "KeyStation MIDI 1"), "KeyStation MIDI 1");
        assert_eq!(name("FLUID Synth", "Synth input"), "FLUID Synth: Synth input");
        let mut twins = vec![port(20, "Keys", Kind::Instrument), port(24, "Keys", Kind::Instrument)];
        tell_apart(&mut twins);
        assert_eq!((twins[0].name.as_str(), twins[1].name.as_str()), ("Keys", "Keys (2)"));
    }
}
