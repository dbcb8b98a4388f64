// The level table: columns are tokens (time), rows are denoising steps, the tone of a cell is its
// level: static at pure noise, solid ink when clean. Rows ahead of the playhead show the plan,
// faintly.
/** @import { Colours } from './colours.js' */
/** @import { Run } from './run.js' */
import { clear } from './canvas.js';
import { rgb } from './colours.js';

/** Static: the same speck at the same place in every frame. */
const STATIC = Uint8Array.from({ length: 4096 }, (_, i) => {
  let h = Math.imul(i + 1, 0x9e3779b1);
  h = Math.imul(h ^ (h >>> 15), 0x85ebca6b);
  return (h ^ (h >>> 13)) & 255;
});
/** Room above for the numbers of the tokens. */
const HEAD = 18;
const PLAN = 40; // opacity, of 255, of rows that are still to come

export class LevelTable {
  #cells = document.createElement('canvas');
  #key = '';
  /** @type {Run | null} */
  #run = null;

  /** @param {HTMLCanvasElement} canvas */
  constructor(canvas) {
    this.canvas = canvas;
  }

  /**
   * @param {Run} run
   * @param {number} position  in rows, need not be whole
   * @param {number} selected  token, or -1
   * @param {Colours} colours
   */
  draw(run, position, selected, colours) {
    const { context, width, height: whole, ratio } = clear(this.canvas);
    const { columns, planned } = run;
    const height = whole - HEAD;
    this.#number(context, width / columns, columns, selected, colours);
    context.translate(0, HEAD);
    this.#paint(run, Math.floor(position + 1e-6), colours, Math.max(1, Math.round(1.4 * ratio)));
    context.imageSmoothingEnabled = false;
    context.drawImage(this.#cells, 0, 0, width, height);

    const cell = width / columns;
    const gap = cell > 12 ? 1.5 : cell > 4 ? 1 : 0;
    for (let t = 1; t < columns && gap; t++) context.clearRect(t * cell - gap / 2, 0, gap, height);

    const y = ((position + 0.5) / (planned + 1)) * height;
    context.fillStyle = colours.accent;
    context.fillRect(0, Math.min(height - 2, Math.max(0, y - 1)), width, 2);
    if (selected >= 0 && selected < columns) {
      context.lineJoin = 'miter';
      context.strokeStyle = colours.accent;
      context.lineWidth = 2;
      context.strokeRect(selected * cell + 1, 1, Math.max(1, cell - 2), height - 2);
    }
  }

  /**
   * Numbers above the columns, as many as there is room for.
   * @param {CanvasRenderingContext2D} context
   * @param {number} cell  width of a column
   * @param {number} columns
   * @param {number} selected
   * @param {Colours} colours
   */
  #number(context, cell, columns, selected, colours) {
    const every = [1, 2, 5, 10, 20, 50, 100, 500].find((n) => n * cell > 24) ?? 1000;
    context.textAlign = 'center';
    context.textBaseline = 'middle';
    for (let t = 0; t < columns; t++) {
      const isRound = every < 5 ? t % every === 0 : (t + 1) % every === 0 || t === 0;
      // The chosen one is always named; those beside it make room.
      const hidden = selected >= 0 && t !== selected && Math.abs(t - selected) * cell < 24;
      if (t !== selected && (!isRound || hidden)) continue;
      context.fillStyle = t === selected ? colours.accent : colours.soft;
      context.fillText(String(t + 1), (t + 0.5) * cell, HEAD / 2);
    }
  }

  /**
   * The cells, at a pixel for each speck, only when they have changed.
   * @param {Run} run
   * @param {number} now  row
   * @param {Colours} colours
   * @param {number} grain  of the static, in pixels of the screen
   */
  #paint(run, now, colours, grain) {
    const { clientHeight } = this.canvas;
    const width = Math.ceil(this.canvas.width / grain);
    const part = Math.max(0.1, 1 - HEAD / clientHeight);
    const height = Math.ceil((this.canvas.height * part) / grain);
    const { columns, planned, last } = run;
    const key = [width, height, columns, planned, last, now, colours.ink, colours.noise].join();
    if (key === this.#key && run === this.#run) return;
    [this.#key, this.#run] = [key, run];
    Object.assign(this.#cells, { width, height });
    const context = /** @type {CanvasRenderingContext2D} */ (this.#cells.getContext('2d'));
    const image = context.createImageData(width, height);
    const { data } = image;
    const [clean, noise] = [rgb(colours.ink), rgb(colours.noise)];
    const levels = new Float32Array(columns);
    let of = -1;
    for (let y = 0, i = 0; y < height; y++) {
      const m = Math.min(planned, Math.floor((y * (planned + 1)) / height));
      if (m !== of) {
        of = m;
        for (let t = 0; t < columns; t++) levels[t] = run.level(m, t);
      }
      for (let x = 0; x < width; x++, i += 4) {
        const t = Math.floor((x * columns) / width);
        const level = levels[t];
        if (level > 1) continue; // behind the end: transparent
        const speck = STATIC[(x * 67 + y * 1493) & 4095] / 255 - 0.5;
        const part = Math.min(1, Math.max(0, level + speck * level * 0.55));
        for (let c = 0; c < 3; c++) data[i + c] = clean[c] + (noise[c] - clean[c]) * part;
        data[i + 3] = m <= now || run.known[t] ? 255 : PLAN;
      }
    }
    context.putImageData(image, 0, 0);
  }

  /**
   * What lies under a pointer event: a token, and a row.
   * @param {PointerEvent} event
   * @param {Run} run
   */
  locate(event, { columns, planned }) {
    const box = this.canvas.getBoundingClientRect();
    const part = (/** @type {number} */ at, /** @type {number} */ n) =>
      Math.max(0, Math.min(n - 1, Math.floor(at * n)));
    return {
      token: part((event.clientX - box.left) / box.width, columns),
      row: part((event.clientY - box.top - HEAD) / (box.height - HEAD), planned + 1),
    };
  }
}
