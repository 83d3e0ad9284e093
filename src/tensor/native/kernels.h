#pragma once
#include <cstdint>

// What the processor computes for Libra's own ops (ops.cc), compiled once per instruction set (kernels.cc).

/** Calls work(0) … work(count − 1) on the threads that there are. */
using Work = void (*)(const void* job, int64_t index);
void parallel(int64_t count, const void* job, Work work);
template <typename F>
void parallel(int64_t count, const F& work) {
  parallel(count, &work, [](const void* job, int64_t index) { (*static_cast<const F*>(job))(index); });
}

/**
 * Rows of several sequences one after the other. A segment is a run of rows; it sees itself causally, and before
 * that all rows of the segment that it continues (parent, −1: none). A family is a segment and those that continue it.
 */
struct Segment {
  int32_t start, length, parent, position;  // position: of its first row
};

struct Attention {
  int64_t rows, heads, kv_heads, width;  // width: of a head
  const Segment* segments;
  int64_t count;
  const float *q, *k, *v;  // [rows, heads·width], [rows, kv_heads·width]
  const float* angles;     // [positions, width]: cosines, then sines, half of a head each; null: no rotation
  int64_t window;          // keys seen at most; 0: all
  bool last;               // queries are the last rows of segments alone: q and context have one row per segment
};

/** One new token in each row of a cache [rows, kv_heads, slots, width]. */
struct CachedAttention {
  int64_t rows, heads, kv_heads, width, slots;
  const float *q, *k, *v;  // of the new tokens: [rows, heads·width], [rows, kv_heads·width]
  const float* positions;  // and slots of the new tokens
  const float* angles;     // as in Attention
  float *keys, *values;    // the new token's are written here
  int64_t window;          // as in Attention
};

struct AdamW {
  float clip, beta1, beta2, epsilon, rate, root_correction2, decay;  // decay: learning rate times weight decay
};

struct Kernels {
  const char* name;
  /** y = x / rms(x) · w and 1 / rms(x) */
  void (*rms_norm)(int64_t rows, int64_t width, const float* x, const float* w, float epsilon, float* y, float* inverse);
  /** dx = skip + the gradient of rms_norm; dw where it is asked for */
  void (*rms_norm_grad)(int64_t rows, int64_t width, const float* dy, const float* x, const float* w,
                        const float* inverse, const float* skip, float* dx, float* dw);
  /** silu(gate) · up */
  void (*swiglu)(int64_t size, const float* gate, const float* up, float* y);
  void (*swiglu_grad)(int64_t size, const float* dy, const float* gate, const float* up, float* dgate, float* dup);
  /** context [·, heads·width], logsumexp [·, heads] */
  void (*attention)(const Attention&, float* context, float* logsumexp);
  void (*attention_grad)(const Attention&, const float* dcontext, const float* context, const float* logsumexp,
                         float* dq, float* dk, float* dv);
  /** log softmax(z)[label] and logsumexp(z) of each row */
  void (*log_prob)(int64_t rows, int64_t width, const float* z, const int32_t* labels, float* logprob,
                   float* logsumexp);
  /** d · (onehot − softmax) */
  void (*log_prob_grad)(int64_t rows, int64_t width, const float* z, const int32_t* labels, const float* logsumexp,
                        const float* d, float* dz);
  void (*adamw)(int64_t size, const float* p, const float* g, const float* m, const float* v, const float* decayed,
                const AdamW&, float* new_p, float* new_m, float* new_v);
  /** y [M, N] = x [M, K]·w [N, K]ᵀ */
  void (*linear)(int64_t M, int64_t N, int64_t K, const float* x, const float* w, float* y);
  void (*cached_attention)(const CachedAttention&, float* context);
  /** a token of each row of z and its log-probability; uniforms lie three apart */
  void (*choose)(int64_t rows, int64_t width, const float* z, const float* uniforms, float inverse_temperature,
                 bool greedy, float* chosen);
};
