//! A LAN full of announcements, most of them made up.
//!
//! Anybody on a LAN can announce any number of peers by mDNS. [`search`] lets the product's planner live on such a LAN
//! in virtual time: a friend announces itself as RFC 6762 asks (twice, and again whenever it is queried), some
//! announcements are lost, and a hostile machine announces a peer that does not exist many times a second. Dials of
//! those end after the time that nobody answers takes. What counts is when the friend is dialled, and that the
//! planner's tables stay inside their bounds meanwhile.
//!
//! The planner tells announcers apart by where an announcement comes from, so a machine that makes up peers uses up its own
//! share of hints, records and dials. Against one that also makes up where it is, only chance helps.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use transport::{
    Keypair, Multiaddr, PeerId,
    mesh::{Attempt, DialFailure, MAX_ADDRESSES, Output, Planner, Settings, Source},
    time::LocalTime,
};

use crate::random::Random;

/// The session of both.
const TAG: [u8; 8] = *b"jam\0\0\0\0\0";
/// Where the friend's announcements come from, and where the hostile machine's do.
const FRIEND: Source = Source::Discovery(IpAddr::V4(Ipv4Addr::new(192, 168, 1, 2)));
const LIAR: Source = Source::Discovery(IpAddr::V4(Ipv4Addr::new(192, 168, 1, 66)));
/// When the friend announces itself (twice) and answers queries, which are sent at doubling distances, seconds.
const ANNOUNCED_S: [f64; 8] = [5.0, 6.0, 7.0, 9.0, 13.0, 21.0, 37.0, 69.0];
/// How long a search is followed.
const LENGTH: Duration = Duration::from_secs(100);
/// Time after which a dial that nobody answers is given up.
const UNANSWERED: Duration = Duration::from_secs(5);
/// Step of virtual time.
const STEP: Duration = Duration::from_millis(5);
/// Share of announcements lost.
const LOSS: f64 = 0.05;

/// What became of a search.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Search {
    /// From the friend's first announcement to the first dial of it; `None` if it was never dialled.
    pub dialled_after: Option<Duration>,
    /// The most peers the planner remembered.
    pub most_peers: usize,
    /// The most dials that were under way at once.
    pub most_dials: usize,
    /// The most addresses in one dial.
    pub most_addresses: usize,
    /// Peers that do not exist and were dialled.
    pub fakes_dialled: usize,
}

/// Lets a planner look for a friend while `fakes_per_second` others are announced.
pub fn search(seed: u64, fakes_per_second: f64) -> Search {
    let mut random = Random::new(seed);
    let mut ids: Vec<PeerId> = (0..2).map(|_| peer(&mut random)).collect();
    // The smaller id dials at once.
    ids.sort_unstable();
    let (Some(&local), Some(&friend)) = (ids.first(), ids.last()) else { return Search::none() };
    let settings =
        Settings { local, session_tag: TAG, instance: random.bits(), pinned: false, seed: random.bits() };
    let mut planner = Planner::new(settings);
    let (mut found, mut fakes) = (Search::none(), BTreeSet::new());
    let mut dials: BTreeMap<Attempt, LocalTime> = BTreeMap::new();
    let mut announced = ANNOUNCED_S.iter().map(|at| Duration::from_secs_f64(*at)).peekable();
    let mut owed = 0.0;
    let mut elapsed = Duration::ZERO;
    while elapsed < LENGTH && found.dialled_after.is_none() {
        elapsed += STEP;
        let now = LocalTime::from_nanos(1_000_000_000) + elapsed;
        owed += fakes_per_second * STEP.as_secs_f64();
        while owed >= 1.0 {
            owed -= 1.0;
            let fake = peer(&mut random);
            let addresses: Vec<Multiaddr> = (0..12).filter_map(|_| address(&mut random)).collect();
            planner.handle_hint(now, LIAR, fake, TAG, &addresses);
        }
        if announced.next_if(|at| *at <= elapsed).is_some() && !random.chance(LOSS) {
            let addresses: Vec<Multiaddr> = address(&mut random).into_iter().collect();
            planner.handle_hint(now, FRIEND, friend, TAG, &addresses);
        }
        let over: Vec<Attempt> =
            dials.iter().filter(|(_, until)| **until <= now).map(|(it, _)| *it).collect();
        for attempt in over {
            dials.remove(&attempt);
            planner.handle_dial_failed(now, attempt, DialFailure::Unreachable);
        }
        if planner.poll_deadline().is_some_and(|at| at <= now) {
            planner.handle_deadline(now);
        }
        while let Some(output) = planner.poll() {
            let Output::Dial { attempt, peer, addresses, .. } = output else { continue };
            found.most_addresses = found.most_addresses.max(addresses.len());
            if peer == Some(friend) {
                let first = ANNOUNCED_S.first().map_or(Duration::ZERO, |at| Duration::from_secs_f64(*at));
                found.dialled_after.get_or_insert(elapsed.saturating_sub(first));
            } else {
                fakes.extend(peer);
                dials.insert(attempt, now + UNANSWERED);
            }
        }
        found.most_dials = found.most_dials.max(dials.len());
        found.most_peers = found.most_peers.max(planner.peer_count());
    }
    found.fakes_dialled = fakes.len();
    found
}

impl Search {
    fn none() -> Self {
        Self { dialled_after: None, most_peers: 0, most_dials: 0, most_addresses: 0, fakes_dialled: 0 }
    }

    /// Whether all tables stayed inside the bounds that the planner states.
    pub fn is_bounded(&self) -> bool {
        self.most_peers <= transport::mesh::MAX_PEERS && self.most_addresses <= MAX_ADDRESSES
    }
}

fn peer(random: &mut Random) -> PeerId {
    // Any 32 octets are an ed25519 secret; the fallback is never used.
    Keypair::ed25519_from_bytes(random.bytes::<32>())
        .map_or_else(|_| PeerId::random(), |key| key.public().to_peer_id())
}

fn address(random: &mut Random) -> Option<Multiaddr> {
    let (host, port) = (2 + random.below(250), 1_024 + random.below(60_000));
    format!("/ip4/192.168.1.{host}/udp/{port}/quic-v1").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn on_a_quiet_lan_a_friend_is_dialled_at_its_first_announcement_that_arrives() {
        for seed in 1..=10 {
            let found = search(seed, 0.0);
            assert!(
                found.dialled_after.is_some_and(|after| after < Duration::from_millis(4_500)),
                "{found:?}"
            );
            assert_eq!(found, search(seed, 0.0), "the same seed, the same search");
        }
    }

    #[test]
    fn a_flood_of_fake_announcements_fills_no_table_and_hides_nobody() {
        for seed in 1..=5 {
            let found = search(seed, 200.0);
            assert!(found.is_bounded(), "seed {seed}: {found:?}");
            assert!(found.fakes_dialled < 100, "seed {seed}: {found:?}");
            let soon = Duration::from_millis(4_500);
            assert!(found.dialled_after.is_some_and(|after| after < soon), "seed {seed}: {found:?}");
        }
    }
}
