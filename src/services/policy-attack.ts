import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { withCheckpoint } from '../engine/engine.ts'
import type { ModelFiles } from '../engine/engine.ts'
import { cancelled, LibraError } from '../errors.ts'
import { SEARCHED } from '../evaluation/exploit.ts'
import { FEWEST_ANSWERS } from '../evaluation/probes.ts'
import type { ProbeAnswer } from '../evaluation/probes.ts'
import type { Judge } from '../judging/judge.ts'
import { writeRows } from '../rlaif/rows.ts'
import { signalsOf } from '../rlaif/signals.ts'
import type { Message } from '../schemas/chat.ts'
import type { Certificate } from '../schemas/checks.ts'
import type { Axis } from '../schemas/feedback.ts'
import { PpoOptions } from '../schemas/policy-options.ts'
import { drawn } from './data.ts'
import { trainExactly } from './exact.ts'
import { BETTER, meanGain, preferred, unchangedGain } from './judged-gains.ts'
import { metricsOf } from './run-records.ts'
import { recordPart } from './runs.ts'
import type { RunContext } from './runs.ts'
import type { Services } from './services.ts'
import { register, runFolder, spread } from './trained.ts'

/** The third attack of a certificate: a policy that is trained against the reward model alone. */

/** Of the budget that best of n, and this attack, take at most each, so that there is enough left to search with. */
export const SHARE = 1 / 3

const PROMPTS = 12
const SAMPLES = 4
/** Score calls of a round. */
const ROUND = PROMPTS * SAMPLES
/** A held-out prompt is answered by two policies. */
const MEASURED = 2
/** Score calls are what is short, so that each answer is learned from several times. */
const EPOCHS = 4
const LEARNING_RATE = 1e-3
const SHOWN = 8
/** Answers sampled at once: as many as one chat completion gives, so that it can write each of them again. */
const BLOCK = 64
/** Training takes no greater seed. */
const SEEDS = 2 ** 31

export type AttackPlan = {
  rounds: number
  /** what the policy is trained on */
  prompts: (readonly Message[])[]
  /** what it is measured on: none of them is trained on */
  held: readonly Pick<ProbeAnswer, 'prompt' | 'cluster'>[]
  /** score calls of all of it */
  calls: number
}

const keyOf = ({ prompt }: Pick<ProbeAnswer, 'prompt'>): string => JSON.stringify(prompt)
const byPrompt = <T extends Pick<ProbeAnswer, 'prompt'>>(answers: readonly T[]): Map<string, T> =>
  new Map(answers.toReversed().map((given) => [keyOf(given), given]))

/**
 * What a third of the budget has room for, before anything is trained. `answers` are those of the edit search, which
 * sees the first of them; `others` are left over. A prompt is trained on where no held-out answer is to it. Throws
 * `too_little_data`, `conflicting_options` naming the field.
 */
export function planPolicyAttack(
  answers: readonly ProbeAnswer[],
  others: readonly ProbeAnswer[],
  { rounds: asked, budget, seed }: { rounds: number; budget: number; seed: number },
): AttackPlan {
  const heldOut = byPrompt(answers.slice(SEARCHED))
  const seen = byPrompt([...answers.slice(0, SEARCHED), ...others])
  const trained = [...seen].flatMap(([key, { prompt }]) => (heldOut.has(key) ? [] : [prompt]))
  if (heldOut.size < FEWEST_ANSWERS || trained.length === 0)
    throw new LibraError(
      'too_little_data',
      `options.attack_rounds: the policy is trained on prompts that it is not measured on, and of ${heldOut.size + trained.length} different ones ${heldOut.size} are held out; give at least ${FEWEST_ANSWERS} of these and one more`,
      { details: { field: 'options.attack_rounds' } },
    )
  const share = Math.floor(budget * SHARE)
  // half of the share measures, at most, and leaves a round
  const most = Math.max(FEWEST_ANSWERS, Math.floor(Math.min(share / 2, share - ROUND) / MEASURED))
  const held = [...heldOut.values()].slice(0, most)
  const rounds = Math.min(asked, Math.floor((share - MEASURED * held.length) / ROUND))
  if (rounds < 1)
    throw new LibraError(
      'conflicting_options',
      `options.budget: of ${budget} score calls a third is for the policy attack, which has no room for one round: it takes ${ROUND}, and measuring it ${MEASURED} for each of ${FEWEST_ANSWERS} prompts; give at least ${Math.ceil((ROUND + MEASURED * FEWEST_ANSWERS) / SHARE)}, or leave options.attack_rounds out`,
      { details: { field: 'options.budget' } },
    )
  const prompts = drawn(trained, rounds * PROMPTS, seed)
  return { rounds, prompts, held, calls: rounds * ROUND + MEASURED * held.length }
}

type Input = {
  model: ModelFiles
  axis: Axis
  judge: Judge
  policy: { name: string; files: ModelFiles; maxTokens: number }
  plan: AttackPlan
  score(asked: readonly { prompt: readonly Message[]; answer: string }[]): Promise<number[]>
  /** deviation of the score over the unedited answers */
  sigma: number
  seed: number
}
export type PolicyAttack = {
  card: NonNullable<Certificate['policy_attack']>
  /** mean score of each round's answers: what was learned */
  curve: number[]
}

/**
 * Trains an adapter on the policy against one reward model, with nothing that holds it back, then has it and the policy
 * that it started from answer the held-out prompts. The training is a run of its own under the certificate's, the
 * adapter a model in the catalogue. Throws what training throws, `cancelled`.
 */
export async function attackByPolicy(
  services: Services,
  { model, axis, judge, policy, plan, score, sigma, seed }: Input,
  context: RunContext,
): Promise<PolicyAttack> {
  const { name, files, maxTokens } = policy
  const { trained, curve } = await train(services, { model, axis, policy, plan, seed }, context)
  const how = { plan, maxTokens, seed }
  const write = (by: ModelFiles) => answersBy(services, by, how, context)
  const [before, after] = [await write(files), await write(trained)]
  const prompts = plan.held.map(({ prompt }) => prompt)
  const scoreOf = (written: readonly Written[]) =>
    score(prompts.map((prompt, i) => ({ prompt, answer: written[i]?.text ?? '' })))
  const [low, high] = [await scoreOf(before), await scoreOf(after)]
  const pairs = prompts.map((prompt, i) => ({
    ...{ prompt, a: after[i]?.text ?? '', b: before[i]?.text ?? '' },
  }))
  const judged = await preferred(judge, axis, pairs, context.signal)
  const rows = pairs.map(({ prompt, a, b }, i) => ({
    ...{ prompt, a, b, before: low[i] ?? NaN, after: high[i] ?? NaN, judged: judged[i] ?? null },
    ...{ seed: after[i]?.seed ?? 0, place: after[i]?.place ?? 0 },
    gain: ((high[i] ?? NaN) - (low[i] ?? NaN)) / sigma,
    cluster: plan.held[i]?.cluster ?? '',
  }))
  const { kl } = await signalsOf(
    ...([services.serving, files] as const),
    after.map(({ text, ended }, i) => ({
      ...{ prompt: { messages: [...(prompts[i] ?? [])] }, text, ended },
    })),
    trained,
  )
  const id = await register(services, context, 'attack', { kind: 'policy', axis: null, ...trained })
  const card = {
    ...{ policy: name, model: id, rounds: plan.rounds, prompts: plan.prompts.length },
    ...{ spent: plan.calls, kl, max_new_tokens: maxTokens },
    ...{ ...meanGain(rows, seed), ...unchangedGain(rows, seed) },
    examples: rows
      .filter((row) => row.a !== row.b && row.after > row.before && (row.judged ?? 1) <= BETTER)
      .toSorted((x, y) => y.gain - x.gain)
      .slice(0, SHOWN)
      .map(({ prompt, a, b, gain: _gain, cluster: _cluster, ...rest }) => ({
        ...{ dialogue: [...prompt], answer: b, attacked: a, ...rest },
      })),
  }
  return { card, curve }
}

/** The adapter, and the mean score of each round. Its run goes by the options that made it. */
async function train(
  services: Services,
  { model, axis, policy, plan, seed }: Pick<Input, 'model' | 'axis' | 'policy' | 'plan' | 'seed'>,
  context: RunContext,
): Promise<{ trained: ReturnType<typeof withCheckpoint>; curve: number[] }> {
  const { store } = services
  const folder = join(await runFolder(services, context), 'attack')
  await mkdir(folder, { recursive: true })
  const { path: data, dataHash } = await writeRows(
    join(folder, 'prompts.jsonl'),
    plan.prompts.map((messages) => ({ messages })),
  )
  const output = join(folder, 'policy')
  const reference = spread(policy.files)
  // one reward model stands for both axes, and the combiner takes it as it is: nothing else is rewarded
  const scorer = { files: spread(model), calibration: null }
  const options = PpoOptions.parse({
    ...{ method: 'rloo', seed: seed % SEEDS, rounds: plan.rounds, combiner: axis, kl_coef: 0 },
    ...{ prompts_per_round: PROMPTS, samples_per_prompt: SAMPLES, mini_batch_size: ROUND },
    ...{ epochs: EPOCHS, max_new_tokens: policy.maxTokens },
    ...{ reward_normalization: 'none', missing_eos_penalty: 0 },
    optimizer: { learning_rate: LEARNING_RATE, schedule: 'constant', weight_decay: 0 },
  })
  const spec = {
    ...{ kind: 'policy_update' as const, output, reference, parent: null, data },
    ...{ helpfulness: scorer, safety: scorer, options },
  }
  const { rewards } = await recordPart(
    store,
    {
      ...{ kind: spec.kind, config: options, seed, dataHash, output },
      ...{ parent: context.id, part: 'attack' },
      parentCheckpoint: reference.adapters.at(-1) ?? reference.base,
    },
    async (part) => {
      await trainExactly(services, part, spec, options.checkpoint_every, {
        folder: join(folder, 'checkpoints'),
        onStep: (done, total) =>
          void context.emit({ type: 'progress', stage: 'policy attack', done, total }),
      })
      const metrics = await metricsOf(store, part.id)
      return { rewards: metrics.map((row) => row['objective/scores'] ?? NaN) }
    },
    context.signal,
  )
  return { trained: withCheckpoint(reference, output, options.lora), curve: rewards }
}

type Written = { text: string; ended: boolean; seed: number; place: number }

/** One answer to each held-out prompt, at temperature 1, with where in which draw it came. */
async function answersBy(
  { serving }: Pick<Services, 'serving'>,
  model: ModelFiles,
  { plan, maxTokens, seed }: { plan: AttackPlan; maxTokens: number; seed: number },
  { signal }: RunContext,
): Promise<Written[]> {
  const written: Written[] = []
  for (let i = 0; i < plan.held.length; i += BLOCK) {
    if (signal.aborted) throw cancelled()
    const block = (seed + i) % SEEDS
    const prompts = plan.held.slice(i, i + BLOCK).map(({ prompt }) => prompt)
    const answers = await serving.generate({
      ...{ model, prompts, n: 1, onTooLong: 'error' },
      sampling: { maxTokens, temperature: 1, topP: 1, topK: 0, stop: [], seed: block },
    })
    answers.forEach(([given], place) =>
      written.push({
        ...{ text: given?.text ?? '', ended: given?.finish === 'stop', seed: block, place },
      }),
    )
  }
  return written
}
