//! The parameter registry: everything that can be turned, with its address, unit, range and default.
//!
//! Problem: the same fader is reached from REST, WebSocket, OSC, MIDI learn and automation, and is drawn by the
//! page. Idea: one table says for each kind of address which values it takes; every other place is a projection
//! of it. A value that was never set is not stored: it reads as its default, so two nodes that start at the same
//! moment, each with a project of its own, have nothing to disagree about.
//!
//! Limits: the registry judges edits made *here*. A newer program may know wider ranges, so values that arrive from
//! others are stored as they are and brought into range when they are read ([`Parameter::read`]).

use std::fmt;

use serde_json::Value;

/// One kind of address.
#[derive(Clone, Copy, Debug)]
pub struct Parameter {
    /// The address; `ID` stands for the id of a track, a strip or a member.
    pub pattern: &'static str,
    /// Unit of the value, or an empty string if it has none.
    pub unit: &'static str,
    /// Which values it takes.
    pub kind: Kind,
    /// What it reads as before anybody set it.
    pub default: DefaultValue,
}

/// Which values a parameter takes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// A finite number from `min` to `max`, both included.
    Number {
        /// Smallest value.
        min: f64,
        /// Largest value.
        max: f64,
    },
    /// `true` or `false`.
    Flag,
    /// One line of text with at most `max_chars` characters.
    Text {
        /// Most Unicode characters.
        max_chars: usize,
        /// Whether the empty text is a value.
        may_be_empty: bool,
    },
    /// A colour as `#rrggbb`.
    Color,
    /// A time signature as `beats/unit`, `1/1` to `32/32`, the unit being a power of two.
    TimeSignature,
}

/// A parameter's value before anybody set it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum DefaultValue {
    /// A number.
    Number(f64),
    /// A flag.
    Flag(bool),
    /// A text.
    Text(&'static str),
    /// The name under which the session's nodes find each other.
    SessionName,
}

/// Colour of members and tracks that nobody has painted.
pub const DEFAULT_COLOR: &str = "#8a93a6";

const NAME: Kind = Kind::Text { max_chars: 64, may_be_empty: false };

/// All parameters, in the order in which they are documented.
const PARAMETERS: [Parameter; 12] = [
    Parameter { pattern: "/session/name", unit: "", kind: NAME, default: DefaultValue::SessionName },
    // The range is Ableton Link's.
    number("/transport/tempo_bpm", "bpm", 20.0, 999.0, 120.0),
    text("/transport/time_signature", Kind::TimeSignature, "4/4"),
    number("/mixer/strip/ID/gain_db", "dB", -90.0, 12.0, 0.0),
    number("/mixer/strip/ID/pan", "", -1.0, 1.0, 0.0),
    flag("/mixer/strip/ID/mute"),
    flag("/mixer/strip/ID/solo"),
    text("/tracks/ID/name", NAME, "Track"),
    text("/tracks/ID/color", Kind::Color, DEFAULT_COLOR),
    text("/members/ID/name", Kind::Text { max_chars: 64, may_be_empty: true }, ""),
    text("/members/ID/color", Kind::Color, DEFAULT_COLOR),
    text("/members/ID/instrument", Kind::Text { max_chars: 64, may_be_empty: true }, ""),
];

/// The whole registry.
pub fn parameters() -> &'static [Parameter] {
    &PARAMETERS
}

/// The parameter at an address such as `/tracks/a1b2/name`, if there is one.
pub fn parameter(address: &str) -> Option<&'static Parameter> {
    PARAMETERS.iter().find(|parameter| matches(parameter.pattern, address))
}

impl Parameter {
    /// Checks a value somebody wants to set.
    ///
    /// # Errors
    /// A sentence that names the values this parameter takes.
    pub fn check(&self, value: &Value) -> Result<(), String> {
        if self.kind.accepts(value) { Ok(()) } else { Err(format!("takes {}", self.takes())) }
    }

    /// What a stored value reads as: numbers are brought into range; `None` for anything else that does not fit, which
    /// reads as the default.
    pub fn read(&self, stored: Value) -> Option<Value> {
        if let (Kind::Number { min, max }, Some(number)) = (self.kind, stored.as_f64()) {
            return Some(Value::from(number.clamp(min, max)));
        }
        self.kind.accepts(&stored).then_some(stored)
    }

    /// The values it takes, in words: `a number from 20 to 999 bpm`.
    pub fn takes(&self) -> String {
        match self.kind {
            Kind::Number { min, max } => {
                let space = if self.unit.is_empty() { "" } else { " " };
                format!("a number from {min} to {max}{space}{}", self.unit)
            }
            Kind::Flag => "true or false".into(),
            Kind::Text { max_chars, may_be_empty } => {
                let least = if may_be_empty { 0 } else { 1 };
                format!("one line of text of {least} to {max_chars} characters")
            }
            Kind::Color => "a colour as #rrggbb, such as #ff8800".into(),
            Kind::TimeSignature => "a time signature such as 3/4: 1 to 16 beats, each a quarter note".into(),
        }
    }
}

impl Kind {
    fn accepts(self, value: &Value) -> bool {
        match self {
            Kind::Number { min, max } => value.as_f64().is_some_and(|n| n >= min && n <= max),
            Kind::Flag => value.is_boolean(),
            Kind::Text { max_chars, may_be_empty } => value.as_str().is_some_and(|text| {
                is_line(text)
                    && text.chars().count() <= max_chars
                    && (may_be_empty || !text.trim().is_empty())
            }),
            Kind::Color => value.as_str().is_some_and(|text| {
                text.strip_prefix('#')
                    .is_some_and(|hex| hex.len() == 6 && hex.bytes().all(|b| b.is_ascii_hexdigit()))
            }),
            Kind::TimeSignature => value.as_str().is_some_and(is_time_signature),
        }
    }
}

impl DefaultValue {
    /// The value in a session of that name.
    pub fn in_session(self, name: &str) -> Value {
        match self {
            DefaultValue::SessionName => Value::from(name),
            DefaultValue::Number(number) => Value::from(number),
            DefaultValue::Flag(flag) => Value::from(flag),
            DefaultValue::Text(text) => Value::from(text),
        }
    }
}

impl fmt::Display for Parameter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} takes {}", self.pattern, self.takes())
    }
}

fn matches(pattern: &str, address: &str) -> bool {
    let mut address = address.split('/');
    let fits = pattern
        .split('/')
        .all(|part| address.next().is_some_and(|given| part == given || (part == "ID" && !given.is_empty())));
    fits && address.next().is_none()
}

fn is_line(text: &str) -> bool {
    !text.chars().any(char::is_control)
}

fn is_time_signature(text: &str) -> bool {
    // A beat of the common beat, as of every Link session, is a quarter note: what it cannot play is not written down.
    let Some(beats) = text.strip_suffix("/4") else { return false };
    // `+4` and `04` are numbers, too.
    !beats.starts_with(['0', '+']) && beats.parse::<u8>().is_ok_and(|n| (1..=16).contains(&n))
}

const fn number(pattern: &'static str, unit: &'static str, min: f64, max: f64, default: f64) -> Parameter {
    Parameter { pattern, unit, kind: Kind::Number { min, max }, default: DefaultValue::Number(default) }
}

const fn flag(pattern: &'static str) -> Parameter {
    Parameter { pattern, unit: "", kind: Kind::Flag, default: DefaultValue::Flag(false) }
}

const fn text(pattern: &'static str, kind: Kind, default: &'static str) -> Parameter {
    Parameter { pattern, unit: "", kind, default: DefaultValue::Text(default) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_default_is_a_value_the_parameter_takes() {
        for parameter in parameters() {
            assert_eq!(parameter.check(&parameter.default.in_session("jam")), Ok(()), "{parameter}");
        }
    }

    #[test]
    fn addresses_find_their_parameter_and_nothing_else_does() {
        assert_eq!(parameter("/tracks/x1/name").map(|p| p.pattern), Some("/tracks/ID/name"));
        for unknown in [
            "",
            "/",
            "/tracks//name",
            "/tracks/x1",
            "/tracks/x1/name/",
            "tracks/x1/name",
            "/tracks/x1/gain_db",
        ] {
            assert!(parameter(unknown).is_none(), "{unknown}");
        }
    }

    #[test]
    fn refusal_says_the_range_and_the_unit() {
        let tempo = parameter("/transport/tempo_bpm").unwrap();
        assert_eq!(tempo.check(&json!(1200.0)), Err("takes a number from 20 to 999 bpm".into()));
        assert_eq!(tempo.check(&json!("fast")), Err("takes a number from 20 to 999 bpm".into()));
        assert_eq!(tempo.check(&json!(98)), Ok(()));
    }

    #[test]
    fn time_signatures_are_read_strictly() {
        let meter = parameter("/transport/time_signature").unwrap();
        for good in ["4/4", "3/4", "1/4", "16/4"] {
            assert!(meter.check(&json!(good)).is_ok(), "{good}");
        }
        for bad in ["4", "4/", "/4", "0/4", "4/3", "17/4", "6/8", "1/1", "+4/4", "04/4", "4/4/4", "4 /4"] {
            assert!(meter.check(&json!(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn stored_nonsense_reads_as_something_playable() {
        let gain = parameter("/mixer/strip/x/gain_db").unwrap();
        assert_eq!(gain.read(json!(900.0)), Some(json!(12.0)));
        assert_eq!(gain.read(json!("loud")), None);
        assert_eq!(gain.read(json!(null)), None);
        let color = parameter("/tracks/x/color").unwrap();
        assert_eq!(color.read(json!("#12345")), None);
    }
}
