//! The JSON of the control interface.
//!
//! These types belong to the interface alone: the inside of the node converts into them by hand, so that it can change while
//! clients keep working. Names are `snake_case` and end in their unit. What is not known yet is `null`, never a made-up 0.

mod desk;
mod diagnosis;
mod live;
mod peer;
mod people;
mod playback;
mod project;
mod status;

pub use desk::*;
pub use diagnosis::*;
pub use live::*;
pub use peer::*;
pub use people::*;
pub use playback::*;
pub use project::*;
pub use status::*;

/// The level, in dB, that stands for silence in every `*_db` meter: JSON has no minus infinity.
pub const SILENCE_DB: f32 = -120.0;

/// The level in dB of a linear amplitude, held within what JSON and a meter can show.
#[must_use]
pub fn level_db(amplitude: f32) -> f32 {
    let db = 20.0 * amplitude.abs().log10();
    if db.is_nan() { SILENCE_DB } else { db.clamp(SILENCE_DB, 120.0) }
}
