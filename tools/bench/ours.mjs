// This package's side: the benchmark's own wasm modules (src/tests/bench_wasm.c), and the package.
import { loadModel } from '../../web/dist/index.js';
import { variants } from './cases.mjs';

export { features } from '../../web/dist/index.js';

const schedules = ['full-sequence', 'pyramid', 'autoregressive']; // as src/diffusion/levels.h counts

/** An instance of bench.<build>.wasm. */
export class Kernels {
  static async create(bytes) {
    const { instance } = await WebAssembly.instantiate(bytes, {});
    instance.exports._initialize?.();
    return new Kernels(instance.exports);
  }

  constructor(c) {
    this.c = c;
  }

  floats(at, n) {
    return new Float32Array(this.c.memory.buffer, at, n);
  }

  #pointers(at, n) {
    return new Uint32Array(this.c.memory.buffer, some(at), n);
  }

  /** Operations of the loop that never leaves the registers. */
  peak(calls) {
    return this.c.peak(calls * 1000);
  }

  /** C = A B + bias with B packed beforehand: { run, read, result, free } */
  product(m, k, n, a, b, bias) {
    const { c } = this;
    const handle = c.product_new(m, k, n);
    const [pa, pb, pbias, pc] = this.#pointers(handle, 4);
    this.floats(pa, m * k).set(a);
    this.floats(pb, k * n).set(b);
    this.floats(pbias, n).set(bias);
    c.product_pack(handle);
    return {
      run: (calls) => c.product_run(handle, calls),
      read: (calls) => c.read(pb, k * n, calls), // the weights once per call
      result: () => this.floats(pc, m * n).slice(),
      free: () => c.product_free(handle),
    };
  }

  /** The network that src/tests/bench_wasm.c builds, for up to `batch` sequences. */
  network(net, weights, batch) {
    const { c } = this;
    const handle = some(c.network_new());
    for (let i = 0, at; (at = c.network_name(handle, i)); i++) {
      const { data } = weights[this.#text(at)];
      this.floats(c.network_values(handle, i), data.length).set(data);
    }
    some(c.network_plan(handle, batch));
    const [x, z, time, out, next] = this.#pointers(handle, 5);
    // A call as a program makes it: inputs in, results out.
    const call = (inputs) => {
      this.floats(x, batch * net.x).set(inputs.x);
      this.floats(z, batch * net.z).set(inputs.z);
      this.floats(time, batch * net.time).set(inputs.time);
      some(c.network_run(handle, batch, 1));
      return {
        out: this.floats(out, batch * net.x).slice(),
        z_next: this.floats(next, batch * net.z).slice(),
      };
    };
    return { call, free: () => c.network_free(handle) };
  }

  /** Rows of a sampler of which single ones are timed; `idle`: the network that the others have. */
  walk(file, idle) {
    const { c } = this;
    const copies = [file, idle].map((bytes) => {
      const at = some(c.alloc(bytes.length));
      new Uint8Array(c.memory.buffer, at, bytes.length).set(bytes);
      return [at, bytes.length];
    });
    const handle = some(c.walk_new(...copies.flat()));
    for (const [at] of copies) c.free(at);
    return {
      begin: ({ schedule, uncertainty, batch, length, steps }) =>
        some(c.walk_begin(handle, schedules.indexOf(schedule), uncertainty, batch, length, steps)),
      /** The next row, 'kept' or 'anew', and by the idle network or not; returns the cells that it took. */
      row: (how, isIdle = false) => {
        const before = c.walk_cells(handle);
        some(c.walk_row(handle, how === 'anew', isIdle));
        return c.walk_cells(handle) - before;
      },
      rows: () => c.walk_rows(handle) - 1,
      values: (n) => this.floats(c.walk_values(handle), n).slice(),
      free: () => c.walk_free(handle),
    };
  }

  /** Memory that is read `calls` times: what the weights of a network cost at least. */
  reader(bytes) {
    const n = Math.ceil(bytes / 64) * 16;
    const at = some(this.c.alloc(4 * n));
    this.floats(at, n).fill(1);
    return { run: (calls) => this.c.read(at, n, calls), free: () => this.c.free(at) };
  }

  #text(at) {
    const bytes = new Uint8Array(this.c.memory.buffer, at);
    return new TextDecoder().decode(bytes.subarray(0, bytes.indexOf(0)));
  }
}

function some(result) {
  if (!result) throw new Error('bench.wasm: no memory');
  return result;
}

/** A model in this thread, run as a variant of cases.mjs says. */
export function openModel(file, variant) {
  const { build, load } = variants[variant];
  return loadModel(file, { inThread: true, build, ...load });
}

/** A sampler with the variant's options. */
export function openSampler(model, variant, options) {
  return model.sampler({ ...options, ...variants[variant].sampler });
}
