// Plans a way to a goal with a model of paths, and follows it.
//
// A plan is a batch of futures that are denoised together from the present observation, guided to the goal; the best
// one is followed until a later plan is better. Neither the planner nor the tracker is told where walls are: what they
// know of the maze is what the model learned from the data.

/** @import { Model, Objective, Row, Sampler, SamplerOptions, Term } from '../../web/src/types.js' */
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
/** @typedef {{ at: Point, size: number }} Disc */
/** @typedef {{ sampler: Sampler, latent?: Float32Array | null }} Begun latent: of a rolling plan */

const framesPerSecond = 100;

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
    this.#form = model.fields.length === statesFields ? 'states' : 'path';
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
function walk(frames, fields, frameStack, start) {
  const points = new Float32Array((2 * frames.length) / fields);
  for (let k = 0; k < 2; k++)
    for (let t = 0, at = start[k]; t < points.length / 2; t++) {
      const i = t * fields + k;
      at += t % frameStack ? frames[i] - frames[i - fields] : frames[i + 2] / framesPerSecond;
      points[2 * t + k] = at;
    }
  return points;
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

/** @param {Point} point @returns {[number, number]} */
const pair = (point) => [point[0], point[1]];

/** @param {Term} term @returns {Disc} */
const discOf = ({ at, size }) => ({ at: /** @type {Point} */ (at), size: Number(size) });

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
function judge(points, stride, whole, start, targets, discs) {
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

const statesFields = forms.states.fields.length;

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
