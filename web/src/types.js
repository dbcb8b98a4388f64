// What goes into the package and comes out of it, as types. No code. The classes are in model.js,
// sampler.js, errors.js.
//
// Letters: B sequences in a batch, T tokens (columns of the level table), F frames per token (the
// frame stack), C fields per frame, S sampling steps, E external condition, O observation. Arrays
// are flat and row-major: tokens[((b * T + t) * F + f) * C + c].

/** @typedef {'simd' | 'relaxed'} Build */
/** @typedef {Build | `${Build}.threads`} File  df.FILE.wasm */
/**
 * @typedef {'full-sequence' | 'pyramid' | 'autoregressive' | 'trapezoid' | 'rolling' | 'custom'} Schedule
 */
/** @typedef {'f32' | 'int8'} Weights */
/** @typedef {'uniform' | 'quadratic' | 'fitted'} Grid */
/**
 * Numbers in data units: flat, or one array or one object per frame.
 * @typedef {ArrayLike<number> | ReadonlyArray<ArrayLike<number>> | ReadonlyArray<Frame>} Values
 */
/**
 * A frame by the names of its fields: { x: 3, y: -21, pen: 0 }
 * @typedef {Record<string, number>} Frame
 */

/**
 * @typedef {object} LoadOptions
 * @property {AbortSignal} [signal]  stops the download; loadModel rejects with signal.reason
 * @property {(progress: Progress) => void} [onProgress]
 * @property {boolean} [inThread]  true: compute in the calling thread. Default: a worker in pages,
 *   else in-thread
 * @property {number} [threads]  at most so many threads share one copy of the weights, and the work
 *   on one sequence too. In a page they need cross-origin isolation and a worker. Default: there one
 *   for each core, at most 8; elsewhere 1
 * @property {number | 'auto'} [workers]  so many workers share the batches of samplers, each with its
 *   own copy of the weights; 'auto': one for each core, at most 8, or one with threads. Default: one
 *   in pages, none (the calling thread) elsewhere
 * @property {Build | 'auto'} [build]  force one of the two builds. Default: relaxed where the
 *   engine has it
 * @property {PerBuild<string | URL>} [wasmUrl]  where the df.*.wasm files are
 * @property {PerBuild<BufferSource | WebAssembly.Module>} [wasmBinary]  or what they hold
 * @property {Worker | (() => Worker)} [worker]  a module worker of yours that runs
 *   'diffusion-forcing/worker'; with `workers` a function
 */
/**
 * @template T
 * @typedef {T | { simd?: T, relaxed?: T, 'simd.threads'?: T, 'relaxed.threads'?: T }} PerBuild
 *   one for the file in use, or one each
 */
/**
 * @typedef {object} Progress
 * @property {number} loaded  bytes so far
 * @property {number | null} total  of the file; null: the server does not say, or says it of a
 *   compressed body
 */

/**
 * Every field is optional: what is left out is the model's own sampling setting (model.defaults).
 * @typedef {object} SamplerOptions
 * @property {number | 'drawn'} [length]  tokens; 'drawn': the model's stop head decides; Infinity:
 *   tokens leave as they become clean and memory stays constant, without end unless a stop head
 *   ends it. Default: 'drawn' if the model has a stop head, else maxLength
 * @property {number} [maxLength]  tokens at most, for drawn lengths
 * @property {Schedule} [schedule]
 * @property {number} [steps]  S, 1 to K
 * @property {Grid} [grid]  which noise levels the steps visit: equally spaced ones; closer together
 *   where a token is nearly clean; or fitted to the model, if its file has such a grid
 * @property {number} [uncertainty]  u of pyramid and trapezoid: column t starts floor(u t) rows
 *   later; of rolling: so many rows finish one token
 * @property {number} [eta]  0: deterministic DDIM, 1: as noisy as DDPM
 * @property {boolean} [ancestral]  DDPM; needs steps = K
 * @property {boolean} [posterior]  a second pass at the new level gives the latent: exact, twice
 *   the cost
 * @property {number} [stabilization]  level 0 to K at which known and finished tokens enter the
 *   network
 * @property {Weights} [weights]  how weight matrices are held: 'f32', the default, or 'int8', faster
 *   and a quarter of the memory, at an error that `forcing eval` tells
 * @property {number | bigint} [seed]  0 to 2^64 - 1. Default 0: the same options give the same
 *   sequence
 * @property {number} [batch]  B independent sequences. Default 1
 * @property {number} [sequence]  number of the first sequence of the batch: sequence b of a batch
 *   is the same as a batch of one with sequence: b. Default 0
 * @property {Int32Array | ReadonlyArray<ArrayLike<number>>} [table]  a level table of your own,
 *   (rows, length), entries 0 to S; sets schedule: 'custom' and, from nested rows, length
 * @property {boolean} [allowRenoise]  columns of the table may rise
 * @property {boolean} [allowPartial]  and end above 0
 * @property {Values} [conditions]  (length, E) external conditions of all sequences, as the
 *   network takes them: sampler.condition(0, conditions)
 * @property {number} [threads]  of the model's threads, how many at most share a batch. Default:
 *   all. Changes speed only
 * @property {AbortSignal | null} [signal]  for all steps of this sampler that are given no signal
 *   of their own
 */

/**
 * The sequences after a row of the level table. The window is what is in memory: all T tokens, or
 * with an unbounded length those that are not yet clean and the newest clean ones.
 *
 * In-thread the arrays are views of the model's memory: valid until the next call on the model,
 * `.slice()` keeps them. From a worker they are copies and stay yours.
 * @typedef {object} Row
 * @property {number} row  rows done: 0 before the first step
 * @property {number} rows  rows to do: one less than the level table has, fewer once sequences
 *   turn out to end early; Infinity: unbounded
 * @property {number} batch  B
 * @property {number} columns  T, tokens in the window
 * @property {number} first  number of the window's first token; 0 unless unbounded
 * @property {number} steps  S, so that levels / steps is 0 (clean) to 1 (pure noise)
 * @property {number} frameStack  F
 * @property {number} fields  C
 * @property {Int32Array} levels  (B, T) 0 (clean) to S (pure noise); S + 1: behind the end of the
 *   sequence
 * @property {Float32Array} tokens  (B, T, F, C) the noisy tokens, data units
 * @property {Float32Array} estimate  (B, T, F, C) the network's estimate of the clean tokens, data
 *   units
 * @property {Int32Array} frames  (B, T) frames present in each token by the estimate, 0 to F
 * @property {Int32Array} lengths  (B) tokens of each sequence where known by now, else -1
 * @property {Float64Array | null} objective  (B) J of the estimates that the last step was made
 *   from, the mean of the futures; NaN before the first step, null if not guided
 * @property {number} clean  tokens before this one are clean in all sequences
 * @property {number} cells  network passes so far
 * @property {boolean} done  no row is left
 * @property {number} ms  time that the last row took; 0 before the first
 */

/**
 * @typedef {object} ModelInfo
 * @property {string} version  of the library
 * @property {Build} build  which of the two files runs
 * @property {string} isa  the kernels in use: 'simd128' or 'relaxed'
 * @property {number} threads  that share the work of each worker
 * @property {number} workers  that compute; 0: the calling thread does
 * @property {boolean} worker  workers > 0
 * @property {number} parameters  numbers in the model
 * @property {number} bytes  memory that the model holds, in all workers
 * @property {number} modelBytes  size of the model file
 * @property {number} wasmBytes  size of the wasm file; 0 if it was given as a WebAssembly.Module
 */
/**
 * @typedef {object} Field
 * @property {string} name
 * @property {number} mean
 * @property {number} std
 * @property {boolean} binary
 * @property {number} threshold  of a binary field: a value above it means 1
 */
/**
 * @typedef {Pick<Field, 'name' | 'mean' | 'std'>} ObservationField
 */
/**
 * What a sampler takes where an option is left out.
 * @typedef {object} Defaults
 * @property {Schedule} schedule
 * @property {number} steps
 * @property {Grid} grid
 * @property {number} uncertainty
 * @property {number} eta
 * @property {number} stabilization
 * @property {number} maxLength
 */
/**
 * @typedef {object} VerifyOptions
 * @property {Weights} [weights]  the arithmetic: 'f32', the default, or 'int8', whose differences
 *   are only reported unless there is a tolerance
 * @property {number} [tolerance]  largest difference of an output as a fraction of its largest
 *   magnitude. Default: what the rounding of float32 explains
 */
/**
 * @typedef {object} Verification
 * @property {boolean} ok  all outputs are
 * @property {string} weights  format of the weights in the model file: 'f32', 'f16' or 'int8'
 * @property {Difference[]} outputs
 */
/**
 * @typedef {object} Difference
 * @property {string} name  as in the reference: 'out.z0', 'out.output', 'out.z' (first latent, output
 *   and latents of the network, with the weights as the model file has them), 'out.frames' (tokens in
 *   data units); 'f32.z0', 'f32.output', 'f32.z': with the weights before they were rounded
 * @property {number} largest  magnitude in the reference
 * @property {number} absolute  largest difference; Infinity: something is not a number
 * @property {number} relative  the same over the largest magnitude
 * @property {number | null} tolerance  of the absolute difference; null: it is only reported
 * @property {boolean} ok
 */
/**
 * @typedef {object} Memory
 * @property {number} heap  bytes of wasm memory in all workers; it never shrinks while the model
 *   lives
 * @property {number} used  bytes of it in use by the model and its samplers
 */
/**
 * @typedef {object} SamplerInfo
 * @property {number} bytes  memory that the sampler holds; a step allocates nothing
 * @property {number} rows  rows to do; Infinity: unbounded
 * @property {number} columns  tokens in the window
 * @property {number} batch
 * @property {number} steps
 */

/**
 * @typedef {object} FramesOptions
 * @property {number} [sequence]  of the batch. Default 0
 * @property {'tokens' | 'estimate'} [of]  the noisy tokens or the estimate of the clean ones.
 *   Default 'tokens'
 */

/**
 * @typedef {object} SequenceOptions
 * @property {number} [sequence]  of the batch. Default: all of them
 */
/**
 * @typedef {object} KeepOptions
 * @property {number} [sequence]  of the batch. Default: all of them
 * @property {number} [frames]  how many of the values' frames. Default: all
 */
/**
 * @typedef {object} NoisyOption
 * @property {boolean} [noisy]  false, the default: the values are clean, and the noise of the level is
 *   added at which the token begins; true: they are noisy already, as row.tokens of that level
 */
/** @typedef {KeepOptions & NoisyOption} StartOptions */
/**
 * @typedef {object} BeginOptions
 * @property {number} [sequence]  of the batch. Default: all of them
 * @property {number} [token]  what number the first token has for random numbers: with the latent
 *   behind token - 1 the sequence is what a longer one is behind known tokens. Default 0
 */
/**
 * What guided sampling raises: J, a function of the clean estimates of all tokens of a sequence in
 * data units. It is the sum of the terms and of the objective; one of the two may be missing.
 * @typedef {object} Guidance
 * @property {readonly Term[]} [terms]
 * @property {Objective} [objective]  called in the calling thread, so a row goes to a worker and
 *   back twice
 * @property {number} [scale]  w: how far the noise estimate is shifted by dJ/dx. Default 1
 * @property {number} [levelPower]  p: w (1 - abar)^p; 0, the default: the same at all noise levels
 * @property {number} [clip]  largest norm of a token's dJ/dx; 0, the default: not clipped
 * @property {number} [futures]  Monte Carlo guidance: J is the mean over so many samples of the
 *   plan. Default 1
 * @property {Shift} [shift]
 */
/**
 * 'exact': eps' = eps - w sqrt(1 - abar) dJ/dx, the default; 'next': with abar of the next level;
 * 'token': the token itself is moved. The last two are what the authors' code does.
 * @typedef {'exact' | 'next' | 'token'} Shift
 */
/**
 * p is the field x of a frame, or x and y, and d its distance to `at`; w the weight. See
 * web/README.md.
 * @typedef {object} Term
 * @property {TermKind} kind
 * @property {number} [weight]  default 1; below 0 J sinks with what it would rise with
 * @property {string | number} x  a field by its name or number
 * @property {string | number} [y]  a second one
 * @property {number} [first]  frame from which on it looks. Default 0
 * @property {number} [last]  and up to which. Default: the end
 * @property {number | readonly number[]} [at]  point, centre or value. Default 0
 * @property {number | readonly number[]} [size]  radius, half sizes or bounds. Default 0
 * @property {number} [softness]  temperature of 'reach' and width of a soft edge. Default 0
 * @property {number} [sequence]  of the batch that it is of. Default: all of them
 */
/**
 * @typedef {'reach' | 'then' | 'at' | 'at-tanh' | 'target' | 'disc' | 'box' | 'bounds' | 'smooth'
 *   | 'reward'} TermKind
 */
/**
 * J of the clean frames (n, C) of one sample, data units, and its derivative by them, n C numbers.
 * The frames are yours.
 * @callback Objective
 * @param {Float32Array} frames
 * @param {Place} place
 * @returns {{ value: number, gradient: ArrayLike<number> }}
 */
/**
 * @typedef {object} Place
 * @property {number} sequence  of the batch
 * @property {number} sample  0 is the plan, above: further futures
 * @property {number} count  n
 * @property {number} fields  C
 */
/**
 * @typedef {object} StepOptions
 * @property {AbortSignal | null} [signal]  looked at before every row; rejects with signal.reason
 */

/**
 * levelTable(options) without a model (loads the wasm file), model.levelTable(options) with one.
 * @typedef {object} TableOptions
 * @property {Schedule} schedule
 * @property {number} length  T
 * @property {number} steps  S
 * @property {number} [uncertainty]  default 1
 */
/**
 * @typedef {object} LevelTable
 * @property {number} rows  row 0 is the start, the last row is all 0
 * @property {number} columns
 * @property {number} steps
 * @property {Int32Array} levels  (rows, columns), 0 to S
 */

/**
 * features() tells without loading anything what this engine can run.
 * @typedef {object} Features
 * @property {boolean} simd  needed
 * @property {boolean} relaxed  faster
 * @property {boolean} threads  memory can be shared; a page must be cross-origin isolated
 */

/** @typedef {import('./model.js').Model} Model */
/** @typedef {import('./sampler.js').Sampler} Sampler */
/** @typedef {import('./read.js').Source} Source */

export {};
