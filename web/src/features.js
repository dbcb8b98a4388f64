/** @import { Build, Features } from './types.js' */
import { DfError, badArgument } from './errors.js';

/**
 * What this engine can run, found by modules of a few bytes.
 * @returns {Features}
 */
export function features() {
  return {
    simd: validates(0xfd, 0x52), // v128.bitselect
    // all relaxed instructions of src/kernels: f32x4.relaxed_madd, f32x4.relaxed_nmadd,
    // i32x4.relaxed_dot_i8x16_i7x16_add_s
    relaxed: validates(0xfd, 0x85, 2) && validates(0xfd, 0x86, 2) && dotIsRight(0xfd, 0x93, 2),
  };
}

/** @param {...number} op */
function validates(...op) {
  return typeof WebAssembly === 'object' && WebAssembly.validate(program(op));
}

/**
 * Is 4 (1 1) + 0x01010101 right? The first tier of V8 before 12 overwrites what is added to.
 * @param {...number} op
 */
function dotIsRight(...op) {
  if (!validates(...op)) return false;
  try {
    const { exports } = new WebAssembly.Instance(new WebAssembly.Module(program(op)));
    return /** @type {any} */ (exports).f() === 0x01010105;
  } catch {
    return false; // a Content-Security-Policy, which loading will meet too
  }
}

/**
 * (func (export "f") (result i32) (i32x4.extract_lane 0 (op (splat 1) (splat 1) (splat 1))))
 * @param {number[]} op
 */
function program(op) {
  const splat = [0x41, 1, 0xfd, 15]; // i32.const 1, i8x16.splat
  const code = [0, ...splat, ...splat, ...splat, ...op, 0xfd, 27, 0, 0x0b]; // no locals, body, end
  // prettier-ignore
  return Uint8Array.of(
    0, 0x61, 0x73, 0x6d, 1, 0, 0, 0, // "\0asm", version 1
    1, 5, 1, 0x60, 0, 1, 0x7f,       // types: () -> i32
    3, 2, 1, 0,                      // functions: one of type 0
    7, 5, 1, 1, 0x66, 0, 0,          // exports: "f", function 0
    10, code.length + 2, 1, code.length, ...code,
  );
}

/**
 * @param {Build | 'auto'} [wish]
 * @returns {Build}
 */
export function chooseBuild(wish = 'auto') {
  const can = features();
  const build = wish === 'auto' ? (can.relaxed ? 'relaxed' : 'simd') : wish;
  if (build !== 'simd' && build !== 'relaxed') {
    throw badArgument('build', 'simd, relaxed or auto', build);
  }
  if (!can[build]) {
    throw new DfError(
      'NOT_SUPPORTED',
      `this engine lacks WebAssembly ${build === 'simd' ? '' : 'relaxed '}SIMD`,
      {
        hint: 'Chrome 91, Firefox 89, Safari 16.4 and Node 20 have SIMD; relaxed SIMD is newer.',
      },
    );
  }
  return build;
}
