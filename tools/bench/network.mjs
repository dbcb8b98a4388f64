// The networks of the benchmark as lists of layers, from which the weights, the model file and the
// ONNX graph are made.
//
// A network takes x (B, X), z (B, Z) and a code of the level, time (B, s), and gives out (B, X) and
// the next z: concat [z, x, time], the layers `before`, a GRU cell, the layers `after`, a linear head.
// Transformers are sizes and parameters only.
import { writeSafetensors } from '../../wasm_tests/safetensors.mjs';

/**
 * @typedef {object} Layer
 * @property {string} name
 * @property {'linear' | 'residual'} kind
 * @property {number} from
 * @property {number} to
 */
/**
 * @typedef {object} Network
 * @property {string} name
 * @property {number} x
 * @property {number} z
 * @property {number} time
 * @property {Layer[]} before
 * @property {Layer[]} after
 * @property {string} gru   name of the cell (Z, Z)
 * @property {string} head  name of the linear layer (Z, X)
 * @property {string | null} code  prefix of the two layers that make `time` from the level; null:
 *   time is given
 */

/** The step that src/tests/bench_wasm.c builds, with its names. */
export const rnnStep = {
  name: 'RNN step',
  ...{ x: 60, z: 128, time: 32, gru: 'gru.0', head: 'head', code: null },
  before: [
    { kind: 'residual', name: 'before.0', from: 220, to: 1024 },
    { kind: 'residual', name: 'before.1', from: 1024, to: 1024 },
    { kind: 'residual', name: 'before.2', from: 1024, to: 1024 },
    { kind: 'residual', name: 'before.3', from: 1024, to: 128 },
  ],
  after: [{ kind: 'linear', name: 'after.0', from: 128, to: 128 }],
};

/** The network of a model's config: src/denoisers/rnn.c with one GRU layer and mlp_layers >= 2. */
export function networkOf({ name, denoiser: net, tokens }) {
  const [X, Z, s, hidden] = [
    tokens.fields.length,
    net.latent_size,
    net.network_size,
    net.hidden_size,
  ];
  const mlp = (prefix, from) =>
    Array.from({ length: net.mlp_layers }, (_, i) => {
      const last = i === net.mlp_layers - 1;
      return {
        kind: last ? 'linear' : 'residual',
        name: `${prefix}.${i}`,
        from: i ? hidden : from,
        to: last ? Z : hidden,
      };
    });
  return {
    name,
    ...{ x: X, z: Z, time: s, gru: 'model.gru_stack.0', head: 'x_from_z', code: 'model.time_mlp' },
    before: mlp('model.mlp_before_gru', Z + X + s),
    after: mlp('model.mlp_after_gru', Z),
  };
}

/** The network of src/denoisers/transformer.c. */
export function transformerOf({ name, denoiser: net, tokens }) {
  const { network_size: width, hidden_size: hidden, layers } = net;
  return { name, x: tokens.fields.length, width, hidden, layers };
}

const netOf = (config) =>
  config.denoiser.kind === 'transformer' ? transformerOf(config) : networkOf(config);

/** Name and shape of every parameter. */
export function parameters(net) {
  const shapes = {};
  const linear = (name, from, to) => {
    shapes[`${name}.weight`] = [to, from];
    shapes[`${name}.bias`] = [to];
  };
  if (net.layers) {
    const { x, width, hidden } = net;
    linear('model.init_mlp.0', x + width / 2, width);
    linear('model.init_mlp.2', width, width);
    for (let i = 0; i < net.layers; i++) {
      const layer = `model.transformer.layers.${i}`;
      shapes[`${layer}.self_attn.in_proj_weight`] = [3 * width, width];
      shapes[`${layer}.self_attn.in_proj_bias`] = [3 * width];
      linear(`${layer}.self_attn.out_proj`, width, width);
      linear(`${layer}.linear1`, width, hidden);
      linear(`${layer}.linear2`, hidden, width);
      for (const norm of ['norm1', 'norm2']) {
        shapes[`${layer}.${norm}.weight`] = [width];
        shapes[`${layer}.${norm}.bias`] = [width];
      }
    }
    linear('model.out', width, x);
    return shapes;
  }
  if (net.code) {
    linear(`${net.code}.1`, net.time, net.time);
    linear(`${net.code}.3`, net.time, net.time);
  }
  for (const { kind, name, from, to } of [...net.before, ...net.after]) {
    if (kind === 'linear') linear(name, from, to);
    else {
      linear(`${name}.mlp.0`, from, to);
      linear(`${name}.mlp.2`, to, to);
      if (from !== to) linear(`${name}.shortcut`, from, to);
    }
  }
  shapes[`${net.gru}.weight_ih`] = [3 * net.z, net.z];
  shapes[`${net.gru}.weight_hh`] = [3 * net.z, net.z];
  shapes[`${net.gru}.bias_ih`] = [3 * net.z];
  shapes[`${net.gru}.bias_hh`] = [3 * net.z];
  linear(net.head, net.z, net.x);
  return shapes;
}

/** Numbers from -1 to 1, the same in every run. */
export function generator(seed) {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 31 - 1;
  };
}

/** Weights in -1 .. 1 over the square root of the row length, as PyTorch initialises; scales of norms about 1. */
export function randomWeights(net) {
  const uniform = generator(12345);
  const tensors = {};
  for (const [name, shape] of Object.entries(parameters(net))) {
    const data = new Float32Array(shape.reduce((a, b) => a * b));
    const scale = 1 / Math.sqrt(shape.at(-1));
    const about = /norm\d\.weight$/.test(name) ? 1 : 0;
    for (let i = 0; i < data.length; i++) data[i] = about + scale * uniform();
    tensors[name] = { shape, data };
  }
  return tensors;
}

/** Multiplications and additions of one step for one sequence. */
export function operations(net) {
  return Object.entries(parameters(net))
    .filter(([name, shape]) => shape.length === 2 && !(net.code && name.startsWith(net.code)))
    .reduce((sum, [, [to, from]]) => sum + 2 * to * from, 0);
}

export function size(net) {
  const count = (shape) => shape.reduce((a, b) => a * b);
  return Object.values(parameters(net)).reduce((sum, shape) => sum + count(shape), 0);
}

export function modelFile(config) {
  return writeSafetensors(randomWeights(netOf(config)), { config: JSON.stringify(config) });
}
