//! What a band would notice. The `mod` list is the contents.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "test code: a failed step ends its test, saying which; figures are printed for the reader"
)]

mod alsa;
mod bad_input;
mod beat;
mod control;
mod demo;
mod desk;
mod discovery;
mod first_jam;
mod five_nodes;
mod impaired;
mod jack;
mod midi;
mod one_microphone;
mod page;
mod people;
mod project;
mod sequencer;
mod sessions;
mod trace;
