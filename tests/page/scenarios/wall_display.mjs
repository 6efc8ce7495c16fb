// A page with the token for looking only.
import assert from "node:assert/strict";
import { band, eventually, openBand, shot, step, strip } from "../band.mjs";

export default async function () {
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
  await page.keyboard.press(",");
  await page.getByRole("dialog").getByRole("button", { name: "Done" }).click();
  await page.getByRole("dialog").waitFor({ state: "detached" });
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
