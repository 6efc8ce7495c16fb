//! `bandmesh status`

use crate::cli::{Exit, Output, Task, client, text};
use crate::control::types::Status;

pub(crate) fn run(task: &Task) -> Result<Output, Exit> {
    let (answer, status) = client::ask(task, "/status")?;
    Ok(if task.json { Output::json(&answer) } else { Output::text(render(&status)) })
}

fn render(status: &Status) -> String {
    let audio = &status.audio;
    let period_ms = f64::from(audio.period_frames) * 1e3 / f64::from(audio.rate_hz.max(1));
    let link = match (status.link.enabled, status.link.peers) {
        (false, _) => "off".to_owned(),
        (true, 0) => "on, alone".to_owned(),
        (true, peers) => format!("on, with {peers}"),
    };
    let playing = if status.link.playing { "playing" } else { "stopped" };
    let saved = if status.doc.saved { "saved" } else { "not saved yet" };
    let mut rows = vec![
        ["name", &status.name].map(str::to_owned).to_vec(),
        ["node", &status.peer_id].map(str::to_owned).to_vec(),
        vec!["session".into(), status.session.name.clone()],
        vec!["audio".into(), format!("{} {}", audio.host, audio.device)],
        vec![
            "stream".into(),
            format!(
                "{} Hz, {} frames ({period_ms:.1} ms), output latency {:.1} ms",
                audio.rate_hz, audio.period_frames, audio.output_latency_ms
            ),
        ],
        vec![
            "load".into(),
            format!("{} xruns, callback at most {:.0} us", audio.xruns, audio.callback_max_us),
        ],
        vec!["level".into(), format!("in {:.0} dB, out {:.0} dB", audio.input_peak_db, audio.output_peak_db)],
        vec!["beat".into(), format!("{:.2} bpm, {playing}", status.link.tempo_bpm)],
        vec!["link".into(), link],
        vec![
            "project".into(),
            format!("{} changes, {saved}, {}", status.doc.changes, text::head(&status.doc.heads_hash, 12)),
        ],
        vec!["up".into(), duration(status.uptime_s)],
    ];
    rows.extend(status.listen.iter().map(|address| vec!["listens".into(), address.clone()]));
    let mut table = text::table(&rows);
    for warning in &status.warnings {
        table.push_str(&format!("! {}\n", text::printable(warning)));
    }
    table
}

fn duration(seconds: f64) -> String {
    let seconds = seconds.max(0.0) as u64;
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{hours}:{minutes:02}:{seconds:02}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::types::{Audio, Diagnosis, Doc, Link, Master, Me, Session, UndoState};

    #[test]
    fn table_shows_what_matters_and_no_terminal_escapes() {
        let text = render(&Status {
            peer_id: "12D3".into(),
            name: "Ma\u{1b}]0;pwned\u{7}ya".into(),
            version: "0".into(),
            uptime_s: 3661.4,
            session: Session { id: "i".into(), name: "jam".into() },
            audio: Audio {
                host: "jack".into(),
                device: "bandmesh".into(),
                rate_hz: 48_000,
                period_frames: 128,
                xruns: 0,
                callback_max_us: 120.0,
                output_latency_ms: 2.5,
                input_peak_db: -120.0,
                output_peak_db: -6.0,
            },
            me: Me { muted: false, input_gain_db: 0.0, monitor: false, monitor_gain_db: 0.0 },
            master: Master { gain_db: 0.0 },
            feedback_warning: false,
            diagnosis: Diagnosis::default(),
            link: Link { enabled: true, peers: 2, tempo_bpm: 120.0, beat: 0.0, phase: 0.0, playing: true },
            doc: Doc { heads_hash: "é".repeat(40), changes: 3, saved: true },
            listen: vec![],
            warnings: vec!["no sound card".into()],
            undo: UndoState::default(),
        });
        assert!(!text.contains('\u{1b}') && !text.contains('\u{7}'));
        for wanted in ["2.7 ms", "on, with 2", "1:01:01", "120.00 bpm, playing", "! no sound card"] {
            assert!(text.contains(wanted), "{wanted}: {text}");
        }
    }
}
