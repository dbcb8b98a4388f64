/** @import { Defaults, Field, LevelTable, Memory, ObservationField, Row } from './types.js' */
/** @import { Grid, SamplerInfo, SamplerOptions, Schedule, TableOptions } from './types.js' */
/** @import { Verification, VerifyOptions } from './types.js' */
import { DfError, badArgument } from './errors.js';

/** Bytes of a model's file that stand in wasm memory before they are in their place. */
const STAGE = 1 << 16;

/**
 * What a model tells of itself when it is opened.
 * @typedef {object} Facts
 * @property {string} version
 * @property {string} isa
 * @property {any} config
 * @property {number} parameters
 * @property {number} bytes
 * @property {number} levels
 * @property {number} frameStack
 * @property {Field[]} fields
 * @property {number} conditionSize
 * @property {number} observationSize
 * @property {number} latentSize
 * @property {ObservationField[]} observationFields
 * @property {boolean} stopHead
 * @property {Defaults} defaults
 * @property {string[][]} guidance  names in the order of sampler_guide: its numbers, those of a term
 *   (a name that stands twice is an array's), kinds, shifts
 */

/**
 * What an objective outside of the engine is a function of.
 * @typedef {object} Samples
 * @property {number} batch B
 * @property {number} futures N
 * @property {number} frames n
 * @property {number} fields C
 * @property {Float32Array} values (B, N, n, C) data units, a view of the memory
 */

/**
 * One wasm instance with at most one model in it: src/wasm/exports.c as methods that throw. The
 * methods are also the protocol between page and worker, so arguments and results can be cloned.
 * Samplers go by numbers that the caller gives them.
 */
export class Engine {
  /**
   * gradient, objective: addresses that the last `estimate` told.
   * @type {Map<number, { at: number, options: SamplerOptions, steps: number, ms: number, gradient?: number, objective?: number }>}
   */
  #samplers = new Map();
  #loader = 0;
  #model = 0;
  #latentSize = 0;
  /** @type {Schedule[]} */
  #schedules;
  #weights;
  /** @type {Grid[]} */
  #grids;
  /** Names of the sampler's options that are numbers, in the order of sampler_create. */
  #options;
  /** @type {Defaults | undefined} */
  #defaults;
  /** Threads of a sampler that asks for no number. */
  #threads = 1;
  #stacks = 0;

  /**
   * @param {BufferSource | WebAssembly.Module} wasm
   * @param {WebAssembly.Memory} [memory] for a module with threads
   */
  static async create(wasm, memory) {
    try {
      const module = wasm instanceof WebAssembly.Module ? wasm : await WebAssembly.compile(wasm);
      const { exports } = await WebAssembly.instantiate(module, memory && { env: { memory } });
      return new Engine({ memory, ...exports });
    } catch (cause) {
      throw new DfError(
        'NOT_SUPPORTED',
        `the WebAssembly file does not start: ${/** @type {Error} */ (cause).message}`,
        {
          cause,
          hint: "Another version's file? Or a Content-Security-Policy without 'wasm-unsafe-eval'?",
        },
      );
    }
  }

  /** @param {object} exports */
  constructor(exports) {
    /** @type {any} */
    this.c = exports;
    this.c._initialize?.();
    this.#schedules = /** @type {Schedule[]} */ (this.#names(this.c.schedule_name));
    this.#weights = this.#names(this.c.weights_name);
    this.#grids = /** @type {Grid[]} */ (this.#names(this.c.grid_name));
    this.#options = this.#names(this.c.option_name);
  }

  // ---- Memory. Growing it detaches all views, so they are made when they are needed. ----

  /**
   * @param {number} at
   * @param {number} n
   */
  #doubles(at, n) {
    return new Float64Array(this.c.memory.buffer, at, n);
  }

  /** @param {number} at */
  #text(at) {
    const bytes = new Uint8Array(this.c.memory.buffer, at);
    return new TextDecoder().decode(bytes.slice(0, bytes.indexOf(0))); // it takes no shared memory
  }

  /** @param {(i: number) => number} nameAt 0 past the end */
  #names(nameAt) {
    const names = [];
    for (let i = 0, at; (at = nameAt(i)); i++) names.push(this.#text(at));
    return names;
  }

  /**
   * Calls `use` with the address of a copy of the pieces.
   * @template T
   * @param {ArrayBufferView[]} pieces
   * @param {(at: number) => T} use
   */
  #lend(pieces, use) {
    const at = this.c.alloc(pieces.reduce((sum, piece) => sum + piece.byteLength, 0));
    if (!at) throw this.#error();
    try {
      let end = at;
      for (const { buffer, byteOffset, byteLength } of pieces) {
        new Uint8Array(this.c.memory.buffer, end, byteLength).set(
          new Uint8Array(buffer, byteOffset, byteLength),
        );
        end += byteLength;
      }
      return use(at);
    } finally {
      this.c.free(at);
    }
  }

  /** The error that the last call left. */
  #error() {
    const code = this.c.error_code();
    return new DfError(this.#text(this.c.status_name(code)), this.#text(this.c.error_message()), {
      hint: this.#text(this.c.status_text(code)),
    });
  }

  /** @param {number} status */
  #check(status) {
    if (status) throw this.#error();
  }

  /** @returns {Memory} */
  memory() {
    return { heap: this.c.memory.buffer.byteLength, used: this.c.used() };
  }

  // ---- Threads (threads.js) ----

  /**
   * Stacks for further threads: the addresses of their upper ends.
   * @param {number} count
   * @param {number} size bytes
   */
  stacks(count, size) {
    if (!this.c.threads_join) throw new DfError('NOT_SUPPORTED', 'a module without threads');
    this.#stacks ||= this.c.alloc(count * size);
    if (!this.#stacks) throw this.#error();
    return { stacks: Array.from({ length: count }, (_, i) => this.#stacks + (i + 1) * size) };
  }

  /** @param {number} count the threads there are, this one included */
  expect(count) {
    this.c.threads_expect(count);
    this.#threads = count;
  }

  // ---- Model ----

  /**
   * The next bytes of the model's file, cut anywhere. They go to their place in the parameters.
   * @param {Uint8Array} bytes
   */
  feed(bytes) {
    const { c } = this;
    this.#loader ||= c.load_begin();
    if (!this.#loader) throw this.#error();
    for (let at = 0; at < bytes.length; at += STAGE) {
      const piece = bytes.subarray(at, at + STAGE);
      this.#lend([piece], (from) => this.#check(c.load_feed(this.#loader, from, piece.length)));
    }
  }

  /**
   * The file has ended.
   * @returns {Facts}
   */
  open() {
    const { c } = this;
    this.feed(new Uint8Array()); // there may have been none
    const model = c.load_finish(this.#loader);
    this.#loader = 0;
    if (!model) throw this.#error();
    this.#model = model;
    const [
      parameters,
      bytes,
      levels,
      frameStack,
      fieldCount,
      conditionSize,
      observationSize,
      latentSize,
      stopHead,
      ...sampling
    ] = this.#doubles(c.model_numbers(model), 16);
    const [schedule, steps, uncertainty, eta, stabilization, maxLength, grid] = sampling;
    this.#latentSize = latentSize;
    this.#defaults = {
      schedule: this.#schedules[schedule],
      steps,
      uncertainty,
      eta,
      stabilization,
      maxLength,
      grid: this.#grids[grid],
    };
    const observed = c.field_name(model, fieldCount) ? observationSize : 0;
    return {
      version: this.#text(c.version()),
      isa: this.#text(c.isa()),
      config: JSON.parse(this.#text(c.model_config(model))),
      parameters,
      bytes,
      levels,
      frameStack,
      fields: Array.from({ length: fieldCount }, (_, i) => this.#field(i)),
      conditionSize,
      observationSize,
      latentSize,
      observationFields: Array.from({ length: observed }, (_, i) => {
        const { name, mean, std } = this.#field(fieldCount + i);
        return { name, mean, std };
      }),
      stopHead: stopHead === 1,
      defaults: this.#defaults,
      guidance: [c.guidance_name, c.term_name, c.kind_name, c.shift_name].map((name) =>
        this.#names(name),
      ),
    };
  }

  /**
   * @param {number} i
   * @returns {Field}
   */
  #field(i) {
    const [mean, std, binary, threshold] = this.#doubles(this.c.field_numbers(this.#model, i), 4);
    return {
      name: this.#text(this.c.field_name(this.#model, i)),
      mean,
      std,
      binary: binary === 1,
      threshold,
    };
  }

  /**
   * @param {Uint8Array} bytes of the reference
   * @param {VerifyOptions} options whose types were checked (model.js)
   * @returns {Verification}
   */
  verify(bytes, { weights = 'f32', tolerance = -1 }) {
    const format = placeOf('weights', weights, this.#weights);
    const { length } = bytes;
    const at = this.#lend([bytes], (from) =>
      this.c.model_verify(this.#model, from, length, format, tolerance, this.#threads),
    );
    if (!at) throw this.#error();
    const [ok, held, count, ...numbers] = this.#doubles(at, 3 + 6 * 7);
    return {
      ok: ok === 1,
      weights: this.#text(held),
      outputs: Array.from({ length: count }, (_, i) => {
        const [name, largest, absolute, relative, limit, fine] = numbers.slice(6 * i);
        return {
          name: this.#text(name),
          largest,
          absolute,
          relative,
          tolerance: limit < Infinity ? limit : null,
          ok: fine === 1,
        };
      }),
    };
  }

  // ---- Sampler ----

  /**
   * @param {number} id
   * @param {SamplerOptions} options whose types were checked (sampler.js)
   */
  create(id, options) {
    const { length, table, schedule, grid, weights } = options;
    /** @type {any} */
    const given = { threads: this.#threads, ...options };
    if (length === 'drawn') given.length = 0;
    if (length === Infinity) given.length = -1;
    if (schedule !== undefined) given.schedule = placeOf('schedule', schedule, this.#schedules);
    if (grid !== undefined) given.grid = placeOf('grid', grid, this.#grids);
    if (weights !== undefined) given.weights = placeOf('weights', weights, this.#weights);
    if (table) given.tableRows = table.length / /** @type {number} */ (length);
    const numbers = Float64Array.from(this.#options, (name) => Number(given[name])); // NaN: left out
    const pieces = table ? [numbers, /** @type {Int32Array} */ (table)] : [numbers];
    const at = this.#lend(pieces, (from) =>
      this.c.sampler_create(
        this.#model,
        from,
        BigInt(options.seed ?? 0),
        table ? from + numbers.byteLength : 0,
      ),
    );
    if (!at) throw this.#error();
    const steps = options.steps ?? this.#defaults?.steps ?? 0;
    this.#samplers.set(id, { at, options, steps, ms: 0 });
  }

  /** @param {number} id */
  #sampler(id) {
    const sampler = this.#samplers.get(id);
    if (!sampler) throw new DfError('WRONG_STATE', 'the sampler was disposed of');
    return sampler;
  }

  /** @param {number} id */
  free(id) {
    const sampler = this.#samplers.get(id);
    this.#samplers.delete(id);
    if (sampler) this.c.sampler_free(sampler.at);
  }

  /**
   * Runs `call` for one sequence of the batch, or (undefined) for all.
   * @param {number} id
   * @param {number | undefined} sequence
   * @param {(at: number, b: number) => void} call
   */
  #each(id, sequence, call) {
    const { at, options } = this.#sampler(id);
    if (sequence !== undefined) return call(at, sequence);
    for (let b = 0; b < (options.batch ?? 1); b++) call(at, b);
  }

  /**
   * @param {number} id
   * @param {number} token
   * @param {Float32Array} values (n, C), over as many tokens as they fill
   * @param {number} fields C
   * @param {number} frameStack
   * @param {number} way  0: known, 1: where tokens start, 2: the same with their noise
   * @param {number} [sequence]
   */
  keep(id, token, values, fields, frameStack, way, sequence) {
    const frames = values.length / fields;
    this.#lend([values], (from) =>
      this.#each(id, sequence, (at, b) => {
        for (let f = 0, t = token; f < frames; f += frameStack, t++) {
          const n = Math.min(frameStack, frames - f);
          this.#check(this.c.sampler_keep(at, b, t, from + 4 * fields * f, n, way));
        }
      }),
    );
  }

  /**
   * @param {number} id
   * @param {number} token
   * @param {Float32Array} values (n, E)
   * @param {number} size E
   * @param {number} [sequence]
   */
  condition(id, token, values, size, sequence) {
    this.#lend([values], (from) =>
      this.#each(id, sequence, (at, b) => {
        for (let n = 0; n < values.length / size; n++) {
          this.#check(this.c.sampler_condition(at, b, token + n, from + 4 * size * n));
        }
      }),
    );
  }

  /**
   * @param {number} id
   * @param {Float32Array} values (O)
   * @param {number} [sequence]
   */
  observe(id, values, sequence) {
    this.#lend([values], (from) =>
      this.#each(id, sequence, (at, b) => this.#check(this.c.sampler_observe(at, b, from))),
    );
  }

  /**
   * @param {number} id
   * @param {number} token number of the first one
   * @param {Float32Array} latent (Z); empty: the model's own
   * @param {number} [sequence]
   */
  begin(id, token, latent, sequence) {
    this.#lend([latent], (from) =>
      this.#each(id, sequence, (at, b) =>
        this.#check(this.c.sampler_begin(at, b, token, latent.length ? from : 0)),
      ),
    );
  }

  /**
   * @param {number} id
   * @param {number} token
   * @param {number} sequence
   */
  latent(id, token, sequence) {
    const latent = new Float32Array(this.#latentSize);
    this.#lend([latent], (from) => {
      this.#check(this.c.sampler_latent(this.#sampler(id).at, sequence, token, from));
      latent.set(new Float32Array(this.c.memory.buffer, from, latent.length));
    });
    return { latent };
  }

  /**
   * @param {number} id
   * @param {import('./check.js').Packed} guidance
   * @param {number} [batch] sequences that the terms count
   * @param {number} [first] of them in this sampler
   */
  guide(id, { options, terms, count }, batch, first = 0) {
    const { at, options: own } = this.#sampler(id);
    batch ??= own.batch ?? 1;
    this.#lend([options, terms], (from) =>
      this.#check(this.c.sampler_guide(at, from, from + options.byteLength, count, first, batch)),
    );
    return { row: this.state(id).row };
  }

  /**
   * The clean estimates before the next row, for an objective that is not in here; `step` goes on from there.
   * @param {number} id
   * @returns {Samples}
   */
  estimate(id) {
    const sampler = this.#sampler(id);
    const start = performance.now();
    const at = this.c.sampler_estimate(sampler.at);
    if (!at) throw this.#error();
    const [batch, futures, frames, fields, values, gradient, objective] = this.#doubles(at, 7);
    const n = batch * futures * frames * fields;
    sampler.gradient = gradient;
    sampler.objective = objective;
    sampler.ms = performance.now() - start;
    const { buffer } = this.c.memory;
    return { batch, futures, frames, fields, values: new Float32Array(buffer, values, n) };
  }

  /**
   * @param {number} id
   * @param {number | bigint} [seed]
   */
  restart(id, seed) {
    const sampler = this.#sampler(id);
    if (seed !== undefined) sampler.options.seed = seed;
    sampler.ms = 0;
    this.c.sampler_restart(sampler.at, BigInt(sampler.options.seed ?? 0));
  }

  /**
   * @param {number} id
   * @returns {SamplerInfo & { done: boolean }}
   */
  info(id) {
    const { rows, columns, batch, steps, done } = this.state(id);
    return { bytes: this.c.sampler_bytes(this.#sampler(id).at), rows, columns, batch, steps, done };
  }

  /**
   * @param {number} id
   * @param {Float32Array} [gradient] behind `estimate`: dJ of its values
   * @param {Float64Array} [objective] and J (B)
   * @returns {Row}
   */
  step(id, gradient, objective) {
    const sampler = this.#sampler(id);
    let start = performance.now();
    if (gradient && objective) {
      const { buffer } = this.c.memory;
      const slope = new Float32Array(buffer, sampler.gradient, gradient.length);
      const J = new Float64Array(buffer, sampler.objective, objective.length);
      gradient.forEach((x, i) => (slope[i] += x));
      objective.forEach((x, b) => (J[b] += x));
      start -= sampler.ms;
    }
    this.#check(this.c.sampler_step(sampler.at));
    sampler.ms = performance.now() - start;
    return this.state(id);
  }

  /**
   * Steps until no row is left, but not longer than about `budget` ms and not more than `rows`
   * rows. Tells whether no row is left.
   * @param {number} id
   * @param {number} budget
   * @param {number} [rows]
   */
  advance(id, budget, rows = Infinity) {
    const { at } = this.#sampler(id);
    for (const start = performance.now(); !this.c.sampler_done(at); this.step(id)) {
      if (rows-- <= 0 || performance.now() - start > budget) return false;
    }
    return true;
  }

  /**
   * @param {number} id
   * @returns {Row} views of the memory
   */
  state(id) {
    const { at, steps, ms } = this.#sampler(id);
    const [
      row,
      rows,
      batch,
      columns,
      first,
      frameStack,
      fields,
      levels,
      values,
      estimate,
      frames,
      lengths,
      clean,
      cells,
      objective,
    ] = this.#doubles(this.c.sampler_state(at), 15);
    const { memory } = this.c;
    const tokens = batch * columns;
    const numbers = tokens * frameStack * fields;
    return {
      row,
      rows: rows < 0 ? Infinity : rows - 1, // the start is none to do
      batch,
      columns,
      first,
      steps,
      frameStack,
      fields,
      // Made when they are asked for, because the memory may grow before that.
      get levels() {
        return new Int32Array(memory.buffer, levels, tokens);
      },
      get tokens() {
        return new Float32Array(memory.buffer, values, numbers);
      },
      get estimate() {
        return new Float32Array(memory.buffer, estimate, numbers);
      },
      get frames() {
        return new Int32Array(memory.buffer, frames, tokens);
      },
      get lengths() {
        return new Int32Array(memory.buffer, lengths, batch);
      },
      get objective() {
        return objective ? new Float64Array(memory.buffer, objective, batch) : null;
      },
      clean,
      cells,
      done: this.c.sampler_done(at) === 1,
      ms,
    };
  }

  // ---- Level tables ----

  /**
   * @param {TableOptions} options
   * @returns {LevelTable}
   */
  levelTable({ schedule, length, steps, uncertainty = 1 }) {
    const i = placeOf('schedule', schedule, this.#schedules);
    const rows = this.c.levels_rows(i, length, steps, uncertainty);
    if (rows < 0) throw this.#error();
    const levels = new Int32Array(rows * length);
    this.#lend([levels], (at) => {
      this.#check(this.c.levels_fill(i, length, steps, uncertainty, at));
      levels.set(new Int32Array(this.c.memory.buffer, at, levels.length));
    });
    return { rows, columns: length, steps, levels };
  }
}

/**
 * @param {string} what for the message
 * @param {string} name
 * @param {string[]} names
 */
function placeOf(what, name, names) {
  const i = names.indexOf(name);
  if (i < 0) throw badArgument(what, names.join(', '), name);
  return i;
}
