//! What happened, as one hash.
//!
//! Every event of a run is fed, with its time and all its bytes, into SHA-256. Two runs with the same hash
//! did the same things at the same moments; a changed hash for an old seed means that some core now decides
//! differently.

use std::fmt::Write as _;

use sha2::{Digest, Sha256};

use crate::clock::WorldTime;

/// The event log of one run.
pub struct Log {
    hash: Sha256,
    events: u64,
    reader: Option<Reader>,
}

/// Somebody who reads the log as it is written.
pub type Reader = Box<dyn FnMut(WorldTime, &str) + Send>;

impl Log {
    /// An empty log. `reader` gets each event as a line of text.
    pub fn new(reader: Option<Reader>) -> Self {
        Self { hash: Sha256::new(), events: 0, reader }
    }

    /// Notes an event: what it is, between whom, and its content.
    pub fn record(&mut self, now: WorldTime, kind: &str, from: usize, to: usize, content: &[u8]) {
        self.events += 1;
        self.hash.update(now.0.to_le_bytes());
        self.hash.update((kind.len() as u32).to_le_bytes());
        self.hash.update(kind.as_bytes());
        self.hash.update((from as u32).to_le_bytes());
        self.hash.update((to as u32).to_le_bytes());
        self.hash.update((content.len() as u32).to_le_bytes());
        self.hash.update(content);
        if let Some(reader) = &mut self.reader {
            let what = match kind {
                // Packets are told apart by a digest, words are shown.
                "control" | "project" | "datagram" | "played" => {
                    let digest = Sha256::digest(content);
                    format!("{} bytes {}", content.len(), hex(digest.get(..4).unwrap_or(&[])))
                }
                _ => String::from_utf8_lossy(content).into_owned(),
            };
            reader(now, &format!("{kind} {from}>{to} {what}"));
        }
    }

    /// Events so far.
    pub fn events(&self) -> u64 {
        self.events
    }

    /// The hash of all events so far, hexadecimal.
    pub fn hash(&self) -> String {
        hex(&self.hash.clone().finalize())
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
