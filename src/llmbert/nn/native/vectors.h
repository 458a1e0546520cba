// As many numbers at once as a register holds.

#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace {

#if defined(__AVX512F__)
constexpr int LANES = 16;
#else
constexpr int LANES = 8;
#endif
typedef float Floats __attribute__((vector_size(4 * LANES)));
typedef int32_t Ints __attribute__((vector_size(4 * LANES)));
typedef uint32_t Words __attribute__((vector_size(4 * LANES)));
typedef uint16_t Halves __attribute__((vector_size(2 * LANES)));

inline Floats load(const float* from) {
  Floats found;
  std::memcpy(&found, from, sizeof found);
  return found;
}

inline Floats load(const uint16_t* from) {  // bfloat16 is the upper half of a float32
#if defined(__AVX512F__)  // compilers make slower code of the plain words below
  const __m256i halves = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
  return (Floats)_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16));
#elif defined(__AVX2__)
  const __m128i halves = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
  return (Floats)_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(halves), 16));
#else
  Halves halves;
  std::memcpy(&halves, from, sizeof halves);
  const Words words = __builtin_convertvector(halves, Words) << 16;
  Floats found;
  std::memcpy(&found, &words, sizeof found);
  return found;
#endif
}

inline void store(float* to, Floats values) { std::memcpy(to, &values, sizeof values); }

inline void store_rounded(float* to, Floats values) { store(to, values); }

inline void store_rounded(uint16_t* to, Floats values) {  // the nearer bfloat16, of two as near the even one
#if defined(__AVX512BF16__)
  const __m256bh narrow = _mm512_cvtneps_pbh((__m512)values);
  std::memcpy(to, &narrow, sizeof narrow);
  return;
#endif
  Words words;
  std::memcpy(&words, &values, sizeof words);
  const Halves halves = __builtin_convertvector((words + 0x7fff + ((words >> 16) & 1)) >> 16, Halves);
  std::memcpy(to, &halves, sizeof halves);
}

inline float number(float x) { return x; }
inline float number(uint16_t x) {
  const uint32_t word = uint32_t(x) << 16;
  float found;
  std::memcpy(&found, &word, sizeof found);
  return found;
}

inline float sum(Floats values) {
#if defined(__AVX512F__)
  return _mm512_reduce_add_ps((__m512)values);
#elif defined(__AVX2__)
  __m128 half = _mm_add_ps(_mm256_castps256_ps128((__m256)values), _mm256_extractf128_ps((__m256)values, 1));
  half = _mm_add_ps(half, _mm_movehl_ps(half, half));
  return _mm_cvtss_f32(_mm_add_ss(half, _mm_movehdup_ps(half)));
#else
  float parts[LANES];
  store(parts, values);
  for (int half = LANES / 2; half; half /= 2)
    for (int i = 0; i < half; i++) parts[i] += parts[i + half];
  return parts[0];
#endif
}

// What an RMS norm multiplies by. Squares that overflow make it no number, so that it is seen: 0 would hide it.
inline float inverse_root(float squares, int64_t width, float epsilon) {
  return std::isfinite(squares) ? 1.0f / std::sqrt(squares / float(width) + epsilon) : NAN;
}

// e^x to a few units in the last place: 2^n by its exponent's bits, and a polynomial for the rest (Cody and Waite 1980).
inline Floats exponential(Floats x) {
  x = x > 88.0f ? Floats{} + 88.0f : x;
  x = x < -87.0f ? Floats{} - 87.0f : x;
  const Floats shifted = x * 1.44269504f + 12582912.0f;  // 1.5 * 2^23: what is behind the point is rounded away
  const Floats whole = shifted - 12582912.0f;
  const Floats rest = (x - whole * 0.693359375f) + whole * 2.12194440e-4f;
  Floats found = rest * 1.9875691500e-4f + 1.3981999507e-3f;
  found = found * rest + 8.3334519073e-3f;
  found = found * rest + 4.1665795894e-2f;
  found = found * rest + 1.6666665459e-1f;
  found = found * rest + 5.0000001201e-1f;
  found = found * rest * rest + rest + 1.0f;
  const Ints power = (__builtin_convertvector(whole, Ints) + 127) << 23;
  Floats scale;
  std::memcpy(&scale, &power, sizeof scale);
  return found * scale;
}

}  // namespace
