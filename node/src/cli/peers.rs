//! `bandmesh peers`

use crate::cli::{Exit, Output, Task, client, text};
use crate::control::types::{Path, Peer, PeerState};

pub(crate) fn run(task: &Task) -> Result<Output, Exit> {
    let (answer, peers): (_, Vec<Peer>) = client::ask(task, "/peers")?;
    Ok(if task.json { Output::json(&answer) } else { Output::text(render(&peers)) })
}

fn render(peers: &[Peer]) -> String {
    if peers.is_empty() {
        return "Nobody else is here. Nodes with the same --session on this LAN appear by themselves.\n"
            .to_owned();
    }
    let head = ["NAME", "STATE", "PATH", "LATENCY", "RTT", "JITTER", "LOST", "CONCEALED", "CLOCK", "NODE"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    rows.extend(peers.iter().map(row));
    text::table(&rows)
}

fn row(peer: &Peer) -> Vec<String> {
    let audio = peer.audio.as_ref();
    let state = match peer.state {
        PeerState::Connecting => "connecting",
        PeerState::Connected if peer.muted_by_me => "muted by me",
        PeerState::Connected => "connected",
        PeerState::Away => "away",
    };
    let path = match peer.path {
        Some(Path::Lan) => "lan",
        Some(Path::Direct) => "direct",
        Some(Path::Relayed) => "relayed",
        Some(Path::Forwarded) => "forwarded",
        None => "-",
    };
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    vec![
        peer.name.clone(),
        state.to_owned(),
        path.to_owned(),
        or_dash(audio.and_then(|audio| audio.one_way_ms).map(in_words)),
        or_dash(peer.rtt_ms.map(|rtt| format!("{rtt:.1} ms"))),
        or_dash(audio.map(|audio| format!("{:.1} ms", audio.jitter_ms))),
        or_dash(audio.map(|audio| audio.lost.to_string())),
        or_dash(audio.map(|audio| format!("{:.2} %", audio.concealed_ratio * 100.0))),
        or_dash(peer.clock.map(|clock| format!("{:+.0} us +-{:.0}", clock.offset_us, clock.error_us))),
        text::head(&peer.peer_id, 60),
    ]
}

/// A latency as a musician feels it: up to 25 ms is like a few steps of distance, from 45 ms on rhythm suffers.
pub(crate) fn in_words(one_way_ms: f64) -> String {
    let word = match one_way_ms {
        ..25.0 => "Tight",
        ..45.0 => "Playable",
        _ => "Loose",
    };
    format!("{word}, {one_way_ms:.0} ms")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lonely_player_is_told_what_brings_others() {
        assert!(render(&[]).contains("--session"));
    }

    #[test]
    fn unknown_figures_are_dashes_and_names_harmless() {
        let peer = Peer {
            peer_id: "12D3".into(),
            name: "Lee\r\n\u{1b}[2Jroot#".into(),
            state: PeerState::Connecting,
            path: None,
            address: None,
            rtt_ms: None,
            clock: None,
            audio: None,
            waterfall: None,
            path_reason: None,
            muted_by_me: false,
            soloed_by_me: false,
            gain_db: 0.0,
            muted_themselves: false,
            hears_me: None,
            pan: 0.0,
        };
        let text = render(&[peer]);
        assert_eq!(text.lines().count(), 2);
        assert!(!text.contains('\u{1b}'));
        assert!(text.contains("connecting"));
    }

    #[test]
    fn latency_reads_as_it_feels() {
        assert_eq!(in_words(6.2), "Tight, 6 ms");
        assert_eq!(in_words(34.0), "Playable, 34 ms");
        assert_eq!(in_words(61.0), "Loose, 61 ms");
    }
}
