//! The picture: who is here and how loud, the beat, what is wrong, what was said.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style, Stylize};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Clear, Paragraph, Row, Table};

use super::model::Model;
use crate::cli::peers::in_words;
use crate::cli::printable;
use crate::control::types::{Path, Peer, PeerState, SILENCE_DB, Severity};

/// Softer than this a meter is empty, dB.
const METER_FLOOR_DB: f32 = -54.0;
/// From here on a meter is yellow, and from the next on red, dB.
const LOUD_DB: f32 = -12.0;
const CLIPPING_DB: f32 = -1.0;

const KEYS: &str = "up/down select  m mute  s solo  left/right gain  space play  c click  ? keys  q quit";
const ALL_KEYS: [&str; 11] = [
    "up, down    select a player",
    "m           mute the selected player for me, or myself",
    "s           solo the selected player for me",
    "left, right how loud I hear the selected player, 1 dB a press",
    "space       play or stop, for everybody",
    "c           the click, in my own ears",
    "[ and ]     tempo, 1 bpm a press, for everybody",
    "u, r        undo and redo my latest edit of the project",
    "?           these keys",
    "q, Ctrl-C   leave; the node plays on",
    "            press ? to close",
];

/// Draws the screen.
pub(super) fn draw(model: &Model, frame: &mut Frame) {
    let members = u16::try_from(model.peers.len()).unwrap_or(u16::MAX).saturating_add(3);
    let parts = Layout::vertical([
        Constraint::Length(1),
        Constraint::Max(members),
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Fill(1),
        Constraint::Length(1),
    ]);
    let [head, band, beat, trouble, log, keys] = parts.areas(frame.area());
    frame.render_widget(header(model), head);
    draw_members(model, frame, band);
    frame.render_widget(beat_line(model), beat);
    frame.render_widget(trouble_line(model), trouble);
    draw_log(model, frame, log);
    frame.render_widget(Line::from(KEYS).dim(), keys);
    if model.help {
        draw_help(frame);
    }
}

fn header(model: &Model) -> Line<'static> {
    let mut spans = vec![Span::from("Bandmesh").bold()];
    match (&model.lost, &model.status) {
        (Some(_), _) => spans.push("  the node is gone; looking for it".fg(Color::Red)),
        (None, None) => spans.push("  waiting for the node".into()),
        (None, Some(status)) => {
            let audio = &status.audio;
            let text = format!(
                "  {}  session {}  {} {} Hz, {} frames  {} xruns",
                printable(&status.name),
                printable(&status.session.name),
                printable(&audio.device),
                audio.rate_hz,
                audio.period_frames,
                audio.xruns
            );
            spans.push(text.into());
        }
    }
    Line::from(spans)
}

fn draw_members(model: &Model, frame: &mut Frame, area: Rect) {
    let head = Row::new(["", "NAME", "LEVEL", "GAIN", "LATENCY", "PATH", ""]).dim();
    // Names are what one looks for: a narrow terminal takes room from meters, and the path away, before it cuts them.
    let (meter_chars, path_chars, names, signs) = match area.width {
        100.. => (18, 9, 1, 2),
        70.. => (12, 9, 1, 1),
        _ => (8, 0, 2, 1),
    };
    let selected = model.selected_row();
    let my_level = model.meters.input.iter().map(|level| level.peak_db).fold(SILENCE_DB, f32::max);
    let me = model.status.as_ref().map_or("me".to_owned(), |status| printable(&status.name));
    let (gain, sign) = model.status.as_ref().map_or((String::new(), "you"), |status| {
        (format!("{:+.0} dB", status.me.input_gain_db), if status.me.muted { "you, muted" } else { "you" })
    });
    let mut rows =
        vec![row(selected == 0, me, meter(my_level, meter_chars), gain, String::new(), "", sign.to_owned())];
    rows.extend(
        model
            .peers
            .iter()
            .enumerate()
            .map(|(index, peer)| member(model, selected == index + 1, peer, meter_chars)),
    );
    let visible = usize::from(area.height.saturating_sub(1)).max(1);
    // The selected one is always in the picture.
    let skipped = (selected + 1).saturating_sub(visible);
    let rows = rows.into_iter().skip(skipped);
    let widths = [
        Constraint::Length(1),
        Constraint::Fill(names),
        Constraint::Length(meter_chars),
        Constraint::Length(7),
        Constraint::Length(16),
        Constraint::Length(path_chars),
        Constraint::Fill(signs),
    ];
    frame.render_widget(Table::new(rows, widths).header(head), area);
}

fn member(model: &Model, selected: bool, peer: &Peer, meter_chars: u16) -> Row<'static> {
    let level = model.meters.peers.iter().find(|level| level.peer_id == peer.peer_id);
    let level = level.map_or(SILENCE_DB, |level| level.peak_db);
    let latency = peer.audio.as_ref().and_then(|audio| audio.one_way_ms).map(in_words);
    let path = match peer.path {
        Some(Path::Lan) => "lan",
        Some(Path::Direct) => "direct",
        Some(Path::Relayed) => "relayed",
        Some(Path::Forwarded) => "forwarded",
        None => "",
    };
    let signs = [
        (peer.state == PeerState::Connecting, "connecting"),
        (peer.state == PeerState::Away, "away"),
        (peer.muted_by_me, "muted by me"),
        (peer.soloed_by_me, "solo"),
        (peer.muted_themselves, "muted themselves"),
        (peer.hears_me == Some(false), "does not hear you"),
    ];
    let signs: Vec<&str> = signs.iter().filter(|(shown, _)| *shown).map(|(_, sign)| *sign).collect();
    row(
        selected,
        printable(&peer.name),
        meter(level, meter_chars),
        format!("{:+.0} dB", peer.gain_db),
        latency.unwrap_or_default(),
        path,
        signs.join(", "),
    )
}

fn row(
    selected: bool,
    name: String,
    meter: Line<'static>,
    gain: String,
    latency: String,
    path: &'static str,
    signs: String,
) -> Row<'static> {
    let mark = if selected { ">" } else { " " };
    let row =
        Row::new([mark.into(), name.into(), meter, gain.into(), latency.into(), path.into(), signs.into()]);
    if selected { row.style(Style::new().add_modifier(Modifier::BOLD)) } else { row }
}

/// A bar that can be read without colours too.
fn meter(peak_db: f32, chars: u16) -> Line<'static> {
    let share = ((peak_db - METER_FLOOR_DB) / -METER_FLOOR_DB).clamp(0.0, 1.0);
    let full = (share * f32::from(chars)).round() as usize;
    let color = match peak_db {
        CLIPPING_DB.. => Color::Red,
        LOUD_DB.. => Color::Yellow,
        _ => Color::Green,
    };
    let (bar, rest) = ("█".repeat(full), "·".repeat(usize::from(chars).saturating_sub(full)));
    Line::from(vec![bar.fg(color), rest.dim()])
}

fn beat_line(model: &Model) -> Line<'static> {
    let Some(playback) = &model.playback else { return Line::default() };
    let per_bar = playback.time_signature.split('/').next().and_then(|beats| beats.parse::<f64>().ok());
    let per_bar = per_bar.unwrap_or(4.0).clamp(1.0, 32.0);
    let at = model.meters.phase.rem_euclid(per_bar).floor() as usize;
    let dots: String = (0..per_bar as usize).map(|beat| if beat == at { "● " } else { "○ " }).collect();
    let bar = (model.meters.beat / per_bar).floor() as i64 + 1;
    let link = model.status.as_ref().map_or(String::new(), |status| {
        match (status.link.enabled, status.link.peers) {
            (false, _) => "Link off".into(),
            (true, peers) => format!("Link with {peers}"),
        }
    });
    let playing = if playback.playing { "playing" } else { "stopped" };
    let click = if playback.metronome { "click on" } else { "click off" };
    Line::from(vec![
        dots.bold(),
        format!(
            " bar {bar}  {:.1} bpm  {}  {playing}  {click}  {link}",
            playback.tempo_bpm,
            printable(&playback.time_signature)
        )
        .into(),
    ])
}

fn trouble_line(model: &Model) -> Line<'static> {
    if let Some(lost) = &model.lost {
        return Line::from(lost.clone()).fg(Color::Red);
    }
    let Some(status) = &model.status else { return Line::default() };
    let color = match status.diagnosis.severity {
        Severity::Bad => Color::Red,
        Severity::Notice => Color::Yellow,
        Severity::Good => Color::Green,
    };
    // The diagnosis names what hurts now; a warning is shown while there is nothing worse.
    match status.warnings.last() {
        Some(warning) if status.diagnosis.severity != Severity::Bad => {
            Line::from(printable(warning)).fg(Color::Yellow)
        }
        _ => Line::from(printable(&status.diagnosis.sentence)).fg(color),
    }
}

fn draw_log(model: &Model, frame: &mut Frame, area: Rect) {
    let block = Block::bordered().title(" log ").border_style(Style::new().dim());
    let inner = block.inner(area);
    let lines = model.lines.iter().rev().take(usize::from(inner.height)).rev().map(|line| {
        let text = Line::from(line.text.clone());
        match line.severity {
            Severity::Good => text.fg(Color::Green),
            Severity::Notice => text,
            Severity::Bad => text.fg(Color::Red),
        }
    });
    frame.render_widget(Paragraph::new(lines.collect::<Vec<_>>()).block(block), area);
}

fn draw_help(frame: &mut Frame) {
    let screen = frame.area();
    let (width, height) = (66.min(screen.width), (ALL_KEYS.len() as u16 + 2).min(screen.height));
    let area = Rect { x: (screen.width - width) / 2, y: (screen.height - height) / 2, width, height };
    let lines: Vec<Line> = ALL_KEYS.iter().map(|key| Line::from(*key)).collect();
    frame.render_widget(Clear, area);
    frame.render_widget(Paragraph::new(lines).block(Block::bordered().title(" keys ")), area);
}
