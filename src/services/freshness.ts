import { createHash } from 'node:crypto'
import type { Engine, ModelFiles } from '../engine/engine.ts'
import { LibraError } from '../errors.ts'
import { won } from '../evaluation/baselines.ts'
import { isDecided } from '../evaluation/pair-labels.ts'
import { clusteredShare } from '../evaluation/shares.ts'
import type { Interval } from '../evaluation/statistics.ts'
import type { Judge } from '../judging/judge.ts'
import { permutation } from '../random.ts'
import { labelPrompts } from '../rlaif/label.ts'
import type { Freshness } from '../schemas/checks.ts'
import { AXES } from '../schemas/feedback.ts'
import type { Axis, PreferenceRow, PromptRow } from '../schemas/feedback.ts'
import type { PpoOptions } from '../schemas/policy-options.ts'
import type { CheckRow } from '../store/store.ts'
import { conversationOf } from '../text/conversation.ts'
import type { Probed } from './probes.ts'
import { newId } from './runs.ts'
import type { RunContext } from './runs.ts'
import type { Services } from './services.ts'

/** What goes on without it. */
export const STALENESS = 'staleness'

/** Prompts that the policy answers twice. */
const ASKED = 200
/** Fewer decided verdicts than these say nothing. */
export const FEWEST_VERDICTS = 20
/** The accuracy of what knows nothing. */
const COIN = 0.5

type Asked = {
  policy: ModelFiles
  rewards: Record<Axis, Probed>
  judge: Judge
  prompts: readonly PromptRow[]
  /** what the policy learns from is where its answers matter */
  dataHash: string
  floor: number
  options: PpoOptions
}

/**
 * Whether the reward models still tell the answers of the policy as it is now apart: two answers to each of some
 * prompts, labelled by the judge, and each model's accuracy on them. Stored as a check of each model. Throws
 * `reward_model_stale` where one lies below the floor or too few verdicts are decided.
 */
export async function requireFresh(
  { serving, store }: Pick<Services, 'serving' | 'store'>,
  { policy, rewards, judge, prompts, dataHash, floor, options }: Asked,
  { id: run, emit, signal }: RunContext,
): Promise<CheckRow[]> {
  const { seed, temperature, max_new_tokens: maxNewTokens } = options
  const some = Array.from(permutation(prompts.length, seed, 91).slice(0, ASKED))
  const asked = some.flatMap((i) => prompts[i] ?? [])
  await emit({ type: 'progress', stage: 'freshness', done: 0, total: asked.length })
  const sampling = { maxNewTokens, temperature, seed }
  const { pairs } = await labelPrompts(
    ...([serving, judge, policy, asked, AXES, sampling, () => {}, signal] as const),
  )
  const { version } = await serving.describe(policy)
  const checks: CheckRow[] = []
  for (const axis of AXES) {
    const { name: model, files } = rewards[axis]
    const measured = await accuracyOn(serving, files, pairs[axis], seed)
    const { value: accuracy, ...rest } = measured
    const freshness: Freshness = { policy: version, judge: judge.name, floor, accuracy, ...rest }
    checks.push({
      ...{ id: newId('check'), check: 'freshness', model, axis, run, dataHash },
      ...{ version: (await serving.describe(files)).version, result: { freshness } },
      ...{ objections: isFresh(measured, floor) ? [] : [STALENESS], createdAt: Date.now() },
    })
    await emit({
      ...{ type: 'metrics', step: 0 },
      metrics: { [`freshness/${axis}`]: accuracy, [`freshness/${axis}_verdicts`]: rest.n },
    })
  }
  await store.rewardChecks.insert(checks)
  for (const { id, axis, model, objections, result } of checks) {
    const { accuracy: value = NaN, low = NaN, high = NaN, n = 0 } = result.freshness ?? {}
    if (objections.length > 0) throw staleError(axis, model, { value, low, high, n }, floor, id)
  }
  return checks
}

/** The share of pairs whose label is decided that a reward model sees as the label does, equal answers ½. */
async function accuracyOn(
  serving: Engine,
  model: ModelFiles,
  pairs: readonly PreferenceRow[],
  seed: number,
): Promise<Interval> {
  const decided = pairs.filter(isDecided)
  const conversations = decided.flatMap(({ prompt, chosen, rejected }) =>
    [chosen, rejected].map((content) => [...prompt, { role: 'assistant' as const, content }]),
  )
  const scores = await serving.score({ model, conversations, onTooLong: 'truncate' })
  const right = decided.map((_, i) =>
    won((scores[2 * i]?.logit ?? NaN) - (scores[2 * i + 1]?.logit ?? NaN)),
  )
  return clusteredShare(right, decided.map(conversationOf), seed)
}

type Judged = {
  /** whose answers the pairs are */
  policy: ModelFiles
  judge: string
  /** the judge's labels of them that the reward model did not learn from */
  pairs: readonly PreferenceRow[]
  floor: number
  override: readonly string[]
  seed: number
  run: string
}

/**
 * The same within a loop whose judge has just labelled answers of the policy: nobody is asked again. Stored as a check
 * of the model; of fewer decided labels than say something it holds against no one, and of none there is no check.
 * Throws `reward_model_stale` where `override` does not name it.
 */
export async function freshInLoop(
  { serving, store }: Pick<Services, 'serving' | 'store'>,
  { name: model, files }: Probed,
  axis: Axis,
  { policy, judge, pairs, floor, override, seed, run }: Judged,
): Promise<{ freshness?: Freshness; objections: string[] }> {
  const measured = await accuracyOn(serving, files, pairs, seed)
  const { value: accuracy, ...rest } = measured
  if (rest.n === 0) return { objections: [] }
  const { version } = await serving.describe(policy)
  const freshness: Freshness = { policy: version, judge, floor, accuracy, ...rest }
  const stale = rest.n >= FEWEST_VERDICTS && !isFresh(measured, floor)
  const objections = stale ? [STALENESS] : []
  const id = newId('check')
  await store.rewardChecks.insert([
    {
      ...{ id, check: 'freshness', model, axis, run, result: { freshness }, objections },
      version: (await serving.describe(files)).version,
      dataHash: createHash('sha256').update(JSON.stringify(pairs)).digest('hex'),
      createdAt: Date.now(),
    },
  ])
  if (stale && !override.includes(STALENESS)) throw staleError(axis, model, measured, floor, id)
  return { freshness, objections }
}

/** What is to be said where few labels are decided. */
export const fewVerdicts = (axis: Axis, n: number): string =>
  `${axis}: ${n} held-out labels are decided, and fewer than ${FEWEST_VERDICTS} don’t say whether the reward model knows the policy’s answers: ask for more \`pairs\``

/** The newest such check of each model: a run that goes on was let through by it. */
export async function lastFreshness(
  { serving, store }: Pick<Services, 'serving' | 'store'>,
  rewards: Record<Axis, Probed>,
): Promise<CheckRow[]> {
  const found = await Promise.all(
    AXES.map(async (axis) => {
      const { version } = await serving.describe(rewards[axis].files)
      const [last] = await store.checksOf({ check: 'freshness', version, axis })
      return last ?? null
    }),
  )
  return found.filter((check) => check !== null)
}

/**
 * Whether a reward model's accuracy on decided verdicts lets it teach: of as many as it takes, at least the floor, and
 * surely more than a coin's, which reaches 0.55 on twenty verdicts two times in five. A floor of ½ or less asks for no
 * more than itself.
 */
export const isFresh = ({ value, low, n }: Interval, floor: number): boolean =>
  n >= FEWEST_VERDICTS && value >= floor && (floor <= COIN || low > COIN)

export const percent = (share: number): string => `${(100 * share).toFixed(1)} %`

/** Why it does not. Names the check where there is one. */
function staleError(axis: Axis, who: string, measured: Interval, floor: number, check?: string) {
  const { value, low, high, n } = measured
  const needed =
    floor <= COIN
      ? `at least ${percent(floor)}`
      : `at least ${percent(floor)} and the whole interval above ${percent(COIN)}`
  const found =
    n < FEWEST_VERDICTS
      ? `the judge decides ${n} pairs of the policy's answers, at least ${FEWEST_VERDICTS} are needed`
      : `${who} agrees with the judge in ${percent(value)} of ${n} pairs of the policy's answers (95 % interval ${percent(low)} to ${percent(high)}); needed: ${needed}`
  return new LibraError(
    'reward_model_stale',
    `${axis}: ${found}; override: ["${STALENESS}"] trains a policy against it all the same`,
    { details: { field: axis, ...(check === undefined ? {} : { check }) } },
  )
}

/** The same where a reward model was just measured on such pairs. Throws `reward_model_stale`. */
export function refuseStale(axis: Axis, measured: Interval, floor: number): void {
  if (!isFresh(measured, floor)) throw staleError(axis, `the ${axis} model`, measured, floor)
}
