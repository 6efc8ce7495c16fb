//! One machine of the world: its clock, its disk, its sound card, and the node on it, if one runs.

use std::collections::BTreeMap;

use bandmesh::codec::Codec;
use crdt::PeerKey;

use crate::{
    clock::{HostClock, WorldTime},
    disk::Disk,
    hostile::Hostile,
    link::LinkPeer,
    network::{ConnectionId, HostId},
    node::{Node, Sabotage},
    plan::{HostPlan, LinkPart},
    random::Random,
    sound_card::{Card, SoundCard},
};

/// One host.
pub(crate) struct Host {
    pub(crate) name: String,
    pub(crate) session: String,
    pub(crate) tempo_bpm: f64,
    pub(crate) clock: HostClock,
    pub(crate) card: Option<Card>,
    pub(crate) codec: Codec,
    pub(crate) instruments: bool,
    /// The card while its node runs.
    pub(crate) running_card: Option<SoundCard>,
    pub(crate) sabotage: Option<Sabotage>,
    pub(crate) hostile: Option<Hostile>,
    pub(crate) link: LinkPart,
    /// The Link app on it, while it runs.
    pub(crate) app: Option<LinkPeer>,
    pub(crate) signing_key: ed25519_dalek::SigningKey,
    pub(crate) peer: PeerKey,
    pub(crate) disk: Disk,
    pub(crate) node: Option<Node>,
    /// How often its node was started or ended: tells events of an older process.
    pub(crate) boot: u32,
    /// The earliest timer that is queued.
    pub(crate) wake_at: Option<WorldTime>,
    /// When the next callback of its card is due.
    pub(crate) callback_at: Option<WorldTime>,
    /// The connections its node has elected.
    pub(crate) connections: BTreeMap<HostId, ConnectionId>,
    /// Since when it sleeps.
    pub(crate) asleep: Option<WorldTime>,
    /// Connections whose end it will notice when it wakes up.
    pub(crate) missed: Vec<ConnectionId>,
}

impl Host {
    pub(crate) fn new(plan: &HostPlan, mut random: Random) -> Self {
        let signing_key = ed25519_dalek::SigningKey::from_bytes(&random.bytes());
        Self {
            name: plan.name.clone(),
            session: plan.session.clone(),
            tempo_bpm: plan.tempo_bpm,
            clock: plan.clock,
            card: plan.card,
            codec: plan.codec,
            instruments: plan.instruments,
            running_card: None,
            sabotage: plan.sabotage,
            hostile: plan.hostile,
            link: plan.link,
            app: None,
            peer: PeerKey(signing_key.verifying_key().to_bytes()),
            signing_key,
            disk: Disk::default(),
            node: None,
            boot: 0,
            wake_at: None,
            callback_at: None,
            connections: BTreeMap::new(),
            asleep: None,
            missed: vec![],
        }
    }

    /// What its steady clock shows, ns; it stands still while the host sleeps.
    pub(crate) fn local_at(&self, now: WorldTime) -> i64 {
        self.clock.local_at(self.asleep.map_or(now, |since| since.min(now)))
    }

    /// The clock jumps by so much, ns.
    pub(crate) fn step_clock(&mut self, by_ns: i64) {
        self.clock.offset_ns = self.clock.offset_ns.saturating_add(by_ns);
    }

    /// Whether its node runs and is awake.
    pub(crate) fn runs(&self) -> bool {
        self.node.is_some() && self.asleep.is_none()
    }
}
