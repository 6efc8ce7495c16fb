//! The media plane: datagrams straight to and from a peer's QUIC connection, past libp2p and its task.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use libp2p::PeerId;
use quinn::{Connection, SendDatagramError};

use super::congestion::{DelayController, Share};

/// Called with every datagram of a connected peer, on the network runtime. It must not block.
pub type Receiver = Arc<dyn Fn(PeerId, Bytes) + Send + Sync>;

/// Why a datagram was not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MediaError {
    /// Wait for the peer to connect.
    #[error("the peer is not connected; wait until it is")]
    NotConnected,
    /// Make smaller packets.
    #[error("the path carries datagrams of at most {max_bytes} bytes; make smaller packets")]
    TooLarge {
        /// The longest datagram this path carries now.
        max_bytes: usize,
    },
    /// Talk to this peer over channels only.
    #[error("the peer accepts no datagrams; use a channel")]
    Unsupported,
}

/// What QUIC knows about the way to a peer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PathStats {
    /// Smoothed round trip.
    pub rtt: Duration,
    /// Smallest round trip seen.
    pub min_rtt: Duration,
    /// Longest datagram the path carries, in bytes; `None` if the peer accepts none.
    pub max_datagram_bytes: Option<usize>,
    /// Congestion window, in bytes.
    pub window_bytes: u64,
    /// UDP packets sent.
    pub sent_packets: u64,
    /// Of these, found lost.
    pub lost_packets: u64,
    /// Bytes sent, UDP payload.
    pub sent_bytes: u64,
    /// Bytes received, UDP payload.
    pub received_bytes: u64,
}

/// Sends datagrams to connected peers. Cheap to clone; every method may be called from any thread, none waits for the
/// network. They lock and allocate, so never call them from the audio callback.
#[derive(Clone, Default)]
pub struct MediaTable(Arc<Inner>);

#[derive(Default)]
struct Inner {
    links: RwLock<HashMap<PeerId, Link>>,
    receiver: RwLock<Option<Receiver>>,
}

struct Link {
    connection: Connection,
    share: Option<Arc<Share>>,
}

impl MediaTable {
    /// Sends one datagram, unreliably. When the path is too slow, the oldest ones waiting are dropped for it.
    pub fn send(&self, peer: &PeerId, datagram: Bytes) -> Result<(), MediaError> {
        let links = self.0.links.read().unwrap_or_else(PoisonError::into_inner);
        let link = links.get(peer).ok_or(MediaError::NotConnected)?;
        let length = datagram.len();
        link.connection.send_datagram(datagram).map_err(|error| match error {
            SendDatagramError::TooLarge => {
                MediaError::TooLarge { max_bytes: link.connection.max_datagram_size().unwrap_or(0) }
            }
            SendDatagramError::UnsupportedByPeer | SendDatagramError::Disabled => MediaError::Unsupported,
            SendDatagramError::ConnectionLost(_) => MediaError::NotConnected,
        })?;
        if let Some(share) = &link.share {
            share.add_media(length);
        }
        Ok(())
    }

    /// The longest datagram `peer` can be sent now, in bytes. May grow as the path is probed, and shrink when it changes.
    pub fn max_datagram(&self, peer: &PeerId) -> Option<usize> {
        self.with(peer, |connection| connection.max_datagram_size())?
    }

    /// Smoothed round trip to `peer`.
    pub fn rtt(&self, peer: &PeerId) -> Option<Duration> {
        self.with(peer, |connection| connection.rtt())
    }

    /// What QUIC knows about the way to `peer`.
    pub fn path_stats(&self, peer: &PeerId) -> Option<PathStats> {
        self.with(peer, |connection| {
            let stats = connection.stats();
            PathStats {
                rtt: connection.rtt(),
                min_rtt: connection.min_rtt(),
                max_datagram_bytes: connection.max_datagram_size(),
                window_bytes: stats.path.cwnd,
                sent_packets: stats.path.sent_packets,
                lost_packets: stats.path.lost_packets,
                sent_bytes: stats.udp_tx.bytes,
                received_bytes: stats.udp_rx.bytes,
            }
        })
    }

    /// Sets who gets the datagrams of all peers, from now on. Until then they are dropped.
    pub fn set_receiver(&self, receiver: Receiver) {
        *self.0.receiver.write().unwrap_or_else(PoisonError::into_inner) = Some(receiver);
    }

    fn with<T>(&self, peer: &PeerId, f: impl FnOnce(&Connection) -> T) -> Option<T> {
        let links = self.0.links.read().unwrap_or_else(PoisonError::into_inner);
        links.get(peer).map(|link| f(&link.connection))
    }

    /// Media for `peer` takes this connection from now on.
    pub(crate) fn insert(&self, peer: PeerId, connection: Connection) {
        let share = share_of(&connection);
        self.0.links.write().unwrap_or_else(PoisonError::into_inner).insert(peer, Link { connection, share });
    }

    /// `peer` takes no more media.
    pub(crate) fn remove(&self, peer: &PeerId) {
        self.0.links.write().unwrap_or_else(PoisonError::into_inner).remove(peer);
    }

    /// Hands the datagrams of one connection to the receiver until the connection ends.
    pub(crate) async fn receive(self, peer: PeerId, connection: Connection) {
        while let Ok(datagram) = connection.read_datagram().await {
            let receiver = self.0.receiver.read().unwrap_or_else(PoisonError::into_inner).clone();
            if let Some(receiver) = receiver {
                receiver(peer, datagram);
            }
        }
    }
}

/// What the controller of a connection shares with those who send over it; `None` if it is not ours.
pub(crate) fn share_of(connection: &Connection) -> Option<Arc<Share>> {
    let controller = connection.congestion_state().into_any().downcast::<DelayController>();
    controller.ok().map(|controller| controller.share())
}

impl fmt::Debug for MediaTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let links = self.0.links.read().unwrap_or_else(PoisonError::into_inner);
        f.debug_struct("MediaTable").field("peers", &links.len()).finish_non_exhaustive()
    }
}
