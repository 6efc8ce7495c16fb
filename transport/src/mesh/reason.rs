//! Why connections end and dials fail, in the words of the planner, of the wire, and of those above.

use libp2p::{Multiaddr, PeerId};

/// Why we close a connection; sent to the peer as QUIC application error code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CloseReason {
    /// We are leaving.
    Goodbye,
    /// Both sides keep another connection.
    Duplicate,
    /// The peer plays in another session.
    OtherSession,
    /// The peer speaks another version of the protocol.
    OtherVersion,
    /// Those above want it gone.
    Dismissed(String),
    /// No hello in time.
    NoHello,
    /// No room.
    Crowded,
    /// A channel broke.
    Broken,
    /// Nothing came from the peer, though the connection seems open.
    Silent,
}

impl CloseReason {
    /// The QUIC application error code.
    pub const fn code(&self) -> u32 {
        match self {
            CloseReason::Goodbye => 1,
            CloseReason::Duplicate => 2,
            CloseReason::OtherSession => 3,
            CloseReason::OtherVersion => 4,
            CloseReason::Dismissed(_) => 5,
            CloseReason::NoHello => 6,
            CloseReason::Crowded => 7,
            CloseReason::Broken => 8,
            CloseReason::Silent => 9,
        }
    }

    /// The text that travels with the code.
    pub fn text(&self) -> &str {
        match self {
            CloseReason::Goodbye => "goodbye",
            CloseReason::Duplicate => "using another connection",
            CloseReason::OtherSession => "other session",
            CloseReason::OtherVersion => "other protocol version",
            CloseReason::Dismissed(text) => text,
            CloseReason::NoHello => "no hello",
            CloseReason::Crowded => "no room",
            CloseReason::Broken => "broken channel",
            CloseReason::Silent => "not heard of for seconds",
        }
    }
}

/// How a connection ended, as the driver saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClosedBy {
    /// The peer closed it with this code and text.
    Peer {
        /// A [`CloseReason`] code, or anything.
        code: u64,
        /// What it said.
        text: String,
    },
    /// The peer does not know the connection: it has restarted.
    Reset,
    /// Nothing was heard for the idle timeout.
    Silence,
    /// Anything else.
    Failure(String),
}

/// Why a dial failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DialFailure {
    /// Nobody answered, or not properly.
    Unreachable,
    /// Somebody else answered at this address.
    WrongPeer {
        /// Where.
        address: Multiaddr,
        /// Who.
        obtained: PeerId,
    },
    /// We answered ourselves.
    Ourselves,
    /// We are connected to this peer already.
    AlreadyConnected(PeerId),
}

/// Why a peer is no longer connected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DisconnectReason {
    /// It said goodbye.
    Goodbye,
    /// It has not been heard of for seconds.
    Silence,
    /// Its process has restarted; it is, or will be, connected again.
    Restarted,
    /// Another connection to it takes over at once.
    Replaced,
    /// It sent us away, with this text.
    Dismissed(String),
    /// We sent it away.
    ByUs(String),
    /// The connection failed.
    Failure(String),
}

impl std::fmt::Display for DisconnectReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            DisconnectReason::Goodbye => f.write_str("said goodbye"),
            DisconnectReason::Silence => f.write_str("not heard of for seconds"),
            DisconnectReason::Restarted => f.write_str("restarted"),
            DisconnectReason::Replaced => f.write_str("connected another way"),
            DisconnectReason::Dismissed(text) => write!(f, "closed the connection: {text}"),
            DisconnectReason::ByUs(text) => write!(f, "sent away: {text}"),
            DisconnectReason::Failure(text) => write!(f, "connection failed: {text}"),
        }
    }
}

impl From<ClosedBy> for DisconnectReason {
    fn from(by: ClosedBy) -> Self {
        match by {
            ClosedBy::Peer { code, .. } if code == u64::from(CloseReason::Goodbye.code()) => {
                DisconnectReason::Goodbye
            }
            ClosedBy::Peer { code, .. } if code == u64::from(CloseReason::Duplicate.code()) => {
                DisconnectReason::Replaced
            }
            ClosedBy::Peer { code, .. } if code == u64::from(CloseReason::Silent.code()) => {
                DisconnectReason::Silence
            }
            ClosedBy::Peer { code: 0, .. } => DisconnectReason::Failure("closed by the peer".to_owned()),
            ClosedBy::Peer { text, .. } => DisconnectReason::Dismissed(text),
            ClosedBy::Reset => DisconnectReason::Restarted,
            ClosedBy::Silence => DisconnectReason::Silence,
            ClosedBy::Failure(text) => DisconnectReason::Failure(text),
        }
    }
}
