//! One node's view of who is in the session, and what time and beat it is there.
//!
//! A connection is not a membership: a peer is a *member* only after both sides have said Hello with the
//! same session name and protocol. Members send heartbeats; a member that falls silent is dropped before
//! its absence can confuse anybody, and one that says Goodbye is dropped at once. The media plane and the
//! project talk to members only.
//!
//! [`Session`] is a value without I/O: connections, control frames and time go in, and [`Output`]s come out.
//! The simulator drives the same value in virtual time.

pub mod beat;
pub mod link_bridge;
pub mod member_state;
pub mod message;
pub mod notifier;
mod people;
pub mod timebase;
pub mod touch;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use self::{
    beat::BeatRegister,
    member_state::Gossip,
    message::{Control, DecodeError, Follows, Heartbeat, Hello, PROTOCOL, StreamInfo},
    timebase::{Patience, Slew, Timebase, Vote},
    touch::Touches,
};

/// Time between heartbeats, ns. Two a second keep the timebases together within a slew step.
pub const HEARTBEAT_NS: i64 = 500_000_000;
/// Silence after which a member counts as lost, ns: seven missed heartbeats, and under the time in which a
/// musician starts to ask.
pub const MEMBER_TIMEOUT_NS: i64 = 3_500_000_000;
/// How long a connected peer may take to say Hello, ns.
pub const HELLO_TIMEOUT_NS: i64 = 3_000_000_000;
/// How long a peer of another session or protocol is not talked to again, ns.
pub const STRANGER_BAN_NS: i64 = 60_000_000_000;
/// Most peers followed at once. A jam of more than this is not playable on any uplink.
pub const MAX_PEERS: usize = 64;
/// Changes of the beat a second that a session may have had since it began, and those of its first moment: more than any
/// band makes. Without a limit one frame could carry the counter to its end, and the tempo could never be changed again; and
/// a limit that every member knows by itself cannot be lifted step by step, nor does it part those who came later from the
/// others.
const MAX_CHANGES_PER_S: i64 = 1_000;
const FIRST_CHANGES: i64 = 10_000;
/// Oldest timebase that is believed, ns: ten years.
const MAX_AGE_NS: i64 = 10 * 365 * 86_400 * 1_000_000_000;
/// By how much a timebase that is claimed to be older may look younger to us, ns: what two first estimates of a clock can be
/// off, over a satellite.
const CLAIM_MARGIN_NS: i64 = 1_000_000_000;
/// Heartbeats and claims a second that are taken from a member; two come when nothing happens, and one with each change.
const MAX_HEARTBEATS_PER_S: u32 = 60;
/// Stream changes and restarts of one peer within [`CHURN_WINDOW_NS`] that are believed; each makes us build a
/// source and an instrument.
const MAX_CHURN: u32 = 8;
/// Names of one peer within [`CHURN_WINDOW_NS`] that are shown at once, as many as somebody types; later ones wait.
const MAX_RENAMES: u32 = 30;
/// Window for [`MAX_CHURN`] and [`MAX_RENAMES`], ns.
const CHURN_WINDOW_NS: i64 = 10_000_000_000;
/// Farthest that session time is passed on from the reference, in connections: more than a session has whose members
/// cannot all reach each other.
pub const MAX_HOPS: u8 = 8;
/// Refused control frames after which a peer is sent away.
const MAX_BAD_FRAMES: u32 = 8;

/// What the driver must do.
#[derive(Clone, Debug, PartialEq)]
pub enum Output<P> {
    /// Send this control message.
    Send(P, Control),
    /// The peer is a member now: start media and project sync.
    Joined(P, Hello),
    /// The member is gone: stop media and project sync.
    Left(P, LeaveReason),
    /// The member's stream changed.
    StreamChanged(P, StreamInfo),
    /// The member gave itself another name.
    Renamed(P, String),
    /// Close the connection, and do not take a new one for `ban_ns`.
    Disconnect {
        /// Whose.
        peer: P,
        /// The reason, told to the peer too.
        why: Refusal,
        /// Zero: it may come back at once.
        ban_ns: i64,
    },
    /// Tempo, beat, playback or timebase changed, here or by a peer.
    BeatChanged,
    /// What this member says of itself has changed ([`Session::state_of`]).
    StateChanged(P),
    /// People hold something else at these addresses ([`Session::touches`]).
    TouchesChanged(BTreeSet<String>),
}

/// Why a member is no longer one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaveReason {
    /// It said Goodbye.
    Goodbye,
    /// Its connection closed.
    ConnectionLost,
    /// It fell silent.
    TimedOut,
    /// It was restarted: the same peer with a new incarnation.
    Restarted,
}

/// Why a peer was sent away.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Another session on the same network.
    #[error("it belongs to the session \"{0}\"; start both with the same --session to play together")]
    OtherSession(String),
    /// Another protocol version.
    #[error("it speaks protocol version {0}, this node {PROTOCOL}; update the older one")]
    OtherProtocol(u16),
    /// No Hello in time.
    #[error("it did not say hello within {} s", HELLO_TIMEOUT_NS / 1_000_000_000)]
    NoHello,
    /// Heartbeats stopped.
    #[error("it fell silent for {} ms", MEMBER_TIMEOUT_NS / 1_000_000)]
    Silent,
    /// Too many bad frames.
    #[error("it sent control frames that make no sense")]
    Nonsense,
    /// The table is full.
    #[error("this node already follows {MAX_PEERS} peers")]
    Full,
}

/// Who this node is.
#[derive(Clone, Debug)]
pub struct Identity<P> {
    /// This node's peer id.
    pub peer: P,
    /// Author number of this peer's beat changes, and its place among those who could keep the session's time.
    pub author: u64,
    /// The author number of any peer.
    pub author_of: fn(&P) -> u64,
    /// The musician's name.
    pub name: String,
    /// Name of the session.
    pub session: String,
    /// Random per process start.
    pub incarnation: u64,
    /// Random identity of the timebase that this node founds.
    pub timebase: [u8; 16],
    /// What this node sends.
    pub stream: StreamInfo,
}

/// The session as this node sees it. `P` is the peer id type.
pub struct Session<P> {
    me: Identity<P>,
    peers: BTreeMap<P, Peer>,
    timebase: Timebase,
    slew: Slew,
    beat: BeatRegister,
    next_heartbeat_ns: i64,
    gossip: Gossip<P>,
    touches: Touches<P>,
    outputs: VecDeque<Output<P>>,
}

struct Peer {
    connected_ns: i64,
    heard_ns: i64,
    hello: Option<Hello>,
    last: Option<Heartbeat>,
    /// The peer's clock minus ours, ns, once measured.
    clock_offset_ns: Option<i64>,
    /// A claim that arrived before the clock offset was known.
    claimed: bool,
    /// How long it has been far behind without coming.
    patience: Patience,
    bad_frames: u32,
    churn: u32,
    renames: u32,
    /// It has another name that was not shown yet.
    renamed: bool,
    churn_since_ns: i64,
    /// Since when heartbeats are counted, and how many there were.
    second_ns: i64,
    this_second: u32,
}

impl<P: Ord + Clone> Session<P> {
    /// A session of one, founded at `now_ns` with `tempo_bpm` and bars of `beats_per_bar`.
    pub fn new(me: Identity<P>, now_ns: i64, tempo_bpm: f64, beats_per_bar: u8) -> Self {
        let timebase = Timebase::found(me.timebase, now_ns);
        let beat = BeatRegister {
            beats_per_bar: beats_per_bar.clamp(1, 16),
            ..BeatRegister::new(0, tempo_bpm, me.author)
        };
        Self {
            me,
            peers: BTreeMap::new(),
            timebase,
            slew: Slew::new(now_ns),
            beat,
            next_heartbeat_ns: now_ns,
            gossip: Gossip::default(),
            touches: Touches::default(),
            outputs: VecDeque::new(),
        }
    }

    /// A connection to `peer` is open.
    pub fn handle_connected(&mut self, now_ns: i64, peer: P) {
        if self.peers.contains_key(&peer) {
            self.forget(&peer, LeaveReason::ConnectionLost);
        }
        if self.peers.len() >= MAX_PEERS {
            self.outputs.push_back(Output::Disconnect { peer, why: Refusal::Full, ban_ns: HELLO_TIMEOUT_NS });
            return;
        }
        self.outputs.push_back(Output::Send(peer.clone(), Control::Hello(self.hello())));
        self.peers.insert(
            peer,
            Peer {
                connected_ns: now_ns,
                heard_ns: now_ns,
                hello: None,
                last: None,
                clock_offset_ns: None,
                claimed: false,
                patience: Patience::default(),
                bad_frames: 0,
                churn: 0,
                renames: 0,
                renamed: false,
                churn_since_ns: now_ns,
                second_ns: now_ns,
                this_second: 0,
            },
        );
    }

    /// The connection to `peer` is closed.
    pub fn handle_disconnected(&mut self, peer: &P) {
        self.forget(peer, LeaveReason::ConnectionLost);
    }

    /// A control frame arrived from `peer`.
    ///
    /// # Errors
    /// [`DecodeError`] when the frame makes no sense; it is counted against the peer.
    pub fn handle_frame(&mut self, now_ns: i64, peer: &P, frame: &[u8]) -> Result<(), DecodeError> {
        let Some(entry) = self.peers.get_mut(peer) else { return Ok(()) };
        let message = match message::decode(frame) {
            Ok(message) => message,
            Err(error) => {
                entry.bad_frames += 1;
                if entry.bad_frames >= MAX_BAD_FRAMES {
                    self.refuse(peer, Refusal::Nonsense, STRANGER_BAN_NS);
                }
                return Err(error);
            }
        };
        entry.heard_ns = now_ns;
        match message {
            Control::Hello(hello) => self.handle_hello(now_ns, peer, hello),
            Control::Heartbeat(heartbeat) => self.handle_heartbeat(now_ns, peer, heartbeat, false),
            Control::ClaimTimebase(heartbeat) => self.handle_heartbeat(now_ns, peer, heartbeat, true),
            Control::Stream(stream) => {
                let Some(hello) = entry.hello.as_mut().filter(|hello| hello.stream != stream) else {
                    return Ok(());
                };
                hello.stream = stream;
                if self.tolerates_change(now_ns, peer) {
                    self.outputs.push_back(Output::StreamChanged(peer.clone(), stream));
                }
            }
            Control::Goodbye => self.forget(peer, LeaveReason::Goodbye),
            Control::State(state) => self.handle_state(now_ns, peer, state),
            Control::Touch(touch) => self.handle_touch(now_ns, peer, touch),
            Control::Later => {}
        }
        Ok(())
    }

    /// A new estimate of `peer`'s clock minus ours, ns.
    pub fn handle_clock(&mut self, now_ns: i64, peer: &P, clock_offset_ns: i64) {
        let Some(entry) = self.peers.get_mut(peer) else { return };
        entry.clock_offset_ns = Some(clock_offset_ns);
        if let Some(last) = entry.last {
            let claimed = entry.claimed;
            self.follow(now_ns, peer, last, claimed);
        }
    }

    /// Timeouts and heartbeats due at `now_ns`.
    pub fn handle_deadline(&mut self, now_ns: i64) {
        let due: Vec<(P, Refusal)> = self
            .peers
            .iter()
            .filter_map(|(id, peer)| match &peer.hello {
                None if now_ns - peer.connected_ns >= HELLO_TIMEOUT_NS => {
                    Some((id.clone(), Refusal::NoHello))
                }
                Some(_) if now_ns - peer.heard_ns >= MEMBER_TIMEOUT_NS => Some((id.clone(), Refusal::Silent)),
                _ => None,
            })
            .collect();
        for (peer, why) in due {
            self.refuse(&peer, why, 0);
        }
        if now_ns >= self.next_heartbeat_ns {
            self.send_heartbeats(now_ns);
        }
        self.tell_people(now_ns);
    }

    /// When [`Self::handle_deadline`] is next wanted, ns.
    pub fn poll_deadline(&self) -> i64 {
        let timeout = |peer: &Peer| match peer.hello {
            None => peer.connected_ns + HELLO_TIMEOUT_NS,
            Some(_) => peer.heard_ns + MEMBER_TIMEOUT_NS,
        };
        let people = self.people_deadline().unwrap_or(i64::MAX);
        self.peers.values().map(timeout).fold(self.next_heartbeat_ns.min(people), i64::min)
    }

    /// The next thing to do, if any.
    pub fn poll(&mut self) -> Option<Output<P>> {
        self.outputs.pop_front()
    }

    /// Changes tempo, position or playback here; `change` gets the register, session time and author.
    pub fn change_beat(&mut self, now_ns: i64, change: impl FnOnce(&BeatRegister, i64, u64) -> BeatRegister) {
        let next = change(&self.beat, self.timebase.session_at(now_ns), self.me.author);
        if next != self.beat && next.is_sane() {
            self.beat = next;
            self.outputs.push_back(Output::BeatChanged);
            self.send_heartbeats(now_ns);
        }
    }

    /// Announces another audio stream of ours.
    pub fn change_stream(&mut self, stream: StreamInfo) {
        self.me.stream = stream;
        // Also to those whose Hello is still on its way: ours is, too, and names the stream of before.
        for peer in self.peers.keys() {
            self.outputs.push_back(Output::Send(peer.clone(), Control::Stream(stream)));
        }
    }

    /// Gives this player another name and tells everybody, by a Hello that is otherwise the same: members that know of no
    /// such thing overlook it.
    pub fn rename(&mut self, name: String) {
        if self.me.name == name {
            return;
        }
        self.me.name = name;
        let hello = self.hello();
        for peer in self.peers.keys() {
            self.outputs.push_back(Output::Send(peer.clone(), Control::Hello(hello.clone())));
        }
    }

    /// Whether `peer` keeps the same timebase as this node, so that its session times mean something here.
    pub fn shares_time(&self, peer: &P) -> bool {
        let last = self.peers.get(peer).and_then(|peer| peer.last);
        last.is_some_and(|last| last.timebase == self.timebase.id)
    }

    /// The audio stream we announce.
    pub fn own_stream(&self) -> StreamInfo {
        self.me.stream
    }

    /// Says Goodbye to everybody; the driver closes the connections after sending.
    pub fn leave(&mut self) {
        for peer in std::mem::take(&mut self.peers).into_keys() {
            self.outputs.push_back(Output::Send(peer, Control::Goodbye));
        }
    }

    /// The other members and what they said in their Hello.
    pub fn members(&self) -> impl Iterator<Item = (&P, &Hello)> {
        self.peers.iter().filter_map(|(id, peer)| Some((id, peer.hello.as_ref()?)))
    }

    /// Whether `peer` is a member.
    pub fn is_member(&self, peer: &P) -> bool {
        self.peers.get(peer).is_some_and(|peer| peer.hello.is_some())
    }

    /// Whether this node is the one of `among` (its own group, without itself) that acts for the group:
    /// the smallest peer id, which everybody can compute.
    pub fn acts_for<'a>(&'a self, mut among: impl Iterator<Item = &'a P>) -> bool {
        among.all(|peer| self.me.peer < *peer)
    }

    /// The session's timeline.
    pub fn timebase(&self) -> Timebase {
        self.timebase
    }

    /// Tempo, beat and playback on session time.
    pub fn beat(&self) -> BeatRegister {
        self.beat
    }

    fn hello(&self) -> Hello {
        Hello {
            protocol: PROTOCOL,
            session: self.me.session.clone(),
            name: self.me.name.clone(),
            incarnation: self.me.incarnation,
            stream: self.me.stream,
        }
    }

    fn heartbeat(&self, now_ns: i64) -> Heartbeat {
        Heartbeat {
            timebase: self.timebase.id,
            session_offset_ns: self.timebase.offset_ns,
            session_now_ns: self.timebase.session_at(now_ns),
            beat: self.beat,
        }
    }

    fn send_heartbeats(&mut self, now_ns: i64) {
        self.next_heartbeat_ns = now_ns + HEARTBEAT_NS;
        let heartbeat = self.heartbeat(now_ns);
        for (peer, entry) in &self.peers {
            if entry.hello.is_some() {
                self.outputs.push_back(Output::Send(peer.clone(), Control::Heartbeat(heartbeat)));
            }
        }
    }

    fn handle_hello(&mut self, now_ns: i64, peer: &P, hello: Hello) {
        if hello.protocol != PROTOCOL {
            return self.refuse(peer, Refusal::OtherProtocol(hello.protocol), STRANGER_BAN_NS);
        }
        if hello.session != self.me.session {
            return self.refuse(peer, Refusal::OtherSession(hello.session), STRANGER_BAN_NS);
        }
        let Some(entry) = self.peers.get_mut(peer) else { return };
        if let Some(old) = entry.hello.replace(hello.clone()) {
            let restarted = old.incarnation != hello.incarnation;
            if !restarted && old.name != hello.name {
                entry.renamed = true;
                self.show_name(now_ns, peer);
            }
            if (!restarted && old.stream == hello.stream) || !self.tolerates_change(now_ns, peer) {
                return;
            }
            if !restarted {
                self.outputs.push_back(Output::StreamChanged(peer.clone(), hello.stream));
                return;
            }
            // The same peer id started anew before its old connection was noticed to be dead.
            if let Some(entry) = self.peers.get_mut(peer) {
                entry.last = None;
                entry.clock_offset_ns = None;
                entry.claimed = false;
                entry.renamed = false;
                entry.patience = Patience::default();
            }
            self.outputs.push_back(Output::Left(peer.clone(), LeaveReason::Restarted));
            self.forget_person(peer);
        }
        self.outputs.push_back(Output::Joined(peer.clone(), hello));
        self.introduce(now_ns, peer);
        // The newcomer learns time and beat at once instead of at the next heartbeat.
        self.next_heartbeat_ns = i64::MIN;
    }

    fn handle_heartbeat(&mut self, now_ns: i64, peer: &P, heartbeat: Heartbeat, claim: bool) {
        let Some(entry) = self.peers.get_mut(peer) else { return };
        if entry.hello.is_none() {
            return;
        }
        if now_ns.saturating_sub(entry.second_ns) >= 1_000_000_000 {
            (entry.second_ns, entry.this_second) = (now_ns, 0);
        }
        entry.this_second += 1;
        if entry.this_second > MAX_HEARTBEATS_PER_S {
            return;
        }
        let same = entry.last.is_some_and(|last| last.timebase == heartbeat.timebase);
        entry.claimed = claim || (entry.claimed && same);
        entry.last = Some(heartbeat);
        let claimed = entry.claimed;
        self.follow(now_ns, peer, heartbeat, claimed);
        self.show_name(now_ns, peer);
    }

    /// Joins or steers to the timebase of `peer` where that is our part, and merges its beat.
    fn follow(&mut self, now_ns: i64, peer: &P, theirs: Heartbeat, claimed: bool) {
        let Some(entry) = self.peers.get_mut(peer) else { return };
        let clock_offset = entry.clock_offset_ns;
        let own_age = self.timebase.session_at(now_ns);
        if theirs.timebase == self.timebase.id {
            entry.claimed = false;
            if is_plausible(&theirs.beat, own_age) && self.beat.yields_to(&theirs.beat) {
                self.beat = theirs.beat;
                self.outputs.push_back(Output::BeatChanged);
            }
            if let Some(clock_offset) = clock_offset {
                let is_reference = self.reference(now_ns) == Some(peer);
                let error = self.timebase.error(theirs.session_offset_ns, clock_offset);
                let is_far = timebase::is_far(error);
                let vote = match is_far {
                    true => timebase::vote(error, self.errors()),
                    false => Vote::Stay,
                };
                let outvoted =
                    self.peers.get_mut(peer).is_some_and(|entry| entry.patience.is_to_go(now_ns, vote));
                let limit = if is_reference && !is_far { self.slew.limit(now_ns) } else { 0 };
                let middle = timebase::middle(self.errors());
                if self.timebase.steer(theirs.session_offset_ns, clock_offset, middle, limit, outvoted) {
                    self.slew = Slew::new(now_ns);
                    self.outputs.push_back(Output::BeatChanged);
                }
            }
            return;
        }
        entry.patience = Patience::default();
        let decide = self.me.peer < *peer;
        // Without a measured clock a timebase cannot be taken over; the next estimate comes back here.
        let Some(clock_offset) = clock_offset else { return };
        let their_age = now_ns.saturating_add(clock_offset).saturating_add(theirs.session_offset_ns);
        entry.claimed = false;
        if !(0..MAX_AGE_NS).contains(&their_age) || !is_plausible(&theirs.beat, their_age) {
            return;
        }
        // A claim may be old: since it was made we may have taken over a timebase that is older than either.
        let is_told = claimed && !decide && their_age.saturating_add(CLAIM_MARGIN_NS) >= own_age;
        if is_told || (decide && self.timebase.loses_to(now_ns, &theirs.timebase, their_age)) {
            self.timebase.adopt(theirs.timebase, theirs.session_offset_ns, clock_offset);
            self.slew = Slew::new(now_ns);
            self.beat = theirs.beat;
            self.outputs.push_back(Output::BeatChanged);
            // The others follow us through the same rules, so they should hear of it soon.
            self.next_heartbeat_ns = i64::MIN;
        } else if decide {
            let claim = Control::ClaimTimebase(self.heartbeat(now_ns));
            self.outputs.push_back(Output::Send(peer.clone(), claim));
        }
    }

    /// How far the members of our timebase are ahead of us, ns, as far as their clocks are known.
    fn errors(&self) -> impl Iterator<Item = i64> {
        self.peers.values().filter_map(|peer| {
            let last = peer.last.filter(|last| last.timebase == self.timebase.id)?;
            Some(self.timebase.error(last.session_offset_ns, peer.clock_offset_ns?))
        })
    }

    /// The member whose session time this node steers to; `None` when it keeps the time itself.
    pub fn reference(&self, now_ns: i64) -> Option<&P> {
        self.followed(now_ns).1
    }

    /// Whose time this node follows, and the next member on the way there.
    ///
    /// Not everybody sees everybody, so each says whom it follows and from how far away, and the smallest number wins; ways
    /// of one length go by the smaller id. When the reference goes, those who had it from each other count up to
    /// [`MAX_HOPS`] and then forget it. Until then they steer to each other, which is no worse.
    fn followed(&self, now_ns: i64) -> (Follows, Option<&P>) {
        let itself = Follows { reference: self.me.author, hops: 0 };
        let by_way_of = |(id, peer): (_, &Peer)| {
            peer.last.filter(|last| last.timebase == self.timebase.id)?;
            let theirs = self.gossip.of(now_ns, id)?.follows?;
            // Nobody is itself by way of others, and nobody else is who it says that it is itself.
            let is_itself = theirs.reference == (self.me.author_of)(id);
            let is_possible = is_itself == (theirs.hops == 0) && theirs.hops < MAX_HOPS;
            let is_better = is_possible && theirs.reference < itself.reference;
            is_better.then(|| (Follows { hops: theirs.hops + 1, ..theirs }, id))
        };
        let first = self.peers.iter().filter_map(by_way_of).min();
        first.map_or((itself, None), |(follows, id)| (follows, Some(id)))
    }

    /// Shows the name that `peer` gave itself, unless it has had too many lately; then it is shown later.
    fn show_name(&mut self, now_ns: i64, peer: &P) {
        let Some(entry) = self.peers.get_mut(peer).filter(|entry| entry.renamed) else { return };
        entry.begin_window(now_ns);
        if entry.renames >= MAX_RENAMES {
            return;
        }
        entry.renames += 1;
        entry.renamed = false;
        let name = entry.hello.as_ref().map(|hello| hello.name.clone());
        self.outputs.extend(name.map(|name| Output::Renamed(peer.clone(), name)));
    }

    /// Whether `peer` may change once more; one that changes without end is sent away.
    fn tolerates_change(&mut self, now_ns: i64, peer: &P) -> bool {
        let Some(entry) = self.peers.get_mut(peer) else { return false };
        entry.begin_window(now_ns);
        entry.churn += 1;
        if entry.churn > MAX_CHURN {
            self.refuse(peer, Refusal::Nonsense, STRANGER_BAN_NS);
            return false;
        }
        true
    }

    fn refuse(&mut self, peer: &P, why: Refusal, ban_ns: i64) {
        self.forget(peer, LeaveReason::TimedOut);
        self.outputs.push_back(Output::Disconnect { peer: peer.clone(), why, ban_ns });
    }

    fn forget(&mut self, peer: &P, why: LeaveReason) {
        if self.peers.remove(peer).is_some_and(|peer| peer.hello.is_some()) {
            self.outputs.push_back(Output::Left(peer.clone(), why));
            self.forget_person(peer);
        }
    }
}

impl Peer {
    /// Counts changes from now on, if the window is over.
    fn begin_window(&mut self, now_ns: i64) {
        if now_ns.saturating_sub(self.churn_since_ns) > CHURN_WINDOW_NS {
            self.churn_since_ns = now_ns;
            (self.churn, self.renames) = (0, 0);
        }
    }
}

/// Whether a session of this age can have had so many changes.
fn is_plausible(beat: &BeatRegister, age_ns: i64) -> bool {
    let age_s = age_ns.max(0) / 1_000_000_000;
    i64::try_from(beat.counter).is_ok_and(|counter| counter <= age_s * MAX_CHANGES_PER_S + FIRST_CHANGES)
}

#[cfg(test)]
mod tests;
