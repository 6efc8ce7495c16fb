//! Randomness that can be had again.

use std::time::{SystemTime, UNIX_EPOCH};

/// A fresh seed for `purpose`, printed, so that a failure can be replayed with `BANDMESH_TEST_SEED`.
pub fn seed(purpose: &str) -> u64 {
    let seed = match std::env::var("BANDMESH_TEST_SEED") {
        Ok(text) => text.parse().expect("BANDMESH_TEST_SEED is a number"),
        Err(_) => u64::from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().subsec_nanos()),
    };
    eprintln!("{purpose}: BANDMESH_TEST_SEED={seed}");
    seed
}
