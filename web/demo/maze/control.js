// The closed loop: a ball, a plan that it follows, and the next plan in the making. Driven by step()
// calls, in real time by the page and as fast as it goes by the trial; nothing here knows of a
// document.
//
// A plan is made from where the ball is at that moment. In the meantime the ball follows the plan
// before it, and from the step on in which the new one is there, the new one if it is better than what
// is left of the old: it is taken up at the point nearest to the ball.

import { distance, sizes, sparseReward } from '../../../models/maze2d/layouts.js';
import { Planner, defaults as plannerDefaults } from '../../../models/maze2d/planner.js';

/** @typedef {import('../../../models/maze2d/planner.js').Plan} Plan */
/** @typedef {import('../../../models/maze2d/planner.js').PlannerOptions} PlannerOptions */
/** @typedef {PlannerOptions & { seed?: number, discs?: number[][] }} ControlOptions */
/** @typedef {import('../../../models/maze2d/layouts.js').Point} Point */

export const defaults = {
  ...plannerDefaults,
  /** Of the first plan; every further one has the next. */
  seed: 0,
  /** Obstacles that plans keep out of: x, y, radius. @type {number[][]} */
  discs: [],
};

/** Between an obstacle and a plan, beside the ball's own radius: the ball cuts corners. */
const margin = 0.1;
/** What guides plans around a disc: x, y, radius. */
export const obstacle = ([x, y, radius]) => ({
  ...{ kind: 'disc', x: 'x', y: 'y', at: [x, y] },
  ...{ size: radius + sizes.ball + margin, softness: 0.2, weight: 1 },
});

/** So far off its path the ball plans anew at once. */
const astray = 0.5;
/** But not before so many steps with a plan. */
const patience = 10;
/** Speed of a push: beyond it the environment cuts velocities. */
const fastest = 5;
/** So close to a way-point it is passed. */
const passing = 0.45;

export class Control {
  /** x, y, vx, vy of the ball, or of where it will start. */
  observation = new Float64Array(4);
  /** @type {Point} */ goal;
  /** Way-points that are still to be passed. @type {Point[]} */ via = [];
  /** Steps since begin(). */
  steps = 0;
  /** Step of the first arrival. */
  reached = Infinity;
  /** Steps at a wall. */
  contacts = 0;
  /** Plans made since begin(), and how long each took (ms). @type {number[]} */
  times = [];
  /** x, y, and whether at a wall, after each step. @type {number[]} */
  trail = [];
  /** @type {import('../../../models/maze2d/environment.js').Maze | null} */
  maze = null;

  #planner;
  #options;
  #events;
  /** @type {import('../../../models/maze2d/followers.js').Follower | null} */ #follower = null;
  #since = 0; // steps since the last plan was begun
  /** x, y after each step since the plan that is followed was begun. @type {number[]} */ #seen =
    [];
  #hand = { vx: 0, vy: 0, steps: 0 }; // of a push: for so many steps
  #isNew = true; // the task: the next plan is followed, whatever the one before is worth
  #plans = 0;
  /** @type {AbortController | null} */ #abort = null;
  /** @type {Promise<unknown>} */ #last = Promise.resolve();

  /**
   * @param {import('diffusion-forcing').Model} model  stays the caller's
   * @param {import('../../../models/maze2d/layouts.js').Layout} layout
   * @param {ControlOptions} [options]
   * @param {object} [events]
   * @param {(settings: Required<ControlOptions>) => void} [events.onStart]  a plan is begun
   * @param {(row: import('diffusion-forcing').Row) => void} [events.onRow]  and condenses
   * @param {(plan: Plan, isFollowed: boolean) => void} [events.onPlan]  and is there: better than the
   *   one before, or not
   * @param {(error: Error) => void} [events.onError]  of a plan that step() began
   */
  constructor(model, layout, options = {}, events = {}) {
    this.layout = layout;
    this.goal = layout.goal;
    this.#options = { ...defaults, ...options };
    this.#planner = new Planner(model, layout);
    this.#events = events;
  }

  /** From the next plan on, which is followed in any case. @param {ControlOptions} options */
  set(options) {
    this.#options = { ...this.#options, ...options };
    this.#isNew = true;
  }

  /**
   * A new task; what is counted starts at 0.
   * @param {object} task
   * @param {Point} [task.start]  default: from where the ball is, as fast as it is
   * @param {Point} task.goal
   * @param {Point[]} [task.via]
   */
  begin({ start, goal, via = [] }) {
    if (start) this.place(start);
    this.goal = goal;
    this.via = [...via];
    this.steps = this.contacts = this.#plans = 0;
    this.reached = Infinity;
    this.times = [];
    this.trail = [];
    this.#hand.steps = 0;
    this.#isNew = true;
  }

  /** Puts the ball somewhere, at rest unless there are vx, vy: a new task. @param {Point} at */
  place([x, y, vx = 0, vy = 0]) {
    this.#isNew = true;
    this.observation.set([x, y, vx, vy]);
    this.maze?.set([x, y], [vx, vy]);
  }

  /** Gives it a ball to move. @param {import('../../../models/maze2d/environment.js').Maze | null} maze */
  attach(maze) {
    this.maze = maze;
    const [x, y, vx, vy] = this.observation;
    maze?.set([x, y], [vx, vy]);
  }

  /**
   * A push: a hand moves the ball so far, as fast as a ball may be, unless there is a wall; and lets go.
   * @param {Point} way  dx, dy
   */
  push([dx, dy]) {
    const length = Math.hypot(dx, dy);
    if (!length) return;
    const steps = Math.ceil((100 * length) / fastest);
    this.#hand = { vx: (fastest * dx) / length, vy: (fastest * dy) / length, steps };
  }

  /** Whether a plan is being made. */
  get planning() {
    return this.#abort !== null;
  }

  /** Resolves when no plan is being made. */
  async settled() {
    while (this.#abort) await this.#last.catch(() => {});
  }

  /**
   * Makes a plan and follows it. One that is under way is given up.
   * @returns {Promise<Plan | null>}  null: given up for a later one
   */
  replan() {
    this.#abort?.abort();
    const abort = (this.#abort = new AbortController());
    const before = this.#last;
    const { goal, via } = this;
    const task = { observation: this.observation.slice(), goal, via, seen: this.#seen.slice() };
    this.#since = 0;
    const made = (async () => {
      await before.catch(() => {});
      return abort.signal.aborted ? null : this.#make(task, abort.signal);
    })().finally(() => {
      if (this.#abort === abort) this.#abort = null;
    });
    this.#last = made;
    return made;
  }

  async #make({ observation, goal, via, seen }, signal) {
    const { onStart, onRow, onPlan } = this.#events;
    const { seed, discs, terms, ...options } = this.#options;
    const began = performance.now();
    this.#planner.set({ ...options, terms: [...terms, ...discs.map(obstacle)] });
    // One that leads elsewhere, or that the ball has lost, is no start for another.
    const follower = this.#isNew || this.#follower.off > astray ? null : this.#follower;
    const before = follower ? { follower, seen } : undefined;
    onStart?.(this.#options);
    let plan;
    try {
      plan = await this.#planner.plan(observation, goal, {
        ...{ via, before, seed: seed + this.#plans, onRow, signal },
      });
    } catch (error) {
      if (signal.aborted) return null;
      throw error;
    }
    if (signal.aborted) return null;
    this.times.push(performance.now() - began);
    this.#plans++;
    const isBetter = this.#isNew || this.#follower.yields(plan);
    if (isBetter) {
      this.#follower = this.#planner.follow(plan);
      this.#seen = this.#seen.slice(seen.length);
    }
    this.#isNew = false;
    onPlan?.(plan, isBetter);
    return plan;
  }

  /** The plan that is followed. @returns {Plan | null} */
  get plan() {
    return this.#follower?.plan ?? null;
  }

  /** A hundredth of a second with the ball. Begins the next plan when it is time. */
  step() {
    if (!this.maze || !this.#follower) throw new Error('step: expected a ball and a plan');
    const { maze } = this;
    let action = this.#follower.act(maze.observation);
    if (this.#hand.steps-- > 0) {
      const [x, y] = maze.observation;
      maze.set([x, y], [this.#hand.vx, this.#hand.vy]);
      action = [0, 0];
    }
    const at = maze.step(action);
    this.observation.set(at);
    this.steps++;
    this.#since++;
    this.#seen.push(at[0], at[1]);
    const { touching } = maze;
    if (touching) this.contacts++;
    this.trail.push(at[0], at[1], Number(touching));
    if (this.via.length && distance(at, this.via[0]) < passing) this.via = this.via.slice(1);
    if (this.reached === Infinity && !this.via.length && sparseReward(at, this.goal))
      this.reached = this.steps;
    if (!this.planning && this.#isDue(at))
      this.replan().catch((error) => this.#events.onError?.(error));
  }

  #isDue(at) {
    if (!this.via.length && !this.#follower.wants(at)) return false;
    if (this.#since >= this.#options.interval) return true;
    return this.#since >= patience && this.#follower.off > astray;
  }

  /** Gives up the plan under way; frees the planner when it has stopped. */
  dispose() {
    this.#abort?.abort();
    this.#last.catch(() => {}).then(() => this.#planner.dispose());
  }
}
