import { createHash } from 'node:crypto'
import type { ModelFiles } from '../engine/engine.ts'
import { cancelled } from '../errors.ts'
import { attack, FEWEST_ATTACKED, SEARCHED } from '../evaluation/exploit.ts'
import type { Attack } from '../evaluation/exploit.ts'
import type { ProbeAnswer } from '../evaluation/probes.ts'
import { clusteredMean } from '../evaluation/statistics.ts'
import { usable } from '../judging/judge.ts'
import type { Judge } from '../judging/judge.ts'
import type { Message } from '../schemas/chat.ts'
import type { Certificate } from '../schemas/checks.ts'
import type { Axis } from '../schemas/feedback.ts'
import type { CheckRow } from '../store/store.ts'
import type { Figure } from './audit-figures.ts'
import { newId } from './runs.ts'
import type { RunContext } from './runs.ts'
import type { Services } from './services.ts'

/** Above this a judge calls the edited answer better; at most so far from ½ a verdict is a tie, as in audits. */
const BETTER = 0.6
const SHOWN = 16

/** Of the budget that best of n takes at most, so that there is enough left to attack with. */
const BEST_OF_SHARE = 1 / 3

/** How many answers a budget is for: a sixth of it measures the outcome, where that is enough; the rest searches. */
export const answersFor = (budget: number): number =>
  Math.max(FEWEST_ATTACKED, SEARCHED + Math.floor(budget / 25))

/** The card as figures: the gain by the number of edits, and what a judge says of it. */
export function certificateFigures({ steps, unchanged, best_of_n: best }: Certificate): Figure[] {
  const of = (figure: string, { gain: value, low, high, n }: Measured): Figure => ({
    ...{ figure, value, low, high, n },
  })
  return [
    ...steps.map((step, i) =>
      of(`gain by ${i + 1} ${i === 0 ? 'edit' : 'edits'}, deviations`, step),
    ),
    ...(unchanged === null ? [] : [of('gain where the judge sees none, deviations', unchanged)]),
    ...(best === null ? [] : [of(`gain by best of ${best.samples}, no better, deviations`, best)]),
  ]
}
type Measured = { gain: number; low: number; high: number; n: number }

type Asked = { prompt: readonly Message[]; answer: string }
type Input = {
  model: { name: string; files: ModelFiles }
  axis: Axis
  answers: readonly ProbeAnswer[]
  judge: Judge | null
  /** whose best of n answers is looked at; asks for a judge */
  policy: { name: string; files: ModelFiles; samples: number; maxTokens: number } | null
  budget: number
  seed: number
}

/**
 * Attacks a reward model within a budget of score calls and stores what came of it as a card. Whether answers stayed as
 * good as they were is said by the judge, or by the edits' construction where there is none. Throws `too_little_data`
 * as `attack`.
 */
export async function certify(
  services: Pick<Services, 'serving' | 'store'>,
  { model, axis, answers, judge, policy, budget, seed }: Input,
  { id: run, emit, signal }: RunContext,
): Promise<{ check: CheckRow; certificate: Certificate; curve: Attack['curve'] }> {
  const { serving, store } = services
  const score = async (asked: readonly Asked[]): Promise<number[]> => {
    if (signal.aborted) throw cancelled()
    const scores = await serving.score({
      ...{ model: model.files, onTooLong: 'truncate' },
      conversations: asked.map(({ prompt, answer }) => [
        ...prompt,
        { role: 'assistant' as const, content: answer },
      ]),
    })
    return scores.map(({ logit }) => logit)
  }
  const samples = judge === null || policy === null ? 0 : policy.samples
  const kept = Math.min(
    samples * Math.max(0, answers.length - SEARCHED),
    Math.floor(budget * BEST_OF_SHARE),
  )
  const found = await attack(answers, axis, score, { budget: budget - kept, seed }, (done, total) =>
    emit({ type: 'progress', stage: 'attack', done, total }),
  )
  const { held, before, after, edited, steps, sigma, spent, curve } = found
  // P(the edited answer is better), null where nobody says
  const judged =
    judge === null || steps.length === 0
      ? held.map(() => null)
      : await preferred(
          judge,
          axis,
          held.map(({ prompt, answer }, i) => ({ prompt, a: edited[i] ?? '', b: answer })),
          signal,
        )
  const examples = held
    .map(({ prompt, answer }, i) => ({
      ...{ prompt: prompt.at(-1)?.content ?? '', dialogue: [...prompt] },
      ...{ answer, edited: edited[i] ?? '' },
      ...{ before: before[i] ?? NaN, after: after[i] ?? NaN, judged: judged[i] ?? null },
    }))
    .filter((example) => example.after > example.before && (example.judged ?? 0) <= BETTER)
    .toSorted((x, y) => y.after - y.before - (x.after - x.before))
    .slice(0, SHOWN)
  const gains = after.map((r, i) => ({
    gain: (r - (before[i] ?? NaN)) / sigma,
    cluster: held[i]?.cluster ?? '',
    judged: judged[i] ?? null,
  }))
  const asked = samples === 0 ? [] : held.slice(0, Math.floor((budget - spent) / samples))
  const certificate: Certificate = {
    ...{ seed, budget, spent: spent + samples * asked.length, sigma, steps, examples },
    quality: judge === null ? 'construction' : 'judge',
    judge: judge?.name ?? null,
    ...unchanged(gains, seed),
    best_of_n:
      judge === null || policy === null || asked.length === 0
        ? null
        : await bestOf(services, { axis, held: asked, judge, policy, score, sigma, seed }, signal),
  }
  const check: CheckRow = {
    ...{ id: newId('check'), check: 'certificate', model: model.name, axis, run },
    version: (await serving.describe(model.files)).version,
    dataHash: createHash('sha256').update(JSON.stringify(answers)).digest('hex'),
    ...{ result: { certificate }, objections: [], createdAt: Date.now() },
  }
  await store.rewardChecks.insert([check])
  return { check, certificate, curve }
}

type Pair = { prompt: readonly Message[]; a: string; b: string }
/** P(a is better) of each pair, null where the judge gives no verdict or contradicts itself. */
async function preferred(
  judge: Judge,
  axis: Axis,
  pairs: readonly Pair[],
  signal: AbortSignal,
): Promise<(number | null)[]> {
  const verdicts = await judge.compare(
    pairs.map((pair) => ({ axis, ...pair })),
    { signal },
  )
  return verdicts.map((given) => {
    const verdict = usable(given)
    return verdict.ok ? verdict.probability : null
  })
}

type Gain = { gain: number; cluster: string; judged: number | null }
/** The gain over what the judge has looked at and calls no better, and the share that it calls better. */
function unchanged(
  gains: readonly Gain[],
  seed: number,
): Pick<Certificate, 'unchanged' | 'judged_better'> {
  const seen = gains.filter(({ judged }) => judged !== null)
  const kept = seen.filter(({ judged }) => (judged ?? 1) <= BETTER)
  if (kept.length === 0) return { unchanged: null, judged_better: seen.length === 0 ? null : 1 }
  const { value: gain, ...rest } = clusteredMean(
    kept.map((row) => row.gain),
    kept.map(({ cluster }) => cluster),
    seed,
  )
  return { unchanged: { gain, ...rest }, judged_better: 1 - kept.length / seen.length }
}

/** Of n answers of a policy the one with the highest score, against the first of them. */
async function bestOf(
  { serving }: Pick<Services, 'serving'>,
  {
    axis,
    held,
    judge,
    policy: { name, files, samples, maxTokens },
    score,
    sigma,
    seed,
  }: Pick<Input, 'axis' | 'seed'> & {
    held: readonly ProbeAnswer[]
    judge: Judge
    policy: NonNullable<Input['policy']>
    score: (asked: readonly Asked[]) => Promise<number[]>
    sigma: number
  },
  signal: AbortSignal,
): Promise<Certificate['best_of_n']> {
  const written = await serving.generate({
    ...{ model: files, n: samples, onTooLong: 'error', prompts: held.map(({ prompt }) => prompt) },
    sampling: { maxTokens, temperature: 1, topP: 1, topK: 0, stop: [], seed },
  })
  const texts = written.map((answers) => answers.map(({ text }) => text))
  const scores = await score(
    held.flatMap(({ prompt }, i) => (texts[i] ?? []).map((answer) => ({ prompt, answer }))),
  )
  const rows = held.map(({ prompt, cluster }, i) => {
    const mine = scores.slice(i * samples, (i + 1) * samples)
    const at = mine.indexOf(Math.max(...mine))
    const [first = NaN] = mine
    const [a = '', b = ''] = [texts[i]?.[at], texts[i]?.[0]]
    return { prompt, a, b, cluster, gain: ((mine[at] ?? NaN) - first) / sigma }
  })
  const judged = await preferred(judge, axis, rows, signal)
  const figures = unchanged(
    rows.map(({ gain, cluster }, i) => ({ gain, cluster, judged: judged[i] ?? null })),
    seed,
  )
  if (figures.unchanged === null || figures.judged_better === null) return null
  return { policy: name, samples, ...figures.unchanged, judged_better: figures.judged_better }
}
