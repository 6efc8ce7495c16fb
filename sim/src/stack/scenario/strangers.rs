//! Strangers at the door of two who play.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use libp2p::identity::Keypair;
use quinn::{ClientConfig, Endpoint, EndpointConfig, TokioRuntime, crypto::rustls::QuicClientConfig};

use crate::{
    network::{HostId, Weather},
    stack::{
        host::Socket,
        stage::{PORT, Stage},
    },
};

const MEDIA_BYTES: usize = 268;

/// How long the flood lasts.
const FLOOD_S: f64 = 12.0;

/// How often each of the four crowds begins a handshake.
const KNOCK_EVERY_S: f64 = 0.04;

/// Handshakes begun when the friend comes.
const FRIEND_COMES_AFTER: u64 = 300;

/// How long the friend may take to get in, s.
const FRIEND_BOUND_S: f64 = 2.0;

/// What a flood may make a node hold more than before, once it is over and its handshakes have timed out.
const MAX_KEPT_BYTES: u64 = 4 * 1024 * 1024;

/// What a flood may add to the longest delay of the music, ms.
const MAX_ADDED_MS: f64 = 50.0;

/// Two nodes play; strangers flood one of them with handshakes. Some forge their address and never answer. Others are
/// real, with a new identity each, and once in say nothing. Meanwhile a friend joins.
pub async fn flood(stage: &mut Stage) {
    stage.add_hosts(3, Weather::calm(10.0));
    let crowd: Vec<HostId> = (0..4).map(|_| stage.add_host(super::Line::FREE, super::Line::FREE)).collect();
    let named = [stage.address(0)];
    stage.start(0, None, &[]);
    stage.start(1, None, &named);
    stage.meet(&[0, 1], 3.0).await;
    let begin = stage.now();
    let after = |seconds: f64| begin + Duration::from_secs_f64(seconds);
    let (flood_begin, flood_end, end) = (after(5.0), after(5.0 + FLOOD_S), after(15.0 + FLOOD_S));
    stage.play(0, &[1], MEDIA_BYTES, end);
    stage.play(1, &[0], MEDIA_BYTES, end);
    stage.agenda.sleep_until(flood_begin).await;
    let heap_before = (stage.machine.heap_bytes)();

    let victim = SocketAddr::new(stage.internet.address(0), PORT);
    let mut crowds = vec![];
    for (index, host) in crowd.iter().enumerate() {
        match crowd_on(stage, *host, index % 2 == 0) {
            Ok(endpoint) => crowds.push(endpoint),
            Err(error) => stage.ledger.object("start", format!("a crowd on {host}: {error}")),
        }
    }
    let mut kept = vec![];
    let mut begun = 0u64;
    let mut friend_came = None;
    while stage.now() < flood_end {
        for endpoint in &crowds {
            let key = stage.draw_key();
            if let Some(connecting) = knock(endpoint, &key, victim) {
                begun += 1;
                kept.push(tokio::spawn(async move {
                    // Whoever gets in stays until it is put out.
                    if let Ok(connection) = connecting.await {
                        connection.closed().await;
                    }
                }));
            }
        }
        if begun >= FRIEND_COMES_AFTER && friend_came.is_none() {
            friend_came = Some(stage.now());
            stage.start(2, None, &named);
        }
        stage.sleep(KNOCK_EVERY_S).await;
    }
    for endpoint in &crowds {
        endpoint.close(0u32.into(), b"");
    }
    kept.iter().for_each(|task| task.abort());
    drop((kept, crowds));
    stage.agenda.sleep_until(end).await;
    stage.meet(&[0, 1], 0.0).await;
    stage.meet(&[0, 2], 0.0).await;
    let waited = stage.ledger.link(0, 2).since.since(friend_came.unwrap_or(flood_end)).as_secs_f64();
    if waited > FRIEND_BOUND_S {
        stage.ledger.object("strangers", format!("a friend got in only after {waited:.1} s of a flood"));
    }

    let quiet = stage.ledger.media(after(1.0), flood_begin, |_, _| true);
    let busy = stage.ledger.media(flood_begin, flood_end, |_, _| true);
    let added = busy.max_ms - quiet.max_ms;
    if added > MAX_ADDED_MS || busy.lost > 0.0 || stage.ledger.link(1, 0).connections != 1 {
        let text = format!("the flood added {added:.1} ms to the music and lost {:.4} of it", busy.lost);
        stage.ledger.object("strangers", text);
    }
    // The crowds live in the same process, so what a flood costs meanwhile cannot be told from what it costs them.
    if let (Some(before), Some(now)) = (heap_before, (stage.machine.heap_bytes)()) {
        let kept = now.saturating_sub(before);
        stage.figure("heap_kept_mb", kept as f64 / 1e6);
        if kept > MAX_KEPT_BYTES {
            stage.ledger.object("memory", format!("of what a flood cost {kept} bytes stayed"));
        }
    }
    stage.figure("handshakes", begun as f64);
    stage.figure("added_ms", added);
    stage.figure("friend_waited_s", waited);
}

fn crowd_on(stage: &mut Stage, host: HostId, is_deaf: bool) -> std::io::Result<Endpoint> {
    let socket = Arc::new(Socket::any(&stage.internet, host, is_deaf)?);
    let mut config = EndpointConfig::default();
    config.rng_seed(Some(stage.random.bytes()));
    Endpoint::new_with_abstract_socket(config, None, socket, Arc::new(TokioRuntime))
}

/// Begins one handshake with an identity of its own.
fn knock(endpoint: &Endpoint, key: &Keypair, victim: SocketAddr) -> Option<quinn::Connecting> {
    let tls = libp2p_tls::make_client_config(key, None).ok()?;
    let config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).ok()?));
    endpoint.connect_with(config, victim, "l").ok()
}
