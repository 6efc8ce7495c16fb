//! One running node: the product's cores, joined as the product's own drivers join them.
//!
//! [`Node`] plays the part of `node/src/main.rs` and its threads: it carries outputs of one core to the
//! next, and everything that leaves the process to the world as an [`Effect`]. It decides nothing, so that
//! what a run shows is the doing of the cores. [`Sabotage`] breaks this joining on purpose, for the tests
//! that prove each checker can fail.
//!
//! Limits: the mesh core and the Link bridge are not joined in yet. A node without a sound card has no media plane, only
//! clocks.

mod keyboard;
mod media;
mod saving;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use bandmesh::{
    media::packetiser::announce,
    session::{self, Identity, LeaveReason, MAX_PEERS, Session, message},
};
use bytes::Bytes;
use crdt::{Command, Config, PeerKey, Project, storage::Loaded};
use engine::{HostTime, Timeline};
use transport::{
    clock::{Clock, Estimate},
    datagram::{Kind, classify},
    time::LocalTime,
};

pub use self::media::Playing;
use self::{media::Media, saving::Saving};
use crate::{
    hostile::{FORGED_WORDS, Hostile, Mallory},
    network::Channel,
    sound_card::Card,
};

/// Unix time at which every host's clock began, ms: chat is stamped with it.
const EPOCH_UNIX_MS: u64 = 1_790_000_000_000;
/// Effects that may wait to be carried out after one event. The world takes them after each event, so more
/// means that a core talks without end.
const MAX_EFFECTS: usize = 100_000;

/// What a node wants of the world.
#[derive(Clone, Debug)]
pub enum Effect {
    /// Send a frame on a stream; dropped when there is no connection.
    Frame {
        /// To whom.
        to: PeerKey,
        /// On which stream.
        channel: Channel,
        /// The message.
        bytes: Vec<u8>,
    },
    /// Send a datagram.
    Datagram {
        /// To whom.
        to: PeerKey,
        /// The packet.
        bytes: Vec<u8>,
    },
    /// Close the connection and take no other for a while.
    Disconnect {
        /// To whom.
        peer: PeerKey,
        /// For how long.
        ban: Duration,
    },
    /// A commit has begun; tell the node when the disk is done.
    Commit,
    /// The disk has an edit that somebody was promised to keep; this is its address.
    Acknowledged(String),
    /// A hostile host has altered a change; the frame follows.
    Forged,
    /// Something a person should read: which part says it, and what.
    Warning(String),
}

/// A fault built into a node, so that a test can see a checker find it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sabotage {
    /// Project frames to the others are thrown away.
    DropChanges,
    /// The disk reports writes as safe that are not.
    LoseWrites,
    /// Clock estimates are off by this, ns, without saying so.
    LieAboutOffset(i64),
    /// Clock estimates are right, but the session is told another offset: this many ns more.
    MisreadOffset(i64),
    /// Hellos are thrown away: nobody becomes a member.
    DropHellos,
    /// The sound of every packet is handed to the engine a second time, one packet later.
    DoubleFrames,
    /// Audio packets go to the engine without a look at their sequence numbers.
    SkipSequenceCheck,
    /// Every eighth audio packet is thrown away on arrival.
    DropAudio,
    /// Ends of notes are not passed to the MIDI output.
    HoldNotes,
    /// What stands in a forged change is taken for true.
    BelieveForgeries,
    /// Timers are never served.
    IgnoreTimers,
    /// One event leads to more effects than any bound allows.
    TalkWithoutEnd,
    /// The disk is found overwritten at the second start.
    SpoilDisk,
}

/// What a node is started with.
pub struct Start {
    /// The member's key.
    pub signing_key: ed25519_dalek::SigningKey,
    /// Session name.
    pub session: String,
    /// The musician's name.
    pub name: String,
    /// Fresh randomness of this start.
    pub seed: [u8; 32],
    /// Tempo of the session if this node founds it, beats per minute.
    pub tempo_bpm: f64,
    /// Its sound card; without one it plays and sends no audio.
    pub card: Option<Card>,
    /// A fault to build in.
    pub sabotage: Option<Sabotage>,
    /// How it breaks the rules on purpose; `None` for an honest node.
    pub hostile: Option<Hostile>,
}

/// One node's process.
pub struct Node {
    incarnation: u32,
    session: Session<PeerKey>,
    /// Clocks of a node without a media plane, which has its own.
    clocks: BTreeMap<PeerKey, Clock>,
    connected: BTreeSet<PeerKey>,
    project: Project,
    saving: Saving,
    media: Option<Media>,
    effects: VecDeque<Effect>,
    /// What Mallory has made of the first of them.
    altered: VecDeque<Effect>,
    sabotage: Option<Sabotage>,
    mallory: Option<Mallory>,
    most_effects: usize,
    most_members: usize,
}

impl Node {
    /// Starts a node at `now_ns` on its host's clock, on an opened store.
    pub fn start(start: Start, store: crdt::storage::Store, loaded: Loaded, now_ns: i64) -> Self {
        let me = PeerKey(start.signing_key.verifying_key().to_bytes());
        let mut random = crate::random::Random::new(u64::from_le_bytes(first(&start.seed)));
        let (rate_hz, period_frames) =
            start.card.map_or((48_000, 128), |card| (card.rate_hz, card.period_frames as u32));
        let (stream, _) = announce(message::Codec::Pcm16, random.bits() as u32, rate_hz, period_frames, 1);
        let media = start.card.map(|card| Media::new(&card, &stream, random.fork(1), start.sabotage));
        let mallory = start.hostile.map(|kind| Mallory::new(kind, me, random.fork(2), now_ns));
        let identity = Identity {
            peer: me,
            author: random.bits(),
            name: start.name,
            session: start.session.clone(),
            incarnation: random.bits(),
            timebase: random.bytes(),
            stream,
        };
        let config = Config { signing_key: start.signing_key, session: start.session, seed: start.seed };
        let mut node = Self {
            incarnation: random.bits() as u32,
            session: Session::new(identity, now_ns, start.tempo_bpm, 4),
            clocks: BTreeMap::new(),
            connected: BTreeSet::new(),
            project: Project::new(config, loaded),
            saving: Saving::new(store),
            media: None,
            effects: VecDeque::new(),
            altered: VecDeque::new(),
            sabotage: start.sabotage,
            mallory,
            most_effects: 0,
            most_members: 0,
        };
        match media.transpose() {
            Ok(media) => node.media = media,
            Err(why) => node.effects.push_back(Effect::Warning(why)),
        }
        node.pump(now_ns);
        node
    }

    /// The session as it sees it.
    pub fn session(&self) -> &Session<PeerKey> {
        &self.session
    }

    /// Its copy of the project.
    pub fn project(&self) -> &Project {
        &self.project
    }

    /// What it believes of a peer's clock, as the rest of the node gets to know it.
    pub fn clock(&self, now_ns: i64, peer: &PeerKey) -> Option<Estimate> {
        let lie = match self.sabotage {
            Some(Sabotage::LieAboutOffset(lie)) => lie,
            _ => 0,
        };
        let estimate = match &self.media {
            Some(media) => media.clock(local(now_ns), peer)?,
            None => self.clocks.get(peer)?.estimate(local(now_ns))?,
        };
        Some(Estimate { offset_ns: estimate.offset_ns + lie, ..estimate })
    }

    /// Whether a commit is under way.
    pub fn is_committing(&self) -> bool {
        self.saving.is_under_way()
    }

    /// The fullest its queues and tables ever were, each with its bound.
    pub fn queues(&self) -> [(&'static str, usize, usize); 3] {
        [
            ("effects of one event", self.most_effects, MAX_EFFECTS),
            ("batches waiting for the disk", self.saving.most_waiting(), saving::MAX_WAITING),
            ("members", self.most_members, MAX_PEERS),
        ]
    }

    /// The next thing to do in the world, if any.
    pub fn poll(&mut self) -> Option<Effect> {
        let Some(mallory) = &mut self.mallory else { return self.effects.pop_front() };
        if self.altered.is_empty() {
            self.altered.extend(mallory.alter(self.effects.pop_front()?));
        }
        self.altered.pop_front()
    }

    /// When [`Self::handle_deadline`] is next wanted, ns on the host's clock.
    pub fn poll_deadline(&self) -> i64 {
        let clocks = self.clocks.values().map(|clock| ns(clock.poll_deadline()));
        let project = self.project.poll_deadline().map(from_unix_ms);
        let media = self.media.as_ref().map(|media| ns(media.poll_deadline()));
        let mallory = self.mallory.as_ref().map(Mallory::poll_deadline);
        let others = project.into_iter().chain(media).chain(mallory);
        clocks.chain(others).fold(self.session.poll_deadline(), i64::min)
    }

    /// Timers due at `now_ns`.
    pub fn handle_deadline(&mut self, now_ns: i64) {
        if self.sabotage == Some(Sabotage::IgnoreTimers) {
            return;
        }
        if self.session.poll_deadline() <= now_ns {
            self.session.handle_deadline(now_ns);
        }
        if self.project.poll_deadline().is_some_and(|at| at <= unix_ms(now_ns)) {
            self.project.handle_deadline(unix_ms(now_ns));
        }
        self.serve_media(now_ns);
        self.pump(now_ns);
        if let Some(mallory) = &mut self.mallory {
            let peers: Vec<PeerKey> = self.connected.iter().copied().collect();
            self.effects.extend(mallory.handle_deadline(now_ns, &peers));
        }
    }

    /// A connection to `peer` is open.
    pub fn handle_connected(&mut self, now_ns: i64, peer: PeerKey) {
        if self.media.is_none() {
            self.clocks.insert(peer, Clock::new(self.incarnation));
        }
        self.connected.insert(peer);
        self.session.handle_connected(now_ns, peer);
        self.pump(now_ns);
    }

    /// The connection to `peer` is gone.
    pub fn handle_disconnected(&mut self, now_ns: i64, peer: PeerKey) {
        self.clocks.remove(&peer);
        self.connected.remove(&peer);
        self.session.handle_disconnected(&peer);
        self.pump(now_ns);
    }

    /// A frame arrived.
    pub fn handle_frame(&mut self, now_ns: i64, peer: PeerKey, channel: Channel, bytes: &[u8]) {
        match channel {
            Channel::Control => {
                if let Err(error) = self.session.handle_frame(now_ns, &peer, bytes) {
                    self.effects.push_back(Effect::Warning(format!("control frame refused: {error}")));
                }
            }
            // As in the node: the project talks to members only.
            Channel::Project if self.session.is_member(&peer) => {
                self.project.handle_message(unix_ms(now_ns), peer, bytes);
            }
            Channel::Project => {}
        }
        self.pump(now_ns);
    }

    /// A datagram arrived.
    pub fn handle_datagram(&mut self, now_ns: i64, peer: PeerKey, bytes: &[u8]) {
        if let Some(media) = &mut self.media {
            // Sound and what belongs to it changes nothing that the other cores would have to say.
            let answers = media.handle_datagram(local(now_ns), &peer, &Bytes::copy_from_slice(bytes));
            self.send_datagrams(answers);
            return;
        }
        if classify(bytes) == Some(Kind::Clock)
            && let Some(clock) = self.clocks.get_mut(&peer)
            && clock.handle_packet(local(now_ns), bytes).is_ok()
        {
            self.tell_clock(now_ns, peer);
        }
        self.pump(now_ns);
    }

    /// The sound card asks for a period of audio.
    pub fn handle_callback(&mut self, now_ns: i64) {
        let Some(media) = &mut self.media else { return };
        let datagrams = media.handle_callback(local(now_ns));
        self.send_datagrams(datagrams);
        if self.sabotage == Some(Sabotage::TalkWithoutEnd) && self.most_effects <= MAX_EFFECTS {
            let word = || Effect::Warning("and another thing".to_owned());
            self.effects.extend(std::iter::repeat_with(word).take(MAX_EFFECTS + 1));
            self.most_effects = self.effects.len();
        }
    }

    /// Notes that sound at the MIDI output, by who plays them.
    pub fn sounding(&self) -> impl Iterator<Item = (&PeerKey, u8)> {
        self.media.iter().flat_map(Media::sounding)
    }

    /// Notes whose keys are down here.
    pub fn held(&self) -> impl Iterator<Item = u8> {
        self.media.iter().flat_map(Media::held)
    }

    /// How the streams of its members are played.
    pub fn playing(&self) -> impl Iterator<Item = (PeerKey, Playing)> {
        self.media.iter().flat_map(Media::playing)
    }

    /// The disk is done with the commit that is under way.
    pub fn handle_committed(&mut self, now_ns: i64) {
        for (batch, addresses, result) in self.saving.finish() {
            if result.is_ok() {
                self.effects.extend(addresses.into_iter().map(Effect::Acknowledged));
            }
            self.project.handle_stored(unix_ms(now_ns), batch, result);
        }
        self.pump(now_ns);
    }

    /// The musician edits the project. Returns the addresses, or what the project objects to. `lasting`: once
    /// the edit is on disk, its addresses are reported as promised.
    ///
    /// # Errors
    /// The project's own words.
    pub fn edit(&mut self, now_ns: i64, commands: &[Command], lasting: bool) -> Result<Vec<String>, String> {
        let receipt = self.project.command(unix_ms(now_ns), commands).map_err(|error| error.to_string())?;
        let addresses: Vec<String> = receipt.results.into_iter().map(|outcome| outcome.address).collect();
        if let Some(batch) = receipt.batch.filter(|_| lasting) {
            self.saving.promise(batch, addresses.clone());
        }
        self.pump(now_ns);
        Ok(addresses)
    }

    /// The musician changes the tempo.
    pub fn change_tempo(&mut self, now_ns: i64, tempo_bpm: f64) {
        self.session.change_beat(now_ns, |beat, at, author| beat.with_tempo(tempo_bpm, at, author));
        self.pump(now_ns);
    }

    /// The musician quits: Goodbye to everybody, and what waits for the disk is written.
    pub fn leave(&mut self, now_ns: i64) {
        self.session.leave();
        self.pump(now_ns);
        self.handle_committed(now_ns);
    }

    /// What the product's media thread and brain do at their timers.
    fn serve_media(&mut self, now_ns: i64) {
        let Some(media) = self.media.as_mut().filter(|media| media.poll_deadline() <= local(now_ns)) else {
            return;
        };
        let (datagrams, observed) = media.handle_deadline(local(now_ns));
        self.send_datagrams(datagrams);
        if !observed {
            return;
        }
        let members: Vec<PeerKey> = self.session.members().map(|(peer, _)| *peer).collect();
        for peer in members {
            self.tell_clock(now_ns, peer);
        }
        let (timebase, beat) = (self.session.timebase(), self.session.beat());
        let Some(media) = &mut self.media else { return };
        let session = &self.session;
        media.follow_session(timebase.offset_ns, |peer| session.shares_time(peer));
        media.set_timeline(Timeline {
            tempo_bpm: beat.tempo_bpm,
            beat: beat.beat_at(timebase.session_at(now_ns)),
            at: HostTime(u64::try_from(now_ns).unwrap_or(0)),
            quantum: f64::from(beat.beats_per_bar),
            playing: beat.playing,
        });
    }

    /// Tells the session what is known of a member's clock.
    fn tell_clock(&mut self, now_ns: i64, peer: PeerKey) {
        let Some(estimate) = self.clock(now_ns, &peer) else { return };
        let misread = match self.sabotage {
            Some(Sabotage::MisreadOffset(misread)) => misread,
            _ => 0,
        };
        self.session.handle_clock(now_ns, &peer, estimate.offset_ns + misread);
    }

    /// Takes forged words for true, as a node without vetting would.
    fn believe(&mut self, now_ns: i64) {
        let value = serde_json::json!({"text": FORGED_WORDS});
        // Refused or not: the checker will see.
        let _ = self.project.command(unix_ms(now_ns), &[Command::Add { address: "/chat".to_owned(), value }]);
    }

    fn send_datagrams(&mut self, datagrams: impl IntoIterator<Item = (PeerKey, Bytes)>) {
        let datagrams = datagrams.into_iter();
        self.effects.extend(datagrams.map(|(to, bytes)| Effect::Datagram { to, bytes: bytes.to_vec() }));
    }

    /// Carries the cores' outputs to each other and out.
    fn pump(&mut self, now_ns: i64) {
        while let Some(output) = self.session.poll() {
            self.carry_session(now_ns, output);
        }
        while let Some(output) = self.project.poll() {
            let refused = matches!(output, crdt::Output::Quarantined { .. });
            self.carry_project(output);
            if refused && self.sabotage == Some(Sabotage::BelieveForgeries) {
                self.believe(now_ns);
            }
        }
        for (peer, clock) in &mut self.clocks {
            while let Some(packet) = clock.poll_transmit(local(now_ns)) {
                self.effects.push_back(Effect::Datagram { to: *peer, bytes: packet.to_vec() });
            }
        }
        if self.saving.begin() {
            self.effects.push_back(Effect::Commit);
        }
        self.most_effects = self.most_effects.max(self.effects.len());
        let members = self.media.as_ref().map_or(self.connected.len(), Media::member_count);
        self.most_members = self.most_members.max(members);
    }

    fn carry_session(&mut self, now_ns: i64, output: session::Output<PeerKey>) {
        match output {
            session::Output::Send(_, message::Control::Hello(_))
                if self.sabotage == Some(Sabotage::DropHellos) => {}
            session::Output::Send(to, message) => {
                let bytes = message::encode(&message);
                self.effects.push_back(Effect::Frame { to, channel: Channel::Control, bytes });
            }
            session::Output::Joined(peer, hello) => {
                self.project.handle_peer_connected(unix_ms(now_ns), peer);
                let incarnation = self.incarnation;
                let joined = self
                    .media
                    .as_mut()
                    .map(|media| media.join(local(now_ns), peer, &hello.stream, incarnation));
                if let Some(Err(why)) = joined {
                    self.effects.push_back(Effect::Warning(why));
                }
            }
            session::Output::Left(peer, why) => {
                if let Some(media) = &mut self.media {
                    media.leave(local(now_ns), &peer);
                }
                self.project.handle_peer_disconnected(unix_ms(now_ns), peer);
                if why == LeaveReason::Restarted && self.media.is_none() {
                    self.clocks.insert(peer, Clock::new(self.incarnation));
                }
            }
            session::Output::Disconnect { peer, ban_ns, .. } => {
                let ban = Duration::from_nanos(u64::try_from(ban_ns).unwrap_or(0));
                self.effects.push_back(Effect::Disconnect { peer, ban });
            }
            session::Output::StreamChanged(..)
            | session::Output::Renamed(..)
            | session::Output::BeatChanged { .. }
            | session::Output::StateChanged(_)
            | session::Output::TouchesChanged(_) => {}
        }
    }

    fn carry_project(&mut self, output: crdt::Output) {
        match output {
            crdt::Output::Send { .. } if self.sabotage == Some(Sabotage::DropChanges) => {}
            crdt::Output::Send { peer, bytes } => {
                self.effects.push_back(Effect::Frame { to: peer, channel: Channel::Project, bytes });
            }
            crdt::Output::Store(batch) => {
                if let Err(batch) = self.saving.submit(batch) {
                    let why = "the queue to the disk is full".to_owned();
                    self.project.handle_stored(0, batch.id(), Err(why));
                }
            }
            crdt::Output::Quarantined { member, reason } => {
                self.effects.push_back(Effect::Warning(format!("quarantined {}: {reason}", member.name())));
                self.effects.push_back(Effect::Disconnect { peer: member, ban: Duration::from_secs(3_600) });
            }
            crdt::Output::Warning(text) => self.effects.push_back(Effect::Warning(text)),
            crdt::Output::Changed { .. } | crdt::Output::Conflict { .. } => {}
        }
    }
}

/// Host time as the transport's type; hosts' clocks never show less than zero.
fn local(now_ns: i64) -> LocalTime {
    LocalTime::from_nanos(u64::try_from(now_ns).unwrap_or(0))
}

fn ns(time: LocalTime) -> i64 {
    i64::try_from(time.as_nanos()).unwrap_or(i64::MAX)
}

fn unix_ms(now_ns: i64) -> u64 {
    EPOCH_UNIX_MS + u64::try_from(now_ns).unwrap_or(0) / 1_000_000
}

fn from_unix_ms(at_ms: u64) -> i64 {
    i64::try_from(at_ms.saturating_sub(EPOCH_UNIX_MS)).unwrap_or(i64::MAX).saturating_mul(1_000_000)
}

fn first(seed: &[u8; 32]) -> [u8; 8] {
    std::array::from_fn(|index| seed.get(index).copied().unwrap_or(0))
}
