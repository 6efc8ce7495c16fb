//! The listener: connections with bounds, and an orderly end.
//!
//! hyper is driven by hand because `axum::serve` bounds neither the number of connections nor the time a client takes over
//! its request head, and both are what a slow-loris attack spends.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep, timeout};

use crate::control::backend::Backend;
use crate::control::guard::LocalAddress;
use crate::control::limits::{
    HEAD_TIMEOUT, MAX_CONNECTIONS, MAX_HEAD_BYTES, MAX_HEADERS, MAX_SOCKETS, SHUTDOWN_TIMEOUT,
};
use crate::control::log::LogBuffer;
use crate::control::routes::{self, Shared};
use crate::control::token::Keys;

/// How to serve.
pub struct Config {
    /// Where to listen; if the port is taken, any free one at the same address.
    pub address: SocketAddr,
    /// What opens the interface.
    pub keys: Keys,
    /// The log shown to those who subscribe to it.
    pub logs: LogBuffer,
}

/// Why the server could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address belongs to no interface of this machine.
    #[error(
        "cannot listen for HTTP at {0}: this machine has no such address; give one it has with --http, or 127.0.0.1:7780"
    )]
    NoSuchAddress(SocketAddr),
    /// The system forbids it.
    #[error("cannot listen for HTTP at {0}: not permitted; give a port above 1023 with --http")]
    NotPermitted(SocketAddr),
    /// Anything else.
    #[error("cannot listen for HTTP at {address}: {error}; give another address with --http")]
    Other {
        /// The address asked for.
        address: SocketAddr,
        /// The system's reason.
        error: io::Error,
    },
}

/// A running server. Dropping it stops it without waiting.
pub struct Server {
    address: SocketAddr,
    warning: Option<String>,
    keys: Keys,
    stop: watch::Sender<bool>,
    accepting: JoinHandle<()>,
}

/// Starts serving on the calling tokio runtime.
///
/// # Errors
/// If nothing can listen at the address, with what to do about it.
pub async fn start(config: Config, backend: Arc<dyn Backend>) -> Result<Server, StartError> {
    let (listener, warning) = bind(config.address).await?;
    let address =
        listener.local_addr().map_err(|error| StartError::Other { address: config.address, error })?;
    if let Some(warning) = &warning {
        tracing::warn!("{warning}");
    }
    let (stop, stopped) = watch::channel(false);
    let keys = config.keys.clone();
    let shared = Arc::new(Shared::new(backend, config.keys, config.logs, stopped));
    let accepting = tokio::spawn(accept(listener, shared));
    Ok(Server { address, warning, keys, stop, accepting })
}

impl Server {
    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where programs of this machine reach it, such as `http://127.0.0.1:7780`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", reachable(self.address))
    }

    /// The page with its token in the fragment, which a browser keeps to itself. For a browser or the player's terminal,
    /// never for a log.
    #[must_use]
    pub fn page_url(&self) -> String {
        format!("{}/#token={}", self.url(), self.keys.player.secret())
    }

    /// What the player should know about the start, such as another port than asked for. Already logged.
    #[must_use]
    pub fn warning(&self) -> Option<&str> {
        self.warning.as_deref()
    }

    /// Stops: no new connections, requests in flight are finished, WebSockets told goodbye, all within
    /// `limits::SHUTDOWN_TIMEOUT` and a little.
    pub async fn shutdown(mut self) {
        // Nobody left to tell is as good.
        let _ = self.stop.send(true);
        let limit = SHUTDOWN_TIMEOUT + Duration::from_millis(200);
        // A panic in the task is its own report; here it only means that serving has ended.
        let _ = timeout(limit, &mut self.accepting).await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.stop.send(true);
        self.accepting.abort();
    }
}

async fn bind(address: SocketAddr) -> Result<(TcpListener, Option<String>), StartError> {
    let error = match TcpListener::bind(address).await {
        Ok(listener) => return Ok((listener, None)),
        Err(error) => error,
    };
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            let any_port = SocketAddr::new(address.ip(), 0);
            let listener = TcpListener::bind(any_port)
                .await
                .map_err(|error| StartError::Other { address: any_port, error })?;
            let port = listener.local_addr().map_or(0, |address| address.port());
            let warning = format!(
                "HTTP port {} is taken by another program; this node uses {port} instead. Stop the other one or choose a port \
                 with --http.",
                address.port()
            );
            Ok((listener, Some(warning)))
        }
        io::ErrorKind::AddrNotAvailable => Err(StartError::NoSuchAddress(address)),
        io::ErrorKind::PermissionDenied => Err(StartError::NotPermitted(address)),
        _ => Err(StartError::Other { address, error }),
    }
}

/// Ends when the server stops.
pub(crate) async fn stopped(stop: &mut watch::Receiver<bool>) {
    // A sender that is gone has stopped too.
    let _ = stop.wait_for(|stopped| *stopped).await;
}

/// A listener on all addresses is reached at loopback.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let router = routes::router(Arc::clone(&shared));
    let connections = Arc::new(Connections::default());
    let mut stop = shared.stop.clone();
    let mut tasks = JoinSet::new();
    loop {
        tokio::select! {
            () = stopped(&mut stop) => break,
            Some(_) = tasks.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    if let Some(place) = connections.enter(&shared) {
                        tasks.spawn(serve(stream, router.clone(), place, shared.stop.clone()));
                    }
                }
                Err(error) => {
                    // Mostly too many open files: wait for some to close rather than spin.
                    tracing::warn!("cannot take an HTTP connection: {error}");
                    sleep(Duration::from_millis(100)).await;
                }
            },
        }
    }
    drop(listener);
    let goodbye = async {
        while tasks.join_next().await.is_some() {}
        let all = u32::try_from(MAX_SOCKETS).unwrap_or(u32::MAX);
        // Fails only if the semaphore were closed, which nobody does.
        let _ = shared.sockets.acquire_many(all).await;
    };
    if timeout(SHUTDOWN_TIMEOUT, goodbye).await.is_err() {
        tasks.shutdown().await;
    }
}

async fn serve(stream: TcpStream, router: Router, place: Place, mut stop: watch::Receiver<bool>) {
    let Ok(local) = stream.local_addr() else { return };
    // Answers are small and wanted at once.
    let _ = stream.set_nodelay(true);
    let router = TowerToHyperService::new(router);
    let usage = Arc::clone(&place.usage);
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(LocalAddress(local));
        let busy = Busy::begin(&usage);
        let answer = router.call(request);
        async move {
            let answer: Result<Response<Body>, _> = answer.await;
            drop(busy);
            answer
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = pin!(connection);
    // A client's broken request is its own affair: hyper has answered it.
    tokio::select! {
        _ = connection.as_mut() => return,
        () = place.usage.leave.notified() => return,
        () = stopped(&mut stop) => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = connection.await;
}

/// The connections held, at most [`MAX_CONNECTIONS`].
#[derive(Default)]
struct Connections(Mutex<Table>);

#[derive(Default)]
struct Table {
    next: u64,
    places: BTreeMap<u64, Arc<Use>>,
}

/// How one connection is used.
struct Use {
    requests: AtomicUsize,
    idle_since: Mutex<Instant>,
    leave: Notify,
}

impl Connections {
    /// A place for one more connection, if need be that of the one idle longest.
    fn enter(self: &Arc<Self>, shared: &Arc<Shared>) -> Option<Place> {
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if table.places.len() >= MAX_CONNECTIONS {
            let idle = table.places.iter().filter(|(_, place)| place.requests.load(Ordering::Relaxed) == 0);
            let Some(longest) = idle.min_by_key(|(_, place)| place.idle_since()).map(|(id, _)| *id) else {
                shared.counters.connections_refused.fetch_add(1, Ordering::Relaxed);
                return None;
            };
            if let Some(place) = table.places.remove(&longest) {
                shared.counters.connections_closed_for_others.fetch_add(1, Ordering::Relaxed);
                place.leave.notify_one();
            }
        }
        let id = table.next;
        table.next += 1;
        let place = Arc::new(Use {
            requests: AtomicUsize::new(0),
            idle_since: Mutex::new(Instant::now()),
            leave: Notify::new(),
        });
        table.places.insert(id, Arc::clone(&place));
        shared.counters.connections.fetch_add(1, Ordering::Relaxed);
        Some(Place { usage: place, id, connections: Arc::clone(self), shared: Arc::clone(shared) })
    }
}

impl Use {
    fn idle_since(&self) -> Instant {
        *self.idle_since.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection's place, given back when dropped.
struct Place {
    usage: Arc<Use>,
    id: u64,
    connections: Arc<Connections>,
    shared: Arc<Shared>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.connections.0.lock().unwrap_or_else(PoisonError::into_inner).places.remove(&self.id);
        self.shared.counters.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// While it lives, the connection is answering and is not closed to make room.
struct Busy(Arc<Use>);

impl Busy {
    fn begin(place: &Arc<Use>) -> Self {
        place.requests.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(place))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        *self.0.idle_since.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        self.0.requests.fetch_sub(1, Ordering::Relaxed);
    }
}
