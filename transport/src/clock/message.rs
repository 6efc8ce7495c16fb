//! The two datagrams of an exchange.

use bytes::{BufMut, Bytes, BytesMut};

use super::ClockError;
use crate::datagram::CLOCK_FIRST_BYTE;
use crate::time::LocalTime;

const REQUEST: u8 = 0;
const REPLY: u8 = 1;
const REQUEST_LEN: usize = 16;
const REPLY_LEN: usize = 32;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Message {
    Request(Request),
    Reply(Reply),
}

/// "It is `sent` here; what is it there?"
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) id: u16,
    /// Names the sender's clock: another value means another origin.
    pub(super) incarnation: u32,
    pub(super) sent: LocalTime,
}

/// "Your request reached me at `received`, and this leaves at `answered`."
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reply {
    pub(super) id: u16,
    pub(super) incarnation: u32,
    /// The request's own stamp, on the asker's clock.
    pub(super) sent: LocalTime,
    /// On the answerer's clock.
    pub(super) received: LocalTime,
    /// On the answerer's clock.
    pub(super) answered: LocalTime,
}

impl Message {
    pub(super) fn parse(datagram: &[u8]) -> Result<Message, ClockError> {
        let malformed = || ClockError::Malformed(datagram.len());
        let (head, times) = datagram.split_first_chunk::<8>().ok_or_else(malformed)?;
        let &[CLOCK_FIRST_BYTE, kind, id_high, id_low, i0, i1, i2, i3] = head else {
            return Err(malformed());
        };
        let id = u16::from_be_bytes([id_high, id_low]);
        let incarnation = u32::from_be_bytes([i0, i1, i2, i3]);
        let mut times = times.chunks_exact(8).map(|chunk| {
            LocalTime::from_nanos(chunk.iter().fold(0, |value, &octet| value << 8 | u64::from(octet)))
        });
        match (kind, datagram.len(), times.next(), times.next(), times.next()) {
            (REQUEST, REQUEST_LEN, Some(sent), None, None) => {
                Ok(Message::Request(Request { id, incarnation, sent }))
            }
            (REPLY, REPLY_LEN, Some(sent), Some(received), Some(answered)) => {
                Ok(Message::Reply(Reply { id, incarnation, sent, received, answered }))
            }
            _ => Err(malformed()),
        }
    }

    pub(super) fn to_bytes(self) -> Bytes {
        let (kind, id, incarnation) = match &self {
            Message::Request(request) => (REQUEST, request.id, request.incarnation),
            Message::Reply(reply) => (REPLY, reply.id, reply.incarnation),
        };
        let mut out = BytesMut::with_capacity(REPLY_LEN);
        out.put_u8(CLOCK_FIRST_BYTE);
        out.put_u8(kind);
        out.put_u16(id);
        out.put_u32(incarnation);
        match self {
            Message::Request(request) => out.put_u64(request.sent.as_nanos()),
            Message::Reply(reply) => {
                out.put_u64(reply.sent.as_nanos());
                out.put_u64(reply.received.as_nanos());
                out.put_u64(reply.answered.as_nanos());
            }
        }
        out.freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_written_is_read_back(id: u16, incarnation: u32, times: (u64, u64, u64)) {
            let (sent, received, answered) = times;
            let (sent, received, answered) =
                (LocalTime::from_nanos(sent), LocalTime::from_nanos(received), LocalTime::from_nanos(answered));
            for message in [
                Message::Request(Request { id, incarnation, sent }),
                Message::Reply(Reply { id, incarnation, sent, received, answered }),
            ] {
                prop_assert_eq!(Message::parse(&message.to_bytes()), Ok(message));
            }
        }

        #[test]
        fn random_bytes_never_panic(mut bytes: Vec<u8>, kind in 0u8..3) {
            if let [first, second, ..] = &mut bytes[..] {
                (*first, *second) = (CLOCK_FIRST_BYTE, kind);
            }
            let _ = Message::parse(&bytes);
        }
    }
}
