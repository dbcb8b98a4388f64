// The trial on the page: random pairs one after the other, and their ways in one drawing.

import { MapView } from './map.js';
import { attempts, summarize } from './trial.js';

const pairs = 50;

export class Luck {
  /** @type {import('./trial.js').Attempt[]} */ #tried = [];
  /** @type {AbortController | null} */ #running = null;

  /**
   * @param {HTMLElement} section  its data tell count, arrived, and ms of a plan
   * @param {{ canvas: HTMLCanvasElement, tally: HTMLElement, button: HTMLButtonElement }} elements
   */
  constructor(section, { canvas, tally, button }) {
    this.section = section;
    this.view = new MapView(canvas);
    this.tally = tally;
    this.button = button;
  }

  /** An empty maze. */
  show(layout) {
    this.#running?.abort();
    this.#tried = [];
    this.tally.textContent = '';
    this.view.show(layout);
    this.draw();
  }

  draw() {
    if (this.view.layout) this.view.draw({ attempts: this.#tried });
  }

  /**
   * Runs the pairs; if it does, stops.
   * @param {import('diffusion-forcing').Model} model
   * @param {() => Promise<import('@mujoco/mujoco').MainModule | null>} getPhysics  null: there is none
   * @param {import('./control.js').ControlOptions} control
   */
  async run(model, getPhysics, control) {
    if (this.#running) return this.#running.abort();
    const { signal } = (this.#running = new AbortController());
    const { layout } = this.view;
    const name = this.button.textContent;
    this.button.textContent = 'Stop';
    try {
      this.#tried = [];
      const mujoco = await getPhysics();
      if (!mujoco) return;
      for await (const attempt of attempts(model, layout, mujoco, { pairs, control })) {
        if (signal.aborted) break;
        this.#tried.push(attempt);
        this.#tell();
        this.draw();
      }
    } finally {
      this.#running = null;
      this.button.textContent = name;
    }
  }

  #tell() {
    const { count, arrived, steps, ms } = summarize(this.#tried);
    const after = arrived ? `, after ${(steps / 100).toFixed(2)} s on average` : '';
    this.tally.textContent = `${arrived} of ${count} arrived${after}.\nA plan took ${Math.round(ms)} ms (median).`;
    Object.assign(this.section.dataset, { count, arrived, ms });
  }
}
