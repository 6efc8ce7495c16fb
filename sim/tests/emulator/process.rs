//! The emulator as a process, and namespaces to put it between; neither outlives its test.

use std::{
    io::{BufRead as _, BufReader, Read as _},
    net::{SocketAddr, UdpSocket},
    process::{Child, ChildStdout, Command, Stdio},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;
use sim::emulator::namespace::Namespace;

/// The simulator's program, which dies with the thread that starts it.
pub fn sim(arguments: &[&str]) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]).arg(env!("CARGO_BIN_EXE_bandmesh-sim")).args(arguments);
    command
}

/// A running `bandmesh-sim link`.
pub struct Emulator {
    child: Child,
    stdout: BufReader<ChildStdout>,
    ready: Value,
}

impl Emulator {
    /// Starts it and waits until it is ready.
    pub fn link(arguments: &[&str]) -> Self {
        let mut child = sim(&["link", "--json"]).args(arguments).stdout(Stdio::piped()).spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let ready: Value =
            serde_json::from_str(&line).unwrap_or_else(|e| panic!("{arguments:?}: {e}: {line:?}"));
        assert_eq!(ready["event"], "ready");
        Self { child, stdout, ready }
    }

    /// Where its first flow listens.
    pub fn listening(&self) -> SocketAddr {
        self.ready["listening"][0].as_str().unwrap().parse().unwrap()
    }

    /// Ends it by SIGTERM; its report.
    pub fn stop(self) -> Value {
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), Signal::SIGTERM).unwrap();
        self.wait()
    }

    /// Waits until it has ended well; its report.
    pub fn wait(mut self) -> Value {
        let mut text = String::new();
        self.stdout.read_to_string(&mut text).unwrap();
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{status}: {text}");
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text:?}"))
    }

    /// Kills it.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A number of a report by its JSON pointer.
pub fn number(report: &Value, pointer: &str) -> f64 {
    report
        .pointer(pointer)
        .and_then(Value::as_f64)
        .unwrap_or_else(|| panic!("no number {pointer} in {report}"))
}

/// Whether tests may make namespaces; otherwise says that `what` is left out.
pub fn can_have_namespaces(what: &str) -> bool {
    let may = std::env::var_os("BANDMESH_TEST_NO_NETNS").is_none_or(|value| value != "1");
    if !may {
        eprintln!("LEFT OUT without network namespaces: {what}");
    }
    may
}

/// A network namespace that is removed at the end. Its name begins as those of the whole-system tests do, whose next
/// run removes what a killed process left.
pub struct Place(Namespace);

impl Place {
    pub fn new(name: &str) -> Self {
        let name = format!("bandmesh-test-{}-emulator-{name}", std::process::id());
        let made = Namespace::create(&name);
        Self(made.unwrap_or_else(|e| panic!("{e}; or set BANDMESH_TEST_NO_NETNS=1 to leave this out")))
    }

    pub fn name(&self) -> &str {
        self.0.name()
    }

    pub fn ip(&self, lines: &str) {
        self.0.ip(&format!("{lines}\n")).unwrap();
    }

    pub fn wait_for_carrier(&self, device: &str) {
        self.0.wait_for_carrier(device).unwrap();
    }

    /// A socket that belongs to this namespace.
    pub fn socket(&self, address: &str) -> UdpSocket {
        self.0.enter(|| UdpSocket::bind(address)).unwrap()
    }

    pub fn has_device(&self, device: &str) -> bool {
        self.0.ip(&format!("link show {device}\n")).is_ok()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Err(error) = Namespace::delete(self.0.name()) {
            eprintln!("{error}");
        }
    }
}
