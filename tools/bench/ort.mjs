// The other side: onnxruntime-web on wasm with one thread, as its own examples use it, and the
// sampling loop that a careful user would write around it.
import * as ort from '../../node_modules/onnxruntime-web/dist/ort.wasm.bundle.min.mjs';
import { alphaBar, timeCode } from '../../wasm_tests/reference.mjs';
import { emptyGraph, forms, productGraph, stepGraph } from './onnx.mjs';

ort.env.wasm.numThreads = 1;
ort.env.logLevel = 'error';

const open = (file) =>
  ort.InferenceSession.create(file, {
    executionProviders: ['wasm'],
    graphOptimizationLevel: 'all',
  });

const tensor = (data, shape) => new ort.Tensor('float32', data, shape);

/** { run(calls), result(), free() } */
async function repeated(file, inputs) {
  const session = await open(file);
  let results = {};
  return {
    run: async (calls) => {
      for (let i = 0; i < calls; i++) results = await session.run(inputs);
    },
    result: () => results,
    free: () => session.release(),
  };
}

/** A call that does nothing. */
export function empty() {
  return repeated(emptyGraph(16), { a: tensor(new Float32Array(16), [1, 16]) });
}

export async function product(m, k, n, a, b, bias) {
  const { result, ...rest } = await repeated(productGraph(m, k, n, b, bias), {
    a: tensor(a, [m, k]),
  });
  return { ...rest, result: () => result().y.data };
}

/** A step of a network: call(inputs) gives { out, z_next }. */
export async function step(net, weights, batch, form = forms[0]) {
  return fromFile(net, stepGraph(net, weights, batch, form), batch);
}

/** The same from the file that stepGraph made. */
export async function fromFile(net, file, batch) {
  const session = await open(file);
  const shapes = { x: [batch, net.x], z: [batch, net.z], time: [batch, net.time] };
  const call = async (inputs) => {
    const feeds = {};
    for (const [name, shape] of Object.entries(shapes)) feeds[name] = tensor(inputs[name], shape);
    const { out, z_next: next } = await session.run(feeds);
    return { out: out.data, z_next: next.data };
  };
  return { call, free: () => session.release() };
}

/**
 * Samples one sequence, row by row and token by token, with a step for one sequence. Tokens that
 * wait are not visited, finished ones once more for their latent; time codes are made once. DDIM
 * with eta 0, the model's output is the clean token.
 * @param {{ call: Function }} session
 * @param {{ levels: Int32Array, rows: number, columns: number, steps: number }} table
 * @param {Float32Array} noise (T, X) network units
 */
export async function sample(session, config, weights, table, noise) {
  const { denoiser, diffusion } = config;
  const { levels, rows, columns: T, steps } = table;
  const K = diffusion.levels;
  const X = noise.length / T;
  const abar = alphaBar(diffusion.schedule, K);
  const level = (i) => Math.floor((K * i) / steps);
  const codes = Array.from({ length: steps + 1 }, (_, i) =>
    Float32Array.from(timeCode(denoiser, weights, Math.max(level(i) - 1, 0))),
  );
  const tokens = noise.slice();
  const start = new Float32Array(denoiser.latent_size);
  const finished = new Array(T).fill(null); // latents
  for (let m = 0; m + 1 < rows; m++) {
    let z = start;
    for (let t = 0; t < T; t++) {
      const from = levels[m * T + t];
      const to = levels[(m + 1) * T + t];
      if (from > 0 && from === to) break; // waits, and so do all behind it
      if (finished[t]) {
        z = finished[t];
        continue;
      }
      const x = tokens.subarray(t * X, (t + 1) * X);
      const { out, z_next: next } = await session.call({ x: x.slice(), z, time: codes[from] });
      z = next;
      if (from === 0) finished[t] = next;
      else move(abar[level(from)], abar[level(to)], x, out);
    }
  }
  return tokens;
}

/** x moves from level a to b (their alpha-bar), where x0 is the clean token. */
function move(a, b, x, x0) {
  const c = Math.sqrt(1 - b) / Math.sqrt(1 / a - 1);
  for (let i = 0; i < x.length; i++) {
    x[i] = Math.sqrt(b) * x0[i] + c * (x[i] / Math.sqrt(a) - x0[i]);
  }
}
