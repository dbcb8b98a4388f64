// The three mazes of D4RL (maze2d-umaze-v1, -medium-v1, -large-v1): walls, task, and ways through them.
//
// Coordinates. x runs along the rows of a layout and y along its columns, so a plot with x to the
// right shows it transposed. A position is that of the ball's two joints, whose zero lies 1.2 right of
// and above the origin of a world in which cell (i, j) is centred on (i + 1, j + 1). Hence the cell
// covers [i - 0.7, i + 0.3] x [j - 0.7, j + 0.3]: starts, goals and way-points are made around the
// integer point (i, j), 0.2 off the middle of the corridor.

/** @import { Random } from './mersenne-twister.js' */

/** @typedef {readonly [number, number]} Cell row and column */
/** @typedef {ArrayLike<number>} Point x, y; further numbers (velocities) may follow */

/**
 * @typedef {object} Layout
 * @property {MazeName} name
 * @property {readonly string[]} rows `#` is a wall, `O` is free, `G` is free and the goal
 * @property {readonly Cell[]} cells the free ones, row by row, but the goal's comes last (D4RL's
 *   order, in which a random number picks one)
 * @property {Cell} goal of the single-goal task: the ball is to reach this integer point
 * @property {number} steps of an episode, which never ends early
 * @property {{ sparse: readonly [number, number], dense: readonly [number, number] }} returns those
 *   that D4RL calls 0 and 100: mean returns of random actions and of its controller
 */

/** @typedef {'umaze' | 'medium' | 'large'} MazeName */

/** Half the side of a cell, the radius of the ball, the largest distance that counts as at the goal. */
export const sizes = { halfCell: 0.5, ball: 0.1, goal: 0.5 };
/** Steps of the physics, of which each is a frame of the data. */
export const framesPerSecond = 100;
/** From the integer point of a cell to its middle, on both axes. */
export const middle = -0.2;

/** @type {Readonly<Record<MazeName, Layout>>} */
export const layouts = {
  umaze: layout('umaze', 300, ['#####', '#GOO#', '###O#', '#OOO#', '#####'], {
    sparse: [23.85, 161.86],
    dense: [68.537689, 193.66285642381482],
  }),
  medium: layout(
    'medium',
    600,
    [
      '########',
      '#OO##OO#',
      '#OO#OOO#',
      '##OOO###',
      '#OO#OOO#',
      '#O#OO#O#',
      '#OOO#OG#',
      '########',
    ],
    { sparse: [13.13, 277.39], dense: [44.264742, 297.4552547777125] },
  ),
  large: layout(
    'large',
    800,
    [
      '############',
      '#OOOO#OOOOO#',
      '#O##O#O#O#O#',
      '#OOOOOO#OOO#',
      '#O####O###O#',
      '#OO#O#OOOOO#',
      '##O#O#O#O###',
      '#OO#OOO#OGO#',
      '############',
    ],
    { sparse: [6.7, 273.99], dense: [30.569041, 303.4857382709002] },
  ),
};

/**
 * @param {MazeName} name
 * @param {number} steps
 * @param {string[]} rows
 * @param {Layout['returns']} returns
 * @returns {Layout}
 */
function layout(name, steps, rows, returns) {
  /** @param {string} letter @returns {Cell[]} */
  const find = (letter) =>
    rows.flatMap((row, i) =>
      [...row].flatMap((at, j) => (at === letter ? [/** @type {Cell} */ ([i, j])] : [])),
    );
  const [goal] = find('G');
  return { name, rows, cells: [...find('O'), goal], goal, steps, returns };
}

/** @param {Layout} layout @param {number} i @param {number} j everything outside is wall */
export const isWall = ({ rows }, i, j) => (rows[i]?.[j] ?? '#') === '#';

// ---- Task --------------------------------------------------------------------------------------

/** @param {Point} a @param {Point} b */
export function distance(a, b) {
  const x = a[0] - b[0];
  const y = a[1] - b[1];
  return Math.sqrt(x * x + y * y);
}

/** The reward of a step, from the position that it led to: 1 at the goal, else 0. @param {Point} at @param {Point} goal */
export const sparseReward = (at, goal) => (distance(at, goal) <= sizes.goal ? 1 : 0);

/** D4RL's other reward. @param {Point} at @param {Point} goal */
export const denseReward = (at, goal) => Math.exp(-distance(at, goal));

/**
 * D4RL's normalised score: 0 for random actions, 100 for its reference. That is no expert: the
 * reference plans one route in a hundred episodes, so a good planner scores far above 100.
 * @param {Layout} layout
 * @param {number} episodeReturn sum or mean of the sums of an episode's rewards
 * @param {'sparse' | 'dense'} [reward]
 */
export function normalizedScore({ returns }, episodeReturn, reward = 'sparse') {
  const [low, high] = returns[reward];
  return (100 * (episodeReturn - low)) / (high - low);
}

/** A point near a free cell's integer point, as D4RL draws starts and goals. @param {Layout} layout @param {Random} random @returns {[number, number]} */
export function drawPoint({ cells }, random) {
  const [i, j] = cells[random.integer(cells.length)];
  const draw = () => -0.1 + 0.2 * random.uniform(); // the order of additions shows in the last bit
  return [i + draw(), j + draw()];
}

// ---- Routes ------------------------------------------------------------------------------------

/** The cell whose integer point is nearest: what D4RL's controller takes for the ball's. It may be a wall. @param {Point} at @returns {Cell} */
export const roundToCell = (at) => [roundHalfToEven(at[0]), roundHalfToEven(at[1])];

/** The cell that a point lies in. @param {Point} at @returns {Cell} */
export const cellAt = (at) => [
  Math.floor(at[0] - middle + sizes.halfCell),
  Math.floor(at[1] - middle + sizes.halfCell),
];

/** As NumPy rounds. @param {number} x */
function roundHalfToEven(x) {
  const up = Math.round(x);
  return up - x === 0.5 && up % 2 ? up - 1 : up;
}

/** D4RL's order of moves, in which the first of equally good ones is taken. @type {Cell[]} */
const moves = [
  [0, -1],
  [0, 1],
  [-1, 0],
  [1, 0],
];

/**
 * Steps to the goal from every cell, as a row-major table; Infinity where there is no way. A wall is
 * never entered; `route` may start in one.
 * @param {Layout} layout
 * @param {Cell} goal
 */
export function stepsToGoal(layout, goal) {
  const columns = layout.rows[0].length;
  const steps = new Float64Array(layout.rows.length * columns).fill(Infinity);
  if (isWall(layout, ...goal)) return steps;
  steps[goal[0] * columns + goal[1]] = 0;
  /** @type {Cell[]} */
  const queue = [goal];
  for (const [i, j] of queue)
    for (const [di, dj] of moves) {
      const at = (i + di) * columns + j + dj;
      if (isWall(layout, i + di, j + dj) || steps[at] < Infinity) continue;
      steps[at] = steps[i * columns + j] + 1;
      queue.push([i + di, j + dj]);
    }
  return steps;
}

/**
 * A shortest way from cell to cell, start excluded, goal included: the one that D4RL's value
 * iteration finds. If they are the same, it is just the goal. Null if there is no way.
 * @param {Layout} layout
 * @param {Cell} start may be a wall, which the ball's rounded position can be
 * @param {Cell} goal
 * @returns {Cell[] | null}
 */
export function route(layout, start, goal) {
  const columns = layout.rows[0].length;
  const steps = stepsToGoal(layout, goal);
  if (start[0] === goal[0] && start[1] === goal[1]) return steps.includes(0) ? [goal] : null;
  const path = [];
  let left = Infinity;
  for (let [i, j] = start; left > 0; path.push(/** @type {Cell} */ ([i, j]))) {
    const ways = moves
      .map(([di, dj]) => /** @type {Cell} */ ([i + di, j + dj]))
      .filter(([i, j]) => !isWall(layout, i, j));
    const best = Math.min(...ways.map(([i, j]) => steps[i * columns + j]));
    if (best === Infinity) return null;
    [i, j] = /** @type {Cell} */ (ways.find(([i, j]) => steps[i * columns + j] === best));
    left = best;
  }
  return path;
}
