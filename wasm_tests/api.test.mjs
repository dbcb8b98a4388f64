// Every public call does what its text says, in-thread and through the worker's protocol.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { DfError, features, levelTable, loadModel } from '../web/dist/index.js';
import { allRows, copyRow, tiny, ways } from './helpers.mjs';
import { conditioned, endless, observing, parameterShapes, strokes, tinyModel } from './tiny.mjs';

for (const [way, options] of Object.entries(ways)) {
  describe(way, () => {
    test('a model tells what it is', async (t) => {
      const model = await tiny(t, options);
      const shapes = Object.values(parameterShapes(strokes));
      assert.deepEqual(model.config, strokes);
      assert.deepEqual(model.defaults, {
        schedule: 'pyramid',
        steps: 8,
        uncertainty: 1,
        eta: 0,
        stabilization: 0,
        maxLength: 6,
        grid: 'uniform',
      });
      assert.equal(model.frameStack, 2);
      assert.equal(model.levels, 100);
      assert.equal(model.stopHead, true);
      assert.equal(model.conditionSize, 0);
      assert.equal(model.observationSize, 0);
      assert.deepEqual(
        model.fields.map(({ name, binary }) => [name, binary]),
        [['dx', false], ['dy', false], ['pen', true]], // prettier-ignore
      );
      assert.ok(Math.abs(model.fields[2].threshold - 0.4) < 1e-6);

      const { info } = model;
      assert.equal(info.version, '0.1.0');
      assert.equal(info.workers, { 'in-thread': 0, worker: 1, pool: 3, threads: 1 }[way]);
      assert.equal(info.worker, way !== 'in-thread');
      assert.equal(info.threads, way === 'threads' ? 3 : 1);
      const sizes = shapes.map((shape) => shape.reduce((a, b) => a * b));
      assert.equal(info.parameters, sizes.reduce((a, b) => a + b)); // prettier-ignore
      assert.equal(info.modelBytes, tinyModel().length);
      assert.equal(info.build, features().relaxed ? 'relaxed' : 'simd');
      assert.equal(info.isa, info.build === 'simd' ? 'simd128' : 'relaxed');
      assert.ok(info.bytes > 4 * info.parameters);
      assert.ok(info.wasmBytes > 10000);
    });

    test('a row has the shapes and numbers that its text says', async (t) => {
      const model = await tiny(t, options);
      const sampler = model.sampler({
        length: 3,
        steps: 4,
        batch: 2,
        schedule: 'pyramid',
        uncertainty: 1,
      });
      const info = await sampler.ready();
      assert.deepEqual(
        { ...info, bytes: 0 },
        { bytes: 0, rows: 6, columns: 3, batch: 2, steps: 4 },
      );
      assert.ok(info.bytes > 0);

      const rows = await allRows(sampler);
      const levels = rows.map((row) => Array.from(row.levels.subarray(0, 3)));
      const expected = '444 344 234 123 012 001 000'.split(' ');
      assert.deepEqual(levels.map((row) => row.join('')), expected); // prettier-ignore
      for (const [m, row] of rows.entries()) {
        assert.deepEqual(
          [
            row.row,
            row.rows,
            row.batch,
            row.columns,
            row.first,
            row.steps,
            row.frameStack,
            row.fields,
            row.done,
          ],
          [m, 6, 2, 3, 0, 4, 2, 3, m === 6],
        );
        assert.equal(row.tokens.length, 2 * 3 * 2 * 3);
        assert.equal(row.estimate.length, 2 * 3 * 2 * 3);
        assert.ok(row.tokens.every(Number.isFinite));
        assert.equal(row.frames.length, 6);
        assert.ok(row.frames.every((n) => n >= 0 && n <= 2));
        assert.equal(row.lengths.length, 2);
        assert.ok(row.lengths instanceof Int32Array);
      }
      assert.ok(rows.every((row, m) => m === 0 || row.cells > rows[m - 1].cells));
      assert.equal(rows.at(-1).clean, 3);
      assert.deepEqual(Array.from(rows.at(-1).lengths), [3, 3]);
    });

    test('step, run and iteration walk the same rows', async (t) => {
      const model = await tiny(t, options);
      const make = () => model.sampler({ length: 4, steps: 5, seed: 3 });
      const iterated = await allRows(make());
      const stepped = make();
      const rows = [copyRow(await stepped.state())];
      while (!stepped.done) rows.push(copyRow(await stepped.step()));
      assert.deepEqual(rows, iterated);
      assert.deepEqual(copyRow(await make().run()), iterated.at(-1));

      const mixed = make();
      await mixed.step();
      for await (const row of mixed) if (row.row === 3) break;
      assert.equal(mixed.done, false);
      assert.deepEqual(copyRow(await mixed.run()), iterated.at(-1));
      assert.equal(mixed.done, true);
      for await (const row of mixed) assert.fail(`row ${row.row} after the last`);
    });

    test('the seed alone decides, as number or BigInt; restart goes back', async (t) => {
      const model = await tiny(t, options);
      const result = async (seed) => copyRow(await model.sampler({ length: 3, seed }).run());
      const one = await result(1);
      assert.deepEqual(await result(1n), one);
      assert.deepEqual(await result(undefined), await result(0));
      assert.notDeepEqual((await result(2)).tokens, one.tokens);
      assert.notDeepEqual((await result(2n ** 64n - 1n)).tokens, one.tokens);

      const sampler = model.sampler({ length: 3, seed: 2 });
      await sampler.run();
      assert.equal(sampler.restart(1), sampler);
      assert.equal(sampler.done, false);
      assert.equal((await sampler.state()).row, 0);
      assert.deepEqual(copyRow(await sampler.run()), one);
      assert.deepEqual(copyRow(await sampler.restart().run()), one);
    });

    test('known tokens stay as given, at the start, in the middle and at the end', async (t) => {
      const model = await tiny(t, options);
      const frame = (i) => ({ dx: i, dy: -2 * i, pen: i % 2 });
      const sampler = model
        .sampler({ length: 6, steps: 4, batch: 2 })
        .keep(0, [frame(1), frame(2), frame(3), frame(4)]) // two tokens
        .keep(
          3,
          [
            [5, -10, 1],
            [6, -12, 0],
          ],
          { sequence: 1 },
        ) // prettier-ignore
        .keep(5, Float32Array.of(7, -14, 1, 8, -16, 0, 99, 99, 99), { frames: 2 });
      for (const row of await allRows(sampler)) {
        const [first, second] = [0, 1].map((sequence) => model.frames(row, { sequence }));
        assert.deepEqual(row.levels[0], 0);
        for (const frames of [first, second]) {
          assert.deepEqual(
            frames.slice(0, 4).map((f) => Math.round(f.dx)),
            [1, 2, 3, 4],
          );
          assert.deepEqual(
            frames.slice(0, 4).map((f) => f.pen),
            [1, 0, 1, 0],
          );
        }
        const at = (b, token) =>
          Array.from(row.tokens.subarray((b * 6 + token) * 6, (b * 6 + token) * 6 + 2), Math.round);
        assert.deepEqual(at(0, 5), [7, -14]);
        assert.deepEqual(at(1, 5), [7, -14]);
        assert.deepEqual(at(1, 3), [5, -10]);
        if (row.done) assert.notDeepEqual(at(0, 3), [5, -10]);
      }
    });

    test('a sequence may end inside its last token', async (t) => {
      const model = await tiny(t, options);
      const sampler = model.sampler({ length: 2, steps: 3 }).keep(1, [{ dx: 1, dy: 2, pen: 0 }]);
      const row = await sampler.run();
      assert.equal(row.frames[1], 1);
      assert.ok(model.frames(row).length <= 3);
    });

    test('frames gives the frames that are there, binary fields as 0 or 1', async (t) => {
      const model = await tiny(t, options);
      const row = await model.sampler({ length: 3, seed: 4 }).run();
      for (const of of ['tokens', 'estimate']) {
        const { threshold } = model.fields[2];
        const expected = [];
        for (const [token, present] of row.frames.entries()) {
          for (let f = 0; f < present; f++) {
            const at = (2 * token + f) * 3;
            const [dx, dy, pen] = row[of].subarray(at, at + 3);
            expected.push({ dx, dy, pen: pen > threshold ? 1 : 0 });
          }
        }
        assert.deepEqual(model.frames(row, { of }), expected);
      }
    });

    test('a drawn length is told once it is known, and nothing is behind it', async (t) => {
      const model = await tiny(t, options);
      const sampler = model.sampler({
        length: 'drawn',
        maxLength: 5,
        batch: 16,
        schedule: 'autoregressive',
        steps: 3,
      });
      const rows = await allRows(sampler);
      assert.ok(rows[0].lengths.every((n) => n === -1 || n === 0));
      const { lengths, levels, columns, steps } = rows.at(-1);
      assert.ok(lengths.every((n) => n >= 0 && n <= 5));
      assert.ok(new Set(lengths).size > 1, `some end early: ${lengths}`);
      lengths.forEach((length, b) => {
        const row = Array.from(levels.subarray(b * columns, (b + 1) * columns));
        assert.deepEqual(
          row,
          row.map((_, t) => (t < length ? 0 : steps + 1)),
        );
        assert.ok(model.frames(rows.at(-1), { sequence: b }).length <= 2 * length);
      });
      const implied = await allRows(
        model.sampler({ maxLength: 5, batch: 16, schedule: 'autoregressive', steps: 3 }),
      );
      assert.deepEqual(implied, rows);
    });

    test('an unbounded sequence gives its tokens as they become clean', async (t) => {
      const model = await tiny(t, options, endless);
      const sampler = model.sampler({ length: Infinity, steps: 4, uncertainty: 2, seed: 5 });
      const emitted = [];
      for await (const row of sampler) {
        assert.equal(row.rows, Infinity);
        assert.equal(row.done, false);
        assert.ok(row.first <= emitted.length, 'no token leaves before it was seen clean');
        for (; emitted.length < row.clean;) {
          const at = 6 * (emitted.length - row.first);
          emitted.push(row.tokens.slice(at, at + 6));
        }
        if (emitted.length >= 40) break;
      }
      const bounded = await model
        .sampler({ length: 40, steps: 4, uncertainty: 2, seed: 5, schedule: 'pyramid' })
        .run();
      assert.deepEqual(
        emitted.slice(0, 40).flatMap((token) => [...token]),
        [...bounded.tokens],
      );
    });

    test('a table of your own', async (t) => {
      const model = await tiny(t, options);
      const { rows, columns, levels } = await model.levelTable({
        schedule: 'trapezoid',
        length: 4,
        steps: 4,
      });
      const flat = await model.sampler({ table: levels, length: columns, steps: 4, seed: 1 }).run();
      assert.equal(flat.rows, rows - 1);
      const named = await model.sampler({
        schedule: 'trapezoid',
        length: 4,
        steps: 4,
        uncertainty: 1,
        seed: 1,
      });
      assert.deepEqual(copyRow(await named.run()), copyRow(flat));

      const up = [[2, 2], [1, 2], [2, 1], [1, 0], [0, 0]]; // prettier-ignore
      const renoised = await model.sampler({ table: up, steps: 2, allowRenoise: true }).run();
      assert.equal(renoised.row, 4);
    });

    test('conditions and an observation', async (t) => {
      const model = await tiny(t, options, conditioned);
      assert.equal(model.conditionSize, 1);
      assert.equal(model.observationSize, 3);
      const run = async (forces, seen) =>
        copyRow(
          await model.sampler({ length: 4, batch: 2, conditions: forces }).observe(seen).run(),
        ).tokens;
      const base = await run([1, 2, 3, 4], [0.1, 0.2, 0.3]);
      assert.deepEqual(await run(Float32Array.of(1, 2, 3, 4), [0.1, 0.2, 0.3]), base);
      assert.notDeepEqual(await run([1, 2, 3, 5], [0.1, 0.2, 0.3]), base);
      assert.notDeepEqual(await run([1, 2, 3, 4], [0.1, 0.2, 0.4]), base);

      const apart = model.sampler({ length: 4, batch: 2 });
      for (let token = 0; token < 4; token++) apart.condition(token, [token + 1]);
      apart.observe([0.1, 0.2, 0.3], { sequence: 0 }).observe([0.1, 0.2, 0.3], { sequence: 1 });
      assert.deepEqual((await apart.run()).tokens.slice(), base);
    });

    test('an observation in data units', async (t) => {
      const run = async (config, seen) => {
        const model = await tiny(t, options, config);
        const sampler = model.sampler({ length: 4, conditions: [1, 2, 3, 4] }).observe(seen);
        return [model.observationFields, (await sampler.run()).tokens.slice()];
      };
      const [none, base] = await run(conditioned, [-0.5, 0.25, 3]);
      const [fields, tokens] = await run(observing, [0, 0.25, 1.5]);
      const [, named] = await run(observing, [{ v: 1.5, x: 0, y: 0.25 }]);
      assert.deepEqual(none, []);
      assert.deepEqual(fields, [
        { name: 'x', mean: 1, std: 2 },
        { name: 'y', mean: 0, std: 1 },
        { name: 'v', mean: 0, std: 0.5 },
      ]);
      assert.deepEqual(tokens, base);
      assert.deepEqual(named, base);
    });

    test('options change what they say', async (t) => {
      const model = await tiny(t, options);
      const run = async (more) =>
        (await model.sampler({ length: 3, seed: 1, ...more }).run()).tokens.slice();
      const base = await run({});
      assert.notDeepEqual(await run({ eta: 1 }), base);
      assert.notDeepEqual(await run({ posterior: true }), base);
      assert.notDeepEqual(await run({ ancestral: true, steps: 100 }), base);
      assert.notDeepEqual(await run({ stabilization: 10 }), base);
      assert.notDeepEqual(await run({ grid: 'quadratic' }), base);
      assert.deepEqual(await run({ grid: 'uniform' }), base);
      assert.notDeepEqual(await run({ schedule: 'full-sequence' }), base);
      assert.notDeepEqual(await run({ sequence: 1 }), base);
      assert.deepEqual(
        await run({ eta: 0, posterior: false, steps: 8, schedule: 'pyramid', uncertainty: 1 }),
        base,
      );
    });

    test('weights of 8 bits are close to those of 32 and take less memory', async (t) => {
      const config = { ...strokes, denoiser: { ...strokes.denoiser, latent_size: 160 } };
      const model = await tiny(t, options, config);
      const used = [];
      const run = async (weights) => {
        const before = (await model.memory()).used;
        const sampler = model.sampler({ length: 3, seed: 1, weights });
        const tokens = (await sampler.run()).tokens.slice();
        sampler.dispose();
        used.push((await model.memory()).used - before);
        return tokens;
      };
      const base = await run(undefined);
      const bytes = await run('int8');
      assert.deepEqual(await run('f32'), base);
      assert.deepEqual(await run('int8'), bytes);
      assert.notDeepEqual(bytes, base);
      assert.ok(used[1] < used[0] / 3 && used[1] > used[0] / 6, `${used}`);
      assert.ok(used[2] === 0 && used[3] === 0, `${used}`); // kept for the next sampler
      bytes.forEach((x, i) => {
        const { std } = model.fields[i % 3];
        assert.ok(Math.abs(x - base[i]) < 0.1 * std, `${i}: ${base[i]} and ${x}`);
      });
    });

    test('grids visit any number of levels, all of them in the same way', async (t) => {
      const fitted = { ...strokes.sampling, grid: 'fitted', fitted_grid: [0, 10.5, 30, 100] };
      const model = await tiny(t, options, { ...strokes, sampling: fitted });
      assert.equal(model.defaults.grid, 'fitted');
      const run = async (grid, steps) =>
        (await model.sampler({ length: 2, grid, steps }).run()).tokens.slice();
      const grids = ['uniform', 'quadratic', 'fitted'];
      for (const steps of [1, 2, 7, 100]) {
        const [uniform, ...others] = await Promise.all(grids.map((grid) => run(grid, steps)));
        assert.ok(uniform.every(Number.isFinite));
        for (const other of others) {
          // From pure noise to clean at once, or over every level: there is one way only.
          if (steps === 1 || steps === 100) assert.deepEqual(other, uniform);
          else assert.notDeepEqual(other, uniform);
        }
        assert.deepEqual(await run(undefined, steps), others[1]);
      }
    });

    test('memory is told', async (t) => {
      const model = await tiny(t, options);
      model.sampler().dispose(); // the first one arranges the weights for the kernels, once
      const before = await model.memory();
      assert.ok(before.used >= model.info.bytes && before.heap > before.used);
      const sampler = model.sampler({ length: 5 });
      const { bytes } = await sampler.ready();
      const during = await model.memory();
      assert.ok(during.used - before.used >= 0.5 * bytes);
      sampler.dispose();
      assert.equal((await model.memory()).used, before.used);
    });
  });
}

test('levelTable needs no model', async () => {
  const table = await levelTable({ schedule: 'autoregressive', length: 2, steps: 2 });
  assert.deepEqual(table, {
    rows: 5,
    columns: 2,
    steps: 2,
    levels: Int32Array.of(2, 2, 1, 2, 0, 2, 0, 1, 0, 0),
  });
});

test('features are booleans, and asking loads nothing', () => {
  const { simd, relaxed, threads } = features();
  assert.equal(simd, true);
  assert.equal(typeof relaxed, 'boolean');
  assert.equal(typeof threads, 'boolean');
});

test('errors have a code, a message and a hint', async () => {
  const error = await loadModel(new Uint8Array(3)).catch((e) => e);
  assert.ok(error instanceof DfError && error instanceof Error);
  assert.equal(error.name, 'DfError');
  assert.equal(error.code, 'BAD_FILE');
  assert.ok(error.hint.length > 0);
});
