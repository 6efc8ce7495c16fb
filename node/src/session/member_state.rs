//! What members tell each other about themselves: whether they muted themselves, whom they hear by which path, and how hard
//! their machines work.
//!
//! Nobody can see from outside whether a bandmate hears him. So each member tells the others, about once a second and at once
//! when something in it changes that people look at, its own [`MemberState`]. From all of these anybody can draw who is
//! connected to whom.
//!
//! Older nodes do not know the message. A member is therefore sent one when it joins, of which an older node says that it
//! makes no sense, and no other until it has sent one itself ([`Gossip::speaks`]).
//!
//! Bounds: at most [`RATE_PER_S`] messages a second are taken from a member; more are dropped. With more than
//! [`EASY_MEMBERS`] members everybody tells the others less often.

use std::collections::BTreeMap;

use super::message::{Follows, LinkState, MemberState, NO_PATH, Strain};

/// Time between two messages when nothing changes, ns.
pub const INTERVAL_NS: i64 = 1_000_000_000;
/// Least time between two messages, ns.
pub const LEAST_INTERVAL_NS: i64 = 100_000_000;
/// Members up to which [`INTERVAL_NS`] holds; with twice as many it is twice as long.
pub const EASY_MEMBERS: usize = 16;
/// Stretch of a stream that is judged: if nothing usable came in it, its sender is told that nothing arrives, ns.
pub const DEAF_AFTER_NS: i64 = 2_000_000_000;
/// A stream of which less than one packet in this many arrives is nothing anybody can play to.
const USABLE_SHARE: u64 = 10;
/// As many packets show that a stream has begun.
const FIRST_PACKETS: u64 = 10;
/// Messages a second taken from a member.
pub const RATE_PER_S: u32 = 20;
/// How long a state is believed, ns: three messages of a full session.
const STALE_NS: i64 = 12_000_000_000;

/// What this node measured of its link to a member.
#[derive(Clone, Debug, PartialEq)]
pub struct ConnectionReading<P> {
    /// Whose.
    pub peer: P,
    /// That member as others know it: the bytes of its peer id.
    pub id: Vec<u8>,
    /// Path, as in [`LinkState::path`].
    pub path: u8,
    /// Round trip, µs.
    pub rtt_us: Option<u32>,
    /// From its mouth to our ear, µs.
    pub one_way_us: Option<u32>,
    /// Packets of its audio that came since its stream began.
    pub received: u64,
    /// Packets that did not.
    pub lost: u64,
}

/// Own and others' states.
#[derive(Debug)]
pub struct Gossip<P> {
    own: MemberState,
    /// Something in it is worth telling before its turn.
    news: bool,
    told_ns: Option<i64>,
    members: BTreeMap<P, Member>,
}

#[derive(Debug)]
struct Member {
    ear: Ear,
    /// What it said last, and when.
    heard: Option<(i64, MemberState)>,
    second_ns: i64,
    this_second: u32,
}

/// Whether sound arrives from one member.
#[derive(Debug)]
struct Ear {
    /// The counts when the stretch began that is judged next.
    received: u64,
    lost: u64,
    since_ns: i64,
    arrives: Option<bool>,
}

impl<P> Default for Gossip<P> {
    fn default() -> Self {
        let own = MemberState { takes_reduced: true, ..MemberState::default() };
        Self { own, news: false, told_ns: None, members: BTreeMap::new() }
    }
}

impl<P: Ord + Clone> Gossip<P> {
    /// A member came (again).
    pub fn joined(&mut self, now_ns: i64, peer: &P) {
        let ear = Ear { received: 0, lost: 0, since_ns: now_ns, arrives: None };
        self.members.insert(peer.clone(), Member { ear, heard: None, second_ns: now_ns, this_second: 0 });
        self.news = true;
    }

    /// A member is gone.
    pub fn left(&mut self, peer: &P) {
        self.members.remove(peer);
    }

    /// This player sends sound, or not.
    pub fn set_muted(&mut self, muted: bool) {
        self.news |= self.own.muted != muted;
        self.own.muted = muted;
    }

    /// How hard this machine works; told with the next message.
    pub fn set_strain(&mut self, strain: Strain) {
        self.own.strain = Some(strain);
    }

    /// Whose time this node follows.
    pub fn set_follows(&mut self, follows: Follows) {
        self.news |= self.own.follows != Some(follows);
        self.own.follows = Some(follows);
    }

    /// Whether this node sees others in its LAN's Link session.
    pub fn set_in_link(&mut self, in_link: bool) {
        self.news |= self.own.in_link != in_link;
        self.own.in_link = in_link;
    }

    /// What was measured now of all members.
    pub fn observe(&mut self, now_ns: i64, readings: Vec<ConnectionReading<P>>) {
        let mut links: Vec<LinkState> = Vec::with_capacity(readings.len());
        for reading in readings {
            let Some(member) = self.members.get_mut(&reading.peer) else { continue };
            member.ear.observe(now_ns, reading.received, reading.lost);
            links.push(LinkState {
                peer: reading.id,
                path: reading.path,
                rtt_us: reading.rtt_us,
                one_way_us: reading.one_way_us,
                audio_arrives: member.ear.arrives,
            });
        }
        let seen = |links: &[LinkState]| -> Vec<(Vec<u8>, u8, Option<bool>)> {
            links.iter().map(|link| (link.peer.clone(), link.path, link.audio_arrives)).collect()
        };
        self.news |= seen(&links) != seen(&self.own.links);
        self.own.links = links;
    }

    /// A member's message. Returns whether people see a difference.
    pub fn handle(&mut self, now_ns: i64, peer: &P, state: MemberState) -> bool {
        let Some(member) = self.members.get_mut(peer) else { return false };
        if now_ns.saturating_sub(member.second_ns) >= 1_000_000_000 {
            (member.second_ns, member.this_second) = (now_ns, 0);
        }
        member.this_second += 1;
        if member.this_second > RATE_PER_S {
            return false;
        }
        let before = member.heard.replace((now_ns, state));
        let news = |state: &MemberState| {
            let links: Vec<_> =
                state.links.iter().map(|link| (link.peer.clone(), link.path, link.audio_arrives)).collect();
            (state.muted, links)
        };
        before.map(|(_, before)| news(&before)) != member.heard.as_ref().map(|(_, now)| news(now))
    }

    /// This node's own state if the members are to be told now.
    pub fn poll(&mut self, now_ns: i64) -> Option<MemberState> {
        if self.members.is_empty() || self.poll_deadline().is_none_or(|due| now_ns < due) {
            return None;
        }
        (self.news, self.told_ns) = (false, Some(now_ns));
        Some(self.own.clone())
    }

    /// When [`Self::poll`] is next wanted, ns; `None` while there is nobody to tell.
    pub fn poll_deadline(&self) -> Option<i64> {
        if self.members.is_empty() {
            return None;
        }
        let Some(told_ns) = self.told_ns else { return Some(i64::MIN) };
        let crowd = self.members.len().div_ceil(EASY_MEMBERS).max(1) as i64;
        let wait = if self.news { LEAST_INTERVAL_NS } else { INTERVAL_NS };
        Some(told_ns.saturating_add(wait * crowd))
    }

    /// Whether `peer` has shown that it knows these messages.
    pub fn speaks(&self, peer: &P) -> bool {
        self.members.get(peer).is_some_and(|member| member.heard.is_some())
    }

    /// Whether `peer` has said that it understands a stereo stream of which one channel is sent.
    pub fn takes_reduced(&self, peer: &P) -> bool {
        let heard = self.members.get(peer).and_then(|member| member.heard.as_ref());
        heard.is_some_and(|(_, state)| state.takes_reduced)
    }

    /// This node's own state.
    pub fn own(&self) -> &MemberState {
        &self.own
    }

    /// What `peer` said of itself, as long as it is believed.
    pub fn of(&self, now_ns: i64, peer: &P) -> Option<&MemberState> {
        let (at_ns, state) = self.members.get(peer)?.heard.as_ref()?;
        (now_ns.saturating_sub(*at_ns) < STALE_NS).then_some(state)
    }
}

impl Ear {
    fn observe(&mut self, now_ns: i64, received: u64, lost: u64) {
        if received < self.received {
            // A new stream counts from the start.
            (self.received, self.lost, self.since_ns) = (0, 0, now_ns);
        }
        let (came, missing) = (received - self.received, lost.saturating_sub(self.lost));
        let usable = came.saturating_mul(USABLE_SHARE) >= came.saturating_add(missing);
        if now_ns.saturating_sub(self.since_ns) >= DEAF_AFTER_NS {
            self.arrives = Some(came > 0 && usable);
            (self.received, self.lost, self.since_ns) = (received, lost, now_ns);
        } else if came >= FIRST_PACKETS && usable {
            self.arrives = Some(true);
        }
    }
}

impl MemberState {
    /// What it says about its link to the member with these id bytes.
    pub fn link(&self, id: &[u8]) -> Option<&LinkState> {
        self.links.iter().find(|link| link.peer == id)
    }

    /// Whether it hears the member with these id bytes; `None` while it has not said.
    pub fn hears(&self, id: &[u8]) -> Option<bool> {
        self.link(id)?.audio_arrives
    }
}

impl Default for LinkState {
    fn default() -> Self {
        Self { peer: Vec::new(), path: NO_PATH, rtt_us: None, one_way_us: None, audio_arrives: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: i64 = 1_000_000;
    const SECOND: i64 = 1_000 * MS;

    fn reading(peer: u8, received: u64) -> ConnectionReading<u8> {
        ConnectionReading {
            peer,
            id: vec![peer],
            path: 1,
            rtt_us: Some(400),
            one_way_us: None,
            received,
            lost: 0,
        }
    }

    #[test]
    fn what_changes_is_told_at_once_and_the_rest_each_second() {
        let mut gossip = Gossip::<u8>::default();
        assert_eq!(gossip.poll(0), None);
        gossip.joined(0, &1);
        assert!(gossip.poll(0).is_some());
        gossip.set_muted(true);
        assert_eq!(gossip.poll(50 * MS), None);
        assert_eq!(gossip.poll_deadline(), Some(100 * MS));
        assert!(gossip.poll(100 * MS).unwrap().muted);
        gossip.set_muted(true);
        gossip.observe(200 * MS, vec![reading(1, 0)]);
        assert!(gossip.poll(200 * MS).is_some(), "a link is news");
        gossip.observe(300 * MS, vec![ConnectionReading { rtt_us: Some(401), ..reading(1, 0) }]);
        assert_eq!(gossip.poll(SECOND), None, "a round trip is not");
        assert_eq!(gossip.poll(1_200 * MS).unwrap().links[0].rtt_us, Some(401));
    }

    #[test]
    fn an_ear_is_sure_after_two_seconds_of_silence_and_at_the_first_packets() {
        let mut gossip = Gossip::<u8>::default();
        gossip.joined(0, &1);
        let mut hears = |now, received| {
            gossip.observe(now, vec![reading(1, received)]);
            gossip.own().hears(&[1])
        };
        assert_eq!(hears(SECOND, 0), None);
        assert_eq!(hears(2 * SECOND, 0), Some(false));
        assert_eq!(hears(3 * SECOND, 10), Some(true));
        assert_eq!(hears(4 * SECOND, 10), Some(true));
        assert_eq!(hears(6 * SECOND, 10), Some(false));
        assert_eq!(hears(7 * SECOND, 9), Some(false));
        assert_eq!(hears(7 * SECOND, 11), Some(true), "a stream that began anew");
    }

    #[test]
    fn a_few_packets_of_many_are_no_sound() {
        let mut gossip = Gossip::<u8>::default();
        gossip.joined(0, &1);
        let mut hears = |now, received, lost| {
            gossip.observe(now, vec![ConnectionReading { lost, ..reading(1, received) }]);
            gossip.own().hears(&[1])
        };
        assert_eq!(hears(SECOND, 300, 0), Some(true));
        assert_eq!(hears(2 * SECOND, 600, 100), Some(true));
        assert_eq!(hears(4 * SECOND, 604, 800), Some(false), "four of seven hundred");
        assert_eq!(hears(5 * SECOND, 620, 1_100), Some(false));
        assert_eq!(hears(8 * SECOND, 1_000, 1_500), Some(true));
    }

    #[test]
    fn a_state_is_believed_for_a_while_and_only_from_members() {
        let mut gossip = Gossip::<u8>::default();
        let state = MemberState { muted: true, ..MemberState::default() };
        assert!(!gossip.handle(0, &1, state.clone()));
        gossip.joined(0, &1);
        assert!(!gossip.speaks(&1));
        assert!(gossip.handle(0, &1, state.clone()));
        assert!(!gossip.handle(0, &1, state.clone()), "nothing new");
        assert!(gossip.speaks(&1));
        assert!(gossip.of(11 * SECOND, &1).unwrap().muted);
        assert_eq!(gossip.of(12 * SECOND, &1), None);
        gossip.left(&1);
        assert!(!gossip.speaks(&1));
    }

    #[test]
    fn a_member_that_tells_without_end_is_not_listened_to_without_end() {
        let mut gossip = Gossip::<u8>::default();
        gossip.joined(0, &1);
        let mut state = MemberState::default();
        let mut changes = 0;
        for n in 0..10_000 {
            state.muted = n % 2 == 0;
            changes += u32::from(gossip.handle(n, &1, state.clone()));
        }
        assert_eq!(changes, RATE_PER_S);
        state.muted = gossip.of(0, &1).is_some_and(|heard| !heard.muted);
        assert!(gossip.handle(SECOND, &1, state));
    }
}
