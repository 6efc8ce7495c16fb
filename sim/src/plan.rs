//! A run written down before it happens.
//!
//! A scenario turns a seed into a [`Plan`]: hosts, paths, and a list of what musicians, networks and power
//! supplies do at which moment. A plan is plain data, so it can be printed, replayed, and shortened to the
//! fewest faults that still fail.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use bandmesh::codec::Codec;

use crate::{
    clock::{HostClock, WorldTime},
    hostile::Hostile,
    network::{HostId, Site, SiteId, Trace, Weather},
    node::Sabotage,
    sound_card::Card,
};

/// A whole run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Name of the scenario.
    pub scenario: &'static str,
    /// The hosts, by number.
    pub hosts: Vec<HostPlan>,
    /// Weather of all paths that `paths` does not name.
    pub weather: Weather,
    /// Weather of single pairs.
    pub paths: Vec<(HostId, HostId, Weather)>,
    /// Pairs whose path does what a recorded one did, in both directions, beside its weather.
    pub replays: Vec<(HostId, HostId, Arc<Trace>)>,
    /// The local networks that hosts are on; hosts name theirs by its place in this list. Empty: all hosts are on one
    /// without a NAT.
    pub sites: Vec<Site>,
    /// What musicians do and the run cannot be told without, in any order.
    pub actions: Vec<(WorldTime, Action)>,
    /// What goes wrong. A run without some of them is still a run, so that one that fails can be shortened.
    pub faults: Vec<Fault>,
    /// How long the run lasts. From the last action on nothing but time passes.
    pub length: WorldTime,
    /// What the checkers hold this run to.
    pub bounds: Bounds,
}

impl Plan {
    /// All that happens, in order of time.
    pub fn timeline(&self) -> Vec<(WorldTime, Action)> {
        let faults = self.faults.iter().flat_map(|fault| fault.actions.iter());
        let mut all: Vec<_> = self.actions.iter().chain(faults).cloned().collect();
        all.sort_by_key(|(at, _)| *at);
        all
    }

    /// The same run with only these of its faults, by their place in the list from 0.
    pub fn with_only(&self, kept: &BTreeSet<usize>) -> Self {
        let faults = self.faults.iter().enumerate().filter(|(place, _)| kept.contains(place));
        Self { faults: faults.map(|(_, fault)| fault.clone()).collect(), ..self.clone() }
    }
}

/// Something that goes wrong, with its end if it has one.
#[derive(Clone, Debug)]
pub struct Fault {
    /// What it is, in a few words.
    pub about: String,
    /// What happens, in any order.
    pub actions: Vec<(WorldTime, Action)>,
}

/// Bounds that depend on the network a plan plays on.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Largest difference of the beat between two members, once settled, beyond what they state not to know of each
    /// other's clocks.
    pub beat_phase: Duration,
    /// How long after the last disturbance the beat must have settled.
    pub settling: Duration,
    /// Largest share of clock estimates whose true error is above the stated one. Errors wander slowly, so misses come
    /// in rows, and one run in a thousand has all of them.
    pub clock_misses: f64,
    /// By how much an estimate may be further off than it states without counting as a miss: what a path hides from
    /// every exchange of packets.
    pub clock_slack: Duration,
    /// Share of a stream's frames that may be made up beyond those the path lost: late ones within the playout
    /// buffer's loss target, and its growing and shrinking.
    pub concealed: f64,
    /// The longest hold there is on any path. A playout that begins with no delay, as ours does, cannot know of a hold before it
    /// has met it: each that is longer than any before is heard as a hole by the difference, all together this long.
    pub longest_hold: Duration,
}

/// A path that holds everything now and then makes late, by the hold that is longer than any before, up to this
/// share of what it holds.
const LATE_OF_HELD: f64 = 0.25;

impl Bounds {
    /// The bounds also for a run in which there is such weather.
    pub fn with_weather(self, weather: &Weather) -> Self {
        let held = weather.stalls.held_share() + weather.spikes.held_share();
        let concealed = Self::default().concealed + LATE_OF_HELD * held;
        let longest = Duration::from_secs_f64(weather.stalls.longest().max(weather.spikes.longest()) / 1e3);
        Self {
            concealed: self.concealed.max(concealed),
            longest_hold: self.longest_hold.max(longest),
            ..self
        }
    }
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            beat_phase: Duration::from_millis(3),
            settling: Duration::from_secs(12),
            clock_misses: 0.01,
            clock_slack: Duration::ZERO,
            concealed: 0.01,
            longest_hold: Duration::ZERO,
        }
    }
}

/// One host.
#[derive(Clone, Debug)]
pub struct HostPlan {
    /// The musician's name.
    pub name: String,
    /// Session name its node is started with.
    pub session: String,
    /// Tempo its node would found a session with.
    pub tempo_bpm: f64,
    /// Its steady clock.
    pub clock: HostClock,
    /// Its sound card, if it has one.
    pub card: Option<Card>,
    /// The codec that the musician asks for.
    pub codec: Codec,
    /// Whether the musician has the notes of others played by an instrument, with the microphone off.
    pub instruments: bool,
    /// The local network it is on.
    pub site: SiteId,
    /// Its part in Ableton Link.
    pub link: LinkPart,
    /// A fault built in by a test.
    pub sabotage: Option<Sabotage>,
    /// How it breaks the rules on purpose; such a host is not judged.
    pub hostile: Option<Hostile>,
}

/// What a host has to do with Ableton Link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum LinkPart {
    /// Nothing.
    #[default]
    None,
    /// Its node takes part in its network's Link session.
    Bridge,
    /// No node runs on it, but another program that takes part in Link: what starts, stops and sets the tempo is that.
    App,
}

/// Something that happens at a moment.
#[derive(Clone, Debug)]
pub enum Action {
    /// The node is started, if it does not run.
    Start(HostId),
    /// The node is stopped politely.
    Stop(HostId),
    /// The node's process is killed.
    Kill(HostId),
    /// The host loses power.
    PowerCut(HostId),
    /// The network falls into these groups; hosts in none are alone.
    Split(Vec<Vec<HostId>>),
    /// From the first of each pair nothing reaches the second any more; the other direction stays as it is.
    Cut(Vec<(HostId, HostId)>),
    /// These cuts end.
    Mend(Vec<(HostId, HostId)>),
    /// All cuts end.
    Heal,
    /// The weather between two hosts changes.
    SetWeather(HostId, HostId, Weather),
    /// The host moves to another local network, or gets another address on the same one. Its old address is gone.
    Move(HostId, SiteId),
    /// The NAT before a local network forgets all it knew.
    RebootNat(SiteId),
    /// The lid is closed: nothing runs on the host, no packet reaches it, and its steady clock stands still.
    Suspend(HostId),
    /// The lid is opened again.
    Resume(HostId),
    /// The host's steady clock jumps forward, as when a virtual machine is moved. It never jumps back: systems
    /// promise that.
    StepClock(HostId, Duration),
    /// The sound card makes no callback for so long and loses the sound of that time.
    StallCard(HostId, Duration),
    /// The sound card's clock runs at another error from now on, parts per billion: it follows another word clock,
    /// or it has become warm.
    ChangeCardRate(HostId, i64),
    /// The musician edits the project.
    Edit(HostId, Edit),
    /// The musician sets the tempo.
    Tempo(HostId, f64),
    /// The musician sets how many beats a bar has.
    Meter(HostId, u8),
    /// The musician's page holds this address at this value, or holds it without one; a page says so again at least every
    /// second while it lasts.
    Touch(HostId, String, Option<f64>),
    /// The musician's page lets this address go.
    LetGo(HostId, String),
    /// The musician sends no sound any more, or does again.
    Mute(HostId, bool),
    /// The musician starts or stops playback.
    Play(HostId, bool),
}

impl Action {
    /// Whether it upsets time and membership, so that the beat needs a moment to settle.
    pub fn disturbs(&self) -> bool {
        !matches!(
            self,
            Action::Edit(..)
                | Action::Touch(..)
                | Action::LetGo(..)
                | Action::Mute(..)
                | Action::StallCard(..)
                | Action::ChangeCardRate(..)
        )
    }
}

/// An edit of the project.
#[derive(Clone, Debug, PartialEq)]
pub enum Edit {
    /// A new track of this name.
    AddTrack(String),
    /// A line of chat.
    Say(String),
    /// The session's name.
    Rename(String),
    /// The gain of the musician's own strip, dB.
    Gain(f64),
    /// The tempo in the project.
    Tempo(f64),
}

impl Edit {
    /// As a command of the node whose peer id is `peer`.
    pub fn command(&self, peer: &str) -> crdt::Command {
        let (op, address, value) = match self {
            Edit::AddTrack(name) => {
                ("add", "/tracks".to_owned(), serde_json::json!({"name": name, "kind": "audio"}))
            }
            Edit::Say(text) => ("add", "/chat".to_owned(), serde_json::json!({"text": text})),
            Edit::Rename(name) => ("set", "/session/name".to_owned(), serde_json::json!(name)),
            Edit::Gain(db) => ("set", format!("/mixer/strip/{peer}/gain_db"), serde_json::json!(db)),
            Edit::Tempo(bpm) => ("set", "/transport/tempo_bpm".to_owned(), serde_json::json!(bpm)),
        };
        if op == "add" {
            crdt::Command::Add { address, value }
        } else {
            crdt::Command::Set { address, value }
        }
    }

    /// Whether it makes something new that nobody else can overwrite: such an edit must be found everywhere
    /// in the end.
    pub fn is_lasting(&self) -> bool {
        matches!(self, Edit::AddTrack(_) | Edit::Say(_))
    }
}
