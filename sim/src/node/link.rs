//! The node's side of Ableton Link: the product's bridge between the session's beat and an emulated Link library.
//!
//! In the product the brain looks at Link twenty times a second and carries out what the bridge says
//! (`node/src/node/brain.rs`, `follow_link`); so it does here.

use std::collections::VecDeque;

use bandmesh::session::{
    beat::BeatRegister,
    link_bridge::{Action, LinkBridge, LinkReading, Standing},
};

use crate::{
    link::{LOOK_EVERY, LinkPeer, Message},
    network::HostId,
    random::Random,
};

/// What a change of the session's beat that Link asks for is.
pub(super) enum Take {
    Tempo(f64),
    Beat(f64),
    Playing(bool),
}

pub(super) struct LinkSide {
    peer: LinkPeer,
    bridge: LinkBridge,
    next_look_ns: i64,
    /// For sabotage: never does what the bridge says, or always believes Link.
    pub(super) deaf: bool,
    pub(super) bows: bool,
    taken: VecDeque<Take>,
}

impl LinkSide {
    pub(super) fn new(now_ns: i64, tempo_bpm: f64, random: Random) -> Self {
        Self {
            peer: LinkPeer::new(now_ns, tempo_bpm, random),
            bridge: LinkBridge::default(),
            next_look_ns: now_ns,
            deaf: false,
            bows: false,
            taken: VecDeque::new(),
        }
    }

    /// Whether it sees others in Link.
    pub(super) fn sees_others(&self, now_ns: i64) -> bool {
        self.peer.read(now_ns).peers > 0
    }

    pub(super) fn poll_deadline(&self) -> i64 {
        self.next_look_ns.min(self.peer.poll_deadline())
    }

    pub(super) fn handle_message(&mut self, now_ns: i64, from: HostId, message: &Message) {
        self.peer.handle_message(now_ns, from, message);
    }

    /// Serves Link's timers, and at its time the bridge.
    pub(super) fn handle_deadline(
        &mut self,
        now_ns: i64,
        session_ns: i64,
        register: &BeatRegister,
        standing: Standing,
    ) {
        if self.peer.poll_deadline() <= now_ns {
            self.peer.handle_deadline(now_ns);
        }
        if self.next_look_ns > now_ns {
            return;
        }
        self.next_look_ns = now_ns + LOOK_EVERY.as_nanos() as i64;
        let link = self.peer.read(now_ns);
        let reading = LinkReading {
            peers: link.peers,
            tempo_bpm: link.tempo_bpm,
            beat: link.beat,
            quantum: f64::from(register.beats_per_bar),
            playing: link.playing,
        };
        for action in self.bridge.tick(session_ns, register, &reading, standing) {
            match action {
                _ if self.deaf => {}
                Action::SetLinkTempo(_) if self.bows => self.taken.push_back(Take::Tempo(reading.tempo_bpm)),
                Action::SetLinkTempo(tempo_bpm) => self.peer.set_tempo(now_ns, tempo_bpm),
                Action::ForceLinkBeat(beat) => {
                    self.peer.set_tempo(now_ns, register.tempo_bpm);
                    self.peer.force_beat(now_ns, beat, reading.quantum);
                }
                Action::SetLinkPlaying(playing) => self.peer.set_playing(now_ns, playing),
                Action::TakeTempo(tempo_bpm) => self.taken.push_back(Take::Tempo(tempo_bpm)),
                Action::TakeBeat(beat) => self.taken.push_back(Take::Beat(beat)),
                Action::TakePlaying(playing) => self.taken.push_back(Take::Playing(playing)),
            }
        }
    }

    /// The next change that the session takes from Link.
    pub(super) fn poll_taken(&mut self) -> Option<Take> {
        self.taken.pop_front()
    }

    /// The next message to one host, or to all on the local network.
    pub(super) fn poll_message(&mut self) -> Option<(Option<HostId>, Message)> {
        self.peer.poll()
    }

    pub(super) fn leave(&mut self) {
        self.peer.leave();
    }
}
