// Writes src/api/schema.ts, the types of the control interface, from openapi.json.
//
//   npm run types              from the saved description
//   npm run types -- FILE|URL  saves that description first, such as http://127.0.0.1:7780/api/v1/openapi.json
//   npm run types -- --check   writes nothing; fails if schema.ts is not what it would write
import { readFile, writeFile } from "node:fs/promises";
import openapiTS, { astToString } from "openapi-typescript";

const saved = new URL("../openapi.json", import.meta.url);
const target = new URL("../src/api/schema.ts", import.meta.url);
const argument = process.argv[2];

if (argument && argument !== "--check") {
  const text = argument.startsWith("http")
    ? await (await fetch(argument)).text()
    : await readFile(argument, "utf8");
  await writeFile(saved, `${JSON.stringify(JSON.parse(text), null, 2)}\n`);
}
const description = JSON.parse(await readFile(saved, "utf8"));
const head = "// Made by `npm run types` from openapi.json. Do not edit.\n\n";
const made = head + astToString(await openapiTS(description));
if (argument === "--check") {
  if ((await readFile(target, "utf8")) !== made) {
    console.error("src/api/schema.ts is not made from openapi.json: npm run types");
    process.exit(1);
  }
} else {
  await writeFile(target, made);
}
