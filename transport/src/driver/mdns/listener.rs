//! Who else is on the LAN: asks by multicast every few seconds and reads what comes, on a thread for each address family.
//!
//! Nothing that comes is kept but the names of a few who answered lately, who are told that they need not answer again so
//! soon. mDNS's own way, to keep all records until their time is over, lets the sender choose how much is kept and for how
//! long, and repeats it all with each question. And an answer says that somebody is there now, not that it was an hour ago,
//! which is what those need to know who look for a lost friend.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::thread;
use std::time::{Duration, Instant};

use if_addrs::get_if_addrs;
use libp2p::{Multiaddr, PeerId};
use rand::Rng as _;
use simple_dns::Name;
use socket_pktinfo::{PktInfo, PktInfoUdpSocket};
use socket2::{Domain, InterfaceIndexOrAddress, Socket};
use tokio::sync::mpsc;

use super::super::address::{is_dialable, to_multiaddr};
use super::super::discovery::Sighting;
use super::message::{self, Instance};
use super::{INTERFACE_CHECK, from_hex};
use crate::mesh::{Bucket, Buckets};
use crate::time::LocalTime;

const PORT: u16 = 5353;
const GROUP_V4: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 251);
const GROUP_V6: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0xfb);

/// An announcement lost on Wi-Fi must not leave a player alone for the minutes that mDNS's own growing intervals take.
const ASK_EVERY: Duration = Duration::from_secs(4);

/// The first question is repeated after this (RFC 6762, section 5.2).
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// The first question waits for so long and up to as long again, so that a band that is switched on together does not ask
/// in step.
const FIRST_DELAY_MS: u64 = 20;

/// Whoever answered need not answer again for this long. Multicast is slow on Wi-Fi: it goes at the lowest rate.
const NEED_NOT_ANSWER: Duration = Duration::from_secs(18);

/// Of so many we remember on each interface that they answered there. All others are heard each time.
const MAX_KNOWN: usize = 32;

/// How soon a listener notices that nobody listens to it.
const PATIENCE: Duration = Duration::from_millis(250);

/// Longest message (RFC 6762, section 17).
const MAX_MESSAGE_BYTES: usize = 9000;

/// Room for the answers of a large LAN. The kernel caps it silently.
const SOCKET_BUFFER_BYTES: usize = 1 << 20;

/// Sources whose sightings are limited one by one.
const MAX_SOURCES: usize = 64;

/// All sightings together that are passed on at once, and per second from then on: each wakes the network thread, which
/// has music to carry.
const BURST: f64 = 256.0;
const PER_SECOND: f64 = 128.0;

/// Errors in a row after which a socket is given a rest.
const MANY_ERRORS: u32 = 64;

/// Whom to look for, and who wants to know.
#[derive(Debug, Clone)]
pub(super) struct Search {
    pub(super) own: PeerId,
    pub(super) session_tag: [u8; 8],
    pub(super) sightings: mpsc::Sender<Sighting>,
}

/// Starts a thread that looks by `family` until nobody wants to know any more.
pub(super) fn start(family: Domain, search: Search) -> io::Result<()> {
    let listener = Listener::new(family, search)?;
    let name = if family == Domain::IPV4 { "mdns-ipv4" } else { "mdns-ipv6" };
    thread::Builder::new().name(name.to_owned()).spawn(move || listener.run())?;
    Ok(())
}

/// Beside whatever other mDNS programs the machine runs.
fn bind(family: Domain) -> io::Result<PktInfoUdpSocket> {
    let socket = PktInfoUdpSocket::new(family)?;
    socket.set_reuse_address(true)?;
    #[cfg(unix)]
    socket.set_reuse_port(true)?;
    let any: SocketAddr = if family == Domain::IPV4 {
        (Ipv4Addr::UNSPECIFIED, PORT).into()
    } else {
        (Ipv6Addr::UNSPECIFIED, PORT).into()
    };
    let settings = Socket::from(socket.try_clone_std()?);
    if family == Domain::IPV6 {
        settings.set_only_v6(true)?;
        socket.set_multicast_hops_v6(255)?;
    } else {
        socket.set_multicast_ttl_v4(255)?;
    }
    // A smaller buffer still works.
    let _ = settings.set_recv_buffer_size(SOCKET_BUFFER_BYTES);
    settings.set_read_timeout(Some(PATIENCE))?;
    socket.bind(&any.into())?;
    Ok(socket)
}

/// One interface, and for IPv4 the address that stands for it.
type InterfaceKey = (u32, IpAddr);

struct Listener {
    socket: PktInfoUdpSocket,
    /// The same socket, for what the other type does not offer.
    memberships: Socket,
    filter: Filter,
    family: Domain,
    interfaces: Vec<InterfaceKey>,
    checked: Option<Instant>,
    ask_at: Instant,
    asked: bool,
}

impl Listener {
    fn new(family: Domain, search: Search) -> io::Result<Self> {
        let socket = bind(family)?;
        let memberships = Socket::from(socket.try_clone_std()?);
        let delay = Duration::from_millis(rand::rng().random_range(FIRST_DELAY_MS..2 * FIRST_DELAY_MS));
        Ok(Self {
            socket,
            memberships,
            filter: Filter::new(search),
            family,
            interfaces: Vec::new(),
            checked: None,
            ask_at: Instant::now() + delay,
            asked: false,
        })
    }

    fn run(mut self) {
        let mut buffer = vec![0; MAX_MESSAGE_BYTES];
        let mut errors = 0;
        while !self.filter.search.sightings.is_closed() {
            let now = Instant::now();
            if self.checked.is_none_or(|checked| now.duration_since(checked) >= INTERFACE_CHECK) {
                self.checked = Some(now);
                self.check_interfaces(now);
            }
            if self.ask_at <= now {
                self.ask(now);
            }
            match self.socket.recv(&mut buffer) {
                Ok((length, from)) => {
                    errors = 0;
                    self.filter.handle(Instant::now(), buffer.get(..length).unwrap_or_default(), &from);
                }
                // Also what an empty packet leads to.
                Err(_) => {
                    errors += 1;
                    if errors > MANY_ERRORS {
                        thread::sleep(Duration::from_millis(1));
                    }
                }
            }
        }
    }

    /// Follows the interfaces that there are. A look that fails tells of none.
    fn check_interfaces(&mut self, now: Instant) {
        let Ok(addresses) = get_if_addrs() else { return };
        let mut found: Vec<InterfaceKey> = addresses
            .into_iter()
            .filter(|interface| interface.ip().is_ipv4() == (self.family == Domain::IPV4))
            .filter_map(|interface| Some((interface.index?, interface.ip())))
            .collect();
        found.sort();
        found.dedup_by_key(|(index, _)| *index);
        self.listen_on(now, found);
    }

    /// Listens on these interfaces and no others, and asks at once where one is new.
    fn listen_on(&mut self, now: Instant, found: Vec<InterfaceKey>) {
        // Linux keeps the memberships of interfaces that are gone, and a socket may have 20 (igmp_max_memberships).
        for (index, _) in self.interfaces.iter().filter(|(index, _)| !found.iter().any(|it| it.0 == *index)) {
            // It may never have been joined.
            let _ = self.leave(*index);
        }
        for key in &found {
            let (index, ip) = *key;
            let joined = match self.join(index) {
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => Ok(()),
                joined => joined,
            };
            // One that could not be joined is tried again at each look, and was told of at the first.
            if self.interfaces.contains(key) {
                continue;
            }
            if let Err(error) = joined {
                tracing::warn!("others on the network of {ip} cannot be heard by multicast yet ({error})");
            }
            // It may lead to another network than before, or to the same people at other addresses.
            self.filter.forget_known(index);
            if self.asked {
                self.ask_at = now;
            }
        }
        self.interfaces = found;
    }

    /// By index, as the system keeps it: an address may change, and is unknown once the interface is gone.
    fn join(&self, index: u32) -> io::Result<()> {
        if self.family == Domain::IPV4 {
            self.memberships.join_multicast_v4_n(&GROUP_V4, &InterfaceIndexOrAddress::Index(index))
        } else {
            self.memberships.join_multicast_v6(&GROUP_V6, index)
        }
    }

    fn leave(&self, index: u32) -> io::Result<()> {
        if self.family == Domain::IPV4 {
            self.memberships.leave_multicast_v4_n(&GROUP_V4, &InterfaceIndexOrAddress::Index(index))
        } else {
            self.memberships.leave_multicast_v6(&GROUP_V6, index)
        }
    }

    fn ask(&mut self, now: Instant) {
        self.ask_at = now + if self.asked { ASK_EVERY } else { ASK_AGAIN_AFTER };
        self.asked = true;
        for (index, ip) in &self.interfaces {
            let query = message::query(self.filter.known(now, *index));
            // An interface that is down, or has no multicast, does not keep the others from being asked.
            let _ = match ip {
                IpAddr::V4(ip) => self
                    .socket
                    .set_multicast_if_v4(ip)
                    .and_then(|()| self.socket.send_to(&query, &SocketAddr::from((GROUP_V4, PORT)).into())),
                IpAddr::V6(_) => {
                    let group = SocketAddrV6::new(GROUP_V6, PORT, 0, *index);
                    self.socket
                        .set_multicast_if_v6(*index)
                        .and_then(|()| self.socket.send_to(&query, &SocketAddr::from(group).into()))
                }
            };
        }
    }
}

/// What of all that is said on the LAN the mesh shall hear.
struct Filter {
    search: Search,
    origin: Instant,
    known: Vec<Known>,
    sources: Buckets<IpAddr>,
    all: Bucket,
}

/// Somebody who answered.
struct Known {
    name: Name<'static>,
    /// Where. On another one it must answer yet, to tell its address there.
    interface: u32,
    heard: Instant,
    ttl_s: u32,
}

impl Filter {
    fn new(search: Search) -> Self {
        let now = LocalTime::from_nanos(0);
        let all = Bucket::with(now, BURST, PER_SECOND);
        Self { search, origin: Instant::now(), known: Vec::new(), sources: Buckets::new(MAX_SOURCES), all }
    }

    /// Who need not answer a question on `interface` now, and for how long the answer holds yet.
    fn known(&mut self, now: Instant, interface: u32) -> impl Iterator<Item = (&Name<'static>, u32)> {
        self.known.retain(|known| now.saturating_duration_since(known.heard) < NEED_NOT_ANSWER);
        self.known.iter().filter(move |known| known.interface == interface).map(move |known| {
            let age = now.saturating_duration_since(known.heard).as_secs();
            (&known.name, known.ttl_s.saturating_sub(u32::try_from(age).unwrap_or(u32::MAX)))
        })
    }

    fn forget_known(&mut self, interface: u32) {
        self.known.retain(|known| known.interface != interface);
    }

    fn handle(&mut self, now: Instant, message: &[u8], from: &PktInfo) {
        // Only what was said to all on this network, by an mDNS program: a stranger far away cannot (RFC 6762, section 11).
        if !from.addr_dst.is_multicast() || from.addr_src.port() != PORT {
            return;
        }
        let (source, interface) = (from.addr_src.ip(), from.if_index as u32);
        for instance in message::read(message) {
            let Some((sighting, session_tag)) = sighting(&instance, source, interface) else {
                continue;
            };
            let peer = match &sighting {
                Sighting::Seen { peer, .. } | Sighting::Gone { peer } => *peer,
            };
            self.note_known(now, instance, interface);
            if peer == self.search.own || session_tag != self.search.session_tag {
                continue;
            }
            let at = LocalTime::from_nanos(0) + now.saturating_duration_since(self.origin);
            if self.sources.take(at, source) && self.all.take(at) {
                // Full: it will be repeated.
                let _ = self.search.sightings.try_send(sighting);
            }
        }
    }

    fn note_known(&mut self, now: Instant, instance: Instance, interface: u32) {
        self.known.retain(|known| known.interface != interface || known.name != instance.name);
        let count = self.known.iter().filter(|known| known.interface == interface).count();
        if instance.ttl_s > 0 && count < MAX_KNOWN {
            self.known.push(Known { name: instance.name, interface, heard: now, ttl_s: instance.ttl_s });
        }
    }
}

/// What a record says, if it is one of ours and makes sense, and of which session.
fn sighting(instance: &Instance, from: IpAddr, interface: u32) -> Option<(Sighting, [u8; 8])> {
    let peer = instance.property("id")?.parse().ok()?;
    let session_tag = from_hex(instance.property("s")?)?;
    if instance.ttl_s == 0 {
        return Some((Sighting::Gone { peer }, session_tag));
    }
    let version = instance.property("v")?.parse().ok()?;
    let mut addresses: Vec<_> =
        instance.addresses.iter().filter_map(|ip| address(*ip, instance.port, interface)).collect();
    addresses.sort();
    (!addresses.is_empty())
        .then_some((Sighting::Seen { peer, version, session_tag, addresses, from }, session_tag))
}

fn address(ip: IpAddr, port: u16, interface: u32) -> Option<Multiaddr> {
    let socket: SocketAddr = match ip {
        IpAddr::V6(v6) if v6.is_unicast_link_local() => SocketAddrV6::new(v6, port, 0, interface).into(),
        ip => SocketAddr::new(ip, port),
    };
    is_dialable(&socket).then(|| to_multiaddr(socket))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TAG: [u8; 8] = *b"jamjamja";

    fn search() -> (Search, mpsc::Receiver<Sighting>) {
        let (sightings, heard) = mpsc::channel(1 << 16);
        (Search { own: PeerId::random(), session_tag: TAG, sightings }, heard)
    }

    fn filter() -> (Filter, mpsc::Receiver<Sighting>) {
        let (search, heard) = search();
        (Filter::new(search), heard)
    }

    /// What a node says of itself.
    fn announcement(peer: PeerId, session_tag: [u8; 8], ttl_s: u32) -> Vec<u8> {
        let id = format!("id={peer}");
        let tag = format!("s={}", super::super::to_hex(&session_tag));
        message::tests::message(&[(&id[20..], vec!["v=1", &id, &tag])], ttl_s)
    }

    /// The interface all is heard on.
    const WIFI: u32 = 3;

    fn from(last: u8) -> PktInfo {
        PktInfo {
            if_index: WIFI.into(),
            addr_src: ([10, 0, 0, last], PORT).into(),
            addr_dst: GROUP_V4.into(),
        }
    }

    fn all(heard: &mut mpsc::Receiver<Sighting>) -> Vec<Sighting> {
        std::iter::from_fn(|| heard.try_recv().ok()).collect()
    }

    #[test]
    fn a_node_is_seen_with_its_addresses_and_goes_with_its_record() {
        let (mut filter, mut heard) = filter();
        let (now, peer) = (Instant::now(), PeerId::random());
        filter.handle(now, &announcement(peer, TAG, 4500), &from(1));
        filter.handle(now, &announcement(peer, TAG, 0), &from(1));
        let addresses = vec!["/ip4/10.0.0.1/udp/7778/quic-v1".parse().unwrap()];
        let seen =
            Sighting::Seen { peer, version: 1, session_tag: TAG, addresses, from: [10, 0, 0, 1].into() };
        assert_eq!(all(&mut heard), [seen, Sighting::Gone { peer }]);
    }

    #[test]
    fn other_sessions_our_own_voice_and_what_was_not_said_to_all_are_left_out() {
        let (mut filter, mut heard) = filter();
        let now = Instant::now();
        filter.handle(now, &announcement(PeerId::random(), *b"elsewher", 4500), &from(1));
        filter.handle(now, &announcement(filter.search.own, TAG, 4500), &from(1));
        let to_us = PktInfo { addr_dst: [10, 0, 0, 9].into(), ..from(1) };
        filter.handle(now, &announcement(PeerId::random(), TAG, 4500), &to_us);
        let no_mdns = PktInfo { addr_src: ([10, 0, 0, 1], 1234).into(), ..from(1) };
        filter.handle(now, &announcement(PeerId::random(), TAG, 4500), &no_mdns);
        assert_eq!(all(&mut heard), []);
    }

    #[test]
    fn a_flood_is_held_back_and_fills_nothing_while_a_friend_is_heard() {
        let (mut filter, mut heard) = filter();
        let (start, friend) = (Instant::now(), PeerId::random());
        for number in 0..5_000 {
            let now = start + Duration::from_micros(200 * number);
            filter.handle(now, &announcement(PeerId::random(), TAG, u32::MAX), &from(66));
        }
        let end = start + Duration::from_secs(1);
        filter.handle(end, &announcement(friend, TAG, 4500), &from(1));
        let heard = all(&mut heard);
        assert!(heard.len() < 100, "{} sightings", heard.len());
        assert!(matches!(heard.last(), Some(Sighting::Seen { peer, .. }) if *peer == friend));
        assert!(filter.known(end, WIFI).count() <= MAX_KNOWN);
    }

    #[test]
    fn who_answered_need_not_answer_for_a_while_and_then_must_again() {
        let (mut filter, _heard) = filter();
        let now = Instant::now();
        filter.handle(now, &announcement(PeerId::random(), TAG, 4500), &from(1));
        let after = |filter: &mut Filter, seconds| {
            let known = filter.known(now + Duration::from_secs(seconds), WIFI);
            known.map(|(_, ttl_s)| ttl_s).collect::<Vec<_>>()
        };
        assert_eq!(after(&mut filter, 4), [4496]);
        assert_eq!(after(&mut filter, 17), [4483]);
        assert_eq!(after(&mut filter, 18), []);
    }

    #[test]
    fn who_answered_on_wifi_must_answer_on_ethernet_too() {
        let (mut filter, _heard) = filter();
        let (now, bob) = (Instant::now(), PeerId::random());
        let ethernet = WIFI + 1;
        filter.handle(now, &announcement(bob, TAG, 4500), &from(1));
        assert_eq!((filter.known(now, WIFI).count(), filter.known(now, ethernet).count()), (1, 0));
        let there = PktInfo { if_index: ethernet.into(), ..from(1) };
        filter.handle(now, &announcement(bob, TAG, 4500), &there);
        assert_eq!((filter.known(now, WIFI).count(), filter.known(now, ethernet).count()), (1, 1));
    }

    #[test]
    fn a_new_network_is_asked_at_once_and_everybody_there_must_answer() {
        let (search, _heard) = search();
        let mut listener = Listener::new(Domain::IPV4, search).unwrap();
        let now = Instant::now();
        let later = now + ASK_EVERY;
        (listener.asked, listener.ask_at) = (true, later);
        listener.interfaces = vec![(WIFI, [10, 0, 0, 9].into())];
        listener.filter.handle(now, &announcement(PeerId::random(), TAG, 4500), &from(1));
        listener.listen_on(now, listener.interfaces.clone());
        assert_eq!((listener.ask_at, listener.filter.known(now, WIFI).count()), (later, 1));
        listener.listen_on(now, vec![(WIFI, [10, 1, 0, 9].into())]);
        assert_eq!((listener.ask_at, listener.filter.known(now, WIFI).count()), (now, 0));
    }

    #[test]
    fn the_group_of_an_interface_that_is_gone_is_left() {
        // Many a machine has no IPv6.
        for loopback in get_if_addrs().unwrap().into_iter().filter(|it| it.is_loopback()) {
            let family = if loopback.ip().is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
            let key = (loopback.index.unwrap(), loopback.ip());
            let mut listener = Listener::new(family, search().0).unwrap();
            listener.listen_on(Instant::now(), vec![key]);
            assert_eq!(listener.join(key.0).map_err(|error| error.kind()), Err(io::ErrorKind::AddrInUse));
            listener.listen_on(Instant::now(), Vec::new());
            listener.join(key.0).unwrap();
        }
    }
}
