//! Whom we know, and at which addresses.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use libp2p::{Multiaddr, PeerId};

use super::{
    Attempt, ConnectionKey, FORGET_AFTER, FORGET_UNPROVEN_AFTER, MAX_ADDRESSES, MAX_PEERS,
    MAX_PEERS_PER_SOURCE, Planner, Source,
};
use crate::time::LocalTime;

#[derive(Debug)]
pub(super) struct Peer {
    pub(super) addresses: BTreeMap<Multiaddr, Known>,
    /// Who told of it; `None`: it came by itself, or the user named it.
    pub(super) source: Option<Source>,
    /// It has said hello, which nobody can make up.
    pub(super) is_proven: bool,
    pub(super) elected: Option<ConnectionKey>,
    /// When the last one was elected.
    pub(super) elected_at: LocalTime,
    pub(super) dialling: Option<Attempt>,
    /// Its live connections, elected or not.
    pub(super) connections: usize,
    /// When to dial next, if it is not connected and has addresses.
    pub(super) next_dial: LocalTime,
    /// When it was dialled last.
    pub(super) dialled: LocalTime,
    /// It is left alone until then, whatever is heard of it.
    pub(super) quiet_until: LocalTime,
    /// When to dial although connected, to move to another way.
    pub(super) replace_at: Option<LocalTime>,
    /// Dials in a row that came to nothing while the connection they were to replace went on. They say nothing of how a
    /// lost peer is to be dialled, so `failures` does not count them.
    pub(super) replace_failures: u32,
    pub(super) failures: u32,
    /// Connections in a row that were given up, soon after they were made, because nothing came.
    pub(super) renewals: u32,
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
    /// It was dialled, and has not answered since.
    pub(super) is_doubtful: bool,
    /// Who told of it; `None`: the peer came from there, or the user named it.
    pub(super) source: Option<Source>,
    /// When it was told of last.
    pub(super) heard: LocalTime,
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

    /// How many peers each has told of that never said hello.
    pub(super) fn crowds(&self) -> BTreeMap<Option<Source>, usize> {
        let mut crowds = BTreeMap::new();
        for record in self.peers.values().filter(|record| record.is_hearsay()) {
            *crowds.entry(record.source).or_default() += 1;
        }
        crowds
    }

    /// Whether there is, or could be made, room for one more peer that `source` tells of.
    pub(super) fn make_room_for(&mut self, source: Source) -> bool {
        let crowds = self.crowds();
        let own = crowds.get(&Some(source)).copied().unwrap_or(0);
        let has_share = own < MAX_PEERS_PER_SOURCE;
        if has_share && (self.peers.len() < MAX_PEERS || crowds.is_empty()) {
            return self.make_room();
        }
        // One that did not answer, with its share used up one of its own; else one of the largest crowd, if its own stays
        // smaller.
        let largest = crowds.into_iter().max_by_key(|(_, count)| *count);
        self.remove_worst(|record| {
            record.is_hearsay()
                && if has_share {
                    let is_of_largest = |(most, count)| record.source == most && count > own + 1;
                    record.failures > 0 || largest.is_some_and(is_of_largest)
                } else {
                    record.failures > 0 && record.source == Some(source)
                }
        })
    }

    /// Whether there is, or could be made, room for one more peer of which more is known than somebody's word. Whoever has
    /// said hello leaves last.
    pub(super) fn make_room(&mut self) -> bool {
        self.peers.len() < MAX_PEERS || self.remove_worst(|record| record.is_hearsay() || record.failures > 0)
    }

    /// Forgets one of those that are `expendable`, if there is any.
    fn remove_worst(&mut self, expendable: impl Fn(&Peer) -> bool) -> bool {
        let worst = self
            .peers
            .iter()
            .filter(|(_, it)| !it.is_busy() && it.banned_until.is_none() && !it.is_named() && expendable(it))
            .max_by_key(|(_, record)| (record.is_hearsay(), record.failures));
        let Some(worst) = worst.map(|(peer, _)| *peer) else { return false };
        self.peers.remove(&worst);
        true
    }

    pub(super) fn forget_the_lost(&mut self, now: LocalTime) {
        let lost = |record: &Peer| {
            let ban_over = record.banned_until.is_none_or(|until| until <= now);
            let after = match record.source {
                Some(Source::Discovery(_)) if record.is_hearsay() => FORGET_UNPROVEN_AFTER,
                _ => FORGET_AFTER,
            };
            let stale = now.saturating_since(record.last_seen) > after || record.addresses.is_empty();
            !record.is_busy() && ban_over && !record.is_named() && stale
        };
        self.peers.retain(|_, record| !lost(record));
    }
}

impl Peer {
    pub(super) fn new(now: LocalTime, next_dial: LocalTime) -> Self {
        Self {
            addresses: BTreeMap::new(),
            source: None,
            is_proven: false,
            elected: None,
            elected_at: now,
            dialling: None,
            connections: 0,
            next_dial,
            dialled: now,
            quiet_until: now,
            replace_at: None,
            replace_failures: 0,
            failures: 0,
            renewals: 0,
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
            // What answered just now is worth more than what did not.
            if self.addresses.len() >= MAX_ADDRESSES && !self.drop_address(None) {
                return;
            }
        }
        for known in self.addresses.values_mut() {
            known.good = false;
        }
        let known = self.addresses.entry(address.clone()).or_default();
        (known.good, known.is_doubtful) = (true, false);
    }

    /// Notes that `source` says it is at `address`; whether that is news.
    pub(super) fn note_heard(&mut self, now: LocalTime, address: Multiaddr, source: Source) -> bool {
        if let Some(known) = self.addresses.get_mut(&address) {
            known.heard = now;
            return false;
        }
        if self.addresses.len() >= MAX_ADDRESSES && !self.drop_address(Some(source)) {
            return false;
        }
        let known = Known { source: Some(source), heard: now, ..Known::default() };
        self.addresses.insert(address, known);
        true
    }

    /// Makes room for an address that `source` tells of, if one is of less use. Nobody's addresses crowd out those that
    /// another tells of: a liar might tell of somebody else's peer.
    fn drop_address(&mut self, source: Option<Source>) -> bool {
        let spare = |known: &Known| !known.named && !known.good;
        let mut crowds: BTreeMap<Option<Source>, usize> = BTreeMap::new();
        for known in self.addresses.values().filter(|known| spare(known)) {
            *crowds.entry(known.source).or_default() += 1;
        }
        let crowd = |source: &Option<Source>| crowds.get(source).copied().unwrap_or(0);
        let own = crowd(&source);
        // What did not answer goes before what was not tried yet, and the oldest first.
        let loser = self
            .addresses
            .iter()
            .filter(|(_, known)| spare(known) && (known.source == source || crowd(&known.source) > own))
            .max_by_key(|(_, known)| (crowd(&known.source), known.is_doubtful, Reverse(known.heard)));
        let Some(loser) = loser.map(|(address, _)| address.clone()) else { return false };
        self.addresses.remove(&loser);
        true
    }

    /// Brings the next dial forward.
    pub(super) fn hasten(&mut self, to: LocalTime) {
        self.next_dial = self.next_dial.min(to.max(self.quiet_until));
    }

    /// Whether it may be made up.
    pub(super) fn is_hearsay(&self) -> bool {
        !self.is_proven && self.source.is_some() && !self.is_named()
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
