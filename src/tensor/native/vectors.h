#pragma once
// Vectors of the compiler's extension: LANES floats each.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

namespace {

typedef float vec __attribute__((vector_size(LANES * 4)));
typedef int32_t ivec __attribute__((vector_size(LANES * 4)));

inline vec load(const float* p) {
  vec x;
  std::memcpy(&x, p, sizeof x);
  return x;
}
inline void store(float* p, vec x) { std::memcpy(p, &x, sizeof x); }
inline vec splat(float x) { return vec{} + x; }
inline vec larger(vec a, vec b) { return a > b ? a : b; }
inline float sum(vec x) {
  float total = 0;
  for (int i = 0; i < LANES; i++) total += x[i];
  return total;
}
inline float largest(vec x) {
  float most = x[0];
  for (int i = 1; i < LANES; i++) most = std::max(most, x[i]);
  return most;
}
/** A whole vector, or the last lanes of a row: the rest is zero. */
struct Whole {};
struct Part {
  int64_t lanes;
};
inline vec load(const float* p, Whole) { return load(p); }
inline vec load(const float* p, Part part) {
  vec x{};
  std::memcpy(&x, p, part.lanes * sizeof(float));
  return x;
}
inline void store(float* p, vec x, Whole) { store(p, x); }
inline void store(float* p, vec x, Part part) { std::memcpy(p, &x, part.lanes * sizeof(float)); }

template <typename F>
inline void vectors(int64_t begin, int64_t end, const F& each) {
  int64_t i = begin;
  for (; i + LANES <= end; i += LANES) each(i, Whole{});
  if (i < end) each(i, Part{end - i});
}

/** e^x to 2e-7 relative (Cephes); 0 below −87. */
inline vec exponential(vec x) {
  const vec low = splat(-87.3f);
  const ivec alive = ~(x < low);  // so that NaN stays NaN
  x = x < low ? low : x;
  x = x > splat(88.3f) ? splat(88.3f) : x;
  const vec magic = splat(12582912.f);  // 1.5 · 2^23: adding it rounds to an integer
  const vec shifted = x * 1.44269504f + magic;
  const vec n = shifted - magic;
  const vec r = (x - n * 0.693359375f) - n * -2.12194440e-4f;
  vec p = splat(1.9875691500e-4f);
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.f;
  ivec bits;
  std::memcpy(&bits, &shifted, sizeof bits);
  bits = (bits - 0x4b400000 + 127) << 23;
  vec scale;
  std::memcpy(&scale, &bits, sizeof scale);
  vec y = p * scale;
  ivec kept;
  std::memcpy(&kept, &y, sizeof kept);
  kept &= alive;
  std::memcpy(&y, &kept, sizeof y);
  return y;
}
inline vec logistic(vec x) { return 1.f / (1.f + exponential(-x)); }

}  // namespace
