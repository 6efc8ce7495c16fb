// A hurried hand: pressed again before the node's word has come. All that the node says arrives late here, so that much
// of it was said before the change it comes after.
import { band, eventually, pause, profile, step, strip } from "../band.mjs";

const LATE_MS = 250;

export default async function () {
  const [alice, bob] = await band("Alice", "Bob");
  const context = await profile();
  const page = await context.newPage();
  await page.routeWebSocket(/\/api\/v1\/ws/, (socket) => {
    const server = socket.connectToServer();
    server.onMessage((message) => setTimeout(() => socket.send(message), LATE_MS));
  });
  await page.goto(`${alice.http}/#token=${alice.token}`);
  await strip(page, bob).waitFor();

  const status = () => alice.api("GET", "/status");
  const linked = (await status()).link.enabled;
  const switches = [
    ["my own mute", "m", async () => (await status()).me.muted, false],
    ["the beat", "Space", async () => (await alice.api("GET", "/transport")).playing, false],
    ["the click", "c", async () => (await alice.api("GET", "/transport")).metronome, false],
    ["Link", "l", async () => (await status()).link.enabled, linked],
  ];
  for (const [what, key, look, before] of switches) await pressedTwice(page, what, key, look, before);

  await page.keyboard.press("1");
  await eventually("Bob's strip has the focus", () => page.evaluate(() => document.activeElement.closest(".strip.member") !== null));
  const mix = async () => alice.hears(bob);
  await pressedTwice(page, "mute for me", "m", async () => (await mix()).muted_by_me, false);
  await pressedTwice(page, "mute for everyone", "Shift+M", async () => (await alice.shared(`/mixer/strip/${bob.id}`)).mute, false);
  await context.close();
}

/** Pressed again as soon as the node has it, which is before the page has heard so: back to where it was. */
async function pressedTwice(page, what, key, look, before) {
  for (let round = 0; round < 3; round++) {
    await page.keyboard.press(key);
    await eventually(`${what} is switched`, async () => (await look()) === !before);
    // Words from before the change come in this time.
    await pause((LATE_MS * round) / 4);
    await page.keyboard.press(key);
    await eventually(`${what} is back`, async () => (await look()) === before);
  }
  step(`${what}, twice in a row`);
}
