// The benchmark: npm run bench [-- --only SECTION]... [--quick] [--list]
//
// Measures section by section, keeps each result in build/bench/results.json with its date and
// machine, and writes RESULTS.md and results.svg beside this file from what is there. --only runs
// sections whose names begin so and leaves the others' results. --quick tries everything in little
// time: the figures are worth nothing and go to build/bench. Ctrl-C keeps the sections that are done.
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { join } from 'node:path';
import { chart } from './chart.mjs';
import { models, transformers } from './cases.mjs';
import { modelFile } from './network.mjs';
import { report } from './report.mjs';
import { sections } from './sections.mjs';

const folder = 'build/bench';
const args = process.argv.slice(2);
const only = args.filter((_, i) => args[i - 1] === '--only');
const how = args.includes('--quick') ? 'quick' : 'full';
const known = (arg, i) => ['--only', '--quick', '--list'].includes(arg) || args[i - 1] === '--only';
const names = Object.keys(sections).filter(
  (name) => !only.length || only.some((begin) => name.startsWith(begin)),
);

if (args.includes('--list')) {
  console.log(Object.keys(sections).join('\n'));
} else if (!args.every(known) || !names.length) {
  console.error('npm run bench -- [--only SECTION]... [--quick] [--list]');
  process.exitCode = 2;
} else {
  process.on('SIGINT', () => process.exit(130));
  await main();
}

async function main() {
  const place = how === 'quick' ? folder : import.meta.dirname;
  const store = join(folder, `results-${how}.json`);
  mkdirSync(folder, { recursive: true });
  for (const [name, config] of Object.entries({ ...models, ...transformers })) {
    writeFileSync(join(folder, `${name}.safetensors`), modelFile(config));
  }
  const results = existsSync(store) ? JSON.parse(readFileSync(store, 'utf8')) : {};
  const machine = `${cpus()[0].model.trim()}, ${cpus().length} cores`;
  const begin = performance.now();
  for (const name of names) {
    const start = performance.now();
    try {
      const data = await sections[name](how, (text) => show(`${name}: ${text}`));
      results[name] = { date: new Date().toISOString().slice(0, 10), machine, data };
    } catch (error) {
      show('');
      console.error(`${name}: ${error.message}`);
      process.exitCode = 1;
      return;
    }
    show('');
    const seconds = ((performance.now() - start) / 1000).toFixed(0);
    console.log(`${name.padEnd(18)} ${seconds.padStart(4)} s`);
    writeFileSync(store, JSON.stringify(results, null, 1));
    writeFileSync(join(place, 'RESULTS.md'), report(results));
    writeFileSync(join(place, 'results.svg'), chart(results));
  }
  const minutes = ((performance.now() - begin) / 60000).toFixed(1);
  console.log(`${minutes} min; written: ${join(place, 'RESULTS.md')}, results.svg`);
}

/** Progress in one line, on a terminal only. */
function show(text) {
  if (process.stdout.isTTY) process.stdout.write(`\r\x1b[K${text.slice(0, 100)}`);
}
