// The part of the vocabulary for numbers of 8 bits; simd.h has the floats.
//
// A quad is four bytes that belong to four consecutive k. Integers: lanes of 32 bits, WIDTH of them.
//   i_zero()  i_store(p, x)  v_integer(p): WIDTH int32 at p as floats
//   i_load(p): 4 WIDTH signed bytes, a quad for each lane, as QUAD(lane, k) lays them out
//   i_quad(p): a quad of bytes from 0 to 127, in all lanes
//   i_dot(c, w, a): lane by lane, c + the sum of the four products of w and a, without rounding or saturation:
//     neither -128 nor bytes above 127 occur, so that two products fit 16 bits (2 127^2 < 2^15)
//   v_low_bytes(p, x): the lowest byte of each lane's pattern, WIDTH bytes
#ifndef DF_KERNELS_BYTES_H
#define DF_KERNELS_BYTES_H

#include "kernels/simd.h"

#if DF_IS(avx512)

typedef __m512i ints;
typedef __m512i quads;
static inline ints i_zero(void) { return _mm512_setzero_si512(); }
static inline void i_store(int32_t *p, ints x) { _mm512_storeu_si512(p, x); }
static inline vec v_integer(const int32_t *p) { return _mm512_cvtepi32_ps(_mm512_loadu_si512(p)); }
static inline ints i_load(const int8_t *p) { return _mm512_loadu_si512(p); }
static inline quads i_quad(const uint8_t *p) {
  int32_t a;
  memcpy(&a, p, sizeof a);
  return _mm512_set1_epi32(a);
}
static inline ints i_dot(ints c, ints w, quads a) {
  const ints pairs = _mm512_maddubs_epi16(a, w);
  return _mm512_add_epi32(c, _mm512_madd_epi16(pairs, _mm512_set1_epi16(1)));
}
static inline void v_low_bytes(uint8_t *p, vec x) {
  _mm_storeu_si128((__m128i *)p, _mm512_cvtepi32_epi8(_mm512_castps_si512(x)));
}

#elif DF_IS(avx2)

typedef __m256i ints;
typedef __m256i quads;
static inline ints i_zero(void) { return _mm256_setzero_si256(); }
static inline void i_store(int32_t *p, ints x) { _mm256_storeu_si256((__m256i *)p, x); }
static inline vec v_integer(const int32_t *p) {
  return _mm256_cvtepi32_ps(_mm256_loadu_si256((const __m256i *)p));
}
static inline ints i_load(const int8_t *p) { return _mm256_loadu_si256((const __m256i *)p); }
static inline quads i_quad(const uint8_t *p) {
  int32_t a;
  memcpy(&a, p, sizeof a);
  return _mm256_set1_epi32(a);
}
static inline ints i_dot(ints c, ints w, quads a) {
  const ints pairs = _mm256_maddubs_epi16(a, w);
  return _mm256_add_epi32(c, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}
static inline void v_low_bytes(uint8_t *p, vec x) {
  const __m256i first = _mm256_set1_epi32(0x0c080400);
  const __m256i y = _mm256_shuffle_epi8(_mm256_castps_si256(x), first);
  const int32_t low = _mm256_extract_epi32(y, 0), high = _mm256_extract_epi32(y, 4);
  memcpy(p, &low, sizeof low);
  memcpy(p + 4, &high, sizeof high);
}

#elif DF_IS(neon)

// Pairs of k: the first halves of all quads, then the second.
#define QUAD(lane, k) ((k) / 2 * 8 + 2 * (lane) + (k) % 2)
typedef int32x4_t ints;
typedef struct quads {
  int8x8_t first, second;
} quads;
static inline ints i_zero(void) { return vdupq_n_s32(0); }
static inline void i_store(int32_t *p, ints x) { vst1q_s32(p, x); }
static inline vec v_integer(const int32_t *p) { return vcvtq_f32_s32(vld1q_s32(p)); }
static inline ints i_load(const int8_t *p) { return vreinterpretq_s32_s8(vld1q_s8(p)); }
static inline quads i_quad(const uint8_t *p) {
  int16_t a[2];
  memcpy(a, p, sizeof a);
  return (quads){vreinterpret_s8_s16(vdup_n_s16(a[0])), vreinterpret_s8_s16(vdup_n_s16(a[1]))};
}
static inline ints i_dot(ints c, ints w, quads a) {
  const int8x16_t b = vreinterpretq_s8_s32(w);
  c = vpadalq_s16(c, vmull_s8(vget_low_s8(b), a.first));
  return vpadalq_s16(c, vmull_s8(vget_high_s8(b), a.second));
}
static inline void v_low_bytes(uint8_t *p, vec x) {
  const uint16x4_t y = vmovn_u32(vreinterpretq_u32_f32(x));
  const uint8x8_t z = vmovn_u16(vcombine_u16(y, y));
  vst1_lane_u32((uint32_t *)(void *)p, vreinterpret_u32_u8(z), 0);
}

#elif DF_IS(simd128) || DF_IS(relaxed)

typedef v128_t ints;
static inline ints i_zero(void) { return wasm_i32x4_splat(0); }
static inline void i_store(int32_t *p, ints x) { wasm_v128_store(p, x); }
static inline vec v_integer(const int32_t *p) {
  return wasm_f32x4_convert_i32x4(wasm_v128_load(p));
}
static inline ints i_load(const int8_t *p) { return wasm_v128_load(p); }
#if DF_IS(relaxed)
typedef v128_t quads;
static inline quads i_quad(const uint8_t *p) { return wasm_v128_load32_splat(p); }
static inline ints i_dot(ints c, ints w, quads a) {
  return wasm_i32x4_relaxed_dot_i8x16_i7x16_add(w, a, c);
}
#else
// Pairs of k: the first halves of all quads, then the second. Bytes are widened to 16 bits.
#define QUAD(lane, k) ((k) / 2 * 8 + 2 * (lane) + (k) % 2)
typedef struct quads {
  v128_t first, second;
} quads;
static inline quads i_quad(const uint8_t *p) {
  return (quads){wasm_i16x8_extend_low_i8x16(wasm_v128_load16_splat(p)),
                 wasm_i16x8_extend_low_i8x16(wasm_v128_load16_splat(p + 2))};
}
static inline ints i_dot(ints c, ints w, quads a) {
  c = wasm_i32x4_add(c, wasm_i32x4_dot_i16x8(wasm_i16x8_extend_low_i8x16(w), a.first));
  return wasm_i32x4_add(c, wasm_i32x4_dot_i16x8(wasm_i16x8_extend_high_i8x16(w), a.second));
}
#endif
static inline void v_low_bytes(uint8_t *p, vec x) {
  wasm_v128_store32_lane(
      p, wasm_i8x16_shuffle(x, x, 0, 4, 8, 12, 0, 4, 8, 12, 0, 4, 8, 12, 0, 4, 8, 12), 0);
}

#else

typedef int32_t ints; // or four bytes
typedef uint32_t quads;
static inline ints i_zero(void) { return 0; }
static inline void i_store(int32_t *p, ints x) { *p = x; }
static inline vec v_integer(const int32_t *p) { return (float)*p; }
static inline ints i_load(const int8_t *p) {
  ints w;
  memcpy(&w, p, sizeof w);
  return w;
}
static inline quads i_quad(const uint8_t *p) {
  quads a;
  memcpy(&a, p, sizeof a);
  return a;
}
static inline ints i_dot(ints c, ints w, quads a) {
  for (int i = 0; i < 32; i += 8) c += (int8_t)((uint32_t)w >> i) * (int)(a >> i & 255);
  return c;
}
static inline void v_low_bytes(uint8_t *p, vec x) {
  uint32_t b;
  memcpy(&b, &x, sizeof b);
  *p = (uint8_t)b;
}

#endif

#ifndef QUAD
#define QUAD(lane, k) (4 * (lane) + (k))
#endif

#endif
