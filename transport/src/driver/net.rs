//! The seam between the mesh and the world.
//!
//! Everything the network stack cannot compute by itself comes through [`Net`]: sockets, the list of interfaces,
//! discovery, timers and randomness. [`SystemNet`] is the machine we run on; a simulator hands in a world of its own,
//! and nothing above this file knows which it got. Timers and "now" are quinn's [`Runtime`], so libp2p's transport,
//! QUIC and our own deadlines all live on one clock.

use std::fmt::Debug;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use quinn::congestion::ControllerFactory;
use quinn::{AsyncUdpSocket, Runtime};
use rand::RngCore as _;
use socket2::{Domain, Protocol, Socket, Type};

use super::discovery::{Announcement, Sighting};
use super::{mdns, watch};

/// What the network stack needs from outside.
///
/// Implementations are shared by many tasks and must not block for longer than a system call.
pub trait Net: Debug + Send + Sync + 'static {
    /// Binds one UDP socket. An IPv6 socket carries IPv6 only; the caller binds a second one for IPv4.
    fn bind(&self, address: SocketAddr) -> io::Result<Arc<dyn AsyncUdpSocket>>;

    /// Timers, tasks and the clock.
    fn runtime(&self) -> Arc<dyn Runtime>;

    /// The addresses of this machine: first those it has, then every change, for ever. May be called several times.
    fn interfaces(&self) -> io::Result<BoxStream<'static, InterfaceEvent>>;

    /// Announces this node and yields the others as they are seen. Dropping the stream withdraws the announcement.
    fn discover(&self, own: Announcement) -> io::Result<BoxStream<'static, Sighting>>;

    /// Fills `out` with random bytes.
    fn random(&self, out: &mut [u8]);

    /// The addresses of a host's name, with `port`. Without an own way to know, a world has no names.
    fn look_up(&self, host: String, port: u16) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> {
        let _ = (host, port);
        Box::pin(std::future::ready(Err(io::ErrorKind::Unsupported.into())))
    }

    /// Seeds QUIC's connection identifiers in a world that must repeat itself; `None` in the real one.
    fn endpoint_seed(&self) -> Option<[u8; 32]> {
        None
    }

    /// What decides how much may be in flight; `None`: our own controller. For measuring ours against others.
    fn congestion(&self) -> Option<Arc<dyn ControllerFactory + Send + Sync>> {
        None
    }

    /// The present, on the runtime's clock.
    fn now(&self) -> Instant {
        self.runtime().now()
    }

    /// Completes after `duration`.
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        let runtime = self.runtime();
        let mut timer = runtime.new_timer(runtime.now() + duration);
        Box::pin(std::future::poll_fn(move |cx| timer.as_mut().poll(cx)))
    }
}

/// One address of this machine came or went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InterfaceEvent {
    /// Whether the address is now usable.
    pub up: bool,
    /// The address.
    pub address: IpAddr,
    /// Length of its subnet's prefix, in bits.
    pub prefix_len: u8,
}

/// The machine we run on.
#[derive(Debug, Default, Clone, Copy)]
pub struct SystemNet;

/// Room for about 0.2 s of eight peers' audio while this process is not scheduled. The kernel caps it silently.
const SOCKET_BUFFER_BYTES: usize = 1 << 20;

impl Net for SystemNet {
    fn bind(&self, address: SocketAddr) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        socket.set_nonblocking(true)?;
        // A smaller buffer still works, so a refusal is no reason to stop.
        let _ = socket.set_recv_buffer_size(SOCKET_BUFFER_BYTES);
        let _ = socket.set_send_buffer_size(SOCKET_BUFFER_BYTES);
        socket.bind(&address.into())?;
        quinn::TokioRuntime.wrap_udp_socket(socket.into())
    }

    fn runtime(&self) -> Arc<dyn Runtime> {
        Arc::new(quinn::TokioRuntime)
    }

    fn interfaces(&self) -> io::Result<BoxStream<'static, InterfaceEvent>> {
        watch::steadily(|| {
            let watcher = if_watch::tokio::IfWatcher::new()?;
            Ok(watcher
                .map(|event| {
                    event.map(|event| {
                        let (up, net) = match event {
                            if_watch::IfEvent::Up(net) => (true, net),
                            if_watch::IfEvent::Down(net) => (false, net),
                        };
                        InterfaceEvent { up, address: net.addr(), prefix_len: net.prefix_len() }
                    })
                })
                .boxed())
        })
    }

    fn discover(&self, own: Announcement) -> io::Result<BoxStream<'static, Sighting>> {
        mdns::discover(own)
    }

    fn random(&self, out: &mut [u8]) {
        rand::rng().fill_bytes(out);
    }

    fn look_up(&self, host: String, port: u16) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> {
        Box::pin(async move { Ok(tokio::net::lookup_host((host, port)).await?.collect()) })
    }
}
