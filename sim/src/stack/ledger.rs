//! The truth about one run, and what does not agree with it.
//!
//! Players enter what they send before they send it, and what they are told and receive; objections are found at once, or
//! at the end by [`Ledger::close`]. The first one is the verdict.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use transport::driver::Channel;

use crate::{clock::WorldTime, network::HostId};

/// The book-keeping of one run. Cheap to clone.
#[derive(Clone, Default)]
pub struct Ledger(Arc<Mutex<Book>>);

#[derive(Default)]
struct Book {
    objection: Option<(&'static str, String)>,
    links: BTreeMap<(HostId, HostId), Link>,
    streams: BTreeMap<(HostId, HostId, Channel), Stream>,
    media: BTreeMap<(HostId, HostId), Media>,
}

/// What one node was told of another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// Whether it is connected.
    pub connected: bool,
    /// How often it was.
    pub connections: u64,
    /// How often its path changed under a connection.
    pub moves: u64,
    /// When this changed.
    pub since: WorldTime,
}

/// One direction of one channel. Messages are numbered from 0.
#[derive(Default)]
struct Stream {
    sent: u64,
    /// The first message of the sender's present connection.
    sent_first: u64,
    received: u64,
    received_bytes: u64,
    /// Whether the receiver has had nothing yet over its present connection: then what the last one took with it may be
    /// missing.
    at_begin: bool,
}

/// One direction of datagrams. They are numbered from 0.
#[derive(Default)]
struct Media {
    /// When each was sent.
    sent: Vec<WorldTime>,
    /// How long each took.
    delays: BTreeMap<u64, Duration>,
}

/// Datagrams of a stretch of time, in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct MediaFigures {
    /// How many were sent.
    pub sent: u64,
    /// The share that never came.
    pub lost: f64,
    /// Median delay, ms.
    pub p50_ms: f64,
    /// 99 % took no longer, ms.
    pub p99_ms: f64,
    /// 99.9 % took no longer, ms.
    pub p999_ms: f64,
    /// The longest delay, ms.
    pub max_ms: f64,
    /// The longest stretch between two arrivals of one sender at one receiver, ms.
    pub gap_ms: f64,
}

impl Ledger {
    /// Notes what is wrong. Only the first objection counts.
    pub fn object(&self, checker: &'static str, detail: impl Into<String>) {
        self.lock().object(checker, detail.into());
    }

    /// The first objection.
    pub fn objection(&self) -> Option<(&'static str, String)> {
        self.lock().objection.clone()
    }

    /// `of` was told that `peer` is connected.
    pub fn connected(&self, now: WorldTime, of: HostId, peer: HostId) {
        let mut book = self.lock();
        let link = book.links.entry((of, peer)).or_default();
        let was_connected = std::mem::replace(&mut link.connected, true);
        link.connections += 1;
        link.since = now;
        if was_connected {
            book.object("connections", format!("{of} was told twice that {peer} is connected"));
        }
        for channel in [Channel::Control, Channel::Project] {
            let outbound = book.streams.entry((of, peer, channel)).or_default();
            outbound.sent_first = outbound.sent;
            book.streams.entry((peer, of, channel)).or_default().at_begin = true;
        }
    }

    /// `of` was told that `peer` is gone.
    pub fn disconnected(&self, now: WorldTime, of: HostId, peer: HostId) {
        let mut book = self.lock();
        let link = book.links.entry((of, peer)).or_default();
        let was_connected = std::mem::replace(&mut link.connected, false);
        link.since = now;
        if !was_connected {
            book.object("connections", format!("{of} was told that {peer} is gone, who was not connected"));
        }
    }

    /// `of` was told that the way to `peer` has changed.
    pub fn moved(&self, of: HostId, peer: HostId) {
        self.lock().links.entry((of, peer)).or_default().moves += 1;
    }

    /// `of` was killed; its next run knows nothing.
    pub fn killed(&self, of: HostId) {
        let mut book = self.lock();
        for ((whose, _), link) in &mut book.links {
            if *whose == of {
                link.connected = false;
            }
        }
    }

    /// What `of` was told of `peer`.
    pub fn link(&self, of: HostId, peer: HostId) -> Link {
        self.lock().links.get(&(of, peer)).copied().unwrap_or_default()
    }

    /// The number of the next message.
    pub fn next_message(&self, from: HostId, to: HostId, channel: Channel) -> u64 {
        self.lock().streams.entry((from, to, channel)).or_default().sent
    }

    /// A message was accepted for sending.
    pub fn sent(&self, from: HostId, to: HostId, channel: Channel) {
        self.lock().streams.entry((from, to, channel)).or_default().sent += 1;
    }

    /// Message `number` arrived, undamaged.
    pub fn received(&self, from: HostId, to: HostId, channel: Channel, number: u64, bytes: usize) {
        let mut book = self.lock();
        let stream = book.streams.entry((from, to, channel)).or_default();
        let (expected, sent) = (stream.received, stream.sent);
        let may_skip = std::mem::take(&mut stream.at_begin);
        stream.received = number + 1;
        stream.received_bytes += bytes as u64;
        let what = format!("message {number} of {from} to {to} on {channel:?}");
        if number >= sent {
            book.object("messages", format!("{what} was never sent"));
        } else if number < expected {
            book.object("messages", format!("{what} came when {expected} was the next"));
        } else if number > expected && !may_skip {
            book.object("messages", format!("{what} came in place of {expected}, on an unbroken connection"));
        }
    }

    /// Bytes of messages that have arrived.
    pub fn received_bytes(&self, from: HostId, to: HostId, channel: Channel) -> u64 {
        self.lock().streams.get(&(from, to, channel)).map_or(0, |stream| stream.received_bytes)
    }

    /// A datagram is about to be sent: its number.
    pub fn next_datagram(&self, now: WorldTime, from: HostId, to: HostId) -> u64 {
        let mut book = self.lock();
        let media = book.media.entry((from, to)).or_default();
        media.sent.push(now);
        media.sent.len() as u64 - 1
    }

    /// Datagram `number` arrived.
    pub fn datagram(&self, now: WorldTime, from: HostId, to: HostId, number: u64) {
        let mut book = self.lock();
        let media = book.media.entry((from, to)).or_default();
        let sent = usize::try_from(number).ok().and_then(|index| media.sent.get(index)).copied();
        let Some(sent) = sent else {
            book.object("datagrams", format!("datagram {number} of {from} to {to} was never sent"));
            return;
        };
        if media.delays.insert(number, now.since(sent)).is_some() {
            book.object("datagrams", format!("datagram {number} of {from} to {to} came twice"));
        }
    }

    /// Figures of the datagrams that were sent from `begin` to before `end` on all paths that `of` wants.
    pub fn media(
        &self,
        begin: WorldTime,
        end: WorldTime,
        mut of: impl FnMut(HostId, HostId) -> bool,
    ) -> MediaFigures {
        let book = self.lock();
        let (mut sent, mut delays, mut gap) = (0, vec![], Duration::ZERO);
        for ((from, to), media) in &book.media {
            if !of(*from, *to) {
                continue;
            }
            let mut arrivals = vec![];
            for (number, at) in media.sent.iter().enumerate() {
                if !(begin..end).contains(at) {
                    continue;
                }
                sent += 1;
                if let Some(delay) = media.delays.get(&(number as u64)) {
                    delays.push(*delay);
                    arrivals.push(*at + *delay);
                }
            }
            arrivals.sort_unstable();
            let gaps = arrivals.windows(2).map(|pair| pair[1].since(pair[0]));
            gap = gap.max(gaps.max().unwrap_or_default());
        }
        delays.sort_unstable();
        let quantile = |share: f64| {
            let index = ((delays.len() as f64 * share) as usize).min(delays.len().saturating_sub(1));
            delays.get(index).map_or(f64::NAN, |delay| delay.as_secs_f64() * 1e3)
        };
        MediaFigures {
            sent,
            lost: 1.0 - delays.len() as f64 / (sent.max(1)) as f64,
            p50_ms: quantile(0.5),
            p99_ms: quantile(0.99),
            p999_ms: quantile(0.999),
            max_ms: quantile(1.0),
            gap_ms: gap.as_secs_f64() * 1e3,
        }
    }

    /// Everything is quiet: what was said over connections that still live must have arrived.
    pub fn close(&self) {
        let mut book = self.lock();
        let missing: Vec<String> = book
            .streams
            .iter()
            .filter(|((from, to, _), stream)| {
                let lives = book.links.get(&(*from, *to)).is_some_and(|link| link.connected);
                lives && stream.sent > stream.sent_first && stream.received < stream.sent
            })
            .map(|((from, to, channel), stream)| {
                format!("{} of {} messages of {from} to {to} on {channel:?}", stream.received, stream.sent)
            })
            .collect();
        if !missing.is_empty() {
            book.object("messages", format!("arrived only {}", missing.join(", ")));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Book {
    fn object(&mut self, checker: &'static str, detail: String) {
        self.objection.get_or_insert((checker, detail));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: WorldTime = WorldTime(0);
    const CHANNEL: Channel = Channel::Control;

    /// Two who are connected, the first having sent three messages.
    fn three_sent() -> Ledger {
        let ledger = Ledger::default();
        ledger.connected(NOW, 0, 1);
        ledger.connected(NOW, 1, 0);
        (0..3).for_each(|_| ledger.sent(0, 1, CHANNEL));
        ledger
    }

    fn verdict(ledger: &Ledger) -> Option<&'static str> {
        ledger.close();
        ledger.objection().map(|(checker, _)| checker)
    }

    #[test]
    fn once_and_in_order_is_well() {
        let ledger = three_sent();
        (0..3).for_each(|number| ledger.received(0, 1, CHANNEL, number, 1));
        assert_eq!(verdict(&ledger), None);
    }

    #[test]
    fn what_is_missing_doubled_swapped_or_invented_is_noticed() {
        for story in [&[0, 1][..], &[0, 1, 1, 2], &[0, 2, 1], &[0, 2], &[0, 1, 2, 3], &[]] {
            let ledger = three_sent();
            story.iter().for_each(|number| ledger.received(0, 1, CHANNEL, *number, 1));
            assert_eq!(verdict(&ledger), Some("messages"), "{story:?}");
        }
    }

    #[test]
    fn a_connection_that_ends_may_take_messages_with_it_but_not_bring_them_back() {
        let ledger = three_sent();
        ledger.received(0, 1, CHANNEL, 0, 1);
        for (of, peer) in [(0, 1), (1, 0)] {
            ledger.disconnected(NOW, of, peer);
            ledger.connected(NOW, of, peer);
        }
        ledger.sent(0, 1, CHANNEL);
        ledger.received(0, 1, CHANNEL, 3, 1);
        assert_eq!(verdict(&ledger), None);
        ledger.received(0, 1, CHANNEL, 2, 1);
        assert_eq!(verdict(&ledger), Some("messages"));
    }

    #[test]
    fn a_doubled_datagram_is_noticed() {
        let ledger = Ledger::default();
        let number = ledger.next_datagram(NOW, 0, 1);
        ledger.datagram(WorldTime(1), 0, 1, number);
        assert_eq!(verdict(&ledger), None);
        ledger.datagram(WorldTime(2), 0, 1, number);
        assert_eq!(verdict(&ledger), Some("datagrams"));
    }

    #[test]
    fn figures_are_of_their_stretch_only() {
        let ledger = Ledger::default();
        for ms in 0..1000 {
            let at = WorldTime(ms * 1_000_000);
            let number = ledger.next_datagram(at, 0, 1);
            if ms % 10 != 9 {
                ledger.datagram(at + Duration::from_millis(if ms < 500 { 5 } else { 20 }), 0, 1, number);
            }
        }
        let early = ledger.media(NOW, WorldTime(500_000_000), |_, _| true);
        assert_eq!((early.sent, early.p50_ms, early.max_ms, early.gap_ms), (500, 5.0, 5.0, 2.0));
        assert!((early.lost - 0.1).abs() < 1e-9);
        assert_eq!(ledger.media(WorldTime(500_000_000), WorldTime(u64::MAX), |_, _| true).p50_ms, 20.0);
    }
}
