// Holds what a visitor downloads to its budget (kB = 1000 bytes, gzipped), and the wasm modules to
// importing nothing.
import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';

const folder = join(import.meta.dirname, '../web/dist');
const files = readdirSync(folder);
const read = (file) => readFileSync(join(folder, file));
const kB = (names) =>
  names.reduce((sum, file) => sum + gzipSync(read(file), { level: 9 }).length, 0) / 1000;

// inline.js is the same code once more with a wasm module inside; it has no budget of its own.
const glue = files.filter((file) => file.endsWith('.js') && !file.startsWith('inline'));
const budgets = [
  ['package JS', glue, 15],
  ['df.simd.wasm + JS', ['df.simd.wasm', ...glue], 150],
  ['df.relaxed.wasm + JS', ['df.relaxed.wasm', ...glue], 150],
];

for (const [name, names, budget] of budgets) {
  const size = kB(names);
  console.log(`${name.padEnd(22)} ${size.toFixed(1).padStart(6)} kB of ${budget}`);
  if (size > budget) process.exitCode = 1;
}

for (const file of files.filter((name) => name.endsWith('.wasm'))) {
  const imports = WebAssembly.Module.imports(new WebAssembly.Module(read(file)));
  console.log(`${file} imports ${imports.map(({ name }) => name).join(', ') || 'nothing'}`);
  if (imports.length) process.exitCode = 1;
}
