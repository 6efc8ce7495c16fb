// Requests to the node that served this page; to nobody else.
import { token } from "./token";
import type { Problem } from "./types";

const BASE = "/api/v1";
const TIMEOUT_MS = 10_000;

/** A request the node refused; `message` says what to do. */
export class Refused extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    detail: string,
  ) {
    super(detail);
  }
}

/** The JSON answer; `path` begins behind `/api/v1` (a path with it is taken as well). */
export async function request<T>(method: string, path: string, body?: unknown): Promise<T> {
  const text = await (await send(method, path, body)).text();
  return (text === "" ? null : JSON.parse(text)) as T;
}

export const get = <T>(path: string): Promise<T> => request<T>("GET", path);

/** Saves what is at `path` as a file. */
export async function download(path: string, fileName: string): Promise<void> {
  const blob = await send("GET", path);
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = fileName;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

async function send(method: string, path: string, body?: unknown): Promise<Blob> {
  const headers: Record<string, string> = { Authorization: `Bearer ${token() ?? ""}` };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let response: Response;
  let content: Blob;
  try {
    response = await fetch(address(path), {
      method,
      headers,
      body: body === undefined ? null : JSON.stringify(body),
      cache: "no-store",
      credentials: "omit",
      redirect: "error",
      signal: AbortSignal.timeout(TIMEOUT_MS),
    });
    // The time may run out in the middle of the answer, too.
    content = await response.blob();
  } catch {
    throw new Refused(0, "no_answer", "The node does not answer.");
  }
  if (!response.ok) throw await refused(response.status, content);
  return content;
}

/** Only ever an address on this node: actions of a diagnosis name paths, never hosts. */
function address(path: string): string {
  const plain = path.startsWith(BASE) ? path.slice(BASE.length) : path;
  return `${location.origin}${BASE}/${plain.replace(/^\/+/, "")}`;
}

async function refused(status: number, content: Blob): Promise<Refused> {
  try {
    const problem = JSON.parse(await content.text()) as Problem;
    return new Refused(status, problem.code, problem.detail);
  } catch {
    return new Refused(status, "failed", `The node answered ${status}.`);
  }
}
