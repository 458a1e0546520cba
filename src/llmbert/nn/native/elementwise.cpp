// What stands between a Transformer's products in training: norms and activations, there and back, each in one pass.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <omp.h>

#include "vectors.h"

namespace {

enum Activation : int64_t { GELU, GELU_TANH, SILU };

struct Value {
  Floats value, slope;
};

inline Floats sigmoid(Floats x) { return 1.0f / (1.0f + exponential(-x)); }

inline Value activation(int64_t kind, Floats x) {
  if (kind == SILU) {
    const Floats share = sigmoid(x);
    return {x * share, share * (1.0f + x * (1.0f - share))};
  }
  if (kind == GELU_TANH) {  // x · ½(1 + tanh u) = x · sigmoid(2u), u = √(2/π)(x + 0.044715 x³)
    Floats near = x < -30.0f ? Floats{} - 30.0f : x;  // where all is decided, and squares are numbers
    near = near > 30.0f ? Floats{} + 30.0f : near;
    const Floats square = near * near, share = sigmoid(near * (1.5957691216f + 0.0713548163f * square));
    return {x * share, share + near * share * (1.0f - share) * (1.5957691216f + 0.2140644488f * square)};
  }
  // x Φ(x): erf by Abramowitz & Stegun 1964, 7.1.26, to 1.5e-7.
  const Floats distance = (x < 0.0f ? -x : x) * 0.7071067812f, bell = exponential(x * x * -0.5f);
  const Floats t = 1.0f / (1.0f + 0.3275911f * distance);
  Floats rest = 1.061405429f * t - 1.453152027f;
  rest = rest * t + 1.421413741f;
  rest = rest * t - 0.284496736f;
  rest = (rest * t + 0.254829592f) * t * bell * 0.5f;
  const Floats share = x < 0.0f ? rest : 1.0f - rest;
  return {x * share, share + x * bell * 0.3989422804f};
}

constexpr int64_t PART = 64 * LANES;  // numbers that one thread takes at a time

// count numbers in steps of a register; the last few through room of their own.
template <class Visit>
inline void by_registers(int64_t count, Visit visit) {
  const int64_t whole = count / LANES * LANES;
  for (int64_t i = 0; i < whole; i += LANES) visit(i, int64_t(LANES));
  if (whole < count) visit(whole, count - whole);
}

template <class Number>
inline Floats some(const Number* from, int64_t count) {
  if (count == LANES) return load(from);
  Number room[LANES] = {};
  std::copy(from, from + count, room);
  return load(room);
}

template <class Number>
inline void put(Number* to, Floats values, int64_t count) {
  if (count == LANES) return store_rounded(to, values);
  Number room[LANES];
  store_rounded(room, values);
  std::copy(room, room + count, to);
}

template <class Number>
void activate(int64_t kind, const Number* x, Number* to, int64_t count, int64_t threads) {
#pragma omp parallel for num_threads(int(threads))
  for (int64_t first = 0; first < count; first += PART)
    by_registers(std::min(PART, count - first), [&](int64_t i, int64_t n) {
      put(to + first + i, activation(kind, some(x + first + i, n)).value, n);
    });
}

template <class Number>
void activate_back(int64_t kind, const Number* x, const Number* slope, Number* to, int64_t count, int64_t threads) {
#pragma omp parallel for num_threads(int(threads))
  for (int64_t first = 0; first < count; first += PART)
    by_registers(std::min(PART, count - first), [&](int64_t i, int64_t n) {
      put(to + first + i, activation(kind, some(x + first + i, n)).slope * some(slope + first + i, n), n);
    });
}

// Rows of `width` gates and behind them as many numbers that they let through.
template <class Number>
void gate(int64_t kind, const Number* x, Number* to, int64_t rows, int64_t width, int64_t threads) {
#pragma omp parallel for num_threads(int(threads))
  for (int64_t r = 0; r < rows; r++) {
    const Number* row = x + 2 * r * width;
    by_registers(width, [&](int64_t i, int64_t n) {
      put(to + r * width + i, activation(kind, some(row + i, n)).value * some(row + width + i, n), n);
    });
  }
}

template <class Number>
void gate_back(int64_t kind, const Number* x, const Number* slope, Number* to, int64_t rows, int64_t width, int64_t threads) {
#pragma omp parallel for num_threads(int(threads))
  for (int64_t r = 0; r < rows; r++) {
    const Number* row = x + 2 * r * width;
    Number* place = to + 2 * r * width;
    by_registers(width, [&](int64_t i, int64_t n) {
      const Value found = activation(kind, some(row + i, n));
      const Floats incoming = some(slope + r * width + i, n);
      put(place + i, incoming * some(row + width + i, n) * found.slope, n);
      put(place + width + i, incoming * found.value, n);
    });
  }
}

constexpr int64_t BLOCK = 32;  // rows whose slopes of gains are summed together, whoever computes them

// roots (rows): 1 over the root of each row's mean square.
template <class In, class Out>
void normalise(const In* x, Out* to, int64_t rows, int64_t width, const float* gain, float epsilon, float* roots, int64_t threads) {
#pragma omp parallel for num_threads(int(threads))
  for (int64_t r = 0; r < rows; r++) {
    const In* row = x + r * width;
    Floats squares = {};
    by_registers(width, [&](int64_t i, int64_t n) {
      const Floats part = some(row + i, n);
      squares += part * part;
    });
    roots[r] = inverse_root(sum(squares), width, epsilon);
    by_registers(width, [&](int64_t i, int64_t n) { put(to + r * width + i, some(row + i, n) * roots[r] * some(gain + i, n), n); });
  }
}

// gain_slopes: (blocks of rows, width), which begin with 0.
template <class In, class Out>
void normalise_back(const In* x, const Out* slope, In* to, int64_t rows, int64_t width, const float* gain, const float* roots,
                    float* gain_slopes, int64_t threads) {
#pragma omp parallel for num_threads(int(threads))
  for (int64_t block = 0; block < (rows + BLOCK - 1) / BLOCK; block++)
    for (int64_t r = block * BLOCK; r < std::min(rows, (block + 1) * BLOCK); r++) {
      const In* row = x + r * width;
      const Out* incoming = slope + r * width;
      float* gains = gain_slopes + block * width;
      Floats along = {};
      by_registers(width, [&](int64_t i, int64_t n) {
        const Floats unit = some(row + i, n) * roots[r], came = some(incoming + i, n);
        along += came * some(gain + i, n) * unit;
        put(gains + i, some(gains + i, n) + came * unit, n);
      });
      const float share = sum(along) / float(width);
      by_registers(width, [&](int64_t i, int64_t n) {
        const Floats unit = some(row + i, n) * roots[r];
        put(to + r * width + i, roots[r] * (some(incoming + i, n) * some(gain + i, n) - unit * share), n);
      });
    }
}

// Calls with a pointer of the kind that is meant.
template <class Call>
inline void typed(int64_t narrow, Call call) {
  narrow ? call(uint16_t{}) : call(float{});
}

}  // namespace

extern "C" void llmbert_activate(int64_t kind, const void* x, void* to, int64_t narrow, int64_t count, int64_t threads) {
  typed(narrow, [&](auto it) {
    using Number = decltype(it);
    activate(kind, static_cast<const Number*>(x), static_cast<Number*>(to), count, threads);
  });
}

extern "C" void llmbert_activate_back(int64_t kind, const void* x, const void* slope, void* to, int64_t narrow, int64_t count,
                                      int64_t threads) {
  typed(narrow, [&](auto it) {
    using Number = decltype(it);
    activate_back(kind, static_cast<const Number*>(x), static_cast<const Number*>(slope), static_cast<Number*>(to), count, threads);
  });
}

extern "C" void llmbert_gate(int64_t kind, const void* x, void* to, int64_t narrow, int64_t rows, int64_t width, int64_t threads) {
  typed(narrow, [&](auto it) {
    using Number = decltype(it);
    gate(kind, static_cast<const Number*>(x), static_cast<Number*>(to), rows, width, threads);
  });
}

extern "C" void llmbert_gate_back(int64_t kind, const void* x, const void* slope, void* to, int64_t narrow, int64_t rows,
                                  int64_t width, int64_t threads) {
  typed(narrow, [&](auto it) {
    using Number = decltype(it);
    gate_back(kind, static_cast<const Number*>(x), static_cast<const Number*>(slope), static_cast<Number*>(to), rows, width, threads);
  });
}

extern "C" void llmbert_normalise(const void* x, int64_t narrow, void* to, int64_t narrow_to, int64_t rows, int64_t width,
                                  const float* gain, double epsilon, float* roots, int64_t threads) {
  typed(narrow, [&](auto in) {
    typed(narrow_to, [&](auto out) {
      normalise(static_cast<const decltype(in)*>(x), static_cast<decltype(out)*>(to), rows, width, gain, float(epsilon), roots,
                threads);
    });
  });
}

extern "C" void llmbert_normalise_back(const void* x, int64_t narrow, const void* slope, int64_t narrow_slope, void* to, int64_t rows,
                                       int64_t width, const float* gain, const float* roots, float* gain_slopes, int64_t threads) {
  typed(narrow, [&](auto in) {
    typed(narrow_slope, [&](auto out) {
      normalise_back(static_cast<const decltype(in)*>(x), static_cast<const decltype(out)*>(slope), static_cast<decltype(in)*>(to),
                     rows, width, gain, roots, gain_slopes, threads);
    });
  });
}
