// Who frees what, what stays usable, and that nothing grows.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { loadModel } from '../web/dist/index.js';
import { allRows, copyRow, dfError, tiny, ways } from './helpers.mjs';
import { NodeWorker } from './node-worker.mjs';
import { conditioned, endless, tinyModel } from './tiny.mjs';

for (const [way, options] of Object.entries(ways)) {
  describe(way, () => {
    test('several models at once do not know of each other', async (t) => {
      const models = await Promise.all([
        tiny(t, options),
        tiny(t, options),
        tiny(t, options, conditioned),
      ]);
      const samplers = models.map((model, i) => model.sampler({ length: 3, seed: i }));
      samplers[2].condition(0, [1, 2, 3]).observe([0, 1, 0]);
      const [first, second] = await Promise.all(samplers.map((sampler) => allRows(sampler)));
      models[0].dispose();
      assert.deepEqual(await allRows(models[1].sampler({ length: 3, seed: 0 })), first);
      assert.deepEqual(await allRows(models[1].sampler({ length: 3, seed: 1 })), second);
    });

    test('several samplers of a model take turns', async (t) => {
      const model = await tiny(t, options);
      const plans = [
        { length: 3 },
        { length: 5, schedule: 'autoregressive' },
        { batch: 3, length: 2 },
      ];
      const alone = [];
      for (const plan of plans) alone.push(await allRows(model.sampler(plan)));
      const together = await Promise.all(plans.map((plan) => allRows(model.sampler(plan))));
      assert.deepEqual(together, alone);
    });

    test('after dispose every call says so, but for dispose', async (t) => {
      const model = await tiny(t, options);
      const sampler = model.sampler({ length: 3 });
      await sampler.step();
      sampler.dispose();
      sampler.dispose();
      const gone = dfError('WRONG_STATE', /disposed/);
      await assert.rejects(sampler.step(), gone);
      await assert.rejects(sampler.run(), gone);
      await assert.rejects(sampler.state(), gone);
      await assert.rejects(sampler.ready(), gone);
      await assert.rejects(sampler[Symbol.asyncIterator]().next(), gone);
      assert.throws(() => sampler.keep(0, [1, 2, 3]), gone);
      assert.throws(() => sampler.restart(), gone);

      const other = model.sampler({ length: 3 });
      model.dispose();
      model.dispose();
      assert.throws(() => model.sampler(), gone);
      await assert.rejects(model.memory(), gone);
      await assert.rejects(model.levelTable({ schedule: 'pyramid', length: 2, steps: 2 }), gone);
      await assert.rejects(other.step(), gone);
      other.dispose();
    });

    test('what waits when a model goes is told', async (t) => {
      const model = await tiny(t, options);
      const sampler = model.sampler({
        length: 6,
        batch: 4000, // for longer than the wait below, however late that ends
        schedule: 'autoregressive',
        steps: 100,
      });
      const running = assert.rejects(sampler.run(), dfError('WRONG_STATE', /disposed/));
      const stepping = assert.rejects(sampler.step(), dfError('WRONG_STATE', /disposed/));
      await new Promise((resolve) => setTimeout(resolve, 5));
      model.dispose();
      await Promise.all([running, stepping]);
    });

    test(
      'using disposes',
      { skip: !Symbol.dispose && 'this Node has no Symbol.dispose' },
      async (t) => {
        const model = await tiny(t, options);
        const sampler = model.sampler({ length: 2 });
        sampler[Symbol.dispose]();
        await assert.rejects(sampler.step(), dfError('WRONG_STATE'));
        model[Symbol.dispose]();
        assert.throws(() => model.sampler(), dfError('WRONG_STATE'));
      },
    );

    test('memory comes back, and a step takes none', async (t) => {
      const model = await tiny(t, options);
      const cycle = async () => {
        const sampler = model
          .sampler({ length: 6, batch: 8 })
          .keep(0, [1, 2, 0, 3, 4, 1])
          .restart(4);
        await sampler.ready();
        const { used } = await model.memory();
        for await (const row of sampler) assert.ok(row.row > 0);
        assert.equal((await model.memory()).used, used);
        sampler.dispose();
        await assert.rejects(model.sampler({ length: 3, steps: -1 }).ready());
        const wrong = model.sampler({ length: 3 }).keep(9, [1, 2, 0]);
        await assert.rejects(wrong.ready());
        wrong.dispose();
      };
      await cycle();
      const before = await model.memory();
      for (let i = 0; i < 30; i++) await cycle();
      const after = await model.memory();
      assert.deepEqual(after, before);
    });

    test('an unbounded sequence takes the same memory after 10,000 rows', async (t) => {
      const model = await tiny(t, options, endless);
      const sampler = model.sampler({ length: Infinity, steps: 4 });
      await sampler.step();
      const before = await model.memory();
      const { bytes } = await sampler.ready();
      let row;
      for (let i = 0; i < 10000; i++) row = await sampler.step();
      assert.equal(row.row, 10001);
      assert.ok(row.first > 9000 && row.columns < 100);
      assert.deepEqual(await model.memory(), before);
      assert.equal((await sampler.ready()).bytes, bytes);
    });
  });
}

test('in-thread rows are views until the next call; from a worker they are copies', async (t) => {
  const local = (await tiny(t)).sampler({ length: 3 });
  const first = await local.step();
  const second = await local.step();
  assert.equal(first.tokens.buffer, second.tokens.buffer);

  const remote = (await tiny(t, ways.worker)).sampler({ length: 3 });
  const row = await remote.step();
  const copy = copyRow(row);
  await remote.run();
  assert.deepEqual(copyRow(row), copy);
});

test('views are made anew after the memory has grown', async (t) => {
  const model = await tiny(t);
  const sampler = model.sampler({ length: 4, seed: 9 });
  const expected = await allRows(model.sampler({ length: 4, seed: 9 }));
  const { heap } = await model.memory();
  const row = await sampler.step();
  const big = model.sampler({ length: 6, batch: 2000 });
  await big.ready();
  assert.ok((await model.memory()).heap > heap);
  assert.deepEqual(copyRow(row), expected[1]);
  assert.deepEqual(copyRow(await sampler.run()), expected.at(-1));
});

test('a disposed model lets its worker go', async () => {
  const worker = new NodeWorker();
  const model = await loadModel(tinyModel(), { worker });
  model.dispose();
  assert.equal(worker.terminated, true);
});

test('a worker that cannot start, or breaks, is told', async () => {
  const worker = () => new NodeWorker(new URL('data:text/javascript,throw new Error("broken")'));
  await assert.rejects(loadModel(tinyModel(), { worker }), dfError('WRONG_STATE', /broken/));
});

test('without a worker to be had, the calling thread computes', async (t) => {
  const { getBuiltinModule } = process;
  t.mock.method(process, 'getBuiltinModule', (name) => {
    if (name.includes('threads')) throw new Error('no threads here');
    return getBuiltinModule(name);
  });
  const model = await tiny(t, { inThread: false });
  assert.equal(model.info.workers, 0);
  assert.equal(model.info.worker, false);
  assert.equal((await model.sampler({ length: 2 }).run()).done, true);
});

test('computing in the calling thread lets timers run', async (t) => {
  const model = await tiny(t);
  const sampler = model.sampler({ length: 6, batch: 20, schedule: 'autoregressive', steps: 100 });
  let ticks = 0;
  const timer = setInterval(() => ticks++, 1);
  const start = performance.now();
  await sampler.run();
  clearInterval(timer);
  const time = performance.now() - start;
  assert.ok(ticks >= Math.floor(time / 60), `${ticks} ticks in ${time} ms`);
});
