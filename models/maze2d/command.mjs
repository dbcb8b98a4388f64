// What the commands of this folder share: options, the progress line, tables.
import { parseArgs } from 'node:util';
import { layouts } from './layouts.js';

/**
 * Mazes and options of a command; an error in them, or --help, ends it.
 * @param {string} usage
 * @param {Record<string, string>} defaults of options that take a value
 */
export function readCommand(usage, defaults) {
  try {
    const names = ['help', ...Object.keys(defaults)];
    const options = Object.fromEntries(
      names.map((name) => [name, { type: name === 'help' ? 'boolean' : 'string' }]),
    );
    const { values, positionals } = parseArgs({ options, allowPositionals: true });
    if (values.help) {
      console.log(usage);
      process.exit();
    }
    for (const name of positionals)
      if (!Object.hasOwn(layouts, name))
        throw new Error(`expected ${Object.keys(layouts).join(', ')}; found ${name}`);
    return { mazes: positionals, options: { ...defaults, ...values } };
  } catch (error) {
    console.error(`${error.message}\n\n${usage}`);
    process.exit(2);
  }
}

/** A whole number from a text such as 1e6. */
export function wholeNumber(name, text, least = 1) {
  const number = Number(text);
  if (text !== '' && Number.isInteger(number) && number >= least && number < 2 ** 32) return number;
  console.error(`--${name}: expected a whole number from ${least} to 2^32 - 1; found ${text}`);
  process.exit(2);
}

/** A line on the terminal that tells how far it is, how fast it goes, and how long it will take. */
export class Progress {
  #start = performance.now();
  #shown = -Infinity;

  /** @param {string} what @param {number} total @param {string} unit */
  constructor(what, total, unit) {
    Object.assign(this, { what, total, unit });
  }

  /** @param {number} done */
  at(done) {
    const now = performance.now();
    if (!process.stderr.isTTY || now - this.#shown < 200) return;
    this.#shown = now;
    const rate = done / ((now - this.#start) / 1000);
    const left = rate ? `${Math.ceil((this.total - done) / rate)} s left` : '';
    const percent = Math.floor((100 * done) / this.total);
    this.#write(`${this.what}  ${percent} %  ${grouped(rate)} ${this.unit}/s  ${left}`);
  }

  /** Takes the line away. Returns what was done per second. */
  end() {
    this.#write('');
    return this.total / ((performance.now() - this.#start) / 1000);
  }

  #write(text) {
    if (process.stderr.isTTY) process.stderr.write(`\r\x1b[K${text}`);
  }
}

/** @param {number} x */
export const grouped = (x) => Math.round(x).toLocaleString('en');

/** @param {string[][]} rows the first is the head */
export function printTable(rows) {
  const widths = rows[0].map((_, k) => Math.max(...rows.map((row) => row[k].length)));
  const line = (cells) => `| ${cells.map((cell, k) => cell.padEnd(widths[k])).join(' | ')} |`;
  console.log(line(rows[0]));
  console.log(line(widths.map((width) => '-'.repeat(width))));
  for (const row of rows.slice(1)) console.log(line(row));
}
