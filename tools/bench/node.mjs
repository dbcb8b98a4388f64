// Runs one measurement of suite.mjs or sampler.mjs in this Node: node tools/bench/node.mjs NAME full|quick
// Progress goes to stderr, the result as JSON to stdout.
import { readFile } from 'node:fs/promises';
import { effort } from './cases.mjs';
import * as sampler from './sampler.mjs';
import * as suite from './suite.mjs';

const [name, how] = process.argv.slice(2);
const read = (path) => readFile(new URL(`../../${path}`, import.meta.url));
const result = await { ...suite, ...sampler }[name]({
  read,
  effort: effort[how],
  say: (text) => process.stderr.write(`${text}\n`),
});
process.stdout.write(JSON.stringify({ version: process.versions.node, result }));
