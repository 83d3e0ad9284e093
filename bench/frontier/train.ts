import { initialize } from '../../src/model/resident.ts'
import type { Llama } from '../../src/model/llama.ts'
import { PpoOptions } from '../../src/schemas/policy-options.ts'
import { tf } from '../../src/tensor/backend.ts'
import { createAdamW, learningRateAt } from '../../src/training/optimizer.ts'
import { allParameters } from '../../src/training/parameters.ts'
import type { Kept } from '../../src/training/ppo/best.ts'
import { learn } from '../../src/training/ppo/methods.ts'
import { measure, sample, VALUE_HEAD } from '../../src/training/ppo/rollout.ts'
import type { Rollout } from '../../src/training/ppo/rollout.ts'
import type { Trainee } from '../../src/training/trainee.ts'
import { plainLlama } from '../../src/weights/config.ts'
import { ANSWERS, END, LONGEST, PROMPTS } from './world.ts'

/** A transformer of two layers over the world's words, trained by the product's own rollouts, methods and optimiser. */

const CONFIG = plainLlama({
  ...{ vocabularySize: 8, hiddenSize: 32, intermediateSize: 64, layers: 2, heads: 2, kvHeads: 2 },
  ...{ headDim: 16, rmsNormEpsilon: 1e-5, ropeTheta: 10000, ropeScaling: null, context: 16 },
  tieWordEmbeddings: true,
})
const EMBEDDING = 'model.embed_tokens.weight'
/** Makes the untrained model prefer some answers clearly: without it all are about as likely. */
const SHARPER = Number(process.env['SH'] ?? 9)

function untrained(seed: number): Llama {
  const model = initialize(CONFIG, seed)
  const weights = model.weights as Map<string, ReturnType<typeof tf.keep>>
  const before = weights.get(EMBEDDING)
  if (before === undefined) throw new Error('no embedding')
  weights.set(EMBEDDING, tf.keep(tf.mul(before, SHARPER)))
  before.dispose()
  return model
}

/** π0 of a seed and a copy of it that learns. */
export function newTrainee(seed: number, critic: boolean): Trainee {
  const [model, reference] = [untrained(seed), untrained(seed)]
  if (critic) {
    const weights = model.weights as Map<string, ReturnType<typeof tf.keep>>
    weights.set(VALUE_HEAD, tf.keep(tf.zeros([1, CONFIG.hiddenSize])))
  }
  return {
    ...{ model, reference, trainable: 'all', parameters: allParameters(model) },
    merged: () => ({ ...model, owned: [] }),
    save: () => Promise.reject(new Error('nothing is saved here')),
    dispose() {
      for (const each of [model, reference]) {
        tf.dispose([...each.weights.values()])
        each.rope.dispose()
      }
    },
  }
}

const blank = (prompt: number, responseIds: readonly number[]): Rollout => ({
  ...{ prompt, promptIds: PROMPTS[prompt] ?? [], promptClass: null, responseIds: [...responseIds] },
  ...{ ended: responseIds.at(-1) === END, text: '', entropy: 0 },
  logprobs: new Float64Array(responseIds.length),
  referenceLogprobs: new Float64Array(responseIds.length),
  values: new Float64Array(responseIds.length),
})
const SAMPLING = { maxTokens: LONGEST, temperature: 1, stopId: END, microTokens: 1 << 16 }

/** The chance of every answer to every prompt under the model and under π0, by measuring each of them. */
export function distributions({ model, reference }: Trainee): {
  policy: number[][]
  reference: number[][]
} {
  const rollouts = PROMPTS.flatMap((_, x) => ANSWERS.map((answer) => blank(x, answer)))
  measure(rollouts, model, reference, SAMPLING)
  const sums = (of: (rollout: Rollout) => Float64Array): number[][] =>
    PROMPTS.map((_, x) =>
      rollouts
        .slice(x * ANSWERS.length, (x + 1) * ANSWERS.length)
        .map((rollout) => Math.exp(of(rollout).reduce((a, b) => a + b, 0))),
    )
  return { policy: sums((r) => r.logprobs), reference: sums((r) => r.referenceLogprobs) }
}

export type Method = PpoOptions['method']
const RATES: Record<Method, number> = {
  ...{ ppo: 3e-3, rloo: 3e-3, dpo: 1e-3, rejection_sampling: 1e-3 },
}
const EPOCHS: Record<Method, number> = { ppo: 2, rloo: 2, dpo: 1, rejection_sampling: 1 }
const PER_PROMPT = 16
export const ROUNDS = 300

/** Rounds of a method against a known reward: answers are sampled, measured and learned from as in the product. */
export async function train(
  trainee: Trainee,
  method: Method,
  reward: (prompt: number, answer: readonly number[]) => number,
  { beta, seed, rounds = ROUNDS }: { beta: number; seed: number; rounds?: number },
): Promise<void> {
  const options = PpoOptions.parse({
    ...{ method, seed, kl_coef: beta, samples_per_prompt: PER_PROMPT, max_new_tokens: LONGEST },
    ...{ prompts_per_round: PROMPTS.length, mini_batch_size: 96, lora: null },
    epochs: EPOCHS[method],
    optimizer: {
      ...{ learning_rate: RATES[method], schedule: 'linear', warmup_fraction: 0, weight_decay: 0 },
    },
  })
  const optimizer = createAdamW(trainee.parameters, options.optimizer)
  const prompts = PROMPTS.map((ids) => ({
    ids,
    row: { messages: [{ role: 'user' as const, content: ids.join(' ') }] },
  }))
  const asked = PROMPTS.flatMap((promptIds, prompt) =>
    Array.from({ length: PER_PROMPT }, () => ({ prompt, promptIds, promptClass: null })),
  )
  const kept: Kept = new Map()
  const bad = { count: 0 }
  for (let round = 0; round < rounds; round++) {
    const how = { ...SAMPLING, key: [seed, 1, round], decode: (ids: number[]) => ids.join(' ') }
    const rollouts = await sample(trainee.merged(), asked, how)
    measure(rollouts, trainee.model, trainee.reference, SAMPLING)
    const rewards = rollouts.map(({ prompt, responseIds }) => reward(prompt, responseIds))
    const lr = learningRateAt(round, rounds, options.optimizer)
    learn(
      trainee,
      optimizer,
      { rollouts, prompts },
      {
        ...{ rewards, kept, round, options, lr, klCoef: beta, bad },
      },
    )
  }
  optimizer.dispose()
}
