//! What libasound says for itself.
//!
//! While it looks for devices, libasound writes a line to stderr for each card, plugin and server that is not there; on a
//! desktop a dozen. None of it is an error of the user's, so it goes to the log at debug level.

use alsa::Output;

/// Lines of one call that are worth keeping.
const MAX_LINES: usize = 64;

/// Does `work` on this thread with libasound's complaints in the log instead of on stderr.
pub(super) fn quietly<T>(work: impl FnOnce() -> T) -> T {
    let Ok(complaints) = Output::local_error_handler() else { return work() };
    let result = work();
    for line in complaints.borrow().to_string().lines().take(MAX_LINES) {
        tracing::debug!("{line}");
    }
    result
}
