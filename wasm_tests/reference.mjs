// Sampling once more, in plain float64 JavaScript: the vector RNN with mlp_layers 1, DDIM with eta
// 0, one sequence. golden.test.mjs holds it to the authors' numbers, and the package to it. Text:
// src/tests/golden/README.md.

const gelu = (x) => (x * (1 + erf(x / Math.SQRT2))) / 2;
const elu = (x) => (x > 0 ? x : Math.expm1(x));
const sigmoid = (x) => 1 / (1 + Math.exp(-x));
const add = (a, b) => a.map((x, i) => x + b[i]);

/** Series of Abramowitz & Stegun 7.1.6; the tail is 1. */
function erf(x) {
  if (Math.abs(x) > 6) return Math.sign(x);
  let term = x;
  let sum = x;
  for (let n = 1; Math.abs(term) > 1e-17 * Math.abs(sum); n++) {
    term *= (2 * x * x) / (2 * n + 1);
    sum += term;
  }
  return (2 / Math.sqrt(Math.PI)) * Math.exp(-x * x) * sum;
}

/** y = W x + b */
function linear(weights, name, x, suffix = '') {
  const w = weights[`${name}${suffix ? `.weight_${suffix}` : '.weight'}`];
  const b = weights[`${name}${suffix ? `.bias_${suffix}` : '.bias'}`].data;
  const [out, from] = w.shape;
  if (from !== x.length) throw new Error(`${name}: ${from} columns for ${x.length} numbers`);
  return Array.from({ length: out }, (_, i) =>
    x.reduce((sum, value, j) => sum + w.data[i * from + j] * value, b[i]),
  );
}

function gru(weights, name, x, h) {
  const gi = linear(weights, name, x, 'ih');
  const gh = linear(weights, name, h, 'hh');
  const n = h.length;
  return h.map((state, i) => {
    const reset = sigmoid(gi[i] + gh[i]);
    const update = sigmoid(gi[n + i] + gh[n + i]);
    const next = Math.tanh(gi[2 * n + i] + reset * gh[2 * n + i]);
    return (1 - update) * next + update * state;
  });
}

/** sin_cos(t, d) */
function positionCode(t, d) {
  const angles = Array.from(
    { length: d / 2 },
    (_, j) => t * Math.exp((-j * Math.log(10000)) / (d / 2 - 1)),
  );
  return [...angles.map(Math.sin), ...angles.map(Math.cos)];
}

function code(weights, input, name, first, second) {
  return linear(weights, `${name}.${second}`, linear(weights, `${name}.${first}`, input).map(gelu));
}

/** What the network is told of a level, 0 (least noisy) to K-1. */
export function timeCode(net, weights, level) {
  return code(weights, positionCode(level, net.network_size), 'model.time_mlp', 1, 3);
}

/** One network pass: { out, z }. level counts 0 (least noisy) to K-1. */
export function pass(net, weights, z, x, level, condition) {
  const time = timeCode(net, weights, level);
  const cond = condition ? code(weights, condition, 'model.external_cond_mlp', 0, 2) : [];
  let v = [...z, ...x, ...time, ...cond];
  const hidden = linear(weights, 'model.mlp_before_gru.mlp.0', v).map(gelu);
  const mlp = linear(weights, 'model.mlp_before_gru.mlp.2', hidden);
  v = add(linear(weights, 'model.mlp_before_gru.shortcut', v), mlp).map(gelu);
  const n = z.length / net.gru_layers;
  const states = [];
  for (let i = 0; i < net.gru_layers; i++) {
    states.push((v = gru(weights, `model.gru_stack.${i}`, v, z.slice(i * n, (i + 1) * n))));
  }
  const next = linear(weights, 'model.mlp_after_gru', states.flat());
  return { out: linear(weights, 'x_from_z', next), z: next };
}

/** The state before the first token, from an observation. */
export function encode(weights, observation) {
  const first = linear(weights, 'init_encoder.0', observation).map(elu);
  return linear(weights, 'init_encoder.4', linear(weights, 'init_encoder.2', first).map(elu));
}

/** abar by level, 0 (clean) to K */
export function alphaBar(schedule, K) {
  const f = (i) => Math.cos((((i / K + 0.008) / 1.008) * Math.PI) / 2) ** 2;
  const beta = (i) =>
    schedule === 'linear'
      ? 0.1 / K + (19.9 / K) * (i / (K - 1))
      : Math.min(Math.max(1 - f(i + 1) / f(i), 0), 0.999);
  const abar = [1];
  for (let i = 0; i < K; i++) abar.push(abar[i] * (1 - beta(i)));
  return abar;
}

/**
 * Walks a level table: rows of grid indices 0 (clean) to S. noise (T)(D) and the result, the tokens
 * after every row, are in network units.
 */
export function sample({ config, weights, table, S, noise, z0, conditions }) {
  const { denoiser: net, diffusion } = config;
  const K = diffusion.levels;
  const abar = alphaBar(diffusion.schedule, K);
  const level = (i) => Math.floor((K * i) / S);
  const clip = diffusion.clip_noise ?? 20;
  let tokens = noise.map((token) => token.map((x) => Math.min(Math.max(x, -clip), clip)));
  const latents = noise.map(() => null); // of finished tokens, which are visited once more
  const rows = [];
  for (let m = 0; m + 1 < table.length; m++) {
    let z = z0 ?? new Array(net.latent_size).fill(0);
    tokens = tokens.map((x, t) => {
      const [from, to] = [level(table[m][t]), level(table[m + 1][t])];
      if (from > 0 && from === to) return x; // waits; nothing behind it is on its way
      if (latents[t]) z = latents[t];
      else {
        const run = pass(net, weights, z, x, Math.max(from - 1, 0), conditions?.[t]);
        z = run.z;
        if (from > 0) return move(diffusion.objective, abar[from], abar[to], x, run.out);
        latents[t] = z;
      }
      return x;
    });
    rows.push(tokens);
  }
  return rows;
}

/** DDIM from level a to level b (their abar), eta 0. */
function move(objective, a, b, x, out) {
  const x0 =
    objective === 'x0' ? out : x.map((xi, i) => Math.sqrt(a) * xi - Math.sqrt(1 - a) * out[i]);
  if (b === 1) return x0;
  return x.map((xi, i) => {
    const eps = (xi / Math.sqrt(a) - x0[i]) / Math.sqrt(1 / a - 1);
    return Math.sqrt(b) * x0[i] + Math.sqrt(1 - b) * eps;
  });
}
