//! What the player is told, each thing once.
//!
//! A cable that wobbles loses and finds a bandmate ten times in a minute. Ten lines about it would hide the one that matters.
//! So every condition that can be lost and found (a member, its clock, the device) must last before it is said, and the longer
//! the more often it was lost lately; a loss that is over by then is never said. Coming and leaving on purpose is said at once.
//!
//! [`Notifier`] is a value: what happens goes in with the time, and what is to be said comes out.

use std::collections::{BTreeMap, VecDeque};

/// Notifications kept for those who ask later.
pub const KEPT: usize = 50;
/// How long a member or its clock must be lost before it is said, ns.
pub const LOST_AFTER_NS: i64 = 2_000_000_000;
/// How long it must be back before that is said, ns.
pub const BACK_AFTER_NS: i64 = 500_000_000;
/// Each loss that was said within [`MEMORY_NS`] doubles the wait, up to this, ns.
const MAX_WAIT_NS: i64 = 30_000_000_000;
/// How long losses are remembered, ns.
const MEMORY_NS: i64 = 120_000_000_000;
/// A warning that was settled and comes again is said again after this, ns.
const WARNING_AGAIN_NS: i64 = 60_000_000_000;
/// Members and warnings remembered; beyond that those unheard of for longest are forgotten.
const MAX_REMEMBERED: usize = 128;

/// One thing said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notification<P> {
    /// Counts up from 1.
    pub id: u64,
    /// What happened.
    pub kind: Kind,
    /// One sentence.
    pub text: String,
    /// Whom it is about.
    pub peer: Option<P>,
    /// When it was said, ms since 1970.
    pub at_ms: u64,
}

/// What a notification is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A member came.
    PeerJoined,
    /// A member left on purpose.
    PeerLeft,
    /// A member cannot be reached.
    PeerLost,
    /// A lost member is back.
    PeerBack,
    /// A member's clock is not known well enough.
    SyncLost,
    /// It is again.
    SyncBack,
    /// The audio device is gone.
    DeviceLost,
    /// It is back.
    DeviceBack,
    /// Anything else.
    Warning,
}

/// What happened and what was said of it.
#[derive(Debug)]
pub struct Notifier<P> {
    members: BTreeMap<P, Member>,
    device: Condition,
    /// Why the device was lost.
    device_reason: String,
    warnings: BTreeMap<String, Warned>,
    said: VecDeque<Notification<P>>,
    next_id: u64,
}

#[derive(Debug)]
struct Member {
    name: String,
    /// Whether it is here; its first coming is said at once, and so is a goodbye.
    presence: Condition,
    /// Whether it left on purpose, so that its coming is no return.
    left: bool,
    /// Whether its clock is known; only while it is here, and from when it was for the first time.
    sync: Option<Condition>,
    heard_ns: i64,
}

#[derive(Debug)]
struct Warned {
    at_ns: i64,
    holds: bool,
}

/// Something that is well or not, and what was said of it last.
#[derive(Debug)]
struct Condition {
    well: bool,
    said_well: bool,
    since_ns: i64,
    /// When losses were said, latest last.
    losses: VecDeque<i64>,
}

impl<P> Default for Notifier<P> {
    fn default() -> Self {
        Self {
            members: BTreeMap::new(),
            device: Condition::well(0),
            device_reason: String::new(),
            warnings: BTreeMap::new(),
            said: VecDeque::new(),
            next_id: 1,
        }
    }
}

impl<P: Ord + Clone> Notifier<P> {
    /// A member is here. Returns whether something is to be said now.
    pub fn joined(&mut self, now_ns: i64, at_ms: u64, peer: &P, name: &str) -> bool {
        if let Some(member) = self.members.get_mut(peer)
            && !member.left
        {
            // Lost and found: what is said of it is decided by how long it lasts.
            member.name = shown(name);
            member.heard_ns = now_ns;
            member.presence.set(now_ns, true);
            member.sync = None;
            return self.poll(now_ns, at_ms);
        }
        self.make_room();
        let member = Member {
            name: shown(name),
            presence: Condition::well(now_ns),
            left: false,
            sync: None,
            heard_ns: now_ns,
        };
        let text = format!("{} joined", member.name);
        self.members.insert(peer.clone(), member);
        self.say(at_ms, Kind::PeerJoined, text, Some(peer));
        true
    }

    /// A member has another name.
    pub fn renamed(&mut self, peer: &P, name: &str) {
        if let Some(member) = self.members.get_mut(peer) {
            member.name = shown(name);
        }
    }

    /// A member is gone, on purpose or not. Returns whether something is to be said now.
    pub fn gone(&mut self, now_ns: i64, at_ms: u64, peer: &P, on_purpose: bool) -> bool {
        let Some(member) = self.members.get_mut(peer) else { return false };
        member.sync = None;
        member.heard_ns = now_ns;
        if !on_purpose {
            member.presence.set(now_ns, false);
            return false;
        }
        member.left = true;
        member.presence = Condition::well(now_ns);
        let text = format!("{} left", member.name);
        self.say(at_ms, Kind::PeerLeft, text, Some(peer));
        true
    }

    /// Whether the clock of a member that is here is known well enough now.
    pub fn sync(&mut self, now_ns: i64, peer: &P, known: bool) {
        let Some(member) = self.members.get_mut(peer) else { return };
        match &mut member.sync {
            Some(sync) => sync.set(now_ns, known),
            // Getting to know a clock takes a second after joining, which is nobody's loss.
            None if known => member.sync = Some(Condition::well(now_ns)),
            None => {}
        }
    }

    /// The audio device is lost, and why, or back (`None`). Returns whether something is to be said now.
    pub fn device(&mut self, now_ns: i64, at_ms: u64, lost: Option<&str>) -> bool {
        if let Some(reason) = lost {
            self.device_reason = reason.to_owned();
        }
        self.device.set(now_ns, lost.is_none());
        self.poll(now_ns, at_ms)
    }

    /// Something the player should know holds now. Returns whether it is to be said now.
    pub fn warning(&mut self, now_ns: i64, at_ms: u64, text: &str) -> bool {
        if let Some(known) = self.warnings.get_mut(text) {
            let again = !known.holds && now_ns.saturating_sub(known.at_ns) >= WARNING_AGAIN_NS;
            known.holds = true;
            if !again {
                return false;
            }
        }
        if self.warnings.len() >= MAX_REMEMBERED {
            let oldest = self.warnings.iter().min_by_key(|(_, known)| known.at_ns);
            if let Some(oldest) = oldest.map(|(text, _)| text.clone()) {
                self.warnings.remove(&oldest);
            }
        }
        self.warnings.insert(text.to_owned(), Warned { at_ns: now_ns, holds: true });
        self.say(at_ms, Kind::Warning, text.to_owned(), None);
        true
    }

    /// A warning holds no longer.
    pub fn settled(&mut self, text: &str) {
        if let Some(known) = self.warnings.get_mut(text) {
            known.holds = false;
        }
    }

    /// Says what has lasted long enough; call a few times a second. Returns whether there was anything.
    pub fn poll(&mut self, now_ns: i64, at_ms: u64) -> bool {
        let mut due: Vec<(Kind, String, Option<P>)> = Vec::new();
        for (peer, member) in &mut self.members {
            let name = member.name.clone();
            match member.presence.poll(now_ns, LOST_AFTER_NS) {
                Some(false) => {
                    due.push((Kind::PeerLost, format!("{name} cannot be reached"), Some(peer.clone())));
                }
                Some(true) => due.push((Kind::PeerBack, format!("{name} is back"), Some(peer.clone()))),
                None => {}
            }
            match member.sync.as_mut().and_then(|sync| sync.poll(now_ns, LOST_AFTER_NS)) {
                Some(false) => due.push((
                    Kind::SyncLost,
                    format!("The clock of {name} cannot be followed; you may hear each other off the beat"),
                    Some(peer.clone()),
                )),
                Some(true) => {
                    due.push((Kind::SyncBack, format!("{name} is in sync again"), Some(peer.clone())));
                }
                None => {}
            }
        }
        match self.device.poll(now_ns, 0) {
            Some(false) => due.push((Kind::DeviceLost, self.device_reason.clone(), None)),
            Some(true) => due.push((Kind::DeviceBack, "Sound is back".to_owned(), None)),
            None => {}
        }
        let any = !due.is_empty();
        for (kind, text, peer) in due {
            self.say(at_ms, kind, text, peer.as_ref());
        }
        any
    }

    /// What was said with an id greater than `after`, in order.
    pub fn said(&self, after: u64) -> impl Iterator<Item = &Notification<P>> {
        self.said.iter().filter(move |notification| notification.id > after)
    }

    fn say(&mut self, at_ms: u64, kind: Kind, text: String, peer: Option<&P>) {
        if self.said.len() >= KEPT {
            self.said.pop_front();
        }
        self.said.push_back(Notification { id: self.next_id, kind, text, peer: peer.cloned(), at_ms });
        self.next_id += 1;
    }

    /// Forgets who was not heard of for longest, rather one that is gone.
    fn make_room(&mut self) {
        if self.members.len() >= MAX_REMEMBERED {
            let least = self
                .members
                .iter()
                .min_by_key(|(_, member)| (member.presence.well && !member.left, member.heard_ns));
            if let Some(least) = least.map(|(peer, _)| peer.clone()) {
                self.members.remove(&least);
            }
        }
    }
}

impl Condition {
    fn well(now_ns: i64) -> Self {
        Self { well: true, said_well: true, since_ns: now_ns, losses: VecDeque::new() }
    }

    fn set(&mut self, now_ns: i64, well: bool) {
        if self.well != well {
            (self.well, self.since_ns) = (well, now_ns);
        }
    }

    /// What is to be said: `Some(false)` lost, `Some(true)` back.
    fn poll(&mut self, now_ns: i64, lost_after_ns: i64) -> Option<bool> {
        if self.well == self.said_well {
            return None;
        }
        while self.losses.front().is_some_and(|at| now_ns.saturating_sub(*at) > MEMORY_NS) {
            self.losses.pop_front();
        }
        let wait = if self.well { BACK_AFTER_NS } else { lost_after_ns };
        // Not even what is said at once the first time may be said without end.
        let wait = match self.losses.len() as u32 {
            0 => wait,
            // The return from the first loss is as quick as any.
            1 if self.well => wait,
            more => wait.max(BACK_AFTER_NS).saturating_mul(1_i64 << more.min(10)).min(MAX_WAIT_NS),
        };
        if now_ns.saturating_sub(self.since_ns) < wait {
            return None;
        }
        self.said_well = self.well;
        if !self.well {
            self.losses.push_back(now_ns);
        }
        Some(self.well)
    }
}

/// A member without a name is somebody.
fn shown(name: &str) -> String {
    if name.is_empty() { "Somebody".to_owned() } else { name.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: i64 = 1_000_000;
    const SECOND: i64 = 1_000 * MS;

    type Step<'a> = &'a dyn Fn(&mut Notifier<u8>, i64);

    /// Runs a story: at each ms a step, polled ten times a second in between; gives what was said and when, in ms.
    fn told(story: &[(i64, Step)], until_ms: i64) -> Vec<(i64, Kind)> {
        let mut notifier = Notifier::default();
        let mut heard = Vec::new();
        let mut after = 0;
        for ms in 0..=until_ms {
            for (_, step) in story.iter().filter(|(at, _)| *at == ms) {
                step(&mut notifier, ms * MS);
            }
            if ms % 100 == 0 {
                notifier.poll(ms * MS, ms as u64);
            }
            let new: Vec<_> = notifier.said(after).map(|said| (said.id, said.kind)).collect();
            for (id, kind) in new {
                after = id;
                heard.push((ms, kind));
            }
        }
        heard
    }

    fn join(notifier: &mut Notifier<u8>, now: i64) {
        notifier.joined(now, 0, &1, "Bea");
    }

    fn lose(notifier: &mut Notifier<u8>, now: i64) {
        notifier.gone(now, 0, &1, false);
    }

    fn leave(notifier: &mut Notifier<u8>, now: i64) {
        notifier.gone(now, 0, &1, true);
    }

    #[test]
    fn coming_and_leaving_is_said_at_once() {
        let said = told(&[(0, &join), (5_000, &leave), (9_000, &join)], 20_000);
        assert_eq!(said, [(0, Kind::PeerJoined), (5_000, Kind::PeerLeft), (9_000, Kind::PeerJoined)]);
    }

    #[test]
    fn a_lost_member_is_said_once_and_its_return_once() {
        let said = told(&[(0, &join), (5_000, &lose), (5_100, &lose), (60_000, &join)], 90_000);
        assert_eq!(said, [(0, Kind::PeerJoined), (7_000, Kind::PeerLost), (60_500, Kind::PeerBack)]);
    }

    #[test]
    fn a_blink_is_not_said_at_all() {
        assert_eq!(told(&[(0, &join), (5_000, &lose), (6_000, &join)], 20_000), [(0, Kind::PeerJoined)]);
    }

    #[test]
    fn a_wobbling_cable_is_said_less_and_less() {
        // Three seconds gone, three seconds here, for five minutes: fifty losses.
        let mut story: Vec<(i64, Step)> = vec![(0, &join)];
        for round in 0..50 {
            story.push((6_000 * round + 3_000, &lose));
            story.push((6_000 * round + 6_000, &join));
        }
        let said = told(&story, 310_000);
        let lost = said.iter().filter(|(_, kind)| *kind == Kind::PeerLost).count();
        assert!((1..=6).contains(&lost), "{said:?}");
        assert_eq!(said.last().map(|(_, kind)| *kind), Some(Kind::PeerBack));
    }

    #[test]
    fn sync_is_missed_only_where_it_was_and_while_the_member_is_here() {
        let known = |notifier: &mut Notifier<u8>, now| notifier.sync(now, &1, true);
        let unknown = |notifier: &mut Notifier<u8>, now| notifier.sync(now, &1, false);
        let said = told(&[(0, &join), (100, &unknown)], 9_000);
        assert_eq!(said, [(0, Kind::PeerJoined)], "not known yet");
        let said = told(&[(0, &join), (1_000, &known), (5_000, &unknown), (9_000, &known)], 20_000);
        assert_eq!(said, [(0, Kind::PeerJoined), (7_000, Kind::SyncLost), (9_500, Kind::SyncBack)]);
        let said = told(&[(0, &join), (1_000, &known), (5_000, &unknown), (5_500, &lose)], 20_000);
        assert_eq!(said, [(0, Kind::PeerJoined), (7_500, Kind::PeerLost)]);
    }

    #[test]
    fn the_device_is_said_at_once_and_a_loose_plug_less_and_less() {
        let gone = |notifier: &mut Notifier<u8>, now| {
            notifier.device(now, 0, Some("the device is gone"));
        };
        let back = |notifier: &mut Notifier<u8>, now| {
            notifier.device(now, 0, None);
        };
        let said = told(&[(1_000, &gone), (4_000, &back)], 20_000);
        assert_eq!(said, [(1_000, Kind::DeviceLost), (4_500, Kind::DeviceBack)]);
        let mut story: Vec<(i64, Step)> = Vec::new();
        for round in 0..60 {
            story.push((1_000 * round, &gone));
            story.push((1_000 * round + 600, &back));
        }
        let said = told(&story, 100_000);
        assert!(said.len() <= 6, "{said:?}");
        assert_eq!(said.last().map(|(_, kind)| *kind), Some(Kind::DeviceBack));
    }

    #[test]
    fn a_warning_is_said_once_while_it_holds() {
        let mut notifier = Notifier::<u8>::default();
        assert!(notifier.warning(0, 0, "the disk is full"));
        assert!(!notifier.warning(90 * SECOND, 0, "the disk is full"));
        notifier.settled("the disk is full");
        assert!(notifier.warning(100 * SECOND, 0, "the disk is full"));
        notifier.settled("the disk is full");
        assert!(!notifier.warning(101 * SECOND, 0, "the disk is full"), "it comes and goes");
        assert_eq!(notifier.said(0).count(), 2);
        for n in 0..1_000 {
            notifier.warning(0, 0, &format!("warning {n}"));
        }
        assert!(notifier.warnings.len() <= MAX_REMEMBERED);
        assert_eq!(notifier.said(0).count(), KEPT);
    }

    #[test]
    fn a_thousand_passers_by_are_not_remembered_for_ever() {
        let mut notifier = Notifier::<u32>::default();
        notifier.joined(0, 0, &5_000, "Bea");
        for peer in 0..1_000 {
            notifier.joined(i64::from(peer), 0, &peer, "");
            notifier.gone(i64::from(peer), 0, &peer, peer % 2 == 0);
        }
        assert!(notifier.members.len() <= MAX_REMEMBERED);
        assert!(notifier.members.contains_key(&5_000), "who is here is remembered");
    }
}
