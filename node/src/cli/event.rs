//! What a running node says on stdout: JSON objects, one a line, or lines for a person.

use std::path::PathBuf;

use serde::Serialize;

use crate::cli::printable;

/// One thing a running node says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The node runs and can be reached.
    Ready(Ready),
    /// The player should know this; the sentence says what to do.
    Warning {
        /// The sentence.
        message: String,
    },
    /// Another node joined the session.
    PeerJoined {
        /// Its identity.
        peer_id: String,
        /// Its name.
        name: String,
    },
    /// Another node left or was lost.
    PeerLeft {
        /// Its identity.
        peer_id: String,
        /// Its name.
        name: String,
    },
    /// The node has stopped and saved all.
    Stopped,
}

/// A node that runs and can be reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Ready {
    /// The node's identity.
    pub peer_id: String,
    /// The player's name.
    pub name: String,
    /// The control interface.
    pub http: String,
    /// Multiaddrs others can dial.
    pub listen: Vec<String>,
    /// The session's name.
    pub session: String,
    /// Where the token is.
    pub token_file: PathBuf,
    /// The page with its token, for the player's own terminal; not in the JSON.
    #[serde(skip)]
    pub page_url: String,
}

impl Event {
    /// It in one line of JSON, or in words for a person.
    #[must_use]
    pub fn line(&self, json: bool) -> String {
        // Nothing in it cannot be written as JSON; there are words otherwise.
        let object = if json { serde_json::to_string(self).ok() } else { None };
        object.unwrap_or_else(|| in_words(self))
    }
}

fn in_words(event: &Event) -> String {
    match event {
        Event::Ready(ready) => format!(
            "{} plays in session {}.\n  page     {}\n  dial me  {}\nCtrl-C leaves the session.",
            printable(&ready.name),
            printable(&ready.session),
            ready.page_url,
            ready.listen.join("\n           ")
        ),
        Event::Warning { message } => format!("! {}", printable(message)),
        Event::PeerJoined { name, .. } => format!("+ {} is here", printable(name)),
        Event::PeerLeft { name, .. } => format!("- {} is gone", printable(name)),
        Event::Stopped => "Left the session; all is saved.".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_line_has_its_fields_and_no_token() {
        let ready = Ready {
            peer_id: "12D3".into(),
            name: "Maya".into(),
            http: "http://127.0.0.1:7780".into(),
            listen: vec!["/ip4/127.0.0.1/udp/7778/quic-v1".into()],
            session: "jam".into(),
            token_file: "/d/token".into(),
            page_url: "http://127.0.0.1:7780/#token=secret".into(),
        };
        let line = Event::Ready(ready.clone()).line(true);
        assert_eq!(
            line,
            r#"{"event":"ready","peer_id":"12D3","name":"Maya","http":"http://127.0.0.1:7780","listen":["/ip4/127.0.0.1/udp/7778/quic-v1"],"session":"jam","token_file":"/d/token"}"#
        );
        assert!(in_words(&Event::Ready(ready)).contains("#token=secret"));
    }

    #[test]
    fn joining_strangers_cannot_steer_the_terminal() {
        let event = Event::PeerJoined { peer_id: "p".into(), name: "x\u{1b}[2J\ny".into() };
        assert_eq!(in_words(&event), "+ x[2Jy is here");
    }
}
