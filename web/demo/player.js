// The playhead over one or more runs. It moves in parts of the way, 0 to 1, so that runs of
// different length start and end together; it waits for rows that are not yet there.

export class Player {
  /** @type {import('./run.js').Run[]} */ runs = [];
  playing = false;
  position = 0;

  /**
   * changed: plays or not; seconds: what a run takes at least and at most
   * @param {{draw: () => void, changed: () => void, seconds?: [number, number]}} options
   */
  constructor({ draw, changed, seconds = [5, 12] }) {
    this.draw = draw;
    this.changed = changed;
    this.limits = seconds;
    requestAnimationFrame(this.#tick);
  }

  load(runs, { position = 0, playing = true } = {}) {
    this.runs = runs;
    this.position = position;
    this.#planned = 0;
    this.set(playing);
  }

  /** Rows of the longest plan; the seconds that a run takes follow from it. */
  get rows() {
    return Math.max(1, ...this.runs.map((run) => run.planned));
  }
  get #seconds() {
    const [least, most] = this.limits;
    return Math.min(most, Math.max(least, this.rows * 0.06));
  }
  /** How far the recorded rows reach. */
  get reach() {
    return Math.min(1, ...this.runs.map((run) => (run.done ? 1 : run.last / run.planned)));
  }
  get ended() {
    return this.position >= 1 && this.runs.every((run) => run.done || run.error);
  }
  rowOf(run) {
    return Math.min(run.last, this.position * run.planned);
  }

  set(playing) {
    this.playing = playing;
    this.dirty = true;
    this.changed();
  }
  toggle() {
    if (!this.playing && this.ended) this.position = 0;
    this.set(!this.playing);
  }
  /** To a part of the way, as far as it is recorded; stops there. */
  seek(position) {
    this.#hold();
    this.position = Math.max(0, Math.min(position, this.reach));
    this.set(false);
  }
  /** To a row of the first run. */
  seekRow(row) {
    this.#hold();
    this.seek(row / this.runs[0].planned);
  }
  /** By whole rows of the shortest run. */
  step(count) {
    this.#hold();
    const rows = Math.min(...this.runs.map((run) => run.planned));
    const row = this.position * rows;
    this.seek(((count > 0 ? Math.floor(row + 1e-6) : Math.ceil(row - 1e-6)) + count) / rows);
  }

  #last = 0;
  #drawn = 0;
  #tick = (now) => {
    requestAnimationFrame(this.#tick);
    const passed = Math.min(0.1, (now - this.#last) / 1000);
    this.#last = now;
    if (!this.runs.some((run) => run.last >= 0)) return;
    this.#hold();
    if (this.playing) {
      this.position = Math.min(
        this.position + passed / this.#seconds,
        Math.max(this.position, this.reach),
      );
      this.dirty = true;
      if (this.ended) this.set(false);
    }
    // While rows come in, the thread has better things to do than to draw every frame.
    const filling = this.runs.some((run) => !run.done && !run.error);
    if (!this.dirty || (filling && now - this.#drawn < 80)) return;
    this.#drawn = now;
    this.dirty = false;
    this.draw();
  };

  // A drawn length can shorten a table while it is played: stay in the same row.
  #planned = 0;
  #hold() {
    if (this.runs.length !== 1 || this.rows === this.#planned) return;
    if (this.#planned) this.position = Math.min(1, (this.position * this.#planned) / this.rows);
    this.#planned = this.rows;
    this.dirty = true;
  }
}
