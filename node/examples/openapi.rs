//! Prints the description of the control interface, from which the page's types are made (`./dev types`).
#![allow(clippy::print_stdout, reason = "printing is what it is for")]

fn main() {
    println!("{}", bandmesh::control::openapi());
}
