// Models with references for model.verify().
import { golden } from './helpers.mjs';
import { pass } from './reference.mjs';
import { writeSafetensors } from './safetensors.mjs';

/** Mean and standard deviation of field i. */
const scale = (i) => ({ mean: i - 2, std: 1 + i / 4 });

const largest = (data) => data.reduce((most, x) => Math.max(most, Math.abs(x)), 0);

/** Config and weights of a golden file whose network stands alone. */
function goldenNetwork(name) {
  const { tensors, metadata } = golden(name);
  const settings = JSON.parse(metadata.config);
  const { diffusion } = settings;
  const D = settings.x_shape[0];
  const E = settings.external_cond_dim;
  const config = {
    format: 'diffusion-forcing/1',
    name,
    denoiser: {
      kind: 'rnn',
      latent_size: settings.z_shape[0],
      network_size: diffusion.network_size,
      mlp_layers: diffusion.num_mlp_layers,
      gru_layers: diffusion.num_gru_layers,
      initial: 'learned',
    },
    diffusion: {
      levels: diffusion.timesteps,
      objective: diffusion.objective.replace('pred_', ''),
      schedule: diffusion.beta_schedule,
      clip_noise: diffusion.clip_noise,
    },
    tokens: { fields: Array.from({ length: D }, (_, i) => ({ name: `x${i}`, ...scale(i) })) },
    condition: { fields: Array.from({ length: E }, (_, i) => `c${i}`) },
  };
  const weights = Object.fromEntries(
    Object.entries(tensors)
      .filter(([key]) => /^weights\.(model|x_from_z)\./.test(key))
      .map(([key, tensor]) => [key.slice('weights.'.length), tensor]),
  );
  return { config, weights, tensors, numerics: JSON.parse(metadata.numerics) };
}

/**
 * The two files. outputs: tensors by name, with the rounding noise of those that have a tolerance.
 */
function write({ config, weights, inputs, outputs, noise, format }) {
  const numerics = Object.fromEntries(
    Object.entries(noise).map(([name, x]) => [name, [largest(outputs[name].data), x]]),
  );
  return {
    model: writeSafetensors(weights, { config: JSON.stringify(config) }),
    reference: writeSafetensors(
      { ...inputs, ...outputs },
      {
        format: 'diffusion-forcing-reference/1',
        weights: format,
        numerics: JSON.stringify(numerics),
        source: 'a test',
      },
    ),
  };
}

const floats = (shape, data) => ({ shape, data: Float32Array.from(data) });

/** Tokens (B, T, D) in data units. */
function frames(shape, x) {
  const [B, T, D] = shape;
  const decoded = Array.from(x, (value, i) => value * scale(i % D).std + scale(i % D).mean);
  return floats([B, T, 1, D], decoded);
}

/**
 * One pass on sequence b, with what PyTorch computed. change: of one weight. format: of the
 * weights, as the reference has it.
 */
export function goldenPair({ name = 'rnn_mlp_pred', b = 0, change = 0, format = 'f32' } = {}) {
  const { config, weights, tensors, numerics } = goldenNetwork(name);
  const row = (key) => {
    const { shape, data } = tensors[key];
    return data.slice(b * shape[1], (b + 1) * shape[1]);
  };
  const x = row('in.x');
  const z0 = row('in.z');
  const [D, Z, E] = [x.length, z0.length, config.condition.fields.length];
  const changed = weights['x_from_z.weight'];
  changed.data[1] += change;
  return write({
    config,
    weights: { ...weights, init_z: { shape: [Z], data: z0 } },
    format,
    inputs: {
      'in.x': floats([1, 1, D], x),
      'in.level': { shape: [1, 1], data: BigInt64Array.of(tensors['in.t'].data[b] + 1n) },
      ...(E && { 'in.cond': floats([1, 1, E], row('in.external_cond')) }),
    },
    outputs: {
      'out.z0': floats([1, Z], z0),
      'out.output': floats([1, 1, D], row('out.predict.model_out')),
      'out.z': floats([1, 1, Z], row('out.predict.pred_z')),
      'out.frames': frames([1, 1, D], x),
    },
    noise: {
      'out.z0': 0,
      'out.output': numerics['out.predict.model_out'][1],
      'out.z': numerics['out.predict.pred_z'][1],
      'out.frames': 0,
    },
  });
}

/** Matrices in 8 bits with their scales, and all weights as they then are. */
function quantise(weights) {
  const stored = {};
  const rounded = {};
  for (const [name, { shape, data }] of Object.entries(weights)) {
    const [rows, cols] = shape;
    stored[name] = rounded[name] = { shape, data };
    if (!cols) continue;
    const scales = Float32Array.from({ length: rows }, (_, i) =>
      Math.fround(largest(data.subarray(i * cols, (i + 1) * cols)) / 127),
    );
    const bytes = Int8Array.from(data, (x, i) => Math.round(x / scales[Math.floor(i / cols)]));
    stored[name] = { shape, data: bytes };
    stored[`${name}.scale`] = { shape: [rows], data: scales };
    rounded[name] = floats(
      shape,
      Array.from(bytes, (q, i) => q * scales[Math.floor(i / cols)]),
    );
  }
  return { stored, rounded };
}

/** Three tokens of two sequences in 8 bits, computed in float64 (reference.mjs). */
export function bytesPair() {
  const { config, weights, tensors } = goldenNetwork('rnn_mlp_pred');
  const [B, T] = [2, 3];
  const Z = config.denoiser.latent_size;
  const D = config.tokens.fields.length;
  const E = config.condition.fields.length;
  const all = { ...weights, init_z: { shape: [Z], data: tensors['in.z'].data.slice(0, Z) } };
  const { stored, rounded } = quantise(all);
  const x = tensors['in.train.x'].data.slice(0, B * T * D);
  const cond = tensors['in.train.external_cond'].data.slice(0, B * T * E);
  const levels = [1, 17, 400, 999, 1000, 2];
  const run = (w) => {
    const outs = [];
    const latents = [];
    for (let b = 0; b < B; b++) {
      let z = Array.from(w.init_z.data);
      for (let i = b * T; i < (b + 1) * T; i++) {
        const token = Array.from(x.subarray(i * D, (i + 1) * D));
        const condition = Array.from(cond.subarray(i * E, (i + 1) * E));
        const step = pass(config.denoiser, w, z, token, levels[i] - 1, condition);
        z = step.z;
        outs.push(...step.out);
        latents.push(...z);
      }
    }
    const z0 = Array.from(w.init_z.data);
    return [floats([B, Z], [...z0, ...z0]), floats([B, T, D], outs), floats([B, T, Z], latents)];
  };
  const [z0, out, z] = run(rounded);
  const [z0Before, outBefore, zBefore] = run(all);
  return write({
    config,
    weights: stored,
    format: 'int8',
    inputs: {
      'in.x': floats([B, T, D], x),
      'in.level': { shape: [B, T], data: BigInt64Array.from(levels, BigInt) },
      'in.cond': floats([B, T, E], cond),
    },
    outputs: {
      'out.z0': z0,
      'out.output': out,
      'out.z': z,
      'out.frames': frames([B, T, D], x),
      'f32.z0': z0Before,
      'f32.output': outBefore,
      'f32.z': zBefore,
    },
    // Of the position code at large levels, in float32
    noise: { 'out.z0': 0, 'out.output': 1e-6, 'out.z': 1e-6, 'out.frames': 0 },
  });
}
