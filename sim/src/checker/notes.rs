//! No note sounds for ever.

use std::{collections::BTreeMap, time::Duration};

use super::{Checker, Fact};
use crate::{clock::WorldTime, network::HostId};

/// How long a note may sound at a listener after its key came up: the time in which a dead connection is noticed, at
/// which all notes of the other end are released, and a little more.
const LONGEST: Duration = Duration::from_secs(8);

/// How long a note must have sounded at the MIDI output to be heard from the instrument: two looks of the world, in which
/// there are dozens of callbacks.
const HEARD_AFTER: Duration = Duration::from_millis(200);
/// What an instrument's first half second is louder than, full scale being 1.
const AUDIBLE: f32 = 1e-3;

/// Where notes are played by an instrument, they are heard.
#[derive(Default)]
pub(super) struct InstrumentsSound {
    /// Since when each host's instruments have notes to play, and the loudest that was heard of it.
    since: BTreeMap<HostId, (WorldTime, f32)>,
    heard: u64,
}

impl Checker for InstrumentsSound {
    fn name(&self) -> &'static str {
        "instruments_sound"
    }

    fn observe(&mut self, fact: &Fact<'_>) -> Result<(), String> {
        let Fact::Moment(moment) = fact else { return Ok(()) };
        for (host, node) in moment.nodes.iter().enumerate() {
            let playing = node.as_ref().filter(|node| !node.sounding.is_empty());
            let Some(peak) = playing.and_then(|node| node.instruments_peak) else {
                self.since.remove(&host);
                continue;
            };
            let (since, loudest) = self.since.entry(host).or_insert((moment.at, 0.0));
            *loudest = loudest.max(peak);
            if moment.at.since(*since) < HEARD_AFTER {
                continue;
            }
            self.heard += 1;
            if *loudest < AUDIBLE {
                return Err(format!("host {host} has notes to play and nothing is heard, {loudest} at most"));
            }
        }
        Ok(())
    }

    fn figures(&self, into: &mut BTreeMap<&'static str, f64>) {
        if self.heard > 0 {
            into.insert("instruments_heard_moments", self.heard as f64);
        }
    }
}

/// A note that nobody plays any more ends at every listener.
#[derive(Default)]
pub(super) struct NotesEnd {
    /// Since when a note of one host has sounded at another without being played.
    orphans: BTreeMap<(HostId, HostId, u8), WorldTime>,
    longest: Duration,
    heard: u64,
}

impl Checker for NotesEnd {
    fn name(&self) -> &'static str {
        "notes_end"
    }

    fn observe(&mut self, fact: &Fact<'_>) -> Result<(), String> {
        let Fact::Moment(moment) = fact else { return Ok(()) };
        let mut orphans = BTreeMap::new();
        for (listener, node) in moment.nodes.iter().enumerate() {
            for (from, note) in node.iter().flat_map(|node| &node.sounding) {
                self.heard += 1;
                let player = moment.nodes.get(*from).and_then(Option::as_ref);
                if player.is_some_and(|player| player.held.contains(note)) {
                    continue;
                }
                let key = (listener, *from, *note);
                let since = self.orphans.get(&key).copied().unwrap_or(moment.at);
                orphans.insert(key, since);
                self.longest = self.longest.max(moment.at.since(since));
                if moment.at.since(since) > LONGEST {
                    return Err(format!(
                        "note {note} of host {from} still sounds at host {listener}, {LONGEST:?} after its end"
                    ));
                }
            }
        }
        self.orphans = orphans;
        Ok(())
    }

    fn figures(&self, into: &mut BTreeMap<&'static str, f64>) {
        if self.heard > 0 {
            into.insert("note_end_latest_ms", self.longest.as_secs_f64() * 1e3);
            into.insert("notes_heard_moments", self.heard as f64);
        }
    }
}
