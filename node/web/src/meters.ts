// Levels, past the component tree: each message is drawn in the next animation frame, straight to the canvases.
import { signal } from "@preact/signals";
import type { Level, Meters } from "./api/types";
import { timedBy } from "./beat";

export const FLOOR_DB = -60;
const SILENCE_DB = -120;
/** How fast a bar falls, dB a second: as fast as a peak programme meter. */
const FALL_DB_S = 26;
const HOLD_MS = 1_400;
/** For readers who want less motion, and for screen readers. */
const CALM_MS = 500;
const IDLE_MS = 200;

const still = matchMedia("(prefers-reduced-motion: reduce)");

/** Whose level: an input or output channel, or a member. */
export type Source = { kind: "input" | "output"; channel: number } | { kind: "peer"; peer_id: string };

interface Shown {
  canvas: HTMLCanvasElement;
  source: Source;
  bar: number;
  hold: number;
  heldAt: number;
  drawn: string;
  width: number;
  height: number;
  /** The element with role=meter. */
  spoken: HTMLElement | null;
}

let latest: Meters | null = null;
let latestAt = 0;
let peerLevels = new Map<string, Level>();
const shown = new Set<Shown>();
const frames = new Set<(now: number, calm: boolean) => void>();
let lastCalm = 0;
let lastSpoken = 0;
let lastStep = 0;

// What the page itself does with the meters, for its own diagnosis.
const AGES = 300;
const ages: number[] = [];
const drawnAt: number[] = [];
let measured = true;

/** Page figures: age of the meters when drawn, and frames with new meters a second. */
export function figures(): { age_p50_ms: number | null; age_p95_ms: number | null; frames_s: number } {
  const sorted = [...ages].sort((a, b) => a - b);
  const at = (share: number) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? null;
  const now = performance.now();
  const recent = drawnAt.filter((time) => now - time < 3_000);
  const first = recent[0];
  const frames_s = first === undefined || recent.length < 2 ? 0 : (1_000 * (recent.length - 1)) / (now - first);
  return { age_p50_ms: at(0.5), age_p95_ms: at(0.95), frames_s };
}

/** Channels of my device, so that a mono input shows one bar. */
export const channels = signal({ input: 1, output: 2 });

/** The bars of a device's channels; two at most, since nobody reads more at a glance. */
export function deviceMeter(kind: "input" | "output"): Source[] {
  return Array.from({ length: Math.min(2, Math.max(1, channels.value[kind])) }, (_, channel) => ({ kind, channel }));
}

export function takeMeters(meters: Meters): void {
  const { input, output } = meters;
  if (input.length !== channels.value.input || output.length !== channels.value.output) {
    channels.value = { input: input.length, output: output.length };
  }
  latest = meters;
  latestAt = performance.now();
  peerLevels = new Map(meters.peers.map((level) => [level.peer_id, level]));
  measured = false;
  timedBy(meters);
  wake();
}

export function latestMeters(): Meters | null {
  return latest;
}

/** Calls `draw` in each frame until the returned function is called. `calm`: numbers may change, nothing may move. */
export function everyFrame(draw: (now: number, calm: boolean) => void): () => void {
  frames.add(draw);
  wake();
  return () => frames.delete(draw);
}

/** Keeps a canvas drawn until the returned function is called. */
export function showMeter(canvas: HTMLCanvasElement, source: Source, spoken: HTMLElement | null): () => void {
  const meter: Shown = {
    canvas,
    source,
    bar: FLOOR_DB,
    hold: FLOOR_DB,
    heldAt: 0,
    drawn: "",
    width: 0,
    height: 0,
    spoken,
  };
  const observer = new ResizeObserver(([entry]) => {
    const scale = Math.min(2, devicePixelRatio || 1);
    meter.width = Math.round((entry?.contentRect.width ?? 0) * scale);
    meter.height = Math.round((entry?.contentRect.height ?? 0) * scale);
    canvas.width = meter.width;
    canvas.height = meter.height;
    meter.drawn = "";
  });
  observer.observe(canvas);
  shown.add(meter);
  wake();
  return () => {
    observer.disconnect();
    shown.delete(meter);
  };
}

let asked = false;

/** One frame soon. Each message asks for one, so the page draws as often as there is something new, not as the screen can. */
function wake(): void {
  if (asked || (shown.size === 0 && frames.size === 0)) return;
  asked = true;
  requestAnimationFrame(frame);
}

// Bars fall and the beat goes on for a moment when no message comes.
setInterval(() => {
  if (performance.now() - latestAt > IDLE_MS) wake();
}, IDLE_MS);

function frame(now: number): void {
  asked = false;
  const fresh = !measured;
  const calm = still.matches;
  for (const draw of frames) draw(now, calm);
  // Nothing moved since the last message: its bars are drawn already.
  if (!fresh && now - latestAt < 1_000) return;
  measure(fresh);
  if (calm && now - lastCalm < CALM_MS) return;
  lastCalm = now;
  const speak = now - lastSpoken >= CALM_MS;
  if (speak) lastSpoken = now;
  const elapsed_s = Math.min(0.5, (now - lastStep) / 1_000);
  lastStep = now;
  for (const meter of shown) {
    step(meter, elapsed_s, now);
    paint(meter);
    if (speak) say(meter);
  }
}

function measure(fresh: boolean): void {
  if (!fresh) return;
  measured = true;
  const now = performance.now();
  drawnAt.push(now);
  if (drawnAt.length > AGES) drawnAt.shift();
  if (!latest) return;
  ages.push(performance.timeOrigin + now - latest.at_ms);
  if (ages.length > AGES) ages.shift();
}

function levelOf(source: Source): number {
  if (!latest || performance.now() - latestAt > 1_000) return SILENCE_DB;
  if (source.kind === "peer") return peerLevels.get(source.peer_id)?.peak_db ?? SILENCE_DB;
  const channels = source.kind === "input" ? latest.input : latest.output;
  return channels[source.channel]?.peak_db ?? SILENCE_DB;
}

function step(meter: Shown, elapsed_s: number, now: number): void {
  const level = Math.min(6, Math.max(FLOOR_DB, levelOf(meter.source)));
  meter.bar = Math.max(level, meter.bar - FALL_DB_S * elapsed_s, FLOOR_DB);
  if (level >= meter.hold) {
    meter.hold = level;
    meter.heldAt = now;
  } else if (now - meter.heldAt > HOLD_MS) {
    meter.hold = Math.max(meter.bar, meter.hold - FALL_DB_S * elapsed_s);
  }
}

// --- drawing ------------------------------------------------------------------------------------------

interface Colors {
  off: string;
  low: string;
  mid: string;
  high: string;
  hold: string;
}

let colors: Colors | null = null;
for (const query of ["(prefers-color-scheme: dark)", "(prefers-contrast: more)"]) {
  matchMedia(query).addEventListener("change", () => {
    colors = null;
    for (const meter of shown) meter.drawn = "";
  });
}

function themed(): Colors {
  const style = getComputedStyle(document.documentElement);
  const color = (name: string) => style.getPropertyValue(name).trim();
  colors ??= {
    off: color("--meter-off"),
    low: color("--meter-low"),
    mid: color("--meter-mid"),
    high: color("--meter-high"),
    hold: color("--text"),
  };
  return colors;
}

/** Where a level stands, 0 to 1: the upper 20 dB, where one plays, take most of the length. */
export function place(db: number): number {
  const clamped = Math.min(6, Math.max(FLOOR_DB, db));
  return clamped < -20 ? ((clamped - FLOOR_DB) / 40) * 0.4 : 0.4 + ((clamped + 20) / 26) * 0.6;
}

const YELLOW_DB = -12;
const RED_DB = -3;

function paint(meter: Shown): void {
  const { width, height } = meter;
  if (width === 0 || height === 0) return;
  const upright = height > width;
  const length = upright ? height : width;
  const bar = Math.round(place(meter.bar) * length);
  const hold = Math.round(place(meter.hold) * length);
  const key = `${bar} ${hold}`;
  if (key === meter.drawn) return;
  meter.drawn = key;
  const context = meter.canvas.getContext("2d", { alpha: false });
  if (!context) return;
  const { off, low, mid, high, hold: mark } = themed();
  const fill = (color: string, from: number, to: number) => {
    if (to <= from) return;
    context.fillStyle = color;
    if (upright) context.fillRect(0, length - to, width, to - from);
    else context.fillRect(from, 0, to - from, height);
  };
  const yellow = Math.round(place(YELLOW_DB) * length);
  const red = Math.round(place(RED_DB) * length);
  fill(off, 0, length);
  fill(low, 0, Math.min(bar, yellow));
  fill(mid, yellow, Math.min(bar, red));
  fill(high, red, bar);
  if (hold > 2) fill(mark, hold - 2, hold);
}

function say(meter: Shown): void {
  const { spoken } = meter;
  if (!spoken) return;
  const db = Math.round(meter.bar);
  const text = db <= FLOOR_DB ? "silent" : `${db} dB`;
  if (spoken.getAttribute("aria-valuetext") === text) return;
  spoken.setAttribute("aria-valuenow", String(Math.max(FLOOR_DB, Math.min(6, db))));
  spoken.setAttribute("aria-valuetext", text);
}
