// What is asked of rows of logits, over all of a vocabulary, in as few passes as there can be.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>
#include <omp.h>

#include "vectors.h"

namespace {

inline float largest_of(const float* x, int64_t count) {
  const int64_t whole = count / LANES * LANES;
  Floats largest = Floats{} - INFINITY;
  for (int64_t i = 0; i < whole; i += LANES) {
    const Floats part = load(x + i);
    largest = part > largest ? part : largest;
  }
  float most = -INFINITY;
  for (int lane = 0; lane < LANES; lane++) most = std::max(most, largest[lane]);
  for (int64_t i = whole; i < count; i++) most = std::max(most, x[i]);
  return most;
}

// One row of logits → its loss in nats, and in its place the loss's gradient; x: room for the row in float32.
template <class Number>
double nats_and_slope(Number* logits, int64_t vocabulary, int64_t target, float smoothing, float* x) {
  constexpr int64_t BLOCK = 64 * LANES;  // summed in float32, and blocks of them in more
  const int64_t whole = vocabulary / LANES * LANES;
  double all = 0.0, total = 0.0;
  for (int64_t first = 0; first < whole; first += BLOCK) {
    Floats sums = {};
    for (int64_t i = first; i < std::min(first + BLOCK, whole); i += LANES) {
      const Floats part = load(logits + i);
      store(x + i, part);
      sums += part;
    }
    all += sum(sums);
  }
  for (int64_t i = whole; i < vocabulary; i++) all += x[i] = number(logits[i]);
  const float most = largest_of(x, vocabulary), aim = x[target];
  for (int64_t first = 0; first < whole; first += BLOCK) {
    Floats sums = {};
    for (int64_t i = first; i < std::min(first + BLOCK, whole); i += LANES) {
      const Floats part = exponential(load(x + i) - most);
      store(x + i, part);
      sums += part;
    }
    total += sum(sums);
  }
  for (int64_t i = whole; i < vocabulary; i++) total += x[i] = std::exp(x[i] - most);
  const float each = float(1.0 / total), share = smoothing / float(vocabulary);
  x[target] -= (1.0f - smoothing) * float(total);
  for (int64_t i = 0; i < whole; i += LANES) store_rounded(logits + i, load(x + i) * each - share);
  float rest[LANES] = {};
  Number last[LANES];
  for (int64_t i = whole; i < vocabulary; i++) rest[i - whole] = x[i] * each - share;
  store_rounded(last, load(rest));
  std::copy(last, last + (vocabulary - whole), logits + whole);
  const double logarithm = double(most) + std::log(total), nats = logarithm - aim;
  return smoothing ? (1.0 - smoothing) * nats + smoothing * (logarithm - all / double(vocabulary)) : nats;
}

}  // namespace

// logits (rows, vocabulary), float32 or bfloat16, become the gradient of the summed loss; nats (rows): of each row.
extern "C" void llmbert_nats_and_slope(void* logits, int64_t rows, int64_t vocabulary, int64_t narrow, const int64_t* targets,
                                       double smoothing, double* nats, int64_t threads) {
#pragma omp parallel num_threads(int(threads))
  {
    std::vector<float> x(vocabulary);
#pragma omp for
    for (int64_t r = 0; r < rows; r++)
      nats[r] = narrow ? nats_and_slope(static_cast<uint16_t*>(logits) + r * vocabulary, vocabulary, targets[r],
                                        float(smoothing), x.data())
                       : nats_and_slope(static_cast<float*>(logits) + r * vocabulary, vocabulary, targets[r],
                                        float(smoothing), x.data());
  }
}

// The `count` likeliest tokens of each row of logits (rows, vocabulary) but for the forbidden ones, best first and of
// equals the lower: log-probabilities (rows, count), of all tokens' softmax, and ids (rows, count); a row that has too
// few ends with -inf.
extern "C" void llmbert_likeliest(const float* logits, int64_t rows, int64_t vocabulary, int64_t count,
                                  const int64_t* forbidden, int64_t forbidden_count, float* values, int64_t* ids,
                                  int64_t threads) {
#pragma omp parallel for num_threads(int(threads))
  for (int64_t r = 0; r < rows; r++) {
    const float* x = logits + r * vocabulary;
    const int64_t whole = vocabulary / LANES * LANES;
    const float most = largest_of(x, vocabulary);
    // Kept in order; one that is not above the last cannot come in, as those that are seen first win.
    float* best = values + r * count;
    int64_t* where = ids + r * count;
    std::fill(best, best + count, -INFINITY);
    std::fill(where, where + count, int64_t(0));
    const auto meet = [&](int64_t i) {
      if (!(x[i] > best[count - 1])) return;
      for (int64_t f = 0; f < forbidden_count; f++)
        if (forbidden[f] == i) return;
      int64_t at = count - 1;
      for (; at > 0 && x[i] > best[at - 1]; at--) best[at] = best[at - 1], where[at] = where[at - 1];
      best[at] = x[i], where[at] = i;
    };
    Floats total = {};
    for (int64_t i = 0; i < whole; i += LANES) {
      const Floats part = load(x + i);
      total += part > -INFINITY ? exponential(part - most) : Floats{};
      const Ints above = part > best[count - 1];
      bool any = false;
#if defined(__AVX512DQ__)
      any = _mm512_movepi32_mask((__m512i)above);
#else
      for (int lane = 0; lane < LANES; lane++) any |= above[lane] != 0;
#endif
      if (any)
        for (int64_t lane = 0; lane < LANES; lane++) meet(i + lane);
    }
    double all = sum(total);
    for (int64_t i = whole; i < vocabulary; i++) {
      all += std::exp(double(x[i]) - double(most));
      meet(i);
    }
    const float log_all = most + float(std::log(all));
    for (int64_t k = 0; k < count; k++) best[k] -= log_all;
  }
}
