//! Lies about the time of day.
//!
//! A clock answer carries the asked stamp and two of the answerer's own (`transport/PROTOCOL.md`, clock): octets 16 to 24
//! say when the question came, 24 to 32 when the answer left. Mallory adds its lie to both.

use bandmesh::session::message::{self, Control, Follows};

/// Octets of an answer, and where its own two stamps are.
const REPLY_LEN: usize = 32;
const RECEIVED: std::ops::Range<usize> = 16..24;
const ANSWERED: std::ops::Range<usize> = 24..32;

/// A way of lying.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum FalseClock {
    /// 70 ms further ahead every seven seconds.
    Jumps,
    /// 400 parts per million faster than its clock is.
    Drifts,
    /// As if the way to it took 8 ms longer than the way back.
    Asymmetric,
    /// Nothing about its clock. It says that it keeps the session's time itself, under a number before all others, is always 15
    /// ms ahead of everybody, and says so many times a second.
    Hurries,
    /// The same, but it says to have the time from somebody whom nobody else knows.
    HurriesForAnother,
}

/// How far whoever hurries is ahead: less than what is too far to be steered to.
const HURRY_NS: i64 = 15_000_000;
/// How often such a heartbeat is sent: about as often as is listened to.
const REPEATED: usize = 25;

impl FalseClock {
    /// The control frames in the place of one that its node says.
    pub(super) fn alter_frame(self, frame: Vec<u8>) -> Vec<Vec<u8>> {
        let hops = match self {
            Self::Hurries => 0,
            Self::HurriesForAnother => 1,
            Self::Jumps | Self::Drifts | Self::Asymmetric => return vec![frame],
        };
        match message::decode(&frame) {
            Ok(Control::State(mut state)) => {
                state.follows = Some(Follows { reference: 0, hops });
                vec![message::encode(&Control::State(state))]
            }
            Ok(Control::Heartbeat(mut heartbeat)) => {
                heartbeat.session_offset_ns = heartbeat.session_offset_ns.saturating_add(HURRY_NS);
                vec![message::encode(&Control::Heartbeat(heartbeat)); REPEATED]
            }
            _ => vec![frame],
        }
    }

    /// The datagram with the lie in it, from `begun_ns` on Mallory's clock on; other datagrams as they are.
    pub(super) fn alter(self, mut datagram: Vec<u8>, begun_ns: i64) -> Vec<u8> {
        if datagram.len() != REPLY_LEN || datagram.first() != Some(&transport::datagram::CLOCK_FIRST_BYTE) {
            return datagram;
        }
        for place in [RECEIVED, ANSWERED] {
            let Some(field) = datagram.get_mut(place) else { continue };
            let Ok(stamp) = <[u8; 8]>::try_from(&*field) else { continue };
            let stamp = u64::from_be_bytes(stamp);
            let since = stamp.saturating_sub(u64::try_from(begun_ns).unwrap_or(0));
            let lie = match self {
                _ if since == 0 => 0,
                Self::Jumps => since / 7_000_000_000 * 70_000_000,
                Self::Drifts => since / 2_500,
                Self::Asymmetric => 4_000_000,
                Self::Hurries | Self::HurriesForAnother => 0,
            };
            field.copy_from_slice(&stamp.saturating_add(lie).to_be_bytes());
        }
        datagram
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use transport::{clock::Clock, time::LocalTime};

    #[test]
    fn a_clock_believes_the_lie_that_stands_in_the_answer() {
        let (mut alice, mut mallory) = (Clock::new(1), Clock::new(2));
        let mut now = LocalTime::from_nanos(1_000_000_000);
        for _ in 0..40 {
            while let Some(question) = alice.poll_transmit(now) {
                mallory.handle_packet(now, &question).unwrap();
            }
            while let Some(answer) = mallory.poll_transmit(now) {
                let answer = FalseClock::Asymmetric.alter(answer.to_vec(), 1);
                let _ = alice.handle_packet(now + Duration::from_millis(10), &answer);
            }
            now = now + Duration::from_millis(20);
        }
        let offset_ms = alice.estimate(now).unwrap().offset_ns as f64 / 1e6;
        // Answers take 10 ms and questions none, which by itself looks like -5 ms.
        assert!((offset_ms - (4.0 - 5.0)).abs() < 0.01, "{offset_ms}");
    }
}
