//! When who is dialled, and under which addresses.

use std::time::Duration;

use libp2p::PeerId;

use super::super::backoff;
use super::super::path;
use super::super::reason::DialFailure;
use super::{
    Attempt, DEFERENCE, EAGER_CAP, EAGER_FOR, MAX_DIALS, Output, PATIENT_CAP, Planner, Target, split_peer,
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
                record.failures = record.failures.saturating_add(1);
                let eager = now.saturating_since(record.last_seen) < EAGER_FOR;
                let cap = if eager { EAGER_CAP } else { PATIENT_CAP };
                let again = now + backoff::delay(record.failures, cap, random);
                record.next_dial = again;
                if replaces && record.elected.is_some() && record.failures < 4 {
                    record.replace_at = Some(again);
                }
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
            if record.elected.is_some() && record.dialling.is_none() && !record.addresses.is_empty() {
                self.dial_peer(peer, true);
            }
        }
    }

    pub(super) fn start_dials(&mut self, now: LocalTime) {
        let mut due: Vec<_> = self
            .peers
            .iter()
            .filter(|(_, record)| record.wants_dial() && record.dial_time() <= now)
            .map(|(peer, record)| (record.failures, *peer))
            .collect();
        // Those who have answered before come first, so that a flood of fakes cannot keep friends waiting.
        due.sort();
        for (_, peer) in due {
            if self.attempts.len() < MAX_DIALS {
                self.dial_peer(peer, false);
            }
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

    pub(super) fn dial_peer(&mut self, peer: PeerId, replaces: bool) {
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
        let spare_link_local = has_better && record.failures == 0;
        let addresses = addresses
            .into_iter()
            .map(|(.., address)| address.clone())
            .filter(|address| !(spare_link_local && path::is_link_local(address)))
            .collect();
        record.dialling = Some(attempt);
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
        }
        for anonymous in self.anonymous.iter_mut().filter(|a| a.peer == Some(*peer)) {
            anonymous.next_dial = anonymous.next_dial.max(now + duration);
        }
    }
}
