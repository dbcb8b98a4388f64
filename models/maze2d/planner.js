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
 * @property {number} [futures] Monte Carlo guidance: samples of what is still noisy, over which J is averaged. Guidance
 *   is so many times as strong
 * @property {number} [scale] of guidance. 0: none, the candidates alone
 * @property {'full-sequence' | 'pyramid' | 'autoregressive' | 'rolling'} [schedule] rolling: a pyramid without end.
 *   A plan that arrives is gone on with: what is left of it, noisy as it is, is where the next one starts, behind the
 *   latent of what was executed, and takes `uncertainty` rows for each token that was begun since. Models of paths
 * @property {number} [steps] denoising steps of a token
 * @property {number} [uncertainty] of a pyramid; of a rolling one a whole number from 1 on
 * @property {boolean} [memory] of a rolling schedule. false: behind the latent of the observation alone
 * @property {number} [interval] frames from plan to plan
 * @property {number} [warm] rows of a plan that starts from what is left of the one before, fewer than steps: it only
 *   gets back the noise of so many rows. 0, the default: every plan starts from noise. Models of paths
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
 * @property {number} rows of denoising that it took
 * @property {Tail} [tail] of a rolling plan
 */
/**
 * What a rolling plan leaves to the next one.
 * @typedef {object} Tail
 * @property {Float32Array} frames of the best candidate, the later the noisier
 * @property {Past} past
 */
/**
 * What was executed since a rolling plan started from noise.
 * @typedef {object} Past
 * @property {Point} start its observation
 * @property {number[]} seen x, y after each step
 */
/**
 * The plan before, and what became of it.
 * @typedef {object} Before
 * @property {Follower} follower
 * @property {ArrayLike<number>} seen x, y after each step since its observation; the last one is where the ball is now
 */
/** @typedef {{ sampler: Sampler, past?: Past }} Begun past: of a rolling plan */

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

/** Tokens of what was executed that a rolling plan stands behind, at most: the training sequences have 16. */
const remembered = 12;

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
 * @param {number} [carried] tokens that are not new, if there are more or fewer of them
 */
export const rollingTable = (length, steps, u, rows, carried = length - rows / u) =>
  Array.from({ length: rows + 1 }, (_, row) =>
    Array.from({ length }, (_, t) => {
      const end = Math.min(steps, u * t);
      const slow = Math.min(steps, u * t + rows - row);
      const isNew = t >= carried;
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
    const usual = { ...defaults, ...(this.#form === 'states' && statesDefaults) };
    this.#options = this.#checked({ ...usual, ...options });
  }

  /** @param {Required<PlannerOptions>} options */
  #checked(options) {
    const { warm, schedule } = options;
    if (this.#form === 'states' && (warm || schedule === 'rolling'))
      throw new RangeError(
        `warm plans and rolling schedules: expected a model of paths; found one of states`,
      );
    return options;
  }

  get options() {
    return this.#options;
  }

  /** From the next plan on; not while one is made. @param {PlannerOptions} options */
  set(options) {
    const before = this.#options;
    this.#options = this.#checked({ ...before, ...options });
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
   * @param {number} [call.length] tokens, instead of as many as the options say
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
    let rows = 0;
    for (let k = 0; ; k++) {
      const leg = { ...call, seed: seed + k * 2 ** 32, alone: !via.length };
      const futures = await this.#sample(state, targets[k], before, leg);
      ({ tails } = futures);
      rows += futures.rows;
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
    return { candidates, best, stride, start, goal: end, discs: this.#discs, rows, tail };
  }

  /**
   * One batch of futures.
   * @param {Point} state where they begin
   * @param {Point} target
   * @param {Before | undefined} before
   * @param {{ length?: number, seed: number, onRow?: (row: Row) => void, signal?: AbortSignal, alone: boolean }} call
   *   alone: not a leg of a way past way-points, which starts from noise and ends clean
   * @returns {Promise<{ frames: Float32Array[], rows: number, tails?: Tail[] }>} of each candidate
   */
  async #sample(state, target, before, { length: given, seed, onRow, signal, alone }) {
    const { futures, terms, schedule, warm } = this.#options;
    const short = this.#form === 'states' && distance(state, target) < near.distance;
    const { length: usual, scale } = short ? near : this.#options;
    const length = given ?? usual;
    /** @type {Begun} */
    const { sampler, past } =
      alone && schedule === 'rolling'
        ? await this.#rolling(length, state, before, seed)
        : alone && warm && before
          ? this.#warm(length, state, before, seed)
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
    if (!past) return { frames, rows: row.rows };
    const tails = split(row, row.tokens).map((noisy) => ({ frames: noisy, past }));
    return { frames, rows: row.rows, tails };
  }

  /** From noise. @param {string} purpose @param {number} length @param {Point} state @param {number} seed @returns {Begun} */
  #cold(purpose, length, state, seed) {
    const sampler = this.#sampler(purpose, { length });
    return { sampler: sampler.restart(seed).observe(startOf(this.#layout, state)) };
  }

  /**
   * From what is left, with noise again.
   * @param {number} length
   * @param {Point} state
   * @param {Before} before
   * @param {number} seed
   * @returns {Begun}
   */
  #warm(length, state, { follower }, seed) {
    const { steps, warm } = this.#options;
    const table = warmTable(length, steps, warm);
    const sampler = this.#sampler('warm', { length, schedule: 'custom', table }).restart(seed);
    sampler.observe(startOf(this.#layout, state));
    const carried = this.#carried(follower.rest(), length - newTokens);
    if (carried.length) sampler.start(0, carried);
    return { sampler };
  }

  /**
   * All candidates from what is left of the plan before; from noise if there is too little.
   * @param {number} length
   * @param {Point} state
   * @param {Before | undefined} before
   * @param {number} seed
   * @returns {Promise<Begun>}
   */
  async #rolling(length, state, before, seed) {
    const { steps, uncertainty, memory } = this.#options;
    const left = before && this.#left(before);
    const { rows, past } = left ?? {
      rows: steps,
      past: { start: Float64Array.from(state), seen: [] },
    };
    const size = this.model.frameStack * this.model.fields.length;
    const carried = left ? Math.min(length, Math.floor(left.frames.length / size)) : 0;
    const table = rollingTable(length, steps, uncertainty, rows, carried);
    const options = { length, schedule: /** @type {const} */ ('custom'), table };
    const purpose = `rolling, ${rows} rows, ${carried} tokens on`;
    const sampler = this.#sampler(purpose, { ...options, allowPartial: true }).restart(seed);
    sampler.begin(memory ? await this.#latent(past) : null);
    sampler.observe(startOf(this.#layout, state));
    if (left) sampler.start(0, left.frames.subarray(0, carried * size), { noisy: left.noisy });
    return { sampler, past };
  }

  /**
   * What is left of a rolling plan that arrives. After whole tokens it is the noisy tail as it is. Else tokens begin
   * elsewhere, parts of two make a new one, and it is the estimates: they get as much noise as the later one had.
   * @param {Before} before
   */
  #left({ follower: { plan }, seen }) {
    const { steps, uncertainty } = this.#options;
    const { frameStack, fields } = this.model;
    const { tail, best } = plan;
    const moved = seen.length / (2 * forms.path.stride); // points of the plan
    const rows = Math.ceil(moved / frameStack) * uncertainty;
    if (!tail || best.arrival === Infinity || !rows || rows >= steps) return undefined;
    const noisy = moved % frameStack === 0;
    const frames = noisy ? tail.frames.subarray(2 * moved) : behind(best.frames, moved);
    if (frames.length < frameStack * fields.length) return undefined;
    const past = { start: tail.past.start, seen: [...tail.past.seen, ...Array.from(seen)] };
    return { frames, noisy, rows, past };
  }

  /** Behind what was executed, in tokens that end where the ball is; null if it is less than one. @param {Past} past */
  async #latent(past) {
    const { start, tokens } = lastTokens(past, this.model.frameStack, remembered);
    const { length } = tokens;
    if (!length) return null;
    const sampler = this.#sampler('latent', { length, batch: 1 }).restart(0);
    sampler.observe(startOf(this.#layout, start)).keep(0, tokens.flat());
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

  /** @param {string} purpose @param {Partial<SamplerOptions> & { length: number }} more */
  #sampler(purpose, more) {
    const { candidates: batch, steps, uncertainty } = this.#options;
    // What does not roll, such as the latent of what was executed, or the way past way-points
    const schedule = this.#options.schedule === 'rolling' ? 'pyramid' : this.#options.schedule;
    const options = { batch, schedule, steps, uncertainty, ...more };
    const key = `${purpose}, ${more.length} tokens`;
    const sampler = this.#samplers.get(key) ?? this.model.sampler(options);
    this.#samplers.set(key, sampler);
    return sampler;
  }

  /**
   * What all candidates of a warm plan start from, each with noise of its own. Where less is left, the plan stays
   * where it ended.
   * @param {Float32Array} rest
   * @param {number} tokens
   */
  #carried(rest, tokens) {
    const { frameStack, fields } = this.model;
    const size = fields.length;
    const frames = new Float32Array(Math.max(0, tokens) * frameStack * size);
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
 * The end of what was executed, as a model of paths would have said it.
 * @param {Past} past
 * @param {number} frameStack
 * @param {number} most
 * @returns {{ start: Point, tokens: number[][] }} the observation before the first of the tokens; at most so many
 */
function lastTokens({ start, seen }, frameStack, most) {
  const { stride } = forms.path;
  const steps = seen.length / 2;
  const count = Math.min(most, Math.floor(steps / (stride * frameStack)));
  const from = steps - count * stride * frameStack;
  /** @param {number} step 0: the start */
  const at = (step) => (step ? [seen[2 * step - 2], seen[2 * step - 1]] : [start[0], start[1]]);
  const tokens = Array.from({ length: count }, (_, t) =>
    Array.from({ length: frameStack }, (_, f) => [
      ...at(from + (t * frameStack + f + 1) * stride),
    ]).flat(),
  );
  if (!from) return { start, tokens };
  const [[x0, y0], [x, y]] = [at(from - 1), at(from)];
  return { start: [x, y, (x - x0) * framesPerSecond, (y - y0) * framesPerSecond], tokens };
}

/** What is left of a path behind so many points; they need not be whole. @param {Float32Array} path x, y @param {number} points */
function behind(path, points) {
  const part = points % 1;
  const left = path.slice(2 * Math.floor(points));
  if (!part) return left;
  return left.slice(0, -2).map((value, i) => value + part * (left[i + 2] - value));
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
