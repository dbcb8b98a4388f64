// Several workers as one engine. Each has an instance of its own and its own copy of the weights, so
// that no memory is shared: a page needs no isolation headers.
//
// The sequences of a batch do not know of each other, and their random numbers go by their number.
// So each worker takes a contiguous share of the batch (option `sequence`: where it begins), the
// shares keep step, and their rows are put together into the row that one worker would have given.
/** @import { Facts } from './core.js' */
/** @import { Link, Wasm } from './link.js' */
/** @import { Memory, Row, SamplerInfo, SamplerOptions, TableOptions } from './types.js' */
/** @import { VerifyOptions } from './types.js' */
import { DfError } from './errors.js';
import { workerLink } from './link.js';

/**
 * @typedef {object} Share
 * @property {number} worker
 * @property {number} first  its first sequence, of the batch
 * @property {number} count
 * @property {boolean} [done]  no row is left; undefined: not known
 * @property {Row} [row]  the last one
 */
/**
 * @typedef {object} Sampler
 * @property {number} id
 * @property {Share[]} shares
 * @property {number} pace  rows of a call of advance
 * @property {{ row: number, args: any[] }[]} guidance  the rows since the start in which it came
 */

/**
 * Rejects if one of the workers cannot be started. If one dies later, all end.
 * @param {number} workers
 * @param {() => Worker} make
 * @param {Promise<Wasm>} wasm
 * @returns {Promise<Link>}
 */
export async function poolLink(workers, make, wasm) {
  /** @type {Link[]} */
  const links = [];
  const close = (/** @type {DfError} */ reason) => links.forEach((link) => link.close(reason));
  const starting = Array.from({ length: workers }, () => workerLink(make(), wasm, close));
  const started = await Promise.allSettled(starting);
  for (const one of started) if (one.status === 'fulfilled') links.push(one.value);
  for (const one of started) {
    if (one.status === 'fulfilled') continue;
    close(one.reason);
    throw one.reason;
  }
  const engines = new Engines(links);
  return {
    workers,
    call: async (method, args = []) => /** @type {any} */ (engines)[method](...args),
    rest() {},
    close: (reason) => links.forEach((link) => link.close(reason)),
  };
}

/** The methods of Engine (core.js), on all workers. */
class Engines {
  #links;
  /** Sequences on each worker. @type {number[]} */
  #busy;
  /** @type {Map<number, Sampler>} */
  #samplers = new Map();

  /** @param {Link[]} links */
  constructor(links) {
    this.#links = links;
    this.#busy = links.map(() => 0);
  }

  // ---- Model ----

  /** @param {Uint8Array<ArrayBuffer>} bytes */
  async feed(bytes) {
    const copies = this.#links.map((_, i) => (i ? bytes.slice() : bytes));
    const calls = this.#links.map((link, i) => link.call('feed', [copies[i]], [copies[i].buffer]));
    await Promise.all(calls);
  }

  /** @returns {Promise<Facts>} */
  async open() {
    const all = await Promise.all(this.#links.map((link) => link.call('open')));
    return { ...all[0], bytes: sum(all, 'bytes') };
  }

  /** @returns {Promise<Memory>} */
  async memory() {
    const all = await Promise.all(this.#links.map((link) => link.call('memory')));
    return { heap: sum(all, 'heap'), used: sum(all, 'used') };
  }

  /** @param {TableOptions} options */
  levelTable(options) {
    return this.#links[0].call('levelTable', [options]);
  }

  /**
   * @param {Uint8Array<ArrayBuffer>} bytes
   * @param {VerifyOptions} options
   */
  verify(bytes, options) {
    return this.#links[0].call('verify', [bytes, options], [bytes.buffer]);
  }

  // ---- Samplers ----

  /**
   * @param {number} id
   * @param {SamplerOptions} options
   */
  async create(id, options) {
    const { batch = 1, sequence = 0, length } = options;
    // What cannot be shared goes to one worker as it is, a batch that is wrong too.
    const good = Number.isInteger(batch) && batch > 0;
    const n = good && length !== Infinity ? Math.min(batch, this.#links.length) : 1;
    const idle = this.#busy.map((_, i) => i).sort((a, b) => this.#busy[a] - this.#busy[b]);
    /** @type {Share[]} */
    const shares = [];
    for (let i = 0, first = 0; i < n; i++) {
      const count = good ? Math.floor(((i + 1) * batch) / n) - first : 1;
      shares.push({ worker: idle[i], first, count });
      this.#busy[idle[i]] += count;
      first += count;
    }
    const sampler = { id, shares, pace: 1, guidance: [] };
    this.#samplers.set(id, sampler);
    try {
      await this.#all(sampler, (share) => {
        // Numbers of sequences have 32 bits.
        const from = share.first ? (sequence + share.first) % 2 ** 32 : sequence;
        const own = n > 1 ? { ...options, batch: share.count, sequence: from } : options;
        return this.#call(id, share, 'create', own);
      });
    } catch (error) {
      await this.free(id).catch(() => {});
      throw error;
    }
  }

  /** @param {number} id */
  async free(id) {
    const { shares } = this.#samplers.get(id) ?? { shares: [] };
    this.#samplers.delete(id);
    for (const { worker, count } of shares) this.#busy[worker] -= count;
    await Promise.all(shares.map((share) => this.#call(id, share, 'free')));
  }

  static {
    for (const method of ['keep', 'condition', 'observe', 'begin']) {
      /** @type {any} */ (this.prototype)[method] = function (
        /** @type {number} */ id,
        /** @type {any[]} */ ...args
      ) {
        return this.#give(id, method, args);
      };
    }
  }

  /**
   * @param {number} id
   * @param {...any} args
   */
  async latent(id, ...args) {
    return (await this.#give(id, 'latent', args)).find((result) => result);
  }

  /**
   * @param {number} id
   * @param {import('./check.js').Packed} guidance
   */
  async guide(id, guidance) {
    const sampler = this.#sampler(id);
    const { shares } = sampler;
    // Shares that fail go back by the way from the start, which needs the objective.
    if (guidance.objective && shares.length > 1)
      throw new DfError('NOT_SUPPORTED', 'an objective guides a batch on one worker only');
    const args = [guidance, sum(shares, 'count')];
    const row = most(await this.#all(sampler, (share) => this.#guide(id, share, args)), 'row');
    sampler.guidance = [...sampler.guidance.filter((before) => before.row < row), { row, args }];
  }

  /**
   * @param {number} id
   * @param {Share} share
   * @param {any[]} args
   */
  #guide(id, share, [guidance, batch]) {
    return this.#call(id, share, 'guide', guidance, batch, share.first);
  }

  /** @param {number} id */
  estimate(id) {
    return this.#call(id, this.#sampler(id).shares[0], 'estimate');
  }

  /**
   * @param {number} id
   * @param {number | bigint} [seed]
   */
  async restart(id, seed) {
    const sampler = this.#sampler(id);
    sampler.guidance = sampler.guidance.slice(-1).map(({ args }) => ({ row: 0, args }));
    await this.#all(sampler, (share) => {
      share.done = undefined;
      return this.#call(id, share, 'restart', seed);
    });
  }

  /**
   * @param {number} id
   * @returns {Promise<SamplerInfo & { done: boolean }>}
   */
  async info(id) {
    const all = await this.#all(this.#sampler(id), async (share) => {
      const info = await this.#call(id, share, 'info');
      share.done = info.done;
      return info;
    });
    return {
      ...all[0],
      bytes: sum(all, 'bytes'),
      rows: most(all, 'rows'),
      batch: sum(all, 'batch'),
      done: all.every(({ done }) => done),
    };
  }

  /**
   * @param {number} id
   * @returns {Promise<Row>}
   */
  async state(id) {
    return together(await this.#all(this.#sampler(id), (share) => this.#state(id, share)));
  }

  /**
   * @param {number} id
   * @param {...any} given behind `estimate`
   * @returns {Promise<Row>}
   */
  async step(id, ...given) {
    const sampler = this.#sampler(id);
    const { shares } = sampler;
    if (shares.length === 1) return this.#call(id, shares[0], 'step', ...given);
    const going = await this.#going(sampler);
    if (going.length === 0) return this.#call(id, shares[0], 'step'); // says that no row is left
    await this.#forward(sampler, going, async (share) => {
      share.row = await this.#call(id, share, 'step');
      share.done = share.row?.done;
    });
    return together(
      await this.#all(sampler, async (share) => {
        const row = share.row ?? (await this.#state(id, share));
        return going.includes(share) ? row : { ...row, ms: 0 };
      }),
    );
  }

  /**
   * The shares go the same number of rows, so that an abort finds them in the same one.
   * @param {number} id
   * @param {number} budget
   */
  async advance(id, budget) {
    const sampler = this.#sampler(id);
    const { shares, pace } = sampler;
    if (shares.length === 1) return this.#call(id, shares[0], 'advance', budget);
    const start = performance.now();
    await this.#forward(sampler, await this.#going(sampler), async (share) => {
      share.row = undefined;
      share.done = await this.#call(id, share, 'advance', Infinity, pace);
    });
    const fit = Math.floor((pace * budget) / (performance.now() - start));
    sampler.pace = Math.max(1, Math.min(fit, 2 * pace));
    return shares.every(({ done }) => done);
  }

  /** @param {number} id */
  #sampler(id) {
    const sampler = this.#samplers.get(id);
    if (!sampler) throw new DfError('WRONG_STATE', 'the sampler was disposed of');
    return sampler;
  }

  /**
   * Waits for all shares, and throws the first failure.
   * @template T
   * @param {Sampler} sampler
   * @param {(share: Share) => Promise<T>} call
   * @returns {Promise<T[]>}
   */
  async #all({ shares }, call) {
    const calls = shares.map(call);
    await Promise.allSettled(calls);
    return Promise.all(calls);
  }

  /**
   * @param {number} id
   * @param {Share} share
   * @param {string} method
   * @param {...any} args
   */
  async #call(id, { worker, first }, method, ...args) {
    try {
      return await this.#links[worker].call(method, [id, ...args]);
    } catch (error) {
      // The engine counts the sequences of its share.
      if (error instanceof DfError && first)
        error.message = error.message.replace(/(?<=sequence )\d+/, (b) => String(+b + first));
      throw error;
    }
  }

  /**
   * @param {number} id
   * @param {Share} share
   * @returns {Promise<Row>}
   */
  async #state(id, share) {
    share.row = /** @type {Row} */ (await this.#call(id, share, 'state'));
    share.done = share.row.done;
    return share.row;
  }

  /**
   * @param {number} id
   * @param {string} method
   * @param {any[]} args the last one is the sequence, or undefined: all
   */
  async #give(id, method, args) {
    const sampler = this.#sampler(id);
    const sequence = args.pop();
    const batch = sum(sampler.shares, 'count');
    if (sequence !== undefined && !(sequence >= 0 && sequence < batch))
      throw new DfError('BAD_ARGUMENT', `expected sequence 0 to ${batch - 1}, found ${sequence}`);
    return this.#all(sampler, async (share) => {
      const own = sequence === undefined ? undefined : sequence - share.first;
      if (own !== undefined && !(own >= 0 && own < share.count)) return;
      share.done = undefined; // what is known may leave less to do
      return this.#call(id, share, method, ...args, own);
    });
  }

  /**
   * The shares that have rows left.
   * @param {Sampler} sampler
   */
  async #going({ id, shares }) {
    if (shares.some(({ done }) => done === undefined)) await this.info(id);
    return shares.filter(({ done }) => !done);
  }

  /**
   * Moves shares on. If one fails, as it does before a row, the others go back to that row: by the
   * way from the start, which a sampler can always repeat.
   * @param {Sampler} sampler
   * @param {Share[]} going
   * @param {(share: Share) => Promise<void>} move
   */
  async #forward({ id, guidance }, going, move) {
    const moves = await Promise.allSettled(going.map(move));
    if (moves.every(({ status }) => status === 'fulfilled')) return;
    const rows = (await Promise.all(going.map((share) => this.#state(id, share)))).map(
      ({ row }) => row,
    );
    const failed = moves.flatMap((move, i) =>
      move.status === 'rejected' ? [{ row: rows[i], reason: move.reason }] : [],
    );
    const { row, reason } = failed.reduce((a, b) => (b.row < a.row ? b : a));
    const back = going.filter((_, i) => rows[i] > row);
    await Promise.all(
      back.map(async (share) => {
        await this.#call(id, share, 'restart');
        let at = 0;
        for (const change of guidance) {
          await this.#call(id, share, 'advance', Infinity, change.row - at);
          await this.#guide(id, share, change.args);
          at = change.row;
        }
        share.done = await this.#call(id, share, 'advance', Infinity, row - at);
        share.row = undefined;
      }),
    );
    throw reason;
  }
}

/**
 * The row of a batch from those of its shares. One that was done early has stayed at its last row.
 * @param {Row[]} rows
 * @returns {Row}
 */
function together(rows) {
  if (rows.length === 1) return rows[0];
  return {
    ...rows[0],
    row: most(rows, 'row'),
    rows: most(rows, 'rows'),
    batch: sum(rows, 'batch'),
    levels: joined(rows, 'levels'),
    tokens: joined(rows, 'tokens'),
    estimate: joined(rows, 'estimate'),
    frames: joined(rows, 'frames'),
    lengths: joined(rows, 'lengths'),
    objective: rows[0].objective && joined(rows, 'objective'),
    clean: cleanOf(rows),
    cells: sum(rows, 'cells'),
    done: rows.every(({ done }) => done),
    ms: most(rows, 'ms'),
  };
}

/**
 * A share whose sequences are all clean says so of no more tokens than they have.
 * @param {Row[]} rows
 */
function cleanOf(rows) {
  const longest = rows.map(({ lengths }) =>
    lengths.includes(-1) ? Infinity : lengths.reduce((a, b) => Math.max(a, b)),
  );
  const growing = rows.filter(({ clean }, i) => clean < longest[i]);
  return Math.min(...growing.map(({ clean }) => clean), Math.max(...longest));
}

/**
 * @template {string} K
 * @param {Record<K, number>[]} all
 * @param {K} key
 */
const sum = (all, key) => all.reduce((total, one) => total + one[key], 0);

/**
 * @template {string} K
 * @param {Record<K, number>[]} all
 * @param {K} key
 */
const most = (all, key) => Math.max(...all.map((one) => one[key]));

/**
 * @template {'levels' | 'tokens' | 'estimate' | 'frames' | 'lengths' | 'objective'} K
 * @param {Row[]} rows
 * @param {K} key
 * @returns {Row[K]}
 */
function joined(rows, key) {
  const pieces = /** @type {any[]} */ (rows.map((row) => row[key]));
  const out = new pieces[0].constructor(sum(pieces, 'length'));
  for (let i = 0, at = 0; i < pieces.length; at += pieces[i++].length) out.set(pieces[i], at);
  return out;
}
