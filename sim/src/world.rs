//! The virtual world: true time, one queue of events, and everything that happens in it.
//!
//! The world is single-threaded and takes one event after the other, the earliest first and in order of
//! their making when two are due at once. Whatever a node wants from outside (a packet sent, a timer, a
//! commit) becomes an event with a time drawn from the seed, so the same plan and seed give the same run.
//! After each event the checkers may object; the first objection ends the run.

mod link;
mod mesh;
mod truth;

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    net::SocketAddrV4,
    time::Duration,
};

use bandmesh::codec::{Codec, OPUS_RATE_HZ};
use crdt::{PeerKey, storage::Store};

use transport::mesh::{CloseReason, ClosedBy};

use self::mesh::{Dial, DialId};
use crate::{
    checker::{self, Checker, Fact},
    clock::WorldTime,
    disk::Disk,
    host::Host,
    link::Message,
    log::{Log, Reader},
    network::{Arrival, Channel, ConnectionId, Fate, Frame, HostId, IDLE_TIMEOUT, Meeting, Network, SiteId},
    node::{Effect, Node, Playing, Sabotage, Start},
    plan::{Action, Edit, LinkPart, Plan},
    random::Random,
    report::{OK, Report},
    sound_card::SoundCard,
};

/// How often the checkers look at how things stand.
const SAMPLE: Duration = Duration::from_millis(100);
/// Events at one and the same moment above which the world counts as stuck.
const MAX_EVENTS_AT_ONCE: u64 = 100_000;
/// Verdict of a world that is stuck.
const STUCK: &str = "progress";
/// How much later than the idle timeout an end may notice: its keep-alive interval.
const KEEP_ALIVE_S: f64 = 1.0;
/// How long after a clock's jump it must be known again: two exchanges, four a second, over the slowest of paths.
const CLOCK_RECOVERY: Duration = Duration::from_secs(3);
/// How long after its Goodbye a node's connections are gone.
const GOODBYE: Duration = Duration::from_millis(200);

#[derive(Debug)]
enum Event {
    Act(usize),
    /// A host asks who else is there.
    Look {
        host: HostId,
        boot: u32,
    },
    /// A host says that it is there.
    Announce {
        host: HostId,
        boot: u32,
    },
    /// A host learns where another one is.
    Sighting {
        host: HostId,
        of: HostId,
        address: SocketAddrV4,
    },
    /// A host learns that another one has left.
    Gone {
        host: HostId,
        of: HostId,
    },
    /// A dial sends its first packet, or sends it again for the so-manieth time.
    Knock(DialId, usize),
    /// It has come to somebody.
    Knocked(DialId, Meeting),
    /// The answer has come.
    Shaken {
        dial: DialId,
        meeting: Meeting,
        server_boot: u32,
    },
    /// Nobody has answered a dial in time.
    GiveUp(DialId),
    /// The dialled end has a connection.
    Accepted(ConnectionId),
    /// An end sees the other one under another address.
    Moved {
        host: HostId,
        connection: ConnectionId,
        address: SocketAddrV4,
    },
    Frame(Frame),
    Datagram {
        connection: ConnectionId,
        from: HostId,
        to: HostId,
        bytes: Vec<u8>,
    },
    Wake {
        host: HostId,
        boot: u32,
    },
    Committed {
        host: HostId,
        boot: u32,
    },
    /// A Link app's timer.
    LinkWake {
        host: HostId,
        boot: u32,
    },
    /// Something that a Link app or a node's Link library has said comes to another.
    Link {
        from: HostId,
        to: HostId,
        message: Message,
    },
    /// The sound card asks for a period of audio.
    Callback {
        host: HostId,
        boot: u32,
    },
    /// A process that has said Goodbye ends, and with it its connection.
    HangUp {
        host: HostId,
        connection: ConnectionId,
    },
    /// An end hears that its connection is gone, or concludes it from silence.
    Closed {
        host: HostId,
        connection: ConnectionId,
        by: ClosedBy,
    },
    /// Nothing got through when this was queued: the connection ends if that is still so.
    Idle(ConnectionId),
    Sample,
}

struct Entry {
    at: WorldTime,
    order: u64,
    event: Event,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

/// A running world.
pub struct World {
    plan: Plan,
    timeline: Vec<(WorldTime, Action)>,
    seed: u64,
    now: WorldTime,
    queue: BinaryHeap<Reverse<Entry>>,
    order: u64,
    at_once: u64,
    random: Random,
    hosts: Vec<Host>,
    by_peer: BTreeMap<PeerKey, HostId>,
    network: Network,
    mesh_random: Random,
    dials: BTreeMap<DialId, Dial>,
    next_dial: DialId,
    /// Connections of which the dialled end does not know yet, with the process that was dialled.
    accepting: BTreeMap<ConnectionId, (Meeting, u32)>,
    connections_made: u64,
    checkers: Vec<Box<dyn Checker>>,
    log: Log,
    disturbed_at: WorldTime,
    /// Pairs of hosts of which a clock has jumped, with the time they still need together to find out.
    doubts: BTreeMap<(HostId, HostId), Duration>,
    objection: Option<(&'static str, String)>,
}

/// Plays `plan` to its end or to the first objection. `reader` gets the event log as text; `wall_s` of the
/// report is left at 0, because the world has no clock on the wall.
pub fn run(plan: Plan, seed: u64, reader: Option<Reader>) -> Report {
    let mut world = World::new(plan, seed, reader);
    world.play();
    world.report()
}

impl World {
    fn new(plan: Plan, seed: u64, reader: Option<Reader>) -> Self {
        let random = Random::new(seed).fork(0x0057_4F52_4C44);
        let sites: Vec<SiteId> = plan.hosts.iter().map(|host| host.site).collect();
        let mut network = Network::new(&sites, &plan.sites, plan.weather, &random.fork(1));
        for (a, b, weather) in &plan.paths {
            network.set_weather(WorldTime(0), *a, *b, *weather, &random.fork(2));
        }
        for (a, b, trace) in &plan.replays {
            network.replay(WorldTime(0), *a, *b, trace, &random.fork(4));
        }
        let hosts: Vec<Host> = plan
            .hosts
            .iter()
            .enumerate()
            .map(|(id, host)| Host::new(host, random.fork(100 + id as u64)))
            .collect();
        let by_peer = hosts.iter().enumerate().map(|(id, host)| (host.peer, id)).collect();
        let mut world = Self {
            checkers: checker::all(&plan.bounds),
            seed,
            now: WorldTime(0),
            queue: BinaryHeap::new(),
            order: 0,
            at_once: 0,
            random: random.fork(3),
            hosts,
            by_peer,
            network,
            mesh_random: random.fork(5),
            dials: BTreeMap::new(),
            next_dial: 0,
            accepting: BTreeMap::new(),
            connections_made: 0,
            log: Log::new(reader),
            disturbed_at: WorldTime(0),
            doubts: BTreeMap::new(),
            objection: None,
            timeline: plan.timeline(),
            plan,
        };
        let moments: Vec<WorldTime> = world.timeline.iter().map(|(at, _)| *at).collect();
        for (index, at) in moments.into_iter().enumerate() {
            world.schedule(at, Event::Act(index));
        }
        world.schedule(WorldTime(0), Event::Sample);
        world
    }

    fn play(&mut self) {
        while self.objection.is_none() {
            let Some(Reverse(entry)) = self.queue.pop() else { break };
            if entry.at > self.plan.length {
                break;
            }
            self.at_once = if entry.at == self.now { self.at_once + 1 } else { 0 };
            self.now = entry.at;
            if self.at_once > MAX_EVENTS_AT_ONCE {
                self.objection = Some((STUCK, format!("{:?} and time stands still", entry.event)));
                break;
            }
            self.handle(entry.event);
        }
        if self.objection.is_none() {
            self.now = self.plan.length;
            self.judge_end();
        }
    }

    fn report(self) -> Report {
        let traffic = self.network.traffic();
        let mut figures = BTreeMap::from([
            ("datagrams_sent", traffic.sent as f64),
            ("datagrams_lost", traffic.lost as f64),
            ("datagrams_dropped_by_queues", traffic.dropped as f64),
            ("datagrams_too_large", traffic.too_large as f64),
            ("datagrams_damaged", traffic.damaged as f64),
            ("datagrams_doubled", traffic.doubled as f64),
            ("frames_sent", traffic.frames as f64),
            ("dials", self.next_dial as f64),
            ("connections_made", self.connections_made as f64),
        ]);
        for checker in &self.checkers {
            checker.figures(&mut figures);
        }
        let (verdict, detail) = match self.objection {
            None => (OK, None),
            Some((verdict, detail)) => {
                (verdict, Some(format!("at {:.3} s: {detail}", self.now.as_seconds())))
            }
        };
        Report {
            scenario: self.plan.scenario,
            seed: self.seed,
            virtual_s: self.now.as_seconds(),
            wall_s: 0.0,
            nodes: self.hosts.len(),
            verdict,
            detail,
            only: None,
            shrunk: None,
            events: self.log.events(),
            log_hash: self.log.hash(),
            figures,
        }
    }

    fn schedule(&mut self, at: WorldTime, event: Event) {
        self.order += 1;
        self.queue.push(Reverse(Entry { at: at.max(self.now), order: self.order, event }));
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Act(index) => self.act(index),
            Event::Look { host, boot } => self.look(host, boot),
            Event::Announce { host, boot } => self.announce(host, boot),
            Event::Sighting { host, of, address } => self.sight(host, of, address),
            Event::Gone { host, of } => self.miss(host, of),
            Event::Knock(dial, time) => self.knock(dial, time),
            Event::Knocked(dial, meeting) => self.knocked(dial, meeting),
            Event::Shaken { dial, meeting, server_boot } => self.shaken(dial, meeting, server_boot),
            Event::GiveUp(dial) => self.give_up(dial),
            Event::Accepted(connection) => self.accepted(connection),
            Event::Moved { host, connection, address } => {
                self.with_node(host, |node, now| node.handle_moved(now, connection, address));
            }
            Event::Frame(frame) => self.deliver_frame(frame),
            Event::Datagram { connection, from, to, bytes } => {
                self.deliver_datagram(connection, from, to, &bytes)
            }
            Event::Wake { host, boot } => self.wake(host, boot),
            Event::Committed { host, boot } => self.committed(host, boot),
            Event::LinkWake { host, boot } => self.wake_app(host, boot),
            Event::Link { from, to, message } => self.deliver_link(from, to, &message),
            Event::Callback { host, boot } => self.call_back(host, boot),
            Event::HangUp { host, connection } => {
                let goodbye = CloseReason::Goodbye;
                self.hang_up(host, connection, goodbye.code().into(), goodbye.text());
            }
            Event::Closed { host, connection, by } => self.closed(host, connection, by),
            Event::Idle(connection) => self.time_out(connection),
            Event::Sample => {
                self.sample();
                self.schedule(self.now + SAMPLE, Event::Sample);
            }
        }
    }

    // --- what the plan says ------------------------------------------------------------------------------

    fn act(&mut self, index: usize) {
        let Some((_, action)) = self.timeline.get(index).cloned() else { return };
        self.log.record(self.now, "act", index, 0, format!("{action:?}").as_bytes());
        if action.disturbs() {
            self.disturbed_at = self.now;
        }
        match action {
            Action::Start(host) => self.start(host),
            Action::Stop(host) => self.stop(host),
            Action::Kill(host) => self.kill(host, false),
            Action::PowerCut(host) => self.kill(host, true),
            Action::Split(groups) => self.split(&groups),
            Action::Cut(pairs) => {
                for (from, to) in pairs {
                    self.network.cut(self.now, from, to);
                }
                self.await_silence();
            }
            Action::Mend(pairs) => {
                for (from, to) in pairs {
                    self.network.mend(from, to);
                }
                self.release();
            }
            Action::Heal => self.heal(),
            Action::Move(host, site) => self.move_host(host, site),
            Action::RebootNat(site) => {
                let moved = self.network.reboot_nat(self.now, site);
                self.tell_moved(moved);
                self.await_silence();
            }
            Action::Suspend(host) => self.suspend(host),
            Action::Resume(host) => self.resume(host),
            Action::StepClock(host, by) => self.step_clock(host, by),
            Action::StallCard(host, length) => self.stall_card(host, length),
            Action::ChangeCardRate(id, error_ppb) => {
                let host = self.hosts.get_mut(id);
                if let Some(card) = host.and_then(|host| host.running_card.as_mut()) {
                    card.change_rate(error_ppb);
                    self.await_callback(id);
                }
            }
            Action::SetWeather(a, b, weather) => {
                let random = self.random.fork(self.now.0);
                self.network.set_weather(self.now, a, b, weather, &random);
            }
            Action::Edit(host, edit) => self.edit(host, &edit),
            Action::Tempo(host, tempo_bpm) => {
                self.tell(&Fact::TempoSet { tempo_bpm });
                self.with_node(host, |node, now| node.change_tempo(now, tempo_bpm));
                self.with_app(host, |app, now| app.set_tempo(now, tempo_bpm));
            }
            Action::Meter(host, beats) => self.with_node(host, |node, now| node.change_meter(now, beats)),
            Action::Touch(host, address, value) => {
                self.with_node(host, |node, now| node.touch(now, &address, value));
            }
            Action::LetGo(host, address) => self.with_node(host, |node, now| node.let_go(now, &address)),
            Action::Mute(host, muted) => self.with_node(host, |node, now| node.mute(now, muted)),
            Action::Play(host, playing) => {
                self.with_node(host, |node, now| node.play(now, playing));
                self.with_app(host, |app, now| app.set_playing(now, playing));
            }
        }
    }

    fn start(&mut self, id: HostId) {
        let now = self.now;
        // Whoever starts a program has opened the lid.
        self.resume(id);
        if self.hosts.get(id).is_some_and(|host| host.link == LinkPart::App) {
            return self.start_app(id);
        }
        let Some(host) = self.hosts.get_mut(id).filter(|host| host.node.is_none()) else { return };
        let seed = self.random.bytes();
        if host.boot > 0 && host.sabotage == Some(Sabotage::SpoilDisk) {
            host.disk.spoil();
        }
        let opened = Store::open_backend(host.disk.open());
        let (store, loaded) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                let why = error.to_string();
                self.tell(&Fact::NotStarted { host: id, why: &why });
                return;
            }
        };
        host.disk.settle();
        if host.sabotage == Some(Sabotage::LoseWrites) {
            host.disk.lie_about_sync();
        }
        let start = Start {
            signing_key: host.signing_key.clone(),
            session: host.session.clone(),
            name: host.name.clone(),
            seed,
            tempo_bpm: host.tempo_bpm,
            card: host.card,
            codec: host.codec,
            instruments: host.instruments,
            link: host.link == LinkPart::Bridge,
            sabotage: host.sabotage,
            hostile: host.hostile,
        };
        host.boot += 1;
        host.wake_at = None;
        let card_random = self.random.fork(id as u64);
        host.running_card = host.card.map(|card| SoundCard::new(card, now, card_random));
        let notes = loaded.notes.join("; ");
        match Node::start(start, store, loaded, host.local_at(now)) {
            Ok(node) => host.node = Some(node),
            Err(why) => return self.tell(&Fact::NotStarted { host: id, why: &why }),
        }
        self.log.record(now, "started", id, 0, notes.as_bytes());
        self.after(id);
        self.await_callback(id);
        self.appear(id);
    }

    fn stop(&mut self, id: HostId) {
        if self.hosts.get(id).is_some_and(|host| host.asleep.is_some()) {
            return;
        }
        self.with_node(id, |node, now| node.leave(now));
        self.with_app(id, |app, _| app.leave());
        for connection in self.end_process(id) {
            self.schedule(self.now + GOODBYE, Event::HangUp { host: id, connection });
        }
        self.disappear(id);
        if let Some(host) = self.hosts.get_mut(id) {
            host.disk.crash(&mut self.random, false);
        }
    }

    fn kill(&mut self, id: HostId, power: bool) {
        let mid_commit =
            self.hosts.get(id).and_then(|host| host.node.as_ref()).is_some_and(Node::is_committing);
        for connection in self.end_process(id) {
            let Some((a, b)) = self.network.disconnect(connection) else { continue };
            let host = if a == id { b } else { a };
            let at = self.now + self.silence();
            self.schedule(at, Event::Closed { host, connection, by: ClosedBy::Silence });
        }
        let random = &mut self.random;
        if let Some(host) = self.hosts.get_mut(id) {
            if power {
                host.disk.lose_power(random, mid_commit);
            } else {
                host.disk.crash(random, mid_commit);
            }
        }
    }

    /// The process is gone; returns the connections it had.
    fn end_process(&mut self, id: HostId) -> Vec<ConnectionId> {
        self.note_queues(id);
        let Some(host) = self.hosts.get_mut(id) else { return vec![] };
        host.node = None;
        host.app = None;
        host.running_card = None;
        host.boot += 1;
        host.connections.clear();
        self.network.connections_of(id)
    }

    fn split(&mut self, groups: &[Vec<HostId>]) {
        self.heal();
        let group_of = |host: HostId| groups.iter().position(|group| group.contains(&host));
        for a in 0..self.hosts.len() {
            for b in (0..self.hosts.len()).filter(|b| *b != a) {
                if group_of(a).is_none() || group_of(a) != group_of(b) {
                    self.network.cut(self.now, a, b);
                }
            }
        }
        self.await_silence();
    }

    fn heal(&mut self) {
        self.network.heal();
        self.release();
    }

    /// What no cut holds back any more goes on its way.
    fn release(&mut self) {
        for (at, frame) in self.network.release(self.now) {
            self.schedule(at, Event::Frame(frame));
        }
    }

    /// Connections that have just fallen silent end when they stay so.
    fn await_silence(&mut self) {
        for connection in self.network.silenced_at(self.now) {
            self.schedule(self.now + IDLE_TIMEOUT, Event::Idle(connection));
        }
    }

    fn suspend(&mut self, id: HostId) {
        let Some(host) = self.hosts.get_mut(id).filter(|host| host.asleep.is_none()) else { return };
        host.asleep = Some(self.now);
        host.wake_at = None;
        self.network.sleep(self.now, id, true);
        self.await_silence();
    }

    fn resume(&mut self, id: HostId) {
        let now = self.now;
        let Some(host) = self.hosts.get_mut(id) else { return };
        let Some(since) = host.asleep else { return };
        let lost_ns = host.clock.local_at(since) - host.clock.local_at(now);
        host.asleep = None;
        host.step_clock(lost_ns);
        let missed = std::mem::take(&mut host.missed);
        let boot = host.boot;
        if let Some(card) = &mut host.running_card {
            card.stall(now.since(since));
        }
        self.doubt_clock(id);
        self.network.sleep(now, id, false);
        self.release();
        for connection in missed {
            // Its own idle timer has stood still like all the rest.
            let at = now + self.silence();
            self.schedule(at, Event::Closed { host: id, connection, by: ClosedBy::Silence });
        }
        self.interrupted(id, now.since(since));
        self.schedule(now, Event::Committed { host: id, boot });
        self.after(id);
        self.after_app(id);
        self.await_callback(id);
    }

    fn step_clock(&mut self, id: HostId, by: Duration) {
        let Some(host) = self.hosts.get_mut(id) else { return };
        host.step_clock(i64::try_from(by.as_nanos()).unwrap_or(i64::MAX));
        host.wake_at = None;
        if host.runs() {
            self.after(id);
        }
        self.doubt_clock(id);
    }

    /// What others state of this host's clock is no longer true, and they need a moment to notice.
    fn doubt_clock(&mut self, id: HostId) {
        for other in (0..self.hosts.len()).filter(|other| *other != id) {
            self.doubts.insert((id.min(other), id.max(other)), CLOCK_RECOVERY);
        }
    }

    /// Pairs that could exchange packets since the last look have come closer to the truth.
    fn ease_doubts(&mut self) {
        let (network, hosts) = (&self.network, &self.hosts);
        let known = |host: HostId, peer: HostId| {
            hosts.get(host).filter(|host| host.runs())?.connections.get(&peer).copied()
        };
        self.doubts.retain(|(a, b), left| {
            let connection = known(*a, *b).filter(|it| known(*b, *a) == Some(*it));
            if connection.is_some_and(|it| network.silent_since(it).is_none()) {
                *left = left.saturating_sub(SAMPLE);
            }
            !left.is_zero()
        });
    }

    fn stall_card(&mut self, id: HostId, length: Duration) {
        let Some(host) = self.hosts.get_mut(id) else { return };
        if let Some(card) = &mut host.running_card {
            card.stall(length);
            self.await_callback(id);
            self.interrupted(id, length);
        }
    }

    /// The host neither captures nor plays for so long.
    fn interrupted(&mut self, host: HostId, length: Duration) {
        self.tell(&Fact::Interrupted { host, length });
    }

    fn edit(&mut self, id: HostId, edit: &Edit) {
        let Some(host) = self.hosts.get(id).filter(|host| host.runs()) else { return };
        let command = edit.command(&host.peer.name());
        let mut answer = None;
        self.with_node(id, |node, now| answer = Some(node.edit(now, &[command], edit.is_lasting())));
        if let (Edit::Say(text), Some(Ok(_))) = (edit, &answer)
            && let Some(by) = self.peer_key(id).map(|peer| peer.name())
        {
            self.tell(&Fact::Said { by: &by, text });
        }
        if let Some(answer) = answer {
            self.log.record(self.now, "edited", id, 0, format!("{answer:?}").as_bytes());
        }
    }

    // --- packets, timers, disks --------------------------------------------------------------------------

    fn deliver_frame(&mut self, frame: Frame) {
        let connection = frame.connection;
        match self.network.arrive(frame) {
            Arrival::Withheld => {}
            Arrival::Overflow => self.break_off(connection),
            Arrival::Delivered(Frame { from, to, channel, bytes, .. }) => {
                let kind = match channel {
                    Channel::Greeting => "greeting",
                    Channel::Control => "control",
                    Channel::Project => "project",
                };
                self.log.record(self.now, kind, from, to, &bytes);
                self.accepted(connection);
                self.with_node(to, |node, now| node.handle_frame(now, connection, channel, &bytes));
            }
        }
    }

    fn deliver_datagram(&mut self, connection: ConnectionId, from: HostId, to: HostId, bytes: &[u8]) {
        let Some(host) = self.hosts.get(to) else { return };
        if host.connections.get(&from) != Some(&connection) {
            return;
        }
        if host.asleep.is_some() {
            self.tell(&Fact::Lost { from, to, content: bytes });
            return;
        }
        self.log.record(self.now, "datagram", from, to, bytes);
        let Some(peer) = self.peer_key(from) else { return };
        self.with_node(to, |node, now| node.handle_datagram(now, peer, bytes));
    }

    fn wake(&mut self, id: HostId, boot: u32) {
        let now = self.now;
        let Some(host) = self.hosts.get_mut(id) else { return };
        // An event of an older process, or of a timer that an earlier one has replaced.
        if host.boot != boot || host.wake_at != Some(now) || host.asleep.is_some() {
            return;
        }
        host.wake_at = None;
        self.with_node(id, |node, now| node.handle_deadline(now));
    }

    fn committed(&mut self, id: HostId, boot: u32) {
        let is_awake = |host: &&Host| host.boot == boot && host.asleep.is_none();
        let Some(host) = self.hosts.get(id).filter(is_awake) else { return };
        host.disk.settle();
        self.with_node(id, |node, now| node.handle_committed(now));
    }

    fn await_callback(&mut self, id: HostId) {
        let Some(host) = self.hosts.get_mut(id) else { return };
        let Some(card) = host.running_card.as_mut() else { return };
        let (at, boot) = (card.next_callback().max(self.now), host.boot);
        host.callback_at = Some(at);
        self.schedule(at, Event::Callback { host: id, boot });
    }

    fn call_back(&mut self, id: HostId, boot: u32) {
        let now = self.now;
        let Some(host) = self.hosts.get_mut(id) else { return };
        // An event of an older process, or of a callback that was put off.
        if host.boot != boot || host.callback_at != Some(now) || host.asleep.is_some() {
            return;
        }
        host.callback_at = None;
        self.with_node(id, |node, now| node.handle_callback(now));
        self.await_callback(id);
        for (from, playing) in self.playing(id) {
            if !self.is_honest(id) || !self.is_honest(from) {
                continue;
            }
            let position = playing.playout.map_or(i64::MIN, |playout| playout.timestamp_frames);
            self.log.record(self.now, "played", from, id, &position.to_le_bytes());
            let age = self.age(from, position);
            self.tell(&Fact::Played { host: id, boot, from, playing: &playing, age });
        }
    }

    /// How long ago a frame of a host's stream was captured; `None` if that host runs no card now.
    fn age(&self, from: HostId, position: i64) -> Option<Duration> {
        let host = self.hosts.get(from)?;
        let card = host.running_card.as_ref()?;
        let stream_rate_hz = if host.codec == Codec::Opus { OPUS_RATE_HZ } else { card.rate_hz() };
        let of_card =
            u128::try_from(position).ok()? * u128::from(card.rate_hz()) / u128::from(stream_rate_hz);
        Some(self.now.since(card.captured_at(of_card as u64)))
    }

    /// The streams a host plays, with the hosts they come from.
    fn playing(&self, id: HostId) -> Vec<(HostId, Playing)> {
        let node = self.hosts.get(id).and_then(|host| host.node.as_ref());
        let playing = node.into_iter().flat_map(Node::playing);
        playing.filter_map(|(peer, playing)| Some((*self.by_peer.get(&peer)?, playing))).collect()
    }

    /// Lets a node do something, then carries out what it wants.
    fn with_node(&mut self, id: HostId, act: impl FnOnce(&mut Node, i64)) {
        let now = self.now;
        let Some(host) = self.hosts.get_mut(id).filter(|host| host.asleep.is_none()) else { return };
        let Some(node) = host.node.as_mut() else { return };
        act(node, host.clock.local_at(now));
        self.after(id);
    }

    /// Carries out what a node wants, and sets its timer.
    fn after(&mut self, id: HostId) {
        while let Some(effect) =
            self.hosts.get_mut(id).and_then(|host| host.node.as_mut()).and_then(Node::poll)
        {
            self.carry_out(id, effect);
        }
        let Some(host) = self.hosts.get_mut(id) else { return };
        let Some(node) = host.node.as_ref() else { return };
        let at = host.clock.world_at(node.poll_deadline()).max(self.now);
        if host.wake_at.is_none_or(|earlier| at < earlier) {
            host.wake_at = Some(at);
            let boot = host.boot;
            self.schedule(at, Event::Wake { host: id, boot });
        }
    }

    fn carry_out(&mut self, from: HostId, effect: Effect) {
        match effect {
            Effect::Frame { to, channel, bytes } => {
                let Some((to, connection)) = self.way_to(from, &to) else { return };
                self.send_frame(Frame { connection, from, to, channel, bytes });
            }
            Effect::Datagram { to, bytes } => {
                let Some((to, connection)) = self.way_to(from, &to) else { return };
                if self.network.ends(connection).is_none() {
                    self.send_away(from, to, connection);
                }
                match self.network.send_datagram(self.now, connection, from, to, bytes.len()) {
                    Fate::Lost(_) | Fate::ArrivesDamaged(..) => {
                        let content = bytes.as_slice();
                        self.tell(&Fact::Lost { from, to, content });
                    }
                    Fate::Arrives(at) => self.schedule(at, Event::Datagram { connection, from, to, bytes }),
                    Fate::ArrivesTwice(at, again) => {
                        let copy = bytes.clone();
                        self.schedule(at, Event::Datagram { connection, from, to, bytes });
                        self.schedule(again, Event::Datagram { connection, from, to, bytes: copy });
                    }
                }
            }
            Effect::Dial { attempt, peer, addresses, replaces } => {
                let wanted = peer.and_then(|peer| self.by_peer.get(&peer).copied());
                self.dial(from, Dial { client: from, boot: 0, attempt, wanted, addresses, replaces });
            }
            Effect::Greet { connection, bytes } => {
                let Some((a, b)) = self.network.ends(connection) else { return };
                let to = if a == from { b } else { a };
                self.send_frame(Frame { connection, from, to, channel: Channel::Greeting, bytes });
            }
            Effect::Close { connection, code, text } => self.hang_up(from, connection, code, &text),
            Effect::Adopt { peer, connection } => {
                let Some(&to) = self.by_peer.get(&peer) else { return };
                self.log.record(self.now, "connected", from, to, &[]);
                if let Some(host) = self.hosts.get_mut(from) {
                    host.connections.insert(to, connection);
                }
            }
            Effect::Release { peer } => {
                let Some(&to) = self.by_peer.get(&peer) else { return };
                self.log.record(self.now, "lost", from, to, &[]);
                if let Some(host) = self.hosts.get_mut(from) {
                    host.connections.remove(&to);
                }
            }
            Effect::Link { to, message } => self.send_link(from, to, message),
            Effect::Commit => {
                let at = self.now + Disk::commit_time(&mut self.random);
                let Some(boot) = self.hosts.get(from).map(|host| host.boot) else { return };
                self.schedule(at, Event::Committed { host: from, boot });
            }
            Effect::Acknowledged(address) => {
                self.log.record(self.now, "acknowledged", from, 0, address.as_bytes());
                self.tell(&Fact::Acknowledged { host: from, address: &address });
            }
            Effect::Forged => self.tell(&Fact::Forged),
            Effect::Warning(text) => self.log.record(self.now, "warning", from, 0, text.as_bytes()),
        }
    }

    fn send_frame(&mut self, frame: Frame) {
        match self.network.send_frame(self.now, &frame) {
            Some(at) => self.schedule(at, Event::Frame(frame)),
            None => self.send_away(frame.from, frame.to, frame.connection),
        }
    }

    fn way_to(&self, from: HostId, peer: &PeerKey) -> Option<(HostId, ConnectionId)> {
        let to = *self.by_peer.get(peer)?;
        Some((to, *self.hosts.get(from)?.connections.get(&to)?))
    }

    fn peer_key(&self, host: HostId) -> Option<PeerKey> {
        self.hosts.get(host).map(|host| host.peer)
    }
}
