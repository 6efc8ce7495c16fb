//! A LAN full of announcements of players who do not exist.

use crate::lan::Host;
use crdt::PeerKey;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::net::{Ipv4Addr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{JoinHandle, sleep};
use std::time::Duration;

/// As in TXT records: the first 8 octets of SHA-256 of `jam`, the session that everybody is in who names none.
const SESSION_TAG: &str = "7152e6ec048e24fa";

/// Between two packets. The packets are about 2,000 a second.
const PAUSE: Duration = Duration::from_micros(500);

/// Longest time that a record may ask to be remembered, seconds.
const TTL_S: u32 = 0x7fff_ffff;

/// DNS record types.
const A: u16 = 1;
const PTR: u16 = 12;
const TXT: u16 = 16;
const SRV: u16 = 33;

/// A hostile machine that announces another player with every packet, until it is dropped.
#[derive(Debug)]
pub struct Flood {
    sent: Arc<AtomicUsize>,
    is_over: Arc<AtomicBool>,
    sender: Option<JoinHandle<()>>,
}

impl Flood {
    /// Begins it from `host`.
    pub fn start(host: &Host, seed: u64) -> Self {
        let socket = host.run(|| UdpSocket::bind("0.0.0.0:5353")).expect("the mDNS port");
        let (sent, is_over) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let (count, end) = (sent.clone(), is_over.clone());
        let sender = std::thread::spawn(move || {
            let mut rng = StdRng::seed_from_u64(seed);
            while !end.load(Ordering::Relaxed) {
                let message = announcement(&mut rng);
                // A full buffer is no reason to stop.
                let _ = socket.send_to(&message, (Ipv4Addr::new(224, 0, 0, 251), 5353));
                count.fetch_add(1, Ordering::Relaxed);
                sleep(PAUSE);
            }
        });
        Self { sent, is_over, sender: Some(sender) }
    }

    /// How many players were announced so far.
    pub fn sent(&self) -> usize {
        self.sent.load(Ordering::Relaxed)
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        if let Some(sender) = self.sender.take() {
            let _ = sender.join();
        }
    }
}

/// A whole announcement, one that leaves everybody to ask for the rest, or one without what says whose it is.
fn announcement(rng: &mut StdRng) -> Vec<u8> {
    let peer = PeerKey(rng.random()).name();
    let instance = format!("bandmesh-{}", &peer[peer.len() - 20..]);
    let service = name(&["_bandmesh", "_udp", "local"]);
    let (full, host) = (name(&[&instance, "_bandmesh", "_udp", "local"]), name(&[&instance, "local"]));
    let pointer = (service, PTR, full.clone());
    let srv = [&[0, 0, 0, 0], &rng.random_range(1024u16..65000).to_be_bytes()[..], &host].concat();
    let text: Vec<u8> = ["v=1".to_owned(), format!("id={peer}"), format!("s={SESSION_TAG}")]
        .iter()
        .flat_map(|entry| [&[entry.len() as u8], entry.as_bytes()].concat())
        .collect();
    let address = vec![10, 77, 0, rng.random_range(100..250)];
    let rest = [(full.clone(), SRV, srv), (full, TXT, text), (host, A, address)];
    let records: Vec<_> = match rng.random_range(0..4) {
        0 => vec![pointer],
        1 => rest.into(),
        _ => [pointer].into_iter().chain(rest).collect(),
    };
    let mut message = vec![0, 0, 0x84, 0, 0, 0, 0, records.len() as u8, 0, 0, 0, 0];
    for (name, kind, data) in records {
        message.extend(name);
        message.extend(kind.to_be_bytes());
        message.extend(1u16.to_be_bytes());
        message.extend(TTL_S.to_be_bytes());
        message.extend((data.len() as u16).to_be_bytes());
        message.extend(data);
    }
    message
}

fn name(labels: &[&str]) -> Vec<u8> {
    let mut bytes: Vec<u8> =
        labels.iter().flat_map(|label| [&[label.len() as u8], label.as_bytes()].concat()).collect();
    bytes.push(0);
    bytes
}
