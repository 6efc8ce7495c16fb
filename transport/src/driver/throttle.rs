//! Holds the writers of streams to their share of the connection, and spreads what they send; see [`super::congestion`].

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use futures::io::AsyncWrite;
use quinn::Connection;

use super::congestion::Share;
use super::frames::Channel;
use super::net::Net;

/// What control messages may have in flight beyond the share: one of the longest. They must not wait for a file.
const CONTROL_BYTES: u64 = Channel::Control.max_message_bytes() as u64;

/// What is sent in one piece: a packet.
const PIECE_BYTES: f64 = 1200.0;

/// How much may be made up for when a timer, which has a granularity of 1 ms, was late.
const CATCH_UP: Duration = Duration::from_millis(2);

/// A stream that takes no more than its connection's streams may have in flight.
///
/// QUIC counts what its streams have buffered and not yet acknowledged against one limit, and this sets it before every
/// write. It waits as the stream itself does, and is woken by acknowledgements.
pub(crate) struct Throttled<S> {
    stream: S,
    channel: Channel,
    connection: Connection,
    /// `None`: a controller that is not ours, which knows no shares.
    share: Option<Arc<Share>>,
    pace: Pace,
}

impl<S> Throttled<S> {
    pub(crate) fn new(
        stream: S,
        channel: Channel,
        connection: Connection,
        share: Option<Arc<Share>>,
        net: Arc<dyn Net>,
    ) -> Self {
        Self { stream, channel, connection, share, pace: Pace::new(net) }
    }
}

impl<S> fmt::Debug for Throttled<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Throttled").field("channel", &self.channel).finish_non_exhaustive()
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Throttled<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let Some(share) = self.share.clone() else { return Pin::new(&mut self.stream).poll_write(cx, bytes) };
        let is_bulk = self.channel == Channel::Project;
        let mut bytes = bytes;
        if is_bulk {
            // Until it is written, it waits, whatever for.
            share.set_streams_wait(true);
            let allowed = ready!(self.pace.poll_allowance(cx, share.stream_rate(), bytes.len()));
            bytes = bytes.get(..allowed).unwrap_or(bytes);
        }
        let limit = share.stream_window() + if is_bulk { 0 } else { CONTROL_BYTES };
        if share.tell(limit) {
            self.connection.set_send_window(limit);
        }
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, bytes))?;
        if is_bulk {
            share.set_streams_wait(false);
            self.pace.spend(written);
        }
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_close(cx)
    }
}

/// A token bucket that is waited for.
struct Pace {
    net: Arc<dyn Net>,
    tokens: f64,
    filled: Instant,
    timer: Option<BoxFuture<'static, ()>>,
}

impl Pace {
    fn new(net: Arc<dyn Net>) -> Self {
        Self { tokens: 2.0 * PIECE_BYTES, filled: net.now(), net, timer: None }
    }

    /// How many of `wanted` bytes may be sent now at `rate` bytes a second. Never none, unless none are wanted.
    fn poll_allowance(&mut self, cx: &mut Context<'_>, rate: f64, wanted: usize) -> Poll<usize> {
        loop {
            let now = self.net.now();
            let elapsed = now.saturating_duration_since(self.filled).as_secs_f64();
            self.filled = now;
            let most = (rate * CATCH_UP.as_secs_f64()).max(2.0 * PIECE_BYTES);
            // Not a number is an infinite rate for no time at all.
            self.tokens = (self.tokens + (rate * elapsed).max(0.0)).min(most);
            let needed = PIECE_BYTES.min(wanted as f64);
            if self.tokens >= needed || rate.is_infinite() {
                self.timer = None;
                return Poll::Ready(if rate.is_infinite() {
                    wanted
                } else {
                    wanted.min(self.tokens as usize)
                });
            }
            let timer = self.timer.get_or_insert_with(|| {
                self.net.sleep(Duration::try_from_secs_f64((needed - self.tokens) / rate).unwrap_or(CATCH_UP))
            });
            ready!(timer.as_mut().poll(cx));
            self.timer = None;
        }
    }

    fn spend(&mut self, bytes: usize) {
        self.tokens -= bytes as f64;
    }
}

#[cfg(test)]
mod tests {
    use super::super::net::SystemNet;
    use super::*;

    /// How long it takes to send `bytes`, and the most that went at once.
    async fn send(pace: &mut Pace, rate: f64, mut bytes: usize) -> (Duration, usize) {
        let begun = tokio::time::Instant::now();
        let (mut most, mut at_once, mut last) = (0, 0, begun);
        while bytes > 0 {
            let sent = std::future::poll_fn(|cx| pace.poll_allowance(cx, rate, bytes)).await;
            pace.spend(sent);
            bytes -= sent;
            let now = tokio::time::Instant::now();
            at_once = if now == last { at_once + sent } else { sent };
            (last, most) = (now, most.max(at_once));
        }
        (begun.elapsed(), most)
    }

    #[tokio::test(start_paused = true)]
    async fn bytes_leave_at_their_rate_and_not_in_heaps() {
        let mut pace = Pace::new(Arc::new(SystemNet));
        // 600 kB/s: a packet takes 2 ms.
        let (took, most) = send(&mut pace, 600_000.0, 120_000).await;
        assert!((190..=202).contains(&took.as_millis()), "{took:?}");
        assert!(most <= 2_400, "{most}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_faster_than_the_timer_leaves_every_millisecond() {
        let mut pace = Pace::new(Arc::new(SystemNet));
        let (took, most) = send(&mut pace, 12_000_000.0, 1_200_000).await;
        assert!((90..=110).contains(&took.as_millis()), "{took:?}");
        assert!(most <= 24_000, "{most}");
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_round_trip_nothing_waits() {
        let mut pace = Pace::new(Arc::new(SystemNet));
        assert_eq!(send(&mut pace, f64::INFINITY, 1_000_000).await, (Duration::ZERO, 1_000_000));
    }
}
