//! Our QUIC is libp2p's QUIC: swarms with the ready-made transport meet swarms with ours.

use futures::StreamExt as _;
use libp2p::core::Transport as _;
use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::Boxed;
use libp2p::swarm::{NetworkBehaviour, SwarmEvent};
use libp2p::{Swarm, identify, ping};

use super::super::quic::QuicTransport;
use super::super::quic_config::QuicConfig;
use super::super::registry::Registry;
use super::*;

#[derive(NetworkBehaviour)]
struct Behaviour {
    identify: identify::Behaviour,
    ping: ping::Behaviour,
}

fn swarm(seed: u8, transport: Boxed<(PeerId, StreamMuxerBox)>) -> Swarm<Behaviour> {
    let key = key(seed);
    let agent = format!("agent {seed}");
    let behaviour = Behaviour {
        identify: identify::Behaviour::new(
            identify::Config::new("/test/1".to_owned(), key.public()).with_agent_version(agent),
        ),
        ping: ping::Behaviour::default(),
    };
    let idle = libp2p::swarm::Config::with_tokio_executor().with_idle_connection_timeout(PATIENCE);
    Swarm::new(transport, behaviour, key.public().to_peer_id(), idle)
}

fn stock(seed: u8) -> Swarm<Behaviour> {
    let transport = libp2p_quic::tokio::Transport::new(libp2p_quic::Config::new(&key(seed)));
    swarm(seed, transport.map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer))).boxed())
}

/// Ours, and where its connections can be claimed.
fn ours(seed: u8) -> (Swarm<Behaviour>, Registry) {
    let config = QuicConfig::new(&key(seed), None, None).unwrap();
    let registry = Registry::default();
    let transport = QuicTransport::new(Arc::new(SystemNet), config, registry.clone(), Vec::new()).unwrap();
    (swarm(seed, transport.map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer))).boxed()), registry)
}

async fn listen(swarm: &mut Swarm<Behaviour>) -> Multiaddr {
    swarm.listen_on(quic_address("127.0.0.1", 0)).unwrap();
    loop {
        if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
            return address;
        }
    }
}

/// Runs a swarm until streams have worked both ways: peer identified, ping answered.
async fn acquaint(swarm: &mut Swarm<Behaviour>, with: u8) {
    let (mut identified, mut pinged) = (false, false);
    while !(identified && pinged) {
        match swarm.select_next_some().await {
            SwarmEvent::Behaviour(BehaviourEvent::Identify(identify::Event::Received {
                peer_id,
                info,
                ..
            })) => {
                assert_eq!((peer_id, info.agent_version), (id(with), format!("agent {with}")));
                identified = true;
            }
            SwarmEvent::Behaviour(BehaviourEvent::Ping(ping::Event { peer, result, .. })) => {
                assert_eq!(peer, id(with));
                pinged |= result.is_ok();
            }
            _ => {}
        }
    }
}

/// Runs both until both are done; each goes on serving the other meanwhile.
async fn acquaint_both(first: (&mut Swarm<Behaviour>, u8), second: (&mut Swarm<Behaviour>, u8)) {
    let (a, b) = (first.0, second.0);
    let one = async {
        acquaint(a, second.1).await;
        while tokio::time::timeout(Duration::from_secs(1), a.select_next_some()).await.is_ok() {}
    };
    let other = async {
        acquaint(b, first.1).await;
        while tokio::time::timeout(Duration::from_secs(1), b.select_next_some()).await.is_ok() {}
    };
    tokio::time::timeout(PATIENCE, async { tokio::join!(one, other) }).await.expect("no understanding");
}

#[tokio::test]
async fn a_stock_node_dials_ours() {
    let ((mut ours, registry), mut stock) = (ours(1), stock(2));
    stock.dial(listen(&mut ours).await).unwrap();
    acquaint_both((&mut ours, 1), (&mut stock, 2)).await;
    assert_eq!(registry.len(), 1);
}

#[tokio::test]
async fn our_node_dials_a_stock_one_and_learns_that_it_takes_no_datagrams() {
    let ((mut ours, registry), mut stock) = (ours(1), stock(2));
    let address = listen(&mut stock).await;
    ours.dial(address.clone()).unwrap();
    acquaint_both((&mut ours, 1), (&mut stock, 2)).await;
    let (socket, _) = super::super::address::to_socket(&address).unwrap();
    let connection = registry.claim(id(2), quinn::Side::Client, socket).unwrap();
    assert_eq!(connection.max_datagram_size(), None);
}

#[tokio::test]
async fn a_stranger_without_our_channels_is_no_bandmate() {
    let mut alice = Node::start(config(1, "127.0.0.1:0"), Arc::new(SystemNet));
    alice.listening().await;
    let mut stock = stock(2);
    stock.dial(quic_address("127.0.0.1", alice.mesh.port())).unwrap();
    let closed = async {
        loop {
            if let SwarmEvent::ConnectionClosed { .. } = stock.select_next_some().await {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, closed).await.expect("kept for ever");
    assert_eq!(alice.mesh.peers(), []);
    assert_eq!(alice.events.try_recv(), None);
}
