// Several workers are one: the same bits, the same words, the same order of things.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { availableParallelism } from 'node:os';
import { describe, test } from 'node:test';
import { loadModel } from '../web/dist/index.js';
import * as inline from '../web/dist/inline.js';
import { allRows, copyRow, dfError, tiny, ways } from './helpers.mjs';
import { NodeWorker } from './node-worker.mjs';
import { randomWeights, conditioned, endless, strokes, tinyModel } from './tiny.mjs';
import { writeSafetensors } from './safetensors.mjs';

const plans = {
  pyramid: { length: 6, schedule: 'pyramid', uncertainty: 1.5 },
  'full-sequence with eta': { length: 5, schedule: 'full-sequence', eta: 1 },
  'drawn lengths': { length: 'drawn', maxLength: 6, schedule: 'autoregressive' },
  'a table': { table: [[8, 8, 8], [8, 4, 6], [4, 0, 6], [0, 0, 0]] }, // prettier-ignore
};

test('all rows are those of one thread', async (t) => {
  const local = await tiny(t);
  for (const workers of [1, 2, 3]) {
    const pool = await tiny(t, { workers });
    assert.equal(pool.info.workers, workers);
    assert.equal(pool.info.bytes, workers * local.info.bytes);
    for (const [name, plan] of Object.entries(plans)) {
      for (const batch of [1, 2, 3, 7, 16]) {
        const options = { ...plan, batch, seed: 21, sequence: 4 };
        const what = `${workers} workers, ${name}, batch ${batch}`;
        const prepared = (model) => {
          const sampler = model.sampler(options);
          if (plan.length === 'drawn') sampler.keep(0, [1, 2, 0, 3, 4, 1]);
          return sampler.keep(1, [5, 6, 1, 7, 8, 0], { sequence: batch - 1 });
        };
        const expected = await allRows(prepared(local));
        const sampler = prepared(pool);
        assert.deepEqual(await allRows(sampler), expected, what);
        assert.equal(sampler.done, true);
        await assert.rejects(sampler.step(), dfError('WRONG_STATE'), what);
        // Another seed, not row by row.
        const last = copyRow(await sampler.restart(5).run());
        assert.deepEqual(last, (await allRows(prepared(local).restart(5))).at(-1), what);
        const twin = prepared(local).restart(5);
        await twin.run();
        const { bytes, ...info } = await sampler.ready();
        assert.ok(bytes > 0);
        assert.deepEqual({ ...info, bytes: 0 }, { ...(await twin.ready()), bytes: 0 }, what);
        sampler.dispose();
      }
    }
  }
});

test('an abort of a run finds all sequences in the same row', async (t) => {
  const options = { length: 6, batch: 1000, schedule: 'autoregressive', steps: 100 };
  const sampler = (await tiny(t, { workers: 3 })).sampler(options);
  const twin = (await tiny(t)).sampler(options);
  for (let i = 0; i < 3; i++) {
    const controller = new AbortController();
    setTimeout(() => controller.abort(), 15);
    await assert.rejects(sampler.run(controller), { name: 'AbortError' });
    const row = copyRow(await sampler.state());
    assert.ok(row.row > 0 && !row.done);
    while ((await twin.step()).row < row.row);
    assert.deepEqual(row, copyRow(await twin.state()));
  }
});

test('numbers of sequences go on behind 2^32', async (t) => {
  const options = { length: 3, batch: 3, sequence: 2 ** 32 - 1 };
  const expected = await allRows((await tiny(t)).sampler(options));
  assert.deepEqual(await allRows((await tiny(t, { workers: 3 })).sampler(options)), expected);
});

test('conditions and observations reach their sequences', async (t) => {
  const run = async (model) => {
    const sampler = model.sampler({ length: 3, batch: 5 }).condition(0, [1, 2, 3]);
    sampler.observe([0, 1, 0]).observe([1, 1, 1], { sequence: 3 });
    sampler.condition(1, [9], { sequence: 4 });
    return allRows(sampler);
  };
  const expected = await run(await tiny(t, {}, conditioned));
  assert.deepEqual(await run(await tiny(t, { workers: 2 }, conditioned)), expected);
});

test('what only one worker can do is spread by samplers', async (t) => {
  /** Ids of the samplers that were made on each worker. */
  const made = [];
  class Watched extends NodeWorker {
    made = (made.push([]), made.at(-1));
    postMessage(message, transfer) {
      if (message.method === 'create') this.made.push(message.args[0]);
      super.postMessage(message, transfer);
    }
  }
  const model = await tiny(t, { workers: 2, worker: () => new Watched() }, endless);
  const local = await tiny(t, {}, endless);
  const plan = { length: Infinity, batch: 3, steps: 4 };
  const [a, b] = [model.sampler(plan), model.sampler({ ...plan, seed: 9 })];
  const steps = async (sampler) => {
    const rows = [];
    for (let i = 0; i < 20; i++) rows.push(copyRow(await sampler.step()));
    return rows;
  };
  const together = await Promise.all([steps(a), steps(b)]);
  assert.deepEqual(together[0], await steps(local.sampler(plan)));
  assert.deepEqual(together[1], await steps(local.sampler({ ...plan, seed: 9 })));
  assert.deepEqual(made, [[1], [2]]);
  b.dispose();
  await model.sampler({ length: 2 }).ready();
  await model.sampler({ length: 2, batch: 0 }).ready().catch(() => {}); // prettier-ignore
  await model.sampler({ length: 2 }).ready();
  await model.sampler({ length: 2 }).ready();
  assert.deepEqual(made, [[1], [2, 3, 4, 5, 6]]); // 3 + 1 to 3 sequences
});

describe('a failure', () => {
  test('is told in the words of one thread', async (t) => {
    const [local, pool] = [await tiny(t), await tiny(t, { workers: 3 })];
    const told = async (model, call) => {
      const sampler = model.sampler({ length: 3, batch: 7 });
      const error = await call(sampler).ready().then(assert.fail, (e) => e); // prettier-ignore
      await sampler.ready(); // told once
      return [error.code, error.message];
    };
    for (const call of [
      (sampler) => sampler.keep(9, [1, 2, 0, 1, 2, 0]),
      (sampler) => sampler.keep(0, [1, 2, 0, 1, 2, 0], { sequence: 7 }),
      (sampler) => sampler.keep(0, [1, 2, 0, 1, 2, 0], { sequence: -1 }),
      (sampler) => sampler.keep(0, [NaN, 2, 0, 1, 2, 0], { sequence: 6 }),
    ]) {
      assert.deepEqual(await told(pool, call), await told(local, call));
    }
    const { used } = await pool.memory();
    const wrong = pool.sampler({ length: 3, batch: 7, steps: -1 });
    await assert.rejects(wrong.ready(), dfError('BAD_ARGUMENT', /steps/));
    wrong.dispose();
    assert.equal((await pool.memory()).used < used + 1, true);
  });

  test('leaves all sequences at the row before it', async (t) => {
    // A condition that is missing for one sequence stops its share alone.
    const options = { length: 3, batch: 5, schedule: 'autoregressive', steps: 3 };
    const prepared = (model) => model.sampler(options).observe([0, 1, 0]).condition(0, [1, 2, 3]);
    const partial = (model) => {
      const sampler = model.sampler(options).observe([0, 1, 0]).condition(0, [1]);
      for (let b = 0; b < 4; b++) sampler.condition(1, [2, 3], { sequence: b });
      return sampler; // sequence 4 fails where its token 1 is first visited
    };
    const local = await tiny(t, {}, conditioned);
    const pool = await tiny(t, { workers: 2 }, conditioned);
    const expected = await allRows(prepared(local));
    for (const way of ['step', 'run']) {
      const fails = async (model) => {
        const sampler = partial(model);
        const rows = [];
        const go = async () => {
          if (way === 'run') await sampler.run();
          else for (;;) rows.push(copyRow(await sampler.step()));
        };
        const error = await go().then(assert.fail, (e) => e);
        return [error.code, error.message, rows, copyRow(await sampler.state()), sampler];
      };
      const [a, b] = [await fails(local), await fails(pool)];
      assert.equal(a[0], 'WRONG_STATE');
      assert.match(a[1], /sequence 4/);
      assert.ok(a[3].row > 0, 'after some rows');
      assert.deepEqual(b.slice(0, 4), a.slice(0, 4));
      // And it still fails in the same way, until it starts anew with what was missing.
      const sampler = b[4];
      await assert.rejects(sampler.step(), dfError('WRONG_STATE', /sequence 4/));
      sampler.restart().condition(1, [2, 3], { sequence: 4 });
      assert.deepEqual(await allRows(sampler), expected);
    }
  });

  test('of numbers that leave the range, too', async (t) => {
    const weights = randomWeights(strokes);
    weights['x_from_z.bias'].data.fill(3e38);
    weights['x_from_z.weight'].data.fill(1e37);
    const bytes = writeSafetensors(weights, { config: JSON.stringify(strokes) });
    const told = async (options) => {
      const model = await loadModel(bytes, options);
      t.after(() => model.dispose());
      const sampler = model.sampler({ length: 3, batch: 4 });
      const error = await sampler.run().then(assert.fail, (e) => e);
      return [error.code, (await sampler.state()).row];
    };
    const expected = await told({});
    assert.equal(expected[0], 'BAD_VALUE');
    assert.deepEqual(await told({ workers: 2 }), expected);
  });

  test('of a worker ends all', async () => {
    const made = [];
    const worker = () => {
      made.push(new NodeWorker());
      return made.at(-1);
    };
    const model = await loadModel(tinyModel(), { worker, workers: 3 });
    const sampler = model.sampler({ length: 6, batch: 300, steps: 100 });
    await sampler.step();
    const running = sampler.run();
    const death = Object.assign(new Event('error', { cancelable: true }), { message: 'died' });
    made[1].dispatchEvent(death);
    const told = dfError('WRONG_STATE', /worker failed: died/);
    await assert.rejects(running, told);
    await assert.rejects(sampler.step(), told);
    await assert.rejects(model.sampler({ length: 2 }).step(), told);
    await assert.rejects(model.memory(), told);
    assert.ok(made.every((one) => one.terminated));
    model.dispose();
  });

  test('of a thread of Node, too', async (t) => {
    const threads = [];
    const { getBuiltinModule } = process;
    t.mock.method(process, 'getBuiltinModule', (name) => {
      const module = getBuiltinModule(name);
      if (!module.Worker) return module;
      class Worker extends module.Worker {
        made = threads.push(this);
      }
      return { ...module, Worker };
    });
    const model = await loadModel(tinyModel(), { workers: 2 });
    assert.equal(threads.length, 2);
    await threads[0].terminate();
    await assert.rejects(model.sampler().run(), dfError('WRONG_STATE', /worker failed: it has/));
    await assert.rejects(model.memory(), dfError('WRONG_STATE', /worker failed: it has/));
    model.dispose();
  });

  test('of a worker to start ends the others', async () => {
    const made = [];
    const bad = new URL('data:text/javascript,throw new Error("broken")');
    const worker = () => {
      made.push(new NodeWorker(...(made.length === 1 ? [bad] : [])));
      return made.at(-1);
    };
    const load = loadModel(tinyModel(), { worker, workers: 3 });
    await assert.rejects(load, dfError('WRONG_STATE', /broken/));
    assert.ok(made.every((one) => one.terminated));
  });
});

test('a sampler that goes during a step hurts no other', async (t) => {
  const model = await tiny(t, { workers: 2 });
  const plan = { length: 6, batch: 40 };
  const expected = await allRows(model.sampler(plan));
  const { used } = await model.memory();
  const [gone, stays] = [model.sampler(plan), model.sampler(plan)];
  const step = gone.step();
  const rows = allRows(stays);
  await gone.ready().catch(() => {});
  const other = gone.step().catch((error) => error);
  gone.dispose();
  assert.equal((await step).row, 1);
  await other;
  assert.deepEqual(await rows, expected);
  stays.dispose();
  assert.ok((await model.memory()).used <= used);
});

test('how many', async (t) => {
  const cores = Math.min(availableParallelism(), 8);
  assert.equal((await tiny(t, { workers: 'auto' })).info.workers, cores);
  assert.equal((await tiny(t, ways.worker)).info.workers, 1);
  for (const workers of [0, -1, 1.5, NaN, '2', null, Infinity]) {
    await assert.rejects(
      loadModel(tinyModel(), { workers }),
      dfError('BAD_ARGUMENT', /workers.*auto/),
      String(workers),
    );
  }
  await assert.rejects(
    loadModel(tinyModel(), { workers: 2, inThread: true }),
    dfError('BAD_ARGUMENT', /inThread/),
  );
  await assert.rejects(
    loadModel(tinyModel(), { workers: 2, worker: {} }),
    dfError('BAD_ARGUMENT', /a function/),
  );
});

test('inline has workers in Node, too', async () => {
  const model = await inline.loadModel(tinyModel(), { workers: 2 });
  assert.equal(model.info.workers, 2);
  assert.equal((await model.sampler({ length: 2, batch: 3 }).run()).done, true);
  model.dispose();
});

test('workers keep Node alive for a call, not for ever', () => {
  const script = `
    import { loadModel } from '../web/dist/index.js';
    import { tinyModel } from './tiny.mjs';
    const model = await loadModel(tinyModel(), { workers: 2 });
    const { done } = await model.sampler({ length: 4, batch: 3 }).run();
    console.log(done); // the model is not disposed of`;
  const output = execFileSync('node', ['--input-type=module', '-e', script], {
    cwd: import.meta.dirname,
    encoding: 'utf8',
    timeout: 20000,
  });
  assert.equal(output, 'true\n');
});
