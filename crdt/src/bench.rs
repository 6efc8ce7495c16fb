//! How long the project's two costly moments take: taking in one change from somebody else, and loading.

use std::collections::BTreeMap;
use std::time::Instant;

use automerge::ScalarValue;
use ed25519_dalek::SigningKey;

use crate::document::Document;
use crate::member::{Author, PeerKey};
use crate::vetting::{SignedChange, vet};

/// Notes written by one change when a project is built.
const NOTES_PER_CHANGE: usize = 10;

/// A measured row.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Tracks, a document each.
    pub tracks: usize,
    /// Notes in all tracks together, one register each.
    pub notes: usize,
    /// What was measured, with its unit: `apply_us`, `load_ms`.
    pub what: &'static str,
    /// Half of the runs were faster.
    pub median: f64,
    /// One run in a hundred was slower.
    pub p99: f64,
}

/// Time to vet and apply one change of somebody else in a project of this size, in microseconds, over `changes` changes.
pub fn apply(tracks: usize, notes: usize, changes: usize) -> Row {
    let mut band = Band::new(tracks, notes);
    let copies = band.documents.iter_mut().filter_map(|document| document.check().ok().cloned()).enumerate();
    let mut theirs: Vec<Document> =
        copies.filter_map(|(index, saved)| Document::load(&name(index), SESSION, saved).ok()).collect();
    let mut times = Vec::with_capacity(changes);
    for n in 0..changes {
        let index = n % tracks.max(1);
        let Some(change) = band.write(index, [(format!("notes/0/{}", n % notes.max(1)), n)]) else {
            continue;
        };
        let Some(document) = theirs.get_mut(index) else { continue };
        let begun = Instant::now();
        if let Ok(vetted) = vet(change) {
            // A refusal cannot happen here and would only shorten the time.
            let _ = document.receive(&vetted);
        }
        times.push(begun.elapsed().as_secs_f64() * 1e6);
    }
    row(tracks, notes, "apply_us", times)
}

/// Time to load a project of this size from its saved documents, in milliseconds, over `runs` runs.
pub fn load(tracks: usize, notes: usize, runs: usize) -> Row {
    let mut band = Band::new(tracks, notes);
    let saved: Vec<_> = band.documents.iter_mut().filter_map(|d| d.check().ok().cloned()).collect();
    let mut times = Vec::with_capacity(runs);
    for _ in 0..runs {
        let copies = saved.clone();
        let begun = Instant::now();
        for (index, saved) in copies.into_iter().enumerate() {
            let _ = Document::load(&name(index), SESSION, saved);
        }
        times.push(begun.elapsed().as_secs_f64() * 1e3);
    }
    row(tracks, notes, "load_ms", times)
}

const SESSION: [u8; 32] = [0; 32];

struct Band {
    key: SigningKey,
    author: Author,
    documents: Vec<Document>,
}

impl Band {
    fn new(tracks: usize, notes: usize) -> Band {
        let key = SigningKey::from_bytes(&[7; 32]);
        let author = Author { member: PeerKey(key.verifying_key().to_bytes()), start: 1 };
        let documents = (0..tracks.max(1)).map(|index| Document::new(&name(index), SESSION)).collect();
        let mut band = Band { key, author, documents };
        let tracks = band.documents.len();
        for first in (0..notes).step_by(NOTES_PER_CHANGE) {
            let values = (first..notes.min(first + NOTES_PER_CHANGE)).map(|n| (format!("notes/1/{n}"), n));
            band.write((first / NOTES_PER_CHANGE) % tracks, values);
        }
        band
    }

    fn write(
        &mut self,
        index: usize,
        notes: impl IntoIterator<Item = (String, usize)>,
    ) -> Option<SignedChange> {
        let packed = |n: usize| {
            ScalarValue::Bytes((n as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes().to_vec())
        };
        let values: BTreeMap<_, _> = notes.into_iter().map(|(key, n)| (key, packed(n))).collect();
        let document = self.documents.get_mut(index)?;
        document.stage(self.author, &values).ok()?;
        document.commit(self.author, &self.key, 0, &values)
    }
}

fn name(index: usize) -> String {
    format!("track/{index}")
}

fn row(tracks: usize, notes: usize, what: &'static str, mut times: Vec<f64>) -> Row {
    times.sort_by(f64::total_cmp);
    let at = |share: usize| times.get(times.len() * share / 100).copied().unwrap_or_default();
    Row { tracks, notes, what, median: at(50), p99: at(99) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_hold_measured_times() {
        let (apply, load) = (apply(2, 40, 20), load(2, 40, 3));
        assert_eq!((apply.what, load.what), ("apply_us", "load_ms"));
        assert!(apply.median > 0.0 && apply.p99 >= apply.median && load.median > 0.0);
    }
}
