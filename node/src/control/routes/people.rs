//! Routes about people: undo, redo, the graph, notifications.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{AppState, Shared, answered};
use crate::control::problem::Problem;
use crate::control::types::{Graph, Notification, UndoResult};

/// All of them.
pub(super) fn api() -> OpenApiRouter<Arc<Shared>> {
    OpenApiRouter::new()
        .routes(routes!(get_graph))
        .routes(routes!(get_notifications))
        .routes(routes!(post_undo))
        .routes(routes!(post_redo))
}

/// Who is connected to whom, by which path, as each member reports it.
#[utoipa::path(
    get, path = "/api/v1/graph", tag = "node",
    responses(
        (status = 200, body = Graph, description = "The session now"),
        Problem,
    ),
)]
async fn get_graph(State(shared): AppState) -> Json<Graph> {
    Json(shared.backend.graph())
}

/// What the player was told lately, at most 50, oldest first.
#[utoipa::path(
    get, path = "/api/v1/notifications", tag = "live",
    responses(
        (status = 200, body = Vec<Notification>, description = "The latest notifications"),
        Problem,
    ),
)]
async fn get_notifications(State(shared): AppState) -> Json<Vec<Notification>> {
    Json(shared.backend.notifications(0))
}

/// Takes this node's latest edit of the project back.
///
/// Parts that somebody else has changed since stay as they are (`kept`). If nothing is left to take back the answer is 409:
/// `nothing_to_undo` where there is no edit, `changed_since` where all of it was changed by others; undoing once more then takes
/// the edit before it.
#[utoipa::path(
    post, path = "/api/v1/undo", tag = "project",
    responses(
        (status = 200, body = UndoResult, description = "The edit is taken back and on disk"),
        Problem,
    ),
)]
async fn post_undo(State(shared): AppState) -> Result<Json<UndoResult>, Problem> {
    answered(shared.backend.undo(false)).await.map(Json)
}

/// Makes the edit again that was undone last. As `POST /undo`, with `nothing_to_redo`.
#[utoipa::path(
    post, path = "/api/v1/redo", tag = "project",
    responses(
        (status = 200, body = UndoResult, description = "The edit is made again and on disk"),
        Problem,
    ),
)]
async fn post_redo(State(shared): AppState) -> Result<Json<UndoResult>, Problem> {
    answered(shared.backend.undo(true)).await.map(Json)
}
