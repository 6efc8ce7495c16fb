//! NAT labs: each kind is what it says, as measured from behind it, and a lab leaves nothing and touches nobody.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "test code: a failed step ends its test; figures are printed for the reader"
)]

#[path = "emulator/process.rs"]
#[allow(unused, reason = "shared with the tests of links")]
mod process;

use std::{net::UdpSocket, path::Path, process::Output, time::Duration};

use process::{can_have_namespaces, sim};
use serde_json::Value;
use sim::emulator::namespace::Namespace;

/// A lab that is removed at the end.
struct Lab(String);

impl Lab {
    fn up(purpose: &str, arguments: &[&str]) -> (Self, Value) {
        sweep();
        // The process's id, so that a lab whose test was killed can be told from one in use.
        let name = format!("t{}{purpose}", std::process::id());
        let output = nat(&[&["up", "--name", &name], arguments].concat());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        (Self(name), one_object(&output))
    }

    fn probe(&self, router: &str, host: &str) -> Value {
        let output = nat(&["probe", "--name", &self.0, "--router", router, "--host", host]);
        assert!(output.status.success(), "{output:?}");
        one_object(&output)
    }

    fn namespaces(&self) -> Vec<String> {
        let prefix = format!("bandmesh-nat-{}-", self.0);
        Namespace::names().into_iter().filter(|name| name.starts_with(&prefix)).collect()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        nat(&["down", "--name", &self.0]);
    }
}

fn nat(arguments: &[&str]) -> Output {
    sim(&[&["nat", "--json"], arguments].concat()).output().unwrap()
}

fn one_object(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {output:?}"))
}

/// Removes the labs of tests that were killed.
fn sweep() {
    for namespace in Namespace::names() {
        let Some(lab) = namespace.strip_prefix("bandmesh-nat-t").and_then(|rest| rest.split('-').next())
        else {
            continue;
        };
        let pid: String = lab.chars().take_while(char::is_ascii_digit).collect();
        if !pid.is_empty() && !Path::new("/proc").join(pid).exists() {
            // A lab has many namespaces; the first removes all.
            nat(&["down", "--name", &format!("t{lab}")]);
        }
    }
}

#[test]
fn every_kind_is_what_it_says_for_every_host_behind_it() {
    if !can_have_namespaces("NAT kinds") {
        return;
    }
    let kinds = [
        ("full-cone", "endpoint-independent", "endpoint-independent"),
        ("restricted", "endpoint-independent", "address-dependent"),
        ("port-restricted", "endpoint-independent", "address-and-port-dependent"),
        ("symmetric", "address-and-port-dependent", "address-and-port-dependent"),
    ];
    let arguments: Vec<&str> =
        kinds.iter().flat_map(|(kind, ..)| ["--kind", *kind]).chain(["--hosts", "2"]).collect();
    let (lab, _) = Lab::up("kinds", &arguments);
    for (router, (kind, mapping, filtering)) in kinds.iter().enumerate() {
        for host in ["1", "2"] {
            let found = lab.probe(&(router + 1).to_string(), host);
            eprintln!("{found}");
            assert_eq!(found["kind"], *kind);
            assert_eq!(found["mapping"], *mapping, "{found}");
            assert_eq!(found["filtering"], *filtering, "{found}");
        }
    }
}

#[test]
fn hosts_with_the_same_port_are_told_apart_by_a_full_cone() {
    if !can_have_namespaces("two hosts behind one NAT") {
        return;
    }
    let (_lab, up) = Lab::up("twins", &["--kind", "full-cone", "--hosts", "2"]);
    let socket = |place: &Value, port: u16| {
        let namespace = Namespace::find(place["namespace"].as_str().unwrap()).unwrap();
        let socket = namespace.enter(|| UdpSocket::bind((std::net::Ipv4Addr::UNSPECIFIED, port))).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        socket
    };
    let (public, stranger) = (socket(&up["public"], 9_000), socket(&up["public"], 9_001));
    let hosts = &up["routers"][0]["hosts"];
    let inside = [socket(&hosts[0], 7_778), socket(&hosts[1], 7_778)];
    let address = up["public"]["address"].as_str().unwrap();
    let outside: Vec<_> = inside
        .iter()
        .map(|host| {
            host.send_to(b"hello", (address, 9_000)).unwrap();
            public.recv_from(&mut [0; 16]).unwrap().1
        })
        .collect();
    assert_ne!(outside[0], outside[1]);
    for (index, host) in inside.iter().enumerate() {
        let message = [index as u8];
        stranger.send_to(&message, outside[index]).unwrap();
        let mut heard = [0xFF];
        host.recv_from(&mut heard).unwrap();
        assert_eq!(heard, message);
    }
}

#[test]
fn a_lab_goes_whole_and_leaves_others_alone() {
    if !can_have_namespaces("removing NAT labs") {
        return;
    }
    let (going, up) = Lab::up("going", &["--kind", "symmetric", "--kind", "full-cone", "--hosts", "2"]);
    let (staying, _) = Lab::up("staying", &["--kind", "restricted"]);
    assert_eq!(up["routers"][1]["kind"], "full-cone");
    assert_eq!(up["routers"][1]["hosts"].as_array().unwrap().len(), 2);
    let again = nat(&["up", "--name", &going.0, "--kind", "symmetric"]);
    assert_eq!(again.status.code(), Some(1), "{again:?}");
    assert_eq!(going.namespaces().len(), 2 + 2 * 3, "and the refusal removed nothing");

    let listed = String::from_utf8(nat(&["list"]).stdout).unwrap();
    assert!(listed.contains(&going.0) && listed.contains(&staying.0), "{listed}");
    assert!(nat(&["down", "--name", &going.0]).status.success());
    assert_eq!(going.namespaces(), Vec::<String>::new());
    assert_eq!(staying.namespaces().len(), 4);
}
