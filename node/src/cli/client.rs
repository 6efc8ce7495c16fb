//! A client of the running node's control interface.

use std::fs;
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::Value;
use tungstenite::WebSocket;
use tungstenite::client::IntoClientRequest;
use ureq::Agent;

use crate::cli::data_dir::{NodeFile, node_file, read_token};
use crate::cli::{Exit, Task};
use crate::control::Token;

/// A node on this machine answers at once or not at all.
const TIMEOUT: Duration = Duration::from_secs(5);
/// A status is a few kilobytes, a hundred peers some tens.
const MAX_ANSWER_BYTES: u64 = 8 * 1024 * 1024;

/// The node that runs with a data directory.
pub(crate) struct RunningNode {
    file: NodeFile,
    token: Token,
    agent: Agent,
}

impl RunningNode {
    /// Finds it by the data directory's `node.json`.
    pub(crate) fn find(data_dir: &Path) -> Result<Self, Exit> {
        let path = node_file(data_dir);
        let Ok(text) = fs::read(&path) else { return Err(not_running(data_dir)) };
        let file: NodeFile = serde_json::from_slice(&text).map_err(|error| {
            Exit::failure(&format!("{} is damaged: {error}; restart the node", path.display()))
        })?;
        let token = read_token(data_dir)
            .map_err(|error| Exit::failure(&error.to_string()))?
            .ok_or_else(|| not_running(data_dir))?;
        let config = Agent::config_builder()
            // The node is on this machine, whatever the environment says about proxies.
            .proxy(None)
            .max_redirects(0)
            .http_status_as_error(false)
            .timeout_global(Some(TIMEOUT))
            .build();
        Ok(Self { file, token, agent: config.new_agent() })
    }

    /// The answer to a GET below `/api/v1`.
    pub(crate) fn get(&self, route: &str) -> Result<Value, Exit> {
        let request = self.agent.get(self.url(route)).header("Authorization", self.authorization());
        self.answer(request.call())
    }

    /// The answer to a PUT below `/api/v1`.
    pub(crate) fn put(&self, route: &str, body: &Value) -> Result<Value, Exit> {
        let request = self.agent.put(self.url(route)).header("Authorization", self.authorization());
        self.answer(request.header("Content-Type", "application/json").send(body.to_string()))
    }

    /// The open WebSocket; a read that finds nothing ends after `patience`.
    pub(crate) fn open_socket(&self, patience: Duration) -> Result<WebSocket<TcpStream>, Exit> {
        let http = &self.file.http;
        let address = http.strip_prefix("http://").unwrap_or(http);
        let mut request = format!("ws://{address}/api/v1/ws")
            .into_client_request()
            .map_err(|error| self.unreachable(&error))?;
        let authorization = self.authorization().parse().map_err(|error| self.unreachable(&error))?;
        request.headers_mut().insert("authorization", authorization);
        let address = address.parse().map_err(|error| self.unreachable(&error))?;
        let stream =
            TcpStream::connect_timeout(&address, TIMEOUT).map_err(|error| self.unreachable(&error))?;
        let set = |read| stream.set_read_timeout(Some(read)).and(stream.set_write_timeout(Some(TIMEOUT)));
        set(TIMEOUT).map_err(|error| self.unreachable(&error))?;
        let again = stream.try_clone().map_err(|error| self.unreachable(&error))?;
        let (socket, _) = tungstenite::client(request, again).map_err(|error| self.unreachable(&error))?;
        set(patience).map_err(|error| self.unreachable(&error))?;
        Ok(socket)
    }

    fn answer(&self, response: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> Result<Value, Exit> {
        let mut response = response.map_err(|error| self.unreachable(&error))?;
        let answer = response.body_mut().with_config().limit(MAX_ANSWER_BYTES).read_json();
        let answer: Value = answer.map_err(|error| self.unreachable(&error))?;
        if response.status().is_success() {
            return Ok(answer);
        }
        let detail = answer.get("detail").and_then(Value::as_str).unwrap_or("it gave no reason");
        let (http, status) = (&self.file.http, response.status().as_u16());
        Err(Exit::failure(&format!("the node at {http} refused ({status}): {detail}")))
    }

    fn url(&self, route: &str) -> String {
        format!("{}/api/v1{route}", self.file.http)
    }

    fn authorization(&self) -> String {
        format!("Bearer {}", self.token.secret())
    }

    fn unreachable(&self, error: &dyn std::fmt::Display) -> Exit {
        let NodeFile { pid, http, .. } = &self.file;
        Exit::failure(&format!(
            "the node at {http} (process {pid}) does not answer: {error}; if it still runs, stop it, then start it again \
             with `bandmesh up`"
        ))
    }
}

/// One GET to the task's node: the answer as it is, and as a type.
pub(crate) fn ask<T: DeserializeOwned>(task: &Task, route: &str) -> Result<(Value, T), Exit> {
    let answer = RunningNode::find(&task.data_dir)?.get(route)?;
    let typed = T::deserialize(&answer).map_err(|error| {
        Exit::failure(&format!(
            "the node's answer cannot be read: {error}; use the same version of bandmesh as the node"
        ))
    })?;
    Ok((answer, typed))
}

fn not_running(data_dir: &Path) -> Exit {
    Exit::failure(&format!(
        "no node runs with the data directory {}; start one with `bandmesh up`, or name its directory with --data-dir DIR",
        data_dir.display()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{DataDir, Devices, Machine, TaskKind};
    use crate::control::tests::Pretended;
    use crate::control::{Backend, Config, LogBuffer, start};

    struct Bare;

    impl Machine for Bare {
        fn devices(&self) -> Devices {
            Devices::default()
        }
    }

    fn task(data_dir: &Path, kind: TaskKind) -> Task {
        Task { kind, data_dir: data_dir.to_owned(), json: false }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn commands_find_the_running_node_by_its_data_directory() {
        let base = tempfile::tempdir().unwrap();
        let dir = DataDir::open(base.path()).unwrap();
        let address = "127.0.0.1:0".parse().unwrap();
        let config = Config { address, keys: dir.token().unwrap().into(), logs: LogBuffer::default() };
        let server = start(config, Pretended::new() as std::sync::Arc<dyn Backend>).await.unwrap();
        let running = dir.announce(&NodeFile { pid: 1, http: server.url(), peer_id: "12D3".into() }).unwrap();
        let path = dir.path().to_owned();
        tokio::task::spawn_blocking(move || {
            let status = crate::cli::status::run(&task(&path, TaskKind::Status)).unwrap();
            assert!(
                status.text.contains("session  jam") && !status.text.contains('\u{1b}'),
                "{}",
                status.text
            );
            let peers = crate::cli::peers::run(&task(&path, TaskKind::Peers)).unwrap();
            assert!(peers.text.contains("Tight, 6 ms"), "{}", peers.text);
            let json = Task { json: true, ..task(&path, TaskKind::Peers) };
            let json = crate::cli::peers::run(&json).unwrap().text;
            assert_eq!(json.lines().count(), 1);
            assert!(serde_json::from_str::<Value>(&json).unwrap().is_array());
        })
        .await
        .unwrap();

        server.shutdown().await;
        let path = dir.path().to_owned();
        let exit = tokio::task::spawn_blocking(move || {
            crate::cli::status::run(&task(&path, TaskKind::Status)).unwrap_err()
        });
        assert!(exit.await.unwrap().message().contains("does not answer"));
        drop(running);
        let exit = crate::cli::status::run(&task(dir.path(), TaskKind::Status)).unwrap_err();
        assert_eq!(exit.code(), 1);
        assert!(exit.message().contains("bandmesh up"), "{}", exit.message());
    }

    #[test]
    fn damaged_node_file_is_named() {
        let base = tempfile::tempdir().unwrap();
        fs::write(node_file(base.path()), "{\"pid\":").unwrap();
        let exit = crate::cli::status::run(&task(base.path(), TaskKind::Status)).unwrap_err();
        assert!(exit.message().contains("node.json is damaged"), "{}", exit.message());
    }

    #[test]
    fn later_work_is_refused_not_pretended() {
        let base = tempfile::tempdir().unwrap();
        for kind in [TaskKind::Invite, TaskKind::Join, TaskKind::Relay] {
            let code = crate::cli::run(&task(base.path(), kind), &Bare);
            assert_eq!(code, std::process::ExitCode::FAILURE);
        }
    }
}
