// What a person can do. The page shows the outcome at once; the node's word replaces it when it comes.
import { request } from "./api/client";
import type { Command, MeChange, PeerChange, Playback, PlaybackChange, UndoResult } from "./api/types";
import { tapped } from "./beat";
import { announce, complain, toast } from "./notices";
import { hopedPeers, hopedPlayback, hopedProject, hopedStatus, me, peers, person, playback, readOnly, socket, status } from "./store";
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
  const changes = commands.flatMap((command) => (command.op === "set" ? [{ address: command.address, value: command.value }] : []));
  const request = socket.ask({ type: "patch", commands, wait: "none" });
  hopedProject.hopes(changes, request);
  request.catch(complain);
}

export const set = (address: string, value: unknown): void => edit({ op: "set", address, value });

// --- beat ---------------------------------------------------------------------------------------------

export function play(change: PlaybackChange): void {
  if (!allowed()) return;
  // Where the song is, the node alone can say.
  const { position_beats: _, ...rest } = change;
  const known = Object.entries(rest).filter(([, value]) => value !== undefined && value !== null);
  const request = socket.ask({ type: "playback", change });
  hopedPlayback.hopes(Object.fromEntries(known) as Partial<Playback>, request);
  request.catch(complain);
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
  if (!link || !allowed()) return;
  const change = { enabled: !link.enabled };
  hopedStatus.hopes({ link: change }, put("/link", change));
}

// --- my own ears and voice ----------------------------------------------------------------------------

/** Changes on their way to a path: what has been asked for since the last request left. */
interface Line {
  next: object | null;
  done: Promise<void>;
}

const lines = new Map<string, Line>();

/** A PUT; while one is under way, later ones to the same path melt into one. Done when the last is answered; a refusal is shown. */
function put(path: string, body: object): Promise<void> {
  const busy = lines.get(path);
  if (busy) {
    busy.next = { ...busy.next, ...body };
    return busy.done;
  }
  const line: Line = { next: body, done: Promise.resolve() };
  lines.set(path, line);
  line.done = drain(path, line);
  return line.done;
}

async function drain(path: string, line: Line): Promise<void> {
  while (line.next) {
    const body = line.next;
    line.next = null;
    await request("PUT", path, body).catch(complain);
  }
  lines.delete(path);
}

/** Changes my own mix of a member. */
export function mixForMe(peer_id: string, change: PeerChange): void {
  if (allowed()) hopedPeers.hopes({ [peer_id]: change }, put(`/peers/${encodeURIComponent(peer_id)}`, change));
}

/** Of everybody I hear only this one, or everybody again; nobody else's mix changes. */
export function soloAlone(peer_id: string): void {
  const alone = peers.value.every((peer) => peer.soloed_by_me === (peer.peer_id === peer_id));
  for (const peer of peers.value) {
    const soloed_by_me = !alone && peer.peer_id === peer_id;
    if (peer.soloed_by_me !== soloed_by_me) mixForMe(peer.peer_id, { soloed_by_me });
  }
}

export function changeMe(change: MeChange): void {
  if (!allowed()) return;
  if (typeof change.muted === "boolean") announce(change.muted ? "You are muted." : "You are heard again.");
  hopedStatus.hopes({ me: change }, put("/me", change));
}

export const toggleMyMute = (): void => changeMe({ muted: !status.value?.me?.muted });

export function changeMaster(gain_db: number): void {
  if (allowed()) hopedStatus.hopes({ master: { gain_db } }, put("/master", { gain_db }));
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
