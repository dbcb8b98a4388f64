// What plans are drawn by, and how they are compared.

/** @import { Objective, Term } from '../../web/src/types.js' */
/** @import { Point } from './layouts.js' */
import { distance, framesPerSecond, sizes } from './layouts.js';

/** @typedef {{ at: Point, size: number }} Disc */

/** What draws a plan to a point. @param {Point} goal @returns {Term[]} */
export function goalTerms(goal) {
  const place = { x: 'x', y: 'y', at: pair(goal) };
  return [
    { kind: 'reach', ...place, size: 0.2, softness: 0.5 },
    { kind: 'at', ...place, size: 0.5, weight: 0.5 },
  ];
}

/** A pull eases off within this distance. */
const eased = 0.1;

/**
 * What draws a plan of states to where the ball should be, harder than terms can: minus the mean distance of where the
 * plan's own steps lead from the observation. A token begins where the model believes to be, 0.1 off. A strong pull at
 * positions moves whole tokens and leaves their actions as they are.
 * @param {Point} start
 * @param {number} frameStack
 * @param {(frame: number) => Point} target
 * @returns {Objective}
 */
export const pull =
  (start, frameStack, target) =>
  (frames, { count, fields }) => {
    const gradient = new Float32Array(frames.length);
    const slopes = new Float64Array(2 * count);
    const points = walk(frames, fields, frameStack, start);
    let value = 0;
    for (let t = 0; t < count; t++) {
      const at = points.subarray(2 * t, 2 * t + 2);
      const to = target(t);
      const d = distance(at, to);
      value -= (d < eased ? d ** 2 / (2 * eased) : d - eased / 2) / count;
      for (let k = 0; k < 2; k++)
        slopes[2 * t + k] = (to[k] - at[k]) / (Math.max(d, eased) * count);
    }
    // A step moves all points behind it.
    for (let k = 0; k < 2; k++)
      for (let t = count - 1, sum = 0; t >= 0; t--) {
        sum += slopes[2 * t + k];
        const i = t * fields + k;
        if (t % frameStack) {
          gradient[i] += sum;
          gradient[i - fields] -= sum;
        } else gradient[i + 2] += sum / framesPerSecond;
      }
    return { value, gradient };
  };

/**
 * Where the steps of a plan of states lead: within a token from position to position, into the next one with its
 * velocity.
 * @param {Float32Array} frames x, y, vx, vy, ..
 * @param {number} fields
 * @param {number} frameStack
 * @param {Point} start
 * @returns {Float32Array} x, y of every frame
 */
export function walk(frames, fields, frameStack, start) {
  const points = new Float32Array((2 * frames.length) / fields);
  for (let k = 0; k < 2; k++)
    for (let t = 0, at = start[k]; t < points.length / 2; t++) {
      const i = t * fields + k;
      at += t % frameStack ? frames[i] - frames[i - fields] : frames[i + 2] / framesPerSecond;
      points[2 * t + k] = at;
    }
  return points;
}

/** @param {Point} point @returns {[number, number]} */
const pair = (point) => [point[0], point[1]];

/** How close to the goal a path has to come to be there: well inside of what is rewarded. */
const close = 0.3;
/** The longest way that the ball can make in a frame, and the largest change of it, with some tolerance. */
const fastest = 0.055;
const hardest = 0.0035;

/**
 * @param {Float32Array} points
 * @param {number} stride
 * @param {boolean} whole states are executed to their end, a path is followed until it arrives
 * @param {Point} start
 * @param {Point[]} targets to be passed in this order; the last one is the goal
 * @param {Disc[]} discs
 */
export function judge(points, stride, whole, start, targets, discs) {
  const n = points.length / 2;
  const goal = targets[targets.length - 1];
  let passed = 0;
  let nearest = Infinity; // to the next target
  let arrival = Infinity;
  let away = 0;
  let wrong = 0; // leaps and jerks that no ball can make, and depths in discs
  let last = start;
  let before = start;
  for (let i = 0; i < n; i++) {
    const at = points.subarray(2 * i, 2 * i + 2);
    const counts = whole || arrival === Infinity;
    if (counts && (!whole || distance(at, goal) > sizes.goal)) away += stride;
    if (counts) {
      wrong += Math.max(0, distance(at, last) - fastest * stride);
      const bend = Math.hypot(at[0] - 2 * last[0] + before[0], at[1] - 2 * last[1] + before[1]);
      if (i > 1) wrong += Math.max(0, bend - hardest * stride * stride);
      for (const disc of discs) wrong += Math.max(0, disc.size - distance(at, disc.at));
    }
    if (arrival === Infinity) {
      const d = distance(at, targets[passed]);
      nearest = Math.min(nearest, d);
      if (d < close) {
        nearest = Infinity;
        if (++passed === targets.length) arrival = i;
      }
    }
    before = last;
    last = at;
  }
  let missing = 0; // the way through the targets that are left
  if (arrival === Infinity) {
    missing = Math.min(nearest, distance(last, targets[passed]));
    for (let k = passed + 1; k < targets.length; k++)
      missing += distance(targets[k - 1], targets[k]);
  }
  return { arrival, cost: away + 200 * (missing + wrong) };
}
