//! What nftables can do of RFC 4787.
//!
//! * Masquerading as such keeps the inner port where it is free, and reuses the outer port of an inner one for
//!   further peers: endpoint-independent mapping. Answers pass only from whom was sent to, since the kernel knows
//!   connections by both ends: address and port-dependent filtering. Together that is the port-restricted cone,
//!   what most home routers are.
//! * `fully-random` draws a port for every connection: address and port-dependent mapping, the symmetric kind.
//! * Freer filtering needs a memory of which outer port belongs to whom. The rules keep it themselves: each packet
//!   that leaves enters its outer port into a map with a timeout, after the translation, and packets from
//!   strangers are translated by this map. All may use it (full cone), or those hosts whose addresses were
//!   sent to (restricted cone).
//!
//! Mappings of the cone kinds last [`MAPPING_S`] after the last packet out, as RFC 4787 REQ-5 asks; those of
//! connections as long as the kernel's own timeouts say (30 s, or 120 s once both sides have spoken). No kind
//! translates hairpins.

use clap::ValueEnum;
use serde::Serialize;

/// How long the maps remember, s: the least that RFC 4787 REQ-5 allows.
pub const MAPPING_S: u32 = 120;
/// Mappings that a router remembers at most; further ones are only usable by those sent to.
const MAPPINGS: u32 = 4_096;
/// Names of tables begin so; the kind follows.
const TABLE_PREFIX: &str = "bandmesh_";

/// What a router does to UDP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Everybody may send to a mapped port.
    FullCone,
    /// Hosts that were sent to may, from any port.
    Restricted,
    /// Endpoints that were sent to may.
    PortRestricted,
    /// The same, and each endpoint sees another port.
    Symmetric,
}

/// What something depends on, in the words of RFC 4787.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Dependence {
    /// Not on the peer at all.
    EndpointIndependent,
    /// On the peer's address.
    AddressDependent,
    /// On the peer's address and port.
    AddressAndPortDependent,
}

impl Dependence {
    /// In words.
    pub fn text(self) -> &'static str {
        match self {
            Self::EndpointIndependent => "endpoint-independent",
            Self::AddressDependent => "address-dependent",
            Self::AddressAndPortDependent => "address and port-dependent",
        }
    }
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 4] = [Kind::FullCone, Kind::Restricted, Kind::PortRestricted, Kind::Symmetric];

    /// As on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::FullCone => "full-cone",
            Self::Restricted => "restricted",
            Self::PortRestricted => "port-restricted",
            Self::Symmetric => "symmetric",
        }
    }

    /// The mapping and the filtering that it stands for.
    pub fn stated(self) -> (Dependence, Dependence) {
        use Dependence::{AddressAndPortDependent, AddressDependent, EndpointIndependent};
        match self {
            Self::FullCone => (EndpointIndependent, EndpointIndependent),
            Self::Restricted => (EndpointIndependent, AddressDependent),
            Self::PortRestricted => (EndpointIndependent, AddressAndPortDependent),
            Self::Symmetric => (AddressAndPortDependent, AddressAndPortDependent),
        }
    }

    /// The router's rules. Its interfaces are `wan` and `lan`. The table's name says the kind.
    pub(super) fn ruleset(self) -> String {
        let table = format!("{TABLE_PREFIX}{}", self.name().replace('-', "_"));
        let masquerade = if self == Self::Symmetric { "masquerade fully-random" } else { "masquerade" };
        let memory = match self {
            Self::FullCone | Self::Restricted => memory(self),
            Self::PortRestricted | Self::Symmetric => String::new(),
        };
        format!(
            "table ip {table} {{
                {memory}
                chain outgoing {{
                    type nat hook postrouting priority srcnat;
                    oifname \"wan\" {masquerade}
                }}
                # A home router does not tell strangers that nobody listens. What is dropped here is forgotten, so
                # that it cannot take a port from somebody inside who is about to use it.
                chain strangers {{
                    type filter hook input priority filter;
                    iifname \"wan\" meta l4proto {{ tcp, udp }} drop
                }}
            }}\n"
        )
    }

    /// The kind of a router, from the names of its tables as nft lists them.
    pub(super) fn of_tables(tables: &str) -> Option<Self> {
        let table =
            tables.split_whitespace().find_map(|word| word.strip_prefix(TABLE_PREFIX))?.replace('_', "-");
        Self::ALL.into_iter().find(|kind| kind.name() == table)
    }
}

/// The memory of mapped ports, and its use for packets from outside.
fn memory(kind: Kind) -> String {
    let known = if kind == Kind::Restricted { "udp dport . ip saddr @contacted " } else { "" };
    // Both directions of what the kernel calls a connection are somebody inside sending: the reply direction
    // after a stranger was let in. There the outer port is where the stranger's first packet went.
    format!(
        "map mappings {{
            type inet_service : ipv4_addr . inet_service
            flags dynamic, timeout
            timeout {MAPPING_S}s
            size {MAPPINGS}
        }}
        set contacted {{
            type inet_service . ipv4_addr
            flags dynamic, timeout
            timeout {MAPPING_S}s
            size {MAPPINGS}
        }}
        chain incoming {{
            type nat hook prerouting priority dstnat;
            iifname \"wan\" meta l4proto udp {known}dnat ip to udp dport map @mappings
        }}
        chain remember {{
            type filter hook postrouting priority srcnat + 10;
            oifname \"wan\" meta l4proto udp ct direction original \
                update @mappings {{ ct reply proto-dst : ct original ip saddr . ct original proto-src }}
            oifname \"wan\" meta l4proto udp ct direction original \
                update @contacted {{ ct reply proto-dst . ip daddr }}
            oifname \"wan\" meta l4proto udp ct direction reply \
                update @mappings {{ ct original proto-dst : ct reply ip saddr . ct reply proto-src }}
            oifname \"wan\" meta l4proto udp ct direction reply \
                update @contacted {{ ct original proto-dst . ip daddr }}
        }}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_routers_table_says_its_kind() {
        for kind in Kind::ALL {
            let rules = kind.ruleset();
            let named = rules.split_whitespace().take(3).collect::<Vec<_>>().join(" ");
            assert_eq!(Kind::of_tables(&named), Some(kind), "{named}");
        }
        assert_eq!(Kind::of_tables("table ip filter\ntable inet other\n"), None);
    }
}
