//! Judges that know the truth.
//!
//! A run is judged by what the world knows and no node can: the true time, what the disk promised, what the
//! paths lost. The world tells each [`Checker`] every [`Fact`] as it happens; the first that objects gives
//! the run its verdict. Checkers keep what they saw at worst, as figures for the report.

mod beat;
mod clocks;
mod forgery;
mod link;
mod membership;
mod notes;
mod people;
mod playout;
mod project;
mod queues;
mod roles;

use std::{collections::BTreeMap, time::Duration};

use transport::clock::Estimate;

use crate::{
    clock::WorldTime,
    network::HostId,
    node::{Node, Playing},
    plan::Bounds,
};

/// Something that is true.
pub enum Fact<'a> {
    /// The host's node promised to keep an edit.
    Acknowledged {
        /// Where it was made.
        host: HostId,
        /// Its address.
        address: &'a str,
    },
    /// A node could not be started again on its own disk.
    NotStarted {
        /// Which.
        host: HostId,
        /// What it said.
        why: &'a str,
    },
    /// A datagram was lost on the way.
    Lost {
        /// Who sent it.
        from: HostId,
        /// Who does not get it.
        to: HostId,
        /// The packet.
        content: &'a [u8],
    },
    /// A host's sound card made no callback for a while: it neither captured nor played.
    Interrupted {
        /// Whose.
        host: HostId,
        /// For how long.
        length: Duration,
    },
    /// A host's engine has played a period of another host's stream.
    Played {
        /// Who plays.
        host: HostId,
        /// Which of its processes: changes when it is started again.
        boot: u32,
        /// Whose stream.
        from: HostId,
        /// How it is played.
        playing: &'a Playing,
        /// True time from the sender's capture callback to this playback callback, of the first frame played.
        age: Option<Duration>,
    },
    /// Somebody has written a line of chat.
    Said {
        /// The member's peer id as text.
        by: &'a str,
        /// The line.
        text: &'a str,
    },
    /// Somebody has set the tempo.
    TempoSet {
        /// Beats per minute.
        tempo_bpm: f64,
    },
    /// A hostile host has sent a change that its author did not make.
    Forged,
    /// How things stand; ten times a second.
    Moment(&'a Moment),
    /// How full a bounded queue has been.
    Queue {
        /// Which queue.
        name: &'static str,
        /// The most it held.
        most: usize,
        /// The most it may hold.
        bound: usize,
    },
    /// The end of the run, after its quiet last stretch.
    End(&'a [EndState<'a>]),
}

/// How things stand at one moment.
#[derive(Clone, Debug, Default)]
pub struct Moment {
    /// When.
    pub at: WorldTime,
    /// For how long nothing has been started, stopped, cut, healed or set to another tempo.
    pub calm_for: Duration,
    /// Per host; `None` while its node does not run.
    pub nodes: Vec<Option<NodeMoment>>,
    /// The Link apps that run.
    pub apps: Vec<AppMoment>,
}

/// A Link app at one moment.
#[derive(Clone, Debug)]
pub struct AppMoment {
    /// On which host.
    pub host: HostId,
    /// The beat it plays now.
    pub beat: f64,
    /// The tempo it plays, beats per minute.
    pub tempo_bpm: f64,
    /// Whether it plays.
    pub playing: bool,
    /// Hosts on its local network whose nodes take part in Link and can be reached.
    pub beside: Vec<HostId>,
}

/// One node at one moment.
#[derive(Clone, Debug)]
pub struct NodeMoment {
    /// Which hosts it takes for members.
    pub members: Vec<HostId>,
    /// Whose clock its session time follows: of itself and its members the one with the smallest peer id.
    pub reference: HostId,
    /// The beat it plays now.
    pub beat: f64,
    /// The tempo it plays, beats per minute.
    pub tempo_bpm: f64,
    /// Whether it plays.
    pub playing: bool,
    /// Beats in a bar.
    pub beats_per_bar: u8,
    /// Whose timeline it keeps.
    pub timebase: [u8; 16],
    /// What it states of other hosts' clocks, with the truth.
    pub clocks: Vec<ClockMoment>,
    /// Notes that sound at its MIDI output, with the host that plays them.
    pub sounding: Vec<(HostId, u8)>,
    /// Notes whose keys are down on its keyboard.
    pub held: Vec<u8>,
    /// What its own pages hold: addresses with their values.
    pub holds: Held,
    /// What it believes the pages of its members hold.
    pub sees_held: BTreeMap<HostId, Held>,
    /// What it says of itself.
    pub says: People,
    /// What it believes that its members say of themselves; members that have said nothing are missing.
    pub hears: BTreeMap<HostId, People>,
    /// The loudest sample that its instruments have played since the moment before; `None`: it has none.
    pub instruments_peak: Option<f32>,
}

/// Addresses that pages hold, with their values.
pub type Held = BTreeMap<String, Option<String>>;

/// What a node says of itself that people look at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct People {
    /// It sends no sound on purpose.
    pub muted: bool,
    /// By peer: the kind of path, and whether its sound arrives.
    pub links: BTreeMap<Vec<u8>, (u8, Option<bool>)>,
}

/// A clock estimate beside the truth.
#[derive(Clone, Copy, Debug)]
pub struct ClockMoment {
    /// Whose clock.
    pub of: HostId,
    /// What is stated.
    pub stated: Estimate,
    /// That host's clock minus the observer's, ns.
    pub true_offset_ns: i64,
}

/// A running node at the end.
pub struct EndState<'a> {
    /// Which host.
    pub host: HostId,
    /// Name of the session it was started for.
    pub session: &'a str,
    /// The node.
    pub node: &'a Node,
    /// Which other running hosts of its session it could reach for the whole last stretch.
    pub reachable: Vec<HostId>,
    /// Which hosts it takes for members.
    pub members: Vec<HostId>,
}

/// One judge.
pub trait Checker {
    /// The verdict when it objects.
    fn name(&self) -> &'static str;

    /// Takes notice of a fact.
    ///
    /// # Errors
    /// A sentence saying what is wrong; the run has failed.
    fn observe(&mut self, fact: &Fact<'_>) -> Result<(), String>;

    /// What it measured, for the report.
    fn figures(&self, _into: &mut BTreeMap<&'static str, f64>) {}
}

/// All judges of a run.
pub fn all(bounds: &Bounds) -> Vec<Box<dyn Checker>> {
    vec![
        Box::new(membership::EverybodyHere),
        Box::new(project::EqualHeads),
        Box::new(project::AcknowledgedEdits::default()),
        Box::new(project::StartsAgain),
        Box::new(clocks::ClockBound::new(bounds.clock_misses, bounds.clock_slack)),
        Box::new(beat::BeatPhase::new(bounds.beat_phase, bounds.settling)),
        Box::new(beat::SteadyPace::new(bounds.settling)),
        Box::new(link::LinkPhase::new(bounds.settling)),
        Box::new(link::TempoKept::default()),
        Box::new(playout::PlayedOnce::default()),
        Box::new(playout::ConcealedWithinLoss::new(bounds.concealed, bounds.longest_hold)),
        Box::new(notes::NotesEnd::default()),
        Box::new(people::StatesConverge::default()),
        Box::new(people::TouchesConverge::default()),
        Box::new(notes::InstrumentsSound::default()),
        Box::new(forgery::ForgeriesKeptOut::default()),
        Box::new(roles::OwnWords::default()),
        Box::new(queues::BoundedQueues::default()),
    ]
}
