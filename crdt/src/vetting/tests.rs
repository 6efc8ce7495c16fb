use std::collections::BTreeMap;

use automerge::transaction::Transactable;
use automerge::{AutoCommit, ObjType, ROOT};
use proptest::prelude::*;
use proptest::strategy::ValueTree;

use super::*;
use crate::document::{Document, Received};

const SESSION: [u8; 32] = [5; 32];
const NAME: &str = "root";

/// A member who writes changes with whatever tools they like and signs them properly.
struct Forger {
    key: SigningKey,
    author: Author,
    doc: AutoCommit,
    chain: Chain,
}

impl Forger {
    fn new() -> Forger {
        let key = SigningKey::from_bytes(&[3; 32]);
        let author = Author { member: PeerKey(key.verifying_key().to_bytes()), start: 9 };
        let doc = AutoCommit::new().with_actor(author.to_actor());
        Forger { key, author, doc, chain: Chain::begin(&SESSION, NAME, author) }
    }

    /// A document in which this member has honestly made so many changes.
    fn with_history(changes: usize) -> (Forger, Document) {
        let mut forger = Forger::new();
        let mut document = Document::new(NAME, SESSION);
        for n in 0..changes {
            let change = forger.write(|doc| {
                doc.put(ROOT, format!("key/{}", n % 7), n as f64).unwrap();
                doc.put(ROOT, format!("name/{}", n % 3), format!("value {n}")).unwrap();
            });
            let vetted = vet(forger.sign(change)).unwrap();
            assert!(matches!(document.receive(&vetted), Ok(Received::Applied(_))));
        }
        (forger, document)
    }

    fn write(&mut self, edit: impl FnOnce(&mut AutoCommit)) -> Vec<u8> {
        edit(&mut self.doc);
        self.doc.commit().unwrap();
        self.doc.get_last_local_change().unwrap().raw_bytes().to_vec()
    }

    /// Signs the change as the next one, whatever it is.
    fn sign(&mut self, bytes: Vec<u8>) -> SignedChange {
        self.chain = self.chain.next(&hash(&bytes));
        SignedChange { signature: self.chain.sign(&self.key), bytes }
    }
}

fn hash(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes.get(8..).unwrap_or_default()).into()
}

fn repair_checksum(bytes: &mut [u8]) {
    let sum = hash(bytes);
    bytes[4..8].copy_from_slice(&sum[..4]);
}

fn refused(edit: impl FnOnce(&mut AutoCommit)) -> Refusal {
    let mut forger = Forger::new();
    let bytes = forger.write(edit);
    let signed = forger.sign(bytes);
    vet(signed).err().expect("the change is refused")
}

#[test]
fn honest_changes_pass() {
    let (_, document) = Forger::with_history(200);
    assert_eq!(document.changes(), 200);
}

#[test]
fn only_values_at_plain_keys_of_the_root_pass() {
    let shape = |refusal| matches!(refusal, Refusal::Shape(_));
    assert!(shape(refused(|doc| drop(doc.put_object(ROOT, "a", ObjType::Map)))));
    assert!(shape(refused(|doc| drop(doc.put_object(ROOT, "a", ObjType::List)))));
    assert!(shape(refused(|doc| doc.put(ROOT, "a", ScalarValue::counter(1)).unwrap())));
    assert!(shape(refused(|doc| doc.put(ROOT, "a", f64::NAN).unwrap())));
    assert!(shape(refused(|doc| doc.put(ROOT, "a", ()).unwrap())));
    assert!(shape(refused(|doc| doc.put(ROOT, "a//b", 1).unwrap())));
    assert!(shape(refused(|doc| doc.put(ROOT, "tracks/<script>/name", 1).unwrap())));
    assert!(shape(refused(|doc| doc.put(ROOT, "k".repeat(200), 1).unwrap())));
    assert!(shape(refused(|doc| doc.put(ROOT, "a", "x".repeat(20_000)).unwrap())));
    assert!(shape(refused(|doc| {
        doc.put(ROOT, "a", 1).unwrap();
        doc.delete(ROOT, "a").unwrap();
    })));
}

#[test]
fn an_operation_bomb_is_refused_before_it_is_read() {
    let mut forger = Forger::new();
    let bytes = forger.write(|doc| {
        let list = doc.put_object(ROOT, "l", ObjType::List).unwrap();
        doc.splice(&list, 0, 0, std::iter::repeat_n(ScalarValue::Null, 200_000)).unwrap();
    });
    assert!(bytes.len() < 200, "{}", bytes.len());
    assert_eq!(vet(forger.sign(bytes)).err(), Some(Refusal::TooLarge("run lengths")));
}

#[test]
fn nothing_compressed_is_inflated() {
    let mut forger = Forger::new();
    forger.write(|doc| doc.put(ROOT, "a", "0".repeat(10_000)).unwrap());
    let compressed = forger.doc.get_last_local_change().unwrap().bytes().into_owned();
    assert!(compressed.len() < 1_000);
    let refusal = vet(SignedChange { bytes: compressed, signature: vec![0; 64] }).err();
    assert_eq!(refusal, Some(Refusal::Malformed("not an uncompressed change")));
    let document = forger.doc.save();
    assert!(vet(SignedChange { bytes: document, signature: vec![0; 64] }).is_err());
}

#[test]
fn a_change_somebody_else_signed_is_refused() {
    for history in [0, 3] {
        let (mut forger, mut document) = Forger::with_history(history);
        let bytes = forger.write(|doc| doc.put(ROOT, "a", 1).unwrap());
        let mut signed = forger.sign(bytes);
        signed.signature = forger.chain.sign(&SigningKey::from_bytes(&[4; 32]));
        let unverifiable = Refusal::Unverifiable(forger.author.member);
        let refusal = if history == 0 { Refusal::Signature } else { unverifiable };
        assert_eq!(document.receive(&vet(signed).unwrap()), Err(refusal));
    }
}

#[test]
fn a_signature_has_one_length() {
    for length in [0, 63, 65, 4_000_000] {
        let mut forger = Forger::new();
        let bytes = forger.write(|doc| doc.put(ROOT, "a", 1).unwrap());
        let mut signed = forger.sign(bytes);
        signed.signature.resize(length, 0);
        assert_eq!(vet(signed).err(), Some(Refusal::Signature), "{length} bytes");
    }
}

#[test]
fn a_forged_change_does_not_wait_for_what_it_builds_on() {
    let (mut forger, _) = Forger::with_history(3);
    let author = Author { start: forger.author.start + 1, ..forger.author };
    let mut other = forger.doc.fork().with_actor(author.to_actor());
    other.put(ROOT, "b", 1).unwrap();
    other.commit();
    let bytes = other.get_last_local_change().unwrap().raw_bytes().to_vec();
    // The author's first change, so its chain is known, though its dependency is not.
    let signed = SignedChange { bytes, signature: vec![7; 64] };
    let mut document = Document::new(NAME, SESSION);
    assert_eq!(document.receive(&vet(signed).unwrap()), Err(Refusal::Signature));
}

#[test]
fn a_change_of_another_document_or_session_is_refused() {
    for (session, name) in [([6; 32], NAME), (SESSION, "mixer")] {
        let (mut forger, _) = Forger::with_history(0);
        let bytes = forger.write(|doc| doc.put(ROOT, "a", 1).unwrap());
        let vetted = vet(forger.sign(bytes)).unwrap();
        assert_eq!(Document::new(name, session).receive(&vetted), Err(Refusal::Signature));
    }
}

#[test]
fn a_second_change_under_one_number_is_recognised() {
    let (mut forger, mut document) = Forger::with_history(5);
    let chain = forger.chain;
    let mut twin = forger.doc.fork().with_actor(forger.author.to_actor());
    let first = forger.write(|doc| doc.put(ROOT, "a", 1).unwrap());
    let first = vet(forger.sign(first)).unwrap();
    assert!(matches!(document.receive(&first), Ok(Received::Applied(_))));
    assert_eq!(document.receive(&first), Ok(Received::Known));
    twin.put(ROOT, "a", 2).unwrap();
    twin.commit();
    forger.chain = chain;
    let second = twin.get_last_local_change().unwrap().raw_bytes().to_vec();
    let second = vet(forger.sign(second)).unwrap();
    let forked = Err(Refusal::Forked(forger.author.member));
    assert_eq!(document.receive(&second), forked);
    let mut loaded = Document::load(NAME, SESSION, document.check().unwrap().clone()).unwrap();
    assert_eq!(loaded.receive(&second), forked);
}

#[test]
fn an_inflated_operation_counter_is_refused() {
    let (mut forger, mut document) = Forger::with_history(2);
    let honest = forger.write(|doc| doc.put(ROOT, "new", 1).unwrap());
    let mut expanded = Change::from_bytes(honest).unwrap().decode();
    expanded.start_op = 1_000_000.try_into().unwrap();
    let bytes = Change::from(expanded).raw_bytes().to_vec();
    let vetted = vet(forger.sign(bytes)).unwrap();
    assert_eq!(document.receive(&vetted), Err(Refusal::Malformed("operation counter")));
}

#[test]
fn a_change_must_replace_exactly_what_its_writer_saw() {
    let (mut forger, mut document) = Forger::with_history(9);
    let honest = forger.write(|doc| doc.put(ROOT, "key/1", 1).unwrap());
    let mut expanded = Change::from_bytes(honest).unwrap().decode();
    for operation in &mut expanded.operations {
        operation.pred = legacy::SortedVec::new();
    }
    let bytes = Change::from(expanded).raw_bytes().to_vec();
    let vetted = vet(forger.sign(bytes)).unwrap();
    assert_eq!(document.receive(&vetted), Err(Refusal::Malformed("replaced values")));
}

/// The finding this gate answers: of such changes one in five panicked the engine or spoiled the document.
#[test]
fn changes_mutated_under_a_valid_signature_never_harm_the_document() {
    let (mut forger, mut document) = Forger::with_history(40);
    let saved = document.check().unwrap().clone();
    let honest = forger.write(|doc| {
        doc.put(ROOT, "key/3", 0.25).unwrap();
        doc.put(ROOT, "fresh/name", "hello").unwrap();
        doc.put(ROOT, "fresh/data", vec![1u8, 2, 3]).unwrap();
    });
    let chain = forger.chain;
    let mut outcomes: BTreeMap<&str, usize> = BTreeMap::new();
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let flips = prop::collection::vec((11..honest.len(), 0..8u8), 1..4);
    for _ in 0..4_000 {
        let mut bytes = honest.clone();
        for (at, bit) in flips.new_tree(&mut runner).unwrap().current() {
            bytes[at] ^= 1 << bit;
        }
        repair_checksum(&mut bytes);
        forger.chain = chain;
        let signed = forger.sign(bytes.clone());
        let outcome = match vet(signed) {
            Err(Refusal::Broke(_)) => "stopped before the document, by a caught panic",
            Err(_) => "stopped before the document",
            Ok(vetted) => {
                let mut document = Document::load(NAME, SESSION, saved.clone()).unwrap();
                match document.receive(&vetted) {
                    Ok(Received::Applied(_)) => {
                        document.check().expect("what was applied loads back");
                        "applied"
                    }
                    Ok(_) => "waits",
                    Err(Refusal::Broke(_)) => "broke the document",
                    Err(_) => "stopped by the document",
                }
            }
        };
        *outcomes.entry(outcome).or_default() += 1;
    }
    assert_eq!(outcomes.get("broke the document"), None, "{outcomes:?}");
    assert!(outcomes.get("applied") > Some(&10), "{outcomes:?}");
    assert!(outcomes.get("stopped by the document") > Some(&10), "{outcomes:?}");
}

proptest! {
    #[test]
    fn any_bytes_are_refused_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let mut chunk = vec![0x85, 0x6f, 0x4a, 0x83, 0, 0, 0, 0, 1];
        chunk.push(bytes.len().min(127) as u8);
        chunk.extend(bytes.iter().take(127));
        repair_checksum(&mut chunk);
        for bytes in [chunk, bytes] {
            let refused = vet(SignedChange { bytes, signature: vec![] }).is_err();
            prop_assert!(refused);
        }
    }
}
