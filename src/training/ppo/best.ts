import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { permutation } from '../../random.ts'
import { PromptRow } from '../../schemas/feedback.ts'
import type { PpoOptions } from '../../schemas/policy-options.ts'
import type { TrainSpec } from '../../schemas/training.ts'
import { readRows } from '../../text/rows.ts'
import type { AdamW } from '../optimizer.ts'
import { guardedStep, tokenLoss } from '../tokens.ts'
import type { Trainee } from '../trainee.ts'
import type { Control } from './control.ts'
import { meanOf } from './measures.ts'
import { answered, bestAndWorst } from './pairs.ts'
import type { Prompt } from './prompts.ts'
import type { Rollout } from './rollout.ts'
import { scoreRollouts } from './scored.ts'
import type { Scales, Scorers } from './scorers.ts'
import type { UpdateState } from './update.ts'

/**
 * Rejection sampling (Touvron et al. 2023, section 3.2.3): of K answers to a prompt the best by the combined reward is
 * learned by supervised fine-tuning, and the best of all earlier rounds stay, since learning from the last round alone
 * was found to forget.
 */

const KeptAnswer = z.object({
  row: PromptRow,
  prompt_ids: z.array(z.int()),
  response_ids: z.array(z.int()),
  text: z.string(),
  ended: z.boolean(),
  reward: z.number(),
  round: z.int().min(0),
})
type KeptAnswer = z.infer<typeof KeptAnswer>
/** The best answer so far to every prompt that was asked, by the prompt. */
export type Kept = Map<string, KeptAnswer>

const keyOf = ({ messages, prompt_class }: PromptRow): string =>
  JSON.stringify([messages, prompt_class ?? null])

const FILE = 'kept.jsonl'
export async function readKept(folder: string): Promise<Kept> {
  const rows = await readRows(join(folder, FILE), KeptAnswer)
  return new Map(rows.map((row) => [keyOf(row.row), row]))
}
export const writeKept = (folder: string, kept: Kept): Promise<void> =>
  writeFile(join(folder, FILE), [...kept.values()].map((row) => JSON.stringify(row)).join('\n'))

/** What rewards depend on beside the answer: kept ones that were measured by something else are measured again. */
export const yardstickOf = ({ helpfulness, safety, options }: PolicySpec): string => {
  const { combiner, lagrange_multiplier, helpfulness_weight, gate_threshold } = options
  const { reward_clip, missing_eos_penalty, reward_normalization } = options
  return JSON.stringify([
    ...[helpfulness, safety, combiner, lagrange_multiplier, helpfulness_weight, gate_threshold],
    ...[reward_clip ?? null, missing_eos_penalty, reward_normalization],
  ])
}
type PolicySpec = Extract<TrainSpec, { kind: 'policy_update' }>

/** Gives kept answers the rewards that the reward models of now give. */
export function measureAgain(
  kept: Kept,
  scorers: Scorers,
  options: PpoOptions,
  scales: Scales | null,
  control: Control,
): void {
  const list = [...kept.values()]
  if (list.length === 0) return
  const prompts: Prompt[] = list.map(({ row, prompt_ids: ids }) => ({ row, ids }))
  const rollouts = list.map((answer, prompt): Rollout => {
    const nothing = new Float64Array(0)
    return {
      ...{ prompt, promptIds: answer.prompt_ids, responseIds: answer.response_ids },
      ...{ promptClass: answer.row.prompt_class ?? null, ended: answer.ended, text: answer.text },
      ...{ logprobs: nothing, referenceLogprobs: nothing, values: nothing, entropy: 0 },
    }
  })
  // a copy: the moments of what was sampled do not count these a second time
  const { rewards } = scoreRollouts(rollouts, prompts, scorers, options, scales, { ...control })
  list.forEach((answer, i) => (answer.reward = rewards[i] ?? NaN))
}

/** Keeps each prompt's best answer of a round where no earlier one is as good; what a round brought, in figures. */
export function keepBest(
  kept: Kept,
  rollouts: readonly Rollout[],
  rewards: ArrayLike<number>,
  prompts: readonly Prompt[],
  k: number,
  round: number,
): Record<string, number> {
  const figures = { best: 0, known: 0, improved: 0 }
  const groups = rollouts.length / k
  const winners = new Map(
    bestAndWorst(rewards, k).map(({ best }) => [Math.floor(best / k), best] as const),
  )
  for (let group = 0; group < groups; group++) {
    const at = winners.get(group) ?? group * k
    const { prompt, promptIds, responseIds, text, ended } = rollouts[at] ?? {}
    const row = prompts[prompt ?? -1]?.row
    if (row === undefined || promptIds === undefined || responseIds === undefined) continue
    const reward = rewards[at] ?? NaN
    figures.best += reward / groups
    const before = kept.get(keyOf(row))
    if (before !== undefined && before.round < round) {
      figures.known++
      if (reward > before.reward) figures.improved++
    }
    if (before !== undefined && before.reward >= reward) continue
    const answer = { prompt_ids: [...promptIds], response_ids: [...responseIds] }
    kept.set(keyOf(row), {
      ...{ row, ...answer, text: text ?? '', ended: ended ?? false, reward, round },
    })
  }
  const all = [...kept.values()]
  return {
    'rejection/best_reward': figures.best,
    ...(figures.known > 0 && { 'rejection/improved_share': figures.improved / figures.known }),
    'rejection/kept': all.length,
    'rejection/kept_reward': all.reduce((sum, { reward }) => sum + reward, 0) / all.length,
    'rejection/kept_earlier_share': all.filter((each) => each.round < round).length / all.length,
  }
}

/** Several epochs of supervised fine-tuning on all that is kept. */
export function bestUpdate(
  { model, trainable }: Pick<Trainee, 'model' | 'trainable'>,
  optimizer: AdamW,
  kept: Kept,
  options: PpoOptions,
  learningRate: number,
  { key, bad }: Pick<UpdateState, 'key' | 'bad'>,
): Record<string, number> {
  const sequences = [...kept.values()].map(({ prompt_ids: promptIds, response_ids: responseIds }) =>
    answered({ promptIds, responseIds }),
  )
  const told: Record<string, number>[] = []
  for (let epoch = 0; epoch < options.epochs; epoch++) {
    const order = Array.from(permutation(sequences.length, ...key, 47, epoch))
    for (let start = 0; start < order.length; start += options.mini_batch_size) {
      const rows = order.slice(start, start + options.mini_batch_size)
      const { loss, gradients } = tokenLoss(
        ...([model, sequences, rows, trainable, options.micro_batch_tokens] as const),
      )
      const grad_norm = guardedStep(optimizer, gradients, learningRate, bad)
      told.push({ 'loss/sft_avg': loss, grad_norm })
    }
  }
  return { 'policy/updates': told.length, ...meanOf(told) }
}
