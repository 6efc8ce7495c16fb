// Every shortcut, in one list that `?` shows. None works while somebody types.
import {
  mixForMe,
  nudgeTempo,
  play,
  redo,
  set,
  soloAlone,
  tap,
  toggleLink,
  toggleMetronome,
  toggleMyMute,
  togglePlaying,
  undo,
} from "./actions";
import { me, peers, project } from "./store";
import { dialog, open, toggle } from "./views/view";

export interface Shortcut {
  keys: string;
  does: string;
  run: (event: KeyboardEvent) => void;
}

/** The member whose strip has the focus. */
function strip(): string | null {
  return document.activeElement?.closest<HTMLElement>("[data-peer]")?.dataset.peer ?? null;
}

function otherStrip(): string | null {
  const id = strip();
  return id === null || id === me.value ? null : id;
}

function flipShared(field: "mute" | "solo"): void {
  const id = strip();
  if (id) set(`/mixer/strip/${id}/${field}`, !project.value?.mixer.strip[id]?.[field]);
}

function focusStrip(at: number): void {
  open("band");
  requestAnimationFrame(() => {
    const strips = [...document.querySelectorAll<HTMLElement>(".strip")].filter((strip) => strip.dataset.peer !== me.value && strip.dataset.peer);
    const target = at === 0 ? document.querySelector<HTMLElement>(".strip.own") : strips[at - 1];
    target?.querySelector<HTMLElement>("input[type=range]:not(:disabled), button:not(:disabled)")?.focus();
    target?.scrollIntoView({ block: "nearest", inline: "nearest" });
  });
}

export const shortcuts: Shortcut[] = [
  { keys: "Space", does: "Play or stop", run: togglePlaying },
  { keys: "T", does: "Tap the tempo", run: tap },
  { keys: "+ / −", does: "Faster or slower by one beat a minute", run: ({ key }) => nudgeTempo(key === "-" ? -1 : 1) },
  { keys: "C", does: "Metronome click, only in my ears", run: toggleMetronome },
  { keys: "L", does: "Link on or off", run: toggleLink },
  { keys: "Home", does: "Go to bar 1, unless a fader or list has the focus", run: () => play({ position_beats: 0 }) },
  {
    keys: "M",
    does: "Mute: the strip with the focus only for me, otherwise myself",
    run: () => {
      const peer = peers.value.find(({ peer_id }) => peer_id === otherStrip());
      if (peer) mixForMe(peer.peer_id, { muted_by_me: !peer.muted_by_me });
      else toggleMyMute();
    },
  },
  {
    keys: "S",
    does: "Solo the strip with the focus, only for me",
    run: () => {
      const peer = peers.value.find(({ peer_id }) => peer_id === otherStrip());
      if (peer) mixForMe(peer.peer_id, { soloed_by_me: !peer.soloed_by_me });
    },
  },
  {
    keys: "Alt S",
    does: "Solo the strip with the focus and no other, only for me; once more: everybody again",
    run: () => {
      const id = otherStrip();
      if (id) soloAlone(id);
    },
  },
  { keys: "Shift M", does: "Mute the strip with the focus for everyone", run: () => flipShared("mute") },
  { keys: "Shift S", does: "Solo the strip with the focus for everyone", run: () => flipShared("solo") },
  { keys: "0 … 9", does: "Go to my strip (0) or the strip of a bandmate", run: ({ key }) => focusStrip(Number(key)) },
  { keys: "B", does: "Band", run: () => open("band") },
  { keys: "K", does: "Tracks", run: () => toggle("tracks") },
  { keys: "H", does: "Chat", run: () => toggle("chat") },
  { keys: "P", does: "Network: who is connected to whom", run: () => open("peers") },
  { keys: "D", does: "Diagnostics", run: () => open("health") },
  {
    keys: "/",
    does: "Write a message",
    run: () => {
      open("chat");
      requestAnimationFrame(() => document.getElementById("chat-input")?.focus());
    },
  },
  { keys: ",", does: "Settings", run: () => (dialog.value = "settings") },
  { keys: "Ctrl Z", does: "Undo what I did last, since the node was started", run: () => void undo() },
  { keys: "Ctrl Shift Z", does: "Do again what I undid", run: () => void redo() },
  { keys: "?", does: "This list", run: () => (dialog.value = "help") },
];

export const controlKeys: { keys: string; does: string }[] = [
  { keys: "↑ ↓ ← →", does: "Move the fader with the focus; with Shift in small steps" },
  { keys: "Page ↑ ↓", does: "Move it in large steps" },
  { keys: "Home, End", does: "To its ends" },
  { keys: "Delete", does: "To its middle (0 dB, centre)" },
  { keys: "Tab, Shift Tab", does: "Next and previous control" },
  { keys: "Esc", does: "Close what is open" },
];

const byKeys = new Map(shortcuts.map((shortcut) => [shortcut.keys, shortcut]));

function nameOf(event: KeyboardEvent): string | null {
  const { key, shiftKey } = event;
  if (event.ctrlKey || event.metaKey) {
    if (event.altKey) return null;
    if (key.toLowerCase() === "z") return shiftKey ? "Ctrl Shift Z" : "Ctrl Z";
    return key.toLowerCase() === "y" ? "Ctrl Shift Z" : null;
  }
  // Some keyboards write another letter with Alt.
  if (event.altKey) return event.code === "KeyS" && !shiftKey ? "Alt S" : null;
  if (key === " ") return "Space";
  if (key === "Home") return "Home";
  if (key === "+" || key === "-" || key === "=") return "+ / −";
  if (/^[0-9]$/.test(key)) return "0 … 9";
  if (/^[ms]$/i.test(key) && shiftKey) return `Shift ${key.toUpperCase()}`;
  return key.length === 1 ? key.toUpperCase() : null;
}

const TYPING = "input:not([type=range]), textarea, select, [contenteditable]";

function onKeyDown(event: KeyboardEvent): void {
  const target = event.target instanceof Element ? event.target : document.body;
  if (event.defaultPrevented || target.matches(TYPING)) return;
  // A dialog has the keyboard to itself.
  if (target.closest("dialog") || document.querySelector("dialog[open]")) return;
  const name = nameOf(event);
  const shortcut = name ? byKeys.get(name) : undefined;
  if (!shortcut) return;
  // The space bar presses the button that has the focus, and Home belongs to faders and lists.
  if (name === "Space" && target.closest("button, a, [tabindex]")) return;
  if (name === "Home" && target !== document.body) return;
  if (event.repeat && name !== "+ / −") return;
  event.preventDefault();
  shortcut.run(event);
}

export function listenToKeys(): void {
  addEventListener("keydown", onKeyDown);
}
