import { Engine } from './core.js';
import { DfError } from './errors.js';

/**
 * A way to call an engine, in this thread or in a worker. Calls are done in the order in which they
 * are made.
 * @typedef {object} Link
 * @property {number} workers  0: this thread
 * @property {number} [threads]  of each. Default 1
 * @property {(method: string, args?: any[], transfer?: Transferable[]) => Promise<any>} call
 * @property {() => Promise<void> | void} rest  lets the calling thread draw and hear of aborts, if
 *   it has computed for long
 * @property {(reason?: DfError) => void} close  calls without an answer are rejected
 */

/** @typedef {WebAssembly.Module | BufferSource} Wasm */

/** Ms of computing after which the calling thread rests. */
export const SLICE = 12;

/**
 * @param {Wasm} wasm
 * @param {WebAssembly.Memory} [memory] for a module with threads
 * @returns {Promise<Link>}
 */
export async function localLink(wasm, memory) {
  /** @type {Engine | null} */
  let engine = await Engine.create(wasm, memory);
  let rested = performance.now();
  return {
    workers: 0,
    async call(method, args = []) {
      if (!engine) throw new DfError('WRONG_STATE', 'the model was disposed of');
      try {
        return /** @type {any} */ (engine)[method](...args);
      } catch (error) {
        throw toDfError(/** @type {Error} */ (error));
      }
    },
    async rest() {
      if (performance.now() - rested < SLICE) return;
      await nextTurn();
      rested = performance.now();
    },
    close: () => void (engine = null),
  };
}

/**
 * Rejects if the worker cannot be started.
 * @param {Worker} worker
 * @param {Promise<Wasm>} wasm
 * @param {(reason: DfError) => void} [died] told if the worker fails later
 * @param {...any} more of what it starts with (worker.js)
 * @returns {Promise<Link>}
 */
export async function workerLink(worker, wasm, died, ...more) {
  /** @type {Map<number, { resolve: (result: any) => void, reject: (error: Error) => void }>} */
  const waiting = new Map();
  let calls = 0;
  /** @type {DfError | null} */
  let closed = null;

  const close = (reason = new DfError('WRONG_STATE', 'the model was disposed of')) => {
    closed ??= reason;
    worker.terminate();
    for (const { reject } of waiting.values()) reject(closed);
    waiting.clear();
  };

  /** @type {Link} */
  const link = {
    workers: 1,
    call: (method, args = [], transfer = []) =>
      new Promise((resolve, reject) => {
        if (closed) throw closed;
        waiting.set(++calls, { resolve, reject });
        worker.postMessage({ id: calls, method, args }, transfer);
      }),
    rest() {},
    close,
  };
  worker.addEventListener('message', ({ data: { id, result, error } }) => {
    const call = waiting.get(id);
    waiting.delete(id);
    if (error) call?.reject(toDfError(error));
    else call?.resolve(result);
  });
  worker.addEventListener('error', (event) => {
    event.preventDefault?.(); // told to the caller, not to the console
    close(
      new DfError(
        'WRONG_STATE',
        `the worker failed: ${event.message ?? 'its script does not load'}`,
      ),
    );
    died?.(/** @type {DfError} */ (closed));
  });
  try {
    await link.call('start', [await wasm, ...more]);
  } catch (error) {
    link.close();
    throw error;
  }
  return link;
}

/**
 * @param {{ name: string, message: string, code?: string, hint?: string, cause?: unknown }} error
 */
function toDfError(error) {
  if (error instanceof DfError) return error;
  const { message, code, hint, cause } = error;
  if (code) return new DfError(code, message, { hint, cause });
  return new DfError('WRONG_STATE', `the engine broke: ${message}`, {
    cause: error,
    hint: 'A mistake in diffusion-forcing: please report it. The model is not usable any more.',
  });
}

/** Lets the event loop run once: timers, input, drawing. */
function nextTurn() {
  return new Promise((resolve) => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => {
      port1.close();
      resolve(undefined);
    };
    port2.postMessage(null);
  });
}
