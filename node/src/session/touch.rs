//! What people hold in their hands right now: faders being dragged, names being typed.
//!
//! A drag is 30 values a second of which only the last is worth keeping, and everybody wants to hear and see all of them at
//! once. So they do not pass through the project: a *touch* is told to all members as it happens, laid over the project's
//! value wherever that is heard or shown, and forgotten. It ends when its page lets go, when its page or node is gone, or
//! when nothing was heard of it for [`TOUCH_LIFE_NS`].
//!
//! Who lets go has committed the last value to the project, but the project's way is longer (the disk comes first). So that
//! nothing jumps back for that moment, a touch with a value stays for up to [`LINGER_NS`] after its end, or until the
//! project's value changes ([`Touches::settle`]).
//!
//! Bounds: [`MAX_PER_MEMBER`] touches a member, the one renewed longest ago making room; [`RATE_PER_S`] messages a second from
//! a member, more are dropped; own touches leave at most every [`SEND_INTERVAL_NS`] each, the newest value always.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde_json::Value;

use super::message::{Touch, TouchValue};

/// A touch that is not renewed ends after this, ns.
pub const TOUCH_LIFE_NS: i64 = 3_000_000_000;
/// How long a value stays after its touch ended while the project has not followed, ns.
pub const LINGER_NS: i64 = 1_000_000_000;
/// Touches of one member, or of this node.
pub const MAX_PER_MEMBER: usize = 32;
/// Messages a second that a member may send: eight fingers at 40 a second, and more than an honest node ever sends.
pub const RATE_PER_S: i64 = 320;
/// Time between two messages about one own touch, ns: a page's 30 a second pass at once.
pub const SEND_INTERVAL_NS: i64 = 25_000_000;
/// Longest address, bytes.
pub const MAX_ADDRESS_BYTES: usize = 128;

/// Why something cannot be touched.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TouchError {
    /// There is nothing of the kind.
    #[error(
        "{0:?} cannot be touched; give a parameter's address such as /mixer/strip/ID/gain_db, or without a value a track or /chat"
    )]
    Address(String),
    /// The value does not fit.
    #[error("{address} {takes}")]
    Value {
        /// Where.
        address: String,
        /// What fits there.
        takes: String,
    },
}

/// One touch as others see it.
#[derive(Clone, Debug, PartialEq)]
pub struct Touching<'a, P> {
    /// Whose; `None`: this node's.
    pub peer: Option<&'a P>,
    /// Which of that node's pages.
    pub source: u32,
    /// What is touched.
    pub address: &'a str,
    /// Where it stands meanwhile; `None`: only touched.
    pub value: Option<&'a Value>,
}

/// All touches, this node's and the members'.
#[derive(Debug)]
pub struct Touches<P> {
    held: BTreeMap<Key<P>, Held>,
    budgets: BTreeMap<P, Budget>,
    sends: VecDeque<Touch>,
    changed: BTreeSet<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key<P> {
    /// `None`: this node.
    peer: Option<P>,
    source: u32,
    address: String,
}

#[derive(Debug)]
struct Held {
    value: Option<Value>,
    renewed_ns: i64,
    ends_ns: i64,
    /// Let go, and only staying until the project follows.
    ended: bool,
    /// Own touches: when the members were last told, and whether something newer waits.
    sent_ns: i64,
    unsent: bool,
}

/// What a member may still send: a token bucket.
#[derive(Debug)]
struct Budget {
    left: i64,
    since_ns: i64,
}

impl<P> Default for Touches<P> {
    fn default() -> Self {
        Self {
            held: BTreeMap::new(),
            budgets: BTreeMap::new(),
            sends: VecDeque::new(),
            changed: BTreeSet::new(),
        }
    }
}

impl<P: Ord + Clone> Touches<P> {
    /// A page of this node holds `address`.
    ///
    /// # Errors
    /// [`TouchError`] when there is nothing to hold, or it cannot stand there.
    pub fn touch(
        &mut self,
        now_ns: i64,
        source: u32,
        address: &str,
        value: Option<Value>,
    ) -> Result<(), TouchError> {
        if !can_be_touched(address, value.is_some()) {
            let shown = address.chars().take(MAX_ADDRESS_BYTES).collect();
            return Err(TouchError::Address(shown));
        }
        if let (Some(value), Some(parameter)) = (&value, crdt::parameter(address))
            && let Err(takes) = parameter.check(value)
        {
            return Err(TouchError::Value { address: address.to_owned(), takes });
        }
        let key = Key { peer: None, source, address: address.to_owned() };
        let sent_ns = self.held.get(&key).map_or(i64::MIN, |held| held.sent_ns);
        let due = now_ns.saturating_sub(sent_ns) >= SEND_INTERVAL_NS;
        if due {
            self.sends.push_back(Touch {
                source,
                address: address.to_owned(),
                value: to_wire(value.as_ref()),
            });
        }
        let sent_ns = if due { now_ns } else { sent_ns };
        self.hold(now_ns, key, value, sent_ns, !due);
        Ok(())
    }

    /// A page of this node lets `address` go.
    pub fn end(&mut self, now_ns: i64, source: u32, address: &str) {
        let key = Key { peer: None, source, address: address.to_owned() };
        if self.held.contains_key(&key) {
            self.let_go(now_ns, &key);
        }
    }

    /// A page of this node is gone.
    pub fn forget_source(&mut self, now_ns: i64, source: u32) {
        for key in self.keys(|key| key.peer.is_none() && key.source == source) {
            self.let_go(now_ns, &key);
        }
    }

    /// A member says what it touches. What a member may not touch or set is not an error, for its program may be newer: it
    /// is brought into range as the project's own values are, or only shown as touched, or ignored.
    pub fn handle(&mut self, now_ns: i64, peer: &P, touch: Touch) {
        let budget =
            self.budgets.entry(peer.clone()).or_insert(Budget { left: RATE_PER_S, since_ns: now_ns });
        if !budget.take(now_ns) {
            return;
        }
        let key = Key { peer: Some(peer.clone()), source: touch.source, address: touch.address };
        if touch.value == TouchValue::End {
            if self.held.contains_key(&key) {
                self.let_go(now_ns, &key);
            }
            return;
        }
        let value = from_wire(touch.value).and_then(|value| readable(&key.address, value));
        if can_be_touched(&key.address, value.is_some()) {
            self.hold(now_ns, key, value, i64::MIN, false);
        }
    }

    /// A member is gone with all it touched.
    pub fn forget_peer(&mut self, peer: &P) {
        self.budgets.remove(peer);
        for key in self.keys(|key| key.peer.as_ref() == Some(peer)) {
            self.remove(&key);
        }
    }

    /// The project has followed at these addresses: what was let go there is over.
    pub fn settle(&mut self, addresses: &BTreeSet<String>) {
        let over = |(key, held): (&Key<P>, &Held)| {
            (held.ended && addresses.contains(&key.address)).then(|| key.clone())
        };
        for key in self.held.iter().filter_map(over).collect::<Vec<_>>() {
            self.remove(&key);
        }
    }

    /// What is due at `now_ns`: touches that were not renewed end, values held back are sent.
    pub fn handle_deadline(&mut self, now_ns: i64) {
        let over: Vec<Key<P>> =
            self.held.iter().filter(|(_, held)| held.ends_ns <= now_ns).map(|(key, _)| key.clone()).collect();
        for key in over {
            let tell = key.peer.is_none() && self.held.get(&key).is_some_and(|held| !held.ended);
            if tell {
                self.tell_end(&key);
            }
            self.remove(&key);
        }
        for (key, held) in &mut self.held {
            if held.unsent && now_ns.saturating_sub(held.sent_ns) >= SEND_INTERVAL_NS {
                (held.unsent, held.sent_ns) = (false, now_ns);
                self.sends.push_back(Touch {
                    source: key.source,
                    address: key.address.clone(),
                    value: to_wire(held.value.as_ref()),
                });
            }
        }
    }

    /// When [`Self::handle_deadline`] is next wanted, ns; `None` while nothing is touched.
    pub fn poll_deadline(&self) -> Option<i64> {
        let due = |held: &Held| match held.unsent {
            true => held.ends_ns.min(held.sent_ns.saturating_add(SEND_INTERVAL_NS)),
            false => held.ends_ns,
        };
        self.held.values().map(due).min()
    }

    /// Whether a value of this node's waits until it may be sent.
    pub fn waits(&self) -> bool {
        self.held.values().any(|held| held.unsent)
    }

    /// The next message for all members.
    pub fn poll_send(&mut self) -> Option<Touch> {
        self.sends.pop_front()
    }

    /// The addresses where somebody touches something else than at the last call.
    pub fn take_changed(&mut self) -> BTreeSet<String> {
        std::mem::take(&mut self.changed)
    }

    /// All touches in a steady order.
    pub fn iter(&self) -> impl Iterator<Item = Touching<'_, P>> {
        self.held.iter().map(|(key, held)| Touching {
            peer: key.peer.as_ref(),
            source: key.source,
            address: &key.address,
            value: held.value.as_ref(),
        })
    }

    /// Own touches as messages, for a member that has just come.
    pub fn own(&self) -> impl Iterator<Item = Touch> {
        let own = self.held.iter().filter(|(key, held)| key.peer.is_none() && !held.ended);
        own.map(|(key, held)| Touch {
            source: key.source,
            address: key.address.clone(),
            value: to_wire(held.value.as_ref()),
        })
    }

    /// What stands at `address` while it is touched: the value renewed last.
    pub fn value_at(&self, address: &str) -> Option<&Value> {
        let there = self.held.iter().filter(|(key, held)| key.address == address && held.value.is_some());
        there.max_by_key(|(_, held)| held.renewed_ns).and_then(|(_, held)| held.value.as_ref())
    }

    fn hold(&mut self, now_ns: i64, key: Key<P>, value: Option<Value>, sent_ns: i64, unsent: bool) {
        if !self.held.contains_key(&key) {
            let of_peer = |(other, _): &(&Key<P>, &Held)| other.peer == key.peer;
            if self.held.iter().filter(of_peer).count() >= MAX_PER_MEMBER {
                let oldest = self.held.iter().filter(of_peer).min_by_key(|(_, held)| held.renewed_ns);
                if let Some(oldest) = oldest.map(|(oldest, _)| oldest.clone()) {
                    self.remove(&oldest);
                }
            }
        }
        let known = self.held.get(&key).is_some_and(|held| held.value == value && !held.ended);
        if !known {
            self.changed.insert(key.address.clone());
        }
        let ends_ns = now_ns.saturating_add(TOUCH_LIFE_NS);
        self.held.insert(key, Held { value, renewed_ns: now_ns, ends_ns, ended: false, sent_ns, unsent });
    }

    fn let_go(&mut self, now_ns: i64, key: &Key<P>) {
        let Some(held) = self.held.get_mut(key) else { return };
        if held.ended {
            return;
        }
        let unsent = held.unsent;
        let last = to_wire(held.value.as_ref());
        if held.value.is_none() {
            self.remove(key);
        } else {
            held.ended = true;
            held.unsent = false;
            held.ends_ns = now_ns.saturating_add(LINGER_NS);
        }
        if key.peer.is_none() {
            // The others stay at the last value until the project follows, so they must know it.
            if unsent {
                let (source, address) = (key.source, key.address.clone());
                self.sends.push_back(Touch { source, address, value: last });
            }
            self.tell_end(key);
        }
    }

    fn tell_end(&mut self, key: &Key<P>) {
        let (source, address) = (key.source, key.address.clone());
        self.sends.push_back(Touch { source, address, value: TouchValue::End });
    }

    fn remove(&mut self, key: &Key<P>) {
        if self.held.remove(key).is_some() {
            self.changed.insert(key.address.clone());
        }
    }

    fn keys(&self, wanted: impl Fn(&Key<P>) -> bool) -> Vec<Key<P>> {
        self.held.keys().filter(|key| wanted(key)).cloned().collect()
    }
}

impl Budget {
    fn take(&mut self, now_ns: i64) -> bool {
        let earned = now_ns.saturating_sub(self.since_ns).max(0).saturating_mul(RATE_PER_S) / 1_000_000_000;
        if earned > 0 {
            self.left = self.left.saturating_add(earned).min(RATE_PER_S);
            self.since_ns = now_ns;
        }
        self.left -= 1;
        if self.left < 0 {
            self.left = 0;
            return false;
        }
        true
    }
}

/// Whether there can be something at `address`, and a value at it.
fn can_be_touched(address: &str, with_value: bool) -> bool {
    if address.len() > MAX_ADDRESS_BYTES || !address.bytes().all(|byte| byte.is_ascii_graphic()) {
        return false;
    }
    let track = || address.strip_prefix("/tracks/").is_some_and(|id| !id.is_empty() && !id.contains('/'));
    crdt::parameter(address).is_some() || (!with_value && (address == "/chat" || track()))
}

/// A member's value as this version reads it; `None`: it does not fit there.
fn readable(address: &str, value: Value) -> Option<Value> {
    let parameter = crdt::parameter(address)?;
    let fits = value.is_number() || parameter.check(&value).is_ok();
    fits.then(|| parameter.read(value)).flatten()
}

fn to_wire(value: Option<&Value>) -> TouchValue {
    match value {
        Some(Value::Bool(flag)) => TouchValue::Flag(*flag),
        Some(Value::String(text)) => TouchValue::Text(text.clone()),
        Some(Value::Number(number)) => TouchValue::Number(number.as_f64().unwrap_or_default()),
        _ => TouchValue::Only,
    }
}

fn from_wire(value: TouchValue) -> Option<Value> {
    match value {
        TouchValue::Number(number) => serde_json::Number::from_f64(number).map(Value::Number),
        TouchValue::Flag(flag) => Some(Value::Bool(flag)),
        TouchValue::Text(text) => Some(Value::String(text)),
        TouchValue::Only | TouchValue::End => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const MS: i64 = 1_000_000;
    const SECOND: i64 = 1_000 * MS;
    const GAIN: &str = "/mixer/strip/x/gain_db";

    fn number(source: u32, address: &str, value: f64) -> Touch {
        Touch { source, address: address.into(), value: TouchValue::Number(value) }
    }

    fn sent(touches: &mut Touches<u8>) -> Vec<TouchValue> {
        std::iter::from_fn(|| touches.poll_send()).map(|touch| touch.value).collect()
    }

    #[test]
    fn a_drag_is_told_at_once_and_its_last_value_always() {
        let mut touches = Touches::<u8>::default();
        for step in 0..4 {
            touches.touch(step * 10 * MS, 1, GAIN, Some(json!(-step))).unwrap();
        }
        // 0, 10, 20 and 30 ms: the second and third came too soon, and were overtaken.
        assert_eq!(sent(&mut touches), [TouchValue::Number(0.0), TouchValue::Number(-3.0)]);
        touches.touch(32 * MS, 1, GAIN, Some(json!(-9))).unwrap();
        assert_eq!(touches.poll_deadline(), Some(55 * MS));
        assert!(touches.waits());
        touches.handle_deadline(55 * MS);
        assert!(!touches.waits());
        assert_eq!(sent(&mut touches), [TouchValue::Number(-9.0)]);
        touches.touch(56 * MS, 1, GAIN, Some(json!(-10))).unwrap();
        touches.end(57 * MS, 1, GAIN);
        assert_eq!(sent(&mut touches), [TouchValue::Number(-10.0), TouchValue::End]);
    }

    #[test]
    fn a_value_that_was_let_go_stays_until_the_project_follows() {
        let mut touches = Touches::<u8>::default();
        touches.handle(0, &7, number(1, GAIN, -6.0));
        touches.handle(MS, &7, Touch { source: 1, address: GAIN.into(), value: TouchValue::End });
        assert_eq!(touches.value_at(GAIN), Some(&json!(-6.0)));
        touches.settle(&BTreeSet::from(["/mixer/strip/y/gain_db".into()]));
        assert_eq!(touches.value_at(GAIN), Some(&json!(-6.0)));
        touches.take_changed();
        touches.settle(&BTreeSet::from([GAIN.into()]));
        assert_eq!(touches.value_at(GAIN), None);
        assert_eq!(touches.take_changed(), BTreeSet::from([GAIN.into()]));
    }

    #[test]
    fn a_hand_that_vanished_is_forgotten_with_its_value() {
        let mut touches = Touches::<u8>::default();
        touches.handle(0, &7, number(1, GAIN, -6.0));
        touches.touch(0, 1, GAIN, Some(json!(-3.0))).unwrap();
        touches.touch(2 * SECOND, 1, GAIN, Some(json!(-3.0))).unwrap();
        touches.handle_deadline(3 * SECOND);
        assert_eq!(touches.iter().count(), 1, "the renewed one lives");
        touches.handle_deadline(5 * SECOND);
        assert_eq!(touches.iter().count(), 0);
        assert_eq!(touches.poll_deadline(), None);
        touches.handle(6 * SECOND, &7, number(1, GAIN, -6.0));
        touches.forget_peer(&7);
        assert_eq!(touches.value_at(GAIN), None);
    }

    #[test]
    fn a_closed_page_lets_everything_go_and_says_so() {
        let mut touches = Touches::<u8>::default();
        touches.touch(0, 1, "/chat", None).unwrap();
        touches.touch(0, 1, GAIN, Some(json!(1))).unwrap();
        touches.touch(0, 2, "/chat", None).unwrap();
        sent(&mut touches);
        touches.forget_source(MS, 1);
        assert_eq!(sent(&mut touches), [TouchValue::End, TouchValue::End]);
        assert_eq!(touches.own().count(), 1);
    }

    #[test]
    fn what_is_no_parameter_or_out_of_range_is_refused_with_what_fits() {
        let mut touches = Touches::<u8>::default();
        let mut refused = |address: &str, value| touches.touch(0, 1, address, value).unwrap_err().to_string();
        assert!(refused(GAIN, Some(json!(99))).contains("-90 to 12 dB"));
        assert!(refused(GAIN, Some(json!("loud"))).contains("number"));
        for (address, value) in [
            ("/chat", Some(json!("text"))),
            ("/tracks/a", Some(json!(1))),
            ("/tracks/", None),
            ("/mixer/strip/a b/gain_db", None),
            ("/mixer/strip/\u{202e}/gain_db", None),
            ("", None),
            (&format!("/tracks/{}", "x".repeat(200)), None),
        ] {
            assert!(refused(address, value).contains("cannot be touched"), "{address}");
        }
        touches.touch(0, 1, "/tracks/a", None).unwrap();
    }

    #[test]
    fn a_members_value_is_brought_into_range_or_left_out() {
        let mut touches = Touches::<u8>::default();
        touches.handle(0, &7, number(1, GAIN, 400.0));
        assert_eq!(touches.value_at(GAIN), Some(&json!(12.0)));
        for value in [TouchValue::Number(f64::NAN), TouchValue::Text("loud".into()), TouchValue::Flag(true)] {
            touches.handle(0, &7, Touch { source: 1, address: GAIN.into(), value });
            assert_eq!(touches.value_at(GAIN), None);
            assert_eq!(touches.iter().count(), 1, "it is still touched");
        }
        touches.handle(0, &7, number(1, "/from/the/future", 1.0));
        touches.handle(0, &7, number(1, "/tracks/a/name", 1.0));
        assert_eq!(touches.iter().filter(|touch| touch.value.is_some()).count(), 0);
    }

    #[test]
    fn a_flooding_member_costs_a_bounded_amount_and_recovers() {
        let mut touches = Touches::<u8>::default();
        for n in 0..100_000_u32 {
            let address = format!("/mixer/strip/{n}/gain_db");
            touches.handle(i64::from(n), &7, number(n, &address, 0.0));
        }
        assert_eq!(touches.iter().count(), MAX_PER_MEMBER);
        assert!(touches.take_changed().len() <= 2 * RATE_PER_S as usize);
        touches.handle(SECOND, &7, number(1, GAIN, -1.0));
        assert_eq!(touches.value_at(GAIN), Some(&json!(-1.0)));
        // A page of ours that touches without end has the same room and no more.
        for n in 0..1_000 {
            touches.touch(SECOND, n, GAIN, Some(json!(0))).unwrap();
        }
        assert_eq!(touches.own().count(), MAX_PER_MEMBER);
    }

    #[test]
    fn of_two_hands_on_one_fader_the_last_one_is_heard() {
        let mut touches = Touches::<u8>::default();
        touches.handle(0, &7, number(1, GAIN, -6.0));
        touches.handle(MS, &3, number(1, GAIN, -12.0));
        assert_eq!(touches.value_at(GAIN), Some(&json!(-12.0)));
        touches.handle(2 * MS, &7, number(1, GAIN, -5.0));
        assert_eq!(touches.value_at(GAIN), Some(&json!(-5.0)));
    }
}
