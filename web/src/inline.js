// The package in one file: the WebAssembly files without threads and the worker are inside.
/** @import { File } from './types.js' */
/* global DF_SIMD_WASM, DF_RELAXED_WASM, DF_WORKER_JS */
import { load, tableWithoutModel, workerFromText } from './load.js';
import { nodeWorker } from './node-worker.js';

export { DfError } from './errors.js';
export { features } from './features.js';
export * from './types.js';

const files = {
  wasm: (/** @type {File} */ file) =>
    gunzip(Uint8Array.from(atob(file === 'simd' ? DF_SIMD_WASM : DF_RELAXED_WASM), byte)),
  threads: false,
  workers: [
    () => workerFromText(DF_WORKER_JS),
    () => nodeWorker(new URL(`data:text/javascript,${encodeURIComponent(DF_WORKER_JS)}`)),
  ],
};

const byte = (/** @type {string} */ character) => character.charCodeAt(0);

const gunzip = (/** @type {Uint8Array<ArrayBuffer>} */ bytes) =>
  new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream('gzip')));

/** @type {typeof import('./index.js').loadModel} */
export const loadModel = (source, options = {}) => load(files, source, options);

/** @type {typeof import('./index.js').levelTable} */
export const levelTable = (options) => tableWithoutModel(files, options);
