// Threads on shared memory: the same bits as one thread, and who starts, fails and ends.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { describe, test } from 'node:test';
import { features, loadModel } from '../web/dist/index.js';
import * as inline from '../web/dist/inline.js';
import { allRows, builds, copyRow, dfError, skipReason, tiny } from './helpers.mjs';
import { NodeWorker } from './node-worker.mjs';
import { conditioned, endless, strokes, tinyModel } from './tiny.mjs';

const plans = {
  pyramid: { length: 6, schedule: 'pyramid', uncertainty: 1.5 },
  autoregressive: { length: 4, schedule: 'autoregressive' },
  'full-sequence with eta': { length: 6, schedule: 'full-sequence', eta: 1 },
  'drawn lengths': { length: 'drawn', maxLength: 6 },
  posterior: { length: 4, posterior: true },
};
const worker = () => new NodeWorker();

for (const build of builds) {
  describe(build, { skip: skipReason(build) }, () => {
    test('any number of threads gives the bits of one', async (t) => {
      const one = await tiny(t, { build });
      for (const [threads, options] of [
        [1, {}],
        [2, {}],
        [3, { worker }],
      ]) {
        // prettier-ignore
        const model = await tiny(t, { build, threads, ...options });
        assert.equal(model.info.threads, threads);
        assert.equal(model.info.build, build);
        for (const [name, plan] of Object.entries(plans)) {
          for (const batch of [1, 17, 40]) {
            // 40 cells are enough for three threads
            const what = `${threads} threads, ${name}, batch ${batch}`;
            const expected = await allRows(one.sampler({ ...plan, batch, seed: 21 }));
            for (const more of [{}, { threads: 1 }, { threads: 2 }, { threads: 100 }]) {
              const sampler = model.sampler({ ...plan, batch, seed: 21, ...more });
              assert.deepEqual(await allRows(sampler), expected, what);
              sampler.dispose();
            }
          }
        }
      }
    });
  });
}

test('threads that slept while the caller did something else wake up', async (t) => {
  const [one, three] = [await tiny(t), await tiny(t, { threads: 3 })];
  const options = { length: 4, batch: 50, schedule: 'full-sequence', seed: 3 };
  const sampler = three.sampler(options);
  const rows = [copyRow(await sampler.state())];
  while (!sampler.done) {
    await new Promise((resolve) => setTimeout(resolve, 5));
    rows.push(copyRow(await sampler.step()));
  }
  assert.deepEqual(rows, await allRows(one.sampler(options)));
});

test('models with threads beside each other, other networks, without end', async (t) => {
  const run = async (options) => {
    const [a, b, c] = await Promise.all(
      [strokes, conditioned, endless].map((config) => tiny(t, options, config)),
    );
    const samplers = [
      a.sampler({ batch: 40, length: 5 }),
      b.sampler({ batch: 40, length: 4 }).condition(0, [1, 2, 3, 4]).observe([1, 0, 2]),
      c.sampler({ batch: 40, length: Infinity, steps: 4 }),
    ];
    const all = [];
    for (let i = 0; i < 8; i++)
      for (const row of await Promise.all(samplers.map((sampler) => sampler.step())))
        all.push(copyRow(row));
    return all;
  };
  const expected = await run({ worker });
  assert.deepEqual(await run({ threads: 2, worker }), expected);
});

test('rows of a worker are copies of their own, in-thread they are views', async (t) => {
  const remote = await tiny(t, { threads: 2, worker });
  const local = await tiny(t, { threads: 2 });
  const there = await remote.sampler({ length: 3 }).run();
  const here = await local.sampler({ length: 3 }).run();
  for (const key of ['levels', 'tokens', 'estimate', 'frames', 'lengths']) {
    assert.ok(there[key].buffer instanceof ArrayBuffer, key);
    assert.ok(here[key].buffer instanceof SharedArrayBuffer, key);
  }
});

test('memory grows under the threads', async (t) => {
  const model = await tiny(t, { threads: 2 });
  const small = model.sampler({ length: 4, batch: 40, seed: 9 });
  const expected = await allRows((await tiny(t)).sampler({ length: 4, batch: 40, seed: 9 }));
  const { heap } = await model.memory();
  const row = await small.step();
  const big = model.sampler({ length: 6, batch: 2000 });
  await big.step();
  assert.ok((await model.memory()).heap > heap);
  assert.deepEqual(copyRow(row), expected[1]);
  assert.deepEqual(copyRow(await small.run()), expected.at(-1));
});

test('wrong numbers are told', async (t) => {
  for (const threads of [0, -1, 1.5, NaN, Infinity, 65, '2', null]) {
    const loading = loadModel(tinyModel(), { threads });
    await assert.rejects(loading, dfError('BAD_ARGUMENT', /threads/), String(threads));
  }
  const both = loadModel(tinyModel(), { threads: 2, workers: 2, worker });
  await assert.rejects(both, dfError('BAD_ARGUMENT', /threads.*workers/));
  const model = await tiny(t, { threads: 2 });
  assert.throws(() => model.sampler({ threads: '2' }), dfError('BAD_ARGUMENT', /threads/));
  for (const threads of [-1, 1.5, 2 ** 40]) {
    const sampler = model.sampler({ threads });
    await assert.rejects(sampler.ready(), dfError('BAD_ARGUMENT', /threads/), String(threads));
  }
});

test('where there are no threads to be had, one computes', async (t) => {
  assert.equal(features().threads, true);
  const sample = async (model) => copyRow(await model.sampler({ length: 3, batch: 20 }).run());
  const expected = await sample(await tiny(t, { build: 'simd' }));
  const alone = async (model) => {
    t.after(() => model.dispose());
    assert.equal(model.info.threads, 1);
    assert.deepEqual(await sample(model), expected);
  };
  const build = 'simd';
  await alone(await tiny(t, { build })); // outside browsers threads come on request only
  await alone(await tiny(t, { build, workers: 1 }));
  await alone(await tiny(t, { build, threads: 3, worker: worker() })); // a worker, not how to make one
  await alone(await inline.loadModel(tinyModel(), { build, threads: 3 }));
  // A module without threads, a helper that does not start
  const plain = readFileSync(new URL('../web/dist/df.simd.wasm', import.meta.url));
  await alone(await tiny(t, { build, threads: 3, wasmBinary: plain }));
  const made = [];
  const second = () => {
    const script = made.length === 1 ? 'data:text/javascript,throw new Error("no")' : undefined;
    made.push(new NodeWorker(script && new URL(script)));
    return made.at(-1);
  };
  await alone(await tiny(t, { build, threads: 3, worker: second }));
  assert.equal(made.length, 3);
  while (!made[2].terminated) await new Promise((resolve) => setTimeout(resolve, 5));
  assert.ok(made[1].terminated && !made[0].terminated);
});

test('the modules can come from elsewhere', async (t) => {
  const file = new URL('../web/dist/df.simd.threads.wasm', import.meta.url);
  const module = await WebAssembly.compile(readFileSync(file));
  for (const options of [
    { wasmUrl: file },
    { wasmUrl: { simd: 'nowhere', 'simd.threads': file } },
    { wasmBinary: { 'simd.threads': module }, worker },
  ]) {
    const model = await tiny(t, { build: 'simd', threads: 2, ...options });
    assert.equal(model.info.threads, 2);
  }
});

test('dispose ends the threads; one that dies ends the model', async () => {
  const made = [];
  const watched = () => (made.push(new NodeWorker()), made.at(-1));
  const model = await loadModel(tinyModel(), { threads: 3, worker: watched });
  assert.equal(made.length, 3);
  model.dispose();
  await new Promise((resolve) => setImmediate(resolve));
  assert.ok(made.every(({ terminated }) => terminated));

  made.length = 0;
  const other = await loadModel(tinyModel(), { threads: 2, worker: watched });
  made[1].dispatchEvent(Object.assign(new Event('error', { cancelable: true }), { message: 'oh' }));
  await assert.rejects(other.sampler().step(), dfError('WRONG_STATE', /oh/));
  await new Promise((resolve) => setImmediate(resolve));
  assert.ok(made.every(({ terminated }) => terminated));
});

test('a program that has used threads ends by itself', () => {
  const program = `
    import { loadModel } from ${JSON.stringify(new URL('../web/dist/index.js', import.meta.url))};
    import { tinyModel } from ${JSON.stringify(new URL('tiny.mjs', import.meta.url))};
    for (const workers of [undefined, 1])
      for (const dispose of [true, false]) {
        const model = await loadModel(tinyModel(), { threads: 3, workers });
        await model.sampler({ batch: 40 }).run();
        console.log(model.info.threads, model.info.workers);
        if (dispose) model.dispose();
      }`;
  const args = ['--input-type=module', '--eval', program];
  const said = execFileSync(process.execPath, args, { encoding: 'utf8', timeout: 30_000 });
  assert.equal(said, '3 0\n3 0\n3 1\n3 1\n');
});
