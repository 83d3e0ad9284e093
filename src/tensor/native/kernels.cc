// Libra's kernels in plain C++ with the compilers' vector extensions. Compiled once per instruction set: ISA names the
// table that this unit exports, LANES the floats of a vector.
#include "kernels.h"

#include <memory>

#include "decoding.h"
#include "vectors.h"

namespace {

constexpr int64_t SLICE = 4096;  // floats that one thread takes at a time of an elementwise op
template <typename F>
void elementwise(int64_t size, const F& each) {
  parallel((size + SLICE - 1) / SLICE, [&](int64_t slice) {
    const int64_t begin = slice * SLICE, end = std::min(size, begin + SLICE);
    vectors(begin, end, each);
  });
}
// --- norms and activations ----------------------------------------------------------------------

constexpr int64_t ROWS = 32;  // of one thread's turn: fixed, so that sums have one order

void rms_norm(int64_t rows, int64_t width, const float* x, const float* w, float epsilon, float* y, float* inverse) {
  parallel((rows + ROWS - 1) / ROWS, [&](int64_t turn) {
    for (int64_t r = turn * ROWS; r < std::min(rows, (turn + 1) * ROWS); r++) {
      const float* in = x + r * width;
      vec squares{};
      vectors(0, width, [&](int64_t i, auto n) {
        const vec a = load(in + i, n);
        squares += a * a;
      });
      const float scale = 1.f / std::sqrt(sum(squares) / width + epsilon);
      inverse[r] = scale;
      vectors(0, width, [&](int64_t i, auto n) {
        store(y + r * width + i, load(in + i, n) * scale * load(w + i, n), n);
      });
    }
  });
}

void rms_norm_grad(int64_t rows, int64_t width, const float* dy, const float* x, const float* w, const float* inverse,
                   const float* skip, float* dx, float* dw) {
  const int64_t turns = (rows + ROWS - 1) / ROWS;
  std::unique_ptr<float[]> parts(dw ? new float[turns * width]() : nullptr);
  parallel(turns, [&](int64_t turn) {
    float* part = dw ? parts.get() + turn * width : nullptr;
    for (int64_t r = turn * ROWS; r < std::min(rows, (turn + 1) * ROWS); r++) {
      const float *in = x + r * width, *up = dy + r * width;
      const float scale = inverse[r];
      vec products{};
      vectors(0, width, [&](int64_t i, auto n) {
        const vec a = load(in + i, n), d = load(up + i, n);
        products += a * d * load(w + i, n);
        if (part) store(part + i, load(part + i, n) + d * a * scale, n);
      });
      const float mean = sum(products) / width * scale * scale;
      vectors(0, width, [&](int64_t i, auto n) {
        vec d = (load(up + i, n) * load(w + i, n) - load(in + i, n) * mean) * scale;
        if (skip) d += load(skip + r * width + i, n);
        store(dx + r * width + i, d, n);
      });
    }
  });
  if (!dw) return;
  std::fill(dw, dw + width, 0.f);
  for (int64_t turn = 0; turn < turns; turn++)
    for (int64_t i = 0; i < width; i++) dw[i] += parts[turn * width + i];
}

void swiglu(int64_t size, const float* gate, const float* up, float* y) {
  elementwise(size, [&](int64_t i, auto n) {
    const vec g = load(gate + i, n);
    store(y + i, g * logistic(g) * load(up + i, n), n);
  });
}

void swiglu_grad(int64_t size, const float* dy, const float* gate, const float* up, float* dgate, float* dup) {
  elementwise(size, [&](int64_t i, auto n) {
    const vec g = load(gate + i, n), u = load(up + i, n), d = load(dy + i, n);
    const vec s = logistic(g), silu = g * s;
    store(dup + i, d * silu, n);
    store(dgate + i, d * u * (s + silu * (1.f - s)), n);  // silu' = σ(1 + g(1 − σ))
  });
}

// --- products of small matrices -----------------------------------------------------------------

/** C[M,N] (+)= A[M,K]·B[K,N], N = NV vectors; element (i, k) of A lies at i·row + k·column. */
template <int MR, int NV>
inline void tile(int64_t K, const float* A, int64_t row, int64_t column, const float* B, int64_t ldb, float* C,
                 int64_t ldc, bool more) {
  vec c[MR][NV];
#pragma GCC unroll 16
  for (int i = 0; i < MR; i++)
#pragma GCC unroll 4
    for (int j = 0; j < NV; j++) c[i][j] = more ? load(C + i * ldc + j * LANES) : vec{};
  for (int64_t k = 0; k < K; k++) {
    vec b[NV];
#pragma GCC unroll 4
    for (int j = 0; j < NV; j++) b[j] = load(B + k * ldb + j * LANES);
#pragma GCC unroll 16
    for (int i = 0; i < MR; i++) {
      const vec a = splat(A[i * row + k * column]);
#pragma GCC unroll 4
      for (int j = 0; j < NV; j++) c[i][j] += a * b[j];
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < MR; i++)
#pragma GCC unroll 4
    for (int j = 0; j < NV; j++) store(C + i * ldc + j * LANES, c[i][j]);
}

template <int NV>
inline void panel(int64_t M, int64_t K, const float* A, int64_t row, int64_t column, const float* B, int64_t ldb,
                  float* C, int64_t ldc, bool more) {
  constexpr int MR = NV == 4 ? 6 : NV == 2 ? (LANES == 16 ? 12 : 6) : 8;
  int64_t i = 0;
  for (; i + MR <= M; i += MR) tile<MR, NV>(K, A + i * row, row, column, B, ldb, C + i * ldc, ldc, more);
  for (; i + 4 <= M; i += 4) tile<4, NV>(K, A + i * row, row, column, B, ldb, C + i * ldc, ldc, more);
  for (; i < M; i++) tile<1, NV>(K, A + i * row, row, column, B, ldb, C + i * ldc, ldc, more);
}

/** N is a multiple of LANES. */
void product(int64_t M, int64_t N, int64_t K, const float* A, int64_t row, int64_t column, const float* B, int64_t ldb,
             float* C, int64_t ldc, bool more) {
  int64_t j = 0;
#if LANES == 16
  for (; j + 4 * LANES <= N; j += 4 * LANES) panel<4>(M, K, A, row, column, B + j, ldb, C + j, ldc, more);
#endif
  for (; j + 2 * LANES <= N; j += 2 * LANES) panel<2>(M, K, A, row, column, B + j, ldb, C + j, ldc, more);
  for (; j < N; j += LANES) panel<1>(M, K, A, row, column, B + j, ldb, C + j, ldc, more);
}

// --- attention ----------------------------------------------------------------------------------

constexpr int64_t QUERIES = 48;  // of one block

inline int64_t rounded(int64_t n) { return (n + LANES - 1) / LANES * LANES; }

/** out = head turned by its position's angles, zero beyond its width; sign −1 turns back. */
inline void turn(const Attention& a, const float* head, int64_t position, float factor, float sign, float* out) {
  const int64_t E = a.width, half = E / 2;
  if (!a.angles) {
    for (int64_t e = 0; e < E; e++) out[e] = head[e] * factor;
    return;
  }
  const float *cosine = a.angles + position * E, *sine = cosine + half;
  for (int64_t e = 0; e < half; e++) {
    const float x = head[e] * factor, y = head[e + half] * factor, s = sine[e] * sign;
    out[e] = x * cosine[e] - y * s;
    out[e + half] = y * cosine[e] + x * s;
  }
}

/** Keys and values of one head that a segment sees, its own and those of the segment that it continues. */
struct Keys {
  int64_t before = 0, count = 0, padded = 0, wide;
  std::unique_ptr<float[]> k, kt, v, vt;
  Keys(const Attention& a, const Segment& s, int64_t head, bool gradient) : wide(rounded(a.width)) {
    const Segment* parent = s.parent < 0 ? nullptr : a.segments + s.parent;
    before = parent ? parent->length : 0;
    count = before + s.length;
    padded = rounded(count);
    k.reset(new float[padded * wide]());
    kt.reset(new float[padded * wide]);
    v.reset(new float[padded * wide]());
    if (gradient) vt.reset(new float[padded * wide]);
    const int64_t stride = a.kv_heads * a.width;
    for (int64_t j = 0; j < count; j++) {
      const Segment& from = j < before ? *parent : s;
      const int64_t within = j < before ? j : j - before, at = (from.start + within) * stride + head * a.width;
      turn(a, a.k + at, from.position + within, 1, 1, k.get() + j * wide);
      std::memcpy(v.get() + j * wide, a.v + at, a.width * sizeof(float));
    }
    flip(k.get(), kt.get());
    if (gradient) flip(v.get(), vt.get());
  }
  void flip(const float* from, float* to) const {
    for (int64_t j0 = 0; j0 < padded; j0 += LANES)
      for (int64_t e = 0; e < wide; e++)
        for (int64_t j = j0; j < j0 + LANES; j++) to[e * padded + j] = from[j * wide + e];
  }
};

/** A block of one head's queries: rows `first` … of a segment, and the keys [from, to) that any of them sees. */
struct Block {
  int64_t first, rows, from, to;
};
inline Block block_at(const Attention& a, const Segment& s, const Keys& keys, int64_t first) {
  Block b{first, std::min(QUERIES, s.length - first), 0, keys.before + first};
  b.to += b.rows;
  if (a.window > 0) b.from = std::max<int64_t>(0, keys.before + first + 1 - a.window) / LANES * LANES;
  b.to = rounded(b.to);
  return b;
}
inline void bounds(const Attention& a, const Keys& keys, int64_t query, int64_t& low, int64_t& high) {
  high = keys.before + query + 1;
  low = a.window > 0 ? std::max<int64_t>(0, high - a.window) : 0;
}
inline int64_t query_row(const Attention& a, const Segment& s, int64_t query) {
  return a.last ? &s - a.segments : s.start + query;
}

void attention_of(const Attention& a, const Segment& s, int64_t kv_head, float* context, float* logsumexp) {
  const Keys keys(a, s, kv_head, false);
  const int64_t E = a.width, wide = keys.wide, group = a.heads / a.kv_heads;
  std::unique_ptr<float[]> q(new float[QUERIES * wide]()), p(new float[QUERIES * keys.padded]),
      out(new float[QUERIES * wide]);
  const float factor = 1.f / std::sqrt(static_cast<float>(E));
  for (int64_t h = kv_head * group; h < (kv_head + 1) * group; h++)
    for (int64_t first = a.last ? s.length - 1 : 0; first < s.length; first += QUERIES) {
      const Block b = block_at(a, s, keys, first);
      const int64_t seen = b.to - b.from;
      for (int64_t i = 0; i < b.rows; i++)
        turn(a, a.q + (query_row(a, s, first + i) * a.heads + h) * E, s.position + first + i, factor, 1, &q[i * wide]);
      product(b.rows, seen, wide, q.get(), wide, 1, keys.kt.get() + b.from, keys.padded, p.get(), keys.padded, false);
      for (int64_t i = 0; i < b.rows; i++) {
        int64_t low, high;
        bounds(a, keys, first + i, low, high);
        low -= b.from, high -= b.from;
        float* row = &p[i * keys.padded];
        std::fill(row, row + low, -INFINITY);
        std::fill(row + high, row + seen, -INFINITY);
        vec most = splat(-INFINITY);
        for (int64_t j = 0; j < seen; j += LANES) most = larger(most, load(row + j));
        const float top = largest(most);
        vec total{};
        for (int64_t j = 0; j < seen; j += LANES) {
          const vec e = exponential(load(row + j) - top);
          total += e;
          store(row + j, e);
        }
        const float all = sum(total);
        logsumexp[query_row(a, s, first + i) * a.heads + h] = top + std::log(all);
        const float share = 1.f / all;
        for (int64_t j = 0; j < seen; j += LANES) store(row + j, load(row + j) * share);
      }
      product(b.rows, wide, seen, p.get(), keys.padded, 1, keys.v.get() + b.from * wide, wide, out.get(), wide, false);
      for (int64_t i = 0; i < b.rows; i++)
        std::memcpy(context + (query_row(a, s, first + i) * a.heads + h) * E, &out[i * wide], E * sizeof(float));
    }
}

/** Adds the gradients of a segment's keys and values to dk and dv, one kv head's share of them. */
void attention_grad_of(const Attention& a, const Segment& s, int64_t kv_head, const float* dcontext,
                       const float* context, const float* logsumexp, float* dq, float* dk, float* dv) {
  const Keys keys(a, s, kv_head, true);
  const int64_t E = a.width, wide = keys.wide, group = a.heads / a.kv_heads, padded = keys.padded;
  const auto zeros = [](int64_t n) { return std::unique_ptr<float[]>(new float[n]()); };
  const auto q = zeros(QUERIES * wide), d = zeros(QUERIES * wide), back = zeros(QUERIES * wide);
  const auto p = zeros(QUERIES * padded), dp = zeros(QUERIES * padded);
  const auto keys_grad = zeros(padded * wide), values_grad = zeros(padded * wide);
  const float factor = 1.f / std::sqrt(static_cast<float>(E));
  for (int64_t h = kv_head * group; h < (kv_head + 1) * group; h++)
    for (int64_t first = a.last ? s.length - 1 : 0; first < s.length; first += QUERIES) {
      const Block b = block_at(a, s, keys, first);
      const int64_t seen = b.to - b.from;
      float inner[QUERIES];
      for (int64_t i = 0; i < b.rows; i++) {
        const int64_t at = (query_row(a, s, first + i) * a.heads + h) * E;
        turn(a, a.q + at, s.position + first + i, factor, 1, &q[i * wide]);
        inner[i] = 0;
        for (int64_t e = 0; e < E; e++) inner[i] += (d[i * wide + e] = dcontext[at + e]) * context[at + e];
      }
      product(b.rows, seen, wide, q.get(), wide, 1, keys.kt.get() + b.from, padded, p.get(), padded, false);
      product(b.rows, seen, wide, d.get(), wide, 1, keys.vt.get() + b.from, padded, dp.get(), padded, false);
      for (int64_t i = 0; i < b.rows; i++) {
        int64_t low, high;
        bounds(a, keys, first + i, low, high);
        low -= b.from, high -= b.from;
        float *row = &p[i * padded], *slope = &dp[i * padded];
        std::fill(row, row + low, -INFINITY);
        std::fill(row + high, row + seen, -INFINITY);
        const float lse = logsumexp[query_row(a, s, first + i) * a.heads + h];
        for (int64_t j = 0; j < seen; j += LANES) {
          const vec share = exponential(load(row + j) - lse);
          store(row + j, share);
          store(slope + j, share * (load(slope + j) - inner[i]));
        }
      }
      product(seen, wide, b.rows, p.get(), 1, padded, d.get(), wide, &values_grad[b.from * wide], wide, true);
      product(seen, wide, b.rows, dp.get(), 1, padded, q.get(), wide, &keys_grad[b.from * wide], wide, true);
      product(b.rows, wide, seen, dp.get(), padded, 1, keys.k.get() + b.from * wide, wide, back.get(), wide, false);
      for (int64_t i = 0; i < b.rows; i++)
        turn(a, &back[i * wide], s.position + first + i, factor, -1,
             dq + (query_row(a, s, first + i) * a.heads + h) * E);
    }
  std::unique_ptr<float[]> turned(new float[E]);
  for (int64_t j = 0; j < keys.count; j++) {
    const Segment& from = j < keys.before ? a.segments[s.parent] : s;
    const int64_t within = j < keys.before ? j : j - keys.before;
    const int64_t at = ((from.start + within) * a.kv_heads + kv_head) * E;
    turn(a, &keys_grad[j * wide], from.position + within, 1, -1, turned.get());
    for (int64_t e = 0; e < E; e++) {
      dk[at + e] += turned[e];
      dv[at + e] += values_grad[j * wide + e];
    }
  }
}

void attention(const Attention& a, float* context, float* logsumexp) {
  const int64_t rows = a.last ? a.count : a.rows;
  std::fill(context, context + rows * a.heads * a.width, 0.f);  // rows of no segment
  std::fill(logsumexp, logsumexp + rows * a.heads, 0.f);
  parallel(a.count * a.kv_heads, [&](int64_t i) {
    attention_of(a, a.segments[i / a.kv_heads], i % a.kv_heads, context, logsumexp);
  });
}

void attention_grad(const Attention& a, const float* dcontext, const float* context, const float* logsumexp, float* dq,
                    float* dk, float* dv) {
  std::fill(dq, dq + (a.last ? a.count : a.rows) * a.heads * a.width, 0.f);
  std::fill(dk, dk + a.rows * a.kv_heads * a.width, 0.f);
  std::fill(dv, dv + a.rows * a.kv_heads * a.width, 0.f);
  // a family at a time: those that continue a segment add to its keys
  std::unique_ptr<int64_t[]> families(new int64_t[a.count + 1]);
  int64_t count = 0;
  for (int64_t i = 0; i < a.count; i++)
    if (a.segments[i].parent < 0) families[count++] = i;
  families[count] = a.count;
  parallel(count * a.kv_heads, [&](int64_t i) {
    for (int64_t s = families[i / a.kv_heads]; s < families[i / a.kv_heads + 1]; s++)
      attention_grad_of(a, a.segments[s], i % a.kv_heads, dcontext, context, logsumexp, dq, dk, dv);
  });
}

// --- losses and the optimiser ---------------------------------------------------------------------

void log_prob(int64_t rows, int64_t width, const float* z, const int32_t* labels, float* logprob, float* logsumexp) {
  parallel(rows, [&](int64_t r) {
    const float* row = z + r * width;
    vec most = splat(-INFINITY);
    int64_t i = 0;
    for (; i + LANES <= width; i += LANES) most = larger(most, load(row + i));
    float top = largest(most);
    for (; i < width; i++) top = std::max(top, row[i]);
    vec total{};
    for (i = 0; i + LANES <= width; i += LANES) total += exponential(load(row + i) - top);
    float all = sum(total);
    for (; i < width; i++) all += std::exp(row[i] - top);
    logsumexp[r] = top + std::log(all);
    logprob[r] = row[labels[r]] - logsumexp[r];
  });
}

void log_prob_grad(int64_t rows, int64_t width, const float* z, const int32_t* labels, const float* logsumexp,
                   const float* d, float* dz) {
  parallel(rows, [&](int64_t r) {
    vectors(0, width, [&](int64_t i, auto n) {
      store(dz + r * width + i, exponential(load(z + r * width + i, n) - logsumexp[r]) * -d[r], n);
    });
    dz[r * width + labels[r]] += d[r];
  });
}

void adamw(int64_t size, const float* p, const float* g, const float* m, const float* v, const float* decayed,
           const AdamW& o, float* new_p, float* new_m, float* new_v) {
  elementwise(size, [&](int64_t i, auto n) {
    const vec slope = load(g + i, n) * o.clip, weight = load(p + i, n);
    const vec first = load(m + i, n) * o.beta1 + slope * (1.f - o.beta1);
    const vec second = load(v + i, n) * o.beta2 + slope * slope * (1.f - o.beta2);
    vec root = second;
    for (int j = 0; j < LANES; j++) root[j] = std::sqrt(root[j]);
    store(new_m + i, first, n);
    store(new_v + i, second, n);
    store(new_p + i,
          weight - weight * load(decayed + i, n) * o.decay - first / (root * o.root_correction2 + o.epsilon) * o.rate,
          n);
  });
}

}  // namespace

#define TABLE_OF(isa) kernels_##isa
#define TABLE(isa) TABLE_OF(isa)
#define NAME_OF(isa) #isa
#define NAME(isa) NAME_OF(isa)
extern const Kernels TABLE(ISA);
const Kernels TABLE(ISA) = {NAME(ISA),      rms_norm, rms_norm_grad, swiglu, swiglu_grad, attention,
                            attention_grad, log_prob, log_prob_grad, adamw,         linear, cached_attention, choose};
