//! Which quinn connection is behind a libp2p connection.
//!
//! libp2p hides the muxer once the swarm owns it, but media needs the connection itself. The transport enters every
//! authenticated connection here before the swarm hears of it, and the mesh claims it by what libp2p reports: peer, side
//! and address. Two unclaimed connections can only look alike if one peer made both, so a mix-up could only ever swap a
//! peer's own connections. The muxer removes its entry, and closes the connection, when the swarm lets go of it.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use libp2p::PeerId;
use quinn::{Connection, Endpoint};

/// Live connections and endpoints. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Registry(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    connections: Vec<Entry>,
    endpoints: Vec<Endpoint>,
}

#[derive(Debug)]
struct Entry {
    peer: PeerId,
    remote: SocketAddr,
    connection: Connection,
    claimed: bool,
}

impl Registry {
    /// Enters a connection whose peer has proved its identity. `remote` is the address libp2p will report.
    pub(crate) fn insert(&self, peer: PeerId, remote: SocketAddr, connection: Connection) {
        self.lock().connections.push(Entry { peer, remote, connection, claimed: false });
    }

    /// Takes the newest unclaimed connection that fits.
    pub(crate) fn claim(&self, peer: PeerId, side: quinn::Side, remote: SocketAddr) -> Option<Connection> {
        let mut inner = self.lock();
        let entry = inner.connections.iter_mut().rev().find(|entry| {
            !entry.claimed && entry.peer == peer && entry.remote == remote && entry.connection.side() == side
        })?;
        entry.claimed = true;
        Some(entry.connection.clone())
    }

    /// Forgets a connection.
    pub(crate) fn remove(&self, stable_id: usize) {
        self.lock().connections.retain(|entry| entry.connection.stable_id() != stable_id);
    }

    /// Notes an endpoint, to be waited for at the end.
    pub(crate) fn insert_endpoint(&self, endpoint: Endpoint) {
        self.lock().endpoints.push(endpoint);
    }

    /// Closes every endpoint with `code`, and gives the goodbyes up to `patience` to leave.
    pub(crate) async fn close(
        &self,
        code: u32,
        reason: &[u8],
        sleep: impl Fn(Duration) -> futures::future::BoxFuture<'static, ()>,
        patience: Duration,
    ) {
        let endpoints = std::mem::take(&mut self.lock().endpoints);
        for endpoint in &endpoints {
            endpoint.close(code.into(), reason);
        }
        let idle = futures::future::join_all(endpoints.iter().map(Endpoint::wait_idle));
        futures::future::select(Box::pin(idle), sleep(patience)).await;
    }

    /// Connections entered and not removed.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.lock().connections.len()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing panics while holding it, and the list stays usable if something did.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
