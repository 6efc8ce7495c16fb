// Wrong, missing, replayed and misplaced keys open nothing.
import assert from "node:assert/strict";
import { Node, open, profile, step } from "../band.mjs";

export default async function () {
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
  const none = await profile();
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
