//! A small network in memory: hosts with one address each, a fixed delay, and walls. All in the runtime's (virtual) time.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures::StreamExt as _;
use futures::future::BoxFuture;
use futures::stream::{self, BoxStream};
use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, Runtime, UdpPoller};
use tokio::sync::broadcast;

use super::super::address::to_multiaddr;
use super::super::discovery::{Announcement, Sighting};
use super::super::net::{InterfaceEvent, Net};

/// What all hosts share.
#[derive(Debug, Clone)]
pub(super) struct World {
    state: Arc<Mutex<State>>,
    delay: Duration,
    sightings: broadcast::Sender<(IpAddr, Sighting)>,
}

#[derive(Debug, Default)]
struct State {
    sockets: BTreeMap<SocketAddr, Inbox>,
    walls: BTreeSet<(IpAddr, IpAddr)>,
    /// The addresses that hosts have in place of their own, and what they were.
    moved: BTreeMap<IpAddr, IpAddr>,
    announced: BTreeMap<IpAddr, Sighting>,
    names: BTreeMap<String, Vec<IpAddr>>,
    generation: u64,
}

#[derive(Debug, Default)]
struct Inbox {
    generation: u64,
    packets: VecDeque<(SocketAddr, Vec<u8>)>,
    reader: Option<Waker>,
}

impl World {
    pub(super) fn new(delay: Duration) -> Self {
        Self { state: Arc::default(), delay, sightings: broadcast::channel(64).0 }
    }

    /// A host at `ip`.
    pub(super) fn host(&self, ip: &str) -> Arc<Host> {
        Arc::new(Host { world: self.clone(), ip: ip.parse().unwrap() })
    }

    /// From now on `name` is the name of `addresses`.
    pub(super) fn name(&self, name: &str, addresses: &[&str]) {
        let addresses = addresses.iter().map(|ip| ip.parse().unwrap()).collect();
        self.state.lock().unwrap().names.insert(name.to_owned(), addresses);
    }

    /// Nothing passes between the two from now on.
    pub(super) fn divide(&self, a: &str, b: &str) {
        let (a, b): (IpAddr, IpAddr) = (a.parse().unwrap(), b.parse().unwrap());
        self.state.lock().unwrap().walls.extend([(a, b), (b, a)]);
    }

    /// Everything passes again.
    pub(super) fn heal(&self) {
        self.state.lock().unwrap().walls.clear();
    }

    /// `host` has the address `to` from now on: what it sends comes from there, and what is sent there comes to it.
    pub(super) fn move_host(&self, host: &str, to: &str) {
        self.state.lock().unwrap().moved.insert(to.parse().unwrap(), host.parse().unwrap());
    }

    fn carry(&self, from: SocketAddr, to: SocketAddr, bytes: Vec<u8>) {
        let world = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(world.delay).await;
            let mut state = world.state.lock().unwrap();
            let (mut from, mut to) = (from, to);
            if let Some((new, _)) = state.moved.iter().find(|(_, old)| **old == from.ip()) {
                from.set_ip(*new);
            }
            match state.moved.get(&to.ip()) {
                Some(old) => to.set_ip(*old),
                None if state.moved.values().any(|old| *old == to.ip()) => return,
                None => {}
            }
            if state.walls.contains(&(from.ip(), to.ip())) {
                return;
            }
            if let Some(inbox) = state.sockets.get_mut(&to) {
                inbox.packets.push_back((from, bytes));
                if let Some(reader) = inbox.reader.take() {
                    reader.wake();
                }
            }
        });
    }
}

/// One machine of the world.
#[derive(Debug)]
pub(super) struct Host {
    world: World,
    ip: IpAddr,
}

impl Net for Host {
    fn bind(&self, address: SocketAddr) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        if address.is_ipv6() {
            return Err(io::ErrorKind::Unsupported.into());
        }
        let mut state = self.world.state.lock().unwrap();
        let local = SocketAddr::new(self.ip, address.port());
        state.generation += 1;
        // Whoever had the port was killed: its socket object may live on, but hears nothing any more.
        let generation = state.generation;
        state.sockets.insert(local, Inbox { generation, ..Inbox::default() });
        Ok(Arc::new(Socket { world: self.world.clone(), local, bound: address, generation }))
    }

    fn runtime(&self) -> Arc<dyn Runtime> {
        Arc::new(quinn::TokioRuntime)
    }

    fn interfaces(&self) -> io::Result<BoxStream<'static, InterfaceEvent>> {
        let own = InterfaceEvent { up: true, address: self.ip, prefix_len: 24 };
        Ok(stream::iter([own]).chain(stream::pending()).boxed())
    }

    fn discover(&self, own: Announcement) -> io::Result<BoxStream<'static, Sighting>> {
        let addresses = vec![to_multiaddr(SocketAddr::new(self.ip, own.port))];
        let Announcement { peer, version, session_tag, .. } = own;
        let ours = Sighting::Seen { peer, version, session_tag, addresses, from: self.ip };
        let news = self.world.sightings.subscribe();
        let known: Vec<_> = self.world.state.lock().unwrap().announced.values().cloned().collect();
        self.world.state.lock().unwrap().announced.insert(self.ip, ours.clone());
        let _ = self.world.sightings.send((self.ip, ours));
        let ip = self.ip;
        let news = stream::unfold(news, move |mut news| async move {
            loop {
                match news.recv().await {
                    Ok((from, sighting)) if from != ip => return Some((sighting, news)),
                    Ok(_) => {}
                    Err(_) => return None,
                }
            }
        });
        Ok(stream::iter(known).chain(news).boxed())
    }

    fn random(&self, out: &mut [u8]) {
        rand::RngCore::fill_bytes(&mut rand::rng(), out);
    }

    fn look_up(&self, host: String, port: u16) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> {
        let found = self.world.state.lock().unwrap().names.get(&host).cloned();
        Box::pin(async move {
            let Some(addresses) = found else { return Err(io::ErrorKind::NotFound.into()) };
            if addresses.is_empty() {
                // A resolver that never answers.
                std::future::pending::<()>().await;
            }
            Ok(addresses.into_iter().map(|ip| SocketAddr::new(ip, port)).collect())
        })
    }
}

#[derive(Debug)]
struct Socket {
    world: World,
    local: SocketAddr,
    bound: SocketAddr,
    generation: u64,
}

impl Drop for Socket {
    fn drop(&mut self) {
        let mut state = self.world.state.lock().unwrap();
        if state.sockets.get(&self.local).is_some_and(|inbox| inbox.generation == self.generation) {
            state.sockets.remove(&self.local);
        }
    }
}

impl AsyncUdpSocket for Socket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(AlwaysWritable)
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let is_current =
            self.world.state.lock().unwrap().sockets.get(&self.local).map(|inbox| inbox.generation);
        if is_current == Some(self.generation) {
            let segment = transmit.segment_size.unwrap_or(transmit.contents.len()).max(1);
            for packet in transmit.contents.chunks(segment) {
                self.world.carry(self.local, transmit.destination, packet.to_vec());
            }
        }
        Ok(())
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let mut state = self.world.state.lock().unwrap();
        let Some(inbox) =
            state.sockets.get_mut(&self.local).filter(|inbox| inbox.generation == self.generation)
        else {
            return Poll::Pending;
        };
        let mut received = 0;
        for (buffer, meta) in buffers.iter_mut().zip(meta) {
            let Some((from, bytes)) = inbox.packets.pop_front() else { break };
            buffer[..bytes.len()].copy_from_slice(&bytes);
            *meta = RecvMeta {
                addr: from,
                len: bytes.len(),
                stride: bytes.len(),
                ecn: None,
                dst_ip: Some(self.local.ip()),
            };
            received += 1;
        }
        if received > 0 {
            return Poll::Ready(Ok(received));
        }
        inbox.reader = Some(cx.waker().clone());
        Poll::Pending
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.bound)
    }

    fn may_fragment(&self) -> bool {
        false
    }
}

#[derive(Debug)]
struct AlwaysWritable;

impl UdpPoller for AlwaysWritable {
    fn poll_writable(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
