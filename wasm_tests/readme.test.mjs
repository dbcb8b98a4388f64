// The examples in web/README.md print what they say, and the smallest config of models/README.md is
// one.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { loadModel } from '../web/dist/index.js';
import { endless, path, tinyModel } from './tiny.mjs';

const readme = readFileSync(new URL('../web/README.md', import.meta.url), 'utf8');

/** Runs the first example behind `from` that has an output. */
function runs(t, from, config) {
  const [, code, output] = readme
    .slice(readme.indexOf(from))
    .match(/```js\n((?:(?!```).)*)```\n\n```\n(.*?)```/s);
  const folder = mkdtempSync(join(tmpdir(), 'forcing-'));
  t.after(() => rmSync(folder, { recursive: true }));
  const file = join(folder, 'model.safetensors');
  writeFileSync(file, tinyModel(config));
  const options = { cwd: fileURLToPath(new URL('..', import.meta.url)), encoding: 'utf8' };
  const script = code.replace("'model.safetensors'", JSON.stringify(file));
  assert.equal(execFileSync('node', ['--input-type=module', '-e', script], options), output);
}

test('the first example of web/README.md', (t) => runs(t, '# diffusion-forcing', endless));
test('its example of guidance', (t) => runs(t, '## Guidance', path));
test('its example of plans that roll on', (t) => runs(t, '## Re-planning', path));

test('the smallest config of models/README.md, and its defaults', async () => {
  const readme = readFileSync(new URL('../models/README.md', import.meta.url), 'utf8');
  const config = JSON.parse(readme.match(/```json\n(.*?)```/s)[1]);
  const model = await loadModel(tinyModel(config));
  const stated = (key) =>
    readme.match(new RegExp(`^\\| \`${key}\` \\|[^|]*\\| ([^|,]*)`, 'm'))[1].trim();
  const { schedule, steps, uncertainty, eta, stabilization, grid, maxLength } = model.defaults;
  assert.equal(steps, Number(stated('steps')));
  assert.equal(uncertainty, Number(stated('uncertainty')));
  assert.equal(eta, Number(stated('eta')));
  assert.equal(stabilization, Number(stated('stabilization')));
  assert.equal(`\`"${grid}"\``, stated('grid'));
  assert.equal(maxLength, Number(stated('max_tokens')));
  assert.equal(schedule, 'pyramid');
  assert.equal(model.frameStack, Number(stated('frame_stack')));
  assert.equal(model.fields[0].threshold, Number(stated('threshold')));
  model.dispose();
});
