// Records the run that the page opens with, after npm run build:
//
//   node web/demo/record.mjs [seed [sequence]]
import { writeFileSync } from 'node:fs';
import process from 'node:process';
import { gzipSync } from 'node:zlib';
import { loadModel } from 'diffusion-forcing';
import { packRun } from './recording.js';
import { Run, shapeOf } from './run.js';
import { defaults } from './state.js';

const here = (path) => new URL(path, import.meta.url);
const model = await loadModel(here('../../models/kanji/model.safetensors'));
const { schedule, steps, uncertainty, eta } = defaults;
const settings = {
  schedule,
  steps,
  uncertainty,
  eta,
  seed: Number(process.argv[2] ?? defaults.seed),
  sequence: Number(process.argv[3] ?? 0),
  ink: null,
};
const run = new Run(settings, shapeOf(model));
await run.fill(model, new AbortController().signal);
if (run.error) throw run.error;
const text = JSON.stringify(packRun(run), null, 2) + '\n';
writeFileSync(here('recorded.json'), text);
console.log(
  `seed ${settings.seed}: ${run.length} tokens, ${run.last} rows, ${gzipSync(text).length} bytes`,
);
model.dispose();
