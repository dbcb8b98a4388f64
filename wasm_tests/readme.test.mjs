// The example in web/README.md prints what it says.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { endless, tinyModel } from './tiny.mjs';

test('the first example of web/README.md', (t) => {
  const readme = readFileSync(new URL('../web/README.md', import.meta.url), 'utf8');
  const [, code, output] = readme.match(/```js\n(.*?)```\n\n```\n(.*?)```/s);
  const folder = mkdtempSync(join(tmpdir(), 'forcing-'));
  t.after(() => rmSync(folder, { recursive: true }));
  const file = join(folder, 'model.safetensors');
  writeFileSync(file, tinyModel(endless));
  const options = { cwd: fileURLToPath(new URL('..', import.meta.url)), encoding: 'utf8' };
  const script = code.replace("'model.safetensors'", JSON.stringify(file));
  assert.equal(execFileSync('node', ['--input-type=module', '-e', script], options), output);
});
