// The control interface's types under short names. `schema.ts` is made from the node's OpenAPI document.
import type { components } from "./schema";

type S = components["schemas"];

export type Audio = S["AudioState"];
export type Change = S["Change"];
export type ClientMessage = S["ClientMessage"];
export type Command = S["Command"];
export type Devices = S["Devices"];
export type Diagnosis = S["Diagnosis"];
export type Graph = S["Graph"];
export type History = S["History"];
export type Level = S["Level"];
export type LogLine = S["LogLine"];
export type MeChange = S["MeChange"];
export type Meters = S["Meters"];
export type Midi = S["MidiState"];
export type MidiChange = S["MidiChange"];
export type MidiPort = S["MidiPort"];
export type Notification = S["Notification"];
export type Path = S["Path"];
export type Peer = S["Peer"];
export type PeerChange = S["PeerChange"];
export type Playback = S["Playback"];
export type PlaybackChange = S["PlaybackChange"];
export type Problem = S["Problem"];
export type ServerMessage = S["ServerMessage"];
export type Setup = S["Setup"];
export type Stage = S["Stage"];
export type Status = S["Status"];
export type Ticket = S["Ticket"];
export type Topic = S["Topic"];
export type Touch = S["Touch"];
export type UndoResult = S["UndoResult"];
export type WhoAmI = S["WhoAmI"];

/** The shared project as `GET /project` gives it (`crdt/SCHEMA.md`). */
export interface Project {
  session: { name: string };
  transport: { tempo_bpm: number; time_signature: string };
  members: Record<string, Member>;
  mixer: { strip: Record<string, SharedStrip> };
  tracks: Record<string, Track>;
  chat: ChatMessage[];
}

export interface Member {
  name: string;
  color: string;
  instrument: string;
}

export interface SharedStrip {
  gain_db: number;
  pan: number;
  mute: boolean;
  solo: boolean;
}

export interface Track {
  name: string;
  color: string;
  kind: "audio" | "midi";
  order: number;
}

export interface ChatMessage {
  id: string;
  text: string;
  from: string;
  at_ms: number;
}
