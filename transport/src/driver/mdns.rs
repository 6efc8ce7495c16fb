//! Discovery on the LAN: DNS-SD over multicast DNS (RFC 6763, RFC 6762), service `_bandmesh._udp.local`.
//!
//! Any mDNS browser shows the record, for example `avahi-browse -rt _bandmesh._udp`. Its TXT fields are `v` (protocol
//! version), `id` (peer id), `s` (session tag, hexadecimal) and `sv` (services).
//!
//! The instance name is derived from the peer id, which nobody else can have, so the record is announced without probing
//! for conflicts first (RFC 6762, section 8.1 allows that) and is there three quarters of a second earlier. Queries are
//! repeated every few seconds: an announcement lost on Wi-Fi must not leave a player alone for the minutes that mDNS's own
//! growing intervals would take.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::thread;
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use futures::stream::{BoxStream, Stream};
use libp2p::{Multiaddr, PeerId};
use mdns_sd::{ResolvedService, ScopedIp, ServiceDaemon, ServiceEvent, ServiceInfo};
use tokio::sync::mpsc;

use super::address::{is_dialable, to_multiaddr};
use super::discovery::{Announcement, Sighting};

const SERVICE_TYPE: &str = "_bandmesh._udp.local.";

const QUERY_EVERY: Duration = Duration::from_secs(4);

/// Addresses appear and vanish with cables and networks; look this often.
const INTERFACE_CHECK_SECS: u32 = 2;

/// How long withdrawing the record may hold up the end.
const GOODBYE_PATIENCE: Duration = Duration::from_millis(100);

/// Sightings waiting for the mesh. Full: the newest is dropped, it will be repeated.
const MAX_WAITING: usize = 256;

/// Instances remembered to name them when they go. A flood of fakes beyond this goes unnamed.
const MAX_INSTANCES: usize = 1024;

/// Announces `own` and yields the others. Dropping the stream withdraws the announcement.
pub(crate) fn discover(own: Announcement) -> io::Result<BoxStream<'static, Sighting>> {
    let daemon = ServiceDaemon::new().map_err(to_io)?;
    let _ = daemon.set_ip_check_interval(INTERFACE_CHECK_SECS);
    let record = record(&own, "")?.enable_addr_auto();
    let name = record.get_fullname().to_owned();
    daemon.register(record).map_err(to_io)?;
    let events = daemon.browse(SERVICE_TYPE).map_err(to_io)?;

    let (sightings, waiting) = mpsc::channel(MAX_WAITING);
    let browser = Browser { daemon: daemon.clone(), own: own.peer, peers: HashMap::new(), sightings };
    thread::Builder::new().name("mdns".to_owned()).spawn(move || browser.run(events))?;
    Ok(Discovery { daemon, name, waiting }.boxed())
}

/// The DNS-SD record of this node, at a comma-separated list of addresses.
fn record(own: &Announcement, addresses: &str) -> io::Result<ServiceInfo> {
    let peer = own.peer.to_string();
    // A label holds 63 bytes. The last characters of a peer id are the random ones.
    let short = peer.get(peer.len().saturating_sub(20)..).unwrap_or(&peer);
    let instance = format!("bandmesh-{short}");
    let host = format!("bandmesh-{short}.local.");
    let session_tag = to_hex(&own.session_tag);
    let version = own.version.to_string();
    let services: String = own.services.chars().take(200).collect();
    let properties = [("v", version.as_str()), ("id", &peer), ("s", &session_tag), ("sv", &services)];
    let mut record = ServiceInfo::new(SERVICE_TYPE, &instance, &host, addresses, own.port, &properties[..])
        .map_err(to_io)?;
    record.set_requires_probe(false);
    Ok(record)
}

/// The mesh's end.
struct Discovery {
    daemon: ServiceDaemon,
    name: String,
    waiting: mpsc::Receiver<Sighting>,
}

impl Stream for Discovery {
    type Item = Sighting;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Sighting>> {
        self.waiting.poll_recv(cx)
    }
}

impl Drop for Discovery {
    fn drop(&mut self) {
        // The goodbye has to be out before the process ends, and this is the end; the daemon takes a moment at most.
        if let Ok(withdrawn) = self.daemon.unregister(&self.name) {
            let _ = withdrawn.recv_timeout(GOODBYE_PATIENCE);
        }
        let _ = self.daemon.shutdown();
    }
}

/// The daemon's end: a thread, because the daemon's queues are for threads.
struct Browser {
    daemon: ServiceDaemon,
    own: PeerId,
    /// Who is behind an instance name, for when it goes.
    peers: HashMap<String, PeerId>,
    sightings: mpsc::Sender<Sighting>,
}

impl Browser {
    fn run(mut self, mut events: mdns_sd::Receiver<ServiceEvent>) {
        let mut asked = Instant::now();
        loop {
            match events.recv_timeout(QUERY_EVERY.saturating_sub(asked.elapsed())) {
                Ok(event) => self.handle(event),
                // A daemon that is gone answers the next browse with an error.
                Err(_) => asked = Instant::now() - QUERY_EVERY,
            }
            if self.sightings.is_closed() {
                return;
            }
            if asked.elapsed() >= QUERY_EVERY {
                // Browsing anew sends a query now and repeats what the cache holds.
                match self.daemon.browse(SERVICE_TYPE) {
                    Ok(renewed) => events = renewed,
                    Err(mdns_sd::Error::Again) => {}
                    Err(_) => return,
                }
                asked = Instant::now();
            }
        }
    }

    fn handle(&mut self, event: ServiceEvent) {
        let sighting = match event {
            ServiceEvent::ServiceResolved(service) => {
                let Some(seen) = sighting(&service) else { return };
                if let Sighting::Seen { peer, .. } = seen
                    && (self.peers.len() < MAX_INSTANCES || self.peers.contains_key(&service.fullname))
                {
                    self.peers.insert(service.fullname.clone(), peer);
                }
                seen
            }
            ServiceEvent::ServiceRemoved(_, name) => match self.peers.remove(&name) {
                Some(peer) => Sighting::Gone { peer },
                None => return,
            },
            _ => return,
        };
        let is_own =
            matches!(sighting, Sighting::Seen { peer, .. } | Sighting::Gone { peer } if peer == self.own);
        if !is_own {
            let _ = self.sightings.try_send(sighting);
        }
    }
}

/// What a record says, if it is one of ours and makes sense.
fn sighting(service: &ResolvedService) -> Option<Sighting> {
    let peer = service.get_property_val_str("id")?.parse().ok()?;
    let version = service.get_property_val_str("v")?.parse().ok()?;
    let session_tag = from_hex(service.get_property_val_str("s")?)?;
    let mut addresses: Vec<_> = service.addresses.iter().filter_map(|ip| address(ip, service.port)).collect();
    addresses.sort();
    (!addresses.is_empty()).then_some(Sighting::Seen { peer, version, session_tag, addresses })
}

fn address(ip: &ScopedIp, port: u16) -> Option<Multiaddr> {
    let socket: SocketAddr = match (ip, ip.to_ip_addr()) {
        (ScopedIp::V6(scoped), IpAddr::V6(v6)) if v6.is_unicast_link_local() => {
            SocketAddrV6::new(v6, port, 0, scoped.scope_id().index).into()
        }
        (_, ip) => SocketAddr::new(ip, port),
    };
    is_dialable(&socket).then(|| to_multiaddr(socket))
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_hex(text: &str) -> Option<[u8; 8]> {
    if text.len() != 16 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    Some(u64::from_str_radix(text, 16).ok()?.to_be_bytes())
}

fn to_io(error: mdns_sd::Error) -> io::Error {
    match error {
        mdns_sd::Error::Msg(text) => io::Error::other(text),
        error => io::Error::other(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_survive_the_record() {
        let tag = [0, 1, 2, 0xab, 0xcd, 0xff, 7, 8];
        assert_eq!(from_hex(&to_hex(&tag)), Some(tag));
        for text in ["", "0", "+123456789abcdef", "0123456789abcdefa", "0123456789abcdeg"] {
            assert_eq!(from_hex(text), None, "{text}");
        }
    }

    #[test]
    fn our_own_record_reads_back() {
        let own = Announcement {
            version: 1,
            peer: PeerId::random(),
            session_tag: *b"jamjamja",
            services: "x".repeat(500),
            port: 7778,
        };
        let record = record(&own, "10.0.0.1").unwrap();
        let seen = sighting(&record.as_resolved_service());
        let addresses = vec!["/ip4/10.0.0.1/udp/7778/quic-v1".parse().unwrap()];
        assert_eq!(
            seen,
            Some(Sighting::Seen { peer: own.peer, version: 1, session_tag: own.session_tag, addresses })
        );
    }
}
