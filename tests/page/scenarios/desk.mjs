// Two people at two nodes with their hands on one desk.
import assert from "node:assert/strict";
import { eventually, openBand, pairWithBadPath, pause, shot, step, strip, words } from "../band.mjs";

const gainFor = (page, node, whom) =>
  strip(page, node).getByRole("slider", { name: new RegExp(`^Gain of .*${whom}$`) });

/** Takes the fader with the mouse and moves it to a share of its way; the button stays down. */
async function drag(page, fader, shares) {
  const box = await fader.boundingBox();
  const at = (share) => [box.x + box.width / 2, box.y + box.height * (1 - share)];
  await page.mouse.move(...at(0.76));
  await page.mouse.down();
  for (const share of shares) {
    await page.mouse.move(...at(share), { steps: 4 });
    await pause(60);
  }
}

export default async function () {
  const [alice, bob, path] = await pairWithBadPath("Alice", "Bob");
  const left = await openBand(alice);
  const right = await openBand(bob);
  for (const [page, other] of [[left, bob], [right, alice]]) await strip(page, other).waitFor();
  const badge = strip(left, bob).locator(".badge");
  await eventually("path and latency in words and numbers", async () => /(Tight|Playable|Loose), [\d.]+ ms\s*\S/.test(await badge.innerText()));

  // Bob's strip is moved on Alice's page; Bob sees it on his own strip.
  const mine = gainFor(left, bob, "for everyone");
  const theirs = gainFor(right, bob, "for everyone");
  const before = await words(theirs);
  await drag(left, mine, [0.7, 0.6, 0.5, 0.4]);
  await eventually("Bob sees the fader moving while Alice still holds it", async () => (await words(theirs)) !== before, 1_000);
  assert.equal((await bob.shared(`/mixer/strip/${bob.id}`)).gain_db, 0, "nothing is an edit before she lets go");
  await eventually("Bob sees whose hand it is", async () => (await strip(right, bob).locator(".hands").innerText()).includes("Alice"));
  const seen = new Set();
  for (let at = 0; at < 12; at++) {
    await drag(left, mine, [0.4 - at * 0.02]);
    seen.add(await words(theirs));
  }
  assert.ok(seen.size >= 6, `it moves smoothly, not in one jump: ${[...seen]}`);
  await shot(right, "somebody-elses-hand-1440-dark");
  await left.mouse.up();
  await eventually("both stand at the same place, for good", async () => {
    const stored = (await bob.shared(`/mixer/strip/${bob.id}`)).gain_db;
    return stored < -15 && (await words(mine)) === (await words(theirs)) && (await strip(right, bob).locator(".hands").count()) === 0;
  });
  step("a fader dragged by one moves for the other, and stays");

  // Both at once.
  await drag(left, mine, [0.5]);
  await drag(right, theirs, [0.9]);
  await left.mouse.up();
  await right.mouse.up();
  await eventually("after a quarrel there is one value everywhere", async () => {
    const [one, other] = [await alice.shared(`/mixer/strip/${bob.id}`), await bob.shared(`/mixer/strip/${bob.id}`)];
    return one.gain_db === other.gain_db && (await words(mine)) === (await words(theirs));
  });
  step("two hands on one fader end with one value");

  // Mute and solo for everyone.
  for (const what of ["Mute", "Solo"]) {
    const button = strip(left, bob).getByRole("button", { name: new RegExp(`^${what} .*, for everyone`) });
    const echo = strip(right, bob).getByRole("button", { name: new RegExp(`^${what} .*, for everyone`) });
    // From the click to what the page shows, measured inside the page.
    const took = await button.evaluate(
      (element) =>
        new Promise((resolve) => {
          const start = performance.now();
          new MutationObserver(() => resolve(performance.now() - start)).observe(element, { attributes: true, attributeFilter: ["aria-pressed"] });
          element.click();
        }),
    );
    step(`${what} for everyone answered on the page in ${took.toFixed(1)} ms`);
    assert.ok(took < 100);
    await eventually(`Bob sees ${what}`, async () => (await echo.getAttribute("aria-pressed")) === "true");
    await echo.click();
    await eventually(`Alice sees that Bob undid ${what}`, async () => (await button.getAttribute("aria-pressed")) === "false");
  }

  // Only mine: Bob's mix and the shared one know nothing of it.
  const own = gainFor(left, bob, "only for me");
  const sharedBefore = await alice.shared("/mixer");
  await own.focus();
  await left.keyboard.press("PageDown");
  await eventually("the node has my gain", async () => (await alice.hears(bob)).gain_db === -6);
  await strip(left, bob).getByRole("button", { name: /^Mute .*only for me/ }).click();
  await strip(left, bob).getByText("Muted by me").waitFor();
  await strip(left, bob).getByRole("button", { name: /^Solo .*only for me/ }).click();
  const pan = strip(left, bob).getByRole("slider", { name: /^Pan of .*only for me/ });
  await pan.focus();
  await left.keyboard.press("Home");
  await eventually("the node has my mute, solo and pan", async () => {
    const peer = await alice.hears(bob);
    return peer.muted_by_me === true && peer.soloed_by_me === true && peer.pan === -1;
  });
  assert.deepEqual(await alice.shared("/mixer"), sharedBefore, "the shared mix did not move");
  assert.equal((await bob.hears(alice)).gain_db, 0);
  step("my own mix is mine alone");

  // Muted themselves is another sign than muted by me.
  await right.locator(".strip.own").getByRole("button", { name: "Mute my microphone" }).click();
  await strip(left, bob).getByText("Muted themselves").waitFor();
  assert.equal(await strip(left, bob).locator(".sign").count(), 2, "both signs at once, two different ones");
  await shot(left, "signs-1440-dark");
  await right.locator(".strip.own").getByRole("button", { name: "Mute my microphone" }).click();
  await eventually("the sign goes", async () => (await strip(left, bob).getByText("Muted themselves").count()) === 0);
  step("muted by me and muted themselves are two signs");

  // The third sign: nothing of what Alice plays arrives at Bob's, and his node says so.
  path.lost = true;
  await strip(left, bob).getByText("Does not hear you").waitFor();
  await right.locator(".strip.own").getByRole("button", { name: "Mute my microphone" }).click();
  await strip(left, bob).getByText("Muted themselves").waitFor();
  const signs = await strip(left, bob).locator(".sign").evaluateAll((list) => list.map((sign) => `${sign.textContent} ${sign.querySelector("path").getAttribute("d")} ${getComputedStyle(sign).backgroundColor}`));
  assert.equal(new Set(signs).size, 3);
  for (const part of [0, 1, 2]) for (const other of [0, 1, 2]) assert.ok(part === other || signs[part].split(" M")[1] !== signs[other].split(" M")[1], "a different picture each");
  await shot(left, "three-signs-1440-dark");
  assert.equal(await strip(right, alice).getByText("Does not hear you").count(), 0, "Alice hears Bob as ever");
  path.lost = false;
  await right.locator(".strip.own").getByRole("button", { name: "Mute my microphone" }).click();
  await eventually("Bob hears her again, and plays", async () => (await strip(left, bob).locator(".sign").allInnerTexts()).join() === "Muted by me");
  step("does not hear you is a third one, and goes when he hears her again");

  // The beat, for both.
  await left.getByRole("button", { name: "Play", exact: true }).click();
  await right.getByRole("button", { name: "Stop", exact: true }).waitFor();
  const tempo = left.getByLabel("Tempo in beats a minute");
  await tempo.fill("97");
  await tempo.press("Enter");
  await eventually("Bob has the tempo", async () => (await right.getByLabel("Tempo in beats a minute").inputValue()) === "97");
  // Where the two pages are in the bar, at one moment.
  const places = [];
  for (let at = 0; at < 10; at++) {
    const look = (page) =>
      page.evaluate(() => new DOMMatrix(getComputedStyle(document.querySelector(".counter-line")).transform).a);
    const [a, b] = await Promise.all([look(left), look(right)]);
    const apart = Math.abs(a - b);
    places.push(Math.min(apart, 1 - apart));
    await pause(170);
  }
  const median = places.sort((a, b) => a - b)[5];
  step(`the pages' beats are ${((median * 4 * 60_000) / 97).toFixed(0)} ms apart (median of ten looks)`);
  assert.ok(median < 0.04, `the beat is at the same place on both pages: ${places}`);

  // Alice takes her tempo back; it is an edit like any other.
  await left.locator(".main").focus();
  await left.keyboard.press("Control+z");
  await eventually("Bob plays at the tempo from before", async () => (await right.getByLabel("Tempo in beats a minute").inputValue()) === "120");
  await left.keyboard.press("Control+Shift+z");
  await eventually("and at hers again", async () => (await right.getByLabel("Tempo in beats a minute").inputValue()) === "97");
  step("a tempo can be undone");
}
