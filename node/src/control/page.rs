//! The page: the files in `node/web/dist`, built there and committed, inside the program.
//!
//! Nothing is read from disk at run time and no name is looked up outside the built-in table, so that no path can lead
//! elsewhere. Names carry no hash of the content; an entity tag does (RFC 9110 section 8.8.3), and browsers ask each
//! time, which costs a round trip on this machine.

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use rust_embed::{EmbeddedFile, RustEmbed};

#[derive(RustEmbed)]
#[folder = "web/dist"]
struct Dist;

/// One file of the page.
pub(crate) struct PageFile {
    file: EmbeddedFile,
    media_type: &'static str,
}

/// Whether a path is one of the page's files.
pub(crate) fn is_page(path: &str) -> bool {
    find(path).is_some()
}

/// The file at a path of the address; `None`: there is none.
pub(crate) fn find(path: &str) -> Option<PageFile> {
    let name = match path.strip_prefix('/')? {
        "" => "index.html",
        name => name,
    };
    let file = Dist::get(name)?;
    Some(PageFile { file, media_type: media_type(name) })
}

impl PageFile {
    /// The file, or 304 where the browser has it already.
    pub(crate) fn response(self, request: &HeaderMap) -> Response {
        let tag = self.tag();
        let known = request.get_all(header::IF_NONE_MATCH).iter().any(|value| {
            value
                .to_str()
                .is_ok_and(|list| list.split(',').any(|one| one.trim().trim_start_matches("W/") == tag))
        });
        let mut response = Response::new(if known { Body::empty() } else { Body::from(self.file.data) });
        if known {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
        }
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(self.media_type));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        if let Ok(tag) = HeaderValue::from_str(&tag) {
            headers.insert(header::ETAG, tag);
        }
        response
    }

    /// An entity tag that changes with the content: half of its SHA-256.
    fn tag(&self) -> String {
        let digits: String =
            self.file.metadata.sha256_hash().iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        format!("\"{digits}\"")
    }
}

/// Browsers are told not to guess (`nosniff`), so every kind of file in the page must be here.
fn media_type(name: &str) -> &'static str {
    match name.rsplit_once('.').map_or("", |(_, extension)| extension) {
        "html" => "text/html; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "ico" => "image/x-icon",
        "woff2" => "font/woff2",
        "json" => "application/json",
        "webmanifest" => "application/manifest+json",
        "txt" => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_of_the_page_has_a_media_type() {
        assert!(find("/").is_some_and(|page| page.media_type.starts_with("text/html")));
        for name in Dist::iter() {
            assert_ne!(media_type(&name), "application/octet-stream", "{name}");
        }
    }

    #[test]
    fn no_path_leads_out_of_the_page() {
        for path in
            ["", "/..", "/../Cargo.toml", "//etc/passwd", "/%2e%2e/x", "/index.html/", "/INDEX.HTML", "/\0"]
        {
            assert!(find(path).is_none(), "{path:?}");
        }
    }
}
