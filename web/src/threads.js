// Threads of one engine: workers that each have an instance of the module on the engine's memory
// and a stack of their own there. Between the engine's calls they sleep inside WebAssembly; the
// messages here only start them.
/** @import { DfError } from './errors.js' */
/** @import { Link, Wasm } from './link.js' */
import { badArgument } from './errors.js';
import { workerLink } from './link.js';

// As CMakeLists.txt has them for the engine: bytes of a stack, pages of memory at the start.
const STACK = 256 * 1024;
const PAGES = 32;
const MOST = 64;
const USEFUL = 8; // more are seldom cores that are as fast

/** May memory be shared here? Browsers ask for two headers (COOP, COEP). */
export function canShare() {
  const { crossOriginIsolated = true } = globalThis; // unknown outside browsers, where it is free
  return crossOriginIsolated && typeof SharedArrayBuffer === 'function';
}

/**
 * Threads to try for.
 * @param {number | undefined} wish
 */
export function threadCount(wish) {
  if (wish !== undefined && !(Number.isInteger(wish) && wish >= 1 && wish <= MOST))
    throw badArgument('threads', `an integer from 1 to ${MOST}`, wish);
  if (!canShare()) return 1;
  const { crossOriginIsolated, navigator } = globalThis;
  return wish ?? (crossOriginIsolated ? Math.min(navigator?.hardwareConcurrency ?? 1, USEFUL) : 1);
}

/**
 * Memory for an engine with threads; undefined where there is none to be had. All that it may grow
 * to is set aside at once, if only as addresses, which phones do not always grant.
 */
export function sharedMemory() {
  for (let maximum = 32768; maximum >= 4096; maximum /= 2) {
    try {
      return new WebAssembly.Memory({ initial: PAGES, maximum, shared: true });
    } catch {
      // less, then
    }
  }
  return undefined;
}

/**
 * Gives an engine its threads. Closing the link that comes back ends them too. Where none can be had
 * the engine stays alone.
 * @param {Link} link
 * @param {number} count the engine's own thread included
 * @param {WebAssembly.Memory} memory the engine's
 * @param {Promise<Wasm>} wasm
 * @param {(() => Worker)[]} ways to make a worker, tried in this order
 * @returns {Promise<Link>}
 */
export async function withThreads(link, count, memory, wasm, ways) {
  for (const make of ways) {
    let complete = false;
    /** @type {Promise<Link>[]} */
    const helpers = [];
    const dismiss = () =>
      helpers.forEach((helper) => helper.then((it) => it.close()).catch(() => {}));
    const close = (/** @type {DfError | undefined} */ reason) => {
      link.close(reason);
      dismiss();
    };
    // The engine would wait for ever for one that dies at work.
    const died = (/** @type {DfError} */ reason) => complete && close(reason);
    try {
      const { stacks } = await link.call('stacks', [count - 1, STACK]);
      for (const [i, stack] of stacks.entries())
        helpers.push(workerLink(make(), wasm, died, memory, i + 1, stack));
      await Promise.all(helpers);
      await link.call('expect', [count]);
      complete = true;
      return { ...link, threads: count, close };
    } catch {
      dismiss();
    }
  }
  return link;
}

/**
 * What a helper does. Comes back with a function that does not come back.
 * @param {Wasm} wasm
 * @param {WebAssembly.Memory} memory
 * @param {number} thread 1, 2, ...
 * @param {number} stack address of its upper end
 */
export async function join(wasm, memory, thread, stack) {
  const module = wasm instanceof WebAssembly.Module ? wasm : await WebAssembly.compile(wasm);
  const { exports } = await WebAssembly.instantiate(module, { env: { memory } });
  const { __stack_pointer: pointer, threads_join: enter } = /** @type {any} */ (exports);
  pointer.value = stack;
  return () => enter(thread);
}
