//! What the control server asks of the node about people: touches, undo, notifications, the graph.

use futures::future::BoxFuture;
use serde_json::Value;

use crate::control::backend::BackendError;
use crate::control::types::{Graph, Notification, Touch, UndoResult};

/// The part of [`Backend`](crate::control::Backend) that is about people. The same rules hold: nothing waits but the futures.
pub trait People: Send + Sync + 'static {
    /// Who is connected to whom, as each member reports it.
    fn graph(&self) -> Graph;

    /// What everybody but the page `source` touches now.
    fn touches(&self, source: u32) -> Vec<Touch>;

    /// The page `source` holds `address` at `value`, for a few seconds unless it says so again.
    ///
    /// # Errors
    /// [`BackendError::Invalid`] if there is nothing to touch there or the value is out of range.
    fn touch(&self, source: u32, address: &str, value: Option<Value>) -> Result<(), BackendError>;

    /// The page `source` lets `address` go.
    fn touch_end(&self, source: u32, address: &str);

    /// The page `source` is gone with all it touched.
    fn forget_source(&self, source: u32);

    /// The notifications kept whose id is greater than `after`, in order.
    fn notifications(&self, after: u64) -> Vec<Notification>;

    /// Takes this node's latest edit of the project back, or with `redo` makes the latest undone one again.
    fn undo(&self, redo: bool) -> BoxFuture<'_, Result<UndoResult, BackendError>>;
}
