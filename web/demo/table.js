// The level table: columns are tokens (time), rows are denoising steps, the tone of a cell is its
// level: static at pure noise, solid ink when clean. Rows ahead of the playhead show the plan,
// faintly.

import { colours, fit, rgb } from './theme.js';

// Static: the same speck at the same place in every frame.
const STATIC = Uint8Array.from({ length: 4096 }, (_, i) => {
  let h = Math.imul(i + 1, 0x9e3779b1);
  h = Math.imul(h ^ (h >>> 15), 0x85ebca6b);
  return (h ^ (h >>> 13)) & 255;
});
const PLAN = 38; // opacity, of 255, of rows that are still to come

export class Table {
  /** @param {HTMLCanvasElement} canvas */
  constructor(canvas) {
    this.canvas = canvas;
    this.ctx = canvas.getContext('2d');
    this.cells = document.createElement('canvas');
  }

  /**
   * @param {import('./run.js').Run} run
   * @param {number} position  row, need not be whole
   * @param {number} selected  token, or -1
   */
  draw(run, position, selected) {
    fit(this.canvas);
    const { ctx, canvas } = this;
    const { width, height } = canvas;
    const ratio = width / Math.max(1, canvas.clientWidth);
    const rows = run.planned + 1;
    const { columns } = run;
    this.paintCells(run, position, columns, rows, Math.max(1, Math.round(1.4 * ratio)));

    ctx.clearRect(0, 0, width, height);
    ctx.imageSmoothingEnabled = false;
    ctx.drawImage(this.cells, 0, 0, width, height);
    ctx.fillStyle = colours.paper;
    const gap = Math.max(1, Math.round((columns > 12 ? 1 : 1.5) * ratio));
    for (let t = 1; t < columns; t++)
      ctx.fillRect(Math.round((t * width) / columns - gap / 2), 0, gap, height);

    const y = ((position + 0.5) / rows) * height;
    const stroke = 2 * ratio;
    ctx.fillStyle = colours.accent;
    ctx.fillRect(0, y - stroke / 2, width, stroke);
    if (selected >= 0 && selected < columns) {
      ctx.strokeStyle = colours.accent;
      ctx.lineWidth = stroke;
      const left = (selected * width) / columns;
      ctx.strokeRect(left + stroke / 2, stroke / 2, width / columns - stroke, height - stroke);
    }
  }

  paintCells(run, position, columns, rows, grain) {
    const width = Math.ceil(this.canvas.width / grain);
    const height = Math.ceil(this.canvas.height / grain);
    if (this.cells.width !== width || this.cells.height !== height || !this.image) {
      Object.assign(this.cells, { width, height });
      this.image = this.cells.getContext('2d').createImageData(width, height);
      this.painted = null;
    }
    const now = Math.floor(position + 1e-6);
    const key = [run.last, run.planned, columns, now, colours.ink].join();
    if (key === this.key && run === this.painted) return;
    [this.key, this.painted] = [key, run];
    const { data } = this.image;
    const clean = rgb(colours.ink);
    const noise = rgb(colours.noise);
    for (let y = 0, i = 0; y < height; y++) {
      const m = Math.min(rows - 1, Math.floor((y * rows) / height));
      for (let x = 0; x < width; x++, i += 4) {
        const t = Math.floor((x * columns) / width);
        const level = run.level(m, t);
        if (level > 1) {
          data[i + 3] = 0; // behind the end
          continue;
        }
        const speck = STATIC[(x * 67 + y * 1493) & 4095] / 255 - 0.5;
        const mix = Math.min(1, Math.max(0, level + speck * level * 0.55));
        for (let c = 0; c < 3; c++) data[i + c] = clean[c] + (noise[c] - clean[c]) * mix;
        data[i + 3] = m <= now || t < run.kept ? 255 : PLAN;
      }
    }
    this.cells.getContext('2d').putImageData(this.image, 0, 0);
  }

  /** Token under a pointer event. */
  tokenAt(event, run) {
    const box = this.canvas.getBoundingClientRect();
    const t = Math.floor(((event.clientX - box.left) / box.width) * run.columns);
    return Math.max(0, Math.min(run.columns - 1, t));
  }
}
