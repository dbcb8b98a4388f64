/** @import { Facts } from './core.js' */
/** @import { Link } from './link.js' */
/** @import { Defaults, Field, Frame, FramesOptions, LevelTable, Memory } from './types.js' */
/** @import { ModelInfo, ObservationField, Row, SamplerOptions, TableOptions } from './types.js' */
/** @import { Verification, VerifyOptions } from './types.js' */
/** @import { Source } from './read.js' */
import { checkInteger } from './check.js';
import { DfError, badArgument } from './errors.js';
import { read } from './read.js';
import { Sampler } from './sampler.js';

/** @type {typeof Symbol.dispose} */
const symbolDispose = /** @type {any} */ (Symbol.dispose ?? Symbol.for('Symbol.dispose'));

/** A trained network; made by loadModel(). */
export class Model {
  #link;
  #names;
  /** @type {Set<Sampler>} */
  #samplers = new Set();
  #ids = 0;
  #disposed = false;

  /**
   * @internal
   * @param {Link} link
   * @param {Facts} facts
   * @param {ModelInfo} info
   */
  constructor(link, facts, info) {
    this.#link = link;
    this.#names = facts.guidance;
    /** The model's config.json. @type {any} */
    this.config = facts.config;
    this.info = info;
    /** Of a frame (C). @type {readonly Field[]} */
    this.fields = facts.fields;
    /** Frames per token (F). */
    this.frameStack = facts.frameStack;
    /** Noise levels in training (K). */
    this.levels = facts.levels;
    /** Floats of external condition per token (E); 0: none. */
    this.conditionSize = facts.conditionSize;
    /** Floats of the latent that a token hands on to the next (Z); 0: none. */
    this.latentSize = facts.latentSize;
    /** Floats of the observation that the first state is encoded from (O); 0: none. */
    this.observationSize = facts.observationSize;
    /**
     * Its numbers, in data units; empty if the config does not name them: then they are as the
     * network takes them. @type {readonly ObservationField[]}
     */
    this.observationFields = facts.observationFields;
    /** Can the model tell when a sequence ends? Then length: 'drawn' works. */
    this.stopHead = facts.stopHead;
    /** What a sampler takes where an option is left out. @type {Defaults} */
    this.defaults = facts.defaults;
  }

  /**
   * Starts sequences. Comes back at once; what is wrong with the options, but for their types,
   * rejects the first awaited call of the sampler.
   * @param {SamplerOptions} [options]
   */
  sampler(options = {}) {
    this.#checkAlive();
    const forget = (/** @type {Sampler} */ gone) => void this.#samplers.delete(gone);
    const sampler = new Sampler(this, this.#link, ++this.#ids, options, this.#names, forget);
    this.#samplers.add(sampler);
    return sampler;
  }

  /**
   * The frames of one sequence that are there, by the names of their fields, in data units; binary
   * fields are 0 or 1.
   * @param {Row} row
   * @param {FramesOptions} [options]
   * @returns {Frame[]}
   */
  frames(row, { sequence = 0, of = 'tokens' } = {}) {
    const { columns, frameStack, levels, steps } = row;
    checkInteger('sequence', sequence);
    if (sequence < 0 || sequence >= row.batch)
      throw badArgument('sequence', `0 to ${row.batch - 1}`, sequence);
    if (of !== 'tokens' && of !== 'estimate') throw badArgument('of', 'tokens or estimate', of);
    const values = row[of];
    /** @type {Frame[]} */
    const out = [];
    for (let i = sequence * columns; i < (sequence + 1) * columns && levels[i] <= steps; i++) {
      for (let f = 0; f < row.frames[i]; f++) {
        const at = (i * frameStack + f) * this.fields.length;
        out.push(
          Object.fromEntries(
            this.fields.map((field, c) => [field.name, plain(field, values[at + c])]),
          ),
        );
      }
    }
    return out;
  }

  /**
   * @param {TableOptions} options
   * @returns {Promise<LevelTable>}
   */
  async levelTable({ schedule, length, steps, uncertainty }) {
    this.#checkAlive();
    return this.#link.call('levelTable', [{ schedule, length, steps, uncertainty }]);
  }

  /**
   * Compares with what PyTorch computed: runs the network here on the inputs of a reference, the
   * file reference.safetensors that df_export writes beside a model. A difference above the
   * tolerance is in the result; a file that is no reference for this model rejects.
   * @param {Source} reference a URL, a path (outside browsers), a Response, a Blob or bytes
   * @param {VerifyOptions & { signal?: AbortSignal }} [options]
   * @returns {Promise<Verification>}
   */
  async verify(reference, { weights, tolerance, signal } = {}) {
    this.#checkAlive();
    if (tolerance !== undefined && !(typeof tolerance === 'number' && tolerance >= 0))
      throw badArgument('tolerance', 'a number, 0 or more', tolerance);
    const pieces = [];
    for await (const piece of read(reference, { signal })) pieces.push(piece);
    const bytes = new Uint8Array(await new Blob(pieces).arrayBuffer());
    return this.#link.call('verify', [bytes, { weights, tolerance }], [bytes.buffer]);
  }

  /** @returns {Promise<Memory>} */
  async memory() {
    this.#checkAlive();
    return this.#link.call('memory');
  }

  /** Frees everything, samplers too. A second call does nothing. */
  dispose() {
    if (this.#disposed) return;
    this.#disposed = true;
    for (const sampler of this.#samplers) sampler.dispose();
    this.#link.close();
  }

  [symbolDispose]() {
    this.dispose();
  }

  #checkAlive() {
    if (this.#disposed) throw new DfError('WRONG_STATE', 'the model was disposed of');
  }
}

/**
 * @param {Field} field
 * @param {number} value
 */
function plain({ binary, threshold }, value) {
  return binary ? Number(value > threshold) : value;
}
