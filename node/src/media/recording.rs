//! One member's calls on their way into a trace.

use bytes::Bytes;
use transport::{PeerId, rtp::report::ReportBlock, time::LocalTime};

use super::Moment;
use crate::trace::{
    Recorder,
    record::{self, PacketCall, Push, ReceiveCall, Record, Way},
};

/// Where the calls of one member's receiving half go; the default one keeps nothing.
#[derive(Default)]
pub struct Recording {
    to: Option<(Recorder, PeerId)>,
    /// Handed to the engine since the latest call was recorded.
    pushed: Vec<Push>,
}

impl Recording {
    /// Calls about `peer`, for `recorder` if that is on.
    pub fn new(recorder: &Recorder, peer: PeerId) -> Self {
        Self { to: recorder.is_on().then(|| (recorder.clone(), peer)), pushed: Vec::new() }
    }

    /// Records a call.
    pub fn call(&mut self, make: impl FnOnce() -> ReceiveCall) {
        self.call_with_pushed(|_| make());
    }

    /// Records a call that may have handed blocks to the engine.
    pub fn call_with_pushed(&mut self, make: impl FnOnce(Vec<Push>) -> ReceiveCall) {
        if let Some((recorder, peer)) = &self.to {
            let pushed = std::mem::take(&mut self.pushed);
            recorder.record(|| Record::Receive { peer: *peer, call: make(pushed) });
        }
    }

    /// Records a datagram that was handled at `at`, with what became of it.
    pub fn datagram(&mut self, at: Moment, datagram: &Bytes, refused: u64, blocks: &[ReportBlock]) {
        if let Some((recorder, peer)) = &self.to {
            let pushed = std::mem::take(&mut self.pushed);
            recorder.incoming(at.local.as_nanos(), peer, Way::Datagram, datagram, || {
                let blocks = record::bounded(format!("{blocks:?}"));
                Some(PacketCall::Receive { at: at.into(), pushed, refused, blocks })
            });
        }
    }

    /// Records a clock datagram made at `now`.
    pub fn clock(&mut self, now: LocalTime, datagram: Option<&Bytes>) {
        if let Some(datagram) = datagram {
            self.call(|| ReceiveCall::Clock { at_ns: now.as_nanos(), datagram: datagram.to_vec() });
        }
    }

    /// Notes a block that went to the engine.
    pub fn push(&mut self, timestamp_frames: i64, samples: &[f32], taken: bool) {
        if self.to.is_some() {
            let (samples, hash) = (samples.len() as u32, engine::hash(samples));
            self.pushed.push(Push { timestamp_frames, samples, hash, taken });
        }
    }
}
