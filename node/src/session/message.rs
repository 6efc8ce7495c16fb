//! What two nodes of one session say to each other on the control stream.
//!
//! A control frame is one [`Control`] in postcard encoding (a compact, self-delimiting binary form of serde
//! data), at most [`MAX_CONTROL_BYTES`]. Everything in it comes from another machine, so [`decode`] bounds
//! and cleans each field before anybody else sees it: what passes is safe to store, compare and show.

use serde::{Deserialize, Serialize};

use super::{beat::BeatRegister, touch::MAX_ADDRESS_BYTES};
pub use crate::codec::Codec;
use crate::codec::OPUS_RATE_HZ;

/// Version of the control protocol; nodes of other versions are told so and left alone.
pub const PROTOCOL: u16 = 1;
/// The longest control frame, bytes. A Hello with every field full is under 700.
pub const MAX_CONTROL_BYTES: usize = 4096;
/// Most links in a [`MemberState`].
pub const MAX_LINKS: usize = super::MAX_PEERS;
/// The greatest figure in a [`Strain`].
const MAX_STRAIN: u32 = 99_999;
/// Longest peer id in a [`LinkState`], bytes: libp2p's are 34 to 42.
pub const MAX_ID_BYTES: usize = 42;
/// [`LinkState::path`] of a path that is not known.
pub const NO_PATH: u8 = 0;
/// Kinds of messages that later versions may add: they are ignored, not held against the peer.
const LATER_KINDS: std::ops::RangeInclusive<u8> = 7..=31;
/// The longest session or member name, characters.
pub const MAX_NAME_CHARS: usize = 64;

/// One control message.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Control {
    /// First message both ways: who I am and which session I belong to.
    Hello(Hello),
    /// Every half second, and at once when something in it changes.
    Heartbeat(Heartbeat),
    /// "Your timebase is younger than mine: take mine." Sent by the one of the two who decides.
    ClaimTimebase(Heartbeat),
    /// The stream I send has these properties from now on.
    Stream(StreamInfo),
    /// I am leaving on purpose.
    Goodbye,
    /// What I want the others to know of me; after the first one only to members that sent one.
    State(MemberState),
    /// I hold something, or let it go; only to members that sent a [`Control::State`].
    Touch(Touch),
    /// A message of a later version; never sent.
    #[serde(skip)]
    Later,
}

/// What a member tells of itself. Further bytes are ignored: later versions append fields, and never change [`LinkState`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberState {
    /// It sends no sound on purpose.
    pub muted: bool,
    /// Its connections to members, at most [`MAX_LINKS`].
    pub links: Vec<LinkState>,
    /// How hard its machine works; `None` from older versions. Appended to the rest, see [`encode`].
    #[serde(skip)]
    pub strain: Option<Strain>,
    /// It understands a stereo stream of which one channel is sent; appended after that.
    #[serde(skip)]
    pub takes_reduced: bool,
    /// Whose time it follows; `None` from older versions. Appended after that.
    #[serde(skip)]
    pub follows: Option<Follows>,
    /// It takes part in its LAN's Link session and sees others there. Appended last.
    #[serde(skip)]
    pub in_link: bool,
}

/// Whose session time a member follows. The smallest that it hears of is followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Follows {
    /// The member that keeps the time: its [`Identity::author`](super::Identity::author).
    pub reference: u64,
    /// Connections from there to the sender: 0 when that is itself, then at most [`MAX_HOPS`](super::MAX_HOPS).
    pub hops: u8,
}

/// How hard a machine worked for its sound in the last ten seconds. Who does not hear a member well cannot see from outside
/// whether that member's network or its machine is at fault; these figures tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Strain {
    /// Deadlines that its sound card missed.
    pub xruns: u32,
    /// The longest callback over the time it had, in percent.
    pub callback_percent: u32,
    /// Mean share of busy processors in percent, if known.
    pub cpu_percent: Option<u32>,
    /// The latest that a thread of the program woke up after its time, ms.
    pub wake_late_ms: u32,
}

impl Strain {
    /// No figure above what people can read.
    fn bounded(self) -> Self {
        let bound = |figure: u32| figure.min(MAX_STRAIN);
        Self {
            xruns: bound(self.xruns),
            callback_percent: bound(self.callback_percent),
            cpu_percent: self.cpu_percent.map(|percent| percent.min(100)),
            wake_late_ms: bound(self.wake_late_ms),
        }
    }
}

/// One connection as one end sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkState {
    /// The other end: the bytes of its peer id, at most [`MAX_ID_BYTES`].
    pub peer: Vec<u8>,
    /// [`NO_PATH`], or 1 the same LAN, 2 direct, 3 by a relay, 4 by a member; others are as good as not known.
    pub path: u8,
    /// Round trip, µs.
    pub rtt_us: Option<u32>,
    /// From the other end's mouth to this end's ear, µs.
    pub one_way_us: Option<u32>,
    /// Whether sound of the other end arrives; `None` while it is too early to say.
    pub audio_arrives: Option<bool>,
}

/// Something a member holds, or lets go. Further bytes are ignored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Touch {
    /// Which of the member's pages: random per page.
    pub source: u32,
    /// An address of the project, at most [`MAX_ADDRESS_BYTES`](super::touch::MAX_ADDRESS_BYTES).
    pub address: String,
    /// Where it stands.
    pub value: TouchValue,
}

/// Where something stands that is held.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum TouchValue {
    /// It is let go.
    End,
    /// It is touched, and has no value meanwhile.
    Only,
    /// A number in the parameter's unit.
    Number(f64),
    /// On or off.
    Flag(bool),
    /// A text.
    Text(String),
}

/// Who a node is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hello {
    /// [`PROTOCOL`] of the sender.
    pub protocol: u16,
    /// Name of the session the sender belongs to.
    pub session: String,
    /// The musician's name, for display.
    pub name: String,
    /// Random per process start: tells a restarted node from a moved one.
    pub incarnation: u64,
    /// What the sender will send.
    pub stream: StreamInfo,
}

/// How the audio of one sender is coded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamInfo {
    /// RTP synchronisation source of the audio stream.
    pub ssrc: u32,
    /// Audio codec.
    pub codec: Codec,
    /// RTP timestamp rate, Hz: the device's rate for PCM, 48000 for Opus.
    pub rate_hz: u32,
    /// Channels, 1 or 2.
    pub channels: u8,
    /// Frames in one packet.
    pub packet_frames: u16,
}

/// The sender's view of the session's time and beat.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// Which session timebase the sender keeps.
    pub timebase: [u8; 16],
    /// Session time minus the sender's own monotonic clock, ns.
    pub session_offset_ns: i64,
    /// Session time when this was sent, ns: the timebase's age.
    pub session_now_ns: i64,
    /// Tempo, beat and playback on that timebase.
    pub beat: BeatRegister,
}

/// Why a control frame was refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum DecodeError {
    /// Longer than [`MAX_CONTROL_BYTES`].
    #[error(
        "control frame of {0} bytes is over the limit of {MAX_CONTROL_BYTES}; the peer is faulty or hostile"
    )]
    TooLong(usize),
    /// Not a message of this protocol version.
    #[error("control frame is not understood; the peer may run another version of Bandmesh")]
    Malformed,
    /// A field is outside its range.
    #[error("control frame has {0} out of range; the peer is faulty or hostile")]
    OutOfRange(&'static str),
}

/// Bytes of `message` for one control frame.
pub fn encode(message: &Control) -> Vec<u8> {
    // Serialising plain data into a growable buffer has no failing case; an empty frame would be refused by the peer.
    let mut bytes = postcard::to_stdvec(message).unwrap_or_default();
    if let Control::State(state) = message {
        // A field of a struct would be missed by this version in what older ones send; what is appended is not.
        let appended = (state.strain, state.takes_reduced, state.follows, state.in_link);
        bytes.extend(postcard::to_stdvec(&appended).unwrap_or_default());
    }
    bytes
}

/// Reads one control frame from a peer.
///
/// # Errors
/// [`DecodeError`] when the frame is too long, malformed, or carries a value outside its range.
pub fn decode(bytes: &[u8]) -> Result<Control, DecodeError> {
    if bytes.len() > MAX_CONTROL_BYTES {
        return Err(DecodeError::TooLong(bytes.len()));
    }
    if bytes.first().is_some_and(|kind| LATER_KINDS.contains(kind)) {
        return Ok(Control::Later);
    }
    let (message, rest) = postcard::take_from_bytes::<Control>(bytes).map_err(|_| DecodeError::Malformed)?;
    if !rest.is_empty() && !matches!(message, Control::State(_) | Control::Touch(_)) {
        return Err(DecodeError::Malformed);
    }
    match message {
        Control::State(mut state) => {
            if let Ok((strain, rest)) = postcard::take_from_bytes::<Option<Strain>>(rest) {
                state.strain = strain.map(Strain::bounded);
                if let Ok((takes_reduced, rest)) = postcard::take_from_bytes(rest) {
                    state.takes_reduced = takes_reduced;
                    if let Ok((follows, rest)) = postcard::take_from_bytes(rest) {
                        state.follows = follows;
                        state.in_link = postcard::take_from_bytes(rest).is_ok_and(|(in_link, _)| in_link);
                    }
                }
            }
            let fits = |link: &LinkState| (1..=MAX_ID_BYTES).contains(&link.peer.len());
            if state.links.len() > MAX_LINKS || !state.links.iter().all(fits) {
                return Err(DecodeError::OutOfRange("the links"));
            }
            Ok(Control::State(state))
        }
        Control::Touch(touch) if touch.address.len() > MAX_ADDRESS_BYTES => {
            Err(DecodeError::OutOfRange("the address"))
        }
        Control::Hello(mut hello) => {
            hello.session = clean_name(&hello.session);
            hello.name = clean_name(&hello.name);
            check_stream(&hello.stream)?;
            Ok(Control::Hello(hello))
        }
        Control::Heartbeat(beat) | Control::ClaimTimebase(beat) if !beat.beat.is_sane() => {
            Err(DecodeError::OutOfRange("the beat"))
        }
        Control::Stream(stream) => {
            check_stream(&stream)?;
            Ok(Control::Stream(stream))
        }
        other => Ok(other),
    }
}

/// A name fit to store and show: no control or bidirectional-override characters, at most
/// [`MAX_NAME_CHARS`] characters, trimmed.
pub fn clean_name(name: &str) -> String {
    let harmless = |c: &char| {
        !c.is_control()
            && !matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
    };
    name.chars().filter(harmless).take(MAX_NAME_CHARS).collect::<String>().trim().to_owned()
}

fn check_stream(stream: &StreamInfo) -> Result<(), DecodeError> {
    if !(8_000..=192_000).contains(&stream.rate_hz) {
        return Err(DecodeError::OutOfRange("the sample rate"));
    }
    if stream.codec == Codec::Opus && stream.rate_hz != OPUS_RATE_HZ {
        return Err(DecodeError::OutOfRange("the sample rate (Opus has 48000 Hz)"));
    }
    if !(1..=2).contains(&stream.channels) {
        return Err(DecodeError::OutOfRange("the channel count"));
    }
    if !(16..=1024).contains(&stream.packet_frames) {
        return Err(DecodeError::OutOfRange("the packet length"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello() -> Hello {
        Hello {
            protocol: PROTOCOL,
            session: "jam".into(),
            name: "Alice".into(),
            incarnation: 7,
            stream: StreamInfo {
                ssrc: 1,
                codec: Codec::Pcm16,
                rate_hz: 48_000,
                channels: 2,
                packet_frames: 128,
            },
        }
    }

    #[test]
    fn a_hello_survives_the_wire() {
        let message = Control::Hello(hello());
        assert_eq!(decode(&encode(&message)), Ok(message));
    }

    #[test]
    fn names_from_peers_lose_control_and_override_characters() {
        let mut hostile = hello();
        hostile.name = format!("\u{1b}[2J\u{202e}Mallory{}", "x".repeat(10_000));
        // Over the frame limit it is refused whole; under it, it is cleaned.
        assert!(matches!(decode(&encode(&Control::Hello(hostile.clone()))), Err(DecodeError::TooLong(_))));
        hostile.name.truncate(2_000);
        let Ok(Control::Hello(seen)) = decode(&encode(&Control::Hello(hostile))) else { panic!("refused") };
        assert!(seen.name.starts_with("[2JMallory"));
        assert_eq!(seen.name.chars().count(), MAX_NAME_CHARS);
    }

    #[test]
    fn a_full_state_fits_a_frame_and_later_versions_may_append() {
        let link = LinkState {
            peer: vec![0xff; MAX_ID_BYTES],
            path: 4,
            rtt_us: Some(u32::MAX),
            one_way_us: Some(u32::MAX),
            audio_arrives: Some(true),
        };
        let strain = Strain {
            xruns: MAX_STRAIN,
            callback_percent: MAX_STRAIN,
            cpu_percent: Some(100),
            wake_late_ms: MAX_STRAIN,
        };
        let full = |strain: Option<Strain>| {
            let links = vec![link.clone(); MAX_LINKS];
            let follows = strain.map(|_| Follows { reference: u64::MAX, hops: u8::MAX });
            let in_link = strain.is_some();
            Control::State(MemberState { muted: true, links, strain, takes_reduced: true, follows, in_link })
        };
        for strain in [None, Some(strain)] {
            let mut bytes = encode(&full(strain));
            assert!(bytes.len() < MAX_CONTROL_BYTES, "{}", bytes.len());
            assert_eq!(decode(&bytes), Ok(full(strain)));
            bytes.extend([1, 2, 3]);
            assert_eq!(decode(&bytes), Ok(full(strain)));
        }
        // Older versions end after the links, or after the strain, and nobody is stranger than a busy machine can be.
        let older = |strain| {
            let Control::State(state) = full(strain) else { panic!("a state") };
            Control::State(MemberState { takes_reduced: false, follows: None, in_link: false, ..state })
        };
        let mut bytes = postcard::to_stdvec(&full(None)).unwrap();
        assert_eq!(decode(&bytes), Ok(older(None)));
        bytes.extend(postcard::to_stdvec(&Some(strain)).unwrap());
        assert_eq!(decode(&bytes), Ok(older(Some(strain))));
        let absurd = Strain { xruns: u32::MAX, cpu_percent: Some(u32::MAX), ..strain };
        assert_eq!(decode(&encode(&full(Some(absurd)))), Ok(full(Some(strain))));
        let links = vec![link; MAX_LINKS + 1];
        let crowd = Control::State(MemberState { links, ..MemberState::default() });
        assert_eq!(decode(&encode(&crowd)), Err(DecodeError::OutOfRange("the links")));
    }

    #[test]
    fn kinds_of_later_versions_are_known_as_such() {
        let touch = Touch { source: 1, address: "/chat".into(), value: TouchValue::Only };
        // The greatest kind of this version is followed by those to come.
        assert_eq!(encode(&Control::Touch(touch))[0] + 1, *LATER_KINDS.start());
        assert_eq!(decode(&[*LATER_KINDS.start(), 9, 9]), Ok(Control::Later));
        assert_eq!(decode(&[LATER_KINDS.end() + 1, 9, 9]), Err(DecodeError::Malformed));
    }

    #[test]
    fn absurd_streams_are_refused() {
        let mut absurd = hello();
        absurd.stream.rate_hz = 0;
        assert_eq!(decode(&encode(&Control::Hello(absurd))), Err(DecodeError::OutOfRange("the sample rate")));
        let stream = StreamInfo { codec: Codec::Opus, rate_hz: 44_100, ..hello().stream };
        let refused = Err(DecodeError::OutOfRange("the sample rate (Opus has 48000 Hz)"));
        assert_eq!(decode(&encode(&Control::Stream(stream))), refused);
    }

    #[test]
    fn random_and_truncated_bytes_are_refused_quietly() {
        let good = encode(&Control::Hello(hello()));
        for cut in 0..good.len() {
            assert!(decode(&good[..cut]).is_err());
        }
        for seed in 0..5_000u32 {
            let bytes: Vec<u8> = (0..seed % 90)
                .map(|i| (seed.wrapping_mul(2_654_435_761).rotate_left(i) >> 3) as u8)
                .collect();
            let _ = decode(&bytes);
        }
    }
}
