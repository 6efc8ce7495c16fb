//! The data directory: everything a node keeps, and nothing of it anywhere else.
//!
//! One node at a time: an advisory lock on `lock` is held while a [`DataDir`] lives and goes with the process, however it
//! ends. Secrets have mode 0600 from the moment they exist, are written whole or not at all, and are refused when others can
//! read them, because then others may have.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rand::RngCore;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::cli::config;
use crate::control::Token;

/// Bytes a secret file may hold; ours hold 65.
const MAX_SECRET_BYTES: u64 = 4096;

const README: &str = "\
This is where a Bandmesh node keeps everything. Nothing else on this machine is written.

config.toml    options, for you to edit; `bandmesh up --help` says what they mean
identity.key   this node's identity: whoever has it can pose as you. Back it up, show it to nobody
profile.json   what you answered on the page; delete it to be asked again
token          opens the control interface of the running node; delete it and restart for a new one
view-token     the same for looking only, for a display on the wall
project.redb   the shared project of the session `jam` with its history; other sessions have project-NAME-….redb
*.bad-1        a file that could not be read, kept aside so that nothing is lost; delete it when you want
*.new          what is about to take a file's place; the next start finishes it
demo/          the projects of the bandmates of `bandmesh demo`; delete it when you want
node.json      where the running node is found; gone when it has stopped
lock           held by the running node

To move a node to another machine, stop it and copy the whole directory. To begin anew, stop it and delete the directory.
";

/// The session of a node that is told no other.
pub(crate) const DEFAULT_SESSION: &str = "jam";

/// A node's data directory, held for this process alone while this lives.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    /// Unlocked by being closed.
    _lock: File,
}

/// Why the data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// Another node has it.
    #[error(
        "another node runs with the data directory {0}; stop it, or give this one its own with --data-dir DIR"
    )]
    InUse(PathBuf),
    /// Others could read a secret.
    #[error(
        "{path} can be used by other users of this machine (mode {mode:04o}); run `chmod 600 '{path}'` and start again"
    )]
    TooOpen {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A secret file holds something else.
    #[error("{path} is damaged: {what}; put back a copy, or delete it for a new one{consequence}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// How.
        what: &'static str,
        /// What a new one means.
        consequence: &'static str,
    },
    /// The system refused.
    #[error("{path}: {error}; make the directory writable, or give another with --data-dir DIR")]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// The system's reason.
        error: io::Error,
    },
}

/// `node.json`: how commands find the running node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeFile {
    /// The node's process.
    pub pid: u32,
    /// The control interface, such as `http://127.0.0.1:7780`.
    pub http: String,
    /// The node's identity.
    pub peer_id: String,
}

/// The `node.json` of a running node; dropping it removes the file.
#[derive(Debug)]
pub struct RunningFile(PathBuf);

impl Drop for RunningFile {
    fn drop(&mut self) {
        // A file left behind is noticed by whoever finds nobody at its address.
        let _ = fs::remove_file(&self.0);
    }
}

impl DataDir {
    /// Opens the directory for a node, making it (mode 0700) if need be, with its README and a config file to edit.
    ///
    /// # Errors
    /// If it cannot be written or another node has it.
    pub fn open(path: &Path) -> Result<Self, DataDirError> {
        let io_error = |path: &Path| {
            let path = path.to_owned();
            move |error| DataDirError::Io { path, error }
        };
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(io_error(path))?;
        let path = fs::canonicalize(path).map_err(io_error(path))?;
        let lock_path = path.join("lock");
        let lock = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&lock_path)
            .map_err(io_error(&lock_path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(DataDirError::InUse(path)),
            Err(TryLockError::Error(error)) => return Err(DataDirError::Io { path: lock_path, error }),
        }
        let readme = path.join("README");
        if fs::read(&readme).ok().as_deref() != Some(README.as_bytes()) {
            write_whole(&readme, README.as_bytes(), 0o644)?;
        }
        let config = path.join(config::FILE_NAME);
        if !config.exists() {
            write_whole(&config, config::TEMPLATE.as_bytes(), 0o600)?;
        }
        Ok(Self { path, _lock: lock })
    }

    /// The directory, absolute.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the database of `session`'s project belongs. Each session has its own: the members of one are strangers in
    /// another, and so are their signatures.
    #[must_use]
    pub fn project_file(&self, session: &str) -> PathBuf {
        if session == DEFAULT_SESSION {
            return self.path.join("project.redb");
        }
        let readable = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        let words: String = session.chars().filter(readable).take(24).collect();
        let digest = Sha256::digest(session.as_bytes());
        let hash: String = digest.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
        self.path.join(format!("project-{words}-{hash}.redb"))
    }

    /// Where the token is.
    #[must_use]
    pub fn token_file(&self) -> PathBuf {
        token_file(&self.path)
    }

    /// The token of the control interface; made on first use.
    ///
    /// # Errors
    /// If the file is damaged, too open or cannot be written.
    pub fn token(&self) -> Result<Token, DataDirError> {
        let path = self.token_file();
        if let Some(token) = read_token(&self.path)? {
            return Ok(token);
        }
        let token = Token::generate();
        write_whole(&path, format!("{}\n", token.secret()).as_bytes(), 0o600)?;
        Ok(token)
    }

    /// The token that opens the control interface for looking only; made on first use.
    ///
    /// # Errors
    /// If the file is damaged, too open or cannot be written.
    pub fn view_token(&self) -> Result<Token, DataDirError> {
        let path = self.path.join("view-token");
        if let Some(text) = read_secret(&path)? {
            let what = "it must hold 32 to 256 letters and digits";
            return Token::parse(&text).ok_or(DataDirError::Damaged { path, what, consequence: "" });
        }
        let token = Token::generate();
        write_whole(&path, format!("{}\n", token.secret()).as_bytes(), 0o600)?;
        Ok(token)
    }

    /// The seed of the node's Ed25519 identity; made on first use.
    ///
    /// # Errors
    /// If the file is damaged, too open or cannot be written. A damaged identity is never replaced silently: the player would
    /// be a stranger to the band.
    pub fn identity_seed(&self) -> Result<[u8; 32], DataDirError> {
        let path = self.path.join("identity.key");
        if let Some(text) = read_secret(&path)? {
            return seed(text.trim()).ok_or(DataDirError::Damaged {
                path,
                what: "it must hold 64 hexadecimal digits",
                consequence: " (the band will see a new member)",
            });
        }
        let mut seed = [0_u8; 32];
        rand::rng().fill_bytes(&mut seed);
        let text: String = seed.iter().map(|byte| format!("{byte:02x}")).collect();
        write_whole(&path, format!("{text}\n").as_bytes(), 0o600)?;
        Ok(seed)
    }

    /// Writes `node.json`; it goes when the result is dropped.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn announce(&self, node: &NodeFile) -> Result<RunningFile, DataDirError> {
        let path = node_file(&self.path);
        let text = serde_json::to_string(node).unwrap_or_default();
        write_whole(&path, format!("{text}\n").as_bytes(), 0o600)?;
        Ok(RunningFile(path))
    }
}

pub(crate) fn node_file(data_dir: &Path) -> PathBuf {
    data_dir.join("node.json")
}

fn token_file(data_dir: &Path) -> PathBuf {
    data_dir.join("token")
}

/// The token in a data directory; `None` if there is none yet.
pub(crate) fn read_token(data_dir: &Path) -> Result<Option<Token>, DataDirError> {
    let path = token_file(data_dir);
    let Some(text) = read_secret(&path)? else { return Ok(None) };
    let what = "it must hold 32 to 256 letters and digits";
    Token::parse(&text).map(Some).ok_or(DataDirError::Damaged { path, what, consequence: "" })
}

fn read_secret(path: &Path) -> Result<Option<String>, DataDirError> {
    let io_error = |error| DataDirError::Io { path: path.to_owned(), error };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io_error(error)),
    };
    let mode = file.metadata().map_err(io_error)?.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(DataDirError::TooOpen { path: path.to_owned(), mode });
    }
    let mut bytes = Vec::new();
    file.take(MAX_SECRET_BYTES).read_to_end(&mut bytes).map_err(io_error)?;
    Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
}

fn seed(text: &str) -> Option<[u8; 32]> {
    if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let mut seed = [0; 32];
    for (at, byte) in seed.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * at..2 * at + 2)?, 16).ok()?;
    }
    Some(seed)
}

/// Writes a file whole or not at all, its mode right from the start.
pub(crate) fn write_whole(path: &Path, contents: &[u8], mode: u32) -> Result<(), DataDirError> {
    let written = || -> io::Result<()> {
        let new = path.with_extension("new");
        match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&new)?;
        // The umask may have taken rights away that the file should have.
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        file.write_all(contents)?;
        file.sync_all()?;
        fs::rename(&new, path)?;
        // The new name is on disk only once its directory is.
        path.parent().map_or(Ok(()), |directory| File::open(directory)?.sync_all())
    };
    written().map_err(|error| DataDirError::Io { path: path.to_owned(), error })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_session_has_a_project_of_its_own_inside_the_directory() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::open(dir.path()).unwrap();
        let files =
            ["jam", "demo", "../../etc/passwd", "\u{202e}x", "demo "].map(|name| data.project_file(name));
        assert_eq!(files[0], data.path().join("project.redb"));
        for (at, file) in files.iter().enumerate() {
            assert_eq!(file.parent(), Some(data.path()));
            assert!(!files[..at].contains(file));
        }
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn new_directory_is_private_and_explains_itself() {
        let base = tempfile::tempdir().unwrap();
        let dir = DataDir::open(&base.path().join("deep/data")).unwrap();
        assert_eq!(mode(dir.path()), 0o700);
        assert!(fs::read_to_string(dir.path().join("README")).unwrap().contains("identity.key"));
        assert!(dir.path().join("config.toml").exists());
        dir.token().unwrap();
        dir.view_token().unwrap();
        dir.identity_seed().unwrap();
        for file in ["token", "view-token", "identity.key", "lock", "config.toml"] {
            assert_eq!(mode(&dir.path().join(file)), 0o600, "{file}");
        }
    }

    #[test]
    fn secrets_are_the_same_after_a_restart() {
        let base = tempfile::tempdir().unwrap();
        let dir = DataDir::open(base.path()).unwrap();
        let (token, seed) = (dir.token().unwrap(), dir.identity_seed().unwrap());
        drop(dir);
        let dir = DataDir::open(base.path()).unwrap();
        assert!(dir.token().unwrap().matches(token.secret()));
        assert!(!dir.view_token().unwrap().matches(token.secret()));
        assert_eq!(dir.identity_seed().unwrap(), seed);
    }

    #[test]
    fn secret_others_can_read_is_refused_with_the_command_that_mends_it() {
        let base = tempfile::tempdir().unwrap();
        let dir = DataDir::open(base.path()).unwrap();
        dir.identity_seed().unwrap();
        let path = dir.path().join("identity.key");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let message = dir.identity_seed().unwrap_err().to_string();
        assert!(message.contains("chmod 600") && message.contains("0644"), "{message}");
    }

    #[test]
    fn damaged_identity_is_kept_and_named() {
        let base = tempfile::tempdir().unwrap();
        let dir = DataDir::open(base.path()).unwrap();
        let path = dir.path().join("identity.key");
        for damage in ["", "abc", &"é".repeat(32), &"0".repeat(63), &"\0".repeat(64)] {
            write_whole(&path, damage.as_bytes(), 0o600).unwrap();
            assert!(matches!(dir.identity_seed(), Err(DataDirError::Damaged { .. })), "{damage:?}");
            assert_eq!(fs::read(&path).unwrap(), damage.as_bytes());
        }
    }

    #[test]
    fn two_nodes_cannot_share_a_directory() {
        let base = tempfile::tempdir().unwrap();
        let first = DataDir::open(base.path()).unwrap();
        assert!(matches!(DataDir::open(base.path()), Err(DataDirError::InUse(_))));
        drop(first);
        assert!(DataDir::open(base.path()).is_ok());
    }

    #[test]
    fn node_file_lives_as_long_as_the_node() {
        let base = tempfile::tempdir().unwrap();
        let dir = DataDir::open(base.path()).unwrap();
        let node = NodeFile { pid: 1, http: "http://127.0.0.1:1".into(), peer_id: "p".into() };
        let running = dir.announce(&node).unwrap();
        let read: NodeFile = serde_json::from_slice(&fs::read(node_file(dir.path())).unwrap()).unwrap();
        assert_eq!(read, node);
        drop(running);
        assert!(!node_file(dir.path()).exists());
    }
}
