#pragma once
// One new token per row: products with a weight that is read once, attention over a cache, the choice of a token.
#include <memory>
#include <type_traits>

#include "kernels.h"
#include "vectors.h"

namespace {

// --- y = x·Wᵀ for few rows ------------------------------------------------------------------------

/** Halves the blocks of 2·S lanes of a, then of b, by adding their two halves. */
template <int S>
inline vec fold(vec a, vec b) {
  ivec low, high;
  for (int i = 0; i < LANES; i++) {
    const int within = i % (LANES / 2), lane = within / S * 2 * S + within % S + (i < LANES / 2 ? 0 : LANES);
    low[i] = lane, high[i] = lane + S;
  }
#ifdef __clang__
  vec x, y;
  for (int i = 0; i < LANES; i++) {
    x[i] = low[i] < LANES ? a[low[i]] : b[low[i] - LANES];
    y[i] = high[i] < LANES ? a[high[i]] : b[high[i] - LANES];
  }
  return x + y;
#else
  return __builtin_shuffle(a, b, low) + __builtin_shuffle(a, b, high);
#endif
}
/** The sums of N vectors' lanes, in order; N·S = LANES. */
template <int N>
inline vec sums(vec* x) {
  if constexpr (N == 1) {
    return x[0];
  } else {
#pragma GCC unroll 8
    for (int i = 0; i < N / 2; i++) x[i] = fold<N / 2>(x[2 * i], x[2 * i + 1]);
    return sums<N / 2>(x);
  }
}

/** Dot products of MR rows of x with NR rows of w, MR·NR = LANES: lane m·NR + n. Rows beyond `last` repeat it. */
template <int MR, int NR>
inline vec dots(int64_t K, const float* x, const float* w, int64_t last) {
  static_assert(MR * NR == LANES, "one vector of results");
  const float *xs[MR], *ws[NR];
  for (int m = 0; m < MR; m++) xs[m] = x + m * K;
  for (int n = 0; n < NR; n++) ws[n] = w + std::min<int64_t>(n, last) * K;
  vec c[LANES] = {};
  const auto step = [&](int64_t k, auto lanes) {
    vec a[MR];
#pragma GCC unroll 16
    for (int m = 0; m < MR; m++) a[m] = load(xs[m] + k, lanes);
#pragma GCC unroll 16
    for (int n = 0; n < NR; n++) {
      const vec b = load(ws[n] + k, lanes);
#pragma GCC unroll 16
      for (int m = 0; m < MR; m++) c[m * NR + n] += a[m] * b;
    }
  };
  int64_t k = 0;
  for (; k + LANES <= K; k += LANES) step(k, Whole{});
  if (k < K) step(k, Part{K - k});
  return sums<LANES>(c);
}

constexpr int TALL = LANES / 4;  // rows of a tile that is four wide
constexpr int64_t WORTH_A_THREAD = 1 << 16;  // multiplications

/** y [M, N] = x [M, K]·w [N, K]ᵀ: each weight is read from memory once, whatever M. */
void linear(int64_t M, int64_t N, int64_t K, const float* x, const float* w, float* y) {
  if (M == 0) return;
  const int64_t rows = (WORTH_A_THREAD / (K * M) + LANES) / LANES * LANES;  // of w, in one turn
  parallel((N + rows - 1) / rows, [&](int64_t turn) {
    for (int64_t n0 = turn * rows; n0 < std::min(N, (turn + 1) * rows); n0 += LANES) {
      int64_t m = 0;
      if (LANES > 4)
        for (; m + TALL <= M; m += TALL)
          for (int64_t n = n0; n < std::min(N, n0 + LANES); n += 4) {
            const vec c = dots<TALL, 4>(K, x + m * K, w + n * K, N - 1 - n);
            const int64_t width = std::min<int64_t>(4, N - n);
            for (int i = 0; i < TALL; i++)
              std::memcpy(y + (m + i) * N + n, reinterpret_cast<const float*>(&c) + 4 * i, width * sizeof(float));
          }
      for (; m < M; m++) {
        const vec c = dots<1, LANES>(K, x + m * K, w + n0 * K, N - 1 - n0);
        std::memcpy(y + m * N + n0, &c, std::min<int64_t>(LANES, N - n0) * sizeof(float));
      }
    }
  });
}

// --- attention of new tokens over a cache -----------------------------------------------------------

/** factor · the head turned to a position */
inline void turned(const float* head, const float* angles, int64_t E, float factor, float* out) {
  const int64_t half = E / 2;
  for (int64_t e = 0; e < half; e++) {
    const float x = head[e] * factor, y = head[e + half] * factor;
    const float cosine = angles ? angles[e] : 1.f, sine = angles ? angles[e + half] : 0.f;
    out[e] = x * cosine - y * sine;
    out[e + half] = y * cosine + x * sine;
  }
}

void cached_attention(const CachedAttention& a, float* context) {
  const int64_t E = a.width, S = a.slots, group = a.heads / a.kv_heads;
  const float scale = 1.f / std::sqrt(static_cast<float>(E));
  const int64_t items = std::max<int64_t>(1, WORTH_A_THREAD / (2 * S * E * group)), all = a.rows * a.kv_heads;
  parallel((all + items - 1) / items, [&](int64_t turn) {
    std::unique_ptr<float[]> q(new float[E]), p(new float[S + LANES]);
    for (int64_t i = turn * items; i < std::min(all, (turn + 1) * items); i++) {
      const int64_t row = i / a.kv_heads, at = static_cast<int64_t>(a.positions[row]);
      const float* angles = a.angles ? a.angles + at * E : nullptr;
      float *keys = a.keys + i * S * E, *values = a.values + i * S * E;
      turned(a.k + i * E, angles, E, 1.f, keys + at * E);
      std::memcpy(values + at * E, a.v + i * E, E * sizeof(float));
      const int64_t first = a.window > 0 ? std::max<int64_t>(0, at + 1 - a.window) : 0, seen = at + 1 - first;
      keys += first * E, values += first * E;
      for (int64_t h = i * group; h < (i + 1) * group; h++) {
        turned(a.q + h * E, angles, E, scale, q.get());
        vec most = splat(-INFINITY);
        for (int64_t j = 0; j < seen; j += LANES) {
          const vec s = dots<1, LANES>(E, q.get(), keys + j * E, seen - 1 - j);
          most = larger(most, s);  // what repeats the last key is no larger
          store(&p[j], s);
        }
        const float top = largest(most);
        vec total{};
        vectors(0, seen, [&](int64_t j, auto n) {
          const vec e = exponential(load(&p[j], n) - top);
          store(&p[j], e, n);
          total += load(&p[j], n);
        });
        const float share = 1.f / sum(total);
        float* out = context + h * E;
        std::fill(out, out + E, 0.f);
        int64_t j = 0;
        for (; j + 4 <= seen; j += 4)
          vectors(0, E, [&](int64_t e, auto n) {
            const float* v = values + j * E + e;
            store(out + e, load(out + e, n) + (load(v, n) * p[j] + load(v + E, n) * p[j + 1]) +
                               (load(v + 2 * E, n) * p[j + 2] + load(v + 3 * E, n) * p[j + 3]), n);
          });
        for (; j < seen; j++)
          vectors(0, E, [&](int64_t e, auto n) {
            store(out + e, load(out + e, n) + load(values + j * E + e, n) * p[j], n);
          });
        vectors(0, E, [&](int64_t e, auto n) { store(out + e, load(out + e, n) * share, n); });
      }
    }
  });
}

// --- the choice of a token -----------------------------------------------------------------------

constexpr int64_t STRETCH = 512;  // logits whose mass is summed up in single precision

/**
 * For each row of z [rows, width] a token and its log-probability at temperature 1: the largest logit, or the first
 * token at which the sum of exp(z / temperature) exceeds the uniform's share of the whole. NaN where no choice can be.
 */
void choose(int64_t rows, int64_t width, const float* z, const float* uniforms, float inverse_temperature, bool greedy,
            float* chosen) {
  const int64_t stretches = (width + STRETCH - 1) / STRETCH;
  parallel(rows, [&](int64_t r) {
    const float* row = z + r * width;
    vec most = splat(-INFINITY);
    vectors(0, width, [&](int64_t i, auto n) {
      vec x = load(row + i, n);
      if constexpr (std::is_same_v<decltype(n), Part>)
        for (int64_t lane = n.lanes; lane < LANES; lane++) x[lane] = row[0];
      most = larger(most, x);
    });
    const float top = largest(most);
    std::unique_ptr<float[]> p(greedy ? nullptr : new float[width]);
    std::unique_ptr<double[]> mass(new double[stretches]);
    double all = 0, whole = 0;
    for (int64_t s = 0; s < stretches; s++) {
      const int64_t begin = s * STRETCH, end = std::min(width, begin + STRETCH);
      vec sampled{}, plain{};
      vectors(begin, end, [&](int64_t i, auto n) {
        const vec x = load(row + i, n) - top;
        vec e = exponential(x), w = greedy || inverse_temperature == 1.f ? e : exponential(x * inverse_temperature);
        if constexpr (std::is_same_v<decltype(n), Part>)
          for (int64_t lane = n.lanes; lane < LANES; lane++) e[lane] = w[lane] = 0;
        plain += e, sampled += w;
        if (p) store(&p[i], w, n);
      });
      mass[s] = sum(sampled), all += mass[s], whole += sum(plain);
    }
    int64_t token = 0;
    if (greedy) {
      while (token + 1 < width && row[token] != top) token++;
    } else {
      const double bound = uniforms[3 * r] * all;
      double before = 0;
      int64_t s = 0;
      while (s + 1 < stretches && before + mass[s] <= bound) before += mass[s++];
      token = s * STRETCH;
      int64_t last = token;  // of some mass
      for (const int64_t end = std::min(width, token + STRETCH); token < end; token++) {
        if (p[token] > 0) last = token;
        if ((before += p[token]) > bound) break;
      }
      token = last;
    }
    chosen[2 * r] = token;
    chosen[2 * r + 1] = row[token] - top - std::log(whole);
  });
}

}  // namespace
