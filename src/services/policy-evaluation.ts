import type { Completion, ModelFiles } from '../engine/engine.ts'
import { cancelled } from '../errors.ts'
import { calibrate } from '../evaluation/calibration.ts'
import { combine } from '../evaluation/combine.ts'
import { policyFigures } from '../evaluation/policy-measures.ts'
import type { MeasuredAnswer, MeasuredPrompt, PolicyFigure } from '../evaluation/policy-measures.ts'
import type { ReportSample } from '../evaluation/report.ts'
import { classify, languageOf } from '../evaluation/response-class.ts'
import { clusteredMean } from '../evaluation/statistics.ts'
import { lengthControlledWinRate, standardisedLengths } from '../evaluation/win-rate.ts'
import type { Judge } from '../judging/judge.ts'
import type { EvaluationPrompt } from '../schemas/evaluation.ts'
import { AXES } from '../schemas/feedback.ts'
import type { Axis } from '../schemas/feedback.ts'
import type { Services } from './services.ts'

/** Prompts per call of the engine: a stop is felt between them. */
const PART = 100
/** Points by which length control may move a win rate before that is worth a warning. */
const MOVED = 0.1

export type AskedPrompt = EvaluationPrompt & { cluster?: string }
export type PolicyEvaluation = {
  figures: PolicyFigure[]
  samples: ReportSample[]
  warnings: string[]
}
type Input = {
  /** the first is the baseline of all others */
  policies: readonly { name: string; files: ModelFiles }[]
  judge: Judge
  rewards: Record<Axis, ModelFiles>
  prompts: readonly AskedPrompt[]
  options: { seed: number; max_new_tokens: number; samples: number; threshold: number }
  signal: AbortSignal
  progress?(stage: string, done: number, total: number): void | Promise<void>
}

/**
 * Policies on the same prompts beside a baseline: answers from the seed, both reward models' scores, classes of the
 * answers, and a judge's verdicts. The same request gives the same figures.
 */
export async function evaluatePolicies(
  services: Pick<Services, 'serving'>,
  input: Input,
): Promise<PolicyEvaluation> {
  const { policies, prompts, options } = input
  const warnings: string[] = []
  // 1. everybody answers
  const answered: Completion[][][] = []
  for (const policy of policies) answered.push(await answer(services, policy, input))
  // 2. both reward models score every answer
  const scores = { helpfulness: [] as number[][][], safety: [] as number[][][] }
  for (const axis of AXES)
    for (const [k, policy] of policies.entries())
      scores[axis].push(
        await score(services, axis, policy.name, answered[k] ?? [], input, warnings),
      )
  // 3. each answer with all that is known of it
  const measured = prompts.map((prompt, i): MeasuredPrompt => {
    const text = prompt.messages.at(-1)?.content ?? ''
    const of = (completion: Completion, k: number, s: number): MeasuredAnswer => {
      const [helpfulness, safety] = AXES.map((axis) => scores[axis][k]?.[i]?.[s] ?? NaN)
      const gate = { combiner: 'gate', threshold: options.threshold } as const
      const { branch } = combine(
        { logit: 0 },
        { logit: 0, probability: safety ?? NaN },
        { ...gate, promptClass: prompt.prompt_class ?? null },
      )
      return {
        ...{ text: completion.text, helpfulness: helpfulness ?? NaN, safety: safety ?? NaN },
        class: classify(completion.text, completion.finish === 'stop'),
        ...{ branch, tokens: completion.tokenIds.length },
      }
    }
    return {
      ...{ prompt: text, label: prompt.label ?? null, pair: prompt.pair ?? null },
      cluster: prompt.cluster ?? prompt.messages[0]?.content ?? '',
      answers: answered.map((each, k) => (each[i] ?? []).map((c, s) => of(c, k, s))),
    }
  })
  const names = policies.map(({ name }) => name)
  const figures = policyFigures(names, measured, options.seed)
  // 4. the judge compares each policy's first answers with the baseline's
  for (const [k, { name }] of policies.entries())
    if (k > 0) figures.push(...(await winRates(name, k, measured, input, warnings)))
  if (!measured.some(({ label }) => label === 'unsafe'))
    warnings.push(
      'no prompt is labelled unsafe: there is no unsafe-answer rate, and refusals count as unhelpful',
    )
  return {
    figures: figures.map((f) =>
      names.length > 2 ? { ...f, figure: `${f.policy ?? ''}: ${f.figure}` } : f,
    ),
    samples: measured.map(({ prompt, answers }) => ({
      prompt,
      answers: names.map((name, k) => {
        const first = answers[k]?.[0]
        const { text = '', helpfulness = NaN, safety = NaN } = first ?? {}
        return { name, text, helpfulness, safety }
      }),
    })),
    warnings,
  }
}

async function answer(
  { serving }: Pick<Services, 'serving'>,
  { name, files }: Input['policies'][number],
  { prompts, options, signal, progress }: Input,
): Promise<Completion[][]> {
  const answers: Completion[][] = []
  for (let i = 0; i < prompts.length; i += PART) {
    if (signal.aborted) throw cancelled()
    const part = await serving.generate({
      ...{ model: files, n: options.samples, onTooLong: 'error' },
      prompts: prompts.slice(i, i + PART).map(({ messages }) => messages),
      sampling: {
        ...{ maxTokens: options.max_new_tokens, temperature: 1, topP: 1, topK: 0, stop: [] },
        seed: (options.seed + i) % 2 ** 31,
      },
    })
    answers.push(...part)
    await progress?.(`answers of ${name}`, answers.length, prompts.length)
  }
  return answers
}

/** Probabilities of every answer on one axis, [prompt][sample]. */
async function score(
  { serving }: Pick<Services, 'serving'>,
  axis: Axis,
  name: string,
  answers: readonly (readonly Completion[])[],
  { prompts, rewards, signal, progress }: Input,
  warnings: string[],
): Promise<number[][]> {
  const model = rewards[axis]
  const { calibration } = await serving.describe(model)
  const uncalibrated = `the ${axis} model has no calibration: its probabilities are σ(logit), and rates that rest on them mean little`
  if (calibration === null && !warnings.includes(uncalibrated)) warnings.push(uncalibrated)
  const probabilities: number[][] = []
  for (let i = 0; i < prompts.length; i += PART) {
    if (signal.aborted) throw cancelled()
    const part = answers.slice(i, i + PART)
    const conversations = part.flatMap((samples, j) =>
      samples.map(({ text }) => [
        ...(prompts[i + j]?.messages ?? []),
        { role: 'assistant' as const, content: text },
      ]),
    )
    const scores = await serving.score({ model, conversations, onTooLong: 'truncate' })
    const flat = scores.map(
      ({ logit }) => calibrate(logit, calibration) ?? 1 / (1 + Math.exp(-logit)),
    )
    let at = 0
    for (const samples of part) probabilities.push(flat.slice(at, (at += samples.length)))
    await progress?.(`${axis} of ${name}`, probabilities.length, prompts.length)
  }
  return probabilities
}

async function winRates(
  policy: string,
  k: number,
  measured: readonly MeasuredPrompt[],
  { prompts, judge, options, signal, progress }: Input,
  warnings: string[],
): Promise<PolicyFigure[]> {
  const figures: PolicyFigure[] = []
  for (const axis of AXES) {
    const verdicts = []
    for (let i = 0; i < prompts.length; i += PART) {
      if (signal.aborted) throw cancelled()
      const comparisons = measured.slice(i, i + PART).map(({ answers }, j) => ({
        ...{ axis, prompt: prompts[i + j]?.messages ?? [] },
        ...{ a: answers[k]?.[0]?.text ?? '', b: answers[0]?.[0]?.text ?? '' },
      }))
      verdicts.push(...(await judge.compare(comparisons)))
      await progress?.(`judge: ${policy}, ${axis}`, verdicts.length, prompts.length)
    }
    const rows = verdicts.flatMap((v, i) => {
      const row = measured[i]
      return v.ok && row !== undefined ? [{ win: v.probability, row }] : []
    })
    const failed = verdicts.length - rows.length
    if (failed > 0)
      warnings.push(
        `${policy}, ${axis}: the judge gave no verdict on ${failed} of ${verdicts.length}`,
      )
    if (rows.length === 0) continue
    const wins = rows.map(({ win }) => win)
    const clusters = rows.map(({ row }) => row.cluster)
    const raw = clusteredMean(wins, clusters, options.seed)
    const tokens = ({ answers }: MeasuredPrompt, at: number): number =>
      answers[at]?.[0]?.tokens ?? 0
    const lengths = standardisedLengths(
      rows.map(({ row }) => tokens(row, k) - tokens(row, 0)),
      rows.map(({ row }) => languageOf(row.prompt)),
    )
    const controlled = lengthControlledWinRate(wins, lengths, clusters, options.seed)
    figures.push(
      { figure: `win rate by the judge, ${axis}`, policy, ...raw },
      { figure: `win rate at equal lengths, ${axis}`, policy, ...controlled },
    )
    if (Math.abs(controlled.value - raw.value) > MOVED)
      warnings.push(
        `${policy}, ${axis}: length control moves the win rate from ${raw.value.toFixed(3)} to ${controlled.value.toFixed(3)}: lengths decide much of it`,
      )
  }
  return figures
}
