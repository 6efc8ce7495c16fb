// Somebody starts Bandmesh for the first time.
import assert from "node:assert/strict";
import { eventually, Node, open, shot, step } from "../band.mjs";

export default async function () {
  const alice = await Node.start("newcomer", { fresh: true });
  const page = await open(alice);

  const welcome = page.getByRole("dialog", { name: "Welcome to the band" });
  await welcome.waitFor();
  step("the page asks who is playing");
  assert.equal(new URL(page.url()).hash, "", "the token has left the address");
  assert.equal(await page.evaluate(() => history.length <= 2), true);
  assert.ok(!(await page.content()).includes(alice.token), "the token is nowhere in the page");

  const suggested = welcome.locator(".swatches [aria-pressed=true]");
  await eventually("one of the colours is suggested", async () => (await suggested.count()) === 1);
  await welcome.getByLabel("Your name").fill("Alice");
  await welcome.getByRole("button", { name: "teal" }).click();
  await welcome.getByRole("button", { name: "Guitar" }).click();
  const device = welcome.getByLabel("Sound device");
  assert.ok((await device.locator("option").count()) >= 1, "there is a device to choose, at least none at all");
  await welcome.getByRole("meter", { name: "Level of my input" }).waitFor();
  assert.match(await welcome.innerText(), /headphones/i);
  await welcome.getByRole("button", { name: "Play a test tone" }).click();
  await eventually("the tone is heard in the output", async () => (await alice.api("GET", "/status")).audio.output_peak_db > -40);
  step("name, colour, instrument and device; the test tone is heard");
  await shot(page, "first-run-1440-dark");
  for (const field of await welcome.locator("input, select").all()) assert.ok(await field.isEnabled());

  await welcome.getByRole("button", { name: "Start playing" }).click();
  await welcome.waitFor({ state: "detached" });
  await eventually("the strip has the new name", async () =>
    (await page.locator(".strip.own h3").innerText()).includes("Alice"),
  );
  await eventually("the band sees name, colour and instrument", async () => {
    const member = await alice.shared(`/members/${alice.id}`);
    return member.name === "Alice" && member.instrument === "Guitar" && member.color === "#3fb6a0";
  });
  step("the band sees name, colour and instrument");

  await page.reload();
  await page.locator(".strip.own").waitFor();
  await eventually("the page lives after a reload", async () => (await page.locator(".banner").count()) === 0);
  assert.equal(await page.getByRole("dialog").count(), 0, "nothing is asked twice");
  await alice.kill();
  await alice.launch();
  await eventually("the node remembers", async () => (await alice.api("GET", "/setup")).done === true);
  assert.equal((await alice.api("GET", "/setup")).name, "Alice");

  // Somebody changes her instrument while she looks at her settings, in which she changes her name only.
  const me = `/members/${alice.id}`;
  await page.getByRole("button", { name: "Settings" }).click();
  const settings = page.getByRole("dialog", { name: "Settings" });
  await settings.getByLabel("Your name").fill("Alice B.");
  await alice.edit({ op: "set", address: `${me}/instrument`, value: "tuba" });
  await settings.getByRole("button", { name: "Done" }).click();
  await settings.waitFor({ state: "detached" });
  await eventually("her new name is there", async () => (await alice.shared(me)).name === "Alice B.");
  assert.equal((await alice.shared(me)).instrument, "tuba");
  assert.equal((await alice.api("GET", "/setup")).instrument, "tuba");
  await alice.kill();
  await alice.launch();
  assert.deepEqual([(await alice.shared(me)).name, (await alice.shared(me)).instrument], ["Alice B.", "tuba"]);
  step("settings take nothing back that was edited elsewhere");

  const bob = await Node.start("Bob", { fresh: true, peers: [alice] });
  await eventually("Bob hears Alice", async () => (await bob.hears(alice))?.audio?.received > 0);
  const { color: bobs } = await bob.api("GET", "/setup");
  await alice.api("PUT", "/setup", { color: bobs });
  await eventually("Bob's node knows her colour", async () => (await bob.shared(`/members/${alice.id}`)).color === bobs);
  const other = await open(bob);
  const free = other.getByRole("dialog", { name: "Welcome to the band" }).locator(".swatches [aria-pressed=true] .swatch");
  await eventually("a colour is suggested that no bandmate has", async () => {
    const style = await free.getAttribute("style");
    return style && !style.includes(bobs);
  });
  step("the suggested colour is a free one");
}
