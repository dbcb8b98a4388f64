import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { DfError, features, loadModel } from '../web/dist/index.js';
import { NodeWorker } from './node-worker.mjs';
import { readSafetensors } from './safetensors.mjs';
import { strokes, tinyModel } from './tiny.mjs';

/** The ways to run a model here: in this thread, and through the protocol of one worker or more, with threads. */
export const ways = {
  'in-thread': {},
  worker: { worker: () => new NodeWorker() },
  pool: { worker: () => new NodeWorker(), workers: 3 },
  threads: { worker: () => new NodeWorker(), threads: 3 },
};

export const builds = ['simd', 'relaxed'];

/** Why a build cannot be tested here; false if it can. */
export function skipReason(build) {
  return features()[build]
    ? false
    : `this Node has no ${build} (node --experimental-wasm-relaxed-simd)`;
}

/** Loads a tiny model for the length of a test. */
export async function tiny(t, options = {}, config = strokes) {
  const model = await loadModel(tinyModel(config), options);
  t.after(() => model.dispose());
  return model;
}

/** A copy that outlives the next step. */
export function copyRow(row) {
  const copy = { ...row };
  for (const [key, value] of Object.entries(copy))
    if (ArrayBuffer.isView(value)) copy[key] = value.slice();
  delete copy.ms;
  return copy;
}

/** All rows of a sampler, and the start, as copies. */
export async function allRows(sampler) {
  const rows = [copyRow(await sampler.state())];
  for await (const row of sampler) rows.push(copyRow(row));
  return rows;
}

/** A validator for assert.rejects and assert.throws: a DfError with this code and message. */
export function dfError(code, message = /./) {
  return (error) => {
    assert.ok(error instanceof DfError, `expected a DfError, found ${error?.stack ?? error}`);
    assert.equal(error.code, code, error.message);
    assert.match(error.message, message);
    return true;
  };
}

/** A file of the authors' numbers. */
export function golden(name) {
  const file = new URL(`../src/tests/golden/${name}.safetensors`, import.meta.url);
  return readSafetensors(new Uint8Array(readFileSync(file)));
}
