/**
 * Counter-based randomness: every number is a function of a key, so that a run resumes exactly from a
 * position and no state is kept anywhere. The mixer is murmur3's 32-bit finaliser, applied per key word.
 */
function mix(h: number): number {
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b)
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35)
  return (h ^ (h >>> 16)) >>> 0
}

const START = 0x9e3779b9
/** The hash of a key that is one word longer. */
const longer = (h: number, word: number): number =>
  mix(Math.imul(h, 31) + mix((word ^ 0x2545f491) >>> 0) + 0x6d2b79f5)

/** A 32-bit hash of a key such as (seed, round, row, position). */
export const hashKey = (...key: readonly number[]): number => key.reduce(longer, START)

/** 52 bits from two hashes. */
const fraction = (h: number): number =>
  (longer(h, 0x51) * 2 ** 20 + (longer(h, 0xa7) >>> 12) + 0.5) / 2 ** 52

/** Uniform in (0, 1), never 0 or 1. */
export const uniform = (...key: readonly number[]): number => fraction(hashKey(...key))

/** What `uniform` gives for (…key, 0), …, (…key, n − 1): the beginning is hashed once. */
export function uniforms(n: number, ...key: readonly number[]): Float64Array {
  const h = hashKey(...key)
  return Float64Array.from({ length: n }, (_, k) => fraction(longer(h, k)))
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
