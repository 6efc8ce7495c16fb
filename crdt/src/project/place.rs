//! Where an address is stored. The table is in `SCHEMA.md`.

use crate::vetting::is_key;

pub(super) const ROOT: &str = "root";
pub(super) const MIXER: &str = "mixer";
pub(super) const CHAT: &str = "chat";
/// All documents there are. Which they are does not depend on what a node holds, so all nodes take the same ones.
pub(super) const DOCUMENTS: [&str; 3] = [ROOT, MIXER, CHAT];
/// A register of each document that says nothing, see [`super::exchange`].
pub(super) const MERGED: &str = "merged";

/// Document and key of a parameter's address.
pub(super) fn of_parameter(address: &str) -> Option<(&'static str, &str)> {
    let path = address.strip_prefix('/').filter(|path| is_key(path))?;
    match path.strip_prefix("mixer/") {
        Some(key) => Some((MIXER, key)),
        None => Some((ROOT, path)),
    }
}

/// The address that a key of a document stands for.
pub(super) fn address(document: &str, key: &str) -> String {
    match document {
        MIXER => format!("/mixer/{key}"),
        CHAT => format!("/chat/{}", key.split('/').next().unwrap_or_default()),
        _ => format!("/{key}"),
    }
}

/// The addresses in the tree that read differently when a key of a document changes.
pub(super) fn addresses(document: &str, key: &str) -> Vec<String> {
    if key == MERGED {
        return Vec::new();
    }
    let track = (document == ROOT).then(|| key.strip_prefix("tracks/")?.split_once('/')).flatten();
    match track {
        // A track comes and goes with its strip, and the others stand elsewhere then.
        Some((id, "deleted")) => {
            vec!["/tracks".to_owned(), format!("/tracks/{id}"), format!("/mixer/strip/{id}")]
        }
        Some((id, "order")) => vec!["/tracks".to_owned(), format!("/mixer/strip/{id}")],
        _ => vec![address(document, key)],
    }
}

/// Whether a document of this name can exist.
pub(super) fn is_document(name: &str) -> bool {
    DOCUMENTS.contains(&name)
}
