// Draws plans: node models/maze2d/draw.mjs --help
import { writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { loadModel } from 'diffusion-forcing';
import { readCommand } from './command.mjs';
import { drawPoint, isWall, layouts, sizes } from './layouts.js';
import { MersenneTwister } from './mersenne-twister.js';
import { Planner } from './planner.js';

const usage = `Usage: node models/maze2d/draw.mjs [MAZE...] [OPTIONS]

Draws four plans for each maze, from the first starts and goals of a seed: candidates thin,
the chosen one thick.

Options:
  --model FILE   Default: model.safetensors beside this script.
  --out FILE     Default: plans.svg beside this script.`;

const beside = (name) => fileURLToPath(new URL(name, import.meta.url));
const { mazes, options } = readCommand(usage, {
  model: beside('model.safetensors'),
  out: beside('plans.svg'),
});
const count = 4; // plans of each maze, of the first starts and goals of seed 0
const unit = 26; // pixels of a cell
const model = await loadModel(options.model);

const parts = [];
let [top, width] = [0, 0];
for (const name of mazes.length ? mazes : Object.keys(layouts)) {
  const layout = layouts[name];
  const columns = layout.rows[0].length;
  const planner = new Planner(model, layout);
  const random = new MersenneTwister([0, columns]);
  for (let k = 0; k < count; k++) {
    const start = [...drawPoint(layout, random), 0, 0];
    const goal = drawPoint(layout, random);
    const { candidates, best } = await planner.plan(start, goal, { seed: k });
    const x = k * (columns + 0.5) * unit;
    parts.push(`<g transform="translate(${x} ${top})">${maze(layout)}`);
    for (const path of candidates) parts.push(line(path, start, path === best));
    parts.push(`${circle(goal, sizes.goal, 'goal')}${circle(start, 0.14, 'ball')}</g>`);
    width = Math.max(width, x + columns * unit);
  }
  planner.dispose();
  top += (layout.rows.length + 0.5) * unit;
}
model.dispose();

writeFileSync(
  options.out,
  `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${top}" width="${width}" height="${top}">
<style>.wall{fill:#8a8f98}.goal{fill:#d9483b44;stroke:#d9483b}.ball{fill:#2b6cb0}
polyline{fill:none;stroke:#2b6cb0;stroke-opacity:.25}.best{stroke-opacity:1;stroke-width:2}</style>
<rect width="100%" height="100%" fill="#fff"/>
${parts.join('\n')}
</svg>
`,
);

/** Rows of a layout go down, so x of the maze does. */
function place([x, y]) {
  return [(y + 0.7) * unit, (x + 0.7) * unit].map((v) => v.toFixed(1));
}

function maze(layout) {
  return layout.rows
    .flatMap((row, i) => [...row].map((_, j) => [i, j]))
    .filter(([i, j]) => isWall(layout, i, j))
    .map(
      ([i, j]) =>
        `<rect class="wall" x="${j * unit}" y="${i * unit}" width="${unit}" height="${unit}"/>`,
    )
    .join('');
}

function line({ points, arrival }, start, best) {
  const last = Math.min(arrival, points.length / 2 - 1);
  const all = [place(start)];
  for (let i = 0; i <= last; i++) all.push(place([points[2 * i], points[2 * i + 1]]));
  return `<polyline${best ? ' class="best"' : ''} points="${all.map((p) => p.join(',')).join(' ')}"/>`;
}

function circle(at, radius, kind) {
  const [x, y] = place(at);
  return `<circle class="${kind}" cx="${x}" cy="${y}" r="${radius * unit}"/>`;
}
