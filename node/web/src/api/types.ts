// The control interface's types under short names. `schema.ts` is made from the node's OpenAPI document.
import type { components } from "./schema";
import type { Coming } from "./coming";

type S = components["schemas"];

export type Status = S["Status"] & Partial<Coming["Status"]>;
export type Peer = S["Peer"] & Partial<Coming["Peer"]>;
export type PeerChange = S["PeerChange"] & Partial<Coming["PeerChange"]>;
export type Meters = S["Meters"] & Partial<Coming["Meters"]>;
export type Playback = S["Playback"];
export type PlaybackChange = S["PlaybackChange"];
export type Command = S["Command"];
export type Change = S["Change"];
export type LogLine = S["LogLine"];
export type Problem = S["Problem"];
export type Path = S["Path"];
export type Ticket = S["Ticket"];
export type Level = S["Level"];
export type Topic = S["Topic"] | Coming["Topic"];
export type ServerMessage = S["ServerMessage"] | Coming["ServerMessage"];
export type ClientMessage = S["ClientMessage"] | Coming["ClientMessage"];
export type { Audio, AudioState, Devices, Diagnosis, Graph, History, Notification, Setup, Touch, UndoState } from "./coming";

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
