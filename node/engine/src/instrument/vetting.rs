//! How far a SoundFont's sounds can be bent.
//!
//! The synthesiser goes back by one loop at most per frame. A loop therefore has to be longer than the way it goes
//! in one frame at the highest pitch a note can get, or it reads beyond the end of the sample: a panic in the
//! audio callback. What a loop bears is computed here for every key of every sound, with the same formula by which
//! the synthesiser finds the pitch, and [`super::InstrumentVoice`] keeps all bending below it.

use rustysynth::{InstrumentRegion, LoopMode, PresetRegion, SampleHeader, SoundFont};

/// What a font must bear: a whole tone, as every wheel bends before anything is set.
pub(super) const LEAST_HEADROOM_SEMITONES: f32 = 2.0;

/// The lowest rate an instrument is played at; the lower the rate, the longer the way per frame.
pub(super) const LOWEST_RATE_HZ: u32 = 16_000;

/// How much the modulation wheel adds at its end.
const WHEEL_SEMITONES: f32 = 0.5;

/// For the rounding of single-precision numbers.
const MARGIN_SEMITONES: f32 = 1.0;

/// Without a loop there is nothing to run out of but the synthesiser's 39 bits of frames.
const MAX_UNLOOPED_FRAMES: f32 = 1e9;

/// By how many semitones all of a font's sounds may be bent, up or down, at a rate of `rate_hz` or more.
///
/// # Errors
/// Names a sound that bears too little.
pub(super) fn headroom_semitones(font: &SoundFont, rate_hz: u32) -> Result<f32, String> {
    let rate_hz = rate_hz.max(LOWEST_RATE_HZ) as f32;
    let mut least = f32::INFINITY;
    for preset in font.get_presets() {
        for zone in preset.get_regions() {
            let Some(instrument) = font.get_instruments().get(zone.get_instrument_id()) else { continue };
            for region in instrument.get_regions() {
                let sample = font.get_sample_headers().get(region.get_sample_id());
                let sample_rate_hz = sample.map_or(0, SampleHeader::get_sample_rate);
                let headroom = region_headroom(zone, region, sample_rate_hz as f32 / rate_hz);
                if headroom.is_nan() || headroom < LEAST_HEADROOM_SEMITONES {
                    return Err(format!(
                        "a loop of its sound {:?} is too short for the highest notes it is meant for",
                        instrument.get_name()
                    ));
                }
                least = least.min(headroom);
            }
        }
    }
    Ok(least)
}

/// `ratio` is how many frames of the sample pass in one at its own pitch.
fn region_headroom(zone: &PresetRegion, region: &InstrumentRegion, ratio: f32) -> f32 {
    let low = zone.get_key_range_start().max(region.get_key_range_start()).max(0);
    let high = zone.get_key_range_end().min(region.get_key_range_end()).min(127);
    if low > high {
        return f32::INFINITY;
    }
    // It would stand still or be read backwards.
    if ratio <= 0.0 {
        return f32::NEG_INFINITY;
    }
    let (begin, end) = (region.get_sample_start_loop(), region.get_sample_end_loop());
    let loops = region.get_sample_modes() != LoopMode::NoLoop && begin < end;
    // One less, so that a pitch just below the limit is not rounded to it.
    let most_frames = if loops { (end - begin - 1) as f32 } else { MAX_UNLOOPED_FRAMES };

    let both = |of_zone: i32, of_region: i32| of_zone as f32 + of_region as f32;
    let vibrato = both(zone.get_vibrato_lfo_to_pitch(), region.get_vibrato_lfo_to_pitch());
    let modulation = both(zone.get_modulation_lfo_to_pitch(), region.get_modulation_lfo_to_pitch());
    let envelope = both(zone.get_modulation_envelope_to_pitch(), region.get_modulation_envelope_to_pitch());
    // An envelope whose attack is shorter than the rounding of its time may come to twice its height.
    let wobble = WHEEL_SEMITONES + 0.01 * (vibrato.abs() + modulation.abs() + 2.0 * envelope.abs());
    let scale = 0.01 * both(zone.get_scale_tuning(), region.get_scale_tuning());
    let tune = both(zone.get_coarse_tune(), region.get_coarse_tune())
        + 0.01 * both(zone.get_fine_tune(), region.get_fine_tune());
    let of_key = |key: i32| scale * (key - region.get_root_key()) as f32;
    let highest = of_key(low).max(of_key(high)) + tune + scale.abs() * wobble;

    let bearable = 12.0 * (most_frames / ratio).log2() - MARGIN_SEMITONES;
    let room = bearable - highest;
    match scale.abs() {
        // Nothing bends it.
        0.0 if room >= 0.0 => f32::INFINITY,
        scale => room / scale,
    }
}
