//! Whole nodes, libp2p and QUIC included, in virtual time: minutes pass in moments.

use tokio::time::Instant;

use super::world::World;
use super::*;

const A: &str = "10.0.0.1";
const B: &str = "10.0.0.2";

fn node(world: &World, seed: u8, ip: &str) -> Node {
    Node::start(Config { mdns: true, ..config(seed, "0.0.0.0:7778") }, world.host(ip))
}

/// The comings and goings `node` was told of since it was last asked.
fn changes_so_far(node: &mut Node) -> Vec<Event> {
    let is_change =
        |event: &Event| matches!(event, Event::PeerConnected { .. } | Event::PeerDisconnected { .. });
    std::iter::from_fn(|| node.events.try_recv()).filter(is_change).collect()
}

#[tokio::test(start_paused = true)]
async fn two_that_start_together_share_one_connection() {
    let world = World::new(Duration::from_millis(5));
    let (mut alice, mut bob) = (node(&world, 1, A), node(&world, 2, B));
    let start = Instant::now();
    alice.connected(bob.id()).await;
    bob.connected(alice.id()).await;
    assert!(start.elapsed() < Duration::from_millis(500), "{:?}", start.elapsed());
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!((changes_so_far(&mut alice), changes_so_far(&mut bob)), (vec![], vec![]));
    alice.mesh.send(&bob.id(), Channel::Control, Bytes::from_static(b"still here")).unwrap();
    assert_eq!(bob.message().await.2, "still here");
}

#[tokio::test(start_paused = true)]
async fn two_that_dial_each_other_at_once_agree_on_one_connection() {
    let world = World::new(Duration::from_millis(20));
    let named = |seed, own, other| {
        let peers = vec![quic_address(other, 7778).with(libp2p::multiaddr::Protocol::P2p(id(3 - seed)))];
        Node::start(Config { peers, ..config(seed, "0.0.0.0:7778") }, world.host(own))
    };
    let (mut alice, mut bob) = (named(1, A, B), named(2, B, A));
    alice.connected(bob.id()).await;
    bob.connected(alice.id()).await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    // Whatever happened in the first moment, afterwards there is one connection, and it works.
    while alice.events.try_recv().is_some() || bob.events.try_recv().is_some() {}
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!((alice.events.try_recv(), bob.events.try_recv()), (None, None));
    alice.mesh.send(&bob.id(), Channel::Control, Bytes::from_static(b"one")).unwrap();
    bob.mesh.send(&alice.id(), Channel::Control, Bytes::from_static(b"two")).unwrap();
    assert_eq!(bob.message().await.2, "one");
    assert_eq!(alice.message().await.2, "two");
}

#[tokio::test(start_paused = true)]
async fn a_split_network_is_noticed_and_heals() {
    let world = World::new(Duration::from_millis(5));
    let (mut alice, mut bob) = (node(&world, 1, A), node(&world, 2, B));
    alice.connected(bob.id()).await;
    bob.connected(alice.id()).await;

    world.divide(A, B);
    let split = Instant::now();
    assert_eq!(alice.disconnected(bob.id()).await, DisconnectReason::Silence);
    assert_eq!(bob.disconnected(alice.id()).await, DisconnectReason::Silence);
    assert!(split.elapsed() < Duration::from_secs(6), "{:?}", split.elapsed());

    tokio::time::sleep(Duration::from_secs(90)).await;
    world.heal();
    let healed = Instant::now();
    alice.connected(bob.id()).await;
    bob.connected(alice.id()).await;
    assert!(healed.elapsed() < Duration::from_secs(8), "{:?}", healed.elapsed());

    let mut heard = bob.collect_datagrams();
    alice.mesh.media().send(&bob.id(), Bytes::from_static(b"music")).unwrap();
    assert_eq!(heard.recv().await.unwrap().1, "music");
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_crashed_is_replaced_by_its_next_run() {
    let world = World::new(Duration::from_millis(5));
    let (mut alice, mut bob) = (node(&world, 1, A), node(&world, 2, B));
    alice.connected(bob.id()).await;
    bob.connected(alice.id()).await;

    // The new run takes the old one's port, so the old one is deaf and mute from here on.
    let crash = Instant::now();
    let mut risen = node(&world, 2, B);
    risen.connected(alice.id()).await;
    assert_eq!(alice.disconnected(risen.id()).await, DisconnectReason::Restarted);
    alice.connected(risen.id()).await;
    assert!(crash.elapsed() < Duration::from_secs(1), "{:?}", crash.elapsed());
    alice.mesh.send(&risen.id(), Channel::Project, Bytes::from_static(b"welcome back")).unwrap();
    assert_eq!(risen.message().await.2, "welcome back");
}

#[tokio::test(start_paused = true)]
async fn a_peer_sent_away_is_told_why_and_a_banned_one_stays_away() {
    let world = World::new(Duration::from_millis(5));
    let (mut alice, mut bob) = (node(&world, 1, A), node(&world, 2, B));
    alice.connected(bob.id()).await;
    bob.connected(alice.id()).await;
    alice.mesh.ban(bob.id(), Duration::from_secs(120));
    assert_eq!(bob.disconnected(alice.id()).await, DisconnectReason::Dismissed("banned".to_owned()));
    alice.disconnected(bob.id()).await;
    tokio::time::sleep(Duration::from_secs(100)).await;
    assert_eq!((changes_so_far(&mut alice), changes_so_far(&mut bob)), (vec![], vec![]));
}

/// Alice, who knows Bob by his host's name alone.
fn alice_who_knows(world: &World, address: &str) -> Node {
    let peers = vec![address.parse().unwrap()];
    Node::start(Config { peers, pin_peers: true, ..config(1, "0.0.0.0:7778") }, world.host(A))
}

#[tokio::test(start_paused = true)]
async fn a_peer_at_a_host_s_name_is_found_again_when_the_address_behind_it_changes() {
    const NEXT_DAY: &str = "10.0.0.3";
    let world = World::new(Duration::from_millis(5));
    world.name("band.example", &[B]);
    let bob = Node::start(config(2, "0.0.0.0:7778"), world.host(B));
    let mut alice = alice_who_knows(&world, "/dns4/band.example/udp/7778/quic-v1");
    alice.connected(bob.id()).await;

    world.divide(A, B);
    assert_eq!(alice.disconnected(bob.id()).await, DisconnectReason::Silence);
    drop(bob);
    world.name("band.example", &[NEXT_DAY]);
    let mut bob = Node::start(config(2, "0.0.0.0:7778"), world.host(NEXT_DAY));
    alice.connected(bob.id()).await;
    alice.mesh.send(&bob.id(), Channel::Control, Bytes::from_static(b"moved?")).unwrap();
    assert_eq!(bob.message().await.2, "moved?");
}

#[tokio::test(start_paused = true)]
async fn of_several_addresses_of_a_name_the_one_that_answers_is_found() {
    let world = World::new(Duration::from_millis(5));
    world.name("band.example", &["10.0.0.77", B]);
    let bob = Node::start(config(2, "0.0.0.0:7778"), world.host(B));
    let named = format!("/dns/band.example/udp/7778/quic-v1/p2p/{}", bob.id());
    for address in ["/dns/band.example/udp/7778/quic-v1", &named] {
        let mut alice = alice_who_knows(&world, address);
        alice.connected(bob.id()).await;
        alice.mesh.shutdown().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_name_that_is_unknown_is_told_once_and_tried_until_it_is_known() {
    let world = World::new(Duration::from_millis(5));
    let bob = Node::start(config(2, "0.0.0.0:7778"), world.host(B));
    let mut alice = alice_who_knows(&world, "/dns/band.example/udp/7778/quic-v1");
    tokio::time::sleep(Duration::from_secs(60)).await;
    // A resolver that hangs is no worse.
    world.name("band.example", &[]);
    tokio::time::sleep(Duration::from_secs(60)).await;
    let told: Vec<_> = std::iter::from_fn(|| alice.events.try_recv())
        .filter(|event| matches!(event, Event::Warning(text) if text.contains("band.example is not found")))
        .collect();
    assert_eq!(told.len(), 1, "{told:?}");
    world.name("band.example", &[B]);
    alice.connected(bob.id()).await;
}

#[tokio::test(start_paused = true)]
async fn what_a_peer_suggests_is_never_looked_up() {
    let world = World::new(Duration::from_millis(5));
    world.name("band.example", &[B]);
    let (mut alice, mut bob) = (node(&world, 1, A), Node::start(config(2, "0.0.0.0:7778"), world.host(B)));
    let carol = node(&world, 3, "10.0.0.3");
    alice.connected(carol.id()).await;
    let address = "/dns/band.example/udp/7778/quic-v1".parse().unwrap();
    alice.mesh.suggest(carol.id(), bob.id(), vec![address]);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(changes_so_far(&mut bob), vec![]);
}

/// Alice, who dials Bob, and Bob, who knows nobody.
fn alice_who_dials(world: &World) -> (Node, Node) {
    let bob = Node::start(config(2, "0.0.0.0:7778"), world.host(B));
    let peers = vec![quic_address(B, 7778)];
    (Node::start(Config { peers, ..config(1, "0.0.0.0:7778") }, world.host(A)), bob)
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_has_moved_is_sent_files_as_fast_as_one_that_has_not() {
    let mut took = Vec::new();
    for has_moved in [false, true] {
        let world = World::new(Duration::from_millis(20));
        let (mut alice, mut bob) = alice_who_dials(&world);
        alice.connected(bob.id()).await;
        bob.connected(alice.id()).await;
        if has_moved {
            world.move_host(A, "10.0.0.9");
            let id = alice.id();
            let news = bob.until("news of the way", |event| match event {
                Event::PathChanged { peer, address, .. } if peer == id => Some(address),
                _ => None,
            });
            assert_eq!(news.await, quic_address("10.0.0.9", 7778));
        }
        let begun = Instant::now();
        bob.mesh.send(&alice.id(), Channel::Project, vec![7; 2 << 20].into()).unwrap();
        assert_eq!(alice.message().await.2.len(), 2 << 20);
        took.push(begun.elapsed());
    }
    assert!(took[1] < 2 * took[0], "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_is_lost_before_its_hello_is_made_again_within_seconds() {
    let world = World::new(Duration::from_millis(100));
    let (mut alice, bob) = alice_who_dials(&world);
    // The handshake is over for Alice after 200 ms, and the hello takes as long again.
    tokio::time::sleep(Duration::from_millis(250)).await;
    world.divide(A, B);
    tokio::time::sleep(Duration::from_secs(6)).await;
    world.heal();
    let healed = Instant::now();
    alice.connected(bob.id()).await;
    assert!(healed.elapsed() < Duration::from_secs(8), "{:?}", healed.elapsed());
}
