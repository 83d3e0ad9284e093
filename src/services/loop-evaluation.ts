import type { Engine } from '../engine/engine.ts'
import type { Report } from '../evaluation/report.ts'
import type { ReportSample } from '../evaluation/report-samples.ts'
import type { Interval } from '../evaluation/statistics.ts'
import type { Judge } from '../judging/judge.ts'
import type { LoopResult } from '../rlaif/world.ts'
import type { PromptRow } from '../schemas/feedback.ts'
import type { RlaifOptions } from '../schemas/rlaif.ts'
import { answerAndGrade, compareGraded } from '../starter/evaluate.ts'
import type { Graded } from '../starter/evaluate.ts'
import { prompts as starterPrompts } from '../starter/world.ts'
import { kinshipWarnings } from './kinship.ts'
import { evaluatePolicies } from './policy-evaluation.ts'
import type { Services } from './services.ts'

/** What came of a loop: its policy beside the SFT policy that it started from. */

export type LoopProgress = (stage: string, done: number, total: number, note?: string) => void
export type LoopFigure = { figure: string; before: Interval | null; after: Interval | null } & {
  difference: Interval
  p?: number
  p_holm?: number
}
/** On the starter world: every test prompt's answers with what gold says of them. */
export type GradedPair = { before: Graded[]; after: Graded[] }

export type Evaluated = {
  figures: LoopFigure[]
  samples: ReportSample[]
  /** prompts that were answered, where `samples` are some of them */
  asked?: number
  plane?: Report['plane']
  curves?: Report['curves']
  warnings?: string[]
  graded?: GradedPair
}

const EVALUATED = 400
/** A page of more would be slow to open, and nobody would read them. */
const SHOWN = 400
/** On the starter world nobody has to be asked: what 400 answers leave open is more than the loop changes. */
const GRADED = 1600

/** How many prompts are answered before and after. */
export const evaluationPrompts = (
  { evaluation_prompts: asked }: RlaifOptions,
  world: 'starter' | 'given',
): number => asked ?? (world === 'starter' ? GRADED : EVALUATED)

/** `known`: what the SFT policy's answers to these prompts were, where they were asked for before. */
type Known = { progress: LoopProgress; known: Graded[] | undefined; signal: AbortSignal }

/** The starter world knows the truth: both policies answer its test prompts and gold grades them. */
export async function evaluateStarter(
  serving: Engine,
  { sft, policy }: Pick<LoopResult, 'sft' | 'policy'>,
  options: RlaifOptions,
  { progress, known, signal }: Known,
): Promise<Evaluated> {
  const test = starterPrompts('test', options.seed, evaluationPrompts(options, 'starter'))
  const grade = (name: string, model: typeof sft) => {
    const seen = (done: number): void => progress(`evaluate ${name}`, done, test.length)
    return answerAndGrade(
      ...([serving, model, test, options.ppo.max_new_tokens, options.seed * 7919] as const),
      ...([seen, signal] as const),
    )
  }
  // a branch may be measured on more or fewer than what it left
  const before = known?.length === test.length ? known : await grade('sft', sft)
  const after = await grade('policy', policy)
  return {
    figures: compareGraded(before, after, options.seed),
    asked: test.length,
    samples: test.slice(0, SHOWN).map((prompt, i) => ({
      prompt: prompt.text,
      answers: [named('before 之前', before[i]), named('after 之后', after[i])],
    })),
    graded: { before, after },
  }
}

const named = (name: string, graded: Graded | undefined): ReportSample['answers'][number] => ({
  ...{ name, text: graded?.answer ?? '' },
  ...(graded === undefined
    ? {}
    : { helpfulness: graded.gold.helpfulness, safety: graded.gold.safety }),
})

/** Elsewhere nobody knows the truth: reward models and judge compare the policy with what it started from. */
export async function evaluateGiven(
  services: Services,
  { judge, name }: { judge: Judge; name: string },
  { sft, policy, rewardModels }: LoopResult,
  prompts: readonly PromptRow[],
  options: RlaifOptions,
  signal: AbortSignal,
): Promise<Evaluated> {
  const rewards = {
    helpfulness: rewardModels.helpfulness.files,
    safety: rewardModels.safety.files,
  }
  const { figures, ...shown } = await evaluatePolicies(services, {
    policies: [
      { name: 'before 之前', files: sft },
      { name: 'after 之后', files: policy },
    ],
    ...{ judge, rewards },
    prompts: prompts.slice(0, evaluationPrompts(options, 'given')),
    options: {
      ...{ seed: options.seed, max_new_tokens: options.ppo.max_new_tokens },
      ...{ samples: 1, threshold: options.ppo.gate_threshold },
    },
    signal,
  })
  const rows = figures.map(
    ({ figure, before = null, after = null, value, low, high, n, p, p_holm }) => ({
      ...{ figure, before, after, difference: { value, low, high, n } },
      ...(p === undefined ? {} : { p }),
      ...(p_holm === undefined ? {} : { p_holm }),
    }),
  )
  const kin = await kinshipWarnings(services, name, judge, rewards)
  return { figures: rows, ...shown, warnings: [...kin, ...shown.warnings] }
}
