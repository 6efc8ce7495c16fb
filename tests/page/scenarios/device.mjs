// Another device, period and rate, while playing.
import assert from "node:assert/strict";
import { band, eventually, openBand, shot, step, strip } from "../band.mjs";

export default async function () {
  const [alice, bob] = await band("Alice", "Bob");
  const page = await openBand(alice);
  const before = await alice.api("GET", "/status");
  await page.keyboard.press(",");
  const settings = page.getByRole("dialog", { name: "Settings" });
  const period = settings.getByLabel("Period");
  await period.selectOption("512");
  await eventually("the device runs with 512 frames", async () => (await alice.api("GET", "/status")).audio.period_frames === 512);
  await settings.getByLabel("Rate").selectOption("44100");
  await eventually("the device runs at 44.1 kHz", async () => (await alice.api("GET", "/status")).audio.rate_hz === 44_100);
  await settings.getByLabel("Rate").selectOption("48000");
  await period.selectOption("128");
  await eventually("and back", async () => {
    const { audio } = await alice.api("GET", "/status");
    return audio.period_frames === 128 && audio.rate_hz === 48_000;
  });
  const after = await alice.api("GET", "/status");
  assert.ok(after.uptime_s > before.uptime_s, "without a restart");
  await eventually("the band is still heard", async () => {
    const first = (await alice.hears(bob)).audio.received;
    await new Promise((resolve) => setTimeout(resolve, 300));
    return (await alice.hears(bob)).audio.received > first;
  });
  step("period and rate changed while playing");

  const device = settings.getByLabel("Sound device");
  const choices = await device.locator("option").evaluateAll((options) => options.map(({ value }) => value));
  assert.ok(choices.includes("null"), `no sound at all is a choice: ${choices}`);
  await device.selectOption("null");
  await eventually("the silent device", async () => (await alice.api("GET", "/audio")).host === "null");
  // A device that does not open leaves the old one playing and says why.
  const refused = await alice.ask("PUT", "/audio", { device: "no such device" });
  assert.ok(refused.status >= 400, `${refused.status}`);
  assert.ok((await refused.json()).detail.length > 10);
  assert.equal((await alice.api("GET", "/audio")).state, "running");
  const outputs = settings.getByRole("group", { name: "what plays the band's notes" });
  await alice.api("PUT", "/midi", { outputs: ["Grand Piano"] });
  await outputs.getByText("not plugged in").waitFor();
  await outputs.getByRole("checkbox", { name: /Grand Piano/ }).click();
  await eventually("it is waited for no more", async () => (await alice.api("GET", "/midi")).outputs.length === 0);
  const every = settings.getByRole("checkbox", { name: "Every instrument that is plugged in" });
  await every.uncheck();
  await eventually("no instrument is listened to", async () => !(await alice.api("GET", "/midi")).all_inputs);
  await every.check();
  step("MIDI ports are chosen, those that are absent too");

  await shot(page, "settings-1440-dark");
  await settings.getByRole("button", { name: "Close" }).click();
  await settings.waitFor({ state: "detached" });
  await strip(page, bob).waitFor();
  step("a device that does not open leaves the old one playing");
}
