import type { Enumerated } from '../../evaluation/frontier.ts'
import type { Llama } from '../../model/llama.ts'
import { PpoOptions } from '../../schemas/policy-options.ts'
import { tf } from '../../tensor/backend.ts'
import { floats } from '../../tensor/ops.ts'
import { createAdamW, learningRateAt } from '../optimizer.ts'
import { allParameters } from '../parameters.ts'
import type { Kept } from '../ppo/best.ts'
import { learn } from '../ppo/methods.ts'
import { pickPrompts } from '../ppo/prompts.ts'
import type { Prompt } from '../ppo/prompts.ts'
import { measure, sample, VALUE_HEAD } from '../ppo/rollout.ts'
import { ANSWERS, distributionOf, END, LONGEST, PROMPTS, rewardsBy, wordOf } from './world.ts'

export const METHODS = ['ppo', 'rloo', 'dpo', 'rejection_sampling'] as const
export type Method = (typeof METHODS)[number]
export const COMBINERS = ['gate', 'lagrangian', 'weighted'] as const
export type NanoCombiner = (typeof COMBINERS)[number]

/** β: far enough from π0 that an untrained policy is far from the optimum, not so far that one answer is left. */
export const BETA = 0.35

/** Settings of the study; rewards are standardised by the world itself, and rejection sampling takes few rounds. */
export const optionsOf = (method: Method, combiner: NanoCombiner, seed: number): PpoOptions =>
  PpoOptions.parse({
    ...{ method, combiner, seed, kl_coef: BETA, lora: null, reward_normalization: 'none' },
    ...{ rounds: method === 'rejection_sampling' ? 5 : 120, max_new_tokens: LONGEST },
    ...{ prompts_per_round: PROMPTS.length, samples_per_prompt: 16, missing_eos_penalty: 0 },
    ...{ epochs: 2, mini_batch_size: 96, lagrange_multiplier: 2, helpfulness_weight: 0.5 },
    optimizer: {
      ...{ learning_rate: 5e-3, schedule: 'linear', warmup_fraction: 0, weight_decay: 0 },
    },
  })

/**
 * A policy trained by the service's own rounds (sample, measure, learn) with the gold reward of each answer in place of
 * the reward models; its exact distribution over all answers. Reference = the policy that it starts from.
 */
export async function trainNano(
  first: Llama,
  world: readonly Enumerated[],
  options: PpoOptions,
): Promise<number[][]> {
  const weights = new Map([...first.weights].map(([name, w]) => [name, tf.keep(tf.clone(w))]))
  if (options.method === 'ppo') {
    const width = first.config.hiddenSize
    weights.set(VALUE_HEAD, tf.keep(floats(new Float32Array(width), [1, width])))
  }
  const model: Llama = { ...first, weights, adapter: null }
  const optimizer = createAdamW(allParameters(model), options.optimizer)
  const rewards = rewardsBy(world, options)
  const worth = rewards.map((row) => new Map(ANSWERS.map((ids, y) => [wordOf(ids), row[y] ?? NaN])))
  const prompts = PROMPTS.map((ids): Prompt => ({
    row: { messages: [{ role: 'user', content: wordOf(ids) }] },
    ids: [...ids],
  }))
  const kept: Kept = new Map()
  const bad = { count: 0 }
  try {
    for (let round = 0; round < options.rounds; round++) {
      const asked = pickPrompts(prompts, options, round * options.prompts_per_round).map(
        (prompt) => ({
          ...{ prompt, promptIds: prompts[prompt]?.ids ?? [], promptClass: null },
        }),
      )
      const sampling = {
        ...{ maxTokens: LONGEST, temperature: options.temperature, stopId: END, decode: wordOf },
        ...{ microTokens: options.micro_batch_tokens, key: [options.seed, 1, round] },
      }
      const rollouts = await sample(model, asked, sampling)
      measure(rollouts, model, first, sampling)
      const lr = learningRateAt(round, options.rounds, options.optimizer)
      learn(
        { model, trainable: 'all' },
        optimizer,
        { rollouts, prompts },
        {
          ...{ kept, round, criticRounds: round, options, lr, klCoef: options.kl_coef, bad },
          rewards: rollouts.map(({ prompt, text }) => worth[prompt]?.get(text) ?? NaN),
        },
      )
    }
    return distributionOf(model, first)
  } finally {
    optimizer.dispose()
    tf.dispose([...weights.values()])
  }
}
