// The same seed gives the same sequence: bit for bit whatever the batch and the thread, and within
// a tolerance whatever the build.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { loadModel } from '../web/dist/index.js';
import { allRows, builds, skipReason, tiny, ways } from './helpers.mjs';
import { strokes, tinyModel } from './tiny.mjs';

const plans = {
  pyramid: { length: 6, schedule: 'pyramid', uncertainty: 1.5 },
  autoregressive: { length: 4, schedule: 'autoregressive' },
  'full-sequence with eta': { length: 6, schedule: 'full-sequence', eta: 1 },
  trapezoid: { length: 5, schedule: 'trapezoid', uncertainty: 2 },
  drawn: { length: 'drawn', maxLength: 6, schedule: 'pyramid' },
  ancestral: { length: 3, ancestral: true, steps: 100 },
  posterior: { length: 4, posterior: true },
  quadratic: { length: 4, grid: 'quadratic' },
};

for (const build of builds) {
  test(
    `${build}: workers and thread give the same bits`,
    { skip: skipReason(build) },
    async (t) => {
      const [local, ...remote] = await Promise.all(
        Object.values(ways).map((way) => tiny(t, { build, ...way })),
      );
      for (const plan of Object.values(plans)) {
        const options = { ...plan, batch: 2, seed: 11 };
        const expected = await allRows(local.sampler(options));
        for (const model of remote) {
          assert.deepEqual(await allRows(model.sampler(options)), expected);
        }
      }
    },
  );

  test(
    `${build}: a batch gives the bits of its sequences one by one`,
    { skip: skipReason(build) },
    async (t) => {
      const model = await tiny(t, { build });
      const batch = 7;
      for (const [name, plan] of Object.entries(plans)) {
        const all = await allRows(model.sampler({ ...plan, batch, seed: 12 }));
        for (let b = 0; b < batch; b++) {
          const alone = await allRows(model.sampler({ ...plan, sequence: b, seed: 12 }));
          alone.forEach((row, m) => {
            for (const key of ['levels', 'tokens', 'estimate', 'frames', 'lengths']) {
              const size = row[key].length;
              const part = all[m][key].slice(b * size, (b + 1) * size);
              assert.deepEqual(part, row[key], `${name}: ${key} of sequence ${b} after row ${m}`);
            }
          });
        }
      }
    },
  );
}

// Within a build, sums run in the same order as in the native library, but relaxed SIMD and AVX
// fuse multiplication and addition and simd128 does not: rounding differs, and sampling carries it
// on.
// The tolerance is in standard deviations of a field.
function assertAgree(found, expected, config, what, tolerance = 1e-5) {
  assert.equal(found.length, expected.length, what);
  const { fields } = config.tokens;
  found.forEach((x, i) => {
    const { std = 1, name } = fields[i % fields.length];
    assert.ok(
      Math.abs(x - expected[i]) <= tolerance * std,
      `${what}, ${name} ${i}: ${expected[i]} and ${x}`,
    );
  });
}

test('relaxed agrees with simd', { skip: skipReason('relaxed') }, async (t) => {
  const [simd, relaxed] = await Promise.all(builds.map((build) => tiny(t, { build })));
  for (const [name, plan] of Object.entries(plans)) {
    const options = { ...plan, batch: 4, seed: 13 };
    const [a, b] = [await allRows(simd.sampler(options)), await allRows(relaxed.sampler(options))];
    a.forEach((row, m) => {
      assert.deepEqual(b[m].levels, row.levels, name);
      assertAgree(b[m].tokens, row.tokens, strokes, `${name}, row ${m}`);
    });
  }
});

const forcing = new URL('../build/native/forcing', import.meta.url).pathname;

/** What `forcing sample` of the native build makes: frames of each sequence. */
function native(
  file,
  { length, schedule, uncertainty, eta, grid, posterior, ancestral, steps, weights },
  seed,
  count,
) {
  const flags = [
    ['--length', length === 'drawn' ? 'drawn' : length],
    ['--schedule', schedule],
    ['--uncertainty', uncertainty],
    ['--eta', eta],
    ['--weights', weights],
    ['--grid', grid],
    ['--steps', ancestral ? undefined : steps],
  ].flatMap(([flag, value]) => (value === undefined ? [] : [flag, String(value)]));
  if (posterior) flags.push('--posterior');
  if (ancestral) flags.push('--ancestral');
  const args = [
    'sample',
    file,
    '--raw',
    '--seed',
    String(seed),
    '--count',
    String(count),
    ...flags,
  ];
  const text = execFileSync(forcing, args, { stdio: ['ignore', 'pipe', 'pipe'] });
  return JSON.parse(text).sequences.map(({ frames }) => frames);
}

const skipNative = existsSync(forcing) ? false : 'build/native/forcing is not built';
for (const build of builds) {
  test(
    `${build} agrees with the native library`,
    { skip: skipNative || skipReason(build) },
    async (t) => {
      const folder = mkdtempSync(join(tmpdir(), 'forcing-'));
      t.after(() => rmSync(folder, { recursive: true }));
      const file = join(folder, 'model.safetensors');
      const config = { ...strokes, tokens: { ...strokes.tokens, present: false } };
      writeFileSync(file, tinyModel(config));
      const model = await tiny(t, { build }, config);
      for (const [name, plan] of Object.entries(plans)) {
        const count = 5;
        const expected = native(file, plan, 14, count);
        const row = await model.sampler({ ...plan, batch: count, seed: 14 }).run();
        for (let b = 0; b < count; b++) {
          const size = expected[b].length * 3;
          assert.equal(size, 6 * row.lengths[b], name);
          const at = b * row.columns * 6;
          assertAgree(
            row.tokens.slice(at, at + size),
            expected[b].flat(),
            config,
            `${name}, sequence ${b}`,
          );
        }
      }
    },
  );
}

// A trained network carries rounding further, from token to token.
const kanji = new URL('../models/kanji/model.safetensors', import.meta.url).pathname;
const skipKanji = skipNative || (existsSync(kanji) ? false : 'models/kanji has no model yet');
for (const build of builds) {
  test(
    `${build} agrees with the native library on kanji`,
    { skip: skipKanji || skipReason(build) },
    async (t) => {
      const model = await loadModel(kanji, { build });
      t.after(() => model.dispose());
      const count = 4;
      for (const plan of [
        { length: 'drawn' },
        { length: 8, schedule: 'full-sequence' },
        { length: 4, schedule: 'autoregressive', steps: 20 },
        { length: 4, schedule: 'autoregressive', steps: 20, weights: 'int8' },
      ]) {
        const expected = native(kanji, plan, 15, count);
        const row = await model.sampler({ ...plan, batch: count, seed: 15 }).run();
        for (let b = 0; b < count; b++) {
          const found = [];
          for (let i = b * row.columns; i < (b + 1) * row.columns; i++) {
            const at = i * row.frameStack * row.fields;
            found.push(...row.tokens.subarray(at, at + row.frames[i] * row.fields));
          }
          // Where a number lies between two of the 14 bits, it may be rounded either way, and
          // sampling carries that on; int8 itself is off by more than this.
          const tolerance = plan.weights === 'int8' ? 5e-2 : 1e-3;
          assertAgree(found, expected[b].flat(), model.config, `sequence ${b}`, tolerance);
        }
      }
    },
  );
}
