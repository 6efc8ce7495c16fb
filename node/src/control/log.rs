//! The node's log as the control interface shows it: the last lines, and those to come.
//!
//! A [`LogBuffer`] is a `tracing` layer beside the one that writes to stderr. It keeps [`MAX_LOG_LINES`] lines and drops the
//! oldest; a reader that falls behind is told how many lines it missed. Lines hold what strangers send (names, addresses),
//! so control characters are escaped before a line is kept: one event is one line, always.

use std::collections::VecDeque;
use std::fmt::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::sync::broadcast;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer};

use crate::control::limits::{MAX_LOG_LINE_CHARS, MAX_LOG_LINES};
use crate::control::types::LogLine;

/// The last log lines; clones share them.
#[derive(Clone)]
pub struct LogBuffer(Arc<Inner>);

struct Inner {
    lines: Mutex<VecDeque<LogLine>>,
    new: broadcast::Sender<LogLine>,
}

impl Default for LogBuffer {
    fn default() -> Self {
        let (new, _) = broadcast::channel(MAX_LOG_LINES);
        Self(Arc::new(Inner { lines: Mutex::default(), new }))
    }
}

impl LogBuffer {
    /// The lines kept and, without a gap or a repeat, those to come.
    pub(crate) fn follow(&self) -> (Vec<LogLine>, broadcast::Receiver<LogLine>) {
        let lines = self.0.lines.lock().unwrap_or_else(PoisonError::into_inner);
        (lines.iter().cloned().collect(), self.0.new.subscribe())
    }

    fn push(&self, line: LogLine) {
        let mut lines = self.0.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() >= MAX_LOG_LINES {
            lines.pop_front();
        }
        lines.push_back(line.clone());
        // Nobody listening is no error.
        let _ = self.0.new.send(line);
    }
}

impl<S: Subscriber> Layer<S> for LogBuffer {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let level = match *event.metadata().level() {
            Level::ERROR => "error",
            Level::WARN => "warn",
            Level::INFO => "info",
            Level::DEBUG => "debug",
            Level::TRACE => return,
        };
        let mut text = Text::default();
        event.record(&mut text);
        let time_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        self.push(LogLine {
            time_ms: u64::try_from(time_ms).unwrap_or(u64::MAX),
            level: level.to_owned(),
            target: event.metadata().target().to_owned(),
            message: one_line(&text.0),
        });
    }
}

#[derive(Default)]
struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let space = if self.0.is_empty() { "" } else { " " };
        // Writing to a string cannot fail.
        let _ = match field.name() {
            "message" => write!(self.0, "{space}{value:?}"),
            name => write!(self.0, "{space}{name}={value:?}"),
        };
    }
}

fn one_line(text: &str) -> String {
    let mut line = String::new();
    for character in text.chars().take(MAX_LOG_LINE_CHARS) {
        if character.is_control() {
            line.extend(character.escape_default());
        } else {
            line.push(character);
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    #[test]
    fn event_with_terminal_escapes_stays_one_harmless_line() {
        let buffer = LogBuffer::default();
        let subscriber = tracing_subscriber::registry().with(buffer.clone());
        tracing::subscriber::with_default(subscriber, || {
            tracing::warn!(name = "a\r\n\u{1b}[2Jb", "peer \u{9b}31m joined\nfake line");
        });
        let (lines, _) = buffer.follow();
        assert_eq!(lines.len(), 1);
        assert!(lines[0].message.chars().all(|c| !c.is_control()), "{}", lines[0].message);
        assert!(lines[0].message.contains("joined\\nfake"));
    }

    #[test]
    fn full_buffer_drops_its_oldest_line() {
        let buffer = LogBuffer::default();
        for number in 0..=MAX_LOG_LINES {
            buffer.push(LogLine {
                time_ms: number as u64,
                level: "info".into(),
                target: "t".into(),
                message: "m".into(),
            });
        }
        let (lines, _) = buffer.follow();
        assert_eq!((lines.len(), lines[0].time_ms), (MAX_LOG_LINES, 1));
    }
}
