/** @import { Model } from './model.js' */
/** @import { Source } from './read.js' */
/** @import { File, LevelTable, LoadOptions, TableOptions } from './types.js' */
/* global Worker */
import { load, tableWithoutModel, workerFromText } from './load.js';
import { nodeWorker } from './node-worker.js';

export { DfError } from './errors.js';
export { features } from './features.js';
export * from './types.js'; // types only: import type { Row } from 'diffusion-forcing'

const here = import.meta.url;

const files = {
  // Bundlers look for exactly these forms of new URL() and new Worker().
  wasm: (/** @type {File} */ file) =>
    ({
      simd: () => new URL('./df.simd.wasm', import.meta.url),
      relaxed: () => new URL('./df.relaxed.wasm', import.meta.url),
      'simd.threads': () => new URL('./df.simd.threads.wasm', import.meta.url),
      'relaxed.threads': () => new URL('./df.relaxed.threads.wasm', import.meta.url),
    })[file](),
  threads: true,
  workers: [
    () => new Worker(new URL('./worker.js', import.meta.url), { type: 'module' }),
    // A worker's script must come from the page's own origin; what that imports need not.
    () => workerFromText(`import ${JSON.stringify(new URL('./worker.js', here))};`),
    () => nodeWorker(new URL('./worker.js', here)),
  ],
};

/**
 * Loads a model, and the WebAssembly file that runs it.
 * @param {Source} source a URL, a path (outside browsers), a Response, a Blob or bytes
 * @param {LoadOptions} [options]
 * @returns {Promise<Model>}
 */
export function loadModel(source, options = {}) {
  return load(files, source, options);
}

/**
 * The level table of a schedule, without a model.
 * @param {TableOptions & LoadOptions} options
 * @returns {Promise<LevelTable>}
 */
export function levelTable(options) {
  return tableWithoutModel(files, options);
}
