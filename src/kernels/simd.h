// The vector vocabulary that every kernel is written in, and its one back end per instruction set.
//
// DF_ISA (scalar, avx2, avx512, neon, simd128, relaxed) chooses; the files of kernels/isa are compiled
// once for each. A word is here only if a kernel uses it. All arithmetic is float32, rounded to
// nearest even; v_fma rounds once where the instruction set has it and twice where not, but the same
// way everywhere within one table, so that tails and tiles agree bit for bit.
#ifndef DF_KERNELS_SIMD_H
#define DF_KERNELS_SIMD_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifdef __clang__
#pragma STDC FP_CONTRACT OFF
#endif

#define DF_JOIN_(a, b) a##b
#define DF_JOIN(a, b)  DF_JOIN_(a, b)
// DF_K(matmul) is df_k_matmul__avx2 in the files compiled for AVX2.
#define DF_K(name)  DF_JOIN(df_k_##name##__, DF_ISA)
#define DF_ISA_NAME DF_TEXT(DF_ISA)
#define DF_TEXT(x)  DF_TEXT_(x)
#define DF_TEXT_(x) #x

#define DF_NUMBER_scalar  1
#define DF_NUMBER_avx2    2
#define DF_NUMBER_avx512  3
#define DF_NUMBER_neon    4
#define DF_NUMBER_simd128 5
#define DF_NUMBER_relaxed 6
#define DF_IS(isa)        (DF_JOIN(DF_NUMBER_, DF_ISA) == DF_NUMBER_##isa)

// The words; n is a number of lanes, 0 <= n <= WIDTH, m a comparison, lane by lane.
//   v_load(p)  v_load_n(p, n): the first n, the others 0
//   v_store(p, x)  v_store_n(p, n, x): the first n, no other byte is touched
//   v_set(s)  v_spread(p): s or *p in all lanes
//   v_four(p): four numbers, of which v_one(f, i), i constant, has number i in all lanes
//   v_add  v_sub  v_mul  v_div  v_sqrt
//   v_fma(a, b, c): a b + c    v_fnma(a, b, c): c - a b
//   v_min(s, x)  v_max(s, x): NaN where x is; s must be a number
//   v_less(a, b): a < b    v_pick(m, a, b): m ? a : b
//   v_bits(x, u): x & u, on the bit patterns
//   v_exponent(x): the low nine bits of the pattern become sign and exponent (used for 2^n)

#if DF_IS(avx512)

#include <immintrin.h>
typedef __m512 vec;
typedef __mmask16 vmask;
enum { WIDTH = 16 };
static inline vmask v_first(int n) { return (vmask)((1u << n) - 1); }
static inline vec v_load(const float *p) { return _mm512_loadu_ps(p); }
static inline vec v_load_n(const float *p, int n) { return _mm512_maskz_loadu_ps(v_first(n), p); }
static inline void v_store(float *p, vec x) { _mm512_storeu_ps(p, x); }
static inline void v_store_n(float *p, int n, vec x) { _mm512_mask_storeu_ps(p, v_first(n), x); }
static inline vec v_set(float s) { return _mm512_set1_ps(s); }
static inline vec v_spread(const float *p) { return _mm512_set1_ps(*p); }
typedef __m512 vfour;
static inline vfour v_four(const float *p) { return _mm512_broadcast_f32x4(_mm_loadu_ps(p)); }
#define v_one(f, i) _mm512_permute_ps(f, 0x55 * (i))
static inline vec v_add(vec a, vec b) { return _mm512_add_ps(a, b); }
static inline vec v_sub(vec a, vec b) { return _mm512_sub_ps(a, b); }
static inline vec v_mul(vec a, vec b) { return _mm512_mul_ps(a, b); }
static inline vec v_div(vec a, vec b) { return _mm512_div_ps(a, b); }
static inline vec v_fma(vec a, vec b, vec c) { return _mm512_fmadd_ps(a, b, c); }
static inline vec v_fnma(vec a, vec b, vec c) { return _mm512_fnmadd_ps(a, b, c); }
static inline vec v_sqrt(vec x) { return _mm512_sqrt_ps(x); }
static inline vec v_min(vec s, vec x) { return _mm512_min_ps(s, x); }
static inline vec v_max(vec s, vec x) { return _mm512_max_ps(s, x); }
static inline vmask v_less(vec a, vec b) { return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ); }
static inline vec v_pick(vmask m, vec a, vec b) { return _mm512_mask_blend_ps(m, b, a); }
static inline vec v_bits(vec x, uint32_t u) {
  return _mm512_castsi512_ps(_mm512_and_si512(_mm512_castps_si512(x), _mm512_set1_epi32((int)u)));
}
static inline vec v_exponent(vec x) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_castps_si512(x), 23));
}

#elif DF_IS(avx2)

#include <immintrin.h>
typedef __m256 vec;
typedef __m256 vmask;
enum { WIDTH = 8 };
static inline __m256i v_first(int n) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
static inline vec v_load(const float *p) { return _mm256_loadu_ps(p); }
static inline vec v_load_n(const float *p, int n) { return _mm256_maskload_ps(p, v_first(n)); }
static inline void v_store(float *p, vec x) { _mm256_storeu_ps(p, x); }
static inline void v_store_n(float *p, int n, vec x) { _mm256_maskstore_ps(p, v_first(n), x); }
static inline vec v_set(float s) { return _mm256_set1_ps(s); }
static inline vec v_spread(const float *p) { return _mm256_broadcast_ss(p); }
typedef __m256 vfour;
static inline vfour v_four(const float *p) { return _mm256_broadcast_ps((const __m128 *)p); }
#define v_one(f, i) _mm256_permute_ps(f, 0x55 * (i))
static inline vec v_add(vec a, vec b) { return _mm256_add_ps(a, b); }
static inline vec v_sub(vec a, vec b) { return _mm256_sub_ps(a, b); }
static inline vec v_mul(vec a, vec b) { return _mm256_mul_ps(a, b); }
static inline vec v_div(vec a, vec b) { return _mm256_div_ps(a, b); }
static inline vec v_fma(vec a, vec b, vec c) { return _mm256_fmadd_ps(a, b, c); }
static inline vec v_fnma(vec a, vec b, vec c) { return _mm256_fnmadd_ps(a, b, c); }
static inline vec v_sqrt(vec x) { return _mm256_sqrt_ps(x); }
static inline vec v_min(vec s, vec x) { return _mm256_min_ps(s, x); }
static inline vec v_max(vec s, vec x) { return _mm256_max_ps(s, x); }
static inline vmask v_less(vec a, vec b) { return _mm256_cmp_ps(a, b, _CMP_LT_OQ); }
static inline vec v_pick(vmask m, vec a, vec b) { return _mm256_blendv_ps(b, a, m); }
static inline vec v_bits(vec x, uint32_t u) {
  return _mm256_and_ps(x, _mm256_castsi256_ps(_mm256_set1_epi32((int)u)));
}
static inline vec v_exponent(vec x) {
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_castps_si256(x), 23));
}

#elif DF_IS(neon)

#include <arm_neon.h>
typedef float32x4_t vec;
typedef uint32x4_t vmask;
enum { WIDTH = 4 };
static inline vec v_load(const float *p) { return vld1q_f32(p); }
static inline vec v_load_n(const float *p, int n) {
  vec x = vdupq_n_f32(0);
  if (n >= 4) return vld1q_f32(p);
  if (n >= 1) x = vld1q_lane_f32(p, x, 0);
  if (n >= 2) x = vld1q_lane_f32(p + 1, x, 1);
  if (n >= 3) x = vld1q_lane_f32(p + 2, x, 2);
  return x;
}
static inline void v_store(float *p, vec x) { vst1q_f32(p, x); }
static inline void v_store_n(float *p, int n, vec x) {
  if (n >= 1) vst1q_lane_f32(p, x, 0);
  if (n >= 2) vst1q_lane_f32(p + 1, x, 1);
  if (n >= 3) vst1q_lane_f32(p + 2, x, 2);
  if (n >= 4) vst1q_lane_f32(p + 3, x, 3);
}
static inline vec v_set(float s) { return vdupq_n_f32(s); }
static inline vec v_spread(const float *p) { return vld1q_dup_f32(p); }
typedef float32x4_t vfour;
static inline vfour v_four(const float *p) { return vld1q_f32(p); }
#define v_one(f, i) vdupq_n_f32(vgetq_lane_f32(f, i))
static inline vec v_add(vec a, vec b) { return vaddq_f32(a, b); }
static inline vec v_sub(vec a, vec b) { return vsubq_f32(a, b); }
static inline vec v_mul(vec a, vec b) { return vmulq_f32(a, b); }
static inline vec v_div(vec a, vec b) { return vdivq_f32(a, b); }
static inline vec v_fma(vec a, vec b, vec c) { return vfmaq_f32(c, a, b); }
static inline vec v_fnma(vec a, vec b, vec c) { return vfmsq_f32(c, a, b); }
static inline vec v_sqrt(vec x) { return vsqrtq_f32(x); }
static inline vec v_min(vec s, vec x) { return vminq_f32(s, x); }
static inline vec v_max(vec s, vec x) { return vmaxq_f32(s, x); }
static inline vmask v_less(vec a, vec b) { return vcltq_f32(a, b); }
static inline vec v_pick(vmask m, vec a, vec b) { return vbslq_f32(m, a, b); }
static inline vec v_bits(vec x, uint32_t u) {
  return vreinterpretq_f32_u32(vandq_u32(vreinterpretq_u32_f32(x), vdupq_n_u32(u)));
}
static inline vec v_exponent(vec x) {
  return vreinterpretq_f32_u32(vshlq_n_u32(vreinterpretq_u32_f32(x), 23));
}

#elif DF_IS(simd128) || DF_IS(relaxed)

#include <wasm_simd128.h>
typedef v128_t vec;
typedef v128_t vmask;
enum { WIDTH = 4 };
static inline vec v_load(const float *p) { return wasm_v128_load(p); }
static inline vec v_load_n(const float *p, int n) {
  if (n >= 4) return wasm_v128_load(p);
  if (n == 3) return wasm_v128_load32_lane(p + 2, wasm_v128_load64_zero(p), 2);
  if (n == 2) return wasm_v128_load64_zero(p);
  return n == 1 ? wasm_v128_load32_zero(p) : wasm_f32x4_splat(0);
}
static inline void v_store(float *p, vec x) { wasm_v128_store(p, x); }
static inline void v_store_n(float *p, int n, vec x) {
  if (n >= 4) wasm_v128_store(p, x);
  if (n == 3) wasm_v128_store32_lane(p + 2, x, 2);
  if (n == 3 || n == 2) wasm_v128_store64_lane(p, x, 0);
  if (n == 1) wasm_v128_store32_lane(p, x, 0);
}
static inline vec v_set(float s) { return wasm_f32x4_splat(s); }
static inline vec v_spread(const float *p) { return wasm_v128_load32_splat(p); }
typedef v128_t vfour;
static inline vfour v_four(const float *p) { return wasm_v128_load(p); }
#define v_one(f, i) wasm_i32x4_shuffle(f, f, i, i, i, i)
static inline vec v_add(vec a, vec b) { return wasm_f32x4_add(a, b); }
static inline vec v_sub(vec a, vec b) { return wasm_f32x4_sub(a, b); }
static inline vec v_mul(vec a, vec b) { return wasm_f32x4_mul(a, b); }
static inline vec v_div(vec a, vec b) { return wasm_f32x4_div(a, b); }
#if DF_IS(relaxed)
static inline vec v_fma(vec a, vec b, vec c) { return wasm_f32x4_relaxed_madd(a, b, c); }
static inline vec v_fnma(vec a, vec b, vec c) { return wasm_f32x4_relaxed_nmadd(a, b, c); }
#else
static inline vec v_fma(vec a, vec b, vec c) { return wasm_f32x4_add(c, wasm_f32x4_mul(a, b)); }
static inline vec v_fnma(vec a, vec b, vec c) { return wasm_f32x4_sub(c, wasm_f32x4_mul(a, b)); }
#endif
static inline vec v_sqrt(vec x) { return wasm_f32x4_sqrt(x); }
static inline vec v_min(vec s, vec x) { return wasm_f32x4_pmin(x, s); } // pmin(x, s): s < x ? s : x
static inline vec v_max(vec s, vec x) { return wasm_f32x4_pmax(x, s); }
static inline vmask v_less(vec a, vec b) { return wasm_f32x4_lt(a, b); }
static inline vec v_pick(vmask m, vec a, vec b) { return wasm_v128_bitselect(a, b, m); }
static inline vec v_bits(vec x, uint32_t u) { return wasm_v128_and(x, wasm_u32x4_splat(u)); }
static inline vec v_exponent(vec x) { return wasm_i32x4_shl(x, 23); }

#elif DF_IS(scalar)

typedef float vec;
typedef int vmask;
enum { WIDTH = 1 };
static inline vec v_load(const float *p) { return *p; }
static inline vec v_load_n(const float *p, int n) { return n ? *p : 0; }
static inline void v_store(float *p, vec x) { *p = x; }
static inline void v_store_n(float *p, int n, vec x) {
  if (n) *p = x;
}
static inline vec v_set(float s) { return s; }
static inline vec v_spread(const float *p) { return *p; }
typedef const float *vfour;
static inline vfour v_four(const float *p) { return p; }
#define v_one(f, i) (f)[i]
static inline vec v_add(vec a, vec b) { return a + b; }
static inline vec v_sub(vec a, vec b) { return a - b; }
static inline vec v_mul(vec a, vec b) { return a * b; }
static inline vec v_div(vec a, vec b) { return a / b; }
static inline vec v_fma(vec a, vec b, vec c) { return a * b + c; }
static inline vec v_fnma(vec a, vec b, vec c) { return c - a * b; }
static inline vec v_sqrt(vec x) { return sqrtf(x); }
static inline vec v_min(vec s, vec x) { return s < x ? s : x; }
static inline vec v_max(vec s, vec x) { return s > x ? s : x; }
static inline vmask v_less(vec a, vec b) { return a < b; }
static inline vec v_pick(vmask m, vec a, vec b) { return m ? a : b; }
static inline vec v_bits(vec x, uint32_t u) {
  uint32_t b;
  memcpy(&b, &x, sizeof b);
  b &= u;
  memcpy(&x, &b, sizeof b);
  return x;
}
static inline vec v_exponent(vec x) {
  uint32_t b;
  memcpy(&b, &x, sizeof b);
  b <<= 23;
  memcpy(&x, &b, sizeof b);
  return x;
}

#else
#error "DF_ISA is not one of scalar, avx2, avx512, neon, simd128, relaxed"
#endif

#if DF_IS(avx512) || DF_IS(avx2)
// The cache line at p, which need not exist, will be read soon; far: later.
static inline void v_prefetch(const float *p) { _mm_prefetch((const char *)p, _MM_HINT_T0); }
static inline void v_prefetch_far(const float *p) { _mm_prefetch((const char *)p, _MM_HINT_T1); }
#endif

// Keeps x in a register where gcc would rather load it again at each use.
#if defined(__x86_64__) && !defined(__clang__)
#define V_KEEP(x) __asm__("" : "+v"(x))
#else
#define V_KEEP(x) (void)0
#endif

// v_load and v_store of what is left of a row: all lanes, or the first `left` ones.
static inline vec v_get(const float *p, ptrdiff_t left) {
  return left >= WIDTH ? v_load(p) : v_load_n(p, (int)left);
}
static inline void v_put(float *p, ptrdiff_t left, vec x) {
  if (left >= WIDTH)
    v_store(p, x);
  else
    v_store_n(p, (int)left, x);
}

// Sum of the lanes: halves are added to each other until one lane is left.
static inline float v_sum(vec x) {
  float lane[WIDTH];
  v_store(lane, x);
  for (int half = WIDTH / 2; half > 0; half /= 2)
    for (int i = 0; i < half; i++) lane[i] += lane[i + half];
  return lane[0];
}

// The largest lane, which is a number if one is.
static inline float v_largest(vec x) {
  float lane[WIDTH];
  v_store(lane, x);
  for (int half = WIDTH / 2; half > 0; half /= 2)
    for (int i = 0; i < half; i++) lane[i] = lane[i + half] > lane[i] ? lane[i + half] : lane[i];
  return lane[0];
}

#endif
