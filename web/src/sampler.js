/** @import { BeginOptions, Guidance, KeepOptions, Objective, Row, SamplerInfo } from './types.js' */
/** @import { Samples } from './core.js' */
/** @import { SamplerOptions, SequenceOptions, StartOptions, StepOptions, Values } from './types.js' */
/** @import { Link } from './link.js' */
/** @import { Model } from './model.js' */
import { checkGuidance, checkInteger, checkObjective } from './check.js';
import { checkOptions, checkSeed, checkValues } from './check.js';
import { DfError, badArgument } from './errors.js';
import { SLICE } from './link.js';

/** @type {typeof Symbol.dispose} */
const symbolDispose = /** @type {any} */ (Symbol.dispose ?? Symbol.for('Symbol.dispose'));

/**
 * Sequences on their way from noise to data; made by model.sampler().
 *
 * Calls that return the sampler (keep, start, begin, condition, observe, guide, restart) are done in order. Wrong
 * types throw at once; what the library finds wrong rejects the next awaited call (ready, state,
 * step, run, the next row of an iteration), and the call that was wrong has changed nothing. After
 * dispose() every other call fails with WRONG_STATE.
 */
export class Sampler {
  #model;
  #link;
  #id;
  #signal;
  #names;
  #forget;
  #done = false;
  #disposed = false;
  /** Settles when all calls so far are done. @type {Promise<unknown>} */
  #last = Promise.resolve();
  /** Why it could not be made. @type {unknown} */
  #broken;
  /** Of calls that nobody awaited. @type {unknown[]} */
  #failures = [];
  /** What guides it from this side. @type {Objective | undefined} */
  #objective;

  /**
   * @internal
   * @param {Model} model
   * @param {Link} link
   * @param {number} id
   * @param {SamplerOptions} options
   * @param {string[][]} names of guidance
   * @param {(sampler: Sampler) => void} forget called by dispose
   */
  constructor(model, link, id, options, names, forget) {
    const checked = checkOptions(options);
    this.#model = model;
    this.#link = link;
    this.#id = id;
    this.#signal = options.signal;
    this.#names = names;
    this.#forget = forget;
    this.#last = link.call('create', [id, checked]).catch((error) => (this.#broken = error));
    try {
      if (options.conditions) this.condition(0, options.conditions);
    } catch (error) {
      this.dispose();
      throw error;
    }
  }

  /**
   * Known tokens: frames from this token on stay as given, at the start, in the middle or at the
   * end of the sequence, over as many tokens as they fill. Only the last token of a known length
   * may be filled in part. Before the first step.
   * @param {number} token
   * @param {Values} values in data units: (n, C) flat, or one array or one object per frame
   * @param {KeepOptions} [options]
   */
  keep(token, values, options) {
    return this.#give(0, token, values, options);
  }

  /**
   * A warm start: where tokens begin, from this one on, in place of pure noise. The tokens of a
   * rolling schedule or of a table that begin below S need it. Of keep and start of a token the
   * last one counts. Before the first step.
   * @param {number} token
   * @param {Values} values as for keep
   * @param {StartOptions} [options]
   */
  start(token, values, options) {
    return this.#give(options?.noisy ? 2 : 1, token, values, options);
  }

  /**
   * @param {number} way as of Engine.keep
   * @param {number} token
   * @param {Values} values
   * @param {KeepOptions} [options]
   */
  #give(way, token, values, { sequence, frames } = {}) {
    const { fields, frameStack } = this.#model;
    let floats = checkValues(
      'values',
      values,
      fields.map((field) => field.name),
    );
    checkInteger('token', token);
    if (frames !== undefined) {
      checkInteger('frames', frames);
      if (frames < 1 || frames * fields.length > floats.length)
        throw badArgument('frames', `1 to ${floats.length / fields.length}`, frames);
      floats = floats.subarray(0, frames * fields.length);
    }
    const C = fields.length;
    return this.#queue('keep', token, floats, C, frameStack, way, this.#sequence(sequence));
  }

  /**
   * The sequence goes on behind what has been: the first token gets this latent in place of the
   * model's initial one. Before the first step.
   * @param {Values | null} latent (Z), of latent(); null: the model's own
   * @param {BeginOptions} [options]
   */
  begin(latent, { sequence, token = 0 } = {}) {
    checkInteger('token', token);
    const floats = latent ? exactly('latent', latent, numbered(this.#model.latentSize)) : [];
    return this.#queue('begin', token, Float32Array.from(floats), this.#sequence(sequence));
  }

  /**
   * External conditions (n, E) of the tokens from this one on. A model that has conditions needs
   * one for every token.
   * @param {number} token
   * @param {Values} values
   * @param {SequenceOptions} [options]
   */
  condition(token, values, { sequence } = {}) {
    const { conditionSize } = this.#model;
    if (!conditionSize)
      throw new DfError('BAD_ARGUMENT', 'condition: this model takes no conditions');
    const floats = checkValues('values', values, numbered(conditionSize));
    checkInteger('token', token);
    return this.#queue('condition', token, floats, conditionSize, this.#sequence(sequence));
  }

  /**
   * What is seen first (O), for a model that encodes its first state from an observation. In data
   * units if the model names the numbers (model.observationFields), else as the network takes them.
   * @param {Values} values
   * @param {SequenceOptions} [options]
   */
  observe(values, { sequence } = {}) {
    const { observationSize, observationFields } = this.#model;
    if (!observationSize)
      throw new DfError('BAD_ARGUMENT', 'observe: this model takes no observation');
    const names = observationFields.map((field) => field.name);
    const floats = exactly('observe', values, names[0] ? names : numbered(observationSize));
    return this.#queue('observe', floats, this.#sequence(sequence));
  }

  /**
   * From the first step on, every row raises J, a sum of terms and of an objective of yours, by its
   * derivative through the network. Before the first step. A second call replaces the first; with as
   * many futures as before it may come between rows, too. Needs a length that is known; not with
   * ancestral, posterior or allowRenoise.
   * @param {Guidance} guidance
   */
  guide(guidance) {
    const checked = checkGuidance(guidance, this.#model.fields, this.#names);
    const { objective } = guidance;
    return this.#queue('guide', checked, () => (this.#objective = objective));
  }

  /**
   * Back to row 0 with the same options, guidance and all that was given.
   * @param {number | bigint} [seed] default: the same seed again
   */
  restart(seed) {
    if (seed !== undefined) checkSeed(seed);
    this.#done = false;
    return this.#queue('restart', seed);
  }

  /**
   * Waits until all calls so far are done.
   * @returns {Promise<SamplerInfo>}
   */
  async ready() {
    const { done, ...info } = await this.#call('info');
    this.#done = done;
    return info;
  }

  /**
   * The sequences as they are, without a step. Row 0 is the noise that sampling starts from.
   * @returns {Promise<Row>}
   */
  async state() {
    return this.#row(await this.#call('state'));
  }

  /**
   * What tokens behind this one see of it and of those before it, all of which are clean: for
   * begin().
   * @param {number} token
   * @param {SequenceOptions} [options] default: sequence 0
   * @returns {Promise<Float32Array>} (Z)
   */
  async latent(token, { sequence = 0 } = {}) {
    checkInteger('token', token);
    return (await this.#call('latent', [token, this.#sequence(sequence)])).latent;
  }

  /**
   * Moves every token one row down its schedule.
   * @param {StepOptions} [options]
   * @returns {Promise<Row>} WRONG_STATE if no row was left
   */
  async step({ signal = this.#signal } = {}) {
    return this.#row(await this.#call('step', [], signal));
  }

  /**
   * All rows that are left.
   * @param {StepOptions} [options]
   * @returns {Promise<Row>} the last one
   */
  async run({ signal = this.#signal } = {}) {
    while (!(await this.#call('advance', [SLICE], signal)));
    return this.state();
  }

  /**
   * Row by row until none is left. A break, an abort or an error leaves the sampler where it is,
   * and a new iteration goes on from there.
   * @param {StepOptions} [options]
   * @returns {AsyncGenerator<Row, void, void>}
   */
  async *iterate(options) {
    await this.ready();
    while (!this.#done) yield await this.step(options);
  }

  [Symbol.asyncIterator]() {
    return this.iterate();
  }

  /** Was no row left after the last awaited call? */
  get done() {
    return this.#done;
  }

  /** Frees the sampler's memory. A second call does nothing. */
  dispose() {
    if (this.#disposed) return;
    this.#disposed = true;
    this.#forget(this);
    this.#send('free').catch(() => {});
  }

  [symbolDispose]() {
    this.dispose();
  }

  /** @param {number | undefined} sequence */
  #sequence(sequence) {
    if (sequence !== undefined) checkInteger('sequence', sequence);
    return sequence;
  }

  /** @param {Row} row */
  #row(row) {
    this.#done = row.done;
    return row;
  }

  #checkAlive() {
    if (this.#disposed) throw new DfError('WRONG_STATE', 'the sampler was disposed of');
  }

  /**
   * A call that nobody awaits.
   * @param {string} method
   * @param {...any} args the last one may be a function: called when it is done
   */
  #queue(method, ...args) {
    this.#checkAlive();
    const then = typeof args.at(-1) === 'function' ? args.pop() : undefined;
    this.#last = this.#last
      .then(() => this.#send(method, args))
      .then(then)
      .catch((error) => this.#failures.push(error));
    return this;
  }

  /**
   * A call that is awaited. It fails with what went wrong before it.
   * @param {string} method
   * @param {any[]} [args]
   * @param {AbortSignal | null} [signal]
   */
  async #call(method, args = [], signal) {
    this.#checkAlive();
    const result = this.#last.then(async () => {
      await this.#link.rest();
      signal?.throwIfAborted();
      const [failure] = this.#failures.splice(0);
      if (this.#broken ?? failure) throw this.#broken ?? failure;
      const one = method === 'step';
      if (!this.#objective || !(one || method === 'advance')) return this.#send(method, args);
      if (!one && (await this.#send('info')).done) return true;
      const row = await this.#guidedStep(this.#objective);
      return one ? row : row.done;
    });
    this.#last = result.catch(() => {});
    return result;
  }

  /**
   * @param {string} method
   * @param {any[]} [args]
   * @param {Transferable[]} [transfer]
   */
  #send(method, args = [], transfer) {
    return this.#link.call(method, [this.#id, ...args], transfer);
  }

  /**
   * A row of two calls, because the objective cannot go to a worker.
   * @param {Objective} objective
   * @returns {Promise<Row>}
   */
  async #guidedStep(objective) {
    /** @type {Samples} */
    const { batch, futures, frames, fields, values } = await this.#send('estimate');
    const size = frames * fields;
    const all = values.slice(); // whatever the objective calls may make the memory grow
    const gradients = new Float32Array(all.length);
    const J = new Float64Array(batch);
    for (let i = 0; i < batch * futures; i++) {
      const sequence = Math.floor(i / futures);
      const place = { sequence, sample: i % futures, count: frames, fields };
      let result;
      try {
        result = objective(all.slice(i * size, (i + 1) * size), place);
      } catch (cause) {
        throw new DfError('BAD_ARGUMENT', `objective: ${cause}`, { cause });
      }
      const { value, gradient } = checkObjective(result, size);
      gradients.set(gradient, i * size);
      J[sequence] += value / futures;
    }
    return this.#send('step', [gradients, J], [gradients.buffer, J.buffer]);
  }
}

/**
 * @param {string} what for messages
 * @param {Values} values
 * @param {string[]} names of the numbers
 */
function exactly(what, values, names) {
  const floats = checkValues(what, values, names);
  if (floats.length === names.length) return floats;
  const expected = `expected ${names.length} numbers, found ${floats.length}`;
  throw new DfError('BAD_SHAPE', `${what}: ${expected}`);
}

/** @param {number} n */
function numbered(n) {
  return Array.from({ length: n }, (_, i) => String(i));
}
