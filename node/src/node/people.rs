//! People: what they touch is heard and shown, what they do is said, and what this player did is undone.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use engine::Strip;
use futures::{FutureExt, future::BoxFuture};
use serde_json::Value;
use transport::{PeerId, driver::PathKind};

use super::{
    backend::NodeBackend,
    brain::{Inner, lock},
};
use crate::{
    control::{
        BackendError, Notice, People,
        types::{
            Graph, GraphEdge, GraphNode, Kept, Notification, NotificationKind, Path, Severity, Touch,
            UndoResult, UndoState,
        },
    },
    device::monotonic_ns,
    project::{UndoFailed, unix_ms},
    session::{
        MAX_PEERS,
        member_state::ConnectionReading,
        message::{LinkState, MemberState, NO_PATH},
        notifier::{Kind, Notifier},
        touch::SEND_INTERVAL_NS,
    },
};

/// Error of a member's clock with which one can still play together: what the timebase corrects without a step.
const SYNC_ERROR_NS: u64 = 20_000_000;
/// Strips that can be touched and have something to be heard.
const STRIP: &str = "/mixer/strip/";

impl Inner {
    /// Tells the members whether this player sends sound.
    pub fn tell_muted(&self, muted: bool) {
        lock(&self.session).set_muted(now(), muted);
        self.pump();
    }

    /// Hands the session what was measured of the links, and the notifier what was measured of the clocks; call twice a
    /// second.
    pub fn observe_members(&self) {
        let now = now();
        let members: Vec<(PeerId, bool)> = {
            let session = lock(&self.session);
            session.members().map(|(peer, _)| (*peer, session.shares_time(peer))).collect()
        };
        let paths: BTreeMap<PeerId, u8> = {
            let peers = lock(&self.peers);
            let path = |(peer, view): (&PeerId, &super::brain::PeerView)| {
                Some((*peer, path_number(view.connection.as_ref()?.1)))
            };
            peers.iter().filter_map(path).collect()
        };
        let mut readings = Vec::with_capacity(members.len());
        for (peer, shares_time) in members {
            let report = self.media.report(&peer);
            let clock = report.as_ref().and_then(|report| report.clock);
            lock(&self.notifier).sync(
                now,
                &peer,
                shares_time && clock.is_some_and(|clock| clock.error_ns < SYNC_ERROR_NS),
            );
            let rtt_us = clock.map(|clock| clock.rtt_ns / 1_000);
            let rtt_us = rtt_us.or_else(|| self.mesh.media().rtt(&peer).map(|rtt| rtt.as_micros() as u64));
            let one_way_us =
                report.as_ref().and_then(|report| report.one_way_ns).map(|one_way| one_way / 1_000);
            readings.push(ConnectionReading {
                peer,
                id: peer.to_bytes(),
                path: paths.get(&peer).copied().unwrap_or(NO_PATH),
                rtt_us: rtt_us.and_then(|us| u32::try_from(us).ok()),
                one_way_us: one_way_us.and_then(|us| u32::try_from(us).ok()),
                received: report.as_ref().map_or(0, |report| report.totals.received),
                lost: report.as_ref().map_or(0, |report| report.totals.lost),
            });
        }
        lock(&self.session).handle_links(now, readings);
        self.pump();
    }

    /// Sends the touches that came too soon after one another once they may be: the brain's own tick would come late, and a
    /// drag that waits for it at each step would never get out of its rhythm.
    fn send_touches_soon(self: &Arc<Self>) {
        if self.following.sending_touches.swap(true, Ordering::AcqRel) {
            return;
        }
        let inner = self.clone();
        tokio::spawn(async move {
            let mut waits = true;
            while waits {
                tokio::time::sleep(Duration::from_nanos(SEND_INTERVAL_NS.unsigned_abs())).await;
                waits = {
                    let mut session = lock(&inner.session);
                    session.handle_deadline(now());
                    session.touches().waits()
                };
                inner.pump();
            }
            // A touch that comes in between goes out with the tick.
            inner.following.sending_touches.store(false, Ordering::Release);
        });
    }

    /// People hold something else at these addresses: the mix follows at once.
    pub fn follow_touches(&self, addresses: &BTreeSet<String>) {
        let strip = |address: &String| address.strip_prefix(STRIP)?.split('/').next()?.parse::<PeerId>().ok();
        let strips: BTreeSet<PeerId> = addresses.iter().filter_map(strip).collect();
        for peer in strips {
            self.mix(&peer);
        }
        self.notify(Notice::Touches);
    }

    /// Plays a player's strip as the project has it, with what people hold laid over.
    pub fn mix(&self, peer: &PeerId) {
        let mut strip = lock(&self.following.strips).get(peer).copied().unwrap_or_default();
        {
            let session = lock(&self.session);
            if session.touches().iter().next().is_some() {
                let held =
                    |field: &str| session.touches().value_at(&format!("{STRIP}{peer}/{field}")).cloned();
                lay_over(&mut strip, held);
            }
        }
        let mut rig = lock(&self.rig);
        match *peer == self.me {
            true => rig.set_own_strip(strip),
            false => rig.set_strip(peer, strip),
        }
    }

    /// Tells the notifier something, and the pages if it is to be said.
    pub fn tell(&self, tell: impl FnOnce(&mut Notifier<PeerId>, i64, u64) -> bool) {
        let said = tell(&mut lock(&self.notifier), now(), unix_ms());
        if said {
            self.notify(Notice::Notification);
        }
    }
}

impl People for NodeBackend {
    fn graph(&self) -> Graph {
        let inner = &self.0;
        let names: BTreeMap<PeerId, String> =
            lock(&inner.peers).iter().map(|(peer, view)| (*peer, view.name.clone())).collect();
        let session = lock(&inner.session);
        let mut states: Vec<(PeerId, Option<&MemberState>)> = vec![(inner.me, Some(session.own_state()))];
        states.extend(session.members().map(|(peer, _)| (*peer, session.state_of(now(), peer))));
        let (nodes, edges) = graph_of(&states);
        let name = |peer: &PeerId| match *peer == inner.me {
            true => lock(&inner.name).clone(),
            false => names.get(peer).cloned().unwrap_or_default(),
        };
        let node =
            |peer: PeerId| GraphNode { peer_id: peer.to_string(), name: name(&peer), me: peer == inner.me };
        Graph { nodes: nodes.into_iter().map(node).collect(), edges }
    }

    fn touches(&self, source: u32) -> Vec<Touch> {
        let inner = &self.0;
        let names: BTreeMap<PeerId, String> =
            lock(&inner.peers).iter().map(|(peer, view)| (*peer, view.name.clone())).collect();
        let session = lock(&inner.session);
        let others = session.touches().iter().filter(|touch| touch.peer.is_some() || touch.source != source);
        others
            .map(|touch| Touch {
                peer_id: touch.peer.unwrap_or(&inner.me).to_string(),
                name: match touch.peer {
                    None => lock(&inner.name).clone(),
                    Some(peer) => names.get(peer).cloned().unwrap_or_default(),
                },
                source: format!("{:08x}", touch.source),
                address: touch.address.to_owned(),
                value: touch.value.cloned(),
            })
            .collect()
    }

    fn touch(&self, source: u32, address: &str, value: Option<Value>) -> Result<(), BackendError> {
        let (touched, waits) = {
            let mut session = lock(&self.0.session);
            let touched = session.touch(now(), source, address, value);
            (touched, session.touches().waits())
        };
        self.0.pump();
        if waits {
            self.0.send_touches_soon();
        }
        touched.map_err(|error| BackendError::Invalid(error.to_string()))
    }

    fn touch_end(&self, source: u32, address: &str) {
        lock(&self.0.session).let_go(now(), source, Some(address));
        self.0.pump();
    }

    fn forget_source(&self, source: u32) {
        lock(&self.0.session).let_go(now(), source, None);
        self.0.pump();
    }

    fn notifications(&self, after: u64) -> Vec<Notification> {
        let notifier = lock(&self.0.notifier);
        let said = notifier.said(after).map(|said| Notification {
            id: said.id,
            kind: kind(said.kind),
            severity: severity(said.kind),
            text: said.text.clone(),
            peer_id: said.peer.map(|peer| peer.to_string()),
            at_ms: said.at_ms,
        });
        said.collect()
    }

    fn undo(&self, redo: bool) -> BoxFuture<'_, Result<UndoResult, BackendError>> {
        async move {
            let _editing = self.0.following.editing();
            let undone = self.0.project.undo(redo).await?;
            for (address, value) in &undone.changed {
                if let Some(value) = value {
                    self.follow_beat(address, value);
                }
            }
            let UndoState { can_undo, can_redo, undo_label, redo_label } = undo_state(&undone.left);
            Ok(UndoResult {
                label: undone.label,
                address: undone.changed.into_iter().next().map(|(address, _)| address).unwrap_or_default(),
                kept: undone
                    .kept
                    .into_iter()
                    .map(|(address, by)| Kept { address, peer_id: by.name() })
                    .collect(),
                can_undo,
                can_redo,
                undo_label,
                redo_label,
            })
        }
        .boxed()
    }
}

/// What undo and redo would do, as pages see it.
pub fn undo_state(left: &crdt::UndoLeft) -> UndoState {
    UndoState {
        can_undo: left.undo.is_some(),
        can_redo: left.redo.is_some(),
        undo_label: left.undo.clone(),
        redo_label: left.redo.clone(),
    }
}

impl From<UndoFailed> for BackendError {
    fn from(error: UndoFailed) -> Self {
        let text = error.to_string();
        match error {
            UndoFailed::Refused(crdt::UndoError::Nothing { redo: false }) => {
                Self::Conflict("nothing_to_undo", text)
            }
            UndoFailed::Refused(crdt::UndoError::Nothing { redo: true }) => {
                Self::Conflict("nothing_to_redo", text)
            }
            UndoFailed::Refused(crdt::UndoError::ChangedSince { .. }) => {
                Self::Conflict("changed_since", text)
            }
            UndoFailed::Refused(crdt::UndoError::Command(error)) => {
                Self::from(crate::project::EditError::Command(error))
            }
            UndoFailed::Edit(error) => error.into(),
        }
    }
}

fn now() -> i64 {
    monotonic_ns() as i64
}

fn lay_over(strip: &mut Strip, held: impl Fn(&str) -> Option<Value>) {
    let number = |field| held(field).and_then(|value| value.as_f64());
    let flag = |field| held(field).and_then(|value| value.as_bool());
    strip.gain_db = number("gain_db").map_or(strip.gain_db, |gain| gain as f32);
    strip.pan = number("pan").map_or(strip.pan, |pan| pan as f32);
    strip.mute = flag("mute").unwrap_or(strip.mute);
    strip.solo = flag("solo").unwrap_or(strip.solo);
}

/// Who there is and who is connected to whom, from what each member says; the first one is this node.
fn graph_of(states: &[(PeerId, Option<&MemberState>)]) -> (Vec<PeerId>, Vec<GraphEdge>) {
    let mut nodes: Vec<PeerId> = states.iter().map(|(peer, _)| *peer).collect();
    let mut edges = Vec::new();
    for (to, state) in states {
        for link in state.iter().flat_map(|state| &state.links) {
            let Ok(from) = PeerId::from_bytes(&link.peer) else { continue };
            if !nodes.contains(&from) {
                // Somebody this node cannot reach itself. Members could invent any number of them.
                if nodes.len() > MAX_PEERS {
                    continue;
                }
                nodes.push(from);
            }
            edges.push(edge(from, *to, link));
        }
    }
    (nodes, edges)
}

fn edge(from: PeerId, to: PeerId, link: &LinkState) -> GraphEdge {
    let ms = |us: u32| f64::from(us) / 1e3;
    GraphEdge {
        from: from.to_string(),
        to: to.to_string(),
        path: match link.path {
            1 => Some(Path::Lan),
            2 => Some(Path::Direct),
            3 => Some(Path::Relayed),
            4 => Some(Path::Forwarded),
            _ => None,
        },
        rtt_ms: link.rtt_us.map(ms),
        one_way_ms: link.one_way_us.map(ms),
        audio_arrives: link.audio_arrives,
    }
}

fn path_number(path: PathKind) -> u8 {
    match path {
        PathKind::Lan => 1,
        PathKind::Direct => 2,
        PathKind::Relayed => 3,
        PathKind::Forwarded => 4,
    }
}

fn kind(kind: Kind) -> NotificationKind {
    match kind {
        Kind::PeerJoined => NotificationKind::PeerJoined,
        Kind::PeerLeft => NotificationKind::PeerLeft,
        Kind::PeerLost => NotificationKind::PeerLost,
        Kind::PeerBack => NotificationKind::PeerBack,
        Kind::SyncLost => NotificationKind::SyncLost,
        Kind::SyncBack => NotificationKind::SyncBack,
        Kind::DeviceLost => NotificationKind::DeviceLost,
        Kind::DeviceBack => NotificationKind::DeviceBack,
        Kind::Warning => NotificationKind::Warning,
    }
}

fn severity(kind: Kind) -> Severity {
    match kind {
        Kind::PeerJoined | Kind::PeerBack | Kind::SyncBack | Kind::DeviceBack => Severity::Good,
        Kind::PeerLeft | Kind::Warning => Severity::Notice,
        Kind::PeerLost | Kind::SyncLost | Kind::DeviceLost => Severity::Bad,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_held_lies_over_the_strip_and_the_rest_stays() {
        let mut strip = Strip { gain_db: -3.0, pan: 0.5, mute: false, solo: true };
        let held = |field: &str| match field {
            "gain_db" => Some(json!(-12.5)),
            "mute" => Some(json!(true)),
            _ => None,
        };
        lay_over(&mut strip, held);
        assert_eq!(strip, Strip { gain_db: -12.5, pan: 0.5, mute: true, solo: true });
    }

    #[test]
    fn a_member_that_invents_others_makes_no_endless_graph() {
        let (me, liar) = (PeerId::random(), PeerId::random());
        let link = |peer: PeerId| LinkState { peer: peer.to_bytes(), path: 1, ..LinkState::default() };
        let links = (0..200).map(|_| link(PeerId::random())).chain([link(me)]).collect();
        let lies = MemberState { links, ..MemberState::default() };
        let mine = MemberState { links: vec![link(liar)], ..MemberState::default() };
        let (nodes, edges) = graph_of(&[(me, Some(&mine)), (liar, Some(&lies))]);
        assert!(nodes.len() <= MAX_PEERS + 1 && edges.len() <= nodes.len() + 1);
        assert_eq!((nodes[0], nodes[1]), (me, liar));
        assert!(edges.iter().any(|edge| edge.from == me.to_string() && edge.to == liar.to_string()));
    }
}
