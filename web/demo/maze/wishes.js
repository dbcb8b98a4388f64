// What the visitor draws, for the planner: terms that guide a plan, and a second look at its
// candidates. What is wished for exists in plans only; the ball knows nothing of it.

import { distance, sizes } from '../../../models/maze2d/layouts.js';

/** @typedef {{ discs: number[][], via: ArrayLike<number>[] }} Wishes  x, y, radius; x, y in their order */
/** @typedef {import('../../../models/maze2d/planner.js').Plan} Plan */
/** @typedef {import('../../../models/maze2d/planner.js').Path} Path */

/** So close to a way-point a path passes it. */
const close = 0.3;
/** So close to the goal it arrives: as in planner.js. */
const there = 0.3;
/** Frames for a cell that a candidate misses a way-point by, or lies inside of an obstacle: as for a leap. */
const price = 200;

/**
 * Terms for guidance.
 * @param {Wishes} wishes
 * @param {ArrayLike<number>} goal  which comes behind the way-points
 */
export function wishTerms({ discs, via }, goal) {
  const fields = { x: 'x', y: 'y' };
  const way = via.length ? [...via, goal] : [];
  return [
    ...discs.map(([x, y, radius]) => ({
      ...{ kind: 'disc', ...fields, at: [x, y] },
      ...{ size: radius + sizes.ball, softness: 0.2 },
    })),
    ...way.map((point, k) => ({
      ...{ kind: k ? 'then' : 'reach', ...fields, at: [point[0], point[1]] },
      ...{ size: 0.2, softness: 0.5 },
    })),
  ];
}

/**
 * The plan with candidates judged by the wishes, too.
 * @param {Plan} plan
 * @param {Wishes} wishes
 * @returns {Plan}
 */
export function choose(plan, wishes) {
  if (!wishes.discs.length && !wishes.via.length) return plan;
  const candidates = plan.candidates.map((path) => judge(path, plan, wishes));
  const best = candidates.reduce((a, b) => (b.cost < a.cost ? b : a));
  return { ...plan, candidates, best };
}

/** @param {Path} path @param {Plan} plan @param {Wishes} wishes @returns {Path} */
function judge(path, { goal, stride }, { discs, via }) {
  const { points } = path;
  const n = points.length / 2;
  let { arrival, cost } = path;
  let passed = 0;
  let nearest = Infinity; // to the next way-point
  let at = 0; // point that passes the last one
  for (let i = 0; i < n && passed < via.length; i++) {
    const d = distance(points.subarray(2 * i, 2 * i + 2), via[passed]);
    nearest = Math.min(nearest, d);
    if (d >= close) continue;
    passed++;
    nearest = Infinity;
    at = i;
  }
  if (passed < via.length) {
    arrival = Infinity;
    cost += price * Math.min(nearest, 10);
    for (let k = passed + 1; k < via.length; k++) cost += price * distance(via[k - 1], via[k]);
  } else if (at > arrival) {
    // It was at the goal too early. Does it come back?
    let again = at;
    while (again < n && distance(points.subarray(2 * again, 2 * again + 2), goal) >= there) again++;
    cost += stride * (again - arrival);
    arrival = again < n ? again : Infinity;
    if (again === n) cost += price * distance(points.subarray(2 * n - 2), goal);
  }
  for (let i = 0; i <= Math.min(arrival, n - 1); i++)
    for (const disc of discs)
      cost +=
        price *
        Math.max(0, disc[2] + sizes.ball - distance(points.subarray(2 * i, 2 * i + 2), disc));
  return { ...path, arrival, cost };
}
