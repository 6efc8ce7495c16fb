//! `--audio`: which device a user means.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// Which device to play through, written as on the command line:
/// `auto`, `null`, `jack`, `file:IN.wav`, `file:IN.wav,OUT.wav`, or a device name from `bandmesh devices`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AudioChoice {
    /// The best that is there: JACK, else the default card, else [`AudioChoice::Null`].
    Auto,
    /// A steady timer; silence in, nothing out. Works anywhere.
    Null,
    /// The running JACK server.
    Jack,
    /// Plays a WAV file once as the input, then silence, and records what the player hears.
    File {
        /// What is played as if it were the instrument.
        input: PathBuf,
        /// Where the mix is recorded, if anywhere. An existing file is replaced, unless this node recorded it.
        output: Option<PathBuf>,
    },
    /// A sound card by its name or a unique part of it.
    Device(String),
}

/// Why a text names no device.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChoiceError {
    /// Nothing was given.
    #[error(
        "--audio needs a device: auto, null, jack, file:IN.wav[,OUT.wav] or a name from `bandmesh devices`"
    )]
    Empty,
    /// `file:` without a path, or with an empty output.
    #[error("--audio {0}: write file:IN.wav or file:IN.wav,OUT.wav (a path may not contain a comma)")]
    File(String),
    /// Input and output are the same file.
    #[error("--audio {0}: input and output are the same file; give OUT.wav another name")]
    SameFile(String),
}

impl FromStr for AudioChoice {
    type Err = ChoiceError;

    fn from_str(text: &str) -> Result<Self, ChoiceError> {
        match text.trim() {
            "" => Err(ChoiceError::Empty),
            "auto" => Ok(AudioChoice::Auto),
            "null" => Ok(AudioChoice::Null),
            "jack" => Ok(AudioChoice::Jack),
            other => match other.strip_prefix("file:") {
                Some(paths) => file(paths, other),
                None => Ok(AudioChoice::Device(other.to_owned())),
            },
        }
    }
}

impl fmt::Display for AudioChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AudioChoice::Auto => f.write_str("auto"),
            AudioChoice::Null => f.write_str("null"),
            AudioChoice::Jack => f.write_str("jack"),
            AudioChoice::File { input, output: None } => write!(f, "file:{}", input.display()),
            AudioChoice::File { input, output: Some(output) } => {
                write!(f, "file:{},{}", input.display(), output.display())
            }
            AudioChoice::Device(name) => f.write_str(name),
        }
    }
}

fn file(paths: &str, whole: &str) -> Result<AudioChoice, ChoiceError> {
    let mut parts = paths.split(',');
    let (input, output, more) = (parts.next().unwrap_or_default(), parts.next(), parts.next());
    if input.is_empty() || output == Some("") || more.is_some() {
        return Err(ChoiceError::File(whole.to_owned()));
    }
    if output == Some(input) {
        return Err(ChoiceError::SameFile(whole.to_owned()));
    }
    Ok(AudioChoice::File { input: PathBuf::from(input), output: output.map(PathBuf::from) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_the_option_reads_back_as_written() {
        for text in ["auto", "null", "jack", "file:a.wav", "file:/tmp/a b.wav,out.wav", "hw:CARD=PCH,DEV=0"] {
            assert_eq!(text.parse::<AudioChoice>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn half_written_choices_are_refused_with_the_right_form() {
        for text in ["", "  ", "file:", "file:,b.wav", "file:a.wav,", "file:a,b,c", "file:a.wav,a.wav"] {
            let error = text.parse::<AudioChoice>().unwrap_err().to_string();
            assert!(error.contains("file"), "{text}: {error}");
        }
    }
}
