//! Discovery on the LAN: DNS-SD over multicast DNS (RFC 6763, RFC 6762), service `_bandmesh._udp.local`.
//!
//! Any mDNS browser shows the record, for example `avahi-browse -rt _bandmesh._udp`. Its TXT fields are `v` (protocol
//! version), `id` (peer id), `s` (session tag, hexadecimal) and `sv` (services).
//!
//! The instance name is derived from the peer id, which nobody else can have, so the record is announced without probing
//! for conflicts first (RFC 6762, section 8.1 allows that) and is there three quarters of a second earlier.
//!
//! The `mdns-sd` crate announces and answers. It does not look for others, since whoever floods the LAN with records fills
//! its cache, which has no bound; [`listener`] does.

mod listener;
mod message;

use std::io;
use std::pin::Pin;
use std::sync::mpsc as queue;
use std::task::{Context, Poll};
use std::thread;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::{BoxStream, Stream};
use mdns_sd::{ServiceDaemon, ServiceInfo};
use socket2::Domain;
use tokio::sync::mpsc;

use self::listener::Search;
use super::discovery::{Announcement, Sighting};

const SERVICE_TYPE: &str = "_bandmesh._udp.local.";

/// Addresses appear and vanish with cables and networks; look this often.
const INTERFACE_CHECK: Duration = Duration::from_secs(2);

/// How long withdrawing the record may hold up the end.
const GOODBYE_PATIENCE: Duration = Duration::from_millis(100);

/// Sightings waiting for the mesh. Full: the newest is dropped, it will be repeated.
const MAX_WAITING: usize = 256;

/// How often the responder is looked after.
const CACHE_CHECK: Duration = Duration::from_secs(1);

/// Records of others that the responder may hold. It keeps those that come without anybody's PTR record, and drops them when
/// their sender wants; with more than these it is made anew.
const MAX_CACHED: i64 = 4096;

/// Announces `own` and yields the others. Dropping the stream withdraws the announcement.
pub(crate) fn discover(own: Announcement) -> io::Result<BoxStream<'static, Sighting>> {
    let announcer = Announcer::start(&own)?;
    let (stop, stopped) = queue::sync_channel(1);
    let (done, ended) = queue::sync_channel(1);
    thread::Builder::new().name("mdns".to_owned()).spawn(move || {
        announcer.run(&stopped);
        let _ = done.send(());
    })?;
    let (sightings, waiting) = mpsc::channel(MAX_WAITING);
    let search = Search { own: own.peer, session_tag: own.session_tag, sightings };
    let started = [Domain::IPV4, Domain::IPV6].map(|family| listener::start(family, search.clone()));
    let discovery = Discovery { stop, ended, waiting };
    match started {
        [Err(error), Err(_)] => return Err(error),
        [Err(error), Ok(())] => {
            tracing::warn!("cannot look for others on the LAN by IPv4 ({error}); name them with --peer");
        }
        // Many a machine has no IPv6.
        [Ok(()), Err(error)] => tracing::debug!(%error, "mDNS without IPv6"),
        [Ok(()), Ok(())] => {}
    }
    Ok(discovery.boxed())
}

/// What this node shows to others.
struct Announcer {
    daemon: ServiceDaemon,
    record: ServiceInfo,
}

impl Announcer {
    fn start(own: &Announcement) -> io::Result<Self> {
        let record = record(own, "")?.enable_addr_auto();
        Ok(Self { daemon: Self::announce(&record)?, record })
    }

    fn announce(record: &ServiceInfo) -> io::Result<ServiceDaemon> {
        let daemon = ServiceDaemon::new().map_err(to_io)?;
        let _ = daemon.set_ip_check_interval(INTERFACE_CHECK.as_secs() as u32);
        daemon.register(record.clone()).map_err(to_io)?;
        Ok(daemon)
    }

    /// Looks after the responder until told to stop, or nobody could any more.
    fn run(mut self, stopped: &queue::Receiver<()>) {
        while stopped.recv_timeout(CACHE_CHECK) == Err(queue::RecvTimeoutError::Timeout) {
            if self.cached().is_none_or(|records| records > MAX_CACHED) {
                self.renew();
            }
        }
        // The goodbye has to be out before the process ends, and this is the end; the daemon takes a moment at most.
        if let Ok(withdrawn) = self.daemon.unregister(self.record.get_fullname()) {
            let _ = withdrawn.recv_timeout(GOODBYE_PATIENCE);
        }
        let _ = self.daemon.shutdown();
    }

    /// How many records of others the responder holds; `None` if it is gone, or too busy to say.
    fn cached(&self) -> Option<i64> {
        let answer = self.daemon.get_metrics().ok()?;
        let metrics = answer.recv_timeout(CACHE_CHECK).ok()?;
        Some(metrics.iter().filter(|(name, _)| name.starts_with("cached-")).map(|(_, count)| count).sum())
    }

    fn renew(&mut self) {
        tracing::debug!("mDNS is flooded; its responder is made anew");
        // A moment's goodbye; the announcement follows.
        if let Ok(ended) = self.daemon.shutdown() {
            let _ = ended.recv_timeout(GOODBYE_PATIENCE);
        }
        match Self::announce(&self.record) {
            Ok(daemon) => self.daemon = daemon,
            Err(error) => tracing::debug!(%error, "mDNS cannot be started again yet"),
        }
    }
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
    stop: queue::SyncSender<()>,
    ended: queue::Receiver<()>,
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
        let _ = self.stop.try_send(());
        let _ = self.ended.recv_timeout(GOODBYE_PATIENCE);
    }
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
}
