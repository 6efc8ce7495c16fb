//! The event log of a run in which many tasks write.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::agenda::Agenda;
use crate::{
    log::{Log, Reader},
    network::HostId,
};

/// The log, with the clock it is kept by. Cheap to clone.
#[derive(Clone)]
pub struct Record {
    agenda: Agenda,
    log: Arc<Mutex<Log>>,
}

impl Record {
    /// An empty log. `reader` gets each event as a line of text.
    pub fn new(agenda: Agenda, reader: Option<Reader>) -> Self {
        Self { agenda, log: Arc::new(Mutex::new(Log::new(reader))) }
    }

    /// Notes an event of this moment.
    pub fn note(&self, kind: &str, from: HostId, to: HostId, content: &[u8]) {
        let now = self.agenda.now();
        self.lock().record(now, kind, from, to, content);
    }

    /// Events so far, and their hash.
    pub fn outcome(&self) -> (u64, String) {
        let log = self.lock();
        (log.events(), log.hash())
    }

    fn lock(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
