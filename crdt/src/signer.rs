//! Who signs this member's changes: its key, or the signatures that it made before.
//!
//! A recorded project can be run again by somebody who has not the key: a signature is no secret, so the recording has
//! those that were made, in their order.

use std::collections::VecDeque;

use ed25519_dalek::SigningKey;

use crate::vetting::Chain;

/// Signs a link of a chain.
pub(crate) trait Sign {
    fn sign(&mut self, chain: Chain) -> Vec<u8>;
}

impl Sign for &SigningKey {
    fn sign(&mut self, chain: Chain) -> Vec<u8> {
        chain.sign(self)
    }
}

/// The signer of a [`Project`](crate::Project).
pub(crate) struct Signer {
    source: Source,
    /// What was signed since somebody last asked, if anybody does.
    made: Option<Vec<Vec<u8>>>,
}

enum Source {
    Key(SigningKey),
    Recorded(VecDeque<Vec<u8>>),
}

impl Signer {
    pub(crate) fn new(key: SigningKey) -> Self {
        Self { source: Source::Key(key), made: None }
    }

    pub(crate) fn recorded() -> Self {
        Self { source: Source::Recorded(VecDeque::new()), made: Some(Vec::new()) }
    }

    pub(crate) fn keep(&mut self) {
        self.made.get_or_insert_default();
    }

    pub(crate) fn take(&mut self) -> Vec<Vec<u8>> {
        self.made.as_mut().map(std::mem::take).unwrap_or_default()
    }

    pub(crate) fn give(&mut self, signatures: &[Vec<u8>]) {
        if let Source::Recorded(queue) = &mut self.source {
            *queue = signatures.iter().cloned().collect();
        }
    }
}

impl Sign for &mut Signer {
    fn sign(&mut self, chain: Chain) -> Vec<u8> {
        let signature = match &mut self.source {
            Source::Key(key) => chain.sign(key),
            // More was signed than then: one that no key makes shows it to whoever compares.
            Source::Recorded(queue) => queue.pop_front().unwrap_or_else(|| vec![0; 64]),
        };
        if let Some(made) = &mut self.made {
            made.push(signature.clone());
        }
        signature
    }
}
