import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { ModelFiles } from '../engine/engine.ts'
import { cancelled } from '../errors.ts'
import { longerWins, won } from '../evaluation/baselines.ts'
import { calibrate } from '../evaluation/calibration.ts'
import { renderReport } from '../evaluation/report.ts'
import { clusteredMean, pairedDifference } from '../evaluation/statistics.ts'
import type { Interval } from '../evaluation/statistics.ts'
import type { Judge } from '../judging/judge.ts'
import { AXES, PromptRow, STRENGTHS } from '../schemas/feedback.ts'
import type { Axis, PreferenceRow } from '../schemas/feedback.ts'
import type { RunRequest } from '../schemas/run.ts'
import { filesOf, findModel } from './catalog.ts'
import { conversationOf } from './cross-validation.ts'
import { openData, openPairs } from './data.ts'
import { DEFAULT_JUDGE, openJudge } from './judges.ts'
import type { RunContext } from './runs.ts'
import type { Services } from './services.ts'
import type { Plan } from './start.ts'

/** Prompts per call of the engine: a stop is felt between them. */
const PART = 100

type Request = Extract<RunRequest, { kind: 'evaluation' }>
export type Figure = { figure: string } & Interval
type Sample = { prompt: string; before: string; after: string }

/** Evaluations of a reward model, a judge or a policy: figures with intervals, as JSON and as a report. */
export async function planEvaluation(services: Services, request: Request): Promise<Plan> {
  const { target, seed } = request.options
  const measure = await PLANS[target](services, request)
  return {
    seed,
    async work(context) {
      const { figures, samples = [] } = await measure(context)
      const folder = join(services.dataDir, 'runs', context.id)
      await mkdir(folder, { recursive: true })
      const report = renderReport({
        title: `Evaluation ${context.id}`,
        rows: [['figure', 'value', '95 % interval', 'n'], ...figures.map(cells)],
        samples,
        config: request.options,
      })
      await writeFile(join(folder, 'report.html'), report)
      return { target, figures }
    },
  }
}

const cells = ({ figure, value, low, high, n }: Figure): string[] => [
  figure,
  value.toFixed(4),
  `${low.toFixed(4)} … ${high.toFixed(4)}`,
  String(n),
]

type Measure = (context: RunContext) => Promise<{ figures: Figure[]; samples?: Sample[] }>
const PLANS: Record<
  Request['options']['target'],
  (services: Services, request: Request) => Promise<Measure>
> = {
  reward_model: planRewardModel,
  judge: planJudge,
  policy: planPolicy,
}

/** Accuracy on pairs: all, by strength, and what "the longer one wins" gives on the same pairs. */
async function planRewardModel(services: Services, { options }: Request): Promise<Measure> {
  const { axis, file, limit, seed } = options
  const model = await findModel(services.store, options.model ?? axis)
  const pairs = (await openPairs(services, file, axis)).slice(0, limit)
  return async () => {
    const chosen = await scorePairs(services, filesOf(model), pairs, 'chosen')
    const rejected = await scorePairs(services, filesOf(model), pairs, 'rejected')
    const right = chosen.map((r, i) => won(r - (rejected[i] ?? 0)))
    const longer = pairs.map(longerWins)
    const figure = (name: string, values: number[], keep: (p: PreferenceRow) => boolean) => {
      const index = pairs.flatMap((p, i) => (keep(p) ? [i] : []))
      const picked = index.map((i) => values[i] ?? 0)
      const clusters = index.map((i) => conversationOf(pairs[i] as PreferenceRow))
      return { figure: name, ...clusteredMean(picked, clusters, seed) }
    }
    const figures = [
      figure('accuracy', right, () => true),
      figure('baseline: the longer answer wins', longer, () => true),
      {
        figure: 'accuracy above the baseline',
        ...pairedDifference(longer, right, pairs.map(conversationOf), seed),
      },
      ...STRENGTHS.filter((s) => pairs.some((p) => p.strength === s)).map((strength) =>
        figure(`accuracy, ${strength}`, right, (p) => p.strength === strength),
      ),
    ]
    return { figures }
  }
}

async function scorePairs(
  { serving }: Services,
  model: ModelFiles,
  pairs: readonly PreferenceRow[],
  answer: 'chosen' | 'rejected',
): Promise<number[]> {
  const conversations = pairs.map((pair) => [
    ...pair.prompt,
    { role: 'assistant' as const, content: pair[answer] },
  ])
  const scores = await serving.score({ model, conversations, onTooLong: 'truncate' })
  return scores.map(({ logit }) => logit)
}

/** Agreement of a judge with labelled pairs, how it depends on position, and how often it fails. */
async function planJudge(services: Services, { options }: Request): Promise<Measure> {
  const { axis, file, limit, seed } = options
  const judge = await openJudge(services, options.judge ?? options.model ?? DEFAULT_JUDGE)
  const pairs = (await openPairs(services, file, axis)).slice(0, limit)
  return async () => ({ figures: await judgeFigures(judge, axis, pairs, seed) })
}

export async function judgeFigures(
  judge: Judge,
  axis: Axis,
  pairs: readonly PreferenceRow[],
  seed: number,
): Promise<Figure[]> {
  const verdicts = await judge.compare(
    pairs.map((p) => ({ axis, prompt: p.prompt, a: p.chosen, b: p.rejected })),
  )
  const rows = verdicts.flatMap((verdict, i) =>
    verdict.ok ? [{ verdict, cluster: conversationOf(pairs[i] as PreferenceRow) }] : [],
  )
  const mean = (figure: string, value: (v: (typeof rows)[number]['verdict']) => number) => {
    const values = rows.map(({ verdict }) => value(verdict))
    const clusters = rows.map(({ cluster }) => cluster)
    return { figure, ...clusteredMean(values, clusters, seed) }
  }
  const failed = verdicts.map(({ ok }) => Number(!ok))
  return [
    mean('agreement with the labels', (v) => won(v.probability - 0.5)),
    mean('both orders agree', (v) => Number(v.consistent)),
    mean('P(the first answer shown)', (v) => (v.orders[0] + 1 - v.orders[1]) / 2),
    { figure: 'failures', ...clusteredMean(failed, pairs.map(conversationOf), seed) },
  ].filter(({ n }) => n > 0) // no verdict gives no figure
}

/** Two policies on the same prompts: both reward models' scores, and how often the judge prefers the first. */
async function planPolicy(services: Services, { options }: Request): Promise<Measure> {
  const { store } = services
  const ours = filesOf(await findModel(store, options.model ?? 'policy'))
  const theirs = filesOf(await findModel(store, options.against ?? 'reference'))
  const judge = await openJudge(services, options.judge ?? DEFAULT_JUDGE)
  const data = await openData(services, options.file ?? '', PromptRow)
  const prompts = data.rows.slice(0, options.limit)
  const rewards = {
    helpfulness: filesOf(await findModel(store, 'helpfulness')),
    safety: filesOf(await findModel(store, 'safety')),
  }
  return ({ signal }) =>
    comparePolicies(services, { ours, theirs, judge, rewards, prompts, options, signal })
}

export async function comparePolicies(
  { serving }: Pick<Services, 'serving'>,
  input: {
    ours: ModelFiles
    theirs: ModelFiles
    judge: Judge
    rewards: Record<Axis, ModelFiles>
    prompts: readonly PromptRow[]
    options: { seed: number; max_new_tokens: number }
    signal: AbortSignal
  },
): Promise<{ figures: Figure[]; samples: Sample[] }> {
  const { prompts, judge, options } = input
  const { seed } = options
  const clusters = prompts.map(({ messages }) => messages[0]?.content ?? '')
  const answer = async (model: ModelFiles): Promise<string[]> => {
    const sampling = { maxTokens: options.max_new_tokens, temperature: 1, topP: 1, topK: 0 }
    const texts: string[] = []
    for (let i = 0; i < prompts.length; i += PART) {
      if (input.signal.aborted) throw cancelled()
      const answers = await serving.generate({
        model,
        prompts: prompts.slice(i, i + PART).map(({ messages }) => messages),
        n: 1,
        onTooLong: 'error',
        sampling: { ...sampling, seed: (seed + i) % 2 ** 31, stop: [] },
      })
      texts.push(...answers.map(([completion]) => completion?.text ?? ''))
    }
    return texts
  }
  const [a, b] = [await answer(input.ours), await answer(input.theirs)]
  const figures: Figure[] = []
  for (const axis of AXES) {
    const model = input.rewards[axis]
    const { calibration } = await serving.describe(model)
    const score = async (answers: readonly string[]): Promise<number[]> => {
      const conversations = prompts.map(({ messages }, i) => [
        ...messages,
        { role: 'assistant' as const, content: answers[i] ?? '' },
      ])
      const scores = await serving.score({ model, conversations, onTooLong: 'truncate' })
      return scores.map(({ logit }) => calibrate(logit, calibration) ?? logit)
    }
    const [ours, theirs] = [await score(a), await score(b)]
    figures.push({
      figure: `${axis} score, difference`,
      ...pairedDifference(theirs, ours, clusters, seed),
    })
    const verdicts = await judge.compare(
      prompts.map(({ messages }, i) => ({ axis, prompt: messages, a: a[i] ?? '', b: b[i] ?? '' })),
    )
    const won = verdicts.flatMap((v, i) => (v.ok ? [[v.probability, clusters[i] ?? '']] : []))
    figures.push({
      figure: `win rate by the judge, ${axis}`,
      ...clusteredMean(
        won.map(([p]) => Number(p)),
        won.map(([, cluster]) => String(cluster)),
        seed,
      ),
    })
  }
  const length = (answers: readonly string[]): number[] => answers.map((text) => [...text].length)
  figures.push({
    figure: 'characters, difference',
    ...pairedDifference(length(b), length(a), clusters, seed),
  })
  const samples = prompts.slice(0, 24).map(({ messages }, i) => ({
    prompt: messages.at(-1)?.content ?? '',
    before: b[i] ?? '',
    after: a[i] ?? '',
  }))
  return { figures: figures.filter(({ n }) => n > 0), samples }
}
