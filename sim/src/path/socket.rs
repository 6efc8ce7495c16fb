//! The sockets of a recording.
//!
//! Times are read in the program, so what the two machines' schedulers add is in the record, as it is in all that a node
//! sees of its paths.

use std::{
    collections::BTreeMap,
    io::{self, ErrorKind},
    net::{SocketAddr, ToSocketAddrs as _, UdpSocket},
    time::{Duration, Instant, SystemTime},
};

use super::exchange::{Answer, Exchange, MAX_SIZE, Request};

/// After the last probe answers are awaited for so long.
const LAST_WAIT: Duration = Duration::from_secs(2);
/// Recordings an echo counts for at a time; the one that was silent for longest is forgotten.
const MAX_SESSIONS: usize = 64;
/// How often an echo looks whether its time is over.
const LOOK: Duration = Duration::from_millis(200);

/// What to send.
pub(super) struct Probing {
    pub(super) packets: u64,
    pub(super) interval: Duration,
    pub(super) size: usize,
}

/// Answers probes until `length` is over, if it has an end.
pub(super) fn echo(listen: SocketAddr, length: Option<Duration>) -> io::Result<()> {
    let named = |error: io::Error| io::Error::new(error.kind(), format!("{listen}: {error}"));
    let socket = UdpSocket::bind(listen).map_err(named)?;
    socket.set_read_timeout(Some(LOOK))?;
    answer_all(&socket, length)
}

fn answer_all(socket: &UdpSocket, length: Option<Duration>) -> io::Result<()> {
    let begun = Instant::now();
    let mut sessions: BTreeMap<(SocketAddr, u64), (u64, Instant)> = BTreeMap::new();
    let mut packet = [0; MAX_SIZE + 1];
    while length.is_none_or(|length| begun.elapsed() < length) {
        let (size, from) = match socket.recv_from(&mut packet) {
            Ok(received) => received,
            Err(error) if is_passing(&error) => continue,
            Err(error) => return Err(error),
        };
        let received_ns = nanos(begun);
        let Some(request) = packet.get(..size).and_then(Request::decode) else { continue };
        let key = (from, request.session);
        if !sessions.contains_key(&key) && sessions.len() >= MAX_SESSIONS {
            let silent = sessions.iter().min_by_key(|(_, (_, at))| *at).map(|(key, _)| *key);
            silent.and_then(|key| sessions.remove(&key));
        }
        let (count, at) = sessions.entry(key).or_insert((0, Instant::now()));
        let answer = Answer { request, count: *count, received_ns, answered_ns: nanos(begun) };
        (*count, *at) = (*count + 1, Instant::now());
        // An answer that cannot be sent is one lost on the way back.
        let _ = socket.send_to(&answer.encode(size), from);
    }
    Ok(())
}

/// Sends probes and gathers their answers.
pub(super) fn probe(peer: &str, plan: &Probing) -> io::Result<Vec<Exchange>> {
    let named = |error: io::Error| io::Error::new(error.kind(), format!("{peer}: {error}"));
    let address = peer.to_socket_addrs().map_err(named)?.next();
    let address = address.ok_or_else(|| named(io::Error::other("this name has no address")))?;
    let any: SocketAddr = if address.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0u16; 8], 0).into() };
    let socket = UdpSocket::bind(any)?;
    socket.connect(address).map_err(named)?;
    let clock = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let session = (clock.as_nanos() as u64) ^ u64::from(std::process::id()).rotate_left(32);
    let begun = Instant::now();
    let mut exchanges: Vec<Exchange> = vec![];
    let mut packet = [0; MAX_SIZE + 1];
    loop {
        let number = exchanges.len() as u64;
        let due = if number < plan.packets {
            plan.interval.saturating_mul(u32::try_from(number).unwrap_or(u32::MAX))
        } else {
            plan.interval.saturating_mul(u32::try_from(plan.packets).unwrap_or(u32::MAX)) + LAST_WAIT
        };
        let wait = due.saturating_sub(begun.elapsed());
        if wait.is_zero() {
            if number >= plan.packets {
                return Ok(exchanges);
            }
            exchanges.push(Exchange { sent_ns: nanos(begun), answer: None });
            match socket.send(&Request { session, number }.encode(plan.size)) {
                Ok(_) => {}
                Err(error) if is_passing(&error) => {}
                Err(error) => return Err(named(error)),
            }
            continue;
        }
        socket.set_read_timeout(Some(wait))?;
        let size = match socket.recv(&mut packet) {
            Ok(size) => size,
            Err(error) if is_passing(&error) => continue,
            Err(error) => return Err(named(error)),
        };
        let came_ns = nanos(begun);
        let Some(answer) = packet.get(..size).and_then(Answer::decode) else { continue };
        if answer.request.session != session {
            continue;
        }
        let index = usize::try_from(answer.request.number).unwrap_or(usize::MAX);
        if let Some(exchange) = exchanges.get_mut(index) {
            // Of a doubled answer the first counts.
            exchange.answer.get_or_insert((answer, came_ns));
        }
    }
}

/// Errors that say nothing about the next packet: time is up, or the far end's port is closed right now.
fn is_passing(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::WouldBlock
            | ErrorKind::TimedOut
            | ErrorKind::Interrupted
            | ErrorKind::ConnectionRefused
            | ErrorKind::ConnectionReset
    )
}

fn nanos(begun: Instant) -> u64 {
    u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::path::exchange::traces;

    #[test]
    fn loopback_is_recorded_as_a_path_that_loses_nothing() {
        let far = UdpSocket::bind("127.0.0.1:0").unwrap();
        far.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let peer = far.local_addr().unwrap().to_string();
        let answering = std::thread::spawn(move || answer_all(&far, Some(Duration::from_secs(4))));
        let plan = Probing { packets: 100, interval: Duration::from_millis(5), size: 314 };
        let exchanges = probe(&peer, &plan).unwrap();
        answering.join().unwrap().unwrap();
        assert_eq!(exchanges.len(), 100);
        let (there, back) = traces(&exchanges, 314).unwrap();
        assert_eq!((there.loss(), back.loss()), (0.0, 0.0));
        assert!(there.shortest() < Duration::from_millis(5), "{:?}", there.shortest());
        assert!(there.packets().iter().all(|packet| packet.octets == 342));
    }

    #[test]
    fn a_closed_port_gives_no_record_but_no_hang_either() {
        let unused = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let plan = Probing { packets: 3, interval: Duration::from_millis(1), size: 0 };
        let exchanges = probe(&unused.to_string(), &plan).unwrap();
        assert!(exchanges.iter().all(|exchange| exchange.answer.is_none()));
        assert!(traces(&exchanges, 0).is_err());
    }
}
