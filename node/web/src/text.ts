// Words and numbers as musicians read them. Names come from strangers: they are cut here and shown through text nodes
// only, inside <bdi>, so that they neither push the page apart nor turn its direction.
import type { Path, Peer } from "./api/types";

const MAX_NAME = 40;
const segments = typeof Intl !== "undefined" && "Segmenter" in Intl ? new Intl.Segmenter(undefined, { granularity: "grapheme" }) : null;
// Control and direction-changing characters do nothing good in a name.
const INVISIBLE = /[\p{Cc}\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069\ufeff]/gu;

/** A name that fits its place: invisible characters out, at most 40 that a reader would count. */
export function clean(name: string, most = MAX_NAME): string {
  // Far more than can be shown, before anything that costs time per character.
  const text = name.slice(0, most * 20).replace(INVISIBLE, "").trim();
  if (text.length <= most) return text;
  if (!segments) return `${[...text].slice(0, most - 1).join("")}…`;
  let cut = "";
  let count = 0;
  for (const { segment } of segments.segment(text)) {
    // A pile of combining marks counts as what it is.
    if (++count >= most || cut.length + segment.length > most * 4) return `${cut}…`;
    cut += segment;
  }
  return cut;
}

export type Tightness = "tight" | "playable" | "loose" | "unknown";

/** Up to 25 ms feels like a few steps of distance, from 45 ms on rhythm suffers. The terminal says the same. */
export function tightness(ms: number | null | undefined): Tightness {
  if (ms === null || ms === undefined) return "unknown";
  return ms < 25 ? "tight" : ms < 45 ? "playable" : "loose";
}

const TIGHTNESS_WORDS = { tight: "Tight", playable: "Playable", loose: "Loose", unknown: "Measuring" } as const;

export function latencyWords(peer: Peer): { level: Tightness; text: string } {
  if (peer.state === "connecting") return { level: "unknown", text: "Connecting…" };
  if (peer.state === "away") return { level: "unknown", text: "Away" };
  const ms = peer.audio?.one_way_ms;
  const level = tightness(ms);
  if (!peer.audio) return { level, text: "No sound yet" };
  return { level, text: ms === null || ms === undefined ? "Measuring…" : `${TIGHTNESS_WORDS[level]}, ${whole(ms)} ms` };
}

const PATH_WORDS: Record<Path, string> = {
  lan: "Same network",
  direct: "Direct",
  relayed: "Through a relay",
  forwarded: "Through a bandmate",
};

export function pathWords(path: Path | null | undefined): string {
  return path ? PATH_WORDS[path] : "No path";
}

/** Whole milliseconds; one decimal below 10, where it matters. */
export function whole(ms: number): string {
  return ms < 9.95 ? ms.toFixed(1).replace(/\.0$/, "") : ms.toFixed(0);
}

export function decibels(db: number, lowest: number): string {
  if (db <= lowest) return "−∞ dB";
  return `${signed(db, 1)} dB`;
}

export function panWords(pan: number): string {
  const percent = Math.round(Math.abs(pan) * 100);
  if (percent === 0) return "centre";
  return `${percent} % ${pan < 0 ? "left" : "right"}`;
}

export function signed(value: number, digits: number): string {
  const text = Math.abs(value).toFixed(digits);
  if (Number(text) === 0) return text;
  return `${value < 0 ? "−" : "+"}${text}`;
}

export function clock(at_ms: number, seconds = false): string {
  return new Date(at_ms).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", ...(seconds ? { second: "2-digit" } : {}) });
}

const PALETTE = ["#e5705f", "#e8a33d", "#cfc04a", "#74b95a", "#3fb6a0", "#4aa3df", "#8088ee", "#b874d8", "#e06fa8", "#9a8c7c"];
const UNPAINTED = "#8a93a6";
const HEX = /^#[0-9a-f]{6}$/i;

export const palette: readonly string[] = PALETTE;

/** The colour somebody chose, or one that all pages give the same id. */
export function colorOf(id: string, chosen: string | undefined): string {
  if (chosen && HEX.test(chosen) && chosen.toLowerCase() !== UNPAINTED) return chosen;
  let hash = 0;
  for (let at = 0; at < id.length; at++) hash = (hash * 31 + id.charCodeAt(at)) | 0;
  return PALETTE[Math.abs(hash) % PALETTE.length] ?? UNPAINTED;
}
