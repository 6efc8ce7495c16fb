//! Sessions form by themselves.

use super::{Checker, Fact};

/// Once quiet, every node has everybody it can reach as a member, and nobody of another session.
pub(super) struct EverybodyHere;

impl Checker for EverybodyHere {
    fn name(&self) -> &'static str {
        "everybody_here"
    }

    fn observe(&mut self, fact: &Fact<'_>) -> Result<(), String> {
        let Fact::End(nodes) = fact else { return Ok(()) };
        for node in *nodes {
            if let Some(missing) = node.reachable.iter().find(|host| !node.members.contains(host)) {
                return Err(format!("host {} does not have host {missing} as a member", node.host));
            }
            if let Some(stranger) = node.members.iter().find(|host| !node.reachable.contains(host)) {
                return Err(format!(
                    "host {} has host {stranger} as a member, which is gone or of another session",
                    node.host
                ));
            }
        }
        Ok(())
    }
}
