//! The routes of `/api/v1`, thin: read the request, ask the backend, answer.

use std::future::Future;
use std::sync::Arc;

use axum::Json;
use axum::extract::Request;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::{Extension, Path, RawQuery, State};
use axum::http::{HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Router, middleware};
use serde_json::Value;
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, timeout};
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::{Modify, OpenApi};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::control::backend::{Backend, BackendError};
use crate::control::body::JsonBody;
use crate::control::desk;
use crate::control::guard;
use crate::control::limits::{
    MAX_COMMANDS, MAX_SOCKET_MESSAGE_BYTES, MAX_SOCKETS, REQUEST_TIMEOUT, TICKET_LIFE,
};
use crate::control::log::LogBuffer;
use crate::control::metrics::{self, Counters};
use crate::control::page;
use crate::control::problem::Problem;
use crate::control::socket;
use crate::control::token::{Keys, Tickets};
use crate::control::types::{
    Command, PatchRequest, PatchResult, Peer, PeerChange, Playback, PlaybackChange, Role, Status, Ticket,
};

mod people;

/// What all requests share.
pub(crate) struct Shared {
    pub(crate) backend: Arc<dyn Backend>,
    pub(crate) keys: Keys,
    pub(crate) tickets: Tickets,
    pub(crate) logs: LogBuffer,
    pub(crate) counters: Counters,
    /// One permit a WebSocket.
    pub(crate) sockets: Arc<Semaphore>,
    /// `true` once the server stops.
    pub(crate) stop: watch::Receiver<bool>,
    openapi: String,
}

impl Shared {
    pub(crate) fn new(
        backend: Arc<dyn Backend>,
        keys: Keys,
        logs: LogBuffer,
        stop: watch::Receiver<bool>,
    ) -> Self {
        Self {
            backend,
            keys,
            tickets: Tickets::default(),
            logs,
            counters: Counters::default(),
            sockets: Arc::new(Semaphore::new(MAX_SOCKETS)),
            stop,
            openapi: openapi(),
        }
    }
}

/// The description of the interface: OpenAPI 3.1 as JSON.
#[must_use]
pub fn openapi() -> String {
    let (_, mut document) = api().split_for_parts();
    // The router marks a parameter that spans slashes with a star; OpenAPI has no such notion.
    let paths = std::mem::take(&mut document.paths.paths);
    document.paths.paths = paths.into_iter().map(|(path, item)| (path.replace("{*", "{"), item)).collect();
    document.to_json().unwrap_or_default()
}

/// All routes with their checks.
pub(crate) fn router(shared: Arc<Shared>) -> Router {
    let (api, _) = api().split_for_parts();
    api
        // Where Prometheus looks when it is told nothing else.
        .route("/metrics", get(get_metrics))
        .fallback(page_or_nothing)
        .method_not_allowed_fallback(no_such_method)
        .layer(middleware::from_fn_with_state(Arc::clone(&shared), guard::guard))
        .with_state(shared)
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Bandmesh control interface",
        description = "See and steer one node. Every error is an RFC 9457 problem document whose `detail` says what to do. \
                       `GET /api/v1/ws` describes the WebSocket.",
        license(name = "GPL-3.0-or-later", identifier = "GPL-3.0-or-later")
    ),
    components(schemas(
        Problem,
        socket::ClientMessage,
        socket::ServerMessage,
        socket::Topic,
    )),
    modifiers(&BearerToken),
    security(("token" = [])),
    tags(
        (name = "node", description = "This node and the others"),
        (name = "desk", description = "This player's own desk"),
        (name = "project", description = "What the band shares"),
        (name = "live", description = "What happens from moment to moment"),
    )
)]
struct Description;

struct BearerToken;

impl Modify for BearerToken {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let components = document.components.get_or_insert_default();
        let scheme = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
        components.add_security_scheme("token", scheme);
    }
}

fn api() -> OpenApiRouter<Arc<Shared>> {
    OpenApiRouter::with_openapi(Description::openapi())
        .routes(routes!(get_status))
        .routes(routes!(get_peers))
        .routes(routes!(put_peer))
        .routes(routes!(get_project, patch_project))
        .routes(routes!(get_project_node))
        .routes(routes!(get_playback, put_playback))
        .routes(routes!(post_ticket))
        .routes(routes!(get_socket))
        .routes(routes!(get_metrics))
        .routes(routes!(get_openapi))
        .merge(people::api())
        .merge(desk::routes())
}

pub(crate) type AppState = State<Arc<Shared>>;

/// This node: audio, Link, session and project.
#[utoipa::path(
    get, path = "/api/v1/status", tag = "node",
    responses(
        (status = 200, body = Status, description = "This node now"),
        Problem,
    ),
)]
async fn get_status(State(shared): AppState) -> Json<Status> {
    Json(shared.backend.status())
}

/// The other nodes of the session.
#[utoipa::path(
    get, path = "/api/v1/peers", tag = "node",
    responses(
        (status = 200, body = Vec<Peer>, description = "The others now"),
        Problem,
    ),
)]
async fn get_peers(State(shared): AppState) -> Json<Vec<Peer>> {
    Json(shared.backend.peers())
}

/// Changes my own mix of another node; nobody else hears it.
#[utoipa::path(
    put, path = "/api/v1/peers/{peer_id}", tag = "node",
    params(("peer_id" = String, Path, description = "The other node's `peer_id`")),
    request_body = PeerChange,
    responses(
        (status = 200, body = Peer, description = "The other node with my mix of it"),
        Problem,
    ),
)]
async fn put_peer(
    State(shared): AppState,
    peer_id: PathText,
    JsonBody(change): JsonBody<PeerChange>,
) -> Result<Json<Peer>, Problem> {
    check_peer_change(&change)?;
    answered(shared.backend.set_peer(&path_text(peer_id)?, change)).await.map(Json)
}

/// The whole shared project.
#[utoipa::path(
    get, path = "/api/v1/project", tag = "project",
    responses(
        (status = 200, body = Value, description = "The tree whose nodes have the addresses that `PATCH` takes"),
        Problem,
    ),
)]
async fn get_project(State(shared): AppState) -> Result<Json<Value>, Problem> {
    Ok(Json(shared.backend.project().await?))
}

/// One node of the project's tree.
#[utoipa::path(
    get, path = "/api/v1/project/{*address}", tag = "project",
    params(("address" = String, Path, description = "An address without its first slash, such as `transport/tempo_bpm`")),
    responses(
        (status = 200, body = Value, description = "What is at the address"),
        Problem,
    ),
)]
async fn get_project_node(State(shared): AppState, address: PathText) -> Result<Json<Value>, Problem> {
    let address = format!("/{}", path_text(address)?.trim_matches('/'));
    shared.backend.project_node(&address).await?.map(Json).ok_or_else(|| {
        Problem::new(
            StatusCode::NOT_FOUND,
            "not_found",
            "The project has nothing at this address. GET /api/v1/project shows all there is.",
        )
    })
}

/// Edits the project, all commands or none.
#[utoipa::path(
    patch, path = "/api/v1/project", tag = "project",
    params(("wait" = Option<String>, Query, pattern = "^(disk|none)$",
        description = "`disk` (default) answers once the edits are on disk, `none` at once with `durable: false`; \
            numbers that are set again and again with it are committed four times a second")),
    request_body = PatchRequest,
    responses(
        (status = 200, body = PatchResult, description = "The edits are applied"),
        Problem,
    ),
)]
async fn patch_project(
    State(shared): AppState,
    RawQuery(query): RawQuery,
    JsonBody(request): JsonBody<PatchRequest>,
) -> Result<Json<PatchResult>, Problem> {
    let durable = waits_for_disk(query.as_deref().unwrap_or_default())?;
    check_commands(&request.commands)?;
    answered(shared.backend.patch(request.commands, durable)).await.map(Json)
}

/// The common beat and position.
#[utoipa::path(
    get, path = "/api/v1/transport", tag = "project",
    responses(
        (status = 200, body = Playback, description = "The beat and position now"),
        Problem,
    ),
)]
async fn get_playback(State(shared): AppState) -> Json<Playback> {
    Json(shared.backend.playback())
}

/// Starts, stops, locates, changes tempo or time signature, for everybody.
#[utoipa::path(
    put, path = "/api/v1/transport", tag = "project",
    request_body = PlaybackChange,
    responses(
        (status = 200, body = Playback, description = "The beat and position after the change"),
        Problem,
    ),
)]
async fn put_playback(
    State(shared): AppState,
    JsonBody(change): JsonBody<PlaybackChange>,
) -> Result<Json<Playback>, Problem> {
    check_playback_change(&change)?;
    answered(shared.backend.set_playback(change)).await.map(Json)
}

/// A key for one WebSocket, for clients that cannot send headers with it.
#[utoipa::path(
    post, path = "/api/v1/ws-ticket", tag = "live",
    responses(
        (status = 200, body = Ticket, description = "A ticket"),
        Problem,
    ),
)]
async fn post_ticket(State(shared): AppState, Extension(role): Extension<Role>) -> Json<Ticket> {
    let ticket = shared.tickets.issue(role, Instant::now());
    Json(Ticket { ticket, expires_in_s: TICKET_LIFE.as_secs() })
}

/// What happens, as it happens, and the same commands.
///
/// A WebSocket of JSON text messages, `ClientMessage` in and `ServerMessage` out. The token comes as `Authorization` header,
/// as `?ticket=` from `POST /api/v1/ws-ticket`, or as first message `{"type":"auth","token":"…"}` within 5 s. The server
/// then says `ready`; `{"type":"subscribe","topics":["status","meters"]}` starts what is wanted.
#[utoipa::path(
    get, path = "/api/v1/ws", tag = "live", security((), ("token" = [])),
    params(("ticket" = Option<String>, Query, description = "From `POST /api/v1/ws-ticket`; works once")),
    responses(
        (status = 101, description = "The WebSocket is open"),
        Problem,
    ),
)]
async fn get_socket(
    State(shared): AppState,
    RawQuery(query): RawQuery,
    role: Option<Extension<Role>>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Problem> {
    let upgrade = upgrade.map_err(|_| {
        let detail =
            "This address speaks WebSocket only (RFC 6455, version 13). Open it with a WebSocket client.";
        Problem::new(StatusCode::UPGRADE_REQUIRED, "not_websocket", detail)
    })?;
    let ticket = query_value(query.as_deref().unwrap_or_default(), "ticket");
    // The guard gives a role where an Authorization header came with a good token.
    let mut role = role.map(|Extension(role)| role);
    if let Some(ticket) = ticket
        && role.is_none()
    {
        role = shared.tickets.redeem(ticket, Instant::now());
        if role.is_none() {
            let detail = "The ticket is used up or too old. Get another by POST /api/v1/ws-ticket.";
            return Err(Problem::new(StatusCode::UNAUTHORIZED, "bad_ticket", detail));
        }
    }
    let Ok(permit) = Arc::clone(&shared.sockets).try_acquire_owned() else {
        let detail = format!("{MAX_SOCKETS} WebSockets are open. Close one, or wait and try again.");
        return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "too_many_sockets", detail));
    };
    Ok(upgrade
        .max_message_size(MAX_SOCKET_MESSAGE_BYTES)
        .max_frame_size(MAX_SOCKET_MESSAGE_BYTES)
        .on_upgrade(move |socket| async move {
            socket::serve(socket, shared, role).await;
            drop(permit);
        }))
}

/// Figures for Prometheus.
#[utoipa::path(
    get, path = "/api/v1/metrics", tag = "live",
    responses(
        (status = 200, body = String, content_type = metrics::MEDIA_TYPE, description = "OpenMetrics text"),
        Problem,
    ),
)]
async fn get_metrics(State(shared): AppState) -> Result<Response, Problem> {
    let text = metrics::render(&shared).map_err(|_| {
        let detail = "The figures could not be written. This is a fault of the program; please report it.";
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "failed", detail)
    })?;
    Ok(([(header::CONTENT_TYPE, metrics::MEDIA_TYPE)], text).into_response())
}

/// This description.
#[utoipa::path(
    get, path = "/api/v1/openapi.json", tag = "node", security(()),
    responses(
        (status = 200, body = Value, description = "OpenAPI 3.1"),
        Problem,
    ),
)]
async fn get_openapi(State(shared): AppState) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], shared.openapi.clone()).into_response()
}

/// The page's files; they hold no data, so a link from elsewhere may open them.
async fn page_or_nothing(request: Request) -> Result<Response, Problem> {
    if let Some(file) = page::find(request.uri().path()) {
        return match *request.method() {
            Method::GET | Method::HEAD => Ok(file.response(request.headers())),
            _ => {
                let mut refused =
                    no_such_method(request.method().clone(), request.uri().clone()).await.into_response();
                refused.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET,HEAD"));
                Ok(refused)
            }
        };
    }
    let detail = "There is nothing at this address. /api/v1/openapi.json lists all addresses.";
    Err(Problem::new(StatusCode::NOT_FOUND, "not_found", detail))
}

async fn no_such_method(method: Method, uri: Uri) -> Problem {
    let detail = format!(
        "{} cannot do {method}. The Allow header and /api/v1/openapi.json say what it can.",
        uri.path().chars().take(200).collect::<String>()
    );
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "wrong_method", detail)
}

type PathText = Result<Path<String>, axum::extract::rejection::PathRejection>;

fn path_text(path: PathText) -> Result<String, Problem> {
    path.map(|Path(text)| text).map_err(|_| {
        let detail = "The address is not UTF-8. Percent-encode it (RFC 3986).";
        Problem::new(StatusCode::BAD_REQUEST, "bad_address", detail)
    })
}

/// The value of `key` in a query, undecoded: what we look for needs no encoding.
pub(crate) fn query_value<'a>(query: &'a str, key: &str) -> Option<&'a str> {
    query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .find(|(name, _)| *name == key)
        .map(|(_, value)| value)
}

fn waits_for_disk(query: &str) -> Result<bool, Problem> {
    match query_value(query, "wait") {
        None | Some("disk") => Ok(true),
        Some("none") => Ok(false),
        Some(_) => Err(Problem::new(
            StatusCode::BAD_REQUEST,
            "bad_query",
            "`wait` is `disk` (answer once the edits are on disk) or `none` (answer at once).",
        )),
    }
}

/// What the interface itself can say about commands; the registry behind it says the rest.
pub(crate) fn check_commands(commands: &[Command]) -> Result<(), Problem> {
    let problem = |detail: String| Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", detail));
    if commands.is_empty() || commands.len() > MAX_COMMANDS {
        return problem(format!("`commands` holds {} commands; send 1 to {MAX_COMMANDS}.", commands.len()));
    }
    match commands.iter().position(|command| !command.address().starts_with('/')) {
        Some(at) => problem(format!(
            "The address of command {at} must begin with `/`, such as `/transport/tempo_bpm`."
        )),
        None => Ok(()),
    }
}

pub(crate) fn check_playback_change(change: &PlaybackChange) -> Result<(), Problem> {
    let problem = |detail: &str| Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", detail));
    if *change == PlaybackChange::default() {
        return problem(
            "Nothing to change. Give `tempo_bpm`, `time_signature`, `playing`, `position_beats` or `metronome`.",
        );
    }
    if change.tempo_bpm.is_some_and(|tempo| !(20.0..=999.0).contains(&tempo)) {
        return problem("`tempo_bpm` must lie from 20 to 999.");
    }
    if change.position_beats.is_some_and(|position| position.abs() > 1e9) {
        return problem("`position_beats` must lie from -1000000000 to 1000000000.");
    }
    Ok(())
}

fn check_peer_change(change: &PeerChange) -> Result<(), Problem> {
    let problem = |detail: &str| Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", detail));
    if *change == PeerChange::default() {
        return problem("Nothing to change. Give `gain_db`, `pan`, `muted_by_me` or `soloed_by_me`.");
    }
    if change.gain_db.is_some_and(|gain| !(-60.0..=12.0).contains(&gain)) {
        return problem("`gain_db` must lie from -60 to 12.");
    }
    if change.pan.is_some_and(|pan| !(-1.0..=1.0).contains(&pan)) {
        return problem("`pan` must lie from -1 to 1.");
    }
    Ok(())
}

/// The backend's answer within [`REQUEST_TIMEOUT`].
pub(crate) async fn answered<T>(answer: impl Future<Output = Result<T, BackendError>>) -> Result<T, Problem> {
    match timeout(REQUEST_TIMEOUT, answer).await {
        Ok(answer) => answer.map_err(Problem::from),
        Err(_) => Err(Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "no_answer",
            "The node took too long. The change may still happen: look before you try again, and see the node's log.",
        )),
    }
}
