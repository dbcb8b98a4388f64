// A viewer for any model of vectors: <forcing-viewer model="./model/"></forcing-viewer>
//
// It loads the model, chooses a picture by the config's token fields, and plays the walk down the
// level table: the noisy tokens, the network's estimate of the clean ones, and the noise level of
// every token. No framework, no dependency, no header.
/** @import { Model } from './model.js' */
/** @import { Row } from './types.js' */
/** @import { Given } from './viewer/run.js' */
/** @import { Settings } from './viewer/settings.js' */
/* global DF_VIEWER_CSS */
import { DfError, features, loadModel } from './index.js';
import { make, setText } from './viewer/canvas.js';
import { Palette } from './viewer/colours.js';
import { FilmPicture } from './viewer/film.js';
import { ViewError, chooseView } from './viewer/kind.js';
import { LevelTable } from './viewer/levels.js';
import { LinesPicture } from './viewer/lines.js';
import { NumbersPicture } from './viewer/numbers.js';
import { PlanarPicture } from './viewer/planar.js';
import { Run } from './viewer/run.js';
import { write } from './viewer/scale.js';
import {
  SettingError,
  addressOf,
  keptFrames,
  linked,
  modelUrl,
  parameter,
} from './viewer/settings.js';
import { readJson, readSeed, readSettings, schedules } from './viewer/settings.js';

/** Attributes with which the run begins anew. */
const attributes = /** @type {const} */ ([
  'seed',
  'schedule',
  'steps',
  'uncertainty',
  'length',
  'batch',
  'eta',
  'stabilization',
  'weights',
  'observe',
  'condition',
  'keep',
  'view',
]);
/** Those of them that a sampler takes as they are. */
const numbers = /** @type {const} */ (['batch', 'eta', 'stabilization']);

const names = {
  autoregressive: 'Autoregressive',
  pyramid: 'Pyramid',
  trapezoid: 'Trapezoid',
  'full-sequence': 'Full sequence',
};

const icons = {
  restart: '<path d="M15 4v12L7 10zM5 4h1.8v12H5z"/>',
  play: '<path class="if-paused" d="M6 3.5v13L16.5 10z"/><path class="if-playing" d="M5.5 4h3v12h-3zm6 0h3v12h-3z"/>',
  step: '<path d="M5 4v12l8-6zm8.2 0H15v12h-1.8z"/>',
  dice: '<rect x="3" y="3" width="14" height="14" rx="2.5"/><circle cx="7" cy="7" r="1.3"/><circle cx="13" cy="7" r="1.3"/><circle cx="10" cy="10" r="1.3"/><circle cx="7" cy="13" r="1.3"/><circle cx="13" cy="13" r="1.3"/>',
};
const icon = (/** @type {keyof typeof icons} */ name) =>
  `<svg viewBox="0 0 20 20" aria-hidden="true">${icons[name]}</svg>`;

const template = `
  <div class="probe" aria-hidden="true"></div>
  <div class="message" role="status"></div>
  <div class="viewer" hidden>
    <div class="stage">
      <div class="picture"></div>
      <div class="levels">
        <div class="axis-x" aria-hidden="true">tokens, in time →</div>
        <div class="axis-y" aria-hidden="true">denoising →</div>
        <div class="table"><canvas tabindex="0" role="slider" aria-label="Token"></canvas></div>
        <div class="scale" aria-hidden="true">noise <i></i> clean</div>
      </div>
      <div class="facts"><ul class="keys"></ul><p class="token"></p></div>
    </div>
    <div class="transport" role="group" aria-label="Playback">
      <button type="button" class="restart" aria-label="Back to the start" title="Back to the start (R)">${icon('restart')}</button>
      <button type="button" class="round play" aria-label="Play" title="Play or pause (space)">${icon('play')}</button>
      <button type="button" class="step" aria-label="One row on" title="One row on (→)">${icon('step')}</button>
      <input type="range" class="scrub" min="0" max="1" value="0" step="1" aria-label="Row of the level table" />
      <output class="where"></output>
    </div>
    <form class="controls" aria-label="Sampling">
      <fieldset><legend class="unseen">Schedule</legend><div class="segments">${schedules
        .map(
          (name) =>
            `<label><input type="radio" name="schedule" value="${name}" /><span>${names[name]}</span></label>`,
        )
        .join('')}</div></fieldset>
      <label class="field" title="Rows by which a token starts after the one before it">Uncertainty
        <input type="number" name="uncertainty" min="0" step="any" inputmode="decimal" /></label>
      <label class="field" title="Denoising steps of a token">Steps
        <input type="number" name="steps" min="1" step="1" inputmode="numeric" /></label>
      <label class="field">Seed
        <span class="joined"><input type="text" name="seed" inputmode="numeric" pattern="[0-9]{1,20}" autocomplete="off" /><button type="button" class="dice" aria-label="Another seed" title="Another seed (N)">${icon('dice')}</button></span></label>
    </form>
    <p class="note"></p>
    <p class="unseen" role="status"></p>
  </div>`;

const calm = globalThis.matchMedia?.('(prefers-reduced-motion: reduce)');

/** Where there are no pages (Node), the module can be imported all the same. */
const Base = globalThis.HTMLElement ?? /** @type {typeof HTMLElement} */ (class {});

/** @typedef {PlanarPicture | LinesPicture | FilmPicture | NumbersPicture} Picture */

/**
 * Attributes: `model`, the address of a folder with a model.safetensors, or of such a file; all in
 * `attributes` above; `seconds`, how long a run plays; `paused`: does not play by itself.
 *
 * Events: `load`, the model is there; `end`, the playhead has come to the end; `error`, with the
 * error as `detail`. Custom properties: --forcing-accent, --forcing-font.
 */
export class ForcingViewer extends Base {
  static observedAttributes = ['model', ...attributes];

  /** The model, once it is there. @type {Model | null} */
  model = null;

  #root = this.attachShadow({ mode: 'open' });
  /** @type {Palette | null} */
  #palette = null;
  /** @type {Picture | null} */
  #picture = null;
  /** @type {LevelTable | null} */
  #table = null;
  /** @type {Run | null} */
  #run = null;
  /** @type {Settings | null} */
  #settings = null;
  /** Of the loading, and of the run. */
  #loading = new AbortController();
  #running = new AbortController();
  #position = 0;
  #playing = false;
  #ended = false;
  #seen = false;
  #selected = -1;
  #pinned = -1;
  #frame = 0;
  #time = 0;
  #note = '';
  #begun = 0;
  /** @type {ResizeObserver | undefined} */
  #sizes;
  /** @type {IntersectionObserver | undefined} */
  #sight;

  connectedCallback() {
    if (!this.#root.firstChild) {
      const sheet = new CSSStyleSheet();
      sheet.replaceSync(DF_VIEWER_CSS);
      this.#root.adoptedStyleSheets = [sheet];
      this.#root.innerHTML = template;
      this.#table = new LevelTable(/** @type {any} */ (this.#find('.table canvas')));
      this.#palette = new Palette(this.#find('.probe'), () => this.#draw());
      this.#listen();
    }
    this.#sizes ??= new ResizeObserver(() => this.#draw());
    this.#sizes.observe(this);
    // A run is worth nothing while nobody sees it.
    this.#sight ??= new IntersectionObserver((entries) => {
      if (!entries.some((entry) => entry.isIntersecting)) return;
      this.#seen = true;
      this.#sight?.disconnect();
      this.#autoplay();
    });
    this.#sight.observe(this);
    this.#load();
  }

  disconnectedCallback() {
    this.#sizes?.disconnect();
    this.#sight?.disconnect();
    this.#unload();
  }

  /**
   * @param {string} name
   * @param {string | null} before
   * @param {string | null} value
   */
  attributeChangedCallback(name, before, value) {
    if (before === value || !this.isConnected || !this.#root.firstChild) return;
    if (name === 'model') this.#load();
    else if (this.model) {
      // Newer than what the address says.
      if (/** @type {readonly string[]} */ (linked).includes(name)) {
        const url = new URL(location.href);
        url.searchParams.delete(parameter(this.id, name));
        setAddress(url.href);
      }
      this.#settings = null;
      this.#begin();
    }
  }

  // ---- For scripts ----

  /** Rows done at the playhead. */
  get position() {
    return this.#position;
  }
  /** Rows to do. */
  get rows() {
    return this.#run?.planned ?? 0;
  }
  /** Is the playhead at the end of a run that is sampled to its end? */
  get ended() {
    return Boolean(this.#run?.done && this.#position >= this.#run.last);
  }
  get paused() {
    return !this.#playing;
  }
  /** The sequences at the playhead, as the sampler gave them. @returns {Row | null} */
  get row() {
    return this.#run?.rows.length ? this.#run.rowAt(this.#position) : null;
  }

  play() {
    if (this.ended) this.#position = 0;
    this.#set(true);
  }
  pause() {
    this.#set(false);
  }
  /**
   * Rows on, or back. Stops there.
   * @param {number} [count]
   */
  step(count = 1) {
    const stride = this.#run?.stride ?? 1;
    const at = this.#position / stride;
    this.seek(((count > 0 ? Math.floor(at + 1e-6) : Math.ceil(at - 1e-6)) + count) * stride);
  }
  /** Back to the noise, and plays. */
  restart() {
    this.#position = 0;
    this.#set(true);
  }
  /**
   * To a row, as far as there are any. Stops there.
   * @param {number} row
   */
  seek(row) {
    this.#position = Math.max(0, Math.min(row, this.#run?.last ?? 0));
    this.#set(false);
  }

  // ---- Loading ----

  #unload() {
    this.#loading.abort();
    this.#running.abort();
    cancelAnimationFrame(this.#frame);
    this.#frame = 0;
    this.model?.dispose();
    this.model = null;
    this.#run = this.#picture = this.#settings = null;
  }

  async #load() {
    this.#unload();
    const { signal } = (this.#loading = new AbortController());
    const address = this.getAttribute('model');
    this.#find('.viewer').hidden = true;
    try {
      if (!address)
        throw new SettingError(
          'This viewer needs the attribute model: the address of a folder with a model.safetensors.',
        );
      if (typeof WebAssembly !== 'object')
        throw new SettingError(
          'This demonstration needs WebAssembly, which this browser does not have or does not allow (a lockdown mode, perhaps).',
        );
      if (!features().simd)
        throw new SettingError(
          'This browser lacks WebAssembly SIMD. Chrome 91, Firefox 89, Safari 16.4 and later have it.',
        );
      this.#say('Loading the model');
      const model = await loadModel(modelUrl(address, this.baseURI), {
        signal,
        onProgress: ({ loaded, total }) => {
          if (!signal.aborted) this.#say('Loading the model', loaded, total);
        },
      });
      if (signal.aborted) return model.dispose();
      this.model = model;
      this.#begin();
      this.dispatchEvent(new Event('load'));
    } catch (error) {
      if (!signal.aborted) this.#fail(error);
    }
  }

  /**
   * What is going on, in place of the picture.
   * @param {string} text
   * @param {number} [loaded] bytes
   * @param {number | null} [total]
   */
  #say(text, loaded, total) {
    const message = this.#find('.message');
    message.hidden = false;
    message.setAttribute('role', 'status');
    message.classList.remove('failed');
    let bar = message.querySelector('progress');
    if (!bar) {
      bar = make('progress', { 'aria-label': text, max: '1' });
      message.replaceChildren(make('p', {}, text), bar, make('p'));
    }
    const mega = (/** @type {number} */ bytes) => (bytes / 1e6).toFixed(1);
    if (loaded && total) bar.value = loaded / total;
    setText(
      /** @type {Node} */ (message.lastChild),
      loaded ? `${mega(loaded)} ${total ? `of ${mega(total)} ` : ''}MB` : '\u00a0',
    );
  }

  /**
   * A sentence in the element: what went wrong, and what to do about it.
   * @param {unknown} error
   */
  #fail(error) {
    this.#set(false);
    this.#find('.viewer').hidden = true;
    const message = this.#find('.message');
    message.hidden = false;
    message.setAttribute('role', 'alert');
    message.classList.add('failed');
    const again = make('button', { type: 'button' }, 'Try again');
    again.addEventListener('click', () => (this.model ? this.#begin() : this.#load()));
    message.replaceChildren(...sentences(error).map((text) => make('p', {}, text)), again);
    this.dispatchEvent(new CustomEvent('error', { detail: error }));
  }

  // ---- A run ----

  /**
   * @param {string} name
   * @returns {number | undefined}
   */
  #number(name) {
    const text = this.getAttribute(name);
    if (text === null) return undefined;
    const value = Number(text);
    if (text.trim() !== '' && Number.isFinite(value)) return value;
    throw new SettingError(`The attribute ${name}: expected a number, found "${text}".`);
  }

  /** The settings that hold without the address, or with it. */
  #read(/** @type {boolean} */ linked) {
    const model = /** @type {Model} */ (this.model);
    const parameters = new URLSearchParams(linked ? globalThis.location?.search : '');
    return readSettings(
      (name) => this.getAttribute(name),
      (name) => parameters.get(parameter(this.id, name)),
      model.defaults,
      model.levels,
    );
  }

  /** The view as the attribute has it (a kind, or JSON), or the model's config. */
  #view() {
    const text = this.getAttribute('view')?.trim();
    if (!text) return this.model?.config.view;
    if (!text.startsWith('{')) return { ...this.model?.config.view, kind: text };
    try {
      return JSON.parse(text);
    } catch (cause) {
      throw new SettingError(`The attribute view: ${/** @type {Error} */ (cause).message}.`);
    }
  }

  /** Samples anew, with the settings as they are now. */
  async #begin() {
    const model = /** @type {Model} */ (this.model);
    const mine = ++this.#begun;
    this.#running.abort();
    const { signal } = (this.#running = new AbortController());
    try {
      const settings = (this.#settings ??= this.#read(true));
      const [keep, condition, observe] = await Promise.all(
        ['keep', 'condition', 'observe'].map((name) =>
          readJson(name, this.getAttribute(name), this.baseURI),
        ),
      );
      if (mine !== this.#begun || signal.aborted) return;
      const length = this.getAttribute('length') === 'drawn' ? 'drawn' : this.#number('length');
      /** @type {any} */
      const options = { ...settings, seed: BigInt(settings.seed), length };
      for (const name of numbers) options[name] = this.#number(name);
      if (this.hasAttribute('weights')) options.weights = this.getAttribute('weights');
      const observation = model.observationSize ? this.#observation(observe) : null;
      /** @type {Given} */
      const given = { keep: keptFrames(keep), condition, observation };
      this.#show(model, typeof length === 'number' ? length : model.defaults.maxLength);
      this.#explain(model, observe, condition);

      const run = new Run(settings.steps);
      const picture = /** @type {Picture} */ (this.#picture);
      await run.fill(model, options, given, signal, (row) => {
        if (signal.aborted) return;
        picture.learn(row);
        if (row.row === 0) this.#take(run);
        this.#draw();
      });
      if (signal.aborted) return;
      if (run.error) throw run.error;
      this.#draw();
      // Who wants no motion sees the result, and may walk through it.
      if (calm?.matches && this.#position === 0 && !this.#playing) this.seek(run.last);
    } catch (error) {
      if (!signal.aborted) this.#fail(error);
    }
  }

  /**
   * What the first state is encoded from: as given, or else the mean.
   * @param {any} given
   */
  #observation(given) {
    const model = /** @type {any} */ (this.model);
    if (given) return Array.isArray(given) ? given : [given];
    const fields = model.observationFields ?? [];
    return Array.from({ length: model.observationSize }, (_, i) => fields[i]?.mean ?? 0);
  }

  /**
   * Picture, legend and controls for a model and a view.
   * @param {Model} model
   * @param {number} length  tokens at most
   */
  #show(model, length) {
    const view = chooseView(this.#view(), model.fields);
    const frames = length * model.frameStack;
    const { kind } = view;
    const picture = (this.#picture =
      kind === 'lines'
        ? new LinesPicture(view, model.fields)
        : kind === 'image'
          ? new FilmPicture(view, model.fields, frames)
          : kind === 'table'
            ? new NumbersPicture(view, model.fields, model.frameStack)
            : new PlanarPicture(view, model.fields, frames));
    const viewer = this.#find('.viewer');
    viewer.className = `viewer ${kind} ${picture.wide ? 'wide' : ''}`;
    const place = this.#find('.picture');
    place.replaceChildren(picture.element);
    if (!('canvas' in picture)) place.style.blockSize = '';
    const given = this.hasAttribute('keep');
    this.#find('.keys').replaceChildren(
      ...picture.keys
        .filter(({ mark }) => !mark.startsWith('given') || given)
        .map(({ mark, text }) => {
          const sign = make('i', { class: mark });
          if (mark.startsWith('line')) sign.style.borderColor = `var(--${mark})`;
          if (mark.startsWith('figure')) sign.textContent = '1.23';
          return make('li', {}, sign, text);
        }),
    );
    this.#find('.message').hidden = true;
    viewer.hidden = false;
    this.#hover(picture);
    this.#fillControls();
  }

  #fillControls() {
    const settings = /** @type {Settings} */ (this.#settings);
    const form = /** @type {any} */ (this.#find('.controls')).elements;
    form.schedule.value = settings.schedule;
    form.seed.value = settings.seed;
    form.steps.value = settings.steps;
    form.steps.max = this.model?.levels;
    form.uncertainty.value = settings.uncertainty;
    form.uncertainty.max = settings.steps;
    form.uncertainty.disabled = !['pyramid', 'trapezoid'].includes(settings.schedule);
  }

  /**
   * What the visitor should know about where the sequences start from.
   * @param {Model} model
   * @param {any} observe
   * @param {any} condition
   */
  #explain(model, observe, condition) {
    const parts = [];
    if (model.observationSize && !observe)
      parts.push('Starts from the mean observation (the attribute observe sets another).');
    if (model.conditionSize && !condition)
      parts.push('All conditions are zero (the attribute condition sets others).');
    this.#note = parts.join(' ');
  }

  /** A run has its first row: show it in place of the one before. */
  #take(/** @type {Run} */ run) {
    this.#run = run;
    this.#position = 0;
    this.#ended = false;
    this.#autoplay();
  }

  #autoplay() {
    if (this.#run && this.#seen && !calm?.matches && !this.hasAttribute('paused')) this.#set(true);
    else this.#draw();
  }

  /** Settings by the visitor: into the address, and a new run. */
  #change(/** @type {Partial<Settings>} */ changed) {
    if (!this.model || !this.#settings) return;
    const settings = { ...this.#settings, ...changed };
    settings.uncertainty = Math.min(settings.uncertainty, settings.steps);
    this.#settings = settings;
    setAddress(addressOf(location.href, this.id, settings, this.#read(false)));
    this.#begin();
  }

  #newSeed() {
    this.#change({ seed: String(Math.floor(Math.random() * 100000)) });
  }

  // ---- Playing and drawing ----

  #set(/** @type {boolean} */ playing) {
    this.#playing = playing;
    this.#time = 0;
    if (!playing) this.#announce();
    this.#draw();
  }

  /** Asks for a drawing; there is one in each frame at most. */
  #draw() {
    if (this.#frame || !this.isConnected) return;
    this.#frame = requestAnimationFrame((now) => {
      this.#frame = 0;
      this.#advance(now);
      this.#paint();
      if (this.#playing) this.#draw();
    });
  }

  #advance(/** @type {number} */ now) {
    const run = this.#run;
    if (!this.#playing || !run) return;
    const passed = this.#time ? Math.min(0.1, (now - this.#time) / 1000) : 0;
    this.#time = now;
    const wish = Number(this.getAttribute('seconds'));
    const seconds = wish > 0 ? wish : Math.min(12, Math.max(5, run.planned * 0.06));
    const next = this.#position + (passed * run.planned) / seconds;
    this.#position = Math.min(next, Math.max(this.#position, run.last), run.planned);
    if (!this.ended) return;
    this.#playing = false;
    this.#announce();
  }

  #paint() {
    const [run, picture, table] = [this.#run, this.#picture, this.#table];
    const colours = this.#palette?.colours;
    if (!run?.rows.length || !picture || !table || !colours) return;
    const position = Math.min(this.#position, run.last);
    const moment = run.at(position, !calm?.matches);
    if ('height' in picture) {
      const place = this.#find('.picture');
      const height = `${Math.round(picture.height(place.clientWidth, moment.B, moment.T * moment.F))}px`;
      if (place.style.blockSize !== height) place.style.blockSize = height;
    } else if (!picture.wide) this.#find('.picture').style.blockSize = '';
    picture.draw(moment, colours, this.#selected);
    table.draw(run, position, this.#selected, colours);

    const viewer = this.#find('.viewer');
    viewer.classList.toggle('playing', this.#playing);
    const play = this.#find('.play');
    const label = this.#playing ? 'Pause' : this.ended ? 'Play again' : 'Play';
    if (play.getAttribute('aria-label') !== label) play.setAttribute('aria-label', label);
    const scrub = /** @type {HTMLInputElement} */ (this.#find('.scrub'));
    const row = Math.floor(position + 1e-6);
    scrub.max = String(run.planned);
    scrub.value = String(row);
    scrub.style.setProperty('--part', `${(100 * position) / run.planned}%`);
    const where = `row ${row} of ${run.planned}`;
    scrub.setAttribute('aria-valuetext', where);
    setText(this.#find('.where'), where);
    this.#readToken(moment.T);
    this.#tell(run);
    if (this.ended && !this.#ended) {
      this.#ended = true;
      this.dispatchEvent(new Event('end'));
    }
  }

  /** The small print below. */
  #tell(/** @type {Run} */ run) {
    const model = /** @type {Model} */ (this.model);
    const { name, license } = model.config;
    const { parameters, build } = model.info;
    const facts = [
      name,
      parameters < 1e6
        ? `${write(parameters / 1e3, 3)} k parameters`
        : `${write(parameters / 1e6, 3)} M parameters`,
      run.ms > 0 && `${write(run.ms, 2)} ms a row, ${build} SIMD, on this machine`,
      license,
    ];
    setText(this.#find('.note'), [this.#note, facts.filter(Boolean).join(' · ')].join(' ').trim());
  }

  /** For those who hear the page: where the playhead has come to rest. */
  #announce() {
    const [run, row] = [this.#run, this.row];
    if (!run || !row) return;
    const count = Math.min(run.columns, row.columns);
    const clean = Array.from(row.levels.subarray(0, count)).filter((level) => level === 0).length;
    const text = `Row ${row.row} of ${run.planned}: ${clean} of ${count} tokens are clean.`;
    setText(this.#find('p.unseen'), text);
    const { element } = /** @type {Picture} */ (this.#picture);
    if (element.tagName === 'CANVAS') element.setAttribute('aria-label', `The sequence. ${text}`);
  }

  // ---- Reading a token ----

  /** @param {number} columns */
  #readToken(columns) {
    const place = this.#find('.token');
    const canvas = this.#find('.table canvas');
    const t = this.#selected < columns ? this.#selected : -1;
    const row = this.row;
    place.classList.toggle('hint', t < 0);
    canvas.setAttribute('aria-valuemin', '1');
    canvas.setAttribute('aria-valuemax', String(columns));
    canvas.setAttribute('aria-valuenow', String(Math.max(1, t + 1)));
    if (t < 0 || !row) {
      const hint = 'Point at a column to read its token; click or tap to hold it.';
      setText(place, hint);
      return canvas.setAttribute('aria-valuetext', 'none chosen: use the arrow keys');
    }
    const level = row.levels[t];
    const state = this.#run?.known[t]
      ? 'given, stays as it is'
      : level > row.steps
        ? 'behind the end'
        : level === 0
          ? 'clean'
          : `level ${level} of ${row.steps}${level === row.steps ? ', pure noise' : ''}`;
    const values = level > row.steps ? '' : this.#values(row, t, row.tokens);
    const guess = level > 0 && level < row.steps ? this.#values(row, t, row.estimate) : '';
    const text = `Token ${t + 1}: ${state}. ${values}${guess && `; estimate ${guess}`}`;
    canvas.setAttribute('aria-valuetext', text);
    if (place.textContent === text) return;
    place.replaceChildren(make('b', {}, `Token ${t + 1}`), `: ${state}. ${values}`);
    if (guess) place.append(make('span', {}, `; estimate ${guess}`));
  }

  /**
   * The numbers of a token of the first sequence, field by field.
   * @param {Row} row
   * @param {number} t
   * @param {Float32Array} values
   */
  #values(row, t, values) {
    const { fields } = /** @type {Model} */ (this.model);
    if (fields.length > 8) return '';
    const { frameStack: F, fields: C } = row;
    const frames = Array.from({ length: row.frames[t] }, (_, f) => f);
    return fields
      .map(({ name, binary, threshold }, c) => {
        const numbers = frames.map((f) => values[(t * F + f) * C + c]);
        return `${name} ${numbers.map((x) => (binary ? Number(x > threshold) : write(x))).join(' ')}`;
      })
      .join(', ');
  }

  #select(/** @type {number} */ token, pin = false) {
    if (pin) this.#pinned = token === this.#pinned ? -1 : token;
    const selected = token >= 0 ? token : this.#pinned;
    if (selected === this.#selected && !pin) return;
    this.#selected = pin ? this.#pinned : selected;
    this.#draw();
  }

  /** @param {Picture} picture */
  #hover(picture) {
    const element = /** @type {HTMLElement} */ (picture.element);
    const isMouse = (/** @type {PointerEvent} */ event) => event.pointerType !== 'touch';
    element.addEventListener('pointermove', (event) => {
      if (isMouse(event)) this.#select(picture.tokenAt(event));
    });
    element.addEventListener('pointerleave', () => this.#select(-1));
    element.addEventListener('click', (event) => {
      this.#select(picture.tokenAt(/** @type {PointerEvent} */ (event)), true);
    });
  }

  // ---- Controls ----

  /**
   * @param {string} selector
   * @returns {HTMLElement}
   */
  #find(selector) {
    return /** @type {HTMLElement} */ (this.#root.querySelector(selector));
  }

  #listen() {
    const on = (/** @type {string} */ selector, /** @type {() => void} */ act) =>
      this.#find(selector).addEventListener('click', act);
    on('.play', () => (this.#playing ? this.pause() : this.play()));
    on('.step', () => this.step());
    on('.restart', () => this.restart());
    on('.dice', () => this.#newSeed());
    const scrub = /** @type {HTMLInputElement} */ (this.#find('.scrub'));
    scrub.addEventListener('input', () => this.seek(Number(scrub.value)));

    const form = /** @type {HTMLFormElement} */ (this.#find('.controls'));
    form.addEventListener('submit', (event) => event.preventDefault());
    form.addEventListener('change', (event) => {
      const { name, value, validity } = /** @type {HTMLInputElement} */ (event.target);
      const seed = name === 'seed' && readSeed(value);
      if (!validity.valid || value === '' || seed === null) return this.#fillControls();
      this.#change({ [name]: seed || (name === 'schedule' ? value : Number(value)) });
    });

    const canvas = this.#find('.table canvas');
    const locate = (/** @type {PointerEvent} */ event) =>
      this.#run && this.#table?.locate(event, this.#run);
    canvas.addEventListener('pointerdown', (event) => {
      const at = locate(event);
      if (!at) return;
      if (event.pointerType !== 'touch') canvas.setPointerCapture(event.pointerId);
      this.#select(at.token, at.token !== this.#pinned);
      this.seek(at.row);
    });
    canvas.addEventListener('pointermove', (event) => {
      const at = locate(event);
      if (!at || event.pointerType === 'touch') return;
      this.#select(at.token);
      if (event.buttons & 1) this.seek(at.row);
    });
    canvas.addEventListener('pointerleave', () => this.#select(-1));
    canvas.addEventListener('keydown', (event) => {
      const last = (this.#run?.columns ?? 1) - 1;
      const now = this.#selected;
      const to = /** @type {Record<string, number>} */ ({
        ArrowLeft: now - 1,
        ArrowRight: now + 1,
        Home: 0,
        End: last,
        Escape: -1,
      })[event.key];
      if (to === undefined) return;
      event.preventDefault();
      event.stopPropagation();
      this.#pinned = event.key === 'Escape' ? -1 : Math.max(0, Math.min(last, to));
      this.#select(this.#pinned);
    });

    this.addEventListener('keydown', (event) => {
      if (event.altKey || event.ctrlKey || event.metaKey) return;
      const target = /** @type {Element} */ (event.composedPath()[0]);
      const inField = target.matches('input');
      const onButton = target.matches('button');
      const acts = /** @type {Record<string, () => void>} */ ({
        ' ': () => (this.#playing ? this.pause() : this.play()),
        ArrowRight: () => this.step(),
        ArrowLeft: () => this.step(-1),
        r: () => this.restart(),
        n: () => this.#newSeed(),
      });
      const act = acts[event.key.length > 1 ? event.key : event.key.toLowerCase()];
      if (!act || inField || (onButton && event.key === ' ')) return;
      event.preventDefault();
      act();
    });
  }
}

/** @param {string} href */
function setAddress(href) {
  try {
    history.replaceState(history.state, '', href);
  } catch {
    // a frame without an address of its own
  }
}

/** @type {Record<string, string>} */
const summaries = {
  IO: 'The model could not be loaded.',
  BAD_FILE: 'The model file is not as it has to be.',
  BAD_CONFIG: 'The config in the model file is not as it has to be.',
  BAD_SHAPE: 'Sizes do not fit.',
  BAD_ARGUMENT: 'The model does not take what this page gives it.',
  BAD_VALUE: 'There is a number that cannot be.',
};

/**
 * What went wrong, as sentences.
 * @param {any} error
 */
function sentences(error) {
  const ended = (/** @type {string} */ text) =>
    text && (/[.?!]$/.test(text) ? text : `${text}.`).replace(/^./, (first) => first.toUpperCase());
  if (error instanceof SettingError || error instanceof ViewError) return [error.message];
  if (!(error instanceof DfError))
    return ['Something went wrong.', ended(String(error?.message ?? error))];
  const what = / 404\b/.test(error.message)
    ? 'There is no model at this address.'
    : summaries[error.code];
  return [
    what ?? 'The model cannot run here.',
    [error.message, error.hint].filter(Boolean).map(ended).join(' '),
  ];
}

/**
 * The same from a script: puts a viewer at the end of an element.
 * @param {Element} place
 * @param {Record<string, any>} options  attributes: { model: './model/', seed: 7, keep: [...] }
 * @returns {ForcingViewer}
 */
export function createViewer(place, options) {
  const viewer = /** @type {ForcingViewer} */ (document.createElement('forcing-viewer'));
  for (const [name, value] of Object.entries(options)) {
    if (value === undefined || value === false) continue;
    const text =
      typeof value === 'object' && !(value instanceof URL) ? JSON.stringify(value) : value;
    viewer.setAttribute(name, text === true ? '' : String(text));
  }
  place.append(viewer);
  return viewer;
}

if (globalThis.customElements && !customElements.get('forcing-viewer'))
  customElements.define('forcing-viewer', ForcingViewer);
