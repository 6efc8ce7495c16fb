//! A client of a node's HTTP and WebSocket interface, on the node's own host.

use crate::lan::Host;
use crate::wait::{patience, seconds};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};
use tungstenite::client::IntoClientRequest;
use tungstenite::{Message, WebSocket};
use ureq::http::Request;

const TIMEOUT: Duration = seconds(5);

/// Speaks to one node with its token.
#[derive(Clone, Debug)]
pub struct Client {
    host: Host,
    base: String,
    token: String,
    timeout: Duration,
}

/// An answer, whatever its status.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// The `Content-Type`, empty when there was none.
    pub content_type: String,
    /// The body as text.
    pub text: String,
}

impl Reply {
    /// The body as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|e| panic!("not JSON ({e}): {self:?}"))
    }

    /// The body as JSON of a request that must have worked.
    #[track_caller]
    pub fn ok(&self) -> Value {
        assert_eq!(self.status, 200, "{}", self.text);
        self.json()
    }

    /// Checks that this is a problem document with this status and a `detail`, which it returns.
    #[track_caller]
    pub fn problem(&self, status: u16) -> String {
        assert_eq!(self.status, status, "{}", self.text);
        assert!(self.content_type.starts_with("application/problem+json"), "{self:?}");
        let detail = self.json()["detail"].as_str().map(str::to_owned);
        detail.filter(|d| !d.is_empty()).unwrap_or_else(|| panic!("a problem without detail: {}", self.text))
    }
}

impl Client {
    /// A client for the node on `host` whose ready line said `http`.
    pub fn new(host: &Host, http: &str, token: &str) -> Self {
        Self {
            host: host.clone(),
            base: http.trim_end_matches('/').into(),
            token: token.into(),
            timeout: patience(TIMEOUT),
        }
    }

    /// This client with another token, `None` for none at all.
    pub fn with_token(&self, token: Option<&str>) -> Self {
        Self { token: token.unwrap_or_default().into(), ..self.clone() }
    }

    /// This client for what may take longer than an ordinary answer.
    pub fn with_timeout(&self, timeout: Duration) -> Self {
        Self { timeout, ..self.clone() }
    }

    /// The address of the interface.
    pub fn address(&self) -> SocketAddr {
        self.base.trim_start_matches("http://").parse().unwrap_or_else(|e| panic!("{}: {e}", self.base))
    }

    /// GET `/api/v1` + `path`.
    #[track_caller]
    pub fn get(&self, path: &str) -> Reply {
        self.request("GET", path, None, &[])
    }

    /// GET `/api/v1` + `path` of something that is no text: its `Content-Type` and bytes.
    #[track_caller]
    pub fn download(&self, path: &str) -> (String, Vec<u8>) {
        self.host.run(|| {
            let config = ureq::Agent::config_builder().timeout_global(Some(self.timeout));
            let agent = ureq::Agent::new_with_config(config.build());
            let request = agent
                .get(format!("{}/api/v1{path}", self.base))
                .header("Authorization", format!("Bearer {}", self.token));
            let mut response = request.call().unwrap_or_else(|e| panic!("GET {path}: {e}"));
            let content_type = response.headers().get("content-type").and_then(|v| v.to_str().ok());
            let content_type = content_type.unwrap_or_default().to_owned();
            (content_type, response.body_mut().read_to_vec().expect("read the body"))
        })
    }

    /// PATCH with a JSON body.
    #[track_caller]
    pub fn patch(&self, path: &str, body: &Value) -> Reply {
        self.request("PATCH", path, Some(body), &[])
    }

    /// PUT with a JSON body.
    #[track_caller]
    pub fn put(&self, path: &str, body: &Value) -> Reply {
        self.request("PUT", path, Some(body), &[])
    }

    /// Any request, with further headers.
    #[track_caller]
    pub fn request(&self, method: &str, path: &str, body: Option<&Value>, headers: &[(&str, &str)]) -> Reply {
        self.try_request(method, path, body, headers).unwrap_or_else(|e| panic!("{method} {path}: {e}"))
    }

    /// Any request to a node that may be gone.
    pub fn try_request(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
        headers: &[(&str, &str)],
    ) -> Result<Reply, ureq::Error> {
        let mut request = Request::builder().method(method).uri(format!("{}/api/v1{path}", self.base));
        if !self.token.is_empty() {
            request = request.header("Authorization", format!("Bearer {}", self.token));
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.host.run(|| {
            let config =
                ureq::Agent::config_builder().timeout_global(Some(self.timeout)).http_status_as_error(false);
            let agent = ureq::Agent::new_with_config(config.build());
            let mut response = match body {
                Some(body) => {
                    agent.run(request.header("Content-Type", "application/json").body(body.to_string())?)?
                }
                None => agent.run(request.body(())?)?,
            };
            let content_type = response.headers().get("content-type").and_then(|v| v.to_str().ok());
            let content_type = content_type.unwrap_or_default().to_owned();
            let status = response.status().as_u16();
            Ok(Reply { status, content_type, text: response.body_mut().read_to_string()? })
        })
    }

    /// Sends `bytes` as they are on a fresh connection and returns what comes back until the node closes it.
    pub fn raw(&self, bytes: &[u8]) -> String {
        let mut answer = Vec::new();
        if let Ok(mut stream) = self.connect() {
            let _ = stream.write_all(bytes);
            let _ = stream.shutdown(std::net::Shutdown::Write);
            let _ = stream.read_to_end(&mut answer);
        }
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// Opens the WebSocket, with the token and these further headers.
    pub fn socket(&self, headers: &[(&str, &str)]) -> Result<Socket, Box<tungstenite::Error>> {
        let mut request =
            format!("{}/api/v1/ws", self.base.replacen("http", "ws", 1)).into_client_request()?;
        let mut add = |name: &str, value: &str| {
            let name = tungstenite::http::HeaderName::try_from(name).expect("header name");
            request.headers_mut().insert(name, value.parse().expect("header value"));
        };
        if !self.token.is_empty() {
            add("authorization", &format!("Bearer {}", self.token));
        }
        headers.iter().for_each(|(name, value)| add(name, value));
        let stream = self.connect().map_err(tungstenite::Error::Io)?;
        match tungstenite::client(request, stream) {
            Ok((inner, _)) => Ok(Socket { inner }),
            Err(tungstenite::HandshakeError::Failure(e)) => Err(Box::new(e)),
            Err(e @ tungstenite::HandshakeError::Interrupted(_)) => panic!("{e}"),
        }
    }

    fn connect(&self) -> std::io::Result<TcpStream> {
        let stream = self.host.run(|| TcpStream::connect_timeout(&self.address(), TIMEOUT))?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        Ok(stream)
    }
}

/// An open WebSocket.
pub struct Socket {
    inner: WebSocket<TcpStream>,
}

impl Socket {
    /// Sends one JSON message.
    #[track_caller]
    pub fn send(&mut self, message: &Value) {
        self.inner.send(Message::text(message.to_string())).expect("send on the WebSocket");
    }

    /// Subscribes to `topics`.
    #[track_caller]
    pub fn subscribe(&mut self, topics: &[&str]) {
        self.send(&json!({"type": "subscribe", "topics": topics}));
    }

    /// Reads messages until `wanted` accepts one, which it returns.
    #[track_caller]
    pub fn until(&mut self, what: &str, mut wanted: impl FnMut(&Value) -> bool) -> Value {
        let began = Instant::now();
        while began.elapsed() < TIMEOUT {
            match self.inner.read() {
                Ok(Message::Text(text)) => {
                    let value =
                        serde_json::from_str(&text).unwrap_or_else(|e| panic!("not JSON ({e}): {text}"));
                    if wanted(&value) {
                        return value;
                    }
                }
                Ok(_) => {}
                Err(e) => panic!("waiting for {what}: {e}"),
            }
        }
        panic!("no {what} on the WebSocket in {TIMEOUT:?}");
    }
}
