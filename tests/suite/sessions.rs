//! Who ends up playing with whom.

use serde_json::json;
use tests::{Lan, Node, Options, eventually, ms, seconds};

fn connected(node: &Node) -> usize {
    node.peers().iter().filter(|p| p["state"] == "connected").count()
}

fn session_id(node: &Node) -> String {
    node.status()["session"]["id"].as_str().expect("session.id").into()
}

fn add_track(node: &Node, name: &str) -> String {
    let added =
        node.edit(json!([{"op": "add", "address": "/tracks", "value": {"name": name, "kind": "audio"}}]));
    assert!(added[0].starts_with("/tracks/"), "{added:?}");
    added[0].clone()
}

fn has(node: &Node, address: &str) -> bool {
    node.api().get(&format!("/project{address}")).status == 200
}

#[test]
fn players_of_different_sessions_on_one_lan_do_not_mix() {
    let lan = Lan::new(3);
    let red = Node::start(lan.host(0), Options::named("Alice").session("red"));
    let blue = Node::start(lan.host(1), Options::named("Bob").session("blue"));
    let also_red = Node::start(lan.host(2), Options::named("Carol").session("red"));
    eventually(seconds(4), "the two of session red meet", || {
        connected(&red) == 1 && connected(&also_red) == 1
    });
    assert_eq!(session_id(&red), session_id(&also_red));
    assert_ne!(session_id(&red), session_id(&blue));
    // Bob has been on the LAN for longer than it took Carol to be found.
    assert_eq!(blue.peers(), Vec::<serde_json::Value>::new());
    assert_eq!((connected(&red), connected(&also_red)), (1, 1));
}

#[test]
fn two_who_start_at_the_same_moment_end_up_in_one_project() {
    let lan = Lan::new(2);
    let mut alice = Node::prepared(lan.host(0), Options::named("Alice"));
    let mut bob = Node::prepared(lan.host(1), Options::named("Bob"));
    alice.launch();
    bob.launch();
    alice.await_ready();
    bob.await_ready();
    let (alice, bob) = (&alice, &bob);
    let track = add_track(alice, "Alice, before she met Bob");
    eventually(seconds(4), "they meet", || connected(alice) == 1 && connected(bob) == 1);
    eventually(seconds(4), "they have one project", || alice.heads() == bob.heads() && has(bob, &track));
    assert_eq!(session_id(alice), session_id(bob));
}

#[test]
fn whoever_started_first_the_later_one_joins() {
    let lan = Lan::new(2);
    let alice = Node::start(lan.host(0), Options::named("Alice"));
    let track = add_track(&alice, "Drums");
    let bob = Node::start(lan.host(1), Options::named("Bob"));
    eventually(seconds(4), "Bob has Alice's project", || has(&bob, &track) && alice.heads() == bob.heads());
    assert_eq!(bob.project(&track)["name"], "Drums");
}

#[test]
fn a_lan_that_splits_and_heals_leaves_one_project_with_both_sides_edits() {
    let lan = Lan::new(3);
    if !lan.can("a LAN that splits and heals") {
        return;
    }
    let band: Vec<Node> = ["Alice", "Bob", "Carol"]
        .iter()
        .enumerate()
        .map(|(i, name)| Node::start(lan.host(i), Options::named(name)))
        .collect();
    let (alice, bob, carol) = (&band[0], &band[1], &band[2]);
    eventually(seconds(5), "all meet", || band.iter().all(|node| connected(node) == 2));

    lan.split(&[2]);
    eventually(seconds(8), "both sides notice", || connected(alice) == 1 && connected(carol) == 0);
    let here = add_track(alice, "Alice, on her side");
    let there = add_track(carol, "Carol, on hers");
    eventually(seconds(4), "Bob, who stayed with Alice, has her edit", || has(bob, &here));
    assert!(!has(bob, &there) && !has(carol, &here));

    lan.heal();
    let healed = eventually(seconds(10), "all have both edits", || {
        band.iter().all(|node| has(node, &here) && has(node, &there)) && alice.heads() == carol.heads()
    });
    assert_eq!(bob.heads(), carol.heads());
    eprintln!("equal heads {healed:?} after the LAN healed");
    eventually(seconds(5), "and they hear each other again", || alice.hears(carol) && carol.hears(alice));
}

#[test]
fn one_killed_comes_back_as_the_same_member_of_the_same_session() {
    let lan = Lan::new(2);
    let alice = Node::start(lan.host(0), Options::named("Alice"));
    let mut bob = Node::start(lan.host(1), Options::named("Bob"));
    eventually(seconds(4), "they meet", || connected(&alice) == 1 && alice.heads() == bob.heads());
    let (id, session) = (bob.id().to_owned(), session_id(&bob));
    bob.kill();
    let track = add_track(&alice, "made while Bob was away");
    bob.restart();
    assert_eq!((bob.id(), session_id(&bob)), (id.as_str(), session));
    eventually(seconds(4), "Bob has caught up", || has(&bob, &track) && alice.heads() == bob.heads());
    eventually(ms(500), "Alice knows one Bob", || alice.peers().len() == 1 && connected(&alice) == 1);
}
