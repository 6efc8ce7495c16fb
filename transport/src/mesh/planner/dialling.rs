//! When who is dialled, and under which addresses.

use std::collections::BTreeMap;
use std::time::Duration;

use libp2p::PeerId;

use super::super::backoff;
use super::super::path;
use super::super::reason::DialFailure;
use super::book::Peer;
use super::{
    Attempt, DEFERENCE, EAGER_CAP, EAGER_FOR, MAX_DIALS, MAX_DIALS_PER_ANNOUNCER, MAX_DIALS_PER_PEER,
    MAX_HEARSAY_DIALS, MAX_REPLACE_DIALS, Output, PATIENT_CAP, Planner, Source, Target, split_peer,
};
use crate::time::LocalTime;

impl Planner {
    /// A dial came to nothing.
    pub fn handle_dial_failed(&mut self, now: LocalTime, attempt: Attempt, failure: DialFailure) {
        let Some(target) = self.attempts.remove(&attempt) else { return };
        let random = self.random.unit();
        match target {
            Target::Peer { peer, replaces } => {
                let Some(record) = self.peers.get_mut(&peer) else { return };
                record.dialling = None;
                match failure {
                    DialFailure::AlreadyConnected(_) => return,
                    DialFailure::WrongPeer { address, .. } => {
                        let (address, _) = split_peer(address);
                        if record.addresses.get(&address).is_some_and(|known| !known.named) {
                            record.addresses.remove(&address);
                        }
                    }
                    DialFailure::Ourselves => record.addresses.retain(|_, known| known.named),
                    DialFailure::Unreachable => {}
                }
                if replaces && record.elected.is_some() {
                    record.replace_failures = record.replace_failures.saturating_add(1);
                    if record.replace_failures < MAX_REPLACE_DIALS {
                        let pause = backoff::delay(record.replace_failures, EAGER_CAP, random);
                        record.replace_at = Some(now + pause);
                    }
                    return;
                }
                record.failures = record.failures.saturating_add(1);
                let eager = now.saturating_since(record.last_seen) < EAGER_FOR;
                let cap = if eager { EAGER_CAP } else { PATIENT_CAP };
                record.next_dial = now + backoff::delay(record.failures, cap, random);
            }
            Target::Anonymous(address) => {
                let Some(anonymous) = self.anonymous.iter_mut().find(|a| a.address == address) else {
                    return;
                };
                anonymous.dialling = None;
                anonymous.failures = anonymous.failures.saturating_add(1);
                anonymous.next_dial = now + backoff::delay(anonymous.failures, EAGER_CAP, random);
                match failure {
                    DialFailure::AlreadyConnected(peer) => {
                        anonymous.peer = Some(peer);
                        anonymous.failures = 0;
                        self.name_address(now, peer, address);
                    }
                    DialFailure::Ourselves => {
                        anonymous.ourselves = true;
                        self.warn(format!("the peer address {address} is this node itself; leave it out"));
                    }
                    DialFailure::Unreachable | DialFailure::WrongPeer { .. } => {}
                }
            }
        }
    }

    pub(super) fn start_replacements(&mut self, now: LocalTime) {
        let due: Vec<_> = self
            .peers
            .iter()
            .filter(|(_, record)| record.replace_at.is_some_and(|at| at <= now))
            .map(|(peer, _)| *peer)
            .collect();
        for peer in due {
            let Some(record) = self.peers.get_mut(&peer) else { continue };
            record.replace_at = None;
            let Some(record) = self.peers.get(&peer) else { continue };
            let has_another = record.dialling.is_none() && !record.addresses.is_empty();
            if record.elected.is_some_and(|elected| !self.is_within_reach(elected)) && has_another {
                self.dial_peer(now, peer, true);
            }
        }
    }

    pub(super) fn start_dials(&mut self, now: LocalTime) {
        let due: Vec<_> = self
            .waiting()
            .filter(|(_, record)| record.dial_time() <= now)
            .map(|(peer, record)| (record.is_hearsay(), record.failures, record.source, *peer))
            .collect();
        // Those who have answered before come first, so that a flood of fakes cannot keep friends waiting; then those of whom
        // somebody tells who tells of few; of these any, since a flood could choose its peer ids.
        let is_short = due.len() > MAX_DIALS.saturating_sub(self.attempts.len());
        let crowds = if is_short { self.crowds() } else { BTreeMap::new() };
        let mut due: Vec<_> = due
            .into_iter()
            .map(|(is_hearsay, failures, source, peer)| {
                let crowd = if is_hearsay { crowds.get(&source).copied().unwrap_or(0) } else { 0 };
                let chance = if is_short { self.random.next() } else { 0 };
                (is_hearsay, failures, crowd, chance, peer)
            })
            .collect();
        due.sort();
        let mut dialled = self.dialled_hearsay();
        for (is_hearsay, .., peer) in due {
            if self.attempts.len() >= MAX_DIALS {
                break;
            }
            if is_hearsay {
                let source = self.peers.get(&peer).and_then(|record| record.source);
                if !may_dial(&dialled, source) {
                    continue;
                }
                *dialled.entry(source).or_default() += 1;
            }
            self.dial_peer(now, peer, false);
        }
        for index in 0..self.anonymous.len() {
            if self.attempts.len() >= MAX_DIALS {
                break;
            }
            let attempt = self.new_attempt();
            let Some(anonymous) = self.anonymous.get_mut(index) else { break };
            // Once we know whose address it is, that peer's record has it, and dials it until it fails for good.
            let owner = anonymous.peer.and_then(|peer| self.peers.get(&peer));
            let answered = owner.is_some_and(|owner| owner.is_busy() || owner.failures < 3);
            if anonymous.wants_dial() && anonymous.next_dial <= now && !answered {
                anonymous.dialling = Some(attempt);
                let address = anonymous.address.clone();
                self.attempts.insert(attempt, Target::Anonymous(address.clone()));
                self.outputs.push_back(Output::Dial {
                    attempt,
                    peer: None,
                    addresses: vec![address],
                    replaces: false,
                });
            } else if answered && anonymous.next_dial <= now {
                anonymous.next_dial = now + EAGER_CAP;
            }
        }
    }

    /// Dials in progress to peers that each has told of and that never said hello.
    fn dialled_hearsay(&self) -> BTreeMap<Option<Source>, usize> {
        let mut dialled = BTreeMap::new();
        for record in self.peers.values().filter(|it| it.dialling.is_some() && it.is_hearsay()) {
            *dialled.entry(record.source).or_default() += 1;
        }
        dialled
    }

    /// The peers to be dialled when their time has come. Whoever waits for another dial's end is left out: the outcome of
    /// that one brings us back.
    pub(super) fn waiting(&self) -> impl Iterator<Item = (&PeerId, &Peer)> {
        let dialled = self.dialled_hearsay();
        self.peers.iter().filter(move |(_, record)| {
            record.wants_dial() && (!record.is_hearsay() || may_dial(&dialled, record.source))
        })
    }

    pub(super) fn dial_peer(&mut self, now: LocalTime, peer: PeerId, replaces: bool) {
        let attempt = self.new_attempt();
        let Some(record) = self.peers.get_mut(&peer) else { return };
        let mut addresses: Vec<_> = record
            .addresses
            .iter()
            .map(|(address, known)| (!known.good, self.subnets.rank(address), address))
            .collect();
        addresses.sort();
        // All are dialled at once and the first to answer wins. A link-local address wins often, but a connection over it
        // cannot move when that link goes, so it is kept for when nothing else works.
        let has_better = addresses.iter().any(|(.., address)| !path::is_link_local(address));
        let failures = if replaces { record.replace_failures } else { record.failures };
        let spare_link_local = has_better && failures == 0;
        let addresses = addresses
            .into_iter()
            .map(|(.., address)| address.clone())
            .filter(|address| !(spare_link_local && path::is_link_local(address)))
            .collect();
        for known in record.addresses.values_mut() {
            known.is_doubtful = true;
        }
        record.dialling = Some(attempt);
        record.dialled = now;
        self.attempts.insert(attempt, Target::Peer { peer, replaces });
        self.outputs.push_back(Output::Dial { attempt, peer: Some(peer), addresses, replaces });
    }

    pub(super) fn new_attempt(&mut self) -> Attempt {
        self.next_attempt += 1;
        Attempt(self.next_attempt)
    }

    /// How long `peer` may go first.
    pub(super) fn deference(&self, peer: &PeerId) -> Duration {
        // A pinned node is tested against nodes that may be pinned too: only one of them need know the other's address.
        if self.settings.local < *peer || self.settings.pinned { Duration::ZERO } else { DEFERENCE }
    }

    pub(super) fn keep_quiet(&mut self, now: LocalTime, peer: &PeerId, duration: Duration) {
        if let Some(record) = self.peers.get_mut(peer) {
            record.next_dial = record.next_dial.max(now + duration);
            record.quiet_until = record.quiet_until.max(now + duration);
        }
        for anonymous in self.anonymous.iter_mut().filter(|a| a.peer == Some(*peer)) {
            anonymous.next_dial = anonymous.next_dial.max(now + duration);
        }
    }
}

/// Whether there is a place for one more dial on the word of `source`, with so many under way on that of each.
fn may_dial(dialled: &BTreeMap<Option<Source>, usize>, source: Option<Source>) -> bool {
    let own = dialled.get(&source).copied().unwrap_or(0);
    let share = match source {
        Some(Source::Peer(_)) => MAX_DIALS_PER_PEER,
        _ => MAX_DIALS_PER_ANNOUNCER,
    };
    own < share && dialled.values().sum::<usize>() < MAX_HEARSAY_DIALS
}
