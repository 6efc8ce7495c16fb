//! One machine of the world: its clock, its disk, its sound card, and the node on it, if one runs.

use std::collections::BTreeMap;

use crdt::PeerKey;

use crate::{
    clock::{HostClock, WorldTime},
    disk::Disk,
    network::{ConnectionId, HostId},
    node::{Node, Sabotage},
    plan::HostPlan,
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
    /// The card while its node runs.
    pub(crate) running_card: Option<SoundCard>,
    pub(crate) sabotage: Option<Sabotage>,
    pub(crate) signing_key: ed25519_dalek::SigningKey,
    pub(crate) peer: PeerKey,
    pub(crate) disk: Disk,
    pub(crate) node: Option<Node>,
    /// How often its node was started or ended: tells events of an older process.
    pub(crate) boot: u32,
    /// The earliest timer that is queued.
    pub(crate) wake_at: Option<WorldTime>,
    /// Connections its node knows of.
    pub(crate) connections: BTreeMap<HostId, ConnectionId>,
    /// Peers it takes no connection from, and until when.
    pub(crate) banned: BTreeMap<HostId, WorldTime>,
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
            running_card: None,
            sabotage: plan.sabotage,
            peer: PeerKey(signing_key.verifying_key().to_bytes()),
            signing_key,
            disk: Disk::default(),
            node: None,
            boot: 0,
            wake_at: None,
            connections: BTreeMap::new(),
            banned: BTreeMap::new(),
        }
    }

    pub(crate) fn bans(&self, peer: HostId, now: WorldTime) -> bool {
        self.banned.get(&peer).is_some_and(|until| now < *until)
    }
}
