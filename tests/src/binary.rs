//! The programs under test, built by the same cargo with the same settings as the tests themselves.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The `bandmesh` program: the one named by `BANDMESH_BIN`, or this workspace's, built if it is stale.
pub fn bandmesh() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| std::env::var_os("BANDMESH_BIN").map_or_else(|| built("bandmesh"), PathBuf::from))
}

/// The `bandmesh-sim` program: the one named by `BANDMESH_SIM_BIN`, or this workspace's, built if it is stale.
pub fn simulator() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| {
        std::env::var_os("BANDMESH_SIM_BIN").map_or_else(|| built("bandmesh-sim"), PathBuf::from)
    })
}

/// The JACK client that plays and records for the suite. Cargo builds a package's own programs for its tests.
pub(crate) fn jack_probe() -> PathBuf {
    existing(&profile_directory().join("jack-probe"))
}

/// The JACK client with a keyboard.
pub(crate) fn jack_keyboard() -> PathBuf {
    existing(&profile_directory().join("jack-keyboard"))
}

/// `cargo test` does not build another package's program. Asking for everything it has just built, and the
/// programs, resolves features alike, so that only the programs are left to link.
fn built(name: &str) -> PathBuf {
    let directory = profile_directory();
    let profile = match directory.file_name().and_then(|n| n.to_str()) {
        Some("debug") | None => "dev",
        Some(other) => other,
    };
    let status = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--workspace", "--bins", "--tests", "--profile", profile])
        .arg("--manifest-path")
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml"))
        .arg("--target-dir")
        .arg(target_directory())
        .status()
        .expect("run cargo");
    assert!(status.success(), "the workspace does not build");
    existing(&directory.join(name))
}

/// Where builds and what they need lie.
pub(crate) fn target_directory() -> PathBuf {
    profile_directory().parent().expect("target directory").to_path_buf()
}

/// `target/PROFILE` of the running test, which is `target/PROFILE/deps/NAME-HASH`.
fn profile_directory() -> PathBuf {
    let exe = std::env::current_exe().expect("path of the test");
    exe.ancestors().nth(2).expect("profile directory").to_path_buf()
}

#[track_caller]
fn existing(path: &Path) -> PathBuf {
    assert!(path.is_file(), "{} was not built; run the tests by cargo test", path.display());
    path.to_path_buf()
}
