// What is neither a path nor a picture: the numbers themselves, a column for each token.
/** @import { Field } from '../types.js' */
/** @import { Colours } from './colours.js' */
/** @import { Moment } from './run.js' */
/** @import { View } from './kind.js' */
import { make, setText } from './canvas.js';
import { write } from './scale.js';

/** More than these are not shown; a line says so. */
const [MOST_ROWS, MOST_COLUMNS] = [48, 128];

export class NumbersPicture {
  wide = true;
  #head = make('tr');
  #body = make('tbody');
  #more = make('p');
  element = make(
    'div',
    { class: 'numbers', tabindex: '0', role: 'region', 'aria-label': 'Values of the tokens' },
    make('table', {}, make('thead', {}, this.#head), this.#body),
    this.#more,
  );
  #view;
  #fields;
  /** @type {{ top: HTMLElement, bar: HTMLElement, cells: HTMLElement[][] }[]} */
  #columns = [];
  #selected = -1;

  /**
   * @param {View} view
   * @param {readonly Field[]} fields
   * @param {number} frameStack
   */
  constructor(view, fields, frameStack) {
    this.#view = view;
    this.#fields = fields;
    const rows = frameStack * view.fields.length;
    this.#head.append(make('th', { scope: 'col' }, 'token'));
    for (let r = 0; r < Math.min(rows, MOST_ROWS); r++) {
      const frame = Math.floor(r / view.fields.length);
      const { name } = fields[view.fields[r % view.fields.length]];
      const label = frameStack > 1 ? `${name} ${frame + 1}` : name;
      this.#body.append(make('tr', {}, make('th', { scope: 'row' }, label)));
    }
    const left = rows - MOST_ROWS;
    this.#more.textContent = left > 0 ? `${left} more numbers in each token are not shown.` : '';
    this.#more.hidden = left <= 0;
  }

  get keys() {
    const unit = this.#view.unit && `, in ${this.#view.unit}`;
    return [
      { mark: 'figure', text: `a number of the token as it is${unit}; faint: noisy` },
      { mark: 'figure small', text: "the network's estimate of the clean one" },
      { mark: 'bar', text: 'the level of the token: full is clean' },
      { mark: 'given-bar', text: 'given: stays as it is' },
    ];
  }

  /** Numbers need no room of their own. */
  learn() {}

  /**
   * Columns of the table, as many as there are tokens.
   * @param {number} count
   */
  #need(count) {
    for (let t = this.#columns.length; t < Math.min(count, MOST_COLUMNS); t++) {
      const bar = make('i');
      const top = this.#head.appendChild(make('th', { scope: 'col' }, String(t + 1), bar));
      const cells = Array.from(this.#body.rows, (row) => {
        const parts = [make('span'), make('small')];
        row.append(make('td', {}, ...parts));
        return parts;
      });
      this.#columns.push({ top, bar, cells });
    }
  }

  /**
   * @param {Moment} moment
   * @param {Colours} _colours
   * @param {number} selected  token, or -1
   */
  draw({ T, F, C, levels, whole, frames, known, tokens, estimate }, _colours, selected) {
    this.#need(T);
    if (selected !== this.#selected) this.#bringIntoView(selected);
    const { fields } = this.#view;
    this.#columns.forEach(({ top, bar, cells }, t) => {
      const there = t < T && levels[t] <= 1;
      top.classList.toggle('chosen', t === selected);
      top.classList.toggle('known', Boolean(known[t]));
      top.style.display = t < T ? '' : 'none';
      bar.style.inlineSize = there ? `${100 * (1 - levels[t])}%` : '0';
      cells.forEach(([value, guess], r) => {
        const [f, c] = [Math.floor(r / fields.length), fields[r % fields.length]];
        const at = (t * F + f) * C + c;
        const shown = there && f < frames[t];
        const cell = /** @type {HTMLElement} */ (value.parentElement);
        cell.style.display = top.style.display;
        setText(value, shown ? this.#text(c, tokens[at]) : '');
        const guessed = shown && whole[t] > 0 && levels[t] < 1;
        setText(guess, guessed ? this.#text(c, estimate[at]) : '\u00a0');
        value.style.opacity = there ? String(0.5 + 0.5 * (1 - levels[t]) ** 1.5) : '0';
      });
    });
  }

  /**
   * A token that was chosen elsewhere.
   * @param {number} selected
   */
  #bringIntoView(selected) {
    this.#selected = selected;
    const { element } = this;
    const { offsetLeft, offsetWidth } = this.#columns[selected]?.top ?? {};
    if (offsetLeft === undefined || element.matches(':hover')) return;
    element.scrollLeft = offsetLeft + offsetWidth / 2 - element.clientWidth / 2;
  }

  /**
   * @param {number} c
   * @param {number} value
   */
  #text(c, value) {
    const { binary, threshold } = this.#fields[c];
    return binary ? (value > threshold ? '1' : '0') : write(value);
  }

  /** @param {PointerEvent} event */
  tokenAt(event) {
    const cell = /** @type {Element | null} */ (event.composedPath()[0])?.closest?.('td, th');
    return cell ? /** @type {HTMLTableCellElement} */ (cell).cellIndex - 1 : -1;
  }
}
