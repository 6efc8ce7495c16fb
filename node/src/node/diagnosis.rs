//! "Why is it glitching?" in one sentence.
//!
//! A crackle sounds the same whoever made it: the sound card that missed a deadline, the machine that was busy, the Wi-Fi of
//! one player or one's own. But each leaves its own figures, and these tell them apart. The rules, in [`diagnose`], look at the
//! last [`WINDOW_S`] seconds; of several troubles the worst is named, and of equal ones the nearest to the player, as what is
//! wrong at home spoils everything else too. Nothing is blamed without evidence ([`Cause`]): gaps that nothing measured
//! explains are said to be unexplained. A pure function of figures.

use crate::{cli::printable, session::message::Strain};

/// Seconds that are judged: long enough that a dropout is still there when the player looks, short enough to clear soon.
pub const WINDOW_S: usize = 10;

/// Percent of the callback's time above which the machine is close to its limit.
const HIGH_LOAD_PERCENT: u32 = 80;
/// Percent of all processors above which the machine is busy.
const HIGH_CPU_PERCENT: u32 = 85;
/// Missed deadlines in the window that a player is bothered by.
const BAD_XRUNS: u32 = 3;
/// A thread that wakes up so late is late for the sound too: ten milliseconds are [`NOTICED_GAPS`] of the window.
const LATE_WAKE_MS: u32 = 10;
/// Share of a stream that was made up: one part in a thousand is a tick now and then, one in a hundred can be heard by
/// everybody.
const NOTICED_GAPS: f64 = 0.001;
const BAD_GAPS: f64 = 0.01;
/// Share of lost packets that is a sign of its own.
const HIGH_LOSS: f64 = 0.01;
/// Jitter that is a sign of its own. One packet that is held up raises RFC 3550's estimate by a sixteenth of its delay, so
/// below this none was held up for 16 ms, and a shorter hold makes no [`NOTICED_GAPS`].
const HIGH_JITTER_MS: f64 = 1.0;
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
    /// Nothing that is measured; whose sound it is about, if it is one member's.
    Unknown(Option<String>),
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
    /// How hard this machine worked.
    pub strain: Strain,
    /// Seconds in the window; at most [`WINDOW_S`].
    pub seconds: usize,
    /// The members.
    pub peers: Vec<PeerFigures>,
    /// Ids and names of those who were heard a while ago and cannot be reached now.
    pub unreachable: Vec<(String, String)>,
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
    /// How hard its machine worked, if it says so.
    pub strain: Option<Strain>,
    /// Whether somebody passes its packets on.
    pub relayed: bool,
    /// Bound of the error of its clock, us.
    pub clock_error_us: Option<f64>,
}

/// Names the culprit.
pub fn diagnose(figures: &Figures) -> Verdict {
    let heard = figures.peers.iter().filter(|peer| peer.seconds > 0);
    let everybody = heard.clone().all(|peer| is_silent(peer) || gaps(peer) >= NOTICED_GAPS);
    let troubles: Vec<Trouble<'_>> = heard
        .filter_map(|peer| Some(Trouble { peer, cause: cause(peer, &figures.strain, everybody)? }))
        .collect();
    let at_home = if everybody && troubles.len() > 1 { at_home(&troubles) } else { None };
    let mut worst = None;
    keep_worse(&mut worst, machine(figures, &troubles, everybody));
    match at_home {
        Some(verdict) => keep_worse(&mut worst, Some(verdict)),
        None => troubles.iter().for_each(|trouble| keep_worse(&mut worst, peer(trouble))),
    }
    for member in &figures.peers {
        keep_worse(&mut worst, distance(member));
    }
    for member in &figures.peers {
        keep_worse(&mut worst, clock(member));
    }
    keep_worse(&mut worst, missing(figures));
    worst.unwrap_or_else(|| all_is_well(figures))
}

fn keep_worse(worst: &mut Option<Verdict>, verdict: Option<Verdict>) {
    if let Some(verdict) = verdict
        && worst.as_ref().is_none_or(|known| verdict.severity > known.severity)
    {
        *worst = Some(verdict);
    }
}

/// A member whose sound has gaps.
struct Trouble<'a> {
    peer: &'a PeerFigures,
    cause: Cause,
}

/// Where gaps come from, by what speaks for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    /// Nothing comes.
    Silence,
    /// Packets are lost.
    Loss,
    /// Packets come unevenly.
    Jitter,
    /// This machine does not keep up.
    OurMachine,
    /// The member's machine says that it does not keep up.
    TheirMachine,
    /// Nothing that is measured.
    Unexplained,
}

/// What speaks for which cause of a member's gaps; `None` without gaps. A network is blamed for packets that were lost, or that
/// came unevenly while no machine was at its limit: a machine that is late reads its packets late, which looks the same.
fn cause(peer: &PeerFigures, ours: &Strain, everybody: bool) -> Option<Cause> {
    if is_silent(peer) {
        return Some(Cause::Silence);
    }
    let (gaps, loss) = (gaps(peer), loss(peer));
    if gaps < NOTICED_GAPS {
        return None;
    }
    let theirs = peer.strain.unwrap_or_default();
    let evidence = [
        // A few lost packets do not make many gaps.
        (loss >= HIGH_LOSS || loss >= gaps / 2.0, Cause::Loss),
        // Somebody who is heard well speaks for this machine.
        (everybody && is_at_its_limit(ours), Cause::OurMachine),
        (is_at_its_limit(&theirs), Cause::TheirMachine),
        (peer.jitter_ms >= HIGH_JITTER_MS, Cause::Jitter),
        (is_at_its_limit(ours) || has_stumbled(ours), Cause::OurMachine),
        (has_stumbled(&theirs), Cause::TheirMachine),
    ];
    let first = evidence.into_iter().find(|(speaks, _)| *speaks);
    Some(first.map_or(Cause::Unexplained, |(_, cause)| cause))
}

fn is_at_its_limit(strain: &Strain) -> bool {
    is_busy(strain) || strain.xruns >= BAD_XRUNS
}

fn is_busy(strain: &Strain) -> bool {
    strain.callback_percent >= HIGH_LOAD_PERCENT
        || strain.cpu_percent.is_some_and(|busy| busy >= HIGH_CPU_PERCENT)
}

fn has_stumbled(strain: &Strain) -> bool {
    strain.xruns > 0 || strain.wake_late_ms >= LATE_WAKE_MS
}

/// This machine and its sound card: what they missed, and whose sound came too late for that.
fn machine(figures: &Figures, troubles: &[Trouble<'_>], everybody: bool) -> Option<Verdict> {
    let name = printable(&figures.device);
    if figures.device_lost {
        return Some(Verdict {
            severity: Severity::Bad,
            sentence: format!("Your sound card {name} is gone: plug it in again or choose another."),
            culprit: Culprit::Device,
            remedy: Some(Remedy::BestDevice),
        });
    }
    let Strain { xruns, callback_percent, cpu_percent, wake_late_ms } = figures.strain;
    let late: Vec<&PeerFigures> = troubles
        .iter()
        .filter(|trouble| trouble.cause == Cause::OurMachine)
        .map(|trouble| trouble.peer)
        .collect();
    if xruns == 0 && callback_percent < HIGH_LOAD_PERCENT && late.is_empty() {
        return None;
    }
    let (culprit, who) = if is_busy(&figures.strain) {
        let cpu = cpu_percent.map(|busy| format!(" (CPU {busy} %)")).unwrap_or_default();
        (Culprit::Cpu, format!("Your machine is too busy{cpu}"))
    } else if xruns > 0 {
        let frames = figures.period_frames;
        (Culprit::Device, format!("Your sound card {name} does not keep up with {frames} frames"))
    } else {
        (Culprit::Cpu, format!("Your machine gave this program its turn up to {wake_late_ms} ms late"))
    };
    let mut what = Vec::new();
    if callback_percent >= HIGH_LOAD_PERCENT {
        what.push(format!("the sound took up to {callback_percent} % of its time"));
    }
    match xruns {
        0 if late.is_empty() => what.push("nothing was missed yet".to_owned()),
        0 => {}
        1 => what.push(format!("1 deadline was missed in the last {} s", figures.seconds)),
        _ => what.push(format!("{xruns} deadlines were missed in the last {} s", figures.seconds)),
    }
    let share = mean(late.iter().map(|peer| gaps(peer)));
    match late.as_slice() {
        [] => {}
        [one] if figures.peers.len() == 1 || !everybody => {
            what.push(format!(
                "{:.1} % of {}'s sound came too late to be played",
                100.0 * share,
                shown(&one.name)
            ));
        }
        _ => what.push(format!("{:.1} % of the others' sound came too late to be played", 100.0 * share)),
    }
    let longer = (2 * figures.period_frames).next_power_of_two().min(MAX_PROPOSED_PERIOD);
    let can_grow = !figures.period_is_fixed && longer > figures.period_frames;
    let advice = if can_grow { "" } else { "; close other programs" };
    let own = if xruns >= BAD_XRUNS { Severity::Bad } else { Severity::Notice };
    Some(Verdict {
        severity: own.max(severity(share)),
        sentence: format!("{who}: {}{advice}.", what.join(", and ")),
        culprit,
        remedy: can_grow.then_some(Remedy::Period(longer)),
    })
}

/// Trouble with everybody at once is at the one end that all have in common: this node's network if each of them shows what a
/// network does, and nobody knows where if none shows anything.
fn at_home(troubles: &[Trouble<'_>]) -> Option<Verdict> {
    let all = |causes: &[Cause]| troubles.iter().all(|trouble| causes.contains(&trouble.cause));
    let gaps = mean(troubles.iter().map(|trouble| gaps(trouble.peer)));
    let missing = format!("{:.1} % of everybody's sound is missing", 100.0 * gaps);
    let verdict = |severity, sentence, culprit| Some(Verdict { severity, sentence, culprit, remedy: None });
    let advice = "use a cable instead of Wi-Fi and stop downloads";
    if all(&[Cause::Silence]) {
        let sentence = format!("Your own connection falters: nothing comes from anybody; {advice}.");
        verdict(Severity::Bad, sentence, Culprit::Network)
    } else if all(&[Cause::Silence, Cause::Loss, Cause::Jitter]) {
        let loss = 100.0 * mean(troubles.iter().map(|trouble| loss(trouble.peer)));
        let jitter = troubles.iter().map(|trouble| trouble.peer.jitter_ms).fold(0.0, f64::max);
        let sentence = format!(
            "Your own connection falters: {missing} ({loss:.1} % of the packets lost, jitter up to {jitter:.0} ms); {advice}."
        );
        verdict(severity(gaps), sentence, Culprit::Network)
    } else if all(&[Cause::Unexplained]) {
        let sentence = format!(
            "{missing}, and it is not known why: no packets are lost, they come evenly, and no machine is at its limit."
        );
        verdict(severity(gaps), sentence, Culprit::Unknown(None))
    } else {
        None
    }
}

/// Trouble with one member.
fn peer(trouble: &Trouble<'_>) -> Option<Verdict> {
    let Trouble { peer, cause } = trouble;
    let name = shown(&peer.name);
    let gaps = gaps(peer);
    let missing = format!("{:.1} % of {name}'s sound is missing", 100.0 * gaps);
    let (percent, jitter) = (100.0 * loss(peer), peer.jitter_ms);
    let detour = if peer.relayed { " on the detour through a relay, as no direct way was found" } else { "" };
    let cable =
        if peer.relayed { "" } else { "; ask them to use a cable instead of Wi-Fi and stop downloads" };
    let mut culprit = Culprit::Peer(peer.id.clone());
    let sentence = match cause {
        Cause::Silence => {
            let seconds = peer.seconds;
            format!("Nothing has come from {name} for {seconds} s: their sound card or network stands still.")
        }
        Cause::Loss => format!("{missing}: {percent:.1} % of their packets are lost{detour}{cable}."),
        Cause::Jitter => {
            format!("{missing}: their packets come unevenly{detour} (jitter up to {jitter:.0} ms){cable}.")
        }
        Cause::TheirMachine => {
            let (why, advice) = their_machine(&peer.strain.unwrap_or_default());
            format!("{missing}: {why}; ask them to {advice}.")
        }
        // Said of the machine.
        Cause::OurMachine => return None,
        Cause::Unexplained => {
            culprit = Culprit::Unknown(Some(peer.id.clone()));
            let machine = if peer.strain.is_some() {
                "no machine is at its limit"
            } else {
                "this machine is not at its limit; theirs does not say"
            };
            format!(
                "{missing}, and it is not known why: no packets are lost, they come evenly, and {machine}."
            )
        }
    };
    let severity = if *cause == Cause::Silence { Severity::Bad } else { severity(gaps) };
    Some(Verdict { severity, sentence, culprit, remedy: None })
}

/// Why a member's machine is the culprit, and what its player can do.
fn their_machine(strain: &Strain) -> (String, &'static str) {
    let Strain { xruns, callback_percent, cpu_percent, wake_late_ms } = *strain;
    let busy = "close other programs";
    if let Some(cpu) = cpu_percent.filter(|cpu| *cpu >= HIGH_CPU_PERCENT) {
        return (format!("their machine is too busy (CPU {cpu} %)"), busy);
    }
    if callback_percent >= HIGH_LOAD_PERCENT {
        return (format!("their machine needs up to {callback_percent} % of its time for the sound"), busy);
    }
    match xruns {
        0 => (format!("their machine gave the program its turn up to {wake_late_ms} ms late"), busy),
        1 => ("their sound card missed a deadline".to_owned(), "use a longer period"),
        _ => (format!("their sound card missed {xruns} deadlines"), "use a longer period"),
    }
}

fn severity(gaps: f64) -> Severity {
    match gaps {
        bad if bad >= BAD_GAPS => Severity::Bad,
        some if some >= NOTICED_GAPS => Severity::Notice,
        _ => Severity::Good,
    }
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = values.fold((0.0, 0u32), |(sum, count), value| (sum + value, count + 1));
    sum / f64::from(count.max(1))
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

/// Last of all: whoever is away is seen to be, and comes back without anybody's help.
fn missing(figures: &Figures) -> Option<Verdict> {
    let (id, name) = figures.unreachable.first()?;
    let (sentence, culprit) = match figures.unreachable.len() {
        1 => (
            format!(
                "{} cannot be reached: their Bandmesh ended or their network did. They come back by themselves.",
                shown(name)
            ),
            Culprit::Peer(id.clone()),
        ),
        many if figures.peers.is_empty() => (
            format!("None of the {many} others can be reached: look after your own network first."),
            Culprit::Network,
        ),
        many => (
            format!("{} and {} more cannot be reached. They come back by themselves.", shown(name), many - 1),
            Culprit::Unknown(None),
        ),
    };
    Some(Verdict { severity: Severity::Notice, sentence, culprit, remedy: None })
}

fn all_is_well(figures: &Figures) -> Verdict {
    let sentence = match figures.peers.iter().filter(|peer| peer.seconds > 0).count() {
        0 => "All is well here; nobody else is in the session yet.".to_owned(),
        1 => "All is well: the other player is heard without gaps.".to_owned(),
        others => format!("All is well: the {others} others are heard without gaps."),
    };
    Verdict { sentence, ..Verdict::default() }
}

/// Share of a member's packets that did not come, 0 to 1.
fn loss(peer: &PeerFigures) -> f64 {
    peer.lost as f64 / (peer.lost + peer.received).max(1) as f64
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
mod tests;
