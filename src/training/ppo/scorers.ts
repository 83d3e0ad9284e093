import { createHash } from 'node:crypto'
import { permutation } from '../../random.ts'
import { LibraError } from '../../errors.ts'
import type { Scale } from '../../evaluation/combine.ts'
import { SCORE_HEAD } from '../../model/heads.ts'
import type { Llama } from '../../model/llama.ts'
import { cutBy } from '../../model/readout.ts'
import {
  disposePairs,
  loadAdapter,
  loadBase,
  mergeAdapter,
  stackAdapters,
} from '../../model/resident.ts'
import type { Axis } from '../../schemas/feedback.ts'
import type { Calibration } from '../../schemas/model.ts'
import type { PpoOptions } from '../../schemas/policy-options.ts'
import type { TrainSpec } from '../../schemas/training.ts'
import { tf } from '../../tensor/backend.ts'
import { loadTokenizer } from '../../text/tokenizer.ts'
import type { Tokenizer } from '../../text/tokenizer.ts'
import { readCard } from '../../weights/folder.ts'
import { scoredSequence } from '../data.ts'
import { scoreSequences } from '../reward-model.ts'
import { samplingOf } from './prompts.ts'
import type { Prompt } from './prompts.ts'
import { sample } from './rollout.ts'
import type { Rollout } from './rollout.ts'

export type Scorer = {
  model: Llama
  /** its own: a reward model may come from elsewhere */
  tokenizer: Tokenizer
  /** tokens that it reads, counted from the end */
  window: number
  calibration: Calibration | null
  dispose(): void
}
export type Scorers = Record<Axis, Scorer>
export type Scales = Record<Axis, Scale>

type Named = Pick<Extract<TrainSpec, { kind: 'policy_update' }>, Axis>
/** Names a pair of reward models: what was measured on one pair's rewards says nothing about another's. */
export const scorersOf = ({ helpfulness, safety }: Named): string =>
  createHash('sha256')
    .update(JSON.stringify([helpfulness, safety]))
    .digest('hex')
    .slice(0, 16)

/** Both reward models; one that stands for both axes is loaded, and asked, once. Throws `no_score_head`. */
export async function loadScorers({ helpfulness, safety }: Named): Promise<Scorers> {
  const first = await loadScorer(helpfulness)
  const same = JSON.stringify(helpfulness) === JSON.stringify(safety)
  return { helpfulness: first, safety: same ? first : await loadScorer(safety) }
}

/** A reward model ready to score: its stack applied as one adapter on its base. */
export async function loadScorer({
  files,
  calibration,
}: Extract<TrainSpec, { kind: 'policy_update' }>['helpfulness']): Promise<Scorer> {
  const card = await readCard(files.adapters.at(-1) ?? files.base)
  const base = await loadBase(files.base)
  const loaded = []
  for (const folder of files.adapters) loaded.push(await loadAdapter(base, folder))
  const stack = stackAdapters(loaded.map(({ pairs }) => pairs))
  for (const { pairs } of loaded) disposePairs(pairs)
  const merged = mergeAdapter(base, stack)
  disposePairs(stack)
  const heads = new Map(loaded.flatMap(({ heads }) => [...heads]))
  const head = heads.get(SCORE_HEAD) ?? base.weights.get(SCORE_HEAD)
  if (head === undefined)
    throw new LibraError(
      'no_score_head',
      `${files.adapters.at(-1) ?? files.base} has no score head: it is not a reward model`,
    )
  return {
    model: cutBy(
      { ...merged, weights: new Map([...merged.weights, ...heads, [SCORE_HEAD, head]]) },
      ...([card, files.adapters.at(-1) ?? files.base] as const),
    ),
    tokenizer: await loadTokenizer(files.base),
    window: card?.max_length ?? base.config.context,
    calibration,
    dispose() {
      tf.dispose([...merged.owned, ...heads.values(), ...base.weights.values()])
      base.rope.dispose()
    },
  }
}

/** The raw logits of both reward models on every answer, each [n]. */
export function scoreBoth(
  rollouts: readonly Rollout[],
  prompts: readonly Prompt[],
  scorers: Scorers,
  options: Pick<PpoOptions, 'micro_batch_tokens'>,
): Record<Axis, Float64Array> {
  const score = ({ model, tokenizer, window }: Scorer): Float64Array =>
    scoreSequences(
      model,
      rollouts.map(({ prompt, text }) =>
        scoredSequence(tokenizer, prompts[prompt]?.row.messages ?? [], text, window),
      ),
      options.micro_batch_tokens,
    )
  const helpfulness = score(scorers.helpfulness)
  const same = scorers.safety === scorers.helpfulness
  return { helpfulness, safety: same ? helpfulness : score(scorers.safety) }
}

/** Mean and deviation (Bessel) as they are: 0 where all are equal. */
export function spreadOf(values: ArrayLike<number>): Scale {
  const list = Array.from(values)
  const mean = list.reduce((a, b) => a + b, 0) / list.length
  const squares = list.reduce((a, b) => a + (b - mean) ** 2, 0)
  return { mean, std: Math.sqrt(squares / Math.max(1, list.length - 1)) }
}
/** The same to divide by: a deviation of 0 counts as 1. */
export function momentsOf(values: ArrayLike<number>): Scale {
  const { mean, std } = spreadOf(values)
  return { mean, std: std || 1 }
}
const SCALE_SAMPLES = 256

/** Each axis' mean and deviation over answers of the reference policy: fixed once, before the first round. */
export async function referenceScales(
  reference: Llama,
  scorers: Scorers,
  prompts: readonly Prompt[],
  tokenizer: Tokenizer,
  options: PpoOptions,
): Promise<Scales> {
  const order = permutation(prompts.length, options.seed, 4)
  // few prompts are asked again and again: a deviation of ten answers would be anything
  const asked = Array.from({ length: SCALE_SAMPLES }, (_, i) => {
    const prompt = order[i % order.length] ?? 0
    return { prompt, promptIds: prompts[prompt]?.ids ?? [], promptClass: null }
  })
  const rollouts = await sample(reference, asked, samplingOf(options, tokenizer, [options.seed, 5]))
  const { helpfulness, safety } = scoreBoth(rollouts, prompts, scorers, options)
  return { helpfulness: momentsOf(helpfulness), safety: momentsOf(safety) }
}
