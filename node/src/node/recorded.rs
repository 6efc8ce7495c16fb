//! The session, each call of which goes into the trace.
//!
//! Whoever holds it may look at everything the session shows. Changing it takes one of the methods here: a change that was
//! not recorded could not be replayed.

use std::{collections::BTreeSet, ops::Deref};

use bytes::Bytes;
use serde_json::Value;
use transport::PeerId;

use crate::{
    session::{
        Identity, Output, Session,
        beat::BeatRegister,
        member_state::ConnectionReading,
        message::{DecodeError, Strain, StreamInfo},
        touch::TouchError,
    },
    trace::{
        Recorder,
        record::{self, PacketCall, Record, SessionCall, Way},
    },
};

/// A [`Session`] and where its calls are recorded.
pub struct RecordedSession {
    session: Session<PeerId>,
    recorder: Recorder,
}

impl Deref for RecordedSession {
    type Target = Session<PeerId>;

    fn deref(&self) -> &Session<PeerId> {
        &self.session
    }
}

impl RecordedSession {
    /// [`Session::new`].
    pub fn new(
        me: Identity<PeerId>,
        now_ns: i64,
        tempo_bpm: f64,
        beats_per_bar: u8,
        recorder: Recorder,
    ) -> Self {
        recorder.record(|| Record::Session {
            at_ns: now_ns,
            call: SessionCall::New {
                author: me.author,
                session: me.session.clone(),
                incarnation: me.incarnation,
                timebase: me.timebase,
                stream: me.stream,
                tempo_bpm,
                beats_per_bar,
            },
        });
        Self { session: Session::new(me, now_ns, tempo_bpm, beats_per_bar), recorder }
    }

    /// [`Session::handle_connected`].
    pub fn handle_connected(&mut self, now_ns: i64, peer: PeerId) {
        self.record(now_ns, || SessionCall::Connected(peer));
        self.session.handle_connected(now_ns, peer);
    }

    /// [`Session::handle_disconnected`].
    pub fn handle_disconnected(&mut self, now_ns: i64, peer: &PeerId) {
        self.record(now_ns, || SessionCall::Disconnected(*peer));
        self.session.handle_disconnected(peer);
    }

    /// [`Session::handle_frame`].
    ///
    /// # Errors
    /// The same.
    pub fn handle_frame(&mut self, now_ns: i64, peer: &PeerId, frame: &Bytes) -> Result<(), DecodeError> {
        let answer = self.session.handle_frame(now_ns, peer, frame);
        self.recorder.incoming(now_ns.unsigned_abs(), peer, Way::Control, frame, || {
            Some(PacketCall::Session(format!("{answer:?}")))
        });
        answer
    }

    /// [`Session::handle_clock`].
    pub fn handle_clock(&mut self, now_ns: i64, peer: &PeerId, clock_offset_ns: i64) {
        self.record(now_ns, || SessionCall::Clock(*peer, clock_offset_ns));
        self.session.handle_clock(now_ns, peer, clock_offset_ns);
    }

    /// [`Session::handle_deadline`].
    pub fn handle_deadline(&mut self, now_ns: i64) {
        self.record(now_ns, || SessionCall::Deadline);
        self.session.handle_deadline(now_ns);
    }

    /// [`Session::poll`].
    pub fn poll(&mut self, now_ns: impl FnOnce() -> i64) -> Option<Output<PeerId>> {
        let output = self.session.poll()?;
        self.recorder.record(|| Record::Session {
            at_ns: now_ns(),
            call: SessionCall::Output(record::bounded(format!("{output:?}"))),
        });
        Some(output)
    }

    /// [`Session::change_beat`].
    pub fn change_beat(&mut self, now_ns: i64, change: impl FnOnce(&BeatRegister, i64, u64) -> BeatRegister) {
        let recorder = &self.recorder;
        self.session.change_beat(now_ns, |register, at, author| {
            let next = change(register, at, author);
            recorder.record(|| Record::Session { at_ns: now_ns, call: SessionCall::ChangeBeat(next) });
            next
        });
    }

    /// [`Session::change_stream`].
    pub fn change_stream(&mut self, now_ns: i64, stream: StreamInfo) {
        self.record(now_ns, || SessionCall::ChangeStream(stream));
        self.session.change_stream(stream);
    }

    /// [`Session::rename`].
    pub fn rename(&mut self, now_ns: i64, name: String) {
        self.record(now_ns, || SessionCall::Rename(name.clone()));
        self.session.rename(name);
    }

    /// [`Session::set_muted`].
    pub fn set_muted(&mut self, now_ns: i64, muted: bool) {
        self.record(now_ns, || SessionCall::SetMuted(muted));
        self.session.set_muted(now_ns, muted);
    }

    /// [`Session::set_strain`].
    pub fn set_strain(&mut self, now_ns: i64, strain: Strain) {
        self.record(now_ns, || SessionCall::SetStrain(strain));
        self.session.set_strain(strain);
    }

    /// [`Session::set_in_link`], recorded where it changes something.
    pub fn set_in_link(&mut self, now_ns: i64, in_link: bool) {
        if self.session.own_state().in_link != in_link {
            self.record(now_ns, || SessionCall::SetInLink(in_link));
            self.session.set_in_link(now_ns, in_link);
        }
    }

    /// [`Session::handle_links`].
    pub fn handle_links(&mut self, now_ns: i64, readings: Vec<ConnectionReading<PeerId>>) {
        self.record(now_ns, || SessionCall::Links(readings.iter().map(Into::into).collect()));
        self.session.handle_links(now_ns, readings);
    }

    /// [`Session::touch`].
    ///
    /// # Errors
    /// The same.
    pub fn touch(
        &mut self,
        now_ns: i64,
        source: u32,
        address: &str,
        value: Option<Value>,
    ) -> Result<(), TouchError> {
        self.record(now_ns, || SessionCall::Touch {
            source,
            address: record::bounded(address.to_owned()),
            value: value.as_ref().map(|value| record::bounded(value.to_string())),
        });
        self.session.touch(now_ns, source, address, value)
    }

    /// [`Session::let_go`].
    pub fn let_go(&mut self, now_ns: i64, source: u32, address: Option<&str>) {
        self.record(now_ns, || SessionCall::LetGo {
            source,
            address: address.map(|address| record::bounded(address.to_owned())),
        });
        self.session.let_go(now_ns, source, address);
    }

    /// [`Session::handle_project_followed`].
    pub fn handle_project_followed(&mut self, now_ns: i64, addresses: &BTreeSet<String>) {
        self.record(now_ns, || SessionCall::ProjectFollowed(addresses.clone()));
        self.session.handle_project_followed(addresses);
    }

    /// [`Session::leave`].
    pub fn leave(&mut self, now_ns: i64) {
        self.record(now_ns, || SessionCall::Leave);
        self.session.leave();
    }

    fn record(&self, at_ns: i64, call: impl FnOnce() -> SessionCall) {
        self.recorder.record(|| Record::Session { at_ns, call: call() });
    }
}
