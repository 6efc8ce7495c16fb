use std::f32::consts::TAU;

use proptest::prelude::*;

use super::*;

fn encoder(codec: Codec, channels: usize, opus_mode: OpusMode) -> Encoder {
    Encoder::new(EncoderConfig { codec, rate_hz: 48_000, channels, bitrate_bps: 96_000, opus_mode }).unwrap()
}

fn sine(frames: usize, channels: usize, from: usize) -> Vec<f32> {
    let sample = |n: usize| (TAU * 440.0 * n as f32 / 48_000.0).sin() * 0.5;
    (from..from + frames).flat_map(|n| std::iter::repeat_n(sample(n), channels)).collect()
}

fn rms(samples: &[f32]) -> f32 {
    (samples.iter().map(|sample| sample * sample).sum::<f32>() / samples.len() as f32).sqrt()
}

#[test]
fn every_16_bit_value_comes_back_as_it_was() {
    let samples: Vec<f32> = (i16::MIN..=i16::MAX).map(|value| f32::from(value) / 32_768.0).collect();
    let (mut payload, mut back) = (vec![0; samples.len() * 2], vec![0.0; samples.len()]);
    let bytes =
        encoder(Codec::Pcm16, 1, OpusMode::LowDelay).encode(&samples, Layout::All, &mut payload).unwrap();
    assert_eq!(bytes, payload.len());
    assert_eq!(payload[..2], [0x80, 0x00], "network order");
    let mut decoder = Decoder::new(Codec::Pcm16, 48_000, 1).unwrap();
    assert_eq!(decoder.decode(&payload, Layout::All, &mut back).unwrap(), samples.len());
    assert_eq!(back, samples);
}

#[test]
fn twenty_four_bits_are_kept_and_what_is_beyond_full_scale_is_clipped() {
    let samples = [-1.0, 1.0 / 8_388_608.0, 0.5, 1.5, -9.0, f32::NAN, f32::INFINITY, -1.0 / 8_388_608.0];
    let (mut payload, mut back) = ([0; 24], [9.0; 8]);
    encoder(Codec::Pcm24, 2, OpusMode::LowDelay).encode(&samples, Layout::All, &mut payload).unwrap();
    let frames =
        Decoder::new(Codec::Pcm24, 48_000, 2).unwrap().decode(&payload, Layout::All, &mut back).unwrap();
    let top = 8_388_607.0 / 8_388_608.0;
    assert_eq!(frames, 4);
    assert_eq!(back, [-1.0, 1.0 / 8_388_608.0, 0.5, top, -1.0, 0.0, top, -1.0 / 8_388_608.0]);
}

#[test]
fn one_channel_of_two_comes_back_where_it_was() {
    let samples = [0.5, -0.25, 0.125, -1.0];
    for codec in [Codec::Pcm16, Codec::Pcm24] {
        let mut encoder = encoder(codec, 2, OpusMode::LowDelay);
        let mut decoder = Decoder::new(codec, 48_000, 2).unwrap();
        for (layout, expected) in [
            (Layout::All, samples),
            (Layout::Same, [0.5, 0.5, 0.125, 0.125]),
            (Layout::Left, [0.5, 0.0, 0.125, 0.0]),
            (Layout::Right, [0.0, -0.25, 0.0, -1.0]),
        ] {
            let (mut payload, mut back) = ([0; 12], [9.0; 4]);
            let bytes = encoder.encode(&samples, layout, &mut payload).unwrap();
            assert_eq!(bytes, codec.payload_bytes(2, if layout == Layout::All { 2 } else { 1 }));
            assert_eq!(decoder.decode(&payload[..bytes], layout, &mut back), Ok(2));
            assert_eq!(back, expected, "{codec} {layout:?}");
        }
    }
}

/// A third of a second of two notes in Opus: the same on both sides, then an octave higher on the right, then the same.
/// `layout` says how the packets are to be coded in which the sides are the same. Returns the error of both sides, worst
/// window of 120 frames, and the octets of all packets.
fn opus_with_a_guest(layout: Layout) -> ([f32; 2], usize) {
    let note = |side: usize, n: usize| {
        let hz = if side == 1 && (4_800..9_600).contains(&n) { 880.0 } else { 440.0 };
        (TAU * hz * n as f32 / 48_000.0).sin() * 0.5
    };
    let config = EncoderConfig {
        codec: Codec::Opus,
        rate_hz: 48_000,
        channels: 2,
        bitrate_bps: 256_000,
        opus_mode: OpusMode::LowDelay,
    };
    let mut encoder = Encoder::new(config).unwrap();
    let mut decoder = Decoder::new(Codec::Opus, 48_000, 2).unwrap();
    let (mut payload, mut back, mut heard, mut octets) = ([0; MAX_OPUS_BYTES], [0.0; 240], Vec::new(), 0);
    for packet in 0..120 {
        let frames = packet * 120..(packet + 1) * 120;
        let samples: Vec<f32> = frames.flat_map(|n| [note(0, n), note(1, n)]).collect();
        // A packet overlaps the one before, so one channel can follow only when both have been the same for a while.
        let layout = if (40..90).contains(&packet) { Layout::All } else { layout };
        let bytes = encoder.encode(&samples, layout, &mut payload).unwrap();
        octets += bytes;
        assert_eq!(decoder.decode(&payload[..bytes], Layout::All, &mut back), Ok(120));
        heard.extend_from_slice(&back);
    }
    // The codec's look-ahead is one packet; the first packets find the note.
    let error = |side: usize| {
        let windows = (2_400..14_280).step_by(120).map(|from| {
            let off = |n: usize| heard[2 * (n + 120) + side] - note(side, n);
            rms(&(from..from + 120).map(off).collect::<Vec<_>>())
        });
        windows.fold(0.0, f32::max)
    };
    ([error(0), error(1)], octets)
}

#[test]
fn opus_goes_to_one_channel_and_back_without_a_click() {
    let (always_stereo, all_octets) = opus_with_a_guest(Layout::All);
    let (changing, octets) = opus_with_a_guest(Layout::Same);
    for (changing, stereo) in changing.into_iter().zip(always_stereo) {
        assert!(changing < 2.0 * stereo, "{changing} {stereo}");
    }
    assert!(octets < all_octets * 3 / 4, "{octets} of {all_octets}");
}

#[test]
fn opus_carries_a_note_in_every_frame_length_we_use() {
    for frames in [120, 240, 480] {
        let mut encoder = encoder(Codec::Opus, 2, OpusMode::LowDelay);
        let mut decoder = Decoder::new(Codec::Opus, 48_000, 2).unwrap();
        let (mut payload, mut back, mut heard) = ([0; MAX_OPUS_BYTES], [0.0; 960], Vec::new());
        for packet in 0..4_800 / frames {
            let bytes = encoder.encode(&sine(frames, 2, packet * frames), Layout::All, &mut payload).unwrap();
            let decoded = decoder.decode(&payload[..bytes], Layout::All, &mut back).unwrap();
            assert_eq!(decoded, frames);
            heard.extend_from_slice(&back[..frames * 2]);
        }
        let level = rms(&heard[4_800..]);
        assert!((level - 0.3535).abs() < 0.03, "{frames}: {level}");
    }
}

#[test]
fn a_lost_opus_packet_is_concealed_and_a_resilient_one_is_recovered() {
    for (mode, frames) in [(OpusMode::LowDelay, 120), (OpusMode::Resilient { loss_percent: 20 }, 480)] {
        let mut encoder = encoder(Codec::Opus, 1, mode);
        let mut decoder = Decoder::new(Codec::Opus, 48_000, 1).unwrap();
        let (mut payload, mut back) = ([0; MAX_OPUS_BYTES], [0.0; 480]);
        let mut after = Vec::new();
        for packet in 0..200 {
            let bytes = encoder.encode(&sine(frames, 1, packet * frames), Layout::All, &mut payload).unwrap();
            match packet {
                30 => {
                    assert_eq!(decoder.conceal(frames, &mut back).unwrap(), frames);
                    assert!(rms(&back[..frames]) > 0.1, "{mode:?}: the note goes on");
                }
                35 => {}
                36 => {
                    assert_eq!(decoder.recover(&payload[..bytes], frames, &mut back).unwrap(), frames);
                    assert!(rms(&back[..frames]) > 0.1, "{mode:?}: the gap is filled");
                    assert_eq!(decoder.decode(&payload[..bytes], Layout::All, &mut back).unwrap(), frames);
                }
                _ => assert_eq!(decoder.decode(&payload[..bytes], Layout::All, &mut back).unwrap(), frames),
            }
            if packet >= 160 {
                after.extend_from_slice(&back[..frames]);
            }
        }
        let level = rms(&after);
        assert!((level - 0.3535).abs() < 0.06, "{mode:?}: and it recovers, to {level}");
    }
}

#[test]
fn wrong_settings_are_refused_with_what_would_work() {
    let good = EncoderConfig {
        codec: Codec::Opus,
        rate_hz: 48_000,
        channels: 2,
        bitrate_bps: 64_000,
        opus_mode: OpusMode::LowDelay,
    };
    let error = |config| Encoder::new(config).unwrap_err().to_string();
    assert!(error(EncoderConfig { rate_hz: 44_100, ..good }).contains("48000"));
    assert!(error(EncoderConfig { channels: 3, ..good }).contains("1 or 2"));
    assert!(error(EncoderConfig { bitrate_bps: 4_000_000_000, ..good }).contains("510000"));
    assert!(Decoder::new(Codec::Opus, 44_100, 2).is_err());
    assert!(Decoder::new(Codec::Pcm16, 44_100, 0).is_err());
    let mut encoder = Encoder::new(good).unwrap();
    assert!(
        encoder.encode(&[0.0; 128], Layout::All, &mut [0; 1275]).unwrap_err().to_string().contains("2.5")
    );
    assert!(encoder.encode(&[0.0; 241], Layout::All, &mut [0; 1275]).is_err());
    assert!(encoder.encode(&[0.0; 240], Layout::All, &mut []).is_err());
    assert!(encoder.set_bitrate(1).is_err());
    assert_eq!("opus".parse(), Ok(Codec::Opus));
    assert!("mp3".parse::<Codec>().is_err());
    let mut decoder = Decoder::new(Codec::Opus, 48_000, 2).unwrap();
    assert!(decoder.conceal(7, &mut [0.0; 960]).is_err());
    assert!(decoder.conceal(usize::MAX, &mut [0.0; 960]).is_err());
    assert!(matches!(decoder.conceal(480, &mut [0.0; 10]), Err(CodecError::Room { needed: 960, room: 10 })));
}

#[test]
fn a_packet_longer_than_we_play_is_refused_before_it_is_decoded() {
    let mut decoder = Decoder::new(Codec::Opus, 48_000, 1).unwrap();
    // Table of contents 0x03: code 3, here with six frames of 20 ms, 120 ms in all.
    let error = decoder.decode(&[0x1B, 6, 0, 0, 0, 0, 0, 0], Layout::All, &mut [0.0; 960]).unwrap_err();
    assert!(matches!(error, CodecError::Payload { codec: Codec::Opus, .. }), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]
    #[test]
    fn no_payload_panics_or_writes_beyond_its_room(
        payload in prop::collection::vec(any::<u8>(), 0..1500), room in 0usize..2_000, channels in 1usize..=2,
    ) {
        for codec in [Codec::Pcm16, Codec::Pcm24, Codec::Opus] {
            let mut decoder = Decoder::new(codec, 48_000, channels).unwrap();
            let mut samples = vec![0.0; room];
            for layout in [Layout::All, Layout::Same, Layout::Left, Layout::Right] {
                if let Ok(frames) = decoder.decode(&payload, layout, &mut samples) {
                    prop_assert!(frames * channels <= room);
                }
            }
            let _ = decoder.recover(&payload, 120, &mut samples);
            let _ = decoder.conceal(120, &mut samples);
            prop_assert!(samples.iter().all(|sample| sample.is_finite()));
        }
    }
}
