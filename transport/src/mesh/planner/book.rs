//! Whom we know, and at which addresses.

use std::collections::BTreeMap;

use libp2p::{Multiaddr, PeerId};

use super::{Attempt, ConnectionKey, FORGET_AFTER, MAX_ADDRESSES, MAX_PEERS, Planner, Source};
use crate::time::LocalTime;

#[derive(Debug)]
pub(super) struct Peer {
    pub(super) addresses: BTreeMap<Multiaddr, Known>,
    pub(super) elected: Option<ConnectionKey>,
    pub(super) dialling: Option<Attempt>,
    /// Its live connections, elected or not.
    pub(super) connections: usize,
    /// When to dial next, if it is not connected and has addresses.
    pub(super) next_dial: LocalTime,
    /// When to dial although connected, to move to another way.
    pub(super) replace_at: Option<LocalTime>,
    pub(super) failures: u32,
    pub(super) last_seen: LocalTime,
    pub(super) banned_until: Option<LocalTime>,
}

/// What we know of an address.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Known {
    /// The user named it; it is never forgotten.
    pub(super) named: bool,
    /// It answered last time.
    pub(super) good: bool,
}

#[derive(Debug)]
pub(super) struct Anonymous {
    pub(super) address: Multiaddr,
    /// Who answered there last; that peer's record has the address then.
    pub(super) peer: Option<PeerId>,
    pub(super) dialling: Option<Attempt>,
    pub(super) next_dial: LocalTime,
    pub(super) failures: u32,
    pub(super) ourselves: bool,
}

impl Planner {
    pub(super) fn name_address(&mut self, now: LocalTime, peer: PeerId, address: Multiaddr) {
        if self.peers.contains_key(&peer) || self.make_room() {
            let record = self.peers.entry(peer).or_insert_with(|| Peer::new(now, now));
            record.addresses.entry(address).or_default().named = true;
        }
    }

    /// Whether there is, or could be made, room for one more peer.
    pub(super) fn make_room(&mut self) -> bool {
        if self.peers.len() < MAX_PEERS {
            return true;
        }
        let expendable = |record: &Peer| {
            !record.is_busy() && record.banned_until.is_none() && record.failures > 0 && !record.is_named()
        };
        let worst = self
            .peers
            .iter()
            .filter(|(_, record)| expendable(record))
            .max_by_key(|(_, record)| record.failures);
        let Some(worst) = worst.map(|(peer, _)| *peer) else { return false };
        self.forget(&worst);
        true
    }

    pub(super) fn forget(&mut self, peer: &PeerId) {
        self.peers.remove(peer);
        self.buckets.remove(&Source::Peer(*peer));
    }

    pub(super) fn forget_the_lost(&mut self, now: LocalTime) {
        let lost = |record: &Peer| {
            let ban_over = record.banned_until.is_none_or(|until| until <= now);
            let stale = now.saturating_since(record.last_seen) > FORGET_AFTER || record.addresses.is_empty();
            !record.is_busy() && ban_over && !record.is_named() && stale
        };
        self.peers.retain(|_, record| !lost(record));
    }
}

impl Peer {
    pub(super) fn new(now: LocalTime, next_dial: LocalTime) -> Self {
        Self {
            addresses: BTreeMap::new(),
            elected: None,
            dialling: None,
            connections: 0,
            next_dial,
            replace_at: None,
            failures: 0,
            last_seen: now,
            banned_until: None,
        }
    }

    /// Remembers where it was reached last: a peer dials out of its listening socket, so where it comes from is where it
    /// can be reached. An address that is new is only learned if `learn`.
    pub(super) fn note_good(&mut self, address: &Multiaddr, learn: bool) {
        if !self.addresses.contains_key(address) {
            if !learn {
                return;
            }
            if self.addresses.len() >= MAX_ADDRESSES {
                // What answered just now is worth more than what did not.
                let stale = self.addresses.iter().find(|(_, known)| !known.named && !known.good);
                let Some((stale, _)) = stale.map(|(address, known)| (address.clone(), *known)) else {
                    return;
                };
                self.addresses.remove(&stale);
            }
        }
        for known in self.addresses.values_mut() {
            known.good = false;
        }
        self.addresses.entry(address.clone()).or_default().good = true;
    }

    /// Whether there is a connection, or may be one soon.
    pub(super) fn is_busy(&self) -> bool {
        self.connections > 0 || self.dialling.is_some()
    }

    pub(super) fn is_named(&self) -> bool {
        self.addresses.values().any(|known| known.named)
    }

    pub(super) fn wants_dial(&self) -> bool {
        !self.is_busy() && !self.addresses.is_empty()
    }

    /// When it may be dialled, ban considered.
    pub(super) fn dial_time(&self) -> LocalTime {
        self.banned_until.map_or(self.next_dial, |until| self.next_dial.max(until))
    }
}

impl Anonymous {
    pub(super) fn wants_dial(&self) -> bool {
        self.dialling.is_none() && !self.ourselves
    }
}
