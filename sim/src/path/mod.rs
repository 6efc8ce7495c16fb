//! Recording a real path: `bandmesh-sim path record`, with `bandmesh-sim path echo` at its other end.
//!
//! [`exchange`] is the part without sockets: packets as bytes, and what follows from their times.

pub mod exchange;
mod socket;

use std::{io, net::SocketAddr, path::PathBuf, time::Duration};

use clap::Subcommand;

use crate::network::{Trace, trace::MAX_PACKETS};

/// What to do with a real path.
#[derive(Subcommand, Debug)]
pub enum PathCommand {
    /// Answer the packets of `path record`, until stopped.
    Echo {
        /// Where to listen, UDP.
        #[arg(long)]
        listen: SocketAddr,
        /// Stop after so many seconds.
        #[arg(long)]
        seconds: Option<u64>,
    },
    /// Send packets to a `path echo` and write what became of them as a trace, which scenarios and the emulator replay.
    Record {
        /// Where `path echo` listens: HOST:PORT.
        #[arg(long)]
        peer: String,
        /// File for the way there.
        #[arg(long)]
        to: PathBuf,
        /// File for the way back.
        #[arg(long)]
        from: Option<PathBuf>,
        /// How long.
        #[arg(long, default_value_t = 60)]
        seconds: u64,
        /// Packets a second.
        #[arg(long, default_value_t = 100)]
        rate: u32,
        /// UDP payload of each, octets; an audio packet of 128 frames has 314.
        #[arg(long, default_value_t = 314)]
        size: usize,
    },
}

/// Carries out a command.
///
/// # Errors
/// What of the sockets or files did not work, in words that name them.
pub fn run(command: &PathCommand, json: bool) -> io::Result<()> {
    match command {
        PathCommand::Echo { listen, seconds } => socket::echo(*listen, seconds.map(Duration::from_secs)),
        PathCommand::Record { peer, to, from, seconds, rate, size } => {
            let packets = seconds.saturating_mul(u64::from(*rate));
            if *rate == 0 || packets < 2 || packets > MAX_PACKETS as u64 {
                let why = format!("--seconds times --rate must be between 2 and {MAX_PACKETS}");
                return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
            }
            let plan = socket::Probing { packets, interval: Duration::from_secs(1) / *rate, size: *size };
            let exchanges = socket::probe(peer, &plan)?;
            let about = [format!("to {peer}, {rate} packets a second of {size} octets")];
            let (there, back) = exchange::traces(&exchanges, *size).map_err(|error| {
                io::Error::other(format!("{peer}: {error}; does `bandmesh-sim path echo` run there?"))
            })?;
            write(to, &there, &[&about[..], &["the way there".to_owned()]].concat(), json)?;
            if let Some(from) = from {
                write(from, &back, &[&about[..], &["the way back".to_owned()]].concat(), json)?;
            }
            Ok(())
        }
    }
}

fn write(file: &PathBuf, trace: &Trace, about: &[String], json: bool) -> io::Result<()> {
    let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", file.display()));
    std::fs::write(file, trace.to_text(about)).map_err(named)?;
    let (packets, loss, shortest_ms) =
        (trace.packets().len(), trace.loss(), trace.shortest().as_secs_f64() * 1e3);
    let mut out = io::stdout().lock();
    use io::Write as _;
    if json {
        let line = serde_json::json!({
            "file": file, "packets": packets, "loss": loss, "shortest_ms": shortest_ms,
        });
        writeln!(out, "{line}")
    } else {
        writeln!(
            out,
            "{}: {packets} packets, {:.2} % lost, {shortest_ms:.3} ms at best",
            file.display(),
            100.0 * loss
        )
    }
}
