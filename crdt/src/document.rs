//! One document: a map of registers that merges, with the proof of who wrote what.
//!
//! Problem: documents edited apart must become equal when they meet, whatever the order in which changes arrive, and a bad
//! change must not be able to harm what is already there. Idea: an Automerge document whose root map holds one
//! register per key and nothing else. A register exists by being written, so there is no founding step that two
//! nodes could do differently, and no object that two people could create at one place and so hide from each
//! other.
//!
//! Beside the document stand `base`, a saved form that has been loaded back and compared, and `tail`, all
//! changes since. Whatever goes wrong inside the engine, the document is thrown away and rebuilt from those two. Loading
//! back costs as much as the document is long, so it is done when the tail has grown by a fixed share of it: constant
//! cost per change, and at once for small documents.
//!
//! Limits: history is kept for ever; about 8 bytes on disk, and 64 more for its signature, per change.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::ops::Bound;

use automerge::iter::MapRangeItem;
use automerge::transaction::{CommitOptions, Transactable};
use automerge::{AutoCommit, ChangeHash, ObjId, ROOT, ReadDoc, ScalarValue, Value};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::member::{Author, PeerKey};
use crate::signer::Sign;
use crate::vetting::{Chain, MAX_CHANGE_BYTES, MAX_DEPENDENCIES, Refusal, SignedChange, Vetted, guarded};

/// The tail may be this share of the whole history before the document is loaded back: 1/64, so that checking adds
/// 64 times the load cost of one change (about 3 µs) to each change.
const TAIL_SHARE: usize = 64;

/// A document's durable form.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Saved {
    /// The engine's own compressed form.
    bytes: Vec<u8>,
    /// For each author the signatures of its changes, 64 bytes each, in order.
    signatures: Vec<(Author, Vec<u8>)>,
}

/// One change of an author.
#[derive(Clone, Debug)]
struct Link {
    hash: [u8; 32],
    /// The chain up to and with this change.
    chain: Chain,
    /// Where its operations begin; grows along every dependency, so sorting by it puts causes first.
    first_operation: u64,
    signature: Vec<u8>,
}

/// What stands at a key; where several people wrote at once, what every node picks.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Register {
    pub(crate) value: ScalarValue,
    /// The operation that wrote it: grows along every dependency, so it orders what was written in reply.
    pub(crate) operation: u64,
    pub(crate) by: PeerKey,
}

/// What became of a change from somebody else.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Received {
    /// It is in; these keys may read differently now.
    Applied(Vec<String>),
    /// It was in already.
    Known,
    /// This, on which it builds, has not arrived. Its signature may have been checked already, as that of the change after
    /// this chain.
    TooEarly(Cause, Option<Chain>),
}

/// What a change builds on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Cause {
    /// A change its writer had seen.
    Change([u8; 32]),
    /// The change of its author with this number.
    Number(Author, u64),
}

pub(crate) struct Document {
    name: String,
    session: [u8; 32],
    doc: AutoCommit,
    heads: Vec<ChangeHash>,
    registers: BTreeMap<String, Register>,
    /// For each author its changes, in order.
    runs: BTreeMap<Author, Vec<Link>>,
    /// For each change the last operation it made.
    last_operation: BTreeMap<[u8; 32], u64>,
    base: Saved,
    tail: Vec<SignedChange>,
    /// How often a change was looked at.
    #[cfg(test)]
    pub(crate) looks: usize,
}

/// What had to be given up when a document was rebuilt.
pub(crate) struct Rebuilt {
    /// Members whose changes broke the engine.
    pub(crate) culprits: Vec<PeerKey>,
    /// Values this node had written on top of those, to be written again.
    pub(crate) lost: Vec<(String, ScalarValue)>,
}

impl Document {
    pub(crate) fn new(name: &str, session: [u8; 32]) -> Document {
        let mut doc = AutoCommit::new();
        let base = Saved { bytes: doc.save(), signatures: Vec::new() };
        Document {
            name: name.to_owned(),
            session,
            doc,
            heads: Vec::new(),
            registers: BTreeMap::new(),
            runs: BTreeMap::new(),
            last_operation: BTreeMap::new(),
            base,
            tail: Vec::new(),
            #[cfg(test)]
            looks: 0,
        }
    }

    /// Loads a document from its durable form.
    ///
    /// # Errors
    /// The engine cannot read it, or the signatures do not belong to it.
    pub(crate) fn load(name: &str, session: [u8; 32], saved: Saved) -> Result<Document, Refusal> {
        let mut document = Document::new(name, session);
        document.doc = guarded("loading it", || AutoCommit::load(&saved.bytes))?
            .map_err(|_| Refusal::Malformed("saved document"))?;
        let signatures: BTreeMap<Author, Vec<u8>> = saved.signatures.iter().cloned().collect();
        let mut changes = guarded("indexing it", || {
            let metas = document.doc.get_changes_meta(&[]);
            let entry = |meta: &automerge::ChangeMetadata<'_>| {
                let author = Author::from_actor_bytes(meta.actor.to_bytes())?;
                let at = usize::try_from(meta.seq.checked_sub(1)?).ok()?.checked_mul(64)?;
                let signature = signatures.get(&author)?.get(at..at.checked_add(64)?)?.to_vec();
                Some((author, meta.seq, meta.hash.0, meta.start_op, meta.max_op, signature))
            };
            metas.iter().map(entry).collect::<Option<Vec<_>>>()
        })?
        .ok_or(Refusal::Malformed("signatures"))?;
        changes.sort_by_key(|(author, seq, ..)| (*author, *seq));
        for (author, _, hash, first_operation, last_operation, signature) in changes {
            document.record(author, hash, (first_operation, last_operation), signature);
        }
        document.base = saved;
        guarded("reading it", || document.refresh())?;
        Ok(document)
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Whether nothing was ever written to it.
    pub(crate) fn is_empty(&self) -> bool {
        self.last_operation.is_empty()
    }

    /// How many changes it holds.
    pub(crate) fn changes(&self) -> usize {
        self.last_operation.len()
    }

    pub(crate) fn register(&self, key: &str) -> Option<&Register> {
        self.registers.get(key)
    }

    /// The registers whose keys begin with `prefix`.
    pub(crate) fn registers<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a str, &'a Register)> {
        let from = self.registers.range::<str, _>((Bound::Included(prefix), Bound::Unbounded));
        from.take_while(move |(key, _)| key.starts_with(prefix))
            .map(|(key, register)| (key.as_str(), register))
    }

    /// All values written at once at a key.
    pub(crate) fn rivals(&self, key: &str) -> Vec<ScalarValue> {
        let read = || {
            let all = self.doc.get_all(ROOT, key).unwrap_or_default();
            all.into_iter().filter_map(|(value, _)| scalar(value)).collect()
        };
        guarded("reading it", read).unwrap_or_default()
    }

    /// A digest that is equal on two nodes exactly when they hold the same changes.
    pub(crate) fn digest(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        for head in &self.heads {
            hash.update(head.0);
        }
        hash.finalize().into()
    }

    /// How many changes of each author it holds.
    pub(crate) fn frontier(&self) -> Vec<(Author, u64)> {
        self.runs.iter().map(|(author, links)| (*author, links.len() as u64)).collect()
    }

    /// How many changes of one author it holds.
    pub(crate) fn changes_of(&self, author: Author) -> u64 {
        self.links(author).len() as u64
    }

    pub(crate) fn has_author(&self, author: Author) -> bool {
        self.runs.contains_key(&author)
    }

    /// How many branches are open: changes that nothing builds on yet.
    pub(crate) fn branches(&self) -> usize {
        self.heads.len()
    }

    /// How many values were written at once at a key.
    pub(crate) fn rival_count(&self, key: &str) -> usize {
        guarded("reading it", || self.doc.get_all(ROOT, key).map_or(0, |all| all.len())).unwrap_or_default()
    }

    // --- Writing here ---------------------------------------------------------------------------------------

    /// Whether a change with these values is one that others take. It names every branch that is open and every value it
    /// replaces, so its size is not the writer's alone to choose.
    ///
    /// # Errors
    /// Which limit is in the way.
    pub(crate) fn fits(&self, edits: &BTreeMap<String, ScalarValue>) -> Result<(), Refusal> {
        if self.branches() > MAX_DEPENDENCIES {
            return Err(Refusal::TooLarge("dependencies"));
        }
        let size = |(key, value): (&String, &ScalarValue)| {
            let value = match value {
                ScalarValue::Str(text) => text.len(),
                ScalarValue::Bytes(bytes) => bytes.len(),
                _ => 8,
            };
            // What is replaced is named by its author, 41 bytes for the first time, and its number.
            12 + key.len() + value + 50 * self.rival_count(key)
        };
        let bytes = 256 + 32 * self.branches() + edits.iter().map(size).sum::<usize>();
        if bytes > MAX_CHANGE_BYTES { Err(Refusal::TooLarge("bytes")) } else { Ok(()) }
    }

    /// Writes values, each key once, without committing them.
    ///
    /// # Errors
    /// What the engine said; call [`Document::rollback`] then.
    pub(crate) fn stage(
        &mut self,
        author: Author,
        edits: &BTreeMap<String, ScalarValue>,
    ) -> Result<(), String> {
        self.doc.set_actor(author.to_actor());
        for (key, value) in edits {
            // Nothing to say where the value is there already. Where it is there as the winner of a conflict, Automerge
            // would delete the losers instead of writing, and no member takes a change that deletes.
            let current = self.doc.get(ROOT, key.as_str()).map_err(|error| error.to_string())?;
            if matches!(&current, Some((Value::Scalar(now), _)) if **now == *value) {
                continue;
            }
            self.doc.put(ROOT, key.as_str(), value.clone()).map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    pub(crate) fn rollback(&mut self) {
        self.doc.rollback();
    }

    /// Commits what was staged; `None` if that changed nothing.
    pub(crate) fn commit(
        &mut self,
        author: Author,
        mut key: impl Sign,
        unix_s: i64,
        edits: &BTreeMap<String, ScalarValue>,
    ) -> Option<SignedChange> {
        let hash = self.doc.commit_with(CommitOptions::default().with_time(unix_s))?;
        let change = self.doc.get_change_by_hash(&hash)?;
        let chain = self.chain_before(author, self.links(author).len()).next(&hash.0);
        let signed = SignedChange { bytes: change.raw_bytes().to_vec(), signature: key.sign(chain) };
        let operations = (change.start_op().get(), change.max_op());
        self.record(author, hash.0, operations, signed.signature.clone());
        self.tail.push(signed.clone());
        self.heads = self.doc.get_heads();
        for key in edits.keys() {
            self.refresh_register(key);
        }
        Some(signed)
    }

    // --- Receiving ------------------------------------------------------------------------------------------

    /// Takes a vetted change through the steps that need the document and applies it.
    ///
    /// # Errors
    /// The change is refused. After [`Refusal::Broke`] the document must be [rebuilt](Document::rebuild).
    pub(crate) fn receive(&mut self, vetted: &Vetted) -> Result<Received, Refusal> {
        #[cfg(test)]
        {
            self.looks += 1;
        }
        let Vetted { change, author, puts, signed, proved } = vetted;
        let known = self.links(*author);
        let next = known.len() as u64 + 1;
        let hash = change.hash();
        if change.seq() < next {
            let at = usize::try_from(change.seq().wrapping_sub(1)).unwrap_or(usize::MAX);
            return match known.get(at) {
                Some(link) if link.hash == hash.0 => Ok(Received::Known),
                Some(_) => self.verify(vetted, at).and(Err(Refusal::Forked(author.member))),
                None => Err(Refusal::Malformed("number")),
            };
        }
        if change.seq() > next {
            return Ok(Received::TooEarly(Cause::Number(*author, change.seq() - 1), None));
        }
        let chain = self.chain_before(*author, known.len());
        if *proved != Some(chain) {
            self.verify(vetted, known.len())?;
        }
        let mut first_operation = 1;
        for dependency in change.deps() {
            match self.last_operation.get(&dependency.0) {
                Some(last) => first_operation = first_operation.max(last + 1),
                None => return Ok(Received::TooEarly(Cause::Change(dependency.0), Some(chain))),
            }
        }
        if change.start_op().get() != first_operation {
            return Err(Refusal::Malformed("operation counter"));
        }
        let current = same_heads(change.deps(), &self.heads);
        for put in puts {
            let replaces = guarded("reading what it replaces", || {
                let visible = if current {
                    self.doc.get_all(ROOT, put.key.as_str())
                } else {
                    self.doc.get_all_at(ROOT, put.key.as_str(), change.deps())
                };
                let ids = visible.unwrap_or_default().into_iter().filter_map(|(_, id)| match id {
                    ObjId::Id(counter, actor, _) => Some((counter, actor)),
                    ObjId::Root => None,
                });
                let mut ids: Vec<_> = ids.collect();
                ids.sort_unstable();
                ids
            })?;
            if replaces != put.replaces {
                return Err(Refusal::Malformed("replaced values"));
            }
        }
        let applied = guarded("applying it", || {
            self.doc.apply_changes([change.clone()]).is_ok() && self.doc.get_change_by_hash(&hash).is_some()
        })?;
        if !applied {
            return Err(Refusal::Broke("applying it"));
        }
        let operations = (change.start_op().get(), change.max_op());
        self.record(*author, hash.0, operations, signed.signature.clone());
        self.tail.push(signed.clone());
        guarded("reading it", || {
            self.heads = self.doc.get_heads();
            for put in puts {
                self.refresh_register(&put.key);
            }
        })?;
        Ok(Received::Applied(puts.iter().map(|put| put.key.clone()).collect()))
    }

    /// Up to about `max_bytes` of the changes somebody lacks who holds `have`, causes first, and whether there is
    /// more. Of `unsent.0` only the first `unsent.1` changes are given away.
    pub(crate) fn missing_from(
        &mut self,
        have: &BTreeMap<Author, u64>,
        unsent: (Author, u64),
        max_bytes: usize,
    ) -> (Vec<SignedChange>, bool) {
        // Each author's changes are in order, so a step costs what the number of authors is, however long the history.
        let mut runs = Vec::new();
        let mut next = BinaryHeap::new();
        for (author, links) in &self.runs {
            let from = have.get(author).map_or(0, |n| usize::try_from(*n).unwrap_or(usize::MAX));
            let most = if *author == unsent.0 { unsent.1 as usize } else { usize::MAX };
            let mut links = links.iter().take(most).skip(from);
            if let Some(link) = links.next() {
                next.push(Reverse((link.first_operation, *author, link.hash, runs.len())));
                runs.push((link, links));
            }
        }
        let mut bytes = 0;
        let mut changes = Vec::new();
        while let Some(Reverse((_, author, hash, at))) = next.pop() {
            if bytes >= max_bytes {
                return (changes, true);
            }
            let Some((link, links)) = runs.get_mut(at) else { continue };
            let signature = link.signature.clone();
            if let Some(following) = links.next() {
                *link = following;
                next.push(Reverse((following.first_operation, author, following.hash, at)));
            }
            let Some(change) = self.doc.get_change_by_hash(&ChangeHash(hash)) else { continue };
            let signed = SignedChange { bytes: change.raw_bytes().to_vec(), signature };
            bytes += signed.bytes.len() + signed.signature.len();
            changes.push(signed);
        }
        (changes, false)
    }

    // --- Durable form ---------------------------------------------------------------------------------------

    /// Whether enough has changed for the next [`Document::check`].
    pub(crate) fn wants_check(&self) -> bool {
        self.tail.len() > self.changes() / TAIL_SHARE
    }

    /// Saves the document, loads it back and compares; on success that is the new base.
    ///
    /// # Errors
    /// It does not load back as it was: the document must be [rebuilt](Document::rebuild).
    pub(crate) fn check(&mut self) -> Result<&Saved, Refusal> {
        if !self.tail.is_empty() {
            let bytes = guarded("saving it", || self.doc.save())?;
            let back = guarded("loading it back", || {
                let mut back = AutoCommit::load(&bytes).ok()?;
                let registers = read_registers(&back)?;
                Some((back.get_heads(), registers))
            })?;
            if back.as_ref() != Some(&(self.heads.clone(), self.registers.clone())) {
                return Err(Refusal::Broke("loading it back"));
            }
            let signatures = self.runs.iter().map(|(author, links)| {
                (*author, links.iter().flat_map(|link| link.signature.iter().copied()).collect())
            });
            self.base = Saved { bytes, signatures: signatures.collect() };
            self.tail.clear();
        }
        Ok(&self.base)
    }

    /// Throws the engine's document away and builds it again from the base and those changes of the tail with which it
    /// works; `me` is this node's own author.
    pub(crate) fn rebuild(&mut self, me: Author) -> Result<Rebuilt, Refusal> {
        let mut document = Document::load(&self.name, self.session, self.base.clone())?;
        let mut rebuilt = Rebuilt { culprits: Vec::new(), lost: Vec::new() };
        for signed in std::mem::take(&mut self.tail) {
            let Ok(vetted) = crate::vetting::vet(signed) else { continue };
            let outcome = document.receive(&vetted).and_then(|received| {
                document.check()?;
                Ok(received)
            });
            match outcome {
                Ok(Received::Applied(_) | Received::Known) => {}
                Ok(Received::TooEarly(..)) if vetted.author == me => {
                    let value = |put: &crate::vetting::Put| {
                        Some((put.key.clone(), self.registers.get(&put.key)?.value.clone()))
                    };
                    rebuilt.lost.extend(vetted.puts.iter().filter_map(value));
                }
                Ok(Received::TooEarly(..)) => {}
                Err(_) => {
                    rebuilt.culprits.push(vetted.author.member);
                    document = Document::load(&self.name, self.session, document.base)?;
                }
            }
        }
        *self = document;
        Ok(rebuilt)
    }

    /// What a flaw in the engine might do: a change that is in the document but cannot be had again.
    #[cfg(test)]
    pub(crate) fn forget_first_of_tail(&mut self) {
        self.tail.remove(0);
    }

    // --- Helpers --------------------------------------------------------------------------------------------

    fn links(&self, author: Author) -> &[Link] {
        self.runs.get(&author).map_or(&[], Vec::as_slice)
    }

    fn chain_before(&self, author: Author, index: usize) -> Chain {
        let before = index.checked_sub(1).and_then(|last| self.links(author).get(last));
        before.map_or_else(|| Chain::begin(&self.session, &self.name, author), |link| link.chain)
    }

    /// Checks the signature of a change at this place of its author's run.
    fn verify(&self, vetted: &Vetted, index: usize) -> Result<(), Refusal> {
        let Vetted { change, author, signed, .. } = vetted;
        let chain = self.chain_before(*author, index).next(&change.hash().0);
        chain.verify(author.member, &signed.signature).map_err(|refusal| {
            // An author who forked may have signed this for the other branch, which whoever passed it on then holds. Only
            // the beginning of a chain is the same for everybody.
            if index == 0 { refusal } else { Refusal::Unverifiable(author.member) }
        })
    }

    fn record(&mut self, author: Author, hash: [u8; 32], operations: (u64, u64), signature: Vec<u8>) {
        let (first_operation, last_operation) = operations;
        let chain = self.chain_before(author, self.links(author).len()).next(&hash);
        self.last_operation.insert(hash, last_operation);
        let link = Link { hash, chain, first_operation, signature };
        self.runs.entry(author).or_default().push(link);
    }

    fn refresh(&mut self) {
        self.heads = self.doc.get_heads();
        self.registers = read_registers(&self.doc).unwrap_or_default();
    }

    fn refresh_register(&mut self, key: &str) {
        if let Some(register) = read_register(&self.doc, key) {
            self.registers.insert(key.to_owned(), register);
        }
    }
}

/// All registers in one pass; `None` if there is anything else in the document.
fn read_registers(doc: &AutoCommit) -> Option<BTreeMap<String, Register>> {
    let read = |item: MapRangeItem<'_>| {
        let id = item.id();
        Some((item.key.into_owned(), register(item.value.into_value(), &id)?))
    };
    doc.map_range(ROOT, ..).map(read).collect()
}

fn read_register(doc: &AutoCommit, key: &str) -> Option<Register> {
    let (value, id) = doc.get(ROOT, key).ok()??;
    register(value, &id)
}

fn register(value: Value<'_>, id: &ObjId) -> Option<Register> {
    let ObjId::Id(operation, actor, _) = id else { return None };
    let by = Author::from_actor_bytes(actor.to_bytes())?.member;
    Some(Register { value: scalar(value)?, operation: *operation, by })
}

fn scalar(value: Value<'_>) -> Option<ScalarValue> {
    match value {
        Value::Scalar(value) => Some(value.into_owned()),
        Value::Object(_) => None,
    }
}

fn same_heads(one: &[ChangeHash], other: &[ChangeHash]) -> bool {
    let sorted = |hashes: &[ChangeHash]| {
        let mut hashes = hashes.to_vec();
        hashes.sort_unstable();
        hashes
    };
    sorted(one) == sorted(other)
}
