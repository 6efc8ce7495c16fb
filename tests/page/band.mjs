// The words the page's tests are written in: nodes as processes, pages as players, and waiting for what one would see.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { createSocket } from "node:dgram";
import { createServer } from "node:http";
import { mkdtempSync, mkdirSync, readFileSync, rmSync, existsSync, openSync, readdirSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";

const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), "../..");
export const web = path.join(root, "node/web");
const require = createRequire(path.join(web, "package.json"));
const { chromium } = require("playwright-core");
export const axeSource = () => readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");

export const screenshots = path.join(process.env.CARGO_TARGET_DIR ?? path.join(root, "target"), "page-screenshots");
mkdirSync(screenshots, { recursive: true });

const BINARY = process.env.BANDMESH_BIN ?? path.join(root, "target/debug/bandmesh");
const CHROMIUM = process.env.CHROMIUM ?? "/usr/bin/chromium";
const FLAGS =
  "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update --disable-sync --disable-dev-shm-usage";

export const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** The longest one look may take: what it waits for may be gone, and only another look shows that. */
const LOOK_MS = 3_000;

/** Waits until `look` gives something true (an exception counts as not yet), and returns it. */
export async function eventually(what, look, limit_ms = 20_000) {
  const until = Date.now() + limit_ms;
  let last;
  for (;;) {
    try {
      last = await within(LOOK_MS, look());
      if (last) return last;
    } catch (error) {
      last = error;
    }
    if (Date.now() > until) throw new Error(`not within ${limit_ms} ms: ${what} (last: ${last?.message ?? JSON.stringify(last)})`);
    await pause(50);
  }
}

/** What `promise` gives, unless that takes longer; then nobody cares any more how it ends. */
async function within(limit_ms, promise) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no answer within ${limit_ms} ms`)), limit_ms);
  });
  Promise.resolve(promise).catch(() => {});
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

const began = Date.now();

/** A step of the story, said with its time. */
export function step(words) {
  console.log(`${((Date.now() - began) / 1000).toFixed(1).padStart(6)} s  ${words}`);
}

// --- nodes ------------------------------------------------------------------------------------------------

const cleanUp = [];

/** A data directory that goes away with the test. */
export function scratch() {
  const directory = mkdtempSync(path.join(tmpdir(), "bandmesh-page-"));
  cleanUp.push(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

export class Node {
  /** A node on loopback that knows `peers`; it plays silence, and its setup is done unless `fresh`. */
  static async start(name, { peers = [], fresh = false, command = ["up"], args = [] } = {}) {
    const node = new Node();
    Object.assign(node, { name, peers, command, args, fresh, data: scratch() });
    await node.launch();
    cleanUp.push(() => node.child?.kill("SIGKILL"));
    if (!fresh) await node.api("PUT", "/setup", { name, done: true });
    return node;
  }

  async launch() {
    const dial = this.peers.flatMap((peer) => peer.ready.listen.slice(0, 1).flatMap((address) => ["--peer", address]));
    const log = openSync(path.join(this.data, "log"), "a");
    const { BANDMESH_BIN: _, ...environment } = process.env;
    this.child = spawn(
      BINARY,
      [
        ...this.command,
        ...["--json", "--headless", "--no-mdns", "--no-link", "--audio", "null", "--session", "test"],
        ...(this.fresh ? [] : ["--name", this.name]),
        ...["--data-dir", path.join(this.data, "home"), "--http", this.http ? new URL(this.http).host : "127.0.0.1:0"],
        ...["--listen", this.udp ? `127.0.0.1:${this.udp}` : "127.0.0.1:0", ...dial, ...this.args],
      ],
      { stdio: ["pipe", "pipe", log], env: environment },
    );
    let said = "";
    this.child.stdout.on("data", (chunk) => {
      said += chunk;
    });
    this.ready = await eventually(`${this.name} is ready`, () => {
      assert.equal(this.child.exitCode, null, `${this.name} ended: ${this.log()}`);
      const line = said.split("\n").find((text) => text.includes('"ready"'));
      return line && JSON.parse(line);
    }, 20_000);
    this.http = this.ready.http.replace(/\/$/, "");
    this.udp = this.ready.listen[0]?.match(/udp\/(\d+)/)?.[1];
    this.id = this.ready.peer_id;
    this.token = readFileSync(this.ready.token_file, "utf8").trim();
  }

  /** The process dies at once, as in a crash. */
  async kill() {
    const { child } = this;
    const ended = new Promise((resolve) => child.once("exit", resolve));
    child.kill("SIGKILL");
    await ended;
  }

  /** A line typed on its terminal. */
  type(line) {
    this.child.stdin.write(`${line}\n`);
  }

  viewToken() {
    return readFileSync(path.join(this.data, "home/view-token"), "utf8").trim();
  }

  log() {
    return readFileSync(path.join(this.data, "log"), "utf8").slice(-4_000);
  }

  /** The answer of the API, whatever its status. */
  async ask(method, address, body, { token = this.token, headers = {} } = {}) {
    return fetch(`${this.http}/api/v1${address}`, {
      method,
      headers: {
        ...(token ? { authorization: `Bearer ${token}` } : {}),
        ...(body === undefined ? {} : { "content-type": "application/json" }),
        ...headers,
      },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
  }

  async api(method, address, body) {
    const answer = await this.ask(method, address, body);
    const text = await answer.text();
    assert.ok(answer.ok, `${method} ${address}: ${answer.status} ${text}`);
    return text ? JSON.parse(text) : null;
  }

  async shared(address) {
    return this.api("GET", `/project${address}`);
  }

  async edit(...commands) {
    return this.api("PATCH", "/project", { commands });
  }

  async hears(other) {
    const peers = await this.api("GET", "/peers");
    return peers.find(({ peer_id }) => peer_id === other.id);
  }
}

/** Two or more nodes that hear each other. */
export async function band(...names) {
  const nodes = [];
  for (const name of names) nodes.push(await Node.start(name, { peers: nodes.slice() }));
  await hearEachOther(nodes);
  return nodes;
}

async function hearEachOther(nodes) {
  for (const node of nodes) {
    for (const other of nodes) {
      if (node !== other) {
        await eventually(`${node.name} hears ${other.name}`, async () => (await node.hears(other))?.audio?.received > 0, 20_000);
      }
    }
  }
  step(`${nodes.map(({ name }) => name).join(", ")} hear each other`);
}

/** Two nodes that know each other by one path only, which `sound.lost` makes lose what the first plays. */
export async function pairWithBadPath(...names) {
  const second = await Node.start(names[1], { args: ["--pin-peers"] });
  const sound = await badPath(second);
  const first = await Node.start(names[0], { peers: [sound], args: ["--pin-peers"] });
  await hearEachOther([first, second]);
  return [first, second, sound];
}

/** A block of sound of the null device as a packet carries it, and what else the packet holds at least and at most, octets. After
 * a stumble of the machine one packet carries several blocks. Anything else goes through: a control frame that were lost each
 * time would stop all that follows it. */
const SOUND = { block: 271, least: 26, most: 60 };
const isSound = ({ length }) =>
  length > SOUND.block && (length - SOUND.least) % SOUND.block <= SOUND.most - SOUND.least;

/** A way to a node that passes everything on, or all but sound in its direction. */
async function badPath(node) {
  const path = { lost: false };
  const front = createSocket("udp4");
  const backs = new Map();
  front.on("message", (packet, { port, address }) => {
    if (path.lost && isSound(packet)) return;
    const key = `${address}:${port}`;
    if (!backs.has(key)) {
      const back = createSocket("udp4");
      back.on("message", (answer) => front.send(answer, port, address));
      backs.set(key, back);
    }
    backs.get(key).send(packet, Number(node.udp), "127.0.0.1");
  });
  await new Promise((resolve) => front.bind(0, "127.0.0.1", resolve));
  cleanUp.push(() => [front, ...backs.values()].forEach((socket) => socket.close()));
  const [listen] = node.ready.listen;
  return Object.assign(path, { ready: { listen: [listen.replace(/udp\/\d+/, `udp/${front.address().port}`)] } });
}

// --- pages ------------------------------------------------------------------------------------------------

let browser;

/** The browser of all pages; with `flags` another one. */
export async function theBrowser(...flags) {
  if (browser && flags.length === 0) return browser;
  assert.ok(existsSync(CHROMIUM), `${CHROMIUM} is missing; ./dev setup installs it`);
  const made = await chromium.launch({ executablePath: CHROMIUM, args: [...FLAGS.split(" "), ...flags] });
  let closing = false;
  // "Target closed" says nothing about why; a browser that ended by itself is said to have.
  made.on("disconnected", () => closing || errors.push("the browser ended by itself; is there enough memory?"));
  const close = made.close.bind(made);
  made.close = () => {
    closing = true;
    return close();
  };
  cleanUp.push(() => made.close());
  if (flags.length === 0) browser = made;
  return made;
}

/** What a page asked for elsewhere than at its own node, and what went wrong in it; checked at the end. */
const strangers = [];
const errors = [];

/** Opens a node's page as its player would: by the link from the terminal. */
export async function open(node, { width = 1440, height = 900, scheme = "dark", token = node.token, motion = "no-preference" } = {}) {
  const context = await profile({ viewport: { width, height }, colorScheme: scheme, reducedMotion: motion });
  const page = await context.newPage();
  page.node = node;
  page.setDefaultTimeout(60_000);
  page.on("request", (request) => {
    const { origin, protocol } = new URL(request.url());
    if (!["data:", "blob:"].includes(protocol) && origin !== node.http) strangers.push(request.url());
  });
  page.on("websocket", (socket) => {
    if (new URL(socket.url()).host !== new URL(node.http).host) strangers.push(socket.url());
  });
  page.on("crash", () => errors.push(`${node.name}'s page crashed; is there enough memory?`));
  page.on("pageerror", (error) => errors.push(`${node.name}'s page: ${error.name} ${error.message} ${error.stack}`));
  page.on("console", (message) => {
    const text = message.text();
    // The browser's own word for an answer that is not 2xx; the tests look at these by themselves.
    if (message.type() === "error" && !/Failed to load resource|WebSocket connection/.test(text)) errors.push(`${node.name}'s page: ${text}`);
  });
  await page.goto(`${node.http}/#token=${token}`);
  return page;
}

/** A browser profile of its own, without history. */
export async function profile(options = {}) {
  const context = await (await theBrowser()).newContext(options);
  if (process.env.BANDMESH_PAGE) await withPageFrom(context, process.env.BANDMESH_PAGE);
  return context;
}

/** For work on the page: its script and style from a directory, such as node/web/dist, instead of the program. */
async function withPageFrom(context, directory) {
  await context.route(/\/page\.(js|css)$/, async (route) => {
    const { "if-none-match": _, ...asked } = route.request().headers();
    const response = await route.fetch({ headers: asked });
    const { etag: __, ...headers } = response.headers();
    const file = new URL(route.request().url()).pathname.slice(1);
    await route.fulfill({ response, headers, body: readFileSync(path.join(directory, file)) });
  });
}

/** A page with its band on it. */
export async function openBand(node, options) {
  const page = await open(node, options);
  await page.locator(".strip.own").waitFor();
  return page;
}

export const strip = (page, node) => page.locator(`.strip[data-peer="${node.id}"]`);

/** Where a fader stands, in its own words. */
export const words = (fader) => fader.getAttribute("aria-valuetext");

export async function shot(page, name) {
  await page.screenshot({ path: path.join(screenshots, `${name}.png`) });
}

/** A little web server of somebody else's. */
export async function foreignSite(html) {
  const server = createServer((_, response) => {
    response.setHeader("content-type", "text/html; charset=utf-8");
    response.end(html);
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  cleanUp.push(() => server.close());
  return `http://127.0.0.1:${server.address().port}`;
}

/** CPU seconds used so far by a process. */
export function cpuSeconds(pid) {
  const fields = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1].split(" ");
  return (Number(fields[11]) + Number(fields[12])) / 100;
}

/** The browser's processes by kind, such as `renderer`. */
export function browserProcesses() {
  const found = [];
  for (const entry of readdirSync("/proc").filter((name) => /^\d+$/.test(name))) {
    try {
      const line = readFileSync(`/proc/${entry}/cmdline`, "utf8");
      const parent = Number(readFileSync(`/proc/${entry}/stat`, "utf8").split(") ")[1].split(" ")[1]);
      if (!line.includes("chrom")) continue;
      // Chromium's children write their arguments with spaces between.
      found.push({ pid: Number(entry), parent, kind: line.match(/--type=([\w-]+)/)?.[1] ?? "browser" });
    } catch {
      // It ended while we looked.
    }
  }
  const mine = new Set([process.pid]);
  for (let grew = true; grew; ) {
    grew = false;
    for (const { pid, parent } of found) {
      if (mine.has(parent) && !mine.has(pid)) {
        mine.add(pid);
        grew = true;
      }
    }
  }
  return found.filter(({ pid }) => mine.has(pid));
}

/** Runs a scenario; whatever happens, nothing it started stays behind. */
export async function play(scenario) {
  let failure;
  try {
    await scenario();
    assert.deepEqual(strangers, [], "pages ask nobody but their node");
    assert.deepEqual(errors, [], "no page has an error");
  } catch (error) {
    failure = error;
    for (const context of browser?.contexts() ?? []) {
      for (const [at, page] of context.pages().entries()) await shot(page, `failed-${page.node?.name ?? "page"}-${at}`).catch(() => {});
    }
  }
  for (const task of cleanUp.reverse()) await Promise.resolve().then(task).catch(() => {});
  if (failure) {
    console.error(failure);
    for (const error of errors) console.error(error);
    process.exitCode = 1;
  }
}
