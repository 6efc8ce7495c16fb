//! Somebody else's Ableton Link application.

use crate::lan::Host;
use rusty_link::{AblLink, SessionState};

/// A Link peer on a host: what Live or any Link app is to a node.
pub struct LinkApp {
    link: AblLink,
}

impl LinkApp {
    /// Starts an app whose own tempo is `tempo_bpm`, with start/stop sync.
    pub fn start(host: &Host, tempo_bpm: f64) -> Self {
        // Link's threads are made here, and so belong to the host.
        let link = host.run(|| {
            let link = AblLink::new(tempo_bpm);
            link.enable_start_stop_sync(true);
            link.enable(true);
            link
        });
        Self { link }
    }

    /// How many other Link peers it sees.
    pub fn peers(&self) -> u64 {
        self.link.num_peers()
    }

    /// The session's tempo as it sees it.
    pub fn tempo_bpm(&self) -> f64 {
        self.state().tempo()
    }

    /// Whether the session plays.
    pub fn is_playing(&self) -> bool {
        self.state().is_playing()
    }

    /// The phase now, in beats of a bar of `quantum`.
    pub fn phase(&self, quantum: f64) -> f64 {
        self.state().phase_at_time(self.link.clock_micros(), quantum)
    }

    /// Changes the tempo for everyone.
    pub fn set_tempo(&self, tempo_bpm: f64) {
        let mut state = self.state();
        state.set_tempo(tempo_bpm, self.link.clock_micros());
        self.link.commit_app_session_state(&state);
    }

    /// Starts or stops everyone.
    pub fn set_playing(&self, playing: bool) {
        let mut state = self.state();
        state.set_is_playing(playing, self.link.clock_micros());
        self.link.commit_app_session_state(&state);
    }

    fn state(&self) -> SessionState {
        let mut state = SessionState::new();
        self.link.capture_app_session_state(&mut state);
        state
    }
}

impl Drop for LinkApp {
    fn drop(&mut self) {
        self.link.enable(false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lan::Lan;
    use crate::wait::{eventually, seconds};

    #[test]
    fn two_apps_on_a_lan_share_tempo_and_play() {
        let lan = Lan::new(2);
        if !lan.can("Link between hosts") {
            return;
        }
        let (live, other) = (LinkApp::start(lan.host(0), 97.0), LinkApp::start(lan.host(1), 120.0));
        eventually(seconds(10), "they see each other", || live.peers() == 1 && other.peers() == 1);
        live.set_tempo(133.0);
        eventually(seconds(5), "the tempo is shared", || (other.tempo_bpm() - 133.0).abs() < 0.01);
        live.set_playing(true);
        eventually(seconds(5), "both play", || other.is_playing());
    }
}
