// Planning on and on: tokens that start from where an earlier plan left them, and sequences that go on behind a latent.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { levelTable } from '../web/dist/index.js';
import { allRows, copyRow, dfError, tiny, ways } from './helpers.mjs';
import { conditioned, path, strokes } from './tiny.mjs';

const steps = 6;
const uncertainty = 2;
const length = 5;
const ticks = 3;
const sequences = [0, 1, 2];
const batch = sequences.length;
const long = length + ticks;

const near = (a, b, within, what) => {
  assert.equal(a.length, b.length, what);
  a.forEach((x, i) => assert.ok(Math.abs(x - b[i]) <= within, `${what}, ${i}: ${x}, ${b[i]}`));
};

/** Numbers of tokens from `first` on of one sequence. */
function part({ tokens, frameStack, fields, columns }, sequence, first, count) {
  const size = frameStack * fields;
  const at = (sequence * columns + first) * size;
  return tokens.slice(at, at + count * size);
}

/** Terms that look at the frames of `length` tokens from `first` on. */
function guidance(first) {
  const frames = { first: 2 * first, last: 2 * (first + length) - 1 };
  return {
    terms: [
      { kind: 'at', x: 'x', y: 'y', at: [9, 2], ...frames },
      { kind: 'smooth', x: 'y', ...frames, sequence: 1 },
    ],
    scale: 0.3,
  };
}

/** Where the first plan starts, of two tokens. */
const opening = (sequence) => [1, 2, 3, 4, 5, 6, 7, 8].map((x) => x - sequence);

test('a rolling table', async () => {
  const { rows, levels } = await levelTable({ schedule: 'rolling', length: 4, steps, uncertainty });
  assert.equal(rows, uncertainty + 1);
  assert.deepEqual([...levels], [2, 4, 6, 6, 1, 3, 5, 6, 0, 2, 4, 6]);
  const broken = levelTable({ schedule: 'rolling', length: 4, steps, uncertainty: 1.5 });
  await assert.rejects(broken, dfError('BAD_ARGUMENT', /whole uncertainty.*1\.5/));
});

for (const [way, options] of Object.entries(ways)) {
  describe(way, () => {
    for (const guided of [false, true]) {
      test(`ticks are the cells of one long table${guided ? ', guided' : ''}`, async (t) => {
        const model = await tiny(t, options, path);
        const table = Array.from({ length: uncertainty * ticks + 1 }, (_, row) =>
          Array.from({ length: long }, (_, token) =>
            Math.min(steps, Math.max(0, uncertainty * (token + 1) - row)),
          ),
        );
        const all = model.sampler({ table, steps, allowPartial: true, batch, seed: 3 });
        const plan = { length, schedule: 'rolling', steps, uncertainty, batch, seed: 3 };
        const sampler = model.sampler(plan);
        for (const sequence of sequences) {
          all.start(0, opening(sequence), { sequence });
          sampler.start(0, opening(sequence), { sequence });
        }
        for (let tick = 0; tick < ticks; tick++) {
          if (guided) sampler.guide(guidance(0));
          if (guided) all.guide(guidance(tick));
          const row = copyRow(await sampler.run());
          let expected;
          for (let i = 0; i < uncertainty; i++) expected = copyRow(await all.step());
          for (const sequence of sequences) {
            const what = `tick ${tick}, sequence ${sequence}`;
            const found = part(row, sequence, 0, length);
            near(found, part(expected, sequence, tick, length), guided ? 1e-4 : 2e-5, what);
          }
          const latents = await Promise.all(
            sequences.map((b) => sampler.latent(0, { sequence: b })),
          );
          sampler.restart();
          for (const sequence of sequences) {
            sampler.begin(latents[sequence], { sequence, token: tick + 1 });
            sampler.start(0, part(row, sequence, 1, 2), { sequence, noisy: true });
          }
        }
        assert.equal(all.done, true);
      });
    }

    test('what goes on behind a latent is what goes on behind known tokens', async (t) => {
      const model = await tiny(t, options, conditioned);
      const plan = { schedule: 'pyramid', eta: 1, seed: 5, batch };
      const known = [1, 2, 3, 4, 5, 6]; // three tokens
      const conditions = [1, 2, 3, 4, 5, 6, 7];
      const all = model.sampler({ ...plan, length: 7, conditions }).observe([1, 2, 3]);
      const rest = model.sampler({ ...plan, length: 4, conditions: conditions.slice(3) });
      const latents = [];
      all.observe([0, 0, 5], { sequence: 2 }).keep(0, known).keep(1, [0, 0], { sequence: 1 });
      for (const sequence of sequences) {
        latents.push(await all.latent(2, { sequence }));
        rest.begin(latents[sequence], { sequence, token: 3 });
      }
      assert.equal(latents[0].length, model.latentSize);
      assert.notDeepEqual(latents[0], latents[1]);
      assert.notDeepEqual(latents[0], latents[2]);
      assert.deepEqual(await all.latent(2), latents[0]);
      const [rows, expected] = [await allRows(rest), await allRows(all)];
      assert.equal(rows.length, expected.length);
      for (const [m, row] of rows.entries())
        for (const sequence of sequences)
          assert.deepEqual(part(row, sequence, 0, 4), part(expected[m], sequence, 3, 4));
      const ends = [await rest.latent(3, { sequence: 1 }), await all.latent(6, { sequence: 1 })];
      assert.deepEqual(ends[0], ends[1]);
      assert.deepEqual(copyRow(await rest.restart().run()), rows.at(-1)); // it is remembered
      rest.restart().begin(null).observe([1, 2, 3]);
      assert.notDeepEqual(copyRow(await rest.run()).tokens, rows.at(-1).tokens);
    });

    test('start values', async (t) => {
      const model = await tiny(t, options, path);
      const plan = { length: 3, schedule: 'rolling', steps: 4, uncertainty: 2, batch };
      const sampler = model.sampler(plan);
      await assert.rejects(
        sampler.step(),
        dfError('WRONG_STATE', /sequence 0, token 0.*start value.*level 2, below 4/),
      );
      const frames = [{ x: 1, y: 2 }, { x: 3, y: 4 }]; // prettier-ignore
      sampler.start(0, frames).start(1, frames, { sequence: 1, noisy: true });
      const row = copyRow(await sampler.state());
      assert.deepEqual(part(row, 1, 1, 1), Float32Array.of(1, 2, 3, 4));
      assert.notDeepEqual(part(row, 0, 0, 1), part(row, 1, 0, 1)); // their noise
      assert.deepEqual([...row.estimate.slice(0, 4)], [1, 2, 3, 4]);
      assert.deepEqual([...row.levels.slice(0, 3)], [2, 4, 4]);
      sampler.keep(0, frames, { sequence: 2 });
      assert.deepEqual([...(await sampler.state()).levels.slice(6)], [0, 2, 4]);
      sampler.start(0, frames, { sequence: 2 }); // the last call counts
      const last = copyRow(await sampler.run());
      assert.equal(last.row, 2);
      assert.deepEqual([...last.levels.slice(6)], [0, 2, 4]);
      assert.equal(last.clean, 1);
      assert.equal((await sampler.latent(0)).length, model.latentSize);
    });

    test('wrong calls', async (t) => {
      const model = await tiny(t, options, strokes);
      const sampler = model.sampler({ length: 3, steps: 2, batch });
      const whole = [1, 2, 0, 1, 2, 0];
      const z = new Float32Array(model.latentSize);
      const thrown = [
        [() => sampler.start(0, [1, 2]), 'BAD_SHAPE', /dx, dy, pen/],
        [() => sampler.start('0', whole), 'BAD_ARGUMENT', /token/],
        [() => sampler.begin(z.slice(1)), 'BAD_SHAPE', /latent: expected 24 numbers.*23/],
        [() => sampler.begin(5), 'BAD_ARGUMENT', /latent/],
        [() => sampler.begin(z, { token: 0.5 }), 'BAD_ARGUMENT', /token/],
        [() => sampler.begin(z, { sequence: '1' }), 'BAD_ARGUMENT', /sequence/],
      ];
      for (const [call, code, message] of thrown) assert.throws(call, dfError(code, message));
      const rejected = [
        [() => sampler.start(3, whole).ready(), 'BAD_ARGUMENT', /started token from 0 to 2/],
        [() => sampler.start(0, whole, { sequence: 3 }).ready(), 'BAD_ARGUMENT', /sequence 0 to 2/],
        [() => sampler.start(0, whole, { noisy: true }).ready(), 'NOT_SUPPORTED', /mark/],
        [() => sampler.begin(z.fill(NaN)).ready(), 'BAD_VALUE', /latent: value 0/],
        [() => sampler.begin(null, { token: -1 }).ready(), 'BAD_ARGUMENT', /from 0/],
        [() => sampler.latent(0), 'WRONG_STATE', /sequence 0, token 0 is not clean/],
        [() => sampler.latent(1, { sequence: 2 }), 'WRONG_STATE', /sequence 2, token 0/],
        [() => sampler.latent(3), 'BAD_ARGUMENT', /token from 0 to 2/],
        [() => sampler.latent(0.5), 'BAD_ARGUMENT', /token/],
        [() => sampler.latent(0, { sequence: 3 }), 'BAD_ARGUMENT', /sequence 0 to 2/],
        [() => sampler.latent(0, { sequence: -1 }), 'BAD_ARGUMENT', /sequence 0 to 2/],
      ];
      for (const [call, code, message] of rejected) {
        await assert.rejects(call(), dfError(code, message));
        await sampler.ready(); // told once
      }
      const untouched = copyRow(await model.sampler({ length: 3, steps: 2, batch }).run());
      assert.deepEqual(copyRow(await sampler.run()), untouched);
      await assert.rejects(sampler.start(0, whole).ready(), dfError('WRONG_STATE', /first step/));
      await assert.rejects(sampler.begin(null).ready(), dfError('WRONG_STATE', /first step/));
    });
  });
}
