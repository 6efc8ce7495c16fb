//! Virtual LANs.
//!
//! A LAN is one network namespace that is the switch (a bridge) and one per host, joined by veth pairs. All
//! links live inside these namespaces, so deleting them deletes everything, and the machine's own
//! interfaces and routes are never touched. Names carry the process id of the test run; namespaces of runs
//! that died are swept away by the next one.
//!
//! The switch forwards at once (no spanning tree, no multicast snooping) and addresses are usable at once
//! (no duplicate address detection), so that a test never measures these.

use crate::turn::Turn;
use crate::wait::{eventually, seconds};
use nix::sched::{CloneFlags, setns};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Write;
use std::net::{Ipv4Addr, Ipv6Addr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Once};

const PREFIX: &str = "bandmesh-test-";
const NAMESPACES: &str = "/run/netns";

/// Some hosts on one switch, and the right to use the machine while it exists.
#[derive(Debug)]
pub struct Lan {
    hosts: Vec<Host>,
    switch: Option<Namespace>,
    _turn: Turn,
}

impl Lan {
    /// A LAN of `hosts` hosts for a test that may run beside others.
    pub fn new(hosts: usize) -> Self {
        Self::with_turn(hosts, Turn::shared())
    }

    /// The same for a test that measures time, and so has the machine to itself.
    pub fn alone(hosts: usize) -> Self {
        Self::with_turn(hosts, Turn::alone())
    }

    fn with_turn(hosts: usize, turn: Turn) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        static SWEEP: Once = Once::new();
        let name = format!("{PREFIX}{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        if std::env::var_os("BANDMESH_TEST_NO_NETNS").is_some_and(|v| v == "1") {
            return Self::on_loopback(hosts, &name, turn);
        }
        SWEEP.call_once(sweep_dead_runs);
        let switch = Namespace::create(format!("{name}-switch"));
        // br1 is where hosts go that `split` cuts off.
        ip(&switch, "link add br0 type bridge mcast_snooping 0\nlink add br1 type bridge mcast_snooping 0\n");
        ip(&switch, "link set br0 up\nlink set br1 up\n");
        let hosts = (0..hosts).map(|index| Host::plug_in(&name, index, &switch)).collect();
        let lan = Self { hosts, switch: Some(switch), _turn: turn };
        lan.wait_for_carrier("eth0");
        lan
    }

    fn on_loopback(hosts: usize, name: &str, turn: Turn) -> Self {
        // All are held until each has a number, so that no two get the same.
        let sockets: Vec<UdpSocket> =
            (0..hosts).map(|_| UdpSocket::bind("127.0.0.1:0").expect("a free UDP port")).collect();
        let ports: Vec<u16> = sockets.iter().map(|s| s.local_addr().unwrap().port()).collect();
        let hosts = (0..hosts)
            .map(|index| Host {
                index,
                lan: name.into(),
                ipv4: Ipv4Addr::LOCALHOST,
                namespace: None,
                loopback_ports: ports.clone(),
            })
            .collect();
        Self { hosts, switch: None, _turn: turn }
    }

    /// Host number `index`, from 0.
    pub fn host(&self, index: usize) -> &Host {
        &self.hosts[index]
    }

    /// True if hosts are namespaces; otherwise says that `what` is left out.
    pub fn can(&self, what: &str) -> bool {
        if self.switch.is_none() {
            eprintln!("LEFT OUT without network namespaces: {what}");
        }
        self.switch.is_some()
    }

    /// Moves the hosts in `away` to a second switch that nothing connects to the first.
    pub fn split(&self, away: &[usize]) {
        self.attach(away, "br1");
    }

    /// A second switch between all hosts: each has `eth1` there, with an address of 10.78.0.0/24.
    pub fn add_network(&self) {
        let switch = self.switch.as_ref().expect("ask `can` before adding a network");
        ip(switch, "link add br2 type bridge mcast_snooping 0\nlink set br2 up\n");
        for host in &self.hosts {
            let (index, last) = (host.index, host.number());
            ip(
                switch,
                &format!(
                    "link add second{index} type veth peer name eth1 netns {}\n\
                     link set second{index} master br2 up\n",
                    host.namespace()
                ),
            );
            host.ip(&format!(
                "link set eth1 addrgenmode none\n\
                 addr add 10.78.0.{last}/24 brd + dev eth1\n\
                 link set eth1 up\n"
            ));
        }
        self.wait_for_carrier("eth1");
    }

    /// Undoes `split`.
    pub fn heal(&self) {
        let everyone: Vec<usize> = (0..self.hosts.len()).collect();
        self.attach(&everyone, "br0");
    }

    fn attach(&self, hosts: &[usize], bridge: &str) {
        let switch = self.switch.as_ref().expect("ask `can` before splitting a LAN");
        let lines: String = hosts.iter().map(|i| format!("link set port{i} master {bridge}\n")).collect();
        ip(switch, &lines);
    }

    /// The kernel reports a new link's carrier a little late, and until then its addresses lead nowhere.
    fn wait_for_carrier(&self, device: &str) {
        for host in &self.hosts {
            eventually(seconds(5), "the virtual link has carrier", || {
                let shown = host.command("ip").args(["-o", "link", "show", device]).output().expect("run ip");
                String::from_utf8_lossy(&shown.stdout).contains("state UP")
            });
        }
    }
}

/// One machine on a [`Lan`].
#[derive(Clone, Debug)]
pub struct Host {
    index: usize,
    lan: String,
    ipv4: Ipv4Addr,
    namespace: Option<Arc<Namespace>>,
    /// Without namespaces: the UDP port of every host's node.
    loopback_ports: Vec<u16>,
}

impl Host {
    fn plug_in(lan: &str, index: usize, switch: &Namespace) -> Self {
        let namespace = Namespace::create(format!("{lan}-host{index}"));
        let peer = &namespace.name;
        ip(
            switch,
            &format!(
                "link add port{index} type veth peer name eth0 netns {peer}\n\
                 link set port{index} master br0 up\n"
            ),
        );
        let last = index + 1;
        ip(
            &namespace,
            &format!(
                "link set lo up\n\
                 link set eth0 addrgenmode none\n\
                 addr add 10.77.0.{last}/24 brd + dev eth0\n\
                 addr add fd77::{last:x}/64 dev eth0 nodad\n\
                 addr add fe80::{last:x}/64 dev eth0 nodad\n\
                 link set eth0 up\n\
                 route add default dev eth0\n"
            ),
        );
        Self {
            index,
            lan: lan.into(),
            ipv4: Ipv4Addr::new(10, 77, 0, u8::try_from(last).expect("a LAN has fewer than 255 hosts")),
            namespace: Some(Arc::new(namespace)),
            loopback_ports: Vec::new(),
        }
    }

    /// A machine that somebody else made and will remove.
    pub(crate) fn elsewhere(namespace: &str, ipv4: Ipv4Addr) -> Self {
        let namespace = Namespace { name: namespace.into(), is_ours: false };
        let namespace = Some(Arc::new(namespace));
        Self { index: 0, lan: String::new(), ipv4, namespace, loopback_ports: Vec::new() }
    }

    /// The name of its namespace.
    pub(crate) fn namespace(&self) -> &str {
        &self.namespace.as_ref().expect("ask `can` before using a host's namespace").name
    }

    /// The host's IPv4 address.
    pub fn ipv4(&self) -> Ipv4Addr {
        self.ipv4
    }

    /// The host's IPv6 address, not the link-local one.
    pub fn ipv6(&self) -> Ipv6Addr {
        match self.namespace {
            Some(_) => Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, u16::from(self.number())),
            None => Ipv6Addr::LOCALHOST,
        }
    }

    /// Runs `work` on a thread that lives in this host, so that the sockets it opens are the host's.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let Some(namespace) = &self.namespace else { return work() };
        let inside = std::thread::scope(|scope| {
            scope
                .spawn(|| {
                    let file = File::open(namespace.path()).expect("open the namespace");
                    setns(file, CloneFlags::CLONE_NEWNET).expect("enter the namespace");
                    work()
                })
                .join()
        });
        inside.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// A command that runs in this host and is killed when the calling thread ends, whatever ends it.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]);
        if let Some(namespace) = &self.namespace {
            command.arg("nsenter").arg(namespace.argument());
        }
        command.arg(program);
        command
    }

    /// Changes the host's interfaces by the lines of an `ip` batch; its own is `eth0`.
    pub fn ip(&self, lines: &str) {
        ip(self.namespace.as_ref().expect("ask `can` before changing a host's network"), lines);
    }

    /// What a node needs to be told where hosts are not namespaces: its port, and the others'.
    pub(crate) fn loopback_arguments(&self) -> Vec<String> {
        let Some(own) = self.loopback_ports.get(self.index) else { return Vec::new() };
        let mut arguments = vec!["--no-mdns".into(), "--no-link".into()];
        arguments.extend([
            "--listen".into(),
            format!("127.0.0.1:{own}"),
            "--session".into(),
            self.lan.clone(),
        ]);
        for port in self.loopback_ports.iter().filter(|port| *port != own) {
            arguments.extend(["--peer".into(), format!("/ip4/127.0.0.1/udp/{port}/quic-v1")]);
        }
        arguments
    }

    fn number(&self) -> u8 {
        u8::try_from(self.index + 1).expect("a LAN has fewer than 255 hosts")
    }
}

#[derive(Debug)]
struct Namespace {
    name: String,
    /// Whether it goes when this value does.
    is_ours: bool,
}

impl Namespace {
    fn create(name: String) -> Self {
        let made = Command::new("ip").args(["netns", "add", &name]).output();
        let made = made.unwrap_or_else(|e| panic!("ip: {e}; ./dev setup installs it"));
        assert!(
            made.status.success(),
            "no network namespace: {}; run the tests as root or by ./dev test, or set BANDMESH_TEST_NO_NETNS=1",
            String::from_utf8_lossy(&made.stderr).trim()
        );
        Self { name, is_ours: true }
    }

    fn path(&self) -> PathBuf {
        Path::new(NAMESPACES).join(&self.name)
    }

    /// What `nsenter` is told to enter it.
    fn argument(&self) -> OsString {
        let mut argument = OsString::from("--net=");
        argument.push(self.path());
        argument
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if self.is_ours {
            delete(&self.name);
        }
    }
}

fn delete(namespace: &str) {
    let done = Command::new("ip").args(["netns", "del", namespace]).stderr(Stdio::null()).status();
    if !done.is_ok_and(|status| status.success()) {
        eprintln!("network namespace {namespace} could not be deleted");
    }
}

/// Runs the lines of an `ip` batch inside `namespace`. Not by `ip -n`, which mounts /sys anew and thereby fails in a chroot
/// that is no mount point.
fn ip(namespace: &Namespace, lines: &str) {
    let mut child = Command::new("nsenter")
        .arg(namespace.argument())
        .args(["ip", "-batch", "-"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("run ip");
    child.stdin.take().unwrap().write_all(lines.as_bytes()).expect("write to ip");
    let out = child.wait_with_output().expect("wait for ip");
    assert!(out.status.success(), "ip {lines:?}: {}", String::from_utf8_lossy(&out.stderr));
}

/// Deletes the namespaces of test runs whose process is gone.
fn sweep_dead_runs() {
    let Ok(entries) = std::fs::read_dir(NAMESPACES) else { return };
    for name in entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()) {
        let run = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next());
        if run.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            delete(&name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{SocketAddr, ToSocketAddrs};
    use std::time::Duration;

    fn socket(host: &Host, address: impl ToSocketAddrs + Send) -> UdpSocket {
        let socket = host.run(|| UdpSocket::bind(address)).expect("bind in the host");
        socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        socket
    }

    fn arrives(from: &UdpSocket, to: SocketAddr, at: &UdpSocket) -> bool {
        from.send_to(b"hello", to).is_ok() && at.recv_from(&mut [0; 16]).is_ok()
    }

    #[test]
    fn hosts_hear_each_other_by_both_families_and_keep_default_ports() {
        let lan = Lan::new(2);
        if !lan.can("hosts with the same port") {
            return;
        }
        let (alice, bob) = (lan.host(0), lan.host(1));
        for (here, there) in [
            ((alice.ipv4(), 7778).into(), (bob.ipv4(), 7778).into()),
            ((alice.ipv6(), 7778).into(), (bob.ipv6(), 7778).into()),
        ] as [(SocketAddr, SocketAddr); 2]
        {
            assert!(arrives(&socket(alice, here), there, &socket(bob, there)), "{here} to {there}");
        }
    }

    #[test]
    fn multicast_crosses_the_switch_by_both_families() {
        let lan = Lan::new(2);
        if !lan.can("multicast") {
            return;
        }
        let (alice, bob) = (lan.host(0), lan.host(1));
        let (group4, group6) = (Ipv4Addr::new(224, 0, 0, 251), Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0xfb));
        let ears = socket(bob, "0.0.0.0:5353");
        bob.run(|| ears.join_multicast_v4(&group4, &bob.ipv4())).unwrap();
        assert!(arrives(&socket(alice, "0.0.0.0:0"), (group4, 5353).into(), &ears), "IPv4");
        // Another port: a process that is just being started may still hold the first socket.
        let ears = socket(bob, "[::]:5354");
        bob.run(|| ears.join_multicast_v6(&group6, 0)).unwrap();
        assert!(arrives(&socket(alice, "[::]:0"), (group6, 5354).into(), &ears), "IPv6");
    }

    #[test]
    fn split_hosts_are_apart_until_healed() {
        let lan = Lan::new(3);
        if !lan.can("split and heal") {
            return;
        }
        let at = |i: usize| SocketAddr::from((lan.host(i).ipv4(), 7778));
        let sockets: Vec<UdpSocket> = (0..3).map(|i| socket(lan.host(i), at(i))).collect();
        lan.split(&[2]);
        assert!(arrives(&sockets[0], at(1), &sockets[1]));
        assert!(!arrives(&sockets[0], at(2), &sockets[2]));
        lan.heal();
        // The failed address resolution is tried again once a second.
        eventually(seconds(3), "they are together again", || arrives(&sockets[0], at(2), &sockets[2]));
    }

    #[test]
    fn nothing_is_left_of_a_lan_or_of_a_run_that_died() {
        let lan = Lan::new(1);
        if !lan.can("sweeping namespaces") {
            return;
        }
        let name = lan.host(0).namespace.as_ref().unwrap().path();
        assert!(name.exists());
        drop(lan);
        assert!(!name.exists());

        // No process has this id: it is above the kernel's limit of 2^22.
        let dead = std::mem::ManuallyDrop::new(Namespace::create(format!("{PREFIX}99999999-0-host0")));
        sweep_dead_runs();
        assert!(!dead.path().exists());
    }

    #[test]
    fn a_command_dies_with_the_thread_that_started_it() {
        let lan = Lan::new(1);
        let mut child = std::thread::scope(|scope| {
            let start = || {
                let child = lan.host(0).command("sleep").arg("1000").spawn().expect("spawn");
                let name = format!("/proc/{}/comm", child.id());
                eventually(seconds(5), "it runs", || {
                    std::fs::read_to_string(&name).is_ok_and(|n| n == "sleep\n")
                });
                child
            };
            scope.spawn(start).join().unwrap()
        });
        eventually(seconds(5), "the orphan is gone", || child.try_wait().unwrap().is_some());
    }
}
