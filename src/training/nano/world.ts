import { combine, isUnsafe } from '../../evaluation/combine.ts'
import type { Enumerated } from '../../evaluation/frontier.ts'
import { normal } from '../../random.ts'
import { plainLlama } from '../../weights/config.ts'
import type { Llama } from '../../model/llama.ts'
import { disposeBase, initialize } from '../../model/resident.ts'
import type { PpoOptions } from '../../schemas/policy-options.ts'
import { tf } from '../../tensor/backend.ts'
import type { Tensor } from '../../tensor/backend.ts'
import { measure } from '../ppo/rollout.ts'
import type { Rollout } from '../ppo/rollout.ts'
import { momentsUnder } from './moments.ts'

/**
 * A world small enough to enumerate: six letters and an end, answers of at most three tokens, six prompts of two
 * letters. Helpfulness and safety of every answer are known; to every second prompt what helps is what harms.
 */

export const END = 0
const LETTERS = [1, 2, 3, 4, 5, 6]
export const LONGEST = 3
export const PROMPTS: readonly (readonly number[])[] = [
  ...[
    [1, 2],
    [3, 4],
    [5, 6],
  ],
  ...[
    [2, 5],
    [4, 1],
    [6, 3],
  ],
]
const WORLD_SEED = 11

/** All answers: every string of letters up to the longest, with its end where there is room for one. */
export function answers(before: readonly number[] = []): number[][] {
  if (before.length === LONGEST) return [[...before]]
  return [[...before, END], ...LETTERS.flatMap((letter) => answers([...before, letter]))]
}
export const ANSWERS = answers()
export const wordOf = (ids: readonly number[]): string =>
  ids.map((id) => (id === END ? '.' : String.fromCharCode(96 + id))).join('')

/** The policy that all start from: a Llama of one layer with weights large enough that it has preferences. */
export function firstPolicy(): Llama {
  const config = plainLlama({
    ...{ vocabularySize: 7, hiddenSize: 32, intermediateSize: 64, layers: 1, context: 16 },
    ...{ heads: 2, kvHeads: 2, headDim: 16, rmsNormEpsilon: 1e-6, tieWordEmbeddings: false },
    ...{ ropeTheta: 10000, ropeScaling: null },
  })
  const model = initialize(config, WORLD_SEED)
  const weights = model.weights as Map<string, Tensor>
  for (const [name, w] of weights)
    if (!name.includes('norm')) {
      weights.set(name, tf.keep(tf.mul(w, 8)))
      w.dispose()
    }
  return model
}

/** The exact distribution over all answers to each prompt, from the model's own log-probabilities. */
export function distributionOf(model: Llama, reference: Llama): number[][] {
  const rows = PROMPTS.flatMap((promptIds, prompt) =>
    ANSWERS.map((ids): Rollout => rolloutOf(prompt, promptIds, ids)),
  )
  measure(rows, model, reference, { temperature: 1, microTokens: 4096 })
  return PROMPTS.map((_, prompt) =>
    rows
      .slice(prompt * ANSWERS.length, (prompt + 1) * ANSWERS.length)
      .map(({ logprobs }) => Math.exp(logprobs.reduce((a, b) => a + b, 0))),
  )
}
const rolloutOf = (prompt: number, promptIds: readonly number[], ids: number[]): Rollout => ({
  ...{ prompt, promptIds, promptClass: null, responseIds: ids, ended: ids.at(-1) === END },
  ...{ text: wordOf(ids), entropy: 0, logprobs: new Float64Array(ids.length) },
  referenceLogprobs: new Float64Array(ids.length),
  values: new Float64Array(ids.length),
})

/** Before standardising: what each letter adds, and each pair of neighbours. */
function rawWorth(prompt: number, ids: readonly number[]): { helpfulness: number; safety: number } {
  const conflict = prompt % 2 === 0 ? 0.85 : 0
  const own = Math.sqrt(1 - conflict ** 2)
  let [helpfulness, safety] = [0, 0]
  ids.forEach((id, t) => {
    const previous = ids[t - 1] ?? 7
    const help =
      normal(WORLD_SEED, 1, prompt, id) + 0.7 * normal(WORLD_SEED, 2, prompt, previous, id)
    const other =
      normal(WORLD_SEED, 3, prompt, id) + 0.7 * normal(WORLD_SEED, 4, prompt, previous, id)
    helpfulness += help
    safety += own * other - conflict * help
  })
  return { helpfulness, safety }
}

/** A safety model's logit per deviation: with 2, the gate at 0.15 holds back what is 0.87 deviations below the mean. */
const LOGITS_PER_DEVIATION = 2

/** π0 and the gold rewards, on the scale of `reward_normalization: reference`: mean 0 and deviation 1 under π0. */
export function enumerate(reference: readonly (readonly number[])[]): Enumerated[] {
  const raw = PROMPTS.map((_, prompt) => ANSWERS.map((ids) => rawWorth(prompt, ids)))
  const scaled = (axis: 'helpfulness' | 'safety'): number[][] => {
    const values = raw.map((row) => row.map((worth) => worth[axis]))
    const { mean, std } = momentsUnder(reference, values)
    return values.map((row) => row.map((value) => (value - mean) / std))
  }
  const [helpfulness, safety] = [scaled('helpfulness'), scaled('safety')]
  return reference.map((p, x) => ({
    ...{ reference: p, helpfulness: helpfulness[x] ?? [], safety: safety[x] ?? [] },
  }))
}

/** 1 for every answer that a gate at Llama 2's threshold holds back as unsafe, else 0. */
export const heldBack = (world: readonly Enumerated[], threshold = 0.15): number[][] =>
  world.map(({ safety }) =>
    safety.map((s) =>
      isUnsafe({ logit: LOGITS_PER_DEVIATION * s, probability: null }, threshold) ? 1 : 0,
    ),
  )

/** What the combiner of the options makes of both rewards, for every answer. */
export const rewardsBy = (world: readonly Enumerated[], options: PpoOptions): number[][] =>
  world.map(({ helpfulness, safety }) =>
    helpfulness.map((h, y) => {
      const logit = LOGITS_PER_DEVIATION * (safety[y] ?? NaN)
      const { reward } = combine(
        { logit: h },
        { logit, probability: null },
        {
          ...{ combiner: options.combiner, threshold: options.gate_threshold, promptClass: null },
          ...{ multiplier: options.lagrange_multiplier, weight: options.helpfulness_weight },
          scales: {
            helpfulness: { mean: 0, std: 1 },
            safety: { mean: 0, std: LOGITS_PER_DEVIATION },
          },
        },
      )
      return reward
    }),
  )

/** The world with its first policy. Dispose it after use. */
export function nanoWorld(): { policy: Llama; world: Enumerated[]; dispose(): void } {
  const policy = firstPolicy()
  const world = enumerate(distributionOf(policy, policy))
  return { policy, world, dispose: () => disposeBase(policy) }
}
