//! What people tell each other about themselves arrives.

use std::{collections::BTreeMap, time::Duration};

use super::{Checker, Fact, Held, Moment, NodeMoment};
use crate::{clock::WorldTime, network::HostId};

/// How long two members may differ about what one of them says of itself: news leave at most ten times a second and the
/// rest every second, over the slowest of paths; and a frame that a stream has lost several times over.
const STATE_WITHIN: Duration = Duration::from_secs(6);
/// How long they may differ about what one of them holds: a touch that nobody renews lives for three seconds, and one that
/// was let go may stay for one more.
const TOUCH_WITHIN: Duration = Duration::from_secs(6);

/// Since when each listener differs from each speaker.
#[derive(Default)]
struct Differences {
    since: BTreeMap<(HostId, HostId), WorldTime>,
    longest: Duration,
}

impl Differences {
    /// Looks at all pairs of members of which each takes the other for one, and can be heard; `differ` gets the speaker and
    /// the listener. Returns a pair that has differed for too long.
    fn look(
        &mut self,
        moment: &Moment,
        within: Duration,
        differ: impl Fn((HostId, &NodeMoment), &NodeMoment) -> bool,
    ) -> Option<(HostId, HostId)> {
        let mut since = BTreeMap::new();
        let mut late = None;
        for (listener, heard) in moment.nodes.iter().enumerate() {
            let Some(heard) = heard else { continue };
            for speaker in &heard.members {
                let Some(Some(said)) = moment.nodes.get(*speaker) else { continue };
                if !said.members.contains(&listener) || !differ((*speaker, said), heard) {
                    continue;
                }
                let begun = self.since.get(&(*speaker, listener)).copied().unwrap_or(moment.at);
                since.insert((*speaker, listener), begun);
                let lasted = moment.at.since(begun);
                self.longest = self.longest.max(lasted);
                if lasted > within {
                    late = Some((*speaker, listener));
                }
            }
        }
        self.since = since;
        late
    }
}

/// What a member says of itself, muted or not and whom it hears, is soon what the others believe of it.
#[derive(Default)]
pub(super) struct StatesConverge {
    differences: Differences,
}

impl Checker for StatesConverge {
    fn name(&self) -> &'static str {
        "states_converge"
    }

    fn observe(&mut self, fact: &Fact<'_>) -> Result<(), String> {
        let Fact::Moment(moment) = fact else { return Ok(()) };
        let late = self.differences.look(moment, STATE_WITHIN, |(speaker, said), heard| {
            heard.hears.get(&speaker) != Some(&said.says)
        });
        let Some((speaker, listener)) = late else { return Ok(()) };
        let of = |host: HostId| moment.nodes.get(host).and_then(Option::as_ref);
        Err(format!(
            "host {listener} believes of host {speaker} {:?} instead of {:?}",
            of(listener).and_then(|node| node.hears.get(&speaker)),
            of(speaker).map(|node| &node.says)
        ))
    }

    fn figures(&self, into: &mut BTreeMap<&'static str, f64>) {
        into.insert("states_differed_longest_ms", self.differences.longest.as_secs_f64() * 1e3);
    }
}

/// What a member holds in its hands is soon what the others see in them, value and all, and what it has let go is not.
#[derive(Default)]
pub(super) struct TouchesConverge {
    differences: Differences,
    seen: u64,
}

impl Checker for TouchesConverge {
    fn name(&self) -> &'static str {
        "touches_converge"
    }

    fn observe(&mut self, fact: &Fact<'_>) -> Result<(), String> {
        let Fact::Moment(moment) = fact else { return Ok(()) };
        let nothing = Held::new();
        let seen = moment.nodes.iter().flatten().flat_map(|node| node.sees_held.values());
        self.seen += seen.map(|held| held.len() as u64).sum::<u64>();
        let late = self.differences.look(moment, TOUCH_WITHIN, |(speaker, said), heard| {
            heard.sees_held.get(&speaker).unwrap_or(&nothing) != &said.holds
        });
        let Some((speaker, listener)) = late else { return Ok(()) };
        let of = |host: HostId| moment.nodes.get(host).and_then(Option::as_ref);
        Err(format!(
            "host {listener} sees host {speaker} hold {:?} instead of {:?}",
            of(listener).and_then(|node| node.sees_held.get(&speaker)),
            of(speaker).map(|node| &node.holds)
        ))
    }

    fn figures(&self, into: &mut BTreeMap<&'static str, f64>) {
        if self.seen > 0 {
            into.insert("touches_differed_longest_ms", self.differences.longest.as_secs_f64() * 1e3);
            into.insert("touches_seen_moments", self.seen as f64);
        }
    }
}
