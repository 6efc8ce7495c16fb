//! The routes of the player's own desk: who they are, what they play on, what they hear, and why it glitches.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Extension, RawQuery, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use tokio::time::timeout;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::control::body::JsonBody;
use crate::control::bundle;
use crate::control::limits::{DEVICE_TIMEOUT, HISTORY_SECONDS};
use crate::control::problem::Problem;
use crate::control::routes::{AppState, Shared, answered, query_value};
use crate::control::types::{
    AudioChange, AudioState, Devices, Diagnosis, History, Link, LinkChange, Master, MasterChange, Me,
    MeChange, MidiChange, MidiState, Role, Setup, SetupChange, TestTone, TestToneRequest, WhoAmI,
};

/// Longest name and instrument, in characters: what the project takes.
const MAX_NAME_CHARS: usize = 64;

/// These routes.
pub(crate) fn routes() -> OpenApiRouter<Arc<Shared>> {
    OpenApiRouter::new()
        .routes(routes!(get_whoami))
        .routes(routes!(get_setup, put_setup))
        .routes(routes!(get_devices))
        .routes(routes!(get_audio, put_audio))
        .routes(routes!(get_midi, put_midi))
        .routes(routes!(post_test_tone, delete_test_tone))
        .routes(routes!(put_me))
        .routes(routes!(put_master))
        .routes(routes!(put_link))
        .routes(routes!(get_history))
        .routes(routes!(get_diagnosis))
        .routes(routes!(get_support_bundle))
}

/// What the token of this request may do.
#[utoipa::path(
    get, path = "/api/v1/whoami", tag = "node",
    responses(
        (status = 200, body = WhoAmI, description = "The token's role"),
        Problem,
    ),
)]
async fn get_whoami(Extension(role): Extension<Role>) -> Json<WhoAmI> {
    Json(WhoAmI { role })
}

/// Who this player is, and whether they were asked yet.
#[utoipa::path(
    get, path = "/api/v1/setup", tag = "desk",
    responses(
        (status = 200, body = Setup, description = "The answers so far"),
        Problem,
    ),
)]
async fn get_setup(State(shared): AppState) -> Json<Setup> {
    Json(shared.backend.setup().await)
}

/// Answers the first questions: kept on this machine, shown to everybody.
#[utoipa::path(
    put, path = "/api/v1/setup", tag = "desk",
    request_body = SetupChange,
    responses(
        (status = 200, body = Setup, description = "The answers now"),
        Problem,
    ),
)]
async fn put_setup(
    State(shared): AppState,
    JsonBody(change): JsonBody<SetupChange>,
) -> Result<Json<Setup>, Problem> {
    check_setup_change(&change)?;
    answered(shared.backend.set_setup(change)).await.map(Json)
}

/// Audio and MIDI devices of this machine; looking may take some seconds.
#[utoipa::path(
    get, path = "/api/v1/devices", tag = "desk",
    responses(
        (status = 200, body = Devices, description = "What is plugged in now"),
        Problem,
    ),
)]
async fn get_devices(State(shared): AppState) -> Result<Json<Devices>, Problem> {
    match timeout(DEVICE_TIMEOUT, shared.backend.devices()).await {
        Ok(devices) => Ok(Json(devices?)),
        Err(_) => Err(Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "no_answer",
            "A device's driver does not answer. Unplug what you do not need and try again.",
        )),
    }
}

/// The sound card that is open.
#[utoipa::path(
    get, path = "/api/v1/audio", tag = "desk",
    responses(
        (status = 200, body = AudioState, description = "The device now"),
        Problem,
    ),
)]
async fn get_audio(State(shared): AppState) -> Json<AudioState> {
    Json(shared.backend.audio())
}

/// Changes to another device, rate or period while everybody plays. If it cannot be opened, the old one goes on.
#[utoipa::path(
    put, path = "/api/v1/audio", tag = "desk",
    request_body = AudioChange,
    responses(
        (status = 200, body = AudioState, description = "The device that plays now"),
        Problem,
    ),
)]
async fn put_audio(
    State(shared): AppState,
    JsonBody(change): JsonBody<AudioChange>,
) -> Result<Json<AudioState>, Problem> {
    if change == AudioChange::default() {
        return Err(nothing("`device`, `rate_hz` or `period_frames`"));
    }
    within("rate_hz", change.rate_hz.map(f64::from), 8_000.0, 192_000.0)?;
    within("period_frames", change.period_frames.map(f64::from), 16.0, 4_096.0)?;
    if change.device.as_ref().is_some_and(|device| device.len() > MAX_DEVICE_BYTES) {
        return Err(invalid("`device` is longer than any device's name. GET /api/v1/devices lists them."));
    }
    answered(shared.backend.set_audio(change)).await.map(Json)
}

/// Bytes of a device's name, which may be two paths.
const MAX_DEVICE_BYTES: usize = 8_192;

/// The system's MIDI ports.
#[utoipa::path(
    get, path = "/api/v1/midi", tag = "desk",
    responses(
        (status = 200, body = MidiState, description = "What is chosen and open now"),
        Problem,
    ),
)]
async fn get_midi(State(shared): AppState) -> Json<MidiState> {
    Json(shared.backend.midi())
}

/// Changes to other MIDI ports while everybody plays. Notes that are held on what is left out end.
#[utoipa::path(
    put, path = "/api/v1/midi", tag = "desk",
    request_body = MidiChange,
    responses(
        (status = 200, body = MidiState, description = "What is chosen and open now"),
        Problem,
    ),
)]
async fn put_midi(
    State(shared): AppState,
    JsonBody(change): JsonBody<MidiChange>,
) -> Result<Json<MidiState>, Problem> {
    if change == MidiChange::default() {
        return Err(nothing("`all_inputs`, `inputs` or `outputs`"));
    }
    for (field, names) in [("inputs", &change.inputs), ("outputs", &change.outputs)] {
        let names = names.as_deref().unwrap_or_default();
        if names.len() > MAX_MIDI_PORTS || !names.iter().all(|name| is_port_name(name)) {
            let detail = format!(
                "`{field}` must be at most {MAX_MIDI_PORTS} names of 1 to {MAX_PORT_NAME_CHARS} characters on one line."
            );
            return Err(invalid(&detail));
        }
    }
    answered(shared.backend.set_midi(change)).await.map(Json)
}

/// Ports that can be chosen by name.
const MAX_MIDI_PORTS: usize = 64;
/// Longest name of a MIDI port, in characters: ALSA's client's and port's of 63 each, and what joins them.
const MAX_PORT_NAME_CHARS: usize = 128;

fn is_port_name(text: &str) -> bool {
    let fits = (1..=MAX_PORT_NAME_CHARS).contains(&text.chars().count());
    fits && !text.trim().is_empty() && !text.contains(char::is_control)
}

/// Plays a test tone in this player's ears only.
#[utoipa::path(
    post, path = "/api/v1/audio/test-tone", tag = "desk",
    request_body = TestToneRequest,
    responses(
        (status = 200, body = TestTone, description = "The tone that sounds now; it ends by itself"),
        Problem,
    ),
)]
async fn post_test_tone(
    State(shared): AppState,
    JsonBody(request): JsonBody<TestToneRequest>,
) -> Result<Json<TestTone>, Problem> {
    within("seconds", request.seconds.map(f64::from), 0.5, 10.0)?;
    within("level_db", request.level_db.map(f64::from), -60.0, -6.0)?;
    let tone =
        TestTone { seconds: request.seconds.unwrap_or(2.0), level_db: request.level_db.unwrap_or(-20.0) };
    shared.backend.play_tone(tone)?;
    Ok(Json(tone))
}

/// Ends the test tone.
#[utoipa::path(
    delete, path = "/api/v1/audio/test-tone", tag = "desk",
    responses(
        (status = 200, body = TestTone, description = "It is silent: `seconds` is 0"),
        Problem,
    ),
)]
async fn delete_test_tone(State(shared): AppState) -> Result<Json<TestTone>, Problem> {
    let tone = TestTone { seconds: 0.0, level_db: -20.0 };
    shared.backend.play_tone(tone)?;
    Ok(Json(tone))
}

/// Mutes me, sets my input gain, lets me hear myself.
#[utoipa::path(
    put, path = "/api/v1/me", tag = "desk",
    request_body = MeChange,
    responses(
        (status = 200, body = Me, description = "My sound now"),
        Problem,
    ),
)]
async fn put_me(State(shared): AppState, JsonBody(change): JsonBody<MeChange>) -> Result<Json<Me>, Problem> {
    if change == MeChange::default() {
        return Err(nothing("`muted`, `input_gain_db`, `monitor` or `monitor_gain_db`"));
    }
    within("input_gain_db", change.input_gain_db.map(f64::from), -60.0, 12.0)?;
    within("monitor_gain_db", change.monitor_gain_db.map(f64::from), -60.0, 12.0)?;
    Ok(Json(shared.backend.set_me(change)))
}

/// Sets the gain of all that I hear.
#[utoipa::path(
    put, path = "/api/v1/master", tag = "desk",
    request_body = MasterChange,
    responses(
        (status = 200, body = Master, description = "The sum now"),
        Problem,
    ),
)]
async fn put_master(
    State(shared): AppState,
    JsonBody(change): JsonBody<MasterChange>,
) -> Result<Json<Master>, Problem> {
    within("gain_db", Some(f64::from(change.gain_db)), -60.0, 12.0)?;
    Ok(Json(shared.backend.set_master(change)))
}

/// Joins or leaves the LAN's Ableton Link session.
#[utoipa::path(
    put, path = "/api/v1/link", tag = "desk",
    request_body = LinkChange,
    responses(
        (status = 200, body = Link, description = "Link now"),
        Problem,
    ),
)]
async fn put_link(
    State(shared): AppState,
    JsonBody(change): JsonBody<LinkChange>,
) -> Result<Json<Link>, Problem> {
    answered(shared.backend.set_link(change)).await.map(Json)
}

/// The last minutes in figures, one a second.
#[utoipa::path(
    get, path = "/api/v1/history", tag = "live",
    params(("seconds" = Option<u32>, Query, minimum = 1, maximum = 300, description = "How far back; absent: all 300")),
    responses(
        (status = 200, body = History, description = "Oldest first"),
        Problem,
    ),
)]
async fn get_history(State(shared): AppState, RawQuery(query): RawQuery) -> Result<Json<History>, Problem> {
    let seconds = match query_value(query.as_deref().unwrap_or_default(), "seconds") {
        None => HISTORY_SECONDS,
        Some(text) => match text.parse::<usize>() {
            Ok(seconds) if (1..=HISTORY_SECONDS).contains(&seconds) => seconds,
            _ => {
                let detail = format!("`seconds` is a whole number from 1 to {HISTORY_SECONDS}.");
                return Err(Problem::new(StatusCode::BAD_REQUEST, "bad_query", detail));
            }
        },
    };
    Ok(Json(shared.backend.history(seconds)))
}

/// Why it glitches, in one sentence, and what to do.
#[utoipa::path(
    get, path = "/api/v1/diagnosis", tag = "live",
    responses(
        (status = 200, body = Diagnosis, description = "The last seconds, judged"),
        Problem,
    ),
)]
async fn get_diagnosis(State(shared): AppState) -> Json<Diagnosis> {
    Json(shared.backend.diagnosis())
}

/// Everything that somebody who helps needs to see, without secrets.
#[utoipa::path(
    get, path = "/api/v1/support-bundle", tag = "live",
    responses(
        (status = 200, body = Vec<u8>, content_type = "application/zip",
            description = "A zip of text files; its README says what is in it"),
        Problem,
    ),
)]
async fn get_support_bundle(State(shared): AppState) -> Result<Response, Problem> {
    let bytes = bundle::make(&shared).await?;
    let name = "attachment; filename=\"bandmesh-support.zip\"";
    let headers = [(header::CONTENT_TYPE, "application/zip"), (header::CONTENT_DISPOSITION, name)];
    Ok((headers, bytes).into_response())
}

fn check_setup_change(change: &SetupChange) -> Result<(), Problem> {
    if *change == SetupChange::default() {
        return Err(nothing("`name`, `color`, `instrument` or `done`"));
    }
    let one_line = |text: &str| text.chars().count() <= MAX_NAME_CHARS && !text.contains(char::is_control);
    if change.name.as_ref().is_some_and(|name| !one_line(name) || name.trim().is_empty()) {
        return Err(invalid("`name` must have 1 to 64 characters on one line."));
    }
    if change.instrument.as_ref().is_some_and(|instrument| !one_line(instrument)) {
        return Err(invalid("`instrument` must have at most 64 characters on one line."));
    }
    if change.color.as_ref().is_some_and(|color| !is_color(color)) {
        return Err(invalid("`color` must be written as #rrggbb, such as #3fa9f5."));
    }
    Ok(())
}

fn is_color(text: &str) -> bool {
    text.strip_prefix('#')
        .is_some_and(|digits| digits.len() == 6 && digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// Refuses a number outside its range, and what is no number.
fn within(name: &str, value: Option<f64>, min: f64, max: f64) -> Result<(), Problem> {
    match value {
        Some(value) if !(min..=max).contains(&value) => {
            Err(invalid(&format!("`{name}` must lie from {min} to {max}.")))
        }
        _ => Ok(()),
    }
}

fn nothing(what: &str) -> Problem {
    invalid(&format!("Nothing to change. Give {what}."))
}

fn invalid(detail: &str) -> Problem {
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", detail)
}
