//! Keeping the project on disk so that an acknowledged edit survives anything the machine does.
//!
//! Problem: a power cut can come between any two writes, a disk can be full, a file can be damaged; and one fsync
//! per edit would wear the disk and stall. Idea: one redb file, whose transactions are all or nothing; every edit
//! is appended as a signed change; waiting edits are committed together ([`Committer`], at most 20 times a second);
//! now and then a document is written as a whole, and the form before it is kept until the next time. Every record
//! carries a checksum of its own, so damage inside the file is found where it is.
//!
//! A file that cannot be read in full is kept: what could be read goes into `NAME.new`, the file is renamed to
//! `NAME.bad-1` (or the next free number), then the new one to its name, and [`Loaded::notes`] says so. Whenever the
//! power goes in between, the next start goes on from there.
//!
//! Limits: power cuts were tried with a storage that tears writes, not with real ones.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use redb::{Database, ReadableDatabase, ReadableTable, StorageBackend, TableDefinition};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sha2::{Digest, Sha256};

use crate::document::Saved;
use crate::vetting::SignedChange;

mod committer;

pub use committer::Committer;

/// Documents as a whole, by name and generation.
const SNAPSHOTS: TableDefinition<(&str, u64), &[u8]> = TableDefinition::new("snapshots");
/// Changes written singly, by document and number.
const LOG: TableDefinition<(&str, u64), &[u8]> = TableDefinition::new("log");
/// Facts about the file.
const ABOUT: TableDefinition<&str, u64> = TableDefinition::new("about");
/// Version of the tables above.
const SCHEMA: u64 = 1;
/// Bytes of SHA-256 kept before each record.
const CHECKSUM_BYTES: usize = 8;

/// The number of a [`Batch`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct BatchId(pub(crate) u64);

/// What is to be written together.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    pub(crate) id: BatchId,
    pub(crate) writes: Vec<Write>,
}

impl Batch {
    /// Its number, for [`crate::Project::handle_stored`].
    pub fn id(&self) -> BatchId {
        self.id
    }
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Write {
    Append {
        document: String,
        n: u64,
        change: SignedChange,
    },
    /// The whole document; everything before log number `next` is in it.
    Snapshot {
        document: String,
        generation: u64,
        saved: Saved,
        next: u64,
    },
}

/// What was found on disk.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Loaded {
    /// What was wrong with the file and what was done about it, as sentences for the log; empty if all was well.
    pub notes: Vec<String>,
    pub(crate) documents: Vec<StoredDocument>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct StoredDocument {
    pub(crate) name: String,
    /// Newest first.
    pub(crate) snapshots: Vec<(u64, Saved)>,
    /// In order of their numbers.
    pub(crate) log: Vec<(u64, SignedChange)>,
}

/// Why the project cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process has it open.
    #[error("{path} is in use by another node; stop that one or give this one its own --data-dir")]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// The file system refuses.
    #[error("{path} cannot be opened ({source}); check that the data directory is there and yours to write")]
    Io {
        /// The file.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// The file was written by a newer program.
    #[error(
        "{path} was written by a newer bandmesh (format {found}); update this one or use another --data-dir"
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u64,
    },
    /// A commit did not succeed; nothing of it is durable.
    #[error("the project could not be written ({0}); free some disk space or check the disk")]
    Write(String),
}

/// The project's file.
///
/// The database engine refuses everything after one error of the disk. So after a failed write the database is closed,
/// and before the next one it is opened again, from what the disk really holds. What failed is kept and goes into the
/// next transaction, before anything newer: a durable batch never lacks one before it.
pub struct Store {
    /// `None` after a failed write.
    database: Option<Database>,
    reopen: Box<dyn Fn() -> Result<Database, String> + Send>,
    /// What failed; at most what the project lets wait.
    behind: BTreeMap<BatchId, Batch>,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("database", &self.database).finish_non_exhaustive()
    }
}

impl Store {
    /// Opens the file at `path`, or makes it, and reads it. May block for as long as the disk takes.
    ///
    /// # Errors
    /// Only what a person has to settle: another node uses the file, it is not accessible, or it comes from a newer
    /// program. A damaged file is no error, see [`Loaded::notes`].
    pub fn open(path: &Path) -> Result<(Store, Loaded), StoreError> {
        let new = beside(path, ".new");
        if !path.exists() && new.exists() {
            // The file was set aside, and the power went before what was saved of it had its name.
            rename(&new, path)?;
        }
        let damage = match open_file(path) {
            Ok((database, reading)) if reading.damage.is_empty() => {
                return Ok((Store::over_file(path, database), reading.loaded));
            }
            Ok((database, reading)) => {
                close(database);
                reading
            }
            Err(Opening::Fatal(error)) => return Err(error),
            Err(Opening::Damaged(why)) => Reading { damage: vec![why], ..Reading::default() },
        };
        set_aside(path, damage)
    }

    fn over_file(path: &Path, database: Database) -> Store {
        let path = path.to_owned();
        // Never made anew: a new file would lack everything before.
        let reopen = move || Database::open(&path).map_err(|error| error.to_string());
        Store { database: Some(database), reopen: Box::new(reopen), behind: BTreeMap::new() }
    }

    /// Opens a store over any storage, for tests and simulations; damage is reported, not repaired. A clone of
    /// `backend` is the same storage.
    ///
    /// # Errors
    /// The storage cannot be opened at all.
    pub fn open_backend(backend: impl StorageBackend + Clone) -> Result<(Store, Loaded), StoreError> {
        let reopen = move || {
            let open = || Database::builder().create_with_backend(backend.clone());
            catch_unwind(AssertUnwindSafe(open))
                .map_err(|_| "the database engine broke down".to_owned())?
                .map_err(|error| error.to_string())
        };
        let mut database = reopen().map_err(StoreError::Write)?;
        let mut reading = read(&mut database).map_err(StoreError::Write)?;
        reading.loaded.notes = reading.damage;
        let store = Store { database: Some(database), reopen: Box::new(reopen), behind: BTreeMap::new() };
        Ok((store, reading.loaded))
    }

    /// Writes batches in one durable transaction: when this returns, they survive a power cut, and so do all that were
    /// handed in before, those that failed included.
    ///
    /// Writing a batch a second time changes nothing. May block for as long as the disk takes.
    ///
    /// # Errors
    /// Nothing of it is durable.
    pub fn commit(&mut self, batches: &[Batch]) -> Result<(), StoreError> {
        match self.try_commit(batches) {
            Ok(()) => {
                self.behind.clear();
                Ok(())
            }
            Err(why) => {
                self.behind.extend(batches.iter().map(|batch| (batch.id, batch.clone())));
                if let Some(database) = self.database.take() {
                    close(database);
                }
                Err(StoreError::Write(why))
            }
        }
    }

    fn try_commit(&mut self, batches: &[Batch]) -> Result<(), String> {
        let database = match &mut self.database {
            Some(database) => database,
            closed => {
                let opened = catch_unwind(AssertUnwindSafe(|| (self.reopen)()));
                closed.insert(opened.map_err(|_| "the database engine broke down".to_owned())??)
            }
        };
        let again: BTreeSet<BatchId> = batches.iter().map(|batch| batch.id).collect();
        let behind = self.behind.values().filter(|batch| !again.contains(&batch.id));
        let writes = behind.chain(batches).flat_map(|batch| &batch.writes);
        let commit = || -> Result<(), redb::Error> {
            let transaction = database.begin_write()?;
            {
                let mut snapshots = transaction.open_table(SNAPSHOTS)?;
                let mut log = transaction.open_table(LOG)?;
                let mut about = transaction.open_table(ABOUT)?;
                about.insert("schema", stamp(SCHEMA))?;
                for write in writes {
                    match write {
                        Write::Append { document, n, change } => {
                            log.insert((document.as_str(), *n), record((document, *n), change).as_slice())?;
                        }
                        Write::Snapshot { document, generation, saved, next } => {
                            let name = document.as_str();
                            snapshots.insert(
                                (name, *generation),
                                record((name, *generation), &(saved, next)).as_slice(),
                            )?;
                            // The generation before stays, with all that was written since it.
                            let before = generation.saturating_sub(1);
                            snapshots.retain_in((name, 0)..(name, before), |_, _| false)?;
                            let kept = snapshots.get((name, before))?;
                            let kept_next = kept.and_then(|kept| {
                                let (_, next): (Saved, u64) = unrecord((name, before), kept.value())?;
                                Some(next)
                            });
                            log.retain_in((name, 0)..(name, kept_next.unwrap_or(0)), |_, _| false)?;
                        }
                    }
                }
            }
            transaction.commit()?;
            Ok(())
        };
        match catch_unwind(AssertUnwindSafe(commit)) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("the database engine broke down".into()),
        }
    }
}

// --- Reading ----------------------------------------------------------------------------------------------------

enum Opening {
    Fatal(StoreError),
    Damaged(String),
}

#[derive(Default)]
struct Reading {
    loaded: Loaded,
    damage: Vec<String>,
}

fn open_file(path: &Path) -> Result<(Database, Reading), Opening> {
    let io = |source| Opening::Fatal(StoreError::Io { path: path.to_owned(), source });
    if path.is_dir() {
        return Err(io(io::Error::from(io::ErrorKind::IsADirectory)));
    }
    // The engine would make a new project of it without a word.
    if path.metadata().is_ok_and(|found| found.len() == 0) {
        return Err(Opening::Damaged("it is empty".into()));
    }
    let mut database = match catch_unwind(|| Database::create(path)) {
        Ok(Ok(database)) => database,
        Ok(Err(redb::DatabaseError::DatabaseAlreadyOpen)) => {
            return Err(Opening::Fatal(StoreError::InUse { path: path.to_owned() }));
        }
        Ok(Err(redb::DatabaseError::Storage(redb::StorageError::Io(source)))) if !is_damage(&source) => {
            return Err(io(source));
        }
        Ok(Err(error)) => return Err(Opening::Damaged(error.to_string())),
        Err(_) => return Err(Opening::Damaged("the database engine broke down on it".into())),
    };
    let reading = match read(&mut database) {
        Ok(reading) => reading,
        Err(why) => {
            close(database);
            return Err(Opening::Damaged(why));
        }
    };
    match catch_unwind(AssertUnwindSafe(|| schema(&database))) {
        Ok(Ok(Some(found))) if found > SCHEMA => {
            close(database);
            Err(Opening::Fatal(StoreError::Newer { path: path.to_owned(), found }))
        }
        Ok(Ok(_)) => Ok((database, reading)),
        Ok(Err(())) => {
            close(database);
            Err(Opening::Damaged("its format number is none".into()))
        }
        Err(_) => {
            close(database);
            Err(Opening::Damaged("the database engine broke down on it".into()))
        }
    }
}

/// Closes a database that may be damaged. Closing writes, and on bad pages the engine breaks down in that, too.
fn close(database: Database) {
    // What it would have written is of no use: the file is set aside or left alone.
    let _ = catch_unwind(AssertUnwindSafe(move || drop(database)));
}

/// Whether an I/O error speaks of the file's content rather than of access to it.
fn is_damage(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidInput
    )
}

/// Reads all there is. `Err` if the file as a whole is unreadable; single bad records are listed.
fn read(database: &mut Database) -> Result<Reading, String> {
    let run = || -> Result<Reading, redb::Error> {
        let mut reading = Reading::default();
        let mut documents: BTreeMap<String, StoredDocument> = BTreeMap::new();
        let mut entry = |name: &str, damage: Option<String>, add: &mut dyn FnMut(&mut StoredDocument)| {
            reading.damage.extend(damage);
            let document = documents.entry(name.to_owned()).or_default();
            document.name = name.to_owned();
            add(document);
        };
        let transaction = database.begin_read()?;
        let names: BTreeSet<String> =
            transaction.list_tables()?.map(|table| redb::TableHandle::name(&table).to_owned()).collect();
        if names.contains("snapshots") {
            for row in transaction.open_table(SNAPSHOTS)?.iter()? {
                let (key, value) = row?;
                let (name, generation) = key.value();
                match unrecord::<(Saved, u64)>((name, generation), value.value()) {
                    Some((saved, _)) => entry(name, None, &mut |document| {
                        document.snapshots.insert(0, (generation, saved.clone()));
                    }),
                    None => entry(name, Some(format!("generation {generation} of {name}")), &mut |_| {}),
                }
            }
        }
        if names.contains("log") {
            for row in transaction.open_table(LOG)?.iter()? {
                let (key, value) = row?;
                let (name, n) = key.value();
                match unrecord::<SignedChange>((name, n), value.value()) {
                    Some(change) => {
                        entry(name, None, &mut |document| document.log.push((n, change.clone())));
                    }
                    None => entry(name, Some(format!("change {n} of {name}")), &mut |_| {}),
                }
            }
        }
        reading.loaded.documents = documents.into_values().collect();
        drop(transaction);
        // Damage outside the records would otherwise show itself in the middle of a later write.
        match database.check_integrity() {
            Ok(true) => {}
            Ok(false) => reading.damage.push("pages that nothing accounts for".into()),
            Err(error) => reading.damage.push(error.to_string()),
        }
        Ok(reading)
    };
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(Ok(reading)) => Ok(reading),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("the database engine broke down on it".into()),
    }
}

/// The format of the file; `None` if it says none. `Err` if what it says is no number we could have written.
fn schema(database: &Database) -> Result<Option<u64>, ()> {
    let found = || {
        let transaction = database.begin_read().ok()?;
        let about = transaction.open_table(ABOUT).ok()?;
        about.get("schema").ok()?.map(|found| found.value())
    };
    match found() {
        None => Ok(None),
        Some(found) if found == stamp(found & u64::from(u32::MAX)) => Ok(Some(found & u64::from(u32::MAX))),
        Some(_) => Err(()),
    }
}

/// A format number as it stands in the file: twice, so that a damaged one is not taken for that of a newer program.
fn stamp(schema: u64) -> u64 {
    schema << 32 | schema
}

/// Saves what could be read of a damaged file into a new one, and renames both.
fn set_aside(path: &Path, damaged: Reading) -> Result<(Store, Loaded), StoreError> {
    let io = |source| StoreError::Io { path: path.to_owned(), source };
    let aside = (1u32..)
        .map(|n| beside(path, &format!(".bad-{n}")))
        .find(|aside| !aside.exists())
        .ok_or_else(|| io(io::Error::from(io::ErrorKind::AlreadyExists)))?;
    let new = beside(path, ".new");
    // Left over from a start that did not get to the end of this; the damaged file still has all of it.
    if new.exists() {
        fs::remove_file(&new).map_err(io)?;
    }
    let open = |path: &Path| match open_file(path) {
        Ok((database, _)) => Ok(Store::over_file(path, database)),
        Err(Opening::Fatal(error)) => Err(error),
        Err(Opening::Damaged(why)) => Err(StoreError::Write(why)),
    };
    let mut store = open(&new)?;
    let Reading { mut loaded, damage } = damaged;
    let mut writes = Vec::new();
    for document in &loaded.documents {
        for (generation, saved) in document.snapshots.iter().rev() {
            let (document, saved) = (document.name.clone(), saved.clone());
            writes.push(Write::Snapshot { document, generation: *generation, saved, next: 0 });
        }
        for (n, change) in &document.log {
            writes.push(Write::Append { document: document.name.clone(), n: *n, change: change.clone() });
        }
    }
    store.commit(&[Batch { id: BatchId(0), writes }])?;
    drop(store);
    rename(path, &aside)?;
    rename(&new, path)?;
    let store = open(path)?;
    let records: usize = loaded.documents.iter().map(|d| d.snapshots.len() + d.log.len()).sum();
    loaded.notes.push(format!(
        "{} is damaged ({}); it was kept as {}, and a new file was begun with the {records} records that could be read",
        path.display(),
        damage.join(", "),
        aside.display(),
    ));
    Ok((store, loaded))
}

/// The file of that ending beside another one.
fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    PathBuf::from(name)
}

/// Renames a file so that it stays renamed when the power goes.
fn rename(from: &Path, to: &Path) -> Result<(), StoreError> {
    let folder = to.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::rename(from, to)
        .and_then(|()| fs::File::open(folder)?.sync_all())
        .map_err(|source| StoreError::Io { path: to.to_owned(), source })
}

// --- Records ----------------------------------------------------------------------------------------------------

fn record(key: (&str, u64), value: &impl Serialize) -> Vec<u8> {
    let body = postcard::to_stdvec(value).unwrap_or_default();
    let mut record = checksum(key, &body).to_vec();
    record.extend(body);
    record
}

fn unrecord<T: DeserializeOwned>(key: (&str, u64), record: &[u8]) -> Option<T> {
    let (sum, body) = record.split_at_checked(CHECKSUM_BYTES)?;
    if sum != checksum(key, body) {
        return None;
    }
    postcard::from_bytes(body).ok()
}

/// Covers the key as well: a record that a damaged page shows under another key is no record.
fn checksum((name, n): (&str, u64), body: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let mut hash = Sha256::new();
    hash.update(n.to_be_bytes());
    hash.update(body);
    hash.update(name.as_bytes());
    let full: [u8; 32] = hash.finalize().into();
    full.first_chunk().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests;
