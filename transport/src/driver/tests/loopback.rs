//! Nodes on this machine's loopback interface.

use super::*;

async fn pair() -> (Node, Node) {
    let alice = Node::start(config(1, "127.0.0.1:0"), Arc::new(SystemNet));
    let peers = vec![quic_address("127.0.0.1", alice.mesh.port())];
    let bob = Node::start(Config { peers, ..config(2, "127.0.0.1:0") }, Arc::new(SystemNet));
    (alice, bob)
}

async fn connected_pair() -> (Node, Node) {
    let (mut alice, mut bob) = pair().await;
    assert_eq!(alice.connected(bob.id()).await, PathKind::Lan);
    assert_eq!(bob.connected(alice.id()).await, PathKind::Lan);
    (alice, bob)
}

#[tokio::test]
async fn two_nodes_exchange_messages_and_datagrams() {
    let (mut alice, mut bob) = connected_pair().await;
    let mut heard = alice.collect_datagrams();

    let project = Bytes::from(vec![7; Channel::Project.max_message_bytes()]);
    bob.mesh.send(&alice.id(), Channel::Control, Bytes::from_static(b"hi")).unwrap();
    assert_eq!(alice.message().await, (bob.id(), Channel::Control, Bytes::from_static(b"hi")));
    alice.mesh.send(&bob.id(), Channel::Project, project.clone()).unwrap();
    assert_eq!(bob.message().await, (alice.id(), Channel::Project, project));

    let media = bob.mesh.media();
    assert!(media.max_datagram(&alice.id()).unwrap() > 1100);
    for packet in 0..100u8 {
        media.send(&alice.id(), Bytes::from(vec![packet; 200])).unwrap();
        assert_eq!(heard.recv().await.unwrap(), (bob.id(), Bytes::from(vec![packet; 200])));
    }
    let too_long = media.send(&alice.id(), Bytes::from(vec![0; 4000]));
    assert!(matches!(too_long, Err(MediaError::TooLarge { max_bytes: 1100.. })), "{too_long:?}");
    assert!(media.rtt(&alice.id()).unwrap() < Duration::from_millis(100));
    assert_eq!(alice.mesh.peers().len(), 1);
}

#[tokio::test]
async fn messages_keep_their_order_and_none_is_lost() {
    let (mut alice, bob) = connected_pair().await;
    let sender = tokio::spawn({
        let (mesh, to) = (bob.mesh.clone(), alice.id());
        async move {
            for number in 0..5000u32 {
                let message = Bytes::copy_from_slice(&number.to_be_bytes());
                while mesh.send(&to, Channel::Control, message.clone()) == Err(SendError::Full) {
                    tokio::task::yield_now().await;
                }
            }
        }
    });
    for number in 0..5000u32 {
        assert_eq!(alice.message().await.2, &number.to_be_bytes()[..]);
    }
    sender.await.unwrap();
}

#[tokio::test]
async fn a_peer_that_leaves_says_goodbye() {
    let (mut alice, bob) = connected_pair().await;
    let before = std::time::Instant::now();
    bob.mesh.shutdown().await;
    assert!(before.elapsed() < Duration::from_secs(1));
    assert_eq!(alice.disconnected(bob.id()).await, DisconnectReason::Goodbye);
    assert_eq!(alice.mesh.media().send(&bob.id(), Bytes::new()), Err(MediaError::NotConnected));
    assert_eq!(alice.mesh.send(&bob.id(), Channel::Control, Bytes::new()), Err(SendError::NotConnected));
}

#[tokio::test]
async fn nodes_of_other_sessions_stay_out() {
    let mut alice = Node::start(config(1, "127.0.0.1:0"), Arc::new(SystemNet));
    let peers = vec![quic_address("127.0.0.1", alice.mesh.port())];
    let stranger = Config { session_tag: *b"elsewher", peers: peers.clone(), ..config(2, "127.0.0.1:0") };
    let _stranger = Node::start(stranger, Arc::new(SystemNet));
    let bob = Node::start(Config { peers, ..config(3, "127.0.0.1:0") }, Arc::new(SystemNet));
    let first = alice.until("a peer", |event| match event {
        Event::PeerConnected { peer, .. } => Some(peer),
        _ => None,
    });
    assert_eq!(first.await, bob.id());
    assert_eq!(alice.mesh.peers().len(), 1);
}

#[tokio::test]
async fn a_port_that_is_taken_is_named_or_another_is_found() {
    let alice = Node::start(config(1, "[::]:0"), Arc::new(SystemNet));
    let listen = format!("[::]:{}", alice.mesh.port());
    let refused = start(config(2, &listen), Arc::new(SystemNet)).unwrap_err();
    assert!(matches!(refused, StartError::AddressInUse { .. }), "{refused}");
    let moved = Node::start(Config { fallback_to_any_port: true, ..config(2, &listen) }, Arc::new(SystemNet));
    assert_ne!(moved.mesh.port(), alice.mesh.port());
}

#[tokio::test]
async fn one_port_serves_both_families() {
    let mut alice = Node::start(config(1, "[::]:0"), Arc::new(SystemNet));
    let port = alice.mesh.port();
    assert!(alice.listening().await.contains(&quic_address("127.0.0.1", port)));
    for (seed, ip) in [(2, "127.0.0.1"), (3, "::1")] {
        let mut bob = Node::start(
            Config { peers: vec![quic_address(ip, port)], ..config(seed, "[::]:0") },
            Arc::new(SystemNet),
        );
        bob.connected(alice.id()).await;
    }
}

/// Runs on a runtime of its own, so that it can be killed like a process: without a word.
struct Killable {
    runtime: tokio::runtime::Runtime,
    node: Node,
}

impl Killable {
    fn start(config: Config) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let entered = runtime.enter();
        let node = Node::start(config, Arc::new(SystemNet));
        drop(entered);
        Self { runtime, node }
    }

    fn kill(self) -> u16 {
        let port = self.node.mesh.port();
        self.runtime.shutdown_timeout(Duration::from_secs(1));
        port
    }
}

#[test]
fn a_node_killed_and_restarted_is_back_at_once() {
    let mut alice = Killable::start(config(1, "127.0.0.1:0"));
    let peers = vec![quic_address("127.0.0.1", alice.node.mesh.port())];
    let mut bob = Killable::start(Config { peers: peers.clone(), ..config(2, "127.0.0.1:0") });
    let wait = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    wait.block_on(async {
        alice.node.connected(id(2)).await;
        bob.node.connected(id(1)).await;
    });

    let port = bob.kill();
    let before = std::time::Instant::now();
    let mut bob = Killable::start(Config { peers, ..config(2, &format!("127.0.0.1:{port}")) });
    wait.block_on(async {
        bob.node.connected(id(1)).await;
        assert_eq!(alice.node.disconnected(id(2)).await, DisconnectReason::Restarted);
        alice.node.connected(id(2)).await;
    });
    assert!(before.elapsed() < Duration::from_secs(1), "{:?}", before.elapsed());
}
