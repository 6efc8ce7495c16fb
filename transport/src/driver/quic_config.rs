//! How our QUIC differs from quinn's and libp2p's defaults, and why. The wire stays libp2p's QUIC v1.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::{hmac, rand};
use libp2p::identity::Keypair;
use quinn::congestion::ControllerFactory;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{ClientConfig, EndpointConfig, IdleTimeout, ServerConfig, TransportConfig, VarInt};
use quinn_proto::HashedConnectionIdGenerator;
use quinn_proto::crypto::{CryptoError, HmacKey};

use super::congestion::DelayControllerFactory;

/// A peer that has said nothing for this long is gone. Four keep-alives: one lost packet must not end a jam.
pub(crate) const IDLE_TIMEOUT: Duration = Duration::from_secs(4);

const KEEP_ALIVE: Duration = Duration::from_secs(1);

/// First guess of the round trip. quinn's 333 ms means a lost first packet costs a second; on the paths a band plays
/// over, 100 ms is already long.
const INITIAL_RTT: Duration = Duration::from_millis(100);

/// How long one handshake may take: five transmissions of the first packet at [`INITIAL_RTT`].
pub(crate) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(4);

/// Room for one packetised period of 1024 frames of 24-bit stereo, twice for redundancy. What does not fit pushes out the
/// oldest: late audio is worth nothing.
const DATAGRAM_SEND_BUFFER_BYTES: usize = 16 * 1024;

/// About 0.3 s of eight streams, for a reader that was not scheduled.
const DATAGRAM_RECEIVE_BUFFER_BYTES: usize = 256 * 1024;

const MAX_SUBSTREAMS: u32 = 64;
const STREAM_WINDOW_BYTES: u32 = 4 * 1024 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 8 * 1024 * 1024;

/// Handshakes a stranger may make us hold before any of them is answered.
const MAX_WAITING_HANDSHAKES: usize = 256;
const MAX_WAITING_BYTES: u64 = 2 * 1024 * 1024;

/// Draws a first random number from the library that makes TLS's keys.
///
/// To seed itself it measures the processor's jitter, once in a process, and that keeps a processor busy for 30 ms. In
/// the first handshake, on a thread of realtime priority, this takes the processor from the music of everybody on the
/// machine. Call it before the thread takes that priority.
pub fn gather_entropy() {
    // Without entropy every handshake fails, and each of them says so.
    let _ = rand::fill(&mut [0; 32]);
}

type Congestion = Arc<dyn ControllerFactory + Send + Sync>;

/// Everything the transport needs to make endpoints and connections.
#[derive(Clone)]
pub(crate) struct QuicConfig {
    client: ClientConfig,
    server: ServerConfig,
    pub(crate) endpoint: EndpointConfig,
    /// In place of our own controller.
    congestion: Option<Congestion>,
}

/// The identity key cannot be used for TLS.
#[derive(Debug, thiserror::Error)]
#[error("the identity key cannot make a TLS certificate ({0}); it must be an Ed25519 key")]
pub struct KeyError(String);

impl QuicConfig {
    /// `seed` makes connection identifiers repeatable; `None` outside a simulation. `congestion` takes the place of our own
    /// controller.
    pub(crate) fn new(
        keypair: &Keypair,
        seed: Option<[u8; 32]>,
        congestion: Option<Congestion>,
    ) -> Result<Self, KeyError> {
        let tls = libp2p_tls::make_client_config(keypair, None).map_err(|e| KeyError(e.to_string()))?;
        let crypto = QuicClientConfig::try_from(tls).map_err(|e| KeyError(e.to_string()))?;
        let client = ClientConfig::new(Arc::new(crypto));

        let tls = libp2p_tls::make_server_config(keypair).map_err(|e| KeyError(e.to_string()))?;
        let crypto = QuicServerConfig::try_from(tls).map_err(|e| KeyError(e.to_string()))?;
        let mut server = ServerConfig::with_crypto(Arc::new(crypto));
        // A laptop that changes networks keeps its connections as long as it is the QUIC client on them.
        server.migration(true);
        server
            .max_incoming(MAX_WAITING_HANDSHAKES)
            .incoming_buffer_size(16 * 1024)
            .incoming_buffer_size_total(MAX_WAITING_BYTES);

        let mut endpoint = endpoint_config(keypair)?;
        endpoint.supported_versions(vec![1]).rng_seed(seed);
        Ok(Self { client, server, endpoint, congestion })
    }

    /// For one connection that we make.
    pub(crate) fn client(&self) -> ClientConfig {
        let mut client = self.client.clone();
        client.transport_config(self.transport());
        client
    }

    /// For one connection that is made to us; also what an endpoint answers with before there is any.
    pub(crate) fn server(&self) -> ServerConfig {
        let mut server = self.server.clone();
        server.transport_config(self.transport());
        server
    }

    fn transport(&self) -> Arc<TransportConfig> {
        let ours = || Arc::new(DelayControllerFactory::default()) as Congestion;
        Arc::new(transport_config(self.congestion.clone().unwrap_or_else(ours)))
    }
}

fn transport_config(congestion: Congestion) -> TransportConfig {
    let mut config = TransportConfig::default();
    config
        .max_concurrent_uni_streams(0u32.into())
        .max_concurrent_bidi_streams(MAX_SUBSTREAMS.into())
        .stream_receive_window(STREAM_WINDOW_BYTES.into())
        .receive_window(CONNECTION_WINDOW_BYTES.into())
        .datagram_send_buffer_size(DATAGRAM_SEND_BUFFER_BYTES)
        .datagram_receive_buffer_size(Some(DATAGRAM_RECEIVE_BUFFER_BYTES))
        .keep_alive_interval(Some(KEEP_ALIVE))
        .max_idle_timeout(Some(IdleTimeout::from(VarInt::from_u32(IDLE_TIMEOUT.as_millis() as u32))))
        .initial_rtt(INITIAL_RTT)
        .congestion_controller_factory(congestion)
        .enable_segmentation_offload(true)
        .allow_spin(false);
    config
}

/// Connection identifiers and stateless resets that outlive the process.
///
/// A node that was killed and is back on its port knows nothing of its old connections. With keys derived from the
/// identity it still recognises packets that belong to them and answers with a stateless reset (RFC 9000, section 10.3),
/// so its bandmates notice within one packet rather than after the idle timeout.
fn endpoint_config(keypair: &Keypair) -> Result<EndpointConfig, KeyError> {
    let secret = |domain: &[u8]| {
        keypair.derive_secret(domain).ok_or_else(|| KeyError("no secret can be derived from it".to_owned()))
    };
    let reset_key = ResetKey(hmac::Key::new(hmac::HMAC_SHA256, &secret(b"bandmesh stateless reset 1")?));
    let mut config = EndpointConfig::new(Arc::new(reset_key));
    let [a, b, c, d, e, f, g, h, ..] = secret(b"bandmesh connection id 1")?;
    let cid_key = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
    config.cid_generator(move || Box::new(HashedConnectionIdGenerator::from_key(cid_key)));
    Ok(config)
}

/// HMAC-SHA256. quinn has the same, but for one crypto library only, which depends on what else is built with it.
struct ResetKey(hmac::Key);

impl HmacKey for ResetKey {
    fn sign(&self, data: &[u8], signature: &mut [u8]) {
        let tag = hmac::sign(&self.0, data);
        for (to, from) in signature.iter_mut().zip(tag.as_ref()) {
            *to = *from;
        }
    }

    fn signature_len(&self) -> usize {
        hmac::HMAC_SHA256.digest_algorithm().output_len()
    }

    fn verify(&self, data: &[u8], signature: &[u8]) -> Result<(), CryptoError> {
        hmac::verify(&self.0, data, signature).map_err(|_| CryptoError)
    }
}
