// The engine in a worker. A message is { id, method, args }, the answer { id, result } or
// { id, error }. A helper of an engine with threads hears of nothing but join.
import { Engine } from './core.js';
import { join } from './threads.js';

/** @type {Engine} */
let engine;

/** In Node the port of this thread. @type {Pick<MessagePort, 'addEventListener' | 'postMessage'>} */
const port =
  /** @type {any} */ (globalThis.self) ??
  /** @type {any} */ (globalThis).process.getBuiltinModule('node:worker_threads').parentPort;

port.addEventListener('message', async ({ data: { id, method, args } }) => {
  try {
    if (method === 'start') {
      engine = await Engine.create(args[0], args[1]);
      port.postMessage({ id });
    } else if (method === 'join') {
      const work = await join(.../** @type {Parameters<typeof join>} */ (args));
      port.postMessage({ id });
      work();
    } else {
      const result = detached(/** @type {any} */ (engine)[method](...args));
      port.postMessage({ id, result }, { transfer: buffers(result) });
    }
  } catch (error) {
    const { name, message, code, hint, cause } = /** @type {any} */ (error);
    port.postMessage({ id, error: { name, message, code, hint, cause } });
  }
});

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
