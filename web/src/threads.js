// Threads of one engine: workers that each have an instance of the module on the engine's memory
// and a stack of their own there. Between the engine's calls they sleep inside WebAssembly; the
// messages here only start them.
/** @import { Link } from './link.js' */
import { badArgument } from './errors.js';
import { workerLink } from './link.js';

const STACK = 256 * 1024; // bytes, as the engine's own (CMakeLists.txt)
const PAGE = 65536;
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
      return new WebAssembly.Memory({ initial: (2 << 20) / PAGE, maximum, shared: true });
    } catch {
      // less, then
    }
  }
  return undefined;
}

/**
 * Starts the threads of an engine. The link comes back with them: closing it ends them. If one of
 * them does not start, the engine stays alone.
 * @param {Link} link
 * @param {WebAssembly.Memory} memory the engine's
 * @param {number} count the engine's own thread included
 * @param {() => Worker} make
 * @returns {Promise<{ link: Link, threads: number }>}
 */
export async function withThreads(link, memory, count, make) {
  /** @type {Promise<Link>[]} */
  const helpers = [];
  const close = () => {
    for (const helper of helpers) helper.then((started) => started.close()).catch(() => {});
  };
  try {
    const { module, stacks } = await link.call('stacks', [count - 1, STACK]);
    for (const [i, stack] of stacks.entries())
      helpers.push(workerLink(make(), 'join', module, memory, i + 1, stack));
    await Promise.all(helpers);
    await link.call('expect', [count]);
  } catch {
    close();
    return { link, threads: 1 };
  }
  return {
    link: {
      ...link,
      close() {
        link.close();
        close();
      },
    },
    threads: count,
  };
}

/**
 * What a helper does. Comes back with a function that does not come back.
 * @param {WebAssembly.Module} module
 * @param {WebAssembly.Memory} memory
 * @param {number} thread 1, 2, ...
 * @param {number} stack address of its upper end
 */
export async function join(module, memory, thread, stack) {
  const { exports } = await WebAssembly.instantiate(module, { env: { memory } });
  const { __stack_pointer: pointer, threads_join: enter } = /** @type {any} */ (exports);
  pointer.value = stack;
  return () => enter(thread);
}

/**
 * A thread of Node with the face of a page's worker. It ends with the program.
 * @param {URL} script
 * @returns {Worker}
 */
export function nodeWorker(script) {
  const { Worker: Thread } = /** @type {any} */ (globalThis).process.getBuiltinModule(
    'node:worker_threads',
  );
  const thread = new Thread(script);
  thread.once('message', () => thread.unref()); // it has started
  return /** @type {any} */ ({
    /**
     * @param {'message' | 'error'} type
     * @param {(event: any) => void} listener
     */
    addEventListener: (type, listener) =>
      thread.on(type, (/** @type {any} */ data) =>
        listener(type === 'message' ? { data } : { message: data.message }),
      ),
    postMessage: thread.postMessage.bind(thread),
    terminate: () => void thread.terminate(),
  });
}
