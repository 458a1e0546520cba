// Attention and its way back, of a head in one go: norms and rotation of queries and keys, products, softmax, dropout.
//
// A tile of queries lies across the lanes of a few registers, so that the softmax of each is lane by lane; every one of
// the seven products is the same small kernel over rows of keys, queries or widths. All sums are of float32.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <type_traits>
#include <vector>
#include <omp.h>

#include "vectors.h"

namespace {

#if defined(__AVX512F__)
constexpr int64_t ROWS = 8;  // of results that are summed at once: with those beside each other they fill the registers
#else
constexpr int64_t ROWS = 4;
#endif
constexpr int64_t BESIDE = 2;              // registers side by side
constexpr int64_t TILE = BESIDE * LANES;  // queries
constexpr float NOWHERE = -1e30f;         // where all are so, all count alike

inline int64_t rounded_up(int64_t count, int64_t to) { return (count + to - 1) / to * to; }

// What products are made of: a number of float32 or, where a processor multiplies them at once, a pair of bfloat16 that
// follow each other in the sum. `along` a row, a unit is of one row's numbers; `across`, of as many rows' at one place.
inline void add_product(Floats& sums, float left, Floats right) { sums += left * right; }
inline Floats load_units(const float* from) { return load(from); }
inline void put_along(float* to, const float* row, int64_t width) { std::copy(row, row + width, to); }
inline void put_across(float*, const float*, const float*, int64_t) {}

#if defined(__AVX512BF16__)
typedef uint32_t Pair;
inline Words load_units(const Pair* from) {
  Words found;
  std::memcpy(&found, from, sizeof found);
  return found;
}
inline void add_product(Floats& sums, Pair left, Words right) {
  sums = (Floats)_mm512_dpbf16_ps((__m512)sums, (__m512bh)(Words{} + left), (__m512bh)right);
}
inline void put_along(Pair* to, const float* row, int64_t width) {
  for (int64_t d = 0; d < width; d += LANES) store_rounded(reinterpret_cast<uint16_t*>(to) + d, load(row + d));
}
inline void put_across(Pair* to, const float* row, const float* next, int64_t width) {
  const auto words = [](const float* from) {
    return _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh((__m512)load(from)));
  };
  for (int64_t d = 0; d < width; d += LANES)
    _mm512_storeu_si512(to + d, _mm512_or_si512(words(row + d), _mm512_slli_epi32(words(next + d), 16)));
}
#else
typedef float Pair;
#endif

template <class Unit>
constexpr int64_t EACH = std::is_same_v<Unit, float> ? 1 : 2;  // numbers of a unit

// to[m][n] (+)= sum over k of a[m][k] b[k][n], for ROWS rows m and WIDE registers n; depth: of units k.
template <int64_t WIDE, bool ADD, class Unit>
inline void multiply(const Unit* a, int64_t a_row, int64_t a_step, const Unit* b, int64_t b_step, int64_t depth, float* to,
                     int64_t to_row) {
  Floats sums[ROWS][WIDE] = {};
  for (int64_t k = 0; k < depth; k++) {
    decltype(load_units(b)) right[WIDE];
    for (int64_t n = 0; n < WIDE; n++) right[n] = load_units(b + k * b_step + n * LANES);
    for (int64_t m = 0; m < ROWS; m++)
      for (int64_t n = 0; n < WIDE; n++) add_product(sums[m][n], a[m * a_row + k * a_step], right[n]);
  }
  for (int64_t m = 0; m < ROWS; m++)
    for (int64_t n = 0; n < WIDE; n++) {
      float* place = to + m * to_row + n * LANES;
      store(place, ADD ? load(place) + sums[m][n] : sums[m][n]);
    }
}

// The same for `rows` rows, a multiple of ROWS, and `width` columns, a multiple of LANES.
template <bool ADD, class Unit>
void multiply(const Unit* a, int64_t a_row, int64_t a_step, const Unit* b, int64_t b_step, int64_t depth, float* to, int64_t to_row,
              int64_t rows, int64_t width) {
  for (int64_t m = 0; m < rows; m += ROWS) {
    int64_t n = 0;
    for (; n + BESIDE * LANES <= width; n += BESIDE * LANES)
      multiply<BESIDE, ADD>(a + m * a_row, a_row, a_step, b + n, b_step, depth, to + m * to_row + n, to_row);
    for (; n < width; n += LANES)
      multiply<1, ADD>(a + m * a_row, a_row, a_step, b + n, b_step, depth, to + m * to_row + n, to_row);
  }
}

// e^x for x not above 0, and 0 where it is too little to count.
inline Floats share_of(Floats x) { return x < -87.0f ? Floats{} : exponential(x); }

// Bits that look random, of a place and what was drawn for this call (Wellons' lowbias32).
inline Words scattered(Words x) {
  x = (x ^ (x >> 16)) * 0x7feb352du;
  x = (x ^ (x >> 15)) * 0x846ca68bu;
  return x ^ (x >> 16);
}

inline uint32_t scattered(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
  return uint32_t(x >> 32);
}

}  // namespace

// A matrix (B, T, H, D) somewhere in memory: numbers of a head lie side by side.
struct Matrix {
  void* data;
  int64_t batch, time, head;  // steps from one to the next
  int64_t narrow;             // whether of bfloat16, else of float32
};

struct Attention {
  Matrix query, key, value, out;           // out: the result, or the slope that comes in
  Matrix query_slope, key_slope, value_slope, result;  // of the way back: result is what the way there gave
  int64_t batches, heads, shared, queries, keys, width;  // shared: heads of keys and values
  float scale, epsilon;
  const float *query_gain, *key_gain;  // (D) of RMS norms, or null
  const float *cosine, *sine;          // (T, D) or (B, T, D) of a rotation, or null
  int64_t turn_batch;                  // step from one text's to the next
  int64_t causal;
  const uint8_t* mask;  // true where a query may look, or null
  int64_t mask_batch, mask_head, mask_time, mask_key;
  float dropped;  // share
  uint64_t seed;
  float* sums;                       // (B, H, 2, T): each query's largest product, and 1 over the sum of e^(product - it)
  float *query_gain_slopes, *key_gain_slopes;  // (B, shared heads, D), of the way back
};

namespace {

inline void read_row(const Matrix& from, int64_t b, int64_t t, int64_t h, int64_t width, float* to) {
  const int64_t at = b * from.batch + t * from.time + h * from.head, whole = width / LANES * LANES;
  const auto copy = [&](auto* numbers) {
    for (int64_t d = 0; d < whole; d += LANES) store(to + d, load(numbers + at + d));
    for (int64_t d = whole; d < width; d++) to[d] = number(numbers[at + d]);
  };
  from.narrow ? copy(static_cast<const uint16_t*>(from.data)) : copy(static_cast<const float*>(from.data));
}

inline void write_row(const Matrix& to, int64_t b, int64_t t, int64_t h, int64_t width, const float* from) {
  const int64_t at = b * to.batch + t * to.time + h * to.head, whole = width / LANES * LANES;
  if (!to.narrow) {
    std::copy(from, from + width, static_cast<float*>(to.data) + at);
    return;
  }
  uint16_t* place = static_cast<uint16_t*>(to.data) + at;
  for (int64_t d = 0; d < whole; d += LANES) store_rounded(place + d, load(from + d));
  if (whole < width) {
    float rest[LANES] = {};
    uint16_t last[LANES];
    std::copy(from + whole, from + width, rest);
    store_rounded(last, load(rest));
    std::copy(last, last + (width - whole), place + whole);
  }
}

// Of rows that end in 0 up to a whole register.
inline float inner_product(const float* one, const float* other, int64_t width) {
  Floats sums = {};
  for (int64_t d = 0; d < width; d += LANES) sums += load(one + d) * load(other + d);
  return sum(sums);
}

inline float inverse_root(const float* x, int64_t width, float epsilon) {
  return inverse_root(inner_product(x, x, width), width, epsilon);
}

// x (D) of place t in text b: normalised, then turned.
inline void prepare(const Attention& all, float* x, const float* gain, int64_t b, int64_t t) {
  const int64_t width = all.width, half = width / 2;
  if (gain) {
    const float root = inverse_root(x, width, all.epsilon);
    for (int64_t d = 0; d < width; d++) x[d] *= root * gain[d];
  }
  if (all.cosine) {
    const float *cosine = all.cosine + b * all.turn_batch + t * width, *sine = all.sine + b * all.turn_batch + t * width;
    for (int64_t d = 0; d < half; d++) {
      const float first = x[d], second = x[d + half];
      x[d] = first * cosine[d] - second * sine[d];
      x[d + half] = second * cosine[d + half] + first * sine[d + half];
    }
  }
}

// The slope (D) of a prepared x → that of x as it was; gain_slope (D) grows by its own.
inline void prepare_back(const Attention& all, float* slope, const float* x, const float* gain, float* gain_slope, int64_t b, int64_t t) {
  const int64_t width = all.width, half = width / 2;
  if (all.cosine) {
    const float *cosine = all.cosine + b * all.turn_batch + t * width, *sine = all.sine + b * all.turn_batch + t * width;
    for (int64_t d = 0; d < half; d++) {
      const float first = slope[d], second = slope[d + half];
      slope[d] = first * cosine[d] + second * sine[d + half];
      slope[d + half] = second * cosine[d + half] - first * sine[d];
    }
  }
  if (gain) {
    const float root = inverse_root(x, width, all.epsilon);
    for (int64_t d = 0; d < width; d++) {
      gain_slope[d] += slope[d] * x[d] * root;
      slope[d] *= gain[d];
    }
    const float along = inner_product(slope, x, width) * root * root / float(width);
    for (int64_t d = 0; d < width; d++) slope[d] = root * (slope[d] - x[d] * along);
  }
}

// Rows that are multiplied, as units in both orders: of float32 both are the same.
template <class Unit>
struct Rows {
  int64_t width;  // units of a row, along
  std::vector<Unit> along_rows, across_rows;
  Rows(int64_t rows, int64_t wide)
      : width(wide / EACH<Unit>), along_rows(rows * wide / EACH<Unit>), across_rows(EACH<Unit> > 1 ? rows * wide / EACH<Unit> : 0) {}
  const Unit* along() const { return along_rows.data(); }
  const Unit* across() const { return EACH<Unit> > 1 ? across_rows.data() : along_rows.data(); }
  void put_two(int64_t index, const float* rows) {  // of an even index, and the next
    const int64_t wide = width * EACH<Unit>;
    put_along(along_rows.data() + index * width, rows, wide);
    put_along(along_rows.data() + (index + 1) * width, rows + wide, wide);
    if (EACH<Unit> > 1) put_across(across_rows.data() + index / 2 * wide, rows, rows + wide, wide);
  }
};

template <class Unit>
void turn_over(const Unit* from, int64_t width, Unit* to) {  // (TILE, width) → (width, TILE)
  for (int64_t d = 0; d < width; d++)
    for (int64_t q = 0; q < TILE; q++) to[d * TILE + q] = from[q * width + d];
}

template <class Unit>
struct Room {  // what one thread writes on
  int64_t wide, tall;
  Rows<Unit> key, value;                            // (keys, D), both rounded up
  Rows<Unit> query, slope;                          // (TILE, D)
  std::vector<Unit> query_over, slope_over;         // (D, TILE)
  std::vector<float> products, slopes;              // (keys, TILE)
  Rows<Unit> weights, product_slopes;               // (keys, TILE)
  std::vector<float> key_slope, value_slope;        // (keys, D)
  std::vector<float> mixed;                         // (TILE, D)
  std::vector<float> rows_read, values_read;        // (2, D): two rows as they are read
  Room(const Attention& all, bool back)
      : wide(rounded_up(all.width, LANES)), tall(rounded_up(all.keys, ROWS)), key(tall, wide), value(tall, wide), query(TILE, wide),
        slope(back * TILE, wide), query_over(wide * TILE), slope_over(back * wide * TILE), products(tall * TILE),
        slopes(back * tall * TILE), weights(tall, TILE), product_slopes(back * tall, TILE), key_slope(back * tall * wide),
        value_slope(back * tall * wide), mixed(TILE * wide), rows_read(2 * wide), values_read(2 * wide) {}
};

template <class Unit>
void read_keys(const Attention& all, Room<Unit>& room, int64_t b, int64_t g) {
  for (int64_t s = 0; s < room.tall; s += 2) {
    std::fill(room.rows_read.begin(), room.rows_read.end(), 0.0f);
    std::fill(room.values_read.begin(), room.values_read.end(), 0.0f);
    for (int64_t each = 0; each < 2 && s + each < all.keys; each++) {
      float* line = room.rows_read.data() + each * room.wide;
      read_row(all.key, b, s + each, g, all.width, line);
      prepare(all, line, all.key_gain, b, s + each);
      read_row(all.value, b, s + each, g, all.width, room.values_read.data() + each * room.wide);
    }
    room.key.put_two(s, room.rows_read.data());
    room.value.put_two(s, room.values_read.data());
  }
}

template <class Unit>
void read_queries(const Attention& all, Room<Unit>& room, int64_t b, int64_t h, int64_t first, int64_t count) {
  for (int64_t q = 0; q < TILE; q += 2) {
    std::fill(room.rows_read.begin(), room.rows_read.end(), 0.0f);
    for (int64_t each = 0; each < 2 && q + each < count; each++) {
      float* line = room.rows_read.data() + each * room.wide;
      read_row(all.query, b, first + q + each, h, all.width, line);
      prepare(all, line, all.query_gain, b, first + q + each);
      for (int64_t d = 0; d < room.wide; d += LANES) store(line + d, load(line + d) * all.scale);
    }
    room.query.put_two(q, room.rows_read.data());
  }
  turn_over(room.query.along(), room.query.width, room.query_over.data());
}

// room.products = of `keys` keys with a tile's queries, and NOWHERE where a query may not look.
template <class Unit>
void weigh(const Attention& all, Room<Unit>& room, int64_t b, int64_t h, int64_t first, int64_t count, int64_t keys) {
  float* products = room.products.data();
  const int64_t units = room.key.width;
  multiply<false>(room.key.along(), units, 1, room.query_over.data(), TILE, units, products, TILE, rounded_up(keys, ROWS), TILE);
  if (all.causal)
    for (int64_t s = first + 1; s < keys; s++)
      std::fill(products + s * TILE, products + s * TILE + std::min(s - first, TILE), NOWHERE);
  if (all.mask) {
    const uint8_t* mask = all.mask + b * all.mask_batch + h * all.mask_head + first * all.mask_time;
    for (int64_t q = 0; q < count; q++)
      for (int64_t s = 0; s < keys; s++)
        if (!mask[q * all.mask_time + s * all.mask_key]) products[s * TILE + q] = NOWHERE;
  }
}

// What a weight is multiplied by where it may be dropped: 0, or 1 over the share that is kept.
struct Kept {
  Words lanes;
  uint32_t head, limit;
  float factor;
  Kept(const Attention& all, int64_t b, int64_t h)
      : head(scattered(all.seed + uint64_t(b * all.heads + h + 1) * 0x9e3779b97f4a7c15ull)),
        limit(uint32_t(double(all.dropped) * 4294967296.0)), factor(1.0f / (1.0f - all.dropped)) {
    for (int lane = 0; lane < LANES; lane++) lanes[lane] = uint32_t(lane * all.keys);
  }
  Floats of(int64_t query, int64_t key, int64_t keys) const {
    const Words found = scattered((lanes + uint32_t(query * keys + key)) * 2654435769u ^ head);
    return found >= limit ? Floats{} + factor : Floats{};
  }
};

template <class Unit>
void attend(const Attention& all, Room<Unit>& room, int64_t b, int64_t h) {
  const Kept kept(all, b, h);
  float *products = room.products.data(), *mixed = room.mixed.data();
  for (int64_t first = 0; first < all.queries; first += TILE) {
    const int64_t count = std::min(TILE, all.queries - first), keys = all.causal ? std::min(all.keys, first + count) : all.keys;
    read_queries(all, room, b, h, first, count);
    weigh(all, room, b, h, first, count, keys);
    float mosts[TILE], shares[TILE];
    for (int64_t q = 0; q < TILE; q += LANES) {
      Floats most = load(products + q), total = {};
      for (int64_t s = 1; s < keys; s++) {
        const Floats part = load(products + s * TILE + q);
        most = part > most ? part : most;
      }
      for (int64_t s = 0; s < keys; s++) {
        const Floats part = share_of(load(products + s * TILE + q) - most);
        total += part;
        store(products + s * TILE + q, all.dropped ? part * kept.of(first + q, s, all.keys) : part);
      }
      store(mosts + q, most);
      store(shares + q, 1.0f / total);
    }
    float* sums = all.sums + (b * all.heads + h) * 2 * all.queries + first;
    std::copy(mosts, mosts + count, sums);
    std::copy(shares, shares + count, sums + all.queries);
    const int64_t whole = rounded_up(keys, 2);
    std::fill(products + keys * TILE, products + whole * TILE, 0.0f);
    for (int64_t s = 0; s < whole; s += 2) room.weights.put_two(s, products + s * TILE);
    multiply<false>(room.weights.across(), 1, TILE, room.value.across(), room.wide, whole / EACH<Unit>, mixed, room.wide, TILE, room.wide);
    for (int64_t q = 0; q < count; q++) {
      for (int64_t d = 0; d < room.wide; d += LANES) store(mixed + q * room.wide + d, load(mixed + q * room.wide + d) * shares[q]);
      write_row(all.out, b, first + q, h, all.width, mixed + q * room.wide);
    }
  }
}

template <class Unit>
void attend_back(const Attention& all, Room<Unit>& room, int64_t b, int64_t h, int64_t g) {
  const Kept kept(all, b, h);
  float *products = room.products.data(), *slopes = room.slopes.data();
  std::vector<float> raw(room.wide);
  for (int64_t first = 0; first < all.queries; first += TILE) {
    const int64_t count = std::min(TILE, all.queries - first), keys = all.causal ? std::min(all.keys, first + count) : all.keys;
    const int64_t tall = rounded_up(keys, ROWS), units = room.value.width;
    read_queries(all, room, b, h, first, count);
    float along[TILE] = {}, mosts[TILE] = {}, shares[TILE] = {};
    const float* sums = all.sums + (b * all.heads + h) * 2 * all.queries + first;
    std::copy(sums, sums + count, mosts);
    std::copy(sums + all.queries, sums + all.queries + count, shares);
    for (int64_t q = 0; q < TILE; q += 2) {
      std::fill(room.rows_read.begin(), room.rows_read.end(), 0.0f);
      for (int64_t each = 0; each < 2 && q + each < count; each++) {
        float* line = room.rows_read.data() + each * room.wide;
        read_row(all.out, b, first + q + each, h, all.width, line);
        read_row(all.result, b, first + q + each, h, all.width, raw.data());
        along[q + each] = inner_product(line, raw.data(), all.width);
      }
      room.slope.put_two(q, room.rows_read.data());
    }
    turn_over(room.slope.along(), units, room.slope_over.data());
    weigh(all, room, b, h, first, count, keys);
    multiply<false>(room.value.along(), units, 1, room.slope_over.data(), TILE, units, slopes, TILE, tall, TILE);
    std::fill(products + keys * TILE, products + tall * TILE, 0.0f);
    std::fill(slopes + keys * TILE, slopes + tall * TILE, 0.0f);
    for (int64_t s = 0; s < keys; s++)
      for (int64_t q = 0; q < TILE; q += LANES) {
        const int64_t at = s * TILE + q;
        const Floats product = load(products + at), share = share_of(product - load(mosts + q)) * load(shares + q);
        const Floats factor = all.dropped ? kept.of(first + q, s, all.keys) : Floats{} + 1.0f;
        const Floats slope = share * (load(slopes + at) * factor - load(along + q));
        store(products + at, share * factor);
        store(slopes + at, product > NOWHERE ? slope : Floats{});
      }
    for (int64_t s = 0; s < tall; s += 2) {
      room.weights.put_two(s, products + s * TILE);
      room.product_slopes.put_two(s, slopes + s * TILE);
    }
    const int64_t beside = TILE / EACH<Unit>;
    multiply<true>(room.weights.along(), beside, 1, room.slope.across(), room.wide, beside, room.value_slope.data(), room.wide, tall,
                   room.wide);
    multiply<true>(room.product_slopes.along(), beside, 1, room.query.across(), room.wide, beside, room.key_slope.data(), room.wide,
                   tall, room.wide);
    multiply<false>(room.product_slopes.across(), 1, TILE, room.key.across(), room.wide, tall / EACH<Unit>, room.mixed.data(), room.wide,
                    TILE, room.wide);
    for (int64_t q = 0; q < count; q++) {
      float* row = room.mixed.data() + q * room.wide;
      for (int64_t d = 0; d < room.wide; d += LANES) store(row + d, load(row + d) * all.scale);
      if (all.query_gain) read_row(all.query, b, first + q, h, all.width, raw.data());
      float* gain_slope = all.query_gain_slopes + (b * all.shared + g) * all.width;
      prepare_back(all, row, raw.data(), all.query_gain, gain_slope, b, first + q);
      write_row(all.query_slope, b, first + q, h, all.width, row);
    }
  }
}

template <class Unit>
void write_key_slopes(const Attention& all, Room<Unit>& room, int64_t b, int64_t g) {
  float* line = room.rows_read.data();
  for (int64_t s = 0; s < all.keys; s++) {
    float* row = room.key_slope.data() + s * room.wide;
    if (all.key_gain) read_row(all.key, b, s, g, all.width, line);
    prepare_back(all, row, line, all.key_gain, all.key_gain_slopes + (b * all.shared + g) * all.width, b, s);
    write_row(all.key_slope, b, s, g, all.width, row);
    write_row(all.value_slope, b, s, g, all.width, room.value_slope.data() + s * room.wide);
  }
}

template <class Unit>
void attend_all(const Attention& all, bool back, int64_t threads) {
#pragma omp parallel num_threads(int(threads))
  {
    Room<Unit> room(all, back);
#pragma omp for schedule(dynamic)
    for (int64_t i = 0; i < all.batches * all.shared; i++) {
      const int64_t b = i / all.shared, g = i % all.shared, group = all.heads / all.shared;
      read_keys(all, room, b, g);
      std::fill(room.key_slope.begin(), room.key_slope.end(), 0.0f);
      std::fill(room.value_slope.begin(), room.value_slope.end(), 0.0f);
      for (int64_t h = g * group; h < (g + 1) * group; h++) back ? attend_back(all, room, b, h, g) : attend(all, room, b, h);
      if (back) write_key_slopes(all, room, b, g);
    }
  }
}

void attend_all(const Attention& all, bool back, int64_t threads) {
  all.value.narrow ? attend_all<Pair>(all, back, threads) : attend_all<float>(all, back, threads);
}

}  // namespace

extern "C" void llmbert_attention(const Attention* all, int64_t threads) { attend_all(*all, false, threads); }

extern "C" void llmbert_attention_back(const Attention* all, int64_t threads) { attend_all(*all, true, threads); }
