import { permutation } from '../../random.ts'
import type { Llama } from '../../model/llama.ts'
import {
  disposePairs,
  loadAdapter,
  loadBase,
  mergeAdapter,
  stackAdapters,
} from '../../model/resident.ts'
import { tf } from '../../tensor/backend.ts'
import { calibrate } from '../../evaluation/calibration.ts'
import { combine } from '../../evaluation/combine.ts'
import type { Scale } from '../../evaluation/combine.ts'
import { LibraError } from '../../errors.ts'
import { PromptRow } from '../../schemas/feedback.ts'
import type { Calibration } from '../../schemas/model.ts'
import type { PpoOptions, RolloutRow, TrainEvent, TrainSpec } from '../../schemas/training.ts'
import { encodeChat } from '../../text/template.ts'
import { loadTokenizer } from '../../text/tokenizer.ts'
import type { Tokenizer } from '../../text/tokenizer.ts'
import { readCard } from '../../weights/folder.ts'
import { writeJson } from '../../weights/json.ts'
import { writeSafetensors } from '../../weights/safetensors.ts'
import { scoredSequence } from '../data.ts'
import { readRows } from '../../text/rows.ts'
import { createAdamW, learningRateAt } from '../optimizer.ts'
import { SCORE_HEAD, scoreSequences } from '../reward-model.ts'
import { loadTrainee } from '../trainee.ts'
import { gae, whiten } from './advantages.ts'
import { klEstimate, tokenRewards } from './rewards.ts'
import { loadState } from './state.ts'
import { rollOut, sample, VALUE_HEAD } from './rollout.ts'
import type { Rollout } from './rollout.ts'
import { ppoUpdate } from './update.ts'

type Spec = Extract<TrainSpec, { kind: 'policy_update' }>
type Scorer = {
  model: Llama
  /** its own: a reward model may come from elsewhere */
  tokenizer: Tokenizer
  /** tokens that it reads, counted from the end */
  window: number
  calibration: Calibration | null
  dispose(): void
}
type Prompt = { row: PromptRow; ids: number[] }
type Scales = { helpfulness: Scale; safety: Scale }

/**
 * PPO rounds against two reward models. Reference = the SFT model, that is the policy's trunk with its adapter
 * off; critic = a value head on the policy's trunk. Everything a later round needs (adapter, head, optimiser,
 * scales, round number) is in the checkpoint, so rounds called one by one equal one long run.
 */
export async function* policyUpdate(spec: Spec, signal?: AbortSignal): AsyncGenerator<TrainEvent> {
  const { options } = spec
  const tokenizer = await loadTokenizer(spec.reference.base)
  const trainee = await loadTrainee(
    spec.reference,
    options.lora,
    [VALUE_HEAD],
    options.seed,
    spec.parent,
  )
  const scorers = {
    helpfulness: await loadScorer(spec.helpfulness),
    safety: await loadScorer(spec.safety),
  }
  const optimizer = createAdamW(trainee.parameters, options.optimizer)
  try {
    const prompts = encodePrompts(
      await readRows(spec.data, PromptRow),
      tokenizer,
      trainee.model.config.context,
      options,
      spec.data,
    )
    const parent = spec.parent === null ? null : await loadState(spec.parent)
    if (parent !== null) optimizer.load(parent.optimizer)
    const scales =
      parent?.scales ??
      (options.reward_normalization === 'reference'
        ? await referenceScales(trainee.reference, scorers, prompts, tokenizer, options)
        : null)
    const first = parent?.round ?? 0
    const total = options.total_rounds ?? first + options.rounds
    const bad = { count: 0 }
    let kl = 0
    if (first + options.rounds > total)
      yield {
        type: 'warning',
        message: `rounds ${first + 1} to ${first + options.rounds} go past total_rounds ${total}: the schedule has ended`,
      }
    yield { type: 'started', steps: options.rounds, tokens: null }

    for (let round = first; round < first + options.rounds; round++) {
      signal?.throwIfAborted()
      const started = performance.now()
      // 1. prompts of this round, then one response each from the current policy
      const asked = pickPrompts(prompts, options, round).map((at) => ({
        prompt: at,
        promptIds: prompts[at]?.ids ?? [],
        promptClass: prompts[at]?.row.prompt_class ?? null,
      }))
      const sampler = trainee.merged()
      const rollouts = await rollOut(
        trainee.model,
        sampler,
        trainee.reference,
        asked,
        samplingOf(options, tokenizer, [options.seed, 1, round]),
      )
      tf.dispose(sampler.owned)
      // 2. both reward models score the same answers; the gate makes one number of two
      const scored = scoreRollouts(rollouts, prompts, scorers, options, scales)
      // 3. per-token rewards, advantages, returns
      const rows = advantagesOf(rollouts, scored.rewards, options)
      // 4. several epochs of clipped updates
      const lr = learningRateAt(round, total, options.optimizer)
      const update = ppoUpdate(trainee.model, trainee.trainable, optimizer, rows, options, lr, {
        key: [options.seed, 2, round],
        warmup: round < options.critic_warmup_rounds,
        bad,
      })
      // 5. tell
      const metrics: Record<string, number> = {
        ...rolloutMetrics(rollouts, scored, rows, options),
        ...update,
        lr,
        episode: (round + 1) * asked.length,
        'time/round_s': (performance.now() - started) / 1000,
      }
      kl = metrics['objective/kl'] ?? 0
      yield { type: 'rollouts', step: round + 1, rows: rolloutRows(rollouts, scored) }
      yield { type: 'metrics', step: round + 1, metrics }
      await new Promise(setImmediate)
    }

    const state = optimizer.state()
    const extra = async (folder: string): Promise<void> => {
      await writeSafetensors(`${folder}/optimizer.safetensors`, state.tensors)
      await writeJson(`${folder}/trainer_state.json`, {
        round: first + options.rounds,
        step: state.step,
        scales,
        reference: spec.reference,
      })
    }
    await trainee.save(spec.output, { role: 'policy' }, { extra })
    yield { type: 'done', output: spec.output, summary: { 'objective/kl': kl } }
  } finally {
    optimizer.dispose()
    trainee.dispose()
    scorers.helpfulness.dispose()
    scorers.safety.dispose()
  }
}

/** A reward model ready to score: its stack applied as one adapter on its base. */
export async function loadScorer({ files, calibration }: Spec['helpfulness']): Promise<Scorer> {
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
    model: { ...merged, weights: new Map([...merged.weights, [SCORE_HEAD, head]]) },
    tokenizer: await loadTokenizer(files.base),
    window: card?.max_length ?? base.config.context,
    calibration,
    dispose() {
      tf.dispose([...merged.owned, ...heads.values(), ...base.weights.values()])
      base.rope.dispose()
    },
  }
}

function encodePrompts(
  rows: PromptRow[],
  tokenizer: Tokenizer,
  context: number,
  options: PpoOptions,
  file: string,
): Prompt[] {
  if (rows.length === 0) throw new LibraError('empty_data', `${file} holds no prompt`)
  return rows.map((row, i) => {
    const { ids } = encodeChat(tokenizer, row.messages, true)
    if (ids.length + options.max_new_tokens > context)
      throw new LibraError(
        'context_length_exceeded',
        `${file}, prompt ${i + 1}: ${ids.length} tokens and max_new_tokens ${options.max_new_tokens} exceed the context of ${context}`,
      )
    return { row, ids }
  })
}

/** Prompts of a round: a keyed permutation per pass over the data, each asked samples_per_prompt times. */
function pickPrompts(prompts: readonly Prompt[], options: PpoOptions, round: number): number[] {
  return Array.from({ length: options.prompts_per_round }, (_, i) => {
    const at = round * options.prompts_per_round + i
    const order = permutation(prompts.length, options.seed, 3, Math.floor(at / prompts.length))
    return order[at % prompts.length] ?? 0
  }).flatMap((at) => new Array<number>(options.samples_per_prompt).fill(at))
}

const samplingOf = (options: PpoOptions, tokenizer: Tokenizer, key: readonly number[]) => ({
  maxTokens: options.max_new_tokens,
  temperature: options.temperature,
  stopId: tokenizer.eos,
  microTokens: options.micro_batch_tokens,
  key,
  decode: (ids: number[]) => tokenizer.decode(ids),
})

type Scored = {
  helpfulness: Float64Array
  safety: Float64Array
  rewards: Float64Array
  safetyBranch: number
}

function scoreBoth(
  rollouts: readonly Rollout[],
  prompts: readonly Prompt[],
  scorers: { helpfulness: Scorer; safety: Scorer },
  options: PpoOptions,
) {
  const score = ({ model, tokenizer, window }: Scorer): Float64Array =>
    scoreSequences(
      model,
      rollouts.map(({ prompt, text }) =>
        scoredSequence(tokenizer, prompts[prompt]?.row.messages ?? [], text, window),
      ),
      options.micro_batch_tokens,
    )
  return { helpfulness: score(scorers.helpfulness), safety: score(scorers.safety) }
}

function scoreRollouts(
  rollouts: readonly Rollout[],
  prompts: readonly Prompt[],
  scorers: { helpfulness: Scorer; safety: Scorer },
  options: PpoOptions,
  scales: Scales | null,
): Scored {
  const { helpfulness, safety } = scoreBoth(rollouts, prompts, scorers, options)
  let safetyBranch = 0
  const rewards = Float64Array.from(rollouts, ({ promptClass }, i) => {
    const s = safety[i] ?? NaN
    const { reward, branch } = combine(
      { logit: helpfulness[i] ?? NaN },
      { logit: s, probability: calibrate(s, scorers.safety.calibration) },
      {
        combiner: options.combiner,
        multiplier: options.lagrange_multiplier,
        weight: options.helpfulness_weight,
        threshold: options.gate_threshold,
        promptClass,
        scales,
      },
    )
    if (branch === 'safety') safetyBranch += 1 / rollouts.length
    return reward
  })
  const combined = options.reward_normalization === 'batch' ? standardise(rewards) : rewards
  // the missing-EOS penalty comes after the reward is standardised
  rollouts.forEach(({ ended }, i) => {
    if (!ended) combined[i] = (combined[i] ?? 0) - options.missing_eos_penalty
  })
  if (!combined.every(Number.isFinite))
    throw new LibraError('non_finite_output', 'a reward model gave a score that is not finite', {
      fault: 'engine',
    })
  return { helpfulness, safety, rewards: combined, safetyBranch }
}

function momentsOf(values: ArrayLike<number>): Scale {
  const list = Array.from(values)
  const mean = list.reduce((a, b) => a + b, 0) / list.length
  return {
    mean,
    std:
      Math.sqrt(list.reduce((a, b) => a + (b - mean) ** 2, 0) / Math.max(1, list.length - 1)) || 1,
  }
}
function standardise(values: Float64Array): Float64Array {
  const { mean, std } = momentsOf(values)
  return values.map((x) => (x - mean) / std)
}

const SCALE_SAMPLES = 256

/** Each axis' mean and deviation over answers of the reference policy: fixed once, before the first round. */
async function referenceScales(
  reference: Llama,
  scorers: { helpfulness: Scorer; safety: Scorer },
  prompts: readonly Prompt[],
  tokenizer: Tokenizer,
  options: PpoOptions,
): Promise<Scales> {
  const asked = Array.from(
    permutation(prompts.length, options.seed, 4).slice(0, SCALE_SAMPLES),
    (at) => ({ prompt: at, promptIds: prompts[at]?.ids ?? [], promptClass: null }),
  )
  const rollouts = await sample(reference, asked, samplingOf(options, tokenizer, [options.seed, 5]))
  const { helpfulness, safety } = scoreBoth(rollouts, prompts, scorers, options)
  return { helpfulness: momentsOf(helpfulness), safety: momentsOf(safety) }
}

const rolloutRows = (rollouts: readonly Rollout[], scored: Scored): RolloutRow[] =>
  rollouts.map(({ prompt, text, ended }, i) => ({
    ...{ prompt, response: text, ended },
    helpfulness: scored.helpfulness[i] ?? NaN,
    safety: scored.safety[i] ?? NaN,
    reward: scored.rewards[i] ?? NaN,
  }))

function advantagesOf(rollouts: readonly Rollout[], rewards: Float64Array, options: PpoOptions) {
  const masks = rollouts.map(({ responseIds }) => new Uint8Array(responseIds.length).fill(1))
  const computed = rollouts.map((rollout, i) => {
    const perToken = tokenRewards(
      rollout.logprobs,
      rollout.referenceLogprobs,
      masks[i] ?? [],
      rewards[i] ?? 0,
      options.kl_coef,
      options.kl_estimator,
    )
    return gae(perToken, rollout.values, masks[i] ?? [], options)
  })
  const advantages = options.whiten_advantages
    ? whiten(
        computed.map(({ advantages }) => advantages),
        masks,
      )
    : computed.map(({ advantages }) => advantages)
  return rollouts.map((rollout, i) => ({
    promptIds: rollout.promptIds,
    responseIds: rollout.responseIds,
    oldLogprobs: rollout.logprobs,
    oldValues: rollout.values,
    advantages: advantages[i] ?? new Float64Array(0),
    returns: computed[i]?.returns ?? new Float64Array(0),
  }))
}

/** TRL's metric names; docs/metrics.md defines each. */
function rolloutMetrics(
  rollouts: readonly Rollout[],
  scored: Scored,
  rows: readonly { returns: Float64Array; oldValues: Float64Array }[],
  options: PpoOptions,
): Record<string, number> {
  const n = rollouts.length
  const mean = (f: (r: Rollout, i: number) => number): number =>
    rollouts.reduce((sum, r, i) => sum + f(r, i), 0) / n
  const sumKl = (
    { logprobs, referenceLogprobs }: Rollout,
    estimator: PpoOptions['kl_estimator'],
  ): number =>
    logprobs.reduce(
      (sum, logprob, t) => sum + klEstimate(logprob, referenceLogprobs[t] ?? 0, estimator),
      0,
    )
  const kl = mean((r) => sumKl(r, 'k1'))
  const penalty = -options.kl_coef * mean((r) => sumKl(r, options.kl_estimator))
  const scores = mean((_, i) => scored.rewards[i] ?? 0)
  const returns = rows.flatMap((row) => [...row.returns])
  const errors = rows.flatMap((row) => [...row.returns].map((r, t) => r - (row.oldValues[t] ?? 0)))
  return {
    'objective/kl': kl,
    'objective/entropy': mean(({ entropy, responseIds }) => entropy * responseIds.length),
    'objective/non_score_reward': penalty,
    'objective/scores': scores,
    'objective/rlhf_reward': scores + penalty,
    'objective/helpfulness': mean((_, i) => scored.helpfulness[i] ?? 0),
    'objective/safety': mean((_, i) => scored.safety[i] ?? 0),
    'policy/entropy_avg': mean(({ entropy }) => entropy),
    'gate/safety_share': scored.safetyBranch,
    'val/num_eos_tokens': rollouts.filter(({ ended }) => ended).length,
    'val/explained_variance': 1 - momentsOf(errors).std ** 2 / momentsOf(returns).std ** 2,
    'response/length': mean(({ responseIds }) => responseIds.length),
  }
}
