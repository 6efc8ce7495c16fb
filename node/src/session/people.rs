//! The session's part about people: what members tell of themselves, and what they touch.

use serde_json::Value;

use super::{
    Output, Session,
    member_state::ConnectionReading,
    message::{Control, MemberState, Strain, Touch},
    touch::{TouchError, Touches},
};

impl<P: Ord + Clone> Session<P> {
    /// Tells the members that this player sends sound, or not.
    pub fn set_muted(&mut self, now_ns: i64, muted: bool) {
        self.gossip.set_muted(muted);
        self.tell_people(now_ns);
    }

    /// How hard this machine worked in the last ten seconds; the members are told with what else there is to tell.
    pub fn set_strain(&mut self, strain: Strain) {
        self.gossip.set_strain(strain);
    }

    /// Whether this node takes part in its LAN's Link session and sees others there.
    pub fn set_in_link(&mut self, now_ns: i64, in_link: bool) {
        self.gossip.set_in_link(in_link);
        self.tell_people(now_ns);
    }

    /// Whether this node carries changes between the session and its LAN's Link session: the smallest peer id of those
    /// members `on_lan` who say that they see others in Link, and itself. A member without Link, or one that the network
    /// keeps from the others' Link, would do nothing there.
    pub fn leads_link<'a>(&'a self, now_ns: i64, on_lan: impl Iterator<Item = &'a P>) -> bool {
        self.acts_for(on_lan.filter(|peer| self.state_of(now_ns, peer).is_some_and(|state| state.in_link)))
    }

    /// What was measured of the links to all members; call about twice a second.
    pub fn handle_links(&mut self, now_ns: i64, readings: Vec<ConnectionReading<P>>) {
        self.gossip.observe(now_ns, readings);
        self.tell_people(now_ns);
    }

    /// What `peer` says of itself; `None` while it has not, or not lately.
    pub fn state_of(&self, now_ns: i64, peer: &P) -> Option<&MemberState> {
        self.gossip.of(now_ns, peer)
    }

    /// What this node says of itself.
    pub fn own_state(&self) -> &MemberState {
        self.gossip.own()
    }

    /// What people touch now.
    pub fn touches(&self) -> &Touches<P> {
        &self.touches
    }

    /// A page of this node holds `address`; see [`Touches::touch`].
    ///
    /// # Errors
    /// [`TouchError`].
    pub fn touch(
        &mut self,
        now_ns: i64,
        source: u32,
        address: &str,
        value: Option<Value>,
    ) -> Result<(), TouchError> {
        self.touches.touch(now_ns, source, address, value)?;
        self.tell_touches();
        Ok(())
    }

    /// Whether a member understands a stereo stream of which one channel is sent.
    pub fn takes_reduced(&self, peer: &P) -> bool {
        self.gossip.takes_reduced(peer)
    }

    /// A page of this node lets `address` go, or with `None` everything.
    pub fn let_go(&mut self, now_ns: i64, source: u32, address: Option<&str>) {
        match address {
            Some(address) => self.touches.end(now_ns, source, address),
            None => self.touches.forget_source(now_ns, source),
        }
        self.tell_touches();
    }

    /// The project has new values at these addresses, and whoever follows it has them.
    pub fn handle_project_followed(&mut self, addresses: &std::collections::BTreeSet<String>) {
        self.touches.settle(addresses);
        self.tell_touches();
    }

    pub(super) fn handle_state(&mut self, now_ns: i64, peer: &P, state: MemberState) {
        let first = !self.gossip.speaks(peer);
        if self.gossip.handle(now_ns, peer, state) {
            self.outputs.push_back(Output::StateChanged(peer.clone()));
        }
        self.gossip.set_follows(self.followed(now_ns).0);
        if first && self.gossip.speaks(peer) {
            // Whoever joins in the middle of a drag hears it too.
            for touch in self.touches.own().collect::<Vec<_>>() {
                self.outputs.push_back(Output::Send(peer.clone(), Control::Touch(touch)));
            }
        }
    }

    pub(super) fn handle_touch(&mut self, now_ns: i64, peer: &P, touch: Touch) {
        if self.is_member(peer) {
            self.touches.handle(now_ns, peer, touch);
            self.tell_touches();
        }
    }

    /// A member came: it is told once what it may not understand.
    pub(super) fn introduce(&mut self, now_ns: i64, peer: &P) {
        self.gossip.joined(now_ns, peer);
        self.gossip.set_follows(self.followed(now_ns).0);
        let state = self.gossip.own().clone();
        self.outputs.push_back(Output::Send(peer.clone(), Control::State(state)));
    }

    pub(super) fn forget_person(&mut self, peer: &P) {
        self.gossip.left(peer);
        self.touches.forget_peer(peer);
        self.tell_touches();
    }

    pub(super) fn tell_people(&mut self, now_ns: i64) {
        self.gossip.set_follows(self.followed(now_ns).0);
        if let Some(state) = self.gossip.poll(now_ns) {
            self.send_to_speakers(&Control::State(state));
        }
        self.touches.handle_deadline(now_ns);
        self.tell_touches();
    }

    pub(super) fn people_deadline(&self) -> Option<i64> {
        self.gossip.poll_deadline().into_iter().chain(self.touches.poll_deadline()).min()
    }

    fn tell_touches(&mut self) {
        while let Some(touch) = self.touches.poll_send() {
            self.send_to_speakers(&Control::Touch(touch));
        }
        let changed = self.touches.take_changed();
        if !changed.is_empty() {
            self.outputs.push_back(Output::TouchesChanged(changed));
        }
    }

    fn send_to_speakers(&mut self, message: &Control) {
        let speakers = self.peers.keys().filter(|peer| self.gossip.speaks(peer));
        for peer in speakers {
            self.outputs.push_back(Output::Send(peer.clone(), message.clone()));
        }
    }
}
