//! One running node: the product's cores, joined as the product's own drivers join them.
//!
//! [`Node`] plays the part of `node/src/main.rs` and its threads: it carries outputs of one core to the
//! next, and everything that leaves the process to the world as an [`Effect`]. It decides nothing, so that
//! what a run shows is the doing of the cores. [`Sabotage`] breaks this joining on purpose, for the tests
//! that prove each checker can fail.
//!
//! Limits: a node without a sound card has no media plane, only clocks.

mod keyboard;
mod link;
mod media;
pub(crate) mod mesh;
mod saving;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::{Ipv4Addr, SocketAddrV4},
    time::Duration,
};

use bandmesh::{
    media::packetiser::announce,
    session::{
        self, Identity, LeaveReason, MAX_PEERS, Session, link_bridge::Standing,
        member_state::ConnectionReading, message,
    },
};
use bytes::Bytes;
use crdt::{Command, Config, PeerKey, Project, storage::Loaded};
use engine::{HostTime, Timeline};
use transport::{
    clock::{Clock, Estimate},
    datagram::{Kind, classify},
    mesh::{Attempt, ClosedBy, DialFailure},
    time::LocalTime,
};

use self::{
    link::{LinkSide, Take},
    media::Media,
    mesh::{Mesh, News},
    saving::Saving,
};
pub use self::{media::Playing, mesh::Handshake};
use crate::{
    hostile::{FORGED_WORDS, Hostile, Mallory},
    link::Message,
    network::{Channel, ConnectionId, HostId},
    sound_card::Card,
};

/// Unix time at which every host's clock began, ms: chat is stamped with it.
const EPOCH_UNIX_MS: u64 = 1_790_000_000_000;
/// How long a member that sent hostile changes stays out, as in the product.
const QUARANTINE_BAN: Duration = Duration::from_secs(3_600);
/// The number of the one page that a musician here has open.
const PAGE: u32 = 1;
/// How often links are measured for the others to know, as in the product, ns.
const OBSERVE_LINKS_NS: i64 = 500_000_000;
/// Paths as members tell them to each other: the same LAN, and the others.
const LAN_PATH: u8 = 1;
const DIRECT_PATH: u8 = 2;
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
    /// Dial these addresses; the first to answer wins.
    Dial {
        /// To be named in the outcome.
        attempt: Attempt,
        /// Who must answer; `None`: whoever does.
        peer: Option<PeerKey>,
        /// Best first.
        addresses: Vec<SocketAddrV4>,
        /// Although there is a connection, which the new one is to replace.
        replaces: bool,
    },
    /// Say hello on a connection.
    Greet {
        /// On which.
        connection: ConnectionId,
        /// The mesh's hello.
        bytes: Vec<u8>,
    },
    /// Close a connection, which the node has already forgotten.
    Close {
        /// Which.
        connection: ConnectionId,
        /// Why, as it is told to the peer.
        code: u64,
        /// The same in words.
        text: String,
    },
    /// What is sent to the peer from now on goes over this connection.
    Adopt {
        /// Who.
        peer: PeerKey,
        /// Over which.
        connection: ConnectionId,
    },
    /// Nothing is sent to the peer any more.
    Release {
        /// Who.
        peer: PeerKey,
    },
    /// Say something to a Link app on the local network.
    Link {
        /// To whom; `None`: to all.
        to: Option<HostId>,
        /// What.
        message: Message,
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
    /// What the musician holds is told to nobody.
    DropTouches,
    /// What the node says of itself is told to each member but once.
    DropStates,
    /// What others write is written again as the node's own.
    RepeatAsOwn,
    /// Nobody's notes get an instrument.
    NoInstrument,
    /// Nothing that the session changes is passed on to Link.
    DeafToLink,
    /// Where Link has another tempo than the session, the session takes it.
    BowToLink,
    /// The position is moved on a little, for everybody, again and again.
    HurryBeat,
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
    /// The codec that the musician asks for.
    pub codec: message::Codec,
    /// Whether the notes of others are played here by an instrument. Such a musician's microphone is off.
    pub instruments: bool,
    /// Whether it takes part in its network's Link session.
    pub link: bool,
    /// A fault to build in.
    pub sabotage: Option<Sabotage>,
    /// How it breaks the rules on purpose; `None` for an honest node.
    pub hostile: Option<Hostile>,
}

/// One node's process.
pub struct Node {
    incarnation: u32,
    mesh: Mesh,
    session: Session<PeerKey>,
    /// Clocks of a node without a media plane, which has its own.
    clocks: BTreeMap<PeerKey, Clock>,
    connected: BTreeSet<PeerKey>,
    project: Project,
    saving: Saving,
    media: Option<Media>,
    link: Option<LinkSide>,
    next_links_ns: i64,
    /// For sabotage: who has been told once.
    introduced: BTreeSet<PeerKey>,
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
    ///
    /// # Errors
    /// The words of whichever part cannot.
    pub fn start(
        start: Start,
        store: crdt::storage::Store,
        loaded: Loaded,
        now_ns: i64,
    ) -> Result<Self, String> {
        let me = PeerKey(start.signing_key.verifying_key().to_bytes());
        let mut random = crate::random::Random::new(u64::from_le_bytes(first(&start.seed)));
        let (rate_hz, period_frames) =
            start.card.map_or((48_000, 128), |card| (card.rate_hz, card.period_frames as u32));
        let stream = announce(start.codec, random.bits() as u32, rate_hz, period_frames, media::INPUTS);
        let media = start
            .card
            .map(|card| Media::new(&card, &stream, start.instruments, random.fork(1), start.sabotage));
        let mesh = Mesh::new(&me, &start.session, random.fork(3))?;
        let link = start.link.then(|| {
            let mut side = LinkSide::new(now_ns, start.tempo_bpm, random.fork(4));
            side.deaf = start.sabotage == Some(Sabotage::DeafToLink);
            side.bows = start.sabotage == Some(Sabotage::BowToLink);
            side
        });
        let mallory = start.hostile.map(|kind| Mallory::new(kind, me, random.fork(2), now_ns));
        let identity = Identity {
            peer: me,
            author: author_of(&me),
            author_of,
            name: start.name,
            session: start.session.clone(),
            incarnation: random.bits(),
            timebase: random.bytes(),
            stream,
        };
        let config = Config { signing_key: start.signing_key, session: start.session, seed: start.seed };
        let mut node = Self {
            incarnation: random.bits() as u32,
            mesh,
            session: Session::new(identity, now_ns, start.tempo_bpm, 4),
            clocks: BTreeMap::new(),
            connected: BTreeSet::new(),
            project: Project::new(config, loaded),
            saving: Saving::new(store),
            media: None,
            link,
            next_links_ns: now_ns,
            introduced: BTreeSet::new(),
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
        Ok(node)
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
    pub fn queues(&self) -> [(&'static str, usize, usize); 4] {
        let (most_early, early_bound) = self.mesh.most_early();
        [
            ("frames before a connection is elected", most_early, early_bound),
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
        let mesh = self.mesh.poll_deadline().map(ns);
        let link = self.link.as_ref().map(LinkSide::poll_deadline);
        let others = project.into_iter().chain(media).chain(mallory).chain(mesh).chain(link);
        let own = self.session.poll_deadline().min(self.next_links_ns);
        clocks.chain(others).fold(own, i64::min)
    }

    /// Timers due at `now_ns`.
    pub fn handle_deadline(&mut self, now_ns: i64) {
        if self.sabotage == Some(Sabotage::IgnoreTimers) {
            return;
        }
        if self.mesh.poll_deadline().is_some_and(|at| at <= local(now_ns)) {
            self.mesh.handle_deadline(local(now_ns));
        }
        if self.session.poll_deadline() <= now_ns {
            self.session.handle_deadline(now_ns);
        }
        if self.project.poll_deadline().is_some_and(|at| at <= unix_ms(now_ns)) {
            self.project.handle_deadline(unix_ms(now_ns));
        }
        self.serve_media(now_ns);
        self.follow_link(now_ns);
        self.observe_links(now_ns);
        self.pump(now_ns);
        if let Some(mallory) = &mut self.mallory {
            let peers: Vec<PeerKey> = self.connected.iter().copied().collect();
            self.effects.extend(mallory.handle_deadline(now_ns, &peers));
        }
    }

    /// Discovery has found `peer`, who plays in `session`, at `address`.
    pub fn handle_hint(&mut self, now_ns: i64, peer: PeerKey, session: &str, address: SocketAddrV4) {
        self.mesh.handle_hint(local(now_ns), &peer, session, address);
        self.pump(now_ns);
    }

    /// Discovery has seen `peer` leave.
    pub fn handle_gone(&mut self, now_ns: i64, peer: PeerKey) {
        self.mesh.handle_gone(&peer);
        self.pump(now_ns);
    }

    /// The host has this address now, and had another one `before`.
    pub fn handle_address(&mut self, now_ns: i64, before: Option<Ipv4Addr>, own: Ipv4Addr) {
        self.mesh.handle_address(local(now_ns), before, own);
        self.pump(now_ns);
    }

    /// A connection was made.
    pub fn handle_made(&mut self, now_ns: i64, made: Handshake) {
        self.mesh.handle_made(local(now_ns), made);
        self.pump(now_ns);
    }

    /// A dial came to nothing.
    pub fn handle_dial_failed(&mut self, now_ns: i64, attempt: Attempt, failure: DialFailure) {
        self.mesh.handle_dial_failed(local(now_ns), attempt, failure);
        self.pump(now_ns);
    }

    /// A connection has ended.
    pub fn handle_closed(&mut self, now_ns: i64, connection: ConnectionId, by: ClosedBy) {
        self.mesh.handle_closed(local(now_ns), connection, by);
        self.pump(now_ns);
    }

    /// The peer's end of a connection has moved.
    pub fn handle_moved(&mut self, now_ns: i64, connection: ConnectionId, address: SocketAddrV4) {
        self.mesh.handle_moved(connection, address);
        self.pump(now_ns);
    }

    /// A frame arrived.
    pub fn handle_frame(&mut self, now_ns: i64, connection: ConnectionId, channel: Channel, bytes: &[u8]) {
        match channel {
            Channel::Greeting => self.mesh.handle_greeting(local(now_ns), connection, bytes),
            _ => self.mesh.handle_frame(local(now_ns), connection, channel, bytes),
        }
        self.pump(now_ns);
    }

    /// Whether a connection to `peer` is elected.
    pub fn is_connected(&self, peer: &PeerKey) -> bool {
        self.mesh.elected(peer).is_some()
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

    /// The loudest sample heard since the last call, where nothing but instruments is heard.
    pub fn take_peak(&mut self) -> Option<f32> {
        self.media.as_mut().and_then(Media::take_peak)
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

    /// A page of the musician holds `address`.
    pub fn touch(&mut self, now_ns: i64, address: &str, value: Option<f64>) {
        let value = value.map(serde_json::Value::from);
        if let Err(error) = self.session.touch(now_ns, PAGE, address, value) {
            self.effects.push_back(Effect::Warning(format!("touch refused: {error}")));
        }
        self.pump(now_ns);
    }

    /// A page of the musician lets `address` go.
    pub fn let_go(&mut self, now_ns: i64, address: &str) {
        self.session.let_go(now_ns, PAGE, Some(address));
        self.pump(now_ns);
    }

    /// The musician sends no sound any more, or does again.
    pub fn mute(&mut self, now_ns: i64, muted: bool) {
        self.session.set_muted(now_ns, muted);
        self.pump(now_ns);
    }

    /// The musician gives the bars another length.
    pub fn change_meter(&mut self, now_ns: i64, beats: u8) {
        self.session.change_beat(now_ns, |beat, at, author| beat.with_beats_per_bar(beats, at, author));
        self.pump(now_ns);
    }

    /// The musician starts or stops playback.
    pub fn play(&mut self, now_ns: i64, playing: bool) {
        self.session.change_beat(now_ns, |beat, at, author| beat.with_playing(playing, at, author));
        self.pump(now_ns);
    }

    /// A Link app on the local network has said something.
    pub fn handle_link(&mut self, now_ns: i64, from: HostId, message: &Message) {
        if let Some(link) = &mut self.link {
            link.handle_message(now_ns, from, message);
        }
        self.pump(now_ns);
    }

    /// Whether it takes part in Link.
    pub fn is_in_link(&self) -> bool {
        self.link.is_some()
    }

    /// The musician quits: Goodbye to everybody, and what waits for the disk is written.
    pub fn leave(&mut self, now_ns: i64) {
        self.session.leave();
        if let Some(link) = &mut self.link {
            link.leave();
        }
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
        media.follow_session(timebase.offset_ns, &self.session);
        media.set_timeline(Timeline {
            tempo_bpm: beat.tempo_bpm,
            beat: beat.beat_at(timebase.session_at(now_ns)),
            at: HostTime(u64::try_from(now_ns).unwrap_or(0)),
            quantum: f64::from(beat.beats_per_bar),
            playing: beat.playing,
        });
    }

    /// Tells the session of the links to its members, as the product's brain does twice a second.
    fn observe_links(&mut self, now_ns: i64) {
        if self.next_links_ns > now_ns {
            return;
        }
        self.next_links_ns = now_ns + OBSERVE_LINKS_NS;
        if self.sabotage == Some(Sabotage::HurryBeat) {
            self.session.change_beat(now_ns, |beat, at, author| {
                beat.with_beat_at(beat.beat_at(at) + 0.005, at, author)
            });
        }
        let members: Vec<PeerKey> = self.session.members().map(|(peer, _)| *peer).collect();
        let reading = |peer: PeerKey| {
            let packets = self.media.as_ref().and_then(|media| media.packets(&peer));
            let (received, lost) = packets.unwrap_or_default();
            let us = |ns: u64| u32::try_from(ns / 1_000).ok();
            ConnectionReading {
                id: peer.0.to_vec(),
                path: if self.mesh.is_on_lan(&peer) { LAN_PATH } else { DIRECT_PATH },
                rtt_us: self.clock(now_ns, &peer).and_then(|clock| us(clock.rtt_ns)),
                one_way_us: None,
                received,
                lost,
                peer,
            }
        };
        let readings = members.into_iter().map(reading).collect();
        self.session.handle_links(now_ns, readings);
    }

    /// What the product's brain does about Link at its timer.
    fn follow_link(&mut self, now_ns: i64) {
        let Some(link) = self.link.as_mut().filter(|link| link.poll_deadline() <= now_ns) else { return };
        self.session.set_in_link(now_ns, link.sees_others(now_ns));
        let mesh = &self.mesh;
        let on_lan = self.session.members().map(|(peer, _)| peer).filter(|peer| mesh.is_on_lan(peer));
        let standing = Standing {
            leads: self.session.leads_link(now_ns, on_lan),
            in_company: self.session.members().next().is_some(),
        };
        let register = self.session.beat();
        let session_ns = self.session.timebase().session_at(now_ns);
        link.handle_deadline(now_ns, session_ns, &register, standing);
        while let Some(take) = link.poll_taken() {
            self.session.change_beat(now_ns, |beat, at, author| match take {
                Take::Tempo(tempo_bpm) => beat.with_tempo(tempo_bpm, at, author),
                Take::Beat(beat_now) => beat.with_beat_at(beat_now, at, author),
                Take::Playing(playing) => beat.with_playing(playing, at, author),
            });
        }
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

    /// Writes a line of somebody else as its own, if there is one that it has not yet.
    fn repeat_as_own(&mut self, now_ns: i64) {
        let me = self.project.me().name();
        let chat = self.project.node_json("/chat").unwrap_or_default();
        let lines = || chat.as_array().into_iter().flatten();
        let is_mine = |line: &serde_json::Value| line.get("from").is_some_and(|from| *from == me);
        let new = lines().filter(|line| !is_mine(line)).find_map(|line| {
            let text = line.get("text")?;
            (!lines().any(|other| is_mine(other) && other.get("text") == Some(text))).then_some(text)
        });
        if let Some(text) = new {
            let value = serde_json::json!({ "text": text });
            let add = Command::Add { address: "/chat".to_owned(), value };
            // Refused or not: the checker will see.
            let _ = self.project.command(unix_ms(now_ns), &[add]);
        }
    }

    fn send_datagrams(&mut self, datagrams: impl IntoIterator<Item = (PeerKey, Bytes)>) {
        let datagrams = datagrams.into_iter();
        self.effects.extend(datagrams.map(|(to, bytes)| Effect::Datagram { to, bytes: bytes.to_vec() }));
    }

    /// Carries the cores' outputs to each other and out.
    fn pump(&mut self, now_ns: i64) {
        // The session may have the mesh close connections, of which it then hears.
        loop {
            if let Some(output) = self.session.poll() {
                self.carry_session(now_ns, output);
            } else if let Some(news) = self.mesh.poll() {
                self.carry_mesh(now_ns, news);
            } else if let Some(output) = self.project.poll() {
                let refused = matches!(output, crdt::Output::Quarantined { .. });
                self.carry_project(now_ns, output);
                if refused && self.sabotage == Some(Sabotage::BelieveForgeries) {
                    self.believe(now_ns);
                }
            } else {
                break;
            }
        }
        for (peer, clock) in &mut self.clocks {
            while let Some(packet) = clock.poll_transmit(local(now_ns)) {
                self.effects.push_back(Effect::Datagram { to: *peer, bytes: packet.to_vec() });
            }
        }
        while let Some((to, message)) = self.link.as_mut().and_then(LinkSide::poll_message) {
            self.effects.push_back(Effect::Link { to, message });
        }
        if self.saving.begin() {
            self.effects.push_back(Effect::Commit);
        }
        self.most_effects = self.most_effects.max(self.effects.len());
        let members = self.media.as_ref().map_or(self.connected.len(), Media::member_count);
        self.most_members = self.most_members.max(members);
    }

    fn carry_mesh(&mut self, now_ns: i64, news: News) {
        match news {
            News::Connected(peer) => {
                if self.media.is_none() {
                    self.clocks.insert(peer, Clock::new(self.incarnation));
                }
                self.connected.insert(peer);
                self.session.handle_connected(now_ns, peer);
            }
            News::Disconnected(peer) => {
                self.clocks.remove(&peer);
                self.connected.remove(&peer);
                self.session.handle_disconnected(&peer);
            }
            News::Frame(peer, Channel::Control, bytes) => {
                if let Err(error) = self.session.handle_frame(now_ns, &peer, &bytes) {
                    self.effects.push_back(Effect::Warning(format!("control frame refused: {error}")));
                }
            }
            // As in the node: the project talks to members only.
            News::Frame(peer, Channel::Project, bytes) if self.session.is_member(&peer) => {
                self.project.handle_message(unix_ms(now_ns), peer, &bytes);
            }
            News::Frame(..) => {}
            News::Effect(effect) => self.effects.push_back(effect),
        }
    }

    fn carry_session(&mut self, now_ns: i64, output: session::Output<PeerKey>) {
        match output {
            session::Output::Send(_, message::Control::Hello(_))
                if self.sabotage == Some(Sabotage::DropHellos) => {}
            session::Output::Send(_, message::Control::Touch(_))
                if self.sabotage == Some(Sabotage::DropTouches) => {}
            session::Output::Send(to, message::Control::State(_))
                if self.sabotage == Some(Sabotage::DropStates) && !self.introduced.insert(to) => {}
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
            session::Output::Disconnect { peer, ban_ns: 0, .. } => self.mesh.renew(local(now_ns), &peer),
            session::Output::Disconnect { peer, why, ban_ns } => {
                let ban = Duration::from_nanos(ban_ns.unsigned_abs());
                self.mesh.ban(local(now_ns), &peer, &why.to_string(), ban);
            }
            session::Output::StreamChanged(..)
            | session::Output::Renamed(..)
            | session::Output::BeatChanged
            | session::Output::StateChanged(_)
            | session::Output::TouchesChanged(_) => {}
        }
    }

    fn carry_project(&mut self, now_ns: i64, output: crdt::Output) {
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
                self.mesh.ban(local(now_ns), &member, &reason, QUARANTINE_BAN);
            }
            crdt::Output::Changed { .. } if self.sabotage == Some(Sabotage::RepeatAsOwn) => {
                self.repeat_as_own(now_ns);
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

/// A peer's author number; peer ids are in the same order.
fn author_of(peer: &PeerKey) -> u64 {
    u64::from_be_bytes(first(&peer.0))
}

fn first(seed: &[u8; 32]) -> [u8; 8] {
    std::array::from_fn(|index| seed.get(index).copied().unwrap_or(0))
}
