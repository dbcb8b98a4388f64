// The controller that made D4RL's data sets: a shortest way through the cells, whose way-points a
// proportional-derivative controller steers to.

/** @import { Cell, Layout, Point } from './layouts.js' */
/** @import { Policy } from './evaluate.js' */
/** @import { Random } from './mersenne-twister.js' */
import { clip } from './environment.js';
import { cellAt, distance, route, roundToCell } from './layouts.js';

const gains = { position: 10, velocity: -1 };
/** How close is there; and how far the ball may have come since the last call to be slow enough. */
const threshold = 0.1;

/**
 * Towards a point, into action.
 * @param {Point} at position and velocity
 * @param {Point} target
 * @param {Float64Array} action
 */
function steer(at, target, action) {
  for (let k = 0; k < 2; k++)
    action[k] = clip(gains.position * (target[k] - at[k]) + gains.velocity * at[k + 2], 1);
  return action;
}

/**
 * Plans when the goal's cell is another than in the last call, and never else: it does not notice that
 * the ball has been put somewhere else. It steers to the cell's integer point, not to the goal itself.
 */
export class WaypointController {
  /** Whether the last call found the ball at the goal's cell, and slow. */
  solved = false;
  /** Of the last call. @readonly */
  action = new Float64Array(2);
  #layout;
  #random;
  /** @type {Cell | undefined} */
  #goal;
  /** @type {Point[]} */
  #waypoints = [];
  #next = 0;
  /** Where the ball was in the last call. */
  #last = new Float64Array(2);

  /** @param {Layout} layout @param {Random} random of the offsets of way-points */
  constructor(layout, random) {
    this.#layout = layout;
    this.#random = random;
  }

  /**
   * @param {Point} at position and velocity
   * @param {Point} goal
   * @returns {Float64Array} this.action
   */
  act(at, goal) {
    const cell = roundToCell(goal);
    if (!this.#goal || cell[0] !== this.#goal[0] || cell[1] !== this.#goal[1]) this.#plan(at, cell);
    const moved = distance(at, this.#last);
    this.solved = distance(at, cell) < threshold && moved < threshold;
    const target = this.solved ? cell : this.#waypoints[this.#next];
    steer(at, target, this.action);
    // The last way-point is the goal: reaching it is being there.
    if (!this.solved && distance(at, target) < threshold && moved < threshold) this.#next++;
    this.#last[0] = at[0];
    this.#last[1] = at[1];
    return this.action;
  }

  /** @param {Point} at @param {Cell} goal */
  #plan(at, goal) {
    const start = roundToCell(at);
    // In the lower corner of a cell the ball rounds to a wall that may have no way out. D4RL's
    // scripts never plan there.
    const path = route(this.#layout, start, goal) ?? route(this.#layout, cellAt(at), goal);
    if (!path) throw new RangeError(`there is no way from ${at[0]}, ${at[1]} to cell ${goal}`);
    this.#waypoints = path.map(([i, j], n) => {
      this.#random.uniform(); // drawn and not used, like D4RL's
      if (n === path.length - 1) return [i, j];
      // Towards the middle of the corridor: see layouts.js.
      return [i - 0.2 * this.#random.uniform(), j - 0.2 * this.#random.uniform()];
    });
    this.#next = 0;
    this.#goal = goal;
    this.#last.set(start);
  }
}

/**
 * The controller, with a new route for every episode.
 * @param {Layout} layout
 * @param {Random} random
 * @returns {Policy}
 */
export function routePolicy(layout, random) {
  /** @type {WaypointController} */
  let controller;
  /** @type {Point} */
  let goal;
  return {
    reset(_, to) {
      controller = new WaypointController(layout, random);
      goal = to;
    },
    act: (observation) => controller.act(observation, goal),
  };
}

/** Straight to the goal, whatever is between. @returns {Policy} */
export function straightPolicy() {
  const action = new Float64Array(2);
  /** @type {Point} */
  let goal;
  return {
    reset(_, to) {
      goal = roundToCell(to);
    },
    act: (observation) => steer(observation, goal, action),
  };
}

/** Uniform actions. @param {Random} random @returns {Policy} */
export function randomPolicy(random) {
  const action = new Float64Array(2);
  return {
    reset() {},
    act() {
      // float32, as gym's action space draws them
      for (let k = 0; k < 2; k++) action[k] = Math.fround(2 * random.uniform() - 1);
      return action;
    },
  };
}
