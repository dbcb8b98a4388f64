// Small models with random weights, made anew in every test run.
import { writeSafetensors } from './safetensors.mjs';

/** Pen strokes: two points in a token, a stop head; the pen is binary. */
export const strokes = {
  format: 'diffusion-forcing/1',
  name: 'tiny',
  denoiser: {
    kind: 'rnn',
    latent_size: 24,
    network_size: 8,
    mlp_layers: 1,
    gru_layers: 1,
    stop_head: true,
  },
  diffusion: { levels: 100, objective: 'v', schedule: 'cosine' },
  tokens: {
    frame_stack: 2,
    present: true,
    fields: [
      { name: 'dx', mean: 1, std: 20 },
      { name: 'dy', mean: -2, std: 15 },
      { name: 'pen', mean: 0.3, std: 0.5, binary: true, threshold: 0.4 },
    ],
  },
  sampling: { schedule: 'pyramid', steps: 8, uncertainty: 1, max_tokens: 6 },
};

/** The same without stop head and without marks of where the frames end. */
export const endless = {
  ...strokes,
  denoiser: { ...strokes.denoiser, stop_head: false },
  tokens: { ...strokes.tokens, present: false },
};

/** Two numbers under one condition, the first state encoded from three; two GRU layers. */
export const conditioned = {
  format: 'diffusion-forcing/1',
  name: 'tiny-conditioned',
  denoiser: {
    kind: 'rnn',
    latent_size: 16,
    network_size: 4,
    mlp_layers: 1,
    gru_layers: 2,
    initial: 'encoded',
    observation_size: 3,
  },
  diffusion: { levels: 50, objective: 'x0', schedule: 'linear' },
  tokens: { frame_stack: 1, fields: [{ name: 'a' }, { name: 'b', std: 3 }] },
  condition: { fields: ['force'] },
  sampling: { schedule: 'autoregressive', steps: 5, max_tokens: 4 },
};

/** The same with an observation in data units. */
export const observing = {
  ...conditioned,
  observation: { fields: [{ name: 'x', mean: 1, std: 2 }, { name: 'y' }, { name: 'v', std: 0.5 }] },
};

// One model for each way in which the viewer draws.

export const path = {
  ...endless,
  tokens: {
    frame_stack: 2,
    fields: [
      { name: 'x', mean: 4, std: 2 },
      { name: 'y', mean: -1 },
    ],
  },
};
export const lines = {
  ...endless,
  tokens: {
    fields: [
      { name: 'speed', mean: 20, std: 5 },
      { name: 'height', mean: 900, std: 300 },
    ],
  },
};
export const image = {
  ...endless,
  tokens: {
    fields: Array.from({ length: 12 }, (_, i) => ({ name: `p${i}`, mean: 0.5, std: 0.3 })),
  },
  view: { kind: 'image', width: 4, height: 3, channels: 1 },
};
export const table = {
  ...endless,
  tokens: {
    fields: [
      ...'abcdefgh'.split('').map((name, i) => ({ name, mean: i })),
      { name: 'on', mean: 0.5, std: 0.5, binary: true },
    ],
  },
};

/** Name and shape of all parameters of an RNN with mlp_layers 1, as in src/denoisers/rnn.c. */
export function parameterShapes({ denoiser: net, tokens, condition }) {
  const Z = net.latent_size;
  const s = net.network_size;
  const F = tokens.frame_stack ?? 1;
  const D = F * (tokens.fields.length + (tokens.present ? 1 : 0));
  const E = F * (condition?.fields.length ?? 0);
  const layers = net.gru_layers ?? 1;
  const n = Z / layers;
  const input = Z + D + s + (E ? s : 0);

  const shapes = {};
  const linear = (name, out, from) => {
    shapes[`${name}.weight`] = [out, from];
    shapes[`${name}.bias`] = [out];
  };
  linear('model.time_mlp.1', s, s);
  linear('model.time_mlp.3', s, s);
  if (E) {
    linear('model.external_cond_mlp.0', s, E);
    linear('model.external_cond_mlp.2', s, s);
  }
  linear('model.mlp_before_gru.mlp.0', Z, input);
  linear('model.mlp_before_gru.mlp.2', Z, Z);
  linear('model.mlp_before_gru.shortcut', Z, input);
  for (let i = 0; i < layers; i++) {
    shapes[`model.gru_stack.${i}.weight_ih`] = [3 * n, i ? n : Z];
    shapes[`model.gru_stack.${i}.weight_hh`] = [3 * n, n];
    shapes[`model.gru_stack.${i}.bias_ih`] = [3 * n];
    shapes[`model.gru_stack.${i}.bias_hh`] = [3 * n];
  }
  linear('model.mlp_after_gru', Z, Z);
  linear('x_from_z', D, Z);
  if (net.stop_head) linear('stop', 1, Z);
  if (net.initial === 'learned') shapes.init_z = [Z];
  if (net.initial === 'encoded') {
    linear('init_encoder.0', 128, net.observation_size);
    linear('init_encoder.2', 128, 128);
    linear('init_encoder.4', Z, 128);
  }
  return shapes;
}

/** Weights in -1 .. 1 over the square root of the row length, the same in every run. */
export function randomWeights(config) {
  let state = 12345;
  const uniform = () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 31 - 1;
  };
  const tensors = {};
  for (const [name, shape] of Object.entries(parameterShapes(config))) {
    const size = shape.reduce((a, b) => a * b);
    const scale = 1.7 / Math.sqrt(shape.at(-1));
    tensors[name] = { shape, data: Float32Array.from({ length: size }, () => scale * uniform()) };
  }
  if (config.denoiser.stop_head) tensors['stop.bias'].data.fill(-1.5); // some sequences end early
  return tensors;
}

/** A model file. */
export function tinyModel(config = strokes) {
  return writeSafetensors(randomWeights(config), { config: JSON.stringify(config) });
}
