//! Apps find each other, agree, and part.

use super::*;

const MS: i64 = 1_000_000;
const QUANTUM: f64 = 4.0;

/// Apps on one network, each on a clock of its own, with a delay that changes between `fastest_ns` and half a ms more.
struct Lan {
    apps: Vec<Option<LinkPeer>>,
    offsets_ns: Vec<i64>,
    now_ns: i64,
    random: Random,
    under_way: Vec<(i64, HostId, HostId, Message)>,
}

impl Lan {
    fn new(offsets_ns: &[i64]) -> Self {
        let apps = offsets_ns.iter().map(|_| None).collect();
        let random = Random::new(5);
        Self { apps, offsets_ns: offsets_ns.to_vec(), now_ns: 0, random, under_way: vec![] }
    }

    fn local(&self, host: HostId) -> i64 {
        self.now_ns + self.offsets_ns[host]
    }

    fn start(&mut self, host: HostId, tempo_bpm: f64) {
        let random = self.random.fork(host as u64);
        self.apps[host] = Some(LinkPeer::new(self.local(host), tempo_bpm, random));
    }

    fn act(&mut self, host: HostId, act: impl FnOnce(&mut LinkPeer, i64)) {
        let now = self.local(host);
        act(self.apps[host].as_mut().unwrap(), now);
    }

    fn read(&self, host: HostId) -> Reading {
        self.apps[host].as_ref().unwrap().read(self.local(host))
    }

    fn run(&mut self, ms: i64) {
        for _ in 0..ms * 4 {
            self.now_ns += MS / 4;
            let now = self.now_ns;
            let (due, later) = self.under_way.drain(..).partition(|(at, ..)| *at <= now);
            self.under_way = later;
            let due: Vec<(i64, HostId, HostId, Message)> = due;
            for (_, from, to, message) in due {
                let local = self.local(to);
                if let Some(app) = &mut self.apps[to] {
                    app.handle_message(local, from, &message);
                }
            }
            for host in 0..self.apps.len() {
                let local = self.local(host);
                let others: Vec<HostId> = (0..self.apps.len()).filter(|other| *other != host).collect();
                let Some(app) = &mut self.apps[host] else { continue };
                if app.poll_deadline() <= local {
                    app.handle_deadline(local);
                }
                while let Some((to, message)) = app.poll() {
                    for to in others.iter().copied().filter(|other| to.is_none_or(|to| to == *other)) {
                        let delay = MS / 4 + self.random.below(MS as u64 / 2) as i64;
                        self.under_way.push((now + delay, host, to, message));
                    }
                }
            }
        }
    }
}

#[test]
fn whoever_joins_takes_the_tempo_beat_and_playback_of_the_older_session() {
    let mut lan = Lan::new(&[7_000_000_000, 400_000_000_000]);
    lan.start(0, 97.0);
    lan.act(0, |app, now| app.set_playing(now, true));
    lan.run(3_000);
    // The younger one has the smaller clock or the greater: only the sessions' ages count.
    lan.start(1, 140.0);
    lan.run(1_500);
    let (old, young) = (lan.read(0), lan.read(1));
    assert!((young.tempo_bpm - 97.0).abs() < 0.01 && young.playing, "{young:?}");
    assert_eq!((old.peers, young.peers), (1, 1));
    let apart_ms = apart(old.beat, young.beat, QUANTUM) * 60e3 / 97.0;
    assert!(apart_ms < 0.3, "{apart_ms} ms");
}

#[test]
fn the_latest_change_wins_and_a_tempo_change_keeps_the_beat() {
    let mut lan = Lan::new(&[0, 5 * MS, 9 * MS]);
    for host in 0..3 {
        lan.start(host, 120.0);
        lan.run(1_000);
    }
    let before = lan.read(2).beat;
    lan.act(2, |app, now| app.set_tempo(now, 60.0));
    assert_eq!(lan.read(2).beat, before);
    lan.run(100);
    lan.act(1, |app, now| app.set_tempo(now, 90.0));
    lan.run(100);
    for host in 0..3 {
        assert!((lan.read(host).tempo_bpm - 90.0).abs() < 0.01, "{host}");
        assert!(apart(lan.read(host).beat, lan.read(0).beat, QUANTUM) < 0.001);
    }
    lan.act(0, |app, now| app.force_beat(now, 2.5, QUANTUM));
    lan.run(10);
    let expected = 2.5 + 0.010 * 90.0 / 60.0;
    assert!(apart(lan.read(1).beat, expected, QUANTUM) < 0.002, "{}", lan.read(1).beat);
    // In bars of three the same beat is another place.
    lan.act(2, |app, now| app.force_beat(now, 7.0, 3.0));
    lan.run(10);
    assert!(apart(lan.read(0).beat, 1.0 + 0.010 * 90.0 / 60.0, 3.0) < 0.002, "{}", lan.read(0).beat);
}

#[test]
fn who_leaves_is_gone_at_once_and_who_vanishes_after_seconds() {
    let mut lan = Lan::new(&[0, 0, 0]);
    for host in 0..3 {
        lan.start(host, 120.0);
    }
    lan.run(2_000);
    assert_eq!(lan.read(0).peers, 2);
    lan.act(1, |app, _| app.leave());
    lan.run(1);
    lan.apps[1] = None;
    lan.run(1);
    assert_eq!(lan.read(0).peers, 1);
    lan.apps[2] = None;
    lan.run(4_000);
    assert_eq!(lan.read(0).peers, 1);
    lan.run(2_000);
    assert_eq!(lan.read(0).peers, 0);
}

#[test]
fn tempi_are_whole_microseconds_a_beat() {
    assert!((Beats::new(97.0).tempo_bpm() - 60e6 / 618_557.0).abs() < 1e-9);
    assert!((Beats::new(5_000.0).tempo_bpm() - 999.0).abs() < 0.02, "no faster than Link goes");
}
