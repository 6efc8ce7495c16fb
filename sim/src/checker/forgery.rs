//! Nobody speaks in another's name.

use std::collections::BTreeMap;

use super::{Checker, Fact};
use crate::hostile::FORGED_WORDS;

/// Nothing that was only ever said in a forged change is in an honest node's project.
#[derive(Default)]
pub(super) struct ForgeriesKeptOut {
    forged: u64,
}

impl Checker for ForgeriesKeptOut {
    fn name(&self) -> &'static str {
        "forgeries_kept_out"
    }

    fn observe(&mut self, fact: &Fact<'_>) -> Result<(), String> {
        match fact {
            Fact::Forged => {
                self.forged += 1;
                Ok(())
            }
            Fact::End(nodes) => {
                let fooled = nodes
                    .iter()
                    .find(|node| node.node.project().to_json().to_string().contains(FORGED_WORDS));
                match fooled {
                    Some(node) => Err(format!("host {} has a forged change in its project", node.host)),
                    None => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }

    fn figures(&self, into: &mut BTreeMap<&'static str, f64>) {
        if self.forged > 0 {
            into.insert("forged_frames", self.forged as f64);
        }
    }
}
