// The model behind a page, and what to say when it cannot be had.

import { features, loadModel } from 'diffusion-forcing';

/**
 * @param {URL} url  of the model
 * @param {{onProgress: (p: import('../src/types.js').Progress) => void}} options
 */
export async function load(url, { onProgress }) {
  if (!features().simd)
    throw Object.assign(new Error('no WebAssembly SIMD'), { code: 'NOT_SUPPORTED' });
  const build = new URLSearchParams(location.search).get('build') === 'simd' ? 'simd' : 'auto';
  // Batches of a dozen or two gain little from more, and every worker has to start first.
  const workers = Math.min(4, navigator.hardwareConcurrency ?? 1);
  return loadModel(url, { build, onProgress, workers });
}

/** A sentence for people, by error code. */
export function trouble(error) {
  switch (error?.code) {
    case 'NOT_SUPPORTED':
      return 'This browser has no WebAssembly SIMD, so the model cannot run here.';
    case 'NO_MEMORY':
      return 'There was not enough memory. Fewer steps, or closing other tabs, may help.';
    case 'IO':
      return 'The model could not be fetched. Perhaps the connection was lost.';
    default:
      return `Something went wrong: ${error?.message ?? error}`;
  }
}

/** "relaxed SIMD, 1.3 ms per row, 2.4 MB" */
export function facts(model, ms) {
  const { build, modelBytes, wasmBytes } = model.info;
  const parts = [build === 'relaxed' ? 'relaxed SIMD' : 'SIMD'];
  if (ms > 0) parts.push(`${ms < 10 ? ms.toFixed(1) : Math.round(ms)} ms per row`);
  parts.push(`${megabytes(modelBytes + wasmBytes)} loaded`);
  return parts.join(' · ');
}

export const megabytes = (bytes) => `${(bytes / 1e6).toFixed(bytes < 1e6 ? 2 : 1)} MB`;
