//! Hosts behind routers that translate addresses, by `bandmesh-sim nat`.

use crate::binary::simulator;
use crate::lan::Host;
use crate::turn::Turn;
use serde_json::Value;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};

/// A public host, and routers with a host behind each.
#[derive(Debug)]
pub struct NatLab {
    name: String,
    public: Host,
    behind: Vec<(Host, String)>,
    _turn: Turn,
}

impl NatLab {
    /// A lab with a router of each kind, named as by `bandmesh-sim nat up --kind`. `None`, and a word about what is
    /// left out, where there are no namespaces.
    #[track_caller]
    pub fn new(what: &str, kinds: &[&str]) -> Option<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        if std::env::var_os("BANDMESH_TEST_NO_NETNS").is_some_and(|v| v == "1") {
            eprintln!("LEFT OUT without network namespaces: {what}");
            return None;
        }
        let turn = Turn::shared();
        sweep_dead_runs();
        // With the process id, so that what a killed run left can be told from what is in use.
        let name = format!("t{}n{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let mut arguments = vec!["up", "--name", &name];
        arguments.extend(kinds.iter().flat_map(|kind| ["--kind", *kind]));
        let output = nat(&arguments);
        assert!(output.status.success(), "no NAT lab: {}", String::from_utf8_lossy(&output.stderr));
        let lab: Value = serde_json::from_slice(&output.stdout).expect("JSON of the lab");
        let behind = (0..kinds.len())
            .map(|router| {
                let router = &lab["routers"][router];
                (host(&router["hosts"][0]), text(&router["at"]["address"]))
            })
            .collect();
        Some(Self { public: host(&lab["public"]), behind, name, _turn: turn })
    }

    /// The host that everybody can reach.
    pub fn public(&self) -> &Host {
        &self.public
    }

    /// The host behind router number `router`, from 0.
    pub fn behind(&self, router: usize) -> &Host {
        &self.behind[router].0
    }

    /// The address that the world sees of it.
    pub fn outside(&self, router: usize) -> &str {
        &self.behind[router].1
    }
}

impl Drop for NatLab {
    fn drop(&mut self) {
        let output = nat(&["down", "--name", &self.name]);
        if !output.status.success() {
            eprintln!("NAT lab {}: {}", self.name, String::from_utf8_lossy(&output.stderr));
        }
    }
}

fn nat(arguments: &[&str]) -> Output {
    Command::new(simulator()).args(["nat", "--json"]).args(arguments).output().expect("run bandmesh-sim")
}

fn host(place: &Value) -> Host {
    Host::elsewhere(&text(&place["namespace"]), text(&place["address"]).parse().expect("an address"))
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}")).into()
}

/// Removes the labs of test runs whose process is gone.
fn sweep_dead_runs() {
    let listed = nat(&["list"]);
    for line in String::from_utf8_lossy(&listed.stdout).lines() {
        let name = serde_json::from_str::<Value>(line).map(|lab| text(&lab["name"])).unwrap_or_default();
        let pid = name.strip_prefix('t').and_then(|rest| rest.split(|c: char| !c.is_ascii_digit()).next());
        if pid.is_some_and(|pid| !pid.is_empty() && !Path::new("/proc").join(pid).exists()) {
            nat(&["down", "--name", &name]);
        }
    }
}
