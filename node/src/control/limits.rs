//! Every limit of the control server in one place.
//!
//! The server listens on loopback, yet any page in the player's browser and any user of the machine can reach it, so each
//! of these bounds what a stranger can make it hold. They are exported under `bandmesh_control_limit` in the metrics, and
//! the tests try most of them at the limit and one above.

use std::time::Duration;

/// Seconds of figures kept for `GET /history`.
pub const HISTORY_SECONDS: usize = 300;
/// Time a look at all devices may take: some drivers think for seconds.
pub const DEVICE_TIMEOUT: Duration = Duration::from_secs(12);
/// Bytes of one file in the support bundle; the rest is cut.
pub const MAX_BUNDLE_FILE_BYTES: usize = 4 * 1024 * 1024;
/// Connections held at once. One more closes the connection that has been idle longest; if none is idle, the newcomer.
pub const MAX_CONNECTIONS: usize = 256;
/// WebSockets held at once; one more is refused with 503. A page takes one, so this is a band's worth of pages and meters.
pub const MAX_SOCKETS: usize = 32;
/// Time a client has to send a whole request head, also on a kept-alive connection between two requests.
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Time a request may take, body and answer included. Durable edits wait for the disk, which is far below this.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);
/// Bytes of a request head; hyper answers more with 431.
pub const MAX_HEAD_BYTES: usize = 16 * 1024;
/// Header fields of a request; hyper answers more with 431.
pub const MAX_HEADERS: usize = 64;
/// Bytes of a request body; more is answered with 413.
pub const MAX_BODY_BYTES: usize = 1024 * 1024;
/// Bytes of a too large body that are read and thrown away so that the client lives to see the 413.
pub const MAX_DISCARDED_BYTES: usize = 16 * 1024 * 1024;
/// Time spent on throwing a too large body away.
pub const DISCARD_TIMEOUT: Duration = Duration::from_secs(1);
/// Commands in one `PATCH /project` or one WebSocket `patch`: what the project takes at a time.
pub const MAX_COMMANDS: usize = 256;
/// Bytes of one WebSocket message from a client; a longer one ends the socket (1009).
pub const MAX_SOCKET_MESSAGE_BYTES: usize = 64 * 1024;
/// Time a WebSocket that brought no token with its request has for its `auth` message.
pub const SOCKET_AUTH_TIMEOUT: Duration = Duration::from_secs(5);
/// Time one message may take to leave; a reader slower than this loses its socket.
pub const SOCKET_SEND_TIMEOUT: Duration = Duration::from_secs(5);
/// A WebSocket is pinged this often, and dropped after three pings without a word.
pub const SOCKET_PING_INTERVAL: Duration = Duration::from_secs(10);
/// Commands of one WebSocket waiting to be carried out; one more is answered with a 429 problem.
pub const MAX_PENDING_COMMANDS: usize = 64;
/// Changed addresses sent one by one; with more in one notice the whole project is sent.
pub const MAX_CHANGED_ADDRESSES: usize = 64;
/// Tickets waiting to be used; one more drops the oldest.
pub const MAX_TICKETS: usize = 64;
/// Life of a WebSocket ticket.
pub const TICKET_LIFE: Duration = Duration::from_secs(30);
/// Log lines kept for those who subscribe later; one more drops the oldest.
pub const MAX_LOG_LINES: usize = 500;
/// Characters of one log line; the rest is cut.
pub const MAX_LOG_LINE_CHARS: usize = 2_000;
/// Meters are sent this often: 30 a second is what a moving bar needs to look steady.
pub const METERS_INTERVAL: Duration = Duration::from_millis(33);
/// Status and peers are sent this often, and at once when they change.
pub const STATUS_INTERVAL: Duration = Duration::from_millis(1_000);
/// Touches are sent at most this often: as often as most screens draw, so that another hand's fader looks smooth.
pub const TOUCHES_INTERVAL: Duration = Duration::from_millis(16);
/// Touches taken from one WebSocket in a second; a page sends 30 for each finger.
pub const MAX_TOUCHES_PER_SECOND: u32 = 120;
/// Time `shutdown` waits for requests in flight and for sockets to say goodbye before it drops them.
pub const SHUTDOWN_TIMEOUT: Duration = Duration::from_millis(500);
