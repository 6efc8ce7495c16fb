//! Builds the program anew when the page's files change, come or go.

fn main() {
    println!("cargo:rerun-if-changed=web/dist");
}
