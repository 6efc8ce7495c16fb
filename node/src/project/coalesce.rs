//! A drag is few commits.
//!
//! Every commit is signed, written to every member's disk, sent to all and kept for ever. A fader that is dragged by a page,
//! or turned by a controller, says thirty to a thousand times a second where it is. So of a stream of numbers for one
//! address the first is committed at once, and then the latest four times a second; the last always is. In between it is
//! pending: whoever reads the project sees it, and nobody else yet.
//!
//! Only what was asked not to wait for the disk may be pending, so an edit that was called durable never is; only numbers, as
//! two presses of a button are two edits; and only addresses that were committed a moment ago, so what cannot be set is
//! refused as ever. Everything else that changes the project comes after what is pending. A value without I/O or clock.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use crdt::{Command, Kind, parameter};
use serde_json::Value;

/// Least time between two commits of one address: four a second.
pub const INTERVAL: Duration = Duration::from_millis(250);
/// The longest anything is pending, when several people drag at once.
const LONGEST: Duration = INTERVAL.saturating_mul(2);
/// Addresses that may be pending; more are committed at once.
const MAX_PENDING: usize = 256;

/// What was committed lately, and what is pending.
#[derive(Debug, Default)]
pub struct Coalescer {
    committed: BTreeMap<String, Instant>,
    pending: BTreeMap<String, Value>,
    /// When the first of them came, and when they are to be committed.
    since_and_due: Option<(Instant, Instant)>,
}

impl Coalescer {
    /// Takes commands that may wait; `false` if they are to be committed now.
    pub fn defer(&mut self, now: Instant, commands: &[Command]) -> bool {
        self.forget(now);
        let mut latest = None;
        for command in commands {
            let committed = number(command).and_then(|(address, _)| self.committed.get(address));
            let Some(committed) = committed else { return false };
            latest = latest.max(Some(*committed));
        }
        let Some(latest) = latest else { return false };
        if self.pending.len() + commands.len() > MAX_PENDING {
            return false;
        }
        self.pending
            .extend(commands.iter().filter_map(number).map(|(at, value)| (at.to_owned(), value.clone())));
        let (since, due) = self.since_and_due.unwrap_or((now, now));
        self.since_and_due = Some((since, due.max(latest + INTERVAL).min(since + LONGEST)));
        true
    }

    /// Whether commands that were not taken are to be committed after what is pending: all but numbers elsewhere are.
    pub fn must_follow(&self, commands: &[Command]) -> bool {
        let elsewhere =
            |command| number(command).is_some_and(|(address, _)| !self.pending.contains_key(address));
        !commands.iter().all(elsewhere)
    }

    /// These commands were committed.
    pub fn committed(&mut self, now: Instant, commands: &[Command]) {
        self.forget(now);
        self.committed
            .extend(commands.iter().filter_map(number).map(|(address, _)| (address.to_owned(), now)));
    }

    /// What is pending, to be committed as one gesture.
    pub fn take(&mut self) -> Vec<Command> {
        self.since_and_due = None;
        let pending = std::mem::take(&mut self.pending);
        pending.into_iter().map(|(address, value)| Command::Set { address, value }).collect()
    }

    /// When what is pending is to be committed.
    pub fn poll_deadline(&self) -> Option<Instant> {
        self.since_and_due.map(|(_, due)| due)
    }

    /// Lays what is pending over the node of the project's tree that was read at `address`; `None`: the whole.
    pub fn lay_over(&self, address: Option<&str>, node: &mut Value) {
        let parts = address.unwrap_or_default().split('/').filter(|part| !part.is_empty());
        let place: String = parts.map(|part| format!("/{part}")).collect();
        for (address, value) in &self.pending {
            let below = address.strip_prefix(&place).filter(|rest| rest.is_empty() || rest.starts_with('/'));
            if let Some(slot) = below.and_then(|below| node.pointer_mut(below)) {
                slot.clone_from(value);
            }
        }
    }

    fn forget(&mut self, now: Instant) {
        let pending = &self.pending;
        // What is pending stays known: it may be set again.
        self.committed.retain(|address, at| {
            now.saturating_duration_since(*at) < INTERVAL || pending.contains_key(address)
        });
    }
}

/// Address and value of a command that sets a number within its range.
fn number(command: &Command) -> Option<(&str, &Value)> {
    let Command::Set { address, value } = command else { return None };
    let parameter = parameter(address).filter(|parameter| matches!(parameter.kind, Kind::Number { .. }))?;
    parameter.check(value).ok()?;
    Some((address, value))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn set(address: &str, value: impl Into<Value>) -> Command {
        Command::Set { address: address.into(), value: value.into() }
    }

    const GAIN: &str = "/mixer/strip/a/gain_db";
    const PAN: &str = "/mixer/strip/a/pan";

    /// Plays edits at their times (ms) and gives what was committed when.
    fn played(edits: &[(u64, Vec<Command>)]) -> Vec<(u64, Vec<Command>)> {
        let start = Instant::now();
        let (mut coalescer, mut commits) = (Coalescer::default(), Vec::new());
        let mut edits = edits.iter().peekable();
        for ms in 0..5_000 {
            let now = start + Duration::from_millis(ms);
            if coalescer.poll_deadline().is_some_and(|due| due <= now) {
                let pending = coalescer.take();
                coalescer.committed(now, &pending);
                commits.push((ms, pending));
            }
            while let Some((_, commands)) = edits.next_if(|(at, _)| *at <= ms) {
                if coalescer.defer(now, commands) {
                    continue;
                }
                if coalescer.must_follow(commands) {
                    let pending = coalescer.take();
                    if !pending.is_empty() {
                        commits.push((ms, pending.clone()));
                    }
                    coalescer.committed(now, &pending);
                }
                coalescer.committed(now, commands);
                commits.push((ms, commands.clone()));
            }
        }
        assert_eq!(coalescer.poll_deadline(), None, "nothing stays pending");
        commits
    }

    #[test]
    fn a_drag_is_four_commits_a_second_and_its_last_value_is_kept() {
        let drag: Vec<_> = (0..=1_000).map(|ms| (ms, vec![set(GAIN, -(ms as f64) / 100.0)])).collect();
        let commits = played(&drag);
        let at: Vec<u64> = commits.iter().map(|(ms, _)| *ms).collect();
        assert_eq!(at, [0, 250, 500, 750, 1_000, 1_250]);
        assert_eq!(commits.last().unwrap().1, [set(GAIN, -10.0)]);
    }

    #[test]
    fn two_drags_and_pairs_of_values_share_their_commits() {
        let mut edits: Vec<_> = (0..100).map(|n| (10 * n, vec![set(GAIN, n as f64 / -10.0)])).collect();
        edits.extend((0..100).map(|n| (10 * n + 200, vec![set(PAN, n as f64 / 100.0)])));
        edits.sort_by_key(|(ms, _)| *ms);
        let commits = played(&edits);
        for address in [GAIN, PAN] {
            let of: Vec<_> =
                commits.iter().filter(|(_, list)| list.iter().any(|c| c.address() == address)).collect();
            for pair in of.windows(2) {
                assert!(pair[1].0 - pair[0].0 >= 250, "{address}: {of:?}");
            }
        }
        let last = |address: &str| {
            commits.iter().rev().find_map(|(_, list)| list.iter().find(|c| c.address() == address)).cloned()
        };
        assert_eq!((last(GAIN), last(PAN)), (Some(set(GAIN, -9.9)), Some(set(PAN, 0.99))));
        let both = vec![set(GAIN, -1.0), set(PAN, 0.5)];
        let pair = played(&[(0, both.clone()), (10, vec![set(PAN, 0.6)]), (20, both.clone())]);
        assert_eq!(pair, [(0, both.clone()), (250, both)]);
    }

    #[test]
    fn all_else_is_committed_at_once_and_in_order() {
        let mute = |on| vec![set("/mixer/strip/a/mute", on)];
        let commits = played(&[(0, mute(true)), (1, mute(false)), (2, mute(true))]);
        assert_eq!(commits.len(), 3);
        let slow: Vec<_> = (0..4).map(|n| (260 * n, vec![set(GAIN, n)])).collect();
        assert_eq!(played(&slow), slow);
        // Out of range: the project is to refuse it.
        let wrong = vec![set(GAIN, 99)];
        let commits = played(&[(0, vec![set(GAIN, 1)]), (1, vec![set(GAIN, 2)]), (2, wrong.clone())]);
        assert_eq!(commits, [(0, vec![set(GAIN, 1)]), (2, vec![set(GAIN, 2)]), (2, wrong)]);
        // Another address is not held up, and holds nothing up.
        let other = vec![set(PAN, 1)];
        let commits = played(&[(0, vec![set(GAIN, 1)]), (1, other.clone()), (2, vec![set(GAIN, 2)])]);
        assert_eq!(commits, [(0, vec![set(GAIN, 1)]), (1, other), (250, vec![set(GAIN, 2)])]);
    }

    #[test]
    fn whoever_reads_sees_what_is_pending() {
        let now = Instant::now();
        let mut coalescer = Coalescer::default();
        coalescer.committed(now, &[set(GAIN, 0)]);
        assert!(coalescer.defer(now, &[set(GAIN, -3.5)]));
        let tree = json!({"mixer": {"strip": {"a": {"gain_db": 0, "pan": 0}, "b": {"gain_db": 0}}}});
        for (address, expected) in [
            (None, json!({"mixer": {"strip": {"a": {"gain_db": -3.5, "pan": 0}, "b": {"gain_db": 0}}}})),
            (Some("/mixer/strip/a"), json!({"gain_db": -3.5, "pan": 0})),
            (Some("/mixer/strip/a/"), json!({"gain_db": -3.5, "pan": 0})),
            (Some("/mixer/strip/b"), json!({"gain_db": 0})),
            (Some(GAIN), json!(-3.5)),
        ] {
            let at = address.map_or_else(String::new, |address| address.trim_end_matches('/').to_owned());
            let mut node = tree.pointer(&at).unwrap().clone();
            coalescer.lay_over(address, &mut node);
            assert_eq!(node, expected, "{address:?}");
        }
    }

    #[test]
    fn pending_addresses_are_bounded() {
        let now = Instant::now();
        let mut coalescer = Coalescer::default();
        let of = |n: usize| [set(&format!("/mixer/strip/{n}/pan"), 0)];
        for n in 0..=MAX_PENDING {
            coalescer.committed(now, &of(n));
        }
        assert!((0..MAX_PENDING).all(|n| coalescer.defer(now, &of(n))));
        assert!(!coalescer.defer(now, &of(MAX_PENDING)));
        assert_eq!(coalescer.take().len(), MAX_PENDING);
    }
}
