//! The project is the same everywhere and keeps what it promised.

use std::collections::{BTreeMap, BTreeSet};

use super::{Checker, Fact};
use crate::network::HostId;

/// Once quiet, nodes that reach each other have equal projects.
pub(super) struct EqualHeads;

impl Checker for EqualHeads {
    fn name(&self) -> &'static str {
        "equal_heads"
    }

    fn observe(&mut self, fact: &Fact<'_>) -> Result<(), String> {
        let Fact::End(nodes) = fact else { return Ok(()) };
        let heads: BTreeMap<HostId, String> =
            nodes.iter().map(|node| (node.host, node.node.project().heads_hash())).collect();
        for node in *nodes {
            for other in &node.reachable {
                let (mine, theirs) = (heads.get(&node.host), heads.get(other));
                if mine != theirs {
                    return Err(format!(
                        "hosts {} and {other} have different projects: {mine:?} and {theirs:?}",
                        node.host
                    ));
                }
            }
        }
        Ok(())
    }
}

/// An edit that a node promised to keep is found on that node in the end, and on all that it reaches.
#[derive(Default)]
pub(super) struct AcknowledgedEdits {
    promised: BTreeMap<HostId, BTreeSet<String>>,
}

impl Checker for AcknowledgedEdits {
    fn name(&self) -> &'static str {
        "acknowledged_edits"
    }

    fn observe(&mut self, fact: &Fact<'_>) -> Result<(), String> {
        match fact {
            Fact::Acknowledged { host, address } => {
                self.promised.entry(*host).or_default().insert((*address).to_owned());
                Ok(())
            }
            Fact::End(nodes) => {
                for node in *nodes {
                    for from in node.reachable.iter().chain([&node.host]) {
                        let promised = self.promised.get(from).into_iter().flatten();
                        for address in promised {
                            if node.node.project().node_json(address).is_none() {
                                return Err(format!(
                                    "host {} does not have {address}, which host {from} promised to keep",
                                    node.host
                                ));
                            }
                        }
                    }
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn figures(&self, into: &mut BTreeMap<&'static str, f64>) {
        into.insert("acknowledged_edits", self.promised.values().map(BTreeSet::len).sum::<usize>() as f64);
    }
}

/// A node starts on its own disk whatever happened to it.
pub(super) struct StartsAgain;

impl Checker for StartsAgain {
    fn name(&self) -> &'static str {
        "starts_again"
    }

    fn observe(&mut self, fact: &Fact<'_>) -> Result<(), String> {
        match fact {
            Fact::NotStarted { host, why } => Err(format!("host {host} could not be started again: {why}")),
            _ => Ok(()),
        }
    }
}
