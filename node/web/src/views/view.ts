// What is on screen. Wide windows show tracks or chat beside the rest, phones one thing at a time.
import { computed, effect, signal } from "@preact/signals";
import { project, me } from "../store";

export type View = "band" | "tracks" | "chat" | "peers" | "health";
export type Panel = "tracks" | "chat" | null;

const query = matchMedia("(min-width: 1100px)");
export const wide = signal(query.matches);
query.addEventListener("change", () => {
  wide.value = query.matches;
});

const small = matchMedia("(max-width: 600px)");
/** As narrow as a phone. */
export const narrow = signal(small.matches);
small.addEventListener("change", () => {
  narrow.value = small.matches;
});

const chosen = signal<View>("band");
export const panel = signal<Panel>("chat");
export const dialog = signal<"help" | "settings" | "log" | null>(null);

/** The main view; on a wide window tracks and chat stand beside it. */
export const view = computed<View>(() =>
  wide.value && (chosen.value === "tracks" || chosen.value === "chat") ? "band" : chosen.value,
);

export const shows = (which: View): boolean =>
  view.value === which || (wide.value && panel.value === which);

export function open(which: View): void {
  if (wide.value && (which === "tracks" || which === "chat")) panel.value = which;
  else chosen.value = which;
}

/** As `open`, but a panel that is open closes. */
export function toggle(which: View): void {
  if (wide.value && panel.value === which) panel.value = null;
  else open(which);
}

// --- unread messages ----------------------------------------------------------------------------------

const seen = signal<Set<string> | null>(null);
const away = signal(document.hidden);
document.addEventListener("visibilitychange", () => {
  away.value = document.hidden;
});

export const unread = computed(() => {
  const known = seen.value;
  if (!known) return 0;
  return (project.value?.chat ?? []).filter((message) => !known.has(message.id) && message.from !== me.value).length;
});

effect(() => {
  const chat = project.value?.chat;
  if (!chat) return;
  // What was said before the page came counts as read.
  if (seen.peek() === null || (shows("chat") && !away.value)) seen.value = new Set(chat.map(({ id }) => id));
});
