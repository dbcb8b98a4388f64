// The engine in a worker. A message is { id, method, args }, the answer { id, result } or
// { id, error }. A worker that starts as a thread of another's engine gets no further message.
import { Engine } from './core.js';
import { join } from './threads.js';

/** @type {Engine} */
let engine;

// A thread of Node has a port where others have a scope.
const { self: scope, process } = /** @type {any} */ (globalThis);
const port = scope ?? process.getBuiltinModule('node:worker_threads').parentPort;

port.addEventListener(
  'message',
  async (/** @type {MessageEvent} */ { data: { id, method, args } }) => {
    try {
      if (method === 'start') {
        const [wasm, memory, thread, stack] = args;
        if (thread) setTimeout(await join(wasm, memory, thread, stack));
        else engine = await Engine.create(wasm, memory);
        port.postMessage({ id });
      } else {
        const result = detached(/** @type {any} */ (engine)[method](...args));
        port.postMessage({ id, result }, { transfer: buffers(result) });
      }
    } catch (error) {
      const { name, message, code, hint, cause } = /** @type {any} */ (error);
      port.postMessage({ id, error: { name, message, code, hint, cause } });
    }
  },
);

/**
 * A copy that has no views of the engine's memory.
 * @param {any} result
 */
function detached(result) {
  if (typeof result !== 'object') return result;
  return Object.fromEntries(
    Object.entries(result).map(([key, value]) => [
      key,
      ArrayBuffer.isView(value) ? /** @type {Float32Array} */ (value).slice() : value,
    ]),
  );
}

/** @param {any} result */
function buffers(result) {
  return Object.values(result ?? {}).flatMap((value) =>
    ArrayBuffer.isView(value) ? [value.buffer] : [],
  );
}
