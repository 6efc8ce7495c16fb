// What a person can do. The page shows the outcome at once; the node's word replaces it when it comes.
import { request } from "./api/client";
import type { Command, MeChange, Peer, PeerChange, Playback, PlaybackChange, UndoResult } from "./api/types";
import { tapped } from "./beat";
import { announce, complain, toast } from "./notices";
import { applied, me, peers, person, playback, project, readOnly, socket, status } from "./store";
import { clean } from "./text";

/** `false` and a word about it where this page may only look. */
export function allowed(): boolean {
  if (!readOnly.value) return true;
  toast("This page only shows; it cannot change anything now.", "notice");
  return false;
}

/** Edits the shared project. */
export function edit(...commands: Command[]): void {
  if (!allowed()) return;
  const before = project.value;
  if (before) {
    const changes = commands.flatMap((command) => (command.op === "set" ? [{ address: command.address, value: command.value }] : []));
    project.value = applied(before, changes);
  }
  socket.ask({ type: "patch", commands, wait: "none" }).catch((error: unknown) => {
    complain(error);
    // Show what is there instead of what was hoped for.
    socket.unsubscribe("project");
    socket.subscribe("project");
  });
}

export const set = (address: string, value: unknown): void => edit({ op: "set", address, value });

// --- beat ---------------------------------------------------------------------------------------------

export function play(change: PlaybackChange): void {
  if (!allowed()) return;
  if (playback.value) {
    const known = Object.entries(change).filter(([, value]) => value !== undefined && value !== null);
    playback.value = { ...playback.value, ...(Object.fromEntries(known) as Partial<Playback>) };
  }
  socket.ask({ type: "playback", change }).catch(complain);
}

export const togglePlaying = (): void => play({ playing: !playback.value?.playing });
export const toggleMetronome = (): void => play({ metronome: !playback.value?.metronome });

export function nudgeTempo(by: number): void {
  const tempo = playback.value?.tempo_bpm;
  if (tempo !== undefined) play({ tempo_bpm: Math.min(999, Math.max(20, Math.round((tempo + by) * 10) / 10)) });
}

export function tap(): void {
  const tempo = tapped();
  if (tempo !== null) play({ tempo_bpm: tempo });
}

export function toggleLink(): void {
  const link = status.value?.link;
  if (link) void call("PUT", "/link", { enabled: !link.enabled });
}

// --- my own ears and voice ----------------------------------------------------------------------------

const waitingFor = new Map<string, PeerChange>();
const underWay = new Set<string>();

/** Changes my own mix of a member. While one request is under way, later ones melt into one. */
export function mixForMe(peer_id: string, change: PeerChange): void {
  if (!allowed()) return;
  peers.value = peers.value.map((peer) => (peer.peer_id === peer_id ? { ...peer, ...(change as Partial<Peer>) } : peer));
  waitingFor.set(peer_id, { ...waitingFor.get(peer_id), ...change });
  void sendMix(peer_id);
}

/** Whether changes of mine are still on their way; what the node says of this member is old then. */
export const mixUnderWay = (peer_id: string): boolean => underWay.has(peer_id) || waitingFor.has(peer_id);

async function sendMix(peer_id: string): Promise<void> {
  const change = waitingFor.get(peer_id);
  if (!change || underWay.has(peer_id)) return;
  waitingFor.delete(peer_id);
  underWay.add(peer_id);
  try {
    await request("PUT", `/peers/${encodeURIComponent(peer_id)}`, change);
  } catch (error) {
    complain(error);
  }
  underWay.delete(peer_id);
  void sendMix(peer_id);
}

const latestOf = new Map<string, unknown>();
const busy = new Set<string>();

/** A PUT whose later bodies melt into one while it is under way. */
async function putLatest(path: string, body: object): Promise<void> {
  latestOf.set(path, { ...(latestOf.get(path) as object | undefined), ...body });
  if (busy.has(path)) return;
  busy.add(path);
  while (latestOf.has(path)) {
    const next = latestOf.get(path);
    latestOf.delete(path);
    await call("PUT", path, next);
  }
  busy.delete(path);
}

export function changeMe(change: MeChange): void {
  const before = status.value;
  if (!allowed() || !before?.me) return;
  status.value = { ...before, me: { ...before.me, ...(change as Partial<typeof before.me>) } };
  if (typeof change.muted === "boolean") announce(change.muted ? "You are muted." : "You are heard again.");
  void putLatest("/me", change);
}

export const toggleMyMute = (): void => changeMe({ muted: !status.value?.me?.muted });

export function changeMaster(gain_db: number): void {
  const before = status.value;
  if (!allowed() || !before) return;
  status.value = { ...before, master: { gain_db } };
  void putLatest("/master", { gain_db });
}

/** A request whose failure is shown; `null` then. */
export async function call<T>(method: string, path: string, body?: unknown): Promise<T | null> {
  if (!allowed()) return null;
  try {
    return await request<T>(method, path, body);
  } catch (error) {
    complain(error);
    return null;
  }
}

// --- undo ---------------------------------------------------------------------------------------------

export const undo = (): Promise<void> => retrace("/undo", "Undone");
export const redo = (): Promise<void> => retrace("/redo", "Done again");

async function retrace(path: string, word: string): Promise<void> {
  const done = await call<UndoResult>("POST", path);
  if (!done) return;
  const who = [...new Set(done.kept.map(({ peer_id }) => person(peer_id).name))].join(", ");
  toast(`${word}: ${clean(done.label, 80)}.${who ? ` What ${who} changed since stays.` : ""}`, "good");
}

// --- chat ---------------------------------------------------------------------------------------------

export const MOST_CHAT_CHARACTERS = 2_000;

export function say(text: string): void {
  const trimmed = text.trim();
  if (trimmed) edit({ op: "add", address: "/chat", value: { text: trimmed } });
}

/** My own address in the shared project. */
export const myAddress = (field: string): string => `/members/${me.value}/${field}`;
