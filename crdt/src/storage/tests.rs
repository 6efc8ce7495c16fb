use std::fs;

use proptest::prelude::*;

use super::*;

fn change(n: u8) -> SignedChange {
    SignedChange { bytes: vec![n; 40], signature: vec![n; 64] }
}

fn append(document: &str, n: u64) -> Write {
    Write::Append { document: document.into(), n, change: change(n as u8) }
}

fn batch(id: u64, writes: Vec<Write>) -> Batch {
    Batch { id: BatchId(id), writes }
}

fn log(loaded: &Loaded, document: &str) -> Vec<u64> {
    let found = loaded.documents.iter().find(|stored| stored.name == document);
    found.map(|stored| stored.log.iter().map(|(n, _)| *n).collect()).unwrap_or_default()
}

fn saved() -> Saved {
    let mut document = crate::document::Document::new("root", [0; 32]);
    document.check().unwrap().clone()
}

#[test]
fn what_was_committed_is_there_after_reopening() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("project.redb");
    let (mut store, loaded) = Store::open(&path).unwrap();
    assert!(loaded.notes.is_empty() && loaded.documents.is_empty());
    store.commit(&[batch(1, vec![append("root", 0), append("mixer", 0)])]).unwrap();
    store.commit(&[batch(2, vec![append("root", 1)])]).unwrap();
    drop(store);
    let (_store, loaded) = Store::open(&path).unwrap();
    assert_eq!(loaded.notes, Vec::<String>::new());
    assert_eq!((log(&loaded, "root"), log(&loaded, "mixer")), (vec![0, 1], vec![0]));
}

#[test]
fn two_generations_and_everything_since_the_older_one_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("project.redb");
    let (mut store, _) = Store::open(&path).unwrap();
    let mut id = 0;
    for generation in 1..=4 {
        for n in 0..10 {
            id += 1;
            store.commit(&[batch(id, vec![append("root", (generation - 1) * 10 + n)])]).unwrap();
        }
        id += 1;
        let next = generation * 10;
        let write = Write::Snapshot { document: "root".into(), generation, saved: saved(), next };
        store.commit(&[batch(id, vec![write])]).unwrap();
    }
    drop(store);
    let (_store, loaded) = Store::open(&path).unwrap();
    let generations: Vec<u64> = loaded.documents[0].snapshots.iter().map(|(g, _)| *g).collect();
    assert_eq!(generations, [4, 3]);
    assert_eq!(log(&loaded, "root"), (30..40).collect::<Vec<_>>());
}

#[test]
fn a_file_in_use_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("project.redb");
    let _first = Store::open(&path).unwrap();
    let error = Store::open(&path).unwrap_err();
    assert!(matches!(error, StoreError::InUse { .. }), "{error}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn a_missing_folder_and_a_folder_in_the_way_are_named() {
    let folder = tempfile::tempdir().unwrap();
    for path in [folder.path().join("no/such/project.redb"), folder.path().to_owned()] {
        let error = Store::open(&path).unwrap_err();
        assert!(matches!(&error, StoreError::Io { .. }), "{error}");
        assert!(error.to_string().contains(path.to_str().unwrap()));
    }
}

#[test]
fn a_file_from_a_newer_program_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("project.redb");
    let database = Database::create(&path).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction.open_table(ABOUT).unwrap().insert("schema", stamp(SCHEMA + 1)).unwrap();
    transaction.commit().unwrap();
    drop(database);
    assert!(matches!(Store::open(&path), Err(StoreError::Newer { found: 2, .. })));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn garbage_empty_and_truncated_files_are_set_aside_and_the_node_starts() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("project.redb");
    let (mut store, _) = Store::open(&path).unwrap();
    store.commit(&[batch(1, (0..50).map(|n| append("root", n)).collect())]).unwrap();
    drop(store);
    let whole = fs::read(&path).unwrap();
    let garbage: Vec<u8> = (0..20_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let mut damaged = vec![garbage, b"not a database".to_vec()];
    damaged.extend([1, 100, 4_096, whole.len() / 2, whole.len() - 1].map(|len| whole[..len].to_vec()));
    for (n, bytes) in damaged.iter().enumerate() {
        fs::write(&path, bytes).unwrap();
        let (mut store, loaded) = Store::open(&path).unwrap();
        let aside = folder.path().join(format!("project.redb.bad-{}", n + 1));
        assert!(aside.exists(), "damage {n}: {:?}", loaded.notes);
        assert!(loaded.notes[0].contains(aside.to_str().unwrap()), "{:?}", loaded.notes);
        store.commit(&[batch(1, vec![append("root", 100)])]).unwrap();
    }
}

#[test]
fn a_record_that_rotted_is_found_and_the_others_are_saved() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("project.redb");
    let (mut store, _) = Store::open(&path).unwrap();
    store.commit(&[batch(1, (0..50).map(|n| append("root", n)).collect())]).unwrap();
    drop(store);
    let mut bytes = fs::read(&path).unwrap();
    // The record of change 7: forty bytes of 7.
    let rotten: Vec<usize> =
        bytes.windows(40).enumerate().filter(|(_, w)| w.iter().all(|b| *b == 7)).map(|(at, _)| at).collect();
    for at in rotten {
        bytes[at] = 8;
    }
    fs::write(&path, &bytes).unwrap();
    let (_store, loaded) = Store::open(&path).unwrap();
    assert!(loaded.notes[0].contains("change 7 of root"), "{:?}", loaded.notes);
    assert_eq!(log(&loaded, "root"), (0..50).filter(|n| *n != 7).collect::<Vec<_>>());
    let kept = fs::read(folder.path().join("project.redb.bad-1")).unwrap();
    assert!(kept.windows(40).any(|w| w.iter().all(|b| *b == 8)), "the damage was kept for study");
}

/// The steps of saving a damaged file, and what each of them leaves when it is the last one before the power goes.
#[test]
fn saving_a_damaged_file_may_end_at_any_step_and_nothing_read_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("project.redb");
    let (mut store, _) = Store::open(&path).unwrap();
    store.commit(&[batch(1, (0..50).map(|n| append("root", n)).collect())]).unwrap();
    drop(store);
    let mut damaged = fs::read(&path).unwrap();
    let rotten: Vec<usize> = damaged
        .windows(40)
        .enumerate()
        .filter(|(_, w)| w.iter().all(|b| *b == 7))
        .map(|(at, _)| at)
        .collect();
    for at in rotten {
        damaged[at] = 8;
    }
    fs::write(&path, &damaged).unwrap();
    let (store, _) = Store::open(&path).unwrap();
    drop(store);
    let saved = fs::read(&path).unwrap();
    let (aside, new) = (folder.path().join("project.redb.bad-1"), folder.path().join("project.redb.new"));
    assert!(aside.exists() && !new.exists());
    let expected: Vec<u64> = (0..50).filter(|n| *n != 7).collect();
    // What stands under the three names: the file itself, what is new, what was set aside.
    let steps: [[Option<&[u8]>; 3]; 4] = [
        [Some(&damaged), Some(&saved[..4_096]), None],
        [Some(&damaged), Some(&saved), None],
        [None, Some(&saved), Some(&damaged)],
        [Some(&saved), None, Some(&damaged)],
    ];
    for (step, [own, fresh, old]) in steps.into_iter().enumerate() {
        for (name, bytes) in [(&path, own), (&new, fresh), (&aside, old)] {
            let _ = fs::remove_file(name);
            if let Some(bytes) = bytes {
                fs::write(name, bytes).unwrap();
            }
        }
        let (store, loaded) = Store::open(&path).unwrap();
        assert_eq!(log(&loaded, "root"), expected, "step {step}");
        assert!(aside.exists() && !new.exists(), "step {step}");
        drop(store);
    }
}

#[test]
fn the_committer_writes_bursts_together_and_answers_each() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("project.redb");
    let (store, _) = Store::open(&path).unwrap();
    let (answers, answered) = std::sync::mpsc::channel();
    let committer = Committer::start(store, move |id, result| drop(answers.send((id, result)))).unwrap();
    for n in 0..200 {
        committer.submit(batch(n, vec![append("root", n)])).unwrap();
    }
    committer.stop();
    let answered: Vec<_> = answered.iter().collect();
    assert_eq!(answered, (0..200).map(|n| (BatchId(n), Ok(()))).collect::<Vec<_>>());
    let (_store, loaded) = Store::open(&path).unwrap();
    assert_eq!(log(&loaded, "root").len(), 200);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_bytes_are_damaged_the_store_opens(damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..20)) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("project.redb");
        let (mut store, _) = Store::open(&path).unwrap();
        store.commit(&[batch(1, (0..30).map(|n| append("root", n)).collect())]).unwrap();
        drop(store);
        let mut bytes = fs::read(&path).unwrap();
        for (at, byte) in damage {
            let at = at.index(bytes.len().min(40_000));
            bytes[at] = byte;
        }
        fs::write(&path, &bytes).unwrap();
        let (mut store, loaded) = Store::open(&path).unwrap();
        for stored in &loaded.documents {
            for (n, found) in &stored.log {
                prop_assert_eq!(found, &change(*n as u8));
            }
        }
        store.commit(&[batch(2, vec![append("root", 100)])]).unwrap();
    }
}
