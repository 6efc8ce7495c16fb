// Another site's page, and a name somebody else resolves to this machine.
import assert from "node:assert/strict";
import { foreignSite, Node, step, theBrowser } from "../band.mjs";

export default async function () {
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
