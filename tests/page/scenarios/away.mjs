// A bandmate's computer dies and comes back; then my own node does.
import assert from "node:assert/strict";
import { band, eventually, openBand, shot, step, strip } from "../band.mjs";

export default async function () {
  const [alice, bob, carol] = await band("Alice", "Bob", "Carol");
  const page = await openBand(alice);
  await strip(page, bob).waitFor();
  await strip(page, carol).waitFor();
  const chat = page.getByRole("region", { name: "Chat" });

  // Of three players only one is heard, then all again; with a click and with keys.
  const soloed = async () => [await alice.hears(bob), await alice.hears(carol)].map(({ soloed_by_me }) => soloed_by_me).join();
  const solo = (node) => strip(page, node).getByRole("button", { name: /^Solo .*, only for me/ });
  await solo(carol).click();
  await eventually("Carol alone", async () => (await soloed()) === "false,true");
  await solo(bob).click({ modifiers: ["Alt"] });
  await eventually("Bob instead of Carol", async () => (await soloed()) === "true,false");
  await page.keyboard.press("Alt+s");
  await eventually("everybody again", async () => (await soloed()) === "false,false");
  step("solo, and nobody else");

  await bob.kill();
  await eventually("Bob's strip says that he is away, or is gone", async () => {
    const there = strip(page, bob);
    return (await there.count()) === 0 || /Away|Connecting/.test(await there.innerText());
  }, 40_000);
  await eventually("the chat says so", async () => /Bob/.test((await chat.locator(".news").allInnerTexts()).join("\n")), 40_000);
  assert.ok(await strip(page, carol).isVisible(), "Carol plays on");
  await eventually("the health button says who is missing", async () =>
    /Bob cannot be reached/.test(await page.locator(".pill").getAttribute("aria-label")),
  );
  await page.locator(".toast", { hasText: "Bob" }).waitFor();
  const [toast, mute] = await Promise.all([
    page.locator(".toasts").boundingBox(),
    page.getByRole("button", { name: "Mute my microphone" }).boundingBox(),
  ]);
  assert.ok(toast.x > mute.x + mute.width || toast.y > mute.y + mute.height, "no news lies on my own mute");
  await shot(page, "bandmate-away-1440-dark");
  step("Bob is gone, and the page says so");

  await bob.launch();
  await eventually("Bob is back with his latency", async () => /(Tight|Playable|Loose), [\d.]+ ms/.test(await strip(page, bob).innerText()), 20_000);
  const lines = (await chat.locator(".news").allInnerTexts()).filter((text) => text.includes("Bob"));
  assert.equal(new Set(lines).size, lines.length, `each thing is said once: ${lines}`);
  step("Bob is back");

  await alice.edit({ op: "add", address: "/tracks", value: { name: "Drums" } });
  await page.keyboard.press("k");
  const undo = page.getByRole("button", { name: /^Undo/ });
  await eventually("the track can be taken back", () => undo.isEnabled());

  await alice.kill();
  // Not the live region, which says it as well.
  await page.locator(".banner", { hasText: "The node does not answer" }).waitFor();
  for (const control of await strip(page, bob).locator("button").all()) assert.ok(await control.isDisabled(), "a dead desk does not pretend");
  await shot(page, "node-gone-1440-dark");
  await alice.launch();
  await page.locator(".banner.back", { hasText: "The node was restarted" }).waitFor();
  assert.equal(await page.locator(".banner", { hasText: "The node does not answer" }).count(), 0, "the page is back by itself");
  await eventually("with the whole band", async () => /Tight|Playable|Loose/.test(await strip(page, carol).innerText()), 20_000);
  await strip(page, carol).getByRole("button", { name: /^Mute .*only for me/ }).click();
  await eventually("and it works", async () => (await alice.hears(carol)).muted_by_me === true);
  assert.ok(await undo.isDisabled(), "what was done before the restart is not offered to be undone");
  assert.equal(await undo.getAttribute("aria-label"), "Undo");
  step("my own node was restarted; the page came back by itself and said so");
}
