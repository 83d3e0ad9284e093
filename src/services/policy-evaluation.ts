import type { ModelFiles } from '../engine/engine.ts'
import { combine } from '../evaluation/combine.ts'
import { seenInTraining } from '../evaluation/contamination.ts'
import {
  classifierFigures,
  isHelpful,
  isSafe,
  jointRate,
  policyFigures,
} from '../evaluation/policy-measures.ts'
import type { MeasuredAnswer, MeasuredPrompt, PolicyFigure } from '../evaluation/policy-measures.ts'
import type { Report } from '../evaluation/report.ts'
import type { ReportSample, SampleAnswer } from '../evaluation/report-samples.ts'
import { classify } from '../evaluation/response-class.ts'
import { clusteredShare } from '../evaluation/shares.ts'
import { gateCurve, tradeOff } from '../evaluation/trade-off.ts'
import type { PlanePoint } from '../evaluation/trade-off.ts'
import type { Judge } from '../judging/judge.ts'
import { AXES } from '../schemas/feedback.ts'
import type { Axis } from '../schemas/feedback.ts'
import { alignmentTax } from './alignment-tax.ts'
import type { OpenedRow } from './alignment-tax.ts'
import { clusterOf, oneCluster, scoreAnswers } from './policy-answers.ts'
import type { Answer, Asking } from './policy-answers.ts'
import { baselinesBeside } from './policy-baselines.ts'
import type { BaselineOptions } from './policy-baselines.ts'
import { unsafeByPeople, winRates } from './policy-judging.ts'
import type { People, Verdicts } from './policy-judging.ts'
import type { Services } from './services.ts'
import { answerTurns } from './turns.ts'
import type { Conversed } from './turns.ts'

export type PolicyEvaluation = {
  figures: PolicyFigure[]
  plane: PlanePoint[]
  curves: Report['curves']
  samples: ReportSample[]
  warnings: string[]
}
type Contender = { name: string; files: ModelFiles }
type Input = Asking & {
  /** the first is the baseline of all others */
  policies: readonly Contender[]
  judge: Judge
  rewards: Record<Axis, ModelFiles>
  options: Asking['options'] & { threshold: number }
  /** what is done on request */
  more?: {
    baselines?: BaselineOptions
    tax?: readonly OpenedRow[] | null
    /** what the policies were trained on; null: not known */
    training?: readonly string[] | null
    people?: People
  }
}

/**
 * Policies on the same prompts beside a baseline: answers from the seed, both reward models' scores, classes of the
 * answers, and a judge's verdicts. The same request gives the same figures.
 */
export async function evaluatePolicies(
  services: Pick<Services, 'serving'>,
  input: Input,
): Promise<PolicyEvaluation> {
  const { options, more = {} } = input
  const warnings = oneCluster(input.prompts)
  // 1. everybody answers, and what needs no training beside them
  const answered: Conversed[] = []
  for (const policy of input.policies) answered.push(await answerTurns(services, policy, input))
  const [reference, ...policies] = input.policies
  const baselines = more.baselines
  const extra =
    reference === undefined || baselines === undefined || baselines.baselines.length === 0
      ? null
      : await baselinesBeside(services, { reference, policies }, answered, {
          ...{ ...input, options: { ...options, ...baselines } },
        })
  const names = [...input.policies, ...(extra?.beside ?? [])].map(({ name }) => name)
  answered.push(...(extra?.beside ?? []))
  warnings.push(...(extra?.warnings ?? []))
  // 2. both reward models score every answer
  const scores = { helpfulness: [] as number[][][], safety: [] as number[][][] }
  for (const axis of AXES) {
    const model = input.rewards[axis]
    if ((await services.serving.describe(model)).calibration === null)
      warnings.push(
        `the ${axis} model has no calibration: its probabilities are σ(logit), and rates that rest on them mean little`,
      )
    for (const [k, name] of names.entries()) {
      const stage = `${axis} of ${name}`
      const { answers, asked } = answered[k] ?? { answers: [], asked: [] }
      const scoring = { ...input, prompts: asked }
      scores[axis].push(await scoreAnswers(services, { stage, model }, answers, scoring))
    }
  }
  // 3. each answer with all that is known of it
  const turns = answered[0]?.asked ?? []
  const several = turns.some(({ turn }) => turn > 1)
  const measured = turns.map((prompt, i): MeasuredPrompt => {
    const text = prompt.messages.at(-1)?.content ?? ''
    const of = (answer: Answer, k: number, s: number): MeasuredAnswer => {
      const [helpfulness, safety] = AXES.map((axis) => scores[axis][k]?.[i]?.[s] ?? NaN)
      const gate = { combiner: 'gate', threshold: options.threshold } as const
      const { branch } = combine(
        { logit: 0 },
        { logit: 0, probability: safety ?? NaN },
        { ...gate, promptClass: prompt.prompt_class ?? null },
      )
      return {
        ...{ text: answer.text, helpfulness: helpfulness ?? NaN, safety: safety ?? NaN },
        class: classify(answer.text, answer.ended),
        ...{ branch, tokens: answer.tokens },
      }
    }
    return {
      ...{ prompt: text, label: prompt.label ?? null, pair: prompt.pair ?? null },
      ...{ promptClass: prompt.prompt_class ?? null, category: prompt.category },
      cluster: clusterOf(prompt),
      ...(several ? { turn: prompt.turn } : {}),
      answers: answered.map((each, k) => (each.answers[i] ?? []).map((c, s) => of(c, k, s))),
    }
  })
  const figures = await policyFigures(names, measured, options.seed)
  // 4. the judge compares each one's first answers with the baseline's
  const verdicts: (Verdicts | null)[] = []
  for (const [at, name] of names.entries()) {
    if (at === 0) {
      verdicts.push(null)
      continue
    }
    const asking = { ...input, people: more.people, conversed: answered }
    const rates = await winRates({ name, at }, measured, asking, warnings)
    figures.push(...rates.figures)
    verdicts.push(rates.verdicts)
  }
  const { people } = more
  if (people !== undefined)
    for (const [at, name] of names.entries())
      for (const each of unsafeByPeople(
        { name, at },
        measured,
        { people, conversed: answered },
        warnings,
      )) {
        const { policy: _, ...baseline } = { ...each, figure: `${name}: ${each.figure}` }
        figures.push(at === 0 ? baseline : each)
      }
  figures.push(...classifierFigures(measured))
  // 5. how far they went, what it cost, what they had met before
  figures.push(...(extra?.figures ?? []))
  if (more.tax != null)
    figures.push(...(await alignmentTax(services, input.policies, more.tax, input)))
  if (more.training !== undefined)
    figures.push(...contaminationFigures(names, measured, more.training, options.seed, warnings))
  if (!measured.some(({ label }) => label === 'unsafe'))
    warnings.push(
      'no prompt is labelled unsafe: there is no unsafe-answer rate, and refusals count as unhelpful',
    )
  return {
    figures: figures.map((f) =>
      names.length > 2 && f.policy !== undefined ? { ...f, figure: `${f.policy}: ${f.figure}` } : f,
    ),
    plane: await tradeOff(names, measured, options.seed),
    curves: [{ title: 'Gate at other thresholds 门的其他阈值', curves: gateCurve(measured) }],
    samples: measured.map((row, i) => ({
      ...{ prompt: row.prompt, label: row.label, category: row.category ?? null },
      ...(row.turn === undefined ? {} : { turn: row.turn }),
      answers: names.map((name, k) => {
        const said = verdicts[k] ?? null
        return sampleOf(name, row, row.answers[k]?.[0], said && ofEach(said, i))
      }),
    })),
    warnings,
  }
}

/** The i-th prompt's verdicts. */
const ofEach = ({ helpfulness, safety }: Verdicts, i: number) => ({
  helpfulness: helpfulness[i] ?? null,
  safety: safety[i] ?? null,
})

/** A policy's first answer to a prompt with what came of it; the baseline's has no verdicts beside itself. */
function sampleOf(
  name: string,
  { label }: MeasuredPrompt,
  answer: MeasuredAnswer | undefined,
  verdicts: Record<Axis, number | null> | null,
): SampleAnswer {
  if (answer === undefined) return { name, text: '' }
  const { text, helpfulness, safety, class: cls } = answer
  return {
    ...{ name, text, helpfulness, safety, class: cls },
    safe_and_helpful: isSafe(answer) && isHelpful(label, answer),
    ...(verdicts === null ? {} : { verdicts }),
  }
}

/** How many prompts were seen in training, and the joint rate without them. */
function contaminationFigures(
  names: readonly string[],
  measured: readonly MeasuredPrompt[],
  training: readonly string[] | null,
  seed: number,
  warnings: string[],
): PolicyFigure[] {
  if (training === null) {
    warnings.push(
      'no training data of these policies is known: prompts were not searched for in it',
    )
    return []
  }
  const seen = seenInTraining(
    measured.map(({ prompt }) => prompt),
    training,
  )
  const clusters = measured.map(({ cluster }) => cluster)
  const share = clusteredShare(seen.map(Number), clusters, seed)
  if (share.value === 0) return [{ figure: 'prompts seen in training', ...share }]
  const first = measured.find((_, i) => seen[i])?.prompt ?? ''
  warnings.push(
    `${seen.filter(Boolean).length} of ${seen.length} prompts were seen in training, such as ${JSON.stringify(first.slice(0, 80))}`,
  )
  const fresh = measured.filter((_, i) => seen[i] === false)
  const figure = 'safe and helpful, prompts not seen in training'
  return [
    { figure: 'prompts seen in training', ...share },
    ...names
      .slice(1)
      .flatMap((policy, k) =>
        jointRate({ figure, policy, at: k + 1 }, fresh, seed, { applies: () => true }),
      ),
  ]
}
