// Goes along a path by actions that a model of states diffuses, instead of a tracker.
//
// Every few frames it makes a plan of observations and actions that is short and drawn to where the path is at its time,
// or a little later. Its first actions are executed as they are: the pull is guidance, and nothing else turns a place
// into an action.

/** @import { Model, Sampler } from '../../web/src/types.js' */
/** @import { Follower } from './followers.js' */
/** @import { Plan } from './planner.js' */
/** @import { Layout, Point } from './layouts.js' */
import { forms, startOf } from './generate.js';
import { Tracker } from './followers.js';
import { pull } from './objectives.js';

/**
 * @typedef {object} ActionsOptions
 * @property {number} [length] tokens of a plan
 * @property {number} [candidates] futures of a plan, of which the one that is nearest to the path is executed
 * @property {number} [scale] of guidance
 * @property {number} [steps] denoising steps of a token
 * @property {number} [interval] frames from plan to plan
 * @property {number} [ahead] frames by which the plan is drawn to what comes later on the path
 */

/** @type {Required<ActionsOptions>} */
const defaults = { length: 3, candidates: 4, scale: 100, steps: 10, interval: 8, ahead: 24 };

const { fields } = forms.states;

/** Makes the plans, for one path after the other. */
export class Actions {
  /** Plans so far: the seed of the next one. */
  #plans = 0;
  /** @readonly */
  interval;
  #model;
  #layout;
  #sampler;
  #options;

  /** @param {Model} model of states; stays the caller's @param {Layout} layout @param {ActionsOptions} [options] */
  constructor(model, layout, options) {
    const found = model.fields.map(({ name }) => name).join();
    if (found !== fields.join())
      throw new TypeError(`expected a model of ${fields}; found one of ${found}`);
    this.#options = { ...defaults, ...options };
    const { interval, length, candidates: batch, steps } = this.#options;
    this.interval = interval;
    this.#model = model;
    this.#layout = layout;
    this.#sampler = model.sampler({ length, batch, steps, schedule: 'full-sequence' });
  }

  /** @param {Plan} plan of a planner @returns {Follower} */
  follow(plan) {
    return new Actor(plan, this);
  }

  /**
   * @param {Point} observation
   * @param {(frames: number) => Point} path where the ball should be in so many frames
   * @returns {Promise<Float32Array>} frames of the best candidate
   */
  async plan(observation, path) {
    const { ahead, scale } = this.#options;
    const objective = pull(observation, this.#model.frameStack, (frame) => path(frame + 1 + ahead));
    this.#sampler.restart(this.#plans++).observe(startOf(this.#layout, observation));
    const { batch, tokens } = await this.#sampler.guide({ objective, scale }).run();
    const size = tokens.length / batch;
    const count = size / fields.length;
    let best = tokens.subarray(0, size);
    let highest = -Infinity;
    for (let b = 0; b < batch; b++) {
      const frames = tokens.subarray(b * size, (b + 1) * size);
      const place = { sequence: b, sample: 0, count, fields: fields.length };
      const { value } = objective(frames, place);
      if (value > highest) [best, highest] = [frames, value];
    }
    return best.slice(); // the tokens are a view
  }

  dispose() {
    this.#sampler.dispose();
  }
}

/**
 * Executes actions along a path.
 * @implements {Follower}
 */
class Actor {
  /** @readonly */
  plan;
  /** Knows how far on the path the ball is. */
  #tracker;
  #actions;
  /** Of the plan that is executed. @type {Float32Array} */
  #frames = new Float32Array();
  #frame = 0;

  /** @param {Plan} plan @param {Actions} actions */
  constructor(plan, actions) {
    this.plan = plan;
    this.#tracker = new Tracker(plan);
    this.#actions = actions;
  }

  /** @param {Point} at */
  wants(at) {
    return this.#tracker.wants(at);
  }

  /** @param {Plan} next */
  yields(next) {
    return this.#tracker.yields(next);
  }

  rest() {
    return this.#tracker.rest();
  }

  /** @param {Point} at x, y, vx, vy */
  async act(at) {
    if (this.#frame % this.#actions.interval === 0) {
      this.#tracker.locate(at);
      this.#frames = await this.#actions.plan(Float64Array.from(at), (frames) =>
        this.#tracker.after(frames),
      );
      this.#frame = 0;
    }
    const action = this.#frame++ * fields.length + fields.indexOf('ax');
    return this.#frames.subarray(action, action + 2);
  }
}
