// Which tables exist and which of them this processor can run: the one place that knows.
// The build defines DF_HAVE_<ISA> for every table that it links.
#include "kernels/kernels.h"

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
extern const df_kernels df_kernels__relaxed;
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
  if (i-- == 0) return &df_kernels__relaxed;
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
