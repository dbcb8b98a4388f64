// Between the maze and the sheet that it is drawn on: rows go down, columns to the right, as in
// D4RL's listings. So x runs down and y to the right.

import { isWall, middle, sizes } from '../../../models/maze2d/layouts.js';

/** How much of the outer wall is drawn. */
const rim = 0.35;

/** The part of a maze that is drawn: from (x, y), so high and wide. */
export function bounds({ rows }) {
  const low = 1 + middle - sizes.halfCell - rim;
  return {
    x: low,
    y: low,
    height: rows.length - 2 + 2 * rim,
    width: rows[0].length - 2 + 2 * rim,
  };
}

/** The edges between floor and wall, as x, y, x, y. */
export function edges(layout) {
  const found = [];
  const { halfCell } = sizes;
  for (const [i, j] of layout.cells) {
    const [x, y] = [i + middle, j + middle];
    for (const [di, dj] of [
      [-1, 0],
      [1, 0],
      [0, -1],
      [0, 1],
    ]) {
      if (!isWall(layout, i + di, j + dj)) continue;
      const at = [x + di * halfCell, y + dj * halfCell];
      const along = [dj ? halfCell : 0, di ? halfCell : 0];
      found.push([at[0] - along[0], at[1] - along[1], at[0] + along[0], at[1] + along[1]]);
    }
  }
  return found;
}

/** The nearest point at which the ball can lie: within a free cell, off its walls. */
export function place(layout, [x, y]) {
  const room = sizes.halfCell - sizes.ball;
  let best = null;
  let nearest = Infinity;
  for (const [i, j] of layout.cells) {
    const clamp = (value, centre) => Math.min(centre + room, Math.max(centre - room, value));
    const point = [clamp(x, i + middle), clamp(y, j + middle)];
    const d = Math.hypot(point[0] - x, point[1] - y);
    if (d < nearest) [best, nearest] = [point, d];
  }
  return best.map((value) => Math.round(value * 100) / 100);
}

/** Row and column of a point, counted from 1 at the first free ones, for those who cannot see it. */
export const spoken = ([x, y]) =>
  `row ${Math.floor(x - middle + sizes.halfCell)}, column ${Math.floor(y - middle + sizes.halfCell)}`;
