//! What a router does to UDP, found out from behind it.
//!
//! The method is that of RFC 5780, sections 4.3 and 4.4: a server with two addresses and two ports says from
//! where a question came, and answers from another of its four endpoints if asked to. Mapping: ask different
//! endpoints and compare what they saw. Filtering: ask one, and see which others' answers get through. Server and
//! client are both ours and in one lab, so the message is not STUN's:
//!
//! | octets | question | answer |
//! |---|---|---|
//! | 0-3 | `BNAT` | `BNAT` |
//! | 4 | 1: from the other address, 2: from the other port, 3: both | 0 |
//! | 5-8 | number of the question | the same |
//! | 9-14 | zero | address and port it came from |

use std::{
    io,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket},
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use serde::Serialize;

use super::{
    lab::{Lab, SECOND},
    rules::{Dependence, Kind},
};
use crate::emulator::namespace::Namespace;

const MAGIC: &[u8; 4] = b"BNAT";
const MESSAGE: usize = 15;
const OTHER_ADDRESS: u8 = 1;
const OTHER_PORT: u8 = 2;
/// Inside one machine an answer takes well under a millisecond.
const PATIENCE: Duration = Duration::from_millis(150);
/// A busy machine may take longer once; three times in a row it would not.
const TRIES: usize = 3;
/// Sockets that mapping is measured with; the most dependent result counts, since two random ports may be equal.
const SOCKETS: usize = 3;
/// How often the server looks whether it is still needed.
const SERVER_POLL: Duration = Duration::from_millis(20);

/// What a router was found to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Found {
    /// What it was set up as.
    pub kind: Kind,
    /// Of the outer port.
    pub mapping: Dependence,
    /// Of who may send in.
    pub filtering: Dependence,
    /// Whether the outer port is the inner one.
    pub preserves_ports: bool,
    /// Whether hosts behind it reach each other by their outer addresses.
    pub hairpins: bool,
}

impl Found {
    /// Whether mapping and filtering are what the kind says.
    pub fn is_as_stated(&self) -> bool {
        self.kind.stated() == (self.mapping, self.filtering)
    }
}

/// Probes a router of a lab from one of its hosts.
pub fn probe(lab: &Lab, router: u8, host: u8) -> io::Result<Found> {
    let router = lab.router(router)?;
    let inside = Namespace::find(&router.host(host)?.namespace)?;
    let public = Namespace::find(&lab.public.namespace)?;
    let first = lab.public.address;
    // Indexed as in the message: bit 0 the second address, bit 1 the second port.
    let server = public.enter(|| {
        let (near, near_too) = (UdpSocket::bind((first, 0))?, UdpSocket::bind((first, 0))?);
        let far = UdpSocket::bind((SECOND, near.local_addr()?.port()))?;
        let far_too = UdpSocket::bind((SECOND, near_too.local_addr()?.port()))?;
        Ok([near, far, near_too, far_too])
    })?;
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let serving: Vec<_> = (0..server.len() as u8)
            .map(|index| {
                let (server, stop) = (&server, &stop);
                scope.spawn(move || serve(server, index, stop))
            })
            .collect();
        let found = ask_all(&inside, &server, router.kind);
        stop.store(true, Ordering::Relaxed);
        for thread in serving {
            thread.join().unwrap_or_else(|_| Err(io::Error::other("the server failed")))?;
        }
        found
    })
}

/// Answers what comes to one of the four endpoints.
fn serve(sockets: &[UdpSocket; 4], index: u8, stop: &AtomicBool) -> io::Result<()> {
    let Some(own) = sockets.get(usize::from(index)) else { return Ok(()) };
    own.set_read_timeout(Some(SERVER_POLL))?;
    let mut message = [0; MESSAGE];
    while !stop.load(Ordering::Relaxed) {
        let Ok((length, from)) = own.recv_from(&mut message) else { continue };
        let SocketAddr::V4(from) = from else { continue };
        let Some((change, number)) = parse(&message, length) else { continue };
        let answer = answer(number, from);
        // Bits of the endpoint it came to and of the change: the endpoint to answer from.
        if let Some(socket) = sockets.get(usize::from(index ^ (change & 3))) {
            // What cannot be sent is a question without an answer, which the client counts.
            let _ = socket.send_to(&answer, from);
        }
    }
    Ok(())
}

fn ask_all(inside: &Namespace, server: &[UdpSocket; 4], kind: Kind) -> io::Result<Found> {
    let [near, far, _, far_too] = server;
    let (near, far, far_too) = (near.local_addr()?, far.local_addr()?, far_too.local_addr()?);
    let mut client = Client { number: 0 };
    let open = || inside.enter(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)));

    let mut mapping = Dependence::EndpointIndependent;
    let mut preserves_ports = true;
    for _ in 0..SOCKETS {
        let socket = open()?;
        let seen = client.must(&socket, near)?;
        preserves_ports &= seen.port() == socket.local_addr()?.port();
        let elsewhere = client.must(&socket, far)?;
        mapping = mapping.max(if seen == elsewhere {
            Dependence::EndpointIndependent
        } else if elsewhere == client.must(&socket, far_too)? {
            Dependence::AddressDependent
        } else {
            Dependence::AddressAndPortDependent
        });
    }

    // A socket that only one endpoint has heard of.
    let socket = open()?;
    client.must(&socket, near)?;
    let filtering = if client.ask(&socket, near, OTHER_ADDRESS | OTHER_PORT)?.is_some() {
        Dependence::EndpointIndependent
    } else if client.ask(&socket, near, OTHER_PORT)?.is_some() {
        Dependence::AddressDependent
    } else {
        Dependence::AddressAndPortDependent
    };

    let (one, other) = (open()?, open()?);
    let outside = client.must(&one, near)?;
    let hairpins = (0..TRIES).try_fold(false, |passed, _| -> io::Result<bool> {
        if !passed {
            other.send_to(MAGIC, outside)?;
        }
        Ok(passed || hears(&one)?)
    })?;
    Ok(Found { kind, mapping, filtering, preserves_ports, hairpins })
}

/// Whether anything comes.
fn hears(socket: &UdpSocket) -> io::Result<bool> {
    socket.set_read_timeout(Some(PATIENCE))?;
    Ok(socket.recv_from(&mut [0; MESSAGE]).is_ok())
}

struct Client {
    number: u32,
}

impl Client {
    /// From where an endpoint sees this socket; that it sees it at all is what a lab is for.
    fn must(&mut self, socket: &UdpSocket, to: SocketAddr) -> io::Result<SocketAddrV4> {
        self.ask(socket, to, 0)?.ok_or_else(|| {
            io::Error::new(io::ErrorKind::TimedOut, format!("no answer from {to} through the router"))
        })
    }

    /// Asks `to` to answer from another endpoint; `None` if no answer gets here.
    fn ask(&mut self, socket: &UdpSocket, to: SocketAddr, change: u8) -> io::Result<Option<SocketAddrV4>> {
        for _ in 0..TRIES {
            self.number += 1;
            socket.send_to(&question(change, self.number), to)?;
            let asked = Instant::now();
            while let Some(left) = PATIENCE.checked_sub(asked.elapsed()).filter(|left| !left.is_zero()) {
                socket.set_read_timeout(Some(left))?;
                let mut message = [0; MESSAGE];
                let Ok((length, _)) = socket.recv_from(&mut message) else { break };
                // Late answers to earlier questions are of no use.
                if parse(&message, length).is_some_and(|(_, number)| number == self.number) {
                    return Ok(Some(seen(&message)));
                }
            }
        }
        Ok(None)
    }
}

fn question(change: u8, number: u32) -> [u8; MESSAGE] {
    let mut message = [0; MESSAGE];
    let [a, b, c, d] = *MAGIC;
    let [n0, n1, n2, n3] = number.to_be_bytes();
    for (to, from) in message.iter_mut().zip([a, b, c, d, change, n0, n1, n2, n3]) {
        *to = from;
    }
    message
}

fn answer(number: u32, from: SocketAddrV4) -> [u8; MESSAGE] {
    let mut message = question(0, number);
    let address = from.ip().octets().into_iter().chain(from.port().to_be_bytes());
    for (to, from) in message.iter_mut().skip(9).zip(address) {
        *to = from;
    }
    message
}

/// What a message asks for, and its number.
fn parse(message: &[u8; MESSAGE], length: usize) -> Option<(u8, u32)> {
    let [a, b, c, d, change, n0, n1, n2, n3, ..] = *message;
    (length == MESSAGE && [a, b, c, d] == *MAGIC).then(|| (change, u32::from_be_bytes([n0, n1, n2, n3])))
}

/// The address in an answer.
fn seen(message: &[u8; MESSAGE]) -> SocketAddrV4 {
    let [.., a, b, c, d, p0, p1] = *message;
    SocketAddrV4::new(Ipv4Addr::new(a, b, c, d), u16::from_be_bytes([p0, p1]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_read_as_they_are_written_and_others_are_not() {
        let asked = question(OTHER_PORT, 0x0102_0304);
        assert_eq!(parse(&asked, MESSAGE), Some((OTHER_PORT, 0x0102_0304)));
        assert_eq!(parse(&asked, MESSAGE - 1), None);
        assert_eq!(parse(&[0; MESSAGE], MESSAGE), None);
        let from = SocketAddrV4::new(Ipv4Addr::new(203, 0, 113, 11), 40_000);
        assert_eq!(seen(&answer(7, from)), from);
    }
}
