// The run that the page opens with: a real one, recorded by record.mjs, so that something is seen
// before the model is there. All numbers are kept as differences to the row before, in int8, as
// base64.

import { Run } from './run.js';

/** Units per step of the stored numbers: x, y, pen. */
export const GRAIN = [0.5, 0.5, 0.02];

/** @returns {Run} */
export function recordedRun({ settings, T, F, C, rows, levels, tokens, estimate, frames }) {
  const run = new Run(settings, { T, F, C });
  const read = (text) => Int8Array.from(atob(text), (c) => c.charCodeAt(0));
  const data = {
    levels: read(levels),
    tokens: read(tokens),
    estimate: read(estimate),
    frames: read(frames),
  };
  const part = (name, m, size) => data[name].subarray(m * size, (m + 1) * size);
  const sums = { tokens: new Int32Array(T * F * C), estimate: new Int32Array(T * F * C) };
  const values = (name, m) => {
    const sum = sums[name];
    part(name, m, sum.length).forEach((d, i) => (sum[i] += d));
    return Float32Array.from(sum, (v, i) => v * GRAIN[i % C]);
  };
  for (let m = 0; m <= rows; m++)
    run.add({
      row: m,
      rows,
      ms: 0,
      done: m === rows,
      levels: Int32Array.from(part('levels', m, T)),
      tokens: values('tokens', m),
      estimate: values('estimate', m),
      frames: Int32Array.from(part('frames', m, T)),
      lengths: [T],
    });
  return run;
}

/** The other way: a finished run as JSON. Only the tokens before the end are kept. */
export function packRun(run) {
  const { F, C } = run;
  const T = run.length;
  const bytes = (numbers) => {
    let text = '';
    for (const v of Int8Array.from(numbers)) text += String.fromCharCode(v & 255);
    return btoa(text);
  };
  const deltas = (name) => {
    const sum = new Int32Array(T * F * C);
    return run.rows.flatMap((row) =>
      Array.from(sum, (was, i) => {
        const step = Math.max(-127, Math.min(127, Math.round(row[name][i] / GRAIN[i % C]) - was));
        sum[i] += step;
        return step;
      }),
    );
  };
  const cut = (name) => run.rows.flatMap((row) => Array.from(row[name].subarray(0, T)));
  return {
    settings: run.settings,
    T,
    F,
    C,
    rows: run.last,
    levels: bytes(cut('levels').map((v) => Math.min(v, run.S))),
    tokens: bytes(deltas('tokens')),
    estimate: bytes(deltas('estimate')),
    frames: bytes(cut('frames')),
  };
}
