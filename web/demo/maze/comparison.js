// The same task planned in several ways from the same noise, side by side.

import { distance } from '../../../models/maze2d/layouts.js';
import { Planner } from '../../../models/maze2d/planner.js';
import { Condensation } from './condensation.js';
import { defaults, obstacle } from './control.js';
import { MapView } from './map.js';

const variants = [
  { name: 'Not guided', options: { scale: 0 } },
  { name: '1 future', options: { futures: 1 } },
  { name: '16 futures', options: { futures: 16 } },
];

export class Comparison {
  /** @param {HTMLElement} container @param {HTMLTemplateElement} template */
  constructor(container, template) {
    this.figures = variants.map(({ name, options }) => {
      const content = template.content.cloneNode(true);
      const figure = content.firstElementChild;
      figure.querySelector('strong').textContent = name;
      figure.querySelector('canvas').setAttribute('aria-label', name);
      container.append(content);
      const view = new MapView(figure.querySelector('canvas'));
      return { view, options, caption: figure.querySelector('span'), scene: {} };
    });
  }

  /** An empty maze. */
  show(layout) {
    this.layout = layout;
    this.current = null;
    for (const figure of this.figures) {
      figure.view.show(layout);
      figure.scene = {};
      figure.caption.textContent = '';
    }
    this.draw();
  }

  draw() {
    if (this.layout) for (const { view, scene } of this.figures) view.draw(scene);
  }

  /**
   * @param {import('diffusion-forcing').Model} model
   * @param {import('./control.js').ControlOptions} settings
   * @param {{ start: number[], goal: number[], via: number[][], discs: number[][] }} task
   */
  async run(model, settings, { start, goal, via, discs }) {
    this.show(this.layout);
    const current = (this.current = {}); // another maze makes this one idle
    for (const { view, options, caption, scene } of this.figures) {
      const all = { ...settings, scale: settings.scale || defaults.scale, ...options };
      if (all.schedule === 'rolling') all.schedule = 'pyramid'; // whole plans compare
      const { length } = defaults;
      const condensation = new Condensation({ ...all, length });
      Object.assign(scene, { goal, via, discs, ball: start, condensation, position: Infinity });
      const planner = new Planner(model, this.layout, {
        ...pick(all),
        terms: discs.map(obstacle),
      });
      const began = performance.now();
      try {
        const onRow = (row) => {
          condensation.add(row);
          if (this.current === current) view.draw(scene);
        };
        const observation = [...start, 0, 0];
        const plan = await planner.plan(observation, goal, { via, seed: settings.seed, onRow });
        condensation.finish(plan);
        if (this.current !== current) return;
        view.draw(scene);
        const ms = Math.round(performance.now() - began);
        caption.textContent = `${summaryOf(plan)}\n${ms} ms`;
      } finally {
        planner.dispose();
      }
    }
  }
}

/** How many candidates arrive, and how close they come, which says more where few do. */
function summaryOf({ candidates, goal }) {
  const arriving = candidates.filter(({ arrival }) => arrival < Infinity).length;
  const gaps = candidates.map(({ points }) => {
    let least = Infinity;
    for (let i = 0; i < points.length; i += 2)
      least = Math.min(least, distance(points.subarray(i, i + 2), goal));
    return least;
  });
  const mean = gaps.reduce((sum, gap) => sum + gap, 0) / gaps.length;
  return `${arriving} of ${candidates.length} arrive\n${mean.toFixed(1)} short on average`;
}

/** What the planner knows of the options. */
function pick({ candidates, futures, scale, schedule, steps, uncertainty }) {
  return { candidates, futures, scale, schedule, steps, uncertainty };
}
