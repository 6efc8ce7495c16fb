//! The network on a thread of its own.
//!
//! A control request or a merge may keep the other runtime busy for milliseconds; packets may not wait for
//! it. So the mesh, quinn and the receive path of media run on one thread with a single-threaded runtime, at
//! realtime priority where the system permits it.
//!
//! Starting is no such work. It takes tens of milliseconds, in which nothing of the same priority could run on that
//! processor, and the threads that it starts (mDNS has four) would inherit the priority. The thread takes it when there
//! are packets to expect.

use std::{sync::Arc, thread::JoinHandle, time::Duration};

use bytes::Bytes;
use tokio::{
    runtime::Runtime,
    sync::{Notify, oneshot},
};
use transport::{
    PeerId,
    driver::{self, Config, Events, MediaTable, Mesh, StartError, SystemNet},
};

use crate::{
    device::{monotonic_ns, use_realtime_priority},
    media::Datagrams,
    trace::{Recorder, record::Way},
};

/// Priority asked for the network thread: under the media thread that feeds it.
const PRIORITY: i32 = 50;
/// How long the mesh may take to start.
const START_TIMEOUT: Duration = Duration::from_secs(10);

/// Why the network did not start.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// The mesh refused.
    #[error(transparent)]
    Mesh(#[from] StartError),
    /// No thread or runtime.
    #[error("no thread for the network ({0}); close other programs or raise `ulimit -u`")]
    Thread(#[from] std::io::Error),
    /// No answer.
    #[error("the network did not start within {} s; look at the log", START_TIMEOUT.as_secs())]
    Timeout,
}

/// The running network thread.
pub struct Network {
    stop: Arc<Notify>,
    thread: JoinHandle<()>,
}

impl Network {
    /// Starts the mesh on a new thread.
    ///
    /// # Errors
    /// [`NetworkError`].
    pub async fn start(config: Config) -> Result<(Self, Mesh, Events), NetworkError> {
        let stop = Arc::new(Notify::new());
        let stopping = stop.clone();
        let (started, outcome) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let thread = std::thread::Builder::new().name("network".into()).spawn(move || {
            driver::gather_entropy();
            run_to_its_end(runtime, async {
                match driver::start(config, Arc::new(SystemNet)) {
                    Err(error) => drop(started.send(Err(error))),
                    Ok((mesh, events)) => {
                        if let Err(error) = use_realtime_priority(PRIORITY) {
                            tracing::debug!(%error, "the network thread runs without realtime priority");
                        }
                        drop(started.send(Ok((mesh.clone(), events))));
                        stopping.notified().await;
                        mesh.shutdown().await;
                    }
                }
            });
        })?;
        let outcome =
            tokio::time::timeout(START_TIMEOUT, outcome).await.map_err(|_| NetworkError::Timeout)?;
        let (mesh, events) = outcome.map_err(|_| NetworkError::Timeout)??;
        Ok((Self { stop, thread }, mesh, events))
    }

    /// Closes all connections politely and ends the thread.
    pub async fn stop(self) {
        self.stop.notify_one();
        let thread = self.thread;
        drop(tokio::task::spawn_blocking(move || thread.join()).await);
    }
}

/// Runs `work`, and does not wait for what it left behind: a host's name that is being looked up cannot be given up, and
/// takes many seconds when nobody answers.
fn run_to_its_end(runtime: Runtime, work: impl Future<Output = ()>) {
    runtime.block_on(work);
    runtime.shutdown_background();
}

/// The way out for datagrams.
#[derive(Clone)]
pub struct Outlet {
    /// The connections.
    pub table: MediaTable,
    /// Who is told of each datagram.
    pub recorder: Recorder,
}

impl Datagrams for Outlet {
    fn send(&self, peer: &PeerId, datagram: Bytes) {
        self.recorder.outgoing(monotonic_ns, peer, Way::Datagram, &datagram);
        // A member without a connection is about to be noticed by the session; its audio is lost either way.
        if let Err(error) = self.table.send(peer, datagram) {
            tracing::trace!(%peer, %error, "a media datagram was not sent");
        }
    }

    fn max_datagram(&self, peer: &PeerId) -> Option<usize> {
        self.table.max_datagram(peer)
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, time::Instant};

    use super::*;

    #[test]
    fn the_end_does_not_wait_for_a_look_up_that_hangs() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (answer, no_answer) = mpsc::channel::<()>();
        let (begun, has_begun) = mpsc::channel();
        let started = Instant::now();
        run_to_its_end(runtime, async move {
            tokio::task::spawn_blocking(move || {
                begun.send(()).unwrap();
                let _ = no_answer.recv_timeout(Duration::from_secs(10));
            });
            has_begun.recv().unwrap();
        });
        assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
        drop(answer);
    }
}
