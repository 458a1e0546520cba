// A few tokens of several texts through every layer of a decoder in one call, on a processor: a GPT, or one that looks at
// an encoded source.
//
// Writing one token reads every weight once, so the time is that of reading them: rows of a matrix are dealt out to torch's
// own threads (the same OpenMP), since others would fight with them for the processor. Weights are float32 or bfloat16,
// with all arithmetic in float32, or int8 with a scale for each row; these meet activations that are rounded to eight
// bits too, with a scale for each 64. Each product is summed in one order whatever stands beside it, so that a token is
// the same in any company.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <vector>
#include <omp.h>

#include "vectors.h"

// (rows, columns); scale of each row where it is int8; bias or null. The weights lie in panels of sixteen rows, column by
// column: (panels, columns, 16), and for int8 four columns at a time: (panels, columns / 4, 16, 4); zeros fill the last.
struct Matrix {
  const void* weight;
  const float* scale;
  const float* bias;
  int64_t rows, columns, kind;
};

struct Norm {  // gain null: leaves all as it is
  const float* gain;
  const float* bias;
  double epsilon;
  int64_t kind;
};

// keys, values: (batch, key_value_heads, capacity, head_width); of a source (batch, heads, source, head_width), where
// cross_query has weights.
struct Layer {
  Norm attention_norm;
  Matrix qkv;
  const float* query_gain;
  const float* key_gain;
  double gain_epsilon;
  Matrix out;
  Norm cross_norm;
  Matrix cross_query;
  Matrix cross_out;
  Norm feedforward_norm;
  Matrix gate;  // without weights where the layer is not gated
  Matrix up;
  Matrix down;
  float* keys;
  float* values;
  const float* source_keys;
  const float* source_values;
};

struct Model {
  const Layer* layers;
  int64_t depth, width, heads, key_value_heads, head_width, inner, activation, norm_first;
  Matrix embedding;
  double scale;            // of what is embedded, before its position is added
  const float* positions;  // (context, width) or null
  Norm embedding_norm;
  Norm norm;
  Matrix head;
};

namespace {

enum Kind { FLOAT32, BFLOAT16, INT8 };
enum NormKind { LAYER, RMS };
enum Activation { RELU, GELU, GELU_TANH, SILU };

inline Floats activate(Floats x, int64_t kind) {
  if (kind == RELU) return x > 0.0f ? x : Floats{};
  if (kind == SILU) return x / (1.0f + exponential(-x));
  if (kind == GELU_TANH) return x / (1.0f + exponential(-1.59576912f * (x + 0.044715f * x * x * x)));
  Floats found;
  for (int i = 0; i < LANES; i++) found[i] = 0.5f * x[i] * (1.0f + std::erf(x[i] * 0.70710678f));
  return found;
}

constexpr int64_t BYTES_AHEAD = 8192;  // fetched into the second cache while others are multiplied

// ---- the parts of a step ---------------------------------------------------------------------------------------------

// Products of ROWS rows with x. A register waits four turns for its own last sum, so eight or more are kept going: of
// several rows, or of several places along a row.
template <int ROWS>
__attribute__((always_inline)) inline void products(const float* const (&rows)[ROWS], int64_t columns, const float* x,
                                                    float (&found)[ROWS]) {
  constexpr int PLACES = 8 / ROWS;
  Floats total[PLACES][ROWS];
  for (int p = 0; p < PLACES; p++)
    for (int r = 0; r < ROWS; r++) total[p][r] = Floats{};
  int64_t k = 0;
  const auto take = [&](int p) __attribute__((always_inline)) {
    const Floats part = load(x + k);
    for (int r = 0; r < ROWS; r++) {
      const float* from = rows[r] + k;
      __builtin_prefetch(from + BYTES_AHEAD / sizeof(float), 0, 2);
      total[p][r] += load(from) * part;
    }
    k += LANES;
  };
  while (k + PLACES * LANES <= columns)
    for (int p = 0; p < PLACES; p++) take(p);
  while (k + LANES <= columns) take(0);
  for (int r = 0; r < ROWS; r++) {
    Floats whole = total[0][r];
    for (int p = 1; p < PLACES; p++) whole += total[p][r];
    found[r] = sum(whole);
    for (int64_t i = k; i < columns; i++) found[r] += rows[r][i] * x[i];
  }
}

struct Span {
  int64_t first, last;
};

inline Span share(int64_t count, int index, int size) { return {count * index / size, count * (index + 1) / size}; }

// ---- matrices --------------------------------------------------------------------------------------------------------

constexpr int64_t PANEL = 16;  // rows
constexpr int VECTORS = PANEL / LANES;
constexpr int64_t GROUP = 4;   // columns of int8 weights that lie side by side
constexpr int64_t BLOCK = 64;  // columns whose activations share a scale

inline int64_t panels_of(const Matrix& m) { return (m.rows + PANEL - 1) / PANEL; }

#if defined(__AVX512VNNI__) || (defined(__AVXVNNI__) && !defined(__AVX512F__))
constexpr int32_t OFFSET = 128;  // what is added to weights where bytes without a sign are multiplied with such that have one
#else
constexpr int32_t OFFSET = 0;
#endif

// What a matrix is multiplied with: x (tokens, columns), and for int8 weights the same as whole numbers, with a scale for
// each block of columns, and what the sums of products with a block begin at.
struct Input {
  const float* x = nullptr;
  int64_t tokens = 0, columns = 0, padded = 0, blocks = 0;
  std::vector<int8_t> numbers;   // (tokens, padded), zeros behind the columns
  std::vector<float> scales;     // (tokens, blocks)
  std::vector<int32_t> begins;   // (tokens, blocks): -OFFSET times the sum of the block's numbers

  void set(const float* from, int64_t count, int64_t wide, int64_t kind) {
    x = from, tokens = count, columns = wide;
    if (kind != INT8) return;
    padded = (columns + GROUP - 1) / GROUP * GROUP, blocks = (columns + BLOCK - 1) / BLOCK;
    numbers.assign(tokens * padded, 0);
    scales.resize(tokens * blocks);
    begins.resize(tokens * blocks);
  }

  void fill(Span some, int64_t kind) {
    if (kind != INT8) return;
    for (int64_t t = some.first; t < some.last; t++)
      for (int64_t b = 0; b < blocks; b++) {
        const int64_t first = b * BLOCK, count = std::min(BLOCK, columns - first);
        round(x + t * columns + first, count, &numbers[t * padded + first], t * blocks + b);
      }
  }

  // A block in whole steps, RANGE of them up to its largest magnitude.
  void round(const float* from, int64_t count, int8_t* to, int64_t block) {
    constexpr float RANGE = 127.0f;
    const int64_t whole = count / LANES * LANES;
    Floats largest = {}, wrongs = {};  // what is no number stays none, whatever it is multiplied with
    for (int64_t i = 0; i < whole; i += LANES) {
      const Floats part = load(from + i), other = -part, magnitude = part > other ? part : other;
      largest = magnitude > largest ? magnitude : largest;
      wrongs += part - part;
    }
    float most = 1e-30f, wrong = sum(wrongs);
#if defined(__AVX512F__)
    most = std::max(most, _mm512_reduce_max_ps((__m512)largest));
#else
    for (int lane = 0; lane < LANES; lane++) most = std::max(most, largest[lane]);
#endif
    for (int64_t i = whole; i < count; i++) most = std::max(most, std::fabs(from[i])), wrong += from[i] - from[i];
    const float steps = RANGE / most;
    int32_t total = 0;
    for (int64_t i = 0; i < whole; i += LANES) {
#if defined(__AVX512F__)
      const __m512i numbers = _mm512_cvtps_epi32((__m512)(load(from + i) * steps));
      _mm_storeu_si128(reinterpret_cast<__m128i*>(to + i), _mm512_cvtepi32_epi8(numbers));
      if (OFFSET) total += _mm512_reduce_add_epi32(numbers);
#else
      const Floats magic = Floats{} + 12582912.0f;  // 1.5 * 2^23: what is behind the point is rounded away
      const Ints numbers = __builtin_convertvector(load(from + i) * steps + magic - magic, Ints);
      for (int lane = 0; lane < LANES; lane++) to[i + lane] = int8_t(numbers[lane]), total += numbers[lane];
#endif
    }
    for (int64_t i = whole; i < count; i++) to[i] = int8_t(std::nearbyintf(from[i] * steps)), total += to[i];
    scales[block] = most / RANGE + wrong;
    begins[block] = -OFFSET * total;
  }
};

// Sixteen rows' sums so far, as registers; how they grow by four columns of one panel and one token.
#if defined(__AVX512BW__)
typedef __m512i WholeSums;
inline WholeSums all_of(int32_t number) { return _mm512_set1_epi32(number); }
inline Floats as_floats(WholeSums sums) { return (Floats)_mm512_cvtepi32_ps(sums); }
#if defined(__AVX512VNNI__)
typedef __m512i FourColumns;
inline FourColumns four_columns(const int8_t* from) {
  return _mm512_xor_si512(_mm512_loadu_si512(from), _mm512_set1_epi8(char(OFFSET)));
}
inline WholeSums grown(WholeSums sums, FourColumns w, int32_t four) {
  const __m512i x = _mm512_set1_epi32(four);  // compilers copy all sums about what _mm512_dpbusd_epi32 is
  asm("vpdpbusd %2, %1, %0" : "+v"(sums) : "v"(w), "v"(x));
  return sums;
}
#else
struct FourColumns {  // magnitudes and signs: two products of bytes, one of them without a sign, fit in 16 bits then
  __m512i magnitudes;
  __mmask64 below;
};
inline FourColumns four_columns(const int8_t* from) {
  const __m512i w = _mm512_loadu_si512(from);
  return {_mm512_abs_epi8(w), _mm512_movepi8_mask(w)};
}
inline WholeSums grown(WholeSums sums, const FourColumns& w, int32_t four) {
  const __m512i x = _mm512_set1_epi32(four), turned = _mm512_mask_sub_epi8(x, w.below, _mm512_setzero_si512(), x);
  const __m512i pairs = _mm512_maddubs_epi16(w.magnitudes, turned);
  return _mm512_add_epi32(sums, _mm512_madd_epi16(pairs, _mm512_set1_epi16(1)));
}
#endif
#elif defined(__AVX2__) && !defined(__AVX512F__)
typedef __m256i WholeSums;
typedef __m256i FourColumns;
inline WholeSums all_of(int32_t number) { return _mm256_set1_epi32(number); }
inline Floats as_floats(WholeSums sums) { return (Floats)_mm256_cvtepi32_ps(sums); }
#if defined(__AVXVNNI__)
inline FourColumns four_columns(const int8_t* from) {
  return _mm256_xor_si256(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)), _mm256_set1_epi8(char(OFFSET)));
}
inline WholeSums grown(WholeSums sums, FourColumns w, int32_t four) {
  return _mm256_dpbusd_avx_epi32(sums, w, _mm256_set1_epi32(four));
}
#else
inline FourColumns four_columns(const int8_t* from) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)); }
inline WholeSums grown(WholeSums sums, FourColumns w, int32_t four) {  // with a weight's sign moved to the activation
  const __m256i pairs = _mm256_maddubs_epi16(_mm256_sign_epi8(w, w), _mm256_sign_epi8(_mm256_set1_epi32(four), w));
  return _mm256_add_epi32(sums, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}
#endif
#else
typedef Ints WholeSums;
struct FourColumns {
  Ints columns[GROUP];
};
inline WholeSums all_of(int32_t number) { return Ints{} + number; }
inline Floats as_floats(WholeSums sums) { return __builtin_convertvector(sums, Floats); }
inline FourColumns four_columns(const int8_t* from) {
  FourColumns found;
  for (int i = 0; i < LANES; i++)
    for (int c = 0; c < GROUP; c++) found.columns[c][i] = from[GROUP * i + c];
  return found;
}
inline WholeSums grown(WholeSums sums, const FourColumns& w, int32_t four) {
  int8_t x[GROUP];
  std::memcpy(x, &four, sizeof x);
  for (int c = 0; c < GROUP; c++) sums += w.columns[c] * int32_t(x[c]);
  return sums;
}
#endif

// What is fetched into the second cache meanwhile: what lies so many bytes behind a weight, 0: nothing; of some passes over
// the same weights each fetches every `turns`th line, so that memory is busy in all of them.
struct Ahead {
  int64_t bytes, turns;
  int64_t wait;  // lines until this one's turn, and a line

  template <int PANELS>
  __attribute__((always_inline)) inline void fetch(const void* from, int64_t stride) {
    if (!bytes || --wait) return;
    wait = turns;
#pragma GCC unroll 8
    for (int p = 0; p < PANELS; p++) __builtin_prefetch(static_cast<const char*>(from) + p * stride + bytes, 0, 2);
  }
};

// Sums of PANELS panels and TOKENS tokens from `first` on.
template <class W, int PANELS, int TOKENS>
__attribute__((always_inline)) inline void panel_sums(const W* weight, const Input& in, int64_t first, Ahead ahead,
                                                      Floats (&found)[TOKENS][PANELS * VECTORS]) {
  constexpr int WIDE = PANELS * VECTORS;
  constexpr int64_t LINE = 64 / sizeof(W) / PANEL;  // columns that fill a cache line
  const int64_t stride = in.columns * PANEL;
  Floats total[TOKENS][WIDE];
#pragma GCC unroll 32
  for (int t = 0; t < TOKENS; t++)
#pragma GCC unroll 32
    for (int i = 0; i < WIDE; i++) total[t][i] = Floats{};
  const float* x = in.x + first * in.columns;
  for (int64_t k = 0; k < in.columns; k++) {
    Floats w[WIDE];
#pragma GCC unroll 32
    for (int i = 0; i < WIDE; i++) w[i] = load(weight + (i / VECTORS) * stride + k * PANEL + (i % VECTORS) * LANES);
    if (k % LINE == 0) ahead.fetch<PANELS>(weight + k * PANEL, stride * int64_t(sizeof(W)));
#pragma GCC unroll 32
    for (int t = 0; t < TOKENS; t++) {
      const Floats part = Floats{} + x[t * in.columns + k];
#pragma GCC unroll 32
      for (int i = 0; i < WIDE; i++) total[t][i] += w[i] * part;
    }
  }
#pragma GCC unroll 32
  for (int t = 0; t < TOKENS; t++)
#pragma GCC unroll 32
    for (int i = 0; i < WIDE; i++) found[t][i] = total[t][i];
}

// What a block of columns adds to the sums found. Not inlined: compilers run out of registers where both kinds of sums are
// about.
template <int WIDE, int TOKENS>
__attribute__((noinline)) void block_sums(const int8_t* weight, int64_t stride, const int8_t* x, int64_t padded,
                                          int64_t columns, Ahead& ahead, const int32_t* begins, int64_t blocks,
                                          Floats (&found)[TOKENS][WIDE], const float* scales) {
  WholeSums total[TOKENS][WIDE];
#pragma GCC unroll 32
  for (int t = 0; t < TOKENS; t++)
#pragma GCC unroll 32
    for (int i = 0; i < WIDE; i++) total[t][i] = all_of(begins[t * blocks]);
  for (int64_t k = 0; k < columns; k += GROUP) {
    FourColumns w[WIDE];
#pragma GCC unroll 32
    for (int i = 0; i < WIDE; i++)
      w[i] = four_columns(weight + (i / VECTORS) * stride + k * PANEL + (i % VECTORS) * GROUP * LANES);
    ahead.fetch<WIDE / VECTORS>(weight + k * PANEL, stride);
#pragma GCC unroll 32
    for (int t = 0; t < TOKENS; t++) {
      int32_t four;
      std::memcpy(&four, x + t * padded + k, sizeof four);
#pragma GCC unroll 32
      for (int i = 0; i < WIDE; i++) total[t][i] = grown(total[t][i], w[i], four);
    }
  }
#pragma GCC unroll 32
  for (int t = 0; t < TOKENS; t++)
#pragma GCC unroll 32
    for (int i = 0; i < WIDE; i++) found[t][i] += as_floats(total[t][i]) * scales[t * blocks];
}

template <int PANELS, int TOKENS>
__attribute__((always_inline)) inline void panel_sums(const int8_t* weight, const Input& in, int64_t first, Ahead ahead,
                                                      Floats (&found)[TOKENS][PANELS * VECTORS]) {
  for (int t = 0; t < TOKENS; t++)
    for (int i = 0; i < PANELS * VECTORS; i++) found[t][i] = Floats{};
  for (int64_t block = 0; block < in.blocks; block++) {
    const int64_t begin = block * BLOCK, at = first * in.blocks + block;
    block_sums<PANELS * VECTORS, TOKENS>(weight + begin * PANEL, in.padded * PANEL, &in.numbers[first * in.padded + begin],
                                         in.padded, std::min(BLOCK, in.padded - begin), ahead, &in.begins[at], in.blocks,
                                         found, &in.scales[at]);
  }
}

// Where products go: y[t * stride + row] = (or += with add) what was found, scaled and with the bias.
struct Output {
  float* y;
  int64_t stride;
  bool add;

  // LANES rows of a token, or as many as there are.
  void put(const Matrix& m, int64_t row, int64_t token, Floats products) const {
    const int64_t count = std::min<int64_t>(LANES, m.rows - row);
    if (count <= 0) return;
    float* to = y + token * stride + row;
    const bool whole = count == LANES;
    const auto read = [&](const float* from) {
      float part[LANES] = {};
      std::copy(from, from + count, part);
      return load(part);
    };
    const Floats bias = !m.bias ? Floats{} : whole ? load(m.bias + row) : read(m.bias + row);
    Floats value = m.scale ? products * (whole ? load(m.scale + row) : read(m.scale + row)) + bias : products + bias;
    if (whole) return store(to, add ? load(to) + value : value);
    for (int64_t i = 0; i < count; i++) to[i] = add ? to[i] + value[i] : value[i];
  }
};

#if defined(__AVX512F__)
constexpr int TOGETHER = 4;  // panels that are multiplied at once: as many as there are registers for
#else
constexpr int TOGETHER = 1;
#endif

template <class W, int PANELS, int TOKENS>
inline void some_panels(const Matrix& m, int64_t panel, const Input& in, int64_t first, Ahead ahead, const Output& out) {
  const int64_t columns = m.kind == INT8 ? in.padded : m.columns;
  Floats found[TOKENS][PANELS * VECTORS];
  const W* weight = static_cast<const W*>(m.weight) + panel * columns * PANEL;
  if constexpr (std::is_same_v<W, int8_t>)
    panel_sums<PANELS, TOKENS>(weight, in, first, ahead, found);
  else
    panel_sums<W, PANELS, TOKENS>(weight, in, first, ahead, found);
  for (int t = 0; t < TOKENS; t++)
    for (int i = 0; i < PANELS * VECTORS; i++) out.put(m, panel * PANEL + i * LANES, first + t, found[t][i]);
}

template <class W, int TOKENS>
void multiply_tokens(const Matrix& m, Span panels, const Input& in, int64_t first, Ahead ahead, const Output& out) {
  int64_t panel = panels.first;
  for (; panel + TOGETHER <= panels.last; panel += TOGETHER)
    some_panels<W, TOGETHER, TOKENS>(m, panel, in, first, ahead, out);
  for (; panel < panels.last; panel++) some_panels<W, 1, TOKENS>(m, panel, in, first, ahead, out);
}

template <class W>
void multiply_all(const Matrix& m, Span panels, const Input& in, const Output& out) {
  // A few panels at a time, so that later tokens find them in the cache; those that come next are fetched meanwhile, or
  // where that is too much, what is a little further on.
  const int64_t columns = m.kind == INT8 ? in.padded : m.columns, bytes = TOGETHER * columns * PANEL * sizeof(W);
  const bool next = bytes <= 32 * BYTES_AHEAD;
  const int64_t rest = in.tokens % 6, passes = in.tokens / 6 + rest / 4 + (rest % 4 > 0);
  for (int64_t panel = panels.first; panel < panels.last; panel += TOGETHER) {
    const Span some = {panel, std::min<int64_t>(panel + TOGETHER, panels.last)};
    int64_t t = 0, pass = 0;
    const auto ahead = [&] {
      pass++;
      return next ? Ahead{bytes, passes, pass} : Ahead{pass == 1 ? 2 * BYTES_AHEAD : 0, 1, 1};
    };
    for (; t + 6 <= in.tokens; t += 6) multiply_tokens<W, 6>(m, some, in, t, ahead(), out);
    for (; t + 4 <= in.tokens; t += 4) multiply_tokens<W, 4>(m, some, in, t, ahead(), out);
    switch (in.tokens - t) {
      case 3: multiply_tokens<W, 3>(m, some, in, t, ahead(), out); break;
      case 2: multiply_tokens<W, 2>(m, some, in, t, ahead(), out); break;
      case 1: multiply_tokens<W, 1>(m, some, in, t, ahead(), out); break;
    }
  }
}

void multiply(const Matrix& m, Span panels, const Input& in, const Output& out) {
  switch (m.kind) {
    case FLOAT32: return multiply_all<float>(m, panels, in, out);
    case BFLOAT16: return multiply_all<uint16_t>(m, panels, in, out);
    case INT8: return multiply_all<int8_t>(m, panels, in, out);
  }
}

// Row `id` of a matrix in float32.
void row_of(const Matrix& m, int64_t id, float* to) {
  const float scale = m.scale ? m.scale[id] : 1.0f;
  const int64_t padded = m.kind == INT8 ? (m.columns + GROUP - 1) / GROUP * GROUP : m.columns, row = id % PANEL;
  const int64_t base = id / PANEL * padded * PANEL;
  for (int64_t k = 0; k < m.columns; k++) {
    const int64_t at = base + k * PANEL + row;
    if (m.kind == FLOAT32) to[k] = static_cast<const float*>(m.weight)[at];
    if (m.kind == BFLOAT16) to[k] = number(static_cast<const uint16_t*>(m.weight)[at]);
    if (m.kind == INT8)
      to[k] = float(static_cast<const int8_t*>(m.weight)[base + k / GROUP * GROUP * PANEL + GROUP * row + k % GROUP]) * scale;
  }
}

void normalise(const Norm& norm, const float* x, int64_t width, float* to) {
  if (!norm.gain) {
    if (to != x) std::copy(x, x + width, to);
    return;
  }
  const int64_t whole = width / LANES * LANES;
  float middle = 0.0f;
  if (norm.kind == LAYER) {
    Floats total = {};
    for (int64_t i = 0; i < whole; i += LANES) total += load(x + i);
    middle = sum(total);
    for (int64_t i = whole; i < width; i++) middle += x[i];
    middle /= float(width);
  }
  Floats squared = {};
  for (int64_t i = 0; i < whole; i += LANES) squared += (load(x + i) - middle) * (load(x + i) - middle);
  float squares = sum(squared);
  for (int64_t i = whole; i < width; i++) squares += (x[i] - middle) * (x[i] - middle);
  const float scale = float(1.0 / std::sqrt(double(squares) / double(width) + norm.epsilon));
  for (int64_t i = 0; i < width; i++)
    to[i] = (x[i] - middle) * scale * norm.gain[i] + (norm.bias ? norm.bias[i] : 0.0f);
}

// One head of one token: normalised where a gain is given, turned where angles are; in place.
void place(float* x, int64_t width, const float* gain, double epsilon, const float* cosine, const float* sine) {
  if (gain) normalise({gain, nullptr, epsilon, RMS}, x, width, x);
  if (!cosine) return;
  for (int64_t i = 0; i < width / 2; i++) {
    const float first = x[i], second = x[i + width / 2];
    x[i] = first * cosine[i] - second * sine[i];
    x[i + width / 2] = second * cosine[i + width / 2] + first * sine[i + width / 2];
  }
}

// Where the keys of a text lie: one behind the other, or each where it is said to.
struct Behind {
  int64_t width;
  int64_t operator()(int64_t j) const { return j * width; }
};

struct Scattered {
  const int64_t* at;
  int64_t operator()(int64_t j) const { return at[j]; }
};

struct Step {
  const Model& m;
  const int64_t* lengths;
  int64_t batch, time, capacity;
  const int64_t* places;  // (batch, placed): the row that each token of a text lies in; or null: in its own
  int64_t placed;
  const int64_t* sources;  // (batch): which source each text looks at
  int64_t source;
  const uint8_t* source_mask;  // (sources, source), 0: padding; or null
  const float* cosine;
  const float* sine;
  int64_t tokens() const { return batch * time; }

  // Where the first `count` tokens of a text lie among the keys of a layer.
  void find(int64_t text, int64_t group, int64_t count, std::vector<int64_t>& at) const {
    at.resize(count);
    for (int64_t j = 0; j < count; j++) {
      const int64_t row = j < placed ? places[text * placed + j] : text;
      at[j] = ((row * m.key_value_heads + group) * capacity + j) * m.head_width;
    }
  }

  // The queries, keys and values of one text and one key-value head → what its query heads find.
  void attend(const Layer& layer, int64_t text, int64_t group, float* qkv, float* to, std::vector<float>& weights,
              std::vector<int64_t>& at_places) const {
    const int64_t width = m.head_width, many = m.heads / m.key_value_heads;
    const int64_t stride = (m.heads + 2 * m.key_value_heads) * width;
    const int64_t base = (text * m.key_value_heads + group) * capacity * width;
    float *keys = layer.keys + base, *values = layer.values + base;
    const float scale = 1.0f / std::sqrt(float(width));
    if (places) find(text, group, lengths[text] + time, at_places);
    for (int64_t t = 0; t < time; t++) {
      const int64_t token = text * time + t, at = lengths[text] + t;
      const float* c = cosine ? cosine + token * width : nullptr;
      const float* s = sine ? sine + token * width : nullptr;
      float* key = qkv + token * stride + (m.heads + group) * width;
      const float* value = key + m.key_value_heads * width;
      place(key, width, layer.key_gain, layer.gain_epsilon, c, s);
      std::copy(key, key + width, keys + at * width);
      std::copy(value, value + width, values + at * width);
      for (int64_t head = group * many; head < (group + 1) * many; head++) {
        float* query = qkv + token * stride + head * width;
        place(query, width, layer.query_gain, layer.gain_epsilon, c, s);
        float* found = to + (token * m.heads + head) * width;
        if (places)
          look(query, layer.keys, layer.values, Scattered{at_places.data()}, at + 1, nullptr, scale, found, weights);
        else
          look(query, keys, values, Behind{width}, at + 1, nullptr, scale, found, weights);
      }
    }
  }

  // The queries of one text and one head → what they find in its source.
  void read(const Layer& layer, int64_t text, int64_t head, const float* queries, float* to,
            std::vector<float>& weights) const {
    const int64_t width = m.head_width, base = (sources[text] * m.heads + head) * source * width;
    const uint8_t* mask = source_mask ? source_mask + sources[text] * source : nullptr;
    const float *keys = layer.source_keys + base, *values = layer.source_values + base;
    for (int64_t t = 0; t < time; t++) {
      const int64_t at = ((text * time + t) * m.heads + head) * width;
      look(queries + at, keys, values, Behind{width}, source, mask, 1.0f / std::sqrt(float(width)), to + at, weights);
    }
  }

  template <class Where>
  void look(const float* query, const float* keys, const float* values, Where where, int64_t count, const uint8_t* mask,
            float scale, float* to, std::vector<float>& weights) const {
    const int64_t width = m.head_width;
    float most = -INFINITY;
    int64_t known = 0;
    const auto meet = [&](auto& rows, auto& found) __attribute__((always_inline)) {
      int64_t next = known;
      for (const float*& row : rows) row = keys + where(next++);
      products(rows, width, query, found);
      for (const float one : found) {
        weights[known] = mask && !mask[known] ? -INFINITY : one * scale;
        most = std::max(most, weights[known++]);
      }
    };
    const float *rows[4], *row[1];
    float some[4], one[1];
    while (known + 4 <= count) meet(rows, some);
    while (known < count) meet(row, one);
    if (most == -INFINITY) {  // nothing but padding, of which torch finds nothing either
      std::fill(to, to + width, 0.0f);
      return;
    }
    float total = 0.0f;
    for (int64_t j = 0; j < count; j += LANES) {  // the room behind is there to be written to
      const Floats before = load(&weights[j]), part = exponential(before - most);
      store(&weights[j], before > -INFINITY ? part : Floats{});
      for (int64_t i = j; i < std::min(j + LANES, count); i++) total += weights[i];
    }
    for (int64_t j = 0; j < count; j++) weights[j] /= total;
    int64_t i = 0;
    for (; i + 4 * LANES <= width; i += 4 * LANES) gather<4>(values + i, where, weights.data(), count, to + i);
    for (; i + LANES <= width; i += LANES) gather<1>(values + i, where, weights.data(), count, to + i);
    for (; i < width; i++) {
      float whole = 0.0f;
      for (int64_t j = 0; j < count; j++) whole += weights[j] * values[where(j) + i];
      to[i] = whole;
    }
  }

  // PARTS registers' width of the values, weighted and summed.
  template <int PARTS, class Where>
  void gather(const float* values, Where where, const float* weights, int64_t count, float* to) const {
    Floats total[PARTS] = {};
    for (int64_t j = 0; j < count; j++)
      for (int p = 0; p < PARTS; p++) {
        const float* from = values + where(j) + p * LANES;
        __builtin_prefetch(from + BYTES_AHEAD / sizeof(float), 0, 2);
        total[p] += weights[j] * load(from);
      }
    for (int p = 0; p < PARTS; p++) store(to + p * LANES, total[p]);
  }

  // Some panels of the inner layer: their products through the activation, times the other half where it is gated.
  void widen(const Layer& layer, Span panels, const Input& in, float* to, float* gates) const {
    multiply(layer.up, panels, in, {to, m.inner, false});
    if (layer.gate.weight) multiply(layer.gate, panels, in, {gates, m.inner, false});
    const Span rows = {panels.first * PANEL, std::min(panels.last * PANEL, m.inner)};
    for (int64_t t = 0; t < tokens(); t++) {
      float* row = to + t * m.inner;
      const float* through = layer.gate.weight ? gates + t * m.inner : row;
      for (int64_t i = rows.first; i < rows.last; i += LANES) {
        float part[LANES] = {};
        const int64_t some = std::min<int64_t>(LANES, rows.last - i);
        std::copy(through + i, through + i + some, part);
        store(part, activate(load(part), m.activation));
        for (int64_t k = 0; k < some; k++) row[i + k] = layer.gate.weight ? part[k] * row[i + k] : part[k];
      }
    }
  }
};

}  // namespace

// ids (batch, time), lengths (batch): tokens each text has already; places (batch, placed), or null: the row of the keys
// that each of a text's first tokens lies in; cosine, sine: (batch, time, head_width) or null; source, source_mask: of what
// the layers look at, and sources (batch): which of them each text does; logits: (batch, time, vocabulary), or with last
// (batch, 1, vocabulary). Keys and values of the layers get the new tokens'.
extern "C" void llmbert_decoder_step(const Model* model, const int64_t* ids, const int64_t* lengths, int64_t batch,
                                     int64_t time, int64_t capacity, const int64_t* places, int64_t placed,
                                     const float* cosine, const float* sine, const int64_t* sources, int64_t source,
                                     const uint8_t* source_mask, float* logits, int64_t last, int64_t threads) {
  const Model& m = *model;
  const Step step = {m, lengths, batch, time, capacity, places, placed, sources, source, source_mask, cosine, sine};
  const int64_t tokens = step.tokens(), attended = m.heads * m.head_width, wanted = last ? batch : tokens;
  const int64_t qkv_width = attended + 2 * m.key_value_heads * m.head_width;
  std::vector<float> x(tokens * m.width), qkv(tokens * qkv_width), mixed(tokens * attended);
  std::vector<float> wide(tokens * m.inner), gates(m.layers[0].gate.weight ? tokens * m.inner : 0);
  for (int64_t t = 0; t < tokens; t++) {
    float* to = &x[t * m.width];
    row_of(m.embedding, ids[t], to);
    for (int64_t i = 0; i < m.width; i++) {
      to[i] *= float(m.scale);
      if (m.positions) to[i] += m.positions[(lengths[t / time] + t % time) * m.width + i];
    }
    if (m.embedding_norm.gain) normalise(m.embedding_norm, to, m.width, to);
  }
  // Of few tokens each thread makes the input of a product by itself, which is quicker than to wait for another.
  constexpr int64_t FEW = 16;
  const bool few = tokens <= FEW;
  Input common;
  std::vector<float> common_normed(few ? 0 : tokens * m.width);
#pragma omp parallel num_threads(int(threads))
  {
    const int index = omp_get_thread_num(), size = omp_get_num_threads();
    const Span all = {0, tokens}, own = few ? all : share(tokens, index, size);
    std::vector<float> own_normed(few ? tokens * m.width : 0), weights(std::max(capacity, source) + LANES);
    std::vector<int64_t> at_places;
    std::vector<float>& normed = few ? own_normed : common_normed;
    Input own_input;
    Input& in = few ? own_input : common;
    const auto take = [&](const float* from, int64_t count, int64_t columns, int64_t kind) {
      if (few) {
        in.set(from, count, columns, kind);
        in.fill({0, count}, kind);
        return;
      }
#pragma omp single
      in.set(from, count, columns, kind);
      in.fill(share(count, index, size), kind);
#pragma omp barrier
    };
    const auto enter = [&](const Norm& norm, const Matrix& next) {
      if (!m.norm_first) return take(x.data(), tokens, m.width, next.kind);
      for (int64_t t = own.first; t < own.last; t++) normalise(norm, &x[t * m.width], m.width, &normed[t * m.width]);
      take(normed.data(), tokens, m.width, next.kind);
    };
    const auto leave = [&](const Norm& norm) {
#pragma omp barrier
      if (m.norm_first) return;
      const Span some = share(tokens, index, size);
      for (int64_t t = some.first; t < some.last; t++) normalise(norm, &x[t * m.width], m.width, &x[t * m.width]);
#pragma omp barrier
    };
    for (int64_t l = 0; l < m.depth; l++) {
      const Layer& layer = m.layers[l];
      enter(layer.attention_norm, layer.qkv);
      multiply(layer.qkv, share(panels_of(layer.qkv), index, size), in, {qkv.data(), qkv_width, false});
#pragma omp barrier
      for (int64_t pair = index; pair < batch * m.key_value_heads; pair += size)
        step.attend(layer, pair / m.key_value_heads, pair % m.key_value_heads, qkv.data(), mixed.data(), weights, at_places);
#pragma omp barrier
      take(mixed.data(), tokens, attended, layer.out.kind);
      multiply(layer.out, share(panels_of(layer.out), index, size), in, {x.data(), m.width, true});
      leave(layer.attention_norm);
      if (layer.cross_query.weight) {
        enter(layer.cross_norm, layer.cross_query);
        multiply(layer.cross_query, share(panels_of(layer.cross_query), index, size), in, {qkv.data(), attended, false});
#pragma omp barrier
        for (int64_t pair = index; pair < batch * m.heads; pair += size)
          step.read(layer, pair / m.heads, pair % m.heads, qkv.data(), mixed.data(), weights);
#pragma omp barrier
        take(mixed.data(), tokens, attended, layer.cross_out.kind);
        multiply(layer.cross_out, share(panels_of(layer.cross_out), index, size), in, {x.data(), m.width, true});
        leave(layer.cross_norm);
      }
      enter(layer.feedforward_norm, layer.up);
      step.widen(layer, share(panels_of(layer.up), index, size), in, wide.data(), gates.data());
#pragma omp barrier
      take(wide.data(), tokens, m.inner, layer.down.kind);
      multiply(layer.down, share(panels_of(layer.down), index, size), in, {x.data(), m.width, true});
      leave(layer.feedforward_norm);
    }
    const Span some = few ? Span{0, wanted} : share(wanted, index, size);
    for (int64_t t = some.first; t < some.last; t++)
      normalise(m.norm, &x[(last ? (t + 1) * time - 1 : t) * m.width], m.width, &normed[t * m.width]);
    take(normed.data(), wanted, m.width, m.head.kind);
    multiply(m.head, share(panels_of(m.head), index, size), in, {logits, m.head.rows, false});
  }
}
