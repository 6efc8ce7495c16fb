//! What the world tells the checkers.

use bandmesh::session::message::MemberState;
use crdt::PeerKey;

use crate::{
    checker::{AppMoment, ClockMoment, EndState, Fact, Held, Moment, NodeMoment, People},
    network::HostId,
    node::Node,
};

use super::World;

impl World {
    pub(super) fn tell(&mut self, fact: &Fact<'_>) {
        for checker in &mut self.checkers {
            if let (Err(why), None) = (checker.observe(fact), &self.objection) {
                self.objection = Some((checker.name(), why));
            }
        }
    }

    /// Whether what the host says is to be believed, and what happens to it is anybody's concern.
    pub(super) fn is_honest(&self, id: HostId) -> bool {
        self.hosts.get(id).is_some_and(|host| host.hostile.is_none())
    }

    pub(super) fn sample(&mut self) {
        self.ease_doubts();
        let peaks: Vec<Option<f32>> =
            self.hosts.iter_mut().map(|host| host.node.as_mut().and_then(Node::take_peak)).collect();
        let mut nodes: Vec<Option<NodeMoment>> =
            (0..self.hosts.len()).map(|host| self.node_moment(host)).collect();
        for (node, peak) in nodes.iter_mut().zip(peaks) {
            node.iter_mut().for_each(|node| node.instruments_peak = peak);
        }
        let apps = (0..self.hosts.len()).filter_map(|host| self.app_moment(host)).collect();
        let moment = Moment { at: self.now, calm_for: self.now.since(self.disturbed_at), nodes, apps };
        self.tell(&Fact::Moment(&moment));
    }

    fn app_moment(&self, id: HostId) -> Option<AppMoment> {
        let host = self.hosts.get(id).filter(|host| host.asleep.is_none())?;
        let reading = host.app.as_ref()?.read(host.clock.local_at(self.now));
        let beside = |other: &HostId| {
            let near = self.network.site(*other) == self.network.site(id) && self.network.is_open(id, *other);
            let bridged = self.hosts.get(*other).is_some_and(|other| other.node.is_some());
            near && bridged && self.is_in_link(*other)
        };
        Some(AppMoment {
            host: id,
            beat: reading.beat,
            tempo_bpm: reading.tempo_bpm,
            playing: reading.playing,
            beside: (0..self.hosts.len()).filter(beside).collect(),
        })
    }

    fn node_moment(&self, id: HostId) -> Option<NodeMoment> {
        let host = self.hosts.get(id).filter(|host| host.runs() && host.hostile.is_none())?;
        let node = host.node.as_ref()?;
        let local = host.clock.local_at(self.now);
        let register = node.session().beat();
        let clocks = host.connections.keys().filter_map(|of| {
            let other = self.hosts.get(*of)?;
            // A stopped process has no clock to be right about, and a clock that has jumped is to be found out first.
            let doubtful = self.doubts.contains_key(&(id.min(*of), id.max(*of)));
            if !other.runs() || other.hostile.is_some() || doubtful {
                return None;
            }
            let stated = node.clock(local, &other.peer)?;
            Some(ClockMoment { of: *of, stated, true_offset_ns: other.clock.local_at(self.now) - local })
        });
        let members = self.members(node);
        let key = |id: &HostId| self.peer_key(*id);
        let followed = node.session().reference(local);
        let reference = followed.and_then(|peer| self.by_peer.get(peer).copied()).unwrap_or(id);
        Some(NodeMoment {
            members: members.clone(),
            reference,
            beat: register.beat_at(node.session().timebase().session_at(local)),
            tempo_bpm: register.tempo_bpm,
            playing: register.playing,
            beats_per_bar: register.beats_per_bar,
            timebase: node.session().timebase().id,
            clocks: clocks.collect(),
            sounding: node
                .sounding()
                .filter_map(|(peer, note)| Some((*self.by_peer.get(peer)?, note)))
                .filter(|(from, _)| self.is_honest(*from))
                .collect(),
            held: node.held().collect(),
            instruments_peak: None,
            holds: held(node, None),
            sees_held: members.iter().filter_map(|id| Some((*id, held(node, Some(key(id)?))))).collect(),
            says: people(node.session().own_state()),
            hears: members
                .iter()
                .filter_map(|id| Some((*id, people(node.session().state_of(local, &key(id)?)?))))
                .collect(),
        })
    }

    fn members(&self, node: &Node) -> Vec<HostId> {
        let members = node.session().members().filter_map(|(peer, _)| self.by_peer.get(peer).copied());
        members.filter(|host| self.is_honest(*host)).collect()
    }

    pub(super) fn note_queues(&mut self, id: HostId) {
        let honest = self.hosts.get(id).filter(|host| host.hostile.is_none());
        let Some(node) = honest.and_then(|host| host.node.as_ref()) else { return };
        for (name, most, bound) in node.queues() {
            self.tell(&Fact::Queue { name, most, bound });
        }
    }

    pub(super) fn judge_end(&mut self) {
        for id in 0..self.hosts.len() {
            self.note_queues(id);
        }
        let (most, bound) = self.network.most_held();
        self.tell(&Fact::Queue { name: "frames held back by a cut", most, bound });
        let mut checkers = std::mem::take(&mut self.checkers);
        let running = || {
            let awake =
                self.hosts.iter().enumerate().filter(|(_, host)| host.runs() && host.hostile.is_none());
            awake.filter_map(|(id, host)| Some((id, host, host.node.as_ref()?)))
        };
        let nodes: Vec<EndState<'_>> = running()
            .map(|(id, host, node)| EndState {
                host: id,
                session: &host.session,
                node,
                reachable: running()
                    .filter(|(other, it, _)| {
                        *other != id && it.session == host.session && self.network.can_meet(id, *other)
                    })
                    .map(|(other, ..)| other)
                    .collect(),
                members: self.members(node),
            })
            .collect();
        let objection = checkers
            .iter_mut()
            .find_map(|checker| checker.observe(&Fact::End(&nodes)).err().map(|why| (checker.name(), why)));
        let heads: Vec<(HostId, String)> =
            nodes.iter().map(|node| (node.host, node.node.project().heads_hash())).collect();
        for (host, hash) in heads {
            self.log.record(self.now, "heads", host, 0, hash.as_bytes());
        }
        self.checkers = checkers;
        self.objection = self.objection.take().or(objection);
    }
}

/// What a node believes that a peer's pages hold, or its own.
fn held(node: &Node, peer: Option<PeerKey>) -> Held {
    let touches = node.session().touches().iter().filter(|touch| touch.peer == peer.as_ref());
    touches.map(|touch| (touch.address.to_owned(), touch.value.map(ToString::to_string))).collect()
}

fn people(state: &MemberState) -> People {
    let links = state.links.iter().map(|link| (link.peer.clone(), (link.path, link.audio_arrives)));
    People { muted: state.muted, links: links.collect() }
}
