// The last five minutes, second by second, as the node keeps them: fetched whole once, then only what is new.
import { signal } from "@preact/signals";
import { get } from "./api/client";
import type { History } from "./api/types";

const SECONDS = 300;
const EVERY_MS = 1_000;

export const history = signal<History | null>(null);
let watchers = 0;
let timer: ReturnType<typeof setTimeout> | undefined;

/** Keeps `history` fresh until the returned function is called. */
export function watchHistory(): () => void {
  if (watchers++ === 0) void refresh();
  return () => {
    if (--watchers === 0) clearTimeout(timer);
  };
}

async function refresh(): Promise<void> {
  clearTimeout(timer);
  try {
    const before = history.peek();
    const missing = before ? Math.ceil((Date.now() - before.end_ms) / 1_000) + 2 : SECONDS;
    if (!document.hidden) {
      const answer = await get<History>(`/history?seconds=${Math.min(SECONDS, Math.max(2, missing))}`);
      history.value = before ? joined(before, answer) : answer;
    }
  } catch {
    // The banner says that the node does not answer; the next round asks again.
  }
  if (watchers > 0) timer = setTimeout(() => void refresh(), EVERY_MS);
}

type Row = (number | null)[];
type Rows = Record<string, Row>;

/** The older history with the newer one's end; the whole newer one where they do not meet. */
export function joined(before: History, after: History): History {
  const step = Math.max(1, before.interval_s) * 1_000;
  const steps = Math.round((after.end_ms - before.end_ms) / step);
  const length = after.device.xruns.length;
  if (steps < 0 || steps > length) return after;
  const row = (old: Row | undefined, fresh: Row): Row => {
    // The last overlapping values may have become known since.
    const kept = (old ?? []).slice(0, Math.max(0, (old ?? []).length - (length - steps)));
    return [...kept, ...fresh].slice(-SECONDS);
  };
  const rows = (old: object | undefined, fresh: object): unknown =>
    Object.fromEntries(
      Object.entries(fresh).map(([key, value]) => [key, Array.isArray(value) ? row((old as Rows | undefined)?.[key], value as Row) : value]),
    );
  return {
    ...after,
    device: rows(before.device, after.device) as History["device"],
    peers: after.peers.map((peer) => rows(before.peers.find(({ peer_id }) => peer_id === peer.peer_id), peer) as History["peers"][number]),
  };
}
