//! Opening the page in the player's browser.

use std::process::{Command, Stdio};

/// Opens `url` with the desktop's own opener, where there is a desktop. The address is on the terminal anyway, so
/// failure is only logged.
pub fn open(url: &str) {
    let desktop = ["DISPLAY", "WAYLAND_DISPLAY"].iter().any(|name| std::env::var_os(name).is_some());
    if !desktop {
        return;
    }
    let child = Command::new("xdg-open")
        .arg(url)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    match child {
        Ok(mut child) => {
            // Reaped by a thread of its own: the opener may live as long as the browser.
            let waiting = std::thread::Builder::new().name("browser".into()).spawn(move || child.wait());
            if let Err(error) = waiting {
                tracing::debug!(%error, "no thread to wait for the browser");
            }
        }
        Err(error) => tracing::info!(%error, "no browser was opened; use the address on the terminal"),
    }
}
