// Names and messages of people who mean harm stay text, short, in their own direction.
import assert from "node:assert/strict";
import { band, eventually, openBand, profile, shot, step, strip } from "../band.mjs";

const MARKUP = `<img src=x onerror="document.title='owned'">`;
const TURNED = "\u202eecilA\u202c \u2067txet";
const PILE = "👩‍👩‍👧‍👦".repeat(400); // 10 kB of UTF-8
assert.ok(Buffer.byteLength(PILE) >= 10_000);

export default async function () {
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
  const context = await profile({ viewport: { width: 360, height: 780 } });
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
  await victim.evaluate(() => document.querySelector(".strip.member").scrollIntoView());
  await shot(victim, "hostile-names-360");
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
