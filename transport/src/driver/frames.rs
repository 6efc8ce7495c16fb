//! Messages on a stream: a 32-bit big-endian length, then that many bytes. With a bound on everything.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use futures::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::mpsc;

use super::SendError;

/// One of the two ordered message streams to each peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Channel {
    /// Small and urgent: presence, playback, negotiation. Messages up to 64 KiB.
    Control,
    /// The shared project. Messages up to 4 MiB.
    Project,
}

impl Channel {
    pub(crate) const ALL: [Channel; 2] = [Channel::Control, Channel::Project];

    /// The libp2p protocol name.
    pub const fn protocol(self) -> &'static str {
        match self {
            Channel::Control => "/bandmesh/1/control",
            Channel::Project => "/bandmesh/1/project",
        }
    }

    /// Longest message, in bytes.
    pub const fn max_message_bytes(self) -> usize {
        match self {
            Channel::Control => 64 * 1024,
            Channel::Project => 4 * 1024 * 1024,
        }
    }

    /// Bytes waiting to be sent to one peer at most.
    const fn max_queued_bytes(self) -> usize {
        match self {
            Channel::Control => 1024 * 1024,
            Channel::Project => 16 * 1024 * 1024,
        }
    }
}

/// Messages waiting to be sent at most; bounds the overhead of many tiny ones.
const MAX_QUEUED_MESSAGES: usize = 1024;

/// Where messages for one channel of one connection wait. Full: the newcomer is refused, the caller decides.
#[derive(Debug, Clone)]
pub(crate) struct Outbox {
    channel: Channel,
    messages: mpsc::Sender<Bytes>,
    queued_bytes: Arc<AtomicUsize>,
}

/// The other end of an [`Outbox`].
#[derive(Debug)]
pub(crate) struct OutboxReader {
    messages: mpsc::Receiver<Bytes>,
    queued_bytes: Arc<AtomicUsize>,
}

pub(crate) fn outbox(channel: Channel) -> (Outbox, OutboxReader) {
    let (sender, receiver) = mpsc::channel(MAX_QUEUED_MESSAGES);
    let queued_bytes = Arc::new(AtomicUsize::new(0));
    let outbox = Outbox { channel, messages: sender, queued_bytes: queued_bytes.clone() };
    (outbox, OutboxReader { messages: receiver, queued_bytes })
}

impl Outbox {
    pub(crate) fn send(&self, message: Bytes) -> Result<(), SendError> {
        let length = message.len();
        if length > self.channel.max_message_bytes() {
            return Err(SendError::TooLarge { max_bytes: self.channel.max_message_bytes() });
        }
        let before = self.queued_bytes.fetch_add(length, Ordering::Relaxed);
        if before + length > self.channel.max_queued_bytes() {
            self.queued_bytes.fetch_sub(length, Ordering::Relaxed);
            return Err(SendError::Full);
        }
        self.messages.try_send(message).map_err(|error| {
            self.queued_bytes.fetch_sub(length, Ordering::Relaxed);
            match error {
                mpsc::error::TrySendError::Full(_) => SendError::Full,
                mpsc::error::TrySendError::Closed(_) => SendError::NotConnected,
            }
        })
    }
}

/// Writes what waits in the outbox until the connection, or every sender, is gone.
pub(crate) async fn write_all(
    mut outbox: OutboxReader,
    mut stream: impl AsyncWrite + Unpin,
) -> io::Result<()> {
    while let Some(message) = outbox.messages.recv().await {
        write_frame(&mut stream, &message).await?;
        outbox.queued_bytes.fetch_sub(message.len(), Ordering::Relaxed);
        if outbox.messages.is_empty() {
            stream.flush().await?;
        }
    }
    stream.close().await
}

/// Writes one message, not yet flushed.
pub(crate) async fn write_frame(stream: &mut (impl AsyncWrite + Unpin), message: &[u8]) -> io::Result<()> {
    let length = u32::try_from(message.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    stream.write_all(&length.to_be_bytes()).await?;
    stream.write_all(message).await
}

/// Reads the length of the next message; `None` at a clean end of the stream.
pub(crate) async fn read_length(
    stream: &mut (impl AsyncRead + Unpin),
    max_bytes: usize,
) -> io::Result<Option<usize>> {
    let mut length = [0; 4];
    // A stream may end between messages, not within one.
    if stream.read(&mut length[..1]).await? == 0 {
        return Ok(None);
    }
    stream.read_exact(&mut length[1..]).await?;
    let length = u32::from_be_bytes(length) as usize;
    if length > max_bytes {
        let text = format!("a message of {length} bytes where at most {max_bytes} are allowed");
        return Err(io::Error::new(io::ErrorKind::InvalidData, text));
    }
    Ok(Some(length))
}

/// Reads the bytes of a message. Memory grows with what has arrived, not with what was promised.
pub(crate) async fn read_body(stream: &mut (impl AsyncRead + Unpin), length: usize) -> io::Result<Bytes> {
    let mut body = Vec::new();
    stream.take(length as u64).read_to_end(&mut body).await?;
    if body.len() < length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(body.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::executor::block_on;
    use futures::io::Cursor;

    fn read_all(bytes: &[u8], max_bytes: usize) -> io::Result<Vec<Bytes>> {
        block_on(async {
            let mut stream = Cursor::new(bytes);
            let mut messages = Vec::new();
            while let Some(length) = read_length(&mut stream, max_bytes).await? {
                messages.push(read_body(&mut stream, length).await?);
            }
            Ok(messages)
        })
    }

    #[test]
    fn messages_keep_their_bounds() {
        let mut wire = Vec::new();
        for message in [&b"one"[..], b"", b"three"] {
            block_on(write_frame(&mut wire, message)).unwrap();
        }
        assert_eq!(read_all(&wire, 5).unwrap(), [&b"one"[..], b"", b"three"]);
    }

    #[test]
    fn a_promise_beyond_the_cap_is_refused_before_anything_is_allocated() {
        let error = read_all(&u32::MAX.to_be_bytes(), 64 * 1024).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn a_message_cut_short_is_an_error() {
        assert!(read_all(b"\0\0\0\x05abc", 64).is_err());
        assert!(read_all(b"\0\0", 64).is_err());
    }

    #[test]
    fn a_full_outbox_refuses_and_recovers() {
        let (outbox, mut reader) = outbox(Channel::Control);
        let message = Bytes::from(vec![0; Channel::Control.max_message_bytes()]);
        let accepted =
            std::iter::repeat_with(|| outbox.send(message.clone())).take_while(Result::is_ok).count();
        assert_eq!(accepted, 16);
        assert_eq!(outbox.send(message.clone()), Err(SendError::Full));
        let taken = reader.messages.try_recv().unwrap();
        reader.queued_bytes.fetch_sub(taken.len(), Ordering::Relaxed);
        assert_eq!(outbox.send(message.clone()), Ok(()));
        assert_eq!(outbox.send(vec![0; 70_000].into()), Err(SendError::TooLarge { max_bytes: 65_536 }));
        drop(reader);
        assert_eq!(outbox.send(Bytes::new()), Err(SendError::NotConnected));
    }
}
