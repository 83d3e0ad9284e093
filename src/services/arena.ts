import type { ModelFiles } from '../engine/engine.ts'
import { arenaFigures, pairings } from '../evaluation/arena.ts'
import type { Standing } from '../evaluation/arena.ts'
import type { PolicyFigure } from '../evaluation/policy-measures.ts'
import type { ReportSample } from '../evaluation/report-samples.ts'
import type { Judge } from '../judging/judge.ts'
import type { Axis } from '../schemas/feedback.ts'
import { answerPrompts, clusterOf, oneCluster } from './policy-answers.ts'
import type { Answer, Asking } from './policy-answers.ts'
import { askJudge } from './policy-judging.ts'
import type { Services } from './services.ts'

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
  const { prompts, options } = asking
  const warnings = oneCluster(prompts)
  // 1. everybody answers
  const answered: Answer[][][] = []
  for (const policy of policies) answered.push(await answerPrompts(services, policy, asking))
  const textOf = (policy: number, prompt: number, sample: number): string =>
    answered[policy]?.[prompt]?.[sample]?.text ?? ''
  // 2. everybody meets everybody
  const names = policies.map(({ name }) => name)
  const pairs = pairings(names.length)
  const verdicts: number[][][] = prompts.map(() => pairs.map(() => []))
  for (const [pair, [i, j]] of pairs.entries()) {
    const comparisons = prompts.flatMap(({ messages: prompt }, p) =>
      Array.from({ length: options.samples }, (_, s) => ({
        ...{ axis, prompt, a: textOf(i, p, s), b: textOf(j, p, s) },
      })),
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
  const rounds = prompts.map((prompt, p) => ({
    cluster: clusterOf(prompt),
    verdicts: verdicts[p] ?? [],
  }))
  const { figures, standings, circles } = arenaFigures(names, rounds, options.seed)
  for (const circle of circles)
    warnings.push(
      `${circle.join(' beats ')} beats ${circle[0] ?? ''}: one rating for each does not show this`,
    )
  return {
    ...{ figures, warnings, more: { axis, standings, circles } },
    samples: prompts.map(({ messages, label = null, category = null }, p) => ({
      ...{ prompt: messages.at(-1)?.content ?? '', label, category },
      answers: names.map((name, i) => ({ name, text: textOf(i, p, 0) })),
    })),
  }
}
