// Plans a way to a goal with a model of paths, and follows it.
//
// A plan is a batch of paths that are denoised together from the present observation, guided to the goal; the
// best one is followed until the next plan. Neither the planner nor the tracker knows the walls: what they
// know of the maze is what the model learned from the data.

/** @import { GuidanceTerm, Model, Row, Sampler } from 'diffusion-forcing' */
/** @import { Layout, Point } from './layouts.js' */
/** @import { Policy } from './evaluate.js' */
import { clip } from './environment.js';
import { forms, startOf } from './generate.js';
import { distance, sizes } from './layouts.js';

/** Frames between two points of a path. */
export const stride = forms.path.stride;

/**
 * @typedef {object} PlannerOptions
 * @property {number} [length] tokens of a plan; 32 frames each
 * @property {number} [candidates] paths of a plan, of which one is followed
 * @property {number} [futures] samples of what is still noisy, over which guidance averages
 * @property {number} [scale] of guidance. 0: none, candidates alone
 * @property {'full-sequence' | 'pyramid' | 'autoregressive'} [schedule]
 * @property {number} [steps] denoising steps of a token
 * @property {number} [uncertainty] of a pyramid
 * @property {GuidanceTerm[]} [terms] further objectives, such as obstacles
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
 * @property {Float32Array} points x, y of every fourth frame behind the observation
 * @property {number} arrival the first point at the goal, or Infinity
 * @property {number} cost what is compared: frames until the arrival, more where there is none
 */

/**
 * @typedef {object} Plan
 * @property {Path[]} candidates
 * @property {Path} best
 * @property {Point} start the observation
 * @property {Point} goal
 */

export class Planner {
  #model;
  #layout;
  #options;
  /** @type {Sampler | undefined} */
  #sampler;

  /** @param {Model} model stays the caller's @param {Layout} layout @param {PlannerOptions} [options] */
  constructor(model, layout, options) {
    this.#model = model;
    this.#layout = layout;
    this.#options = { ...defaults, ...options };
  }

  /**
   * A new plan.
   * @param {Point} observation x, y, vx, vy
   * @param {Point} goal
   * @param {object} [call]
   * @param {number} [call.seed] the same seed gives the same plan
   * @param {(row: Row) => void} [call.onRow] sees the plan condense
   * @param {AbortSignal} [call.signal]
   * @returns {Promise<Plan>}
   */
  async plan(observation, goal, { seed = 0, onRow, signal } = {}) {
    const { length, candidates, futures, scale, schedule, steps, uncertainty, terms } =
      this.#options;
    this.#sampler ??= this.#model.sampler({
      length,
      schedule,
      steps,
      uncertainty,
      batch: candidates,
    });
    const sampler = this.#sampler;
    sampler.restart(seed).observe(startOf(this.#layout, observation));
    if (scale)
      sampler.guide({ terms: [...goalTerms(goal), ...terms], scale, futures, shift: 'exact' });
    let row;
    if (onRow) for await (row of sampler.iterate({ signal })) onRow(row);
    row = await sampler.run({ signal });
    const size = 2 * row.columns * row.frameStack;
    const paths = Array.from({ length: candidates }, (_, i) =>
      judge(row.tokens.slice(i * size, (i + 1) * size), observation, goal),
    );
    const best = paths.reduce((a, b) => (b.cost < a.cost ? b : a));
    return { candidates: paths, best, start: [...observation], goal: [...goal] };
  }

  dispose() {
    this.#sampler?.dispose();
    this.#sampler = undefined;
  }
}

/** @param {Point} goal @returns {GuidanceTerm[]} */
export function goalTerms(goal) {
  const at = /** @type {[number, number]} */ ([goal[0], goal[1]]);
  return [
    { kind: 'reach', x: 'x', y: 'y', at, size: 0.2, softness: 0.5 },
    { kind: 'at', x: 'x', y: 'y', at, size: 0.5, weight: 0.5 },
  ];
}

/** How close to the goal a path has to come to count as there: well inside of what is rewarded. */
const close = 0.3;
/** The longest way between two points that the ball can make. */
const longest = 0.22;

/** @param {Float32Array} points @param {Point} start @param {Point} goal @returns {Path} */
function judge(points, start, goal) {
  const n = points.length / 2;
  let arrival = Infinity;
  let nearest = Infinity;
  let jump = 0;
  let last = start;
  for (let i = 0; i < n; i++) {
    const at = points.subarray(2 * i, 2 * i + 2);
    const d = distance(at, goal);
    nearest = Math.min(nearest, d);
    if (arrival === Infinity) jump += Math.max(0, distance(at, last) - longest);
    if (d < close) arrival = Math.min(arrival, i);
    last = at;
  }
  const frames = stride * (arrival < Infinity ? arrival + 1 : n);
  return { points, arrival, cost: frames + 200 * nearest * +(arrival === Infinity) + 200 * jump };
}

/** Follows a path, and stays at the goal. */
export class Tracker {
  #plan;
  #end;
  #next = 0;
  #action = new Float64Array(2);

  /** @param {Plan} plan */
  constructor(plan) {
    this.#plan = plan;
    const { arrival, points } = plan.best;
    this.#end = Math.min(arrival, points.length / 2 - 1);
  }

  /** @param {Point} at x, y, vx, vy @returns {Float64Array} the action */
  act(at) {
    const { best, goal } = this.#plan;
    const { points } = best;
    const point = (i) => points.subarray(2 * i, 2 * i + 2);
    // The nearest point, not going back.
    let nearest = this.#next;
    for (let i = this.#next; i <= Math.min(this.#next + 8, this.#end); i++)
      if (distance(point(i), at) < distance(point(nearest), at)) nearest = i;
    this.#next = nearest;
    let ahead = nearest;
    let way = 0;
    while (ahead < this.#end && way < 0.35) {
      way += distance(point(ahead), point(ahead + 1));
      ahead++;
    }
    const there = ahead >= this.#end && best.arrival < Infinity;
    const target = there ? goal : point(ahead);
    for (let k = 0; k < 2; k++)
      this.#action[k] = clip(10 * (target[k] - at[k]) - (there ? 1.5 : 1) * at[k + 2], 1);
    return this.#action;
  }
}

/**
 * Plans every `interval` frames, and follows the plan in between; at the goal it stays.
 * @param {Planner} planner
 * @param {object} [options]
 * @param {number} [options.interval]
 * @param {number} [options.seed]
 * @param {(plan: Plan, ms: number) => void} [options.onPlan]
 * @returns {Policy}
 */
export function planPolicy(planner, { interval = 64, seed = 0, onPlan } = {}) {
  /** @type {Point} */
  let goal;
  /** @type {Tracker} */
  let tracker;
  let step = 0;
  let plans = 0;
  return {
    reset(_, to) {
      goal = to;
      step = 0;
    },
    async act(observation) {
      if (step % interval === 0 && (step === 0 || distance(observation, goal) > sizes.goal)) {
        const start = performance.now();
        const plan = await planner.plan(observation, goal, { seed: seed + plans++ });
        onPlan?.(plan, performance.now() - start);
        tracker = new Tracker(plan);
      }
      step++;
      return /** @type {Point} */ (tracker.act(observation));
    },
  };
}
