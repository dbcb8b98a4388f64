// Holds what a visitor downloads to its budget (kB = 1000 bytes, gzipped), and the wasm modules to
// importing nothing, or nothing but their memory if that is shared.
import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';

const folder = join(import.meta.dirname, '../web/dist');
const files = readdirSync(folder);
const read = (file) => readFileSync(join(folder, file));
const kB = (names) =>
  names.reduce((sum, file) => sum + gzipSync(read(file), { level: 9 }).length, 0) / 1000;

const modules = files.filter((file) => file.endsWith('.wasm'));

// inline.js is the same code once more with a wasm module inside; it has no budget of its own. The
// viewer comes on top, for pages that want it.
const glue = files.filter((file) => file.endsWith('.js') && !/^(inline|viewer)/.test(file));
const budgets = [
  ['package JS', glue, 16],
  ['viewer.js', ['viewer.js'], 21],
  ...modules.map((file) => [`${file} + JS`, [file, ...glue], 150]),
];

for (const [name, names, budget] of budgets) {
  const size = kB(names);
  console.log(`${name.padEnd(30)} ${size.toFixed(1).padStart(6)} kB of ${budget}`);
  if (size > budget) process.exitCode = 1;
}

for (const file of modules) {
  const imports = WebAssembly.Module.imports(new WebAssembly.Module(read(file)));
  const names = imports.map(({ module, name }) => `${module}.${name}`).join(', ') || 'nothing';
  console.log(`${file} imports ${names}`);
  if (names !== (file.includes('threads') ? 'env.memory' : 'nothing')) process.exitCode = 1;
}
