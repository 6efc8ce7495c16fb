//! The namespaces of a lab: made, found again, removed.
//!
//! ```text
//! PREFIX-NAME-internet   a bridge, the public network 203.0.113.0/24 (RFC 5737)
//! PREFIX-NAME-public     a host on it: 203.0.113.1 and .2
//! PREFIX-NAME-routerR    203.0.113.(10 + R) outside, 192.168.R.1 inside
//! PREFIX-NAME-routerR-hostH    192.168.R.(10 + H)
//! ```
//!
//! A lab's state is in the namespaces themselves (names, and the router's nftables table), so there is no file that
//! could disagree with them.

use std::{io, net::Ipv4Addr};

use serde::Serialize;

use super::rules::Kind;
use crate::emulator::namespace::Namespace;

const PREFIX: &str = "bandmesh-nat-";
const LONGEST_NAME: usize = 24;
const MOST_ROUTERS: usize = 16;

/// A lab that exists.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Lab {
    /// Its name.
    pub name: String,
    /// The host that everybody can reach. Its second address is the next one.
    pub public: Place,
    /// Its routers.
    pub routers: Vec<Router>,
}

/// A router and who is behind it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Router {
    /// What it does.
    pub kind: Kind,
    /// Where it is, and its outer address.
    pub at: Place,
    /// The hosts behind it.
    pub hosts: Vec<Place>,
}

/// A host: its namespace and its address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Place {
    /// As `ip netns` lists it.
    pub namespace: String,
    /// IPv4.
    pub address: Ipv4Addr,
}

/// What a namespace of a lab is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Internet,
    Public,
    Router(u8),
    Host(u8, u8),
}

impl Role {
    fn name(self, lab: &str) -> String {
        let role = match self {
            Role::Internet => "internet".into(),
            Role::Public => "public".into(),
            Role::Router(router) => format!("router{router}"),
            Role::Host(router, host) => format!("router{router}-host{host}"),
        };
        format!("{PREFIX}{lab}-{role}")
    }

    /// The lab and the role of a namespace, if it is one of ours.
    fn parse(namespace: &str) -> Option<(&str, Role)> {
        let (lab, rest) = namespace.strip_prefix(PREFIX)?.split_once('-')?;
        let role = match rest {
            "internet" => Role::Internet,
            "public" => Role::Public,
            _ => {
                let rest = rest.strip_prefix("router")?;
                match rest.split_once("-host") {
                    Some((router, host)) => Role::Host(router.parse().ok()?, host.parse().ok()?),
                    None => Role::Router(rest.parse().ok()?),
                }
            }
        };
        // Numbers written otherwise ("01") are somebody else's.
        (role.name(lab) == namespace).then_some((lab, role))
    }

    fn address(self) -> Ipv4Addr {
        match self {
            Role::Internet | Role::Public => Ipv4Addr::new(203, 0, 113, 1),
            Role::Router(router) => Ipv4Addr::new(203, 0, 113, 10 + router),
            Role::Host(router, host) => Ipv4Addr::new(192, 168, router, 10 + host),
        }
    }

    fn place(self, lab: &str) -> Place {
        Place { namespace: self.name(lab), address: self.address() }
    }
}

/// The second address of the public host.
pub(super) const SECOND: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 2);

impl Lab {
    /// Whether a lab may be called so and have so many routers.
    pub fn check(name: &str, routers: usize) -> Result<(), String> {
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        if name.is_empty() || name.len() > LONGEST_NAME || !name.bytes().all(plain) {
            return Err(format!(
                "a lab's name is 1 to {LONGEST_NAME} lower-case letters and digits, not {name:?}"
            ));
        }
        if routers > MOST_ROUTERS {
            return Err(format!("at most {MOST_ROUTERS} routers"));
        }
        Ok(())
    }

    /// Makes a lab with a router of each kind, and `hosts` hosts behind each. If that fails nothing is left of it.
    pub fn up(name: &str, kinds: &[Kind], hosts: u8) -> io::Result<Self> {
        if !own_namespaces(name).is_empty() {
            let text = format!("there is a lab {name}; `bandmesh-sim nat down --name {name}` removes it");
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, text));
        }
        let made = make(name, kinds, hosts).and_then(|()| Self::find(name));
        if made.is_err() {
            // The first error says more than a second one about what it left.
            let _ = Self::down(name);
        }
        made
    }

    /// Removes the namespaces of this lab, whole or in part.
    pub fn down(name: &str) -> io::Result<()> {
        let own = own_namespaces(name);
        if own.is_empty() {
            return Err(no_such(name));
        }
        let mut done = Ok(());
        for role in own {
            // All are tried, whatever happens to one.
            let deleted = Namespace::delete(&role.name(name));
            done = done.and(deleted);
        }
        done
    }

    /// A lab by its name.
    pub fn find(name: &str) -> io::Result<Self> {
        let own = own_namespaces(name);
        if own.is_empty() {
            return Err(no_such(name));
        }
        let mut routers = Vec::new();
        for &role in &own {
            let Role::Router(router) = role else { continue };
            let tables = Namespace::find(&role.name(name))?.nft_tables()?;
            // Without rules it is a lab whose making was interrupted.
            let Some(kind) = Kind::of_tables(&tables) else { continue };
            let hosts = own
                .iter()
                .filter(|host| matches!(host, Role::Host(of, _) if *of == router))
                .map(|host| host.place(name))
                .collect();
            routers.push(Router { kind, at: role.place(name), hosts });
        }
        Ok(Self { name: name.into(), public: Role::Public.place(name), routers })
    }

    /// All labs.
    pub fn list() -> io::Result<Vec<Self>> {
        let namespaces = Namespace::names();
        let mut names: Vec<&str> =
            namespaces.iter().filter_map(|n| Role::parse(n)).map(|(lab, _)| lab).collect();
        names.sort_unstable();
        names.dedup();
        names.into_iter().map(Self::find).collect()
    }

    /// The router of this number, from 1.
    pub fn router(&self, number: u8) -> io::Result<&Router> {
        usize::from(number).checked_sub(1).and_then(|index| self.routers.get(index)).ok_or_else(|| {
            let text = format!("lab {} has {} routers, not a router {number}", self.name, self.routers.len());
            io::Error::new(io::ErrorKind::NotFound, text)
        })
    }
}

impl Router {
    /// The host of this number, from 1.
    pub fn host(&self, number: u8) -> io::Result<&Place> {
        usize::from(number).checked_sub(1).and_then(|index| self.hosts.get(index)).ok_or_else(|| {
            let text =
                format!("behind {} are {} hosts, not a host {number}", self.at.namespace, self.hosts.len());
            io::Error::new(io::ErrorKind::NotFound, text)
        })
    }
}

fn no_such(name: &str) -> io::Error {
    let text = format!("there is no lab {name}; `bandmesh-sim nat list` names those there are");
    io::Error::new(io::ErrorKind::NotFound, text)
}

/// In the order of routers and hosts.
fn own_namespaces(lab: &str) -> Vec<Role> {
    let namespaces = Namespace::names();
    let mut roles: Vec<Role> = namespaces
        .iter()
        .filter_map(|namespace| Role::parse(namespace))
        .filter(|(of, _)| *of == lab)
        .map(|(_, role)| role)
        .collect();
    roles.sort_by_key(|role| match role {
        Role::Internet => (0, 0),
        Role::Public => (0, 1),
        Role::Router(router) => (*router, 0),
        Role::Host(router, host) => (*router, *host),
    });
    roles
}

fn make(lab: &str, kinds: &[Kind], hosts: u8) -> io::Result<()> {
    let create = |role: Role| Namespace::create(&role.name(lab));
    let internet = create(Role::Internet)?;
    internet.ip("link set lo up\nlink add br0 type bridge mcast_snooping 0\nlink set br0 up\n")?;
    let public = create(Role::Public)?;
    plug(&internet, "br0", "port0", &public, "eth0", Role::Public.address())?;
    public.ip(&format!("addr add {SECOND}/24 dev eth0\nroute add default dev eth0\n"))?;
    let mut leaves = vec![(public, "eth0")];
    for (number, kind) in (1u8..).zip(kinds) {
        let router = create(Role::Router(number))?;
        plug(&internet, "br0", &format!("port{number}"), &router, "wan", Role::Router(number).address())?;
        router.ip(&format!(
            "link add lan type bridge mcast_snooping 0\naddr add 192.168.{number}.1/24 dev lan\nlink set lan up\n"
        ))?;
        router.sysctl("ipv4/ip_forward", "1")?;
        router.nft(&kind.ruleset())?;
        for number_of_host in 1..=hosts {
            let role = Role::Host(number, number_of_host);
            let host = create(role)?;
            plug(&router, "lan", &format!("port{number_of_host}"), &host, "eth0", role.address())?;
            host.ip(&format!("route add default via 192.168.{number}.1\n"))?;
            leaves.push((host, "eth0"));
        }
        leaves.push((router, "wan"));
    }
    for (namespace, device) in &leaves {
        namespace.wait_for_carrier(device)?;
    }
    Ok(())
}

/// Joins a namespace to a bridge in another.
fn plug(
    switch: &Namespace,
    bridge: &str,
    port: &str,
    host: &Namespace,
    device: &str,
    address: Ipv4Addr,
) -> io::Result<()> {
    switch.ip(&format!(
        "link add {port} type veth peer name {device} netns {}\nlink set {port} master {bridge} up\n",
        host.name()
    ))?;
    host.ip(&format!(
        "link set lo up\naddr add {address}/24 brd + dev {device}\nlink set {device} addrgenmode none up\n"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_it_would_give_itself_are_its_own() {
        for role in [Role::Internet, Role::Public, Role::Router(3), Role::Host(2, 11)] {
            assert_eq!(Role::parse(&role.name("lab")), Some(("lab", role)));
        }
        for strange in [
            "bandmesh-nat-lab",
            "bandmesh-nat-lab-other",
            "bandmesh-nat-lab-router",
            "bandmesh-nat-lab-router01",
            "bandmesh-nat-lab-router1-host",
            "bandmesh-nat-lab-router1-host1-x",
            "bandmesh-nat-lab-router999",
            "bandmesh-test-1-0-switch",
            "lab-internet",
        ] {
            assert_eq!(Role::parse(strange), None, "{strange}");
        }
    }

    #[test]
    fn names_that_could_reach_beyond_a_lab_are_refused() {
        assert!(Lab::check("lab2", 4).is_ok());
        for bad in ["", "a-b", "../x", "Lab", "a b", &"x".repeat(LONGEST_NAME + 1)] {
            assert!(Lab::check(bad, 1).is_err(), "{bad}");
        }
        assert!(Lab::check("lab", MOST_ROUTERS + 1).is_err());
    }
}
