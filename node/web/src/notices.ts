// What the page says by itself: toasts for the eye, one polite live region for the ear.
import { signal } from "@preact/signals";

export type Severity = "good" | "notice" | "bad";

export interface Toast {
  id: number;
  text: string;
  severity: Severity;
}

const SHOWN_MS: Record<Severity, number> = { good: 4_000, notice: 7_000, bad: 15_000 };
const MOST_TOASTS = 3;

export const toasts = signal<Toast[]>([]);
export const announcement = signal("");
let nextId = 1;

export function toast(text: string, severity: Severity = "notice"): void {
  const id = nextId++;
  // The same sentence twice says nothing new.
  const others = toasts.value.filter((other) => other.text !== text);
  toasts.value = [...others, { id, text, severity }].slice(-MOST_TOASTS);
  setTimeout(() => dismiss(id), SHOWN_MS[severity]);
}

export function dismiss(id: number): void {
  toasts.value = toasts.value.filter((toast) => toast.id !== id);
}

let waiting: string[] = [];

/** Said to screen readers; sentences of one moment are said together. */
export function announce(text: string): void {
  if (waiting.length === 0) {
    setTimeout(() => {
      announcement.value = waiting.join(" ");
      waiting = [];
    }, 150);
  }
  if (waiting.length < 5) waiting.push(text);
}

/** Shows why something did not work. */
export function complain(error: unknown): void {
  const text =
    error instanceof Error ? error.message : ((error as { detail?: string } | null)?.detail ?? "That did not work.");
  toast(text, "bad");
  announce(text);
}
