//! What a node's network stack sees of a virtual host: the product's [`Net`], on [`Internet`].

use std::{
    fmt,
    io::{self, IoSliceMut},
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use futures::{
    StreamExt as _,
    stream::{self, BoxStream},
};
use quinn::{
    AsyncUdpSocket, Runtime, UdpPoller,
    congestion::ControllerFactory,
    udp::{RecvMeta, Transmit},
};
use tokio::sync::mpsc;
use transport::driver::{Announcement, InterfaceEvent, Net, Sighting};

use super::{
    agenda::Agenda,
    internet::{Internet, SocketId},
    quic_address,
};
use crate::{network::HostId, random::Random};

/// Packets handed to a socket in one piece, as Linux takes them (generic segmentation offload).
const SEGMENTS: usize = 10;

/// Changes of addresses, or sightings, that wait for a node. A scenario makes a handful; what does not fit is lost.
const MAX_WAITING: usize = 64;

/// How often a node on the LAN is seen again, as the product's discovery asks.
const SEEN_EVERY: Duration = Duration::from_secs(4);

/// How long an announcement takes to be answered: RFC 6762, section 6, lets a responder wait 20 to 120 ms.
const ANSWER_MS: (f64, f64) = (20.0, 120.0);

const SUBNET_BITS: u8 = 24;

/// Everybody who can hear one another's announcements.
#[derive(Clone, Default)]
pub struct Lan(Arc<Mutex<Vec<Member>>>);

struct Member {
    host: HostId,
    sighting: Sighting,
    ears: mpsc::Sender<Sighting>,
}

impl Lan {
    fn with<T>(&self, f: impl FnOnce(&mut Vec<Member>) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// One machine, for one run of a node on it.
pub struct Host {
    pub(super) id: HostId,
    pub(super) agenda: Agenda,
    pub(super) internet: Internet,
    pub(super) lan: Option<Lan>,
    pub(super) random: Mutex<Random>,
    pub(super) congestion: Option<Arc<dyn ControllerFactory + Send + Sync>>,
    pub(super) watchers: Mutex<Vec<mpsc::Sender<InterfaceEvent>>>,
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Host {
    /// Tells the node that an address came or went.
    pub fn report(&self, event: InterfaceEvent) {
        let watchers = self.watchers.lock().unwrap_or_else(PoisonError::into_inner);
        for watcher in watchers.iter() {
            let _ = watcher.try_send(event);
        }
    }

    /// An interface event about `address`.
    pub fn interface(address: std::net::IpAddr, up: bool) -> InterfaceEvent {
        InterfaceEvent { up, address, prefix_len: SUBNET_BITS }
    }

    fn draw<T>(&self, f: impl FnOnce(&mut Random) -> T) -> T {
        f(&mut self.random.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Lets `to` hear of `from` after a moment, and again and again while both are there.
    fn schedule_sighting(&self, lan: &Lan, from: HostId, to: HostId) {
        let (shortest, longest) = ANSWER_MS;
        let wait = Duration::from_secs_f64(self.draw(|random| random.between(shortest, longest)) / 1e3);
        let (agenda, internet, lan) = (self.agenda.clone(), self.internet.clone(), lan.clone());
        agenda.clone().at(agenda.now() + wait, move || sight(&agenda, &internet, &lan, from, to));
    }
}

fn sight(agenda: &Agenda, internet: &Internet, lan: &Lan, from: HostId, to: HostId) {
    let are_there = lan.with(|members| {
        let sighting = members.iter().find(|it| it.host == from).map(|it| it.sighting.clone());
        let ears = members.iter().find(|it| it.host == to && !it.ears.is_closed()).map(|it| it.ears.clone());
        let (Some(sighting), Some(ears)) = (sighting, ears) else { return false };
        if !internet.is_cut(from, to) {
            let _ = ears.try_send(sighting);
        }
        true
    });
    if are_there {
        let (then, internet, lan) = (agenda.clone(), internet.clone(), lan.clone());
        agenda.at(agenda.now() + SEEN_EVERY, move || sight(&then, &internet, &lan, from, to));
    }
}

impl Net for Host {
    fn bind(&self, address: SocketAddr) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        if address.is_ipv6() {
            return Err(io::ErrorKind::Unsupported.into());
        }
        let (id, port) = self.internet.open(self.id, address.port())?;
        let bound = SocketAddr::new(address.ip(), port);
        Ok(Arc::new(Socket { internet: self.internet.clone(), host: self.id, bound, id, is_deaf: false }))
    }

    fn runtime(&self) -> Arc<dyn Runtime> {
        Arc::new(quinn::TokioRuntime)
    }

    fn interfaces(&self) -> io::Result<BoxStream<'static, InterfaceEvent>> {
        let (changes, waiting) = mpsc::channel(MAX_WAITING);
        self.watchers.lock().unwrap_or_else(PoisonError::into_inner).push(changes);
        let now = Host::interface(self.internet.address(self.id), true);
        let changes = stream::unfold(waiting, |mut waiting| async move {
            waiting.recv().await.map(|event| (event, waiting))
        });
        Ok(stream::iter([now]).chain(changes).boxed())
    }

    fn discover(&self, own: Announcement) -> io::Result<BoxStream<'static, Sighting>> {
        let Some(lan) = &self.lan else { return Ok(stream::pending().boxed()) };
        let from = self.internet.address(self.id);
        let addresses = vec![quic_address(SocketAddr::new(from, own.port))];
        let Announcement { peer, version, session_tag, .. } = own;
        let sighting = Sighting::Seen { peer, version, session_tag, addresses, from };
        let (ears, heard) = mpsc::channel(MAX_WAITING);
        let others: Vec<HostId> = lan.with(|members| {
            members.retain(|it| it.host != self.id);
            members.push(Member { host: self.id, sighting, ears });
            members.iter().map(|it| it.host).filter(|host| *host != self.id).collect()
        });
        for other in others {
            self.schedule_sighting(lan, self.id, other);
            self.schedule_sighting(lan, other, self.id);
        }
        let heard =
            stream::unfold(heard, |mut heard| async move { heard.recv().await.map(|it| (it, heard)) });
        Ok(heard.boxed())
    }

    fn random(&self, out: &mut [u8]) {
        self.draw(|random| out.iter_mut().for_each(|byte| *byte = random.bits() as u8));
    }

    fn endpoint_seed(&self) -> Option<[u8; 32]> {
        Some(self.draw(Random::bytes))
    }

    fn congestion(&self) -> Option<Arc<dyn ControllerFactory + Send + Sync>> {
        self.congestion.clone()
    }
}

/// A UDP socket of a virtual host.
#[derive(Debug)]
pub struct Socket {
    internet: Internet,
    host: HostId,
    bound: SocketAddr,
    id: SocketId,
    /// Sends, but hears nothing: whoever forges its address hears no answers either.
    is_deaf: bool,
}

impl Socket {
    /// Any port of `host`.
    ///
    /// # Errors
    /// The host does not exist.
    pub fn any(internet: &Internet, host: HostId, is_deaf: bool) -> io::Result<Self> {
        let (id, port) = internet.open(host, 0)?;
        let bound = SocketAddr::new(std::net::Ipv4Addr::UNSPECIFIED.into(), port);
        Ok(Self { internet: internet.clone(), host, bound, id, is_deaf })
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.internet.close(self.host, self.bound.port(), self.id);
    }
}

impl AsyncUdpSocket for Socket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(AlwaysWritable)
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let segment = transmit.segment_size.unwrap_or(transmit.contents.len()).max(1);
        let from = (self.host, self.bound.port(), self.id);
        for packet in transmit.contents.chunks(segment) {
            self.internet.send(from, transmit.destination, transmit.ecn, packet);
        }
        Ok(())
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let mut received = 0;
        for (buffer, meta) in buffers.iter_mut().zip(meta) {
            let packet = loop {
                match self.internet.receive(self.id, cx.waker()) {
                    Some(_) if self.is_deaf => {}
                    packet => break packet,
                }
            };
            let Some(packet) = packet else { break };
            // A longer packet than the reader can take is cut, as recvmsg does; QUIC then finds it damaged.
            let length = packet.bytes.len().min(buffer.len());
            buffer[..length].copy_from_slice(&packet.bytes[..length]);
            *meta = RecvMeta {
                addr: packet.from,
                len: length,
                stride: length,
                ecn: packet.ecn,
                dst_ip: Some(packet.to),
            };
            received += 1;
        }
        if received > 0 { Poll::Ready(Ok(received)) } else { Poll::Pending }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.bound)
    }

    fn max_transmit_segments(&self) -> usize {
        SEGMENTS
    }

    fn may_fragment(&self) -> bool {
        false
    }
}

/// Sending never waits: what does not fit is dropped by the line's queue.
#[derive(Debug)]
struct AlwaysWritable;

impl UdpPoller for AlwaysWritable {
    fn poll_writable(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
