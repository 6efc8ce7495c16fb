// What the page tells when things go well and when they do not.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { band, eventually, openBand, shot, step } from "../band.mjs";

export default async function () {
  const [alice, bob, carol] = await band("Alice", "Bob", "Carol");
  const page = await openBand(alice);
  await page.keyboard.press("d");
  const verdict = page.getByRole("region", { name: "Diagnosis" });
  await eventually("one sentence", async () => (await verdict.locator("p").innerText()).trim().length > 5);

  await eventually("charts of my device and of a bandmate", async () => (await page.locator(".plot canvas").count()) >= 9);
  await page.getByRole("group", { name: "Whose figures" }).getByRole("button", { name: "Carol" }).click();
  await eventually("the waterfall adds up to the way from mouth to ear", async () => {
    const stages = await page.locator(".waterfall .stage-ms").allInnerTexts();
    const total = Number((await page.locator(".waterfall h3").innerText()).match(/([\d.]+) ms/)?.[1]);
    const sum = stages.reduce((all, text) => all + Number.parseFloat(text), 0);
    // Each stage is rounded to a tenth; the total too, and only to whole ones from 10 on.
    return stages.length >= 2 && Math.abs(sum - total) < 0.1 * stages.length + (total >= 10 ? 0.55 : 0.1);
  });
  for (const label of ["Clock", "Path", "Packets", "Xruns", "Longest callback"]) await page.locator("dt", { hasText: label }).first().waitFor();
  assert.match(await page.locator(".figure", { hasText: "Clock" }).innerText(), /±/);
  await shot(page, "health-band-1440-dark");
  step("the figures behind the sentence");

  const log = page.getByRole("region", { name: "Log" });
  const filter = log.getByLabel("Words the lines must have");
  await eventually("there are lines", async () => (await log.locator("li").count()) > 0);
  await filter.fill("member joined");
  await eventually("only lines that fit", async () => {
    const lines = await log.locator("li").allInnerTexts();
    return lines.length > 0 && lines.every((line) => /member/.test(line) && /joined/.test(line));
  });
  await filter.fill("no such words anywhere");
  await eventually("none fits", async () => (await log.locator("li").count()) === 0);
  step("the log is filtered as one types");

  const [download] = await Promise.all([page.waitForEvent("download"), verdict.getByRole("button", { name: "Save a support bundle" }).click()]);
  const bundle = readFileSync(await download.path());
  assert.equal(bundle.subarray(0, 2).toString(), "PK", "a zip");
  assert.ok(bundle.length > 500);
  assert.ok(!bundle.includes(alice.token), "without the token");
  step("a support bundle in one click");

  await page.keyboard.press("p");
  const graph = page.locator(".graph");
  await eventually("three players, all connected, each line with its latency", async () => {
    const players = await graph.locator(".node").count();
    const labels = await graph.locator(".edge text").allTextContents();
    return players === 3 && labels.length === 3 && labels.every((text) => /\d ms/.test(text));
  }, 40_000);
  assert.match(await page.getByRole("table").innerText(), /Bob[\s\S]*Carol/);
  await shot(page, "network-band-1440-dark");
  step("who is connected to whom");

  // Somebody is lost: said once, and the pill on top changes with it.
  await page.keyboard.press("d");
  const events = page.getByRole("region", { name: "What happened" });
  await carol.kill();
  await eventually("it is said", async () => (await events.locator("li", { hasText: "Carol" }).count()) > 0, 15_000);
  await page.waitForTimeout(2_500);
  const said = (await events.locator("li", { hasText: "Carol" }).allInnerTexts()).filter((text) => !/joined|here/i.test(text));
  assert.equal(new Set(said).size, said.length, `once: ${said}`);
  assert.ok(await alice.hears(bob));
  step("a lost bandmate is told once");
}
