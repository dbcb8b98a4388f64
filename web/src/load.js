/** @import { Facts } from './core.js' */
/** @import { Link, Wasm } from './link.js' */
/** @import { Source } from './read.js' */
/** @import { Build, File, LevelTable, LoadOptions, PerBuild, TableOptions } from './types.js' */
/* global Worker */
import { Engine } from './core.js';
import { DfError, badArgument } from './errors.js';
import { chooseBuild } from './features.js';
import { localLink, workerLink } from './link.js';
import { Model } from './model.js';
import { poolLink } from './pool.js';
import { isLocal, read } from './read.js';
import { sharedMemory, threadCount, withThreads } from './threads.js';

/** Bytes of the model's file that may wait for an engine that runs. */
const AHEAD = 1 << 22;

/**
 * Where an entry point of the package has its files.
 * @typedef {object} Files
 * @property {(file: File) => URL | Response} wasm
 * @property {boolean} threads  are there files with threads?
 * @property {(() => Worker)[]} workers  ways to make one, tried in this order
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
  const crew = countCrew(files, options);

  // Wasm file and model come at the same time; what fails first stops the other.
  const stop = new AbortController();
  const abort = () => stop.abort(signal?.reason);
  signal?.addEventListener('abort', abort);
  /** @type {Promise<never>} */
  const stopped = new Promise((_, reject) => {
    stop.signal.addEventListener('abort', () => reject(stop.signal.reason));
  });
  const engine = startEngine(files, build, crew, options, stop.signal);
  engine.catch((error) => stop.abort(error));
  try {
    const opened = open(engine, read(source, { signal: stop.signal, onProgress }), stop);
    const { facts, modelBytes } = await Promise.race([opened, stopped]);
    const { link, wasmBytes } = await engine;
    const { version, isa, parameters, bytes } = facts;
    const info = {
      version,
      build,
      isa,
      threads: link.threads ?? 1,
      workers: link.workers,
      worker: link.workers > 0,
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
 * Passes the model's file on as it comes. What comes before the engine runs waits for it; later the
 * download waits for the engine.
 * @param {Promise<{ link: Link }>} engine
 * @param {AsyncIterable<Uint8Array<ArrayBuffer>>} pieces
 * @param {AbortController} stop told of the first failure
 */
async function open(engine, pieces, stop) {
  /** @type {Link | undefined} */
  let running;
  const start = engine.then(({ link }) => (running = link));
  start.catch(() => {});
  let last = Promise.resolve();
  let modelBytes = 0;
  let taken = 0;
  let looksLikeHtml = false;
  try {
    for await (const piece of pieces) {
      const { length, buffer } = piece;
      looksLikeHtml ||= modelBytes === 0 && piece[0] === 0x3c; // "<"
      modelBytes += length;
      last = start
        .then((link) => link.call('feed', [piece], [buffer]))
        .then(() => void (taken += length));
      last.catch((error) => stop.abort(error));
      await running?.rest();
      if (running && modelBytes - taken > AHEAD) await last;
    }
    await last;
    const facts = await (await start).call('open');
    return { facts: /** @type {Facts} */ (facts), modelBytes };
  } catch (error) {
    if (looksLikeHtml && error instanceof DfError && error.code === 'BAD_FILE')
      error.hint = 'This is a web page, not a model: is the address right?';
    throw error;
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
 * @param {Crew} crew
 * @param {LoadOptions} options
 * @param {AbortSignal} signal
 * @returns {Promise<{ link: Link, wasmBytes: number }>}
 */
async function startEngine(files, build, crew, options, signal) {
  // The worker's script comes meanwhile.
  const getting = getWasm(files, crew.memory ? `${build}.threads` : build, options, signal);
  const wasm = getting.then((got) => got.wasm);
  wasm.catch(() => {});
  const link = await startLink(files, crew, wasm, options);
  return { link, wasmBytes: (await getting).wasmBytes };
}

/**
 * @param {Files} files
 * @param {Crew} crew
 * @param {Promise<Wasm>} wasm
 * @param {LoadOptions} options
 */
async function startLink(files, { workers, threads, memory }, wasm, { worker }) {
  const start = async (/** @type {() => Worker} */ make) => {
    if (workers > 1) return poolLink(workers, make, wasm);
    const link = await workerLink(make(), wasm, undefined, memory);
    return memory ? withThreads(link, threads, memory, wasm, [make]) : link;
  };
  if (worker) return start(typeof worker === 'function' ? worker : () => worker);
  for (const make of workers ? files.workers : []) {
    try {
      return await start(make);
    } catch {
      // A script from another origin, a Content-Security-Policy, a bundler that lost the file: try
      // the next way.
      await wasm;
    }
  }
  const link = await localLink(await wasm, memory);
  return memory && !isPage() ? withThreads(link, threads, memory, wasm, files.workers) : link;
}

/**
 * Who is to compute.
 * @typedef {object} Crew
 * @property {number} workers  0: the calling thread
 * @property {number} threads  of each
 * @property {WebAssembly.Memory} [memory]  theirs, if they are more than one
 */

/**
 * @param {Files} files
 * @param {LoadOptions} options
 * @returns {Crew}
 */
function countCrew(files, options) {
  const { worker, threads } = options;
  const workers = countWorkers(options);
  const wish = threadCount(threads);
  const given = typeof options.workers === 'number';
  if (given && workers > 1 && threads && threads > 1)
    throw badArgument('threads', 'nothing beside workers', threads);
  // The thread of a page must not wait for others, and a worker that was given is alone.
  const mayWait = workers > 0 || !isPage();
  const alone = (given && threads === undefined) || (worker && typeof worker !== 'function');
  const memory = wish > 1 && files.threads && mayWait && !alone ? sharedMemory() : undefined;
  return memory
    ? { workers: Math.min(workers, 1), threads: wish, memory }
    : { workers, threads: 1 };
}

/** More share the memory bus, and each holds the weights. */
const MOST_AUTO = 8;

/**
 * How many workers are to compute; 0: the calling thread.
 * @param {LoadOptions} options
 */
function countWorkers({ worker, workers, inThread = !worker && !workers && !isPage() }) {
  if (workers === undefined) return inThread ? 0 : 1;
  if (workers !== 'auto' && !(Number.isInteger(workers) && workers > 0))
    throw badArgument('workers', "a number of workers, at least 1, or 'auto'", workers);
  if (inThread) throw badArgument('workers', 'nothing beside inThread', workers);
  const n = workers === 'auto' ? Math.min(cores(), MOST_AUTO) : workers;
  if (worker && typeof worker !== 'function' && n > 1)
    throw badArgument('worker', 'a function that makes workers', worker);
  return n;
}

/** @returns {number} */
function cores() {
  const { navigator, process } = /** @type {any} */ (globalThis);
  const os = process?.getBuiltinModule?.('node:os');
  return os?.availableParallelism() ?? navigator?.hardwareConcurrency ?? 1;
}

function isPage() {
  return typeof document !== 'undefined' && typeof Worker === 'function';
}

/**
 * @param {Files} files
 * @param {File} file
 * @param {LoadOptions} options
 * @param {AbortSignal} [signal]
 * @returns {Promise<{ wasm: Wasm, wasmBytes: number }>}
 */
async function getWasm(files, file, { wasmBinary, wasmUrl }, signal) {
  const given = pick(wasmBinary, file) ?? pick(wasmUrl, file) ?? files.wasm(file);
  if (given instanceof WebAssembly.Module) return { wasm: given, wasmBytes: 0 };
  const early = isLocal(given) ? null : compileEarly();
  /** @type {Uint8Array<ArrayBuffer>[]} */
  const pieces = [];
  try {
    for await (const piece of read(given, { signal })) {
      pieces.push(piece);
      early?.add(piece);
    }
  } catch (error) {
    if (error instanceof DfError)
      error.hint = `The options wasmUrl and wasmBinary tell where df.${file}.wasm is.`;
    throw error;
  }
  const bytes = await new Blob(pieces).arrayBuffer();
  // What does not compile here may do so in a worker, which has a policy of its own, or say why not.
  const wasm = (await early?.end()) ?? (await WebAssembly.compile(bytes).catch(() => bytes));
  return { wasm, wasmBytes: bytes.byteLength };
}

/** Compiles while the bytes come, if the engine knows how to; no module is no harm. */
function compileEarly() {
  /** @type {ReadableStreamDefaultController<Uint8Array<ArrayBuffer>> | null} */
  let open = null;
  const body = new ReadableStream({
    start: (controller) => void (open = controller),
    cancel: () => void (open = null),
  });
  const response = new Response(body, { headers: { 'content-type': 'application/wasm' } });
  const module = WebAssembly.compileStreaming?.(response).catch(() => undefined);
  return {
    /** @param {Uint8Array<ArrayBuffer>} piece */
    add: (piece) => open?.enqueue(piece),
    end() {
      open?.close();
      return module;
    },
  };
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
 * A module worker from its source text.
 * @param {string} text
 */
export function workerFromText(text) {
  const url = URL.createObjectURL(new Blob([text], { type: 'text/javascript' }));
  const worker = new Worker(url, { type: 'module' });
  worker.addEventListener('message', () => URL.revokeObjectURL(url), { once: true });
  return worker;
}
