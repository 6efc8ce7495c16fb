//! libp2p's view of one QUIC connection: a source and sink of substreams.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures::future::{BoxFuture, FutureExt as _};
use futures::io::{AsyncRead, AsyncWrite};
use libp2p_core::muxing::{StreamMuxer, StreamMuxerEvent};
use quinn::{Connection, ConnectionError, RecvStream, SendStream};

use super::address::to_multiaddr;
use super::net::Net;
use super::quic::QuicError;
use super::registry::Registry;

/// quinn tells nobody when a peer's address changed, so it is asked this often.
const ADDRESS_CHECK_EVERY: Duration = Duration::from_secs(1);

type OpenedStream = Result<(SendStream, RecvStream), ConnectionError>;

/// One connection under the swarm's control. Dropping it closes the connection.
pub(crate) struct Muxer {
    connection: Connection,
    registry: Registry,
    net: Arc<dyn Net>,
    remote: SocketAddr,
    inbound: Option<BoxFuture<'static, OpenedStream>>,
    outbound: Option<BoxFuture<'static, OpenedStream>>,
    closing: Option<BoxFuture<'static, ConnectionError>>,
    address_check: Option<BoxFuture<'static, ()>>,
}

impl Muxer {
    pub(crate) fn new(connection: Connection, registry: Registry, net: Arc<dyn Net>) -> Self {
        let remote = connection.remote_address();
        Self {
            connection,
            registry,
            net,
            remote,
            inbound: None,
            outbound: None,
            closing: None,
            address_check: None,
        }
    }

    /// Closes the connection unless it has ended already: then the reason it ended for is worth keeping.
    fn close(&self) {
        if self.connection.close_reason().is_none() {
            self.connection.close(0u32.into(), b"");
        }
    }
}

impl Drop for Muxer {
    fn drop(&mut self) {
        self.registry.remove(self.connection.stable_id());
        // Others hold clones of the connection; without this they would keep it alive.
        self.close();
    }
}

impl StreamMuxer for Muxer {
    type Substream = Substream;
    type Error = QuicError;

    fn poll_inbound(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<Substream, QuicError>> {
        let connection = self.connection.clone();
        let accept = self.inbound.get_or_insert_with(|| async move { connection.accept_bi().await }.boxed());
        let opened = ready!(accept.poll_unpin(cx));
        self.inbound = None;
        Poll::Ready(opened.map(Substream::from).map_err(QuicError::from))
    }

    fn poll_outbound(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<Substream, QuicError>> {
        let connection = self.connection.clone();
        let open = self.outbound.get_or_insert_with(|| async move { connection.open_bi().await }.boxed());
        let opened = ready!(open.poll_unpin(cx));
        self.outbound = None;
        Poll::Ready(opened.map(Substream::from).map_err(QuicError::from))
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<StreamMuxerEvent, QuicError>> {
        loop {
            let net = self.net.clone();
            let check = self.address_check.get_or_insert_with(|| net.sleep(ADDRESS_CHECK_EVERY));
            ready!(check.poll_unpin(cx));
            self.address_check = None;
            let remote = self.connection.remote_address();
            if remote != self.remote {
                self.remote = remote;
                return Poll::Ready(Ok(StreamMuxerEvent::AddressChange(to_multiaddr(remote))));
            }
        }
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), QuicError>> {
        self.close();
        let connection = self.connection.clone();
        let closed = self.closing.get_or_insert_with(|| async move { connection.closed().await }.boxed());
        match ready!(closed.poll_unpin(cx)) {
            ConnectionError::LocallyClosed => Poll::Ready(Ok(())),
            error => Poll::Ready(Err(error.into())),
        }
    }
}

/// One bidirectional QUIC stream.
pub(crate) struct Substream {
    send: SendStream,
    receive: RecvStream,
}

impl From<(SendStream, RecvStream)> for Substream {
    fn from((send, receive): (SendStream, RecvStream)) -> Self {
        Self { send, receive }
    }
}

impl AsyncRead for Substream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        AsyncRead::poll_read(Pin::new(&mut self.receive), cx, buffer)
    }
}

impl AsyncWrite for Substream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        AsyncWrite::poll_write(Pin::new(&mut self.send), cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        AsyncWrite::poll_flush(Pin::new(&mut self.send), cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // libp2p closes twice; the second time the stream is already finished, which is what was asked for.
        let _ = self.send.finish();
        Poll::Ready(Ok(()))
    }
}
