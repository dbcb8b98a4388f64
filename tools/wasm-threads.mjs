// Runs a program of the wasm preset that has threads: node tools/wasm-threads.mjs program.wasm ...
//
// The program is a module on shared memory that imports WASI. Two helpers join it (src/base/threads.h), as
// web/src/threads.js has them do in the package.
import { readFileSync, writeSync } from 'node:fs';
import { WASI } from 'node:wasi';
import { Worker, isMainThread, parentPort, workerData } from 'node:worker_threads';

const HELPERS = 2;
const STACK = 1 << 20; // bytes

async function instantiate(module, memory, args = []) {
  const wasi = new WASI({ version: 'preview1', args, preopens: { '/': '/' }, returnOnExit: true });
  const imports = { ...wasi.getImportObject(), env: { memory } };
  const { exports } = await WebAssembly.instantiate(module, imports);
  return { wasi, exports: { ...exports, memory } };
}

if (isMainThread) {
  const module = await WebAssembly.compile(readFileSync(process.argv[2]));
  const memory = new WebAssembly.Memory({ initial: 256, maximum: 32768, shared: true });
  const { wasi, exports } = await instantiate(module, memory, process.argv.slice(2));
  exports.df_threads_expect(1 + HELPERS);
  for (let thread = 1; thread <= HELPERS; thread++) {
    const stack = (memory.grow(STACK / 65536) << 16) + STACK;
    const workerData = { module, memory, thread, stack };
    const worker = new Worker(new URL(import.meta.url), { workerData });
    await new Promise((resolve) => worker.once('message', resolve));
  }
  process.exit(wasi.start({ exports }));
} else {
  const { module, memory, thread, stack } = workerData;
  const { exports } = await instantiate(module, memory);
  exports.__stack_pointer.value = stack;
  parentPort.postMessage('ready');
  try {
    exports.df_threads_join(thread);
  } catch (error) {
    writeSync(2, `${error.stack}\n`); // the main thread waits for this one and would not hear of it
    process.kill(process.pid, 'SIGKILL');
  }
}
