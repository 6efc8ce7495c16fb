//! Changes of the project that their author did not make.
//!
//! A project frame carries changes as the document engine writes them: a mark of four octets, four octets of a checksum
//! over the rest, a type, a length, and the content with author and values. Everybody can repair the checksum; nobody
//! but the author can repair the signature beside it.

use std::sync::OnceLock;

use automerge::{ActorId, AutoCommit, ROOT, ScalarValue, transaction::Transactable as _};
use crdt::PeerKey;
use sha2::{Digest, Sha256};

use super::{FORGED_WORDS, TRUE_WORDS};

/// What every change begins with.
const MARK: [u8; 4] = [0x85, 0x6f, 0x4a, 0x83];

/// A way of forging.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forgery {
    /// Other words, and nothing repaired.
    Damaged,
    /// Other words with a repaired checksum under the old signature.
    Unsigned,
    /// Other words in the name of whoever gets them, with a repaired checksum.
    AnotherAuthor,
    /// In the place of the words one change of far more operations than any node writes, few octets each, so that it is no
    /// larger than a change may be.
    Huge,
}

/// Operations of [`Forgery::Huge`]: twelve times what is taken, in less than 64 KiB.
const HUGE_OPERATIONS: usize = 50_000;

impl Forgery {
    /// The frame with a forged change; `None` if it holds nothing of Mallory's words.
    pub(super) fn forge(self, frame: &[u8], me: &PeerKey, to: &PeerKey) -> Option<Vec<u8>> {
        let mut forged = replaced(frame, TRUE_WORDS.as_bytes(), FORGED_WORDS.as_bytes())?;
        match self {
            Self::Damaged => {}
            Self::Unsigned => repair(&mut forged),
            Self::AnotherAuthor => {
                forged = replaced(&forged, &me.0, &to.0).unwrap_or(forged);
                repair(&mut forged);
            }
            Self::Huge => return with_change(frame, huge()),
        }
        Some(forged)
    }
}

/// `bytes` with every `from` turned into `to`, which is as long; `None` if there is none.
fn replaced(bytes: &[u8], from: &[u8], to: &[u8]) -> Option<Vec<u8>> {
    let places: Vec<usize> =
        bytes.windows(from.len()).enumerate().filter(|(_, it)| *it == from).map(|(place, _)| place).collect();
    let mut changed = bytes.to_vec();
    for place in &places {
        if let Some(part) = changed.get_mut(*place..place + from.len()) {
            part.copy_from_slice(to);
        }
    }
    (!places.is_empty()).then_some(changed)
}

/// The frame with this change in the place of the one that holds Mallory's words; before a change stands its length, in
/// LEB128.
fn with_change(frame: &[u8], change: &[u8]) -> Option<Vec<u8>> {
    let words = frame.windows(TRUE_WORDS.len()).position(|it| it == TRUE_WORDS.as_bytes())?;
    let begin = frame.get(..words)?.windows(MARK.len()).rposition(|it| it == MARK)?;
    let end = end_of_chunk(frame, begin + 8)?;
    let before = frame.get(..begin.checked_sub(leb128(end - begin).len())?)?;
    Some([before, &leb128(change.len()), change, frame.get(end..)?].concat())
}

fn leb128(mut value: usize) -> Vec<u8> {
    let mut bytes = vec![];
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

/// A change that puts the forged words and counts to [`HUGE_OPERATIONS`]. Made once: that takes longer than much of a run.
fn huge() -> &'static [u8] {
    static HUGE: OnceLock<Vec<u8>> = OnceLock::new();
    HUGE.get_or_init(|| {
        let mut document = AutoCommit::new().with_actor(ActorId::from([7u8; 40]));
        let counted = document
            .put(ROOT, "forged", FORGED_WORDS)
            .and_then(|()| document.put(ROOT, "count", ScalarValue::counter(0)))
            .and_then(|()| (2..HUGE_OPERATIONS).try_for_each(|_| document.increment(ROOT, "count", 1)));
        let changes = document.get_changes(&[]);
        let change = changes.first().filter(|_| counted.is_ok());
        change.map(|change| change.raw_bytes().to_vec()).unwrap_or_default()
    })
}

/// Gives every change in the frame the checksum of what it says now.
fn repair(frame: &mut [u8]) {
    let marks: Vec<usize> = frame
        .windows(MARK.len())
        .enumerate()
        .filter(|(_, it)| **it == MARK)
        .map(|(place, _)| place)
        .collect();
    for mark in marks {
        let content = mark + 8;
        let Some(end) = end_of_chunk(frame, content) else { continue };
        let Some(sum) = frame.get(content..end).map(Sha256::digest) else { continue };
        if let (Some(place), Some(sum)) = (frame.get_mut(mark + 4..content), sum.get(..4)) {
            place.copy_from_slice(sum);
        }
    }
}

/// Where the chunk ends whose type stands at `at`, followed by its length in LEB128.
fn end_of_chunk(frame: &[u8], at: usize) -> Option<usize> {
    let (mut place, mut length, mut shift) = (at + 1, 0usize, 0);
    loop {
        let byte = *frame.get(place)?;
        place += 1;
        length |= usize::from(byte & 0x7F).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            return place.checked_add(length).filter(|end| *end <= frame.len());
        }
        shift += 7;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crdt::{Command, Config, Output, Project, storage::Loaded};

    fn project(who: u8) -> Project {
        let signing_key = ed25519_dalek::SigningKey::from_bytes(&[who; 32]);
        Project::new(Config { signing_key, session: "jam".into(), seed: [who; 32] }, Loaded::default())
    }

    /// What Bob makes of words of Mallory that went through `hand`: his project, and why he sends Mallory away, if he does.
    fn told(hand: impl Fn(&[u8], &PeerKey, &PeerKey) -> Vec<u8>) -> (String, Option<String>) {
        let (mut mallory, mut bob) = (project(1), project(2));
        let (from, to) = (mallory.me(), bob.me());
        mallory.handle_peer_connected(0, to);
        bob.handle_peer_connected(0, from);
        let value = serde_json::json!({"text": TRUE_WORDS});
        mallory.command(1, &[Command::Add { address: "/chat".into(), value }]).unwrap();
        let mut sent_away = None;
        for now in (0..20_000).step_by(500) {
            mallory.handle_deadline(now);
            bob.handle_deadline(now);
            while let Some(output) = mallory.poll() {
                match output {
                    Output::Send { bytes, .. } => bob.handle_message(now, from, &hand(&bytes, &from, &to)),
                    Output::Store(batch) => mallory.handle_stored(now, batch.id(), Ok(())),
                    _ => {}
                }
            }
            while let Some(output) = bob.poll() {
                match output {
                    Output::Send { bytes, .. } => mallory.handle_message(now, to, &bytes),
                    Output::Store(batch) => bob.handle_stored(now, batch.id(), Ok(())),
                    Output::Quarantined { reason, .. } => sent_away = Some(reason),
                    _ => {}
                }
            }
        }
        (bob.to_json().to_string(), sent_away)
    }

    #[test]
    fn true_words_arrive_and_no_forgery_does() {
        let (heard, sent_away) = told(|frame, _, _| frame.to_vec());
        assert!(heard.contains(TRUE_WORDS) && sent_away.is_none());
        assert!((20_000..64 * 1024).contains(&huge().len()), "{}", huge().len());
        for how in [Forgery::Damaged, Forgery::Unsigned, Forgery::AnotherAuthor, Forgery::Huge] {
            let (heard, sent_away) =
                told(|frame, me, to| how.forge(frame, me, to).unwrap_or_else(|| frame.to_vec()));
            assert!(!heard.contains(FORGED_WORDS), "{how:?}");
            let reason = sent_away.unwrap_or_else(|| panic!("{how:?} is not refused"));
            assert_eq!(reason.contains("larger or denser"), how == Forgery::Huge, "{how:?}: {reason}");
        }
    }

    #[test]
    fn a_repaired_change_has_a_checksum_that_the_engine_takes() {
        // A repaired change that says nothing new is the change itself.
        let (heard, sent_away) = told(|frame, _, _| {
            let mut same = frame.to_vec();
            repair(&mut same);
            assert_eq!(same, frame);
            same
        });
        assert!(heard.contains(TRUE_WORDS) && sent_away.is_none());
    }
}
