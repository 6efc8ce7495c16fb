//! All peer sockets: carries out what [`crate::mesh`] decides.
//!
//! One QUIC connection per peer carries two ordered message [`Channel`]s and unreliable datagrams. [`start`] binds the
//! sockets, announces the node and runs until [`Mesh::shutdown`]. From then on [`Events`] tells who is here and what they
//! say, [`Mesh::send`] answers, and [`MediaTable`] carries audio, MIDI and clock packets past all queues.
//!
//! | queue | bound | when full |
//! |---|---|---|
//! | messages to one peer, per channel | 1024 messages; 1 MiB control, 16 MiB project | [`SendError::Full`] |
//! | messages from one peer, not yet taken from [`Events`] | 5 MiB | the peer's stream waits |
//! | events not yet taken | 1024 | all peers' streams wait |
//! | datagrams to one peer | 16 KiB | the oldest is dropped |
//! | datagrams from one peer | 256 KiB | the oldest is dropped |
//! | sightings from discovery | 256 | the newest is dropped, and seen again |

mod address;
mod bind;
mod channels;
mod congestion;
mod discovery;
mod frames;
mod mdns;
mod media;
mod muxer;
mod names;
mod net;
mod quic;
mod quic_config;
mod registry;
mod run;
#[cfg(test)]
mod tests;
mod throttle;
mod watch;

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use libp2p::identity::Keypair;
use libp2p::{Multiaddr, PeerId};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

pub use self::discovery::{Announcement, Sighting};
pub use self::frames::Channel;
use self::frames::Outbox;
pub use self::media::{MediaError, MediaTable, PathStats, Receiver};
pub use self::net::{InterfaceEvent, Net, SystemNet};
pub use self::quic_config::{KeyError, gather_entropy};
pub use crate::mesh::{DisconnectReason, PathKind};

/// How a mesh node is set up.
#[derive(Debug, Clone)]
pub struct Config {
    /// The node's identity; Ed25519.
    pub keypair: Keypair,
    /// Where to listen. `[::]:PORT` listens on that port of every address, IPv6 and IPv4.
    pub listen: SocketAddr,
    /// Listen on any free port if the given one is taken.
    pub fallback_to_any_port: bool,
    /// The session to play in. Nodes with another tag are kept out.
    pub session_tag: [u8; 8],
    /// What this node offers, a comma-separated list shown by mDNS browsers. Cut at 200 characters.
    pub services: String,
    /// Whether to announce and look for nodes on the LAN.
    pub mdns: bool,
    /// Addresses to dial until they answer, and whenever they are lost. They may have a name in place of an address.
    pub peers: Vec<Multiaddr>,
    /// Dial only `peers`, and look for nobody. Inbound connections are accepted.
    pub pin_peers: bool,
    /// Name and version of the program, told to peers.
    pub agent: String,
}

/// Why a mesh could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Choose another address.
    #[error("UDP address {address} is in use; stop the program that has it, or choose another with --listen")]
    AddressInUse {
        /// The one asked for.
        address: SocketAddr,
    },
    /// Choose another address.
    #[error("cannot listen on UDP address {address}: {source}; choose another with --listen")]
    Listen {
        /// The one asked for.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// Use an Ed25519 key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A peer address is not one we can dial.
    #[error(
        "peer address {0} cannot be dialled; write it as /ip4/ADDRESS/udp/PORT/quic-v1, /ip6/... or /dns/HOST/..., optionally with /p2p/PEER_ID"
    )]
    PeerAddress(Multiaddr),
    /// Call it from within one.
    #[error("the mesh must be started within a tokio runtime")]
    NoRuntime,
}

/// Something happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The addresses this node can be reached at, whenever they change. The first comes shortly after the start.
    Listening {
        /// All of them.
        addresses: Vec<Multiaddr>,
    },
    /// A peer of our session is here. Both channels and datagrams work from now on.
    PeerConnected {
        /// Who, proved by TLS.
        peer: PeerId,
        /// Where.
        address: Multiaddr,
        /// The kind of way to it.
        path: PathKind,
    },
    /// The way to a connected peer has changed. Nothing is lost.
    PathChanged {
        /// Who.
        peer: PeerId,
        /// Its new address.
        address: Multiaddr,
        /// The new kind of way.
        path: PathKind,
    },
    /// A peer is gone, with whatever was under way to and from it. When another connection took over,
    /// [`Event::PeerConnected`] follows at once: both channels begin anew then.
    PeerDisconnected {
        /// Who.
        peer: PeerId,
        /// Why.
        reason: DisconnectReason,
    },
    /// A message, in order within its channel.
    Message {
        /// From whom.
        peer: PeerId,
        /// On which channel.
        channel: Channel,
        /// What.
        bytes: Bytes,
    },
    /// Something the user can act on.
    Warning(String),
}

/// Why a message was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// Send less, or later.
    #[error("the queue to this peer is full; send again later")]
    Full,
    /// Wait for [`Event::PeerConnected`].
    #[error("the peer is not connected; wait until it is")]
    NotConnected,
    /// Split it.
    #[error("a message on this channel has at most {max_bytes} bytes; split it")]
    TooLarge {
        /// The limit.
        max_bytes: usize,
    },
}

/// One connected peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerInfo {
    /// Who.
    pub peer: PeerId,
    /// Where.
    pub address: Multiaddr,
    /// The kind of way to it.
    pub path: PathKind,
}

/// A running node of the mesh. Cheap to clone. It runs until [`Mesh::shutdown`], or until every clone is dropped.
#[derive(Debug, Clone)]
pub struct Mesh {
    shared: Arc<Shared>,
    commands: mpsc::Sender<Command>,
}

/// Starts a node on the current tokio runtime.
pub fn start(config: Config, net: Arc<dyn Net>) -> Result<(Mesh, Events), StartError> {
    run::start(config, net)
}

impl Mesh {
    /// Queues a message. Never waits.
    pub fn send(&self, peer: &PeerId, channel: Channel, message: Bytes) -> Result<(), SendError> {
        let peers = self.shared.peers.read().unwrap_or_else(PoisonError::into_inner);
        let entry = peers.get(peer).ok_or(SendError::NotConnected)?;
        match channel {
            Channel::Control => entry.control.send(message),
            Channel::Project => entry.project.send(message),
        }
    }

    /// Closes the connection to `peer`, telling it why, and does not dial it for half a minute.
    pub fn disconnect(&self, peer: PeerId, reason: impl Into<String>) {
        self.command(Command::Dismiss { peer, reason: reason.into() });
    }

    /// Gives up the connection to `peer`, from whom nothing comes any more, and dials it as after any loss.
    pub fn renew(&self, peer: PeerId) {
        self.command(Command::Renew(peer));
    }

    /// Closes the connection to `peer` and refuses new ones for `duration`.
    pub fn ban(&self, peer: PeerId, duration: Duration) {
        self.command(Command::Ban { peer, duration });
    }

    /// Dials `address` until it answers and whenever it is lost, as if it had been in [`Config::peers`].
    pub fn add_peer(&self, address: Multiaddr) -> Result<(), StartError> {
        bind::check_peer(&address)?;
        self.command(Command::Name(address));
        Ok(())
    }

    /// Passes on what the connected peer `from` says: that `peer`, of our session, can be reached at `addresses`.
    pub fn suggest(&self, from: PeerId, peer: PeerId, addresses: Vec<Multiaddr>) {
        self.command(Command::Suggest { from, peer, addresses });
    }

    /// The connected peers, by id.
    pub fn peers(&self) -> Vec<PeerInfo> {
        let peers = self.shared.peers.read().unwrap_or_else(PoisonError::into_inner);
        let mut infos: Vec<_> = peers.values().map(|entry| entry.info.clone()).collect();
        infos.sort_by_key(|info| info.peer);
        infos
    }

    /// Where this node can be reached.
    pub fn listen_addresses(&self) -> Vec<Multiaddr> {
        self.shared.listening.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The port this node listens on.
    pub fn port(&self) -> u16 {
        self.shared.port
    }

    /// This node's id.
    pub fn local_peer(&self) -> PeerId {
        self.shared.local
    }

    /// The media plane.
    pub fn media(&self) -> MediaTable {
        self.shared.media.clone()
    }

    /// Says goodbye to everybody and ends. Returns within a second. [`Events`] ends after it.
    pub async fn shutdown(&self) {
        let (done, waiting) = oneshot::channel();
        if self.commands.send(Command::Shutdown(done)).await.is_ok() {
            let _ = waiting.await;
        }
    }

    fn command(&self, command: Command) {
        // Full only if the caller outruns the mesh by hundreds of commands; each of these is advice, not bookkeeping.
        if self.commands.try_send(command).is_err() {
            tracing::warn!("the mesh is busy or stopped; a command was dropped");
        }
    }
}

/// What happens, in order. Not taking events holds the peers up, it loses nothing.
#[derive(Debug)]
pub struct Events {
    events: mpsc::Receiver<Delivery>,
}

impl Events {
    /// The next event; `None` after the mesh has stopped.
    pub async fn recv(&mut self) -> Option<Event> {
        // The peer may send more once its message has been taken.
        self.events.recv().await.map(|delivery| delivery.event)
    }

    /// The next event, if there is one now.
    pub fn try_recv(&mut self) -> Option<Event> {
        self.events.try_recv().ok().map(|delivery| delivery.event)
    }
}

/// An event on its way, and the share of its peer's budget that it takes up.
#[derive(Debug)]
struct Delivery {
    event: Event,
    _budget: Option<OwnedSemaphorePermit>,
}

impl From<Event> for Delivery {
    fn from(event: Event) -> Self {
        Self { event, _budget: None }
    }
}

#[derive(Debug)]
enum Command {
    Dismiss { peer: PeerId, reason: String },
    Renew(PeerId),
    Ban { peer: PeerId, duration: Duration },
    Name(Multiaddr),
    Suggest { from: PeerId, peer: PeerId, addresses: Vec<Multiaddr> },
    Shutdown(oneshot::Sender<()>),
}

/// What [`Mesh`] reads without asking the mesh's task.
#[derive(Debug)]
struct Shared {
    local: PeerId,
    port: u16,
    media: MediaTable,
    peers: RwLock<HashMap<PeerId, PeerEntry>>,
    listening: RwLock<Vec<Multiaddr>>,
}

#[derive(Debug)]
struct PeerEntry {
    info: PeerInfo,
    control: Outbox,
    project: Outbox,
}
