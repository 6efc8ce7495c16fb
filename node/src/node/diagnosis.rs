//! "Why is it glitching?" in one sentence.
//!
//! A crackle sounds the same whoever made it: the sound card that missed a deadline, the machine that was busy, the Wi-Fi of
//! one player or one's own. But each leaves its own figures, and these tell them apart. The rules, in [`diagnose`], look at the
//! last [`WINDOW_S`] seconds; of several troubles the worst is named, and of equal ones the nearest to the player, as what is
//! wrong at home spoils everything else too. A pure function of figures.

use crate::cli::printable;

/// Seconds that are judged: long enough that a dropout is still there when the player looks, short enough to clear soon.
pub const WINDOW_S: usize = 10;

/// Share of the callback's time above which the machine is close to its limit.
const HIGH_LOAD: f64 = 0.8;
/// Share of all processors above which the machine is busy.
const HIGH_CPU: f64 = 0.85;
/// Missed deadlines in the window that a player is bothered by.
const BAD_XRUNS: u64 = 3;
/// Share of a stream that was made up: one part in a thousand is a tick now and then, one in a hundred can be heard by
/// everybody.
const NOTICED_GAPS: f64 = 0.001;
const BAD_GAPS: f64 = 0.01;
/// Share of lost packets that is a sign of its own.
const HIGH_LOSS: f64 = 0.01;
/// Mouth to ear beyond which players slow each other down (Chafe et al., Rottondi et al.: 25 to 35 ms).
const FAR_MS: f64 = 35.0;
/// Bound of the clock's error beyond which beats of two players may sound apart.
const LOOSE_CLOCK_US: f64 = 15_000.0;
/// The largest period that is proposed.
const MAX_PROPOSED_PERIOD: u32 = 1024;

/// How bad it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Nothing to do.
    #[default]
    Good,
    /// Worth knowing.
    Notice,
    /// It can be heard.
    Bad,
}

/// Whose fault it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Culprit {
    /// Nobody's.
    #[default]
    None,
    /// The sound card.
    Device,
    /// The machine.
    Cpu,
    /// The way to this member.
    Peer(String),
    /// This node's own connection.
    Network,
    /// The clock of this member.
    Clock(String),
}

/// What should help.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// A longer period.
    Period(u32),
    /// The best device that is there.
    BestDevice,
}

/// The judgement.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// How bad it is.
    pub severity: Severity,
    /// One sentence.
    pub sentence: String,
    /// Whose fault.
    pub culprit: Culprit,
    /// What to do, if this program can do it.
    pub remedy: Option<Remedy>,
}

/// The last seconds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Figures {
    /// Name of the device.
    pub device: String,
    /// Whether it is gone.
    pub device_lost: bool,
    /// Whether its period is set elsewhere, as a JACK server's is.
    pub period_is_fixed: bool,
    /// Frames a callback.
    pub period_frames: u32,
    /// Deadlines missed in the window.
    pub xruns: u64,
    /// The longest callback over the time it had, in the window.
    pub callback_load: f64,
    /// Mean share of busy processors, 0 to 1, if known.
    pub cpu_busy: Option<f64>,
    /// Seconds in the window; at most [`WINDOW_S`].
    pub seconds: usize,
    /// The members.
    pub peers: Vec<PeerFigures>,
}

/// The last seconds of a member.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PeerFigures {
    /// Its id.
    pub id: String,
    /// Its name, a stranger's text.
    pub name: String,
    /// Seconds it was there for in the window.
    pub seconds: usize,
    /// Packets that came.
    pub received: u64,
    /// Packets missed.
    pub lost: u64,
    /// Packets that came too late.
    pub late: u64,
    /// Sound made up, ms.
    pub concealed_ms: f64,
    /// The largest jitter, ms.
    pub jitter_ms: f64,
    /// Mouth to ear, ms.
    pub one_way_ms: Option<f64>,
    /// Whether somebody passes its packets on.
    pub relayed: bool,
    /// Bound of the error of its clock, us.
    pub clock_error_us: Option<f64>,
}

/// Names the culprit.
pub fn diagnose(figures: &Figures) -> Verdict {
    let mut worst = None;
    for verdict in [device(figures), network(figures)].into_iter().chain(figures.peers.iter().map(peer)) {
        keep_worse(&mut worst, verdict);
    }
    for member in &figures.peers {
        keep_worse(&mut worst, distance(member));
    }
    for member in &figures.peers {
        keep_worse(&mut worst, clock(member));
    }
    worst.unwrap_or_else(|| all_is_well(figures))
}

fn keep_worse(worst: &mut Option<Verdict>, verdict: Option<Verdict>) {
    if let Some(verdict) = verdict
        && worst.as_ref().is_none_or(|known| verdict.severity > known.severity)
    {
        *worst = Some(verdict);
    }
}

fn device(figures: &Figures) -> Option<Verdict> {
    let name = printable(&figures.device);
    if figures.device_lost {
        return Some(Verdict {
            severity: Severity::Bad,
            sentence: format!("Your sound card {name} is gone: plug it in again or choose another."),
            culprit: Culprit::Device,
            remedy: Some(Remedy::BestDevice),
        });
    }
    let (xruns, load) = (figures.xruns, figures.callback_load);
    let cpu_busy = figures.cpu_busy.unwrap_or_default();
    let busy = load >= HIGH_LOAD || cpu_busy >= HIGH_CPU;
    if xruns == 0 && load < HIGH_LOAD {
        return None;
    }
    let missed = match xruns {
        0 => "nothing was missed yet".to_owned(),
        1 => format!("1 deadline was missed in the last {} s", figures.seconds),
        _ => format!("{xruns} deadlines were missed in the last {} s", figures.seconds),
    };
    let severity = if xruns >= BAD_XRUNS { Severity::Bad } else { Severity::Notice };
    let longer = (2 * figures.period_frames).next_power_of_two().min(MAX_PROPOSED_PERIOD);
    let can_grow = !figures.period_is_fixed && longer > figures.period_frames;
    let advice = if can_grow { "" } else { "; close other programs" };
    let (culprit, sentence) = if busy {
        let cpu = figures.cpu_busy.map(|busy| format!(" (CPU {:.0} %)", 100.0 * busy)).unwrap_or_default();
        let took = format!("the sound took up to {:.0} % of its time", 100.0 * load);
        (Culprit::Cpu, format!("Your machine is too busy{cpu}: {took}, and {missed}{advice}."))
    } else {
        let frames = figures.period_frames;
        (
            Culprit::Device,
            format!("Your sound card {name} does not keep up with {frames} frames: {missed}{advice}."),
        )
    };
    Some(Verdict { severity, sentence, culprit, remedy: can_grow.then_some(Remedy::Period(longer)) })
}

/// Trouble with everybody at once is at the one end that all have in common.
fn network(figures: &Figures) -> Option<Verdict> {
    let heard: Vec<&PeerFigures> = figures.peers.iter().filter(|peer| peer.seconds > 0).collect();
    let suffering = heard.iter().filter(|peer| gaps(peer) >= NOTICED_GAPS || is_silent(peer)).count();
    if suffering < 2 || suffering < heard.len() {
        return None;
    }
    let mean = heard.iter().map(|peer| gaps(peer)).sum::<f64>() / heard.len() as f64;
    let all_silent = heard.iter().all(|peer| is_silent(peer));
    let jitter = heard.iter().map(|peer| peer.jitter_ms).fold(0.0, f64::max);
    let what = if all_silent {
        "nothing comes from anybody".to_owned()
    } else {
        format!("{:.1} % of everybody's sound is missing, jitter up to {jitter:.0} ms", 100.0 * mean)
    };
    Some(Verdict {
        severity: if mean >= BAD_GAPS || all_silent { Severity::Bad } else { Severity::Notice },
        sentence: format!(
            "Your own connection falters: {what}; use a cable instead of Wi-Fi and stop downloads."
        ),
        culprit: Culprit::Network,
        remedy: None,
    })
}

fn peer(peer: &PeerFigures) -> Option<Verdict> {
    let name = shown(&peer.name);
    let verdict = |severity, sentence| {
        Some(Verdict { severity, sentence, culprit: Culprit::Peer(peer.id.clone()), remedy: None })
    };
    if is_silent(peer) {
        let sentence = format!(
            "Nothing has come from {name} for {} s: their sound card or network stands still.",
            peer.seconds
        );
        return verdict(Severity::Bad, sentence);
    }
    let gaps = gaps(peer);
    if gaps < NOTICED_GAPS {
        return None;
    }
    let severity = if gaps >= BAD_GAPS { Severity::Bad } else { Severity::Notice };
    let missing = format!("{:.1} % of {name}'s sound is missing", 100.0 * gaps);
    let loss = peer.lost as f64 / (peer.lost + peer.received).max(1) as f64;
    let sentence = if peer.relayed {
        format!("{missing}: their packets take a detour through a relay, as no direct way was found.")
    } else if loss >= HIGH_LOSS {
        let percent = 100.0 * loss;
        format!(
            "{missing}: {percent:.1} % of their packets are lost on the way; ask them to use a cable instead of Wi-Fi."
        )
    } else {
        let jitter = peer.jitter_ms;
        format!(
            "{missing}: their packets come unevenly (jitter {jitter:.0} ms); ask them to use a cable and stop downloads."
        )
    };
    verdict(severity, sentence)
}

fn distance(peer: &PeerFigures) -> Option<Verdict> {
    let ms = peer.one_way_ms.filter(|ms| *ms >= FAR_MS)?;
    let way = if peer.relayed { ", as packets go through a relay" } else { "" };
    Some(Verdict {
        severity: Severity::Notice,
        sentence: format!(
            "{} is {ms:.0} ms away{way}: too far for tight rhythm, fine for slow music.",
            shown(&peer.name)
        ),
        culprit: Culprit::Peer(peer.id.clone()),
        remedy: None,
    })
}

fn clock(peer: &PeerFigures) -> Option<Verdict> {
    let error_us = peer.clock_error_us.filter(|error| *error >= LOOSE_CLOCK_US)?;
    let (name, ms) = (shown(&peer.name), error_us / 1e3);
    Some(Verdict {
        severity: Severity::Notice,
        sentence: format!("{name}'s clock is known to {ms:.0} ms only: your beats may not fall together."),
        culprit: Culprit::Clock(peer.id.clone()),
        remedy: None,
    })
}

fn all_is_well(figures: &Figures) -> Verdict {
    let sentence = match figures.peers.iter().filter(|peer| peer.seconds > 0).count() {
        0 => "All is well here; nobody else is in the session yet.".to_owned(),
        1 => "All is well: the other player is heard without gaps.".to_owned(),
        others => format!("All is well: the {others} others are heard without gaps."),
    };
    Verdict { sentence, ..Verdict::default() }
}

/// Share of a member's sound that was made up, 0 to 1.
fn gaps(peer: &PeerFigures) -> f64 {
    peer.concealed_ms / (1e3 * peer.seconds.max(1) as f64)
}

/// A member that is there and of whom no packet came: three seconds are more than any path's hiccup.
fn is_silent(peer: &PeerFigures) -> bool {
    peer.seconds >= 3 && peer.received == 0
}

fn shown(name: &str) -> String {
    let name: String = printable(name).chars().take(64).collect();
    if name.trim().is_empty() { "A player".to_owned() } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn well() -> Figures {
        Figures {
            device: "hw:PCH".into(),
            period_frames: 128,
            callback_load: 0.1,
            cpu_busy: Some(0.2),
            seconds: 10,
            peers: vec![player("maya"), player("lee"), player("bob")],
            ..Figures::default()
        }
    }

    fn player(id: &str) -> PeerFigures {
        PeerFigures {
            id: id.into(),
            name: id.to_uppercase(),
            seconds: 10,
            received: 3_750,
            jitter_ms: 0.4,
            one_way_ms: Some(8.0),
            clock_error_us: Some(200.0),
            ..PeerFigures::default()
        }
    }

    fn change(change: impl FnOnce(&mut Figures)) -> Verdict {
        let mut figures = well();
        change(&mut figures);
        let verdict = diagnose(&figures);
        assert!(verdict.sentence.ends_with('.') && verdict.sentence.len() < 250, "{}", verdict.sentence);
        verdict
    }

    #[test]
    fn nothing_wrong_names_nobody() {
        let verdict = change(|_| ());
        assert_eq!(
            (verdict.severity, &verdict.culprit, &verdict.remedy),
            (Severity::Good, &Culprit::None, &None)
        );
        assert!(verdict.sentence.contains('3'), "{}", verdict.sentence);
        assert!(change(|f| f.peers.clear()).sentence.contains("nobody else"));
    }

    #[test]
    fn card_that_misses_deadlines_on_an_idle_machine_gets_a_longer_period() {
        let verdict = change(|f| f.xruns = 7);
        assert_eq!((verdict.severity, &verdict.culprit), (Severity::Bad, &Culprit::Device));
        assert_eq!(verdict.remedy, Some(Remedy::Period(256)));
        assert!(
            verdict.sentence.contains("hw:PCH") && verdict.sentence.contains("7 deadlines"),
            "{}",
            verdict.sentence
        );
        assert_eq!(change(|f| f.xruns = 1).severity, Severity::Notice);
        let jack = change(|f| (f.xruns, f.period_is_fixed) = (7, true));
        assert_eq!(jack.remedy, None);
        assert_eq!(change(|f| (f.xruns, f.period_frames) = (7, 1024)).remedy, None);
        assert_eq!(change(|f| (f.xruns, f.period_frames) = (7, 441)).remedy, Some(Remedy::Period(1024)));
    }

    #[test]
    fn busy_machine_is_named_with_its_figure() {
        let verdict = change(|f| (f.xruns, f.callback_load, f.cpu_busy) = (5, 1.3, Some(0.92)));
        assert_eq!((verdict.severity, &verdict.culprit), (Severity::Bad, &Culprit::Cpu));
        assert!(
            verdict.sentence.contains("CPU 92 %") && verdict.sentence.contains("130 %"),
            "{}",
            verdict.sentence
        );
        // Close to the limit is said before anything breaks.
        let early = change(|f| f.callback_load = 0.9);
        assert_eq!((early.severity, early.culprit), (Severity::Notice, Culprit::Cpu));
    }

    #[test]
    fn lost_card_comes_before_everything() {
        let verdict = change(|f| {
            f.device_lost = true;
            f.peers.iter_mut().for_each(|peer| peer.concealed_ms = 5_000.0);
        });
        assert_eq!((verdict.culprit, verdict.remedy), (Culprit::Device, Some(Remedy::BestDevice)));
    }

    #[test]
    fn one_players_trouble_is_that_players() {
        let jitter = change(|f| (f.peers[0].concealed_ms, f.peers[0].jitter_ms) = (300.0, 38.0));
        assert_eq!((jitter.severity, &jitter.culprit), (Severity::Bad, &Culprit::Peer("maya".into())));
        assert!(
            jitter.sentence.contains("MAYA") && jitter.sentence.contains("jitter 38 ms"),
            "{}",
            jitter.sentence
        );
        let loss = change(|f| (f.peers[1].concealed_ms, f.peers[1].lost) = (300.0, 200));
        assert!(
            loss.sentence.contains("LEE") && loss.sentence.contains("5.1 % of their packets"),
            "{}",
            loss.sentence
        );
        let relay = change(|f| (f.peers[1].concealed_ms, f.peers[1].relayed) = (300.0, true));
        assert!(relay.sentence.contains("relay"), "{}", relay.sentence);
        let silent = change(|f| f.peers[2].received = 0);
        assert_eq!((silent.severity, silent.culprit), (Severity::Bad, Culprit::Peer("bob".into())));
        assert_eq!(change(|f| f.peers[0].concealed_ms = 20.0).severity, Severity::Notice);
        assert_eq!(change(|f| f.peers[0].concealed_ms = 5.0).severity, Severity::Good);
    }

    #[test]
    fn trouble_with_everybody_is_at_home() {
        let verdict = change(|f| f.peers.iter_mut().for_each(|peer| peer.concealed_ms = 400.0));
        assert_eq!((verdict.severity, &verdict.culprit), (Severity::Bad, &Culprit::Network));
        assert!(verdict.sentence.contains("4.0 %"), "{}", verdict.sentence);
        let silence = change(|f| f.peers.iter_mut().for_each(|peer| peer.received = 0));
        assert_eq!((silence.severity, silence.culprit), (Severity::Bad, Culprit::Network));
        // With one other player nobody can say whose end it is.
        let pair = change(|f| {
            f.peers.truncate(1);
            f.peers[0].concealed_ms = 400.0;
        });
        assert_eq!(pair.culprit, Culprit::Peer("maya".into()));
    }

    #[test]
    fn distance_and_clock_are_mentioned_when_nothing_worse_is_wrong() {
        let far = change(|f| f.peers[0].one_way_ms = Some(61.0));
        assert_eq!((far.severity, &far.culprit), (Severity::Notice, &Culprit::Peer("maya".into())));
        assert!(far.sentence.contains("61 ms"), "{}", far.sentence);
        let clock = change(|f| f.peers[1].clock_error_us = Some(20_000.0));
        assert_eq!((clock.severity, clock.culprit), (Severity::Notice, Culprit::Clock("lee".into())));
        let both = change(|f| {
            f.peers[0].one_way_ms = Some(61.0);
            f.peers[1].concealed_ms = 300.0;
        });
        assert_eq!(both.culprit, Culprit::Peer("lee".into()));
    }

    #[test]
    fn names_cannot_spoil_the_sentence() {
        let verdict = change(|f| {
            f.peers[0].name = format!("\u{202e}<b>{}\n\u{1b}[2J", "x".repeat(10_000));
            f.peers[0].concealed_ms = 300.0;
        });
        assert!(!verdict.sentence.contains(['\n', '\u{1b}', '\u{202e}']), "{}", verdict.sentence);
    }
}
