//! Our libp2p transport: QUIC v1 as libp2p specifies it, with datagrams on.
//!
//! Stock libp2p-quic turns datagrams off, and audio needs them on the same connection as the streams: one socket, one
//! hole in the firewall, one proof of identity. So this is a transport of our own on quinn and libp2p-tls. A stock node
//! connects to it and is connected by it; such a peer simply offers no datagrams.
//!
//! One endpoint per address family, on one socket each; dialling goes out of the listening socket, so that what a peer
//! sees of us is where it can reach us.
//!
//! Limits: dialling in the listener's role (hole punching) is not offered yet and answers "address not supported".

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};

use futures::StreamExt as _;
use futures::future::{self, BoxFuture, FutureExt as _};
use futures::stream::{self, BoxStream, SelectAll, Stream};
use libp2p::{Multiaddr, PeerId};
use libp2p_core::transport::{DialOpts, ListenerId, TransportError, TransportEvent};
use libp2p_core::{Endpoint as Role, Transport};
use quinn::{AsyncUdpSocket, Connecting, Connection, Endpoint, Incoming};

use super::address::{is_dialable, is_link_local, to_multiaddr, to_socket};
use super::muxer::Muxer;
use super::net::{InterfaceEvent, Net};
use super::quic_config::{HANDSHAKE_TIMEOUT, QuicConfig};
use super::registry::Registry;

/// Above this many handshakes at once, a stranger must first prove that it receives at the address it claims.
const RETRY_ABOVE: usize = 16;

/// Above this many handshakes at once, strangers are refused.
const REFUSE_ABOVE: usize = 64;

/// Why a connection could not be made, or ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum QuicError {
    #[error("socket: {0}")]
    Io(#[from] io::Error),
    #[error("cannot start a connection: {0}")]
    Connect(#[from] quinn::ConnectError),
    #[error("connection: {0}")]
    Connection(#[from] quinn::ConnectionError),
    #[error("no answer within {} s", HANDSHAKE_TIMEOUT.as_secs())]
    Timeout,
    #[error("the peer's certificate proves no libp2p identity")]
    Identity,
}

impl From<QuicError> for TransportError<QuicError> {
    fn from(error: QuicError) -> Self {
        TransportError::Other(error)
    }
}

/// A handshake on its way to a muxer.
pub(crate) type Upgrade = BoxFuture<'static, Result<(PeerId, Muxer), QuicError>>;

/// The transport.
pub(crate) struct QuicTransport {
    context: UpgradeContext,
    config: QuicConfig,
    /// Sockets bound before the swarm asked to listen on them.
    bound: HashMap<SocketAddr, Arc<dyn AsyncUdpSocket>>,
    listeners: SelectAll<Listener>,
    /// Endpoints for a family we do not listen on; the key is "is IPv4".
    dialers: HashMap<bool, Endpoint>,
    waker: Option<Waker>,
}

impl QuicTransport {
    /// `bound` are sockets to use when the swarm listens on their addresses.
    pub(crate) fn new(
        net: Arc<dyn Net>,
        config: QuicConfig,
        registry: Registry,
        bound: Vec<Arc<dyn AsyncUdpSocket>>,
    ) -> io::Result<Self> {
        let bound =
            bound.into_iter().map(|socket| Ok((socket.local_addr()?, socket))).collect::<io::Result<_>>()?;
        Ok(Self {
            context: UpgradeContext { net, registry, handshakes: Arc::default() },
            config,
            bound,
            listeners: SelectAll::new(),
            dialers: HashMap::new(),
            waker: None,
        })
    }

    fn endpoint(&self, socket: Arc<dyn AsyncUdpSocket>, server: bool) -> io::Result<Endpoint> {
        let server = server.then(|| self.config.server());
        let runtime = self.context.net.runtime();
        let endpoint =
            Endpoint::new_with_abstract_socket(self.config.endpoint.clone(), server, socket, runtime)?;
        self.context.registry.insert_endpoint(endpoint.clone());
        Ok(endpoint)
    }

    /// The endpoint to reach `to` from.
    fn endpoint_towards(&mut self, to: SocketAddr) -> io::Result<Endpoint> {
        let fits = |listener: &&Listener| {
            let local = listener.local.ip();
            listener.accepting.is_some()
                && local.is_ipv4() == to.is_ipv4()
                && (local.is_unspecified() || local.is_loopback() == to.ip().is_loopback())
        };
        // The smallest address rather than any: a simulation must choose the same each time.
        if let Some(listener) = self.listeners.iter().filter(fits).min_by_key(|listener| listener.local) {
            return Ok(listener.endpoint.clone());
        }
        if let Some(endpoint) = self.dialers.get(&to.is_ipv4()) {
            return Ok(endpoint.clone());
        }
        let any: IpAddr =
            if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let endpoint = self.endpoint(self.context.net.bind(SocketAddr::new(any, 0))?, false)?;
        self.dialers.insert(to.is_ipv4(), endpoint.clone());
        Ok(endpoint)
    }

    /// Answers a stranger's first packet: with a handshake, a test, or a refusal.
    fn receive(&self, incoming: Incoming) -> Option<Result<(SocketAddr, Upgrade), QuicError>> {
        let remote = incoming.remote_address();
        let handshakes = self.context.handshakes.load(Ordering::Relaxed);
        if handshakes >= REFUSE_ABOVE {
            incoming.refuse();
            return None;
        }
        if handshakes >= RETRY_ABOVE && incoming.may_retry() && !incoming.remote_address_validated() {
            let _ = incoming.retry();
            return None;
        }
        let upgrade = match incoming.accept_with(Arc::new(self.config.server())) {
            Ok(connecting) => self.context.inbound(connecting, remote),
            Err(error) => return Some(Err(error.into())),
        };
        Some(Ok((remote, upgrade)))
    }
}

impl Transport for QuicTransport {
    type Output = (PeerId, Muxer);
    type Error = QuicError;
    type ListenerUpgrade = Upgrade;
    type Dial = Upgrade;

    fn listen_on(&mut self, id: ListenerId, address: Multiaddr) -> Result<(), TransportError<QuicError>> {
        let Some((socket_address, None)) = to_socket(&address) else {
            return Err(TransportError::MultiaddrNotSupported(address));
        };
        let socket = match self.bound.remove(&socket_address) {
            Some(socket) => socket,
            None => self.context.net.bind(socket_address).map_err(QuicError::from)?,
        };
        let local = socket.local_addr().map_err(QuicError::from)?;
        let endpoint = self.endpoint(socket, true).map_err(QuicError::from)?;
        let addresses = if local.ip().is_unspecified() {
            self.context.net.interfaces().map_err(QuicError::from)?
        } else {
            let only = InterfaceEvent { up: true, address: local.ip(), prefix_len: 0 };
            stream::iter([only]).chain(stream::pending()).boxed()
        };
        self.listeners.push(Listener::new(id, endpoint, local, addresses));
        self.dialers.remove(&local.is_ipv4());
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
        Ok(())
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        match self.listeners.iter_mut().find(|listener| listener.id == id) {
            Some(listener) => {
                listener.close();
                true
            }
            None => false,
        }
    }

    fn dial(&mut self, address: Multiaddr, options: DialOpts) -> Result<Upgrade, TransportError<QuicError>> {
        let to = match to_socket(&address) {
            Some((to, _)) if is_dialable(&to) && options.role == Role::Dialer => to,
            _ => return Err(TransportError::MultiaddrNotSupported(address)),
        };
        let endpoint = self.endpoint_towards(to).map_err(QuicError::from)?;
        Ok(self.context.outbound(endpoint, self.config.client(), to))
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<TransportEvent<Upgrade, QuicError>> {
        while let Poll::Ready(Some((listener_id, local, event))) = self.listeners.poll_next_unpin(cx) {
            let event = match event {
                ListenerEvent::Address { up: true, address } => {
                    TransportEvent::NewAddress { listener_id, listen_addr: to_multiaddr(address) }
                }
                ListenerEvent::Address { up: false, address } => {
                    TransportEvent::AddressExpired { listener_id, listen_addr: to_multiaddr(address) }
                }
                ListenerEvent::Closed => TransportEvent::ListenerClosed { listener_id, reason: Ok(()) },
                ListenerEvent::Incoming(incoming) => match self.receive(incoming) {
                    None => continue,
                    Some(Err(error)) => TransportEvent::ListenerError { listener_id, error },
                    Some(Ok((remote, upgrade))) => TransportEvent::Incoming {
                        listener_id,
                        upgrade,
                        local_addr: to_multiaddr(local),
                        send_back_addr: to_multiaddr(remote),
                    },
                },
            };
            return Poll::Ready(event);
        }
        self.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}

/// What both directions need to turn a handshake into a muxer.
#[derive(Clone)]
struct UpgradeContext {
    net: Arc<dyn Net>,
    registry: Registry,
    /// Inbound handshakes in progress.
    handshakes: Arc<AtomicUsize>,
}

impl UpgradeContext {
    fn inbound(&self, connecting: Connecting, remote: SocketAddr) -> Upgrade {
        let counted = Counted::new(&self.handshakes);
        let context = self.clone();
        async move {
            let upgraded = context.finish(connecting, remote).await;
            drop(counted);
            upgraded
        }
        .boxed()
    }

    /// Sends nothing before it is first polled: the swarm makes more dial futures than it uses.
    fn outbound(&self, endpoint: Endpoint, client: quinn::ClientConfig, to: SocketAddr) -> Upgrade {
        let context = self.clone();
        async move {
            // libp2p's TLS checks the key, not the name; any valid one does.
            let connecting = endpoint.connect_with(client, to, "l")?;
            context.finish(connecting, to).await
        }
        .boxed()
    }

    async fn finish(&self, connecting: Connecting, remote: SocketAddr) -> Result<(PeerId, Muxer), QuicError> {
        let connection = match future::select(connecting, self.net.sleep(HANDSHAKE_TIMEOUT)).await {
            future::Either::Left((connection, _)) => connection?,
            future::Either::Right(_) => return Err(QuicError::Timeout),
        };
        let peer = proved_identity(&connection).ok_or(QuicError::Identity)?;
        self.registry.insert(peer, remote, connection.clone());
        Ok((peer, Muxer::new(connection, self.registry.clone(), self.net.clone())))
    }
}

/// Who the certificate says, and TLS has proved, is at the other end.
fn proved_identity(connection: &Connection) -> Option<PeerId> {
    let identity = connection.peer_identity()?;
    let certificates = identity.downcast::<Vec<rustls_pki_types::CertificateDer<'static>>>().ok()?;
    Some(libp2p_tls::certificate::parse(certificates.first()?).ok()?.peer_id())
}

/// One more of something, for as long as it lives.
struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn new(counter: &Arc<AtomicUsize>) -> Self {
        counter.fetch_add(1, Ordering::Relaxed);
        Self(counter.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[expect(clippy::large_enum_variant, reason = "it lives on the stack for one turn of the loop")]
enum ListenerEvent {
    Address { up: bool, address: SocketAddr },
    Incoming(Incoming),
    Closed,
}

/// One listening socket: who knocks, and under which addresses it can be reached.
struct Listener {
    id: ListenerId,
    endpoint: Endpoint,
    local: SocketAddr,
    addresses: BoxStream<'static, InterfaceEvent>,
    /// `None` once closed.
    accepting: Option<BoxStream<'static, Incoming>>,
    reported_closed: bool,
    waker: Option<Waker>,
}

impl Listener {
    fn new(
        id: ListenerId,
        endpoint: Endpoint,
        local: SocketAddr,
        addresses: BoxStream<'static, InterfaceEvent>,
    ) -> Self {
        let accepting = stream::unfold(endpoint.clone(), |endpoint| async move {
            endpoint.accept().await.map(|incoming| (incoming, endpoint))
        });
        Self {
            id,
            endpoint,
            local,
            addresses,
            accepting: Some(accepting.boxed()),
            reported_closed: false,
            waker: None,
        }
    }

    fn close(&mut self) {
        self.endpoint.close(0u32.into(), b"");
        self.accepting = None;
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    fn poll_addresses(&mut self, cx: &mut Context<'_>) -> Poll<ListenerEvent> {
        loop {
            match self.addresses.poll_next_unpin(cx) {
                Poll::Ready(Some(event)) if self.speaks(event.address) => {
                    let address = SocketAddr::new(event.address, self.local.port());
                    return Poll::Ready(ListenerEvent::Address { up: event.up, address });
                }
                Poll::Ready(Some(_)) => {}
                Poll::Ready(None) | Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Whether `ip` is an address others could use to reach this socket. A link-local one means nothing without the zone
    /// of whoever uses it; discovery adds that on the receiving side.
    fn speaks(&self, ip: IpAddr) -> bool {
        let link_local = matches!(ip, IpAddr::V6(v6) if is_link_local(&v6));
        ip.is_ipv4() == self.local.is_ipv4() && !link_local
    }
}

impl Stream for Listener {
    type Item = (ListenerId, SocketAddr, ListenerEvent);

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let (id, local) = (self.id, self.local);
        if self.reported_closed {
            return Poll::Ready(None);
        }
        let Some(accepting) = self.accepting.as_mut() else {
            self.reported_closed = true;
            return Poll::Ready(Some((id, local, ListenerEvent::Closed)));
        };
        match accepting.poll_next_unpin(cx) {
            Poll::Ready(Some(incoming)) => {
                return Poll::Ready(Some((id, local, ListenerEvent::Incoming(incoming))));
            }
            Poll::Ready(None) => {
                self.accepting = None;
                self.reported_closed = true;
                return Poll::Ready(Some((id, local, ListenerEvent::Closed)));
            }
            Poll::Pending => {}
        }
        if let Poll::Ready(event) = self.poll_addresses(cx) {
            return Poll::Ready(Some((id, local, event)));
        }
        self.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}
