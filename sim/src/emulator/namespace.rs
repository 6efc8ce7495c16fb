//! Network namespaces: going into one, and running `ip` and `nft` there.
//!
//! Named ones are as `ip netns` keeps them, in `/run/netns`.

use std::{
    fs::File,
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use nix::sched::{CloneFlags, setns};

const NAMED: &str = "/run/netns";
/// A link that has no carrier by then will not have one.
const CARRIER_LIMIT: Duration = Duration::from_secs(5);
const CARRIER_POLL: Duration = Duration::from_millis(10);

/// A namespace that exists: a name of `ip netns`, a path, or the id of a process that lives in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Namespace {
    name: String,
    path: PathBuf,
}

impl Namespace {
    /// Finds it; the error says what was looked for.
    pub fn find(name: &str) -> io::Result<Self> {
        let path = if name.contains('/') {
            PathBuf::from(name)
        } else if !name.is_empty() && name.bytes().all(|b| b.is_ascii_digit()) {
            Path::new("/proc").join(name).join("ns/net")
        } else {
            Path::new(NAMED).join(name)
        };
        if name.is_empty() || !path.exists() {
            let text = format!(
                "there is no network namespace {name} ({} does not exist); `ip netns add NAME` makes one, \
                 `ip netns list` shows them",
                path.display()
            );
            return Err(io::Error::new(io::ErrorKind::NotFound, text));
        }
        Ok(Self { name: name.into(), path })
    }

    /// Makes a named one.
    pub fn create(name: &str) -> io::Result<Self> {
        run("ip", &["netns", "add", name], "")?;
        Ok(Self { name: name.into(), path: Path::new(NAMED).join(name) })
    }

    /// Removes a named one, and with it all links in it.
    pub fn delete(name: &str) -> io::Result<()> {
        run("ip", &["netns", "del", name], "").map(drop)
    }

    /// The names in use.
    pub fn names() -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(NAMED) else { return Vec::new() };
        let mut names: Vec<String> =
            entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort();
        names
    }

    /// What it was found by.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs `work` on a thread that lives in this namespace; what it opens belongs there.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
        std::thread::scope(|scope| {
            let inside = scope.spawn(|| {
                let file = File::open(&self.path)?;
                setns(file, CloneFlags::CLONE_NEWNET).map_err(|error| {
                    let text =
                        format!("cannot enter network namespace {}: {error}; run this as root", self.name);
                    io::Error::new(io::Error::from(error).kind(), text)
                })?;
                work()
            });
            inside.join().unwrap_or_else(|_| Err(io::Error::other("the thread in the namespace failed")))
        })
    }

    /// Runs the lines of an `ip` batch in this namespace.
    pub fn ip(&self, lines: &str) -> io::Result<()> {
        self.enter(|| run("ip", &["-batch", "-"], lines).map(drop))
    }

    /// Loads nftables rules in this namespace.
    pub fn nft(&self, rules: &str) -> io::Result<()> {
        self.enter(|| run("nft", &["-f", "-"], rules).map(drop))
    }

    /// The names of the nftables tables in this namespace, as `nft list tables` prints them.
    pub fn nft_tables(&self) -> io::Result<String> {
        self.enter(|| run("nft", &["list", "tables"], ""))
    }

    /// Waits until a device can carry packets: the kernel says so a little later than it is set up, and until then
    /// drops what is sent.
    pub fn wait_for_carrier(&self, device: &str) -> io::Result<()> {
        let asked = Instant::now();
        while asked.elapsed() < CARRIER_LIMIT {
            if self.enter(|| run("ip", &["-o", "link", "show", device], ""))?.contains("state UP") {
                return Ok(());
            }
            std::thread::sleep(CARRIER_POLL);
        }
        Err(io::Error::new(io::ErrorKind::TimedOut, format!("{device} in {} has no carrier", self.name)))
    }

    /// Sets a kernel parameter of this namespace, by its path below `/proc/sys/net`.
    pub fn sysctl(&self, path: &str, value: &str) -> io::Result<()> {
        self.enter(|| std::fs::write(Path::new("/proc/sys/net").join(path), value))
    }
}

/// Runs a program of the system with `input` and returns what it printed.
fn run(program: &str, arguments: &[&str], input: &str) -> io::Result<String> {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| {
            let package = if program == "nft" { "nftables" } else { "iproute2" };
            io::Error::new(e.kind(), format!("{program}: {e}; it is in the package {package}"))
        })?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that fails early reads no further; its own message says more than the broken pipe.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output()?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let complaint = String::from_utf8_lossy(&output.stderr);
    let hint = if complaint.contains("not permitted") || complaint.contains("Permission denied") {
        "; run this as root"
    } else {
        ""
    };
    Err(io::Error::other(format!("{program} {}: {}{hint}", arguments.join(" "), complaint.trim())))
}
