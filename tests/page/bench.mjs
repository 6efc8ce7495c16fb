// Figures of the page with a band of eight: node bench.mjs [SECONDS]. `./dev bench page` builds and runs it.
import { browserProcesses, cpuSeconds, eventually, Node, openBand, pause, play, step } from "./band.mjs";

const seconds = Number(process.argv[2] ?? 20);

await play(async () => {
  const node = await Node.start("Bench", { command: ["demo", "--bandmates", "7"] });
  await eventually("seven bandmates are heard", async () => (await node.api("GET", "/peers")).filter(({ audio }) => audio?.received > 0).length === 7, 30_000);
  const page = await openBand(node);
  await eventually("seven strips", async () => (await page.locator(".strip.member").count()) === 7);
  // Ages of the meters when drawn: the page keeps them for its own diagnosis and shows them under Health.
  await page.evaluate(() => {
    globalThis.painted = [];
    const { fillRect } = CanvasRenderingContext2D.prototype;
    let last = 0;
    CanvasRenderingContext2D.prototype.fillRect = function (...args) {
      const now = performance.now();
      if (now - last > 8) globalThis.painted.push(now);
      last = now;
      return fillRect.apply(this, args);
    };
  });
  await pause(3_000);
  const before = new Map(browserProcesses().map(({ pid, kind }) => [pid, { kind, cpu: cpuSeconds(pid) }]));
  const own = cpuSeconds(node.child.pid);
  const start = performance.now();
  await page.evaluate(() => (globalThis.painted.length = 0));
  await pause(seconds * 1_000);
  const took = (performance.now() - start) / 1_000;
  const cores = {};
  for (const [pid, { kind, cpu }] of before) {
    try {
      cores[kind] = (cores[kind] ?? 0) + (cpuSeconds(pid) - cpu) / took;
    } catch {
      // It ended meanwhile.
    }
  }
  const nodeCores = (cpuSeconds(node.child.pid) - own) / took;
  const painted = await page.evaluate(() => globalThis.painted.length);
  await page.keyboard.press("d");
  await pause(1_500);
  const figure = await page.locator(".figure", { hasText: "This page" }).innerText();
  const share = (kind) => (cores[kind] ?? 0).toFixed(3);
  step(`8 members, ${took.toFixed(0)} s, 1440 by 900, software drawing (--disable-gpu)`);
  step(`meters drawn ${(painted / took).toFixed(1)} times a second`);
  step(`page says of itself: ${figure.replace(/\s+/g, " ")}`);
  step(`cores: renderer ${share("renderer")}, GPU process ${share("gpu-process")}, browser ${share("browser")}, utility ${share("utility")}`);
  step(`cores: node and seven simulated bandmates ${nodeCores.toFixed(3)}`);
});
