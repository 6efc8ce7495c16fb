// The beat between two messages: the node says where the beat was and when, the page draws where it is now.
//
// Messages come late by a varying amount, so their age must not move the beat. The smallest difference seen between the
// page's clock and the node's stamps is the honest one; small errors are steered out, real changes are taken at once.
import type { Meters, Playback } from "./api/types";

export interface Beat {
  /** Beats since the song began. */
  position: number;
  /** Beats since the bar began. */
  phase: number;
  /** Bar, counted from 1. */
  bar: number;
  beats_per_bar: number;
  tempo_bpm: number;
  playing: boolean;
}

/** Beyond this the beat was moved; below, messages were late. */
const JUMP_BEATS = 0.12;
/** Share of an error that each message takes out. */
const STEER = 0.08;
const OFFSET_WINDOW_MS = 5_000;

let base = { at: 0, beat: 0, tempo: 120, playing: false };
let beatsPerBar = 4;
let known = false;

let best = Number.POSITIVE_INFINITY;
let bestBefore = Number.POSITIVE_INFINITY;
let windowBegan = 0;

/** Page time of a stamp of the node, both in ms. */
export function pageTime(at_ms: number, now = performance.now()): number {
  const difference = now - at_ms;
  if (now - windowBegan > OFFSET_WINDOW_MS) {
    windowBegan = now;
    bestBefore = best;
    best = difference;
  }
  best = Math.min(best, difference);
  return at_ms + Math.min(best, bestBefore);
}

export function timedBy(meters: Meters): void {
  const now = performance.now();
  const at = pageTime(meters.at_ms, now);
  const expected = base.beat + ((at - base.at) * base.tempo) / 60_000;
  const error = meters.beat - expected;
  const moved = !known || Math.abs(error) > JUMP_BEATS || meters.tempo_bpm !== base.tempo;
  base = { at, beat: moved ? meters.beat : expected + error * STEER, tempo: meters.tempo_bpm, playing: meters.playing };
  known = true;
}

/** Somebody changed tempo, meter or position; the next message of the meters says where the beat is. */
export function retimed(playback: Playback): void {
  const beats = Number.parseInt(playback.time_signature, 10);
  beatsPerBar = beats >= 1 && beats <= 32 ? beats : 4;
  known = false;
}

export function beatNow(now = performance.now()): Beat {
  const position = base.beat + (Math.max(0, now - base.at) * base.tempo) / 60_000;
  const bars = Math.floor(position / beatsPerBar);
  return {
    position,
    phase: position - bars * beatsPerBar,
    bar: bars + 1,
    beats_per_bar: beatsPerBar,
    tempo_bpm: base.tempo,
    playing: base.playing,
  };
}

// --- tap tempo ----------------------------------------------------------------------------------------

const TAP_PAUSE_MS = 2_000;
const MOST_TAPS = 8;
let taps: number[] = [];

/** Call at each tap; from the third one on, the tempo they give. */
export function tapped(now = performance.now()): number | null {
  const last = taps[taps.length - 1];
  if (last !== undefined && now - last > TAP_PAUSE_MS) taps = [];
  taps = [...taps, now].slice(-MOST_TAPS);
  const first = taps[0];
  if (taps.length < 3 || first === undefined) return null;
  const bpm = (60_000 * (taps.length - 1)) / (now - first);
  return Math.min(999, Math.max(20, Math.round(bpm * 10) / 10));
}
