//! A stranger's mDNS: Debian's avahi-daemon, as on the laptop of somebody with other software.

use crate::lan::Host;
use crate::wait::eventually_some;
use std::fs::File;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Duration;
use tempfile::TempDir;

/// avahi-browse needs the daemon, the daemon a system bus; all three get a `/run` of their own and end together,
/// being the only processes of their PID namespace. What is mounted is made private first; the root of a chroot that is no
/// mount point cannot be, but its `/run` can.
const SCRIPT: &str = r#"
mount --make-rprivate / 2>/dev/null || { mount --bind /run /run; mount --make-private /run; }
mount -t tmpfs tmpfs /run
mkdir /run/dbus /run/avahi-daemon
dbus-daemon --config-file="$1/bus.conf" --fork --nopidfile
avahi-daemon --file="$1/avahi.conf" --no-drop-root --no-rlimits --no-chroot --no-proc-title --daemonize
while sleep 0.2; do
    avahi-browse --parsable --resolve --terminate --no-db-lookup "$2" >"$1/next" && mv "$1/next" "$1/found"
done
"#;

const BUS: &str = r#"<busconfig>
<type>custom</type><auth>EXTERNAL</auth><listen>unix:path=/run/dbus/system_bus_socket</listen>
<policy context="default"><allow own="*"/><allow send_destination="*"/><allow receive_sender="*"/></policy>
</busconfig>
"#;

const DAEMON: &str =
    "[server]\nuse-ipv4=yes\nuse-ipv6=yes\n[publish]\npublish-workstation=no\npublish-hinfo=no\n";

/// avahi-daemon on a host, asked again and again for services of one type; gone on drop.
#[derive(Debug)]
pub struct AvahiBrowser {
    child: Child,
    directory: TempDir,
}

impl AvahiBrowser {
    /// Starts looking for `service`, such as `_bandmesh._udp`.
    pub fn start(host: &Host, service: &str) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        std::fs::write(directory.path().join("bus.conf"), BUS).expect("write bus.conf");
        std::fs::write(directory.path().join("avahi.conf"), DAEMON).expect("write avahi.conf");
        let log = File::create(directory.path().join("log")).expect("create a log");
        let child = host
            .command("unshare")
            .args([
                "--mount",
                "--propagation",
                "unchanged",
                "--pid",
                "--fork",
                "--kill-child",
                "--mount-proc",
            ])
            .args(["sh", "-euc", SCRIPT, "avahi"])
            .arg(directory.path())
            .arg(service)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("share the log"))
            .stderr(log)
            .spawn()
            .expect("start avahi-daemon");
        Self { child, directory }
    }

    /// Waits until a resolved record is `wanted` and returns it: fields separated by `;`, TXT last.
    #[track_caller]
    pub fn resolve(&self, limit: Duration, what: &str, wanted: impl Fn(&str) -> bool) -> String {
        let read = |name: &str| std::fs::read_to_string(self.directory.path().join(name)).unwrap_or_default();
        let what = format!("avahi-browse shows {what}");
        eventually_some(limit, &what, || {
            read("found").lines().find(|line| line.starts_with("=;") && wanted(line)).map(str::to_owned)
        })
    }

    /// What the programs said, for a failed test.
    pub fn log(&self) -> String {
        let path: &Path = self.directory.path();
        std::fs::read_to_string(path.join("log")).unwrap_or_default()
    }
}

impl Drop for AvahiBrowser {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- avahi said:\n{}", self.log());
        }
    }
}
