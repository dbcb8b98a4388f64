// model.verify(): the package against what PyTorch computed, and the command that prints it.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { loadModel } from '../web/dist/index.js';
import { builds, dfError, skipReason, ways } from './helpers.mjs';
import { bytesPair, goldenPair } from './pair.mjs';

const command = fileURLToPath(new URL('../web/bin/diffusion-forcing.mjs', import.meta.url));

/** Loads a model for the length of a test. */
async function load(t, model, options) {
  const loaded = await loadModel(model, options);
  t.after(() => loaded.dispose());
  return loaded;
}

const output = ({ outputs }, name) => outputs.find((one) => one.name === name);

for (const build of builds) {
  test(`the authors' network is verified: ${build}`, { skip: skipReason(build) }, async (t) => {
    for (const b of [0, 1, 2]) {
      const { model, reference } = goldenPair({ b });
      const result = await (await load(t, model, { build })).verify(reference);
      assert.equal(result.ok, true, JSON.stringify(result));
      assert.equal(result.weights, 'f32');
      const names = result.outputs.map(({ name }) => name);
      assert.deepEqual(names, ['out.z0', 'out.output', 'out.z', 'out.frames']);
      for (const { name, largest, absolute, relative, tolerance, ok } of result.outputs) {
        assert.ok(ok && largest > 0 && tolerance > 0 && tolerance < 1e-4 * largest, name);
        assert.ok(absolute <= tolerance && relative === absolute / largest, name);
      }
    }
  });

  test(`weights of 8 bits are verified: ${build}`, { skip: skipReason(build) }, async (t) => {
    const { model, reference } = bytesPair();
    const loaded = await load(t, model, { build });
    const result = await loaded.verify(reference);
    assert.equal(result.ok, true, JSON.stringify(result));
    assert.equal(result.weights, 'int8');
    assert.equal(result.outputs.length, 7);
    const { relative, tolerance, ok } = output(result, 'f32.output');
    assert.ok(relative > 1e-4 && relative < 0.1, `${relative}`); // what rounding costs
    assert.ok(tolerance === null && ok);
  });
}

for (const [way, options] of Object.entries(ways)) {
  describe(way, () => {
    test('a weight that is changed is found', async (t) => {
      const { reference } = goldenPair();
      const model = await load(t, goldenPair({ change: 0.01 }).model, options);
      const result = await model.verify(reference);
      assert.equal(result.ok, false);
      assert.deepEqual(
        result.outputs.map(({ ok }) => ok),
        [true, false, true, true],
      );
      assert.equal((await model.verify(reference, { tolerance: 0.5 })).ok, true);
    });

    test('arithmetic in 8 bits is judged only by a tolerance', async (t) => {
      const { model, reference } = goldenPair();
      const loaded = await load(t, model, options);
      const result = await loaded.verify(reference, { weights: 'int8' });
      assert.ok(result.ok && result.outputs.every(({ tolerance }) => tolerance === null));
      const strict = await loaded.verify(reference, { weights: 'int8', tolerance: 1e-9 });
      assert.equal(strict.ok, false);
      const { largest, tolerance } = output(strict, 'out.z');
      assert.equal(tolerance, 1e-9 * largest);
    });

    test('what is wrong rejects, and the model goes on', async (t) => {
      const { model, reference } = goldenPair();
      const loaded = await load(t, model, options);
      await loaded.verify(reference);
      const { used } = await loaded.memory();
      await assert.rejects(loaded.verify(new Uint8Array()), dfError('BAD_FILE', /^reference: /));
      await assert.rejects(loaded.verify(reference.subarray(0, -1)), dfError('BAD_FILE'));
      await assert.rejects(loaded.verify(model), dfError('BAD_FILE', /format: expected "diff/));
      await assert.rejects(
        loaded.verify(goldenPair({ name: 'rnn_mlp_nogru' }).reference),
        dfError('BAD_SHAPE', /in\.x: expected shape \(B, T, 9\), found \(1, 1, 6\)/),
      );
      await assert.rejects(
        loaded.verify(goldenPair({ format: 'f16' }).reference),
        dfError('BAD_FILE', /f32 weights, found one made for f16/),
      );
      await assert.rejects(
        loaded.verify(reference, { weights: 'f16' }),
        dfError('BAD_ARGUMENT', /weights: expected f32, int8/),
      );
      for (const tolerance of [-1, NaN, '0.1'])
        await assert.rejects(loaded.verify(reference, { tolerance }), dfError('BAD_ARGUMENT'));
      await assert.rejects(loaded.verify('no/such/file'), dfError('IO'));
      await assert.rejects(loaded.verify(7), dfError('BAD_ARGUMENT'));
      const signal = AbortSignal.abort(new Error('enough'));
      await assert.rejects(loaded.verify(reference, { signal }), /enough/);
      assert.equal((await loaded.verify(reference)).ok, true);
      assert.equal((await loaded.memory()).used, used);
      loaded.dispose();
      await assert.rejects(loaded.verify(reference), dfError('WRONG_STATE'));
    });
  });
}

test('the command prints a table', (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'verify-'));
  t.after(() => rmSync(folder, { recursive: true }));
  const { model, reference } = goldenPair();
  const changed = goldenPair({ change: 0.01 });
  writeFileSync(join(folder, 'model.safetensors'), model);
  writeFileSync(join(folder, 'reference.safetensors'), reference);
  writeFileSync(join(folder, 'other.safetensors'), changed.model);
  const run = (...args) => {
    const { status, stdout, stderr } = spawnSync('node', [command, ...args], { encoding: 'utf8' });
    return { status, stdout, stderr };
  };
  const good = run('verify', folder);
  assert.equal(good.status, 0, good.stderr);
  assert.match(good.stdout, /^output +largest +absolute +relative +limit +ok\nout\.z0 /);
  assert.match(good.stdout, /\nout\.output( +[\d.e-]+){4} +yes\n/);
  assert.match(good.stdout, /\nok: the model computes what PyTorch did \(f32 weights, f32 arith/);
  assert.equal(good.stderr, '');

  const bad = run('verify', join(folder, 'other.safetensors'));
  assert.equal(bad.status, 1);
  assert.match(bad.stdout, /\nout\.output( +[\d.e-]+){4} +NO\n/);
  assert.match(bad.stdout, /\nFAILED: more than the limit: out\.output \(/);
  assert.equal(run('verify', join(folder, 'other.safetensors'), '--tolerance', '0.5').status, 0);

  const bytes = run('verify', folder, '--weights', 'int8', '--threads', '2');
  assert.equal(bytes.status, 0, bytes.stderr);
  assert.match(bytes.stdout, /\nout\.output( +[\d.e-]+){3} +- +-\n/);
  assert.match(bytes.stdout, /\nreported, not judged/);

  for (const [status, message, ...args] of [
    [0, /^$/, '--help'],
    [1, /no such file/, 'verify', join(folder, 'none')],
    [1, /reference: format/, 'verify', folder, '--reference', join(folder, 'model.safetensors')],
    [2, /Usage/],
    [2, /Usage/, 'sample', folder],
    [2, /Usage/, 'verify', folder, folder],
    [2, /--toler/, 'verify', folder, '--toler', '1'],
    [2, /--tolerance: expected a number, found "x"/, 'verify', folder, '--tolerance', 'x'],
    [2, /tolerance: expected a number, 0 or more/, 'verify', folder, '--tolerance=-1'],
    [2, /weights: expected f32, int8, found "f64"/, 'verify', folder, '--weights', 'f64'],
  ]) {
    const result = run(...args);
    assert.equal(result.status, status, `${args}: ${result.stderr}`);
    assert.match(result.stderr, message);
  }
});
