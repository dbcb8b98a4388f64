/** @import { Link } from './link.js' */
/** @import { Source } from './read.js' */
/** @import { Build, File, LevelTable, LoadOptions, PerBuild, TableOptions } from './types.js' */
/* global Worker */
import { Engine } from './core.js';
import { DfError } from './errors.js';
import { chooseBuild } from './features.js';
import { localLink, workerLink } from './link.js';
import { Model } from './model.js';
import { byteLength, read } from './read.js';
import { sharedMemory, threadCount, withThreads } from './threads.js';

/**
 * Where an entry point of the package has its files.
 * @typedef {object} Files
 * @property {(file: File) => URL | Response} wasm
 * @property {boolean} threads  are there files with threads?
 * @property {(() => Worker)[]} workers  ways to make one, tried in this order
 * @property {() => Worker} [nodeWorker]  one for Node, which has no Worker
 */

/**
 * @param {Files} files
 * @param {Source} source
 * @param {LoadOptions} options
 */
export async function load(files, source, options) {
  const { signal, onProgress } = options;
  signal?.throwIfAborted();
  const build = chooseBuild(options.build);

  // Wasm file and model come at the same time; what fails first stops the other.
  const stop = new AbortController();
  const abort = () => stop.abort(signal?.reason);
  signal?.addEventListener('abort', abort);
  const engine = startEngine(files, build, options, stop.signal);
  try {
    const pieces = read(source, { signal: stop.signal, onProgress });
    const [file, { link, threads, wasmBytes }] = await Promise.all([pieces, engine]);
    const modelBytes = byteLength(file);
    const { version, isa, parameters, bytes, ...facts } = await open(link, file, source);
    signal?.throwIfAborted();
    const info = {
      version,
      build,
      isa,
      threads,
      worker: link.worker,
      parameters,
      bytes,
      modelBytes,
      wasmBytes,
    };
    return new Model(link, facts, info);
  } catch (error) {
    stop.abort(error);
    engine.then(({ link }) => link.close()).catch(() => {});
    throw error;
  } finally {
    signal?.removeEventListener('abort', abort);
  }
}

/**
 * @param {Files} files
 * @param {TableOptions & LoadOptions} options
 * @returns {Promise<LevelTable>}
 */
export async function tableWithoutModel(files, options) {
  const { wasm } = await getWasm(files, chooseBuild(options.build), options, options.signal);
  return (await Engine.create(wasm)).levelTable(options);
}

/**
 * @param {Files} files
 * @param {Build} build
 * @param {LoadOptions} options
 * @param {AbortSignal} signal
 * @returns {Promise<{ link: Link, threads: number, wasmBytes: number }>}
 */
async function startEngine(files, build, options, signal) {
  const { worker, inThread = !worker && !isPage() } = options;
  const wish = threadCount(options.threads);
  // The thread of a page may not wait for others, and one worker that was given is one thread.
  const alone = (inThread && isPage()) || (worker && typeof worker !== 'function');
  const memory = wish > 1 && files.threads && !alone ? sharedMemory() : undefined;
  /** @type {File} */
  const file = memory ? `${build}.threads` : build;
  const { wasm, wasmBytes } = await getWasm(files, file, options, signal);

  const { link, make } = await startLink();
  const crew = memory && make ? await withThreads(link, memory, wish, make) : { link, threads: 1 };
  return { ...crew, wasmBytes };

  /** The engine, and what makes further workers. */
  async function startLink() {
    if (worker) {
      const make = typeof worker === 'function' ? worker : () => worker;
      return { link: await workerLink(make(), 'start', wasm, memory), make };
    }
    for (const make of inThread ? [] : files.workers) {
      try {
        return { link: await workerLink(make(), 'start', wasm, memory), make };
      } catch {
        // A script from another origin, a Content-Security-Policy, a bundler that lost the file: try
        // the next way.
      }
    }
    const link = await localLink(wasm, memory);
    if (isPage()) return { link };
    return { link, make: typeof Worker === 'function' ? files.workers[0] : files.nodeWorker };
  }
}

function isPage() {
  return typeof document !== 'undefined' && typeof Worker === 'function';
}

/**
 * @param {Files} files
 * @param {File} file
 * @param {LoadOptions} options
 * @param {AbortSignal} [signal]
 * @returns {Promise<{ wasm: BufferSource | WebAssembly.Module, wasmBytes: number }>}
 */
async function getWasm(files, file, { wasmBinary, wasmUrl }, signal) {
  const given = pick(wasmBinary, file) ?? pick(wasmUrl, file) ?? files.wasm(file);
  if (given instanceof WebAssembly.Module) return { wasm: given, wasmBytes: 0 };
  try {
    const wasm = await new Blob(
      /** @type {BlobPart[]} */ (await read(given, { signal })),
    ).arrayBuffer();
    return { wasm, wasmBytes: wasm.byteLength };
  } catch (error) {
    if (error instanceof DfError)
      error.hint = `The options wasmUrl and wasmBinary tell where df.${file}.wasm is.`;
    throw error;
  }
}

/**
 * @template T
 * @param {PerBuild<T> | undefined} given
 * @param {File} file
 * @returns {T | undefined}
 */
function pick(given, file) {
  const files = ['simd', 'relaxed', 'simd.threads', 'relaxed.threads'];
  if (!given || !files.some((name) => Object.hasOwn(given, name)))
    return /** @type {T | undefined} */ (given);
  return /** @type {any} */ (given)[file];
}

/**
 * @param {Link} link
 * @param {Uint8Array[]} file
 * @param {Source} source
 */
async function open(link, file, source) {
  const looksLikeHtml = file[0]?.[0] === 0x3c; // "<"
  const theirs = source instanceof ArrayBuffer || ArrayBuffer.isView(source);
  const whole = file
    .filter((piece) => piece.length === piece.buffer.byteLength)
    .map((piece) => piece.buffer);
  try {
    return await link.call('open', [file], theirs ? [] : whole);
  } catch (error) {
    if (looksLikeHtml)
      /** @type {DfError} */ (error).hint =
        'This is a web page, not a model: is the address right?';
    throw error;
  }
}

/**
 * A module worker from its source text.
 * @param {string} text
 */
export function workerFromText(text) {
  const url = URL.createObjectURL(new Blob([text], { type: 'text/javascript' }));
  const worker = new Worker(url, { type: 'module' });
  worker.addEventListener('message', () => URL.revokeObjectURL(url), { once: true });
  return worker;
}
