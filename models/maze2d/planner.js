// Plans a way to a goal with a model of paths, and follows it.
//
// A plan is a batch of futures that are denoised together from the present observation, guided to the goal; the best
// one is followed until a later plan is better. Neither the planner nor the tracker is told where walls are: what they
// know of the maze is what the model learned from the data.

/** @import { Model, Row, Sampler, Term } from '../../web/src/types.js' */
/** @import { Layout, Point } from './layouts.js' */
/** @import { Policy } from './evaluate.js' */
import { clip } from './environment.js';
import { forms, startOf } from './generate.js';
import { distance, sizes } from './layouts.js';

/**
 * @typedef {object} PlannerOptions
 * @property {number} [length] tokens of a plan
 * @property {number} [candidates] futures of a plan, of which one is followed
 * @property {number} [futures] Monte Carlo guidance: samples of what is still noisy, over which J is averaged
 * @property {number} [scale] of guidance. 0: none, the candidates alone
 * @property {'full-sequence' | 'pyramid' | 'autoregressive'} [schedule]
 * @property {number} [steps] denoising steps of a token
 * @property {number} [uncertainty] of a pyramid
 * @property {Term[]} [terms] further objectives, such as obstacles
 */

/** @type {Required<PlannerOptions>} */
export const defaults = {
  length: 16,
  candidates: 8,
  futures: 1,
  scale: 1,
  schedule: 'full-sequence',
  steps: 10,
  uncertainty: 1,
  terms: [],
};

/**
 * @typedef {object} Path
 * @property {Float32Array} points x, y of every `stride`-th frame behind the observation
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
 */

export class Planner {
  /** @readonly */
  model;
  #layout;
  #options;
  /** @type {Sampler | undefined} */
  #sampler;

  /** @param {Model} model of `path` or `states`; stays the caller's @param {Layout} layout @param {PlannerOptions} [options] */
  constructor(model, layout, options) {
    this.model = model;
    this.#layout = layout;
    this.#options = { ...defaults, ...options };
  }

  /** Other options from the next plan on. Not while one is made. @param {PlannerOptions} options */
  set(options) {
    const before = this.#options;
    const now = (this.#options = { ...before, ...options });
    // A sampler can be guided in another way, but not made anew, and guidance cannot be taken off.
    /** @type {(keyof PlannerOptions)[]} */
    const fixed = ['length', 'candidates', 'schedule', 'steps', 'uncertainty'];
    const isOther = fixed.some((key) => now[key] !== before[key]);
    if (isOther || !now.scale !== !before.scale) this.dispose();
  }

  /**
   * A new plan.
   * @param {Point} observation x, y, vx, vy
   * @param {Point} goal
   * @param {object} [call]
   * @param {number} [call.seed] the same seed gives the same plan
   * @param {(row: Row) => void} [call.onRow] sees the plan condense, the noise first
   * @param {AbortSignal} [call.signal]
   * @returns {Promise<Plan>}
   */
  async plan(observation, goal, { seed = 0, onRow, signal } = {}) {
    const { length, candidates, futures, scale, schedule, steps, uncertainty, terms } =
      this.#options;
    const sampler = (this.#sampler ??= this.model.sampler({
      length,
      schedule,
      steps,
      uncertainty,
      batch: candidates,
    }));
    sampler.restart(seed).observe(startOf(this.#layout, observation));
    if (scale) sampler.guide({ terms: [...goalTerms(goal), ...terms], scale, futures });
    if (onRow) {
      onRow(await sampler.state());
      for await (const row of sampler.iterate({ signal })) onRow(row);
    }
    const row = await sampler.run({ signal });
    const { stride } = formOf(this.model);
    const size = row.columns * row.frameStack * row.fields;
    const paths = Array.from({ length: candidates }, (_, i) =>
      judge(row.tokens.slice(i * size, (i + 1) * size), row.fields, stride, observation, goal),
    );
    const best = paths.reduce((a, b) => (b.cost < a.cost ? b : a));
    return {
      candidates: paths,
      best,
      stride,
      start: Float64Array.from(observation),
      goal: Float64Array.from(goal),
    };
  }

  dispose() {
    this.#sampler?.dispose();
    this.#sampler = undefined;
  }
}

/** @param {Model} model */
const formOf = (model) => (model.fields.length === 2 ? forms.path : forms.states);

/** @param {Point} goal @returns {Term[]} */
export function goalTerms(goal) {
  const at = /** @type {[number, number]} */ ([goal[0], goal[1]]);
  return [
    { kind: 'reach', x: 'x', y: 'y', at, size: 0.2, softness: 0.5 },
    { kind: 'at', x: 'x', y: 'y', at, size: 0.5, weight: 0.5 },
  ];
}

/** How close to the goal a path has to come to be there: well inside of what is rewarded. */
const close = 0.3;
/** The longest way that the ball can make in a frame, with some tolerance. */
const fastest = 0.055;

/**
 * @param {Float32Array} frames
 * @param {number} fields
 * @param {number} stride
 * @param {Point} start
 * @param {Point} goal
 * @returns {Path}
 */
function judge(frames, fields, stride, start, goal) {
  const n = frames.length / fields;
  const points = new Float32Array(2 * n);
  let arrival = Infinity;
  let nearest = Infinity;
  let away = 0;
  let leaps = 0;
  let last = start;
  for (let i = 0; i < n; i++) {
    const at = points.subarray(2 * i, 2 * i + 2);
    at.set(frames.subarray(fields * i, fields * i + 2));
    const d = distance(at, goal);
    nearest = Math.min(nearest, d);
    if (arrival === Infinity) leaps += Math.max(0, distance(at, last) - fastest * stride);
    if (d < close) arrival = Math.min(arrival, i);
    if (fields === 2 ? arrival === Infinity : d > sizes.goal) away += stride;
    last = at;
  }
  const cost = away + 200 * leaps + 200 * nearest * +(arrival === Infinity);
  return { points, arrival, cost, frames };
}

/** So far from its path the ball is lost. */
const strayed = 0.5;
/** How far ahead on the path the point is that the tracker steers to. */
const lookahead = 1.1;

/** Follows a path, and stays at the goal. */
export class Tracker {
  /** How far the ball was from the path. */
  off = 0;
  /** @readonly */
  plan;
  #end;
  #next = 0;
  #before = -1;
  #action = new Float64Array(2);

  /** @param {Plan} plan */
  constructor(plan) {
    this.plan = plan;
    const { arrival, points } = plan.best;
    this.#end = Math.min(arrival, points.length / 2 - 1);
  }

  /**
   * The cost of what is left of the plan. Infinity if it does not arrive, or if the ball is far from it or has
   * got no further since the last call.
   */
  remaining() {
    const stuck = this.#next === this.#before;
    this.#before = this.#next;
    if (this.plan.best.arrival === Infinity || this.off > strayed || stuck) return Infinity;
    return this.plan.stride * (this.#end - this.#next + 1);
  }

  /** @param {Point} at x, y, vx, vy @returns {Float64Array} the action */
  act(at) {
    const { best, goal } = this.plan;
    /** @param {number} i */
    const point = (i) => best.points.subarray(2 * i, 2 * i + 2);
    // The nearest point, not going back.
    let nearest = this.#next;
    for (let i = this.#next; i <= Math.min(this.#next + 8, this.#end); i++)
      if (distance(point(i), at) < distance(point(nearest), at)) nearest = i;
    this.#next = nearest;
    this.off = distance(point(nearest), at);
    let ahead = nearest;
    for (let way = 0; ahead < this.#end && way < lookahead; ahead++)
      way += distance(point(ahead), point(ahead + 1));
    const there = ahead >= this.#end && best.arrival < Infinity;
    const target = there ? goal : point(ahead);
    for (let k = 0; k < 2; k++)
      this.#action[k] = clip(10 * (target[k] - at[k]) - (there ? 1.5 : 1) * at[k + 2], 1);
    return this.#action;
  }
}

/**
 * What a policy of a planner does beside planning.
 * @typedef {object} PolicyOptions
 * @property {number} [interval] frames from plan to plan
 * @property {number} [seed] of the first plan; every further one has the next
 * @property {(plan: Plan, ms: number) => void} [onPlan]
 */

/**
 * Plans every `interval` frames, until the ball is at the goal, and follows the best plan so far.
 * @param {Planner} planner of a model of paths
 * @param {PolicyOptions} [options]
 * @returns {Policy}
 */
export function trackingPolicy(planner, { interval = 64, seed = 0, onPlan } = {}) {
  /** @type {Point} */
  let goal;
  /** @type {Tracker | undefined} */
  let tracker;
  let step = 0;
  let plans = 0;
  return {
    reset(_, to) {
      goal = to;
      step = 0;
      tracker = undefined;
    },
    async act(observation) {
      const due = step++ % interval === 0 && distance(observation, goal) > sizes.goal;
      if (due || !tracker) {
        const start = performance.now();
        const plan = await planner.plan(observation, goal, { seed: seed + plans++ });
        onPlan?.(plan, performance.now() - start);
        if (!tracker || plan.best.cost < tracker.remaining()) tracker = new Tracker(plan);
      }
      return /** @type {Point} */ (tracker.act(observation));
    },
  };
}

/**
 * Plans every `interval` frames and executes the actions as they were diffused.
 * @param {Planner} planner of a model of states
 * @param {PolicyOptions} [options]
 * @returns {Policy}
 */
export function executingPolicy(planner, { interval = 16, seed = 0, onPlan } = {}) {
  const fields = forms.states.fields.length;
  /** @type {Point} */
  let goal;
  /** @type {Plan} */
  let plan;
  let step = 0;
  let plans = 0;
  return {
    reset(_, to) {
      goal = to;
      step = 0;
    },
    async act(observation) {
      const frame = step++ % interval;
      if (frame === 0) {
        const start = performance.now();
        plan = await planner.plan(observation, goal, { seed: seed + plans++ });
        onPlan?.(plan, performance.now() - start);
      }
      const at = fields * frame + 4;
      return plan.best.frames.subarray(at, at + 2);
    },
  };
}
