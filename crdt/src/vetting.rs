//! The gate: which changes from others may touch a document.
//!
//! Problem: the document engine trusts its input. A change with a repaired checksum can panic it, can expand a
//! hundred bytes into millions of operations, and can be accepted into a document that then cannot be loaded again.
//! Idea: accept only what an honest node could have produced, in steps that get dearer as trust grows:
//!
//! 1. size, chunk type and a count of everything that run-length encoding could multiply ([`chunk`]), before the engine
//!    sees a byte; compressed chunks, whole documents and bundles are refused, so nothing is ever inflated;
//! 2. parsing, with panics caught;
//! 3. re-encoding: the bytes must be exactly those the engine would write;
//! 4. the shape our documents have: values put at keys of the root map, each key once ([`crate::document`]);
//! 5. the author: number, chain and signature ([`Chain`]), known dependencies, the operation counter those give;
//! 6. the operations each value replaces must be exactly those that were visible at the change's dependencies.
//!
//! Steps 5 and 6 need the document and are taken in [`crate::document`], which also checks from time to time that the
//! document loads back. Steps 1 to 6 are pure functions of the change and what it depends on, so all honest
//! nodes accept the same set.
//!
//! **Signatures.** A member signs not the change but a digest chained over all changes of that author in that document,
//! begun with the session and the document's name. So a signature covers everything before it, and a change can be
//! replayed neither into another session nor into another document. A member who signs two changes under one number parts
//! those who hold the one from those who hold the other: neither can check what the other passes on from then on, and
//! neither is at fault.
//!
//! A node's own changes must pass as well, or its peers would hold it for hostile: their size depends on what others
//! wrote, so [`crate::document::Document::fits`] asks before they are made.
//!
//! Limits: parsing happens in the node's own process. A separate process with a memory limit, which would hold
//! even a flaw that none of these steps foresee, is not built; what stands in for it is the count in step 1. Values
//! are not judged here but where they are read, see [`crate::parameter`].

use std::panic::{AssertUnwindSafe, catch_unwind};

use automerge::{Change, ScalarValue, legacy};
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::member::{Author, PeerKey};

mod chunk;

/// Largest change, in bytes.
pub(crate) const MAX_CHANGE_BYTES: usize = 64 * 1024;
/// Most operations in one change.
pub(crate) const MAX_OPERATIONS: usize = 4_096;
/// Most changes one change may directly depend on. An honest node merges what it has, so this is the number of
/// branches that can be open at once; [`crate::project`] keeps it at half of that.
pub(crate) const MAX_DEPENDENCIES: usize = 256;
/// An ed25519 signature, in bytes.
const SIGNATURE_BYTES: usize = 64;
/// Longest key of a register, in bytes.
const MAX_KEY_BYTES: usize = 128;
/// Largest value of a register, in bytes.
const MAX_VALUE_BYTES: usize = 16 * 1024;

/// A change as it travels and as it is stored: the engine's uncompressed bytes and the author's signature.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SignedChange {
    pub(crate) bytes: Vec<u8>,
    pub(crate) signature: Vec<u8>,
}

/// A change that passed every step which needs no document.
pub(crate) struct Vetted {
    pub(crate) change: Change,
    pub(crate) author: Author,
    pub(crate) puts: Vec<Put>,
    pub(crate) signed: SignedChange,
    /// The chain whose next change its signature says it is, once that was checked: no other step is as dear.
    pub(crate) proved: Option<Chain>,
}

impl Vetted {
    /// About how much memory it takes, in bytes, and not less.
    pub(crate) fn memory(&self) -> usize {
        let put = |put: &Put| 128 + put.key.len() + 96 * put.replaces.len();
        1_024 + 3 * self.signed.bytes.len() + self.puts.iter().map(put).sum::<usize>()
    }
}

/// One value put at a key of the root map.
pub(crate) struct Put {
    pub(crate) key: String,
    /// The operations it replaces, as (counter, actor), sorted.
    pub(crate) replaces: Vec<(u64, automerge::ActorId)>,
}

/// Why a change was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("a change is larger or denser than any node writes ({0})")]
    TooLarge(&'static str),
    #[error("a change is malformed ({0})")]
    Malformed(&'static str),
    #[error("a change broke the document engine while it was {0}")]
    Broke(&'static str),
    #[error("a change is not of a shape this project has ({0}); are the programs' versions far apart?")]
    Shape(&'static str),
    #[error("a change does not bear its author's signature")]
    Signature,
    #[error("{} published two different changes under one number", .0.name())]
    Forked(PeerKey),
    #[error("a change in the name of {} does not continue what came before it here", .0.name())]
    Unverifiable(PeerKey),
}

/// Takes a change through steps 1 to 4.
pub(crate) fn vet(signed: SignedChange) -> Result<Vetted, Refusal> {
    if signed.bytes.len() > MAX_CHANGE_BYTES {
        return Err(Refusal::TooLarge("bytes"));
    }
    if signed.signature.len() != SIGNATURE_BYTES {
        return Err(Refusal::Signature);
    }
    chunk::check(&signed.bytes)?;
    let change = guarded("reading it", || Change::from_bytes(signed.bytes.clone()))?
        .map_err(|_| Refusal::Malformed("columns"))?;
    if change.len() > MAX_OPERATIONS {
        return Err(Refusal::TooLarge("operations"));
    }
    if change.deps().len() > MAX_DEPENDENCIES {
        return Err(Refusal::TooLarge("dependencies"));
    }
    let expanded = guarded("decoding it", || change.decode())?;
    let again = guarded("encoding it", || Change::from(expanded.clone()))?;
    if again.raw_bytes() != signed.bytes || again.hash() != change.hash() {
        return Err(Refusal::Malformed("not as the engine would write it"));
    }
    if !expanded.extra_bytes.is_empty() || expanded.author.is_some() || expanded.message.is_some() {
        return Err(Refusal::Shape("extra fields"));
    }
    let author = Author::from_actor_bytes(change.actor_id().to_bytes()).ok_or(Refusal::Shape("author"))?;
    let mut puts = Vec::with_capacity(expanded.operations.len());
    for operation in expanded.operations {
        puts.push(put(operation)?);
    }
    if puts.is_empty() {
        return Err(Refusal::Shape("empty"));
    }
    let mut keys: Vec<&str> = puts.iter().map(|put| put.key.as_str()).collect();
    keys.sort_unstable();
    if keys.windows(2).any(|pair| pair.first() == pair.last()) {
        return Err(Refusal::Shape("one key twice"));
    }
    Ok(Vetted { change, author, puts, signed, proved: None })
}

/// Runs engine code on untrusted input; a panic becomes a refusal.
pub(crate) fn guarded<T>(doing: &'static str, run: impl FnOnce() -> T) -> Result<T, Refusal> {
    // What the closure borrowed is thrown away by the caller when this fails, so no broken invariant survives.
    catch_unwind(AssertUnwindSafe(run)).map_err(|_| Refusal::Broke(doing))
}

/// Whether a text can be a register's key: path segments of a plain alphabet.
pub(crate) fn is_key(key: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
    key.len() <= MAX_KEY_BYTES && key.split('/').all(|part| !part.is_empty() && part.bytes().all(plain))
}

fn put(operation: legacy::Op) -> Result<Put, Refusal> {
    if operation.obj != legacy::ObjectId::Root || operation.insert {
        return Err(Refusal::Shape("an object other than the root"));
    }
    let legacy::Key::Map(key) = &operation.key else { return Err(Refusal::Shape("a sequence")) };
    if !is_key(key) {
        return Err(Refusal::Shape("a key's characters"));
    }
    let legacy::OpType::Put(value) = &operation.action else {
        return Err(Refusal::Shape("an operation other than setting a value"));
    };
    match value {
        ScalarValue::F64(number) if number.is_finite() => {}
        ScalarValue::Boolean(_) | ScalarValue::Int(_) => {}
        ScalarValue::Str(text) if text.len() <= MAX_VALUE_BYTES => {}
        ScalarValue::Bytes(bytes) if bytes.len() <= MAX_VALUE_BYTES => {}
        _ => return Err(Refusal::Shape("a value's type or size")),
    }
    let mut replaces: Vec<_> = operation.pred.iter().map(|id| (id.counter(), id.actor().clone())).collect();
    replaces.sort_unstable();
    Ok(Put { key: key.to_string(), replaces })
}

/// The signature chain of one author in one document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Chain([u8; 32]);

impl Chain {
    pub(crate) fn begin(session: &[u8; 32], document: &str, author: Author) -> Chain {
        let mut hash = Sha256::new();
        hash.update(b"bandmesh chain begins 1");
        hash.update(session);
        hash.update(author.to_actor().to_bytes());
        hash.update(document.as_bytes());
        Chain(hash.finalize().into())
    }

    pub(crate) fn next(self, change: &[u8; 32]) -> Chain {
        let mut hash = Sha256::new();
        hash.update(b"bandmesh chain continues 1");
        hash.update(self.0);
        hash.update(change);
        Chain(hash.finalize().into())
    }

    pub(crate) fn sign(self, key: &SigningKey) -> Vec<u8> {
        key.sign(&self.0).to_bytes().to_vec()
    }

    pub(crate) fn verify(self, member: PeerKey, signature: &[u8]) -> Result<(), Refusal> {
        #[cfg(test)]
        PROOFS.set(PROOFS.get() + 1);
        let key = VerifyingKey::from_bytes(&member.0).map_err(|_| Refusal::Signature)?;
        let signature = Signature::from_slice(signature).map_err(|_| Refusal::Signature)?;
        // Strict: weak keys and malleable signatures, for which nodes could disagree, are refused.
        key.verify_strict(&self.0, &signature).map_err(|_| Refusal::Signature)
    }

    /// How many signatures this thread has checked.
    #[cfg(test)]
    pub(crate) fn proofs() -> usize {
        PROOFS.get()
    }
}

#[cfg(test)]
thread_local! {
    static PROOFS: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

#[cfg(test)]
mod tests;
