//! The emulator between UDP endpoints that are told to talk to it.
//!
//! Programs on side A send to a flow's listening address, the line carries their packets to the flow's target
//! on side B, and answers go back to the client they belong to. Each client gets a socket of its own towards
//! the target, as a NAT would give it, so that the target can tell clients apart. All flows and clients share
//! one line: they are programs behind the same Wi-Fi.
//!
//! Bounded: at most [`MAX_CLIENTS`] clients. A further one takes the place of the one that was quiet
//! longest, if that was quiet for [`IDLE`]; otherwise its packets are not carried, and counted as `strangers`.

use std::{
    io::{self, IoSliceMut},
    net::{SocketAddr, UdpSocket},
    os::fd::{AsFd, AsRawFd, BorrowedFd},
    time::Duration,
};

use bandmesh::device::monotonic_ns;
use nix::{
    cmsg_space,
    sys::{
        socket::{ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt, sockopt},
        time::TimeSpec,
    },
    time::{ClockId, clock_gettime},
};

use crate::emulator::{
    drive::{BATCH, Carrier, Received},
    line::{Departure, Way},
};

/// Most clients of all flows together.
pub const MAX_CLIENTS: usize = 64;
/// A client that sent and got nothing for so long may lose its place.
pub const IDLE: Duration = Duration::from_secs(60);
/// The largest UDP payload.
const LARGEST: usize = 65_535;
/// Packets wait in the line, not in sockets: a socket only has to bridge the time between two reads.
const SOCKET_BUFFER: usize = 4 << 20;
/// What the headers of IP and UDP add to a payload, by family.
const HEADERS_V4: usize = 28;
const HEADERS_V6: usize = 48;

/// `LISTEN=TARGET` of the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// Where side A sends to.
    pub listen: SocketAddr,
    /// Where side B is.
    pub target: SocketAddr,
}

impl std::str::FromStr for Flow {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (listen, target) =
            text.split_once('=').ok_or("wanted LISTEN=TARGET, as 127.0.0.1:9000=127.0.0.1:9001")?;
        let address = |text: &str| text.parse().map_err(|_| format!("{text} is no address with a port"));
        let flow = Flow { listen: address(listen)?, target: address(target)? };
        if flow.listen.is_ipv4() != flow.target.is_ipv4() {
            return Err("both addresses must be of one family".into());
        }
        Ok(flow)
    }
}

/// Sockets of all flows.
#[derive(Debug)]
pub struct UdpSides {
    flows: Vec<(UdpSocket, Flow)>,
    clients: Vec<Client>,
    /// Clients so far; each has a number, so that packets to one that is gone go nowhere.
    met: u64,
    strangers: u64,
}

#[derive(Debug)]
struct Client {
    number: u64,
    flow: usize,
    address: SocketAddr,
    upstream: UdpSocket,
    used_ns: u64,
}

impl UdpSides {
    /// Opens the listening sockets.
    pub fn open(flows: &[Flow]) -> io::Result<Self> {
        let flows: io::Result<Vec<_>> = flows
            .iter()
            .map(|flow| {
                let socket = UdpSocket::bind(flow.listen)
                    .map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", flow.listen)))?;
                prepare(&socket)?;
                Ok((socket, *flow))
            })
            .collect();
        Ok(Self { flows: flows?, clients: Vec::new(), met: 0, strangers: 0 })
    }

    /// Where it listens now, in the order of the flows; ports that were asked for as 0 are filled in.
    pub fn listening(&self) -> Vec<SocketAddr> {
        self.flows.iter().filter_map(|(socket, _)| socket.local_addr().ok()).collect()
    }

    /// Packets of clients that found no place.
    pub fn strangers(&self) -> u64 {
        self.strangers
    }

    /// The client's number; `None` if there is no place for it.
    fn client(&mut self, flow: usize, address: SocketAddr, now_ns: u64) -> io::Result<Option<u64>> {
        if let Some(known) = self.clients.iter_mut().find(|c| c.flow == flow && c.address == address) {
            known.used_ns = now_ns;
            return Ok(Some(known.number));
        }
        if self.clients.len() >= MAX_CLIENTS {
            let idle_ns = u64::try_from(IDLE.as_nanos()).unwrap_or(u64::MAX);
            let oldest = self.clients.iter().enumerate().min_by_key(|(_, client)| client.used_ns);
            match oldest {
                Some((index, client)) if now_ns.saturating_sub(client.used_ns) >= idle_ns => {
                    self.clients.swap_remove(index);
                }
                _ => return Ok(None),
            }
        }
        let Some(target) = self.flows.get(flow).map(|(_, flow)| flow.target) else { return Ok(None) };
        let any: SocketAddr = if target.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0u16; 8], 0).into() };
        let upstream = UdpSocket::bind(any)?;
        prepare(&upstream)?;
        // Connected: only the target's packets come in.
        upstream.connect(target)?;
        self.met += 1;
        self.clients.push(Client { number: self.met, flow, address, upstream, used_ns: now_ns });
        Ok(Some(self.met))
    }

    fn receive_from_a(&mut self, flow: usize, take: &mut dyn FnMut(Received<u64>)) -> io::Result<()> {
        for _ in 0..BATCH {
            let Some((socket, _)) = self.flows.get(flow) else { return Ok(()) };
            let Some(Datagram { arrived_ns, from, bytes }) = read(socket)? else { return Ok(()) };
            let Some(from) = from else { continue };
            match self.client(flow, from, arrived_ns)? {
                Some(to) => {
                    let octets = bytes.len() + if from.is_ipv4() { HEADERS_V4 } else { HEADERS_V6 };
                    take(Received { way: Way::AToB, arrived_ns, octets, to, bytes });
                }
                None => self.strangers += 1,
            }
        }
        Ok(())
    }

    fn receive_from_b(&mut self, client: usize, take: &mut dyn FnMut(Received<u64>)) -> io::Result<()> {
        let Some(client) = self.clients.get_mut(client) else { return Ok(()) };
        for _ in 0..BATCH {
            let Some(Datagram { arrived_ns, bytes, .. }) = read(&client.upstream)? else { return Ok(()) };
            client.used_ns = arrived_ns;
            let octets = bytes.len() + if client.address.is_ipv4() { HEADERS_V4 } else { HEADERS_V6 };
            take(Received { way: Way::BToA, arrived_ns, octets, to: client.number, bytes });
        }
        Ok(())
    }
}

impl Carrier for UdpSides {
    type To = u64;

    fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        let listening = self.flows.iter().map(|(socket, _)| socket.as_fd());
        listening.chain(self.clients.iter().map(|client| client.upstream.as_fd())).collect()
    }

    fn receive(&mut self, ready: &[usize], take: &mut dyn FnMut(Received<u64>)) -> io::Result<()> {
        let flows = self.flows.len();
        // Side B first: a new client of side A may take another's place, and so its index.
        for &index in ready.iter().filter(|&&index| index >= flows) {
            self.receive_from_b(index - flows, take)?;
        }
        for &index in ready.iter().filter(|&&index| index < flows) {
            self.receive_from_a(index, take)?;
        }
        Ok(())
    }

    fn send(&mut self, departure: &Departure<u64>) -> bool {
        let Some(client) = self.clients.iter().find(|client| client.number == departure.to) else {
            return false;
        };
        let sent = match departure.way {
            Way::AToB => client.upstream.send(&departure.bytes),
            Way::BToA => match self.flows.get(client.flow) {
                Some((socket, _)) => socket.send_to(&departure.bytes, client.address),
                None => return false,
            },
        };
        sent.is_ok()
    }
}

fn prepare(socket: &UdpSocket) -> io::Result<()> {
    socket.set_nonblocking(true)?;
    setsockopt(&socket, sockopt::ReceiveTimestampns, &true)?;
    // The system may give less; what is lost for it shows in the receiver's counts, not in ours.
    let _ = setsockopt(&socket, sockopt::RcvBuf, &SOCKET_BUFFER);
    Ok(())
}

/// A packet as a socket gave it.
struct Datagram {
    arrived_ns: u64,
    from: Option<SocketAddr>,
    bytes: Vec<u8>,
}

/// The next packet of a socket with the time the system received it, or `None` if there is none.
fn read(socket: &UdpSocket) -> io::Result<Option<Datagram>> {
    let mut bytes = vec![0; LARGEST];
    let mut control = cmsg_space!(TimeSpec);
    let (length, from, stamp) = {
        let mut parts = [IoSliceMut::new(&mut bytes)];
        let received = recvmsg::<SockaddrStorage>(
            socket.as_raw_fd(),
            &mut parts,
            Some(&mut control),
            MsgFlags::MSG_DONTWAIT,
        );
        let received = match received.map_err(io::Error::from) {
            Ok(received) => received,
            // A connected socket is told of packets that did not get there; these are gone, the line is not.
            Err(e) if e.kind() == io::ErrorKind::WouldBlock || is_about_a_packet(&e) => return Ok(None),
            Err(e) => return Err(e),
        };
        let stamp = received.cmsgs().ok().and_then(|mut all| {
            all.find_map(|message| match message {
                ControlMessageOwned::ScmTimestampns(at) => Some(at),
                _ => None,
            })
        });
        (received.bytes, received.address.and_then(to_std), stamp)
    };
    bytes.truncate(length);
    bytes.shrink_to_fit();
    let now_ns = monotonic_ns();
    Ok(Some(Datagram { arrived_ns: now_ns.saturating_sub(stamp.map_or(0, age_ns)), from, bytes }))
}

/// Errors that ICMP messages turn into.
fn is_about_a_packet(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionRefused, HostUnreachable, NetworkUnreachable};
    matches!(error.kind(), ConnectionRefused | HostUnreachable | NetworkUnreachable)
        || matches!(
            error.raw_os_error(),
            Some(libc::EMSGSIZE | libc::EPROTO | libc::ENOPROTOOPT | libc::EACCES)
        )
}

/// How long ago the system received it. Its stamp is in civil time, which may be set meanwhile: more than a
/// second is not believed.
fn age_ns(stamp: TimeSpec) -> u64 {
    let now = clock_gettime(ClockId::CLOCK_REALTIME).map_or(Duration::ZERO, Duration::from);
    let age = now.saturating_sub(Duration::from(stamp));
    if age > Duration::from_secs(1) { 0 } else { age.as_nanos() as u64 }
}

fn to_std(address: SockaddrStorage) -> Option<SocketAddr> {
    if let Some(v4) = address.as_sockaddr_in() {
        return Some(SocketAddr::from((v4.ip(), v4.port())));
    }
    address.as_sockaddr_in6().map(|v6| SocketAddr::from((v6.ip(), v6.port())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flow_is_two_addresses_of_one_family() {
        let flow: Flow = "127.0.0.1:9000=127.0.0.1:9001".parse().unwrap();
        assert_eq!((flow.listen.port(), flow.target.port()), (9000, 9001));
        assert!("127.0.0.1:9000".parse::<Flow>().unwrap_err().contains("LISTEN=TARGET"));
        assert!("127.0.0.1:9000=[::1]:9001".parse::<Flow>().unwrap_err().contains("family"));
        assert!("here=127.0.0.1:1".parse::<Flow>().unwrap_err().contains("here"));
    }

    #[test]
    fn clients_beyond_the_bound_wait_until_another_was_quiet_for_long() {
        let flow: Flow = "127.0.0.1:0=127.0.0.1:9".parse().unwrap();
        let mut sides = UdpSides::open(&[flow]).unwrap();
        let address = |port: usize| SocketAddr::from(([127, 0, 0, 1], 10_000 + port as u16));
        for port in 0..MAX_CLIENTS {
            assert!(sides.client(0, address(port), port as u64).unwrap().is_some());
        }
        let second = 1_000_000_000;
        assert_eq!(sides.client(0, address(MAX_CLIENTS), second).unwrap(), None);
        let later = IDLE.as_nanos() as u64 + second;
        let number = sides.client(0, address(MAX_CLIENTS), later).unwrap();
        assert_eq!(number, Some(MAX_CLIENTS as u64 + 1));
        assert_eq!(sides.clients.len(), MAX_CLIENTS);
        assert!(!sides.clients.iter().any(|c| c.number == 1), "the quietest lost its place");
    }
}
