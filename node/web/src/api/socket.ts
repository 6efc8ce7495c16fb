// The WebSocket to the node: opened with a one-time ticket, opened again for as long as the page lives.
import { request, Refused } from "./client";
import { token } from "./token";
import type { ClientMessage, Problem, ServerMessage, Ticket, Topic } from "./types";

export type Connection = "connecting" | "open" | "lost" | "no_token" | "bad_token";

const FIRST_RETRY_MS = 400;
const LONGEST_RETRY_MS = 4_000;
const NO_TOKEN = 4401;
/** Silence after which a socket is given up: meters come 30 times a second, status each second. */
const SILENCE_MS = 5_000;

interface Handlers {
  onMessage(message: ServerMessage): void;
  onState(state: Connection): void;
}

type Answer = { resolve: (value: unknown) => void; reject: (problem: Problem) => void };

export class Socket {
  private socket: WebSocket | null = null;
  private readonly topics = new Set<Topic>();
  private readonly answers = new Map<number, Answer>();
  private nextId = 1;
  private retry = FIRST_RETRY_MS;
  private timer: ReturnType<typeof setTimeout> | undefined;
  private lastHeard = 0;
  private ready = false;

  constructor(private readonly handlers: Handlers) {
    setInterval(() => {
      const { socket } = this;
      if (!socket || performance.now() - this.lastHeard < SILENCE_MS) return;
      // A node that hangs does not answer the goodbye either.
      socket.onmessage = socket.onclose = null;
      socket.close();
      this.ended();
    }, 1_000);
    addEventListener("online", () => this.now());
    document.addEventListener("visibilitychange", () => {
      if (!document.hidden) this.now();
    });
  }

  /** Opens it now, instead of at the next attempt. */
  now(): void {
    if (this.socket === null) void this.open();
  }

  subscribe(...topics: Topic[]): void {
    for (const topic of topics) this.topics.add(topic);
    this.tell({ type: "subscribe", topics });
  }

  unsubscribe(...topics: Topic[]): void {
    for (const topic of topics) this.topics.delete(topic);
    this.tell({ type: "unsubscribe", topics });
  }

  /** Says something that needs no answer; lost while there is no connection. */
  tell(message: ClientMessage): void {
    if (this.ready) this.raw(message);
  }

  /** Others see me moving the value at this address, or just having a hand on it. */
  touch(address: string, value: unknown = null): void {
    this.tell({ type: "touch", address, value });
  }

  release(address: string): void {
    this.tell({ type: "touch_end", address });
  }

  /** Asks for something; rejects with the problem. */
  ask(message: ClientMessage): Promise<unknown> {
    return new Promise((resolve, reject) => {
      if (!this.ready) {
        reject({ code: "no_connection", detail: "Not connected to the node. Try again when it is back." });
        return;
      }
      const id = this.nextId++;
      this.answers.set(id, { resolve, reject });
      this.raw({ ...message, id } as ClientMessage);
    });
  }

  private async open(): Promise<void> {
    clearTimeout(this.timer);
    if (token() === null) {
      this.handlers.onState("no_token");
      return;
    }
    this.handlers.onState("connecting");
    try {
      const { ticket } = await request<Ticket>("POST", "/ws-ticket");
      if (this.socket !== null) return;
      const scheme = location.protocol === "https:" ? "wss" : "ws";
      this.follow(new WebSocket(`${scheme}://${location.host}/api/v1/ws?ticket=${encodeURIComponent(ticket)}`));
    } catch (error) {
      if (error instanceof Refused && error.status === 401) this.handlers.onState("bad_token");
      else this.later();
    }
  }

  private follow(socket: WebSocket): void {
    this.socket = socket;
    this.lastHeard = performance.now();
    socket.onmessage = (event) => {
      this.lastHeard = performance.now();
      this.take(JSON.parse(String(event.data)) as ServerMessage);
    };
    socket.onclose = (event) => this.ended(event.code);
  }

  private ended(code?: number): void {
    this.socket = null;
    this.ready = false;
    for (const { reject } of this.answers.values()) {
      reject({ code: "no_connection", detail: "The connection to the node broke before it answered." } as Problem);
    }
    this.answers.clear();
    if (code === NO_TOKEN) this.handlers.onState("bad_token");
    else this.later();
  }

  private take(message: ServerMessage): void {
    if (message.type === "ready") {
      this.ready = true;
      this.retry = FIRST_RETRY_MS;
      this.handlers.onState("open");
      this.subscribe(...this.topics);
      return;
    }
    const id = "id" in message ? message.id : undefined;
    const answer = typeof id === "number" ? this.answers.get(id) : undefined;
    if (answer && typeof id === "number") {
      this.answers.delete(id);
      if (message.type === "error") answer.reject(message.problem);
      else answer.resolve("data" in message ? message.data : null);
    }
    this.handlers.onMessage(message);
  }

  private later(): void {
    this.handlers.onState("lost");
    // Spread out, so that many pages do not come back in one moment.
    this.timer = setTimeout(() => void this.open(), this.retry * (0.75 + Math.random() / 2));
    this.retry = Math.min(this.retry * 2, LONGEST_RETRY_MS);
  }

  private raw(message: ClientMessage): void {
    this.socket?.send(JSON.stringify(message));
  }
}
