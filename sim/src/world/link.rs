//! Link apps and what they and the nodes say to each other on their local networks.

use super::{Event, World};
use crate::{
    link::{LinkPeer, Message, OCTETS},
    network::HostId,
};

impl World {
    pub(super) fn start_app(&mut self, id: HostId) {
        let now = self.now;
        let random = self.mesh_random.fork(id as u64 ^ now.0);
        let Some(host) = self.hosts.get_mut(id).filter(|host| host.app.is_none()) else { return };
        host.boot += 1;
        host.app = Some(LinkPeer::new(host.local_at(now), host.tempo_bpm, random));
        self.log.record(now, "started", id, 0, b"Link app");
        self.after_app(id);
    }

    /// Lets a Link app do something.
    pub(super) fn with_app(&mut self, id: HostId, act: impl FnOnce(&mut LinkPeer, i64)) {
        let now = self.now;
        let Some(host) = self.hosts.get_mut(id).filter(|host| host.asleep.is_none()) else { return };
        let local = host.local_at(now);
        let Some(app) = host.app.as_mut() else { return };
        act(app, local);
        self.after_app(id);
    }

    pub(super) fn wake_app(&mut self, id: HostId, boot: u32) {
        if self.hosts.get(id).is_some_and(|host| host.boot == boot) {
            self.with_app(id, |app, now| {
                if app.poll_deadline() <= now {
                    app.handle_deadline(now);
                }
            });
        }
    }

    pub(super) fn after_app(&mut self, id: HostId) {
        while let Some((to, message)) =
            self.hosts.get_mut(id).and_then(|host| host.app.as_mut()).and_then(LinkPeer::poll)
        {
            self.send_link(id, to, message);
        }
        let Some(host) = self.hosts.get_mut(id) else { return };
        let Some(app) = host.app.as_ref() else { return };
        let at = host.clock.world_at(app.poll_deadline()).max(self.now);
        if host.wake_at.is_none_or(|earlier| at < earlier || earlier <= self.now) {
            host.wake_at = Some(at);
            let boot = host.boot;
            self.schedule(at, Event::LinkWake { host: id, boot });
        }
    }

    pub(super) fn send_link(&mut self, from: HostId, to: Option<HostId>, message: Message) {
        let site = self.network.site(from);
        for host in (0..self.hosts.len()).filter(|host| *host != from && to.is_none_or(|to| to == *host)) {
            if self.network.site(host) == site
                && self.is_in_link(host)
                && let Some(at) = self.network.send_unprotected(self.now, from, host, OCTETS).arrival()
            {
                self.schedule(at, Event::Link { from, to: host, message });
            }
        }
    }

    pub(super) fn deliver_link(&mut self, from: HostId, to: HostId, message: &Message) {
        self.log.record(self.now, "link", from, to, format!("{message:?}").as_bytes());
        self.with_node(to, |node, now| node.handle_link(now, from, message));
        self.with_app(to, |app, now| app.handle_message(now, from, message));
    }

    /// Whether somebody on the host takes part in Link.
    pub(super) fn is_in_link(&self, id: HostId) -> bool {
        let Some(host) = self.hosts.get(id).filter(|host| host.asleep.is_none()) else { return false };
        host.app.is_some() || host.node.as_ref().is_some_and(crate::node::Node::is_in_link)
    }
}
