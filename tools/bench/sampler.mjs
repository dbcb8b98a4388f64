// What the sampler does with whole tables of levels and whole batches: rows ahead, workers, threads.
// Measured inside one JavaScript engine, as suite.mjs.
import { ahead, parallel, plan } from './cases.mjs';
import { agree, median, now } from './measure.mjs';
import { loadModel } from '../../web/dist/index.js';

/** All rows of a sampler: seconds, seconds to the first row, and the last row. */
async function walk(model, options) {
  const sampler = model.sampler(options);
  await sampler.ready();
  const start = now();
  await sampler.step();
  const first = now() - start;
  const row = await sampler.run();
  const result = { seconds: now() - start, first, tokens: row.tokens.slice() };
  sampler.dispose();
  return result;
}

/** Row by row against rows computed ahead, the same table of levels. */
export async function measureAhead({ read, effort, say }) {
  const rows = [];
  for (const { name, batches } of ahead) {
    const model = await loadModel(await read(`build/bench/${name}.safetensors`), {
      inThread: true,
    });
    for (const batch of batches) {
      for (const uncertainty of plan.uncertainties) {
        const { length, steps } = plan;
        const options = { length, steps, schedule: 'pyramid', uncertainty, batch };
        const times = { plain: [], ahead: [] };
        for (let round = 0; round < (batch < 8 ? effort.planRounds : 1); round++) {
          say(
            `rows ahead: ${name}, batch ${batch}, uncertainty ${uncertainty}, round ${round + 1}`,
          );
          const plain = await walk(model, { ...options, ahead: 0 });
          const found = await walk(model, options);
          agree('rows ahead', found.tokens, plain.tokens, 0);
          times.plain.push(plain);
          times.ahead.push(found);
        }
        const of = (way, what) => median(times[way].map((time) => time[what]));
        rows.push({
          name,
          batch,
          uncertainty,
          plain: of('plain', 'seconds'),
          ahead: of('ahead', 'seconds'),
          firstPlain: of('plain', 'first'),
          firstAhead: of('ahead', 'first'),
        });
      }
    }
    model.dispose();
  }
  return rows;
}

/** One worker against several, and against threads that share its memory. */
export async function measureParallel({ read, effort, say }) {
  const { name, sampler, batches, ways } = parallel;
  const file = await read(`build/bench/${name}.safetensors`);
  const rows = [];
  const models = {};
  for (const [way, load] of Object.entries(ways))
    models[way] = await loadModel(file, { inThread: false, ...load });
  for (const batch of batches) {
    const times = Object.fromEntries(Object.keys(ways).map((way) => [way, []]));
    for (let round = -1; round < effort.parallelRounds; round++) {
      let expected;
      for (const [way, model] of Object.entries(models)) {
        say(`${way}, batch ${batch}, round ${round + 1}`);
        const { seconds, tokens } = await walk(model, { ...sampler, batch });
        agree(way, tokens, (expected ??= tokens), 0);
        if (round >= 0) times[way].push(seconds); // the first one warms up
      }
    }
    const [one] = Object.values(times);
    rows.push({
      batch,
      seconds: Object.fromEntries(Object.entries(times).map(([way, t]) => [way, median(t)])),
      faster: Object.fromEntries(
        Object.entries(times).map(([way, t]) => [way, median(t.map((s, i) => one[i] / s))]),
      ),
    });
  }
  for (const model of Object.values(models)) model.dispose();
  return rows;
}
