//! A bad link between two hosts, by the simulator's emulator.

use crate::binary::simulator;
use crate::lan::Host;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use std::io::{BufRead, BufReader, Read};
use std::net::Ipv4Addr;
use std::process::{Child, ChildStdout, Command, Stdio};

/// `bandmesh-sim link` between two hosts, which have no other way to each other while it exists.
#[derive(Debug)]
pub struct BadLink {
    child: Child,
    stdout: BufReader<ChildStdout>,
}

impl BadLink {
    /// The first host's address on the link.
    pub const A: Ipv4Addr = Ipv4Addr::new(10, 88, 0, 1);
    /// The second host's.
    pub const B: Ipv4Addr = Ipv4Addr::new(10, 88, 0, 2);

    /// Unplugs both hosts from their LAN and joins them by a link with these settings.
    #[track_caller]
    pub fn between(a: &Host, b: &Host, settings: &[&str]) -> Self {
        a.ip("link set eth0 down\n");
        b.ip("link set eth0 down\n");
        // It dies with the thread that starts it, and its devices with it.
        let mut child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL"])
            .arg(simulator())
            .args(["link", "--json", "--tun", a.namespace(), b.namespace()])
            .args(["--address-a", &format!("{}/24", Self::A), "--address-b", &format!("{}/24", Self::B)])
            .args(settings)
            .stdout(Stdio::piped())
            .spawn()
            .expect("start bandmesh-sim");
        let mut stdout = BufReader::new(child.stdout.take().expect("piped"));
        let mut ready = String::new();
        stdout.read_line(&mut ready).expect("read from bandmesh-sim");
        assert!(ready.contains("ready"), "bandmesh-sim link did not start");
        Self { child, stdout }
    }

    /// Takes the link away; what it did to the packets of each direction, and how exactly.
    #[track_caller]
    pub fn stop(mut self) -> Value {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).expect("a process id"));
        kill(pid, Signal::SIGTERM).expect("send SIGTERM");
        let mut report = String::new();
        self.stdout.read_to_string(&mut report).expect("read from bandmesh-sim");
        assert!(self.child.wait().expect("wait for bandmesh-sim").success());
        serde_json::from_str(&report).unwrap_or_else(|e| panic!("{e}: {report:?}"))
    }
}

impl Drop for BadLink {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
