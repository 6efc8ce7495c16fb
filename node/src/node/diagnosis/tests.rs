use super::*;

fn idle() -> Strain {
    Strain { xruns: 0, callback_percent: 10, cpu_percent: Some(20), wake_late_ms: 1 }
}

fn well() -> Figures {
    Figures {
        device: "hw:PCH".into(),
        period_frames: 128,
        strain: idle(),
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
        strain: Some(idle()),
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
fn whoever_cannot_be_reached_is_named_unless_something_worse_is_known() {
    let lost = |name: &str| (name.to_lowercase(), name.to_owned());
    let verdict = change(|f| f.unreachable = vec![lost("Ada")]);
    assert_eq!((verdict.severity, verdict.culprit), (Severity::Notice, Culprit::Peer("ada".into())));
    assert!(verdict.sentence.starts_with("Ada cannot be reached"), "{}", verdict.sentence);
    let two = change(|f| f.unreachable = vec![lost("Ada"), lost("Sam")]);
    assert!(two.sentence.starts_with("Ada and 1 more"), "{}", two.sentence);
    let all = change(|f| (f.peers, f.unreachable) = (Vec::new(), vec![lost("Ada"), lost("Sam")]));
    assert_eq!(all.culprit, Culprit::Network, "{}", all.sentence);
    let worse = change(|f| (f.strain.xruns, f.unreachable) = (7, vec![lost("Ada")]));
    assert_eq!(worse.culprit, Culprit::Device);
}

#[test]
fn card_that_misses_deadlines_on_an_idle_machine_gets_a_longer_period() {
    let verdict = change(|f| f.strain.xruns = 7);
    assert_eq!((verdict.severity, &verdict.culprit), (Severity::Bad, &Culprit::Device));
    assert_eq!(verdict.remedy, Some(Remedy::Period(256)));
    assert!(
        verdict.sentence.contains("hw:PCH") && verdict.sentence.contains("7 deadlines"),
        "{}",
        verdict.sentence
    );
    assert_eq!(change(|f| f.strain.xruns = 1).severity, Severity::Notice);
    let jack = change(|f| (f.strain.xruns, f.period_is_fixed) = (7, true));
    assert_eq!(jack.remedy, None);
    assert_eq!(change(|f| (f.strain.xruns, f.period_frames) = (7, 1024)).remedy, None);
    assert_eq!(change(|f| (f.strain.xruns, f.period_frames) = (7, 441)).remedy, Some(Remedy::Period(1024)));
}

#[test]
fn busy_machine_is_named_with_its_figure() {
    let verdict =
        change(|f| f.strain = Strain { xruns: 5, callback_percent: 130, cpu_percent: Some(92), ..idle() });
    assert_eq!((verdict.severity, &verdict.culprit), (Severity::Bad, &Culprit::Cpu));
    assert!(
        verdict.sentence.contains("CPU 92 %") && verdict.sentence.contains("130 %"),
        "{}",
        verdict.sentence
    );
    // Close to the limit is said before anything breaks.
    let early = change(|f| f.strain.callback_percent = 90);
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

/// What a case says of a member: made up sound in ms of ten seconds, packets lost, jitter in ms.
type Heard = (f64, u64, f64);

const WELL: Heard = (0.0, 0, 0.4);
const LOSSY: Heard = (300.0, 200, 0.4);
const UNEVEN: Heard = (300.0, 0, 38.0);
/// Gaps without any sign of a network.
const BARE: Heard = (300.0, 0, 0.0);
/// As [`BARE`], but few.
const FEW: Heard = (12.0, 0, 0.0);

const BUSY: Strain = Strain { xruns: 0, callback_percent: 20, cpu_percent: Some(97), wake_late_ms: 30 };
const FULL: Strain = Strain { xruns: 0, callback_percent: 95, cpu_percent: Some(50), wake_late_ms: 1 };
const MISSES: Strain = Strain { xruns: 4, callback_percent: 20, cpu_percent: Some(20), wake_late_ms: 1 };
const ONE_MISS: Strain = Strain { xruns: 1, callback_percent: 20, cpu_percent: Some(20), wake_late_ms: 1 };
const LATE: Strain = Strain { xruns: 0, callback_percent: 20, cpu_percent: Some(20), wake_late_ms: 25 };

/// What it is about, my strain, what is heard of each other and their strain, who is blamed, and in which words.
type Evening<'a> = (&'a str, Strain, &'a [(Heard, Strain)], Culprit, &'a str);

/// Who is blamed for what; each line is one evening.
#[test]
fn blame_follows_evidence() {
    use Culprit::{Cpu, Device, Network, Unknown};
    let none = Culprit::None;
    let maya = || Culprit::Peer("maya".into());
    let idle = idle();
    #[rustfmt::skip]
    let cases: &[Evening] = &[
        // One other player.
        ("nothing is wrong", idle, &[(WELL, idle)], none.clone(), "All is well"),
        ("lost packets", idle, &[(LOSSY, idle)], maya(), "5.1 % of their packets are lost"),
        ("uneven packets", idle, &[(UNEVEN, idle)], maya(), "jitter up to 38 ms"),
        ("lost packets with both machines busy", BUSY, &[(LOSSY, BUSY)], maya(), "packets are lost"),
        ("a busy machine here, no jitter", BUSY, &[(BARE, idle)], Cpu, "CPU 97 %"),
        ("a busy machine here makes packets look uneven", BUSY, &[(UNEVEN, idle)], Cpu, "CPU 97 %"),
        ("a callback at its limit", FULL, &[(BARE, idle)], Cpu, "95 % of its time"),
        ("missed deadlines here", MISSES, &[(BARE, idle)], Device, "4 deadlines"),
        ("a single one", ONE_MISS, &[(FEW, idle)], Device, "1 deadline was missed"),
        ("a single one is no reason for jitter", ONE_MISS, &[(UNEVEN, idle)], maya(), "jitter up to 38 ms"),
        ("woken up late", LATE, &[(FEW, idle)], Cpu, "up to 25 ms late"),
        ("woken up late is no reason for jitter", LATE, &[(UNEVEN, idle)], maya(), "jitter up to 38 ms"),
        ("their machine is busy", idle, &[(BARE, BUSY)], maya(), "their machine is too busy (CPU 97 %)"),
        ("their machine makes packets uneven", idle, &[(UNEVEN, BUSY)], maya(), "their machine is too busy"),
        ("their callback is at its limit", idle, &[(BARE, FULL)], maya(), "95 % of its time"),
        ("their card misses deadlines", idle, &[(BARE, MISSES)], maya(), "their sound card missed 4 deadlines"),
        ("their card missed one", idle, &[(FEW, ONE_MISS)], maya(), "their sound card missed a deadline"),
        ("they were woken up late", idle, &[(FEW, LATE)], maya(), "up to 25 ms late"),
        ("both are busy: begin at home", BUSY, &[(BARE, BUSY)], Cpu, "Your machine"),
        ("nothing explains it", idle, &[(FEW, idle)], Unknown(Some("maya".into())), "not known why"),
        ("their load without gaps is their own affair", idle, &[(WELL, BUSY)], none.clone(), "All is well"),
        ("our busy processors without gaps are nobody's", BUSY, &[(WELL, idle)], none, "All is well"),
        // Two others.
        ("everybody's packets are lost", idle, &[(LOSSY, idle), (LOSSY, idle)], Network, "5.1 % of the packets lost"),
        ("everybody's come unevenly", idle, &[(UNEVEN, idle), (LOSSY, idle)], Network, "jitter up to 38 ms"),
        ("everybody's are lost on a busy machine", BUSY, &[(LOSSY, idle), (LOSSY, idle)], Network, "lost"),
        ("everybody has gaps on a busy machine", BUSY, &[(FEW, idle), (UNEVEN, idle)], Cpu, "CPU 97 %"),
        ("everybody has gaps, deadlines are missed", MISSES, &[(FEW, idle), (BARE, idle)], Device, "4 deadlines"),
        ("everybody has gaps, nothing explains it", idle, &[(FEW, idle), (FEW, idle)], Unknown(None), "not known why"),
        ("everybody's machine is busy", idle, &[(BARE, BUSY), (BARE, BUSY)], maya(), "their machine"),
        ("one has gaps, the other is well: not here", BUSY, &[(UNEVEN, idle), (WELL, idle)], maya(), "jitter up to 38 ms"),
        ("one has gaps that only this machine explains", BUSY, &[(BARE, idle), (WELL, idle)], Cpu, "MAYA's sound came too late"),
    ];
    for (what, strain, heard, culprit, words) in cases {
        let verdict = change(|f| {
            f.strain = *strain;
            f.peers.truncate(heard.len());
            for (member, ((concealed_ms, lost, jitter_ms), strain)) in f.peers.iter_mut().zip(*heard) {
                (member.concealed_ms, member.lost, member.jitter_ms) = (*concealed_ms, *lost, *jitter_ms);
                member.strain = Some(*strain);
            }
        });
        assert_eq!(verdict.culprit, *culprit, "{what}: {}", verdict.sentence);
        assert!(verdict.sentence.contains(words), "{what}: {}", verdict.sentence);
        assert!(
            verdict.culprit == Network || !verdict.sentence.contains("Your own connection"),
            "{what}: {}",
            verdict.sentence
        );
    }
}

#[test]
fn gaps_are_as_bad_as_they_are_heard() {
    let with = |concealed_ms| {
        change(|f| (f.peers[0].concealed_ms, f.peers[0].jitter_ms) = (concealed_ms, 38.0)).severity
    };
    assert_eq!((with(5.0), with(20.0), with(300.0)), (Severity::Good, Severity::Notice, Severity::Bad));
    // One missed deadline is little, the gaps it made are not.
    let late = change(|f| {
        f.strain = ONE_MISS;
        f.peers.iter_mut().for_each(|peer| peer.concealed_ms = 300.0);
    });
    assert_eq!((late.severity, late.remedy), (Severity::Bad, Some(Remedy::Period(256))));
}

#[test]
fn silence_and_detours_have_words_of_their_own() {
    let relay = change(|f| {
        (f.peers[1].concealed_ms, f.peers[1].jitter_ms, f.peers[1].relayed) = (300.0, 9.0, true);
    });
    assert!(relay.sentence.contains("LEE") && relay.sentence.contains("relay"), "{}", relay.sentence);
    let silent = change(|f| f.peers[2].received = 0);
    assert_eq!((silent.severity, silent.culprit), (Severity::Bad, Culprit::Peer("bob".into())));
    let silence = change(|f| f.peers.iter_mut().for_each(|peer| peer.received = 0));
    assert_eq!((silence.severity, silence.culprit), (Severity::Bad, Culprit::Network));
}

#[test]
fn older_versions_do_not_say_how_busy_they_are() {
    let verdict = change(|f| (f.peers[0].concealed_ms, f.peers[0].strain) = (20.0, None));
    assert_eq!(verdict.culprit, Culprit::Unknown(Some("maya".into())));
    assert!(verdict.sentence.contains("theirs does not say"), "{}", verdict.sentence);
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
        (f.peers[1].concealed_ms, f.peers[1].lost) = (300.0, 200);
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
