//! The support bundle: what somebody who helps needs to see, and no secret.
//!
//! Everything in it is text that was looked through twice: the node's own secrets are taken out by their very letters, and
//! then whatever looks like one (a long hexadecimal number, a value named token, key, secret, password, code or invite). A
//! harmless word too many is the price.

use std::io::{Cursor, Write};
use std::sync::Arc;

use axum::http::StatusCode;
use serde::Serialize;
use tokio::time::timeout;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use crate::control::limits::{DEVICE_TIMEOUT, HISTORY_SECONDS, MAX_BUNDLE_FILE_BYTES};
use crate::control::metrics;
use crate::control::problem::Problem;
use crate::control::routes::Shared;

const README: &str = "\
What a Bandmesh node knew when this was made, for somebody who helps. Look through it before you send it: it names
players, addresses of machines, devices and files. Tokens, keys and invites are taken out.

status.json     the node, its sound card, its warnings
peers.json      the others and the streams from them
history.json    the last five minutes, one figure a second
diagnosis.json  what the node itself thinks is wrong
metrics.txt     counters
log.txt         the last lines of the log
devices.json    audio and MIDI devices
versions.txt    program and system
config.toml     options, if there is a file
doctor.txt      what `bandmesh doctor` says
";

/// What takes the place of a secret.
const REDACTED: &str = "[redacted]";
/// The shortest run of hexadecimal digits that is taken for a secret: 128 bits.
const MIN_SECRET_DIGITS: usize = 32;
/// Names whose values are secrets, wherever they stand in a longer name.
const SECRET_NAMES: [&str; 8] =
    ["token", "secret", "password", "passwd", "private_key", "ticket", "invite", "bearer"];

/// The bundle as the bytes of a zip file.
pub(crate) async fn make(shared: &Arc<Shared>) -> Result<Vec<u8>, Problem> {
    let backend = &shared.backend;
    let mut files = vec![
        ("README.txt".to_owned(), README.to_owned()),
        ("status.json".to_owned(), json(&backend.status())),
        ("peers.json".to_owned(), json(&backend.peers())),
        ("history.json".to_owned(), json(&backend.history(HISTORY_SECONDS))),
        ("diagnosis.json".to_owned(), json(&backend.diagnosis())),
        ("metrics.txt".to_owned(), metrics::render(shared).unwrap_or_default()),
        ("log.txt".to_owned(), log(shared)),
    ];
    let devices = match timeout(DEVICE_TIMEOUT, backend.devices()).await {
        Ok(Ok(devices)) => json(&devices),
        Ok(Err(error)) => error.to_string(),
        Err(_) => "a device's driver does not answer".to_owned(),
    };
    files.push(("devices.json".to_owned(), devices));
    match timeout(DEVICE_TIMEOUT, backend.support_files()).await {
        Ok(more) => files.extend(more),
        Err(_) => files.push(("missing.txt".to_owned(), "the checks did not end in time\n".to_owned())),
    }
    let secrets: Vec<String> = shared.keys.secrets().map(str::to_owned).collect();
    let zipped = tokio::task::spawn_blocking(move || zipped(&files, &secrets)).await;
    zipped.ok().and_then(Result::ok).ok_or_else(|| {
        let detail = "The bundle could not be made. This is a fault of the program; please report it.";
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "failed", detail)
    })
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string_pretty(value).unwrap_or_default()
}

fn log(shared: &Shared) -> String {
    let (lines, _) = shared.logs.follow();
    lines
        .iter()
        .map(|line| format!("{} {} {}: {}\n", line.time_ms, line.level, line.target, line.message))
        .collect()
}

fn zipped(files: &[(String, String)], secrets: &[String]) -> zip::result::ZipResult<Vec<u8>> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Deflated);
    for (name, text) in files {
        zip.start_file(name.as_str(), options)?;
        let clean = redact(text, secrets);
        let cut = clean.len().min(MAX_BUNDLE_FILE_BYTES);
        let end = (0..=cut).rev().find(|at| clean.is_char_boundary(*at)).unwrap_or(0);
        zip.write_all(clean.get(..end).unwrap_or_default().as_bytes())?;
    }
    Ok(zip.finish()?.into_inner())
}

/// `text` without `secrets` and without what looks like one.
pub(crate) fn redact(text: &str, secrets: &[String]) -> String {
    let mut clean = text.to_owned();
    for secret in secrets.iter().filter(|secret| !secret.is_empty()) {
        clean = clean.replace(secret.as_str(), REDACTED);
    }
    clean.split_inclusive('\n').map(redact_line).collect()
}

fn redact_line(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    let mut rest = line;
    while !rest.is_empty() {
        let length = rest.find(|c: char| !is_word(c)).unwrap_or(rest.len());
        let (word, after) = rest.split_at(length);
        let hexadecimal = word.len() >= MIN_SECRET_DIGITS && word.bytes().all(|b| b.is_ascii_hexdigit());
        out.push_str(if hexadecimal { REDACTED } else { word });
        let name = word.to_ascii_lowercase();
        let names_secret = SECRET_NAMES.iter().any(|secret| name.contains(secret));
        match value_after(after).filter(|_| names_secret) {
            Some((gap, value)) => {
                out.push_str(gap);
                // `token_file` and the like name a place, not a secret.
                let harmless = value.is_empty() || name.ends_with("_file") || name.ends_with("_bytes");
                out.push_str(if harmless { value } else { REDACTED });
                rest = after.get(gap.len() + value.len()..).unwrap_or_default();
            }
            None => {
                let next = after.chars().next().map_or(0, char::len_utf8);
                let (between, next) = after.split_at(next);
                out.push_str(between);
                rest = next;
            }
        }
    }
    out
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// What follows a name: the signs that join it to its value, and the value. `None` if there is no value.
fn value_after(text: &str) -> Option<(&str, &str)> {
    let joint =
        text.find(|c: char| !matches!(c, '"' | '\'' | ':' | '=' | ' ' | '[' | '(')).unwrap_or(text.len());
    let (gap, rest) = text.split_at(joint);
    if !gap.contains([':', '=', ' ']) {
        return None;
    }
    let quoted = gap.ends_with('"');
    let ends = |c: char| {
        if quoted {
            c == '"' || c == '\n'
        } else {
            c.is_whitespace() || matches!(c, ',' | '"' | '\'' | ')' | ']' | '&' | '}')
        }
    };
    let length = rest.find(ends).unwrap_or(rest.len());
    // In prose a space joins words, not a name and its value.
    let is_value = gap.contains([':', '=']) || rest.get(..length)?.len() >= 16;
    is_value.then(|| (gap, rest.get(..length).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_go_and_what_helps_stays() {
        let own = "zzz-own-secret-of-this-node-zzz".to_owned();
        let hex = "9f".repeat(32);
        for (text, gone, kept) in [
            (format!("url http://127.0.0.1:7780/#token={own}&x=1"), own.as_str(), "127.0.0.1:7780"),
            (
                "Authorization: Bearer abcDEF123-456_789xyz\n".to_owned(),
                "abcDEF123-456_789xyz",
                "Authorization",
            ),
            (format!("key {hex} of 12D3KooWLee"), hex.as_str(), "12D3KooWLee"),
            ("{\"token\": \"a b c\", \"name\": \"Maya\"}".to_owned(), "a b c", "Maya"),
            ("join_secret = \"seven-blue-cats\"\nrate = 48000".to_owned(), "seven-blue-cats", "48000"),
            ("GET /api/v1/ws?ticket=abc123 200".to_owned(), "abc123", "/api/v1/ws"),
            ("invite: moon-river-tree joined".to_owned(), "moon-river-tree", "joined"),
            ("{\"password\":\"\\u0022x\"}".to_owned(), "\\u0022x", "password"),
        ] {
            let clean = redact(&text, std::slice::from_ref(&own));
            assert!(!clean.contains(gone) && clean.contains(kept), "{text:?} became {clean:?}");
        }
        for harmless in ["token_file = /home/maya/token", "the token is wrong", "heads 00ff, 480 frames"] {
            assert_eq!(redact(harmless, std::slice::from_ref(&own)), harmless);
        }
    }

    #[test]
    fn any_text_is_redacted_without_end_or_panic() {
        for text in ["", "token", "token=", "token:\"", "\u{202e}token=é\u{1b}", "token token token=x"] {
            let _ = redact(text, &[String::new()]);
        }
        let long = "token=".repeat(100_000);
        assert!(redact(&long, &[]).len() < 4 * long.len());
    }
}
