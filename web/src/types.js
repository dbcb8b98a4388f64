// What goes in and comes out of the package, as types. No code.
//
//   import { loadModel, levelTable, features, DfError } from 'diffusion-forcing';
//
// Letters: B sequences in a batch, T tokens (columns of the level table), F frames per token (the frame stack),
// C fields per frame, S sampling steps, E external condition, O observation.
// Arrays are flat and row-major: tokens[((b * T + t) * F + f) * C + c].

/** @typedef {'simd' | 'relaxed'} Build */
/** @typedef {'full-sequence' | 'pyramid' | 'autoregressive' | 'trapezoid' | 'custom'} Schedule */
/** @typedef {ArrayLike<number> | ReadonlyArray<ArrayLike<number>> | ReadonlyArray<Frame>} Values
 *    Numbers in data units: flat, or one array or one object per frame. */
/** @typedef {Record<string, number>} Frame  A frame by the names of its fields: { dx: 3, dy: -1, pen: 0 } */

/**
 * @typedef {object} LoadOptions
 * @property {AbortSignal} [signal]  stops the download; loadModel rejects with signal.reason
 * @property {(progress: Progress) => void} [onProgress]
 * @property {boolean} [inThread]  true: compute in the calling thread. Default: a worker in pages, else in-thread
 * @property {Build | 'auto'} [build]  force one of the two builds. Default: relaxed where the engine has it
 * @property {PerBuild<string | URL>} [wasmUrl]  where df.simd.wasm and df.relaxed.wasm are
 * @property {PerBuild<BufferSource | WebAssembly.Module>} [wasmBinary]  or what they hold
 * @property {Worker | (() => Worker)} [worker]  a module worker of yours that runs 'diffusion-forcing/worker'
 */
/**
 * @template T
 * @typedef {T | { simd?: T, relaxed?: T }} PerBuild  one for the build in use, or one each
 */
/**
 * @typedef {object} Progress
 * @property {number} loaded  bytes so far
 * @property {number | null} total  of the file; null: the server does not say, or says it of a compressed body
 */

/**
 * Every field is optional: what is left out is the model's own sampling setting (model.defaults).
 * @typedef {object} SamplerOptions
 * @property {number | 'drawn'} [length]  tokens; 'drawn': the model's stop head decides (default if it has one);
 *   Infinity: tokens leave as they become clean and memory stays constant. Default: maxLength
 * @property {number} [maxLength]  tokens at most, for drawn lengths
 * @property {Schedule} [schedule]
 * @property {number} [steps]  S, 1 to K
 * @property {number} [uncertainty]  u of pyramid and trapezoid: column t starts floor(u t) rows later
 * @property {number} [eta]  0: deterministic DDIM, 1: as noisy as DDPM
 * @property {boolean} [ancestral]  DDPM; needs steps = K
 * @property {boolean} [posterior]  a second pass at the new level gives the latent: exact, twice the cost
 * @property {number} [stabilization]  level 0 to K at which known and finished tokens enter the network
 * @property {number | bigint} [seed]  0 to 2^64 - 1. Default 0: the same options give the same sequence
 * @property {number} [batch]  B independent sequences. Default 1
 * @property {number} [sequence]  number of the first sequence of the batch: sequence b of a batch is the same as
 *   a batch of one with sequence: b. Default 0
 * @property {Int32Array | ReadonlyArray<ArrayLike<number>>} [table]  a level table of your own, (rows, length),
 *   entries 0 to S; sets schedule: 'custom' and, from nested rows, length
 * @property {boolean} [allowRenoise]  columns of the table may rise
 * @property {ReadonlyArray<number> | Float32Array} [conditions]  (length, E) external conditions for all sequences;
 *   the same as sampler.condition(0, conditions)
 * @property {AbortSignal | null} [signal]  for all steps of this sampler that are given no signal of their own
 */

/**
 * The sequences after a row of the level table. The window is what is in memory: all T tokens, or with an unbounded
 * length those that are not yet clean and the newest clean ones.
 *
 * In-thread the arrays are views of the model's memory: valid until the next call on the model, `.slice()` keeps
 * them. From a worker they are copies and stay yours.
 * @typedef {object} Row
 * @property {number} row  rows done: 0 before the first step
 * @property {number} rows  rows to do; Infinity: unbounded
 * @property {number} batch  B
 * @property {number} columns  T, tokens in the window
 * @property {number} first  number of the window's first token; 0 unless unbounded
 * @property {number} steps  S, so that levels / steps is 0 (clean) to 1 (pure noise)
 * @property {number} frameStack  F
 * @property {number} fields  C
 * @property {Int32Array} levels  (B, T) 0 (clean) to S (pure noise); S + 1: behind the end of the sequence
 * @property {Float32Array} tokens  (B, T, F, C) the noisy tokens, data units
 * @property {Float32Array} estimate  (B, T, F, C) the network's estimate of the clean tokens, data units
 * @property {Int32Array} frames  (B, T) frames present in each token by the estimate, 0 to F
 * @property {Int32Array} lengths  (B) tokens of each sequence where known by now, else -1
 * @property {number} clean  tokens before this one are clean in all sequences
 * @property {number} cells  network passes so far
 * @property {boolean} done  no row is left
 * @property {number} ms  time of this row; 0 for a row that sampler.state() gives
 */

/**
 * @typedef {object} ModelInfo
 * @property {string} version  of the library
 * @property {Build} build  which of the two files runs
 * @property {string} isa  the kernels in use: 'simd128' or 'relaxed'
 * @property {number} threads  1
 * @property {boolean} worker  computed in a worker
 * @property {number} parameters  numbers in the model
 * @property {number} bytes  memory that the model holds
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
 * What a sampler takes where an option is left out.
 * @typedef {object} Defaults
 * @property {Schedule} schedule
 * @property {number} steps
 * @property {number} uncertainty
 * @property {number} eta
 * @property {number} stabilization
 * @property {number} maxLength
 */
/**
 * @typedef {object} Memory
 * @property {number} heap  bytes of wasm memory; it never shrinks while the model lives
 * @property {number} used  bytes of it in use by the model and its samplers
 */
/**
 * @typedef {object} SamplerInfo
 * @property {number} bytes  memory that the sampler holds; a step allocates nothing
 * @property {number} rows  rows of its table; Infinity: unbounded
 * @property {number} columns  tokens in the window
 * @property {number} batch
 * @property {number} steps
 */

/**
 * loadModel(source, options) gives a Model. source: a URL, a path (Node), a Response, a Blob or bytes.
 * @typedef {object} Model
 * @property {any} config  the model's config.json
 * @property {ModelInfo} info
 * @property {readonly Field[]} fields  of a frame (C)
 * @property {number} frameStack  frames per token (F)
 * @property {number} levels  noise levels in training (K)
 * @property {number} conditionSize  floats of external condition per token (E); 0: none
 * @property {number} observationSize  floats of the first observation (O); 0: none
 * @property {boolean} stopHead  the model can tell when a sequence ends: length 'drawn'
 * @property {Defaults} defaults
 * @property {(options?: SamplerOptions) => Sampler} sampler  at once; its errors come with the first awaited call
 * @property {(row: Row, options?: FramesOptions) => Frame[]} frames  the frames of one sequence that are present,
 *   by field name, data units, binary fields as 0 or 1: for (const { dx, dy, pen } of model.frames(row)) ...
 * @property {(options: TableOptions) => Promise<LevelTable>} levelTable
 * @property {() => Promise<Memory>} memory
 * @property {() => void} dispose  of its samplers too; also Symbol.dispose; a second call does nothing
 */
/**
 * @typedef {object} FramesOptions
 * @property {number} [sequence]  of the batch. Default 0
 * @property {'tokens' | 'estimate'} [of]  the noisy tokens or the estimate of the clean ones. Default 'tokens'
 */

/**
 * Calls that return the sampler (keep, condition, observe, restart) are done in order; wrong types throw at once, and
 * what the library finds wrong rejects the next awaited call (ready, step, run, the next row of an iteration).
 * After dispose every call but dispose throws a DfError WRONG_STATE.
 * @typedef {object} Sampler
 * @property {(token: number, values: Values, options?: KeepOptions) => Sampler} keep  frames from this token on stay as
 *   given, over as many tokens as they fill; only the last token of a known length may be filled in part
 * @property {(token: number, values: ArrayLike<number>, options?: SequenceOptions) => Sampler} condition
 *   (n, E) conditions of the tokens from this one on
 * @property {(values: ArrayLike<number>, options?: SequenceOptions) => Sampler} observe  (O) what is seen first
 * @property {(seed?: number | bigint) => Sampler} restart  back to row 0, with everything kept; without a seed the same again
 * @property {() => Promise<SamplerInfo>} ready  all calls so far are done
 * @property {() => Promise<Row>} state  the sequences as they are, without a step; row 0 is the start noise
 * @property {(options?: StepOptions) => Promise<Row>} step  one row further; rejects with WRONG_STATE once done
 * @property {(options?: StepOptions) => Promise<Row>} run  all rows that are left
 * @property {(options?: StepOptions) => AsyncGenerator<Row, void, void>} iterate  row by row; a break, an abort or an
 *   error leaves the sampler where it is, a new iteration goes on from there
 * @property {() => AsyncGenerator<Row, void, void>} [Symbol.asyncIterator]  the same: for await (const row of sampler)
 * @property {boolean} done  no row was left after the last awaited call
 * @property {() => void} dispose  also Symbol.dispose; a second call does nothing
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
 */

/**
 * DfError extends Error: what the package throws, except for signal.reason on an abort.
 * @typedef {object} DfErrorFields
 * @property {string} code  NO_MEMORY, BAD_ARGUMENT, BAD_SHAPE, BAD_VALUE, BAD_FILE, BAD_CONFIG, BAD_TABLE,
 *   NOT_SUPPORTED, WRONG_STATE, IO (src/base/status.h)
 * @property {string} message  what was expected and what was found
 * @property {string} hint  what to do about it; may be empty
 * @property {unknown} [cause]
 */

export {};
