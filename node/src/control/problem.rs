//! Errors as RFC 9457 problem documents.
//!
//! Every error of the interface is one of these, those of the router and the body reader included, and its `detail` says
//! what the caller can do. `type` stays `about:blank`, so that `title` is the status phrase; the extension member `code` is
//! the stable word a program can branch on.

use std::collections::BTreeMap;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::openapi::{Content, Ref, RefOr, Response as OpenApiResponse, ResponseBuilder};
use utoipa::{IntoResponses, ToSchema};

use crate::control::backend::BackendError;

/// Media type of a problem document (RFC 9457 section 3).
pub(crate) const MEDIA_TYPE: &str = "application/problem+json";

/// A problem document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct Problem {
    /// Always `about:blank`.
    #[serde(rename = "type")]
    #[schema(example = "about:blank")]
    pub(crate) kind: &'static str,
    /// The phrase of the HTTP status.
    pub(crate) title: &'static str,
    /// The HTTP status.
    pub(crate) status: u16,
    /// The stable word for this kind of error.
    #[schema(example = "bad_json")]
    pub(crate) code: &'static str,
    /// What is wrong and what to do.
    pub(crate) detail: String,
}

impl Problem {
    /// A problem; `detail` says what to do.
    pub(crate) fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self {
            kind: "about:blank",
            title: status.canonical_reason().unwrap_or("Error"),
            status: status.as_u16(),
            code,
            detail: detail.into(),
        }
    }
}

impl From<BackendError> for Problem {
    fn from(error: BackendError) -> Self {
        let (status, code) = match &error {
            BackendError::Invalid(_) => (StatusCode::UNPROCESSABLE_ENTITY, "invalid"),
            BackendError::NotFound(_) => (StatusCode::NOT_FOUND, "not_found"),
            BackendError::Conflict(code, _) => (StatusCode::CONFLICT, *code),
            BackendError::Forbidden(_) => (StatusCode::FORBIDDEN, "forbidden"),
            BackendError::Busy(_) => (StatusCode::SERVICE_UNAVAILABLE, "busy"),
            BackendError::Failed(_) => (StatusCode::INTERNAL_SERVER_ERROR, "failed"),
        };
        Self::new(status, code, error.to_string())
    }
}

/// Every route of the interface's description ends with this one.
impl IntoResponses for Problem {
    fn responses() -> BTreeMap<String, RefOr<OpenApiResponse>> {
        let content = Content::new(Some(Ref::from_schema_name("Problem")));
        let response = ResponseBuilder::new()
            .description("A problem document (RFC 9457) whose `detail` says what to do")
            .content(MEDIA_TYPE, content)
            .build();
        BTreeMap::from([("default".to_owned(), RefOr::T(response))])
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_vec(&self).unwrap_or_default();
        let mut response = (status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
        match status {
            StatusCode::UNAUTHORIZED => {
                headers
                    .insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"bandmesh\""));
            }
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            }
            // What is left of the body was not read, so the next request could not be found on this connection.
            StatusCode::PAYLOAD_TOO_LARGE | StatusCode::REQUEST_TIMEOUT => {
                headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            _ => {}
        }
        response
    }
}
