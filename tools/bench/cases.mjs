// What is measured: the one table to change when a case, a network or a way to run the package is added.

/** C (M, N) = A (M, K) B (K, N), weights B constant. */
export const products = [
  [1, 128, 128],
  [8, 128, 128],
  [32, 128, 128],
  [1, 256, 256],
  [32, 256, 256],
  [100, 256, 256],
  [1, 512, 512],
  [8, 512, 512],
  [100, 512, 512],
  [256, 512, 512],
  [1, 512, 1536],
  [8, 512, 1536],
  [32, 512, 1536],
  [100, 512, 1536],
  [1, 1024, 3072],
  [32, 1024, 3072],
  [256, 1024, 3072],
];

/** Sequences side by side in one step of a network. */
export const batches = [1, 8, 32, 100];

/**
 * Ways to run the package: `load` goes to loadModel, `sampler` to model.sampler, `plans` are
 * measured too. A build that the engine lacks is left out. `tolerance`: how far its results may be off.
 */
export const variants = {
  relaxed: { build: 'relaxed', load: {}, sampler: {}, plans: true },
  simd: { build: 'simd', load: {}, sampler: {}, plans: false },
  int8: {
    build: 'relaxed',
    load: {},
    sampler: { weights: 'int8' },
    plans: true,
    tolerance: 0.1, // weights of 8 bits are not the same numbers
  },
};

/** A whole plan: T tokens, S steps, level tables by uncertainty; `compared` with ONNX Runtime. */
export const plan = { length: 60, steps: 50, uncertainties: [0, 1, 50], compared: 1 };

const planner = {
  kind: 'rnn',
  latent_size: 128,
  network_size: 32,
  hidden_size: 1024,
  mlp_layers: 4,
  gru_layers: 1,
};

/**
 * Models with random weights. Their output is taken for the clean token, so that rounding does not
 * grow over the rows of a plan.
 */
export const models = {
  planner: model('planner', planner, 60, 1000),
  kanji: model(
    'kanji',
    { ...planner, latent_size: 256, hidden_size: 384, mlp_layers: 2 },
    20,
    1000,
  ),
};

const transformer = (network_size, layers, heads) => ({
  kind: 'transformer',
  ...{ network_size, layers, heads, hidden_size: 4 * network_size, window: plan.length },
});

/** Causal transformers: of the size of our kanji model, of a planner, and the least one for tokens of each size. */
export const transformers = {
  'kanji-attention': model('kanji-attention', transformer(128, 4, 4), 16, 1000),
  'planner-attention': model('planner-attention', transformer(512, 6, 8), 24, 1000),
  'idle-kanji-attention': model('idle-kanji-attention', transformer(8, 1, 1), 16, 1000),
  'idle-planner-attention': model('idle-planner-attention', transformer(8, 1, 1), 24, 1000),
};

/**
 * Rows with keys and values kept against the same rows computed anew. Of each table as many rows are timed, evenly
 * spread, as come to `work` floating-point operations, but no fewer than the first of `rows` and no more than the second.
 */
export const kept = {
  names: ['kanji-attention', 'planner-attention'],
  batches: [1, 8],
  schedules: [
    { name: 'autoregressive', schedule: 'autoregressive', uncertainty: plan.steps },
    { name: 'pyramid, u = 10', schedule: 'pyramid', uncertainty: 10 },
    { name: 'pyramid, u = 1', schedule: 'pyramid', uncertainty: 1 },
    { name: 'full sequence', schedule: 'full-sequence', uncertainty: 0 },
  ],
  work: 8e9,
  rows: [3, 97],
};

function model(name, denoiser, size, levels) {
  return {
    format: 'diffusion-forcing/1',
    name,
    denoiser,
    diffusion: { levels, objective: 'x0', schedule: 'cosine', clip_noise: 20 },
    tokens: { fields: Array.from({ length: size }, (_, i) => ({ name: `x${i}` })) },
    sampling: { schedule: 'pyramid', steps: 50, uncertainty: 1, max_tokens: 60 },
  };
}

/** Plans with rows computed ahead against row by row. */
export const ahead = [
  { name: 'planner', batches: [1] },
  { name: 'kanji', batches: [1, 8, 100] },
];

/**
 * Guided rows in which all tokens fall, against unguided ones; and what guidance holds of memory. `terms` look at the
 * first two numbers of a frame.
 */
export const guided = {
  cases: [
    { name: 'kanji', batches: [1, 8] },
    { name: 'planner', batches: [1] },
  ],
  rows: 8,
  ways: {
    guided: { terms: [{ kind: 'target', x: 0, y: 1, at: [1, 2] }] },
    'four futures': { terms: [{ kind: 'target', x: 0, y: 1, at: [1, 2] }], futures: 4 },
  },
};

/** Ways to use two cores; the first one is what the others are compared with. */
export const parallel = {
  name: 'kanji',
  sampler: { length: 20, steps: 25, schedule: 'pyramid', uncertainty: 1 },
  batches: [1, 8, 100],
  ways: {
    'one worker': { workers: 1, threads: 1 },
    'two workers': { workers: 2 },
    'two threads': { workers: 1, threads: 2 },
  },
};

/** How long and how often: ms of one measurement, ms of warming up, rounds; times that a guidance is replaced. */
export const effort = {
  full: {
    window: 12,
    warm: 150,
    rounds: 11,
    planRounds: 2,
    keptRounds: 3,
    guidances: 100,
    parallelRounds: 7,
    startRounds: 5,
    torchSeconds: 6,
  },
  quick: {
    window: 6,
    warm: 50,
    rounds: 3,
    planRounds: 1,
    keptRounds: 1,
    guidances: 3,
    parallelRounds: 1,
    startRounds: 1,
    torchSeconds: 2,
  },
};

/**
 * Training, natively against PyTorch. `steps` are those of ours that count; as many run before them,
 * in which plans are made. PyTorch has two steps before those that count.
 */
export const trainings = [
  {
    name: 'kanji recipe',
    recipe: 'models/kanji/recipe.json', // its own data
    steps: { full: 60, quick: 20 },
    torchSteps: { full: 30, quick: 8 },
  },
  {
    name: 'width 1024, 60 tokens, batch 64',
    denoiser: { ...planner, initial: 'zero' }, // random data
    size: 60,
    length: 60,
    batch: 64,
    steps: { full: 2, quick: 1 },
    torchSteps: { full: 2, quick: 1 },
  },
];
