//! Who may come in: `Host`, `Sec-Fetch-Site`, `Origin`, then the token.
//!
//! A server on loopback is open to every page in the player's browser. Three attacks matter: a page that posts to us
//! (CSRF), a page whose own name is made to resolve to us (DNS rebinding), and a page that opens a WebSocket, to which the
//! same-origin policy does not apply. The checks, in the order of their cost:
//!
//! 1. `Host` names this machine: `localhost`, a loopback address, or the very address the connection came in on. Rebinding
//!    works through a name, so an address in numbers cannot be rebound.
//! 2. `Sec-Fetch-Site`, which a page cannot forge, is `same-origin` or `none`; and `Origin`, where there is one, is the
//!    `Host` itself. Programs other than browsers send neither.
//! 3. The bearer token, for all but the page itself and the interface's description, which hold nothing of the player's.
//!    The WebSocket may bring it later, in its first message.
//! 4. The token's role: a viewer may ask for everything and change nothing. By method, so that a route that is added
//!    later is closed to viewers until somebody says otherwise. A ticket for a WebSocket changes nothing and carries
//!    the role on.
//!
//! No CORS header is ever sent, and no cookie is read.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::control::page;
use crate::control::problem::Problem;
use crate::control::routes::Shared;
use crate::control::token::Keys;
use crate::control::types::Role;

/// The address a connection came in on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LocalAddress(pub(crate) SocketAddr);

/// What a page of ours may load and do; the API's answers, should a browser show one, nothing at all.
const PAGE_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
                           font-src 'self'; manifest-src 'self'; connect-src 'self'; base-uri 'none'; \
                           form-action 'none'; frame-ancestors 'none'";

/// The middleware around all routes.
pub(crate) async fn guard(State(shared): State<Arc<Shared>>, mut request: Request, next: Next) -> Response {
    let mut response = match admit(&shared.keys, &request) {
        Ok(role) => {
            if let Some(role) = role {
                request.extensions_mut().insert(role);
            }
            next.run(request).await
        }
        Err(problem) => problem.into_response(),
    };
    shared.counters.count_answer(response.status());
    harden(response.headers_mut());
    response
}

/// The role of who asks; `None` where a token is not needed or comes later.
fn admit(keys: &Keys, request: &Request) -> Result<Option<Role>, Problem> {
    let headers = request.headers();
    let path = request.uri().path();
    let local = request.extensions().get::<LocalAddress>().map(|address| address.0.ip());
    let host = host(headers, request.uri())?;
    if !host_is_ours(host, local) {
        return Err(Problem::new(
            StatusCode::FORBIDDEN,
            "wrong_host",
            "The Host header names another machine. Use the address that `bandmesh up` prints, or localhost.",
        ));
    }
    if page::is_page(path) {
        return Ok(None);
    }
    same_site(headers, host)?;
    if path == "/api/v1/openapi.json" {
        return Ok(None);
    }
    let brings_token = headers.contains_key(header::AUTHORIZATION);
    if path == "/api/v1/ws" && !brings_token {
        return Ok(None);
    }
    let is_api = path.starts_with("/api/") || path == "/metrics";
    let role = bearer(headers).and_then(|candidate| keys.role(candidate));
    if is_api && role.is_none() {
        let detail = if brings_token {
            "The token in the Authorization header is not this node's. Read it anew from the token file in the data \
             directory (`token_file` of the ready line)."
        } else {
            "Send `Authorization: Bearer TOKEN`; the token is in the token file in the data directory (`token_file` of the \
             ready line)."
        };
        return Err(Problem::new(StatusCode::UNAUTHORIZED, "no_token", detail));
    }
    let changes = !matches!(*request.method(), Method::GET | Method::HEAD) && path != "/api/v1/ws-ticket";
    if role == Some(Role::Viewer) && changes {
        return Err(read_only());
    }
    Ok(role)
}

/// What a viewer is told who wants to change something.
pub(crate) fn read_only() -> Problem {
    Problem::new(
        StatusCode::FORBIDDEN,
        "read_only",
        "This token is for looking only. Use the player's own token, which is in the file `token` in the data directory.",
    )
}

fn host<'a>(headers: &'a HeaderMap, uri: &'a Uri) -> Result<&'a str, Problem> {
    let problem = |detail| Problem::new(StatusCode::BAD_REQUEST, "bad_host", detail);
    let mut values = headers.get_all(header::HOST).iter();
    match (values.next(), values.next(), uri.authority()) {
        (Some(value), None, None) => {
            value.to_str().map_err(|_| problem("The Host header is not plain text. Send HOST:PORT."))
        }
        // A request line with a whole address must agree with the Host header (RFC 9112 section 3.2.2).
        (Some(value), None, Some(authority)) if value.as_bytes() == authority.as_str().as_bytes() => {
            Ok(authority.as_str())
        }
        (None, None, _) => Err(problem("The Host header is missing. Send the address you connect to.")),
        _ => Err(problem("There is more than one host in the request. Send one Host header.")),
    }
}

fn host_is_ours(host: &str, local: Option<IpAddr>) -> bool {
    let Some(name) = without_port(host) else { return false };
    if name.eq_ignore_ascii_case("localhost") {
        return true;
    }
    let literal = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(name);
    match literal.parse::<IpAddr>() {
        Ok(address) => address.is_loopback() || local.is_some_and(|local| local.to_canonical() == address),
        Err(_) => false,
    }
}

/// `HOST` of `HOST`, `HOST:PORT`, `[V6]` or `[V6]:PORT`; `None` if the port is no port.
fn without_port(host: &str) -> Option<&str> {
    let end_of_address = host.rfind(']').map_or(0, |at| at + 1);
    match host.get(end_of_address..)?.rfind(':') {
        None => Some(host),
        Some(at) => {
            let (name, port) = host.split_at_checked(end_of_address + at)?;
            port.get(1..)?.parse::<u16>().ok()?;
            Some(name)
        }
    }
}

fn same_site(headers: &HeaderMap, host: &str) -> Result<(), Problem> {
    let foreign = || {
        Problem::new(
            StatusCode::FORBIDDEN,
            "foreign_origin",
            "A page from elsewhere asked for this. Use the page this node serves, or a program instead of a browser.",
        )
    };
    if let Some(site) = headers.get("sec-fetch-site")
        && !matches!(site.as_bytes(), b"same-origin" | b"none")
    {
        return Err(foreign());
    }
    let mut origins = headers.get_all(header::ORIGIN).iter();
    match (origins.next(), origins.next()) {
        (None, _) => Ok(()),
        (Some(origin), None) => {
            let authority = origin
                .to_str()
                .ok()
                .and_then(|text| text.strip_prefix("http://").or_else(|| text.strip_prefix("https://")));
            if authority.is_some_and(|text| text.eq_ignore_ascii_case(host)) {
                Ok(())
            } else {
                Err(foreign())
            }
        }
        _ => Err(foreign()),
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return None };
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim_start())
}

fn harden(headers: &mut HeaderMap) {
    let fixed: [(HeaderName, &'static str); 6] = [
        (header::CONTENT_SECURITY_POLICY, PAGE_POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        // What the page asks of the browser: nothing of the machine but its screen and keyboard.
        (HeaderName::from_static("permissions-policy"), "camera=(), microphone=(), geolocation=()"),
    ];
    for (name, value) in fixed {
        headers.insert(name, HeaderValue::from_static(value));
    }
    // The page's own files say themselves how long they are good; everything else is of the moment.
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machines_names_are_our_host() {
        let local = Some("192.168.1.5".parse().unwrap());
        for host in [
            "localhost",
            "LOCALHOST:7780",
            "127.0.0.1:7780",
            "127.9.9.9",
            "[::1]",
            "[::1]:7780",
            "192.168.1.5:80",
        ] {
            assert!(host_is_ours(host, local), "{host}");
        }
        for host in [
            "",
            ":7780",
            "evil.example",
            "evil.example:7780",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "192.168.1.6",
            "localhost:port",
            "localhost:7780:1",
            "[::1",
            "::1]:5",
            "[::2]:7780",
            "0.0.0.0",
            "localhost@evil.example",
        ] {
            assert!(!host_is_ours(host, local), "{host}");
        }
    }

    #[test]
    fn dual_stack_listener_knows_its_v4_address() {
        let mapped = Some("::ffff:10.0.0.1".parse().unwrap());
        assert!(host_is_ours("10.0.0.1:7780", mapped));
    }

    #[test]
    fn origin_must_be_the_host_itself() {
        let check = |origin: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ORIGIN, HeaderValue::from_static(origin));
            same_site(&headers, "localhost:7780").is_ok()
        };
        assert!(check("http://localhost:7780"));
        for origin in [
            "null",
            "http://localhost:3000",
            "http://evil.example",
            "file://",
            "http://localhost:7780.evil.example",
        ] {
            assert!(!check(origin), "{origin}");
        }
    }
}
