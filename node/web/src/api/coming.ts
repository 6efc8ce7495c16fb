// Parts of the control interface that the OpenAPI document does not have yet. Each leaves this file when it has.
import type { components } from "./schema";

export interface Setup {
  done: boolean;
  name: string;
  color: string;
  instrument: string;
  suggested_name?: string;
}

export interface AudioDevice {
  id: string;
  host: string;
  name: string;
  inputs: number;
  outputs: number;
  rates_hz: number[];
  is_default: boolean;
}

export interface Devices {
  audio: AudioDevice[];
  midi_inputs: string[];
  midi_outputs: string[];
}

export interface AudioState {
  choice: string;
  host: string;
  device: string;
  rate_hz: number;
  period_frames: number;
  state: "running" | "opening" | "lost";
  detail?: string | null;
}

export type Audio = AudioState;

export interface Diagnosis {
  severity: "good" | "notice" | "bad";
  sentence: string;
  culprit: { kind: "none" | "device" | "cpu" | "peer" | "network" | "clock"; peer_id?: string | null };
  action?: { label: string; method: string; path: string; body?: unknown } | null;
}

export interface UndoState {
  can_undo: boolean;
  can_redo: boolean;
  undo_label?: string | null;
  redo_label?: string | null;
}

type Row = (number | null)[];

export interface History {
  interval_s: number;
  end_ms: number;
  device: { xruns: Row; callback_load: Row; concealed_ms: Row };
  peers: PeerHistory[];
}

export interface PeerHistory {
  peer_id: string;
  name: string;
  received: Row;
  lost: Row;
  late: Row;
  recovered: Row;
  concealed_ms: Row;
  jitter_ms: Row;
  playout_delay_ms: Row;
  one_way_ms: Row;
  rtt_ms: Row;
  clock_offset_us: Row;
  clock_error_us: Row;
}

export interface Graph {
  nodes: { peer_id: string; name: string; me: boolean }[];
  edges: {
    from: string;
    to: string;
    path?: components["schemas"]["Path"] | null;
    rtt_ms?: number | null;
    one_way_ms?: number | null;
  }[];
}

export interface Touch {
  peer_id: string;
  name: string;
  source: string;
  address: string;
  value?: unknown;
}

export interface Notification {
  id: number | string;
  kind:
    | "peer_joined"
    | "peer_left"
    | "peer_lost"
    | "peer_back"
    | "sync_lost"
    | "sync_back"
    | "device_lost"
    | "device_back"
    | "warning";
  severity: "good" | "notice" | "bad";
  text: string;
  peer_id?: string | null;
  at_ms: number;
}

export interface Coming {
  Status: {
    me: { muted: boolean; input_gain_db: number; monitor: boolean; monitor_gain_db: number };
    master: { gain_db: number };
    feedback_warning: boolean;
    diagnosis: Diagnosis;
    undo: UndoState;
  };
  Peer: {
    pan: number;
    soloed_by_me: boolean;
    muted_themselves: boolean;
    hears_me: boolean | null;
    path_reason: string | null;
    waterfall: { stage: "capture" | "network" | "playout" | "output"; ms: number }[] | null;
  };
  PeerChange: { pan: number; soloed_by_me: boolean };
  Meters: {
    at_ms: number;
    master: { momentary_lufs: number | null; short_term_lufs: number | null; limiter_reduction_db: number };
  };
  Topic: "graph" | "presence" | "notifications";
  ServerMessage:
    | { type: "presence"; data: Touch[] }
    | { type: "graph"; data: Graph }
    | { type: "notification"; data: Notification };
  ClientMessage:
    | { type: "touch"; address: string; value?: unknown }
    | { type: "touch_end"; address: string };
}
