//! The secrets that open the control interface: one token for each data directory, and tickets that open one WebSocket.
//!
//! A browser cannot set headers on a WebSocket and an address ends up in histories and logs, so what goes into an address
//! is a ticket that is good once and for half a minute. Neither kind is ever printed by `Debug`, and both are compared in
//! constant time.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Mutex, PoisonError};

use rand::RngCore;
use subtle::ConstantTimeEq;
use tokio::time::Instant;

use crate::control::limits::{MAX_TICKETS, TICKET_LIFE};
use crate::control::types::Role;

/// The bearer token.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// A new random token: 256 bits as 64 hexadecimal digits.
    #[must_use]
    pub fn generate() -> Self {
        Self(random_hex())
    }

    /// The token in the text of a token file. `None` if the text is no token: fewer than 32 or more than 256 characters, or
    /// others than letters, digits, `-` and `_`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let fits = (32..=256).contains(&text.len());
        let clean = text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
        (fits && clean).then(|| Self(text.to_owned()))
    }

    /// The token itself, for the token file, an `Authorization` header or an address's fragment; nowhere else.
    #[must_use]
    pub fn secret(&self) -> &str {
        &self.0
    }

    /// Whether `candidate` is this token, in a time that depends on lengths only.
    #[must_use]
    pub fn matches(&self, candidate: &str) -> bool {
        self.0.as_bytes().ct_eq(candidate.as_bytes()).into()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// The tokens of a node and what each opens.
#[derive(Clone, Debug)]
pub struct Keys {
    /// Opens everything.
    pub player: Token,
    /// Opens everything that changes nothing; `None`: there is no such token.
    pub viewer: Option<Token>,
}

impl Keys {
    /// What `candidate` opens; `None`: nothing. Takes the same time whichever it is.
    #[must_use]
    pub fn role(&self, candidate: &str) -> Option<Role> {
        let player = self.player.matches(candidate);
        let viewer = self.viewer.as_ref().is_some_and(|token| token.matches(candidate));
        match (player, viewer) {
            (true, _) => Some(Role::Player),
            (false, true) => Some(Role::Viewer),
            (false, false) => None,
        }
    }

    /// The tokens themselves, to keep them out of what leaves this machine.
    pub(crate) fn secrets(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&self.player).chain(&self.viewer).map(Token::secret)
    }
}

impl From<Token> for Keys {
    fn from(player: Token) -> Self {
        Self { player, viewer: None }
    }
}

/// Tickets given out and not used yet, at most [`MAX_TICKETS`]; one more drops the oldest.
#[derive(Default)]
pub(crate) struct Tickets(Mutex<VecDeque<Given>>);

struct Given {
    ticket: String,
    expires: Instant,
    role: Role,
}

impl Tickets {
    /// A new ticket, good once until [`TICKET_LIFE`] after `now`; it opens what the asker's own token does.
    pub(crate) fn issue(&self, role: Role, now: Instant) -> String {
        let ticket = random_hex();
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.retain(|given| given.expires > now);
        if waiting.len() >= MAX_TICKETS {
            waiting.pop_front();
        }
        waiting.push_back(Given { ticket: ticket.clone(), expires: now + TICKET_LIFE, role });
        ticket
    }

    /// Uses a ticket up; what it opens, if it was good.
    pub(crate) fn redeem(&self, candidate: &str, now: Instant) -> Option<Role> {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.retain(|given| given.expires > now);
        let mut role = None;
        waiting.retain(|given| {
            let used = bool::from(given.ticket.as_bytes().ct_eq(candidate.as_bytes()));
            if used {
                role = Some(given.role);
            }
            !used
        });
        role
    }
}

fn random_hex() -> String {
    let mut bytes = [0_u8; 32];
    rand::rng().fill_bytes(&mut bytes);
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_survives_its_file_and_matches_only_itself() {
        let token = Token::generate();
        let read = Token::parse(&format!("{}\n", token.secret())).unwrap();
        assert!(read.matches(token.secret()));
        assert!(!read.matches(""));
        assert!(!read.matches(&token.secret()[1..]));
        assert!(!read.matches(Token::generate().secret()));
    }

    #[test]
    fn truncated_or_dirty_token_file_is_refused() {
        for text in ["", "\n", "short", &"a".repeat(257), &format!("{}\r\nX: y", "a".repeat(40))] {
            assert!(Token::parse(text).is_none(), "{text:?}");
        }
    }

    #[test]
    fn token_never_shows_in_debug_output() {
        let token = Token::generate();
        assert!(!format!("{token:?}").contains(token.secret()));
    }

    #[test]
    fn ticket_opens_once_and_expires() {
        let (tickets, now) = (Tickets::default(), Instant::now());
        let ticket = tickets.issue(Role::Viewer, now);
        assert_eq!(tickets.redeem("", now), None);
        assert_eq!(tickets.redeem(&ticket, now), Some(Role::Viewer));
        assert_eq!(tickets.redeem(&ticket, now), None);
        let late = tickets.issue(Role::Player, now);
        assert_eq!(tickets.redeem(&late, now + TICKET_LIFE), None);
    }

    #[test]
    fn one_ticket_too_many_drops_the_oldest() {
        let (tickets, now) = (Tickets::default(), Instant::now());
        let first = tickets.issue(Role::Player, now);
        let second = tickets.issue(Role::Player, now);
        for _ in 0..MAX_TICKETS - 1 {
            tickets.issue(Role::Player, now);
        }
        assert_eq!(tickets.redeem(&first, now), None);
        assert_eq!(tickets.redeem(&second, now), Some(Role::Player));
    }
}
