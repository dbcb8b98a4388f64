// Which tables exist and which of them this processor can run: the one place that knows.
// The build defines DF_HAVE_<ISA> for every table that it links.
#include "kernels/kernels.h"

#include <stdbool.h>

#if defined(DF_HAVE_AVX512)
extern const df_kernels df_kernels__avx512;
#endif
#if defined(DF_HAVE_AVX2)
extern const df_kernels df_kernels__avx2;
#endif
#if defined(DF_HAVE_NEON)
extern const df_kernels df_kernels__neon;
#endif
#if defined(DF_HAVE_RELAXED)
#include <wasm_simd128.h>
extern const df_kernels df_kernels__relaxed, df_kernels__relaxed_pairs;

// How this processor computes the relaxed dot product shows where the second factor is out of its range, 255 or -1:
// 4 127 255 or -4 127 in one instruction; 2 (2^15 - 1) in three, whose sums of 16 bits end there. Something else: the
// first tier of V8 before version 12, which gets it wrong and must not be asked.
typedef enum { DOT_WRONG, DOT_SLOW, DOT_FAST } dot;
static dot relaxed_dot(void) {
  static volatile int32_t in[3] = {0x7f7f7f7f, -1, 0}; // read, so that no compiler knows the result
  const v128_t w = wasm_i32x4_splat(in[0]), a = wasm_i32x4_splat(in[1]),
               c = wasm_i32x4_splat(in[2]);
  const int sum = wasm_i32x4_extract_lane(wasm_i32x4_relaxed_dot_i8x16_i7x16_add(w, a, c), 0);
  return sum == 129540 || sum == -508 ? DOT_FAST : sum == 65534 ? DOT_SLOW : DOT_WRONG;
}
#endif
#if defined(DF_HAVE_SIMD128)
extern const df_kernels df_kernels__simd128;
#endif
#if defined(DF_HAVE_SCALAR)
extern const df_kernels df_kernels__scalar;
#endif

const df_kernels *df_kernels_list(int i) {
  (void)i;
  // Fastest first. Whether a WebAssembly engine has SIMD shows when the module is compiled, before
  // any code runs, and NEON is part of every 64-bit ARM: only x86 is asked here.
#if defined(DF_HAVE_AVX512)
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw") && i-- == 0)
    return &df_kernels__avx512;
#endif
#if defined(DF_HAVE_AVX2)
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && i-- == 0)
    return &df_kernels__avx2;
#endif
#if defined(DF_HAVE_NEON)
  if (i-- == 0) return &df_kernels__neon;
#endif
#if defined(DF_HAVE_RELAXED)
  static dot known;
  static bool asked; // once: tiers of an engine may differ
  if (!asked) known = relaxed_dot(), asked = true;
  if (known == DOT_FAST && i-- == 0) return &df_kernels__relaxed;
  if (i-- == 0) return &df_kernels__relaxed_pairs;
  if (known == DOT_SLOW && i-- == 0) return &df_kernels__relaxed;
#endif
#if defined(DF_HAVE_SIMD128)
  if (i-- == 0) return &df_kernels__simd128;
#endif
#if defined(DF_HAVE_SCALAR)
  if (i-- == 0) return &df_kernels__scalar;
#endif
  return NULL;
}

const df_kernels *df_kernels_best(void) {
  const df_kernels *best = df_kernels_list(0);
  return best ? best : df_kernels_reference();
}
