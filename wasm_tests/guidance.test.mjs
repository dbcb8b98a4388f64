// Guided sampling: terms in the engine and objectives of the caller, wherever the model runs.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { loadModel } from '../web/dist/index.js';
import { allRows, copyRow, dfError, tiny, ways } from './helpers.mjs';
import { path, strokes } from './tiny.mjs';

const plan = { length: 5, schedule: 'pyramid', steps: 6, uncertainty: 1, seed: 3 };
const goal = [9, 2];
const terms = [
  { kind: 'target', x: 'x', y: 'y', at: goal, weight: 0.3 },
  { kind: 'bounds', x: 1, size: [-3, 3], softness: 0.5 },
];
const guidance = { terms, scale: 0.5, levelPower: 0.5, clip: 5, shift: 'token' };

const ramp = (u) => (u <= 0 ? [0, 0] : u < 0.5 ? [u * u, 2 * u] : [u - 0.25, 1]); // softness 0.5

/** What the terms are, in JavaScript. */
function objective(frames, { count, fields }) {
  const gradient = new Float64Array(frames.length);
  let value = 0;
  for (let t = 0; t < count; t++) {
    for (let c = 0; c < 2; c++) {
      const d = frames[t * fields + c] - goal[c];
      value -= (0.3 * d * d) / count;
      gradient[t * fields + c] -= (0.6 * d) / count;
    }
    const y = frames[t * fields + 1];
    const [[below, rise], [above, fall]] = [ramp(-3 - y), ramp(y - 3)];
    value -= below + above;
    gradient[t * fields + 1] += rise - fall;
  }
  return { value, gradient };
}

const near = (a, b, within) =>
  a.forEach((x, i) => assert.ok(Math.abs(x - b[i]) <= within, `${i}: ${x}, ${b[i]}`));

/** J of the tokens of all sequences. */
function final({ tokens, batch, fields }) {
  const size = tokens.length / batch;
  const each = Array.from({ length: batch }, (_, b) => tokens.slice(b * size, (b + 1) * size));
  return each.map((frames) => objective(frames, { count: size / fields, fields }).value);
}

for (const [way, options] of Object.entries(ways)) {
  describe(way, () => {
    test('terms raise J, and every way to go on honours them', async (t) => {
      const model = await tiny(t, options, path);
      const batch = 4;
      const plain = final(await model.sampler({ ...plan, batch }).run());
      const sampler = model.sampler({ ...plan, batch }).guide(guidance);
      const rows = await allRows(sampler);
      final(rows.at(-1)).forEach((J, b) => assert.ok(J > plain[b], `${J} > ${plain[b]}`));
      assert.deepEqual(rows[0].objective, new Float64Array(batch).fill(NaN));
      for (const row of rows.slice(1)) assert.ok(row.objective.every((J) => J < 0));
      assert.equal((await model.sampler(plan).step()).objective, null);
      const shifts = ['exact', 'next', 'token'].map((shift) =>
        model
          .sampler(plan)
          .guide({ ...guidance, shift })
          .run(),
      );
      const ends = (await Promise.all(shifts)).map((row) => row.tokens.join());
      assert.equal(new Set(ends).size, 3);

      assert.deepEqual(copyRow(await sampler.restart().run()), rows.at(-1));
      sampler.restart();
      for (const row of rows.slice(1)) assert.deepEqual(copyRow(await sampler.step()), row);

      const alone = await allRows(model.sampler({ ...plan, sequence: 2 }).guide(guidance));
      const size = alone[0].tokens.length;
      alone.forEach((row, m) => {
        assert.deepEqual(row.tokens, rows[m].tokens.slice(2 * size, 3 * size));
        assert.deepEqual(row.objective, rows[m].objective.slice(2, 3));
      });
    });

    test('a function gives what the same terms give', async (t) => {
      const model = await tiny(t, options, path);
      const batch = way === 'pool' ? 1 : 3; // a pool would share it
      for (const futures of [1, 3]) {
        const all = { ...guidance, futures };
        const given = { ...plan, batch };
        const expected = await allRows(model.sampler(given).guide(all).keep(1, [5, 0, 6, 1]));
        const places = [];
        const own = (frames, place) => {
          places.push(place);
          return objective(frames, place);
        };
        const sampler = model.sampler(given).guide({ ...all, terms: undefined, objective: own });
        const rows = await allRows(sampler.keep(1, [5, 0, 6, 1]));
        rows.forEach((row, m) => {
          near(row.tokens, expected[m].tokens, 1e-4);
          if (m) near(row.objective, expected[m].objective, 1e-4);
          assert.equal(row.done, expected[m].done);
        });
        assert.equal(places.length, (rows.length - 1) * batch * futures);
        const last = { sequence: batch - 1, sample: futures - 1, count: 10, fields: 2 };
        assert.deepEqual(places.at(-1), last);
        assert.deepEqual(copyRow(await sampler.restart().run()), rows.at(-1));
        assert.deepEqual(copyRow(await sampler.run()), rows.at(-1)); // nothing is left

        // One term here, one there.
        const half = (frames, place) => {
          const { value, gradient } = objective(frames, place);
          return { value: value / 2, gradient: Array.from(gradient, (x) => x / 2) };
        };
        const halves = terms.map((term) => ({ ...term, weight: (term.weight ?? 1) / 2 }));
        const both = model.sampler(given).guide({ ...all, terms: halves, objective: half });
        const sum = await both.keep(1, [5, 0, 6, 1]).run();
        near(sum.tokens, expected.at(-1).tokens, 1e-4);
        near(sum.objective, expected.at(-1).objective, 1e-4);
      }
    });

    test('a function that fails leaves the sampler where it is', async (t) => {
      const model = await tiny(t, options, path);
      const one = { ...guidance, terms: undefined };
      const expected = copyRow(
        await model
          .sampler(plan)
          .guide({ ...one, objective })
          .run(),
      );
      let result = objective;
      const sampler = model.sampler(plan);
      sampler.guide({ ...one, objective: (frames, place) => result(frames, place) });
      const numbers = (n, x = 0) => new Float32Array(n).fill(x);
      const cause = new Error('no idea');
      const throws = () => {
        throw cause;
      };
      const wrong = [
        [throws, 'BAD_ARGUMENT', /objective: Error: no idea/],
        [() => undefined, 'BAD_ARGUMENT', /objective.*value.*gradient.*undefined/],
        [() => Promise.resolve(), 'BAD_ARGUMENT'],
        [() => ({ value: '1', gradient: numbers(20) }), 'BAD_ARGUMENT'],
        [() => ({ value: 1 }), 'BAD_ARGUMENT'],
        [() => ({ value: 1, gradient: numbers(19) }), 'BAD_SHAPE', /20 numbers, found 19/],
        [() => ({ value: NaN, gradient: numbers(20) }), 'BAD_VALUE', /value is not/],
        [() => ({ value: 1, gradient: numbers(20, NaN) }), 'BAD_VALUE', /gradient\[0\]/],
        [() => ({ value: 1, gradient: Array(20).fill(1e39) }), 'BAD_VALUE', /gradient\[0\]/],
      ];
      for (const go of [
        () => sampler.step(),
        () => sampler.run(),
        () => sampler[Symbol.asyncIterator]().next(),
      ]) {
        const before = copyRow(await sampler.state());
        for (const [how, code, message] of wrong) {
          result = how;
          await assert.rejects(go(), dfError(code, message));
          assert.deepEqual(copyRow(await sampler.state()), before);
        }
        result = objective;
        await sampler.step();
      }
      result = throws;
      await assert.rejects(sampler.step(), (error) => error.cause === cause);
      result = objective;
      assert.deepEqual(copyRow(await sampler.run()), expected);
      await assert.rejects(sampler.step(), dfError('WRONG_STATE'));

      // An abort between rows, and a sampler that is disposed of in the middle of a row.
      const controller = new AbortController();
      result = (...args) => (controller.abort(), objective(...args));
      await assert.rejects(sampler.restart().run(controller), { name: 'AbortError' });
      assert.equal((await sampler.state()).row, 1);
      assert.deepEqual(copyRow(await sampler.run()), expected);
      result = (...args) => (sampler.dispose(), objective(...args));
      await assert.rejects(sampler.restart().step(), dfError('WRONG_STATE', /disposed/));
    });

    test('sequences of a batch have goals of their own', async (t) => {
      const model = await tiny(t, options, path);
      const batch = 5;
      const at = (x, sequence) => ({ kind: 'at', x: 'x', y: 'y', at: [x, 0], sequence });
      const way = [
        { kind: 'reach', x: 'x', y: 'y', at: [1, 1], softness: 0.5, sequence: 3 },
        { kind: 'then', x: 'x', y: 'y', at: [-1, 1] },
      ];
      const mine = [at(7, 0), ...way, at(-3, 4)]; // none of sequences 1 and 2
      const rows = await allRows(model.sampler({ ...plan, batch }).guide({ terms: mine }));
      const owns = [[at(7)], [], [], way, [at(-3)]];
      for (const [sequence, own] of owns.entries()) {
        const all = own.map((term) => ({ ...term, sequence: undefined }));
        const sampler = model.sampler({ ...plan, sequence });
        if (own.length) sampler.guide({ terms: all });
        const alone = copyRow(await sampler.run());
        const size = alone.tokens.length;
        const found = rows.at(-1).tokens.slice(sequence * size, (sequence + 1) * size);
        if (own.length) assert.deepEqual(found, alone.tokens);
        else near(found, alone.tokens, 1e-4);
        assert.equal(rows.at(-1).objective[sequence], alone.objective?.[0] ?? 0);
      }
    });

    test('guidance changes between rows', async (t) => {
      const model = await tiny(t, options, path);
      const batch = 4;
      const other = { terms: [{ kind: 'at', x: 'x', at: -20 }], scale: 2 };
      const sampler = model.sampler({ ...plan, batch }).guide(guidance);
      const before = copyRow(await sampler.run());
      const { bytes } = await sampler.ready();
      const whole = copyRow(await sampler.restart().guide(other).run());
      assert.equal((await sampler.ready()).bytes, bytes); // no new plan
      assert.ok(whole.tokens[0] < before.tokens[0]);
      const steps = async (n) => {
        for (let i = 0; i < n; i++) await sampler.step();
      };
      await steps((sampler.restart().guide(guidance), 3));
      sampler.guide(other);
      const rows = [copyRow(await sampler.step()), copyRow(await sampler.run())];
      assert.notDeepEqual(rows[1].tokens, whole.tokens);
      assert.notDeepEqual(rows[1].tokens, before.tokens);

      // A share of a pool that fails takes the others back to where it is, by the way they have come.
      const huge = { kind: 'target', x: 'x', at: 1e30, weight: 1e30, sequence: batch - 1 };
      await steps((sampler.restart().guide(guidance), 3));
      assert.deepEqual(copyRow(await sampler.guide(other).step()), rows[0]);
      sampler.guide({ ...other, terms: [...other.terms, huge] });
      await assert.rejects(sampler.step(), dfError('BAD_VALUE', /sequence 3/));
      assert.deepEqual(copyRow(await sampler.state()), rows[0]);
      assert.deepEqual(copyRow(await sampler.guide(other).run()), rows[1]);
    });

    test('wrong guidance', async (t) => {
      const model = await tiny(t, options, path);
      const batch = 4;
      const sampler = model.sampler({ ...plan, batch });
      const term = (more) => ({ terms: [terms[0], { kind: 'disc', x: 'x', y: 'y', ...more }] });
      const thrown = [
        [undefined, /guide.*terms or an objective.*undefined/],
        [null, /guide/],
        [{}, /terms or an objective/],
        [{ terms: [] }, /terms or an objective/],
        [{ terms: {} }, /terms.*array/],
        [{ terms: [5] }, /terms\[0\].*object.*5/],
        [{ terms, objective: 5 }, /objective.*function/],
        [{ terms, scalee: 5 }, /scale, levelPower, clip, futures, shift.*"scalee"/],
        [{ terms, scale: '5' }, /guide\.scale.*number.*"5"/],
        [{ terms, scale: NaN }, /guide\.scale.*NaN/],
        [{ terms, shift: 0 }, /exact, next, token.*0/],
        [{ terms, shift: 'previous' }, /exact, next, token.*"previous"/],
        [term({ kind: 'hole' }), /terms\[1\]\.kind.*reach, then.*"hole"/],
        [term({ kind: undefined }), /terms\[1\]\.kind/],
        [term({ kind: 1 }), /terms\[1\]\.kind/],
        [term({ x: 'z' }), /terms\[1\]\.x.*x, y.*"z"/],
        [term({ wait: 1 }), /terms\[1\].*kind, weight, x, y,.* at, size,.*"wait"/],
        [term({ weight: [1] }), /terms\[1\]\.weight.*number/],
        [term({ at: [1, 2, 3] }), /terms\[1\]\.at.*two/],
        [term({ at: [] }), /terms\[1\]\.at.*two/],
        [term({ at: [1, '2'] }), /terms\[1\]\.at.*two/],
        [term({ size: NaN }), /terms\[1\]\.size.*NaN/],
      ];
      for (const [wrong, message] of thrown)
        assert.throws(() => sampler.guide(wrong), dfError('BAD_ARGUMENT', message));
      const rejected = [
        [{ ...guidance, futures: 0 }, 'BAD_ARGUMENT', /futures.*0/],
        [{ ...guidance, futures: 1.5 }, 'BAD_ARGUMENT', /futures.*1\.5/],
        [{ ...guidance, clip: -1 }, 'BAD_ARGUMENT', /clip -1/],
        [{ ...guidance, scale: Infinity }, 'BAD_ARGUMENT', /scale inf/],
        [term({ x: 2 }), 'BAD_ARGUMENT', /term 1 \(disc\).*x a field/],
        [term({ x: undefined }), 'BAD_ARGUMENT', /term 1 \(disc\).*x a field/],
        [term({ x: 0.5 }), 'BAD_ARGUMENT', /x.*0\.5/],
        [term({ last: 10 }), 'BAD_ARGUMENT', /term 1 \(disc\).*last frame from 0 to 9/],
        [term({ at: Infinity }), 'BAD_VALUE', /term 1 \(disc\).*at\[0\]/],
        [{ terms: [{ kind: 'reach', x: 0 }] }, 'BAD_ARGUMENT', /term 0 \(reach\).*softness above/],
        [term({ sequence: 4 }), 'BAD_ARGUMENT', /term 1 \(disc\).*sequence from 0 to 3.*found 4/],
        [term({ sequence: -2 }), 'BAD_ARGUMENT', /term 1 \(disc\).*sequence from 0 to 3/],
      ];
      if (way === 'pool') rejected.push([{ objective }, 'NOT_SUPPORTED', /one worker/]);
      sampler.guide(guidance);
      for (const [wrong, code, message] of rejected) {
        await assert.rejects(sampler.guide(wrong).ready(), dfError(code, message));
        await sampler.ready(); // told once
      }
      const expected = copyRow(
        await model
          .sampler({ ...plan, batch })
          .guide(guidance)
          .run(),
      );
      assert.deepEqual(copyRow(await sampler.run()), expected); // as it was
      const other = sampler.guide({ ...guidance, futures: 2 }).ready();
      await assert.rejects(other, dfError('WRONG_STATE', /other futures.*first step/));
      const late = model.sampler(plan);
      await late.step();
      await assert.rejects(late.guide(guidance).ready(), dfError('WRONG_STATE', /first step/));
      const drawn = (await tiny(t, options, strokes)).sampler({ length: 'drawn' });
      const dx = [{ kind: 'target', x: 'dx' }];
      await assert.rejects(drawn.guide({ terms: dx }).ready(), dfError('NOT_SUPPORTED', /length/));
    });
  });
}

test('the kanji model draws where it is told to', async (t) => {
  const model = await loadModel(new URL('../models/kanji/model.safetensors', import.meta.url));
  t.after(() => model.dispose());
  const options = { length: 6, steps: 16, seed: 1, batch: 4 };
  const terms = [{ kind: 'target', x: 'x', at: 10 }];
  const distance = ({ tokens, fields }) => {
    const x = tokens.filter((_, i) => i % fields === 0);
    return x.reduce((sum, x) => sum + (x - 10) ** 2, 0) / x.length;
  };
  const plain = distance(await model.sampler(options).run());
  const sampler = model.sampler(options).guide({ terms, scale: 0.01 });
  const guided = distance(await sampler.run());
  assert.ok(guided < 0.8 * plain, `${guided} < 0.8 ${plain}`);
});
