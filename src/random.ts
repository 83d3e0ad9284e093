/**
 * Counter-based randomness: every number is a function of a key, so that a run resumes exactly from a
 * position and no state is kept anywhere. The mixer is murmur3's 32-bit finaliser, applied per key word.
 */
function mix(h: number): number {
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b)
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35)
  return (h ^ (h >>> 16)) >>> 0
}

/** A 32-bit hash of a key such as (seed, round, row, position). */
export function hashKey(...key: readonly number[]): number {
  let h = 0x9e3779b9
  for (const word of key) h = mix(Math.imul(h, 31) + mix((word ^ 0x2545f491) >>> 0) + 0x6d2b79f5)
  return h
}

/** Uniform in (0, 1), never 0 or 1, with 52 bits from two hashes. */
export function uniform(...key: readonly number[]): number {
  const high = hashKey(...key, 0x51)
  const low = hashKey(...key, 0xa7)
  return (high * 2 ** 20 + (low >>> 12) + 0.5) / 2 ** 52
}

/** Standard normal by Box–Muller. */
export function normal(...key: readonly number[]): number {
  return Math.sqrt(-2 * Math.log(uniform(...key, 1))) * Math.cos(2 * Math.PI * uniform(...key, 2))
}

/** Fisher–Yates with keyed draws: a permutation of 0…n−1. */
export function permutation(n: number, ...key: readonly number[]): Int32Array {
  const order = Int32Array.from({ length: n }, (_, i) => i)
  for (let i = n - 1; i > 0; i--) {
    const j = Math.floor(uniform(...key, i) * (i + 1))
    const swap = order[i] ?? 0
    order[i] = order[j] ?? 0
    order[j] = swap
  }
  return order
}
