// Writes NumPy files part by part.
import { closeSync, openSync, renameSync, rmSync, writeSync } from 'node:fs';

/** Has its name only when it is complete: an interrupted command leaves nothing that looks like data. */
export class NpyFile {
  bytes = 0;
  #unfinished;
  #file;
  #remove;

  /**
   * @param {string} path
   * @param {'<f4' | '<i4'} type
   * @param {number[]} shape
   */
  constructor(path, type, shape) {
    this.path = path;
    this.#unfinished = `${path}.unfinished`;
    this.#file = openSync(this.#unfinished, 'w');
    this.#remove = () => rmSync(this.#unfinished, { force: true });
    process.on('exit', this.#remove);
    const tuple = shape.length === 1 ? `${shape[0]},` : shape.join(', ');
    const header = `{'descr': '${type}', 'fortran_order': False, 'shape': (${tuple}), }`;
    const padded = header.padEnd(Math.ceil((header.length + 11) / 64) * 64 - 11) + '\n';
    const start = Buffer.from(`\x93NUMPY\x01\x00\0\0${padded}`, 'latin1');
    start.writeUInt16LE(padded.length, 8);
    this.write(start);
  }

  /** @param {Uint8Array | Float32Array | Int32Array} values */
  write(values) {
    const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
    for (let at = 0; at < bytes.length;) at += writeSync(this.#file, bytes, at);
    this.bytes += bytes.length;
  }

  end() {
    closeSync(this.#file);
    renameSync(this.#unfinished, this.path);
    process.off('exit', this.#remove);
  }
}
