// Many characters sampled as one batch.

import { SHEET, bounds, mist, paint, trace } from './ink.js';
import { colours, fit } from './theme.js';

const COUNT = 32;

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

  /** Samples a sheet. Resolves when it is done; ends quietly when a newer call or `dispose` takes over. */
  async sample(model, settings) {
    this.controller?.abort();
    const { signal } = (this.controller = new AbortController());
    const { seed, schedule, steps, uncertainty, eta } = settings;
    this.seed = seed;
    this.mark(-1);
    const sampler = model.sampler({ seed, schedule, steps, uncertainty, eta, batch: COUNT });
    try {
      let last = 0;
      for await (const row of sampler.iterate({ signal })) {
        // Rows may come faster than the screen is drawn.
        if (performance.now() - last < 30 && !row.done) continue;
        last = performance.now();
        this.show(row);
      }
      for (const { button } of this.cells) button.disabled = false;
    } catch (error) {
      if (!signal.aborted) throw error;
    } finally {
      sampler.dispose();
    }
  }

  show(row) {
    const { columns: T, frameStack: F, fields: C, steps } = row;
    this.moments = this.cells.map((_, b) => ({
      run: { F, C },
      levels: Float32Array.from(row.levels.subarray(b * T, (b + 1) * T), (v) => v / steps),
      frames: row.frames.slice(b * T, (b + 1) * T),
      tokens: row.tokens.slice(b * T * F * C, (b + 1) * T * F * C),
      estimate: row.estimate.slice(b * T * F * C, (b + 1) * T * F * C),
    }));
    this.draw();
  }

  draw() {
    if (!this.moments) return;
    this.cells.forEach(({ canvas }, b) => {
      fit(canvas);
      const ctx = canvas.getContext('2d');
      ctx.setTransform(1, 0, 0, 1, 0, 0);
      ctx.clearRect(0, 0, canvas.width, canvas.height);
      const moment = this.moments[b];
      const strokes = trace(moment, moment.tokens, moment.estimate);
      const sure = strokes.map(({ points }) => ({
        points: points.filter((p) => moment.levels[p.token] < 0.5),
      }));
      const box = bounds(sure) ?? { left: 0, right: 62, top: 0, bottom: 68 };
      const size = Math.max(80, box.right - box.left, box.bottom - box.top);
      const unit = (0.8 * canvas.width) / size;
      const middle = (low, high) => canvas.width / 2 - (unit * (low + high)) / 2;
      ctx.setTransform(unit, 0, 0, unit, middle(box.left, box.right), middle(box.top, box.bottom));
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
