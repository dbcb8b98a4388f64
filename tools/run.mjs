// What the npm scripts do: node tools/run.mjs start|test|build|bench|lint|format [--only STEP]...
//
// A task is a list of steps and a step is a shell command. A step's output goes to build/log/STEP.txt and
// is shown when it fails; the first failure ends the task. Set-up comes first and takes seconds when
// everything is there.
import { spawn, spawnSync } from 'node:child_process';
import { closeSync, mkdirSync, openSync, readFileSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { setUp } from './setup.mjs';

const checkout = fileURLToPath(new URL('..', import.meta.url));
const logs = join(checkout, 'build/log');
process.chdir(checkout);
process.env.PATH = join(checkout, 'node_modules/.bin') + delimiter + process.env.PATH;

// Node 20 has relaxed SIMD behind a flag that later versions no longer know, and its first tier
// (Liftoff) gets the dot product wrong: the library would leave it out.
const relaxed = '--experimental-wasm-relaxed-simd';
const node =
  spawnSync('node', [relaxed, '--version']).status === 0 ? `node ${relaxed} --no-liftoff` : 'node';

const cmake = (preset, targets = '') =>
  `cmake --preset ${preset} && cmake --build --preset ${preset} ${targets}`;

// The first of them that has PyTorch: the one on PATH may be another than Debian's.
const python =
  'python=$(for p in python3 /usr/bin/python3; do ' +
  '$p -c "import torch, numpy" 2>/dev/null && echo $p && break; done); ${python:?has no PyTorch}';

const steps = {
  'clang-format': 'node tools/clang-format.mjs --check',
  prettier: 'prettier --check .',
  eslint: 'eslint --max-warnings 0 .',
  tsc: 'tsc --noEmit && tsc -p models/maze2d',
  native: `${cmake('native')} && ctest --preset native`,
  export: `export PYTHONPATH=models FORCING=$PWD/build/native/forcing; ${python} -B -m unittest discover -s models/df_export/tests -t models`,
  asan: `${cmake('asan')} && ctest --preset asan`,
  wasm: `${cmake('wasm')} && ctest --preset wasm`,
  modules: cmake('wasm', '--target modules'),
  package: 'node web/build.mjs',
  maze2d: `${node} --test --test-reporter spec --test-timeout 300000 models/maze2d/tests/*.test.mjs`,
  page: 'vite build web/demo',
  command: cmake('native', '--target forcing'),
  'bench-modules': cmake('wasm', '--target bench.simd.wasm bench.relaxed.wasm'),
  node: `${node} --test --test-reporter spec --test-timeout 300000 wasm_tests/*.test.mjs`,
  size: `${node} tools/size.mjs`,
  browsers: `${node} --test --test-reporter spec --test-timeout 300000 --test-concurrency 1 web/tests/*.test.mjs`,
};

const lint = ['clang-format', 'prettier', 'eslint', 'tsc'];
const build = ['modules', 'package', 'page'];
const tasks = {
  lint,
  build,
  start: ['modules', 'package'],
  bench: ['command', 'modules', 'bench-modules', 'package'],
  test: [
    ...lint,
    'native',
    'export',
    'asan',
    'wasm',
    'package',
    'maze2d',
    'page',
    'node',
    'size',
    'browsers',
  ],
};

const [task, ...options] = process.argv.slice(2);
const only = options.filter((_, i) => options[i - 1] === '--only');

if (task === 'format') {
  setUp('test');
  shell('node tools/clang-format.mjs && prettier --write --log-level warn .');
} else if (tasks[task]) {
  setUp({ start: 'build', build: 'build', bench: 'bench' }[task] ?? 'test');
  const all = task === 'bench' || !only.length; // the benchmark's own options name its sections
  const passed = await runSteps(tasks[task].filter((name) => all || only.includes(name)));
  // The page stays up until Ctrl-C. Vite prints its address.
  if (task === 'start' && passed) shell('vite web/demo');
  if (task === 'bench' && passed) shell(['node tools/bench/bench.mjs', ...options].join(' '));
} else {
  console.error(
    `node tools/run.mjs ${[...Object.keys(tasks), 'format'].join('|')} [--only STEP]...`,
  );
  process.exitCode = 2;
}

/** Prints one line per step and, last, the sum. True if all passed. */
async function runSteps(names) {
  mkdirSync(logs, { recursive: true });
  let passed = 0;
  for (const name of names) {
    const start = performance.now();
    const log = join(logs, `${name}.txt`);
    process.stdout.write(`${name.padEnd(12)} `);
    const status = await logged(steps[name], log);
    const seconds = ((performance.now() - start) / 1000).toFixed(1).padStart(6);
    console.log(`${status === 0 ? 'ok    ' : 'FAILED'} ${seconds} s`);
    if (status !== 0) {
      console.log(
        `\n$ ${steps[name]}\n${readFileSync(log, 'utf8').trim().split('\n').slice(-80).join('\n')}\n`,
      );
      break;
    }
    passed++;
  }
  const failed = passed < names.length ? 1 : 0;
  console.log(`${passed} passed, ${failed} failed`);
  process.exitCode = failed;
  return !failed;
}

function logged(command, log) {
  const file = openSync(log, 'w');
  return new Promise((resolve) => {
    const child = spawn(command, { shell: true, stdio: ['ignore', file, file] });
    child.on('close', (status) => resolve(status ?? 1));
  }).finally(() => closeSync(file));
}

function shell(command) {
  process.exitCode = spawnSync(command, { shell: true, stdio: 'inherit' }).status ?? 1;
}
