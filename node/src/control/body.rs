//! JSON bodies, read with a bound and refused with a reason. Every body of this interface is an object.

use axum::body::Body;
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, StatusCode, header};
use futures::StreamExt;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use crate::control::limits::{DISCARD_TIMEOUT, MAX_BODY_BYTES, MAX_DISCARDED_BYTES, REQUEST_TIMEOUT};
use crate::control::problem::Problem;

/// A JSON body. Only `application/json` is read: a form a foreign page can send without asking is not.
pub(crate) struct JsonBody<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for JsonBody<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _state: &S) -> Result<Self, Problem> {
        let (parts, body) = request.into_parts();
        if !is_json(&parts.headers) {
            return Err(Problem::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "not_json",
                "Send the body as JSON with `Content-Type: application/json`.",
            ));
        }
        let bytes = read(&parts.headers, body).await?;
        // Else a list would be taken for an object's members in their order.
        if bytes.trim_ascii_start().starts_with(b"[") {
            return Err(Problem::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "wrong_json",
                "The body is a list. Send an object; see /api/v1/openapi.json for what belongs in it.",
            ));
        }
        serde_json::from_slice(&bytes).map(Self).map_err(|error| {
            let status =
                if error.is_data() { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::BAD_REQUEST };
            let code = if error.is_data() { "wrong_json" } else { "bad_json" };
            let hint = if error.is_data() {
                "See /api/v1/openapi.json for what belongs there."
            } else {
                "Send one complete JSON value."
            };
            Problem::new(status, code, format!("The body cannot be used: {error}. {hint}"))
        })
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()) else {
        return false;
    };
    let essence = value.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("application/json")
}

async fn read(headers: &HeaderMap, body: Body) -> Result<Vec<u8>, Problem> {
    let announced = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.parse::<u64>().ok());
    let mut stream = body.into_data_stream();
    if announced.is_some_and(|length| length > MAX_BODY_BYTES as u64) {
        // A client that waits for `100 Continue` has sent nothing yet and reads our answer; any other is still writing, and
        // closing on it would throw the answer away with the rest.
        if !headers.contains_key(header::EXPECT) {
            discard(&mut stream).await;
        }
        return Err(too_large());
    }
    let mut bytes = Vec::new();
    let reading = async {
        while let Some(chunk) = stream.next().await {
            let chunk = chunk.map_err(|_| {
                Problem::new(
                    StatusCode::BAD_REQUEST,
                    "cut_short",
                    "The body ended early. Send it again, whole.",
                )
            })?;
            if bytes.len() + chunk.len() > MAX_BODY_BYTES {
                discard(&mut stream).await;
                return Err(too_large());
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(())
    };
    match timeout(REQUEST_TIMEOUT, reading).await {
        Ok(read) => read?,
        Err(_) => {
            return Err(Problem::new(
                StatusCode::REQUEST_TIMEOUT,
                "too_slow",
                format!("The body did not arrive within {} s. Send it at once.", REQUEST_TIMEOUT.as_secs()),
            ));
        }
    }
    Ok(bytes)
}

fn too_large() -> Problem {
    Problem::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        "too_large",
        format!("A body holds at most {MAX_BODY_BYTES} bytes. Split the edits over several requests."),
    )
}

async fn discard(stream: &mut axum::body::BodyDataStream) {
    let reading = async {
        let mut left = MAX_DISCARDED_BYTES;
        while let Some(Ok(chunk)) = stream.next().await {
            match left.checked_sub(chunk.len()) {
                Some(less) => left = less,
                None => break,
            }
        }
    };
    // Running out of time is as good as running out of body.
    let _ = timeout(DISCARD_TIMEOUT, reading).await;
}
