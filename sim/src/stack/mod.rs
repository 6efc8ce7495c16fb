//! The product's network driver, whole, in virtual time: libp2p, TLS, QUIC and the mesh's task, on a network in memory.
//!
//! The runs of [`crate::world`] hold the decisions to account; what carries them out is not in them. Here it is: every node
//! is a [`transport::driver::Mesh`] as the program runs it, and only the four things it takes from outside are ours:
//! sockets, interfaces, discovery and randomness ([`host`]). The clock is tokio's, paused ([`agenda`]).
//!
//! A run is repeated bit for bit, every byte of every encrypted packet included, if the process also takes time and
//! randomness from the seed wherever a library asks the system for them by itself. That can only be done by the program that
//! runs us, so the runs have one of their own, `bandmesh-sim-stack`, and each has a process of its own: libp2p numbers
//! listeners and connections by counters of the process.
//!
//! What a run cannot show: several threads, real sockets and their buffers, the media thread, Windows and macOS.

pub mod agenda;
pub mod drawn;
pub mod host;
pub mod internet;
mod ledger;
mod payload;
mod record;
pub mod scenario;
pub mod stage;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use libp2p::{Multiaddr, multiaddr::Protocol};
use quinn::congestion::{BbrConfig, ControllerFactory, CubicConfig, NewRenoConfig};

use self::{agenda::Agenda, record::Record, scenario::Scenario, stage::Stage};
use crate::{
    log::Reader,
    random::Random,
    report::{OK, Report},
};

/// Longest run in virtual time: one that waits for ever ends here, as a failure.
const MAX_LENGTH: Duration = Duration::from_secs(3600);

/// What a run asks of the computer it runs on. None of it may change what happens in the run.
#[derive(Clone, Copy, Debug)]
pub struct Machine {
    /// Bytes the process has allocated and not freed; `None` where that cannot be told.
    pub heap_bytes: fn() -> Option<u64>,
}

/// Who decides how much of a connection's data may be in flight.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Congestion {
    /// The product's own controller.
    #[default]
    Own,
    /// quinn's default (RFC 9438).
    Cubic,
    /// RFC 6582.
    NewReno,
    /// quinn's experimental BBR.
    Bbr,
}

impl Congestion {
    /// All, by name.
    pub const ALL: [(&str, Self); 4] =
        [("own", Self::Own), ("cubic", Self::Cubic), ("newreno", Self::NewReno), ("bbr", Self::Bbr)];

    fn factory(self) -> Option<Arc<dyn ControllerFactory + Send + Sync>> {
        match self {
            Self::Own => None,
            Self::Cubic => Some(Arc::new(CubicConfig::default())),
            Self::NewReno => Some(Arc::new(NewRenoConfig::default())),
            Self::Bbr => Some(Arc::new(BbrConfig::default())),
        }
    }
}

/// Plays `scenario`. The report's `wall_s` is left 0: whoever knows the time fills it in.
pub fn run(
    scenario: &Scenario,
    seed: u64,
    congestion: Congestion,
    machine: Machine,
    reader: Option<Reader>,
) -> Report {
    let agenda = Agenda::default();
    let record = Record::new(agenda.clone(), reader);
    let random = Random::new(seed).fork(0x5354_4143);
    let mut stage = Stage::new(agenda.clone(), record.clone(), random, machine, congestion.factory());
    let ended = agenda.run(async {
        let play = (scenario.play)(&mut stage);
        let in_time = tokio::time::timeout(MAX_LENGTH, play).await.is_ok();
        if !in_time {
            stage.ledger.object("progress", format!("not over after {} s", MAX_LENGTH.as_secs()));
        }
        stage.ledger.close();
        let end = agenda.now();
        for host in 0..stage.host_count() {
            stage.stop(host).await;
        }
        end
    });
    let end = ended.unwrap_or_else(|error| {
        stage.ledger.object("runtime", error.to_string());
        Default::default()
    });
    let (events, log_hash) = record.outcome();
    let (verdict, detail) = match stage.ledger.objection() {
        None => (OK, None),
        Some((checker, detail)) => (checker, Some(detail)),
    };
    Report {
        scenario: scenario.name,
        seed,
        virtual_s: end.as_seconds(),
        wall_s: 0.0,
        nodes: stage.host_count(),
        verdict,
        detail,
        only: None,
        shrunk: None,
        events,
        log_hash,
        figures: stage.figures(),
    }
}

/// The QUIC multiaddress of a socket address.
fn quic_address(address: SocketAddr) -> Multiaddr {
    Multiaddr::empty().with(address.ip().into()).with(Protocol::Udp(address.port())).with(Protocol::QuicV1)
}
