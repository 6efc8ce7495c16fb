// Others mean harm: names, pages from elsewhere, stolen and worn-out keys.
import assert from "node:assert/strict";
import { band, eventually, foreignSite, Node, open, openBand, shot, step, strip, theBrowser } from "../band.mjs";

const MARKUP = `<img src=x onerror="document.title='owned'">`;
const TURNED = "\u202eecilA\u202c \u2067txet";
const PILE = "👩‍👩‍👧‍👦".repeat(400); // 10 kB of UTF-8
assert.ok(Buffer.byteLength(PILE) >= 10_000);

export default async function () {
  await names();
  await keys();
  await foreignPages();
  await wallDisplay();
}

async function names() {
  const [alice, bob] = await band("Alice", MARKUP.slice(0, 60));
  const page = await openBand(alice);
  await strip(page, bob).waitFor();
  await alice.edit({ op: "add", address: "/chat", value: { text: `${MARKUP}<script>document.title='owned'</script>` } });
  await alice.edit({ op: "add", address: "/chat", value: { text: TURNED } });
  await alice.edit({ op: "add", address: "/tracks", value: { name: MARKUP.slice(0, 60), kind: "audio" } });
  for (const body of [{ op: "set", address: `/members/${alice.id}/name`, value: PILE }, { op: "add", address: "/tracks", value: { name: PILE } }]) {
    assert.equal((await alice.ask("PATCH", "/project", { commands: [body] })).status, 422, "10 kB are no name");
  }
  const long = await alice.ask("PATCH", "/project", { commands: [{ op: "add", address: "/chat", value: { text: PILE } }] });
  assert.ok(long.ok || long.status === 422 || long.status === 413, `${long.status}`);
  await eventually("the message is there as text", async () => (await page.getByLabel("Messages").innerText()).includes("<img src=x"));
  assert.notEqual(await page.title(), "owned");
  assert.equal(await page.locator("#app img, #app script, #app iframe").count(), 0, "no markup from a name or message");
  await page.keyboard.press("k");
  await page.getByLabel("Name of the track").waitFor();
  assert.notEqual(await page.title(), "owned");

  // Worse than a node lets through: what the page itself does with such names.
  const context = await (await theBrowser()).newContext({ viewport: { width: 360, height: 780 } });
  const victim = await context.newPage();
  await victim.routeWebSocket(/\/api\/v1\/ws/, (socket) => {
    const server = socket.connectToServer();
    server.onMessage((message) => {
      const said = JSON.parse(message);
      if (said.type === "peers") {
        said.data = [PILE, TURNED, MARKUP, "x".repeat(5_000)].map((name, at) => ({ ...said.data[0], peer_id: `stranger${at}`, name }));
      }
      if (said.type === "project") said.data.members = {};
      socket.send(JSON.stringify(said));
    });
  });
  await victim.goto(`${alice.http}/#token=${alice.token}`);
  await victim.locator(".strip.member").nth(3).waitFor();
  await shot(victim, "hostile-names-360-dark");
  assert.ok((await victim.evaluate(() => document.documentElement.scrollWidth - innerWidth)) <= 0, "no name is wider than a phone");
  for (const name of await victim.locator(".strip.member h3").all()) {
    const text = await name.innerText();
    assert.ok([...text].length <= 200, `cut: ${[...text].length} characters`);
    assert.doesNotMatch(text, /[\u202a-\u202e\u2066-\u2069]/, "no direction is turned");
    assert.ok((await name.boundingBox()).height < 60, "two lines at most");
  }
  assert.notEqual(await victim.title(), "owned");
  const slow = await victim.evaluate(
    () => new Promise((resolve) => {
      const start = performance.now();
      requestAnimationFrame(() => requestAnimationFrame(() => resolve(performance.now() - start)));
    }),
  );
  assert.ok(slow < 500, `the page still draws: two frames in ${slow.toFixed(0)} ms`);
  await context.close();
  step("names and messages stay text, short, in their own direction");
}

async function keys() {
  const alice = await Node.start("Alice");
  const wrong = "0".repeat(alice.token.length);
  for (const token of [wrong, "", `${alice.token}0`, alice.token.slice(1)]) {
    for (const [method, address] of [["GET", "/status"], ["PATCH", "/project"], ["POST", "/ws-ticket"], ["GET", "/support-bundle"]]) {
      const answer = await alice.ask(method, address, method === "PATCH" ? { commands: [] } : undefined, { token });
      assert.equal(answer.status, 401, `${method} ${address} with token "${token.slice(0, 4)}…"`);
    }
  }
  // A key in the query would end in logs.
  assert.equal((await fetch(`${alice.http}/api/v1/status?token=${alice.token}`)).status, 401);

  const page = await open(alice, { token: wrong });
  await page.getByText("This page's key is no longer right").waitFor();
  await page.getByLabel("Link or key").fill("neither");
  await page.keyboard.press("Enter");
  await page.getByText("neither a link with a key").waitFor();
  await page.getByLabel("Link or key").fill(`${alice.http}/#token=${alice.token}`);
  await page.keyboard.press("Enter");
  await page.locator(".strip.own").waitFor();
  const none = await (await theBrowser()).newContext();
  const locked = await none.newPage();
  await locked.goto(alice.http);
  await locked.getByText("This page needs its key").waitFor();
  await none.close();

  // A ticket works once, and only for a WebSocket.
  const { ticket } = await alice.api("POST", "/ws-ticket");
  const outcome = await page.evaluate(async (ticket) => {
    const knock = (query) =>
      new Promise((resolve) => {
        const socket = new WebSocket(`ws://${location.host}/api/v1/ws${query}`);
        socket.onmessage = ({ data }) => resolve(JSON.parse(data).type);
        socket.onclose = ({ code }) => resolve(code);
      });
    return [await knock(`?ticket=${ticket}`), await knock(`?ticket=${ticket}`), await knock(`?ticket=${"0".repeat(64)}`)];
  }, ticket);
  assert.deepEqual(outcome, ["ready", 1006, 1006], "the first time, not the second, and no invented one");
  assert.equal((await alice.ask("GET", "/status", undefined, { token: ticket })).status, 401);
  assert.ok(!alice.log().includes(alice.token), "no token in the log");
  step("wrong, missing, replayed and misplaced keys are refused");
}

async function foreignPages() {
  const alice = await Node.start("Alice");
  const before = await alice.api("GET", "/transport");
  const site = await foreignSite("<!doctype html><title>elsewhere</title><form method=post></form>");
  // Even a page that has stolen the token.
  const page = await (await theBrowser()).newPage();
  for (const origin of [site, site.replace("127.0.0.1", "localhost")]) {
    await page.goto(origin);
    const { port } = new URL(alice.http);
    const outcome = await page.evaluate(
      async ({ targets, token }) => {
        const results = [];
        const attempt = async (name, promise) => {
          try {
            const answer = await promise;
            results.push([name, answer.type === "opaque" ? "opaque" : answer.status]);
          } catch {
            results.push([name, "refused"]);
          }
        };
        for (const target of targets) {
          const url = `http://${target}/api/v1`;
          const change = JSON.stringify({ playing: true, tempo_bpm: 66 });
          await attempt("fetch", fetch(`${url}/status`, { headers: { authorization: `Bearer ${token}` } }));
          await attempt("simple fetch", fetch(`${url}/status`, { mode: "no-cors" }));
          await attempt("put", fetch(`${url}/transport`, { method: "PUT", body: change, headers: { authorization: `Bearer ${token}`, "content-type": "application/json" } }));
          await attempt("post as text", fetch(`${url}/undo`, { method: "POST", mode: "no-cors", body: "{}", headers: { "content-type": "text/plain" } }));
          results.push([
            "WebSocket",
            await new Promise((resolve) => {
              const socket = new WebSocket(`ws://${target}/api/v1/ws`);
              socket.onopen = () => {
                socket.send(JSON.stringify({ type: "auth", token }));
              };
              socket.onmessage = () => resolve("let in");
              socket.onclose = () => resolve("refused");
            }),
          ]);
        }
        return results;
      },
      { targets: [`127.0.0.1:${port}`, `localhost:${port}`], token: alice.token },
    );
    for (const [name, result] of outcome) assert.ok(result === "refused" || result === "opaque", `${name} from ${origin}: ${result}`);
    // A form posts without asking anybody.
    await page.evaluate((action) => {
      const form = document.querySelector("form");
      form.action = action;
      form.enctype = "text/plain";
      form.innerHTML = `<input name='{"playing":true,"x":"' value='"}'>`;
      form.submit();
    }, `${alice.http}/api/v1/transport`);
    await page.waitForURL(/transport/);
    await page.waitForLoadState();
    assert.match(await page.content(), /foreign_origin|wrong_method|no_token/);
  }
  assert.deepEqual(
    (({ playing, tempo_bpm }) => ({ playing, tempo_bpm }))(await alice.api("GET", "/transport")),
    (({ playing, tempo_bpm }) => ({ playing, tempo_bpm }))(before),
    "nothing of it happened",
  );
  // Nor does our page let itself be framed.
  const frame = await foreignSite(`<iframe src="${alice.http}/"></iframe>`);
  await page.goto(frame);
  await page.waitForTimeout(500);
  assert.equal(await page.frames()[1].locator("#app").count(), 0, "the page lets nobody frame it");
  await page.close();
  step("a foreign page's fetch, form, WebSocket and frame are refused");

  // A name that somebody else resolves to this machine.
  const rebound = await theBrowser("--host-resolver-rules=MAP evil.example 127.0.0.1");
  const evil = await rebound.newPage();
  const { port } = new URL(alice.http);
  const answer = await evil.goto(`http://evil.example:${port}/`);
  assert.equal(answer.status(), 403);
  assert.match(await evil.content(), /wrong_host/);
  const inside = await evil.evaluate(
    async (token) => (await fetch("/api/v1/status", { headers: { authorization: `Bearer ${token}` } })).status,
    alice.token,
  );
  assert.equal(inside, 403);
  await rebound.close();
  step("a rebound name is refused");
}

async function wallDisplay() {
  const [alice, bob] = await band("Alice", "Bob");
  const token = alice.viewToken();
  const page = await openBand(alice, { token });
  await page.getByText("View only").waitFor();
  await strip(page, bob).waitFor();
  await eventually("it shows latency", async () => /\d ms/.test(await strip(page, bob).innerText()));
  for (const control of await page.locator(".strip .desk button, .strip input, .strip select, .beat-bar button, .beat-bar input").all()) {
    assert.ok(await control.isDisabled(), `${await control.getAttribute("aria-label")} does nothing on a wall display`);
  }
  await page.keyboard.press("Space");
  await page.keyboard.press("m");
  await page.waitForTimeout(300);
  assert.equal((await alice.api("GET", "/transport")).playing, false);
  const mutations = [
    ["PUT", "/transport", { playing: true }],
    ["PATCH", "/project", { commands: [{ op: "set", address: "/transport/tempo_bpm", value: 60 }] }],
    ["PUT", `/peers/${bob.id}`, { gain_db: -10 }],
    ["PUT", "/setup", { name: "Mallory" }],
    ["PUT", "/me", { muted: true }],
    ["PUT", "/audio", { period_frames: 512 }],
    ["POST", "/undo", undefined],
  ];
  for (const [method, address, body] of mutations) {
    const answer = await alice.ask(method, address, body, { token });
    assert.equal(answer.status, 403, `${method} ${address}`);
    assert.equal((await answer.json()).code, "read_only");
  }
  const said = await page.evaluate(async (token) => {
    const { ticket } = await (await fetch("/api/v1/ws-ticket", { method: "POST", headers: { authorization: `Bearer ${token}` } })).json();
    const socket = new WebSocket(`ws://${location.host}/api/v1/ws?ticket=${ticket}`);
    return new Promise((resolve) => {
      socket.onmessage = ({ data }) => {
        const message = JSON.parse(data);
        if (message.type === "ready") socket.send(JSON.stringify({ type: "patch", id: 1, commands: [{ op: "set", address: "/transport/tempo_bpm", value: 60 }] }));
        if (message.type === "error" || message.type === "patched") resolve(message.problem?.code ?? message.type);
      };
    });
  }, token);
  assert.equal(said, "read_only");
  await shot(page, "wall-display-1440-dark");
  step("a wall display shows all and changes nothing");
}
