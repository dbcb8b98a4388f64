// What executes plans.

/** @import { Plan } from './planner.js' */
/** @import { Point } from './layouts.js' */
import { clip } from './environment.js';
import { forms } from './generate.js';
import { distance, sizes } from './layouts.js';

const statesFields = forms.states.fields.length;

/** So far from its path the ball is lost. */
const strayed = 0.5;
/** How far ahead on the path the point is that the tracker steers to. */
const lookahead = 1.1;

/**
 * What executes a plan.
 * @typedef {object} Follower
 * @property {Plan} plan
 * @property {(observation: Point) => Point | Promise<Point>} act the next action
 * @property {(observation: Point) => boolean} wants a new plan, when it is time for one?
 * @property {(next: Plan) => boolean} yields to the next plan?
 * @property {() => Float32Array} rest frames of the plan that are left
 */

/**
 * Follows a path, and stays at the goal.
 * @implements {Follower}
 */
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

  /** @param {Point} at */
  wants(at) {
    return distance(at, this.plan.goal) > sizes.goal;
  }

  /**
   * Not while what is left of its own plan is better, unless that does not arrive, or the ball is far from it or has
   * got no further since the last call. To a rolling plan always: it goes on with its own.
   * @param {Plan} next
   */
  yields(next) {
    if (next.tail) return true;
    const stuck = this.#next === this.#before;
    this.#before = this.#next;
    const lost = this.plan.best.arrival === Infinity || this.off > strayed || stuck;
    return lost || next.best.cost < this.plan.stride * (this.#end - this.#next + 1);
  }

  rest() {
    const { frames, points } = this.plan.best;
    const fields = (2 * frames.length) / points.length;
    return frames.subarray(fields * Math.min(this.#next + 1, this.#end));
  }

  /** @param {number} i */
  #point(i) {
    return this.plan.best.points.subarray(2 * i, 2 * i + 2);
  }

  /** Finds the point that is nearest to the ball, not going back. @param {Point} at */
  locate(at) {
    let nearest = this.#next;
    for (let i = this.#next; i <= Math.min(this.#next + 8, this.#end); i++)
      if (distance(this.#point(i), at) < distance(this.#point(nearest), at)) nearest = i;
    this.#next = nearest;
    this.off = distance(this.#point(nearest), at);
  }

  /** Where the path is so many frames behind that point; it ends at the goal, if it arrives. @param {number} frames @returns {Point} */
  after(frames) {
    const { best, goal, stride } = this.plan;
    const at = this.#next + frames / stride;
    if (at >= this.#end) return best.arrival < Infinity ? goal : this.#point(this.#end);
    const [a, b] = [this.#point(Math.floor(at)), this.#point(Math.floor(at) + 1)];
    return [0, 1].map((k) => a[k] + (at % 1) * (b[k] - a[k]));
  }

  /** @param {Point} at x, y, vx, vy */
  act(at) {
    const { best, goal, discs } = this.plan;
    /** @param {number} i */
    const point = (i) => this.#point(i);
    this.locate(at);
    const nearest = this.#next;
    let ahead = nearest;
    for (let way = 0; ahead < this.#end && way < lookahead; ahead++)
      way += distance(point(ahead), point(ahead + 1));
    // Not straight through what the path goes around.
    const blocked = () =>
      discs.some((disc) => distanceToWay(disc.at, at, point(ahead)) < disc.size);
    while (ahead > nearest + 1 && blocked()) ahead--;
    const there = ahead >= this.#end && best.arrival < Infinity;
    const target = there ? goal : point(ahead);
    for (let k = 0; k < 2; k++)
      this.#action[k] = clip(10 * (target[k] - at[k]) - (there ? 1.5 : 1) * at[k + 2], 1);
    return this.#action;
  }
}

/** From a point to the nearest one between two others. @param {Point} p @param {Point} a @param {Point} b */
function distanceToWay(p, a, b) {
  const [x, y] = [b[0] - a[0], b[1] - a[1]];
  const share = ((p[0] - a[0]) * x + (p[1] - a[1]) * y) / (x * x + y * y || 1);
  const at = Math.min(Math.max(share, 0), 1);
  return distance(p, [a[0] + at * x, a[1] + at * y]);
}

/**
 * Executes the actions of a plan of states, as they were diffused.
 * @implements {Follower}
 */
export class Executor {
  /** @readonly */
  plan;
  #frame = 0;

  /** @param {Plan} plan */
  constructor(plan) {
    this.plan = plan;
  }

  wants() {
    return true;
  }

  yields() {
    return true;
  }

  rest() {
    const { frames } = this.plan.best;
    return frames.subarray(Math.min(this.#frame * statesFields, frames.length - statesFields));
  }

  act() {
    const { frames } = this.plan.best;
    const at = Math.min(this.#frame++ * statesFields + 4, frames.length - 2);
    return frames.subarray(at, at + 2);
  }
}
