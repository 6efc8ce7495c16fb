// Every view at three widths, dark and light: no serious finding of axe, nothing cut off, targets large enough.
import assert from "node:assert/strict";
import { axeSource, band, eventually, openBand, shot, step, strip } from "../band.mjs";

const SIZES = [
  [360, 780],
  [768, 1024],
  [1440, 900],
];
const VIEWS = { band: "b", tracks: "k", chat: "h", network: "p", health: "d", settings: ",", help: "?" };
const TARGET_PX = 44;

export default async function () {
  const [alice, bob, carol] = await band("Alice", "Bob", "Carol");
  await Promise.all(
    [
      [alice, "Alice", "#e8a33d", "Voice"],
      [bob, "Bob", "#4aa3df", "Bass"],
      [carol, "Carol", "#b874d8", "Drums"],
    ].map(([node, name, color, instrument]) => node.api("PUT", "/setup", { name, color, instrument, done: true })),
  );
  await alice.edit(
    { op: "add", address: "/tracks", value: { name: "Drums", kind: "audio", color: "#e5705f" } },
    { op: "add", address: "/tracks", value: { name: "Bass line", kind: "midi", color: "#74b95a" } },
    { op: "add", address: "/chat", value: { text: "Ready when you are." } },
  );
  await bob.edit({ op: "add", address: "/chat", value: { text: "One moment, tuning the low string." } });
  await alice.api("PUT", `/peers/${carol.id}`, { muted_by_me: true, gain_db: -9 });
  await alice.api("PUT", "/transport", { playing: true, tempo_bpm: 104 });
  await bob.api("PUT", "/me", { muted: true });

  const findings = [];
  for (const scheme of ["dark", "light"]) {
    for (const [width, height] of SIZES) {
      const page = await openBand(alice, { width, height, scheme });
      await strip(page, carol).waitFor();
      await eventually("levels and latencies are there", async () => /\d ms/.test(await strip(page, bob).innerText()));
      for (const [view, key] of Object.entries(VIEWS)) {
        const where = `${view}-${width}-${scheme}`;
        if (!(view === "chat" && width >= 1100 && (await page.getByRole("region", { name: "Chat" }).count()) > 0)) await page.keyboard.press(key);
        await page.waitForTimeout(view === "health" ? 1_500 : 500);
        await shot(page, where);
        findings.push(...(await axeFindings(page)).map((finding) => `${where}: ${finding}`));
        findings.push(...(await tooSmall(page)).map((finding) => `${where}: ${finding}`));
        const overflow = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
        if (overflow > 0) findings.push(`${where}: ${overflow} px wider than the window`);
        if (view === "settings" || view === "help") await page.keyboard.press("Escape");
      }
      await page.context().close();
    }
    step(`seven views at three widths, ${scheme}`);
  }
  assert.deepEqual([...new Set(findings)], []);

  // Less motion: the bar's line stands still, numbers go on.
  const calm = await openBand(alice, { motion: "reduce" });
  await eventually("the beat is still counted", async () => (await calm.locator(".counter-beat").innerText()) !== "");
  const lines = new Set();
  for (let at = 0; at < 5; at++) {
    assert.ok(!(await calm.locator(".counter-line").isVisible()), "no sweeping line");
    lines.add(await calm.locator(".counter-line").evaluate((line) => line.style.transform));
    await calm.waitForTimeout(120);
  }
  assert.ok(lines.size <= 2, `with reduced motion nothing sweeps: ${[...lines]}`);
  // Screen readers are told levels at most twice a second.
  const changes = await strip(calm, bob).getByRole("meter").evaluate(
    (meter) =>
      new Promise((resolve) => {
        let count = 0;
        new MutationObserver((list) => {
          count += list.filter(({ attributeName }) => attributeName === "aria-valuetext").length;
        }).observe(meter, { attributes: true });
        setTimeout(() => resolve(count), 3_000);
      }),
  );
  assert.ok(changes <= 7, `${changes} changes of a meter's words in 3 s`);
  assert.equal(await calm.locator("[aria-live]").count(), 1, "one live region");
  step("reduced motion and screen readers");
}

async function axeFindings(page) {
  // Through the debugger, since the page's policy lets no script in.
  await page.evaluate(axeSource());
  const { violations } = await page.evaluate(() => globalThis.axe.run(document, { resultTypes: ["violations"] }));
  return violations
    .filter(({ impact }) => impact === "serious" || impact === "critical")
    .flatMap(({ id, nodes }) => nodes.map(({ target, failureSummary }) => `${id} ${target.join(" ")} ${failureSummary}`));
}

async function tooSmall(page) {
  return page.evaluate((least) => {
    const found = [];
    for (const element of document.querySelectorAll("button, select, input")) {
      const box = element.getBoundingClientRect();
      if (box.width === 0 || box.height === 0) continue;
      if (Math.round(box.height) < least || Math.round(box.width) < least) {
        found.push(`${element.getAttribute("aria-label") ?? element.textContent} is ${Math.round(box.width)} by ${Math.round(box.height)} px`);
      }
    }
    return found;
  }, TARGET_PX);
}
