//! Keeps one LAN's Ableton Link session and the Bandmesh session in step.
//!
//! Link has no owner: any app may change tempo and playback, and every app follows. The same holds for
//! our [`BeatRegister`]. The bridge watches both and carries each change across once:
//! - the register changed → Link gets tempo, playback and, where it is off, the beat;
//! - Link changed without us → the register takes it, so that the other LANs follow.
//!
//! Several members on one LAN see the same Link session. The one that *leads* there (the smallest peer id of those that
//! see others in Link) carries changes; the others wait [`FOLLOWER_GRACE_NS`] for what it does to arrive and act only if
//! nothing comes. Joining never changes a session's tempo (Link's TEST-PLAN, TEMPO-2): a node alone in its session takes
//! what Link already plays, a node that has members gives Link the session's, also when it meets the Link apps on its LAN
//! only after it has met the members.
//!
//! Link does not say that it has left one Link session for another, an older one, and the count of apps need not show it:
//! where one bandmate is left for one app, it stays the same. What shows it is the beat. Somebody who turns the tempo leaves
//! the beat where it is; a Link session that was there before has a beat of its own. So another tempo is taken for a change only if
//! the beat has not jumped and no app has come or gone, for [`MEETING_NS`] before and after. Limit: a session whose beat
//! happens to be as good as ours, one in ten or so, is known only by the count.

use serde::{Deserialize, Serialize};

use super::beat::BeatRegister;

/// How long a node that does not lead leaves a Link change to the one that does, ns.
pub const FOLLOWER_GRACE_NS: i64 = 600_000_000;
/// Tempi closer than this are the same: Link keeps whole microseconds per beat.
const SAME_TEMPO_BPM: f64 = 0.01;
/// Phase error that is corrected, seconds: under what a listener can hear between two clicks.
const PHASE_TOLERANCE_S: f64 = 0.002;
/// Ticks for which a phase error must last, so that one late reading moves nothing.
const PHASE_TICKS: u32 = 3;
/// Phase error from which a node that does not lead corrects it in the leader's place, seconds: more than two nodes on a LAN
/// ever differ about where Link is, or the two would pull at it for ever.
const FOLLOWER_TOLERANCE_S: f64 = 0.010;

/// For so long before and after apps have come to Link or gone, or its beat has jumped, what it plays is what they brought
/// along and no change that somebody made, ns: Link takes over the older session's tempo at once, but tells of apps and
/// tempo apart. It is a few ticks, and less than anybody takes from opening an app to turning its knob.
const MEETING_NS: i64 = 250_000_000;
/// A beat further off than this has jumped, beats.
const JUMP_BEATS: f64 = 0.02;
/// How much longer than since our last look Link may have played another tempo by the first time that we see it, seconds: a
/// change crosses a Wi-Fi network that lets its clients sleep, and an app dates it back by the latency of its card.
const UNSEEN_S: f64 = 0.2;
/// The longest pause between two looks that is believed, seconds.
const MAX_PAUSE_S: f64 = 2.0;

/// What Link says now.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LinkReading {
    /// Other apps in the Link session.
    pub peers: u64,
    /// Tempo, beats per minute.
    pub tempo_bpm: f64,
    /// Position, beats, at the moment of the tick.
    pub beat: f64,
    /// Beats after which Link's positions of different apps agree.
    pub quantum: f64,
    /// Whether Link's transport runs.
    pub playing: bool,
}

/// What the driver must do.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Action {
    /// Set Link's tempo, beats per minute.
    SetLinkTempo(f64),
    /// Move Link so that this beat is now.
    ForceLinkBeat(f64),
    /// Start or stop Link's transport.
    SetLinkPlaying(bool),
    /// Take this tempo into the register.
    TakeTempo(f64),
    /// Move the register so that this beat is now.
    TakeBeat(f64),
    /// Take this playback state into the register.
    TakePlaying(bool),
}

/// This node's place in the session, as far as the bridge cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// Whether this node carries Link changes for its LAN.
    pub leads: bool,
    /// Whether the session has other members.
    pub in_company: bool,
}

/// The bridge's memory between ticks.
#[derive(Debug, Default)]
pub struct LinkBridge {
    seen: Option<Seen>,
    foreign: Option<Foreign>,
    looked_ns: Option<i64>,
    /// When the number of other apps last changed, or Link's beat last jumped.
    met_ns: Option<i64>,
    /// Whether Link's beat was elsewhere than ours.
    elsewhere: bool,
    phase_errors: u32,
    /// Since when the phase is so wrong that anybody corrects it.
    far_since_ns: Option<i64>,
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    version: (u64, u64),
    /// The register's tempo and playback at that version: what else changes it is no news for Link.
    tempo_bpm: f64,
    playing: bool,
    peers: u64,
}

/// Something else in Link than in the register.
#[derive(Clone, Copy, Debug)]
struct Foreign {
    since_ns: i64,
    /// For how long it may have been there before it was seen.
    unseen_ns: i64,
    /// The most that the tempi differed, beats per minute.
    widest_bpm: f64,
}

impl LinkBridge {
    /// Compares both sides at session time `now_ns`; call about ten times a second.
    pub fn tick(
        &mut self,
        now_ns: i64,
        register: &BeatRegister,
        link: &LinkReading,
        standing: Standing,
    ) -> Vec<Action> {
        let mut actions = vec![];
        let version = (register.counter, register.author);
        let pause_ns = now_ns.saturating_sub(self.looked_ns.replace(now_ns).unwrap_or(now_ns)).max(0);
        let Some(seen) = self.seen else {
            // A lone newcomer takes what Link plays; anybody else brings the session's beat to Link.
            let newcomer_alone = !standing.in_company && link.peers > 0;
            if newcomer_alone {
                take(register, link, &mut actions);
            } else {
                give(register, link, &mut actions);
            }
            self.remember(register, link);
            return actions;
        };
        if link.peers != seen.peers {
            self.met_ns = Some(now_ns);
        }
        if let Some(seen) = self.seen.as_mut() {
            seen.peers = link.peers;
        }
        if seen.version != version {
            self.remember(register, link);
            // A moved beat alone is not given as tempo: while two Link sessions unite, Link's tempo is about to become
            // the other's, and giving ours then would change what others are playing to.
            if seen.tempo_bpm != register.tempo_bpm {
                give_tempo(register, link, &mut actions);
            }
            if seen.playing != register.playing {
                give_playing(register, link, &mut actions);
            }
            if seen.tempo_bpm != register.tempo_bpm || seen.playing != register.playing {
                return actions;
            }
        }
        let newly_met = seen.peers == 0 && link.peers > 0 && !standing.in_company;
        if !same_tempo(link.tempo_bpm, register.tempo_bpm) || link.playing != register.playing {
            return self.weigh(now_ns, pause_ns, register, link, standing);
        }
        self.foreign = None;
        self.note_jump(now_ns, phase_error(register, now_ns, link), JUMP_BEATS);
        self.check_phase(register, now_ns, link, standing, newly_met, &mut actions);
        actions
    }

    /// Decides about something in Link that the register does not have; the look before was `pause_ns` ago.
    fn weigh(
        &mut self,
        now_ns: i64,
        pause_ns: i64,
        register: &BeatRegister,
        link: &LinkReading,
        standing: Standing,
    ) -> Vec<Action> {
        let mut actions = vec![];
        let apart_bpm = (link.tempo_bpm - register.tempo_bpm).abs();
        let another_tempo = !same_tempo(link.tempo_bpm, register.tempo_bpm);
        let first = Foreign { since_ns: now_ns, unseen_ns: pause_ns, widest_bpm: 0.0 };
        let foreign = self.foreign.get_or_insert(first);
        foreign.widest_bpm = foreign.widest_bpm.max(apart_bpm);
        let Foreign { since_ns, unseen_ns, widest_bpm } = *foreign;
        let waited_ns = now_ns.saturating_sub(since_ns);
        let error = phase_error(register, now_ns, link);
        if standing.in_company {
            let played_s = UNSEEN_S + (waited_ns.saturating_add(unseen_ns) as f64 / 1e9).min(MAX_PAUSE_S);
            self.note_jump(now_ns, error, JUMP_BEATS + widest_bpm / 60.0 * played_s);
            if self.met_ns.is_some_and(|met| now_ns.saturating_sub(met) < MEETING_NS) {
                // Our Link has joined an older session than its own: nobody has changed ours.
                give(register, link, &mut actions);
                self.remember(register, link);
                return actions;
            }
        }
        let grace_ns = match standing.leads {
            // Whether apps come or go with it is seen in a moment.
            true if standing.in_company && another_tempo => MEETING_NS,
            true => 0,
            false => FOLLOWER_GRACE_NS,
        };
        if waited_ns < grace_ns {
            return actions;
        }
        take(register, link, &mut actions);
        let off = (error * 60.0 / register.tempo_bpm).abs() >= PHASE_TOLERANCE_S;
        if standing.in_company && another_tempo && off && !self.elsewhere {
            // As old as the change is, the beat has gone on with it.
            actions.push(Action::TakeBeat(register.beat_at(now_ns) + error));
        }
        self.remember(register, link);
        actions
    }

    /// Takes notice of a beat that is further off than `allowed` beats and was not at the last look.
    fn note_jump(&mut self, now_ns: i64, error: f64, allowed: f64) {
        let elsewhere = error.abs() > allowed;
        if elsewhere && !self.elsewhere {
            self.met_ns = Some(now_ns);
        }
        self.elsewhere = elsewhere;
    }

    fn remember(&mut self, register: &BeatRegister, link: &LinkReading) {
        self.seen = Some(Seen {
            version: (register.counter, register.author),
            tempo_bpm: register.tempo_bpm,
            playing: register.playing,
            peers: link.peers,
        });
        self.foreign = None;
        self.phase_errors = 0;
        self.far_since_ns = None;
    }

    fn check_phase(
        &mut self,
        register: &BeatRegister,
        now_ns: i64,
        link: &LinkReading,
        standing: Standing,
        newly_met: bool,
        actions: &mut Vec<Action>,
    ) {
        let beat = register.beat_at(now_ns);
        let error = phase_error(register, now_ns, link);
        let error_s = (error * 60.0 / register.tempo_bpm).abs();
        if error_s < FOLLOWER_TOLERANCE_S {
            self.far_since_ns = None;
        }
        if error_s < PHASE_TOLERANCE_S {
            self.phase_errors = 0;
            return;
        }
        self.phase_errors += 1;
        let far_ns = match error_s < FOLLOWER_TOLERANCE_S {
            true => 0,
            false => now_ns.saturating_sub(*self.far_since_ns.get_or_insert(now_ns)),
        };
        let lasts = self.phase_errors >= PHASE_TICKS;
        if newly_met || (!standing.in_company && link.peers > 0 && lasts) {
            // Alone in the session, the Link apps on this LAN were here first.
            actions.push(Action::TakeBeat(beat + error));
        } else if (standing.leads && lasts) || far_ns >= FOLLOWER_GRACE_NS {
            actions.push(Action::ForceLinkBeat(beat));
        } else {
            return;
        }
        self.phase_errors = 0;
        self.far_since_ns = None;
    }
}

/// How far Link's beat is ahead of the register's, within half a quantum.
fn phase_error(register: &BeatRegister, now_ns: i64, link: &LinkReading) -> f64 {
    let quantum = link.quantum.max(1.0);
    (link.beat - register.beat_at(now_ns) + quantum / 2.0).rem_euclid(quantum) - quantum / 2.0
}

fn give(register: &BeatRegister, link: &LinkReading, actions: &mut Vec<Action>) {
    give_tempo(register, link, actions);
    give_playing(register, link, actions);
}

fn give_tempo(register: &BeatRegister, link: &LinkReading, actions: &mut Vec<Action>) {
    if !same_tempo(link.tempo_bpm, register.tempo_bpm) {
        actions.push(Action::SetLinkTempo(register.tempo_bpm));
    }
}

fn give_playing(register: &BeatRegister, link: &LinkReading, actions: &mut Vec<Action>) {
    if link.playing != register.playing {
        actions.push(Action::SetLinkPlaying(register.playing));
    }
}

fn take(register: &BeatRegister, link: &LinkReading, actions: &mut Vec<Action>) {
    if !same_tempo(link.tempo_bpm, register.tempo_bpm) {
        actions.push(Action::TakeTempo(as_it_was_set(link.tempo_bpm)));
    }
    if link.playing != register.playing {
        actions.push(Action::TakePlaying(link.playing));
    }
}

/// The tempo with the fewest decimals that Link would round to `tempo_bpm`. Link keeps whole microseconds per
/// beat, so that 97 comes back as 96.99995; taken as it is, that would travel as a change nobody made.
fn as_it_was_set(tempo_bpm: f64) -> f64 {
    let microseconds = |bpm: f64| (60e6 / bpm).round();
    let rounded = |decimals: i32| (tempo_bpm * 10f64.powi(decimals)).round() / 10f64.powi(decimals);
    (0..4).map(rounded).find(|bpm| microseconds(*bpm) == microseconds(tempo_bpm)).unwrap_or(tempo_bpm)
}

fn same_tempo(a: f64, b: f64) -> bool {
    (a - b).abs() < SAME_TEMPO_BPM
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000_000;
    const LEADER: Standing = Standing { leads: true, in_company: true };
    const FOLLOWER: Standing = Standing { leads: false, in_company: true };
    const ALONE: Standing = Standing { leads: true, in_company: false };

    fn link(tempo_bpm: f64, beat: f64) -> LinkReading {
        LinkReading { peers: 1, tempo_bpm, beat, quantum: 4.0, playing: false }
    }

    #[test]
    fn a_newcomer_alone_takes_the_tempo_that_link_already_plays() {
        let mut bridge = LinkBridge::default();
        let register = BeatRegister::new(0, 120.0, 1);
        assert_eq!(bridge.tick(0, &register, &link(97.0, 0.0), ALONE), [Action::TakeTempo(97.0)]);
    }

    #[test]
    fn a_tempo_that_link_rounded_is_taken_as_it_was_set() {
        for set in [97.0, 120.0, 97.5, 133.33, 174.125, 20.0, 999.0] {
            let read = 60e6 / (60e6_f64 / set).round();
            assert_eq!(as_it_was_set(read), set);
        }
        // Nobody types this; it stays what it is to within Link's grain.
        assert!((as_it_was_set(100.123_456) - 100.123_456).abs() < 1e-3);
    }

    #[test]
    fn meeting_a_link_session_in_two_steps_still_takes_its_tempo() {
        let mut bridge = LinkBridge::default();
        let register = BeatRegister::new(0, 120.0, 1);
        let alone = LinkReading { peers: 0, ..link(120.0, 0.0) };
        assert_eq!(bridge.tick(0, &register, &alone, ALONE), []);
        // The other app is seen and the beat has moved, but Link's tempo is not yet the other's.
        let met = bridge.tick(SECOND, &register, &link(120.0, 3.5), ALONE);
        let [Action::TakeBeat(beat)] = met[..] else { panic!("{met:?}") };
        let moved = register.with_beat_at(beat, SECOND, 1);
        assert_eq!(bridge.tick(SECOND, &moved, &link(97.0, beat), ALONE), [Action::TakeTempo(97.0)]);
    }

    #[test]
    fn a_member_brings_the_sessions_tempo_to_link() {
        let mut bridge = LinkBridge::default();
        let register = BeatRegister::new(0, 120.0, 1);
        assert_eq!(bridge.tick(0, &register, &link(97.0, 0.0), LEADER), [Action::SetLinkTempo(120.0)]);
    }

    #[test]
    fn a_member_that_meets_an_older_link_session_keeps_its_own_tempo() {
        let register = BeatRegister::new(0, 120.0, 1);
        let alone = LinkReading { peers: 0, ..link(120.0, 0.0) };
        let playing = LinkReading { playing: true, ..link(97.0, 0.5) };
        let given = [Action::SetLinkTempo(120.0), Action::SetLinkPlaying(false)];
        for standing in [LEADER, FOLLOWER] {
            let mut bridge = LinkBridge::default();
            assert_eq!(bridge.tick(0, &register, &alone, standing), []);
            assert_eq!(bridge.tick(SECOND / 2, &register, &playing, standing), given);
            // In two steps: the app first, its tempo a moment later.
            let mut bridge = LinkBridge::default();
            bridge.tick(0, &register, &alone, standing);
            assert_eq!(bridge.tick(SECOND / 2, &register, &link(120.0, 0.5), standing), []);
            assert_eq!(bridge.tick(SECOND / 2 + MEETING_NS - 1, &register, &playing, standing), given);
        }
    }

    #[test]
    fn an_app_that_has_been_there_for_a_while_may_change_the_tempo() {
        let register = BeatRegister::new(0, 120.0, 1);
        let mut bridge = LinkBridge::default();
        bridge.tick(0, &register, &LinkReading { peers: 0, ..link(120.0, 0.0) }, LEADER);
        bridge.tick(SECOND / 2, &register, &link(120.0, 1.0), LEADER);
        let came = SECOND / 2 + MEETING_NS;
        assert_eq!(bridge.tick(came, &register, &link(97.0, 1.5), LEADER), []);
        assert_eq!(
            bridge.tick(came + MEETING_NS, &register, &link(97.0, 2.0), LEADER),
            [Action::TakeTempo(97.0)]
        );
    }

    /// What Link plays at `now_ns` when somebody has changed its tempo at `changed_ns`.
    fn turned(register: &BeatRegister, tempo_bpm: f64, changed_ns: i64, now_ns: i64) -> LinkReading {
        link(tempo_bpm, register.with_tempo(tempo_bpm, changed_ns, 9).beat_at(now_ns))
    }

    /// The bridge's actions at each look from `from_ns` until before `to_ns`.
    fn watch(
        bridge: &mut LinkBridge,
        (from_ns, to_ns): (i64, i64),
        register: &BeatRegister,
        standing: Standing,
        reading: impl Fn(i64) -> LinkReading,
    ) -> Vec<Action> {
        let looks = (from_ns..to_ns).step_by(LOOK_NS as usize);
        looks.flat_map(|now| bridge.tick(now, register, &reading(now), standing)).collect()
    }

    const LOOK_NS: i64 = 50_000_000;

    fn settled(register: &BeatRegister, standing: Standing) -> LinkBridge {
        let mut bridge = LinkBridge::default();
        let quiet = |now| link(120.0, register.beat_at(now));
        assert_eq!(watch(&mut bridge, (0, SECOND), register, standing, quiet), []);
        bridge
    }

    #[test]
    fn an_older_link_session_is_known_by_its_beat_where_the_count_does_not_show_it() {
        let register = BeatRegister::new(0, 120.0, 1);
        // Our Link leaves a bandmate for an app, one for one, whether the bandmate comes after it or never.
        let older = |now: i64| link(97.0, 1.3 + now as f64 * 97.0 / 60e9);
        for standing in [LEADER, FOLLOWER] {
            let mut bridge = settled(&register, standing);
            assert_eq!(
                bridge.tick(SECOND, &register, &older(SECOND), standing),
                [Action::SetLinkTempo(120.0)],
                "{standing:?}"
            );
        }
    }

    #[test]
    fn an_older_link_session_that_is_on_our_beat_by_chance_is_known_by_those_who_follow() {
        let register = BeatRegister::new(0, 120.0, 1);
        let older = |now| turned(&register, 97.0, SECOND, now);
        for (before, after) in [(1, 2), (2, 1)] {
            let mut bridge = settled(&register, LEADER);
            let one = |now| LinkReading { peers: before, ..older(now) };
            bridge.seen.as_mut().unwrap().peers = before;
            assert_eq!(watch(&mut bridge, (SECOND, SECOND + MEETING_NS), &register, LEADER, one), []);
            let joined = LinkReading { peers: after, ..older(SECOND + MEETING_NS) };
            let given = bridge.tick(SECOND + MEETING_NS, &register, &joined, LEADER);
            assert_eq!(given, [Action::SetLinkTempo(120.0)], "from {before} to {after}");
        }
    }

    #[test]
    fn a_tempo_turned_in_an_app_is_taken_in_a_moment_with_the_beat_that_it_has_meanwhile() {
        let register = BeatRegister::new(0, 120.0, 1);
        for (tempo, late_ns) in [(97.0, 0), (180.0, 0), (60.0, 150_000_000), (121.0, 0)] {
            let mut bridge = settled(&register, LEADER);
            let turned = |now| turned(&register, tempo, SECOND - late_ns, now);
            let span = (SECOND, SECOND + MEETING_NS + LOOK_NS);
            let actions = watch(&mut bridge, span, &register, LEADER, turned);
            let at = SECOND + MEETING_NS;
            assert_eq!(actions[0], Action::TakeTempo(tempo));
            let [_, Action::TakeBeat(beat)] = actions[..] else { panic!("{tempo}: {actions:?}") };
            assert!((beat - turned(at).beat).abs() < 1e-9, "{tempo}: {beat}");
        }
    }

    #[test]
    fn a_knob_that_is_turned_up_and_back_is_a_change_all_the_same() {
        let register = BeatRegister::new(0, 120.0, 1);
        let mut bridge = settled(&register, LEADER);
        let top = register.with_tempo(200.0, SECOND, 9);
        let up = |now| link(200.0, top.beat_at(now));
        let middle = SECOND + 2 * LOOK_NS;
        assert_eq!(watch(&mut bridge, (SECOND, middle), &register, LEADER, up), []);
        let back = |now| turned(&top, 121.0, middle, now);
        let span = (middle, SECOND + MEETING_NS + LOOK_NS);
        assert_eq!(watch(&mut bridge, span, &register, LEADER, back)[0], Action::TakeTempo(121.0));
    }

    #[test]
    fn a_start_elsewhere_does_not_undo_a_tempo_that_waits() {
        let register = BeatRegister::new(0, 120.0, 1);
        let mut bridge = settled(&register, LEADER);
        let turned = |now| turned(&register, 97.0, SECOND, now);
        assert_eq!(bridge.tick(SECOND, &register, &turned(SECOND), LEADER), []);
        let started = register.with_playing(true, SECOND + LOOK_NS, 2);
        let now = SECOND + 2 * LOOK_NS;
        assert_eq!(bridge.tick(now, &started, &turned(now), LEADER), [Action::SetLinkPlaying(true)]);
        let playing = |now| LinkReading { playing: true, ..turned(now) };
        let span = (now + LOOK_NS, now + 2 * LOOK_NS + MEETING_NS);
        assert_eq!(watch(&mut bridge, span, &started, LEADER, playing)[0], Action::TakeTempo(97.0));
    }

    #[test]
    fn a_change_in_a_link_app_is_taken_soon_by_the_leader_and_late_by_the_others() {
        let register = BeatRegister::new(0, 120.0, 1);
        let mut leader = LinkBridge::default();
        let mut follower = LinkBridge::default();
        leader.tick(0, &register, &link(120.0, 0.0), LEADER);
        follower.tick(0, &register, &link(120.0, 0.0), FOLLOWER);
        let changed = |at| link(130.0, register.beat_at(at));
        assert_eq!(leader.tick(SECOND, &register, &changed(SECOND), LEADER), []);
        let soon = SECOND + MEETING_NS;
        assert_eq!(leader.tick(soon, &register, &changed(soon), LEADER), [Action::TakeTempo(130.0)]);
        assert_eq!(follower.tick(SECOND, &register, &changed(SECOND), FOLLOWER), []);
        assert_eq!(follower.tick(soon, &register, &changed(soon), FOLLOWER), []);
        let late = SECOND + FOLLOWER_GRACE_NS;
        assert_eq!(follower.tick(late, &register, &changed(late), FOLLOWER), [Action::TakeTempo(130.0)]);
    }

    #[test]
    fn a_follower_that_hears_of_the_change_in_time_repeats_nothing() {
        let register = BeatRegister::new(0, 120.0, 1);
        let mut follower = LinkBridge::default();
        follower.tick(0, &register, &link(120.0, 0.0), FOLLOWER);
        follower.tick(SECOND, &register, &link(130.0, 2.0), FOLLOWER);
        let taken = register.with_tempo(130.0, SECOND, 2);
        let reading = link(130.0, taken.beat_at(2 * SECOND));
        assert_eq!(follower.tick(2 * SECOND, &taken, &reading, FOLLOWER), []);
        assert_eq!(follower.tick(4 * SECOND, &taken, &link(130.0, taken.beat_at(4 * SECOND)), FOLLOWER), []);
    }

    #[test]
    fn a_lasting_phase_error_is_corrected_towards_the_session_and_one_bad_reading_is_not() {
        let register = BeatRegister::new(0, 120.0, 1);
        let mut bridge = LinkBridge::default();
        bridge.tick(0, &register, &link(120.0, 0.0), LEADER);
        assert_eq!(bridge.tick(SECOND, &register, &link(120.0, 2.5), LEADER), []);
        assert_eq!(bridge.tick(SECOND, &register, &link(120.0, 2.0), LEADER), []);
        let mut actions = vec![];
        for _ in 0..PHASE_TICKS {
            actions = bridge.tick(SECOND, &register, &link(120.0, 2.5), LEADER);
        }
        assert_eq!(actions, [Action::ForceLinkBeat(2.0)]);
    }

    #[test]
    fn a_wrong_phase_that_the_leader_leaves_is_corrected_by_another() {
        let register = BeatRegister::new(0, 120.0, 1);
        let off = |beats: f64| move |now| link(120.0, register.beat_at(now) + beats);
        // Half a beat, which nobody else puts right.
        let mut bridge = settled(&register, FOLLOWER);
        let span = (SECOND, SECOND + FOLLOWER_GRACE_NS);
        assert_eq!(watch(&mut bridge, span, &register, FOLLOWER, off(0.5)), []);
        let late = SECOND + FOLLOWER_GRACE_NS;
        let forced = bridge.tick(late, &register, &off(0.5)(late), FOLLOWER);
        assert_eq!(forced, [Action::ForceLinkBeat(register.beat_at(late))]);
        // 5 ms: the leader may see it otherwise, and the two would never agree.
        let mut bridge = settled(&register, FOLLOWER);
        assert_eq!(watch(&mut bridge, (SECOND, 9 * SECOND), &register, FOLLOWER, off(0.01)), []);
    }

    #[test]
    fn bars_of_another_length_are_aligned_anew() {
        let register = BeatRegister::new(0, 120.0, 1);
        let mut bridge = LinkBridge::default();
        // Eight beats ahead, which is nothing in bars of four.
        let of_four = |now| link(120.0, register.beat_at(now) + 8.0);
        assert_eq!(watch(&mut bridge, (0, SECOND), &register, LEADER, of_four), []);
        let waltz = register.with_beats_per_bar(3, SECOND, 1);
        let of_three = |now| LinkReading { quantum: 3.0, ..of_four(now) };
        let span = (SECOND, SECOND + i64::from(PHASE_TICKS) * LOOK_NS);
        let beat = waltz.beat_at(span.1 - LOOK_NS);
        assert_eq!(watch(&mut bridge, span, &waltz, LEADER, of_three), [Action::ForceLinkBeat(beat)]);
    }

    #[test]
    fn start_and_stop_cross_in_both_directions() {
        let register = BeatRegister::new(0, 120.0, 1);
        let mut bridge = LinkBridge::default();
        bridge.tick(0, &register, &link(120.0, 0.0), LEADER);
        let started = LinkReading { playing: true, ..link(120.0, 2.0) };
        assert_eq!(bridge.tick(SECOND, &register, &started, LEADER), [Action::TakePlaying(true)]);
        let playing = register.with_playing(true, SECOND, 1);
        bridge.tick(SECOND, &playing, &started, LEADER);
        let stopped = playing.with_playing(false, 2 * SECOND, 1);
        assert_eq!(
            bridge.tick(2 * SECOND, &stopped, &LinkReading { beat: 4.0, ..started }, LEADER),
            [Action::SetLinkPlaying(false)]
        );
    }
}
