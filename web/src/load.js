/** @import { Link } from './link.js' */
/** @import { Source } from './read.js' */
/** @import { Build, LevelTable, LoadOptions, PerBuild, TableOptions } from './types.js' */
/* global Worker */
import { Engine } from './core.js';
import { DfError } from './errors.js';
import { chooseBuild } from './features.js';
import { localLink, workerLink } from './link.js';
import { Model } from './model.js';
import { byteLength, read } from './read.js';

/**
 * Where an entry point of the package has its files.
 * @typedef {object} Files
 * @property {(build: Build) => URL | Response} wasm
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

  // Wasm file and model come at the same time; what fails first stops the other.
  const stop = new AbortController();
  const abort = () => stop.abort(signal?.reason);
  signal?.addEventListener('abort', abort);
  const engine = startEngine(files, build, options, stop.signal);
  try {
    const pieces = read(source, { signal: stop.signal, onProgress });
    const [file, { link, wasmBytes }] = await Promise.all([pieces, engine]);
    const modelBytes = byteLength(file);
    const { version, isa, parameters, bytes, ...facts } = await open(link, file, source);
    signal?.throwIfAborted();
    const info = {
      version,
      build,
      isa,
      threads: 1,
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
 * @returns {Promise<{ link: Link, wasmBytes: number }>}
 */
async function startEngine(files, build, options, signal) {
  const { wasm, wasmBytes } = await getWasm(files, build, options, signal);
  const { worker, inThread = !isPage() } = options;
  if (worker)
    return {
      link: await workerLink(typeof worker === 'function' ? worker() : worker, wasm),
      wasmBytes,
    };
  for (const make of inThread ? [] : files.workers) {
    try {
      return { link: await workerLink(make(), wasm), wasmBytes };
    } catch {
      // A script from another origin, a Content-Security-Policy, a bundler that lost the file: try
      // the next way.
    }
  }
  return { link: await localLink(wasm), wasmBytes };
}

function isPage() {
  return typeof document !== 'undefined' && typeof Worker === 'function';
}

/**
 * @param {Files} files
 * @param {Build} build
 * @param {LoadOptions} options
 * @param {AbortSignal} [signal]
 * @returns {Promise<{ wasm: BufferSource | WebAssembly.Module, wasmBytes: number }>}
 */
async function getWasm(files, build, { wasmBinary, wasmUrl }, signal) {
  const given = pick(wasmBinary, build) ?? pick(wasmUrl, build) ?? files.wasm(build);
  if (given instanceof WebAssembly.Module) return { wasm: given, wasmBytes: 0 };
  try {
    const wasm = await new Blob(
      /** @type {BlobPart[]} */ (await read(given, { signal })),
    ).arrayBuffer();
    return { wasm, wasmBytes: wasm.byteLength };
  } catch (error) {
    if (error instanceof DfError)
      error.hint = `The options wasmUrl and wasmBinary tell where df.${build}.wasm is.`;
    throw error;
  }
}

/**
 * @template T
 * @param {PerBuild<T> | undefined} given
 * @param {Build} build
 */
function pick(given, build) {
  const each = typeof given === 'object' && given && ('simd' in given || 'relaxed' in given);
  return each ? given[build] : /** @type {T | undefined} */ (given);
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
