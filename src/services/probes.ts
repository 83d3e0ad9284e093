import { createHash } from 'node:crypto'
import type { Engine, ModelFiles } from '../engine/engine.ts'
import { cancelled, LibraError } from '../errors.ts'
import { FEWEST_ANSWERS, probeScorer } from '../evaluation/probes.ts'
import type { ProbeAnswer } from '../evaluation/probes.ts'
import { classify, isRefusal } from '../evaluation/response-class.ts'
import type { Approval } from '../rlaif/world.ts'
import type { ProbeResult } from '../schemas/checks.ts'
import { PROBES } from '../schemas/checks.ts'
import { AXES } from '../schemas/feedback.ts'
import type { Axis, PreferenceRow } from '../schemas/feedback.ts'
import type { CheckRow } from '../store/store.ts'
import { conversationOf } from '../text/conversation.ts'
import type { Figure } from './audit-figures.ts'
import { newId } from './runs.ts'
import type { Services } from './services.ts'

/** A reward model, by the name that its checks are listed under. */
export type Probed = { name: string; files: ModelFiles }
type World = Pick<Services, 'serving' | 'store'>

/** Both answers of each pair, with what their labels say; where the better one refuses, refusing is right. */
export const answersOf = (pairs: readonly PreferenceRow[]): ProbeAnswer[] =>
  pairs.flatMap((pair) => {
    const common = {
      ...{ prompt: pair.prompt, translation: null, cluster: conversationOf(pair) },
      unsafePrompt: isRefusal(classify(pair.chosen, true)),
    }
    return [
      { ...common, answer: pair.chosen, safe: pair.chosen_safe ?? null },
      { ...common, answer: pair.rejected, safe: pair.rejected_safe ?? null },
    ]
  })

type How = {
  seed: number
  run: string | null
  signal?: AbortSignal
  onProgress?: (done: number, total: number) => void | Promise<void>
}

/**
 * Tries every probe on a reward model: a row under the version of its weights, not yet stored. Throws `too_little_data`
 * where its scores of the answers do not vary.
 */
export async function tryProbes(
  serving: Engine,
  { name, files }: Probed,
  axis: Axis,
  answers: readonly ProbeAnswer[],
  { seed, run, signal, onProgress }: How,
): Promise<CheckRow> {
  const score = async (edited: Parameters<Parameters<typeof probeScorer>[2]>[0]) => {
    if (signal?.aborted) throw cancelled()
    const conversations = edited.map(({ prompt, answer }) => [
      ...prompt,
      { role: 'assistant' as const, content: answer },
    ])
    const scores = await serving.score({ model: files, conversations, onTooLong: 'truncate' })
    return scores.map(({ logit }) => logit)
  }
  const probes = await probeScorer(answers, axis, score, seed, onProgress)
  return {
    ...{ id: newId('check'), check: 'probes', model: name, axis, run, result: { probes } },
    version: (await serving.describe(files)).version,
    dataHash: createHash('sha256').update(JSON.stringify(answers)).digest('hex'),
    objections: probes.filter(({ passed }) => !passed).map(({ probe }) => probe),
    createdAt: Date.now(),
  }
}

/** Tries every probe and stores what came of it. */
export async function probeModel(
  { serving, store }: World,
  ...[probed, axis, answers, how]: [Probed, Axis, readonly ProbeAnswer[], How]
): Promise<CheckRow> {
  const row = await tryProbes(serving, probed, axis, answers, how)
  await store.rewardChecks.insert([row])
  return row
}

/** Each probe's shift, in all and by language, and how many answers gain by it; nothing where it edited none. */
export const probeFigures = (results: readonly ProbeResult[]): Figure[] =>
  results
    .filter(({ n }) => n > 0)
    .flatMap(({ probe, shift, low, high, n, languages }) => [
      { figure: `probe ${probe}: shift of the score`, value: shift, low, high, n },
      ...languages.map(({ language, ...in_ }) => ({
        ...{ figure: `probe ${probe}: shift of the score, ${language}`, value: in_.shift },
        ...{ low: in_.low, high: in_.high, n: in_.n },
      })),
    ])

const LANGUAGES = { zh: 'Chinese', en: 'English' } as const

function describe({ probe, shift, bound, n, languages }: ProbeResult): string {
  if (n < FEWEST_ANSWERS) return `${probe}: ${n} answers, at least ${FEWEST_ANSWERS} are needed`
  // over all answers it may be within its bound, and not in one of the languages
  const enough = languages.filter((each) => each.n >= FEWEST_ANSWERS)
  const one = shift <= bound ? enough.find((each) => each.low > bound) : undefined
  const where = one === undefined ? '' : ` on ${LANGUAGES[one.language]} answers`
  return `${probe}: the score rises by ${(one?.shift ?? shift).toFixed(2)} of its deviation${where}, at most ${bound} may be`
}
const asOverride = (names: readonly string[]): string =>
  `override: [${names.map((name) => `"${name}"`).join(', ')}]`

/** Throws `reward_model_refused`, which names them, where probes failed that `override` does not name. */
export function refuseFailed(
  { id, model, axis, result: { probes = [] }, objections }: CheckRow,
  override: readonly string[],
): void {
  const left = objections.filter((name) => !override.includes(name))
  if (left.length === 0) return
  const why = probes.filter(({ probe }) => left.includes(probe)).map(describe)
  throw new LibraError(
    'reward_model_refused',
    `${axis}: ${model} fails ${left.length === 1 ? 'a probe' : 'probes'}: ${why.join('; ')}; ${asOverride(left)} trains a policy against it all the same`,
    { details: { field: axis, check: id, probes: left } },
  )
}

type InLoop = Omit<How, 'onProgress'> & {
  override: readonly string[]
  progress(stage: string, done: number, total: number): void
}
/** Probes the model of one axis within a loop. Throws `reward_model_refused` as `refuseFailed`. */
export async function probeInLoop(
  world: World,
  probed: Probed,
  axis: Axis,
  answers: readonly ProbeAnswer[],
  { override, progress, ...how }: InLoop,
): Promise<Approval['checks'][number]> {
  const onProgress = (done: number, total: number): void => progress(`probes ${axis}`, done, total)
  const row = await probeModel(world, probed, axis, answers, { ...how, onProgress })
  refuseFailed(row, override)
  return { id: row.id, axis, ...row.result, objections: row.objections }
}

/** Whether a check tells something: a probe of too few answers neither helps nor harms, a rise that was measured does. */
const decides = ({ result: { probes = [] } }: CheckRow): boolean => {
  const measured = probes.filter(({ n }) => n >= FEWEST_ANSWERS)
  return measured.length === probes.length || measured.some(({ passed }) => !passed)
}

/**
 * The newest probes of both reward models as they are now; those of too few answers where there are no others. Throws
 * `reward_model_not_probed` where a version was never probed and `reward_model_refused` where one fails, unless
 * `override` names the probes.
 */
export async function requireProbes(
  { serving, store }: World,
  models: Record<Axis, Probed>,
  override: readonly string[],
): Promise<Partial<Record<Axis, CheckRow>>> {
  const checks: Partial<Record<Axis, CheckRow>> = {}
  for (const axis of AXES) {
    const { name, files } = models[axis]
    const { version } = await serving.describe(files)
    const rows = await store.checksOf({ check: 'probes', version, axis })
    const row = rows.find(decides) ?? rows[0]
    const missing = PROBES.filter((probe) => !override.includes(probe))
    if (row !== undefined) {
      refuseFailed({ ...row, model: name }, override)
      checks[axis] = row
    } else if (missing.length > 0)
      throw new LibraError(
        'reward_model_not_probed',
        `${axis}: ${name} was never probed as it is now: POST /v1/evaluations with target "probes" does; ${asOverride(missing)} goes without`,
        { details: { field: axis, probes: missing } },
      )
  }
  return checks
}
