import type { ModelFiles } from '../engine/engine.ts'
import { arenaFigures, pairings } from '../evaluation/arena.ts'
import type { Standing } from '../evaluation/arena.ts'
import type { PolicyFigure } from '../evaluation/policy-measures.ts'
import type { ReportSample } from '../evaluation/report-samples.ts'
import type { Judge } from '../judging/judge.ts'
import type { Axis } from '../schemas/feedback.ts'
import { clusterOf, oneCluster } from './policy-answers.ts'
import type { Asking } from './policy-answers.ts'
import { askJudge } from './policy-judging.ts'
import type { Services } from './services.ts'
import { answerTurns, comparisonOf } from './turns.ts'
import type { Conversed } from './turns.ts'

type Input = Asking & {
  policies: readonly { name: string; files: ModelFiles }[]
  judge: Judge
  axis: Axis
}

/**
 * A round robin: every policy answers every prompt, a judge compares each pair's answers in both orders, sample by
 * sample, and Bradley–Terry ratings come of it. The same request gives the same figures.
 */
export async function meet(
  services: Pick<Services, 'serving'>,
  { policies, judge, axis, ...asking }: Input,
): Promise<{
  figures: PolicyFigure[]
  samples: ReportSample[]
  warnings: string[]
  more: { axis: Axis; standings: Standing[]; circles: string[][] }
}> {
  const { options } = asking
  const warnings = oneCluster(asking.prompts)
  // 1. everybody answers
  const answered: Conversed[] = []
  for (const policy of policies) answered.push(await answerTurns(services, policy, asking))
  const turns = answered[0]?.asked ?? []
  const several = turns.some(({ turn }) => turn > 1)
  // 2. everybody meets everybody
  const names = policies.map(({ name }) => name)
  const pairs = pairings(names.length)
  const verdicts: number[][][] = turns.map(() => pairs.map(() => []))
  for (const [pair, [i, j]] of pairs.entries()) {
    const [a, b] = [answered[i], answered[j]]
    if (a === undefined || b === undefined) continue
    const comparisons = turns.flatMap((_, turn) =>
      Array.from({ length: options.samples }, (_, sample) =>
        comparisonOf(axis, a, b, { turn, sample }),
      ),
    )
    const between = `${names[i] ?? ''} and ${names[j] ?? ''}`
    const given = await askJudge(judge, comparisons, `judge: ${between}`, asking)
    given.forEach((verdict, at) => {
      if (verdict.ok) verdicts[Math.floor(at / options.samples)]?.[pair]?.push(verdict.probability)
    })
    const failed = given.filter(({ ok }) => !ok).length
    if (failed > 0)
      warnings.push(`${between}: the judge gave no verdict on ${failed} of ${given.length}`)
  }
  // 3. what it comes to
  const rounds = turns.map((asked, t) => ({
    cluster: clusterOf(asked),
    verdicts: verdicts[t] ?? [],
  }))
  const { figures, standings, circles } = arenaFigures(names, rounds, options.seed)
  for (const circle of circles)
    warnings.push(
      `${circle.join(' beats ')} beats ${circle[0] ?? ''}: one rating for each does not show this`,
    )
  return {
    ...{ figures, warnings, more: { axis, standings, circles } },
    samples: turns.map(({ messages, label = null, category = null, turn }, t) => ({
      ...{ prompt: messages.at(-1)?.content ?? '', label, category },
      ...(several ? { turn } : {}),
      answers: names.map((name, i) => ({ name, text: answered[i]?.answers[t]?.[0]?.text ?? '' })),
    })),
  }
}
