//! `config.toml` in the data directory.
//!
//! Every option of `up` but the data directory itself, under its own name with `_` (or `-`) between words. Each value goes
//! through the parser of the command line, so both accept the same and refuse with the same words, here with file and line.

use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::path::Path;

use clap::{CommandFactory, Parser};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::cli::Exit;
use crate::cli::args::{FileArgs, UpArgs, summary};

/// The file's name in the data directory.
pub(crate) const FILE_NAME: &str = "config.toml";

/// A config file is a page of text; more is something else.
const MAX_BYTES: u64 = 256 * 1024;

/// What a new data directory gets.
pub(crate) const TEMPLATE: &str = "\
# Options of `bandmesh up`, one a line; see `bandmesh up --help` for what they mean.
# A BANDMESH_* environment variable wins over this file, the command line over both.
#
# name = \"Maya\"
# session = \"jam\"
# listen = \"[::]:7778\"
# http = \"127.0.0.1:7780\"
# audio = \"auto\"
# rate = 48000
# period = 128
# codec = \"auto\"
# jack_name = \"bandmesh\"
# midi_in = \"all\"
# midi_out = \"none\"
# peer = [\"/ip4/192.0.2.7/udp/7778/quic-v1\"]
# pin_peers = false
# no_mdns = false
# no_link = false
# headless = false
# trace = \"session.pcapng\"
# trace_limit_mb = 1000
";

/// The options in the data directory's config file; none if there is no file.
pub(crate) fn read(data_dir: &Path) -> Result<UpArgs, Exit> {
    let path = data_dir.join(FILE_NAME);
    let shown = path.display();
    let bytes = match bytes(&path) {
        Ok(bytes) => bytes,
        // A path that is no directory is refused when the directory is made, by its own name.
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(UpArgs::default());
        }
        Err(error) => {
            return Err(Exit::usage(&format!("{shown}: cannot be read: {error}; mend or remove the file")));
        }
    };
    if bytes.len() as u64 > MAX_BYTES {
        return Err(Exit::usage(&format!(
            "{shown}: is larger than {MAX_BYTES} bytes; mend or remove the file"
        )));
    }
    let text = match String::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => {
            let valid = error.utf8_error().valid_up_to();
            let line = 1 + error.as_bytes().iter().take(valid).filter(|byte| **byte == b'\n').count();
            return Err(Exit::usage(&format!("{shown}:{line}: is not UTF-8 text; mend or remove the file")));
        }
    };
    parse(&text).map_err(|(at, message)| {
        let line = 1 + text.bytes().take(at.start).filter(|byte| *byte == b'\n').count();
        Exit::usage(&format!("{shown}:{line}: {message}; mend or remove that line"))
    })
}

/// The config file as it stands, as far as it is text.
pub(crate) fn text(data_dir: &Path) -> String {
    bytes(&data_dir.join(FILE_NAME))
        .map_or_else(|error| format!("# {error}\n"), |bytes| String::from_utf8_lossy(&bytes).into_owned())
}

fn bytes(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn parse(text: &str) -> Result<UpArgs, (Range<usize>, String)> {
    let table = DeTable::parse(text)
        .map_err(|error| (error.span().unwrap_or_default(), error.message().replace('\n', ", ")))?;
    let known: Vec<String> =
        FileArgs::command().get_arguments().map(|argument| argument.get_id().to_string()).collect();
    let mut args = vec!["config".to_owned()];
    for (key, value) in table.get_ref() {
        let name = key.get_ref().replace('-', "_");
        if !known.contains(&name) {
            return Err((
                key.span(),
                format!("there is no option `{}`; there are {}", key.get_ref(), known.join(", ")),
            ));
        }
        let flag = name.replace('_', "-");
        let own: Vec<String> = values(value)?.iter().map(|value| format!("--{flag}={value}")).collect();
        let alone = ["config".to_owned()].into_iter().chain(own.iter().cloned());
        FileArgs::try_parse_from(alone)
            .map_err(|error| (value.span(), summary(&error).replace(&format!("--{flag}"), &name)))?;
        args.extend(own);
    }
    FileArgs::try_parse_from(args).map(|args| args.up).map_err(|error| (0..0, summary(&error)))
}

fn values(value: &Spanned<DeValue<'_>>) -> Result<Vec<String>, (Range<usize>, String)> {
    match value.get_ref() {
        DeValue::Array(items) => {
            let nested: Result<Vec<Vec<String>>, _> = items.iter().map(values).collect();
            Ok(nested?.concat())
        }
        DeValue::String(text) => Ok(vec![text.to_string()]),
        DeValue::Integer(number) => Ok(vec![number.to_string()]),
        DeValue::Boolean(truth) => Ok(vec![truth.to_string()]),
        _ => Err((
            value.span(),
            "a value is a text in quotes, a whole number, true, false or a list of texts".to_owned(),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(contents: &[u8]) -> String {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(FILE_NAME), contents).unwrap();
        let exit = read(dir.path()).unwrap_err();
        assert_eq!(exit.code(), 2);
        assert!(!exit.message().contains('\n'), "{}", exit.message());
        exit.message().to_owned()
    }

    #[test]
    fn missing_file_and_untouched_template_change_nothing() {
        let dir = tempfile::tempdir().unwrap();
        assert!(read(dir.path()).is_ok());
        std::fs::write(dir.path().join(FILE_NAME), TEMPLATE).unwrap();
        assert!(read(dir.path()).is_ok());
    }

    #[test]
    fn every_line_of_the_template_is_an_option() {
        let dir = tempfile::tempdir().unwrap();
        let live: String = TEMPLATE
            .lines()
            .filter_map(|line| line.strip_prefix("# "))
            .filter(|line| line.contains(" = "))
            .map(|line| format!("{line}\n"))
            .collect();
        std::fs::write(dir.path().join(FILE_NAME), live).unwrap();
        assert!(read(dir.path()).is_ok());
    }

    #[test]
    fn corrupt_file_is_named_with_its_line() {
        for (contents, line, clue) in [
            (&b"name = \"Maya\"\nrate = = 3\n"[..], 2, ""),
            (b"\n\nnmae = \"Maya\"\n", 3, "there is no option `nmae`"),
            (b"name = \"Maya\"\nrate = 7\n", 2, "8000"),
            (b"rate = \"fast\"", 1, "rate"),
            (b"name = 1.5", 1, "text in quotes"),
            (b"peer = [[1]]", 1, "multiaddr"),
            (b"[up]\nname = \"x\"", 1, "no option `up`"),
            (b"name = \"a\\u001b[2J\"", 1, "control"),
            (b"name = \"ok\"\n\xff\xfe", 2, "UTF-8"),
            (b"name = \"unfinished", 1, ""),
            (b"name = \"a\"\nname = \"b\"", 2, "duplicate"),
            (b"data_dir = \"/x\"", 1, "no option"),
        ] {
            let message = refusal(contents);
            assert!(message.contains(&format!("config.toml:{line}: ")), "{message}");
            assert!(message.contains(clue), "{message}");
        }
    }

    #[test]
    fn endless_file_is_refused_within_bounds() {
        assert!(refusal(&vec![b'#'; 1 << 20]).contains("larger"));
    }

    #[test]
    fn directory_in_the_files_place_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join(FILE_NAME)).unwrap();
        assert!(read(dir.path()).unwrap_err().message().contains("cannot be read"));
    }
}
