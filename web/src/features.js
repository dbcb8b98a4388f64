/** @import { Build, Features } from './types.js' */
import { DfError, badArgument } from './errors.js';
import { canShare } from './threads.js';

/**
 * What this engine can run, found by validating modules of a few bytes.
 * @returns {Features}
 */
export function features() {
  return {
    simd: validates(0xfd, 0x52), // v128.bitselect
    // all relaxed instructions of src/kernels: f32x4.relaxed_madd, f32x4.relaxed_nmadd,
    // i32x4.relaxed_dot_i8x16_i7x16_add_s
    relaxed: [0x85, 0x86, 0x93].every((op) => validates(0xfd, op, 2)),
    threads: canShare(),
  };
}

/**
 * Is (func (result v128) (op (splat 0) (splat 0) (splat 0))) valid?
 * @param {...number} op
 */
function validates(...op) {
  const splat = [0x41, 0, 0xfd, 15]; // i32.const 0, i8x16.splat
  const code = [0, ...splat, ...splat, ...splat, ...op, 0x0b]; // no locals, body, end
  return (
    typeof WebAssembly === 'object' &&
    WebAssembly.validate(
      // prettier-ignore
      Uint8Array.of(
        0, 0x61, 0x73, 0x6d, 1, 0, 0, 0, // "\0asm", version 1
        1, 5, 1, 0x60, 0, 1, 0x7b,       // types: () -> v128
        3, 2, 1, 0,                      // functions: one of type 0
        10, code.length + 2, 1, code.length, ...code,
      ),
    )
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
