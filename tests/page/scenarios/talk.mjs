// Chat and tracks from two browsers at once, and undo.
import assert from "node:assert/strict";
import { band, eventually, openBand, pause, shot, step } from "../band.mjs";

export default async function () {
  const [alice, bob] = await band("Alice", "Bob");
  const left = await openBand(alice);
  const right = await openBand(bob, { width: 768 });

  // Bob looks at the band, not at the chat: unread messages are counted.
  const write = async (page, text) => {
    await page.getByLabel("Message to the band").fill(text);
    await page.keyboard.press("Enter");
  };
  await write(left, "Shall we take it from the top?");
  await write(left, "I count in.");
  const tab = right.getByRole("navigation").getByRole("button", { name: /^Chat/ });
  await eventually("two unread messages", async () => (await tab.getAttribute("aria-label")) === "Chat, 2 unread");
  await tab.click();
  await eventually("read", async () => (await tab.getAttribute("aria-label")) === "Chat");
  const lines = right.getByLabel("Messages");
  await lines.getByText("I count in.").waitFor();
  assert.equal(await lines.locator(".message-head .name").first().innerText(), "Alice");
  await write(right, "Yes!");
  await left.getByLabel("Messages").getByText("Yes!").waitFor();
  assert.match(await left.getByLabel("Messages").innerText(), /Bob/);
  step("messages both ways, unread ones counted, comings told");
  await shot(right, "chat-768-dark");

  // Tracks.
  const names = (page) => page.getByLabel("Name of the track").evaluateAll((inputs) => inputs.map(({ value }) => value));
  await left.keyboard.press("Escape");
  await left.locator(".main").focus();
  await left.keyboard.press("k");
  await right.getByRole("navigation").getByRole("button", { name: "Tracks" }).click();
  for (const name of ["Drums", "Bass", "Guitar"]) {
    await left.getByLabel("Name of a new track").fill(name);
    await left.getByRole("button", { name: "Add track" }).click();
    await eventually(`Bob has ${name}`, async () => (await names(right)).includes(name));
  }
  const both = (what, expected) =>
    eventually(what, async () => {
      const [one, other] = [await names(left), await names(right)];
      return JSON.stringify(one) === JSON.stringify(expected) && JSON.stringify(other) === JSON.stringify(expected);
    });
  await both("three tracks on both pages", ["Drums", "Bass", "Guitar"]);

  // Both rename at once, different tracks; Bob sees who has a hand on what.
  const field = (page, at) => page.getByLabel("Name of the track").nth(at);
  await field(left, 0).click();
  await field(left, 0).fill("Drum kit");
  await eventually("Bob sees Alice's hand", async () => (await right.locator(".track .hands").first().innerText()).includes("Alice"));
  await eventually("and what she types", async () => (await names(right))[0] === "Drum kit");
  await shot(right, "tracks-touched-768-dark");
  await field(right, 1).fill("Upright bass");
  await right.keyboard.press("Enter");
  await left.keyboard.press("Enter");
  await both("both names", ["Drum kit", "Upright bass", "Guitar"]);
  await eventually("no hands any more", async () => (await right.locator(".track .hands").count()) === 0);
  step("two rename two tracks at once");

  // The same track at once: one of the two names, on both nodes and both pages. Until a hand is off, a page shows what is
  // in it.
  await field(left, 2).fill("Les Paul");
  await field(right, 2).fill("Stratocaster");
  await Promise.all([field(left, 2).press("Enter"), field(right, 2).press("Enter")]);
  const third = await eventually("one name for both", async () => {
    const kept = await Promise.all([alice, bob].map(async (node) => Object.values(await node.shared("/tracks")).map(({ name }) => name)));
    const words = [...kept.map((tracks) => tracks.find((name) => name !== "Drum kit" && name !== "Upright bass")), (await names(left))[2], (await names(right))[2]];
    const both = (await left.locator(".track .hands").count()) + (await right.locator(".track .hands").count()) === 0;
    return both && new Set(words).size === 1 && ["Les Paul", "Stratocaster"].includes(words[0]) && words[0];
  });
  step(`two rename one track at once: ${third} for both`);

  await left.getByRole("button", { name: "Move Upright bass up" }).click();
  await both("another order", ["Upright bass", "Drum kit", third]);
  await right.getByRole("button", { name: "Colour of Upright bass" }).click();
  await right.getByRole("group", { name: "Colours for Upright bass" }).getByRole("button", { name: "violet" }).click();
  await eventually("another colour", async () => Object.values(await alice.shared("/tracks")).some(({ name, color }) => name === "Upright bass" && color === "#b874d8"));
  await left.getByRole("button", { name: "Delete Drum kit" }).click();
  await both("one fewer", ["Upright bass", third]);
  step("moved, painted, deleted");

  // Undo: Alice's own edits, one after the other; Bob's colour stays.
  const undo = left.getByRole("button", { name: /^Undo/ });
  const redo = left.getByRole("button", { name: /^Redo/ });
  await eventually("there is something to undo", () => undo.isEnabled());
  await undo.click();
  await both("the track is back", ["Upright bass", "Drum kit", third]);
  await pause(200);
  await undo.click();
  await both("and its place", ["Drum kit", "Upright bass", third]);
  await eventually("redo", () => redo.isEnabled());
  await redo.click();
  await both("done again", ["Upright bass", "Drum kit", third]);
  assert.ok(Object.values(await alice.shared("/tracks")).some(({ name, color }) => name === "Upright bass" && color === "#b874d8"), "Bob's colour stayed");
  await shot(left, "tracks-1440-dark");
  step("undo and redo take back one's own edits only");
}
