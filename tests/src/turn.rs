//! Whose turn it is to use the machine.
//!
//! Most tests may run side by side. One that measures time must not share two cores with another's five
//! nodes, or it would measure the other. A lock on a file orders them across threads and processes alike.

use std::fs::File;

/// The right to run, given back on drop.
#[derive(Debug)]
pub(crate) struct Turn {
    _lock: File,
}

impl Turn {
    /// Beside others that share.
    pub(crate) fn shared() -> Self {
        let lock = lock_file();
        lock.lock_shared().expect("lock the machine's turn, shared");
        Self { _lock: lock }
    }

    /// With no other test at all.
    pub(crate) fn alone() -> Self {
        let lock = lock_file();
        lock.lock().expect("lock the machine's turn, alone");
        Self { _lock: lock }
    }
}

fn lock_file() -> File {
    let path = std::env::temp_dir().join("bandmesh-tests.lock");
    // To lock another user's file it is enough to read it.
    let file = File::open(&path).or_else(|_| File::options().create(true).append(true).open(&path));
    file.unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}
