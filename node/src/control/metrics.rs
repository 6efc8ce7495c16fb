//! `/metrics`: the node's figures as Prometheus text.
//!
//! Nothing is kept twice: a scrape asks the backend for status and peers and writes those, so the figures agree with the
//! JSON. Only the server's own counters live here.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use axum::http::StatusCode;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use crate::control::backend::{Metric, MetricKind};
use crate::control::limits;
use crate::control::routes::Shared;
use crate::control::types::{Peer, PeerState, Status};

/// Media type of the OpenMetrics text that Prometheus reads.
pub(crate) const MEDIA_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The control server's own counters.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    answers_ok: AtomicU64,
    answers_refused: AtomicU64,
    answers_failed: AtomicU64,
    pub(crate) connections: AtomicI64,
    pub(crate) connections_closed_for_others: AtomicU64,
    pub(crate) connections_refused: AtomicU64,
    pub(crate) sockets_too_slow: AtomicU64,
}

impl Counters {
    pub(crate) fn count_answer(&self, status: StatusCode) {
        let counter = match status.as_u16() {
            ..400 => &self.answers_ok,
            400..500 => &self.answers_refused,
            500.. => &self.answers_failed,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// All figures as text.
pub(crate) fn render(shared: &Shared) -> Result<String, fmt::Error> {
    let mut metrics = Vec::new();
    let mut figures = Figures { metrics: &mut metrics, labels: Vec::new() };
    figures.status(&shared.backend.status());
    let peers = shared.backend.peers();
    figures.gauge("peers", "Other nodes of the session within reach", connected(&peers));
    for peer in &peers {
        figures.labels = vec![("peer_id", peer.peer_id.clone()), ("name", peer.name.clone())];
        figures.peer(peer);
    }
    figures.labels.clear();
    figures.server(shared);
    metrics.extend(shared.backend.metrics());

    let mut registry = Registry::with_prefix("bandmesh");
    registry.register_collector(Box::new(Scrape(metrics)));
    let mut text = String::new();
    encode(&mut text, &registry)?;
    Ok(text)
}

fn connected(peers: &[Peer]) -> f64 {
    peers.iter().filter(|peer| peer.state == PeerState::Connected).count() as f64
}

struct Figures<'a> {
    metrics: &'a mut Vec<Metric>,
    labels: Vec<(&'static str, String)>,
}

impl Figures<'_> {
    fn push(&mut self, kind: MetricKind, name: &'static str, help: &'static str, value: f64) {
        self.metrics.push(Metric { name, help, kind, labels: self.labels.clone(), value });
    }

    fn gauge(&mut self, name: &'static str, help: &'static str, value: f64) {
        self.push(MetricKind::Gauge, name, help, value);
    }

    fn counter(&mut self, name: &'static str, help: &'static str, value: u64) {
        self.push(MetricKind::Counter, name, help, value as f64);
    }

    fn status(&mut self, status: &Status) {
        self.labels = vec![
            ("version", status.version.clone()),
            ("peer_id", status.peer_id.clone()),
            ("name", status.name.clone()),
        ];
        self.gauge("node_info", "Who this node is", 1.0);
        self.labels.clear();
        self.gauge("uptime_seconds", "Time since the node started", status.uptime_s);
        self.gauge("warnings", "Things the player should know now", status.warnings.len() as f64);
        self.gauge("audio_rate_hz", "Frames a second of the device", f64::from(status.audio.rate_hz));
        self.gauge("audio_period_frames", "Frames a callback", f64::from(status.audio.period_frames));
        self.counter("audio_xruns", "Callbacks the device missed", status.audio.xruns);
        self.gauge(
            "audio_callback_max_us",
            "Longest callback of the last seconds",
            status.audio.callback_max_us,
        );
        self.gauge("audio_input_peak_db", "Highest input sample", f64::from(status.audio.input_peak_db));
        self.gauge("audio_output_peak_db", "Highest output sample", f64::from(status.audio.output_peak_db));
        self.gauge("link_peers", "Other Link programs on this LAN", status.link.peers as f64);
        self.gauge("tempo_bpm", "Tempo in beats a minute", status.link.tempo_bpm);
        self.gauge("playing", "Whether playback runs", f64::from(u8::from(status.link.playing)));
        self.gauge("project_changes", "Changes in the project's history", status.doc.changes as f64);
        self.gauge("project_saved", "Whether all is on disk", f64::from(u8::from(status.doc.saved)));
    }

    fn peer(&mut self, peer: &Peer) {
        let is_connected = f64::from(u8::from(peer.state == PeerState::Connected));
        self.gauge("peer_connected", "Whether the node is within reach", is_connected);
        if let Some(rtt_ms) = peer.rtt_ms {
            self.gauge("peer_rtt_ms", "Round trip of the network", rtt_ms);
        }
        if let Some(clock) = peer.clock {
            self.gauge("peer_clock_offset_us", "Its clock minus ours", clock.offset_us);
            self.gauge("peer_clock_error_us", "Bound of the offset's error", clock.error_us);
            self.gauge("peer_clock_drift_ppm", "How fast the offset grows", clock.drift_ppm);
        }
        let Some(audio) = &peer.audio else { return };
        if let Some(one_way_ms) = audio.one_way_ms {
            self.gauge("peer_one_way_ms", "Mouth to ear between the two engines", one_way_ms);
        }
        self.gauge(
            "peer_playout_delay_ms",
            "Time a packet waits before it is played",
            audio.playout_delay_ms,
        );
        self.gauge("peer_jitter_ms", "Interarrival jitter of RFC 3550", audio.jitter_ms);
        self.counter("peer_received_packets", "Packets that came", audio.received);
        self.counter("peer_lost_packets", "Packets that never came", audio.lost);
        self.counter("peer_late_packets", "Packets that came after their time", audio.late);
        self.counter("peer_recovered_packets", "Packets won back by redundancy", audio.recovered);
        self.counter("peer_concealed_frames", "Frames made up", audio.concealed_frames);
        self.counter("peer_buffer_resets", "Times the stream began anew", audio.buffer_resets);
    }

    fn server(&mut self, shared: &Shared) {
        let counters = &shared.counters;
        for (class, counter) in [
            ("ok", &counters.answers_ok),
            ("refused", &counters.answers_refused),
            ("failed", &counters.answers_failed),
        ] {
            self.labels = vec![("outcome", class.to_owned())];
            self.counter("control_requests", "Requests by outcome", counter.load(Ordering::Relaxed));
        }
        self.labels.clear();
        let connections = counters.connections.load(Ordering::Relaxed);
        self.gauge("control_connections", "HTTP connections held", connections as f64);
        let sockets = limits::MAX_SOCKETS.saturating_sub(shared.sockets.available_permits());
        self.gauge("control_sockets", "WebSockets held", sockets as f64);
        for (name, help, counter) in [
            (
                "control_connections_closed_for_others",
                "Idle connections closed to make room",
                &counters.connections_closed_for_others,
            ),
            (
                "control_connections_refused",
                "Connections refused at the limit",
                &counters.connections_refused,
            ),
            ("control_sockets_too_slow", "WebSockets closed for not reading", &counters.sockets_too_slow),
        ] {
            self.counter(name, help, counter.load(Ordering::Relaxed));
        }
        for (limit, value) in [
            ("connections", limits::MAX_CONNECTIONS),
            ("sockets", limits::MAX_SOCKETS),
            ("head_bytes", limits::MAX_HEAD_BYTES),
            ("body_bytes", limits::MAX_BODY_BYTES),
            ("commands", limits::MAX_COMMANDS),
            ("pending_commands", limits::MAX_PENDING_COMMANDS),
            ("socket_message_bytes", limits::MAX_SOCKET_MESSAGE_BYTES),
            ("tickets", limits::MAX_TICKETS),
            ("log_lines", limits::MAX_LOG_LINES),
        ] {
            self.labels = vec![("what", limit.to_owned())];
            self.gauge("control_limit", "What the control server holds at most", value as f64);
        }
    }
}

#[derive(Debug)]
struct Scrape(Vec<Metric>);

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let mut families: BTreeMap<&str, Vec<&Metric>> = BTreeMap::new();
        for metric in &self.0 {
            families.entry(metric.name).or_default().push(metric);
        }
        for (name, members) in families {
            let Some(first) = members.first() else { continue };
            let metric_type = match first.kind {
                MetricKind::Counter => MetricType::Counter,
                MetricKind::Gauge => MetricType::Gauge,
            };
            let mut family = encoder.encode_descriptor(name, first.help, None, metric_type)?;
            for member in &members {
                if member.labels.is_empty() {
                    encode_value(member, family)?;
                    break;
                }
                encode_value(member, family.encode_family(&member.labels)?)?;
            }
        }
        Ok(())
    }
}

fn encode_value(metric: &Metric, encoder: MetricEncoder<'_>) -> fmt::Result {
    match metric.kind {
        MetricKind::Counter => ConstCounter::new(metric.value).encode(encoder),
        MetricKind::Gauge => ConstGauge::new(metric.value).encode(encoder),
    }
}
