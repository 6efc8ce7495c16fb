//! The power goes at any moment: what was acknowledged stays, and no number is used twice.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod band;

use std::collections::BTreeSet;

use band::{Band, key, peer};
use crdt::storage::Store;
use crdt::{Command, Config, Output, Project};
use proptest::prelude::*;
use serde_json::json;

#[test]
fn a_restarted_node_has_its_project_and_goes_on_with_the_others() {
    let mut band = Band::new(2);
    band.connect_all();
    band.set(0, "/session/name", "Garage");
    band.edit(0, json!([{"op": "add", "address": "/tracks", "value": {"name": "Drums", "kind": "audio"}}]));
    band.pass(3_000);
    let before = band.nodes[0].project.heads_hash();
    band.restart(0, |_| 0);
    assert_eq!(band.nodes[0].project.heads_hash(), before);
    band.set(0, "/session/name", "Attic");
    band.set(1, "/transport/tempo_bpm", 90.0);
    band.connect_all();
    band.pass(3_000);
    band.assert_equal();
    assert_eq!(band.read(1, "/session/name"), json!("Attic"));
    assert!(band.complaints().is_empty());
}

#[test]
fn a_node_that_lost_its_disk_gets_the_project_back() {
    let mut band = Band::new(2);
    band.connect_all();
    band.set(0, "/session/name", "Garage");
    band.pass(3_000);
    band.nodes[0].disk = band::Disk::default();
    band.restart(0, |_| 0);
    assert_eq!(band.nodes[0].project.changes(), 0);
    band.set(0, "/transport/tempo_bpm", 61.0);
    band.connect_all();
    band.pass(3_000);
    band.assert_equal();
    assert_eq!(band.read(0, "/session/name"), json!("Garage"));
}

#[test]
fn a_full_disk_refuses_edits_says_why_and_recovers() {
    let mut band = Band::new(1);
    let mut full = true;
    let project = &mut band.nodes[0].project;
    let tempo = |value| Command::Set { address: "/transport/tempo_bpm".into(), value: json!(value) };
    project.command(1_000, &[tempo(80.0)]).unwrap();
    for now_ms in [1_000, 2_000, 4_000] {
        project.handle_deadline(now_ms);
        while let Some(output) = project.poll() {
            if let Output::Store(batch) = output {
                let result = if full { Err("no space left on device".into()) } else { Ok(()) };
                project.handle_stored(now_ms, batch.id(), result);
            }
        }
        if full {
            let error = project.command(now_ms, &[tempo(81.0)]).unwrap_err();
            assert!(error.to_string().contains("no space left"), "{error}");
            assert!(!project.saved());
        }
        full = now_ms < 2_000;
    }
    assert!(project.saved());
    project.command(4_000, &[tempo(82.0)]).unwrap();
    assert_eq!(project.number("/transport/tempo_bpm"), Some(82.0));
}

#[test]
fn a_disk_that_failed_for_a_while_takes_everything_once_it_writes_again() {
    let mut band = Band::new(2);
    band.connect_all();
    band.deliver();
    for after in 0..12 {
        // The disk fails at one step of a write after the other.
        let tempo = 60.0 + after as f64;
        band.set(0, "/session/name", format!("Before {after}"));
        band.nodes[0].disk.0.lock().unwrap().dies_after = Some(after);
        band.set(0, "/transport/tempo_bpm", tempo);
        if !band.nodes[0].project.saved() {
            band.pass(20_000);
            let set = Command::Set { address: "/transport/tempo_bpm".into(), value: json!(999) };
            let error = band.nodes[0].project.command(band.now_ms, &[set]).unwrap_err();
            assert!(error.to_string().contains("not being saved"), "{error}");
        }
        band.nodes[0].disk.0.lock().unwrap().dies_after = None;
        band.pass(10_000);
        assert!(band.nodes[0].project.saved(), "failed after {after} steps");
        assert_eq!(band.read(1, "/transport/tempo_bpm"), json!(tempo));
        band.set(0, "/session/name", format!("After {after}"));
        band.deliver();
        band.assert_equal();
        let before = (band.nodes[0].project.heads_hash(), band.nodes[0].project.to_json());
        band.restart(0, |_| 0);
        assert_eq!((band.nodes[0].project.heads_hash(), band.nodes[0].project.to_json()), before);
        band.connect_all();
        band.pass(3_000);
    }
}

#[test]
fn what_follows_a_failed_write_is_not_durable_without_it() {
    let disk = band::Disk::default();
    let (mut store, stored) = Store::open_backend(disk.clone()).unwrap();
    let mut node = Project::new(Config { signing_key: key(0), session: "jam".into(), seed: [1; 32] }, stored);
    let mut batches = Vec::new();
    for tempo in [80, 90] {
        let set = Command::Set { address: "/transport/tempo_bpm".into(), value: json!(tempo) };
        node.command(0, &[set]).unwrap();
        batches.extend(std::iter::from_fn(|| node.poll()).filter_map(|output| match output {
            Output::Store(batch) => Some(batch),
            _ => None,
        }));
    }
    disk.0.lock().unwrap().dies_after = Some(0);
    assert!(store.commit(&batches[..1]).is_err());
    disk.0.lock().unwrap().dies_after = None;
    store.commit(&batches[1..]).unwrap();
    drop(store);
    disk.cut_power(|_| 0);
    let (_store, stored) = Store::open_backend(disk).unwrap();
    let mut node = Project::new(Config { signing_key: key(0), session: "jam".into(), seed: [2; 32] }, stored);
    assert_eq!(node.poll(), None, "nothing stored is without what it builds on");
    assert_eq!(node.number("/transport/tempo_bpm"), Some(90.0));
}

#[test]
fn a_long_project_is_compacted_and_loads_as_it_was() {
    let mut band = Band::new(1);
    for n in 0..2_600 {
        band.set(0, "/transport/tempo_bpm", 60.0 + f64::from(n) / 10.0);
    }
    let before = (band.nodes[0].project.heads_hash(), band.nodes[0].project.to_json());
    band.restart(0, |_| 0);
    assert_eq!((band.nodes[0].project.heads_hash(), band.nodes[0].project.to_json()), before);
    assert_eq!(band.nodes[0].project.changes(), 2_600);
    assert!(band.complaints().is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    /// One node edits while another listens; the power goes after some disk operations and what was not synced is torn.
    #[test]
    fn an_acknowledged_edit_survives_a_power_cut_at_any_write(
        crashes in prop::collection::vec((0..60usize, any::<u8>()), 1..5),
        edits in 1..12u8,
    ) {
        let disk = band::Disk::default();
        let mut acknowledged: Vec<(String, f64)> = Vec::new();
        let mut witness = Project::new(
            Config { signing_key: key(1), session: "jam".into(), seed: [200; 32] },
            crdt::storage::Loaded::default(),
        );
        let mut heard = BTreeSet::new();
        for (start, (dies_after, torn)) in crashes.iter().enumerate() {
            disk.0.lock().unwrap().dies_after = None;
            let (mut store, stored) = Store::open_backend(disk.clone()).unwrap();
            prop_assert!(stored.notes.is_empty(), "{:?}", stored.notes);
            let seed = [start as u8; 32];
            let mut node = Project::new(Config { signing_key: key(0), session: "jam".into(), seed }, stored);
            for (address, value) in &acknowledged {
                prop_assert_eq!(node.number(address), Some(*value));
            }
            disk.0.lock().unwrap().dies_after = Some(*dies_after);
            witness.handle_peer_connected(0, peer(0));
            node.handle_peer_connected(0, peer(1));
            for edit in 0..edits {
                // Each start has strips of its own: an edit that was not acknowledged may still have reached the disk.
                let strip = start * 12 + usize::from(edit);
                let address = format!("/mixer/strip/{}/gain_db", peer(strip).name());
                let value = -1.0 - f64::from(edit) - start as f64;
                let command = Command::Set { address: address.clone(), value: json!(value) };
                let Ok(receipt) = node.command(0, &[command]) else { break };
                loop {
                    let mut quiet = true;
                    while let Some(output) = node.poll() {
                        quiet = false;
                        match output {
                            Output::Store(batch) => {
                                let result = store.commit(std::slice::from_ref(&batch)).map_err(|error| error.to_string());
                                node.handle_stored(0, batch.id(), result);
                            }
                            Output::Send { bytes, .. } => witness.handle_message(0, peer(0), &bytes),
                            _ => {}
                        }
                    }
                    while let Some(output) = witness.poll() {
                        quiet = false;
                        match output {
                            Output::Send { bytes, .. } => node.handle_message(0, peer(1), &bytes),
                            Output::Store(batch) => witness.handle_stored(0, batch.id(), Ok(())),
                            Output::Quarantined { reason, .. } => prop_assert!(false, "{}", reason),
                            Output::Warning(text) => prop_assert!(false, "{}", text),
                            _ => {}
                        }
                    }
                    if quiet {
                        break;
                    }
                }
                if receipt.batch.is_none_or(|batch| node.is_durable(batch)) {
                    acknowledged.retain(|(other, _)| *other != address);
                    acknowledged.push((address.clone(), value));
                }
                prop_assert_eq!(witness.number(&address) == Some(value), node.saved(), "told only what is on disk");
                heard.insert(witness.heads_hash());
            }
            witness.handle_peer_disconnected(0, peer(0));
            drop(store);
            disk.cut_power(|len| len * usize::from(*torn) / 255);
        }
        prop_assert!(!heard.is_empty() || acknowledged.is_empty());
    }
}
