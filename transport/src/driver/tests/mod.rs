//! Whole nodes on real loopback sockets, and on a network in memory.

mod loopback;
mod stock;
mod virtual_time;
mod world;

use std::sync::Arc;
use std::time::Duration;

use libp2p::identity::Keypair;

use super::*;

const PATIENCE: Duration = Duration::from_secs(20);

/// A node with its events, as the stories use it.
struct Node {
    mesh: Mesh,
    events: Events,
}

impl Node {
    fn start(config: Config, net: Arc<dyn Net>) -> Self {
        let (mesh, events) = start(config, net).unwrap();
        Self { mesh, events }
    }

    fn id(&self) -> PeerId {
        self.mesh.local_peer()
    }

    /// Waits for the first event that `pick` wants; the others are skipped.
    async fn until<T>(&mut self, what: &str, mut pick: impl FnMut(Event) -> Option<T>) -> T {
        let found = async {
            loop {
                let event =
                    self.events.recv().await.unwrap_or_else(|| panic!("ended while waiting for {what}"));
                if let Some(found) = pick(event) {
                    return found;
                }
            }
        };
        tokio::time::timeout(PATIENCE, found).await.unwrap_or_else(|_| panic!("waited in vain for {what}"))
    }

    async fn connected(&mut self, who: PeerId) -> PathKind {
        self.until("a connection", |event| match event {
            Event::PeerConnected { peer, path, .. } if peer == who => Some(path),
            _ => None,
        })
        .await
    }

    async fn disconnected(&mut self, who: PeerId) -> DisconnectReason {
        self.until("a disconnection", |event| match event {
            Event::PeerDisconnected { peer, reason } if peer == who => Some(reason),
            _ => None,
        })
        .await
    }

    async fn message(&mut self) -> (PeerId, Channel, Bytes) {
        self.until("a message", |event| match event {
            Event::Message { peer, channel, bytes } => Some((peer, channel, bytes)),
            _ => None,
        })
        .await
    }

    async fn listening(&mut self) -> Vec<Multiaddr> {
        self.until("addresses", |event| match event {
            Event::Listening { addresses } => Some(addresses),
            _ => None,
        })
        .await
    }

    /// Collects the datagrams this node receives from now on.
    fn collect_datagrams(&self) -> mpsc::UnboundedReceiver<(PeerId, Bytes)> {
        let (sender, receiver) = mpsc::unbounded_channel();
        self.mesh.media().set_receiver(Arc::new(move |peer, bytes| {
            let _ = sender.send((peer, bytes));
        }));
        receiver
    }
}

fn key(seed: u8) -> Keypair {
    Keypair::ed25519_from_bytes([seed; 32]).unwrap()
}

fn id(seed: u8) -> PeerId {
    key(seed).public().to_peer_id()
}

/// A node that looks for nobody and dials nobody.
fn config(seed: u8, listen: &str) -> Config {
    Config {
        keypair: key(seed),
        listen: listen.parse().unwrap(),
        fallback_to_any_port: false,
        session_tag: *b"testtest",
        services: String::new(),
        mdns: false,
        peers: Vec::new(),
        pin_peers: false,
        agent: "bandmesh/test".to_owned(),
    }
}

fn quic_address(ip: &str, port: u16) -> Multiaddr {
    let family = if ip.contains(':') { "ip6" } else { "ip4" };
    format!("/{family}/{ip}/udp/{port}/quic-v1").parse().unwrap()
}
