// The part of the vocabulary for weights of 8 bits (-127 to 127) and activations of 14 (0 to 16383); simd.h has the
// floats. Four consecutive k are a quad.
//
//   i_zero()  i_store(p, x): WIDTH integers of 32 bits
//   i_weights(p): a quad of weights for each lane, 4 WIDTH bytes; QUAD(lane, k) is the place of each
//   i_quad(p): a quad of activations, the same in all lanes
//   i_dot(c, w, a): lane by lane, c + the sum of the four products, exact
//   i_put(p, part, x): WIDTH activations from the low 14 bits of the lanes' patterns, whose other bits are 0
//   i_total(p, part): WIDTH sums of products, as floats
//
// The relaxed dot product takes activations of 7 bits. There a row of activations is two PARTS, the high and the low
// seven bits, `part` entries apart, and what follows is two rows of sums, 128 times one plus the other. A file that
// defines DF_PAIRS does without that instruction.
#ifndef DF_KERNELS_BYTES_H
#define DF_KERNELS_BYTES_H

#include "kernels/simd.h"

#if DF_IS(relaxed) && !defined(DF_PAIRS)
#define RELAXED_DOT 1
enum { PARTS = 2 };
typedef uint8_t activation;
#define QUAD(lane, k) (4 * (lane) + (k))
#else
#define RELAXED_DOT 0
enum { PARTS = 1 };
typedef int16_t activation;
#if DF_IS(neon)
#define QUAD(lane, k) (WIDTH * (k) + (lane))
#else
#define QUAD(lane, k) ((k) / 2 * 2 * WIDTH + 2 * (lane) + (k) % 2) // pairs of k
#endif
#endif

#if DF_IS(avx512)

typedef __m512i ints;
typedef struct quads { // pairs of 16 bits
  __m512i first, second;
} quads;
static inline ints i_zero(void) { return _mm512_setzero_si512(); }
static inline void i_store(int32_t *p, ints x) { _mm512_storeu_si512(p, x); }
static inline quads i_weights(const int8_t *p) {
  return (quads){_mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i *)p)),
                 _mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i *)(p + 2 * WIDTH)))};
}
static inline quads i_quad(const activation *p) {
  int32_t a[2];
  memcpy(a, p, sizeof a);
  return (quads){_mm512_set1_epi32(a[0]), _mm512_set1_epi32(a[1])};
}
static inline ints i_dot(ints c, quads w, quads a) {
  c = _mm512_add_epi32(c, _mm512_madd_epi16(w.first, a.first));
  return _mm512_add_epi32(c, _mm512_madd_epi16(w.second, a.second));
}
static inline void i_put(activation *p, ptrdiff_t part, vec x) {
  _mm256_storeu_si256((__m256i *)p, _mm512_cvtepi32_epi16(_mm512_castps_si512(x)));
}
static inline vec i_total(const int32_t *p, ptrdiff_t part) {
  return _mm512_cvtepi32_ps(_mm512_loadu_si512(p));
}

#elif DF_IS(avx2)

typedef __m256i ints;
typedef struct quads { // pairs of 16 bits
  __m256i first, second;
} quads;
static inline ints i_zero(void) { return _mm256_setzero_si256(); }
static inline void i_store(int32_t *p, ints x) { _mm256_storeu_si256((__m256i *)p, x); }
static inline quads i_weights(const int8_t *p) {
  return (quads){_mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)p)),
                 _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(p + 2 * WIDTH)))};
}
static inline quads i_quad(const activation *p) {
  int32_t a[2];
  memcpy(a, p, sizeof a);
  return (quads){_mm256_set1_epi32(a[0]), _mm256_set1_epi32(a[1])};
}
static inline ints i_dot(ints c, quads w, quads a) {
  c = _mm256_add_epi32(c, _mm256_madd_epi16(w.first, a.first));
  return _mm256_add_epi32(c, _mm256_madd_epi16(w.second, a.second));
}
static inline void i_put(activation *p, ptrdiff_t part, vec x) {
  const __m256i y = _mm256_castps_si256(x);
  _mm_storeu_si128((__m128i *)p,
                   _mm_packus_epi32(_mm256_castsi256_si128(y), _mm256_extracti128_si256(y, 1)));
}
static inline vec i_total(const int32_t *p, ptrdiff_t part) {
  return _mm256_cvtepi32_ps(_mm256_loadu_si256((const __m256i *)p));
}

#elif DF_IS(neon)

typedef int32x4_t ints;
typedef int8x16_t weights;
typedef int16x4_t quads;
static inline ints i_zero(void) { return vdupq_n_s32(0); }
static inline void i_store(int32_t *p, ints x) { vst1q_s32(p, x); }
static inline weights i_weights(const int8_t *p) { return vld1q_s8(p); }
static inline quads i_quad(const activation *p) { return vld1_s16(p); }
static inline ints i_dot(ints c, weights w, quads a) {
  const int16x8_t low = vmovl_s8(vget_low_s8(w)), high = vmovl_s8(vget_high_s8(w));
  c = vmlal_lane_s16(c, vget_low_s16(low), a, 0);
  c = vmlal_lane_s16(c, vget_high_s16(low), a, 1);
  c = vmlal_lane_s16(c, vget_low_s16(high), a, 2);
  return vmlal_lane_s16(c, vget_high_s16(high), a, 3);
}
static inline void i_put(activation *p, ptrdiff_t part, vec x) {
  vst1_s16(p, vmovn_s32(vreinterpretq_s32_f32(x)));
}
static inline vec i_total(const int32_t *p, ptrdiff_t part) { return vcvtq_f32_s32(vld1q_s32(p)); }

#elif DF_IS(simd128) || DF_IS(relaxed)

typedef v128_t ints;
static inline ints i_zero(void) { return wasm_i32x4_splat(0); }
static inline void i_store(int32_t *p, ints x) { wasm_v128_store(p, x); }
#if RELAXED_DOT
typedef v128_t quads;
static inline quads i_weights(const int8_t *p) { return wasm_v128_load(p); }
static inline quads i_quad(const activation *p) { return wasm_v128_load32_splat(p); }
static inline ints i_dot(ints c, quads w, quads a) {
  return wasm_i32x4_relaxed_dot_i8x16_i7x16_add(w, a, c);
}
static inline void i_put(activation *p, ptrdiff_t part, vec x) {
  const v128_t high = wasm_u32x4_shr(x, 7), low = wasm_v128_and(x, wasm_i32x4_splat(127));
  wasm_v128_store32_lane(
      p, wasm_i8x16_shuffle(high, high, 0, 4, 8, 12, 0, 4, 8, 12, 0, 4, 8, 12, 0, 4, 8, 12), 0);
  wasm_v128_store32_lane(
      p + part, wasm_i8x16_shuffle(low, low, 0, 4, 8, 12, 0, 4, 8, 12, 0, 4, 8, 12, 0, 4, 8, 12),
      0);
}
static inline vec i_total(const int32_t *p, ptrdiff_t part) {
  return wasm_f32x4_convert_i32x4(
      wasm_i32x4_add(wasm_i32x4_shl(wasm_v128_load(p), 7), wasm_v128_load(p + part)));
}
#else
typedef struct quads { // pairs of 16 bits
  v128_t first, second;
} quads;
static inline quads i_weights(const int8_t *p) {
  return (quads){wasm_i16x8_load8x8(p), wasm_i16x8_load8x8(p + 8)};
}
static inline quads i_quad(const activation *p) {
  return (quads){wasm_v128_load32_splat(p), wasm_v128_load32_splat(p + 2)};
}
static inline ints i_dot(ints c, quads w, quads a) {
  c = wasm_i32x4_add(c, wasm_i32x4_dot_i16x8(w.first, a.first));
  return wasm_i32x4_add(c, wasm_i32x4_dot_i16x8(w.second, a.second));
}
static inline void i_put(activation *p, ptrdiff_t part, vec x) {
  wasm_v128_store64_lane(p, wasm_i16x8_narrow_i32x4(x, x), 0);
}
static inline vec i_total(const int32_t *p, ptrdiff_t part) {
  return wasm_f32x4_convert_i32x4(wasm_v128_load(p));
}
#endif

#else

typedef int32_t ints;
typedef const int8_t *weights;
typedef const activation *quads;
static inline ints i_zero(void) { return 0; }
static inline void i_store(int32_t *p, ints x) { *p = x; }
static inline weights i_weights(const int8_t *p) { return p; }
static inline quads i_quad(const activation *p) { return p; }
static inline ints i_dot(ints c, weights w, quads a) {
  return c + w[0] * a[0] + w[1] * a[1] + w[2] * a[2] + w[3] * a[3];
}
static inline void i_put(activation *p, ptrdiff_t part, vec x) {
  uint32_t b;
  memcpy(&b, &x, sizeof b);
  *p = (activation)b;
}
static inline vec i_total(const int32_t *p, ptrdiff_t part) { return (float)*p; }

#endif

#if !DF_IS(neon) && !DF_IS(scalar)
typedef quads weights;
#endif

#endif
