//! The thread that speaks with the node: its WebSocket, and REST for what is set for one member.

use std::io::ErrorKind;
use std::net::TcpStream;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, TrySendError};
use std::time::Duration;

use serde_json::{Value, json};
use tungstenite::{Message, WebSocket};

use super::model::{Request, Said};
use crate::cli::client::RunningNode;

/// Time until the node is looked for again.
const RETRY: Duration = Duration::from_millis(500);
/// A read that finds nothing ends after this, and requests are sent.
const PATIENCE: Duration = Duration::from_millis(10);
const TOPICS: [&str; 6] = ["status", "meters", "peers", "playback", "log", "notifications"];

/// Speaks with the node until nobody listens any more, looking for it again whenever it is gone.
pub(super) fn run(data_dir: &Path, said: &SyncSender<Said>, asked: &Receiver<Request>) {
    loop {
        let lost = match RunningNode::find(data_dir).and_then(|node| Ok((node.open_socket(PATIENCE)?, node)))
        {
            Ok((socket, node)) => match serve(socket, &node, said, asked) {
                Some(lost) => lost,
                None => return,
            },
            Err(exit) => exit.message().to_owned(),
        };
        if !tell(said, Said::Lost(lost)) {
            return;
        }
        match asked.recv_timeout(RETRY) {
            Err(RecvTimeoutError::Disconnected) => return,
            Err(RecvTimeoutError::Timeout) => {}
            Ok(_) => {
                if !tell(said, Said::Refused("the node is gone; wait for it to come back".into())) {
                    return;
                }
            }
        }
    }
}

/// Why the node was lost; `None`: nobody listens any more.
fn serve(
    mut socket: WebSocket<TcpStream>,
    node: &RunningNode,
    said: &SyncSender<Said>,
    asked: &Receiver<Request>,
) -> Option<String> {
    let subscribe = json!({"type": "subscribe", "topics": TOPICS});
    if let Err(error) = socket.send(Message::text(subscribe.to_string())) {
        return Some(error.to_string());
    }
    if !tell(said, Said::Found) {
        return None;
    }
    loop {
        loop {
            let request = match asked.try_recv() {
                Ok(request) => request,
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => {
                    // A polite end; the node notices a rude one as well.
                    let _ = socket.close(None).and_then(|()| socket.flush());
                    return None;
                }
            };
            let sent = match request {
                Request::Say(message) => {
                    socket.send(Message::text(message.to_string())).map_err(|error| error.to_string())
                }
                Request::Put { route, body } => {
                    if let Err(exit) = node.put(&route, &body)
                        && !tell(said, Said::Refused(exit.message().to_owned()))
                    {
                        return None;
                    }
                    Ok(())
                }
            };
            if let Err(lost) = sent {
                return Some(lost);
            }
        }
        match socket.read() {
            Ok(Message::Text(text)) => {
                let Ok(message) = serde_json::from_str::<Value>(&text) else { continue };
                if !tell(said, Said::Message(message)) {
                    return None;
                }
            }
            Ok(Message::Close(_)) => return Some("the node stops".to_owned()),
            Ok(_) => {}
            Err(tungstenite::Error::Io(error))
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(error) => return Some(error.to_string()),
        }
    }
}

/// Whether somebody listens. A screen that does not keep up misses this one; the next one shows the newest state.
fn tell(said: &SyncSender<Said>, what: Said) -> bool {
    !matches!(said.try_send(what), Err(TrySendError::Disconnected(_)))
}
