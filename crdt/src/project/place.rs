//! Where an address is stored. The table is in `SCHEMA.md`.

use crate::vetting::is_key;

pub(super) const ROOT: &str = "root";
pub(super) const MIXER: &str = "mixer";
pub(super) const CHAT: &str = "chat";
const TRACK: &str = "track/";

/// Document and key of a parameter's address.
pub(super) fn of_parameter(address: &str) -> Option<(&'static str, &str)> {
    let path = address.strip_prefix('/').filter(|path| is_key(path))?;
    match path.strip_prefix("mixer/") {
        Some(key) => Some((MIXER, key)),
        None => Some((ROOT, path)),
    }
}

/// The address that changes when a key of a document does.
pub(super) fn address(document: &str, key: &str) -> String {
    let first = || key.split('/').next().unwrap_or_default();
    match document {
        ROOT => format!("/{key}"),
        MIXER => format!("/mixer/{key}"),
        CHAT => format!("/chat/{}", first()),
        other => format!("/tracks/{}", other.strip_prefix(TRACK).unwrap_or(other)),
    }
}

/// The document of a track's content.
pub(super) fn track_document(id: &str) -> String {
    format!("{TRACK}{id}")
}

/// Whether a document of this name can exist.
pub(super) fn is_document(name: &str) -> bool {
    let is_track = || name.strip_prefix(TRACK).is_some_and(|id| is_key(id) && !id.contains('/'));
    matches!(name, ROOT | MIXER | CHAT) || is_track()
}
