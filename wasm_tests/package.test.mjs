// The package as it is published: what is in it, and what importing it does.
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const dist = join(root, 'web/dist');
const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));

test('the manifest names files that exist', () => {
  const paths = Object.values(manifest.exports).flatMap((entry) =>
    typeof entry === 'string' ? [entry] : Object.values(entry),
  );
  for (const path of [...paths, manifest.types, ...Object.values(manifest.bin)])
    assert.ok(existsSync(join(root, path)), path);
  assert.deepEqual(manifest.dependencies ?? {}, {});
});

test('importing does nothing and leaves nothing behind', () => {
  const script = `
    const before = Object.getOwnPropertyNames(globalThis);
    for (const name of ['fetch', 'Worker', 'setTimeout', 'MessageChannel']) {
      globalThis[name] = () => { throw new Error(name + ' was called'); };
    }
    for (const name of ['compile', 'instantiate', 'validate']) {
      WebAssembly[name] = () => { throw new Error(name + ' was called'); };
    }
    const index = await import('diffusion-forcing');
    const inline = await import('diffusion-forcing/inline');
    const viewer = await import('diffusion-forcing/viewer');
    const after = Object.getOwnPropertyNames(globalThis).filter((name) => !before.includes(name));
    console.log(JSON.stringify({ index: Object.keys(index), inline: Object.keys(inline), viewer: Object.keys(viewer), after }));
  `;
  const output = execFileSync('node', ['--input-type=module', '-e', script], {
    cwd: root,
    encoding: 'utf8',
  });
  const names = ['DfError', 'features', 'levelTable', 'loadModel'];
  const { index, inline, viewer, after } = JSON.parse(output);
  assert.deepEqual(index.sort(), names);
  assert.deepEqual(inline.sort(), names);
  assert.deepEqual(viewer.sort(), ['ForcingViewer', 'createViewer']);
  assert.deepEqual(
    after.filter((name) => name !== 'Worker'),
    [],
  );
});

test('neither eval nor generated code', () => {
  for (const file of readdirSync(dist).filter((name) => name.endsWith('.js'))) {
    assert.doesNotMatch(readFileSync(join(dist, file), 'utf8'), /\beval\(|new Function\b/, file);
  }
});

test('the types tell a user what goes in and what comes out', () => {
  const folder = mkdtempSync(join(tmpdir(), 'forcing-'));
  const compilerOptions = {
    strict: true,
    noEmit: true,
    target: 'es2022',
    module: 'nodenext',
    lib: ['es2022', 'esnext.disposable', 'dom'],
    types: [],
  };
  writeFileSync(
    join(folder, 'tsconfig.json'),
    JSON.stringify({ compilerOptions, files: ['user.mts'] }),
  );
  const check = (code) => {
    const path = JSON.stringify(join(dist, 'index.js'));
    writeFileSync(join(folder, 'user.mts'), code.replaceAll("'diffusion-forcing'", path));
    return spawnSync(join(root, 'node_modules/.bin/tsc'), ['-p', folder], { encoding: 'utf8' });
  };
  const good = `
    import { DfError, loadModel, levelTable, features } from 'diffusion-forcing';
    import type { Frame, LevelTable, Progress, Row, Sampler, Verification } from 'diffusion-forcing';
    const onProgress = ({ loaded, total }: Progress) => loaded / (total ?? 1);
    const model = await loadModel(new URL('https://example.org/model'), { onProgress, workers: 'auto' });
    const workers: number = model.info.workers;
    const sampler: Sampler = model.sampler({ length: 'drawn', seed: 7n, batch: 2 });
    sampler.keep(0, [{ dx: 1, dy: 2, pen: 0 }]).keep(1, new Float32Array(6), { sequence: 1 });
    for await (const { levels, tokens } of sampler) levels.fill(tokens[0]);
    const row: Row = await sampler.run({ signal: AbortSignal.timeout(5) });
    const frames: Frame[] = model.frames(row);
    const table: LevelTable = await levelTable({ schedule: 'pyramid', length: 4, steps: 9 });
    const relaxed: boolean = features().relaxed;
    const { ok, outputs }: Verification = await model.verify('reference', { weights: 'int8' });
    const most: number = Math.max(...outputs.map(({ relative }) => relative));
    const mean: number | undefined = model.observationFields[0]?.mean;
    const code: string = new DfError('IO', 'x').code;
    using other = model.sampler();
    export { frames, table, relaxed, code, workers, ok, most, mean };
  `;
  try {
    const { status, stdout } = check(good);
    assert.equal(status, 0, stdout);
    const slips = [
      ["'drawn'", "'long'"],
      ['batch: 2', 'batches: 2'],
      ['dx: 1', "dx: 'a'"],
      ["'pyramid'", "'pyramids'"],
      ["'auto'", "'all'"],
      ["'int8'", "'int4'"],
    ];
    for (const [from, to] of slips) {
      assert.notEqual(check(good.replace(from, to)).status, 0, `${to} passes`);
    }
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test('the relaxed build uses no relaxed instruction but those that are probed', (t) => {
  const disassembler = join(root, '.tools/bin/wasm-dis');
  if (!existsSync(disassembler)) return t.skip('no wasm-dis in .tools/bin');
  const used = (name) => {
    const text = execFileSync(disassembler, [join(dist, name)], {
      encoding: 'utf8',
      maxBuffer: 1 << 28,
    });
    assert.match(text, /f32x4\.mul/);
    return [...new Set(text.match(/[\w.]*relaxed_\w+/g))].sort();
  };
  assert.deepEqual(used('df.relaxed.wasm'), ['f32x4.relaxed_madd', 'f32x4.relaxed_nmadd']);
  assert.deepEqual(used('df.simd.wasm'), []);
  assert.deepEqual(used('df.relaxed.threads.wasm'), used('df.relaxed.wasm'));
  assert.deepEqual(used('df.simd.threads.wasm'), []);
});
