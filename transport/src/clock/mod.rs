//! What time is it at Bob's?
//!
//! No two clocks agree, and none keeps its rate: even good quartz strays by 50 us every second. To put Alice's notes
//! and Bob's on one timeline each node needs the offset between its clock and every peer's, and above all needs to
//! know how wrong that may be, because latency figures, beat phase and MIDI timing are all claimed on top of it.
//!
//! An exchange carries four timestamps (RFC 5905, section 8): sent and received on our clock, received and answered
//! on the peer's. From it follow an offset and a round trip. Queues on the way make offsets noisy in a way that
//! depends on the path: on a path with rare queues the quickest exchange tells most, on one that jitters evenly the
//! mean does. So three Kalman filters run side by side, over every exchange, the quickest of 4 and the
//! quickest of 16, and the one with the smallest honest error speaks.
//!
//! # The two bounds
//! - [`Estimate::worst_case_ns`] follows from causality alone: no packet arrives before it was sent, so the offset is
//!   within half the quickest round trip, whatever the path. It holds even if all delay is in one direction.
//! - [`Estimate::error_ns`] is far tighter and assumes that the *quickest* way there and back take equally long; an
//!   asymmetry of the bare path shifts the offset by half its size, and no exchange of packets can show that. Queues
//!   in one direction only do show, as unequal spread of the two directions, and widen this bound; so do queues that
//!   drain slowly. It is 3.75 standard errors plus a fixed share for unequal wake-ups.
//!
//! A step of either clock (suspend, a restarted peer) shows as packets that are quicker one way than any were before,
//! while those of the other way are slower: waits can only make a packet slower. A step of more than the whole round trip
//! even breaks causality. Two exchanges in a row that are impossible, three that are too quick, or a changed
//! incarnation, begin a new estimate. Limits: a step smaller than about three times the stated error and an ordinary wait
//! is learnt as a change of rate would be, in seconds or some tens of them, and a queue that has been slow and unequal since before the first
//! exchange is learnt to be so over some tens of seconds; until then the bound may be wrong.

mod filter;
mod message;

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;

use crate::time::LocalTime;
use filter::{Filter, Sample};
use message::{Message, Reply, Request};

/// Exchanges in the opening burst, which must give a usable estimate within one second.
const BURST: u32 = 45;
const BURST_INTERVAL: Duration = Duration::from_millis(20);
/// Between the burst and a good estimate: drift takes longer to learn than offset, so for `SETTLE` in any case, and on
/// a path that jitters for at most `CATCH_UP`. Even this is 3 kB a second, and asking faster would mostly repeat the
/// answers, because queues remember themselves for about 20 ms.
const CATCH_UP_INTERVAL: Duration = Duration::from_millis(50);
const SETTLE: Duration = Duration::from_secs(4);
const CATCH_UP: Duration = Duration::from_secs(300);
/// Four exchanges a second from then on.
const STEADY_INTERVAL: Duration = Duration::from_millis(250);
/// An error at which beat phase and latency figures are good enough not to hurry.
const GOOD_ERROR_NS: f64 = 700_000.0;
/// Requests whose answer is awaited; at the bound the oldest is given up.
const MAX_PENDING: usize = 64;
/// Answers waiting to leave; at the bound the oldest is dropped, as a busy link would.
const MAX_REPLIES: usize = 8;
/// Filters over every, the quickest of 4 and the quickest of 16 exchanges.
const GROUPS: [usize; 3] = [1, 4, 16];
/// Standard errors in the bound. The error of an average wanders slowly, so three, though true 99.7 % of all time, leave
/// the truth outside for many seconds of one run in thirty.
const SIGMAS: f64 = 3.75;
/// What reading a clock in user space may be off, and the share of a short round trip that waking up may take on one
/// side only, capped.
const READ_ERROR_NS: f64 = 10_000.0;
const WAKE_SHARE: f64 = 1.0 / 16.0;
const MAX_WAKE_ERROR_NS: f64 = 50_000.0;
/// Another filter speaks only when its error is this much smaller; the offset then does not hop about.
const SWITCH_RATIO: f64 = 0.8;
/// Fastest that two working clocks may part, as a ratio: twice what an NTP daemon slews plus quartz.
const MAX_DRIFT: f64 = 600e-6;
/// Exchanges in a row that were too quick, and over how long, before that is a clock's step: jitter that remembers itself is
/// forgotten by then.
const ODD_EXCHANGES: u32 = 3;
const ODD_FOR: Duration = Duration::from_millis(150);
/// For how long, once to twice, the quickest exchange is remembered, so that a changed route is noticed.
const QUICKEST_S: f64 = 60.0;
/// The same where the rates of the clocks are left out of account: a few milliseconds of [`MAX_DRIFT`], and exchanges enough.
const LATELY_S: f64 = 5.0;
/// From this factor on ([`Slowness::factor`]) waits that drain slowly explain what looks like a change of rate.
const SLOW: f64 = 2.0;
/// How unequal the spread of the two directions may look by chance.
const SKEW_BY_CHANCE: f64 = 0.35;

/// Why a datagram was refused. Drop it and count it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClockError {
    /// Not a clock message of this version.
    #[error("malformed clock message of {0} octets; drop it")]
    Malformed(usize),
    /// Answers no request of ours, or answers it again.
    #[error("answer to no pending clock request; drop it")]
    Unsolicited,
    /// The timestamps contradict each other.
    #[error("clock answer whose timestamps run backwards; drop it")]
    Implausible,
}

/// What is known about a peer's clock at one moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// The peer's [`LocalTime`] minus ours, ns.
    pub offset_ns: i64,
    /// The true offset lies within this of `offset_ns`, provided the bare path is symmetric; see the module.
    pub error_ns: u64,
    /// The true offset lies within this of `offset_ns` on any path.
    pub worst_case_ns: u64,
    /// How much faster the peer's clock runs than ours, parts per million.
    pub drift_ppm: f64,
    /// Mean round trip of recent exchanges, ns.
    pub rtt_ns: u64,
    /// Quickest recent round trip, ns.
    pub min_rtt_ns: u64,
}

/// Counts since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Requests sent.
    pub sent: u64,
    /// Requests answered in time.
    pub answered: u64,
    /// Datagrams refused.
    pub refused: u64,
    /// Times a clock stepped or the peer restarted, and the estimate began anew.
    pub resets: u64,
}

/// The clock of one peer, seen over one connection. Both peers run one for the other.
#[derive(Debug)]
pub struct Clock {
    incarnation: u32,
    next_id: u16,
    next_request: LocalTime,
    started: Option<LocalTime>,
    sent_in_burst: u32,
    pending: VecDeque<Request>,
    replies: VecDeque<(Request, LocalTime)>,
    peer_incarnation: Option<u32>,
    track: Option<Track>,
    suspicion: Suspicion,
    counts: Statistics,
}

impl Clock {
    /// A clock that knows nothing yet. `incarnation` names this process's clock: random, and the same for all peers.
    pub fn new(incarnation: u32) -> Self {
        Clock {
            incarnation,
            next_id: 0,
            next_request: LocalTime::default(),
            started: None,
            sent_in_burst: 0,
            pending: VecDeque::new(),
            replies: VecDeque::new(),
            peer_incarnation: None,
            track: None,
            suspicion: Suspicion::default(),
            counts: Statistics::default(),
        }
    }

    /// Takes a datagram that [`crate::datagram::classify`] calls a clock's. `now` is when it arrived, read as close to
    /// the socket as can be.
    ///
    /// # Errors
    /// [`ClockError`] if it is refused; the estimate is unharmed.
    pub fn handle_packet(&mut self, now: LocalTime, datagram: &[u8]) -> Result<(), ClockError> {
        let taken = Message::parse(datagram).and_then(|message| match message {
            Message::Request(request) => {
                self.follow_incarnation(now, request.incarnation);
                if self.replies.len() == MAX_REPLIES {
                    self.replies.pop_front();
                }
                self.replies.push_back((request, now));
                Ok(())
            }
            Message::Reply(reply) => self.handle_reply(now, reply),
        });
        taken.inspect_err(|_| self.counts.refused += 1)
    }

    /// The next datagram to send, stamped `now`: read the clock right before. Call until `None` after every
    /// `handle_packet` and at the deadline.
    pub fn poll_transmit(&mut self, now: LocalTime) -> Option<Bytes> {
        if let Some((request, received)) = self.replies.pop_front() {
            let Request { id, sent, .. } = request;
            let reply = Reply { id, incarnation: self.incarnation, sent, received, answered: now };
            return Some(Message::Reply(reply).to_bytes());
        }
        if now < self.next_request {
            return None;
        }
        self.started.get_or_insert(now);
        self.next_request = now + self.interval(now);
        self.sent_in_burst = self.sent_in_burst.saturating_add(1);
        let request = Request { id: self.next_id, incarnation: self.incarnation, sent: now };
        self.next_id = self.next_id.wrapping_add(1);
        if self.pending.len() == MAX_PENDING {
            self.pending.pop_front();
        }
        self.pending.push_back(request);
        self.counts.sent += 1;
        Some(Message::Request(request).to_bytes())
    }

    /// When [`Clock::poll_transmit`] next has something to send; in the past if it has now.
    pub fn poll_deadline(&self) -> LocalTime {
        if self.replies.is_empty() { self.next_request } else { LocalTime::default() }
    }

    /// What is known at `now`; `None` before the first few answers, and after a step until there are new ones.
    pub fn estimate(&self, now: LocalTime) -> Option<Estimate> {
        self.track.as_ref()?.estimate(now)
    }

    /// Counts since the start.
    pub fn statistics(&self) -> Statistics {
        self.counts
    }

    fn interval(&self, now: LocalTime) -> Duration {
        let age = self.started.map_or(Duration::ZERO, |started| now.saturating_since(started));
        let is_good = || self.estimate(now).is_some_and(|known| (known.error_ns as f64) < GOOD_ERROR_NS);
        let hurry = age < SETTLE || age < CATCH_UP && !is_good();
        match (self.sent_in_burst < BURST, hurry) {
            (true, _) => BURST_INTERVAL,
            (false, true) => CATCH_UP_INTERVAL,
            (false, false) => STEADY_INTERVAL,
        }
    }

    fn handle_reply(&mut self, now: LocalTime, reply: Reply) -> Result<(), ClockError> {
        let asked = |request: &Request| request.id == reply.id && request.sent == reply.sent;
        let index = self.pending.iter().position(asked).ok_or(ClockError::Unsolicited)?;
        self.pending.remove(index);
        let delay_ns = now.nanos_from(reply.sent).saturating_sub(reply.answered.nanos_from(reply.received));
        if reply.answered < reply.received || now < reply.sent || delay_ns < 0 {
            return Err(ClockError::Implausible);
        }
        self.counts.answered += 1;
        self.follow_incarnation(now, reply.incarnation);
        let exchange = Exchange {
            at: LocalTime::from_nanos(reply.sent.as_nanos().midpoint(now.as_nanos())),
            forward_ns: reply.received.nanos_from(reply.sent),
            backward_ns: now.nanos_from(reply.answered),
        };
        let odd = self.track.as_ref().and_then(|track| track.oddity(&exchange));
        if let Some(oddity) = odd {
            if !self.suspicion.is_confirmed_by(oddity, exchange.at) {
                self.next_request = self.next_request.min(now + BURST_INTERVAL);
                return Ok(());
            }
            self.reset(now);
            // What was asked before may have crossed the step on its way, and would be true of neither side of it.
            self.pending.retain(|request| request.sent > reply.sent);
        }
        self.suspicion = Suspicion::default();
        self.track.get_or_insert_with(|| Track::new(&exchange)).handle(&exchange);
        Ok(())
    }

    fn follow_incarnation(&mut self, now: LocalTime, incarnation: u32) {
        if self.peer_incarnation.replace(incarnation).is_some_and(|before| before != incarnation) {
            self.reset(now);
        }
    }

    fn reset(&mut self, now: LocalTime) {
        self.track = None;
        self.suspicion = Suspicion::default();
        self.sent_in_burst = 0;
        self.started = Some(now);
        self.next_request = now;
        self.counts.resets += 1;
    }
}

/// How an exchange contradicts all before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Oddity {
    /// It arrived before it was sent.
    Impossible,
    /// It was far quicker in one direction than any other for a minute or two.
    TooQuick,
}

/// Exchanges in a row that contradict those before.
#[derive(Clone, Copy, Debug, Default)]
struct Suspicion {
    since: Option<LocalTime>,
    exchanges: u32,
    impossible: u32,
}

impl Suspicion {
    /// Whether with this one there are enough of them: a clock has stepped.
    fn is_confirmed_by(&mut self, oddity: Oddity, at: LocalTime) -> bool {
        let since = *self.since.get_or_insert(at);
        self.exchanges += 1;
        self.impossible += u32::from(oddity == Oddity::Impossible);
        self.impossible >= 2 || self.exchanges >= ODD_EXCHANGES && at.saturating_since(since) >= ODD_FOR
    }
}

/// One completed exchange.
#[derive(Clone, Copy, Debug)]
struct Exchange {
    /// Half way between asking and hearing.
    at: LocalTime,
    /// Delay there plus offset.
    forward_ns: i64,
    /// Delay back minus offset.
    backward_ns: i64,
}

impl Exchange {
    fn delay_ns(&self) -> i64 {
        self.forward_ns.saturating_add(self.backward_ns)
    }

    fn offset_ns(&self) -> i64 {
        ((i128::from(self.forward_ns) - i128::from(self.backward_ns)) / 2) as i64
    }
}

/// Everything learnt since the last step. Offsets are kept relative to the first, times to its time, so that `f64`
/// holds them to well under a nanosecond.
#[derive(Debug)]
struct Track {
    origin: LocalTime,
    base_offset_ns: i64,
    filters: [Filter; GROUPS.len()],
    speaking: usize,
    causal: Causal,
    forward: Spread,
    backward: Spread,
    delay: Spread,
    slowness: Slowness,
    /// The quickest round trip, and the quickest way there and back as far as the estimate knows them, each with the
    /// estimate's error on top.
    quickest: Quickest,
    quickest_there: Quickest,
    quickest_back: Quickest,
    /// The quickest of the last seconds: round trip, and each way up to the offset, whatever the estimate.
    lately: Quickest,
    lately_there: Quickest,
    lately_back: Quickest,
    latest_s: f64,
}

impl Track {
    fn new(first: &Exchange) -> Self {
        Track {
            origin: first.at,
            base_offset_ns: first.offset_ns(),
            filters: GROUPS.map(Filter::new),
            speaking: 0,
            causal: Causal::default(),
            forward: Spread::default(),
            backward: Spread::default(),
            delay: Spread::default(),
            slowness: Slowness::default(),
            quickest: Quickest::new(QUICKEST_S),
            quickest_there: Quickest::new(QUICKEST_S),
            quickest_back: Quickest::new(QUICKEST_S),
            lately: Quickest::new(LATELY_S),
            lately_there: Quickest::new(LATELY_S),
            lately_back: Quickest::new(LATELY_S),
            latest_s: 0.0,
        }
    }

    /// Whether the exchange cannot, or can hardly, have happened if neither clock stepped.
    fn oddity(&self, exchange: &Exchange) -> Option<Oddity> {
        let sample = self.sample(exchange);
        let (low, high) = self.causal.at(sample.at_s);
        let is_possible = sample.offset_ns + sample.delay_ns / 2.0 >= low - READ_ERROR_NS
            && sample.offset_ns - sample.delay_ns / 2.0 <= high + READ_ERROR_NS;
        if !is_possible {
            return Some(Oddity::Impossible);
        }
        if self.has_changed_sides(&sample) {
            return Some(Oddity::TooQuick);
        }
        // Waits make an exchange slower; only a step (or a new route) makes it quicker one way than it ever was, and then
        // the offset has moved. What a change of rate may have done since the latest exchange is none.
        let (there, back, error) = self.one_way(&sample)?;
        let allowed = 2.0 * error + READ_ERROR_NS + MAX_DRIFT * 1e9 * (sample.at_s - self.latest_s).max(0.0);
        let is_quick =
            there + allowed < self.quickest_there.get() || back + allowed < self.quickest_back.get();
        (is_quick && (there - back).abs() / 2.0 > allowed).then_some(Oddity::TooQuick)
    }

    /// Whether one way was quicker than any in the last seconds, and the other slower by as much: what a step does.
    ///
    /// This asks nothing of the estimate, which a step of our own clock makes unsure just before it shows: the exchanges that
    /// are on their way meanwhile look as if they had waited on one side.
    fn has_changed_sides(&self, sample: &Sample) -> bool {
        let (there, back) = sample.ways();
        let (gained_there, gained_back) = (self.lately_there.get() - there, self.lately_back.get() - back);
        // The quickest way there and the quickest way back were rarely those of one exchange; how far that is from the
        // quickest of both is a measure of the jitter that no long wait spoils.
        let jitter = self.lately.get() - self.lately_there.get() - self.lately_back.get();
        let allowed = 2.0 * jitter + READ_ERROR_NS + MAX_DRIFT * 1e9 * 2.0 * LATELY_S;
        self.delay.count >= f64::from(BURST) / 2.0
            && gained_there.max(gained_back) > allowed
            && gained_there + gained_back <= 0.0
    }

    /// The way there and back of an exchange if the estimate is right but for its error, at most; and that error.
    fn one_way(&self, sample: &Sample) -> Option<(f64, f64, f64)> {
        let (offset_ns, _) = self.filters.get(self.speaking)?.predict(sample.at_s)?;
        let error = self.error_ns(self.speaking, sample.at_s)?;
        let (half, off) = (sample.delay_ns / 2.0, sample.offset_ns - offset_ns);
        Some((half + off + error, half - off + error, error))
    }

    fn handle(&mut self, exchange: &Exchange) {
        let sample = self.sample(exchange);
        self.causal.handle(&sample);
        self.delay.handle(sample.delay_ns);
        self.slowness.handle(sample.delay_ns);
        self.quickest.handle(sample.at_s, sample.delay_ns);
        let (there, back) = sample.ways();
        self.lately.handle(sample.at_s, sample.delay_ns);
        self.lately_there.handle(sample.at_s, there);
        self.lately_back.handle(sample.at_s, back);
        if let Some((there, back, _)) = self.one_way(&sample) {
            self.quickest_there.handle(sample.at_s, there);
            self.quickest_back.handle(sample.at_s, back);
        }
        self.latest_s = sample.at_s;
        let [every, ..] = &self.filters;
        if let Some((offset_ns, _)) = every.predict(sample.at_s) {
            // Each direction's delay up to a constant, which the spread does not mind.
            self.forward.handle(sample.delay_ns / 2.0 + sample.offset_ns - offset_ns);
            self.backward.handle(sample.delay_ns / 2.0 - sample.offset_ns + offset_ns);
        }
        // A slow queue looks like a change of rate to a filter that uses every exchange; its alarm is then no news.
        let is_slow = self.slowness.factor(self.delay.variance) > SLOW;
        for index in 0..self.filters.len() {
            let alarm = self.filters.get_mut(index).and_then(|filter| filter.handle(sample));
            if let Some(variance) = alarm.filter(|_| !is_slow) {
                self.filters.iter_mut().skip(index + 1).for_each(|filter| filter.loosen(variance));
            }
        }
        self.choose(sample.at_s);
    }

    fn estimate(&self, now: LocalTime) -> Option<Estimate> {
        let at_s = now.nanos_from(self.origin) as f64 / 1e9;
        let filter = self.filters.get(self.speaking)?;
        let (predicted, drift) = filter.predict(at_s)?;
        let (low, high) = self.causal.at(at_s);
        // What causality forbids is no estimate, however sure the filter is.
        let offset = predicted.clamp(low, high.max(low));
        let worst_case = (offset - low).max(high - offset) + READ_ERROR_NS;
        let error = self.error_ns(self.speaking, at_s)? + (offset - predicted).abs();
        Some(Estimate {
            offset_ns: self.base_offset_ns.saturating_add(offset.round() as i64),
            error_ns: error.min(worst_case).ceil() as u64,
            worst_case_ns: worst_case.ceil() as u64,
            drift_ppm: drift / 1e3,
            rtt_ns: self.delay.mean.max(0.0) as u64,
            min_rtt_ns: self.min_delay_ns().max(0.0) as u64,
        })
    }

    fn choose(&mut self, at_s: f64) {
        let mut best = self.error_ns(self.speaking, at_s).map_or(f64::INFINITY, |error| error * SWITCH_RATIO);
        for index in 0..self.filters.len() {
            if let Some(error) = self.error_ns(index, at_s).filter(|&error| error < best) {
                (self.speaking, best) = (index, error);
            }
        }
    }

    fn error_ns(&self, filter: usize, at_s: f64) -> Option<f64> {
        let filter = self.filters.get(filter)?;
        let wake = (self.min_delay_ns() * WAKE_SHARE).clamp(0.0, MAX_WAKE_ERROR_NS);
        // Queues in one direction shift the offset by half the mean wait; equal ones cancel.
        let waiting = (filter.mean_delay_ns() - self.min_delay_ns()).max(0.0) / 2.0;
        // One exchange in `group` speaks, so slow queues are that much faster to it.
        let slowness = (self.slowness.factor(self.delay.variance) / filter.group() as f64).max(1.0);
        let statistical = SIGMAS * filter.sigma_ns(at_s)? * slowness.sqrt() + filter.one_sided_ns();
        Some(statistical + self.skew() * waiting + READ_ERROR_NS + wake)
    }

    /// 0 if both directions spread alike, 1 if only one spreads.
    fn skew(&self) -> f64 {
        let (forward, backward) = (self.forward.variance, self.backward.variance);
        let total = forward + backward;
        // Below the clock's own reading noise nothing queues.
        if total < READ_ERROR_NS.powi(2) {
            return 0.0;
        }
        let chance = SKEW_BY_CHANCE.max((8.0 / self.forward.count.max(8.0)).sqrt());
        (((forward - backward).abs() / total - chance) / (1.0 - chance)).max(0.0)
    }

    fn min_delay_ns(&self) -> f64 {
        self.quickest.get()
    }

    fn sample(&self, exchange: &Exchange) -> Sample {
        Sample {
            at_s: exchange.at.nanos_from(self.origin) as f64 / 1e9,
            offset_ns: exchange.offset_ns().saturating_sub(self.base_offset_ns) as f64,
            delay_ns: exchange.delay_ns() as f64,
            waited_ns: (exchange.delay_ns() as f64 - self.min_delay_ns()).max(0.0),
        }
    }
}

/// Where the offset must lie because nothing arrives before it is sent.
#[derive(Debug, Default)]
struct Causal {
    bounds: Option<(f64, f64, f64)>,
}

impl Causal {
    fn handle(&mut self, sample: &Sample) {
        let (low, high) = self.at(sample.at_s);
        let half = sample.delay_ns / 2.0;
        let (low, high) = (low.max(sample.offset_ns - half), high.min(sample.offset_ns + half));
        // An empty interval within the reading error of a clock is a point.
        self.bounds = Some((sample.at_s, low.min(high), high.max(low)));
    }

    fn at(&self, at_s: f64) -> (f64, f64) {
        let Some((since_s, low, high)) = self.bounds else { return (f64::NEG_INFINITY, f64::INFINITY) };
        let parted = (at_s - since_s).abs() * MAX_DRIFT * 1e9;
        (low - parted, high + parted)
    }
}

/// How much longer than one exchange the waits on the path remember themselves.
///
/// A queue that drains over seconds shifts many exchanges alike, and their mean is then far less certain than their
/// spread suggests. The filter cannot see that, for it follows such a shift; the round trips show it: means of long
/// batches scatter more than independent values would (the method of batch means).
#[derive(Debug, Default)]
struct Slowness {
    batches: [Batch; BATCHES.len()],
}

#[derive(Debug, Default)]
struct Batch {
    sum: f64,
    count: usize,
    means: Spread,
}

/// Exchanges in a batch: 2 s, 8 s and 32 s at the steady pace.
const BATCHES: [usize; 3] = [8, 32, 128];

impl Slowness {
    fn handle(&mut self, delay_ns: f64) {
        for (batch, size) in self.batches.iter_mut().zip(BATCHES) {
            batch.sum += delay_ns;
            batch.count += 1;
            if batch.count == size {
                batch.means.handle(batch.sum / size as f64);
                (batch.sum, batch.count) = (0.0, 0);
            }
        }
    }

    /// By how much to multiply the variance of a mean; 1 if the waits are independent or too few to tell.
    fn factor(&self, variance: f64) -> f64 {
        let factors = self.batches.iter().zip(BATCHES).map(|(batch, size)| {
            // A variance of few values scatters; take two sigmas of that off.
            let by_chance = 1.0 + 2.0 * (2.0 / batch.means.count.max(1.0)).sqrt();
            if batch.means.count < 4.0 {
                1.0
            } else {
                size as f64 * batch.means.variance / variance.max(1.0) / by_chance
            }
        });
        factors.fold(1.0, f64::max)
    }
}

/// The least of the current and the previous span of time, so that a changed route is noticed.
#[derive(Debug)]
struct Quickest {
    least: [f64; 2],
    since_s: f64,
    span_s: f64,
}

impl Quickest {
    fn new(span_s: f64) -> Self {
        Self { least: [f64::INFINITY; 2], since_s: 0.0, span_s }
    }

    fn handle(&mut self, at_s: f64, delay_ns: f64) {
        if at_s - self.since_s > self.span_s {
            self.least = [delay_ns, self.least[0]];
            self.since_s = at_s;
        }
        self.least[0] = self.least[0].min(delay_ns);
    }

    fn get(&self) -> f64 {
        self.least[0].min(self.least[1])
    }
}

/// Mean and variance, all alike for the first 256 values, then the latest ones.
#[derive(Debug, Default)]
struct Spread {
    count: f64,
    mean: f64,
    variance: f64,
}

impl Spread {
    fn handle(&mut self, value: f64) {
        self.count += 1.0;
        let weight = 1.0 / self.count.min(256.0);
        let difference = value - self.mean;
        self.mean += difference * weight;
        self.variance = (1.0 - weight) * (self.variance + weight * difference * difference);
    }
}

#[cfg(test)]
mod tests;
