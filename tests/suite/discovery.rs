//! Players are found without typing, by both kinds of addresses, and by other people's tools.

use std::collections::BTreeSet;
use tests::{AvahiBrowser, Lan, Node, Options, eventually, number, seconds};

fn connected(node: &Node) -> usize {
    node.peers().iter().filter(|p| p["state"] == "connected").count()
}

#[test]
fn avahi_browse_shows_a_node_and_what_it_is() {
    let lan = Lan::new(2);
    if !lan.can("mDNS") {
        return;
    }
    let avahi = AvahiBrowser::start(lan.host(1), "_bandmesh._udp");
    let alice = Node::start(lan.host(0), Options::named("Alice"));
    let id = alice.id().to_owned();
    for protocol in ["IPv4", "IPv6"] {
        let what = format!("Alice by {protocol}");
        let record = avahi.resolve(seconds(10), &what, |r| r.contains(&id) && r.contains(protocol));
        eprintln!("{record}");
        let fields: Vec<&str> = record.split(';').collect();
        let addresses = [alice.host().ipv4().to_string(), alice.host().ipv6().to_string(), "fe80::1".into()];
        assert!(addresses.iter().any(|address| address == fields[7]), "address of {record}");
        assert!(
            alice.ready()["listen"].to_string().contains(&format!("/udp/{}/", fields[8])),
            "port of {record}"
        );
        for key in ["v=", "id=", "s=", "sv="] {
            assert!(fields[9..].concat().contains(&format!("\"{key}")), "TXT {key} of {record}");
        }
        assert!(!fields[9..].concat().contains("Alice"), "a name in clear: {record}");
    }
}

#[test]
fn players_find_each_other_on_a_lan_without_ipv4() {
    let lan = Lan::new(2);
    if !lan.can("mDNS by IPv6 alone") {
        return;
    }
    for i in 0..2 {
        lan.host(i).ip(&format!("addr del {}/24 dev eth0\n", lan.host(i).ipv4()));
    }
    let alice = Node::start(lan.host(0), Options::named("Alice"));
    let bob = Node::start(lan.host(1), Options::named("Bob"));
    eventually(seconds(5), "they meet", || connected(&alice) == 1 && connected(&bob) == 1);
    let address = alice.peer(&bob)["address"].to_string();
    assert!(address.contains("/ip6/"), "{address}");
}

#[test]
fn a_player_whose_address_changes_is_heard_again() {
    let lan = Lan::alone(2);
    if !lan.can("an address that changes") {
        return;
    }
    let alice = Node::start(lan.host(0), Options::named("Alice"));
    let bob = Node::start(lan.host(1), Options::named("Bob"));
    eventually(seconds(4), "they hear each other", || alice.hears(&bob) && bob.hears(&alice));
    // Bob's cable goes into another socket: every address he had is gone, others come.
    lan.host(1).ip(
        "addr flush dev eth0\naddr add 10.77.0.99/24 brd + dev eth0\naddr add fd77::99/64 dev eth0 nodad\n",
    );
    let received = |node: &Node, other: &Node| node.peer(other)["audio"]["received"].as_u64().unwrap_or(0);
    let (at_alice, at_bob) = (received(&alice, &bob), received(&bob, &alice));
    let again = eventually(seconds(10), "they hear each other again", || {
        let path = alice.peer(&bob)["address"].to_string();
        (path.contains("10.77.0.99") || path.contains("fd77::99"))
            && received(&alice, &bob) != at_alice
            && received(&bob, &alice) != at_bob
    });
    eprintln!("heard again {again:?} after the address changed");
}

#[test]
fn of_two_networks_the_other_one_carries_the_music_when_one_goes_away() {
    // Whoever was dialled, and whoever dialled: either may lose the network that the music runs over.
    for mover in [0, 1] {
        let lan = Lan::alone(2);
        if !lan.can("two networks at once") {
            return;
        }
        lan.add_network();
        let alice = Node::start(lan.host(0), Options::named("Alice"));
        let bob = Node::start(lan.host(1), Options::named("Bob"));
        eventually(seconds(4), "they hear each other", || alice.hears(&bob) && bob.hears(&alice));
        // Where the one who stays has the one who moves is what tells the networks apart: his own addresses on either can be
        // reached over both.
        let nodes = [&alice, &bob];
        let (moves, stays) = (nodes[mover], nodes[1 - mover]);
        let is_second = || stays.peer(moves)["address"].to_string().contains("10.78.0.");
        let was_second = is_second();
        let device = if was_second { "eth1" } else { "eth0" };
        lan.host(mover).ip(&format!("addr flush dev {device}\n"));
        // Sooner than by silence alone, which takes 4 s to be believed.
        let again = eventually(seconds(3), "the other network carries it", || {
            is_second() != was_second && alice.hears(&bob) && bob.hears(&alice)
        });
        eprintln!("host {mover} lost {device}; heard by the other network after {again:?}");
    }
}

#[test]
fn a_cable_that_is_pulled_and_put_back_brings_the_music_back() {
    let lan = Lan::alone(2);
    if !lan.can("an interface that goes and comes") {
        return;
    }
    let alice = Node::start(lan.host(0), Options::named("Alice"));
    let bob = Node::start(lan.host(1), Options::named("Bob"));
    eventually(seconds(4), "they meet", || connected(&alice) == 1 && connected(&bob) == 1);
    lan.host(1).ip("link set eth0 down\n");
    eventually(seconds(8), "both notice", || connected(&alice) == 0 && connected(&bob) == 0);
    lan.host(1).ip(
        "link set eth0 up\naddr replace fd77::2/64 dev eth0 nodad\naddr replace fe80::2/64 dev eth0 nodad\n",
    );
    eventually(seconds(8), "they meet again", || connected(&alice) == 1 && connected(&bob) == 1);
}

#[test]
fn eight_nodes_started_together_all_meet_all() {
    let lan = Lan::alone(8);
    // Long periods: what is asked of two cores here is a mesh, not latency.
    let options = |i| Options::named(&format!("Player {i}")).with(&["--period", "1024"]);
    let mut band: Vec<Node> = (0..8).map(|i| Node::prepared(lan.host(i), options(i))).collect();
    band.iter_mut().for_each(Node::launch);
    band.iter_mut().for_each(Node::await_ready);
    eventually(seconds(15), "everybody is connected to everybody", || band.iter().all(|n| connected(n) == 7));
    eventually(seconds(10), "with one project", || {
        band.iter().map(Node::heads).collect::<BTreeSet<_>>().len() == 1
    });
    assert!(band.iter().all(|node| number(&node.status(), "/doc/changes") > 0.0));
}
