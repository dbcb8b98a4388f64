// The engine in a worker. A message is { id, method, args }; the answer is { id, result } or { id,
// error }.
import { Engine } from './core.js';

/** @type {Engine} */
let engine;

self.addEventListener('message', async ({ data: { id, method, args } }) => {
  try {
    if (method === 'start') {
      engine = await Engine.create(args[0]);
      postMessage({ id });
    } else {
      const result = /** @type {any} */ (engine)[method](...args);
      postMessage({ id, result }, { transfer: detachViews(result) });
    }
  } catch (error) {
    const { name, message, code, hint, cause } = /** @type {any} */ (error);
    postMessage({ id, error: { name, message, code, hint, cause } });
  }
});

/**
 * Replaces views of the engine's memory by copies, whose buffers it gives back.
 * @param {any} result
 */
function detachViews(result) {
  const buffers = [];
  for (const [key, value] of Object.entries(result ?? {})) {
    if (ArrayBuffer.isView(value)) {
      result[key] = /** @type {Float32Array} */ (value).slice();
      buffers.push(result[key].buffer);
    }
  }
  return buffers;
}
