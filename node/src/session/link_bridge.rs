//! Keeps one LAN's Ableton Link session and the Bandmesh session in step.
//!
//! Link has no owner: any app may change tempo and playback, and every app follows. The same holds for
//! our [`BeatRegister`]. The bridge watches both and carries each change across once:
//! - the register changed → Link gets tempo, playback and, where it is off, the beat;
//! - Link changed without us → the register takes it, so that the other LANs follow.
//!
//! Several members on one LAN see the same Link session. The one that *leads* there (smallest peer id)
//! carries changes at once; the others wait [`FOLLOWER_GRACE_NS`] for its register update to arrive and
//! act only if it does not. Joining never changes a session's tempo (Link's TEST-PLAN, TEMPO-2): a node
//! alone in its session takes what Link already plays, a node that has members gives Link the session's, also
//! when it meets the Link apps on its LAN only after it has met the members.

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

/// For so long after other apps have appeared in Link, what it plays is what they brought along and no change that
/// somebody made, ns: Link takes over the older session's tempo at once, but tells of apps and tempo apart.
/// It is a few ticks, and less than anybody takes from opening an app to turning its knob.
const MEETING_NS: i64 = 250_000_000;

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
    foreign_since_ns: Option<i64>,
    /// When the number of other apps last grew.
    met_ns: Option<i64>,
    phase_errors: u32,
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    version: (u64, u64),
    /// The register's tempo and playback at that version: what else changes it is no news for Link.
    tempo_bpm: f64,
    playing: bool,
    peers: u64,
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
        if link.peers > seen.peers {
            self.met_ns = Some(now_ns);
        }
        if let Some(seen) = self.seen.as_mut() {
            seen.peers = link.peers;
        }
        if seen.version != version {
            self.remember(register, link);
            // A moved beat alone is not given as tempo: while two Link sessions unite, Link's tempo is about to become
            // the other's, and giving ours then would change what others are playing to.
            if seen.tempo_bpm != register.tempo_bpm || seen.playing != register.playing {
                give(register, link, &mut actions);
                return actions;
            }
        }
        let newly_met = seen.peers == 0 && link.peers > 0 && !standing.in_company;
        let foreign = !same_tempo(link.tempo_bpm, register.tempo_bpm) || link.playing != register.playing;
        let meets = self.met_ns.is_some_and(|met| now_ns.saturating_sub(met) < MEETING_NS);
        if foreign && standing.in_company && meets {
            // Our Link has joined an older session than its own: nobody has changed ours.
            give(register, link, &mut actions);
            self.remember(register, link);
            return actions;
        }
        if foreign {
            let since = *self.foreign_since_ns.get_or_insert(now_ns);
            if standing.leads || now_ns.saturating_sub(since) >= FOLLOWER_GRACE_NS {
                take(register, link, &mut actions);
                self.remember(register, link);
            }
            return actions;
        }
        self.foreign_since_ns = None;
        self.check_phase(register, now_ns, link, standing, newly_met, &mut actions);
        actions
    }

    fn remember(&mut self, register: &BeatRegister, link: &LinkReading) {
        self.seen = Some(Seen {
            version: (register.counter, register.author),
            tempo_bpm: register.tempo_bpm,
            playing: register.playing,
            peers: link.peers,
        });
        self.foreign_since_ns = None;
        self.phase_errors = 0;
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
        let quantum = link.quantum.max(1.0);
        let beat = register.beat_at(now_ns);
        let error = (link.beat - beat + quantum / 2.0).rem_euclid(quantum) - quantum / 2.0;
        if (error * 60.0 / register.tempo_bpm).abs() < PHASE_TOLERANCE_S {
            self.phase_errors = 0;
            return;
        }
        self.phase_errors += 1;
        if newly_met || (!standing.in_company && link.peers > 0 && self.phase_errors >= PHASE_TICKS) {
            // Alone in the session, the Link apps on this LAN were here first.
            actions.push(Action::TakeBeat(beat + error));
            self.phase_errors = 0;
        } else if standing.leads && self.phase_errors >= PHASE_TICKS {
            actions.push(Action::ForceLinkBeat(beat));
            self.phase_errors = 0;
        }
    }
}

fn give(register: &BeatRegister, link: &LinkReading, actions: &mut Vec<Action>) {
    if !same_tempo(link.tempo_bpm, register.tempo_bpm) {
        actions.push(Action::SetLinkTempo(register.tempo_bpm));
    }
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
        let changed = link(97.0, 3.5);
        assert_eq!(
            bridge.tick(SECOND / 2 + MEETING_NS, &register, &changed, LEADER),
            [Action::TakeTempo(97.0)]
        );
    }

    #[test]
    fn a_change_in_a_link_app_is_taken_at_once_by_the_leader_and_late_by_the_others() {
        let register = BeatRegister::new(0, 120.0, 1);
        let mut leader = LinkBridge::default();
        let mut follower = LinkBridge::default();
        leader.tick(0, &register, &link(120.0, 0.0), LEADER);
        follower.tick(0, &register, &link(120.0, 0.0), FOLLOWER);
        let changed = link(130.0, 2.0);
        assert_eq!(leader.tick(SECOND, &register, &changed, LEADER), [Action::TakeTempo(130.0)]);
        assert_eq!(follower.tick(SECOND, &register, &changed, FOLLOWER), []);
        assert_eq!(
            follower.tick(SECOND + FOLLOWER_GRACE_NS, &register, &changed, FOLLOWER),
            [Action::TakeTempo(130.0)]
        );
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
