// Plays one scenario: node run.mjs NAME. `tests/suite/page.rs` plays them all.
import { play } from "./band.mjs";

const name = process.argv[2] ?? "";
if (!/^[a-z_]+$/.test(name)) throw new Error("node run.mjs NAME, after a file in scenarios/");
const { default: scenario } = await import(`./scenarios/${name}.mjs`);
await play(scenario);
