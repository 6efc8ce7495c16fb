//! The control interface: REST, WebSocket, metrics and the status page over HTTP on this machine.
//!
//! Problem: pages, scripts and tests must see and steer a node without knowing its inside, and nobody else may. Idea: the
//! node implements [`Backend`]; this module owns everything about HTTP and JSON, with types of its own ([`types`]) that the
//! node converts into. The description of the interface (`/api/v1/openapi.json`, OpenAPI 3.1) is generated from the code.
//!
//! Hostile input is the normal case: `guard` says who may come in, [`limits`] what the server can be made to hold, and
//! every error is a problem document (RFC 9457) that says what to do.
//!
//! | queue | bound | when full |
//! |---|---|---|
//! | connections | `MAX_CONNECTIONS` | the one idle longest is closed; if none is idle, the newcomer |
//! | WebSockets | `MAX_SOCKETS` | the newcomer gets 503 |
//! | commands of a WebSocket | `MAX_PENDING_COMMANDS` | the newcomer gets a 429 problem |
//! | status, peers, meters to a slow reader | none: made when sent | the reader gets fewer, always the newest |
//! | notices to a slow reader | the backend's | the reader gets the whole state again |
//! | touches to a reader | one message each `TOUCHES_INTERVAL`: all that is touched then | as above |
//! | touches of a WebSocket | `MAX_TOUCHES_PER_SECOND` | the newcomer is dropped |
//! | notifications | 50 kept | the oldest are dropped |
//! | log lines to a slow reader | `MAX_LOG_LINES` | the oldest are dropped and counted |
//! | any message to a reader that stopped | `SOCKET_SEND_TIMEOUT` | the socket is closed |

mod backend;
mod body;
mod bundle;
mod desk;
mod guard;
pub mod limits;
mod log;
mod metrics;
mod page;
mod people;
mod problem;
mod routes;
mod server;
mod socket;
mod token;
pub mod types;

#[cfg(test)]
pub(crate) mod tests;

pub use backend::{Backend, BackendError, Metric, MetricKind, Notice};
pub use log::LogBuffer;
pub use people::People;
pub use routes::openapi;
pub use server::{Config, Server, StartError, start};
pub use token::{Keys, Token};
