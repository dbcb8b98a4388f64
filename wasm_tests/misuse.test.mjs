// Wrong calls are told clearly, with the same words in-thread and from a worker, and do no harm.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { levelTable, loadModel } from '../web/dist/index.js';
import { copyRow, dfError, tiny, ways } from './helpers.mjs';
import { conditioned, tinyModel } from './tiny.mjs';

// Options that are wrong by type: model.sampler throws.
const wrongTypes = [
  [{ length: '5' }, 'BAD_ARGUMENT', /length.*drawn.*"5"/],
  [{ length: 0 }, 'BAD_ARGUMENT', /length/],
  [{ length: -1 }, 'BAD_ARGUMENT', /length/],
  [{ length: NaN }, 'BAD_ARGUMENT', /length.*NaN/],
  [{ steps: '5' }, 'BAD_ARGUMENT', /steps.*number.*"5"/],
  [{ steps: NaN }, 'BAD_ARGUMENT', /steps/],
  [{ eta: null }, 'BAD_ARGUMENT', /eta.*null/],
  [{ posterior: 1 }, 'BAD_ARGUMENT', /posterior.*boolean/],
  [{ schedule: 3 }, 'BAD_ARGUMENT', /schedule/],
  [{ weights: 8 }, 'BAD_ARGUMENT', /weights.*string/],
  [{ grid: 3 }, 'BAD_ARGUMENT', /grid.*string.*3/],
  [{ seed: -1 }, 'BAD_ARGUMENT', /seed/],
  [{ seed: 0.5 }, 'BAD_ARGUMENT', /seed/],
  [{ seed: 2 ** 53 }, 'BAD_ARGUMENT', /seed.*BigInt/],
  [{ seed: -1n }, 'BAD_ARGUMENT', /seed/],
  [{ seed: 2n ** 64n }, 'BAD_ARGUMENT', /seed/],
  [{ stepz: 5 }, 'BAD_ARGUMENT', /stepz/],
  [{ table: 5 }, 'BAD_ARGUMENT', /table/],
  [{ table: [[1, 1], [0]] }, 'BAD_ARGUMENT', /table\[1\].*2.*1/], // prettier-ignore
  [{ table: [[1, 1.5], [0, 0]] }, 'BAD_ARGUMENT', /table\[0\]\[1\].*1\.5/], // prettier-ignore
  [{ table: Int32Array.of(1, 1, 0), length: 2 }, 'BAD_ARGUMENT', /table.*3 entries/],
  [{ table: Int32Array.of(1, 0), schedule: 'pyramid', length: 1 }, 'BAD_ARGUMENT', /custom/],
  [{ table: [] }, 'BAD_ARGUMENT', /table/],
  [{ conditions: [1] }, 'BAD_ARGUMENT', /no conditions/],
];

// Options that are wrong by value: the first awaited call rejects.
const wrongValues = [
  [{ length: 1.5 }, 'BAD_ARGUMENT', /length.*1\.5/],
  [{ length: 2 ** 40 }, 'BAD_ARGUMENT', /length/],
  [{ steps: 0 }, 'BAD_ARGUMENT'],
  [{ steps: 101 }, 'BAD_ARGUMENT'],
  [{ steps: Infinity }, 'BAD_ARGUMENT', /steps/],
  [{ eta: -0.1 }, 'BAD_ARGUMENT'],
  [{ eta: 1.1 }, 'BAD_ARGUMENT'],
  [{ uncertainty: -1 }, 'BAD_ARGUMENT'],
  [{ batch: 0 }, 'BAD_ARGUMENT'],
  [{ batch: 1.5 }, 'BAD_ARGUMENT', /batch/],
  [{ stabilization: 101 }, 'BAD_ARGUMENT'],
  [{ sequence: -1 }, 'BAD_ARGUMENT', /sequence/],
  [{ ancestral: true, steps: 5 }, 'BAD_ARGUMENT'],
  [{ weights: 'int4' }, 'BAD_ARGUMENT', /weights.*f32, int8.*"int4"/],
  [{ grid: 'cubic' }, 'BAD_ARGUMENT', /uniform, quadratic, fitted.*"cubic"/],
  [{ grid: 'fitted' }, 'NOT_SUPPORTED', /no fitted grid.*forcing tune/],
  [{ schedule: 'pyramids' }, 'BAD_ARGUMENT', /full-sequence, pyramid.*"pyramids"/],
  [{ schedule: 'custom', length: 2 }, 'BAD_ARGUMENT'],
  [{ table: [[8, 8], [9, 7], [0, 0]] }, 'BAD_TABLE', /9/], // prettier-ignore
  [{ table: [[8, 8], [7, 8]] }, 'BAD_TABLE'], // prettier-ignore
  [{ table: [[8], [7], [8], [0]] }, 'BAD_TABLE'], // prettier-ignore
];

for (const [way, options] of Object.entries(ways)) {
  describe(way, () => {
    test('options', async (t) => {
      const model = await tiny(t, options);
      for (const [wrong, code, message] of wrongTypes) {
        const name = Object.keys(wrong)[0];
        assert.throws(() => model.sampler({ length: 2, ...wrong }), dfError(code, message), name);
      }
      for (const [wrong, code, message] of wrongValues) {
        const sampler = model.sampler(wrong);
        await assert.rejects(sampler.ready(), dfError(code, message), JSON.stringify(wrong));
        await assert.rejects(sampler.step(), dfError(code, message), 'and again');
        sampler.keep(0, [0, 0, 0]).dispose();
      }
    });

    test('drawn lengths need a stop head', async (t) => {
      const model = await tiny(t, options, conditioned);
      await assert.rejects(model.sampler({ length: 'drawn' }).ready(), dfError('NOT_SUPPORTED'));
    });

    test('known tokens', async (t) => {
      const model = await tiny(t, options);
      const sampler = model.sampler({ length: 3, steps: 2, batch: 2 });
      const thrown = [
        [[0, []], 'BAD_SHAPE'],
        [[0, [1, 2]], 'BAD_SHAPE', /3 numbers \(dx, dy, pen\).*found 2/],
        [[0, [1, 2, 3, 4]], 'BAD_SHAPE'],
        [[0, [[1, 2]]], 'BAD_SHAPE', /values\[0\]/],
        [[0, [{ dx: 1, dy: 2 }]], 'BAD_ARGUMENT', /values\[0\]\.pen/],
        [[0, ['a', 1, 2]], 'BAD_ARGUMENT', /values\[0\].*"a"/],
        [[0, null], 'BAD_ARGUMENT'],
        [[0, 5], 'BAD_ARGUMENT'],
        [['0', [1, 2, 3]], 'BAD_ARGUMENT', /token/],
        [[0.5, [1, 2, 3]], 'BAD_ARGUMENT', /token/],
        [[2 ** 53, [1, 2, 3]], 'BAD_ARGUMENT', /token/],
        [[0, [1, 2, 3], { sequence: 0.5 }], 'BAD_ARGUMENT', /sequence/],
        [[0, [1, 2, 3], { frames: 2 }], 'BAD_ARGUMENT', /frames/],
        [[0, [1, 2, 3], { frames: 0 }], 'BAD_ARGUMENT', /frames/],
      ];
      for (const [args, code, message] of thrown) {
        assert.throws(() => sampler.keep(...args), dfError(code, message), JSON.stringify(args));
      }
      const whole = [1, 2, 0, 1, 2, 0];
      const rejected = [
        [[3, whole], 'BAD_ARGUMENT'],
        [[-1, whole], 'BAD_ARGUMENT'],
        [[2 ** 52, whole], 'BAD_ARGUMENT'],
        [[0, whole, { sequence: 2 }], 'BAD_ARGUMENT'],
        [[0, whole, { sequence: -1 }], 'BAD_ARGUMENT'],
        [[0, [1, 2, 0]], 'BAD_ARGUMENT'], // half a token, not the last
        [[0, [1, NaN, 0, 1, 2, 0]], 'BAD_VALUE'],
        [[0, [1, Infinity, 0, 1, 2, 0]], 'BAD_VALUE'],
        [[0, [1e39, 0, 0, 1, 2, 0]], 'BAD_VALUE'], // beyond float32
      ];
      for (const [args, code, message] of rejected) {
        await assert.rejects(sampler.keep(...args).ready(), dfError(code, message), String(args));
        await sampler.ready(); // told once
      }
      const untouched = copyRow(await model.sampler({ length: 3, steps: 2, batch: 2 }).run());
      assert.deepEqual(copyRow(await sampler.run()), untouched);
      await assert.rejects(sampler.keep(0, whole).ready(), dfError('WRONG_STATE'));
      assert.throws(() => sampler.condition(0, [1]), dfError('BAD_ARGUMENT'));
      assert.throws(() => sampler.observe([1]), dfError('BAD_ARGUMENT'));
    });

    test('conditions and observations', async (t) => {
      const model = await tiny(t, options, conditioned);
      const sampler = model.sampler({ length: 2 });
      assert.throws(() => sampler.condition(0, []), dfError('BAD_SHAPE'));
      assert.throws(() => sampler.observe([1, 2]), dfError('BAD_SHAPE', /3.*2/));
      assert.throws(() => sampler.observe([1, 2, 3, 4, 5, 6]), dfError('BAD_SHAPE', /3.*6/));
      await assert.rejects(sampler.step(), dfError('WRONG_STATE'));
      await assert.rejects(sampler.condition(0, [1, 2, 3]).ready(), dfError('BAD_ARGUMENT'));
      await assert.rejects(sampler.condition(0, [NaN]).ready(), dfError('BAD_VALUE'));
      await assert.rejects(sampler.observe([1, 2, NaN]).ready(), dfError('BAD_VALUE'));
      const row = await sampler.condition(0, [1, 2]).observe([1, 2, 3]).run();
      assert.equal(row.done, true);
    });

    test('a step too many', async (t) => {
      const model = await tiny(t, options);
      const sampler = model.sampler({ length: 2, steps: 2 });
      const last = copyRow(await sampler.run());
      await assert.rejects(sampler.step(), dfError('WRONG_STATE'));
      assert.deepEqual(copyRow(await sampler.state()), last);
      assert.deepEqual(copyRow(await sampler.run()), last);
    });

    test('calls at once are done in order', async (t) => {
      const model = await tiny(t, options);
      const sampler = model.sampler({ length: 3, steps: 3, seed: 5 });
      const expected = (await model.sampler({ length: 3, steps: 3, seed: 5 }).run()).tokens.slice();
      const steps = Array.from({ length: 5 }, () => sampler.step().then((row) => row.row));
      assert.deepEqual(await Promise.all(steps), [1, 2, 3, 4, 5]);
      assert.deepEqual((await sampler.state()).tokens.slice(), expected);
      const again = [sampler.step(), sampler.restart().step()];
      await assert.rejects(again[0], dfError('WRONG_STATE'));
      assert.equal((await again[1]).row, 1);
    });

    test('an abort between rows leaves the sampler usable', async (t) => {
      const model = await tiny(t, options);
      const plan = { length: 6, batch: 400, schedule: 'autoregressive', steps: 100 };
      const expected = copyRow(await model.sampler(plan).run());
      const controller = new AbortController();
      const { signal } = controller;
      const sampler = model.sampler({ ...plan, signal });

      const reason = new Error('enough');
      setTimeout(() => controller.abort(reason), 10);
      await assert.rejects(sampler.run(), (error) => error === reason);
      await assert.rejects(sampler.step(), (error) => error === reason);
      const { row } = await sampler.state();
      assert.ok(row > 0 && row < 600, `stopped after row ${row}`);
      assert.equal((await sampler.step({ signal: null })).row, row + 1);

      const second = new AbortController();
      const rows = [];
      const loop = async () => {
        for await (const { row } of sampler.iterate({ signal: second.signal })) {
          if (rows.push(row) === 3) second.abort();
        }
      };
      await assert.rejects(loop(), { name: 'AbortError' });
      assert.deepEqual(rows, [row + 2, row + 3, row + 4]);
      assert.deepEqual(copyRow(await sampler.run({ signal: null })), expected);
    });

    test('frames', async (t) => {
      const model = await tiny(t, options);
      const row = await model.sampler({ length: 2 }).run();
      assert.throws(() => model.frames(row, { sequence: 1 }), dfError('BAD_ARGUMENT', /0 to 0/));
      assert.throws(() => model.frames(row, { sequence: '0' }), dfError('BAD_ARGUMENT'));
      assert.throws(() => model.frames(row, { of: 'levels' }), dfError('BAD_ARGUMENT'));
    });

    test('level tables', async (t) => {
      const model = await tiny(t, options);
      for (const table of [model.levelTable.bind(model), levelTable]) {
        const wrong = (more) => table({ schedule: 'pyramid', length: 2, steps: 3, ...more });
        await assert.rejects(wrong({ schedule: 'x' }), dfError('BAD_ARGUMENT', /schedule/));
        await assert.rejects(wrong({ schedule: 'custom' }), dfError('BAD_ARGUMENT'));
        for (const length of [0, -1, 1.5, NaN, Infinity])
          await assert.rejects(wrong({ length }), dfError('BAD_ARGUMENT'));
        for (const steps of [0, -1, 1.5, NaN, Infinity])
          await assert.rejects(wrong({ steps }), dfError('BAD_ARGUMENT'));
        for (const uncertainty of [-1, 4, NaN])
          await assert.rejects(wrong({ uncertainty }), dfError('BAD_ARGUMENT'));
      }
    });
  });
}

test('memory that is not to be had', async (t) => {
  const model = await tiny(t);
  await assert.rejects(
    model.sampler({ length: 1000000, batch: 1000 }).ready(),
    dfError('NO_MEMORY'),
  );
  assert.equal((await model.sampler({ length: 2 }).run()).done, true);
});

test('a model that makes NaN is told where it happens', async () => {
  const bytes = tinyModel();
  const size = Number(new DataView(bytes.buffer).getBigUint64(0, true));
  new DataView(bytes.buffer).setFloat32(8 + size, NaN, true);
  await assert.rejects(loadModel(bytes), dfError('BAD_VALUE', /model\.time_mlp\.1\.weight/));
});
