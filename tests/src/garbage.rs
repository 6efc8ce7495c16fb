//! Nonsense for every open port.

use crate::lan::Host;
use crate::node::Node;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::io::Write;
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

/// The UDP and TCP ports the node has open, as the kernel lists them.
#[track_caller]
pub fn open_ports(node: &Node) -> (Vec<u16>, Vec<u16>) {
    let sockets =
        node.host().command("ss").args(["-H", "-n", "-p", "-l", "-u", "-t"]).output().expect("run ss");
    let text = String::from_utf8_lossy(&sockets.stdout).into_owned();
    let owner = format!("pid={},", node.process_id());
    let (mut udp, mut tcp) = (Vec::new(), Vec::new());
    for line in text.lines().filter(|line| line.contains(&owner)) {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let port = fields.get(4).and_then(|local| local.rsplit(':').next()).and_then(|p| p.parse().ok());
        let Some(port) = port else { continue };
        let ports = if fields[0] == "udp" { &mut udp } else { &mut tcp };
        if !ports.contains(&port) {
            ports.push(port);
        }
    }
    (udp, tcp)
}

/// Sends `count` random datagrams from `host` to `target`: some long, some short, many with a first byte
/// that some protocol on the port would take for its own.
pub fn spray_datagrams(host: &Host, target: SocketAddr, count: usize, seed: u64) {
    /// QUIC long and short headers, RTP and RTCP, clock, DNS.
    const FIRST: [u8; 8] = [0xc0, 0xd3, 0x40, 0x80, 0x81, 0xc8, 0x01, 0x00];
    let any: SocketAddr = if target.is_ipv4() { "0.0.0.0:0".parse() } else { "[::]:0".parse() }.unwrap();
    let socket = host.run(|| UdpSocket::bind(any)).expect("bind");
    let mut rng = StdRng::seed_from_u64(seed);
    let mut bytes = [0; 1500];
    for _ in 0..count {
        let length = if rng.random_bool(0.5) { rng.random_range(0..64) } else { rng.random_range(64..1400) };
        rng.fill(&mut bytes[..]);
        if rng.random_bool(0.8) {
            bytes[0] = FIRST[rng.random_range(0..FIRST.len())];
        }
        // A full buffer or a closed port is the target's business.
        let _ = socket.send_to(&bytes[..length], target);
    }
}

/// Opens `count` connections from `host` to `target`, sends each some random bytes, half of them after the
/// beginning of an HTTP request, and drops it.
pub fn spray_tcp(host: &Host, target: SocketAddr, count: usize, seed: u64) {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut bytes = [0; 4096];
    for _ in 0..count {
        let Ok(mut stream) = host.run(|| TcpStream::connect_timeout(&target, Duration::from_secs(1))) else {
            continue;
        };
        let _ = stream.set_write_timeout(Some(Duration::from_secs(1)));
        if rng.random_bool(0.5) {
            let _ = stream.write_all(b"PATCH /api/v1/project HTTP/1.1\r\n");
        }
        rng.fill(&mut bytes[..]);
        let length = rng.random_range(1..bytes.len());
        let _ = stream.write_all(&bytes[..length]);
    }
}
