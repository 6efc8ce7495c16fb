//! The libp2p behaviour that opens our message channels, each pinned to its connection.
//!
//! A peer can have several connections for a moment, and libp2p's ready-made stream behaviour picks any of them. Here the
//! dialler of every connection opens one stream per [`Channel`] on that very connection, and hands it to the driver. Both
//! directions use the same stream.

use std::collections::{HashSet, VecDeque};
use std::convert::Infallible;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures::future::{self, Ready};
use libp2p::core::transport::PortUse;
use libp2p::core::upgrade::{InboundUpgrade, OutboundUpgrade, UpgradeInfo};
use libp2p::core::{Endpoint, Multiaddr};
use libp2p::swarm::handler::{ConnectionEvent, FullyNegotiatedInbound, FullyNegotiatedOutbound};
use libp2p::swarm::{
    ConnectionDenied, ConnectionHandler, ConnectionHandlerEvent, ConnectionId, FromSwarm, NetworkBehaviour,
    Stream, SubstreamProtocol, THandler, THandlerInEvent, THandlerOutEvent, ToSwarm,
};
use libp2p::{PeerId, StreamProtocol};

use super::frames::Channel;

const NEGOTIATION_TIMEOUT: Duration = Duration::from_secs(5);

/// What the driver hears.
#[derive(Debug)]
pub(crate) enum ChannelEvent {
    /// A channel is open.
    Opened { connection: ConnectionId, channel: Channel, stream: Stream },
    /// The peer does not offer our channels.
    Refused { connection: ConnectionId },
    /// The peer's end of the connection has moved.
    Moved { connection: ConnectionId, address: Multiaddr },
}

/// Opens channels; keeps out second connections to a peer we already talk to.
#[derive(Debug, Default)]
pub(crate) struct Channels {
    /// Peers not to be dialled a second time.
    connected: HashSet<PeerId>,
    /// Except by these dials, which are to replace a connection.
    replacing: HashSet<ConnectionId>,
    events: VecDeque<ChannelEvent>,
    waker: Option<Waker>,
}

/// We are connected to this peer by another way already.
#[derive(Debug, thiserror::Error)]
#[error("already connected")]
pub(crate) struct AlreadyConnected;

impl Channels {
    /// Whether our own dials to `peer` are pointless from now on.
    pub(crate) fn set_connected(&mut self, peer: PeerId, connected: bool) {
        if connected {
            self.connected.insert(peer);
        } else {
            self.connected.remove(&peer);
        }
    }

    /// Lets this dial through although its peer is connected.
    pub(crate) fn allow_replacement(&mut self, dial: ConnectionId) {
        self.replacing.insert(dial);
    }

    fn push(&mut self, event: ChannelEvent) {
        self.events.push_back(event);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

impl NetworkBehaviour for Channels {
    type ConnectionHandler = Handler;
    type ToSwarm = ChannelEvent;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(Handler::new(false))
    }

    fn handle_established_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        // While our dial was on its way, the peer's may have come through.
        let replaces = self.replacing.remove(&connection);
        if self.connected.contains(&peer) && !replaces {
            return Err(ConnectionDenied::new(AlreadyConnected));
        }
        Ok(Handler::new(true))
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::AddressChange(change) => {
                let address = change.new.get_remote_address().clone();
                self.push(ChannelEvent::Moved { connection: change.connection_id, address });
            }
            FromSwarm::DialFailure(failure) => {
                self.replacing.remove(&failure.connection_id);
            }
            _ => {}
        }
    }

    fn on_connection_handler_event(
        &mut self,
        _: PeerId,
        connection: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        self.push(match event {
            HandlerEvent::Opened(channel, stream) => ChannelEvent::Opened { connection, channel, stream },
            HandlerEvent::Refused => ChannelEvent::Refused { connection },
        });
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<ChannelEvent, THandlerInEvent<Self>>> {
        match self.events.pop_front() {
            Some(event) => Poll::Ready(ToSwarm::GenerateEvent(event)),
            None => {
                self.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

#[derive(Debug)]
pub(crate) enum HandlerEvent {
    Opened(Channel, Stream),
    Refused,
}

/// The channels of one connection.
#[derive(Debug)]
pub(crate) struct Handler {
    /// Still to be asked for; empty on the listening side.
    to_open: Vec<Channel>,
    /// Those the peer has opened. It gets one stream of each.
    accepted: HashSet<Channel>,
    events: VecDeque<HandlerEvent>,
}

impl Handler {
    fn new(dialled: bool) -> Self {
        let to_open = if dialled { Channel::ALL.to_vec() } else { Vec::new() };
        Self { to_open, accepted: HashSet::new(), events: VecDeque::new() }
    }
}

impl ConnectionHandler for Handler {
    type FromBehaviour = Infallible;
    type ToBehaviour = HandlerEvent;
    type InboundProtocol = Offer;
    type OutboundProtocol = Offer;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = ();

    fn listen_protocol(&self) -> SubstreamProtocol<Offer> {
        SubstreamProtocol::new(Offer(Channel::ALL.to_vec()), ()).with_timeout(NEGOTIATION_TIMEOUT)
    }

    fn connection_keep_alive(&self) -> bool {
        // The planner ends connections, by deadlines of its own.
        true
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ConnectionHandlerEvent<Offer, (), HandlerEvent>> {
        if let Some(event) = self.events.pop_front() {
            return Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(event));
        }
        if let Some(channel) = self.to_open.pop() {
            let protocol = SubstreamProtocol::new(Offer(vec![channel]), ()).with_timeout(NEGOTIATION_TIMEOUT);
            return Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol });
        }
        Poll::Pending
    }

    fn on_behaviour_event(&mut self, event: Infallible) {
        match event {}
    }

    fn on_connection_event(&mut self, event: ConnectionEvent<'_, Offer, Offer>) {
        match event {
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound {
                protocol: (channel, stream),
                ..
            }) => {
                self.events.push_back(HandlerEvent::Opened(channel, stream));
            }
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound {
                protocol: (channel, stream),
                ..
            }) if self.accepted.insert(channel) => {
                self.events.push_back(HandlerEvent::Opened(channel, stream));
            }
            ConnectionEvent::DialUpgradeError(_) => self.events.push_back(HandlerEvent::Refused),
            _ => {}
        }
    }
}

/// Channels offered on a new stream; one of them is agreed on.
#[derive(Debug, Clone)]
pub(crate) struct Offer(Vec<Channel>);

impl UpgradeInfo for Offer {
    type Info = StreamProtocol;
    type InfoIter = std::vec::IntoIter<StreamProtocol>;

    fn protocol_info(&self) -> Self::InfoIter {
        let names: Vec<_> = self.0.iter().map(|channel| StreamProtocol::new(channel.protocol())).collect();
        names.into_iter()
    }
}

impl Offer {
    fn agreed(&self, name: &StreamProtocol) -> Channel {
        let agreed = self.0.iter().find(|channel| channel.protocol() == name.as_ref());
        agreed.copied().unwrap_or(Channel::Control)
    }
}

impl InboundUpgrade<Stream> for Offer {
    type Output = (Channel, Stream);
    type Error = Infallible;
    type Future = Ready<Result<Self::Output, Infallible>>;

    fn upgrade_inbound(self, stream: Stream, name: StreamProtocol) -> Self::Future {
        future::ready(Ok((self.agreed(&name), stream)))
    }
}

impl OutboundUpgrade<Stream> for Offer {
    type Output = (Channel, Stream);
    type Error = Infallible;
    type Future = Ready<Result<Self::Output, Infallible>>;

    fn upgrade_outbound(self, stream: Stream, name: StreamProtocol) -> Self::Future {
        future::ready(Ok((self.agreed(&name), stream)))
    }
}
