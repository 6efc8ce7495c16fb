//! Nobody acts as somebody else.
//!
//! The project has no roles yet beyond one: what stands under a member's name was done by that member. Tokens that may only
//! look belong to the control interface, which is not in these worlds.

use std::collections::{BTreeMap, BTreeSet};

use super::{Checker, Fact};

/// Each line of chat stands, on every node in the end, under the name of somebody who has written it.
#[derive(Default)]
pub(super) struct OwnWords {
    /// Who has written a line.
    said: BTreeMap<String, BTreeSet<String>>,
}

impl Checker for OwnWords {
    fn name(&self) -> &'static str {
        "own_words"
    }

    fn observe(&mut self, fact: &Fact<'_>) -> Result<(), String> {
        match fact {
            Fact::Said { by, text } => {
                self.said.entry((*text).to_owned()).or_default().insert((*by).to_owned());
                Ok(())
            }
            Fact::End(nodes) => {
                for node in *nodes {
                    let chat = node.node.project().node_json("/chat");
                    for line in chat.iter().filter_map(serde_json::Value::as_array).flatten() {
                        let field = |name: &str| line.get(name).and_then(serde_json::Value::as_str);
                        let (Some(text), Some(from)) = (field("text"), field("from")) else { continue };
                        // What nobody has written at all is for whoever looks for forgeries.
                        if self.said.get(text).is_some_and(|by| !by.contains(from)) {
                            return Err(format!(
                                "on host {} the line {text:?} stands under {from}",
                                node.host
                            ));
                        }
                    }
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn figures(&self, into: &mut BTreeMap<&'static str, f64>) {
        into.insert("lines_said", self.said.len() as f64);
    }
}
