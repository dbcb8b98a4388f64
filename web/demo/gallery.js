// Many characters sampled as one batch.

import { SHEET, mist, paint, trace } from './ink.js';
import { colours, fit } from './theme.js';

const COUNT = 24;

export class Gallery {
  /** @param {{grid: HTMLElement, onChoose: (seed: number, sequence: number) => void}} options */
  constructor({ grid, onChoose }) {
    this.cells = Array.from({ length: COUNT }, (_, b) => {
      const button = document.createElement('button');
      button.type = 'button';
      button.disabled = true;
      button.setAttribute('aria-label', `Show character ${b + 1} above`);
      const canvas = document.createElement('canvas');
      button.append(canvas);
      button.addEventListener('click', () => onChoose(this.seed, b));
      return { button, canvas };
    });
    grid.append(...this.cells.map((cell) => cell.button));
  }

  /**
   * Samples a sheet. Resolves when it is done; ends quietly when a newer call takes over.
   */
  async sample(model, settings) {
    this.controller?.abort();
    const { signal } = (this.controller = new AbortController());
    const { seed, schedule, steps, uncertainty, eta } = settings;
    this.seed = seed;
    this.mark(-1);
    const sampler = model.sampler({ seed, schedule, steps, uncertainty, eta, batch: COUNT });
    try {
      for await (const row of sampler.iterate({ signal })) {
        this.take(row);
        if (row.done || this.#mayDraw()) this.draw();
      }
      for (const { button } of this.cells) button.disabled = false;
    } catch (error) {
      if (!signal.aborted) throw error;
    } finally {
      sampler.dispose();
    }
  }

  // Rows may come faster than they can be drawn, and what drawing costs shows only in the frame
  // after it: let it take a fourth of the time.
  #next = 0;
  #mayDraw() {
    const start = performance.now();
    if (start < this.#next) return false;
    this.#next = Infinity;
    requestAnimationFrame(() =>
      requestAnimationFrame((now) => (this.#next = now + 3 * (now - start))),
    );
    return true;
  }

  take(row) {
    const { columns: T, frameStack: F, fields: C, steps } = row;
    this.moments = this.cells.map((_, b) => ({
      run: { F, C },
      levels: Float32Array.from(row.levels.subarray(b * T, (b + 1) * T), (v) => v / steps),
      frames: row.frames.slice(b * T, (b + 1) * T),
      tokens: row.tokens.slice(b * T * F * C, (b + 1) * T * F * C),
    }));
  }

  draw() {
    if (!this.moments) return;
    this.cells.forEach(({ canvas }, b) => {
      fit(canvas);
      const ctx = canvas.getContext('2d');
      ctx.setTransform(1, 0, 0, 1, 0, 0);
      ctx.clearRect(0, 0, canvas.width, canvas.height);
      const moment = this.moments[b];
      const strokes = trace(moment, moment.tokens);
      const unit = canvas.width / SHEET;
      ctx.setTransform(unit, 0, 0, unit, 0, 0);
      const look = (t) => ({ noise: moment.levels[t], colour: colours.ink });
      ctx.lineCap = ctx.lineJoin = 'round';
      for (const stroke of strokes) mist(ctx, stroke, look);
      for (const stroke of strokes) paint(ctx, stroke, look, (1.2 * SHEET) / canvas.width);
    });
  }

  /** Marks the character that the stage shows. */
  mark(sequence) {
    this.cells.forEach(({ button }, b) =>
      button.setAttribute('aria-current', String(b === sequence)),
    );
  }
}
