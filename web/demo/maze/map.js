// The maze as a plan on paper: walls, goal, obstacles, the paths that are being thought of, and the
// ball with its trail.

import { isWall, middle, sizes } from '../../../models/maze2d/layouts.js';
import { colours, fit } from '../theme.js';
import { bounds, edges } from './geometry.js';

/**
 * What is drawn; what is missing is left out.
 * @typedef {object} Scene
 * @property {ArrayLike<number>} [goal]
 * @property {ArrayLike<number>} [ball]
 * @property {ArrayLike<number>} [start]  an open circle
 * @property {number[][]} [discs]  obstacles: x, y, radius
 * @property {number[][]} [via]  way-points
 * @property {number} [passed]  how many of them the ball has passed
 * @property {import('./condensation.js').Condensation | null} [condensation]
 * @property {number} [position]  its row, need not be whole
 * @property {number} [faint]  opacity of the condensation
 * @property {number} [selected]  token, or -1
 * @property {import('../../../models/maze2d/planner.js').Plan | null} [plan]  its candidates and,
 *   in colour, the one that is followed
 * @property {number[]} [trail]  x, y, at a wall
 * @property {import('./trial.js').Attempt[]} [attempts]  their trails
 * @property {number[][]} [arrow]  a push: from, to
 * @property {number[] | null} [cross]  where the keyboard points
 */

export class MapView {
  /** @param {HTMLCanvasElement} canvas */
  constructor(canvas) {
    this.canvas = canvas;
    this.ctx = canvas.getContext('2d');
  }

  /** @param {import('../../../models/maze2d/layouts.js').Layout} layout */
  show(layout) {
    this.layout = layout;
    this.bounds = bounds(layout);
    this.edges = edges(layout);
    const { width, height } = this.bounds;
    this.canvas.parentElement.style.setProperty('--aspect', String(width / height));
  }

  /** The point of the maze under a pointer event. */
  pointAt({ clientX, clientY }) {
    const box = this.canvas.getBoundingClientRect();
    const { x, y, width, height } = this.bounds;
    return [
      x + ((clientY - box.top) / box.height) * height,
      y + ((clientX - box.left) / box.width) * width,
    ];
  }

  /** Where a point is on the canvas, in parts of its width and height. */
  partOf([x, y]) {
    const { bounds } = this;
    return [(y - bounds.y) / bounds.width, (x - bounds.x) / bounds.height];
  }

  /** @param {Scene} scene */
  draw(scene) {
    fit(this.canvas);
    const { ctx, canvas, bounds } = this;
    const scale = canvas.width / bounds.width; // pixels to a cell
    this.scale = scale;
    // A pixel of the page; less in small maps, or their lines would run into each other.
    const { clientWidth } = canvas;
    this.line = (canvas.width / Math.max(1, clientWidth)) * Math.min(1, 0.4 + clientWidth / 550);
    // From here on coordinates are those of the maze: x down, y to the right.
    ctx.setTransform(0, scale, scale, 0, -bounds.y * scale, -bounds.x * scale);
    ctx.lineCap = ctx.lineJoin = 'round';
    this.#floor();
    if (scene.goal) this.#goal(scene.goal);
    for (const disc of scene.discs ?? []) this.#disc(disc);
    if (scene.plan) this.#plan(scene.plan, { from: scene.ball });
    if (scene.condensation?.last >= 0) this.#condensation(scene);
    for (const attempt of scene.attempts ?? []) this.#attempt(attempt);
    if (scene.trail?.length) this.#trail(scene.trail);
    scene.via?.forEach((point, k) => {
      this.#waypoint(point, scene.via.length > 1 ? k + 1 : 0, k < scene.passed);
    });
    if (scene.start) this.#ring(scene.start);
    if (scene.ball) this.#ball(scene.ball);
    if (scene.arrow) this.#arrow(...scene.arrow);
    if (scene.cross) this.#cross(scene.cross);
    ctx.globalAlpha = 1;
  }

  #px(n) {
    return (n * this.line) / this.scale;
  }

  #floor() {
    const { ctx, bounds, layout, edges } = this;
    ctx.globalAlpha = 1;
    ctx.fillStyle = colours.noise;
    ctx.fillRect(bounds.x, bounds.y, bounds.height, bounds.width);
    ctx.fillStyle = colours.sheet;
    layout.rows.forEach((row, i) => {
      for (let j = 0; j < row.length; j++)
        if (!isWall(layout, i, j))
          // A little over the edge, or seams would show between cells.
          ctx.fillRect(i + middle - 0.505, j + middle - 0.505, 1.01, 1.01);
    });
    ctx.strokeStyle = colours.wash;
    ctx.lineWidth = this.#px(1.5);
    ctx.beginPath();
    for (const [x, y, u, v] of edges) {
      ctx.moveTo(x, y);
      ctx.lineTo(u, v);
    }
    ctx.stroke();
  }

  #circle([x, y], radius) {
    this.ctx.beginPath();
    this.ctx.arc(x, y, radius, 0, 2 * Math.PI);
  }

  #goal(at) {
    const { ctx } = this;
    this.#circle(at, sizes.goal);
    ctx.fillStyle = ctx.strokeStyle = colours.accent;
    ctx.globalAlpha = 0.13;
    ctx.fill();
    ctx.globalAlpha = 1;
    ctx.lineWidth = this.#px(1.5);
    ctx.stroke();
    this.#circle(at, 0.07);
    ctx.fill();
  }

  #disc([x, y, radius]) {
    const { ctx } = this;
    ctx.save();
    this.#circle([x, y], radius);
    ctx.fillStyle = ctx.strokeStyle = colours.ink;
    ctx.globalAlpha = 0.08;
    ctx.fill();
    ctx.globalAlpha = 0.9;
    ctx.lineWidth = this.#px(1.5);
    ctx.setLineDash([this.#px(5), this.#px(4)]);
    ctx.stroke();
    ctx.setLineDash([]);
    ctx.clip();
    ctx.globalAlpha = 0.35;
    ctx.lineWidth = this.#px(1);
    ctx.beginPath();
    for (let d = -2 * radius; d < 2 * radius; d += this.#px(7)) {
      ctx.moveTo(x - radius, y + d - radius);
      ctx.lineTo(x + radius, y + d + radius);
    }
    ctx.stroke();
    ctx.restore();
  }

  #waypoint([x, y], number, isPassed) {
    const { ctx } = this;
    ctx.globalAlpha = isPassed ? 0.45 : 1;
    const r = Math.max(0.16, this.#px(9));
    ctx.beginPath();
    ctx.moveTo(x - r, y);
    ctx.lineTo(x, y + r);
    ctx.lineTo(x + r, y);
    ctx.lineTo(x, y - r);
    ctx.closePath();
    ctx.fillStyle = colours.sheet;
    ctx.fill();
    ctx.strokeStyle = colours.accent;
    ctx.lineWidth = this.#px(2);
    ctx.stroke();
    if (number) this.#text(String(number), [x, y], colours.accent);
    else {
      this.#circle([x, y], this.#px(2.2));
      ctx.fillStyle = colours.accent;
      ctx.fill();
    }
  }

  #text(text, [x, y], colour) {
    const { ctx, scale, bounds, line } = this;
    ctx.save();
    ctx.setTransform(1, 0, 0, 1, (y - bounds.y) * scale, (x - bounds.x) * scale);
    ctx.font = `600 ${11 * line}px system-ui, sans-serif`;
    ctx.textAlign = 'center';
    ctx.textBaseline = 'middle';
    ctx.fillStyle = colour;
    ctx.fillText(text, 0, 0.5 * line);
    ctx.restore();
  }

  /** Points `from` up to, not including, `to` of a path. */
  #path(points, from, to, start) {
    const { ctx } = this;
    ctx.beginPath();
    if (start) ctx.moveTo(start[0], start[1]);
    for (let i = from; i < to; i++) ctx.lineTo(points[2 * i], points[2 * i + 1]);
  }

  /** The candidates up to their arrival, the chosen one last and in colour: from the ball on, if it is given. */
  #plan({ candidates, best, start }, { strength = 1, from = null } = {}) {
    const { ctx } = this;
    const end = ({ points, arrival }) => Math.min(arrival + 1, points.length / 2);
    ctx.strokeStyle = colours.wash;
    ctx.lineWidth = this.#px(1.2);
    ctx.globalAlpha = (from ? 0.28 : 0.45) * strength;
    for (const path of candidates) {
      if (path === best) continue;
      this.#path(path.points, 0, end(path), start);
      ctx.stroke();
    }
    ctx.strokeStyle = colours.accent;
    ctx.lineWidth = this.#px(2.5);
    ctx.globalAlpha = strength;
    const first = from ? nearest(best.points, end(best), from) : 0;
    this.#path(best.points, first, end(best), from ? null : start);
    ctx.stroke();
  }

  #condensation({ condensation, position, faint = 1, selected = -1 }) {
    const { ctx } = this;
    const { plan, planned } = condensation;
    const now = condensation.at(position);
    const { points, perToken, batch } = now;
    // In the last row what was thought turns into the plan.
    const settled = plan ? Math.max(0, Math.min(1, position - (planned - 1))) : 0;
    if (settled) this.#plan(plan, { strength: settled });
    const rest = (1 - settled) * faint;
    if (now.hasEstimate) {
      ctx.strokeStyle = colours.accent;
      ctx.lineWidth = this.#px(1);
      ctx.globalAlpha = 0.4 * rest;
      // Tokens that wait at pure noise have no estimate yet.
      const waiting = now.levels.findIndex((level) => level >= 1);
      const end = waiting < 0 ? points : Math.min(points, waiting * perToken);
      for (let b = 0; b < batch; b++) {
        this.#path(now.estimate.subarray(2 * b * points), 0, end, plan?.start);
        ctx.stroke();
      }
    }
    ctx.fillStyle = colours.ink;
    const side = this.#px(1.9);
    const tokens = points / perToken;
    for (let k = 0; k < batch * points; k++) {
      const token = Math.floor(k / perToken) % tokens;
      const level = now.levels[Math.floor(k / perToken)];
      const chosen = token === selected;
      ctx.globalAlpha = chosen ? 1 : (0.4 + 0.35 * (1 - level)) * rest;
      const size = chosen ? 1.6 * side : side;
      ctx.fillRect(now.tokens[2 * k] - size / 2, now.tokens[2 * k + 1] - size / 2, size, size);
    }
  }

  #trail(trail) {
    const { ctx } = this;
    ctx.globalAlpha = 1;
    ctx.strokeStyle = colours.ink;
    ctx.lineWidth = this.#px(2);
    ctx.beginPath();
    for (let i = 0; i < trail.length; i += 3) ctx.lineTo(trail[i], trail[i + 1]);
    ctx.stroke();
    ctx.fillStyle = colours.accent;
    for (let i = 0; i < trail.length; i += 3) {
      if (!trail[i + 2]) continue;
      this.#circle([trail[i], trail[i + 1]], Math.max(0.06, this.#px(3)));
      ctx.fill();
    }
  }

  #attempt({ trail, goal, reached }) {
    const { ctx } = this;
    const arrived = reached < Infinity;
    ctx.strokeStyle = ctx.fillStyle = arrived ? colours.ink : colours.accent;
    ctx.globalAlpha = arrived ? 0.35 : 0.9;
    ctx.lineWidth = this.#px(1);
    ctx.beginPath();
    for (let i = 0; i < trail.length; i += 3) ctx.lineTo(trail[i], trail[i + 1]);
    ctx.stroke();
    this.#circle(goal, this.#px(2));
    ctx.fill();
  }

  #ring(at) {
    const { ctx } = this;
    ctx.globalAlpha = 0.8;
    this.#circle(at, sizes.ball);
    ctx.strokeStyle = colours.ink;
    ctx.lineWidth = this.#px(1.5);
    ctx.stroke();
  }

  #ball(at) {
    const { ctx } = this;
    ctx.globalAlpha = 1;
    this.#circle(at, Math.max(sizes.ball, this.#px(5)) + this.#px(2));
    ctx.fillStyle = colours.sheet;
    ctx.fill();
    this.#circle(at, Math.max(sizes.ball, this.#px(5)));
    ctx.fillStyle = colours.ink;
    ctx.fill();
  }

  #arrow([x, y], [u, v]) {
    const { ctx } = this;
    const length = Math.hypot(u - x, v - y);
    if (length < 0.05) return;
    const [dx, dy] = [(u - x) / length, (v - y) / length];
    const head = Math.min(0.25, length / 2);
    ctx.globalAlpha = 1;
    ctx.strokeStyle = colours.accent;
    ctx.lineWidth = this.#px(3);
    ctx.beginPath();
    ctx.moveTo(x, y);
    ctx.lineTo(u, v);
    for (const side of [-1, 1]) {
      ctx.moveTo(u, v);
      ctx.lineTo(u - head * (dx + side * dy * 0.7), v - head * (dy - side * dx * 0.7));
    }
    ctx.stroke();
  }

  #cross([x, y]) {
    const { ctx } = this;
    const r = 0.22;
    ctx.globalAlpha = 1;
    ctx.strokeStyle = colours.accent;
    ctx.lineWidth = this.#px(2);
    ctx.beginPath();
    for (const [dx, dy] of [
      [r, 0],
      [0, r],
    ]) {
      ctx.moveTo(x - dx, y - dy);
      ctx.lineTo(x + dx, y + dy);
    }
    ctx.stroke();
  }
}

/** The point of a path that is nearest to a place, of the first n. */
function nearest(points, n, [x, y]) {
  let best = 0;
  let least = Infinity;
  for (let i = 0; i < n; i++) {
    const d = Math.hypot(points[2 * i] - x, points[2 * i + 1] - y);
    if (d < least) [best, least] = [i, d];
  }
  return best;
}
