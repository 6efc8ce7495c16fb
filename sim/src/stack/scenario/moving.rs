//! Addresses that change under a running connection.

use std::time::Duration;

use transport::driver::Channel;

use crate::{
    network::{
        Weather,
        nat::{NatKind, PortAllocation},
    },
    stack::stage::Stage,
};

const MEDIA_BYTES: usize = 268;

/// Bound for a QUIC client that moves: the connection goes on, and what is lost is what was under way.
const CLIENT_GAP_MS: f64 = 1_000.0;

/// Bound for a QUIC server that moves: it has to dial, over a path that the handshake crosses twice.
const SERVER_GAP_MS: f64 = 6_000.0;

/// Two nodes play to each other, and one of them changes networks: the one that dialled, then the one that was dialled.
pub async fn other_network(stage: &mut Stage) {
    let weather = Weather { loss: 0.005, ..Weather::calm(stage.random.between(2.0, 40.0)) };
    stage.add_hosts(2, weather);
    // Host 1 dials host 0: it is the QUIC client.
    stage.start_all(None);
    stage.meet(&[0, 1], 5.0).await;

    for (who, generation, bound_ms, figure) in
        [(1, 2, CLIENT_GAP_MS, "client_gap_ms"), (0, 2, SERVER_GAP_MS, "server_gap_ms")]
    {
        let begin = stage.now();
        let end = begin + Duration::from_secs(15);
        stage.play(0, &[1], MEDIA_BYTES, end);
        stage.play(1, &[0], MEDIA_BYTES, end);
        let wait = stage.random.between(1.0, 3.0);
        stage.sleep(wait).await;
        let before = stage.ledger.link(1 - who, who).connections;
        stage.move_host(who, generation);
        stage.sleep(SERVER_GAP_MS / 1e3).await;
        stage.meet(&[0, 1], 0.0).await;
        stage.agenda.sleep_until(end).await;
        let gap = stage.ledger.media(begin, end, |_, _| true).gap_ms;
        stage.figure(figure, gap);
        let renewed = stage.ledger.link(1 - who, who).connections - before;
        stage.figure(if who == 1 { "client_renewed" } else { "server_renewed" }, renewed as f64);
        if gap > bound_ms {
            let text =
                format!("{who} moved, and music paused for {gap:.0} ms; {bound_ms} at most are bearable");
            stage.ledger.object("moves", text);
        }
    }
    talk(stage).await;
}

/// A node behind a home router plays with one that is not, and the router restarts: its next packets come from another
/// port.
pub async fn router_restarts(stage: &mut Stage) {
    let weather = Weather { loss: 0.002, ..Weather::calm(stage.random.between(5.0, 40.0)) };
    stage.add_hosts(2, weather);
    // One that kept ports would give the same one again.
    stage.internet.set_nat(1, NatKind { ports: PortAllocation::Sequential, ..NatKind::home() });
    stage.start_all(None);
    stage.meet(&[0, 1], 5.0).await;
    let begin = stage.now();
    let end = begin + Duration::from_secs(20);
    stage.play(0, &[1], MEDIA_BYTES, end);
    stage.play(1, &[0], MEDIA_BYTES, end);
    for _ in 0..3 {
        let wait = stage.random.between(2.0, 5.0);
        stage.sleep(wait).await;
        stage.internet.restart_nat(1);
    }
    stage.agenda.sleep_until(end).await;
    let gap = stage.ledger.media(begin, end, |_, _| true).gap_ms;
    stage.figure("gap_ms", gap);
    stage.figure("moves_noticed", stage.ledger.link(0, 1).moves as f64);
    stage.figure("renewed", stage.ledger.link(0, 1).connections as f64 - 1.0);
    if gap > CLIENT_GAP_MS {
        stage.ledger.object("moves", format!("music paused for {gap:.0} ms when a router restarted"));
    }
    talk(stage).await;
}

/// After all that, both have something to say.
async fn talk(stage: &mut Stage) {
    for (from, to) in [(0, 1), (1, 0)] {
        for channel in [Channel::Control, Channel::Project] {
            for _ in 0..20 {
                if let Err(error) = stage.say(from, to, channel, 1_000) {
                    stage.ledger.object("messages", format!("{from}: {error}"));
                }
            }
        }
    }
    stage.sleep(5.0).await;
}
