import { LibraError } from '../errors.ts'
import type { Engine, ModelFiles } from '../engine/engine.ts'
import { aurocOf } from '../evaluation/discrimination.ts'
import { comparedMeans } from '../evaluation/shares.ts'
import { weightedStatistic } from '../evaluation/statistics.ts'
import type { Interval } from '../evaluation/statistics.ts'
import type { Judge } from '../judging/judge.ts'
import type { Message } from '../schemas/chat.ts'
import { AXES } from '../schemas/feedback.ts'
import type { Axis } from '../schemas/feedback.ts'
import { contrasts } from '../starter/contrasts.ts'
import type { Contrast } from '../starter/contrasts.ts'

export type ContrastRow = {
  type: string
  axis: Axis
  /** share of the pairs in which the better answer is preferred, a tie by half */
  judge: Interval
  model: Interval
  /** model − judge, on the same pairs */
  difference: Interval
}
export type ContrastStudy = {
  rows: ContrastRow[]
  /** of the safety model: recipes on unsafe prompts against answers to their look-alikes */
  auroc: Interval
}

/**
 * What a judge and reward models tell apart on the starter world's test prompts, by the one thing in which two answers
 * differ: a reward model that learned from this judge can't be expected to know more. Throws
 * `judge_failed` where the judge gives no verdict.
 */
export async function studyContrasts(
  engine: Engine,
  judge: Judge,
  models: Record<Axis, ModelFiles>,
  { seed, n, signal }: { seed: number; n: number; signal: AbortSignal },
): Promise<ContrastStudy> {
  const all = contrasts(seed, n)
  const verdicts = await judge.compare(
    all.map(({ axis, prompt, better, worse }) => ({
      ...{ axis, prompt: prompt.messages, a: better, b: worse },
    })),
    { signal },
  )
  const judged = verdicts.map((verdict) => {
    if (verdict.ok) return won(verdict.probability - 0.5)
    throw new LibraError('judge_failed', `${judge.name}: ${verdict.failure}, ${verdict.message}`)
  })
  const scored: number[] = new Array<number>(all.length).fill(NaN)
  const safety: { score: number; positive: boolean; cluster: string }[] = []
  for (const axis of AXES) {
    const mine = all.flatMap((pair, i) => (pair.axis === axis ? [{ ...pair, i }] : []))
    const score = async (texts: readonly Message[][]): Promise<number[]> =>
      (await engine.score({ model: models[axis], conversations: texts, onTooLong: 'error' })).map(
        ({ logit }) => logit,
      )
    const better = await score(mine.map((pair) => said(pair, pair.better)))
    const worse = await score(mine.map((pair) => said(pair, pair.worse)))
    mine.forEach(({ i }, k) => (scored[i] = won((better[k] ?? NaN) - (worse[k] ?? NaN))))
    if (axis === 'helpfulness') continue
    mine.forEach(({ prompt: { family, template: cluster } }, k) => {
      if (family === 'unsafe') safety.push({ score: -(worse[k] ?? NaN), positive: true, cluster })
    })
    const harmless = all.filter(({ axis: of, prompt }) => {
      return of === 'helpfulness' && prompt.family === 'lookalike'
    })
    const logits = await score(harmless.map((pair) => said(pair, pair.better)))
    harmless.forEach(({ prompt: { template: cluster } }, k) =>
      safety.push({ score: -(logits[k] ?? NaN), positive: false, cluster }),
    )
  }
  const types = [...new Set(all.map(({ type }) => type))]
  const clusters = safety.map(({ cluster }) => cluster)
  return {
    rows: types.map((type) => {
      const own = all.flatMap((pair, i) => (pair.type === type ? [{ pair, i }] : []))
      const templates = own.map(({ pair }) => pair.prompt.template)
      const of = (values: readonly number[]): number[] => own.map(({ i }) => values[i] ?? NaN)
      const {
        p: _,
        before: judge,
        after: model,
        ...difference
      } = comparedMeans(of(judged), of(scored), templates, seed, { most: 1 })
      return {
        ...{ type, axis: own[0]?.pair.axis ?? 'helpfulness' },
        ...{ judge, model, difference },
      }
    }),
    auroc: weightedStatistic(clusters, aurocOf(safety), seed),
  }
}

const won = (by: number): number => (1 + Math.sign(by)) / 2
const said = ({ prompt }: Contrast, content: string): Message[] => [
  ...prompt.messages,
  { role: 'assistant', content },
]
