// All that the page knows, as signals. Only this module listens to the node; views read signals and call `actions`.
import { computed, signal } from "@preact/signals";
import { get, Refused } from "./api/client";
import { Socket, type Connection } from "./api/socket";
import type {
  Change,
  ChatMessage,
  Graph,
  LogLine,
  MeChange,
  Notification,
  Peer,
  PeerChange,
  Playback,
  Project,
  ServerMessage,
  Setup,
  Status,
  Touch,
  WhoAmI,
} from "./api/types";
import { fields, Hoped } from "./hoped";
import { announce, toast } from "./notices";
import { takeMeters } from "./meters";
import { retimed } from "./beat";
import { clean, colorOf } from "./text";

const MOST_LOG_LINES = 1_000;
const MOST_NOTIFICATIONS = 200;

export const connection = signal<Connection>("connecting");
export const role = signal<WhoAmI["role"]>("player");

/** What I have asked to change of my node. */
interface StatusHope {
  me?: MeChange;
  master?: Partial<Status["master"]>;
  link?: Partial<Status["link"]>;
}

export const hopedStatus = new Hoped<Status | null, StatusHope>(null, {
  none: {},
  both: (before, next) => ({
    me: { ...before.me, ...next.me },
    master: { ...before.master, ...next.master },
    link: { ...before.link, ...next.link },
  }),
  over: (said, { me, master, link }) =>
    said && {
      ...said,
      me: said.me && { ...said.me, ...(me as Partial<NonNullable<Status["me"]>>) },
      master: { ...said.master, ...master },
      link: { ...said.link, ...link },
    },
});
export const status = hopedStatus.shown;

/** My own mix as I have asked for it, by member. */
export const hopedPeers = new Hoped<Peer[], Record<string, PeerChange>>([], {
  none: {},
  both: (before, next) => {
    const merged = { ...before };
    for (const [id, change] of Object.entries(next)) merged[id] = { ...before[id], ...change };
    return merged;
  },
  over: (said, hope) => said.map((peer) => ({ ...peer, ...(hope[peer.peer_id] as Partial<Peer> | undefined) })),
});
export const peers = hopedPeers.shown;

export const hopedPlayback = new Hoped<Playback | null, Partial<Playback>>(null, fields());
export const playback = hopedPlayback.shown;

export const hopedProject = new Hoped<Project | null, readonly Change[]>(null, {
  none: [],
  both: (before, next) => [...before.filter(({ address }) => !next.some((change) => change.address === address)), ...next],
  over: (said, hope) => said && applied(said, hope),
});
export const project = hopedProject.shown;

export const presence = signal<Touch[]>([]);
export const notifications = signal<Notification[]>([]);
export const graph = signal<Graph | null>(null);
export const logLines = signal<LogLine[]>([]);
export const setup = signal<Setup | null>(null);
/** How many times the page has had to come back; what is fetched once is fetched anew. */
export const generation = signal(0);

/** Said for a moment after the connection was lost and is back. */
export const returned = signal("");

export const me = computed(() => status.value?.peer_id ?? "");
export const readOnly = computed(() => role.value === "viewer" || connection.value !== "open");

export interface Person {
  id: string;
  name: string;
  color: string;
  instrument: string;
}

/** Somebody of the band as the shared project knows them. */
export function person(id: string, fallbackName = ""): Person {
  const member = project.value?.members[id];
  const own = id === me.value ? status.value?.name : undefined;
  const peer = peers.value.find((peer) => peer.peer_id === id);
  const name = clean(own || member?.name || peer?.name || fallbackName) || "Somebody";
  return { id, name, color: colorOf(id, member?.color), instrument: clean(member?.instrument ?? "", 24) };
}

// --- values somebody is moving right now --------------------------------------------------------------

/** What others hold at this address. The node keeps a value for a moment after its end, until the edit is there. */
export function touchesAt(address: string): Touch[] {
  return presence.value.filter((touch) => touch.address === address);
}

/** The value somebody else is dragging this to, before it is an edit. */
export function heldValue(address: string): unknown {
  return presence.value.find((touch) => touch.address === address && touch.value !== null && touch.value !== undefined)?.value;
}

// --- the project --------------------------------------------------------------------------------------

/** The project with these changes; parts that nothing touched stay the same objects. */
function applied(before: Project, changes: readonly Change[]): Project {
  let tree: unknown = before;
  for (const { address, value } of changes) {
    tree = replaced(tree, address.split("/").slice(1), value ?? null);
  }
  return tree as Project;
}

function replaced(tree: unknown, path: string[], value: unknown): unknown {
  const [first, ...rest] = path;
  if (first === undefined) return value;
  if (Array.isArray(tree)) {
    const others = tree.filter((item) => (item as { id?: string }).id !== first);
    return value === null ? others : [...others, value];
  }
  const before = (typeof tree === "object" && tree !== null ? tree : {}) as Record<string, unknown>;
  if (rest.length === 0 && value === null) {
    const { [first]: _, ...others } = before;
    return others;
  }
  return { ...before, [first]: replaced(before[first], rest, value) };
}

function takeChanges(changes: readonly Change[]): void {
  hopedProject.learns((said) => said && changed(said, changes));
}

function changed(said: Project, changes: readonly Change[]): Project {
  const known = new Set(Object.keys(said.tracks));
  let lists = false;
  let chat = false;
  for (const { address } of changes) {
    const [, first, id, field] = address.split("/");
    // Where tracks stand, come and go is told whole by the list alone.
    if (first === "tracks" && (!known.has(id ?? "") || !["name", "color"].includes(field ?? ""))) lists = true;
    // A message stands behind those its writer had seen, whatever the clocks say: only the node knows where.
    if (first === "chat") chat = true;
  }
  if (chat) void refreshChat();
  const plain = lists ? changes.filter(({ address }) => !address.startsWith("/tracks")) : changes;
  if (lists) void refreshTracks();
  return applied(said, plain);
}

let chatsAsked = 0;

async function refreshChat(): Promise<void> {
  const asked = ++chatsAsked;
  try {
    const chat = await get<ChatMessage[]>("/project/chat");
    // An answer that is overtaken may lack the newest message.
    if (asked === chatsAsked) hopedProject.learns((said) => said && { ...said, chat });
  } catch {
    // As with the tracks.
  }
}

async function refreshTracks(): Promise<void> {
  try {
    const tracks = await get<Project["tracks"]>("/project/tracks");
    const strip = await get<Project["mixer"]["strip"]>("/project/mixer/strip");
    hopedProject.learns((said) => said && { ...said, tracks, mixer: { strip } });
  } catch {
    // The connection broke; the whole project comes with the next one.
  }
}

// --- what the node says -------------------------------------------------------------------------------

const RETURNED_MS = 10_000;
let wasOpen = false;
let lastUptime = Number.POSITIVE_INFINITY;

export const socket = new Socket({
  onState(state) {
    const before = connection.value;
    connection.value = state === "connecting" && before === "lost" ? "lost" : state;
    if (state === "open") {
      if (wasOpen) {
        back("Connected to the node again.");
        generation.value += 1;
      }
      wasOpen = true;
      void fetchOnce();
    }
    if (state === "lost" && before === "open") announce("The node does not answer. Trying again.");
  },
  onMessage: take,
});

function back(words: string): void {
  returned.value = words;
  announce(words);
  setTimeout(() => {
    if (returned.value === words) returned.value = "";
  }, RETURNED_MS);
}

function take(message: ServerMessage): void {
  switch (message.type) {
    case "status":
      if (message.data.uptime_s < lastUptime && Number.isFinite(lastUptime)) back("The node was restarted; connected again.");
      lastUptime = message.data.uptime_s;
      hopedStatus.hears(message.data);
      break;
    case "peers":
      hopedPeers.hears(message.data);
      break;
    case "playback":
    case "playback_set":
      retimed(message.data);
      hopedPlayback.hears(message.data);
      break;
    case "meters":
      takeMeters(message.data);
      break;
    case "project":
      hopedProject.hears(message.data as Project);
      break;
    case "project_changed":
      takeChanges(message.changes);
      break;
    case "presence":
      presence.value = message.data;
      break;
    case "graph":
      graph.value = message.data;
      break;
    case "notification":
      takeNotification(message.data);
      break;
    case "log":
      takeLog(message.lines, message.missed);
      break;
  }
}

function takeNotification(news: Notification): void {
  // Numbers begin anew with the node.
  if (notifications.value.some(({ id, at_ms }) => id === news.id && at_ms === news.at_ms)) return;
  notifications.value = [...notifications.value, news].slice(-MOST_NOTIFICATIONS);
  // The last ones come again with each subscription; only what is new is said.
  if (Date.now() - news.at_ms < 5_000) {
    announce(clean(news.text, 200));
    if (news.kind !== "peer_joined" && news.kind !== "peer_left") toast(clean(news.text, 200), news.severity);
  }
}

function takeLog(lines: LogLine[], missed: number): void {
  const gap: LogLine[] =
    missed > 0 ? [{ time_ms: Date.now(), level: "warn", target: "page", message: `${missed} lines were missed` }] : [];
  const last = logLines.value[logLines.value.length - 1]?.time_ms ?? 0;
  // The kept lines come again when the log is opened again.
  const fresh = lines.length > 1 ? lines.filter(({ time_ms }) => time_ms > last) : lines;
  logLines.value = [...logLines.value, ...gap, ...fresh].slice(-MOST_LOG_LINES);
}

async function fetchOnce(): Promise<void> {
  try {
    const [who, known] = await Promise.all([get<WhoAmI>("/whoami"), get<Setup>("/setup")]);
    role.value = who.role;
    setup.value = known;
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    // The connection broke again; the next one asks anew.
  }
}

export function start(): void {
  socket.subscribe("status", "peers", "playback", "project", "meters", "presence", "notifications");
  socket.now();
}
