// Plans a way to a goal with a model of paths, and follows it.
//
// A plan is a batch of futures that are denoised together from the present observation, guided to the goal; the best
// one is followed until a later plan is better. Neither the planner nor the tracker is told where walls are: what they
// know of the maze is what the model learned from the data.

/** @import { Model, Row, Sampler, SamplerOptions, Term } from '../../web/src/types.js' */
/** @import { Layout, Point } from './layouts.js' */
/** @import { Policy } from './evaluate.js' */
/** @import { Follower } from './followers.js' */
/** @import { Disc } from './objectives.js' */
import { Executor, Tracker } from './followers.js';
import { forms, startOf } from './generate.js';
import { distance, framesPerSecond } from './layouts.js';
import { goalTerms, judge, pull, walk } from './objectives.js';

/**
 * @typedef {object} PlannerOptions
 * @property {number} [length] tokens of a plan
 * @property {number} [candidates] futures of a plan, of which one is followed
 * @property {number} [futures] Monte Carlo guidance: samples of what is still noisy, over which J is averaged
 * @property {number} [scale] of guidance. 0: none, the candidates alone
 * @property {'full-sequence' | 'pyramid' | 'autoregressive' | 'rolling'} [schedule] rolling: a pyramid without end.
 *   A plan that arrives is gone on with: its noisy tail is where the next one starts, behind the latent of what was
 *   executed, and takes `uncertainty` rows for each token of that
 * @property {number} [steps] denoising steps of a token
 * @property {number} [uncertainty] of a pyramid; of a rolling one a whole number from 1 on
 * @property {boolean} [memory] of a rolling schedule. false: behind the latent of the observation alone
 * @property {number} [interval] frames from plan to plan. Rolling: whole tokens, else every plan starts from noise
 * @property {number} [warm] rows of a plan that starts from what is left of the one before, fewer than steps: it only
 *   gets back the noise of so many rows. 0, the default: every plan starts from noise
 * @property {Term[]} [terms] further objectives, such as obstacles
 */

/** @type {Required<PlannerOptions>} */
export const defaults = {
  length: 12,
  candidates: 8,
  futures: 1,
  scale: 3,
  interval: 64,
  warm: 0,
  schedule: 'full-sequence',
  steps: 10,
  uncertainty: 1,
  memory: true,
  terms: [],
};

/** What is different for models of states. @type {PlannerOptions} */
const statesDefaults = { length: 10, scale: 4, interval: 8 };
/**
 * Near the goal, plans of states are short and drawn by a pull. The data never stay at a goal: far ahead the ball is
 * elsewhere in every likely future.
 */
const near = { distance: 1.2, length: 3, scale: 100 };

/**
 * @typedef {object} Path
 * @property {Float32Array} points x, y of every `stride`-th frame behind the observation; of states where their steps
 *   lead
 * @property {number} arrival the first point at the goal, or Infinity
 * @property {number} cost by which candidates are compared: frames away from the goal, and more for leaps and for
 *   ending far from it
 * @property {Float32Array} frames all fields of the model
 */

/**
 * @typedef {object} Plan
 * @property {Path[]} candidates
 * @property {Path} best
 * @property {number} stride frames from point to point
 * @property {Point} start the observation
 * @property {Point} goal
 * @property {Disc[]} discs to keep out of
 * @property {Tail} [tail] of a rolling plan
 */
/**
 * What a rolling plan leaves to the next one.
 * @typedef {object} Tail
 * @property {Float32Array} frames of the best candidate, the later the noisier
 * @property {Float32Array | null} latent that they stand behind; null: that of the plan's observation
 */
/**
 * The plan before, and what became of it.
 * @typedef {object} Before
 * @property {Follower} follower
 * @property {ArrayLike<number>} seen x, y after each step since its observation; the last one is where the ball is now
 */
/** @typedef {{ sampler: Sampler, latent?: Float32Array | null }} Begun latent: of a rolling plan */

/** What a sampler is made with. */
const fixed = /** @type {const} */ ([
  'length',
  'candidates',
  'schedule',
  'steps',
  'uncertainty',
  'warm',
]);

/** Tokens at the end of a warm plan that start from noise, as the ball has left as many behind, or fewer. */
const newTokens = 4;

/**
 * Levels of a warm plan: its tokens start with `warm` rows to go, new ones at the end from noise.
 * @param {number} length
 * @param {number} steps
 * @param {number} warm
 */
export const warmTable = (length, steps, warm) =>
  Array.from({ length: warm + 1 }, (_, row) =>
    Array.from({ length }, (_, t) =>
      t < length - newTokens ? warm - row : Math.round((steps * (warm - row)) / warm),
    ),
  );

/**
 * Levels of a rolling plan: its tokens come to 0, u, 2 u, .. in so many rows, those that are new from noise.
 * @param {number} length
 * @param {number} steps
 * @param {number} u
 * @param {number} rows steps: all tokens are new; k u: the last k, as many as were executed
 */
export const rollingTable = (length, steps, u, rows) =>
  Array.from({ length: rows + 1 }, (_, row) =>
    Array.from({ length }, (_, t) => {
      const end = Math.min(steps, u * t);
      const slow = Math.min(steps, u * t + rows - row);
      const isNew = t >= length - rows / u;
      return isNew && end + rows < steps ? steps - Math.round(((steps - end) * row) / rows) : slow;
    }),
  );

export class Planner {
  /** @readonly */
  model;
  #layout;
  /** @type {'path' | 'states'} */
  #form;
  #options;
  /** By what they are for. @type {Map<string, Sampler>} */
  #samplers = new Map();

  /** @param {Model} model of paths or states; stays the caller's @param {Layout} layout @param {PlannerOptions} [options] */
  constructor(model, layout, options) {
    this.model = model;
    this.#layout = layout;
    this.#form = model.fields.length === forms.states.fields.length ? 'states' : 'path';
    this.#options = { ...defaults, ...(this.#form === 'states' && statesDefaults), ...options };
  }

  get options() {
    return this.#options;
  }

  /** From the next plan on; not while one is made. @param {PlannerOptions} options */
  set(options) {
    const before = this.#options;
    this.#options = { ...before, ...options };
    // A sampler takes other guidance, but no other sizes, and it cannot do without guidance again.
    const kept = fixed.every((key) => this.#options[key] === before[key]);
    if (!kept || !this.#options.scale !== !before.scale) this.dispose();
  }

  /** @param {Plan} plan @returns {Follower} */
  follow(plan) {
    return this.#form === 'states' ? new Executor(plan) : new Tracker(plan);
  }

  /**
   * A new plan.
   * @param {Point} observation x, y, vx, vy
   * @param {Point} goal
   * @param {object} [call]
   * @param {Point[]} [call.via] points to pass before, in this order
   * @param {Before} [call.before] to go on from, if warm or a rolling schedule says so and there are no way-points
   * @param {number} [call.seed] the same seed gives the same plan
   * @param {(row: Row) => void} [call.onRow] sees the plan condense, from the noise on; once more for each
   *   way-point
   * @param {AbortSignal} [call.signal]
   * @returns {Promise<Plan>}
   */
  async plan(observation, goal, { via = [], before, seed = 0, ...call } = {}) {
    const targets = [...via, goal];
    const states = this.#form === 'states';
    let done = new Float32Array(); // the way through the way-points so far
    let state = observation; // where it ends
    /** @type {Path[]} */
    let candidates;
    /** @type {Path} */
    let best;
    /** @type {Tail[] | undefined} */
    let tails;
    for (let k = 0; ; k++) {
      const leg = { ...call, seed: seed + k * 2 ** 32, alone: !via.length };
      const futures = await this.#sample(state, targets[k], before, leg);
      ({ tails } = futures);
      const passed = targets.slice(0, k + 1);
      candidates = futures.frames.map((way) => this.#judge(join(done, way), observation, passed));
      best = candidates.reduce((a, b) => (b.cost < a.cost ? b : a));
      // Of states only the first are executed: what lies behind the first target is for later plans.
      if (states || best.arrival === Infinity || k === via.length) break;
      done = best.frames.slice(0, 2 * Math.max(best.arrival, 1) + 2);
      state = endOf(done);
    }
    const [start, end] = [observation, goal].map((point) => Float64Array.from(point));
    const { stride } = forms[this.#form];
    const tail = tails?.[candidates.indexOf(best)];
    return { candidates, best, stride, start, goal: end, discs: this.#discs, tail };
  }

  /**
   * One batch of futures.
   * @param {Point} state where they begin
   * @param {Point} target
   * @param {Before | undefined} before
   * @param {{ seed: number, onRow?: (row: Row) => void, signal?: AbortSignal, alone: boolean }} call alone: not a leg of
   *   a way past way-points, which starts from noise and ends clean
   * @returns {Promise<{ frames: Float32Array[], tails?: Tail[] }>} of each candidate
   */
  async #sample(state, target, before, { seed, onRow, signal, alone }) {
    const { futures, terms, schedule, warm } = this.#options;
    const short = this.#form === 'states' && distance(state, target) < near.distance;
    const { length, scale } = short ? near : this.#options;
    const goesOn = alone && this.#form === 'path';
    /** @type {Begun} */
    const { sampler, latent } =
      goesOn && schedule === 'rolling'
        ? await this.#rolling(state, before, seed)
        : goesOn && warm && before
          ? this.#warm(state, before, seed)
          : this.#cold(short ? 'near' : 'far', length, state, seed);
    // Futures are further samples: their part of the derivative reaches the plan by the share of it that they keep.
    const goal = short
      ? { objective: pull(state, this.model.frameStack, () => target), terms }
      : { terms: [...goalTerms(target), ...terms] };
    if (scale) sampler.guide({ ...goal, scale: scale * futures, futures });
    if (onRow) {
      onRow(await sampler.state());
      for await (const row of sampler.iterate({ signal })) onRow(row);
    }
    const row = await sampler.run({ signal });
    // What waits at pure noise is estimated for guidance only.
    const { length: known } = scale ? row.levels : row.levels.filter((level) => level < row.steps);
    const end = (known / row.batch) * row.frameStack * row.fields;
    const frames = split(row, estimateOf(row)).map((values) => values.slice(0, end));
    if (latent === undefined) return { frames };
    return { frames, tails: split(row, row.tokens).map((noisy) => ({ frames: noisy, latent })) };
  }

  /** From noise. @param {string} purpose @param {number} length @param {Point} state @param {number} seed @returns {Begun} */
  #cold(purpose, length, state, seed) {
    const sampler = this.#sampler(purpose, { length });
    return { sampler: sampler.restart(seed).observe(startOf(this.#layout, state)) };
  }

  /** From what is left, with noise again. @param {Point} state @param {Before} before @param {number} seed @returns {Begun} */
  #warm(state, { follower }, seed) {
    const { length, steps, warm } = this.#options;
    const table = warmTable(length, steps, warm);
    const sampler = this.#sampler('warm', { schedule: 'custom', table }).restart(seed);
    sampler.observe(startOf(this.#layout, state)).start(0, this.#carried(follower.rest()));
    return { sampler };
  }

  /**
   * From the noisy tail of a plan that arrives, for all candidates, if whole tokens were executed since; else from noise.
   * @param {Point} state
   * @param {Before | undefined} before
   * @param {number} seed
   * @returns {Promise<Begun>}
   */
  async #rolling(state, before, seed) {
    const { length, steps, uncertainty, memory } = this.#options;
    const plan = before?.follower.plan;
    const tail = plan && plan.best.arrival < Infinity ? plan.tail : undefined;
    const executed = before ? executedTokens(before.seen, this.model.frameStack) : [];
    const due = executed.length * uncertainty;
    const goesOn = plan && tail && due > 0 && due < steps;
    const rows = goesOn ? due : steps;
    const table = rollingTable(length, steps, uncertainty, rows);
    const options = { schedule: /** @type {const} */ ('custom'), table, allowPartial: true };
    const sampler = this.#sampler(`rolling, ${rows} rows`, options).restart(seed);
    const latent = goesOn && memory ? await this.#latent(plan.start, tail.latent, executed) : null;
    sampler.begin(latent).observe(startOf(this.#layout, state));
    if (goesOn) {
      const rest = tail.frames.subarray(executed.length * executed[0].length);
      sampler.start(0, rest, { noisy: true });
    }
    return { sampler, latent };
  }

  /**
   * Behind tokens that were executed.
   * @param {Point} start of the first one
   * @param {Float32Array | null} before the latent that it stands behind, or null: that of its start
   * @param {number[][]} executed
   */
  async #latent(start, before, executed) {
    const { length } = executed;
    const sampler = this.#sampler(`latent of ${length}`, { length, batch: 1 }).restart(0);
    sampler.begin(before).observe(startOf(this.#layout, start)).keep(0, executed.flat());
    return sampler.latent(length - 1);
  }

  /** @param {Float32Array} frames @param {Point} start @param {Point[]} targets */
  #judge(frames, start, targets) {
    const { fields, frameStack } = this.model;
    const states = this.#form === 'states';
    const points = states ? walk(frames, fields.length, frameStack, start) : frames.slice();
    const way = judge(points, forms[this.#form].stride, states, start, targets, this.#discs);
    return { points, frames, ...way };
  }

  get #discs() {
    return this.#options.terms.filter(({ kind }) => kind === 'disc').map(discOf);
  }

  /** @param {string} purpose @param {Partial<SamplerOptions>} more */
  #sampler(purpose, more) {
    const { length, candidates: batch, steps, uncertainty } = this.#options;
    // What does not roll, such as the latent of what was executed, or the way past way-points
    const schedule = this.#options.schedule === 'rolling' ? 'pyramid' : this.#options.schedule;
    const options = { length, batch, schedule, steps, uncertainty, ...more };
    const sampler = this.#samplers.get(purpose) ?? this.model.sampler(options);
    this.#samplers.set(purpose, sampler);
    return sampler;
  }

  /**
   * What all candidates of a warm plan start from, each with noise of its own. Where less is left, the plan stays
   * where it ended.
   * @param {Float32Array} rest
   */
  #carried(rest) {
    const { frameStack, fields } = this.model;
    const size = fields.length;
    const frames = new Float32Array((this.#options.length - newTokens) * frameStack * size);
    for (let at = 0; at < frames.length; at += size) {
      const from = Math.min(at, rest.length - size);
      frames.set(rest.subarray(from, from + size), at);
    }
    return frames;
  }

  /** Frees memory; a further plan takes it again. */
  dispose() {
    for (const sampler of this.#samplers.values()) sampler.dispose();
    this.#samplers.clear();
  }
}

/**
 * Clean values of the tokens, (B, T, F, C): of those that are noisy their estimates.
 * @param {Row} row
 */
function estimateOf({ estimate, tokens, levels, frameStack, fields }) {
  const values = estimate.slice();
  const size = frameStack * fields;
  levels.forEach((level, i) => {
    if (level === 0) values.set(tokens.subarray(i * size, (i + 1) * size), i * size);
  });
  return values;
}

/** Of each sequence. @param {Row} row @param {Float32Array} values (B, ..) @returns {Float32Array[]} */
function split({ batch }, values) {
  const size = values.length / batch;
  return Array.from({ length: batch }, (_, b) => values.slice(b * size, (b + 1) * size));
}

/**
 * What a model of paths would have said of it.
 * @param {ArrayLike<number>} seen x, y after each step
 * @param {number} frameStack
 * @returns {number[][]} its tokens; none if they are not whole
 */
function executedTokens(seen, frameStack) {
  const { stride } = forms.path;
  const count = seen.length / (2 * stride * frameStack);
  if (!Number.isInteger(count)) return [];
  return Array.from({ length: count }, (_, t) =>
    Array.from({ length: frameStack }, (_, f) => {
      const step = (t * frameStack + f + 1) * stride - 1;
      return [seen[2 * step], seen[2 * step + 1]];
    }).flat(),
  );
}

/** @param {Float32Array} a @param {Float32Array} b */
function join(a, b) {
  const both = new Float32Array(a.length + b.length);
  both.set(a);
  both.set(b, a.length);
  return both;
}

/** Where a path ends, and how fast. @param {Float32Array} points two or more */
function endOf(points) {
  const [x0, y0, x, y] = points.subarray(points.length - 4);
  const seconds = forms.path.stride / framesPerSecond;
  return [x, y, (x - x0) / seconds, (y - y0) / seconds];
}

/** @param {Term} term @returns {Disc} */
const discOf = ({ at, size }) => ({ at: /** @type {Point} */ (at), size: Number(size) });

/**
 * Plans every `interval` frames and follows.
 * @param {Planner} planner
 * @param {object} [options]
 * @param {number} [options.seed] of the first plan; every further one has the next
 * @param {(plan: Plan, ms: number) => void} [options.onPlan]
 * @param {(plan: Plan) => Follower} [options.follow] default: planner.follow
 * @returns {Policy}
 */
export function planPolicy(
  planner,
  { seed = 0, onPlan, follow = (plan) => planner.follow(plan) } = {},
) {
  /** @type {Point} */
  let goal;
  /** @type {Follower | undefined} */
  let follower;
  let step = 0;
  let plans = 0;
  /** @type {number[]} */
  let seen = []; // since the last plan
  return {
    reset(_, to) {
      goal = to;
      step = 0;
      follower = undefined;
    },
    async act(observation) {
      seen.push(observation[0], observation[1]);
      const due = step++ % planner.options.interval === 0;
      if (!follower || (due && follower.wants(observation))) {
        const start = performance.now();
        const plan = await planner.plan(observation, goal, {
          seed: seed + plans++,
          before: follower && { follower, seen },
        });
        seen = [];
        onPlan?.(plan, performance.now() - start);
        if (!follower || follower.yields(plan)) follower = follow(plan);
      }
      return follower.act(observation);
    },
  };
}
