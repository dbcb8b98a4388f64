// What guidance costs: a guided row of the kanji model over an unguided one in which all tokens fall, the
// kinds taking turns row by row. The mean of a run's rows, because rows computed ahead come in bunches;
// of that the median over the runs. node tools/bench/guided.mjs
import { loadModel } from '../../web/dist/index.js';
import { median } from './measure.mjs';

const terms = [
  { kind: 'target', x: 'x', at: 10 },
  { kind: 'smooth', x: 'x', y: 'y' },
];
const objective = (frames) => ({ value: 0, gradient: new Float32Array(frames.length) });
const kinds = {
  'unguided, ahead: 0': null,
  unguided: null,
  terms: { terms },
  'a function': { objective },
  'terms, 4 futures': { terms, futures: 4 },
};
const [steps, runs] = [40, 5];

const model = await loadModel(new URL('../../models/kanji/model.safetensors', import.meta.url));
console.log(`Node ${process.version}, ${model.info.isa}, ${model.defaults.maxLength} tokens`);
for (const batch of [1, 8]) {
  const options = { length: model.defaults.maxLength, schedule: 'full-sequence', steps, batch };
  const sides = Object.entries(kinds).map(([name, guidance]) => {
    const sampler = model.sampler(/ahead/.test(name) ? { ...options, ahead: 0 } : options);
    if (guidance) sampler.guide({ ...guidance, scale: 1e-3, shift: 'token' });
    return { name, sampler, times: [] };
  });
  for (let run = 0; run <= runs; run++) {
    const sums = sides.map(() => 0);
    for (const { sampler } of sides) sampler.restart();
    for (let row = 0; row < steps; row++)
      for (const [i, { sampler }] of sides.entries()) sums[i] += (await sampler.step()).ms;
    if (run > 0) sides.forEach(({ times }, i) => times.push(sums[i] / steps)); // the first warms up
  }
  const unguided = median(sides[0].times);
  for (const { name, times } of sides) {
    const ms = median(times);
    const ratio = (ms / unguided).toFixed(2);
    console.log(`batch ${batch}, ${name}: ${ms.toFixed(2)} ms a row, ${ratio} times`);
  }
  for (const { sampler } of sides) sampler.dispose();
}
model.dispose();
